//! Masks passwords in text that leaves the daemon: options of mounts, commands, what programs have said, log lines.

use std::borrow::Cow;

/// Text that is shown in place of a secret.
pub const MASK: &[u8] = b"***";

/// Options with a secret, or the name of a file with one, as their value.
const NAMES: &[&[u8]] =
    &[b"password", b"password2", b"passwd", b"pass", b"passphrase", b"secret", b"credentials", b"cred", b"token"];

/// Options whose value may be a user name, a percent sign and a password.
const USERS: &[&[u8]] = &[b"user", b"username"];

/// Returns the text with each secret replaced by `***`: the values of `password=` and similar options, what follows the
/// percent sign in `username=NAME%PASSWORD`, and the password in `//NAME:PASSWORD@HOST`.
pub fn masked(text: &[u8]) -> Cow<'_, [u8]> {
    let found = secrets(text);
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    let (mut masked, mut at) = (Vec::with_capacity(text.len()), 0);
    for (start, end) in found {
        masked.extend_from_slice(text.get(at..start).unwrap_or_default());
        masked.extend_from_slice(MASK);
        at = end;
    }
    masked.extend_from_slice(text.get(at..).unwrap_or_default());
    Cow::Owned(masked)
}

/// [`masked`] for text that is UTF-8.
pub fn masked_text(text: &str) -> Cow<'_, str> {
    match masked(text.as_bytes()) {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        Cow::Owned(masked) => Cow::Owned(String::from_utf8_lossy(&masked).into_owned()),
    }
}

/// Returns the text with its own secrets masked, and those of `commands` as well: a program may repeat its arguments.
pub fn masked_as_in(text: &[u8], commands: &[Vec<u8>]) -> Vec<u8> {
    let mut text = masked(text).into_owned();
    for word in commands {
        for (start, end) in secrets(word) {
            let secret = word.get(start..end).unwrap_or_default();
            // A shorter one would be found in words that have nothing to do with it.
            if secret.len() > 3 {
                text = replaced(&text, secret);
            }
        }
    }
    text
}

fn replaced(text: &[u8], secret: &[u8]) -> Vec<u8> {
    let (mut new, mut at) = (Vec::with_capacity(text.len()), 0);
    for found in memchr::memmem::find_iter(text, secret) {
        new.extend_from_slice(text.get(at..found).unwrap_or_default());
        new.extend_from_slice(MASK);
        at = found + secret.len();
    }
    new.extend_from_slice(text.get(at..).unwrap_or_default());
    new
}

/// Returns where secrets are, in order.
fn secrets(text: &[u8]) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for equals in memchr::memchr_iter(b'=', text) {
        let before = text.get(..equals).unwrap_or_default();
        let start = before.iter().rposition(|b| !b.is_ascii_alphanumeric() && *b != b'_').map_or(0, |at| at + 1);
        let name = before.get(start..).unwrap_or_default();
        let is_in = |names: &[&[u8]]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
        let quote = start.checked_sub(1).and_then(|at| text.get(at)).copied().filter(is_quote);
        let (value, end) = value(text, equals + 1, quote);
        if is_in(NAMES) && end > value {
            found.push((value, end));
        } else if is_in(USERS) {
            let percent = text.get(value..end).and_then(|value| memchr::memchr(b'%', value));
            found.extend(percent.map(|percent| (value + percent + 1, end)).filter(|(start, end)| start < end));
        }
    }
    for slashes in memchr::memmem::find_iter(text, b"//") {
        let host = text.get(slashes + 2..).unwrap_or_default();
        let end = host.iter().position(|b| matches!(b, b'/' | b' ' | b'\t' | b'\n')).unwrap_or(host.len());
        let login = host.get(..end).and_then(|host| host.get(..memchr::memrchr(b'@', host)?));
        if let Some((colon, login)) = login.and_then(|login| Some((memchr::memchr(b':', login)?, login))) {
            found.push((slashes + 3 + colon, slashes + 2 + login.len()));
        }
    }
    found.sort_unstable();
    found.dedup_by(|next, kept| next.0 < kept.1);
    found
}

fn is_quote(b: &u8) -> bool {
    matches!(b, b'"' | b'\'')
}

/// Returns where the value that begins at `start` begins without its quote, and where it ends. `quote`: the quote before the
/// name of the option.
fn value(text: &[u8], start: usize, quote: Option<u8>) -> (usize, usize) {
    let own = text.get(start).copied().filter(is_quote);
    let start = start + usize::from(own.is_some());
    let rest = text.get(start..).unwrap_or_default();
    let end = match own.or(quote) {
        Some(quote) => rest.iter().position(|b| *b == quote || *b == b'\n' || (own.is_none() && *b == b',')),
        None => rest.iter().position(|b| matches!(b, b',' | b' ' | b'\t' | b'\n' | b')' | b'"' | b'\'')),
    };
    (start, start + end.unwrap_or(rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_and_nothing_else() {
        for (text, shown) in [
            ("-fstype=cifs,password=Geheim7,rw ://s/x", "-fstype=cifs,password=***,rw ://s/x"),
            ("rw,PASS=a b", "rw,PASS=*** b"),
            ("\"password=a b\",ro", "\"password=***\",ro"),
            ("password='a,b' ro", "password='***' ro"),
            ("credentials=/etc/cred.smb,uid=5", "credentials=***,uid=5"),
            ("user=DOM/joe%Geheim7,vers=3", "user=DOM/joe%***,vers=3"),
            ("//joe:Geheim7@host/share", "//joe:***@host/share"),
            ("https://joe:a@b@host/x password=q", "https://joe:***@host/x password=***"),
            ("passive=1,bypass=2,pass=,user=joe", "passive=1,bypass=2,pass=,user=joe"),
            ("//host/a:b@c", "//host/a:b@c"),
            ("secret=x", "secret=***"),
        ] {
            assert_eq!(masked_text(text), shown, "{text}");
        }
    }

    #[test]
    fn what_a_program_repeats_is_masked() {
        let command = [b"mount.x".to_vec(), b"rw,password=Geheim7,pass=ab".to_vec()];
        let said = masked_as_in(b"mount.x: Geheim7 is wrong, ab too (password=Geheim7)\n", &command);
        assert_eq!(said, b"mount.x: *** is wrong, ab too (password=***)\n");
    }
}
