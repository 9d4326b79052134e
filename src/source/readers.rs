//! Threads for blocking work on sources.
//!
//! Work that takes long gives its place to others but keeps its thread: so a source that hangs costs one thread, and
//! never the turn of another source. How many threads a source may hold is the matter of [`Flight`](super::Flight).

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::blocking;

/// After this time, work counts as hanging and gives its place to others.
const HANGS_AFTER: Duration = Duration::from_millis(100);

/// Work that takes long, at most. Beyond that, sources cannot be asked.
const HANGING_MAX: usize = 512;

/// Threads that read maps.
#[derive(Debug, Clone)]
pub struct Readers {
    places: Arc<Semaphore>,
    hanging: Arc<Semaphore>,
}

/// Too much work hangs already: nothing more is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

impl Readers {
    /// Threads with so many places for work that does not hang.
    pub fn new(width: usize) -> Self {
        let width = width.clamp(1, Self::WIDEST);
        Self { places: Arc::new(Semaphore::new(width)), hanging: Arc::new(Semaphore::new(HANGING_MAX)) }
    }

    /// Places at most, whatever is configured.
    pub const WIDEST: usize = 1024;

    /// Does `work` on a thread and waits for it as long as it takes.
    ///
    /// # Errors
    /// `TooMany`: too many threads hang already.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, TooMany> {
        let place = self.places.acquire().await.ok();
        let hanging = Arc::clone(&self.hanging).try_acquire_owned().map_err(|_| TooMany)?;
        let mut done = pin!(blocking::run(move || {
            // As long as the thread is in use, also when nothing waits for it any more.
            let _hanging = hanging;
            work()
        }));
        match tokio::time::timeout(HANGS_AFTER, &mut done).await {
            Ok(done) => Ok(done),
            Err(_) => {
                drop(place);
                Ok(done.await)
            }
        }
    }
}
