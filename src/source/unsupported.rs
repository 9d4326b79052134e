//! A map of a kind that this version cannot read.

use std::sync::Arc;

use super::{Answer, Ask, Description, Entries, Freshness, MapSource, Pass, SourceError, SourceId, Waiting};

/// A map that cannot be read: it has no keys, and reading it is an error.
#[derive(Debug)]
pub struct Unsupported {
    id: SourceId,
    error: Arc<SourceError>,
}

impl Unsupported {
    /// The map `name` of the type `kind`. `what` names such maps in the plural.
    pub fn new(kind: &'static str, name: &[u8], what: &'static str) -> Self {
        let error = Arc::new(SourceError::Unsupported { name: name.to_vec(), what });
        Self { id: SourceId { kind, name: name.into() }, error }
    }

    /// The NIS+ map `name`.
    pub fn nis_plus(name: &[u8]) -> Self {
        let error = Arc::new(SourceError::NisPlus { name: name.to_vec() });
        Self { id: SourceId { kind: "nisplus", name: name.into() }, error }
    }
}

impl MapSource for Unsupported {
    fn id(&self) -> &SourceId {
        &self.id
    }

    fn cached(&self, _: &[u8]) -> Option<Answer> {
        Some(Answer::NotFound)
    }

    fn known(&self, _: &[u8]) -> Option<Answer> {
        None
    }

    fn lookup<'a>(&'a self, _: &'a Ask) -> Waiting<'a, Answer> {
        Box::pin(std::future::ready(Answer::NotFound))
    }

    fn entries<'a>(&'a self, _: &'a Pass) -> Waiting<'a, Result<Arc<Entries>, Arc<SourceError>>> {
        Box::pin(std::future::ready(Err(Arc::clone(&self.error))))
    }

    fn known_entries(&self) -> Option<Arc<Entries>> {
        None
    }

    fn freshness(&self) -> Freshness {
        Freshness::Unchanged
    }

    fn exists(&self) -> bool {
        false
    }

    fn describe(&self) -> Description {
        Description { kind: Some(self.id.kind), instances: Vec::new(), map: self.id.name.to_vec() }
    }
}
