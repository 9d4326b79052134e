//! Timeouts of single entries.
//!
//! The kernel judges by them since protocol version 5.6; here they only decide how often it is asked. For older kernels an entry with a
//! longer timeout than its mount, or with none, is kept here: each time the kernel takes it for unused, that is known to be so since the
//! mount's timeout.

use std::sync::Arc;

use super::{Engine, EntryId, MountId, Tick};
use crate::plan::Plan;

/// Use of an entry whose timeout the kernel does not keep.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unused {
    /// It has not been used since then.
    since: Tick,
    /// When the kernel last took it for unused.
    seen: Tick,
}

impl Engine {
    /// Notes that an entry is mounted. If it has a timeout shorter than all others, its tree is looked at more often.
    pub(super) fn note_timeout(&mut self, at: &EntryId, plan: Option<&Arc<Plan>>) {
        let Some(own) = plan.and_then(|plan| plan.timeout).filter(|own| *own > 0) else { return };
        let Some(id) = self.tree.mount(at.mount).map(|mount| mount.top) else { return };
        let Some(top) = self.tree.top_mut(id) else { return };
        if top.shortest.is_none_or(|shortest| own < shortest) {
            top.shortest = Some(own);
            self.restart_tick(id);
        }
    }

    /// Returns the timeout by which the looks for what is unused are timed; 0: nothing is looked for.
    pub(super) fn tick_timeout(&self, id: MountId) -> u64 {
        let Some(top) = self.tree.top(id) else { return 0 };
        match (top.wanted.timeout, top.shortest) {
            (0, Some(shortest)) => shortest,
            (timeout, Some(shortest)) => timeout.min(shortest),
            (timeout, None) => timeout,
        }
    }

    /// Returns whether an entry stays mounted that the kernel takes for unused, as its own timeout has not passed and the kernel
    /// does not know of it.
    pub(super) fn keeps(&mut self, at: &EntryId) -> bool {
        let Some(entry) = self.tree.entry(at).filter(|entry| entry.untimed) else { return false };
        let Some(own) = entry.plan.as_ref().and_then(|plan| plan.timeout) else { return false };
        let unused = entry.unused;
        let top = self.tree.top_of(at.mount);
        let is_immediate = top.and_then(|top| top.run.as_ref()).is_none_or(|run| run.is_immediate());
        let timeout = top.map_or(0, |top| top.wanted.timeout).saturating_mul(1000);
        if is_immediate || own > 0 && own.saturating_mul(1000) <= timeout {
            return false;
        }
        let now = self.now;
        let before = Tick(now.0.saturating_sub(timeout));
        // A refused entry counts as used for the kernel: if it was not used since, it comes again after the timeout.
        let late = timeout.saturating_add(self.limits.period(timeout / 1000).saturating_mul(2));
        let since = unused.filter(|unused| now.since(unused.seen) <= late).map_or(before, |unused| unused.since);
        self.update(at, |entry| entry.unused = Some(Unused { since, seen: now }));
        own == 0 || now.since(since) < own.saturating_mul(1000)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::TestEngine;
    use super::super::{Done, Tick};
    use crate::plan::Plan;

    /// A stage with `/home/joe` mounted, whose timeout is `own`; that of `/home` is 40 seconds.
    fn stage(own: u64, untimed: bool) -> TestEngine {
        let mut stage = TestEngine::new(&["/home"]);
        let plan = super::super::testing::plan("/home/joe", &[]);
        let plan = Arc::new(Plan { timeout: Some(own), ..Arc::unwrap_or_clone(plan) });
        stage.missing("/home/joe", 99);
        stage.resolved("/home/joe", super::super::Resolution::Found(plan));
        stage.performed("/home/joe", Ok(Done { untimed, ..Done::default() }));
        stage.said();
        stage
    }

    #[test]
    fn a_short_timeout_is_looked_at_in_time() {
        let mut stage = stage(4, false);
        assert_eq!(stage.engine.deadline(), Some(Tick(1000)));
        stage.pass(1000);
        assert_eq!(stage.said(), ["expire /home"]);
        stage.expire("/home/joe", 1);
        stage.unmounted("/home/joe", 1);
        stage.expire_ran("/home");
        assert_eq!(stage.said(), ["unmount /home/joe", "ready 1"]);
        // Without that entry, the timeout of the mount counts again.
        stage.mount("/home/bob", Done::default());
        assert_eq!(stage.engine.deadline(), Some(Tick(10_000)));
    }

    /// The kernel takes the entry for unused after some time, and is refused.
    fn is_refused(stage: &mut TestEngine, ms: u64, token: u32) {
        stage.pass(ms);
        stage.said();
        stage.expire("/home/joe", token);
        assert_eq!(stage.said(), [format!("fail {token} EBUSY")]);
        stage.expire_ran("/home");
        if stage.said().contains(&"check /home/joe".to_owned()) {
            stage.checked("/home/joe", true);
        }
        stage.said();
    }

    #[test]
    fn a_kernel_without_timeouts_of_entries_is_refused_until_the_time_has_passed() {
        let mut stage = stage(100, true);
        // Unused since 10 s after the start.
        is_refused(&mut stage, 50_000, 1);
        is_refused(&mut stage, 40_000, 2);
        stage.pass(40_000);
        stage.said();
        stage.expire("/home/joe", 3);
        assert_eq!(stage.said(), ["unmount /home/joe"]);
    }

    #[test]
    fn what_was_used_meanwhile_begins_anew_and_a_prune_regards_no_timeout() {
        let mut stage = stage(100, true);
        is_refused(&mut stage, 50_000, 1);
        is_refused(&mut stage, 140_000, 2);
        is_refused(&mut stage, 40_000, 3);
        stage.event(super::super::Event::Prune);
        stage.said();
        stage.expire("/home/joe", 4);
        assert_eq!(stage.said(), ["unmount /home/joe"]);
    }

    #[test]
    fn an_entry_without_a_timeout_stays() {
        let mut stage = stage(0, true);
        for token in 1..9u32 {
            is_refused(&mut stage, 45_000, token);
        }
    }
}
