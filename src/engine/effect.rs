//! Effects: instructions of the engine to the shell.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{EntryId, Errno, JobId, MountId, Reason, Requester, Shutdown, Token, Wanted};
use crate::plan::Plan;

/// Something to be done. An effect with a `job` (or that names an event in its description) is answered by one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Answer a token: READY without an error, else FAIL. The only way in which tokens leave.
    Reply {
        /// The autofs mount on which the token came.
        mount: MountId,
        /// The token.
        token: Token,
        /// Error that the waiting process gets; `None`: success.
        error: Option<Errno>,
        /// Why the request failed, as far as an event has told.
        reason: Option<Reason>,
    },
    /// Look the key up in the maps and make a plan of it. Answered by `Resolved`.
    Resolve {
        /// Returned in the answer.
        job: JobId,
        /// The entry, never the entry of an offset mount, whose plan is known.
        at: EntryId,
        /// The requester, for `$USER` and its like.
        who: Requester,
    },
    /// Carry a plan out. The shell looks at the mount table first: what is mounted already is not mounted twice.
    /// Answered by `Performed`.
    Perform {
        /// Returned in the answer.
        job: JobId,
        /// The entry.
        at: EntryId,
        /// The plan to carry out.
        plan: Arc<Plan>,
        /// The requester. If the source of a bind mount is below another automount, that one is triggered with this
        /// uid and gid.
        who: Requester,
    },
    /// Look whether something is mounted at the entry. Answered by `Checked`.
    Check {
        /// Returned in the answer.
        job: JobId,
        /// The entry.
        at: EntryId,
    },
    /// Unmount an entry with all that is mounted on it, in the order of the list, up to the first layer that fails.
    /// Answered by `Unmounted`.
    Unmount {
        /// Returned in the answer.
        job: JobId,
        /// The entry.
        at: EntryId,
        /// Deepest first; the entry's own file system (or link, or directory) is the last. Empty for a mount that the
        /// engine does not know of; it is unmounted by its path.
        layers: Vec<Layer>,
        /// Lazily (MNT_DETACH), so that nothing can be in use.
        lazy: bool,
    },
    /// Ask the kernel to expire what is unused, until it finds nothing more; each find comes as an
    /// [`Event::Expire`](super::Event::Expire). Answered by `ExpireRan`.
    ExpireRun {
        /// The autofs mount.
        mount: MountId,
        /// Without regard to the timeout.
        immediate: bool,
    },
    /// Mount (or take over) this top-level autofs mount. Answered by `Attached`.
    Attach {
        /// Its number from now on.
        mount: MountId,
        /// Mounts that are wanted.
        wanted: Wanted,
    },
    /// Give a top-level autofs mount, and the triggers and submounts below it, new options (timeout, map). Not
    /// answered.
    Update {
        /// The autofs mount.
        mount: MountId,
        /// Mounts that are wanted now.
        wanted: Wanted,
    },
    /// Unmount an autofs mount itself; nothing is mounted on it any more. Answered by `Detached`.
    Detach {
        /// The autofs mount.
        mount: MountId,
        /// Lazily (MNT_DETACH).
        lazy: bool,
    },
    /// The worker exits. What is left stays as it is; its autofs mounts are set catatonic, unless everything is left
    /// for the next start. The last effect.
    Exit {
        /// How the daemon ends.
        how: Shutdown,
        /// Top-level mounts that stay.
        left: Vec<MountId>,
    },
}

/// One of the mounts that are to be unmounted with an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layer {
    /// The file system (or symbolic link, or bare directory) of an entry.
    FileSystem {
        /// The entry.
        at: EntryId,
        /// Its path.
        path: PathBuf,
    },
    /// An offset trigger or submount.
    Trigger(MountId, Arc<Path>),
}
