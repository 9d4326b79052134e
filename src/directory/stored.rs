//! A map of a directory service as it is stored on disk, so that it can be served while the service does not answer.
//!
//! A file consists of a line that names the program, a version, the map and a checksum. Anything else is refused: the file may be cut
//! off, damaged, or of another program.

use std::collections::BTreeMap;

use super::{Map, Scope, Settings};
use crate::wire::{Reader, WireError, Writer};

/// The first line of a file.
const MAGIC: &[u8] = b"autofs-rs stored map\n";

/// The version of the encoding behind it.
const VERSION: u32 = 1;

/// A map as a service has said it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stored {
    /// Identity of the map and its servers, see [`identity`].
    pub of: Vec<u8>,
    /// When the service said it last, in seconds since 1970.
    pub at: u64,
    /// All entries as the text of a map file, if the map was read as a whole.
    pub whole: Option<Vec<u8>>,
    /// Entries that were asked for by their keys later. `None`: there is no such key any more.
    pub keys: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// Why a file is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    /// Another program has written it.
    #[error("it is not a map that automount has stored")]
    Foreign,
    /// Another version of this program has written it.
    #[error("it has version {0}, and this program reads version {VERSION}")]
    Version(u32),
    /// It is not as it was written.
    #[error("it is damaged")]
    Damaged,
}

impl From<WireError> for StoredError {
    fn from(_: WireError) -> Self {
        Self::Damaged
    }
}

impl Stored {
    /// Returns the content of a file with this map.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::again(Vec::new());
        for byte in MAGIC {
            writer.u8(*byte);
        }
        writer.u32(VERSION).u64(self.at).bytes(&self.of).optional_bytes(self.whole.as_deref());
        writer.u32(u32::try_from(self.keys.len()).unwrap_or(u32::MAX));
        for (key, entry) in &self.keys {
            writer.bytes(key).optional_bytes(entry.as_deref());
        }
        with_sum(writer.into_inner())
    }

    /// Reads the content of a file.
    ///
    /// # Errors
    /// It is not what [`encode`](Self::encode) returns.
    pub fn decode(bytes: &[u8]) -> Result<Self, StoredError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(StoredError::Foreign)?;
        let (version, _) = rest.split_first_chunk().ok_or(StoredError::Damaged)?;
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            return Err(StoredError::Version(version));
        }
        let (content, sum) = bytes.split_last_chunk().ok_or(StoredError::Damaged)?;
        if checksum(content) != u64::from_le_bytes(*sum) {
            return Err(StoredError::Damaged);
        }
        let mut reader = Reader::new(content.get(MAGIC.len() + 4..).ok_or(StoredError::Damaged)?);
        let (at, of, whole) = (reader.u64()?, reader.bytes()?, reader.optional_bytes()?);
        let mut keys = BTreeMap::new();
        for _ in 0..reader.u32()? {
            let (key, entry) = (reader.bytes()?, reader.optional_bytes()?);
            // Written in this order, each once.
            if keys.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(StoredError::Damaged);
            }
            keys.insert(key, entry);
        }
        reader.end()?;
        Ok(Self { of, at, whole, keys })
    }

    /// Returns whether both have the same entries.
    pub fn has_same_entries(&self, other: &Self) -> bool {
        self.whole == other.whole && self.keys == other.keys
    }
}

/// Appends the checksum.
fn with_sum(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

/// Returns a file of this version with `content`, which need not be a map. For tests.
pub fn signed(content: &[u8]) -> Vec<u8> {
    with_sum([MAGIC, &VERSION.to_le_bytes(), content].concat())
}

/// Returns what tells a map from all others: its service, name and use, for LDAP where it is searched, and for NIS the `domain`. A
/// map that was stored from other servers does not serve in its place.
pub fn identity(service: &str, map: &Map, settings: &Settings, domain: &[u8]) -> Vec<u8> {
    let mut writer = Writer::again(Vec::new());
    let scope = match map.scope {
        Scope::Indirect => 0,
        Scope::Direct => 1,
        Scope::Master => 2,
    };
    writer.bytes(service.as_bytes()).u8(map.secure.into()).u8(scope).bytes(&map.name);
    if service == "ldap" {
        let Settings { uris, bases, schema, .. } = settings;
        let of_search =
            Settings { uris: uris.clone(), bases: bases.clone(), schema: schema.clone(), ..Settings::default() };
        of_search.write(&mut writer);
    }
    if service == "nis" {
        writer.bytes(domain);
    }
    writer.into_inner()
}

/// Returns the name of the file for a map.
pub fn file_name(service: &str, identity: &[u8]) -> String {
    format!("{service}-{:016x}.map", checksum(identity))
}

/// Computes FNV-1a. It detects changes by a disk or an editor, not a forgery.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored() -> impl Strategy<Value = Stored> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..20);
        let keys = prop::collection::btree_map(bytes(), prop::option::of(bytes()), 0..5);
        (bytes(), any::<u64>(), prop::option::of(bytes()), keys).prop_map(|(of, at, whole, keys)| Stored {
            of,
            at,
            whole,
            keys,
        })
    }

    proptest! {
        #[test]
        fn what_is_stored_is_read_again(stored in stored()) {
            prop_assert_eq!(Stored::decode(&stored.encode()), Ok(stored));
        }

        #[test]
        fn no_change_of_a_file_goes_unnoticed(stored in stored(), at in any::<prop::sample::Index>(), with in 1_u8..) {
            let mut bytes = stored.encode();
            let at = at.index(bytes.len());
            prop_assert!(Stored::decode(&bytes[..at]).is_err());
            bytes[at] ^= with;
            prop_assert!(Stored::decode(&bytes).is_err());
        }
    }

    #[test]
    fn files_of_others_are_refused() {
        assert_eq!(Stored::decode(b"a -ro :/x\n"), Err(StoredError::Foreign));
        assert_eq!(Stored::decode(b""), Err(StoredError::Foreign));
        let mut later = Stored::default().encode();
        later[MAGIC.len()] = 9;
        assert_eq!(Stored::decode(&later), Err(StoredError::Version(9)));
    }

    #[test]
    fn a_map_of_other_servers_is_another_map() {
        let map = |scope, name: &[u8]| Map { secure: false, scope, name: name.to_vec() };
        let settings = Settings { uris: vec![b"ldap://a".to_vec()], ..Settings::default() };
        let timeout = Settings { timeout: Some(3), ..settings.clone() };
        let other = Settings { uris: vec![b"ldap://b".to_vec()], ..Settings::default() };
        let of = |service, map, settings| file_name(service, &identity(service, &map, settings, b"d"));
        let one = of("ldap", map(Scope::Indirect, b"m"), &settings);
        assert_eq!(one, of("ldap", map(Scope::Indirect, b"m"), &timeout));
        for another in [
            of("ldap", map(Scope::Indirect, b"m"), &other),
            of("ldap", map(Scope::Direct, b"m"), &settings),
            of("ldap", map(Scope::Indirect, b"n"), &settings),
            of("nis", map(Scope::Indirect, b"m"), &settings),
        ] {
            assert_ne!(one, another);
        }
        assert_eq!(of("nis", map(Scope::Master, b"m"), &settings), of("nis", map(Scope::Master, b"m"), &other));
        let of_domain = |domain: &[u8]| identity("nis", &map(Scope::Indirect, b"m"), &settings, domain);
        assert_ne!(of_domain(b"d"), of_domain(b"e"));
    }
}
