//! The memory of the history: two rings and the counters, in a file that the keeper holds for its workers.

use std::io;
use std::os::fd::OwnedFd;

use super::ring::Ring;
use crate::sys::memory_file::MemoryFile;

/// Bytes for requests, for events of the daemon, and for counters: one megabyte in all.
const REQUESTS: u64 = 896 << 10;
const EVENTS: u64 = 64 << 10;
const COUNTERS: usize = 64 << 10;
const SIZE: u64 = REQUESTS + EVENTS + COUNTERS as u64;

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

/// Returns whether a descriptor is the memory of a history of this size.
pub fn is_history(fd: OwnedFd) -> Option<OwnedFd> {
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
