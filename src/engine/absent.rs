//! Top-level mounts that are wanted and not there: unmounted from outside, or kept away by an obstacle. They are attached
//! again, sooner or later, for as long as they are wanted.

use std::path::Path;
use std::sync::Arc;

use super::{Alarm, Engine, MountId, Reason, Tick, Wanted};

/// A top-level mount that is wanted and not there.
#[derive(Debug)]
pub(super) struct Absent {
    pub(super) wanted: Wanted,
    /// Why it could not be attached. `None`: it was unmounted from outside, and has not been tried since.
    pub(super) reason: Option<Reason>,
    /// How often in a row it could not be attached.
    failures: u32,
    alarm: Option<Tick>,
}

/// A top-level mount that is wanted and not there, seen from outside.
#[derive(Debug, Clone, Copy)]
pub struct AbsentView<'a> {
    /// The mount.
    pub wanted: &'a Wanted,
    /// Why it could not be attached. `None`: it was unmounted from outside, and has not been tried since.
    pub reason: Option<&'a Reason>,
    /// When it is tried again.
    pub again: Option<Tick>,
}

impl Engine {
    /// Returns the top-level mounts that are wanted and not there.
    pub fn absent(&self) -> impl Iterator<Item = AbsentView<'_>> {
        self.absent.values().map(|Absent { wanted, reason, alarm, .. }| AbsentView {
            wanted,
            reason: reason.as_ref(),
            again: *alarm,
        })
    }

    /// Returns how many top-level mounts are wanted and not there.
    pub fn absent_count(&self) -> usize {
        self.absent.len()
    }

    /// Handles an autofs mount that was unmounted from outside, or that nobody can reach any more.
    pub(super) fn vanish(&mut self, id: MountId) {
        let Some(top) = self.tree.top(id) else {
            let owner = self.tree.mount(id).and_then(|mount| mount.owner().cloned());
            self.drop_below(id);
            if let Some(owner) = owner {
                self.settle(&owner);
            }
            return;
        };
        if top.state().serves() {
            let wanted = top.wanted.clone();
            self.miss(wanted, None, 0);
        }
        self.depart(id);
    }

    /// Notes that a wanted mount is not there, and when it is attached again: after a second, and after twice as long with
    /// each failure.
    pub(super) fn miss(&mut self, wanted: Wanted, reason: Option<Reason>, failures: u32) {
        if self.stop.is_some() {
            return;
        }
        let path = wanted.path.clone();
        self.forget_absent_at(&path);
        let pause = self.limits.reattach.saturating_mul(1_u64 << failures.min(20)).min(self.limits.reattach_most);
        let at = self.now.after(pause);
        let mut absent = Absent { wanted, reason, failures, alarm: None };
        self.timers.reset(&mut absent.alarm, Some(at), || Alarm::Reattach(path.clone()));
        self.absent.insert(path, absent);
    }

    /// The time has come to attach a mount again that is not there.
    pub(super) fn reattach(&mut self, path: &Path) {
        if let Some(Absent { wanted, failures, .. }) = self.absent.remove(path) {
            self.attach_again(wanted, failures);
        }
    }

    /// Attaches now those that could not be attached: what was in the way may be gone.
    pub(super) fn retry_absent(&mut self) {
        let failed = |(path, absent): (&Arc<Path>, &Absent)| absent.reason.is_some().then(|| Arc::clone(path));
        let paths: Vec<_> = self.absent.iter().filter_map(failed).collect();
        for path in paths {
            if let Some(Absent { wanted, failures, .. }) = self.take_absent(&path) {
                self.attach_again(wanted, failures);
            }
        }
    }

    /// Forgets what is not there.
    pub(super) fn forget_absent(&mut self) {
        for path in self.absent.keys().cloned().collect::<Vec<_>>() {
            self.forget_absent_at(&path);
        }
    }

    /// Forgets that a mount at this path is not there.
    pub(super) fn forget_absent_at(&mut self, path: &Path) {
        let _ = self.take_absent(path);
    }

    fn take_absent(&mut self, path: &Path) -> Option<Absent> {
        let mut absent = self.absent.remove(path)?;
        let path = Arc::clone(&absent.wanted.path);
        self.timers.reset(&mut absent.alarm, None, || Alarm::Reattach(path));
        Some(absent)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::TestEngine;
    use super::super::{Done, Event};

    #[test]
    fn a_vanished_mount_comes_back_but_not_at_once() {
        let mut stage = TestEngine::new(&["/a"]);
        stage.mount("/a/key", Done::default());
        stage.missing("/a/new", 1);
        let mount = stage.id("/a");
        stage.event(Event::Vanished { mount });
        assert_eq!(stage.said(), ["resolve /a/new", "fail 1 ENOENT"]);
        stage.pass(1_000);
        assert_eq!(stage.said(), ["attach /a"]);
        stage.attached("/a", true);
        let mount = stage.id("/a");
        stage.event(Event::Vanished { mount });
        stage.want(&[]);
        assert_eq!((stage.said(), stage.engine.deadline()), (vec![], None));
    }

    #[test]
    fn what_cannot_be_attached_is_tried_again_later_and_later() {
        let mut stage = TestEngine::new(&[]);
        stage.want(&["/a"]);
        for pause in [2_000, 4_000, 8_000] {
            assert_eq!(stage.said(), ["attach /a"]);
            stage.attached("/a", false);
            assert_eq!(stage.engine.absent().map(|absent| absent.reason.is_some()).collect::<Vec<_>>(), [true]);
            stage.pass(pause - 1);
            assert_eq!(stage.said(), [""; 0]);
            stage.pass(1);
        }
        assert_eq!(stage.said(), ["attach /a"]);
        stage.attached("/a", true);
        assert_eq!((stage.engine.absent().count(), stage.engine.deadline()), (0, None));
    }

    #[test]
    fn what_cannot_be_attached_is_tried_when_something_has_gone() {
        let mut stage = TestEngine::new(&["/b"]);
        stage.want(&["/a", "/b"]);
        stage.attached("/a", false);
        let mount = stage.id("/b");
        stage.event(Event::Vanished { mount });
        stage.event(Event::Retry);
        assert_eq!(stage.said(), ["attach /a", "attach /a"], "/b waits its second");
        stage.attached("/a", false);
        stage.want(&[]);
        assert_eq!((stage.said(), stage.engine.deadline()), (vec![], None), "not wanted any more");
    }
}
