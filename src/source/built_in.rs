//! The built-in maps: `-null` has no keys, `-hosts` has the exports of servers.

use std::path::Path;
use std::sync::{Arc, Mutex};

use super::{
    Answer, Ask, Description, Entries, Environment, Freshness, MapSource, Pass, SourceError, SourceId, Waiting,
    hosts_map,
};
use crate::mutex::lock;

/// File with the names that are listed as keys of `-hosts`.
const HOSTS: &str = "/etc/hosts";

/// A built-in map.
#[derive(Debug)]
pub struct BuiltInMap {
    id: SourceId,
    /// `None` for `-null`.
    hosts: Option<Arc<Environment>>,
    /// Keys that were listed last.
    listed: Mutex<Arc<Entries>>,
}

impl BuiltInMap {
    /// The map `-null`.
    pub fn null() -> Self {
        Self { id: SourceId { kind: "null", name: Arc::from([]) }, hosts: None, listed: Mutex::default() }
    }

    /// The map `-hosts`, of the servers that the name service of this machine knows.
    pub fn hosts(environment: &Arc<Environment>) -> Self {
        let id = SourceId { kind: "hosts", name: Arc::from([]) };
        Self { id, hosts: Some(Arc::clone(environment)), listed: Mutex::default() }
    }
}

impl MapSource for BuiltInMap {
    fn id(&self) -> &SourceId {
        &self.id
    }

    /// Returns no entry of `-hosts`: a server is asked for its exports each time.
    fn cached(&self, _: &[u8]) -> Option<Answer> {
        self.hosts.is_none().then_some(Answer::NotFound)
    }

    fn known(&self, key: &[u8]) -> Option<Answer> {
        self.cached(key)
    }

    fn lookup<'a>(&'a self, ask: &'a Ask) -> Waiting<'a, Answer> {
        Box::pin(async move {
            match &self.hosts {
                Some(environment) => hosts_map::exported(&environment.servers, &ask.key, ask.pass.deadline).await,
                None => Answer::NotFound,
            }
        })
    }

    /// Names of hosts. They have no directories before they are used.
    fn entries<'a>(&'a self, _: &'a Pass) -> Waiting<'a, Result<Arc<Entries>, Arc<SourceError>>> {
        Box::pin(async move {
            if let Some(environment) = &self.hosts {
                // Without the file there are no names.
                let read = environment.readers.run(|| std::fs::read(Path::new(HOSTS)).unwrap_or_default()).await;
                *lock(&self.listed) = Arc::new(Entries::of_names(hosts_map::listed(&read.unwrap_or_default())));
            }
            Ok(Arc::clone(&lock(&self.listed)))
        })
    }

    fn prepare<'a>(&'a self, _: &'a Pass) -> Waiting<'a, Result<(), Arc<SourceError>>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn known_entries(&self) -> Option<Arc<Entries>> {
        Some(Arc::clone(&lock(&self.listed)))
    }

    fn freshness(&self) -> Freshness {
        Freshness::Unchanged
    }

    fn exists(&self) -> bool {
        true
    }

    fn describe(&self) -> Description {
        Description { kind: Some(self.id.kind), instances: Vec::new(), map: Vec::new() }
    }
}
