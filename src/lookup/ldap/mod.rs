//! Maps in LDAP directories.

mod auth_file;
mod certificate;
mod login;
mod race;
mod servers;
mod version;

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::{Entry, Failure, Service};
use crate::directory::auth::{Auth, Method};
use crate::directory::ldap_name::Target;
use crate::directory::{LdapName, Map, Pair, Schema, Scope, Settings, filter, percent};
use crate::mutex::lock;
use crate::sys::ldap::{self, Connection, Ldap, LdapError, Search};
use login::Tickets;
use race::Uri;
use servers::Servers;

/// How long one operation may take, unless `ldap_timeout` says so.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long connecting to a server may take, unless `ldap_network_timeout` says so.
const NETWORK_TIMEOUT: Duration = Duration::from_secs(8);

/// Entries in a page, where the server does not give all at once; halved while it refuses.
const PAGE: i32 = 2000;

/// The smallest page.
const PAGE_MIN: i32 = 5;

/// Keys in one search: a server without an index walks through all entries for each search.
const BATCH: usize = 16;

/// A failure that took longer than this counts as no answer.
const SILENT: Duration = Duration::from_secs(1);

/// Connections kept for later requests.
const KEPT: usize = 16;

/// LDAP, with the connections to its servers.
pub(super) struct LdapService {
    settings: Settings,
    library: OnceLock<Result<Ldap, String>>,
    auth: Result<Auth, String>,
    tickets: Tickets,
    servers: Servers,
    idle: Mutex<Vec<Session>>,
    places: Mutex<HashMap<Map, Place>>,
    certificates: certificate::Certificates,
}

/// A connection that is logged in.
struct Session {
    connection: Connection,
    uri: Uri,
}

/// Base and schema of a map.
#[derive(Debug, Clone)]
struct Place {
    dn: Vec<u8>,
    schema: Schema,
    /// The server that has the map, if those before it lack it.
    only: Option<Uri>,
}

impl LdapService {
    /// Reads the file with the credentials. To be called while there is one thread.
    pub(super) fn new(settings: Settings) -> Self {
        let servers = Servers::new(settings.uris.clone());
        let auth = auth_file::read(&settings.auth_file);
        if let Ok(auth) = &auth {
            login::set_cache(auth);
        }
        Self {
            settings,
            library: OnceLock::new(),
            auth,
            tickets: Tickets::default(),
            servers,
            idle: Mutex::default(),
            places: Mutex::default(),
            certificates: certificate::Certificates::default(),
        }
    }

    fn library(&self) -> Result<Ldap, Failure> {
        let load = || {
            let library = Ldap::load()?;
            if let Some(level) = self.settings.debug {
                library.set_debug(level);
            }
            if let Ok(Auth { certificate: Some(certificate), certificate_key: Some(key), .. }) = self.auth() {
                library.set_certificate(certificate, key);
            }
            Ok(library)
        };
        self.library.get_or_init(load).clone().map_err(Failure::unusable)
    }

    fn auth(&self) -> Result<&Auth, Failure> {
        self.auth.as_ref().map_err(Failure::unusable)
    }

    fn timeout(&self, deadline: Instant) -> Duration {
        let timeout = self.settings.timeout.map_or(TIMEOUT, |seconds| Duration::from_secs(seconds.into()));
        timeout.min(deadline.saturating_duration_since(Instant::now()))
    }

    /// How long reading a whole map may take: as long as there is time, unless it is configured.
    fn long_timeout(&self, deadline: Instant) -> Duration {
        let left = deadline.saturating_duration_since(Instant::now());
        self.settings.timeout.map_or(left, |seconds| Duration::from_secs(seconds.into()).min(left))
    }

    fn network_timeout(&self, deadline: Instant) -> Duration {
        let timeout =
            self.settings.network_timeout.map_or(NETWORK_TIMEOUT, |seconds| Duration::from_secs(seconds.into()));
        timeout.min(deadline.saturating_duration_since(Instant::now()))
    }

    /// Returns the servers that may have a map.
    fn servers_of(&self, map: &Map) -> Result<Vec<Uri>, Failure> {
        self.servers.of(&LdapName::parse(&map.name), map.secure).map_err(Failure::unavailable)
    }

    /// Does some work with a connection to a server that has the map.
    fn with<T>(
        &self,
        map: &Map,
        place: &Place,
        deadline: Instant,
        work: impl FnMut(&mut Connection) -> Result<T, LdapError>,
    ) -> Result<T, Failure> {
        let uris = place.only.clone().map_or_else(|| self.servers_of(map), |uri| Ok(vec![uri]))?;
        self.with_one_of(&uris, deadline, work)
    }

    /// Does some work with a connection to one of these servers. If the connection is lost, it goes on with another one, or with
    /// another server.
    fn with_one_of<T>(
        &self,
        uris: &[Uri],
        deadline: Instant,
        mut work: impl FnMut(&mut Connection) -> Result<T, LdapError>,
    ) -> Result<T, Failure> {
        let (library, auth) = (self.library()?, self.auth()?);
        while let Some(mut session) = self.take(uris) {
            let begun = Instant::now();
            match work(&mut session.connection) {
                // Idle connections may have been closed by the server.
                Err(error) if error.is_lost() && !error.is_timeout() => self.forget(&session.uri),
                Err(error) if error.is_timeout() => {
                    // Its other connections may be as silent: it is asked over a new one.
                    self.forget(&session.uri);
                    self.servers.note_failure(&session.uri, Some(begun));
                    break;
                }
                result => {
                    self.servers.note_success(&session.uri);
                    self.put_back(session);
                    return result.map_err(Failure::unavailable);
                }
            }
        }
        let mut failure = None;
        let attempts = self.servers.begin(uris, self.network_timeout(deadline));
        let none = if uris.is_empty() { "no LDAP server is configured" } else { "no LDAP server answers" };
        for attempt in attempts {
            let begun = Instant::now();
            if begun >= deadline {
                break;
            }
            let uri = &attempt.uri;
            let result = self.connect(library, auth, uri, deadline).and_then(|mut session| {
                let result = work(&mut session.connection);
                result.map(|done| (done, session))
            });
            match result {
                Ok((done, session)) => {
                    self.servers.note_success(uri);
                    self.put_back(session);
                    return Ok(done);
                }
                Err(error) => {
                    let error = self.explain(library, auth, uri, deadline, error);
                    let shown = uri.as_deref().map_or("the LDAP server".into(), String::from_utf8_lossy);
                    failure = Some(Failure::unavailable(format!("{shown}: {error}")));
                    // One that refuses can be asked again at once: it costs nothing.
                    let is_silent = error.is_timeout() || begun.elapsed() >= SILENT;
                    self.servers.note_failure(uri, is_silent.then_some(begun));
                }
            }
        }
        Err(failure.unwrap_or_else(|| Failure::unavailable(none)))
    }

    fn take(&self, uris: &[Uri]) -> Option<Session> {
        let mut idle = lock(&self.idle);
        let at = idle.iter().rposition(|session| uris.contains(&session.uri))?;
        Some(idle.remove(at))
    }

    fn put_back(&self, session: Session) {
        let mut idle = lock(&self.idle);
        if idle.len() < KEPT {
            idle.push(session);
        }
    }

    /// Drops all idle connections to a server.
    fn forget(&self, uri: &Uri) {
        lock(&self.idle).retain(|session| session.uri != *uri);
    }

    fn connect(&self, library: Ldap, auth: &Auth, uri: &Uri, deadline: Instant) -> Result<Session, LdapError> {
        let open = |tls: bool| -> Result<Connection, LdapError> {
            let (network, timeout) = (self.network_timeout(deadline), self.timeout(deadline));
            let mut connection = library.connect(uri.as_deref(), network, timeout)?;
            let encrypted = uri.as_deref().is_some_and(|uri| !uri.starts_with(b"ldap:"));
            if tls && !encrypted {
                connection.start_tls()?;
            }
            login::log_in(&mut connection, auth, &self.tickets)?;
            Ok(connection)
        };
        let connection = match open(auth.use_tls) {
            // After a failed StartTLS a connection may be in any state.
            Err(error) if auth.use_tls && !auth.tls_required && !error.is_timeout() => open(false)?,
            result => result?,
        };
        Ok(Session { connection, uri: uri.clone() })
    }

    /// Adds to an error what is wrong with the certificate of the server, if something is.
    fn explain(&self, library: Ldap, auth: &Auth, uri: &Uri, deadline: Instant, error: LdapError) -> LdapError {
        let begins_encrypted = uri.as_deref().is_some_and(|uri| uri.starts_with(b"ldaps:"));
        if !error.is_no_connection() || !(begins_encrypted || auth.use_tls) {
            return error;
        }
        let within = self.network_timeout(deadline).min(certificate::TIMEOUT);
        let found = self.certificates.complaint(library, uri, !begins_encrypted, within);
        found.map_or(error.clone(), |why| LdapError { text: format!("{}: {why}", error.text), ..error })
    }

    /// Finds a map, or returns where it was found before. `None`: no server has it.
    fn place(&self, map: &Map, deadline: Instant) -> Result<Option<Place>, Failure> {
        if let Some(place) = lock(&self.places).get(map) {
            return Ok(Some(place.clone()));
        }
        let name = LdapName::parse(&map.name);
        let uris = self.servers_of(map)?;
        let find =
            |uris: &[Uri]| self.with_one_of(uris, deadline, |connection| self.find(connection, &name.target, deadline));
        let mut place = find(&uris)?;
        if place.is_none() && uris.len() > 1 {
            // Another server may have it. One that fails here says nothing about those that have answered.
            let found = |uri: &Uri| Some(Place { only: Some(uri.clone()), ..find(std::slice::from_ref(uri)).ok()?? });
            place = uris.iter().find_map(found);
        }
        if let Some(place) = &place {
            lock(&self.places).insert(map.clone(), place.clone());
        }
        Ok(place)
    }

    fn find(
        &self,
        connection: &mut Connection,
        target: &Target,
        deadline: Instant,
    ) -> Result<Option<Place>, LdapError> {
        let schemas = self.settings.schema.clone().map_or_else(Schema::known, |schema| vec![schema]);
        let (bases, name) = match target {
            Target::Dn(dn) => (vec![Some(dn.as_slice())], None),
            Target::Name(name) if self.settings.bases.is_empty() => (vec![None], Some(name.as_slice())),
            Target::Name(name) => {
                (self.settings.bases.iter().map(|base| Some(base.as_slice())).collect(), Some(name.as_slice()))
            }
        };
        let filter = filter::map(&schemas, name);
        let mut attributes: Vec<&[u8]> = vec![b"objectClass"];
        attributes.extend(schemas.iter().map(|schema| schema.map_attribute.as_slice()));
        for base in bases {
            let within = self.timeout(deadline);
            let search = Search { base, only_base: false, filter: &filter, attributes: &attributes, within };
            let found = match connection.search(&search) {
                Ok(found) => found.entries,
                Err(error) if error.is_no_object() || error.is_limit() => continue,
                Err(error) => return Err(error),
            };
            if let Some(place) = best_place(&schemas, name, found) {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Searches for some keys at once. Which entry belongs to which key is decided by the bytes of its keys, whatever the server
    /// holds for equal.
    fn search_keys(
        &self,
        place: &Place,
        map: &Map,
        wanted: &[&[u8]],
        deadline: Instant,
    ) -> Result<Vec<Option<Entry>>, Failure> {
        let wildcard = map.scope == Scope::Indirect;
        let filter = filter::entries(&place.schema, wanted, wildcard);
        let attributes: [&[u8]; 2] = [&place.schema.key, &place.schema.value];
        let found = self.with(map, place, deadline, |connection| {
            let within = self.timeout(deadline);
            let base = Some(place.dn.as_slice());
            let search = Search { base, only_base: false, filter: &filter, attributes: &attributes, within };
            match connection.search(&search) {
                // What is missing may be the entry of another key.
                Ok(ldap::Found { error: Some(error), .. }) if wanted.len() > 1 => Err(error),
                Ok(found) => Ok(Some(found.entries)),
                Err(error) if error.is_no_object() => Ok(None),
                Err(error) => Err(error),
            }
        })?;
        let Some(entries) = found else {
            // The map has gone, or is elsewhere.
            lock(&self.places).remove(map);
            return Ok(wanted.iter().map(|_| None).collect());
        };
        let entries: Vec<_> = entries.iter().map(|entry| (keys(entry, &place.schema), entry)).collect();
        let text = |wanted: &[u8]| {
            let (_, entry) = entries.iter().find(|(keys, _)| keys.iter().any(|key| key == wanted))?;
            Some(Entry { text: value(entry), holds: None })
        };
        let wildcards = if wildcard { text(b"*").or_else(|| text(b"/")) } else { None };
        Ok(wanted.iter().map(|key| text(key).or_else(|| wildcards.clone())).collect())
    }

    /// Searches for all entries of a map: at once, or in pages if the server does not give all.
    fn search_all(
        &self,
        connection: &mut Connection,
        place: &Place,
        deadline: Instant,
    ) -> Result<ldap::Found, LdapError> {
        let filter = filter::all_entries(&place.schema);
        let attributes: [&[u8]; 2] = [&place.schema.key, &place.schema.value];
        let base = Some(place.dn.as_slice());
        let search = || Search {
            base,
            only_base: false,
            filter: &filter,
            attributes: &attributes,
            within: self.long_timeout(deadline),
        };
        let is_limited = |found: &ldap::Found| found.error.as_ref().is_some_and(LdapError::is_limit);
        let mut best = match connection.search(&search()) {
            Ok(found) if !is_limited(&found) => return Ok(found),
            Ok(found) => found,
            Err(error) if error.is_limit() => ldap::Found { entries: Vec::new(), error: Some(error) },
            Err(error) => return Err(error),
        };
        let mut page = PAGE;
        while page >= PAGE_MIN && Instant::now() < deadline {
            match connection.search_paged(&search(), page) {
                Ok(found) if found.error.is_none() => return Ok(found),
                Ok(found) => {
                    if found.entries.len() > best.entries.len() {
                        best = found;
                    }
                }
                Err(error) if error.is_lost() => return Err(error),
                Err(_) => {}
            }
            page /= 2;
        }
        Ok(best)
    }
}

/// Returns the best of the maps that were found: the one with the first schema.
fn best_place(schemas: &[Schema], name: Option<&[u8]>, found: Vec<ldap::Entry>) -> Option<Place> {
    let rank = |entry: &ldap::Entry| {
        let (classes, names) = entry.values.split_first()?;
        schemas.iter().zip(names).position(|(schema, names)| {
            let is_class = classes.iter().any(|class| class.eq_ignore_ascii_case(&schema.map_class));
            is_class && names.iter().any(|value| name.is_none_or(|name| value.eq_ignore_ascii_case(name)))
        })
    };
    let ranked = found.into_iter().filter_map(|entry| Some((rank(&entry)?, entry)));
    let (rank, entry) = ranked.min_by_key(|(rank, _)| *rank)?;
    Some(Place { dn: entry.dn, schema: schemas.get(rank)?.clone(), only: None })
}

/// The keys of an entry.
fn keys(entry: &ldap::Entry, schema: &Schema) -> Vec<Vec<u8>> {
    let stored = entry.values.first().map(Vec::as_slice).unwrap_or_default();
    stored.iter().map(|key| if schema.has_percent_keys() { percent::decode(key) } else { key.clone() }).collect()
}

/// The text of an entry: all its values, joined with blanks.
fn value(entry: &ldap::Entry) -> Vec<u8> {
    let values = entry.values.get(1).map(Vec::as_slice).unwrap_or_default();
    values.join(&b' ').trim_ascii().to_vec()
}

impl Service for LdapService {
    /// Kerberos and client certificates have files of root, and a server behind a socket of this machine asks who calls.
    fn needs_root(&self) -> bool {
        let is_local = |uri: &Vec<u8>| uri.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"ldapi:"));
        let is_plain =
            |auth: &Auth| matches!(auth.method, Method::Anonymous | Method::Simple) && auth.certificate.is_none();
        // Without servers in autofs.conf, ldap.conf may name a local one.
        self.settings.uris.is_empty()
            || self.settings.has_local_maps
            || self.settings.uris.iter().any(is_local)
            || !self.auth.as_ref().is_ok_and(is_plain)
    }

    fn ready(&self, map: &Map) -> Result<(), Failure> {
        let attribute = LdapName::parse(&map.name);
        if let Some(attribute) = attribute.target.first_attribute() {
            if !Schema::is_map_attribute(self.settings.schema.as_ref(), attribute) {
                let shown = crate::text::Escaped(attribute);
                return Err(Failure::unusable(format!(
                    "a map's DN begins with cn, ou, automountMapName or nisMapName, not with {shown}"
                )));
            }
        }
        self.auth()?;
        self.library().map(drop)
    }

    fn probe(&self, map: &Map, deadline: Instant) -> Result<String, Failure> {
        use crate::text::Escaped;
        self.ready(map)?;
        lock(&self.places).remove(map);
        let Some(Place { dn, schema, .. }) = self.place(map, deadline)? else {
            let bases = self.settings.bases.iter().map(|base| Escaped(base).to_string()).collect::<Vec<_>>();
            let bases = if bases.is_empty() { "the base of ldap.conf".to_owned() } else { bases.join(", ") };
            let schemas = self.settings.schema.clone().map_or_else(Schema::known, |schema| vec![schema]);
            let of_class =
                |schema: &Schema| format!("{} with {}", Escaped(&schema.map_class), Escaped(&schema.map_attribute));
            let classes: Vec<String> = schemas.iter().map(of_class).collect();
            let text =
                format!("the server answers, but has no such map below {bases}: neither {}", classes.join(" nor "));
            return Err(Failure { text, ..Failure::no_map(map) });
        };
        let login = match self.auth()?.method {
            Method::Anonymous => "without a login",
            Method::Simple => "with a simple login",
            Method::Sasl(_) | Method::Autodetect => "with a SASL login",
        };
        let uri = lock(&self.idle).last().and_then(|session| session.uri.clone());
        let server = uri.map_or_else(|| "the server of ldap.conf".to_owned(), |uri| Escaped(&uri).to_string());
        let Schema { map_class, entry_class, key, value, .. } = &schema;
        Ok(format!(
            "{} at {server} {login}; classes {} and {}, attributes {} and {}",
            Escaped(&dn),
            Escaped(map_class),
            Escaped(entry_class),
            Escaped(key),
            Escaped(value)
        ))
    }

    fn version(&self, map: &Map, deadline: Instant) -> Result<Option<Vec<u8>>, Failure> {
        self.ready(map)?;
        let Some(place) = self.place(map, deadline)? else { return Ok(None) };
        self.with(map, &place, deadline, |connection| version::of(connection, &place.dn, self.timeout(deadline)))
    }

    fn lookup(&self, map: &Map, key: &[u8], deadline: Instant) -> Result<Option<Entry>, Failure> {
        Ok(self.lookup_all(map, &[key], deadline)?.pop().flatten())
    }

    fn batch(&self) -> usize {
        BATCH
    }

    fn lookup_all(&self, map: &Map, keys: &[&[u8]], deadline: Instant) -> Result<Vec<Option<Entry>>, Failure> {
        self.ready(map)?;
        match self.place(map, deadline)? {
            Some(place) => self.search_keys(&place, map, keys, deadline),
            None => Ok(keys.iter().map(|_| None).collect()),
        }
    }

    fn entries(&self, map: &Map, deadline: Instant, each: &mut dyn FnMut(Pair)) -> Result<bool, Failure> {
        self.ready(map)?;
        let Some(place) = self.place(map, deadline)? else { return Err(Failure::no_map(map)) };
        let found =
            self.with(map, &place, deadline, |connection| match self.search_all(connection, &place, deadline) {
                Err(error) if error.is_no_object() => Ok(None),
                result => result.map(Some),
            })?;
        let Some(found) = found else {
            lock(&self.places).remove(map);
            return Err(Failure::no_map(map));
        };
        if let Some(error) = found.error.as_ref().filter(|error| !error.is_limit()) {
            return Err(Failure::unavailable(error));
        }
        for entry in &found.entries {
            // A line of a master map has one value.
            if map.scope == Scope::Master && entry.values.get(1).is_some_and(|values| values.len() > 1) {
                continue;
            }
            for key in keys(entry, &place.schema) {
                match (key.as_slice(), map.scope) {
                    ([b'+', ..], _) | (b"/" | b"*", Scope::Direct) => {}
                    (b"/", Scope::Indirect) => each((b"*".to_vec(), value(entry))),
                    _ => each((key, value(entry))),
                }
            }
        }
        Ok(found.error.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(dn: &str, values: &[&[&str]]) -> ldap::Entry {
        let values =
            values.iter().map(|values| values.iter().map(|value| value.as_bytes().to_vec()).collect()).collect();
        ldap::Entry { dn: dn.into(), values }
    }

    #[test]
    fn the_first_schema_with_the_map_wins() {
        let schemas = Schema::known();
        let dn = |found: Vec<ldap::Entry>| best_place(&schemas, Some(b"m"), found).map(|place| place.dn);
        let bis = || entry("bis", &[&["top", "automountmap"], &[], &[], &["m"]]);
        let nis = || entry("nis", &[&["nisMap"], &["m"], &[], &[]]);
        assert_eq!(dn(vec![bis(), nis()]).unwrap(), b"nis");
        assert_eq!(dn(vec![bis()]).unwrap(), b"bis");
        assert_eq!(dn(vec![entry("x", &[&["nisObject"], &["m"], &[], &[]])]), None);
        assert_eq!(best_place(&schemas, None, vec![bis()]).unwrap().schema, schemas[2]);
    }

    #[test]
    fn values_are_one_text() {
        let schema = &Schema::known()[0];
        let one = entry("", &[&["%Alice", "al"], &["-fstype=bind", ":/srv "]]);
        assert_eq!(keys(&one, schema), [b"Alice".to_vec(), b"al".to_vec()]);
        assert_eq!(value(&one), b"-fstype=bind :/srv");
    }
}
