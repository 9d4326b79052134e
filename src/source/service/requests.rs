//! The requests that a lookup process has not answered yet.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::directory::protocol::Trouble;
use crate::directory::{Map, Question, Reply, Request};

/// How long after its deadline an answer may come. The process knows the deadline, too: a request without an answer hangs.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// A request is given to so many processes at most: one that kills them all must end. The second time it is asked apart from
/// others that had the same process, the third time is for one that was killed by a newer request.
const ATTEMPTS: u32 = 3;

/// A request and where its replies go.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) map: Map,
    pub(super) question: Question,
    pub(super) deadline: Instant,
    pub(super) replies: mpsc::UnboundedSender<Reply>,
    /// How many processes have got it.
    attempts: u32,
    /// Some of its entries have come: another process would send them a second time.
    has_begun: bool,
}

impl Pending {
    pub(super) fn new(map: Map, question: Question, deadline: Instant, replies: mpsc::UnboundedSender<Reply>) -> Self {
        Self { map, question, deadline, replies, attempts: 0, has_begun: false }
    }

    /// Returns whether it was given to a process that has died: it may be the reason.
    pub(super) fn is_suspect(&self) -> bool {
        self.attempts > 0
    }

    pub(super) fn fail(self, text: &str) {
        drop(self.replies.send(Reply::Failed(Trouble::Unavailable, text.to_owned())));
    }
}

/// The requests that one process has.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pending: HashMap<u32, Pending>,
    last: u32,
}

impl Requests {
    /// Takes a request. Returns the frame for the process, or `None` if the request was answered here: nobody waits for it, or
    /// it is too long.
    pub(super) fn add(&mut self, mut pending: Pending) -> Option<Vec<u8>> {
        if pending.replies.is_closed() {
            return None;
        }
        self.last = self.last.wrapping_add(1);
        let id = self.last;
        let left = pending.deadline.saturating_duration_since(Instant::now());
        let within = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        let request = Request::Ask { id, within, map: pending.map.clone(), question: pending.question.clone() };
        let Some(frame) = request.frame() else {
            pending.fail("the key is too long");
            return None;
        };
        pending.attempts += 1;
        self.pending.insert(id, pending);
        Some(frame)
    }

    /// Passes a reply on.
    pub(super) fn answer(&mut self, id: u32, reply: Reply) {
        let Some(pending) = self.pending.get_mut(&id) else { return };
        pending.has_begun = true;
        let is_last = reply.is_last();
        let gone = pending.replies.send(reply).is_err();
        if is_last || gone {
            self.pending.remove(&id);
        }
    }

    /// Returns whether one of the requests was given to a process that has died: it may be the reason.
    pub(super) fn has_suspect(&self) -> bool {
        self.pending.values().any(|pending| pending.attempts > 1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Returns when the process is to be killed if it has not answered.
    pub(super) fn due(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.deadline + GRACE).min()
    }

    /// Ends the requests after the death of the process: those that are overdue fail, and so do those that may have killed
    /// it. Returns the others, which are to be asked again.
    pub(super) fn end(&mut self, why: &str) -> Vec<Pending> {
        let now = Instant::now();
        let mut again = Vec::new();
        for (_, pending) in self.pending.drain() {
            if pending.has_begun || pending.attempts >= ATTEMPTS || pending.deadline <= now {
                pending.fail(why);
            } else {
                again.push(pending);
            }
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Scope;

    fn pending(seconds: u64) -> (Pending, mpsc::UnboundedReceiver<Reply>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let map = Map { secure: false, scope: Scope::Indirect, name: b"m".to_vec() };
        (Pending::new(map, Question::Entries, Instant::now() + Duration::from_secs(seconds), sender), receiver)
    }

    #[tokio::test(start_paused = true)]
    async fn requests_of_a_dead_process_are_asked_again() {
        let mut requests = Requests::default();
        let (first, mut first_replies) = pending(10);
        let (late, mut late_replies) = pending(0);
        let (begun, mut begun_replies) = pending(10);
        for one in [first, late, begun] {
            assert!(requests.add(one).is_some());
        }
        requests.answer(3, Reply::Entries(Vec::new()));
        assert_eq!(requests.due(), Some(Instant::now() + GRACE));
        let mut again = requests.end("it has ended");
        let failed = |reply| matches!(reply, Some(Reply::Failed(Trouble::Unavailable, _)));
        assert_eq!(again.len(), 1);
        assert!(failed(late_replies.recv().await));
        assert!(begun_replies.recv().await.is_some() && failed(begun_replies.recv().await));
        assert!(!requests.has_suspect());
        for attempt in [2, 3] {
            for one in std::mem::take(&mut again) {
                assert!(requests.add(one).is_some());
            }
            assert!(requests.has_suspect());
            again = requests.end("it has ended again");
            assert_eq!(again.len(), usize::from(attempt < ATTEMPTS));
        }
        assert!(failed(first_replies.recv().await));
    }

    #[tokio::test]
    async fn a_request_that_nobody_waits_for_is_not_asked() {
        let (one, replies) = pending(10);
        drop(replies);
        assert_eq!(Requests::default().add(one), None);
    }

    #[tokio::test]
    async fn a_request_with_its_last_reply_is_done() {
        let mut requests = Requests::default();
        let (one, mut replies) = pending(10);
        requests.add(one);
        requests.answer(7, Reply::NotFound);
        assert!(!requests.is_empty());
        requests.answer(1, Reply::NotFound);
        assert!(requests.is_empty());
        assert_eq!(replies.recv().await, Some(Reply::NotFound));
    }
}
