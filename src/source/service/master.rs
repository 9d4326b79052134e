//! Master maps of directory services.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::map::{all, place, text, version};
use super::{DirectoryService, Lookups};
use crate::directory::protocol::Trouble;
use crate::directory::{Map, Scope};
use crate::map::SourceKind;
use crate::mutex::lock;
use crate::text::Position;

/// How often a master map that has not changed is given to the map cache.
const HOUR: Duration = Duration::from_secs(3600);

/// The text of a master map.
type Lines = Arc<Vec<u8>>;

/// The master maps of directory services, and what was read of them last.
#[derive(Debug)]
pub(in crate::source) struct MasterMaps {
    lookups: Arc<Lookups>,
    last: Mutex<HashMap<(DirectoryService, Map), Last>>,
}

/// Last content of a master map.
#[derive(Debug)]
struct Last {
    lines: Lines,
    /// When they were given to the map cache. `None`: they are from it.
    stored: Option<Instant>,
    /// The version of the map, asked before they were read.
    version: Option<Vec<u8>>,
}

/// Result of reading a master map.
enum Read {
    /// It has not changed.
    Unchanged(Lines),
    /// All lines, with the version of the map.
    All(Lines, Option<Vec<u8>>),
    /// Some of the lines.
    Truncated,
}

/// A master map as it is or was.
#[derive(Debug)]
pub(in crate::source) enum Fetched {
    /// Its lines.
    Fresh(Lines),
    /// Its lines as they were read before: the service does not answer now, or has none of them any more.
    Stale(Lines, String),
    /// There is no such map.
    Missing,
    /// The service is not set up on this machine.
    Unusable(String),
    /// The service does not run on this machine now.
    NotRunning(String),
    /// The service does not answer.
    Unavailable(String),
}

impl MasterMaps {
    pub(in crate::source) fn new(lookups: &Arc<Lookups>) -> Self {
        Self { lookups: Arc::clone(lookups), last: Mutex::default() }
    }

    /// Reads a master map. Returns by the deadline.
    pub(in crate::source) async fn fetch(
        &self,
        service: DirectoryService,
        kind: SourceKind,
        name: &[u8],
        deadline: Instant,
    ) -> Fetched {
        let map = Map { secure: kind == SourceKind::Ldaps, scope: Scope::Master, name: name.to_vec() };
        let read = timeout_at(deadline, self.read(service, &map, deadline)).await;
        let (trouble, reason) = match read {
            Ok(Ok(Read::Truncated)) => {
                (Trouble::Unavailable, "the server does not give all lines: raise its size limit".to_owned())
            }
            Ok(Ok(Read::Unchanged(lines))) => return Fetched::Fresh(lines),
            Ok(Ok(Read::All(lines, version))) => {
                self.note(service, map, &lines, version);
                return Fetched::Fresh(lines);
            }
            Ok(Err(failed)) => failed,
            Err(_) => (Trouble::Unavailable, "it does not answer in time".to_owned()),
        };
        if matches!(trouble, Trouble::Unavailable | Trouble::NotRunning) {
            self.recall(service, &map).await;
        }
        let mut last = lock(&self.last);
        let known = last.get(&(service, map.clone()));
        let reason = match known {
            Some(Last { stored: None, .. }) => format!("{reason}; its lines are from the map cache"),
            _ => reason,
        };
        match (trouble, known.map(|known| Arc::clone(&known.lines))) {
            (Trouble::NoMap, _) => {
                self.lookups.store_gone(service, &map);
                last.remove(&(service, map));
                Fetched::Missing
            }
            (_, Some(known)) => Fetched::Stale(known, reason),
            (Trouble::Unusable, None) => Fetched::Unusable(reason),
            (Trouble::NotRunning, None) => Fetched::NotRunning(reason),
            (Trouble::Unavailable, None) => Fetched::Unavailable(reason),
        }
    }

    /// Reads a master map, unless it still has the version with which it was read last.
    async fn read(&self, service: DirectoryService, map: &Map, deadline: Instant) -> Result<Read, (Trouble, String)> {
        let version = version(&self.lookups, service, map, deadline).await?;
        if let Some(known) = lock(&self.last).get(&(service, map.clone())) {
            if version.is_some() && known.version == version {
                return Ok(Read::Unchanged(Arc::clone(&known.lines)));
            }
        }
        let (pairs, truncated) = all(&self.lookups, service, map, deadline).await?;
        Ok(if truncated { Read::Truncated } else { Read::All(Arc::new(text(&pairs, false)), version) })
    }

    /// Keeps what was read, in memory and in the map cache.
    fn note(&self, service: DirectoryService, map: Map, lines: &Lines, version: Option<Vec<u8>>) {
        let mut last = lock(&self.last);
        let is_same = |known: &Last| known.lines == *lines && known.stored.is_some_and(|at| at.elapsed() < HOUR);
        if let Some(known) = last.get_mut(&(service, map.clone())).filter(|known| is_same(known)) {
            known.version = version;
            return;
        }
        if self.lookups.has_cache() {
            self.lookups.store_all(service, &map, lines);
        }
        last.insert((service, map), Last { lines: Arc::clone(lines), stored: Some(Instant::now()), version });
    }

    /// Learns what the map cache has of a master map that was not read since the start.
    async fn recall(&self, service: DirectoryService, map: &Map) {
        let id = (service, map.clone());
        if !self.lookups.has_cache() || lock(&self.last).contains_key(&id) {
            return;
        }
        if let Some(whole) = self.lookups.stored(service, map).await.and_then(|stored| stored.whole) {
            lock(&self.last).entry(id).or_insert(Last { lines: Arc::new(whole), stored: None, version: None });
        }
    }

    /// Returns the position that is shown for the lines of a master map.
    pub(in crate::source) fn place(kind: SourceKind, name: &[u8]) -> Position {
        place(kind, name)
    }
}
