//! Answers, while a worker starts, requests that have waited too long for one that serves.
//!
//! Workers may die one after the other before they serve. Without this, requests would wait until one of them lives longer.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, warn};

use super::Requests;
use super::answer::Pending;
use super::read::{Receiver, Refused};
use crate::blocking;
use crate::daemon::mounts::Mounts;
use crate::daemon::tools::Tools;
use crate::engine::{Errno, Kind};
use crate::link::journal::{Read, Slot};
use crate::sys::mountinfo;
use crate::sys::packet::Packet;
use crate::task::spawn_local;
use crate::text::Escaped;

/// How long the start waits at most until the kernel has taken the answers.
const ANSWERED: Duration = Duration::from_secs(1);

impl Requests {
    /// Reads what waits in the pipes into the journal, so that its age counts from now on, also for later workers. The packets are
    /// parked.
    pub(crate) fn read_ahead(&self, mounts: &Mounts) {
        for pipe in mounts.pipes() {
            while self.journal.borrow().has_room(pipe.number) {
                let Ok(Read::Packet(slot)) = self.take(&pipe) else { break };
                self.parked.borrow_mut().push((slot, pipe.number));
            }
        }
    }

    /// Fails parked lookups that have waited for `limit` milliseconds or longer with ETIMEDOUT, and such expire requests of earlier
    /// workers with ESTALE, since lookups may wait for them. Those whose mount is not in the mount table stay parked. Returns whether
    /// there were such requests.
    pub(crate) async fn refuse_overdue(
        self: &Rc<Self>,
        mounts: &Mounts,
        tools: &Tools,
        limit: u64,
        receiver: &impl Receiver,
    ) -> bool {
        let overdue = self.take_overdue(limit);
        if overdue.is_empty() {
            return false;
        }
        let table = blocking::run(mountinfo::read).await.unwrap_or_default();
        let (mut left, mut answers) = (Vec::new(), Vec::new());
        for (slot, pipe) in overdue {
            match self.refusal(slot, &table, mounts, tools.control.has_device()) {
                Some((pending, refused)) => {
                    refused.into_iter().for_each(|refused| receiver.refused(refused));
                    answers.push(spawn_local(Rc::clone(self).retry_until_answered(tools.clone(), pending)))
                }
                None => left.push((slot, pipe)),
            }
        }
        let all = async {
            for answer in answers {
                let _ = answer.await;
            }
        };
        let _ = tokio::time::timeout(ANSWERED, all).await;
        if !left.is_empty() {
            self.parked.borrow_mut().extend(left);
            self.serve_parked(mounts, receiver);
        }
        true
    }

    /// Takes the packets that have waited for `limit` milliseconds or longer from the parked ones.
    fn take_overdue(&self, limit: u64) -> Vec<(Slot, u32)> {
        let journal = self.journal.borrow();
        let is_overdue = |slot| journal.waited(slot) >= limit;
        let (overdue, parked) = self.parked.take().into_iter().partition(|(slot, _)| is_overdue(*slot));
        self.parked.replace(parked);
        overdue
    }

    /// Returns the answer to the request in a slot, with what the history says about a lookup. Returns `None` if its mount is not
    /// in the mount table. Without `has_device`, an expire request is answered by READY: FAIL carries no errno then.
    fn refusal(
        &self,
        slot: Slot,
        table: &[u8],
        mounts: &Mounts,
        has_device: bool,
    ) -> Option<(Pending, Option<Refused>)> {
        let (bytes, waited) = (self.journal.borrow().packet(slot), self.journal.borrow().waited(slot));
        let packet = Packet::decode(&bytes).ok()?;
        let request = packet.request();
        let line = mountinfo::parse(table).find(|line| line.dev == request.dev && line.autofs().is_some())?;
        let (seconds, name) = (waited / 1000, Escaped(request.name));
        let (at, pid) = (Escaped::path(line.path()), request.who.pid);
        let mut refused = None;
        let error = match packet {
            Packet::Missing(_) => {
                warn!("a lookup in {at} has waited for {seconds} s while no worker served: it fails");
                debug!("the lookup of \"{name}\" in {at} was made by process {pid}");
                // The kernel names the key of an indirect mount; the name of another one is empty or a number.
                let is_indirect = line.autofs().is_some_and(|autofs| autofs.kind == Kind::Indirect);
                let key = Path::new(OsStr::from_bytes(request.name));
                refused = Some(Refused {
                    mount_point: line.path().to_path_buf(),
                    path: if is_indirect { line.path().join(key) } else { line.path().to_path_buf() },
                    token: request.token,
                    who: request.who,
                    waited: Duration::from_millis(waited),
                    error: Errno::ETIMEDOUT,
                });
                Some(Errno::ETIMEDOUT)
            }
            // As in `route`: lookups start again.
            Packet::Expire(_) => has_device.then_some(Errno::ESTALE),
        };
        let pending = Pending {
            path: Arc::from(line.path()),
            dev: request.dev,
            token: request.token,
            error,
            slot: Some(slot),
            lost: self.lost(mounts, Some(slot)),
        };
        Some((pending, refused))
    }
}
