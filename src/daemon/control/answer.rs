//! Answering what comes by the control socket.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::control::{Answer, Bytes, Call, ControlError, MountKind, MountPoint, Mounted, Mounts, StaleMap};
use crate::control::{Checks, Pong, Problem, Reload, Status, plan};
use crate::daemon::checkpoint::restore;
use crate::daemon::control::look;
use crate::daemon::control::serve::Asked;
use crate::daemon::control::steer;
use crate::daemon::explain;
use crate::daemon::leftovers;
use crate::daemon::life::{Phase, UPGRADE_UNDER_WAY};
use crate::daemon::maps::configured_map::ConfiguredMap;
use crate::daemon::mounts::AutofsMount;
use crate::daemon::problems;
use crate::daemon::reload::call;
use crate::daemon::verify::{Heal, verify};
use crate::daemon::worker::Worker;
use crate::engine::{EntryId, EntryPhase, EntryView, Kind, Requester, Shutdown};
use crate::logging::Logger;
use crate::sys::children;
use crate::task::spawn_local;
use crate::text::secrets::masked;

/// How long a client may take to read its answer.
const DELIVERY: Duration = Duration::from_secs(1);

/// How long a verification of the mounts is good enough for `status`.
const VERIFIED: Duration = Duration::from_secs(1);

/// How long `status` waits for a verification.
const VERIFY_WITHIN: Duration = Duration::from_secs(3);

/// Answers until the socket is gone.
pub(crate) async fn answer(worker: Rc<Worker>, mut asked: mpsc::Receiver<Asked>) {
    while let Some(asked) = asked.recv().await {
        let worker = Rc::clone(&worker);
        spawn_local(async move {
            // Until this is answered, this worker does not make room for the next one.
            let upgrades = matches!(asked.call, Call::Upgrade | Call::Reload(Reload { no_wait: false, .. }));
            if upgrades {
                worker.life.begin_upgrade_call();
            }
            let answer = one(&worker, &asked).await;
            // The client may have disconnected.
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
        Call::Mounts => Ok(Answer::Mounts(mounts(worker).await)),
        Call::Activity => Ok(Answer::Activity(look::activity(worker, asked.uid))),
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
        Call::Clean => match leftovers::clean(worker).await {
            Ok(()) => Ok(Answer::Done),
            Err(message) => Err(ControlError::Failed { message }),
        },
        Call::Reload(how) => {
            call::reload(worker, *how).await.map(Answer::Reloaded).map_err(|message| ControlError::Failed { message })
        }
        Call::Expire(wish) => steer::expire(worker, wish).await.map(Answer::Expired),
        Call::Flush(wish) => steer::flush(worker, wish).map(Answer::Flushed),
        Call::Block(wish) => steer::block(worker, wish).await.map(Answer::Blocked),
        Call::Unblock { path } => steer::unblock(worker, path).map(Answer::Blocked),
        Call::SetLogLevel(wish) => steer::set_log_level(worker, wish).map(Answer::LogLevelSet),
        Call::Explain(wish) => {
            let (uid, gid) = (wish.uid.unwrap_or(asked.uid), wish.gid.unwrap_or(asked.gid));
            let who = Requester { uid, gid, ..Requester::default() };
            Ok(Answer::Explanation(Box::new(explain::live::explain(worker, wish, who).await)))
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
            worker.left.replace(leftovers::find(worker).await);
        };
        let _ = timeout(VERIFY_WITHIN, look).await;
    }
}

/// Returns all problems for `status`: what is not served, mounts that no path reaches, mounts left by daemons that have ended.
fn problems(worker: &Worker) -> Vec<Problem> {
    let mut problems = problems::problems(worker);
    let mut others: BTreeMap<Bytes, Problem> =
        problems::troubled(worker).into_iter().map(|problem| (problem.path.clone(), problem)).collect();
    let state = worker.state.borrow();
    for path in worker.left.borrow().iter() {
        let reason = "left by a daemon that has ended, and named by no map; `autofsctl clean` unmounts it".to_owned();
        let path = Bytes::from(&*state.real.written(path).unwrap_or_else(|| path.as_path().into()));
        others.insert(path.clone(), Problem { path, place: None, reason, left: true });
    }
    problems.extend(others.into_values());
    problems.extend(look::hanging(worker));
    problems
}

fn status(worker: &Rc<Worker>) -> Status {
    let state = worker.state.borrow();
    let mut mount_points: Vec<MountPoint> = Vec::new();
    let mut submounts = submounts(worker);
    for map in state.maps.served() {
        let point = mount_point(worker, state.logger, map);
        let is_below =
            |sub: &Rc<ConfiguredMap>| Path::new(OsStr::from_bytes(&sub.mount_point)).starts_with(point.path.as_path());
        let (below, others): (Vec<_>, Vec<_>) = submounts.into_iter().partition(is_below);
        submounts = others;
        mount_points.push(point);
        mount_points.extend(below.iter().map(|map| submount(worker, state.logger, map)));
    }
    mount_points.extend(submounts.iter().map(|map| submount(worker, state.logger, map)));
    Status {
        version: version(),
        pid: keeper(),
        uptime: worker.life.age().as_secs(),
        since: state.since,
        deaths: state.deaths,
        last_death: state.last_death.clone(),
        reloaded: worker.life.since_reload().as_secs(),
        restores: worker.life.restores(),
        rest: worker.life.shown_rest(),
        mount_points,
        blocks: steer::blocks(worker),
        problems: problems(worker),
        without_effect: problems::without_effect(worker),
    }
}

/// Returns the maps of submounts, sorted by path.
fn submounts(worker: &Worker) -> Vec<Rc<ConfiguredMap>> {
    let state = worker.state.borrow();
    let served: Vec<u32> = state.maps.served().map(|map| map.number).collect();
    // A top-level mount that no line names any more is about to go.
    let is_sub = |mount: &AutofsMount| mount.kind == Kind::Indirect && !served.contains(&mount.map.number);
    let mut maps = worker.mounts.filter_map(|id, mount| (!id.is_top() && is_sub(mount)).then(|| Rc::clone(&mount.map)));
    maps.sort_unstable_by(|a, b| a.mount_point.cmp(&b.mount_point));
    maps
}

fn submount(worker: &Worker, logger: &Logger, map: &ConfiguredMap) -> MountPoint {
    MountPoint { kind: MountKind::Submount, ..mount_point(worker, logger, map) }
}

/// Returns the state of the mount point of a map.
fn mount_point(worker: &Worker, logger: &Logger, map: &ConfiguredMap) -> MountPoint {
    let (mut mounted, mut waiting, mut failing, mut served) = (0, 0, 0, map.direct());
    let state = worker.state.borrow();
    // Keys below other direct keys are mounted by triggers in those.
    let nested: HashSet<&Path> =
        if map.direct() { state.maps.direct.nested_in(map.number).collect() } else { HashSet::new() };
    worker.view(|engine| {
        for view in engine.mounts() {
            let is_nested = nested.contains(view.path());
            if !is_nested && worker.mounts.get(view.id).is_none_or(|mount| mount.map.number != map.number) {
                continue;
            }
            served = true;
            // The parts of a direct entry are no keys.
            let is_key = is_nested || view.kind() != Kind::Offset || !map.direct();
            for entry in view.entries() {
                let is_mounted = matches!(entry.phase, EntryPhase::Mounted | EntryPhase::Checking);
                mounted += u32::from(is_mounted && is_key);
                failing += u32::from(matches!(entry.phase, EntryPhase::Failed(..)));
                waiting += u32::try_from(entry.waiting).unwrap_or(u32::MAX);
            }
        }
    });
    let path = Path::new(OsStr::from_bytes(&map.mount_point));
    MountPoint {
        path: Bytes(map.mount_point.clone()),
        kind: if map.direct() { MountKind::Direct } else { MountKind::Indirect },
        maps: maps(map),
        timeout: map.timeout(),
        mounted,
        total: map.direct().then(|| state.maps.direct.count(map.number)),
        waiting,
        failing,
        log_level: logger.level(path).into(),
        stale: map.source.stale().map(|stale| StaleMap { since: stale.since, reason: stale.reason.to_string() }),
        served,
    }
}

async fn mounts(worker: &Rc<Worker>) -> Mounts {
    let (mut mounts, now) = (Vec::new(), worker.life.now());
    let mut expected = Vec::new();
    worker.view(|engine| {
        for view in engine.mounts() {
            let Some(mount) = worker.mounts.get(view.id) else { continue };
            let mounted = |e: &EntryView<'_>| matches!(e.phase, EntryPhase::Mounted | EntryPhase::Checking);
            for entry in view.entries().filter(mounted) {
                let Some((fstype, source)) = entry.plan.and_then(|plan| explain::shown(&plan.action)) else { continue };
                let at = EntryId { mount: view.id, key: entry.key.clone() };
                expected.push(explain::mounted::expected(worker, &at, Some(&entry)));
                mounts.push(Mounted {
                    path: Bytes(mount.entry(entry.key).as_os_str().as_bytes().to_vec()),
                    mount_point: Bytes(mount.map.mount_point.clone()),
                    fstype: Bytes(fstype),
                    source: Bytes(source),
                    mounted_for: entry.since.map(|since| now.since(since) / 1000),
                    foreign: None,
                });
            }
        }
    });
    for (mounted, found) in mounts.iter_mut().zip(explain::mounted::foreign(expected).await) {
        if let Some(found) = found {
            (mounted.fstype, mounted.source) = (Bytes(found.fstype), Bytes(masked(&found.source).into_owned()));
            (mounted.mounted_for, mounted.foreign) = (None, Some(found.foreign));
        }
    }
    mounts.sort_unstable_by(|a, b| a.path.0.cmp(&b.path.0));
    Mounts { mounts }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio::task::LocalSet;

    use super::*;
    use crate::control::{Expire, Explain, Level, LogLevelSet, Origin, Outcome, SetLogLevel};
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
                let explained =
                    async |at: &str| match ask(&alone, Call::Explain(Explain { path: path(at), ..Explain::default() }))
                        .await
                    {
                        Ok(Answer::Explanation(explanation)) => explanation,
                        other => panic!("{other:?}"),
                    };
                let good = explained("/srv/auto/good").await;
                assert_eq!(
                    (good.outcome, good.succeeds, good.key, good.mount_point),
                    (Outcome::Found, true, Some(Bytes(b"good".to_vec())), Some(path("/srv/auto")))
                );
                assert!(good.plan.is_some() && good.place.is_some());
                let sizes: Vec<_> = good.options.iter().map(|o| (o.from, o.place.as_ref().unwrap().column)).collect();
                assert_eq!(sizes, [(Origin::Entry, 20)]);
                let unknown = explained("/srv/auto/unknown/deep").await;
                assert_eq!((unknown.outcome, unknown.plan.is_none()), (Outcome::NotFound, true));
                assert_eq!(unknown.answer, "no map has this key");
                let itself = explained("/srv/auto").await;
                assert!(itself.succeeds && itself.answer.starts_with("a mount point of its own"), "{itself:?}");
                let elsewhere = explained("/srv/other/k").await;
                assert_eq!(
                    (elsewhere.succeeds, &*elsewhere.answer),
                    (false, "not below any mount point (nearest: /srv/auto)")
                );
                let invalid = explained("/srv/auto/bad").await;
                assert_eq!((invalid.succeeds, invalid.answer_place.map(|at| at.line)), (false, Some(2)));
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
                let level =
                    |at: &str| Call::SetLogLevel(SetLogLevel { path: path(at), level: Level::Debug, seconds: None });
                assert_eq!(ask(&alone, level("/srv")).await, no_such("/srv"));
                assert_eq!(ask(&alone, level("/-")).await, no_such("/-"), "there is no direct mount");
                assert_eq!(
                    ask(&alone, Call::Expire(Expire { path: Some(path("/srv")), dry_run: false })).await,
                    no_such("/srv")
                );
                alone.indirect(1, "/srv/auto", 70, Path::new("/nonexistent/m"));
                let set = LogLevelSet { path: path("/srv/auto"), before: Level::Basic, now: Level::Debug, until: None };
                assert_eq!(ask(&alone, level("/srv/auto/k")).await, Ok(Answer::LogLevelSet(set)));
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
                assert!(starting.contains("the daemon is starting or stopping"), "{starting}");
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
