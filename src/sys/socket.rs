//! Unix sockets with a path, connections from a chosen port, and the errors of UDP sockets.

use std::io;
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno as Os;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, UnixAddr, accept4, bind, connect, getsockopt, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

/// State of the process that listens on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// There is none.
    None,
    /// The process with this pid, which may have ended if others have the socket open too.
    Pid(i32),
    /// There is one, and its queue is full.
    Busy,
}

/// Returns who listens on the stream socket at `path`, be it a process that is stopped and accepts nothing. Does not block: a
/// blocking connect(2) waits for room in the listener's queue.
///
/// # Errors
/// Returns the errors of socket(2) and getsockopt(2), and ENAMETOOLONG.
pub fn listener(path: &Path) -> io::Result<Listener> {
    let address = UnixAddr::new(path)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match connect(socket.as_raw_fd(), &address) {
        Ok(()) => Ok(Listener::Pid(getsockopt(&socket, sockopt::PeerCredentials)?.pid())),
        Err(Os::EAGAIN) => Ok(Listener::Busy),
        Err(_) => Ok(Listener::None),
    }
}

/// Accepts the next connection of a listener, writes `reply` if the connection takes it at once, and closes the connection.
///
/// # Errors
/// Returns the errors of accept4(2) and send(2).
pub fn refuse(listener: BorrowedFd<'_>, reply: &[u8]) -> io::Result<()> {
    let accepted = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    // SAFETY: a new descriptor that nothing else owns.
    let accepted = unsafe { OwnedFd::from_raw_fd(accepted) };
    send(accepted.as_raw_fd(), reply, MsgFlags::MSG_NOSIGNAL)?;
    Ok(())
}

/// Connects over TCP from the port `from`. Ports below 1024 need CAP_NET_BIND_SERVICE.
///
/// # Errors
/// Returns the errors of bind(2) and connect(2); EINPROGRESS if that takes longer than `within`.
pub fn connect_from(from: u16, to: SocketAddrV4, within: Duration) -> io::Result<TcpStream> {
    let socket: OwnedFd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(socket.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, from))?;
    let seconds = i64::try_from(within.as_secs()).unwrap_or(i64::MAX);
    // Zero would mean no limit.
    let limit = TimeVal::new(seconds as _, within.subsec_micros().max(1) as _);
    // connect(2) observes it, too.
    setsockopt(&socket, sockopt::SendTimeout, &limit)?;
    connect(socket.as_raw_fd(), &SockaddrIn::from(to))?;
    Ok(socket.into())
}

/// Makes a connected UDP socket return EHOSTUNREACH when a router says so, or no host of the own network has the address (the
/// kernel asks for three seconds). Without it the kernel tells only TCP sockets.
///
/// # Errors
/// Returns the errors of setsockopt(2).
pub fn report_errors(socket: &impl AsFd, is_ipv6: bool) -> io::Result<()> {
    let set = if is_ipv6 {
        setsockopt(socket, sockopt::Ipv6RecvErr, &true)
    } else {
        setsockopt(socket, sockopt::Ipv4RecvErr, &true)
    };
    Ok(set?)
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
        assert_eq!(listener(&path).unwrap(), Listener::None);
        let socket = UnixListener::bind(&path).unwrap();
        assert_eq!(listener(&path).unwrap(), Listener::Pid(crate::sys::children::pid()));
        // More than any queue has room for; each takes its place and keeps it, closed or not.
        for _ in 0..10_000 {
            assert_ne!(listener(&path).unwrap(), Listener::None);
        }
        assert_eq!(listener(&path).unwrap(), Listener::Busy);
        drop(socket);
        assert_eq!(listener(&path).unwrap(), Listener::None);
    }
}
