//! The worker's pulse: how the keeper notices a worker that is stopped, spins or waits for a lock for ever.
//!
//! The worker's loop counts its turns in shared memory: the count is odd while a turn is under way. The first turn after a
//! pause sets a timer on which the keeper waits as well. When it is over the keeper looks at the count, and only if a turn is
//! under way it looks again later. So an idle daemon is never woken, and a busy one costs the keeper a look a second.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::sys::clock::Timer;
use crate::sys::memory::SharedMemory;

/// From the beginning of a turn to the keeper's first look.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// Shared by keeper and worker; a forked worker has the same memory and the same timer.
#[derive(Debug)]
pub struct Pulse {
    memory: SharedMemory,
    timer: Timer,
}

impl Pulse {
    /// The pulse of a worker that is about to be started.
    ///
    /// # Errors
    /// Those of memfd_create(2), mmap(2) and timerfd_create(2).
    pub fn new() -> io::Result<Self> {
        Ok(Self { memory: SharedMemory::create(NonZeroUsize::MIN)?, timer: Timer::new()? })
    }

    /// Worker: a turn of the loop begins.
    pub fn begin_turn(&self) {
        let Some(record) = self.memory.records().first() else { return };
        let pulse = record.pulse();
        pulse.turns.fetch_or(1, Ordering::AcqRel);
        if pulse.timer_is_set.swap(1, Ordering::AcqRel) == 0 {
            // Without the timer, the worker is not watched; nothing else changes.
            let _ = self.timer.set(FIRST_LOOK);
        }
    }

    /// Worker: the turn makes progress, however long it takes.
    pub fn progress(&self) {
        if let Some(record) = self.memory.records().first() {
            record.pulse().turns.fetch_add(2, Ordering::AcqRel);
        }
    }

    /// Worker: the turn is over, and the loop waits for what comes next.
    pub fn end_turn(&self) {
        if let Some(record) = self.memory.records().first() {
            let turns = &record.pulse().turns;
            // From an odd number to the next even one.
            turns.store(turns.load(Ordering::Acquire).wrapping_add(1) & !1, Ordering::Release);
        }
    }

    /// Keeper: the number of the turn that is under way; `None` if none is. Records that the timer has rung.
    pub fn look(&self) -> Option<u32> {
        self.timer.clear();
        let pulse = self.memory.records().first()?.pulse();
        pulse.timer_is_set.store(0, Ordering::Release);
        Some(pulse.turns.load(Ordering::Acquire)).filter(|turns| turns % 2 == 1)
    }

    /// Keeper: sets the timer again.
    pub fn look_again(&self, after: Duration) {
        if let Some(record) = self.memory.records().first() {
            record.pulse().timer_is_set.store(1, Ordering::Release);
        }
        let _ = self.timer.set(after);
    }
}

impl AsFd for Pulse {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fds;

    #[test]
    fn a_turn_is_seen_while_it_is_under_way() {
        let pulse = Pulse::new().unwrap();
        assert_eq!(pulse.look(), None);
        pulse.begin_turn();
        let first = pulse.look();
        assert!(first.is_some() && pulse.look() == first, "the same turn");
        pulse.progress();
        assert!(pulse.look().is_some() && pulse.look() != first, "progress");
        pulse.end_turn();
        assert_eq!(pulse.look(), None);
        pulse.begin_turn();
        assert!(pulse.look().is_some() && pulse.look() != first, "another turn");
    }

    #[test]
    fn the_first_turn_after_a_look_sets_the_timer() {
        let pulse = Pulse::new().unwrap();
        let rings = |time_limit| fds::poll([pulse.as_fd()], Some(time_limit)).unwrap()[0];
        assert!(!rings(Duration::ZERO));
        pulse.begin_turn();
        pulse.end_turn();
        assert!(rings(Duration::from_secs(10)));
        pulse.look();
        assert!(!rings(Duration::ZERO), "nothing happens, and nobody looks");
    }
}
