//! Coming to rest for a checkpoint, and going on afterwards.
//!
//! CRIU cannot dump a process that waits in the kernel for an automount, nor one that waits there for what is unused,
//! nor a control pipe with a packet in it. So nothing begins by itself any more, what has begun is waited for, and then
//! either the pipes are empty for as long as nobody looks anything up (*live*), or all autofs mounts are made catatonic
//! (*park*): lookups of what is not mounted fail at once, what is mounted stays in use. CRIU restores any number of
//! catatonic autofs mounts, and some 120 live ones.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until};

use super::restore;
use crate::control::{Bytes, Mode, Quiesce, Quiesced, Umount};
use crate::daemon::life::Phase;
use crate::daemon::mounts::Mounts;
use crate::daemon::mounts::table::{MountTable, Mounted};
use crate::daemon::tools::Tools;
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

/// Comes to rest. When that fails, all goes on as before.
pub(crate) async fn quiesce(worker: &Rc<Worker>, wish: Quiesce) -> Result<Quiesced, String> {
    let life = &worker.life;
    life.phase().may_quiesce()?;
    let deadline = Instant::now() + Duration::from_secs(wish.timeout);
    // An earlier rest ends, so that this one is as if there had been none.
    restore::resume(worker);
    while life.phase() == Phase::Restoring {
        before(deadline, worker)?;
        sleep(LOOK).await;
    }
    let until = (deadline + Duration::from_secs(wish.lease)).into_std();
    if !life.quiesce(wish.mode, until) {
        life.phase().may_quiesce()?;
        return Err("another checkpoint is expected".to_owned());
    }
    worker.event(Event::Pause(true));
    let rest = come_to_rest(worker, wish, deadline).await;
    let lease = Instant::now() + Duration::from_secs(wish.lease);
    let unmounted = match rest {
        Ok(unmounted) if life.rest(until, lease.into_std()) => unmounted,
        Ok(_) => return Err("the checkpoint is not expected any more".to_owned()),
        Err(why) => {
            if life.is_quiesced_until(until) {
                restore::resume(worker);
            }
            return Err(why);
        }
    };
    let autofs_mounts = u32::try_from(worker.mounts.count()).unwrap_or(u32::MAX);
    spawn_local(end_lease(Rc::clone(worker), lease));
    info!("at rest for a checkpoint, for {} s at most", wish.lease);
    Ok(Quiesced { mode: wish.mode, autofs_mounts, unmounted, lease: wish.lease })
}

/// Goes on at the end of the time for a checkpoint, unless that has happened before.
async fn end_lease(worker: Rc<Worker>, lease: Instant) {
    sleep_until(lease).await;
    if worker.life.is_quiesced_until(lease.into_std()) {
        warn!("no checkpoint was made within its time: going on");
        restore::resume(&worker);
    }
}

async fn come_to_rest(worker: &Rc<Worker>, wish: Quiesce, deadline: Instant) -> Result<Vec<Bytes>, String> {
    let unmounted = unmount(worker, wish.umount, halfway(deadline)).await?;
    match wish.mode {
        Mode::Live => {
            let empty = |worker: &Rc<Worker>| worker.mounts.pipes().iter().all(|pipe| pipe.is_empty());
            while !(worker.is_idle() && empty(worker)) {
                before(deadline, worker)?;
                sleep(LOOK).await;
            }
        }
        Mode::Park => {
            // Requests that have been read are served to their end, others stay in the pipes.
            worker.requests.hold();
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
    let mut busy = Vec::new();
    worker.view(|engine| {
        for view in engine.mounts() {
            let Some(mount) = worker.mounts.get(view.id) else { continue };
            let done = |phase| matches!(phase, EntryPhase::Mounted | EntryPhase::Failed(..));
            let entries = view.entries().filter(|entry| !done(entry.phase) || entry.waiting > 0);
            busy.extend(entries.map(|entry| Escaped::path(&mount.entry(entry.key)).to_string()));
        }
    });
    busy.truncate(10);
    let what = if busy.is_empty() { "work goes on".to_owned() } else { format!("work goes on at {}", busy.join(", ")) };
    Err(format!("not at rest within the time: {what}"))
}

/// Makes all autofs mounts catatonic. Whoever waits gets ENOENT.
async fn park(worker: &Rc<Worker>) -> io::Result<()> {
    let Tools { control, lanes, .. } = worker.tools();
    if !control.has_device() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "/dev/autofs cannot be opened, and nothing else takes them back",
        ));
    }
    let write_ends: io::Result<Vec<_>> = worker.mounts.pipes().iter().map(|pipe| pipe.write_end()).collect();
    worker.life.keep_write_ends(write_ends?);
    let jobs = worker.mounts.filter_map(|_, mount| Some((mount.path.clone(), mount.dev)));
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
    worker.requests.discard(&worker.mounts.pipes());
    Ok(())
}

/// Unmounts what is to be unmounted before a checkpoint, and says what it was.
async fn unmount(worker: &Rc<Worker>, what: Umount, deadline: Instant) -> Result<Vec<Bytes>, String> {
    let table = || async {
        let read = tokio::task::spawn_blocking(MountTable::read).await;
        read.map_err(|e| e.to_string())?.map_err(|e| format!("cannot read the mount table: {e}"))
    };
    let wanted = |mounts: &Mounts, table: &MountTable| match what {
        Umount::None => Vec::new(),
        Umount::Unsupported => unsupported(mounts, table),
        Umount::Idle => unsupported(mounts, table),
    };
    let before = table().await?;
    if what == Umount::Idle {
        worker.event(Event::Prune);
    }
    let mut last = wanted(&worker.mounts, &before);
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
        last = wanted(&worker.mounts, &now);
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
    let places = Places::of(&worker.mounts);
    let ours = |line: &&Mounted| line.autofs.is_none() && places.entry(&line.target).is_some();
    let gone = before.mounts().iter().filter(ours).filter(|line| !after.contains(&line.target));
    Ok(gone.map(|line| Bytes::from(line.target.as_path())).collect())
}

/// What is mounted at our entries of types that CRIU does not know. A bind mount counts as what it is a part of, if that
/// is mounted elsewhere too: then it is the container's.
fn unsupported(mounts: &Mounts, table: &MountTable) -> Vec<(MountId, Key, Mounted)> {
    let unknown = |line: &&Mounted| !is_supported(&line.fstype);
    let places = Places::of(mounts);
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
struct Places(HashMap<Arc<Path>, (MountId, Kind)>);

impl Places {
    fn of(mounts: &Mounts) -> Self {
        Self(mounts.filter_map(|id, mount| Some((Arc::clone(&mount.path), (id, mount.kind)))).into_iter().collect())
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
