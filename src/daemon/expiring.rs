//! Expire runs: asking the kernel for what is unused.
//!
//! Each `EXPIRE` blocks until we have answered the packet that it causes, and takes a grace period of RCU: one at a
//! time makes 70 a second, sixteen at a time a thousand. The last one of a run finds nothing.

use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use log::debug;

use super::worker::{Worker, target};
use crate::engine::{Kind, MountId};
use crate::exec::lanes::{Lane, Lanes};
use crate::sys::autofs::{Control, Expired, How};
use crate::text::Escaped;

/// Expires at the same time below one mount.
const PARALLEL: usize = 16;

/// Runs until the kernel finds nothing more below `mount`.
pub(super) async fn run(worker: &Rc<Worker>, mount: MountId, immediate: bool) {
    let (control, path, dev, kind, lanes) = {
        let state = worker.state.borrow();
        let Some(trigger) = state.triggers.get(&mount) else { return };
        let (control, lanes) = (Arc::clone(&state.control), Arc::clone(&state.context.lanes));
        (control, trigger.path.clone(), trigger.dev, trigger.kind, lanes)
    };
    let how = if immediate { How::IMMEDIATE } else { How::NORMAL };
    debug!(target: &target(&path), "expire run on {}", Escaped::path(&path));
    let once = || one(Arc::clone(&lanes), Arc::clone(&control), path.clone(), dev, how);
    let mut expired = once().await;
    if kind != Kind::Indirect {
        return;
    }
    // There is something: look for more with as many as the lane has room for.
    while expired {
        let more = (0..PARALLEL).map(|_| tokio::task::spawn_local(once()));
        expired = false;
        for run in more.collect::<Vec<_>>() {
            expired |= run.await.unwrap_or(false);
        }
    }
}

/// Expires what there is until there is nothing, on one thread. True: there was something.
async fn one(lanes: Arc<Lanes>, control: Arc<Control>, path: PathBuf, dev: u32, how: How) -> bool {
    let expire = move || {
        let Ok(root) = control.open_mount(&path, dev) else { return false };
        let mut any = false;
        // Anything but success ends the run: nothing left, or this one is in use after all.
        while matches!(control.expire(root.as_fd(), how), Ok(Expired::One)) {
            any = true;
        }
        any
    };
    lanes.run(Lane::Expire, expire).await
}
