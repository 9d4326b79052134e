//! The worker: carries out what the engine decides, and tells it what came of it.
//!
//! Everything here runs on the reactor thread, which never touches a path that could block, never resolves a name and
//! never waits for a child: what can block is handed to a [lane](crate::exec::lanes). The one short cut is for work
//! that provably cannot block: a request whose map is in memory and whose mount needs nothing that is not cached by
//! the kernel is answered in the turn in which its packet was read.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, info};
use tokio::sync::Notify;
use tokio::task::spawn_local;

use crate::daemon::attach::top;
use crate::daemon::checkpoint::sentinel::Sentinel;
use crate::daemon::control::serve;
use crate::daemon::jobs::expire;
use crate::daemon::jobs::perform;
use crate::daemon::jobs::resolve;
use crate::daemon::jobs::unmount;
use crate::daemon::maps::line::Line;
use crate::daemon::mounts::pipes::Pipes;
use crate::daemon::state::{State, Trigger};
use crate::engine::{Effect, EntryId, Event, Kind, MountId, Resolution, Shutdown, Tick};
use crate::exec::dirs::Made;
use crate::fault;
use crate::link::journal::{Journal, Owed};
use crate::link::{Inheritance, Message};
use crate::logging::Logger;
use crate::logging::target;
use crate::options::Options;
use crate::source::configuration::Configuration;
use crate::sys::image;
use crate::text::Escaped;

/// How long a start may take before the end that was asked for meanwhile begins without it.
const START: Duration = Duration::from_secs(5);

/// From the request for another program to the end of this worker; later, the keeper has not granted it.
pub(crate) const REPLACED_WITHIN: Duration = Duration::from_secs(3);

/// The worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) state: RefCell<State>,
    born: Instant,
    /// The engine's deadline has changed.
    timer: Notify,
    /// The journal has room again.
    pub(crate) room: Notify,
    /// An attach has ended.
    attached: Notify,
    /// The end has begun.
    halt: Notify,
    exit: Notify,
    pub(crate) sentinel: Sentinel,
    /// The path of the program; what stands there may be another by now.
    pub(crate) program: PathBuf,
    /// When the keeper was asked to execute it.
    asked_to_upgrade: Cell<Option<Instant>>,
    /// The keeper wants this worker to make room for the next one.
    pub(crate) retires: Notify,
    /// Wishes for an upgrade that are not answered.
    pub(crate) parting: Cell<u32>,
    /// Our control socket's file.
    pub(crate) socket: Cell<Option<serve::Identity>>,
    /// Told when this process has come back from a checkpoint.
    pub(crate) restored: Notify,
    ended: RefCell<Option<(Shutdown, Vec<MountId>)>>,
}

impl Worker {
    pub(crate) fn new(
        inheritance: Inheritance,
        configuration: Configuration,
        options: Options,
        logger: &'static Logger,
    ) -> io::Result<(Rc<Self>, Vec<Owed>)> {
        let (journal, owed) = Journal::open(inheritance.journal, inheritance.spared);
        let pipes = Pipes::new(inheritance.link, inheritance.pipes);
        let state = State::new(journal, pipes, configuration, options, logger)?;
        let worker = Self {
            state: RefCell::new(state),
            born: Instant::now(),
            timer: Notify::new(),
            room: Notify::new(),
            attached: Notify::new(),
            halt: Notify::new(),
            exit: Notify::new(),
            sentinel: Sentinel::start()?,
            program: inheritance.program,
            asked_to_upgrade: Cell::new(None),
            retires: Notify::new(),
            parting: Cell::new(0),
            socket: Cell::new(None),
            restored: Notify::new(),
            ended: RefCell::new(None),
        };
        Ok((Rc::new(worker), owed))
    }

    /// Whether the start is over.
    pub(crate) fn is_serving(&self) -> bool {
        self.state.borrow().serving
    }

    /// Whether the end has begun.
    pub(crate) fn is_stopping(&self) -> bool {
        self.state.borrow().stopping.is_some()
    }

    /// Ends the daemon. While it starts, the engine does not know yet what there is to be unmounted.
    pub(crate) fn stop(self: &Rc<Self>, how: Shutdown) {
        let serving = {
            let mut state = self.state.borrow_mut();
            state.stopping = state.stopping.max(Some(how));
            state.serving
        };
        self.halt.notify_waiters();
        if serving {
            return self.event(Event::Stop(how));
        }
        let worker = Rc::clone(self);
        spawn_local(async move {
            tokio::time::sleep(START).await;
            worker.event(Event::Stop(how));
        });
    }

    /// Sleeps, but not past the beginning of the end.
    pub(crate) async fn pause(&self, duration: Duration) {
        if !self.is_stopping() {
            let _ = tokio::time::timeout(duration, self.halt.notified()).await;
        }
    }

    /// The start is over.
    pub(crate) fn started(self: &Rc<Self>) {
        let stop = {
            let mut state = self.state.borrow_mut();
            state.serving = true;
            state.pipes.tell(Message::Started);
            state.stopping
        };
        if let Some(how) = stop {
            self.event(Event::Stop(how));
        }
        image::release();
    }

    /// A job begins that makes triggers.
    pub(crate) fn begin_making(&self) {
        self.state.borrow_mut().making += 1;
    }

    /// Such a job has ended: packets that have waited for that are looked at again.
    pub(crate) fn end_making(self: &Rc<Self>) {
        self.state.borrow_mut().making -= 1;
        self.unpark();
    }

    /// What stands below a mount is known.
    pub(crate) fn adopted(self: &Rc<Self>, id: MountId) {
        self.state.borrow_mut().adopting.remove(&id);
        self.unpark();
    }

    /// Whether a reload may begin. If one is under way already, there will be another one after it.
    pub(crate) fn begin_reload(&self) -> bool {
        let mut state = self.state.borrow_mut();
        if let Some(quiet) = &mut state.quiet {
            quiet.reload = true;
            return false;
        }
        state.reload_again = state.reloading;
        !std::mem::replace(&mut state.reloading, true)
    }

    /// A reload has ended. True: there is to be another one.
    pub(crate) fn end_reload(&self) -> bool {
        let mut state = self.state.borrow_mut();
        state.reloading = std::mem::take(&mut state.reload_again);
        state.reloaded = Instant::now();
        state.reloading
    }

    /// Begins nothing more: packets stay in the pipes, for the next worker. True: nothing is under way any more that the
    /// next one would have to do again.
    pub(crate) fn winds_up(&self) -> bool {
        let mut state = self.state.borrow_mut();
        state.hold = true;
        state.slots.is_empty() && state.making == 0 && state.attaching == 0
    }

    /// Asks the keeper to execute the program that stands at its path.
    pub(crate) fn ask_for_upgrade(&self) {
        self.asked_to_upgrade.set(Some(Instant::now()));
        self.state.borrow().pipes.tell(Message::Upgrade);
    }

    /// Whether this worker is about to make room for one of another program: what it promises now may be forgotten.
    pub(crate) fn is_being_replaced(&self) -> bool {
        self.asked_to_upgrade.get().is_some_and(|asked| asked.elapsed() < REPLACED_WITHIN)
    }

    /// Waits until no top-level mount is being attached.
    pub(crate) async fn quiet(&self) {
        while self.state.borrow().attaching > 0 {
            self.attached.notified().await;
        }
    }

    /// An attach has ended.
    pub(crate) fn settled(&self) {
        self.state.borrow_mut().attaching -= 1;
        self.attached.notify_waiters();
    }

    /// Whether nothing is being done: no request, no mount, no program, no thread in the kernel.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state.borrow();
        let jobs = state.making + state.attaching + state.leaving.len() + state.parked.len();
        jobs == 0 && !state.reloading && !state.regaining && state.engine.is_idle() && state.context.lanes.is_idle()
    }

    /// How many mounts of ours have been unmounted since the last call.
    pub(crate) fn take_unmounted(&self) -> usize {
        std::mem::take(&mut self.state.borrow_mut().unmounted)
    }

    /// Whether a trigger is being unmounted.
    pub(crate) fn is_leaving(&self, id: MountId) -> bool {
        self.state.borrow().leaving.contains(&id)
    }

    /// Seconds for which this worker has lived.
    pub(crate) fn age(&self) -> Duration {
        self.born.elapsed()
    }

    pub(crate) fn now(&self) -> Tick {
        Tick(u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Waits for the engine's last effect.
    pub(crate) async fn ended(&self) -> (Shutdown, Vec<MountId>) {
        loop {
            if let Some(ended) = self.ended.borrow_mut().take() {
                return ended;
            }
            self.exit.notified().await;
        }
    }

    /// Sleeps until the engine wants to be woken, and wakes it. While it wants nothing, nothing runs.
    pub(crate) async fn timers(self: Rc<Self>) {
        loop {
            let deadline = self.state.borrow().engine.deadline();
            match deadline {
                None => self.timer.notified().await,
                Some(Tick(at)) => {
                    let moment = tokio::time::Instant::from_std(self.born + Duration::from_millis(at));
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
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        let before = state.engine.deadline();
        let (mut events, mut effects) = (VecDeque::from([event]), Vec::new());
        while let Some(event) = events.pop_front() {
            state.engine.handle(self.now(), event, &mut effects);
            for effect in effects.drain(..) {
                events.extend(self.carry_out(state, effect));
            }
        }
        if !state.reading {
            state.close_roots();
        }
        if state.engine.deadline() != before {
            self.timer.notify_one();
        }
        if !state.attach.is_empty() {
            let wanted = std::mem::take(&mut state.attach);
            state.making += 1;
            state.attaching += 1;
            spawn_local(top::attach(Rc::clone(self), wanted));
        }
        if !state.detach.is_empty() {
            let leaving = std::mem::take(&mut state.detach);
            state.leaving.extend(leaving.iter().map(|(id, _)| *id));
            spawn_local(unmount::detach(Rc::clone(self), leaving));
        }
        if !state.check.is_empty() {
            let checks = std::mem::take(&mut state.check);
            spawn_local(perform::check(Rc::clone(self), checks));
        }
    }

    /// Carries out one effect, or has it carried out; what is known at once is returned.
    fn carry_out(self: &Rc<Self>, state: &mut State, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Reply { mount, token, error, reason: _ } => {
                self.reply(state, mount, token, error);
                None
            }
            Effect::Resolve { job, at, who } => {
                let Some(question) = state.question(at.mount, at.key, who) else {
                    return Some(Event::Resolved { job, outcome: Resolution::NotFound });
                };
                info!(target: &question.target(), "attempting to mount entry {}", Escaped::path(&question.at));
                if let Some(outcome) = resolve::now(&question) {
                    resolve::log_failure(&question.at, &outcome);
                    return Some(Event::Resolved { job, outcome });
                }
                let worker = Rc::clone(self);
                spawn_local(async move {
                    let at = question.at.clone();
                    let outcome = resolve::later(question).await;
                    resolve::log_failure(&at, &outcome);
                    worker.event(Event::Resolved { job, outcome });
                });
                None
            }
            Effect::Perform { job, at: EntryId { mount, key }, plan, who } => {
                fault::point("resolved");
                if let Some(outcome) = perform::now(state, mount, &key, &plan, who) {
                    return Some(Event::Performed { job, outcome });
                }
                state.making += 1;
                let worker = Rc::clone(self);
                spawn_local(async move {
                    let outcome = perform::later(&worker, mount, &key, plan, who).await;
                    worker.event(Event::Performed { job, outcome });
                    worker.end_making();
                });
                None
            }
            Effect::Check { job, at } => {
                state.check.push((job, at.mount, at.key));
                None
            }
            Effect::Unmount { job, at, layers, lazy } => {
                let worker = Rc::clone(self);
                spawn_local(async move {
                    let (gone, error) = unmount::unmount(&worker, at.mount, &at.key, layers, lazy).await;
                    worker.event(Event::Unmounted { job, gone, error });
                });
                None
            }
            Effect::ExpireRun { mount, immediate } => {
                let worker = Rc::clone(self);
                spawn_local(async move {
                    expire::run(&worker, mount, immediate).await;
                    worker.event(Event::ExpireRan { mount });
                });
                None
            }
            Effect::Attach { mount, wanted } => {
                state.attach.push((mount, wanted));
                None
            }
            Effect::Update { mount, wanted } => {
                top::update(state, mount, &wanted);
                None
            }
            Effect::Detach { mount, lazy } => {
                state.detach.push((mount, lazy));
                None
            }
            Effect::Exit { how, left } => {
                *self.ended.borrow_mut() = Some((how, left));
                self.exit.notify_one();
                None
            }
        }
    }

    /// Makes an autofs mount known: its packets are read from now on, and served when the engine knows it and what
    /// stands below it.
    pub(crate) fn register(self: &Rc<Self>, state: &mut State, id: MountId, trigger: NewTrigger) {
        let NewTrigger { path, kind, dev, pipe, line, created, remote, found } = trigger;
        if found {
            state.adopting.insert(id);
        }
        state.lines.entry(line.number).or_insert_with(|| Rc::clone(&line));
        state.devices.insert(dev, id);
        if let Some(pipe) = state.pipes.get(pipe) {
            pipe.mounts.set(pipe.mounts.get() + 1);
            pipe.awaited.set(false);
            if !pipe.read.replace(true) {
                spawn_local(Rc::clone(self).serve(Rc::clone(pipe)));
            }
        }
        let trigger = Trigger { path, kind, dev, pipe, line, created, remote, root: None, owed: 0, weak: false };
        state.triggers.insert(id, Box::new(trigger));
    }

    /// An autofs mount is gone.
    pub(crate) fn unregister(&self, state: &mut State, id: MountId) -> Option<Trigger> {
        let trigger = state.triggers.remove(&id)?;
        if state.devices.get(&trigger.dev) == Some(&id) {
            state.devices.remove(&trigger.dev);
        }
        let last = state.pipes.get(trigger.pipe).is_some_and(|pipe| {
            pipe.mounts.set(pipe.mounts.get().saturating_sub(1));
            pipe.mounts.get() == 0
        });
        state.leaving.remove(&id);
        state.adopting.remove(&id);
        state.plans.remove(&id);
        if trigger.kind == Kind::Indirect && !state.order.contains(&trigger.line.number) {
            state.lines.remove(&trigger.line.number);
        }
        if last {
            state.release_unused();
        }
        Some(*trigger)
    }

    /// An autofs mount has gone without us.
    pub(crate) fn vanished(self: &Rc<Self>, mount: MountId) {
        // First the engine, which answers what is open there, then the end of it.
        self.event(Event::Vanished { mount });
        let mut state = self.state.borrow_mut();
        let control = Arc::clone(&state.control);
        if let Some(Trigger { root: Some(root), path, .. }) = self.unregister(&mut state, mount) {
            // Whoever still stands in it is to get errors, not to wait.
            if let Err(e) = control.catatonic(root.as_fd()) {
                debug!(target: &target(&path), "{} stays as it is: {e}", Escaped::path(&path));
            }
        }
    }

    /// Tells the keeper that the daemon ends, with this status.
    pub(crate) fn ending(&self, status: u8) {
        self.state.borrow().pipes.tell(Message::Ending(status));
    }
}

/// An autofs mount to be made known.
#[derive(Debug)]
pub(crate) struct NewTrigger {
    pub(crate) path: Arc<Path>,
    pub(crate) kind: Kind,
    pub(crate) dev: u32,
    pub(crate) pipe: u32,
    pub(crate) line: Rc<Line>,
    pub(crate) created: Made,
    pub(crate) remote: bool,
    /// It was there before this worker, so that something may stand below it.
    pub(crate) found: bool,
}
