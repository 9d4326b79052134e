//! Finds out which of several servers accepts a connection first, so that a silent server does not delay the answer.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// A server; `None` is the one in ldap.conf(5).
pub(super) type Uri = Option<Vec<u8>>;

/// After this time without a connection the next server is tried, too.
const HEAD_START: Duration = Duration::from_millis(250);

/// Returns the position of the server that accepts a connection first, with a head start for earlier servers. A server that is
/// not reached over the network counts as accepting. Returns `None` if none does within the time.
pub(super) fn first(uris: &[Uri], within: Duration) -> Option<usize> {
    let deadline = Instant::now() + within;
    let (sender, accepted) = mpsc::channel();
    let (mut begun, mut failed) = (0, 0);
    while failed < uris.len() {
        if let Some(uri) = uris.get(begun) {
            let Some((host, port)) = uri.as_deref().and_then(address) else { return Some(begun) };
            let (sender, number) = (sender.clone(), begun);
            // A thread that waits for a silent server ends with its timeout.
            let connecting = thread::Builder::new().stack_size(64 << 10).spawn(move || {
                let _ = sender.send((number, connects(&host, port, within)));
            });
            failed += usize::from(connecting.is_err());
            begun += 1;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let time_limit = if begun < uris.len() { left.min(HEAD_START) } else { left };
        match accepted.recv_timeout(time_limit) {
            Ok((number, true)) => return Some(number),
            Ok((_, false)) => failed += 1,
            Err(RecvTimeoutError::Timeout) if begun < uris.len() && Instant::now() < deadline => {}
            Err(_) => return None,
        }
    }
    None
}

fn connects(host: &str, port: u16, within: Duration) -> bool {
    let addresses = (host, port).to_socket_addrs();
    addresses.is_ok_and(|mut all| all.any(|address| TcpStream::connect_timeout(&address, within).is_ok()))
}

/// Returns host and port of a URI, or `None` if it is not reached over TCP or names no host.
fn address(uri: &[u8]) -> Option<(String, u16)> {
    let text = std::str::from_utf8(uri).ok()?;
    let (scheme, rest) = text.split_once("://")?;
    let default = match scheme.to_ascii_lowercase().as_str() {
        "ldap" => 389,
        "ldaps" => 636,
        _ => return None,
    };
    let authority = rest.split('/').next().filter(|host| !host.is_empty())?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (authority, default),
    };
    Some((host.trim_matches(['[', ']']).to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn addresses_of_uris() {
        for (uri, expected) in [
            ("ldap://a", Some(("a", 389))),
            ("ldaps://a/", Some(("a", 636))),
            ("ldap://a:1389/dc=x", Some(("a", 1389))),
            ("ldap://[::1]", Some(("::1", 389))),
            ("LDAP://[::1]:390", Some(("::1", 390))),
            ("ldapi://%2Frun", None),
            ("ldap:///", None),
        ] {
            assert_eq!(address(uri.as_bytes()), expected.map(|(host, port)| (host.to_owned(), port)), "{uri}");
        }
    }

    #[test]
    fn the_first_that_accepts_wins() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let refuses = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let uri = |port| Some(format!("ldap://127.0.0.1:{port}").into_bytes());
        let within = Duration::from_secs(20);
        assert_eq!(first(&[uri(refuses), uri(port)], within), Some(1));
        assert_eq!(first(&[uri(refuses)], within), None);
        assert_eq!(first(&[Some(b"ldapi://x".to_vec()), uri(port)], within), Some(0));
    }
}
