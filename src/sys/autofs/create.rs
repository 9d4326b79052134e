//! Creating and mounting autofs file systems.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use autofs_sys::AUTOFS_PROTO_VERSION;
use nix::errno::Errno as Os;
use nix::fcntl::{OFlag, openat};
use nix::mount::MsFlags;
use nix::sys::stat::Mode;
use rustix::mount as fs;

use super::ioctl::root_timeout;
use super::{Control, Options, encode};
use crate::engine::Kind;
use crate::map::Propagation;
use crate::sys::mount::{self, Target};
use crate::sys::path;

/// Identity of a new autofs mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewAutofs {
    /// The device number, encoded as in packets.
    pub dev: u32,
    /// The mount id in the mount table; `None` before Linux 5.8.
    pub mount_id: Option<u32>,
}

impl NewAutofs {
    fn of(root: BorrowedFd<'_>) -> io::Result<Self> {
        let found = path::fstat(root)?;
        Ok(Self { dev: encode(found.dev), mount_id: found.mnt_id.and_then(|id| u32::try_from(id).ok()) })
    }
}

/// Mounts an autofs at `target`. The caller's process group owns it; it sends packets of protocol 5 to `write_end` and
/// shows `source` in the mount table. Close `write_end` after the last mount on this pipe.
///
/// `guarded` tells whether only root can put something else at the target's name. If others can, the mount is attached by
/// descriptor (Linux 5.2), so that it goes to no other directory than the one that is open.
///
/// An indirect mount has its timeout before it can be reached. That takes 1.5 to 2 times the usual 10 microseconds, and
/// there may be thousands of direct and offset mounts, so theirs is set after they are attached; until then it is 0, which
/// means never. A packet with an unknown device number may come before this function returns: keep it until then.
///
/// # Errors
/// Those of mount(2), with nothing mounted: EBADF or EINVAL if `write_end` is not a write end of a pipe, ENODEV without
/// autofs in the kernel, EPERM, ENOENT, ENOTDIR for a symbolic link.
pub fn mount_autofs(
    source: &OsStr,
    target: Target<'_>,
    guarded: bool,
    write_end: BorrowedFd<'_>,
    kind: Kind,
    options: Options,
) -> io::Result<NewAutofs> {
    if kind == Kind::Indirect || !guarded {
        match mount_complete(source, target, write_end, kind, options) {
            // Before 5.2, or forbidden by a filter that is older than these calls.
            Err(Os::ENOSYS | Os::EPERM | Os::EACCES | Os::EINVAL) => {}
            other => return Ok(other?),
        }
    }
    let mut data = format!(
        "fd={},pgrp={},minproto={AUTOFS_PROTO_VERSION},maxproto={AUTOFS_PROTO_VERSION},{}{}",
        write_end.as_raw_fd(),
        nix::unistd::getpgrp(),
        word(kind),
        if options.strictexpire { ",strictexpire" } else { "" },
    );
    let plain = data.len();
    if options.ignore {
        data.push_str(",ignore");
    }
    // mount(2) follows a symbolic link at the end of its path, so where one may appear it gets the directory itself.
    let held = if guarded { None } else { Some(path::open_dir_at(target.dir, target.name)?) };
    let at = match &held {
        Some(held) => Target { dir: held.as_fd(), name: Path::new(""), path: target.path },
        None => target,
    }
    .by_proc();
    let mount = |data: &str| nix::mount::mount(Some(source), &at, Some("autofs"), MsFlags::empty(), Some(data));
    match mount(&data) {
        // Kernels before 5.4 do not know the word.
        Err(Os::EINVAL) if options.ignore => mount(&data[..plain])?,
        other => other?,
    }
    // Before a request is answered, only this process group can enter the root, so it is not covered.
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let root = match openat(target.dir, target.name, flags, Mode::empty()) {
        Ok(root) => root,
        Err(e) => {
            // For example, too many open files. A mount that stays without a daemon would hang each lookup in it.
            let _ = mount::unmount(target.dir, target.name, true);
            return Err(e.into());
        }
    };
    root_timeout(root.as_fd(), options.timeout)?;
    set_propagation(root.as_fd(), options.propagation)?;
    NewAutofs::of(root.as_fd())
}

/// Returns the mount option of autofs for a kind.
fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Indirect => "indirect",
        Kind::Direct => "direct",
        Kind::Offset => "offset",
    }
}

/// Returns version and subversion of the kernel's protocol. They are asked of a detached autofs mount, so this also
/// checks the right to mount one. `None` before Linux 5.2, which has no detached mounts.
///
/// # Errors
/// ENODEV without autofs in the kernel, EPERM without the right to mount.
pub fn protocol(control: &Control) -> io::Result<Option<(u32, u32)>> {
    let (_read_end, write_end) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let mount = match create_detached(write_end.as_fd()) {
        Err(rustix::io::Errno::NOSYS) => return Ok(None),
        // A filter of system calls that is older than these calls forbids them.
        Err(rustix::io::Errno::PERM) if mount::may_mount() => return Ok(None),
        other => other?,
    };
    // fsmount returns an O_PATH descriptor, which takes no ioctl.
    let root = openat(&mount, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    Ok(Some((control.proto_version(root.as_fd())?, control.proto_subversion(root.as_fd())?)))
}

/// Creates a detached autofs mount with default options.
fn create_detached(write_end: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let context = fs::fsopen("autofs", fs::FsOpenFlags::FSOPEN_CLOEXEC)?;
    // As text: kernels before 6.7 do not take a descriptor here.
    fs::fsconfig_set_string(&context, "fd", write_end.as_raw_fd().to_string())?;
    create(&context)
}

/// Creates the file system of a context, and a detached mount of it.
fn create(context: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    fs::fsconfig_create(context)?;
    fs::fsmount(context, fs::FsMountFlags::FSMOUNT_CLOEXEC, fs::MountAttrFlags::empty())
}

/// Creates a detached mount, completes it, and moves it to the target (Linux 5.2).
fn mount_complete(
    source: &OsStr,
    target: Target<'_>,
    write_end: BorrowedFd<'_>,
    kind: Kind,
    options: Options,
) -> nix::Result<NewAutofs> {
    let os = |e: rustix::io::Errno| Os::from_raw(e.raw_os_error());
    let known = |e: io::Error| Os::from_raw(e.raw_os_error().unwrap_or(libc::EIO));
    let context = fs::fsopen("autofs", fs::FsOpenFlags::FSOPEN_CLOEXEC).map_err(os)?;
    let version = AUTOFS_PROTO_VERSION.to_string();
    let (fd, group) = (write_end.as_raw_fd().to_string(), nix::unistd::getpgrp().to_string());
    fs::fsconfig_set_string(&context, "source", source).map_err(os)?;
    for (key, value) in [("fd", &fd), ("pgrp", &group), ("minproto", &version), ("maxproto", &version)] {
        fs::fsconfig_set_string(&context, key, value.as_str()).map_err(os)?;
    }
    let flags = [(word(kind), true), ("strictexpire", options.strictexpire), ("ignore", options.ignore)];
    for (flag, _) in flags.into_iter().filter(|(_, wanted)| *wanted) {
        fs::fsconfig_set_flag(&context, flag).map_err(os)?;
    }
    let mount = create(&context).map_err(os)?;
    let root = openat(&mount, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    root_timeout(root.as_fd(), options.timeout).map_err(known)?;
    let new = NewAutofs::of(root.as_fd()).map_err(known)?;
    // Without MOVE_MOUNT_T_SYMLINKS a symbolic link at the target's name is not followed.
    fs::move_mount(&mount, "", target.dir, target.name, fs::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(os)?;
    // The kernel makes a mount shared that comes to be on a shared one, so this is too early before.
    set_propagation(root.as_fd(), options.propagation).map_err(known)?;
    Ok(new)
}

/// Sets how the autofs mount whose root is open passes mounts on. `None` leaves it as it is.
///
/// # Errors
/// Those of mount(2).
pub fn set_propagation(root: BorrowedFd<'_>, propagation: Option<Propagation>) -> io::Result<()> {
    propagation.map_or(Ok(()), |propagation| mount::set_propagation(root, propagation))
}
