//! Counters of each source of maps, and the news of sources and servers: which have stopped to answer, and which answer
//! again.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;

use super::{SourceError, SourceId};
use crate::mutex::lock;

/// Sources that are counted by name, at most. The others are counted together.
const SOURCES_MAX: usize = 256;

/// News that wait to be taken, at most. Beyond that, the oldest are dropped.
const NEWS_MAX: usize = 64;

/// How a question to a source has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has answered.
    Answered,
    /// It has answered, but what was asked for cannot be used.
    Useless,
    /// There is no such service or map now.
    Absent,
    /// It has not answered.
    Silent,
}

impl From<&SourceError> for Outcome {
    fn from(error: &SourceError) -> Self {
        match error {
            SourceError::Key(_)
            | SourceError::Server { .. }
            | SourceError::UserUnknown { .. }
            | SourceError::Users { .. }
            | SourceError::NisPlus { .. }
            | SourceError::Unsupported { .. }
            | SourceError::Loop { .. }
            | SourceError::TooDeep { .. } => Self::Useless,
            SourceError::Missing { .. }
            | SourceError::NoDirectory { .. }
            | SourceError::NotFound { .. }
            | SourceError::Program { .. }
            | SourceError::Executable { .. }
            | SourceError::Unusable(_)
            | SourceError::NotRunning(_) => Self::Absent,
            _ => Self::Silent,
        }
    }
}

/// The counters of a source. They begin with the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Whether the last question was answered. `None` if the source was never there.
    pub up: Option<bool>,
    /// Questions that were asked.
    pub questions: u64,
    /// Questions without an answer that could be used.
    pub errors: u64,
    /// Keys that were answered from memory.
    pub cache_hits: u64,
    /// The time that all questions have taken.
    pub time: Duration,
}

impl Tally {
    /// Counts a question. Returns whether the source has just stopped to answer (`false`) or answers again (`true`).
    fn count(&mut self, outcome: Outcome, took: Duration) -> Option<bool> {
        self.questions += 1;
        self.time += took;
        self.errors += u64::from(outcome != Outcome::Answered);
        let was = self.up;
        let is = match outcome {
            Outcome::Answered | Outcome::Useless => Some(true),
            // A service that is not set up is no news on a machine that does not use it.
            Outcome::Absent => was.map(|_| false),
            Outcome::Silent => Some(false),
        };
        self.up = is;
        match (was, is) {
            (Some(false), Some(true)) => Some(true),
            (Some(true) | None, Some(false)) => Some(false),
            _ => None,
        }
    }
}

/// Something that has happened to a source or a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// To a source of maps.
    Source(String),
    /// To a file server.
    Server(String),
}

/// The counters of all sources, and the news.
#[derive(Debug, Default)]
pub struct Tallies {
    sources: Mutex<HashMap<SourceId, Tally>>,
    news: Mutex<VecDeque<News>>,
    told: Notify,
}

impl Tallies {
    fn change<T>(&self, id: &SourceId, change: impl FnOnce(&mut Tally) -> T) -> T {
        let mut sources = lock(&self.sources);
        if let Some(tally) = sources.get_mut(id) {
            return change(tally);
        }
        let id = if sources.len() < SOURCES_MAX { id.clone() } else { SourceId { kind: "other", name: [].into() } };
        change(sources.entry(id).or_default())
    }

    /// Counts a key that was answered from memory.
    pub(super) fn hit(&self, id: &SourceId) {
        self.change(id, |tally| tally.cache_hits += 1);
    }

    /// Counts a question. `why` says what has failed.
    pub(super) fn asked(&self, id: &SourceId, outcome: Outcome, took: Duration, why: Option<&SourceError>) {
        match self.change(id, |tally| tally.count(outcome, took)) {
            Some(true) => self.tell(News::Source(format!("{id} answers again"))),
            Some(false) => {
                let why = why.map(|why| format!(": {why}")).unwrap_or_default();
                self.tell(News::Source(format!("{id} cannot be asked{why}")));
            }
            None => {}
        }
    }

    /// Adds news.
    pub(super) fn tell(&self, news: News) {
        let mut all = lock(&self.news);
        if all.len() >= NEWS_MAX {
            all.pop_front();
        }
        all.push_back(news);
        self.told.notify_one();
    }

    /// Waits for the next news.
    pub async fn next_news(&self) -> News {
        loop {
            if let Some(news) = lock(&self.news).pop_front() {
                return news;
            }
            self.told.notified().await;
        }
    }

    /// Returns the counters of all sources, sorted by their names.
    pub fn all(&self) -> Vec<(SourceId, Tally)> {
        let mut all: Vec<_> = lock(&self.sources).iter().map(|(id, tally)| (id.clone(), *tally)).collect();
        all.sort_by(|(a, _), (b, _)| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> SourceId {
        SourceId { kind: "ldap", name: name.as_bytes().into() }
    }

    #[tokio::test]
    async fn a_source_that_stops_to_answer_is_news_once() {
        let (tallies, home) = (Tallies::default(), id("auto.home"));
        let gone = SourceError::Unavailable("the server is gone".into());
        let second = Duration::from_secs(1);
        tallies.asked(&home, Outcome::Answered, second, None);
        for _ in 0..3 {
            tallies.asked(&home, Outcome::from(&gone), second, Some(&gone));
        }
        tallies.hit(&home);
        tallies.asked(&home, Outcome::Answered, second, None);
        let down = "ldap map auto.home cannot be asked: the server is gone";
        assert_eq!(tallies.next_news().await, News::Source(down.into()));
        assert_eq!(tallies.next_news().await, News::Source("ldap map auto.home answers again".into()));
        assert!(lock(&tallies.news).is_empty());
        let expected = Tally { up: Some(true), questions: 5, errors: 3, cache_hits: 1, time: second * 5 };
        assert_eq!(tallies.all(), [(home, expected)]);
    }

    #[test]
    fn a_service_that_was_never_there_is_no_news() {
        let (tallies, home) = (Tallies::default(), id("auto.home"));
        let absent = SourceError::NotRunning("sssd does not run".into());
        tallies.asked(&home, Outcome::from(&absent), Duration::ZERO, Some(&absent));
        assert_eq!((tallies.all()[0].1.up, lock(&tallies.news).len()), (None, 0));
        tallies.asked(&home, Outcome::Answered, Duration::ZERO, None);
        tallies.asked(&home, Outcome::from(&absent), Duration::ZERO, Some(&absent));
        assert_eq!((tallies.all()[0].1.up, lock(&tallies.news).len()), (Some(false), 1));
    }

    #[test]
    fn sources_and_news_are_bounded() {
        let tallies = Tallies::default();
        for n in 0..2 * SOURCES_MAX {
            tallies.asked(&id(&n.to_string()), Outcome::Silent, Duration::ZERO, None);
        }
        let all = tallies.all();
        assert_eq!((all.len(), lock(&tallies.news).len()), (SOURCES_MAX + 1, NEWS_MAX));
        let other = all.iter().find(|(id, _)| id.kind == "other").unwrap();
        assert_eq!(other.1.questions, SOURCES_MAX as u64);
    }
}
