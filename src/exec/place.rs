//! The place of an entry: where something is mounted, and what stands there.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Failure;
use crate::engine::{Key, Kind, Requester};
use crate::fault;
use crate::sys::mount::Target;
use crate::sys::path;

/// An entry of one of our autofs mounts.
#[derive(Debug, Clone)]
pub struct Place {
    /// Kind of the autofs mount.
    pub kind: Kind,
    /// Mount point of the autofs mount; for direct and offset mounts the place itself.
    pub root: PathBuf,
    /// Device number (`st_dev`) of the autofs mount, by which it is told from what is mounted on it.
    pub dev: u64,
    /// The entry; empty for direct and offset mounts.
    pub key: Key,
    /// Whose access it was: a source on another automount is triggered in his name.
    pub who: Requester,
    /// Target of log lines: the mount point of the master map.
    pub label: Arc<str>,
}

impl Place {
    /// The absolute path.
    pub fn path(&self) -> PathBuf {
        match self.kind {
            Kind::Indirect => self.root.join(self.name()),
            Kind::Direct | Kind::Offset => self.root.clone(),
        }
    }

    /// Is something mounted here, or linked? Directories in the entry's own count: they carry the triggers of a
    /// multi-mount without a root. May wait.
    pub fn is_mounted(self: &Arc<Self>) -> bool {
        let Ok(opened) = Opened::new(self) else { return false };
        let Some(opened) = opened else { return true };
        match opened.site().look() {
            Ok(Stands::Mount | Stands::Link) => true,
            Ok(Stands::Directory) if self.kind == Kind::Indirect => {
                let dir = path::open_dir_at(opened.root.as_fd(), self.name());
                dir.and_then(|dir| path::names(dir.as_fd())).is_ok_and(|names| !names.is_empty())
            }
            _ => false,
        }
    }

    fn name(&self) -> &Path {
        match self.kind {
            Kind::Indirect => Path::new(OsStr::from_bytes(&self.key.0)),
            Kind::Direct | Kind::Offset => Path::new(""),
        }
    }

    /// The kernel never asks for such names, but whoever else may call.
    fn has_good_name(&self) -> bool {
        let key = &*self.key.0;
        self.kind != Kind::Indirect || !matches!(key, b"" | b"." | b"..") && !key.contains(&b'/')
    }

    /// The place as seen from a descriptor of the autofs mount's root. `None`: the key is no file name.
    pub(super) fn site<'a>(&'a self, root: BorrowedFd<'a>, path: &'a Path) -> Option<Site<'a>> {
        let target = Target { dir: root, name: self.name(), path };
        self.has_good_name().then_some(Site { target, dev: self.dev })
    }
}

/// What stands at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stands {
    /// Not even a directory.
    Nothing,
    /// The bare directory or, for direct and offset mounts, the bare trigger.
    Directory,
    /// A symbolic link, made in place of a mount.
    Link,
    /// Something is mounted.
    Mount,
}

/// A place with the directory that holds it opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Site<'a> {
    pub(super) target: Target<'a>,
    dev: u64,
}

impl Site<'_> {
    fn name(&self) -> Option<&Path> {
        (!self.target.name.as_os_str().is_empty()).then_some(self.target.name)
    }

    /// What stands there now. Waits for nothing but the way to a direct or offset mount.
    pub(super) fn look(&self) -> io::Result<Stands> {
        let found = match self.name() {
            Some(name) => path::lstat_at(self.target.dir, name),
            None => path::lstat(self.target.path),
        };
        match found {
            Ok(found) if found.dev != self.dev => Ok(Stands::Mount),
            Ok(found) if found.is_symlink() => Ok(Stands::Link),
            Ok(_) => Ok(Stands::Directory),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Stands::Nothing),
            Err(e) => Err(e),
        }
    }

    /// Makes the directory. False: nothing had to be made. Whoever wants a mount there looks first.
    pub(super) fn make(&self) -> io::Result<bool> {
        let Some(name) = self.name() else { return Ok(false) };
        match path::mkdir_at(self.target.dir, name) {
            Ok(()) => {
                fault::point("made");
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Removes a symbolic link or an empty directory.
    pub(super) fn remove(&self, what: Stands) -> io::Result<()> {
        match (self.name(), what) {
            (Some(name), Stands::Link) => path::unlink_at(self.target.dir, name),
            (Some(name), Stands::Directory) => path::rmdir_at(self.target.dir, name),
            _ => Ok(()),
        }
    }

    /// Puts a symbolic link in place of the directory. If that fails, the directory is there again.
    pub(super) fn link(&self, text: &[u8]) -> io::Result<()> {
        let Some(name) = self.name() else { return Err(io::ErrorKind::Unsupported.into()) };
        let before = self.look()?;
        if before == Stands::Link && path::readlink_at(self.target.dir, name)?.as_os_str().as_bytes() == text {
            return Ok(());
        }
        self.remove(before)?;
        path::symlink_at(text, self.target.dir, name).inspect_err(|_| {
            if before == Stands::Directory {
                let _ = self.make();
            }
        })
    }
}

/// A place that stays open over the steps of a mount.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) place: Arc<Place>,
    pub(super) path: PathBuf,
    root: OwnedFd,
}

impl Opened {
    /// Opens the root of the autofs mount. For direct and offset mounts that already have something on them, `None`.
    /// May wait.
    pub(super) fn new(place: &Arc<Place>) -> Result<Option<Self>, Failure> {
        let path = place.path();
        if !place.has_good_name() {
            return Err(Failure::Key(path));
        }
        let failed = |source| Failure::Place { path: path.clone(), source };
        let root = path::open_nofollow(&place.root).map_err(failed)?;
        if path::fstat(root.as_fd()).map_err(failed)?.dev != place.dev {
            return match place.kind {
                Kind::Indirect => Err(Failure::Covered(place.root.clone())),
                Kind::Direct | Kind::Offset => Ok(None),
            };
        }
        Ok(Some(Self { place: Arc::clone(place), path, root }))
    }

    pub(super) fn site(&self) -> Site<'_> {
        let target = Target { dir: self.root.as_fd(), name: self.place.name(), path: &self.path };
        Site { target, dev: self.place.dev }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(root: &Path, key: &[u8]) -> Place {
        let dev = path::lstat(root).unwrap().dev;
        let (who, label) = (Requester::default(), "/t".into());
        Place { kind: Kind::Indirect, root: root.to_owned(), dev, key: key.into(), who, label }
    }

    #[test]
    fn a_key_is_one_file_name() {
        let dir = tempfile::tempdir().unwrap();
        for key in [&b""[..], b".", b"..", b"a/b", b"/etc"] {
            assert!(matches!(Opened::new(&Arc::new(place(dir.path(), key))), Err(Failure::Key(_))));
        }
        assert_eq!(place(Path::new("/"), b"a b").path(), Path::new("/a b"));
    }

    #[test]
    fn a_link_takes_the_place_of_a_directory_and_back() {
        let dir = tempfile::tempdir().unwrap();
        let opened = Opened::new(&Arc::new(place(dir.path(), b"k"))).unwrap().unwrap();
        let site = opened.site();
        assert_eq!(site.look().unwrap(), Stands::Nothing);
        assert!(site.make().unwrap() && !site.make().unwrap());
        assert_eq!(site.look().unwrap(), Stands::Directory);
        for text in ["/one", "/one", "/two"] {
            site.link(text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_link(dir.path().join("k")).unwrap(), Path::new(text));
        }
        assert_eq!(site.look().unwrap(), Stands::Link);
        site.remove(Stands::Link).unwrap();
        site.make().unwrap();
        assert!(site.link(b"").is_err());
        assert_eq!(site.look().unwrap(), Stands::Directory);
    }

    #[test]
    fn another_device_is_a_mount() {
        let mut proc = place(Path::new("/"), b"proc");
        proc.dev = path::lstat(Path::new("/")).unwrap().dev;
        assert_eq!(Opened::new(&Arc::new(proc)).unwrap().unwrap().site().look().unwrap(), Stands::Mount);
    }
}
