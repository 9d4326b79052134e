//! The configurations and maps of the model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use autofs::engine::{Key, Kind, Wanted};
use autofs::map::{MasterOptions, SourceSpec};
use autofs::plan::{Action, Plan, Submount};

/// The keys that are looked up: a plain mount, two multi-mounts, a submount, and one below an offset. Some have timeouts of their own,
/// and one requires another.
pub(crate) const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

pub(crate) fn wanted(path: impl Into<PathBuf>, kind: Kind, timeout: u64) -> Wanted {
    Wanted { path: path.into().into(), kind, map: 0, timeout, negative_timeout: 3 }
}

/// A configuration: which mounts there are, and how.
pub(crate) fn configuration(mask: u8) -> Vec<Wanted> {
    let bit = |bit: u8| mask & (1 << bit) != 0;
    let kind = if bit(0) { Kind::Direct } else { Kind::Indirect };
    let mut all = vec![wanted("/m", kind, if bit(1) { 8 } else { 4 }), wanted("/n", Kind::Indirect, 0)];
    if bit(2) {
        all.push(wanted("/m/deep/er", Kind::Direct, 3));
    }
    if bit(3) {
        all.push(wanted("/n/deep", Kind::Indirect, 20));
    }
    if bit(4) {
        all.remove(0);
    }
    if bit(5) {
        all.reverse();
        all.pop();
    }
    all
}

/// What the maps say of the entry at a path.
pub(crate) fn plan_of(path: &Path, key: &Key) -> Arc<Plan> {
    let plan = |at: PathBuf, action, offsets| {
        Arc::new(Plan { at, action, offsets, strict: false, timeout: None, requires: Vec::new() })
    };
    let mount = || Action::Mount(Vec::new());
    let submount = || {
        let source = SourceSpec { kind: None, format: None, name: Vec::new(), parts: Vec::new(), lists: false };
        Action::Autofs(Box::new(Submount { source, options: MasterOptions::default(), prefix: Vec::new() }))
    };
    let leaf = |name: &str, action| plan(path.join(name), action, vec![]);
    let nested = || plan(path.join("y"), mount(), vec![leaf("y/z", mount())]);
    let too_deep = path.components().count() > 5;
    let (action, offsets) = match &*key.0 {
        _ if too_deep => (mount(), vec![]),
        b"b" | b"" => (mount(), vec![leaf("x", mount()), nested()]),
        b"c" => (Action::Nothing, vec![leaf("x", mount()), nested()]),
        b"d" => (submount(), vec![]),
        b"e" => (mount(), vec![leaf("s", submount()), leaf("t", mount())]),
        _ => (mount(), vec![]),
    };
    let timeout = match &*key.0 {
        b"a" => Some(10),
        b"b" => Some(1),
        b"e" => Some(0),
        _ => None,
    };
    // An entry that stays mounted as long as "a" is, in another mount or in its own.
    let requires = if *key.0 == *b"a" { vec!["/n/b/x".into()] } else { Vec::new() };
    Arc::new(Plan { timeout, requires, ..Arc::unwrap_or_clone(plan(path.to_owned(), action, offsets)) })
}
