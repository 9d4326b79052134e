//! Values of am-utils entries: text with quotes, backslashes and variables.

use crate::map::Lookup;

/// Bytes of an expanded value at most. Options name values before them, so without a limit a short entry could become
/// arbitrarily long.
pub const VALUE_MAX: usize = 16 * 1024;

/// A value as it is written, with its variables.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Value {
    pieces: Vec<Piece>,
    /// Offset of its first byte in the entry.
    pub at: usize,
    /// Offset of the byte after it.
    pub end: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// Repeated slashes in it become one.
    Text(Vec<u8>),
    /// Between single quotes: slashes stay as they are.
    Literal(Vec<u8>),
    /// `${name}`.
    Variable { name: Vec<u8>, part: Part, written: Vec<u8> },
}

/// The part of a variable's value that is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// `${name}`
    Whole,
    /// `${/name}`: the last component of a path.
    Last,
    /// `${name/}`: the path without its last component.
    Directory,
    /// `${.name}`: what follows the first dot.
    Domain,
    /// `${name.}`: what is before the first dot.
    Host,
}

/// A value that is too long when it is expanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// A quote that is never closed, at this byte of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unclosed(pub usize);

impl Value {
    /// A value that stands for itself.
    pub fn plain(text: &[u8]) -> Self {
        Self { pieces: vec![Piece::Literal(text.to_vec())], at: 0, end: 0 }
    }

    /// Reads the value that begins at byte `at` of `text`, up to a byte for which `ends` returns `true` and that is
    /// neither quoted nor escaped.
    ///
    /// # Errors
    /// A quote is never closed.
    pub fn read(text: &[u8], at: usize, ends: impl Fn(u8) -> bool) -> Result<Self, Unclosed> {
        let mut value = Self { pieces: Vec::new(), at, end: at };
        // The quote that is open, and where it was opened.
        let mut open: Option<(u8, usize)> = None;
        let byte = |n: usize| text.get(n).copied();
        while let Some(b) = byte(value.end) {
            let next = value.end + 1;
            match (b, open) {
                (_, None) if ends(b) => break,
                (b'\'' | b'"', None) => open = Some((b, value.end)),
                (_, Some((quote, _))) if b == quote => open = None,
                (b'\\', None) => {
                    if let Some(escaped) = byte(next) {
                        value.push(escaped, false);
                        value.end += 1;
                    }
                }
                (b'\\', Some((b'"', _))) if matches!(byte(next), Some(b'"' | b'\\')) => {
                    value.push(byte(next).unwrap_or(b), false);
                    value.end += 1;
                }
                (b'$', _) if byte(next) == Some(b'{') => match variable(text.get(next + 1..).unwrap_or_default()) {
                    Some((name, part, length)) => {
                        let written = text.get(value.end..next + 2 + length).unwrap_or_default().to_vec();
                        value.end = next + 1 + length;
                        value.pieces.push(Piece::Variable { name: name.to_vec(), part, written });
                    }
                    None => value.push(b, false),
                },
                (_, Some((b'\'', _))) => value.push(b, true),
                _ => value.push(b, false),
            }
            value.end += 1;
        }
        match open {
            Some((_, at)) => Err(Unclosed(at)),
            None => Ok(value),
        }
    }

    fn push(&mut self, b: u8, literal: bool) {
        match (self.pieces.last_mut(), literal) {
            (Some(Piece::Text(text)), false) | (Some(Piece::Literal(text)), true) => text.push(b),
            (_, false) => self.pieces.push(Piece::Text(vec![b])),
            (_, true) => self.pieces.push(Piece::Literal(vec![b])),
        }
    }

    /// Returns whether it is written without any text: `fs:=`.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Returns the names of the variables in it.
    pub fn variables(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Variable { name, .. } => Some(&**name),
            _ => None,
        })
    }

    /// Replaces the variables. One without a value stays as it is written. With `slashes`, repeated slashes of the text
    /// become one, except at its start; values of variables stay as they are.
    ///
    /// # Errors
    /// The result would be longer than [`VALUE_MAX`].
    pub fn expand(&self, lookup: &Lookup<'_, '_>, slashes: bool) -> Result<Vec<u8>, TooLong> {
        let mut out = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text),
                Piece::Text(text) if slashes => {
                    let keeps_first = out.is_empty();
                    for (n, &b) in text.iter().enumerate() {
                        let doubled = b == b'/' && n.checked_sub(1).and_then(|n| text.get(n)) == Some(&b'/');
                        if !doubled || (keeps_first && n == 1) {
                            out.push(b);
                        }
                    }
                }
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Variable { name, part, written } => match lookup(name) {
                    Some(value) => out.extend_from_slice(part.of(&value)),
                    None => out.extend_from_slice(written),
                },
            }
            if out.len() > VALUE_MAX {
                return Err(TooLong);
            }
        }
        Ok(out)
    }
}

impl Part {
    fn of(self, value: &[u8]) -> &[u8] {
        let all = || value;
        let (slash, dot) = (memchr::memrchr(b'/', value), memchr::memchr(b'.', value));
        let selected = match self {
            Self::Whole => Some(value),
            Self::Last => slash.map_or_else(|| Some(value), |at| value.get(at + 1..)),
            Self::Directory => value.get(..slash.unwrap_or(0)),
            Self::Domain => value.get(dot.map_or(value.len(), |at| at + 1)..),
            Self::Host => dot.map_or_else(|| Some(value), |at| value.get(..at)),
        };
        selected.unwrap_or_else(all)
    }
}

/// Reads `name}` with a slash or a dot before or after the name. Returns the name, the part, and the length up to the
/// closing brace.
fn variable(text: &[u8]) -> Option<(&[u8], Part, usize)> {
    let length = memchr::memchr(b'}', text)?;
    let (name, part) = match text.get(..length)? {
        [b'/', name @ ..] => (name, Part::Last),
        [b'.', name @ ..] => (name, Part::Domain),
        [name @ .., b'/'] => (name, Part::Directory),
        [name @ .., b'.'] => (name, Part::Host),
        name => (name, Part::Whole),
    };
    let is_name = !name.is_empty() && name.iter().all(|&b| b.is_ascii_alphanumeric() || b == b'_');
    is_name.then_some((name, part, length))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn expand(text: &str) -> String {
        let ends = |b| matches!(b, b' ' | b';');
        let value = Value::read(text.as_bytes(), 0, ends).unwrap();
        let lookup = |name: &[u8]| match name {
            b"path" => Some(Cow::Borrowed(&b"/mnt/vl/k"[..])),
            b"host" => Some(Cow::Borrowed(&b"a.example.org"[..])),
            b"key" => Some(Cow::Borrowed(&b"k"[..])),
            _ => None,
        };
        String::from_utf8(value.expand(&lookup, true).unwrap()).unwrap()
    }

    #[test]
    fn variables_and_their_parts() {
        for (text, want) in [
            ("/${key}/x", "/k/x"),
            ("/${/path}/x${path/}", "/k/x/mnt/vl"),
            ("${.host} ", "example.org"),
            ("${host.}", "a"),
            ("${/key}${key/}${.key}${key.}", "kk"),
            ("${os}-$key-${}-${key", "${os}-$key-${}-${key"),
            ("/${path}//x///y", "//mnt/vl/k/x/y"),
            ("//server//share", "//server/share"),
            ("/a'//b'//c", "/a//b/c"),
            ("\"a b;${key}\"c;d", "a b;kc"),
            ("\"a\\\"b\\c\"", "a\"b\\c"),
            ("a\\ b\\;\\${key}", "a b;${key}"),
        ] {
            assert_eq!(expand(text), want, "{text}");
        }
    }

    #[test]
    fn quotes_are_closed() {
        for (text, at) in [("\"a", 0), ("ab'c", 2), ("a\"b'", 1)] {
            assert_eq!(Value::read(text.as_bytes(), 0, |_| false), Err(Unclosed(at)), "{text}");
        }
    }

    #[test]
    fn a_value_has_an_end() {
        let text = b"${a}".repeat(100);
        let long = vec![b'x'; VALUE_MAX / 50];
        let value = Value::read(&text, 0, |_| false).unwrap();
        assert_eq!(value.expand(&|_| Some(Cow::Borrowed(&long)), true), Err(TooLong));
    }
}
