//! A stand-in for a DNS server on the loopback device of a world, with Hesiod records.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::world::put;

const TXT: u16 = 16;

/// A class of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// `IN`
    Internet = 1,
    /// `HS`
    Hesiod = 4,
}

/// Reaction to queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// An answer.
    #[default]
    Answer,
    /// Nothing.
    Silent,
    /// Bytes that are no answer.
    Garbage,
}

type Records = BTreeMap<(String, u16), Vec<String>>;

/// The DNS, with a server that can be stopped.
#[derive(Debug, Default)]
pub struct Dns {
    records: Arc<Mutex<Records>>,
    mode: Arc<Mutex<Mode>>,
    server: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

/// Configures the resolver for the server, and Hesiod for the domain `ex`. The server does not run yet.
pub fn install() -> Dns {
    put("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    put("/etc/hesiod.conf", "lhs=.ns\nrhs=.ex\n");
    Dns::default()
}

impl Dns {
    /// Adds a text record for the file system of a key.
    pub fn add(&self, key: &str, class: Class, text: &str) {
        let name = format!("{key}.filsys.ns.ex");
        self.records.lock().unwrap().entry((name, class as u16)).or_default().push(text.to_owned());
    }

    /// Sets what comes of queries from now on.
    pub fn set_mode(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    /// Starts the server.
    pub fn start(&mut self) {
        let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (stop, records, mode) = (Arc::<AtomicBool>::default(), Arc::clone(&self.records), Arc::clone(&self.mode));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut buffer = [0; 512];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let answer = match *mode.lock().unwrap() {
                    Mode::Answer => answer(&buffer[..length], &records.lock().unwrap()),
                    Mode::Silent => continue,
                    Mode::Garbage => [&buffer[..2], b"no answer at all"].concat(),
                };
                let _: std::io::Result<usize> = socket.send_to(&answer, from);
            }
        });
        self.server = Some((stop, thread));
    }

    /// Ends the server.
    pub fn stop(&mut self) {
        let (stop, thread) = self.server.take().unwrap();
        stop.store(true, Ordering::Relaxed);
        thread.join().unwrap();
    }
}

/// Answers a query with one question.
fn answer(query: &[u8], records: &Records) -> Vec<u8> {
    let mut labels: Vec<String> = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    let question = &query[12..at + 5];
    let number = |at: usize| u16::from_be_bytes([query[at], query[at + 1]]);
    let (kind, class) = (number(at + 1), number(at + 3));
    let found = records.get(&(labels.join("."), class)).filter(|_| kind == TXT);
    let count = u16::try_from(found.map_or(0, Vec::len)).unwrap();
    // A response to a recursive query; NXDOMAIN without records.
    let flags: [u8; 2] = [0x85, if count > 0 { 0x80 } else { 0x83 }];
    let mut message = [&query[..2], &flags, &[0, 1], &count.to_be_bytes(), &[0; 4], question].concat();
    for text in found.into_iter().flatten() {
        message.extend([0xc0, 12]);
        message.extend(TXT.to_be_bytes());
        message.extend(class.to_be_bytes());
        message.extend(60_u32.to_be_bytes());
        message.extend(u16::try_from(text.len() + 1).unwrap().to_be_bytes());
        message.push(u8::try_from(text.len()).unwrap());
        message.extend(text.as_bytes());
    }
    message
}
