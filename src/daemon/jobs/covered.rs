//! Unmounts autofs mounts that no path leads to, because something was mounted over a directory above them later.
//!
//! umount2(2) needs a path. In a copy of the mount namespace, what covers the mount is unmounted, which changes nothing outside.
//! There are two ways from there:
//!
//! 1. The mount below the autofs mount, in the copy, joins the propagation group of the original (Linux 5.15). An unmount in the
//!    copy then also unmounts the original, like any unmount that propagates. The original must be shared or a slave, and a path must
//!    lead to it.
//! 2. The directory below the autofs mount is removed in the copy and made again. The kernel unmounts everything that is mounted on a
//!    removed directory, in all mount namespaces (Linux 3.18). This is only done to a directory of root on a writable file system.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use log::{debug, info};

use crate::daemon::mounts::table::{MountTable, Mounted};
use crate::engine::Kind;
use crate::logging::target;
use crate::sys::autofs::{self, Control};
use crate::sys::{mount, mountinfo, namespace, path};
use crate::text::Escaped;

/// Maximum number of mounts that cover another one.
const MOST: usize = 32;

/// Unmounts a covered autofs mount, and sets copies of it catatonic. Does nothing to one that something is mounted on.
///
/// # Errors
/// `NotFound`: no such mount is covered. `ResourceBusy`: it is in use. Else the errors of the system calls. It is still mounted then.
pub(crate) fn unmount(control: &Control, kind: Kind, dev: u32) -> io::Result<()> {
    let is_it = |line: &&Mounted| line.dev == dev && line.autofs.is_some_and(|shown| shown.kind == kind);
    let table = MountTable::read()?;
    let line = table.hidden().iter().find(is_it).ok_or(io::ErrorKind::NotFound)?;
    if table.carries(line) {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    let below = table.below_it(line).and_then(|below| below.open_root().ok());
    let gone = || -> io::Result<bool> {
        let table = MountTable::read()?;
        Ok(!table.hidden().iter().chain(table.mounts()).any(|line| is_it(&line)))
    };
    namespace::in_private_copy(|| {
        let uncovered = Uncovered::find(is_it)?;
        let held = mount::hold_by_copy(uncovered.open(dev)?.as_fd());
        match below.as_ref().map(|below| uncovered.unmount_with(below.as_fd())) {
            Some(Ok(())) => {}
            Some(Err(e)) if e.kind() == io::ErrorKind::ResourceBusy => return Err(e),
            _ => uncovered.remove(dev)?,
        }
        if let Some(Err(e)) = held.ok().map(|(root, _)| control.catatonic(root.as_fd())) {
            debug!("copies of {} cannot be set catatonic: {e}", Escaped::path(&uncovered.at));
        }
        Ok(())
    })?;
    if !gone()? {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    info!(target: &target(&line.target), "unmounted {}, which was covered", Escaped::path(&line.target));
    Ok(())
}

/// An autofs mount in a copy of the mount namespace, where nothing covers it.
struct Uncovered {
    at: PathBuf,
    /// The directory that holds the mount point.
    dir: OwnedFd,
    /// The root of the mount that it is mounted on.
    below: OwnedFd,
}

impl Uncovered {
    /// Unmounts everything that covers the mount that `is_it` selects. To be called in a private copy of the mount namespace.
    fn find(is_it: impl Fn(&&Mounted) -> bool) -> io::Result<Self> {
        for _ in 0..MOST {
            let text = mountinfo::read_of(namespace::thread())?;
            let table = MountTable::of(mountinfo::parse(&text).map(Mounted::from).collect());
            let cover = match table.mounts().iter().find(&is_it) {
                Some(line) => match table.at(&line.target).last().filter(|top| top.id != line.id) {
                    Some(top) => top,
                    None => return Self::open_in(&table, line),
                },
                None => {
                    let line = table.hidden().iter().find(&is_it).ok_or(io::ErrorKind::NotFound)?;
                    table.cover(line).ok_or(io::ErrorKind::NotFound)?
                }
            };
            mount::detach(cover.open_root()?.as_fd())?;
        }
        Err(io::Error::other("too many mounts cover it"))
    }

    fn open_in(table: &MountTable, line: &Mounted) -> io::Result<Self> {
        let below = table.below_it(line).ok_or(io::ErrorKind::NotFound)?;
        let dir = path::open_exact(line.target.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
        Ok(Self { at: line.target.clone(), dir, below: below.open_root()? })
    }

    fn name(&self) -> &Path {
        Path::new(self.at.file_name().unwrap_or_default())
    }

    /// Opens the mount after it has proved to be the one with this device number.
    fn open(&self, dev: u32) -> io::Result<OwnedFd> {
        let top = path::open_at_nofollow(self.dir.as_fd(), self.name())?;
        let is_it = path::fstat(top.as_fd())?.dev == autofs::decode(dev);
        is_it.then_some(top).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Unmounts it, and with it the one on `original`, whose copy it is mounted on.
    fn unmount_with(&self, original: BorrowedFd<'_>) -> io::Result<()> {
        mount::join_group(original, self.below.as_fd())?;
        mount::unmount(self.dir.as_fd(), self.name(), false)
    }

    /// Removes the directory that it is mounted on, and makes another one like it.
    fn remove(&self, dev: u32) -> io::Result<()> {
        mount::detach(self.open(dev)?.as_fd())?;
        let was = path::lstat_at(self.dir.as_fd(), self.name())?;
        if !was.is_dir() || (was.uid, was.gid) != (0, 0) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        path::rmdir_at(self.dir.as_fd(), self.name())?;
        path::mkdir_at(self.dir.as_fd(), self.name())?;
        path::chmod_dir_at(self.dir.as_fd(), self.name(), was.mode & 0o7777)
    }
}
