//! Noticing that this process was frozen for a checkpoint, and whether it is another machine that it wakes up on.
//!
//! Nobody tells. But CRIU makes every poll(2) that waits in a dumped process fail with EINTR, in the copy as in the
//! original, and it makes every pipe anew. So a thread that no signal can reach waits for ever on a pipe of its own:
//! when the wait ends, somebody has dumped us, and when the pipe has another inode number, we are the copy. This costs
//! nothing while nothing happens. Clocks do not tell: CRIU makes CLOCK_MONOTONIC go on where it stopped.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::thread;

use tokio::sync::Notify;

use crate::sys::{fds, path, signals};

/// It does nothing but wait.
const STACK: usize = 64 << 10;

/// The pipe, and the thread that waits on it.
#[derive(Debug)]
pub(crate) struct Sentinel {
    pipe: Arc<(OwnedFd, OwnedFd)>,
    inode: Cell<u64>,
    /// Told whenever the wait has ended.
    pub(crate) woken: Arc<Notify>,
}

impl Sentinel {
    /// Begins to wait.
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
                    // We hold the write end and write nothing: so it was another pipe on which the wait began.
                    Ok(_) if inode_of(&waited.0) != inode_of(&waited.1) => return,
                    Ok(_) => {}
                    Err(_) => return,
                }
                tell.notify_one();
            }
        })?;
        Ok(Self { pipe, inode, woken })
    }

    /// Whether we were restored since the last time that this was asked.
    pub(crate) fn was_restored(&self) -> bool {
        let Some(now) = inode_of(&self.pipe.0) else { return false };
        self.inode.replace(now) != now
    }
}

fn inode_of(fd: &OwnedFd) -> Option<u64> {
    path::fstat(fd.as_fd()).ok().map(|found| found.ino)
}
