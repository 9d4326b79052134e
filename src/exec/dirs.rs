//! Directories for mounts: made where they are missing, never by way of somebody else's symbolic link, never on another
//! machine's file system, and removed again if they were ours and are empty.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::sys::path::{self, Magic, Stat};
use crate::text::Escaped;

/// Why there is no directory.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// A symbolic link on the way that belongs to a user.
    #[error("{} is a symbolic link of user {uid}, which is not followed", Escaped::path(.path))]
    Planted {
        /// The link.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// A directory would have to be made on a remote file system.
    #[error("{} does not exist and lies on a remote file system, where no directory is made", Escaped::path(.0))]
    Remote(PathBuf),
    /// Not a path that could be made: relative, or with too many links.
    #[error("{} is no absolute path without loops", Escaped::path(.0))]
    Path(PathBuf),
    /// A system call failed.
    #[error("cannot make directory {}: {source}", Escaped::path(.path))]
    Io {
        /// Where.
        path: PathBuf,
        /// How.
        source: io::Error,
    },
}

/// The directories that were made for a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made(Dirs);

/// Its path, absolute and free of symbolic links, and its inode number.
type MadeDir = (Arc<Path>, u64);

/// Parents first. There may be thousands of paths for each of which one directory was made, so this takes no memory of
/// its own.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Dirs {
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
    /// Did all of them exist already?
    pub fn is_empty(&self) -> bool {
        matches!(&self.0, Dirs::All(dirs) if dirs.is_empty())
    }

    /// The same, with a path that somebody keeps anyway in place of an equal one: there may be thousands.
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

    /// Removes them again, the deepest first, up to the first that is not empty or no longer the one that was made.
    /// Returns those that are left because something else stands in them. May wait.
    pub fn remove(self) -> Self {
        let mut dirs = match self.0 {
            Dirs::One(dir) => vec![dir],
            Dirs::All(dirs) => dirs.into(),
        };
        while let Some((dir, ino)) = dirs.pop() {
            let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else { break };
            let Ok(parent) = path::open_nofollow(parent) else { break };
            if !path::lstat_at(parent.as_fd(), name.as_ref()).is_ok_and(|found| found.ino == ino) {
                break;
            }
            match path::rmdir_at(parent.as_fd(), name.as_ref()) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {
                    dirs.push((dir, ino));
                    return dirs.into();
                }
                Err(_) => break,
            }
        }
        Self::default()
    }
}

/// As many symbolic links as the kernel follows, path_resolution(7).
const MAX_LINKS: usize = 40;

/// Makes the directory at the absolute path `wanted`, with mode 0755 whatever the umask, and those above it that are
/// missing. Symbolic links are followed if root owns them, as nobody else can have put those there; others are refused.
/// What stands at the end of the path is not touched, so it may be a trigger. May wait.
pub fn make(wanted: &Path) -> Result<Made, DirError> {
    Maker::default().make(wanted)
}

/// Makes many directories in one go: the way to the one before is not walked again. Keep none for long, as it holds a
/// directory open.
#[derive(Debug, Default)]
pub struct Maker {
    last: Option<Parent>,
}

/// The directory that holds the last one that was made.
#[derive(Debug)]
struct Parent {
    /// As it was named.
    named: PathBuf,
    dir: Dir,
}

/// An open directory on the way.
#[derive(Debug)]
struct Dir {
    fd: OwnedFd,
    /// Absolute and free of symbolic links.
    path: PathBuf,
    /// May something be made here? Asked when it is needed.
    local: Cell<bool>,
}

impl Maker {
    /// As [`make`](fn@make).
    pub fn make(&mut self, wanted: &Path) -> Result<Made, DirError> {
        let mut made = Vec::new();
        let result = match self.beside(wanted, &mut made) {
            Some(result) => result,
            None => self.walk(wanted, &mut made),
        };
        match result {
            Ok(()) => Ok(made.into()),
            Err(e) => {
                Made::from(made).remove();
                Err(e)
            }
        }
    }

    /// Makes a directory beside the one before, if that is where it is wanted and no symbolic link stands there.
    fn beside(&self, wanted: &Path, made: &mut Vec<MadeDir>) -> Option<Result<(), DirError>> {
        let parent = self.last.as_ref().filter(|last| wanted.parent() == Some(&last.named))?;
        match parent.dir.enter(Path::new(wanted.file_name()?), made) {
            Ok((_, found)) if found.is_dir() => Some(Ok(())),
            Ok(_) => None,
            Err(e) => Some(Err(e)),
        }
    }

    fn walk(&mut self, wanted: &Path, made: &mut Vec<MadeDir>) -> Result<(), DirError> {
        self.last = None;
        if !wanted.is_absolute() {
            return Err(DirError::Path(wanted.to_owned()));
        }
        let root = Path::new("/");
        let fd = path::open(root).map_err(failed(root))?;
        let mut way = vec![Dir { fd, path: root.to_owned(), local: Cell::new(false) }];
        let mut todo = components(wanted);
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            let Some(dir) = way.last() else { return Ok(()) };
            if name == ".." {
                if way.len() > 1 {
                    way.pop();
                }
                continue;
            }
            let (at, found) = dir.enter(Path::new(&name), made)?;
            if found.is_symlink() {
                links += 1;
                if found.uid != 0 {
                    return Err(DirError::Planted { path: at, uid: found.uid });
                }
                if links > MAX_LINKS {
                    return Err(DirError::Path(wanted.to_owned()));
                }
                let text = path::readlink_at(dir.fd.as_fd(), Path::new(&name)).map_err(failed(&at))?;
                if text.is_absolute() {
                    way.truncate(1);
                }
                for name in components(&text).into_iter().rev() {
                    todo.push_front(name);
                }
            } else if !found.is_dir() {
                return Err(DirError::Io { path: at, source: io::ErrorKind::NotADirectory.into() });
            } else if !todo.is_empty() {
                let fd = path::open_dir_at(dir.fd.as_fd(), Path::new(&name)).map_err(failed(&at))?;
                way.push(Dir { fd, path: at, local: Cell::new(false) });
            }
        }
        // Behind a link the last name may stand in another directory than the one that was named.
        if links == 0 && wanted.file_name().is_some() {
            let named = wanted.parent().map(Path::to_owned);
            self.last = named.zip(way.pop()).map(|(named, dir)| Parent { named, dir });
        }
        Ok(())
    }
}

impl Dir {
    /// What stands at `name`, with its path: a directory is made where nothing does.
    fn enter(&self, name: &Path, made: &mut Vec<MadeDir>) -> Result<(PathBuf, Stat), DirError> {
        let at = self.path.join(name);
        let dir = self.fd.as_fd();
        match path::lstat_at(dir, name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            found => return found.map_err(failed(&at)).map(|found| (at, found)),
        }
        self.check_local(&at)?;
        let ours = match path::mkdir_at(dir, name) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => false,
            done => done.map_err(failed(&at)).map(|()| true)?,
        };
        let found = path::lstat_at(dir, name).map_err(failed(&at))?;
        if ours {
            made.push((at.as_path().into(), found.ino));
            if found.mode & 0o777 != 0o755 {
                path::chmod_dir_at(dir, name, 0o755).map_err(failed(&at))?;
            }
        }
        Ok((at, found))
    }

    /// Fails where nothing may be made.
    fn check_local(&self, at: &Path) -> Result<(), DirError> {
        if !self.local.get() {
            let dir = self.fd.as_fd();
            // A machine may have its root by NFS: then that is where its mount points are.
            let root = path::lstat(Path::new("/")).map_err(failed(at))?;
            if path::fstat(dir).map_err(failed(at))?.dev != root.dev && Magic::of(dir).map_err(failed(at))?.is_remote()
            {
                return Err(DirError::Remote(at.to_owned()));
            }
            self.local.set(true);
        }
        Ok(())
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> DirError {
    let path = path.to_owned();
    move |source| DirError::Io { path, source }
}

fn components(path: &Path) -> VecDeque<OsString> {
    let wanted = |c: &Component<'_>| matches!(c, Component::Normal(_) | Component::ParentDir);
    path.components().filter(wanted).map(|c| c.as_os_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

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
    fn the_way_is_walked_again_where_it_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let mut maker = Maker::default();
        for path in ["a/x", "a/y", "b/x", "b/x/deep", "b/y", "a/x"] {
            maker.make(&at(path)).unwrap();
            assert!(is_dir(&at(path)), "{path}");
        }
        assert!(matches!(maker.make(&at("a/z")).unwrap(), Made(Dirs::One(_))));
        symlink("x/deep", at("b/link")).unwrap();
        assert!(maker.make(&at("b/link")).unwrap().is_empty());
        maker.make(&at("b/link/x")).unwrap();
        maker.make(&at("b/link/y")).unwrap();
        assert!(is_dir(&at("b/x/deep/x")) && is_dir(&at("b/x/deep/y")));
        std::fs::write(at("b/file"), b"").unwrap();
        assert!(maker.make(&at("b/file")).is_err() && maker.make(&at("b/x/../z")).is_ok() && is_dir(&at("b/z")));
    }

    #[test]
    fn only_links_of_root_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        symlink("real", dir.path().join("link")).unwrap();
        let made = make(&dir.path().join("link/sub/deep"));
        if path::lstat(&dir.path().join("link")).unwrap().uid == 0 {
            assert!(is_dir(&dir.path().join("real/sub/deep")) && !made.unwrap().is_empty());
            std::os::unix::fs::lchown(dir.path().join("link"), Some(1), None).unwrap();
            made_nothing(&dir.path().join("link/other"));
        } else {
            assert!(matches!(made, Err(DirError::Planted { .. })));
        }
        assert!(!is_dir(&dir.path().join("real/other")));
    }

    fn made_nothing(path: &Path) {
        assert!(matches!(make(path), Err(DirError::Planted { uid: 1, .. })));
    }

    #[test]
    fn a_failure_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        std::fs::write(dir.path().join("file"), b"").unwrap();
        assert!(make(&dir.path().join("loop/x")).is_err());
        assert!(matches!(make(&dir.path().join("a/../file/x")), Err(DirError::Io { .. })));
        assert!(!is_dir(&dir.path().join("a")));
        assert!(make(Path::new("relative")).is_err());
    }
}
