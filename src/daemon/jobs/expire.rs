//! Expire runs: asking the kernel for what is unused.
//!
//! Each `EXPIRE` blocks until we have answered the packet that it causes, and takes a grace period of RCU: one at a
//! time makes 70 a second, sixteen at a time a thousand. The last one of a run finds nothing.

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
use crate::text::Escaped;

/// Expires at the same time below one mount.
const PARALLEL: usize = 16;

/// Runs until the kernel finds nothing more to expire below `mount`.
pub(crate) async fn run(mount: &AutofsMount, tools: &Tools, immediate: bool) {
    let AutofsMount { path, dev, kind, .. } = mount;
    let how = if immediate { How::IMMEDIATE } else { How::NORMAL };
    debug!(target: &target(path), "expire run on {}", Escaped::path(path));
    let search = |most| search(Arc::clone(&tools.lanes), Arc::clone(&tools.control), Arc::clone(path), *dev, how, most);
    // Most runs find nothing, and one thread is enough to find that out.
    let mut found = search(1).await;
    while found && *kind == Kind::Indirect {
        let more = (0..PARALLEL).map(|_| tokio::task::spawn_local(search(usize::MAX)));
        found = false;
        for run in more.collect::<Vec<_>>() {
            found |= run.await.unwrap_or(false);
        }
    }
}

/// Expires up to `most` entries, one after the other, on one thread. True: there was something.
async fn search(lanes: Arc<Lanes>, control: Arc<Control>, path: Arc<Path>, dev: u32, how: How, most: usize) -> bool {
    let expire = move || {
        let Ok(root) = control.open_mount(&path, dev) else { return false };
        // Anything but success ends the run: nothing is left, or this one is in use after all.
        let expired = |_: &usize| matches!(control.expire(root.as_fd(), how), Ok(Expired::One));
        (0..most).take_while(expired).count() > 0
    };
    lanes.run(Lane::Expire, expire).await
}
