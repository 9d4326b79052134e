//! Lookups: from the kernel's packet to its answer.

use std::sync::Arc;

use super::{
    Done, Effect, Engine, Entry, Errno, Failure, JobId, Phase, Place, Requester, Resolution, Shutdown, Token, Waiter,
};
use crate::plan::Plan;

impl Engine {
    /// A lookup waits.
    pub(super) fn missing(&mut self, at: Place, token: Token, who: Requester) {
        if let Err(error) = self.admit(&at, &who) {
            return self.reply(at.mount, token, Some(error));
        }
        let now = self.now;
        let Some(entry) = self.entry_or_new(&at) else {
            return self.reply(at.mount, token, Some(Errno::ENOENT));
        };
        if entry.waiting.is_empty() {
            entry.asked = now;
        }
        entry.waiting.push(Waiter { token, who });
        self.serve(&at);
    }

    /// What needs no work: the lookups that fail at once.
    fn admit(&mut self, at: &Place, who: &Requester) -> Result<(), Errno> {
        if self.stop.is_some() {
            return Err(Errno::ENOENT);
        }
        let now = self.now;
        let mount = self.mounts.get_mut(&at.mount).filter(|mount| mount.has(&at.key)).ok_or(Errno::ENOENT)?;
        if !self.tops.get(&mount.top).is_some_and(|top| top.state.serves()) {
            return Err(Errno::ENOENT);
        }
        match mount.entries.get_mut(&at.key) {
            Some(entry) if entry.overdue => return Err(Errno::ETIMEDOUT),
            Some(entry) if matches!(entry.phase, Phase::Mounted | Phase::Checking(_)) => {
                if entry.askers.ask(who.tgid, now, &self.limits) {
                    log::info!(
                        target: &mount.path.to_string_lossy(),
                        "process {} keeps asking for what is mounted: it is in a mount namespace that our mounts do not reach",
                        who.tgid
                    );
                    return Err(Errno::ELOOP);
                }
            }
            Some(_) => {}
            None => {
                if self.negatives.get(now, at).is_some() {
                    return Err(Errno::ENOENT);
                }
            }
        }
        match self.held(at) {
            Some(holder) if holder.overdue => Err(Errno::ETIMEDOUT),
            _ => Ok(()),
        }
    }

    /// Whether nothing new is begun for the lookups that wait there.
    fn refuses(&self, at: &Place) -> bool {
        let ending = self.stop.as_ref().is_some_and(|stop| stop.how != Shutdown::Detach);
        ending || !self.top_of(at.mount).is_some_and(|top| top.state.serves())
    }

    /// Begins what the waiting lookups need, if nothing is in the way.
    pub(super) fn serve(&mut self, at: &Place) {
        let waits = |entry: &Entry| !entry.waiting.is_empty() && entry.phase.job().is_none();
        if self.entry(at).is_some_and(waits) {
            if self.refuses(at) {
                self.answer(at, Some(Errno::ENOENT));
            } else if self.held(at).is_none() {
                self.begin(at);
            }
        }
        self.settle(at);
    }

    fn begin(&mut self, at: &Place) {
        let Some(mount) = self.mounts.get(&at.mount) else { return };
        let Some(entry) = mount.entries.get(&at.key) else { return };
        if matches!(entry.phase, Phase::Mounted) {
            return self.check(at);
        }
        if let Some(plan) = mount.plan().cloned() {
            return self.perform(at, plan);
        }
        let Some(who) = entry.waiting.first().map(|waiter| waiter.who) else { return };
        let job = self.new_job(at);
        self.run(at, Phase::Resolving(job));
        self.effects.push(Effect::Resolve { job, mount: at.mount, key: at.key.clone(), who });
    }

    /// Asks the mount table, for lookups that wait or for our own sake.
    pub(super) fn check(&mut self, at: &Place) {
        let job = self.new_job(at);
        self.run(at, Phase::Checking(job));
        self.effects.push(Effect::Check { job, mount: at.mount, key: at.key.clone() });
    }

    fn perform(&mut self, at: &Place, plan: Arc<Plan>) {
        let waiter = self.entry(at).and_then(|entry| entry.waiting.first());
        let who = waiter.map(|waiter| waiter.who).unwrap_or_default();
        let job = self.new_job(at);
        self.run(at, Phase::Performing(job, plan.clone()));
        self.effects.push(Effect::Perform { job, mount: at.mount, key: at.key.clone(), plan, who });
    }

    /// The job of a lookup runs; its time is that of the lookup.
    fn run(&mut self, at: &Place, phase: Phase) {
        let (now, request) = (self.now, self.limits.request);
        if let Some(entry) = self.entry_mut(at) {
            let from = if entry.waiting.is_empty() { now } else { entry.asked };
            entry.due = Some(from.after(request));
            entry.phase = phase;
        }
    }

    /// Answers all that wait at an entry.
    pub(super) fn answer(&mut self, at: &Place, error: Option<Errno>) {
        let Some(entry) = self.entry_mut(at) else { return };
        for waiter in std::mem::take(&mut entry.waiting) {
            self.reply(at.mount, waiter.token, error);
        }
    }

    /// Takes the phase whose job has ended. An entry that holds its tree goes on doing so until it is given a new one.
    pub(super) fn take_phase(&mut self, job: JobId) -> Option<(Place, Phase)> {
        let at = self.jobs.remove(&job)?;
        let entry = self.entry_mut(&at)?;
        entry.overdue = false;
        let held = if entry.phase.holds_tree() { Phase::Restoring(job, Vec::new()) } else { Phase::Idle };
        let phase = std::mem::replace(&mut entry.phase, held);
        Some((at, phase))
    }

    /// The maps have been asked.
    pub(super) fn resolved(&mut self, job: JobId, outcome: Resolution) {
        let Some((at, _)) = self.take_phase(job) else { return };
        let wanted = self.entry(&at).is_some_and(|entry| !entry.waiting.is_empty());
        match outcome {
            Resolution::Found(plan) if wanted && !self.refuses(&at) => self.perform(&at, plan),
            Resolution::Found(_) => self.answer(&at, Some(Errno::ENOENT)),
            Resolution::NotFound => self.fail(&at, Some(Failure::NotFound)),
            Resolution::Invalid => self.fail(&at, Some(Failure::Invalid)),
            Resolution::Unavailable => self.fail(&at, None),
        }
        self.settle(&at);
    }

    /// A plan has been carried out.
    pub(super) fn performed(&mut self, job: JobId, outcome: Result<Done, ()>) {
        match self.take_phase(job) {
            Some((at, Phase::Performing(_, plan))) => {
                match outcome {
                    Ok(done) => {
                        self.stands(&at, Some(plan), done);
                        self.answer(&at, None);
                    }
                    Err(()) => {
                        self.forget_below(&at);
                        self.fail(&at, Some(Failure::Mount));
                    }
                }
                self.settle(&at);
            }
            Some((at, Phase::Restoring(_, repairs))) => self.restored(at, repairs, outcome.unwrap_or_default()),
            _ => {}
        }
    }

    /// The mount table has been asked.
    pub(super) fn checked(&mut self, job: JobId, mounted: bool) {
        let Some((at, _)) = self.take_phase(job) else { return };
        if mounted {
            let now = self.now;
            if let Some(entry) = self.entry_mut(&at) {
                entry.phase = Phase::Mounted;
                entry.seen = now;
            }
            self.answer(&at, None);
        } else {
            // Somebody has unmounted it, so whoever asks has a reason. (The executor has seen every mount that it says
            // it has made; should one go at once, the kernel itself gives up after 40 times.)
            if let Some(entry) = self.entry_mut(&at) {
                entry.askers = Default::default();
            }
            self.forget_below(&at);
        }
        self.serve(&at);
    }

    /// What was mounted before we were, or while we did not look.
    pub(super) fn adopted(&mut self, at: Place, plan: Option<Arc<Plan>>, done: Done) {
        if !self.mounts.get(&at.mount).is_some_and(|mount| mount.has(&at.key)) {
            return;
        }
        let Some(entry) = self.entry_or_new(&at) else { return };
        if entry.phase.job().is_none() {
            self.stands(&at, plan, done);
        } else {
            self.install(&at, done);
        }
        self.serve(&at);
    }

    /// The entry is mounted, with this below it.
    fn stands(&mut self, at: &Place, plan: Option<Arc<Plan>>, done: Done) {
        let now = self.now;
        self.negatives.remove(at);
        if let Some(entry) = self.entry_mut(at) {
            entry.phase = Phase::Mounted;
            entry.plan = plan;
            entry.since = now;
            entry.seen = now;
        }
        self.install(at, done);
    }

    /// Fails all that wait at an entry, and those that will ask again at once.
    fn fail(&mut self, at: &Place, why: Option<Failure>) {
        if let (Some(why), Some(mount)) = (why, self.mounts.get(&at.mount)) {
            self.negatives.insert(self.now, at.clone(), mount.negative_timeout, why);
        }
        self.answer(at, Some(Errno::ENOENT));
    }

    /// An alarm of an entry has rung: its job is overdue, or those who wait for it have waited long enough.
    pub(super) fn late(&mut self, at: &Place) {
        let now = self.now;
        let Some(entry) = self.entry_mut(at) else { return };
        entry.alarm = None;
        if entry.due.is_some_and(|due| due <= now) {
            self.disown(at, Errno::ETIMEDOUT);
        } else {
            self.answer(at, Some(Errno::ETIMEDOUT));
            self.settle(at);
        }
    }

    /// Answers all that wait for the job of an entry; the job goes on alone until its result comes.
    pub(super) fn disown(&mut self, at: &Place, error: Errno) {
        let Some(entry) = self.entry_mut(at) else { return };
        entry.overdue = entry.phase.job().is_some();
        if let Some(token) = entry.expire.take() {
            self.reply(at.mount, token, Some(Errno::EBUSY));
        }
        self.answer(at, Some(error));
        self.settle(at);
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, offsets, plan};
    use super::*;

    #[test]
    fn a_lookup_is_resolved_mounted_and_answered() {
        let mut stage = Stage::new(&["/home"]);
        stage.missing("/home/joe", 1);
        assert_eq!(stage.said(), ["resolve /home/joe"]);
        stage.found("/home/joe");
        assert_eq!(stage.said(), ["perform /home/joe"]);
        stage.performed("/home/joe", Ok(Done::default()));
        assert_eq!(stage.said(), ["ready 1"]);
    }

    #[test]
    fn all_tokens_of_a_key_are_answered_by_one_mount() {
        let mut stage = Stage::new(&["/home"]);
        stage.missing("/home/joe", 1);
        stage.missing("/home/joe", 2);
        stage.found("/home/joe");
        stage.missing("/home/joe", 3);
        stage.performed("/home/joe", Ok(Done::default()));
        assert_eq!(stage.said(), ["resolve /home/joe", "perform /home/joe", "ready 1", "ready 2", "ready 3"]);
    }

    #[test]
    fn what_is_not_there_fails_at_once_for_a_while() {
        let mut stage = Stage::new(&["/home"]);
        stage.missing("/home/joe", 1);
        stage.resolved("/home/joe", Resolution::NotFound);
        stage.missing("/home/joe", 2);
        assert_eq!(stage.said(), ["resolve /home/joe", "fail 1 ENOENT", "fail 2 ENOENT"]);
        assert_eq!((stage.entries(), stage.engine.deadline()), (0, None), "nothing wakes an idle daemon");
        stage.pass(60_000);
        stage.missing("/home/joe", 3);
        assert_eq!(stage.said(), ["resolve /home/joe"]);
    }

    #[test]
    fn a_map_that_cannot_be_asked_is_asked_again() {
        let mut stage = Stage::new(&["/home"]);
        stage.missing("/home/joe", 1);
        stage.resolved("/home/joe", Resolution::Unavailable);
        stage.missing("/home/joe", 2);
        assert_eq!(stage.said(), ["resolve /home/joe", "fail 1 ENOENT", "resolve /home/joe"]);
    }

    #[test]
    fn a_new_map_makes_failures_forgotten() {
        let mut stage = Stage::new(&["/home"]);
        stage.missing("/home/joe", 1);
        stage.found("/home/joe");
        stage.performed("/home/joe", Err(()));
        stage.missing("/home/joe", 2);
        stage.event(crate::engine::Event::Forget);
        stage.missing("/home/joe", 3);
        let said = ["resolve /home/joe", "perform /home/joe", "fail 1 ENOENT", "fail 2 ENOENT", "resolve /home/joe"];
        assert_eq!(stage.said(), said);
    }

    #[test]
    fn no_key_of_a_mount_fails_at_once() {
        let mut stage = Stage::new(&["/home"]);
        let root = format!("#{}", stage.id("/home").0);
        for (number, place) in [(1, "#77/a"), (2, &root), (3, &format!("{root}/a/b"))] {
            stage.missing(place, number);
        }
        assert_eq!(stage.said(), ["fail 1 ENOENT", "fail 2 ENOENT", "fail 3 ENOENT"]);
        stage.expire(&root, 4);
        assert_eq!(stage.said(), ["fail 4 ENOENT"]);
    }

    #[test]
    fn a_request_has_a_deadline_and_its_job_goes_on_alone() {
        let mut stage = Stage::new(&["/home"]);
        stage.missing("/home/joe", 1);
        stage.found("/home/joe");
        stage.said();
        stage.pass(9_999);
        assert_eq!(stage.said(), [""; 0]);
        stage.pass(1);
        stage.missing("/home/joe", 2);
        stage.expire("/home/joe", 3);
        assert_eq!(stage.said(), ["fail 1 ETIMEDOUT", "fail 2 ETIMEDOUT", "fail 3 EBUSY"]);
        stage.performed("/home/joe", Ok(Done::default()));
        stage.missing("/home/joe", 4);
        assert_eq!(stage.said(), ["check /home/joe"], "mounted after all");
    }

    #[test]
    fn a_late_failure_is_remembered_and_a_late_plan_is_not_carried_out() {
        let mut stage = Stage::new(&["/home"]);
        stage.missing("/home/joe", 1);
        stage.missing("/home/ann", 2);
        stage.pass(10_000);
        stage.said();
        stage.resolved("/home/joe", Resolution::NotFound);
        stage.found("/home/ann");
        assert_eq!((stage.said(), stage.entries()), (vec![], 0));
        stage.missing("/home/joe", 3);
        assert_eq!(stage.said(), ["fail 3 ENOENT"]);
    }

    #[test]
    fn what_was_unmounted_by_hand_is_mounted_again() {
        let mut stage = Stage::new(&["/home"]);
        stage.mount("/home/joe", offsets(&[(5, "/home/joe/a")]));
        stage.missing("/home/joe", 1);
        stage.checked("/home/joe", false);
        assert_eq!(stage.said(), ["check /home/joe", "resolve /home/joe"]);
        stage.missing("#5", 2);
        assert_eq!(stage.said(), ["fail 2 ENOENT"], "its triggers are gone with it");
        stage.found("/home/joe");
        stage.performed("/home/joe", Ok(Done::default()));
        assert_eq!(stage.said(), ["perform /home/joe", "ready 1"]);
    }

    #[test]
    fn a_process_that_cannot_see_the_mount_does_not_ask_for_ever() {
        let mut stage = Stage::new(&["/home"]);
        stage.mount("/home/joe", Done::default());
        for number in 101..=103 {
            stage.missing("/home/joe", number);
            stage.checked("/home/joe", true);
            assert_eq!(stage.said(), ["check /home/joe".into(), format!("ready {number}")]);
        }
        stage.missing("/home/joe", 104);
        stage.missing("/home/joe", 2);
        assert_eq!(stage.said(), ["fail 104 ELOOP", "check /home/joe"]);
    }

    #[test]
    fn whoever_unmounts_by_hand_may_ask_again_and_again() {
        let mut stage = Stage::new(&["/home"]);
        stage.mount("/home/joe", Done::default());
        for number in 101..=120 {
            stage.missing("/home/joe", number);
            stage.checked("/home/joe", false);
            stage.found("/home/joe");
            stage.performed("/home/joe", Ok(Done::default()));
        }
        assert!(!stage.said().iter().any(|said| said.contains("ELOOP")));
    }

    #[test]
    fn an_offset_is_mounted_from_its_plan() {
        let mut stage = Stage::new(&["/net"]);
        stage.mount("/net/srv", offsets(&[(5, "/net/srv/a")]));
        stage.missing("#5", 1);
        assert_eq!(stage.said(), ["perform /net/srv/a"]);
        stage.performed("/net/srv/a", Ok(Done::default()));
        assert_eq!(stage.said(), ["ready 1"]);
    }

    #[test]
    fn a_submount_serves_its_own_keys() {
        let mut stage = Stage::new(&["/home"]);
        stage.mount("/home/sub", super::super::stage::submount(6, "/home/sub"));
        stage.missing("#6/joe", 1);
        stage.found("/home/sub/joe");
        stage.performed("/home/sub/joe", Ok(Done::default()));
        assert_eq!(stage.said(), ["resolve /home/sub/joe", "perform /home/sub/joe", "ready 1"]);
    }

    #[test]
    fn what_a_predecessor_mounted_is_taken_over() {
        let mut stage = Stage::new(&["/home"]);
        let mount = stage.id("/home");
        let event = |plan| crate::engine::Event::Adopted {
            mount,
            key: b"joe"[..].into(),
            plan,
            done: offsets(&[(5, "/home/joe/a")]),
        };
        stage.event(event(Some(plan("/home/joe", &[]))));
        stage.event(event(None));
        stage.missing("/home/joe", 1);
        stage.missing("#5", 2);
        assert_eq!(stage.said(), ["check /home/joe", "perform /home/joe/a"]);
    }

    #[test]
    fn results_of_unknown_jobs_are_ignored() {
        let mut stage = Stage::new(&["/home"]);
        stage.missing("/home/joe", 1);
        stage.said();
        for job in [0, 7, u64::MAX].map(JobId) {
            stage.event(crate::engine::Event::Resolved { job, outcome: Resolution::NotFound });
            stage.event(crate::engine::Event::Performed { job, outcome: Err(()) });
            stage.event(crate::engine::Event::Checked { job, mounted: true });
            stage.event(crate::engine::Event::Unmounted { job, gone: 3 });
        }
        assert_eq!(stage.said(), [""; 0]);
        stage.found("/home/joe");
        assert_eq!(stage.said(), ["perform /home/joe"]);
    }
}
