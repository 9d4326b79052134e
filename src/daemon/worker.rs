//! The worker: carries out what the engine decides, and tells it the outcome.
//!
//! Everything here runs on the reactor thread, which never touches a path that could block, never resolves a name and
//! never waits for a child: what can block is handed to a [lane](crate::exec::lanes). The one short cut is for work
//! that provably cannot block: a request whose map is in memory and whose mount needs nothing that is not cached by
//! the kernel is answered in the turn in which its packet was read.

use std::cell::{Cell, RefCell};
use std::collections::{HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_local;

use crate::control::SOCKET;
use crate::daemon::attach::{Attach, top};
use crate::daemon::checkpoint::sentinel::Sentinel;
use crate::daemon::control::serve;
use crate::daemon::jobs::{Means, browse, check, detach, expire, perform, resolve, unmount};
use crate::daemon::life::{Life, Phase, Quiescence};
use crate::daemon::mailbox::{Mailbox, Report};
use crate::daemon::mounts::locate::{Located, locate};
use crate::daemon::mounts::pipes::{Pipe, Pipes};
use crate::daemon::mounts::record::{self, Record};
use crate::daemon::mounts::{AutofsMount, Making, Mounts};
use crate::daemon::requests::{Receiver, Requests, Routed, find_mounts, serve as serve_pipe};
use crate::daemon::state::State;
use crate::daemon::tools::Tools;
use crate::engine::{
    Effect, Engine, EntryId, EntryPhase, EntryView, Event, JobId, Limits, MountId, Resolution, Shutdown, Wanted,
};
use crate::exec::lanes::Lanes;
use crate::fault;
use crate::link::journal::{Journal, Slot};
use crate::link::{Inheritance, Message, Pulse};
use crate::logging::{Logger, target};
use crate::options::Options;
use crate::source::configuration::Configuration;
use crate::source::{Sources, service};
use crate::sys::autofs::Control;
use crate::text::Escaped;

/// How long a start may take before the end that was asked for meanwhile begins without it.
const START: Duration = Duration::from_secs(5);

/// What is to be done after a job or a restore, by the modules above the worker.
#[derive(Debug)]
pub(crate) enum Next {
    /// Serve the autofs mounts again that were found after a checkpoint.
    Regain(Located, Option<Quiescence>),
    /// Mount this autofs mount again with all its options, if nothing is mounted on it any more.
    Renew(MountId),
}

/// The worker.
#[derive(Debug)]
pub(crate) struct Worker {
    engine: RefCell<Engine>,
    /// The autofs mounts.
    pub(crate) mounts: Rc<Mounts>,
    /// The requests of the kernel.
    pub(crate) requests: Rc<Requests>,
    /// The configuration and the maps.
    pub(crate) state: Rc<RefCell<State>>,
    /// The phases of its life.
    pub(crate) life: Rc<Life>,
    tools: RefCell<Tools>,
    /// Where the keeper sees that the event loop makes progress.
    pulse: Arc<Pulse>,
    /// Told when the engine's deadline has changed.
    timer: Notify,
    sentinel: Sentinel,
    /// The path of the program, which may have been replaced since the start.
    pub(crate) program: PathBuf,
    /// The file of our control socket.
    pub(crate) socket: Cell<Option<serve::Identity>>,
    /// Told when something could not be read: it is to be tried again.
    pub(crate) incomplete: Notify,
    /// When `status` has last had the mounts compared with the mount table.
    pub(crate) verified: Cell<Option<Instant>>,
    /// The autofs mounts that a dead daemon has left, as `status` has found them last.
    pub(crate) left: RefCell<Vec<PathBuf>>,
    /// Held while the engine is told what the maps want.
    pub(crate) applying: tokio::sync::Mutex<()>,
    next: mpsc::UnboundedSender<Next>,
}

/// The channels of a new worker, for the tasks that drain them.
#[derive(Debug)]
pub(crate) struct Channels {
    /// Pipes that are to be read.
    pub(crate) unread: mpsc::UnboundedReceiver<Rc<Pipe>>,
    /// What is to be done by the modules above.
    pub(crate) next: mpsc::UnboundedReceiver<Next>,
}

impl Worker {
    /// Makes a worker of what the keeper gives it. `container`: whether it runs in a container.
    ///
    /// # Errors
    /// When the control device, a pipe or a thread cannot be had.
    pub(crate) fn new(
        inheritance: Inheritance,
        configuration: Configuration,
        options: Options,
        logger: &'static Logger,
        sources: &Rc<Sources>,
        container: bool,
    ) -> io::Result<(Rc<Self>, Channels)> {
        let (journal, unanswered) = Journal::open(inheritance.journal, inheritance.spared);
        let requests = Requests::new(journal, unanswered);
        let (control, lanes) = (Arc::new(Control::open()?), Arc::new(Lanes::new(&configuration.native.limits)));
        let (mounts, unread) = Mounts::new(Arc::clone(&control), Pipes::new(inheritance.link, inheritance.pipes));
        let tools =
            Tools::new(&configuration, control, Arc::clone(&lanes), requests.requesters(), requests.names(), container);
        let deadlines = &configuration.native.deadlines;
        let limits = Limits {
            request: u64::try_from(deadlines.request.as_millis()).unwrap_or(u64::MAX),
            unmount: u64::try_from(deadlines.umount.as_millis()).unwrap_or(u64::MAX),
            ..Limits::default()
        };
        let (next, nexts) = mpsc::unbounded_channel();
        match Record::open(Path::new(record::FILE)) {
            Ok(record) => mounts.set_record(record),
            Err(e) => warn!("cannot keep a record of directories in {}: {e}", record::FILE),
        }
        let worker = Self {
            engine: RefCell::new(Engine::new(limits)),
            mounts,
            requests,
            state: Rc::new(RefCell::new(State::new(configuration, options, logger, &lanes, sources))),
            life: Rc::new(Life::begin()),
            tools: RefCell::new(tools),
            pulse: inheritance.pulse,
            timer: Notify::new(),
            sentinel: Sentinel::start()?,
            program: inheritance.program,
            socket: Cell::new(None),
            incomplete: Notify::new(),
            verified: Cell::default(),
            left: RefCell::default(),
            applying: tokio::sync::Mutex::new(()),
            next,
        };
        Ok((Rc::new(worker), Channels { unread, next: nexts }))
    }

    /// Returns the tools for a job.
    pub(crate) fn tools(&self) -> Tools {
        self.tools.borrow().clone()
    }

    /// Returns what jobs attach mounts with.
    pub(crate) fn attach(self: &Rc<Self>) -> Attach {
        Attach { means: self.means(), life: Rc::clone(&self.life), mailbox: self.mailbox() }
    }

    fn means(&self) -> Means {
        Means { mounts: Rc::clone(&self.mounts), state: Rc::clone(&self.state), tools: self.tools() }
    }

    fn mailbox(self: &Rc<Self>) -> Mailbox {
        let worker = Rc::clone(self);
        Mailbox::new(move |report| worker.report(report))
    }

    /// Returns what `look` sees in the engine.
    pub(crate) fn view<T>(&self, look: impl FnOnce(&Engine) -> T) -> T {
        look(&self.engine.borrow())
    }

    /// Applies a configuration. Returns whether anything has changed.
    pub(crate) fn configure(&self, configuration: Configuration) -> bool {
        let mut state = self.state.borrow_mut();
        let changed = state.configure(configuration);
        if changed {
            let tools = self.tools.borrow().configured(&state.configuration);
            self.tools.replace(tools);
        }
        changed
    }

    /// Has directory services asked with the settings of now.
    pub(crate) fn renew_lookups(&self) {
        let state = self.state.borrow();
        let settings = service::settings(&state.configuration.conf.autofs);
        state.context.sources.lookups.renew(settings);
    }

    /// Ends the daemon. While it starts, the engine does not know yet what there is to be unmounted.
    pub(crate) fn stop(self: &Rc<Self>, how: Shutdown) {
        if !self.life.enter(Phase::Stopping(how)) {
            return;
        }
        if self.life.has_started() {
            return self.event(Event::Stop(how));
        }
        let worker = Rc::clone(self);
        spawn_local(async move {
            tokio::time::sleep(START).await;
            worker.event(Event::Stop(how));
        });
    }

    /// Takes note that the start is over.
    pub(crate) fn started(self: &Rc<Self>) {
        let stop = self.life.started();
        self.mounts.tell_keeper(Message::Started);
        // What could not be read at the start is tried again from now on.
        self.incomplete.notify_one();
        if let Some(how) = stop {
            self.event(Event::Stop(how));
        }
    }

    /// Returns whether the end has begun.
    pub(crate) fn is_stopping(&self) -> bool {
        self.life.is_stopping()
    }

    /// Ends a job that makes autofs mounts: packets that have waited for it are looked at again.
    pub(crate) fn made(self: &Rc<Self>, making: Making) {
        drop(making);
        self.serve_parked();
    }

    /// Routes the parked packets again.
    pub(crate) fn serve_parked(self: &Rc<Self>) {
        self.requests.serve_parked(&self.mounts, self);
    }

    /// Begins nothing more: packets stay in the pipes, for the next worker. Returns whether nothing is under way that the
    /// next one would have to do again.
    pub(crate) fn winds_up(&self) -> bool {
        self.requests.hold();
        self.requests.none_served() && !self.mounts.is_making()
    }

    /// Returns whether nothing is being done: no request, no mount, no program, no thread in the kernel.
    pub(crate) fn is_idle(&self) -> bool {
        !self.mounts.is_busy()
            && self.requests.none_parked()
            && !self.life.is_reloading()
            && self.life.phase() != Phase::Restoring
            && self.engine.borrow().is_idle()
            && self.tools.borrow().lanes.is_idle()
    }

    /// Sleeps until the engine wants to be woken, and wakes it. While it wants nothing, nothing runs.
    pub(crate) async fn timers(self: Rc<Self>) {
        loop {
            let deadline = self.engine.borrow().deadline();
            match deadline {
                None => self.timer.notified().await,
                Some(at) => {
                    let moment = tokio::time::Instant::from_std(self.life.moment(at));
                    tokio::select! {
                        () = tokio::time::sleep_until(moment) => self.event(Event::Timer),
                        () = self.timer.notified() => {}
                    }
                }
            }
        }
    }

    /// Tells the engine what has happened, and does what it says.
    pub(crate) fn event(self: &Rc<Self>, event: Event) {
        self.pulse.progress();
        let mut together = Together::default();
        let changed = {
            let mut engine = self.engine.borrow_mut();
            let before = engine.deadline();
            let (mut events, mut effects) = (VecDeque::from([event]), Vec::new());
            while let Some(event) = events.pop_front() {
                engine.trace(log::max_level() >= log::LevelFilter::Debug);
                engine.handle(self.life.now(), event, &mut effects);
                log_transitions(&mut engine);
                for effect in effects.drain(..) {
                    events.extend(self.carry_out(&mut together, effect));
                }
            }
            engine.deadline() != before
        };
        if !self.requests.is_reading() {
            self.mounts.close_roots();
        }
        if changed {
            self.timer.notify_one();
        }
        self.begin_together(together);
    }

    /// Begins the jobs of one kind that are carried out together.
    fn begin_together(self: &Rc<Self>, Together { attach, detach, check, left }: Together) {
        drop(left);
        if !attach.is_empty() {
            let (worker, making) = (Rc::clone(self), self.mounts.begin_attaching());
            spawn_local(async move {
                let with = worker.attach();
                let blocked = top::attach(&with, attach).await;
                worker.made(making);
                top::retry_until_attached(with, blocked).await;
            });
        }
        if !detach.is_empty() {
            detach.iter().for_each(|(id, _)| self.mounts.begin_leaving(*id));
            let worker = Rc::clone(self);
            spawn_local(async move {
                let outcomes = detach::detach(&worker.mounts, &worker.tools(), detach).await;
                top::release_unused(&worker.means());
                outcomes.into_iter().for_each(|(mount, outcome)| worker.event(Event::Detached { mount, outcome }));
            });
        }
        if !check.is_empty() {
            let worker = Rc::clone(self);
            spawn_local(async move {
                let outcomes = check::check(&worker.mounts, &worker.tools(), check).await;
                outcomes.into_iter().for_each(|(job, mounted)| worker.event(Event::Checked { job, mounted }));
            });
        }
    }

    /// Carries out one effect, or begins the job that does; returns the event if the outcome is known at once.
    fn carry_out(self: &Rc<Self>, together: &mut Together, effect: Effect) -> Option<Event> {
        let worker = Rc::clone(self);
        match effect {
            Effect::Reply { mount, token, error, reason: _ } => {
                self.requests.answer(&self.mounts, &self.tools.borrow(), mount, token, error);
            }
            Effect::Resolve { job, at, who } => {
                let question = self.mounts.get(at.mount).map(|mount| self.state.borrow().question(&mount, at.key, who));
                let Some(question) = question else {
                    return Some(Event::Resolved { job, outcome: Resolution::NotFound });
                };
                info!(target: &question.target(), "attempting to mount entry {}", Escaped::path(&question.at));
                if let Some(outcome) = resolve::now(&question) {
                    resolve::log_failure(&question.at, &outcome);
                    return Some(Event::Resolved { job, outcome });
                }
                spawn_local(async move {
                    let at = question.at.clone();
                    let outcome = resolve::later(question).await;
                    resolve::log_failure(&at, &outcome);
                    worker.event(Event::Resolved { job, outcome });
                });
            }
            Effect::Perform { job, at, plan, who } => {
                fault::point("resolved");
                if let Some(outcome) =
                    perform::now(&self.mounts, &self.tools.borrow(), &at, &plan, who, &mut together.left)
                {
                    return Some(Event::Performed { job, outcome });
                }
                let making = self.mounts.begin_making();
                spawn_local(async move {
                    let outcome = perform::later(&worker.means(), &at, plan, who).await;
                    worker.event(Event::Performed { job, outcome });
                    worker.made(making);
                });
            }
            Effect::Check { job, at } => together.check.push((job, at)),
            Effect::Unmount { job, at, layers, lazy } => drop(spawn_local(async move {
                let (gone, error) = unmount::unmount(&worker.mounts, &worker.tools(), &at, &layers, lazy).await;
                worker.event(Event::Unmounted { job, gone, error });
                if gone > 0 || layers.is_empty() {
                    worker.emptied(at.mount);
                }
            })),
            Effect::ExpireRun { mount, immediate } => drop(spawn_local(async move {
                worker.expire(mount, immediate).await;
                worker.event(Event::ExpireRan { mount });
            })),
            Effect::Attach { mount, wanted } => together.attach.push((mount, wanted)),
            Effect::Update { mount, wanted } => {
                let map = self.state.borrow().maps.by_number.get(&wanted.map).map(Rc::clone);
                map.into_iter().for_each(|map| top::update(&self.mounts, &self.tools.borrow(), mount, map, &wanted));
            }
            Effect::Detach { mount, lazy } => together.detach.push((mount, lazy)),
            Effect::Exit { how, left } => self.life.end(how, left),
        }
        None
    }

    /// Runs an expire run on a mount.
    pub(crate) async fn expire(&self, mount: MountId, immediate: bool) {
        if let Some(mount) = self.mounts.get(mount) {
            expire::run(&mount, &self.tools(), immediate).await;
        }
    }

    /// Looks after a mount below which something was unmounted: if a restore has lost options of it, it is renewed.
    fn emptied(&self, mount: MountId) {
        if self.mounts.get(mount).is_some_and(|mount| mount.lacks_options) {
            self.then(Next::Renew(mount));
        }
    }

    /// Has something done by the modules above.
    fn then(&self, next: Next) {
        // The receiver lives as long as the worker.
        let _ = self.next.send(next);
    }

    /// Brings the directories of keys below a mount up to date, where they are shown.
    pub(crate) async fn browse(&self, mount: MountId) {
        if let Some(known) = self.mounts.get(mount) {
            if let Some(extra) = browse::fill(&known, &self.tools()).await {
                self.remove_extra(mount, extra);
            }
        }
    }

    /// Removes the directories of a mount that are no keys, unless a mount is on its way there. On this thread none can
    /// begin meanwhile, and the kernel removes no mount point.
    fn remove_extra(&self, mount: MountId, extra: browse::Extra) {
        let engine = self.engine.borrow();
        let Some(view) = engine.mount(mount) else { return };
        let moves = |e: &EntryView<'_>| !matches!(e.phase, EntryPhase::Mounted | EntryPhase::Failed(..));
        let busy: HashSet<&[u8]> = view.entries().filter(moves).map(|entry| &*entry.key.0).collect();
        extra.remove(|name| busy.contains(name));
    }

    /// Does what a job reports before it ends.
    fn report(self: &Rc<Self>, report: Report) {
        match report {
            Report::Event(event) => self.event(event),
            Report::Adopted(mount) => {
                self.mounts.adopted(mount);
                self.serve_parked();
            }
            Report::Made(making) => self.made(making),
            Report::Extra(mount, extra) => self.remove_extra(mount, extra),
        }
    }

    /// Takes note that an autofs mount has gone without us.
    pub(crate) fn vanished(self: &Rc<Self>, mount: MountId) {
        // First the engine, which answers what is open there, then the end of it.
        self.event(Event::Vanished { mount });
        let removed = self.mounts.remove(mount);
        top::release_unused(&self.means());
        let Some((known, created, root)) = removed else { return };
        if mount.is_top() && !created.is_empty() {
            self.mounts.give_back([(known.path.clone(), created)]);
        }
        if let Some(root) = root {
            // Processes that are still in it are to get errors, not to wait.
            if let Err(e) = self.tools.borrow().control.catatonic(root.as_fd()) {
                let path = &known.path;
                debug!(target: &target(path), "{} stays as it is: {e}", Escaped::path(path));
            }
        }
    }

    /// Takes note that nobody reaches an autofs mount at its mount point any more. It stays mounted where it is, and its
    /// place is free for another one.
    pub(crate) fn displaced(self: &Rc<Self>, mount: MountId) {
        self.event(Event::Vanished { mount });
        drop(self.mounts.remove(mount));
        top::release_unused(&self.means());
    }

    /// Returns whether this process was restored from a checkpoint since the last time that this was asked.
    pub(crate) fn was_restored(&self) -> bool {
        self.sentinel.was_restored()
    }

    /// Waits until this process was frozen for a checkpoint, or restored from one.
    pub(crate) async fn frozen(&self) {
        self.sentinel.woken.notified().await;
    }

    /// Takes note that this process was restored. A packet in `fresh` was read since.
    ///
    /// What can be done without waiting is done before anything else happens: another packet must not meet the devices of
    /// the other machine, nor an answer its tokens.
    pub(crate) fn restored(self: &Rc<Self>, fresh: Option<Slot>) {
        let kept = self.life.record_restore();
        for pipe in self.mounts.pipes() {
            pipe.was_restored();
        }
        self.sentinel.was_restored();
        self.mounts.forget_requests();
        self.requests.forget_all(fresh);
        // The socket was bound anew by CRIU.
        self.socket.set(self.socket.get().and_then(|_| serve::identity(Path::new(SOCKET))));
        warn!("restored from a checkpoint: looking for {} autofs mounts", self.mounts.count());
        self.event(Event::Restored);
        self.regain(kept);
    }

    /// Finds all autofs mounts again, and has them served again. `kept` was kept for the time of a checkpoint.
    pub(crate) fn regain(&self, kept: Option<Quiescence>) {
        let located = locate(&self.mounts, self.tools.borrow().ignore);
        self.then(Next::Regain(located, kept));
    }

    /// Reads each pipe that a mount has begun to write to.
    pub(crate) async fn read_pipes(self: Rc<Self>, mut unread: mpsc::UnboundedReceiver<Rc<Pipe>>) {
        while let Some(pipe) = unread.recv().await {
            let (requests, mounts) = (Rc::clone(&self.requests), Rc::clone(&self.mounts));
            spawn_local(serve_pipe(requests, mounts, pipe, Rc::clone(&self)));
        }
    }
}

impl Receiver for Rc<Worker> {
    fn packet(&self, slot: Slot, pipe: u32) {
        fault::point("read");
        let knows = |id| self.engine.borrow().mount(id).is_some();
        let has_device = self.tools.borrow().control.has_device();
        match self.requests.route(slot, pipe, &self.mounts, knows, has_device) {
            Routed::Dropped => {}
            Routed::Parked => {
                let (requests, mounts) = (Rc::clone(&self.requests), Rc::clone(&self.mounts));
                spawn_local(find_mounts(requests, mounts, self.tools(), Rc::clone(self)));
            }
            Routed::Answer(mount, token, error) => {
                self.requests.answer(&self.mounts, &self.tools.borrow(), mount, token, error);
            }
            Routed::Event(event) => {
                let asks = match &event {
                    Event::Missing { token, who, .. } => Some((*token, who.tgid)),
                    _ => None,
                };
                self.event(event);
                if let Some((token, pid)) = asks {
                    self.requests.keep_name(token, pid);
                }
            }
        }
    }

    fn restored(&self, fresh: Slot) {
        Worker::restored(self, Some(fresh));
    }

    fn abandoned(&self, pipe: &Pipe) {
        let ours = |id, mount: &AutofsMount| mount.pipe == pipe.number && !self.mounts.is_leaving(id);
        for (id, path) in self.mounts.filter_map(|id, mount| ours(id, mount).then(|| (id, Arc::clone(&mount.path)))) {
            // At the end it is we who have let go of it.
            if !self.life.is_stopping() {
                warn!(target: &target(&path), "{} is no longer ours: it was unmounted", Escaped::path(&path));
            }
            self.vanished(id);
        }
        // A pipe whose last writer has gone is not used again: the reactor would find it readable for ever.
        if pipe.mounts.get() == 0 {
            self.mounts.release_pipe(pipe.number);
            let state = self.state.borrow();
            let shared = state.maps.by_number.values().filter(|map| map.pipe.get() == Some(pipe.number));
            shared.for_each(|map| map.pipe.set(None));
        }
    }
}

/// Effects of one kind that are carried out together.
#[derive(Debug, Default)]
struct Together {
    attach: Vec<(MountId, Wanted)>,
    detach: Vec<(MountId, bool)>,
    check: Vec<(JobId, EntryId)>,
    /// Descriptors to close after the requests are answered.
    left: Vec<OwnedFd>,
}

/// Logs the transitions of entries that the last event has brought.
fn log_transitions(engine: &mut Engine) {
    for transition in engine.take_transitions() {
        if let Some(path) = engine.entry_path(&transition.at) {
            debug!(target: &target(&path), "{}: {transition}", Escaped::path(&path));
        }
    }
}
