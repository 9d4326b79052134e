//! Answering what comes by the control socket.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use log::error;
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::control::{Answer, Bytes, Call, ControlError, Explanation, MountKind, MountPoint, Mounted, Mounts};
use crate::control::{Checks, Level, Pong, Problem, Status, plan};
use crate::daemon::checkpoint::restore;
use crate::daemon::control::look;
use crate::daemon::control::serve::Asked;
use crate::daemon::jobs::resolve;
use crate::daemon::left;
use crate::daemon::life::{Phase, UPGRADE_UNDER_WAY};
use crate::daemon::maps::configured_map::ConfiguredMap;
use crate::daemon::verify::{Heal, verify};
use crate::daemon::worker::Worker;
use crate::engine::{EntryId, EntryPhase, EntryView, Event, Kind, Requester, Shutdown};
use crate::logging::target;
use crate::plan::{Action, Leads, MountedBy, Plan};
use crate::sys::children;
use crate::text::Escaped;

/// How long a client may take to read its answer.
const DELIVERY: Duration = Duration::from_secs(1);

/// How long a verification of the mounts is good enough for `status`.
const VERIFIED: Duration = Duration::from_secs(1);

/// How long `status` waits for a verification.
const VERIFY_WITHIN: Duration = Duration::from_secs(3);

/// How long the answer to a call that unmounts one entry waits for the unmount. Less than the client waits.
const UNMOUNT: Duration = Duration::from_secs(10);

/// Interval between two looks at an entry that is being unmounted.
const UNMOUNT_LOOK: Duration = Duration::from_millis(20);

/// Answers until the socket is gone.
pub(crate) async fn answer(worker: Rc<Worker>, mut asked: mpsc::Receiver<Asked>) {
    while let Some(asked) = asked.recv().await {
        let worker = Rc::clone(&worker);
        spawn_local(async move {
            // Until this is answered, this worker does not make room for the next one.
            let upgrades = asked.call == Call::Upgrade;
            if upgrades {
                worker.life.begin_upgrade_call();
            }
            let answer = one(&worker, &asked).await;
            // Who has stopped waiting misses nothing.
            let _ = asked.reply.send(answer);
            let _ = timeout(DELIVERY, asked.delivered).await;
            if upgrades {
                worker.life.end_upgrade_call();
            }
        });
    }
}

async fn one(worker: &Rc<Worker>, asked: &Asked) -> Result<Answer, ControlError> {
    match &asked.call {
        Call::Ping => Ok(Answer::Pong(Pong { version: version(), pid: keeper() })),
        Call::Status => {
            verify_for_status(worker).await;
            Ok(Answer::Status(status(worker)))
        }
        Call::Mounts => Ok(Answer::Mounts(mounts(worker))),
        Call::Upgrade => match crate::daemon::upgrade::upgrade(worker).await {
            Ok(()) => Ok(Answer::Done),
            Err(message) => Err(ControlError::Failed { message }),
        },
        Call::Detach if matches!(worker.life.phase(), Phase::Upgrading | Phase::Retiring) => {
            Err(ControlError::Failed { message: UPGRADE_UNDER_WAY.to_owned() })
        }
        Call::Detach => {
            worker.stop(Shutdown::Detach);
            Ok(Answer::Done)
        }
        Call::Clean => match left::clean(worker).await {
            Ok(()) => Ok(Answer::Done),
            Err(message) => Err(ControlError::Failed { message }),
        },
        Call::Reload => {
            spawn_local(crate::daemon::upgrade::hang_up(Rc::clone(worker)));
            Ok(Answer::Done)
        }
        Call::Expire { path: None } => {
            worker.event(Event::Prune);
            Ok(Answer::Done)
        }
        Call::Expire { path: Some(path) } => expire(worker, path).await,
        Call::SetLogLevel { path, level } => {
            if path.as_path() == Path::new("/-") {
                return set_level_of_direct_maps(worker, *level).then_some(Answer::Done).ok_or_else(|| no_such(path));
            }
            let real = worker.state.borrow().real.translate(path.as_path());
            let map = worker.mounts.serving(&real).ok_or_else(|| no_such(path))?.1.map;
            let at = if map.direct() { &*real } else { Path::new(OsStr::from_bytes(&map.mount_point)) };
            worker.state.borrow().logger.set_mount(at, Some((*level).into()));
            // Logged at any level: a reader of the log must know.
            error!(target: &target(at), "{} logging set for {}", level.name(), Escaped::path(at));
            Ok(Answer::Done)
        }
        Call::Explain { path } => {
            let who = Requester { uid: asked.uid, gid: asked.gid, ..Requester::default() };
            explain(worker, path, who).await
        }
        Call::StatusOf { path } => look::status_of(worker, path, asked).await,
        Call::History(wanted) => look::history(worker, wanted.clone(), asked.uid).await,
        Call::Metrics => look::metrics(worker).await,
        Call::Quiesce(wish) => {
            let quiesced = crate::daemon::checkpoint::quiesce::quiesce(worker, *wish).await;
            quiesced.map(Answer::Quiesced).map_err(|message| ControlError::Failed { message })
        }
        Call::Resume => {
            restore::resume(worker);
            while worker.life.phase() == Phase::Restoring {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Ok(Answer::Done)
        }
        Call::MigrateCheck => {
            Ok(Answer::Checks(Checks { checks: crate::daemon::checkpoint::check::check(worker).await }))
        }
        call @ (Call::GetInfo | Call::GetInterfaceDescription { .. }) => {
            call.answer_about_service().unwrap_or(Ok(Answer::Done))
        }
    }
}

fn version() -> String {
    env!("AUTOFS_VERSION").to_owned()
}

/// The pid in the pid file.
fn keeper() -> u32 {
    u32::try_from(children::parent()).unwrap_or_default()
}

fn no_such(path: &Bytes) -> ControlError {
    ControlError::NoSuchMount { path: path.clone() }
}

fn maps(map: &ConfiguredMap) -> Vec<Bytes> {
    vec![Bytes(plan::map_name(&map.spec))]
}

/// Verifies the mounts, unless that was done just now: a directory above a mount point can be renamed without an event.
async fn verify_for_status(worker: &Rc<Worker>) {
    let is_fresh = worker.verified.get().is_some_and(|at| at.elapsed() <= VERIFIED);
    if worker.life.phase() == Phase::Serving && !is_fresh {
        worker.verified.set(Some(Instant::now()));
        let look = async {
            verify(worker, Heal::Safely).await;
            worker.left.replace(left::find(worker).await);
        };
        let _ = timeout(VERIFY_WITHIN, look).await;
    }
}

/// Returns the mount points that are not as the maps want them.
fn problems(worker: &Worker) -> Vec<Problem> {
    let state = worker.state.borrow();
    let shown = |path: &Path| state.real.written(path).unwrap_or_else(|| path.into());
    let mut problems: BTreeMap<Bytes, String> = BTreeMap::new();
    let mut add = |path: &Path, reason: String| {
        let path = shown(path);
        problems.insert(Bytes(path.as_os_str().as_bytes().to_vec()), reason);
    };
    for (path, trouble) in worker.mounts.filter_map(|_, mount| Some((mount.path.clone(), mount.trouble.clone()?))) {
        add(&path, trouble.to_string());
    }
    for path in worker.left.borrow().iter() {
        let reason = "left by a daemon that has ended, and named by no map; `autofsctl clean` unmounts it";
        add(path, reason.to_owned());
    }
    worker.view(|engine| {
        for (wanted, reason) in engine.absent() {
            let reason = reason.map_or("not mounted: it was unmounted from outside".to_owned(), |reason| {
                let message = reason.message.lines().next().unwrap_or_default();
                format!("not mounted: {message}")
            });
            add(&wanted.path, reason);
        }
    });
    problems.into_iter().map(|(path, reason)| Problem { path, reason }).collect()
}

fn status(worker: &Rc<Worker>) -> Status {
    let state = worker.state.borrow();
    let mount_points = state.maps.served().map(|map| {
        let (mut mounted, mut waiting) = (0, 0);
        worker.view(|engine| {
            for view in engine.mounts() {
                if worker.mounts.get(view.id).is_none_or(|mount| mount.map.number != map.number) {
                    continue;
                }
                for entry in view.entries() {
                    mounted += u32::from(matches!(entry.phase, EntryPhase::Mounted | EntryPhase::Checking));
                    waiting += u32::try_from(entry.waiting).unwrap_or(u32::MAX);
                }
            }
        });
        let path = PathBuf::from(OsStr::from_bytes(&map.mount_point));
        MountPoint {
            path: Bytes(map.mount_point.clone()),
            kind: if map.direct() { MountKind::Direct } else { MountKind::Indirect },
            maps: maps(map),
            timeout: map.timeout(),
            mounted,
            waiting,
            log_level: state.logger.level(&path).into(),
        }
    });
    Status {
        version: version(),
        pid: keeper(),
        uptime: worker.life.age().as_secs(),
        reloaded: worker.life.since_reload().as_secs(),
        restores: worker.life.restores(),
        rest: worker.life.shown_rest(),
        mount_points: mount_points.collect(),
        problems: problems(worker),
    }
}

fn mounts(worker: &Worker) -> Mounts {
    let mut mounts = Vec::new();
    worker.view(|engine| {
        for view in engine.mounts() {
            let Some(mount) = worker.mounts.get(view.id) else { continue };
            let mounted = |e: &EntryView<'_>| matches!(e.phase, EntryPhase::Mounted | EntryPhase::Checking);
            for entry in view.entries().filter(mounted) {
                let Some((fstype, source)) = entry.plan.and_then(|plan| shown(&plan.action)) else { continue };
                mounts.push(Mounted {
                    path: Bytes(mount.entry(entry.key).as_os_str().as_bytes().to_vec()),
                    mount_point: Bytes(mount.map.mount_point.clone()),
                    fstype: Bytes(fstype),
                    source: Bytes(source),
                });
            }
        }
    });
    mounts.sort_by(|a, b| a.path.0.cmp(&b.path.0));
    Mounts { mounts }
}

/// Returns the type and the source of what an action mounts.
fn shown(action: &Action) -> Option<(Vec<u8>, Vec<u8>)> {
    match action {
        Action::Mount(tried) => Some(tried.first().map(|m| (m.fstype.clone(), m.source.clone())).unwrap_or_default()),
        Action::Symlink(text) => Some((b"symlink".to_vec(), text.clone())),
        Action::Autofs(submount) => Some((b"autofs".to_vec(), plan::map_name(&submount.source))),
        Action::Leads(leads) => shown_lead(leads.first()?),
        Action::Nothing => None,
    }
}

/// Returns the type and the source of what the first location of an entry in am-utils format mounts.
fn shown_lead(lead: &Leads) -> Option<(Vec<u8>, Vec<u8>)> {
    match lead.external.as_ref().map(|external| &external.by) {
        Some(MountedBy::Mounts(mounts)) => mounts.first().map(|mount| (mount.fstype.clone(), mount.source.clone())),
        Some(MountedBy::Command { mount, .. }) => Some((b"program".to_vec(), mount.program.clone())),
        None => shown(lead.ways.first()?),
    }
}

/// Sets the log level of all direct mounts. Returns whether there are any.
fn set_level_of_direct_maps(worker: &Worker, level: Level) -> bool {
    let logger = worker.state.borrow().logger;
    let paths = worker.mounts.filter_map(|_, mount| mount.map.direct().then(|| mount.path.clone()));
    paths.iter().for_each(|path| logger.set_mount(path, Some(level.into())));
    if !paths.is_empty() {
        error!("{} logging set for /-", level.name());
    }
    !paths.is_empty()
}

/// Expires a mount point with all that is below it, or one entry of an indirect one. Waits for the end of a single unmount.
///
/// # Errors
/// Returns why the entry is still mounted.
async fn expire(worker: &Rc<Worker>, path: &Bytes) -> Result<Answer, ControlError> {
    let real = worker.state.borrow().real.translate(path.as_path());
    let (mount, known) = worker.mounts.serving(&real).ok_or_else(|| no_such(path))?;
    if let Some(key) = known.key_of(&real).filter(|_| known.kind == Kind::Indirect) {
        let at = EntryId { mount, key };
        worker.event(Event::Unmount { at: at.clone() });
        return match timeout(UNMOUNT, unmounted(worker, &at)).await {
            Ok(Ok(())) => Ok(Answer::Done),
            Ok(Err(why)) => {
                let message = format!("{} is still mounted: {why}", Escaped::path(path.as_path()));
                Err(ControlError::Failed { message })
            }
            Err(_) => {
                let message = format!("{} is still being unmounted", Escaped::path(path.as_path()));
                Err(ControlError::Failed { message })
            }
        };
    }
    let worker = Rc::clone(worker);
    spawn_local(async move { worker.expire(mount, true).await });
    Ok(Answer::Done)
}

/// Waits until an entry is not being unmounted any more.
///
/// # Errors
/// Returns why it is still mounted.
async fn unmounted(worker: &Worker, at: &EntryId) -> Result<(), String> {
    loop {
        let state = worker.view(|engine| {
            let entry = engine.mount(at.mount)?.entries().find(|entry| *entry.key == at.key)?;
            Some((entry.phase, entry.reason.map(|reason| reason.message.clone())))
        });
        match state {
            Some((EntryPhase::Unmounting | EntryPhase::Remounting, _)) => tokio::time::sleep(UNMOUNT_LOOK).await,
            Some((EntryPhase::Mounted | EntryPhase::Checking, Some(why))) => return Err(why),
            _ => return Ok(()),
        }
    }
}

/// Says what is mounted at an entry, if its map has changed since it was mounted.
fn differs(worker: &Worker, at: &EntryId, plan: Option<&Plan>) -> Option<String> {
    let now = worker.view(|engine| {
        let entry = engine.mount(at.mount)?.entries().find(|entry| *entry.key == at.key)?;
        entry.since.and(entry.plan).and_then(|plan| shown(&plan.action))
    })?;
    let (fstype, source) = &now;
    // With several servers, any of them may have been chosen.
    let named = plan.is_some_and(|plan| match &plan.action {
        Action::Mount(tried) => tried.iter().any(|mount| mount.fstype == *fstype && mount.source == *source),
        action => shown(action).as_ref() == Some(&now),
    });
    (!named).then(|| format!("mounted now: {} {}, from before the map was changed", Escaped(fstype), Escaped(source)))
}

async fn explain(worker: &Rc<Worker>, path: &Bytes, who: Requester) -> Result<Answer, ControlError> {
    let (question, map, trouble, at) = {
        let real = worker.state.borrow().real.translate(path.as_path());
        let (id, mount) = worker.mounts.serving(&real).ok_or_else(|| no_such(path))?;
        let key = mount.key_of(&real).unwrap_or_default();
        if mount.kind == Kind::Indirect && key.0.is_empty() {
            return Err(ControlError::Failed {
                message: "a mount point has no entry: name a path below it".to_owned(),
            });
        }
        let (trouble, at) = (mount.trouble.clone(), EntryId { mount: id, key: key.clone() });
        (worker.state.borrow().question(&mount, key, who), Rc::clone(&mount.map), trouble, at)
    };
    let mut explained = resolve::explain(question.clone()).await;
    let shown = Escaped(&map.mount_point);
    explained
        .notes
        .extend(trouble.map(|trouble| format!("nobody can reach the autofs mount for this path ({shown}): {trouble}")));
    explained.notes.extend(differs(worker, &at, explained.plan.as_deref()));
    Ok(Answer::Explanation(Explanation {
        path: path.clone(),
        mount_point: Bytes(map.mount_point.clone()),
        kind: if question.kind == Kind::Indirect { MountKind::Indirect } else { MountKind::Direct },
        key: Bytes(question.name().to_vec()),
        maps: maps(&map),
        outcome: explained.outcome,
        place: explained.place.map(|place| Bytes(place.to_string().into_bytes())),
        entry: explained.entry.map(Bytes),
        plan: explained.plan.as_deref().map(Into::into),
        notes: explained.notes,
    }))
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio::task::LocalSet;

    use super::*;
    use crate::control::Outcome;
    use crate::daemon::testing::Alone;

    /// Answers one call of root.
    async fn ask(alone: &Alone, call: Call) -> Result<Answer, ControlError> {
        let (reply, _) = oneshot::channel();
        let (_, delivered) = oneshot::channel();
        one(&alone.worker, &Asked { call, uid: 0, gid: 0, reply, delivered }).await
    }

    fn path(path: &str) -> Bytes {
        Bytes::from(Path::new(path))
    }

    fn failure(answer: Result<Answer, ControlError>) -> String {
        match answer {
            Err(ControlError::Failed { message }) => message,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_worker_without_maps_has_an_empty_status() {
        let local = LocalSet::new();
        local
            .run_until(async {
                let alone = Alone::new();
                let Ok(Answer::Status(status)) = ask(&alone, Call::Status).await else { panic!() };
                assert_eq!((status.mount_points.len(), status.restores, status.rest), (0, 0, None));
                let Ok(Answer::Mounts(mounts)) = ask(&alone, Call::Mounts).await else { panic!() };
                assert_eq!(mounts.mounts, []);
                let Ok(Answer::Pong(pong)) = ask(&alone, Call::Ping).await else { panic!() };
                assert_eq!(pong.version, version());
            })
            .await;
    }

    #[tokio::test]
    async fn a_path_is_explained_by_the_mount_point_above_it() {
        let dir = tempfile::tempdir().unwrap();
        let map = dir.path().join("map");
        std::fs::write(&map, "good -fstype=tmpfs,size=1m :t\nbad -fstype=nfs :\n").unwrap();
        let local = LocalSet::new();
        local
            .run_until(async {
                let alone = Alone::new();
                alone.indirect(1, "/srv/auto", 70, &map);
                let explained = async |at: &str| match ask(&alone, Call::Explain { path: path(at) }).await {
                    Ok(Answer::Explanation(explanation)) => explanation,
                    other => panic!("{other:?}"),
                };
                let good = explained("/srv/auto/good").await;
                assert_eq!(
                    (good.outcome, &*good.key.0, &*good.mount_point.0),
                    (Outcome::Found, &b"good"[..], &b"/srv/auto"[..])
                );
                assert!(good.plan.is_some() && good.place.is_some(), "{good:?}");
                let unknown = explained("/srv/auto/unknown/deep").await;
                assert_eq!((unknown.outcome, unknown.plan.is_none()), (Outcome::NotFound, true));
                let itself = failure(ask(&alone, Call::Explain { path: path("/srv/auto") }).await);
                assert_eq!(itself, "a mount point has no entry: name a path below it");
                let elsewhere = ask(&alone, Call::Explain { path: path("/srv/other/k") }).await;
                assert_eq!(elsewhere, Err(ControlError::NoSuchMount { path: path("/srv/other/k") }));
            })
            .await;
    }

    #[tokio::test]
    async fn calls_about_paths_of_other_file_systems_name_the_path() {
        let local = LocalSet::new();
        local
            .run_until(async {
                let alone = Alone::new();
                let no_such = |at: &str| Err(ControlError::NoSuchMount { path: path(at) });
                let level = |at: &str| Call::SetLogLevel { path: path(at), level: Level::Debug };
                assert_eq!(ask(&alone, level("/srv")).await, no_such("/srv"));
                assert_eq!(ask(&alone, level("/-")).await, no_such("/-"), "there is no direct mount");
                assert_eq!(ask(&alone, Call::Expire { path: Some(path("/srv")) }).await, no_such("/srv"));
                alone.indirect(1, "/srv/auto", 70, Path::new("/nonexistent/m"));
                assert_eq!(ask(&alone, level("/srv/auto/k")).await, Ok(Answer::Done));
                let logger = alone.worker.state.borrow().logger;
                assert_eq!(logger.level(Path::new("/srv/auto")), crate::map::Verbosity::Debug);
            })
            .await;
    }

    #[tokio::test]
    async fn a_phase_that_does_not_permit_a_call_is_named() {
        let local = LocalSet::new();
        local
            .run_until(async {
                let alone = Alone::new();
                let starting = failure(ask(&alone, Call::Upgrade).await);
                assert!(starting.contains("the daemon is about to start or to end"), "{starting}");
                alone.worker.life.started();
                assert!(alone.worker.life.enter(Phase::Upgrading));
                assert_eq!(failure(ask(&alone, Call::Detach).await), UPGRADE_UNDER_WAY);
                assert!(failure(ask(&alone, Call::Upgrade).await).contains(UPGRADE_UNDER_WAY));
                assert_eq!(alone.worker.life.phase(), Phase::Upgrading);
            })
            .await;
    }

    #[tokio::test]
    async fn a_detach_ends_a_daemon_that_serves() {
        let local = LocalSet::new();
        local
            .run_until(async {
                let alone = Alone::new();
                alone.worker.started();
                assert_eq!(ask(&alone, Call::Detach).await, Ok(Answer::Done));
                let (how, left) = alone.worker.life.ended().await;
                assert_eq!((how, left), (Shutdown::Detach, vec![]));
            })
            .await;
    }
}
