//! The lookup processes: started when a service is asked, ended when they are idle, replaced when they hang or crash.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::{debug, warn};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use super::DirectoryService;
use super::map_cache::{MapCache, Name, Place};
use super::requests::{Pending, Requests};
use crate::blocking;
use crate::directory::stored::{self, Stored};
use crate::directory::{Frames, LdapName, Map, Question, Reply, Request, Settings};
use crate::lookup;
use crate::sys::user;

/// The program that is started as a lookup process: this one.
pub const PROGRAM: &str = "/proc/self/exe";

/// How long an idle process is kept.
const IDLE: Duration = Duration::from_secs(10);

/// How long a process that was killed is waited for: one that waits inside the kernel may not end.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Bytes read at a time.
const READ: usize = 64 << 10;

/// The lookup processes of a worker, one for each service.
#[derive(Debug)]
pub struct Lookups {
    state: Mutex<State>,
    cache: MapCache,
}

#[derive(Debug, Default)]
struct State {
    settings: Arc<Settings>,
    services: HashMap<DirectoryService, mpsc::UnboundedSender<Order>>,
}

/// Orders to the task of a service.
#[derive(Debug)]
enum Order {
    Ask(Pending),
    /// Requests that come later go to a new process.
    Renew(Arc<Settings>),
    /// End the process if it has nothing to do. The sender is dropped when that is done.
    Rest(oneshot::Sender<()>),
}

impl Default for Lookups {
    fn default() -> Self {
        Self::new(Settings::default())
    }
}

impl Lookups {
    /// Creates the value; no process runs yet.
    pub fn new(settings: Settings) -> Self {
        let settings = Arc::new(settings);
        Self { state: Mutex::new(State { settings, services: HashMap::new() }), cache: MapCache::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the settings for all processes that are started later. Processes that run answer what they were asked, then end: so all
    /// files that libraries have read are read again.
    pub fn renew(&self, settings: Settings) {
        let mut state = self.lock();
        let has_local_maps = settings.has_local_maps || state.settings.has_local_maps;
        state.settings = Arc::new(Settings { has_local_maps, ..settings });
        let settings = Arc::clone(&state.settings);
        state.services.retain(|_, orders| orders.send(Order::Renew(Arc::clone(&settings))).is_ok());
    }

    /// Sets where maps are stored for a start without their services. `None`: nowhere.
    pub fn store_at(&self, place: Option<Place>) {
        self.cache.set(place);
    }

    /// Writes what is to be stored and is not yet. Returns after some time in any case.
    pub async fn flush_cache(&self) {
        self.cache.flush().await;
    }

    /// Returns whether maps are stored.
    pub(super) fn has_cache(&self) -> bool {
        self.cache.is_on()
    }

    /// Returns a map as it was stored.
    pub(super) async fn stored(&self, service: DirectoryService, map: &Map) -> Option<Stored> {
        self.cache.load(self.name(service, map)).await
    }

    /// Stores the entries of a map.
    pub(super) fn store_all(&self, service: DirectoryService, map: &Map, text: &[u8]) {
        self.cache.note_all(self.name(service, map), text.to_vec());
    }

    /// Stores what a service has said of a key.
    pub(super) fn store_key(&self, service: DirectoryService, map: &Map, key: &[u8], entry: Option<&[u8]>) {
        if self.has_cache() {
            self.cache.note_key(self.name(service, map), key, entry);
        }
    }

    /// Forgets a map that the service does not have any more.
    pub(super) fn store_gone(&self, service: DirectoryService, map: &Map) {
        if self.has_cache() {
            self.cache.note_gone(self.name(service, map));
        }
    }

    fn name(&self, service: DirectoryService, map: &Map) -> Name {
        let domain = user::nis_domain().unwrap_or_default();
        (service.name(), stored::identity(service.name(), map, &self.lock().settings, domain.as_bytes()))
    }

    /// Ends idle processes now, and waits until they have ended.
    pub async fn rest(&self) {
        let mut resting = Vec::new();
        self.lock().services.retain(|_, orders| {
            let (sender, done) = oneshot::channel();
            resting.push(done);
            orders.send(Order::Rest(sender)).is_ok()
        });
        for done in resting {
            // The sender is dropped without a word.
            let _ = done.await;
        }
    }

    /// Asks a service. Returns where its replies come; the last one says so.
    pub(super) fn ask(
        &self,
        service: DirectoryService,
        map: Map,
        question: Question,
        deadline: Instant,
    ) -> mpsc::UnboundedReceiver<Reply> {
        let (sender, replies) = mpsc::unbounded_channel();
        let mut state = self.lock();
        let is_local = service == DirectoryService::Ldap && LdapName::names_local(&map.name);
        if is_local && !state.settings.has_local_maps {
            // A process that runs already has another user.
            state.settings = Arc::new(Settings { has_local_maps: true, ..Settings::clone(&state.settings) });
            let renew = Order::Renew(Arc::clone(&state.settings));
            // If the task has ended, the next one begins with these settings.
            let _ = state.services.get(&service).map(|orders| orders.send(renew));
        }
        let order = Order::Ask(Pending::new(map, question, deadline, sender));
        let order = match state.services.get(&service) {
            None => Some(order),
            // The task ends with its runtime.
            Some(orders) => orders.send(order).err().map(|refused| refused.0),
        };
        if let Some(order) = order {
            let (orders, incoming) = mpsc::unbounded_channel();
            drop(orders.send(order));
            let again = orders.downgrade();
            let task = Task { service, settings: Arc::clone(&state.settings), orders: incoming, again };
            state.services.insert(service, orders);
            tokio::spawn(task.run());
        }
        replies
    }
}

/// The task of a service.
struct Task {
    service: DirectoryService,
    settings: Arc<Settings>,
    orders: mpsc::UnboundedReceiver<Order>,
    /// Open questions of a process that was replaced.
    again: mpsc::WeakUnboundedSender<Order>,
}

impl Task {
    async fn run(mut self) {
        let mut waiting: Vec<Pending> = Vec::new();
        loop {
            if waiting.is_empty() {
                match self.orders.recv().await {
                    Some(Order::Ask(pending)) => waiting.push(pending),
                    Some(Order::Renew(settings)) => self.settings = settings,
                    Some(Order::Rest(_)) => {}
                    None => return,
                }
                continue;
            }
            waiting = match Process::start(self.service, &self.settings).await {
                Ok(process) => self.serve(process, std::mem::take(&mut waiting)).await,
                Err(error) => {
                    let text = format!("the lookup process cannot be started: {error}");
                    waiting.drain(..).for_each(|pending| pending.fail(&text));
                    Vec::new()
                }
            };
        }
    }

    /// Has a process answer requests until it has ended, or makes room for another one. Returns the requests that are to be
    /// asked again.
    async fn serve(&mut self, mut process: Process, waiting: Vec<Pending>) -> Vec<Pending> {
        let mut waiting = VecDeque::from(waiting);
        loop {
            // Those that may have killed a process are asked one by one.
            while !process.requests.has_suspect() {
                let Some(pending) = waiting.pop_front() else { break };
                process.ask(pending);
            }
            let idle = process.requests.is_empty() && process.unsent.is_empty();
            let due = process.requests.due().unwrap_or_else(|| process.idle_since + IDLE);
            tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    Some(Order::Ask(pending)) if pending.is_suspect() => waiting.push_back(pending),
                    Some(Order::Ask(pending)) => process.ask(pending),
                    Some(Order::Renew(settings)) => {
                        self.settings = settings;
                        tokio::spawn(process.retire(self.again.clone()));
                        return waiting.into();
                    }
                    Some(Order::Rest(done)) if idle => {
                        process.end().await;
                        drop(done);
                        return Vec::new();
                    }
                    Some(Order::Rest(_)) => {}
                    None => return Vec::new(),
                },
                moved = process.turn() => if let Err(why) = moved {
                    waiting.extend(process.lost(&why).await);
                    return waiting.into();
                },
                () = sleep_until(due) => {
                    if idle {
                        debug!("the lookup process for {} ends: it is idle", self.service.name());
                        process.end().await;
                        return Vec::new();
                    }
                    waiting.extend(process.lost("it hangs").await);
                    return waiting.into();
                }
            }
        }
    }
}

/// A running lookup process.
struct Process {
    service: DirectoryService,
    child: Child,
    socket: UnixStream,
    frames: Frames,
    requests: Requests,
    /// Bytes that the process has not taken yet.
    unsent: Vec<u8>,
    idle_since: Instant,
    buffer: Vec<u8>,
}

impl Process {
    async fn start(service: DirectoryService, settings: &Arc<Settings>) -> io::Result<Self> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut command = Command::new(PROGRAM);
        command.arg0("automount").args([lookup::ARGUMENT, service.name()]);
        // Libraries write to standard error what nobody reads.
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs))).stdout(Stdio::null()).stderr(Stdio::null());
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LANG", "C").current_dir("/");
        // The caller stands still until the program is loaded.
        let child = blocking::run(move || command.spawn()).await?;
        debug!("started a lookup process for {}, pid {}", service.name(), child.id());
        let unsent = Request::Settings(Settings::clone(settings)).frame();
        let unsent = unsent.ok_or_else(|| io::Error::other("the settings for LDAP are too long"))?;
        let (frames, requests, buffer) = (Frames::default(), Requests::default(), vec![0; READ]);
        let (socket, idle_since) = (UnixStream::from_std(ours)?, Instant::now());
        Ok(Self { service, child, socket, frames, requests, unsent, idle_since, buffer })
    }

    fn ask(&mut self, pending: Pending) {
        if let Some(frame) = self.requests.add(pending) {
            self.unsent.extend_from_slice(&frame);
        }
    }

    /// Sends or receives something.
    async fn turn(&mut self) -> Result<(), String> {
        let (mut receiver, mut sender) = self.socket.split();
        let received = tokio::select! {
            sent = sender.write(&self.unsent), if !self.unsent.is_empty() => {
                let sent = sent.map_err(|error| format!("it cannot be written to: {error}"))?;
                self.unsent.drain(..sent);
                return Ok(());
            }
            received = receiver.read(&mut self.buffer) => received,
        };
        let length = match received {
            Ok(0) => return Err("it has ended".to_owned()),
            Ok(length) => length,
            Err(error) => return Err(format!("it cannot be read from: {error}")),
        };
        self.frames.push(self.buffer.get(..length).unwrap_or_default());
        let garbage = |error| format!("it has sent {error}");
        while let Some(message) = self.frames.take().map_err(garbage)? {
            let (id, reply) = Reply::parse(&message).map_err(garbage)?;
            self.requests.answer(id, reply);
        }
        self.idle_since = Instant::now();
        Ok(())
    }

    /// Answers what was asked, then ends.
    async fn retire(mut self, again: mpsc::WeakUnboundedSender<Order>) {
        while let Some(due) = self.requests.due() {
            let why = tokio::select! {
                moved = self.turn() => match moved {
                    Ok(()) => continue,
                    Err(why) => why,
                },
                () = sleep_until(due) => "it hangs".to_owned(),
            };
            for pending in self.lost(&why).await {
                match again.upgrade() {
                    // The task ends with its runtime.
                    Some(orders) => drop(orders.send(Order::Ask(pending))),
                    None => pending.fail("the lookup process has ended"),
                }
            }
            return;
        }
        self.end().await;
    }

    /// Kills a process that is of no use any more. Returns the requests that are to be asked again.
    async fn lost(mut self, why: &str) -> Vec<Pending> {
        let service = self.service.name();
        warn!("the lookup process for {service}, pid {}, is replaced: {why}", self.child.id());
        let _ = self.child.kill();
        let left = self.requests.end(&format!("the lookup process for {service} is replaced: {why}"));
        self.end().await;
        left
    }

    /// Closes the socket, upon which the process ends, and reaps it.
    async fn end(mut self) {
        drop(self.socket);
        let end = Instant::now() + LAST_WAIT;
        let mut pause = Duration::from_millis(1);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= end {
                let _ = self.child.kill();
                // If it still does not end, it is reaped when the worker has ended.
                sleep(pause).await;
                drop(self.child.try_wait());
                return;
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}
