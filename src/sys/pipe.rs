//! Control pipes, through which the kernel sends packets.
//!
//! The kernel sets its end to packet mode (pipe(2), O_DIRECT): one read returns one packet, and bytes that do not fit into the
//! buffer are lost. Each packet takes a whole page, so a default pipe holds 16 packets. With 256, a burst of new keys does not
//! block in the kernel.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno as Os;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::fstatfs;

/// `f_type` of statfs(2) for the file system of unnamed pipes (`<linux/magic.h>`).
const PIPEFS_MAGIC: u64 = 0x5049_5045;

/// Requested capacity: the default limit for unprivileged users (`/proc/sys/fs/pipe-max-size`).
const CAPACITY: i32 = 1 << 20;

/// The result of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// A packet with this number of bytes.
    Packet(usize),
    /// The pipe is empty.
    Empty,
    /// No write end is open any more, not even in the kernel: the last mount on this pipe is gone or catatonic.
    End,
}

/// The read end of a control pipe, in non-blocking mode.
#[derive(Debug)]
pub struct ReadEnd(OwnedFd);

impl ReadEnd {
    /// Creates a pipe. Returns the read end, and the write end for the kernel, which must be closed after the mount.
    ///
    /// # Errors
    /// Returns the errors of pipe(2).
    pub fn create() -> io::Result<(Self, OwnedFd)> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        // Refused if the administrator has set a lower limit; any size works.
        let mut wanted = CAPACITY;
        while wanted > 1 << 16 && fcntl(&read, FcntlArg::F_SETPIPE_SZ(wanted)).is_err() {
            wanted /= 2;
        }
        Ok((Self(read), write))
    }

    /// Takes over a descriptor from an earlier worker, and makes it non-blocking.
    ///
    /// # Errors
    /// Returns `InvalidInput` if it is not the read end of a pipe.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        if !is_read_end(fd.as_fd())? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the read end of a pipe"));
        }
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self(fd))
    }

    /// Opens another write end, for a further mount on this pipe or for a take-over.
    ///
    /// # Errors
    /// Returns the errors of open(2); ENOENT without `/proc`.
    pub fn write_end(&self) -> io::Result<OwnedFd> {
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        Ok(open(path.as_str(), OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?)
    }

    /// Returns the inode number, shown in the mount table as `pipe_ino=`. A restore changes it.
    ///
    /// # Errors
    /// Returns the errors of fstat(2).
    pub fn inode(&self) -> io::Result<u64> {
        Ok(fstat(&self.0)?.st_ino as _)
    }

    /// Returns how many bytes can be read, in all packets together.
    ///
    /// # Errors
    /// Returns the errors of ioctl(2).
    pub fn readable(&self) -> io::Result<usize> {
        let mut bytes: libc::c_int = 0;
        // SAFETY: FIONREAD writes one int through the pointer, which is valid for the call.
        Os::result(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::FIONREAD, &raw mut bytes) })?;
        Ok(usize::try_from(bytes).unwrap_or(0))
    }

    /// Returns whether a write end is open, also one in the kernel: an autofs mount on this pipe exists in some mount namespace.
    ///
    /// # Errors
    /// Returns the errors of poll(2).
    pub fn has_writer(&self) -> io::Result<bool> {
        let mut ends = [PollFd::new(self.0.as_fd(), PollFlags::empty())];
        poll(&mut ends, PollTimeout::ZERO)?;
        let [end] = &ends;
        Ok(!end.revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)))
    }

    /// Reads one packet into `buffer`, which should have [`packet::SIZE`](super::packet::SIZE) bytes or more.
    ///
    /// # Errors
    /// Returns the errors of read(2), except that there is nothing.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<Read> {
        // SAFETY: the slice is writable for its length.
        unsafe { read_raw(self.0.as_fd(), buffer.as_mut_ptr(), buffer.len()) }
    }
}

impl AsFd for ReadEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<ReadEnd> for OwnedFd {
    fn from(end: ReadEnd) -> Self {
        end.0
    }
}

impl std::os::fd::AsRawFd for ReadEnd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Returns whether a descriptor is the read end of an unnamed pipe. An end that was opened by `/proc/self/fd` for reading and
/// writing counts too.
///
/// # Errors
/// Returns the errors of fstat(2) and fcntl(2).
pub fn is_read_end(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let format = SFlag::from_bits_truncate(fstat(fd)?.st_mode) & SFlag::S_IFMT;
    let access = fcntl(fd, FcntlArg::F_GETFL)? & libc::O_ACCMODE;
    Ok(format == SFlag::S_IFIFO && access != libc::O_WRONLY && fstatfs(fd)?.filesystem_type().0 as u64 == PIPEFS_MAGIC)
}

/// One read(2) that goes on after a signal.
///
/// # Safety
/// `buffer` is valid for writes of `size` bytes.
pub(super) unsafe fn read_raw(fd: BorrowedFd<'_>, buffer: *mut u8, size: usize) -> io::Result<Read> {
    loop {
        // SAFETY: as the caller promises.
        let count = unsafe { libc::read(fd.as_raw_fd(), buffer.cast(), size) };
        return match Os::result(count) {
            Ok(0) => Ok(Read::End),
            Ok(count) => Ok(Read::Packet(count.unsigned_abs())),
            Err(Os::EAGAIN) => Ok(Read::Empty),
            Err(Os::EINTR) => continue,
            Err(e) => Err(e.into()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_then_bytes_then_the_end() {
        let (read, write) = ReadEnd::create().unwrap();
        let mut buffer = [0; 304];
        assert_eq!(read.read(&mut buffer).unwrap(), Read::Empty);
        nix::unistd::write(&write, b"something").unwrap();
        assert_eq!(read.readable().unwrap(), 9);
        assert_eq!(read.read(&mut buffer).unwrap(), Read::Packet(9));
        let second = read.write_end().unwrap();
        drop(write);
        assert_eq!(read.read(&mut buffer).unwrap(), Read::Empty, "the second write end keeps it open");
        assert_eq!(fstat(&second).unwrap().st_ino, read.inode().unwrap());
        drop(second);
        assert_eq!(read.read(&mut buffer).unwrap(), Read::End);
    }

    #[test]
    fn only_read_ends_are_taken() {
        let (read, write) = ReadEnd::create().unwrap();
        let inode = read.inode().unwrap();
        assert!(ReadEnd::from_fd(write).is_err());
        assert!(ReadEnd::from_fd(std::fs::File::open("/dev/null").unwrap().into()).is_err());
        assert_eq!(ReadEnd::from_fd(read.into()).unwrap().inode().unwrap(), inode);
    }

    #[test]
    fn it_is_larger_than_usual() {
        let (read, _write) = ReadEnd::create().unwrap();
        assert!(fcntl(&read, FcntlArg::F_GETPIPE_SZ).unwrap() >= 1 << 16);
    }
}
