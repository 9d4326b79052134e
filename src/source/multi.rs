//! A `multi` map: several maps. The first map that has a key answers for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{
    Answer, Ask, Description, Entries, Freshness, MapSource, Pass, SourceError, SourceId, Stale, Waiting, several,
};
use crate::map::MasterOptions;

/// The parts of a `multi` map.
#[derive(Debug)]
pub struct Multi {
    id: SourceId,
    parts: Vec<Part>,
    /// A part could not be read when all was read last.
    partial: AtomicBool,
}

/// One map, with the mount options and variables that stand behind it.
#[derive(Debug)]
pub struct Part {
    /// The map.
    pub source: Arc<dyn MapSource>,
    /// Options of its entries.
    pub options: Arc<MasterOptions>,
}

impl Multi {
    /// The map of these parts.
    pub fn new(parts: Vec<Part>) -> Self {
        let names: Vec<&[u8]> = parts.iter().map(|part| &*part.source.id().name).collect();
        Self {
            id: SourceId { kind: "multi", name: names.join(&b" -- "[..]).into() },
            parts,
            partial: AtomicBool::new(false),
        }
    }

    fn search(&self, ask: impl Fn(&dyn MapSource) -> Option<Answer>) -> Option<Answer> {
        let mut last = Answer::NotFound;
        for part in &self.parts {
            match ask(&*part.source)? {
                Answer::NotFound => {}
                Answer::Unavailable(why) => last = Answer::Unavailable(why),
                found @ Answer::Found(_) => return Some(part.found(found)),
            }
        }
        Some(last)
    }
}

impl Part {
    /// Adds the options of this part to an entry from it.
    fn found(&self, answer: Answer) -> Answer {
        match answer {
            Answer::Found(mut found) => {
                found.options = Some(Arc::clone(&self.options));
                Answer::Found(found)
            }
            other => other,
        }
    }
}

impl MapSource for Multi {
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
            let mut last = Answer::NotFound;
            for part in &self.parts {
                match part.source.lookup(&ask.part()).await {
                    Answer::NotFound => {}
                    Answer::Unavailable(why) => last = Answer::Unavailable(why),
                    found @ Answer::Found(_) => return part.found(found),
                }
            }
            last
        })
    }

    /// Puts the entries of all parts together; parts without entries are left out. An error says that no part can be read.
    fn entries<'a>(&'a self, pass: &'a Pass) -> Waiting<'a, Result<Arc<Entries>, Arc<SourceError>>> {
        Box::pin(async move {
            let (mut all, mut failed): (Option<Entries>, Option<Arc<SourceError>>) = (None, None);
            let mut partial = false;
            for part in &self.parts {
                match part.source.entries(&pass.part()).await {
                    Ok(entries) => {
                        partial |= part.source.is_partial();
                        all.get_or_insert_default().add(entries);
                    }
                    Err(error) => {
                        partial |= error.may_pass();
                        failed = failed.or(Some(error));
                    }
                }
            }
            self.partial.store(partial, Ordering::Relaxed);
            let none = || Arc::new(SourceError::NotFound { name: self.id.name.to_vec() });
            all.map(Arc::new).ok_or_else(|| failed.unwrap_or_else(none))
        })
    }

    fn prepare<'a>(&'a self, pass: &'a Pass) -> Waiting<'a, Result<(), Arc<SourceError>>> {
        Box::pin(async move {
            let (mut failed, mut any): (Option<Arc<SourceError>>, bool) = (None, false);
            for part in &self.parts {
                match part.source.prepare(&pass.part()).await {
                    Ok(()) => any = true,
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            let not_found = || Arc::new(SourceError::NotFound { name: self.id.name.to_vec() });
            if any { Ok(()) } else { Err(failed.unwrap_or_else(not_found)) }
        })
    }

    fn known_entries(&self) -> Option<Arc<Entries>> {
        several::known_entries(self.parts.iter().map(|part| &part.source))
    }

    fn freshness(&self) -> Freshness {
        several::freshness(self.parts.iter().map(|part| &part.source))
    }

    fn exists(&self) -> bool {
        self.parts.iter().any(|part| part.source.exists())
    }

    fn trouble(&self) -> Option<String> {
        self.parts.iter().find_map(|part| part.source.trouble())
    }

    fn is_partial(&self) -> bool {
        self.partial.load(Ordering::Relaxed)
    }

    fn stale(&self) -> Option<Stale> {
        several::stale(self.parts.iter().map(|part| &part.source))
    }

    fn describe(&self) -> Description {
        Description { kind: Some("multi"), instances: Vec::new(), map: Vec::new() }
    }

    fn forget(&self) {
        self.parts.iter().for_each(|part| part.source.forget());
    }
}
