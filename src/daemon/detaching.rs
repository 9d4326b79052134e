//! Unmounting: entries with all that stands on them, and autofs mounts themselves.

use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use log::{debug, error, info, warn};

use super::mounting;
use super::table::MountTable;
use super::worker::{Trigger, Worker, target};
use crate::engine::{Event, Key, Kind, Layer, MountId};
use crate::exec::dirs::Made;
use crate::exec::lanes::Lane;
use crate::sys::{autofs, mount, path};
use crate::text::Escaped;

/// How long the last look at what stays may take.
const LEAVE_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Unmounts the layers in their order, up to the first that does not go. Returns how many went.
///
/// An entry of which nothing is known has no layers: what is mounted there was not mounted by us, but it is to go.
pub(super) async fn unmount(worker: &Rc<Worker>, id: MountId, key: &Key, layers: Vec<Layer>, lazy: bool) -> usize {
    if layers.is_empty() {
        let at = worker.state.borrow().triggers.get(&id).map(|t| t.entry(key));
        if let Some(at) = at {
            unmount_entry(worker, id, key, &at, lazy).await;
        }
        return 0;
    }
    for (gone, layer) in layers.iter().enumerate() {
        let went = match layer {
            Layer::FileSystem { mount, key, path } => unmount_entry(worker, *mount, key, path, lazy).await,
            Layer::Trigger(id, _) => remove_trigger(worker, *id, lazy).await,
        };
        if !went {
            return gone;
        }
    }
    layers.len()
}

async fn unmount_entry(worker: &Rc<Worker>, mount: MountId, key: &Key, at: &Path, lazy: bool) -> bool {
    let (place, keep, context) = {
        let state = worker.state.borrow();
        let Some(place) = mounting::place(&state, mount, key) else { return true };
        let line = state.triggers.get(&mount).map(|t| Rc::clone(&t.line));
        let keep = line.is_some_and(|line| line.browse() && line.source.keys().contains(&key.0.to_vec()));
        (Arc::new(place), keep, Rc::clone(&state.context))
    };
    let (label, shown) = (target(at), Escaped::path(at));
    info!(target: &label, "expiring path {shown}");
    if let Err(e) = context.unmounter.unmount(&place, lazy).await {
        warn!(target: &label, "couldn't complete expire of {shown}: {e}");
        return false;
    }
    worker.state.borrow_mut().unmounted += 1;
    info!(target: &label, "umounting {shown} succeeded");
    if let Err(e) = context.unmounter.clear(&place, keep).await {
        debug!(target: &label, "cannot clear up after {shown}: {e}");
    }
    true
}

/// Unmounts a trigger or submount. False: it is in use.
pub(super) async fn remove_trigger(worker: &Rc<Worker>, id: MountId, lazy: bool) -> bool {
    let (lanes, at, dev) = {
        let mut state = worker.state.borrow_mut();
        let Some(trigger) = state.triggers.get(&id) else { return true };
        let found = (Arc::clone(&state.context.lanes), trigger.path.clone(), trigger.dev);
        state.leaving.insert(id);
        found
    };
    let gone = lanes.run(Lane::Umount, move || umount_trigger(&at, dev, lazy)).await;
    match gone {
        true => forget(worker, id).await,
        false => drop(worker.state.borrow_mut().leaving.remove(&id)),
    }
    gone
}

/// Takes note that a trigger is gone, and removes the directories that were made for it.
async fn forget(worker: &Rc<Worker>, id: MountId) {
    let (trigger, lanes) = {
        let mut state = worker.state.borrow_mut();
        state.unmounted += 1;
        (worker.unregister(&mut state, id), Arc::clone(&state.context.lanes))
    };
    let Some(Trigger { path, kind, created, .. }) = trigger else { return };
    let (label, shown) = (target(&path), Escaped::path(&path));
    match kind {
        Kind::Indirect => info!(target: &label, "umounting indirect mount {shown} succeeded"),
        Kind::Direct => info!(target: &label, "umounted direct mount {shown}"),
        Kind::Offset => info!(target: &label, "umounted offset mount {shown}"),
    }
    let mut left = std::mem::take(&mut worker.state.borrow_mut().left);
    left.push(created);
    left.retain(|made| !made.is_empty());
    if !left.is_empty() {
        // A directory above several mounts goes with the last of them.
        let remove = move || left.into_iter().map(Made::remove).collect::<Vec<_>>();
        let left = lanes.run(Lane::Umount, remove).await;
        worker.state.borrow_mut().left.extend(left.into_iter().filter(|made| !made.is_empty()));
    }
}

/// Unmounts an autofs mount, if it is the one on top at its path.
fn umount_trigger(at: &Path, dev: u32, lazy: bool) -> bool {
    match path::lstat(at) {
        // Something else has been mounted over it, and is not ours to unmount.
        Ok(there) if autofs::encode(there.dev) != dev => return false,
        Ok(_) => {}
        Err(e) => {
            debug!("{}: {e}", Escaped::path(at));
            return e.kind() == io::ErrorKind::NotFound;
        }
    }
    mount::unmount(at, lazy).map_err(|e| debug!("cannot unmount the trigger {}: {e}", Escaped::path(at))).is_ok()
}

/// Unmounts top-level autofs mounts, in the order of the list.
pub(super) async fn detach(worker: Rc<Worker>, leaving: Vec<(MountId, bool)>) {
    let (lanes, jobs) = {
        let state = worker.state.borrow();
        let known = |(id, lazy): &(MountId, bool)| Some((*id, state.triggers.get(id)?, *lazy));
        let jobs: Vec<_> =
            leaving.iter().filter_map(known).map(|(id, t, lazy)| (id, t.path.clone(), t.dev, lazy)).collect();
        (Arc::clone(&state.context.lanes), jobs)
    };
    let unmount = move || {
        let gone = |(id, path, dev, lazy): (MountId, PathBuf, u32, bool)| (id, umount_trigger(&path, dev, lazy));
        jobs.into_iter().map(gone).collect::<std::collections::HashMap<_, _>>()
    };
    let results = lanes.run(Lane::Umount, unmount).await;
    for (id, _) in leaving {
        let gone = results.get(&id).copied().unwrap_or(true);
        let path = worker.state.borrow().triggers.get(&id).map(|t| t.path.clone()).unwrap_or_default();
        let (label, shown) = (target(&path), Escaped::path(&path));
        if gone {
            forget(&worker, id).await;
            info!(target: &label, "shut down path {shown}");
        } else {
            worker.state.borrow_mut().leaving.remove(&id);
            error!(target: &label, "ask umount returned busy {shown}");
        }
        worker.event(Event::Detached { mount: id, gone });
    }
}

/// Leaves autofs mounts to whoever comes next: from now on a lookup of what is not mounted fails at once. Without
/// this the kernel would find out by the first packet that it cannot write, and its sender would die of SIGPIPE.
pub(super) async fn leave(worker: &Rc<Worker>, left: &[MountId]) {
    let (mounts, control) = {
        let state = worker.state.borrow();
        let tops: Vec<&Trigger> = left.iter().filter_map(|id| state.triggers.get(id)).collect();
        let below = |t: &&Trigger| tops.iter().any(|top| t.path.starts_with(&top.path));
        let mounts: Vec<_> = state.triggers.values().filter(below).map(|t| (t.path.clone(), t.dev)).collect();
        (mounts, Arc::clone(&state.control))
    };
    for (path, _) in &mounts {
        warn!(target: &target(path), "can't shutdown: filesystem {} still busy", Escaped::path(path));
    }
    let leave = tokio::task::spawn_blocking(move || {
        for (path, dev) in mounts {
            if let Err(e) = control.open_mount(&path, dev).and_then(|root| control.catatonic(root.as_fd())) {
                debug!("{} stays as it is: {e}", Escaped::path(&path));
            }
        }
    });
    // The way to a mount may lead over a dead server.
    if tokio::time::timeout(LEAVE_WITHIN, leave).await.is_err() {
        warn!("some autofs mounts could not be reached and stay as they are");
    }
}

/// Unmounts lazily whatever is mounted at or below these paths: what `--force` asks for.
pub(super) async fn force(worker: &Rc<Worker>, paths: Vec<PathBuf>) {
    let lanes = Arc::clone(&worker.state.borrow().context.lanes);
    let unmount = move || -> io::Result<()> {
        let table = MountTable::read()?;
        for path in paths {
            let below: Vec<_> = table.below(&path).chain(table.at(&path)).collect();
            for there in below.iter().rev() {
                if let Err(e) = mount::unmount(&there.target, true) {
                    debug!("cannot unmount {}: {e}", Escaped::path(&there.target));
                }
            }
        }
        Ok(())
    };
    if let Err(e) = lanes.run(Lane::Umount, unmount).await {
        error!("cannot read the mount table: {e}");
    }
}
