//! Unmounting: entries with all that stands on them, and autofs mounts themselves.

use std::collections::HashSet;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use log::{debug, error, info, warn};

use crate::daemon::attach::opener::{LITTLE_PATIENCE, Opener};
use crate::daemon::jobs::perform;
use crate::daemon::mounts::table::MountTable;
use crate::daemon::state::Trigger;
use crate::daemon::worker::Worker;
use crate::engine::{Event, Key, Kind, Layer, MountId, Reason, Requester, Shutdown};
use crate::exec::dirs::Made;
use crate::exec::lanes::Lane;
use crate::fault;
use crate::logging::target;
use crate::record::Record;
use crate::sys::autofs::{self, Control};
use crate::sys::{mount, path};
use crate::text::Escaped;

/// How long the last look at what stays may take.
const LEAVE_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Unmounts the layers in their order, up to the first that does not go. Returns how many went.
///
/// An entry of which nothing is known has no layers: what is mounted there was not mounted by us, but it is to go.
pub(crate) async fn unmount(
    worker: &Rc<Worker>,
    id: MountId,
    key: &Key,
    layers: Vec<Layer>,
    lazy: bool,
) -> (usize, Option<Reason>) {
    if layers.is_empty() {
        let at = worker.state.borrow().triggers.get(&id).map(|t| t.entry(key));
        if let Some(at) = at {
            return (0, unmount_entry(worker, id, key, &at, lazy).await.err());
        }
        return (0, None);
    }
    for (gone, layer) in layers.iter().enumerate() {
        let went = match layer {
            Layer::FileSystem { at, path } => unmount_entry(worker, at.mount, &at.key, path, lazy).await,
            Layer::Trigger(id, _) if remove_trigger(worker, *id, lazy).await => Ok(()),
            Layer::Trigger(_, path) => Err(Record::new(format!("{} is in use", Escaped::path(path))).into()),
        };
        if let Err(reason) = went {
            return (gone, Some(reason));
        }
    }
    (layers.len(), None)
}

async fn unmount_entry(worker: &Rc<Worker>, mount: MountId, key: &Key, at: &Path, lazy: bool) -> Result<(), Reason> {
    let (place, keep, context) = {
        let state = worker.state.borrow();
        let Some(place) = perform::place(&state, mount, key, Requester::default()) else { return Ok(()) };
        let line = state.triggers.get(&mount).map(|t| Rc::clone(&t.line));
        let keep = line.is_some_and(|line| line.browse() && line.source.has_key(&key.0));
        (Arc::new(place), keep, Rc::clone(&state.context))
    };
    let (label, shown) = (target(at), Escaped::path(at));
    info!(target: &label, "expiring path {shown}");
    fault::point("expiring");
    if let Err(e) = context.unmounter.remove(&place, lazy, keep).await {
        warn!(target: &label, "couldn't complete expire of {shown}: {e}");
        return Err(Record::new(e.to_string()).into());
    }
    {
        let mut state = worker.state.borrow_mut();
        state.unmounted += 1;
        state.journal.forget(at);
    }
    fault::point("unmounted");
    info!(target: &label, "umounting {shown} succeeded");
    crate::daemon::checkpoint::restore::lighter(worker, mount);
    Ok(())
}

/// Unmounts a trigger or submount. False: it is in use.
pub(crate) async fn remove_trigger(worker: &Rc<Worker>, id: MountId, lazy: bool) -> bool {
    let (lanes, at, dev) = {
        let mut state = worker.state.borrow_mut();
        let Some(trigger) = state.triggers.get(&id) else { return true };
        let found = (Arc::clone(&state.context.lanes), trigger.path.clone(), trigger.dev);
        state.leaving.insert(id);
        found
    };
    let control = Arc::clone(&worker.state.borrow().control);
    let gone = lanes.run(Lane::Umount, move || umount_trigger(&control, &at, dev, lazy)).await;
    fault::point("trigger gone");
    match gone {
        true => forget(worker, [id]).await,
        false => drop(worker.state.borrow_mut().leaving.remove(&id)),
    }
    gone
}

/// Takes note that triggers are gone, and removes the directories that were made for them.
async fn forget(worker: &Rc<Worker>, ids: impl IntoIterator<Item = MountId>) {
    let (mut left, lanes) = {
        let mut state = worker.state.borrow_mut();
        (std::mem::take(&mut state.left), Arc::clone(&state.context.lanes))
    };
    for id in ids {
        let trigger = {
            let mut state = worker.state.borrow_mut();
            state.unmounted += 1;
            worker.unregister(&mut state, id)
        };
        let Some(Trigger { path, kind, created, .. }) = trigger else { continue };
        let (label, shown) = (target(&path), Escaped::path(&path));
        match kind {
            Kind::Indirect => info!(target: &label, "umounting indirect mount {shown} succeeded"),
            Kind::Direct => info!(target: &label, "umounted direct mount {shown}"),
            Kind::Offset => info!(target: &label, "umounted offset mount {shown}"),
        }
        left.push(created);
    }
    left.retain(|made| !made.is_empty());
    if !left.is_empty() {
        let left = lanes.run(Lane::Umount, move || remove_all(left)).await;
        worker.state.borrow_mut().left.extend(left);
    }
}

/// Removes directories that were made. Returns those that cannot go yet: one above several mounts goes with the last.
fn remove_all(mut left: Vec<Made>) -> Vec<Made> {
    loop {
        let before = left.len();
        left = left.into_iter().map(Made::remove).filter(|made| !made.is_empty()).collect();
        if left.is_empty() || left.len() == before {
            return left;
        }
    }
}

/// Unmounts an autofs mount, if it is the one on top at its path. Returns whether it is gone.
///
/// With `lazy` it is set catatonic first. After a lazy unmount it exists for as long as somebody is in it, has no path by
/// which a request could be answered, and would hold every process that looks something up there for ever.
pub(crate) fn umount_trigger(control: &Control, at: &Path, dev: u32, lazy: bool) -> bool {
    match path::lstat(at) {
        // Something else has been mounted over it, and is not ours to unmount.
        Ok(there) if autofs::encode(there.dev) != dev => return false,
        Ok(_) => {}
        Err(e) => {
            debug!("{}: {e}", Escaped::path(at));
            return e.kind() == io::ErrorKind::NotFound;
        }
    }
    if lazy {
        silence(control, at, dev);
    }
    mount::unmount(at, lazy).map_err(|e| debug!("cannot unmount the trigger {}: {e}", Escaped::path(at))).is_ok()
}

/// Sets an autofs mount catatonic: lookups that wait there fail with ENOENT, and so do later ones. An error is logged; the
/// mount then stays as it is.
fn silence(control: &Control, at: &Path, dev: u32) {
    if let Err(e) = control.open_mount(at, dev).and_then(|root| control.catatonic(root.as_fd())) {
        debug!(target: &target(at), "{} cannot be set catatonic: {e}", Escaped::path(at));
    }
}

/// Unmounts at a time: most of the time of each is a grace period of RCU.
const PARALLEL: usize = 4;

/// Unmounts top-level autofs mounts, none of which lies below another.
pub(crate) async fn detach(worker: Rc<Worker>, leaving: Vec<(MountId, bool)>) {
    let (lanes, control, jobs) = {
        let state = worker.state.borrow();
        let nowhere: Arc<Path> = Path::new("").into();
        let job = |(id, lazy)| {
            let known = state.triggers.get(&id);
            (id, known.map_or_else(|| Arc::clone(&nowhere), |t| Arc::clone(&t.path)), known.map(|t| t.dev), lazy)
        };
        let jobs: Vec<_> = leaving.into_iter().map(job).collect();
        (Arc::clone(&state.context.lanes), Arc::clone(&state.control), jobs)
    };
    let share = jobs.len().div_ceil(PARALLEL).max(1);
    let mut shares = Vec::new();
    for jobs in jobs.chunks(share).map(<[_]>::to_vec) {
        let (lanes, control) = (Arc::clone(&lanes), Arc::clone(&control));
        let unmount = move || {
            let gone = |(id, path, dev, lazy): (MountId, Arc<Path>, Option<u32>, bool)| {
                let gone = dev.is_none_or(|dev| umount_trigger(&control, &path, dev, lazy));
                (id, path, gone)
            };
            jobs.into_iter().map(gone).collect::<Vec<_>>()
        };
        shares.push(tokio::task::spawn_local(async move { lanes.run(Lane::Umount, unmount).await }));
    }
    let mut results = Vec::new();
    for share in shares {
        results.extend(share.await.unwrap_or_default());
    }
    forget(&worker, results.iter().filter(|(.., gone)| *gone).map(|(id, ..)| *id)).await;
    for (id, path, gone) in results {
        let (label, shown) = (target(&path), Escaped::path(&path));
        if gone {
            info!(target: &label, "shut down path {shown}");
        } else {
            worker.state.borrow_mut().leaving.remove(&id);
            error!(target: &label, "ask umount returned busy {shown}");
        }
        let outcome = if gone { Ok(()) } else { Err(Record::new(format!("{shown} is in use")).into()) };
        worker.event(Event::Detached { mount: id, outcome });
    }
}

/// Leaves autofs mounts to whoever comes next: from now on a lookup of what is not mounted fails at once. Without
/// this the kernel would find out by the first packet that it cannot write, and its sender would die of SIGPIPE.
pub(crate) async fn leave(worker: &Rc<Worker>, left: &[MountId], how: Shutdown) {
    let (mounts, control) = {
        let state = worker.state.borrow();
        let tops: HashSet<&Path> = left.iter().filter_map(|id| Some(&*state.triggers.get(id)?.path)).collect();
        let below = |t: &Trigger| t.path.ancestors().any(|path| tops.contains(path));
        let mounts = state.triggers.values().filter(|t| below(t)).map(|t| (t.path.clone(), t.dev));
        let mounts: Vec<_> = mounts.collect();
        (mounts, Arc::clone(&state.control))
    };
    for (path, _) in &mounts {
        let shown = Escaped::path(path);
        match how {
            Shutdown::Detach => info!(target: &target(path), "{shown} is left for the next start"),
            _ => warn!(target: &target(path), "can't shutdown: filesystem {shown} still busy"),
        }
    }
    let leave = tokio::task::spawn_blocking(move || {
        for (path, dev) in mounts {
            silence(&control, &path, dev);
        }
    });
    // The way to a mount may lead over a dead server.
    if tokio::time::timeout(LEAVE_WITHIN, leave).await.is_err() {
        warn!("some autofs mounts could not be reached and stay as they are");
    }
}

/// Unmounts lazily whatever is mounted at or below these paths: what `--force` asks for.
pub(crate) async fn force(worker: &Rc<Worker>, paths: Vec<Arc<Path>>) {
    let (lanes, control, memory) = {
        let state = worker.state.borrow();
        (Arc::clone(&state.context.lanes), Arc::clone(&state.control), Arc::clone(&state.blocked))
    };
    let unmount = move || -> io::Result<()> {
        let mut opener = Opener::new(memory);
        let table = MountTable::read()?;
        for path in paths {
            let below: Vec<_> = table.below(&path).chain(table.at(&path)).collect();
            for there in below.iter().rev() {
                if there.autofs.is_some() {
                    // Its owner may be dead, and then the walk to it may not end.
                    let root = opener.open(&there.target, there.dev, LITTLE_PATIENCE);
                    if let Err(e) = root.and_then(|root| control.catatonic(root.as_fd())) {
                        debug!("{} cannot be set catatonic: {e}", Escaped::path(&there.target));
                    }
                }
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
