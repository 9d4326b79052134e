//! The lookup process: the program, started again by the worker to ask one directory service.
//!
//! The libraries of directory services block, and what servers send is parsed by them. So they run in a process of their own:
//! if one hangs, crashes or leaks, the worker kills that process and starts another one. The process has no capabilities, no
//! descriptors but a socket to the worker, and an environment made from nothing. It runs as the user nobody if the service answers
//! every user. That for NIS keeps one capability, to call from ports below 1024. It ends when the worker closes the socket.

mod attempts;
mod hesiod;
mod ldap;
mod nis;
mod serve;
mod sss;

use std::ffi::OsStr;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use crate::directory::protocol::Trouble;
use crate::directory::{Map, Pair, Settings};
use crate::sys::{exec, path};

/// The first argument with which the program runs as a lookup process; the second is the name of the service.
pub(crate) const ARGUMENT: &str = "--internal-lookup";

/// Why a service gives no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    trouble: Trouble,
    text: String,
}

impl Failure {
    /// The service does not answer now.
    fn unavailable(text: impl ToString) -> Self {
        Self { trouble: Trouble::Unavailable, text: text.to_string() }
    }

    /// The service is not set up here.
    fn unusable(text: impl ToString) -> Self {
        Self { trouble: Trouble::Unusable, text: text.to_string() }
    }

    /// The service does not run here.
    fn not_running(text: impl ToString) -> Self {
        Self { trouble: Trouble::NotRunning, text: text.to_string() }
    }

    /// The service has no such map.
    fn no_map(map: &Map) -> Self {
        let text = format!("there is no map {}", crate::text::Escaped(&map.name));
        Self { trouble: Trouble::NoMap, text }
    }
}

/// An entry that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    text: Vec<u8>,
    /// Seconds for which it holds, if the service says so.
    holds: Option<u32>,
}

/// One directory service. Several threads ask it at a time.
trait Service: Send + Sync {
    /// Returns whether it must be asked by root: for a file that only root can read, or a server that asks who calls.
    fn needs_root(&self) -> bool;

    /// Returns whether servers ask for calls from ports below 1024.
    fn needs_reserved_ports(&self) -> bool {
        false
    }

    /// Checks what can be checked without asking a server.
    fn ready(&self, map: &Map) -> Result<(), Failure>;

    /// Finds a map, and says where it is.
    fn probe(&self, map: &Map, deadline: Instant) -> Result<String, Failure>;

    /// Returns bytes that are others after every change of a map. `None`: only reading the map tells.
    fn version(&self, _map: &Map, _deadline: Instant) -> Result<Option<Vec<u8>>, Failure> {
        Ok(None)
    }

    /// Returns the entry of a key, or of the wildcard where the map may have one.
    fn lookup(&self, map: &Map, key: &[u8], deadline: Instant) -> Result<Option<Entry>, Failure>;

    /// Returns how many keys of a map may be asked for at once.
    fn batch(&self) -> usize {
        1
    }

    /// Returns the entries of some keys, in their order, as [`lookup`](Self::lookup) does. A failure may be due to one of the keys.
    fn lookup_all(&self, map: &Map, keys: &[&[u8]], deadline: Instant) -> Result<Vec<Option<Entry>>, Failure> {
        keys.iter().map(|key| self.lookup(map, key, deadline)).collect()
    }

    /// Gives all entries to `each`. Returns whether the service has more than it gives.
    fn entries(&self, map: &Map, deadline: Instant, each: &mut dyn FnMut(Pair)) -> Result<bool, Failure>;
}

/// Has the system's resolver ask a silent server again after two seconds instead of five, unless resolv.conf(5) has another time:
/// then a server that returns is used within five seconds. To be called while there is one thread.
fn hasten_resolver() {
    let mut text = Vec::new();
    let read =
        path::open_to_read(Path::new("/etc/resolv.conf")).and_then(|file| file.take(64 << 10).read_to_end(&mut text));
    if read.is_err() || memchr::memmem::find(&text, b"timeout:").is_none() {
        exec::set_variable("RES_OPTIONS", b"timeout:2 attempts:3");
    }
}

/// Opens a service by its name in the master map.
fn open(service: &OsStr, settings: Settings) -> Option<Box<dyn Service>> {
    hasten_resolver();
    match service.as_encoded_bytes() {
        b"ldap" => Some(Box::new(ldap::LdapService::new(settings))),
        b"hesiod" => Some(Box::new(hesiod::HesiodService::new())),
        b"nis" => Some(Box::new(nis::NisService::default())),
        b"sss" => Some(Box::new(sss::SssService::default())),
        _ => None,
    }
}

/// Runs the lookup process of a service, on the socket that is standard input.
pub(crate) fn main(service: &OsStr) -> ExitCode {
    match serve::run(|settings| open(service, settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
