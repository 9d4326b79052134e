//! Patterns for keys.

use serde::Deserialize;

/// A pattern for a key: `*` stands for any characters, `?` for one byte.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(Box<[u8]>);

impl TryFrom<String> for Pattern {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        match text.as_bytes() {
            [] => Err("an empty pattern, expected a key, or a pattern as in \".Trash-*\""),
            text if text.contains(&b'/') || text.iter().any(u8::is_ascii_control) => {
                Err("a pattern that no key has, expected the name of a directory without \"/\", as in \".Trash-*\"")
            }
            text => Ok(Self(text.into())),
        }
    }
}

impl Pattern {
    /// Returns the pattern as it is written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns whether all of `key` matches the pattern.
    pub fn matches(&self, key: &[u8]) -> bool {
        matches(&self.0, key)
    }
}

/// Compares from the left. At a difference, the last star before it takes one more byte; so no star before that one has to be
/// tried again, and the time is bounded by the product of the lengths.
fn matches(pattern: &[u8], key: &[u8]) -> bool {
    let (mut at, mut in_key) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(&byte) = key.get(in_key) {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, in_key));
                at += 1;
            }
            Some(&wanted) if wanted == b'?' || wanted == byte => (at, in_key) = (at + 1, in_key + 1),
            _ => {
                let Some((last, taken)) = star else { return false };
                star = Some((last, taken + 1));
                (at, in_key) = (last + 1, taken + 1);
            }
        }
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|&b| b == b'*'))
}

/// Names that desktops and file managers look for in every directory, and no directory of a user has.
const DESKTOP_PROBES: [&str; 12] = [
    ".hidden",
    ".directory",
    ".Trash",
    ".Trash-*",
    ".xdg-volume-info",
    ".autorun",
    "autorun",
    "autorun.inf",
    "autorun.sh",
    ".DS_Store",
    "._*",
    "desktop.ini",
];

/// Returns whether `key` is a name that desktops and file managers look for in every directory.
pub fn is_desktop_probe(key: &[u8]) -> bool {
    DESKTOP_PROBES.iter().any(|probe| matches(probe.as_bytes(), key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stars_and_question_marks_stand_for_others() {
        for (pattern, key, expected) in [
            (".hidden", ".hidden", true),
            (".hidden", ".hidden2", false),
            (".Trash*", ".Trash-1000", true),
            (".Trash*", "x.Trash", false),
            ("*", "", true),
            ("?", "", false),
            ("a?c", "abc", true),
            ("*.bak", "x.bak.bak", true),
            ("*a*b", "aab", true),
            ("*a*b", "aba", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), key.as_bytes()), expected, "{pattern} {key}");
        }
        assert!(is_desktop_probe(b".Trash-1000") && is_desktop_probe(b"._x") && !is_desktop_probe(b"alice"));
        assert!(Pattern::try_from("a/b".to_owned()).is_err() && Pattern::try_from(String::new()).is_err());
    }

    #[test]
    fn many_stars_take_no_time() {
        assert!(!matches(&b"*a".repeat(100), &b"a".repeat(255).iter().chain(b"b").copied().collect::<Vec<_>>()));
    }

    proptest! {
        #[test]
        fn it_matches_as_defined(pattern in "[ab*?]{0,6}", key in "[ab]{0,6}") {
            fn slow(pattern: &[u8], key: &[u8]) -> bool {
                match (pattern.split_first(), key.split_first()) {
                    (None, _) => key.is_empty(),
                    (Some((b'*', rest)), _) => (0..=key.len()).any(|n| slow(rest, &key[n..])),
                    (Some((&p, rest)), Some((&k, more))) => (p == b'?' || p == k) && slow(rest, more),
                    (Some(_), None) => false,
                }
            }
            prop_assert_eq!(matches(pattern.as_bytes(), key.as_bytes()), slow(pattern.as_bytes(), key.as_bytes()));
        }
    }
}
