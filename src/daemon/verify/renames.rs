//! Watches the directories above our mount points. A renamed directory takes the mounts below it along, and is in no report of
//! mounts and unmounts.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::debug;

use super::{Heal, verify};
use crate::blocking;
use crate::daemon::readable;
use crate::daemon::worker::Worker;
use crate::exec;
use crate::sys::directory_events::{Change, DirectoryEvents};
use crate::sys::path;
use crate::text::Escaped;

/// Changes within this time count as one.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Minimum interval between two readings of the mount table because of renames.
const READ_INTERVAL: Duration = Duration::from_millis(500);

/// How often it is looked whether a mount that is not at its place, and was in use, can be mounted there.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Maximum number of directories that are watched.
const MOST: usize = 1024;

/// Watches as long as the worker runs. Not in containers: CRIU cannot dump the watches of every file system.
pub(crate) async fn watch(worker: Rc<Worker>) {
    if worker.tools().is_in_container() {
        return;
    }
    let mut kept = None;
    loop {
        let ways = worker.mounts.one_in_each_directory();
        let (renames, in_reach) = match blocking::run(move || begin(kept, &ways)).await {
            Ok(begun) => begun,
            Err(e) => return debug!("renamed directories are noticed late: {e}"),
        };
        if !in_reach {
            verify(&worker, Heal::Safely).await;
        }
        let waiting = match readable::register(renames) {
            Ok(waiting) => waiting,
            Err(e) => return debug!("renamed directories are noticed late: {e}"),
        };
        let again = async {
            if worker.mounts.has_trouble() {
                tokio::time::sleep(LOOK_AGAIN).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let look = tokio::select! {
            ready = waiting.readable() => match ready {
                Ok(_) => true,
                Err(_) => return,
            },
            () = worker.mounts.ways_changed() => false,
            () = again => true,
        };
        // Not registered in the reactor during the pause, because changes come in bursts.
        let renames = waiting.into_inner().0;
        tokio::time::sleep(if look { READ_INTERVAL } else { DEBOUNCE }).await;
        if renames.drain().is_err() {
            return;
        }
        if look {
            verify(&worker, Heal::Safely).await;
        }
        // The directory of a mount that is in use elsewhere may be renamed back.
        kept = worker.mounts.has_trouble().then_some(renames);
    }
}

/// Watches the directories above these mount points, besides those that `kept` watches. Also returns whether all mounts with
/// these device numbers (`st_dev`) are there. Does not wait for a file system: the directories above a mount are in the kernel's
/// cache, except on other machines.
///
/// # Errors
/// Returns the error of [`DirectoryEvents::open`].
fn begin(kept: Option<DirectoryEvents>, ways: &[(Arc<Path>, u64)]) -> io::Result<(DirectoryEvents, bool)> {
    let renames = kept.map_or_else(DirectoryEvents::open, Ok)?;
    let above = ways.iter().flat_map(|(path, _)| path.ancestors().skip(1)).filter(|path| path.parent().is_some());
    let directories: BTreeSet<&Path> = above.collect();
    for directory in directories.into_iter().take(MOST) {
        if let Err(e) =
            path::open_cached_exact(directory).and_then(|found| renames.watch(found.as_fd(), Change::Renamed))
        {
            debug!("that {} is renamed would be noticed late: {e}", Escaped::path(directory));
        }
    }
    let in_reach = ways.iter().all(|(path, dev)| exec::stands_at(path, *dev) == Some(true));
    Ok((renames, in_reach))
}
