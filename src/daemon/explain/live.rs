//! `Explain`: what an access to a path would do, and whether it would succeed, as far as that can be told without mounting.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::control::{Bytes, Explain, Explanation, Mode, MountKind, Place, Problem, plan};
use crate::daemon::explain::feasible::{self, Verdict};
use crate::daemon::explain::origins::{Masked, origins};
use crate::daemon::explain::{below, mounted, shown};
use crate::daemon::jobs::question::Question;
use crate::daemon::jobs::resolve::{self, Explained};
use crate::daemon::maps::configured_map::ConfiguredMap;
use crate::daemon::mounts::AutofsMount;
use crate::daemon::problems;
use crate::daemon::worker::Worker;
use crate::engine::{EntryId, EntryPhase, Failure, Kind, MountId, Requester};
use crate::plan::{Action, Plan};
use crate::text::{Escaped, Position};

/// Explains a path to a requester.
pub(crate) async fn explain(worker: &Rc<Worker>, wish: &Explain, who: Requester) -> Explanation {
    let path = &wish.path;
    let real = worker.state.borrow().real.translate(path.as_path());
    let nothing = |verdict: Verdict| Explanation {
        succeeds: verdict.succeeds,
        answer: verdict.answer,
        answer_place: verdict.place,
        ..Explanation::of(path)
    };
    if let Some(refused) = refused(worker, path) {
        return nothing(refused);
    }
    let Some((id, mount)) = worker.mounts.serving(&real) else {
        return nothing(Verdict::no(outside(worker, path)));
    };
    let key = mount.key_of(&real).unwrap_or_default();
    let of_mount = |explanation: Explanation| Explanation {
        mount_point: Some(Bytes(mount.map.mount_point.clone())),
        kind: Some(kind_of(&mount, id)),
        maps: vec![Bytes(plan::map_name(&mount.map.spec))],
        line: place_of(worker, &mount.map),
        timeout: mount.map.timeout(),
        ..explanation
    };
    if mount.kind == Kind::Indirect && key.0.is_empty() {
        let verdict = match &mount.trouble {
            Some(trouble) => Verdict::no(format!("no path leads to this mount point: {trouble}")),
            None => Verdict::yes(format!("a mount point of its own: {}", keys(&mount.map))),
        };
        return of_mount(nothing(verdict));
    }
    // An offset is served by the entry of its multi-mount.
    let here = EntryId { mount: id, key: key.clone() };
    let (at, mount) = below::entry_of_map(worker, id, mount, key);
    let question = worker.state.borrow().question(&mount, at.key.clone(), who);
    let explained = resolve::explain(question.clone(), Some(&real)).await;
    let now = match here == at {
        true => now(worker, &at, explained.plan.as_deref()),
        false => offset_now(worker, &here, &explained),
    };
    let verdict = match in_place(worker, &here, &real, now.as_ref()).await {
        Some(verdict) if mount.trouble.is_none() => verdict,
        _ => verdict(worker, &mount, &at, &real, &explained, now).await,
    };
    let masked = Masked { secrets: wish.secrets };
    if let Some(next) = below::in_submount(&question, &explained, &real).filter(|_| verdict.succeeds) {
        return in_submount(worker, next, explained.place.as_ref(), &real, masked, wish).await;
    }
    let mut notes = explained.notes.clone();
    notes.extend(differs(worker, &at, explained.plan.as_deref()));
    let (line, kind) = (place_of(worker, &mount.map), kind_of(&mount, at.mount));
    described(&question, &explained, verdict, (line, kind), &notes, masked, wish)
}

/// Says what an access reaches of what is mounted, if that is not simply the entry: the mount of another process, or a path that does
/// not exist.
async fn in_place(worker: &Rc<Worker>, here: &EntryId, real: &Path, now: Option<&Verdict>) -> Option<Verdict> {
    if let Some(found) = mounted::foreign_at(worker, here).await {
        let (fstype, source) = (Escaped(&found.fstype), Escaped(&found.source));
        if let Some(lacking) = mounted::inside(worker, here, real).await.filter(|verdict| !verdict.succeeds) {
            return Some(lacking);
        }
        return Some(Verdict::yes(format!("an access reaches {fstype} {source}, {}", found.foreign.text())));
    }
    let is_mounted = worker.view(|engine| {
        let entry = engine.mount(here.mount)?.entries().find(|entry| *entry.key == here.key)?;
        Some(matches!(entry.phase, EntryPhase::Mounted | EntryPhase::Checking))
    });
    let stands = now.is_some_and(|now| now.succeeds) && is_mounted == Some(true);
    if stands { mounted::inside(worker, here, real).await } else { None }
}

/// Describes an entry and what an access does.
fn described(
    question: &Question,
    explained: &Explained,
    verdict: Verdict,
    (line, kind): (Option<Place>, MountKind),
    notes: &[String],
    masked: Masked,
    wish: &Explain,
) -> Explanation {
    let map = &question.map;
    Explanation {
        mount_point: Some(Bytes(map.mount_point.clone())),
        kind: Some(kind),
        maps: vec![Bytes(plan::map_name(&map.spec))],
        timeout: map.timeout(),
        key: Some(Bytes(question.name().to_vec())),
        outcome: explained.outcome,
        options: origins(map, line.clone(), explained, masked),
        line,
        place: explained.place.as_ref().map(Place::from),
        entry: explained.entry.as_deref().map(|entry| masked.bytes(entry)),
        plan: explained.plan.as_deref().map(|plan| masked.plan(plan)),
        notes: notes.iter().map(|note| masked.text(note)).collect(),
        succeeds: verdict.succeeds,
        answer: masked.text(&verdict.answer),
        answer_place: verdict.place,
        ..Explanation::of(&wish.path)
    }
}

/// Explains a path below a submount that an access would make first. `line` is the place of the entry that makes it.
async fn in_submount(
    worker: &Rc<Worker>,
    first: Question,
    line: Option<&Position>,
    real: &Path,
    masked: Masked,
    wish: &Explain,
) -> Explanation {
    let (mut question, mut line) = (first, line.map(Place::from));
    let mut explained = resolve::explain(question.clone(), Some(real)).await;
    while let Some(next) = below::in_submount(&question, &explained, real) {
        (question, line) = (next, explained.place.as_ref().map(Place::from));
        explained = resolve::explain(question.clone(), Some(real)).await;
    }
    let own: Vec<PathBuf> = worker.mounts.filter_map(|_, mount| Some(mount.path.to_path_buf()));
    let lanes = worker.state.borrow().context.lanes.clone();
    let verdict = feasible::verdict(&explained, real, own, &lanes).await;
    let mut notes = explained.notes.clone();
    notes.push(format!("an access makes the mount point {} first", Escaped(&question.map.mount_point)));
    described(&question, &explained, verdict, (line, MountKind::Submount), &notes, masked, wish)
}

/// Says how an offset is now, if that decides. Its entry is that of the trigger, which has no key.
fn offset_now(worker: &Rc<Worker>, here: &EntryId, explained: &Explained) -> Option<Verdict> {
    let at = worker.mounts.get(here.mount)?.path.to_path_buf();
    let part = explained.plan.as_deref().map(|plan| below::deepest(plan, &at)).filter(|part| part.at == at);
    now(worker, here, part)
}

fn kind_of(mount: &AutofsMount, id: MountId) -> MountKind {
    match mount.kind {
        Kind::Indirect if !id.is_top() => MountKind::Submount,
        Kind::Indirect => MountKind::Indirect,
        Kind::Direct | Kind::Offset => MountKind::Direct,
    }
}

/// Returns that a path belongs to a mount point that is not served.
fn refused(worker: &Worker, path: &Bytes) -> Option<Verdict> {
    let is_above = |point: &Bytes| point.0.starts_with(b"/") && path.as_path().starts_with(point.as_path());
    // A problem that concerns no mount point has its file as path; such problems are skipped.
    let is_point = |problem: &Problem| problem.place.as_ref().is_none_or(|at| at.file != problem.path);
    let problems = problems::problems(worker).into_iter().filter(|p| is_above(&p.path) && is_point(p));
    let nearest = problems.max_by_key(|problem| problem.path.0.len())?;
    let served = {
        let real = worker.state.borrow().real.translate(path.as_path());
        worker.mounts.serving(&real).map(|(_, mount)| mount.path.as_os_str().len())
    };
    // A map that could be read before is served as it was.
    if served.is_some_and(|served| served >= nearest.path.0.len()) {
        return None;
    }
    let answer = format!("{} is not served: {}", nearest.path, nearest.reason);
    Some(Verdict { succeeds: false, answer, place: nearest.place })
}

/// Says that a path is below no mount point, and which is the nearest.
fn outside(worker: &Worker, path: &Bytes) -> String {
    let common = |point: &[u8]| point.iter().zip(&path.0).take_while(|(a, b)| a == b).count();
    let points = worker.mounts.filter_map(|_, mount| Some(mount.path.as_os_str().as_bytes().to_vec()));
    // All paths have the leading slash in common, so it does not count.
    match points.into_iter().filter(|point| common(point) > 1).max_by_key(|point| common(point)) {
        Some(nearest) => format!("not below any mount point (nearest: {})", Escaped(&nearest)),
        None => "not below any mount point".to_owned(),
    }
}

/// Says what `ls` shows of a mount point.
fn keys(map: &ConfiguredMap) -> String {
    let shown = map.browse().then(|| map.entries.borrow().clone()).flatten().map(|entries| {
        let mut count = 0;
        entries.for_each_shown_key(&mut |_| count += 1);
        count
    });
    match shown {
        Some(1) => "ls shows 1 key".to_owned(),
        Some(n) => format!("ls shows {n} keys"),
        None => "ls shows what is mounted".to_owned(),
    }
}

fn place_of(worker: &Worker, map: &ConfiguredMap) -> Option<Place> {
    let state = worker.state.borrow();
    let found = state.maps.configured().find(|(configured, _)| configured.number == map.number);
    found.map(|(_, place)| Place::from(place))
}

/// Decides whether an access would succeed. `now` is what the present state says.
async fn verdict(
    worker: &Rc<Worker>,
    mount: &AutofsMount,
    at: &EntryId,
    real: &Path,
    explained: &Explained,
    now: Option<Verdict>,
) -> Verdict {
    let here = mount.entry(&at.key);
    if let Some(trouble) = &mount.trouble {
        return Verdict::no(format!("no path leads to {}: {trouble}", Escaped(&mount.map.mount_point)));
    }
    // What is mounted stays usable although new mounts are blocked.
    let is_mounted = worker.view(|engine| {
        let entry = engine.mount(at.mount).and_then(|view| view.entries().find(|entry| *entry.key == at.key));
        entry.is_some_and(|entry| matches!(entry.phase, EntryPhase::Mounted | EntryPhase::Checking))
    });
    if let Some(reason) = blocked(worker, at).filter(|_| !is_mounted) {
        return Verdict::no(reason);
    }
    if let Some(verdict) = now {
        return verdict;
    }
    if let Some(verdict) = hidden(worker, mount, &here) {
        return verdict;
    }
    let own: Vec<PathBuf> = worker.mounts.filter_map(|_, mount| Some(mount.path.to_path_buf()));
    let lanes = worker.state.borrow().context.lanes.clone();
    feasible::verdict(explained, real, own, &lanes).await
}

/// Returns why each access to an entry that is not mounted fails, if something forbids it.
pub(crate) fn blocked(worker: &Worker, at: &EntryId) -> Option<String> {
    if worker.life.shown_rest().is_some_and(|rest| rest.mode == Mode::Park && rest.ready) {
        return Some("the daemon is parked for a checkpoint: accesses fail until autofsctl resume".to_owned());
    }
    worker.view(|engine| engine.block_at(at, worker.life.now()))
}

/// Says how the entry is now, if that decides.
fn now(worker: &Rc<Worker>, at: &EntryId, plan: Option<&Plan>) -> Option<Verdict> {
    let differs = differs(worker, at, plan).is_some();
    let tick = worker.life.now();
    worker.view(|engine| {
        let entry = engine.mount(at.mount)?.entries().find(|entry| *entry.key == at.key)?;
        Some(match entry.phase {
            EntryPhase::Failed(failure, until) => {
                let left = until.0.saturating_sub(tick.0).div_ceil(1000);
                let why = entry.reason.map(|reason| reason.message.lines().next().unwrap_or_default().to_owned());
                let why = why.unwrap_or_else(|| match failure {
                    Failure::NotFound => "no map has this key".to_owned(),
                    Failure::Invalid => "the entry is invalid".to_owned(),
                    Failure::Mount => "it could not be mounted".to_owned(),
                });
                Verdict::no(format!("failed a short while ago, fails for {left}s more: {why}"))
            }
            EntryPhase::Mounted | EntryPhase::Checking if differs => {
                Verdict::yes("mounted already, from an older line")
            }
            EntryPhase::Mounted | EntryPhase::Checking => Verdict::yes("mounted"),
            EntryPhase::Mounting | EntryPhase::Resolving => Verdict::yes("being mounted"),
            EntryPhase::Waiting | EntryPhase::Unmounting | EntryPhase::Remounting => return None,
        })
    })
}

/// Returns that the kernel never asks for a key of an indirect mount, because of an autofs mount below it.
pub(crate) fn hidden(worker: &Worker, mount: &AutofsMount, here: &Path) -> Option<Verdict> {
    let (below, place) = hiding(worker, mount, here)?;
    let answer = format!("hidden: {} makes {} a plain directory", Escaped::path(&below), Escaped::path(here));
    Some(Verdict { succeeds: false, answer, place })
}

/// Returns the autofs mount below a key of an indirect mount that hides the key, so that the kernel never asks for it.
fn hiding(worker: &Worker, mount: &AutofsMount, here: &Path) -> Option<(PathBuf, Option<Place>)> {
    if mount.kind != Kind::Indirect {
        return None;
    }
    let below: BTreeSet<(PathBuf, u32)> = worker.view(|engine| {
        let tops = engine.mounts().filter_map(|view| view.wanted());
        let below = tops.filter(|wanted| wanted.path.starts_with(here) && *wanted.path != *here);
        below.map(|wanted| (wanted.path.to_path_buf(), wanted.map)).collect()
    });
    let (path, number) = below.into_iter().next()?;
    let map = worker.state.borrow().maps.by_number.get(&number).map(Rc::clone)?;
    let place = key_place(&map, path.as_os_str().as_bytes()).map(|place| Place::from(&place));
    Some((path, place.or_else(|| place_of(worker, &map))))
}

/// Returns where a map that was read has a key.
fn key_place(map: &ConfiguredMap, key: &[u8]) -> Option<Position> {
    match map.source.known(key)? {
        crate::source::Answer::Found(found) => Some(Position { column: 1, ..found.place }),
        _ => None,
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
