//! The end of the daemon.

use super::{Alarm, Effect, Engine, EntryId, Errno, LeaveStage, Phase, Shutdown, State, Tick, Top};

/// The daemon is ending.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) how: Shutdown,
    /// `Exit` has been said.
    exited: bool,
    alarm: Option<Tick>,
}

impl Engine {
    /// Begins the shutdown, or makes a running one more forceful.
    pub(super) fn shut_down(&mut self, how: Shutdown) {
        match &mut self.stop {
            Some(stop) if how <= stop.how => return,
            Some(stop) => stop.how = how,
            None => {
                let mut alarm = None;
                self.timers.reset(&mut alarm, Some(self.now.after(self.limits.grace)), || Alarm::Grace);
                self.stop = Some(Stop { how, exited: false, alarm });
                self.behind.clear();
                self.forget_absent();
                for id in self.tree.top_ids() {
                    self.cancel_run(id);
                    self.reset_tick(id);
                }
                self.wait_for_overdue();
            }
        }
        if how != Shutdown::Detach {
            self.leave(self.tree.top_ids());
        }
    }

    /// Gives disowned jobs a last chance to end, so that their mounts do not remain.
    fn wait_for_overdue(&mut self) {
        let due = self.now.after(self.limits.grace);
        for at in self.tree.entries() {
            if self.tree.entry(&at).is_some_and(|entry| entry.overdue) {
                self.update(&at, |entry| {
                    entry.overdue = false;
                    entry.due = Some(due);
                });
                self.settle(&at);
            }
        }
    }

    /// Running requests are waited for no longer.
    pub(super) fn grace_is_over(&mut self) {
        let Some(stop) = &mut self.stop else { return };
        stop.alarm = None;
        let how = stop.how;
        self.tree.end_expire_runs();
        for at in self.tree.entries() {
            self.abandon_entry(&at, how);
        }
        for id in self.tree.top_ids() {
            match self.tree.top(id).map(Top::state) {
                Some(State::Attaching { .. }) if how != Shutdown::Detach => self.abandon(id),
                Some(State::Leaving(LeaveStage::Emptying)) => self.consider_all(id),
                _ => {}
            }
        }
    }

    /// Answers all requests of an entry and disowns its job, except unmounts that the shutdown itself has started: those have their
    /// own deadline. The result of a lookup is not waited for: it mounts nothing.
    fn abandon_entry(&mut self, at: &EntryId, how: Shutdown) {
        if let Some(Phase::Resolving(job)) = self.tree.entry(at).map(|entry| &entry.phase) {
            let job = *job;
            self.take_phase(job);
        }
        let holds_tree = self.tree.entry(at).is_some_and(|entry| entry.phase.holds_tree());
        if how == Shutdown::Detach || !holds_tree {
            return self.disown(at, Errno::ENOENT);
        }
        if let Some(token) = self.update(at, |entry| entry.expire.take()).flatten() {
            self.reply(at.mount, token, Some(Errno::EBUSY));
        }
        self.answer(at, Some(Errno::ENOENT));
        self.settle(at);
    }

    /// Says `Exit` when there is nothing left to wait for.
    pub(super) fn exit_if_done(&mut self) {
        let done = match &self.stop {
            Some(Stop { exited: false, how: Shutdown::Detach, .. }) => self.tree.is_at_rest(),
            Some(Stop { exited: false, .. }) => self.tree.is_parted(),
            _ => return,
        };
        if !done {
            return;
        }
        let left = self.tree.top_ids();
        if let Some(stop) = &mut self.stop {
            stop.exited = true;
            stop.alarm = None;
            self.effects.push(Effect::Exit { how: stop.how, left });
        }
        self.timers.clear();
    }

    /// Returns whether `Exit` has been said.
    pub(super) fn exited(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.exited)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestEngine, offsets};
    use super::super::{Done, Event, Shutdown};

    fn stop(stage: &mut TestEngine, how: Shutdown) {
        stage.said();
        stage.event(Event::Stop(how));
    }

    #[test]
    fn a_daemon_without_mounts_ends_at_once() {
        let mut stage = TestEngine::new(&[]);
        stop(&mut stage, Shutdown::Clean);
        assert_eq!(stage.said(), ["exit"]);
        assert_eq!(stage.engine.deadline(), None);
    }

    #[test]
    fn a_clean_end_unmounts_all_at_once_and_leaves_what_is_in_use() {
        let mut stage = TestEngine::new(&["/home", "/net"]);
        stage.mount("/home/joe", Done::default());
        stage.mount("/home/ann", Done::default());
        stop(&mut stage, Shutdown::Clean);
        assert_eq!(stage.said(), ["detach /net", "unmount /home/ann", "unmount /home/joe"]);
        stage.missing("/home/new", 1);
        stage.expire("/home/joe", 2);
        assert_eq!(stage.said(), ["fail 1 ENOENT", "fail 2 EBUSY"]);
        stage.unmounted("/home/ann", 1);
        stage.unmounted("/home/joe", 0);
        stage.detached("/net", true);
        assert_eq!(stage.said(), ["exit /home"]);
        stage.missing("/home/new", 3);
        stage.expire("/home/joe", 4);
        stage.want(&["/a"]);
        stop(&mut stage, Shutdown::Forced);
        stage.event(Event::Timer);
        assert_eq!(stage.said(), [""; 0], "that was the last word");
    }

    #[test]
    fn tokens_are_answered_even_after_the_end() {
        let mut stage = TestEngine::new(&["/home"]);
        stop(&mut stage, Shutdown::Detach);
        stage.missing("/home/new", 3);
        stage.expire("/home/joe", 4);
        assert_eq!(stage.said(), ["exit /home", "fail 3 ENOENT", "fail 4 EBUSY"]);
    }

    #[test]
    fn half_a_tree_is_put_together_at_the_end_too() {
        let mut stage = TestEngine::new(&["/net"]);
        stage.mount("/net/srv", offsets(&[(5, "/net/srv/a")]));
        stop(&mut stage, Shutdown::Clean);
        stage.unmounted("/net/srv", 1);
        assert_eq!(stage.said(), ["unmount ^/net/srv/a /net/srv", "perform /net/srv +/net/srv/a"]);
        stage.performed("/net/srv", Ok(offsets(&[(6, "/net/srv/a")])));
        assert_eq!(stage.said(), ["exit /net"]);
    }

    #[test]
    fn requests_have_a_while_to_end() {
        let mut stage = TestEngine::new(&["/home"]);
        stage.missing("/home/joe", 1);
        stage.missing("/home/ann", 2);
        stage.found("/home/joe");
        stage.found("/home/ann");
        stop(&mut stage, Shutdown::Clean);
        stage.performed("/home/joe", Ok(Done::default()));
        stage.unmounted("/home/joe", 1);
        assert_eq!(stage.said(), ["ready 1", "unmount /home/joe"]);
        stage.pass(5_000);
        assert_eq!(stage.said(), ["fail 2 ENOENT", "exit /home"]);
    }

    #[test]
    fn a_lookup_that_hangs_leaves_no_mount() {
        let mut stage = TestEngine::new(&["/home"]);
        stage.missing("/home/joe", 1);
        assert_eq!(stage.said(), ["resolve /home/joe"]);
        stop(&mut stage, Shutdown::Clean);
        stage.pass(5_000);
        assert_eq!(stage.said(), ["fail 1 ENOENT", "detach /home"]);
        stage.found("/home/joe");
        assert_eq!(stage.said(), [""; 0], "its result comes too late");
        stage.detached("/home", true);
        assert_eq!(stage.said(), ["exit"]);
    }

    #[test]
    fn a_look_for_what_is_unused_that_hangs_does_not_hold_up_the_end() {
        let mut stage = TestEngine::new(&["/home"]);
        stage.mount("/home/joe", Done::default());
        stage.pass(10_000);
        stop(&mut stage, Shutdown::Clean);
        stage.unmounted("/home/joe", 1);
        assert_eq!(stage.said(), ["unmount /home/joe"], "its root is open, so it cannot be unmounted yet");
        stage.pass(5_000);
        assert_eq!(stage.said(), ["detach /home"]);
        stage.pass(20_000);
        assert_eq!(stage.said(), ["exit /home"]);
    }

    #[test]
    fn a_forced_end_is_lazy() {
        let mut stage = TestEngine::new(&["/home"]);
        stage.mount("/home/joe", Done::default());
        stage.missing("/home/ann", 1);
        stop(&mut stage, Shutdown::Forced);
        stage.unmounted("/home/joe", 1);
        stage.pass(5_000);
        assert_eq!(stage.said(), ["unmount /home/joe lazily", "fail 1 ENOENT", "detach /home lazily"]);
        stage.detached("/home", true);
        assert_eq!(stage.said(), ["exit"]);
    }

    #[test]
    fn a_harder_word_counts() {
        let mut stage = TestEngine::new(&["/home", "/net"]);
        stage.mount("/home/joe", Done::default());
        stage.mount("/home/ann", Done::default());
        stop(&mut stage, Shutdown::Clean);
        stage.unmounted("/home/joe", 0);
        stop(&mut stage, Shutdown::Detach);
        assert_eq!(stage.said(), [""; 0]);
        stop(&mut stage, Shutdown::Forced);
        stage.unmounted("/home/ann", 0);
        stage.detached("/net", false);
        let said = ["unmount /home/joe lazily", "unmount /home/ann lazily", "detach /net lazily"];
        assert_eq!(stage.said(), said);
    }

    #[test]
    fn to_detach_waits_for_what_runs_and_touches_nothing() {
        let mut stage = TestEngine::new(&["/home", "/net"]);
        stage.mount("/home/joe", Done::default());
        stage.missing("/home/ann", 1);
        stage.missing("/home/bob", 2);
        stop(&mut stage, Shutdown::Detach);
        stage.found("/home/ann");
        stage.performed("/home/ann", Ok(Done::default()));
        assert_eq!(stage.said(), ["perform /home/ann", "ready 1"]);
        stage.pass(5_000);
        assert_eq!(stage.said(), ["fail 2 ENOENT", "exit /home /net"]);
    }

    #[test]
    fn a_mount_that_is_being_attached_goes_when_it_stands() {
        let mut stage = TestEngine::new(&[]);
        stage.want(&["/a", "/b"]);
        stop(&mut stage, Shutdown::Clean);
        stage.attached("/a", true);
        stage.detached("/a", true);
        stage.pass(5_000);
        assert_eq!(stage.said(), ["detach /a", "exit /b"]);
    }
}
