//! Reads the configuration and the maps, at the start and at a reload, and tells the engine what has changed.
//!
//! Each file and map has its own deadline and is read off the reactor. It is applied when it is read; late ones are applied when
//! they arrive; after an error the previous content stays in use.

pub(crate) mod call;
pub(crate) mod report;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::{error, info, warn};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::blocking;
use crate::control::history::EventKind;
use crate::daemon::attach::{adopt, top};
use crate::daemon::jobs::detach;
use crate::daemon::leftovers;
use crate::daemon::maps::compare::{Delta, View, for_each_added_key, for_each_mount_point, select};
use crate::daemon::maps::configured_map::ConfiguredMap;
use crate::daemon::mounts::AutofsMount;
use crate::daemon::news;
use crate::daemon::refresh_host_trees;
use crate::daemon::verify::before_reload;
use crate::daemon::worker::Worker;
use crate::engine::{Engine, Event, Shutdown, Wanted};
use crate::exec::lanes::{Lane, Lanes};
use crate::fault;
use crate::link::Message;
use crate::source::configuration::{Configuration, ConfigurationFiles};
use crate::source::master::{self, Master, Reading, Status};
use crate::source::{Freshness, Pass, SourceError};
use crate::sys::{autofs, heap};
use crate::task::spawn_local;
use crate::text::{Escaped, Position, Severity};

/// Between two tries to read a master map that is not available at the start.
const MASTER_RETRY_DELAY: Duration = Duration::from_secs(2);

/// How long the configuration may take before defaults, or what held before, are used in its place.
pub(crate) const CONFIGURATION: Duration = Duration::from_secs(3);

/// How long maps that answer quickly are waited for before the first of them are put in force.
const QUICK: Duration = Duration::from_millis(300);

/// The same at a start that takes mounts over: the plans of what is mounted there come from the maps.
const QUICK_AGAIN: Duration = Duration::from_secs(2);

/// How long a start waits for maps before it is over without them.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(3);

/// Maps that come in within this time are put in force together.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// How long symbolic links on the way to mount points may take to resolve. A path over a dead server is taken as written.
const REAL_PATHS_WITHIN: Duration = Duration::from_secs(5);

/// Pause before maps that were written just now are read again: another write then has another time stamp.
const SETTLED: Duration = Duration::from_millis(30);

/// Reason that is shown for a map that has not answered yet.
pub(crate) const LATE: &str = "it is not read yet";

/// Reads the configuration and maps for the first time. Waits for the master map, then mounts what it names. With `again`, earlier
/// workers have served: their mounts are served at once, and are removed only if a master map that was read does not name them.
pub(crate) async fn start(worker: &Rc<Worker>, again: bool) {
    let (wait, force, force_exit) = {
        let state = worker.state.borrow();
        let wait = state.options.master_wait.unwrap_or(state.configuration.conf.autofs.master_wait);
        (wait, state.options.force, state.options.force_exit)
    };
    let (name, _) = master_name(worker);
    info!("Starting automounter version {}, master map {}", env!("AUTOFS_VERSION"), Escaped(&name));
    match autofs::protocol(&worker.tools().control) {
        Ok(Some((major, minor))) => info!("using kernel protocol version {major}.{minor:02}"),
        Ok(None) => {}
        Err(e) => warn!("cannot find out the version of the kernel's protocol: {e}"),
    }
    if again {
        adopt::inherited(&worker.attach().means).await;
    }
    let inherited = worker.state.borrow().maps.inherited();
    let begun = Instant::now();
    let mut reading = pin!(read_master(worker, false));
    let quick = timeout_at(begun + QUICK, &mut reading).await;
    if !inherited.is_empty() && !quick.as_ref().is_ok_and(|master| master.status == Status::Read) {
        want(worker, inherited).await;
    }
    let mut master = match quick {
        Ok(master) => master,
        Err(_) => reading.await,
    };
    while master.status == Status::Unavailable && !worker.is_stopping() {
        if wait > 0 && begun.elapsed() >= Duration::from_secs(wait) {
            error!("problem reading master map, maximum wait exceeded");
            break;
        }
        worker.life.pause(MASTER_RETRY_DELAY).await;
        master = read_master(worker, false).await;
    }
    put(worker, master);
    if force || force_exit {
        let loading = Loading::begin(worker, false);
        loading.finish(worker).await;
        let Selected { wanted, .. } = all_wanted(worker).await;
        detach::force(&worker.tools(), wanted.into_iter().map(|w| w.path).collect()).await;
        if force_exit {
            worker.stop(Shutdown::Detach);
            return;
        }
    }
    load(worker, false, true).await;
    leftovers::tidy(worker).await;
    let worker = Rc::clone(worker);
    spawn_local(async move { leftovers::unmount_covered(&worker).await });
}

/// Reloads: reads the configuration, then the master map and the maps that may have changed. If a reload is running, another one
/// runs after it, and this returns at once. While the daemon is quiesced, the reload waits until it resumes.
pub(crate) async fn reload(worker: Rc<Worker>) {
    if !worker.life.begin_reload() {
        if !worker.life.is_reloading() {
            worker.mounts.tell_keeper(Message::Reloaded);
        }
        return;
    }
    news::tell_manager(&worker);
    worker.socket_check.notify_one();
    loop {
        read_again(&worker).await;
        let unread = worker.state.borrow().maps.unread.clone();
        let message = match unread {
            None => "configuration and maps were read again".to_owned(),
            Some(why) => format!("the master map could not be read, and stays in force as it was: {why}"),
        };
        worker.history.event(EventKind::Reload, message);
        leftovers::tidy(&worker).await;
        if !worker.life.end_reload() {
            break;
        }
    }
    news::tell_manager(&worker);
    worker.standing.notify_one();
    worker.mounts.tell_keeper(Message::Reloaded);
}

/// Reads the configuration at the start. What cannot be read by the deadline counts as absent.
pub(crate) async fn configuration(files: &ConfigurationFiles) -> Configuration {
    let read = Configuration::read(files, None, Instant::now() + CONFIGURATION).await;
    for diagnostic in &read.diagnostics {
        error!("{diagnostic}");
    }
    read.configuration
}

async fn read_again(worker: &Rc<Worker>) {
    let (name, _) = master_name(worker);
    info!("re-reading master map {}", Escaped(&name));
    before_reload(worker).await;
    worker.mounts.forget_failures();
    worker.state.borrow().context.sources.servers.forget();
    let (before, files) = {
        let state = worker.state.borrow();
        (state.configuration.clone(), Arc::clone(&state.context.sources.configuration))
    };
    let read = Configuration::read(&files, Some(&before), Instant::now() + CONFIGURATION).await;
    for diagnostic in &read.diagnostics {
        error!("{diagnostic}");
    }
    worker.state.borrow_mut().rejected = read.diagnostics;
    let changed = worker.configure(read.configuration);
    worker.renew_lookups();
    let unsettled = {
        let state = worker.state.borrow();
        // What waits to go or to come is tried again whether files have changed or not.
        let absent = |engine: &Engine| engine.absent().next().is_some();
        !state.maps.complete || worker.view(Engine::has_pending) || worker.view(absent)
    };
    let current = worker.state.borrow().maps.master().is_some_and(|master| master.is_current());
    if changed || unsettled || !current {
        let master = read_master(worker, true).await;
        match master.status {
            Status::Read | Status::Partial => put(worker, master),
            Status::NotFound | Status::Unavailable => {
                error!("the master map cannot be read; what it said before stays in force");
                worker.state.borrow_mut().maps.unread = Some(why_unread(&master));
                incomplete(worker);
            }
        }
    }
    if !read.complete {
        incomplete(worker);
    }
    load(worker, true, true).await;
    worker.event(Event::Forget);
    refresh_host_trees::trees(worker);
}

/// Notes that something could not be read, and is to be tried again.
fn incomplete(worker: &Worker) {
    worker.state.borrow_mut().maps.complete = false;
    worker.incomplete.notify_one();
}

/// Notes whether something of a map could not be read that may be back soon.
fn note_away(worker: &Worker, map: &ConfiguredMap, away: bool) {
    map.away.set(away);
    if away {
        worker.incomplete.notify_one();
    }
}

/// Returns the name of the master map, and whether `auto.master` may be called `auto_master`.
fn master_name(worker: &Worker) -> (Vec<u8>, bool) {
    let state = worker.state.borrow();
    master::name(state.options.master_map.as_deref(), &state.configuration.conf.autofs)
}

async fn read_master(worker: &Rc<Worker>, replaces: bool) -> Master {
    let configuration = worker.state.borrow().configuration.clone();
    let master = read_master_with(worker, replaces, &configuration).await;
    worker.state.borrow_mut().maps.away.clone_from(&master.unread);
    if !master.unread.is_empty() {
        worker.incomplete.notify_one();
    }
    for diagnostic in &master.diagnostics {
        match diagnostic.severity {
            Severity::Error => error!("{diagnostic}"),
            Severity::Warning => warn!("{diagnostic}"),
        }
    }
    master
}

/// Says why a master map could not be read.
pub(crate) fn why_unread(master: &Master) -> String {
    match (master.diagnostics.last(), master.inputs().next()) {
        (Some(diagnostic), _) => diagnostic.to_string(),
        (None, Some(file)) => format!("{}: No such file or directory", Escaped::path(file)),
        (None, None) => "there is no master map".to_owned(),
    }
}

/// Reads the master map as a configuration names it. Puts nothing in force and logs nothing.
pub(crate) async fn read_master_with(worker: &Rc<Worker>, replaces: bool, configuration: &Configuration) -> Master {
    let (name, underscore) = {
        let state = worker.state.borrow();
        master::name(state.options.master_map.as_deref(), &configuration.conf.autofs)
    };
    let reading = {
        let state = worker.state.borrow();
        let context = &state.context;
        // The start is not held up for as long as a lookup may take.
        let deadline = Instant::now() + context.lookup_deadline.min(START_TIMEOUT);
        let (files, names) = (Arc::clone(&context.sources.master), Arc::clone(&configuration.names));
        let (amd, mount_points) = (configuration.conf.amd.clone(), configuration.native.mount_points.clone());
        Reading { files, names, amd, mount_points, replaces, deadline }
    };
    Master::read(&name, underscore, reading).await
}

/// Puts a master map in force. The maps that it names are served when they are read.
fn put(worker: &Rc<Worker>, master: Master) {
    let mut guard = worker.state.borrow_mut();
    let state = &mut *guard;
    state.maps.complete = master.status == Status::Read;
    state.maps.unread = match master.status {
        Status::Read | Status::Partial => None,
        Status::NotFound | Status::Unavailable => Some(why_unread(&master)),
    };
    state.maps.changed = true;
    let environment = Arc::clone(&state.context.environment);
    state.maps.put(master, &state.configuration.conf.autofs, &state.options, &environment);
    if !state.maps.complete {
        worker.incomplete.notify_one();
    }
}

/// The result of reading the map with this number. `Ok(Some(error))`: its keys are served, but cannot be listed.
type Read = (u32, Result<Option<Arc<SourceError>>, Arc<SourceError>>);

/// The maps that are being read.
struct Loading {
    tasks: JoinSet<Read>,
    lines: HashMap<u32, (Rc<ConfiguredMap>, Position)>,
    reload: bool,
}

impl Loading {
    /// Begins to read all maps that may have changed.
    fn begin(worker: &Rc<Worker>, reload: bool) -> Self {
        let state = worker.state.borrow();
        if reload {
            state.maps.by_number.values().for_each(|map| map.source.forget());
        }
        let mut loading = Self { tasks: JoinSet::new(), lines: HashMap::new(), reload };
        let deadline = Instant::now() + state.context.lookup_deadline;
        for (map, place) in state.maps.configured() {
            if map.usable.get() && map.source.freshness() == Freshness::Unchanged {
                map.away.set(false);
                loading.say(map);
                continue;
            }
            let (number, source) = (map.number, Arc::clone(&map.source));
            let (is_direct, is_browsed) = (map.direct(), map.browse());
            loading.lines.insert(number, (Rc::clone(map), place.clone()));
            loading.tasks.spawn(async move {
                let pass = Pass::new(deadline);
                if !is_direct && !is_browsed {
                    return (number, source.prepare(&pass).await.map(|()| None));
                }
                let read = match source.entries(&pass).await {
                    Ok(_) => Ok(None),
                    // Keys may be served although they cannot be listed now.
                    Err(error) if !is_direct && source.prepare(&pass).await.is_ok() => Ok(Some(error)),
                    Err(error) => Err(error),
                };
                (number, read)
            });
        }
        loading
    }

    fn is_done(&self) -> bool {
        self.tasks.is_empty()
    }

    fn say(&self, map: &ConfiguredMap) {
        if self.reload {
            let path = Escaped(&map.mount_point);
            info!(target: &map.label(Path::new("")), "re-reading map for {path}");
        }
    }

    /// Waits for a map to be read, until `deadline`.
    async fn next(&mut self, worker: &Worker, deadline: Instant) -> bool {
        let Ok(Some(Ok((number, read)))) = timeout_at(deadline, self.tasks.join_next()).await else { return false };
        let Some((map, place)) = self.lines.remove(&number) else { return true };
        match read {
            Ok(unlisted) => {
                map.unread.replace(None);
                self.say(&map);
                note_away(
                    worker,
                    &map,
                    map.source.is_partial() || unlisted.as_ref().is_some_and(|error| error.may_pass()),
                );
                if let Some(error) = unlisted {
                    warn!("{place}: the keys of {} are not shown: {error}", Escaped(&map.mount_point));
                    if error.is_transient() {
                        incomplete(worker);
                    }
                }
                let mut state = worker.state.borrow_mut();
                state.maps.changed |= !map.usable.replace(true);
                state.logger.set_mount(Path::new(OsStr::from_bytes(&map.mount_point)), map.options.verbosity);
            }
            Err(e) => {
                let path = Escaped(&map.mount_point);
                error!("{place}: failed to read map for {path}: {e}");
                map.unread.replace(Some(e.to_string()));
                note_away(worker, &map, e.may_pass());
                if e.is_transient() {
                    incomplete(worker);
                }
            }
        }
        true
    }

    /// Waits until all maps are read, or `deadline`.
    async fn until(&mut self, worker: &Worker, deadline: Instant) {
        while !self.is_done() && self.next(worker, deadline).await {}
    }

    /// Waits for all maps.
    async fn finish(mut self, worker: &Worker) {
        while !self.is_done() {
            self.until(worker, Instant::now() + MASTER_RETRY_DELAY).await;
        }
    }
}

/// Reads those maps again that were written just now: a writer may have been in the middle.
async fn check_unsettled(worker: Rc<Worker>) {
    worker.life.pause(SETTLED).await;
    let unsettled = |worker: &Worker| {
        worker.state.borrow().maps.served().any(|map| map.source.freshness() == Freshness::MayHaveChanged)
    };
    if !worker.is_stopping() && unsettled(&worker) {
        Box::pin(load(&worker, false, false)).await;
    }
}

/// Reads the maps in force and tells the engine what has changed: first those that answer quickly, the others when they
/// answer. Returns when all are read, or have had some time. With `look_again`, maps that were written just now are read once
/// more afterwards.
async fn load(worker: &Rc<Worker>, reload: bool, look_again: bool) {
    let begun = Instant::now();
    let mut loading = Loading::begin(worker, reload);
    let has_inherited = !worker.state.borrow().maps.inherited().is_empty();
    loading.until(worker, begun + if has_inherited { QUICK_AGAIN } else { QUICK }).await;
    apply(worker).await;
    while !loading.is_done() && begun.elapsed() < START_TIMEOUT && !worker.is_stopping() {
        if loading.next(worker, begun + START_TIMEOUT).await {
            loading.until(worker, Instant::now() + DEBOUNCE).await;
            apply(worker).await;
        }
    }
    if look_again {
        spawn_local(check_unsettled(Rc::clone(worker)));
    }
    if loading.is_done() {
        if worker.state.borrow().maps.served().next().is_none() {
            warn!("no mounts in table");
        }
        return;
    }
    for (map, _) in loading.lines.values() {
        warn!("the map for {} is not read yet; the others are served", Escaped(&map.mount_point));
        map.unread.replace(Some(LATE.to_owned()));
    }
    incomplete(worker);
    let worker = Rc::clone(worker);
    spawn_local(async move {
        while !loading.is_done() && !worker.is_stopping() {
            if loading.next(&worker, Instant::now() + MASTER_RETRY_DELAY).await {
                loading.until(&worker, Instant::now() + DEBOUNCE).await;
                apply(&worker).await;
            }
        }
    });
}

/// Tells the engine what the maps want as they are now.
async fn apply(worker: &Rc<Worker>) {
    let _turn = worker.applying.lock().await;
    let (changed_lines, changed_entries) = {
        let state = worker.state.borrow();
        (state.maps.changed, state.maps.has_changed())
    };
    if !changed_lines && !changed_entries {
        browse(worker, &[]).await;
        return;
    }
    if !changed_lines {
        if let Some((delta, changed)) = delta(worker).await {
            reload_point(worker);
            if !delta.wanted.is_empty() || !delta.unwanted.is_empty() {
                worker.event(Event::Change { wanted: delta.wanted, unwanted: delta.unwanted });
                worker.mounts.settled().await;
            }
            browse(worker, &changed).await;
            return;
        }
    }
    worker.state.borrow_mut().maps.changed = false;
    let Selected { wanted, given_up, changed } = all_wanted(worker).await;
    reload_point(worker);
    if !given_up.is_empty() {
        // Only what has been attached can be taken down.
        want(worker, given_up.into_iter().chain(wanted.clone()).collect()).await;
    }
    want(worker, wanted).await;
    browse(worker, &changed).await;
}

/// The point in a reload at which a test may let the worker die.
fn reload_point(worker: &Worker) {
    if worker.life.has_started() {
        fault::point("reload");
    }
}

/// The mounts that all maps together want.
#[derive(Default)]
struct Selected {
    wanted: Vec<Wanted>,
    /// Mounts of earlier workers that no map names.
    given_up: Vec<Wanted>,
    /// The maps whose entries have changed.
    changed: Vec<u32>,
}

/// Selects all that is wanted.
async fn all_wanted(worker: &Rc<Worker>) -> Selected {
    let (views, before, master, lanes) = {
        let mut state = worker.state.borrow_mut();
        let (views, before) = state.maps.take_entries();
        (views, before, state.maps.master().map(Arc::clone), Arc::clone(&state.context.lanes))
    };
    let Some(master) = master else { return Selected::default() };
    let (views, real) = (Arc::new(views), Arc::clone(&worker.state.borrow().real));
    find_real_paths(worker, &views).await;
    let work = move || select(&views, &master.table, &real);
    let (mut wanted, direct) = lanes.run(Lane::Lookup, work).await;
    let mut guard = worker.state.borrow_mut();
    let state = &mut *guard;
    state.maps.direct = Arc::new(direct);
    let given_up = state.maps.add_inherited(&mut wanted, &state.real);
    Selected { wanted, given_up, changed: before.into_keys().collect() }
}

/// Finds the real paths of the mount points of `views`, and of those whose map could not be read yet.
async fn find_real_paths(worker: &Rc<Worker>, views: &Arc<Vec<View>>) {
    let (unread, real, lanes) = {
        let state = worker.state.borrow();
        let unread = state.maps.configured().map(|(map, _)| map).filter(|map| !map.usable.get() && !map.direct());
        let unread: Vec<Vec<u8>> = unread.map(|map| map.mount_point.clone()).collect();
        (unread, Arc::clone(&state.real), Arc::clone(&state.context.lanes))
    };
    let views = Arc::clone(views);
    resolve(&lanes, move || {
        real.learn(&|each| {
            unread.iter().for_each(|path| each(Path::new(OsStr::from_bytes(path))));
            for_each_mount_point(&views, each);
        });
    })
    .await;
}

/// Does work that follows symbolic links, until [`REAL_PATHS_WITHIN`].
async fn resolve(lanes: &Lanes, work: impl FnOnce() + Send + 'static) {
    if let Err(late) = lanes.run_at(Lane::Mount, Path::new("/"), REAL_PATHS_WITHIN, work).await {
        warn!("symbolic links on the way to some mount points are not resolved: {late}");
    }
}

/// Finds out what the changed entries change. Returns `None` if everything must be selected anew.
async fn delta(worker: &Rc<Worker>) -> Option<(Delta, Vec<u32>)> {
    if worker.view(Engine::is_unsettled) {
        return None;
    }
    let (read, master, direct, real, lanes) = {
        let mut state = worker.state.borrow_mut();
        let read = Arc::new(state.maps.take_entries());
        let (master, direct) = (Arc::clone(state.maps.master()?), Arc::clone(&state.maps.direct));
        (read, master, direct, Arc::clone(&state.real), Arc::clone(&state.context.lanes))
    };
    let added = (Arc::clone(&read), Arc::clone(&real));
    resolve(&lanes, move || {
        let ((views, before), real) = (&*added.0, added.1);
        real.add(&|each| for_each_added_key(views, before, each));
    })
    .await;
    let work = move || {
        let (views, before) = &*read;
        let delta = direct.delta(views, before, &master.table, &real);
        (delta, before.keys().copied().collect::<Vec<_>>())
    };
    let (delta, changed) = lanes.run(Lane::Lookup, work).await;
    let mut state = worker.state.borrow_mut();
    let simple = delta.and_then(|delta| {
        Arc::get_mut(&mut state.maps.direct)?.apply(&delta);
        delta.removed.iter().for_each(|written| state.real.forget(written));
        Some(delta)
    });
    match simple {
        Some(delta) => Some((delta, changed)),
        None => {
            // The entries were taken already: all must be looked at.
            state.maps.changed = true;
            None
        }
    }
}

/// Tells the engine all that is wanted, and waits until what is new is mounted.
async fn want(worker: &Rc<Worker>, wanted: Vec<Wanted>) {
    worker.event(Event::Configure(wanted));
    worker.mounts.settled().await;
    top::release_unused(&worker.attach().means);
    // The maps and the mount table have been in memory more than once.
    drop(spawn_local(blocking::run(heap::trim)));
}

/// Brings the directories of keys up to date, where they are shown: those of the maps that have changed.
async fn browse(worker: &Rc<Worker>, changed: &[u32]) {
    let shown = |mount: &AutofsMount| mount.map.browse() && (changed.is_empty() || changed.contains(&mount.map.number));
    for id in worker.mounts.filter_map_indirect(|id, mount| shown(mount).then_some(id)) {
        worker.browse(id).await;
    }
}
