//! The place of an entry: where something is mounted, and what is there now.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Failure, dirs};
use crate::engine::{Key, Kind, Requester};
use crate::fault;
use crate::sys::mount::{self, Target, UnmountDir};
use crate::sys::path::Magic;
use crate::sys::{autofs, mount_id, mountinfo, path};

/// An entry of one of our autofs mounts.
#[derive(Debug, Clone)]
pub struct Place {
    /// Kind of the autofs mount.
    pub kind: Kind,
    /// Mount point of the autofs mount, without symbolic links; for direct and offset mounts it is the place itself.
    pub root: PathBuf,
    /// Device number (`st_dev`) of the autofs mount, which tells it from what is mounted on it.
    pub dev: u64,
    /// The entry; empty for direct and offset mounts.
    pub key: Key,
    /// The requester. A bind source on another automount is triggered with this user and group.
    pub who: Requester,
    /// Target of log lines: the mount point of the master map.
    pub label: Arc<str>,
}

impl Place {
    /// Returns the absolute path.
    pub fn path(&self) -> PathBuf {
        self.kind.entry_path(&self.root, &self.key)
    }

    /// Returns whether something is mounted here, or linked. The directories that carry the triggers of a multi-mount
    /// without a root count as well. May wait.
    pub fn is_mounted(self: &Arc<Self>) -> bool {
        let Ok(opened) = Opened::new(self) else { return false };
        match opened.site().look() {
            Ok(Stands::Mount | Stands::Link) => true,
            Ok(Stands::Directory) if self.kind == Kind::Indirect => {
                let dir = path::open_dir_at(opened.dir.as_fd(), self.name());
                dir.and_then(|dir| path::names(dir.as_fd())).is_ok_and(|names| !names.is_empty())
            }
            _ => false,
        }
    }

    /// Returns the number of the topmost mount here; before Linux 6.8, another mount can get it later. May wait.
    pub(super) fn mount_id(self: &Arc<Self>) -> Option<u64> {
        let top = Opened::new(self).ok()?.open_top().ok()?;
        mount_id::unique_id(top.as_fd()).or_else(|| mount_id::table_id(top.as_fd()).ok())
    }

    /// Returns the mount id of the topmost mount here that no other mount ever gets. May wait. Returns `None` before Linux 6.8.
    pub fn unique_mount_id(self: &Arc<Self>) -> Option<u64> {
        let opened = Opened::new(self).ok()?;
        mount_id::unique_id_at(opened.dir.as_fd(), &opened.name)
    }

    /// Returns the same without waiting, after a mount that could not wait. `root` is the open root of the autofs mount.
    pub fn unique_mount_id_now(&self, root: BorrowedFd<'_>) -> Option<u64> {
        match self.kind {
            Kind::Indirect => mount_id::unique_id_at(root, self.name()),
            Kind::Direct | Kind::Offset => mount_id::unique_id(path::open_cached_exact(&self.root).ok()?.as_fd()),
        }
    }

    /// Returns whether a server in user space (FUSE) serves what is mounted here, and has died. May wait for a server.
    pub fn has_dead_server(self: &Arc<Self>) -> bool {
        let Ok(opened) = Opened::new(self) else { return false };
        if !opened.site().look().is_ok_and(|stands| stands == Stands::Mount) {
            return false;
        }
        // Asking for the attributes of the file system asks the server, and resets no clock of the autofs mount.
        let asked = opened.open_top().and_then(|top| Magic::ask(&top));
        asked.is_err_and(|e| matches!(e.raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED)))
    }

    fn name(&self) -> &Path {
        match self.kind {
            Kind::Indirect => Path::new(OsStr::from_bytes(&self.key.0)),
            Kind::Direct | Kind::Offset => Path::new(""),
        }
    }

    /// Returns whether the key is one file name. The kernel asks for nothing else.
    fn has_good_name(&self) -> bool {
        let key = &*self.key.0;
        self.kind != Kind::Indirect || !matches!(key, b"" | b"." | b"..") && !key.contains(&b'/')
    }

    /// Returns the place as seen from the open root of its autofs mount, or `None` if the key is no file name.
    pub(super) fn site<'a>(&'a self, root: BorrowedFd<'a>, path: &'a Path) -> Option<Site<'a>> {
        let target = Target { dir: root, name: self.name(), path };
        self.has_good_name().then_some(Site { target, dev: self.dev })
    }
}

/// The mount at a place.
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

/// A mount point in an open directory, on the autofs mount with the device number `dev`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Site<'a> {
    pub(super) target: Target<'a>,
    pub(super) dev: u64,
}

impl Site<'_> {
    fn name(&self) -> Option<&Path> {
        (!self.target.name.as_os_str().is_empty()).then_some(self.target.name)
    }

    /// Looks at what is there now. Waits for no file system, except on the way to a direct or offset mount.
    pub(super) fn look(&self) -> io::Result<Stands> {
        let found = match self.name() {
            Some(name) => path::lstat_at(self.target.dir, name),
            None => path::open_exact(self.target.path).and_then(|fd| path::fstat(fd.as_fd())),
        };
        match found {
            Ok(found) if found.dev != self.dev => Ok(Stands::Mount),
            Ok(found) if found.is_symlink() => Ok(Stands::Link),
            Ok(_) => Ok(Stands::Directory),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Stands::Nothing),
            Err(e) => Err(e),
        }
    }

    /// Makes the directory. Returns whether it did not exist. A caller that wants to mount there looks first.
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

    /// Replaces the directory by a symbolic link. If that fails, the directory is made again.
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

/// A place that stays open over the steps of a mount or an unmount.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) place: Arc<Place>,
    /// The current path of the place: a user may have renamed a directory above.
    pub(super) path: PathBuf,
    /// The directory that holds the mount point; for an indirect mount that is the root of the autofs mount.
    dir: OwnedFd,
    name: PathBuf,
    /// The root of a direct or offset mount, if nothing is mounted on it.
    root: Option<OwnedFd>,
}

impl Opened {
    /// Opens the place, without following a symbolic link anywhere. It proves to be ours by the device number of the
    /// autofs mount: it is at the path, or below what is mounted there. If the directories above were renamed, the mount
    /// table tells where it is now. May wait.
    ///
    /// # Errors
    /// [`Failure::Key`]; [`Failure::Covered`]: the autofs mount cannot be reached.
    pub(super) fn new(place: &Arc<Place>) -> Result<Self, Failure> {
        if !place.has_good_name() {
            return Err(Failure::Key(place.path()));
        }
        let first = Self::at(place, &place.root);
        if let Ok(Some(opened)) = first {
            return Ok(opened);
        }
        let moved = autofs_path(place.kind, place.dev).ok().flatten().filter(|path| *path != place.root);
        if let Some(Ok(Some(opened))) = moved.map(|path| Self::at(place, &path)) {
            return Ok(opened);
        }
        match first {
            Err(source) => Err(Failure::Place { path: place.path(), source }),
            Ok(_) => Err(Failure::Covered(place.root.clone())),
        }
    }

    /// Opens the place if its autofs mount is at `root`, else returns `None`.
    fn at(place: &Arc<Place>, root: &Path) -> io::Result<Option<Self>> {
        let place = Arc::clone(place);
        if place.kind == Kind::Indirect {
            let dir = path::open_exact(root)?;
            let ours = path::fstat(dir.as_fd())?.dev == place.dev;
            let (path, name) = (root.join(place.name()), place.name().to_owned());
            return Ok(ours.then_some(Self { place, path, dir, name, root: None }));
        }
        let (Some(parent), Some(name)) = (root.parent(), root.file_name()) else { return Ok(None) };
        let (dir, name) = (path::open_exact(parent)?, PathBuf::from(name));
        let top = path::open_at_nofollow(dir.as_fd(), &name)?;
        let free = path::fstat(top.as_fd())?.dev == place.dev;
        let ours = free || mount_id::is_over(top.as_fd(), dir.as_fd(), place.dev)?;
        let root_path = root.to_owned();
        Ok(ours.then_some(Self { place, path: root_path, dir, name, root: free.then_some(top) }))
    }

    /// Returns the place for looking at it and for unmounting: the entry in the directory that holds it.
    pub(super) fn site(&self) -> Site<'_> {
        let target = Target { dir: self.dir.as_fd(), name: &self.name, path: &self.path };
        Site { target, dev: self.place.dev }
    }

    /// Returns the place for mounting. For direct and offset mounts that is the open root of the autofs mount, so that
    /// nothing that a user puts at its name can be meant.
    pub(super) fn mount_target(&self) -> Target<'_> {
        match &self.root {
            Some(root) => Target { dir: root.as_fd(), name: Path::new(""), path: &self.path },
            None => self.site().target,
        }
    }

    /// Opens what is mounted on top.
    pub(super) fn open_top(&self) -> io::Result<OwnedFd> {
        path::open_at_nofollow(self.dir.as_fd(), &self.name)
    }

    /// Returns the directory that holds the mount point, for an unmount, and the name in it.
    pub(super) fn into_unmount_dir(self) -> (UnmountDir, PathBuf) {
        (UnmountDir::new(self.dir), self.name)
    }

    /// Returns whether a program that walks to [`path`](Self::path) is sure to arrive here. May wait.
    pub(super) fn is_guarded(&self) -> bool {
        dirs::is_guarded(&self.path)
    }
}

/// Returns where the autofs mount of this kind with the device number `dev` is now, or `None` if the mount table does not have it.
/// A mount of another kind has got the number of one that is gone.
fn autofs_path(kind: Kind, dev: u64) -> io::Result<Option<PathBuf>> {
    let table = mountinfo::read()?;
    let mut lines = mountinfo::parse(&table).filter(|line| autofs::decode(line.dev) == dev);
    let line = lines.find(|line| line.autofs().is_some_and(|shown| shown.kind == kind));
    Ok(line.map(|line| line.path().to_owned()))
}

/// Returns whether the autofs mount with the device number `dev` (`st_dev`) is at `at`, on top or below what is mounted there.
/// Never waits: returns `None` if the kernel's caches do not tell.
pub fn stands_at(at: &Path, dev: u64) -> Option<bool> {
    let top = path::open_cached_exact(at).ok()?;
    if path::fstat(top.as_fd()).ok()?.dev == dev {
        return Some(true);
    }
    let dir = path::open_cached_exact(at.parent()?).ok()?;
    mount_id::is_over(top.as_fd(), dir.as_fd(), dev).ok()
}

/// What is left of an autofs mount that was unmounted: its file system, which copies of the mount in other mount namespaces may
/// still use, and lookups in them may wait for.
#[derive(Debug, Default)]
pub struct Unmounted {
    /// The root of the file system, and the copy of the mount that keeps it (Linux 5.2).
    held: Option<(OwnedFd, OwnedFd)>,
}

impl Unmounted {
    /// Returns the root of the file system, open for ioctls. `None` if it was unmounted earlier or the kernel cannot copy mounts.
    pub fn root(&self) -> Option<BorrowedFd<'_>> {
        self.held.as_ref().map(|(root, _)| root.as_fd())
    }
}

/// Unmounts the autofs mount of this kind with the device number `dev`, which is (or was, if a user has renamed a directory above it)
/// at `at`. `dir` is the directory that holds it, if it is open. That it does not exist any more is no error. May wait.
///
/// # Errors
/// [`Failure::Covered`]: something is mounted over it. [`Failure::Kernel`]: it is in use.
pub fn unmount_autofs(at: &Path, dir: Option<BorrowedFd<'_>>, kind: Kind, dev: u64, lazy: bool) -> Result<(), Failure> {
    let how = if lazy { How::Lazily } else { How::Only };
    unmount_where_it_is(at, dir, kind, dev, how).map(drop)
}

/// As [`unmount_autofs`], not lazily. Returns what is left of the mount. This takes about twice as long.
///
/// # Errors
/// As [`unmount_autofs`].
pub fn unmount_and_hold_autofs(
    at: &Path,
    dir: Option<BorrowedFd<'_>>,
    kind: Kind,
    dev: u64,
) -> Result<Unmounted, Failure> {
    unmount_where_it_is(at, dir, kind, dev, How::Hold)
}

/// How an autofs mount is unmounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// If it is not in use.
    Only,
    /// As `Only`, and its file system is held.
    Hold,
    /// Now, even if it is in use.
    Lazily,
}

fn unmount_where_it_is(
    at: &Path,
    dir: Option<BorrowedFd<'_>>,
    kind: Kind,
    dev: u64,
    how: How,
) -> Result<Unmounted, Failure> {
    if at.parent().is_none() {
        // Never a mount point of ours.
        return Err(Failure::Covered(at.to_owned()));
    }
    let unmounted = match dir {
        Some(dir) => unmount_in(dir, at, dev, how),
        None => unmount_at(at, dev, how),
    };
    if let Some(unmounted) = unmounted? {
        return Ok(unmounted);
    }
    match autofs_path(kind, dev) {
        // The open directory is another than the one at the path now.
        Ok(Some(path)) if path != at || dir.is_some() => unmount_at(&path, dev, how)?.ok_or(Failure::Covered(path)),
        Ok(Some(path)) => Err(Failure::Covered(path)),
        Ok(None) => Ok(Unmounted::default()),
        Err(source) => Err(Failure::Place { path: at.to_owned(), source }),
    }
}

/// Unmounts the autofs mount if it is on top at `at`. Returns `None` if it is not.
fn unmount_at(at: &Path, dev: u64, how: How) -> Result<Option<Unmounted>, Failure> {
    let Some(Ok(dir)) = at.parent().map(path::open_exact) else { return Ok(None) };
    unmount_in(dir.as_fd(), at, dev, how)
}

/// Unmounts the autofs mount if it is on top at the last component of `at` in the open directory `dir`. Returns `None` if it is not.
fn unmount_in(dir: BorrowedFd<'_>, at: &Path, dev: u64, how: How) -> Result<Option<Unmounted>, Failure> {
    let Some(name) = at.file_name().map(Path::new) else { return Ok(None) };
    let failed = |source| Failure::Kernel { path: at.to_owned(), source };
    if how == How::Only {
        if !path::lstat_at(dir, name).is_ok_and(|found| found.dev == dev) {
            return Ok(None);
        }
        return mount::unmount(dir, name, false).map(|()| Some(Unmounted::default())).map_err(failed);
    }
    let Some(top) = open_top_in(dir, at, dev) else { return Ok(None) };
    if how == How::Lazily {
        return mount::detach(top.as_fd()).map(|()| Some(Unmounted::default())).map_err(failed);
    }
    let held = mount::hold_by_copy(top.as_fd()).ok();
    // An open root of the mount itself would keep it busy.
    drop(top);
    mount::unmount(dir, name, false).map(|()| Some(Unmounted { held })).map_err(failed)
}

/// Opens the root of the autofs mount with the device number `dev` for ioctls, if it is on top at the last component of `at` in the
/// open directory `dir`. Triggers nothing, and opens nothing that covers it.
pub fn open_autofs_in(dir: BorrowedFd<'_>, at: &Path, dev: u64) -> Option<OwnedFd> {
    path::open_root(open_top_in(dir, at, dev)?.as_fd()).ok()
}

/// Opens what is on top at the last component of `at` in the open directory `dir`, if that is the file system with the device number
/// `dev`.
fn open_top_in(dir: BorrowedFd<'_>, at: &Path, dev: u64) -> Option<OwnedFd> {
    let top = path::open_at_nofollow(dir, Path::new(at.file_name()?)).ok()?;
    path::fstat(top.as_fd()).is_ok_and(|found| found.dev == dev).then_some(top)
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
        let opened = Opened::new(&Arc::new(place(dir.path(), b"k"))).unwrap();
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
        assert_eq!(Opened::new(&Arc::new(proc)).unwrap().site().look().unwrap(), Stands::Mount);
    }
}
