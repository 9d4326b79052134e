//! Master maps of directory services.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::{Instant, timeout_at};

use super::map::{all, place, text};
use super::{DirectoryService, Lookups};
use crate::directory::protocol::Trouble;
use crate::directory::{Map, Scope};
use crate::map::SourceKind;
use crate::text::Position;

/// The text of a master map.
type Lines = Arc<Vec<u8>>;

/// The master maps of directory services, and what was read of them last.
#[derive(Debug)]
pub(in crate::source) struct MasterMaps {
    lookups: Arc<Lookups>,
    last: Mutex<HashMap<(DirectoryService, Map), Lines>>,
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
        let read = timeout_at(deadline, all(&self.lookups, service, &map, deadline)).await;
        let (trouble, reason) = match read {
            Ok(Ok((_, true))) => {
                (Trouble::Unavailable, "the server does not give all lines: raise its size limit".to_owned())
            }
            Ok(Ok((pairs, false))) => {
                let text = Arc::new(text(&pairs, false));
                let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
                last.insert((service, map), Arc::clone(&text));
                return Fetched::Fresh(text);
            }
            Ok(Err(failed)) => failed,
            Err(_) => (Trouble::Unavailable, "it does not answer in time".to_owned()),
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let known = last.get(&(service, map.clone())).map(Arc::clone);
        match (trouble, known) {
            (Trouble::NoMap, _) => {
                last.remove(&(service, map));
                Fetched::Missing
            }
            (_, Some(known)) => Fetched::Stale(known, reason),
            (Trouble::Unusable, None) => Fetched::Unusable(reason),
            (Trouble::NotRunning, None) => Fetched::NotRunning(reason),
            (Trouble::Unavailable, None) => Fetched::Unavailable(reason),
        }
    }

    /// Returns the position that is shown for the lines of a master map.
    pub(in crate::source) fn place(kind: SourceKind, name: &[u8]) -> Position {
        place(kind, name)
    }
}
