//! Looking for what is unused: the timers of top-level mounts, and the rounds that they begin.
//!
//! The kernel judges idleness; we only ask it. A round asks the autofs mounts of one tree, those that are deepest
//! first, and the next level when all of one have been asked, so that a whole tree can be unmounted in one round.

use std::collections::BTreeSet;

use super::{Alarm, Effect, Engine, EntryId, Kind, LeaveStage, Mount, MountId, Phase, State, Tick};

/// A look for what is unused in one tree.
#[derive(Debug)]
pub(super) struct ExpireRun {
    /// How deep the mounts are that are being asked.
    level: usize,
    /// Those of them that have not been asked to the end.
    pub(super) outstanding: BTreeSet<MountId>,
    immediate: bool,
}

impl ExpireRun {
    /// Returns whether it has no regard to timeouts.
    pub(super) fn is_immediate(&self) -> bool {
        self.immediate
    }
}

/// Seconds between two attempts to remove a mount that has no timeout.
const RETRY_SECONDS: u64 = 60;

impl Engine {
    /// Unmounts all that is unused, now.
    pub(super) fn prune(&mut self) {
        if self.stop.is_some() {
            return;
        }
        for id in self.tree.top_ids() {
            let Some(top) = self.tree.top_mut(id).filter(|top| top.state().serves()) else { continue };
            if top.run.is_some() {
                top.prune = true;
            } else {
                self.begin_run(id, true);
            }
        }
    }

    /// Handles the alarm of a top-level mount.
    pub(super) fn tick(&mut self, id: MountId) {
        let Some(top) = self.tree.top_mut(id) else { return };
        top.alarm = None;
        match top.state() {
            State::Attaching { .. } | State::Serving => {
                if top.run.is_none() {
                    self.begin_run(id, false);
                }
            }
            State::Leaving(LeaveStage::Stuck) => self.leave_again(id),
            State::Leaving(LeaveStage::Detaching { .. }) => self.abandon(id),
            State::Leaving(_) | State::Abandoned => {}
        }
        self.reset_tick(id);
    }

    /// Sets the alarm of a top-level mount as its state demands. All mounts with the same timeout wake us up together.
    pub(super) fn reset_tick(&mut self, id: MountId) {
        let occupied = self.tree.mount(id).is_some_and(Mount::is_occupied);
        let Some(top) = self.tree.top_mut(id) else { return };
        let ending = self.stop.is_some();
        let waits = ending || self.paused;
        if !occupied {
            top.shortest = None;
        }
        let timeout = self.tick_timeout(id);
        let Some(top) = self.tree.top_mut(id) else { return };
        let period = match top.state() {
            State::Attaching { .. } | State::Serving if occupied && timeout > 0 && !waits => Some(timeout),
            State::Leaving(LeaveStage::Stuck) if !waits => Some(if timeout > 0 { timeout } else { RETRY_SECONDS }),
            _ => None,
        };
        let to = match (top.state(), period) {
            (State::Leaving(LeaveStage::Detaching { .. }), _) if ending => Some(self.now.after(self.limits.unmount)),
            (_, Some(timeout)) => top.alarm.or_else(|| {
                let period = self.limits.period(timeout);
                Some(Tick((self.now.0 / period).saturating_add(1).saturating_mul(period)))
            }),
            (_, None) => None,
        };
        self.timers.reset(&mut top.alarm, to, || Alarm::Tick(id));
    }

    /// Sets the alarm anew after the timeout has changed.
    pub(super) fn restart_tick(&mut self, id: MountId) {
        let Some(top) = self.tree.top_mut(id) else { return };
        self.timers.reset(&mut top.alarm, None, || Alarm::Tick(id));
        self.reset_tick(id);
    }

    fn begin_run(&mut self, id: MountId, immediate: bool) {
        if let Some(top) = self.tree.top_mut(id) {
            top.run = Some(Box::new(ExpireRun { level: usize::MAX, outstanding: BTreeSet::new(), immediate }));
            self.next_level(id);
        }
    }

    /// Ends the round of a mount that is not served any more.
    pub(super) fn cancel_run(&mut self, id: MountId) {
        if let Some(top) = self.tree.top_mut(id) {
            top.run = None;
            top.prune = false;
        }
    }

    /// Asks the deepest mounts that have not had their turn in this round.
    fn next_level(&mut self, id: MountId) {
        let Some(top) = self.tree.top(id) else { return };
        let Some((level, immediate)) = top.run.as_ref().map(|round| (round.level, round.immediate)) else { return };
        let mut turn = (0, BTreeSet::new());
        for (id, mount) in self.tree.members(id) {
            if mount.is_occupied() && !mount.is_expiring() && mount.depth() < level && mount.depth() >= turn.0 {
                if mount.depth() > turn.0 {
                    turn = (mount.depth(), BTreeSet::new());
                }
                turn.1.insert(id);
            }
        }
        let (level, outstanding) = turn;
        if outstanding.is_empty() {
            return self.end_run(id, immediate);
        }
        self.drop_empty_submounts(id, level);
        for mount in &outstanding {
            self.tree.set_expiring(*mount, true);
            self.effects.push(Effect::ExpireRun { mount: *mount, immediate });
        }
        if let Some(top) = self.tree.top_mut(id) {
            top.run = Some(Box::new(ExpireRun { level, outstanding, immediate }));
        }
    }

    /// A mount has been asked to the end.
    pub(super) fn expire_ran(&mut self, id: MountId) {
        let Some(mount) = self.tree.mount(id).filter(|mount| mount.is_expiring()) else { return };
        let (top, owner) = (mount.top, mount.owner().cloned());
        self.tree.set_expiring(id, false);
        if let Some(round) = self.tree.top_mut(top).and_then(|top| top.run.as_mut()) {
            if round.outstanding.remove(&id) {
                self.level_done(top);
            }
        }
        self.continue_leaving(top, owner.as_ref());
    }

    /// Goes on with the round when all mounts of the level have been asked (or are no more).
    pub(super) fn level_done(&mut self, id: MountId) {
        let round = self.tree.top(id).and_then(|top| top.run.as_ref());
        if round.is_some_and(|round| round.outstanding.is_empty()) {
            self.next_level(id);
        }
    }

    fn end_run(&mut self, id: MountId, immediate: bool) {
        self.check_old(id, immediate);
        let Some(top) = self.tree.top_mut(id) else { return };
        top.run = None;
        if std::mem::take(&mut top.prune) {
            self.begin_run(id, true);
        }
    }

    /// Unmounts entries with empty submounts, because the kernel never expires an indirect mount that is mounted on an entry of
    /// another. Only those below the level that is being expired.
    fn drop_empty_submounts(&mut self, id: MountId, level: usize) {
        let mut owners = BTreeSet::new();
        for (_, mount) in self.tree.members(id) {
            if mount.kind == Kind::Indirect && mount.depth() > level {
                owners.extend(mount.owner().cloned());
            }
        }
        for at in owners {
            let Some(entry) = self.tree.entry(&at) else { continue };
            let vacant = |child: &MountId| self.tree.mount(*child).is_none_or(|mount| !mount.is_occupied());
            let unused = matches!(entry.phase, Phase::Mounted) && entry.children.iter().all(vacant);
            if unused && self.quiet(&at) && self.tree.held(&at).is_none() {
                self.unmount(&at, false);
            }
        }
    }

    /// Checks entries that were mounted long ago, because the kernel does not report manual unmounts. Otherwise their autofs
    /// mount would be expired forever.
    fn check_old(&mut self, id: MountId, immediate: bool) {
        let Some(top) = self.tree.top(id) else { return };
        let age = if immediate { 0 } else { top.wanted.timeout.saturating_mul(1000) };
        let mut old = Vec::new();
        for (id, mount) in self.tree.members(id) {
            for (key, entry) in mount.entries() {
                if matches!(entry.phase, Phase::Mounted) && !entry.busy() && self.now.since(entry.seen) >= age {
                    old.push(EntryId { mount: id, key: key.clone() });
                }
            }
        }
        for at in old {
            if self.tree.held(&at).is_none() {
                self.check(&at);
                self.settle(&at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestEngine, offsets, submount};
    use super::super::{Done, Event};

    #[test]
    fn the_timer_runs_only_while_something_is_mounted() {
        let mut stage = TestEngine::new(&["/home"]);
        assert_eq!(stage.engine.deadline(), None);
        stage.mount("/home/joe", Done::default());
        assert_eq!(stage.engine.deadline(), Some(super::Tick(10_000)));
        stage.pass(10_000);
        assert_eq!(stage.said(), ["expire /home"]);
        stage.expire("/home/joe", 1);
        stage.unmounted("/home/joe", 1);
        stage.expire_ran("/home");
        assert_eq!(stage.engine.deadline(), None);
    }

    #[test]
    fn without_a_timeout_nothing_is_looked_for() {
        let mut stage = TestEngine::new(&["/home"]);
        let mut wanted = super::super::testing::wanted("/home", super::Kind::Indirect);
        wanted.timeout = 0;
        stage.event(Event::Configure(vec![wanted]));
        stage.mount("/home/joe", Done::default());
        assert_eq!(stage.engine.deadline(), None);
    }

    #[test]
    fn a_round_goes_from_the_leaves_to_the_root() {
        let mut stage = TestEngine::new(&["/net"]);
        stage.mount("/net/srv", offsets(&[(5, "/net/srv/a"), (6, "/net/srv/b"), (7, "/net/srv/c")]));
        stage.mount("#5", Done::default());
        stage.mount("#6", Done::default());
        stage.pass(10_000);
        assert_eq!(stage.said(), ["expire /net/srv/a", "expire /net/srv/b"]);
        stage.pass(10_000);
        stage.expire_ran("#5");
        stage.expire_ran("#5");
        assert_eq!(stage.said(), [""; 0], "one after the other, and never twice at once");
        stage.expire_ran("#6");
        assert_eq!(stage.said(), ["expire /net"]);
        stage.expire_ran("/net");
        assert_eq!(stage.said(), [""; 0]);
    }

    #[test]
    fn a_trigger_that_vanishes_does_not_hold_up_the_round() {
        let mut stage = TestEngine::new(&["/net"]);
        stage.mount("/net/srv", offsets(&[(5, "/net/srv/a")]));
        stage.mount("#5", Done::default());
        stage.pass(10_000);
        let mount = super::MountId(5);
        stage.event(Event::Vanished { mount });
        stage.event(Event::ExpireRan { mount });
        assert_eq!(stage.said(), ["expire /net/srv/a", "expire /net"]);
    }

    #[test]
    fn a_prune_looks_everywhere_at_once_whatever_the_age() {
        let mut stage = TestEngine::new(&["/home", "/net", "/idle"]);
        stage.mount("/home/joe", Done::default());
        stage.mount("/net/srv", Done::default());
        stage.event(Event::Prune);
        assert_eq!(stage.said(), ["expire /home now", "expire /net now"]);
        stage.event(Event::Prune);
        stage.expire_ran("/home");
        assert_eq!(stage.said(), ["check /home/joe", "expire /home now"], "again, as more may be unused now");
    }

    #[test]
    fn an_empty_submount_goes_with_its_entry() {
        let mut stage = TestEngine::new(&["/home"]);
        stage.mount("/home/sub", submount(6, "/home/sub"));
        stage.mount("#6/joe", Done::default());
        stage.pass(10_000);
        assert_eq!(stage.said(), ["expire /home/sub"]);
        stage.expire("#6/joe", 1);
        stage.unmounted("/home/sub/joe", 1);
        stage.expire_ran("#6");
        assert_eq!(stage.said()[2..], ["unmount ^/home/sub /home/sub", "expire /home"]);
        stage.missing("#6/ann", 2);
        stage.unmounted("/home/sub", 0);
        assert_eq!(stage.said(), ["resolve /home/sub/ann"], "a lookup came in between");
    }

    #[test]
    fn what_was_unmounted_by_hand_is_noticed_in_the_end() {
        let mut stage = TestEngine::new(&["/home"]);
        stage.mount("/home/joe", Done::default());
        for _ in 0..4 {
            stage.pass(10_000);
            stage.expire_ran("/home");
        }
        assert_eq!(stage.said().last().unwrap(), "check /home/joe");
        stage.checked("/home/joe", false);
        assert_eq!((stage.entries(), stage.engine.deadline()), (0, None));
    }
}
