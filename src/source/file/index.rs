//! One text map in memory: its bytes, and a table that finds the line of a key.
//!
//! The text is kept once, as read. The table holds the offsets of the keys in it, some 5 to 10 bytes for each, so that a
//! million entries cost some 11 MB above their text, and the last key is found as fast as the first. An index never
//! changes: a changed file makes a new one, while lookups go on in the old one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::sync::Arc;

use hashbrown::HashTable;
use memchr::{memchr, memchr_iter, memrchr};

use super::super::{Found, Mode};
use crate::map::{Format, Include, KeyError, RawEntry, Serves, SourceSpec, amd, key, master, toml};
use crate::text::lines::{self, Line, USERS_ONLY};
use crate::text::{Diagnostic, Position, Severity};

/// Diagnostics kept of one file; the rest is only counted. A binary file by mistake must not fill the log.
const DIAGNOSTICS_MAX: usize = 50;

/// The line number is noted every so many bytes, so that the place of an entry costs no walk from the start.
const MARK_EVERY: usize = 1 << 10;

/// The keys of one map file.
pub struct Index {
    text: Text,
    /// The offset of the first line of each key.
    table: HashTable<u32>,
    hasher: RandomState,
    /// Those that serve some keys come before those that serve all.
    wildcards: Vec<Wildcard>,
    includes: Vec<IncludeLine>,
    /// Newlines before byte `i * MARK_EVERY`.
    marks: Vec<u32>,
    diagnostics: Vec<Diagnostic>,
    /// For a map in TOML, the position of each line.
    places: Option<Vec<Position>>,
}

/// A line that stands for keys without a line of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wildcard {
    /// Its offset.
    pub offset: u32,
    /// The keys that it stands for.
    pub serves: Serves,
}

/// Whether there is an entry depends on whether a user has the name of the key, which is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserUnknown;

/// The content of a map file.
struct Text {
    file: Arc<Path>,
    mode: Mode,
    bytes: Vec<u8>,
}

/// An entry as it is in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    /// All after the blanks behind the key; continued lines are joined.
    pub text: Vec<u8>,
    /// Position of its first byte.
    pub place: Position,
    /// In which language it is written.
    pub format: Format,
}

impl From<Raw> for Found {
    fn from(Raw { text, place, format }: Raw) -> Self {
        Self::new(RawEntry::Text { format, text }, place)
    }
}

/// A `+map` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncludeLine {
    /// Its offset: entries below go before its own entries, entries above after them.
    pub offset: u32,
    /// The map that it names.
    pub source: SourceSpec,
    /// Line and column.
    pub place: Position,
}

/// The keys by which one content of a file differs from an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyChanges {
    /// Keys that the earlier content does not have, in the order of the file.
    pub added: Vec<Vec<u8>>,
    /// Keys that only the earlier content has.
    pub removed: Vec<Vec<u8>>,
}

impl Index {
    /// Reads `text`, the content of `file`. Returns `None` when it is too long for the table (4 GiB).
    pub fn build(file: &Arc<Path>, text: Vec<u8>, mode: Mode) -> Option<Self> {
        Self::build_with(file, text, mode, &BTreeMap::new())
    }

    /// As [`build`](Self::build), with what wildcards serve that are more than `*` and `*[passwd]`, by the numbers of their lines.
    fn build_with(file: &Arc<Path>, text: Vec<u8>, mode: Mode, known: &BTreeMap<u32, Serves>) -> Option<Self> {
        u32::try_from(text.len()).ok().filter(|&n| n < u32::MAX)?;
        let marks = marks(&text);
        let text = Text { file: Arc::clone(file), mode, bytes: text };
        let hasher = RandomState::new();
        // Every key has a line of its own, so the table never grows while it is filled.
        let lines = marks.last().copied().unwrap_or_default().saturating_add(count_newlines(text.last_block()));
        let mut table: HashTable<u32> = HashTable::with_capacity(lines as usize + 1);
        let mut wildcards: Vec<Wildcard> = Vec::new();
        let mut includes = Vec::new();
        let mut bad = Bad::default();
        for item in lines::lines(&text.bytes, file) {
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
            } else if let Some(serves) = Serves::of_sun(&line.key).filter(|_| mode != Mode::Amd) {
                match mode {
                    Mode::Indirect | Mode::Amd => match known.get(&line.key_place().line) {
                        Some(serves) => wildcards.push(Wildcard { offset, serves: serves.clone() }),
                        None if wildcards.iter().any(|earlier| earlier.serves == serves) => {}
                        None => wildcards.push(Wildcard { offset, serves }),
                    },
                    Mode::Direct => bad.add(|| {
                        line.key_error("map::wildcard", 0..line.key.len(), "a wildcard in a direct map is ignored")
                            .help("name each mount point, or use an indirect map")
                    }),
                }
            } else {
                match canonical(&line, mode) {
                    Ok(key) => {
                        let hash = hasher.hash_one(&*key);
                        let rehash = |&offset: &u32| hasher.hash_one(text.key(offset).unwrap_or_default());
                        table.entry(hash, |&known| text.is_at(&key, known), rehash).or_insert(offset);
                    }
                    Err(d) => bad.add(|| d),
                }
            }
        }
        wildcards.sort_by_key(|wildcard| wildcard.serves.is_all());
        let diagnostics = bad.finish(file);
        // Comments and continued lines have left room.
        if table.len() < table.capacity() / 4 {
            table.shrink_to_fit(|&offset| hasher.hash_one(text.key(offset).unwrap_or_default()));
        }
        Some(Self { text, table, hasher, wildcards, includes, marks, diagnostics, places: None })
    }

    /// Reads the lines that were made of the content of `file`, which is in another format. Returns `None` when they are too long
    /// for the table (4 GiB).
    pub fn of_lines(file: &Arc<Path>, lines: toml::Lines, mode: Mode) -> Option<Self> {
        let mut index = Self::build_with(file, lines.text, mode, &lines.wildcards)?;
        let of_line = |place: &Position| {
            let line = usize::try_from(place.line).ok()?.checked_sub(1)?;
            lines.places.get(line).cloned()
        };
        for diagnostic in &mut index.diagnostics {
            if let Some(place) = of_line(&diagnostic.place) {
                (diagnostic.place, diagnostic.length, diagnostic.excerpt) = (place, 0, None);
            }
        }
        for include in &mut index.includes {
            include.place = of_line(&include.place).unwrap_or_else(|| Position::whole(file));
        }
        let rest = DIAGNOSTICS_MAX.saturating_sub(index.diagnostics.len());
        index.diagnostics.extend(lines.diagnostics.into_iter().take(rest));
        index.places = Some(lines.places);
        Some(index)
    }

    /// Returns the offset of the first line that has `key`; wildcards and includes are not looked at.
    pub fn find(&self, key: &[u8]) -> Option<u32> {
        self.table.find(self.hasher.hash_one(key), |&offset| self.text.is_at(key, offset)).copied()
    }

    /// Returns the wildcards of an indirect map, in the order in which they are looked at.
    pub fn wildcards(&self) -> &[Wildcard] {
        &self.wildcards
    }

    /// Returns the entry of `key`: its line at `own`, or else the line of the first wildcard that serves the key. `is_user` says
    /// whether a user has this name, or `None` if that is not known; it is asked only if a wildcard depends on it.
    ///
    /// # Errors
    /// It is not known.
    pub fn entry_or_wildcard(
        &self,
        own: Option<u32>,
        key: &[u8],
        is_user: &dyn Fn() -> Option<bool>,
    ) -> Result<Option<Found>, UserUnknown> {
        let line = match own {
            Some(own) => Some(own),
            None => self.wildcard_of(key, is_user)?,
        };
        let found = line.and_then(|line| self.entry(line));
        Ok(found.map(|raw| Found { by_wildcard: own.is_none(), ..raw.into() }))
    }

    fn wildcard_of(&self, key: &[u8], is_user: &dyn Fn() -> Option<bool>) -> Result<Option<u32>, UserUnknown> {
        for Wildcard { offset, serves } in &self.wildcards {
            // Dumps and checks ask for the wildcard itself.
            let is_served = if key == b"*" { serves.is_all() } else { serves.matches(key) };
            if is_served && (!serves.users || is_user().ok_or(UserUnknown)?) {
                return Ok(Some(*offset));
            }
        }
        Ok(None)
    }

    /// Returns the `+map` lines, in order.
    pub fn includes(&self) -> &[IncludeLine] {
        &self.includes
    }

    /// Returns what is wrong with the file.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Returns how many different keys there are, the wildcard not counted.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns whether there is no key (there may be a wildcard or includes).
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Returns whether there is nothing but errors.
    pub fn is_broken(&self) -> bool {
        let nothing = self.is_empty() && self.wildcards.is_empty() && self.includes.is_empty();
        nothing && self.diagnostics.iter().any(|d| d.severity == Severity::Error)
    }

    /// Returns the content of the file.
    pub fn text(&self) -> &[u8] {
        &self.text.bytes
    }

    /// Returns the path of the file.
    pub fn file(&self) -> &Arc<Path> {
        &self.text.file
    }

    /// Returns the offsets of all keys, in the order of the file.
    pub fn offsets(&self) -> Vec<u32> {
        let mut offsets: Vec<u32> = self.table.iter().copied().collect();
        offsets.sort_unstable();
        offsets
    }

    /// Returns the key at an offset that this index has returned.
    pub fn key(&self, offset: u32) -> Option<Cow<'_, [u8]>> {
        self.text.key(offset)
    }

    /// Returns the entry at an offset that this index has returned.
    pub fn entry(&self, offset: u32) -> Option<Raw> {
        let line = self.text.line(offset)?;
        let mut place = line.entry_place();
        place.line = place.line.saturating_add(self.newlines_before(line_start(&self.text.bytes, offset)));
        let Some(places) = &self.places else {
            return Some(Raw { text: line.entry.into_owned(), place, format: Format::Sun });
        };
        let of_line = usize::try_from(place.line).ok()?.checked_sub(1)?;
        let place = places.get(of_line).cloned().unwrap_or(place);
        Some(Raw { text: line.entry.into_owned(), place, format: Format::Toml })
    }

    /// Returns the keys by which this content differs from `old`. What both begin with is skipped.
    pub fn key_changes(&self, old: &Self) -> KeyChanges {
        let common = common_lines(&self.text.bytes, &old.text.bytes);
        let rest = |index: &Self| {
            let mut offsets: Vec<u32> = index.table.iter().copied().filter(|&o| o as usize >= common).collect();
            offsets.sort_unstable();
            offsets
        };
        let missing = |in_this: &Self, of: &Self| {
            let keys = rest(of).into_iter().filter_map(|offset| of.key(offset));
            keys.filter(|key| in_this.find(key).is_none()).map(Cow::into_owned).collect::<Vec<_>>()
        };
        let added = missing(old, self);
        let none_removed = self.len() == old.len() + added.len();
        KeyChanges { removed: if none_removed { Vec::new() } else { missing(self, old) }, added }
    }

    fn newlines_before(&self, offset: usize) -> u32 {
        let block = offset / MARK_EVERY;
        let rest = self.text.bytes.get(block * MARK_EVERY..offset).unwrap_or_default();
        self.marks.get(block).copied().unwrap_or(0) + count_newlines(rest)
    }
}

impl Text {
    /// The bytes behind the last mark.
    fn last_block(&self) -> &[u8] {
        self.bytes.chunks(MARK_EVERY).next_back().unwrap_or_default()
    }

    /// Reads the logical line with its key at `offset`, its number counted from 1.
    fn line(&self, offset: u32) -> Option<Line<'_>> {
        let start = line_start(&self.bytes, offset);
        let mut end = offset as usize;
        // The reader looks ahead: it gets no more than the line, which goes on where a newline follows a backslash.
        loop {
            end = memchr(b'\n', self.bytes.get(end..)?).map_or(self.bytes.len(), |n| end + n);
            let last = self.bytes.get(..end)?.last();
            if end == self.bytes.len() || last != Some(&b'\\') {
                break;
            }
            end += 1;
        }
        lines::lines(self.bytes.get(start..end)?, &self.file).next()?.ok()
    }

    /// The key of the line at `offset`.
    fn key(&self, offset: u32) -> Option<Cow<'_, [u8]>> {
        let text = self.bytes.get(offset as usize..).unwrap_or_default();
        // Most keys are written as they are.
        let end = memchr::memchr3(b' ', b'\t', b'\\', text)?;
        let plain = text.get(..end)?;
        if text.get(end) != Some(&b'\\') && is_plain(plain) {
            return Some(Cow::Borrowed(plain));
        }
        let line = self.line(offset)?;
        canonical(&line, self.mode).ok().map(|key| Cow::Owned(key.into_owned()))
    }

    /// Returns whether the line at `offset` has `key`.
    fn is_at(&self, key: &[u8], offset: u32) -> bool {
        let text = self.bytes.get(offset as usize..).unwrap_or_default();
        let blank_follows = || matches!(text.get(key.len()), Some(b' ' | b'\t'));
        if text.starts_with(key) && blank_follows() && is_plain(key) {
            return true;
        }
        self.key(offset).is_some_and(|at| at.as_ref() == key)
    }
}

/// Returns whether a key is written in a map as it is: nothing in it must be protected, and nothing is resolved.
fn is_plain(key: &[u8]) -> bool {
    let is_special = |&b: &u8| matches!(b, b'"' | b'\\' | b'\n' | b' ' | b'\t');
    !key.iter().any(is_special) && !key.ends_with(b"/") && !key.windows(2).any(|two| two == b"//")
}

/// Returns how many bytes two texts have in common from their start, up to a place before which both have the same
/// lines.
fn common_lines(a: &[u8], b: &[u8]) -> usize {
    const BLOCK: usize = 4096;
    let blocks = a.chunks_exact(BLOCK).zip(b.chunks_exact(BLOCK)).take_while(|(a, b)| a == b).count() * BLOCK;
    let rest = |text: &'_ [u8]| -> usize { text.len().min(blocks) };
    let (rest_a, rest_b) = (a.get(rest(a)..).unwrap_or_default(), b.get(rest(b)..).unwrap_or_default());
    let equal = blocks + rest_a.iter().zip(rest_b).take_while(|(a, b)| a == b).count();
    // A line depends on the one after it, since one that begins with a blank spoils the line before. Continued lines
    // belong together.
    let line_end = |mut end: usize| loop {
        let Some(before) = a.get(..end).and_then(|text| memrchr(b'\n', text)) else { return 0 };
        end = before;
        if before.checked_sub(1).and_then(|last| a.get(last)) != Some(&b'\\') {
            return before;
        }
    };
    line_end(line_end(equal))
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("file", &self.text.file).field("keys", &self.len()).finish_non_exhaustive()
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
        Mode::Amd if key.starts_with(b"/") && *key != *amd::DEFAULTS_KEY => {
            ("a key with a slash in front is ignored", "write it without; only /defaults begins with a slash")
        }
        Mode::Indirect | Mode::Amd if matches!(key.as_ref(), b"." | b"..") => {
            ("nobody can ask for this key", "choose another name")
        }
        Mode::Amd if *line.key == *USERS_ONLY => {
            ("only Sun maps and maps in TOML have a wildcard for the names of users", "write * and a selector")
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
        assert_eq!(map.entry(map.wildcards()[0].offset).unwrap().text, b"w");
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
        assert_eq!(map.wildcards(), []);
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
                let raw = Raw { text: line.entry.to_vec(), place: line.entry_place(), format: Format::Sun };
                if line.key.as_ref() != b"*" && !model.iter().any(|(k, _)| *k == key.as_ref()) {
                    model.push((key.to_vec(), raw));
                }
            }
            prop_assert_eq!(map.len(), model.len());
            prop_assert_eq!(
                map.offsets().into_iter().map(|o| map.key(o).unwrap().into_owned()).collect::<Vec<_>>(),
                model.iter().map(|(k, _)| k.clone()).collect::<Vec<_>>()
            );
            for (key, raw) in &model {
                prop_assert_eq!(map.find(key).and_then(|o| map.entry(o)), Some(raw.clone()));
            }
            for (key, _) in &lines {
                let expected = model.iter().any(|(k, _)| k == key.as_bytes());
                prop_assert_eq!(map.find(key.as_bytes()).is_some(), expected);
                // The table asks for other keys only when a part of their hashes is equal.
                let at = map.offsets().into_iter().filter(|&offset| map.text.is_at(key.as_bytes(), offset)).count();
                prop_assert_eq!(at, usize::from(expected));
            }
        }

        #[test]
        fn key_changes_equal_the_difference_of_the_keys(
            before in proptest::collection::vec(("[ab\\\\\"/ ]{0,2}[a-d]", "[ab\\\\\n\"]{0,3}"), 0..30),
            cut in 0usize..30,
            end in proptest::collection::vec(("[ab\\\\\"/ ]{0,2}[a-d]", "[ab\\\\\n\"]{0,3}"), 0..10),
            direct: bool,
        ) {
            let mode = if direct { Mode::Direct } else { Mode::Indirect };
            let text = |lines: &[(String, String)]| -> String {
                lines.iter().map(|(key, entry)| format!("{key} x{entry}\n")).collect()
            };
            let after: Vec<_> = before.iter().take(cut).chain(&end).chain(before.iter().skip(cut + 3)).cloned().collect();
            let (old, new) = (index(text(&before).as_bytes(), mode), index(text(&after).as_bytes(), mode));
            let keys = |of: &Index| of.offsets().into_iter().map(|o| of.key(o).unwrap().into_owned()).collect::<Vec<_>>();
            let (old_keys, new_keys) = (keys(&old), keys(&new));
            let only = |a: &[Vec<u8>], b: &[Vec<u8>]| a.iter().filter(|k| !b.contains(k)).cloned().collect::<Vec<_>>();
            let changes = new.key_changes(&old);
            prop_assert_eq!(changes.added, only(&new_keys, &old_keys));
            prop_assert_eq!(changes.removed, only(&old_keys, &new_keys));
        }
    }
}
