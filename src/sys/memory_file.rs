//! A file in memory that outlives the process that writes it: a memfd of a fixed size, read and written by offset.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use nix::errno::Errno as Os;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fstat};

/// Creates a file in memory with this content, which only its owner may read. It ends when its descriptor is closed.
///
/// # Errors
/// Returns the errors of memfd_create(2), fchmod(2) and write(2).
pub fn text(name: &CStr, content: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC)?);
    nix::sys::stat::fchmod(&file, Mode::S_IRUSR)?;
    file.write_all(content)?;
    Ok(file)
}

/// A memfd. Pages that were never written take no memory.
#[derive(Debug)]
pub struct MemoryFile(File);

impl MemoryFile {
    /// Creates a file of `size` zeros. The descriptor has CLOEXEC set, and the size cannot be changed.
    ///
    /// # Errors
    /// Returns the errors of memfd_create(2), ftruncate(2) and fcntl(2).
    pub fn create(name: &CStr, size: u64) -> io::Result<Self> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        // Kernels before 6.3 do not know the flag; later ones may insist on it.
        let fd = match memfd_create(name, flags | MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL)) {
            Err(Os::EINVAL) => memfd_create(name, flags)?,
            other => other?,
        };
        nix::unistd::ftruncate(&fd, libc::off_t::try_from(size).map_err(|_| Os::EFBIG)?)?;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL))?;
        Ok(Self(fd.into()))
    }

    /// Takes the descriptor of a file that [`create`](Self::create) has made with this size, perhaps in another program.
    ///
    /// # Errors
    /// Returns `InvalidData` if the descriptor is another file, or has another size.
    pub fn open(fd: OwnedFd, size: u64) -> io::Result<Self> {
        let sealed = fcntl(&fd, FcntlArg::F_GET_SEALS).unwrap_or(0) & libc::F_SEAL_SHRINK != 0;
        if !sealed || u64::try_from(fstat(&fd)?.st_size) != Ok(size) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a memory file of this size"));
        }
        Ok(Self(fd.into()))
    }

    /// Returns another descriptor of the same file.
    ///
    /// # Errors
    /// Returns the errors of fcntl(2).
    pub fn duplicate(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Reads the bytes at an offset.
    ///
    /// # Errors
    /// Returns the errors of pread(2), and `UnexpectedEof` beyond the end of the file.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(bytes, offset)
    }

    /// Writes bytes at an offset.
    ///
    /// # Errors
    /// Returns the errors of pwrite(2), among them EPERM beyond the end of the file.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
}

impl AsFd for MemoryFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<MemoryFile> for OwnedFd {
    fn from(file: MemoryFile) -> Self {
        file.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_seen_by_other_descriptors_and_the_size_is_fixed() {
        let file = MemoryFile::create(c"test", 100).unwrap();
        let other = MemoryFile::open(file.duplicate().unwrap().into(), 100).unwrap();
        file.write(90, b"0123456789").unwrap();
        let mut bytes = [0; 11];
        other.read(89, &mut bytes).unwrap();
        assert_eq!(&bytes, b"\x000123456789");
        assert!(file.write(95, b"0123456789").is_err() && other.read(95, &mut bytes).is_err());
        assert!(MemoryFile::open(other.into(), 99).is_err());
        assert!(MemoryFile::open(File::open("/dev/null").unwrap().into(), 0).is_err());
    }
}
