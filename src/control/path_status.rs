//! The state of one path.

use serde::{Deserialize, Serialize};

use super::Bytes;
use super::history::Request;

/// The reason in a [`PathStatus`] of a mounted entry whose file system does not answer.
pub const SILENT: &str = "the file system does not answer";

/// State of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathState {
    /// It is mounted.
    Mounted,
    /// The maps are being asked, or it is being mounted.
    Mounting,
    /// It is being unmounted.
    Unmounting,
    /// It failed a short while ago, and fails at once until the negative timeout is over.
    Failed,
    /// No file system is mounted there; an access asks the maps.
    Idle,
    /// A mount point below it makes it a plain directory: an access does not ask the maps.
    Hidden,
    /// No file system is mounted there, and `Block` lets accesses fail.
    Blocked,
}

/// What has become of the daemon's own mount where another process has mounted a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Foreign {
    /// It is below that file system.
    Over,
    /// There is none.
    Instead,
}

impl Foreign {
    /// Returns it as the end of a sentence.
    pub fn text(self) -> &'static str {
        match self {
            Self::Over => "mounted by another process, over what the daemon has mounted",
            Self::Instead => "mounted by another process, not by the daemon",
        }
    }
}

/// The reply to `StatusOf`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStatus {
    /// The path of the entry: the asked path, or one above it.
    pub path: Bytes,
    /// The mount point it belongs to; `/-` for a direct map.
    pub mount_point: Bytes,
    /// The maps.
    pub maps: Vec<Bytes>,
    /// The state.
    pub state: PathState,
    /// Seconds for which it has been mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mounted_for: Option<u64>,
    /// Number of requests that wait for it.
    pub waiting: u64,
    /// Seconds for which it fails at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative_for: Option<u64>,
    /// Seconds until it is unmounted when it is unused; 0 means never.
    pub timeout: u64,
    /// Type, source and options of the mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<[Bytes; 3]>,
    /// The file system there was mounted by another process: over the daemon's own, or in its place. `what` describes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign: Option<Foreign>,
    /// Why no path leads to it, or none in the mount namespace of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable: Option<String>,
    /// Why it failed, or could not be unmounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The last request to mount it, if it is kept and the caller may see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
}
