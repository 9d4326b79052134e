//! Files that only root can change or replace: maps and programs, if `writable_maps = "refuse"` in autofs.toml.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::SourceError;
use crate::sys::path::{self, Magic, Stat};

/// As many symbolic links as the kernel follows, path_resolution(7).
const MAX_LINKS: usize = 40;

/// Write permission of the group and of all.
const OTHERS_WRITE: u32 = 0o022;

/// Mode bit of a directory in which only the owner of an entry can replace it.
const STICKY: u32 = 0o1000;

/// Fails if others than root can change the file at `path`, or put another one in its place: by the file, by a directory on
/// the way, or by a symbolic link there. Blocks. A file that does not exist is no failure.
///
/// # Errors
/// [`SourceError::Writable`].
pub(super) fn check(path: &Arc<Path>) -> Result<(), SourceError> {
    match find(path) {
        Ok(None) => Ok(()),
        Ok(Some((offender, stat))) => {
            Err(SourceError::Writable { path: Arc::clone(path), why: reason(&offender, &stat).into() })
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
        Err(error) => Err(SourceError::Read { path: Arc::clone(path), error }),
    }
}

/// Returns whether a file belongs to root and no other user can write to it.
pub(super) fn is_of_root(stat: &Stat) -> bool {
    stat.uid == 0 && stat.mode & OTHERS_WRITE == 0
}

/// Says what others can write to, who can, and how to end that.
fn reason(offender: &Path, stat: &Stat) -> String {
    let shown = crate::text::Escaped::path(offender);
    let why = match (stat.uid, stat.mode & OTHERS_WRITE) {
        (0, 0o020) => format!("its group can write to it: chmod g-w {shown}"),
        (0, 0) => "it is on the file system of a server or user: move it".to_owned(),
        (0, _) => format!("others can write to it: chmod go-w {shown}"),
        (uid, _) => format!("it belongs to user {uid}: chown root {shown}"),
    };
    format!("{shown}: {why}")
}

/// Walks to `path` as the kernel does. Returns the first thing on the way that is not only root's.
fn find(path: &Path) -> io::Result<Option<(PathBuf, Stat)>> {
    let (mut at, mut dir) = (PathBuf::from("/"), path::open(Path::new("/"))?);
    let root = path::fstat(dir.as_fd())?;
    let mut names = components(path);
    let mut links = 0;
    loop {
        let stat = path::fstat(dir.as_fd())?;
        if !is_guarded(&dir, &stat, &root)? {
            return Ok(Some((at, stat)));
        }
        let Some(name) = names.pop_front() else { return Ok(None) };
        if name == ".." {
            at.pop();
            dir = path::open(&at)?;
            continue;
        }
        let next = at.join(&name);
        let found = path::lstat_at(dir.as_fd(), Path::new(&name))?;
        if found.is_symlink() {
            links += 1;
            if links > MAX_LINKS {
                return Err(io::Error::other("too many symbolic links"));
            }
            // In a directory with the sticky bit, a user can replace what is his.
            if found.uid != 0 {
                return Ok(Some((next, found)));
            }
            let to = path::readlink_at(dir.as_fd(), Path::new(&name))?;
            if to.is_absolute() {
                (at, dir) = (PathBuf::from("/"), path::open(Path::new("/"))?);
            }
            let mut way = components(&to);
            way.append(&mut names);
            names = way;
            continue;
        }
        if names.is_empty() && !found.is_dir() {
            return Ok((!is_of_root(&found)).then_some((next, found)));
        }
        (dir, at) = (path::open_dir_at(dir.as_fd(), Path::new(&name))?, next);
    }
}

/// Returns whether only root can replace an entry of root's in a directory.
fn is_guarded(dir: &OwnedFd, stat: &Stat, root: &Stat) -> io::Result<bool> {
    let magic = Magic::of(dir)?;
    if magic.is_autofs() {
        return Ok(true);
    }
    let others_write = stat.mode & OTHERS_WRITE != 0 && stat.mode & STICKY == 0;
    Ok(stat.uid == 0 && !others_write && (!magic.is_foreign() || stat.dev == root.dev))
}

fn components(path: &Path) -> VecDeque<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn said(path: &Path) -> String {
        check(&path.into()).map_or_else(|error| error.to_string(), |()| "good".to_owned())
    }

    /// Without root, the first directory that belongs to the user is the one.
    #[test]
    fn what_others_can_write_to_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        let map = top.join("map");
        fs::write(&map, "").unwrap();
        fs::set_permissions(&map, Permissions::from_mode(0o644)).unwrap();
        if path::stat(&map).unwrap().uid != 0 {
            assert!(said(&map).contains("it belongs to user"), "{}", said(&map));
            return;
        }
        assert_eq!(said(&map), "good");
        assert_eq!(said(&top.join("none")), "good");
        let below = top.join("below");
        fs::create_dir(&below).unwrap();
        let link = below.join("link");
        symlink("../map", &link).unwrap();
        assert_eq!(said(&link), "good");
        fs::set_permissions(&below, Permissions::from_mode(0o775)).unwrap();
        let why = format!("its group can write to it: chmod g-w {}", below.display());
        assert!(said(&link).contains(&why), "{}", said(&link));
        fs::set_permissions(&below, Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(said(&link), "good");
        std::os::unix::fs::lchown(&link, Some(1000), None).unwrap();
        assert!(said(&link).contains("it belongs to user 1000"), "{}", said(&link));
        fs::set_permissions(&map, Permissions::from_mode(0o666)).unwrap();
        assert!(said(&map).contains("others can write to it"), "{}", said(&map));
        let error = check(&map.as_path().into()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{} is not used, as others than root can change it:", map.display())));
    }
}
