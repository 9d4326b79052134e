//! `autofs_ldap_auth.conf`: how to log in to LDAP servers. One XML element with attributes.

/// How much a server must prove, and what it is told about us.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Auth {
    /// `usetls`: StartTLS on connections that are not encrypted from the start.
    pub use_tls: bool,
    /// `tlsrequired`: without TLS there is no connection.
    pub tls_required: bool,
    /// `authrequired`, with `authtype`.
    pub method: Method,
    /// `user`.
    pub user: Option<Vec<u8>>,
    /// `secret`, or the decoded `encoded_secret`.
    pub secret: Option<Vec<u8>>,
    /// `clientprinc`: the Kerberos principal.
    pub principal: Option<Vec<u8>>,
    /// `credentialcache`: a Kerberos credential cache that others keep.
    pub credential_cache: Option<Vec<u8>>,
    /// `external_cert`: the client's certificate for EXTERNAL.
    pub certificate: Option<Vec<u8>>,
    /// `external_key`.
    pub certificate_key: Option<Vec<u8>>,
}

/// How to log in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Method {
    /// Not at all.
    #[default]
    Anonymous,
    /// With DN and password.
    Simple,
    /// With this SASL mechanism.
    Sasl(Vec<u8>),
    /// With the first SASL mechanism of the server that works.
    Autodetect,
}

/// Why the file cannot be used. Secrets are not shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// It is not the XML element that is expected.
    #[error("no element <autofs_ldap_sasl_conf .../>: {0}")]
    Syntax(&'static str),
    /// An attribute has a value that it cannot have.
    #[error("invalid {0} \"{1}\": expected {2}")]
    Value(&'static str, String, &'static str),
    /// An attribute that the method needs is missing.
    #[error("{0} needs the attributes {1}")]
    Missing(String, &'static str),
}

impl std::fmt::Debug for Auth {
    /// Shows no secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { use_tls, tls_required, method, principal, .. } = self;
        let shown = (use_tls, tls_required, method, principal.as_ref().map(|p| String::from_utf8_lossy(p)));
        f.debug_tuple("Auth").field(&shown).finish()
    }
}

impl Auth {
    /// Parses the content of the file. An empty file means neither TLS nor a login.
    ///
    /// # Errors
    /// It is no such file, or asks for something that cannot be done.
    pub fn parse(text: &[u8]) -> Result<Self, AuthError> {
        if text.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        let attributes = attributes(text)?;
        let get = |name: &str| {
            let found = attributes.iter().find(|(known, _)| known == name.as_bytes());
            found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
        };
        let yes_or_no = |name: &'static str| match get(name) {
            None => Ok(false),
            Some(value) if value.eq_ignore_ascii_case(b"yes") => Ok(true),
            Some(value) if value.eq_ignore_ascii_case(b"no") => Ok(false),
            Some(value) => Err(invalid(name, &value, "yes or no")),
        };
        let (use_tls, tls_required) = (yes_or_no("usetls")?, yes_or_no("tlsrequired")?);
        let kind = get("authtype");
        let required = get("authrequired").map(|value| value.to_ascii_lowercase());
        let method = match (required.as_deref(), kind) {
            (None | Some(b"no"), _) => Method::Anonymous,
            (Some(b"simple"), _) => Method::Simple,
            (Some(b"autodetect"), _) | (Some(b"yes"), None) => Method::Autodetect,
            (Some(b"yes"), Some(kind)) => mechanism(&kind)?,
            (Some(value), _) => return Err(invalid("authrequired", value, "yes, no, autodetect or simple")),
        };
        let secret = match get("encoded_secret") {
            Some(encoded) => {
                let decoded = base64(&encoded);
                Some(decoded.ok_or(AuthError::Value("encoded_secret", "***".to_owned(), "base64"))?)
            }
            None => get("secret"),
        };
        let auth = Self {
            use_tls,
            tls_required,
            method,
            user: get("user"),
            secret,
            principal: get("clientprinc"),
            credential_cache: get("credentialcache"),
            certificate: get("external_cert"),
            certificate_key: get("external_key"),
        };
        auth.check().map(|()| auth)
    }

    /// Returns whether user and secret are known.
    pub fn has_password(&self) -> bool {
        self.user.is_some() && self.secret.is_some()
    }

    fn check(&self) -> Result<(), AuthError> {
        let needs_password = match &self.method {
            Method::Simple => true,
            Method::Sasl(mechanism) => asks_for_password(mechanism),
            Method::Anonymous | Method::Autodetect => false,
        };
        if needs_password && !self.has_password() {
            let name = match &self.method {
                Method::Sasl(mechanism) => String::from_utf8_lossy(mechanism).into_owned(),
                _ => "authrequired=\"simple\"".to_owned(),
            };
            return Err(AuthError::Missing(name, "user and secret (or encoded_secret)"));
        }
        Ok(())
    }
}

/// Returns the names of the attributes in the text of the file; none if it cannot be read.
pub fn attribute_names(text: &[u8]) -> Vec<Vec<u8>> {
    attributes(text).unwrap_or_default().into_iter().map(|(name, _)| name).collect()
}

/// Returns whether a SASL mechanism needs user and password.
pub fn asks_for_password(mechanism: &[u8]) -> bool {
    let upper = mechanism.to_ascii_uppercase();
    matches!(upper.as_slice(), b"PLAIN" | b"LOGIN" | b"DIGEST-MD5" | b"CRAM-MD5") || upper.starts_with(b"SCRAM-")
}

/// Returns whether a SASL mechanism uses Kerberos tickets.
pub fn is_kerberos(mechanism: &[u8]) -> bool {
    mechanism.eq_ignore_ascii_case(b"GSSAPI") || mechanism.eq_ignore_ascii_case(b"GSS-SPNEGO")
}

fn mechanism(name: &[u8]) -> Result<Method, AuthError> {
    let upper = name.to_ascii_uppercase();
    let is_known = asks_for_password(&upper) || matches!(upper.as_slice(), b"GSSAPI" | b"ANONYMOUS" | b"EXTERNAL");
    if is_known {
        Ok(Method::Sasl(upper))
    } else {
        let expected = "GSSAPI, LOGIN, PLAIN, ANONYMOUS, DIGEST-MD5, SCRAM-SHA-1, SCRAM-SHA-256 or EXTERNAL";
        Err(invalid("authtype", name, expected))
    }
}

fn invalid(name: &'static str, value: &[u8], expected: &'static str) -> AuthError {
    AuthError::Value(name, crate::text::Escaped::start_of(value).to_string(), expected)
}

/// Name and value.
type Attribute = (Vec<u8>, Vec<u8>);

/// Returns the attributes of the element, their entities decoded.
fn attributes(text: &[u8]) -> Result<Vec<Attribute>, AuthError> {
    // Some editors begin a file with the byte order mark of UTF-8.
    let mut rest = Cursor(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text));
    rest.skip_blanks();
    loop {
        if rest.skip(b"<?") {
            rest.skip_behind(b"?>").ok_or(AuthError::Syntax("the declaration <? has no ?>"))?;
        } else if rest.skip(b"<!--") {
            rest.skip_behind(b"-->").ok_or(AuthError::Syntax("a comment has no end"))?;
        } else {
            break;
        }
        rest.skip_blanks();
    }
    if !rest.skip(b"<autofs_ldap_sasl_conf") {
        return Err(AuthError::Syntax("the file begins with something else"));
    }
    let mut attributes = Vec::new();
    loop {
        rest.skip_blanks();
        if rest.skip(b"/>") || rest.skip(b">") {
            return Ok(attributes);
        }
        let name = rest.word();
        rest.skip_blanks();
        if name.is_empty() || !rest.skip(b"=") {
            return Err(AuthError::Syntax("expected attribute=\"value\" or />"));
        }
        rest.skip_blanks();
        let quote = if rest.skip(b"\"") {
            b'"'
        } else if rest.skip(b"'") {
            b'\''
        } else {
            return Err(AuthError::Syntax("a value is not in quotes"));
        };
        let value = rest.until(quote).ok_or(AuthError::Syntax("a quote is not closed"))?;
        attributes.push((name.to_vec(), decode(value)?));
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn skip(&mut self, word: &[u8]) -> bool {
        match self.0.strip_prefix(word) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn skip_blanks(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }

    fn skip_behind(&mut self, word: &[u8]) -> Option<()> {
        let at = memchr::memmem::find(self.0, word)?;
        self.0 = self.0.get(at + word.len()..)?;
        Some(())
    }

    fn word(&mut self) -> &'a [u8] {
        let is_word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || *b == b'-';
        let length = self.0.iter().take_while(|b| is_word(b)).count();
        let (word, rest) = self.0.split_at_checked(length).unwrap_or((self.0, &[]));
        self.0 = rest;
        word
    }

    fn until(&mut self, end: u8) -> Option<&'a [u8]> {
        let at = memchr::memchr(end, self.0)?;
        let (value, rest) = self.0.split_at_checked(at)?;
        self.0 = rest.get(1..)?;
        Some(value)
    }
}

/// Decodes the entities of an attribute value.
fn decode(value: &[u8]) -> Result<Vec<u8>, AuthError> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = memchr::memchr(b'&', rest) {
        let (before, behind) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        out.extend_from_slice(before);
        let bad = AuthError::Syntax("an unknown entity; write & as &amp;");
        let end = memchr::memchr(b';', behind).ok_or_else(|| bad.clone())?;
        match behind.get(1..end).unwrap_or_default() {
            b"amp" => out.push(b'&'),
            b"lt" => out.push(b'<'),
            b"gt" => out.push(b'>'),
            b"quot" => out.push(b'"'),
            b"apos" => out.push(b'\''),
            [b'#', number @ ..] => out.extend_from_slice(character(number).ok_or(bad)?.to_string().as_bytes()),
            _ => return Err(bad),
        }
        rest = behind.get(end + 1..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    Ok(out)
}

fn character(number: &[u8]) -> Option<char> {
    let text = std::str::from_utf8(number).ok()?;
    let code = match text.strip_prefix('x') {
        Some(digits) => u32::from_str_radix(digits, 16).ok()?,
        None => text.parse().ok()?,
    };
    char::from_u32(code)
}

/// Decodes base64, with or without padding at its end.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    let end = digits.iter().rposition(|&b| b != b'=').map_or(0, |last| last + 1);
    let mut out = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for &b in digits.get(..end)? {
        let digit = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(digit)) & 0xff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    (count < 6).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(attributes: &str) -> Result<Auth, String> {
        let text = format!("<?xml version=\"1.0\" ?>\n<!-- none -->\n<autofs_ldap_sasl_conf\n {attributes}\n/>\n");
        Auth::parse(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_methods() {
        let method = |attributes: &str| parse(attributes).unwrap().method;
        assert_eq!(method(""), Method::Anonymous);
        assert_eq!(method("authrequired='no' authtype='GSSAPI'"), Method::Anonymous);
        assert_eq!(method("authrequired=\"yes\""), Method::Autodetect);
        assert_eq!(method("authrequired=\"yes\" authtype=\"gssapi\""), Method::Sasl(b"GSSAPI".to_vec()));
        assert_eq!(Auth::parse(b" \n"), Ok(Auth::default()));
        let marked = "\u{feff}<?xml version=\"1.0\"?><autofs_ldap_sasl_conf authrequired=\"yes\"/>";
        assert_eq!(Auth::parse(marked.as_bytes()).unwrap().method, Method::Autodetect);
        let auth =
            parse("usetls='YES' authrequired='simple' user='cn=x' secret='a&amp;b&lt;&quot;&#65;&#x42;'").unwrap();
        assert!(auth.use_tls && !auth.tls_required && auth.method == Method::Simple);
        assert_eq!(auth.secret.as_deref(), Some(&b"a&b<\"AB"[..]));
        let auth =
            parse("authrequired='yes' authtype='SCRAM-SHA-256' user='r' secret='x' encoded_secret='dG9wczNjcmV0'");
        assert_eq!(auth.as_ref().unwrap().secret.as_deref(), Some(&b"tops3cret"[..]));
        assert!(!format!("{auth:?}").contains("tops3cret"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (attributes, expected) in [
            ("usetls='maybe'", "invalid usetls \"maybe\": expected yes or no"),
            ("authrequired='perhaps'", "invalid authrequired \"perhaps\": expected yes, no, autodetect or simple"),
            (
                "authrequired='simple' user='x'",
                "authrequired=\"simple\" needs the attributes user and secret (or encoded_secret)",
            ),
            ("authrequired='yes' authtype='PLAIN'", "PLAIN needs the attributes user and secret (or encoded_secret)"),
            (
                "authrequired='yes' authtype='SMB'",
                "invalid authtype \"SMB\": expected GSSAPI, LOGIN, PLAIN, ANONYMOUS, DIGEST-MD5, SCRAM-SHA-1, SCRAM-SHA-256 or EXTERNAL",
            ),
            ("encoded_secret='!'", "invalid encoded_secret \"***\": expected base64"),
            ("user='a&b;'", "no element <autofs_ldap_sasl_conf .../>: an unknown entity; write & as &amp;"),
            ("user=x", "no element <autofs_ldap_sasl_conf .../>: a value is not in quotes"),
        ] {
            assert_eq!(parse(attributes).unwrap_err(), expected);
        }
        assert!(Auth::parse(b"usetls=no\n<autofs_ldap").is_err());
    }

    proptest! {
        #[test]
        fn no_file_is_too_strange(rest in "([<>/='\"&;! a]|autofs_ldap_sasl_conf|usetls|yes|&amp;|\\PC){0,20}") {
            let _ = Auth::parse(format!("<autofs_ldap_sasl_conf {rest}").as_bytes());
            let _ = Auth::parse(rest.as_bytes());
        }
    }
}
