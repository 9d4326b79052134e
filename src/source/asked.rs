//! Questions to a database that may take long, asked in a lane of their own.
//!
//! What was asked a moment ago is not asked again, one question is asked by one thread at a time, and a database that does not answer
//! is answered for by what it said before.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Flight, Readers};
use crate::mutex::lock;

/// For so long a question is not asked again.
const FRESH: Duration = Duration::from_secs(5);

/// Questions whose answers are kept, at most.
const KEPT_MAX: usize = 4096;

/// The questions of one kind, with their last answers.
pub(super) struct Asked<Q, A> {
    readers: Readers,
    look_up: fn(&Q) -> A,
    slots: Mutex<HashMap<Q, Arc<Slot<A>>>>,
}

struct Slot<A> {
    asking: Flight,
    known: Mutex<Option<(A, Instant)>>,
    /// Callers that have stopped waiting for the question that is under way.
    gave_up: Mutex<usize>,
}

impl<Q: Clone + Eq + Hash + Send + 'static, A: Clone + Send + 'static> Asked<Q, A> {
    /// Questions that `look_up` answers, which may block, by so many threads at a time.
    pub(super) fn new(look_up: fn(&Q) -> A, width: usize) -> Self {
        Self { readers: Readers::new(width), look_up, slots: Mutex::default() }
    }

    /// Returns the answer if the question was asked a moment ago. Never waits.
    pub(super) fn cached(&self, question: &Q) -> Option<A> {
        lock(&self.slots).get(question)?.fresh()
    }

    /// Returns the last answer, however old. Never waits.
    pub(super) fn known(&self, question: &Q) -> Option<A> {
        lock(&self.slots).get(question)?.last()
    }

    /// Asks a question. Returns what was known before if there is no answer by the deadline, and `None` if nothing was known.
    pub(super) async fn find(&self, question: &Q, deadline: Instant) -> Option<A> {
        let slot = self.slot(question);
        if let Some(answer) = slot.fresh() {
            return Some(answer);
        }
        // An earlier caller has not been answered in time: nobody waits as long again.
        let deadline = if *lock(&slot.gave_up) > 0 { Instant::now() } else { deadline };
        let work = {
            let (slot, look_up, readers) = (Arc::clone(&slot), self.look_up, self.readers.clone());
            let question = question.clone();
            move |_| async move {
                if let Ok(answer) = readers.run(move || look_up(&question)).await {
                    *lock(&slot.known) = Some((answer, Instant::now()));
                }
                *lock(&slot.gave_up) = 0;
            }
        };
        if timeout_at(deadline, slot.asking.join(work)).await.is_err() {
            *lock(&slot.gave_up) += 1;
        }
        slot.last()
    }

    fn slot(&self, question: &Q) -> Arc<Slot<A>> {
        let mut slots = lock(&self.slots);
        if slots.len() >= KEPT_MAX && !slots.contains_key(question) {
            // A slot that is in use is known to its user, too.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.fresh().is_some());
        }
        let new = || Arc::new(Slot { asking: Flight::default(), known: Mutex::new(None), gave_up: Mutex::new(0) });
        Arc::clone(slots.entry(question.clone()).or_insert_with(new))
    }
}

impl<A: Clone> Slot<A> {
    fn fresh(&self) -> Option<A> {
        let known = lock(&self.known);
        known.as_ref().filter(|(_, asked)| asked.elapsed() < FRESH).map(|(answer, _)| answer.clone())
    }

    fn last(&self) -> Option<A> {
        lock(&self.known).as_ref().map(|(answer, _)| answer.clone())
    }
}

impl<Q, A> fmt::Debug for Asked<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("questions", &lock(&self.slots).len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// A database that does not answer for odd numbers.
    fn hang(number: &u32) -> String {
        if number % 2 == 1 {
            thread::sleep(Duration::from_secs(3600));
        }
        number.to_string()
    }

    #[test]
    fn a_question_that_is_not_answered_in_time_delays_no_other() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let asked = Asked::new(hang, 2);
        runtime.block_on(async {
            let within = |ms| Instant::now() + Duration::from_millis(ms);
            for number in [1, 3, 5, 1, 3, 5] {
                assert!(asked.find(&number, within(150)).await.is_none());
            }
            assert_eq!(asked.find(&2, within(20_000)).await.as_deref(), Some("2"));
            assert_eq!(asked.cached(&2).as_deref(), Some("2"));
            assert_eq!((asked.cached(&1), asked.known(&1)), (None, None));
        });
        runtime.shutdown_background();
    }

    #[test]
    fn only_so_many_answers_are_kept() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let asked = Asked::new(|number: &usize| *number, 2);
            for number in 0..KEPT_MAX {
                asked.slot(&number);
            }
            assert_eq!(lock(&asked.slots).len(), KEPT_MAX);
            asked.slot(&KEPT_MAX);
            assert_eq!(lock(&asked.slots).len(), 1);
        });
    }
}
