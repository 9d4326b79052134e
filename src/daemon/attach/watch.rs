//! Noticing that somebody else has unmounted an autofs mount of ours.
//!
//! A mount with a pipe of its own tells by the end of the pipe, but not while somebody holds its root open, and one of
//! many direct mounts on a pipe does not tell at all. So the mount table is watched; and as it changes with every
//! mount that we make ourselves, not more than once a second.

use std::collections::HashSet;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, warn};

use crate::daemon::mounts::table::MountTable;
use crate::daemon::requests::readable;
use crate::daemon::worker::Worker;
use crate::engine::MountId;
use crate::logging::target;
use crate::sys::mount_events::{Changes, MountEvents};
use crate::text::Escaped;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Watches for as long as the worker lives.
pub(crate) async fn watch(worker: Rc<Worker>) {
    let mut events = MountEvents::open();
    let mut restores = worker.state.borrow().restores;
    loop {
        let now = worker.state.borrow().restores;
        if std::mem::replace(&mut restores, now) != now {
            // The mount namespace is another one.
            events = MountEvents::open();
        }
        let waiting = match events.and_then(readable::register) {
            Ok(waiting) => waiting,
            Err(e) => {
                warn!("mounts that others unmount are noticed late: {e}");
                return;
            }
        };
        tokio::select! {
            ready = waiting.readable() => if ready.is_err() {
                return;
            },
            () = worker.restored.notified() => {}
        }
        // Out of the reactor, which each unmount of our own would wake up.
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
        let by_us = worker.take_unmounted();
        let gone = match changes {
            Changes::Unknown => true,
            Changes::Gone(count) => count > by_us,
        };
        if gone {
            look(&worker).await;
        }
    }
}

/// Compares the mount table with what we think is there.
async fn look(worker: &Rc<Worker>) {
    let ours: Vec<(MountId, Arc<Path>, u32)> =
        worker.state.borrow().triggers.iter().map(|(id, t)| (*id, t.path.clone(), t.dev)).collect();
    let Ok(Ok(table)) = tokio::task::spawn_blocking(MountTable::read).await else { return };
    let there: HashSet<u32> = table.mounts().iter().filter(|m| m.autofs.is_some()).map(|m| m.dev).collect();
    for (id, path, dev) in ours {
        if there.contains(&dev) {
            continue;
        }
        // Unmounted by us meanwhile, or restored with another device, which the next packet shows.
        let still = worker.state.borrow().triggers.get(&id).is_some_and(|t| t.dev == dev);
        let elsewhere = table.at(&path).iter().any(|m| m.autofs.is_some());
        if still && !elsewhere && !worker.is_leaving(id) {
            warn!(target: &target(&path), "{} was unmounted by somebody else", Escaped::path(&path));
            worker.vanished(id);
        }
    }
}
