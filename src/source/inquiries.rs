//! What entries in am-utils format ask about the machine and the network, asked on threads of their own.
//!
//! A path may be on a server that is dead, a name service may not answer. Each question is asked by one thread at a time,
//! and without an answer by the deadline it is answered by what was said before.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::time::{Instant, timeout_at};

use super::{Flight, Readers, networks};
use crate::map::amd::{Answer, Question};
use crate::mutex::lock;
use crate::source::configuration;
use crate::sys::names::{addresses, canonical, in_netgroup, interfaces};
use crate::sys::{path, user};

/// Questions whose last answer is kept, at most.
const KEPT_MAX: usize = 4096;

/// File with the names of networks.
const NETWORKS: &str = "/etc/networks";

/// Questions about the machine and the network.
#[derive(Debug)]
pub struct Inquiries {
    readers: Readers,
    look_up: fn(&Question) -> Answer,
    slots: Mutex<HashMap<Question, Arc<Slot>>>,
}

#[derive(Debug, Default)]
struct Slot {
    asking: Flight,
    answer: Mutex<Option<Answer>>,
    /// Callers that have stopped waiting for the question that is under way.
    gave_up: Mutex<usize>,
}

impl Inquiries {
    /// This machine and its name services, asked by so many threads at a time.
    pub fn new(width: usize) -> Self {
        Self::with(look_up, width)
    }

    fn with(look_up: fn(&Question) -> Answer, width: usize) -> Self {
        Self { readers: Readers::new(width), look_up, slots: Mutex::default() }
    }

    /// Asks a question. Returns what was said before if there is no answer by the deadline, and `None` if nothing was.
    pub async fn find(&self, question: &Question, deadline: Instant) -> Option<Answer> {
        let slot = self.slot(question);
        // An earlier caller has not been answered in time: nobody waits as long again.
        let deadline = if *lock(&slot.gave_up) > 0 { Instant::now() } else { deadline };
        let work = {
            let (slot, readers, look_up) = (Arc::clone(&slot), self.readers.clone(), self.look_up);
            let question = question.clone();
            move |_| async move {
                if let Ok(answer) = readers.run(move || look_up(&question)).await {
                    *lock(&slot.answer) = Some(answer);
                }
                *lock(&slot.gave_up) = 0;
            }
        };
        if timeout_at(deadline, slot.asking.join(work)).await.is_err() {
            *lock(&slot.gave_up) += 1;
        }
        let answer = lock(&slot.answer);
        answer.clone()
    }

    fn slot(&self, question: &Question) -> Arc<Slot> {
        let mut slots = lock(&self.slots);
        if slots.len() >= KEPT_MAX {
            // A slot that is in use is known to its user, too.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(question.clone()).or_default())
    }
}

/// Finds an answer. Blocks.
fn look_up(question: &Question) -> Answer {
    match question {
        Question::Exists(target) => Answer::Is(path::lstat(Path::new(OsStr::from_bytes(target))).is_ok()),
        Question::OnNetwork(network) => {
            let own = interfaces().unwrap_or_default();
            Answer::Is(network_address(network).is_some_and(|address| networks::is_on_subnet(address, &own)))
        }
        Question::IsThisHost(host) => {
            let own = user::machine().ok().map(|machine| machine.host.as_bytes().to_vec());
            let own = own.and_then(|own| canonical(&own));
            Answer::Is(own.is_some() && canonical(host) == own)
        }
        Question::InNetgroup { group, host } => Answer::Is(in_netgroup(group, host)),
        Question::Canonical(host) => canonical(host).map_or(Answer::Is(false), Answer::Name),
        Question::IsNear(host) => {
            let own = interfaces().unwrap_or_default();
            Answer::Is(addresses(host).into_iter().any(|address| networks::is_near(address, &own)))
        }
    }
}

/// Returns the address of a network that is given by name or number, or of a host.
fn network_address(name: &[u8]) -> Option<IpAddr> {
    let number = std::str::from_utf8(name).ok().and_then(networks::parse);
    let named = || networks::named(&configuration::read(Path::new(NETWORKS)).ok()?, name);
    number.or_else(named).or_else(|| addresses(name).into_iter().next())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn hang(question: &Question) -> Answer {
        if matches!(question, Question::Exists(_)) {
            std::thread::sleep(Duration::from_secs(3600));
        }
        Answer::Is(true)
    }

    #[test]
    fn a_path_that_hangs_delays_no_other_question() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let inquiries = Inquiries::with(hang, 2);
        runtime.block_on(async {
            let within = |ms| Instant::now() + Duration::from_millis(ms);
            for path in ["/a", "/b", "/c", "/a", "/b", "/c"] {
                let question = Question::Exists(path.into());
                assert_eq!(inquiries.find(&question, within(150)).await, None);
            }
            let question = Question::IsNear(b"srv".to_vec());
            assert_eq!(inquiries.find(&question, within(20_000)).await, Some(Answer::Is(true)));
        });
        runtime.shutdown_background();
    }

    #[test]
    fn what_exists_and_what_does_not() {
        let is = |question| look_up(&question) == Answer::Is(true);
        assert!(is(Question::Exists(b"/proc/self".to_vec())));
        assert!(!is(Question::Exists(b"/proc/none".to_vec())));
        assert!(is(Question::OnNetwork(b"127".to_vec())) || interfaces().unwrap().is_empty());
        assert!(!is(Question::OnNetwork(b"no such network".to_vec())));
        assert!(!is(Question::InNetgroup { group: b"none".to_vec(), host: b"none".to_vec() }));
    }
}
