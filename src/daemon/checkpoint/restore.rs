//! Resumes service after a checkpoint.
//!
//! CRIU restores the memory of a process and the numbers of its descriptors. Everything that the kernel has assigned is new:
//! device numbers, pipe inodes, mount ids, tokens. So all autofs mounts are found again by path. CRIU does not restore
//! directories of autofs mounts without a mount on them, nor the options `strictexpire` and `ignore`.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use log::{error, info, warn};

use super::renew;
use crate::control::history::EventKind;
use crate::daemon::attach::appearance;
use crate::daemon::life::{Phase, Quiescence};
use crate::daemon::mounts::locate::Located;
use crate::daemon::reload;
use crate::daemon::worker::Worker;
use crate::engine::{Event, MountId};
use crate::exec::lanes::Lane;
use crate::logging::target;
use crate::sys::autofs::Control;
use crate::task::spawn_local;
use crate::text::Escaped;

/// Waits for checkpoints and resumes after each, as long as the worker runs.
pub(crate) async fn watch(worker: Rc<Worker>) {
    loop {
        worker.frozen().await;
        if worker.was_restored() {
            worker.restored(None);
        } else if worker.life.phase() == Phase::Resting {
            info!("the checkpoint was made, and the original resumes");
            resume(&worker);
        }
    }
}

/// Resumes service if the daemon is quiesced.
pub(crate) fn resume(worker: &Rc<Worker>) {
    // The hook of CRIU may call this before the restore was detected.
    if worker.was_restored() {
        return worker.restored(None);
    }
    if let Some(kept) = worker.life.wake() {
        worker.regain(Some(kept));
    }
}

/// Serves the located autofs mounts and resumes. `kept` is the state of the quiesce, if the daemon was quiesced.
pub(crate) async fn regain(worker: Rc<Worker>, located: Located, kept: Option<Quiescence>) {
    let lost = located.gone.len();
    let mut gone = located.gone;
    gone.extend(reconnect(&worker, located.catatonic).await);
    for id in gone {
        let path = worker.mounts.get(id).map_or_else(|| Path::new("").into(), |mount| mount.path);
        warn!(target: &target(&path), "{} is no longer mounted", Escaped::path(&path));
        worker.vanished(id);
    }
    for id in located.lacking {
        spawn_local(renew::renew(Rc::clone(&worker), id));
    }
    appearance::apply(&worker.means(), worker.mounts.filter_map(|id, _| Some(id))).await;
    for id in worker.mounts.filter_map(|id, _| Some(id)) {
        worker.browse(id).await;
    }
    let wanted = kept.as_ref().is_some_and(|kept| kept.reload);
    drop(kept);
    worker.requests.read_on();
    worker.serve_parked();
    worker.event(Event::Pause(false));
    worker.life.leave_restoring();
    let message = format!("resumed: {} autofs mounts are served again, {lost} are lost", worker.mounts.count());
    info!("{message}");
    worker.history.event(EventKind::Checkpoint, message);
    worker.standing.notify_one();
    if wanted {
        spawn_local(reload::reload(worker));
    }
}

/// Gives catatonic autofs mounts their pipes again. Returns those for which this has failed.
async fn reconnect(worker: &Rc<Worker>, ids: Vec<(Arc<Path>, MountId)>) -> Vec<MountId> {
    let tools = worker.tools();
    let job = |(_, id): (Arc<Path>, MountId)| {
        let mount = worker.mounts.get(id)?;
        let write_end = worker.mounts.write_end(mount.pipe).ok()?;
        Some((id, mount.path, mount.dev, write_end, mount.map.timeout()))
    };
    let (jobs, control): (Vec<_>, _) = (ids.into_iter().filter_map(job).collect(), tools.control);
    let reconnect = move || {
        let failed = |(id, path, dev, write_end, timeout): (MountId, Arc<Path>, u32, OwnedFd, u64)| {
            let e = reconnect_one(&control, &path, dev, &write_end, timeout).err()?;
            error!(target: &target(&path), "{}: cannot serve it again: {e}", Escaped::path(&path));
            Some(id)
        };
        jobs.into_iter().filter_map(failed).collect()
    };
    tools.lanes.run(Lane::Mount, reconnect).await
}

fn reconnect_one(control: &Control, path: &Path, dev: u32, write_end: &OwnedFd, timeout: u64) -> io::Result<()> {
    let root = control.open_mount(path, dev)?;
    control.set_pipe(root.as_fd(), write_end.as_fd())?;
    control.set_timeout(root.as_fd(), timeout)?;
    Ok(())
}
