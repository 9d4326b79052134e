//! What a dead daemon has left and no map names: autofs mounts, and directories that were made for mount points.
//!
//! What is known to have been made by a daemon of ours and is not in use is removed without being asked. Everything else is
//! only listed by `autofsctl status`, and removed by `autofsctl clean`.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, info, warn};

use crate::blocking;
use crate::daemon::attach::opener::{Opener, SHORT_OPEN_TIMEOUT};
use crate::daemon::jobs::{copies, covered};
use crate::daemon::mounts::table::{MountTable, Mounted};
use crate::daemon::worker::Worker;
use crate::engine::Kind;
use crate::exec;
use crate::exec::dirs::Made;
use crate::exec::lanes::Lane;
use crate::sys::autofs::{self, Control};
use crate::sys::mountinfo::AutofsOptions;
use crate::sys::{mount, path, procfs};
use crate::text::Escaped;

/// How long it may take to look at what is left, and to unmount it.
const UNMOUNT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often an autofs mount is tried again that is in use.
const ATTEMPTS: u32 = 10;

/// The pause before that.
const RETRY_DELAY: Duration = Duration::from_millis(20);

/// Mounts that are in use by this daemon, so not left over.
#[derive(Debug)]
struct Served {
    /// The numbers of our pipes by inode number.
    own: HashMap<u64, u32>,
    /// The autofs mounts that are served, and those that are wanted.
    paths: HashSet<Arc<Path>>,
}

impl Served {
    fn of(worker: &Worker) -> Self {
        let mut paths: HashSet<Arc<Path>> =
            worker.mounts.filter_map(|_, mount| Some(mount.path.clone())).into_iter().collect();
        worker.view(|engine| {
            paths.extend(engine.absent().map(|absent| absent.wanted.path.clone()));
            paths.extend(engine.mounts().map(|view| Arc::from(view.path())));
        });
        Self { own: worker.mounts.inodes(), paths }
    }

    /// Returns whether no process serves this autofs mount. A mount whose owner is in another pid namespace counts as served.
    fn is_left(&self, line: &Mounted, shown: &AutofsOptions) -> bool {
        !self.paths.contains(&*line.target) && self.has_no_owner(line, shown)
    }

    /// Returns whether no process serves an autofs mount any more.
    fn has_no_owner(&self, line: &Mounted, shown: &AutofsOptions) -> bool {
        if line.speaks_through(&self.own).is_some() || shown.pgrp == 0 {
            return false;
        }
        match shown.pipe_ino.map(u64::try_from).transpose() {
            Err(_) => true,
            Ok(inode) => procfs::group_reader(shown.pgrp, inode).is_none(),
        }
    }

    /// Returns the top-level autofs mounts that are left over.
    fn left<'t>(&self, table: &'t MountTable) -> Vec<&'t Mounted> {
        let mut left: Vec<&Mounted> = Vec::new();
        for line in table.mounts() {
            let Some(shown) = line.autofs.filter(|shown| shown.kind != Kind::Offset) else { continue };
            let is_below = left.last().is_some_and(|above| line.target.starts_with(&above.target));
            if !is_below && self.is_left(line, &shown) {
                left.push(line);
            }
        }
        left
    }
}

/// Returns the mount points of the autofs mounts that are left over. Empty if that cannot be told in time.
pub(crate) async fn find(worker: &Worker) -> Vec<PathBuf> {
    let served = Served::of(worker);
    let look = move || -> io::Result<Vec<PathBuf>> {
        let table = MountTable::read()?;
        Ok(served.left(&table).into_iter().map(|line| line.target.clone()).collect())
    };
    let found = tokio::time::timeout(UNMOUNT_TIMEOUT, blocking::run(look)).await;
    found.ok().and_then(Result::ok).unwrap_or_default()
}

/// Unmounts all autofs mounts that are left over, with what is mounted on them, and removes the directories that were made
/// for them.
///
/// # Errors
/// Says what is in use.
pub(crate) async fn clean(worker: &Rc<Worker>) -> Result<(), String> {
    let served = Served::of(worker);
    let (mut remover, lanes) = (Remover::new(worker), worker.tools().lanes);
    let work = move || {
        let mut failed = Vec::new();
        let table = match MountTable::read() {
            Ok(table) => table,
            Err(e) => return vec![format!("cannot read the mount table: {e}")],
        };
        for line in served.left(&table) {
            match remover.unmount(&table, line, true) {
                Ok(()) => info!("unmounted {}, which an earlier daemon has left", Escaped::path(&line.target)),
                Err(e) => failed.push(e),
            }
        }
        failed
    };
    match tokio::time::timeout(UNMOUNT_TIMEOUT, lanes.run(Lane::Umount, work)).await {
        Ok(failed) => {
            tidy(worker).await;
            worker.left.replace(find(worker).await);
            if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
        }
        Err(_) => Err(format!("not done after {} seconds; it goes on", UNMOUNT_TIMEOUT.as_secs())),
    }
}

/// Unmounts autofs mounts without an owner that no path leads to: no map can bring them back into use.
pub(crate) async fn unmount_covered(worker: &Worker) {
    let served = Served::of(worker);
    let (control, lanes) = (Arc::clone(&worker.tools().control), worker.tools().lanes);
    let work = move || {
        let Ok(table) = MountTable::read() else { return };
        for line in table.hidden() {
            let Some(shown) = line.autofs.filter(|shown| served.has_no_owner(line, shown)) else { continue };
            if let Err(e) = covered::unmount(&control, shown.kind, line.dev) {
                debug!("{}, which is covered, stays mounted: {e}", Escaped::path(&line.target));
            }
        }
    };
    lanes.run(Lane::Umount, work).await;
}

/// Removes directories and idle autofs mounts that earlier workers have made for mount points that no map names any more.
/// Does nothing as long as some map could not be read.
pub(crate) async fn tidy(worker: &Rc<Worker>) {
    {
        let state = worker.state.borrow();
        if !state.maps.complete || !state.maps.inherited().is_empty() || worker.is_stopping() {
            return;
        }
    }
    if !worker.mounts.has_unclaimed() {
        return;
    }
    let served = Served::of(worker);
    let rest = unclaimed(worker, &served);
    if rest.is_empty() {
        return;
    }
    copies::silence(&worker.mounts, &worker.tools()).await;
    let (mut remover, lanes) = (Remover::new(worker), worker.tools().lanes);
    let paths: Vec<Arc<Path>> = rest.iter().map(|(path, _)| path.clone()).collect();
    let work = move || {
        let (mut mounted, mut kept) = (Vec::new(), Vec::new());
        let Ok(table) = MountTable::read() else { return (rest, kept) };
        for (path, made) in rest.into_iter().rev() {
            if !remover.opener.reaches(&path) {
                mounted.push((path, made));
                continue;
            }
            let there = table.at(&path);
            let left = there.iter().find_map(|line| Some((line, line.autofs?)));
            let gone = match left {
                Some((line, shown)) => served.is_left(line, &shown) && remover.unmount(&table, line, false).is_ok(),
                None => there.is_empty(),
            };
            if !gone {
                mounted.push((path, made));
                continue;
            }
            if left.is_some() {
                info!("unmounted {}, which an earlier daemon has left and no map names", Escaped::path(&path));
            }
            let made = made.remove();
            if !made.is_empty() {
                kept.push((path, made));
            }
        }
        (mounted, kept)
    };
    match tokio::time::timeout(UNMOUNT_TIMEOUT, lanes.run(Lane::Umount, work)).await {
        Ok((mounted, kept)) => {
            let still: HashSet<&Arc<Path>> = mounted.iter().map(|(path, _)| path).collect();
            let done: Vec<Arc<Path>> = paths.iter().filter(|path| !still.contains(path)).cloned().collect();
            worker.mounts.give_back(mounted);
            worker.mounts.record_removed(&done, kept);
        }
        Err(_) => warn!("what an earlier daemon has left cannot be removed in time"),
    }
}

/// Takes the record of what no autofs mount of ours claims.
fn unclaimed(worker: &Worker, served: &Served) -> Vec<(Arc<Path>, Made)> {
    worker.mounts.take_unclaimed(|path| served.paths.contains(path))
}

/// Unmounts autofs mounts without an owner.
struct Remover {
    control: Arc<Control>,
    opener: Opener,
}

impl Remover {
    fn new(worker: &Worker) -> Self {
        let tools = worker.tools();
        Self { control: Arc::clone(&tools.control), opener: Opener::new(Arc::clone(&tools.blocked)) }
    }

    /// Unmounts an autofs mount. With `all`, first unmounts what is mounted on it; otherwise fails if something is.
    fn unmount(&mut self, table: &MountTable, line: &Mounted, all: bool) -> Result<(), String> {
        let over = table.at(&line.target).iter().filter(|other| other.id != line.id && other.autofs.is_none());
        let mounts: Vec<&Mounted> = over.chain(table.below(&line.target)).collect();
        if !all && !mounts.is_empty() {
            return Err(format!("{} is in use", Escaped::path(&line.target)));
        }
        // The file system over a direct mount comes first among them, and is unmounted last.
        for there in mounts.into_iter().rev().chain([line]) {
            self.unmount_one(there).map_err(|e| format!("{}: {e}", Escaped::path(&there.target)))?;
        }
        Ok(())
    }

    fn unmount_one(&mut self, line: &Mounted) -> Result<(), String> {
        if let Some(shown) = line.autofs {
            // Lookups that wait there for the dead owner fail.
            let root = self.opener.open(&line.target, line.dev, SHORT_OPEN_TIMEOUT);
            if let Err(e) = root.and_then(|root| self.control.catatonic(root.as_fd())) {
                debug!("{} cannot be set catatonic: {e}", Escaped::path(&line.target));
            }
            // The helper that has opened it closes its descriptor a moment later.
            let mut attempts = 0..ATTEMPTS;
            loop {
                match exec::unmount_autofs(&line.target, None, shown.kind, autofs::decode(line.dev), false) {
                    Ok(()) => return Ok(()),
                    Err(e) if attempts.next().is_none() => return Err(e.to_string()),
                    Err(_) => std::thread::sleep(RETRY_DELAY),
                }
            }
        }
        let (Some(parent), Some(name)) = (line.target.parent(), line.target.file_name()) else {
            return Err("is the root directory".to_owned());
        };
        let unmounted = path::open_exact(parent).and_then(|dir| {
            // A user may have put another mount at its name. An open root would keep it busy.
            line.open_root().map(drop)?;
            mount::unmount(dir.as_fd(), Path::new(name), false)
        });
        unmounted.map_err(|e| e.to_string())
    }
}
