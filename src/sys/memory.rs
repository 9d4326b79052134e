//! Memory that a process, its children and the programs it executes share: records of a fixed size in a memfd.
//!
//! Packets of the kernel are read straight into it: read(2) writes them into a record, so there is no moment at which a
//! packet is known to one process only. Every process that maps the memory may change its words at any time, so they are
//! accessed as atomics. What a record is for, and who may write it when, is decided by its users.

use std::ffi::c_void;
use std::io;
use std::mem::size_of;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno as Os;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::stat::fstat;
use nix::unistd::{Whence, lseek};

use super::packet;
use super::pipe::{Read, read_raw};

/// Words of a record's header.
const HEADER: usize = 16;

const PACKET: usize = 80;
const TOKEN: usize = packet::TOKEN_OFFSET / size_of::<u32>();

/// One record: 512 bytes.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Record {
    header: [AtomicU32; HEADER],
    packet: [AtomicU32; PACKET],
    spare: [AtomicU32; 128 - HEADER - PACKET],
}

const _: () = assert!(size_of::<Record>() == 512 && PACKET * size_of::<u32>() >= packet::SIZE);

/// Header of the record that says what the memory is.
#[repr(C)]
#[derive(Debug)]
pub struct FormatHeader {
    /// Kind of memory.
    pub magic: AtomicU32,
    /// The version of its layout.
    pub version: AtomicU32,
    spare: [AtomicU32; HEADER - 2],
}

/// Header of the record in which a worker counts the turns of its loop.
#[repr(C)]
#[derive(Debug)]
pub struct PulseHeader {
    /// Odd while a turn is under way.
    pub turns: AtomicU32,
    /// 1 while the timer is set.
    pub timer_is_set: AtomicU32,
    spare: [AtomicU32; HEADER - 2],
}

/// Header of a record with a request.
#[repr(C)]
#[derive(Debug)]
pub struct RequestHeader {
    /// The number of the control pipe by which its packet came.
    pub pipe: AtomicU32,
    /// Workers that have begun with it.
    pub begun: AtomicU32,
    /// Those of them that were killed from outside.
    pub spared: AtomicU32,
    /// When the packet was read: milliseconds of CLOCK_MONOTONIC, modulo 2^32.
    pub read_at: AtomicU32,
    /// 1: its user had too many requests under way when it was read.
    pub beyond_share: AtomicU32,
    spare: [AtomicU32; HEADER - 5],
}

/// Header of a record that remembers for whom a multi-mount was made.
#[repr(C)]
#[derive(Debug)]
pub struct NoteHeader {
    /// Bytes of the path in place of the packet. 0: the record is free. Written last.
    pub length: AtomicU32,
    /// User id of the requester.
    pub uid: AtomicU32,
    /// Group id of the requester.
    pub gid: AtomicU32,
    spare: [AtomicU32; HEADER - 3],
}

impl Record {
    /// The header as one of the types above; all zeros in new memory.
    fn header<H>(&self) -> &H {
        const {
            assert!(size_of::<H>() == HEADER * size_of::<AtomicU32>() && align_of::<H>() == align_of::<AtomicU32>());
        }
        // SAFETY: the types above are nothing but as many atomic words as the header has, and any bytes are valid for them.
        unsafe { &*self.header.as_ptr().cast() }
    }

    /// The header of the record that says what the memory is.
    pub fn format(&self) -> &FormatHeader {
        self.header()
    }

    /// The header of a record with a request.
    pub fn request(&self) -> &RequestHeader {
        self.header()
    }

    /// The header of the record in which a worker counts its turns.
    pub fn pulse(&self) -> &PulseHeader {
        self.header()
    }

    /// The header of a record that remembers a requester.
    pub fn note(&self) -> &NoteHeader {
        self.header()
    }

    /// The token of the packet, where read(2) puts it; 0: no packet.
    pub fn token(&self) -> &AtomicU32 {
        &self.packet[TOKEN]
    }

    /// The real user id in the packet, of the process that waits.
    pub fn uid(&self) -> u32 {
        self.packet.get(packet::UID_OFFSET / size_of::<u32>()).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Reads one packet from a pipe into this record.
    ///
    /// # Errors
    /// Those of read(2), except that there is nothing.
    pub fn read(&self, pipe: BorrowedFd<'_>) -> io::Result<Read> {
        // SAFETY: the words may be written through a shared reference, and the packet area is as long as that.
        unsafe { read_raw(pipe, self.packet.as_ptr().cast_mut().cast(), PACKET * size_of::<u32>()) }
    }

    /// A copy of the packet as it is now.
    pub fn packet(&self) -> [u8; packet::SIZE] {
        let mut bytes = [0; packet::SIZE];
        for (to, from) in bytes.chunks_exact_mut(size_of::<u32>()).zip(&self.packet) {
            to.copy_from_slice(&from.load(Ordering::Relaxed).to_ne_bytes());
        }
        bytes
    }

    /// Puts other bytes in the place of the packet, as many as fit; the rest is zeros. Not for records that are read
    /// into.
    pub fn write(&self, bytes: &[u8]) {
        let mut padded = [0; packet::SIZE];
        for (to, from) in padded.iter_mut().zip(bytes) {
            *to = *from;
        }
        for (word, bytes) in self.packet.iter().zip(padded.chunks_exact(size_of::<u32>())) {
            let mut four = [0; size_of::<u32>()];
            four.copy_from_slice(bytes);
            word.store(u32::from_ne_bytes(four), Ordering::Relaxed);
        }
    }

    /// Makes the packet all zeros; the token goes first.
    pub fn clear_packet(&self) {
        self.token().store(0, Ordering::Release);
        for word in &self.packet {
            word.store(0, Ordering::Relaxed);
        }
    }
}

/// Bytes of one record.
const RECORD: usize = size_of::<Record>();

/// Records in a memfd. Forked children see the same records; what is executed opens them from the descriptor.
#[derive(Debug)]
pub struct SharedMemory {
    records: NonNull<Record>,
    count: NonZeroUsize,
    fd: OwnedFd,
}

// SAFETY: the mapping lives as long as the value, belongs to no thread, and is reached by atomic words only.
unsafe impl Send for SharedMemory {}
// SAFETY: as above.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// Makes `count` records, all zeros. The descriptor has CLOEXEC set.
    ///
    /// # Errors
    /// Those of memfd_create(2) and mmap(2).
    pub fn create(count: NonZeroUsize) -> io::Result<Self> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        // Before 6.3 the kernel does not know that a memfd need not be executable; later ones may insist on it.
        let fd = match memfd_create(c"autofs-journal", flags | MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL)) {
            Err(Os::EINVAL) => memfd_create(c"autofs-journal", flags)?,
            other => other?,
        };
        let size = count.get().checked_mul(size_of::<Record>()).and_then(|n| libc::off_t::try_from(n).ok());
        nix::unistd::ftruncate(&fd, size.ok_or(Os::EFBIG)?)?;
        // Nobody can take the pages from under the mapping.
        fcntl(&fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL))?;
        Self::open(fd)
    }

    /// Maps the records of a descriptor that came from [`create`](Self::create), perhaps in another program.
    ///
    /// # Errors
    /// `InvalidData`: it can be no such descriptor.
    pub fn open(fd: OwnedFd) -> io::Result<Self> {
        let sealed = fcntl(&fd, FcntlArg::F_GET_SEALS).unwrap_or(0) & libc::F_SEAL_SHRINK != 0;
        let size = usize::try_from(fstat(&fd)?.st_size).unwrap_or(0);
        let count = NonZeroUsize::new(size / size_of::<Record>());
        let (Some(count), Some(length), true) =
            (count, NonZeroUsize::new(size), sealed && size % size_of::<Record>() == 0)
        else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a sealed memory of records"));
        };
        // SAFETY: a new mapping at an address of the kernel's choice; the seal keeps its pages there.
        let address =
            unsafe { mmap(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, &fd, 0)? };
        Ok(Self { records: address.cast(), count, fd })
    }

    /// All records.
    pub fn records(&self) -> &[Record] {
        // SAFETY: the mapping has this many records, is aligned to a page, and any bytes are valid atomic words.
        unsafe { std::slice::from_raw_parts(self.records.as_ptr(), self.count.get()) }
    }

    /// Gives the memory of all records from number `first` on back to the kernel, as far as whole pages go. They are zeros
    /// then.
    ///
    /// # Errors
    /// Those of fallocate(2).
    pub fn clear_from(&self, first: usize) -> io::Result<()> {
        let (from, to) = (first.saturating_mul(RECORD), self.count.get() * RECORD);
        let range = |offset: usize| libc::off_t::try_from(offset).map_err(|_| Os::EFBIG);
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        Ok(fallocate(&self.fd, flags, range(from)?, range(to.saturating_sub(from))?)?)
    }

    /// The numbers of the records that may be other than zeros: those in pages that were ever touched. To look at any
    /// other one would take a page for it.
    pub fn touched(&self) -> Vec<usize> {
        let mut touched = Vec::new();
        let mut at = 0;
        loop {
            let start = match lseek(&self.fd, at, Whence::SeekData) {
                Ok(start) => start,
                Err(Os::ENXIO) => return touched,
                Err(_) => return (0..self.count.get()).collect(),
            };
            // There is a hole at the end of every file.
            let Ok(end) = lseek(&self.fd, start, Whence::SeekHole) else { return (0..self.count.get()).collect() };
            let record = |offset: libc::off_t| usize::try_from(offset).unwrap_or(0).div_ceil(size_of::<Record>());
            touched.extend(record(start)..record(end));
            at = end;
        }
    }
}

impl AsFd for SharedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no borrow of it outlives self.
        let _ = unsafe { munmap(self.records.cast::<c_void>(), self.count.get() * size_of::<Record>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::pipe::ReadEnd;

    fn memory(count: usize) -> SharedMemory {
        SharedMemory::create(NonZeroUsize::new(count).unwrap()).unwrap()
    }

    #[test]
    fn it_begins_with_zeros() {
        let memory = memory(3);
        assert_eq!((memory.records().len(), memory.touched()), (3, vec![]));
        for record in memory.records() {
            assert!(record.header.iter().all(|w| w.load(Ordering::Relaxed) == 0));
            assert_eq!(record.packet(), [0; packet::SIZE]);
        }
    }

    #[test]
    fn a_packet_goes_from_the_pipe_into_the_record() {
        let memory = memory(2);
        let again = SharedMemory::open(memory.as_fd().try_clone_to_owned().unwrap()).unwrap();
        let (read, write) = ReadEnd::create().unwrap();
        let record = &memory.records()[1];
        assert_eq!(record.read(read.as_fd()).unwrap(), Read::Empty);
        let mut bytes = [7; packet::SIZE];
        bytes[8..12].copy_from_slice(&42_u32.to_ne_bytes());
        nix::unistd::write(&write, &bytes).unwrap();
        assert_eq!(record.read(read.as_fd()).unwrap(), Read::Packet(packet::SIZE));
        assert_eq!(again.records()[1].packet(), bytes, "the other mapping sees it");
        assert_eq!(again.records()[1].token().load(Ordering::Relaxed), 42);
        assert_eq!(again.records()[0].packet(), [0; packet::SIZE]);
        again.records()[1].clear_packet();
        assert_eq!(record.packet(), [0; packet::SIZE]);
    }

    #[test]
    fn what_was_touched_is_known_without_touching_the_rest() {
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).unwrap().unwrap() as usize / 512;
        let memory = memory(page * 4);
        memory.records()[0].token().store(1, Ordering::Relaxed);
        memory.records()[page * 2 + 1].token().store(1, Ordering::Relaxed);
        assert_eq!(memory.touched(), (0..page).chain(page * 2..page * 3).collect::<Vec<_>>());
    }

    #[test]
    fn memory_that_is_given_back_is_zeros_and_untouched() {
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).unwrap().unwrap() as usize / 512;
        let memory = memory(page * 4);
        for record in memory.records() {
            record.token().store(7, Ordering::Relaxed);
        }
        memory.clear_from(page).unwrap();
        assert_eq!(memory.touched(), (0..page).collect::<Vec<_>>());
        assert_eq!(memory.records()[page].token().load(Ordering::Relaxed), 0);
        assert_eq!(memory.records()[page - 1].token().load(Ordering::Relaxed), 7);
    }

    #[test]
    fn other_descriptors_are_refused() {
        assert!(SharedMemory::open(std::fs::File::open("/dev/null").unwrap().into()).is_err());
        let unsealed = memfd_create(c"other", MFdFlags::MFD_CLOEXEC).unwrap();
        nix::unistd::ftruncate(&unsealed, 512).unwrap();
        assert!(SharedMemory::open(unsealed).is_err());
    }
}
