//! Attaches top-level autofs mounts: makes those that are wanted, takes over those that are there.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::{error, warn};
use tokio::time::{Instant, sleep, timeout_at};

use super::attacher::{AttachError, Attached, Attacher, Job};
use super::opener::{OPEN_TIMEOUT, Opener, SHORT_OPEN_TIMEOUT};
use super::{Attach, RETRY_DELAY, adopt, appearance, read_table, vacant};
use crate::blocking;
use crate::daemon::jobs::{Means, browse};
use crate::daemon::mailbox::Report;
use crate::daemon::maps::configured_map::ConfiguredMap;
use crate::daemon::mounts::table::{MountTable, Mounted};
use crate::daemon::mounts::{Mounts, NewMount, pipes};
use crate::daemon::tools::Tools;
use crate::engine::{Event, Kind, MountId, Reason, Wanted};
use crate::logging::target;
use crate::record::Record;
use crate::task::spawn_local;
use crate::text::Escaped;

/// How long attaching waits for servers on the way to mount points.
const SERVER_TIMEOUT: Duration = Duration::from_millis(1200);

/// How long the end of the daemon waits for a mount that is being attached.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Attaches top-level mounts, first those whose path cannot block. Returns the mounts that are blocked by an unanswered request
/// of a dead owner. Those on whose way a server does not answer are tried further in the background.
pub(crate) async fn attach(with: &Attach, wanted: Vec<(MountId, Wanted)>) -> Vec<(MountId, Wanted)> {
    let table = table_for(with, &wanted).await;
    let own = with.means.mounts.inodes();
    let (wanted, behind) = split_off_servers(wanted, &table);
    let (doubtful, certain): (Vec<_>, Vec<_>) =
        wanted.into_iter().partition(|(_, wanted)| table.may_block(&wanted.path, &own));
    let mut blocked = Vec::new();
    for mut wanted in [certain, doubtful] {
        while !wanted.is_empty() {
            let some = split_off_batch(&mut wanted);
            blocked.extend(attach_together(with, some, &table, SHORT_OPEN_TIMEOUT).await);
        }
    }
    let behind =
        behind.into_values().map(|wanted| spawn_local(attach_behind(with.clone(), wanted, Arc::clone(&table))));
    let (behind, end) = (behind.collect::<Vec<_>>(), Instant::now() + SERVER_TIMEOUT);
    for first in behind {
        let _ = timeout_at(end, first).await;
    }
    blocked
}

/// Mounts to be attached.
type Batch = Vec<(MountId, Wanted)>;

/// Splits off the mounts that have a server on their way, by the place where its file system is mounted.
fn split_off_servers(wanted: Batch, table: &MountTable) -> (Batch, BTreeMap<PathBuf, Batch>) {
    let (mut rest, mut behind) = (Vec::with_capacity(wanted.len()), BTreeMap::<_, Batch>::new());
    for (id, wanted) in wanted {
        match table.server_above(&wanted.path) {
            Some(server) => behind.entry(server.target.clone()).or_default().push((id, wanted)),
            None => rest.push((id, wanted)),
        }
    }
    (rest, behind)
}

/// Attaches mounts with the same server on their way. Returns after the first attempt, and tries further in the background.
async fn attach_behind(with: Attach, mut wanted: Batch, table: Arc<MountTable>) {
    let making = with.means.mounts.begin_making();
    let mut blocked = Vec::new();
    while !wanted.is_empty() {
        let some = split_off_batch(&mut wanted);
        blocked.extend(attach_or_stop(&with, some, &table, OPEN_TIMEOUT).await);
    }
    with.mailbox.tell(Report::Made(making));
    if !blocked.is_empty() {
        spawn_local(retry_until_attached(with, blocked));
    }
}

/// As [`attach_together`]. At the end of the daemon, does not wait for long: a server may have answered the helper, and not answer
/// this process.
async fn attach_or_stop(with: &Attach, wanted: Batch, table: &Arc<MountTable>, time_limit: Duration) -> Batch {
    let all: Vec<MountId> = wanted.iter().map(|(id, _)| *id).collect();
    let stops = async {
        with.life.stops().await;
        sleep(STOP_TIMEOUT).await;
    };
    tokio::select! {
        blocked = attach_together(with, wanted, table, time_limit) => blocked,
        () = stops => {
            for mount in all {
                with.mailbox.event(Event::Attached { mount, outcome: Err(Record::new("the daemon ends").into()) });
            }
            Vec::new()
        }
    }
}

/// Splits off as many mounts as the limit of open files permits to attach at once. If it permits none, takes all, so that each
/// fails with a reason. The direct mounts of a map share one pipe.
fn split_off_batch(wanted: &mut Vec<(MountId, Wanted)>) -> Vec<(MountId, Wanted)> {
    let most = pipes::room_for_pipes().unwrap_or(0);
    let mut pipes = 0;
    let enough = wanted.iter().position(|(_, wanted)| {
        pipes += usize::from(wanted.kind == Kind::Indirect);
        pipes > most
    });
    let rest = enough.filter(|_| most > 0).map(|enough| wanted.split_off(enough));
    std::mem::replace(wanted, rest.unwrap_or_default())
}

/// Reads the mount table for attaching mounts. Returns an empty one at a reload if nothing is mounted at their mount points, which
/// are checked one by one. At the start, mounts of earlier workers may exist, also hidden ones.
async fn table_for(with: &Attach, wanted: &[(MountId, Wanted)]) -> Arc<MountTable> {
    if with.life.has_started() {
        let paths: Vec<Arc<Path>> = wanted.iter().map(|(_, wanted)| Arc::clone(&wanted.path)).collect();
        if blocking::run(move || vacant::all_vacant(paths.iter().map(|path| &**path))).await {
            return Arc::new(MountTable::of(Vec::new()));
        }
    }
    read_table().await
}

/// Tries to attach mounts until all are attached, or the daemon ends.
pub(crate) async fn retry_until_attached(with: Attach, mut blocked: Vec<(MountId, Wanted)>) {
    while !blocked.is_empty() {
        if with.life.is_stopping() {
            for (mount, _) in blocked {
                with.mailbox.event(Event::Attached { mount, outcome: Err(Record::new("the daemon ends").into()) });
            }
            return;
        }
        let making = with.means.mounts.begin_making();
        let table = read_table().await;
        blocked = attach_or_stop(&with, blocked, &table, OPEN_TIMEOUT).await;
        with.mailbox.tell(Report::Made(making));
        with.life.pause(RETRY_DELAY).await;
    }
}

/// Attaches mounts in one go, and tells the engine. Returns those on which a request of a dead owner is open.
async fn attach_together(
    with: &Attach,
    wanted: Vec<(MountId, Wanted)>,
    table: &Arc<MountTable>,
    time_limit: Duration,
) -> Vec<(MountId, Wanted)> {
    if wanted.is_empty() {
        return Vec::new();
    }
    let mounts = &with.means.mounts;
    let unknown: Reason = Record::new("the mount point was not attached").into();
    let mut missing: HashMap<MountId, Reason> = wanted.iter().map(|(id, _)| (*id, unknown.clone())).collect();
    let Prepared { attacher, jobs, lines, nested, refused } = prepare(&with.means, wanted, table, time_limit);
    log_refused(mounts, &refused);
    missing.extend(refused.into_iter().map(|(id, _, reason)| (id, reason)));
    let pipes: Vec<u32> = jobs.iter().map(|job| job.pipe).collect();
    let results = blocking::run(move || attacher.run(jobs)).await;
    let (mut attached, mut found, mut blocked) = (Vec::new(), Vec::new(), Vec::new());
    for (id, result, duration) in results {
        let Some((map, wanted)) = lines.get(&id) else { continue };
        match result {
            Ok(done) => {
                if done.found {
                    found.push(id);
                }
                register(mounts, done, map, wanted);
                attached.push(id);
                missing.remove(&id);
            }
            Err(e) => {
                let waits = matches!(e, AttachError::Blocked(_) | AttachError::Silent { .. });
                if waits {
                    blocked.push((id, wanted.clone()));
                    missing.remove(&id);
                } else {
                    missing.insert(id, Record::of(&e, duration).into());
                }
                let is_known = matches!(e, AttachError::Blocked(_)) && time_limit >= OPEN_TIMEOUT;
                if !is_known && mounts.note_failure(&wanted.path, &e.to_string()) {
                    error!(target: &target(&wanted.path), "{e}");
                }
            }
        }
    }
    mounts.write_record();
    let now = if nested { &read_table().await } else { table };
    adopt::adopt_together(with, found, now).await;
    pipes.iter().filter_map(|pipe| mounts.pipe(*pipe)).for_each(|pipe| pipe.awaited.set(false));
    release_unused(&with.means);
    appearance::apply(&with.means, attached.iter().copied()).await;
    for id in &attached {
        let Some(known) = mounts.get(*id) else { continue };
        if let Some(extra) = browse::fill(&known, &with.means.tools).await {
            with.mailbox.tell(Report::Extra(*id, extra));
        }
    }
    for mount in attached {
        with.mailbox.event(Event::Attached { mount, outcome: Ok(()) });
    }
    for (mount, reason) in missing {
        with.mailbox.event(Event::Attached { mount, outcome: Err(reason) });
    }
    blocked
}

/// Logs that mount points cannot be mounted because they get no control pipe: once for all of them, as this concerns many or
/// none.
fn log_refused(mounts: &Mounts, refused: &[(MountId, Arc<Path>, Reason)]) {
    let Some((_, path, reason)) = refused.first() else { return };
    if mounts.note_failure(&Path::new("").into(), &reason.message) {
        let (path, reason) = (Escaped::path(path), &reason.message);
        error!(
            "{path} and other mount points cannot be mounted: {reason}. They are tried again; `autofsctl status` lists them"
        );
    }
}

/// The facts that are needed to attach some mounts.
struct Prepared {
    attacher: Attacher,
    jobs: Vec<Job>,
    lines: HashMap<MountId, (Rc<ConfiguredMap>, Wanted)>,
    /// There are jobs for mounts below those that were asked for.
    nested: bool,
    /// Those that get no control pipe, and why.
    refused: Vec<(MountId, Arc<Path>, Reason)>,
}

fn prepare(means: &Means, wanted: Vec<(MountId, Wanted)>, table: &Arc<MountTable>, time_limit: Duration) -> Prepared {
    let Means { mounts, tools, .. } = means;
    let state = means.state.borrow();
    let own = mounts.inodes();
    let live: HashMap<&Path, u32> =
        table.mounts().iter().filter_map(|line| Some((line.target.as_path(), line.speaks_through(&own)?))).collect();
    let (mut jobs, mut lines, mut write_ends) = (Vec::with_capacity(wanted.len()), HashMap::new(), HashMap::new());
    let named: HashSet<Arc<Path>> = wanted.iter().map(|(_, wanted)| wanted.path.clone()).collect();
    let (mut nested, mut refused) = (false, Vec::new());
    for (id, wanted) in wanted {
        let Some(map) = state.maps.by_number.get(&wanted.map).map(Rc::clone) else { continue };
        let pipe = match live.get(&*wanted.path) {
            Some(pipe) => Ok(*pipe),
            None => match map.pipe.get().filter(|_| wanted.kind == Kind::Direct) {
                Some(pipe) => Ok(pipe),
                None => mounts.create_pipe(),
            },
        };
        let pipe = match pipe {
            Ok(pipe) => pipe,
            Err(e) => {
                refused.push((id, wanted.path.clone(), Record::of(&e, Duration::ZERO).into()));
                continue;
            }
        };
        if wanted.kind == Kind::Direct && map.pipe.get().is_none() {
            map.pipe.set(Some(pipe));
        }
        jobs.push(Job {
            id,
            path: wanted.path.clone(),
            kind: wanted.kind,
            source: map.mount_source(),
            options: tools.mount_options(&map),
            mode: map.options.mode,
            pipe,
            time_limit,
        });
        for below in orphans_below(table, &wanted.path, &own).filter(|below| !named.contains(below.target.as_path())) {
            // Until it is adopted its packets wait in the pipe: from now on no lookup fails there.
            let kind = below.autofs.map_or(Kind::Offset, |shown| shown.kind);
            let pipe = if kind == Kind::Offset { Ok(pipe) } else { mounts.create_pipe() };
            let Ok(pipe) = pipe else { continue };
            let (id, path, source) = (mounts.new_id(), below.target.as_path().into(), Vec::new());
            let options = tools.mount_options(&map);
            jobs.push(Job { id, path, kind, source, options, mode: None, pipe, time_limit: SHORT_OPEN_TIMEOUT });
            nested = true;
        }
        lines.insert(id, (map, wanted));
    }
    for job in &jobs {
        if let Entry::Vacant(vacant) = write_ends.entry(job.pipe) {
            match mounts.write_end(job.pipe) {
                Ok(end) => drop(vacant.insert(end)),
                Err(e) => error!("cannot open the write end of control pipe {}: {e}", job.pipe),
            }
        }
    }
    let (control, opener) = (Arc::clone(&tools.control), Opener::new(Arc::clone(&tools.blocked)));
    Prepared {
        attacher: Attacher {
            control,
            opener,
            table: Arc::clone(table),
            own,
            rules: tools.rules,
            write_ends,
            silent: HashSet::new(),
        },
        jobs,
        lines,
        nested,
        refused,
    }
}

/// The offset triggers and submounts below an autofs mount that have died with its owner.
fn orphans_below<'t>(
    table: &'t MountTable,
    path: &'t Path,
    own: &'t HashMap<u64, u32>,
) -> impl Iterator<Item = &'t Mounted> {
    let top = table.at(path).iter().rev().find(|line| line.autofs.is_some() && line.speaks_through(own).is_none());
    let owner = top.and_then(|top| top.autofs).map(|shown| shown.pgrp);
    let of_the_same = move |line: &&Mounted| {
        line.autofs.is_some_and(|shown| shown.kind != Kind::Direct && Some(shown.pgrp) == owner)
            && line.speaks_through(own).is_none()
    };
    table.below(path).filter(of_the_same)
}

fn register(mounts: &Mounts, done: Attached, map: &Rc<ConfiguredMap>, wanted: &Wanted) {
    let Attached { id, pipe, dev, mount_id, created, found } = done;
    let (path, kind, map) = (wanted.path.clone(), wanted.kind, Rc::clone(map));
    map.announce(&path, kind, wanted.timeout);
    let new = NewMount { path, kind, dev, mount_id, pipe, map, created, remote: false, found };
    mounts.insert(id, new);
}

/// Closes the pipes that no mount uses or will use. The pipe of a direct map in the master map is kept for keys added later.
pub(crate) fn release_unused(means: &Means) {
    means.mounts.release_unused_pipes(&means.state.borrow().shared_pipes());
}

/// Applies new options and a new map to an existing mount. Returns whether its root is to look different.
pub(crate) fn update(mounts: &Mounts, tools: &Tools, mount: MountId, map: Rc<ConfiguredMap>, wanted: &Wanted) -> bool {
    let before = mounts.get(mount);
    let looks_different = before.is_some_and(|before| !appearance::is_same(&before.map.options, &map.options));
    mounts.change(mount, |mount| mount.map = map);
    if let Err(e) = mounts.with_root(mount, |root| tools.control.set_timeout(root, wanted.timeout)) {
        warn!(target: &target(&wanted.path), "{}: cannot set the timeout: {e}", Escaped::path(&wanted.path));
    }
    looks_different
}
