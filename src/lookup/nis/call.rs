//! Calls of remote procedures by a thread that may wait for the reply.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::rpc::rpcbind::{self, Service, Transport};
use crate::rpc::{self, Call, Records, Refusal, ReplyError};
use crate::sys::socket;

/// After this time a call over UDP is sent again; each time twice as long, up to the second value.
const SEND_AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(2));

/// The longest reply over UDP.
const DATAGRAM: usize = 65_536;

/// Packets that are no reply to the call, at most.
const STRAYS_MAX: usize = 1000;

/// Why a call has no results.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// No reply by the deadline.
    #[error("does not answer")]
    TimedOut,
    /// The network or the host refuses.
    #[error("cannot be reached: {0}")]
    Io(io::Error),
    /// The server refuses.
    #[error("refuses: {0}")]
    Refused(#[from] Refusal),
    /// The reply is invalid.
    #[error("has sent an invalid reply")]
    Nonsense,
}

impl From<io::Error> for CallError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Io(error),
        }
    }
}

/// Returns the time until the deadline, which is not zero.
fn left(deadline: Instant) -> Result<Duration, CallError> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(CallError::TimedOut),
        left => Ok(left),
    }
}

/// Returns a transaction number that a host which does not see the call cannot predict.
fn transaction(server: SocketAddrV4) -> u32 {
    let [a, b, c, d, ..] = RandomState::new().hash_one(server).to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

/// The ports from which a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    /// Any port.
    Any,
    /// One below 1024 if there is one: servers give some maps only to callers that must be root.
    Reserved,
}

impl Port {
    /// Returns the port numbers to try in turn; 0 is any.
    fn numbers(self) -> impl Iterator<Item = u16> {
        let number = RandomState::new().hash_one(());
        (self == Self::Reserved).then(|| rpc::reserved_ports(number)).into_iter().flatten().chain([0])
    }
}

/// Makes a call over UDP. Returns its encoded results by the deadline.
///
/// # Errors
/// See [`CallError`].
pub(super) fn by_udp(server: SocketAddrV4, call: &Call, from: Port, deadline: Instant) -> Result<Vec<u8>, CallError> {
    let xid = transaction(server);
    let message = call.encode(xid);
    let bind = |port| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port));
    let socket =
        from.numbers().filter(|port| *port != 0).find_map(|port| bind(port).ok()).map_or_else(|| bind(0), Ok)?;
    // A connected socket receives from this server alone, and its errors.
    socket.connect(server)?;
    let (mut pause, mut buffer, mut strays) = (SEND_AGAIN.0, vec![0; DATAGRAM], 0);
    loop {
        socket.send(&message)?;
        let again = deadline.min(Instant::now() + pause);
        pause = (pause * 2).min(SEND_AGAIN.1);
        while let Ok(wait) = left(again) {
            socket.set_read_timeout(Some(wait))?;
            let length = match socket.recv(&mut buffer).map_err(CallError::from) {
                Ok(length) => length,
                Err(CallError::TimedOut) => break,
                Err(CallError::Io(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            match rpc::reply(buffer.get(..length).unwrap_or_default(), xid) {
                Ok(results) => return Ok(results.to_vec()),
                Err(ReplyError::Refused(refusal)) => return Err(refusal.into()),
                Err(_) => strays += 1,
            }
            if strays > STRAYS_MAX {
                return Err(CallError::Nonsense);
            }
        }
        left(deadline)?;
    }
}

/// Connects over TCP.
fn connect(server: SocketAddrV4, from: Port, deadline: Instant) -> Result<TcpStream, CallError> {
    for port in from.numbers().filter(|port| *port != 0) {
        match socket::connect_from(port, server, left(deadline)?) {
            // It is in use, also by an earlier connection to this server, or only root may use it.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable | io::ErrorKind::PermissionDenied
                ) => {}
            connected => return Ok(connected?),
        }
    }
    Ok(TcpStream::connect_timeout(&SocketAddr::V4(server), left(deadline)?)?)
}

/// Makes a call over TCP. Returns its encoded results, at most `limit` bytes, by the deadline.
///
/// # Errors
/// See [`CallError`].
pub(super) fn by_tcp(
    server: SocketAddrV4,
    call: &Call,
    from: Port,
    limit: usize,
    deadline: Instant,
) -> Result<Vec<u8>, CallError> {
    let xid = transaction(server);
    let mut stream = connect(server, from, deadline)?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream.write_all(&rpc::mark(&call.encode(xid)))?;
    let (mut records, mut piece) = (Records::new(limit), vec![0; DATAGRAM]);
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        let length = match stream.read(&mut piece) {
            Ok(0) => return Err(CallError::Nonsense),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        records.push(piece.get(..length).unwrap_or_default());
        if let Some(message) = records.message().map_err(|_| CallError::Nonsense)? {
            return match rpc::reply(&message, xid) {
                Ok(results) => Ok(results.to_vec()),
                Err(ReplyError::Refused(refusal)) => Err(refusal.into()),
                Err(_) => Err(CallError::Nonsense),
            };
        }
    }
}

/// Asks rpcbind of a host for the port of a program. Returns `None` if it is not registered.
///
/// # Errors
/// rpcbind does not answer.
pub(super) fn port(host: Ipv4Addr, service: Service, deadline: Instant) -> Result<Option<u16>, CallError> {
    let rpcbind = SocketAddrV4::new(host, rpcbind::PORT);
    let results = by_udp(rpcbind, &rpcbind::get_port(service), Port::Any, deadline)?;
    rpcbind::port(&results).map_err(|_| CallError::Nonsense)
}

/// The program `program` of NIS over `transport`.
pub(super) fn service(program: u32, transport: Transport) -> Service {
    Service { program, version: rpc::yp::VERSION, transport }
}
