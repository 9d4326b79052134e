//! Counts the questions to a source, and notices when it stops to answer.

use std::sync::Arc;
use std::time::Instant;

use super::tally::Outcome;
use super::{
    Answer, Ask, Description, Entries, Freshness, MapSource, Notices, Pass, SourceError, SourceId, Stale, Waiting,
};

/// A source that is counted.
#[derive(Debug)]
pub struct Counted {
    source: Arc<dyn MapSource>,
    notices: Arc<Notices>,
}

impl Counted {
    /// Counts a source among the tallies of `notices`.
    pub fn new(source: Arc<dyn MapSource>, notices: &Arc<Notices>) -> Self {
        Self { source, notices: Arc::clone(notices) }
    }

    fn count<T>(&self, begun: Instant, result: &Result<T, Arc<SourceError>>) {
        let (outcome, why) = match result {
            // It was answered from what was known before.
            Ok(_) if self.source.stale().is_some() => (Outcome::Silent, None),
            Ok(_) => (Outcome::Answered, None),
            Err(error) => (Outcome::from(&**error), Some(&**error)),
        };
        self.notices.tallies.asked(self.source.id(), outcome, begun.elapsed(), why);
    }
}

impl MapSource for Counted {
    fn id(&self) -> &SourceId {
        self.source.id()
    }

    fn cached(&self, key: &[u8]) -> Option<Answer> {
        let answer = self.source.cached(key);
        if answer.is_some() {
            self.notices.tallies.hit(self.source.id());
        }
        answer
    }

    fn known(&self, key: &[u8]) -> Option<Answer> {
        self.source.known(key)
    }

    fn lookup<'a>(&'a self, ask: &'a Ask) -> Waiting<'a, Answer> {
        Box::pin(async move {
            let begun = Instant::now();
            let answer = self.source.lookup(ask).await;
            let (outcome, why) = match &answer {
                // It was answered from what was known before.
                Answer::Found(found) if found.stale => (Outcome::Silent, None),
                Answer::Found(_) | Answer::NotFound => (Outcome::Answered, None),
                Answer::Unavailable(error) => (Outcome::from(&**error), Some(&**error)),
            };
            self.notices.tallies.asked(self.source.id(), outcome, begun.elapsed(), why);
            answer
        })
    }

    fn entries<'a>(&'a self, pass: &'a Pass) -> Waiting<'a, Result<Arc<Entries>, Arc<SourceError>>> {
        Box::pin(async move {
            let begun = Instant::now();
            let entries = self.source.entries(pass).await;
            self.count(begun, &entries);
            entries
        })
    }

    fn prepare<'a>(&'a self, pass: &'a Pass) -> Waiting<'a, Result<(), Arc<SourceError>>> {
        Box::pin(async move {
            let begun = Instant::now();
            let prepared = self.source.prepare(pass).await;
            self.count(begun, &prepared);
            prepared
        })
    }

    fn known_entries(&self) -> Option<Arc<Entries>> {
        self.source.known_entries()
    }

    fn freshness(&self) -> Freshness {
        self.source.freshness()
    }

    fn exists(&self) -> bool {
        self.source.exists()
    }

    fn trouble(&self) -> Option<String> {
        self.source.trouble()
    }

    fn is_partial(&self) -> bool {
        self.source.is_partial()
    }

    fn stale(&self) -> Option<Stale> {
        self.source.stale()
    }

    fn describe(&self) -> Description {
        self.source.describe()
    }

    fn forget(&self) {
        self.source.forget();
    }
}
