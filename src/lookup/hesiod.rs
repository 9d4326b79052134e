//! Hesiod: records in the DNS. The system's resolver asks for them, as it knows the name servers, their timeouts and their
//! order from resolv.conf(5), and falls back to TCP; the answers are parsed by [`dns`].

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::attempts::Attempts;
use super::{Entry, Failure, Service};
use crate::directory::hesiod::{self, Class, Configuration};
use crate::directory::{Map, Pair, dns};
use crate::mutex::lock;
use crate::sys::path;
use crate::sys::resolver::{self, Record, ResolveError};

/// Configuration file of Hesiod.
const HESIOD_CONF: &str = "/etc/hesiod.conf";

/// Bytes of the file at most.
const LONGEST: u64 = 64 << 10;

/// A failure that took longer than this counts as no answer.
const SILENT: Duration = Duration::from_millis(500);

/// The service.
pub(super) struct HesiodService {
    configuration: Result<Configuration, String>,
    attempts: Mutex<Attempts>,
}

impl HesiodService {
    /// Reads the configuration.
    pub(super) fn new() -> Self {
        Self { configuration: read(), attempts: Mutex::default() }
    }

    /// Asks the DNS, unless its servers were silent and others ask them.
    fn query(&self, name: &str, class: resolver::Class) -> Result<Vec<u8>, ResolveError> {
        let begun = Instant::now();
        if !lock(&self.attempts).begin(begun) {
            return Err(ResolveError::Failed("no DNS server answers".to_owned()));
        }
        let answer = resolver::query(name, class, Record::Txt);
        let mut attempts = lock(&self.attempts);
        attempts.end();
        match &answer {
            Ok(_) | Err(ResolveError::NotFound) => attempts.answered(Instant::now()),
            Err(ResolveError::Failed(_)) if begun.elapsed() >= SILENT => attempts.was_silent(begun),
            Err(ResolveError::Failed(_)) => {}
        }
        answer
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
        match self.query(&name, resolver::Class::Internet) {
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
            match self.query(&name, class) {
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
