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

#[derive(Debug)]
struct Record {
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

/// The failed keys, at most as many as the limit says; the oldest go first.
#[derive(Debug)]
pub(super) struct NegativeCache {
    limit: usize,
    serial: u64,
    /// Sorted by mount, so that the records of one mount are found without searching all others.
    records: BTreeMap<EntryId, Record>,
    queue: VecDeque<(u64, EntryId)>,
}

impl NegativeCache {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, serial: 0, records: BTreeMap::new(), queue: VecDeque::new() }
    }

    /// Remembers a failure for some seconds.
    pub(super) fn insert(&mut self, now: Tick, at: EntryId, seconds: u64, failure: Failure, reason: Option<Reason>) {
        while let Some((serial, oldest)) = self.queue.front() {
            let record = self.records.get(oldest).filter(|record| record.serial == *serial);
            if self.queue.len() < self.limit && record.is_some_and(|record| record.until > now) {
                break;
            }
            if record.is_some() {
                self.records.remove(oldest);
            }
            self.queue.pop_front();
        }
        if seconds == 0 || self.limit == 0 {
            return;
        }
        self.serial += 1;
        let until = now.after(seconds.saturating_mul(1000));
        self.records.insert(at.clone(), Record { until, failure, reason, serial: self.serial });
        self.queue.push_back((self.serial, at));
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
        self.queue.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(key: &str) -> EntryId {
        EntryId { mount: MountId(1), key: key.as_bytes().into() }
    }

    #[test]
    fn a_failure_is_remembered_for_its_time() {
        let mut negatives = NegativeCache::new(8);
        negatives.insert(Tick(0), at("a"), 2, Failure::NotFound, None);
        assert_eq!(negatives.get(Tick(1999), &at("a")), Some((Failure::NotFound, None)));
        assert_eq!(negatives.get(Tick(2000), &at("a")), None);
        negatives.insert(Tick(0), at("b"), 0, Failure::Mount, None);
        assert_eq!(negatives.get(Tick(0), &at("b")), None);
    }

    #[test]
    fn the_oldest_give_way() {
        let mut negatives = NegativeCache::new(2);
        for key in ["a", "b", "a", "c"] {
            negatives.insert(Tick(0), at(key), 9, Failure::Invalid, None);
        }
        assert_eq!(negatives.get(Tick(1), &at("b")), None);
        assert!(negatives.get(Tick(1), &at("a")).is_some() && negatives.get(Tick(1), &at("c")).is_some());
        assert!(negatives.queue.len() <= 2 && negatives.records.len() <= 2);
    }
}
