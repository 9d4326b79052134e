//! Detects that this process was dumped by CRIU, and whether it is the restored copy.
//!
//! CRIU does not notify the process. But every poll(2) in progress in a dumped process fails with EINTR, in the original as
//! well as in the copy, and the copy gets new pipes. So a thread with all signals blocked polls a private pipe forever. If the poll
//! ends, the process was dumped; if the pipe has another inode number, this is the copy. The thread costs nothing while it waits.
//! Clocks do not help, because CRIU restores CLOCK_MONOTONIC.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::thread;

use tokio::sync::Notify;

use crate::sys::{fds, path, signals};

/// Stack size of the thread, which only waits.
const STACK: usize = 64 << 10;

/// The pipe, and the thread that waits on it.
#[derive(Debug)]
pub(crate) struct Sentinel {
    pipe: Arc<(OwnedFd, OwnedFd)>,
    inode: Cell<u64>,
    /// Notified whenever the poll has ended.
    pub(crate) woken: Arc<Notify>,
}

impl Sentinel {
    /// Starts the thread.
    ///
    /// # Errors
    /// Returns an error if the pipe or the thread cannot be created.
    pub(crate) fn start() -> io::Result<Self> {
        let pipe = Arc::new(fds::pipe()?);
        let inode = Cell::new(path::fstat(pipe.0.as_fd())?.ino);
        let woken = Arc::new(Notify::new());
        let (waited, tell) = (Arc::clone(&pipe), Arc::clone(&woken));
        thread::Builder::new().name("sentinel".to_owned()).stack_size(STACK).spawn(move || {
            if signals::block().is_err() {
                return;
            }
            loop {
                match fds::poll([waited.0.as_fd()], None) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    // This process holds the write end and never writes, so the descriptors belong to different pipes now.
                    Ok(_) if inode_of(&waited.0) != inode_of(&waited.1) => return,
                    Ok(_) => {}
                    Err(_) => return,
                }
                tell.notify_one();
            }
        })?;
        Ok(Self { pipe, inode, woken })
    }

    /// Returns whether this process was restored since the last call.
    pub(crate) fn was_restored(&self) -> bool {
        let Some(now) = inode_of(&self.pipe.0) else { return false };
        self.inode.replace(now) != now
    }
}

fn inode_of(fd: &OwnedFd) -> Option<u64> {
    path::fstat(fd.as_fd()).ok().map(|found| found.ino)
}
