//! A map in a text file, with what it includes.
//!
//! What was read of the file last stays in force until something better can be read. The file is read by one thread at
//! a time, whose result all lookups share; each include is a source of its own, so that one which hangs takes nothing
//! from the file that names it.

pub mod index;
pub(super) mod read;
pub(super) mod seen;
pub mod stamp;

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use log::{debug, info};

pub use index::Index;
pub use stamp::Stamp;

use super::look::Looked;
use super::{
    Answer, Ask, DEPTH_MAX, Description, Entries, Environment, Flight, Found, Freshness, MapSource, Mode, Pass,
    SourceError, SourceId, Users, Waiting, guard, open,
};
use crate::map::{Format, Provider, SourceSpec, fstab, toml};
use crate::mutex::lock;
use crate::text::{Diagnostic, Escaped, Position};
use index::{IncludeLine, UserUnknown};
use read::Content;
pub(super) use seen::Seen;

/// A map file.
#[derive(Debug, Clone)]
pub struct FileMap {
    file: Arc<File>,
}

/// How the master map names a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `file:/path`: always a map.
    Typed,
    /// `/path`: a program if its owner may execute it.
    Path,
    /// A name that was found through nsswitch.conf: likewise.
    Name,
}

/// A map that is being rewritten is read when it has not changed for so long. A writer that pauses for longer is caught in the
/// middle, but such a content is read again soon: it is not settled.
const QUIET: Duration = Duration::from_millis(5);

/// The files that include each other, outermost first.
pub(super) type Trail = Arc<[Arc<Path>]>;

struct File {
    id: SourceId,
    path: Arc<Path>,
    mode: Mode,
    origin: Origin,
    format: Format,
    trail: Trail,
    environment: Arc<Environment>,
    state: Mutex<Arc<State>>,
    looked: Looked,
    reading: Flight,
}

/// State of the file; replaced as a whole.
#[derive(Default)]
struct State {
    seen: Seen,
    /// Index that lookups use.
    index: Option<Arc<Index>>,
    /// `index` is not that of a local file of root alone.
    foreign: bool,
    /// Whether it was looked whether others than root can change it.
    guarded: bool,
    /// In the order of the file.
    includes: Vec<Arc<Include>>,
    /// Why `index` is not what is on disk.
    trouble: Option<Arc<SourceError>>,
}

/// A `+map` line and its map.
struct Include {
    line: IncludeLine,
    source: Arc<dyn MapSource>,
    /// Why nothing comes from there, as last reported.
    problem: Mutex<Option<String>>,
}

impl FileMap {
    /// The map in the file `path`, included by the files of `trail`. Nothing is read yet.
    pub(super) fn new(
        path: Arc<Path>,
        mode: Mode,
        origin: Origin,
        trail: Trail,
        environment: &Arc<Environment>,
    ) -> Self {
        Self::with_format(path, mode, origin, Format::Sun, trail, environment)
    }

    /// As [`new`](Self::new), with the language in which the file is written.
    pub(super) fn with_format(
        path: Arc<Path>,
        mode: Mode,
        origin: Origin,
        format: Format,
        trail: Trail,
        environment: &Arc<Environment>,
    ) -> Self {
        let id = SourceId { kind: "file", name: path.as_os_str().as_bytes().into() };
        let (state, looked, reading) = (Mutex::default(), Looked::default(), Flight::default());
        let environment = Arc::clone(environment);
        Self { file: Arc::new(File { id, path, mode, origin, format, trail, environment, state, looked, reading }) }
    }

    /// Returns whether the file was a program when it was looked at last.
    pub(super) fn is_program(&self) -> bool {
        matches!(self.file.state().trouble.as_deref(), Some(SourceError::Executable { .. }))
    }

    /// Returns whether the file may be another than the one that was looked at last. Never waits.
    pub(super) fn may_differ(&self) -> bool {
        self.file.state().seen.may_differ(&self.file.path)
    }
}

impl MapSource for FileMap {
    fn id(&self) -> &SourceId {
        &self.file.id
    }

    fn cached(&self, key: &[u8]) -> Option<Answer> {
        let state = self.file.state();
        if !self.file.looked.is_enough() {
            if state.seen.may_differ(&self.file.path) {
                return None;
            }
            self.file.looked.note();
        }
        state.answer(key, |source| source.cached(key), &|| self.file.users().cached_name(key)).ok().flatten()
    }

    fn known(&self, key: &[u8]) -> Option<Answer> {
        let state = self.file.state();
        state.index.as_ref()?;
        let ask = |source: &dyn MapSource| Some(source.known(key).unwrap_or(Answer::NotFound));
        match state.answer(key, ask, &|| self.file.users().known_name(key)) {
            Ok(answer) => answer,
            Err(UserUnknown) => Some(user_unknown(key)),
        }
    }

    fn lookup<'a>(&'a self, ask: &'a Ask) -> Waiting<'a, Answer> {
        Box::pin(async move {
            if self.file.refresh(&ask.pass).await.is_err() {
                // It is included a second time: the first place has answered for it.
                return Answer::NotFound;
            }
            let state = self.file.state();
            let own = state.own(&ask.key);
            let mut doubt = state.doubt();
            for include in state.includes_before(own) {
                match include.source.lookup(&ask.part()).await {
                    Answer::NotFound => {}
                    Answer::Unavailable(why) => doubt = Some(why),
                    found @ Answer::Found(_) => return found,
                }
            }
            if let Ok(answer) =
                state.conclude(own, &ask.key, doubt.clone(), &|| self.file.users().cached_name(&ask.key))
            {
                return answer;
            }
            let is_user = self.file.users().has_name(&ask.key, ask.pass.part().deadline).await;
            state.conclude(own, &ask.key, doubt, &|| is_user).unwrap_or_else(|UserUnknown| user_unknown(&ask.key))
        })
    }

    fn entries<'a>(&'a self, pass: &'a Pass) -> Waiting<'a, Result<Arc<Entries>, Arc<SourceError>>> {
        Box::pin(async move {
            match self.file.refresh(pass).await {
                Ok(()) => {}
                Err(Skipped::Known) => return Ok(Arc::default()),
                Err(Skipped::Error(error)) => return Err(error),
            }
            let state = self.file.state();
            for include in &state.includes {
                let problem = include.source.entries(&pass.part()).await.err().map(|error| error.to_string());
                include.report(problem, &self.file.environment);
            }
            if let (None, Some(error)) = (&state.index, &state.trouble) {
                return Err(Arc::clone(error));
            }
            Ok(Arc::new(state.entries()))
        })
    }

    fn prepare<'a>(&'a self, pass: &'a Pass) -> Waiting<'a, Result<(), Arc<SourceError>>> {
        Box::pin(async move {
            match self.file.refresh(pass).await {
                Ok(()) => {}
                Err(Skipped::Known) => return Ok(()),
                Err(Skipped::Error(error)) => return Err(error),
            }
            let state = self.file.state();
            for include in &state.includes {
                let problem = include.source.prepare(&pass.part()).await.err().map(|error| error.to_string());
                include.report(problem, &self.file.environment);
            }
            match (&state.index, &state.trouble) {
                (None, Some(error)) => Err(Arc::clone(error)),
                _ => Ok(()),
            }
        })
    }

    fn known_entries(&self) -> Option<Arc<Entries>> {
        let state = self.file.state();
        state.index.as_ref()?;
        Some(Arc::new(state.entries()))
    }

    fn freshness(&self) -> Freshness {
        let state = self.file.state();
        if state.seen.may_differ(&self.file.path) {
            return Freshness::MayHaveChanged;
        }
        state.includes.iter().fold(Freshness::Unchanged, |all, include| all.and(include.source.freshness()))
    }

    fn exists(&self) -> bool {
        self.file.state().index.is_some()
    }

    fn trouble(&self) -> Option<String> {
        let state = self.file.state();
        state.index.as_ref().and(state.trouble.as_ref()).map(ToString::to_string)
    }

    fn describe(&self) -> Description {
        let found = if self.exists() { vec!["file"] } else { Vec::new() };
        let typed = self.file.origin == Origin::Typed;
        let (kind, instances) = if typed { (Some("file"), Vec::new()) } else { (None, found) };
        Description { kind, instances, map: self.file.path.as_os_str().as_bytes().to_vec() }
    }

    fn forget(&self) {
        self.file.state().includes.iter().for_each(|include| include.source.forget());
    }
}

/// Why a file is not read in a walk.
enum Skipped {
    /// Its content is known from another place.
    Known,
    /// It must not be included here.
    Error(Arc<SourceError>),
}

impl File {
    /// Brings the content of the file up to date, without its includes. May wait.
    async fn refresh(self: &Arc<Self>, pass: &Pass) -> Result<(), Skipped> {
        if let Some(skipped) = self.skipped(pass) {
            *lock(&self.state) = Arc::new(State { seen: Seen::Skipped, ..State::default() });
            return Err(skipped);
        }
        pass.visit(&self.path);
        let seen = self.state().seen;
        if seen != Seen::Skipped && !seen.may_differ(&self.path) && self.state().guarded == self.refuses_writable() {
            return Ok(());
        }
        let file = Arc::clone(self);
        let read = |number| async move {
            let readers = file.environment.readers.clone();
            let reading = Arc::clone(&file);
            if readers.run(move || reading.read_again(number)).await.is_err() {
                let error = Arc::new(SourceError::TooManyHang { path: Arc::clone(&file.path) });
                let mut state = lock(&file.state);
                *state = Arc::new(state.with_trouble(error));
            }
        };
        self.reading.join(read).await;
        Ok(())
    }

    /// Returns why the file must not be read in this walk.
    fn skipped(&self, pass: &Pass) -> Option<Skipped> {
        let path = || Arc::clone(&self.path);
        let is_namesake = || self.trail.last().is_some_and(|parent| parent.file_name() == self.path.file_name());
        if self.origin == Origin::Name && is_namesake() {
            // By its own name a map includes what the next service of nsswitch.conf has.
            Some(Skipped::Known)
        } else if self.trail.contains(&self.path) {
            Some(Skipped::Error(SourceError::Loop { path: path() }.into()))
        } else if self.trail.len() > DEPTH_MAX {
            Some(Skipped::Error(SourceError::TooDeep { path: path() }.into()))
        } else {
            pass.has_visited(&self.path).then_some(Skipped::Known)
        }
    }

    /// Reads the file, if need be, and puts it in force. Blocks.
    fn read_again(&self, number: u64) {
        let old = self.state();
        let (new, said) = self.look(&old);
        {
            let mut state = lock(&self.state);
            // Skipped since, or a later attempt has come first.
            if !self.reading.is_latest(number) || (state.seen == Seen::Skipped && old.seen != Seen::Skipped) {
                return;
            }
            *state = Arc::new(new);
        }
        self.environment.notices.add(said);
    }

    /// Looks at the file and reads it if it has changed. Returns what is in force from now on, and what is wrong.
    fn look(&self, old: &State) -> (State, Vec<Diagnostic>) {
        let guarded = self.refuses_writable();
        let read = if guarded { guard::check(&self.path).map_err(|error| (Seen::Unknown, error)) } else { Ok(()) };
        let (seen, error) = match read.and_then(|()| self.read(old)) {
            Ok(None) => {
                return (State { guarded, ..old.clone() }, Vec::new());
            }
            Ok(Some(content)) => {
                let (seen, foreign) = (Seen::of(&content), content.foreign);
                match self.index(old, content) {
                    Ok(index) => {
                        let same = old.index.as_ref().is_some_and(|old| Arc::ptr_eq(old, &index));
                        let said = if same { Vec::new() } else { index.diagnostics().to_vec() };
                        let includes = if same { old.includes.clone() } else { self.includes(old, &index) };
                        let index = Some(index);
                        return (State { seen, index, foreign, guarded, includes, trouble: None }, said);
                    }
                    Err(error) => (seen, error),
                }
            }
            Err((seen, error @ SourceError::Executable { .. })) => {
                // From now on it is run, not read.
                return (State { seen, guarded, trouble: Some(Arc::new(error)), ..State::default() }, Vec::new());
            }
            Err((seen, error)) => (seen, error),
        };
        let mut said = Vec::new();
        if old.index.is_some() && old.trouble.as_ref().is_none_or(|t| t.to_string() != error.to_string()) {
            let d = Diagnostic::error("source::stale", Position::whole(&self.path), error.to_string());
            said.push(d.help("what was read before stays in force"));
        }
        (State { seen, guarded, ..old.with_trouble(Arc::new(error)) }, said)
    }

    /// Returns the content of the file, or `None` if it is certainly what `old` has seen.
    fn read(&self, old: &State) -> Result<Option<Content>, (Seen, SourceError)> {
        let failed = |error: SourceError| match error {
            SourceError::Missing { .. } => (Seen::Absent, error),
            _ => (Seen::Unknown, error),
        };
        let opened = read::open(&self.path).map_err(failed)?;
        match old.seen {
            Seen::Version(stamp) | Seen::Remote(stamp) if stamp == opened.stamp => return Ok(None),
            _ => {}
        }
        if self.origin != Origin::Typed && opened.stamp.is_executable() {
            let seen = Seen::version(opened.stamp, true, opened.local);
            return Err((seen, SourceError::Executable { path: Arc::clone(&self.path) }));
        }
        drop(opened);
        read::read(&self.path, old.index.is_some().then_some(QUIET)).map(Some).map_err(failed)
    }

    /// Returns the index of `content`, which is the index of `old` if the text is the same.
    fn index(&self, old: &State, content: Content) -> Result<Arc<Index>, SourceError> {
        if let Some(old) = old.index.as_ref().filter(|old| old.text() == content.text) {
            return Ok(Arc::clone(old));
        }
        let name = Escaped::path(&self.path);
        match self.origin {
            Origin::Typed => info!("reading file map {name}"),
            Origin::Name => info!("reading files map {name}"),
            Origin::Path => debug!("reading map file {name}"),
        }
        let new = match self.format {
            Format::Toml => Index::of_lines(&self.path, toml::lines(&content.text, &self.path), self.mode),
            Format::Fstab => Index::of_lines(&self.path, fstab::lines(&content.text, &self.path), self.mode),
            _ => Index::build(&self.path, content.text, self.mode),
        };
        let new = new.ok_or_else(|| SourceError::TooLong { path: Arc::clone(&self.path) })?;
        if new.is_broken() && old.index.as_ref().is_some_and(|old| !old.is_broken()) {
            return Err(SourceError::Broken { path: Arc::clone(&self.path) });
        }
        Ok(Arc::new(new))
    }

    /// Returns the included maps of `index`; those that `old` included already keep what was read of them.
    fn includes(&self, old: &State, index: &Index) -> Vec<Arc<Include>> {
        let mut before: Vec<&Arc<Include>> = old.includes.iter().collect();
        let include = |line: &IncludeLine| {
            let known =
                before.iter().position(|include| include.line.source == line.source).map(|at| before.remove(at));
            let source = known.map_or_else(|| self.include(&line.source), |known| Arc::clone(&known.source));
            let problem = Mutex::new(known.and_then(|known| lock(&known.problem).clone()));
            Arc::new(Include { line: line.clone(), source, problem })
        };
        index.includes().iter().map(include).collect()
    }

    fn include(&self, spec: &SourceSpec) -> Arc<dyn MapSource> {
        let trail = self.trail.iter().chain([&self.path]).map(Arc::clone).collect();
        open::open_included(spec, self.mode, &trail, &self.environment)
    }

    /// Returns whether a file that others than root can change is not read.
    fn refuses_writable(&self) -> bool {
        self.environment.programs.rules().refuse_writable
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&lock(&self.state))
    }

    fn users(&self) -> &Users {
        self.environment.users()
    }
}

/// The answer if only the user database can tell whether there is an entry, and does not.
fn user_unknown(key: &[u8]) -> Answer {
    Answer::Unavailable(Arc::new(SourceError::UserUnknown { key: key.to_vec() }))
}

impl Include {
    /// Reports why nothing comes from this map, once.
    fn report(&self, problem: Option<String>, environment: &Environment) {
        let mut reported = lock(&self.problem);
        if let Some(new) = problem.as_ref().filter(|new| reported.as_ref() != Some(new)) {
            let place = self.line.place.clone();
            environment.notices.add([Diagnostic::warning("source::include", place, new.clone())]);
        }
        *reported = problem;
    }
}

impl State {
    /// The same content, which is not what is on disk.
    fn with_trouble(&self, error: Arc<SourceError>) -> Self {
        Self { trouble: Some(error), ..self.clone() }
    }

    /// The line of `key`.
    fn own(&self, key: &[u8]) -> Option<u32> {
        self.index.as_ref().and_then(|index| index.find(key))
    }

    /// Why it is not certain that a key without a line is in no map.
    fn doubt(&self) -> Option<Arc<SourceError>> {
        self.trouble.clone().filter(|error| self.index.is_some() || error.is_transient())
    }

    /// The includes that are asked before the line at `own` counts; all, if there is no line.
    fn includes_before(&self, own: Option<u32>) -> impl Iterator<Item = &Arc<Include>> {
        self.includes.iter().take_while(move |include| own.is_none_or(|own| include.line.offset < own))
    }

    /// The answer if no include has the key: the line, or the wildcard.
    fn conclude(
        &self,
        own: Option<u32>,
        key: &[u8],
        doubt: Option<Arc<SourceError>>,
        is_user: &dyn Fn() -> Option<bool>,
    ) -> Result<Answer, UserUnknown> {
        let found = match &self.index {
            Some(index) => index.entry_or_wildcard(own, key, is_user)?,
            None => None,
        };
        Ok(match (found, doubt) {
            (Some(found), _) => {
                let provider = if self.foreign { Provider::ForeignFile } else { found.provider };
                Answer::Found(Found { stale: self.trouble.is_some(), provider, ..found })
            }
            (None, Some(why)) => Answer::Unavailable(why),
            (None, None) => Answer::NotFound,
        })
    }

    /// Walks through the file: includes before the line of `key`, the line, includes after it, the wildcard. `ask` asks an
    /// include; it returns `None` if that cannot tell without waiting. `is_user` does the same for the user database.
    fn answer(
        &self,
        key: &[u8],
        ask: impl Fn(&dyn MapSource) -> Option<Answer>,
        is_user: &dyn Fn() -> Option<bool>,
    ) -> Result<Option<Answer>, UserUnknown> {
        let own = self.own(key);
        let mut doubt = self.doubt();
        for include in self.includes_before(own) {
            match ask(&*include.source) {
                None => return Ok(None),
                Some(Answer::NotFound) => {}
                Some(Answer::Unavailable(why)) => doubt = Some(why),
                found @ Some(Answer::Found(_)) => return Ok(found),
            }
        }
        self.conclude(own, key, doubt, is_user).map(Some)
    }

    /// The entries of the file, those of includes in their place.
    fn entries(&self) -> Entries {
        let mut entries = Entries::default();
        let Some(index) = &self.index else { return entries };
        let mut from = 0;
        for include in &self.includes {
            entries.add_lines(index, from..include.line.offset);
            from = include.line.offset;
            if let Some(included) = include.source.known_entries() {
                entries.add(included);
            }
        }
        entries.add_lines(index, from..u32::MAX);
        entries
    }
}

impl Clone for State {
    fn clone(&self) -> Self {
        let Self { seen, index, foreign, guarded, includes, trouble } = self;
        let (index, includes, trouble) = (index.clone(), includes.clone(), trouble.clone());
        Self { seen: *seen, index, foreign: *foreign, guarded: *guarded, includes, trouble }
    }
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File").field("path", &self.path).field("mode", &self.mode).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
