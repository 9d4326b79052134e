//! Maps of sssd(8).

use std::io;
use std::sync::OnceLock;
use std::time::Instant;

use super::{Entry, Failure, Service};
use crate::directory::{Map, Pair, Scope};
use crate::sys::sss::Sss;

/// ECONNREFUSED on Linux, for all architectures but a few that no sssd runs on.
const CONNECTION_REFUSED: i32 = 111;

/// The service.
#[derive(Debug, Default)]
pub(super) struct SssService {
    library: OnceLock<Result<Sss, String>>,
}

impl SssService {
    fn library(&self) -> Result<Sss, Failure> {
        self.library.get_or_init(Sss::load).clone().map_err(Failure::unusable)
    }
}

/// Makes a failure of an error: whether sssd is there at all decides whether other services may be asked instead.
fn failure(error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(CONNECTION_REFUSED) => Failure::not_running("sssd is not running"),
        _ if error.kind() == io::ErrorKind::HostUnreachable => {
            Failure::unavailable("the server behind sssd does not answer")
        }
        _ => Failure::unavailable(format!("sssd does not answer: {error}")),
    }
}

impl Service for SssService {
    /// sssd may answer root only.
    fn needs_root(&self) -> bool {
        true
    }

    fn ready(&self, _: &Map) -> Result<(), Failure> {
        self.library().map(drop)
    }

    fn probe(&self, map: &Map, _: Instant) -> Result<String, Failure> {
        match self.library()?.open(&map.name) {
            Ok(_) => Ok("sssd has the map".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Failure::no_map(map)),
            Err(error) => Err(failure(&error)),
        }
    }

    fn lookup(&self, map: &Map, key: &[u8], _: Instant) -> Result<Option<Entry>, Failure> {
        let mut open = match self.library()?.open(&map.name) {
            Ok(open) => open,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failure(&error)),
        };
        let wildcards: &[&[u8]] = if map.scope == Scope::Indirect { &[b"/", b"*"] } else { &[] };
        for key in std::iter::once(key).chain(wildcards.iter().copied()) {
            if let Some(text) = open.entry(key).map_err(|error| failure(&error))? {
                return Ok(Some(Entry { text, holds: None }));
            }
        }
        Ok(None)
    }

    fn entries(&self, map: &Map, _: Instant, each: &mut dyn FnMut(Pair)) -> Result<bool, Failure> {
        let mut open = self.library()?.open(&map.name).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Failure::no_map(map),
            _ => failure(&error),
        })?;
        while let Some((key, text)) = open.next_entry().map_err(|error| failure(&error))? {
            match (key.as_slice(), map.scope) {
                (b"/", Scope::Indirect) => each((b"*".to_vec(), text)),
                (b"/" | b"*", Scope::Direct) => {}
                _ => each((key, text)),
            }
        }
        Ok(false)
    }
}
