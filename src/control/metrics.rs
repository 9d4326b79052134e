//! The counters of the daemon, since its start.

use serde::{Deserialize, Serialize};

use super::Bytes;

/// The reply to `Metrics`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Metrics {
    /// Upper bounds of the buckets of [`MountCounters::buckets`] in milliseconds. There is one more bucket, without a bound.
    pub bounds: Vec<u64>,
    /// Workers that have died or were killed.
    pub worker_deaths: u64,
    /// Times that the program was replaced by another one.
    pub upgrades: u64,
    /// Times that configuration and maps were read again.
    pub reloads: u64,
    /// The counters of each mount point.
    pub mounts: Vec<MountCounters>,
    /// Whether the last reading of configuration and maps has read all of them.
    #[serde(default)]
    pub reload_success: bool,
    /// The counters of each source of maps, since the start of the worker.
    #[serde(default)]
    pub sources: Vec<SourceCounters>,
}

/// The counters of a source of maps.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SourceCounters {
    /// The kind of the source, a colon, and the name of the map. Never a key.
    pub source: Bytes,
    /// Whether the last question was answered. Left out if the source was never there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<bool>,
    /// Questions that were asked.
    pub questions: u64,
    /// Questions without an answer that could be used.
    pub errors: u64,
    /// Keys that were answered from memory.
    pub cache_hits: u64,
    /// The time that all questions have taken, in microseconds.
    pub microseconds: u64,
}

/// The counters of a mount point.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MountCounters {
    /// The mount point; `/-` for direct maps.
    pub mount_point: Bytes,
    /// Lookups that have succeeded.
    pub mounted: u64,
    /// Lookups that have failed.
    pub failed: u64,
    /// Expire requests after which the entry was unmounted.
    pub expired: u64,
    /// Expire requests after which the entry stayed mounted.
    pub in_use: u64,
    /// Programs that were ended at their deadline.
    pub programs_killed: u64,
    /// The time that all lookups have taken, in microseconds.
    pub microseconds: u64,
    /// How many lookups have taken at most as long as each bound, and longer than the one before.
    pub buckets: Vec<u64>,
}
