//! Notices that the server of a FUSE mount has died. The kernel does not tell: every access fails with ENOTCONN until the file
//! system is unmounted.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use crate::control::history::EventKind;
use crate::daemon::jobs::{fuse, offsets};
use crate::daemon::worker::Worker;
use crate::engine::{EntryId, EntryPhase, Event, JobId};
use crate::task::spawn_local;

/// Servers that are waited for at most.
const HANGING: usize = 256;

/// Looks at FUSE mounts as long as the worker runs. Without such mounts it sleeps.
pub(crate) async fn watch(worker: Rc<Worker>) {
    let asked: Rc<RefCell<HashSet<EntryId>>> = Rc::default();
    loop {
        let period = worker.state.borrow().configuration.native.mount.fuse_check.0;
        let entries = if period == 0 { Vec::new() } else { mounted(&worker) };
        if entries.is_empty() {
            worker.served_in_user_space.notified().await;
            continue;
        }
        tokio::time::sleep(Duration::from_secs(period.into())).await;
        if worker.is_stopping() {
            return;
        }
        if worker.life.shown_rest().is_some() {
            // No mount is unmounted while the daemon waits for a checkpoint.
            continue;
        }
        for (at, made, server) in mounted(&worker) {
            // A server that hangs keeps one thread busy and delays no other check.
            let has_room = asked.borrow().len() < HANGING;
            if has_room && asked.borrow_mut().insert(at.clone()) {
                let (worker, asked) = (Rc::clone(&worker), Rc::clone(&asked));
                spawn_local(async move {
                    let died = fuse::check(&worker.means(), &at, &server).await;
                    asked.borrow_mut().remove(&at);
                    // Meanwhile it may have been mounted again.
                    if let Some(message) = died.filter(|_| worker.view(|engine| engine.has_mount(&at, made))) {
                        worker.history.event(EventKind::Trouble, message);
                        worker.event(Event::Unmount { at });
                    }
                });
            }
        }
    }
}

/// Returns the mounted entries that may be served by a process of this machine, each with its mount and what its file system depends
/// on.
fn mounted(worker: &Worker) -> Vec<(EntryId, JobId, Vec<u8>)> {
    worker.view(|engine| {
        let mut found = Vec::new();
        for mount in engine.mounts() {
            for entry in mount.entries() {
                let plan = entry.plan.filter(|plan| fuse::may_be_served_here(plan));
                if let (EntryPhase::Mounted, Some(plan)) = (entry.phase, plan) {
                    let at = EntryId { mount: mount.id, key: entry.key.clone() };
                    found.push((at, entry.made, offsets::server(plan)));
                }
            }
        }
        found
    })
}
