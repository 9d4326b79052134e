//! Constant lookups of every kind, none of which may fail or take long.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use crate::common::{secs, visit, wait_for};

/// What is looked up, `#` is another number each time; and whether it exists.
const KINDS: [(&str, bool); 6] = [
    ("/auto/new#", true),
    ("/auto/mounted", true),
    ("/auto/tree/a/b", true),
    ("/d/two", true),
    ("/few/one", true),
    ("/few/none#", false),
];

/// Between two lookups of a thread.
const PAUSE: Duration = Duration::from_millis(2);

/// How long one may take: what waits while the keeper's program is replaced has to be served soon after.
const SLOW: Duration = Duration::from_secs(5);

/// A thread for each kind.
pub struct Lookups {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<(u64, Vec<String>)>>,
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
            let over = Arc::clone(&over);
            std::thread::spawn(move || look_up(path, exists, &over))
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
        self.over.store(true, Ordering::Relaxed);
        let mut failed = Vec::new();
        for (thread, (path, _)) in self.threads.into_iter().zip(KINDS) {
            wait_for(&format!("an answer to a lookup of {path}"), secs(20), || thread.is_finished().then_some(()));
            let (lookups, wrong) = thread.join().unwrap();
            assert!(lookups > 10, "only {lookups} lookups of {path}");
            failed.extend(wrong);
        }
        assert!(
            failed.is_empty(),
            "{what}: {} lookups have failed: {:#?}",
            failed.len(),
            &failed[..failed.len().min(9)]
        );
    }
}

/// How many there were, and what was wrong.
fn look_up(path: &str, exists: bool, over: &AtomicBool) -> (u64, Vec<String>) {
    let (mut count, mut wrong) = (0, Vec::new());
    let started = Instant::now();
    while !over.load(Ordering::Relaxed) {
        let path = PathBuf::from(path.replace('#', &count.to_string()));
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
        count += 1;
        std::thread::sleep(PAUSE);
    }
    (count, wrong)
}

/// Goes in; whether what the maps say is mounted there.
fn mounted(path: &Path) -> io::Result<bool> {
    visit::enter_now(path)?;
    Ok(statfs(path).map_err(io::Error::from)?.filesystem_type() == TMPFS_MAGIC)
}
