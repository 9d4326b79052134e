//! Files that are read with a deadline, and what was read of them last: the master map and what it includes, and the
//! configuration.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::time::{Instant, timeout_at};

use super::{Flight, Notices, Readers, SourceError};
use crate::mutex::lock;

/// Reads a file. The second argument tells that an earlier version of it is in force.
type Read<T> = Arc<dyn Fn(&Arc<Path>, bool) -> Result<T, SourceError> + Send + Sync>;

/// Files with their last good content.
pub struct Store<T> {
    read: Read<T>,
    readers: Readers,
    notices: Arc<Notices>,
    slots: Mutex<HashMap<Arc<Path>, Arc<Slot<T>>>>,
}

#[derive(Debug)]
struct Slot<T> {
    reading: Flight,
    last: Mutex<Last<T>>,
}

/// Last state of a file.
#[derive(Debug)]
struct Last<T> {
    good: Option<Arc<T>>,
    error: Option<Arc<SourceError>>,
    /// Callers that have stopped waiting for the reading that is under way.
    gave_up: usize,
}

/// A file as it is or was.
#[derive(Debug)]
pub enum Fetched<T> {
    /// The content on disk.
    Fresh(Arc<T>),
    /// Earlier content: the file cannot be read now.
    Stale(Arc<T>, Arc<SourceError>),
    /// There is no content.
    Failed(Arc<SourceError>),
}

impl<T> fmt::Debug for Store<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Store<T> {
    /// A store that reads with `read` on threads of `readers`.
    pub fn new(
        read: impl Fn(&Arc<Path>, bool) -> Result<T, SourceError> + Send + Sync + 'static,
        readers: &Readers,
        notices: &Arc<Notices>,
    ) -> Self {
        Self { read: Arc::new(read), readers: readers.clone(), notices: Arc::clone(notices), slots: Mutex::default() }
    }

    /// Reads a file. If the deadline passes first, returns the last content that could be read; if an earlier reading still hangs,
    /// returns that at once. `replaces`: whether the content replaces one that is in use, which a file that is just being written
    /// must not.
    pub async fn fetch(&self, path: &Arc<Path>, replaces: bool, deadline: Instant) -> Fetched<T> {
        let slot = Arc::clone(lock(&self.slots).entry(Arc::clone(path)).or_insert_with(|| {
            let last = Last { good: None, error: None, gave_up: 0 };
            Arc::new(Slot { reading: Flight::default(), last: Mutex::new(last) })
        }));
        let hangs = lock(&slot.last).gave_up > 0;
        let deadline = if hangs { Instant::now() } else { deadline };
        let work = {
            let (slot, path, notices) = (Arc::clone(&slot), Arc::clone(path), Arc::clone(&self.notices));
            let (read, readers) = (Arc::clone(&self.read), self.readers.clone());
            move |number| async move {
                let file = Arc::clone(&path);
                let result = readers.run(move || read(&file, replaces)).await;
                let result = result.unwrap_or_else(|_| Err(SourceError::TooManyHang { path }));
                let latest = slot.reading.is_latest(number);
                let mut last = lock(&slot.last);
                if latest {
                    last.note(result);
                }
                if std::mem::take(&mut last.gave_up) > 0 {
                    notices.late_work_ended();
                }
            }
        };
        match timeout_at(deadline, slot.reading.join(work)).await {
            Ok(()) => lock(&slot.last).fetched(path),
            Err(_) => {
                let mut last = lock(&slot.last);
                last.gave_up += 1;
                let error = Arc::new(SourceError::Hangs { path: Arc::clone(path) });
                last.good
                    .clone()
                    .map_or_else(|| Fetched::Failed(Arc::clone(&error)), |good| Fetched::Stale(good, error.clone()))
            }
        }
    }
}

impl<T> Last<T> {
    fn note(&mut self, result: Result<T, SourceError>) {
        match result {
            Ok(content) => (self.good, self.error) = (Some(Arc::new(content)), None),
            Err(error) => {
                // A file that is gone says nothing any more; one that cannot be read says what it said.
                if !error.is_transient() {
                    self.good = None;
                }
                self.error = Some(Arc::new(error));
            }
        }
    }

    fn fetched(&self, path: &Arc<Path>) -> Fetched<T> {
        match (&self.good, &self.error) {
            (Some(good), None) => Fetched::Fresh(Arc::clone(good)),
            (Some(good), Some(error)) => Fetched::Stale(Arc::clone(good), Arc::clone(error)),
            (None, Some(error)) => Fetched::Failed(Arc::clone(error)),
            // Only if the runtime ends while the file is read.
            (None, None) => Fetched::Failed(Arc::new(SourceError::Hangs { path: Arc::clone(path) })),
        }
    }
}
