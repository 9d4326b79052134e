//! Answers questions from the rings.

use super::stored::decode;
use crate::control::Bytes;
use crate::control::history::{DaemonEvent, History, HistoryQuery, Position, Request};
use crate::link::history::Rings;
use crate::link::ring::Stored;

/// A question about the history.
#[derive(Debug)]
pub(crate) struct Query {
    /// The requests and events that are wanted.
    pub(crate) wanted: HistoryQuery,
    /// Only requests of this user.
    pub(crate) of: Option<u32>,
}

/// The longest text of a request. Longer ones are shortened.
pub(super) const LONGEST: usize = 16 << 10;

/// How many bytes of each program's messages a shortened request keeps.
const SHORT: usize = 512;

/// Leaves out of a request what can be long.
pub(super) fn shorten(request: &mut Request) {
    request.entry = None;
    request.steps.truncate(8);
    request.runs.truncate(4);
    for run in &mut request.runs {
        run.stderr.0.truncate(SHORT);
        run.command.truncate(8);
        run.command.iter_mut().for_each(|word| word.0.truncate(SHORT));
    }
    request.reason = request.reason.take().map(|reason| reason.chars().take(SHORT).collect());
    request.who.cgroup = None;
}

/// Returns whether there is anything after this position.
pub(super) fn has_news(rings: &Rings, after: Position) -> bool {
    rings.requests.next() > after.request + 1 || rings.events.next() > after.event + 1
}

/// Returns the request in an entry of the ring.
fn request(stored: &Stored) -> Option<Request> {
    let request = decode(&stored.text).ok()?;
    Some(Request { id: stored.serial, count: stored.count, last: stored.last, ..request })
}

fn event(stored: &Stored) -> Option<DaemonEvent> {
    let event: DaemonEvent = serde_json::from_slice(&stored.text).ok()?;
    Some(DaemonEvent { id: stored.serial, ..event })
}

/// Returns whether an event says that a mount point is not served, one at or above the path if there is one.
fn is_unserved(event: &DaemonEvent, path: Option<&Bytes>) -> bool {
    event.unserved.as_ref().is_some_and(|point| path.is_none_or(|path| path.as_path().starts_with(point.as_path())))
}

/// Answers a question. `lost`: how many messages never reached the rings.
pub(super) fn answer(rings: &Rings, query: &Query, lost: u64) -> History {
    let wanted = &query.wanted;
    let oldest = rings.requests.get(rings.requests.oldest()).and_then(|stored| request(&stored));
    let mut answer = History {
        kept: rings.requests.next() - rings.requests.oldest(),
        oldest: oldest.map(|request| request.at),
        position: Position { request: rings.requests.next() - 1, event: rings.events.next() - 1 },
        lost,
        ..History::default()
    };
    let since = wanted.since.map_or(0, |seconds| super::now().saturating_sub(seconds.saturating_mul(1000)));
    if let Some(after) = wanted.after {
        // After a restart of the daemon the numbers begin again.
        let from = |after: u64, next: u64| if after >= next { 0 } else { after };
        let (requests, events) = (from(after.request, rings.requests.next()), from(after.event, rings.events.next()));
        let gap = |after: u64, oldest: u64| oldest.saturating_sub(after + 1);
        answer.lost = gap(requests, rings.requests.oldest()) + gap(events, rings.events.oldest());
        let new = |serial: u64, after: u64| serial > after;
        answer.requests = rings
            .requests
            .newest_first()
            .take_while(|stored| new(stored.serial, requests))
            .filter_map(|s| request(&s))
            .collect();
        answer.events = rings
            .events
            .newest_first()
            .take_while(|stored| new(stored.serial, events))
            .filter_map(|s| event(&s))
            .collect();
    } else if wanted.daemon {
        answer.events =
            rings.events.newest_first().filter_map(|stored| event(&stored)).filter(|e| e.at >= since).collect();
    } else if let Some(id) = wanted.id {
        answer.requests = rings.requests.get(id).and_then(|stored| request(&stored)).into_iter().collect();
    } else {
        answer.requests =
            rings.requests.newest_first().filter(|stored| stored.last >= since).filter_map(|s| request(&s)).collect();
        if wanted.failed {
            // Nothing is asked for below a mount point that is not served: the event is all there is.
            let events = rings.events.newest_first().filter_map(|stored| event(&stored)).filter(|e| e.at >= since);
            answer.events = events.filter(|event| is_unserved(event, wanted.path.as_ref())).collect();
        }
    }
    let is_wanted = |request: &Request| {
        let of = query.of.is_none_or(|uid| request.who.uid == uid && request.who.tgid != 0);
        let path = wanted.path.as_ref();
        of && path.is_none_or(|path| {
            let (path, at) = (path.as_path(), request.path.as_path());
            at.starts_with(path) || path.starts_with(at)
        })
    };
    answer.requests.retain(is_wanted);
    let count = |requests: &[Request]| requests.iter().map(|request| u64::from(request.count)).sum();
    answer.counted = count(&answer.requests);
    if wanted.failed {
        answer.requests.retain(Request::is_failure);
        answer.failed = count(&answer.requests);
    } else {
        let failed = answer.requests.iter().filter(|request| request.is_failure());
        answer.failed = failed.map(|request| u64::from(request.count)).sum();
    }
    answer
}
