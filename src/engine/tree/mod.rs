//! The tree of autofs mounts and entries, and the counts that are kept of it.
//!
//! Top-level mounts have entries; below an entry there may be offset triggers or a submount, which have entries again.
//! All fields are private, and an entry is only changed by [`Tree::update`], so that the counts and the alarms always
//! fit.

mod entries;
mod entry;
mod mount;
mod paths;
mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

pub(super) use entry::{Askers, Entry, Phase, Piece, Remount, Waiter};
use hashbrown::HashMap;
pub(super) use mount::{LeaveStage, Mount, Site, State, Top};
use paths::Paths;
use tally::Tally;

use super::timer::{Alarm, Timers};
use super::transition::{Trace, Transition};
use super::{Done, EntryId, MountId, Token, Wanted};
use crate::plan::Plan;
use crate::text::Ordered;

/// All autofs mounts.
#[derive(Debug, Default)]
pub(super) struct Tree {
    mounts: BTreeMap<MountId, Box<Mount>>,
    /// The parts that only top-level mounts of `mounts` have.
    tops: BTreeMap<MountId, Box<Top>>,
    paths: Paths,
    /// The paths of the top-level mounts that are leaving, in order, so that one below another is found.
    leaving: BTreeSet<Ordered>,
    /// Entries in flight and running expire runs.
    in_flight: Tally,
    /// Top-level mounts that the end of the daemon has to wait for.
    moving: Tally,
    /// Top-level mounts that come or go.
    unsettled: Tally,
    trace: Trace,
}

/// The facts of a mount that was dropped from the tree.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    /// Requests that are to be answered, with the mounts on which they came.
    pub(super) tokens: Vec<(MountId, Token)>,
    /// Phases whose jobs are of no interest any more.
    pub(super) phases: Vec<Phase>,
}

impl Tree {
    pub(super) fn mount(&self, id: MountId) -> Option<&Mount> {
        self.mounts.get(&id).map(Box::as_ref)
    }

    /// All mounts in the order of their numbers.
    pub(super) fn mounts(&self) -> impl Iterator<Item = (MountId, &Mount)> {
        self.mounts.iter().map(|(id, mount)| (*id, mount.as_ref()))
    }

    pub(super) fn top(&self, id: MountId) -> Option<&Top> {
        self.tops.get(&id).map(Box::as_ref)
    }

    pub(super) fn top_mut(&mut self, id: MountId) -> Option<&mut Top> {
        self.tops.get_mut(&id).map(Box::as_mut)
    }

    /// The top-level mounts in the order of their numbers.
    pub(super) fn tops(&self) -> impl ExactSizeIterator<Item = (MountId, &Top)> {
        self.tops.iter().map(|(id, top)| (*id, top.as_ref()))
    }

    /// The numbers of the top-level mounts.
    pub(super) fn top_ids(&self) -> Vec<MountId> {
        self.tops.keys().copied().collect()
    }

    /// The top-level mount of the tree to which a mount belongs.
    pub(super) fn top_of(&self, mount: MountId) -> Option<&Top> {
        self.top(self.mount(mount)?.top)
    }

    /// The top-level mount at a path.
    pub(super) fn at(&self, path: &Path) -> Option<MountId> {
        self.paths.get(&self.tops, path)
    }

    /// The leaving top-level mounts below a path.
    pub(super) fn leaving_below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = (MountId, &'a Top)> {
        let below = self.leaving.range((Bound::Excluded(Ordered(path.into())), Bound::Unbounded));
        let below = below.take_while(move |below| below.0.starts_with(path));
        below.filter_map(|below| self.at(&below.0)).filter_map(|id| Some((id, self.top(id)?)))
    }

    /// A top-level mount with the autofs mounts of its tree, itself last.
    pub(super) fn members(&self, id: MountId) -> impl Iterator<Item = (MountId, &Mount)> {
        let below = self.top(id).into_iter().flat_map(|top| &top.below);
        below.copied().chain([id]).filter_map(|id| Some((id, self.mount(id)?)))
    }

    pub(super) fn entry(&self, at: &EntryId) -> Option<&Entry> {
        self.mounts.get(&at.mount)?.entries.get(&at.key)
    }

    /// Returns whether the kernel can ask for such an entry.
    pub(super) fn may_have(&self, at: &EntryId) -> bool {
        self.mount(at.mount).is_some_and(|mount| mount.has(&at.key))
    }

    /// All entries.
    pub(super) fn entries(&self) -> Vec<EntryId> {
        let of = |(id, mount): (MountId, &Mount)| {
            mount.entries().map(move |(key, _)| EntryId { mount: id, key: key.clone() }).collect::<Vec<_>>()
        };
        self.mounts().flat_map(of).collect()
    }

    /// Makes an entry, if there is none. Returns whether there is one now: its mount may be gone.
    pub(super) fn make_entry(&mut self, at: &EntryId) -> bool {
        let Some(mount) = self.mounts.get_mut(&at.mount) else { return false };
        mount.entries.make(&at.key);
        true
    }

    /// Changes an entry, counts it anew and sets its alarm. Returns what `change` returns, `None` without such an entry.
    pub(super) fn update<T>(
        &mut self,
        timers: &mut Timers,
        at: &EntryId,
        change: impl FnOnce(&mut Entry) -> T,
    ) -> Option<T> {
        let mount = self.mounts.get_mut(&at.mount)?;
        let entry = mount.entries.get_mut(&at.key)?;
        let before = entry.phase.shown();
        let changed = change(entry);
        self.trace.note(at, before, entry.phase.shown());
        let wakes = entry.wakes();
        timers.reset(&mut entry.alarm, wakes, || Alarm::Entry(at.clone()));
        let (occupied, in_flight) = (entry.occupied(), entry.in_flight());
        let was = std::mem::replace(&mut entry.counted, (occupied, in_flight));
        mount.occupied.change(was.0, occupied);
        if was.1 != in_flight {
            self.in_flight.change(was.1, in_flight);
            if let Some(top) = self.tops.get_mut(&mount.top) {
                top.in_flight.change(was.1, in_flight);
            }
        }
        Some(changed)
    }

    /// Notes that the alarm of an entry has rung and is not set any more.
    pub(super) fn alarm_rang(&mut self, at: &EntryId) {
        let entry = self.mounts.get_mut(&at.mount).and_then(|mount| mount.entries.get_mut(&at.key));
        if let Some(entry) = entry {
            entry.alarm = None;
        }
    }

    /// Forgets an entry if there is nothing to be said of it.
    pub(super) fn forget_if_idle(&mut self, at: &EntryId) {
        let Some(mount) = self.mounts.get_mut(&at.mount) else { return };
        if mount.entries.get(&at.key).is_some_and(|entry| !entry.occupied() && !entry.busy()) {
            mount.entries.remove(&at.key);
        }
    }

    /// All entries of a mount are to be tried again.
    pub(super) fn try_all_again(&mut self, id: MountId) {
        if let Some(mount) = self.mounts.get_mut(&id) {
            mount.entries.unordered_mut().for_each(|entry| entry.tried = false);
        }
    }

    /// The nearest entry above whose tree is being taken down: nothing may begin here meanwhile.
    pub(super) fn held(&self, at: &EntryId) -> Option<&Entry> {
        let mut mount = self.mount(at.mount)?;
        while let Some(owner) = mount.owner() {
            mount = self.mount(owner.mount)?;
            let entry = mount.entries.get(&owner.key)?;
            if entry.phase.holds_tree() {
                return Some(entry);
            }
        }
        None
    }

    /// The entry of the top-level mount in whose tree an entry is.
    pub(super) fn root_of(&self, at: &EntryId) -> EntryId {
        let mut at = at;
        while let Some(owner) = self.mount(at.mount).and_then(Mount::owner) {
            at = owner;
        }
        at.clone()
    }

    /// The tree at an entry, each thing after all that is mounted on it.
    pub(super) fn pieces(&self, at: &EntryId) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut stack = vec![Piece::Entry(at.clone())];
        while let Some(piece) = stack.pop() {
            match &piece {
                Piece::Entry(at) => {
                    let children = self.entry(at).map(|entry| entry.children.as_slice()).unwrap_or_default();
                    stack.extend(children.iter().map(|child| Piece::Trigger(*child)));
                }
                Piece::Trigger(id) => {
                    let Some(mount) = self.mount(*id) else { continue };
                    let occupied = mount.entries().filter(|(_, entry)| entry.occupied());
                    stack.extend(occupied.map(|(key, _)| Piece::Entry(EntryId { mount: *id, key: key.clone() })));
                }
            }
            pieces.push(piece);
        }
        pieces.reverse();
        pieces
    }

    /// The autofs mounts on an entry.
    pub(super) fn children(&self, at: &EntryId) -> Vec<MountId> {
        self.entry(at).map(|entry| entry.children.clone()).unwrap_or_default()
    }

    /// Returns whether no job runs and no lookup waits in the tree below an entry.
    pub(super) fn is_quiet_below(&self, at: &EntryId) -> bool {
        let mut stack = self.children(at);
        while let Some(id) = stack.pop() {
            let Some(mount) = self.mount(id) else { continue };
            if mount.is_busy() {
                return false;
            }
            stack.extend(mount.entries.unordered().flat_map(|(_, entry)| entry.children.iter()));
        }
        true
    }

    /// The entries below one at which a lookup waits.
    pub(super) fn waiting_below(&self, at: &EntryId) -> Vec<EntryId> {
        let mut waiting = Vec::new();
        let mut stack = self.children(at);
        while let Some(id) = stack.pop() {
            let Some(mount) = self.mount(id) else { continue };
            for (key, entry) in mount.entries() {
                if !entry.waiting.is_empty() {
                    waiting.push(EntryId { mount: id, key: key.clone() });
                }
                stack.extend(&entry.children);
            }
        }
        waiting
    }

    /// Adds the autofs mounts below an entry. Those that are known there already stay as they are; the ones that the new
    /// ones replace are returned, and are to be dropped.
    pub(super) fn install(&mut self, timers: &mut Timers, at: &EntryId, done: Done) -> Vec<MountId> {
        let (old, mut replaced) = (self.children(at), Vec::new());
        let offsets = done.offsets.into_iter().map(|(id, plan)| (id, Site::Offset(plan)));
        let submount = done.submount.map(|(id, wanted)| (id, Site::Submount(wanted)));
        for (id, site) in offsets.chain(submount) {
            if id.is_top() {
                log::error!("{id:?} is no number for a trigger");
                continue;
            }
            if let Some(known) = self.mounts.get_mut(&id) {
                if let (Some(below), Site::Offset(plan)) = (known.below.as_mut(), site) {
                    below.plan = Some(plan);
                }
                continue;
            }
            let Some(mount) = self.mount(at.mount).map(|mount| mount.below(at, site)) else { break };
            replaced.extend(old.iter().filter(|old| self.mount(**old).is_some_and(|old| old.path == mount.path)));
            if let Some(top) = self.tops.get_mut(&mount.top) {
                top.below.insert(id);
            }
            self.mounts.insert(id, Box::new(mount));
            self.update(timers, at, |entry| entry.children.push(id));
        }
        replaced
    }

    /// Gives the offset triggers that stand below an entry the plans that `plan` has for them. Returns those of `plan` that
    /// have no trigger.
    pub(super) fn renew_offsets(&mut self, at: &EntryId, plan: &Plan) -> Vec<Arc<Plan>> {
        let mut standing: HashMap<Arc<Path>, MountId> = HashMap::new();
        for id in self.children(at) {
            standing.extend(self.mount(id).map(|mount| (mount.path.clone(), id)));
        }
        let mut missing = Vec::new();
        for offset in &plan.offsets {
            let mount = standing.get(&*offset.at).and_then(|id| self.mounts.get_mut(id));
            match mount.and_then(|mount| mount.below.as_mut()) {
                Some(below) => below.plan = below.plan.is_some().then(|| Arc::clone(offset)),
                None => missing.push(Arc::clone(offset)),
            }
        }
        missing
    }

    /// Drops a mount with all below it.
    pub(super) fn drop_mount(&mut self, timers: &mut Timers, id: MountId) -> Dropped {
        let mut dropped = Dropped::default();
        let mut stack = vec![id];
        while let Some(id) = stack.pop() {
            let Some(mount) = self.mounts.remove(&id) else { continue };
            let mut in_flight = u32::from(mount.expiring);
            for (key, mut entry) in mount.entries.into_sorted() {
                in_flight += u32::from(entry.counted.1);
                timers.reset(&mut entry.alarm, None, || Alarm::Entry(EntryId { mount: id, key }));
                let tokens = entry.waiting.iter().map(|waiter| waiter.token).chain(entry.expire);
                dropped.tokens.extend(tokens.map(|token| (id, token)));
                dropped.phases.push(entry.phase);
                stack.append(&mut entry.children);
            }
            self.in_flight.lose(in_flight);
            if let Some(top) = self.tops.get_mut(&mount.top) {
                top.in_flight.lose(in_flight);
                top.below.remove(&id);
                if let Some(run) = &mut top.run {
                    run.outstanding.remove(&id);
                }
            }
        }
        dropped
    }

    /// Sets whether the kernel is being asked to expire entries of a mount.
    pub(super) fn set_expiring(&mut self, id: MountId, expiring: bool) {
        let Some(mount) = self.mounts.get_mut(&id) else { return };
        let was = std::mem::replace(&mut mount.expiring, expiring);
        self.in_flight.change(was, expiring);
        if let Some(top) = self.tops.get_mut(&mount.top) {
            top.in_flight.change(was, expiring);
        }
    }

    /// Ends all expire runs: nothing waits for them any more.
    pub(super) fn end_expire_runs(&mut self) {
        let expiring = self.mounts().filter(|(_, mount)| mount.expiring).map(|(id, _)| id);
        for id in expiring.collect::<Vec<_>>() {
            self.set_expiring(id, false);
        }
    }

    /// Sets the state of a top-level mount.
    pub(super) fn set_state(&mut self, id: MountId, state: State) {
        let Some(top) = self.tops.get_mut(&id) else { return };
        let was = std::mem::replace(&mut top.state, state);
        self.moving.change(was.moves(), state.moves());
        self.unsettled.change(was != State::Serving, state != State::Serving);
        if state.leaves() != was.leaves() {
            let path = Ordered(top.wanted.path.clone());
            if state.leaves() {
                self.leaving.insert(path)
            } else {
                self.leaving.remove(&path)
            };
        }
    }

    /// Sets how a top-level mount is wanted. Its path stays.
    pub(super) fn set_wanted(&mut self, id: MountId, wanted: Wanted) {
        if let (Some(top), Some(mount)) = (self.tops.get_mut(&id), self.mounts.get_mut(&id)) {
            mount.negative_timeout = wanted.negative_timeout;
            top.wanted = wanted;
        }
    }

    /// Adds a top-level mount.
    pub(super) fn insert_top(&mut self, id: MountId, top: Top) {
        self.moving.change(false, top.state.moves());
        self.unsettled.change(false, top.state != State::Serving);
        self.mounts.insert(id, Box::new(Mount::top_level(id, &top.wanted)));
        self.tops.insert(id, Box::new(top));
        self.paths.insert(&self.tops, id);
    }

    /// Removes a top-level mount with all below it.
    pub(super) fn remove_top(&mut self, timers: &mut Timers, id: MountId) -> Option<(Top, Dropped)> {
        let dropped = self.drop_mount(timers, id);
        self.paths.remove(&self.tops, id);
        let mut top = self.tops.remove(&id)?;
        self.moving.change(top.state.moves(), false);
        self.unsettled.change(top.state != State::Serving, false);
        timers.reset(&mut top.alarm, None, || Alarm::Tick(id));
        if top.state.leaves() {
            self.leaving.remove(&Ordered(top.wanted.path.clone()));
        }
        Some((*top, dropped))
    }

    /// Returns whether every top-level mount is served and wanted.
    pub(super) fn is_settled(&self) -> bool {
        self.unsettled.is_zero()
    }

    /// Returns whether a top-level mount that is not wanted any more is in use.
    pub(super) fn has_stuck(&self) -> bool {
        let stuck = |top: &Top| top.state == State::Leaving(LeaveStage::Stuck);
        self.leaving.iter().any(|path| self.at(&path.0).and_then(|id| self.top(id)).is_some_and(stuck))
    }

    /// Begins to note transitions of entries, or ceases to.
    pub(super) fn set_trace(&mut self, on: bool) {
        self.trace.set(on);
    }

    /// Takes the transitions since the last call.
    pub(super) fn take_transitions(&mut self) -> Vec<Transition> {
        self.trace.take()
    }

    /// Returns whether no entry is in flight and no expire run is under way.
    pub(super) fn is_at_rest(&self) -> bool {
        self.in_flight.is_zero()
    }

    /// Returns whether no top-level mount is coming, serving or going.
    pub(super) fn is_parted(&self) -> bool {
        self.moving.is_zero()
    }
}
