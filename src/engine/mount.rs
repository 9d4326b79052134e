//! The autofs mounts: triggers of every kind, and what the top-level ones are doing.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::round::Round;
use super::{Entry, EntryId, Key, Kind, MountId, Reason, Tick, Wanted};
use crate::plan::Plan;

/// One autofs mount, top-level or below an entry.
#[derive(Debug)]
pub(super) struct Mount {
    pub(super) path: Arc<Path>,
    pub(super) kind: Kind,
    /// Seconds for which a failed key is remembered.
    pub(super) negative_timeout: u64,
    /// The top-level mount of its tree; itself, if it is one.
    pub(super) top: MountId,
    /// None: it is a top-level mount. Boxed, as there may be thousands of those.
    pub(super) below: Option<Box<Below>>,
    pub(super) entries: BTreeMap<Key, Entry>,
    /// How many entries are occupied.
    pub(super) occupied: u32,
    /// The kernel is being asked for what is unused.
    pub(super) expiring: bool,
}

impl Mount {
    pub(super) fn top_level(id: MountId, wanted: &Wanted) -> Self {
        Self {
            path: wanted.path.clone(),
            kind: wanted.kind,
            negative_timeout: wanted.negative_timeout,
            top: id,
            below: None,
            entries: BTreeMap::new(),
            occupied: 0,
            expiring: false,
        }
    }

    /// An offset trigger (with its plan) or a submount on an entry of this mount.
    pub(super) fn below(&self, owner: &EntryId, site: Site) -> Self {
        let (path, kind, negative_timeout, plan) = match site {
            Site::Offset(plan) => (plan.at.as_path().into(), Kind::Offset, self.negative_timeout, Some(plan)),
            Site::Submount(wanted) => (wanted.path, Kind::Indirect, wanted.negative_timeout, None),
        };
        Self {
            path,
            kind,
            negative_timeout,
            top: self.top,
            below: Some(Box::new(Below { owner: owner.clone(), depth: self.depth() + 1, plan })),
            entries: BTreeMap::new(),
            occupied: 0,
            expiring: false,
        }
    }

    /// The entry on which it stands; none: it is a top-level mount.
    pub(super) fn owner(&self) -> Option<&EntryId> {
        self.below.as_ref().map(|below| &below.owner)
    }

    /// How many autofs mounts are above it.
    pub(super) fn depth(&self) -> usize {
        self.below.as_ref().map_or(0, |below| below.depth)
    }

    /// Offset triggers: what is to be mounted.
    pub(super) fn plan(&self) -> Option<&Arc<Plan>> {
        self.below.as_ref()?.plan.as_ref()
    }

    /// Whether the kernel can ask for such a key here. The root of an indirect mount is no entry.
    pub(super) fn has(&self, key: &Key) -> bool {
        match self.kind {
            Kind::Indirect => !key.0.is_empty() && !key.0.contains(&b'/'),
            Kind::Direct | Kind::Offset => key.0.is_empty(),
        }
    }

    /// Where an entry is mounted.
    pub(super) fn path_of(&self, key: &Key) -> PathBuf {
        match self.kind {
            Kind::Indirect => self.path.join(OsStr::from_bytes(&key.0)),
            Kind::Direct | Kind::Offset => self.path.to_path_buf(),
        }
    }
}

/// What only a mount below an entry has.
#[derive(Debug)]
pub(super) struct Below {
    /// The entry on which it stands.
    pub(super) owner: EntryId,
    depth: usize,
    pub(super) plan: Option<Arc<Plan>>,
}

/// What stands on an entry besides its own mount.
#[derive(Debug)]
pub(super) enum Site {
    Offset(Arc<Plan>),
    Submount(Wanted),
}

/// What only a top-level mount has.
#[derive(Debug)]
pub(super) struct Top {
    pub(super) wanted: Wanted,
    pub(super) state: State,
    /// The last `Want` that named it.
    pub(super) generation: u32,
    /// `wanted` has changed while it was being attached, which the shell was not told.
    pub(super) changed: bool,
    /// Its alarm: the next look for unused mounts, or the next attempt to remove it.
    pub(super) alarm: Option<Tick>,
    /// The look for unused mounts that is under way.
    pub(super) round: Option<Box<Round>>,
    /// Another look is wanted as soon as this one has ended.
    pub(super) prune: bool,
    /// How many entries of the tree are in flight, and mounts are being expired.
    pub(super) in_flight: u32,
    /// The autofs mounts below it.
    pub(super) below: BTreeSet<MountId>,
    /// Why it could not be unmounted.
    pub(super) trouble: Option<Reason>,
}

impl Top {
    pub(super) fn new(wanted: Wanted, generation: u32) -> Self {
        Self {
            wanted,
            state: State::Attaching { leave: false },
            generation,
            changed: false,
            alarm: None,
            round: None,
            prune: false,
            in_flight: 0,
            below: BTreeSet::new(),
            trouble: None,
        }
    }
}

/// The life of a top-level mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The shell is mounting it. Packets may come already.
    Attaching {
        /// It is not wanted any more.
        leave: bool,
    },
    /// The shell takes too long to mount or unmount it, and the end of the daemon cannot wait.
    Abandoned,
    Serving,
    /// It is to go: nothing is mounted any more.
    Leaving(Stage),
}

/// How far a leaving mount is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Mounts below its path go first.
    Deferred,
    /// Its entries are unmounted.
    Emptying,
    /// The shell is unmounting it.
    Detaching {
        /// It is to be tried again if it fails: things have changed since.
        again: bool,
    },
    /// Something is in use.
    Stuck,
}

impl State {
    /// Whether lookups are served.
    pub(super) fn serves(self) -> bool {
        matches!(self, Self::Serving | Self::Attaching { leave: false })
    }

    /// Whether it is to go.
    pub(super) fn leaves(self) -> bool {
        matches!(self, Self::Leaving(_) | Self::Attaching { leave: true } | Self::Abandoned)
    }

    /// Whether the end of the daemon has to wait for it.
    pub(super) fn moves(self) -> bool {
        !matches!(self, Self::Leaving(Stage::Stuck) | Self::Abandoned)
    }
}
