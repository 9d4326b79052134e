//! NIS: the calls of the YP protocol, version 2, and the question to ypbind which server to ask.

use super::message::{Call, Credentials};
use super::xdr::{Reader, Writer, XdrError};

/// The program number of ypserv.
pub const PROGRAM: u32 = 100_004;

/// The program number of ypbind.
pub const BIND_PROGRAM: u32 = 100_007;

/// The version of both that is spoken here.
pub const VERSION: u32 = 2;

/// The longest name of a domain or a map. Old servers have 64 bytes.
pub const NAME_MAX: usize = 1024;

/// The longest key or value.
pub const RECORD_MAX: usize = 16 << 20;

/// Bytes of a reply to [`Map::all`] that are accepted, at most.
pub const REPLY_MAX: usize = 64 << 20;

/// Procedures of ypserv.
const MATCH: u32 = 3;
const FIRST: u32 = 4;
const NEXT: u32 = 5;
const ALL: u32 = 8;
const MASTER: u32 = 9;
const ORDER: u32 = 10;

/// The procedure of ypbind.
const BIND_DOMAIN: u32 = 1;

/// The status of a reply with results.
const TRUE: i32 = 1;

/// Why there are no results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum YpError {
    /// The results are malformed.
    #[error("the reply is none: {0}")]
    Malformed(#[from] XdrError),
    /// There are no more entries.
    #[error("there are no more entries")]
    NoMore,
    /// The domain has no such map.
    #[error("there is no such map")]
    NoMap,
    /// The server does not serve the domain.
    #[error("the server does not serve this domain")]
    NoDomain,
    /// The map has no such key.
    #[error("there is no such key")]
    NoKey,
    /// Another status.
    #[error("the server has failed with YP status {0}")]
    Failed(i32),
}

/// A key and its value.
pub type Pair<'a> = (&'a [u8], &'a [u8]);

/// An IPv4 address and a port.
pub type Address = ([u8; 4], u16);

/// A map in a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Map<'a> {
    /// The name of the domain.
    pub domain: &'a [u8],
    /// The name of the map.
    pub name: &'a [u8],
}

impl Map<'_> {
    fn call(self, procedure: u32, key: Option<&[u8]>) -> Call {
        let mut arguments = Writer::default();
        arguments.bytes(self.domain).bytes(self.name);
        if let Some(key) = key {
            arguments.bytes(key);
        }
        call(PROGRAM, procedure, &mut arguments)
    }

    /// Asks for the value of a key; see [`value`].
    pub fn find(self, key: &[u8]) -> Call {
        self.call(MATCH, Some(key))
    }

    /// Asks for the first entry; see [`pair`].
    pub fn first(self) -> Call {
        self.call(FIRST, None)
    }

    /// Asks for the entry behind the one with this key; see [`pair`].
    pub fn next(self, key: &[u8]) -> Call {
        self.call(NEXT, Some(key))
    }

    /// Asks for all entries, over TCP; see [`pairs`].
    pub fn all(self) -> Call {
        self.call(ALL, None)
    }

    /// Asks when the map was made; see [`order`].
    pub fn order(self) -> Call {
        self.call(ORDER, None)
    }

    /// Asks which server has the original of the map; see [`master`].
    pub fn master(self) -> Call {
        self.call(MASTER, None)
    }
}

/// Asks ypbind for the server of a domain; see [`binding`].
pub fn bind(domain: &[u8]) -> Call {
    call(BIND_PROGRAM, BIND_DOMAIN, Writer::default().bytes(domain))
}

fn call(program: u32, procedure: u32, arguments: &mut Writer) -> Call {
    Call { program, version: VERSION, procedure, credentials: Credentials::None, arguments: arguments.finish() }
}

fn status(reader: &mut Reader<'_>) -> Result<(), YpError> {
    Err(match i32::from_be_bytes(reader.number()?.to_be_bytes()) {
        TRUE => return Ok(()),
        2 => YpError::NoMore,
        -1 => YpError::NoMap,
        -2 => YpError::NoDomain,
        -3 => YpError::NoKey,
        other => YpError::Failed(other),
    })
}

/// Reads the results of [`Map::find`]: the value.
///
/// # Errors
/// See [`YpError`].
pub fn value(results: &[u8]) -> Result<&[u8], YpError> {
    let mut reader = Reader::new(results);
    status(&mut reader)?;
    Ok(reader.bytes(RECORD_MAX)?)
}

/// Reads the results of [`Map::first`] and [`Map::next`].
///
/// # Errors
/// See [`YpError`]; [`YpError::NoMore`] behind the last entry.
pub fn pair(results: &[u8]) -> Result<Pair<'_>, YpError> {
    next_pair(&mut Reader::new(results))
}

fn next_pair<'a>(reader: &mut Reader<'a>) -> Result<Pair<'a>, YpError> {
    status(reader)?;
    // The value comes first.
    let value = reader.bytes(RECORD_MAX)?;
    Ok((reader.bytes(RECORD_MAX)?, value))
}

/// Reads the results of [`Map::all`].
///
/// # Errors
/// See [`YpError`]. A list that is cut off is an error, too.
pub fn pairs(results: &[u8]) -> Result<Vec<Pair<'_>>, YpError> {
    let mut reader = Reader::new(results);
    let mut pairs = Vec::new();
    while reader.boolean()? {
        match next_pair(&mut reader) {
            Ok(pair) => pairs.push(pair),
            Err(YpError::NoMore) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(pairs)
}

/// Reads the results of [`Map::order`]: seconds since 1970 by the clock of the master server.
///
/// # Errors
/// See [`YpError`].
pub fn order(results: &[u8]) -> Result<u32, YpError> {
    let mut reader = Reader::new(results);
    status(&mut reader)?;
    Ok(reader.number()?)
}

/// Reads the results of [`Map::master`]: the name of the server.
///
/// # Errors
/// See [`YpError`].
pub fn master(results: &[u8]) -> Result<&[u8], YpError> {
    let mut reader = Reader::new(results);
    status(&mut reader)?;
    Ok(reader.bytes(NAME_MAX)?)
}

/// Reads the results of [`bind`]. Returns `None` if ypbind has no server for the domain.
///
/// # Errors
/// The results are malformed.
pub fn binding(results: &[u8]) -> Result<Option<Address>, XdrError> {
    let mut reader = Reader::new(results);
    match reader.number()? {
        1 => {
            let mut octets = || reader.number().map(u32::to_be_bytes);
            let (address, [high, low, _, _]) = (octets()?, octets()?);
            Ok(usable(address, u16::from_be_bytes([high, low])))
        }
        2 => Ok(None),
        _ => Err(XdrError::BadValue),
    }
}

/// Reads the file in which ypbind says which server it has for a domain: a port of ypbind itself, then its answer to
/// [`bind`] as the machine keeps it in memory. Returns `None` if it says nothing.
pub fn binding_file(content: &[u8]) -> Option<Address> {
    let (_, rest) = content.split_first_chunk::<2>()?;
    let (status, rest) = rest.split_first_chunk()?;
    let (address, rest) = rest.split_first_chunk()?;
    let (port, _) = rest.split_first_chunk()?;
    if i32::from_ne_bytes(*status) != 1 {
        return None;
    }
    usable(*address, u16::from_be_bytes(*port))
}

fn usable(address: [u8; 4], port: u16) -> Option<Address> {
    (address != [0; 4] && port != 0).then_some((address, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn results(status: i32) -> Writer {
        let mut writer = Writer::default();
        writer.number(u32::from_be_bytes(status.to_be_bytes()));
        writer
    }

    #[test]
    fn calls_have_domain_map_and_key() {
        let map = Map { domain: b"lab", name: b"auto.m" };
        let call = map.find(b"k");
        assert_eq!((call.program, call.version, call.procedure), (100_004, 2, 3));
        let mut reader = Reader::new(&call.arguments);
        for expected in [&b"lab"[..], b"auto.m", b"k"] {
            assert_eq!(reader.bytes(9), Ok(expected));
        }
        assert_eq!(reader.rest(), b"");
        let procedures = [map.first(), map.next(b"k"), map.all(), map.master(), map.order()].map(|call| call.procedure);
        assert_eq!(procedures, [4, 5, 8, 9, 10]);
        let call = bind(b"lab");
        assert_eq!((call.program, call.procedure, &call.arguments[..]), (100_007, 1, &b"\0\0\0\x03lab\0"[..]));
    }

    #[test]
    fn statuses() {
        assert_eq!(value(&results(1).bytes(b"v").finish()), Ok(&b"v"[..]));
        let fails = [
            (2, YpError::NoMore),
            (-1, YpError::NoMap),
            (-2, YpError::NoDomain),
            (-3, YpError::NoKey),
            (-6, YpError::Failed(-6)),
            (0, YpError::Failed(0)),
        ];
        for (number, error) in fails {
            let results = results(number).bytes(b"v").finish();
            assert_eq!(value(&results), Err(error));
            assert_eq!(pair(&results), Err(error));
            assert_eq!(order(&results), Err(error));
            assert_eq!(master(&results), Err(error));
        }
        assert_eq!(value(&results(1).number(u32::MAX).finish()), Err(YpError::Malformed(XdrError::TooLong)));
        assert_eq!(order(&results(1).number(77).finish()), Ok(77));
        assert_eq!(master(&results(1).bytes(b"host").finish()), Ok(&b"host"[..]));
        assert_eq!(pair(&results(1).bytes(b"v").bytes(b"k").finish()), Ok((&b"k"[..], &b"v"[..])));
    }

    #[test]
    fn bindings() {
        let reply = |numbers: &[u32]| binding(&numbers.iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<_>>());
        assert_eq!(reply(&[1, 0x7f00_0001, 0x0301_0000]), Ok(Some(([127, 0, 0, 1], 769))));
        assert_eq!(reply(&[2, 2]), Ok(None));
        assert_eq!(reply(&[1, 0, 0x0301_0000]), Ok(None));
        assert_eq!(reply(&[1, 1]), Err(XdrError::Truncated));
        assert_eq!(reply(&[3, 1, 1]), Err(XdrError::BadValue));
        let file = [&[9, 9][..], &1_i32.to_ne_bytes(), &[10, 0, 0, 7, 3, 1, 0, 0]].concat();
        assert_eq!(binding_file(&file), Some(([10, 0, 0, 7], 769)));
        assert_eq!(binding_file(&file[..11]), None);
        let failed = [&[9, 9][..], &2_i32.to_ne_bytes(), &[10, 0, 0, 7, 3, 1, 0, 0]].concat();
        assert_eq!(binding_file(&failed), None);
    }

    proptest! {
        #[test]
        fn lists_of_any_entries(
            list in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..9), prop::collection::vec(any::<u8>(), 0..9)), 0..9),
            ends_with_status: bool,
        ) {
            let mut writer = Writer::default();
            for (key, value) in &list {
                writer.number(1).number(1).bytes(value).bytes(key);
            }
            match ends_with_status {
                // What ypserv sends at the end.
                true => writer.number(1).number(2).bytes(b"").bytes(b"").number(0),
                false => writer.number(0),
            };
            let encoded = writer.finish();
            let expected: Vec<Pair<'_>> = list.iter().map(|(key, value)| (&key[..], &value[..])).collect();
            prop_assert_eq!(pairs(&encoded).unwrap(), expected);
            // A part is no map.
            let whole = encoded.len() - if ends_with_status { 12 } else { 0 };
            for end in 0..whole {
                prop_assert!(pairs(&encoded[..end]).is_err());
            }
        }
    }
}
