//! The entries of a map, as they were when it was read last.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use super::Index;
use super::file::index::Wildcard;
use crate::map::sun;

/// Is called with a key and its line.
type Each<'a> = &'a mut dyn FnMut(Cow<'_, [u8]>, Option<(&Index, u32)>);

/// All entries of a map and of what it includes. It never changes, so another thread can walk through it while the map is
/// read again.
#[derive(Debug, Clone, Default)]
pub struct Entries {
    /// In the order of precedence.
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    /// The lines of a file with these offsets.
    Lines { index: Arc<Index>, offsets: Range<u32> },
    /// All entries of another map.
    Map(Arc<Entries>),
    /// Keys alone.
    Keys(Arc<[Box<[u8]>]>),
    /// Names that can be asked for, without entries before that. They are not shown.
    Names(Arc<[Box<[u8]>]>),
}

impl Entries {
    /// Creates entries that have keys only.
    pub fn of_keys(keys: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self { parts: vec![Part::Keys(keys.into_iter().map(Vec::into_boxed_slice).collect())] }
    }

    /// Creates entries that are names only: they can be listed, but are not shown as directories.
    pub fn of_names(names: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self { parts: vec![Part::Names(names.into_iter().map(Vec::into_boxed_slice).collect())] }
    }

    /// Calls `each` with every name that has no entry before it is asked for.
    pub fn for_each_name(&self, each: &mut dyn FnMut(&[u8])) {
        for part in &self.parts {
            match part {
                Part::Names(names) => names.iter().for_each(|name| each(name)),
                Part::Map(map) => map.for_each_name(each),
                Part::Lines { .. } | Part::Keys(_) => {}
            }
        }
    }

    /// Calls `each` with every wildcard that does not serve all keys, and its file.
    pub fn for_each_filter(&self, each: &mut dyn FnMut(&Index, &Wildcard)) {
        for part in &self.parts {
            match part {
                Part::Lines { index, offsets } => {
                    let wildcards = index.wildcards().iter().filter(|wildcard| !wildcard.serves.is_all());
                    wildcards
                        .filter(|wildcard| offsets.contains(&wildcard.offset))
                        .for_each(|wildcard| each(index, wildcard));
                }
                Part::Map(map) => map.for_each_filter(each),
                Part::Keys(_) | Part::Names(_) => {}
            }
        }
    }

    /// The entries of one file.
    pub fn of_file(index: &Arc<Index>) -> Self {
        let mut entries = Self::default();
        entries.add_lines(index, 0..u32::MAX);
        entries
    }

    /// Adds the lines of a file with offsets in `offsets`.
    pub(super) fn add_lines(&mut self, index: &Arc<Index>, offsets: Range<u32>) {
        if !offsets.is_empty() {
            self.parts.push(Part::Lines { index: Arc::clone(index), offsets });
        }
    }

    /// Adds the entries of another map.
    pub(super) fn add(&mut self, entries: Arc<Self>) {
        self.parts.push(Part::Map(entries));
    }

    /// The index of the file, if the map is one file without includes.
    pub fn single(&self) -> Option<&Arc<Index>> {
        match self.parts.as_slice() {
            [Part::Lines { index, .. }] => Some(index),
            [Part::Map(map)] => map.single(),
            _ => None,
        }
    }

    /// Returns whether both are the same content, told without comparing text. `false` may mean that it is not known.
    pub fn is_same(&self, other: &Self) -> bool {
        self.parts.len() == other.parts.len()
            && self.parts.iter().zip(&other.parts).all(|pair| match pair {
                (Part::Lines { index: a, offsets: x }, Part::Lines { index: b, offsets: y }) => {
                    Arc::ptr_eq(a, b) && x == y
                }
                (Part::Map(a), Part::Map(b)) => Arc::ptr_eq(a, b) || a.is_same(b),
                (Part::Keys(a), Part::Keys(b)) | (Part::Names(a), Part::Names(b)) => Arc::ptr_eq(a, b),
                _ => false,
            })
    }

    /// Calls `each` with every key, in the order of the map, each key once. Wildcards are left out.
    pub fn for_each_key(&self, each: &mut dyn FnMut(Cow<'_, [u8]>)) {
        self.for_each(&mut |key, _| each(key));
    }

    /// As [`for_each_key`](Self::for_each_key), without keys that have `-null` as their entry, and without those of places
    /// deeper down, which maps in am-utils format have.
    pub fn for_each_shown_key(&self, each: &mut dyn FnMut(Cow<'_, [u8]>)) {
        self.for_each(&mut |key, line| {
            let raw = line.and_then(|(index, offset)| index.entry(offset));
            if !key.contains(&b'/') && !raw.is_some_and(|raw| sun::is_hidden(&raw.text)) {
                each(key);
            }
        });
    }

    fn for_each(&self, each: Each<'_>) {
        if self.single().is_some() {
            // The keys of one file are different from each other.
            return self.walk(each);
        }
        let mut seen: HashSet<Vec<u8>> = HashSet::new();
        self.walk(&mut |key, line| {
            if !seen.contains(key.as_ref()) {
                seen.insert(key.to_vec());
                each(key, line);
            }
        });
    }

    fn walk(&self, each: Each<'_>) {
        for part in &self.parts {
            match part {
                Part::Lines { index, offsets } => {
                    for offset in index.offsets().into_iter().filter(|offset| offsets.contains(offset)) {
                        if let Some(key) = index.key(offset) {
                            each(key, Some((index, offset)));
                        }
                    }
                }
                Part::Map(map) => map.walk(each),
                Part::Keys(keys) => keys.iter().for_each(|key| each(Cow::Borrowed(key), None)),
                Part::Names(_) => {}
            }
        }
    }

    /// Returns the keys in the order of the map, each once.
    pub fn keys(&self) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        self.for_each_key(&mut |key| keys.push(key.into_owned()));
        keys
    }

    /// Returns whether it holds neither a file nor a key.
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(|part| match part {
            Part::Lines { .. } => false,
            Part::Map(map) => map.is_empty(),
            Part::Keys(keys) | Part::Names(keys) => keys.is_empty(),
        })
    }

    /// Returns whether `key` is among the keys.
    pub fn has_key(&self, key: &[u8]) -> bool {
        self.parts.iter().any(|part| match part {
            Part::Lines { index, offsets } => index.find(key).is_some_and(|offset| offsets.contains(&offset)),
            Part::Map(map) => map.has_key(key),
            Part::Keys(keys) => keys.iter().any(|known| **known == *key),
            Part::Names(_) => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Mode;
    use super::*;
    use std::path::Path;

    fn index(text: &str) -> Arc<Index> {
        Arc::new(Index::build(&Path::new("/m").into(), text.as_bytes().to_vec(), Mode::Indirect).unwrap())
    }

    #[test]
    fn each_key_comes_once_in_the_order_of_the_parts() {
        let (file, other) = (index("a 1\nb 1\nc 1\n"), index("b 2\nd 2\n"));
        let mut included = Entries::default();
        included.add_lines(&other, 0..u32::MAX);
        let mut entries = Entries::default();
        entries.add_lines(&file, 0..4);
        entries.add(Arc::new(included));
        entries.add_lines(&file, 4..u32::MAX);
        entries.add(Arc::new(Entries::of_keys([b"e".to_vec(), b"a".to_vec()])));
        assert_eq!(entries.keys().concat(), b"abdce");
        for key in ["a", "b", "c", "d", "e"] {
            assert!(entries.has_key(key.as_bytes()), "{key}");
        }
        assert!(!entries.has_key(b"f"));
        assert!(entries.is_same(&entries.clone()) && !entries.is_same(&Entries::default()));
        assert!(entries.single().is_none());
    }
}
