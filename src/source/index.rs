//! One text map in memory: its bytes, and a table that finds the line of a key.
//!
//! The text is kept once, as read. The table is open addressing over `hash:offset` pairs of 8 bytes at a load of 3/4,
//! so that a million entries cost some 11 MB above their text, and the last key is found as fast as the first. An
//! index never changes: a changed file makes a new one, and who still answers from the old one is not disturbed.

use std::borrow::Cow;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::sync::Arc;

use memchr::{memchr, memchr_iter, memchr2, memrchr};

use crate::map::{Include, KeyError, SourceSpec, key, master};
use crate::text::lines::{self, Line};
use crate::text::{Diagnostic, Position, Severity};

use super::{Mode, Raw};

/// Diagnostics kept of one file; the rest is only counted. A binary file by mistake must not fill the log.
const DIAGNOSTICS_MAX: usize = 50;

/// The line number is noted every so many bytes, so that the place of an entry costs no walk from the start.
const MARK_EVERY: usize = 4096;

/// The keys of one map file.
pub struct Index {
    file: Arc<Path>,
    mode: Mode,
    text: Vec<u8>,
    /// `hash << 32 | offset of the key + 1`; 0 is an empty slot.
    table: Box<[u64]>,
    hasher: RandomState,
    keys: usize,
    wildcard: Option<u32>,
    includes: Vec<IncludeLine>,
    /// Newlines before byte `i * MARK_EVERY`.
    marks: Vec<u32>,
    diagnostics: Vec<Diagnostic>,
}

/// A `+map` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncludeLine {
    /// Where it stands: entries below this offset go before what it brings, entries above after it.
    pub offset: u32,
    /// The map that it names.
    pub source: SourceSpec,
    /// Line and column.
    pub place: Position,
}

impl Index {
    /// Reads `text`, the content of `file`. `None` when it is too long for the table (4 GiB).
    pub fn build(file: &Arc<Path>, text: Vec<u8>, mode: Mode) -> Option<Self> {
        // One below the largest number: the table stores `offset + 1`.
        u32::try_from(text.len()).ok().filter(|&n| n < u32::MAX)?;
        let hasher = RandomState::new();
        let mut slots = Vec::new();
        let mut wildcard = None;
        let mut includes = Vec::new();
        let mut bad = Bad::default();
        for item in lines::lines(&text, file) {
            let line = match item {
                Ok(line) => line,
                Err(d) => {
                    bad.add(|| d);
                    continue;
                }
            };
            // The length was checked above.
            let Ok(offset) = u32::try_from(line.offset) else { break };
            if line.is_include() {
                match master::parse_include(&line) {
                    Ok(Include { source, place }) => includes.push(IncludeLine { offset, source, place }),
                    Err(d) => bad.add(|| d),
                }
            } else if line.key.as_ref() == b"*" {
                match mode {
                    Mode::Indirect => wildcard = wildcard.or(Some(offset)),
                    Mode::Direct => bad.add(|| {
                        line.key_error("map::wildcard", 0..1, "a wildcard in a direct map is ignored")
                            .help("name each mount point, or use an indirect map")
                    }),
                }
            } else {
                match canonical(&line, mode) {
                    Ok(key) => slots.push(slot(&hasher, &key, offset)),
                    Err(d) => bad.add(|| d),
                }
            }
        }
        let diagnostics = bad.finish(file);
        let mut index = Self {
            file: Arc::clone(file),
            mode,
            table: vec![0; slots.len() + slots.len() / 3 + 1].into_boxed_slice(),
            hasher,
            keys: 0,
            wildcard,
            includes,
            marks: marks(&text),
            text,
            diagnostics,
        };
        for slot in slots {
            index.insert(slot);
        }
        Some(index)
    }

    /// The offset of the first line that has `key`; wildcards and includes are not looked at.
    pub fn find(&self, key: &[u8]) -> Option<u32> {
        let hash = hash(&self.hasher, key);
        let mut at = self.home(hash);
        loop {
            let slot = *self.table.get(at)?;
            if slot == 0 {
                return None;
            }
            if (slot >> 32) as u32 == hash && self.is_at(key, slot as u32 - 1) {
                return Some(slot as u32 - 1);
            }
            at = self.after(at);
        }
    }

    /// The offset of the first `*` line of an indirect map.
    pub fn wildcard(&self) -> Option<u32> {
        self.wildcard
    }

    /// The `+map` lines, in order.
    pub fn includes(&self) -> &[IncludeLine] {
        &self.includes
    }

    /// What is wrong with the file.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// How many different keys there are, the wildcard not counted.
    pub fn len(&self) -> usize {
        self.keys
    }

    /// Whether there is no key (there may be a wildcard or includes).
    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// Whether there is nothing but errors.
    pub fn is_broken(&self) -> bool {
        let nothing = self.is_empty() && self.wildcard.is_none() && self.includes.is_empty();
        nothing && self.diagnostics.iter().any(|d| d.severity == Severity::Error)
    }

    /// The content of the file.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The file.
    pub fn file(&self) -> &Arc<Path> {
        &self.file
    }

    /// The offsets of all keys, in the order of the file.
    pub fn offsets(&self) -> Vec<u32> {
        let mut offsets: Vec<u32> = self.table.iter().filter(|&&slot| slot != 0).map(|&slot| slot as u32 - 1).collect();
        offsets.sort_unstable();
        offsets
    }

    /// The key at an offset that this index gave out.
    pub fn key(&self, offset: u32) -> Option<Vec<u8>> {
        let line = self.line(offset)?;
        canonical(&line, self.mode).ok().map(Cow::into_owned)
    }

    /// The entry at an offset that this index gave out.
    pub fn entry(&self, offset: u32) -> Option<Raw> {
        let line = self.line(offset)?;
        let mut place = line.entry_place();
        place.line = place.line.saturating_add(self.newlines_before(line_start(&self.text, offset)));
        Some(Raw { text: line.entry.into_owned(), place })
    }

    /// Reads the logical line with its key at `offset`, its number counted from 1.
    fn line(&self, offset: u32) -> Option<Line<'_>> {
        let start = line_start(&self.text, offset);
        let mut end = offset as usize;
        // The reader looks ahead: it gets no more than the line, which goes on where a newline follows a backslash.
        loop {
            end = memchr(b'\n', self.text.get(end..)?).map_or(self.text.len(), |n| end + n);
            let last = self.text.get(..end)?.last();
            if end == self.text.len() || last != Some(&b'\\') {
                break;
            }
            end += 1;
        }
        lines::lines(self.text.get(start..end)?, &self.file).next()?.ok()
    }

    fn newlines_before(&self, offset: usize) -> u32 {
        let block = offset / MARK_EVERY;
        let rest = self.text.get(block * MARK_EVERY..offset).unwrap_or_default();
        self.marks.get(block).copied().unwrap_or(0) + count_newlines(rest)
    }

    /// Whether the line at `offset` has `key`.
    fn is_at(&self, key: &[u8], offset: u32) -> bool {
        let text = self.text.get(offset as usize..).unwrap_or_default();
        let plain = memchr2(b'\\', b'"', key).is_none();
        let blank_follows = || matches!(text.get(key.len()), Some(b' ' | b'\t'));
        if plain && text.starts_with(key) && blank_follows() {
            return true;
        }
        self.line(offset).is_some_and(|line| canonical(&line, self.mode).is_ok_and(|k| k.as_ref() == key))
    }

    /// Adds a slot unless its key is there already.
    fn insert(&mut self, new: u64) {
        let (hash, offset) = ((new >> 32) as u32, new as u32 - 1);
        let mut key = None;
        let mut at = self.home(hash);
        while let Some(&slot) = self.table.get(at) {
            if slot == 0 {
                break;
            }
            if (slot >> 32) as u32 == hash {
                let key = key.get_or_insert_with(|| self.key(offset).unwrap_or_default());
                if self.is_at(key, slot as u32 - 1) {
                    return;
                }
            }
            at = self.after(at);
        }
        if let Some(slot) = self.table.get_mut(at) {
            *slot = new;
            self.keys += 1;
        }
    }

    /// The first slot to try: `hash` scaled to the table's length.
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.table.len() as u64) >> 32) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.table.len() { 0 } else { at + 1 }
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("file", &self.file).field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// Diagnostics up to a limit.
#[derive(Default)]
struct Bad {
    kept: Vec<Diagnostic>,
    dropped: usize,
}

impl Bad {
    fn add(&mut self, diagnostic: impl FnOnce() -> Diagnostic) {
        if self.kept.len() < DIAGNOSTICS_MAX {
            self.kept.push(diagnostic());
        } else {
            self.dropped += 1;
        }
    }

    fn finish(mut self, file: &Path) -> Vec<Diagnostic> {
        if self.dropped > 0 {
            let message = format!("{} more lines are bad", self.dropped);
            self.kept.push(Diagnostic::error("map::many", Position::whole(file), message));
        }
        self.kept
    }
}

fn hash(hasher: &RandomState, key: &[u8]) -> u32 {
    (hasher.hash_one(key) >> 32) as u32
}

fn slot(hasher: &RandomState, key: &[u8], offset: u32) -> u64 {
    u64::from(hash(hasher, key)) << 32 | (u64::from(offset) + 1)
}

/// Start of the physical line with byte `offset`.
fn line_start(text: &[u8], offset: u32) -> usize {
    text.get(..offset as usize).and_then(|before| memrchr(b'\n', before)).map_or(0, |n| n + 1)
}

fn count_newlines(text: &[u8]) -> u32 {
    u32::try_from(memchr_iter(b'\n', text).count()).unwrap_or(u32::MAX)
}

fn marks(text: &[u8]) -> Vec<u32> {
    let mut before = 0u32;
    text.chunks(MARK_EVERY)
        .map(|chunk| {
            let mark = before;
            before = before.saturating_add(count_newlines(chunk));
            mark
        })
        .collect()
}

/// The key of a line as the kernel asks for it, if a map of this mode may have it.
fn canonical<'a>(line: &'a Line<'_>, mode: Mode) -> Result<Cow<'a, [u8]>, Diagnostic> {
    let whole = 0..line.key.len();
    let key = key::unescape(&line.key).map_err(|error| {
        let part = match error {
            KeyError::Control(at) => at..at + 1,
            KeyError::Empty => whole.clone(),
        };
        line.key_error("map::key", part, error.to_string())
    })?;
    let (problem, help) = match mode {
        Mode::Indirect if key.contains(&b'/') => {
            ("a key with a slash is ignored in an indirect map", "name the mount point /- in the master map")
        }
        Mode::Indirect if matches!(key.as_ref(), b"." | b"..") => {
            ("nobody can ask for this key", "choose another name")
        }
        Mode::Direct if !key.starts_with(b"/") => {
            ("a key without a slash in front is ignored in a direct map", "write the whole path")
        }
        Mode::Direct if key.as_ref() == b"/" => ("nothing can be mounted over the root", "name another mount point"),
        _ => return Ok(key),
    };
    let mut diagnostic = line.key_error("map::key", whole, problem).help(help);
    diagnostic.severity = Severity::Warning;
    Err(diagnostic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Escaped;
    use proptest::prelude::*;

    fn index(text: &[u8], mode: Mode) -> Index {
        Index::build(&Path::new("/etc/auto.x").into(), text.to_vec(), mode).unwrap()
    }

    /// `entry@line:column` of a key.
    fn get(index: &Index, key: &[u8]) -> Option<String> {
        let raw = index.entry(index.find(key)?).unwrap();
        Some(format!("{}@{}:{}", Escaped(&raw.text), raw.place.line, raw.place.column))
    }

    fn keys(index: &Index) -> Vec<String> {
        let show = |offset| Escaped(&index.key(offset).unwrap()).to_string();
        index.offsets().into_iter().map(show).collect()
    }

    #[test]
    fn the_first_entry_of_a_key_wins_however_it_is_spelled() {
        let map = index(
            b"a one\n\"a\" two\n\\a three\n\"b c\" x\nb\\ c y\nd \\\n -ro \\\n x:/y\n*\tw\n* v\n",
            Mode::Indirect,
        );
        assert_eq!(get(&map, b"a").as_deref(), Some("one@1:3"));
        assert_eq!(get(&map, b"b c").as_deref(), Some("x@4:7"));
        assert_eq!(get(&map, b"d").as_deref(), Some("-ro  x:/y@7:2"));
        assert_eq!(get(&map, b"b"), None);
        assert_eq!(get(&map, b""), None);
        assert_eq!(get(&map, b"\"a\""), None);
        assert_eq!(map.entry(map.wildcard().unwrap()).unwrap().text, b"w");
        assert_eq!(keys(&map), ["a", "b c", "d"]);
        assert_eq!((map.len(), map.is_empty()), (3, false));
    }

    #[test]
    fn a_map_takes_only_keys_of_its_mode() {
        let text = b"/abs/ x\nb/c x\na y\n. x\n.. x\n/ z\n* w\n//abs//d q\n";
        let map = index(text, Mode::Indirect);
        assert_eq!(keys(&map), ["a"]);
        assert_eq!(map.diagnostics().len(), 6);
        assert!(map.diagnostics().iter().all(|d| d.severity == Severity::Warning));
        let map = index(text, Mode::Direct);
        assert_eq!(keys(&map), ["/abs", "/abs/d"]);
        assert_eq!(get(&map, b"/abs").as_deref(), Some("x@1:7"));
        assert_eq!(map.wildcard(), None);
    }

    #[test]
    fn includes_are_kept_with_their_place() {
        let map = index(b"a x\n +auto.b  # this\nb y\n", Mode::Indirect);
        // A line that starts with a blank spoils the entry before it, an include too.
        assert_eq!(keys(&map), ["b"]);
        let map = index(b"a x\n+auto.b  # this\nb y\n", Mode::Indirect);
        let [include] = map.includes() else { panic!("one include") };
        assert_eq!((include.offset, include.source.name.as_slice()), (4, &b"auto.b"[..]));
        assert_eq!(include.place.to_string(), "/etc/auto.x:2:1");
    }

    #[test]
    fn places_are_right_far_into_a_file() {
        let text: String = (0..5000).map(|n| format!("key{n} \\\n  srv:/{n}\n")).collect();
        let map = index(text.as_bytes(), Mode::Indirect);
        for n in [0, 1, 170, 171, 172, 4999] {
            let expected = format!("srv:/{n}@{}:3", 2 * n + 2);
            assert_eq!(get(&map, format!("key{n}").as_bytes()), Some(expected));
        }
    }

    #[test]
    fn a_binary_file_does_not_fill_the_log() {
        let text: Vec<u8> = (0..100_000u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 7).to_ne_bytes()).collect();
        let map = index(&text, Mode::Indirect);
        assert!(map.diagnostics().len() <= DIAGNOSTICS_MAX + 1);
        assert!(map.diagnostics().last().unwrap().message.ends_with("more lines are bad"));
    }

    proptest! {
        #[test]
        fn lookups_equal_a_walk_over_the_lines(
            lines in proptest::collection::vec(("[ab\\\\\"*+/ ]{0,3}[a-c]", "[ab\\\\\n\"]{0,4}"), 0..40),
            direct: bool,
        ) {
            let mode = if direct { Mode::Direct } else { Mode::Indirect };
            let text: String = lines.iter().map(|(key, entry)| format!("{key} x{entry}\n")).collect();
            let map = index(text.as_bytes(), mode);
            let file: Arc<Path> = Path::new("/etc/auto.x").into();
            let mut model: Vec<(Vec<u8>, Raw)> = Vec::new();
            for line in lines::lines(text.as_bytes(), &file).flatten().filter(|l| !l.is_include()) {
                let Ok(key) = canonical(&line, mode) else { continue };
                let raw = Raw { text: line.entry.to_vec(), place: line.entry_place() };
                if line.key.as_ref() != b"*" && !model.iter().any(|(k, _)| *k == key.as_ref()) {
                    model.push((key.to_vec(), raw));
                }
            }
            prop_assert_eq!(map.len(), model.len());
            prop_assert_eq!(
                map.offsets().into_iter().map(|o| map.key(o).unwrap()).collect::<Vec<_>>(),
                model.iter().map(|(k, _)| k.clone()).collect::<Vec<_>>()
            );
            for (key, raw) in &model {
                prop_assert_eq!(map.find(key).and_then(|o| map.entry(o)), Some(raw.clone()));
            }
            for (key, _) in &lines {
                let expected = model.iter().any(|(k, _)| k == key.as_bytes());
                prop_assert_eq!(map.find(key.as_bytes()).is_some(), expected);
            }
        }
    }
}
