//! A map that is named without a path: each service of nsswitch.conf may have it.

use std::sync::Arc;

use crate::config::nsswitch::{Outcome, Search, Service};
use crate::map::{SourceKind, SourceSpec};

use super::{Answer, Description, FileMap, Keys, Mode, Names, Origin, Pass, Source, SourceError, Unsupported};

/// The maps of one name, in the order of nsswitch.conf.
#[derive(Debug)]
pub struct Chain {
    name: Vec<u8>,
    links: Vec<(Service, Source)>,
}

impl Chain {
    /// The maps called `name`; nothing is read yet.
    pub fn new(name: &[u8], mode: Mode, names: &Arc<Names>) -> Self {
        let source = |service: &Service| match service.kind {
            // In a directory of maps there are no paths.
            SourceKind::File if name.contains(&b'/') => None,
            SourceKind::File => {
                let file = FileMap::new(names.path(name), mode, Origin::Name, Arc::clone(names));
                Some(Source::File(file))
            }
            kind => {
                let spec = SourceSpec { kind: Some(kind), format: None, name: name.to_vec(), parts: Vec::new() };
                Some(Source::from_spec(&spec, mode, names))
            }
        };
        let link = |service: &Service| Some((service.clone(), source(service)?));
        Self { name: name.to_vec(), links: names.nsswitch.services.iter().filter_map(link).collect() }
    }

    /// The answer for `key`, if it is certain without waiting.
    pub fn lookup_now(&self, key: &[u8]) -> Option<Answer> {
        self.answer(|source| source.lookup_now(key))
    }

    /// The answer for `key` from what was loaded last.
    pub fn lookup(&self, key: &[u8]) -> Answer {
        self.answer(|source| Some(source.lookup(key))).unwrap_or(Answer::NotFound)
    }

    fn answer(&self, ask: impl Fn(&Source) -> Option<Answer>) -> Option<Answer> {
        let mut last = Answer::NotFound;
        for (service, source) in &self.links {
            let answer = ask(source)?;
            let outcome = match &answer {
                Answer::Found(_) => Outcome::Success,
                // Nothing was read there: a missing file decides nothing.
                _ if !source.is_loaded() => Outcome::Unknown,
                Answer::NotFound => Outcome::NotFound,
                Answer::Unavailable(_) => Outcome::Unavail,
            };
            // What an earlier service has, or was not able to say, is not undone by a later one that has nothing.
            if !matches!(answer, Answer::NotFound) && !matches!(last, Answer::Found(_)) {
                last = answer;
            }
            if service.ends(outcome, Search::First) {
                break;
            }
        }
        Some(last)
    }

    /// Brings the maps of all services up to date. An error says that none has the map.
    pub(super) fn load(&self, pass: &mut Pass) -> Result<(), Arc<SourceError>> {
        let mut failed = None;
        let mut found = false;
        for (service, source) in &self.links {
            let outcome = match source.load_in(pass) {
                Ok(()) => Outcome::Success,
                Err(error) => {
                    // A file that should have been there says more than a kind of map that cannot be read anyway.
                    if !matches!(*error, SourceError::Unsupported { .. }) || failed.is_none() {
                        failed = Some(error);
                    }
                    Outcome::Unknown
                }
            };
            found |= outcome == Outcome::Success;
            if service.ends(outcome, Search::All) {
                break;
            }
        }
        if found {
            return Ok(());
        }
        Err(failed.unwrap_or_else(|| Arc::new(SourceError::NotFound { name: self.name.clone() })))
    }

    /// Adds the keys of the maps of all services.
    pub(super) fn keys(&self, keys: &mut Keys) {
        for (_, source) in &self.links {
            source.collect(keys);
        }
    }

    /// Whether the map of any service has `key`.
    pub(super) fn has_key(&self, key: &[u8]) -> bool {
        self.links.iter().any(|(_, source)| source.has_key(key))
    }

    /// Whether a load may find something new, told without waiting.
    pub fn is_stale_now(&self) -> bool {
        self.links.iter().any(|(_, source)| source.is_stale_now())
    }

    /// Whether any service has the map.
    pub fn is_loaded(&self) -> bool {
        self.links.iter().any(|(_, source)| source.is_loaded())
    }

    /// What it is, for people.
    pub fn describe(&self) -> Description {
        let service = |source: &Source| match source {
            Source::File(_) => "files",
            Source::Unsupported(Unsupported { kind, .. }) => kind,
            Source::Chain(_) => "nsswitch",
        };
        let loaded = self.links.iter().filter(|(_, source)| source.is_loaded());
        Description { kind: None, instances: loaded.map(|(_, s)| service(s)).collect(), map: self.name.clone() }
    }
}
