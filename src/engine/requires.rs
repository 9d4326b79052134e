//! Entries that stay mounted because a mounted entry requires them.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Engine, Entry, EntryId};
use crate::plan::Plan;
use crate::record::Record;
use crate::text::Escaped;

impl Engine {
    /// Notes what a mounted entry requires.
    pub(super) fn note_requires(&mut self, at: &EntryId, plan: Option<&Arc<Plan>>) {
        match plan.filter(|plan| !plan.requires.is_empty()) {
            Some(plan) => drop(self.dependents.insert(at.clone(), Arc::clone(plan))),
            None => drop(self.dependents.remove(at)),
        }
    }

    /// Returns whether a mounted entry requires a path at or below an entry, and notes that as the reason why it stays mounted.
    pub(super) fn is_required(&mut self, at: &EntryId) -> bool {
        let Some(dependent) = self.dependent(at) else { return false };
        if self.tree.entry(at).is_some_and(Entry::occupied) {
            let reason = Record::new(format!("required by {}", Escaped::path(&dependent))).into();
            self.update(at, |entry| entry.trouble = Some(reason));
        }
        true
    }

    /// Returns a mounted entry that requires a path at or below an entry.
    fn dependent(&mut self, at: &EntryId) -> Option<PathBuf> {
        if self.dependents.is_empty() {
            return None;
        }
        let path = self.tree.mount(at.mount)?.path_of(&at.key);
        let tree = &self.tree;
        self.dependents.retain(|at, _| tree.entry(at).is_some_and(Entry::occupied));
        // Mounts below the entry are unmounted with it.
        let mut outside = self.dependents.values().filter(|plan| !plan.at.starts_with(&path));
        let requiring = outside.find(|plan| plan.requires.iter().any(|required| required.starts_with(&path)))?;
        Some(requiring.at.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Done;
    use super::super::testing::TestEngine;
    use crate::plan::Plan;

    #[test]
    fn a_required_entry_stays_as_long_as_what_requires_it() {
        let mut stage = TestEngine::new(&["/home", "/keys"]);
        let plan = super::super::testing::plan("/home/joe", &[]);
        let plan = Arc::new(Plan { requires: vec!["/keys/a/file".into()], ..Arc::unwrap_or_clone(plan) });
        stage.missing("/home/joe", 99);
        stage.resolved("/home/joe", super::super::Resolution::Found(plan));
        stage.performed("/home/joe", Ok(Done::default()));
        stage.mount("/keys/a", Done::default());
        stage.mount("/keys/b", Done::default());
        stage.said();
        stage.expire("/keys/a", 1);
        assert_eq!(stage.said(), ["fail 1 EBUSY"]);
        stage.expire("/keys/b", 2);
        assert_eq!(stage.said(), ["unmount /keys/b"]);
        stage.expire("/home/joe", 3);
        stage.unmounted("/home/joe", 1);
        stage.said();
        stage.expire("/keys/a", 4);
        assert_eq!(stage.said(), ["unmount /keys/a"]);
    }
}
