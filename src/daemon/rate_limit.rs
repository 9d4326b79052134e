//! Bounds how many keys without an entry of their own a user can try: one who walks through random names below a wildcard
//! costs mounts, programs and questions to servers.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Number of seconds whose keys a user may try at once after a pause.
const BURST: u32 = 5;

/// Users whose attempts are counted at most. More of them are counted together.
const USERS: usize = 4096;

/// The pause between two log lines about the same user.
const LOGGED: Duration = Duration::from_secs(10);

/// The attempts of each user.
#[derive(Debug, Default)]
pub(crate) struct Attempts(HashMap<u32, Bucket>);

/// Number of keys that a user may still try.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Attempts, in thousandths.
    left: u64,
    /// When this was computed.
    at: Instant,
    logged: Option<Instant>,
}

/// Whether a user may try a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// The lookup may go on.
    Allowed,
    /// The user has exceeded the rate.
    Refused {
        /// It is to be logged.
        log: bool,
    },
}

impl Attempts {
    /// Counts an attempt of a user. `rate` is how many are allowed for each second.
    pub(crate) fn count(&mut self, user: u32, rate: u32, now: Instant) -> Attempt {
        let most = u64::from(rate.saturating_mul(BURST)) * 1000;
        let full = Bucket { left: most, at: now, logged: None };
        let refilled = |bucket: &Bucket| {
            let passed = u64::try_from(now.saturating_duration_since(bucket.at).as_millis()).unwrap_or(u64::MAX);
            bucket.left.saturating_add(passed.saturating_mul(rate.into())).min(most)
        };
        if self.0.len() >= USERS && !self.0.contains_key(&user) {
            self.0.retain(|_, bucket| refilled(bucket) < most);
        }
        // When the table is full, all further users share one bucket.
        let user = if self.0.len() >= USERS && !self.0.contains_key(&user) { u32::MAX } else { user };
        let bucket = self.0.entry(user).or_insert(full);
        (bucket.left, bucket.at) = (refilled(bucket), now);
        if let Some(left) = bucket.left.checked_sub(1000) {
            bucket.left = left;
            return Attempt::Allowed;
        }
        let log = bucket.logged.is_none_or(|logged| now.saturating_duration_since(logged) >= LOGGED);
        if log {
            bucket.logged = Some(now);
        }
        Attempt::Refused { log }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(attempts: &mut Attempts, user: u32, times: usize, now: Instant) -> usize {
        (0..times).filter(|_| attempts.count(user, 10, now) == Attempt::Allowed).count()
    }

    #[test]
    fn a_user_has_a_burst_and_then_a_rate() {
        let (mut attempts, begin) = (Attempts::default(), Instant::now());
        assert_eq!(allowed(&mut attempts, 1000, 1000, begin), 50);
        assert_eq!(allowed(&mut attempts, 1001, 10, begin), 10, "another user");
        assert_eq!(allowed(&mut attempts, 1000, 1000, begin + Duration::from_secs(1)), 10);
        assert_eq!(allowed(&mut attempts, 1000, 1000, begin + Duration::from_secs(3600)), 50);
    }

    #[test]
    fn a_refusal_is_logged_now_and_then() {
        let (mut attempts, begin) = (Attempts::default(), Instant::now());
        allowed(&mut attempts, 1000, 50, begin);
        assert_eq!(attempts.count(1000, 10, begin), Attempt::Refused { log: true });
        assert_eq!(attempts.count(1000, 10, begin), Attempt::Refused { log: false });
    }

    #[test]
    fn many_users_need_bounded_memory() {
        let (mut attempts, begin) = (Attempts::default(), Instant::now());
        for user in 0..10_000 {
            attempts.count(user, 10, begin);
        }
        assert!(attempts.0.len() <= USERS + 1);
        assert_eq!(attempts.count(9_999, 10, begin + Duration::from_secs(60)), Attempt::Allowed);
    }
}
