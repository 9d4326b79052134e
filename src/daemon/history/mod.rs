//! The history: the last requests of the kernel and events of the daemon, over the death of workers and over upgrades.
//!
//! [`History`] runs on the reactor and only notes times and names, after the answer was given. A thread of low priority does
//! the rest ([`recorder`]): it looks at the requester, masks secrets, writes to the memory that the keeper holds, counts,
//! and answers queries. So a request that is answered costs the reactor hardly more than it would without a history.

mod counters;
mod query;
mod recorder;
mod request;
mod stored;

use std::cell::RefCell;
use std::os::unix::ffi::OsStringExt as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hashbrown::HashMap;

use crate::control::Bytes;
use crate::control::history::{Asked, EventKind};
use crate::daemon::mounts::Mounts;
use crate::daemon::requests::Refused;
use crate::engine::{EntryId, Errno, Event, Reason, Requester, Resolution, Token};
use crate::plan::Plan;
use crate::record::Record;
use crate::text::Position;

pub(crate) use query::Query;
pub(crate) use recorder::Recorder;
pub(crate) use request::{Answered, Step};

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

/// The history of a worker.
#[derive(Debug)]
pub(crate) struct History {
    recorder: Recorder,
    /// The requests that are not answered.
    open: RefCell<HashMap<Token, Open>>,
    /// Lookups under way, by entry.
    attempts: RefCell<HashMap<EntryId, Attempt>>,
    /// The attempts that have ended in this turn.
    over: RefCell<Vec<EntryId>>,
    /// The requests that were answered in this turn.
    answered: RefCell<Vec<(EntryId, Answered)>>,
    /// The number of the last attempt.
    last: std::cell::Cell<u64>,
}

#[derive(Debug)]
struct Open {
    asked: Asked,
    at: EntryId,
    who: Requester,
    begun: Instant,
    /// The name of the process, if it was read while the request waited.
    name: Option<Rc<str>>,
    /// Whether it is recorded when it is answered.
    kept: bool,
}

#[derive(Debug)]
struct Attempt {
    number: u64,
    steps: Vec<(Instant, Step)>,
    line: Option<(Position, Vec<u8>)>,
}

impl History {
    /// Creates the history of a worker that writes by this recorder.
    pub(crate) fn new(recorder: Recorder) -> Self {
        Self {
            recorder,
            open: RefCell::default(),
            attempts: RefCell::default(),
            over: RefCell::default(),
            answered: RefCell::default(),
            last: std::cell::Cell::default(),
        }
    }

    /// Returns the thread that writes.
    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Records an event of the daemon.
    pub(crate) fn event(&self, kind: EventKind, message: impl Into<String>) {
        self.recorder.event(kind, &message.into(), None);
    }

    /// Records that a mount point, or a line of a map, is not served from now on.
    pub(crate) fn unserved(&self, kind: EventKind, path: Bytes, why: &str) {
        self.recorder.event(kind, &format!("{path} is not served: {why}"), Some(path));
    }

    /// Notes a packet that is about to be passed to the engine. Without `kept`, its request is not recorded.
    pub(crate) fn begin(&self, event: &Event, kept: bool) {
        let (asked, at, token, who, waited) = match event {
            Event::Missing { at, token, who, waited } => (Asked::Mount, at, *token, *who, *waited),
            Event::Expire { at, token } => (Asked::Expire, at, *token, Requester::default(), 0),
            _ => return,
        };
        let begun = Instant::now();
        let begun = begun.checked_sub(Duration::from_millis(waited)).unwrap_or(begun);
        self.open.borrow_mut().insert(token, Open { asked, at: at.clone(), who, begun, name: None, kept });
    }

    /// Keeps the name of the requester of a request that was not answered at once, and asks the recorder to look at it. It may be
    /// killed before the answer.
    pub(crate) fn keep_requester(&self, token: Token, name: impl FnOnce() -> Rc<str>) {
        if let Some(open) = self.open.borrow_mut().get_mut(&token).filter(|open| open.kept) {
            open.name = Some(name());
            self.recorder.look_at(token, open.who.tgid);
        }
    }

    /// Records that a lookup of an entry begins.
    pub(crate) fn resolving(&self, at: &EntryId) {
        let number = self.last.get() + 1;
        self.last.set(number);
        // An earlier attempt of this turn may be over.
        self.over.borrow_mut().retain(|over| over != at);
        self.attempts.borrow_mut().insert(at.clone(), Attempt { number, steps: Vec::new(), line: None });
    }

    /// Records the result of a lookup; `line` is the place and the text of the entry.
    pub(crate) fn resolved(&self, at: &EntryId, line: Option<(Position, Vec<u8>)>, outcome: &Resolution) {
        let step = match outcome {
            Resolution::Found(_) => Step::Found,
            Resolution::NotFound => Step::NotFound,
            Resolution::Invalid(_) => Step::Invalid,
            Resolution::Unavailable(_) | Resolution::Limited(_) => Step::Unavailable,
        };
        if let Some(attempt) = self.attempts.borrow_mut().get_mut(at) {
            attempt.line = line;
            attempt.steps.push((Instant::now(), step));
        }
        if !matches!(outcome, Resolution::Found(_)) {
            self.over.borrow_mut().push(at.clone());
        }
    }

    /// Returns the place of the entry that an attempt has found.
    pub(crate) fn line(&self, at: &EntryId) -> Option<Position> {
        let attempts = self.attempts.borrow();
        attempts.get(at)?.line.as_ref().map(|(place, _)| place.clone())
    }

    /// Records that a mount begins.
    pub(crate) fn performing(&self, at: &EntryId, plan: &Arc<Plan>) {
        // The plan of an offset is known without asking the maps.
        if !self.attempts.borrow().contains_key(at) {
            self.resolving(at);
        }
        if let Some(attempt) = self.attempts.borrow_mut().get_mut(at) {
            attempt.steps.push((Instant::now(), Step::Mount(Arc::clone(plan))));
        }
    }

    /// Records whether a mount has succeeded.
    pub(crate) fn performed(&self, at: &EntryId, mounted: bool) {
        if let Some(attempt) = self.attempts.borrow_mut().get_mut(at) {
            attempt.steps.push((Instant::now(), if mounted { Step::Mounted } else { Step::Failed }));
        }
        self.over.borrow_mut().push(at.clone());
    }

    /// Records the answer to the request with this token. Does nothing if the token is unknown.
    ///
    /// `name` returns the name of a process.
    pub(crate) fn answered(
        &self,
        mounts: &Mounts,
        token: Token,
        (error, reason): (Option<Errno>, Option<Reason>),
        name: impl FnOnce(u32) -> Rc<str>,
    ) {
        let Some(open) = self.open.borrow_mut().remove(&token).filter(|open| open.kept) else { return };
        let Some(mount) = mounts.get(open.at.mount) else { return };
        let attempts = self.attempts.borrow();
        let attempt = attempts.get(&open.at).filter(|_| open.asked == Asked::Mount);
        let since = |at: Instant| at.saturating_duration_since(open.begun);
        let took = open.begun.elapsed();
        let answered = Answered {
            token,
            asked: open.asked,
            at: now().saturating_sub(u64::try_from(took.as_millis()).unwrap_or(0)),
            took,
            path: mount.entry(&open.at.key),
            mount_point: mount.map.mount_point.clone(),
            map: crate::control::plan::map_name(&mount.map.spec),
            line: attempt.and_then(|attempt| attempt.line.clone()),
            who: open.who,
            // A process may end soon after the answer, before the thread looks at it.
            name: match (open.name, attempt) {
                (Some(name), _) => name.to_string(),
                (None, Some(_)) => name(open.who.tgid).to_string(),
                (None, None) => String::new(),
            },
            error,
            reason,
            negative_for: None,
            attempt: attempt.map(|attempt| attempt.number),
            steps: attempt
                .map(|attempt| attempt.steps.iter().map(|(at, step)| (since(*at), step.clone())).collect())
                .unwrap_or_default(),
        };
        self.answered.borrow_mut().push((open.at, answered));
    }

    /// Records a lookup that has failed because no worker served it in time.
    pub(crate) fn refused(&self, refused: Refused, map: Vec<u8>, name: String) {
        let Refused { mount_point, path, token, who, waited, error } = refused;
        let answered = Answered {
            token,
            asked: Asked::Mount,
            at: now().saturating_sub(u64::try_from(waited.as_millis()).unwrap_or(0)),
            took: waited,
            path,
            mount_point: mount_point.into_os_string().into_vec(),
            map,
            line: None,
            who,
            name,
            error: Some(error),
            reason: Some(Arc::new(Record::new("no worker of the daemon served it in time"))),
            negative_for: None,
            attempt: None,
            steps: Vec::new(),
        };
        self.recorder.answered(vec![answered]);
    }

    /// Passes the requests that were answered in this turn of the event loop to the recorder. `negative` returns for how many
    /// milliseconds further requests for an entry fail.
    pub(crate) fn end_turn(&self, negative: impl Fn(&EntryId) -> Option<u64>) {
        let mut answered = self.answered.borrow_mut();
        if !answered.is_empty() {
            let with_negative = |(at, mut answered): (EntryId, Answered)| {
                answered.negative_for = answered.error.and_then(|_| negative(&at));
                answered
            };
            self.recorder.answered(answered.drain(..).map(with_negative).collect());
        }
        for at in self.over.borrow_mut().drain(..) {
            self.attempts.borrow_mut().remove(&at);
        }
    }

    /// Returns the lookups that are not answered, with who waits and for how long, the oldest first.
    pub(crate) fn open(&self) -> Vec<(EntryId, Requester, Duration)> {
        let open = self.open.borrow();
        let lookups = open.values().filter(|open| open.asked == Asked::Mount);
        let mut open: Vec<_> = lookups.map(|open| (open.at.clone(), open.who, open.begun.elapsed())).collect();
        open.sort_by_key(|(_, _, age)| std::cmp::Reverse(*age));
        open
    }

    /// Forgets all requests: a restore has invalidated their tokens.
    pub(crate) fn forget_requests(&self) {
        self.open.borrow_mut().clear();
    }
}
