//! The variables of Sun maps: what `$ARCH`, `$USER` or `-DNAME=VALUE` stand for, and which definition wins.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// The data of uname(2) about this machine, and its domain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct System {
    /// `Linux`.
    pub sysname: Vec<u8>,
    /// The host name.
    pub nodename: Vec<u8>,
    /// The release of the kernel.
    pub release: Vec<u8>,
    /// The version of the kernel.
    pub version: Vec<u8>,
    /// The processor.
    pub machine: Vec<u8>,
    /// The domain of the host, without a leading dot; empty: what follows the first dot of the host name.
    pub domain: Vec<u8>,
}

/// The variables that hold for every request: the predefined ones, and over them those of the command line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Macros {
    values: BTreeMap<Box<[u8]>, Box<[u8]>>,
    /// `$SHOST`: the host name up to its first dot.
    shost: Box<[u8]>,
}

impl Macros {
    /// The predefined variables: ARCH CPU HOST OSNAME OSREL OSVERS, and those that amd has for the same.
    pub fn predefined(system: &System) -> Self {
        let (host, rest) = split_at_dot(&system.nodename);
        let domain = if system.domain.is_empty() { rest } else { &system.domain };
        let hostd = if domain.is_empty() { host.to_vec() } else { [host, b".", domain].concat() };
        let mut macros = Self { values: BTreeMap::new(), shost: host.into() };
        for (name, value) in [
            ("ARCH", &*system.machine),
            ("CPU", cpu(&system.machine)),
            ("HOST", &system.nodename),
            ("OSNAME", &system.sysname),
            ("OSREL", &system.release),
            ("OSVERS", &system.version),
            ("host", host),
            ("hostd", &hostd),
            ("domain", domain),
            ("xhost", host),
            ("byte", if cfg!(target_endian = "big") { b"big" } else { b"little" }),
            ("dollar", b"$"),
            ("true", b"1"),
            ("false", b"0"),
        ] {
            macros.define(name.as_bytes(), value);
        }
        macros
    }

    /// Defines `name`, or defines it anew: the `-D` of the command line, the `arch` of the configuration.
    pub fn define(&mut self, name: &[u8], value: &[u8]) {
        self.values.insert(name.into(), value.into());
    }

    /// All of them, in order of their names: the environment of a program map.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.values.iter().map(|(name, value)| (&**name, &**value))
    }
}

/// The process for which something is mounted. What the user database does not know is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// `$UID`
    pub uid: u32,
    /// `$GID`
    pub gid: u32,
    /// `$USER`
    pub name: Option<Vec<u8>>,
    /// `$GROUP`
    pub group: Option<Vec<u8>>,
    /// `$HOME`
    pub home: Option<Vec<u8>>,
}

/// The variables of one request.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// Those that hold everywhere.
    pub globals: &'a Macros,
    /// `-DNAME=VALUE` of the line of the master map.
    pub defines: &'a [(Vec<u8>, Vec<u8>)],
    /// User that has asked.
    pub user: Option<&'a User>,
}

impl<'a> Scope<'a> {
    /// Returns whether the value of a variable `name` depends on the user database.
    pub fn asks_for_user(name: &[u8]) -> bool {
        matches!(name, b"USER" | b"GROUP" | b"HOME")
    }

    /// The value of `name`: the request's own, else the master map's, else the command line's, else the predefined.
    pub fn lookup(&self, name: &[u8]) -> Option<Cow<'a, [u8]>> {
        if let Some(value) = self.of_request(name) {
            return Some(value);
        }
        // The last -D of a line counts, as everywhere in options.
        if let Some((_, value)) = self.defines.iter().rev().find(|(n, _)| n == name) {
            return Some(Cow::Borrowed(value));
        }
        self.globals.values.get(name).map(|value| Cow::Borrowed(&**value))
    }

    /// UID GID USER GROUP HOME SHOST with their values, as far as they are known: a program map gets them too.
    pub fn request_variables(&self) -> impl Iterator<Item = (&'static str, Cow<'a, [u8]>)> + use<'a> {
        let scope = *self;
        ["UID", "GID", "USER", "GROUP", "HOME", "SHOST"]
            .into_iter()
            .filter_map(move |name| Some((name, scope.of_request(name.as_bytes())?)))
    }

    fn of_request(&self, name: &[u8]) -> Option<Cow<'a, [u8]>> {
        if name == b"SHOST" {
            return Some(Cow::Borrowed(&*self.globals.shost));
        }
        let user = self.user?;
        let text = match name {
            b"UID" => return Some(Cow::Owned(user.uid.to_string().into_bytes())),
            b"GID" => return Some(Cow::Owned(user.gid.to_string().into_bytes())),
            b"USER" => user.name.as_deref(),
            b"GROUP" => user.group.as_deref(),
            b"HOME" => user.home.as_deref(),
            _ => None,
        };
        text.map(Cow::Borrowed)
    }
}

/// `i386` for all its successors, else the machine itself.
fn cpu(machine: &[u8]) -> &[u8] {
    match machine {
        [b'i', b'3'..=b'9', b'8', b'6'] => b"i386",
        _ => machine,
    }
}

fn split_at_dot(name: &[u8]) -> (&[u8], &[u8]) {
    let dot = memchr::memchr(b'.', name).unwrap_or(name.len());
    (name.get(..dot).unwrap_or_default(), name.get(dot + 1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system() -> System {
        System {
            sysname: b"Linux".to_vec(),
            nodename: b"testhost.example.org".to_vec(),
            release: b"6.1".to_vec(),
            version: b"#1 SMP".to_vec(),
            machine: b"i686".to_vec(),
            domain: Vec::new(),
        }
    }

    #[test]
    fn predefined_variables() {
        let globals = Macros::predefined(&system());
        let user = User::default();
        let scope = Scope { globals: &globals, defines: &[], user: Some(&user) };
        for (name, value) in [
            ("ARCH", "i686"),
            ("CPU", "i386"),
            ("HOST", "testhost.example.org"),
            ("SHOST", "testhost"),
            ("OSNAME", "Linux"),
            ("OSREL", "6.1"),
            ("OSVERS", "#1 SMP"),
            ("host", "testhost"),
            ("hostd", "testhost.example.org"),
            ("domain", "example.org"),
            ("dollar", "$"),
            ("true", "1"),
            ("false", "0"),
            ("UID", "0"),
        ] {
            assert_eq!(scope.lookup(name.as_bytes()).as_deref(), Some(value.as_bytes()), "{name}");
        }
        assert_eq!(scope.lookup(b"USER"), None, "uid without a passwd entry");
        assert_eq!(scope.lookup(b"NOPE"), None);
    }

    #[test]
    fn the_nearer_definition_wins() {
        let mut globals = Macros::predefined(&system());
        globals.define(b"ARCH", b"command line");
        globals.define(b"FOO", b"command line");
        globals.define(b"USER", b"command line");
        let defines = [(b"FOO".to_vec(), b"master".to_vec()), (b"USER".to_vec(), b"master".to_vec())];
        let user = User { name: Some(b"joe".to_vec()), ..User::default() };
        let scope = Scope { globals: &globals, defines: &defines, user: Some(&user) };
        assert_eq!(scope.lookup(b"ARCH").as_deref(), Some(&b"command line"[..]));
        assert_eq!(scope.lookup(b"FOO").as_deref(), Some(&b"master"[..]));
        assert_eq!(scope.lookup(b"USER").as_deref(), Some(&b"joe"[..]));
        let nobody = Scope { user: None, ..scope };
        assert_eq!(nobody.lookup(b"USER").as_deref(), Some(&b"master"[..]));
    }
}
