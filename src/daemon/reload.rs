//! Reading the configuration and the maps: at the start, and again when asked to.
//!
//! A reload is a transaction. Everything is read first, off the reactor; what cannot be read leaves in force what was
//! read before; then the engine is told at once what is wanted, and finds the difference.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{error, info, warn};

use crate::daemon::attach::adopt;
use crate::daemon::attach::top;
use crate::daemon::jobs::detach;
use crate::daemon::maps::line::Line;
use crate::daemon::mounts::AutofsMount;
use crate::daemon::state::State;
use crate::daemon::worker::Worker;
use crate::engine::{Event, Kind, MountState, Shutdown, Wanted};
use crate::exec::lanes::Lane;
use crate::fault;
use crate::map::{MasterEntry, Table};
use crate::source::Source;
use crate::source::configuration::Configuration;
use crate::source::master::{Master, Status};
use crate::sys::{autofs, heap, image};
use crate::text::{Escaped, Severity};

/// The master map when nobody names one.
const DEFAULT_MASTER: &[u8] = b"auto.master";

/// Between two tries to read a master map that is not available at the start.
const RETRY: Duration = Duration::from_secs(2);

/// The first reading: waits for a master map that is not available yet, then mounts what it names. `again`: workers
/// before this one have served; what they have left is served on at once, and is given up only for a master map that
/// was read and does not name it.
pub(crate) async fn start(worker: &Rc<Worker>, again: bool) {
    let (wait, force, force_exit) = {
        let state = worker.state.borrow();
        let wait = state.options.master_wait.unwrap_or(state.configuration.conf.autofs.master_wait);
        (wait, state.options.force, state.options.force_exit)
    };
    let name = master_name(&worker.state.borrow());
    info!("Starting automounter version {}, master map {}", env!("AUTOFS_VERSION"), Escaped(&name.0));
    match autofs::protocol(&worker.tools().control) {
        Ok(Some((major, minor))) => info!("using kernel protocol version {major}.{minor:02}"),
        Ok(None) => {}
        Err(e) => warn!("cannot find out the version of the kernel's protocol: {e}"),
    }
    let inherited = if again { adopt::inherited(&worker.attach().means).await } else { Vec::new() };
    let begun = Instant::now();
    let mut master = read_master(worker, false).await;
    if master.status != Status::Read && !inherited.is_empty() {
        want(worker, inherited.clone()).await;
    }
    while master.status == Status::Unavailable && !worker.is_stopping() {
        if wait > 0 && begun.elapsed() >= Duration::from_secs(wait) {
            error!("problem reading master map, maximum wait exceeded");
            break;
        }
        tokio::time::sleep(RETRY).await;
        master = read_master(worker, false).await;
    }
    if force || force_exit {
        let Applied { wanted: paths, .. } = apply(worker, master, false).await;
        detach::force(&worker.tools(), paths.into_iter().map(|w| w.path).collect()).await;
        if force_exit {
            worker.stop(Shutdown::Detach);
            return;
        }
        let wanted = wanted(&mut worker.state.borrow_mut());
        want(worker, wanted).await;
        return;
    }
    let read = master.status == Status::Read;
    let Applied { wanted, unread } = apply(worker, master, false).await;
    let given_up = |old: &Wanted| {
        let line = worker.state.borrow().lines.get(&old.map).map(Rc::clone);
        let failed = line.is_some_and(|line| unread.iter().any(|other| other.serves_the_same(&line)));
        read && !failed
    };
    let (given_up, kept): (Vec<_>, Vec<_>) = unnamed(inherited, &wanted).into_iter().partition(given_up);
    let wanted: Vec<Wanted> = wanted.into_iter().chain(kept).collect();
    if !given_up.is_empty() {
        // Only what has been attached can be taken down.
        want(worker, given_up.into_iter().chain(wanted.clone()).collect()).await;
    }
    want(worker, wanted).await;
}

/// What is inherited and not wanted any more.
fn unnamed(inherited: Vec<Wanted>, wanted: &[Wanted]) -> Vec<Wanted> {
    let named: HashSet<&Path> = wanted.iter().map(|w| &*w.path).collect();
    inherited.into_iter().filter(|old| !named.contains(&*old.path)).collect()
}

/// Reads everything again. Only one reload runs at a time; a wish that comes meanwhile is served after it.
pub(crate) async fn reload(worker: Rc<Worker>) {
    if !worker.life.begin_reload() {
        return;
    }
    loop {
        again(&worker).await;
        if !worker.life.end_reload() {
            break;
        }
    }
    // As after the start: what only this has needed is not to count as ours for the days until the next one.
    image::release();
}

async fn again(worker: &Rc<Worker>) {
    let (name, lanes) = {
        let state = worker.state.borrow();
        (master_name(&state), Arc::clone(&state.context.lanes))
    };
    info!("re-reading master map {}", Escaped(&name.0));
    let before = worker.state.borrow().configuration.clone();
    let read = lanes.run(Lane::Lookup, move || Configuration::read(Some(&before))).await;
    let changed = worker.configure(read);
    let current = worker.state.borrow().master.clone();
    let sources: Vec<Arc<Source>> = worker.state.borrow().lines.values().map(|line| Arc::clone(&line.source)).collect();
    let same = lanes.run(Lane::Lookup, move || {
        current.is_some_and(|master| master.is_current()) && !sources.iter().any(|source| source.is_stale_now())
    });
    // What waits to go, or could not be read, is tried again whether files have changed or not.
    let settled = {
        let state = worker.state.borrow();
        state.whole && !worker.view(|engine| engine.mounts().any(|mount| mount.state() == MountState::Pending))
    };
    if !changed && settled && same.await {
        worker.event(Event::Forget);
        browse(worker).await;
        return;
    }
    let master = read_master(worker, true).await;
    if master.status != Status::Read {
        error!("the master map cannot be read; what it said before stays in force");
        worker.event(Event::Forget);
        return;
    }
    let Applied { wanted, .. } = apply(worker, master, true).await;
    fault::point("reload");
    want(worker, wanted).await;
    worker.event(Event::Forget);
}

/// Name of the master map, and whether `auto.master` may be called `auto_master`.
fn master_name(state: &State) -> (Vec<u8>, bool) {
    let named = state.options.master_map.clone();
    let configured = state.configuration.conf.autofs.master_map_name.clone();
    let underscore = configured.is_none();
    (named.or(configured).unwrap_or_else(|| DEFAULT_MASTER.to_vec()), underscore)
}

async fn read_master(worker: &Rc<Worker>, reload: bool) -> Master {
    let (name, names, lanes) = {
        let state = worker.state.borrow();
        (master_name(&state), Arc::clone(&state.configuration.names), Arc::clone(&state.context.lanes))
    };
    let master = lanes.run(Lane::Lookup, move || Master::read(&name.0, name.1, &names, reload)).await;
    for diagnostic in &master.diagnostics {
        match diagnostic.severity {
            Severity::Error => error!("{diagnostic}"),
            Severity::Warning => warn!("{diagnostic}"),
        }
    }
    master
}

/// What came of putting a master map in force.
struct Applied {
    /// What is to be mounted.
    wanted: Vec<Wanted>,
    /// The lines whose maps could not be read.
    unread: Vec<Rc<Line>>,
}

/// Puts the lines of a master map in force and reads their maps.
async fn apply(worker: &Rc<Worker>, master: Master, reload: bool) -> Applied {
    let lanes = Arc::clone(&worker.state.borrow().context.lanes);
    let entries: Vec<MasterEntry> = master.table.indirect.iter().chain(&master.table.direct).cloned().collect();
    let mut lines = Vec::new();
    for entry in &entries {
        lines.push(worker.state.borrow_mut().line(entry));
    }
    let sources: Vec<Arc<Source>> = lines.iter().map(|(line, _)| Arc::clone(&line.source)).collect();
    let loaded = lanes.run(Lane::Lookup, move || sources.iter().map(|source| source.load()).collect::<Vec<_>>()).await;
    let (mut usable, mut unread) = (Vec::new(), Vec::new());
    for (((line, known), result), entry) in lines.into_iter().zip(loaded).zip(&entries) {
        let path = Escaped(&line.mount_point);
        match result {
            Ok(report) => {
                report.log();
                if reload {
                    info!(target: &line.label(Path::new("")), "re-reading map for {path}");
                }
                usable.push(line);
            }
            Err(e) => {
                error!("{}: failed to read map for {path}: {e}", entry.place);
                unread.push(Rc::clone(&line));
                // What was read before stays in force.
                if known {
                    usable.push(line);
                }
            }
        }
    }
    if usable.is_empty() {
        warn!("no mounts in table");
    }
    {
        let mut state = worker.state.borrow_mut();
        state.whole = unread.is_empty();
        state.master = Some(Arc::new(master));
        state.order = usable.iter().map(|line| line.number).collect();
        let submounts: Vec<Rc<Line>> = state.submount_lines();
        let kept = usable.iter().cloned().chain(submounts).map(|line| (line.number, line)).collect();
        let old = std::mem::replace(&mut state.lines, kept);
        for line in usable {
            let path = Path::new(OsStr::from_bytes(&line.mount_point));
            state.logger.set_mount(path, line.options.verbosity);
        }
        drop(old);
    }
    Applied { wanted: wanted(&mut worker.state.borrow_mut()), unread }
}

/// What the lines in force want mounted. A direct key below another direct key is not among it: a trigger inside a
/// trigger would never be reached. It comes when the one above it is mounted, like the offset of a multi-mount.
fn wanted(state: &mut State) -> Vec<Wanted> {
    let all = named(state);
    let direct: HashSet<&Path> = all.iter().filter(|w| w.kind == Kind::Direct).map(|w| &*w.path).collect();
    let above = |w: &Wanted| -> Option<Arc<Path>> {
        let mut ancestors = w.path.ancestors().skip(1);
        (w.kind == Kind::Direct).then(|| ancestors.find(|path| direct.contains(path))).flatten().map(Arc::from)
    };
    let above: Vec<Option<Arc<Path>>> = all.iter().map(above).collect();
    let mut nested: HashMap<Arc<Path>, Vec<(Arc<Path>, u32)>> = HashMap::new();
    let mut top = Vec::with_capacity(all.len());
    for (wanted, above) in all.into_iter().zip(above) {
        match above {
            Some(above) => nested.entry(above).or_default().push((wanted.path, wanted.map)),
            None => top.push(wanted),
        }
    }
    state.nested = nested;
    top
}

/// All that the lines in force name, in their order.
fn named(state: &State) -> Vec<Wanted> {
    let Some(master) = &state.master else { return Vec::new() };
    let path = |bytes: &[u8]| Arc::from(Path::new(OsStr::from_bytes(bytes)));
    let mut wanted = Vec::new();
    let mut taken: HashSet<Arc<Path>> = HashSet::new();
    let mut direct = 0;
    for number in &state.order {
        let Some(line) = state.lines.get(number) else { continue };
        let mut want = |path, kind| {
            wanted.push(Wanted {
                path,
                kind,
                map: *number,
                timeout: line.timeout(),
                negative_timeout: line.negative_timeout(),
            });
        };
        if !line.direct() {
            want(path(&line.mount_point), Kind::Indirect);
            continue;
        }
        let index = direct_index(&master.table, line, &mut direct);
        for key in line.source.keys() {
            let at = path(&key);
            if !master.table.hides(index, &key) && taken.insert(Arc::clone(&at)) {
                want(at, Kind::Direct);
            }
        }
    }
    wanted
}

/// The position of a line among the direct maps of the table: some may have been left out since.
fn direct_index(table: &Table, line: &Line, from: &mut usize) -> usize {
    let rest = table.direct.get(*from..).unwrap_or_default();
    let index = rest.iter().position(|entry| entry.source == line.spec).map_or(*from, |n| *from + n);
    *from = index + 1;
    index
}

/// Tells the engine, and waits until what is new is mounted.
async fn want(worker: &Rc<Worker>, wanted: Vec<Wanted>) {
    worker.event(Event::Want(wanted));
    worker.mounts.settled().await;
    browse(worker).await;
    top::release_unused(&worker.attach().means);
    // The maps and the mount table have been in memory more than once.
    drop(tokio::task::spawn_blocking(heap::trim));
}

/// Brings the directories of keys up to date, where they are shown.
async fn browse(worker: &Rc<Worker>) {
    let shown = |mount: &AutofsMount| mount.kind == Kind::Indirect && mount.line.browse();
    for id in worker.mounts.filter_map(|id, mount| shown(mount).then_some(id)) {
        worker.browse(id).await;
    }
}
