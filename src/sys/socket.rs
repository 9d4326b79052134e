//! Unix sockets with a path.

use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use nix::errno::Errno as Os;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

/// Returns whether a process listens on the stream socket at `path`, also one that is stopped and accepts nothing. Does not
/// block: a blocking connect(2) waits for room in the listener's queue.
///
/// # Errors
/// Returns the errors of socket(2), and ENAMETOOLONG.
pub fn has_listener(path: &Path) -> io::Result<bool> {
    let address = UnixAddr::new(path)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // EAGAIN: the queue is full, so there is one.
    Ok(matches!(connect(socket.as_raw_fd(), &address), Ok(()) | Err(Os::EAGAIN)))
}

/// Returns whether a connection has failed because the socket is not a stream socket.
pub fn is_of_another_type(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Os::EPROTOTYPE as i32)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_full_queue_is_a_listener_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        assert!(!has_listener(&path).unwrap());
        let listener = UnixListener::bind(&path).unwrap();
        // More than any queue has room for; each takes its place and keeps it, closed or not.
        for _ in 0..10_000 {
            assert!(has_listener(&path).unwrap());
        }
        drop(listener);
        assert!(!has_listener(&path).unwrap());
    }
}
