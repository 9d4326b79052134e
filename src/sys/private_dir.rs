//! A directory of files that no other user may write. Each file is replaced as a whole.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{self, AtFlags, CWD, Mode, OFlags};

use super::path;

/// Permission bits that let others write.
const OTHERS_WRITE: u32 = 0o022;

/// An open directory that belongs to this user, and that no other user may write.
#[derive(Debug)]
pub struct PrivateDir(OwnedFd);

/// A file in such a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateFile {
    /// Its name.
    pub name: Vec<u8>,
    /// Bytes.
    pub size: u64,
    /// When its content was written: seconds and nanoseconds.
    pub written: (i64, u32),
}

fn denied(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why.to_owned())
}

/// Returns an error if a file or directory belongs to another user, or other users may write it.
fn check_owner(stat: &path::Stat) -> io::Result<()> {
    if stat.uid != rustix::process::geteuid().as_raw() {
        return Err(denied("it belongs to another user"));
    }
    if stat.mode & OTHERS_WRITE != 0 {
        return Err(denied("others than its owner may write it"));
    }
    Ok(())
}

impl PrivateDir {
    /// Opens the directory at `path`. May wait.
    ///
    /// # Errors
    /// Those of openat(2). `PermissionDenied`: it belongs to another user, or others may write it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir: OwnedFd = fs::openat(CWD, path, flags, Mode::empty())?;
        check_owner(&path::fstat(dir.as_fd())?)?;
        Ok(Self(dir))
    }

    /// As [`open`](Self::open); makes the directory with mode 0700 if there is none. Its parent must exist.
    ///
    /// # Errors
    /// As for [`open`](Self::open), and those of mkdirat(2).
    pub fn open_or_make(path: &Path) -> io::Result<Self> {
        match fs::mkdirat(CWD, path, Mode::RWXU) {
            Err(error) if error != rustix::io::Errno::EXIST => Err(error.into()),
            _ => Self::open(path),
        }
    }

    /// Reads a file of at most `most` bytes.
    ///
    /// # Errors
    /// Those of openat(2) and read(2). `PermissionDenied`: it belongs to another user, or others may write it. `InvalidData`: it is
    /// longer, or no regular file.
    pub fn read(&self, name: &Path, most: u64) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let mut file: File = fs::openat(&self.0, name, flags, Mode::empty())?.into();
        let stat = path::fstat(file.as_fd())?;
        check_owner(&stat)?;
        if !stat.is_file() || stat.size > most {
            let why = if stat.is_file() { "it is too long" } else { "it is not a file" };
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let mut bytes = Vec::new();
        io::Read::by_ref(&mut file).take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Replaces the content of a file, or makes the file with mode 0600. At every moment, also after a crash of the machine, the file has
    /// its old content or the new one.
    ///
    /// # Errors
    /// Those of openat(2), write(2), fsync(2) and renameat(2). The old content stays.
    pub fn replace(&self, name: &Path, bytes: &[u8]) -> io::Result<()> {
        let aside = Path::new(".new");
        // A temporary file that an earlier process has left.
        self.remove(aside)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file: File = fs::openat(&self.0, aside, flags, Mode::RUSR | Mode::WUSR)?.into();
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        if let Err(error) = written.and_then(|()| Ok(fs::renameat(&self.0, aside, &self.0, name)?)) {
            let _ = self.remove(aside);
            return Err(error);
        }
        Ok(fs::fsync(&self.0)?)
    }

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// Those of unlinkat(2).
    pub fn remove(&self, name: &Path) -> io::Result<()> {
        match fs::unlinkat(&self.0, name, AtFlags::empty()) {
            Err(rustix::io::Errno::NOENT) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the regular files in it.
    ///
    /// # Errors
    /// Those of getdents(2).
    pub fn files(&self) -> io::Result<Vec<PrivateFile>> {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt as _;
        let mut files = Vec::new();
        for name in path::names(self.0.as_fd())? {
            let Ok(stat) = path::lstat_at(self.0.as_fd(), Path::new(OsStr::from_bytes(&name))) else { continue };
            if stat.is_file() {
                files.push(PrivateFile { name, size: stat.size, written: stat.mtime });
            }
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_read_by_its_owner_only() {
        let above = tempfile::tempdir().unwrap();
        let at = above.path().join("d");
        let dir = PrivateDir::open_or_make(&at).unwrap();
        let name = Path::new("a");
        // A writer that has died.
        std::fs::write(at.join(".new"), "half").unwrap();
        for text in ["one", "another"] {
            dir.replace(name, text.as_bytes()).unwrap();
            assert_eq!(dir.read(name, 100).unwrap(), text.as_bytes());
        }
        assert_eq!(std::fs::File::open(at.join("a")).unwrap().metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(
            dir.files().unwrap().iter().map(|file| (&*file.name, file.size)).collect::<Vec<_>>(),
            [(&b"a"[..], 7)]
        );
        assert_eq!(dir.read(name, 3).unwrap_err().kind(), io::ErrorKind::InvalidData);
        symlink("a", at.join("link")).unwrap();
        dir.read(Path::new("link"), 100).unwrap_err();
        mode(&at.join("a"), 0o620);
        assert_eq!(dir.read(name, 100).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        dir.remove(name).unwrap();
        dir.remove(name).unwrap();
        assert_eq!(dir.read(name, 100).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let above = tempfile::tempdir().unwrap();
        let at = above.path().join("d");
        drop(PrivateDir::open_or_make(&at).unwrap());
        assert_eq!(std::fs::File::open(&at).unwrap().metadata().unwrap().mode() & 0o777, 0o700);
        mode(&at, 0o777);
        assert_eq!(PrivateDir::open_or_make(&at).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        mode(&at, 0o755);
        PrivateDir::open(&at).unwrap();
        symlink("d", above.path().join("link")).unwrap();
        PrivateDir::open(&above.path().join("link")).unwrap_err();
    }
}
