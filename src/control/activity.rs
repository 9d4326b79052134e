//! Current work of the daemon.

use serde::{Deserialize, Serialize};

use super::Bytes;

/// The reply to `Activity`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Activity {
    /// The requests that are not answered, the oldest first: those of all users for root, for others their own.
    pub requests: Vec<InFlight>,
    /// How many more there are.
    pub more: u64,
    /// Autofs mounts of the master map that are being mounted.
    pub attaching: u64,
    /// Autofs mounts of the master map that are being unmounted.
    pub detaching: u64,
    /// Entries that are looked up or mounted.
    pub mounting: u64,
    /// Entries that are being unmounted.
    pub unmounting: u64,
}

/// A request that is not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// The path.
    pub path: Bytes,
    /// The mount point it belongs to; `/-` for a direct map.
    pub mount_point: Bytes,
    /// Milliseconds since the packet came.
    pub age: u64,
    /// The process that waits.
    pub pid: u32,
    /// Its real user id.
    pub uid: u32,
    /// Its name. Empty if it cannot be read.
    #[serde(default)]
    pub comm: String,
}
