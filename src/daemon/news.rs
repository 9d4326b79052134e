//! Tells the history and the service manager what is served, what is not, and when that changes.
//!
//! A task compares the problems that `autofsctl status` lists with those it knew, after each reload and whenever a mount point
//! is covered, goes or comes back. The differences are events of the history.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::control::history::EventKind;
use crate::control::{Bytes, Problem};
use crate::daemon::life::Phase;
use crate::daemon::problems::{self, RETRIED_IN};
use crate::daemon::worker::Worker;
use crate::link::{Doing, Message, ServiceState};
use crate::source::News;

/// How long changes gather before they are compared.
const DEBOUNCE: Duration = Duration::from_millis(5);

/// How many differences are events of their own. The others are counted in one.
const NAMED: usize = 20;

/// The problems at the last comparison: for each path, what kind of event it is, and why it is not served.
type Known = BTreeMap<Bytes, (EventKind, String)>;

/// Compares as long as the worker runs. `quietly`: an earlier worker has reported the problems at the start.
pub(crate) async fn watch(worker: Rc<Worker>, quietly: bool) {
    let mut known: Option<Known> = quietly.then(Known::new);
    let mut is_first = quietly;
    loop {
        worker.standing.notified().await;
        tokio::time::sleep(DEBOUNCE).await;
        tell_manager(&worker);
        if !worker.life.has_started() || worker.is_stopping() {
            continue;
        }
        let now = current(&worker);
        if !std::mem::take(&mut is_first) {
            let before = known.take().unwrap_or_default();
            let served = |path: &Bytes| {
                let found = worker.mounts.serving(path.as_path());
                found.is_some_and(|(_, mount)| *mount.path == *path.as_path())
                    || worker.state.borrow().maps.served().any(|map| map.mount_point == path.0)
            };
            for difference in differences(&before, &now, served) {
                match difference {
                    Difference::Unserved(kind, path, why) => worker.history.unserved(kind, path, &why),
                    Difference::Other(kind, message) => worker.history.event(kind, message),
                }
            }
        }
        known = Some(now);
    }
}

/// Records the news of sources and servers as long as the worker runs.
pub(crate) async fn record(worker: Rc<Worker>) {
    let notices = worker.state.borrow().context.sources.notices.clone();
    loop {
        let (kind, message) = match notices.tallies.next_news().await {
            News::Source(message) => (EventKind::Source, message),
            News::Server(message) => (EventKind::Server, message),
        };
        worker.history.event(kind, message);
    }
}

/// Tells the keeper what the daemon does, for the service manager.
pub(crate) fn tell_manager(worker: &Worker) {
    let doing = match worker.life.phase() {
        Phase::Stopping(_) => Doing::Stopping,
        // The next worker or program tells.
        Phase::Retiring => return,
        _ if !worker.life.has_started() => Doing::Starting,
        _ if worker.life.is_reloading() => Doing::Reloading,
        _ if worker.life.shown_rest().is_some() => Doing::Quiesced,
        _ => Doing::Serving,
    };
    let mount_points = worker.state.borrow().maps.served().count();
    let problems = problems::all(worker).len();
    let number = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
    let state = ServiceState { doing, mount_points: number(mount_points), problems: number(problems) };
    worker.mounts.tell_keeper(Message::State(state));
}

fn current(worker: &Worker) -> Known {
    let known = |(kind, Problem { path, place, reason, .. }): (EventKind, Problem)| {
        // When it is tried again changes all the time.
        let reason = reason.split(RETRIED_IN).next().unwrap_or_default();
        let place = place.map(|place| format!("{}:{}: ", place.file, place.line)).unwrap_or_default();
        (path, (kind, format!("{place}{reason}")))
    };
    problems::all(worker).into_iter().map(known).collect()
}

/// What has changed of what is served: an event.
#[derive(Debug, PartialEq, Eq)]
enum Difference {
    /// The mount point or line is not served from now on; the last is the reason.
    Unserved(EventKind, Bytes, String),
    Other(EventKind, String),
}

/// Returns the events for what has changed. `served`: whether a path is served now.
fn differences(before: &Known, now: &Known, served: impl Fn(&Bytes) -> bool) -> Vec<Difference> {
    let worse = now.iter().filter(|(path, why)| before.get(*path) != Some(*why));
    let worse = worse.map(|(path, (kind, why))| Difference::Unserved(*kind, path.clone(), why.clone()));
    let better = before.iter().filter(|(path, _)| !now.contains_key(*path)).map(|(path, (kind, why))| {
        let how = if served(path) { "is served again" } else { "is not wanted any more" };
        Difference::Other(*kind, format!("{path} {how}; it was not served: {why}"))
    });
    let mut events: Vec<_> = worse.chain(better).collect();
    let more = events.len().saturating_sub(NAMED);
    if more > 0 {
        events.truncate(NAMED);
        let message = format!("{more} more mount points or lines have changed: see autofsctl status");
        events.push(Difference::Other(EventKind::Trouble, message));
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(problems: &[(&str, &str)]) -> Known {
        let one =
            |(path, why): &(&str, &str)| (Bytes(path.as_bytes().to_vec()), (EventKind::Trouble, (*why).to_owned()));
        problems.iter().map(one).collect()
    }

    #[test]
    fn what_comes_goes_and_changes_is_told() {
        let (before, now) =
            (known(&[("/a", "x"), ("/b", "x"), ("/c", "x"), ("/d", "x")]), known(&[("/a", "x"), ("/b", "y")]));
        let other = |message: &str| Difference::Other(EventKind::Trouble, message.to_owned());
        assert_eq!(
            differences(&before, &now, |path| path.0 == b"/c"),
            [
                Difference::Unserved(EventKind::Trouble, Bytes(b"/b".to_vec()), "y".to_owned()),
                other("/c is served again; it was not served: x"),
                other("/d is not wanted any more; it was not served: x")
            ]
        );
        assert_eq!(differences(&now, &now, |_| true), []);
    }

    #[test]
    fn events_are_bounded() {
        let paths: Vec<String> = (0..100).map(|n| format!("/m{n}")).collect();
        let all: Vec<(&str, &str)> = paths.iter().map(|path| (&**path, "x")).collect();
        let told = differences(&Known::new(), &known(&all), |_| false);
        assert_eq!(told.len(), NAMED + 1);
        let is_rest = |difference: &Difference| matches!(difference, Difference::Other(_, message) if message.starts_with("80 more "));
        assert!(is_rest(&told[NAMED]), "{told:?}");
    }
}
