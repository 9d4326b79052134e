//! What is to be done for a request, as data: printable, comparable, and executed elsewhere.
//!
//! [`build()`] makes a [`Plan`] of an entry of a map. What it has to know about hosts, [`hosts`] names beforehand, for
//! somebody who may wait for a name server.

mod build;
mod context;
mod method;
mod nfs;
mod print;
#[cfg(test)]
mod recorded;
mod submount;

pub use build::{build, hosts};
pub use context::{Context, Facts, Host};

use std::path::PathBuf;
use std::sync::Arc;

use crate::map::{MasterOptions, Propagation, SourceSpec};

/// What happens at one place, and the triggers that then stand below it. The plan of a multi-mount is a tree of
/// these; only the top one is carried out at once, each offset when it is accessed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The place: `/mnt/key`, the path of a direct mount, or the full path of an offset.
    pub at: PathBuf,
    /// What is done there.
    pub action: Action,
    /// The offset triggers installed after the action, none above another, in order of their paths.
    pub offsets: Vec<Arc<Plan>>,
    /// `strict`: any failing part fails the whole. Else the rest goes on without it.
    pub strict: bool,
}

/// What is done at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing but directories for the offsets: a multi-mount without a root.
    Nothing,
    /// Mounts, tried in order until one succeeds (replicas; a local bind before its NFS way).
    Mount(Vec<Mount>),
    /// A symbolic link in place of the directory, to this text.
    Symlink(Vec<u8>),
    /// Another indirect autofs mount with a map of its own.
    Autofs(Submount),
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `bind`, or the type as the kernel or a helper `mount.TYPE` knows it.
    pub fstype: Vec<u8>,
    /// What is mounted; the path for a bind.
    pub source: Vec<u8>,
    /// Options as given to `-o`, joined by commas; empty: none.
    pub options: Vec<u8>,
    /// Where a bind mount passes mounts on to; only for binds.
    pub propagation: Propagation,
    /// Check the device first with `fsck.TYPE`; only for ext2, ext3, ext4.
    pub fsck: Option<Fsck>,
}

/// How `fsck` is run before a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsck {
    /// `-p`: repair what is safe.
    Preen,
    /// `-n`: look only, as the mount is read-only.
    ReadOnly,
}

/// An indirect autofs mount inside another: `-fstype=autofs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submount {
    /// Its map.
    pub source: SourceSpec,
    /// Its options, those of the parent included.
    pub options: MasterOptions,
}
