//! The lines of a text map: `KEY blanks ENTRY`, the same for master maps and file maps.
//!
//! A backslash at the end of a line joins the next one, `#` as the first non-blank starts a comment, double quotes
//! and backslashes protect blanks in the key. Nothing is resolved here: quotes and backslashes are still in place in
//! what comes out, only the joints are gone. A line without joints borrows from the text, so that a million entries
//! cost no allocation.
//!
//! What is wrong with one line takes away that line (and the entry that it spoils), never the rest.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memchr::{memchr, memchr_iter, memchr3, memrchr};

use super::{Diagnostic, Escaped, Position};

/// The longest key in bytes: what a file name, and so the kernel's packet, can carry.
pub const KEY_MAX: usize = 255;

/// The key that stands for the names of all users.
pub const USERS_ONLY: &[u8] = b"*[passwd]";

/// The longest entry in bytes, joints taken out.
pub const ENTRY_MAX: usize = 16384;

/// Reads the lines of `text`, the content of `file`.
pub fn lines<'a>(text: &'a [u8], file: &'a Arc<Path>) -> Lines<'a> {
    Lines { text, file, at: 0, number: 1, special: 0, ahead: None }
}

/// Iterator over the lines of a text map, comments and empty ones left out.
#[derive(Debug, Clone)]
pub struct Lines<'a> {
    text: &'a [u8],
    file: &'a Arc<Path>,
    /// Start of the next physical line.
    at: usize,
    /// Its number.
    number: u32,
    /// There is no backslash, quote or NUL in `at..special`.
    special: usize,
    /// A diagnostic that follows the one just given.
    ahead: Option<Diagnostic>,
}

/// One logical line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// The key, quotes and backslashes kept. One that starts with `+` is an include.
    pub key: Cow<'a, [u8]>,
    /// All after the blanks behind the key, trailing blanks and `#` included; empty for an include.
    pub entry: Cow<'a, [u8]>,
    /// Offset of the key in the text.
    pub offset: usize,
    /// From the start of the physical line with the key to the end of the logical line, joints included.
    raw: &'a [u8],
    file: &'a Arc<Path>,
    /// Number of the first line of `raw`.
    number: u32,
    /// Start of the entry in `raw`.
    entry_at: usize,
    /// Start of the key in `raw`.
    key_at: usize,
}

impl<'a> Line<'a> {
    /// Returns whether the line is an include, `+map`.
    pub fn is_include(&self) -> bool {
        self.key.first() == Some(&b'+')
    }

    /// Returns the bytes of the text from the beginning of its first line to the end of its last one.
    pub fn extent(&self) -> Range<usize> {
        let start = self.offset - self.key_at;
        start..start + self.raw.len()
    }

    /// Returns the position of the key.
    pub fn key_place(&self) -> Position {
        self.place(self.key_at)
    }

    /// Returns the position of the entry.
    pub fn entry_place(&self) -> Position {
        self.place(self.entry_at)
    }

    /// An error about the bytes `part` of the key.
    pub fn key_error(&self, code: &'static str, part: Range<usize>, message: impl Into<String>) -> Diagnostic {
        self.error(code, self.key_at, part, message.into())
    }

    /// An error about the bytes `part` of the entry.
    pub fn entry_error(&self, code: &'static str, part: Range<usize>, message: impl Into<String>) -> Diagnostic {
        self.error(code, self.entry_at, part, message.into())
    }

    /// Returns `d` with its line and its position in the file. The column of `d` counts from the start of the entry, without
    /// regard to continuation lines.
    #[must_use]
    pub fn locate(&self, d: Diagnostic) -> Diagnostic {
        let entry = self.entry_place();
        let start = d.place.column.saturating_sub(entry.column) as usize;
        if d.place.line != entry.line || d.place.column < entry.column {
            return d;
        }
        let Diagnostic { place, length, excerpt, .. } =
            self.entry_error(d.code, start..start.saturating_add(d.length as usize), "");
        Diagnostic { place, length, excerpt, ..d }
    }

    /// An error about `part`, counted from `base` on without joints.
    fn error(&self, code: &'static str, base: usize, part: Range<usize>, message: String) -> Diagnostic {
        let rest = self.raw.get(base..).unwrap_or_default();
        let at = base + Bytes::new(rest).nth(part.start).map_or(rest.len(), |b| b.at);
        self.raw_error(code, at, part.len(), message)
    }

    /// An error about `length` bytes from byte `at` of `raw` on.
    fn raw_error(&self, code: &'static str, at: usize, length: usize, message: String) -> Diagnostic {
        let start = self.raw.get(..at).and_then(|b| memrchr(b'\n', b)).map_or(0, |n| n + 1);
        let end = self.raw.get(at..).and_then(|b| memchr(b'\n', b)).map_or(self.raw.len(), |n| at + n);
        let d = Diagnostic::error(code, self.place(at), message).length(length.min(end.saturating_sub(at)));
        d.excerpt(self.raw.get(start..end).unwrap_or_default())
    }

    /// The place of byte `at` of `raw`.
    fn place(&self, at: usize) -> Position {
        let before = self.raw.get(..at).unwrap_or(self.raw);
        let line = u32::try_from(memchr_iter(b'\n', before).count()).unwrap_or(u32::MAX);
        let column = at - memrchr(b'\n', before).map_or(0, |n| n + 1);
        Position::new(self.file, self.number.saturating_add(line), u32::try_from(column + 1).unwrap_or(u32::MAX))
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<Line<'a>, Diagnostic>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(d) = self.ahead.take() {
            return Some(Err(d));
        }
        loop {
            let start = self.at;
            let rest = self.text.get(start..).filter(|r| !r.is_empty())?;
            let end = memchr(b'\n', rest).map_or(self.text.len(), |n| start + n);
            let key_at = start + blanks(self.text.get(start..end).unwrap_or_default());
            if key_at == end || self.text.get(key_at) == Some(&b'#') {
                self.advance(end);
                continue;
            }
            if self.special < start {
                self.special = start;
            }
            if self.special < end {
                // The known stretch ends inside this line: look for the next special byte from there on.
                let known = self.special;
                let found = self.text.get(known..).and_then(|t| memchr3(b'\\', b'"', 0, t));
                self.special = found.map_or(self.text.len(), |n| known + n);
            }
            if self.special >= end {
                return Some(self.plain(start, key_at, end));
            }
            if self.text.get(key_at..=end) == Some(b"\\\n") {
                // A joint before the key: the next line is like any first one.
                self.advance(end);
                continue;
            }
            return Some(self.careful(start, key_at));
        }
    }
}

impl<'a> Lines<'a> {
    /// Goes on behind the newline at `end`.
    fn advance(&mut self, end: usize) {
        let passed = self.text.get(self.at..end).unwrap_or_default();
        let lines = memchr_iter(b'\n', passed).count() + 1;
        self.number = self.number.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
        self.at = end + 1;
    }

    /// A line without backslash, quote or NUL.
    fn plain(&mut self, start: usize, key_at: usize, end: usize) -> Result<Line<'a>, Diagnostic> {
        let words = self.text.get(key_at..end).unwrap_or_default();
        let key_len = words.iter().position(|&b| is_blank(b)).unwrap_or(words.len());
        let (key, rest) = words.split_at_checked(key_len).unwrap_or((words, &[]));
        let skipped = blanks(rest);
        let line = Line {
            key: Cow::Borrowed(key),
            entry: Cow::Borrowed(rest.get(skipped..).unwrap_or_default()),
            offset: key_at,
            raw: self.text.get(start..end).unwrap_or_default(),
            file: self.file,
            number: self.number,
            entry_at: key_at + key_len + skipped - start,
            key_at: key_at - start,
        };
        self.number = self.number.saturating_add(1);
        self.at = end + 1;
        self.check(line)
    }

    /// A line with joints, quotes, escapes or a NUL byte.
    fn careful(&mut self, start: usize, key_at: usize) -> Result<Line<'a>, Diagnostic> {
        let text = self.text.get(key_at..).unwrap_or_default();
        let (mut key_end, mut entry_at, mut nul) = (None, None, None);
        let mut bytes = Bytes::new(text);
        for Byte { at, byte, inert } in bytes.by_ref() {
            if byte == 0 {
                nul.get_or_insert(at);
            }
            match (key_end, entry_at) {
                (None, _) if !inert && is_blank(byte) => key_end = Some(at),
                (Some(_), None) if inert || !is_blank(byte) => entry_at = Some(at),
                _ => {}
            }
        }
        let end = bytes.at;
        let key_end = key_end.unwrap_or(end);
        let entry_at = entry_at.unwrap_or(end);
        let key = join(text.get(..key_end).unwrap_or_default());
        let include = key.first() == Some(&b'+');
        let mut line = Line {
            key,
            entry: join(text.get(entry_at..end).unwrap_or_default()),
            offset: key_at,
            raw: self.text.get(start..key_at + end).unwrap_or_default(),
            file: self.file,
            number: self.number,
            entry_at: key_at + entry_at - start,
            key_at: key_at - start,
        };
        self.advance(key_at + end);
        // Nothing of an include is read but its key.
        let read = if include { key_end } else { end };
        let bad = if let Some(at) = nul.filter(|&at| at < read) {
            let d = line.raw_error("line::nul", line.key_at + at, 1, "NUL byte in a map".to_owned());
            Some(d.help("remove the byte: a map is text"))
        } else if let Some(at) = bytes.quote.filter(|&at| at < read) {
            let message = format!("unmatched \" in the line of key {}", quoted(&line.key));
            let d = line.raw_error("line::quote", line.key_at + at, 1, message);
            Some(d.help("close the quote on the same line, or write \\\" for the character"))
        } else {
            None
        };
        match bad {
            Some(d) => {
                if !include {
                    self.skip_indented();
                }
                Err(d)
            }
            None => {
                if include {
                    line.entry = Cow::Borrowed(&[]);
                }
                self.check(line)
            }
        }
    }

    /// Applies the rules that concern a whole line.
    fn check(&mut self, mut line: Line<'a>) -> Result<Line<'a>, Diagnostic> {
        if line.is_include() {
            line.entry = Cow::Borrowed(&[]);
            return line.check_key().map(|()| line);
        }
        if line.entry.is_empty() {
            let message = format!("key {} without an entry", quoted(&line.key));
            return Err(line.key_error("line::no-entry", 0..line.key.len(), message).help(without_entry(&line.key)));
        }
        let spoiled = self.skip_indented().then(|| {
            let message = format!(
                "bad map entry \"{}\" for key \"{}\": the next line starts with a blank",
                Escaped::start_of(&line.entry),
                Escaped::start_of(&line.key)
            );
            let help = if line.entry.ends_with(b"\\\r") {
                "lines end in CR LF; the backslash does not join them: save the file with the line ends of Unix"
            } else if line.entry.trim_ascii_end().ends_with(b"\\") {
                "a blank follows the backslash, which joins the lines only at the end: remove the blank"
            } else {
                "end the line with a backslash to continue it, or remove the blank from the next line"
            };
            line.key_error("line::indented", 0..line.key.len(), message).help(help)
        });
        let checked = line.check_key().and_then(|()| line.check_entry());
        match (spoiled, checked) {
            (None, Ok(())) => Ok(line),
            (Some(d), Ok(())) | (None, Err(d)) => Err(d),
            (Some(spoiled), Err(d)) => {
                self.ahead = Some(spoiled);
                Err(d)
            }
        }
    }

    /// Skips the line at hand if it starts with a blank; says whether it did.
    fn skip_indented(&mut self) -> bool {
        let rest = self.text.get(self.at..).unwrap_or_default();
        if !rest.first().copied().is_some_and(is_blank) {
            return false;
        }
        let mut bytes = Bytes::new(rest);
        bytes.by_ref().for_each(drop);
        self.advance(self.at + bytes.at);
        true
    }
}

impl Line<'_> {
    fn check_key(&self) -> Result<(), Diagnostic> {
        if self.key.len() > KEY_MAX {
            let message = format!("key of {} bytes starting {}", self.key.len(), quoted(&self.key));
            let help = format!("a key may be {KEY_MAX} bytes long");
            return Err(self.key_error("line::key-too-long", 0..self.key.len(), message).help(help));
        }
        if self.key.len() > 1 && self.key.first() == Some(&b'*') && *self.key != *USERS_ONLY {
            let message = format!("a wildcard key is \"*\" alone, not {}", quoted(&self.key));
            let help = match self.key.starts_with(b"*[") {
                true => "write *[passwd] for the names of users, or \\* for a key that starts with a star",
                false => "put a blank after the star, or write \\* for a key that starts with one",
            };
            return Err(self.key_error("line::wildcard", 0..self.key.len(), message).help(help));
        }
        Ok(())
    }

    fn check_entry(&self) -> Result<(), Diagnostic> {
        if self.entry.len() > ENTRY_MAX {
            let message = format!("entry of {} bytes for key {}", self.entry.len(), quoted(&self.key));
            let help = format!("an entry may be {ENTRY_MAX} bytes long");
            return Err(self.entry_error("line::entry-too-long", 0..self.entry.len(), message).help(help));
        }
        Ok(())
    }
}

fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", Escaped::start_of(bytes))
}

/// Returns what to write in place of a key that has no entry.
fn without_entry(key: &[u8]) -> String {
    let include =
        [&b"dir:/"[..], b"file:/", b"yp:", b"nis:", b"ldap:", b"sss:"].iter().any(|kind| key.starts_with(kind));
    if include {
        return format!("write +{} to include it", Escaped::start_of(key));
    }
    // A colon or an equals sign in the place of the blank.
    let at = key.iter().position(|b| b":=".contains(b)).filter(|&at| at > 0);
    let parts = at.and_then(|at| Some((key.get(..at)?, key.get(at + 1..)?)));
    let is_map = |rest: &[u8]| {
        let is_mount_point = key.starts_with(b"/") && rest.starts_with(b"/");
        is_mount_point || memchr::memmem::find(rest, b":/").is_some()
    };
    match parts {
        Some((key, entry)) if is_map(entry) => {
            format!("a blank stands behind the key: write {} {}", Escaped::start_of(key), Escaped::start_of(entry))
        }
        _ => "write the entry on the same line, or end the line with a backslash and go on in the next".to_owned(),
    }
}

/// Tells whether a byte separates key and entry: a carriage return does not.
fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// How many blanks `text` starts with.
fn blanks(text: &[u8]) -> usize {
    text.iter().take_while(|&&b| is_blank(b)).count()
}

/// `raw` without its joints.
fn join(raw: &[u8]) -> Cow<'_, [u8]> {
    match memchr(b'\n', raw) {
        None => Cow::Borrowed(raw),
        Some(_) => Cow::Owned(Bytes::new(raw).map(|b| b.byte).collect()),
    }
}

/// The bytes of one logical line: joints left out, ends before the newline.
struct Bytes<'a> {
    raw: &'a [u8],
    at: usize,
    /// The last byte was a backslash outside quotes.
    escaped: bool,
    /// The position of the open quote.
    quote: Option<usize>,
}

/// A byte at `at` of the raw text; `inert` if a quote or a backslash protects it (or it is one).
struct Byte {
    at: usize,
    byte: u8,
    inert: bool,
}

impl<'a> Bytes<'a> {
    fn new(raw: &'a [u8]) -> Self {
        Self { raw, at: 0, escaped: false, quote: None }
    }
}

impl Iterator for Bytes<'_> {
    type Item = Byte;

    fn next(&mut self) -> Option<Byte> {
        loop {
            let at = self.at;
            let byte = *self.raw.get(at)?;
            if byte == b'\n' {
                return None;
            }
            if byte == b'\\' && !self.escaped && self.raw.get(at + 1) == Some(&b'\n') {
                self.at += 2;
                continue;
            }
            self.at += 1;
            let mut inert = self.escaped || self.quote.is_some();
            if self.escaped {
                self.escaped = false;
            } else if byte == b'"' {
                inert = true;
                self.quote = if self.quote.is_some() { None } else { Some(at) };
            } else if byte == b'\\' && self.quote.is_none() {
                inert = true;
                self.escaped = true;
            }
            return Some(Byte { at, byte, inert });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file() -> Arc<Path> {
        Path::new("/etc/auto.x").into()
    }

    /// Each line as `key|entry`, each diagnostic as `! line:column code`.
    fn read(text: &[u8]) -> Vec<String> {
        let show = |item: Result<Line<'_>, Diagnostic>| match item {
            Ok(line) => format!("{}|{}", Escaped(&line.key), Escaped(&line.entry)),
            Err(d) => format!("! {}:{} {}", d.place.line, d.place.column, d.code),
        };
        lines(text, &file()).map(show).collect()
    }

    #[test]
    fn what_the_reader_makes_of_a_text() {
        let cases: &[(&str, &[&str])] = &[
            ("a srv1:/x\nb\tsrv1:/y", &["a|srv1:/x", "b|srv1:/y"]),
            ("  a   x y  \n", &["a|x y  "]),
            ("# c\n\n  # c \\\na x # y\n", &["a|x # y"]),
            ("a -ro \\\n   srv1:/x\nb y\n", &["a|-ro    srv1:/x", "b|y"]),
            ("\\\n  \\\n# c\na x\n", &["a|x"]),
            ("a\\\nb x\n", &["ab|x"]),
            ("a\\ b x\n", &["a\\ b|x"]),
            ("a\\\\ x\\\\\nb y\n", &["a\\\\|x\\\\", "b|y"]),
            ("\"a b\" x\n", &["\"a b\"|x"]),
            ("a\\\" x\n", &["a\\\"|x"]),
            ("\"a\\\" x\n", &["\"a\\\"|x"]),
            ("a srv1:\"/x\nb y\n", &["! 1:8 line::quote", "b|y"]),
            ("\"a x\nb y\n", &["! 1:1 line::quote", "b|y"]),
            ("* x\n\\*a x\n*a x\n", &["*|x", "\\*a|x", "! 3:1 line::wildcard"]),
            ("+auto.master # don't \"\n+x\n y\n", &["+auto.master|", "+x|", "! 3:2 line::no-entry"]),
            ("a x\n   junk\nb y\n", &["! 1:1 line::indented", "b|y"]),
            ("a x\n   junk \\\n more\nb y\n", &["! 1:1 line::indented", "b|y"]),
            ("a x\n\n b y\n", &["a|x", "b|y"]),
            ("x \na y\nz", &["! 1:1 line::no-entry", "a|y", "! 3:1 line::no-entry"]),
            ("a x\0y\nb y\n", &["! 1:4 line::nul", "b|y"]),
            ("a x\r\nb\r\n", &["a|x\\x0d", "! 2:1 line::no-entry"]),
            ("a x\\", &["a|x\\"]),
            ("a \\\n\n", &["! 1:1 line::no-entry"]),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text.as_bytes()), *expected, "{text:?}");
        }
    }

    #[test]
    fn the_limits_are_those_of_automount() {
        let key = |n| format!("{} x\n", "k".repeat(n));
        let entry = |n| format!("k {}\nb y\n", "x".repeat(n));
        assert_eq!(read(key(255).as_bytes()), [format!("{}|x", "k".repeat(255))]);
        assert_eq!(read(key(256).as_bytes()), ["! 1:1 line::key-too-long"]);
        assert_eq!(read(entry(16384).as_bytes()).len(), 2);
        assert_eq!(read(entry(16385).as_bytes()), ["! 1:3 line::entry-too-long", "b|y"]);
        assert_eq!(read(b"k\x00k x\n   y\nb y\n"), ["! 1:2 line::nul", "b|y"]);
        let both = format!("{} x\n y\n", "k".repeat(256));
        assert_eq!(read(both.as_bytes()), ["! 1:1 line::key-too-long", "! 1:1 line::indented"]);
    }

    #[test]
    fn places_follow_joints() {
        let file = file();
        let text = b"# c\n a\\\nb \\\n  one two\n";
        let line = lines(text, &file).next().unwrap().unwrap();
        assert_eq!((line.key.as_ref(), line.entry.as_ref()), (&b"ab"[..], &b"one two"[..]));
        assert_eq!(line.key_place().to_string(), "/etc/auto.x:2:2");
        assert_eq!(line.entry_place().to_string(), "/etc/auto.x:4:3");
        let d = line.entry_error("x::y", 4..7, "bad");
        assert_eq!((d.to_string().as_str(), d.length), ("/etc/auto.x:4:7: bad", 3));
        assert_eq!(d.excerpt.as_deref(), Some(&b"  one two"[..]));
        let d = line.key_error("x::y", 1..2, "bad");
        assert_eq!((d.to_string().as_str(), d.length), ("/etc/auto.x:3:1: bad", 1));
    }

    #[test]
    fn what_was_found_in_the_entry_is_found_in_the_file() {
        let (text, file) = (b"a -ro \\\n  srv1:x\n", file());
        let line = lines(text, &file).next().unwrap().unwrap();
        let Position { file, line: number, column } = line.entry_place();
        let d = line.locate(Diagnostic::error("x", Position { file, line: number, column: column + 6 }, "y").length(6));
        assert_eq!((d.place.line, d.place.column, d.length, d.message.as_str()), (2, 3, 6, "y"));
        assert_eq!(d.excerpt.as_deref(), Some(&b"  srv1:x"[..]));
    }

    #[test]
    fn a_plain_line_borrows() {
        let file = file();
        let line = lines(b"a x\\ y\n", &file).next().unwrap().unwrap();
        assert!(matches!((line.key, line.entry), (Cow::Borrowed(_), Cow::Borrowed(_))));
    }

    /// Bytes in which everything that the reader knows is frequent.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![4 => Just(b'a'), 3 => Just(b' '), 3 => Just(b'\n'), 2 => Just(b'\\'), 1 => Just(b'"'),
            1 => Just(b'#'), 1 => Just(b'*'), 1 => Just(b'+'), 1 => Just(0), 1 => any::<u8>()];
        proptest::collection::vec(byte, 0..80)
    }

    proptest! {
        #[test]
        fn every_text_is_read_to_its_end_and_every_place_is_in_it(text in text()) {
            let file = file();
            let physical: Vec<&[u8]> = text.split(|&b| b == b'\n').collect();
            let within = |place: &Position, length: u32| {
                let line = physical[place.line as usize - 1];
                prop_assert!(place.column >= 1 && (place.column + length) as usize <= line.len() + 1);
                Ok(())
            };
            for item in lines(&text, &file) {
                match item {
                    Ok(line) => {
                        prop_assert!(!line.key.is_empty() && (line.is_include() || !line.entry.is_empty()));
                        prop_assert_eq!(&text[line.offset], &line.key[0]);
                        within(&line.key_place(), 0)?;
                        within(&line.entry_place(), 0)?;
                        for at in 0..=line.entry.len() {
                            let d = line.entry_error("x::y", at..line.entry.len(), "");
                            within(&d.place, d.length)?;
                            prop_assert_eq!(d.excerpt.as_deref(), Some(physical[d.place.line as usize - 1]));
                        }
                    }
                    Err(d) => within(&d.place, d.length)?,
                }
            }
        }

        #[test]
        fn plain_entries_come_back(entries in proptest::collection::vec(("[a-z/]{1,9}", "[a-z:/# -]{1,9}"), 0..9)) {
            let text: String = entries.iter().map(|(k, e)| format!("{k} x{e}\n")).collect();
            let expected: Vec<String> = entries.iter().map(|(k, e)| format!("{k}|x{e}")).collect();
            prop_assert_eq!(read(text.as_bytes()), expected);
        }
    }
}
