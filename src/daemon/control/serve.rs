//! The control socket: reads calls, checks whether their sender may make them, hands them to the daemon's loop and
//! writes the replies.
//!
//! Any user may connect, so everything is limited: connections in all and for each user, the size of a call, the time
//! in which a call must come and in which its reply must be read. Root has connections of its own.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use log::{debug, warn};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::blocking;
use crate::control::protocol::{self, REQUEST_MAX};
use crate::control::{Answer, Call, ControlError, Frames};
use crate::mutex::lock;
use crate::sys::socket::{self, Listener};
use crate::sys::{fds, path};

/// Maximum number of open connections of root.
const ROOT_CONNECTIONS: usize = 8;

/// Maximum number of open connections of all other users.
const OTHER_CONNECTIONS: usize = 128;

/// Maximum number of open connections of one other user, so that a user cannot lock out others.
const USER_CONNECTIONS: usize = 8;

/// How long a connection may be idle, and how long a client may take to read a reply.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Interval between two warnings that no connection can be accepted.
const WARN_AGAIN: Duration = Duration::from_secs(60);

/// How long the worker may take for a reply.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long the worker may take for a call that waits for mounts.
const RELOAD_WITHIN: Duration = Duration::from_secs(50);

/// A permitted call, to be answered through `reply`.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The call.
    pub(crate) call: Call,
    /// Effective user id of the client.
    pub(crate) uid: u32,
    /// Effective group id of the client.
    pub(crate) gid: u32,
    /// Receives the result. Dropping it reports that the daemon cannot answer.
    pub(crate) reply: oneshot::Sender<Result<Answer, ControlError>>,
    /// Completes (with an error) when the reply was written, or could not be written.
    pub(crate) delivered: oneshot::Receiver<()>,
}

/// Creates the socket at `path`, and its directory. Replaces an existing socket without a listener. Also replaces
/// the socket of an earlier worker (`is_earlier` returns true): a killed worker may hang in the kernel and keep its socket. The
/// socket is bound to its final name, not renamed, because CRIU restores sockets by the name they were bound to. Must be called
/// in a tokio runtime.
///
/// # Errors
/// Returns the errors of mkdir, unlink, bind and chmod, and EADDRINUSE if another daemon listens there.
pub(crate) fn listen(path: &Path, is_earlier: impl Fn(i32) -> bool) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        match DirBuilder::new().mode(0o755).create(directory) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    match socket::listener(path)? {
        Listener::None => {}
        Listener::Pid(pid) if is_earlier(pid) => {}
        Listener::Pid(_) | Listener::Busy => return Err(ErrorKind::AddrInUse.into()),
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// Identifies a socket file by device and inode, so that only our own is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity(u64, u64);

/// Returns the identity of the file now at `path`.
pub(crate) fn identity(path: &Path) -> Option<Identity> {
    path::lstat(path).ok().map(|found| Identity(found.dev, found.ino))
}

/// Removes the socket, and its directory if it is empty, at shutdown. A socket that another daemon has created in its place
/// is left alone.
pub(crate) fn remove(path: &Path, own: Identity) {
    if identity(path) == Some(own) {
        let _ = fs::remove_file(path);
        if let Some(directory) = path.parent() {
            let _ = fs::remove_dir(directory);
        }
    }
}

/// The number of open connections by user.
#[derive(Debug, Default)]
struct Connections {
    by_user: HashMap<u32, usize>,
    of_others: usize,
}

/// An open connection. It is counted until it is dropped.
#[derive(Debug)]
struct Connection {
    all: Arc<Mutex<Connections>>,
    uid: u32,
}

impl Connection {
    /// Counts one more connection of a user. Returns `None` if the limit is reached.
    fn admit(all: &Arc<Mutex<Connections>>, uid: u32) -> Option<Self> {
        let mut open = lock(all);
        let own = open.by_user.get(&uid).copied().unwrap_or(0);
        let has_room = match uid {
            0 => own < ROOT_CONNECTIONS,
            _ => own < USER_CONNECTIONS && open.of_others < OTHER_CONNECTIONS,
        };
        if !has_room {
            return None;
        }
        open.by_user.insert(uid, own + 1);
        open.of_others += usize::from(uid != 0);
        Some(Self { all: Arc::clone(all), uid })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = lock(&self.all);
        let own = open.by_user.get(&self.uid).copied().unwrap_or(0);
        match own {
            0 | 1 => drop(open.by_user.remove(&self.uid)),
            _ => drop(open.by_user.insert(self.uid, own - 1)),
        }
        open.of_others = open.of_others.saturating_sub(usize::from(self.uid != 0));
    }
}

/// Accepts connections as long as the task runs, and sends their calls to `requests`.
pub(crate) async fn serve(listener: UnixListener, requests: mpsc::Sender<Asked>) {
    let (open, listener) = (Arc::default(), Arc::new(listener));
    let mut warned: Option<Instant> = None;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                if warned.is_none_or(|at| at.elapsed() > WARN_AGAIN) {
                    warn!("cannot accept a control connection: {error}");
                    warned = Some(Instant::now());
                }
                if fds::is_exhausted(&error) {
                    refuse(&listener).await;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(peer) = stream.peer_cred() else { continue };
        let Some(connection) = Connection::admit(&open, peer.uid()) else {
            debug!("too many control connections, one of uid {} is closed", peer.uid());
            // A client that does not read it is told nothing; waiting for it would delay the others.
            if let Ok(reply) = protocol::encode_reply(&Err(ControlError::Busy)) {
                let _ = stream.try_write(&reply);
            }
            continue;
        };
        let requests = requests.clone();
        tokio::spawn(async move {
            if let Err(error) = converse(stream, peer.uid(), peer.gid(), &requests).await {
                debug!("control connection of uid {} ends: {error}", peer.uid());
            }
            drop(connection);
        });
    }
}

/// Tells the next client that no descriptor is free for its connection, and closes the connection.
async fn refuse(listener: &Arc<UnixListener>) {
    let message = "the daemon can open no more files: their number has reached its limit".to_owned();
    let Ok(reply) = protocol::encode_reply(&Err(ControlError::Failed { message })) else { return };
    let listener = Arc::clone(listener);
    let refused = blocking::run(move || fds::with_free_number(|| socket::refuse(listener.as_fd(), &reply)));
    if let Err(error) = refused.await {
        debug!("cannot refuse a control connection: {error}");
    }
}

/// Serves one connection until it is closed.
async fn converse(mut stream: UnixStream, uid: u32, gid: u32, requests: &mpsc::Sender<Asked>) -> io::Result<()> {
    let mut frames = Frames::new(REQUEST_MAX);
    while let Some(message) = timeout(IDLE_TIMEOUT, read_message(&mut stream, &mut frames)).await?? {
        let request = protocol::decode_request(&message).map_err(io::Error::other)?;
        // CRIU cannot dump a connection to a process outside. So this one is closed right after the reply.
        let last = matches!(request.call, Ok(Call::Quiesce(_)));
        let (delivery, delivered) = oneshot::channel();
        let reply = match request.call {
            Ok(call) => answer(call, uid, gid, delivered, requests).await,
            Err(error) => Err(error),
        };
        if !request.oneway {
            let reply = protocol::encode_reply(&reply).map_err(io::Error::other)?;
            timeout(IDLE_TIMEOUT, stream.write_all(&reply)).await??;
        }
        drop(delivery);
        if last {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads the next message. Returns `None` if the client has closed the connection.
async fn read_message(stream: &mut UnixStream, frames: &mut Frames) -> io::Result<Option<Vec<u8>>> {
    loop {
        if let Some(message) = frames.message().map_err(io::Error::other)? {
            return Ok(Some(message));
        }
        let piece = fds::read_piece(stream).await?;
        if piece.is_empty() {
            return Ok(None);
        }
        frames.push(&piece);
    }
}

async fn answer(
    call: Call,
    uid: u32,
    gid: u32,
    delivered: oneshot::Receiver<()>,
    requests: &mpsc::Sender<Asked>,
) -> Result<Answer, ControlError> {
    if call.is_privileged() && uid != 0 {
        return Err(ControlError::PermissionDenied);
    }
    if let Some(answer) = call.answer_about_service() {
        return answer;
    }
    let time_limit = match &call {
        Call::Quiesce(wish) => ANSWER_WITHIN + Duration::from_secs(wish.timeout),
        Call::Reload(_) | Call::Expire(_) | Call::Block(_) => RELOAD_WITHIN,
        _ => ANSWER_WITHIN,
    };
    let (reply, answered) = oneshot::channel();
    let asked = Asked { call, uid, gid, reply, delivered };
    let outcome = timeout(time_limit, async {
        requests.send(asked).await.ok()?;
        answered.await.ok()
    });
    match outcome.await {
        Ok(Some(answer)) => answer,
        Ok(None) => Err(ControlError::Failed { message: "the daemon is stopping".to_owned() }),
        Err(_) => Err(ControlError::Failed { message: "the daemon is too busy to answer".to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::control::Pong;

    /// Starts a server that answers every ping. Returns the path of its socket and a guard that keeps it alive.
    fn server() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("autofs/control");
        let (send, mut receive) = mpsc::channel::<Asked>(4);
        tokio::spawn(serve(listen(&path, |_| false).unwrap(), send));
        tokio::spawn(async move {
            while let Some(asked) = receive.recv().await {
                let answer = match asked.call {
                    Call::Ping => Ok(Answer::Pong(Pong { version: "v".into(), pid: 1 })),
                    _ => Err(ControlError::Failed { message: "only pings here".into() }),
                };
                let _ = asked.reply.send(answer);
            }
        });
        (dir, path)
    }

    async fn told(stream: &mut UnixStream, frames: &mut Frames, call: &Call) -> Result<Answer, ControlError> {
        stream.write_all(&protocol::encode_request(call).unwrap()).await.unwrap();
        let message = read_message(stream, frames).await.unwrap().unwrap();
        protocol::decode_reply(&message, call).unwrap()
    }

    #[tokio::test]
    async fn calls_reach_the_daemon_and_answers_come_back() {
        let (_dir, path) = server();
        let mut stream = UnixStream::connect(&path).await.unwrap();
        let mut frames = Frames::new(REQUEST_MAX);
        let pong = Answer::Pong(Pong { version: "v".into(), pid: 1 });
        assert_eq!(told(&mut stream, &mut frames, &Call::Ping).await, Ok(pong.clone()));
        assert!(told(&mut stream, &mut frames, &Call::Status).await.is_err());
        assert!(matches!(told(&mut stream, &mut frames, &Call::GetInfo).await, Ok(Answer::Info(_))));
        assert_eq!(listen(&path, |_| false).unwrap_err().kind(), ErrorKind::AddrInUse, "another daemon");
        drop(stream);
        let own = identity(&path).unwrap();
        remove(&path, Identity(own.0, own.1 + 1));
        assert!(identity(&path).is_some(), "another daemon's");
        remove(&path, own);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn the_socket_of_an_earlier_worker_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("autofs/control");
        // It never accepts, and it goes on to listen.
        let earlier = listen(&path, |_| false).unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        let later = listen(&path, |pid| pid == me).unwrap();
        let (client, accepted) = tokio::join!(UnixStream::connect(&path), later.accept());
        assert!(client.is_ok() && accepted.is_ok());
        drop(earlier);
    }

    #[tokio::test]
    async fn rubbish_closes_the_connection() {
        let (_dir, path) = server();
        for rubbish in [b"{}\0".to_vec(), vec![b'x'; REQUEST_MAX + 2]] {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            let _ = stream.write_all(&rubbish).await;
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            assert!(rest.is_empty());
        }
    }

    #[tokio::test]
    async fn only_root_may_change_something() {
        let (send, mut receive) = mpsc::channel(1);
        let refused = answer(Call::Resume, 1000, 0, oneshot::channel().1, &send).await;
        assert_eq!(refused, Err(ControlError::PermissionDenied));
        assert!(receive.try_recv().is_err());
    }

    #[test]
    fn one_user_leaves_connections_to_others() {
        let all = Arc::default();
        let admit = |uid, count: usize| -> Vec<Connection> {
            std::iter::repeat_with(|| Connection::admit(&all, uid)).take(count).flatten().collect()
        };
        let (one, root) = (admit(1000, 1000), admit(0, 1000));
        assert_eq!((one.len(), root.len()), (USER_CONNECTIONS, ROOT_CONNECTIONS));
        let other = admit(1001, 1);
        assert_eq!(other.len(), 1);
        let many: Vec<_> = (2000..3000).flat_map(|uid| admit(uid, 1)).collect();
        assert_eq!(one.len() + other.len() + many.len(), OTHER_CONNECTIONS);
        assert!(Connection::admit(&all, 0).is_none());
        drop((one, other, root, many));
        let left = all.lock().unwrap();
        assert!(left.by_user.is_empty() && left.of_others == 0, "{left:?}");
    }

    #[tokio::test]
    async fn connections_are_limited() {
        let (_dir, path) = server();
        let mut streams = Vec::new();
        // The limit is the same for root and for other users.
        for _ in 0..=ROOT_CONNECTIONS.max(USER_CONNECTIONS) {
            streams.push(UnixStream::connect(&path).await.unwrap());
        }
        let mut told_why = Vec::new();
        streams.last_mut().unwrap().read_to_end(&mut told_why).await.unwrap();
        assert!(String::from_utf8(told_why).unwrap().contains("org.autofs-rs.Control.Busy"));
        // Earlier connections work, and closed ones make room.
        let first = streams.first_mut().unwrap();
        assert!(told(first, &mut Frames::new(REQUEST_MAX), &Call::Ping).await.is_ok());
        streams.clear();
        for attempt in 0.. {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            stream.write_all(&protocol::encode_request(&Call::Ping).unwrap()).await.unwrap();
            if let Ok(Some(_)) = read_message(&mut stream, &mut Frames::new(REQUEST_MAX)).await {
                break;
            }
            assert!(attempt < 500, "no place became free");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
