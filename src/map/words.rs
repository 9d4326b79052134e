//! The words of a Sun entry: parted by blanks unless backslashes or double quotes protect them.

use std::borrow::Cow;

use crate::text::quote;

/// A word of an entry, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word<'a> {
    /// Offset of its first byte in the text.
    pub at: usize,
    /// With its quotes and backslashes; never empty.
    pub raw: &'a [u8],
}

/// Tells whether a byte separates words: space and tab, and the bytes that terminals and DOS leave in files.
pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | 0x08)
}

/// The words of `text` up to a word that begins with `#`, which begins a comment.
pub(crate) fn words(text: &[u8]) -> impl Iterator<Item = Word<'_>> {
    let mut pos = 0;
    std::iter::from_fn(move || {
        let rest = text.get(pos..)?;
        let at = pos + rest.iter().position(|&b| !is_blank(b))?;
        let rest = text.get(at..)?;
        if rest.starts_with(b"#") {
            pos = text.len();
            return None;
        }
        let raw = rest.get(..quote::word(rest, is_blank))?;
        pos = at + raw.len();
        Some(Word { at, raw })
    })
}

/// A double quote without its partner, at this position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unbalanced(pub usize);

/// Removes the quotes of a word. Text between two `"` is kept as it is; elsewhere, a backslash quotes the byte after it.
pub(crate) fn dequote(raw: &[u8]) -> Result<Cow<'_, [u8]>, Unbalanced> {
    // What is open at the end was opened by the last quote that is not escaped.
    let (mut open, mut escaped) = (None, false);
    for (at, &b) in raw.iter().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'"' => open = if open.is_some() { None } else { Some(at) },
            b'\\' => escaped = open.is_none(),
            _ => {}
        }
    }
    match open {
        Some(at) => Err(Unbalanced(at)),
        None => Ok(quote::unquote(raw)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(text: &str) -> Vec<String> {
        words(text.as_bytes()).map(|w| String::from_utf8_lossy(w.raw).into_owned()).collect()
    }

    #[test]
    fn blanks_part_words_unless_protected() {
        assert_eq!(split(" a\tb\r"), ["a", "b"]);
        assert_eq!(split(r#"srv:"/with space/x" y\ z"#), [r#"srv:"/with space/x""#, r"y\ z"]);
        assert_eq!(split(r#""a\" b"#), [r#""a\""#, "b"], "a backslash is nothing special inside quotes");
    }

    #[test]
    fn a_comment_begins_with_a_word() {
        assert_eq!(split("srv:/x # trailing"), ["srv:/x"]);
        assert_eq!(split("srv:/x#y"), ["srv:/x#y"]);
        assert_eq!(split(r"\#x"), [r"\#x"]);
    }

    #[test]
    fn quotes_go() {
        assert_eq!(dequote(br#"srv:"/a b\"/c\ d"#).unwrap().as_ref(), br"srv:/a b\/c d");
        assert_eq!(dequote(br"sshfs\#joe@srv\:/home").unwrap().as_ref(), b"sshfs#joe@srv:/home");
        assert_eq!(dequote(br#"srv:"/x"#), Err(Unbalanced(4)));
    }

    proptest! {
        #[test]
        fn every_byte_is_in_a_word_or_blank(text in "[a\\\\ \t\"b]{0,30}") {
            let text = text.as_bytes();
            let mut pos = 0;
            for word in words(text) {
                prop_assert!(text[pos..word.at].iter().all(|&b| is_blank(b)));
                prop_assert!(!word.raw.is_empty());
                pos = word.at + word.raw.len();
            }
            prop_assert!(text[pos..].iter().all(|&b| is_blank(b)));
        }

        #[test]
        fn dequoting_never_panics(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            for word in words(&text) {
                let _ = dequote(word.raw);
            }
        }
    }
}
