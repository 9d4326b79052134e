//! `autofs_ldap_auth.conf`: how to log in to LDAP servers. It holds passwords, so no line of it is shown.

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
    let names = auth::attribute_names(text);
    for name in &names {
        if ATTRIBUTES.split(' ').any(|known| known.as_bytes() == name) {
            continue;
        }
        let help = nearest(&String::from_utf8_lossy(name).to_ascii_lowercase(), ATTRIBUTES)
            .unwrap_or_else(|| format!("the attributes are {}", ATTRIBUTES.replace(' ', ", ")));
        let message = format!("unknown attribute \"{}\" is ignored", Escaped::start_of(name));
        found.push(Diagnostic::warning("login::attribute", at(name), message).help(help).length(name.len()));
    }
    let has = |name: &[u8]| names.iter().any(|known| known == name);
    if has(b"authtype") && !has(b"authrequired") {
        let message = "authtype is ignored without authrequired";
        let help = "write authrequired=\"yes\" for a login";
        found.push(Diagnostic::warning("login::unused", at(b"authtype"), message).help(help).length(8));
    }
    found
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
    let Some(at) = memchr::memmem::find_iter(text, name).find(is_whole) else { return Position::new(file, 1, 1) };
    let before = text.get(..at).unwrap_or_default();
    let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|&&b| b != b'\n').count() + 1;
    let number = |n| u32::try_from(n).unwrap_or(u32::MAX);
    Position::new(file, number(line), number(column))
}
