//! What the engine tells the shell to do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Errno, JobId, Key, MountId, Requester, Shutdown, Token, Wanted};
use crate::plan::Plan;

/// Something to be done. Each one with a `job` (or that names an event in its description) is answered by one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Answer a token: `None` is READY. The only way in which tokens leave.
    Reply {
        /// The autofs mount on which the token came.
        mount: MountId,
        /// The token.
        token: Token,
        /// READY, or FAIL with this.
        error: Option<Errno>,
    },
    /// Look the key up and make a plan of it. Answered by `Resolved`.
    Resolve {
        /// Comes back with the answer.
        job: JobId,
        /// Below this autofs mount.
        mount: MountId,
        /// Empty for direct mounts. Never for offsets: their plan is known.
        key: Key,
        /// For `$USER` and its like.
        who: Requester,
    },
    /// Carry a plan out. It looks at the mount table first: what is there already is not mounted twice. Answered by
    /// `Performed`.
    Perform {
        /// Comes back with the answer.
        job: JobId,
        /// Below this autofs mount.
        mount: MountId,
        /// Empty for direct and offset mounts.
        key: Key,
        /// What to do.
        plan: Arc<Plan>,
        /// Whose lookup it was: in his name a source on another automount is walked to.
        who: Requester,
    },
    /// Look whether something is mounted at the entry. Answered by `Checked`.
    Check {
        /// Comes back with the answer.
        job: JobId,
        /// Below this autofs mount.
        mount: MountId,
        /// Empty for direct and offset mounts.
        key: Key,
    },
    /// Unmount an entry with all that stands on it, in the order of the list, up to the first that fails. Answered by
    /// `Unmounted`.
    Unmount {
        /// Comes back with the answer.
        job: JobId,
        /// Below this autofs mount.
        mount: MountId,
        /// Empty for direct and offset mounts.
        key: Key,
        /// Deepest first; the entry's own file system (or link, or directory) is the last.
        layers: Vec<Layer>,
        /// Lazily, so that nothing can be in use.
        lazy: bool,
    },
    /// Ask the kernel for what is unused, again and again until there is nothing more; each find comes as an
    /// [`Event::Expire`](super::Event::Expire). Answered by `ExpireRan`.
    ExpireRun {
        /// Below this autofs mount.
        mount: MountId,
        /// Whatever the age.
        immediate: bool,
    },
    /// Mount (or take over) this top-level autofs mount. Answered by `Attached`.
    Attach {
        /// The number that it has from now on.
        mount: MountId,
        /// What is wanted.
        wanted: Wanted,
    },
    /// Give a top-level autofs mount, and the triggers and submounts below it, new options (timeout, map). Not
    /// answered.
    Update {
        /// Which.
        mount: MountId,
        /// What is wanted now.
        wanted: Wanted,
    },
    /// Unmount an autofs mount itself; nothing is mounted on it any more. Answered by `Detached`.
    Detach {
        /// Which.
        mount: MountId,
        /// Lazily.
        lazy: bool,
    },
    /// The end of the life of the daemon: what is left stays as it is (autofs mounts catatonic, unless everything is
    /// left for the next start), and the worker exits. The last effect.
    Exit {
        /// What was asked for.
        how: Shutdown,
        /// Top-level mounts that stay.
        left: Vec<MountId>,
    },
}

/// One thing in a tree of mounts that is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layer {
    /// The file system (or symbolic link, or bare directory) of an entry.
    FileSystem {
        /// Below this autofs mount.
        mount: MountId,
        /// Empty for direct and offset mounts.
        key: Key,
        /// Where it stands.
        path: PathBuf,
    },
    /// An offset trigger or submount.
    Trigger(MountId, Arc<Path>),
}
