//! The changes of a reload, with their positions.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Bytes;
use crate::text::Position;

/// A place in a file. Lines and columns count from 1, columns in bytes; 0 means the file as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The file, or the name of another kind of source.
    pub file: Bytes,
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl From<&Position> for Place {
    fn from(position: &Position) -> Self {
        Self { file: Bytes::from(&*position.file), line: position.line, column: position.column }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        Ok(())
    }
}

/// A line of the master map that is not served, or an autofs mount that is not as the maps want it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The path as it is written; the file, if the error is not about a path.
    pub path: Bytes,
    /// Position of the line, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The mistake, and what to write instead.
    pub reason: String,
    /// Whether this is an autofs mount that a daemon has left which has ended. It keeps nothing from being served.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left: bool,
}

/// How a reload is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reload {
    /// Only compare.
    pub dry_run: bool,
    /// Do not wait for the end.
    pub no_wait: bool,
}

/// How far a reload has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// It has begun.
    Begun,
    /// Another program was installed: it has taken over and reads everything.
    Upgraded,
    /// The master map could not be read; what it said before stays in force.
    Unread,
    /// The maps were compared only; nothing was changed.
    Compared,
    /// The new maps are in force.
    Done,
}

/// The reply to `Reload`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// How far the reload has come.
    pub extent: Extent,
    /// Why the master map could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Milliseconds that it took.
    pub took: u64,
    /// The lines of the master map that are new.
    pub added: Vec<Change>,
    /// The lines that are gone.
    pub removed: Vec<Change>,
    /// The lines that say something else.
    pub changed: Vec<Change>,
    /// The number of lines that are as before.
    pub unchanged: u32,
    /// Lines that were refused, with the reasons.
    pub refused: Vec<Problem>,
    /// The number of failed keys that are tried again at their next access.
    pub forgotten: u32,
}

impl Reloaded {
    /// Returns the reply without any difference.
    pub fn new(extent: Extent) -> Self {
        Self {
            extent,
            reason: None,
            took: 0,
            added: Vec::new(),
            removed: Vec::new(),
            changed: Vec::new(),
            unchanged: 0,
            refused: Vec::new(),
            forgotten: 0,
        }
    }
}

/// A line of the master map that a reload adds, removes or changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The mount point; `/-` for a direct map.
    pub path: Bytes,
    /// The map.
    pub map: Bytes,
    /// The difference, or the treatment of existing mounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// Position of the line, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}
