//! The entries of one autofs mount, by key.

use hashbrown::HashMap;

use super::entry::Entry;
use crate::engine::Key;

/// The entries of one autofs mount. A hash map, because one request looks its entry up about twenty times. Iteration is sorted, so
/// that the same events have the same effects in the same order.
///
/// Without entries it takes no memory of its own: most direct mounts are never used. Each entry is allocated by itself, as up to half
/// of a hash map is empty.
#[derive(Debug, Default)]
#[allow(clippy::box_collection, reason = "an empty map takes 48 bytes, and thousands of mounts have no entries")]
pub(super) struct Entries(Option<Box<HashMap<Key, Box<Entry>>>>);

impl Entries {
    pub(super) fn get(&self, key: &Key) -> Option<&Entry> {
        self.0.as_ref()?.get(key).map(|entry| &**entry)
    }

    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Entry> {
        self.0.as_mut()?.get_mut(key).map(|entry| &mut **entry)
    }

    /// Makes an entry, if there is none.
    pub(super) fn make(&mut self, key: &Key) {
        let entries = self.0.get_or_insert_default();
        if !entries.contains_key(key) {
            entries.insert(key.clone(), Box::default());
        }
    }

    pub(super) fn remove(&mut self, key: &Key) {
        if let Some(entries) = &mut self.0 {
            entries.remove(key);
            if entries.is_empty() {
                self.0 = None;
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The entries in the order of their keys.
    pub(super) fn sorted(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        let mut entries: Vec<_> = self.unordered().collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        entries.into_iter()
    }

    /// The entries in an order that is another one each time, for questions that do not depend on it.
    pub(super) fn unordered(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.0.iter().flat_map(|entries| entries.iter()).map(|(key, entry)| (key, &**entry))
    }

    /// The same, to change them.
    pub(super) fn unordered_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.0.iter_mut().flat_map(|entries| entries.values_mut()).map(|entry| &mut **entry)
    }

    /// Takes the entries apart, in the order of their keys.
    pub(super) fn into_sorted(self) -> impl Iterator<Item = (Key, Entry)> {
        let mut entries: Vec<(Key, Box<Entry>)> =
            self.0.map(|entries| entries.into_iter().collect()).unwrap_or_default();
        entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        entries.into_iter().map(|(key, entry)| (key, *entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_walked_through_in_the_order_of_their_keys() {
        let mut entries = Entries::default();
        let key = |name: &str| Key::from(name.as_bytes());
        for name in ["c", "a", "", "b", "a", "ab"] {
            entries.make(&key(name));
        }
        let names = |entries: &Entries| entries.sorted().map(|(key, _)| key.clone()).collect::<Vec<_>>();
        assert_eq!(names(&entries), ["", "a", "ab", "b", "c"].map(key));
        entries.remove(&key("ab"));
        entries.remove(&key("none"));
        assert!(entries.get(&key("ab")).is_none() && entries.get_mut(&key("b")).is_some());
        assert_eq!((entries.unordered().count(), entries.unordered_mut().count()), (4, 4));
        assert_eq!(entries.into_sorted().map(|(key, _)| key).collect::<Vec<_>>(), ["", "a", "b", "c"].map(key));
        let mut one = Entries::default();
        one.make(&key("k"));
        assert!(!one.is_empty());
        one.remove(&key("k"));
        assert!(one.is_empty());
    }
}
