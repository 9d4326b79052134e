//! A deadline for every question to a source.
//!
//! The question runs in a task of its own. When its deadline passes the caller gets what the source said before, marked as
//! stale; the task goes on, and what it brings is still stored by the source. While such late work is under way the source
//! counts as hanging, and further questions are answered from memory at once. From time to time one question is let
//! through, since what the late one waits for may be gone.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use log::{error, info};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::{
    Answer, Ask, Description, Entries, Freshness, MapSource, Notices, Pass, SourceError, SourceId, Stale, Waiting,
};
use crate::mutex::lock;

/// The bounds of a source.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Questions at a time.
    pub width: usize,
    /// With so many late questions under way, the source counts as hanging.
    pub late_max: usize,
    /// How long it counts as hanging before another question is let through.
    pub retry_after: Duration,
}

impl Default for Bounds {
    /// For a source that reads the whole map at once: one late question says enough.
    fn default() -> Self {
        Self { width: 64, late_max: 1, retry_after: Duration::from_secs(15) }
    }
}

/// A source with bounds around it.
#[derive(Debug)]
pub struct Bounded {
    source: Arc<dyn MapSource>,
    bounds: Bounds,
    places: Arc<Semaphore>,
    gate: Arc<Gate>,
}

/// Whether a source is asked at all.
#[derive(Debug)]
struct Gate {
    id: SourceId,
    notices: Arc<Notices>,
    state: Mutex<GateState>,
}

#[derive(Debug, Default)]
struct GateState {
    /// Late questions under way.
    late: usize,
    /// When the next question is let through although too many are late.
    retry: Option<Instant>,
    /// Whether it was reported that it hangs.
    said: bool,
}

impl Bounded {
    /// Puts bounds around a source.
    pub fn new(source: Arc<dyn MapSource>, bounds: Bounds, notices: &Arc<Notices>) -> Self {
        let gate = Arc::new(Gate { id: source.id().clone(), notices: Arc::clone(notices), state: Mutex::default() });
        Self { source, bounds, places: Arc::new(Semaphore::new(bounds.width)), gate }
    }

    /// Asks a question in a task of its own. Returns `None` if it is not answered by the deadline.
    async fn ask<T, F>(&self, deadline: Instant, question: F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        if !self.gate.lets_through(&self.bounds) {
            return None;
        }
        // If all places are taken until the deadline, those who took them are late themselves.
        let place = timeout_at(deadline, Arc::clone(&self.places).acquire_owned()).await.ok()?.ok();
        let under_way = Arc::new(UnderWay { gate: Arc::clone(&self.gate), late: Mutex::new(Late::No), _place: place });
        let task = {
            let under_way = Arc::clone(&under_way);
            tokio::spawn(async move {
                let answer = question.await;
                under_way.ended();
                answer
            })
        };
        match timeout_at(deadline, task).await {
            Ok(answer) => answer.ok(),
            Err(_) => {
                under_way.is_late(&self.bounds);
                None
            }
        }
    }

    fn late(&self) -> Arc<SourceError> {
        Arc::new(SourceError::Late { id: self.source.id().clone() })
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, GateState> {
        lock(&self.state)
    }

    /// Returns whether a question may be asked now.
    fn lets_through(&self, bounds: &Bounds) -> bool {
        let mut state = self.lock();
        if state.late < bounds.late_max {
            return true;
        }
        let now = Instant::now();
        let due = state.retry.is_none_or(|at| at <= now);
        if due {
            state.retry = Some(now + bounds.retry_after);
        }
        due
    }
}

/// A question that is being asked.
#[derive(Debug)]
struct UnderWay {
    gate: Arc<Gate>,
    late: Mutex<Late>,
    _place: Option<OwnedSemaphorePermit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Late {
    No,
    Yes,
    Ended,
}

impl UnderWay {
    fn lock(&self) -> MutexGuard<'_, Late> {
        lock(&self.late)
    }

    /// Its deadline has passed.
    fn is_late(&self, bounds: &Bounds) {
        let mut late = self.lock();
        if *late == Late::Ended {
            return;
        }
        *late = Late::Yes;
        let mut gate = self.gate.lock();
        gate.late += 1;
        gate.retry = Some(Instant::now() + bounds.retry_after);
        if !std::mem::replace(&mut gate.said, true) {
            error!("{} does not answer: what was read of it before stays in force", self.gate.id);
        }
    }

    /// It was answered.
    fn ended(&self) {
        let late = std::mem::replace(&mut *self.lock(), Late::Ended);
        let mut gate = self.gate.lock();
        if late == Late::Yes {
            gate.late = gate.late.saturating_sub(1);
            drop(gate);
            self.gate.notices.late_work_ended();
        } else if gate.late == 0 && std::mem::take(&mut gate.said) {
            info!("{} answers again", self.gate.id);
        }
    }
}

impl MapSource for Bounded {
    fn id(&self) -> &SourceId {
        self.source.id()
    }

    fn cached(&self, key: &[u8]) -> Option<Answer> {
        self.source.cached(key)
    }

    fn known(&self, key: &[u8]) -> Option<Answer> {
        self.source.known(key)
    }

    fn lookup<'a>(&'a self, ask: &'a Ask) -> Waiting<'a, Answer> {
        Box::pin(async move {
            let (source, question) = (Arc::clone(&self.source), ask.clone());
            let answer = self.ask(ask.pass.deadline, async move { source.lookup(&question).await }).await;
            answer.unwrap_or_else(|| match self.source.known(&ask.key).map(Answer::stale) {
                Some(found @ Answer::Found(_)) => found,
                // That it had no such key before does not say that it has none now.
                _ => Answer::Unavailable(self.late()),
            })
        })
    }

    fn entries<'a>(&'a self, pass: &'a Pass) -> Waiting<'a, Result<Arc<Entries>, Arc<SourceError>>> {
        Box::pin(async move {
            let (source, walk) = (Arc::clone(&self.source), pass.clone());
            let entries = self.ask(pass.deadline, async move { source.entries(&walk).await }).await;
            entries.unwrap_or_else(|| self.source.known_entries().ok_or_else(|| self.late()))
        })
    }

    fn prepare<'a>(&'a self, pass: &'a Pass) -> Waiting<'a, Result<(), Arc<SourceError>>> {
        Box::pin(async move {
            let (source, walk) = (Arc::clone(&self.source), pass.clone());
            let prepared = self.ask(pass.deadline, async move { source.prepare(&walk).await }).await;
            prepared.unwrap_or_else(|| self.source.known_entries().map(drop).ok_or_else(|| self.late()))
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
