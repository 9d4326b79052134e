//! Mount options: lists of words joined by commas, how lists of different origin are joined, and the words among them
//! that are meant for the automounter and not for the mount.

use std::fmt;

use crate::text::Escaped;

/// Option words in the order in which they were given, joined by commas: never an empty word, no comma at either end.
/// At mount(8) the last of conflicting words is used, so words are never sorted or removed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct OptionList(Vec<u8>);

impl OptionList {
    /// Parses words separated by commas. Empty words are dropped.
    pub fn parse(text: &[u8]) -> Self {
        let mut list = Self::default();
        list.push(text);
        list
    }

    /// Appends the words of `text`.
    pub fn push(&mut self, text: &[u8]) {
        for word in text.split(|&b| b == b',').filter(|w| !w.is_empty()) {
            if !self.0.is_empty() {
                self.0.push(b',');
            }
            self.0.extend_from_slice(word);
        }
    }

    /// The words, in order.
    pub fn words(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&b| b == b',').filter(|w| !w.is_empty())
    }

    /// Returns whether `word` is among the words, as a whole.
    pub fn contains(&self, word: &[u8]) -> bool {
        self.words().any(|w| w == word)
    }

    /// As `-o` takes it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// No word at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the general options followed by the special ones. If the special options contain the general ones as a sequence
    /// of whole words, these are not repeated.
    #[must_use]
    pub fn join(general: &Self, special: &Self) -> Self {
        if general.is_part_of(special) {
            return special.clone();
        }
        let mut joined = general.clone();
        joined.push(&special.0);
        joined
    }

    /// The words that `keep` keeps.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(&[u8]) -> bool) -> Self {
        let mut kept = Self(Vec::with_capacity(self.0.len()));
        for word in self.words().filter(|w| keep(w)) {
            kept.push(word);
        }
        kept
    }

    /// Returns whether the mount is read-only: what the last of `ro` and `rw` says.
    pub fn read_only(&self) -> bool {
        self.words().filter(|w| matches!(*w, b"ro" | b"rw")).last() == Some(b"ro")
    }

    fn is_part_of(&self, other: &Self) -> bool {
        let (mine, others): (Vec<_>, Vec<_>) = (self.words().collect(), other.words().collect());
        mine.is_empty() || others.windows(mine.len()).any(|w| w == mine)
    }
}

impl fmt::Display for OptionList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(&self.0).fmt(f)
    }
}

/// An option word that tells the automounter something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pseudo<'a> {
    /// `fstype=`: the type of the file system, `nfs` without one.
    Fstype(&'a [u8]),
    /// `strict`, `nonstrict`: whether a part of a multi-mount that fails takes the whole with it.
    Strict(bool),
    /// `use-weight-only`, `no-use-weight-only`: how servers are compared.
    Weight,
    /// `bg`, `nofg`: ignored, because a process waits for every automount.
    Background,
    /// `browse`, `nobrowse` (or `browsable`, `nobrowsable`).
    Browse(bool),
    /// `timeout=`: seconds until an unused entry or submount is unmounted.
    Timeout(&'a [u8]),
    /// `requires=`: a path that is mounted first.
    Requires(&'a [u8]),
    /// `mount-timeout=`: seconds that one mount may take.
    MountTimeout(&'a [u8]),
    /// `nobind`, and its old name `nosymlink`: a local NFS location is not bind-mounted.
    NoBind,
    /// `symlink`: a symbolic link instead of a bind mount.
    Symlink,
}

impl<'a> Pseudo<'a> {
    /// What `word` tells, if it is such a word. Which ones are then kept from the mount depends on its type.
    pub fn of(word: &'a [u8]) -> Option<Self> {
        Some(match word {
            b"strict" => Self::Strict(true),
            b"nonstrict" => Self::Strict(false),
            b"use-weight-only" | b"no-use-weight-only" => Self::Weight,
            b"bg" | b"nofg" => Self::Background,
            b"browse" | b"browsable" => Self::Browse(true),
            b"nobrowse" | b"nobrowsable" => Self::Browse(false),
            b"nobind" | b"nosymlink" => Self::NoBind,
            b"symlink" => Self::Symlink,
            _ => {
                if let Some(fstype) = word.strip_prefix(b"fstype=") {
                    Self::Fstype(fstype)
                } else if let Some(path) = word.strip_prefix(b"requires=") {
                    Self::Requires(path)
                } else if let Some(seconds) = word.strip_prefix(b"mount-timeout=") {
                    Self::MountTimeout(seconds)
                } else {
                    Self::Timeout(word.strip_prefix(b"timeout=")?)
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn join(general: &str, special: &str) -> String {
        OptionList::join(&OptionList::parse(general.as_bytes()), &OptionList::parse(special.as_bytes())).to_string()
    }

    #[test]
    fn general_options_come_first_and_nothing_is_struck_out() {
        assert_eq!(join("soft,timeo=7", "ro"), "soft,timeo=7,ro");
        assert_eq!(join("ro,rw,ro", "rw"), "ro,rw,ro,rw");
    }

    #[test]
    fn only_whole_words_count_as_a_repetition() {
        assert_eq!(join("ro", "proto=tcp"), "ro,proto=tcp");
        assert_eq!(join("ro,soft", "hard,ro,soft,intr"), "hard,ro,soft,intr");
    }

    #[test]
    fn stray_commas_go() {
        assert_eq!(OptionList::parse(b",ro,,soft,").as_bytes(), b"ro,soft");
        assert_eq!(join(",", ","), "");
    }

    #[test]
    fn the_last_of_ro_and_rw_counts() {
        assert!(OptionList::parse(b"rw,ro").read_only());
        assert!(!OptionList::parse(b"ro,rw").read_only());
        assert!(!OptionList::parse(b"proto=tcp").read_only());
    }

    #[test]
    fn pseudo_options_are_whole_words() {
        assert_eq!(Pseudo::of(b"fstype=ext4"), Some(Pseudo::Fstype(b"ext4")));
        for word in [&b"bgx"[..], b"browser=1", b"strictx", b"timeouts=1", b"timeout"] {
            assert_eq!(Pseudo::of(word), None);
        }
    }

    fn list() -> impl Strategy<Value = OptionList> {
        "(ro|rw|soft|a=1|,){0,9}".prop_map(|s| OptionList::parse(s.replace("r", ",r").replace("s", ",s").as_bytes()))
    }

    proptest! {
        #[test]
        fn parsing_is_idempotent(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            let list = OptionList::parse(&text);
            prop_assert_eq!(&OptionList::parse(list.as_bytes()), &list);
            prop_assert!(!list.as_bytes().starts_with(b",") && !list.as_bytes().ends_with(b","));
        }

        #[test]
        fn joining_has_a_neutral_element_and_repeats_nothing(a in list(), b in list()) {
            let none = OptionList::default();
            prop_assert_eq!(&OptionList::join(&none, &a), &a);
            prop_assert_eq!(&OptionList::join(&a, &none), &a);
            prop_assert_eq!(&OptionList::join(&a, &a), &a);
            let joined = OptionList::join(&a, &b);
            prop_assert_eq!(&OptionList::join(&a, &joined), &joined);
            prop_assert!(joined.as_bytes().ends_with(b.as_bytes()));
        }
    }
}
