//! A program map: an executable file that is called with a key and prints its entry.
//!
//! What it prints is kept for a time. One key is asked for by one program at a time; a key that fails or hangs takes
//! nothing from the others.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::{debug, error};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::file::Seen;
use super::programs::{Keep, NotRun, Programs, Rules};
use super::{
    Answer, Ask, Description, Entries, Environment, Found, Freshness, MapSource, Mode, Pass, SourceError, SourceId,
    Waiting, file, guard,
};
use crate::map::{Format, Provider, RawEntry, Scope, User, program};
use crate::record::{Exit, Record, Run};
use crate::sys::process::{Ended, Program};
use crate::text::{Escaped, Position};

/// Bytes of an entry at most.
const ENTRY_MAX: usize = 1 << 20;

/// Bytes of a list of keys at most.
const LIST_MAX: usize = 16 << 20;

/// Entries kept at most. When there are more, those that have expired are dropped, then all.
const KEPT_MAX: usize = 10_000;

/// A program map.
#[derive(Debug)]
pub struct ProgramMap {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: SourceId,
    path: Arc<Path>,
    mode: Mode,
    format: Format,
    /// The map names it as a program; otherwise its execute bit makes it one.
    typed: bool,
    /// The program lists its keys when it is called without an argument.
    lists: bool,
    environment: Arc<Environment>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Entries, and until when they hold.
    kept: HashMap<Arc<[u8]>, (Found, Instant)>,
    /// Keys that a program is asked for.
    asking: HashMap<Arc<[u8]>, watch::Receiver<Option<Answer>>>,
    seen: Seen,
    entries: Option<Arc<Entries>>,
    /// Until when the list of keys holds.
    listed: Option<Instant>,
}

impl ProgramMap {
    /// The program at `path`, with entries in `format`. With `lists`, it is called without an argument for the list of its
    /// keys. Nothing is run yet.
    pub(super) fn new(
        path: Arc<Path>,
        mode: Mode,
        format: Format,
        typed: bool,
        lists: bool,
        environment: &Arc<Environment>,
    ) -> Self {
        let id = SourceId { kind: "program", name: path.as_os_str().as_bytes().into() };
        let (environment, state) = (Arc::clone(environment), Mutex::default());
        Self { inner: Arc::new(Inner { id, path, mode, format, typed, lists, environment, state }) }
    }
}

impl MapSource for ProgramMap {
    fn id(&self) -> &SourceId {
        &self.inner.id
    }

    fn cached(&self, key: &[u8]) -> Option<Answer> {
        let state = self.inner.lock();
        let (found, until) = state.kept.get(key)?;
        (*until > Instant::now()).then(|| Answer::Found(found.clone()))
    }

    fn known(&self, key: &[u8]) -> Option<Answer> {
        self.inner.lock().kept.get(key).map(|(found, _)| Answer::Found(found.clone()))
    }

    fn lookup<'a>(&'a self, ask: &'a Ask) -> Waiting<'a, Answer> {
        Box::pin(async move {
            if let Some(answer) = self.cached(&ask.key) {
                return answer;
            }
            let mut asking = self.inner.ask(ask);
            let late = || self.inner.late(&ask.key);
            let Ok(answer) = timeout_at(ask.pass.deadline, asking.wait_for(Option::is_some)).await else {
                return late();
            };
            // An error says that the runtime ends.
            answer.ok().and_then(|answer| answer.clone()).unwrap_or_else(late)
        })
    }

    fn entries<'a>(&'a self, pass: &'a Pass) -> Waiting<'a, Result<Arc<Entries>, Arc<SourceError>>> {
        Box::pin(async move {
            let (inner, known) = (Arc::clone(&self.inner), self.known_entries());
            match inner.entries(pass.deadline).await {
                Ok(entries) => Ok(entries),
                Err(error) if error.is_transient() => known.ok_or_else(|| Arc::new(error)),
                Err(error) => Err(Arc::new(error)),
            }
        })
    }

    fn known_entries(&self) -> Option<Arc<Entries>> {
        self.inner.lock().entries.clone()
    }

    fn freshness(&self) -> Freshness {
        let state = self.inner.lock();
        match state.listed {
            // A list is made anew at each reload, but not sooner.
            Some(until) => Freshness::ExpiresAt(until),
            None if state.seen.may_differ(&self.inner.path) => Freshness::MayHaveChanged,
            None => Freshness::Unchanged,
        }
    }

    fn exists(&self) -> bool {
        self.inner.lock().entries.is_some()
    }

    fn describe(&self) -> Description {
        let map = self.inner.path.as_os_str().as_bytes().to_vec();
        match (self.inner.typed, self.exists()) {
            (true, _) => Description { kind: Some("program"), instances: Vec::new(), map },
            (false, true) => Description { kind: None, instances: vec!["program"], map },
            (false, false) => Description { kind: None, instances: Vec::new(), map },
        }
    }

    fn forget(&self) {
        self.inner.lock().kept.clear();
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn programs(&self) -> &Programs {
        &self.environment.programs
    }

    /// Asks for a key, unless that is being done. The answer comes when the program has ended, also if nobody waits for it.
    fn ask(self: &Arc<Self>, ask: &Ask) -> watch::Receiver<Option<Answer>> {
        let mut state = self.lock();
        if let Some(asking) = state.asking.get(&ask.key) {
            return asking.clone();
        }
        let (sender, asking) = watch::channel(None);
        state.asking.insert(Arc::clone(&ask.key), asking.clone());
        let (inner, ask) = (Arc::clone(self), ask.clone());
        tokio::spawn(async move {
            let asking = Asking { inner, key: Arc::clone(&ask.key) };
            let begun = Instant::now();
            let answer = match asking.inner.call(&ask).await {
                Ok(found) => {
                    asking.inner.keep(&ask, &found, begun);
                    Answer::Found(found)
                }
                Err(error) => Answer::Unavailable(Arc::new(error)),
            };
            drop(asking);
            sender.send_replace(Some(answer));
        });
        asking
    }

    /// Calls the program with a key.
    async fn call(&self, ask: &Ask) -> Result<Found, SourceError> {
        let rules = self.programs().rules();
        self.check_guard(&rules).await?;
        let user = match &ask.who {
            Some(who) => Some(self.user(who, ask.pass.deadline).await?),
            None => None,
        };
        let make = |deadline, grace| {
            // It runs in our process group, and a signal to that would stop or end all of us.
            let mut program = Program::new(&self.path, deadline, grace).confined().arg(OsStr::from_bytes(&ask.key));
            program = program.pass(&rules.environment).output_limit(ENTRY_MAX);
            if self.format != Format::Amd {
                program = variables(ask, user.as_deref(), &rules).fold(program, |program, (name, value)| {
                    program.env(OsStr::from_bytes(&name), OsStr::from_bytes(&value))
                });
            }
            // A direct mount cannot be entered while it is asked for.
            let directory = ask.mount_point.as_deref().filter(|_| self.mode != Mode::Direct);
            program.directory(directory.unwrap_or(Path::new("/")))
        };
        let run = self.programs().run(make, ask.pass.deadline).await;
        let (ended, run) = run.map_err(|error| self.not_run(&ask.key, error))?;
        log_stderr(&ended);
        let entry = match run.exit {
            Exit::Status(0) if ended.stdout.len() >= ENTRY_MAX && !program::is_complete(&ended.stdout) => {
                return Err(self.failed(&ask.key, format!("more than {ENTRY_MAX} bytes in one entry"), Some(run)));
            }
            Exit::Status(0) => program::entry(&ended.stdout, &ask.key, self.format),
            _ => return Err(self.failed(&ask.key, run.to_string(), Some(run))),
        };
        let Some(text) = entry else {
            let what =
                if ended.stdout.trim_ascii().is_empty() { "no output" } else { "no entry of this key in its output" };
            return Err(self.failed(&ask.key, format!("{}: {what}", Escaped::path(&self.path)), Some(run)));
        };
        debug!("lookup(program): {} -> {}", Escaped(&ask.key), Escaped(&text));
        let found = Found::new(RawEntry::Text { format: self.format, text }, Position::whole(&self.path));
        Ok(Found { provider: Provider::Program, ..found })
    }

    /// Fails if others than root can change the program, where such ones are not run.
    async fn check_guard(&self, rules: &Rules) -> Result<(), SourceError> {
        if !rules.refuse_writable {
            return Ok(());
        }
        let path = Arc::clone(&self.path);
        let checked = self.environment.readers.run(move || guard::check(&path)).await;
        checked.unwrap_or_else(|_| Err(SourceError::TooManyHang { path: Arc::clone(&self.path) }))
    }

    /// Asks the user database for the names of the requester.
    async fn user(&self, who: &User, deadline: Instant) -> Result<Arc<User>, SourceError> {
        let users = &self.programs().users;
        let user = match users.cached(who.uid, who.gid) {
            Some(user) => Some(user),
            None => users.find(who.uid, who.gid, deadline).await,
        };
        user.ok_or_else(|| SourceError::Users { name: self.id.name.to_vec() })
    }

    fn keep(&self, ask: &Ask, found: &Found, begun: Instant) {
        let time = match self.programs().rules().keep {
            Keep::Negative => ask.negative_timeout,
            Keep::For(time) => time,
        };
        // What is too far away for the clock is not kept.
        let Some(until) = begun.checked_add(time).filter(|_| time > Duration::ZERO) else { return };
        let mut state = self.lock();
        if state.kept.len() >= KEPT_MAX && !state.kept.contains_key(&ask.key) {
            let now = Instant::now();
            state.kept.retain(|_, (_, until)| *until > now);
            if state.kept.len() >= KEPT_MAX {
                state.kept.clear();
            }
        }
        state.kept.insert(Arc::clone(&ask.key), (found.clone(), until));
    }

    /// Looks at the program file, and asks it for its keys if it lists them.
    async fn entries(self: Arc<Self>, deadline: Instant) -> Result<Arc<Entries>, SourceError> {
        self.lock().kept.clear();
        let (inner, readers) = (Arc::clone(&self), self.environment.readers.clone());
        let looked = timeout_at(deadline, readers.run(move || inner.look())).await;
        let too_many = |_| SourceError::TooManyHang { path: Arc::clone(&self.path) };
        let late = |_| SourceError::Late { id: self.id.clone() };
        let seen = looked.map_err(late)?.map_err(too_many)?;
        let seen = match seen {
            Ok(seen) => seen,
            Err((seen, error)) => {
                self.lock().seen = seen;
                return Err(error);
            }
        };
        let entries = if self.lists { self.list(deadline).await? } else { Entries::default() };
        let mut state = self.lock();
        state.seen = seen;
        state.listed = self.lists.then(Instant::now);
        match &state.entries {
            // Without keys there is nothing that may have changed.
            Some(known) if !self.lists => return Ok(Arc::clone(known)),
            _ => {}
        }
        Ok(Arc::clone(state.entries.insert(Arc::new(entries))))
    }

    /// Returns by what the program file is recognized. Blocks.
    fn look(&self) -> Result<Seen, (Seen, SourceError)> {
        let unusable = || SourceError::Program { path: Arc::clone(&self.path) };
        let opened = file::read::open(&self.path).map_err(|error| match error {
            SourceError::Missing { .. } => (Seen::Absent, unusable()),
            SourceError::Read { .. } => (Seen::Unknown, error),
            _ => (Seen::Unknown, unusable()),
        })?;
        let seen = Seen::version(opened.stamp, true, opened.local);
        if self.programs().rules().refuse_writable {
            guard::check(&self.path).map_err(|error| (Seen::Unknown, error))?;
        }
        if opened.stamp.can_be_run() { Ok(seen) } else { Err((seen, unusable())) }
    }

    /// Asks the program for its keys.
    async fn list(&self, deadline: Instant) -> Result<Entries, SourceError> {
        let rules = self.programs().rules();
        if !rules.run {
            return Ok(Entries::default());
        }
        let make = |deadline, grace| {
            let program = Program::new(&self.path, deadline, grace).confined().pass(&rules.environment);
            program.output_limit(LIST_MAX).directory(Path::new("/"))
        };
        let failed = |why: String| SourceError::List { path: Arc::clone(&self.path), why };
        let run = self.programs().run(make, deadline).await;
        let (ended, run) = run.map_err(|error| match error {
            NotRun::Late => failed("too many programs run".to_owned()),
            NotRun::Start(error) => failed(error.to_string()),
        })?;
        log_stderr(&ended);
        if run.exit != Exit::Status(0) {
            return Err(failed(run.to_string()));
        }
        if ended.stdout.len() >= LIST_MAX {
            return Err(failed(format!("more than {LIST_MAX} bytes")));
        }
        Ok(Entries::of_keys(program::keys(&ended.stdout, self.mode == Mode::Direct)))
    }

    fn failed(&self, key: &[u8], why: String, run: Option<Run>) -> SourceError {
        let duration = run.as_ref().map(|run| run.duration).unwrap_or_default();
        let message = format!("lookup(program): lookup for {} failed: {why}", Escaped(key));
        SourceError::Key(Box::new(Record { message, errno: None, runs: run.into_iter().collect(), duration }))
    }

    fn not_run(&self, key: &[u8], error: NotRun) -> SourceError {
        match error {
            NotRun::Late => SourceError::Late { id: self.id.clone() },
            NotRun::Start(error) => {
                self.failed(key, format!("cannot run {}: {error}", Escaped::path(&self.path)), None)
            }
        }
    }

    /// The answer for a key whose program has not ended in time.
    fn late(&self, key: &[u8]) -> Answer {
        let why = format!("{} has not ended by its deadline", Escaped::path(&self.path));
        Answer::Unavailable(Arc::new(self.failed(key, why, None)))
    }
}

/// The entry of a key in the list of those that are asked for.
struct Asking {
    inner: Arc<Inner>,
    key: Arc<[u8]>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.inner.lock().asking.remove(&self.key);
    }
}

/// Logs what a program wrote to standard error, as automount does.
fn log_stderr(ended: &Ended) {
    for line in ended.stderr.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        error!(">> {}", Escaped(line));
    }
}

/// Returns the environment of a program: the variables that Sun entries know, where those of the requester have the prefix
/// `AUTOFS_`, so that a script never takes its own HOME or USER from them.
fn variables<'a>(
    ask: &'a Ask,
    user: Option<&'a User>,
    rules: &Rules,
) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + use<'a> {
    let pair = |(name, value): (&[u8], &[u8])| (name.to_vec(), value.to_vec());
    let globals = ask.globals.iter().map(pair);
    let defines = ask.defines.iter().cloned();
    // As with automount(8) 5.1.9, a uid that the user database does not know has no variables.
    let user = user.filter(|user| user.name.is_some());
    let scope = user.map(|user| Scope { globals: &ask.globals, defines: &[], user: Some(user) });
    let prefix: &[u8] = if rules.standard_names { b"" } else { b"AUTOFS_" };
    let of_request = scope.into_iter().flat_map(|scope| scope.request_variables());
    let of_request = of_request.map(move |(name, value)| ([prefix, name.as_bytes()].concat(), value.into_owned()));
    let usable = |(name, value): &(Vec<u8>, Vec<u8>)| {
        !name.is_empty() && !name.contains(&b'=') && !name.contains(&0) && !value.contains(&0)
    };
    globals.chain(defines).chain(of_request).filter(usable)
}

#[cfg(test)]
mod tests;
