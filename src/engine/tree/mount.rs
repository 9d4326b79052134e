//! The autofs mounts: triggers of every kind, and what the top-level ones are doing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::entries::Entries;
use super::entry::Entry;
use super::tally::Tally;
use crate::engine::expire_run::ExpireRun;
use crate::engine::{EntryId, Key, Kind, MountId, Reason, Tick, Wanted};
use crate::plan::Plan;

/// One autofs mount, top-level or below an entry.
#[derive(Debug)]
pub(in crate::engine) struct Mount {
    pub(in crate::engine) path: Arc<Path>,
    pub(in crate::engine) kind: Kind,
    /// Seconds for which a failed key is remembered.
    pub(in crate::engine) negative_timeout: u64,
    /// The top-level mount of its tree; itself, if it is one.
    pub(in crate::engine) top: MountId,
    /// None: it is a top-level mount. Boxed, as there may be thousands of those.
    pub(in crate::engine) below: Option<Box<Nested>>,
    pub(super) entries: Entries,
    /// The occupied entries.
    pub(super) occupied: Tally,
    /// The kernel is being asked to expire its entries.
    pub(super) expiring: bool,
}

impl Mount {
    pub(in crate::engine) fn top_level(id: MountId, wanted: &Wanted) -> Self {
        Self {
            path: wanted.path.clone(),
            kind: wanted.kind,
            negative_timeout: wanted.negative_timeout,
            top: id,
            below: None,
            entries: Entries::default(),
            occupied: Tally::default(),
            expiring: false,
        }
    }

    /// An offset trigger (with its plan) or a submount on an entry of this mount.
    pub(in crate::engine) fn below(&self, owner: &EntryId, site: Site) -> Self {
        let (path, kind, negative_timeout, plan) = match site {
            Site::Offset(plan) => (plan.at.as_path().into(), Kind::Offset, self.negative_timeout, Some(plan)),
            Site::Submount(wanted) => (wanted.path, Kind::Indirect, wanted.negative_timeout, None),
        };
        Self {
            path,
            kind,
            negative_timeout,
            top: self.top,
            below: Some(Box::new(Nested { owner: owner.clone(), depth: self.depth() + 1, plan })),
            entries: Entries::default(),
            occupied: Tally::default(),
            expiring: false,
        }
    }

    /// Returns the entry it is mounted on. Returns `None` for a top-level mount.
    pub(in crate::engine) fn owner(&self) -> Option<&EntryId> {
        self.below.as_ref().map(|below| &below.owner)
    }

    /// How many autofs mounts are above it.
    pub(in crate::engine) fn depth(&self) -> usize {
        self.below.as_ref().map_or(0, |below| below.depth)
    }

    pub(in crate::engine) fn entry(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// The entries in the order of their keys.
    pub(in crate::engine) fn entries(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.sorted()
    }

    /// Returns whether one of its entries is busy.
    pub(in crate::engine) fn is_busy(&self) -> bool {
        self.expiring || self.entries.unordered().any(|(_, entry)| entry.busy())
    }

    /// Returns whether it has no entries.
    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns whether something is mounted at one of its entries.
    pub(in crate::engine) fn is_occupied(&self) -> bool {
        !self.occupied.is_zero()
    }

    /// Returns whether the kernel is being asked to expire its entries.
    pub(in crate::engine) fn is_expiring(&self) -> bool {
        self.expiring
    }

    /// Offset triggers: what is to be mounted.
    pub(in crate::engine) fn plan(&self) -> Option<&Arc<Plan>> {
        self.below.as_ref()?.plan.as_ref()
    }

    /// Returns whether the kernel can ask for such a key here. The root of an indirect mount is no entry.
    pub(in crate::engine) fn has(&self, key: &Key) -> bool {
        match self.kind {
            Kind::Indirect => !key.0.is_empty() && !key.0.contains(&b'/'),
            Kind::Direct | Kind::Offset => key.0.is_empty(),
        }
    }

    /// Returns the path of an entry.
    pub(in crate::engine) fn path_of(&self, key: &Key) -> PathBuf {
        self.kind.entry_path(&self.path, key)
    }
}

/// The part of a mount below an entry that others do not have.
#[derive(Debug)]
pub(in crate::engine) struct Nested {
    /// The entry it is mounted on.
    pub(in crate::engine) owner: EntryId,
    depth: usize,
    pub(in crate::engine) plan: Option<Arc<Plan>>,
}

/// An autofs mount on an entry, besides the mount of the entry itself.
#[derive(Debug)]
pub(in crate::engine) enum Site {
    Offset(Arc<Plan>),
    Submount(Wanted),
}

/// The part of a top-level mount that others do not have.
#[derive(Debug)]
pub(in crate::engine) struct Top {
    pub(in crate::engine) wanted: Wanted,
    pub(super) state: State,
    /// The last `Configure` that named it.
    pub(in crate::engine) generation: u32,
    /// `wanted` has changed while it was being attached, which the shell was not told.
    pub(in crate::engine) changed: bool,
    /// Its alarm: the next look for unused mounts, or the next attempt to remove it.
    pub(in crate::engine) alarm: Option<Tick>,
    /// The shortest timeout that an entry of the tree has had of its own since nothing was mounted there.
    pub(in crate::engine) shortest: Option<u64>,
    /// The expire run that is under way.
    pub(in crate::engine) run: Option<Box<ExpireRun>>,
    /// Another look is wanted as soon as this one has ended.
    pub(in crate::engine) prune: bool,
    /// Entries of the tree that are in flight, and its expire runs.
    pub(super) in_flight: Tally,
    /// The autofs mounts below it.
    pub(super) below: BTreeSet<MountId>,
    /// Why it could not be unmounted.
    pub(in crate::engine) trouble: Option<Reason>,
    /// How often in a row it could not be attached before.
    pub(in crate::engine) failures: u32,
}

impl Top {
    pub(in crate::engine) fn new(wanted: Wanted, generation: u32) -> Self {
        Self {
            wanted,
            state: State::Attaching { leave: false },
            generation,
            changed: false,
            alarm: None,
            shortest: None,
            run: None,
            prune: false,
            in_flight: Tally::default(),
            below: BTreeSet::new(),
            trouble: None,
            failures: 0,
        }
    }
}

impl Top {
    pub(in crate::engine) fn state(&self) -> State {
        self.state
    }

    /// Returns whether no entry of the tree is in flight and no expire run is under way.
    pub(in crate::engine) fn is_at_rest(&self) -> bool {
        self.in_flight.is_zero()
    }
}

/// The life of a top-level mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum State {
    /// The shell is mounting it. Packets may come already.
    Attaching {
        /// It is not wanted any more.
        leave: bool,
    },
    /// The shell takes too long to mount or unmount it, and the end of the daemon cannot wait.
    Abandoned,
    Serving,
    /// It is to go: nothing is mounted any more.
    Leaving(LeaveStage),
}

/// How far a leaving mount is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum LeaveStage {
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
    /// Returns whether lookups are served.
    pub(in crate::engine) fn serves(self) -> bool {
        matches!(self, Self::Serving | Self::Attaching { leave: false })
    }

    /// Returns whether it is to go.
    pub(in crate::engine) fn leaves(self) -> bool {
        matches!(self, Self::Leaving(_) | Self::Attaching { leave: true } | Self::Abandoned)
    }

    /// Returns whether the end of the daemon has to wait for it.
    pub(in crate::engine) fn moves(self) -> bool {
        !matches!(self, Self::Leaving(LeaveStage::Stuck) | Self::Abandoned)
    }
}
