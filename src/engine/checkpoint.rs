//! Starts no work by itself before a checkpoint, and forgets the tokens of the kernel after a restore.

use super::{Askers, Engine, Entry, EntryId, LeaveStage, State};

impl Engine {
    /// Returns whether no job and no expire run is in progress and no lookup waits.
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty() && !self.tree.mounts().any(|(_, mount)| mount.is_busy())
    }

    /// Begins no look for what is unused any more, or does so again.
    pub(super) fn pause(&mut self, paused: bool) {
        self.paused = paused;
        for id in self.tree.top_ids() {
            if paused {
                self.cancel_run(id);
            }
            self.restart_tick(id);
        }
    }

    /// Unmounts an entry if all is quiet there.
    pub(super) fn unmount_quiet(&mut self, at: &EntryId) {
        let serves = self.tree.top_of(at.mount).is_some_and(|top| top.state().serves());
        let occupied = self.tree.entry(at).is_some_and(Entry::occupied);
        if serves && occupied && self.stop.is_none() && self.tree.held(at).is_none() && self.quiet(at) {
            self.unmount(at, false);
        }
    }

    /// Forgets all waiting lookups. The jobs begun for them continue.
    pub(super) fn forget_tokens(&mut self) {
        for at in self.tree.entries() {
            self.update(&at, |entry| {
                entry.waiting.clear();
                entry.expire = None;
                entry.askers = Askers::default();
            });
            self.settle(&at);
        }
        for id in self.tree.top_ids() {
            if self.tree.top(id).is_some_and(|top| top.state() == State::Leaving(LeaveStage::Emptying)) {
                self.consider_all(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::TestEngine;
    use super::super::{Done, EntryId, Event};

    #[test]
    fn tokens_of_another_kernel_are_never_answered() {
        let mut stage = TestEngine::new(&["/home"]);
        stage.missing("/home/joe", 1);
        stage.mount("/home/ann", Done::default());
        stage.expire("/home/ann", 2);
        stage.missing("/home/ann", 3);
        stage.said();
        stage.event(Event::Restored);
        stage.event(Event::Pause(true));
        stage.pass(100_000);
        stage.found("/home/joe");
        stage.unmounted("/home/ann", 1);
        assert_eq!(stage.said(), [""; 0]);
        assert!(stage.engine.is_idle());
        stage.missing("/home/joe", 1);
        assert_eq!(stage.said(), ["resolve /home/joe"]);
    }

    #[test]
    fn a_mount_that_was_begun_counts_after_a_restore() {
        let mut stage = TestEngine::new(&["/home"]);
        stage.missing("/home/joe", 1);
        stage.found("/home/joe");
        stage.said();
        stage.event(Event::Restored);
        assert!(!stage.engine.is_idle());
        stage.performed("/home/joe", Ok(Done::default()));
        assert!(stage.engine.is_idle());
        stage.missing("/home/joe", 1);
        assert_eq!(stage.said(), ["check /home/joe"]);
    }

    #[test]
    fn a_paused_engine_looks_for_nothing() {
        let mut stage = TestEngine::new(&["/home"]);
        stage.mount("/home/joe", Done::default());
        stage.event(Event::Pause(true));
        assert_eq!(stage.engine.deadline(), None);
        stage.missing("/home/ann", 1);
        stage.found("/home/ann");
        stage.performed("/home/ann", Ok(Done::default()));
        assert_eq!((stage.said().len(), stage.engine.deadline()), (3, None), "lookups are served");
        stage.event(Event::Pause(false));
        stage.pass(20_000);
        assert_eq!(stage.said(), ["expire /home"]);
    }

    #[test]
    fn what_is_quiet_is_unmounted_on_demand() {
        let mut stage = TestEngine::new(&["/home"]);
        let mount = stage.id("/home");
        let unmount = |key: &[u8]| Event::Unmount { at: EntryId { mount, key: key.into() } };
        stage.mount("/home/joe", Done::default());
        stage.missing("/home/ann", 1);
        stage.said();
        for key in [&b"ann"[..], b"joe", b"joe", b"none"] {
            stage.event(unmount(key));
        }
        assert_eq!(stage.said(), ["unmount /home/joe"]);
    }
}
