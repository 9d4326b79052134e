//! Reads again what was late or could not be read.
//!
//! A service that comes back is used without a reload. While something is missing, its sources are asked every second, without
//! any effect; all is read again when one of them answers. What no source tells about, such as a configuration file that cannot be
//! read, is read again with growing pauses.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::daemon::readable::{self, Steady};
use crate::daemon::reload::reload;
use crate::daemon::worker::Worker;
use crate::source::{MapSource, Pass};
use crate::sys::directory_events::{Change, DirectoryEvents};
use crate::sys::path;

/// First pause before everything is read again. It doubles each time, up to [`RETRY_DELAY_MAX`].
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// Longest pause before everything is read again.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(300);

/// Pause between two rounds of questions to the missing sources.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The same if only services are missing that do not run on this machine, after [`PROBE_SLOWLY_AFTER`].
const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// How long a service that does not run is expected soon.
const PROBE_SLOWLY_AFTER: Duration = Duration::from_secs(300);

/// How long an answer may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Maps of one kind that are asked for in a round. All at once, so that one that does not answer delays no other.
const WIDTH: usize = 8;

/// Directory in which sssd has its socket for automount. A service that does not run on this machine is always sssd.
const SSSD: &str = "/var/lib/sss/pipes";

/// Sources that answer within this time need one reload.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// A source that did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Nothing,
    /// Only services that do not run on this machine, and may never do.
    NotRunning,
    Something,
}

/// Reads again what is missing: when a source answers that was late or away, and from time to time.
pub(crate) async fn retry(worker: Rc<Worker>) {
    let notices = Arc::clone(&worker.state.borrow().context.sources.notices);
    let (mut wait, mut since) = (RETRY_DELAY, Instant::now());
    let mut due = Instant::now() + wait;
    let (mut arrivals, mut round) = (None, 0);
    loop {
        match missing(&worker) {
            Missing::Nothing => {
                wait = RETRY_DELAY;
                due = Instant::now() + wait;
                arrivals = None;
                tokio::select! {
                    () = notices.answered() => {}
                    () = worker.incomplete.notified() => {
                        since = Instant::now();
                        due = since + wait;
                        continue;
                    }
                }
            }
            missing => {
                let is_unsure = missing == Missing::NotRunning;
                // Before the question that finds it missing, so that no arrival is missed.
                arrivals = arrivals.filter(|_| is_unsure).or_else(|| watch_sssd(&worker).filter(|_| is_unsure));
                round += 1;
                tokio::select! {
                    () = notices.answered() => {}
                    returned = after(pause(is_unsure, since.elapsed()), round, &worker) => if !returned {
                        continue;
                    },
                    () = arrival(arrivals.as_ref()) => {
                        since = Instant::now();
                        continue;
                    }
                    () = sleep_until(due), if missing == Missing::Something => {
                        wait = (wait * 2).min(RETRY_DELAY_MAX);
                        due = Instant::now() + wait;
                    }
                }
            }
        }
        worker.life.pause(DEBOUNCE).await;
        if worker.is_stopping() {
            return;
        }
        if worker.life.has_started() {
            reload(Rc::clone(&worker)).await;
        }
    }
}

fn missing(worker: &Worker) -> Missing {
    let state = worker.state.borrow();
    if !worker.life.has_started() {
        Missing::Nothing
    } else if !state.maps.complete {
        Missing::Something
    } else if !state.maps.away.is_empty() || state.maps.away_maps().next().is_some() {
        Missing::NotRunning
    } else {
        Missing::Nothing
    }
}

/// Returns the pause before the next round, if something has been missing for some time.
fn pause(is_unsure: bool, since: Duration) -> Duration {
    if is_unsure && since > PROBE_SLOWLY_AFTER { PROBE_INTERVAL_MAX } else { PROBE_INTERVAL }
}

/// Watches the directory of sssd's socket. Not in containers: CRIU cannot dump the watches of every file system.
fn watch_sssd(worker: &Worker) -> Option<AsyncFd<Steady<DirectoryEvents>>> {
    if worker.tools().is_in_container() {
        return None;
    }
    let directory = path::open_cached_exact(Path::new(SSSD)).ok()?;
    let events = DirectoryEvents::open().ok()?;
    events.watch(directory.as_fd(), Change::NewEntry).ok()?;
    readable::register(events).ok()
}

/// Waits until something arrives in the directory of sssd's socket.
async fn arrival(arrivals: Option<&AsyncFd<Steady<DirectoryEvents>>>) {
    if let Some(arrivals) = arrivals {
        if let Ok(mut ready) = arrivals.readable().await {
            ready.clear_ready();
            if arrivals.get_ref().0.drain().is_ok() {
                return;
            }
        }
    }
    std::future::pending().await
}

/// Asks for what is missing, after a pause. Returns whether one of its sources has answered.
async fn after(pause: Duration, round: usize, worker: &Worker) -> bool {
    sleep(pause).await;
    if !worker.life.phase().may_reload() {
        return false;
    }
    let deadline = Instant::now() + PROBE_TIMEOUT;
    let mut questions = JoinSet::new();
    {
        let state = worker.state.borrow();
        for master in &state.maps.away {
            let (master, files) = (master.clone(), Arc::clone(&state.context.sources.master));
            questions.spawn(async move { master.has_returned(&files, deadline).await });
        }
        let maps: Vec<_> = state.maps.away_maps().map(|map| (Arc::clone(&map.source), map.uses_entries())).collect();
        for (source, whole) in some(maps, |(source, _)| source.id().kind, round) {
            questions.spawn(can_be_read(source, whole, deadline));
        }
    }
    while let Some(answer) = questions.join_next().await {
        if answer.unwrap_or(false) {
            return true;
        }
    }
    false
}

/// Returns some items of each kind, others in each round.
fn some<T, K: Ord>(all: Vec<T>, kind: impl Fn(&T) -> K, round: usize) -> Vec<T> {
    let mut kinds: BTreeMap<K, Vec<T>> = BTreeMap::new();
    for item in all {
        kinds.entry(kind(&item)).or_default().push(item);
    }
    let turn = |mut items: Vec<T>| {
        let length = items.len().max(1);
        items.rotate_left(round.wrapping_mul(WIDTH) % length);
        items.truncate(WIDTH);
        items
    };
    kinds.into_values().flat_map(turn).collect()
}

/// Returns whether a map can be read: as a whole, or by its keys.
async fn can_be_read(source: Arc<dyn MapSource>, whole: bool, deadline: Instant) -> bool {
    let pass = Pass::new(deadline);
    if whole {
        source.entries(&pass).await.is_ok() && !source.is_partial()
    } else {
        source.prepare(&pass).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_returns_is_noticed_within_five_seconds() {
        // It returns when it was just asked in vain; its lookup process asks a silent server again after a second at most.
        let longest = PROBE_TIMEOUT + PROBE_INTERVAL + DEBOUNCE;
        assert!(longest < Duration::from_millis(4500), "{longest:?}");
        for missing_for in [0, 10, 299, 301, 86_400].map(Duration::from_secs) {
            assert_eq!(pause(false, missing_for), PROBE_INTERVAL);
        }
        // One that does not run is noticed by its socket.
        assert_eq!(pause(true, Duration::from_secs(300)), PROBE_INTERVAL);
        assert_eq!(pause(true, Duration::from_secs(301)), PROBE_INTERVAL_MAX);
    }

    #[test]
    fn each_kind_and_in_time_each_map_is_asked_for() {
        let all: Vec<(&str, usize)> = (0..20).map(|n| ("ldap", n)).chain([("nis", 0)]).collect();
        let mut seen = std::collections::BTreeSet::new();
        for round in 0..5 {
            let some = some(all.clone(), |(kind, _)| *kind, round);
            assert_eq!(some.iter().filter(|(kind, _)| *kind == "ldap").count(), WIDTH);
            assert!(some.contains(&("nis", 0)));
            seen.extend(some);
        }
        assert_eq!(seen.len(), all.len());
        assert!(some(Vec::<u8>::new(), |n| *n, 3).is_empty());
    }
}
