//! Finds the NIS server of the domain: the one in the file of ypbind, or the one that ypbind or rpcbind reports.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::call::{self, CallError, Port};
use crate::lookup::attempts::Attempts;
use crate::rpc::rpcbind::Transport;
use crate::rpc::{Call, yp};
use crate::sys::path;

/// Directory in which ypbind keeps a file for each domain that it is bound to.
const BINDINGS: &str = "/var/yp/binding";

/// The longest time for a question to this machine: rpcbind and ypbind.
const LOCAL: Duration = Duration::from_secs(2);

/// The server of the domain.
#[derive(Debug, Default)]
pub(super) struct Binding {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The domain that the server serves.
    domain: Vec<u8>,
    /// The server that answered last, on UDP.
    server: Option<SocketAddrV4>,
    attempts: Attempts,
}

impl Binding {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call of ypserv over UDP. Returns its encoded results by the deadline. A server that has died and come back, or
    /// another one that ypbind has found instead, is found at the next call.
    ///
    /// # Errors
    /// A text that says what does not answer.
    pub(super) fn call(&self, domain: &[u8], call: &Call, deadline: Instant) -> Result<Vec<u8>, String> {
        let begun = Instant::now();
        self.enter(domain, begun)?;
        let mut candidates = Candidates { domain, at: 0, known: self.lock().server, tried: Vec::new(), silent: false };
        let answer = candidates.call(call, deadline);
        let mut state = self.lock();
        state.attempts.end();
        match answer {
            Ok((server, results)) if state.domain == domain => {
                state.server = Some(server);
                state.attempts.answered(Instant::now());
                Ok(results)
            }
            Ok((_, results)) => Ok(results),
            Err(why) => {
                if candidates.silent {
                    state.attempts.was_silent(begun);
                }
                Err(why.unwrap_or_else(|| "ypbind has no server for the domain".to_owned()))
            }
        }
    }

    /// Returns the server that has answered last.
    pub(super) fn server(&self) -> Option<std::net::Ipv4Addr> {
        self.lock().server.map(|server| *server.ip())
    }

    /// Makes a call over TCP to the server that has answered last.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(super) fn call_tcp(&self, call: &Call, limit: usize, deadline: Instant) -> Result<Vec<u8>, CallError> {
        let Some(server) = self.lock().server else { return Err(CallError::TimedOut) };
        let ypserv = call::service(yp::PROGRAM, Transport::Tcp);
        // A server without an entry in rpcbind may serve both on the same port.
        let port = call::port(*server.ip(), ypserv, deadline.min(Instant::now() + LOCAL)).ok().flatten();
        let server = SocketAddrV4::new(*server.ip(), port.unwrap_or(server.port()));
        call::by_tcp(server, call, Port::Reserved, limit, deadline)
    }

    /// Lets a call through, unless the server was silent and is asked by others. Forgets the server of another domain.
    fn enter(&self, domain: &[u8], now: Instant) -> Result<(), String> {
        let mut state = self.lock();
        if state.domain != domain {
            *state = State { domain: domain.to_vec(), ..State::default() };
        }
        if state.attempts.begin(now) { Ok(()) } else { Err("the NIS server does not answer".to_owned()) }
    }
}

/// The addresses that are tried, in order; each is found when those before have failed.
struct Candidates<'a> {
    domain: &'a [u8],
    at: usize,
    known: Option<SocketAddrV4>,
    tried: Vec<SocketAddrV4>,
    /// Whether the previous server did not answer in time. Then rpcbind on its host is not asked.
    silent: bool,
}

impl Candidates<'_> {
    /// Makes a call of the first that answers. Returns its address and its results. An error says what does not answer.
    fn call(&mut self, call: &Call, deadline: Instant) -> Result<(SocketAddrV4, Vec<u8>), Option<String>> {
        let mut why = None;
        while let Some(server) = self.next(deadline, &mut why) {
            // Leaves time for the remaining candidates.
            let now = Instant::now();
            let until = now + deadline.saturating_duration_since(now) * 2 / 3;
            match call::by_udp(server, call, Port::Reserved, until) {
                Ok(results) => return Ok((server, results)),
                Err(error) => {
                    self.silent = matches!(error, CallError::TimedOut);
                    why = Some(format!("the NIS server {} {error}", server.ip()));
                }
            }
        }
        Err(why)
    }

    fn next(&mut self, deadline: Instant, why: &mut Option<String>) -> Option<SocketAddrV4> {
        loop {
            let found = match self.at {
                0 => self.known,
                1 => binding_file(self.domain),
                // ypbind may not know yet, either.
                2 | 4 => self.started_again(deadline),
                3 => match ask_ypbind(self.domain, deadline.min(Instant::now() + LOCAL)) {
                    Ok(found) => found,
                    Err(reason) => {
                        *why = why.take().or(Some(reason));
                        None
                    }
                },
                _ => return None,
            };
            self.at += 1;
            if let Some(server) = found.filter(|server| !self.tried.contains(server)) {
                self.tried.push(server);
                return Some(server);
            }
        }
    }

    /// Returns where the server that refused last listens now: it may have been started again, on another port.
    fn started_again(&self, deadline: Instant) -> Option<SocketAddrV4> {
        let last = self.tried.last().filter(|_| !self.silent)?;
        let ypserv = call::service(yp::PROGRAM, Transport::Udp);
        let port = call::port(*last.ip(), ypserv, deadline.min(Instant::now() + LOCAL)).ok()??;
        Some(SocketAddrV4::new(*last.ip(), port))
    }
}

fn address((octets, port): yp::Address) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from(octets), port)
}

/// Reads the file of ypbind for the domain.
fn binding_file(domain: &[u8]) -> Option<SocketAddrV4> {
    use std::os::unix::ffi::OsStringExt as _;
    let name = std::ffi::OsString::from_vec([domain, b".2"].concat());
    let file = path::open_to_read(&PathBuf::from(BINDINGS).join(name)).ok()?;
    let mut content = Vec::new();
    file.take(64).read_to_end(&mut content).ok()?;
    yp::binding_file(&content).map(address)
}

/// Asks ypbind on this machine. Returns `None` if it has no server for the domain.
fn ask_ypbind(domain: &[u8], deadline: Instant) -> Result<Option<SocketAddrV4>, String> {
    let ypbind = call::service(yp::BIND_PROGRAM, Transport::Udp);
    let port = call::port(Ipv4Addr::LOCALHOST, ypbind, deadline)
        .map_err(|error| format!("rpcbind {error}: start rpcbind and ypbind"))?;
    let port = port.ok_or("ypbind is not running")?;
    let ypbind = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let results =
        call::by_udp(ypbind, &yp::bind(domain), Port::Any, deadline).map_err(|error| format!("ypbind {error}"))?;
    Ok(yp::binding(&results).map_err(|error| format!("ypbind has sent an invalid reply: {error}"))?.map(address))
}
