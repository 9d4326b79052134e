//! Logging in to a server.

use std::ffi::CStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::directory::auth::{Auth, Method, asks_for_password, is_kerberos};
use crate::sys::krb5::Krb5;
use crate::sys::ldap::{Connection, LdapError, Search};
use crate::sys::ldap_sasl::Login;
use crate::sys::{exec, resolver, user};

/// The credential cache of this process.
const CACHE: &CStr = c"MEMORY:autofs";

/// Sets the credential cache for all logins of this process: the configured one, or one in its memory. To be called
/// while there is one thread.
pub(super) fn set_cache(auth: &Auth) {
    let cache = auth.credential_cache.as_deref().unwrap_or(CACHE.to_bytes());
    exec::set_variable("KRB5CCNAME", cache);
}

/// A ticket that is older is replaced before the next login, if a KDC answers.
const RENEW_AFTER: Duration = Duration::from_secs(300);

/// `LDAP_AUTH_UNKNOWN`.
const AUTH_UNKNOWN: i32 = -6;

/// The Kerberos ticket for logins.
#[derive(Default)]
pub(super) struct Tickets(Mutex<Option<Instant>>);

impl Tickets {
    /// Makes sure that there is a ticket. An old one serves on if there is no new one.
    fn ensure(&self, auth: &Auth) -> Result<(), String> {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_some_and(|since| since.elapsed() < RENEW_AFTER) {
            return Ok(());
        }
        let kerberos = Krb5::load()?;
        let principal = auth.principal.clone().map_or_else(default_principal, Ok)?;
        match &auth.credential_cache {
            Some(cache) => {
                if auth.principal.is_some() {
                    kerberos.check_cache(&principal, cache)?;
                }
            }
            None => {
                if let Err(error) = kerberos.ticket(&principal, CACHE) {
                    return if since.is_some() { Ok(()) } else { Err(error) };
                }
            }
        }
        *since = Some(Instant::now());
        Ok(())
    }
}

/// `autofsclient/HOST`, the host with its domain. The realm is the default one.
fn default_principal() -> Result<Vec<u8>, String> {
    let host = user::machine().map_err(|error| error.to_string())?.host.to_string_lossy().into_owned();
    let full = if host.contains('.') { host } else { resolver::canonical_name(&host).unwrap_or(host) };
    Ok(format!("autofsclient/{}", full.to_ascii_lowercase()).into_bytes())
}

/// Logs in as the file with the credentials says.
///
/// # Errors
/// The server cannot be reached, or refuses.
pub(super) fn log_in(connection: &mut Connection, auth: &Auth, tickets: &Tickets) -> Result<(), LdapError> {
    match &auth.method {
        Method::Anonymous => connection.bind(b"", b""),
        Method::Simple => {
            let get = |text: &Option<Vec<u8>>| text.clone().unwrap_or_default();
            connection.bind(&get(&auth.user), &get(&auth.secret))
        }
        Method::Sasl(mechanism) => sasl(connection, auth, mechanism, tickets),
        Method::Autodetect => autodetect(connection, auth, tickets),
    }
}

fn sasl(connection: &mut Connection, auth: &Auth, mechanism: &[u8], tickets: &Tickets) -> Result<(), LdapError> {
    if is_kerberos(mechanism) {
        tickets.ensure(auth).map_err(|text| LdapError { code: AUTH_UNKNOWN, text })?;
    }
    let login = Login { user: auth.user.clone().unwrap_or_default(), secret: auth.secret.clone().unwrap_or_default() };
    connection.sasl_bind(mechanism, &login)
}

/// Tries the mechanisms of the server in its order, without those for which something is missing here.
fn autodetect(connection: &mut Connection, auth: &Auth, tickets: &Tickets) -> Result<(), LdapError> {
    let search = Search {
        base: Some(b""),
        only_base: true,
        filter: b"(objectClass=*)",
        attributes: &[b"supportedSASLMechanisms"],
        within: Duration::from_secs(5),
    };
    let found = connection.search(&search)?;
    let mechanisms = found.entries.iter().flat_map(|entry| &entry.values).flatten();
    let mut failed = LdapError { code: AUTH_UNKNOWN, text: "no SASL mechanism of the server can be used".to_owned() };
    for mechanism in mechanisms {
        let usable = match mechanism.as_slice() {
            password if asks_for_password(password) => auth.has_password(),
            b"EXTERNAL" => auth.certificate.is_some(),
            // It would prove nothing.
            b"ANONYMOUS" => false,
            _ => true,
        };
        if !usable {
            continue;
        }
        match sasl(connection, auth, mechanism, tickets) {
            Ok(()) => return Ok(()),
            Err(error) if error.is_timeout() || error.code == -1 => return Err(error),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}
