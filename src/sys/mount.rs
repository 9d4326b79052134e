//! Mounts made, changed, moved and taken away by system call.
//!
//! What is acted on is given by descriptors: a mount point as an open directory and one name in it, a mount as a descriptor
//! that is open on it. So a user who can write to a directory on the way cannot lead a mount or an unmount elsewhere.
//! Calls that only take paths get `/proc/self/fd/N`, which the kernel resolves to the open directory itself. All
//! functions may wait for a file system, except a bind mount of an open source and a mount of a file system in memory.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_bind, mount_change,
    move_mount, open_tree,
};

use super::mount_flags::Flags;
use super::path;
use crate::map::Propagation;

/// A mount point: the entry `name` of the directory `dir`, or, if `name` is empty, the directory `dir` itself.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The directory, open at least with `O_PATH`.
    pub dir: BorrowedFd<'a>,
    /// One path component, or nothing.
    pub name: &'a Path,
    /// The absolute path of the mount point, for messages, and to find what was mounted on `dir` itself on kernels
    /// before 5.2.
    pub path: &'a Path,
}

impl Target<'_> {
    /// Returns a path that leads to the mount point by way of the open directory.
    pub(super) fn by_proc(&self) -> PathBuf {
        let mut path = fd_path(self.dir);
        if !self.name.as_os_str().is_empty() {
            path.push(self.name);
        }
        path
    }

    /// Opens what is mounted on top here.
    fn open_top(&self) -> io::Result<OwnedFd> {
        if self.name.as_os_str().is_empty() {
            path::open_exact(self.path)
        } else {
            path::open_at_nofollow(self.dir, self.name)
        }
    }
}

fn fd_path(fd: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

/// Mounts a file system that the kernel knows by itself. `data` holds the options of the file system, without the generic
/// flags.
///
/// # Errors
/// Those of mount(2).
pub fn mount(source: &[u8], target: Target<'_>, fstype: &[u8], flags: Flags, data: &[u8]) -> io::Result<()> {
    let data = CString::new(data)?;
    let data: Option<&CStr> = (!data.is_empty()).then_some(&data);
    let flags = MountFlags::from_bits_retain(u32::try_from(flags.0).map_err(|_| io::ErrorKind::InvalidInput)?);
    Ok(rustix::mount::mount(source, target.by_proc(), fstype, flags, data)?)
}

/// Mounts the open directory `source` at `target` as a bind mount, with these flags besides those of its source. The
/// flags hold from the first moment on (Linux 5.12). Does not wait.
///
/// # Errors
/// Those of open_tree(2), mount_setattr(2) and move_mount(2).
pub fn bind(source: BorrowedFd<'_>, target: Target<'_>, flags: Flags, propagation: Propagation) -> io::Result<()> {
    let empty = OpenTreeFlags::AT_EMPTY_PATH;
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = match open_tree(source, "", empty | clone) {
        Ok(tree) => tree,
        Err(e) if is_missing(e) => return bind_by_mount(source, target, flags, propagation),
        Err(e) => return Err(e.into()),
    };
    if !flags.is_empty() {
        let (set, clear) = flags.attributes();
        match set_attributes(&tree, &MountAttr { set, clear, propagation: 0, userns: 0 }) {
            // Linux 5.2 to 5.11 have the one call without the other.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                return bind_by_mount(source, target, flags, propagation);
            }
            done => done?,
        }
    }
    match attach(tree.as_fd(), target) {
        Err(e) if is_missing(e) => return bind_by_mount(source, target, flags, propagation),
        done => done?,
    }
    // Only now: a mount that is attached to a shared one becomes shared.
    let attr = MountAttr { set: 0, clear: 0, propagation: propagation_flag(propagation).bits().into(), userns: 0 };
    match set_attributes(&tree, &attr) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
            set_propagation(tree.as_fd(), propagation)
        }
        done => done,
    }
}

/// Returns whether a call of the newer mount interface is missing: in the kernel, or forbidden by a filter of system calls that is
/// older than it. If mounts are not permitted at all, the older call fails, too.
fn is_missing(error: Errno) -> bool {
    matches!(error, Errno::NOSYS | Errno::PERM)
}

/// Returns whether this process may mount file systems by mount(2).
pub fn may_mount() -> bool {
    // The kernel checks the right before it finds that the type is missing.
    let result = nix::mount::mount(None::<&str>, "/", None::<&str>, MsFlags::empty(), None::<&str>);
    result != Err(nix::errno::Errno::EPERM)
}

/// Copies the mount whose root `top` is open on to a mount that is in no mount table (Linux 5.2). Opens its root for ioctls. The
/// copy keeps the file system, but not the mount `top`, and ends with the two descriptors, of the root and of the copy.
///
/// # Errors
/// Those of open_tree(2) and open(2).
pub fn hold_by_copy(top: BorrowedFd<'_>) -> io::Result<(OwnedFd, OwnedFd)> {
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let copy = open_tree(top, "", OpenTreeFlags::AT_EMPTY_PATH | clone)?;
    let root = path::open_root(copy.as_fd())?;
    Ok((root, copy))
}

/// Attaches the mount whose root `tree` is open on. A symbolic link at the target's name is not followed.
fn attach(tree: BorrowedFd<'_>, target: Target<'_>) -> rustix::io::Result<()> {
    let mut how = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    if target.name.as_os_str().is_empty() {
        how |= MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    }
    move_mount(tree, "", target.dir, target.name, how)
}

/// Makes a bind mount by mount(2), on kernels before 5.12. There the flags come a moment after the mount.
fn bind_by_mount(source: BorrowedFd<'_>, target: Target<'_>, flags: Flags, how: Propagation) -> io::Result<()> {
    mount_bind(fd_path(source), target.by_proc())?;
    let top = target.open_top()?;
    if path::fstat(top.as_fd())?.dev != path::fstat(source)?.dev {
        return Err(io::ErrorKind::NotFound.into());
    }
    let change = || {
        if !flags.is_empty() {
            let flags = u32::try_from(flags.0 | libc::MS_BIND).map_err(|_| io::ErrorKind::InvalidInput)?;
            rustix::mount::mount_remount(fd_path(top.as_fd()), MountFlags::from_bits_retain(flags), "")?;
        }
        set_propagation(top.as_fd(), how)
    };
    change().inspect_err(|_| drop(detach(top.as_fd())))
}

/// Moves the mount whose root `top` is open on to `target`, where a symbolic link is not followed. The mount that it is
/// on now must be private (mount_namespaces(7)).
///
/// # Errors
/// Those of move_mount(2), or of mount(2) with `MS_MOVE` on kernels before 5.2.
pub fn move_to(top: BorrowedFd<'_>, target: Target<'_>) -> io::Result<()> {
    match attach(top, target) {
        Err(e) if is_missing(e) => Ok(rustix::mount::mount_move(fd_path(top), target.by_proc())?),
        done => Ok(done?),
    }
}

/// Adds the mount whose root `mount` is open on, which must be private, to the propagation group of the mount whose root `other` is
/// open on (Linux 5.15). Both must be of the same file system.
///
/// # Errors
/// Those of move_mount(2): EINVAL if `other` is private.
pub fn join_group(other: BorrowedFd<'_>, mount: BorrowedFd<'_>) -> io::Result<()> {
    let how = MoveMountFlags::MOVE_MOUNT_SET_GROUP
        | MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH
        | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(other, "", mount, "", how)?)
}

/// Sets the propagation type of the mount whose root `top` is open on.
///
/// # Errors
/// Those of mount(2).
pub fn set_propagation(top: BorrowedFd<'_>, propagation: Propagation) -> io::Result<()> {
    Ok(mount_change(fd_path(top), propagation_flag(propagation))?)
}

fn propagation_flag(propagation: Propagation) -> MountPropagationFlags {
    match propagation {
        Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::Shared => MountPropagationFlags::SHARED,
    }
}

/// `struct mount_attr` of linux/mount.h, version 0.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// Calls mount_setattr(2), Linux 5.12, on the mount whose root `tree` is open on.
fn set_attributes(tree: &OwnedFd, attr: &MountAttr) -> io::Result<()> {
    // SAFETY: the descriptor and both pointers live during the call; the size is the size of the third's target, which
    // the kernel only reads.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the mount whose root `top` is open on read-only; its file system stays as it is.
///
/// # Errors
/// Those of mount(2).
pub fn make_read_only(top: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::mount::mount_remount(fd_path(top), MountFlags::BIND | MountFlags::RDONLY, "")?)
}

/// Makes a mount writable again that [`make_read_only`] has made read-only.
///
/// # Errors
/// Those of mount(2).
pub fn make_writable(top: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::mount::mount_remount(fd_path(top), MountFlags::BIND, "")?)
}

/// Unmounts what is mounted on top at the entry `name` of the directory `dir`; a symbolic link is not followed. With
/// `lazy`, it disappears now and ends when it is no longer in use.
///
/// umount2(2) takes no descriptor, and an open descriptor on a mount keeps it busy. So the kernel gets the open directory
/// and one component, and a caller that must be sure compares the mount's identity first: between the two, only a user
/// who can write to `dir` could put another name there, and only something that is mounted in that directory.
///
/// # Errors
/// Those of umount2(2); see [`is_not_mounted`].
pub fn unmount(dir: BorrowedFd<'_>, name: &Path, lazy: bool) -> io::Result<()> {
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    let target = Target { dir, name, path: Path::new("") };
    Ok(rustix::mount::unmount(target.by_proc(), flags | UnmountFlags::NOFOLLOW)?)
}

/// The open directory from which a mount is unmounted by [`unmount`], for a call that may not return.
///
/// umount2(2) may wait for a server when the mount has left the mount table already. The open directory then keeps the mount
/// busy that it is on, which is the next one to be unmounted.
#[derive(Debug)]
pub struct UnmountDir(OwnedFd);

impl UnmountDir {
    /// Makes one of the open directory that holds the mount point.
    pub fn new(dir: OwnedFd) -> Self {
        Self(dir)
    }

    /// Unmounts as [`unmount`], not lazily.
    ///
    /// # Errors
    /// Those of umount2(2); see [`is_not_mounted`].
    pub fn unmount(&self, name: &Path) -> io::Result<()> {
        unmount(self.0.as_fd(), name, false)
    }

    /// Closes the directory while another thread is in [`unmount`](Self::unmount). The descriptor's number stays taken, by a file
    /// without entries: a call that has not read its path yet fails, and never finds another directory. May wait, if
    /// the directory is the last user of a mount.
    ///
    /// # Errors
    /// Those of memfd_create(2) and dup3(2).
    pub fn close(&self) -> io::Result<()> {
        let empty = rustix::fs::memfd_create("empty", rustix::fs::MemfdFlags::CLOEXEC)?;
        // SAFETY: the number belongs to this value as long as it lives, and stays open. It is used for paths only, so that
        // nothing depends on what it is open on.
        let result = unsafe { libc::dup3(empty.as_raw_fd(), self.0.as_raw_fd(), libc::O_CLOEXEC) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Detaches the mount whose root `top` is open on: it disappears now and ends when it is no longer in use.
///
/// # Errors
/// Those of umount2(2).
pub fn detach(top: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::mount::unmount(fd_path(top), UnmountFlags::DETACH)?)
}

/// Returns whether mount(2) has refused something for which mount(8) may know a way: a loop device, another type,
/// read-only.
pub fn is_refusal(e: &io::Error) -> bool {
    const REFUSALS: [i32; 6] = [libc::EPERM, libc::EACCES, libc::ENODEV, libc::ENOTBLK, libc::EINVAL, libc::EROFS];
    e.raw_os_error().is_some_and(|number| REFUSALS.contains(&number))
}

/// Returns whether an error of [`unmount`] means that nothing is mounted there.
pub fn is_not_mounted(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOENT))
}
