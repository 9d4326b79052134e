//! A map that is named without a path: each service of nsswitch.conf may have it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{
    Answer, Ask, Description, Entries, Freshness, MapSource, Pass, SourceError, SourceId, Stale, Waiting, several,
};
use crate::config::nsswitch::{Outcome, Search, Service};

/// The maps of one name, in the order of nsswitch.conf.
#[derive(Debug)]
pub struct Chain {
    id: SourceId,
    links: Vec<(Service, Arc<dyn MapSource>)>,
    /// A service could not be asked when all was read last.
    partial: AtomicBool,
}

impl Chain {
    /// The maps called `name` of these services.
    pub fn new(name: &[u8], links: Vec<(Service, Arc<dyn MapSource>)>) -> Self {
        Self { id: SourceId { kind: "nsswitch", name: name.into() }, links, partial: AtomicBool::new(false) }
    }
}

/// A search for one key through the services.
#[derive(Debug)]
struct KeySearch {
    last: Answer,
}

impl KeySearch {
    fn new() -> Self {
        Self { last: Answer::NotFound }
    }

    /// Records the answer of a service. Returns whether the search ends.
    fn note(&mut self, service: &Service, source: &dyn MapSource, answer: Answer) -> bool {
        let outcome = match &answer {
            Answer::Found(_) => Outcome::Success,
            // Nothing was read there: a missing file decides nothing.
            Answer::NotFound if !source.exists() => Outcome::Unknown,
            Answer::NotFound => Outcome::NotFound,
            Answer::Unavailable(why) if why.of_key().is_some() => Outcome::NotFound,
            // A service that does not run here counts as not there.
            Answer::Unavailable(why) if matches!(**why, SourceError::NotRunning(_)) => Outcome::Unknown,
            Answer::Unavailable(why) if !source.exists() && !why.is_transient() => Outcome::Unknown,
            Answer::Unavailable(_) => Outcome::Unavail,
        };
        // What an earlier service has, or was not able to say, is not undone by a later one that has nothing.
        let is_better = match (&answer, &self.last) {
            (Answer::Found(_), _) => true,
            (Answer::NotFound, _) | (_, Answer::Found(_)) => false,
            (Answer::Unavailable(_), _) => true,
        };
        if is_better {
            self.last = answer;
        }
        service.ends(outcome, Search::First)
    }
}

impl Chain {
    fn search(&self, ask: impl Fn(&dyn MapSource) -> Option<Answer>) -> Option<Answer> {
        let mut search = KeySearch::new();
        for (service, source) in &self.links {
            if search.note(service, &**source, ask(&**source)?) {
                break;
            }
        }
        Some(search.last)
    }
}

impl MapSource for Chain {
    fn id(&self) -> &SourceId {
        &self.id
    }

    fn cached(&self, key: &[u8]) -> Option<Answer> {
        self.search(|source| source.cached(key))
    }

    fn known(&self, key: &[u8]) -> Option<Answer> {
        if !self.exists() {
            return None;
        }
        self.search(|source| Some(source.known(key).unwrap_or(Answer::NotFound)))
    }

    fn lookup<'a>(&'a self, ask: &'a Ask) -> Waiting<'a, Answer> {
        Box::pin(async move {
            let mut search = KeySearch::new();
            for (service, source) in &self.links {
                let answer = source.lookup(&ask.part()).await;
                if search.note(service, &**source, answer) {
                    break;
                }
            }
            search.last
        })
    }

    /// Puts the entries of all services together. An error says that none has the map.
    fn entries<'a>(&'a self, pass: &'a Pass) -> Waiting<'a, Result<Arc<Entries>, Arc<SourceError>>> {
        Box::pin(async move {
            let mut failed: Option<Arc<SourceError>> = None;
            let (mut found, mut partial): (Option<Entries>, _) = (None, false);
            for (service, source) in &self.links {
                let outcome = match source.entries(&pass.part()).await {
                    Ok(entries) => {
                        partial |= source.is_partial();
                        found.get_or_insert_default().add(entries);
                        Outcome::Success
                    }
                    Err(error) => {
                        partial |= error.may_pass();
                        let outcome = if error.is_transient() { Outcome::Unavail } else { Outcome::Unknown };
                        // A file that should have been there says more than a kind of map that cannot be read anyway.
                        if !matches!(*error, SourceError::Unsupported { .. }) || failed.is_none() {
                            failed = Some(error);
                        }
                        outcome
                    }
                };
                if service.ends(outcome, Search::All) {
                    break;
                }
            }
            self.partial.store(partial, Ordering::Relaxed);
            let not_found = || Arc::new(SourceError::NotFound { name: self.id.name.to_vec() });
            found.map(Arc::new).ok_or_else(|| failed.unwrap_or_else(not_found))
        })
    }

    fn prepare<'a>(&'a self, pass: &'a Pass) -> Waiting<'a, Result<(), Arc<SourceError>>> {
        Box::pin(async move {
            let (mut failed, mut any): (Option<Arc<SourceError>>, bool) = (None, false);
            for (_, source) in &self.links {
                match source.prepare(&pass.part()).await {
                    Ok(()) => any = true,
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            let not_found = || Arc::new(SourceError::NotFound { name: self.id.name.to_vec() });
            if any { Ok(()) } else { Err(failed.unwrap_or_else(not_found)) }
        })
    }

    fn known_entries(&self) -> Option<Arc<Entries>> {
        several::known_entries(self.links.iter().map(|(_, source)| source))
    }

    fn freshness(&self) -> Freshness {
        several::freshness(self.links.iter().map(|(_, source)| source))
    }

    fn exists(&self) -> bool {
        self.links.iter().any(|(_, source)| source.exists())
    }

    fn trouble(&self) -> Option<String> {
        self.links.iter().find_map(|(_, source)| source.trouble())
    }

    fn is_partial(&self) -> bool {
        self.partial.load(Ordering::Relaxed)
    }

    fn stale(&self) -> Option<Stale> {
        several::stale(self.links.iter().map(|(_, source)| source))
    }

    fn describe(&self) -> Description {
        // nsswitch.conf has another word for a file.
        let service = |source: &dyn MapSource| match source.id().kind {
            "file" => "files",
            kind => kind,
        };
        let found = self.links.iter().filter(|(_, source)| source.exists());
        let instances = found.map(|(_, source)| service(&**source)).collect();
        Description { kind: None, instances, map: self.id.name.to_vec() }
    }

    fn forget(&self) {
        self.links.iter().for_each(|(_, source)| source.forget());
    }
}
