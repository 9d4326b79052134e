//! The thread that writes the history and answers questions about it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use log::debug;
use tokio::sync::oneshot;

use super::counters::Counters;
use super::query::{self, Query};
use super::request::Answered;
use super::stored;
use crate::control::history::{self, Asked, DaemonEvent, EventKind, Process};
use crate::control::{Bytes, Metrics};
use crate::engine::Token;
use crate::link::history::Rings;
use crate::sys::{children, procfs};
use crate::text::secrets::masked_text;

/// Number of messages that may wait for the thread. More are lost, and counted.
const QUEUE: usize = 8192;

/// The nice value of the thread: requests come first.
const NICE: i32 = 10;

/// How long the thread lets answered requests gather behind the first one. While it sleeps, the reactor need not wake it.
const BATCH_DELAY: Duration = Duration::from_millis(10);

/// How long an answer waits for something new. Less than a client waits.
const NEWS_TIMEOUT: Duration = Duration::from_secs(8);

/// How long the end of a worker waits for the thread.
const END_TIMEOUT: Duration = Duration::from_millis(500);

/// Number of failures whose repetitions are recognised.
const REPEATED: usize = 1024;

#[derive(Debug)]
enum Message {
    Answered(Vec<Answered>),
    LookAt(Token, u32),
    Event(DaemonEvent),
    Ask(Query, oneshot::Sender<history::History>),
    Count(oneshot::Sender<Metrics>),
    End,
}

/// The reactor's end of the thread.
#[derive(Debug)]
pub(crate) struct Recorder {
    messages: Sender<Message>,
    thread: Option<JoinHandle<()>>,
    /// Number of messages that wait for the thread. A channel with a limit takes memory for as many from the start.
    queued: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
}

impl Recorder {
    /// Starts the thread on the memory that the keeper holds.
    ///
    /// # Errors
    /// Returns the errors of reading the memory and of clone(2).
    pub(crate) fn start(memory: OwnedFd) -> io::Result<Self> {
        let rings = Rings::open(memory)?;
        let (messages, receiver) = channel();
        let (queued, lost) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
        let writer = Writer::new(rings, Arc::clone(&queued), Arc::clone(&lost));
        let thread = thread::Builder::new().name("history".to_owned()).stack_size(256 << 10).spawn(move || {
            // Without it, it runs like the others.
            let _ = children::set_nice(NICE);
            writer.run(&receiver);
        })?;
        Ok(Self { messages, thread: Some(thread), queued, lost })
    }

    fn send(&self, message: Message) {
        if self.queued.fetch_add(1, Ordering::Relaxed) >= QUEUE {
            self.queued.fetch_sub(1, Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // The receiver lives as long as the thread.
        let _ = self.messages.send(message);
    }

    pub(super) fn answered(&self, answered: Vec<Answered>) {
        self.send(Message::Answered(answered));
    }

    /// Has the process of a request looked at while it waits.
    pub(super) fn look_at(&self, token: Token, tgid: u32) {
        self.send(Message::LookAt(token, tgid));
    }

    pub(super) fn event(&self, kind: EventKind, message: &str, unserved: Option<Bytes>) {
        let message = masked_text(message).into_owned();
        self.send(Message::Event(DaemonEvent { id: 0, at: super::now(), kind, message, unserved }));
    }

    /// Asks for a part of the history. Returns `None` if the thread does not answer.
    pub(crate) async fn ask(&self, query: Query) -> Option<history::History> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Ask(query, reply));
        answer.await.ok()
    }

    /// Asks for the counters.
    pub(crate) async fn count(&self) -> Option<Metrics> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Count(reply));
        answer.await.ok()
    }
}

impl Drop for Recorder {
    /// Lets the thread write what it was given, for a limited time.
    fn drop(&mut self) {
        self.send(Message::End);
        let end = Instant::now() + END_TIMEOUT;
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) && Instant::now() < end {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A question that waits for something new.
struct Waiting {
    query: Query,
    reply: oneshot::Sender<history::History>,
    until: Instant,
}

struct Writer {
    rings: Rings,
    counters: Counters,
    queued: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    waiting: Vec<Waiting>,
    /// The requesters that were looked at while they waited.
    requesters: HashMap<Token, history::Requester>,
    /// The processes that were looked at for the messages that came together.
    seen: HashMap<u32, history::Requester>,
    /// The last failure of a user at a path.
    failures: HashMap<(Vec<u8>, u32), u64>,
    /// The text of the entry that is being recorded.
    text: Vec<u8>,
}

impl Writer {
    fn new(rings: Rings, queued: Arc<AtomicUsize>, lost: Arc<AtomicU64>) -> Self {
        let counters = Counters::read(&rings);
        Self {
            rings,
            counters,
            queued,
            lost,
            waiting: Vec::new(),
            requesters: HashMap::new(),
            seen: HashMap::new(),
            failures: HashMap::new(),
            text: Vec::new(),
        }
    }

    fn run(mut self, messages: &Receiver<Message>) {
        loop {
            let message = match self.waiting.iter().map(|waiting| waiting.until).min() {
                None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(until) => messages.recv_timeout(until.saturating_duration_since(Instant::now())),
            };
            match message {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Ok(first) => {
                    let is_answered = matches!(first, Message::Answered(_));
                    // At once: the process may end soon, and its parent and control group are read now.
                    if !self.serve(first) {
                        break;
                    }
                    if is_answered {
                        self.write();
                        thread::sleep(BATCH_DELAY);
                    }
                    let mut more = std::iter::from_fn(|| messages.try_recv().ok()).take(QUEUE);
                    if !more.all(|message| self.serve(message)) {
                        break;
                    }
                    self.seen.clear();
                    self.write();
                }
            }
            self.serve_waiting();
        }
    }

    /// Writes what was recorded and counted.
    fn write(&mut self) {
        if let Err(e) = self.rings.requests.flush().and_then(|()| self.rings.events.flush()) {
            debug!("the history cannot be written: {e}");
        }
        self.counters.write(&self.rings);
    }

    /// Does what a message says. Returns `false` at the end.
    fn serve(&mut self, message: Message) -> bool {
        self.queued.fetch_sub(1, Ordering::Relaxed);
        match message {
            Message::Answered(answered) => self.record(answered),
            Message::LookAt(token, tgid) => {
                let who = self.look_at(tgid);
                self.requesters.insert(token, who);
            }
            Message::Event(event) => self.happened(&event),
            Message::Ask(query, reply) => self.ask(query, reply),
            Message::Count(reply) => {
                // A worker that may end soon waits for this answer.
                self.write();
                drop(reply.send(self.counters.metrics()));
            }
            Message::End => {
                self.write();
                return false;
            }
        }
        true
    }

    /// Looks at a process, once for all messages that came together.
    fn look_at(&mut self, tgid: u32) -> history::Requester {
        self.seen.entry(tgid).or_insert_with(|| look_at(tgid)).clone()
    }

    /// Records requests that were answered in the same turn.
    fn record(&mut self, all: Vec<Answered>) {
        // Requests of one user that were answered by the same attempt are one entry.
        let mut joined: HashMap<(u64, u32), u64> = HashMap::new();
        for answered in all {
            let who = self.requesters.remove(&answered.token);
            let (uid, time) = (answered.who.uid, super::now());
            self.counters.count(&answered);
            let failure = (answered.error.is_some() && answered.asked == Asked::Mount).then(|| (path(&answered), uid));
            let earlier = match answered.attempt {
                Some(attempt) => joined.get(&(attempt, uid)),
                None => failure.as_ref().and_then(|failure| self.failures.get(failure)),
            };
            if let Some(true) = earlier.map(|serial| self.rings.requests.again(*serial, time).unwrap_or(false)) {
                continue;
            }
            let mut who = who.unwrap_or_else(|| self.look_at(answered.who.tgid));
            if who.comm.is_empty() {
                who.comm.clone_from(&answered.name);
            }
            (who.pid, who.tgid, who.uid, who.gid) = (answered.who.pid, answered.who.tgid, uid, answered.who.gid);
            let attempt = answered.attempt;
            let mut request = answered.record(who);
            stored::encode(&request, &mut self.text);
            if self.text.len() > query::LONGEST {
                query::shorten(&mut request);
                stored::encode(&request, &mut self.text);
            }
            match self.rings.requests.append(&self.text, time) {
                Ok(serial) => {
                    if let Some(attempt) = attempt {
                        joined.insert((attempt, uid), serial);
                    }
                    if let Some(failure) = failure {
                        if self.failures.len() >= REPEATED {
                            self.failures.clear();
                        }
                        self.failures.insert(failure, serial);
                    }
                }
                Err(e) => debug!("a request cannot be recorded: {e}"),
            }
        }
        // A request without an answer, whose process was looked at, leaves its entry here: a restore has forgotten it.
        if self.requesters.len() > QUEUE {
            self.requesters.clear();
        }
    }

    fn happened(&mut self, event: &DaemonEvent) {
        self.counters.happened(event);
        let text = serde_json::to_vec(event).unwrap_or_default();
        if let Err(e) = self.rings.events.append(&text, event.at) {
            debug!("an event cannot be recorded: {e}");
        }
    }

    fn ask(&mut self, query: Query, reply: oneshot::Sender<history::History>) {
        if query.wanted.after.is_some_and(|after| !query::has_news(&self.rings, after)) {
            return self.waiting.push(Waiting { query, reply, until: Instant::now() + NEWS_TIMEOUT });
        }
        let answer = query::answer(&self.rings, &query, self.lost.load(Ordering::Relaxed));
        // The client may have gone.
        let _ = reply.send(answer);
    }

    /// Answers the questions for which there is something new, or that have waited for long enough.
    fn serve_waiting(&mut self) {
        let now = Instant::now();
        for waiting in std::mem::take(&mut self.waiting) {
            let after = waiting.query.wanted.after.unwrap_or_default();
            if waiting.reply.is_closed() {
                continue;
            }
            if waiting.until <= now || query::has_news(&self.rings, after) {
                let answer = query::answer(&self.rings, &waiting.query, self.lost.load(Ordering::Relaxed));
                let _ = waiting.reply.send(answer);
            } else {
                self.waiting.push(waiting);
            }
        }
    }
}

fn path(answered: &Answered) -> Vec<u8> {
    answered.path.as_os_str().as_encoded_bytes().to_vec()
}

/// Looks at a process: its name, its parent and its control group.
fn look_at(tgid: u32) -> history::Requester {
    let Some(pid) = i32::try_from(tgid).ok().filter(|pid| *pid > 0) else { return history::Requester::default() };
    let comm = procfs::name(pid);
    let parent = procfs::parent(pid)
        .filter(|parent| *parent > 0)
        .and_then(|parent| Some(Process { pid: u32::try_from(parent).ok()?, comm: procfs::name(parent) }));
    history::Requester { comm, parent, cgroup: procfs::cgroup(pid), ..history::Requester::default() }
}
