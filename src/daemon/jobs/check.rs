//! Checks whether something is mounted at entries.

use std::sync::Arc;

use crate::daemon::mounts::Mounts;
use crate::daemon::mounts::table::MountTable;
use crate::daemon::tools::Tools;
use crate::engine::{EntryId, JobId, Requester};
use crate::exec::Place;
use crate::exec::lanes::Lane;

/// From this number of entries on, the mount table is read first, and only entries that it does not have are examined one by one.
const MANY: usize = 16;

/// Returns for each job whether something is mounted (or linked) at its entry.
pub(crate) async fn check(mounts: &Mounts, tools: &Tools, checks: Vec<(JobId, EntryId)>) -> Vec<(JobId, bool)> {
    let place = |(job, at)| (job, mounts.place(&at, Requester::default()).map(Arc::new));
    let places: Vec<(JobId, Option<Arc<Place>>)> = checks.into_iter().map(place).collect();
    let look = move || {
        let table = if places.len() < MANY { None } else { MountTable::read().ok() };
        let mounted = |place: &Arc<Place>| {
            table.as_ref().is_some_and(|table| table.has_mount(&place.path(), place.dev)) || place.is_mounted()
        };
        places.into_iter().map(|(job, place)| (job, place.as_ref().is_some_and(mounted))).collect::<Vec<_>>()
    };
    tools.lanes.run(Lane::Mount, look).await
}
