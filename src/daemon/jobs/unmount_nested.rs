//! Unmounts offset mounts and submounts.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use log::{debug, info};

use super::busy::Retry;
use super::{copies, covered};
use crate::daemon::attach::opener::Opener;
use crate::daemon::mounts::roots::find_root;
use crate::daemon::mounts::{AutofsMount, Mounts};
use crate::daemon::tools::Tools;
use crate::engine::{Kind, MountId};
use crate::exec::dirs::Made;
use crate::exec::lanes::Lane;
use crate::exec::{Failure, Unmounted, open_autofs_in, unmount_and_hold_autofs, unmount_autofs};
use crate::fault;
use crate::logging::target;
use crate::record::Record;
use crate::sys::autofs::{self, Control};
use crate::text::Escaped;

/// Unmounts an offset mount or a submount.
///
/// # Errors
/// Returns why it is still mounted.
pub(crate) async fn remove(mounts: &Mounts, tools: &Tools, id: MountId, lazy: bool) -> Result<(), Record> {
    remove_batch(mounts, tools, &[id], lazy, false).await.1.map_or(Ok(()), Err)
}

/// Unmounts offset mounts and submounts in this order until one fails. Returns the number unmounted and the error of the first
/// failure. At the end of the daemon (`at_exit`), one that is in use for a moment is tried again.
pub(super) async fn remove_batch(
    mounts: &Mounts,
    tools: &Tools,
    ids: &[MountId],
    lazy: bool,
    at_exit: bool,
) -> (usize, Option<Record>) {
    let known: Vec<Option<(Arc<Path>, Kind, u32)>> =
        ids.iter().map(|id| mounts.get(*id).map(|mount| (mount.path, mount.kind, mount.dev))).collect();
    for (id, known) in ids.iter().zip(&known) {
        mounts.begin_leaving(*id);
        if known.is_some() {
            mounts.watch.expect_unmount();
        }
    }
    let control = Arc::clone(&tools.control);
    let umount = move || {
        let mut copies = Copies::Silent;
        for (gone, mount) in known.iter().enumerate() {
            let Some((path, kind, dev)) = mount else { continue };
            let mut retry = Retry::begin(at_exit);
            let unmounted = loop {
                let unmounted = umount_trigger(&control, (path, None), (*kind, *dev), lazy, false);
                if unmounted.is_ok() || !retry.sleep() {
                    break unmounted;
                }
            };
            match unmounted {
                Ok(Copies::Silent) => {}
                Ok(Copies::Unknown) => copies = Copies::Unknown,
                Err(reason) => return (gone, copies, Some(reason)),
            }
        }
        (known.len(), copies, None)
    };
    let (gone, copies, reason) = tools.lanes.run(Lane::Umount, umount).await;
    if copies == Copies::Unknown {
        mounts.note_copies();
    }
    fault::point("trigger gone");
    let (left, stay) = ids.split_at(gone.min(ids.len()));
    forget(mounts, tools, left.iter().copied()).await;
    for id in stay.iter().filter(|id| mounts.get(**id).is_some()) {
        mounts.watch.unmount_failed();
        mounts.end_leaving(*id);
    }
    (gone, reason)
}

/// Removes autofs mounts that are gone from [`Mounts`], and removes the directories that were created for them.
pub(super) async fn forget(mounts: &Mounts, tools: &Tools, ids: impl IntoIterator<Item = MountId>) {
    let mut left = mounts.take_left_over();
    for id in ids {
        let Some((AutofsMount { path, kind, .. }, created, _)) = mounts.remove(id) else { continue };
        let (label, shown) = (target(&path), Escaped::path(&path));
        match kind {
            Kind::Indirect => info!(target: &label, "umounting indirect mount {shown} succeeded"),
            Kind::Direct => info!(target: &label, "umounted direct mount {shown}"),
            Kind::Offset => info!(target: &label, "umounted offset mount {shown}"),
        }
        left.push((path, created));
    }
    left.retain(|(_, made)| !made.is_empty());
    if !left.is_empty() {
        copies::silence(mounts, tools).await;
        let paths: Vec<Arc<Path>> = left.iter().map(|(path, _)| path.clone()).collect();
        let mut opener = Opener::new(Arc::clone(&tools.blocked));
        let kept = tools.lanes.run(Lane::Umount, move || remove_all(left, &mut opener)).await;
        mounts.record_removed(&paths, kept);
    }
}

/// Removes created directories. Returns those that cannot be removed yet: a directory above several mounts is removed with the
/// last of them, and the way to a directory may be blocked by a server that does not answer.
fn remove_all(mut left: Vec<(Arc<Path>, Made)>, opener: &mut Opener) -> Vec<(Arc<Path>, Made)> {
    loop {
        let before = left.len();
        let removed = left.into_iter().map(|(path, made)| {
            let made = match opener.directory(&path) {
                Err(e) if e.kind() == io::ErrorKind::TimedOut => made,
                dir => made.remove_by(path.parent().zip(dir.ok())),
            };
            (path, made)
        });
        left = removed.filter(|(_, made)| !made.is_empty()).collect();
        if left.is_empty() || left.len() == before {
            return left;
        }
    }
}

/// State of the copies of an unmounted autofs mount in other mount namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copies {
    /// They are catatonic.
    Silent,
    /// They may not be: others have unmounted the mount before, or the kernel is too old.
    Unknown,
}

/// Unmounts an autofs mount, unless something is mounted on it, and sets copies of it in other mount namespaces catatonic:
/// waiting and later lookups in them fail with ENOENT.
///
/// This cannot wait until a lookup in a copy sends a request. When the directory below the mount is removed, the kernel takes the
/// copies out of all mount tables, and the root that a lookup waits at is then out of reach.
///
/// `dir` is the directory that holds the mount point, if it is open.
///
/// With `lazy` or `at_exit`, the mount is set catatonic first. After a lazy unmount, it exists as long as a process is in it, but
/// its requests cannot be answered by path, so lookups in it would block forever. At exit the daemon stops serving it even if it
/// cannot be unmounted, and no copy of it has to be made.
///
/// # Errors
/// Returns why it is still mounted.
pub(crate) fn umount_trigger(
    control: &Control,
    (at, dir): (&Path, Option<BorrowedFd<'_>>),
    (kind, dev): (Kind, u32),
    lazy: bool,
    at_exit: bool,
) -> Result<Copies, Record> {
    let begun = Instant::now();
    let is_silent = (lazy || at_exit) && silence(control, (at, dir), (kind, dev));
    let unmounted = if lazy || is_silent {
        unmount_autofs(at, dir, kind, autofs::decode(dev), lazy).map(|()| Unmounted::default())
    } else {
        unmount_and_hold_autofs(at, dir, kind, autofs::decode(dev))
    };
    fault::point("unmounted");
    if matches!(unmounted, Err(Failure::Covered(_))) && covered::unmount(control, kind, dev).is_ok() {
        return Ok(Copies::Silent);
    }
    let unmounted = unmounted.map_err(|e| {
        debug!("cannot unmount the trigger {}: {e}", Escaped::path(at));
        e.record(begun.elapsed())
    })?;
    match unmounted.root().map(|root| control.catatonic(root)) {
        Some(Ok(())) => Ok(Copies::Silent),
        None if is_silent => Ok(Copies::Silent),
        None => Ok(Copies::Unknown),
        Some(Err(e)) => {
            debug!(target: &target(at), "copies of {} cannot be set catatonic: {e}", Escaped::path(at));
            Ok(Copies::Unknown)
        }
    }
}

/// Sets an autofs mount catatonic: waiting and later lookups fail with ENOENT. Returns whether it is. Errors are logged, and the
/// mount stays as it is.
pub(super) fn silence(control: &Control, (at, dir): (&Path, Option<BorrowedFd<'_>>), (kind, dev): (Kind, u32)) -> bool {
    let find = || find_root(control, at, dev, Some(kind))?.ok_or_else(|| io::ErrorKind::NotFound.into());
    let root = dir.and_then(|dir| open_autofs_in(dir, at, autofs::decode(dev))).map_or_else(find, Ok);
    let set = root.and_then(|root| control.catatonic(root.as_fd()));
    if let Err(e) = &set {
        debug!(target: &target(at), "{} cannot be set catatonic: {e}", Escaped::path(at));
    }
    set.is_ok()
}
