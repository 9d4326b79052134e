//! Making autofs mounts ours, and taking stock of what is mounted below those that were there already.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use log::{error, info, warn};

use super::attach::{Attached, Attacher, Job};
use super::line::Line;
use super::resolve;
use super::table::{MountTable, Mounted};
use super::worker::{NewTrigger, State, Worker, target};
use crate::engine::{Done, Errno, Event, Key, Kind, MountId, Requester, Resolution, Wanted};
use crate::exec::dirs::Made;
use crate::exec::lanes::Lane;
use crate::plan::{Action, Plan};
use crate::sys::autofs::{self, Control};
use crate::sys::packet::Packet;
use crate::text::Escaped;

/// What the kernel is told of a line's mounts.
pub(super) fn mount_options(line: &Line, state: &State) -> autofs::Options {
    let ignore = state.context.settings.use_ignore_mount_option;
    autofs::Options { timeout: line.timeout(), strictexpire: line.options.strictexpire, ignore }
}

/// Attaches top-level mounts, all in one go.
pub(super) async fn attach(worker: Rc<Worker>, wanted: Vec<(MountId, Wanted)>) {
    let ids: Vec<MountId> = wanted.iter().map(|(id, _)| *id).collect();
    let attached = attach_all(&worker, wanted).await;
    worker.state.borrow_mut().making -= 1;
    for id in ids {
        worker.event(Event::Attached { mount: id, ok: attached.contains(&id) });
    }
    worker.unpark();
    worker.settled();
}

async fn attach_all(worker: &Rc<Worker>, wanted: Vec<(MountId, Wanted)>) -> HashSet<MountId> {
    let table = match tokio::task::spawn_blocking(MountTable::read).await {
        Ok(Ok(table)) => Arc::new(table),
        Ok(Err(e)) => {
            error!("cannot read the mount table: {e}");
            return HashSet::new();
        }
        Err(_) => return HashSet::new(),
    };
    let (attacher, jobs, lines) = prepare(worker, wanted, &table);
    let Ok(results) = tokio::task::spawn_blocking(move || attacher.run(jobs)).await else { return HashSet::new() };
    let (mut attached, mut found) = (HashSet::with_capacity(results.len()), Vec::new());
    for (id, result) in results {
        let Some((line, wanted)) = lines.get(&id) else { continue };
        match result {
            Ok(done) => {
                if done.found {
                    found.push(id);
                }
                register(worker, done, line, wanted);
                attached.insert(id);
            }
            Err(e) => {
                error!(target: &target(&wanted.path), "{e}");
                release_unused(worker);
            }
        }
    }
    for id in found {
        adopt(worker, id, &table).await;
    }
    for id in &attached {
        super::browsing::fill(worker, *id).await;
    }
    attached
}

type Lines = HashMap<MountId, (Rc<Line>, Wanted)>;

fn prepare(
    worker: &Rc<Worker>,
    wanted: Vec<(MountId, Wanted)>,
    table: &Arc<MountTable>,
) -> (Attacher, Vec<Job>, Lines) {
    let mut guard = worker.state.borrow_mut();
    let state = &mut *guard;
    let own: HashMap<u64, u32> = state.pipes.iter().map(|p| (p.inode.get(), p.number)).collect();
    let live: HashMap<&Path, u32> = table
        .mounts()
        .iter()
        .filter_map(|line| {
            let inode = u64::try_from(line.autofs.as_ref()?.pipe_ino?).ok()?;
            Some((line.target.as_path(), *own.get(&inode)?))
        })
        .collect();
    let (mut jobs, mut lines, mut write_ends) = (Vec::with_capacity(wanted.len()), HashMap::new(), HashMap::new());
    for (id, wanted) in wanted {
        let Some(line) = state.lines.get(&wanted.map).map(Rc::clone) else { continue };
        let pipe = match live.get(wanted.path.as_path()) {
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
        if let std::collections::hash_map::Entry::Vacant(vacant) = write_ends.entry(pipe) {
            match state.pipes.get(pipe).map(|pipe| pipe.write_end()) {
                Some(Ok(end)) => drop(vacant.insert(end)),
                Some(Err(e)) => error!("cannot open the write end of control pipe {pipe}: {e}"),
                None => {}
            }
        }
        jobs.push(Job {
            id,
            path: wanted.path.clone(),
            kind: wanted.kind,
            source: line.mount_source(),
            options: mount_options(&line, state),
            mode: line.options.mode,
            pipe,
        });
        lines.insert(id, (line, wanted));
    }
    let control = Arc::clone(&state.control);
    (Attacher { control, table: Arc::clone(table), own, write_ends }, jobs, lines)
}

fn register(worker: &Rc<Worker>, done: Attached, line: &Rc<Line>, wanted: &Wanted) {
    let Attached { id, pipe, dev, created, .. } = done;
    let (path, kind, line) = (wanted.path.clone(), wanted.kind, Rc::clone(line));
    announce(&path, kind, wanted.timeout, &line);
    let new = NewTrigger { path, kind, dev, pipe, line, created, remote: false };
    worker.register(&mut worker.state.borrow_mut(), id, new);
}

/// The line that says that an autofs mount is there.
pub(super) fn announce(path: &Path, kind: Kind, timeout: u64, line: &Line) {
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

/// Lets go of pipes that no mount came to write to.
pub(super) fn release_unused(worker: &Rc<Worker>) {
    let mut state = worker.state.borrow_mut();
    let shared: Vec<u32> = state.lines.values().filter_map(|line| line.pipe.get()).collect();
    let unused: Vec<u32> = state
        .pipes
        .iter()
        .filter(|pipe| pipe.mounts.get() == 0 && !shared.contains(&pipe.number))
        .map(|pipe| pipe.number)
        .collect();
    for pipe in unused {
        state.pipes.release(pipe);
    }
}

/// Tells the engine what is mounted below an autofs mount that was there before us.
async fn adopt(worker: &Rc<Worker>, id: MountId, table: &Arc<MountTable>) {
    let Some((path, kind)) = worker.state.borrow().triggers.get(&id).map(|t| (t.path.clone(), t.kind)) else { return };
    let mut below: BTreeMap<OsString, Vec<&Mounted>> = BTreeMap::new();
    for line in table.below(&path) {
        let Ok(rest) = line.target.strip_prefix(&path) else { continue };
        let key = match kind {
            Kind::Indirect => rest.components().next().map(|c| c.as_os_str().to_owned()),
            Kind::Direct | Kind::Offset => Some(OsString::new()),
        };
        if let Some(key) = key {
            below.entry(key).or_default().push(line);
        }
    }
    if kind != Kind::Indirect {
        // What is mounted over it has the same path.
        let over = table.at(&path).iter().filter(|line| line.autofs.is_none());
        below.entry(OsString::new()).or_default().extend(over);
    }
    let mut adopted = 0usize;
    for (name, mounts) in below {
        if mounts.is_empty() {
            continue;
        }
        let entry = if kind == Kind::Indirect { path.join(&name) } else { path.clone() };
        Box::pin(adopt_entry(worker, id, Key::from(name.as_bytes()), &entry, &mounts, table)).await;
        adopted += 1;
    }
    info!(target: &target(&path), "re-connected to {}, {adopted} mounted below", Escaped::path(&path));
}

async fn adopt_entry(
    worker: &Rc<Worker>,
    mount: MountId,
    key: Key,
    entry: &Path,
    mounts: &[&Mounted],
    table: &Arc<MountTable>,
) {
    let (question, known) = {
        let state = worker.state.borrow();
        let Some(trigger) = state.triggers.get(&mount) else { return };
        let question = resolve::Question {
            line: Rc::clone(&trigger.line),
            context: Rc::clone(&state.context),
            at: entry.to_owned(),
            kind: trigger.kind,
            key: key.clone(),
            who: Requester::default(),
        };
        (question, state.plans.get(&mount).map(Arc::clone))
    };
    let plan = match known {
        Some(plan) => Some(plan),
        None => match resolve::now(&question) {
            Some(outcome) => outcome,
            None => resolve::later(question).await,
        }
        .found(),
    };
    if plan.is_none() {
        warn!(target: &target(entry), "failed to re-connect {}: its map does not have it any more", Escaped::path(entry));
    }
    let nested: Vec<&Mounted> = mounts.iter().copied().filter(|line| line.autofs.is_some()).collect();
    let top: Vec<&Mounted> = nested
        .iter()
        .copied()
        .filter(|line| !nested.iter().any(|o| o.target != line.target && line.target.starts_with(&o.target)))
        .collect();
    let mut done = Done::default();
    let mut inner = Vec::new();
    for line in top {
        let kind = line.autofs.map_or(Kind::Offset, |a| a.kind);
        let below = plan.as_deref().and_then(|plan| find(plan, &line.target));
        match kind {
            Kind::Offset => {
                let plan = below.unwrap_or_else(|| Arc::new(nothing(&line.target)));
                let Some(id) = take_nested(worker, mount, line, kind, None).await else { continue };
                worker.state.borrow_mut().plans.insert(id, Arc::clone(&plan));
                done.offsets.push((id, plan));
                inner.push(id);
            }
            Kind::Indirect => {
                let Some(Action::Autofs(submount)) = plan.as_deref().map(|p| &p.action) else { continue };
                let Some(sub) = super::mounting::submount_line(worker, mount, &line.target, submount) else { continue };
                let (source, lanes) = (Arc::clone(&sub.source), Arc::clone(&worker.state.borrow().context.lanes));
                if let Err(e) = lanes.run(Lane::Lookup, move || source.load()).await {
                    warn!("{e}");
                }
                let wanted = super::mounting::submount_wanted(&sub, &line.target);
                let Some(id) = take_nested(worker, mount, line, kind, Some(sub)).await else { continue };
                done.submount = Some((id, wanted));
                inner.push(id);
            }
            Kind::Direct => {}
        }
    }
    worker.event(Event::Adopted { mount, key, plan, done });
    for id in inner {
        adopt(worker, id, table).await;
    }
}

impl Resolution {
    fn found(self) -> Option<Arc<Plan>> {
        match self {
            Self::Found(plan) => Some(plan),
            _ => None,
        }
    }
}

fn nothing(at: &Path) -> Plan {
    Plan { at: at.to_owned(), action: Action::Nothing, offsets: Vec::new(), strict: false }
}

/// The part of a plan that concerns the offset at `path`.
fn find(plan: &Plan, path: &Path) -> Option<Arc<Plan>> {
    let offset = plan.offsets.iter().find(|offset| path.starts_with(&offset.at))?;
    if offset.at == path { Some(Arc::clone(offset)) } else { find(offset, path) }
}

/// Takes over an offset trigger or submount that was there before us.
async fn take_nested(
    worker: &Rc<Worker>,
    parent: MountId,
    info: &Mounted,
    kind: Kind,
    line: Option<Rc<Line>>,
) -> Option<MountId> {
    let (attacher, job, line, id) = {
        let mut guard = worker.state.borrow_mut();
        let state = &mut *guard;
        let trigger = state.triggers.get(&parent)?;
        let line = line.unwrap_or_else(|| Rc::clone(&trigger.line));
        let own: HashMap<u64, u32> = state.pipes.iter().map(|p| (p.inode.get(), p.number)).collect();
        let inode = info.autofs.as_ref().and_then(|a| a.pipe_ino).and_then(|ino| u64::try_from(ino).ok());
        let pipe = match (inode.and_then(|ino| own.get(&ino)), kind) {
            (Some(pipe), _) => *pipe,
            (None, Kind::Indirect) => state.pipes.create().ok()?.number,
            (None, _) => trigger.pipe,
        };
        let write_ends =
            state.pipes.get(pipe).and_then(|p| p.write_end().ok()).map(|end| (pipe, end)).into_iter().collect();
        let id = state.number();
        let table = Arc::new(MountTable::of(vec![info.clone()]));
        let job = Job {
            id,
            path: info.target.clone(),
            kind,
            source: Vec::new(),
            options: mount_options(&line, state),
            mode: None,
            pipe,
        };
        (Attacher { control: Arc::clone(&state.control), table, own, write_ends }, job, line, id)
    };
    let path = job.path.clone();
    let (_, result) = tokio::task::spawn_blocking(move || attacher.run(vec![job])).await.ok()?.pop()?;
    match result {
        Ok(Attached { pipe, dev, .. }) => {
            let new = NewTrigger { path, kind, dev, pipe, line, created: Made::default(), remote: false };
            worker.register(&mut worker.state.borrow_mut(), id, new);
            Some(id)
        }
        Err(e) => {
            error!(target: &target(&path), "{e}");
            None
        }
    }
}

/// Opens the root of an autofs mount, also when its path has another name by now. May wait.
pub(super) fn find_root(control: &Control, path: &Path, dev: u32) -> io::Result<OwnedFd> {
    match control.open_mount(path, dev) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let table = MountTable::read()?;
            let there = table.mounts().iter().find(|mounted| mounted.autofs.is_some() && mounted.dev == dev);
            control.open_mount(&there.ok_or(e)?.target, dev)
        }
        other => other,
    }
}

/// Gives a mount that is there new options.
pub(super) fn update(state: &mut State, mount: MountId, wanted: &Wanted) {
    let Some(line) = state.lines.get(&wanted.map).map(Rc::clone) else { return };
    let Some(trigger) = state.triggers.get_mut(&mount) else { return };
    trigger.line = line;
    let control = Arc::clone(&state.control);
    let result = state.root(mount).and_then(|root| control.set_timeout(root, wanted.timeout));
    if let Err(e) = result {
        warn!(target: &target(&wanted.path), "{}: cannot set the timeout: {e}", Escaped::path(&wanted.path));
    }
}

/// Looks for the mounts of parked packets in the mount table; what is not there either is answered.
pub(super) async fn rescan(worker: Rc<Worker>) {
    let Ok(Ok(table)) = tokio::task::spawn_blocking(MountTable::read).await else { return };
    {
        let mut guard = worker.state.borrow_mut();
        let state = &mut *guard;
        let own: HashMap<u64, u32> = state.pipes.iter().map(|p| (p.inode.get(), p.number)).collect();
        let ours: HashMap<PathBuf, (MountId, u32)> =
            state.triggers.iter().map(|(id, t)| (t.path.clone(), (*id, t.dev))).collect();
        for line in table.mounts() {
            let inode = line.autofs.as_ref().and_then(|a| a.pipe_ino).and_then(|ino| u64::try_from(ino).ok());
            if inode.is_some_and(|ino| own.contains_key(&ino)) {
                if let Some((id, dev)) = ours.get(&line.target).filter(|(_, dev)| *dev != line.dev) {
                    state.move_device(*id, *dev, line.dev);
                }
            }
        }
    }
    worker.unpark();
    // Somebody else's mount on our pipe, or one that we gave up: nobody but us can answer.
    for (slot, pipe) in worker.unroutable() {
        let mut state = worker.state.borrow_mut();
        let bytes = state.journal.packet(slot);
        let Ok(packet) = Packet::decode(&bytes) else { continue };
        let path = table.mounts().iter().rev().find(|line| line.autofs.is_some() && line.dev == packet.request().dev);
        let answered = path.map(|line| -> std::io::Result<()> {
            let root = state.control.open_mount(&line.target, line.dev)?;
            state.control.fail(root.as_fd(), packet.request().token, Errno::ENOENT)
        });
        warn!(
            "request {} on control pipe {pipe} is for no mount of ours (answered: {})",
            packet.request().token.0,
            answered.is_some_and(|a| a.is_ok())
        );
        state.journal.clear(slot);
    }
}
