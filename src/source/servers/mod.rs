//! File servers: what they export, whether they serve, and which of several is mounted from.
//!
//! Each server has deadlines of its own, so that dead ones delay nobody who wants something of others; one that was silent is
//! left alone for a while ([`breaker`]).

mod breaker;
mod choice;
mod client;
mod exports;
mod near;
mod probe;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use self::breaker::{Breakers, Pass};
use self::choice::Candidate;
pub use self::choice::Choosing;
pub use self::client::CallError;
use self::probe::Serves;
use super::{Hosts, News, Tallies};
use crate::plan::{Tested, Wanted, Way};
use crate::text::Escaped;

/// How long a server may take to answer a probe.
const PROBE: Duration = Duration::from_millis(3500);

/// The file servers of the network.
#[derive(Debug)]
pub struct Servers {
    hosts: Arc<Hosts>,
    exporting: Breakers<Arc<[u8]>>,
    /// Shared with the questions, which go on when nothing waits for them any more.
    serving: Arc<Breakers<(IpAddr, Wanted)>>,
    /// Receiver of the news that a server is silent, or answers again.
    tallies: Arc<Tallies>,
}

impl Servers {
    /// Servers whose addresses `hosts` knows.
    pub fn new(hosts: &Arc<Hosts>) -> Self {
        Self {
            hosts: Arc::clone(hosts),
            exporting: Breakers::default(),
            serving: Arc::default(),
            tallies: Arc::default(),
        }
    }

    /// Tells its news to others than before.
    pub(super) fn reporting(self, tallies: &Arc<Tallies>) -> Self {
        Self { tallies: Arc::clone(tallies), ..self }
    }

    /// Servers, with a name service that is asked by so many threads at a time.
    pub fn with_hosts(width: usize) -> Self {
        Self::new(&Arc::new(Hosts::new(width)))
    }

    /// Asks a server which directories it exports. All its addresses are asked, each a little later than the one before.
    /// Returns `None` if the name service does not know the name.
    pub(crate) async fn exports(&self, host: &[u8], deadline: Instant) -> Option<Result<Vec<Vec<u8>>, CallError>> {
        let addresses = self.hosts.addresses(host, deadline).await;
        if addresses.is_empty() {
            return None;
        }
        let breaker: Arc<[u8]> = host.into();
        if self.exporting.pass(&breaker) != Pass::Ask {
            return Some(Err(CallError::TimedOut));
        }
        let mut asking = JoinSet::new();
        for (address, number) in addresses.iter().copied().zip(0..) {
            asking.spawn(async move {
                tokio::time::sleep(client::STAGGER * number).await;
                client::by(deadline, exports::of(address)).await
            });
        }
        let mut last = CallError::TimedOut;
        while let Some(Ok(answer)) = asking.join_next().await {
            match answer {
                Ok(exports) => {
                    if self.exporting.answered(&breaker) {
                        self.tallies.tell(News::Server(format!("server {} answers again", Escaped(host))));
                    }
                    return Some(Ok(exports));
                }
                Err(e) => last = if last.is_silence() { e } else { last },
            }
        }
        if last.is_silence() && self.exporting.was_silent(&breaker) {
            self.tallies.tell(News::Server(format!("server {} does not answer: {last}", Escaped(host))));
        }
        Some(Err(last))
    }

    /// Forgets which servers were silent: the network has changed.
    pub(crate) fn forget(&self) {
        self.exporting.forget();
        self.serving.forget();
    }

    /// Asks servers at the same time how they serve. When one has answered, the others have a little time left; what they
    /// answer after that is known to the next caller.
    async fn test(&self, group: &[Candidate], wanted: Wanted) -> Vec<(Tested, String)> {
        let begun = Instant::now();
        // Each probe ends by itself.
        let (mut asking, mut deadline) = (JoinSet::new(), begun + 2 * PROBE);
        let late = || (Tested::Untested, "has not answered yet".to_owned());
        let mut results: Vec<(Tested, String)> = group.iter().map(|_| late()).collect();
        let mut unanswered = BTreeSet::new();
        for ((number, candidate), result) in group.iter().enumerate().zip(&mut results) {
            let (key, serving) = ((candidate.address, wanted), Arc::clone(&self.serving));
            let tallies = Arc::clone(&self.tallies);
            match serving.pass(&key) {
                Pass::Ask => {
                    unanswered.insert(number);
                    asking.spawn(async move { (number, ask(&serving, &tallies, key, begun + PROBE).await) });
                }
                Pass::Late => {}
                Pass::Silent => *result = (Tested::Dead, "was silent a short time ago".to_owned()),
            }
        }
        let mut answered = false;
        while let Ok(Some(Ok((number, answer)))) = timeout_at(deadline, asking.join_next()).await {
            unanswered.remove(&number);
            let Some(result) = results.get_mut(number) else { continue };
            *result = match answer {
                Ok(serves) => {
                    if !answered {
                        answered = true;
                        deadline = Instant::now() + probe::grace(begun.elapsed());
                    }
                    let told =
                        format!("answers in {:.1} ms: {}", serves.micros as f64 / 1000.0, Way::list(&serves.ways));
                    (Tested::Serves(serves.ways, serves.micros), told)
                }
                Err(e) if e.is_no_route() => (Tested::Untested, "this machine has no route to it".to_owned()),
                Err(e) => (Tested::Dead, e.to_string()),
            };
        }
        for candidate in unanswered.into_iter().filter_map(|number| group.get(number)) {
            self.serving.is_late(&(candidate.address, wanted));
        }
        asking.detach_all();
        results
    }
}

/// Asks a server how it serves, and notes whether it was silent.
async fn ask(
    serving: &Breakers<(IpAddr, Wanted)>,
    tallies: &Tallies,
    key: (IpAddr, Wanted),
    deadline: Instant,
) -> Result<Serves, CallError> {
    let answer = probe::server(key.0, key.1, deadline).await;
    match &answer {
        Err(e) if e.is_silence() => {
            if serving.was_silent(&key) {
                tallies.tell(News::Server(format!("server {} does not answer: {e}", key.0)));
            }
        }
        _ => {
            if serving.answered(&key) {
                tallies.tell(News::Server(format!("server {} answers again", key.0)));
            }
        }
    }
    answer
}

#[cfg(test)]
mod tests;
