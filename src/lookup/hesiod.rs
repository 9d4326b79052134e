//! Hesiod: records in the DNS. The system's resolver asks for them, as it knows the name servers, their timeouts and their
//! order from resolv.conf(5), and falls back to TCP; the answers are parsed by [`dns`].

use std::path::Path;
use std::time::Instant;

use super::{Entry, Failure, Service};
use crate::directory::hesiod::{self, Class, Configuration};
use crate::directory::{Map, Pair, dns};
use crate::sys::path;
use crate::sys::resolver::{self, Record, ResolveError};

/// Configuration file of Hesiod.
const HESIOD_CONF: &str = "/etc/hesiod.conf";

/// Bytes of the file at most.
const LONGEST: u64 = 64 << 10;

/// The service.
pub(super) struct HesiodService {
    configuration: Result<Configuration, String>,
}

impl HesiodService {
    /// Reads the configuration.
    pub(super) fn new() -> Self {
        Self { configuration: read() }
    }
}

fn read() -> Result<Configuration, String> {
    use std::io::Read as _;
    let cannot = |error| format!("cannot read {HESIOD_CONF}: {error}");
    let file = path::open_to_read(Path::new(HESIOD_CONF)).map_err(cannot)?;
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text).map_err(cannot)?;
    Configuration::parse(&text).ok_or_else(|| format!("{HESIOD_CONF} has no line rhs=DOMAIN"))
}

impl Service for HesiodService {
    fn needs_root(&self) -> bool {
        false
    }

    fn ready(&self, _: &Map) -> Result<(), Failure> {
        self.configuration.as_ref().map(drop).map_err(Failure::unusable)
    }

    fn probe(&self, _: &Map, _: Instant) -> Result<String, Failure> {
        let configuration = self.configuration.as_ref().map_err(Failure::unusable)?;
        let name = configuration.name(b"KEY").unwrap_or_default();
        match resolver::query(&name, resolver::Class::Internet, Record::Txt) {
            Err(ResolveError::Failed(why)) => Err(Failure::unavailable(why)),
            _ => Ok(format!("records {name}; the DNS lists no keys")),
        }
    }

    fn lookup(&self, _: &Map, key: &[u8], _: Instant) -> Result<Option<Entry>, Failure> {
        let configuration = self.configuration.as_ref().map_err(Failure::unusable)?;
        let Some(name) = configuration.name(key) else { return Ok(None) };
        let mut failed = None;
        for class in &configuration.classes {
            let class = match class {
                Class::Internet => resolver::Class::Internet,
                Class::Hesiod => resolver::Class::Hesiod,
            };
            match resolver::query(&name, class, Record::Txt) {
                Ok(answer) => {
                    let texts = dns::texts(&answer).filter(|texts| !texts.is_empty());
                    let Some(texts) = texts else { continue };
                    return match hesiod::entry(&texts) {
                        Ok(text) => Ok(Some(Entry { text, holds: None })),
                        Err(why) => Err(Failure::unavailable(why)),
                    };
                }
                Err(ResolveError::NotFound) => {}
                Err(ResolveError::Failed(why)) => failed = Some(why),
            }
        }
        failed.map_or(Ok(None), |why| Err(Failure::unavailable(why)))
    }

    fn entries(&self, _: &Map, _: Instant, _: &mut dyn FnMut(Pair)) -> Result<bool, Failure> {
        // The DNS lists no names: there is nothing to browse, and no direct map.
        Ok(false)
    }
}
