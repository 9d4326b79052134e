//! Mount points: found by a walk from the root, component by component, with the directories that are missing.
//!
//! The result is an open directory and one name in it, so later renames by users have no effect. A
//! symbolic link is followed by hand, and only if nobody but root can have put it there: root owns it, and on the whole
//! way to it only root can write. Directories are not made on the file systems of other machines.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

pub use super::made::Made;
use super::made::MadeDir;
use crate::sys::mount::Target;
use crate::sys::path::{self, Magic, Stat};
use crate::text::Escaped;

/// Why a mount point cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// A symbolic link of a user is on the way.
    #[error("{} is a symbolic link of user {uid}, which is not followed", Escaped::path(.path))]
    Planted {
        /// The link.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// A symbolic link is on the way that others than root can have put there.
    #[error(
        "{} is a symbolic link, which is not followed, as others than root can write to the directories on the way to it",
        Escaped::path(.0)
    )]
    Unguarded(PathBuf),
    /// A symbolic link is on the way below a mounted file system.
    #[error("{} is a symbolic link on a mounted file system, which is not followed", Escaped::path(.0))]
    OnMedium(PathBuf),
    /// A directory on the way is refused by the setting `user_parents`.
    #[error(
        "others than root (user {uid}) can write to {}, and user_parents = \"refuse\" in autofs.toml refuses mount points \
         below such directories",
        Escaped::path(.path)
    )]
    UserParent {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// A directory would have to be made on a remote file system.
    #[error("{} does not exist and lies on a remote file system, where no directory is made", Escaped::path(.0))]
    Remote(PathBuf),
    /// The path is relative, names no directory, or has too many links.
    #[error("{} is not an absolute path, or has a loop of symbolic links", Escaped::path(.0))]
    Path(PathBuf),
    /// A system call failed.
    #[error("cannot make directory {}: {source}", Escaped::path(.path))]
    Io {
        /// The directory.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

/// The symbolic links that the walk follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Links {
    /// Those that only root can have made.
    #[default]
    OfRoot,
    /// None: below a mounted file system, whose maker or server decides who owns what on it.
    None,
}

/// Rules for a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The symbolic links that are followed.
    pub links: Links,
    /// Whether a mount point may lie below a directory that others than root can write to.
    pub user_parents: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { links: Links::OfRoot, user_parents: true }
    }
}

/// As many symbolic links as the kernel follows, path_resolution(7).
const MAX_LINKS: usize = 40;

/// Makes the directory at the absolute path `wanted`, and those above it that are missing. See [`Maker`].
///
/// # Errors
/// See [`DirError`]. Then no directory is left.
pub fn make(wanted: &Path) -> Result<Made, DirError> {
    Ok(Maker::default().mount_point(wanted)?.made)
}

/// Finds the real path of the absolute path `wanted`: without symbolic links, as the mount table will show it. Makes
/// nothing: from the first component on that does not exist, the path is taken as it is. May wait.
///
/// # Errors
/// See [`DirError`].
pub fn resolve(wanted: &Path) -> Result<PathBuf, DirError> {
    let mut maker = Maker { missing: Missing::Keep, ..Maker::default() };
    maker.walk(wanted, &mut Vec::new()).map(|found| found.path)
}

/// Finds mount points, and makes the directories that are missing with mode 0755. The way to the previous one is not
/// walked again if the next one lies beside it. Do not keep it for long: it holds a directory open.
#[derive(Debug, Default)]
pub struct Maker {
    rules: Rules,
    missing: Missing,
    last: Option<Parent>,
}

/// Treatment of a missing directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Missing {
    #[default]
    Make,
    Keep,
}

/// A mount point: a name in an open directory.
#[derive(Debug)]
pub struct MountPoint<'m> {
    dir: &'m Dir,
    name: PathBuf,
    /// The absolute path, without symbolic links.
    pub path: PathBuf,
    /// The directories that were made for it.
    pub made: Made,
    /// Whether only root can put something else at this name.
    pub guarded: bool,
    /// Whether something is mounted here.
    pub is_mounted: bool,
}

impl MountPoint<'_> {
    /// Returns whether the mount point lies on a file system of another machine.
    ///
    /// # Errors
    /// Those of statfs(2).
    pub fn is_remote(&self) -> io::Result<bool> {
        match self.dir.magic() {
            Ok(magic) => Ok(magic.is_remote()),
            Err(DirError::Io { source, .. }) => Err(source),
            Err(e) => Err(io::Error::other(e)),
        }
    }

    /// Returns the mount point for system calls.
    pub fn target(&self) -> Target<'_> {
        Target { dir: self.dir.fd.as_fd(), name: &self.name, path: &self.path }
    }
}

/// The directory that holds the last mount point.
#[derive(Debug)]
struct Parent {
    /// Its path as the caller wrote it; `None` if a link was on the way.
    named: Option<PathBuf>,
    dir: Dir,
}

/// An open directory on the way.
#[derive(Debug)]
struct Dir {
    fd: OwnedFd,
    /// Absolute and without symbolic links.
    path: PathBuf,
    stat: Stat,
    /// Whether a directory may be made here, once that was asked.
    local: Cell<bool>,
    /// The file system, once it was asked for.
    magic: Cell<Option<Magic>>,
}

/// What a walk has found, without the directory that contains it: that is in [`Maker`], where [`MountPoint`] can borrow it.
struct Found {
    name: PathBuf,
    path: PathBuf,
    guarded: bool,
    is_mounted: bool,
}

impl Maker {
    /// Creates a maker with these rules.
    pub fn new(rules: Rules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// Finds the mount point at the absolute path `wanted`, and makes the directories that are missing. Does not touch
    /// what is mounted there, so it may be a trigger. May wait.
    ///
    /// # Errors
    /// See [`DirError`]. Then no directory is left.
    pub fn mount_point(&mut self, wanted: &Path) -> Result<MountPoint<'_>, DirError> {
        let mut made = Vec::new();
        let found = match self.beside(wanted, &mut made) {
            Some(result) => result,
            None => self.walk(wanted, &mut made),
        };
        match (found, &self.last) {
            (Ok(Found { name, path, guarded, is_mounted }), Some(parent)) => {
                Ok(MountPoint { dir: &parent.dir, name, path, made: made.into(), guarded, is_mounted })
            }
            (result, _) => {
                Made::from(made).remove();
                Err(result.err().unwrap_or_else(|| DirError::Path(wanted.to_owned())))
            }
        }
    }

    /// Finds the mount point in the directory of the previous one, if it lies there and is no symbolic link.
    fn beside(&self, wanted: &Path, made: &mut Vec<MadeDir>) -> Option<Result<Found, DirError>> {
        let parent = self.last.as_ref().filter(|last| wanted.parent() == last.named.as_deref())?;
        let name = Path::new(wanted.file_name()?);
        match parent.dir.find_or_make(name, made) {
            Ok(found) if found.is_dir() => Some(parent.dir.found(name, &found)),
            Ok(_) => None,
            Err(e) => Some(Err(e)),
        }
    }

    fn walk(&mut self, wanted: &Path, made: &mut Vec<MadeDir>) -> Result<Found, DirError> {
        self.last = None;
        if !wanted.is_absolute() {
            return Err(DirError::Path(wanted.to_owned()));
        }
        let root = Path::new("/");
        let mut way = vec![Dir::new(path::open(root).map_err(failed(root))?, root.to_owned())?];
        let mut todo = components(wanted);
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            let Some(dir) = way.last() else { break };
            if name == ".." {
                if way.len() > 1 {
                    way.pop();
                }
                continue;
            }
            let name = Path::new(&name);
            if self.missing == Missing::Keep && dir.is_missing(name) {
                let mut rest = dir.path.join(name);
                for name in &todo {
                    if name == ".." {
                        rest.pop();
                    } else {
                        rest.push(name);
                    }
                }
                return Ok(Found { name: name.to_owned(), path: rest, guarded: false, is_mounted: false });
            }
            let is_last = todo.is_empty();
            let found = if is_last { Entered::At(dir.find_or_make(name, made)?) } else { dir.enter(name, made)? };
            match found {
                Entered::Into(dir) => way.push(dir),
                Entered::At(found) if found.is_symlink() => {
                    let at = dir.path.join(name);
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(DirError::Path(wanted.to_owned()));
                    }
                    self.may_follow(&at, &found, &way)?;
                    let text = path::readlink_at(dir.fd.as_fd(), name).map_err(failed(&at))?;
                    if text.is_absolute() {
                        way.truncate(1);
                    }
                    for name in components(&text).into_iter().rev() {
                        todo.push_front(name);
                    }
                }
                Entered::At(found) if found.is_dir() && is_last => {
                    if !self.rules.user_parents {
                        refuse_users(&way)?;
                    }
                    let end = dir.found(name, &found)?;
                    let named = wanted.parent().filter(|_| links == 0).map(Path::to_owned);
                    self.last = way.pop().map(|dir| Parent { named, dir });
                    return Ok(end);
                }
                Entered::At(_) => {
                    let path = dir.path.join(name);
                    return Err(DirError::Io { path, source: io::ErrorKind::NotADirectory.into() });
                }
            }
        }
        Err(DirError::Path(wanted.to_owned()))
    }

    /// Fails unless only root can have created this link.
    fn may_follow(&self, at: &Path, link: &Stat, way: &[Dir]) -> Result<(), DirError> {
        if self.rules.links == Links::None {
            return Err(DirError::OnMedium(at.to_owned()));
        }
        if link.uid != 0 {
            return Err(DirError::Planted { path: at.to_owned(), uid: link.uid });
        }
        for dir in way {
            if !dir.is_guarded()? {
                return Err(DirError::Unguarded(at.to_owned()));
            }
        }
        Ok(())
    }
}

/// Fails if others than root can write to one of these directories.
fn refuse_users(way: &[Dir]) -> Result<(), DirError> {
    for dir in way {
        if !dir.is_guarded()? {
            return Err(DirError::UserParent { path: dir.path.clone(), uid: dir.stat.uid });
        }
    }
    Ok(())
}

/// Returns whether on the whole way to the mount point at `path`, which contains no symbolic link, only root can put
/// something else in the place of a directory: then a program that walks there arrives where we do. May wait.
pub fn is_guarded(path: &Path) -> bool {
    let way = || -> Result<bool, DirError> {
        let mut at = Dir::new(path::open(Path::new("/")).map_err(failed(path))?, PathBuf::from("/"))?;
        let names = components(path);
        for name in names.iter().take(names.len().saturating_sub(1)) {
            if !at.is_guarded()? {
                return Ok(false);
            }
            let fd = path::open_dir_at(at.fd.as_fd(), Path::new(name)).map_err(failed(path))?;
            at = Dir::new(fd, at.path.join(name))?;
        }
        at.is_guarded()
    };
    way().unwrap_or(false)
}

/// Result of entering a name.
enum Entered {
    /// A directory, open.
    Into(Dir),
    /// A symbolic link, or at the end of the way anything.
    At(Stat),
}

impl Dir {
    fn new(fd: OwnedFd, path: PathBuf) -> Result<Self, DirError> {
        let stat = path::fstat(fd.as_fd()).map_err(failed(&path))?;
        Ok(Self { fd, path, stat, local: Cell::new(false), magic: Cell::new(None) })
    }

    fn magic(&self) -> Result<Magic, DirError> {
        match self.magic.get() {
            Some(magic) => Ok(magic),
            None => {
                let magic = Magic::of(self.fd.as_fd()).map_err(failed(&self.path))?;
                self.magic.set(Some(magic));
                Ok(magic)
            }
        }
    }

    /// Returns whether the file system is the one that the machine has as its root, even if it comes from a server.
    fn is_on_root(&self) -> Result<bool, DirError> {
        Ok(path::lstat(Path::new("/")).map_err(failed(&self.path))?.dev == self.stat.dev)
    }

    /// Returns whether only root can replace an entry of root's in this directory. In an autofs mount only its daemon can.
    fn is_guarded(&self) -> Result<bool, DirError> {
        const STICKY: u32 = 0o1000;
        const OTHERS_WRITE: u32 = 0o022;
        if self.stat.uid != 0 || self.stat.mode & OTHERS_WRITE != 0 && self.stat.mode & STICKY == 0 {
            return Ok(self.magic()?.is_autofs());
        }
        Ok(!self.magic()?.is_foreign() || self.is_on_root()?)
    }

    /// Describes the mount point at `name`, which was found to be this.
    fn found(&self, name: &Path, found: &Stat) -> Result<Found, DirError> {
        // In a directory with the sticky bit, a user can rename what is his.
        let guarded = found.uid == 0 && self.is_guarded()?;
        let is_mounted = found.dev != self.stat.dev;
        Ok(Found { name: name.to_owned(), path: self.path.join(name), guarded, is_mounted })
    }

    fn is_missing(&self, name: &Path) -> bool {
        path::lstat_at(self.fd.as_fd(), name).is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
    }

    /// Opens the directory `name`, which is made if it is missing. Returns a symbolic link as such.
    fn enter(&self, name: &Path, made: &mut Vec<MadeDir>) -> Result<Entered, DirError> {
        let at = self.path.join(name);
        let opened = match path::open_dir_at(self.fd.as_fd(), name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.find_or_make(name, made)?;
                path::open_dir_at(self.fd.as_fd(), name)
            }
            opened => opened,
        };
        match opened {
            Ok(fd) => Dir::new(fd, at).map(Entered::Into),
            Err(source) => match path::lstat_at(self.fd.as_fd(), name) {
                Ok(found) if found.is_symlink() => Ok(Entered::At(found)),
                _ => Err(DirError::Io { path: at, source }),
            },
        }
    }

    /// Looks at `name`, where a directory is made if there is nothing.
    fn find_or_make(&self, name: &Path, made: &mut Vec<MadeDir>) -> Result<Stat, DirError> {
        let dir = self.fd.as_fd();
        // Where directories are made one after the other, the next one is missing, too.
        if !self.local.get() {
            match path::lstat_at(dir, name) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                found => return found.map_err(failed(&self.path.join(name))),
            }
        }
        let at = self.path.join(name);
        self.check_local(&at)?;
        let ours = match path::mkdir_at(dir, name) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => false,
            done => done.map_err(failed(&at)).map(|()| true)?,
        };
        let found = path::lstat_at(dir, name).map_err(failed(&at))?;
        if ours {
            made.push((at.as_path().into(), found.ino));
            // Where a user could have replaced the directory by now, its mode stays as mkdir and the umask made it.
            if found.mode & 0o777 != 0o755 && self.found(name, &found)?.guarded {
                path::chmod_dir_at(dir, name, 0o755).map_err(failed(&at))?;
            }
        }
        Ok(found)
    }

    /// Fails where no directory may be made.
    fn check_local(&self, at: &Path) -> Result<(), DirError> {
        if !self.local.get() {
            // A machine may have its root by NFS: then that is where its mount points are.
            if !self.is_on_root()? && self.magic()?.is_remote() {
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
    use std::os::unix::fs::symlink;

    use super::super::made::Dirs;
    use super::*;

    fn is_dir(path: &Path) -> bool {
        path::lstat(path).is_ok_and(|s| s.is_dir())
    }

    fn mode(path: &Path, mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn is_root() -> bool {
        nix::unistd::geteuid().is_root()
    }

    #[test]
    fn the_way_is_walked_again_where_it_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let mut maker = Maker::default();
        for path in ["a/x", "a/y", "b/x", "b/x/deep", "b/y", "a/x"] {
            maker.mount_point(&at(path)).unwrap();
            assert!(is_dir(&at(path)), "{path}");
        }
        assert!(matches!(maker.mount_point(&at("a/z")).unwrap().made, Made(Dirs::One(_))));
        symlink("x/deep", at("b/link")).unwrap();
        assert!(maker.mount_point(&at("b/link")).unwrap().made.is_empty());
        maker.mount_point(&at("b/link/x")).unwrap();
        maker.mount_point(&at("b/link/y")).unwrap();
        assert!(is_dir(&at("b/x/deep/x")) && is_dir(&at("b/x/deep/y")));
        std::fs::write(at("b/file"), b"").unwrap();
        assert!(
            maker.mount_point(&at("b/file")).is_err()
                && maker.mount_point(&at("b/x/../z")).is_ok()
                && is_dir(&at("b/z"))
        );
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

    #[test]
    fn links_are_followed_only_where_root_alone_can_write() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for name in ["real", "open"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        symlink("../real", at("open/link")).unwrap();
        if !is_root() {
            return;
        }
        assert_eq!(resolve(&at("open/link/x/y")).unwrap(), at("real/x/y"));
        for open in [0o775, 0o757] {
            mode(&at("open"), open);
            assert!(matches!(make(&at("open/link/x")), Err(DirError::Unguarded(link)) if link == at("open/link")));
            assert!(matches!(resolve(&at("open/link/x")), Err(DirError::Unguarded(_))));
        }
        mode(&at("open"), 0o1777);
        make(&at("open/link/x")).unwrap();
        mode(&at("open"), 0o755);
        let mut none = Maker::new(Rules { links: Links::None, user_parents: true });
        assert!(matches!(none.mount_point(&at("open/link/x")), Err(DirError::OnMedium(_))));
        assert!(none.mount_point(&at("open/x")).is_ok_and(|found| found.guarded));
        let mut root = Maker::new(Rules { links: Links::OfRoot, user_parents: false });
        root.mount_point(&at("open/y/z")).unwrap();
        std::os::unix::fs::chown(at("open"), Some(1), None).unwrap();
        let mut root = Maker::new(Rules { links: Links::OfRoot, user_parents: false });
        let refused = root.mount_point(&at("open/y/x")).unwrap_err();
        assert!(matches!(&refused, DirError::UserParent { path, uid: 1 } if *path == at("open")), "{refused}");
        assert!(!is_dir(&at("open/y/x")), "what was made for it is removed");
        assert!(is_guarded(&at("real/x")) && !is_guarded(&at("open/y/x")));
        assert!(Maker::default().mount_point(&at("open/y/x")).is_ok_and(|found| found.guarded));
        assert!(Maker::default().mount_point(&at("open/x")).is_ok_and(|found| !found.guarded));
    }

    #[test]
    fn a_real_path_is_that_of_the_mount_table() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        assert_eq!(resolve(&at("a/../b//c")).unwrap(), at("b/c"), "nothing of it exists");
        assert!(!is_dir(&at("b")));
        make(&at("var/home")).unwrap();
        symlink("var/home", at("home")).unwrap();
        if is_root() {
            assert_eq!(resolve(&at("home")).unwrap(), at("var/home"));
            assert_eq!(resolve(&at("home/x")).unwrap(), at("var/home/x"));
            let mut maker = Maker::default();
            let point = maker.mount_point(&at("home")).unwrap();
            assert_eq!((point.path.as_path(), point.target().name), (at("var/home").as_path(), Path::new("home")));
        }
        assert!(matches!(resolve(Path::new("/")), Err(DirError::Path(_))));
    }
}
