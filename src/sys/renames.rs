//! Notifications of renamed directories: inotify(7).

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno as Os;
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

/// The source of notifications: wait until it is readable, then call [`Renames::drain`].
#[derive(Debug)]
pub struct Renames(OwnedFd);

impl Renames {
    /// Opens a source that watches nothing yet.
    ///
    /// # Errors
    /// Returns the errors of inotify_init1(2).
    pub fn open() -> io::Result<Self> {
        Ok(Self(init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?))
    }

    /// Watches an open directory. That one above it is renamed is not reported. A watch keeps no file system from being unmounted.
    ///
    /// # Errors
    /// Returns the errors of inotify_add_watch(2). ENOSPC: too many directories are watched on this machine.
    pub fn watch(&self, directory: BorrowedFd<'_>) -> io::Result<()> {
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        add_watch(&self.0, path, WatchFlags::MOVE_SELF | WatchFlags::ONLYDIR)?;
        Ok(())
    }

    /// Takes all notifications that have come. Which directory it was does not matter.
    ///
    /// # Errors
    /// Returns the errors of read(2).
    pub fn drain(&self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match nix::unistd::read(&self.0, &mut buffer) {
                Ok(1..) | Err(Os::EINTR) => {}
                Ok(0) | Err(Os::EAGAIN) => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl AsFd for Renames {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::sys::path;

    #[test]
    fn a_watched_directory_that_is_renamed_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a", "b"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        let renames = Renames::open().unwrap();
        renames.watch(path::open(&at("a")).unwrap().as_fd()).unwrap();
        let reported = || {
            let readable =
                poll(&mut [PollFd::new(renames.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1;
            renames.drain().unwrap();
            readable
        };
        std::fs::rename(at("b"), at("c")).unwrap();
        std::fs::create_dir(at("a/below")).unwrap();
        assert!(!reported());
        std::fs::rename(at("a"), at("d")).unwrap();
        assert!(reported() && !reported());
    }
}
