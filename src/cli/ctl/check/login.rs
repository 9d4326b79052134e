//! `autofs_ldap_auth.conf`: how to log in to LDAP servers. It holds passwords, so no line of it is shown.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::directory::auth::{self, Auth, AuthError};
use crate::map::known;
use crate::sys::path;
use crate::text::{Diagnostic, Escaped, Position};

/// Examines the file and its permissions.
pub(super) fn file(file: &Path, text: &[u8]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    if let Ok(stat) = path::stat(file) {
        if stat.uid != 0 || stat.gid != 0 || stat.mode & 0o7777 != 0o600 {
            let message = "the file is not used: it must belong to root:root and have mode 0600";
            let help = format!("chown root:root {0}; chmod 600 {0}", Escaped::path(file));
            found.push(Diagnostic::error("login::permissions", Position::whole(file), message).help(help));
        }
    }
    found.extend(content(text, &file.into()));
    found
}

/// Examines the content of the file.
pub(super) fn content(text: &[u8], file: &Arc<Path>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let at = |name: &[u8]| place(text, file, name);
    if let Err(error) = Auth::parse(text) {
        let (name, help) = match &error {
            AuthError::Value("authtype", value, _) => (&b"authtype"[..], nearest(value, METHODS)),
            AuthError::Value(name, ..) => (name.as_bytes(), None),
            AuthError::Missing(..) => (&b"authtype"[..], None),
            AuthError::Syntax(_) => (&b"<autofs_ldap_sasl_conf"[..], None),
        };
        let help = help.unwrap_or_else(|| "see autofs_ldap_auth.conf(5); until then no LDAP map is read".to_owned());
        found.push(Diagnostic::error("login::syntax", at(name), error.to_string()).help(help));
    }
    found.extend(form(text, file));
    let names = auth::attribute_names(text);
    for name in &names {
        if ATTRIBUTES.split(' ').any(|known| known.as_bytes() == name) {
            continue;
        }
        let meant = match name.to_ascii_lowercase().as_slice() {
            b"username" | b"login" | b"binddn" | b"dn" => Some("did you mean user?".to_owned()),
            b"password" | b"passwd" | b"pass" | b"pw" | b"bindpw" => Some("did you mean secret?".to_owned()),
            b"principal" => Some("did you mean clientprinc?".to_owned()),
            _ => None,
        };
        let help = meant
            .or_else(|| nearest(&String::from_utf8_lossy(name).to_ascii_lowercase(), ATTRIBUTES))
            .unwrap_or_else(|| format!("the attributes are {}", ATTRIBUTES.replace(' ', ", ")));
        let message = format!("unknown attribute \"{}\" is ignored", Escaped::start_of(name));
        found.push(Diagnostic::warning("login::attribute", at(name), message).help(help).length(name.len()));
    }
    let has = |name: &[u8]| names.iter().any(|known| known == name);
    for (n, name) in names.iter().enumerate() {
        if names.iter().take(n).any(|earlier| earlier == name) {
            let message = format!("the attribute {} stands here twice", Escaped::start_of(name));
            let help = "automount(8) of autofs then refuses the file: remove one of the two";
            found.push(Diagnostic::warning("login::form", at(name), message).help(help).length(name.len()));
        }
    }
    if has(b"secret") && has(b"encoded_secret") {
        let message = "secret is ignored beside encoded_secret";
        let d = Diagnostic::warning("login::unused", at(b"secret"), message).length(6);
        found.push(d.help("remove one of the two"));
    }
    if let Ok(auth) = Auth::parse(text) {
        if auth.tls_required && !auth.use_tls {
            let message = "tlsrequired without usetls: a connection is never encrypted, and so never used";
            let help = "write usetls=\"yes\", unless all servers are ldaps://";
            found.push(Diagnostic::warning("login::unused", at(b"tlsrequired"), message).help(help).length(11));
        }
        let files = [
            ("credentialcache", &auth.credential_cache),
            ("external_cert", &auth.certificate),
            ("external_key", &auth.certificate_key),
        ];
        for (name, value) in files {
            let Some(value) = value.as_deref() else { continue };
            let value = value.strip_prefix(b"FILE:").unwrap_or(value);
            let named = Path::new(OsStr::from_bytes(value));
            if named.is_absolute()
                && path::stat_untriggered(named).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
            {
                let message = format!("there is no file {}", Escaped::path(named));
                let help = "until it is there, a login fails";
                let d = Diagnostic::warning("login::no-file", at(name.as_bytes()), message).help(help);
                found.push(d.length(name.len()));
            }
        }
    }
    if has(b"authtype") && !has(b"authrequired") {
        let message = "authtype is ignored without authrequired";
        let help = "write authrequired=\"yes\" for a login";
        found.push(Diagnostic::warning("login::unused", at(b"authtype"), message).help(help).length(8));
    }
    found
}

/// Warns of what makes the file no XML. The daemon reads it nevertheless, automount(8) of autofs does not.
fn form(text: &[u8], file: &Arc<Path>) -> Option<Diagnostic> {
    const ELEMENT: &[u8] = b"autofs_ldap_sasl_conf";
    let warn = |at: Position, message: &str, help: &str| {
        Some(Diagnostic::warning("login::form", at, message).help(help.to_owned()))
    };
    if text.trim_ascii().is_empty() {
        let help = "write <autofs_ldap_sasl_conf usetls=\"no\" authrequired=\"no\" />";
        return warn(Position::whole(file), "the file is empty: LDAP servers are asked without a login", help);
    }
    Auth::parse(text).ok()?;
    let start = memchr::memmem::find(text, &[b"<", ELEMENT].concat())? + 1;
    // The end of the element, outside of quotes.
    let (mut quote, mut end) = (None, None);
    for (at, &b) in text.iter().enumerate().skip(start) {
        match (quote, b) {
            (Some(open), b) if open == b => quote = None,
            (Some(_), b'<') => {
                let help = "write &lt; for the character; automount(8) of autofs refuses the file";
                return warn(place_of(text, file, at), "a < in a value", help);
            }
            (None, b'"' | b'\'') => quote = Some(b),
            (None, b'>') => {
                end = Some(at);
                break;
            }
            _ => {}
        }
    }
    let end = end?;
    let rest = text.get(end + 1..)?;
    let is_closed = text.get(..end)?.ends_with(b"/");
    let closing = [b"</", ELEMENT].concat();
    if !is_closed && memchr::memmem::find(rest, &closing).is_none() {
        let help = "write /> at the end of the element; automount(8) of autofs refuses the file";
        return warn(place_of(text, file, end), "the element is not closed", help);
    }
    let again = memchr::memmem::find(rest, &[b"<", ELEMENT].concat())?;
    let help = "only the first one is read; automount(8) of autofs refuses the file";
    warn(place_of(text, file, end + 1 + again), "a second element", help)
}

const ATTRIBUTES: &str = "usetls tlsrequired authrequired authtype user secret encoded_secret clientprinc \
    credentialcache external_cert external_key";

const METHODS: &str = "GSSAPI LOGIN PLAIN ANONYMOUS DIGEST-MD5 SCRAM-SHA-1 SCRAM-SHA-256 EXTERNAL";

fn nearest(word: &str, words: &'static str) -> Option<String> {
    let words = words.split(' ');
    let same = words.clone().find(|known| known.eq_ignore_ascii_case(word));
    same.or_else(|| known::nearest(word.as_bytes(), words)).map(|near| format!("did you mean {near}?"))
}

/// Returns where `name` first stands as a word, or the first line.
fn place(text: &[u8], file: &Arc<Path>, name: &[u8]) -> Position {
    let is_word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    let is_whole = |at: &usize| {
        let before = at.checked_sub(1).and_then(|at| text.get(at)).is_some_and(is_word);
        !before && !text.get(at + name.len()).is_some_and(is_word)
    };
    match memchr::memmem::find_iter(text, name).find(is_whole) {
        Some(at) => place_of(text, file, at),
        None => Position::new(file, 1, 1),
    }
}

/// Returns the position of the byte `at`.
fn place_of(text: &[u8], file: &Arc<Path>, at: usize) -> Position {
    let before = text.get(..at).unwrap_or_default();
    let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|&&b| b != b'\n').count() + 1;
    let number = |n| u32::try_from(n).unwrap_or(u32::MAX);
    Position::new(file, number(line), number(column))
}
