//! When a server that was silent is asked again: by one caller in each second, so that its return is noticed within one, while
//! the other callers fail at once.

use std::time::{Duration, Instant};

/// Pause between two attempts at a server that was silent. It does not grow: however long the server was away, it is used soon
/// after its return.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// Attempts at a silent server at the same time: other servers and maps need threads, too.
const UNDER_WAY_MAX: usize = 8;

/// The attempts at a server.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Attempts {
    under_way: usize,
    /// When the server has answered last.
    answered: Option<Instant>,
    /// The server was silent: when it may be asked next.
    next: Option<Instant>,
}

impl Attempts {
    /// Returns whether an attempt may begin. Each that begins must [end](Self::end).
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        if let Some(next) = &mut self.next {
            if *next > now || self.under_way >= UNDER_WAY_MAX {
                return false;
            }
            *next = now + PAUSE;
        }
        self.under_way += 1;
        true
    }

    /// Notes the end of an attempt.
    pub(super) fn end(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Notes that the server has answered.
    pub(super) fn answered(&mut self, now: Instant) {
        (self.answered, self.next) = (Some(now), None);
    }

    /// Notes that an attempt that began at `begun` got no answer. It says nothing if the server has answered others since then.
    pub(super) fn was_silent(&mut self, begun: Instant) {
        if self.answered.is_none_or(|at| at <= begun) {
            self.next = self.next.max(Some(begun + PAUSE));
        }
    }

    /// Returns whether the server was silent when it was asked last.
    pub(super) fn is_silent(&self) -> bool {
        self.next.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Threads of the lookup process.
    const THREADS: usize = 16;

    /// Returns how long after its return a server is used that was away from the start on. A lookup comes each 50 ms; an attempt lasts
    /// for `patience`, and what it sends is sent again after the times `again`.
    fn noticed_after(away: Duration, patience: Duration, again: &[Duration]) -> Duration {
        const STEP: Duration = Duration::from_millis(50);
        let start = Instant::now();
        let returns = start + away;
        let (mut attempts, mut under_way, mut now) = (Attempts::default(), Vec::new(), start);
        attempts.answered(start);
        loop {
            let arrives =
                |begun: &Instant| again.iter().any(|after| *begun + *after <= now && *begun + *after >= returns);
            if under_way.iter().any(arrives) {
                return now - returns;
            }
            under_way.retain(|begun| {
                let waits = now - *begun < patience;
                if !waits {
                    attempts.was_silent(*begun);
                    attempts.end();
                }
                waits
            });
            if under_way.len() < THREADS && attempts.begin(now) {
                if now >= returns {
                    return now - returns;
                }
                under_way.push(now);
            }
            now += STEP;
        }
    }

    #[test]
    fn a_server_that_returns_is_used_within_five_seconds_however_long_it_was_away() {
        let times = |seconds: &[f64]| seconds.iter().map(|s| Duration::from_secs_f64(*s)).collect::<Vec<_>>();
        // Connecting to an LDAP server, waiting for its answer, calls of a NIS server.
        let (tcp, answer, udp) =
            (times(&[1.0, 3.0, 7.0]), times(&[0.2, 0.6, 1.4, 3.0]), times(&[0.5, 1.5, 3.5, 5.5, 7.5, 9.5, 11.5]));
        for (patience, again) in [(8, &tcp), (5, &answer), (13, &udp)] {
            let patience = Duration::from_secs(patience);
            for seconds in [0, 3, 10, 60, 600] {
                for millis in (50..3000).step_by(450) {
                    let away = Duration::from_secs(seconds) + Duration::from_millis(millis);
                    let after = noticed_after(away, patience, again);
                    // At first all threads may wait; later there is one attempt in each second.
                    let most = if away < patience * 3 { Duration::from_secs(4) } else { Duration::from_secs(1) };
                    assert!(after <= most + Duration::from_millis(100), "{away:?} {patience:?}: {after:?}");
                }
            }
        }
    }

    #[test]
    fn an_old_silence_says_nothing_of_a_server_that_has_answered_since() {
        let start = Instant::now();
        let mut attempts = Attempts::default();
        assert!(attempts.begin(start));
        attempts.answered(start + PAUSE);
        attempts.was_silent(start);
        assert!(!attempts.is_silent());
        attempts.was_silent(start + PAUSE * 2);
        assert!(attempts.is_silent() && !attempts.begin(start + PAUSE * 2));
    }
}
