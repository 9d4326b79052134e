//! Finds top-level mounts by path.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;

use hashbrown::HashTable;

use super::mount::Top;
use crate::engine::MountId;

/// The mounts, indexed by path. The paths are stored only in the mounts: with ten thousand direct mounts, a map with its own paths
/// takes five times as much memory.
#[derive(Debug, Default)]
pub(in crate::engine) struct Paths {
    ids: HashTable<MountId>,
    hasher: RandomState,
}

/// The mounts whose paths are indexed.
type Tops = BTreeMap<MountId, Box<Top>>;

impl Paths {
    /// The mount at a path.
    pub(in crate::engine) fn get(&self, tops: &Tops, path: &Path) -> Option<MountId> {
        self.ids.find(self.hasher.hash_one(path), |id| is_at(tops, *id, path)).copied()
    }

    /// Puts a mount of `tops` in, in place of one that has the same path.
    pub(in crate::engine) fn insert(&mut self, tops: &Tops, id: MountId) {
        let Some(top) = tops.get(&id) else { return };
        let (path, hasher) = (&*top.wanted.path, &self.hasher);
        let hash = |id: &MountId| tops.get(id).map_or(0, |top| hasher.hash_one(&*top.wanted.path));
        self.ids.entry(hash(&id), |other| is_at(tops, *other, path), hash).insert(id);
    }

    /// Takes a mount of `tops` out.
    pub(in crate::engine) fn remove(&mut self, tops: &Tops, id: MountId) {
        let Some(top) = tops.get(&id) else { return };
        if let Ok(found) = self.ids.find_entry(self.hasher.hash_one(&*top.wanted.path), |other| *other == id) {
            found.remove();
        }
    }
}

fn is_at(tops: &Tops, id: MountId, path: &Path) -> bool {
    tops.get(&id).is_some_and(|top| *top.wanted.path == *path)
}
