//! What the daemon answers.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::interface::{INTERFACE, SERVICE, object};
use super::plan::PlanTree;
use super::{Bytes, Call, Level, Mode};

/// The answer to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the types say it")]
pub enum Answer {
    Pong(Pong),
    Status(Status),
    Mounts(Mounts),
    Explanation(Explanation),
    Quiesced(Quiesced),
    Checks(Checks),
    /// It is done, or has begun.
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
            Self::Explanation(a) => object(a),
            Self::Quiesced(a) => object(a),
            Self::Checks(a) => object(a),
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
            Call::Explain { .. } => Self::Explanation(serde_json::from_value(value)?),
            Call::Quiesce(_) => Self::Quiesced(serde_json::from_value(value)?),
            Call::MigrateCheck => Self::Checks(serde_json::from_value(value)?),
            Call::Reload
            | Call::Upgrade
            | Call::Detach
            | Call::Expire { .. }
            | Call::SetLogLevel { .. }
            | Call::Resume => Self::Done,
            Call::GetInfo => Self::Info(serde_json::from_value(value)?),
            Call::GetInterfaceDescription { .. } => Self::Description(serde_json::from_value(value)?),
        })
    }
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// Version of the daemon.
    pub version: String,
    /// Process id of the daemon (the keeper), as in the pid file.
    pub pid: u32,
}

/// The daemon and its mount points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Process id of the daemon (the keeper), as in the pid file.
    pub pid: u32,
    /// Seconds since the daemon (or its last successor after a crash or an upgrade) has begun to serve.
    pub uptime: u64,
    /// Seconds since the maps were last read.
    pub reloaded: u64,
    /// How often this daemon has come back from a checkpoint.
    #[serde(default)]
    pub restores: u32,
    /// The daemon rests for a checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Rest>,
    /// The mount points in the order of the master map.
    pub mount_points: Vec<MountPoint>,
}

/// The rest for a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// What has become of the autofs mounts.
    pub mode: Mode,
    /// False: not all has come to rest yet.
    pub ready: bool,
    /// Seconds until the daemon goes on by itself.
    pub lease: u64,
}

/// The daemon has come to rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiesced {
    /// What has become of the autofs mounts.
    pub mode: Mode,
    /// How many autofs mounts there are.
    pub autofs_mounts: u32,
    /// What was unmounted; it is mounted again on the first access.
    pub unmounted: Vec<Bytes>,
    /// Seconds until the daemon goes on by itself.
    pub lease: u64,
}

/// What stands in the way of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// All that was looked at.
    pub checks: Vec<Check>,
}

/// One condition of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its short name.
    pub id: String,
    /// Whether it is met.
    pub verdict: Verdict,
    /// What was looked at, or what is wrong.
    pub what: String,
    /// What can be done about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// Whether a condition is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is.
    Pass,
    /// It will be after a quiesce.
    Quiesce,
    /// It is not.
    Fail,
}

/// A line of the master map that is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// Its path; `/-` stands for all keys of a direct map.
    pub path: Bytes,
    /// Indirect or direct.
    pub kind: MountKind,
    /// Its maps as the master map names them, e.g. `file:/etc/auto.home`.
    pub maps: Vec<Bytes>,
    /// Seconds until an unused mount goes; 0 = never.
    pub timeout: u64,
    /// Entries that are mounted now.
    pub mounted: u32,
    /// Requests of the kernel that are not answered yet.
    pub waiting: u32,
    /// How much is logged about it.
    pub log_level: Level,
}

/// The kind of a mount point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// The keys are names below the mount point.
    Indirect,
    /// The keys are the mount points.
    Direct,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounts {
    /// Every file system that the daemon has mounted, by path.
    pub mounts: Vec<Mounted>,
}

/// A file system that the daemon has mounted, or a link that it made in place of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounted {
    /// Where.
    pub path: Bytes,
    /// Below which mount point (`/-`: direct).
    pub mount_point: Bytes,
    /// Type as in the map (`bind` for bind mounts, `symlink` for links, `autofs` for submounts).
    pub fstype: Bytes,
    /// What.
    pub source: Bytes,
}

/// What an access to a path would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The path that was asked about.
    pub path: Bytes,
    /// The mount point that serves it (`/-`: direct).
    pub mount_point: Bytes,
    /// Its kind.
    pub kind: MountKind,
    /// The key that is looked up.
    pub key: Bytes,
    /// The maps that are asked, in order.
    pub maps: Vec<Bytes>,
    /// What they say.
    pub outcome: Outcome,
    /// File and line (and column) of the entry, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Bytes>,
    /// The entry as it stands in the map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<Bytes>,
    /// What would be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanTree>,
    /// What is wrong or doubtful on the way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What the maps say of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// This is to be done.
    Found,
    /// No map has it.
    NotFound,
    /// A map has it, but nothing can be made of it.
    Invalid,
    /// No map could be asked.
    Unavailable,
}

/// Varlink's self-description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Who made it.
    pub vendor: String,
    /// What it is.
    pub product: String,
    /// Which version.
    pub version: String,
    /// Where to read about it.
    pub url: String,
    /// What it speaks.
    pub interfaces: Vec<String>,
}

impl Info {
    /// Of this program.
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
