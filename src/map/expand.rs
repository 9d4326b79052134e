//! Expansion of a Sun entry: replaces `&` by the key and `$name` and `${name}` by the values of variables, and makes
//! slashes of the colons in paths.
//!
//! Quoted strings and escapes are copied, because the text is split into words and unquoted afterwards. Only two
//! backslashes become one here, as automount(8) does it: `x\\&` is a backslash and the key, and the backslash then
//! escapes the first byte of the key.

use std::borrow::Cow;
use std::ops::Range;

use super::words::is_blank;

/// An expanded entry, and where its bytes came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expanded<'a> {
    /// The text; borrowed when there was nothing to expand.
    pub text: Cow<'a, [u8]>,
    /// Offset in the unexpanded text of a `${` without `}`, which cuts the entry off.
    pub cut: Option<usize>,
    pieces: Vec<Piece>,
    /// The parts of the text that are a key with a comma.
    keys: Vec<Range<usize>>,
}

/// A part of the expanded text that begins at `at` and comes from `origin` on, byte by byte or as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    at: usize,
    origin: usize,
    verbatim: bool,
}

impl Expanded<'_> {
    /// Returns the offset in the unexpanded text of the byte at `offset` in the expanded text.
    pub fn origin(&self, offset: usize) -> usize {
        match self.pieces.iter().rev().find(|p| p.at <= offset) {
            Some(Piece { at, origin, verbatim: true }) => origin + (offset - at),
            Some(Piece { origin, .. }) => *origin,
            None => offset,
        }
    }

    /// Returns whether a key with a comma is in a part of the expanded text. Among options it would be several, and users choose
    /// keys.
    pub fn has_key_with_comma(&self, part: Range<usize>) -> bool {
        self.keys.iter().any(|key| key.start < part.end && part.start < key.end)
    }
}

impl<'a> From<&'a [u8]> for Expanded<'a> {
    /// A text that is to be taken as it is.
    fn from(text: &'a [u8]) -> Self {
        Self { text: Cow::Borrowed(text), cut: None, pieces: Vec::new(), keys: Vec::new() }
    }
}

/// Gives the values of variables; `None`: there is no such variable.
pub type Lookup<'a, 'm> = dyn Fn(&[u8]) -> Option<Cow<'m, [u8]>> + 'a;

/// Expands `text`, the entry of `key`. Unknown variables (`lookup` says `None`) expand to nothing. With
/// `slashify_colons`, a colon in a path becomes a slash: `srv:/a:b` is `srv:/a/b`.
pub fn expand<'a, 'm>(text: &'a [u8], key: &[u8], lookup: &Lookup<'_, 'm>, slashify_colons: bool) -> Expanded<'a> {
    let mut out = Vec::new();
    let (mut pieces, mut keys) = (Vec::new(), Vec::new());
    let has_comma = memchr::memchr(b',', key).is_some();
    let (mut copied, mut end, mut cut) = (0, text.len(), None);
    for (range, special) in Specials::new(text, slashify_colons) {
        let is_key = has_comma && special == Special::Key;
        let value = match special {
            Special::Key => escape_key(key),
            Special::Variable(name) => lookup(name).unwrap_or_default(),
            Special::PathColon => Cow::Borrowed(&b"/"[..]),
            Special::Backslash => Cow::Borrowed(&b"\\"[..]),
            Special::Unclosed => {
                end = range.start;
                cut = Some(end);
                break;
            }
        };
        out.extend_from_slice(text.get(copied..range.start).unwrap_or_default());
        pieces.push(Piece { at: out.len(), origin: range.start, verbatim: false });
        out.extend_from_slice(&value);
        if is_key {
            keys.push(out.len() - value.len()..out.len());
        }
        pieces.push(Piece { at: out.len(), origin: range.end, verbatim: true });
        copied = range.end;
    }
    let rest = text.get(copied..end).unwrap_or_default();
    if pieces.is_empty() {
        return Expanded { text: Cow::Borrowed(rest), cut, pieces, keys };
    }
    out.extend_from_slice(rest);
    Expanded { text: Cow::Owned(out), cut, pieces, keys }
}

/// The variables that `text` uses. Most entries use none, so that no user database has to be asked.
pub fn variables(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    variables_at(text).map(|(_, name)| name)
}

/// The variables that `text` uses, with the bytes that stand for them.
pub fn variables_at(text: &[u8]) -> impl Iterator<Item = (Range<usize>, &[u8])> {
    Specials::new(text, false).filter_map(|(part, special)| match special {
        Special::Variable(name) => Some((part, name)),
        _ => None,
    })
}

/// The positions of the colons that become slashes.
pub fn path_colons(text: &[u8]) -> impl Iterator<Item = usize> {
    Specials::new(text, true).filter_map(|(part, special)| (special == Special::PathColon).then_some(part.start))
}

/// Escapes a key: users choose it, and nothing in it may end the word, open a quote or begin a comment.
fn escape_key(key: &[u8]) -> Cow<'_, [u8]> {
    let special = |b: u8| is_blank(b) || matches!(b, b'"' | b'\\' | b'#');
    if !key.iter().any(|&b| special(b)) {
        return Cow::Borrowed(key);
    }
    let mut escaped = Vec::with_capacity(key.len() + 8);
    for &b in key {
        if special(b) {
            escaped.push(b'\\');
        }
        escaped.push(b);
    }
    Cow::Owned(escaped)
}

/// Parts that are not copied as they are.
#[derive(Debug, PartialEq, Eq)]
enum Special<'a> {
    /// `&`
    Key,
    /// `$name` or `${name}`
    Variable(&'a [u8]),
    /// `${` without `}`
    Unclosed,
    /// A colon behind `:/` in the same word
    PathColon,
    /// Two backslashes
    Backslash,
}

/// Finds what is special outside quotes and escapes.
struct Specials<'a> {
    text: &'a [u8],
    pos: usize,
    slashify: bool,
    /// The word so far has a `:/`.
    in_path: bool,
}

impl<'a> Specials<'a> {
    fn new(text: &'a [u8], slashify: bool) -> Self {
        Self { text, pos: 0, slashify, in_path: false }
    }

    /// Returns the variable that begins with the `$` at `at`; none if it is a plain dollar, as in `//srv/c$`.
    fn variable(&self, at: usize) -> Option<(Range<usize>, Special<'a>)> {
        let rest = self.text.get(at + 1..)?;
        if let Some(braced) = rest.strip_prefix(b"{") {
            return Some(match memchr::memchr(b'}', braced) {
                Some(len) => (at..at + len + 3, Special::Variable(braced.get(..len)?)),
                None => (at..self.text.len(), Special::Unclosed),
            });
        }
        let len = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
        (len > 0).then_some((at..at + 1 + len, Special::Variable(rest.get(..len)?)))
    }
}

impl<'a> Iterator for Specials<'a> {
    type Item = (Range<usize>, Special<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(&byte) = self.text.get(self.pos) {
            let at = self.pos;
            self.pos += 1;
            match byte {
                b'\\' => {
                    self.pos += 1;
                    if self.text.get(at + 1) == Some(&b'\\') {
                        return Some((at..at + 2, Special::Backslash));
                    }
                }
                b'"' => {
                    let rest = self.text.get(self.pos..).unwrap_or_default();
                    self.pos += memchr::memchr(b'"', rest).map_or(rest.len(), |len| len + 1);
                }
                b'&' => return Some((at..at + 1, Special::Key)),
                b'$' => {
                    if let Some((range, special)) = self.variable(at) {
                        self.pos = range.end;
                        return Some((range, special));
                    }
                }
                b':' if self.in_path => return Some((at..at + 1, Special::PathColon)),
                b':' => self.in_path = self.slashify && self.text.get(self.pos) == Some(&b'/'),
                _ if is_blank(byte) => self.in_path = false,
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lookup(name: &[u8]) -> Option<Cow<'static, [u8]>> {
        match name {
            b"FOO" => Some(Cow::Borrowed(b"bar")),
            b"HOME" => Some(Cow::Borrowed(b"/nonexistent")),
            b"UID" => Some(Cow::Borrowed(b"65534")),
            b"GID" => Some(Cow::Borrowed(b"65533")),
            _ => None,
        }
    }

    fn expanded(text: &str, key: &str) -> String {
        String::from_utf8_lossy(&expand(text.as_bytes(), key.as_bytes(), &lookup, true).text).into_owned()
    }

    #[test]
    fn table() {
        for (text, key, want) in [
            ("-ro srv1:/home/&", "joe", "-ro srv1:/home/joe"),
            ("srv1:/x&", "/mnt/d1", "srv1:/x/mnt/d1"),
            ("srv1:/x/&", "a&b", "srv1:/x/a&b"),
            ("srv1:/x/&", "a b#\"", "srv1:/x/a\\ b\\#\\\""),
            ("srv1:/x/\\&", "k", "srv1:/x/\\&"),
            ("srv1:/x/$FOO/${FOO}y", "k", "srv1:/x/bar/bary"),
            ("srv1:/x$NOPE/y${NOPE2}z", "k", "srv1:/x/yz"),
            ("srv1:/${HOME}end", "k", "srv1://nonexistentend"),
            ("-uid=$UID,gid=${GID} srv1:/x", "k", "-uid=65534,gid=65533 srv1:/x"),
            ("srv1:/x$", "k", "srv1:/x$"),
            ("://srv/c$ -x", "k", "://srv/c$ -x"),
            ("srv1:/\\$FOO", "k", "srv1:/\\$FOO"),
            ("srv1:\"/$FOO/&\"", "k", "srv1:\"/$FOO/&\""),
            ("srv1:/x/${FOO", "k", "srv1:/x/"),
            ("srv1:/x:y:z", "k", "srv1:/x/y/z"),
            ("/a srv1:/x:y /b h:/z", "k", "/a srv1:/x/y /b h:/z"),
            ("[fd00::99]:/x", "k", "[fd00::99]:/x"),
            (":sshfs\\#joe@srv1\\:/home:x", "k", ":sshfs\\#joe@srv1\\:/home:x"),
            (r"srv1:/x\\:y", "k", r"srv1:/x\/y"),
            (r"srv1:/x\\&y", "k", r"srv1:/x\ky"),
            (r"srv1:/x\\$FOO/y", "k", r"srv1:/x\bar/y"),
            (r"srv1:/x\\ y", "k", r"srv1:/x\ y"),
            (r#""srv1:/x\\y""#, "k", r#""srv1:/x\\y""#),
            (r"srv1:/x\\\\y", "k", r"srv1:/x\\y"),
        ] {
            assert_eq!(expanded(text, key), want, "{text}");
        }
        assert_eq!(expand(b"srv1:/x:y", b"k", &lookup, false).text.as_ref(), b"srv1:/x:y");
    }

    #[test]
    fn nothing_is_copied_without_need() {
        assert!(matches!(expand(b"-ro srv1:/x", b"k", &lookup, true).text, Cow::Borrowed(_)));
        assert!(matches!(expand(b"-ro srv1:/x/${", b"k", &lookup, true).text, Cow::Borrowed(_)));
    }

    #[test]
    fn columns_lead_back_to_the_map() {
        let e = expand(b"-a=$FOO /& srv", b"key", &lookup, true);
        assert_eq!(e.text.as_ref(), b"-a=bar /key srv");
        assert_eq!([0, 2, 3, 5, 6, 8, 9, 12].map(|o| e.origin(o)), [0, 2, 3, 3, 7, 9, 9, 11]);
    }

    #[test]
    fn variables_are_named() {
        let names: Vec<_> = variables(b"$A \"$B\" \\$C ${D} $").collect();
        assert_eq!(names, [b"A", b"D"]);
    }

    proptest! {
        #[test]
        fn never_panics(text in proptest::collection::vec(any::<u8>(), 0..60), key in proptest::collection::vec(any::<u8>(), 0..9)) {
            let e = expand(&text, &key, &lookup, true);
            for offset in 0..=e.text.len() {
                prop_assert!(e.origin(offset) <= text.len());
            }
        }

        #[test]
        fn identity_without_macros(text in proptest::collection::vec(any::<u8>().prop_filter("macro", |b| !b"&$\\".contains(b)), 0..60)) {
            prop_assert_eq!(expand(&text, b"k", &lookup, false), Expanded::from(&text[..]));
        }

        #[test]
        fn a_key_stays_one_word(key in proptest::collection::vec(any::<u8>(), 1..20)) {
            let e = expand(b"&", &key, &lookup, true);
            let words: Vec<_> = super::super::words::words(&e.text).collect();
            prop_assert_eq!(words.len(), 1);
            prop_assert_eq!(super::super::words::dequote(words[0].raw).unwrap().into_owned(), key);
        }
    }
}
