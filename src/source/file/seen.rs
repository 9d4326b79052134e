//! How a change of a file is recognized without waiting.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use crate::sys::path::{self, Stat};

use super::Stamp;
use super::read::Content;

/// State of the path at the last load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::source) enum Seen {
    /// The state could not be determined.
    #[default]
    Unknown,
    /// This version, which can be recognized without waiting.
    Version(Stamp),
    /// This version, but only reading tells whether it is still the same.
    Unsettled(Stamp),
    /// This version, on a file system that may wait.
    Remote(Stamp),
    /// There is no file.
    Absent,
    /// It did not look: the map is included by itself, or for a second time.
    Skipped,
}

impl Seen {
    /// Returns the state that reading has found.
    pub(in crate::source) fn of(content: &Content) -> Self {
        Self::version(content.stamp, content.settled, content.local)
    }

    /// A version with this stamp. It is `settled` if no later change can have the same stamp, and `local` if its
    /// attributes can be read without waiting.
    pub(in crate::source) fn version(stamp: Stamp, settled: bool, local: bool) -> Self {
        match (settled, local) {
            (false, _) => Self::Unsettled(stamp),
            (true, true) => Self::Version(stamp),
            (true, false) => Self::Remote(stamp),
        }
    }

    /// Whether the path may lead to something else by now. Never waits.
    pub(in crate::source) fn may_differ(self, path: &Path) -> bool {
        match self {
            Self::Unknown | Self::Unsettled(_) | Self::Remote(_) => true,
            Self::Skipped => false,
            Self::Version(stamp) => !cached_stat(path).is_ok_and(|stat| Stamp::of(&stat) == stamp),
            Self::Absent => !cached_stat(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound),
        }
    }
}

/// Returns the attributes of a path that the kernel has in its caches.
fn cached_stat(path: &Path) -> io::Result<Stat> {
    path::fstat(path::open_cached(path)?.as_fd())
}
