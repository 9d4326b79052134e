//! The results of calls.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Problem;
use super::Reloaded;
use super::interface::{INTERFACE, SERVICE, object};
use super::{
    Activity, Blocked, Bytes, Call, Expired, Explanation, Flushed, Foreign, History, Level, LogLevelSet, Metrics, Mode,
    PathStatus,
};

/// The result of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "described at the types")]
pub enum Answer {
    Pong(Pong),
    Status(Status),
    Mounts(Mounts),
    Activity(Activity),
    Explanation(Box<Explanation>),
    History(History),
    PathStatus(Box<PathStatus>),
    Metrics(Metrics),
    Quiesced(Quiesced),
    Checks(Checks),
    Reloaded(Reloaded),
    Expired(Expired),
    Flushed(Flushed),
    Blocked(Blocked),
    LogLevelSet(LogLevelSet),
    /// The operation is done or has begun.
    Done,
    Info(Info),
    Description(Description),
}

impl Answer {
    pub(super) fn to_wire(&self) -> serde_json::Result<Map<String, Value>> {
        match self {
            Self::Pong(a) => object(a),
            Self::Status(a) => object(a),
            Self::Mounts(a) => object(a),
            Self::Activity(a) => object(a),
            Self::Explanation(a) => object(&**a),
            Self::History(a) => object(a),
            Self::PathStatus(a) => object(a),
            Self::Metrics(a) => object(a),
            Self::Quiesced(a) => object(a),
            Self::Checks(a) => object(a),
            Self::Reloaded(a) => object(a),
            Self::Expired(a) => object(a),
            Self::Flushed(a) => object(a),
            Self::Blocked(a) => object(a),
            Self::LogLevelSet(a) => object(a),
            Self::Done => Ok(Map::new()),
            Self::Info(a) => object(a),
            Self::Description(a) => object(a),
        }
    }

    pub(super) fn from_wire(parameters: Map<String, Value>, call: &Call) -> serde_json::Result<Self> {
        let value = Value::Object(parameters);
        Ok(match call {
            Call::Ping => Self::Pong(serde_json::from_value(value)?),
            Call::Status => Self::Status(serde_json::from_value(value)?),
            Call::Mounts => Self::Mounts(serde_json::from_value(value)?),
            Call::Activity => Self::Activity(serde_json::from_value(value)?),
            Call::Explain(_) => Self::Explanation(serde_json::from_value(value)?),
            Call::History(_) => Self::History(serde_json::from_value(value)?),
            Call::StatusOf { .. } => Self::PathStatus(serde_json::from_value(value)?),
            Call::Metrics => Self::Metrics(serde_json::from_value(value)?),
            Call::Quiesce(_) => Self::Quiesced(serde_json::from_value(value)?),
            Call::MigrateCheck => Self::Checks(serde_json::from_value(value)?),
            Call::Reload(_) => Self::Reloaded(serde_json::from_value(value)?),
            Call::Expire(_) => Self::Expired(serde_json::from_value(value)?),
            Call::Flush(_) => Self::Flushed(serde_json::from_value(value)?),
            Call::Block(_) | Call::Unblock { .. } => Self::Blocked(serde_json::from_value(value)?),
            Call::SetLogLevel(_) => Self::LogLevelSet(serde_json::from_value(value)?),
            Call::Upgrade | Call::Detach | Call::Clean | Call::Resume => Self::Done,
            Call::GetInfo => Self::Info(serde_json::from_value(value)?),
            Call::GetInterfaceDescription { .. } => Self::Description(serde_json::from_value(value)?),
        })
    }
}

/// The reply to `Ping`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// Version of the daemon.
    pub version: String,
    /// Process id of the daemon (the keeper), as in the pid file.
    pub pid: u32,
}

/// The state of the daemon and of its mount points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Process id of the daemon (the keeper), as in the pid file.
    pub pid: u32,
    /// Seconds since the current worker began to serve.
    pub uptime: u64,
    /// When the daemon was started, in seconds since 1970.
    #[serde(default)]
    pub since: u64,
    /// How many workers have died and were replaced.
    #[serde(default)]
    pub deaths: u32,
    /// The last of these deaths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_death: Option<Death>,
    /// Seconds since the maps were last read.
    pub reloaded: u64,
    /// How many times this daemon was restored from a checkpoint.
    #[serde(default)]
    pub restores: u32,
    /// Set while the daemon is quiesced for a checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Rest>,
    /// The mount points in the order of the master map.
    pub mount_points: Vec<MountPoint>,
    /// The paths that are blocked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<Blocked>,
    /// The lines of the master map that are not served, and the autofs mounts that are not as the maps want them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// The lines of the master map that have no effect, because an earlier line is for the same mount point.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without_effect: Vec<Problem>,
}

/// The death of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// When the next worker was started, in seconds since 1970.
    pub at: u64,
    /// How it has ended.
    pub why: String,
}

/// The state of a daemon that is quiesced for a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// The mode of the autofs mounts.
    pub mode: Mode,
    /// Whether the checkpoint can be made. `false` while operations are still in progress.
    pub ready: bool,
    /// Seconds until the daemon resumes by itself.
    pub lease: u64,
}

/// The reply to `Quiesce`: the checkpoint can be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiesced {
    /// The mode of the autofs mounts.
    pub mode: Mode,
    /// The number of autofs mounts.
    pub autofs_mounts: u32,
    /// The unmounted entries. They are mounted again at the first access.
    pub unmounted: Vec<Bytes>,
    /// Seconds until the daemon resumes by itself.
    pub lease: u64,
}

/// The conditions of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// All checked conditions.
    pub checks: Vec<Check>,
}

/// One condition of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The short name of the condition.
    pub id: String,
    /// The result of the check.
    pub verdict: Verdict,
    /// The fact that was checked, or the reason for a failure.
    pub what: String,
    /// How to meet the condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// The result of checking a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The condition is met.
    Pass,
    /// The condition will be met after a quiesce.
    Quiesce,
    /// The condition is not met.
    Fail,
}

/// A mount point in the master map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// The path; `/-` for a direct map.
    pub path: Bytes,
    /// Indirect or direct.
    pub kind: MountKind,
    /// The maps as written in the master map, e.g. `file:/etc/auto.home`.
    pub maps: Vec<Bytes>,
    /// Seconds until an unused mount is unmounted; 0 means never.
    pub timeout: u64,
    /// The number of mounted entries.
    pub mounted: u32,
    /// The number of mount points of a direct map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u32>,
    /// The number of unanswered requests.
    pub waiting: u32,
    /// The number of keys that have failed a short while ago and fail at once.
    #[serde(default)]
    pub failing: u32,
    /// The log level.
    pub log_level: Level,
    /// Set if a service does not answer, and something older serves in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<StaleMap>,
    /// Whether the mount point of an indirect map is mounted; `problems` says why not.
    #[serde(default = "is_served", skip_serializing_if = "Clone::clone")]
    pub served: bool,
}

fn is_served() -> bool {
    true
}

/// Older content of a map that is served while its service does not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaleMap {
    /// When the service has answered last, in seconds since 1970.
    pub since: u64,
    /// Why the service was not able to answer when it was asked last.
    pub reason: String,
}

/// The kind of a mount point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// The keys are names below the mount point.
    Indirect,
    /// The keys are the mount points.
    Direct,
    /// An indirect mount at an entry of another map.
    Submount,
}

/// The reply to `Mounts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounts {
    /// All mounted entries, sorted by path.
    pub mounts: Vec<Mounted>,
}

/// A file system that the daemon has mounted, or a symbolic link that it has made instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounted {
    /// The path.
    pub path: Bytes,
    /// The mount point it belongs to; `/-` for a direct map.
    pub mount_point: Bytes,
    /// The type as in the map: `bind` for bind mounts, `symlink` for symbolic links, `autofs` for submounts.
    pub fstype: Bytes,
    /// The source.
    pub source: Bytes,
    /// For how many seconds it has been mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mounted_for: Option<u64>,
    /// The file system there was mounted by another process: over the daemon's own, or in its place. `fstype` and `source` describe it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign: Option<Foreign>,
}

/// The reply to `GetInfo` of Varlink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// The vendor.
    pub vendor: String,
    /// The product name.
    pub product: String,
    /// The version.
    pub version: String,
    /// The address of the project.
    pub url: String,
    /// The names of the interfaces.
    pub interfaces: Vec<String>,
}

impl Info {
    /// Returns the information about this program.
    pub fn own() -> Self {
        Self {
            vendor: "autofs-rs".to_owned(),
            product: "automount".to_owned(),
            version: env!("AUTOFS_VERSION").to_owned(),
            url: String::new(),
            interfaces: vec![SERVICE.to_owned(), INTERFACE.to_owned()],
        }
    }
}

/// An interface in Varlink's definition language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The text.
    pub description: String,
}
