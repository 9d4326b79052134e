//! Ioctls on an autofs mount.
//!
//! They go through `/dev/autofs` (kernel: autofs-mount-control.rst). A container may not have this device. Then the older
//! ioctls on the root directory are used, which suffice for all but a take-over; each method says what it cannot do
//! without the device. A caller outside of the process group that owns the mount gets EACCES or EPERM if it does not
//! have CAP_SYS_ADMIN.

use std::ffi::c_int;
use std::io;
use std::mem::{offset_of, size_of};
use std::ops::BitOr;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use autofs_sys::*;
use nix::errno::Errno as Os;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use nix::{request_code_none, request_code_read, request_code_readwrite, request_code_write};

use super::encode;
use super::ioctl::{head, root_arg, root_get, root_timeout};
use crate::engine::{Errno, Kind, Token};

/// Selects the entries that [`Control::expire`] looks for: one of these constants, or several joined by `|`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct How(u32);

impl How {
    /// Entries that were not used for the timeout.
    pub const NORMAL: Self = Self(AUTOFS_EXP_NORMAL);
    /// Entries that are not in use now, of any age.
    pub const IMMEDIATE: Self = Self(AUTOFS_EXP_IMMEDIATE);
    /// Entries in use, too.
    pub const FORCED: Self = Self(AUTOFS_EXP_FORCED);
}

impl BitOr for How {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Result of [`Control::expire`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expired {
    /// One entry was found, and its packet was answered with READY. There may be more.
    One,
    /// There is no such entry.
    Nothing,
}

/// The file system that is mounted at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MountPoint {
    /// Device number of the file system, encoded as in a packet.
    pub dev: u32,
    /// Its magic number, as [`AUTOFS_SUPER_MAGIC`](super::AUTOFS_SUPER_MAGIC).
    pub magic: u32,
}

/// Calls the ioctls of autofs, by `/dev/autofs` or, without this device, on the root directory.
#[derive(Debug)]
pub struct Control(Option<OwnedFd>);

/// Argument of a `/dev/autofs` ioctl that takes a path.
#[repr(C)]
struct WithPath {
    head: autofs_dev_ioctl,
    path: [u8; libc::PATH_MAX as usize],
}

const HEAD: usize = size_of::<autofs_dev_ioctl>();
const _: () = assert!(offset_of!(WithPath, path) == HEAD, "the path follows the head at once");

impl Control {
    /// Opens `/dev/autofs`. Returns a control without a device if it does not exist or may not be used (containers).
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

    /// Returns a control without a device, as in a container without one.
    pub const fn without_device() -> Self {
        Self(None)
    }

    /// Tells whether `/dev/autofs` is open.
    pub const fn has_device(&self) -> bool {
        self.0.is_some()
    }

    /// Returns the version of the device's interface, major and minor.
    ///
    /// # Errors
    /// `Unsupported` without a device.
    pub fn version(&self) -> io::Result<(u32, u32)> {
        let (head, _) = self.device(AUTOFS_DEV_IOCTL_VERSION_CMD, None, |_| ())?;
        Ok((head.ver_major, head.ver_minor))
    }

    /// Returns the protocol version of a mount: 5.
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

    /// Returns the protocol subversion of a mount; since 6 entries can have timeouts.
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
    /// Triggers nothing. Blocks if the caller is not in the process group that owns the mount and a request of the mount
    /// is open: then call it in a child that can be killed.
    ///
    /// # Errors
    /// ENOENT: no such autofs mount there. Without a device also if something is mounted over it.
    pub fn open_mount(&self, path: &Path, dev: u32) -> io::Result<OwnedFd> {
        if self.0.is_none() {
            let (root, found) = open_root(path)?;
            return if found == dev { Ok(root) } else { Err(Os::ENOENT.into()) };
        }
        let (head, _) =
            self.device_path(AUTOFS_DEV_IOCTL_OPENMOUNT_CMD, None, path.as_os_str().as_bytes(), |head| {
                head.__bindgen_anon_1.openmount = args_openmount { devid: dev };
            })?;
        // SAFETY: OPENMOUNT has succeeded, so ioctlfd is a new descriptor without another owner.
        Ok(unsafe { OwnedFd::from_raw_fd(head.ioctlfd) })
    }

    /// Answers a request with success: the waiting system calls continue.
    ///
    /// # Errors
    /// EINVAL: no such token on this mount. It was answered before, by this daemon or by [`catatonic`](Self::catatonic).
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

    /// Answers a request with a failure. The waiting system calls return `error`, without a device always ENOENT.
    ///
    /// # Errors
    /// EINVAL: no such token on this mount. It was answered before, by this daemon or by [`catatonic`](Self::catatonic).
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

    /// Makes the caller's process group the owner of a catatonic mount, which sends its packets to `write_end` from now on.
    ///
    /// # Errors
    /// EBUSY: the mount is not catatonic. EINVAL: the previous owner was in another pid namespace. `Unsupported` without a
    /// device.
    pub fn set_pipe(&self, root: BorrowedFd<'_>, write_end: BorrowedFd<'_>) -> io::Result<()> {
        self.device(AUTOFS_DEV_IOCTL_SETPIPEFD_CMD, Some(root), |head| {
            head.__bindgen_anon_1.setpipefd = args_setpipefd { pipefd: write_end.as_raw_fd() };
        })?;
        Ok(())
    }

    /// Makes a mount catatonic: all lookups that wait, and all later ones, return ENOENT. File systems that are mounted
    /// below stay. The kernel does not check the owner: make sure that no running daemon owns the mount.
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

    /// Sets the timeout of a mount in seconds (0: nothing expires by age). Returns the previous one.
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

    /// Sets the timeout of one entry of an indirect mount in seconds (0: never), or with `None` resets it to the mount's.
    /// It is lost when the directory of the entry is removed.
    ///
    /// # Errors
    /// `Unsupported` without a device, or if the mount's protocol is older than 5.6. ENOENT: no such entry.
    pub fn set_entry_timeout(&self, root: BorrowedFd<'_>, entry: &[u8], seconds: Option<u64>) -> io::Result<()> {
        // Before protocol 5.6 the kernel ignores the name and sets the timeout of the whole mount.
        if self.0.is_none() || self.proto_subversion(root)? < 6 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.device_path(AUTOFS_DEV_IOCTL_TIMEOUT_CMD, Some(root), entry, |head| {
            head.__bindgen_anon_1.timeout = args_timeout { timeout: seconds.unwrap_or(u64::MAX) };
        })?;
        Ok(())
    }

    /// Returns the real uid and gid of the process that last caused a mount on the direct or offset mount at `path`.
    ///
    /// # Errors
    /// ENOENT: `path` is not the root of this mount, or no process has. `Unsupported` without a device.
    pub fn requester(&self, root: BorrowedFd<'_>, path: &Path) -> io::Result<(u32, u32)> {
        let (head, _) =
            self.device_path(AUTOFS_DEV_IOCTL_REQUESTER_CMD, Some(root), path.as_os_str().as_bytes(), |_| ())?;
        // SAFETY: REQUESTER fills this member; all members are plain integers.
        let who = unsafe { head.__bindgen_anon_1.requester };
        Ok((who.uid, who.gid))
    }

    /// Looks for one entry to expire, and blocks until its packet was answered: do not call it in the thread that answers
    /// packets. Concurrent callers find different entries; each waits some milliseconds for RCU.
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

    /// Tells whether the autofs mount itself could be unmounted.
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

    /// Returns the file system at `path`: with a kind, the topmost autofs mount of that kind, even if it is covered by
    /// other mounts; without one, the topmost mount. Triggers nothing, but blocks like [`open_mount`](Self::open_mount).
    ///
    /// # Errors
    /// Those of path lookup; ENOENT is `None`. `Unsupported` without a device.
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

    /// Calls an ioctl of `/dev/autofs` that takes no path. Returns its argument after the call, and its result.
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

    /// Calls an ioctl of `/dev/autofs` that takes a path. Returns as [`device`](Self::device).
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
        // The last byte of the array stays NUL.
        match with.path.get_mut(..path.len()) {
            Some(room) if path.len() < libc::PATH_MAX as usize => room.copy_from_slice(path),
            _ => return Err(Os::ENAMETOOLONG.into()),
        }
        fill(&mut with.head);
        let result = self.call(command, (&raw mut with).cast())?;
        Ok((with.head, result))
    }

    /// Calls an ioctl of `/dev/autofs`. `argument` points to as many bytes as its head says.
    fn call(&self, command: u32, argument: *mut autofs_dev_ioctl) -> io::Result<c_int> {
        let Some(device) = &self.0 else { return Err(io::ErrorKind::Unsupported.into()) };
        let request = request_code_readwrite!(AUTOFS_IOCTL, command, HEAD);
        // SAFETY: both callers pass a live value of the size that its head says; the kernel writes no more than the
        // head back.
        Ok(Os::result(unsafe { libc::ioctl(device.as_raw_fd(), request, argument) })?)
    }
}

/// Opens the root of the topmost mount at a path. Returns it with its device number, encoded as in packets.
fn open_root(path: &Path) -> nix::Result<(OwnedFd, u32)> {
    let root = open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let dev = encode(fstat(&root)?.st_dev);
    Ok((root, dev))
}

#[cfg(test)]
mod tests {
    use super::*;

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
