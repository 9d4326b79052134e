//! Verifies that our autofs mounts, and what is mounted on them, are where they belong: when something was mounted or
//! unmounted by others, before a reload, and when `autofsctl status` asks.
//!
//! Before a reload, the mount table is read only if something was mounted or unmounted by others since our mounts were compared
//! with it, or something was wrong then: with ten thousand direct mounts, reading it takes longer than the reload. That a
//! directory above a mount point was renamed is not reported, so the ways to them are looked at.
//!
//! What was unmounted is mounted again. A mount that is covered or was moved is shown with the reason. It comes back when
//! the obstacle goes, and a reload mounts it anew in what is at its path now.

pub(crate) mod renames;
mod standing;
pub(crate) mod watch;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};

use crate::blocking;
use crate::daemon::life::Phase;
use crate::daemon::mounts::table::MountTable;
use crate::daemon::worker::Worker;
use crate::engine::{Engine, EntryId, EntryPhase, EntryView, Event, JobId, MountId, MountState, Wanted};
use crate::exec;
use crate::exec::lanes::Lane;
use crate::logging::target;
use crate::plan::Action;
use crate::sys::path;
use crate::text::Escaped;
use standing::{KnownMount, Standing, judge};

/// How long it may take to look at a mount point through what covers it now.
const LOOK_WITHIN: Duration = Duration::from_secs(2);

/// How long what is mounted on a moved mount may take to be unmounted before a reload gives it up.
const LEAVE_WITHIN: Duration = Duration::from_secs(3);

/// Interval between two looks whether it is.
const LEAVING: Duration = Duration::from_millis(20);

/// Mounts that are mounted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heal {
    /// Mounts that no process uses: idle ones that were moved, and covered ones whose mount point exists on what
    /// covers them.
    Safely,
    /// Every mount, because an administrator has asked for a reload.
    All,
}

/// Verifies our mounts before a reload, unless they are certain to be where they were when they were verified last.
pub(crate) async fn before_reload(worker: &Rc<Worker>) {
    let concerned = watch::is_concerned(worker).await;
    if concerned || !worker.mounts.watch.is_certain() || !all_in_reach(worker).await {
        verify(worker, Heal::All).await;
    }
}

/// Returns whether none of our mounts is known to be elsewhere, and the ways to them lead there. A mount point cannot be
/// renamed, only a directory above it, so one mount in each directory is looked at.
async fn all_in_reach(worker: &Worker) -> bool {
    if worker.mounts.has_trouble() {
        return false;
    }
    let ways = worker.mounts.one_in_each_directory();
    let look = move || ways.into_iter().all(|(path, dev)| exec::stands_at(&path, dev) == Some(true));
    blocking::run(look).await
}

/// Compares the mount table with what this worker knows, and puts right what it can.
pub(crate) async fn verify(worker: &Rc<Worker>, heal: Heal) {
    let last = worker.mounts.watch.last_doubt();
    let rows = worker.mounts.filter_map(|id, mount| {
        let (path, troubled) = (mount.path.clone(), mount.trouble.is_some());
        Some(KnownMount { id, path, kind: mount.kind, dev: mount.dev, mount_id: mount.mount_id, troubled })
    });
    let entries = mounted(worker);
    let compare = move || -> std::io::Result<_> {
        let table = MountTable::read()?;
        let hidden: HashSet<&Path> = table.hidden().iter().map(|line| line.target.as_path()).collect();
        let stands = |path: &Path| hidden.contains(path) || table.at(path).iter().any(|line| line.autofs.is_none());
        let lost: Vec<_> = entries.into_iter().filter(|(.., path)| !stands(path)).collect();
        Ok((judge(rows, &table), lost))
    };
    let Ok((judged, lost)) = blocking::run(compare).await else { return };
    if worker.life.phase() != Phase::Serving {
        return;
    }
    worker.mounts.watch.compared(last);
    for (row, standing) in judged {
        // It may have been unmounted by us meanwhile, or restored with another device number.
        let same = worker.mounts.get(row.id).is_some_and(|mount| mount.dev == row.dev);
        if same && !worker.mounts.is_leaving(row.id) {
            settle(worker, &row, standing, heal).await;
        }
    }
    forget_lost(worker, lost);
}

/// Returns the entries on which a file system is mounted as far as the engine knows, which mount it is, and where.
fn mounted(worker: &Worker) -> Vec<(EntryId, JobId, PathBuf)> {
    worker.view(|engine| {
        let mut entries = Vec::new();
        for view in engine.mounts() {
            for entry in view.entries().filter(|entry| entry.phase == EntryPhase::Mounted) {
                if entry.plan.is_some_and(|plan| matches!(plan.action, Action::Mount(_))) {
                    let at = EntryId { mount: view.id, key: entry.key.clone() };
                    let path = view.kind().entry_path(view.path(), entry.key);
                    entries.push((at, entry.made, path));
                }
            }
        }
        entries
    })
}

/// Tells the engine of file systems that were unmounted by others. It takes down what was mounted on them. An entry that was mounted
/// again after the mount table was read stays.
fn forget_lost(worker: &Rc<Worker>, lost: Vec<(EntryId, JobId, PathBuf)>) {
    for (at, made, path) in lost {
        if worker.view(|engine| engine.has_mount(&at, made)) {
            info!(target: &target(&path), "{} was unmounted from outside", Escaped::path(&path));
            worker.event(Event::Unmount { at });
        }
    }
}

/// Reports the state of a mount to the engine, and remounts it if `heal` allows.
async fn settle(worker: &Rc<Worker>, row: &KnownMount, standing: Standing, heal: Heal) {
    let (label, shown) = (target(&row.path), Escaped::path(&row.path));
    let trouble = standing.trouble();
    let known = worker.mounts.get(row.id).and_then(|mount| mount.trouble);
    match (&trouble, &known) {
        (Some(trouble), known) if known.as_deref() != Some(trouble.as_str()) => {
            warn!(target: &label, "{shown} is {trouble}")
        }
        (None, Some(_)) if standing != Standing::Gone => info!(target: &label, "{shown} is at its place again"),
        _ => {}
    }
    if trouble.as_deref() != known.as_deref() {
        worker.standing.notify_one();
    }
    worker.mounts.change(row.id, |mount| mount.trouble = trouble.map(Into::into));
    match standing {
        Standing::InPlace(id) => worker.mounts.change(row.id, |mount| mount.mount_id = Some(id)),
        Standing::Occupied(_) => {}
        Standing::Gone => {
            warn!(target: &label, "{shown} was unmounted from outside");
            worker.vanished(row.id);
        }
        Standing::Hidden(_) => {
            if heal == Heal::All || exists(worker, &row.path).await {
                worker.displaced(row.id);
            }
        }
        Standing::Moved(_) if heal == Heal::All || is_idle(worker, row.id) => {
            let moves = |engine: &Engine| engine.mount(row.id).is_some_and(|view| view.state() == MountState::Leaving);
            if let Some(wanted) = wanted(worker, row.id) {
                worker.event(Event::Change { wanted: vec![wanted], unwanted: vec![row.path.clone()] });
            }
            let until = Instant::now() + LEAVE_WITHIN;
            while heal == Heal::All && worker.view(moves) && Instant::now() < until {
                tokio::time::sleep(LEAVING).await;
            }
            // What is in use stays where it is, and is not served any more.
            if heal == Heal::All && worker.view(|engine| engine.mount(row.id).is_some()) {
                worker.displaced(row.id);
            }
        }
        Standing::Moved(_) => {}
    }
}

/// Returns whether the directory of a covered mount point exists in what covers it.
async fn exists(worker: &Worker, path: &Arc<Path>) -> bool {
    let at = path.clone();
    let look = move || path::lstat(&at).is_ok_and(|found| found.is_dir());
    worker.tools().lanes.run_at(Lane::Mount, path, LOOK_WITHIN, look).await.unwrap_or(false)
}

fn is_idle(worker: &Worker, id: MountId) -> bool {
    let idle = |entry: EntryView<'_>| matches!(entry.phase, EntryPhase::Failed(..));
    worker.view(|engine| engine.mount(id).is_some_and(|view| view.entries().all(idle)))
}

/// Returns how a top-level mount is wanted, if it is served.
fn wanted(worker: &Worker, id: MountId) -> Option<Wanted> {
    worker.view(|engine| engine.mount(id).and_then(|view| view.wanted().cloned()))
}
