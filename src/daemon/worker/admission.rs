//! Lookups that `[security]` refuses before anything is done for them.

use std::rc::Rc;
use std::time::Instant;

use log::warn;

use super::Worker;
use crate::daemon::jobs::question::Question;
use crate::daemon::rate_limit::Attempt;
use crate::engine::{Errno, Event, Kind, Reason, Resolution};
use crate::record::Record;
use crate::source::Answer;
use crate::sys::procfs;

impl Worker {
    /// Fails a lookup with EACCES if its user may not trigger mounts there. Returns whether it was refused.
    pub(super) fn refuse_requester(self: &Rc<Self>, event: &Event) -> bool {
        let Event::Missing { at, token, who, .. } = event else { return false };
        let Some(mount) = self.mounts.get(at.mount) else { return false };
        let path = mount.entry(&at.key);
        let refusal = {
            let state = self.state.borrow();
            let groups = || i32::try_from(who.tgid).map(procfs::groups).unwrap_or_default();
            state.context.security.refusal(&path, (who.uid, who.gid), groups)
        };
        let Some(message) = refusal else { return false };
        let reason: Reason = Record::new(message).into();
        self.failures.log(&path, &reason, *who, &self.requests.name_of(who.tgid), None);
        self.requests.answer(&self.mounts, &self.tools.borrow(), at.mount, *token, Some(Errno::EACCES));
        let name = |pid| self.requests.name_of(pid);
        self.history.answered(&self.mounts, *token, (Some(Errno::EACCES), Some(reason)), name);
        self.end_turn();
        true
    }

    /// Returns the outcome for a key if its user has tried too many keys that have no entry of their own.
    pub(super) fn limit(&self, question: &Question) -> Option<Resolution> {
        let (rate, user) = (question.context.security.attempts_per_second, question.who.uid);
        if rate == 0 || user == 0 || question.kind != Kind::Indirect {
            return None;
        }
        if matches!(question.map.source.known(question.name()), Some(Answer::Found(found)) if !found.by_wildcard) {
            return None;
        }
        let Attempt::Refused { log } = self.attempts.borrow_mut().count(user, rate, Instant::now()) else {
            return None;
        };
        let reason = format!(
            "user {user} tries more than {rate} keys per second without an entry of their own \
             (attempts_per_second in autofs.toml)"
        );
        if log {
            warn!(target: &question.target(), "{reason}: further ones fail with EAGAIN");
        }
        Some(Resolution::Limited(Record::new(reason).into()))
    }
}
