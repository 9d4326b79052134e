//! The addresses of servers, asked in a lane of its own.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use log::error;
use tokio::time::{Instant, timeout_at};

use super::{Flight, Readers};
use crate::mutex::lock;
use crate::plan::Host;
use crate::text::Escaped;

/// How long this machine's own NFS server may take to accept a connection.
const OWN_SERVER: Duration = Duration::from_secs(2);

/// The port of NFS.
const NFS: u16 = 2049;

/// Servers whose last answer is kept, at most; beyond that, all answers are forgotten.
const KEPT_MAX: usize = 4096;

/// The name service for servers.
#[derive(Debug)]
pub struct Hosts {
    readers: Readers,
    slots: Mutex<HashMap<Arc<[u8]>, Arc<Slot>>>,
}

#[derive(Debug, Default)]
struct Slot {
    asking: Flight,
    answer: Mutex<Option<(Host, Arc<[IpAddr]>)>>,
    /// Callers that have stopped waiting for the question that is under way.
    gave_up: Mutex<usize>,
}

impl Hosts {
    /// The name service of this machine, asked by so many threads at a time.
    pub fn new(width: usize) -> Self {
        Self { readers: Readers::new(width), slots: Mutex::default() }
    }

    /// Returns the addresses of a server, as [`find`](Self::find) does where it is. They are in the order in which the name
    /// service gives them; there are none if it does not know the name.
    pub async fn addresses(&self, name: &[u8], deadline: Instant) -> Arc<[IpAddr]> {
        self.ask(name, deadline).await.map_or_else(|| Arc::from([]), |(_, addresses)| addresses)
    }

    /// Asks where a server is. Each server is asked for by one thread at a time. Without an answer by the deadline it is
    /// what was said before, else [`Host::Unknown`].
    pub async fn find(&self, name: &[u8], deadline: Instant) -> Host {
        self.ask(name, deadline).await.map_or(Host::Unknown, |(host, _)| host)
    }

    async fn ask(&self, name: &[u8], deadline: Instant) -> Option<(Host, Arc<[IpAddr]>)> {
        let slot = self.slot(name);
        let deadline = if *lock(&slot.gave_up) > 0 { Instant::now() } else { deadline };
        let work = {
            let (slot, readers, name) = (Arc::clone(&slot), self.readers.clone(), name.to_vec());
            move |_| async move {
                if let Ok(reach) = readers.run(move || look_up(&name)).await {
                    *lock(&slot.answer) = Some(reach);
                }
                *lock(&slot.gave_up) = 0;
            }
        };
        if timeout_at(deadline, slot.asking.join(work)).await.is_err() {
            *lock(&slot.gave_up) += 1;
        }
        lock(&slot.answer).clone()
    }

    fn slot(&self, name: &[u8]) -> Arc<Slot> {
        let mut slots = lock(&self.slots);
        if slots.len() >= KEPT_MAX {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        if let Some(slot) = slots.get(name) {
            return Arc::clone(slot);
        }
        Arc::clone(slots.entry(name.into()).or_default())
    }
}

/// Asks the name service. Blocks.
fn look_up(name: &[u8]) -> (Host, Arc<[IpAddr]>) {
    let found = match std::str::from_utf8(name) {
        Ok(name) => (name, 0).to_socket_addrs(),
        Err(_) => Err(std::io::Error::other("the name is not UTF-8")),
    };
    let addresses: Arc<[IpAddr]> = match found {
        Ok(addresses) => addresses.map(|address| address.ip()).collect(),
        Err(e) => {
            let text = e.to_string();
            let reason = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
            error!("hostname lookup for {} failed: {reason}", Escaped(name));
            return (Host::Unknown, Arc::from([]));
        }
    };
    let host = match addresses.iter().find(|address| is_ours(**address)) {
        Some(own) => {
            let server = SocketAddr::new(*own, NFS);
            Host::Local { serves: TcpStream::connect_timeout(&server, OWN_SERVER).is_ok() }
        }
        None if addresses.is_empty() => Host::Unknown,
        None => Host::Remote,
    };
    (host, addresses)
}

/// Returns whether an address is this machine's: only then a socket can be bound to it.
fn is_ours(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}
