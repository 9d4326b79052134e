//! Continuous lookups of every kind. None may fail or take long.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use crate::common::{PATIENCE, secs, visit, wait_for};

/// What is looked up, `#` is another number each time; and whether it exists.
const KINDS: [(&str, bool); 6] = [
    ("/auto/new#", true),
    ("/auto/mounted", true),
    ("/auto/tree/a/b", true),
    ("/d/two", true),
    ("/few/one", true),
    ("/few/none#", false),
];

/// Between two lookups of a thread; and of one that looks up something new each time.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(20));

/// After so many, new ones are mounted ones: systemd keeps a unit for each mount, and gets slow with thousands of them.
const NEW: u64 = 600;

/// How many there are of each kind at least.
const ENOUGH: u64 = 10;

/// How long one may take: what waits while the keeper's program is replaced has to be served soon after.
const SLOW: Duration = secs(5 * PATIENCE as u64);

/// A thread for each kind of lookup, with the number of results so far and the errors at the end.
pub struct Lookups {
    over: Arc<AtomicBool>,
    threads: Vec<(Arc<AtomicU64>, JoinHandle<Vec<String>>)>,
}

impl Lookups {
    /// Begins; returns when all kinds have been looked up once.
    #[track_caller]
    pub fn begin() -> Self {
        for (path, exists) in KINDS {
            assert_eq!(visit::enter(path).is_ok(), exists, "{path}");
        }
        let over = Arc::new(AtomicBool::new(false));
        let threads = KINDS.map(|(path, exists)| {
            let (over, answers) = (Arc::clone(&over), Arc::new(AtomicU64::new(0)));
            let count = Arc::clone(&answers);
            (answers, std::thread::spawn(move || look_up(path, exists, &over, &count)))
        });
        Self { over, threads: threads.into() }
    }

    /// A while of them.
    pub fn go_on(&self) {
        std::thread::sleep(Duration::from_millis(300));
    }

    /// Ends; a panic if one has failed. `what` has been going on meanwhile.
    #[track_caller]
    pub fn end(self, what: &str) {
        for ((answers, _), (path, _)) in self.threads.iter().zip(KINDS) {
            let enough = || (answers.load(Ordering::Relaxed) >= ENOUGH).then_some(());
            wait_for(&format!("{ENOUGH} answers to lookups of {path}"), secs(20), enough);
        }
        self.over.store(true, Ordering::Relaxed);
        let mut failed = Vec::new();
        for ((_, thread), (path, _)) in self.threads.into_iter().zip(KINDS) {
            wait_for(&format!("an answer to a lookup of {path}"), secs(20), || thread.is_finished().then_some(()));
            failed.extend(thread.join().unwrap());
        }
        let first = &failed[..failed.len().min(9)];
        assert!(failed.is_empty(), "{what}: {} lookups have failed: {first:#?}", failed.len());
    }
}

/// Makes lookups until the end, and returns the errors.
fn look_up(path: &str, exists: bool, over: &AtomicBool, answers: &AtomicU64) -> Vec<String> {
    let mut wrong = Vec::new();
    let started = Instant::now();
    let pause = if path.contains('#') { PAUSES.1 } else { PAUSES.0 };
    while !over.load(Ordering::Relaxed) {
        let number = answers.load(Ordering::Relaxed) % NEW;
        let path = PathBuf::from(path.replace('#', &number.to_string()));
        let began = Instant::now();
        let found = mounted(&path);
        let right = match &found {
            Ok(mounted) => exists && *mounted,
            Err(e) => !exists && e.raw_os_error() == Some(libc::ENOENT),
        };
        if !right || began.elapsed() > SLOW {
            let (at, took) = (started.elapsed(), began.elapsed());
            wrong.push(format!("{}: {found:?} at {at:?} after {took:?}", path.display()));
        }
        answers.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(pause);
    }
    wrong
}

/// Goes in; whether what the maps say is mounted there.
fn mounted(path: &Path) -> io::Result<bool> {
    visit::enter_now(path)?;
    Ok(statfs(path).map_err(io::Error::from)?.filesystem_type() == TMPFS_MAGIC)
}
