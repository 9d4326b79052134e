//! Map sources: where maps come from, and the master map that names them.
//!
//! A map is a [`MapSource`]. One file implements one kind; `open` is the only place that knows all of them. What every
//! kind needs is written once, as values of the same trait around it: [`Bounded`] gives a deadline and lets late work go
//! on by itself, [`Cached`] keeps answers for a time, [`Chain`] asks the services of nsswitch.conf in order and
//! [`Multi`] the parts of a `multi` map.
//!
//! Two methods answer at once, from memory: [`MapSource::cached`] what is provably current, [`MapSource::known`] what
//! was read last. The others may wait for disks and servers, and are called through [`Bounded`].

mod amd;
mod ask;
mod asked;
mod bounded;
mod built_in;
mod cached;
mod chain;
pub mod configuration;
mod counted;
mod directory;
mod entries;
mod environment;
mod error;
pub mod file;
mod flight;
mod guard;
mod hosts;
mod hosts_map;
mod inquiries;
mod look;
pub mod master;
mod multi;
pub mod names;
mod networks;
mod open;
mod program;
mod programs;
mod readers;
mod servers;
pub mod service;
mod several;
mod sources;
mod store;
mod tally;
#[cfg(test)]
mod testing;
mod unsupported;
mod untyped;
mod users;

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use amd::AmdMap;
pub use ask::{Ask, Pass};
pub use bounded::{Bounded, Bounds};
pub use built_in::BuiltInMap;
pub use cached::Cached;
pub use chain::Chain;
pub use counted::Counted;
pub use directory::DirectoryMap;
pub use entries::Entries;
pub use environment::{Environment, Notices, machine};
pub use error::SourceError;
pub use file::{FileMap, Index, Origin, Stamp};
pub use flight::Flight;
pub use hosts::Hosts;
pub(crate) use hosts_map::exported;
pub use inquiries::Inquiries;
pub use look::look_once;
pub use master::Master;
pub use multi::Multi;
pub use names::{NSSWITCH_CONF, Names};
pub use open::{open, open_below};
pub use program::ProgramMap;
pub use programs::{Keep, Programs, Rules, variables};
pub use readers::Readers;
pub use servers::{CallError, Choosing, Servers};
pub use service::{Lookups, ServiceMap};
pub use sources::Sources;
pub use store::Store;
pub use tally::{News, Tallies, Tally};
pub use unsupported::Unsupported;
pub use untyped::Untyped;
pub use users::{Account, Users};

use crate::map::{MasterOptions, Provider, RawEntry};
use crate::text::Position;

/// How many maps may include each other in a row.
pub const DEPTH_MAX: usize = 16;

/// Result of a method that may wait. A boxed future, because `async fn` in a trait cannot be called through `dyn`.
pub type Waiting<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One map, as one service has it.
pub trait MapSource: fmt::Debug + Send + Sync {
    /// Identifies the source in log, status and metrics.
    fn id(&self) -> &SourceId;

    /// Answers from memory, if memory is provably what the service has now. Returns `None` if the service must be asked.
    /// Never waits.
    fn cached(&self, key: &[u8]) -> Option<Answer>;

    /// Answers from what was read last, however old. Returns `None` if nothing was read yet. Never waits.
    fn known(&self, key: &[u8]) -> Option<Answer>;

    /// Asks for one key. The wildcard and includes are looked at as well. May wait.
    fn lookup<'a>(&'a self, ask: &'a Ask) -> Waiting<'a, Answer>;

    /// Returns all entries, for browsing, direct maps and dumps. May wait.
    ///
    /// # Errors
    /// There is no such map, it cannot be read, or it cannot be enumerated. A map that was read before stays in force:
    /// if it cannot be read again, that is reported to [`Notices`] and the old entries are returned.
    fn entries<'a>(&'a self, pass: &'a Pass) -> Waiting<'a, Result<Arc<Entries>, Arc<SourceError>>>;

    /// Finds out whether keys of an indirect map can be looked up, so that its mount point may be served. Where maps are read
    /// as a whole anyway, this reads the map. May wait.
    ///
    /// # Errors
    /// As [`entries`](Self::entries).
    fn prepare<'a>(&'a self, pass: &'a Pass) -> Waiting<'a, Result<(), Arc<SourceError>>> {
        Box::pin(async move { self.entries(pass).await.map(drop) })
    }

    /// Returns the entries that were read last. Never waits.
    fn known_entries(&self) -> Option<Arc<Entries>>;

    /// Returns whether memory is what the service has. Never waits, so thousands of maps may be asked at each reload.
    fn freshness(&self) -> Freshness;

    /// Returns whether such a map was found when it was last looked for.
    fn exists(&self) -> bool;

    /// Returns whether the last reading has left something out that may be back soon.
    fn is_partial(&self) -> bool {
        false
    }

    /// Returns since when the service does not answer, if something older serves in its place.
    fn stale(&self) -> Option<Stale> {
        None
    }

    /// Returns why what was read last is not what is there now, if a file cannot be read any more.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Describes the source for dumps and status.
    fn describe(&self) -> Description;

    /// Drops answers that are kept for a time only, so that the next lookup asks the service. What was read as a whole stays
    /// in force.
    fn forget(&self) {}
}

/// A service that does not answer, while something older serves in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// When the service has answered last, in seconds since 1970.
    pub since: u64,
    /// Why it was not able to answer when it was asked last.
    pub reason: Arc<str>,
}

/// Identity of a source: the kind of service and the name of the map there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceId {
    /// The kind, as the master map writes it.
    pub kind: &'static str,
    /// The name of the map.
    pub name: Arc<[u8]>,
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} map {}", self.kind, crate::text::Escaped(&self.name))
    }
}

/// Kinds of keys of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Names below one mount point.
    Indirect,
    /// Mount points.
    Direct,
    /// Those of am-utils: names and paths below one mount point, patterns that end in `*`, and `/defaults`.
    Amd,
}

/// The answer of a source to the question for one key.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The map has this entry.
    Found(Found),
    /// The map certainly has no such entry. This may be remembered.
    NotFound,
    /// The service could not be asked, and what is known from before does not tell.
    Unavailable(Arc<SourceError>),
}

/// The entry of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Text of the entry.
    pub entry: RawEntry,
    /// Position of the entry.
    pub place: Position,
    /// The service did not answer in time; this is what it said before.
    pub stale: bool,
    /// How long the answer holds, where the service says so.
    pub fresh_for: Option<Duration>,
    /// Mount options and variables of the part of a `multi` map that has the entry.
    pub options: Option<Arc<MasterOptions>>,
    /// The entry is what a server of the hosts map exports: its mounts get `nosuid,nodev`.
    pub hosts_map: bool,
    /// Provider of the entry.
    pub provider: Provider,
    /// The key has no entry of its own. A service that is asked for each key does not say so.
    pub by_wildcard: bool,
}

impl Found {
    /// An entry that was read just now, from a local file of root.
    pub fn new(entry: RawEntry, place: Position) -> Self {
        Self {
            entry,
            place,
            stale: false,
            fresh_for: None,
            options: None,
            hosts_map: false,
            provider: Provider::File,
            by_wildcard: false,
        }
    }

    /// Returns the options that hold for the entry: those of the master map `line`, with the mount options and variables of
    /// the part of a `multi` map.
    pub fn options<'a>(&self, line: &'a MasterOptions) -> Cow<'a, MasterOptions> {
        match &self.options {
            None => Cow::Borrowed(line),
            Some(part) => {
                let (mount_options, defines) = (part.mount_options.clone(), part.defines.clone());
                Cow::Owned(MasterOptions { mount_options, defines, ..line.clone() })
            }
        }
    }
}

impl Answer {
    /// Marks an entry as old.
    pub fn stale(self) -> Self {
        match self {
            Self::Found(found) => Self::Found(Found { stale: true, ..found }),
            other => other,
        }
    }
}

/// Whether memory is what the service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Provably nothing has changed.
    Unchanged,
    /// Only asking tells.
    MayHaveChanged,
    /// Data in memory are valid until then.
    ExpiresAt(Instant),
}

impl Freshness {
    /// Combines the freshness of two parts of one map.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::MayHaveChanged, _) | (_, Self::MayHaveChanged) => Self::MayHaveChanged,
            (Self::ExpiresAt(a), Self::ExpiresAt(b)) => Self::ExpiresAt(a.min(b)),
            (Self::ExpiresAt(at), Self::Unchanged) | (Self::Unchanged, Self::ExpiresAt(at)) => Self::ExpiresAt(at),
            (Self::Unchanged, Self::Unchanged) => Self::Unchanged,
        }
    }
}

/// A source as dumps and status show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The type, where the master map names one.
    pub kind: Option<&'static str>,
    /// Otherwise the types of the maps that were found.
    pub instances: Vec<&'static str>,
    /// The name of the map; empty for a built-in one.
    pub map: Vec<u8>,
}

#[cfg(test)]
mod tests;
