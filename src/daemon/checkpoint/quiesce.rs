//! Coming to rest for a checkpoint, and going on afterwards.
//!
//! CRIU cannot dump a process that waits in the kernel for an automount, nor one that waits there for what is unused,
//! nor a control pipe with a packet in it. So nothing begins by itself any more, what has begun is waited for, and then
//! either the pipes are empty for as long as nobody looks anything up (*live*), or all autofs mounts are made catatonic
//! (*park*): lookups of what is not mounted fail at once, what is mounted stays in use. CRIU restores any number of
//! catatonic autofs mounts, and some 120 live ones.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until};

use crate::control::{Bytes, Mode, Quiesce, Quiesced, Rest, Umount};
use crate::daemon::checkpoint::restore;
use crate::daemon::mounts::table::{MountTable, Mounted};
use crate::daemon::state::State;
use crate::daemon::upgrade;
use crate::daemon::worker::Worker;
use crate::engine::{EntryId, EntryPhase, Event, Key, Kind, MountId};
use crate::exec::lanes::Lane;
use crate::sys::autofs::Control;
use crate::text::Escaped;

/// Between two looks whether all is at rest. Only while somebody waits for that.
const LOOK: Duration = Duration::from_millis(5);

/// Between two attempts to unmount what is in use.
const RETRY: Duration = Duration::from_millis(50);

/// File systems that CRIU dumps with their content or mounts again (criu/mount.c, `find_fstype_by_name`).
const SUPPORTED: [&[u8]; 18] = [
    b"aufs",
    b"autofs",
    b"binfmt_misc",
    b"btrfs",
    b"cgroup",
    b"cgroup2",
    b"debugfs",
    b"devpts",
    b"devtmpfs",
    b"fusectl",
    b"mqueue",
    b"overlay",
    b"proc",
    b"pstore",
    b"securityfs",
    b"sysfs",
    b"tmpfs",
    b"tracefs",
];

/// The rest for a checkpoint.
#[derive(Debug)]
pub(crate) struct Quiet {
    mode: Mode,
    /// The checkpoint may be made.
    pub(crate) ready: bool,
    /// When it is over in any case.
    until: Instant,
    /// A reload was asked for meanwhile.
    pub(crate) reload: bool,
    /// A write end of each pipe: without one a pipe would be at its end while its mounts are catatonic.
    write_ends: Vec<OwnedFd>,
}

impl Quiet {
    /// As others see it.
    pub(crate) fn rest(&self) -> Rest {
        let lease = self.until.saturating_duration_since(Instant::now()).as_secs();
        Rest { mode: self.mode, ready: self.ready, lease }
    }
}

/// Comes to rest. When that fails, all goes on as before.
pub(crate) async fn quiesce(worker: &Rc<Worker>, wish: Quiesce) -> Result<Quiesced, String> {
    if worker.is_stopping() {
        return Err("the daemon is about to end".to_owned());
    }
    if worker.is_being_replaced() {
        return Err(upgrade::UNDER_WAY.to_owned());
    }
    let deadline = Instant::now() + Duration::from_secs(wish.timeout);
    // An earlier rest ends, so that this one is as if there had been none.
    resume(worker);
    while worker.state.borrow().regaining {
        before(deadline, worker)?;
        sleep(LOOK).await;
    }
    let until = deadline + Duration::from_secs(wish.lease);
    let quiet = Quiet { mode: wish.mode, ready: false, until, reload: false, write_ends: Vec::new() };
    worker.state.borrow_mut().quiet = Some(quiet);
    worker.event(Event::Pause(true));
    let rest = come_to_rest(worker, wish, deadline).await;
    let unmounted = match rest {
        Ok(unmounted) => unmounted,
        Err(why) => {
            resume(worker);
            return Err(why);
        }
    };
    let until = Instant::now() + Duration::from_secs(wish.lease);
    let autofs_mounts = {
        let mut state = worker.state.borrow_mut();
        if let Some(quiet) = &mut state.quiet {
            quiet.ready = true;
            quiet.until = until;
        }
        u32::try_from(state.triggers.len()).unwrap_or(u32::MAX)
    };
    spawn_local(lease(Rc::clone(worker), until));
    info!("at rest for a checkpoint, for {} s at most", wish.lease);
    Ok(Quiesced { mode: wish.mode, autofs_mounts, unmounted, lease: wish.lease })
}

/// Goes on after a rest, if there is one.
pub(crate) fn resume(worker: &Rc<Worker>) {
    // A hook may be faster than our own notice of the restore, which would come again while we go on.
    if worker.sentinel.was_restored() {
        return restore::notice(worker, None);
    }
    let quiet = worker.state.borrow_mut().quiet.take();
    if quiet.is_some() {
        restore::regain(worker, quiet);
    }
}

/// Goes on when the time is over and nobody has said so.
async fn lease(worker: Rc<Worker>, until: Instant) {
    sleep_until(until).await;
    if worker.state.borrow().quiet.as_ref().is_some_and(|quiet| quiet.until == until) {
        warn!("no checkpoint was made within its time: going on");
        resume(&worker);
    }
}

async fn come_to_rest(worker: &Rc<Worker>, wish: Quiesce, deadline: Instant) -> Result<Vec<Bytes>, String> {
    let unmounted = unmount(worker, wish.umount, halfway(deadline)).await?;
    match wish.mode {
        Mode::Live => {
            let empty = |worker: &Rc<Worker>| worker.state.borrow().pipes.iter().all(|pipe| pipe.is_empty());
            while !(worker.is_idle() && empty(worker)) {
                before(deadline, worker)?;
                sleep(LOOK).await;
            }
        }
        Mode::Park => {
            // Requests that have been read are served to their end, others stay in the pipes.
            worker.state.borrow_mut().hold = true;
            let patience = halfway(deadline);
            while !worker.is_idle() && Instant::now() < patience {
                sleep(LOOK).await;
            }
            park(worker).await.map_err(|e| format!("cannot make all autofs mounts catatonic: {e}"))?;
            // What is still being mounted or unmounted ends alone; nobody waits for it any more.
            while !worker.is_idle() {
                before(deadline, worker)?;
                sleep(LOOK).await;
            }
        }
    }
    Ok(unmounted)
}

fn halfway(deadline: Instant) -> Instant {
    Instant::now() + deadline.saturating_duration_since(Instant::now()) / 2
}

/// Says what is not at rest, when the time is over.
fn before(deadline: Instant, worker: &Worker) -> Result<(), String> {
    if Instant::now() < deadline {
        return Ok(());
    }
    let state = worker.state.borrow();
    let mut busy = Vec::new();
    for view in state.engine.mounts() {
        let Some(trigger) = state.triggers.get(&view.id) else { continue };
        let done = |phase| matches!(phase, EntryPhase::Mounted | EntryPhase::Failed(..));
        let entries = view.entries().filter(|entry| !done(entry.phase) || entry.waiting > 0);
        busy.extend(entries.map(|entry| Escaped::path(&trigger.entry(entry.key)).to_string()));
    }
    busy.truncate(10);
    let what = if busy.is_empty() { "work goes on".to_owned() } else { format!("work goes on at {}", busy.join(", ")) };
    Err(format!("not at rest within the time: {what}"))
}

/// Makes all autofs mounts catatonic. Whoever waits gets ENOENT.
async fn park(worker: &Rc<Worker>) -> io::Result<()> {
    let (control, jobs, lanes) = {
        let mut state = worker.state.borrow_mut();
        if !state.control.has_device() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "/dev/autofs cannot be opened, and nothing else takes them back",
            ));
        }
        let write_ends: io::Result<Vec<_>> = state.pipes.iter().map(|pipe| pipe.write_end()).collect();
        let write_ends = write_ends?;
        if let Some(quiet) = &mut state.quiet {
            quiet.write_ends = write_ends;
        }
        let jobs: Vec<_> = state.triggers.values().map(|t| (t.path.clone(), t.dev)).collect();
        (Arc::clone(&state.control), jobs, Arc::clone(&state.context.lanes))
    };
    let one = move |control: &Control, path: &Path, dev| {
        let root = control.open_mount(path, dev)?;
        control.catatonic(root.as_fd())
    };
    let all = move || -> io::Result<()> {
        for (path, dev) in &jobs {
            one(&control, path, *dev).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", Escaped::path(path))))?;
        }
        Ok(())
    };
    lanes.run(Lane::Umount, all).await?;
    // The packets of those who have been thrown out.
    worker.discard_packets();
    Ok(())
}

/// Unmounts what is to be unmounted before a checkpoint, and says what it was.
async fn unmount(worker: &Rc<Worker>, what: Umount, deadline: Instant) -> Result<Vec<Bytes>, String> {
    let table = || async {
        let read = tokio::task::spawn_blocking(MountTable::read).await;
        read.map_err(|e| e.to_string())?.map_err(|e| format!("cannot read the mount table: {e}"))
    };
    let wanted = |state: &State, table: &MountTable| match what {
        Umount::None => Vec::new(),
        Umount::Unsupported => unsupported(state, table),
        Umount::Idle => unsupported(state, table),
    };
    let before = table().await?;
    if what == Umount::Idle {
        worker.event(Event::Prune);
    }
    let mut last = wanted(&worker.state.borrow(), &before);
    loop {
        for (mount, key, _) in &last {
            worker.event(Event::Unmount { at: EntryId { mount: *mount, key: key.clone() } });
        }
        let settled = worker.is_idle();
        if last.is_empty() && (what != Umount::Idle || settled) || Instant::now() >= deadline {
            break;
        }
        sleep(RETRY).await;
        let now = table().await?;
        last = wanted(&worker.state.borrow(), &now);
    }
    if let Some((_, _, first)) = last.first() {
        let all: Vec<String> = last.iter().map(|(_, _, line)| Escaped::path(&line.target).to_string()).collect();
        let fstype = Escaped(&first.fstype).to_string();
        return Err(format!(
            "in use, and of a type that a checkpoint cannot hold: {} ({fstype}); end what uses it, or leave it mounted \
             (--umount none) and give criu --enable-fs {fstype} on both sides",
            all.join(", ")
        ));
    }
    let after: BTreeSet<PathBuf> = table().await?.mounts().iter().map(|m| m.target.clone()).collect();
    let state = worker.state.borrow();
    let places = Places::of(&state);
    let ours = |line: &&Mounted| line.autofs.is_none() && places.entry(&line.target).is_some();
    let gone = before.mounts().iter().filter(ours).filter(|line| !after.contains(&line.target));
    Ok(gone.map(|line| Bytes::from(line.target.as_path())).collect())
}

/// What is mounted at our entries of types that CRIU does not know. A bind mount counts as what it is a part of, if that
/// is mounted elsewhere too: then it is the container's.
fn unsupported(state: &State, table: &MountTable) -> Vec<(MountId, Key, Mounted)> {
    let unknown = |line: &&Mounted| !is_supported(&line.fstype);
    let places = Places::of(state);
    let foreign = |line: &&Mounted| places.entry(&line.target).is_none();
    let elsewhere: BTreeSet<u32> = table.mounts().iter().filter(foreign).map(|line| line.dev).collect();
    let found = table.mounts().iter().filter(unknown).filter(|line| !elsewhere.contains(&line.dev));
    let at = |line: &Mounted| {
        let (mount, key) = places.entry(&line.target)?;
        Some((mount, key, line.clone()))
    };
    found.filter_map(at).collect()
}

/// Whether CRIU knows a type of file systems.
pub(crate) fn is_supported(fstype: &[u8]) -> bool {
    SUPPORTED.contains(&fstype)
}

/// Our autofs mounts by their paths.
struct Places<'s>(HashMap<&'s Path, (MountId, Kind)>);

impl<'s> Places<'s> {
    fn of(state: &'s State) -> Self {
        Self(state.triggers.iter().map(|(id, t)| (&*t.path, (*id, t.kind))).collect())
    }

    /// The entry at or below which a path is.
    fn entry(&self, path: &Path) -> Option<(MountId, Key)> {
        path.ancestors().find_map(|above| {
            let (id, kind) = *self.0.get(above)?;
            let key = match kind {
                Kind::Indirect => path.strip_prefix(above).ok()?.iter().next()?.as_encoded_bytes().into(),
                Kind::Direct | Kind::Offset => Key::default(),
            };
            Some((id, key))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_criu_can_carry() {
        assert!(is_supported(b"tmpfs") && is_supported(b"overlay"));
        for fstype in ["nfs", "nfs4", "cifs", "fuse.sshfs", "ext4", "ramfs"] {
            assert!(!is_supported(fstype.as_bytes()), "{fstype}");
        }
        assert!(SUPPORTED.is_sorted());
    }
}
