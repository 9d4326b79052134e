//! The tree of autofs mounts and entries, and the counts that are kept of it.

use super::{Alarm, Done, Engine, Entry, EntryId, Errno, Key, Mount, MountId, Phase, Piece, Site, Stage, State, Top};

impl Engine {
    /// The top-level mount of the tree in which a mount is.
    pub(super) fn top_of(&self, mount: MountId) -> Option<&Top> {
        self.tops.get(&self.mounts.get(&mount)?.top).map(Box::as_ref)
    }

    /// All entries.
    pub(super) fn places(&self) -> Vec<EntryId> {
        let of = |id: &MountId, mount: &Mount| {
            let place = |key: &Key| EntryId { mount: *id, key: key.clone() };
            mount.entries.keys().map(place).collect::<Vec<_>>()
        };
        self.mounts.iter().flat_map(|(id, mount)| of(id, mount)).collect()
    }

    /// The nearest entry above whose tree is being taken down: nothing may begin here meanwhile.
    pub(super) fn held(&self, at: &EntryId) -> Option<&Entry> {
        let mut mount = self.mounts.get(&at.mount)?;
        while let Some(owner) = mount.owner() {
            mount = self.mounts.get(&owner.mount)?;
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
        while let Some(owner) = self.mounts.get(&at.mount).and_then(|mount| mount.owner()) {
            at = owner;
        }
        at.clone()
    }

    /// The tree at an entry, each thing after all that stands on it.
    pub(super) fn pieces(&self, at: &EntryId) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut stack = vec![Piece::Entry(at.clone())];
        while let Some(piece) = stack.pop() {
            match &piece {
                Piece::Entry(place) => {
                    let children = self.entry(place).map(|entry| entry.children.as_slice()).unwrap_or_default();
                    stack.extend(children.iter().map(|child| Piece::Trigger(*child)));
                }
                Piece::Trigger(id) => {
                    let Some(mount) = self.mounts.get(id) else { continue };
                    let occupied = mount.entries.iter().filter(|(_, entry)| entry.occupied());
                    stack.extend(occupied.map(|(key, _)| Piece::Entry(EntryId { mount: *id, key: key.clone() })));
                }
            }
            pieces.push(piece);
        }
        pieces.reverse();
        pieces
    }

    /// Whether nothing runs and nobody waits in the tree below an entry.
    pub(super) fn quiet_below(&self, at: &EntryId) -> bool {
        let mut stack: Vec<MountId> = self.entry(at).map(|entry| entry.children.clone()).unwrap_or_default();
        while let Some(id) = stack.pop() {
            let Some(mount) = self.mounts.get(&id) else { continue };
            if mount.expiring || mount.entries.values().any(Entry::busy) {
                return false;
            }
            stack.extend(mount.entries.values().flat_map(|entry| entry.children.iter()));
        }
        true
    }

    /// The entries below one at which somebody waits.
    pub(super) fn waiting_below(&self, at: &EntryId) -> Vec<EntryId> {
        let mut waiting = Vec::new();
        let mut stack: Vec<MountId> = self.entry(at).map(|entry| entry.children.clone()).unwrap_or_default();
        while let Some(id) = stack.pop() {
            let Some(mount) = self.mounts.get(&id) else { continue };
            for (key, entry) in &mount.entries {
                if !entry.waiting.is_empty() {
                    waiting.push(EntryId { mount: id, key: key.clone() });
                }
                stack.extend(&entry.children);
            }
        }
        waiting
    }

    /// Puts what stands below an entry into the tree; what is there already stays as it is.
    pub(super) fn install(&mut self, at: &EntryId, done: Done) {
        let old = self.entry(at).map(|entry| entry.children.clone()).unwrap_or_default();
        let offsets = done.offsets.into_iter().map(|(id, plan)| (id, Site::Offset(plan)));
        let submount = done.submount.map(|(id, wanted)| (id, Site::Submount(wanted)));
        for (id, site) in offsets.chain(submount) {
            if id.is_top() {
                log::error!("{id:?} is no number for a trigger");
                continue;
            }
            if let Some(known) = self.mounts.get_mut(&id) {
                if let Some(below) = known.below.as_mut().filter(|below| below.owner == *at) {
                    if let Site::Offset(plan) = site {
                        below.plan = Some(plan);
                    }
                    continue;
                }
                self.drop_below(id);
            }
            let Some(mount) = self.mounts.get(&at.mount).map(|mount| mount.below(at, site)) else { return };
            let replaced =
                old.iter().find(|old| self.mounts.get(old).is_some_and(|old| old.path == mount.path)).copied();
            if let Some(replaced) = replaced {
                self.drop_below(replaced);
            }
            if let Some(top) = self.tops.get_mut(&mount.top) {
                top.below.insert(id);
            }
            self.mounts.insert(id, Box::new(mount));
            if let Some(entry) = self.entry_mut(at) {
                entry.children.push(id);
            }
        }
    }

    /// What stood on an entry is gone with it. While something is in flight there, nothing is forgotten: no second job
    /// may begin at such a place.
    pub(super) fn forget_below(&mut self, at: &EntryId) {
        if self.quiet_below(at) {
            for child in self.entry(at).map(|entry| entry.children.clone()).unwrap_or_default() {
                self.drop_below(child);
            }
        }
    }

    /// Forgets a trigger or submount that is gone, with all below it; the entry on which it stood is not settled.
    pub(super) fn drop_below(&mut self, id: MountId) {
        let Some(mount) = self.mounts.get(&id) else { return };
        let (top, owner) = (mount.top, mount.owner().cloned());
        if let Some(entry) = owner.and_then(|owner| self.entry_mut(&owner)) {
            entry.children.retain(|child| *child != id);
        }
        self.drop_tree(id);
        self.level_done(top);
    }

    /// Forgets a mount with all below it. Who waits there is failed, what runs there is of no interest.
    pub(super) fn drop_tree(&mut self, id: MountId) {
        let mut stack = vec![id];
        while let Some(id) = stack.pop() {
            let Some(mount) = self.mounts.remove(&id) else { continue };
            let mut flights = u32::from(mount.expiring);
            for (key, mut entry) in mount.entries {
                flights += u32::from(entry.counted.1);
                self.timers.reset(&mut entry.alarm, None, || Alarm::Entry(EntryId { mount: id, key }));
                if let Some(job) = entry.phase.job() {
                    self.jobs.remove(&job);
                }
                let tokens = entry.waiting.iter().map(|waiter| waiter.token).chain(entry.expire);
                for token in tokens.collect::<Vec<_>>() {
                    self.reply(id, token, Some(Errno::ENOENT));
                }
                stack.append(&mut entry.children);
            }
            self.in_flight -= flights;
            if let Some(top) = self.tops.get_mut(&mount.top) {
                top.in_flight -= flights;
                top.below.remove(&id);
                if let Some(round) = &mut top.round {
                    round.outstanding.remove(&id);
                }
            }
        }
    }

    /// To be called after every change of an entry: counts it anew, sets its alarm, forgets it when there is nothing
    /// to be said of it, and lets its top-level mount go on with what waits for it.
    pub(super) fn settle(&mut self, at: &EntryId) {
        let Some(mount) = self.mounts.get_mut(&at.mount) else { return };
        let Some(entry) = mount.entries.get_mut(&at.key) else { return };
        let (occupied, in_flight) = (entry.occupied(), entry.in_flight());
        let (was_occupied, was_in_flight) = std::mem::replace(&mut entry.counted, (occupied, in_flight));
        let wakes = entry.wakes();
        self.timers.reset(&mut entry.alarm, wakes, || Alarm::Entry(at.clone()));
        if !occupied && !entry.busy() {
            mount.entries.remove(&at.key);
        }
        mount.occupied = mount.occupied + u32::from(occupied) - u32::from(was_occupied);
        let (top, is_top) = (mount.top, mount.below.is_none());
        let Some(state) = self.tops.get_mut(&top) else { return };
        state.in_flight = state.in_flight + u32::from(in_flight) - u32::from(was_in_flight);
        self.in_flight = self.in_flight + u32::from(in_flight) - u32::from(was_in_flight);
        let leaves = state.state == State::Leaving(Stage::Emptying);
        if is_top && occupied != was_occupied {
            self.reset_tick(top);
        }
        if leaves {
            self.go_on(top, Some(at));
        }
    }

    /// Sets the state of an entry whose file system is gone.
    pub(super) fn clear(&mut self, at: &EntryId) {
        if let Some(entry) = self.entry_mut(at) {
            entry.phase = Phase::Idle;
            entry.plan = None;
        }
        self.settle(at);
    }

    /// Deals the number of a new top-level mount out.
    pub(super) fn new_mount(&mut self) -> MountId {
        loop {
            self.last_mount = self.last_mount.wrapping_add(1);
            let id = MountId(MountId::TOP | self.last_mount);
            if !self.mounts.contains_key(&id) {
                return id;
            }
        }
    }

    /// Counts a mount that is being expired, or not any more.
    pub(super) fn set_expiring(&mut self, id: MountId, expiring: bool) {
        let Some(mount) = self.mounts.get_mut(&id) else { return };
        let was = std::mem::replace(&mut mount.expiring, expiring);
        let Some(top) = self.tops.get_mut(&mount.top) else { return };
        top.in_flight = top.in_flight + u32::from(expiring) - u32::from(was);
        self.in_flight = self.in_flight + u32::from(expiring) - u32::from(was);
    }

    /// Sets the state of a top-level mount and counts it.
    pub(super) fn set_state(&mut self, id: MountId, state: State) {
        let Some(top) = self.tops.get_mut(&id) else { return };
        let was = std::mem::replace(&mut top.state, state);
        self.moving = self.moving + u32::from(state.moves()) - u32::from(was.moves());
        if state.leaves() {
            self.leaving.insert(top.wanted.path.clone());
        } else {
            self.leaving.remove(&top.wanted.path);
        }
    }

    /// A new top-level mount.
    pub(super) fn insert_top(&mut self, id: MountId, top: Top) {
        self.moving += u32::from(top.state.moves());
        self.mounts.insert(id, Box::new(Mount::top_level(id, &top.wanted)));
        self.tops.insert(id, Box::new(top));
        self.paths.insert(&self.tops, id);
    }

    /// A top-level mount that is no more.
    pub(super) fn remove_top(&mut self, id: MountId) -> Option<Top> {
        self.drop_tree(id);
        self.paths.remove(&self.tops, id);
        let mut top = self.tops.remove(&id)?;
        self.moving -= u32::from(top.state.moves());
        self.timers.reset(&mut top.alarm, None, || Alarm::Tick(id));
        self.leaving.remove(&top.wanted.path);
        Some(*top)
    }
}
