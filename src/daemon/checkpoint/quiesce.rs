//! Quiesces the daemon for a checkpoint.
//!
//! CRIU cannot dump a process that waits in the kernel for a lookup or an expire request, nor a control pipe that contains a
//! packet. So no operation is started any more, and the operations in progress are awaited. In *live* mode the checkpoint then
//! succeeds as long as no lookup occurs. In *park* mode all autofs mounts are set catatonic: lookups of entries that are not
//! mounted fail at once, and mounted entries stay usable. CRIU can restore any number of catatonic autofs mounts, but only
//! about 120 live ones.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};
use tokio::time::{Instant, sleep, sleep_until};

use super::restore;
use crate::blocking;
use crate::control::history::EventKind;
use crate::control::{Bytes, Mode, Quiesce, Quiesced, Umount};
use crate::daemon::life::Phase;
use crate::daemon::mounts::Mounts;
use crate::daemon::mounts::table::{MountTable, Mounted};
use crate::daemon::tools::Tools;
use crate::daemon::worker::Worker;
use crate::engine::{EntryId, EntryPhase, Event, Key, Kind, MountId};
use crate::exec::lanes::Lane;
use crate::sys::autofs::Control;
use crate::task::spawn_local;
use crate::text::Escaped;

/// Interval at which a quiesce checks whether operations are still in progress.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Interval between attempts to unmount busy entries.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// File system types that CRIU can dump or mount again (criu/mount.c, `find_fstype_by_name`).
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

/// Quiesces the daemon and returns when a checkpoint can be made.
///
/// # Errors
/// Returns why this is not possible; the daemon has resumed then.
pub(crate) async fn quiesce(worker: &Rc<Worker>, wish: Quiesce) -> Result<Quiesced, String> {
    let life = &worker.life;
    life.phase().may_quiesce()?;
    let deadline = Instant::now() + Duration::from_secs(wish.timeout);
    // An earlier quiesce is ended first.
    restore::resume(worker);
    while life.phase() == Phase::Restoring {
        before(deadline, worker)?;
        sleep(POLL_INTERVAL).await;
    }
    let until = (deadline + Duration::from_secs(wish.lease)).into_std();
    if !life.quiesce(wish.mode, until) {
        life.phase().may_quiesce()?;
        return Err("the daemon is already quiesced".to_owned());
    }
    worker.event(Event::Pause(true));
    let rest = come_to_rest(worker, wish, deadline).await;
    let lease = Instant::now() + Duration::from_secs(wish.lease);
    let unmounted = match rest {
        Ok(unmounted) if life.rest(until, lease.into_std()) => unmounted,
        Ok(_) => return Err("the quiesce was ended meanwhile".to_owned()),
        Err(why) => {
            if life.is_quiesced_until(until) {
                restore::resume(worker);
            }
            return Err(why);
        }
    };
    let lookups = Arc::clone(&worker.state.borrow().context.sources.lookups);
    // They hold a socket each, and would be dumped, too.
    lookups.rest().await;
    lookups.flush_cache().await;
    let autofs_mounts = u32::try_from(worker.mounts.count()).unwrap_or(u32::MAX);
    spawn_local(end_lease(Rc::clone(worker), lease));
    info!("quiesced for a checkpoint, for at most {} s", wish.lease);
    let message = format!("quiesced for a checkpoint, for at most {} s", wish.lease);
    worker.history.event(EventKind::Checkpoint, message);
    worker.standing.notify_one();
    Ok(Quiesced { mode: wish.mode, autofs_mounts, unmounted, lease: wish.lease })
}

/// Resumes at the end of the lease, unless the daemon has resumed before.
async fn end_lease(worker: Rc<Worker>, lease: Instant) {
    sleep_until(lease).await;
    if worker.life.is_quiesced_until(lease.into_std()) {
        warn!("no checkpoint was made within the lease: resuming");
        worker.history.event(EventKind::Checkpoint, "no checkpoint was made within the lease");
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
                sleep(POLL_INTERVAL).await;
            }
        }
        Mode::Park => {
            // Requests already read are served; packets stay in the pipes.
            worker.requests.hold();
            let time_limit = halfway(deadline);
            while !worker.is_idle() && Instant::now() < time_limit {
                sleep(POLL_INTERVAL).await;
            }
            park(worker).await.map_err(|e| format!("cannot make all autofs mounts catatonic: {e}"))?;
            // Operations still in progress must end, although no lookup waits for them any more.
            while !worker.is_idle() {
                before(deadline, worker)?;
                sleep(POLL_INTERVAL).await;
            }
        }
    }
    worker.mounts.close_all_roots();
    Ok(unmounted)
}

fn halfway(deadline: Instant) -> Instant {
    Instant::now() + deadline.saturating_duration_since(Instant::now()) / 2
}

/// Returns an error with the paths of operations in progress if the deadline has passed.
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
    let what = if busy.is_empty() {
        "operations are in progress".to_owned()
    } else {
        format!("operations are in progress at {}", busy.join(", "))
    };
    Err(format!("cannot quiesce in time: {what}"))
}

/// Sets all autofs mounts catatonic. Waiting lookups get ENOENT.
async fn park(worker: &Rc<Worker>) -> io::Result<()> {
    let Tools { control, lanes, .. } = worker.tools();
    if !control.has_device() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "/dev/autofs cannot be opened, and they could not be reconnected without it",
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
    // Drops the packets of lookups that failed when the mounts became catatonic.
    worker.requests.discard(&worker.mounts.pipes());
    Ok(())
}

/// Unmounts the entries that `what` selects, and returns the paths that were unmounted.
async fn unmount(worker: &Rc<Worker>, what: Umount, deadline: Instant) -> Result<Vec<Bytes>, String> {
    let table =
        || async { blocking::run(MountTable::read).await.map_err(|e| format!("cannot read the mount table: {e}")) };
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
        sleep(RETRY_DELAY).await;
        let now = table().await?;
        last = wanted(&worker.mounts, &now);
    }
    if let Some((_, _, first)) = last.first() {
        let all: Vec<String> = last.iter().map(|(_, _, line)| Escaped::path(&line.target).to_string()).collect();
        let fstype = Escaped(&first.fstype).to_string();
        return Err(format!(
            "in use, and of a type that CRIU does not support: {} ({fstype}); end the processes that use it, or leave it \
             mounted (--umount none) and give criu --enable-fs {fstype} for dump and restore",
            all.join(", ")
        ));
    }
    let after: BTreeSet<PathBuf> = table().await?.mounts().iter().map(|m| m.target.clone()).collect();
    let places = Places::of(&worker.mounts);
    let ours = |line: &&Mounted| line.autofs.is_none() && places.entry(&line.target).is_some();
    let gone = before.mounts().iter().filter(ours).filter(|line| !after.contains(&line.target));
    Ok(gone.map(|line| Bytes::from(line.target.as_path())).collect())
}

/// Returns the mounts at our entries with types that CRIU does not support. Bind mounts of file systems that are also mounted
/// elsewhere are left out, because those belong to the container.
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

/// Returns whether CRIU supports a file system type.
pub(crate) fn is_supported(fstype: &[u8]) -> bool {
    SUPPORTED.contains(&fstype)
}

/// The autofs mounts by path.
struct Places(HashMap<Arc<Path>, (MountId, Kind)>);

impl Places {
    fn of(mounts: &Mounts) -> Self {
        Self(mounts.filter_map(|id, mount| Some((Arc::clone(&mount.path), (id, mount.kind)))).into_iter().collect())
    }

    /// Returns the entry that contains a path.
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
