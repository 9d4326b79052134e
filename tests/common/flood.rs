//! A user who keeps a thousand connections to a socket open: idle ones, ones with half a call, ones with garbage.

use std::ffi::OsStr;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::world::PROGRAM;

/// Connections that are kept open. One that the server closes is opened again.
const CONNECTIONS: usize = 1000;

/// First bytes of the connections, in turn.
const WORDS: [&[u8]; 3] = [b"", b"{\"method\":\"org.autofs-rs.Control.Sta", b"\xff\x01 neither JSON\n nor a call {{{"];

/// The process that floods, until it is dropped.
pub struct Flood(Child);

impl Flood {
    /// Starts it as a user. Returns when all connections have been opened once.
    pub fn start(socket: &str, uid: u32) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["--flood", socket]).uid(uid).gid(uid).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = child.stdout.as_mut().unwrap().read(&mut [0; 1]).unwrap();
        assert_eq!(said, 1, "the flood has ended");
        Self(child)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// The flooding process.
pub fn main(socket: &OsStr) -> ExitCode {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let mut connections: Vec<UnixStream> = Vec::new();
    let (mut opened, mut announced) = (0, false);
    loop {
        while connections.len() < CONNECTIONS {
            // The queue of the socket is full: the server has all that it can take.
            let Ok(mut stream) = UnixStream::connect(socket) else { break };
            stream.set_nonblocking(true).unwrap();
            _ = stream.write_all(WORDS[opened % WORDS.len()]);
            opened += 1;
            connections.push(stream);
        }
        connections
            .retain_mut(|stream| matches!(stream.read(&mut [0; 4096]), Err(e) if e.kind() == ErrorKind::WouldBlock));
        if opened >= CONNECTIONS && !announced {
            announced = true;
            std::io::stdout().write_all(b"x\n").unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
