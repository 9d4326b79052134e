//! The protocol between the worker and a lookup process: frames over a stream socket.
//!
//! The worker sends the settings first, then requests; the process answers each request by its number, in any order. A
//! request for all entries gets them in several replies. A frame is a length of 4 bytes and a message of at most
//! [`FRAME_MAX`] bytes.

use super::settings::Settings;
use crate::wire::{FRAME_MAX, Reader, WireError, Writer};

/// Replies with entries are sent when they have about so many bytes.
pub const CHUNK: usize = 64 << 10;

/// Purpose of reading a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Names below one mount point. The wildcard counts.
    Indirect,
    /// Mount points; there is no wildcard.
    Direct,
    /// The lines of a master map.
    Master,
}

/// A map of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Map {
    /// Whether the connection must be encrypted from the start: `ldaps:`.
    pub secure: bool,
    /// Purpose of the request.
    pub scope: Scope,
    /// The name, as it stands behind the type.
    pub name: Vec<u8>,
}

/// Kinds of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Whether the service is set up here, so that keys can be asked for later.
    Ready,
    /// The entry of a key, or of the wildcard.
    Lookup(Vec<u8>),
    /// All entries.
    Entries,
    /// Place of the map, in words. It is looked up again.
    Probe,
    /// Bytes that are others after every change of the map. They come as an entry, if the service has such.
    Version,
}

/// A message to the lookup process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The settings: the first message.
    Settings(Settings),
    /// A question about a map.
    Ask {
        /// The number that replies carry.
        id: u32,
        /// Milliseconds for the answer.
        within: u32,
        /// The map.
        map: Map,
        /// The question.
        question: Question,
    },
}

/// A key and its entry.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// The service does not answer, or cannot at the moment.
    Unavailable,
    /// The service is not set up on this machine.
    Unusable,
    /// The service has no such map.
    NoMap,
    /// The service is set up on this machine, but does not run.
    NotRunning,
}

/// Answer of the lookup process to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The service is set up.
    Ready,
    /// The entry.
    Found {
        /// Its text.
        entry: Vec<u8>,
        /// Seconds for which the service says that it holds.
        holds: Option<u32>,
    },
    /// The map has no such key.
    NotFound,
    /// Some of the entries; more follow.
    Entries(Vec<Pair>),
    /// No more entries.
    End {
        /// The service has more, but gives no more.
        truncated: bool,
    },
    /// There is no answer.
    Failed(Trouble, String),
}

impl Reply {
    /// Returns whether it is the last one to its request.
    pub fn is_last(&self) -> bool {
        !matches!(self, Self::Entries(_))
    }

    /// Returns the frame of the reply to request `id`. A reply that does not fit into a frame becomes a failure.
    pub fn frame(&self, id: u32) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u32(id);
        match self {
            Self::Ready => {
                writer.u8(0);
            }
            Self::Found { entry, holds } => {
                writer.u8(1).bytes(entry).optional(*holds);
            }
            Self::NotFound => {
                writer.u8(2);
            }
            Self::Entries(pairs) => {
                writer.u8(3).u32(u32::try_from(pairs.len()).unwrap_or(u32::MAX));
                for (key, entry) in pairs {
                    writer.bytes(key).bytes(entry);
                }
            }
            Self::End { truncated } => drop(writer.u8(4).u8(u8::from(*truncated))),
            Self::Failed(trouble, text) => {
                let trouble = match trouble {
                    Trouble::Unavailable => 0,
                    Trouble::Unusable => 1,
                    Trouble::NoMap => 2,
                    Trouble::NotRunning => 3,
                };
                writer.u8(5).u8(trouble).bytes(text.as_bytes());
            }
        }
        writer.frame().unwrap_or_else(|| {
            let text = "an entry is too long".to_owned();
            Self::Failed(Trouble::Unavailable, text).frame(id)
        })
    }

    /// Reads a message: the number of the request, and the reply.
    ///
    /// # Errors
    /// It is no reply.
    pub fn parse(message: &[u8]) -> Result<(u32, Self), WireError> {
        let mut reader = Reader::new(message);
        let id = reader.u32()?;
        let reply = match reader.u8()? {
            0 => Self::Ready,
            1 => Self::Found { entry: reader.bytes()?, holds: reader.optional()? },
            2 => Self::NotFound,
            3 => {
                let count = reader.u32()?;
                Self::Entries((0..count).map(|_| Ok((reader.bytes()?, reader.bytes()?))).collect::<Result<_, _>>()?)
            }
            4 => Self::End { truncated: boolean(&mut reader)? },
            5 => {
                let trouble = match reader.u8()? {
                    0 => Trouble::Unavailable,
                    1 => Trouble::Unusable,
                    2 => Trouble::NoMap,
                    3 => Trouble::NotRunning,
                    _ => return Err(WireError::Kind),
                };
                Self::Failed(trouble, String::from_utf8_lossy(&reader.bytes()?).into_owned())
            }
            _ => return Err(WireError::Kind),
        };
        reader.end().map(|()| (id, reply))
    }
}

fn boolean(reader: &mut Reader<'_>) -> Result<bool, WireError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(WireError::Kind),
    }
}

impl Request {
    /// Returns the frame of the request, or `None` if it is too long for one.
    pub fn frame(&self) -> Option<Vec<u8>> {
        let mut writer = Writer::new();
        match self {
            Self::Settings(settings) => settings.write(writer.u8(0)),
            Self::Ask { id, within, map, question } => {
                let scope = match map.scope {
                    Scope::Indirect => 0,
                    Scope::Direct => 1,
                    Scope::Master => 2,
                };
                writer.u8(1).u32(*id).u32(*within).u8(u8::from(map.secure)).u8(scope).bytes(&map.name);
                match question {
                    Question::Ready => writer.u8(0),
                    Question::Lookup(key) => writer.u8(1).bytes(key),
                    Question::Entries => writer.u8(2),
                    Question::Probe => writer.u8(3),
                    Question::Version => writer.u8(4),
                };
            }
        }
        writer.frame()
    }

    /// Reads a message.
    ///
    /// # Errors
    /// It is no request.
    pub fn parse(message: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(message);
        let request = match reader.u8()? {
            0 => Self::Settings(Settings::read(&mut reader)?),
            1 => {
                let (id, within, secure) = (reader.u32()?, reader.u32()?, boolean(&mut reader)?);
                let scope = match reader.u8()? {
                    0 => Scope::Indirect,
                    1 => Scope::Direct,
                    2 => Scope::Master,
                    _ => return Err(WireError::Kind),
                };
                let map = Map { secure, scope, name: reader.bytes()? };
                let question = match reader.u8()? {
                    0 => Question::Ready,
                    1 => Question::Lookup(reader.bytes()?),
                    2 => Question::Entries,
                    3 => Question::Probe,
                    4 => Question::Version,
                    _ => return Err(WireError::Kind),
                };
                Self::Ask { id, within, map, question }
            }
            _ => return Err(WireError::Kind),
        };
        reader.end().map(|()| request)
    }
}

/// Cuts a stream of bytes into messages.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Bytes in front that were taken already.
    taken: usize,
}

impl Frames {
    /// Appends what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the next message, if it is there as a whole.
    ///
    /// # Errors
    /// The message is longer than [`FRAME_MAX`]; nothing that follows can be understood.
    pub fn take(&mut self) -> Result<Option<Vec<u8>>, WireError> {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| WireError::Length)?;
        if length > FRAME_MAX {
            return Err(WireError::Length);
        }
        let Some(message) = rest.get(..length) else { return Ok(None) };
        let message = message.to_vec();
        self.taken += 4 + length;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema::Schema;
    use super::*;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..30)
    }

    fn settings() -> impl Strategy<Value = Settings> {
        let lists = (prop::collection::vec(bytes(), 0..3), prop::collection::vec(bytes(), 0..3));
        let number = || prop::option::of(any::<u32>());
        (lists, any::<bool>(), number(), number(), bytes()).prop_map(
            |(lists, own, timeout, network_timeout, auth_file)| {
                let schema = own.then(|| Schema::known().remove(1));
                Settings {
                    uris: lists.0,
                    bases: lists.1,
                    schema,
                    timeout,
                    network_timeout,
                    auth_file,
                    has_local_maps: timeout.is_some(),
                    debug: timeout,
                }
            },
        )
    }

    fn request() -> impl Strategy<Value = Request> {
        let scope = prop_oneof![Just(Scope::Indirect), Just(Scope::Direct), Just(Scope::Master)];
        let question = {
            use Question::{Entries, Lookup, Probe, Ready, Version};
            prop_oneof![Just(Ready), bytes().prop_map(Lookup), Just(Entries), Just(Probe), Just(Version)]
        };
        let map = (any::<bool>(), scope, bytes()).prop_map(|(secure, scope, name)| Map { secure, scope, name });
        let ask = (any::<u32>(), any::<u32>(), map, question).prop_map(|(id, within, map, question)| Request::Ask {
            id,
            within,
            map,
            question,
        });
        prop_oneof![settings().prop_map(Request::Settings), ask]
    }

    fn reply() -> impl Strategy<Value = Reply> {
        use Trouble::{NoMap, NotRunning, Unavailable, Unusable};
        let trouble = prop::sample::select(vec![Unavailable, Unusable, NoMap, NotRunning]);
        let holds = prop::option::of(any::<u32>());
        prop_oneof![
            Just(Reply::Ready),
            Just(Reply::NotFound),
            (bytes(), holds).prop_map(|(entry, holds)| Reply::Found { entry, holds }),
            prop::collection::vec((bytes(), bytes()), 0..4).prop_map(Reply::Entries),
            any::<bool>().prop_map(|truncated| Reply::End { truncated }),
            (trouble, "\\PC{0,20}").prop_map(|(trouble, text)| Reply::Failed(trouble, text)),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_in_pieces_of_any_size(
            requests in prop::collection::vec(request(), 1..5), replies in prop::collection::vec(reply(), 1..5), size in 1_usize..50,
        ) {
            let sent: Vec<u8> = requests.iter().flat_map(|request| request.frame().unwrap()).collect();
            let (mut frames, mut got) = (Frames::default(), Vec::new());
            for piece in sent.chunks(size) {
                frames.push(piece);
                while let Some(message) = frames.take().unwrap() {
                    got.push(Request::parse(&message).unwrap());
                }
            }
            prop_assert_eq!(got, requests);
            for (reply, id) in replies.iter().zip(7..) {
                let mut frames = Frames::default();
                frames.push(&reply.frame(id));
                let message = frames.take().unwrap().unwrap();
                prop_assert_eq!(Reply::parse(&message).unwrap(), (id, reply.clone()));
            }
        }

        #[test]
        fn no_bytes_are_too_strange(message in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(request) = Request::parse(&message) {
                prop_assert_eq!(Request::parse(&request.frame().unwrap()[4..]).unwrap(), request);
            }
            if let Ok((id, reply)) = Reply::parse(&message) {
                prop_assert_eq!(Reply::parse(&reply.frame(id)[4..]).unwrap(), (id, reply));
            }
        }
    }

    #[test]
    fn what_is_too_long_is_refused_on_both_sides() {
        let entry = vec![b'x'; FRAME_MAX];
        let frame = Reply::Found { entry: entry.clone(), holds: None }.frame(1);
        let (id, reply) = Reply::parse(&frame[4..]).unwrap();
        assert_eq!((id, reply), (1, Reply::Failed(Trouble::Unavailable, "an entry is too long".to_owned())));
        let map = Map { secure: false, scope: Scope::Indirect, name: Vec::new() };
        assert_eq!(Request::Ask { id: 1, within: 1, map, question: Question::Lookup(entry) }.frame(), None);
        let mut frames = Frames::default();
        frames.push(&u32::MAX.to_le_bytes());
        assert_eq!(frames.take(), Err(WireError::Length));
    }
}
