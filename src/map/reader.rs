//! From the text of an entry to an [`Entry`]: the one way for the daemon, `autofsctl check` and `explain`.
//!
//! A format is one reader here. Nothing is asked and nothing waits: what the text depends on comes in by the [`Scope`].

use std::collections::BTreeSet;
use std::sync::Arc;

use super::amd::{self, Around, Question};
use super::spec::Format;
use super::{Body, Entry, OptionList, Scope, expand, sun, variables};
use crate::directory::hesiod;
use crate::text::{Diagnostic, Position};

/// An entry as a source has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawEntry {
    /// A text, and the language in which it is written.
    Text {
        /// The language.
        format: Format,
        /// All after the blanks behind the key; continued lines are joined.
        text: Vec<u8>,
    },
    /// An entry in am-utils format, with the defaults of its map.
    Amd(Arc<amd::Raw>),
    /// An entry that the source has made itself.
    Typed(Entry),
}

impl RawEntry {
    /// Returns the text as it could be in a Sun map: for dumps, `explain` and the log.
    pub fn text(&self) -> std::borrow::Cow<'_, [u8]> {
        match self {
            Self::Text { text, .. } => text.into(),
            Self::Amd(raw) => (&*raw.text).into(),
            Self::Typed(entry) => entry.to_bytes().into(),
        }
    }

    /// Returns whether the entry hides its key.
    pub fn is_hidden(&self) -> bool {
        match self {
            Self::Text { text, .. } => sun::is_hidden(text),
            Self::Amd(_) => false,
            Self::Typed(entry) => entry.body == Body::Hidden,
        }
    }

    /// Returns whether the entry names a variable whose value the user database knows.
    pub fn asks_for_user(&self) -> bool {
        match self {
            Self::Text { text, .. } => variables(text).any(Scope::asks_for_user),
            Self::Amd(_) | Self::Typed(_) => false,
        }
    }
}

/// Returns what must be known of the machine and the network before the entry of `key` can be read. The answers may lead to
/// more questions. An entry with errors asks for nothing.
pub fn questions(
    raw: &RawEntry,
    place: &Position,
    key: &[u8],
    scope: &Scope<'_>,
    around: &Around<'_>,
) -> BTreeSet<Question> {
    match raw {
        RawEntry::Amd(raw) => raw.read(place, key, scope, around).map(|read| read.needed).unwrap_or_default(),
        RawEntry::Text { .. } | RawEntry::Typed(_) => BTreeSet::new(),
    }
}

/// Reads the entry of `key`, which starts at `place`. Adds what is doubtful but works to `warnings`.
///
/// # Errors
/// The text is no entry, or its format cannot be read by this version.
pub fn entry(
    raw: &RawEntry,
    place: &Position,
    key: &[u8],
    scope: &Scope<'_>,
    slashify_colons: bool,
    around: &Around<'_>,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Entry, Box<Diagnostic>> {
    let (format, text) = match raw {
        RawEntry::Typed(entry) => return Ok(entry.clone()),
        RawEntry::Amd(raw) => return amd_entry(raw, place, key, scope, around, warnings),
        RawEntry::Text { format, text } => (*format, text),
    };
    let unsupported = |what: &str| {
        let message = format!("{what} entries are not supported yet");
        Err(Box::new(Diagnostic::error("map::format", place.clone(), message)))
    };
    match format {
        Format::Sun => {
            let expanded = expand(text, key, &|name| scope.lookup(name), slashify_colons);
            sun::parse(&expanded, place, warnings).map_err(Box::new)
        }
        Format::Toml | Format::Fstab => {
            let expanded = expand(text, key, &|name| scope.lookup(name), slashify_colons);
            let from = warnings.len();
            let entry = sun::parse(&expanded, place, warnings);
            // The columns of the line that was made of the entry are not those of the file.
            let in_file = |d: &mut Diagnostic| (d.place, d.length, d.excerpt) = (place.clone(), 0, None);
            warnings.iter_mut().skip(from).for_each(in_file);
            entry.map_err(|mut error| {
                in_file(&mut error);
                Box::new(error)
            })
        }
        Format::Amd => unsupported("am-utils"),
        Format::Hesiod => match hesiod::entry(std::slice::from_ref(text)) {
            Ok(text) => {
                let expanded = expand(&text, key, &|name| scope.lookup(name), slashify_colons);
                sun::parse(&expanded, place, warnings).map_err(Box::new)
            }
            Err(why) => Err(Box::new(Diagnostic::error("map::format", place.clone(), why))),
        },
    }
}

fn amd_entry(
    raw: &amd::Raw,
    place: &Position,
    key: &[u8],
    scope: &Scope<'_>,
    around: &Around<'_>,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Entry, Box<Diagnostic>> {
    let read = raw.read(place, key, scope, around)?;
    if !read.needed.is_empty() && !around.all {
        let message = "not all that the selectors of the entry ask for could be found out";
        return Err(Box::new(Diagnostic::error("amd::unknown", place.clone(), message)));
    }
    warnings.extend(read.warnings);
    Ok(Entry { options: OptionList::default(), body: Body::Amd(read.choices) })
}
