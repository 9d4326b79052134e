//! How a changed file is told from the same file.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::sys::path::Stat;

/// Identity and times of one content of a file. Two contents have the same stamp only when they were written within
/// one tick of the file system's clock; [`Stamp::may_hide_a_change`] tells when that may have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    dev: u64,
    ino: u64,
    size: u64,
    /// Seconds and nanoseconds since the epoch.
    mtime: (i64, u32),
    /// Likewise. Set by the kernel at each change: touch(1) and rsync(1), which set mtime, cannot hide behind it.
    ctime: (i64, u32),
    /// File type and permissions: an execute bit makes a program of a map.
    mode: u32,
}

/// The kernel stamps files with the time of its last timer tick, 10 ms at most (`CONFIG_HZ=100`); twice that for safety.
const TICK: Duration = Duration::from_millis(20);

/// File systems that keep whole seconds (ext3, small inodes of ext4) or even ones (FAT).
const COARSE: Duration = Duration::from_millis(2100);

impl Stamp {
    /// The stamp of what stat(2) said.
    pub fn of(stat: &Stat) -> Self {
        let &Stat { dev, ino, size, mtime, ctime, mode, .. } = stat;
        Self { dev, ino, size, mtime, ctime, mode }
    }

    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether the owner may execute the file.
    pub fn is_executable(&self) -> bool {
        self.mode & 0o100 != 0
    }

    /// Whether a bit of execution is set, so that root may execute the file.
    pub fn can_be_run(&self) -> bool {
        self.mode & 0o111 != 0
    }

    /// How long ago the content changed; `None` when the clock says: in the future.
    pub fn age(&self, now: SystemTime) -> Option<Duration> {
        let since_epoch = Duration::from_secs(u64::try_from(self.ctime.0).ok()?);
        let changed = UNIX_EPOCH.checked_add(since_epoch)?.checked_add(Duration::from_nanos(self.ctime.1.into()))?;
        now.duration_since(changed).ok()
    }

    /// How old a content must be so that no later change can have its stamp.
    pub fn tick(&self) -> Duration {
        if self.ctime.1 == 0 { COARSE } else { TICK }
    }

    /// Whether what was read at `now` may be changed again without a new stamp.
    pub fn may_hide_a_change(&self, now: SystemTime) -> bool {
        // A time in the future comes from a clock that was set back: what changes from now on has an earlier time.
        self.age(now).is_some_and(|age| age < self.tick())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(ctime: (i64, u32)) -> Stamp {
        Stamp { dev: 1, ino: 2, size: 3, mtime: (0, 0), ctime, mode: 0o100_644 }
    }

    #[test]
    fn a_content_is_settled_when_the_clock_has_moved_on() {
        let at = |ms| UNIX_EPOCH + Duration::from_millis(ms);
        let fine = stamp((100, 500_000_000));
        assert!(fine.may_hide_a_change(at(100_505)));
        assert!(!fine.may_hide_a_change(at(100_520)));
        assert!(!fine.may_hide_a_change(at(90_000)));
        let coarse = stamp((100, 0));
        assert!(coarse.may_hide_a_change(at(101_900)));
        assert!(!coarse.may_hide_a_change(at(102_100)));
        assert!(!stamp((-5, 0)).may_hide_a_change(at(0)));
        assert!(!stamp((i64::MAX, 999_999_999)).may_hide_a_change(at(0)));
    }

    #[test]
    fn every_kind_of_change_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("map");
        let read = || Stamp::of(&crate::sys::path::stat(&path).unwrap());
        std::fs::write(&path, "a x\n").unwrap();
        let first = read();
        assert_eq!(first, read());
        assert!(!first.is_executable());
        std::fs::write(&path, "a xy\n").unwrap();
        let second = read();
        assert_ne!(first, second);
        std::fs::write(dir.path().join("new"), "a xz\n").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert_ne!(second, read());
    }
}
