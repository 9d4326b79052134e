//! Waits for mounts and unmounts by others.
//!
//! The kernel closes the write end of the pipe when a mount is gone, but not while a process has its root open, and not while
//! other mounts share the pipe. So mount events are watched as well. The mount table is read at most once per second, and
//! not for mounts and unmounts of our own.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::warn;

use super::{Heal, verify};
use crate::blocking;
use crate::daemon::mounts::watch::Report;
use crate::daemon::readable;
use crate::daemon::worker::Worker;
use crate::engine::{Event, Kind};
use crate::sys::mount_id::{self, Place};

/// Minimum interval between two readings of the mount table.
const READ_INTERVAL: Duration = Duration::from_secs(1);

/// Begins to watch. The result watches for mount events as long as the worker runs, and verifies our mounts after those that
/// may concern them.
pub(crate) fn watch(worker: Rc<Worker>) -> impl Future<Output = ()> {
    let mut events = worker.mounts.watch.open();
    async move {
        let (life, watch) = (Rc::clone(&worker.life), &worker.mounts.watch);
        let mut restores = life.restores();
        loop {
            let now = life.restores();
            if std::mem::replace(&mut restores, now) != now {
                // After a restore, the mount namespace is a new one.
                events = worker.mounts.watch.reopen();
            }
            let waiting = match events.and_then(readable::register) {
                Ok(waiting) => waiting,
                Err(e) => {
                    warn!(
                        "cannot watch the mount table, so autofs mounts unmounted from outside are noticed late: {e}"
                    );
                    return;
                }
            };
            tokio::select! {
                ready = waiting.readable() => if ready.is_err() {
                    return;
                },
                () = watch.has_taken.notified() => {}
                () = life.restored.notified() => {}
            }
            // Not registered in the reactor meanwhile, because each unmount of our own would wake it up.
            events = Ok(waiting.into_inner().0);
            tokio::time::sleep(READ_INTERVAL).await;
            if is_concerned(&worker).await {
                verify(&worker, Heal::Safely).await;
                worker.event(Event::Retry);
            }
        }
    }
}

/// Looks at what was reported since the last time. Returns whether it may concern our mounts.
pub(super) async fn is_concerned(worker: &Worker) -> bool {
    let watch = &worker.mounts.watch;
    match watch.report() {
        Report::Nothing => false,
        Report::Come(doubt, come) => {
            let concerned = may_cover(worker, come).await;
            if !concerned {
                watch.dispel(doubt);
            }
            concerned
        }
        Report::Unknown(_) => true,
    }
}

/// Returns whether one of these new mounts is on an indirect mount of ours or above a mount of ours.
async fn may_cover(worker: &Worker, come: Vec<u64>) -> bool {
    let places = move || come.into_iter().map(mount_id::place).collect::<Vec<_>>();
    let places = blocking::run(places).await;
    let mut others: HashSet<PathBuf> = HashSet::new();
    for place in places {
        match place {
            // An autofs on an autofs mount point is most likely that mount itself.
            Place::At { path, autofs: true } if worker.view(|engine| engine.is_mount_point(&path)) => {}
            Place::At { path, .. } => drop(others.insert(path)),
            Place::Gone => {}
            Place::Unknown => return true,
        }
    }
    if others.is_empty() {
        return false;
    }
    let tops: Vec<(Arc<Path>, Kind)> =
        worker.mounts.filter_map(|id, mount| id.is_top().then(|| (mount.path.clone(), mount.kind)));
    let look = move || {
        // Paths of the mount table are compared by their bytes, which is many times as fast as by components.
        let others: HashSet<&OsStr> = others.iter().map(|path| path.as_os_str()).collect();
        let is_other = |path: &Path| others.contains(path.as_os_str());
        tops.iter()
            .any(|(path, kind)| *kind == Kind::Indirect && is_other(path) || path.ancestors().skip(1).any(is_other))
    };
    blocking::run(look).await
}
