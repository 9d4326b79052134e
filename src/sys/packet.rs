//! What the kernel writes into the pipe of an autofs mount: packets of protocol 5.
//!
//! One read gives one packet: 304 bytes from a 64-bit kernel, 300 from i386, with all fields at the same places.
//! Root can write into the pipe too, so nothing in a packet is believed unseen.

use std::mem::offset_of;
use std::num::NonZeroU32;

use autofs_sys::{
    AUTOFS_PROTO_VERSION, autofs_ptype_expire_direct as EXPIRE_DIRECT, autofs_ptype_expire_indirect as EXPIRE_INDIRECT,
    autofs_ptype_missing_direct as MISSING_DIRECT, autofs_ptype_missing_indirect as MISSING_INDIRECT, autofs_v5_packet,
};

use crate::engine::{Kind, Requester, Token};
use crate::text::Escaped;

/// Bytes that a buffer for one packet must have.
pub const SIZE: usize = 304;

/// Offset of the token in a packet: a `u32` of the machine's byte order.
pub const TOKEN_OFFSET: usize = offset_of!(autofs_v5_packet, wait_queue_token);

/// Offset of the user id of the requester in a packet, likewise.
pub const UID_OFFSET: usize = offset_of!(autofs_v5_packet, uid);

const SIZE_I386: usize = 300;

/// Requests of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A process waits for something that is not mounted.
    Missing(Request<'a>),
    /// Expire was called, and this may be unmounted.
    Expire(Request<'a>),
}

/// The particulars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// Indirect or direct; the kernel says direct for offset mounts too.
    pub kind: Kind,
    /// To be answered exactly once.
    pub token: Token,
    /// Device number of the autofs mount, encoded.
    pub dev: u32,
    /// Inode number of its root directory.
    pub ino: u64,
    /// The process whose lookup it was; in expire packets the caller of expire.
    pub who: Requester,
    /// The name below an indirect mount, without a slash at its ends; a path only when leaves are expired. Empty for
    /// direct mounts.
    pub name: &'a [u8],
}

/// Why bytes are no packet.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Neither of the two sizes.
    #[error("autofs packet of {0} bytes")]
    Size(usize),
    /// Another protocol.
    #[error("autofs packet of protocol {0}")]
    Protocol(u32),
    /// No packet of protocol 5 has this type.
    #[error("autofs packet of type {0}")]
    Type(u32),
    /// The kernel never hands out 0.
    #[error("autofs packet without a token")]
    Token,
    /// The name is longer than its field.
    #[error("autofs packet with a name of {0} bytes")]
    Length(u32),
    /// No file can have this name.
    #[error("autofs packet with the name \"{0}\"")]
    Name(String),
}

impl<'a> Packet<'a> {
    /// Reads a packet.
    ///
    /// # Errors
    /// When the bytes are not what a kernel would write.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        if bytes.len() != SIZE && bytes.len() != SIZE_I386 {
            return Err(Error::Size(bytes.len()));
        }
        let word = |offset: usize| u32::from_ne_bytes(array(bytes, offset));
        let protocol = word(offset_of!(autofs_v5_packet, hdr.proto_version));
        if protocol != AUTOFS_PROTO_VERSION {
            return Err(Error::Protocol(protocol));
        }
        let number = word(offset_of!(autofs_v5_packet, hdr.type_));
        let (make, kind): (fn(Request<'a>) -> Self, _) = match number {
            MISSING_INDIRECT => (Packet::Missing, Kind::Indirect),
            EXPIRE_INDIRECT => (Packet::Expire, Kind::Indirect),
            MISSING_DIRECT => (Packet::Missing, Kind::Direct),
            EXPIRE_DIRECT => (Packet::Expire, Kind::Direct),
            other => return Err(Error::Type(other)),
        };
        let token = NonZeroU32::new(word(TOKEN_OFFSET)).map(Token).ok_or(Error::Token)?;
        Ok(make(Request {
            kind,
            token,
            dev: word(offset_of!(autofs_v5_packet, dev)),
            ino: u64::from_ne_bytes(array(bytes, offset_of!(autofs_v5_packet, ino))),
            who: Requester {
                uid: word(offset_of!(autofs_v5_packet, uid)),
                gid: word(offset_of!(autofs_v5_packet, gid)),
                pid: word(offset_of!(autofs_v5_packet, pid)),
                tgid: word(offset_of!(autofs_v5_packet, tgid)),
            },
            name: match kind {
                Kind::Indirect => name(bytes, word(offset_of!(autofs_v5_packet, len)))?,
                // A pointer of the kernel, made unreadable: no name.
                Kind::Direct | Kind::Offset => &[],
            },
        }))
    }

    /// Returns the request of either kind.
    pub fn request(&self) -> &Request<'a> {
        match self {
            Self::Missing(request) | Self::Expire(request) => request,
        }
    }
}

/// Bytes of the name's field.
const NAME: usize = 256;

fn name(bytes: &[u8], len: u32) -> Result<&[u8], Error> {
    let field = bytes.get(offset_of!(autofs_v5_packet, name)..).and_then(|rest| rest.get(..NAME));
    // One byte is for the NUL.
    let length = usize::try_from(len).ok().filter(|len| *len < NAME);
    let Some(name) = field.zip(length).and_then(|(field, length)| field.get(..length)) else {
        return Err(Error::Length(len));
    };
    let possible = !name.contains(&0) && name.split(|&b| b == b'/').all(|part| !matches!(part, b"" | b"." | b".."));
    if possible { Ok(name) } else { Err(Error::Name(Escaped(name).to_string())) }
}

/// `N` bytes of a packet whose size was checked; the offsets are those of its fields.
fn array<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut array = [0; N];
    if let Some(field) = bytes.get(offset..).and_then(|rest| rest.get(..N)) {
        array.copy_from_slice(field);
    }
    array
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(number: u32, name: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; SIZE];
        for (i, word) in [5, number, 77, 0x60_0055, 1, 0, 1000, 100, 4242, 4241, name.len() as u32].iter().enumerate() {
            bytes[i * 4..][..4].copy_from_slice(&word.to_ne_bytes());
        }
        bytes[16..24].copy_from_slice(&0x1_0000_0001_u64.to_ne_bytes());
        bytes[44..44 + name.len()].copy_from_slice(name);
        bytes
    }

    #[test]
    fn a_lookup_below_an_indirect_mount() {
        let bytes = packet(3, b"key \xff\n");
        let expected = Request {
            kind: Kind::Indirect,
            token: Token(NonZeroU32::new(77).unwrap()),
            dev: 0x60_0055,
            ino: 0x1_0000_0001,
            who: Requester { uid: 1000, gid: 100, pid: 4242, tgid: 4241 },
            name: b"key \xff\n",
        };
        assert_eq!(Packet::decode(&bytes), Ok(Packet::Missing(expected)));
        assert_eq!(Packet::decode(&bytes[..300]), Ok(Packet::Missing(expected)), "from an i386 kernel");
    }

    #[test]
    fn the_other_three() {
        assert!(matches!(Packet::decode(&packet(4, b"a/b")), Ok(Packet::Expire(r)) if r.name == b"a/b"));
        let direct = |r: &Request<'_>| r.kind == Kind::Direct && r.name.is_empty();
        assert!(matches!(Packet::decode(&packet(5, b"00000000c0ffee00")), Ok(Packet::Missing(r)) if direct(&r)));
        assert!(matches!(Packet::decode(&packet(6, b"00000000c0ffee00")), Ok(Packet::Expire(r)) if direct(&r)));
    }

    #[test]
    fn what_no_kernel_writes() {
        assert_eq!(Packet::decode(b""), Err(Error::Size(0)));
        assert_eq!(Packet::decode(&packet(3, b"k")[..272]), Err(Error::Size(272)));
        assert_eq!(Packet::decode(&packet(2, b"k")), Err(Error::Type(2)));
        assert_eq!(Packet::decode(&packet(7, b"k")), Err(Error::Type(7)));
        let with = |offset: usize, value: u32| {
            let mut bytes = packet(3, b"k");
            bytes[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
            bytes
        };
        assert_eq!(Packet::decode(&with(0, 4)), Err(Error::Protocol(4)));
        assert_eq!(Packet::decode(&with(8, 0)), Err(Error::Token));
        assert_eq!(Packet::decode(&with(40, 256)), Err(Error::Length(256)));
        assert_eq!(Packet::decode(&with(40, u32::MAX)), Err(Error::Length(u32::MAX)));
        for bad in [&b""[..], b"..", b"a/../b", b"/etc", b"a/", b"a\0b"] {
            assert_eq!(Packet::decode(&packet(3, bad)), Err(Error::Name(Escaped(bad).to_string())));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_do_no_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..310), number in 0..8u32) {
            let _ = Packet::decode(&bytes);
            // Again with a plausible beginning; without it only the check of the header is tested.
            bytes.resize(SIZE, 0);
            bytes[..4].copy_from_slice(&5_u32.to_ne_bytes());
            bytes[4..8].copy_from_slice(&number.to_ne_bytes());
            bytes[42..44].copy_from_slice(&[0, 0]);
            if let Ok(packet) = Packet::decode(&bytes) {
                prop_assert!(packet.request().name.len() < 256);
            }
        }
    }
}
