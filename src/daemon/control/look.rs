//! Calls that look at what is and what was: the state of a path, the history, the counters.

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::timeout;

use crate::control::history::Asked as Kind;
use crate::control::plan::map_name;
use crate::control::{
    Activity, Answer, Bytes, ControlError, HistoryQuery, InFlight, Metrics, PathState, PathStatus, PlanTree, Problem,
    SILENT, SourceCounters,
};
use crate::daemon::control::serve::Asked;
use crate::daemon::explain::live::{blocked, hidden};
use crate::daemon::explain::mounted::{foreign_at, silent};
use crate::daemon::history::Query;
use crate::daemon::worker::Worker;
use crate::engine::{self, EntryId, EntryPhase, MountState};
use crate::source::{SourceId, Tally};
use crate::sys::procfs;
use crate::text::secrets::{masked, masked_text};

/// How long the thread of the history may take: it has a low priority, and an answer may wait for something new.
const HISTORY_TIMEOUT: Duration = Duration::from_millis(9_500);

fn too_busy() -> ControlError {
    ControlError::Failed { message: "the daemon is too busy to read its history".to_owned() }
}

fn query(wanted: HistoryQuery, uid: u32) -> Query {
    Query { wanted, of: (uid != 0).then_some(uid) }
}

/// Returns a part of the history. Users see their own requests only.
pub(super) async fn history(worker: &Rc<Worker>, wanted: HistoryQuery, uid: u32) -> Result<Answer, ControlError> {
    match timeout(HISTORY_TIMEOUT, worker.history.recorder().ask(query(wanted, uid))).await {
        Ok(Some(history)) => Ok(Answer::History(history)),
        _ => Err(too_busy()),
    }
}

/// Returns the counters.
pub(super) async fn metrics(worker: &Rc<Worker>) -> Result<Answer, ControlError> {
    match timeout(HISTORY_TIMEOUT, worker.history.recorder().count()).await {
        Ok(Some(metrics)) => {
            let state = worker.state.borrow();
            let reload_success = state.maps.unread.is_none() && state.maps.complete;
            let sources = state.context.sources.notices.tallies.all().into_iter().map(source).collect();
            Ok(Answer::Metrics(Metrics { reload_success, sources, ..metrics }))
        }
        _ => Err(too_busy()),
    }
}

/// Converts the counters of a source.
fn source((id, tally): (SourceId, Tally)) -> SourceCounters {
    let name = [id.kind.as_bytes(), b":", &masked(&id.name)].concat();
    SourceCounters {
        source: Bytes(name),
        up: tally.up,
        questions: tally.questions,
        errors: tally.errors,
        cache_hits: tally.cache_hits,
        microseconds: u64::try_from(tally.time.as_micros()).unwrap_or(u64::MAX),
    }
}

/// The most requests that are listed as unanswered.
const LISTED: usize = 200;

/// Returns what is being done now. Users see their own requests only.
pub(super) fn activity(worker: &Worker, uid: u32) -> Activity {
    let mut activity = Activity::default();
    let mut open = worker.history.open();
    open.retain(|(_, who, _)| uid == 0 || who.uid == uid);
    activity.more = open.len().saturating_sub(LISTED) as u64;
    activity.requests = open
        .into_iter()
        .take(LISTED)
        .filter_map(|(at, who, age)| {
            let mount = worker.mounts.get(at.mount)?;
            Some(InFlight {
                path: Bytes::from(&*mount.entry(&at.key)),
                mount_point: Bytes(mount.map.mount_point.clone()),
                age: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
                pid: who.tgid,
                uid: who.uid,
                comm: i32::try_from(who.tgid).map(procfs::name).unwrap_or_default(),
            })
        })
        .collect();
    worker.view(|engine| {
        for view in engine.mounts() {
            match view.state() {
                MountState::Attaching if view.id.is_top() => activity.attaching += 1,
                MountState::Leaving if view.id.is_top() => activity.detaching += 1,
                _ => {}
            }
            for entry in view.entries() {
                match entry.phase {
                    EntryPhase::Resolving | EntryPhase::Mounting => activity.mounting += 1,
                    EntryPhase::Unmounting | EntryPhase::Remounting => activity.unmounting += 1,
                    EntryPhase::Failed(..) | EntryPhase::Waiting | EntryPhase::Mounted | EntryPhase::Checking => {}
                }
            }
        }
    });
    activity
}

/// Returns the file systems that threads of the daemon wait for.
pub(super) fn hanging(worker: &Worker) -> Vec<Problem> {
    let problem = |(path, threads): (PathBuf, usize)| {
        let plural = if threads == 1 { "thread waits" } else { "threads wait" };
        let reason = format!("{SILENT}: {threads} {plural} for it");
        Problem { path: Bytes::from(&*path), place: None, reason, left: false }
    };
    worker.tools().lanes.hanging().into_iter().map(problem).collect()
}

/// Returns the state of the entry at or above a path.
///
/// # Errors
/// Returns `NoSuchMount` if the path is not below a mount point.
pub(super) async fn status_of(worker: &Rc<Worker>, path: &Bytes, asked: &Asked) -> Result<Answer, ControlError> {
    let no_such = || ControlError::NoSuchMount { path: path.clone() };
    let real = worker.state.borrow().real.translate(path.as_path());
    let (id, mount) = worker.mounts.serving(&real).ok_or_else(no_such)?;
    let key = mount.key_of(&real).filter(|key| mount.kind != engine::Kind::Indirect || !key.0.is_empty());
    let at = EntryId { mount: id, key: key.ok_or_else(no_such)? };
    let entry_path = mount.entry(&at.key);
    let mut status = PathStatus {
        path: Bytes::from(&*entry_path),
        mount_point: Bytes(mount.map.mount_point.clone()),
        maps: vec![Bytes(map_name(&mount.map.spec))],
        state: PathState::Idle,
        mounted_for: None,
        waiting: 0,
        negative_for: None,
        timeout: mount.map.timeout(),
        what: None,
        foreign: None,
        unreachable: mount.trouble.as_ref().map(|trouble| format!("the autofs mount cannot be reached: {trouble}")),
        reason: None,
        request: None,
    };
    let now = worker.life.now();
    worker.view(|engine| {
        status.negative_for = engine.negative_for(&at).map(|ms| ms.div_ceil(1000));
        let entry = engine.mount(id).and_then(|view| view.entries().find(|entry| *entry.key == at.key));
        let Some(entry) = entry else { return };
        status.state = match entry.phase {
            EntryPhase::Failed(..) => PathState::Failed,
            EntryPhase::Waiting => PathState::Idle,
            EntryPhase::Resolving | EntryPhase::Mounting => PathState::Mounting,
            EntryPhase::Mounted | EntryPhase::Checking => PathState::Mounted,
            EntryPhase::Unmounting | EntryPhase::Remounting => PathState::Unmounting,
        };
        status.waiting = entry.waiting as u64;
        status.mounted_for = entry.since.map(|since| now.since(since) / 1000);
        let attempt = entry.plan.and_then(|plan| PlanTree::from(&**plan).attempts.into_iter().next());
        status.what = attempt.map(|attempt| {
            [attempt.fstype, attempt.source, attempt.options].map(|word| Bytes(masked(&word.0).into_owned()))
        });
        status.reason = entry.reason.map(|reason| masked_text(&reason.message).into_owned());
    });
    let of_path = HistoryQuery { path: Some(status.path.clone()), ..HistoryQuery::default() };
    if let Ok(Some(history)) = timeout(HISTORY_TIMEOUT, worker.history.recorder().ask(query(of_path, asked.uid))).await
    {
        let is_it = |request: &crate::control::history::Request| {
            request.asked == Kind::Mount && request.path.0 == entry_path.as_os_str().as_bytes()
        };
        status.request = history.requests.into_iter().find(is_it);
    }
    if asked.uid != 0 {
        // It may contain what a program has said to another user's request.
        status.reason = None;
    }
    // While triggers are mounted in it, it counts as being unmounted.
    if matches!(status.state, PathState::Mounted | PathState::Unmounting) {
        let silent = silent(worker, &at).await;
        status.reason = silent.map(str::to_owned).or(status.reason);
    }
    if let Some(found) = foreign_at(worker, &at).await {
        let what = [&*found.fstype, &*masked(&found.source), b""].map(|word| Bytes(word.to_vec()));
        (status.what, status.foreign) = (Some(what), Some(found.foreign));
        (status.state, status.mounted_for) = (PathState::Mounted, None);
        return Ok(Answer::PathStatus(Box::new(status)));
    }
    let has_no_mount = matches!(status.state, PathState::Idle | PathState::Failed);
    if let Some(verdict) = has_no_mount.then(|| hidden(worker, &mount, &entry_path)).flatten() {
        let place = verdict.place.map(|place| format!(" ({place})")).unwrap_or_default();
        status.state = PathState::Hidden;
        status.reason = Some(verdict.answer + &place);
    } else if let Some(reason) = blocked(worker, &at).filter(|_| has_no_mount) {
        status.state = PathState::Blocked;
        status.reason = Some(reason);
    }
    Ok(Answer::PathStatus(Box::new(status)))
}
