//! Detects that one of our autofs mounts was unmounted from outside.
//!
//! The kernel closes the write end of the pipe when a mount is gone, but not while a process has its root open, and not while
//! other mounts share the pipe. So the mount table is watched as well. It is read at most once per second, because every mount
//! of our own changes it, too.

use std::collections::HashSet;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, warn};

use crate::daemon::life::Life;
use crate::daemon::mounts::Mounts;
use crate::daemon::mounts::table::MountTable;
use crate::daemon::requests::readable;
use crate::engine::MountId;
use crate::logging::target;
use crate::sys::mount_events::{Changes, MountEvents};
use crate::text::Escaped;

/// Minimum interval between two readings of the mount table.
const PAUSE: Duration = Duration::from_secs(1);

/// Watches the mount table as long as the worker runs, and calls `vanished` for each of our autofs mounts that is no longer
/// in it.
pub(crate) async fn watch(mounts: Rc<Mounts>, life: Rc<Life>, vanished: impl Fn(MountId)) {
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
        let by_us = mounts.take_unmounted();
        let gone = match changes {
            Changes::Unknown => true,
            Changes::Gone(count) => count > by_us,
        };
        if gone {
            look(&mounts, &vanished).await;
        }
    }
}

/// Compares the mount table with our autofs mounts.
async fn look(mounts: &Mounts, vanished: &impl Fn(MountId)) {
    let ours: Vec<(MountId, Arc<Path>, u32)> =
        mounts.filter_map(|id, mount| Some((id, Arc::clone(&mount.path), mount.dev)));
    let Ok(Ok(table)) = tokio::task::spawn_blocking(MountTable::read).await else { return };
    let there: HashSet<u32> = table.mounts().iter().filter(|m| m.autofs.is_some()).map(|m| m.dev).collect();
    for (id, path, dev) in ours {
        if there.contains(&dev) {
            continue;
        }
        // It may have been unmounted by us meanwhile, or restored with another device number, which the next packet shows.
        let still = mounts.get(id).is_some_and(|mount| mount.dev == dev);
        let elsewhere = table.at(&path).iter().any(|m| m.autofs.is_some());
        if still && !elsewhere && !mounts.is_leaving(id) {
            warn!(target: &target(&path), "{} was unmounted from outside", Escaped::path(&path));
            vanished(id);
        }
    }
}
