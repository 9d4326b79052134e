//! Answers that are kept for a time, for services that cannot prove that nothing has changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::{Answer, Ask, Description, Entries, Freshness, MapSource, Pass, SourceError, SourceId, Stale, Waiting};
use crate::mutex::lock;

/// Answers kept at most. When there are more, those that have expired are dropped, then all.
const KEPT_MAX: usize = 10_000;

/// A source whose answers are kept.
#[derive(Debug)]
pub struct Cached {
    source: Arc<dyn MapSource>,
    /// How long an entry holds, unless the source says otherwise.
    ttl: Duration,
    /// How long it holds that there is no entry.
    negative: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    answers: HashMap<Arc<[u8]>, (Answer, Instant)>,
    entries: Option<(Arc<Entries>, Instant)>,
}

impl Cached {
    /// Keeps the answers of a source: entries for `ttl`, missing ones for `negative`.
    pub fn new(source: Arc<dyn MapSource>, ttl: Duration, negative: Duration) -> Self {
        Self { source, ttl, negative, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Keeps an answer. One that is no answer, or that is old itself, replaces nothing.
    fn keep(&self, key: &Arc<[u8]>, answer: &Answer) {
        let fresh_for = match answer {
            Answer::Found(found) if found.stale => return,
            Answer::Found(found) => found.fresh_for.unwrap_or(self.ttl),
            Answer::NotFound => self.negative,
            Answer::Unavailable(_) => return,
        };
        let now = Instant::now();
        let mut state = self.lock();
        if state.answers.len() >= KEPT_MAX && !state.answers.contains_key(key) {
            state.answers.retain(|_, (_, until)| *until > now);
            if state.answers.len() >= KEPT_MAX {
                state.answers.clear();
            }
        }
        state.answers.insert(Arc::clone(key), (answer.clone(), now + fresh_for));
    }
}

impl MapSource for Cached {
    fn id(&self) -> &SourceId {
        self.source.id()
    }

    fn cached(&self, key: &[u8]) -> Option<Answer> {
        if let Some((answer, until)) = self.lock().answers.get(key) {
            if *until > Instant::now() {
                return Some(answer.clone());
            }
        }
        self.source.cached(key)
    }

    fn known(&self, key: &[u8]) -> Option<Answer> {
        let kept = self.lock().answers.get(key).map(|(answer, _)| answer.clone());
        kept.or_else(|| self.source.known(key))
    }

    fn lookup<'a>(&'a self, ask: &'a Ask) -> Waiting<'a, Answer> {
        Box::pin(async move {
            if let Some(answer) = self.cached(&ask.key) {
                return answer;
            }
            let answer = self.source.lookup(ask).await;
            self.keep(&ask.key, &answer);
            match answer {
                // It is better served as it was than not at all.
                Answer::Unavailable(why) => match self.known(&ask.key) {
                    Some(known @ Answer::Found(_)) => known.stale(),
                    _ => Answer::Unavailable(why),
                },
                answer => answer,
            }
        })
    }

    fn entries<'a>(&'a self, pass: &'a Pass) -> Waiting<'a, Result<Arc<Entries>, Arc<SourceError>>> {
        Box::pin(async move {
            match self.source.entries(pass).await {
                Ok(entries) => {
                    self.lock().entries = Some((Arc::clone(&entries), Instant::now() + self.ttl));
                    Ok(entries)
                }
                Err(error) => self.known_entries().ok_or(error),
            }
        })
    }

    fn known_entries(&self) -> Option<Arc<Entries>> {
        let kept = self.lock().entries.as_ref().map(|(entries, _)| Arc::clone(entries));
        kept.or_else(|| self.source.known_entries())
    }

    fn freshness(&self) -> Freshness {
        match &self.lock().entries {
            Some((_, until)) if *until > Instant::now() => Freshness::ExpiresAt(*until),
            _ => Freshness::MayHaveChanged,
        }
    }

    fn exists(&self) -> bool {
        self.source.exists()
    }

    fn trouble(&self) -> Option<String> {
        self.source.trouble()
    }

    fn stale(&self) -> Option<Stale> {
        self.source.stale()
    }

    fn describe(&self) -> Description {
        self.source.describe()
    }

    fn forget(&self) {
        let now = Instant::now();
        // What is old is still better than nothing.
        self.lock().answers.values_mut().for_each(|(_, until)| *until = now);
        self.source.forget();
    }
}
