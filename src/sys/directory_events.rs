//! Notifications of changes of directories: inotify(7).

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno as Os;
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

/// What is reported of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// An entry was made in it, or moved into it.
    NewEntry,
    /// It was renamed. That a directory above it is renamed is not reported.
    Renamed,
}

/// The source of notifications: wait until it is readable, then call [`DirectoryEvents::drain`].
#[derive(Debug)]
pub struct DirectoryEvents(OwnedFd);

impl DirectoryEvents {
    /// Opens a source that watches nothing yet.
    ///
    /// # Errors
    /// Returns the errors of inotify_init1(2).
    pub fn open() -> io::Result<Self> {
        Ok(Self(init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?))
    }

    /// Watches an open directory. A watch keeps no file system from being unmounted.
    ///
    /// # Errors
    /// Returns the errors of inotify_add_watch(2). ENOSPC: too many directories are watched on this machine.
    pub fn watch(&self, directory: BorrowedFd<'_>, change: Change) -> io::Result<()> {
        let flags = match change {
            Change::NewEntry => WatchFlags::CREATE | WatchFlags::MOVED_TO,
            Change::Renamed => WatchFlags::MOVE_SELF,
        };
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        add_watch(&self.0, path, flags | WatchFlags::ONLYDIR)?;
        Ok(())
    }

    /// Takes all notifications that have come. Which directory has changed does not matter.
    ///
    /// # Errors
    /// Returns the errors of read(2).
    pub fn drain(&self) -> io::Result<()> {
        drain(self.as_fd())
    }
}

impl AsFd for DirectoryEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Reads a nonblocking descriptor until nothing is left. ENOBUFS is no error: a socket reports by it that some notifications
/// are lost.
///
/// # Errors
/// Returns the other errors of read(2).
pub(super) fn drain(source: BorrowedFd<'_>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match nix::unistd::read(source, &mut buffer) {
            Ok(1..) | Err(Os::EINTR | Os::ENOBUFS) => {}
            Ok(0) | Err(Os::EAGAIN) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::sys::path;

    /// Watches a directory; the function that is returned tells whether something was reported since its last call.
    fn watch(directory: &Path, change: Change) -> impl Fn() -> bool + use<> {
        let events = DirectoryEvents::open().unwrap();
        events.watch(path::open(directory).unwrap().as_fd(), change).unwrap();
        move || {
            let readable = poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1;
            events.drain().unwrap();
            readable
        }
    }

    #[test]
    fn new_entries_are_reported_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("old"), "").unwrap();
        let reported = watch(dir.path(), Change::NewEntry);
        fs::write(at("old"), "x").unwrap();
        fs::remove_file(at("old")).unwrap();
        assert!(!reported());
        UnixListener::bind(at("new")).unwrap();
        assert!(reported() && !reported());
    }

    #[test]
    fn a_watched_directory_that_is_renamed_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a", "b"] {
            fs::create_dir(at(name)).unwrap();
        }
        let reported = watch(&at("a"), Change::Renamed);
        fs::rename(at("b"), at("c")).unwrap();
        fs::create_dir(at("a/below")).unwrap();
        assert!(!reported());
        fs::rename(at("a"), at("d")).unwrap();
        assert!(reported() && !reported());
    }
}
