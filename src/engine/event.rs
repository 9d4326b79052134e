//! What the shell tells the engine.

use std::sync::Arc;

use super::{JobId, Key, MountId, Requester, Token, Wanted};
use crate::plan::Plan;

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A lookup waits in the kernel: something is to be mounted.
    Missing {
        /// Below this autofs mount.
        mount: MountId,
        /// To be answered exactly once.
        token: Token,
        /// Empty for direct and offset mounts.
        key: Key,
        /// Whose lookup it was.
        who: Requester,
    },
    /// The kernel found an entry unused (or was told not to look): it is to be unmounted.
    Expire {
        /// Below this autofs mount.
        mount: MountId,
        /// To be answered exactly once.
        token: Token,
        /// Empty for direct and offset mounts.
        key: Key,
    },
    /// [`Effect::Resolve`](super::Effect::Resolve) has ended.
    Resolved {
        /// Which.
        job: JobId,
        /// How.
        outcome: Resolution,
    },
    /// [`Effect::Perform`](super::Effect::Perform) has ended; after an error nothing of the plan is left.
    Performed {
        /// Which.
        job: JobId,
        /// What now stands, or that it failed (the shell has logged why).
        outcome: Result<Done, ()>,
    },
    /// [`Effect::Check`](super::Effect::Check) has ended.
    Checked {
        /// Which.
        job: JobId,
        /// Whether something is mounted (or linked) there.
        mounted: bool,
    },
    /// [`Effect::Unmount`](super::Effect::Unmount) has ended.
    Unmounted {
        /// Which.
        job: JobId,
        /// How many layers, from the front of the list, are gone. All of them: the entry is empty. Else the next one
        /// is in use (or failed).
        gone: usize,
    },
    /// [`Effect::ExpireRun`](super::Effect::ExpireRun) has ended: the kernel finds nothing more to expire.
    ExpireRan {
        /// Below this autofs mount.
        mount: MountId,
    },
    /// [`Effect::Attach`](super::Effect::Attach) has ended.
    Attached {
        /// Which.
        mount: MountId,
        /// False: it could not be mounted (the shell has logged why); forget it.
        ok: bool,
    },
    /// What the mount table says of an entry when the worker starts or after a restore: it is mounted already.
    Adopted {
        /// Below this autofs mount.
        mount: MountId,
        /// Empty for direct and offset mounts.
        key: Key,
        /// What its map says of it, if it still does.
        plan: Option<Arc<Plan>>,
        /// The offset triggers and submounts that stand below it.
        done: Done,
    },
    /// [`Effect::Detach`](super::Effect::Detach) has ended.
    Detached {
        /// Which.
        mount: MountId,
        /// False: it is in use and stays.
        gone: bool,
    },
    /// An autofs mount of ours has disappeared: somebody unmounted it.
    Vanished {
        /// Which.
        mount: MountId,
    },
    /// The configuration was read: these top-level mounts are wanted, in this order, and no others.
    Want(Vec<Wanted>),
    /// The maps have changed: what was remembered as missing may be there now.
    Forget,
    /// Unmount all that is unused, now.
    Prune,
    /// Unmount this entry with all that stands on it, if nothing is going on there.
    Unmount {
        /// Below this autofs mount.
        mount: MountId,
        /// Empty for direct and offset mounts.
        key: Key,
    },
    /// Mount again what is missing of the tree at this entry, if nothing is going on there.
    Mend {
        /// Below this autofs mount.
        mount: MountId,
        /// Empty for direct and offset mounts.
        key: Key,
        /// The missing triggers: a plan without a mount of its own.
        plan: Arc<Plan>,
    },
    /// Look for nothing unused from now on (true), or do so again (false): a checkpoint is about to be made.
    Pause(bool),
    /// The machine is another one: a checkpoint was restored. All tokens that came before this are forgotten without an
    /// answer, as one of them may be somebody else's now; whoever waited for them is no more.
    Restored,
    /// End.
    Stop(Shutdown),
    /// The moment that `deadline()` named has come.
    Timer,
}

/// How the daemon ends. A later word counts if it is a harder one; they are ordered so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shutdown {
    /// Leave everything for the next start.
    Detach,
    /// Unmount what is unused; what is in use stays, its autofs mounts catatonic: TERM and INT.
    Clean,
    /// Unmount everything, lazily where it is in use: USR2.
    Forced,
}

/// What the maps say of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// This is to be done.
    Found(Arc<Plan>),
    /// No map has it.
    NotFound,
    /// A map has it, but nothing can be made of it. Treated like a mount that fails.
    Invalid,
    /// No map could be asked: not remembered.
    Unavailable,
}

/// What a plan has left in the mount table besides its own mount.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Done {
    /// The offset triggers, each with its plan. Those that are known already may be left out.
    pub offsets: Vec<(MountId, Arc<Plan>)>,
    /// The autofs mount of `Action::Autofs`, with its negative timeout in seconds.
    pub submount: Option<(MountId, Wanted)>,
}
