//! Answering what comes by the control socket.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use log::error;
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::control::{Answer, Bytes, Call, ControlError, Explanation, MountKind, MountPoint, Mounted, Mounts, Outcome};
use crate::control::{Checks, Level, Pong, Status, plan};
use crate::daemon::checkpoint::quiesce::Quiet;
use crate::daemon::control::serve::Asked;
use crate::daemon::jobs::resolve;
use crate::daemon::maps::line::Line;
use crate::daemon::state::{State, Trigger};
use crate::daemon::worker::Worker;
use crate::engine::{EntryId, EntryPhase, Event, Key, Kind, MountId, Requester, Shutdown};
use crate::logging::target;
use crate::plan::Action;
use crate::sys::children;
use crate::text::Escaped;

/// For the answer to be written to somebody who does not read.
const DELIVERY: Duration = Duration::from_secs(1);

/// Answers until the socket is gone.
pub(crate) async fn answer(worker: Rc<Worker>, mut asked: mpsc::Receiver<Asked>) {
    while let Some(asked) = asked.recv().await {
        let worker = Rc::clone(&worker);
        spawn_local(async move {
            // Until this is answered, this worker does not make room for the next one.
            let parts = u32::from(asked.call == Call::Upgrade);
            worker.parting.set(worker.parting.get() + parts);
            let answer = one(&worker, &asked).await;
            // Who has stopped waiting misses nothing.
            let _ = asked.reply.send(answer);
            let _ = timeout(DELIVERY, asked.delivered).await;
            worker.parting.set(worker.parting.get() - parts);
        });
    }
}

async fn one(worker: &Rc<Worker>, asked: &Asked) -> Result<Answer, ControlError> {
    match &asked.call {
        Call::Ping => Ok(Answer::Pong(Pong { version: version(), pid: keeper() })),
        Call::Status => Ok(Answer::Status(status(worker))),
        Call::Mounts => Ok(Answer::Mounts(mounts(&worker.state.borrow()))),
        Call::Upgrade => match crate::daemon::upgrade::upgrade(worker).await {
            Ok(()) => Ok(Answer::Done),
            Err(message) => Err(ControlError::Failed { message }),
        },
        Call::Detach if worker.is_being_replaced() => {
            Err(ControlError::Failed { message: crate::daemon::upgrade::UNDER_WAY.to_owned() })
        }
        Call::Detach => {
            worker.stop(Shutdown::Detach);
            Ok(Answer::Done)
        }
        Call::Reload => {
            spawn_local(crate::daemon::upgrade::hang_up(Rc::clone(worker)));
            Ok(Answer::Done)
        }
        Call::Expire { path: None } => {
            worker.event(Event::Prune);
            Ok(Answer::Done)
        }
        Call::Expire { path: Some(path) } => expire(worker, path),
        Call::SetLogLevel { path, level } => {
            let state = worker.state.borrow();
            if path.as_path() == Path::new("/-") {
                return set_level_of_direct_maps(&state, *level).then_some(Answer::Done).ok_or_else(|| no_such(path));
            }
            let (_, line) = serving(&state, path.as_path()).ok_or_else(|| no_such(path))?;
            let at = if line.direct() { path.as_path() } else { Path::new(OsStr::from_bytes(&line.mount_point)) };
            state.logger.set_mount(at, Some((*level).into()));
            // Whatever the level is now: who reads the log must know.
            error!(target: &target(at), "{} logging set for {}", level.name(), Escaped::path(at));
            Ok(Answer::Done)
        }
        Call::Explain { path } => {
            let who = Requester { uid: asked.uid, gid: asked.gid, ..Requester::default() };
            explain(worker, path, who).await
        }
        Call::Quiesce(wish) => {
            let quiesced = crate::daemon::checkpoint::quiesce::quiesce(worker, *wish).await;
            quiesced.map(Answer::Quiesced).map_err(|message| ControlError::Failed { message })
        }
        Call::Resume => {
            crate::daemon::checkpoint::quiesce::resume(worker);
            while worker.state.borrow().regaining {
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

fn maps(line: &Line) -> Vec<Bytes> {
    vec![Bytes(plan::map_name(&line.spec))]
}

fn status(worker: &Rc<Worker>) -> Status {
    let state = worker.state.borrow();
    let mount_points = state.order.iter().filter_map(|number| state.lines.get(number)).map(|line| {
        let (mut mounted, mut waiting) = (0, 0);
        for view in state.engine.mounts() {
            if state.triggers.get(&view.id).is_none_or(|t| t.line.number != line.number) {
                continue;
            }
            for entry in view.entries() {
                mounted += u32::from(matches!(entry.phase, EntryPhase::Mounted | EntryPhase::Checking));
                waiting += u32::try_from(entry.waiting).unwrap_or(u32::MAX);
            }
        }
        let path = PathBuf::from(OsStr::from_bytes(&line.mount_point));
        MountPoint {
            path: Bytes(line.mount_point.clone()),
            kind: if line.direct() { MountKind::Direct } else { MountKind::Indirect },
            maps: maps(line),
            timeout: line.timeout(),
            mounted,
            waiting,
            log_level: state.logger.level(&path).into(),
        }
    });
    Status {
        version: version(),
        pid: keeper(),
        uptime: worker.age().as_secs(),
        reloaded: state.reloaded.elapsed().as_secs(),
        restores: state.restores,
        rest: state.quiet.as_ref().map(Quiet::rest),
        mount_points: mount_points.collect(),
    }
}

fn mounts(state: &State) -> Mounts {
    let mut mounts = Vec::new();
    for view in state.engine.mounts() {
        let Some(trigger) = state.triggers.get(&view.id) else { continue };
        for entry in view.entries().filter(|e| matches!(e.phase, EntryPhase::Mounted | EntryPhase::Checking)) {
            let (fstype, source) = match entry.plan.map(|plan| &plan.action) {
                Some(Action::Mount(tried)) => {
                    tried.first().map(|m| (m.fstype.clone(), m.source.clone())).unwrap_or_default()
                }
                Some(Action::Symlink(text)) => (b"symlink".to_vec(), text.clone()),
                Some(Action::Autofs(submount)) => (b"autofs".to_vec(), plan::map_name(&submount.source)),
                Some(Action::Nothing) | None => continue,
            };
            mounts.push(Mounted {
                path: Bytes(trigger.entry(entry.key).as_os_str().as_bytes().to_vec()),
                mount_point: Bytes(trigger.line.mount_point.clone()),
                fstype: Bytes(fstype),
                source: Bytes(source),
            });
        }
    }
    mounts.sort_by(|a, b| a.path.0.cmp(&b.path.0));
    Mounts { mounts }
}

/// The autofs mount of ours that serves `path`: the deepest.
fn serving(state: &State, path: &Path) -> Option<(MountId, Rc<Line>)> {
    state
        .triggers
        .iter()
        .filter(|(_, t)| path.starts_with(&t.path))
        .max_by_key(|(_, t)| t.path.as_os_str().len())
        .map(|(id, t)| (*id, Rc::clone(&t.line)))
}

/// Sets the log level of all direct mounts. Returns whether there are any.
fn set_level_of_direct_maps(state: &State, level: Level) -> bool {
    let mut any = false;
    for trigger in state.triggers.values().filter(|trigger| trigger.line.direct()) {
        state.logger.set_mount(&trigger.path, Some(level.into()));
        any = true;
    }
    if any {
        error!("{} logging set for /-", level.name());
    }
    any
}

/// The entry of an indirect mount to which a path leads.
fn key(trigger: &Trigger, path: &Path) -> Option<Key> {
    let rest = path.strip_prefix(&trigger.path).ok().filter(|_| trigger.kind == Kind::Indirect)?;
    rest.iter().next().map(|name| Key::from(name.as_bytes()))
}

/// A mount point with all that is below it, or one entry of an indirect one.
fn expire(worker: &Rc<Worker>, path: &Bytes) -> Result<Answer, ControlError> {
    let (mount, key) = {
        let state = worker.state.borrow();
        let (mount, _) = serving(&state, path.as_path()).ok_or_else(|| no_such(path))?;
        (mount, state.triggers.get(&mount).and_then(|trigger| key(trigger, path.as_path())))
    };
    if let Some(key) = key {
        worker.event(Event::Unmount { at: EntryId { mount, key } });
        return Ok(Answer::Done);
    }
    let worker = Rc::clone(worker);
    spawn_local(async move { crate::daemon::jobs::expire::run(&worker, mount, true).await });
    Ok(Answer::Done)
}

async fn explain(worker: &Rc<Worker>, path: &Bytes, who: Requester) -> Result<Answer, ControlError> {
    let (question, line) = {
        let state = worker.state.borrow();
        let (mount, line) = serving(&state, path.as_path()).ok_or_else(|| no_such(path))?;
        let trigger = state.triggers.get(&mount).ok_or_else(|| no_such(path))?;
        let key = key(trigger, path.as_path()).unwrap_or_default();
        if trigger.kind == Kind::Indirect && key.0.is_empty() {
            return Err(ControlError::Failed {
                message: "a mount point has no entry: name a path below it".to_owned(),
            });
        }
        (state.question(mount, key, who).ok_or_else(|| no_such(path))?, line)
    };
    let explained = resolve::explain(question.clone()).await;
    Ok(Answer::Explanation(Explanation {
        path: path.clone(),
        mount_point: Bytes(line.mount_point.clone()),
        kind: if question.kind == Kind::Indirect { MountKind::Indirect } else { MountKind::Direct },
        key: Bytes(question.name().to_vec()),
        maps: maps(&line),
        outcome: explained.outcome,
        place: explained.place.map(|place| Bytes(place.to_string().into_bytes())),
        entry: explained.entry.map(Bytes),
        plan: explained.plan.as_deref().map(Into::into),
        notes: explained.notes,
    }))
}

/// What is known of a key without mounting it.
#[derive(Debug)]
pub(crate) struct Explained {
    pub(crate) outcome: Outcome,
    pub(crate) place: Option<crate::text::Position>,
    pub(crate) entry: Option<Vec<u8>>,
    pub(crate) plan: Option<std::sync::Arc<crate::plan::Plan>>,
    pub(crate) notes: Vec<String>,
}
