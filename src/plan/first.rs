//! The places of an entry with `||`: the first that exists is mounted.

use super::{Action, FsMount, Leads};

/// Returns a place that is mounted by `action`. With `link`, a directory of this machine becomes a symbolic link.
pub(super) fn place(action: Action, link: bool) -> Leads {
    let is_bind = |mount: &&FsMount| mount.fstype == b"bind";
    let target = match &action {
        Action::Mount(mounts) if link => mounts.first().filter(is_bind).map(|mount| mount.source.clone()),
        Action::Symlink(text) => Some(text.clone()),
        _ => None,
    };
    let ways = match &target {
        Some(text) => vec![Action::Symlink(text.clone())],
        None => vec![action],
    };
    Leads { external: None, exists: target, ways, decides: true }
}
