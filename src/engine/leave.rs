//! How a top-level mount goes: those below its path first, then all its entries at once, then itself. What is in use
//! keeps it; then it is tried again later.

use std::ops::Bound;
use std::path::Path;

use super::{Effect, Engine, MountId, Place, Shutdown, Stage, State, Top};

impl Engine {
    /// These mounts are to go (or to be tried again).
    pub(super) fn leave(&mut self, mut ids: Vec<MountId>) {
        for id in &ids {
            let Some(top) = self.tops.get(id) else { continue };
            match top.state {
                State::Attaching { .. } => self.set_state(*id, State::Attaching { leave: true }),
                State::Serving | State::Leaving(Stage::Stuck | Stage::Emptying) => {
                    self.cancel_round(*id);
                    self.set_state(*id, State::Leaving(Stage::Deferred));
                    self.reset_tick(*id);
                }
                State::Leaving(Stage::Deferred | Stage::Detaching { .. }) => {}
            }
        }
        let path = |id: &MountId| self.tops.get(id).map(|top| std::cmp::Reverse(top.wanted.path.clone()));
        ids.sort_by_cached_key(path);
        for id in ids {
            self.proceed(id);
        }
    }

    /// Begins to empty a leaving mount, if none below its path is to go first.
    fn proceed(&mut self, id: MountId) {
        let Some(top) = self.tops.get(&id).filter(|top| top.state == State::Leaving(Stage::Deferred)) else { return };
        let path = top.wanted.path.as_path();
        let below = self.leaving.range::<Path, _>((Bound::Excluded(path), Bound::Unbounded));
        let moves = |top: &Top| top.state.moves();
        if below
            .take_while(|below| below.starts_with(path))
            .filter_map(|below| self.tops.get(self.paths.get(below)?))
            .any(moves)
        {
            return;
        }
        self.set_state(id, State::Leaving(Stage::Emptying));
        let Some(mount) = self.mounts.get_mut(&id) else { return };
        mount.entries.values_mut().for_each(|entry| entry.tried = false);
        self.consider_all(id);
    }

    /// Unmounts what can be unmounted of a mount that is being emptied.
    pub(super) fn consider_all(&mut self, id: MountId) {
        let Some(mount) = self.mounts.get(&id) else { return };
        for key in mount.entries.keys().cloned().collect::<Vec<_>>() {
            self.consider(&Place { mount: id, key });
        }
        self.emptied(id);
    }

    /// Unmounts an entry of a mount that is being emptied, once, as soon as all is quiet there.
    pub(super) fn consider(&mut self, at: &Place) {
        let untried = self.entry(at).is_some_and(|entry| !entry.tried && entry.occupied());
        if untried && self.quiet(at) {
            if let Some(entry) = self.entry_mut(at) {
                entry.tried = true;
            }
            self.unmount(at, self.forced());
        }
    }

    /// Something has ended in the tree of a mount that may be leaving: below this entry, if it is not the mount itself.
    pub(super) fn go_on(&mut self, top: MountId, at: Option<&Place>) {
        if self.tops.get(&top).is_some_and(|top| top.state == State::Leaving(Stage::Emptying)) {
            if let Some(at) = at {
                let root = self.root_of(at);
                self.consider(&root);
            }
            self.emptied(top);
        }
    }

    /// Goes on when all entries have been tried.
    fn emptied(&mut self, id: MountId) {
        let lazy = self.forced();
        let ready = |top: &Top| top.state == State::Leaving(Stage::Emptying) && top.in_flight == 0;
        if !self.tops.get(&id).is_some_and(ready) {
            return;
        }
        if lazy || self.mounts.get(&id).is_some_and(|mount| mount.entries.is_empty()) {
            self.set_state(id, State::Leaving(Stage::Detaching { lazy }));
            self.effects.push(Effect::Detach { mount: id, lazy });
            self.reset_tick(id);
        } else {
            self.stuck(id);
        }
    }

    /// A leaving mount stays for now: those above its path go on without it.
    pub(super) fn stuck(&mut self, id: MountId) {
        self.set_state(id, State::Leaving(Stage::Stuck));
        self.reset_tick(id);
        if let Some(path) = self.tops.get(&id).map(|top| top.wanted.path.clone()) {
            self.proceed_above(&path);
        }
    }

    /// Those that wait for a mount at this path may go on.
    pub(super) fn proceed_above(&mut self, path: &Path) {
        for above in path.ancestors().skip(1) {
            if let Some(id) = self.paths.get(above).copied() {
                self.proceed(id);
            }
        }
    }

    /// The shell has tried to unmount a mount.
    pub(super) fn detached(&mut self, id: MountId, gone: bool) {
        let Some(State::Leaving(stage)) = self.tops.get(&id).map(|top| top.state) else { return };
        if gone {
            return self.depart(id);
        }
        let Stage::Detaching { lazy } = stage else { return };
        if !self.revive(id) {
            self.stuck(id);
            if self.forced() && !lazy {
                self.leave(vec![id]);
            }
        }
    }

    /// A mount is gone for good: what waited for that goes on.
    pub(super) fn depart(&mut self, id: MountId) {
        if let Some(top) = self.remove_top(id) {
            self.release(id);
            self.proceed_above(&top.wanted.path);
        }
    }

    fn forced(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.how == Shutdown::Forced)
    }
}
