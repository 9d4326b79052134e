//! Unmounts top-level autofs mounts, or leaves them to the next start.

use std::collections::HashSet;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, error, info, warn};

use super::busy::Retry;
use super::covered;
use super::unmount_nested::{Copies, forget, silence, umount_trigger};
use crate::blocking;
use crate::daemon::attach::opener::{Opener, SHORT_OPEN_TIMEOUT};
use crate::daemon::mounts::Mounts;
use crate::daemon::mounts::table::MountTable;
use crate::daemon::tools::Tools;
use crate::engine::{Kind, MountId, Reason, Shutdown};
use crate::exec::dirs;
use crate::exec::lanes::Lane;
use crate::logging::target;
use crate::record::Record;
use crate::sys::autofs::Control;
use crate::sys::mount;
use crate::task;
use crate::text::Escaped;

/// Deadline for setting the remaining autofs mounts catatonic at shutdown.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// Number of parallel unmounts. Each takes mostly an RCU grace period, which unmounts at the same time share.
const PARALLEL: usize = 16;

/// The result for each autofs mount: an error says why it is still mounted.
pub(crate) type Outcomes = Vec<(MountId, Result<(), Reason>)>;

/// Unmounts top-level autofs mounts, none of them below another. With `at_exit` the daemon ends, and
/// stops serving them at once. Returns the result for each.
pub(crate) async fn detach(mounts: &Mounts, tools: &Tools, leaving: Vec<(MountId, bool)>, at_exit: bool) -> Outcomes {
    let nowhere: Arc<Path> = Path::new("").into();
    let job = |(id, lazy)| match mounts.get(id) {
        Some(known) => {
            mounts.watch.expect_unmount();
            (id, known.path, Some((known.kind, known.dev)), lazy)
        }
        None => (id, Arc::clone(&nowhere), None, lazy),
    };
    let jobs: Vec<_> = leaving.into_iter().map(job).collect();
    let share = jobs.len().div_ceil(PARALLEL).max(1);
    let mut shares = Vec::new();
    for jobs in jobs.chunks(share).map(<[_]>::to_vec) {
        let (lanes, control) = (Arc::clone(&tools.lanes), Arc::clone(&tools.control));
        let mut opener = Opener::new(Arc::clone(&tools.blocked));
        let unmount = move || {
            // For the whole share: there may be thousands of mounts in use.
            let mut retry = Retry::begin(at_exit);
            let unmount = |(id, path, known, lazy): (MountId, Arc<Path>, Option<(Kind, u32)>, bool)| {
                let unmount = |known| loop {
                    let result = match opener.directory(&path) {
                        Err(e) if e.kind() == io::ErrorKind::TimedOut => unmount_out_of_reach(&control, &path, known),
                        dir => umount_trigger(&control, (&path, dir.ok()), known, lazy, at_exit),
                    };
                    if result.is_ok() || !retry.sleep() {
                        break result;
                    }
                };
                let result = known.map_or(Ok(Copies::Silent), unmount);
                (id, path, result)
            };
            jobs.into_iter().map(unmount).collect::<Vec<_>>()
        };
        shares.push(task::spawn_local(async move { lanes.run(Lane::Umount, unmount).await }));
    }
    let mut results = Vec::new();
    for share in shares {
        results.extend(share.await.unwrap_or_default());
    }
    if results.iter().any(|(.., result)| matches!(result, Ok(Copies::Unknown))) {
        mounts.note_copies();
    }
    forget(mounts, tools, results.iter().filter(|(.., result)| result.is_ok()).map(|(id, ..)| *id)).await;
    for (id, path, result) in &results {
        let (label, shown) = (target(path), Escaped::path(path));
        if result.is_ok() {
            info!(target: &label, "shut down path {shown}");
        } else {
            mounts.watch.unmount_failed();
            mounts.end_leaving(*id);
            error!(target: &label, "ask umount returned busy {shown}");
        }
    }
    results.into_iter().map(|(id, _, result)| (id, result.map(drop).map_err(Reason::from))).collect()
}

/// Unmounts an autofs mount on the way to which a server does not answer, if its file system covers the mount.
fn unmount_out_of_reach(control: &Control, path: &Path, (kind, dev): (Kind, u32)) -> Result<Copies, Record> {
    match covered::unmount(control, kind, dev) {
        Ok(()) => Ok(Copies::Silent),
        Err(e) => {
            debug!("{}, which is out of reach, stays mounted: {e}", Escaped::path(path));
            Err(Record::new(format!("a file system on the way to {} does not answer", Escaped::path(path))))
        }
    }
}

/// Retries removing directories that were not empty because other mounts below them still existed.
pub(crate) async fn remove_left_over(mounts: &Mounts, tools: &Tools) {
    forget(mounts, tools, []).await;
}

/// Leaves autofs mounts to the next daemon, and sets them catatonic, so that lookups of entries that are not mounted fail at
/// once. Otherwise the kernel would only notice at the first packet it cannot write, and the looking-up process would be killed
/// by SIGPIPE.
pub(crate) async fn leave(mounts: &Mounts, tools: &Tools, left: &[MountId], how: Shutdown) {
    let control = Arc::clone(&tools.control);
    let tops: HashSet<Arc<Path>> = left.iter().filter_map(|id| Some(mounts.get(*id)?.path)).collect();
    let mounts = mounts.filter_map(|_, mount| {
        let below = mount.path.ancestors().any(|path| tops.contains(path));
        below.then(|| (Arc::clone(&mount.path), (mount.kind, mount.dev)))
    });
    for (path, _) in &mounts {
        let shown = Escaped::path(path);
        match how {
            Shutdown::Detach => info!(target: &target(path), "{shown} is left for the next start"),
            _ => warn!(target: &target(path), "can't shutdown: filesystem {shown} still busy"),
        }
    }
    let leave = blocking::run(move || {
        for (path, known) in mounts {
            silence(&control, (&path, None), known);
        }
    });
    // The path of a mount may lead over a dead server.
    if tokio::time::timeout(LEAVE_WITHIN, leave).await.is_err() {
        warn!("some autofs mounts could not be reached and stay as they are");
    }
}

/// Lazily unmounts everything mounted at or below these paths, for `--force`. Where a user can have put a mount of others at a path,
/// only autofs mounts and what is mounted over them are unmounted.
pub(crate) async fn force(tools: &Tools, paths: Vec<Arc<Path>>) {
    let (control, memory) = (Arc::clone(&tools.control), Arc::clone(&tools.blocked));
    let unmount = move || -> io::Result<()> {
        let mut opener = Opener::new(memory);
        let table = MountTable::read()?;
        for path in paths {
            let at = table.at(&path);
            let first =
                if dirs::is_guarded(&path) { Some(0) } else { at.iter().position(|line| line.autofs.is_some()) };
            let Some(over) = first.and_then(|first| at.get(first..)) else { continue };
            for there in table.below(&path).chain(over).collect::<Vec<_>>().iter().rev() {
                if there.autofs.is_some() {
                    // Its owner may be dead, and then opening it may block forever.
                    let root = opener.open(&there.target, there.dev, SHORT_OPEN_TIMEOUT);
                    if let Err(e) = root.and_then(|root| control.catatonic(root.as_fd())) {
                        debug!("{} cannot be set catatonic: {e}", Escaped::path(&there.target));
                    }
                }
                if let Err(e) = there.open_root().and_then(|top| mount::detach(top.as_fd())) {
                    debug!("cannot unmount {}: {e}", Escaped::path(&there.target));
                }
            }
        }
        Ok(())
    };
    if let Err(e) = tools.lanes.run(Lane::Umount, unmount).await {
        error!("cannot read the mount table: {e}");
    }
}
