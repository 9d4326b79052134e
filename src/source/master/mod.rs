//! Reading the master map: from where it is, with all that it includes.
//!
//! Each file is read with a deadline. One that cannot be read says what it said before; one that was never read is left
//! out until it can be read.

pub(super) mod directory;
mod version;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, info};
use tokio::time::Instant;

use super::file::Seen;
use super::file::read::{self, Content};
use super::service::{self, DirectoryService, MasterMaps};
use super::store::Fetched;
use super::{DEPTH_MAX, Environment, Names, SourceError, Store, guard};
use crate::config::nsswitch::{Outcome, Search};
use crate::config::{AmdConf, Settings};
use crate::instance;
use crate::map::{Format, Include, Item, MasterEntry, SourceKind, SourceSpec, Table, master, toml};
use crate::text::{Diagnostic, Escaped, Position};
use directory::Listing;

/// A master map that is being rewritten is read when it has not changed for so long.
const QUIET: Duration = Duration::from_millis(20);

/// A master map and its includes, as one table.
#[derive(Debug)]
pub struct Master {
    /// The mount points.
    pub table: Table,
    /// Mistakes in the lines, and in the maps that they include.
    pub diagnostics: Vec<Diagnostic>,
    /// Whether the map was found.
    pub status: Status,
    /// Sources that could not be asked, and may be back soon.
    pub unread: Vec<Unread>,
    inputs: Vec<Input>,
}

/// Returns the name of the master map, from the command line or else from autofs.conf, and whether its dot may be an
/// underscore: where autofs.conf names none. An instance has a master map of its own.
pub fn name(given: Option<&[u8]>, settings: &Settings) -> (Vec<u8>, bool) {
    if let Some(own) = instance::master_map() {
        return (given.map_or(own.into_bytes(), <[u8]>::to_vec), false);
    }
    let configured = settings.master_map_name.as_deref();
    (given.or(configured).unwrap_or(b"auto.master").to_vec(), configured.is_none())
}

/// How reading a master map ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// All that is there was read.
    Read,
    /// There is no such map.
    NotFound,
    /// The map was read, but something that it includes cannot be read now: it is as it was before, or left out.
    Partial,
    /// The map may be there but cannot be read now.
    Unavailable,
}

/// The files of master maps, and what was read of them last.
#[derive(Debug)]
pub struct MasterFiles {
    texts: Store<Content>,
    directories: Store<Listing>,
    services: MasterMaps,
}

impl MasterFiles {
    /// Creates a master map that is not read yet.
    pub fn new(environment: &Environment) -> Self {
        let Environment { readers, notices, lookups, .. } = environment;
        let programs = Arc::clone(&environment.programs);
        let read = move |path: &Arc<Path>, replaces: bool| {
            if programs.rules().refuse_writable {
                guard::check(path)?;
            }
            read::read(path, replaces.then_some(QUIET))
        };
        Self {
            texts: Store::new(read, readers, notices),
            directories: Store::new(|path, _| directory::list(path), readers, notices),
            services: MasterMaps::new(lookups),
        }
    }
}

/// A master map of a directory service that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    service: DirectoryService,
    kind: SourceKind,
    name: Vec<u8>,
}

impl Unread {
    /// Asks for the map. Returns by the deadline whether the service answers now.
    pub async fn has_returned(&self, files: &MasterFiles, deadline: Instant) -> bool {
        let fetched = files.services.fetch(self.service, self.kind, &self.name, deadline).await;
        matches!(fetched, service::Fetched::Fresh(_) | service::Fetched::Missing)
    }
}

/// Everything that is needed to read a master map.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The files.
    pub files: Arc<MasterFiles>,
    /// How maps without a path are found.
    pub names: Arc<Names>,
    /// The sections of autofs.conf for maps in am-utils format: they may name mount points, too.
    pub amd: AmdConf,
    /// The mount points of autofs.toml. They come after those of the master map.
    pub mount_points: Vec<MasterEntry>,
    /// An earlier version is in force: a file that is being rewritten is waited for.
    pub replaces: bool,
    /// By when the map must be read.
    pub deadline: Instant,
}

/// A file or directory that was looked at.
#[derive(Debug)]
struct Input {
    path: Arc<Path>,
    seen: Seen,
}

impl Master {
    /// Reads the master map `name`: a path, `type:name`, or a name that the services of nsswitch.conf are asked for.
    ///
    /// With `underscore`, a name that is not found is tried again with its first dot as an underscore, as the default
    /// `auto.master` may be. Returns by the deadline.
    pub async fn read(name: &[u8], underscore: bool, reading: Reading) -> Self {
        let mut reading = reading;
        if instance::name().is_some() {
            // The mount points of the settings, which all daemons read, are those of the one without a name.
            (reading.amd, reading.mount_points) = (AmdConf::default(), Vec::new());
        }
        let mut reader = Reader {
            reading,
            trail: Vec::new(),
            visited: HashSet::new(),
            inputs: Vec::new(),
            entries: Vec::new(),
            diagnostics: Vec::new(),
            partial: false,
            unread: Vec::new(),
        };
        let place = Position::whole(Path::new(OsStr::from_bytes(name)));
        let outcome = match SourceSpec::parse(name) {
            Ok(spec) => reader.source(&spec, &place, underscore).await,
            Err(error) => {
                let d = Diagnostic::error("master::name", place, error.to_string());
                reader.diagnostics.push(d.help(error.help()));
                Outcome::Unknown
            }
        };
        let Reader { mut entries, mut diagnostics, inputs, partial, unread, reading, .. } = reader;
        let has_own = !reading.mount_points.is_empty();
        entries.extend(reading.mount_points);
        diagnostics.extend(reading.amd.complete(&mut entries));
        let (table, more) = Table::build(entries);
        diagnostics.extend(more);
        let status = match outcome {
            Outcome::Unavail | Outcome::TryAgain => Status::Unavailable,
            Outcome::Success if partial => Status::Partial,
            Outcome::Success => Status::Read,
            Outcome::NotFound | Outcome::Unknown if has_own => Status::Read,
            Outcome::NotFound | Outcome::Unknown => Status::NotFound,
        };
        Self { table, diagnostics, status, unread, inputs }
    }

    /// Returns whether reading it again would provably give the same: no file that it was read from has changed, and none
    /// that was missing has appeared. Never waits.
    pub fn is_current(&self) -> bool {
        self.status == Status::Read && self.inputs.iter().all(|input| !input.seen.may_differ(&input.path))
    }

    /// Returns the files and directories that it was read from, or that were looked for.
    pub fn inputs(&self) -> impl Iterator<Item = &Path> {
        self.inputs.iter().map(|input| input.path.as_ref())
    }
}

struct Reader {
    reading: Reading,
    /// The files that include each other, outermost first.
    trail: Vec<Arc<Path>>,
    visited: HashSet<Arc<Path>>,
    inputs: Vec<Input>,
    entries: Vec<MasterEntry>,
    diagnostics: Vec<Diagnostic>,
    /// Something could not be read for a passing reason.
    partial: bool,
    unread: Vec<Unread>,
}

impl Reader {
    /// Reads the map that `place` names. `Unknown`: there was nothing to do, or it has been said why not.
    async fn source(&mut self, spec: &SourceSpec, place: &Position, underscore: bool) -> Outcome {
        let path = || self.reading.names.path(&spec.name);
        let unsupported = match spec.kind {
            Some(kind) if spec.format == Some(Format::Toml) && kind != SourceKind::File => {
                let message = format!("a master map of type {} cannot be in TOML", kind.name());
                let d = Diagnostic::error("master::format", place.clone(), message);
                self.diagnostics.push(d.help("write file,toml:PATH"));
                return Outcome::Unknown;
            }
            Some(SourceKind::File) => return self.file(&path(), spec.format, place).await,
            Some(SourceKind::Dir) => return self.directory(&path(), place).await,
            None if spec.name.starts_with(b"//") => SourceKind::Ldap,
            None if spec.name.starts_with(b"/") => return self.file(&path(), None, place).await,
            None => return self.named(&spec.name, place, underscore).await,
            Some(kind) => kind,
        };
        if let Some(service) = DirectoryService::of(unsupported) {
            return self.service(service, unsupported, &spec.name, place).await;
        }
        let (message, help) = match unsupported {
            SourceKind::NisPlus => {
                ("NIS+ no longer exists on Linux".to_owned(), "keep the master map in LDAP, in NIS or in a file")
            }
            other => (format!("{} master maps are not supported yet", other.name()), "use a file"),
        };
        self.diagnostics.push(Diagnostic::error("master::unsupported", place.clone(), message).help(help));
        Outcome::Unknown
    }

    /// Asks the services of nsswitch.conf for `name`.
    async fn named(&mut self, name: &[u8], place: &Position, underscore: bool) -> Outcome {
        let mut last = Outcome::Unknown;
        let names = Arc::clone(&self.reading.names);
        for service in &names.nsswitch.services {
            let is_file = service.kind == SourceKind::File;
            if name.contains(&b'/') || !is_file && DirectoryService::of(service.kind).is_none() {
                continue;
            }
            let kind = if is_file { "files" } else { service.kind.name() };
            info!("reading {kind} master {}", Escaped(name));
            let mut outcome = self.of_service(service.kind, name, place).await;
            if outcome == Outcome::NotFound && underscore {
                if let Some(dot) = memchr::memchr(b'.', name) {
                    let other: Vec<u8> =
                        name.iter().enumerate().map(|(n, &b)| if n == dot { b'_' } else { b }).collect();
                    outcome = self.of_service(service.kind, &other, place).await;
                }
            }
            if outcome != Outcome::Unknown {
                last = outcome;
            }
            // As for automount, a service without this map decides nothing: `sss [NOTFOUND=return] files` is about keys.
            let decides = if outcome == Outcome::NotFound { Outcome::Unknown } else { outcome };
            if service.ends(decides, Search::First) {
                break;
            }
        }
        last
    }

    /// Reads the map `name` of a service of nsswitch.conf.
    async fn of_service(&mut self, kind: SourceKind, name: &[u8], place: &Position) -> Outcome {
        match DirectoryService::of(kind) {
            None => self.file_named(name, place).await,
            Some(service) => self.service(service, kind, name, place).await,
        }
    }

    /// Reads a map of a directory service.
    async fn service(&mut self, service: DirectoryService, kind: SourceKind, name: &[u8], place: &Position) -> Outcome {
        let own = MasterMaps::place(kind, name);
        if !self.visited.insert(Arc::clone(&own.file)) {
            // Each of its lines would come second.
            return Outcome::Success;
        }
        let files = Arc::clone(&self.reading.files);
        let fetched = files.services.fetch(service, kind, name, self.deadline()).await;
        // Only asking tells whether it has changed.
        self.inputs.push(Input { path: Arc::clone(&own.file), seen: Seen::Unknown });
        if let service::Fetched::Stale(..) | service::Fetched::NotRunning(_) | service::Fetched::Unavailable(_) =
            fetched
        {
            self.unread.push(Unread { service, kind, name: name.to_vec() });
        }
        let mut say = |reason: &str| {
            let message = format!("{}: {reason}", Escaped::path(&own.file));
            self.diagnostics.push(Diagnostic::error("master::service", place.clone(), message));
        };
        let lines = match fetched {
            service::Fetched::Fresh(lines) => lines,
            service::Fetched::Stale(lines, reason) => {
                say(&reason);
                self.partial = true;
                lines
            }
            service::Fetched::Missing => return Outcome::NotFound,
            service::Fetched::Unusable(reason) | service::Fetched::NotRunning(reason) => {
                say(&reason);
                return Outcome::Unknown;
            }
            service::Fetched::Unavailable(reason) => {
                say(&reason);
                return Outcome::Unavail;
            }
        };
        let (items, diagnostics) = master::read(&lines, &own.file);
        self.diagnostics.extend(diagnostics);
        // Includes are for files.
        self.entries.extend(items.into_iter().filter_map(|item| match item {
            Item::Entry(entry) => Some(entry),
            Item::Include(_) => None,
        }));
        Outcome::Success
    }

    /// Reads the file `name` of the map directory. By its own name a map includes what the next service has.
    async fn file_named(&mut self, name: &[u8], place: &Position) -> Outcome {
        let path = self.reading.names.path(name);
        let includes_itself = self.trail.last().is_some_and(|parent| parent.file_name() == path.file_name());
        if includes_itself { Outcome::Unknown } else { self.file(&path, None, place).await }
    }

    /// When the file that is read next must be there: one that hangs leaves time for the others.
    fn deadline(&self) -> Instant {
        let now = Instant::now();
        let left = self.reading.deadline.saturating_duration_since(now);
        now + if self.trail.is_empty() { left } else { left * 7 / 8 }
    }

    async fn file(&mut self, file: &Arc<Path>, format: Option<Format>, place: &Position) -> Outcome {
        if self.trail.contains(file) {
            return self.refuse(&SourceError::Loop { path: Arc::clone(file) }, place);
        }
        if self.trail.len() > DEPTH_MAX {
            return self.refuse(&SourceError::TooDeep { path: Arc::clone(file) }, place);
        }
        if !self.visited.insert(Arc::clone(file)) {
            // Each of its lines would come second.
            return Outcome::Success;
        }
        debug!("reading master file {}", Escaped::path(file));
        let files = Arc::clone(&self.reading.files);
        let (content, seen) = match files.texts.fetch(file, self.reading.replaces, self.deadline()).await {
            Fetched::Fresh(content) => {
                let seen = Seen::of(&content);
                (content, seen)
            }
            Fetched::Stale(content, error) => {
                self.refuse(&error, place);
                self.partial = true;
                (content, Seen::Unknown)
            }
            Fetched::Failed(error) => {
                let missing = matches!(*error, SourceError::Missing { .. });
                let seen = if missing { Seen::Absent } else { Seen::Unknown };
                self.inputs.push(Input { path: Arc::clone(file), seen });
                if missing {
                    return Outcome::NotFound;
                }
                self.refuse(&error, place);
                return if error.is_transient() { Outcome::Unavail } else { Outcome::Unknown };
            }
        };
        self.inputs.push(Input { path: Arc::clone(file), seen });
        if let Some(what) = self.lost_content(&content.text) {
            let d = Diagnostic::error("master::lost", Position::whole(file), what);
            self.diagnostics.push(d.help("restore the file; to serve nothing, write a line that begins with \"#\""));
            return Outcome::Unavail;
        }
        let is_toml = format.map_or(toml::master::is_named(file), |format| format == Format::Toml);
        let (items, diagnostics) =
            if is_toml { toml::master::read(&content.text, file) } else { master::read(&content.text, file) };
        self.diagnostics.extend(diagnostics);
        self.trail.push(Arc::clone(file));
        for item in items {
            match item {
                Item::Entry(entry) => self.entries.push(entry),
                Item::Include(include) => Box::pin(self.include(&include)).await,
            }
        }
        self.trail.pop();
        Outcome::Success
    }

    /// Returns why `text` cannot be what was written into a master map: a crash of the machine leaves files of NUL bytes,
    /// or empty ones. At the start an empty master map is taken as it is, as there is no older one to keep.
    fn lost_content(&self, text: &[u8]) -> Option<&'static str> {
        match text {
            [] if self.reading.replaces && self.trail.is_empty() => {
                Some("the master map is empty, as after a crash of the machine")
            }
            [_, ..] if text.iter().all(|&b| b == 0) => {
                Some("the file has only NUL bytes, as after a crash of the machine")
            }
            _ => None,
        }
    }

    async fn include(&mut self, include: &Include) {
        let outcome = self.source(&include.source, &include.place, false).await;
        self.partial |= matches!(outcome, Outcome::Unavail | Outcome::TryAgain);
        if !matches!(outcome, Outcome::Success | Outcome::Unknown) {
            let message = format!("failed to read included master map {}", Escaped(&include.source.name));
            let d = Diagnostic::warning("master::include", include.place.clone(), message);
            self.diagnostics.push(d.help("write that map, or remove the line"));
        }
    }

    /// Reads the files of a directory.
    async fn directory(&mut self, directory: &Arc<Path>, place: &Position) -> Outcome {
        let files = Arc::clone(&self.reading.files);
        let deadline = self.deadline();
        let (listing, seen, error) = match files.directories.fetch(directory, self.reading.replaces, deadline).await {
            Fetched::Fresh(listing) => {
                let seen = listing.seen;
                (Some(listing), seen, None)
            }
            Fetched::Stale(listing, error) => (Some(listing), Seen::Unknown, Some(error)),
            Fetched::Failed(error) => {
                let absent = matches!(*error, SourceError::NoDirectory { .. });
                (None, if absent { Seen::Absent } else { Seen::Unknown }, Some(error))
            }
        };
        self.inputs.push(Input { path: Arc::clone(directory), seen });
        if let Some(error) = error {
            self.partial |= error.is_transient();
            self.diagnostics.push(Diagnostic::warning("master::include", place.clone(), error.to_string()));
        }
        let Some(listing) = listing else { return Outcome::Unknown };
        for file in &listing.files {
            let outcome = self.file(file, None, place).await;
            self.partial |= matches!(outcome, Outcome::Unavail | Outcome::TryAgain);
        }
        Outcome::Success
    }

    /// Says why a map is left out, or is as it was.
    fn refuse(&mut self, error: &SourceError, place: &Position) -> Outcome {
        self.diagnostics.push(Diagnostic::error("master::include", place.clone(), error.to_string()));
        Outcome::Unknown
    }
}

#[cfg(test)]
mod tests;
