//! NIS: the program speaks the protocol itself, without libnsl, which most systems no longer have.

mod binding;
mod call;

use std::os::unix::ffi::OsStringExt as _;
use std::time::Instant;

use binding::Binding;

use super::{Entry, Failure, Service};
use crate::directory::{Map, Pair, Scope};
use crate::rpc::yp::{self, YpError};
use crate::sys::{clock, user};

/// Keys that servers keep in a map for themselves.
const OWN_KEYS: [&[u8]; 6] =
    [b"YP_LAST_MODIFIED", b"YP_MASTER_NAME", b"YP_INPUT_FILE", b"YP_OUTPUT_NAME", b"YP_SECURE", b"YP_INTERDOMAIN"];

/// Entries that are read one by one, at most, from a server that cannot send them at once.
const ONE_BY_ONE_MAX: usize = 1 << 17;

/// Seconds after which a map is not made again with the same order number. Clocks may differ by some of them.
const SETTLED: u64 = 5;

/// The service.
#[derive(Debug, Default)]
pub(super) struct NisService {
    binding: Binding,
}

/// Returns the NIS domain that this machine has now, or why there is none.
fn domain() -> Result<Vec<u8>, String> {
    let name = user::nis_domain().map_err(|error| format!("the NIS domain is unknown: {error}"))?.into_vec();
    match name.as_slice() {
        b"" | b"(none)" => Err("no NIS domain is set: set it with domainname(1)".to_owned()),
        // It becomes part of a path.
        name if name.contains(&b'/') || name.starts_with(b".") => {
            Err("the NIS domain has an invalid name: it has a slash or begins with a dot".to_owned())
        }
        _ => Ok(name),
    }
}

/// Returns whether an entry is part of a map that is read as a whole.
fn counts(key: &[u8], scope: Scope) -> bool {
    match key {
        [] => false,
        [byte] if !byte.is_ascii_graphic() => false,
        [b'+', ..] if scope != Scope::Master => false,
        b"*" if scope == Scope::Direct => false,
        key => !OWN_KEYS.contains(&key),
    }
}

impl NisService {
    /// Has `ask` ask for a map by its name and, if there is none, by the name with `.` in place of `_`.
    fn named<T>(
        &self,
        map: &Map,
        ask: impl Fn(yp::Map<'_>) -> Result<Result<T, YpError>, Failure>,
    ) -> Result<Option<T>, Failure> {
        let domain = &domain().map_err(Failure::unusable)?;
        let mut result = ask(yp::Map { domain, name: &map.name })?;
        if matches!(result, Err(YpError::NoMap)) && map.name.contains(&b'_') {
            let name: Vec<u8> = map.name.iter().map(|&byte| if byte == b'_' { b'.' } else { byte }).collect();
            result = ask(yp::Map { domain, name: &name })?;
        }
        match result {
            Ok(found) => Ok(Some(found)),
            Err(YpError::NoKey | YpError::NoMore) => Ok(None),
            Err(YpError::NoMap) => Err(Failure::no_map(map)),
            Err(error) => Err(Failure::unavailable(error)),
        }
    }

    fn find(&self, map: yp::Map<'_>, key: &[u8], deadline: Instant) -> Result<Result<Vec<u8>, YpError>, Failure> {
        let results = self.binding.call(map.domain, &map.find(key), deadline).map_err(Failure::unavailable)?;
        Ok(yp::value(&results).map(<[u8]>::to_vec))
    }

    /// Reads all entries, at once over TCP or one by one.
    fn all(&self, map: yp::Map<'_>, deadline: Instant) -> Result<Result<Vec<Pair>, YpError>, Failure> {
        let owned = |(key, value): yp::Pair<'_>| (key.to_vec(), value.to_vec());
        let ask = |call| self.binding.call(map.domain, &call, deadline).map_err(Failure::unavailable);
        // This finds the server, and whether it has the map.
        let mut pair = match yp::pair(&ask(map.first())?).map(owned) {
            Ok(pair) => pair,
            Err(error) => return Ok(Err(error)),
        };
        if let Ok(results) = self.binding.call_tcp(&map.all(), yp::REPLY_MAX, deadline) {
            if let Ok(pairs) = yp::pairs(&results) {
                return Ok(Ok(pairs.into_iter().map(owned).collect()));
            }
        }
        let mut pairs = Vec::new();
        loop {
            let next = ask(map.next(&pair.0))?;
            pairs.push(pair);
            pair = match yp::pair(&next).map(owned) {
                Ok(pair) => pair,
                Err(YpError::NoMore) => return Ok(Ok(pairs)),
                Err(error) => return Ok(Err(error)),
            };
            if pairs.len() >= ONE_BY_ONE_MAX {
                return Err(Failure::unavailable("the NIS server sends entries without an end"));
            }
        }
    }
}

impl Service for NisService {
    fn needs_root(&self) -> bool {
        false
    }

    fn needs_reserved_ports(&self) -> bool {
        true
    }

    fn ready(&self, _: &Map) -> Result<(), Failure> {
        domain().map(drop).map_err(Failure::unusable)
    }

    fn probe(&self, map: &Map, deadline: Instant) -> Result<String, Failure> {
        let domain = crate::text::Escaped(&domain().map_err(Failure::unusable)?).to_string();
        let order = self.named(map, |map| {
            let results = self.binding.call(map.domain, &map.order(), deadline).map_err(Failure::unavailable)?;
            Ok(yp::order(&results))
        })?;
        let server = self.binding.server().map_or_else(String::new, |server| format!(", server {server}"));
        let order = order.map_or_else(String::new, |order| format!(", order number {order}"));
        Ok(format!("domain {domain}{server}{order}"))
    }

    fn version(&self, map: &Map, deadline: Instant) -> Result<Option<Vec<u8>>, Failure> {
        let order = self.named(map, |map| {
            let results = self.binding.call(map.domain, &map.order(), deadline).map_err(Failure::unavailable)?;
            // Some servers have no order numbers.
            Ok(yp::order(&results)
                .map_err(|error| if matches!(error, YpError::NoMap) { error } else { YpError::NoKey }))
        })?;
        // It is the second in which the map was made: within the same second, the map may be made once more.
        let is_over = |order: &u32| u64::from(*order) + SETTLED < clock::since_1970();
        Ok(order.filter(is_over).map(|order| order.to_be_bytes().to_vec()))
    }

    fn lookup(&self, map: &Map, key: &[u8], deadline: Instant) -> Result<Option<Entry>, Failure> {
        let wildcard: Option<&[u8]> = (map.scope == Scope::Indirect).then_some(b"*");
        for key in [Some(key).filter(|key| !OWN_KEYS.contains(key)), wildcard].into_iter().flatten() {
            if let Some(text) = self.named(map, |map| self.find(map, key, deadline))? {
                return Ok(Some(Entry { text, holds: None }));
            }
        }
        Ok(None)
    }

    fn entries(&self, map: &Map, deadline: Instant, each: &mut dyn FnMut(Pair)) -> Result<bool, Failure> {
        let pairs = self.named(map, |map| self.all(map, deadline))?.unwrap_or_default();
        pairs.into_iter().filter(|(key, _)| counts(key, map.scope)).for_each(each);
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_no_entries() {
        for key in [&b""[..], b"\x01", b" ", b"+x", b"YP_MASTER_NAME"] {
            assert!(!counts(key, Scope::Indirect), "{key:?}");
        }
        for key in [&b"a"[..], b"*", b"YP_X", b"-x"] {
            assert!(counts(key, Scope::Indirect), "{key:?}");
        }
        assert!(!counts(b"*", Scope::Direct));
        assert!(counts(b"+auto.more", Scope::Master));
    }
}
