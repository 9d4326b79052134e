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

use crate::daemon::life::Life;
use crate::daemon::mounts::Mounts;
use crate::daemon::mounts::table::MountTable;
use crate::daemon::requests::readable;
use crate::engine::MountId;
use crate::logging::target;
use crate::sys::mount_events::{Changes, MountEvents};
use crate::text::Escaped;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Watches the mount table for as long as the worker lives, and calls `vanished` for each autofs mount of ours that is not
/// in it any more.
pub(crate) async fn watch(mounts: Rc<Mounts>, life: Rc<Life>, vanished: impl Fn(MountId)) {
    let mut events = MountEvents::open();
    let mut restores = life.restores();
    loop {
        let now = life.restores();
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
            () = life.restored.notified() => {}
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

/// Compares the mount table with what we think is there.
async fn look(mounts: &Mounts, vanished: &impl Fn(MountId)) {
    let ours: Vec<(MountId, Arc<Path>, u32)> =
        mounts.filter_map(|id, mount| Some((id, Arc::clone(&mount.path), mount.dev)));
    let Ok(Ok(table)) = tokio::task::spawn_blocking(MountTable::read).await else { return };
    let there: HashSet<u32> = table.mounts().iter().filter(|m| m.autofs.is_some()).map(|m| m.dev).collect();
    for (id, path, dev) in ours {
        if there.contains(&dev) {
            continue;
        }
        // Unmounted by us meanwhile, or restored with another device, which the next packet shows.
        let still = mounts.get(id).is_some_and(|mount| mount.dev == dev);
        let elsewhere = table.at(&path).iter().any(|m| m.autofs.is_some());
        if still && !elsewhere && !mounts.is_leaving(id) {
            warn!(target: &target(&path), "{} was unmounted by somebody else", Escaped::path(&path));
            vanished(id);
        }
    }
}
