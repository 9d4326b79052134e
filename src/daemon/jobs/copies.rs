//! Sets copies of our unmounted autofs mounts in other mount namespaces catatonic.
//!
//! [`umount_trigger`](super::unmount_nested::umount_trigger) does this for each mount that it unmounts. It is not done for mounts
//! that others have unmounted, and for those that a worker had unmounted when it died. When the directory below such a mount is
//! removed, the kernel takes the copies out of all mount tables, and a lookup that waits in one cannot be answered any more. So
//! they are searched for before directories are removed.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use log::{debug, info};

use crate::daemon::attach::opener::{Opener, SHORT_OPEN_TIMEOUT};
use crate::daemon::mounts::Mounts;
use crate::daemon::mounts::table::{Mounted, seen_by};
use crate::daemon::tools::Tools;
use crate::exec::lanes::Lane;
use crate::sys::autofs::Control;
use crate::sys::{mountinfo, procfs};
use crate::text::Escaped;

/// Sets the copies catatonic that a mount of ours may have left since this was last done.
pub(crate) async fn silence(mounts: &Mounts, tools: &Tools) {
    if !mounts.may_have_left_copies() {
        return;
    }
    let (noted, pipes, control) = (mounts.noted_copies(), mounts.inodes(), Arc::clone(&tools.control));
    let mut opener = Opener::new(Arc::clone(&tools.blocked));
    match tools.lanes.run(Lane::Umount, move || silence_all(&control, &mut opener, &pipes)).await {
        Ok(()) => mounts.silenced_copies(noted),
        Err(e) => debug!("copies of autofs mounts in other mount namespaces cannot be set catatonic now: {e}"),
    }
}

/// Sets each autofs mount of another mount namespace catatonic that speaks through one of `pipes` (numbers by inode) and is not in
/// our mount table.
///
/// # Errors
/// Returns the error of reading our mount table, and the last error of setting a copy catatonic.
fn silence_all(control: &Control, opener: &mut Opener, pipes: &HashMap<u64, u32>) -> io::Result<()> {
    let is_live = |line: &Mounted| line.speaks_through(pipes).is_some();
    let others = procfs::one_process_of_each_mount_namespace().into_iter();
    let seen: Vec<_> = others.flat_map(|pid| seen_by(pid, is_live)).collect();
    if seen.is_empty() {
        return Ok(());
    }
    // Read after the others: a mount that is made meanwhile is in here, too.
    let table = mountinfo::read()?;
    let mut done: HashSet<u32> = mountinfo::parse(&table).map(|line| line.dev).collect();
    let mut failed = None;
    for (path, line) in seen {
        if !done.insert(line.dev) {
            continue;
        }
        let root = opener.open(&path, line.dev, SHORT_OPEN_TIMEOUT);
        match root.and_then(|root| control.catatonic(root.as_fd())) {
            Ok(()) => info!("a copy of {} in another mount namespace was set catatonic", Escaped::path(&line.target)),
            Err(e) => failed = Some(e),
        }
    }
    failed.map_or(Ok(()), Err)
}
