//! Unmounts at the end of the daemon that fail because a mount is in use for a moment.
//!
//! A process whose lookup has just failed keeps a mount busy, and so does a process that this daemon starts for another unmount: until
//! it executes its program, it has a copy of each descriptor that was open.

use std::time::{Duration, Instant};

/// For how long an unmount is tried again.
const LIMIT: Duration = Duration::from_secs(1);

/// The pauses between two attempts: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));

/// Says whether an unmount is tried again, and when. One value for the attempts at one mount.
#[derive(Debug)]
pub(super) struct Retry {
    end: Instant,
    pause: Duration,
}

impl Retry {
    /// Begins now. Only at the end of the daemon (`at_exit`) is an unmount tried again: otherwise it is repeated later anyway, and lookups
    /// may wait for it.
    pub(super) fn begin(at_exit: bool) -> Self {
        let limit = if at_exit { LIMIT } else { Duration::ZERO };
        Self { end: Instant::now() + limit, pause: PAUSE.0 }
    }

    /// Returns the pause before the next attempt, or `None` if there is none.
    pub(super) fn next(&mut self) -> Option<Duration> {
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE.1);
        (Instant::now() < self.end).then_some(pause)
    }

    /// Waits until the next attempt. Returns false if there is none.
    pub(super) fn sleep(&mut self) -> bool {
        let pause = self.next();
        if let Some(pause) = pause {
            std::thread::sleep(pause);
        }
        pause.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_the_daemon_tries_again() {
        assert_eq!(Retry::begin(false).next(), None);
        let mut retry = Retry::begin(true);
        let pauses: Vec<_> = std::iter::repeat_with(|| retry.next().unwrap().as_millis()).take(5).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 100]);
        retry.end = Instant::now();
        assert!(!retry.sleep());
    }
}
