//! Several maps that are used as one.

use std::sync::Arc;

use super::{Entries, Freshness, MapSource, Stale};

/// Returns the entries of all maps that are in memory together, or `None` if none is.
pub(super) fn known_entries<'a>(maps: impl Iterator<Item = &'a Arc<dyn MapSource>>) -> Option<Arc<Entries>> {
    let mut all: Option<Entries> = None;
    for entries in maps.filter_map(|map| map.known_entries()) {
        all.get_or_insert_default().add(entries);
    }
    all.map(Arc::new)
}

/// Returns whether any of the maps may have changed.
pub(super) fn freshness<'a>(maps: impl Iterator<Item = &'a Arc<dyn MapSource>>) -> Freshness {
    maps.fold(Freshness::Unchanged, |all, map| all.and(map.freshness()))
}

/// Returns the first of the maps that is stale.
pub(super) fn stale<'a>(mut maps: impl Iterator<Item = &'a Arc<dyn MapSource>>) -> Option<Stale> {
    maps.find_map(|map| map.stale())
}
