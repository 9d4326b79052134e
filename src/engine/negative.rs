//! The negative cache: keys that failed a short while ago. The kernel keeps none, so each lookup of a missing key is a
//! packet.

use std::collections::{BTreeMap, VecDeque};

use super::{EntryId, Key, MountId, Reason, Tick};

/// Why a key failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No map has it.
    NotFound,
    /// A map has it, but nothing can be made of it.
    Invalid,
    /// It could not be mounted.
    Mount,
}

/// Maximum number of seconds for which a failure is remembered that says nothing about the key.
const SHORTAGE: u64 = 1;

/// Returns whether an error number means that this machine lacked descriptors, memory or processes.
fn is_shortage(errno: i32) -> bool {
    matches!(errno, libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN)
}

/// Failure of a key.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// The user whose lookup has failed.
    pub(super) user: u32,
    pub(super) failure: Failure,
    pub(super) reason: Option<Reason>,
}

#[derive(Debug)]
struct Kept {
    until: Tick,
    failure: Failure,
    reason: Option<Reason>,
    /// Tells this record from earlier ones of the same key in the queue.
    serial: u64,
}

/// A failed key, seen from outside.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failed<'a> {
    pub(super) at: &'a EntryId,
    pub(super) failure: Failure,
    pub(super) reason: Option<&'a Reason>,
    /// When it is tried again.
    pub(super) until: Tick,
}

/// The failed keys, at most as many as the limit says. The user with most of them loses the oldest one first, so no user can push
/// out the failures of others.
#[derive(Debug)]
pub(super) struct NegativeCache {
    limit: usize,
    serial: u64,
    /// Sorted by mount, so that the records of one mount are found without searching all others.
    records: BTreeMap<EntryId, Kept>,
    /// The failures of each user, the oldest first.
    queues: BTreeMap<u32, VecDeque<(u64, EntryId)>>,
    /// The length of all queues.
    queued: usize,
}

impl NegativeCache {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, serial: 0, records: BTreeMap::new(), queues: BTreeMap::new(), queued: 0 }
    }

    /// Remembers a failure for some seconds.
    pub(super) fn insert(&mut self, now: Tick, at: EntryId, seconds: u64, record: Record) {
        let Record { user, failure, reason } = record;
        let lacks = reason.as_ref().and_then(|reason| reason.errno).is_some_and(is_shortage);
        let seconds = if lacks { seconds.min(SHORTAGE) } else { seconds };
        while self.has_old(now, user) {
            self.remove_oldest(user);
        }
        if seconds == 0 || self.limit == 0 {
            return;
        }
        while self.queued >= self.limit {
            let longest = self.queues.iter().max_by_key(|(_, queue)| queue.len()).map(|(user, _)| *user);
            let Some(longest) = longest else { break };
            self.remove_oldest(longest);
        }
        self.serial += 1;
        let until = now.after(seconds.saturating_mul(1000));
        self.records.insert(at.clone(), Kept { until, failure, reason, serial: self.serial });
        self.queues.entry(user).or_default().push_back((self.serial, at));
        self.queued += 1;
    }

    /// Returns whether the oldest failure of a user need not be remembered any more.
    fn has_old(&self, now: Tick, user: u32) -> bool {
        let Some((serial, oldest)) = self.queues.get(&user).and_then(VecDeque::front) else { return false };
        !self.records.get(oldest).is_some_and(|record| record.serial == *serial && record.until > now)
    }

    /// Forgets the oldest failure of a user.
    fn remove_oldest(&mut self, user: u32) {
        let Some(queue) = self.queues.get_mut(&user) else { return };
        if let Some((serial, oldest)) = queue.pop_front() {
            self.queued -= 1;
            if self.records.get(&oldest).is_some_and(|record| record.serial == serial) {
                self.records.remove(&oldest);
            }
        }
        if queue.is_empty() {
            self.queues.remove(&user);
        }
    }

    /// How and why a key is known to fail.
    pub(super) fn get(&self, now: Tick, at: &EntryId) -> Option<(Failure, Option<&Reason>)> {
        let record = self.records.get(at).filter(|record| record.until > now)?;
        Some((record.failure, record.reason.as_ref()))
    }

    /// Returns until when a key is known to fail.
    pub(super) fn until(&self, now: Tick, at: &EntryId) -> Option<Tick> {
        self.records.get(at).map(|record| record.until).filter(|until| *until > now)
    }

    /// The failed keys below one mount, with the moments until which they are remembered.
    pub(super) fn below(&self, now: Tick, mount: MountId) -> impl Iterator<Item = Failed<'_>> {
        let first = EntryId { mount, key: Key::default() };
        let records = self.records.range(first..).take_while(move |(at, _)| at.mount == mount);
        records.filter(move |(_, record)| record.until > now).map(|(at, record)| Failed {
            at,
            failure: record.failure,
            reason: record.reason.as_ref(),
            until: record.until,
        })
    }

    /// The key is there after all.
    pub(super) fn remove(&mut self, at: &EntryId) {
        if !self.records.is_empty() {
            self.records.remove(at);
        }
    }

    /// Anything may be there now.
    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.queues.clear();
        self.queued = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(key: &str) -> EntryId {
        EntryId { mount: MountId(1), key: key.as_bytes().into() }
    }

    fn record(user: u32, failure: Failure) -> Record {
        Record { user, failure, reason: None }
    }

    #[test]
    fn a_failure_is_remembered_for_its_time() {
        let mut negatives = NegativeCache::new(8);
        negatives.insert(Tick(0), at("a"), 2, record(0, Failure::NotFound));
        assert_eq!(negatives.get(Tick(1999), &at("a")), Some((Failure::NotFound, None)));
        assert_eq!(negatives.get(Tick(2000), &at("a")), None);
        negatives.insert(Tick(0), at("b"), 0, record(0, Failure::Mount));
        assert_eq!(negatives.get(Tick(0), &at("b")), None);
    }

    #[test]
    fn a_shortage_is_over_soon() {
        let mut negatives = NegativeCache::new(8);
        for (key, errno) in [("a", libc::EMFILE), ("b", libc::ENXIO)] {
            let reason = crate::record::Record { errno: Some(errno), ..crate::record::Record::new("cannot mount") };
            let record = Record { user: 0, failure: Failure::Mount, reason: Some(reason.into()) };
            negatives.insert(Tick(0), at(key), 60, record);
        }
        assert!(negatives.get(Tick(999), &at("a")).is_some());
        assert_eq!(negatives.get(Tick(1000), &at("a")), None);
        assert!(negatives.get(Tick(59_999), &at("b")).is_some());
    }

    #[test]
    fn the_oldest_give_way() {
        let mut negatives = NegativeCache::new(2);
        for key in ["a", "b", "a", "c"] {
            negatives.insert(Tick(0), at(key), 9, record(0, Failure::Invalid));
        }
        assert_eq!(negatives.get(Tick(1), &at("b")), None);
        assert!(negatives.get(Tick(1), &at("a")).is_some() && negatives.get(Tick(1), &at("c")).is_some());
        assert!(negatives.queued <= 2 && negatives.records.len() <= 2);
    }

    #[test]
    fn a_user_with_many_failures_takes_no_place_of_others() {
        let mut negatives = NegativeCache::new(8);
        negatives.insert(Tick(0), at("mine"), 9, record(1, Failure::NotFound));
        for n in 0..1000 {
            negatives.insert(Tick(0), at(&format!("{n}")), 9, record(2, Failure::NotFound));
        }
        assert!(negatives.get(Tick(1), &at("mine")).is_some() && negatives.get(Tick(1), &at("999")).is_some());
        assert_eq!((negatives.queued, negatives.records.len()), (8, 8));
        negatives.insert(Tick(9_000), at("late"), 9, record(2, Failure::NotFound));
        assert_eq!(negatives.queued, 2, "what is over is forgotten");
    }
}
