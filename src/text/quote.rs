//! Resolves quotes and backslashes of the map language.

use std::borrow::Cow;

/// Removes quotes and backslashes: double quotes are dropped, and outside of them `\c` becomes `c`. Between quotes, a backslash is
/// an ordinary character.
pub fn unquote(raw: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'\\', b'"', raw).is_none() {
        return Cow::Borrowed(raw);
    }
    let mut text = Vec::with_capacity(raw.len());
    let mut quoted = false;
    let mut bytes = raw.iter().copied();
    while let Some(b) = bytes.next() {
        match b {
            b'"' => quoted = !quoted,
            b'\\' if !quoted => text.extend(bytes.next()),
            _ => text.push(b),
        }
    }
    Cow::Owned(text)
}

/// Returns the length of the word at the start of `text`. The word ends at the first byte that is neither quoted nor escaped and
/// for which `ends` returns `true`.
pub fn word(text: &[u8], ends: impl Fn(u8) -> bool) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    let end = text.iter().position(|&b| {
        if escaped {
            escaped = false;
        } else if b == b'"' {
            quoted = !quoted;
        } else if b == b'\\' && !quoted {
            escaped = true;
        } else {
            return !quoted && ends(b);
        }
        false
    });
    end.unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_goes_and_text_stays() {
        let cases: &[(&[u8], &[u8])] = &[
            (b"plain", b"plain"),
            (b"a\\ b", b"a b"),
            (b"\"a b\"c", b"a bc"),
            (b"\"a\\b\"", b"a\\b"),
            (b"a\\\\b\\\"", b"a\\b\""),
            (b"a\\", b"a"),
            (b"\"\"", b""),
        ];
        for (raw, expected) in cases {
            assert_eq!(unquote(raw).as_ref(), *expected, "{}", crate::text::Escaped(raw));
        }
    }

    #[test]
    fn a_word_ends_where_nothing_protects_the_blank() {
        let cases: &[(&[u8], usize)] = &[
            (b"ab cd", 2),
            (b"a\\ b c", 4),
            (b"\"a b\" c", 5),
            (b"\"a\\\" c", 4),
            (b"a", 1),
            (b"a\\", 2),
            (b"\"a b", 4),
        ];
        for (text, expected) in cases {
            assert_eq!(word(text, |b| b == b' '), *expected, "{}", crate::text::Escaped(text));
        }
    }
}
