//! Calls that change what the daemon does, and what they have done.

use serde::{Deserialize, Serialize};

use super::{Bytes, Level};

/// The parameters of `Expire`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expire {
    /// Only this mount point, or only the entry that contains this path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Bytes>,
    /// Only list what would be tried.
    pub dry_run: bool,
}

/// The reply to `Expire`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Expired {
    /// The paths that were unmounted; with `dry_run`, those that would be unmounted if they are unused.
    pub unmounted: Vec<Bytes>,
    /// The paths that are still mounted.
    pub in_use: Vec<Kept>,
}

/// A path that is still mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The path.
    pub path: Bytes,
    /// Why, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The parameters of `Flush`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flush {
    /// Only this key, or the keys of this mount point; without it, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Bytes>,
}

/// The reply to `Flush`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flushed {
    /// The paths that are tried again at their next access.
    pub forgotten: Vec<Bytes>,
}

/// The parameters of `Block`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// The path.
    pub path: Bytes,
    /// Seconds after which the block ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// Text that the log and `explain` show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub say: Option<String>,
}

/// A blocked path, and the reply to `Block` and `Unblock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// The path.
    pub path: Bytes,
    /// Text that the log and `explain` show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub say: Option<String>,
    /// When the block ends, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Mounts at or below the path. They stay usable until they are unmounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounted: Vec<Bytes>,
}

/// The parameters of `SetLogLevel`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetLogLevel {
    /// The mount point, or a path below it; `/-` for all direct mounts.
    pub path: Bytes,
    /// The new level.
    pub level: Level,
    /// Seconds after which the level of the configuration holds again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

/// The reply to `SetLogLevel`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLevelSet {
    /// The mount point.
    pub path: Bytes,
    /// The level before.
    pub before: Level,
    /// The level now.
    pub now: Level,
    /// Until when it holds, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}
