//! Work that may wait in the kernel, on threads.
//!
//! The threads are not those of tokio, which ends the process if no thread can be started (`pids.max` of a control group). Here, work
//! waits for a thread that is there: [`KEPT`] threads never end.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::mutex::lock;

type Erased = Box<dyn Any + Send>;
type Work = Box<dyn FnOnce() + Send>;

/// Most threads. The lanes and the readers of maps have bounds of their own, which are lower together.
const MOST: usize = 20_000;

/// How many threads do not end when they are idle.
const KEPT: usize = 2;

/// How long other threads wait for more work.
const IDLE: Duration = Duration::from_secs(10);

/// How long waiting work waits until a thread is started again, if none could be started.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The stack of a thread: it parses nothing and recurses nowhere.
const STACK: usize = 256 << 10;

static POOL: Pool =
    Pool { state: Mutex::new(State { queue: VecDeque::new(), idle: 0, threads: 0 }), more: Condvar::new() };

#[derive(Debug)]
struct Pool {
    state: Mutex<State>,
    /// Tells idle threads that there is work.
    more: Condvar,
}

struct State {
    queue: VecDeque<Work>,
    idle: usize,
    threads: usize,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} threads, {} of them idle, {} waiting", self.threads, self.idle, self.queue.len())
    }
}

impl Pool {
    /// Adds work. Returns whether a thread should have been started for it and could not be.
    fn add(&'static self, work: Work, start: Starter) -> bool {
        lock(&self.state).queue.push_back(work);
        self.grow(start)
    }

    /// Wakes or starts a thread if work waits. Returns whether none could be started.
    fn grow(&'static self, start: Starter) -> bool {
        let mut state = lock(&self.state);
        if state.queue.is_empty() {
            return false;
        }
        if state.idle >= state.queue.len() {
            self.more.notify_one();
            return false;
        }
        if state.threads >= MOST {
            return true;
        }
        state.threads += 1;
        drop(state);
        let started = start(self);
        if started.is_err() {
            lock(&self.state).threads -= 1;
        }
        started.is_err()
    }

    /// Does work until there has been none for some time.
    fn serve(&self) {
        let mut state = lock(&self.state);
        loop {
            while let Some(work) = state.queue.pop_front() {
                drop(state);
                work();
                state = lock(&self.state);
            }
            state.idle += 1;
            let waited = self.more.wait_timeout_while(state, IDLE, |state| state.queue.is_empty());
            let (woken, timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if timed_out.timed_out() && state.threads <= KEPT {
                // No timer runs in an idle daemon.
                let waited = self.more.wait_while(state, |state| state.queue.is_empty());
                state = waited.unwrap_or_else(PoisonError::into_inner);
            }
            state.idle -= 1;
            if state.queue.is_empty() && state.threads > KEPT {
                state.threads -= 1;
                return;
            }
        }
    }
}

/// Starts a thread of the pool.
type Starter = fn(&'static Pool) -> io::Result<()>;

fn start(pool: &'static Pool) -> io::Result<()> {
    thread::Builder::new().name("blocking".to_owned()).stack_size(STACK).spawn(|| pool.serve()).map(drop)
}

/// Runs `work` on a thread and returns its result. The work begins when the future is first polled, and goes on when the future is
/// dropped. A panic of the work is passed on. If no thread can be started, the work waits for one.
///
/// The runtime sees one type of task for all work, because it has two kilobytes of code for each type.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match run_erased(Box::new(move || Box::new(work()) as Erased), &POOL, start).await.downcast() {
        Ok(result) => *result,
        // `work` returns no other type.
        Err(_) => std::future::pending().await,
    }
}

async fn run_erased(work: Box<dyn FnOnce() -> Erased + Send>, pool: &'static Pool, start: Starter) -> Erased {
    let (sender, mut done) = oneshot::channel();
    #[cfg(test)]
    let clock = tests::StoppedClock::new();
    let work = move || {
        // Nothing waits for the result if the future was dropped.
        let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
        #[cfg(test)]
        drop(clock);
    };
    let mut is_short = pool.add(Box::new(work), start);
    while is_short {
        match timeout(RETRY_DELAY, &mut done).await {
            Ok(result) => return finished(result).await,
            Err(_) => is_short = pool.grow(start),
        }
    }
    finished(done.await).await
}

async fn finished(result: Result<thread::Result<Erased>, oneshot::error::RecvError>) -> Erased {
    match result {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => resume_unwind(panic),
        // The sender is only dropped after it was used.
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    use super::*;

    /// Keeps a stopped clock of tokio from advancing, as a blocking thread of tokio does.
    pub(super) struct StoppedClock {
        _end: Option<mpsc::Sender<()>>,
    }

    impl StoppedClock {
        pub(super) fn new() -> Self {
            let (sender, ended) = mpsc::channel();
            let runtime = tokio::runtime::Handle::try_current().ok();
            let held = runtime.map(|runtime| runtime.spawn_blocking(move || ended.recv().is_ok()));
            Self { _end: held.map(|_| sender) }
        }
    }

    fn pool() -> &'static Pool {
        let state = Mutex::new(State { queue: VecDeque::new(), idle: 0, threads: 0 });
        Box::leak(Box::new(Pool { state, more: Condvar::new() }))
    }

    async fn number(pool: &'static Pool, start: Starter, work: impl FnOnce() -> u32 + Send + 'static) -> u32 {
        *run_erased(Box::new(move || Box::new(work()) as Erased), pool, start).await.downcast().unwrap()
    }

    #[tokio::test]
    async fn work_that_waits_keeps_no_other_work() {
        let pool = pool();
        let (release, hang) = mpsc::channel::<()>();
        let hanging = tokio::spawn(number(pool, start, move || u32::from(hang.recv().is_err())));
        tokio::task::yield_now().await;
        assert_eq!(number(pool, start, || 2).await, 2);
        drop(release);
        assert_eq!(hanging.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn work_waits_until_a_thread_can_be_started() {
        static REFUSES: AtomicBool = AtomicBool::new(true);
        fn start_later(pool: &'static Pool) -> io::Result<()> {
            if REFUSES.load(Ordering::SeqCst) { Err(io::ErrorKind::WouldBlock.into()) } else { start(pool) }
        }
        let pool = pool();
        let waiting = tokio::spawn(number(pool, start_later, || 1));
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!waiting.is_finished() && lock(&pool.state).threads == 0);
        REFUSES.store(false, Ordering::SeqCst);
        assert_eq!(waiting.await.unwrap(), 1);
        // The thread that is there does what comes.
        REFUSES.store(true, Ordering::SeqCst);
        assert_eq!(number(pool, start_later, || 2).await, 2);
    }

    #[tokio::test]
    async fn a_panic_is_passed_on_and_ends_no_thread() {
        let pool = pool();
        assert!(tokio::spawn(number(pool, start, || panic!("as wanted"))).await.unwrap_err().is_panic());
        // The answer comes before the thread waits for more.
        for _ in 0..1000 {
            if lock(&pool.state).idle == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(number(pool, start, || 1).await, 1);
        assert_eq!(lock(&pool.state).threads, 1);
    }
}
