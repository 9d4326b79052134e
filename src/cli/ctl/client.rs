//! The client side of the control socket.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::control::protocol::{self, Malformed, REPLY_MAX, TooLong};
use crate::control::{Answer, Call, ControlError, Extent, Frames, Reloaded};
use crate::sys::{path as paths, socket};
use crate::text::Escaped;

/// How long the socket may have no listener.
const REPLACED_WITHIN: Duration = Duration::from_millis(300);

/// How long the next worker may take after one has died.
const NEXT_WORKER: Duration = Duration::from_secs(3);

/// Why a call has failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No process listens at the socket.
    #[error(
        "the daemon is not running (no process listens at {}); start it with systemctl start autofs",
        Escaped::path(.0)
    )]
    NotRunning(PathBuf),
    /// The path does not lead to a stream socket.
    #[error("{} is not a socket of the daemon: name its socket, or leave --socket out", Escaped::path(.0))]
    NoSocket(PathBuf),
    /// The socket may not be opened.
    #[error("{}: permission denied", Escaped::path(.0))]
    Denied(PathBuf),
    /// The daemon has refused the call.
    #[error(transparent)]
    Refused(#[from] ControlError),
    /// No reply in time.
    #[error("no reply from the daemon within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// An access did not end in time.
    #[error("{} is not there within {} s", Escaped::path(.0), .1.as_secs())]
    NotMounted(PathBuf, Duration),
    /// An access waits for the file system that is mounted.
    #[error("{} is mounted, but its file system does not answer", Escaped::path(.0))]
    Silent(PathBuf),
    /// The daemon has closed the connection without a reply.
    #[error("the daemon has closed the connection without a reply; see its log")]
    Gone,
    /// The worker has died while it carried out a call that changes something.
    #[error("the daemon's worker has died meanwhile, and the next one serves: whether this was done is uncertain; {0}")]
    Died(&'static str),
    /// The connection has failed.
    #[error("cannot talk to the daemon: {}", plain(.0))]
    Io(#[from] io::Error),
    /// An argument has no meaning.
    #[error("{0}")]
    Usage(String),
    /// The output could not be written.
    #[error("cannot write the output: {}", plain(.0))]
    Output(io::Error),
    /// The reply is invalid.
    #[error("cannot understand the daemon: {0}")]
    Malformed(#[from] Malformed),
    /// The reply is too long.
    #[error("cannot understand the daemon: {0}")]
    TooLong(#[from] TooLong),
}

impl ClientError {
    /// The reply belongs to another call.
    pub(super) fn unexpected() -> Self {
        Self::Io(io::Error::new(ErrorKind::InvalidData, "the reply belongs to another call"))
    }
}

/// Returns the text of an error without its number, which says nothing to people.
pub(super) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error ").next().unwrap_or_default().to_owned()
}

/// Makes a call to the daemon that listens at `socket`, and waits at most `time_limit` in all for the reply. If the worker dies before
/// it replies, a call that changes nothing is made again, once.
///
/// # Errors
/// Returns an error if there is no valid reply, or if the daemon has refused the call.
pub fn ask(socket: &Path, call: Call, time_limit: Duration) -> Result<Answer, ClientError> {
    let begun = Instant::now();
    let again = call.is_read_only().then(|| call.clone());
    let look = look_after(&call);
    let answer = ask_once(socket, call, time_limit);
    if !matches!(answer, Err(ClientError::Gone)) {
        return answer;
    }
    let left = || time_limit.saturating_sub(begun.elapsed());
    match (wait_for_answer(socket, left().min(NEXT_WORKER)), again) {
        (Ok(()), Some(call)) => ask_once(socket, call, left()),
        (Ok(()), None) => Err(ClientError::Died(look)),
        (Err(_), _) => Err(ClientError::Gone),
    }
}

/// Returns what shows whether a call that changes something was carried out.
fn look_after(call: &Call) -> &'static str {
    match call {
        Call::Reload(_) => "the new worker reads the maps at its start; see autofsctl status",
        Call::Expire(_) => "see autofsctl mounts",
        Call::Flush(_) => "run it again",
        Call::Block(_) | Call::Unblock { .. } | Call::SetLogLevel(_) => "see autofsctl status",
        _ => "see autofsctl status and autofsctl history --daemon",
    }
}

/// Makes a call once.
fn ask_once(socket: &Path, call: Call, time_limit: Duration) -> Result<Answer, ClientError> {
    // In a thread, because connect(2) blocks without limit while the queue of the socket is full.
    let (send, receive) = mpsc::channel();
    let path = socket.to_owned();
    thread::Builder::new().spawn(move || {
        // Fails if the deadline has passed.
        let _ = send.send(converse(&path, &call));
    })?;
    match receive.recv_timeout(time_limit) {
        Ok(answer) => answer,
        Err(RecvTimeoutError::Timeout) => Err(ClientError::TimedOut(time_limit)),
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::from(ErrorKind::BrokenPipe).into()),
    }
}

/// Pings the daemon until it replies, even if no process listens at first.
///
/// # Errors
/// Returns the last error if there is no reply within `time_limit`.
pub fn wait_for_answer(socket: &Path, time_limit: Duration) -> Result<(), ClientError> {
    let end = Instant::now() + time_limit;
    loop {
        match ask_once(socket, Call::Ping, end.saturating_duration_since(Instant::now())) {
            Ok(_) => return Ok(()),
            Err(e) if Instant::now() >= end => return Err(e),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn converse(socket: &Path, call: &Call) -> Result<Answer, ClientError> {
    let mut stream = connect(socket)?;
    match stream.write_all(&protocol::encode_request(call)?) {
        // The daemon says why it has closed the connection before.
        Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
        written => written?,
    }
    let mut frames = Frames::new(REPLY_MAX);
    let mut piece = vec![0; 64 << 10];
    loop {
        if let Some(message) = frames.message()? {
            let answer = protocol::decode_reply(&message, call)??;
            let upgraded = matches!(&answer, Answer::Reloaded(Reloaded { extent: Extent::Upgraded, .. }));
            if matches!(answer, Answer::Quiesced(_)) || *call == Call::Upgrade || upgraded {
                // Wait until the daemon closes the connection. After a quiesce, only then can a checkpoint be made, because
                // CRIU cannot dump the connection. During an upgrade, the old worker exits after its reply.
                while stream.read(&mut piece)? > 0 {}
            }
            return Ok(answer);
        }
        match stream.read(&mut piece) {
            Ok(0) => return Err(ClientError::Gone),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Err(ClientError::Gone),
            Err(error) => return Err(error.into()),
            Ok(n) => frames.push(piece.get(..n).unwrap_or_default()),
        }
    }
}

/// Connects to the daemon. While the keeper replaces a worker that has died, no process listens for a moment.
fn connect(socket: &Path) -> Result<UnixStream, ClientError> {
    let end = Instant::now() + REPLACED_WITHIN;
    loop {
        match UnixStream::connect(socket) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused && Instant::now() < end => {
                thread::sleep(Duration::from_millis(10));
            }
            connected => return connected.map_err(|error| refused(socket, error)),
        }
    }
}

/// Returns why there is no connection to the socket.
fn refused(path: &Path, error: io::Error) -> ClientError {
    let is_no_socket = || paths::stat(path).is_ok_and(|found| !found.is_socket());
    match error.kind() {
        _ if socket::is_of_another_type(&error) => ClientError::NoSocket(path.to_owned()),
        ErrorKind::ConnectionRefused if is_no_socket() => ClientError::NoSocket(path.to_owned()),
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => ClientError::NotRunning(path.to_owned()),
        ErrorKind::PermissionDenied => ClientError::Denied(path.to_owned()),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Pong;
    use std::os::unix::net::UnixListener;

    /// Returns the result of a call to a daemon that replies with `bytes`.
    fn answered(bytes: Vec<u8>) -> Result<Answer, ClientError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 200];
            let n = stream.read(&mut request).unwrap();
            assert_eq!(request[n - 1], 0);
            stream.write_all(&bytes).unwrap();
        });
        let answer = ask(&path, Call::Ping, Duration::from_secs(20));
        server.join().unwrap();
        answer
    }

    #[test]
    fn answers_and_broken_ones() {
        let pong = Ok(Answer::Pong(Pong { version: "1".into(), pid: 5 }));
        let reply = protocol::encode_reply(&pong).unwrap();
        assert!(matches!(answered(reply), Ok(Answer::Pong(Pong { pid: 5, .. }))));
        let reply = protocol::encode_reply(&Err(ControlError::PermissionDenied)).unwrap();
        assert!(matches!(answered(reply), Err(ClientError::Refused(ControlError::PermissionDenied))));
        assert!(matches!(answered(b"{}\0".to_vec()), Err(ClientError::Malformed(_))));
        assert!(matches!(answered(b"{".to_vec()), Err(ClientError::Gone)));
    }

    /// The first connection is closed without a reply, as by a worker that dies; the others are answered with `pong`.
    #[test]
    fn a_call_that_changes_nothing_is_made_again() {
        let ask = |call: Call| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("control");
            let listener = UnixListener::bind(&path).unwrap();
            thread::spawn(move || {
                let mut calls = 0;
                while let Ok((mut stream, _)) = listener.accept() {
                    let mut request = [0; 200];
                    let _ = stream.read(&mut request).unwrap();
                    let pong = Answer::Pong(Pong { version: "1".into(), pid: 5 });
                    if calls > 0 {
                        stream.write_all(&protocol::encode_reply(&Ok(pong)).unwrap()).unwrap();
                    }
                    calls += 1;
                }
            });
            super::ask(&path, call, Duration::from_secs(20))
        };
        assert!(matches!(ask(Call::Ping), Ok(Answer::Pong(Pong { pid: 5, .. }))));
        let changed = ask(Call::Clean).unwrap_err().to_string();
        assert!(changed.contains("uncertain; see autofsctl status"), "{changed}");
    }

    #[test]
    fn nobody_there_or_nobody_answers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let ask = || ask(&path, Call::Ping, Duration::from_secs(60));
        assert!(matches!(ask(), Err(ClientError::NotRunning(_))));
        let listener = UnixListener::bind(&path).unwrap();
        let soon = super::ask(&path, Call::Ping, Duration::from_millis(30));
        assert!(matches!(soon, Err(ClientError::TimedOut(_))));
        drop(listener);
        assert!(matches!(ask(), Err(ClientError::NotRunning(_))));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(matches!(ask(), Err(ClientError::NoSocket(_))));
        std::fs::remove_file(&path).unwrap();
        let _datagrams = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        assert!(matches!(ask(), Err(ClientError::NoSocket(_))));
    }
}
