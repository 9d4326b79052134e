//! Counters for metrics: of each mount point, and of the daemon. They are kept in the memory of the history, so that they go on
//! after the death of a worker.

use std::collections::HashMap;
use std::time::Duration;

use super::request::Answered;
use crate::control::history::{Asked, DaemonEvent, EventKind};
use crate::control::{Bytes, Metrics, MountCounters};
use crate::link::history::Rings;
use crate::record::Exit;

/// Bytes of a slot: the length of its name, the counters, the name.
const SLOT: usize = 256;
const NUMBERS: usize = 15;
const NAME: usize = SLOT - 8 * (NUMBERS + 1);

/// Number of slots. The first is for the daemon, the last for all mount points without a slot of their own.
const SLOTS: usize = Rings::COUNTERS / SLOT;

/// Upper bounds of the buckets of the time of a request. There is one more bucket, without a bound.
pub(super) const BOUNDS: [Duration; 6] = [
    Duration::from_millis(1),
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(60),
];

/// The numbers of a mount point: positions in its slot.
const MOUNTED: usize = 0;
const FAILED: usize = 1;
const EXPIRED: usize = 2;
const IN_USE: usize = 3;
const KILLED: usize = 4;
const MICROSECONDS: usize = 5;
const BUCKETS: usize = 6;

/// The numbers of the daemon.
const DEATHS: usize = 0;
const UPGRADES: usize = 1;
const RELOADS: usize = 2;

#[derive(Debug, Clone, Default)]
struct Slot {
    name: Vec<u8>,
    numbers: [u64; NUMBERS],
    /// Whether it was changed since it was written.
    changed: bool,
}

impl Slot {
    fn decode(bytes: &[u8; SLOT]) -> Option<Self> {
        let mut words = bytes.chunks_exact(8).map(|word| word.try_into().map(u64::from_ne_bytes).unwrap_or_default());
        let length = usize::try_from(words.next()?).ok().filter(|length| (1..=NAME).contains(length))?;
        let mut numbers = [0; NUMBERS];
        numbers.iter_mut().zip(words).for_each(|(to, word)| *to = word);
        let name = bytes.get(SLOT - NAME..)?.get(..length)?.to_vec();
        Some(Self { name, numbers, changed: false })
    }

    fn encode(&self) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        let words = std::iter::once(self.name.len() as u64).chain(self.numbers);
        bytes.chunks_exact_mut(8).zip(words).for_each(|(to, word)| to.copy_from_slice(&word.to_ne_bytes()));
        let name = bytes.iter_mut().skip(SLOT - NAME);
        name.zip(&self.name).for_each(|(to, byte)| *to = *byte);
        bytes
    }

    fn add(&mut self, number: usize, by: u64) {
        if let Some(number) = self.numbers.get_mut(number) {
            *number = number.saturating_add(by);
        }
    }

    fn number(&self, number: usize) -> u64 {
        self.numbers.get(number).copied().unwrap_or_default()
    }
}

/// All counters.
#[derive(Debug)]
pub(super) struct Counters {
    slots: Vec<Slot>,
    by_name: HashMap<Vec<u8>, usize>,
}

impl Counters {
    /// Reads what earlier workers have counted.
    pub(super) fn read(rings: &Rings) -> Self {
        let mut counters =
            Self { slots: vec![Slot { name: b"-".to_vec(), ..Slot::default() }], by_name: HashMap::new() };
        for number in 0..SLOTS {
            let mut bytes = [0; SLOT];
            let read = rings.read_counters((number * SLOT) as u64, &mut bytes);
            match (number, read.ok().and_then(|()| Slot::decode(&bytes))) {
                // The slot of the daemon is written when something has happened to it.
                (0, None) => {}
                (_, None) => break,
                (0, Some(slot)) => counters.slots = vec![slot],
                (_, Some(slot)) => {
                    counters.by_name.insert(slot.name.clone(), number);
                    counters.slots.push(slot);
                }
            }
        }
        counters
    }

    /// Changes a slot.
    fn change(&mut self, number: usize, change: impl FnOnce(&mut Slot)) {
        if let Some(slot) = self.slots.get_mut(number) {
            change(slot);
            slot.changed = true;
        }
    }

    /// Writes the slots that were changed.
    pub(super) fn write(&mut self, rings: &Rings) {
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if std::mem::take(&mut slot.changed) {
                // Counters that cannot be written end with this worker.
                let _ = rings.write_counters((number * SLOT) as u64, &slot.encode());
            }
        }
    }

    /// Returns the slot of a mount point.
    fn slot(&mut self, mount_point: &[u8]) -> usize {
        if let Some(number) = self.by_name.get(mount_point) {
            return *number;
        }
        let has_own = mount_point.len() <= NAME && self.slots.len() < SLOTS - 1;
        let name = if has_own { mount_point } else { b"other" };
        if let Some(number) = self.by_name.get(name) {
            return *number;
        }
        let number = self.slots.len().min(SLOTS - 1);
        self.slots.push(Slot { name: name.to_vec(), ..Slot::default() });
        self.by_name.insert(name.to_vec(), number);
        number
    }

    /// Counts an answered request.
    pub(super) fn count(&mut self, answered: &Answered) {
        let slot = self.slot(&answered.mount_point);
        let runs = answered.reason.iter().flat_map(|reason| &reason.runs);
        // What is answered from the negative cache has run nothing.
        let killed = match answered.attempt {
            Some(_) => runs.filter(|run| run.exit == Exit::Deadline).count(),
            None => 0,
        };
        self.change(slot, |slot| match answered.asked {
            Asked::Expire => slot.add(if answered.error.is_none() { EXPIRED } else { IN_USE }, 1),
            Asked::Mount => {
                slot.add(if answered.error.is_none() { MOUNTED } else { FAILED }, 1);
                slot.add(KILLED, killed as u64);
                slot.add(MICROSECONDS, u64::try_from(answered.took.as_micros()).unwrap_or(0));
                let bucket = BOUNDS.iter().position(|bound| answered.took <= *bound).unwrap_or(BOUNDS.len());
                slot.add(BUCKETS + bucket, 1);
            }
        });
    }

    /// Counts an event of the daemon.
    pub(super) fn happened(&mut self, event: &DaemonEvent) {
        let number = match event.kind {
            EventKind::WorkerDied => DEATHS,
            EventKind::Upgrade => UPGRADES,
            EventKind::Reload => RELOADS,
            _ => return,
        };
        self.change(0, |slot| slot.add(number, 1));
    }

    /// Returns all counters.
    pub(super) fn metrics(&self) -> Metrics {
        let daemon = self.slots.first().cloned().unwrap_or_default();
        let mounts = self.slots.iter().skip(1).map(|slot| MountCounters {
            mount_point: Bytes(slot.name.clone()),
            mounted: slot.number(MOUNTED),
            failed: slot.number(FAILED),
            expired: slot.number(EXPIRED),
            in_use: slot.number(IN_USE),
            programs_killed: slot.number(KILLED),
            microseconds: slot.number(MICROSECONDS),
            buckets: (0..=BOUNDS.len()).map(|bucket| slot.number(BUCKETS + bucket)).collect(),
        });
        Metrics {
            bounds: BOUNDS.iter().map(|bound| u64::try_from(bound.as_millis()).unwrap_or(0)).collect(),
            worker_deaths: daemon.number(DEATHS),
            upgrades: daemon.number(UPGRADES),
            reloads: daemon.number(RELOADS),
            mounts: mounts.collect(),
            ..Metrics::default()
        }
    }
}

const _: () = assert!(BUCKETS + BOUNDS.len() < NUMBERS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_read_as_it_was_written() {
        let mut slot = Slot { name: b"/home".to_vec(), ..Slot::default() };
        slot.add(MOUNTED, 7);
        slot.add(NUMBERS - 1, u64::MAX);
        slot.add(NUMBERS - 1, 1);
        let read = Slot::decode(&slot.encode()).unwrap();
        assert_eq!((read.name, read.numbers), (slot.name, slot.numbers));
        assert!(Slot::decode(&[0; SLOT]).is_none());
    }

    #[test]
    fn counters_go_on_after_a_worker_and_mount_points_without_a_slot_share_one() {
        let memory = crate::link::history::create().unwrap();
        let rings = Rings::open(memory.try_clone().unwrap()).unwrap();
        let mut counters = Counters::read(&rings);
        for n in 0..2 * SLOTS {
            let slot = counters.slot(format!("/m{n}").as_bytes());
            counters.change(slot, |slot| slot.add(MOUNTED, 1));
        }
        counters.write(&rings);
        let before = counters.metrics();
        assert_eq!((before.mounts.len(), before.worker_deaths), (SLOTS - 1, 0));
        assert_eq!(before.mounts.iter().map(|mount| mount.mounted).sum::<u64>(), 2 * SLOTS as u64);
        // Nothing has happened to the daemon yet, so its slot was not written.
        let mut next = Counters::read(&Rings::open(memory.try_clone().unwrap()).unwrap());
        assert_eq!(next.metrics(), before);
        next.happened(&DaemonEvent {
            id: 0,
            at: 0,
            kind: EventKind::WorkerDied,
            message: String::new(),
            unserved: None,
        });
        next.write(&rings);
        let last = Counters::read(&Rings::open(memory).unwrap()).metrics();
        assert_eq!((last.worker_deaths, &last.mounts), (1, &before.mounts));
    }
}
