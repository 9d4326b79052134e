//! Events: what the shell reports to the engine.

use std::path::Path;
use std::sync::Arc;

use super::{EntryId, JobId, MountId, Reason, Requester, Tick, Token, Wanted};
use crate::plan::Plan;

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A lookup waits in the kernel: the entry is to be mounted.
    Missing {
        /// The entry that was looked up.
        at: EntryId,
        /// To be answered exactly once.
        token: Token,
        /// The process that looks it up.
        who: Requester,
        /// Milliseconds that the lookup has waited already: after a restart its packet was read by an earlier worker,
        /// and its deadline still counts from there.
        waited: u64,
    },
    /// The kernel asks to unmount an entry, because it is unused or because expiry was forced.
    Expire {
        /// The unused entry.
        at: EntryId,
        /// To be answered exactly once.
        token: Token,
    },
    /// [`Effect::Resolve`](super::Effect::Resolve) has ended.
    Resolved {
        /// The job of the effect.
        job: JobId,
        /// Result of the lookup in the maps.
        outcome: Resolution,
    },
    /// [`Effect::Perform`](super::Effect::Perform) has ended; after an error nothing of the plan is left.
    Performed {
        /// The job of the effect.
        job: JobId,
        /// The autofs mounts below the entry, or why it is not mounted.
        outcome: Result<Done, Reason>,
    },
    /// [`Effect::Check`](super::Effect::Check) has ended.
    Checked {
        /// The job of the effect.
        job: JobId,
        /// Whether something is mounted (or linked) there.
        mounted: bool,
    },
    /// [`Effect::Unmount`](super::Effect::Unmount) has ended.
    Unmounted {
        /// The job of the effect.
        job: JobId,
        /// How many layers, from the front of the list, are gone. If all are, the entry is empty; else the next one is
        /// in use or failed.
        gone: usize,
        /// Why the next layer is still mounted, if it is.
        error: Option<Reason>,
    },
    /// [`Effect::ExpireRun`](super::Effect::ExpireRun) has ended: the kernel finds nothing more to expire.
    ExpireRan {
        /// The autofs mount of the effect.
        mount: MountId,
    },
    /// [`Effect::Attach`](super::Effect::Attach) has ended.
    Attached {
        /// The autofs mount of the effect.
        mount: MountId,
        /// Why it is not mounted, if it is not; then the engine forgets it.
        outcome: Result<(), Reason>,
    },
    /// An entry was found mounted in the mount table, when the worker started or after a restore.
    Adopted {
        /// The entry.
        at: EntryId,
        /// The plan of the entry, if the map still has it.
        plan: Option<Arc<Plan>>,
        /// The offset triggers and submounts below it.
        done: Done,
    },
    /// [`Effect::Detach`](super::Effect::Detach) has ended.
    Detached {
        /// The autofs mount of the effect.
        mount: MountId,
        /// Why it is still mounted, if it is.
        outcome: Result<(), Reason>,
    },
    /// An autofs mount of ours has disappeared: it was unmounted by hand, or nobody can reach it any more.
    Vanished {
        /// The autofs mount.
        mount: MountId,
    },
    /// Something was unmounted or moved: top-level mounts that could not be attached are tried again.
    Retry,
    /// The configuration was read: these top-level mounts are wanted, in this order, and no others.
    Configure(Vec<Wanted>),
    /// Some of the top-level mounts that are wanted have changed; the others stay. Only while nothing
    /// [is unsettled](super::Engine::is_unsettled).
    Change {
        /// Mounts that were not wanted before.
        wanted: Vec<Wanted>,
        /// Paths of mounts that are not wanted any more.
        unwanted: Vec<Arc<Path>>,
    },
    /// The maps have changed: what was remembered as missing may be there now.
    Forget,
    /// Forget which keys of one mount have failed.
    ForgetMount {
        /// The autofs mount.
        mount: MountId,
    },
    /// Forget that one key has failed.
    ForgetEntry {
        /// The entry.
        at: EntryId,
    },
    /// New lookups at a path and below it fail with EACCES.
    Block {
        /// The path.
        path: Arc<Path>,
        /// When the block ends by itself.
        until: Option<Tick>,
        /// Reason that the administrator gives.
        reason: Reason,
    },
    /// New lookups at a path are served again.
    Unblock {
        /// The path.
        path: Arc<Path>,
    },
    /// Unmount everything that is unused, now.
    Prune,
    /// Unmount this entry with all that is mounted on it, if nothing is going on there.
    Unmount {
        /// The entry.
        at: EntryId,
    },
    /// Mount the offset triggers that are missing below this entry, if nothing is going on there. Those that stand get their
    /// plans anew.
    RemountTriggers {
        /// The entry.
        at: EntryId,
        /// A plan with these triggers; its own mount does not matter.
        plan: Arc<Plan>,
    },
    /// Begin no expire runs from now on (`true`), or do so again (`false`): a checkpoint is about to be made.
    Pause(bool),
    /// A checkpoint was restored. Forgets all earlier tokens without an answer, because the kernel may be another one, where the
    /// same number may belong to another request.
    Restored,
    /// End the daemon.
    Stop(Shutdown),
    /// The moment that `deadline()` named has come.
    Timer,
}

/// How the daemon ends, from the least to the most forceful way. A later request replaces an earlier one if it is more
/// forceful.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shutdown {
    /// Leave everything mounted for the next start.
    Detach,
    /// Unmount what is unused; what is in use stays mounted, below catatonic autofs mounts: TERM and INT.
    Clean,
    /// Unmount everything, lazily where it is in use: USR2.
    Forced,
}

/// Result of looking a key up in the maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// A map has it: this plan is to be carried out.
    Found(Arc<Plan>),
    /// No map has it.
    NotFound,
    /// A map has it, but no plan can be made of the entry. Treated like a mount that fails.
    Invalid(Reason),
    /// No map could be asked. Not remembered.
    Unavailable(Reason),
    /// The requester has asked for too many keys: the maps are not asked. Not remembered.
    Limited(Reason),
}

/// The autofs mounts that a plan has left below an entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Done {
    /// The offset triggers, each with its plan. Those that the engine knows already may be left out.
    pub offsets: Vec<(MountId, Arc<Plan>)>,
    /// The autofs mount of `Action::Autofs`, with its negative timeout in seconds.
    pub submount: Option<(MountId, Wanted)>,
    /// The entry has a timeout of its own, and the kernel does not know of it.
    pub untimed: bool,
    /// The mount id of what was mounted, which no other mount ever gets, if it is known.
    pub mount_id: Option<u64>,
}
