//! Breakers: a server that was silent is not asked again for a while, so that only the first access to it waits.

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

#[derive(Debug, Clone, Copy)]
struct Silence {
    until: Instant,
    back_off: Duration,
}

impl<K: Hash + Eq + Clone> Breakers<K> {
    /// Returns whether the server may be asked. When its time has passed, one caller may ask, and the others wait for what
    /// comes of it: for that time the server is left alone again.
    pub(super) fn lets_through(&self, server: &K) -> bool {
        let now = Instant::now();
        match self.lock().get_mut(server) {
            Some(silence) if now < silence.until => false,
            Some(silence) => {
                silence.until = now + silence.back_off;
                true
            }
            None => true,
        }
    }

    /// Notes that a server has answered.
    pub(super) fn answered(&self, server: &K) {
        self.lock().remove(server);
    }

    /// Notes that a server was silent.
    pub(super) fn was_silent(&self, server: &K) {
        let now = Instant::now();
        let mut silent = self.lock();
        if silent.len() >= KEPT_MAX {
            silent.retain(|_, silence| now < silence.until);
        }
        let twice = |silence: &Silence| (silence.back_off * 2).min(BACK_OFF.1);
        let back_off = silent.get(server).map_or(BACK_OFF.0, twice);
        silent.insert(server.clone(), Silence { until: now + back_off, back_off });
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
        assert!(breakers.lets_through(&"a"));
        breakers.was_silent(&"a");
        assert!(!breakers.lets_through(&"a") && breakers.lets_through(&"b"));
        tokio::time::advance(BACK_OFF.0).await;
        assert!(breakers.lets_through(&"a"), "one may try");
        assert!(!breakers.lets_through(&"a"), "and the others do not");
        breakers.was_silent(&"a");
        tokio::time::advance(BACK_OFF.0).await;
        assert!(!breakers.lets_through(&"a"));
        tokio::time::advance(BACK_OFF.0).await;
        assert!(breakers.lets_through(&"a"));
        breakers.answered(&"a");
        assert!(breakers.lets_through(&"a") && breakers.lets_through(&"a"));
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_servers_are_remembered() {
        let breakers = Breakers::default();
        (0..KEPT_MAX).for_each(|server| breakers.was_silent(&server));
        tokio::time::advance(BACK_OFF.1).await;
        breakers.was_silent(&KEPT_MAX);
        assert_eq!(breakers.lock().len(), 1);
    }
}
