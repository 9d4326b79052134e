//! The history: the requests that were answered, and what has happened to the daemon. The daemon stores the same values that
//! it answers with.

use serde::{Deserialize, Serialize};

use super::Bytes;

/// The parameters of `History`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HistoryQuery {
    /// Only requests for this path, and for paths below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Bytes>,
    /// Only the request with this number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// Only requests that failed.
    pub failed: bool,
    /// Only what happened in so many seconds before now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Events of the daemon in place of requests.
    pub daemon: bool,
    /// Only requests and events after these numbers, both kinds. If there are none, the answer waits for them for some time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Position>,
}

/// Position of a reader in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The number of the last request.
    pub request: u64,
    /// The number of the last event.
    pub event: u64,
}

/// The reply to `History`, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// The requests.
    pub requests: Vec<Request>,
    /// The events of the daemon.
    pub events: Vec<DaemonEvent>,
    /// How many requests the query has found, each repetition counted.
    pub counted: u64,
    /// How many of them have failed.
    pub failed: u64,
    /// When the oldest request that is kept was made: milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<u64>,
    /// How many requests are kept.
    pub kept: u64,
    /// The newest request and event.
    pub position: Position,
    /// Requests and events after the given position that are not kept any more.
    #[serde(default)]
    pub lost: u64,
}

/// Kinds of requests of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Asked {
    /// To mount: a process looks up a path.
    Mount,
    /// To unmount what is unused.
    Expire,
}

/// A request of the kernel that was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its number.
    #[serde(default)]
    pub id: u64,
    /// Kind of the request.
    pub asked: Asked,
    /// When the packet came: milliseconds since 1970.
    pub at: u64,
    /// From the packet to the answer, in microseconds.
    pub took: u64,
    /// How many requests of the same user for the same path were answered in the same way.
    #[serde(default)]
    pub count: u32,
    /// When the last of them was answered: milliseconds since 1970.
    #[serde(default)]
    pub last: u64,
    /// The path.
    pub path: Bytes,
    /// The mount point it belongs to; `/-` for a direct map.
    pub mount_point: Bytes,
    /// The map.
    pub map: Bytes,
    /// The file, line and column of the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Bytes>,
    /// The entry as written in the map, secrets masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<Bytes>,
    /// The process that has asked.
    #[serde(rename = "for")]
    pub who: Requester,
    /// The errno that the process got. Without one, the request has succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// Why it failed, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Until when further requests fail at once: milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative_until: Option<u64>,
    /// Steps that were taken, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// The programs that were run, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<ProgramRun>,
}

impl Request {
    /// Returns whether a lookup has failed. An expire request of something that is in use has not.
    pub fn is_failure(&self) -> bool {
        self.asked == Asked::Mount && self.errno.is_some()
    }
}

/// The process that has caused a request. Ids are as the daemon sees them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Requester {
    /// The thread.
    pub pid: u32,
    /// The process.
    pub tgid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// The name of the process. Empty if it had ended before it could be read.
    #[serde(default)]
    pub comm: String,
    /// Its parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Process>,
    /// Its control group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub comm: String,
}

/// One step of serving a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Microseconds after the packet.
    pub after: u64,
    /// The step, as a sentence.
    pub what: String,
}

/// A program that was run for a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramRun {
    /// Its path and arguments, secrets masked.
    pub command: Vec<Bytes>,
    /// How it ended.
    pub exit: String,
    /// Its standard error: the first 4 KiB, secrets masked.
    pub stderr: Bytes,
    /// How long it ran, in microseconds.
    pub took: u64,
}

/// Something that has happened to the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonEvent {
    /// Its number.
    #[serde(default)]
    pub id: u64,
    /// When: milliseconds since 1970.
    pub at: u64,
    /// Kind of the event.
    pub kind: EventKind,
    /// One sentence.
    pub message: String,
    /// The mount point that is not served from now on, or the path of the line that is not, if this is the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unserved: Option<Bytes>,
}

/// The kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The daemon has started.
    Start,
    /// A worker has died or was killed, and another one serves.
    WorkerDied,
    /// The program was replaced by another one.
    Upgrade,
    /// Configuration and maps were read again.
    Reload,
    /// A line of the master map is not served.
    Refused,
    /// A mount point is not as the maps want it.
    Trouble,
    /// A source of maps does not answer, or answers again.
    Source,
    /// A file server does not answer, or answers again.
    Server,
    /// A checkpoint was prepared, or restored.
    Checkpoint,
    /// A kind that this version does not know.
    #[serde(other)]
    Other,
}

impl EventKind {
    /// Returns the name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::WorkerDied => "worker died",
            Self::Upgrade => "upgrade",
            Self::Reload => "reload",
            Self::Refused => "refused",
            Self::Trouble => "trouble",
            Self::Source => "source",
            Self::Server => "server",
            Self::Checkpoint => "checkpoint",
            Self::Other => "other",
        }
    }
}
