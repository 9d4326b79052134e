//! Paths, looked at and walked without triggering automounts.
//!
//! Nothing here calls `stat` in a way that mounts what it looks at, and nothing follows a name without saying so. What
//! may wait for a server says that too: the reactor thread may only call what may not.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags};

use super::{fstypes, mount_id, mountinfo};

/// Attributes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Device number, as `st_dev` of `stat(2)`.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Last change of the content: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Last change of content or attributes: seconds and nanoseconds.
    pub ctime: (i64, u32),
    /// The mount's number as in `/proc/self/mountinfo`; `None` before Linux 5.8.
    pub mnt_id: Option<u64>,
}

impl Stat {
    /// Is it a directory?
    pub fn is_dir(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::Directory
    }

    /// Is it a regular file?
    pub fn is_file(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::RegularFile
    }

    /// Is it a symbolic link?
    pub fn is_symlink(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::Symlink
    }

    /// Is it a socket?
    pub fn is_socket(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::Socket
    }

    /// May its owner execute it?
    pub fn is_executable(&self) -> bool {
        self.mode & 0o100 != 0
    }
}

fn statx(dir: BorrowedFd<'_>, path: &Path, flags: AtFlags) -> io::Result<Stat> {
    let s = fs::statx(dir, path, flags | AtFlags::NO_AUTOMOUNT, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)?;
    Ok(Stat {
        dev: fs::makedev(s.stx_dev_major, s.stx_dev_minor),
        ino: s.stx_ino,
        mode: u32::from(s.stx_mode),
        uid: s.stx_uid,
        gid: s.stx_gid,
        size: s.stx_size,
        mtime: (s.stx_mtime.tv_sec, s.stx_mtime.tv_nsec),
        ctime: (s.stx_ctime.tv_sec, s.stx_ctime.tv_nsec),
        mnt_id: (s.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(s.stx_mnt_id),
    })
}

/// Accesses the directory at `path` as a program does that lists it: triggers automounts. May wait.
///
/// # Errors
/// Those of openat(2). A file that is no directory is there as well.
pub fn access(path: &Path) -> io::Result<()> {
    match fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(rustix::io::Errno::NOTDIR) | Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The file that `path` leads to. It asks the server of a network file system as `stat(2)` does, so it may wait.
pub fn stat(path: &Path) -> io::Result<Stat> {
    statx(CWD, path, AtFlags::empty())
}

/// Returns the attributes of `path` itself that are known without asking a server. Reaching the path may still wait.
pub fn lstat(path: &Path) -> io::Result<Stat> {
    lstat_at(CWD, path)
}

/// As [`lstat`], from `dir` on.
pub fn lstat_at(dir: BorrowedFd<'_>, path: &Path) -> io::Result<Stat> {
    statx(dir, path, AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC)
}

/// The file behind a descriptor. Never waits.
pub fn fstat(fd: BorrowedFd<'_>) -> io::Result<Stat> {
    statx(fd, Path::new(""), AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC)
}

/// Opens `path` (`O_PATH`), links followed, if the dentry cache alone knows the way; so it never waits. `WouldBlock` if
/// it does not, and on kernels before 5.12, which have no `RESOLVE_CACHED`.
pub fn open_cached(path: &Path) -> io::Result<OwnedFd> {
    match fs::openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::CACHED) {
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::INVAL) => Err(io::ErrorKind::WouldBlock.into()),
        opened => Ok(opened?),
    }
}

/// As [`open_cached`], but fails where a symbolic link is on the way or at the end.
///
/// # Errors
/// ELOOP: there is a symbolic link. `WouldBlock` as for [`open_cached`].
pub fn open_cached_exact(path: &Path) -> io::Result<OwnedFd> {
    let how = ResolveFlags::CACHED | ResolveFlags::NO_SYMLINKS;
    match fs::openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how) {
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::INVAL) => Err(io::ErrorKind::WouldBlock.into()),
        opened => Ok(opened?),
    }
}

/// Opens the absolute path `path` (`O_PATH`), which contains no symbolic link and no `..`. May wait; the last component
/// triggers no automount.
///
/// # Errors
/// ELOOP or ENOTDIR: a symbolic link is on the way or at the end. Else those of open(2).
pub fn open_exact(path: &Path) -> io::Result<OwnedFd> {
    let how = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match fs::openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how) {
        // Before Linux 5.6, or refused by a filter of system calls.
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => open_by_components(path),
        opened => Ok(opened?),
    }
}

/// Does the work of [`open_exact`] with one call for each component.
fn open_by_components(path: &Path) -> io::Result<OwnedFd> {
    let mut components = path.components().peekable();
    if components.next() != Some(Component::RootDir) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut at = open(Path::new("/"))?;
    while let Some(component) = components.next() {
        let Component::Normal(name) = component else { return Err(io::ErrorKind::InvalidInput.into()) };
        let name = Path::new(name);
        at = match components.peek() {
            Some(_) => open_dir_at(at.as_fd(), name)?,
            None => open_at_nofollow(at.as_fd(), name)?,
        };
    }
    if fstat(at.as_fd())?.is_symlink() { Err(io::Error::from_raw_os_error(libc::ELOOP)) } else { Ok(at) }
}

/// Follows the symbolic links on the way to the absolute path `path`, and at its end, without triggering an automount or asking a
/// server, which may not answer: from the first mount of autofs, of a network file system or of FUSE on the path is taken as it is,
/// and so it is from the first component on that does not exist. The root file system is taken as one that answers.
///
/// # Errors
/// ELOOP: too many links. Else those of open(2), readlink(2) and of reading the mount table.
pub fn follow_links(path: &Path) -> io::Result<PathBuf> {
    follow(path).map(|(real, _)| real)
}

/// Does the work of [`follow_links`]. Returns also whether such a mount is on the way.
fn follow(path: &Path) -> io::Result<(PathBuf, bool)> {
    /// As many as the kernel follows, path_resolution(7).
    const MOST: usize = 40;
    let table = mountinfo::read()?;
    // The last mount at a path is on top.
    let mounts: HashMap<PathBuf, bool> = mountinfo::parse(&table)
        .map(|mount| (mount.path().to_owned(), mount.autofs().is_some() || fstypes::has_server(mount.fstype)))
        .collect();
    let names =
        |path: &Path| path.iter().filter(|name| *name != "/" && *name != ".").map(OsStr::to_owned).collect::<Vec<_>>();
    let mut todo: Vec<OsString> = names(path).into_iter().rev().collect();
    let (mut real, mut links) = (PathBuf::from("/"), 0);
    while let Some(name) = todo.pop() {
        if name == ".." {
            real.pop();
            continue;
        }
        let next = real.join(&name);
        // A mount point is no link, and is not opened: that may ask its server.
        let found = match mounts.get(&next) {
            Some(true) => {
                real = next;
                real.extend(todo.iter().rev());
                return Ok((real, true));
            }
            _ => open_nofollow(&real).and_then(|dir| Ok((open_at_nofollow(dir.as_fd(), Path::new(&name))?, dir))).ok(),
        };
        let Some((found, dir)) = found else {
            real = next;
            real.extend(todo.iter().rev());
            break;
        };
        if fstat(found.as_fd())?.is_symlink() {
            links += 1;
            if links > MOST {
                return Err(io::Error::from_raw_os_error(libc::ELOOP));
            }
            let text = readlink_at(dir.as_fd(), Path::new(&name))?;
            if text.is_absolute() {
                real = PathBuf::from("/");
            }
            todo.extend(names(&text).into_iter().rev());
        } else {
            real = next;
        }
    }
    Ok((real, false))
}

/// Returns what is at `path`, links followed, or `None` if the way leads over a mount of autofs, of a network file system or of FUSE.
/// Triggers no automount and asks no server.
///
/// # Errors
/// Nothing is there, or it cannot be looked at.
pub fn stat_untriggered(path: &Path) -> io::Result<Option<Stat>> {
    match follow(path)? {
        (real, false) => lstat(&real).map(Some),
        (_, true) => Ok(None),
    }
}

/// Returns the path at which the open file or directory is now, as the kernel knows it.
///
/// # Errors
/// `NotFound`: it has no path, as it was removed. Else those of readlink(2).
pub fn path_of(fd: BorrowedFd<'_>) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd as _;
    let text = fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new())?.into_bytes();
    if text.ends_with(b" (deleted)") || !text.starts_with(b"/") {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(OsString::from_vec(text).into())
}

/// Opens the directory `path`, and triggers every automount on the way to it and at its end. May wait for as long as
/// they take.
pub fn open_through(path: &Path) -> io::Result<OwnedFd> {
    Ok(fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens `path` to read a file, links followed. It waits for no writer of a FIFO and takes no terminal as the controlling
/// one; what was opened tells [`fstat`]. For files on servers it may wait.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(fs::openat(CWD, path, flags, Mode::empty())?.into())
}

/// Opens `path` (`O_PATH`), links followed. It may wait; the last component triggers nothing.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens `path` (`O_PATH`) unless it is a symbolic link, which gives the link itself. It may wait; the last component
/// triggers nothing.
pub fn open_nofollow(path: &Path) -> io::Result<OwnedFd> {
    Ok(fs::openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens the directory `name` in `dir` (`O_PATH`); `ENOTDIR` if it is a symbolic link. It may wait, as it triggers an
/// automount that stands there.
pub fn open_dir_at(dir: BorrowedFd<'_>, name: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(fs::openat(dir, name, flags, Mode::empty())?)
}

/// Opens the directory that `dir` is open on again, for reading and ioctls. Triggers no automount.
pub fn open_root(dir: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(fs::openat(dir, Path::new("."), flags, Mode::empty())?)
}

/// Opens the entry `name` of `dir` (`O_PATH`), or the symbolic link itself if it is one. Triggers no automount.
pub fn open_at_nofollow(dir: BorrowedFd<'_>, name: &Path) -> io::Result<OwnedFd> {
    Ok(fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// Makes the directory `name` in `dir` with mode 0755 less the umask.
pub fn mkdir_at(dir: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    Ok(fs::mkdirat(dir, name, Mode::from_raw_mode(0o755))?)
}

/// Sets the permission bits of the directory `name` in `dir`, which must not be a symbolic link.
pub fn chmod_dir_at(dir: BorrowedFd<'_>, name: &Path, mode: u32) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = fs::openat(dir, name, flags, Mode::empty())?;
    Ok(fs::fchmod(opened, Mode::from_raw_mode(mode))?)
}

/// Removes the empty directory `name` of `dir`.
pub fn rmdir_at(dir: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    Ok(fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}

/// Removes `name`, which is no directory, from `dir`.
pub fn unlink_at(dir: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    Ok(fs::unlinkat(dir, name, AtFlags::empty())?)
}

/// Makes the symbolic link `name` in `dir`, leading to `text`.
pub fn symlink_at(text: &[u8], dir: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    Ok(fs::symlinkat(text, dir, name)?)
}

/// The text of the symbolic link `name` in `dir`.
pub fn readlink_at(dir: BorrowedFd<'_>, name: &Path) -> io::Result<PathBuf> {
    Ok(OsString::from_vec(fs::readlinkat(dir, name, Vec::new())?.into_bytes()).into())
}

/// The names in the directory `dir`, without `.` and `..`.
pub fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut names = Vec::new();
    for entry in fs::Dir::new(fs::openat(dir, ".", flags, Mode::empty())?)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// Returns whether the directory `dir` has no entry `name`; `false` if it has more than `most` entries before that is known.
pub fn lacks(dir: BorrowedFd<'_>, name: &OsStr, most: usize) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let entries = fs::Dir::new(fs::openat(dir, ".", flags, Mode::empty())?)?;
    for (count, entry) in entries.enumerate() {
        if count == most || entry?.file_name().to_bytes() == name.as_bytes() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns whether the first component of the absolute path `path` that the dentry cache does not have is missing in its
/// directory; at most `most` entries are read. A name that was never looked up is not in the cache, so
/// [`open_cached`] cannot tell. Reads only directories of local file systems, so it may wait for a disk, but not for a
/// server.
///
/// # Errors
/// Those of reading the directory; ELOOP: a symbolic link is on the way.
pub fn is_unused_name(path: &Path, most: usize) -> io::Result<bool> {
    for (parent, name) in path.ancestors().skip(1).zip(path.ancestors().filter_map(Path::file_name)) {
        let dir = match open_cached_exact(parent) {
            Ok(dir) => dir,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
            Err(e) => return Err(e),
        };
        return Ok(Magic::of(&dir)?.is_local() && lacks(dir.as_fd(), name, most)?);
    }
    Ok(false)
}

/// Returns the names in the directory `dir` that may be symbolic links; `None` if it has more than `most` entries.
///
/// # Errors
/// Those of reading the directory.
pub fn possible_links(dir: BorrowedFd<'_>, most: usize) -> io::Result<Option<Vec<OsString>>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut links = Vec::new();
    for (count, entry) in fs::Dir::new(fs::openat(dir, ".", flags, Mode::empty())?)?.enumerate() {
        let entry = entry?;
        if count == most {
            return Ok(None);
        }
        // Some file systems do not tell the type.
        if matches!(entry.file_type(), FileType::Symlink | FileType::Unknown) {
            links.push(OsString::from_vec(entry.file_name().to_bytes().to_vec()));
        }
    }
    Ok(Some(links))
}

/// The kind of a file system as its magic number, `statfs(2)`, tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Magic(u32);

impl Magic {
    /// Returns it for `fd`, which may be opened with `O_PATH`. It may wait before Linux 6.8, see [`ask`](Self::ask).
    ///
    /// # Errors
    /// Those of fstatfs(2).
    pub fn of(fd: impl AsFd) -> io::Result<Self> {
        Self::told(&fd).map_or_else(|| Self::ask(&fd), Ok)
    }

    /// As [`of`](Self::of), but never waits. `None` before Linux 6.8.
    pub fn told(fd: impl AsFd) -> Option<Self> {
        mount_id::magic(fd.as_fd()).map(Self)
    }

    /// As [`of`](Self::of), but asks the file system. It may wait: NFS and FUSE ask their servers.
    ///
    /// # Errors
    /// Those of fstatfs(2), as when the server of a FUSE file system has died.
    pub fn ask(fd: impl AsFd) -> io::Result<Self> {
        // The width and sign of `f_type` vary; the numbers of linux/magic.h have 32 bits.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the low 32 bits are the number")]
        Ok(Self(fs::fstatfs(fd)?.f_type as u32))
    }

    /// Is it autofs: a mount point on which nothing is mounted?
    pub fn is_autofs(self) -> bool {
        self.0 == 0x187
    }

    /// Is it tmpfs?
    pub fn is_tmpfs(self) -> bool {
        self.0 == 0x0102_1994
    }

    /// Is what the kernel has in memory of a file known to be the truth? So for file systems that only this kernel
    /// changes: ext2 to ext4, xfs, btrfs, bcachefs, f2fs, zfs, tmpfs, ramfs, overlay, squashfs, erofs, FAT.
    pub fn is_local(self) -> bool {
        matches!(
            self.0,
            0xef53
                | 0x5846_5342
                | 0x9123_683e
                | 0xca45_1a4e
                | 0xf2f5_2010
                | 0x2fc1_2fc1
                | 0x0102_1994
                | 0x8584_58f6
                | 0x794c_7630
                | 0x7371_7368
                | 0xe0f5_e1e2
                | 0x4d44
        )
    }

    /// Returns whether a process without privileges may decide what the directories hold, whatever their owners and
    /// permission bits say: FUSE, and the file systems of other machines.
    pub fn is_foreign(self) -> bool {
        self.0 == 0x6573_5546 || self.is_remote()
    }

    /// Returns whether this is a network file system, on which no directories are made: NFS, SMB (three numbers), NCP,
    /// AFS, Coda, Ceph, 9P; linux/magic.h and the sources of those without an entry there.
    pub fn is_remote(self) -> bool {
        matches!(
            self.0,
            0x6969
                | 0x517b
                | 0xff53_4d42
                | 0xfe53_4d42
                | 0x564c
                | 0x5346_414f
                | 0x7375_7245
                | 0x00c3_6400
                | 0x0102_1997
        )
    }
}

/// Sets the permission bits of an open file or directory.
///
/// # Errors
/// Those of fchmod(2).
pub fn chmod(fd: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    Ok(fs::fchmod(fd, Mode::from_raw_mode(mode))?)
}

/// Sets the owner and the group of an open file or directory; `None` leaves them as they are.
///
/// # Errors
/// Those of fchown(2).
pub fn chown(fd: BorrowedFd<'_>, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    Ok(nix::unistd::fchown(fd, uid.map(nix::unistd::Uid::from_raw), gid.map(nix::unistd::Gid::from_raw))?)
}

/// Sets the umask of this process.
pub fn set_umask(mask: u32) {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mask));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_followed_by_stat_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        std::fs::write(&file, b"12345").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        let s = stat(&link).unwrap();
        assert!(s.is_file() && s.size == 5 && !s.is_executable());
        assert!(lstat(&link).unwrap().is_symlink());
        let opened = open(&link).unwrap();
        assert_eq!(fstat(opened.as_fd()).unwrap().ino, s.ino);
        assert!(fstat(open_nofollow(&link).unwrap().as_fd()).unwrap().is_symlink());
    }

    #[test]
    fn links_are_followed_as_far_as_there_are_files() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("var")).unwrap();
        std::fs::create_dir(root.join("var/home")).unwrap();
        for (text, link) in [("var/home", "home"), ("../home", "var/again"), ("loop", "loop")] {
            std::os::unix::fs::symlink(text, root.join(link)).unwrap();
        }
        std::os::unix::fs::symlink(root.join("home"), root.join("whole")).unwrap();
        for (path, real) in [
            ("home", "var/home"),
            ("home/./alice/x", "var/home/alice/x"),
            ("var/again/alice", "var/home/alice"),
            ("whole/../other", "var/other"),
            ("none/../home", "none/../home"),
        ] {
            assert_eq!(follow_links(&root.join(path)).unwrap(), root.join(real), "{path}");
        }
        assert_eq!(follow_links(&root.join("loop")).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert_eq!(follow_links(Path::new("/")).unwrap(), Path::new("/"));
    }

    #[test]
    fn numbers_are_those_of_stat() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let theirs = std::fs::File::open(dir.path()).unwrap().metadata().unwrap();
        let ours = lstat(dir.path()).unwrap();
        assert_eq!((ours.dev, ours.ino, ours.mode), (theirs.dev(), theirs.ino(), theirs.mode()));
        assert_eq!(ours.mtime.0, theirs.mtime());
    }

    #[test]
    fn what_is_cached_opens_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        stat(dir.path()).unwrap();
        match open_cached(dir.path()) {
            Ok(fd) => assert!(fstat(fd.as_fd()).unwrap().is_dir()),
            Err(e) => assert_eq!(e.kind(), io::ErrorKind::WouldBlock),
        }
    }

    #[test]
    fn a_fifo_does_not_hold_the_reader() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
        let opened = open_to_read(&path).unwrap();
        assert!(!fstat(opened.as_fd()).unwrap().is_file());
    }

    #[test]
    fn a_link_is_no_directory_on_the_way() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("link")).unwrap();
        let fd = open(dir.path()).unwrap();
        let refused = open_dir_at(fd.as_fd(), Path::new("link")).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENOTDIR));
        assert!(!Magic::of(&fd).unwrap().is_autofs());
    }
}
