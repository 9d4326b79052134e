//! Lists what is not served now, for `autofsctl status`, `explain` and `reload`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::control::{Bytes, Place, Problem};
use crate::daemon::maps;
use crate::daemon::reload::compare::{Line, lines};
use crate::daemon::worker::Worker;
use crate::engine::AbsentView;

/// Lists lines of the configuration and of the master map that are refused, maps that cannot be read, and mount points that cannot
/// be mounted.
pub(crate) fn problems(worker: &Worker) -> Vec<Problem> {
    let mut problems: Vec<Problem> = {
        let state = worker.state.borrow();
        let of_master = state.maps.master().map(|master| master.diagnostics.as_slice()).unwrap_or_default();
        let of_lines = state.rejected.iter().chain(of_master).filter_map(maps::problem_of);
        of_lines.chain(lines(&state.maps).iter().filter_map(unread)).collect()
    };
    problems.extend(absent(worker));
    problems
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
                .map_or(String::new(), |at| format!("; tried again in {}s", at.0.saturating_sub(now.0).div_ceil(1000)));
            let place = places.get(&absent.wanted.map).cloned();
            Problem { path: Bytes::from(&*path), place, reason: why + &again, left: false }
        };
        engine.absent().map(problem).collect()
    })
}
