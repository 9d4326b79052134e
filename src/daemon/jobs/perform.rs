//! Carrying out plans: what the executor does, and the triggers and submounts that stand on it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use log::{debug, error, info, warn};

use crate::daemon::attach::top::{announce, mount_options};
use crate::daemon::jobs::placeholder;
use crate::daemon::maps::context::Context;
use crate::daemon::maps::line::Line;
use crate::daemon::mounts::table::MountTable;
use crate::daemon::state::State;
use crate::daemon::worker::{NewTrigger, Worker};
use crate::engine::{Done, Event, JobId, Key, Kind, MountId, Reason, Requester, Wanted};
use crate::exec::lanes::Lane;
use crate::exec::{Place, dirs};
use crate::fault;
use crate::logging::target;
use crate::plan::{Action, Plan, Submount};
use crate::record::Record;
use crate::source::{Mode, Source};
use crate::sys::path::Magic;
use crate::sys::{autofs, path};
use crate::text::Escaped;

/// Where an entry stands, for the executor.
pub(crate) fn place(state: &State, mount: MountId, key: &Key, who: Requester) -> Option<Place> {
    let trigger = state.triggers.get(&mount)?;
    Some(Place {
        kind: trigger.kind,
        root: trigger.path.to_path_buf(),
        dev: autofs::decode(trigger.dev),
        key: key.clone(),
        who,
        label: trigger.line.label(&trigger.path),
    })
}

/// Carries a plan out, if that cannot block.
pub(crate) fn now(
    state: &mut State,
    mount: MountId,
    key: &Key,
    plan: &Plan,
    who: Requester,
) -> Option<Result<Done, Reason>> {
    if !plan.offsets.is_empty() || state.triggers.get(&mount)?.remote {
        return None;
    }
    let place = place(state, mount, key, who)?;
    let mounter = Rc::clone(&state.context);
    let root = state.root(mount).ok()?;
    mounter.mounter.try_now(plan, &place, root)?;
    Some(Ok(Done::default()))
}

/// Carries a plan out, however long it takes.
pub(crate) async fn later(
    worker: &Rc<Worker>,
    mount: MountId,
    key: &Key,
    plan: Arc<Plan>,
    who: Requester,
) -> Result<Done, Reason> {
    let (place, context) = {
        let state = worker.state.borrow();
        (
            Arc::new(place(&state, mount, key, who).ok_or_else(|| Record::new("the autofs mount is gone"))?),
            Rc::clone(&state.context),
        )
    };
    let shown = Escaped::path(&plan.at);
    if let Action::Autofs(submount) = &plan.action {
        let made = make_submount(worker, mount, &plan.at, submount).await;
        return made.map(|submount| Done { submount: Some(submount), ..Done::default() }).map_err(|e| {
            error!(target: &place.label, "failed to mount {shown}: {e}");
            Record::new(e.to_string()).into()
        });
    }
    if !matches!(plan.action, Action::Nothing) {
        if let Err(e) = context.mounter.perform(&plan, &place).await {
            debug!(target: &place.label, "{e}");
            // Without a root the offsets may still be of use, unless all or nothing is wanted.
            if plan.strict || plan.offsets.is_empty() {
                info!(target: &place.label, "failed to mount {shown}");
                return Err(Record::new(e.to_string()).into());
            }
        }
    }
    if !plan.offsets.is_empty() && (who.uid, who.gid) != (0, 0) {
        worker.state.borrow_mut().journal.remember(&plan.at, who.uid, who.gid);
    }
    let placeholder = matches!(plan.action, Action::Nothing) && placeholder::make(&context, &plan, &place).await;
    let (offsets, failed) = make_offsets(worker, mount, &plan.offsets).await;
    if placeholder {
        placeholder::seal(&context, &plan).await;
    }
    let useless = matches!(plan.action, Action::Nothing) && offsets.is_empty();
    if (failed && plan.strict) || useless {
        for (id, _) in offsets.iter().rev() {
            crate::daemon::jobs::unmount::remove_trigger(worker, *id, false).await;
        }
        // If we have mounted nothing there, what stands there is somebody else's.
        let ours = placeholder || !matches!(plan.action, Action::Nothing);
        let _ = match ours {
            true => context.unmounter.remove(&place, false, false).await,
            false => context.unmounter.clear(&place, false).await,
        };
        info!(target: &place.label, "failed to mount {shown}");
        return Err(Record::new(format!("{shown}: a trigger of the multi-mount could not be mounted")).into());
    }
    Ok(Done { offsets, submount: None })
}

/// From so many on, places are looked up in the mount table rather than looked at, one by one: it costs less, and a
/// server that is dead cannot keep it waiting.
const MANY: usize = 16;

/// Finds out whether something is mounted (or linked) at entries.
pub(crate) async fn check(worker: Rc<Worker>, checks: Vec<(JobId, MountId, Key)>) {
    let (places, lanes) = {
        let state = worker.state.borrow();
        let place = |(job, mount, key)| (job, place(&state, mount, &key, Requester::default()).map(Arc::new));
        (checks.into_iter().map(place).collect::<Vec<(JobId, Option<Arc<Place>>)>>(), Arc::clone(&state.context.lanes))
    };
    let look = move || {
        let table = if places.len() < MANY { None } else { MountTable::read().ok() };
        let mounted = |place: &Arc<Place>| {
            table.as_ref().is_some_and(|table| table.has_mount(&place.path(), place.dev)) || place.is_mounted()
        };
        places.into_iter().map(|(job, place)| (job, place.as_ref().is_some_and(mounted))).collect::<Vec<_>>()
    };
    for (job, mounted) in lanes.run(Lane::Mount, look).await {
        worker.event(Event::Checked { job, mounted });
    }
}

/// Mounts triggers. Says which stand, and whether one could not be mounted.
pub(crate) async fn make_offsets(
    worker: &Rc<Worker>,
    parent: MountId,
    plans: &[Arc<Plan>],
) -> (Vec<(MountId, Arc<Plan>)>, bool) {
    let (mut made, mut failed) = (Vec::new(), false);
    for plan in plans {
        match make_offset(worker, parent, plan).await {
            Ok(Some(id)) => made.push((id, Arc::clone(plan))),
            Ok(None) => {}
            Err(e) => {
                warn!(target: &target(&plan.at), "{}: no trigger: {e}", Escaped::path(&plan.at));
                failed = true;
            }
        }
    }
    (made, failed)
}

async fn make_offset(worker: &Rc<Worker>, parent: MountId, plan: &Arc<Plan>) -> io::Result<Option<MountId>> {
    let (line, pipe, number, write_end, options, source, context) = {
        let mut state = worker.state.borrow_mut();
        let trigger = state.triggers.get(&parent).ok_or(io::ErrorKind::NotFound)?;
        let (line, pipe) = (Rc::clone(&trigger.line), trigger.pipe);
        let write_end = state.pipes.get(pipe).ok_or(io::ErrorKind::NotFound)?.write_end()?;
        let options = mount_options(&line, &state);
        (Rc::clone(&line), pipe, state.number(), write_end, options, line.mount_source(), Rc::clone(&state.context))
    };
    let (at, timeout) = (plan.at.clone(), line.timeout());
    let mounted = context.lanes.run(Lane::Mount, move || -> io::Result<_> {
        let created = dirs::make(&at).map_err(io::Error::other)?;
        // A file server may have brought a mount of its own along.
        let parent = at.parent().unwrap_or(Path::new("/"));
        if path::lstat(&at)?.dev != path::lstat(parent)?.dev {
            return Ok(None);
        }
        let remote = Magic::of(path::open(parent)?)?.is_remote();
        match autofs::mount_autofs(OsStr::from_bytes(&source), &at, write_end.as_fd(), Kind::Offset, options) {
            Ok(dev) => Ok(Some((dev, created, remote))),
            Err(e) => {
                created.remove();
                Err(e)
            }
        }
    });
    let Some((dev, created, remote)) = mounted.await? else { return Ok(None) };
    fault::point("offset");
    announce(&plan.at, Kind::Offset, timeout, &line);
    let path = plan.at.as_path().into();
    let new = NewTrigger { path, kind: Kind::Offset, dev, pipe, line, created, remote, found: false };
    let mut state = worker.state.borrow_mut();
    worker.register(&mut state, number, new);
    state.plans.insert(number, Arc::clone(plan));
    Ok(Some(number))
}

/// The line of a submount: that of its own map.
pub(crate) fn submount_line(worker: &Rc<Worker>, parent: MountId, at: &Path, submount: &Submount) -> Option<Rc<Line>> {
    let mut state = worker.state.borrow_mut();
    let parent = Rc::clone(&state.triggers.get(&parent)?.line);
    let source = Source::from_spec(&submount.source, Mode::Indirect, &state.configuration.names);
    let mut options = submount.options.clone();
    options.timeout = options.timeout.or(parent.options.timeout);
    options.negative_timeout = options.negative_timeout.or(parent.options.negative_timeout);
    options.browse = options.browse.or(parent.options.browse);
    let number = state.line_number();
    let mount_point = at.as_os_str().as_bytes().to_vec();
    Some(Rc::new(Line::new(number, mount_point, submount.source.clone(), options, Arc::new(source))))
}

/// What the engine is told of a submount.
pub(crate) fn submount_wanted(line: &Line, at: &Path) -> Wanted {
    Wanted {
        path: at.into(),
        kind: Kind::Indirect,
        map: line.number,
        timeout: line.timeout(),
        negative_timeout: line.negative_timeout(),
    }
}

async fn make_submount(
    worker: &Rc<Worker>,
    parent: MountId,
    at: &Path,
    submount: &Submount,
) -> io::Result<(MountId, Wanted)> {
    let line = submount_line(worker, parent, at, submount).ok_or(io::ErrorKind::NotFound)?;
    let context: Rc<Context> = Rc::clone(&worker.state.borrow().context);
    let source = Arc::clone(&line.source);
    let loaded = context.lanes.run(Lane::Lookup, move || source.load()).await;
    loaded.map_err(|e| io::Error::other(e.to_string()))?.log();
    let (number, pipe, write_end, options) = {
        let mut state = worker.state.borrow_mut();
        let pipe = state.pipes.create()?;
        (state.number(), pipe.number, pipe.write_end()?, mount_options(&line, &state))
    };
    let (path, name): (PathBuf, _) = (at.to_owned(), line.mount_source());
    let mounted = context.lanes.run(Lane::Mount, move || -> io::Result<_> {
        let created = dirs::make(&path).map_err(io::Error::other)?;
        match autofs::mount_autofs(OsStr::from_bytes(&name), &path, write_end.as_fd(), Kind::Indirect, options) {
            Ok(dev) => Ok((dev, created)),
            Err(e) => {
                created.remove();
                Err(e)
            }
        }
    });
    let mounted = mounted.await;
    fault::point("submount");
    let (dev, created) = match mounted {
        Ok(mounted) => mounted,
        Err(e) => {
            worker.state.borrow_mut().pipes.release(pipe);
            return Err(e);
        }
    };
    let wanted = submount_wanted(&line, at);
    announce(at, Kind::Indirect, wanted.timeout, &line);
    let (path, kind) = (Arc::clone(&wanted.path), Kind::Indirect);
    let new = NewTrigger { path, kind, dev, pipe, line, created, remote: false, found: false };
    worker.register(&mut worker.state.borrow_mut(), number, new);
    crate::daemon::jobs::browse::fill(worker, number).await;
    Ok((number, wanted))
}
