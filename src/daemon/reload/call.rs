//! Carries out `autofsctl reload`: a reload and what it has changed, or with `--dry-run` what it would change.
//!
//! A dry run reads the files, opens the maps anew beside those in force, and puts nothing in force.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::report::{Line, compare, lines, named};
use crate::control::{Bytes, Extent, Problem, Reload, Reloaded};
use crate::daemon::maps::{self, effective};
use crate::daemon::problems::{absent, problems, unread};
use crate::daemon::reload;
use crate::daemon::upgrade;
use crate::daemon::worker::Worker;
use crate::engine::{Engine, EntryPhase, MountState};
use crate::source::configuration::Configuration;
use crate::source::master::Status;
use crate::source::{Environment, Freshness, Mode, Pass, open};
use crate::sys::exec;
use crate::task;
use crate::text::Escaped;

/// How long the reply waits for mount points that are being mounted or unmounted.
const SETTLE: Duration = Duration::from_secs(20);

/// Interval between two looks at them.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Does what the call `Reload` asks. Reloads, waits until mount points have settled, and returns what has changed. With `dry_run`,
/// only returns what would change; with `no_wait`, only begins. If the file of the program was replaced, upgrades to it instead.
///
/// # Errors
/// Returns why the daemon cannot reload now.
pub(crate) async fn reload(worker: &Rc<Worker>, how: Reload) -> Result<Reloaded, String> {
    if how.dry_run {
        return Ok(preview(worker).await);
    }
    if how.no_wait {
        task::spawn_local(upgrade::hang_up(Rc::clone(worker)));
        return Ok(Reloaded::new(Extent::Begun));
    }
    if matches!(exec::is_other_program(&worker.program), Ok(true)) {
        match upgrade::upgrade(worker).await {
            Ok(()) => return Ok(Reloaded::new(Extent::Upgraded)),
            Err(why) => log::error!("{why}; the running program continues"),
        }
    }
    let begun = Instant::now();
    let before = lines(&worker.state.borrow().maps);
    let (mounted, failed) = (mounted(worker), failed(worker));
    reload::reload(Rc::clone(worker)).await;
    if !worker.life.phase().may_reload() {
        return Err("the daemon is quiesced for a checkpoint; it reloads when it resumes".to_owned());
    }
    while worker.life.is_reloading() {
        sleep(POLL_INTERVAL).await;
    }
    settle(worker, begun + SETTLE).await;
    let (after, unread) = {
        let state = worker.state.borrow();
        (lines(&state.maps), state.maps.unread.clone())
    };
    let extent = if unread.is_some() { Extent::Unread } else { Extent::Done };
    let mut reloaded = Reloaded { reason: unread, forgotten: failed, ..Reloaded::new(extent) };
    compare(before, after, &mut reloaded);
    for removed in &mut reloaded.removed {
        removed.what = what_became(worker, &removed.path, &mounted);
    }
    reloaded.refused = problems(worker);
    reloaded.took = milliseconds(begun);
    Ok(reloaded)
}

/// Reads the configuration and the maps without applying them, and returns the differences.
async fn preview(worker: &Rc<Worker>) -> Reloaded {
    let begun = Instant::now();
    let (before, files) = {
        let state = worker.state.borrow();
        (state.configuration.clone(), Arc::clone(&state.context.sources.configuration))
    };
    let read = Configuration::read(&files, Some(&before), begun + reload::CONFIGURATION).await;
    let environment = worker.state.borrow().context.sources.environment(&read.configuration.names);
    let master = reload::read_master_with(worker, true, &read.configuration).await;
    let mut refused: Vec<Problem> =
        read.diagnostics.iter().chain(&master.diagnostics).filter_map(maps::problem_of).collect();
    if matches!(master.status, Status::NotFound | Status::Unavailable) {
        let reason = Some(reload::why_unread(&master));
        return Reloaded { reason, refused, took: milliseconds(begun), ..Reloaded::new(Extent::Unread) };
    }
    let before = lines(&worker.state.borrow().maps);
    let mut after = Vec::new();
    for entry in master.table.indirect.iter().chain(&master.table.direct) {
        let options = {
            let state = worker.state.borrow();
            effective(&entry.options, &read.configuration.conf.autofs, &state.options)
        };
        let place = entry.place.clone();
        let (path, spec) = (entry.mount_point.clone(), entry.source.clone());
        let line = Line { path, spec, options, place, entries: None, unread: None, usable: true };
        after.push(read_line(worker, line, &environment, begun + reload::START_TIMEOUT).await);
    }
    refused.extend(after.iter().filter_map(unread));
    let mut reloaded = Reloaded { forgotten: failed(worker), ..Reloaded::new(Extent::Compared) };
    let mounted = mounted(worker);
    compare(before, after, &mut reloaded);
    for removed in &mut reloaded.removed {
        let below = below(&mounted, &removed.path).count();
        removed.what = (below > 0).then(|| format!("{below} mounted"));
    }
    // What is in the way now is still in the way after a reload.
    let kept: HashSet<&Bytes> = reloaded.removed.iter().map(|change| &change.path).collect();
    refused.extend(absent(worker).into_iter().filter(|problem| !kept.contains(&problem.path)));
    reloaded.refused = refused;
    reloaded.took = milliseconds(begun);
    reloaded
}

/// Reads the map of a line, as a reload would.
async fn read_line(worker: &Rc<Worker>, mut line: Line, environment: &Arc<Environment>, deadline: Instant) -> Line {
    let known = {
        let state = worker.state.borrow();
        let same = state
            .maps
            .configured()
            .map(|(map, _)| map)
            .find(|map| map.mount_point == line.path && map.spec == line.spec && *map.names == *environment.names);
        same.map(Rc::clone)
    };
    let direct = line.path == b"/-";
    if let Some(map) = known.filter(|map| map.usable.get() && map.source.freshness() == Freshness::Unchanged) {
        line.entries = if direct { map.source.known_entries() } else { None };
        return line;
    }
    let source = open(&line.spec, if direct { Mode::Direct } else { Mode::Indirect }, environment);
    let pass = Pass::new(deadline);
    let reading = async {
        if direct { source.entries(&pass).await.map(Some) } else { source.prepare(&pass).await.map(|()| None) }
    };
    match timeout_at(deadline, reading).await {
        Ok(Ok(entries)) => line.entries = entries,
        Ok(Err(error)) => line.unread = Some(error.to_string()),
        Err(_) => line.unread = Some(reload::LATE.to_owned()),
    }
    line.usable = line.unread.is_none();
    line
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Waits until no mount point is being mounted or unmounted. Mount points in use are not waited for.
async fn settle(worker: &Rc<Worker>, deadline: Instant) {
    let moves = |state| matches!(state, MountState::Attaching | MountState::Leaving);
    let is_moving = |engine: &Engine| !engine.all_serve() && engine.mounts().any(|mount| moves(mount.state()));
    while Instant::now() < deadline && worker.view(is_moving) {
        sleep(POLL_INTERVAL).await;
    }
}

/// Returns the paths at which something is mounted.
fn mounted(worker: &Worker) -> Vec<Vec<u8>> {
    let mut paths = Vec::new();
    worker.view(|engine| {
        for view in engine.mounts() {
            let Some(mount) = worker.mounts.get(view.id) else { continue };
            let entries = view.entries().filter(|e| matches!(e.phase, EntryPhase::Mounted | EntryPhase::Checking));
            paths.extend(entries.map(|entry| mount.entry(entry.key).as_os_str().as_bytes().to_vec()));
        }
    });
    paths
}

/// Returns the number of keys that have failed a short while ago.
fn failed(worker: &Worker) -> u32 {
    let is_failed = |phase| matches!(phase, EntryPhase::Failed(..));
    let failed = |engine: &Engine| -> usize {
        engine.mounts().map(|mount| mount.entries().filter(|entry| is_failed(entry.phase)).count()).sum()
    };
    u32::try_from(worker.view(failed)).unwrap_or(u32::MAX)
}

/// Returns the paths at and below a mount point.
fn below<'a>(paths: &'a [Vec<u8>], point: &'a Bytes) -> impl Iterator<Item = &'a Vec<u8>> {
    let is_below = |path: &[u8], point: &[u8]| {
        path.strip_prefix(point).is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'/'))
    };
    paths.iter().filter(move |path| is_below(path, &point.0))
}

/// Describes what has happened to the mounts of a mount point that was removed from the master map.
fn what_became(worker: &Worker, point: &Bytes, before: &[Vec<u8>]) -> Option<String> {
    let real = worker.state.borrow().real.translate(point.as_path());
    let now = mounted(worker);
    let shown = Bytes::from(real.as_path());
    let (before, left): (usize, Vec<_>) = (below(before, &shown).count(), below(&now, &shown).collect());
    let pending = worker.view(|engine| {
        engine.mounts().any(|mount| mount.state() == MountState::Pending && mount.path() == real.as_path())
    });
    let gone = before.saturating_sub(left.len());
    let mut parts = Vec::new();
    if gone > 0 {
        parts.push(format!("{gone} unmounted"));
    }
    if !left.is_empty() {
        let (are, go) = if left.len() == 1 { ("is", "goes when it is not") } else { ("are", "go when they are not") };
        parts.push(format!("{} {are} in use, {go}", named(left.iter().map(|path| Escaped(path)))));
    } else if pending {
        parts.push("in use, goes when it is not".to_owned());
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}
