//! Masks passwords in text that leaves the daemon: options of mounts, commands, what programs have said, log lines.

use std::borrow::Cow;

/// Text that is shown in place of a secret.
pub const MASK: &[u8] = b"***";

/// Options with a secret as their value.
const NAMES: &[&[u8]] = &[b"password", b"password2", b"passwd", b"pass", b"passphrase", b"secret", b"token"];

/// Options with the name of a file with a secret as their value.
const FILES: &[&[u8]] = &[b"credentials", b"cred"];

/// Options whose value may be a user name, a percent sign and a password.
const USERS: &[&[u8]] = &[b"user", b"username"];

/// Returns the text with each secret replaced by `***`: the values of `password=` and similar options, what follows the
/// percent sign in `username=NAME%PASSWORD`, and the password in `//NAME:PASSWORD@HOST` and `NAME:PASSWORD@HOST`.
pub fn masked(text: &[u8]) -> Cow<'_, [u8]> {
    replaced_at(text, secrets(text, true))
}

fn replaced_at(text: &[u8], found: Vec<(usize, usize)>) -> Cow<'_, [u8]> {
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

/// Masks the passwords of a line of input with a `*` for each byte, so that columns stay as they are. Names of files are shown.
pub fn masked_in_place(text: &[u8]) -> Cow<'_, [u8]> {
    let found = secrets(text, false);
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut masked = text.to_vec();
    for (start, end) in found {
        masked.get_mut(start..end).unwrap_or_default().fill(b'*');
    }
    Cow::Owned(masked)
}

/// Masks the passwords of a message about input. Names of files are shown.
pub fn masked_message(text: &str) -> Cow<'_, str> {
    text_of(text, replaced_at(text.as_bytes(), secrets(text.as_bytes(), false)))
}

/// [`masked`] for text that is UTF-8.
pub fn masked_text(text: &str) -> Cow<'_, str> {
    text_of(text, masked(text.as_bytes()))
}

fn text_of<'a>(text: &'a str, masked: Cow<'a, [u8]>) -> Cow<'a, str> {
    match masked {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        Cow::Owned(masked) => Cow::Owned(String::from_utf8_lossy(&masked).into_owned()),
    }
}

/// Returns the text with its own secrets masked, and those of `commands` as well: a program may repeat its arguments.
pub fn masked_as_in(text: &[u8], commands: &[Vec<u8>]) -> Vec<u8> {
    let mut text = masked(text).into_owned();
    for word in commands {
        for (start, end) in secrets(word, true) {
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

/// Returns where secrets are, in order, with `files` also the names of files with secrets.
fn secrets(text: &[u8], files: bool) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    if memchr::memchr2(b'=', b'@', text).is_none() {
        return found;
    }
    for equals in memchr::memchr_iter(b'=', text) {
        let before = text.get(..equals).unwrap_or_default();
        let start = before.iter().rposition(|b| !b.is_ascii_alphanumeric() && *b != b'_').map_or(0, |at| at + 1);
        let name = before.get(start..).unwrap_or_default();
        let is_in = |names: &[&[u8]]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
        let quote = start.checked_sub(1).and_then(|at| text.get(at)).copied().filter(is_quote);
        let (value, end) = value(text, equals + 1, quote);
        if (is_in(NAMES) || is_nearly(name) || files && is_in(FILES)) && end > value {
            found.push((value, end));
        } else if is_in(USERS) {
            let percent = text.get(value..end).and_then(|value| memchr::memchr(b'%', value));
            found.extend(percent.map(|percent| (value + percent + 1, end)).filter(|(start, end)| start < end));
        }
    }
    if memchr::memchr(b'@', text).is_some() {
        logins(text, &mut found);
    }
    found.sort_unstable();
    found.dedup_by(|next, kept| next.0 < kept.1);
    found
}

/// Adds where the passwords of logins before an `@` are.
fn logins(text: &[u8], found: &mut Vec<(usize, usize)>) {
    for slashes in memchr::memmem::find_iter(text, b"//") {
        let host = text.get(slashes + 2..).unwrap_or_default();
        let end = host.iter().position(|b| matches!(b, b'/' | b' ' | b'\t' | b'\n')).unwrap_or(host.len());
        let login = host.get(..end).and_then(|host| host.get(..memchr::memrchr(b'@', host)?));
        if let Some((colon, login)) = login.and_then(|login| Some((memchr::memchr(b':', login)?, login))) {
            found.push((slashes + 3 + colon, slashes + 2 + login.len()));
        }
    }
    for word in words(text) {
        let (start, word) = word;
        let Some(at) = memchr::memrchr(b'@', word) else { continue };
        let login = word.get(..at).unwrap_or_default();
        // A colon at the beginning marks a local location.
        let skipped = login.iter().take_while(|b| **b == b':').count();
        let colon = memchr::memchr(b':', login.get(skipped..).unwrap_or_default()).map(|colon| skipped + colon);
        let Some(colon) = colon.filter(|_| !login.contains(&b'/')) else { continue };
        // `:=` is an assignment in am-utils format.
        if login.get(colon + 1).is_some_and(|b| *b != b'=') {
            found.push((start + colon + 1, start + at));
        }
    }
}

/// Returns whether a name is a misspelt `password`: the mistake is shown, and the password beside it must not be.
fn is_nearly(name: &[u8]) -> bool {
    // Two mistakes bring at most two other letters into a word.
    let others = name.iter().filter(|b| !b"passwordhe".contains(&b.to_ascii_lowercase())).count();
    if others > 2 {
        return false;
    }
    let lower = name.to_ascii_lowercase();
    let is_short = |known: &str| lower.len().abs_diff(known.len()) < 3;
    let name = std::str::from_utf8(&lower).unwrap_or_default();
    ["password", "passphrase"].iter().any(|known| is_short(known) && strsim::damerau_levenshtein(name, known) < 3)
}

/// Returns the words between blanks and commas, with their positions.
fn words(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut start = 0;
    text.split(|b| matches!(b, b' ' | b'\t' | b'\n' | b',' | b'"' | b'\'')).map(move |word| {
        let at = start;
        start += word.len() + 1;
        (at, word)
    })
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
            ("-fstype=sshfs joe:Geheim7@host:/x", "-fstype=sshfs joe:***@host:/x"),
            (":sshfs#joe@host:/x host:/a:b@c rhost:=joe@host", ":sshfs#joe@host:/x host:/a:b@c rhost:=joe@host"),
            ("secret=x", "secret=***"),
            ("passwod=x,passwrd=z", "passwod=***,passwrd=***"),
        ] {
            assert_eq!(masked_text(text), shown, "{text}");
        }
    }

    #[test]
    fn columns_stay_as_they_are() {
        assert_eq!(*masked_in_place(b"a -password=Geheim7 x"), *b"a -password=******* x");
        assert_eq!(*masked_in_place(b"a -ro x:/y"), *b"a -ro x:/y");
    }

    #[test]
    fn what_a_program_repeats_is_masked() {
        let command = [b"mount.x".to_vec(), b"rw,password=Geheim7,pass=ab".to_vec()];
        let said = masked_as_in(b"mount.x: Geheim7 is wrong, ab too (password=Geheim7)\n", &command);
        assert_eq!(said, b"mount.x: *** is wrong, ab too (password=***)\n");
    }
}
