//! The root directories of autofs mounts, which are open while requests are unanswered, and the pipes of the mounts.
//!
//! A request can only be answered through an open root if the mount was unmounted meanwhile. At other times an open root would
//! keep a direct mount from expiring and make checkpoints fail. So it is closed in the turn of the event loop in which the last
//! request is answered. The root of a top-level indirect mount stays open a little longer: lookups rarely come alone, and
//! it keeps nothing from expiring. It is closed when no lookup has come for
//! [`IDLE`], when the mount is about to be unmounted, and before a checkpoint.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::pipes::Pipe;
use super::table::MountTable;
use super::{Mounts, Row};
use crate::engine::{Kind, MountId};
use crate::link::Message;
use crate::sys::autofs::Control;
use crate::sys::mountinfo::AutofsOptions;

/// How long after the last lookup the roots of indirect mounts are closed.
const IDLE: Duration = Duration::from_millis(20);

impl Row {
    /// Returns whether the root may stay open without requests.
    fn may_rest(&self, id: MountId) -> bool {
        self.mount.kind == Kind::Indirect && id.is_top()
    }
}

impl Mounts {
    /// Records an unanswered request, and opens the root for it if that cannot block.
    pub(crate) fn begin_request(&self, id: MountId) {
        self.lookups.set(true);
        let remote = match self.rows.borrow_mut().get_mut(&id) {
            Some(row) => {
                row.unanswered += 1;
                row.mount.remote
            }
            None => return,
        };
        if !remote {
            let _ = self.with_root(id, |_| Ok(()));
        }
    }

    /// Records that a request was answered, or will be answered elsewhere.
    pub(crate) fn end_request(&self, id: MountId) {
        if let Some(row) = self.rows.borrow_mut().get_mut(&id) {
            row.unanswered = row.unanswered.saturating_sub(1);
        }
    }

    /// Forgets all requests.
    pub(crate) fn forget_requests(&self) {
        self.rows.borrow_mut().values_mut().for_each(|row| row.unanswered = 0);
        self.close_all_roots();
    }

    /// Calls `then` with the root of a mount, which stays open until [`close_roots`](Self::close_roots).
    ///
    /// # Errors
    /// Returns the errors of opening the root and of `then`.
    pub(crate) fn with_root<T>(
        &self,
        id: MountId,
        then: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut rows = self.rows.borrow_mut();
        let row = rows.get_mut(&id).ok_or(io::ErrorKind::NotFound)?;
        let root = match &mut row.root {
            Some(root) => root,
            closed @ None => {
                let root = self.control.open_mount(&row.mount.path, row.mount.dev)?;
                self.opened.borrow_mut().push(id);
                closed.insert(root)
            }
        };
        then(root.as_fd())
    }

    /// Closes the roots of mounts without unanswered requests, those of indirect mounts a little later.
    pub(crate) fn close_roots(&self) {
        let leaving = self.leaving.borrow();
        let rests = self.close_unless(|id, row| row.may_rest(id) && !leaving.contains(&id));
        if rests && !self.resting.replace(true) {
            self.rests.notify_one();
        }
    }

    /// Closes the roots of all mounts without unanswered requests now.
    pub(crate) fn close_all_roots(&self) {
        self.close_unless(|_, _| false);
    }

    /// Closes the root of a mount without unanswered requests now.
    pub(crate) fn close_root(&self, id: MountId) {
        self.close_unless(|other, _| other != id);
    }

    /// Closes the roots of mounts without unanswered requests, except those that may stay open. Returns whether one has.
    fn close_unless(&self, stays: impl Fn(MountId, &Row) -> bool) -> bool {
        let (mut rows, mut any) = (self.rows.borrow_mut(), false);
        self.opened.borrow_mut().retain(|id| match rows.get_mut(id) {
            Some(row) if row.unanswered > 0 => true,
            Some(row) if stays(*id, row) => {
                any = true;
                true
            }
            Some(row) => {
                row.root = None;
                false
            }
            None => false,
        });
        any
    }

    /// Closes roots that were left open, when no lookup has come for [`IDLE`].
    pub(crate) async fn close_idle_roots(self: Rc<Self>) {
        loop {
            self.rests.notified().await;
            loop {
                self.lookups.set(false);
                tokio::time::sleep(IDLE).await;
                if !self.lookups.get() {
                    break;
                }
            }
            self.resting.set(false);
            self.close_all_roots();
        }
    }

    /// Notes that a mount is gone and may have left copies in other mount namespaces that are not catatonic.
    pub(crate) fn note_copies(&self) {
        let (noted, silenced) = self.copies.get();
        self.copies.set((noted + 1, silenced));
    }

    /// Returns whether there may be such copies.
    pub(crate) fn may_have_left_copies(&self) -> bool {
        let (noted, silenced) = self.copies.get();
        silenced < noted
    }

    /// Returns how often they were noted.
    pub(crate) fn noted_copies(&self) -> u64 {
        self.copies.get().0
    }

    /// Notes that all copies are catatonic that were noted until [`noted_copies`](Self::noted_copies) has returned this.
    pub(crate) fn silenced_copies(&self, until: u64) {
        let (noted, silenced) = self.copies.get();
        self.copies.set((noted, silenced.max(until)));
    }

    /// Creates a pipe for a mount, and sends its read end to the keeper.
    ///
    /// # Errors
    /// Returns the errors of pipe(2) and of the message to the keeper.
    pub(crate) fn create_pipe(&self) -> io::Result<u32> {
        self.pipes.borrow_mut().create().map(|pipe| pipe.number)
    }

    /// Returns the pipe with this number.
    pub(crate) fn pipe(&self, number: u32) -> Option<Rc<Pipe>> {
        self.pipes.borrow().get(number).map(Rc::clone)
    }

    /// Returns all pipes.
    pub(crate) fn pipes(&self) -> Vec<Rc<Pipe>> {
        self.pipes.borrow().iter().map(Rc::clone).collect()
    }

    /// Returns the numbers of all pipes by inode number.
    pub(crate) fn inodes(&self) -> HashMap<u64, u32> {
        self.pipes.borrow().inodes()
    }

    /// Opens another write end of a pipe.
    ///
    /// # Errors
    /// `NotFound` without such a pipe, else those of open(2).
    pub(crate) fn write_end(&self, pipe: u32) -> io::Result<OwnedFd> {
        self.pipes.borrow().get(pipe).ok_or(io::ErrorKind::NotFound)?.write_end()
    }

    /// Closes a pipe that no mount writes to any more.
    pub(crate) fn release_pipe(&self, pipe: u32) {
        self.pipes.borrow_mut().release(pipe);
    }

    /// Closes all pipes that no mount writes to or is about to write to, except those of `shared`.
    pub(crate) fn release_unused_pipes(&self, shared: &[u32]) {
        let unused = |pipe: &&Rc<Pipe>| pipe.mounts.get() == 0 && !pipe.awaited.get() && !shared.contains(&pipe.number);
        let unused: Vec<u32> = self.pipes.borrow().iter().filter(unused).map(|pipe| pipe.number).collect();
        unused.into_iter().for_each(|pipe| self.retire_pipe(pipe));
    }

    /// Closes a pipe that none of our mounts uses any more. A pipe to which another mount namespace's copy of a mount can still
    /// write is read until the last copy is gone or catatonic, and closed then: the kernel does not answer a request that is in a
    /// pipe whose read end is closed.
    pub(super) fn retire_pipe(&self, number: u32) {
        let Some(pipe) = self.pipe(number) else { return };
        if !pipe.has_writer() {
            self.release_pipe(number);
        } else if !pipe.read.replace(true) {
            // The receiver lives as long as the worker.
            let _ = self.unread.send(pipe);
        }
    }

    /// Sends a message to the keeper.
    pub(crate) fn tell_keeper(&self, message: Message) {
        self.pipes.borrow().tell(message);
    }
}

/// Opens the root of an autofs mount, even if its path has changed. With `kind`, a mount of another kind that has got its device
/// number is not taken for it. Returns `None` if it is not in the mount table any more.
/// May block.
///
/// # Errors
/// Returns the errors of reading the mount table and of opening the root.
pub(crate) fn find_root(control: &Control, path: &Path, dev: u32, kind: Option<Kind>) -> io::Result<Option<OwnedFd>> {
    if let Ok(root) = control.open_mount(path, dev) {
        return Ok(Some(root));
    }
    let table = MountTable::read()?;
    let is_it = |shown: AutofsOptions| kind.is_none_or(|kind| kind == shown.kind);
    let there = table.mounts().iter().find(|mounted| mounted.dev == dev && mounted.autofs.is_some_and(is_it));
    there.map(|mounted| control.open_mount(&mounted.target, dev)).transpose()
}
