//! Decides whether a worker hangs, by looking at it every few seconds, and notes why a worker was killed.

use std::time::{Duration, Instant};

use crate::link::Predecessor;

/// Between two looks at a worker that is in the same turn of its loop as before.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Looks at the same turn after which the worker counts as hung. After a freeze (a checkpoint, a suspended machine) keeper
/// and worker go on together, and that takes one look at most.
const LOOKS: u32 = 5;

/// CPU time that a running worker must have used in a turn to count as hung. A worker that gets none waits for others.
const SPUN: Duration = Duration::from_secs(2);

/// The facts that the keeper observes about the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// The turn of its loop that is under way.
    pub(super) turn: Option<u32>,
    /// It was stopped by a signal.
    pub(super) stopped: bool,
    /// A debugger holds it.
    pub(super) traced: bool,
    /// It runs, or could run if it got a CPU.
    pub(super) runs: bool,
    /// CPU time that it has used since it was started.
    pub(super) cpu: Duration,
}

/// Decision of the watchdog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Do nothing, and look again when its next turn begins.
    Idle,
    /// Look again after [`CHECK_INTERVAL`].
    Busy,
    /// Kill it.
    Hung,
}

/// A worker that was killed because it hangs or does not retire.
#[derive(Debug, Clone, Copy)]
pub(super) struct GivenUp {
    /// When the next worker is started without waiting for its end any longer.
    pub(super) at: Instant,
    pub(super) why: WhyGivenUp,
}

/// Why a worker was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhyGivenUp {
    /// Its loop made no progress.
    Hung,
    /// It had been stopped by a signal.
    Stopped,
    /// It did not retire in time.
    Retiring,
}

impl WhyGivenUp {
    /// Returns how the next worker is told of it.
    pub(super) fn predecessor(self) -> Predecessor {
        if self == Self::Retiring { Predecessor::Retired } else { Predecessor::Hung }
    }
}

/// The turn that was seen last, since when, and how often.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    suspect: Option<Suspect>,
}

/// A turn of the worker that was seen at the last look.
#[derive(Debug, Clone, Copy)]
struct Suspect {
    turn: Option<u32>,
    looks: u32,
    cpu: Duration,
}

impl Watchdog {
    /// Judges one look.
    pub(super) fn look(&mut self, seen: Seen) -> Verdict {
        if seen.traced {
            self.suspect = None;
            return Verdict::Busy;
        }
        if seen.turn.is_none() && !seen.stopped {
            self.suspect = None;
            return Verdict::Idle;
        }
        let suspect = match self.suspect {
            Some(suspect) if suspect.turn == seen.turn => Suspect { looks: suspect.looks + 1, ..suspect },
            _ => Suspect { turn: seen.turn, looks: 1, cpu: seen.cpu },
        };
        self.suspect = Some(suspect);
        let starved = seen.runs && seen.cpu.saturating_sub(suspect.cpu) < SPUN;
        if suspect.looks >= LOOKS && !starved { Verdict::Hung } else { Verdict::Busy }
    }

    /// Forgets what was seen: another worker has been started.
    pub(super) fn reset(&mut self) {
        self.suspect = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITS: Seen = Seen { turn: Some(7), stopped: false, traced: false, runs: false, cpu: Duration::ZERO };

    /// After how many looks, all alike, the worker counts as hung.
    fn hangs_after(mut seen: impl FnMut(u32) -> Seen) -> Option<u32> {
        let mut watchdog = Watchdog::default();
        (1..100).find(|look| watchdog.look(seen(*look)) == Verdict::Hung)
    }

    #[test]
    fn a_turn_that_waits_for_ever_hangs_after_a_bound() {
        assert_eq!(hangs_after(|_| WAITS), Some(LOOKS));
    }

    #[test]
    fn a_stopped_worker_hangs_whether_in_a_turn_or_not() {
        assert_eq!(hangs_after(|_| Seen { stopped: true, ..WAITS }), Some(LOOKS));
        assert_eq!(hangs_after(|_| Seen { stopped: true, turn: None, ..WAITS }), Some(LOOKS));
    }

    #[test]
    fn a_turn_that_spins_hangs_and_one_that_gets_no_cpu_does_not() {
        let spins = |look| Seen { runs: true, cpu: CHECK_INTERVAL * look, ..WAITS };
        assert_eq!(hangs_after(spins), Some(LOOKS));
        assert_eq!(hangs_after(|_| Seen { runs: true, ..WAITS }), None);
        let slowly = |look| Seen { runs: true, cpu: Duration::from_millis(100) * look, ..WAITS };
        assert_eq!(hangs_after(slowly), Some(21));
    }

    #[test]
    fn progress_a_debugger_and_rest_are_no_reason() {
        assert_eq!(hangs_after(|look| Seen { turn: Some(look * 2 + 1), ..WAITS }), None);
        assert_eq!(hangs_after(|_| Seen { traced: true, ..WAITS }), None);
        assert_eq!(hangs_after(|look| Seen { turn: (look % 4 != 0).then_some(7), ..WAITS }), None);
        let mut watchdog = Watchdog::default();
        assert_eq!(watchdog.look(Seen { turn: None, ..WAITS }), Verdict::Idle);
    }
}
