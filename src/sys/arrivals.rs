//! Notifications of new entries of a directory: inotify(7).

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno as Os;
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

/// The source of notifications: wait until it is readable, then call [`Arrivals::drain`].
#[derive(Debug)]
pub struct Arrivals(OwnedFd);

impl Arrivals {
    /// Watches an open directory.
    ///
    /// # Errors
    /// Returns the errors of inotify_init1(2) and inotify_add_watch(2).
    pub fn watch(directory: BorrowedFd<'_>) -> io::Result<Self> {
        let source = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        add_watch(&source, path, WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR)?;
        Ok(Self(source))
    }

    /// Takes all notifications that have come.
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

impl AsFd for Arrivals {
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
    fn new_entries_are_reported_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("old"), "").unwrap();
        let arrivals = Arrivals::watch(path::open(dir.path()).unwrap().as_fd()).unwrap();
        let reported = || {
            let readable =
                poll(&mut [PollFd::new(arrivals.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1;
            arrivals.drain().unwrap();
            readable
        };
        std::fs::write(dir.path().join("old"), "x").unwrap();
        std::fs::remove_file(dir.path().join("old")).unwrap();
        assert!(!reported());
        std::os::unix::net::UnixListener::bind(dir.path().join("new")).unwrap();
        assert!(reported() && !reported());
    }
}
