//! Expire runs: ask the kernel to expire unused entries.
//!
//! Each `EXPIRE` ioctl expires at most one entry, blocks until the packet it causes is answered, and takes an RCU grace period:
//! one at a time expires 70 entries per second, sixteen at a time a thousand. The last ioctl of a run finds nothing.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;

use log::debug;

use crate::daemon::mounts::AutofsMount;
use crate::daemon::tools::Tools;
use crate::engine::Kind;
use crate::exec::lanes::{Lane, Lanes};
use crate::logging::target;
use crate::sys::autofs::{Control, Expired, How};
use crate::task;
use crate::text::Escaped;

/// Number of parallel expire requests for one mount.
const PARALLEL: usize = 16;

/// Expires entries of `mount` until the kernel finds nothing more.
pub(crate) async fn run(mount: &AutofsMount, tools: &Tools, immediate: bool) {
    let AutofsMount { path, dev, kind, .. } = mount;
    let how = if immediate { How::IMMEDIATE } else { How::NORMAL };
    debug!(target: &target(path), "expire run on {}", Escaped::path(path));
    let search = |most| search(Arc::clone(&tools.lanes), Arc::clone(&tools.control), Arc::clone(path), *dev, how, most);
    // Most runs find nothing, so begin with one thread.
    let mut found = search(1).await;
    while found && *kind == Kind::Indirect {
        let more = (0..PARALLEL).map(|_| task::spawn_local(search(usize::MAX)));
        found = false;
        for run in more.collect::<Vec<_>>() {
            found |= run.await.unwrap_or(false);
        }
    }
}

/// Expires up to `most` entries, one after the other, on one thread. Returns whether there was any.
async fn search(lanes: Arc<Lanes>, control: Arc<Control>, path: Arc<Path>, dev: u32, how: How, most: usize) -> bool {
    let expire = move || {
        let Ok(root) = control.open_mount(&path, dev) else { return false };
        // Any other result ends the run: nothing is left, or the entry is in use after all.
        let expired = |_: &usize| matches!(control.expire(root.as_fd(), how), Ok(Expired::One));
        (0..most).take_while(expired).count() > 0
    };
    lanes.run(Lane::Expire, expire).await
}
