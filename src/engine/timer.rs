//! Timers, as an ordered set: the next moment is known, and an idle daemon sleeps.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::{EntryId, MountId, Tick};

/// A reason to wake up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// The deadline of what is being done at an entry, or of those who wait for it.
    Entry(EntryId),
    /// A top-level mount: look for unused mounts, or try again to remove it.
    Tick(MountId),
    /// Attach a top-level mount again that is not there.
    Reattach(Arc<Path>),
    /// The end of the daemon waits no longer for running requests.
    Grace,
}

/// All alarms that are set.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Tick, Alarm)>);

impl Timers {
    /// The earliest.
    pub(super) fn first(&self) -> Option<Tick> {
        self.0.first().map(|(tick, _)| *tick)
    }

    /// Takes one out whose moment has come.
    pub(super) fn pop(&mut self, now: Tick) -> Option<Alarm> {
        if self.first()? > now {
            return None;
        }
        self.0.pop_first().map(|(_, alarm)| alarm)
    }

    /// Moves an alarm from where its owner remembers it to another moment; `None`: not set.
    pub(super) fn reset(&mut self, slot: &mut Option<Tick>, to: Option<Tick>, alarm: impl FnOnce() -> Alarm) {
        if *slot == to {
            return;
        }
        let mut item = (Tick(0), alarm());
        if let Some(tick) = *slot {
            item.0 = tick;
            self.0.remove(&item);
        }
        if let Some(tick) = to {
            item.0 = tick;
            self.0.insert(item);
        }
        *slot = to;
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_ring_in_order_and_only_when_due() {
        let (mut timers, mut slot, mut other) = (Timers::default(), None, None);
        timers.reset(&mut slot, Some(Tick(20)), || Alarm::Grace);
        timers.reset(&mut other, Some(Tick(10)), || Alarm::Tick(MountId(1)));
        assert_eq!(timers.first(), Some(Tick(10)));
        assert_eq!(timers.pop(Tick(9)), None);
        timers.reset(&mut slot, Some(Tick(5)), || Alarm::Grace);
        assert_eq!(timers.pop(Tick(10)), Some(Alarm::Grace));
        assert_eq!(timers.pop(Tick(10)), Some(Alarm::Tick(MountId(1))));
        assert_eq!((timers.pop(Tick(99)), timers.first()), (None, None));
    }
}
