//! The framing and message format of Varlink: one JSON object per message, followed by a NUL byte.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Answer, Call, ControlError};

/// Maximum size of a request in bytes. A path has at most 4096 bytes, and each of them may be escaped.
pub const REQUEST_MAX: usize = 64 << 10;

/// Maximum size of a reply in bytes, sufficient for some hundred thousand mounts.
pub const REPLY_MAX: usize = 256 << 20;

/// A message is too long. The connection cannot be used any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("message of more than {0} bytes")]
pub struct TooLong(pub usize);

/// Splits a stream of bytes into messages.
#[derive(Debug)]
pub struct Frames {
    buffer: Vec<u8>,
    /// Position before which there is no NUL byte.
    searched: usize,
    limit: usize,
}

impl Frames {
    /// Creates a splitter for messages of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), searched: 0, limit }
    }

    /// Appends bytes that were read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next complete message, without its NUL. Returns `None` if more bytes are needed.
    ///
    /// # Errors
    /// Returns an error if the message is already longer than the limit.
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

#[derive(Deserialize)]
struct RequestObject {
    method: String,
    #[serde(default)]
    parameters: Map<String, Value>,
    #[serde(default)]
    oneway: bool,
}

#[derive(Deserialize)]
struct ReplyObject {
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    parameters: Map<String, Value>,
}

#[derive(Serialize)]
struct Success {
    parameters: Map<String, Value>,
}

/// A received request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The call, or why it is invalid.
    pub call: Result<Call, ControlError>,
    /// Whether the client expects no reply.
    pub oneway: bool,
}

/// A message that does not follow the protocol.
#[derive(Debug, thiserror::Error)]
#[error("not a message of the control protocol: {0}")]
pub struct Malformed(#[from] serde_json::Error);

/// Encodes a request, including its NUL byte.
///
/// # Errors
/// Never in practice, because every call can be encoded as JSON.
pub fn encode_request(call: &Call) -> Result<Vec<u8>, Malformed> {
    framed(call)
}

/// Parses a request.
///
/// # Errors
/// Returns an error if it is not an object with the name of a method. The connection cannot be used any further.
pub fn decode_request(message: &[u8]) -> Result<Request, Malformed> {
    let object: RequestObject = serde_json::from_slice(message)?;
    Ok(Request { call: Call::from_wire(&object.method, object.parameters), oneway: object.oneway })
}

/// Encodes a reply, including its NUL byte.
///
/// # Errors
/// Never in practice, because every result can be encoded as JSON.
pub fn encode_reply(reply: &Result<Answer, ControlError>) -> Result<Vec<u8>, Malformed> {
    match reply {
        Ok(answer) => framed(&Success { parameters: answer.to_wire()? }),
        Err(error) => framed(error),
    }
}

/// Parses the reply to `call`.
///
/// # Errors
/// Returns an error if it is not a reply to this call.
pub fn decode_reply(message: &[u8], call: &Call) -> Result<Result<Answer, ControlError>, Malformed> {
    let object: ReplyObject = serde_json::from_slice(message)?;
    Ok(match object.error {
        Some(name) => Err(ControlError::from_wire(&name, object.parameters)),
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
    use crate::control::{
        Block, Bytes, Expire, Explain, Flush, Level, Mode, Pong, Quiesce, Reload, SetLogLevel, Umount,
    };

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

    /// Every call, with and without its optional parameters.
    fn calls() -> Vec<Call> {
        let path = Bytes(b"/a\xff".to_vec());
        vec![
            Call::Ping,
            Call::Status,
            Call::Mounts,
            Call::Reload(Reload { dry_run: true, no_wait: false }),
            Call::Upgrade,
            Call::Detach,
            Call::Clean,
            Call::Expire(Expire::default()),
            Call::Expire(Expire { path: Some(path.clone()), dry_run: true }),
            Call::Flush(Flush { path: Some(path.clone()) }),
            Call::Block(Block { path: path.clone(), seconds: Some(5), say: Some("x".into()) }),
            Call::Unblock { path: path.clone() },
            Call::SetLogLevel(SetLogLevel { path: path.clone(), level: Level::Debug, seconds: Some(7) }),
            Call::Explain(Explain { path, uid: Some(5), gid: None, secrets: true }),
            Call::Quiesce(Quiesce { mode: Mode::Live, timeout: 3, lease: 4, umount: Umount::Idle }),
            Call::Resume,
            Call::MigrateCheck,
            Call::GetInfo,
            Call::GetInterfaceDescription { interface: "x".into() },
        ]
    }

    #[test]
    fn requests_survive_the_wire_and_are_defined() {
        for call in calls() {
            let mut message = encode_request(&call).unwrap();
            assert_eq!(message.pop(), Some(0));
            // Calls and parameters that are not in the definition are refused.
            assert_eq!(decode_request(&message).unwrap(), Request { call: Ok(call), oneway: false });
        }
    }

    fn call(name: &str, parameters: &str) -> Result<Call, ControlError> {
        let text = format!(r#"{{"method":"org.autofs-rs.Control.{name}","parameters":{parameters}}}"#);
        decode_request(text.as_bytes()).unwrap().call
    }

    fn invalid(parameter: &str) -> Result<Call, ControlError> {
        Err(ControlError::InvalidParameter { parameter: parameter.into() })
    }

    #[test]
    fn parameters_may_be_left_out_where_the_definition_says_so() {
        assert_eq!(call("Ping", "{}"), Ok(Call::Ping));
        assert_eq!(call("Expire", "{}"), Ok(Call::Expire(Expire::default())));
        assert_eq!(call("Expire", r#"{"path":null}"#), Ok(Call::Expire(Expire::default())));
        assert_eq!(call("Quiesce", r#"{"mode":null}"#), Ok(Call::Quiesce(Quiesce::default())));
        assert_eq!(call("Explain", "{}"), invalid("path"));
        assert_eq!(call("Explain", r#"{"path":null}"#), invalid("path"));
        assert_eq!(call("SetLogLevel", r#"{"path":"/a"}"#), invalid("level"));
    }

    #[test]
    fn a_misspelt_parameter_is_an_error() {
        assert_eq!(call("Expire", r#"{"paht":"/home"}"#), invalid("paht"));
        assert_eq!(call("Expire", r#"{"paht":null}"#), invalid("paht"));
        assert_eq!(call("Ping", r#"{"path":"/home"}"#), invalid("path"));
        assert_eq!(call("Quiesce", r#"{"mode":"park","leese":5}"#), invalid("leese"));
    }

    #[test]
    fn a_parameter_of_another_type_is_named() {
        assert_eq!(call("Explain", r#"{"path":5}"#), invalid("path"));
        assert_eq!(call("SetLogLevel", r#"{"path":"/a","level":"loud"}"#), invalid("level"));
        assert_eq!(call("SetLogLevel", r#"{"path":[],"level":"debug"}"#), invalid("path"));
        assert_eq!(call("Quiesce", r#"{"lease":-1,"timeout":3}"#), invalid("lease"));
    }

    #[test]
    fn what_is_no_call_of_ours_is_refused() {
        let call = |text: &str| decode_request(text.as_bytes()).unwrap().call;
        assert_eq!(call(r#"{"method":"org.autofs-rs.Control.Ping","more":true}"#), Ok(Call::Ping));
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
    fn errors_are_defined_and_unknown_ones_are_shown() {
        let errors = [
            ControlError::PermissionDenied,
            ControlError::Busy,
            ControlError::NotBlocked { path: Bytes(b"/x".to_vec()) },
            ControlError::NoSuchMount { path: Bytes(b"/x".to_vec()) },
            ControlError::Failed { message: "no".into() },
            ControlError::InvalidParameter { parameter: "x".into() },
            ControlError::MethodNotFound { method: "x".into() },
            ControlError::InterfaceNotFound { interface: "x".into() },
        ];
        for error in errors {
            let value = serde_json::to_value(&error).unwrap();
            let (interface, name) = value["error"].as_str().unwrap().rsplit_once('.').unwrap();
            let definition = crate::control::interface::definition(interface).unwrap();
            assert!(definition.contains(&format!("error {name} (")), "{name}");
            let mut message = encode_reply(&Err(error.clone())).unwrap();
            message.pop();
            assert_eq!(decode_reply(&message, &Call::Resume).unwrap(), Err(error));
        }
        let reply = br#"{"error":"org.example.Odd","parameters":{"x":1}}"#;
        let message = "the daemon answers org.example.Odd".to_owned();
        assert_eq!(decode_reply(reply, &Call::Ping).unwrap(), Err(ControlError::Failed { message }));
    }

    #[test]
    fn replies_survive_the_wire() {
        let pong = Answer::Pong(Pong { version: "1".into(), pid: 7 });
        for (call, reply) in [(Call::Ping, Ok(pong)), (Call::Resume, Ok(Answer::Done))] {
            let mut message = encode_reply(&reply).unwrap();
            assert_eq!(message.pop(), Some(0));
            assert_eq!(decode_reply(&message, &call).unwrap(), reply);
        }
        assert!(decode_reply(b"{}", &Call::Ping).is_err());
    }
}
