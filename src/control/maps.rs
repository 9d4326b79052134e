//! The maps and their entries, as `autofsctl maps` prints them.

use serde::Serialize;

use super::{Bytes, MountKind, Place, PlanTree};

/// The maps of the lines of the master map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MapList {
    /// A map for each line, in the order of the master map.
    pub maps: Vec<ListedMap>,
}

/// The map of a line of the master map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedMap {
    /// The map, as the line names it.
    pub map: Bytes,
    /// The mount point; `/-` for a direct map.
    pub mount_point: Bytes,
    /// Whether it is a direct map.
    pub kind: MountKind,
    /// Position of the line.
    pub line: Place,
    /// The number of keys with an entry. `None` if the map cannot be read, or is asked for each key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<u64>,
    /// Whether the map is asked for each key, so that keys are not listed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub on_demand: bool,
    /// Why the map cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The entries, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<Vec<ListedEntry>>,
}

/// An entry of a map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedEntry {
    /// The key, or what a wildcard serves.
    pub key: Bytes,
    /// Position of the entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The entry as written.
    pub entry: Bytes,
    /// The mounts that an access would make, with variables, defaults and options of the master map. Not for wildcards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanTree>,
    /// Errors and warnings about the plan.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}
