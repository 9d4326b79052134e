//! The names of LDAP maps: `NAME`, `attr=NAME`, a DN, each with a server in front or without; the server may be a socket of this
//! machine.

/// Name of an LDAP map.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LdapName {
    /// `host` or `host:port`, if the name says which server has the map.
    pub server: Option<Vec<u8>>,
    /// The server is a socket of this machine: `server` is its path, percent-encoded, or empty for the default one.
    pub is_local: bool,
    /// Server that is asked.
    pub target: Target,
}

/// A map on a server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A name, to be found below the search bases.
    Name(Vec<u8>),
    /// The DN of the map.
    Dn(Vec<u8>),
}

impl LdapName {
    /// Parses what stands behind `ldap:` or `ldaps:`: `//SERVER/DN`, `//SERVER/NAME`, `SERVER:DN`, `SERVER:NAME`, `DN`,
    /// `attr=NAME`, `NAME`, or `ldapi://SOCKET/` and a DN or name.
    pub fn parse(text: &[u8]) -> Self {
        if let Some(rest) = Self::behind_local(text) {
            let length = memchr::memchr(b'/', rest).unwrap_or(rest.len());
            return Self {
                server: rest.get(..length).map(<[u8]>::to_vec),
                is_local: true,
                target: Target::parse(rest.get(length + 1..).unwrap_or_default()),
            };
        }
        if let Some(rest) = text.strip_prefix(b"//") {
            let (server, rest) = match memchr::memchr(b'/', rest) {
                Some(at) => (rest.get(..at).unwrap_or_default(), rest.get(at + 1..).unwrap_or_default()),
                None => (rest, &[][..]),
            };
            let server = Some(server.to_vec()).filter(|server| !server.is_empty());
            return Self { server, is_local: false, target: Target::parse(rest) };
        }
        match server_length(text) {
            Some(length) => Self {
                server: text.get(..length).map(<[u8]>::to_vec),
                is_local: false,
                target: Target::parse(text.get(length + 1..).unwrap_or_default()),
            },
            None => Self { server: None, is_local: false, target: Target::parse(text) },
        }
    }

    /// Returns whether the name says that the map is behind a socket of this machine, whose server asks who calls.
    pub fn names_local(text: &[u8]) -> bool {
        Self::behind_local(text).is_some()
    }

    fn behind_local(text: &[u8]) -> Option<&[u8]> {
        const SCHEME: &[u8] = b"ldapi://";
        let (scheme, rest) = text.split_at_checked(SCHEME.len())?;
        scheme.eq_ignore_ascii_case(SCHEME).then_some(rest)
    }
}

/// Returns the length of `host[:port]` or `[address][:port]` before the colon that separates it from the map.
fn server_length(text: &[u8]) -> Option<usize> {
    let host = match text {
        [b'[', ..] => memchr::memchr(b']', text)? + 1,
        _ => memchr::memchr(b':', text)?,
    };
    // A DN may hold colons, too.
    let is_host = |b: &u8| b.is_ascii_alphanumeric() || b"[]:.-_".contains(b);
    if host == 0 || text.get(host) != Some(&b':') || !text.get(..host)?.iter().all(is_host) {
        return None;
    }
    let rest = text.get(host + 1..)?;
    let port = memchr::memchr(b':', rest).filter(|&end| end > 0);
    match port {
        Some(end) if rest.get(..end)?.iter().all(u8::is_ascii_digit) => Some(host + 1 + end),
        _ => Some(host),
    }
}

impl Target {
    fn parse(text: &[u8]) -> Self {
        match memchr::memchr(b'=', text) {
            Some(_) if text.contains(&b',') => Self::Dn(text.to_vec()),
            Some(at) => Self::Name(text.get(at + 1..).unwrap_or_default().to_vec()),
            None => Self::Name(text.to_vec()),
        }
    }

    /// Returns the attribute with which a DN begins.
    pub fn first_attribute(&self) -> Option<&[u8]> {
        match self {
            Self::Name(_) => None,
            Self::Dn(dn) => dn.split(|&b| b == b'=').next().map(<[u8]>::trim_ascii),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_servers_and_dns() {
        let name = |text: &str| Target::Name(text.into());
        let dn = |text: &str| Target::Dn(text.into());
        for (text, server, target) in [
            ("auto.m", None, name("auto.m")),
            ("automountMapName=auto.m", None, name("auto.m")),
            ("cn=auto.m,dc=ex", None, dn("cn=auto.m,dc=ex")),
            ("ldap.ex:auto.m", Some("ldap.ex"), name("auto.m")),
            ("ldap.ex:cn=auto.m,dc=ex", Some("ldap.ex"), dn("cn=auto.m,dc=ex")),
            ("ldap.ex:1389:cn=auto.m,dc=ex", Some("ldap.ex:1389"), dn("cn=auto.m,dc=ex")),
            ("[::1]:389:auto.m", Some("[::1]:389"), name("auto.m")),
            ("[::1]:auto.m", Some("[::1]"), name("auto.m")),
            ("//ldap.ex/auto.m", Some("ldap.ex"), name("auto.m")),
            ("//ldap.ex:389/cn=auto.m,dc=ex", Some("ldap.ex:389"), dn("cn=auto.m,dc=ex")),
            ("///cn=auto.m,dc=ex", None, dn("cn=auto.m,dc=ex")),
            ("//ldap.ex", Some("ldap.ex"), name("")),
            ("cn=a:b,dc=ex", None, dn("cn=a:b,dc=ex")),
            (":x", None, name(":x")),
        ] {
            let expected = LdapName { server: server.map(|s| s.as_bytes().to_vec()), is_local: false, target };
            assert_eq!(LdapName::parse(text.as_bytes()), expected, "{text}");
            assert!(!LdapName::names_local(text.as_bytes()));
        }
        for (text, server, target) in [
            ("ldapi://%2Frun%2Fx/auto.m", "%2Frun%2Fx", name("auto.m")),
            ("LDAPI:///cn=auto.m,dc=ex", "", dn("cn=auto.m,dc=ex")),
            ("ldapi://%2Frun%2Fx", "%2Frun%2Fx", name("")),
        ] {
            let expected = LdapName { server: Some(server.into()), is_local: true, target };
            assert_eq!(LdapName::parse(text.as_bytes()), expected, "{text}");
            assert!(LdapName::names_local(text.as_bytes()));
        }
    }

    #[test]
    fn the_first_attribute_of_a_dn() {
        assert_eq!(LdapName::parse(b"ou =x,dc=ex").target.first_attribute(), Some(&b"ou"[..]));
        assert_eq!(LdapName::parse(b"x").target.first_attribute(), None);
    }
}
