//! The journal: one slot for each request that is read and not answered, in memory that outlives the worker.
//!
//! A packet is read from the pipe straight into a slot, so at every instant either the kernel has it or the journal does.
//! A slot is taken while the token in its packet is not 0, which no token of the kernel is. The next worker finds there
//! the requests that a dead one has not answered.
//!
//! The memory begins with a record that names its format, then come the notes, then the slots. It is sparse: a slot that
//! was never used takes no memory.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::shares::Shares;
use crate::sys::memory::{Record, SharedMemory};
use crate::sys::{clock, packet, pipe};

/// Requests that can be under way at once.
const SLOTS: usize = 65_536;

/// Entries whose requester is remembered.
const NOTES: usize = 512;

/// The records before the first slot.
const FIRST: usize = 1 + NOTES;

/// Records of a journal.
const RECORDS: NonZeroUsize = NonZeroUsize::new(FIRST + SLOTS).unwrap();

/// Kind of memory and version of its layout, in the first record.
const MAGIC: u32 = u32::from_ne_bytes(*b"afsj");
const VERSION: u32 = 2;

/// A request on which so many workers have died by themselves is not served again: the next one would die as well.
const DEATHS: u32 = 3;

/// Maximum number of workers that are killed while they serve a request. The request may be the cause, for example by using up all
/// memory.
const ENDS: u32 = 30;

/// Slots whose memory is kept when no request is left. More is given back to the kernel.
const KEPT: u32 = 64;

/// A slot's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot(u32);

/// The journal as a worker sees it.
#[derive(Debug)]
pub struct Journal {
    memory: SharedMemory,
    /// The slots below `fresh` that are free; the last one is taken next, so that few pages are ever touched.
    free: Vec<u32>,
    /// From this number on no slot was ever used.
    fresh: u32,
    shares: Shares,
}

/// A request that a dead worker has not answered.
#[derive(Debug, Clone, Copy)]
pub struct Unanswered {
    /// Its slot.
    pub slot: Slot,
    /// The pipe by which it came.
    pub pipe: u32,
}

/// Makes the memory of a new journal.
///
/// # Errors
/// Those of memfd_create(2) and mmap(2).
pub fn create() -> io::Result<SharedMemory> {
    format(SharedMemory::create(RECORDS)?)
}

fn format(memory: SharedMemory) -> io::Result<SharedMemory> {
    if let Some(first) = memory.records().first() {
        first.format().magic.store(MAGIC, Ordering::Release);
        first.format().version.store(VERSION, Ordering::Release);
    }
    Ok(memory)
}

/// Checks the memory of a journal that another program has made.
///
/// # Errors
/// `InvalidData`: it is none, or one of another version.
pub fn check(memory: &SharedMemory) -> io::Result<()> {
    let said = memory
        .records()
        .first()
        .map(|first| (first.format().magic.load(Ordering::Acquire), first.format().version.load(Ordering::Acquire)));
    if said == Some((MAGIC, VERSION)) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "a journal of another version"))
}

impl Journal {
    /// Takes up the journal in `memory` with the requests that earlier workers have left unanswered. With `spared`, the last
    /// of them was killed from outside, and no request is blamed for that.
    pub fn open(memory: SharedMemory, spared: bool) -> (Self, Vec<Unanswered>) {
        let mut shares = Shares::new(memory.records().len().saturating_sub(FIRST));
        let mut unanswered: Vec<Unanswered> = Vec::new();
        for number in memory.touched().into_iter().filter_map(|number| number.checked_sub(FIRST)) {
            let (Some(record), Ok(slot)) = (memory.records().get(FIRST + number), u32::try_from(number)) else { break };
            if record.token().load(Ordering::Acquire) == 0 {
                continue;
            }
            if spared {
                record.request().spared.fetch_add(1, Ordering::AcqRel);
            }
            let pipe = record.request().pipe.load(Ordering::Acquire);
            shares.take(pipe, record.uid());
            unanswered.push(Unanswered { slot: Slot(slot), pipe });
        }
        let is_free = |number: &u32| unanswered.binary_search_by_key(number, |one| one.slot.0).is_err();
        let fresh = unanswered.last().map_or(0, |last| last.slot.0.saturating_add(1));
        let free = (0..fresh).rev().filter(is_free).collect();
        (Self { memory, free, fresh, shares }, unanswered)
    }

    fn record(&self, slot: Slot) -> Option<&Record> {
        self.memory.records().get(FIRST + slot.0 as usize)
    }

    fn notes(&self) -> &[Record] {
        self.memory.records().get(1..FIRST).unwrap_or_default()
    }

    fn note(&self, path: &Path) -> Option<&Record> {
        let path = path.as_os_str().as_bytes();
        self.notes().iter().find(|record| {
            let length = record.note().length.load(Ordering::Acquire) as usize;
            length == path.len() && record.packet().get(..length) == Some(path)
        })
    }

    /// Remembers for whom the multi-mount at `path` was made, for a worker that takes over: the kernel does not tell.
    /// Without room for one more, or with a path longer than a packet, the next worker takes root for the requester.
    pub fn remember(&mut self, path: &Path, uid: u32, gid: u32) {
        let bytes = path.as_os_str().as_bytes();
        let Some(length) = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= packet::SIZE) else { return };
        let free = || self.notes().iter().find(|record| record.note().length.load(Ordering::Acquire) == 0);
        let Some(record) = self.note(path).or_else(free) else { return };
        record.write(bytes);
        let note = record.note();
        note.uid.store(uid, Ordering::Release);
        note.gid.store(gid, Ordering::Release);
        note.length.store(length, Ordering::Release);
    }

    /// User and group for whom the multi-mount at `path` was made.
    pub fn requester(&self, path: &Path) -> Option<(u32, u32)> {
        let note = self.note(path)?.note();
        Some((note.uid.load(Ordering::Acquire), note.gid.load(Ordering::Acquire)))
    }

    /// Forgets for whom the multi-mount at `path` was made.
    pub fn forget(&mut self, path: &Path) {
        if let Some(record) = self.note(path) {
            record.note().length.store(0, Ordering::Release);
        }
    }

    /// Whether a packet of a pipe may be read: there is a free slot, and the pipe has not used up its share.
    pub fn has_room(&self, pipe: u32) -> bool {
        self.shares.has_room(pipe)
    }

    /// Reads one packet of a pipe into a free slot.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn read(&mut self, pipe: u32, read_end: BorrowedFd<'_>) -> io::Result<Read> {
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.fresh as usize + FIRST < self.memory.records().len() => {
                self.fresh += 1;
                self.fresh - 1
            }
            None => return Ok(Read::Nothing),
        };
        let Some(record) = self.record(Slot(number)) else { return Ok(Read::Nothing) };
        let header = record.request();
        header.pipe.store(pipe, Ordering::Release);
        header.begun.store(0, Ordering::Release);
        header.spared.store(0, Ordering::Release);
        header.read_at.store(clock::milliseconds(), Ordering::Release);
        let read = record.read(read_end);
        if let Ok(pipe::Read::Packet(_)) = read {
            let uid = record.uid();
            let has_share = self.shares.take(pipe, uid);
            if let Some(record) = self.record(Slot(number)) {
                record.request().beyond_share.store((!has_share).into(), Ordering::Release);
            }
            return Ok(Read::Packet(Slot(number)));
        }
        record.clear_packet();
        self.free.push(number);
        match read? {
            pipe::Read::End => Ok(Read::End),
            _ => Ok(Read::Nothing),
        }
    }

    /// Records that a worker begins with the request in a slot.
    ///
    /// # Errors
    /// The number of workers that have ended with it, if they are so many that this one should not begin.
    pub fn begin(&self, slot: Slot) -> Result<(), u32> {
        let Some(record) = self.record(slot) else { return Ok(()) };
        let ended = record.request().begun.fetch_add(1, Ordering::AcqRel);
        let died = ended.saturating_sub(record.request().spared.load(Ordering::Acquire));
        if died >= DEATHS || ended >= ENDS { Err(ended) } else { Ok(()) }
    }

    /// Whether the user of the request in a slot may have it under way. If not, it is to be refused.
    pub fn has_share(&self, slot: Slot) -> bool {
        self.record(slot).is_none_or(|record| record.request().beyond_share.load(Ordering::Acquire) == 0)
    }

    /// Milliseconds since the packet in a slot was read, by whichever worker.
    pub fn waited(&self, slot: Slot) -> u64 {
        let Some(record) = self.record(slot) else { return 0 };
        clock::milliseconds().wrapping_sub(record.request().read_at.load(Ordering::Acquire)).into()
    }

    /// The packet in a slot.
    pub fn packet(&self, slot: Slot) -> Bytes {
        self.record(slot).map_or([0; packet::SIZE], Record::packet)
    }

    /// The number of the pipe by which the packet in a slot came.
    pub fn pipe(&self, slot: Slot) -> u32 {
        self.record(slot).map_or(0, |record| record.request().pipe.load(Ordering::Acquire))
    }

    /// Frees the slot of a request that has been answered.
    pub fn clear(&mut self, slot: Slot) {
        let Some(record) = self.record(slot) else { return };
        let (pipe, uid) = (record.request().pipe.load(Ordering::Acquire), record.uid());
        record.clear_packet();
        self.shares.give_back(pipe, uid);
        self.free.push(slot.0);
        if self.shares.held() == 0 && self.fresh > KEPT {
            self.free = (0..KEPT).rev().collect();
            self.fresh = KEPT;
            // What cannot be given back stays, as zeros.
            let _ = self.memory.clear_from(FIRST + KEPT as usize);
        }
    }
}

/// A packet as it came.
pub type Bytes = [u8; packet::SIZE];

/// Result of reading a pipe.
#[derive(Debug)]
pub enum Read {
    /// The slot in which a packet is.
    Packet(Slot),
    /// The pipe is empty.
    Nothing,
    /// No mount writes to the pipe any more.
    End,
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    fn small() -> SharedMemory {
        format(SharedMemory::create((FIRST + 4).try_into().unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn a_request_stands_in_the_journal_from_read_to_answer_whatever_becomes_of_the_worker() {
        let memory = small();
        let again = SharedMemory::open(memory.as_fd().try_clone_to_owned().unwrap()).unwrap();
        let (read_end, write_end) = pipe::ReadEnd::create().unwrap();
        let (mut journal, unanswered) = Journal::open(memory, false);
        assert!(unanswered.is_empty());
        assert!(matches!(journal.read(7, read_end.as_fd()).unwrap(), Read::Nothing));
        let mut bytes: Bytes = [0; packet::SIZE];
        bytes[packet::TOKEN_OFFSET] = 9;
        write(&write_end, &bytes);
        let Read::Packet(slot) = journal.read(7, read_end.as_fd()).unwrap() else { panic!("the packet is there") };
        assert_eq!(journal.packet(slot)[packet::TOKEN_OFFSET], 9);
        drop(journal);
        let (mut journal, unanswered) = Journal::open(again, false);
        assert_eq!((unanswered.len(), unanswered[0].pipe, unanswered[0].slot), (1, 7, slot));
        journal.clear(unanswered[0].slot);
        assert_eq!(journal.packet(unanswered[0].slot), [0; packet::SIZE]);
        drop(write_end);
        assert!(matches!(journal.read(7, read_end.as_fd()).unwrap(), Read::End));
    }

    /// How many workers may begin with a request; each has ended from outside or by itself.
    fn beginnings(spared: impl Fn(usize) -> bool) -> usize {
        let memory = small();
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

    #[test]
    fn a_request_has_its_age_over_the_death_of_a_worker() {
        let memory = small();
        let again = SharedMemory::open(memory.as_fd().try_clone_to_owned().unwrap()).unwrap();
        let (read_end, write_end) = pipe::ReadEnd::create().unwrap();
        let mut bytes: Bytes = [0; packet::SIZE];
        bytes[packet::TOKEN_OFFSET] = 9;
        write(&write_end, &bytes);
        let Read::Packet(slot) = Journal::open(memory, false).0.read(7, read_end.as_fd()).unwrap() else {
            panic!("the packet is there")
        };
        std::thread::sleep(std::time::Duration::from_millis(20));
        let journal = Journal::open(again, false).0;
        assert!((20..10_000).contains(&journal.waited(slot)), "{} ms", journal.waited(slot));
    }

    #[test]
    fn after_a_flood_its_memory_is_given_back() {
        let memory = create().unwrap();
        let again = SharedMemory::open(memory.as_fd().try_clone_to_owned().unwrap()).unwrap();
        let before = again.touched().len();
        let (mut journal, _) = Journal::open(memory, false);
        let (read_end, write_end) = pipe::ReadEnd::create().unwrap();
        let mut bytes: Bytes = [0; packet::SIZE];
        bytes[packet::TOKEN_OFFSET] = 9;
        let mut slots = Vec::new();
        for _ in 0..1000 {
            write(&write_end, &bytes);
            let Read::Packet(slot) = journal.read(7, read_end.as_fd()).unwrap() else { panic!() };
            assert!(journal.has_share(slot));
            slots.push(slot);
        }
        assert!(again.touched().len() > before + 900);
        slots.into_iter().for_each(|slot| journal.clear(slot));
        assert!(again.touched().len() <= before + KEPT as usize + 16, "{}", again.touched().len());
        write(&write_end, &bytes);
        assert!(matches!(journal.read(7, read_end.as_fd()).unwrap(), Read::Packet(_)));
    }

    #[test]
    fn memory_of_another_format_is_refused() {
        assert!(check(&create().unwrap()).is_ok());
        let other = SharedMemory::create(4.try_into().unwrap()).unwrap();
        assert!(check(&other).is_err());
    }

    fn write(fd: &std::os::fd::OwnedFd, bytes: &[u8]) {
        use std::io::Write as _;
        std::fs::File::from(fd.try_clone().unwrap()).write_all(bytes).unwrap();
    }

    #[test]
    fn who_asked_is_remembered_over_the_death_of_a_worker() {
        let memory = create().unwrap();
        let again = SharedMemory::open(memory.as_fd().try_clone_to_owned().unwrap()).unwrap();
        let (mut journal, _) = Journal::open(memory, false);
        journal.remember(Path::new("/net/a"), 1000, 100);
        journal.remember(Path::new("/net/b"), 1001, 100);
        journal.remember(Path::new("/net/a"), 7, 8);
        journal.forget(Path::new("/net/b"));
        journal.remember(Path::new(&"x".repeat(4000)), 1, 1);
        let (journal, unanswered) = Journal::open(again, false);
        assert!(unanswered.is_empty());
        assert_eq!(journal.requester(Path::new("/net/a")), Some((7, 8)));
        assert_eq!(journal.requester(Path::new("/net/b")), None);
    }
}
