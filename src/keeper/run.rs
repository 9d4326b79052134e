//! The keeper's loop: restarts the worker, passes signals on, reaps orphans.
//!
//! ```text
//!               fork                    Started                 SIGCHLD
//!  due (a time) ────▶ worker, starting ────────▶ worker, serves ───────▶ due now
//!        ▲                  │ SIGCHLD                  │ hangs: SIGKILL
//!        └──── back off ────┘                          ▼
//!     (a new program: after 3 of them          given up: due when it has ended,
//!      the program before comes back)          or after 5 seconds
//! ```
//!
//! `Ending` from a worker that ends regularly, or the end of the first worker before it serves, ends the daemon. `Upgrade`
//! executes the new program, which tells the worker to retire (`retire_by`) and then is in the state "due".

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{error, info, warn};

use super::handover::{Files, Handover, OutgoingHandover};
use super::watchdog::{self, GivenUp, Seen, Verdict, Watchdog, WhyGivenUp};
use crate::link::channel::SIZE;
use crate::link::{Inheritance, Link, Message, Predecessor, Pulse, START_FAILED, ServiceState};
use crate::link::{history, journal};
use crate::logging::fields;
use crate::sys::children::{self, Exit, Fork, Reaped, Signal};
use crate::sys::exec::{self, Executable};
use crate::sys::memory::SharedMemory;
use crate::sys::signals::{Received, Request, Signals};
use crate::sys::{fds, procfs};
use crate::text::Escaped;

/// Maximum number of pipes that are held. The table never grows, so adding a pipe cannot fail for lack of memory. Pipes of a
/// worker beyond this number are lost with it.
pub(super) const TABLE: usize = 8192;

/// The first and the longest pause between the start of a worker that died before it served and the start of the next one.
/// The pause doubles each time.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How long a worker may take to retire before it is killed. It gives its running jobs one second.
const RETIRE: Duration = Duration::from_millis(1500);

/// After this number of workers in a row that never serve, a new program is replaced by the one before it.
const CHANCES: u32 = 3;

/// Number of descriptors that a worker opens while it starts, before it raises its limit.
const ROOM: usize = 32;

/// How long the killed processes that a dead worker has left may take to end.
pub(super) const EXIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum number of messages read in one turn, so that a worker that sends without end can still be killed.
const TALK: usize = 1024;

/// The longest time between the kill of a worker that hangs and the start of the next one. A thread of the killed worker may
/// wait inside the kernel for longer, but it executes nothing outside of it any more.
const KILLED: Duration = Duration::from_secs(5);

/// Receives the state of the daemon, for the process or the service manager that has started it.
pub(super) trait Waiting {
    /// The daemon serves.
    fn started(&mut self);

    /// A reload was asked for by signal.
    fn reloading(&mut self);

    /// All reloads have ended.
    fn reloaded(&mut self);

    /// The daemon says what it does now.
    fn state(&mut self, state: ServiceState);

    /// The daemon is alive.
    fn alive(&mut self);

    /// Returns the interval in which [`alive`](Self::alive) is to be called, or `None` for never.
    fn interval(&self) -> Option<Duration>;
}

/// How long a worker may take to end after it has said that the daemon has ended. Its last threads may wait inside the kernel.
const LAST: Duration = Duration::from_secs(2);

/// The keeper.
pub(super) struct Keeper {
    signals: Signals,
    socket: OwnedFd,
    link: OwnedFd,
    journal: SharedMemory,
    /// The memory of the history, which workers write.
    history: OwnedFd,
    held: Vec<(u32, OwnedFd)>,
    worker: Option<i32>,
    /// When the last worker was started.
    begun: Instant,
    /// When the next worker is to be started.
    due: Option<Instant>,
    failures: u32,
    workers: u32,
    /// Whether the last worker was killed from outside, so that no request is blamed.
    spared: bool,
    /// How the last worker has ended.
    predecessor: Option<Predecessor>,
    pulse: Arc<Pulse>,
    watchdog: Watchdog,
    /// Set while a worker that hangs has been killed and has not ended yet.
    given_up: Option<GivenUp>,
    /// When the service manager is to be told next that the daemon is alive.
    alive_at: Option<Instant>,
    files: Files,
    /// When a worker that was told to retire is killed.
    retire_by: Option<Instant>,
    /// Whether a new program is to be executed.
    upgrade: bool,
    /// The file of the program before this one, until a worker of this one serves.
    previous: Option<OwnedFd>,
    served: bool,
    ever_served: bool,
    ending: Option<(u8, Instant)>,
    /// The signal that ends the daemon, once it was received. It is sent to each new worker again.
    stop: Option<Signal>,
}

impl Keeper {
    /// Creates the keeper of a new daemon.
    pub(super) fn new(signals: Signals, journal: SharedMemory, history: OwnedFd, files: Files) -> io::Result<Self> {
        let ends = fds::pair()?;
        fds::set_nonblocking(ends.0.as_fd(), true)?;
        Self::with(signals, journal, history, files, ends)
    }

    fn with(
        signals: Signals,
        journal: SharedMemory,
        history: OwnedFd,
        files: Files,
        (socket, link): (OwnedFd, OwnedFd),
    ) -> io::Result<Self> {
        Ok(Self {
            signals,
            socket,
            link,
            journal,
            history,
            held: Vec::with_capacity(TABLE),
            worker: None,
            begun: Instant::now(),
            due: Some(Instant::now()),
            failures: 0,
            workers: 0,
            spared: false,
            predecessor: None,
            pulse: Arc::new(Pulse::new()?),
            watchdog: Watchdog::default(),
            given_up: None,
            alive_at: None,
            files,
            retire_by: None,
            upgrade: false,
            previous: None,
            served: false,
            ever_served: false,
            ending: None,
            stop: None,
        })
    }

    /// Creates the keeper of a daemon whose program has been replaced. The worker still runs the program before.
    pub(super) fn resume(signals: Signals, handover: Handover) -> io::Result<Self> {
        let Handover { journal, history, socket, link, held, worker, workers, previous, stop, files } = handover;
        let journal = SharedMemory::open(journal)?;
        journal::check(&journal)?;
        // The history of a program with another layout is not continued.
        let history = history.and_then(history::checked).map_or_else(history::create, Ok)?;
        let mut keeper = Self {
            worker,
            workers,
            previous,
            stop,
            served: true,
            ever_served: true,
            ..Self::with(signals, journal, history, files, (socket, link))?
        };
        keeper.held.extend(held);
        if let Some(worker) = worker {
            keeper.due = None;
            keeper.retire_by = Some(Instant::now() + RETIRE);
            let _ = children::kill(worker, Signal::Retire);
        }
        Ok(keeper)
    }

    /// Runs until the daemon ends. Returns the exit status, or in a new worker what it inherits.
    pub(super) fn run(mut self, waiting: &mut dyn Waiting) -> Result<u8, Inheritance> {
        loop {
            if std::mem::take(&mut self.upgrade) {
                self.become_new();
            }
            if self.retire_by.take_if(|by| *by <= Instant::now()).is_some() {
                self.give_up(WhyGivenUp::Retiring);
            }
            if let Some((code, _)) = self.ending.filter(|(_, by)| *by <= Instant::now()) {
                warn!("the daemon has ended, but its worker has not: it is killed");
                self.worker.map(|worker| children::kill(worker, Signal::Kill));
                return Ok(code);
            }
            if self.worker.is_none() && self.due.is_some_and(|due| due <= Instant::now()) {
                self.due = None;
                if let Some(inheritance) = self.fork() {
                    return Err(inheritance);
                }
            }
            if let Some(given_up) = self.given_up.take_if(|given_up| given_up.at <= Instant::now()) {
                error!("the killed worker has not ended; another one is started");
                self.predecessor = Some(given_up.why.predecessor());
                self.succeed(given_up.why != WhyGivenUp::Hung);
            }
            self.say_alive(waiting);
            let (given_up, ending) = (self.given_up.map(|given_up| given_up.at), self.ending.map(|(_, by)| by));
            let wake = [self.due, self.retire_by, given_up, ending, self.alive_at].into_iter().flatten().min();
            let timeout = wake.map(|wake| wake.saturating_duration_since(Instant::now()));
            let polled = [self.signals.as_fd(), self.socket.as_fd(), self.pulse.as_fd()];
            let Ok([signals, messages, pulse]) = fds::poll(polled, timeout) else { continue };
            if pulse {
                self.watch();
            }
            // The messages first: those that a worker sent before it died still count.
            if messages {
                let _ = (0..TALK).take_while(|_| self.receive(waiting)).count();
            }
            if signals {
                while let Ok(Some(signal)) = self.signals.read() {
                    if is_from_our_group(signal) {
                        warn!("process {} has sent its whole process group a signal; it is ignored", signal.pid);
                    } else {
                        self.pass_on(signal.request, waiting);
                    }
                }
                if let Some(code) = self.reap(waiting) {
                    return Ok(code);
                }
            }
        }
    }

    /// Tells the service manager at intervals that the daemon is alive, except while a worker that hangs is being replaced.
    fn say_alive(&mut self, waiting: &mut dyn Waiting) {
        let Some(interval) = waiting.interval() else { return };
        if self.alive_at.is_none_or(|at| at <= Instant::now()) {
            if self.given_up.is_none() {
                waiting.alive();
            }
            self.alive_at = Some(Instant::now() + interval);
        }
    }

    /// Kills the worker if it hangs.
    fn watch(&mut self) {
        let turn = self.pulse.look();
        let leaves = self.given_up.is_some() || self.retire_by.is_some() || self.ending.is_some();
        let Some(worker) = self.worker.filter(|_| !leaves) else { return };
        let Some(state) = procfs::state(worker) else { return };
        let seen = Seen {
            turn,
            stopped: state.letter == b'T',
            traced: state.tracer.is_some(),
            runs: state.letter == b'R',
            cpu: state.cpu,
        };
        match self.watchdog.look(seen) {
            Verdict::Idle => {}
            Verdict::Busy => self.pulse.look_again(watchdog::CHECK_INTERVAL),
            Verdict::Hung => {
                error!("the worker hangs (state {}); it is killed", char::from(state.letter));
                self.give_up(if seen.stopped { WhyGivenUp::Stopped } else { WhyGivenUp::Hung });
            }
        }
    }

    /// Kills the worker. It may end late, if one of its threads waits inside the kernel.
    fn give_up(&mut self, why: WhyGivenUp) {
        if let Some(worker) = self.worker {
            let _ = children::kill(worker, Signal::Kill);
            self.given_up = Some(GivenUp { at: Instant::now() + KILLED, why });
        }
    }

    fn fork(&mut self) -> Option<Inheritance> {
        // Each worker has its own counter, so that no turn of an earlier worker is counted.
        let Ok(pulse) = Pulse::new() else {
            self.postpone();
            return None;
        };
        self.pulse = Arc::new(pulse);
        self.watchdog.reset();
        self.served = false;
        self.begun = Instant::now();
        let before = self.workers;
        self.workers = self.workers.saturating_add(1);
        match children::fork() {
            Ok(Fork::Child) => {
                match children::die_with_parent().and_then(|()| self.bequeath(before)) {
                    Ok(inheritance) => Some(inheritance),
                    // Never back into the loop: there is one keeper.
                    Err(_) => children::exit_now(START_FAILED.into()),
                }
            }
            Ok(Fork::Parent(pid)) => {
                self.worker = Some(pid);
                if let Some(signal) = self.stop {
                    let _ = children::kill(pid, signal);
                }
                None
            }
            Err(_) => {
                self.postpone();
                None
            }
        }
    }

    /// Executes the file that is now at the path of this program. Returns if that fails.
    fn become_new(&mut self) {
        if !self.may_be_replaced() {
            return;
        }
        let program = self.files.program.clone();
        let own = self.has_room().and_then(|()| exec::own_program());
        let e = match own {
            Ok(own) => self.hand_over(Executable::Path(&program), Some(own.as_fd())),
            Err(e) => e,
        };
        error!("{} cannot take over: {e}; the running program continues", Escaped::path(&program));
    }

    /// Checks that a new worker could open the descriptors it needs. With a full table neither program could continue.
    fn has_room(&self) -> io::Result<()> {
        (0..ROOM).map(|_| fds::duplicate(self.journal.as_fd())).collect::<io::Result<Vec<_>>>().map(drop)
    }

    /// Returns whether this program may be replaced: it has served, so the program before it is not needed any more.
    fn may_be_replaced(&self) -> bool {
        let leaves = self.retire_by.is_some() || self.given_up.is_some();
        self.ever_served && self.previous.is_none() && self.stop.is_none() && !leaves
    }

    /// Executes the program before this one again, because this one does not serve.
    fn fall_back(&mut self) {
        let Some(previous) = self.previous.take() else { return };
        error!("no worker of the new program serves: the program before takes over again");
        let e = self.hand_over(Executable::File(previous.as_fd()), None);
        error!("the program before cannot take over: {e}");
    }

    fn hand_over(&self, program: Executable<'_>, previous: Option<BorrowedFd<'_>>) -> io::Error {
        let handover = OutgoingHandover {
            journal: self.journal.as_fd(),
            history: self.history.as_fd(),
            socket: self.socket.as_fd(),
            link: self.link.as_fd(),
            held: &self.held,
            worker: self.worker,
            workers: self.workers,
            previous,
            stop: self.stop,
            files: &self.files,
        };
        handover.hand_over(program)
    }

    /// Returns what the new worker inherits. Called in the worker.
    fn bequeath(&mut self, before: u32) -> io::Result<Inheritance> {
        let pipes = std::mem::take(&mut self.held);
        let link = Link::new(self.link.try_clone()?);
        let journal = SharedMemory::open(fds::duplicate(self.journal.as_fd())?)?;
        let history = fds::duplicate(self.history.as_fd())?;
        let program = self.files.program.clone();
        let pulse = Arc::clone(&self.pulse);
        let (spared, predecessor, failed) = (self.spared, self.predecessor, self.failures > 0);
        Ok(Inheritance { pipes, journal, history, pulse, link, before, spared, predecessor, failed, program })
    }

    fn postpone(&mut self) {
        let delay = BACK_OFF.0.saturating_mul(1 << self.failures.min(8)).min(BACK_OFF.1);
        self.failures = self.failures.saturating_add(1);
        self.due = Some(self.begun + delay);
        if self.failures >= CHANCES {
            self.fall_back();
        }
    }

    /// Processes one message of the worker. Returns `false` if there is none. Unknown and incomplete messages and pipes beyond
    /// [`TABLE`] are ignored: no message ends the keeper.
    fn receive(&mut self, waiting: &mut dyn Waiting) -> bool {
        let mut bytes = [0; SIZE];
        let message = match fds::receive(self.socket.as_fd(), &mut bytes) {
            Ok(Some(message)) => message,
            Err(e) if e.kind() == io::ErrorKind::InvalidData => return true,
            _ => return false,
        };
        match (bytes.get(..message.length).and_then(Message::decode), message.fd) {
            (Some(Message::Hold(id)), Some(fd)) => {
                self.held.retain(|(held, _)| *held != id);
                if self.held.len() < TABLE {
                    self.held.push((id, fd));
                }
            }
            (Some(Message::Drop(id)), None) => self.held.retain(|(held, _)| *held != id),
            (Some(Message::Started), None) => {
                (self.served, self.ever_served, self.failures) = (true, true, 0);
                self.previous = None;
                waiting.started();
            }
            (Some(Message::Ending(code)), None) => self.ending = Some((code, Instant::now() + LAST)),
            (Some(Message::Upgrade), None) => self.upgrade = true,
            (Some(Message::Reloaded), None) => waiting.reloaded(),
            (Some(Message::State(state)), None) => waiting.state(state),
            _ => {}
        }
        true
    }

    fn pass_on(&mut self, request: Request, waiting: &mut dyn Waiting) {
        let signal = match request {
            Request::Stop => Signal::Stop,
            Request::Force => Signal::Force,
            Request::Prune => Signal::Prune,
            Request::Reload => Signal::Reload,
            // It may have been stopped.
            Request::Child => return self.pulse.look_again(Duration::from_millis(1)),
            Request::Other(_) => return,
        };
        match request {
            Request::Stop | Request::Force => self.stop = Some(signal),
            // Without a worker, the next one reads everything, and its start is the end of the reload.
            Request::Reload => waiting.reloading(),
            _ => {}
        }
        match self.worker {
            Some(pid) => drop(children::kill(pid, signal)),
            // Between two workers: start the next one now, so that the end is a regular one.
            None if self.stop.is_some() => self.due = Some(Instant::now()),
            None => {}
        }
    }

    /// Reaps the worker and orphans that have ended. Returns the exit status if the daemon has ended.
    fn reap(&mut self, waiting: &mut dyn Waiting) -> Option<u8> {
        while let Ok(Reaped::Child(pid, exit)) = children::reap() {
            if Some(pid) != self.worker {
                continue;
            }
            while self.receive(waiting) {}
            self.worker = None;
            if let Some((code, _)) = self.ending {
                return Some(code);
            }
            if !self.ever_served && matches!(exit, Exit::Status(_)) {
                return Some(START_FAILED);
            }
            let given_up = self.given_up.take().map(|given_up| given_up.why);
            let retired = self.retire_by.take().is_some() || given_up == Some(WhyGivenUp::Retiring);
            match given_up {
                _ if retired => info!("another program goes on"),
                // The log has said already that it hangs and is killed.
                Some(_) => info!("the worker has ended ({exit}); another one goes on"),
                None => fields::with(vec![("MESSAGE_ID", fields::WORKER_DIED.to_owned())], || {
                    error!("the worker has died ({exit}); another one goes on");
                }),
            }
            self.predecessor = Some(match given_up {
                _ if retired => Predecessor::Retired,
                Some(why) => why.predecessor(),
                None => Predecessor::Died(exit),
            });
            // A worker that was stopped from outside and then killed by the watchdog counts as killed from outside.
            self.succeed(retired || exit.is_kill() && given_up != Some(WhyGivenUp::Hung));
        }
        None
    }

    /// Arranges the start of the next worker. With `spared`, no request is blamed for the death of the one before.
    fn succeed(&mut self, spared: bool) {
        self.worker = None;
        self.spared = spared;
        self.given_up = None;
        // Otherwise the next worker would do a second time what these processes are doing. FUSE servers have left the group
        // by now.
        children::kill_own_group(EXIT_TIMEOUT);
        // A worker that was killed from outside did nothing wrong. With a pause, a killer with a rhythm of its own would meet
        // each worker at its birth, and none would ever serve.
        if self.served || spared {
            self.failures += u32::from(!self.served);
            self.due = Some(Instant::now());
        } else {
            self.postpone();
        }
    }
}

/// Returns whether a helper, or a process that it has started, has sent a signal that would end the daemon or make it do
/// something. A script with `trap 'kill 0' EXIT` means its own processes; it has to be in our process group, because for other
/// processes the kernel would trigger the mount that the helper is to make.
fn is_from_our_group(signal: Received) -> bool {
    let has_meaning = !matches!(signal.request, Request::Child | Request::Other(_));
    let sender = i32::try_from(signal.pid).unwrap_or(0);
    has_meaning && sender != children::pid() && children::group_of(sender) == Some(children::process_group())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Starter(usize);

    impl Waiting for Starter {
        fn started(&mut self) {
            self.0 += 1;
        }

        fn reloading(&mut self) {}

        fn reloaded(&mut self) {}

        fn state(&mut self, _: ServiceState) {}

        fn alive(&mut self) {}

        fn interval(&self) -> Option<Duration> {
            None
        }
    }

    /// A keeper without a worker; in a thread of its own, as it blocks the signals of its thread.
    fn with_keeper(test: impl FnOnce(&mut Keeper, &mut Starter) + Send) {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let journal = SharedMemory::create(4.try_into().unwrap()).unwrap();
                let history = history::create().unwrap();
                let mut keeper = Keeper::new(Signals::block().unwrap(), journal, history, Files::default()).unwrap();
                test(&mut keeper, &mut Starter(0));
            });
            thread.join().unwrap();
        });
    }

    #[test]
    fn a_program_that_has_not_served_yet_is_not_replaced() {
        with_keeper(|keeper, starter| {
            assert!(!keeper.may_be_replaced(), "nobody has served");
            let link = Link::new(keeper.link.try_clone().unwrap());
            link.send(Message::Started).unwrap();
            drain(keeper, starter);
            assert!(keeper.may_be_replaced());
            keeper.previous = Some(read_end());
            assert!(!keeper.may_be_replaced(), "the program before would be lost");
            link.send(Message::Started).unwrap();
            drain(keeper, starter);
            assert!(keeper.may_be_replaced());
        });
    }

    #[test]
    fn a_worker_that_was_killed_from_outside_is_replaced_at_once() {
        with_keeper(|keeper, _| {
            for count in 1..20 {
                keeper.begun = Instant::now();
                keeper.succeed(true);
                assert!(keeper.due.is_some_and(|due| due <= Instant::now()));
                assert_eq!(keeper.failures, count, "the next one is told that none has served");
            }
            keeper.succeed(false);
            assert!(keeper.due.is_some_and(|due| due > Instant::now()));
        });
    }

    fn drain(keeper: &mut Keeper, starter: &mut Starter) {
        while keeper.receive(starter) {}
    }

    fn read_end() -> OwnedFd {
        fds::pipe().unwrap().0
    }

    #[test]
    fn pipes_are_held_by_number_until_they_are_dropped() {
        with_keeper(|keeper, starter| {
            let link = Link::new(keeper.link.try_clone().unwrap());
            for number in [1, 2, 2, 3] {
                link.hold(number, read_end().as_fd()).unwrap();
            }
            for message in [Message::Drop(1), Message::Drop(9), Message::Started] {
                link.send(message).unwrap();
            }
            drain(keeper, starter);
            assert_eq!(keeper.held.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 3]);
            assert_eq!((starter.0, keeper.ever_served, keeper.ending), (1, true, None));
            link.send(Message::Ending(7)).unwrap();
            drain(keeper, starter);
            assert_eq!(keeper.ending.map(|(code, _)| code), Some(7));
        });
    }

    #[test]
    fn a_full_table_takes_no_more_and_forgets_nothing() {
        if fds::raise_limit(TABLE as u64 + 256).unwrap().1 < TABLE as u64 + 128 {
            return;
        }
        with_keeper(|keeper, starter| {
            let (link, pipe) = (Link::new(keeper.link.try_clone().unwrap()), read_end());
            for number in 0..TABLE as u32 + 40 {
                link.hold(number, pipe.as_fd()).unwrap();
                keeper.receive(starter);
            }
            assert_eq!((keeper.held.len(), keeper.held[TABLE - 1].0), (TABLE, TABLE as u32 - 1));
            link.send(Message::Drop(5)).unwrap();
            link.hold(u32::MAX, pipe.as_fd()).unwrap();
            drain(keeper, starter);
            assert_eq!((keeper.held.len(), keeper.held[TABLE - 1].0), (TABLE, u32::MAX));
        });
    }

    #[test]
    fn a_worker_that_never_served_comes_back_ever_more_slowly() {
        with_keeper(|keeper, _| {
            let mut waits = Vec::new();
            for _ in 0..20 {
                keeper.begun = Instant::now();
                keeper.postpone();
                waits.push(keeper.due.unwrap() - keeper.begun);
            }
            assert!(waits.is_sorted());
            assert_eq!((waits[0], waits[19]), BACK_OFF);
        });
    }

    #[test]
    fn without_a_daemon_that_serves_there_is_no_upgrade() {
        with_keeper(|keeper, _| {
            // If it were tried, this process would become another one.
            keeper.files.program = "/bin/false".into();
            keeper.become_new();
            (keeper.ever_served, keeper.stop) = (true, Some(Signal::Stop));
            keeper.become_new();
            keeper.fall_back();
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn nothing_that_a_worker_says_does_harm(
            said in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..40), 0..3u8, any::<bool>()), 0..60),
        ) {
            with_keeper(|keeper, starter| {
                let socket = keeper.link.try_clone().unwrap();
                for (mut bytes, like, with_pipe) in said {
                    if like > 0 {
                        // Almost one of ours: all is right but the kind, or the length.
                        let known = Message::Hold(u32::from(bytes[0])).encode();
                        bytes.resize(if like == 1 { SIZE } else { bytes.len() }, 0);
                        let length = bytes.len().min(4);
                        bytes[..length].copy_from_slice(&known[..length]);
                    }
                    let pipe = read_end();
                    fds::send(socket.as_fd(), &bytes, with_pipe.then(|| pipe.as_fd())).unwrap();
                    drop(pipe);
                    drain(keeper, starter);
                }
                keeper.held.clear();
                let link = Link::new(socket);
                link.hold(1, read_end().as_fd()).unwrap();
                drain(keeper, starter);
                assert_eq!(keeper.held.len(), 1, "and what comes after is understood");
            });
        }
    }
}
