//! Bounds on what waits: every piece of work that may wait has a lane of limited width, so that one kind of work that
//! hangs cannot take the threads of another.
//!
//! Above all, hanging mounts never keep an unmount waiting, and an expire run, which waits in the kernel until an
//! unmount has answered it, never shares a lane with unmounts. Programs are awaited without a thread and have bounds of
//! their own, one in all and one for each server.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::blocking;
use crate::config::native::Limits;
use crate::mutex::lock;

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Computing the mounts that a reload wants, and checks of paths for `explain`.
    Lookup,
    /// Mounts by system call, and looking at places.
    Mount,
    /// Unmounts by system call.
    Umount,
    /// Expire ioctls, which wait for unmounts.
    Expire,
    /// Gathering facts for `migrate-check`.
    Probe,
}

impl Lane {
    const ALL: [Self; 5] = [Self::Lookup, Self::Mount, Self::Umount, Self::Expire, Self::Probe];

    /// How many threads it may take.
    fn width(self, limits: &Limits) -> usize {
        let limit = match self {
            Self::Lookup | Self::Probe => limits.lookups,
            Self::Mount => limits.mounts,
            Self::Umount => limits.umounts,
            Self::Expire => limits.expires,
        };
        usize::try_from(limit.get()).unwrap_or(usize::MAX).min(WIDEST)
    }
}

/// Threads in a lane at most, whatever is configured.
const WIDEST: usize = 1024;

/// Programs at a time: they take no thread.
const PROGRAMS: usize = 512;

/// Threads for work without a lane: starting programs, reading mount tables, looking at FUSE mounts, the map cache.
const SPARE_THREADS: usize = 32;

/// The work is not done in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Late {
    /// The work continues, but this caller does not get its result.
    #[error("the deadline has passed")]
    Deadline,
    /// An earlier piece of work on the same place, late as well, has still not ended.
    #[error("an earlier attempt still hangs")]
    Earlier,
}

/// The lanes. One value for the whole process.
#[derive(Debug)]
pub struct Lanes {
    /// Each with its width.
    lanes: HashMap<Lane, (Arc<Semaphore>, usize)>,
    programs: Arc<Semaphore>,
    servers: Mutex<HashMap<Vec<u8>, Weak<Semaphore>>>,
    busy: Arc<Mutex<HashSet<(Lane, PathBuf)>>>,
    per_server: usize,
}

impl Default for Lanes {
    fn default() -> Self {
        Self::new(&Limits::default())
    }
}

impl Lanes {
    /// Lanes of these widths.
    pub fn new(limits: &Limits) -> Self {
        Self {
            per_server: usize::try_from(limits.per_server.get()).unwrap_or(usize::MAX).min(PROGRAMS),
            lanes: Lane::ALL
                .into_iter()
                .map(|lane| (lane, lane.width(limits)))
                .map(|(lane, width)| (lane, (Arc::new(Semaphore::new(width)), width)))
                .collect(),
            programs: Arc::new(Semaphore::new(PROGRAMS)),
            servers: Mutex::default(),
            busy: Arc::default(),
        }
    }
}

/// The right to run one program.
#[derive(Debug)]
pub struct ProgramPermit {
    _server: (Option<Arc<Semaphore>>, Option<OwnedSemaphorePermit>),
    _all: Option<OwnedSemaphorePermit>,
}

impl Lanes {
    /// How many blocking threads the runtime must allow, so that the lanes alone are what bounds the work. Threads are
    /// begun when they are needed.
    pub const THREADS: usize = Lane::ALL.len() * WIDEST + SPARE_THREADS;

    /// Whether nothing is being done in any lane and no program runs.
    pub fn is_idle(&self) -> bool {
        let free = |(semaphore, width): &(Arc<Semaphore>, usize)| semaphore.available_permits() == *width;
        self.lanes.values().all(free) && self.programs.available_permits() == PROGRAMS
    }

    /// Does `work` on a thread of `lane` and waits for it as long as it takes. When the future is dropped, the work goes
    /// on and keeps its place in the lane.
    pub async fn run<T: Send + 'static>(&self, lane: Lane, work: impl FnOnce() -> T + Send + 'static) -> T {
        let permit = match self.lanes.get(&lane) {
            Some((semaphore, _)) => Arc::clone(semaphore).acquire_owned().await.ok(),
            None => None,
        };
        blocking::run(move || {
            let _permit = permit;
            work()
        })
        .await
    }

    /// As [`run`](Self::run), for work on one place: waits at most `deadline`, and as long as late work on the same place
    /// has not ended, nothing more is begun there.
    pub async fn run_at<T: Send + 'static>(
        &self,
        lane: Lane,
        place: &Path,
        deadline: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Late> {
        let claim = self.claim(lane, place)?;
        let work = self.run(lane, move || {
            let _claim = claim;
            work()
        });
        tokio::time::timeout(deadline, work).await.map_err(|_| Late::Deadline)
    }

    /// Claims a place for one piece of work, as [`run_at`](Self::run_at) does.
    ///
    /// # Errors
    /// [`Late::Earlier`].
    pub(super) fn claim(&self, lane: Lane, place: &Path) -> Result<Claim, Late> {
        Claim::new(&self.busy, (lane, place.to_owned())).ok_or(Late::Earlier)
    }

    /// Waits until one more program may run, for `server` if it is about one.
    pub async fn program(&self, server: Option<&[u8]>) -> ProgramPermit {
        let server = server.map(|name| self.server(name));
        let permit = match &server {
            Some(semaphore) => Arc::clone(semaphore).acquire_owned().await.ok(),
            None => None,
        };
        ProgramPermit { _server: (server, permit), _all: Arc::clone(&self.programs).acquire_owned().await.ok() }
    }

    fn server(&self, name: &[u8]) -> Arc<Semaphore> {
        let mut servers = lock(&self.servers);
        if let Some(semaphore) = servers.get(name).and_then(Weak::upgrade) {
            return semaphore;
        }
        servers.retain(|_, semaphore| semaphore.strong_count() > 0);
        let semaphore = Arc::new(Semaphore::new(self.per_server));
        servers.insert(name.to_vec(), Arc::downgrade(&semaphore));
        semaphore
    }
}

/// A place at which work is being done.
#[derive(Debug)]
pub(super) struct Claim {
    all: Arc<Mutex<HashSet<(Lane, PathBuf)>>>,
    this: (Lane, PathBuf),
}

impl Claim {
    fn new(all: &Arc<Mutex<HashSet<(Lane, PathBuf)>>>, this: (Lane, PathBuf)) -> Option<Self> {
        lock(all).insert(this.clone()).then(|| Self { all: Arc::clone(all), this })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.all).remove(&self.this);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().max_blocking_threads(Lanes::THREADS).build().unwrap().block_on(future)
    }

    #[test]
    fn hanging_mounts_do_not_keep_an_unmount_waiting() {
        let lanes = Arc::new(Lanes::default());
        let (release, hang) = mpsc::channel::<()>();
        let hang = Arc::new(Mutex::new(hang));
        block_on(async {
            for _ in 0..100 {
                let (lanes, hang) = (Arc::clone(&lanes), Arc::clone(&hang));
                tokio::spawn(async move { lanes.run(Lane::Mount, move || lock(&hang).recv().is_ok()).await });
            }
            tokio::task::yield_now().await;
            let umount = lanes.run(Lane::Umount, || 42);
            assert_eq!(tokio::time::timeout(Duration::from_secs(5), umount).await, Ok(42));
            drop(release);
        });
    }

    #[test]
    fn late_work_keeps_its_place() {
        let lanes = Lanes::default();
        let (release, hang) = mpsc::channel::<()>();
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(5));
        block_on(async {
            let late = lanes.run_at(Lane::Umount, Path::new("/x"), short, move || hang.recv().is_ok()).await;
            assert_eq!(late, Err(Late::Deadline));
            assert_eq!(lanes.run_at(Lane::Umount, Path::new("/x"), long, || 1).await, Err(Late::Earlier));
            assert_eq!(lanes.run_at(Lane::Umount, Path::new("/y"), long, || 2).await, Ok(2));
            drop(release);
            while lanes.run_at(Lane::Umount, Path::new("/x"), long, || 3).await != Ok(3) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }

    #[test]
    fn one_server_cannot_take_all_programs() {
        let lanes = Lanes::default();
        block_on(async {
            let mut held = Vec::new();
            for _ in 0..lanes.per_server {
                held.push(lanes.program(Some(b"dead")).await);
            }
            let short = Duration::from_millis(20);
            assert!(tokio::time::timeout(short, lanes.program(Some(b"dead"))).await.is_err());
            assert!(tokio::time::timeout(short, lanes.program(Some(b"alive"))).await.is_ok());
            assert!(tokio::time::timeout(short, lanes.program(None)).await.is_ok());
        });
    }
}
