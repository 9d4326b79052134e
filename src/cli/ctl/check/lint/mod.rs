//! Finds text that the parsers accept because automount(8) does, but that probably does not have the intended meaning.
//!
//! Each finding is a warning at the word, with a suggestion. Files that work as intended give no warnings: if both meanings are
//! likely, nothing is reported.

pub(super) mod amd;
mod entry;
mod hidden;
mod key;
mod location;
mod master;
mod option;
mod text;

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::map::{MasterOptions, key as map_key};
use crate::source::Mode;
use crate::text::{Diagnostic, Escaped, Line, Position, lines};

pub(super) use hidden::{in_the_way, nested, unusual};
pub(super) use master::line as master;
pub(super) use option::planned;
pub(super) use text::whole;

/// A map file, and what is known about it from elsewhere.
pub(super) struct Map<'a> {
    pub(super) file: &'a Arc<Path>,
    pub(super) text: &'a [u8],
    pub(super) mode: Mode,
    /// Whether the file is looked at without the master map that names it.
    pub(super) is_alone: bool,
    /// The options of the line of the master map.
    pub(super) options: &'a MasterOptions,
    /// Returns whether there is a variable of this name.
    pub(super) is_variable: &'a dyn Fn(&[u8]) -> bool,
    /// The indirect mount points, and where the master map names them.
    pub(super) mount_points: &'a [(Vec<u8>, Position)],
}

/// Examines a map in Sun format, line by line.
pub(super) fn map(map: &Map<'_>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut first: HashMap<Vec<u8>, u32> = HashMap::new();
    let mut keys = Vec::new();
    for line in lines(map.text, map.file).flatten().filter(|line| !line.is_include()) {
        key::examine(&line, map.mode, &mut found);
        if map.mode == Mode::Direct {
            hidden::direct(&line, map.mount_points, &mut found);
            keys.extend(map_key::unescape(&line.key).ok().map(|key| (key.into_owned(), line.key_place())));
        }
        repeated(&line, &mut first, &mut found);
        entry::examine(&line, map, &mut found);
        text::typographic(&line, &mut found);
    }
    hidden::below(&keys, &mut found);
    found
}

/// Warns of a key that an earlier line has, as only the first one counts.
fn repeated(line: &Line<'_>, first: &mut HashMap<Vec<u8>, u32>, found: &mut Vec<Diagnostic>) {
    let Ok(key) = map_key::unescape(&line.key) else { return };
    // A star behind a backslash is an ordinary key.
    let key = if &*key == b"*" { std::borrow::Cow::Borrowed(&*line.key) } else { key };
    let number = line.key_place().line;
    let earlier = *first.entry(key.clone().into_owned()).or_insert(number);
    if earlier == number {
        return;
    }
    let (message, help) = match &*key {
        b"*[passwd]" => {
            ("a second wildcard is never used".to_owned(), format!("line {earlier} is used for all names of users"))
        }
        b"*" => ("a second wildcard is never used".to_owned(), format!("line {earlier} is used for all keys")),
        key => {
            let help = format!("line {earlier} comes first; remove one of the two");
            (format!("the key \"{}\" a second time is never used", Escaped::start_of(key)), help)
        }
    };
    found.push(warning(line, Part::Key(0..line.key.len()), "map::shadowed", message, help));
}

/// Bytes of a line.
enum Part {
    Key(Range<usize>),
    Entry(Range<usize>),
}

fn warning(
    line: &Line<'_>,
    part: Part,
    code: &'static str,
    message: impl Into<String>,
    help: impl Into<String>,
) -> Diagnostic {
    let error = match part {
        Part::Key(part) => line.key_error(code, part, message),
        Part::Entry(part) => line.entry_error(code, part, message),
    };
    error.help(help).into_warning()
}
