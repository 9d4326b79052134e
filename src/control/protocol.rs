//! Varlink's framing and envelopes: one JSON object per message, a NUL byte after each.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Answer, Call, ControlError};

/// Bytes that a request may have. A path is at most 4096, each byte of which may be escaped.
pub const REQUEST_MAX: usize = 64 << 10;

/// Bytes that a reply may have: some hundred thousand mounts.
pub const REPLY_MAX: usize = 256 << 20;

/// A message is longer than allowed; what follows on the connection has no meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("message of more than {0} bytes")]
pub struct TooLong(pub usize);

/// Cuts a stream of bytes into messages.
#[derive(Debug)]
pub struct Frames {
    buffer: Vec<u8>,
    /// No NUL byte is before this.
    searched: usize,
    limit: usize,
}

impl Frames {
    /// For messages of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), searched: 0, limit }
    }

    /// Takes in what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, without its NUL; `None`: more must be read.
    ///
    /// # Errors
    /// When it is, or will be, too long.
    pub fn message(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(at) = memchr::memchr(0, unsearched).map(|at| at + self.searched) else {
            self.searched = self.buffer.len();
            return if self.searched > self.limit { Err(TooLong(self.limit)) } else { Ok(None) };
        };
        if at > self.limit {
            return Err(TooLong(self.limit));
        }
        let rest = self.buffer.split_off(at + 1);
        let mut message = std::mem::replace(&mut self.buffer, rest);
        message.pop();
        self.searched = 0;
        Ok(Some(message))
    }
}

#[derive(Serialize, Deserialize)]
struct RequestObject {
    method: String,
    #[serde(default)]
    parameters: Map<String, Value>,
    #[serde(default, skip_serializing_if = "is_false")]
    oneway: bool,
}

#[derive(Serialize, Deserialize)]
struct ReplyObject {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default)]
    parameters: Map<String, Value>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(b: &bool) -> bool {
    !b
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is asked, or what is wrong with it.
    pub call: Result<Call, ControlError>,
    /// No reply is wanted.
    pub oneway: bool,
}

/// Why a message is none.
#[derive(Debug, thiserror::Error)]
#[error("not a message of the control protocol: {0}")]
pub struct Malformed(#[from] serde_json::Error);

/// A request, its NUL byte included.
///
/// # Errors
/// Never in practice: every call can be written as JSON.
pub fn encode_request(call: &Call) -> Result<Vec<u8>, Malformed> {
    let (method, parameters) = call.to_wire()?;
    framed(&RequestObject { method, parameters, oneway: false })
}

/// Reads a request.
///
/// # Errors
/// When it is not even an object that names a method; the connection is then of no use any more.
pub fn decode_request(message: &[u8]) -> Result<Request, Malformed> {
    let object: RequestObject = serde_json::from_slice(message)?;
    Ok(Request { call: Call::from_wire(&object.method, object.parameters), oneway: object.oneway })
}

/// A reply, its NUL byte included.
///
/// # Errors
/// Never in practice: every answer can be written as JSON.
pub fn encode_reply(reply: &Result<Answer, ControlError>) -> Result<Vec<u8>, Malformed> {
    framed(&match reply {
        Ok(answer) => ReplyObject { error: None, parameters: answer.to_wire()? },
        Err(error) => {
            let (name, parameters) = error.to_wire();
            ReplyObject { error: Some(name), parameters }
        }
    })
}

/// Reads the reply to `call`.
///
/// # Errors
/// When it is not a reply to that.
pub fn decode_reply(message: &[u8], call: &Call) -> Result<Result<Answer, ControlError>, Malformed> {
    let object: ReplyObject = serde_json::from_slice(message)?;
    Ok(match object.error {
        Some(name) => Err(ControlError::from_wire(&name, &object.parameters)),
        None => Ok(Answer::from_wire(object.parameters, call)?),
    })
}

fn framed(object: &impl Serialize) -> Result<Vec<u8>, Malformed> {
    let mut message = serde_json::to_vec(object)?;
    message.push(0);
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Bytes, Level, Mode, Pong, Quiesce, Umount};

    #[test]
    fn messages_are_cut_however_they_arrive() {
        let mut frames = Frames::new(8);
        let mut got = Vec::new();
        for piece in [&b"one\0tw"[..], b"", b"o\0", b"\0three"] {
            frames.push(piece);
            while let Some(message) = frames.message().unwrap() {
                got.push(message);
            }
        }
        assert_eq!(got, [&b"one"[..], b"two", b""]);
        frames.push(b"3456");
        assert_eq!(frames.message(), Err(TooLong(8)));
    }

    #[test]
    fn a_long_message_that_comes_whole_is_refused_too() {
        let mut frames = Frames::new(2);
        frames.push(b"abc\0");
        assert_eq!(frames.message(), Err(TooLong(2)));
    }

    #[test]
    fn requests_survive_the_wire() {
        let path = Bytes(b"/a\xff".to_vec());
        for call in [
            Call::Ping,
            Call::Status,
            Call::Mounts,
            Call::Reload,
            Call::Upgrade,
            Call::Detach,
            Call::Expire { path: None },
            Call::Expire { path: Some(path.clone()) },
            Call::SetLogLevel { path: path.clone(), level: Level::Debug },
            Call::Explain { path },
            Call::Quiesce(Quiesce { mode: Mode::Live, timeout: 3, lease: 4, umount: Umount::Idle }),
            Call::Resume,
            Call::MigrateCheck,
            Call::GetInfo,
        ] {
            let mut message = encode_request(&call).unwrap();
            assert_eq!(message.pop(), Some(0));
            assert_eq!(decode_request(&message).unwrap(), Request { call: Ok(call), oneway: false });
        }
    }

    #[test]
    fn parameters_may_be_left_out_and_strange_ones_are_ignored() {
        let call = |text: &str| decode_request(text.as_bytes()).unwrap().call;
        assert_eq!(call(r#"{"method":"org.autofs-rs.Control.Ping","more":true}"#), Ok(Call::Ping));
        assert_eq!(
            call(r#"{"method":"org.autofs-rs.Control.Expire","parameters":{"x":[1]}}"#),
            Ok(Call::Expire { path: None })
        );
        assert_eq!(
            call(r#"{"method":"org.autofs-rs.Control.Explain"}"#),
            Err(ControlError::InvalidParameter { parameter: "path".into() })
        );
        assert_eq!(
            call(r#"{"method":"org.autofs-rs.Control.Explain","parameters":{"path":5}}"#),
            Err(ControlError::InvalidParameter { parameter: "path".into() })
        );
        assert_eq!(
            call(r#"{"method":"org.autofs-rs.Control.Fly"}"#),
            Err(ControlError::MethodNotFound { method: "org.autofs-rs.Control.Fly".into() })
        );
        assert_eq!(
            call(r#"{"method":"org.example.Fly"}"#),
            Err(ControlError::InterfaceNotFound { interface: "org.example".into() })
        );
        for text in ["", "x", "[]", "{}", r#"{"method":5}"#, r#"{"method":"a.b","parameters":[]}"#] {
            assert!(decode_request(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn replies_survive_the_wire() {
        let pong = Answer::Pong(Pong { version: "1".into(), pid: 7 });
        for (call, reply) in [
            (Call::Ping, Ok(pong)),
            (Call::Reload, Ok(Answer::Done)),
            (Call::Reload, Err(ControlError::PermissionDenied)),
            (Call::Reload, Err(ControlError::NoSuchMount { path: Bytes(b"/x".to_vec()) })),
            (Call::Reload, Err(ControlError::Failed { message: "no".into() })),
        ] {
            let mut message = encode_reply(&reply).unwrap();
            assert_eq!(message.pop(), Some(0));
            assert_eq!(decode_reply(&message, &call).unwrap(), reply);
        }
        assert!(decode_reply(b"{}", &Call::Ping).is_err());
    }
}
