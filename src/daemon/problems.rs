//! Lists what is not served now, for `autofsctl status`, `explain` and `reload`, and for the history.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::control::history::EventKind;
use crate::control::{Bytes, Place, Problem};
use crate::daemon::maps;
use crate::daemon::mounts::AutofsMount;
use crate::daemon::reload::report::{Line, lines};
use crate::daemon::worker::Worker;
use crate::engine::{AbsentView, MountState};
use crate::map::table::NO_EFFECT;
use crate::text::Escaped;

/// Begins the part of a reason that says when a mount point is tried again.
pub(crate) const RETRIED_IN: &str = "; tried again in ";

/// Lists lines of the configuration and of the master map that are refused, maps that cannot be read, and mount points that cannot
/// be mounted.
pub(crate) fn problems(worker: &Worker) -> Vec<Problem> {
    let mut problems = refused(worker);
    problems.extend(unread_maps(worker));
    problems.extend(absent(worker));
    problems.extend(unreached(worker));
    problems
}

/// Lists the same and the mount points that no path leads to, each with the kind of event that it is.
pub(crate) fn all(worker: &Worker) -> Vec<(EventKind, Problem)> {
    let as_kind = |kind: EventKind, problems: Vec<Problem>| problems.into_iter().map(move |problem| (kind, problem));
    let refused = as_kind(EventKind::Refused, refused(worker));
    let unread = as_kind(EventKind::Source, unread_maps(worker));
    let in_trouble = as_kind(EventKind::Trouble, absent(worker)).chain(as_kind(EventKind::Trouble, troubled(worker)));
    refused.chain(unread).chain(in_trouble).collect()
}

fn refused(worker: &Worker) -> Vec<Problem> {
    let state = worker.state.borrow();
    let of_master = state.maps.master().map(|master| master.diagnostics.as_slice()).unwrap_or_default();
    state.rejected.iter().chain(of_master).filter_map(maps::problem_of).collect()
}

/// Lists the lines of the master map that have no effect, because an earlier line is for the same mount point. Nothing is wrong: sites
/// override lines of an included map so.
pub(crate) fn without_effect(worker: &Worker) -> Vec<Problem> {
    let state = worker.state.borrow();
    let of_master = state.maps.master().map(|master| master.diagnostics.as_slice()).unwrap_or_default();
    of_master.iter().filter(|diagnostic| diagnostic.code == NO_EFFECT).map(maps::as_problem).collect()
}

fn unread_maps(worker: &Worker) -> Vec<Problem> {
    lines(&worker.state.borrow().maps).iter().filter_map(unread).collect()
}

/// Returns a line as one that is not served, if its map could not be read.
pub(crate) fn unread(line: &Line) -> Option<Problem> {
    let why = line.unread.as_ref()?;
    let reason = if line.usable { format!("{why}; what it said before stays in force") } else { why.clone() };
    Some(Problem { path: Bytes(line.path.clone()), place: Some(Place::from(&line.place)), reason, left: false })
}

/// Returns problems for configured mount points that are not mounted.
pub(crate) fn absent(worker: &Worker) -> Vec<Problem> {
    let (state, now) = (worker.state.borrow(), worker.life.now());
    let places: BTreeMap<u32, Place> =
        state.maps.configured().map(|(map, place)| (map.number, Place::from(place))).collect();
    worker.view(|engine| {
        let problem = |absent: AbsentView<'_>| {
            let path = state.real.written(&absent.wanted.path).unwrap_or_else(|| Arc::clone(&absent.wanted.path));
            let why = match absent.reason {
                None => "it was unmounted from outside".to_owned(),
                Some(reason) => reason.message.lines().next().unwrap_or_default().to_owned(),
            };
            let again = absent
                .again
                .map_or(String::new(), |at| format!("{RETRIED_IN}{}s", at.0.saturating_sub(now.0).div_ceil(1000)));
            let place = places.get(&absent.wanted.map).cloned();
            Problem { path: Bytes::from(&*path), place, reason: why + &again, left: false }
        };
        engine.absent().map(problem).collect()
    })
}

/// Returns problems for mount points that are being attached, and that something on the way blocks.
fn unreached(worker: &Worker) -> Vec<Problem> {
    let state = worker.state.borrow();
    worker.view(|engine| {
        let attaching = engine.mounts().filter(|view| view.id.is_top() && view.state() == MountState::Attaching);
        let problem = |path: &Path| {
            let said = worker.mounts.failure(path)?;
            let reason = said.strip_prefix(&format!("{}: ", Escaped::path(path))).unwrap_or(&said).to_owned();
            let path = state.real.written(path).map_or_else(|| Bytes::from(path), |written| Bytes::from(&*written));
            Some(Problem { path, place: None, reason, left: false })
        };
        attaching.filter_map(|view| problem(view.path())).collect()
    })
}

/// Returns problems for mount points that are covered or were moved.
pub(crate) fn troubled(worker: &Worker) -> Vec<Problem> {
    if !worker.mounts.has_trouble() {
        return Vec::new();
    }
    let state = worker.state.borrow();
    let place =
        |number| state.maps.configured().find(|(map, _)| map.number == number).map(|(_, place)| Place::from(place));
    let troubles = |mount: &AutofsMount| Some((mount.path.clone(), mount.map.number, mount.trouble.clone()?));
    let problem = |(path, number, trouble): (Arc<std::path::Path>, u32, Arc<str>)| {
        let path = Bytes::from(&*state.real.written(&path).unwrap_or(path));
        Problem { path, place: place(number), reason: trouble.to_string(), left: false }
    };
    worker.mounts.filter_map(|_, mount| troubles(mount)).into_iter().map(problem).collect()
}
