//! Brings the trees of servers up to date at a reload: servers whose exports are mounted are asked for them again.
//!
//! A new export gets its trigger. The trigger of one that is gone is removed, unless it is in use.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::jobs::{resolve, unmount_nested};
use super::maps::configured_map::ConfiguredMap;
use super::worker::Worker;
use crate::engine::{EntryId, EntryPhase, Event, Key, Kind, MountId, Requester, Resolution};
use crate::map::{Format, SourceKind};
use crate::plan::Plan;
use crate::task::spawn_local;

/// Pauses before a tree is looked at again: something may have been going on in it.
const RETRY_DELAYS: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(8), Duration::from_secs(30)];

/// Begins to bring all trees up to date.
pub(super) fn trees(worker: &Rc<Worker>) {
    let has_trees = |map: &ConfiguredMap| {
        map.spec.kind == Some(SourceKind::Hosts) || map.spec.format == Some(Format::Amd) && !map.direct()
    };
    let mounts =
        worker.mounts.filter_map_indirect(|id, mount| has_trees(&mount.map).then_some((id, mount.map.spec.kind)));
    for (mount, kind) in mounts {
        for key in mounted(worker, mount, kind == Some(SourceKind::Hosts)) {
            spawn_local(keep_renewing(Rc::clone(worker), EntryId { mount, key }));
        }
    }
}

/// Returns the keys of multi-mounts that are mounted. With `all`, every entry is one.
fn mounted(worker: &Worker, mount: MountId, all: bool) -> Vec<Key> {
    worker.view(|engine| {
        let entries = engine.mount(mount).into_iter().flat_map(|view| view.entries());
        let trees = entries.filter(|entry| {
            let has_offsets = || entry.plan.is_some_and(|plan| !plan.offsets.is_empty());
            entry.phase == EntryPhase::Mounted && (all || has_offsets())
        });
        trees.map(|entry| entry.key.clone()).collect()
    })
}

async fn keep_renewing(worker: Rc<Worker>, at: EntryId) {
    for pause in RETRY_DELAYS {
        worker.life.pause(pause).await;
        if worker.is_stopping() || renew(&worker, &at).await {
            return;
        }
    }
}

/// Asks the server of a tree, and begins to make the difference. Returns whether there was none.
async fn renew(worker: &Rc<Worker>, at: &EntryId) -> bool {
    let Some(mount) = worker.mounts.get(at.mount) else { return true };
    let who = worker.tools().requesters.get(&mount.entry(&at.key));
    let who = who.map(|(uid, gid)| Requester { uid, gid, ..Requester::default() }).unwrap_or_default();
    let question = worker.state.borrow().question(&mount, at.key.clone(), who);
    // As long as a server does not answer, its tree stays as it is.
    let Resolution::Found(plan) = resolve::later(question).await else { return true };
    let mut wanted = HashSet::new();
    collect(&plan, &mut wanted);
    let offsets = worker.mounts.filter_map(|id, mount| {
        let is_below = mount.kind == Kind::Offset && mount.path.starts_with(&plan.at);
        is_below.then(|| (Arc::clone(&mount.path), id))
    });
    let (standing, mut stale): (Vec<_>, Vec<_>) = offsets.into_iter().partition(|(path, _)| wanted.contains(&**path));
    let standing: HashMap<Arc<Path>, MountId> = standing.into_iter().collect();
    let is_same = stale.is_empty() && plan.offsets.iter().all(|offset| standing.contains_key(&*offset.at));
    let tools = worker.tools();
    // Deepest first.
    stale.sort_unstable_by(|a, b| b.0.cmp(&a.0));
    for (_, id) in stale {
        if unmount_nested::remove(&worker.mounts, &tools, id, false).await.is_ok() {
            worker.event(Event::Vanished { mount: id });
        }
    }
    let mut levels = vec![(at.clone(), plan)];
    while let Some((at, plan)) = levels.pop() {
        for offset in &plan.offsets {
            let Some(id) = standing.get(&*offset.at) else { continue };
            worker.mounts.set_plan(*id, Arc::clone(offset));
            levels.push((EntryId { mount: *id, key: Key::from(&b""[..]) }, Arc::clone(offset)));
        }
        if !plan.offsets.is_empty() {
            worker.event(Event::RemountTriggers { at, plan });
        }
    }
    is_same
}

/// Adds the paths of all offsets of a plan.
fn collect<'p>(plan: &'p Plan, paths: &mut HashSet<&'p Path>) {
    for offset in &plan.offsets {
        paths.insert(&offset.at);
        collect(offset, paths);
    }
}
