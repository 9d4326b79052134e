//! Calls and replies, RFC 5531 section 9.

use super::xdr::{Reader, Writer, XdrError};

const CALL: u32 = 0;
const REPLY: u32 = 1;
/// The version of the RPC protocol.
const VERSION: u32 = 2;
const AUTH_NONE: u32 = 0;
const AUTH_UNIX: u32 = 1;
/// The longest body of credentials or of a verifier.
const AUTH_MAX: usize = 400;
/// The longest machine name in AUTH_UNIX.
const MACHINE_MAX: usize = 255;
/// Supplementary groups in AUTH_UNIX, at most.
const GROUPS_MAX: usize = 16;

/// A call to a remote procedure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The program number.
    pub program: u32,
    /// The version of the program.
    pub version: u32,
    /// The procedure of that version.
    pub procedure: u32,
    /// Identity of the caller.
    pub credentials: Credentials,
    /// The arguments, encoded.
    pub arguments: Vec<u8>,
}

/// Identity of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// AUTH_NONE: nobody in particular.
    None,
    /// AUTH_UNIX: a user of a machine, as the caller says.
    Unix(Unix),
}

/// A user of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unix {
    /// The host name of the caller. What is longer than 255 bytes is cut off.
    pub machine: Vec<u8>,
    /// The effective user ID.
    pub uid: u32,
    /// The effective group ID.
    pub gid: u32,
    /// Supplementary groups; the protocol has room for 16.
    pub groups: Vec<u32>,
}

impl Call {
    /// Makes a call of the procedure NULL.
    pub fn null(program: u32, version: u32) -> Self {
        Self { program, version, procedure: super::NULL, credentials: Credentials::None, arguments: Vec::new() }
    }

    /// Returns the message with the transaction ID `xid`, which the reply must repeat.
    pub fn encode(&self, xid: u32) -> Vec<u8> {
        let mut message = Writer::default();
        message.number(xid).number(CALL).number(VERSION);
        message.number(self.program).number(self.version).number(self.procedure);
        match &self.credentials {
            Credentials::None => message.number(AUTH_NONE).bytes(b""),
            Credentials::Unix(unix) => message.number(AUTH_UNIX).bytes(&unix.encode()),
        };
        // The verifier of both kinds is empty.
        message.number(AUTH_NONE).bytes(b"");
        message.raw(&self.arguments).finish()
    }
}

impl Unix {
    fn encode(&self) -> Vec<u8> {
        let machine = self.machine.get(..MACHINE_MAX).unwrap_or(&self.machine);
        let groups = self.groups.get(..GROUPS_MAX).unwrap_or(&self.groups);
        let mut body = Writer::default();
        // The first number is an arbitrary stamp.
        body.number(0).bytes(machine).number(self.uid).number(self.gid);
        body.number(u32::try_from(groups.len()).unwrap_or(0));
        groups.iter().for_each(|group| _ = body.number(*group));
        body.finish()
    }
}

/// Why a message is no answer with results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// It is no reply, or it is malformed.
    #[error("no RPC reply: {0}")]
    Malformed(#[from] XdrError),
    /// It belongs to another call, or is no reply at all. Waiting on may help.
    #[error("the reply belongs to another call")]
    NotOurs,
    /// The server refuses.
    #[error("{0}")]
    Refused(#[from] Refusal),
}

/// Why a server does not do what it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It speaks another version of RPC.
    #[error("the server speaks RPC versions {low} to {high}")]
    Rpc {
        /// The lowest version.
        low: u32,
        /// The highest version.
        high: u32,
    },
    /// It does not accept the credentials.
    #[error("the server does not accept the credentials (auth status {0})")]
    Credentials(u32),
    /// It does not have the program.
    #[error("the server does not have the program")]
    NoProgram,
    /// It has other versions of the program.
    #[error("the server has versions {low} to {high} of the program")]
    Version {
        /// The lowest version.
        low: u32,
        /// The highest version.
        high: u32,
    },
    /// The program does not have the procedure.
    #[error("the server does not have the procedure")]
    NoProcedure,
    /// It cannot decode the arguments.
    #[error("the server cannot decode the arguments")]
    Garbage,
    /// It has an error of its own.
    #[error("the server has an internal error")]
    System,
}

/// Returns the encoded results in `message`, the reply to the call with the transaction ID `xid`.
///
/// # Errors
/// It is no such reply, or the server refuses.
pub fn reply(message: &[u8], xid: u32) -> Result<&[u8], ReplyError> {
    let mut reader = Reader::new(message);
    if reader.number()? != xid || reader.number()? != REPLY {
        return Err(ReplyError::NotOurs);
    }
    match reader.number()? {
        0 => {
            let _verifier = (reader.number()?, reader.bytes(AUTH_MAX)?);
            let refusal = match reader.number()? {
                0 => return Ok(reader.rest()),
                1 => Refusal::NoProgram,
                2 => Refusal::Version { low: reader.number()?, high: reader.number()? },
                3 => Refusal::NoProcedure,
                4 => Refusal::Garbage,
                5 => Refusal::System,
                _ => return Err(XdrError::BadValue.into()),
            };
            Err(refusal.into())
        }
        1 => match reader.number()? {
            0 => Err(Refusal::Rpc { low: reader.number()?, high: reader.number()? }.into()),
            1 => Err(Refusal::Credentials(reader.number()?).into()),
            _ => Err(XdrError::BadValue.into()),
        },
        _ => Err(XdrError::BadValue.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(numbers: &[u32]) -> Vec<u8> {
        numbers.iter().flat_map(|n| n.to_be_bytes()).collect()
    }

    #[test]
    fn a_call_of_null_is_forty_bytes() {
        let message = Call::null(super::super::NFS, 3).encode(0x1234);
        assert_eq!(message, numbers(&[0x1234, 0, 2, 100_003, 3, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn the_credentials_of_a_user() {
        let unix = Unix { machine: b"abcde".to_vec(), uid: 1, gid: 2, groups: (0..40).collect() };
        let call = Call { credentials: Credentials::Unix(unix), ..Call::null(100_005, 1) };
        let message = call.encode(9);
        let mut reader = Reader::new(&message);
        for _ in 0..6 {
            reader.number().unwrap();
        }
        assert_eq!(reader.number(), Ok(AUTH_UNIX));
        let mut body = Reader::new(reader.bytes(AUTH_MAX).unwrap());
        assert_eq!((body.number(), body.bytes(255)), (Ok(0), Ok(&b"abcde"[..])));
        assert_eq!([body.number(), body.number(), body.number()], [Ok(1), Ok(2), Ok(16)]);
        assert_eq!(body.rest().len(), 64);
        assert_eq!(reader.rest(), numbers(&[0, 0]));
    }

    #[test]
    fn replies() {
        let accepted = |status: &[u32]| numbers(&[&[7, 1, 0, 0, 0], status].concat());
        assert_eq!(reply(&accepted(&[0, 42]), 7), Ok(&numbers(&[42])[..]));
        assert_eq!(reply(&accepted(&[0]), 8), Err(ReplyError::NotOurs));
        assert_eq!(reply(&Call::null(1, 1).encode(7), 7), Err(ReplyError::NotOurs));
        for (status, refusal) in [
            (&[1][..], Refusal::NoProgram),
            (&[2, 3, 4], Refusal::Version { low: 3, high: 4 }),
            (&[3], Refusal::NoProcedure),
            (&[4], Refusal::Garbage),
            (&[5], Refusal::System),
        ] {
            assert_eq!(reply(&accepted(status), 7), Err(refusal.into()));
        }
        assert_eq!(reply(&numbers(&[7, 1, 1, 1, 5]), 7), Err(Refusal::Credentials(5).into()));
        assert_eq!(reply(&numbers(&[7, 1, 1, 0, 2, 2]), 7), Err(Refusal::Rpc { low: 2, high: 2 }.into()));
        for wrong in [&[7, 1][..], &[7, 1, 9], &[7, 1, 0, 0, 0, 6], &[7, 1, 0, 0, 500, 0], &[]] {
            assert!(matches!(reply(&numbers(wrong), 7), Err(ReplyError::Malformed(_))), "{wrong:?}");
        }
    }
}
