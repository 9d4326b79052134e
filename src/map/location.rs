//! Locations: what a word of an entry may say of where a file system is.

use std::borrow::Cow;

use super::known::typographic;
use super::spec::SourceSpec;
use super::words::{Unbalanced, dequote};

/// Mistake in a word of an entry: its offset in the word, and how to correct it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw {
    /// Stable name, as in [`Diagnostic`](crate::text::Diagnostic).
    pub code: &'static str,
    /// Bytes from the beginning of the word.
    pub at: usize,
    /// Half a sentence.
    pub message: String,
    /// Text to write instead.
    pub help: Cow<'static, str>,
}

impl Flaw {
    /// A word that is no location.
    pub(super) fn new(at: usize, message: impl Into<String>, help: impl Into<Cow<'static, str>>) -> Self {
        Self { code: "sun::location", at, message: message.into(), help: help.into() }
    }
}

impl From<Unbalanced> for Flaw {
    fn from(Unbalanced(at): Unbalanced) -> Self {
        let help = "close it, or write \\\" for the character itself";
        Self { code: "sun::quote", at, message: "a double quote is never closed".into(), help: help.into() }
    }
}

/// The location that the word `raw` names, without its quotes: `host:/path`, `:/path`, `://server/share`, `map-type:map`
/// or a plain name.
pub(super) fn location(raw: &[u8]) -> Result<Vec<u8>, Flaw> {
    let text = dequote(raw)?.into_owned();
    let Some(colon) = memchr::memchr(b':', &text) else {
        return match text.first() {
            Some(b'/') => Err(begins_with_slash()),
            Some(_) => Ok(text),
            None => Err(Flaw::new(0, "the location is empty", "write host:/path or :/path")),
        };
    };
    if colon == 0 {
        return Ok(text);
    }
    if let Some(end) = memchr::memmem::find(&text, b":/") {
        hosts(text.get(..end).unwrap_or_default())?;
        return Ok(text);
    }
    if text.starts_with(b"/") {
        return Err(begins_with_slash());
    }
    let map_type = text.get(..colon).and_then(SourceSpec::parse_type);
    if memchr::memmem::find(raw, b"\\:").is_some() || map_type.is_some() {
        return Ok(text);
    }
    Err(Flaw::new(
        colon,
        "the path behind the colon does not begin with \"/\"",
        "write host:/path, or \\: for a plain colon",
    ))
}

fn begins_with_slash() -> Flaw {
    Flaw::new(0, "location begins with \"/\"", "write :/path for a local directory or device")
}

/// Checks the part before `:/`: host names with weights, separated by commas.
fn hosts(list: &[u8]) -> Result<(), Flaw> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._,()#@:%[]".contains(&b);
    if let Some(at) = list.iter().position(|&b| !allowed(b)) {
        if at == 0 && list.starts_with(b"/") {
            return Err(begins_with_slash());
        }
        if let Some((character, plain)) = list.get(at..).and_then(typographic) {
            return Err(Flaw::new(at, format!("a typographic {character}"), format!("write {plain}")));
        }
        return Err(Flaw::new(at, "a host name has a character that no host name has", "write host:/path"));
    }
    let mut at = 0;
    for host in list.split(|&b| b == b',') {
        if host.is_empty() {
            return Err(Flaw::new(at, "a host name in the list is empty", "write host1,host2:/path"));
        }
        at += host.len() + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_location() {
        for (raw, plain) in [
            (&b"srv1:/x"[..], &b"srv1:/x"[..]),
            (b"h1,h2(3):/p", b"h1,h2(3):/p"),
            (b"[fd00::99]:/x", b"[fd00::99]:/x"),
            (b":/opt", b":/opt"),
            (br"://srv1/my\ share", b"://srv1/my share"),
            (br":sshfs\#joe@srv1\:/home", b":sshfs#joe@srv1:/home"),
            (br"sshfs\#joe@srv1\:", b"sshfs#joe@srv1:"),
            (b"srv1:\"/with space/x\"", b"srv1:/with space/x"),
            (b"10.0.0.1@tcp0:/fs", b"10.0.0.1@tcp0:/fs"),
            (b"tmpfs", b"tmpfs"),
            (b"yp:auto.sub", b"yp:auto.sub"),
            (b"ldap:ou=auto.sub,dc=x", b"ldap:ou=auto.sub,dc=x"),
        ] {
            assert_eq!(location(raw).as_deref(), Ok(plain));
        }
    }

    #[test]
    fn what_is_none() {
        for (raw, at) in [
            (&b"\\/x"[..], 0),
            (b"srv1:x", 4),
            (b"srv1,,srv2:/x", 5),
            (b"a,:/x", 2),
            (b",a:/x", 0),
            (b"a\\ b:/x", 1),
            (b"srv1:\"/x", 5),
            (b"\"\"", 0),
        ] {
            assert_eq!(location(raw).unwrap_err().at, at, "{}", String::from_utf8_lossy(raw));
        }
    }
}
