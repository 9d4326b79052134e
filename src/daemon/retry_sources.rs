//! Reads again what was late or could not be read.
//!
//! A service that comes back is used without a reload. While something is missing, its sources are asked every two
//! seconds, without any effect; all is read again when one of them answers. What no source tells about, such as a
//! configuration file that cannot be read, is read again with growing pauses.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::daemon::reload::reload;
use crate::daemon::worker::Worker;
use crate::source::{MapSource, Pass};

/// First pause before everything is read again. It doubles each time, up to [`RETRY_DELAY_MAX`].
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// Longest pause before everything is read again.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(300);

/// Pause between two rounds of questions to the missing sources.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);

/// The same if only services are missing that do not run on this machine, after [`PROBE_SLOWLY_AFTER`].
const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// How long a service that does not run is expected soon.
const PROBE_SLOWLY_AFTER: Duration = Duration::from_secs(300);

/// How long an answer may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Maps that are asked for at a time.
const WIDTH: usize = 8;

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
    loop {
        match missing(&worker) {
            Missing::Nothing => {
                wait = RETRY_DELAY;
                due = Instant::now() + wait;
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
                let pause =
                    if is_unsure && since.elapsed() > PROBE_SLOWLY_AFTER { PROBE_INTERVAL_MAX } else { PROBE_INTERVAL };
                tokio::select! {
                    () = notices.answered() => {}
                    returned = after(pause, &worker) => if !returned {
                        continue;
                    },
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

/// Asks for what is missing, after a pause. Returns whether one of its sources has answered.
async fn after(pause: Duration, worker: &Worker) -> bool {
    sleep(pause).await;
    if !worker.life.phase().may_reload() {
        return false;
    }
    let deadline = Instant::now() + PROBE_TIMEOUT;
    let (masters, files, maps) = {
        let state = worker.state.borrow();
        let maps: Vec<_> = state.maps.away_maps().map(|map| (Arc::clone(&map.source), map.uses_entries())).collect();
        (state.maps.away.clone(), Arc::clone(&state.context.sources.master), maps)
    };
    for master in masters {
        if master.has_returned(&files, deadline).await {
            return true;
        }
    }
    for some in maps.chunks(WIDTH) {
        let mut questions = JoinSet::new();
        for (source, whole) in some {
            questions.spawn(can_be_read(Arc::clone(source), *whole));
        }
        while let Some(answer) = questions.join_next().await {
            if answer.unwrap_or(false) {
                return true;
            }
        }
    }
    false
}

/// Returns whether a map can be read: as a whole, or by its keys.
async fn can_be_read(source: Arc<dyn MapSource>, whole: bool) -> bool {
    let pass = Pass::new(Instant::now() + PROBE_TIMEOUT);
    if whole {
        source.entries(&pass).await.is_ok() && !source.is_partial()
    } else {
        source.prepare(&pass).await.is_ok()
    }
}
