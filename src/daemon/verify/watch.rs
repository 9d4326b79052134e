//! Waits for mounts and unmounts by others.
//!
//! The kernel closes the write end of the pipe when a mount is gone, but not while a process has its root open, and not while
//! other mounts share the pipe. So mount events are watched as well. The mount table is read at most once per second, and
//! not for mounts and unmounts of our own.

use std::collections::HashSet;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, warn};

use super::{Heal, verify};
use crate::daemon::requests::readable;
use crate::daemon::worker::Worker;
use crate::engine::{Event, Kind};
use crate::sys::mount_events::{Changes, MountEvents};
use crate::sys::mount_id::{self, Place};

/// Minimum interval between two readings of the mount table.
const PAUSE: Duration = Duration::from_secs(1);

/// Watches for mount events as long as the worker runs, and verifies our mounts after those that may concern them.
pub(crate) async fn watch(worker: Rc<Worker>) {
    let life = Rc::clone(&worker.life);
    let mut events = MountEvents::open();
    let mut restores = life.restores();
    loop {
        let now = life.restores();
        if std::mem::replace(&mut restores, now) != now {
            // After a restore, the mount namespace is a new one.
            events = MountEvents::open();
        }
        let waiting = match events.and_then(readable::register) {
            Ok(waiting) => waiting,
            Err(e) => {
                warn!("cannot watch the mount table, so autofs mounts unmounted from outside are noticed late: {e}");
                return;
            }
        };
        tokio::select! {
            ready = waiting.readable() => if ready.is_err() {
                return;
            },
            () = life.restored.notified() => {}
        }
        // Not registered in the reactor meanwhile, because each unmount of our own would wake it up.
        let inner = waiting.into_inner().0;
        tokio::time::sleep(PAUSE).await;
        let changes = inner.drain();
        events = Ok(inner);
        let changes = match changes {
            Ok(changes) => changes,
            Err(e) => {
                debug!("cannot read mount events: {e}");
                continue;
            }
        };
        let by_us = worker.mounts.take_unmounted();
        let concerned = match changes {
            Changes::Unknown => true,
            Changes::Known(known) => known.gone > by_us || may_cover(&worker, known.come).await,
        };
        if concerned {
            verify(&worker, Heal::Safely).await;
            worker.event(Event::Retry);
        }
    }
}

/// Returns whether one of these new mounts is on an indirect mount of ours or above a mount of ours.
async fn may_cover(worker: &Worker, come: Vec<u64>) -> bool {
    if come.is_empty() {
        return false;
    }
    let tops: Vec<(Arc<Path>, Kind)> =
        worker.mounts.filter_map(|id, mount| id.is_top().then(|| (mount.path.clone(), mount.kind)));
    let look = move || {
        let mut above: HashSet<&Path> = HashSet::new();
        for (path, kind) in &tops {
            if *kind == Kind::Indirect {
                above.insert(path);
            }
            let _ = path.ancestors().skip(1).find(|at| !above.insert(at));
        }
        come.into_iter().any(|id| match mount_id::place(id) {
            // An autofs on an autofs mount point is most likely that mount itself.
            Place::At { path, autofs } => {
                above.contains(&*path) && !(autofs && tops.iter().any(|(top, _)| **top == *path))
            }
            Place::Gone => false,
            Place::Unknown => true,
        })
    };
    tokio::task::spawn_blocking(look).await.unwrap_or(true)
}
