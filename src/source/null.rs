//! The built-in map `-null`: it has no keys.

use std::sync::Arc;

use super::{Answer, Ask, Description, Entries, Freshness, MapSource, Pass, SourceError, SourceId, Waiting};

/// A map without keys.
#[derive(Debug)]
pub struct NullMap {
    id: SourceId,
}

impl Default for NullMap {
    fn default() -> Self {
        Self { id: SourceId { kind: "null", name: Arc::from([]) } }
    }
}

impl MapSource for NullMap {
    fn id(&self) -> &SourceId {
        &self.id
    }

    fn cached(&self, _: &[u8]) -> Option<Answer> {
        Some(Answer::NotFound)
    }

    fn known(&self, _: &[u8]) -> Option<Answer> {
        Some(Answer::NotFound)
    }

    fn lookup<'a>(&'a self, _: &'a Ask) -> Waiting<'a, Answer> {
        Box::pin(std::future::ready(Answer::NotFound))
    }

    fn entries<'a>(&'a self, _: &'a Pass) -> Waiting<'a, Result<Arc<Entries>, Arc<SourceError>>> {
        Box::pin(std::future::ready(Ok(Arc::default())))
    }

    fn known_entries(&self) -> Option<Arc<Entries>> {
        Some(Arc::default())
    }

    fn freshness(&self) -> Freshness {
        Freshness::Unchanged
    }

    fn exists(&self) -> bool {
        true
    }

    fn describe(&self) -> Description {
        Description { kind: Some("null"), instances: Vec::new(), map: Vec::new() }
    }
}
