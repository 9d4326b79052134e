//! ONC RPC, as RFC 5531 has it, for the few calls that an automounter makes: the codec, without I/O.
//!
//! [`Call::encode`] makes a message, [`reply`] reads what came back; [`Records`] cuts a TCP stream into messages. Arguments
//! and results of the programs are in [`rpcbind`], [`mountd`] and [`yp`]; of NFS only the procedure NULL is called, which has
//! neither.
//!
//! Replies come from machines that may lie. All lengths and counts have a limit, nothing is allocated for a length that a
//! message merely claims, and decoding takes time in proportion to the bytes that have arrived.

mod message;
pub mod mountd;
mod record;
pub mod rpcbind;
mod xdr;
pub mod yp;

pub use message::{Call, Credentials, Refusal, ReplyError, Unix, reply};
pub use record::{RecordTooLong, Records, mark};
pub use xdr::{Reader, Writer, XdrError};

/// Ports below 1024 that may be used: the lower ones are those of services.
const RESERVED: std::ops::Range<u16> = 700..1023;

/// Returns some of the ports that only root may call from, beginning at one that `number` selects. Some servers answer only calls from
/// such ports; a few of them may be in use.
pub fn reserved_ports(number: u64) -> impl Iterator<Item = u16> {
    /// Ports that are tried, at most.
    const TRIES: u16 = 8;
    let width = RESERVED.end - RESERVED.start;
    let first = u16::try_from(number % u64::from(width)).unwrap_or(0);
    (0..TRIES).map(move |n| RESERVED.start + (first + n) % width)
}

/// The procedure that every program has, without arguments and results.
pub const NULL: u32 = 0;

/// The program number of NFS.
pub const NFS: u32 = 100_003;

/// The port on which NFS version 4 is served, and other versions by custom.
pub const NFS_PORT: u16 = 2049;
