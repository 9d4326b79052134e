//! Looks whether the servers of FUSE mounts are alive, and unmounts what a dead one has left.

use std::sync::Arc;
use std::time::Duration;

use log::{debug, warn};

use super::Means;
use crate::engine::{EntryId, Requester};
use crate::plan::{Action, Plan};
use crate::text::Escaped;

/// Types that are certainly served by the kernel, a server of the network or both, and not by a process of this machine.
const OTHERS: [&[u8]; 18] = [
    b"bind",
    b"nfs",
    b"nfs4",
    b"cifs",
    b"smb3",
    b"tmpfs",
    b"ext2",
    b"ext3",
    b"ext4",
    b"xfs",
    b"btrfs",
    b"f2fs",
    b"vfat",
    b"squashfs",
    b"overlay",
    b"iso9660",
    b"ceph",
    b"lustre",
];

/// Returns whether a plan may mount a file system that a process of this machine serves. A map may call it by the name of its
/// helper, as `sshfs`.
pub(crate) fn may_be_served_here(plan: &Plan) -> bool {
    matches!(&plan.action, Action::Mount(mounts) if mounts.iter().any(|mount| !OTHERS.contains(&&*mount.fstype)))
}

/// Looks at the file system of an entry. If its server is dead, unmounts it lazily, so that the next access mounts it again.
/// Returns what is to be told of that. A server that does not answer is waited for; it takes no threads of another `server`.
pub(crate) async fn check(means: &Means, at: &EntryId, server: &[u8]) -> Option<String> {
    let tools = &means.tools;
    let place = Arc::new(means.mounts.place(at, Requester::default())?);
    let (look, path) = (Arc::clone(&place), place.path());
    // This thread is of our process group: the look is no use of the mount that would keep it from expiring.
    let is_dead = tools.lanes.run_inside(server, &path, Duration::MAX, move || look.has_dead_server()).await;
    if is_dead != Ok(true) {
        return None;
    }
    let shown = Escaped::path(&path);
    match tools.unmounter.unmount(&place, true).await {
        Ok(()) => {
            let message =
                format!("the server of {shown} has died: it is unmounted, and mounted again when it is accessed");
            warn!(target: &place.label, "{message}");
            Some(message)
        }
        Err(failure) => {
            debug!(target: &place.label, "the server of {shown} has died, and it stays mounted: {failure}");
            None
        }
    }
}
