//! Answering requests for autofs mounts that exist in other mount namespaces only.
//!
//! A container with private propagation keeps its copies of our autofs mounts when we unmount ours. Lookups there still
//! come through our pipe, and nobody else can answer them. The mount is reached by way of a process that sees it
//! (`/proc/PID/root`, `/proc/PID/cwd`) and set catatonic: what waits there fails with ENOENT, and so does what is looked up
//! later, without asking us again.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, info, warn};

use super::Requests;
use crate::daemon::attach::opener::{Opener, PATIENCE};
use crate::daemon::mounts::Mounts;
use crate::daemon::mounts::pipes::Pipe;
use crate::daemon::mounts::table::Mounted;
use crate::daemon::tools::Tools;
use crate::engine::{Errno, Token};
use crate::exec::lanes::Lane;
use crate::link::journal::{Read, Slot};
use crate::sys::autofs::Control;
use crate::sys::packet::Packet;
use crate::sys::{mountinfo, procfs};

/// Pause between two searches: at first, and at most after doubling.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Searches that find no such mount before the requests are given up. A process may change its namespace, or end, while we
/// look.
const SEARCHES: u32 = 3;

/// Directories between a process's working directory and the root of an autofs mount that are searched.
const DEPTH: usize = 16;

/// How long the last requests of a daemon that ends may take.
const LAST: Duration = Duration::from_secs(3);

/// A request for an autofs mount that is not in our mount table.
#[derive(Debug, Clone)]
pub(crate) struct Lost {
    slot: Slot,
    token: Token,
    /// The process that waits.
    tgid: u32,
    /// Inode number of the pipe.
    pipe: Option<u64>,
}

/// Requests by the device of their mount.
pub(super) type ByDevice = HashMap<u32, Vec<Lost>>;

impl Requests {
    /// Adds the request in a slot to those that are to be answered elsewhere.
    pub(super) fn lose(&self, lost: &mut ByDevice, mounts: &Mounts, slot: Slot) {
        let journal = self.journal.borrow();
        let bytes = journal.packet(slot);
        let Ok(packet) = Packet::decode(&bytes) else { return };
        let request = packet.request();
        let pipe = mounts.pipe(journal.pipe(slot)).map(|pipe| pipe.inode.get());
        let one = Lost { slot, token: request.token, tgid: request.who.tgid, pipe };
        lost.entry(request.dev).or_default().push(one);
    }

    /// Returns the request in a slot, if there is one, as one that is to be answered elsewhere.
    pub(super) fn lost(&self, mounts: &Mounts, slot: Option<Slot>) -> ByDevice {
        let mut lost = ByDevice::new();
        slot.into_iter().for_each(|slot| self.lose(&mut lost, mounts, slot));
        lost
    }

    /// Answers requests for a mount that is not in our mount table, and strikes them out of the journal. Ends when they are
    /// answered, or when no process is found that sees the mount.
    pub(super) async fn answer_elsewhere(self: Rc<Self>, tools: Tools, dev: u32, lost: Vec<Lost>) {
        let age = self.age.get();
        let (mut pause, mut searches) = (PAUSE.0, 0);
        // After a restore the tokens are those of other requests.
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
            pause = (pause * 2).min(PAUSE.1);
        }
        lost.iter().for_each(|lost| self.forget(lost.slot));
    }

    /// Answers what is left in journal and pipes when the daemon ends.
    pub(crate) async fn answer_the_last(&self, mounts: &Mounts, tools: &Tools) {
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
        let all = tokio::task::spawn_blocking(move || searches.into_iter().for_each(|search| drop(search())));
        if tokio::time::timeout(LAST, all).await.is_err() {
            warn!("requests from another mount namespace could not be answered");
        }
    }

    fn take(&self, pipe: &Pipe) -> io::Result<Read> {
        self.journal.borrow_mut().read(pipe.number, pipe.fd())
    }
}

fn search(tools: &Tools, dev: u32, lost: Vec<Lost>) -> impl FnOnce() -> io::Result<bool> + Send + use<> {
    let (control, mut opener) = (Arc::clone(&tools.control), Opener::new(Arc::clone(&tools.blocked)));
    move || answer(&control, &mut opener, dev, &lost)
}

/// Searches the mount namespaces of other processes for an autofs mount and answers its requests. Returns `false` if no
/// process has it.
///
/// # Errors
/// Those of the last attempt to open the mount, if one was found and could not be opened.
fn answer(control: &Control, opener: &mut Opener, dev: u32, lost: &[Lost]) -> io::Result<bool> {
    let mut waiting: Vec<i32> = lost.iter().filter_map(|lost| i32::try_from(lost.tgid).ok()).collect();
    waiting.sort_unstable();
    waiting.dedup();
    let mut failed = None;
    for pid in waiting.iter().copied().chain(procfs::one_process_of_each_mount_namespace()) {
        for (path, mounted) in seen_by(pid, dev) {
            // What is catatonic already has answered its requests.
            if mounted.autofs.is_some_and(|shown| shown.pipe_ino == Some(-1)) {
                return Ok(true);
            }
            match opener.open(&path, dev, PATIENCE) {
                Ok(root) => return refuse(control, &root, &mounted, lost).map(|()| true),
                Err(e) => failed = Some(e),
            }
        }
    }
    // A tree that was unmounted lazily is in no mount table, but processes may still be in it.
    for pid in waiting {
        let mut path = PathBuf::from(format!("/proc/{pid}/cwd"));
        for _ in 0..DEPTH {
            match opener.open(&path, dev, PATIENCE) {
                Ok(root) => return fail_all(control, &root, lost).map(|()| true),
                Err(e) if e.kind() == io::ErrorKind::TimedOut => break,
                Err(_) => path.push(".."),
            }
        }
    }
    failed.map_or(Ok(false), Err)
}

/// The places at which a process sees an autofs mount: the path by which we reach it, and its line in the process's mount
/// table.
fn seen_by(pid: i32, dev: u32) -> Vec<(PathBuf, Mounted)> {
    let Ok(table) = mountinfo::read_of(pid) else { return Vec::new() };
    let lines = mountinfo::parse(&table).filter(|line| line.dev == dev).map(Mounted::from);
    let root = format!("/proc/{pid}/root");
    let reached = |line: &Mounted| [root.as_bytes(), line.target.as_os_str().as_bytes()].concat();
    let place = |line: Mounted| (Path::new(std::ffi::OsStr::from_bytes(&reached(&line))).to_owned(), line);
    lines.filter(|line| line.autofs.is_some()).map(place).collect()
}

/// Sets a mount catatonic if it speaks through our pipe. Otherwise its device number may be that of another daemon's mount
/// by now, so only our requests are answered.
fn refuse(control: &Control, root: &OwnedFd, mounted: &Mounted, lost: &[Lost]) -> io::Result<()> {
    let shown = mounted.autofs.and_then(|shown| u64::try_from(shown.pipe_ino?).ok());
    if shown.is_some() && lost.iter().any(|lost| lost.pipe == shown) {
        return control.catatonic(root.as_fd());
    }
    fail_all(control, root, lost)
}

/// Answers each request with ENOENT.
fn fail_all(control: &Control, root: &OwnedFd, lost: &[Lost]) -> io::Result<()> {
    for lost in lost {
        match control.fail(root.as_fd(), lost.token, Errno::ENOENT) {
            // It was answered before.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {}
            other => other?,
        }
    }
    Ok(())
}
