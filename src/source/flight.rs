//! Single flight: one piece of work at a time for one source, whose result all who wait for it share.
//!
//! The work runs in a task of its own. A caller that stops waiting leaves the work as it is: its result is still stored.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::mutex::lock;
use tokio::sync::watch;
use tokio::time::Instant;

/// Work that has run for so long does not keep further work from being begun: what it waits for may be gone, while a
/// new attempt would succeed.
const HANGS_AFTER: Duration = Duration::from_secs(30);

/// Pieces of work at a time, overdue ones included.
const WIDTH: usize = 3;

/// The work on one source.
#[derive(Debug, Clone, Default)]
pub struct Flight {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// How many pieces of work have begun.
    begun: u64,
    /// The latest piece of work that has ended.
    ended: u64,
    running: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    number: u64,
    since: Instant,
    done: watch::Receiver<()>,
}

impl Flight {
    /// Waits for a piece of work that was begun after this call; begins it unless another caller has. Work receives its
    /// number: where pieces of work overlap, [`Flight::is_latest`] tells whether the result still counts.
    pub async fn join<W>(&self, work: impl FnOnce(u64) -> W + Send)
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let arrived = self.lock().begun;
        let mut work = Some(work);
        loop {
            let mut done = {
                let mut state = self.lock();
                if state.ended > arrived {
                    return;
                }
                let now = Instant::now();
                let overdue = |running: &Running| now.duration_since(running.since) >= HANGS_AFTER;
                match state.running.last() {
                    Some(last) if !overdue(last) || state.running.len() >= WIDTH => last.done.clone(),
                    _ => {
                        let Some(work) = work.take() else { return };
                        let (sender, done) = watch::channel(());
                        state.begun += 1;
                        let number = state.begun;
                        state.running.push(Running { number, since: now, done: done.clone() });
                        let landing = Landing { flight: self.clone(), number, _sender: sender };
                        let work = work(number);
                        tokio::spawn(async move {
                            work.await;
                            landing.flight.lock().ended(landing.number);
                        });
                        done
                    }
                }
            };
            // An error says that the work has ended.
            while done.changed().await.is_ok() {}
        }
    }

    /// Returns whether no piece of work that was begun after this one has ended.
    pub fn is_latest(&self, number: u64) -> bool {
        self.lock().ended <= number
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn ended(&mut self, number: u64) {
        self.ended = self.ended.max(number);
    }
}

/// Takes a piece of work out of the list at its end, and when the runtime drops it.
struct Landing {
    flight: Flight,
    number: u64,
    _sender: watch::Sender<()>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.flight.lock().running.retain(|running| running.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(start_paused = true)]
    async fn a_hundred_callers_share_two_pieces_of_work() {
        let (flight, runs) = (Flight::default(), Arc::new(AtomicUsize::new(0)));
        let one = || {
            let (flight, runs) = (flight.clone(), Arc::clone(&runs));
            async move {
                flight
                    .join(|_| async move {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        runs.fetch_add(1, Ordering::SeqCst);
                    })
                    .await;
            }
        };
        let first = tokio::spawn(one());
        tokio::task::yield_now().await;
        // What they want to know may have changed since the first has begun.
        let others: Vec<_> = (0..100).map(|_| tokio::spawn(one())).collect();
        first.await.unwrap();
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        for other in others {
            other.await.unwrap();
        }
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn overdue_work_does_not_keep_new_work_waiting_for_ever() {
        let flight = Flight::default();
        let hang = || tokio::time::timeout(Duration::from_secs(1), flight.join(|_| std::future::pending()));
        assert!(hang().await.is_err());
        let quick = || tokio::time::timeout(Duration::from_secs(1), flight.join(|_| async {}));
        assert!(quick().await.is_err());
        tokio::time::sleep(HANGS_AFTER).await;
        assert!(quick().await.is_ok());
        assert!(hang().await.is_err());
        tokio::time::sleep(HANGS_AFTER).await;
        assert!(hang().await.is_err());
        tokio::time::sleep(HANGS_AFTER).await;
        assert!(quick().await.is_err(), "three hang, and that is enough");
    }
}
