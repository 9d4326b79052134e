//! The LDAP servers of a map, and in which order they are tried.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::race::{self, Uri};
use crate::directory::{LdapName, dn, dns};
use crate::lookup::attempts::Attempts;
use crate::sys::resolver::{self, Class, Record, ResolveError};

/// The longest time for which the servers of a domain are remembered.
const DOMAIN_MAX: Duration = Duration::from_secs(3600);

/// State of the servers.
pub(super) struct Servers {
    /// As configured; each may be several, separated by blanks.
    configured: Vec<Vec<u8>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: HashMap<Uri, Known>,
    domains: HashMap<String, (Vec<Uri>, Instant)>,
}

/// What is known of a server.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    attempts: Attempts,
    /// How often it has failed in a row. `None`: it was not asked yet.
    failures: Option<u32>,
}

/// An attempt at a server. It ends when the value is dropped.
pub(super) struct Attempt<'a> {
    servers: &'a Servers,
    pub(super) uri: Uri,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.servers.lock().known.entry(self.uri.clone()).or_default().attempts.end();
    }
}

impl Servers {
    pub(super) fn new(configured: Vec<Vec<u8>>) -> Self {
        Self { configured, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the servers of a map: the one that its name has, else those that are configured.
    ///
    /// # Errors
    /// The DNS does not know the servers of a domain.
    pub(super) fn of(&self, name: &LdapName, secure: bool) -> Result<Vec<Uri>, String> {
        let scheme: &[u8] = match (name.is_local, secure) {
            (true, _) => b"ldapi",
            (false, true) => b"ldaps",
            (false, false) => b"ldap",
        };
        if let Some(server) = name.server.as_deref() {
            return Ok(vec![Some([scheme, b"://", server, b"/"].concat())]);
        }
        let (mut uris, mut error) = (Vec::new(), None);
        let words = self.configured.iter().flat_map(|line| line.split(u8::is_ascii_whitespace));
        for uri in words.filter(|word| !word.is_empty()) {
            match domain(uri) {
                None => uris.push(Some(uri.to_vec())),
                Some((scheme, domain)) => match self.servers_of(scheme, &domain) {
                    Ok(servers) => uris.extend(servers),
                    Err(why) => error = Some(why),
                },
            }
        }
        match error {
            Some(error) if uris.is_empty() => Err(error),
            _ if uris.is_empty() => Ok(vec![None]),
            _ => Ok(uris),
        }
    }

    fn servers_of(&self, scheme: &str, domain: &str) -> Result<Vec<Uri>, String> {
        let now = Instant::now();
        let known = self.lock().domains.get(domain).cloned();
        if let Some((servers, _)) = known.as_ref().filter(|(_, until)| *until > now) {
            return Ok(servers.clone());
        }
        let name = format!("_ldap._tcp.{domain}");
        let answer = resolver::query(&name, Class::Internet, Record::Srv);
        let found =
            answer.and_then(|answer| dns::servers(&answer).filter(|all| !all.is_empty()).ok_or(ResolveError::NotFound));
        match (found, known) {
            (Ok(found), _) => {
                let holds = found.iter().map(|server| server.holds).min().unwrap_or(0);
                let until = now + Duration::from_secs(holds.into()).min(DOMAIN_MAX);
                let uri =
                    |server: dns::Server| Some(format!("{scheme}://{}:{}/", server.host, server.port).into_bytes());
                let servers: Vec<Uri> = found.into_iter().map(uri).collect();
                self.lock().domains.insert(domain.to_owned(), (servers.clone(), until));
                Ok(servers)
            }
            // What was known serves on while the DNS does not answer.
            (Err(ResolveError::Failed(_)), Some((servers, _))) => Ok(servers),
            (Err(ResolveError::NotFound), _) => Err(format!("the DNS has no SRV records {name}")),
            (Err(ResolveError::Failed(why)), None) => Err(format!("{name}: {why}")),
        }
    }

    /// Begins attempts at servers, and returns them in the order in which they are to be made: servers that have answered before,
    /// then unknown ones, then those that have failed. Of several that are all unknown the one that accepts a connection first comes
    /// first. Servers that were silent, and are asked by others, are left out.
    pub(super) fn begin(&self, uris: &[Uri], within: Duration) -> Vec<Attempt<'_>> {
        let now = Instant::now();
        let mut ordered: Vec<(u32, Attempt<'_>)> = {
            let mut state = self.lock();
            let begin = |uri: &Uri| {
                let known = state.known.entry(uri.clone()).or_default();
                let rank =
                    known.failures.map_or(1, |failures| if failures == 0 { 0 } else { failures.saturating_add(1) });
                known.attempts.begin(now).then(|| (rank, Attempt { servers: self, uri: uri.clone() }))
            };
            uris.iter().filter_map(begin).collect()
        };
        ordered.sort_by_key(|(rank, _)| *rank);
        let has_good = ordered.first().is_some_and(|(rank, _)| *rank == 0);
        let mut all: Vec<Attempt<'_>> = ordered.into_iter().map(|(_, attempt)| attempt).collect();
        if all.len() > 1 && !has_good {
            let uris: Vec<Uri> = all.iter().map(|attempt| attempt.uri.clone()).collect();
            if let Some(first) = race::first(&uris, within) {
                let first = all.remove(first);
                all.insert(0, first);
            }
        }
        all
    }

    /// Notes that a server has answered.
    pub(super) fn note_success(&self, uri: &Uri) {
        let mut state = self.lock();
        let known = state.known.entry(uri.clone()).or_default();
        known.failures = Some(0);
        known.attempts.answered(Instant::now());
    }

    /// Notes that a server has failed. With `silent_since`, it has not answered since then, and is left alone.
    pub(super) fn note_failure(&self, uri: &Uri, silent_since: Option<Instant>) {
        let mut state = self.lock();
        let known = state.known.entry(uri.clone()).or_default();
        if let Some(begun) = silent_since {
            known.attempts.was_silent(begun);
            if !known.attempts.is_silent() {
                // It has answered others since then.
                return;
            }
        }
        known.failures = Some(known.failures.unwrap_or(0).saturating_add(1));
    }
}

/// Returns the scheme and the domain of `ldap:///dc=DOMAIN`.
fn domain(uri: &[u8]) -> Option<(&'static str, String)> {
    let schemes: [(&[u8], &str); 2] = [(b"ldap:///", "ldap"), (b"ldaps:///", "ldaps")];
    schemes.into_iter().find_map(|(start, scheme)| Some((scheme, dn::domain(uri.strip_prefix(start)?)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        Some(text.as_bytes().to_vec())
    }

    #[test]
    fn servers_of_names_and_settings() {
        let servers = Servers::new(vec![b"ldap://a  ldaps://b/".to_vec(), b"ldapi://%2Frun%2Fx".to_vec()]);
        let of = |servers: &Servers, name: &str, secure| servers.of(&LdapName::parse(name.as_bytes()), secure).unwrap();
        assert_eq!(of(&servers, "m", false), [uri("ldap://a"), uri("ldaps://b/"), uri("ldapi://%2Frun%2Fx")]);
        assert_eq!(of(&servers, "//h:1/m", true), [uri("ldaps://h:1/")]);
        assert_eq!(of(&servers, "ldapi://%2Fs/m", true), [uri("ldapi://%2Fs/")]);
        assert_eq!(of(&Servers::new(Vec::new()), "m", false), [None]);
        assert_eq!(domain(b"ldap:///dc=a,dc=b"), Some(("ldap", "a.b".to_owned())));
        assert_eq!(domain(b"ldap://x/dc=a,dc=b"), None);
    }

    #[test]
    fn what_has_answered_is_tried_first() {
        let servers = Servers::new(Vec::new());
        let uris = [uri("ldapi://a"), uri("ldapi://b"), uri("ldapi://c")];
        let order = || {
            let attempts = servers.begin(&uris, Duration::from_secs(1));
            attempts.iter().map(|attempt| attempt.uri.clone()).collect::<Vec<_>>()
        };
        servers.note_success(&uris[1]);
        servers.note_failure(&uris[0], None);
        assert_eq!(order(), [uris[1].clone(), uris[2].clone(), uris[0].clone()]);
        servers.note_failure(&uris[0], Some(Instant::now()));
        assert_eq!(order(), [uris[1].clone(), uris[2].clone()]);
        // An old silence says nothing of a server that has answered.
        let begun = Instant::now();
        servers.note_success(&uris[0]);
        servers.note_failure(&uris[0], Some(begun));
        assert_eq!(order(), [uris[0].clone(), uris[1].clone(), uris[2].clone()]);
    }
}
