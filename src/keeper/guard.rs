//! The keeper's loop: wait, restart the worker, pass signals on, reap orphans.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use super::channel::{Link, Message, SIZE};
use super::start::START_FAILED;
use crate::sys::children::{self, Exit, Fork, Reaped, Signal};
use crate::sys::fds;
use crate::sys::memory::SharedMemory;
use crate::sys::signals::{Request, Signals};

/// Pipes that can be held. The table never grows, so that it cannot fail to; a worker with more pipes than this keeps
/// the rest to itself, and only those are lost with it.
pub(super) const TABLE: usize = 8192;

/// From the start of a worker that died before it served to the start of the next: this long, doubled each time up to
/// the second value.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// For what a dead worker has left under way to end when it is killed.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a new worker gets.
#[derive(Debug)]
pub struct Inheritance {
    /// The pipes that earlier workers have handed over: number and read end.
    pub pipes: Vec<(u32, OwnedFd)>,
    /// The journal's memory.
    pub journal: SharedMemory,
    /// The way to the keeper.
    pub link: Link,
    /// How many workers this daemon has had before.
    pub before: u32,
}

/// Told by the loop to whoever started the daemon.
pub(super) trait Waiting {
    /// The daemon serves.
    fn started(&mut self);
}

pub(super) struct Guard {
    signals: Signals,
    socket: OwnedFd,
    link: OwnedFd,
    journal: SharedMemory,
    held: Vec<(u32, OwnedFd)>,
    worker: Option<i32>,
    /// When the worker, or the last one, was started.
    begun: Instant,
    /// When the next one is to be started.
    due: Option<Instant>,
    failures: u32,
    workers: u32,
    served: bool,
    ever_served: bool,
    ending: Option<u8>,
    /// The signal that ends the daemon, once it came: a worker that takes over in the middle of the end is told again.
    stop: Option<Signal>,
}

impl Guard {
    pub(super) fn new(signals: Signals, journal: SharedMemory) -> io::Result<Self> {
        let (socket, link) = fds::pair()?;
        fds::set_nonblocking(socket.as_fd(), true)?;
        Ok(Self {
            signals,
            socket,
            link,
            journal,
            held: Vec::with_capacity(TABLE),
            worker: None,
            begun: Instant::now(),
            due: None,
            failures: 0,
            workers: 0,
            served: false,
            ever_served: false,
            ending: None,
            stop: None,
        })
    }

    /// Runs until the daemon ends, and returns its exit status. In a worker it returns what the worker is to do with
    /// instead.
    pub(super) fn run(mut self, waiting: &mut dyn Waiting) -> Result<u8, Inheritance> {
        self.due = Some(Instant::now());
        loop {
            if self.worker.is_none() && self.due.is_some_and(|due| due <= Instant::now()) {
                self.due = None;
                if let Some(inheritance) = self.fork() {
                    return Err(inheritance);
                }
            }
            let timeout = self.due.map(|due| due.saturating_duration_since(Instant::now()));
            let Ok([signals, messages]) = fds::poll([self.signals.as_fd(), self.socket.as_fd()], timeout) else {
                continue;
            };
            // The worker's messages first: what it has said before it died still counts.
            if messages {
                while self.receive(waiting) {}
            }
            if signals {
                while let Ok(Some(signal)) = self.signals.read() {
                    self.pass_on(signal.request);
                }
                if let Some(code) = self.reap(waiting) {
                    return Ok(code);
                }
            }
        }
    }

    fn fork(&mut self) -> Option<Inheritance> {
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

    /// In the new worker: what it takes over.
    fn bequeath(&mut self, before: u32) -> io::Result<Inheritance> {
        let pipes = std::mem::take(&mut self.held);
        let link = Link::new(self.link.try_clone()?);
        Ok(Inheritance { pipes, journal: SharedMemory::open(fds::duplicate(self.journal.as_fd())?)?, link, before })
    }

    fn postpone(&mut self) {
        let delay = BACK_OFF.0.saturating_mul(1 << self.failures.min(8)).min(BACK_OFF.1);
        self.failures = self.failures.saturating_add(1);
        self.due = Some(self.begun + delay);
    }

    /// Takes one message. An unknown one, half a one, and a pipe too many are passed over: nothing that a worker
    /// sends may bring the keeper down. False: there is none.
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
                waiting.started();
            }
            (Some(Message::Ending(code)), None) => self.ending = Some(code),
            _ => {}
        }
        true
    }

    fn pass_on(&mut self, request: Request) {
        let signal = match request {
            Request::Stop => Signal::Term,
            Request::Force => Signal::Usr2,
            Request::Prune => Signal::Usr1,
            Request::Reload => Signal::Hup,
            Request::Child | Request::Other(_) => return,
        };
        if matches!(request, Request::Stop | Request::Force) {
            self.stop = Some(signal);
        }
        match self.worker {
            Some(pid) => drop(children::kill(pid, signal)),
            // Between two workers: start the next one now, so that the end is a regular one.
            None if self.stop.is_some() => self.due = Some(Instant::now()),
            None => {}
        }
    }

    /// Reaps what has ended: the worker, and orphans that were left to us. `Some`: the daemon has ended.
    fn reap(&mut self, waiting: &mut dyn Waiting) -> Option<u8> {
        while let Ok(Reaped::Child(pid, exit)) = children::reap() {
            if Some(pid) != self.worker {
                continue;
            }
            while self.receive(waiting) {}
            self.worker = None;
            if let Some(code) = self.ending {
                return Some(code);
            }
            if !self.ever_served && matches!(exit, Exit::Status(_)) {
                return Some(START_FAILED);
            }
            // What the dead worker had under way would be done a second time by the next one. File systems in user
            // space have left the group by now.
            children::kill_own_group(PATIENCE);
            if self.served {
                self.due = Some(Instant::now());
            } else {
                self.postpone();
            }
        }
        None
    }
}
