//! After a checkpoint: every autofs mount of ours is found again where it stands.
//!
//! CRIU gives a restored process its memory and its descriptors by number; all that the kernel knew is new: devices,
//! inodes of pipes, mount ids, tokens. It leaves out what it cannot see: directories without a mount, and the options
//! `strictexpire` and `ignore`.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, error, info, warn};
use tokio::task::spawn_local;

use crate::control;
use crate::daemon::attach::attacher::{Attacher, Job};
use crate::daemon::attach::opener::{LITTLE_PATIENCE, Opener};
use crate::daemon::attach::top::mount_options;
use crate::daemon::checkpoint::quiesce;
use crate::daemon::checkpoint::quiesce::Quiet;
use crate::daemon::control::serve;
use crate::daemon::jobs::browse;
use crate::daemon::jobs::unmount;
use crate::daemon::mounts::table::{MountTable, Mounted};
use crate::daemon::reload;
use crate::daemon::state::State;
use crate::daemon::worker::Worker;
use crate::engine::{EntryPhase, EntryView, Event, Kind, MountId, MountView};
use crate::exec::lanes::Lane;
use crate::link::journal::Slot;
use crate::logging::target;
use crate::sys::autofs::Control;
use crate::text::Escaped;

/// Between two attempts to mount an autofs mount anew on which nothing is mounted, and how many there are. Whoever has
/// just unmounted something there holds it for a moment, and so does CRIU when it has just restored it.
const RENEW: Duration = Duration::from_secs(1);
const ATTEMPTS: u32 = 5;

/// What the mount table says of our autofs mounts.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// These wait for a pipe.
    catatonic: Vec<MountId>,
    /// These are not there, or somebody else's.
    gone: Vec<MountId>,
    /// These have lost options.
    weak: Vec<MountId>,
}

/// Takes notice of checkpoints, for as long as the worker lives.
pub(crate) async fn watch(worker: Rc<Worker>) {
    loop {
        worker.sentinel.woken.notified().await;
        if worker.sentinel.was_restored() {
            notice(&worker, None);
        } else if worker.state.borrow().quiet.as_ref().is_some_and(|quiet| quiet.ready) {
            info!("the checkpoint has been made, and the original goes on");
            quiesce::resume(&worker);
        }
    }
}

/// This process is a restored one. `fresh`: a packet that was read since.
///
/// What can be done without waiting is done before anything else happens: another packet must not meet the devices of
/// the other machine, nor an answer its tokens.
pub(crate) fn notice(worker: &Rc<Worker>, fresh: Option<Slot>) {
    let held = {
        let mut guard = worker.state.borrow_mut();
        let state = &mut *guard;
        state.restores += 1;
        for pipe in state.pipes.iter() {
            pipe.was_restored();
        }
        worker.sentinel.was_restored();
        worker.forget_requests(state, fresh);
        state.quiet.take()
    };
    // The socket was bound anew, and nobody but us was there to do that.
    worker.socket.set(worker.socket.get().and_then(|_| serve::identity(Path::new(control::SOCKET))));
    warn!("restored from a checkpoint: looking for {} autofs mounts", worker.state.borrow().triggers.len());
    worker.event(Event::Restored);
    worker.restored.notify_waiters();
    regain(worker, held);
}

/// Finds all autofs mounts again and goes on. `held`: what was kept for the time of a checkpoint.
pub(crate) fn regain(worker: &Rc<Worker>, held: Option<Quiet>) {
    // On this thread, whatever time it takes: nothing can be answered before.
    let found = match MountTable::read() {
        Ok(table) => locate(&mut worker.state.borrow_mut(), &table),
        Err(e) => {
            error!("cannot read the mount table: {e}");
            Found::default()
        }
    };
    let worker = Rc::clone(worker);
    worker.state.borrow_mut().regaining = true;
    spawn_local(async move {
        let lost = found.gone.len();
        let mut gone = found.gone;
        gone.extend(reconnect(&worker, found.catatonic).await);
        for id in gone {
            let path = worker.state.borrow().triggers.get(&id).map_or_else(|| Path::new("").into(), |t| t.path.clone());
            warn!(target: &target(&path), "{} is not there any more", Escaped::path(&path));
            worker.vanished(id);
        }
        for id in found.weak {
            spawn_local(renew(Rc::clone(&worker), id));
        }
        let browsed: Vec<MountId> = worker.state.borrow().triggers.keys().copied().collect();
        for id in browsed {
            browse::fill(&worker, id).await;
        }
        let wanted = held.as_ref().is_some_and(|held| held.reload);
        drop(held);
        worker.read_on();
        worker.unpark();
        worker.event(Event::Pause(false));
        worker.state.borrow_mut().regaining = false;
        info!("{} autofs mounts are served again, {lost} are lost", worker.state.borrow().triggers.len());
        if wanted {
            spawn_local(reload::reload(Rc::clone(&worker)));
        }
    });
}

/// Finds each autofs mount of ours in the mount table, by its path and its pipe.
fn locate(state: &mut State, table: &MountTable) -> Found {
    let own = state.pipes.inodes();
    let mut found = Found::default();
    let leaving = &state.leaving;
    state.devices.clear();
    for (id, trigger) in &mut state.triggers {
        let Some(line) = line_of(trigger.kind, table.at(&trigger.path), &own) else {
            if !leaving.contains(id) {
                found.gone.push(*id);
            }
            continue;
        };
        trigger.dev = line.dev;
        state.devices.insert(line.dev, *id);
        let Some(shown) = line.autofs else { continue };
        if shown.pipe_ino == Some(-1) {
            found.catatonic.push(*id);
        }
        let ignore = state.context.settings.use_ignore_mount_option;
        let wish = (trigger.line.options.strictexpire, ignore);
        // Those of multi-mounts and submounts are mounted anew with what they stand on.
        trigger.weak = id.is_top() && (wish.0 && !shown.strictexpire || wish.1 && !shown.ignore);
        if trigger.weak {
            found.weak.push(*id);
        }
    }
    // As parents before children.
    found.catatonic.sort_by_key(|id| state.triggers.get(id).map(|t| t.path.clone()));
    found
}

/// The line of an autofs mount of ours among those at its path.
fn line_of<'t>(kind: Kind, lines: &'t [Mounted], own: &HashMap<u64, u32>) -> Option<&'t Mounted> {
    let autofs = |line: &&Mounted| line.autofs.is_some_and(|shown| shown.kind == kind);
    let alive = |line: &&Mounted| line.speaks_through(own).is_some();
    let catatonic = |line: &&Mounted| line.autofs.is_some_and(|shown| shown.pipe_ino == Some(-1));
    lines.iter().filter(autofs).rfind(alive).or_else(|| lines.iter().filter(autofs).rfind(catatonic))
}

/// Gives catatonic mounts of ours their pipe again. Returns those that do not take it.
async fn reconnect(worker: &Rc<Worker>, ids: Vec<MountId>) -> Vec<MountId> {
    let (jobs, control, lanes) = {
        let state = worker.state.borrow();
        let job = |id: &MountId| {
            let t = state.triggers.get(id)?;
            let write_end = state.pipes.get(t.pipe)?.write_end().ok()?;
            Some((*id, t.path.clone(), t.dev, write_end, t.line.timeout()))
        };
        let jobs: Vec<_> = ids.iter().filter_map(job).collect();
        (jobs, Arc::clone(&state.control), Arc::clone(&state.context.lanes))
    };
    let reconnect = move || {
        let failed = |(id, path, dev, write_end, timeout): (MountId, Arc<Path>, u32, OwnedFd, u64)| {
            let e = reconnect_one(&control, &path, dev, &write_end, timeout).err()?;
            error!(target: &target(&path), "{}: cannot serve it again: {e}", Escaped::path(&path));
            Some(id)
        };
        jobs.into_iter().filter_map(failed).collect()
    };
    lanes.run(Lane::Mount, reconnect).await
}

fn reconnect_one(control: &Control, path: &Path, dev: u32, write_end: &OwnedFd, timeout: u64) -> io::Result<()> {
    let root = control.open_mount(path, dev)?;
    control.set_pipe(root.as_fd(), write_end.as_fd())?;
    control.set_timeout(root.as_fd(), timeout)?;
    Ok(())
}

/// Something on an autofs mount was unmounted: it is mounted anew if it has lost options and carries nothing more.
pub(crate) fn lighter(worker: &Rc<Worker>, id: MountId) {
    if worker.state.borrow().triggers.get(&id).is_some_and(|t| t.weak) {
        spawn_local(renew(Rc::clone(worker), id));
    }
}

/// Mounts an autofs mount anew with all its options, as soon as it is free, or gives up if it is in use.
async fn renew(worker: Rc<Worker>, id: MountId) {
    for _ in 0..ATTEMPTS {
        let free = {
            let state = worker.state.borrow();
            let mounted = |entry: EntryView<'_>| !matches!(entry.phase, EntryPhase::Failed(..));
            let empty = |view: MountView<'_>| !view.entries().any(mounted);
            state.triggers.get(&id).is_some_and(|t| t.weak) && state.engine.mount(id).is_some_and(empty)
        };
        if free && !matches!(renew_now(&worker, id).await, Some(false)) {
            return;
        }
        tokio::time::sleep(RENEW).await;
    }
}

/// The same at once; false: it is in use. The engine is not told: for a moment there is no such mount.
async fn renew_now(worker: &Rc<Worker>, id: MountId) -> Option<bool> {
    let (attacher, job, old, lanes) = {
        let state = worker.state.borrow();
        let trigger = state.triggers.get(&id).filter(|t| t.weak)?;
        let write_end = state.pipes.get(trigger.pipe)?.write_end().ok()?;
        let job = Job {
            id,
            path: trigger.path.clone(),
            kind: trigger.kind,
            source: trigger.line.mount_source(),
            options: mount_options(&trigger.line, &state),
            mode: trigger.line.options.mode.filter(|_| trigger.kind == Kind::Indirect),
            pipe: trigger.pipe,
            patience: LITTLE_PATIENCE,
        };
        let attacher = Attacher {
            control: Arc::clone(&state.control),
            opener: Opener::new(Arc::clone(&state.blocked)),
            table: Arc::new(MountTable::of(Vec::new())),
            own: HashMap::new(),
            write_ends: [(trigger.pipe, write_end)].into(),
        };
        (attacher, job, trigger.dev, Arc::clone(&state.context.lanes))
    };
    let path = job.path.clone();
    let renewed = lanes.run(Lane::Umount, move || {
        // The write end is open: the pipe does not end between the two.
        unmount::umount_trigger(&attacher.control, &job.path, old, false).then(|| attacher.run(vec![job]))
    });
    let Some(results) = renewed.await else { return Some(false) };
    let renewed = results.into_iter().next()?.1;
    worker.state.borrow_mut().unmounted += 1;
    match renewed {
        Ok(attached) => {
            {
                let mut state = worker.state.borrow_mut();
                state.move_device(id, old, attached.dev);
                if let Some(trigger) = state.triggers.get_mut(&id) {
                    trigger.weak = false;
                }
            }
            debug!(target: &target(&path), "{} has all its options again", Escaped::path(&path));
            browse::fill(worker, id).await;
        }
        Err(e) => {
            error!(target: &target(&path), "{e}");
            worker.vanished(id);
        }
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mountinfo;

    fn line(dev: u32, pipe: i64, kind: &str) -> String {
        let fd = if pipe < 0 { -1 } else { 5 };
        format!(
            "30 20 0:{dev} / /m rw - autofs map rw,fd={fd},pgrp=9,timeout=300,minproto=5,maxproto=5,{kind},pipe_ino={pipe}\n"
        )
    }

    fn found(text: &str) -> Option<u32> {
        let lines: Vec<Mounted> = mountinfo::parse(text.as_bytes()).map(Mounted::from).collect();
        line_of(Kind::Direct, &lines, &HashMap::from([(100, 0)])).map(|line| line.dev)
    }

    #[test]
    fn a_mount_is_known_by_its_pipe_or_by_being_an_orphan() {
        assert_eq!(found(&line(50, 100, "direct")), Some(50));
        assert_eq!(found(&line(50, -1, "direct")), Some(50));
        assert_eq!(found(&line(50, 101, "direct")), None, "somebody else's");
        assert_eq!(found(&line(50, 100, "indirect")), None);
        assert_eq!(found(&(line(50, 100, "direct") + &line(51, -1, "direct"))), Some(50));
        assert_eq!(found("30 20 0:50 / /m rw - tmpfs tmpfs rw\n"), None);
    }
}
