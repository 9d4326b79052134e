//! Tells the kernel the timeouts of single entries.

use log::debug;

use crate::daemon::mounts::Mounts;
use crate::daemon::tools::Tools;
use crate::engine::{EntryId, Kind};
use crate::plan::Plan;

/// Tells the kernel after what time without use an entry that was mounted is to be unmounted. Returns whether the kernel does not
/// keep the timeout that the entry has: it is older than protocol version 5.6. A direct mount has one entry, and so its own timeout.
/// Never waits.
pub(crate) fn tell(mounts: &Mounts, tools: &Tools, at: &EntryId, plan: &Plan) -> bool {
    let Some(seconds) = plan.timeout else { return false };
    let Some(mount) = mounts.get(at.mount) else { return false };
    // The root of a mount below a network file system may not be opened here.
    if mount.kind == Kind::Offset || mount.remote {
        return true;
    }
    let told = mounts.with_root(at.mount, |root| match mount.kind {
        Kind::Direct => tools.control.set_timeout(root, seconds).map(drop),
        _ => tools.control.set_entry_timeout(root, &at.key.0, Some(seconds)),
    });
    if let Err(error) = &told {
        debug!("the kernel does not keep the timeout of an entry: {error}");
    }
    told.is_err()
}

/// Tells the kernel that the directory of an entry, which stays, has no timeout of its own any more.
pub(super) fn take_back(mounts: &Mounts, tools: &Tools, at: &EntryId) {
    let Some(mount) = mounts.get(at.mount).filter(|mount| mount.kind != Kind::Offset && !mount.remote) else { return };
    // If the kernel keeps none, there is nothing to be taken back.
    let _ = mounts.with_root(at.mount, |root| match mount.kind {
        Kind::Direct => tools.control.set_timeout(root, mount.map.timeout()).map(drop),
        _ => tools.control.set_entry_timeout(root, &at.key.0, None),
    });
}
