//! One entry of an autofs mount: its phase, the waiting lookups, and what is mounted there.

use std::sync::Arc;

use crate::engine::own_timeout::Unused;
use crate::engine::{EntryId, EntryPhase, JobId, Limits, MountId, Reason, Requester, Tick, Token};
use crate::plan::Plan;

/// A lookup that waits in the kernel.
#[derive(Debug)]
pub(in crate::engine) struct Waiter {
    pub(in crate::engine) token: Token,
    pub(in crate::engine) who: Requester,
}

/// Work on an entry. At most one job runs on it.
#[derive(Debug, Default)]
pub(in crate::engine) enum Phase {
    /// No file system is mounted as far as we know, and no job runs.
    #[default]
    Idle,
    /// The maps are asked.
    Resolving(JobId),
    /// A plan is carried out.
    Performing(JobId, Arc<Plan>),
    /// Mounted, nothing runs.
    Mounted,
    /// Believed to be mounted; the mount table is asked.
    Checking(JobId),
    /// The entry and everything mounted on it is being unmounted, in this order.
    Unmounting(JobId, Vec<Piece>),
    /// The unmount stopped halfway; the triggers that are gone are mounted again, one place after the other, the last
    /// of the list now. The entry that was to be unmounted keeps this phase for all of them.
    Remounting(JobId, Vec<Remount>),
}

impl Phase {
    pub(in crate::engine) fn job(&self) -> Option<JobId> {
        match self {
            Self::Idle | Self::Mounted => None,
            Self::Resolving(job)
            | Self::Performing(job, _)
            | Self::Checking(job)
            | Self::Unmounting(job, _)
            | Self::Remounting(job, _) => Some(*job),
        }
    }

    /// The phase as it is shown to others.
    pub(in crate::engine) fn shown(&self) -> EntryPhase {
        match self {
            Self::Idle => EntryPhase::Waiting,
            Self::Resolving(_) => EntryPhase::Resolving,
            Self::Performing(..) => EntryPhase::Mounting,
            Self::Mounted => EntryPhase::Mounted,
            Self::Checking(_) => EntryPhase::Checking,
            Self::Unmounting(..) => EntryPhase::Unmounting,
            Self::Remounting(..) => EntryPhase::Remounting,
        }
    }

    /// Returns whether the tree below is being taken down (or put up again): nothing else may begin there.
    pub(in crate::engine) fn holds_tree(&self) -> bool {
        matches!(self, Self::Unmounting(..) | Self::Remounting(..))
    }
}

/// Owner of one layer of an unmount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) enum Piece {
    /// A file system that an entry has mounted.
    Entry(EntryId),
    /// A trigger or submount.
    Trigger(MountId),
}

/// Triggers to be mounted again below an entry.
#[derive(Debug)]
pub(in crate::engine) struct Remount {
    pub(in crate::engine) at: EntryId,
    pub(in crate::engine) plan: Arc<Plan>,
}

/// An entry. It exists as long as there is anything to be said of it.
#[derive(Debug, Default)]
pub(in crate::engine) struct Entry {
    pub(in crate::engine) phase: Phase,
    /// Lookups to be answered; all of them when the entry is mounted or fails.
    pub(in crate::engine) waiting: Vec<Waiter>,
    /// When those are to be answered at the latest.
    pub(in crate::engine) answer_by: Tick,
    /// An expire packet to be answered when the unmount that it began has ended.
    pub(in crate::engine) expire: Option<Token>,
    /// When the running job is overdue (of no meaning when none runs).
    pub(in crate::engine) due: Option<Tick>,
    /// The job has missed its deadline: no lookup waits for it, and none may begin to.
    pub(in crate::engine) overdue: bool,
    /// The plan that is mounted, if it is known.
    pub(in crate::engine) plan: Option<Arc<Plan>>,
    /// The triggers or the submount that stand below it.
    pub(in crate::engine) children: Vec<MountId>,
    /// When it was mounted (or found mounted).
    pub(in crate::engine) since: Tick,
    /// Number of the job after which it was found mounted: the next mount of the entry has another one.
    pub(in crate::engine) made: JobId,
    /// The mount id of the mount, if it is known.
    pub(in crate::engine) mount_id: Option<u64>,
    /// When we last knew that it is mounted.
    pub(in crate::engine) seen: Tick,
    /// Processes that go on asking although it is mounted.
    pub(in crate::engine) askers: Askers,
    /// Its mount is leaving, and has tried this entry.
    pub(in crate::engine) tried: bool,
    /// Why the last unmount failed, while it is mounted.
    pub(in crate::engine) trouble: Option<Reason>,
    /// The kernel does not know its timeout.
    pub(in crate::engine) untimed: bool,
    /// If so, since when the kernel takes it for unused.
    pub(in crate::engine) unused: Option<Unused>,
    /// The moment for which its alarm is set.
    pub(super) alarm: Option<Tick>,
    /// As it was counted last: occupied, in flight.
    pub(super) counted: (bool, bool),
}

impl Entry {
    /// Returns whether something is mounted there that may have to be unmounted.
    pub(in crate::engine) fn occupied(&self) -> bool {
        let mounted =
            matches!(self.phase, Phase::Mounted | Phase::Checking(_) | Phase::Unmounting(..) | Phase::Remounting(..));
        mounted || !self.children.is_empty()
    }

    /// Returns whether a job runs or a lookup waits, overdue or not.
    pub(in crate::engine) fn busy(&self) -> bool {
        self.phase.job().is_some() || !self.waiting.is_empty()
    }

    /// Returns whether something is going on that will end within its time.
    pub(in crate::engine) fn in_flight(&self) -> bool {
        self.busy() && !self.overdue
    }

    /// When the entry wants to be woken up.
    pub(in crate::engine) fn wakes(&self) -> Option<Tick> {
        let answer = (!self.waiting.is_empty()).then_some(self.answer_by);
        let due = self.due.filter(|_| self.phase.job().is_some() && !self.overdue);
        due.into_iter().chain(answer).min()
    }
}

/// Processes that asked for an entry while it was mounted: the few last ones.
#[derive(Debug, Default)]
pub(in crate::engine) struct Askers(Vec<Asker>);

#[derive(Debug)]
struct Asker {
    tgid: u32,
    since: Tick,
    times: u32,
}

impl Askers {
    const MAX: usize = 8;

    /// Counts one more question; true: it is asked too often.
    pub(in crate::engine) fn ask(&mut self, tgid: u32, now: Tick, limits: &Limits) -> bool {
        self.0.retain(|asker| now.since(asker.since) < limits.loop_window);
        if let Some(asker) = self.0.iter_mut().find(|asker| asker.tgid == tgid) {
            asker.times = asker.times.saturating_add(1);
            return asker.times > limits.loop_limit;
        }
        if self.0.len() == Self::MAX {
            self.0.remove(0);
        }
        self.0.push(Asker { tgid, since: now, times: 1 });
        limits.loop_limit == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_process_within_a_short_while_asks_too_often() {
        let limits = Limits { loop_limit: 2, loop_window: 100, ..Limits::default() };
        let mut askers = Askers::default();
        assert!(!askers.ask(1, Tick(0), &limits) && !askers.ask(1, Tick(1), &limits));
        assert!(!askers.ask(2, Tick(2), &limits));
        assert!(askers.ask(1, Tick(3), &limits));
        assert!(!askers.ask(1, Tick(100), &limits), "the window has passed");
        for tgid in 10..1000 {
            askers.ask(tgid, Tick(101), &limits);
        }
        assert!(askers.0.len() <= Askers::MAX);
    }

    #[test]
    fn an_entry_wakes_for_the_nearer_of_job_and_waiters() {
        let mut entry = Entry { due: Some(Tick(70)), answer_by: Tick(60), ..Entry::default() };
        assert_eq!(entry.wakes(), None);
        entry.phase = Phase::Checking(JobId(1));
        assert_eq!(entry.wakes(), Some(Tick(70)));
        entry.waiting.push(Waiter { token: Token(std::num::NonZeroU32::MIN), who: Requester::default() });
        assert_eq!(entry.wakes(), Some(Tick(60)));
        entry.overdue = true;
        entry.waiting.clear();
        assert_eq!(entry.wakes(), None);
    }
}
