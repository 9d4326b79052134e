//! One walk over a map and all that it includes.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::text::{Diagnostic, Severity};

/// What a load has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Keys or entries may be others than before.
    pub changed: bool,
    /// What is wrong; each once, when it is new.
    pub diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// Puts what is wrong into the log.
    pub fn log(&self) {
        for diagnostic in &self.diagnostics {
            match diagnostic.severity {
                Severity::Error => log::error!("{diagnostic}"),
                Severity::Warning => log::warn!("{diagnostic}"),
            }
        }
    }
}

/// State of a load: each file is read once, so that maps that include each other cost no more than their number.
#[derive(Default)]
pub(super) struct Pass {
    /// What is to be told.
    pub(super) report: Report,
    /// The files that include each other, outermost first.
    trail: Vec<Arc<Path>>,
    /// All files so far.
    visited: HashSet<Arc<Path>>,
}

impl Pass {
    /// Goes into the includes of `path`.
    pub(super) fn enter(&mut self, path: &Arc<Path>) {
        self.visited.insert(Arc::clone(path));
        self.trail.push(Arc::clone(path));
    }

    /// Comes back from them.
    pub(super) fn leave(&mut self) {
        self.trail.pop();
    }

    /// How many files include each other here.
    pub(super) fn depth(&self) -> usize {
        self.trail.len()
    }

    /// The file with the include.
    pub(super) fn parent(&self) -> Option<&Path> {
        self.trail.last().map(AsRef::as_ref)
    }

    /// Whether `path` is among those that include each other here.
    pub(super) fn is_inside(&self, path: &Path) -> bool {
        self.trail.iter().any(|p| p.as_ref() == path)
    }

    /// Whether `path` was read in this pass.
    pub(super) fn has_visited(&self, path: &Path) -> bool {
        self.visited.contains(path)
    }
}

/// Keys of several maps, the first one of each.
#[derive(Default)]
pub(super) struct Keys {
    list: Vec<Vec<u8>>,
    seen: HashSet<Vec<u8>>,
}

impl Keys {
    /// Adds the keys of one file, which are different from each other.
    pub(super) fn add(&mut self, key: Vec<u8>) {
        if self.seen.insert(key.clone()) {
            self.list.push(key);
        }
    }

    /// The keys in order.
    pub(super) fn into_vec(self) -> Vec<Vec<u8>> {
        self.list
    }
}
