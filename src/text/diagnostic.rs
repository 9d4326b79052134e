//! Errors and warnings about input, with position and suggestion.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::Escaped;
use super::secrets::{masked_in_place, masked_message};

/// A position in an input. Lines and columns count from 1, columns in bytes; 0 means unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The file (or `-`, or the name of another kind of source).
    pub file: Arc<Path>,
    /// Line, from 1.
    pub line: u32,
    /// Column in bytes, from 1.
    pub column: u32,
}

impl Position {
    /// Creates the position at `line` and `column` of `file`.
    pub fn new(file: &Arc<Path>, line: u32, column: u32) -> Self {
        Self { file: Arc::clone(file), line, column }
    }

    /// Creates a position for errors that concern the file as a whole.
    pub fn whole(file: &Path) -> Self {
        Self { file: file.into(), line: 0, column: 0 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Escaped::path(&self.file))?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        Ok(())
    }
}

/// The longest line that is kept with a diagnostic.
const EXCERPT_MAX: usize = 4096;

/// How serious a diagnostic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The input works, but probably not as intended.
    Warning,
    /// The part is invalid and was left out; the rest works.
    Error,
}

/// A mount point or a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(pub Vec<u8>);

/// An error or warning about an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Stable name, `area::what`, e.g. `master::timeout`.
    pub code: &'static str,
    /// The position.
    pub place: Position,
    /// The number of marked bytes from `place.column` on; 0 if unknown.
    pub length: u32,
    /// The message, in lower case, without a period.
    pub message: String,
    /// A suggestion.
    pub help: Option<String>,
    /// The mount point or the key that is left out, if it is about one.
    pub about: Option<Box<Name>>,
    /// The line of the input, without its newline, if available.
    pub excerpt: Option<Box<[u8]>>,
}

impl Diagnostic {
    /// Creates an error with `code` at `place`. Escapes what cannot be printed and masks passwords: a message may quote the
    /// input, and the readers of TOML quote it as it is.
    pub fn error(code: &'static str, place: Position, message: impl Into<String>) -> Self {
        let message = printable(message.into());
        Self { severity: Severity::Error, code, place, length: 0, message, help: None, about: None, excerpt: None }
    }

    /// Creates a warning with `code` at `place`.
    pub fn warning(code: &'static str, place: Position, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, place, message) }
    }

    /// Turns it into a warning.
    #[must_use]
    pub fn into_warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// Adds a suggestion. Escapes it as the message.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(printable(help.into()));
        self
    }

    /// Names the mount point or the key that is left out.
    #[must_use]
    pub fn about(mut self, name: &[u8]) -> Self {
        self.about = Some(Box::new(Name(name.to_vec())));
        self
    }

    /// Sets the number of marked bytes.
    #[must_use]
    pub fn length(mut self, bytes: usize) -> Self {
        self.length = u32::try_from(bytes).unwrap_or(u32::MAX);
        self
    }

    /// Adds the line of the position with masked passwords, unless the line is too long to show.
    #[must_use]
    pub fn excerpt(mut self, line: &[u8]) -> Self {
        self.excerpt = (line.len() <= EXCERPT_MAX).then(|| masked_in_place(line).into());
        self
    }
}

/// Escapes control and invisible characters of `text`, and masks passwords.
fn printable(text: String) -> String {
    let escaped = Escaped(text.as_bytes()).to_string();
    match masked_message(&escaped) {
        Cow::Borrowed(_) if escaped.len() == text.len() => text,
        masked => masked.into_owned(),
    }
}

/// Formats one line for a log: `/etc/auto.master:1:28: invalid timeout "5m": write --timeout=300`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        if let Some(help) = &self.help {
            write!(f, ": {help}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_names_place_and_way_out() {
        let file: Arc<Path> = Path::new("/etc/auto.master").into();
        let d = Diagnostic::error("master::timeout", Position::new(&file, 1, 28), "invalid timeout \"5m\"")
            .help("write --timeout=300");
        assert_eq!(d.to_string(), "/etc/auto.master:1:28: invalid timeout \"5m\": write --timeout=300");
    }

    #[test]
    fn a_message_that_quotes_the_input_cannot_forge_a_log_line() {
        let file: Arc<Path> = Path::new("/etc/auto.toml").into();
        let d =
            Diagnostic::error("toml::syntax", Position::new(&file, 1, 1), "unknown field `a\nb\u{b}`").help("not \x1b");
        assert_eq!(d.to_string(), "/etc/auto.toml:1:1: unknown field `a\\x0ab\\x0b`: not \\x1b");
    }
}
