//! Calls that change what the daemon does: expire, flush, block, log levels.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use log::error;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::control::{
    Block, Blocked, Bytes, ControlError, Death, Expire, Expired, Flush, Flushed, Kept as StillMounted, Level,
    LogLevelSet, SetLogLevel,
};
use crate::daemon::mounts::AutofsMount;
use crate::daemon::worker::Worker;
use crate::engine::{EntryId, EntryPhase, EntryView, Event, Kind, MountId};
use crate::link::Predecessor;
use crate::logging::target;
use crate::map::Verbosity;
use crate::record::Record;
use crate::sys::clock::since_1970;
use crate::task::spawn_local;
use crate::text::Escaped;

/// How long an expiry is waited for. Less than the client waits.
const UNMOUNT: Duration = Duration::from_secs(40);

/// Interval between two looks at what is being unmounted.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

fn no_such(path: &Bytes) -> ControlError {
    ControlError::NoSuchMount { path: path.clone() }
}

fn bytes(path: &Path) -> Bytes {
    Bytes::from(path)
}

fn is_mounted(entry: &EntryView<'_>) -> bool {
    matches!(entry.phase, EntryPhase::Mounted | EntryPhase::Checking)
}

fn is_unmounting(entry: &EntryView<'_>) -> bool {
    matches!(entry.phase, EntryPhase::Unmounting | EntryPhase::Remounting)
}

/// Returns the mounted entries whose path `wanted` selects, with why they could not be unmounted.
fn entries(
    worker: &Worker,
    wanted: &dyn Fn(&Path) -> bool,
    phase: &dyn Fn(&EntryView<'_>) -> bool,
) -> Vec<(PathBuf, Option<String>)> {
    let mut found = Vec::new();
    worker.view(|engine| {
        for view in engine.mounts() {
            let Some(mount) = worker.mounts.get(view.id) else { continue };
            for entry in view.entries().filter(|entry| phase(entry)) {
                let path = mount.entry(entry.key);
                if wanted(&path) {
                    found.push((path, entry.reason.map(|reason| reason.message.clone())));
                }
            }
        }
    });
    found.sort_unstable();
    found
}

/// Unmounts what is unused, and waits for it.
///
/// # Errors
/// The path is below no mount point.
pub(super) async fn expire(worker: &Rc<Worker>, wish: &Expire) -> Result<Expired, ControlError> {
    let target = match &wish.path {
        None => None,
        Some(path) => {
            let real = worker.state.borrow().real.translate(path.as_path());
            let (id, mount) = worker.mounts.serving(&real).ok_or_else(|| no_such(path))?;
            let key = mount.key_of(&real).filter(|_| mount.kind == Kind::Indirect);
            let top = key.as_ref().map_or(mount.path.to_path_buf(), |key| mount.entry(key));
            Some((top, id, key))
        }
    };
    let wanted = |path: &Path| target.as_ref().is_none_or(|(top, ..)| path.starts_with(top));
    let before: BTreeSet<PathBuf> = entries(worker, &wanted, &is_mounted).into_iter().map(|(path, _)| path).collect();
    if wish.dry_run {
        return Ok(Expired { unmounted: before.iter().map(|path| bytes(path)).collect(), in_use: Vec::new() });
    }
    match &target {
        None => worker.event(Event::Prune),
        Some((_, mount, Some(key))) => worker.event(Event::Unmount { at: EntryId { mount: *mount, key: key.clone() } }),
        Some((_, mount, None)) => worker.expire(*mount, true).await,
    }
    let end = Instant::now() + UNMOUNT;
    let is_busy = || {
        let runs = target.is_none() && worker.view(crate::engine::Engine::is_expiring);
        runs || !entries(worker, &wanted, &is_unmounting).is_empty()
    };
    while is_busy() && Instant::now() < end {
        sleep(POLL_INTERVAL).await;
    }
    let now = entries(worker, &wanted, &|entry| is_mounted(entry) || is_unmounting(entry));
    let left: BTreeSet<&Path> = now.iter().map(|(path, _)| path.as_path()).collect();
    let unmounted = before.iter().filter(|path| !left.contains(path.as_path())).map(|path| bytes(path)).collect();
    let kept = now.iter().filter(|(path, _)| before.contains(path));
    let in_use = kept.map(|(path, reason)| StillMounted { path: bytes(path), reason: reason.clone() }).collect();
    Ok(Expired { unmounted, in_use })
}

/// Forgets failed keys, and what sources keep for a time only.
///
/// # Errors
/// The path is below no mount point.
pub(super) fn flush(worker: &Rc<Worker>, wish: &Flush) -> Result<Flushed, ControlError> {
    let is_failed = |entry: &EntryView<'_>| matches!(entry.phase, EntryPhase::Failed(..));
    let Some(path) = &wish.path else {
        let forgotten = entries(worker, &|_| true, &is_failed);
        worker.state.borrow().maps.by_number.values().for_each(|map| map.source.forget());
        worker.event(Event::Forget);
        return Ok(Flushed { forgotten: forgotten.iter().map(|(path, _)| bytes(path)).collect() });
    };
    let real = worker.state.borrow().real.translate(path.as_path());
    let (id, mount) = worker.mounts.serving(&real).ok_or_else(|| no_such(path))?;
    mount.map.source.forget();
    let key = mount.key_of(&real).unwrap_or_default();
    let (event, top) = match mount.kind {
        Kind::Indirect if key.0.is_empty() => (Event::ForgetMount { mount: id }, mount.path.to_path_buf()),
        _ => (Event::ForgetEntry { at: EntryId { mount: id, key: key.clone() } }, mount.entry(&key)),
    };
    let forgotten = entries(worker, &|path| path.starts_with(&top), &is_failed);
    worker.event(event);
    Ok(Flushed { forgotten: forgotten.iter().map(|(path, _)| bytes(path)).collect() })
}

/// Returns a message as the log and `explain` show it.
fn shown(say: Option<&str>) -> String {
    match say {
        Some(say) => format!("blocked: {}", Escaped(say.as_bytes())),
        None => "blocked by autofsctl block".to_owned(),
    }
}

/// Blocks new accesses to a path, and unmounts it if it is unused.
///
/// # Errors
/// The path is below no mount point.
pub(super) async fn block(worker: &Rc<Worker>, wish: &Block) -> Result<Blocked, ControlError> {
    let real = worker.state.borrow().real.translate(wish.path.as_path());
    worker.mounts.serving(&real).ok_or_else(|| no_such(&wish.path))?;
    let until = wish.seconds.map(|seconds| since_1970().saturating_add(seconds));
    let blocked = Blocked { path: bytes(&real), say: wish.say.clone(), until, mounted: Vec::new() };
    put(worker, &blocked);
    save(worker);
    error!(target: &target(&real), "{}: {}", Escaped::path(&real), shown(wish.say.as_deref()));
    let expired = expire(worker, &Expire { path: Some(wish.path.clone()), dry_run: false }).await?;
    Ok(Blocked { mounted: expired.in_use.into_iter().map(|kept| kept.path).collect(), ..blocked })
}

/// Tells the engine of a block.
fn put(worker: &Rc<Worker>, blocked: &Blocked) {
    let left = blocked.until.map(|until| until.saturating_sub(since_1970()));
    let until = left.map(|seconds| worker.life.now().after(seconds.saturating_mul(1000)));
    let reason = Record::new(shown(blocked.say.as_deref())).into();
    worker.state.borrow_mut().blocks.insert(blocked.path.clone(), blocked.clone());
    worker.event(Event::Block { path: blocked.path.as_path().into(), until, reason });
}

/// Ends a block.
///
/// # Errors
/// The path is not blocked.
pub(super) fn unblock(worker: &Rc<Worker>, path: &Bytes) -> Result<Blocked, ControlError> {
    let real = bytes(&worker.state.borrow().real.translate(path.as_path()));
    let blocked = blocks(worker).into_iter().find(|blocked| blocked.path == real);
    let blocked = blocked.ok_or_else(|| ControlError::NotBlocked { path: path.clone() })?;
    worker.state.borrow_mut().blocks.remove(&real);
    worker.event(Event::Unblock { path: real.as_path().into() });
    save(worker);
    error!(target: &target(real.as_path()), "{real}: not blocked any more");
    Ok(blocked)
}

/// Returns what is blocked now.
pub(super) fn blocks(worker: &Worker) -> Vec<Blocked> {
    let now = since_1970();
    let is_over = |blocked: &&Blocked| blocked.until.is_none_or(|until| until > now);
    worker.state.borrow().blocks.values().filter(is_over).cloned().collect()
}

/// Sets the log level of a mount point, or of all direct mounts.
///
/// # Errors
/// The path is below no mount point.
pub(super) fn set_log_level(worker: &Rc<Worker>, wish: &SetLogLevel) -> Result<LogLevelSet, ControlError> {
    let point = if wish.path.as_path() == Path::new("/-") {
        let is_direct = |_: MountId, mount: &AutofsMount| mount.map.direct().then_some(());
        let any = worker.mounts.filter_map(is_direct).into_iter().next();
        any.map(|()| PathBuf::from("/-"))
    } else {
        let real = worker.state.borrow().real.translate(wish.path.as_path());
        worker.mounts.serving(&real).map(|(_, mount)| match mount.map.direct() {
            true => mount.path.to_path_buf(),
            false => PathBuf::from(OsStr::from_bytes(&mount.map.mount_point)),
        })
    };
    let point = point.ok_or_else(|| no_such(&wish.path))?;
    let logger = worker.state.borrow().logger;
    let before = logger.level(&point).into();
    let until = wish.seconds.map(|seconds| since_1970().saturating_add(seconds));
    let set = LogLevelSet { path: bytes(&point), before, now: wish.level, until };
    put_level(worker, &set);
    save(worker);
    // Logged as an error so that it appears at every log level.
    error!(target: &target(&point), "{} logging set for {}", wish.level.name(), Escaped::path(&point));
    Ok(LogLevelSet { now: logger.level(&point).into(), ..set })
}

/// Puts a log level in force, until it is over.
fn put_level(worker: &Rc<Worker>, set: &LogLevelSet) {
    let point = set.path.as_path().to_owned();
    let logger = {
        let mut state = worker.state.borrow_mut();
        state.levels.insert(set.path.clone(), set.clone());
        state.logger
    };
    choose(worker, &point, Some(set.now.into()));
    let Some(until) = set.until else { return };
    let (worker, set) = (Rc::clone(worker), set.clone());
    spawn_local(async move {
        sleep(Duration::from_secs(until.saturating_sub(since_1970()))).await;
        let is_newest = worker.state.borrow().levels.get(&set.path) == Some(&set);
        if is_newest {
            worker.state.borrow_mut().levels.remove(&set.path);
            choose(&worker, &point, None);
            save(&worker);
            let level: Level = Verbosity::into(logger.level(&point));
            error!(target: &target(&point), "{} logging set for {} again", level.name(), Escaped::path(&point));
        }
    });
}

/// Tells the logger of a level: `/-` stands for all direct mounts.
fn choose(worker: &Worker, point: &Path, level: Option<Verbosity>) {
    let logger = worker.state.borrow().logger;
    logger.choose(point, level);
    if point == Path::new("/-") {
        let direct = worker.mounts.filter_map(|_, mount| mount.map.direct().then(|| mount.path.clone()));
        direct.iter().for_each(|path| logger.choose(path, level));
    }
}

/// Settings made at run time, kept for the next worker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    /// When the daemon was started, in seconds since 1970.
    since: u64,
    deaths: u32,
    last_death: Option<Death>,
    blocks: Vec<Blocked>,
    levels: Vec<LogLevelSet>,
}

/// Takes over what earlier workers have left, and counts the death of the last one.
pub(crate) fn restore(worker: &Rc<Worker>, predecessor: Option<Predecessor>) {
    let kept = worker.settings.read().ok().and_then(|text| serde_json::from_slice(&text).ok());
    let Kept { since, mut deaths, mut last_death, blocks, levels } = kept.unwrap_or_default();
    let why = match predecessor {
        Some(Predecessor::Died(exit)) => Some(exit.to_string()),
        Some(Predecessor::Hung) => Some("it did not go on".to_owned()),
        Some(Predecessor::Retired) | None => None,
    };
    if let Some(why) = why {
        deaths = deaths.saturating_add(1);
        last_death = Some(Death { at: since_1970(), why });
    }
    {
        let mut state = worker.state.borrow_mut();
        state.since = if since == 0 { since_1970() } else { since };
        (state.deaths, state.last_death) = (deaths, last_death);
    }
    let now = since_1970();
    let is_in_force = |until: Option<u64>| until.is_none_or(|until| until > now);
    blocks.iter().filter(|blocked| is_in_force(blocked.until)).for_each(|blocked| put(worker, blocked));
    levels.iter().filter(|set| is_in_force(set.until)).for_each(|set| put_level(worker, set));
    save(worker);
}

/// Sets the log level of direct mounts that were not known before.
pub(crate) fn restore_levels(worker: &Worker) {
    let levels: Vec<LogLevelSet> = worker.state.borrow().levels.values().cloned().collect();
    levels.iter().for_each(|set| choose(worker, set.path.as_path(), Some(set.now.into())));
}

/// Keeps blocks and log levels for the next worker.
fn save(worker: &Worker) {
    let kept = {
        let state = worker.state.borrow();
        Kept {
            since: state.since,
            deaths: state.deaths,
            last_death: state.last_death.clone(),
            blocks: state.blocks.values().cloned().collect(),
            levels: state.levels.values().cloned().collect(),
        }
    };
    let written = serde_json::to_vec(&kept).map_err(io::Error::from).and_then(|text| worker.settings.write(&text));
    if let Err(e) = written {
        error!("blocked paths and log levels would be lost with this worker: {e}");
    }
}
