//! The directories that were made for a mount point, to be removed with it.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use crate::sys::path;

/// The directories that were made for a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made(pub(super) Dirs);

/// A directory: its path, absolute and without symbolic links, and its inode number.
pub(super) type MadeDir = (Arc<Path>, u64);

/// Directories, parents before children. In the common case, one directory, nothing is allocated for the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Dirs {
    One(MadeDir),
    All(Box<[MadeDir]>),
}

impl Default for Made {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl From<Vec<MadeDir>> for Made {
    fn from(dirs: Vec<MadeDir>) -> Self {
        match <[MadeDir; 1]>::try_from(dirs) {
            Ok([one]) => Self(Dirs::One(one)),
            Err(all) => Self(Dirs::All(all.into())),
        }
    }
}

impl Made {
    /// Returns whether no directory was made, as all existed.
    pub fn is_empty(&self) -> bool {
        matches!(&self.0, Dirs::All(dirs) if dirs.is_empty())
    }

    /// Returns the directories with their inode numbers, parents before children.
    pub fn dirs(&self) -> impl Iterator<Item = (&Path, u64)> {
        let dirs = match &self.0 {
            Dirs::One(dir) => std::slice::from_ref(dir),
            Dirs::All(dirs) => dirs,
        };
        dirs.iter().map(|(path, ino)| (&**path, *ino))
    }

    /// Adds directories that were made for the same path later, and may have replaced some of these.
    pub fn with(&self, later: &Self) -> Self {
        let replaced = |path: &Path| later.dirs().any(|(new, _)| new == path);
        let kept = self.dirs().filter(|(path, _)| !replaced(path));
        let mut dirs: Vec<MadeDir> = kept.chain(later.dirs()).map(|(path, ino)| (path.into(), ino)).collect();
        dirs.sort_by_key(|(path, _)| path.components().count());
        dirs.into()
    }

    /// Reuses the caller's `path` if the last directory has an equal one: with thousands of mounts that saves memory.
    pub fn sharing(mut self, path: &Arc<Path>) -> Self {
        let last = match &mut self.0 {
            Dirs::One(dir) => Some(dir),
            Dirs::All(dirs) => dirs.last_mut(),
        };
        if let Some((last, _)) = last.filter(|(last, _)| last == path) {
            *last = Arc::clone(path);
        }
        self
    }

    /// Removes the directories, deepest first, until one is not empty or was replaced. Returns those that have to stay because they
    /// are not empty, or something is mounted there. Follows no symbolic link. May wait.
    pub fn remove(self) -> Self {
        self.remove_by(None)
    }

    /// As [`remove`](Self::remove), with a directory that is open already and its path.
    pub fn remove_by(self, open: Option<(&Path, BorrowedFd<'_>)>) -> Self {
        let mut dirs = match self.0 {
            Dirs::One(dir) => vec![dir],
            Dirs::All(dirs) => dirs.into(),
        };
        while let Some((dir, ino)) = dirs.pop() {
            let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else { break };
            let opened;
            let parent = match open.filter(|(path, _)| *path == parent) {
                Some((_, open)) => open,
                None => {
                    let Ok(other) = path::open_exact(parent) else { break };
                    opened = other;
                    opened.as_fd()
                }
            };
            if !path::lstat_at(parent, name.as_ref()).is_ok_and(|found| found.ino == ino) {
                break;
            }
            match path::rmdir_at(parent, name.as_ref()) {
                Ok(()) => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::ResourceBusy) => {
                    dirs.push((dir, ino));
                    return dirs.into();
                }
                Err(_) => break,
            }
        }
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::super::dirs::make;
    use super::*;

    fn is_dir(path: &Path) -> bool {
        path::lstat(path).is_ok_and(|s| s.is_dir())
    }

    #[test]
    fn what_was_made_goes_again_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("there");
        std::fs::create_dir(&there).unwrap();
        let made = make(&there.join("a/b/../b//c")).unwrap();
        assert!(is_dir(&there.join("a/b/c")) && !made.is_empty());
        assert_eq!(std::fs::File::open(there.join("a")).unwrap().metadata().unwrap().mode() & 0o7777, 0o755);
        assert!(make(&there.join("a/b/c")).unwrap().is_empty());
        made.remove();
        assert!(is_dir(&there) && !is_dir(&there.join("a")));
    }

    #[test]
    fn what_is_in_use_or_replaced_stays() {
        let dir = tempfile::tempdir().unwrap();
        let made = make(&dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/file"), b"").unwrap();
        made.clone().remove();
        assert!(is_dir(&dir.path().join("a")) && !is_dir(&dir.path().join("a/b")));
        let made = make(&dir.path().join("x")).unwrap();
        std::fs::rename(dir.path().join("x"), dir.path().join("y")).unwrap();
        std::fs::create_dir(dir.path().join("x")).unwrap();
        made.remove();
        assert!(is_dir(&dir.path().join("x")));
    }

    #[test]
    fn nothing_is_removed_by_way_of_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (own, other) = (dir.path().join("own"), dir.path().join("other"));
        let made = make(&own.join("x")).unwrap();
        std::fs::rename(&own, &other).unwrap();
        std::os::unix::fs::symlink("other", &own).unwrap();
        made.remove();
        assert!(is_dir(&other.join("x")));
    }
}
