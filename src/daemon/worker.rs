//! The worker: carries out what the engine decides, and tells it what came of it.
//!
//! Everything here runs on the reactor thread, which never touches a path that could block, never resolves a name and
//! never waits for a child: what can block is handed to a [lane](crate::exec::lanes). The one short cut is for work
//! that provably cannot block: a request whose map is in memory and whose mount needs nothing that is not cached by
//! the kernel is answered in the turn in which its packet was read.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, error, info, warn};
use tokio::sync::Notify;
use tokio::task::spawn_local;

use super::configuration::Configuration;
use super::context::Context;
use super::line::Line;
use super::log::Logger;
use super::opener::Memory;
use super::pipes::{Pipe, Pipes};
use super::quiesce::Quiet;
use super::sentinel::Sentinel;
use super::table::{MountTable, Mounted};
use super::{attaching, detaching, expiring, fault, mounting, reload, resolve, restore, serve};
use crate::cli::options::Options;
use crate::engine::{
    Effect, Engine, Errno, Event, JobId, Key, Kind, Limits, MountId, Requester, Resolution, Shutdown, Tick, Token,
    Wanted,
};
use crate::exec::dirs::Made;
use crate::exec::lanes::{Lane, Lanes};
use crate::keeper::journal::{Journal, Owed, Read, Slot};
use crate::keeper::{Inheritance, Message};
use crate::map::MasterEntry;
use crate::plan::Plan;
use crate::source::master::Master;
use crate::source::{Mode, Source};
use crate::sys::autofs::Control;
use crate::sys::packet::{Packet, Request};
use crate::sys::{children, image};
use crate::text::Escaped;

/// Between two tries to answer what could not be answered: the first pause, doubled up to the second.
const INSIST: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// How long a start may take before the end that was asked for meanwhile begins without it.
const START: Duration = Duration::from_secs(5);

/// An autofs mount of ours.
#[derive(Debug)]
pub(super) struct Trigger {
    pub(super) path: Arc<Path>,
    pub(super) kind: Kind,
    /// Encoded as in packets.
    pub(super) dev: u32,
    pub(super) pipe: u32,
    pub(super) line: Rc<Line>,
    /// Directories that were made for it and go with it.
    pub(super) created: Made,
    /// Its parent is a network file system: even to reach it may block.
    pub(super) remote: bool,
    /// Its root directory, opened when a request comes and closed when none is left: it is the only way to answer when
    /// somebody has meanwhile taken the mount out of the tree; at other times an open one would keep direct mounts
    /// from expiring and a checkpoint from working.
    root: Option<OwnedFd>,
    /// Requests that are not answered.
    owed: usize,
    /// A restore has lost `strictexpire` or `ignore`: it is to be mounted anew when nothing is mounted on it.
    pub(super) weak: bool,
}

impl Trigger {
    /// The path of an entry.
    pub(super) fn entry(&self, key: &Key) -> PathBuf {
        use std::os::unix::ffi::OsStrExt as _;
        match self.kind {
            Kind::Indirect => self.path.join(std::ffi::OsStr::from_bytes(&key.0)),
            Kind::Direct | Kind::Offset => self.path.to_path_buf(),
        }
    }
}

/// All that changes.
#[derive(Debug)]
pub(super) struct State {
    pub(super) engine: Engine,
    pub(super) control: Arc<Control>,
    /// What could not be opened a moment ago.
    pub(super) blocked: Memory,
    pub(super) journal: Journal,
    pub(super) pipes: Pipes,
    pub(super) triggers: HashMap<MountId, Trigger>,
    pub(super) devices: HashMap<u32, MountId>,
    /// The lines in force, submounts' included.
    pub(super) lines: HashMap<u32, Rc<Line>>,
    /// Those of the master map, in its order.
    pub(super) order: Vec<u32>,
    pub(super) master: Option<Arc<Master>>,
    /// Direct keys below a direct key, and their lines, by the path of the one above.
    pub(super) nested: HashMap<Arc<Path>, Vec<(Arc<Path>, u32)>>,
    /// All maps that it names could be read.
    pub(super) whole: bool,
    /// What is to be done at offset triggers.
    pub(super) plans: HashMap<MountId, Arc<Plan>>,
    pub(super) options: Options,
    pub(super) configuration: Configuration,
    pub(super) context: Rc<Context>,
    pub(super) logger: &'static Logger,
    /// Where the packet of an unanswered token stands.
    slots: HashMap<Token, Slot>,
    /// Packets whose mount is not known (yet): it is being mounted, or a restore has changed its device.
    parked: Vec<(Slot, u32)>,
    /// The mount table is being searched for their mounts.
    pub(super) rescanning: bool,
    /// Jobs under way that make triggers.
    pub(super) making: usize,
    /// Those of them that attach top-level mounts.
    pub(super) attaching: usize,
    /// Directories that were made for mounts that are gone, and that others still stand in.
    pub(super) left: Vec<Made>,
    /// Triggers that are being unmounted.
    pub(super) leaving: HashSet<MountId>,
    /// Triggers that were there before this worker, as long as what stands below them is not known.
    adopting: HashSet<MountId>,
    /// Mounts of ours that have been unmounted since somebody looked.
    pub(super) unmounted: usize,
    /// Effects of one kind that are carried out together.
    attach: Vec<(MountId, Wanted)>,
    detach: Vec<(MountId, bool)>,
    check: Vec<(JobId, MountId, Key)>,
    opened: Vec<MountId>,
    /// Packets are being read: more requests may want the same roots.
    reading: bool,
    next: u32,
    next_line: u32,
    /// The start is over.
    serving: bool,
    /// The end has begun, or begins when the start is over.
    stopping: Option<Shutdown>,
    reloading: bool,
    reload_again: bool,
    pub(super) reloaded: Instant,
    /// How often this process has come back from a checkpoint.
    pub(super) restores: u32,
    /// A checkpoint is expected.
    pub(super) quiet: Option<Quiet>,
    /// After a checkpoint, our autofs mounts are being found again.
    pub(super) regaining: bool,
    /// Packets are left in the pipes.
    pub(super) hold: bool,
}

/// The worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) state: RefCell<State>,
    born: Instant,
    /// The engine's deadline has changed.
    timer: Notify,
    /// The journal has room again.
    room: Notify,
    /// An attach has ended.
    attached: Notify,
    /// The end has begun.
    halt: Notify,
    exit: Notify,
    pub(super) sentinel: Sentinel,
    /// The path of the program; what stands there may be another by now.
    pub(super) program: PathBuf,
    /// Our control socket's file.
    pub(super) socket: Cell<Option<serve::Identity>>,
    /// Told when this process has come back from a checkpoint.
    pub(super) restored: Notify,
    ended: RefCell<Option<(Shutdown, Vec<MountId>)>>,
}

impl State {
    /// Puts a configuration in force. False: nothing is other than before.
    pub(super) fn configure(&mut self, configuration: Configuration) -> bool {
        if configuration == self.configuration {
            return false;
        }
        self.context = Rc::new(Context::new(&configuration, &self.options, &self.context.lanes));
        self.logger.set_global(self.options.verbosity.max(configuration.conf.autofs.logging));
        self.configuration = configuration;
        true
    }

    /// The number of a line.
    pub(super) fn line_number(&mut self) -> u32 {
        let number = self.next_line;
        self.next_line += 1;
        number
    }

    /// The line of an entry of the master map: the one that is in force, if it says the same, else a new one. Says
    /// which.
    pub(super) fn line(&mut self, entry: &MasterEntry) -> (Rc<Line>, bool) {
        let options = reload::effective(&entry.options, &self.configuration.conf.autofs, &self.options);
        let same_map = |line: &&Rc<Line>| line.mount_point == entry.mount_point && line.spec == entry.source;
        let known = self.order.iter().filter_map(|number| self.lines.get(number)).find(same_map).map(Rc::clone);
        if let Some(line) = known.as_ref().filter(|line| line.options == options) {
            return (Rc::clone(line), true);
        }
        let number = self.line_number();
        let (mount_point, spec) = (entry.mount_point.clone(), entry.source.clone());
        // The same map with other options: what is known of it, and the pipe of its mounts, stay.
        let (source, pipe, known) = match known {
            Some(line) => (Arc::clone(&line.source), line.pipe.get(), true),
            None => {
                let mode = if entry.direct { Mode::Direct } else { Mode::Indirect };
                (Arc::new(Source::from_spec(&spec, mode, &self.configuration.names)), None, false)
            }
        };
        let line = Line::new(number, mount_point, spec, options, source);
        line.pipe.set(pipe);
        (Rc::new(line), known)
    }

    /// The lines of submounts.
    pub(super) fn submount_lines(&self) -> Vec<Rc<Line>> {
        self.lines.values().filter(|line| !self.order.contains(&line.number)).map(Rc::clone).collect()
    }

    /// The number of a trigger that the shell makes.
    pub(super) fn number(&mut self) -> MountId {
        let id = MountId(self.next & 0x7fff_ffff);
        self.next = self.next.wrapping_add(1);
        id
    }

    /// What is to be asked for a lookup.
    pub(super) fn question(&self, mount: MountId, key: Key, who: Requester) -> Option<resolve::Question> {
        let Trigger { line, kind, .. } = self.triggers.get(&mount)?;
        let at = self.triggers.get(&mount)?.entry(&key);
        let below = if *kind == Kind::Direct { self.below(&at, who) } else { Vec::new() };
        let (line, context) = (Rc::clone(line), Rc::clone(&self.context));
        Some(resolve::Question { line, context, at, kind: *kind, key, who, below })
    }

    /// The questions for the direct keys that stand below another one.
    fn below(&self, at: &Path, who: Requester) -> Vec<resolve::Question> {
        let question = |(at, line): &(Arc<Path>, u32)| {
            let (line, context) = (Rc::clone(self.lines.get(line)?), Rc::clone(&self.context));
            let (at, below) = (at.to_path_buf(), self.below(at, who));
            Some(resolve::Question { line, context, at, kind: Kind::Direct, key: Key::default(), who, below })
        };
        self.nested.get(at).map(|nested| nested.iter().filter_map(question).collect()).unwrap_or_default()
    }

    /// Where the packets stand whose mounts are not known.
    pub(super) fn parked_slots(&self) -> HashSet<Slot> {
        self.parked.iter().map(|(slot, _)| *slot).collect()
    }

    /// The root directory of an autofs mount, for the requests at hand.
    pub(super) fn root(&mut self, mount: MountId) -> io::Result<std::os::fd::BorrowedFd<'_>> {
        let trigger = self.triggers.get_mut(&mount).ok_or(io::ErrorKind::NotFound)?;
        if trigger.root.is_none() {
            trigger.root = Some(self.control.open_mount(&trigger.path, trigger.dev)?);
            self.opened.push(mount);
        }
        trigger.root.as_ref().map(OwnedFd::as_fd).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn close_roots(&mut self) {
        let triggers = &mut self.triggers;
        self.opened.retain(|mount| match triggers.get_mut(mount) {
            Some(trigger) if trigger.owed > 0 => true,
            Some(trigger) => {
                trigger.root = None;
                false
            }
            None => false,
        });
    }

    /// The mount that a packet is about. The device decides where several mounts share a pipe; a pipe of its own
    /// decides for an indirect mount even when the device has changed.
    fn route(&mut self, pipe: u32, request: &Request<'_>) -> Option<MountId> {
        let Request { dev, kind, .. } = *request;
        if let Some(mount) = self.devices.get(&dev) {
            if self.triggers.get(mount).is_some_and(|t| t.pipe == pipe) {
                return Some(*mount);
            }
        }
        if kind != Kind::Indirect {
            return None;
        }
        let (mount, old) = self
            .triggers
            .iter()
            .find(|(_, t)| t.pipe == pipe && t.kind == Kind::Indirect)
            .map(|(mount, t)| (*mount, t.dev))?;
        self.move_device(mount, old, dev);
        Some(mount)
    }

    /// Whether an autofs mount of the mount table is known already.
    pub(super) fn serves(&self, line: &Mounted) -> bool {
        let known = self.devices.get(&line.dev).and_then(|id| self.triggers.get(id));
        known.is_some_and(|trigger| *trigger.path == *line.target)
    }

    /// A mount has a new device number: it was restored.
    pub(super) fn move_device(&mut self, mount: MountId, old: u32, new: u32) {
        if self.devices.get(&old) == Some(&mount) {
            self.devices.remove(&old);
        }
        self.devices.insert(new, mount);
        if let Some(trigger) = self.triggers.get_mut(&mount) {
            trigger.dev = new;
        }
    }
}

impl Worker {
    pub(super) fn new(
        inheritance: Inheritance,
        configuration: Configuration,
        options: Options,
        logger: &'static Logger,
    ) -> io::Result<(Rc<Self>, Vec<Owed>)> {
        let (journal, owed) = Journal::open(inheritance.journal, inheritance.spared);
        let deadlines = &configuration.native.deadlines;
        let limits = Limits {
            request: u64::try_from(deadlines.request.as_millis()).unwrap_or(u64::MAX),
            unmount: u64::try_from(deadlines.umount.as_millis()).unwrap_or(u64::MAX),
            ..Limits::default()
        };
        let lanes = Arc::new(Lanes::new(&configuration.native.limits));
        let state = State {
            engine: Engine::new(limits),
            control: Arc::new(Control::open()?),
            blocked: Memory::default(),
            journal,
            pipes: Pipes::new(inheritance.link, inheritance.pipes),
            triggers: HashMap::new(),
            devices: HashMap::new(),
            lines: HashMap::new(),
            order: Vec::new(),
            master: None,
            nested: HashMap::new(),
            whole: false,
            plans: HashMap::new(),
            context: Rc::new(Context::new(&configuration, &options, &lanes)),
            options,
            configuration,
            logger,
            slots: HashMap::new(),
            parked: Vec::new(),
            rescanning: false,
            making: 0,
            attaching: 0,
            left: Vec::new(),
            leaving: HashSet::new(),
            adopting: HashSet::new(),
            unmounted: 0,
            attach: Vec::new(),
            detach: Vec::new(),
            check: Vec::new(),
            opened: Vec::new(),
            reading: false,
            next: 1,
            next_line: 1,
            serving: false,
            stopping: None,
            reloading: false,
            reload_again: false,
            reloaded: Instant::now(),
            restores: 0,
            quiet: None,
            regaining: false,
            hold: false,
        };
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
            socket: Cell::new(None),
            restored: Notify::new(),
            ended: RefCell::new(None),
        };
        Ok((Rc::new(worker), owed))
    }

    /// Whether the start is over.
    pub(super) fn is_serving(&self) -> bool {
        self.state.borrow().serving
    }

    /// Whether the end has begun.
    pub(super) fn is_stopping(&self) -> bool {
        self.state.borrow().stopping.is_some()
    }

    /// Ends the daemon. While it starts, the engine does not know yet what there is to be unmounted.
    pub(super) fn stop(self: &Rc<Self>, how: Shutdown) {
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
    pub(super) async fn pause(&self, duration: Duration) {
        if !self.is_stopping() {
            let _ = tokio::time::timeout(duration, self.halt.notified()).await;
        }
    }

    /// The start is over.
    pub(super) fn started(self: &Rc<Self>) {
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
    pub(super) fn begin_making(&self) {
        self.state.borrow_mut().making += 1;
    }

    /// Such a job has ended: packets that have waited for that are looked at again.
    pub(super) fn end_making(self: &Rc<Self>) {
        self.state.borrow_mut().making -= 1;
        self.unpark();
    }

    /// What stands below a mount is known.
    pub(super) fn adopted(self: &Rc<Self>, id: MountId) {
        self.state.borrow_mut().adopting.remove(&id);
        self.unpark();
    }

    /// Whether a reload may begin. If one is under way already, there will be another one after it.
    pub(super) fn begin_reload(&self) -> bool {
        let mut state = self.state.borrow_mut();
        if let Some(quiet) = &mut state.quiet {
            quiet.reload = true;
            return false;
        }
        state.reload_again = state.reloading;
        !std::mem::replace(&mut state.reloading, true)
    }

    /// A reload has ended. True: there is to be another one.
    pub(super) fn end_reload(&self) -> bool {
        let mut state = self.state.borrow_mut();
        state.reloading = std::mem::take(&mut state.reload_again);
        state.reloaded = Instant::now();
        state.reloading
    }

    /// Begins nothing more: packets stay in the pipes, for the next worker. True: nothing is under way any more that the
    /// next one would have to do again.
    pub(super) fn winds_up(&self) -> bool {
        let mut state = self.state.borrow_mut();
        state.hold = true;
        state.slots.is_empty() && state.making == 0 && state.attaching == 0
    }

    /// Asks the keeper to execute the program that stands at its path.
    pub(super) fn ask_for_upgrade(&self) {
        self.state.borrow().pipes.tell(Message::Upgrade);
    }

    /// Waits until no top-level mount is being attached.
    pub(super) async fn quiet(&self) {
        while self.state.borrow().attaching > 0 {
            self.attached.notified().await;
        }
    }

    /// An attach has ended.
    pub(super) fn settled(&self) {
        self.state.borrow_mut().attaching -= 1;
        self.attached.notify_waiters();
    }

    /// Whether nothing is being done: no request, no mount, no program, no thread in the kernel.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.borrow();
        let jobs = state.making + state.attaching + state.leaving.len() + state.parked.len();
        jobs == 0 && !state.reloading && !state.regaining && state.engine.is_idle() && state.context.lanes.is_idle()
    }

    /// Strikes out all requests that were read, but for one, without an answer.
    pub(super) fn forget_requests(&self, state: &mut State, but: Option<Slot>) {
        state.triggers.values_mut().for_each(|trigger| trigger.owed = 0);
        state.close_roots();
        let parked = std::mem::take(&mut state.parked).into_iter().map(|(slot, _)| slot);
        let slots: Vec<Slot> = state.slots.drain().map(|(_, slot)| slot).chain(parked).collect();
        for slot in slots.into_iter().filter(|slot| Some(*slot) != but) {
            self.forget(state, Some(slot));
        }
    }

    /// Reads all that waits in the pipes, for nothing: nobody waits for an answer.
    pub(super) fn discard_packets(&self) {
        let mut state = self.state.borrow_mut();
        let pipes: Vec<Rc<Pipe>> = state.pipes.iter().map(Rc::clone).collect();
        for pipe in pipes {
            while let Ok(Read::Packet(slot)) = state.journal.read(pipe.number, pipe.fd()) {
                state.journal.clear(slot);
            }
        }
    }

    /// Reads the pipes again after they were held.
    pub(super) fn read_on(&self) {
        self.state.borrow_mut().hold = false;
        self.room.notify_waiters();
    }

    /// How many mounts of ours have been unmounted since the last call.
    pub(super) fn take_unmounted(&self) -> usize {
        std::mem::take(&mut self.state.borrow_mut().unmounted)
    }

    /// Whether a trigger is being unmounted.
    pub(super) fn is_leaving(&self, id: MountId) -> bool {
        self.state.borrow().leaving.contains(&id)
    }

    /// Seconds for which this worker has lived.
    pub(super) fn age(&self) -> Duration {
        self.born.elapsed()
    }

    pub(super) fn now(&self) -> Tick {
        Tick(u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Waits for the engine's last effect.
    pub(super) async fn ended(&self) -> (Shutdown, Vec<MountId>) {
        loop {
            if let Some(ended) = self.ended.borrow_mut().take() {
                return ended;
            }
            self.exit.notified().await;
        }
    }

    /// Sleeps until the engine wants to be woken, and wakes it. While it wants nothing, nothing runs.
    pub(super) async fn timers(self: Rc<Self>) {
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
    pub(super) fn event(self: &Rc<Self>, event: Event) {
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
            spawn_local(attaching::attach(Rc::clone(self), wanted));
        }
        if !state.detach.is_empty() {
            let leaving = std::mem::take(&mut state.detach);
            state.leaving.extend(leaving.iter().map(|(id, _)| *id));
            spawn_local(detaching::detach(Rc::clone(self), leaving));
        }
        if !state.check.is_empty() {
            let checks = std::mem::take(&mut state.check);
            spawn_local(mounting::check(Rc::clone(self), checks));
        }
    }

    /// Carries out one effect, or has it carried out; what is known at once is returned.
    fn carry_out(self: &Rc<Self>, state: &mut State, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Reply { mount, token, error } => {
                self.reply(state, mount, token, error);
                None
            }
            Effect::Resolve { job, mount, key, who } => {
                let Some(question) = state.question(mount, key, who) else {
                    return Some(Event::Resolved { job, outcome: Resolution::NotFound });
                };
                info!(target: &question.target(), "attempting to mount entry {}", Escaped::path(&question.at));
                if let Some(outcome) = resolve::now(&question) {
                    return Some(Event::Resolved { job, outcome });
                }
                let worker = Rc::clone(self);
                spawn_local(async move {
                    let outcome = resolve::later(question).await;
                    worker.event(Event::Resolved { job, outcome });
                });
                None
            }
            Effect::Perform { job, mount, key, plan, who } => {
                fault::point("resolved");
                if let Some(outcome) = mounting::now(state, mount, &key, &plan, who) {
                    return Some(Event::Performed { job, outcome });
                }
                state.making += 1;
                let worker = Rc::clone(self);
                spawn_local(async move {
                    let outcome = mounting::later(&worker, mount, &key, plan, who).await;
                    worker.event(Event::Performed { job, outcome });
                    worker.end_making();
                });
                None
            }
            Effect::Check { job, mount, key } => {
                state.check.push((job, mount, key));
                None
            }
            Effect::Unmount { job, mount, key, layers, lazy } => {
                let worker = Rc::clone(self);
                spawn_local(async move {
                    let gone = detaching::unmount(&worker, mount, &key, layers, lazy).await;
                    worker.event(Event::Unmounted { job, gone });
                });
                None
            }
            Effect::ExpireRun { mount, immediate } => {
                let worker = Rc::clone(self);
                spawn_local(async move {
                    expiring::run(&worker, mount, immediate).await;
                    worker.event(Event::ExpireRan { mount });
                });
                None
            }
            Effect::Attach { mount, wanted } => {
                state.attach.push((mount, wanted));
                None
            }
            Effect::Update { mount, wanted } => {
                attaching::update(state, mount, &wanted);
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

    fn reply(self: &Rc<Self>, state: &mut State, mount: MountId, token: Token, error: Option<Errno>) {
        let slot = state.slots.remove(&token);
        let Some(trigger) = state.triggers.get(&mount) else {
            // Its mount is gone, and with it whoever waited.
            self.forget(state, slot);
            return;
        };
        let (path, dev, control) = (trigger.path.clone(), trigger.dev, Arc::clone(&state.control));
        let answered = if trigger.remote {
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            state.root(mount).and_then(|root| say(&control, root, token, error))
        };
        fault::point("answered");
        if let Some(trigger) = state.triggers.get_mut(&mount) {
            trigger.owed = trigger.owed.saturating_sub(1);
        }
        match answered {
            // EINVAL: the waiter was served by a worker that died before it could strike the request out.
            Err(e) if e.kind() != io::ErrorKind::InvalidInput => {
                spawn_local(Rc::clone(self).insist(path, dev, token, error, slot));
            }
            _ => self.forget(state, slot),
        }
    }

    /// Answers a token in a lane: where it may take time to reach the mount, and where the short way has failed. What
    /// fails now may succeed later, and nobody else will answer; so it ends only when there is nobody to be answered.
    async fn insist(self: Rc<Self>, path: Arc<Path>, dev: u32, token: Token, error: Option<Errno>, slot: Option<Slot>) {
        let (control, lanes, restores) = {
            let state = self.state.borrow();
            (Arc::clone(&state.control), Arc::clone(&state.context.lanes), state.restores)
        };
        let mut pause = INSIST.0;
        // After a restore the token may be somebody else's.
        while self.state.borrow().restores == restores {
            let (control, path) = (Arc::clone(&control), path.clone());
            let answer = move || match attaching::find_root(&control, &path, dev)? {
                Some(root) => say(&control, &root, token, error),
                None => Ok(()),
            };
            match lanes.run(Lane::Umount, answer).await {
                Err(e) if e.kind() != io::ErrorKind::InvalidInput => {
                    debug!("cannot answer token {} now: {e}", token.0);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(INSIST.1);
                }
                _ => break,
            }
        }
        self.forget(&mut self.state.borrow_mut(), slot);
    }

    /// Strikes a request out of the journal.
    fn forget(&self, state: &mut State, slot: Option<Slot>) {
        let Some(slot) = slot else { return };
        let full = !state.journal.has_room();
        state.journal.clear(slot);
        if full {
            self.room.notify_waiters();
        }
    }

    /// Makes an autofs mount known: its packets are read from now on, and served when the engine knows it and what
    /// stands below it.
    pub(super) fn register(self: &Rc<Self>, state: &mut State, id: MountId, trigger: NewTrigger) {
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
        state.triggers.insert(id, trigger);
    }

    /// An autofs mount is gone.
    pub(super) fn unregister(&self, state: &mut State, id: MountId) -> Option<Trigger> {
        let trigger = state.triggers.remove(&id)?;
        if state.devices.get(&trigger.dev) == Some(&id) {
            state.devices.remove(&trigger.dev);
        }
        if let Some(pipe) = state.pipes.get(trigger.pipe) {
            pipe.mounts.set(pipe.mounts.get().saturating_sub(1));
            // The pipe of a line of direct mounts stays for those that a reload adds.
            if pipe.mounts.get() == 0 && trigger.kind == Kind::Indirect {
                state.pipes.release(trigger.pipe);
            }
        }
        state.leaving.remove(&id);
        state.adopting.remove(&id);
        state.plans.remove(&id);
        if trigger.kind == Kind::Indirect && !state.order.contains(&trigger.line.number) {
            state.lines.remove(&trigger.line.number);
        }
        Some(trigger)
    }

    /// Reads a pipe for as long as mounts write to it.
    async fn serve(self: Rc<Self>, pipe: Rc<Pipe>) {
        loop {
            let Some(registration) = pipe.registration() else { return };
            let Ok(mut ready) = registration.readable().await else { return };
            let closed = ready.ready().is_read_closed();
            match self.read(&pipe) {
                Halt::Empty if closed => {
                    drop(ready);
                    if let Err(e) = pipe.register_again(registration) {
                        return error!("control pipe {} cannot be read any more: {e}", pipe.number);
                    }
                }
                Halt::Empty => ready.clear_ready(),
                Halt::Full => self.room.notified().await,
                Halt::End => {
                    pipe.read.set(false);
                    return self.abandoned(&pipe);
                }
            }
        }
    }

    /// Serves all packets that are in a pipe now.
    fn read(self: &Rc<Self>, pipe: &Pipe) -> Halt {
        self.state.borrow_mut().reading = true;
        let halt = loop {
            let read = {
                let mut state = self.state.borrow_mut();
                if state.hold || !state.journal.has_room() {
                    break Halt::Full;
                }
                state.journal.read(pipe.number, pipe.fd())
            };
            match read {
                Ok(Read::Packet(slot)) => {
                    // Looked at after the read: so this packet is of the machine on which we are now.
                    if pipe.was_restored() {
                        restore::notice(self, Some(slot));
                    }
                    self.packet(slot, pipe.number);
                }
                Ok(Read::Nothing) => break Halt::Empty,
                Ok(Read::End) => break Halt::End,
                Err(e) => {
                    error!("cannot read control pipe {}: {e}", pipe.number);
                    break Halt::Empty;
                }
            }
        };
        let mut state = self.state.borrow_mut();
        state.reading = false;
        state.close_roots();
        halt
    }

    /// No mount writes to the pipe any more: they were unmounted behind our back, or made catatonic.
    fn abandoned(self: &Rc<Self>, pipe: &Pipe) {
        let lost: Vec<MountId> = {
            let state = self.state.borrow();
            let ours = |(id, t): &(&MountId, &Trigger)| t.pipe == pipe.number && !state.leaving.contains(id);
            state.triggers.iter().filter(ours).map(|(id, _)| *id).collect()
        };
        for mount in lost {
            let gone = self.state.borrow_mut().triggers.get(&mount).map(|t| t.path.clone());
            if let Some(path) = gone {
                warn!(target: &path.to_string_lossy(), "{} is no longer ours: it was unmounted", Escaped::path(&path));
            }
            self.vanished(mount);
        }
        // A pipe whose last writer has gone is not used again: the reactor would find it readable for ever.
        let mut state = self.state.borrow_mut();
        if pipe.mounts.get() == 0 {
            state.pipes.release(pipe.number);
            for line in state.lines.values().filter(|line| line.pipe.get() == Some(pipe.number)) {
                line.pipe.set(None);
            }
        }
    }

    /// An autofs mount has gone without us.
    pub(super) fn vanished(self: &Rc<Self>, mount: MountId) {
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

    fn packet(self: &Rc<Self>, slot: Slot, pipe: u32) {
        fault::point("read");
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        let bytes = state.journal.packet(slot);
        let packet = match Packet::decode(&bytes) {
            Ok(packet) => packet,
            Err(e) => {
                error!("a packet that makes no sense came by control pipe {pipe}: {e}");
                self.forget(state, Some(slot));
                return;
            }
        };
        let request = packet.request();
        let serves = |state: &State, id: &MountId| state.engine.mount(*id).is_some() && !state.adopting.contains(id);
        let Some(mount) = state.route(pipe, request).filter(|id| serves(state, id)) else {
            state.parked.push((slot, pipe));
            if !std::mem::replace(&mut state.rescanning, true) {
                spawn_local(attaching::rescan(Rc::clone(self)));
            }
            return;
        };
        state.slots.insert(request.token, slot);
        if let Some(trigger) = state.triggers.get_mut(&mount) {
            trigger.owed += 1;
            if !trigger.remote {
                let _ = state.root(mount);
            }
        }
        if matches!(packet, Packet::Expire(_)) && u32::try_from(children::pid()) != Ok(request.who.tgid) {
            // Who called expire is dead, a worker before this one, and with that the kernel holds nobody up at this
            // entry any more: to unmount it now would pull it away from under somebody's feet. But the token stands,
            // and lookups that have come since wait for it as if it were theirs (autofs_wait of Linux 6.18): they have
            // to begin anew, as to them neither success nor an error would be true.
            let again = state.control.has_device().then_some(Errno::ESTALE);
            return self.reply(state, mount, request.token, again);
        }
        if let Err(ended) = state.journal.begin(slot) {
            error!("request {} has ended {ended} workers; it is answered with an error", request.token.0);
            return self.reply(state, mount, request.token, Some(Errno::EIO));
        }
        drop(guard);
        // For direct mounts the name is empty, as their one key is.
        let (token, key) = (request.token, Key::from(request.name));
        self.event(match packet {
            Packet::Missing(_) => Event::Missing { mount, token, key, who: request.who },
            Packet::Expire(_) => Event::Expire { mount, token, key },
        });
    }

    /// Tries again to find the mounts of parked packets.
    pub(super) fn unpark(self: &Rc<Self>) {
        let parked = std::mem::take(&mut self.state.borrow_mut().parked);
        for (slot, pipe) in parked {
            self.packet(slot, pipe);
        }
        self.state.borrow_mut().close_roots();
    }

    /// Answers those of these parked packets that are still parked: somebody else's mount on our pipe, or one that we
    /// gave up, and nobody but us can answer.
    pub(super) fn give_up(self: &Rc<Self>, slots: &HashSet<Slot>, table: &MountTable) {
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        let (lost, parked): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.parked).into_iter().partition(|(slot, _)| slots.contains(slot));
        state.parked = parked;
        for (slot, pipe) in lost {
            let bytes = state.journal.packet(slot);
            let Ok(packet) = Packet::decode(&bytes) else { continue };
            if state.route(pipe, packet.request()).is_some() {
                // Its mount is known, and will serve it when what stands below is known too.
                state.parked.push((slot, pipe));
                continue;
            }
            let Request { dev, token, .. } = *packet.request();
            let path = table.mounts().iter().rev().find(|line| line.autofs.is_some() && line.dev == dev);
            warn!("request {} on control pipe {pipe} is for no mount of ours", token.0);
            match path.map(|line| line.target.as_path().into()) {
                Some(path) => {
                    drop(spawn_local(Rc::clone(self).insist(path, dev, token, Some(Errno::ENOENT), Some(slot))));
                }
                // It is in no place where it could be reached.
                None => self.forget(state, Some(slot)),
            }
        }
    }

    /// Takes up what a dead worker owed. It is served as soon as its mounts are.
    pub(super) fn take_up(&self, owed: Vec<Owed>) {
        let mut state = self.state.borrow_mut();
        state.parked.extend(owed.into_iter().map(|Owed { slot, pipe }| (slot, pipe)));
    }

    /// Tells the keeper that the daemon ends, with this status.
    pub(super) fn ending(&self, status: u8) {
        self.state.borrow().pipes.tell(Message::Ending(status));
    }
}

/// Why no more packets are read now.
enum Halt {
    /// There are none.
    Empty,
    /// The journal has no room.
    Full,
    /// There will never be any.
    End,
}

/// An autofs mount to be made known.
#[derive(Debug)]
pub(super) struct NewTrigger {
    pub(super) path: Arc<Path>,
    pub(super) kind: Kind,
    pub(super) dev: u32,
    pub(super) pipe: u32,
    pub(super) line: Rc<Line>,
    pub(super) created: Made,
    pub(super) remote: bool,
    /// It was there before this worker, so that something may stand below it.
    pub(super) found: bool,
}

fn say(control: &Control, root: impl AsFd, token: Token, error: Option<Errno>) -> io::Result<()> {
    match error {
        None => control.ready(root.as_fd(), token),
        Some(error) => control.fail(root.as_fd(), token, error),
    }
}

/// The target of log records about a path.
pub(super) fn target(path: &Path) -> std::borrow::Cow<'_, str> {
    path.to_string_lossy()
}
