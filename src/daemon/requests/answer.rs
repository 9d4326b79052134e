//! Answers requests by READY or FAIL, and removes them from the journal.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::debug;

use super::Requests;
use super::elsewhere::ByDevice;
use crate::daemon::mounts::Mounts;
use crate::daemon::mounts::roots::find_root;
use crate::daemon::tools::Tools;
use crate::engine::{Errno, MountId, Token};
use crate::exec::lanes::Lane;
use crate::fault;
use crate::link::journal::Slot;
use crate::sys::autofs::Control;
use crate::sys::fds;
use crate::task::spawn_local;

/// Pauses between attempts to answer a request: the first pause, which doubles each time, and the longest.
const RETRY_DELAY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// An answer that the kernel has not taken yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) path: Arc<Path>,
    pub(super) dev: u32,
    pub(super) token: Token,
    pub(super) error: Option<Errno>,
    pub(super) slot: Option<Slot>,
    /// The same request, for the case that its mount exists only in other mount namespaces.
    pub(super) lost: ByDevice,
}

impl Requests {
    /// Answers a token: READY without an error, else FAIL. If this fails, a task repeats it until it succeeds.
    pub(crate) fn answer(
        self: &Rc<Self>,
        mounts: &Mounts,
        tools: &Tools,
        mount: MountId,
        token: Token,
        error: Option<Errno>,
    ) {
        let served = self.served.borrow_mut().remove(&token);
        if let Some(pid) = served.as_ref().and_then(|served| served.named) {
            self.names.end(pid);
        }
        let slot = served.map(|served| served.slot);
        let Some(known) = mounts.get(mount) else {
            // The mount does not exist here any more, so the waiting process is in another mount namespace.
            for (dev, lost) in self.lost(mounts, slot) {
                spawn_local(Rc::clone(self).answer_elsewhere(tools.clone(), dev, lost));
            }
            return;
        };
        let answered = if known.remote {
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            mounts.with_root(mount, |root| send(&tools.control, root, token, error))
        };
        fault::point("answered");
        mounts.end_request(mount);
        match answered {
            // EINVAL: an earlier worker has answered the request and died before it removed it from the journal.
            Err(e) if e.kind() != io::ErrorKind::InvalidInput => {
                let lost = self.lost(mounts, slot);
                let pending = Pending { path: known.path, dev: known.dev, token, error, slot, lost };
                spawn_local(Rc::clone(self).retry_until_answered(tools.clone(), pending));
            }
            _ => slot.into_iter().for_each(|slot| self.forget(slot)),
        }
    }

    /// Answers a token in a lane, for a mount whose root cannot be opened without blocking. Repeats this until it succeeds or the
    /// kernel does not know the token: no other process can answer it.
    pub(super) async fn retry_until_answered(self: Rc<Self>, tools: Tools, pending: Pending) {
        let Pending { path, dev, token, error, slot, lost } = pending;
        let age = self.age.get();
        let mut pause = RETRY_DELAY.0;
        // After a restore, the same token may belong to another request.
        while self.age.get() == age {
            let (control, path) = (Arc::clone(&tools.control), Arc::clone(&path));
            let answer = move || answer_by_path(&control, &path, dev, token, error);
            match tools.lanes.run(Lane::Answer, answer).await {
                Err(e) if e.kind() != io::ErrorKind::InvalidInput => {
                    debug!("cannot answer token {} now: {e}", token.0);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_DELAY.1);
                }
                Ok(false) if !lost.is_empty() => {
                    for (dev, lost) in lost {
                        Rc::clone(&self).answer_elsewhere(tools.clone(), dev, lost).await;
                    }
                    return;
                }
                _ => break,
            }
        }
        slot.into_iter().for_each(|slot| self.forget(slot));
    }
}

/// Answers a token through the root of the mount at `path`. Returns whether the mount is in the mount table. May wait. Succeeds also
/// when this process can open no descriptor.
fn answer_by_path(control: &Control, path: &Path, dev: u32, token: Token, error: Option<Errno>) -> io::Result<bool> {
    let answer = || match find_root(control, path, dev, None)? {
        Some(root) => send(control, &root, token, error).map(|()| true),
        None => Ok(false),
    };
    match answer() {
        Err(e) if fds::is_exhausted(&e) => fds::with_free_number(answer),
        answered => answered,
    }
}

fn send(control: &Control, root: impl AsFd, token: Token, error: Option<Errno>) -> io::Result<()> {
    match error {
        None => control.ready(root.as_fd(), token),
        Some(error) => control.fail(root.as_fd(), token, error),
    }
}
