//! What a reload asks about all autofs mounts, kept up to date, so that it does not walk over thousands of them: which are
//! indirect, whether one cannot be reached, and which ones to look at to find out that all can be reached.

use std::collections::{BTreeSet, HashSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::engine::{Kind, MountId};

/// Number of new mounts that are looked at whether their directories are known or not.
const ADDED: usize = 64;

/// Indexes of the autofs mounts.
#[derive(Debug, Default)]
pub(super) struct Ways {
    indirect: BTreeSet<MountId>,
    /// Number of mounts that cannot be reached at their mount points.
    troubled: usize,
    /// Top-level mounts, at least one in each directory. `None`: they must be selected again.
    selected: Option<BTreeSet<MountId>>,
    /// Number of new mounts among them.
    added: usize,
}

impl Ways {
    /// Adds a mount.
    pub(super) fn insert(&mut self, id: MountId, kind: Kind) {
        if kind == Kind::Indirect {
            self.indirect.insert(id);
        } else {
            self.indirect.remove(&id);
        }
        if !id.is_top() {
            return;
        }
        self.added += 1;
        match &mut self.selected {
            Some(selected) if self.added <= ADDED => drop(selected.insert(id)),
            _ => self.selected = None,
        }
    }

    /// Removes a mount; `troubled`: it could not be reached.
    pub(super) fn remove(&mut self, id: MountId, troubled: bool) {
        self.indirect.remove(&id);
        self.change_trouble(troubled, false);
        // Others in its directory may not be selected.
        if self.selected.as_ref().is_some_and(|selected| selected.contains(&id)) {
            self.selected = None;
        }
    }

    /// Counts a mount that could be reached, or not, and now can be, or not.
    pub(super) fn change_trouble(&mut self, was: bool, is: bool) {
        self.troubled = (self.troubled + usize::from(is)).saturating_sub(usize::from(was));
    }

    /// Returns whether a mount cannot be reached at its mount point.
    pub(super) fn has_trouble(&self) -> bool {
        self.troubled > 0
    }

    /// Returns the indirect mounts.
    pub(super) fn indirect(&self) -> impl Iterator<Item = MountId> + '_ {
        self.indirect.iter().copied()
    }

    /// Returns top-level mounts, at least one in each directory that has some. `all` returns all mounts.
    pub(super) fn one_in_each_directory<'a, I>(&mut self, all: impl FnOnce() -> I) -> &BTreeSet<MountId>
    where
        I: Iterator<Item = (MountId, &'a Path)>,
    {
        self.selected.get_or_insert_with(|| {
            self.added = 0;
            select(all())
        })
    }
}

fn select<'a>(all: impl Iterator<Item = (MountId, &'a Path)>) -> BTreeSet<MountId> {
    let (mut directories, mut last) = (HashSet::new(), &[][..]);
    all.filter_map(|(id, path)| {
        // The bytes up to the last slash: Path::parent() takes several times as long.
        let path = path.as_os_str().as_bytes();
        let directory = path.get(..memchr::memrchr(b'/', path)?).filter(|_| id.is_top())?;
        // Thousands of direct mounts often share one directory.
        let is_new = directory != last && directories.insert(directory);
        last = directory;
        is_new.then_some(id)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::testing::Parts;

    /// Returns the directories of the mounts that are looked at.
    fn directories(parts: &Parts) -> Vec<String> {
        let looked_at = parts.mounts.one_in_each_directory();
        let mut all: Vec<_> = looked_at.iter().map(|(path, _)| path.parent().unwrap().display().to_string()).collect();
        all.sort();
        all
    }

    #[tokio::test]
    async fn one_mount_in_each_directory_is_looked_at_whatever_comes_and_goes() {
        let parts = Parts::new();
        let pipe = parts.mounts.create_pipe().unwrap();
        let add = |n: u32, directory: &str| {
            parts.insert(MountId::TOP | n, &format!("{directory}/k{n}"), Kind::Direct, 100 + n, pipe);
        };
        (0..100).for_each(|n| add(n, "/a"));
        (100..200).for_each(|n| add(n, "/b"));
        assert_eq!(directories(&parts), ["/a", "/b"]);
        // A few new ones are looked at without a new selection.
        add(200, "/c");
        add(201, "/c");
        assert_eq!(directories(&parts), ["/a", "/b", "/c", "/c"]);
        (202..300).for_each(|n| add(n, "/d"));
        assert_eq!(directories(&parts), ["/a", "/b", "/c", "/d"]);
        // Another one takes the place of the one that goes, as long as there is one.
        for n in 0..99 {
            parts.mounts.remove(MountId(MountId::TOP | n)).unwrap();
            assert_eq!(directories(&parts), ["/a", "/b", "/c", "/d"]);
        }
        parts.mounts.remove(MountId(MountId::TOP | 99)).unwrap();
        assert_eq!(directories(&parts), ["/b", "/c", "/d"]);
    }

    #[tokio::test]
    async fn indirect_mounts_and_those_in_trouble_are_known() {
        let parts = Parts::new();
        let pipe = parts.indirect(1, "/a", 70);
        parts.insert(2, "/d/k", Kind::Direct, 71, pipe);
        let indirect = || parts.mounts.filter_map_indirect(|id, _| Some(id));
        assert_eq!(indirect(), [MountId(1)]);
        parts.mounts.change(MountId(2), |mount| mount.trouble = Some("covered".into()));
        parts.mounts.change(MountId(2), |mount| mount.trouble = Some("moved".into()));
        assert!(parts.mounts.has_trouble());
        parts.mounts.change(MountId(2), |mount| mount.trouble = None);
        assert!(!parts.mounts.has_trouble());
        parts.mounts.change(MountId(1), |mount| mount.trouble = Some("covered".into()));
        parts.mounts.remove(MountId(1)).unwrap();
        assert!(!parts.mounts.has_trouble() && indirect().is_empty());
    }
}
