//! Plans: what to mount for a request, as data that can be printed and compared. Plans are carried out elsewhere.
//!
//! [`build()`] makes a [`Plan`] from an entry of a map. It does not resolve host names: [`hosts`] returns the names it needs, and
//! the caller resolves them beforehand.

mod amd;
mod build;
mod context;
mod dice;
mod first;
mod method;
mod mount;
mod nfs;
mod print;
#[cfg(test)]
mod recorded;
mod requires;
mod restrict;
mod servers;
mod submount;

pub use build::{build, hosts};
pub use context::{Context, Facts, Host};
pub use dice::Dice;
pub use restrict::{Forbidden, Restriction};
pub use servers::{Proximity, Rule, Server, Tested, Wanted, Way, rank};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::map::{MasterOptions, Propagation, SourceSpec};

/// What happens at one place, and the triggers that then stand below it. The plan of a multi-mount is a tree of
/// these; only the top one is carried out at once, each offset when it is accessed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The place: `/mnt/key`, the path of a direct mount, or the full path of an offset.
    pub at: PathBuf,
    /// Action at this path.
    pub action: Action,
    /// The offset triggers installed after the action, none above another, in order of their paths.
    pub offsets: Vec<Arc<Plan>>,
    /// `strict`: any failing part fails the whole. Else the rest goes on without it.
    pub strict: bool,
    /// For an entry: seconds without use after which it is unmounted, if not those of its mount point; 0: never.
    pub timeout: Option<u64>,
    /// For an entry: paths that are accessed first, so that their file systems are mounted before it.
    pub requires: Vec<PathBuf>,
}

impl Plan {
    /// Inserts a plan for a path below this one as an offset at the right level. An existing offset with the same path is
    /// kept.
    pub fn graft(&mut self, below: Arc<Self>) {
        if let Some(offset) = self.offsets.iter_mut().find(|offset| below.at.starts_with(&offset.at)) {
            if offset.at != below.at {
                Arc::make_mut(offset).graft(below);
            }
            return;
        }
        let (covered, beside): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.offsets).into_iter().partition(|offset| offset.at.starts_with(&below.at));
        let mut below = below;
        for offset in covered {
            Arc::make_mut(&mut below).graft(offset);
        }
        self.offsets = beside;
        self.offsets.push(below);
        self.offsets.sort_unstable_by(|a, b| a.at.cmp(&b.at));
    }
}

/// Action at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Only directories for the offsets are made: a multi-mount without a root.
    Nothing,
    /// Mounts, tried in order until one succeeds (replicas; a local bind before its NFS way).
    Mount(Vec<FsMount>),
    /// A symbolic link in place of the directory, to this text.
    Symlink(Vec<u8>),
    /// Another indirect autofs mount with a map of its own.
    Autofs(Box<Submount>),
    /// The places of an entry with `||`, or the locations of one in am-utils format, tried in order until one succeeds.
    Leads(Vec<Leads>),
}

impl Action {
    /// Returns the submount, if one may be made.
    pub fn submount(&self) -> Option<&Submount> {
        match self {
            Self::Autofs(submount) => Some(submount),
            Self::Leads(leads) => leads.iter().flat_map(|lead| &lead.ways).find_map(Self::submount),
            Self::Nothing | Self::Mount(_) | Self::Symlink(_) => None,
        }
    }
}

/// A place of an entry with `||`, or a location of an entry in am-utils format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leads {
    /// File system that is mounted first, outside of the autofs mount.
    pub external: Option<External>,
    /// A path that must exist then.
    pub exists: Option<Vec<u8>>,
    /// How the key leads there: tried in order until one succeeds.
    pub ways: Vec<Action>,
    /// Locations after it are tried only if it is certain that this one does not exist, not if its server does not answer.
    pub decides: bool,
}

/// A file system that is mounted outside of autofs mounts, once for all entries that lead to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// Path of the mount.
    pub at: PathBuf,
    /// How.
    pub by: MountedBy,
}

/// How a file system outside is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountedBy {
    /// Mounts, tried in order until one succeeds.
    Mounts(Vec<FsMount>),
    /// A command of the map.
    Command {
        /// Mounts.
        mount: Command,
        /// Unmounts; without one, it is unmounted as others are.
        unmount: Option<Command>,
    },
}

impl MountedBy {
    /// Returns whether both lead to the same data: they mount the same sources, be it with other options.
    pub fn has_same_sources(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Mounts(own), Self::Mounts(others)) => {
                own.iter().map(|mount| &mount.source).eq(others.iter().map(|mount| &mount.source))
            }
            _ => self == other,
        }
    }
}

/// A command of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The path of the program.
    pub program: Vec<u8>,
    /// Its arguments; the first is what the program is called.
    pub arguments: Vec<Vec<u8>>,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsMount {
    /// `bind`, or the type as the kernel or a helper `mount.TYPE` knows it.
    pub fstype: Vec<u8>,
    /// Source of the mount; the path for a bind.
    pub source: Vec<u8>,
    /// Options as given to `-o`, joined by commas; empty: none.
    pub options: Vec<u8>,
    /// Propagation of a bind mount.
    pub propagation: Propagation,
    /// Check the device first with `fsck.TYPE`; only for ext2, ext3, ext4.
    pub fsck: Option<Fsck>,
    /// The server, where one of several may be chosen, or it may be asked first whether it serves.
    pub server: Option<Server>,
    /// How long the attempt may take, if less than mounts may take in general.
    pub limit: Option<Duration>,
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
    /// Prefix of its keys in the map; only in am-utils format.
    pub prefix: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(at: &str, offsets: &[&str]) -> Plan {
        let offsets = offsets.iter().map(|at| Arc::new(nothing(at, &[]))).collect();
        Plan { at: at.into(), action: Action::Nothing, offsets, strict: false, timeout: None, requires: Vec::new() }
    }

    #[test]
    fn what_stands_below_is_grafted_where_it_belongs() {
        let mut plan = nothing("/a", &["/a/b", "/a/c/d"]);
        for below in ["/a/b/x", "/a/c", "/a/b"] {
            plan.graft(Arc::new(nothing(below, &[])));
        }
        let shape = |plan: &Plan| plan.offsets.iter().map(|o| o.at.to_str().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(shape(&plan), ["/a/b", "/a/c"]);
        assert_eq!(shape(&plan.offsets[0]), ["/a/b/x"]);
        assert_eq!(shape(&plan.offsets[1]), ["/a/c/d"]);
    }
}
