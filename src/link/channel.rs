//! Messages between worker and keeper: 12 bytes each, some with the read end of a pipe.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use super::ServiceState;
use crate::sys::fds;

/// A message of the worker to the keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// Keep the read end that comes along under this number.
    Hold(u32),
    /// Let go of the read end of this number: its mounts are gone.
    Drop(u32),
    /// The master map has been read and what it names is mounted (or could not be): the process that waits for the start may
    /// go on.
    Started,
    /// The worker is about to exit for good, with this status.
    Ending(u8),
    /// The program is to be replaced by the one that stands at its path now.
    Upgrade,
    /// No reload is running or wished for any more. A keeper of a program without this message ignores it.
    Reloaded,
    /// State of the daemon. A keeper of a program without this message ignores it.
    State(ServiceState),
}

/// Bytes of a message on the wire.
pub const SIZE: usize = 12;
const MAGIC: u32 = u32::from_ne_bytes(*b"afs1");

impl Message {
    /// The bytes on the wire, in the byte order of the machine: both ends are one program.
    pub fn encode(self) -> [u8; SIZE] {
        let (kind, argument) = match self {
            Self::Hold(id) => (1u32, id),
            Self::Drop(id) => (2, id),
            Self::Started => (3, 0),
            Self::Ending(code) => (4, code.into()),
            Self::Upgrade => (5, 0),
            Self::Reloaded => (6, 0),
            Self::State(state) => (7, state.encode()),
        };
        let mut bytes = [0; SIZE];
        for (place, word) in bytes.chunks_exact_mut(4).zip([MAGIC, kind, argument]) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// Reads a message. `None` for anything that is not exactly one: half a message, or one of another version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != SIZE {
            return None;
        }
        let mut words = bytes.chunks_exact(4).filter_map(|w| w.try_into().ok()).map(u32::from_ne_bytes);
        if words.next()? != MAGIC {
            return None;
        }
        let (kind, argument) = (words.next()?, words.next()?);
        match kind {
            1 => Some(Self::Hold(argument)),
            2 => Some(Self::Drop(argument)),
            3 => Some(Self::Started),
            4 => u8::try_from(argument).ok().map(Self::Ending),
            5 => Some(Self::Upgrade),
            6 => Some(Self::Reloaded),
            7 => ServiceState::decode(argument).map(Self::State),
            _ => None,
        }
    }
}

/// The worker's end of the socket.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Link {
    /// The worker's end of a pair made by the keeper.
    pub fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Sends a message. Does not wait for the keeper: a descriptor in the buffer of the socket stays open like one in the keeper's
    /// table.
    pub fn send(&self, message: Message) -> io::Result<()> {
        fds::send(self.0.as_fd(), &message.encode(), None)
    }

    /// Gives a read end to the keeper. To be done before the mount that writes to the pipe becomes reachable.
    pub fn hold(&self, id: u32, read_end: BorrowedFd<'_>) -> io::Result<()> {
        fds::send(self.0.as_fd(), &Message::Hold(id).encode(), Some(read_end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_what_arrives_and_nothing_else_is_understood() {
        for m in [
            Message::Hold(7),
            Message::Drop(u32::MAX),
            Message::Started,
            Message::Ending(3),
            Message::Upgrade,
            Message::Reloaded,
            Message::State(ServiceState::new(crate::link::Doing::Quiesced)),
        ] {
            assert_eq!(Message::decode(&m.encode()), Some(m));
            assert_eq!(Message::decode(&m.encode()[..8]), None, "half a message");
        }
        assert_eq!(Message::decode(&[0; SIZE]), None);
        let mut unknown = Message::Started.encode();
        unknown[4] = 99;
        assert_eq!(Message::decode(&unknown), None);
    }
}
