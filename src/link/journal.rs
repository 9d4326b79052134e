//! The journal: one slot for each request that is read and not answered, in memory that outlives the worker.
//!
//! A packet is read from the pipe straight into a slot, so there is no instant at which it exists only in the
//! worker's memory: either the kernel still has it or the journal does. A slot is taken while the token in its packet
//! is not 0, which no token of the kernel is. The next worker finds there what a dead one still owed.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::Ordering;

use crate::sys::memory::{Record, SharedMemory};
use crate::sys::{packet, pipe};

/// Requests that can be under way at once. When all slots are taken, packets wait in the pipes.
pub const SLOTS: NonZeroUsize = NonZeroUsize::new(2048).unwrap();

/// Entries whose requester is remembered, in the records behind the slots.
const NOTES: usize = 512;

/// Records that a journal needs.
pub const RECORDS: NonZeroUsize = SLOTS.checked_add(NOTES).unwrap();

/// Header words of a slot.
const PIPE: usize = 0;
const ATTEMPTS: usize = 1;
const SPARED: usize = 2;

/// A request on which so many workers have died by themselves is not served again: the next one would die as well.
const DEATHS: u32 = 3;

/// Nor is one under which so many were killed. That need not be its fault; but it may be what uses up all memory.
const ENDS: u32 = 30;

/// Header words of a note: bytes of the path (0: none; written last), the requester's ids.
const LENGTH: usize = 0;
const UID: usize = 1;
const GID: usize = 2;

/// A slot's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot(u32);

/// The journal as a worker sees it.
#[derive(Debug)]
pub struct Journal {
    memory: SharedMemory,
    /// The free slots; the last one is taken next, so that few pages are ever touched.
    free: Vec<u32>,
}

/// What a dead worker still owed.
#[derive(Debug, Clone, Copy)]
pub struct Owed {
    /// Where it stands.
    pub slot: Slot,
    /// The pipe on which it came.
    pub pipe: u32,
}

impl Journal {
    /// Takes up the journal in `memory`, with what a worker before this one has left in it. `spared`: that one was ended
    /// from outside, for which no request is to be blamed.
    pub fn open(memory: SharedMemory, spared: bool) -> (Self, Vec<Owed>) {
        let mut owed: Vec<Owed> = Vec::new();
        for number in memory.touched().into_iter().take_while(|number| *number < SLOTS.get()) {
            let (Some(record), Ok(slot)) = (memory.records().get(number), u32::try_from(number)) else { break };
            if record.token().load(Ordering::Acquire) == 0 {
                continue;
            }
            if spared {
                record.header()[SPARED].fetch_add(1, Ordering::AcqRel);
            }
            owed.push(Owed { slot: Slot(slot), pipe: record.header()[PIPE].load(Ordering::Acquire) });
        }
        let is_free = |number: &u32| owed.binary_search_by_key(number, |owed| owed.slot.0).is_err();
        let slots = u32::try_from(memory.records().len().min(SLOTS.get())).unwrap_or(u32::MAX);
        let free = (0..slots).rev().filter(is_free).collect();
        (Self { memory, free }, owed)
    }

    fn notes(&self) -> &[Record] {
        self.memory.records().get(SLOTS.get()..).unwrap_or_default()
    }

    fn note(&self, path: &Path) -> Option<&Record> {
        let path = path.as_os_str().as_bytes();
        self.notes().iter().find(|note| {
            let length = note.header()[LENGTH].load(Ordering::Acquire) as usize;
            length == path.len() && note.packet().get(..length) == Some(path)
        })
    }

    /// Remembers for whom the multi-mount at `path` was made, for a worker that takes over: the kernel does not tell.
    /// When there is no room for one more, or for a path so long, it will be root's.
    pub fn remember(&mut self, path: &Path, uid: u32, gid: u32) {
        let bytes = path.as_os_str().as_bytes();
        let Some(length) = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= packet::SIZE) else { return };
        let free = || self.notes().iter().find(|note| note.header()[LENGTH].load(Ordering::Acquire) == 0);
        let Some(note) = self.note(path).or_else(free) else { return };
        note.write(bytes);
        note.header()[UID].store(uid, Ordering::Release);
        note.header()[GID].store(gid, Ordering::Release);
        note.header()[LENGTH].store(length, Ordering::Release);
    }

    /// For whom the multi-mount at `path` was made: user and group.
    pub fn requester(&self, path: &Path) -> Option<(u32, u32)> {
        let header = self.note(path)?.header();
        Some((header[UID].load(Ordering::Acquire), header[GID].load(Ordering::Acquire)))
    }

    /// The multi-mount at `path` is gone.
    pub fn forget(&mut self, path: &Path) {
        if let Some(note) = self.note(path) {
            note.header()[LENGTH].store(0, Ordering::Release);
        }
    }

    /// Whether a packet could be taken.
    pub fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Reads one packet of pipe number `pipe` into a free slot.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn read(&mut self, pipe: u32, read_end: BorrowedFd<'_>) -> io::Result<Read> {
        let Some(number) = self.free.pop() else { return Ok(Read::Nothing) };
        let Some(record) = self.memory.records().get(number as usize) else { return Ok(Read::Nothing) };
        record.header()[PIPE].store(pipe, Ordering::Release);
        record.header()[ATTEMPTS].store(0, Ordering::Release);
        record.header()[SPARED].store(0, Ordering::Release);
        let read = record.read(read_end);
        if let Ok(pipe::Read::Packet(_)) = read {
            return Ok(Read::Packet(Slot(number)));
        }
        record.clear_packet();
        self.free.push(number);
        match read? {
            pipe::Read::End => Ok(Read::End),
            _ => Ok(Read::Nothing),
        }
    }

    /// A worker begins with the request in a slot. `Err`: it should not, so many have ended with it.
    pub fn begin(&self, slot: Slot) -> Result<(), u32> {
        let Some(record) = self.memory.records().get(slot.0 as usize) else { return Ok(()) };
        let ended = record.header()[ATTEMPTS].fetch_add(1, Ordering::AcqRel);
        let died = ended.saturating_sub(record.header()[SPARED].load(Ordering::Acquire));
        if died >= DEATHS || ended >= ENDS { Err(ended) } else { Ok(()) }
    }

    /// The packet in a slot.
    pub fn packet(&self, slot: Slot) -> Bytes {
        self.memory.records().get(slot.0 as usize).map_or([0; packet::SIZE], Record::packet)
    }

    /// The number of the pipe by which the packet in a slot came.
    pub fn pipe(&self, slot: Slot) -> u32 {
        self.memory.records().get(slot.0 as usize).map_or(0, |record| record.header()[PIPE].load(Ordering::Acquire))
    }

    /// The request of this slot has been answered.
    pub fn clear(&mut self, slot: Slot) {
        if let Some(record) = self.memory.records().get(slot.0 as usize) {
            record.clear_packet();
            self.free.push(slot.0);
        }
    }
}

/// A packet as it came.
pub type Bytes = [u8; packet::SIZE];

/// What reading a pipe gave.
#[derive(Debug)]
pub enum Read {
    /// A packet stands in this slot.
    Packet(Slot),
    /// Nothing to read now.
    Nothing,
    /// No mount writes to the pipe any more.
    End,
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_request_stands_in_the_journal_from_read_to_answer_whatever_becomes_of_the_worker() {
        let memory = SharedMemory::create(4.try_into().unwrap()).unwrap();
        let again = SharedMemory::open(memory.as_fd().try_clone_to_owned().unwrap()).unwrap();
        let (read_end, write_end) = pipe::ReadEnd::create().unwrap();
        let (mut journal, owed) = Journal::open(memory, false);
        assert!(owed.is_empty());
        assert!(matches!(journal.read(7, read_end.as_fd()).unwrap(), Read::Nothing));
        let mut bytes: Bytes = [0; packet::SIZE];
        bytes[packet::TOKEN_OFFSET] = 9;
        write(&write_end, &bytes);
        let Read::Packet(slot) = journal.read(7, read_end.as_fd()).unwrap() else { panic!("the packet is there") };
        assert_eq!(journal.packet(slot)[packet::TOKEN_OFFSET], 9);
        drop(journal);
        let (mut journal, owed) = Journal::open(again, false);
        assert_eq!((owed.len(), owed[0].pipe, owed[0].slot), (1, 7, slot));
        journal.clear(owed[0].slot);
        assert_eq!(journal.packet(owed[0].slot), [0; packet::SIZE]);
        drop(write_end);
        assert!(matches!(journal.read(7, read_end.as_fd()).unwrap(), Read::End));
    }

    /// How many workers may begin with a request; each has ended from outside or by itself.
    fn beginnings(spared: impl Fn(usize) -> bool) -> usize {
        let memory = SharedMemory::create(4.try_into().unwrap()).unwrap();
        let (read_end, write_end) = pipe::ReadEnd::create().unwrap();
        let mut bytes: Bytes = [0; packet::SIZE];
        bytes[packet::TOKEN_OFFSET] = 9;
        write(&write_end, &bytes);
        let open =
            |spared| Journal::open(SharedMemory::open(memory.as_fd().try_clone_to_owned().unwrap()).unwrap(), spared).0;
        let Read::Packet(slot) = open(false).read(7, read_end.as_fd()).unwrap() else { panic!("the packet is there") };
        let begins = |before: &usize| open(*before > 0 && spared(*before)).begin(slot).is_ok();
        (0..100).take_while(begins).count()
    }

    #[test]
    fn a_request_is_blamed_for_deaths_and_hardly_for_what_comes_from_outside() {
        assert_eq!(beginnings(|_| false), 3);
        assert_eq!(beginnings(|_| true), 30);
        // Every fourth worker dies by itself.
        assert_eq!(beginnings(|before| before % 4 != 0), 12);
    }

    fn write(fd: &std::os::fd::OwnedFd, bytes: &[u8]) {
        use std::io::Write as _;
        std::fs::File::from(fd.try_clone().unwrap()).write_all(bytes).unwrap();
    }

    #[test]
    fn who_asked_is_remembered_over_the_death_of_a_worker() {
        let memory = SharedMemory::create(RECORDS).unwrap();
        let again = SharedMemory::open(memory.as_fd().try_clone_to_owned().unwrap()).unwrap();
        let (mut journal, _) = Journal::open(memory, false);
        journal.remember(Path::new("/net/a"), 1000, 100);
        journal.remember(Path::new("/net/b"), 1001, 100);
        journal.remember(Path::new("/net/a"), 7, 8);
        journal.forget(Path::new("/net/b"));
        journal.remember(Path::new(&"x".repeat(4000)), 1, 1);
        let (journal, owed) = Journal::open(again, false);
        assert!(owed.is_empty());
        assert_eq!(journal.requester(Path::new("/net/a")), Some((7, 8)));
        assert_eq!(journal.requester(Path::new("/net/b")), None);
    }
}
