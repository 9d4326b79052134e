//! The owner, group, permissions and propagation of a top-level autofs mount, as its line of the master map says.
//!
//! They are set through a descriptor of the root, never by path. The directories that the kernel makes below the root get
//! its owner and group.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use log::error;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::daemon::jobs::Means;
use crate::engine::{Kind, MountId};
use crate::logging::target;
use crate::map::MasterOptions;
use crate::source::Account;
use crate::sys::{autofs, path};
use crate::task::spawn_local;
use crate::text::Escaped;

/// How long attaching waits for the ids of users and groups. Later the mount is served without, until they are known.
const IDS_TIMEOUT: Duration = Duration::from_secs(1);

/// The permissions of a root without `mode`.
const MODE: u32 = 0o755;

/// Returns whether the options say how the root looks.
pub(crate) fn is_wanted(options: &MasterOptions) -> bool {
    let MasterOptions { mode, owner, trigger_propagation, .. } = options;
    mode.is_some() || owner.is_some() || trigger_propagation.is_some()
}

/// Returns whether the two say the same of the root.
pub(crate) fn is_same(one: &MasterOptions, other: &MasterOptions) -> bool {
    let said = |o: &MasterOptions| (o.mode, o.owner.clone(), o.trigger_propagation);
    said(one) == said(other)
}

/// Makes the roots of mounts look as their lines say. Waits a moment for names of users; those that take longer are set when
/// they are known.
pub(crate) async fn apply(means: &Means, mounts: impl IntoIterator<Item = MountId>) {
    let wanted = |id: &MountId| means.mounts.get(*id).is_some_and(|mount| is_wanted(&mount.map.options));
    let begun: Vec<JoinHandle<()>> =
        mounts.into_iter().filter(wanted).map(|id| spawn_local(set(means.clone(), id, false))).collect();
    let all = async {
        for one in begun {
            // A panic was logged where it occurred.
            let _ = one.await;
        }
    };
    let _ = timeout(IDS_TIMEOUT, all).await;
}

/// Sets what the line of a mount says of its root. With `reset`, what it does not say becomes what a new mount has.
pub(crate) async fn set(means: Means, id: MountId, reset: bool) {
    let Some(mount) = means.mounts.get(id) else { return };
    let (users, deadline) = {
        let state = means.state.borrow();
        (Arc::clone(&state.context.sources.users), Instant::now() + state.context.lookup_deadline)
    };
    let options = &mount.map.options;
    let unsaid = reset.then_some(0);
    let shown = Escaped::path(&mount.path);
    let told = |wrong: Result<u32, String>| {
        wrong.map_err(|reason| error!(target: &target(&mount.path), "{shown}: cannot set its owner: {reason}")).ok()
    };
    let uid = match options.user() {
        Some(name) => told(users.id(&Account::user(name), deadline).await),
        None => unsaid,
    };
    let gid = match options.group() {
        Some(name) => told(users.id(&Account::group(name), deadline).await),
        None => unsaid,
    };
    let look = Look { uid, gid, mode: options.mode.or(reset.then_some(MODE)) };
    // A mount inside of a submount's map looks as the submount does.
    let top = mount.kind != Kind::Offset && id.is_top();
    let done = means.mounts.with_root(id, |root| {
        if top {
            look.set(root)?;
        }
        autofs::set_propagation(root, options.trigger_propagation)
    });
    if let Err(e) = done {
        error!(target: &target(&mount.path), "{shown}: cannot set its owner, mode or propagation: {e}");
    }
}

/// How a root looks; `None` leaves it as it is.
struct Look {
    uid: Option<u32>,
    gid: Option<u32>,
    mode: Option<u32>,
}

impl Look {
    /// The mode comes last: a change of the owner can take bits away (chown(2)).
    fn set(&self, root: BorrowedFd<'_>) -> io::Result<()> {
        if self.uid.is_some() || self.gid.is_some() {
            path::chown(root, self.uid, self.gid)?;
        }
        self.mode.map_or(Ok(()), |mode| path::chmod(root, mode))
    }
}
