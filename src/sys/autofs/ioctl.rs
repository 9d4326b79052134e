//! Arguments and system calls of the autofs ioctls.

use std::ffi::{c_int, c_ulong};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use autofs_sys::*;
use nix::errno::Errno as Os;
use nix::request_code_readwrite;

/// Returns the head of the argument of a `/dev/autofs` ioctl: `size` bytes in all, about `root` if one is given.
pub(super) fn head(root: Option<BorrowedFd<'_>>, size: usize) -> autofs_dev_ioctl {
    autofs_dev_ioctl {
        ver_major: AUTOFS_DEV_IOCTL_VERSION_MAJOR,
        ver_minor: AUTOFS_DEV_IOCTL_VERSION_MINOR,
        size: u32::try_from(size).unwrap_or(u32::MAX),
        ioctlfd: root.map_or(-1, |fd| fd.as_raw_fd()),
        ..autofs_dev_ioctl::default()
    }
}

/// Calls an ioctl of a root that takes a number.
pub(super) fn root_arg(root: BorrowedFd<'_>, request: libc::Ioctl, argument: c_ulong) -> io::Result<()> {
    // SAFETY: the callers pass requests whose argument is a number, or nothing.
    Os::result(unsafe { libc::ioctl(root.as_raw_fd(), request, argument) })?;
    Ok(())
}

/// Calls an ioctl of a root that returns an int.
pub(super) fn root_get(root: BorrowedFd<'_>, request: libc::Ioctl) -> io::Result<u32> {
    let mut value: c_int = 0;
    // SAFETY: the callers pass requests that write one int through the pointer, which is valid for the call.
    Os::result(unsafe { libc::ioctl(root.as_raw_fd(), request, &raw mut value) })?;
    Ok(value.unsigned_abs())
}

/// Sets the timeout of a root in seconds. Returns the previous one.
pub(super) fn root_timeout(root: BorrowedFd<'_>, seconds: u64) -> io::Result<u64> {
    let mut value = c_ulong::try_from(seconds).unwrap_or(c_ulong::MAX);
    let request = request_code_readwrite!(AUTOFS_IOCTL, AUTOFS_IOC_SETTIMEOUT_CMD, size_of::<c_ulong>());
    // SAFETY: SETTIMEOUT reads and writes one unsigned long through the pointer, which is valid for the call.
    Os::result(unsafe { libc::ioctl(root.as_raw_fd(), request, &raw mut value) })?;
    Ok(value as _)
}
