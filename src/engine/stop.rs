//! The end of the daemon.

use super::{Alarm, Effect, Engine, Errno, MountId, Place, Shutdown, Stage, State, Tick};

/// The daemon is ending.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) how: Shutdown,
    /// `Exit` has been said.
    exited: bool,
    alarm: Option<Tick>,
}

impl Engine {
    /// Ends the daemon, or ends it harder than was said before.
    pub(super) fn shut_down(&mut self, how: Shutdown) {
        match &mut self.stop {
            Some(stop) if how <= stop.how => return,
            Some(stop) => stop.how = how,
            None => {
                let mut alarm = None;
                self.timers.reset(&mut alarm, Some(self.now.after(self.limits.grace)), || Alarm::Grace);
                self.stop = Some(Stop { how, exited: false, alarm });
                self.behind.clear();
                self.forget_vanished();
                for id in self.top_ids() {
                    self.cancel_round(id);
                    self.reset_tick(id);
                }
            }
        }
        if how != Shutdown::Detach {
            self.leave(self.top_ids());
        }
    }

    fn top_ids(&self) -> Vec<MountId> {
        self.tops.keys().copied().collect()
    }

    /// Running requests are waited for no longer.
    pub(super) fn grace_is_over(&mut self) {
        let Some(stop) = &mut self.stop else { return };
        stop.alarm = None;
        let how = stop.how;
        for id in self.mounts.keys().copied().collect::<Vec<_>>() {
            self.set_expiring(id, false);
            let Some(mount) = self.mounts.get(&id) else { continue };
            for key in mount.entries.keys().cloned().collect::<Vec<_>>() {
                self.abandon(&Place { mount: id, key }, how);
            }
        }
        for id in self.top_ids() {
            match self.tops.get(&id).map(|top| top.state) {
                Some(State::Attaching { .. }) if how != Shutdown::Detach => self.stuck(id),
                Some(State::Leaving(Stage::Emptying)) => self.consider_all(id),
                _ => {}
            }
        }
    }

    /// Answers all tokens of an entry. Its job is disowned, but for the unmounts that are the end's own work: those
    /// have their own time.
    fn abandon(&mut self, at: &Place, how: Shutdown) {
        let Some(entry) = self.entry_mut(at) else { return };
        if how == Shutdown::Detach || !entry.phase.holds_tree() {
            return self.disown(at, Errno::ENOENT);
        }
        if let Some(token) = entry.expire.take() {
            self.reply(at.mount, token, Some(Errno::EBUSY));
        }
        self.answer(at, Some(Errno::ENOENT));
        self.settle(at);
    }

    /// Says `Exit` when there is nothing left to wait for.
    pub(super) fn exit_if_done(&mut self) {
        let left = match &mut self.stop {
            Some(Stop { exited: false, how: Shutdown::Detach, .. }) => self.in_flight,
            Some(Stop { exited: false, .. }) => self.moving,
            _ => return,
        };
        if left > 0 {
            return;
        }
        let left = self.top_ids();
        if let Some(stop) = &mut self.stop {
            stop.exited = true;
            stop.alarm = None;
            self.effects.push(Effect::Exit { how: stop.how, left });
        }
        self.timers.clear();
    }

    /// Whether `Exit` has been said.
    pub(super) fn exited(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.exited)
    }
}
