//! Making top-level autofs mounts ours, and finding those whose device has changed.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{error, info, warn};
use tokio::task::spawn_local;

use crate::daemon::attach::adopt;
use crate::daemon::attach::attacher::{AttachError, Attached, Attacher, Job};
use crate::daemon::attach::opener::{LITTLE_PATIENCE, Opener, PATIENCE};
use crate::daemon::jobs::browse;
use crate::daemon::maps::line::Line;
use crate::daemon::mounts::table::{MountTable, Mounted};
use crate::daemon::state::State;
use crate::daemon::worker::{NewTrigger, Worker};
use crate::engine::{Event, Kind, MountId, Reason, Wanted};
use crate::logging::target;
use crate::record::Record;
use crate::sys::autofs::{self, Control};
use crate::text::Escaped;

/// What the kernel is told of a line's mounts.
pub(crate) fn mount_options(line: &Line, state: &State) -> autofs::Options {
    let ignore = state.context.settings.use_ignore_mount_option;
    autofs::Options { timeout: line.timeout(), strictexpire: line.options.strictexpire, ignore }
}

/// Between two tries to take over a mount on which a request of its dead owner is open.
pub(crate) const RETRY: Duration = Duration::from_secs(2);

/// Attaches top-level mounts: first those that can be reached for certain.
pub(crate) async fn attach(worker: Rc<Worker>, wanted: Vec<(MountId, Wanted)>) {
    let table = read_table().await;
    let own = worker.state.borrow().pipes.inodes();
    let (doubtful, certain): (Vec<_>, Vec<_>) =
        wanted.into_iter().partition(|(_, wanted)| table.may_block(&wanted.path, &own));
    let mut blocked = Vec::new();
    for wanted in [certain, doubtful] {
        blocked.extend(attach_together(&worker, wanted, &table, LITTLE_PATIENCE).await);
    }
    worker.end_making();
    worker.settled();
    if !blocked.is_empty() {
        spawn_local(insist(worker, blocked));
    }
}

/// Tries again and again, until all are attached.
async fn insist(worker: Rc<Worker>, mut blocked: Vec<(MountId, Wanted)>) {
    while !blocked.is_empty() {
        if worker.is_stopping() {
            for (mount, _) in blocked {
                worker.event(Event::Attached { mount, outcome: Err(Record::new("the daemon ends").into()) });
            }
            return;
        }
        worker.begin_making();
        let table = read_table().await;
        blocked = attach_together(&worker, blocked, &table, PATIENCE).await;
        worker.end_making();
        worker.pause(RETRY).await;
    }
}

pub(crate) async fn read_table() -> Arc<MountTable> {
    let table = match tokio::task::spawn_blocking(MountTable::read).await {
        Ok(Ok(table)) => table,
        Ok(Err(e)) => {
            error!("cannot read the mount table: {e}");
            MountTable::of(Vec::new())
        }
        Err(_) => MountTable::of(Vec::new()),
    };
    Arc::new(table)
}

/// Attaches mounts in one go, and tells the engine. Returns those on which a request of a dead owner is open.
async fn attach_together(
    worker: &Rc<Worker>,
    wanted: Vec<(MountId, Wanted)>,
    table: &Arc<MountTable>,
    patience: Duration,
) -> Vec<(MountId, Wanted)> {
    if wanted.is_empty() {
        return Vec::new();
    }
    let unknown: Reason = Record::new("the mount point was not attached").into();
    let mut missing: HashMap<MountId, Reason> = wanted.iter().map(|(id, _)| (*id, unknown.clone())).collect();
    let Prepared { attacher, jobs, lines, nested } = prepare(worker, wanted, table, patience);
    let pipes: Vec<u32> = jobs.iter().map(|job| job.pipe).collect();
    let results = tokio::task::spawn_blocking(move || attacher.run(jobs)).await.unwrap_or_default();
    let (mut attached, mut found, mut blocked) = (Vec::new(), Vec::new(), Vec::new());
    for (id, result) in results {
        let Some((line, wanted)) = lines.get(&id) else { continue };
        match result {
            Ok(done) => {
                if done.found {
                    found.push(id);
                }
                register(worker, done, line, wanted);
                attached.push(id);
                missing.remove(&id);
            }
            Err(e) => {
                let waits = matches!(e, AttachError::Blocked(_));
                if waits {
                    blocked.push((id, wanted.clone()));
                    missing.remove(&id);
                } else {
                    missing.insert(id, Record::new(e.to_string()).into());
                }
                if !waits || patience < PATIENCE {
                    error!(target: &target(&wanted.path), "{e}");
                }
            }
        }
    }
    let now = if nested { &read_table().await } else { table };
    for id in found {
        adopt::adopt(worker, id, now).await;
    }
    {
        let state = worker.state.borrow();
        pipes.iter().filter_map(|pipe| state.pipes.get(*pipe)).for_each(|pipe| pipe.awaited.set(false));
    }
    worker.state.borrow_mut().release_unused();
    for id in &attached {
        browse::fill(worker, *id).await;
    }
    for mount in attached {
        worker.event(Event::Attached { mount, outcome: Ok(()) });
    }
    for (mount, reason) in missing {
        worker.event(Event::Attached { mount, outcome: Err(reason) });
    }
    blocked
}

/// What is needed to attach some mounts.
struct Prepared {
    attacher: Attacher,
    jobs: Vec<Job>,
    lines: HashMap<MountId, (Rc<Line>, Wanted)>,
    /// There are jobs for mounts below those that were asked for.
    nested: bool,
}

fn prepare(
    worker: &Rc<Worker>,
    wanted: Vec<(MountId, Wanted)>,
    table: &Arc<MountTable>,
    patience: Duration,
) -> Prepared {
    let mut guard = worker.state.borrow_mut();
    let state = &mut *guard;
    let own = state.pipes.inodes();
    let live: HashMap<&Path, u32> =
        table.mounts().iter().filter_map(|line| Some((line.target.as_path(), line.speaks_through(&own)?))).collect();
    let (mut jobs, mut lines, mut write_ends) = (Vec::with_capacity(wanted.len()), HashMap::new(), HashMap::new());
    let named: HashSet<Arc<Path>> = wanted.iter().map(|(_, wanted)| wanted.path.clone()).collect();
    let mut nested = false;
    for (id, wanted) in wanted {
        let Some(line) = state.lines.get(&wanted.map).map(Rc::clone) else { continue };
        let pipe = match live.get(&*wanted.path) {
            Some(pipe) => Ok(*pipe),
            None => match line.pipe.get().filter(|_| wanted.kind == Kind::Direct) {
                Some(pipe) => Ok(pipe),
                None => state.pipes.create().map(|pipe| pipe.number),
            },
        };
        let pipe = match pipe {
            Ok(pipe) => pipe,
            Err(e) => {
                error!(target: &target(&wanted.path), "{}: cannot make a control pipe: {e}", Escaped::path(&wanted.path));
                continue;
            }
        };
        if wanted.kind == Kind::Direct && line.pipe.get().is_none() {
            line.pipe.set(Some(pipe));
        }
        jobs.push(Job {
            id,
            path: wanted.path.clone(),
            kind: wanted.kind,
            source: line.mount_source(),
            options: mount_options(&line, state),
            mode: line.options.mode,
            pipe,
            patience,
        });
        for below in orphans_below(table, &wanted.path, &own).filter(|below| !named.contains(below.target.as_path())) {
            // Until it is adopted its packets wait in the pipe: from now on no lookup fails there.
            let kind = below.autofs.map_or(Kind::Offset, |shown| shown.kind);
            let pipe = if kind == Kind::Offset { Ok(pipe) } else { state.pipes.create().map(|pipe| pipe.number) };
            let Ok(pipe) = pipe else { continue };
            let (id, path, source) = (state.number(), below.target.as_path().into(), Vec::new());
            let options = mount_options(&line, state);
            jobs.push(Job { id, path, kind, source, options, mode: None, pipe, patience: LITTLE_PATIENCE });
            nested = true;
        }
        lines.insert(id, (line, wanted));
    }
    for job in &jobs {
        if let Entry::Vacant(vacant) = write_ends.entry(job.pipe) {
            match state.pipes.get(job.pipe).map(|pipe| pipe.write_end()) {
                Some(Ok(end)) => drop(vacant.insert(end)),
                Some(Err(e)) => error!("cannot open the write end of control pipe {}: {e}", job.pipe),
                None => {}
            }
        }
    }
    let (control, opener) = (Arc::clone(&state.control), Opener::new(Arc::clone(&state.blocked)));
    Prepared { attacher: Attacher { control, opener, table: Arc::clone(table), own, write_ends }, jobs, lines, nested }
}

/// The offset triggers and submounts below an autofs mount that have died with its owner.
fn orphans_below<'t>(
    table: &'t MountTable,
    path: &'t Path,
    own: &'t HashMap<u64, u32>,
) -> impl Iterator<Item = &'t Mounted> {
    let top = table.at(path).iter().rev().find(|line| line.autofs.is_some() && line.speaks_through(own).is_none());
    let owner = top.and_then(|top| top.autofs).map(|shown| shown.pgrp);
    let of_the_same = move |line: &&Mounted| {
        line.autofs.is_some_and(|shown| shown.kind != Kind::Direct && Some(shown.pgrp) == owner)
            && line.speaks_through(own).is_none()
    };
    table.below(path).filter(of_the_same)
}

fn register(worker: &Rc<Worker>, done: Attached, line: &Rc<Line>, wanted: &Wanted) {
    let Attached { id, pipe, dev, created, found } = done;
    let (path, kind, line) = (wanted.path.clone(), wanted.kind, Rc::clone(line));
    announce(&path, kind, wanted.timeout, &line);
    let new = NewTrigger { path, kind, dev, pipe, line, created, remote: false, found };
    worker.register(&mut worker.state.borrow_mut(), id, new);
}

/// The line that says that an autofs mount is there.
pub(crate) fn announce(path: &Path, kind: Kind, timeout: u64, line: &Line) {
    let kind = match kind {
        Kind::Indirect => "indirect",
        Kind::Direct => "direct",
        Kind::Offset => "offset",
    };
    let shown = Escaped::path(path);
    if timeout == 0 {
        info!(target: &target(path), "mounted {kind} on {shown} with timeouts disabled");
    } else {
        let frequency = timeout.div_ceil(4);
        info!(target: &target(path), "mounted {kind} on {shown} with timeout {timeout}, freq {frequency} seconds");
    }
    if line.browse() && kind == "indirect" {
        info!(target: &target(path), "ghosting enabled");
    }
}

/// Opens the root of an autofs mount, also when its path has another name by now. `None`: it is in the mount table no
/// more. May wait.
pub(crate) fn find_root(control: &Control, path: &Path, dev: u32) -> io::Result<Option<OwnedFd>> {
    if let Ok(root) = control.open_mount(path, dev) {
        return Ok(Some(root));
    }
    let table = MountTable::read()?;
    let there = table.mounts().iter().find(|mounted| mounted.autofs.is_some() && mounted.dev == dev);
    there.map(|mounted| control.open_mount(&mounted.target, dev)).transpose()
}

/// Gives a mount that is there new options.
pub(crate) fn update(state: &mut State, mount: MountId, wanted: &Wanted) {
    let Some(line) = state.lines.get(&wanted.map).map(Rc::clone) else { return };
    let Some(trigger) = state.triggers.get_mut(&mount) else { return };
    trigger.line = line;
    let control = Arc::clone(&state.control);
    let result = state.root(mount).and_then(|root| control.set_timeout(root, wanted.timeout));
    if let Err(e) = result {
        warn!(target: &target(&wanted.path), "{}: cannot set the timeout: {e}", Escaped::path(&wanted.path));
    }
}

/// How long a packet may wait for its mount to become known, while some mount is always being made.
const KNOWN_WITHIN: Duration = Duration::from_secs(10);

/// Between two looks at the mount table.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Looks for the mounts of parked packets in the mount table, until none is left: what is there is served, and what is
/// not there, though nothing is being made that it could be for, is answered. Only one such look is under way.
pub(crate) async fn rescan(worker: Rc<Worker>) {
    let begun = Instant::now();
    loop {
        let (waiting, making) = {
            let state = worker.state.borrow();
            (state.parked_slots(), state.making > 0)
        };
        if waiting.is_empty() {
            break;
        }
        let table = tokio::task::spawn_blocking(MountTable::read).await;
        if let Ok(Ok(table)) = table {
            find_devices(&mut worker.state.borrow_mut(), &table);
            worker.unpark();
            // Only what was parked before the table was read can be missing in it.
            if !making || begun.elapsed() > KNOWN_WITHIN {
                worker.give_up(&waiting, &table);
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    worker.state.borrow_mut().rescanning = false;
}

/// Takes note of mounts whose device has changed, as it does in a restore.
fn find_devices(state: &mut State, table: &MountTable) {
    let own = state.pipes.inodes();
    let ours: HashMap<Arc<Path>, (MountId, u32)> =
        state.triggers.iter().map(|(id, t)| (Arc::clone(&t.path), (*id, t.dev))).collect();
    for line in table.mounts() {
        if line.speaks_through(&own).is_some() {
            if let Some((id, dev)) = ours.get(line.target.as_path()).filter(|(_, dev)| *dev != line.dev) {
                state.move_device(*id, *dev, line.dev);
            }
        }
    }
}
