//! The worker: carries out what the engine decides, and tells it the outcome.
//!
//! Everything here runs on the reactor thread, which never touches a path that could block, never resolves a name and
//! never waits for a child: what can block is handed to a [lane](crate::exec::lanes). The one short cut is for work
//! that provably cannot block: a request whose map is in memory and whose mount needs nothing that is not cached by
//! the kernel is answered in the turn in which its packet was read.

mod admission;
mod effects;
mod packets;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;
use tokio::sync::{Notify, mpsc};

use crate::daemon::attach::Attach;
use crate::daemon::checkpoint::sentinel::Sentinel;
use crate::daemon::control::serve;
use crate::daemon::failures::Failures;
use crate::daemon::history::{History, Recorder};
use crate::daemon::jobs::Means;
use crate::daemon::life::{Life, Phase, Quiescence};
use crate::daemon::mailbox::Mailbox;
use crate::daemon::mounts::locate::Located;
use crate::daemon::mounts::pipes::{Pipe, Pipes};
use crate::daemon::mounts::{Making, Mounts};
use crate::daemon::rate_limit::Attempts;
use crate::daemon::requests::Requests;
use crate::daemon::state::State;
use crate::daemon::tools::Tools;
use crate::engine::{Engine, EntryId, Event, JobId, Limits, MountId, Shutdown, Wanted};
use crate::exec::lanes::Lanes;
use crate::link::history::Settings;
use crate::link::journal::Journal;
use crate::link::{Doing, Inheritance, Message, Pulse, ServiceState};
use crate::logging::{Logger, target};
use crate::options::Options;
use crate::source::configuration::Configuration;
use crate::source::{Sources, service};
use crate::sys::autofs::Control;
use crate::task::spawn_local;
use crate::text::Escaped;

/// How long a start may take before the end that was asked for meanwhile begins without it.
const START: Duration = Duration::from_secs(5);

/// A request of the worker to a module above it, after a job or a restore.
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
    /// The requests that were answered, and the events of the daemon.
    pub(crate) history: History,
    /// The settings that were made at run time, for the next worker.
    pub(crate) settings: Settings,
    failures: Failures,
    /// The keys that users have tried.
    attempts: RefCell<Attempts>,
    /// Told when a file system was mounted that a server in user space may serve.
    pub(crate) served_in_user_space: Notify,
    /// The configuration and the maps.
    pub(crate) state: Rc<RefCell<State>>,
    /// The phases of its life.
    pub(crate) life: Rc<Life>,
    tools: RefCell<Tools>,
    /// Counter by which the keeper sees that the event loop makes progress.
    pulse: Arc<Pulse>,
    /// Told when the engine's deadline has changed.
    timer: Notify,
    sentinel: Sentinel,
    /// The path of the program, which may have been replaced since the start.
    pub(crate) program: PathBuf,
    /// The file of our control socket.
    pub(crate) socket: Cell<Option<serve::Identity>>,
    /// Told when it is to be looked whether the control socket is still there.
    pub(crate) socket_check: Notify,
    /// Told when something could not be read: it is to be tried again.
    pub(crate) incomplete: Notify,
    /// Told when something may be served that was not, or the other way round, or when the daemon does something else.
    pub(crate) standing: Notify,
    /// How many mount points were wanted and not there at the end of the last event.
    absent: Cell<usize>,
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
    /// Work that the worker has queued for the modules above it.
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
        let tools = Tools::new(&configuration, control, Arc::clone(&lanes), requests.requesters(), container);
        let deadlines = &configuration.native.deadlines;
        let limits = Limits {
            request: u64::try_from(deadlines.request.as_millis()).unwrap_or(u64::MAX),
            unmount: u64::try_from(deadlines.umount.as_millis()).unwrap_or(u64::MAX),
            negative_cache: usize::try_from(configuration.native.limits.failed_keys.get()).unwrap_or(usize::MAX),
            ..Limits::default()
        };
        let (next, nexts) = mpsc::unbounded_channel();
        let worker = Self {
            engine: RefCell::new(Engine::new(limits)),
            mounts,
            requests,
            settings: Settings::open(inheritance.history.as_fd())?,
            failures: Failures::default(),
            attempts: RefCell::default(),
            served_in_user_space: Notify::new(),
            history: History::new(Recorder::start(inheritance.history)?),
            state: Rc::new(RefCell::new(State::new(configuration, options, logger, &lanes, sources))),
            life: Rc::new(Life::begin()),
            tools: RefCell::new(tools),
            pulse: inheritance.pulse,
            timer: Notify::new(),
            sentinel: Sentinel::start()?,
            program: inheritance.program,
            socket: Cell::new(None),
            socket_check: Notify::new(),
            incomplete: Notify::new(),
            standing: Notify::new(),
            absent: Cell::default(),
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

    /// Returns what jobs work with.
    pub(crate) fn means(&self) -> Means {
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
            // Whether FUSE mounts are looked at may have changed.
            self.served_in_user_space.notify_one();
        }
        changed
    }

    /// Has directory services asked with the settings of now.
    pub(crate) fn renew_lookups(&self) {
        let state = self.state.borrow();
        service::configure(&state.context.sources.lookups, &state.configuration);
    }

    /// Ends the daemon. While it starts, the engine does not know yet what there is to be unmounted.
    pub(crate) fn stop(self: &Rc<Self>, how: Shutdown) {
        if !self.life.enter(Phase::Stopping(how)) {
            return;
        }
        self.mounts.tell_keeper(Message::State(ServiceState::new(Doing::Stopping)));
        if self.life.has_started() {
            return self.begin_stop(how);
        }
        let worker = Rc::clone(self);
        spawn_local(async move {
            tokio::time::sleep(START).await;
            worker.begin_stop(how);
        });
    }

    /// Tells the engine that the daemon ends. Programs of program maps that still run after the grace are killed: their working
    /// directory keeps the mount point busy.
    fn begin_stop(self: &Rc<Self>, how: Shutdown) {
        let programs = Arc::clone(&self.state.borrow().context.sources.programs);
        spawn_local(async move {
            tokio::time::sleep(Duration::from_millis(Limits::default().grace)).await;
            programs.end();
        });
        self.event(Event::Stop(how));
    }

    /// Records that the start is over.
    pub(crate) fn started(self: &Rc<Self>) {
        let stop = self.life.started();
        self.mounts.tell_keeper(Message::Started);
        self.standing.notify_one();
        // What could not be read at the start is tried again from now on.
        self.incomplete.notify_one();
        // Mounts of an earlier worker or daemon.
        self.served_in_user_space.notify_one();
        if let Some(how) = stop {
            self.begin_stop(how);
        }
    }

    /// Returns whether the shutdown has begun.
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

    /// Stops reading packets, which stay in the pipes for the next worker. Returns whether nothing is in progress that the next
    /// worker would have to repeat.
    pub(crate) fn wind_up(&self) -> bool {
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

    /// Sleeps until the engine wants to be woken, and wakes it. Without a deadline, no timer is set.
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

    /// Passes an event to the engine and carries out its effects until none is left. Then closes unused roots, and hands answered
    /// requests to the history.
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
            if self.absent.replace(engine.absent_count()) != engine.absent_count() {
                self.standing.notify_one();
            }
            engine.deadline() != before
        };
        self.end_turn();
        if changed {
            self.timer.notify_one();
        }
        self.begin_together(together);
    }

    /// Closes unused roots, and hands answered requests to the history. Does nothing while packets are served that were read
    /// together.
    fn end_turn(&self) {
        if self.requests.is_reading() {
            return;
        }
        self.mounts.close_roots();
        self.history.end_turn(|at| self.engine.borrow().negative_for(at));
    }
}

/// Effects of one kind that are carried out together.
#[derive(Debug, Default)]
struct Together {
    attach: Vec<(MountId, Wanted)>,
    detach: Vec<(MountId, bool)>,
    check: Vec<(JobId, EntryId)>,
}

/// Logs the transitions of entries that the last event has brought.
fn log_transitions(engine: &mut Engine) {
    for transition in engine.take_transitions() {
        if let Some(path) = engine.entry_path(&transition.at) {
            debug!(target: &target(&path), "{}: {transition}", Escaped::path(&path));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::task::LocalSet;

    use super::*;
    use crate::daemon::requests::Receiver as _;
    use crate::daemon::testing::{Alone, Asks, packet};

    #[tokio::test]
    async fn a_stop_during_the_start_ends_the_daemon_after_it() {
        let local = LocalSet::new();
        local
            .run_until(async {
                let alone = Alone::new();
                let worker = &alone.worker;
                worker.stop(Shutdown::Clean);
                worker.stop(Shutdown::Detach);
                assert_eq!(
                    worker.life.phase(),
                    Phase::Stopping(Shutdown::Clean),
                    "a weaker way to end changes nothing"
                );
                worker.started();
                assert_eq!(worker.life.ended().await, (Shutdown::Clean, vec![]));
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_hangs_does_not_prevent_the_end() {
        let local = LocalSet::new();
        local
            .run_until(async {
                let alone = Alone::new();
                let worker = &alone.worker;
                let before = tokio::time::Instant::now();
                worker.stop(Shutdown::Clean);
                assert_eq!(worker.life.ended().await, (Shutdown::Clean, vec![]));
                assert!(before.elapsed() >= START && !worker.life.has_started());
            })
            .await;
    }

    #[tokio::test]
    async fn a_packet_of_an_unknown_mount_is_parked_and_the_worker_is_not_idle() {
        let local = LocalSet::new();
        local
            .run_until(async {
                let alone = Alone::new();
                let worker = &alone.worker;
                worker.started();
                assert!(worker.is_idle() && worker.wind_up());
                worker.requests.read_on();
                // The engine does not know this mount yet.
                let pipe = alone.indirect(1, "/srv/auto", 70, Path::new("/nonexistent/m"));
                let making = worker.mounts.begin_making();
                let slot = alone.read(pipe, &packet(70, 5, Asks::Name(b"k")));
                worker.packet(slot, pipe);
                assert!(!worker.requests.none_parked() && !worker.is_idle());
                assert!(!worker.wind_up(), "a mount is being made");
                worker.made(making);
                assert!(!worker.requests.none_parked(), "still unknown");
            })
            .await;
    }

    #[tokio::test]
    async fn a_configuration_that_is_the_same_changes_nothing() {
        let local = LocalSet::new();
        local
            .run_until(async {
                let alone = Alone::new();
                let worker = &alone.worker;
                let same = worker.state.borrow().configuration.clone();
                assert!(!worker.configure(same.clone()) && !worker.tools().ignore);
                let mut other = same;
                other.conf.autofs.use_ignore_mount_option = true;
                assert!(worker.configure(other));
                assert!(worker.tools().ignore, "jobs get tools for the new configuration");
            })
            .await;
    }

    #[tokio::test]
    async fn after_a_restore_the_mounts_are_found_again_and_requests_are_forgotten() {
        let local = LocalSet::new();
        local
            .run_until(async {
                let mut alone = Alone::new();
                alone.worker.started();
                let pipe = alone.indirect(1, "/nonexistent/auto", 70, Path::new("/nonexistent/m"));
                let slot = alone.read(pipe, &packet(70, 5, Asks::Name(b"k")));
                alone.worker.packet(slot, pipe);
                Worker::restored(&alone.worker, None);
                assert_eq!((alone.worker.life.phase(), alone.worker.life.restores()), (Phase::Restoring, 1));
                assert!(alone.worker.requests.none_parked() && alone.worker.requests.none_served());
                assert!(matches!(alone.channels.next.try_recv(), Ok(Next::Regain(..))));
            })
            .await;
    }
}
