//! The engine's state, to be read by others.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::plan::Plan;

use super::negative::Failed;
use super::{
    Engine, EntryId, Failure, JobId, Key, Kind, LeaveStage, Mount, MountId, Phase, Reason, State, Tick, Top, Wanted,
};

/// The state of an autofs mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MountState {
    /// Being mounted.
    Attaching,
    /// Its lookups are served.
    Serving,
    /// Not wanted any more, and being unmounted.
    Leaving,
    /// Not wanted any more, but in use: its removal is tried again and again.
    Pending,
}

/// Work on an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryPhase {
    /// It failed, and is not tried again before that moment.
    Failed(Failure, Tick),
    /// It waits until a tree above it has been unmounted (or not).
    Waiting,
    /// The maps are being asked.
    Resolving,
    /// It is being mounted.
    Mounting,
    /// It is mounted.
    Mounted,
    /// It is mounted; the mount table is being asked whether it really is.
    Checking,
    /// It is being unmounted.
    Unmounting,
    /// It could not be unmounted as a whole, or triggers are missing: its offset triggers are being mounted again.
    Remounting,
}

impl fmt::Display for EntryPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed(..) => "failed",
            Self::Waiting => "idle",
            Self::Resolving => "resolving",
            Self::Mounting => "mounting",
            Self::Mounted => "mounted",
            Self::Checking => "checking",
            Self::Unmounting => "unmounting",
            Self::Remounting => "remounting",
        })
    }
}

/// An autofs mount, seen from outside.
#[derive(Debug, Clone, Copy)]
pub struct MountView<'a> {
    engine: &'a Engine,
    mount: &'a Mount,
    /// Its number.
    pub id: MountId,
}

/// An entry, seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryView<'a> {
    /// Empty for direct and offset mounts.
    pub key: &'a Key,
    /// Work on it.
    pub phase: EntryPhase,
    /// Whether the job has missed its deadline. No lookup waits for it any more.
    pub overdue: bool,
    /// How many lookups wait for it.
    pub waiting: usize,
    /// When it was mounted; none: it is not.
    pub since: Option<Tick>,
    /// Tells this mount of the entry from its earlier and later ones.
    pub made: JobId,
    /// The mount id of the mount, which no other mount ever gets. Unknown for mounts of earlier workers and before Linux 6.8.
    pub mount_id: Option<u64>,
    /// The plan of the mount, if it is known.
    pub plan: Option<&'a Arc<Plan>>,
    /// Why it failed, or could not be unmounted.
    pub reason: Option<&'a Reason>,
}

impl Engine {
    /// All autofs mounts: the triggers and submounts, then the top-level ones.
    pub fn mounts(&self) -> impl Iterator<Item = MountView<'_>> {
        self.tree.mounts().map(|(id, mount)| MountView { engine: self, mount, id })
    }

    /// Returns whether this mount of an entry is there: [`EntryView::made`] of an earlier look.
    pub fn has_mount(&self, at: &EntryId, made: JobId) -> bool {
        self.tree.entry(at).is_some_and(|entry| matches!(entry.phase, Phase::Mounted) && entry.made == made)
    }

    /// Returns whether no top-level mount is being mounted or unmounted, or waits to be unmounted.
    pub fn all_serve(&self) -> bool {
        self.tree.is_settled()
    }

    /// Returns whether the state of a mount is [`MountState::Pending`].
    pub fn has_pending(&self) -> bool {
        self.tree.has_stuck()
    }

    /// The path at which an entry is mounted. `None` if there is no such autofs mount.
    pub fn entry_path(&self, at: &EntryId) -> Option<PathBuf> {
        self.tree.mount(at.mount).map(|mount| mount.path_of(&at.key))
    }

    /// Returns for how many milliseconds an entry fails at once, because it has failed recently.
    pub fn negative_for(&self, at: &EntryId) -> Option<u64> {
        self.negative_cache.until(self.now, at).map(|until| until.since(self.now))
    }

    /// Returns whether this is the mount point of a top-level autofs mount.
    pub fn is_mount_point(&self, path: &Path) -> bool {
        self.tree.at(path).is_some()
    }

    /// One autofs mount.
    pub fn mount(&self, id: MountId) -> Option<MountView<'_>> {
        self.tree.mount(id).map(|mount| MountView { engine: self, mount, id })
    }
}

impl<'a> MountView<'a> {
    /// The mount point.
    pub fn path(&self) -> &'a Path {
        &self.mount.path
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.mount.kind
    }

    /// Returns the entry it is mounted on. Returns `None` for a top-level mount.
    pub fn parent(&self) -> Option<(MountId, &'a Key)> {
        self.mount.owner().map(|owner| (owner.mount, &owner.key))
    }

    /// How its top-level mount is.
    pub fn state(&self) -> MountState {
        match self.engine.tree.top(self.mount.top).map(Top::state) {
            Some(State::Attaching { .. }) => MountState::Attaching,
            Some(State::Leaving(LeaveStage::Stuck)) => MountState::Pending,
            Some(State::Leaving(_) | State::Abandoned) => MountState::Leaving,
            Some(State::Serving) | None => MountState::Serving,
        }
    }

    /// Returns the seconds until an unused entry expires; 0 means never. Triggers and submounts have the timeout of their
    /// top-level mount.
    pub fn timeout(&self) -> u64 {
        self.engine.tree.top(self.mount.top).map_or(0, |top| top.wanted.timeout)
    }

    /// Returns how a top-level mount is wanted. `None` for triggers and submounts, and for mounts that are not served.
    pub fn wanted(&self) -> Option<&'a Wanted> {
        let top = self.engine.tree.top(self.id).filter(|top| top.state() == State::Serving)?;
        Some(&top.wanted)
    }

    /// Why a mount that is not wanted any more could not be unmounted.
    pub fn reason(&self) -> Option<&'a Reason> {
        let top = self.engine.tree.top(self.id).filter(|top| top.state().leaves())?;
        top.trouble.as_ref()
    }

    /// Returns the entries that are not idle, then those that have failed recently.
    pub fn entries(&self) -> impl Iterator<Item = EntryView<'a>> + use<'a> {
        let Self { engine, mount, id } = *self;
        let entries = mount.entries().map(|(key, entry)| {
            let phase = entry.phase.shown();
            let since = (entry.occupied() && entry.phase.job().is_none()).then_some(entry.since);
            let (plan, reason) = (entry.plan.as_ref(), entry.trouble.as_ref());
            EntryView {
                key,
                phase,
                overdue: entry.overdue,
                waiting: entry.waiting.len(),
                since,
                made: entry.made,
                mount_id: entry.mount_id,
                plan,
                reason,
            }
        });
        let failed = engine.negative_cache.below(engine.now, id);
        let failed = failed.filter(|failed| mount.entry(&failed.at.key).is_none());
        let failed = failed.map(|Failed { at, failure, reason, until }| {
            let phase = EntryPhase::Failed(failure, until);
            EntryView {
                key: &at.key,
                phase,
                overdue: false,
                waiting: 0,
                since: None,
                made: JobId::default(),
                mount_id: None,
                plan: None,
                reason,
            }
        });
        entries.chain(failed)
    }
}
