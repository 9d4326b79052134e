//! Prediction of an access to a path.

use serde::{Deserialize, Serialize};

use super::{Bytes, MountKind, Place, PlanTree};

/// The parameters of `Explain`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// The path.
    pub path: Bytes,
    /// The user who accesses it. Without it, the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The group of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Whether passwords are shown.
    #[serde(default)]
    pub secrets: bool,
}

/// The reply to `Explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The path in the call.
    pub path: Bytes,
    /// Whether an access would succeed, as far as that can be told without mounting.
    pub succeeds: bool,
    /// The result of an access, or the reason for its failure.
    pub answer: String,
    /// Position of the line that is the reason, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_place: Option<Place>,
    /// The mount point the path belongs to; `/-` for a direct map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_point: Option<Bytes>,
    /// The kind of the mount point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<MountKind>,
    /// Position of the line of the mount point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<Place>,
    /// Seconds until an unused mount is unmounted; 0 means never.
    pub timeout: u64,
    /// The maps, in the order of lookup.
    pub maps: Vec<Bytes>,
    /// The key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Bytes>,
    /// The result of the lookup.
    pub outcome: Outcome,
    /// Position of the entry, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The entry as written in the map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<Bytes>,
    /// The plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanTree>,
    /// The mount options of the first attempt, and where each is written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<OptionOrigin>,
    /// Errors and warnings, and what is known of the servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Explanation {
    /// Returns an explanation that says nothing yet.
    pub fn of(path: &Bytes) -> Self {
        Self {
            path: path.clone(),
            succeeds: false,
            answer: String::new(),
            answer_place: None,
            mount_point: None,
            kind: None,
            line: None,
            timeout: 0,
            maps: Vec::new(),
            key: None,
            outcome: Outcome::NotFound,
            place: None,
            entry: None,
            plan: None,
            options: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// The result of a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The key was found, and a plan was made.
    Found,
    /// The key is in no map.
    NotFound,
    /// The key was found, but no plan can be made of the entry.
    Invalid,
    /// No map could be read.
    Unavailable,
}

/// A mount option and its origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptionOrigin {
    /// The option.
    pub option: Bytes,
    /// Origin of the option.
    pub from: Origin,
    /// Position of the option, if it is written in a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// Origins of a mount option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The entry of the map.
    Entry,
    /// The line of the master map.
    Master,
    /// The command line of the daemon.
    CommandLine,
    /// The automounter itself.
    Automounter,
}
