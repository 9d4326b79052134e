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

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use self::breaker::Breakers;
use self::choice::Candidate;
pub use self::choice::Choosing;
pub use self::client::CallError;
use super::Hosts;
use crate::plan::{Tested, Wanted};

/// How long a server may take to answer a probe.
const PROBE: Duration = Duration::from_millis(3500);

/// The file servers of the network.
#[derive(Debug)]
pub struct Servers {
    hosts: Arc<Hosts>,
    exporting: Breakers<Arc<[u8]>>,
    serving: Breakers<(IpAddr, Wanted)>,
}

impl Servers {
    /// Servers whose addresses `hosts` knows.
    pub fn new(hosts: &Arc<Hosts>) -> Self {
        Self { hosts: Arc::clone(hosts), exporting: Breakers::default(), serving: Breakers::default() }
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
        if !self.exporting.lets_through(&breaker) {
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
                    self.exporting.answered(&breaker);
                    return Some(Ok(exports));
                }
                Err(e) => last = if last.is_silence() { e } else { last },
            }
        }
        if last.is_silence() {
            self.exporting.was_silent(&breaker);
        }
        Some(Err(last))
    }

    /// Asks servers at the same time how they serve. When one has answered, the others have a little time left.
    async fn test(&self, group: &[Candidate], wanted: Wanted) -> Vec<(Tested, String)> {
        let begun = Instant::now();
        // Each probe ends by itself.
        let (mut asking, mut deadline) = (JoinSet::new(), begun + 2 * PROBE);
        let mut results: Vec<(Tested, String)> =
            group.iter().map(|_| (Tested::Untested, "has not answered yet".to_owned())).collect();
        for (number, candidate) in group.iter().enumerate() {
            let address = candidate.address;
            if self.serving.lets_through(&(address, wanted)) {
                let asked = async move { (number, probe::server(address, wanted, begun + PROBE).await) };
                asking.spawn(asked);
            } else if let Some(result) = results.get_mut(number) {
                *result = (Tested::Dead, "was silent a short time ago".to_owned());
            }
        }
        let mut answered = false;
        while let Ok(Some(Ok((number, answer)))) = timeout_at(deadline, asking.join_next()).await {
            let (Some(candidate), Some(result)) = (group.get(number), results.get_mut(number)) else { continue };
            let key = (candidate.address, wanted);
            *result = match answer {
                Ok(serves) => {
                    self.serving.answered(&key);
                    if !answered {
                        answered = true;
                        deadline = Instant::now() + probe::grace(begun.elapsed());
                    }
                    let told = format!("answers in {:.1} ms: {:?}", serves.micros as f64 / 1000.0, serves.ways);
                    (Tested::Serves(serves.ways, serves.micros), told)
                }
                Err(e) if e.is_no_route() => (Tested::Untested, "this machine has no route to it".to_owned()),
                Err(e) => {
                    if e.is_silence() {
                        self.serving.was_silent(&key);
                    }
                    (Tested::Dead, e.to_string())
                }
            };
        }
        results
    }
}

#[cfg(test)]
mod tests;
