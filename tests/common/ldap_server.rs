//! A stand-in for an LDAP server on the loopback device of a world: maps in the schema of RFC 2307bis below `dc=ex`.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::world::put;

/// Address of the server.
const ADDRESS: &str = "127.0.0.1:389";

/// Address of another server.
pub const OTHER: &str = "127.0.0.2:389";

/// Below which entry the maps are.
const BASE: &str = "dc=ex";

/// Reaction to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// An answer.
    Answer,
    /// An answer after a pause.
    Slow(Duration),
    /// Nothing.
    Silent,
    /// Bytes that are no LDAP.
    Garbage,
}

#[derive(Debug)]
struct Shared {
    maps: Mutex<BTreeMap<String, BTreeMap<String, String>>>,
    mode: Mutex<Mode>,
    searches: AtomicUsize,
    /// Entries of maps that were sent.
    sent: AtomicUsize,
    /// How many changes there were.
    changes: AtomicUsize,
}

/// The directory, with a server that can be stopped.
#[derive(Debug)]
pub struct Directory {
    shared: Arc<Shared>,
    address: &'static str,
    server: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

/// Returns why there can be no LDAP here, if so.
pub fn lacking() -> Option<&'static str> {
    let libraries = Command::new("ldconfig").arg("-p").output().ok().map(|output| output.stdout).unwrap_or_default();
    let is_there = String::from_utf8_lossy(&libraries).lines().any(|line| line.trim_start().starts_with("libldap"));
    (!is_there).then_some("needs libldap")
}

/// Configures automount for the directory. The server does not run yet.
pub fn install() -> Directory {
    put(
        "/etc/autofs.conf",
        format!(
            "[ autofs ]\ntimeout = 300\nbrowse_mode = no\nmount_wait = 10\nnegative_timeout = 1\n\
             ldap_uri = \"ldap://127.0.0.1\"\nsearch_base = \"{BASE}\"\n"
        ),
    );
    at(ADDRESS)
}

/// Creates a directory without maps, whose server does not run yet and is in no configuration.
pub fn at(address: &'static str) -> Directory {
    let shared = Shared {
        maps: Mutex::default(),
        mode: Mutex::new(Mode::Answer),
        searches: AtomicUsize::new(0),
        sent: AtomicUsize::new(0),
        changes: AtomicUsize::new(0),
    };
    Directory { shared: Arc::new(shared), address, server: None }
}

impl Directory {
    /// Sets an entry.
    pub fn set(&self, map: &str, key: &str, value: &str) {
        let mut maps = self.shared.maps.lock().unwrap();
        maps.entry(map.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
        self.shared.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// How many entries of maps were sent.
    pub fn sent(&self) -> usize {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Sets what comes of requests from now on.
    pub fn set_mode(&self, mode: Mode) {
        *self.shared.mode.lock().unwrap() = mode;
    }

    /// How many searches there were.
    pub fn searches(&self) -> usize {
        self.shared.searches.load(Ordering::Relaxed)
    }

    /// Starts the server.
    pub fn start(&mut self) {
        let listener = TcpListener::bind(self.address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, shared) = (Arc::<AtomicBool>::default(), Arc::clone(&self.shared));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut streams: Vec<TcpStream> = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(2));
                let Ok((stream, _)) = listener.accept() else { continue };
                stream.set_nonblocking(false).unwrap();
                streams.push(stream.try_clone().unwrap());
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.serve(stream));
            }
            for stream in streams {
                _ = stream.shutdown(Shutdown::Both);
            }
        });
        self.server = Some((stop, thread));
    }

    /// Ends the server, with all connections.
    pub fn stop(&mut self) {
        let (stop, thread) = self.server.take().unwrap();
        stop.store(true, Ordering::Relaxed);
        thread.join().unwrap();
    }
}

/// An entry of the directory.
struct Entry {
    dn: String,
    attributes: Vec<(&'static str, String)>,
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) {
        let mut received = Vec::new();
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut piece) {
            received.extend_from_slice(&piece[..length]);
            while let Some((message, rest)) = whole(&received) {
                let (message, rest) = (message.to_vec(), rest.to_vec());
                received = rest;
                let mode = *self.mode.lock().unwrap();
                let answer = match mode {
                    Mode::Silent => continue,
                    Mode::Garbage => b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
                    Mode::Slow(pause) => {
                        thread::sleep(pause);
                        self.answer(&message)
                    }
                    Mode::Answer => self.answer(&message),
                };
                if stream.write_all(&answer).is_err() {
                    return;
                }
            }
        }
    }

    fn answer(&self, mut message: &[u8]) -> Vec<u8> {
        let mut message = tlv(&mut message).unwrap().1;
        let id = tlv(&mut message).unwrap().1.to_vec();
        let (operation, mut request) = tlv(&mut message).unwrap();
        let reply = |content: Vec<u8>| wrap(0x30, &[wrap(2, &id), content].concat());
        let result = |tag, code: u8| reply(wrap(tag, &[wrap(10, &[code]), wrap(4, b""), wrap(4, b"")].concat()));
        match operation {
            // bind, search, an extended operation
            0x60 => result(0x61, 0),
            0x63 => {
                self.searches.fetch_add(1, Ordering::Relaxed);
                let base = String::from_utf8(tlv(&mut request).unwrap().1.to_vec()).unwrap().to_lowercase();
                let scope = tlv(&mut request).unwrap().1[0];
                for _ in 0..4 {
                    tlv(&mut request).unwrap();
                }
                let filter = tlv(&mut request).unwrap();
                let mut wanted = Vec::new();
                let mut attributes = tlv(&mut request).unwrap().1;
                while let Some((_, name)) = tlv(&mut attributes) {
                    wanted.push(String::from_utf8_lossy(name).to_lowercase());
                }
                let all = self.entries();
                if !base.is_empty() && !all.iter().any(|entry| entry.dn.to_lowercase() == base) {
                    return result(0x65, 32);
                }
                let mut replies = Vec::new();
                if base.is_empty() {
                    let root = Entry { dn: String::new(), attributes: vec![("namingContexts", BASE.to_owned())] };
                    return [reply(root.encode(&wanted)), result(0x65, 0)].concat();
                }
                for entry in all.iter().filter(|entry| entry.is_in(&base, scope) && entry.matches(filter)) {
                    replies.extend(reply(entry.encode(&wanted)));
                    self.sent.fetch_add(usize::from(entry.is_of_a_map()), Ordering::Relaxed);
                }
                replies.extend(result(0x65, 0));
                replies
            }
            0x77 => result(0x78, 2),
            _ => Vec::new(),
        }
    }

    fn entries(&self) -> Vec<Entry> {
        let number = format!("{:06}", self.changes.load(Ordering::Relaxed));
        let attributes = vec![("objectClass", "domain".to_owned()), ("contextCSN", number)];
        let mut all = vec![Entry { dn: BASE.to_owned(), attributes }];
        for (map, entries) in &*self.maps.lock().unwrap() {
            let dn = format!("automountMapName={map},{BASE}");
            for (key, value) in entries {
                // Keys of the tests have no characters that a DN must escape.
                all.push(Entry {
                    dn: format!("automountKey={key},{dn}"),
                    attributes: vec![
                        ("objectClass", "automount".to_owned()),
                        ("automountKey", key.clone()),
                        ("automountInformation", value.clone()),
                    ],
                });
            }
            let attributes = vec![("objectClass", "automountMap".to_owned()), ("automountMapName", map.clone())];
            all.push(Entry { dn, attributes });
        }
        all
    }
}

impl Entry {
    fn is_of_a_map(&self) -> bool {
        self.attributes.iter().any(|(name, _)| *name == "automountKey")
    }

    fn is_in(&self, base: &str, scope: u8) -> bool {
        let dn = self.dn.to_lowercase();
        match scope {
            0 => dn == base,
            1 => dn.strip_suffix(base).is_some_and(|rest| rest.matches(',').count() == 1),
            _ => dn == base || dn.ends_with(&format!(",{base}")),
        }
    }

    fn matches(&self, (kind, mut content): (u8, &[u8])) -> bool {
        let mut parts = std::iter::from_fn(|| tlv(&mut content));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_lowercase();
        match kind {
            0xa0 => parts.all(|part| self.matches(part)),
            0xa1 => parts.any(|part| self.matches(part)),
            0xa2 => !parts.any(|part| self.matches(part)),
            0xa3 => {
                let (name, value) = (text(parts.next().unwrap().1), text(parts.next().unwrap().1));
                self.attributes.iter().any(|(n, v)| n.to_lowercase() == name && v.to_lowercase() == value)
            }
            0x87 => {
                let name = text(content);
                self.attributes.iter().any(|(n, _)| n.to_lowercase() == name)
            }
            other => panic!("a filter of kind {other:#x}"),
        }
    }

    fn encode(&self, wanted: &[String]) -> Vec<u8> {
        let is_wanted =
            |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == "*" || *one == name.to_lowercase());
        let attributes = self.attributes.iter().filter(|(name, _)| is_wanted(name));
        let attribute = |(name, value): &(&str, String)| {
            wrap(0x30, &[wrap(4, name.as_bytes()), wrap(0x31, &wrap(4, value.as_bytes()))].concat())
        };
        let attributes: Vec<u8> = attributes.flat_map(attribute).collect();
        wrap(0x64, &[wrap(4, self.dn.as_bytes()), wrap(0x30, &attributes)].concat())
    }
}

/// Splits the length off, and what it counts.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        return Some((first.into(), rest));
    }
    let (number, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
    Some((number.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)), rest))
}

/// Takes a tag and its content.
fn tlv<'a>(bytes: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (length, rest) = length(rest)?;
    let (content, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some((tag, content))
}

/// Splits the first message off, if it is there as a whole.
fn whole(received: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = received;
    tlv(&mut rest)?;
    Some(received.split_at(received.len() - rest.len()))
}

fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x84], &length[..], content].concat()
}
