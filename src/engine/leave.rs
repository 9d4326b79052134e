//! Removes top-level mounts: first those below the path, then all entries at once, then the mount itself. A mount in use is
//! tried again later.

use std::path::Path;

use super::{Effect, Engine, EntryId, LeaveStage, MountId, Reason, Shutdown, State, Top};
use crate::text::Ordered;

impl Engine {
    /// These mounts are to go (or to be tried again).
    pub(super) fn leave(&mut self, mut ids: Vec<MountId>) {
        for id in &ids {
            let Some(top) = self.tree.top(*id) else { continue };
            match top.state() {
                State::Attaching { .. } => self.tree.set_state(*id, State::Attaching { leave: true }),
                State::Serving | State::Leaving(LeaveStage::Stuck | LeaveStage::Emptying) => {
                    self.cancel_run(*id);
                    self.tree.set_state(*id, State::Leaving(LeaveStage::Deferred));
                    self.reset_tick(*id);
                }
                State::Leaving(LeaveStage::Detaching { .. }) => {
                    self.tree.set_state(*id, State::Leaving(LeaveStage::Detaching { again: true }));
                }
                State::Leaving(LeaveStage::Deferred) | State::Abandoned => {}
            }
        }
        let path = |id: &MountId| self.tree.top(*id).map(|top| std::cmp::Reverse(Ordered(top.wanted.path.clone())));
        ids.sort_by_cached_key(path);
        for id in ids {
            self.proceed(id);
        }
    }

    /// Tries a mount again that could not go, and those below its path.
    pub(super) fn leave_again(&mut self, id: MountId) {
        let Some(top) = self.tree.top(id) else { return };
        let below = self.tree.leaving_below(&top.wanted.path).filter(|(_, below)| !below.state().moves());
        let ids = below.map(|(id, _)| id).chain([id]).collect();
        self.leave(ids);
    }

    /// Begins to empty a leaving mount, if none below its path is to go first.
    fn proceed(&mut self, id: MountId) {
        let Some(top) = self.tree.top(id).filter(|top| top.state() == State::Leaving(LeaveStage::Deferred)) else {
            return;
        };
        if self.tree.leaving_below(&top.wanted.path).any(|(_, below)| below.state().moves()) {
            return;
        }
        self.tree.set_state(id, State::Leaving(LeaveStage::Emptying));
        self.tree.try_all_again(id);
        self.consider_all(id);
    }

    /// Unmounts what can be unmounted of a mount that is being emptied.
    pub(super) fn consider_all(&mut self, id: MountId) {
        let Some(mount) = self.tree.mount(id) else { return };
        for key in mount.entries().map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.consider(&EntryId { mount: id, key });
        }
        self.emptied(id);
    }

    /// Unmounts an entry of a mount that is being emptied, once, as soon as all is quiet there.
    pub(super) fn consider(&mut self, at: &EntryId) {
        let untried = self.tree.entry(at).is_some_and(|entry| !entry.tried && entry.occupied());
        if untried && self.quiet(at) {
            self.update(at, |entry| entry.tried = true);
            self.unmount(at, self.forced());
        }
    }

    /// Continues to remove a mount after something has ended in its tree: at or below this entry, or at the mount itself.
    pub(super) fn continue_leaving(&mut self, top: MountId, at: Option<&EntryId>) {
        if self.tree.top(top).is_some_and(|top| top.state() == State::Leaving(LeaveStage::Emptying)) {
            if let Some(at) = at {
                let root = self.tree.root_of(at);
                self.consider(&root);
            }
            self.emptied(top);
        }
    }

    /// Goes on when all entries have been tried.
    fn emptied(&mut self, id: MountId) {
        let lazy = self.forced();
        let ready = |top: &Top| top.state() == State::Leaving(LeaveStage::Emptying) && top.is_at_rest();
        if !self.tree.top(id).is_some_and(ready) {
            return;
        }
        if lazy || self.tree.mount(id).is_some_and(|mount| mount.is_empty()) {
            self.tree.set_state(id, State::Leaving(LeaveStage::Detaching { again: false }));
            self.effects.push(Effect::Detach { mount: id, lazy });
            self.reset_tick(id);
        } else {
            self.stuck(id);
        }
    }

    /// A leaving mount stays for now: those above its path go on without it.
    pub(super) fn stuck(&mut self, id: MountId) {
        self.tree.set_state(id, State::Leaving(LeaveStage::Stuck));
        self.reset_tick(id);
        self.proceed_above_mount(id);
    }

    /// Gives up a mount whose job takes too long, so that the end of the daemon does not wait for it.
    pub(super) fn abandon(&mut self, id: MountId) {
        self.tree.set_state(id, State::Abandoned);
        self.proceed_above_mount(id);
    }

    /// Those that wait for a mount may go on.
    pub(super) fn proceed_above_mount(&mut self, id: MountId) {
        if let Some(path) = self.tree.top(id).map(|top| top.wanted.path.clone()) {
            self.proceed_above(&path);
        }
    }

    /// Those that wait for a mount at this path may go on.
    pub(super) fn proceed_above(&mut self, path: &Path) {
        for above in path.ancestors().skip(1) {
            if let Some(id) = self.tree.at(above) {
                self.proceed(id);
            }
        }
    }

    /// The shell has tried to unmount a mount.
    pub(super) fn detached(&mut self, id: MountId, outcome: Result<(), Reason>) {
        let again = match self.tree.top(id).map(|top| top.state()) {
            Some(State::Leaving(LeaveStage::Detaching { again })) => again,
            Some(State::Abandoned) => false,
            _ => return,
        };
        match (outcome, self.tree.top_mut(id)) {
            (Err(reason), Some(top)) => top.trouble = Some(reason),
            _ => return self.depart(id),
        }
        if self.revive(id) {
            return;
        }
        if again {
            self.tree.set_state(id, State::Leaving(LeaveStage::Deferred));
            self.reset_tick(id);
            return self.proceed(id);
        }
        self.stuck(id);
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

#[cfg(test)]
mod tests {
    use super::super::testing::{TestEngine, offsets};
    use super::super::{Done, MountState};

    #[test]
    fn a_mount_that_is_not_wanted_is_emptied_and_unmounted() {
        let mut stage = TestEngine::new(&["/home"]);
        stage.mount("/home/joe", offsets(&[(5, "/home/joe/a")]));
        stage.mount("/home/ann", Done::default());
        stage.want(&[]);
        assert_eq!(stage.said(), ["unmount /home/ann", "unmount ^/home/joe/a /home/joe"]);
        stage.missing("/home/joe", 1);
        stage.missing("#5", 2);
        stage.expire("/home/ann", 3);
        assert_eq!(stage.said(), ["fail 1 ENOENT", "fail 2 ENOENT", "fail 3 EBUSY"]);
        stage.unmounted("/home/joe", 2);
        stage.unmounted("/home/ann", 1);
        assert_eq!(stage.said(), ["detach /home"]);
        stage.detached("/home", true);
        assert_eq!((stage.engine.mounts().count(), stage.engine.deadline()), (0, None));
    }

    #[test]
    fn what_is_in_use_is_tried_again_and_again() {
        let mut stage = TestEngine::new(&["/home"]);
        stage.mount("/home/joe", Done::default());
        stage.mount("/home/ann", Done::default());
        stage.want(&[]);
        stage.unmounted("/home/joe", 0);
        stage.unmounted("/home/ann", 1);
        stage.said();
        assert_eq!(stage.engine.mounts().next().unwrap().state(), MountState::Pending);
        stage.pass(10_000);
        assert_eq!(stage.said(), ["unmount /home/joe"]);
        stage.unmounted("/home/joe", 1);
        stage.detached("/home", false);
        stage.pass(10_000);
        assert_eq!(stage.said(), ["detach /home", "detach /home"]);
    }

    #[test]
    fn running_requests_end_first() {
        let mut stage = TestEngine::new(&["/home"]);
        stage.missing("/home/joe", 1);
        stage.missing("/home/ann", 2);
        stage.found("/home/joe");
        stage.said();
        stage.want(&[]);
        stage.found("/home/ann");
        stage.performed("/home/joe", Ok(Done::default()));
        assert_eq!(stage.said(), ["fail 2 ENOENT", "ready 1", "unmount /home/joe"]);
    }

    #[test]
    fn deeper_paths_go_first() {
        let mut stage = TestEngine::new(&["/a", "/a/b", "/a/b/c"]);
        stage.mount("/a/b/c/key", Done::default());
        stage.want(&[]);
        assert_eq!(stage.said(), ["unmount /a/b/c/key"]);
        stage.unmounted("/a/b/c/key", 0);
        assert_eq!(stage.said(), ["detach /a/b"], "it will be in use, but so be it");
        stage.detached("/a/b", false);
        stage.detached("/a", false);
        stage.pass(10_000);
        stage.unmounted("/a/b/c/key", 1);
        stage.detached("/a/b/c", true);
        stage.detached("/a/b", true);
        assert_eq!(stage.said(), ["detach /a", "unmount /a/b/c/key", "detach /a/b/c", "detach /a/b", "detach /a"]);
    }
}
