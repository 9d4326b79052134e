//! A TOML text, and the position of what is wrong in it.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Error, ValueDeserializer};

use crate::map::known;
use crate::text::{Diagnostic, Escaped, Position};

/// The text of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) file: &'a Arc<Path>,
}

impl<'a> Source<'a> {
    /// Returns the text as UTF-8.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub(crate) fn utf8(&self) -> Result<&'a str, Diagnostic> {
        std::str::from_utf8(self.text).map_err(|e| {
            let at = e.valid_up_to();
            self.error("toml::utf8", at..at + 1, "not UTF-8").help("TOML is UTF-8: save the file in that encoding")
        })
    }

    /// Parses the text. Returns all tables that can be read, and the errors of the others.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub(crate) fn tables(&self) -> Result<(DeTable<'a>, Vec<Diagnostic>), Diagnostic> {
        let (table, errors) = DeTable::parse_recoverable(self.utf8()?);
        Ok((table.into_inner(), errors.iter().map(|error| self.of(error, 0..0)).collect()))
    }

    /// Returns the position of the byte `at`.
    pub(crate) fn place(&self, at: usize) -> Position {
        let before = self.text.get(..at).unwrap_or(self.text);
        let start = memchr::memrchr(b'\n', before).map_or(0, |n| n + 1);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let line = memchr::memchr_iter(b'\n', before).count() + 1;
        Position::new(self.file, count(line), count(before.len() - start + 1))
    }

    /// Creates an error about the bytes `at`.
    pub(crate) fn error(&self, code: &'static str, at: Range<usize>, message: impl Into<String>) -> Diagnostic {
        let start = memchr::memrchr(b'\n', self.text.get(..at.start).unwrap_or(self.text)).map_or(0, |n| n + 1);
        let rest = self.text.get(start..).unwrap_or_default();
        let line = rest.get(..memchr::memchr(b'\n', rest).unwrap_or(rest.len())).unwrap_or_default();
        let length = at.len().min((start + line.len()).saturating_sub(at.start));
        Diagnostic::error(code, self.place(at.start), message).length(length).excerpt(line)
    }

    /// Returns the diagnostic of an error of the TOML reader; `at` is where it is if the reader does not know.
    pub(crate) fn of(&self, error: &Error, at: Range<usize>) -> Diagnostic {
        // The reader's message is one sentence over several lines, or with what was expected behind a comma.
        let message = error.message().trim().replace('\n', ", ");
        let (what, expected) = match message.split_once(", expected ") {
            Some((what, expected)) => (what, plain(expected)),
            None if message == "duplicate key" => (message.as_str(), "remove one of the two".to_owned()),
            None => (message.as_str(), "see autofs.toml(5)".to_owned()),
        };
        let expected = self.written(what, error.span()).unwrap_or(expected);
        let help = match meant(what, &expected) {
            Some(near) => format!("did you mean {near}? {expected}"),
            None => expected,
        };
        // The reader repeats what is written in the file, however long.
        let what = what.char_indices().nth(200).map_or(what, |(n, _)| what.get(..n).unwrap_or(what));
        self.error("toml::syntax", error.span().unwrap_or(at), what).help(help)
    }

    /// Returns what to write in place of a word without the quotes that it needs.
    fn written(&self, what: &str, at: Option<Range<usize>>) -> Option<String> {
        let start = at?.start;
        let rest = self.text.get(start..)?;
        let line = rest.split(|&b| b == b'\n').next()?;
        let quoted =
            |word: &[u8]| format!("\"{}\"", Escaped::start_of(word.trim_ascii()).to_string().trim_matches('"'));
        match what {
            "string values must be quoted" => {
                let word = line.split(|b| b"#,]}".contains(b)).next().filter(|word| !word.trim_ascii().is_empty())?;
                Some(format!("write {}", quoted(word)))
            }
            "invalid unquoted key" => {
                let from = memchr::memrchr(b'\n', self.text.get(..start)?).map_or(0, |n| n + 1);
                let key = self.text.get(from..start + line.len())?.split(|&b| b == b'=').next()?;
                Some(format!("write {} with quotes: only letters, digits, - and _ go without", quoted(key)))
            }
            "key with no value" if line.starts_with(b":") => Some("write = in place of the colon".to_owned()),
            _ => None,
        }
    }

    /// Reads `value`.
    ///
    /// # Errors
    /// It is not a `T`.
    pub(crate) fn read<T: for<'de> Deserialize<'de>>(&self, value: Spanned<DeValue<'_>>) -> Result<T, Diagnostic> {
        let at = value.span();
        T::deserialize(ValueDeserializer::from(value)).map_err(|error| self.of(&error, at))
    }
}

/// Returns which of the words that were expected was probably meant. The reader shows all words between backticks.
fn meant<'a>(what: &str, expected: &'a str) -> Option<&'a str> {
    let word = what.strip_prefix("unknown ")?.split('`').nth(1)?.to_ascii_lowercase();
    let known = || expected.split('`').skip(1).step_by(2);
    let other = match &*word {
        "location" | "locations" | "src" | "server" | "device" | "export" | "target" | "url" => "source",
        "fstype" | "vfstype" | "fs" => "type",
        "opts" | "mount_options" => "options",
        "mountpoint" | "mount_point" | "dir" => "path",
        word => word,
    };
    known().find(|known| *known == other).or_else(|| known::nearest(word.as_bytes(), known()))
}

/// Returns what the reader expects, in words that do not need to be known from TOML or Rust.
fn plain(expected: &str) -> String {
    match expected {
        "a sequence" => "expected a list, as in [\"one\", \"two\"]".to_owned(),
        "a map" => "expected a table, as in { NAME = \"VALUE\" }".to_owned(),
        "u64" | "u32" => "expected a whole number, 0 or more".to_owned(),
        "a boolean" => "expected true or false".to_owned(),
        "nothing" => "write the number without it".to_owned(),
        expected => format!("expected {expected}"),
    }
}

/// Returns the positions of the elements of a list.
pub(super) fn spans(value: &Spanned<DeValue<'_>>) -> Vec<Range<usize>> {
    match value.get_ref() {
        DeValue::Array(elements) => elements.iter().map(Spanned::span).collect(),
        _ => Vec::new(),
    }
}

/// One string, or a list of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected a string, or a list of strings")]
pub(super) enum Several {
    /// A string.
    One(String),
    /// A list.
    Many(Vec<String>),
}

impl Several {
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
        .iter()
        .map(String::as_str)
    }

    /// Returns options, joined by commas.
    pub(super) fn joined(&self) -> String {
        self.iter().collect::<Vec<_>>().join(",")
    }
}
