//! Confines what programs may signal, by landlock(7).

use std::io;

/// `LANDLOCK_SCOPE_SIGNAL` of linux/landlock.h, Linux 6.12.
const SCOPE_SIGNAL: u64 = 1 << 1;

/// `struct landlock_ruleset_attr` of linux/landlock.h, as of Linux 6.12.
#[repr(C)]
struct Ruleset {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// Lets the calling thread, and the programs that it starts from now on, send signals only to each other. Nothing else is confined.
/// It cannot be undone.
///
/// # Errors
/// Returns those of `landlock_create_ruleset(2)`: E2BIG before Linux 6.12, ENOSYS or EOPNOTSUPP without Landlock. And those of
/// `landlock_restrict_self(2)`: EPERM without CAP_SYS_ADMIN.
pub fn keep_signals_inside() -> io::Result<()> {
    use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

    let ruleset = Ruleset { handled_access_fs: 0, handled_access_net: 0, scoped: SCOPE_SIGNAL };
    let (attributes, size) = (std::ptr::from_ref(&ruleset), size_of::<Ruleset>());
    // SAFETY: the kernel reads `size` bytes at the pointer, which lives during the call.
    let result = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, attributes, size, 0) };
    let fd = i32::try_from(result).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: a new descriptor that nothing else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: takes numbers only.
    match unsafe { libc::syscall(libc::SYS_landlock_restrict_self, fd.as_raw_fd(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;
    use nix::sys::signal::kill;
    use nix::unistd::Pid;

    #[test]
    fn a_confined_thread_signals_nobody_outside() {
        let mut outside = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(outside.id()).unwrap());
        let confined = std::thread::spawn(move || keep_signals_inside().map(|()| kill(pid, None))).join().unwrap();
        // Without the right or the kernel for it, nothing is confined.
        if let Ok(sent) = confined {
            assert_eq!(sent, Err(Errno::EPERM));
        }
        kill(pid, None).unwrap();
        outside.kill().unwrap();
        outside.wait().unwrap();
    }
}
