//! The key of a file map as the kernel will ask for it.

use std::borrow::Cow;

use crate::text::unquote;

/// Why a key cannot name a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A control character, at this byte of the raw key.
    #[error("control character in the key")]
    Control(usize),
    /// The key is empty.
    #[error("empty key")]
    Empty,
}

/// The key behind its spelling `raw`: quotes and backslashes resolved, repeated slashes made one, no slash at the end.
pub fn unescape(raw: &[u8]) -> Result<Cow<'_, [u8]>, KeyError> {
    let is_control = |b: &u8| b.is_ascii_control();
    if let Some(at) = raw.iter().position(is_control) {
        return Err(KeyError::Control(at));
    }
    let slashes = raw.windows(2).any(|w| w == b"//") || (raw.len() > 1 && raw.ends_with(b"/"));
    let key = if !slashes && memchr::memchr2(b'\\', b'"', raw).is_none() { Cow::Borrowed(raw) } else { resolve(raw) };
    if key.is_empty() { Err(KeyError::Empty) } else { Ok(key) }
}

fn resolve(raw: &[u8]) -> Cow<'_, [u8]> {
    let mut key = unquote(raw).into_owned();
    key.dedup_by(|b, a| (*a, *b) == (b'/', b'/'));
    if key.len() > 1 && key.ends_with(b"/") {
        key.pop();
    }
    Cow::Owned(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lose_their_spelling() {
        let cases: &[(&[u8], &[u8])] = &[
            (b"plain", b"plain"),
            (b"*", b"*"),
            (b"a\\ b", b"a b"),
            (b"\"a b\"c", b"a bc"),
            (b"\"a\\b\"", b"a\\b"),
            (b"a\\\\b", b"a\\b"),
            (b"a\\\"b", b"a\"b"),
            (b"//mnt///d1//", b"/mnt/d1"),
            (b"/", b"/"),
            (b"//", b"/"),
            (b"/mnt/\\/x", b"/mnt/x"),
            (b"gr\xf6\xdfe", b"gr\xf6\xdfe"),
        ];
        for (raw, expected) in cases {
            assert_eq!(unescape(raw).as_deref(), Ok(*expected), "{}", crate::text::Escaped(raw));
        }
        assert_eq!(unescape(b"a\rb"), Err(KeyError::Control(1)));
        assert_eq!(unescape(b"a\x7f"), Err(KeyError::Control(1)));
        assert_eq!(unescape(b"\"\""), Err(KeyError::Empty));
        assert_eq!(unescape(b"\\"), Err(KeyError::Empty));
    }

    #[test]
    fn a_plain_key_borrows() {
        assert!(matches!(unescape(b"/mnt/d1"), Ok(Cow::Borrowed(_))));
    }
}
