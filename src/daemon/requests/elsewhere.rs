//! Answers requests for autofs mounts that only exist in other mount namespaces.
//!
//! A container with private propagation keeps its copies of our autofs mounts when we unmount ours. Lookups in the copies
//! still send packets through our pipe, and no other process can answer them. The copy is reached through a process that sees it
//! (`/proc/PID/root`, `/proc/PID/cwd`) and is set catatonic. Waiting and later lookups in it then fail with ENOENT, without
//! further packets.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, info, warn};

use super::Requests;
use crate::blocking;
use crate::daemon::attach::opener::{OPEN_TIMEOUT, Opener};
use crate::daemon::mounts::Mounts;
use crate::daemon::mounts::pipes::Pipe;
use crate::daemon::mounts::table::{Mounted, seen_by};
use crate::daemon::tools::Tools;
use crate::engine::{Errno, Token};
use crate::exec::lanes::Lane;
use crate::link::journal::{Read, Slot};
use crate::sys::autofs::Control;
use crate::sys::packet::Packet;
use crate::sys::procfs;

/// Pauses between searches: the first pause, which doubles each time, and the longest.
const SEARCH_DELAY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Number of searches without a result before the requests are given up. More than one, because a process may change its
/// namespace or end during a search.
const SEARCHES: u32 = 3;

/// How many parents of a process's working directory are examined to find the root of an autofs mount.
const DEPTH: usize = 16;

/// Deadline for answering the remaining requests at shutdown.
const LAST: Duration = Duration::from_secs(3);

/// A request for an autofs mount that is not in our mount table.
#[derive(Debug, Clone)]
pub(crate) struct Lost {
    slot: Slot,
    token: Token,
    /// The waiting process.
    tgid: u32,
    /// The inode number of the pipe.
    pipe: Option<u64>,
}

/// Requests by the device number of their mount.
pub(super) type ByDevice = HashMap<u32, Vec<Lost>>;

impl Requests {
    /// Adds the request in a slot to `lost`.
    pub(super) fn lose(&self, lost: &mut ByDevice, mounts: &Mounts, slot: Slot) {
        let journal = self.journal.borrow();
        let bytes = journal.packet(slot);
        let Ok(packet) = Packet::decode(&bytes) else { return };
        let request = packet.request();
        let pipe = mounts.pipe(journal.pipe(slot)).map(|pipe| pipe.inode.get());
        let one = Lost { slot, token: request.token, tgid: request.who.tgid, pipe };
        lost.entry(request.dev).or_default().push(one);
    }

    /// Returns the request in a slot, if there is one, by device number.
    pub(super) fn lost(&self, mounts: &Mounts, slot: Option<Slot>) -> ByDevice {
        let mut lost = ByDevice::new();
        slot.into_iter().for_each(|slot| self.lose(&mut lost, mounts, slot));
        lost
    }

    /// Answers requests for a mount that is not in our mount table, and removes them from the journal. Gives up if no process is
    /// found that sees the mount.
    pub(super) async fn answer_elsewhere(self: Rc<Self>, tools: Tools, dev: u32, lost: Vec<Lost>) {
        let age = self.age.get();
        let (mut pause, mut searches) = (SEARCH_DELAY.0, 0);
        // After a restore, the same tokens may belong to other requests.
        while self.age.get() == age {
            match tools.lanes.run(Lane::Umount, search(&tools, dev, lost.clone())).await {
                Ok(true) => {
                    info!("{} requests came from another mount namespace, for a mount that is gone here", lost.len());
                    break;
                }
                Ok(false) => {
                    searches += 1;
                    if searches >= SEARCHES {
                        warn!("no process sees the autofs mount for which {} requests came", lost.len());
                        break;
                    }
                }
                Err(e) => debug!("requests from another mount namespace cannot be answered now: {e}"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(SEARCH_DELAY.1);
        }
        lost.iter().for_each(|lost| self.forget(lost.slot));
    }

    /// At shutdown, when our mounts are gone, ends the requests that are parked or still in the pipes. Searches the mount namespaces
    /// once, for at most [`LAST`]; errors are not reported.
    pub(crate) async fn refuse_the_last(&self, mounts: &Mounts, tools: &Tools) {
        let mut lost = ByDevice::new();
        for (slot, _) in self.parked.take() {
            self.lose(&mut lost, mounts, slot);
        }
        for pipe in mounts.pipes() {
            while let Ok(Read::Packet(slot)) = self.take(&pipe) {
                self.lose(&mut lost, mounts, slot);
            }
        }
        let searches: Vec<_> = lost.into_iter().map(|(dev, lost)| search(tools, dev, lost)).collect();
        let all = blocking::run(move || searches.into_iter().for_each(|search| drop(search())));
        if tokio::time::timeout(LAST, all).await.is_err() {
            warn!("requests from another mount namespace could not be answered");
        }
    }

    /// Reads a packet of a pipe.
    pub(super) fn take(&self, pipe: &Pipe) -> io::Result<Read> {
        self.journal.borrow_mut().read(pipe.number, pipe.fd())
    }
}

fn search(tools: &Tools, dev: u32, lost: Vec<Lost>) -> impl FnOnce() -> io::Result<bool> + Send + use<> {
    let (control, mut opener) = (Arc::clone(&tools.control), Opener::new(Arc::clone(&tools.blocked)));
    move || find_and_refuse(&control, &mut opener, dev, &lost)
}

/// Searches the mount namespaces of other processes for an autofs mount and ends its requests: sets the mount catatonic if it uses
/// a pipe of ours, else fails the requests with ENOENT. Returns `false` if no process has the mount.
///
/// # Errors
/// Returns the last error of opening the mount, of setting it catatonic, or of failing a request.
fn find_and_refuse(control: &Control, opener: &mut Opener, dev: u32, lost: &[Lost]) -> io::Result<bool> {
    let mut waiting: Vec<i32> = lost.iter().filter_map(|lost| i32::try_from(lost.tgid).ok()).collect();
    waiting.sort_unstable();
    waiting.dedup();
    let mut failed = None;
    for pid in waiting.iter().copied().chain(procfs::one_process_of_each_mount_namespace()) {
        for (path, mounted) in seen_by(pid, |line| line.dev == dev) {
            // A catatonic mount has no waiting lookups.
            if mounted.autofs.is_some_and(|shown| shown.pipe_ino == Some(-1)) {
                return Ok(true);
            }
            match opener.open(&path, dev, OPEN_TIMEOUT) {
                Ok(root) => return refuse(control, &root, &mounted, lost).map(|()| true),
                Err(e) => failed = Some(e),
            }
        }
    }
    // A tree that was unmounted lazily is in no mount table, but processes may still be in it.
    for pid in waiting {
        let mut path = PathBuf::from(format!("/proc/{pid}/cwd"));
        for _ in 0..DEPTH {
            match opener.open(&path, dev, OPEN_TIMEOUT) {
                Ok(root) => return fail_all(control, &root, lost).map(|()| true),
                Err(e) if e.kind() == io::ErrorKind::TimedOut => break,
                Err(_) => path.push(".."),
            }
        }
    }
    failed.map_or(Ok(false), Err)
}

/// Sets a mount catatonic if it uses our pipe. Otherwise another daemon's mount may have its device number by now, and only our
/// requests are answered.
fn refuse(control: &Control, root: &OwnedFd, mounted: &Mounted, lost: &[Lost]) -> io::Result<()> {
    let shown = mounted.autofs.and_then(|shown| u64::try_from(shown.pipe_ino?).ok());
    if shown.is_some() && lost.iter().any(|lost| lost.pipe == shown) {
        return control.catatonic(root.as_fd());
    }
    fail_all(control, root, lost)
}

/// Answers all requests with ENOENT.
fn fail_all(control: &Control, root: &OwnedFd, lost: &[Lost]) -> io::Result<()> {
    for lost in lost {
        match control.fail(root.as_fd(), lost.token, Errno::ENOENT) {
            // It was already answered.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {}
            other => other?,
        }
    }
    Ok(())
}
