//! Calls of remote procedures over UDP and TCP. A server that lies costs its call and nothing else: the caller sets a deadline
//! for the whole call, and a reply may be only so long.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::{Instant, sleep, timeout_at};

use crate::rpc::rpcbind::{self, Service, Transport};
use crate::rpc::{self, Call, Records, Refusal, ReplyError};
use crate::sys::socket::report_errors;

/// After this time a call over UDP is sent again; each time twice as long, up to the second value.
const SEND_AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(4));

/// Packets over UDP that are no reply to the call, at most.
const STRAYS_MAX: usize = 1000;

/// The longest reply over UDP.
const DATAGRAM: usize = 65_536;

/// The longest reply over TCP where nothing else is said.
const REPLY_MAX: usize = DATAGRAM;

/// By how much TCP starts later where UDP is tried first, RFC 8305.
pub(super) const STAGGER: Duration = Duration::from_millis(250);

/// Why a call has no results.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No reply by the deadline.
    #[error("does not answer")]
    TimedOut,
    /// The network or the host refuses.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server refuses.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The reply is none.
    #[error("has sent an invalid reply: {0}")]
    Nonsense(&'static str),
    /// rpcbind does not know the program.
    #[error("{0} is not registered with rpcbind")]
    NotRegistered(&'static str),
}

impl CallError {
    /// Returns whether the packets came no further than this machine: it has no route.
    pub(crate) fn is_no_route(&self) -> bool {
        matches!(self, Self::Io(e) if e.kind() == io::ErrorKind::NetworkUnreachable)
    }

    /// Returns whether the host has shown no sign of life.
    pub(crate) fn is_silence(&self) -> bool {
        match self {
            Self::TimedOut => true,
            Self::Io(e) => matches!(e.kind(), io::ErrorKind::HostUnreachable | io::ErrorKind::TimedOut),
            _ => false,
        }
    }
}

/// Ends `work` at the deadline.
pub(super) async fn by<T>(deadline: Instant, work: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
    timeout_at(deadline, work).await.unwrap_or(Err(CallError::TimedOut))
}

/// Source and destination of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    /// Address and port of the server.
    pub(super) server: SocketAddr,
    /// TCP or UDP.
    pub(super) transport: Transport,
    /// From a port below 1024 if one is free, which some servers ask for.
    pub(super) reserved: bool,
    /// The longest reply.
    pub(super) limit: usize,
}

impl Line {
    /// A line to a server that answers in a few words.
    pub(super) fn new(server: SocketAddr, transport: Transport) -> Self {
        Self { server, transport, reserved: false, limit: REPLY_MAX }
    }

    /// Makes a call. Returns its encoded results. Waits for them without an end: see [`by`].
    ///
    /// # Errors
    /// See [`CallError`].
    pub(super) async fn call(self, call: &Call) -> Result<Vec<u8>, CallError> {
        // A host that does not see the call cannot guess the number.
        let [a, b, c, d, ..] = RandomState::new().hash_one(self.server).to_ne_bytes();
        let xid = u32::from_ne_bytes([a, b, c, d]);
        let message = call.encode(xid);
        match self.transport {
            Transport::Udp => self.by_udp(&message, xid).await,
            Transport::Tcp => self.by_tcp(&message, xid).await,
        }
    }

    async fn by_udp(self, message: &[u8], xid: u32) -> Result<Vec<u8>, CallError> {
        let mut socket = None;
        for port in self.ports() {
            match UdpSocket::bind((self.any(), port)).await {
                Ok(bound) => {
                    socket = Some(bound);
                    break;
                }
                Err(e) if port == 0 => return Err(e.into()),
                Err(_) => {}
            }
        }
        let socket = socket.ok_or(CallError::Nonsense("no port"))?;
        // A connected socket receives from this server alone, and its errors.
        socket.connect(self.server).await?;
        report_errors(&socket, self.server.is_ipv6())?;
        let (mut pause, mut buffer, mut strays) = (SEND_AGAIN.0, vec![0; DATAGRAM], 0);
        loop {
            socket.send(message).await?;
            let again = Instant::now() + pause;
            pause = (pause * 2).min(SEND_AGAIN.1);
            while let Ok(received) = timeout_at(again, socket.recv(&mut buffer)).await {
                match rpc::reply(buffer.get(..received?).unwrap_or_default(), xid) {
                    Ok(results) => return Ok(results.to_vec()),
                    Err(ReplyError::Refused(refusal)) => return Err(refusal.into()),
                    Err(_) => strays += 1,
                }
                if strays > STRAYS_MAX {
                    return Err(CallError::Nonsense("packets that are no replies"));
                }
            }
        }
    }

    async fn by_tcp(self, message: &[u8], xid: u32) -> Result<Vec<u8>, CallError> {
        let mut stream = self.connect().await?;
        stream.set_nodelay(true)?;
        stream.write_all(&rpc::mark(message)).await?;
        let (mut records, mut piece, mut strays) = (Records::new(self.limit), vec![0; DATAGRAM], 0);
        loop {
            let length = stream.read(&mut piece).await?;
            if length == 0 {
                return Err(CallError::Nonsense("the connection ends before the reply"));
            }
            records.push(piece.get(..length).unwrap_or_default());
            let too_long = |_| CallError::Nonsense("a reply that is too long");
            while let Some(message) = records.message().map_err(too_long)? {
                match rpc::reply(&message, xid) {
                    Ok(results) => return Ok(results.to_vec()),
                    Err(ReplyError::Refused(refusal)) => return Err(refusal.into()),
                    Err(_) => strays += 1,
                }
                if strays > STRAYS_MAX {
                    return Err(CallError::Nonsense("messages that are no replies"));
                }
            }
        }
    }

    async fn connect(self) -> io::Result<TcpStream> {
        for port in self.ports() {
            let socket = if self.server.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
            if port != 0 && socket.bind(SocketAddr::new(self.any(), port)).is_err() {
                continue;
            }
            match socket.connect(self.server).await {
                // The port still belongs to an earlier connection to this server.
                Err(e) if port != 0 && e.kind() == io::ErrorKind::AddrNotAvailable => {}
                connected => return connected,
            }
        }
        Err(io::ErrorKind::AddrNotAvailable.into())
    }

    /// The ports to call from, in the order in which they are tried; 0 is any.
    fn ports(self) -> impl Iterator<Item = u16> {
        let number = RandomState::new().hash_one(());
        self.reserved.then(|| rpc::reserved_ports(number)).into_iter().flatten().chain([0])
    }

    fn any(self) -> IpAddr {
        if self.server.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
    }
}

/// Asks rpcbind for the port of a program, over UDP and a little later over TCP. Returns `None` if it is not registered.
///
/// # Errors
/// rpcbind does not answer. See [`by`] for a deadline.
pub(super) async fn port(address: IpAddr, service: Service) -> Result<Option<u16>, CallError> {
    let ask = |transport| async move {
        let line = Line::new(SocketAddr::new(address, rpcbind::PORT), transport);
        let malformed = |_| CallError::Nonsense("no port number");
        if address.is_ipv4() {
            match line.call(&rpcbind::get_port(service)).await {
                Ok(results) => return rpcbind::port(&results).map_err(malformed),
                Err(CallError::Refused(Refusal::Version { .. })) => {}
                Err(e) => return Err(e),
            }
        }
        let mut last = CallError::Nonsense("no version of rpcbind");
        for version in [4, 3] {
            match line.call(&rpcbind::get_address(version, service, address.is_ipv6())).await {
                Ok(results) => return rpcbind::address_port(&results).map_err(malformed),
                Err(e @ CallError::Refused(Refusal::Version { .. })) => last = e,
                Err(e) => return Err(e),
            }
        }
        Err(last)
    };
    first_of(ask(Transport::Udp), ask(Transport::Tcp)).await
}

/// Returns what succeeds first. `second` starts a little later, or when `first` has failed. The error comes from the one that
/// failed last.
pub(super) async fn first_of<T, E>(
    first: impl Future<Output = Result<T, E>>,
    second: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let (mut first, mut second) = (std::pin::pin!(first), std::pin::pin!(second));
    tokio::select! {
        done = &mut first => match done {
            Ok(done) => return Ok(done),
            Err(_) => return second.await,
        },
        () = sleep(STAGGER) => {}
    }
    tokio::select! {
        done = &mut first => match done {
            Ok(done) => Ok(done),
            Err(_) => second.await,
        },
        done = &mut second => match done {
            Ok(done) => Ok(done),
            Err(_) => first.await,
        },
    }
}
