//! Finds out why the certificate of a server is not accepted: libldap does not say so with every TLS library.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::race::Uri;
use crate::directory::certificate;
use crate::mutex::lock;
use crate::sys::clock;
use crate::sys::ldap::{Ldap, Search};

/// How long it may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);

/// How often a server is asked for its certificate.
const INTERVAL: Duration = Duration::from_secs(5);

/// What was found lately.
#[derive(Default)]
pub(super) struct Certificates(Mutex<HashMap<Uri, (Instant, Option<String>)>>);

impl Certificates {
    /// Returns what is wrong with the dates of the certificate of a server. No login is made, as anybody may be at the other end.
    pub(super) fn complaint(&self, library: Ldap, uri: &Uri, start_tls: bool, within: Duration) -> Option<String> {
        let now = Instant::now();
        if let Some((_, found)) = lock(&self.0).get(uri).filter(|(at, _)| now < *at + INTERVAL) {
            return found.clone();
        }
        // One thread asks; meanwhile the others find nothing.
        lock(&self.0).insert(uri.clone(), (now, None));
        let found = look(library, uri, start_tls, within);
        lock(&self.0).insert(uri.clone(), (now, found.clone()));
        found
    }
}

fn look(library: Ldap, uri: &Uri, start_tls: bool, within: Duration) -> Option<String> {
    let mut connection = library.connect(uri.as_deref(), within, within).ok()?;
    connection.trust_any_certificate();
    if start_tls {
        connection.start_tls().ok()?;
    } else {
        // Any operation makes the connection.
        let filter = b"(objectClass=*)";
        let search = Search { base: Some(b""), only_base: true, filter, attributes: &[b"1.1"], within };
        let _ = connection.search(&search);
    }
    certificate::complaint(&connection.server_certificate()?, clock::since_1970())
}
