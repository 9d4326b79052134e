//! Breakers: a server that was silent is not asked again for a while, so that only the first access to it waits. One that is
//! being asked and takes longer than others is not asked a second time meanwhile.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a server is left alone after its first silence, and at most: each time twice as long.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// Servers that are remembered, at most; beyond that, those whose time has passed are forgotten.
const KEPT_MAX: usize = 4096;

/// The breakers of all servers, by what identifies a server.
#[derive(Debug)]
pub(super) struct Breakers<K> {
    silent: Mutex<HashMap<K, Silence>>,
}

impl<K> Default for Breakers<K> {
    fn default() -> Self {
        Self { silent: Mutex::default() }
    }
}

/// Whether a server may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// It may.
    Ask,
    /// Others have asked it, and it has not answered yet.
    Late,
    /// It was silent.
    Silent,
}

#[derive(Debug, Clone, Copy)]
struct Silence {
    until: Instant,
    back_off: Duration,
    /// The question is not answered yet.
    is_late: bool,
}

impl<K: Hash + Eq + Clone> Breakers<K> {
    /// Returns whether the server may be asked. When its time has passed, one caller may ask, and the others wait for what
    /// comes of it: for that time the server is left alone again.
    pub(super) fn pass(&self, server: &K) -> Pass {
        let now = Instant::now();
        match self.lock().get_mut(server) {
            Some(silence) if now < silence.until => {
                if silence.is_late {
                    Pass::Late
                } else {
                    Pass::Silent
                }
            }
            Some(silence) => {
                silence.until = now + silence.back_off;
                Pass::Ask
            }
            None => Pass::Ask,
        }
    }

    /// Notes that a question to a server goes on while its caller does not wait any more. Its outcome follows.
    pub(super) fn is_late(&self, server: &K) {
        let now = Instant::now();
        let late = Silence { until: now + BACK_OFF.0, back_off: BACK_OFF.0, is_late: true };
        self.lock().entry(server.clone()).or_insert(late);
    }

    /// Forgets all silences: the network has changed.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    /// Notes that a server has answered. Returns whether it was silent before.
    pub(super) fn answered(&self, server: &K) -> bool {
        self.lock().remove(server).is_some_and(|silence| !silence.is_late)
    }

    /// Notes that a server was silent. Returns whether it was not known to be.
    pub(super) fn was_silent(&self, server: &K) -> bool {
        let now = Instant::now();
        let mut silent = self.lock();
        if silent.len() >= KEPT_MAX {
            silent.retain(|_, silence| now < silence.until);
        }
        let twice = |silence: &Silence| {
            if silence.is_late { silence.back_off } else { (silence.back_off * 2).min(BACK_OFF.1) }
        };
        let back_off = silent.get(server).map_or(BACK_OFF.0, twice);
        let before = silent.insert(server.clone(), Silence { until: now + back_off, back_off, is_late: false });
        before.is_none_or(|silence| silence.is_late)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Silence>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_left_alone_longer_each_time() {
        let breakers = Breakers::default();
        assert_eq!(breakers.pass(&"a"), Pass::Ask);
        breakers.was_silent(&"a");
        assert_eq!((breakers.pass(&"a"), breakers.pass(&"b")), (Pass::Silent, Pass::Ask));
        tokio::time::advance(BACK_OFF.0).await;
        assert_eq!(breakers.pass(&"a"), Pass::Ask, "one may try");
        assert_eq!(breakers.pass(&"a"), Pass::Silent, "and the others do not");
        breakers.was_silent(&"a");
        tokio::time::advance(BACK_OFF.0).await;
        assert_eq!(breakers.pass(&"a"), Pass::Silent);
        tokio::time::advance(BACK_OFF.0).await;
        assert_eq!(breakers.pass(&"a"), Pass::Ask);
        breakers.answered(&"a");
        assert_eq!((breakers.pass(&"a"), breakers.pass(&"a")), (Pass::Ask, Pass::Ask));
        breakers.was_silent(&"a");
        breakers.forget();
        assert_eq!(breakers.pass(&"a"), Pass::Ask);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_server_is_not_asked_twice_at_a_time() {
        let breakers = Breakers::default();
        breakers.is_late(&"a");
        assert_eq!(breakers.pass(&"a"), Pass::Late);
        breakers.was_silent(&"a");
        assert_eq!(breakers.pass(&"a"), Pass::Silent);
        breakers.is_late(&"a");
        assert_eq!(breakers.pass(&"a"), Pass::Silent, "what is known stays known");
        tokio::time::advance(BACK_OFF.0).await;
        assert_eq!(breakers.pass(&"a"), Pass::Ask, "it was silent once");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_and_its_end_are_news_once() {
        let breakers = Breakers::default();
        assert!(!breakers.answered(&"a"));
        breakers.is_late(&"a");
        assert!(!breakers.answered(&"a"), "it was only late");
        assert_eq!([breakers.was_silent(&"a"), breakers.was_silent(&"a")], [true, false]);
        assert_eq!([breakers.answered(&"a"), breakers.answered(&"a")], [true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_servers_are_remembered() {
        let breakers = Breakers::default();
        for server in 0..KEPT_MAX {
            breakers.was_silent(&server);
        }
        tokio::time::advance(BACK_OFF.1).await;
        breakers.was_silent(&KEPT_MAX);
        assert_eq!(breakers.lock().len(), 1);
    }
}
