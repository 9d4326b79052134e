//! The kernel's side of an autofs mount: mounting one, and everything that is said to it afterwards.
//!
//! Orders go through `/dev/autofs` (kernel: autofs-mount-control.rst). Where a container has no such device, the
//! older ioctls on the root directory do the same for all that a daemon needs that takes nothing over; each method
//! says what is lost. Who is not in the process group that owns the mount, and has no CAP_SYS_ADMIN, gets EACCES or
//! EPERM.
//!
//! A *root* is a file descriptor of the root directory of an autofs mount, open for reading. Hold none for long: it
//! makes the mount busy, and a direct mount never expires while two of them are open.

use std::ffi::{OsStr, c_int, c_ulong};
use std::io;
use std::mem::{offset_of, size_of};
use std::ops::BitOr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use autofs_sys::*;
use nix::errno::Errno as Os;
use nix::fcntl::{OFlag, open, openat};
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, fstat};
use nix::{request_code_none, request_code_read, request_code_readwrite, request_code_write};
use rustix::mount as fs;

use super::mount::{self, Target};
use super::path;
use crate::engine::{Errno, Kind, Token};

/// `f_type` of statfs(2) for autofs, also what [`Control::is_mountpoint`] gives (`<linux/magic.h>`).
pub const AUTOFS_SUPER_MAGIC: u32 = 0x187;

/// How an autofs file system is mounted, besides its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Seconds until an unused mount may expire; 0: never.
    pub timeout: u64,
    /// Lookups do not count as use.
    pub strictexpire: bool,
    /// Readers of the mount table are asked to leave it out. Silently dropped by kernels before 5.4.
    pub ignore: bool,
}

/// Which entries [`Control::expire`] looks for: one of these, or several joined by `|`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct How(u32);

impl How {
    /// Unused for the timeout.
    pub const NORMAL: Self = Self(AUTOFS_EXP_NORMAL);
    /// Not in use now, whatever the age.
    pub const IMMEDIATE: Self = Self(AUTOFS_EXP_IMMEDIATE);
    /// Also what is in use.
    pub const FORCED: Self = Self(AUTOFS_EXP_FORCED);
}

impl BitOr for How {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What [`Control::expire`] has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expired {
    /// One entry, and its packet was answered with READY. There may be more.
    One,
    /// No entry of that age that is not in use.
    Nothing,
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MountPoint {
    /// Device number of the file system, encoded as in a packet.
    pub dev: u32,
    /// Its magic number: [`AUTOFS_SUPER_MAGIC`] or another.
    pub magic: u32,
}

/// The door to the kernel's autofs: `/dev/autofs`, or its absence.
#[derive(Debug)]
pub struct Control(Option<OwnedFd>);

/// The argument of every `/dev/autofs` ioctl that names a path.
#[repr(C)]
struct WithPath {
    head: autofs_dev_ioctl,
    path: [u8; libc::PATH_MAX as usize],
}

const HEAD: usize = size_of::<autofs_dev_ioctl>();
const _: () = assert!(offset_of!(WithPath, path) == HEAD, "the path follows the head at once");

impl Control {
    /// Opens `/dev/autofs`. Where it does not exist or may not be used (containers), what is possible without it is
    /// done without it.
    ///
    /// # Errors
    /// Those of open(2), except the ones that mean that there is no device.
    pub fn open() -> io::Result<Self> {
        match open("/dev/autofs", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(device) => Ok(Self(Some(device))),
            Err(Os::ENOENT | Os::ENXIO | Os::ENODEV | Os::EPERM | Os::EACCES | Os::ENOTDIR) => Ok(Self(None)),
            Err(e) => Err(e.into()),
        }
    }

    /// A control that has no device, as in a container without one.
    pub const fn without_device() -> Self {
        Self(None)
    }

    /// Whether there is a `/dev/autofs`.
    pub const fn has_device(&self) -> bool {
        self.0.is_some()
    }

    /// Version of the device's interface, major and minor.
    ///
    /// # Errors
    /// `Unsupported` without a device.
    pub fn version(&self) -> io::Result<(u32, u32)> {
        let (head, _) = self.device(AUTOFS_DEV_IOCTL_VERSION_CMD, None, |_| ())?;
        Ok((head.ver_major, head.ver_minor))
    }

    /// Protocol version of a mount: 5.
    ///
    /// # Errors
    /// EACCES (device only): the caller is not in the process group that owns the mount.
    pub fn proto_version(&self, root: BorrowedFd<'_>) -> io::Result<u32> {
        if self.0.is_none() {
            return root_get(root, request_code_read!(AUTOFS_IOCTL, AUTOFS_IOC_PROTOVER_CMD, size_of::<c_int>()));
        }
        let (head, _) = self.device(AUTOFS_DEV_IOCTL_PROTOVER_CMD, Some(root), |_| ())?;
        // SAFETY: PROTOVER fills this member; all members are plain integers.
        Ok(unsafe { head.__bindgen_anon_1.protover.version })
    }

    /// Protocol subversion of a mount; 6 has timeouts for entries.
    ///
    /// # Errors
    /// As [`proto_version`](Self::proto_version).
    pub fn proto_subversion(&self, root: BorrowedFd<'_>) -> io::Result<u32> {
        if self.0.is_none() {
            return root_get(root, request_code_read!(AUTOFS_IOCTL, AUTOFS_IOC_PROTOSUBVER_CMD, size_of::<c_int>()));
        }
        let (head, _) = self.device(AUTOFS_DEV_IOCTL_PROTOSUBVER_CMD, Some(root), |_| ())?;
        // SAFETY: PROTOSUBVER fills this member; all members are plain integers.
        Ok(unsafe { head.__bindgen_anon_1.protosubver.sub_version })
    }

    /// Opens the root of the autofs mount with device number `dev` at `path`, even if something is mounted over it.
    /// Triggers nothing. Blocks if the caller is not in the owning group and the mount has a request open: then
    /// call it in a child that can be killed.
    ///
    /// # Errors
    /// ENOENT: no such autofs mount there. Without a device also where something is mounted over it.
    pub fn open_mount(&self, path: &Path, dev: u32) -> io::Result<OwnedFd> {
        if self.0.is_none() {
            let (root, found) = open_root(path)?;
            return if found == dev { Ok(root) } else { Err(Os::ENOENT.into()) };
        }
        let (head, _) =
            self.device_path(AUTOFS_DEV_IOCTL_OPENMOUNT_CMD, None, path.as_os_str().as_bytes(), |head| {
                head.__bindgen_anon_1.openmount = args_openmount { devid: dev };
            })?;
        // SAFETY: OPENMOUNT has succeeded, so ioctlfd is a new descriptor that nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(head.ioctlfd) })
    }

    /// Answers a request: done, look again.
    ///
    /// # Errors
    /// EINVAL: no such token on this mount; it was answered before, or catatonic took it.
    pub fn ready(&self, root: BorrowedFd<'_>, token: Token) -> io::Result<()> {
        let token = token.0.get();
        if self.0.is_none() {
            return root_arg(root, request_code_none!(AUTOFS_IOCTL, AUTOFS_IOC_READY_CMD), token.into());
        }
        self.device(AUTOFS_DEV_IOCTL_READY_CMD, Some(root), |head| {
            head.__bindgen_anon_1.ready = args_ready { token };
        })?;
        Ok(())
    }

    /// Answers a request: failed. The waiting system calls get `error`; without a device always ENOENT.
    ///
    /// # Errors
    /// EINVAL: no such token on this mount; it was answered before, or catatonic took it.
    pub fn fail(&self, root: BorrowedFd<'_>, token: Token, error: Errno) -> io::Result<()> {
        let token = token.0.get();
        if self.0.is_none() {
            return root_arg(root, request_code_none!(AUTOFS_IOCTL, AUTOFS_IOC_FAIL_CMD), token.into());
        }
        self.device(AUTOFS_DEV_IOCTL_FAIL_CMD, Some(root), |head| {
            head.__bindgen_anon_1.fail = args_fail { token, status: -error.number() };
        })?;
        Ok(())
    }

    /// Makes the caller's process group the owner of a catatonic mount, which speaks through `write_end` from now on.
    ///
    /// # Errors
    /// EBUSY: not catatonic. EINVAL: the old owner lived in another pid namespace. `Unsupported` without a device.
    pub fn set_pipe(&self, root: BorrowedFd<'_>, write_end: BorrowedFd<'_>) -> io::Result<()> {
        self.device(AUTOFS_DEV_IOCTL_SETPIPEFD_CMD, Some(root), |head| {
            head.__bindgen_anon_1.setpipefd = args_setpipefd { pipefd: write_end.as_raw_fd() };
        })?;
        Ok(())
    }

    /// Ends the service of a mount: all who wait get ENOENT, and so do all who ask later. What is mounted below goes
    /// on. No check of ownership: make sure that no living daemon owns it.
    ///
    /// # Errors
    /// EPERM without CAP_SYS_ADMIN.
    pub fn catatonic(&self, root: BorrowedFd<'_>) -> io::Result<()> {
        if self.0.is_none() {
            return root_arg(root, request_code_none!(AUTOFS_IOCTL, AUTOFS_IOC_CATATONIC_CMD), 0);
        }
        self.device(AUTOFS_DEV_IOCTL_CATATONIC_CMD, Some(root), |_| ())?;
        Ok(())
    }

    /// Sets the timeout of a mount in seconds (0: nothing expires by age) and gives the one before.
    ///
    /// # Errors
    /// EACCES (device only): the caller is not in the process group that owns the mount.
    pub fn set_timeout(&self, root: BorrowedFd<'_>, seconds: u64) -> io::Result<u64> {
        if self.0.is_none() {
            return root_timeout(root, seconds);
        }
        let (head, _) = self.device(AUTOFS_DEV_IOCTL_TIMEOUT_CMD, Some(root), |head| {
            head.__bindgen_anon_1.timeout = args_timeout { timeout: seconds };
        })?;
        // SAFETY: TIMEOUT fills this member; all members are plain integers.
        Ok(unsafe { head.__bindgen_anon_1.timeout.timeout })
    }

    /// Gives one entry of an indirect mount a timeout of its own, in seconds (0: never), or with `None` the mount's
    /// again. It is lost when the entry's directory goes.
    ///
    /// # Errors
    /// `Unsupported` without a device, or where the mount's protocol is older than 5.6. ENOENT: no such entry.
    pub fn set_entry_timeout(&self, root: BorrowedFd<'_>, entry: &[u8], seconds: Option<u64>) -> io::Result<()> {
        // Before 5.6 the name is not looked at, and the timeout of the whole mount is set.
        if self.0.is_none() || self.proto_subversion(root)? < 6 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.device_path(AUTOFS_DEV_IOCTL_TIMEOUT_CMD, Some(root), entry, |head| {
            head.__bindgen_anon_1.timeout = args_timeout { timeout: seconds.unwrap_or(u64::MAX) };
        })?;
        Ok(())
    }

    /// Real uid and gid of who last caused a mount on the direct or offset mount at `path`.
    ///
    /// # Errors
    /// ENOENT: `path` is no root of this mount, or nobody has. `Unsupported` without a device.
    pub fn requester(&self, root: BorrowedFd<'_>, path: &Path) -> io::Result<(u32, u32)> {
        let (head, _) =
            self.device_path(AUTOFS_DEV_IOCTL_REQUESTER_CMD, Some(root), path.as_os_str().as_bytes(), |_| ())?;
        // SAFETY: REQUESTER fills this member; all members are plain integers.
        let who = unsafe { head.__bindgen_anon_1.requester };
        Ok((who.uid, who.gid))
    }

    /// Looks for one entry to expire, and blocks until its packet was answered: never call it in the thread that
    /// answers. Several callers find several entries; each waits some milliseconds for RCU.
    ///
    /// # Errors
    /// The errno with which the packet was answered, EBUSY for example.
    pub fn expire(&self, root: BorrowedFd<'_>, how: How) -> io::Result<Expired> {
        let result = if self.0.is_none() {
            let mut bits = how.0 as c_int;
            let request = request_code_write!(AUTOFS_IOCTL, AUTOFS_IOC_EXPIRE_MULTI_CMD, size_of::<c_int>());
            // SAFETY: EXPIRE_MULTI reads an int through the pointer, which is valid for the call.
            Os::result(unsafe { libc::ioctl(root.as_raw_fd(), request, &mut bits) }).map_err(io::Error::from)
        } else {
            self.device(AUTOFS_DEV_IOCTL_EXPIRE_CMD, Some(root), |head| {
                head.__bindgen_anon_1.expire = args_expire { how: how.0 };
            })
            .map(|(_, result)| result)
        };
        match result {
            Ok(_) => Ok(Expired::One),
            Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => Ok(Expired::Nothing),
            Err(e) => Err(e),
        }
    }

    /// Whether the autofs mount itself could be unmounted.
    ///
    /// # Errors
    /// EACCES (device only): the caller is not in the process group that owns the mount.
    pub fn ask_umount(&self, root: BorrowedFd<'_>) -> io::Result<bool> {
        if self.0.is_none() {
            let request = request_code_read!(AUTOFS_IOCTL, AUTOFS_IOC_ASKUMOUNT_CMD, size_of::<c_int>());
            return Ok(root_get(root, request)? != 0);
        }
        let (head, _) = self.device(AUTOFS_DEV_IOCTL_ASKUMOUNT_CMD, Some(root), |_| ())?;
        // SAFETY: ASKUMOUNT fills this member; all members are plain integers.
        Ok(unsafe { head.__bindgen_anon_1.askumount.may_umount } != 0)
    }

    /// What is mounted at `path`: with a kind, the topmost autofs mount of that kind, also below other mounts; else
    /// whatever is on top. Triggers nothing, but blocks like [`open_mount`](Self::open_mount).
    ///
    /// # Errors
    /// Those of path lookup, except ENOENT, which is `None`. `Unsupported` without a device.
    pub fn is_mountpoint(&self, path: &Path, kind: Option<Kind>) -> io::Result<Option<MountPoint>> {
        let type_ = match kind {
            None => AUTOFS_TYPE_ANY,
            Some(Kind::Indirect) => AUTOFS_TYPE_INDIRECT,
            Some(Kind::Direct) => AUTOFS_TYPE_DIRECT,
            Some(Kind::Offset) => AUTOFS_TYPE_OFFSET,
        };
        let fill = |head: &mut autofs_dev_ioctl| {
            let r#in = args_ismountpoint__bindgen_ty_1_args_in { type_ };
            head.__bindgen_anon_1.ismountpoint.__bindgen_anon_1 = args_ismountpoint__bindgen_ty_1 { in_: r#in };
        };
        match self.device_path(AUTOFS_DEV_IOCTL_ISMOUNTPOINT_CMD, None, path.as_os_str().as_bytes(), fill) {
            Ok((_, 0)) => Ok(None),
            Ok((head, _)) => {
                // SAFETY: ISMOUNTPOINT fills this member; all members are plain integers.
                let out = unsafe { head.__bindgen_anon_1.ismountpoint.__bindgen_anon_1.out };
                Ok(Some(MountPoint { dev: out.devid, magic: out.magic }))
            }
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// One ioctl on `/dev/autofs` that names no path: the answer and the result.
    fn device(
        &self,
        command: u32,
        root: Option<BorrowedFd<'_>>,
        fill: impl FnOnce(&mut autofs_dev_ioctl),
    ) -> io::Result<(autofs_dev_ioctl, c_int)> {
        let mut head = head(root, HEAD);
        fill(&mut head);
        let result = self.call(command, &raw mut head)?;
        Ok((head, result))
    }

    /// One ioctl on `/dev/autofs` that names a path.
    fn device_path(
        &self,
        command: u32,
        root: Option<BorrowedFd<'_>>,
        path: &[u8],
        fill: impl FnOnce(&mut autofs_dev_ioctl),
    ) -> io::Result<(autofs_dev_ioctl, c_int)> {
        let mut with = WithPath { head: head(root, HEAD + path.len() + 1), path: [0; libc::PATH_MAX as usize] };
        if path.contains(&0) {
            return Err(Os::EINVAL.into());
        }
        // One less than there is room for: the last byte stays NUL.
        match with.path.get_mut(..path.len()) {
            Some(room) if path.len() < libc::PATH_MAX as usize => room.copy_from_slice(path),
            _ => return Err(Os::ENAMETOOLONG.into()),
        }
        fill(&mut with.head);
        let result = self.call(command, (&raw mut with).cast())?;
        Ok((with.head, result))
    }

    /// `argument` points to as many bytes as its head says.
    fn call(&self, command: u32, argument: *mut autofs_dev_ioctl) -> io::Result<c_int> {
        let Some(device) = &self.0 else { return Err(io::ErrorKind::Unsupported.into()) };
        let request = request_code_readwrite!(AUTOFS_IOCTL, command, HEAD);
        // SAFETY: both callers pass a live value of the size that its head says; the kernel writes no more than the
        // head back.
        Ok(Os::result(unsafe { libc::ioctl(device.as_raw_fd(), request, argument) })?)
    }
}

/// An autofs mount that was made.
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

/// Mounts an autofs at `target` that is owned by the caller's process group, speaks protocol 5 through `write_end` and
/// shows `source` in the mount table. Returns how it is known. Close `write_end` when the last mount on this pipe is made.
///
/// `guarded` tells whether only root can put something else at the target's name. If others can, the mount is attached by
/// descriptor (Linux 5.2), so that it goes to no other directory than the one that is open.
///
/// An indirect mount is complete, with its timeout, before it can be reached. Direct and offset mounts may be thousands, and
/// that would take 1.5 to 2 times the usual 10 microseconds for each, so their timeout is set a
/// moment later; until then it is 0, which means never. A packet may come before this returns, with a device number that
/// is not known yet: keep it until then.
///
/// # Errors
/// Those of mount(2): EBADF or EINVAL for something that is no write end of a pipe, ENODEV without autofs in the
/// kernel, EPERM, ENOENT, ENOTDIR for a symbolic link. Then nothing is mounted.
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
    // Only this process group walks through the root before a request is answered, so nothing covers it.
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let root = match openat(target.dir, target.name, flags, Mode::empty()) {
        Ok(root) => root,
        Err(e) => {
            // Too many open files, for example: a mount without a daemon would hang all who look at it.
            let _ = mount::unmount(target.dir, target.name, true);
            return Err(e.into());
        }
    };
    root_timeout(root.as_fd(), options.timeout)?;
    NewAutofs::of(root.as_fd())
}

/// The word for a kind among the mount options of autofs.
fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Indirect => "indirect",
        Kind::Direct => "direct",
        Kind::Offset => "offset",
    }
}

/// Version and subversion of the protocol that the kernel speaks, asked of an autofs that nobody sees; so it also tells
/// whether we may mount such file systems at all. `None`: before 5.2 that cannot be tried without being seen.
///
/// # Errors
/// ENODEV without autofs in the kernel, EPERM without the right to mount.
pub fn protocol(control: &Control) -> io::Result<Option<(u32, u32)>> {
    let (_read_end, write_end) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let mount = match create_unseen(write_end.as_fd()) {
        Err(rustix::io::Errno::NOSYS) => return Ok(None),
        other => other?,
    };
    // What fsmount gives is an O_PATH descriptor, which takes no ioctl.
    let root = openat(&mount, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    Ok(Some((control.proto_version(root.as_fd())?, control.proto_subversion(root.as_fd())?)))
}

fn create_unseen(write_end: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let context = fs::fsopen("autofs", fs::FsOpenFlags::FSOPEN_CLOEXEC)?;
    // As text: before 6.7 a descriptor as such is not understood.
    fs::fsconfig_set_string(&context, "fd", write_end.as_raw_fd().to_string())?;
    create(&context)
}

fn create(context: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    fs::fsconfig_create(context)?;
    fs::fsmount(context, fs::FsMountFlags::FSMOUNT_CLOEXEC, fs::MountAttrFlags::empty())
}

/// Makes a mount that is attached nowhere, and moves it to its place when it is complete (Linux 5.2).
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
    drop(root);
    // Without MOVE_MOUNT_T_SYMLINKS a symbolic link at the target's name is not followed.
    fs::move_mount(&mount, "", target.dir, target.name, fs::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(os)?;
    Ok(new)
}

/// The kernel's `new_encode_dev` of a device number: what packets and `/dev/autofs` say.
pub fn encode(dev: libc::dev_t) -> u32 {
    encode_parts(libc::major(dev), libc::minor(dev))
}

/// The device number of stat(2) for what packets and `/dev/autofs` say.
pub const fn decode(dev: u32) -> u64 {
    libc::makedev((dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00))
}

/// [`encode`] of a major and minor number, as the mount table has them.
pub const fn encode_parts(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

fn open_root(path: &Path) -> nix::Result<(OwnedFd, u32)> {
    let root = open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let dev = encode(fstat(&root)?.st_dev);
    Ok((root, dev))
}

fn head(root: Option<BorrowedFd<'_>>, size: usize) -> autofs_dev_ioctl {
    autofs_dev_ioctl {
        ver_major: AUTOFS_DEV_IOCTL_VERSION_MAJOR,
        ver_minor: AUTOFS_DEV_IOCTL_VERSION_MINOR,
        size: u32::try_from(size).unwrap_or(u32::MAX),
        ioctlfd: root.map_or(-1, |fd| fd.as_raw_fd()),
        ..autofs_dev_ioctl::default()
    }
}

/// A root ioctl that takes a number.
fn root_arg(root: BorrowedFd<'_>, request: libc::Ioctl, argument: c_ulong) -> io::Result<()> {
    // SAFETY: the callers pass requests whose argument is a number, or nothing.
    Os::result(unsafe { libc::ioctl(root.as_raw_fd(), request, argument) })?;
    Ok(())
}

/// A root ioctl that gives an int.
fn root_get(root: BorrowedFd<'_>, request: libc::Ioctl) -> io::Result<u32> {
    let mut value: c_int = 0;
    // SAFETY: the callers pass requests that write one int through the pointer, which is valid for the call.
    Os::result(unsafe { libc::ioctl(root.as_raw_fd(), request, &raw mut value) })?;
    Ok(value.unsigned_abs())
}

/// SETTIMEOUT: seconds in, the seconds before out.
fn root_timeout(root: BorrowedFd<'_>, seconds: u64) -> io::Result<u64> {
    let mut value = c_ulong::try_from(seconds).unwrap_or(c_ulong::MAX);
    let request = request_code_readwrite!(AUTOFS_IOCTL, AUTOFS_IOC_SETTIMEOUT_CMD, size_of::<c_ulong>());
    // SAFETY: SETTIMEOUT reads and writes one unsigned long through the pointer, which is valid for the call.
    Os::result(unsafe { libc::ioctl(root.as_raw_fd(), request, &raw mut value) })?;
    Ok(value as _)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_encoded_as_the_kernel_does() {
        assert_eq!(encode_parts(0, 56), 56);
        assert_eq!(encode_parts(8, 1), 0x801);
        assert_eq!(encode_parts(0, 0x655), 0x60_0055);
        assert_eq!(encode(nix::sys::stat::makedev(0, 0x655)), 0x60_0055);
    }

    #[test]
    fn paths_that_no_kernel_takes_are_refused_here() {
        let control = Control(Some(open("/dev/null", OFlag::O_RDONLY, Mode::empty()).unwrap()));
        let long = "/".repeat(libc::PATH_MAX as usize);
        assert_eq!(control.open_mount(Path::new(&long), 1).unwrap_err().raw_os_error(), Some(libc::ENAMETOOLONG));
        assert_eq!(control.open_mount(Path::new("/a\0b"), 1).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(control.open_mount(Path::new("/a"), 1).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
    }

    #[test]
    fn without_a_device_what_needs_it_says_so() {
        let control = Control::without_device();
        assert_eq!(control.version().unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert_eq!(control.is_mountpoint(Path::new("/"), None).unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert_eq!(control.open_mount(Path::new("/"), 1).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }
}
