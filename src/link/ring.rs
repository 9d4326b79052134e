//! A ring of entries in a memory file: the last ones that fit, each with a serial number, over the death of the process that
//! writes them.
//!
//! A header says where the oldest entry is. Each entry follows the one before it, or begins at the start of the ring if the
//! one before is the last that fits before the end. The serial numbers are consecutive, so that a reader knows where the
//! newest entry ends. There is one writer at a time. It gathers entries that follow each other and writes them in one step,
//! after it has moved the header past the entries that it overwrites. So a writer that dies at any step loses at most the
//! entries that it had gathered.

use std::collections::VecDeque;
use std::io;

use crate::sys::memory_file::MemoryFile;

/// Marks a ring of this layout.
const MAGIC: u64 = u64::from_ne_bytes(*b"afsring1");

/// Bytes of the header: magic, serial number and offset of the oldest entry.
const HEADER: u64 = WORDS as u64;

/// Bytes before the text of an entry: serial number, time of the last repetition, length, number of repetitions.
const ENTRY: u64 = WORDS as u64;

/// Bytes of three words.
const WORDS: usize = 24;

/// Maximum number of bytes that are gathered before they are written.
const GATHERED: usize = 64 << 10;

/// An entry as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its number.
    pub serial: u64,
    /// How many times it has happened.
    pub count: u32,
    /// The time given with the last repetition.
    pub last: u64,
    /// Its text.
    pub text: Vec<u8>,
}

/// A ring, as its writer sees it.
#[derive(Debug)]
pub struct Ring {
    file: MemoryFile,
    start: u64,
    size: u64,
    /// Maximum number of entries.
    limit: usize,
    entries: VecDeque<Entry>,
    /// The serial number of the next entry.
    next: u64,
    /// Entries that are not written yet, and the offset of the first of them.
    gathered: Vec<u8>,
    gathered_at: u64,
    /// Whether the header in the file says something else than it should.
    is_header_old: bool,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    at: u64,
    length: u32,
    count: u32,
}

impl Entry {
    fn end(&self) -> u64 {
        self.at + ENTRY + u64::from(self.length)
    }
}

impl Ring {
    /// Opens the ring at `start` of a file, with `size` bytes and at most `limit` entries. What an earlier writer has left is
    /// kept; anything else counts as an empty ring.
    ///
    /// # Errors
    /// Returns the errors of pread(2) and pwrite(2).
    pub fn open(file: MemoryFile, start: u64, size: u64, limit: usize) -> io::Result<Self> {
        let mut ring = Self {
            file,
            start,
            size,
            limit,
            entries: VecDeque::new(),
            next: 1,
            gathered: Vec::new(),
            gathered_at: HEADER,
            is_header_old: false,
        };
        let mut header = [0; WORDS];
        ring.file.read(start, &mut header)?;
        let [magic, serial, mut at] = words(&header);
        if magic != MAGIC {
            ring.write_header()?;
            return Ok(ring);
        }
        ring.next = serial;
        while ring.entries.len() < limit {
            let found = ring.entry(at, ring.next).or_else(|| ring.entry(HEADER, ring.next));
            let Some((entry, _)) = found else { break };
            at = entry.end();
            ring.next += 1;
            ring.entries.push_back(entry);
        }
        Ok(ring)
    }

    /// Returns the entry with this number and the time of its last repetition, if it is at that offset.
    fn entry(&self, at: u64, serial: u64) -> Option<(Entry, u64)> {
        if at.checked_add(ENTRY)? > self.size {
            return None;
        }
        let mut head = [0; WORDS];
        self.read(at, &mut head).ok()?;
        let [found, last, rest] = words(&head);
        let length = u32::try_from(rest & u64::from(u32::MAX)).ok()?;
        let count = u32::try_from(rest >> 32).ok()?;
        let entry = Entry { at, length, count };
        (found == serial && entry.end() <= self.size).then_some((entry, last))
    }

    fn write_header(&self) -> io::Result<()> {
        let at = self.entries.front().map_or(HEADER, |first| first.at);
        self.file.write(self.start, &bytes([MAGIC, self.oldest(), at]))
    }

    /// Returns the place in `gathered` of an offset whose bytes are gathered.
    fn in_gathered(&self, at: u64) -> Option<usize> {
        usize::try_from(at.checked_sub(self.gathered_at)?).ok().filter(|index| *index < self.gathered.len())
    }

    /// Reads the bytes at an offset, whether they are written or gathered.
    fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        match self.in_gathered(at) {
            None => self.file.read(self.start + at, bytes),
            Some(index) => {
                let found = self.gathered.get(index..index + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
                bytes.copy_from_slice(found);
                Ok(())
            }
        }
    }

    /// Writes the entries that were gathered.
    ///
    /// # Errors
    /// Returns the errors of pwrite(2); the entries are lost then.
    pub fn flush(&mut self) -> io::Result<()> {
        let header = if std::mem::take(&mut self.is_header_old) { self.write_header() } else { Ok(()) };
        let written = header.and_then(|()| self.file.write(self.start + self.gathered_at, &self.gathered));
        self.gathered.clear();
        written
    }

    /// Returns the number of the oldest entry, or of the next one if there is none.
    pub fn oldest(&self) -> u64 {
        self.next - self.entries.len() as u64
    }

    /// Returns the number that the next entry will have.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Adds an entry, and drops the oldest ones that are in its place. Returns its number. The entry is written by
    /// [`flush`](Self::flush) at the latest.
    ///
    /// # Errors
    /// Returns `InvalidInput` if it is longer than a quarter of the ring, and the errors of pwrite(2).
    pub fn append(&mut self, text: &[u8], time: u64) -> io::Result<u64> {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        let needed = ENTRY + u64::from(length);
        if needed > self.size / 4 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut at = self.entries.back().map_or(HEADER, Entry::end);
        let before = self.entries.len();
        if at + needed > self.size {
            // The entries from here to the end are older than those at the start.
            while self.entries.front().is_some_and(|first| first.at >= at) {
                self.entries.pop_front();
            }
            at = HEADER;
        }
        let in_the_way = |first: &Entry| first.at >= at && first.at < at + needed;
        while self.entries.front().is_some_and(in_the_way) || self.entries.len() >= self.limit {
            self.entries.pop_front();
        }
        self.is_header_old |= self.entries.len() < before;
        if at != self.gathered_at + self.gathered.len() as u64 || self.gathered.len() > GATHERED {
            self.flush()?;
            self.gathered_at = at;
        }
        // The header names the place of the first entry.
        self.is_header_old |= self.entries.is_empty();
        self.gathered.extend_from_slice(&bytes([self.next, time, u64::from(length) | 1 << 32]));
        self.gathered.extend_from_slice(text);
        self.entries.push_back(Entry { at, length, count: 1 });
        self.next += 1;
        Ok(self.next - 1)
    }

    /// Counts one more repetition of an entry. Returns `false` if the ring does not have the entry any more.
    ///
    /// # Errors
    /// Returns the errors of pwrite(2).
    pub fn again(&mut self, serial: u64, time: u64) -> io::Result<bool> {
        let index = serial.checked_sub(self.oldest()).and_then(|index| usize::try_from(index).ok());
        let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) else { return Ok(false) };
        entry.count = entry.count.saturating_add(1);
        let rest = u64::from(entry.length) | u64::from(entry.count) << 32;
        let (at, head) = (entry.at, bytes([serial, time, rest]));
        let gathered = self.in_gathered(at).and_then(|index| self.gathered.get_mut(index..index + head.len()));
        match gathered {
            Some(gathered) => gathered.copy_from_slice(&head),
            None => self.file.write(self.start + at, &head)?,
        }
        Ok(true)
    }

    /// Returns one entry.
    pub fn get(&self, serial: u64) -> Option<Stored> {
        let index = usize::try_from(serial.checked_sub(self.oldest())?).ok()?;
        let at = self.entries.get(index)?.at;
        let (entry, last) = self.entry(at, serial)?;
        let mut text = vec![0; entry.length as usize];
        self.read(at + ENTRY, &mut text).ok()?;
        Some(Stored { serial, count: entry.count, last, text })
    }

    /// Returns all entries, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = Stored> + '_ {
        (self.oldest()..self.next).rev().filter_map(|serial| self.get(serial))
    }
}

fn words(bytes: &[u8; WORDS]) -> [u64; 3] {
    let word = |n: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(bytes.get(n * 8..n * 8 + 8).unwrap_or(&[0; 8]));
        u64::from_ne_bytes(word)
    };
    [word(0), word(1), word(2)]
}

fn bytes(words: [u64; 3]) -> [u8; WORDS] {
    let mut bytes = [0; WORDS];
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: u64 = 2000;

    fn file() -> MemoryFile {
        MemoryFile::create(c"ring", SIZE + 100).unwrap()
    }

    fn ring(file: &MemoryFile) -> Ring {
        Ring::open(file.duplicate().unwrap(), 100, SIZE, 20).unwrap()
    }

    fn texts(ring: &Ring) -> Vec<(u64, Vec<u8>)> {
        ring.newest_first().map(|stored| (stored.serial, stored.text)).collect()
    }

    #[test]
    fn repetitions_are_counted_over_the_death_of_the_writer() {
        let file = file();
        let mut first = ring(&file);
        assert_eq!((first.append(b"a", 10).unwrap(), first.append(b"b", 11).unwrap()), (1, 2));
        assert!(first.again(1, 12).unwrap() && !first.again(3, 1).unwrap());
        first.flush().unwrap();
        assert!(first.again(1, 13).unwrap());
        drop(first);
        let mut second = ring(&file);
        let a = Stored { serial: 1, count: 3, last: 13, text: b"a".to_vec() };
        assert_eq!(second.get(1), Some(a));
        assert!(second.again(1, 14).unwrap());
        assert_eq!((second.get(1).unwrap().count, second.next()), (4, 3));
        assert!(second.append(&[0; 600], 0).is_err(), "too long");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// The ring holds the last entries, and the next writer finds those that were written.
        #[test]
        fn the_last_entries_are_kept(
            lengths in prop::collection::vec((0..300_usize, any::<bool>()), 0..80),
            reopen in 0..80_usize,
        ) {
            let file = file();
            let mut one = ring(&file);
            let mut all = Vec::new();
            for (n, (length, flush)) in lengths.into_iter().enumerate() {
                if n == reopen {
                    one.flush().unwrap();
                    one = ring(&file);
                }
                let text = vec![n as u8; length];
                all.push((one.append(&text, 0).unwrap(), text));
                let kept = texts(&one);
                let expected: Vec<_> = all.iter().rev().take(kept.len()).cloned().collect();
                prop_assert_eq!(&kept, &expected);
                prop_assert!(kept.len() >= 3.min(all.len()) && kept.len() <= 20);
                let found = texts(&ring(&file));
                prop_assert!(found.iter().all(|entry| all.contains(entry)), "a writer that dies here leaves other entries");
                if flush {
                    one.flush().unwrap();
                    prop_assert_eq!(texts(&ring(&file)), expected);
                }
            }
        }
    }

    #[test]
    fn an_entry_that_replaces_all_others_is_found_again() {
        let file = file();
        let one = || Ring::open(file.duplicate().unwrap(), 100, SIZE, 1).unwrap();
        let mut ring = one();
        for text in [b"a", b"b", b"c"] {
            ring.append(text, 0).unwrap();
            ring.flush().unwrap();
            assert_eq!(texts(&one()), texts(&ring));
        }
        assert_eq!(texts(&ring), [(3, b"c".to_vec())]);
    }

    #[test]
    fn other_bytes_are_an_empty_ring() {
        let file = file();
        file.write(100, &[7; 1000]).unwrap();
        let mut ring = ring(&file);
        assert_eq!((texts(&ring).len(), ring.append(b"x", 0).unwrap()), (0, 1));
    }
}
