//! Bounds on what waits: every piece of work that may wait has a lane of limited width, so that one kind of work that
//! hangs cannot take the threads of another.
//!
//! Above all, hanging mounts never keep an unmount waiting, and an expire run, which waits in the kernel until an
//! unmount has answered it, never shares a lane with unmounts. Programs are awaited without a thread and have bounds of
//! their own, one in all and one for each server.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

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
    /// Answers to the kernel that the reactor cannot give without waiting.
    Answer,
    /// Work inside of mounted file systems, whose servers may not answer.
    Inside,
}

impl Lane {
    const ALL: [Self; 7] =
        [Self::Lookup, Self::Mount, Self::Umount, Self::Expire, Self::Probe, Self::Answer, Self::Inside];

    /// How many threads it may take.
    fn width(self, limits: &Limits) -> usize {
        let limit = match self {
            Self::Lookup | Self::Probe => limits.lookups,
            Self::Mount => limits.mounts,
            Self::Umount | Self::Answer => limits.umounts,
            Self::Inside => return INSIDE,
            Self::Expire => limits.expires,
        };
        usize::try_from(limit.get()).unwrap_or(usize::MAX).min(WIDEST)
    }
}

/// Threads in a lane at most, whatever is configured.
const WIDEST: usize = 1024;

/// Threads that work inside of mounted file systems. Each server has a lower limit, so that one that hangs leaves threads for the others.
const INSIDE: usize = 256;

/// Work that has not ended for so long is shown as hanging.
const HANGS: Duration = Duration::from_secs(1);

/// Programs at a time: they take no thread.
const PROGRAMS: usize = 512;

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

type Servers = Mutex<HashMap<Vec<u8>, Weak<Semaphore>>>;

/// The lanes. One value for the whole process.
#[derive(Debug)]
pub struct Lanes {
    /// Each with its width and the number of pieces of work that have ended in it.
    lanes: HashMap<Lane, (Arc<Semaphore>, usize, Arc<AtomicU64>)>,
    programs: Arc<Semaphore>,
    servers: Servers,
    /// The same for threads that work inside of file systems.
    inside: Servers,
    hanging: Arc<Hanging>,
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
                .map(|(lane, width)| (lane, (Arc::new(Semaphore::new(width)), width, Arc::default())))
                .collect(),
            programs: Arc::new(Semaphore::new(PROGRAMS)),
            servers: Mutex::default(),
            inside: Mutex::default(),
            hanging: Arc::default(),
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
    /// Whether nothing is being done in any lane and no program runs.
    pub fn is_idle(&self) -> bool {
        let mut lanes = self.lanes.values();
        lanes.all(|(semaphore, width, _)| semaphore.available_permits() == *width)
            && self.programs.available_permits() == PROGRAMS
    }

    /// Does `work` on a thread of `lane` and waits for it as long as it takes. When the future is dropped, the work goes
    /// on and keeps its place in the lane.
    pub async fn run<T: Send + 'static>(&self, lane: Lane, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (permit, ended) = match self.lanes.get(&lane) {
            Some((semaphore, _, ended)) => (Arc::clone(semaphore).acquire_owned().await.ok(), Arc::clone(ended)),
            None => (None, Arc::default()),
        };
        blocking::run(move || {
            let _permit = permit;
            let done = work();
            ended.fetch_add(1, Ordering::Relaxed);
            done
        })
        .await
    }

    /// Waits until `work`, a call of [`run`](Self::run) in this lane, begins, which `begun` tells. Returns its result if it has ended by
    /// then.
    ///
    /// # Errors
    /// [`Late::Deadline`]: it has not begun, and no other work in the lane has ended for `deadline`, so that all that is before it hangs.
    pub(super) async fn turn<T>(
        &self,
        lane: Lane,
        mut work: Pin<&mut impl Future<Output = T>>,
        mut begun: oneshot::Receiver<()>,
        deadline: Duration,
    ) -> Result<Option<T>, Late> {
        let count = || self.lanes.get(&lane).map(|(_, _, ended)| ended.load(Ordering::Relaxed));
        let mut ended = count();
        loop {
            tokio::select! {
                done = &mut work => return Ok(Some(done)),
                _ = &mut begun => return Ok(None),
                () = tokio::time::sleep(deadline) => {}
            }
            let before = std::mem::replace(&mut ended, count());
            if ended == before {
                return Err(Late::Deadline);
            }
        }
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
        let work = self.run(
            lane,
            self.watched(place, move || {
                let _claim = claim;
                work()
            }),
        );
        tokio::time::timeout(deadline, work).await.map_err(|_| Late::Deadline)
    }

    /// As [`run_at`](Self::run_at), but the deadline begins with the work, which may first wait for its [`turn`](Self::turn) behind other
    /// work in the lane.
    pub(super) async fn run_in_turn<T: Send + 'static>(
        &self,
        lane: Lane,
        place: &Path,
        deadline: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Late> {
        let claim = self.claim(lane, place)?;
        let (begin, begun) = oneshot::channel();
        let work = self.run(
            lane,
            self.watched(place, move || {
                let _claim = claim;
                let _ = begin.send(());
                work()
            }),
        );
        tokio::pin!(work);
        if let Some(done) = self.turn(lane, work.as_mut(), begun, deadline).await? {
            return Ok(done);
        }
        tokio::time::timeout(deadline, work).await.map_err(|_| Late::Deadline)
    }

    /// Does `work` inside of the file system that is mounted at `place`, or is about to be, and depends on `server`. Waits at most
    /// `deadline`. Late work keeps one of the few threads of its server, and none of another.
    pub async fn run_inside<T: Send + 'static>(
        &self,
        server: &[u8],
        place: &Path,
        deadline: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Late> {
        let begun = async {
            let permit = self.server(&self.inside, server).acquire_owned().await.ok();
            self.run(
                Lane::Inside,
                self.watched(place, move || {
                    let _permit = permit;
                    work()
                }),
            )
            .await
        };
        tokio::time::timeout(deadline, begun).await.map_err(|_| Late::Deadline)
    }

    /// Returns the places at which work has not ended for one second, each with the number of threads that wait there.
    pub fn hanging(&self) -> BTreeMap<PathBuf, usize> {
        let mut places = BTreeMap::new();
        for (path, begun) in lock(&self.hanging.begun).values() {
            if begun.elapsed() >= HANGS {
                *places.entry(path.clone()).or_default() += 1;
            }
        }
        places
    }

    /// Makes work known to [`hanging`](Self::hanging) from its begin to its end.
    fn watched<T, F: FnOnce() -> T>(&self, place: &Path, work: F) -> impl FnOnce() -> T + use<T, F> {
        let (hanging, place) = (Arc::clone(&self.hanging), place.to_owned());
        move || {
            let number = hanging.next.fetch_add(1, Ordering::Relaxed);
            lock(&hanging.begun).insert(number, (place, Instant::now()));
            let done = work();
            lock(&hanging.begun).remove(&number);
            done
        }
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
        let server = server.map(|name| self.server(&self.servers, name));
        let permit = match &server {
            Some(semaphore) => Arc::clone(semaphore).acquire_owned().await.ok(),
            None => None,
        };
        ProgramPermit { _server: (server, permit), _all: Arc::clone(&self.programs).acquire_owned().await.ok() }
    }

    fn server(&self, servers: &Servers, name: &[u8]) -> Arc<Semaphore> {
        let mut servers = lock(servers);
        if let Some(semaphore) = servers.get(name).and_then(Weak::upgrade) {
            return semaphore;
        }
        servers.retain(|_, semaphore| semaphore.strong_count() > 0);
        let semaphore = Arc::new(Semaphore::new(self.per_server));
        servers.insert(name.to_vec(), Arc::downgrade(&semaphore));
        semaphore
    }
}

/// Work that has begun, by a number of its own.
#[derive(Debug, Default)]
struct Hanging {
    next: AtomicU64,
    begun: Mutex<HashMap<u64, (PathBuf, Instant)>>,
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
        builder.enable_all().build().unwrap().block_on(future)
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
    fn behind_work_that_hangs_the_wait_for_a_turn_ends() {
        let lanes = Lanes::new(&Limits { umounts: std::num::NonZeroU32::MIN, ..Limits::default() });
        let (release, hang) = mpsc::channel::<()>();
        let deadline = Duration::from_millis(20);
        block_on(async {
            let hangs = lanes.run_in_turn(Lane::Umount, Path::new("/x"), deadline, move || hang.recv().is_ok());
            assert_eq!(hangs.await, Err(Late::Deadline));
            let behind = lanes.run_in_turn(Lane::Umount, Path::new("/y"), deadline, || 1);
            assert_eq!(tokio::time::timeout(Duration::from_secs(5), behind).await, Ok(Err(Late::Deadline)));
            drop(release);
            let long = Duration::from_secs(5);
            assert_eq!(lanes.run_in_turn(Lane::Umount, Path::new("/y"), long, || 2).await, Ok(2));
        });
    }

    #[test]
    fn one_server_cannot_take_all_threads_inside() {
        let lanes = Lanes::default();
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(5));
        let place = Path::new("/x");
        block_on(async {
            let mut held = Vec::new();
            for _ in 0..lanes.per_server {
                let (release, hang) = mpsc::channel::<()>();
                held.push(release);
                let late = lanes.run_inside(b"dead", place, short, move || hang.recv().is_ok()).await;
                assert_eq!(late, Err(Late::Deadline));
            }
            assert_eq!(lanes.run_inside(b"dead", place, short, || 1).await, Err(Late::Deadline));
            assert_eq!(lanes.run_inside(b"alive", place, long, || 2).await, Ok(2));
            tokio::time::sleep(HANGS).await;
            assert_eq!(lanes.hanging(), BTreeMap::from([(place.to_owned(), lanes.per_server)]));
            drop(held);
            assert_eq!(lanes.run_inside(b"dead", place, long, || 3).await, Ok(3));
            while !lanes.hanging().is_empty() {
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
