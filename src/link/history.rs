//! The memory of the history and of settings that were made at run time: two rings, the counters and the settings, in a file
//! that the keeper holds for its workers.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::ring::Ring;
use crate::sys::fds;
use crate::sys::memory_file::MemoryFile;

/// Bytes for requests, for events of the daemon, for counters, and for one version of the settings: less than a megabyte in
/// all. A program that encodes them in another way uses another size here, and so does not read the old
/// history.
const REQUESTS: u64 = 768 << 10;
const EVENTS: u64 = 64 << 10;
const COUNTERS: usize = 64 << 10;
const SETTINGS: u64 = 32 << 10;
const SIZE: u64 = REQUESTS + EVENTS + COUNTERS as u64 + 2 * SETTINGS;

/// Bytes before each version of the settings: its number and its length.
const HEAD: u64 = 16;

/// Maximum number of requests and of events that are kept.
const LIMITS: (usize, usize) = (1000, 200);

/// The history, as its writer sees it.
#[derive(Debug)]
pub struct Rings {
    /// Requests that were answered.
    pub requests: Ring,
    /// Events of the daemon.
    pub events: Ring,
    file: MemoryFile,
}

/// Creates the memory of an empty history.
///
/// # Errors
/// Returns the errors of memfd_create(2).
pub fn create() -> io::Result<OwnedFd> {
    Ok(MemoryFile::create(c"autofs-history", SIZE)?.into())
}

/// Returns the descriptor if it is the memory of a history of this size.
pub fn checked(fd: OwnedFd) -> Option<OwnedFd> {
    MemoryFile::open(fd, SIZE).ok().map(Into::into)
}

impl Rings {
    /// Opens the memory.
    ///
    /// # Errors
    /// Returns `InvalidData` if it is of another size, and the errors of pread(2) and pwrite(2).
    pub fn open(fd: OwnedFd) -> io::Result<Self> {
        let file = MemoryFile::open(fd, SIZE)?;
        Ok(Self {
            requests: Ring::open(file.duplicate()?, 0, REQUESTS, LIMITS.0)?,
            events: Ring::open(file.duplicate()?, REQUESTS, EVENTS, LIMITS.1)?,
            file,
        })
    }

    /// Number of bytes for counters.
    pub const COUNTERS: usize = COUNTERS;

    /// Reads the bytes at an offset of the counters.
    ///
    /// # Errors
    /// Returns the errors of pread(2).
    pub fn read_counters(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read(REQUESTS + EVENTS + offset, bytes)
    }

    /// Writes bytes at an offset of the counters.
    ///
    /// # Errors
    /// Returns the errors of pwrite(2).
    pub fn write_counters(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write(REQUESTS + EVENTS + offset, bytes)
    }
}

/// The settings that were made at run time. There are two versions, so that a worker that dies while it writes loses none.
#[derive(Debug)]
pub struct Settings(MemoryFile);

impl Settings {
    /// Opens the memory.
    ///
    /// # Errors
    /// Returns `InvalidData` if it is of another size, and the errors of fcntl(2).
    pub fn open(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self(MemoryFile::open(fds::duplicate(fd)?, SIZE)?))
    }

    fn at(slot: u64) -> u64 {
        SIZE - 2 * SETTINGS + slot * SETTINGS
    }

    /// Returns the number and the length of a version.
    fn head(&self, slot: u64) -> io::Result<(u64, u64)> {
        let (mut number, mut length) = ([0; 8], [0; 8]);
        self.0.read(Self::at(slot), &mut number)?;
        self.0.read(Self::at(slot) + 8, &mut length)?;
        Ok((u64::from_le_bytes(number), u64::from_le_bytes(length)))
    }

    /// Returns the slot of the newest version, and its number.
    fn newest(&self) -> io::Result<(u64, u64)> {
        let (first, second) = (self.head(0)?.0, self.head(1)?.0);
        Ok(if second > first { (1, second) } else { (0, first) })
    }

    /// Reads the settings. They are empty if none were written.
    ///
    /// # Errors
    /// Returns the errors of pread(2).
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let (slot, _) = self.newest()?;
        let length = self.head(slot)?.1.min(SETTINGS - HEAD);
        let mut text = vec![0; usize::try_from(length).unwrap_or(0)];
        self.0.read(Self::at(slot) + HEAD, &mut text)?;
        Ok(text)
    }

    /// Writes the settings.
    ///
    /// # Errors
    /// Returns `StorageFull` if they are too long, and the errors of pwrite(2).
    pub fn write(&self, text: &[u8]) -> io::Result<()> {
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        if length > SETTINGS - HEAD {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let (slot, number) = self.newest()?;
        let other = 1 - slot;
        self.0.write(Self::at(other) + HEAD, text)?;
        // The number comes last, in one write: it makes the version valid.
        let head = [(number + 1).to_le_bytes(), length.to_le_bytes()].concat();
        self.0.write(Self::at(other), &head)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn the_newest_settings_are_read() {
        let memory = create().unwrap();
        let settings = Settings::open(memory.as_fd()).unwrap();
        assert_eq!(settings.read().unwrap(), b"");
        for text in ["one", "two and more", ""] {
            settings.write(text.as_bytes()).unwrap();
            assert_eq!(Settings::open(memory.as_fd()).unwrap().read().unwrap(), text.as_bytes());
        }
        assert!(settings.write(&[b'x'; 32 << 10]).is_err());
        assert_eq!(settings.read().unwrap(), b"");
    }
}
