//! Answers requests: READY or FAIL to the kernel, then out of the journal.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::debug;
use tokio::task::spawn_local;

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

/// Pauses between two attempts to answer what could not be answered: the first one, doubled up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// An answer that the kernel has not taken yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) path: Arc<Path>,
    pub(super) dev: u32,
    pub(super) token: Token,
    pub(super) error: Option<Errno>,
    pub(super) slot: Option<Slot>,
    /// The same request, in case that its mount is found to be in other mount namespaces only.
    pub(super) lost: ByDevice,
}

impl Requests {
    /// Answers a token: READY without an error, else FAIL. If it cannot be answered at once, a task tries again until it
    /// is.
    pub(crate) fn answer(
        self: &Rc<Self>,
        mounts: &Mounts,
        tools: &Tools,
        mount: MountId,
        token: Token,
        error: Option<Errno>,
    ) {
        let slot = self.slots.borrow_mut().remove(&token);
        let Some(known) = mounts.get(mount) else {
            // The mount is gone here; who waits is in another mount namespace.
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
            // EINVAL: the request was answered by a worker that died before it could strike it out.
            Err(e) if e.kind() != io::ErrorKind::InvalidInput => {
                let lost = self.lost(mounts, slot);
                let pending = Pending { path: known.path, dev: known.dev, token, error, slot, lost };
                spawn_local(Rc::clone(self).retry_until_answered(tools.clone(), pending));
            }
            _ => slot.into_iter().for_each(|slot| self.forget(slot)),
        }
    }

    /// Answers a token in a lane, for a mount that may take time to reach or could not be reached. No other process can
    /// answer, and what fails now may succeed later; so it is tried until the kernel does not know the token any more.
    pub(super) async fn retry_until_answered(self: Rc<Self>, tools: Tools, pending: Pending) {
        let Pending { path, dev, token, error, slot, lost } = pending;
        let age = self.age.get();
        let mut pause = RETRY.0;
        // After a restore the token may be that of another request.
        while self.age.get() == age {
            let (control, path) = (Arc::clone(&tools.control), Arc::clone(&path));
            let answer = move || match find_root(&control, &path, dev)? {
                Some(root) => send(&control, &root, token, error).map(|()| true),
                None => Ok(false),
            };
            match tools.lanes.run(Lane::Umount, answer).await {
                Err(e) if e.kind() != io::ErrorKind::InvalidInput => {
                    debug!("cannot answer token {} now: {e}", token.0);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY.1);
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

fn send(control: &Control, root: impl AsFd, token: Token, error: Option<Errno>) -> io::Result<()> {
    match error {
        None => control.ready(root.as_fd(), token),
        Some(error) => control.fail(root.as_fd(), token, error),
    }
}
