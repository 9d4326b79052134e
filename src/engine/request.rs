//! Lookups: from the kernel's packet to its answer.

use std::sync::Arc;

use super::negative::Record;
use super::{
    Askers, Done, Effect, Engine, Entry, EntryId, Errno, Failure, JobId, Phase, Reason, Requester, Resolution,
    Shutdown, Token, Waiter,
};
use crate::plan::Plan;

/// Milliseconds between two log lines about processes that keep asking for what is mounted.
const ASKERS_LOGGED: u64 = 10_000;

impl Engine {
    /// Handles a lookup, which has waited for `waited` milliseconds before the engine was told.
    pub(super) fn missing(&mut self, at: EntryId, token: Token, who: Requester, waited: u64) {
        if waited >= self.limits.request {
            return self.reply(at.mount, token, Some(Errno::ETIMEDOUT));
        }
        if let Err((error, reason)) = self.admit(&at, &who) {
            return self.refuse(at.mount, token, error, reason);
        }
        let answer_by = self.now.after(self.limits.request - waited);
        self.tree.make_entry(&at);
        self.update(&at, |entry| {
            entry.answer_by = if entry.waiting.is_empty() { answer_by } else { entry.answer_by.min(answer_by) };
            entry.waiting.push(Waiter { token, who });
        });
        self.serve(&at);
    }

    /// Refuses the lookups that fail at once, without any work.
    fn admit(&mut self, at: &EntryId, who: &Requester) -> Result<(), (Errno, Option<Reason>)> {
        if self.stop.is_some() {
            return Err((Errno::ENOENT, None));
        }
        if let Some(reason) = self.blocked_at(at) {
            return Err((Errno::EACCES, Some(reason)));
        }
        let (now, limits) = (self.now, self.limits);
        let mount = self.tree.mount(at.mount).filter(|mount| mount.has(&at.key)).ok_or((Errno::ENOENT, None))?;
        if !self.tree.top(mount.top).is_some_and(|top| top.state().serves()) {
            return Err((Errno::ENOENT, None));
        }
        match mount.entry(&at.key) {
            Some(entry) if entry.overdue => return Err((Errno::ETIMEDOUT, None)),
            Some(entry) if matches!(entry.phase, Phase::Mounted | Phase::Checking(_)) => {
                let path = mount.path.clone();
                if self.update(at, |entry| entry.askers.ask(who.tgid, now, &limits)) == Some(true) {
                    // A container may start a process for each lookup.
                    let quiet = self.asker_logged.is_some_and(|last| now.since(last) < ASKERS_LOGGED);
                    let level = if quiet { log::Level::Debug } else { log::Level::Info };
                    if !quiet {
                        self.asker_logged = Some(now);
                    }
                    log::log!(
                        target: &path.to_string_lossy(),
                        level,
                        "process {} keeps asking for what is mounted: it is in a mount namespace that our mounts do not reach",
                        who.tgid
                    );
                    return Err((Errno::ELOOP, None));
                }
            }
            Some(_) => {}
            None => {
                if let Some((_, reason)) = self.negative_cache.get(now, at) {
                    return Err((Errno::ENOENT, reason.cloned()));
                }
            }
        }
        match self.tree.held(at) {
            Some(holder) if holder.overdue => Err((Errno::ETIMEDOUT, None)),
            _ => Ok(()),
        }
    }

    /// Returns whether nothing new is begun for the lookups that wait there.
    fn refuses(&self, at: &EntryId) -> bool {
        let ending = self.stop.as_ref().is_some_and(|stop| stop.how != Shutdown::Detach);
        ending || !self.tree.top_of(at.mount).is_some_and(|top| top.state().serves())
    }

    /// Begins what the waiting lookups need, if nothing is in the way.
    pub(super) fn serve(&mut self, at: &EntryId) {
        let waits = |entry: &Entry| !entry.waiting.is_empty() && entry.phase.job().is_none();
        if self.tree.entry(at).is_some_and(waits) {
            if self.refuses(at) {
                self.answer(at, Some(Errno::ENOENT));
            } else if self.tree.held(at).is_none() {
                self.begin(at);
            }
        }
        self.settle(at);
    }

    fn begin(&mut self, at: &EntryId) {
        let Some(mount) = self.tree.mount(at.mount) else { return };
        let Some(entry) = mount.entry(&at.key) else { return };
        if matches!(entry.phase, Phase::Mounted) {
            return self.check(at);
        }
        if let Some(plan) = mount.plan().cloned() {
            return self.perform(at, plan);
        }
        let Some(who) = entry.waiting.first().map(|waiter| waiter.who) else { return };
        let job = self.new_job(at);
        self.run(at, Phase::Resolving(job));
        self.effects.push(Effect::Resolve { job, at: at.clone(), who });
    }

    /// Asks the mount table, for lookups that wait or for our own sake.
    pub(super) fn check(&mut self, at: &EntryId) {
        let job = self.new_job(at);
        self.run(at, Phase::Checking(job));
        self.effects.push(Effect::Check { job, at: at.clone() });
    }

    fn perform(&mut self, at: &EntryId, plan: Arc<Plan>) {
        let waiter = self.tree.entry(at).and_then(|entry| entry.waiting.first());
        let who = waiter.map(|waiter| waiter.who).unwrap_or_default();
        let job = self.new_job(at);
        self.run(at, Phase::Performing(job, plan.clone()));
        self.effects.push(Effect::Perform { job, at: at.clone(), plan, who });
    }

    /// The job of a lookup runs; its time is the time of the lookup.
    fn run(&mut self, at: &EntryId, phase: Phase) {
        let (now, request) = (self.now, self.limits.request);
        self.update(at, |entry| {
            entry.due = Some(if entry.waiting.is_empty() { now.after(request) } else { entry.answer_by });
            entry.phase = phase;
        });
    }

    /// Answers all lookups that wait at an entry.
    pub(super) fn answer(&mut self, at: &EntryId, error: Option<Errno>) {
        let waiting = self.update(at, |entry| std::mem::take(&mut entry.waiting));
        for waiter in waiting.unwrap_or_default() {
            self.reply(at.mount, waiter.token, error);
        }
    }

    /// Fails all lookups that wait at an entry.
    fn refuse_all(&mut self, at: &EntryId, error: Errno, reason: Option<&Reason>) {
        let waiting = self.update(at, |entry| std::mem::take(&mut entry.waiting));
        for waiter in waiting.unwrap_or_default() {
            self.refuse(at.mount, waiter.token, error, reason.cloned());
        }
    }

    /// Takes the phase whose job has ended. An entry that blocks its tree keeps blocking it until it gets a new phase.
    pub(super) fn take_phase(&mut self, job: JobId) -> Option<(EntryId, Phase)> {
        let at = self.jobs.remove(&job)?;
        let phase = self.update(&at, |entry| {
            entry.overdue = false;
            let held = if entry.phase.holds_tree() { Phase::Remounting(job, Vec::new()) } else { Phase::Idle };
            std::mem::replace(&mut entry.phase, held)
        })?;
        Some((at, phase))
    }

    /// Handles the result of `Resolve`.
    pub(super) fn resolved(&mut self, job: JobId, outcome: Resolution) {
        let Some((at, _)) = self.take_phase(job) else { return };
        let wanted = self.tree.entry(&at).is_some_and(|entry| !entry.waiting.is_empty());
        match outcome {
            Resolution::Found(plan) if wanted && !self.refuses(&at) => self.perform(&at, plan),
            Resolution::Found(_) => self.answer(&at, Some(Errno::ENOENT)),
            Resolution::NotFound => self.fail(&at, Failure::NotFound, None),
            Resolution::Invalid(reason) => self.fail(&at, Failure::Invalid, Some(reason)),
            Resolution::Unavailable(reason) => self.refuse_all(&at, Errno::ENOENT, Some(&reason)),
            Resolution::Limited(reason) => self.refuse_all(&at, Errno::EAGAIN, Some(&reason)),
        }
        self.settle(&at);
    }

    /// Handles the result of `Perform`.
    pub(super) fn performed(&mut self, job: JobId, outcome: Result<Done, Reason>) {
        match self.take_phase(job) {
            Some((at, Phase::Performing(_, plan))) => {
                match outcome {
                    Ok(done) => {
                        self.stands(&at, Some(plan), done);
                        self.answer(&at, None);
                    }
                    Err(reason) => {
                        self.forget_below(&at);
                        self.fail(&at, Failure::Mount, Some(reason));
                    }
                }
                self.settle(&at);
            }
            Some((at, Phase::Remounting(_, remounts))) => self.remounted(at, remounts, outcome.unwrap_or_default()),
            _ => {}
        }
    }

    /// Handles the result of `Check`.
    pub(super) fn checked(&mut self, job: JobId, mounted: bool) {
        let Some((at, _)) = self.take_phase(job) else { return };
        if mounted {
            let now = self.now;
            self.update(&at, |entry| {
                entry.phase = Phase::Mounted;
                entry.seen = now;
            });
            self.answer(&at, None);
        } else {
            // The entry was unmounted by hand, so the lookups are legitimate. (If a new mount vanishes at once each time, the
            // kernel gives up after 40 retries.)
            self.update(&at, |entry| entry.askers = Askers::default());
            self.forget_below(&at);
        }
        self.serve(&at);
    }

    /// Adopts an entry that was mounted before this worker started, or without its knowledge.
    pub(super) fn adopted(&mut self, at: EntryId, plan: Option<Arc<Plan>>, done: Done) {
        if !self.tree.may_have(&at) {
            return;
        }
        self.tree.make_entry(&at);
        if self.tree.entry(&at).is_some_and(|entry| entry.phase.job().is_none()) {
            self.stands(&at, plan, done);
        } else {
            self.install(&at, done);
        }
        self.serve(&at);
    }

    /// The entry is mounted, with this below it.
    fn stands(&mut self, at: &EntryId, plan: Option<Arc<Plan>>, done: Done) {
        let (now, made) = (self.now, JobId(self.last_job));
        self.negative_cache.remove(at);
        self.update(at, |entry| {
            entry.phase = Phase::Mounted;
            entry.plan.clone_from(&plan);
            (entry.since, entry.made, entry.mount_id) = (now, made, done.mount_id);
            entry.seen = now;
            (entry.untimed, entry.unused) = (done.untimed, None);
        });
        self.note_timeout(at, plan.as_ref());
        self.note_requires(at, plan.as_ref());
        self.install(at, done);
    }

    /// Fails all lookups that wait at an entry, and remembers the failure for those that come next.
    fn fail(&mut self, at: &EntryId, failure: Failure, reason: Option<Reason>) {
        let user = self.tree.entry(at).and_then(|entry| entry.waiting.first()).map_or(0, |waiter| waiter.who.uid);
        self.refuse_all(at, Errno::ENOENT, reason.as_ref());
        if let Some(mount) = self.tree.mount(at.mount) {
            let record = Record { user, failure, reason };
            self.negative_cache.insert(self.now, at.clone(), mount.negative_timeout, record);
        }
    }

    /// An alarm of an entry has rung: its job is overdue, or those who wait for it have waited long enough.
    pub(super) fn late(&mut self, at: &EntryId) {
        let now = self.now;
        self.tree.alarm_rang(at);
        let Some(entry) = self.tree.entry(at) else { return };
        if entry.due.is_some_and(|due| due <= now) {
            self.disown(at, Errno::ETIMEDOUT);
        } else {
            self.answer(at, Some(Errno::ETIMEDOUT));
            self.settle(at);
        }
    }

    /// Answers all that wait for the job of an entry; the job goes on alone until its result comes.
    pub(super) fn disown(&mut self, at: &EntryId, error: Errno) {
        let expire = self.update(at, |entry| {
            entry.overdue = entry.phase.job().is_some();
            entry.expire.take()
        });
        if let Some(token) = expire.flatten() {
            self.reply(at.mount, token, Some(Errno::EBUSY));
        }
        self.answer(at, Some(error));
        self.settle(at);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Key;
    use super::super::testing::{TestEngine, offsets, plan, reason};
    use super::*;

    #[test]
    fn a_lookup_is_resolved_mounted_and_answered() {
        let mut stage = TestEngine::new(&["/home"]);
        stage.missing("/home/joe", 1);
        assert_eq!(stage.said(), ["resolve /home/joe"]);
        stage.found("/home/joe");
        assert_eq!(stage.said(), ["perform /home/joe"]);
        stage.performed("/home/joe", Ok(Done::default()));
        assert_eq!(stage.said(), ["ready 1"]);
    }

    #[test]
    fn all_tokens_of_a_key_are_answered_by_one_mount() {
        let mut stage = TestEngine::new(&["/home"]);
        stage.missing("/home/joe", 1);
        stage.missing("/home/joe", 2);
        stage.found("/home/joe");
        stage.missing("/home/joe", 3);
        stage.performed("/home/joe", Ok(Done::default()));
        assert_eq!(stage.said(), ["resolve /home/joe", "perform /home/joe", "ready 1", "ready 2", "ready 3"]);
    }

    #[test]
    fn what_is_not_there_fails_at_once_for_a_while() {
        let mut stage = TestEngine::new(&["/home"]);
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
        let mut stage = TestEngine::new(&["/home"]);
        stage.missing("/home/joe", 1);
        stage.resolved("/home/joe", Resolution::Unavailable(reason("timeout")));
        stage.missing("/home/joe", 2);
        assert_eq!(stage.said(), ["resolve /home/joe", "fail 1 ENOENT", "resolve /home/joe"]);
    }

    #[test]
    fn a_new_map_makes_failures_forgotten() {
        let mut stage = TestEngine::new(&["/home"]);
        stage.missing("/home/joe", 1);
        stage.found("/home/joe");
        stage.performed("/home/joe", Err(reason("no such server")));
        stage.missing("/home/joe", 2);
        stage.event(crate::engine::Event::Forget);
        stage.missing("/home/joe", 3);
        let said = ["resolve /home/joe", "perform /home/joe", "fail 1 ENOENT", "fail 2 ENOENT", "resolve /home/joe"];
        assert_eq!(stage.said(), said);
    }

    #[test]
    fn no_key_of_a_mount_fails_at_once() {
        let mut stage = TestEngine::new(&["/home"]);
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
        let mut stage = TestEngine::new(&["/home"]);
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
    fn a_lookup_that_waited_before_the_restart_keeps_its_deadline() {
        let mut stage = TestEngine::new(&["/home"]);
        let at = EntryId { mount: stage.id("/home"), key: b"joe"[..].into() };
        let missing = |number, waited| crate::engine::Event::Missing {
            at: at.clone(),
            token: super::super::testing::token(number),
            who: Requester::default(),
            waited,
        };
        stage.event(missing(1, 0));
        stage.event(missing(2, 7_000));
        stage.event(missing(3, 10_000));
        assert_eq!(stage.said(), ["resolve /home/joe", "fail 3 ETIMEDOUT"]);
        stage.pass(2_999);
        assert_eq!(stage.said(), [""; 0]);
        stage.pass(1);
        assert_eq!(stage.said(), ["fail 1 ETIMEDOUT", "fail 2 ETIMEDOUT"]);
    }

    #[test]
    fn a_failure_keeps_its_reason_for_lookups_and_views() {
        let mut stage = TestEngine::new(&["/home"]);
        stage.missing("/home/joe", 1);
        stage.found("/home/joe");
        stage.performed("/home/joe", Err(reason("no such server")));
        stage.missing("/home/joe", 2);
        assert_eq!(stage.reasons(), ["no such server", "no such server"]);
        let mount = stage.engine.mount(stage.id("/home")).unwrap();
        assert_eq!(mount.entries().next().unwrap().reason.unwrap().message, "no such server");
    }

    #[test]
    fn a_late_failure_is_remembered_and_a_late_plan_is_not_carried_out() {
        let mut stage = TestEngine::new(&["/home"]);
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
        let mut stage = TestEngine::new(&["/home"]);
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
        let mut stage = TestEngine::new(&["/home"]);
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

    /// A look at the mount table that is older than the last mount of an entry says nothing about that mount.
    #[test]
    fn a_later_mount_of_an_entry_is_another_one() {
        let mut stage = TestEngine::new(&["/home"]);
        let at = EntryId { mount: stage.id("/home"), key: Key::from(&b"joe"[..]) };
        let made = |stage: &TestEngine| {
            let view = stage.engine.mount(at.mount).unwrap();
            view.entries().find(|entry| *entry.key == at.key).unwrap().made
        };
        stage.mount("/home/joe", Done::default());
        let first = made(&stage);
        assert!(stage.engine.has_mount(&at, first));
        stage.missing("/home/joe", 2);
        stage.checked("/home/joe", true);
        assert!(stage.engine.has_mount(&at, first), "it was there all the time");
        stage.missing("/home/joe", 3);
        stage.checked("/home/joe", false);
        stage.found("/home/joe");
        assert!(!stage.engine.has_mount(&at, first), "it is being mounted");
        stage.performed("/home/joe", Ok(Done::default()));
        assert!(!stage.engine.has_mount(&at, first));
        assert!(stage.engine.has_mount(&at, made(&stage)));
    }

    #[test]
    fn whoever_unmounts_by_hand_may_ask_again_and_again() {
        let mut stage = TestEngine::new(&["/home"]);
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
        let mut stage = TestEngine::new(&["/net"]);
        stage.mount("/net/srv", offsets(&[(5, "/net/srv/a")]));
        stage.missing("#5", 1);
        assert_eq!(stage.said(), ["perform /net/srv/a"]);
        stage.performed("/net/srv/a", Ok(Done::default()));
        assert_eq!(stage.said(), ["ready 1"]);
    }

    #[test]
    fn a_submount_serves_its_own_keys() {
        let mut stage = TestEngine::new(&["/home"]);
        stage.mount("/home/sub", super::super::testing::submount(6, "/home/sub"));
        stage.missing("#6/joe", 1);
        stage.found("/home/sub/joe");
        stage.performed("/home/sub/joe", Ok(Done::default()));
        assert_eq!(stage.said(), ["resolve /home/sub/joe", "perform /home/sub/joe", "ready 1"]);
    }

    #[test]
    fn what_a_predecessor_mounted_is_taken_over() {
        let mut stage = TestEngine::new(&["/home"]);
        let at = EntryId { mount: stage.id("/home"), key: b"joe"[..].into() };
        let event = |plan| crate::engine::Event::Adopted { at: at.clone(), plan, done: offsets(&[(5, "/home/joe/a")]) };
        stage.event(event(Some(plan("/home/joe", &[]))));
        stage.event(event(None));
        stage.missing("/home/joe", 1);
        stage.missing("#5", 2);
        assert_eq!(stage.said(), ["check /home/joe", "perform /home/joe/a"]);
    }

    #[test]
    fn results_of_unknown_jobs_are_ignored() {
        let mut stage = TestEngine::new(&["/home"]);
        stage.missing("/home/joe", 1);
        stage.said();
        for job in [0, 7, u64::MAX].map(JobId) {
            stage.event(crate::engine::Event::Resolved { job, outcome: Resolution::NotFound });
            stage.event(crate::engine::Event::Performed { job, outcome: Err(reason("unknown")) });
            stage.event(crate::engine::Event::Checked { job, mounted: true });
            stage.event(crate::engine::Event::Unmounted { job, gone: 3, error: None });
        }
        assert_eq!(stage.said(), [""; 0]);
        stage.found("/home/joe");
        assert_eq!(stage.said(), ["perform /home/joe"]);
    }
}
