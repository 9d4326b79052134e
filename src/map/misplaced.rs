//! Words of an entry in the place of a location that are not locations: the likely intention, and how to write it.

use super::known::options::look_like_options;
use super::known::typographic;
use super::location::Flaw;
use super::words::Word;
use crate::text::Escaped;

/// The words around one without a colon.
pub(super) struct Around<'a> {
    /// The last word of options.
    pub option: Option<Word<'a>>,
    /// The locations before the word.
    pub before: &'a [Word<'a>],
    /// The location after it.
    pub next: Word<'a>,
    /// The entry from the next location on.
    pub rest: &'a [u8],
    /// Whether they belong to a part of a multi-mount.
    pub in_part: bool,
}

/// Says what `plain`, a word without a colon before a location, may have been meant for.
pub(super) fn flaw(plain: Word<'_>, around: &Around<'_>) -> Flaw {
    let Around { option, before, next, in_part, .. } = *around;
    let shown = Escaped::start_of(plain.raw);
    if let Some(flaw) = options(option, plain) {
        return flaw;
    }
    if before.is_empty() && (plain.raw.ends_with(b",") || next.raw.starts_with(b",")) {
        let first = plain.raw.strip_suffix(b",").unwrap_or(plain.raw);
        let second = next.raw.strip_prefix(b",").unwrap_or(next.raw);
        let help = format!("write {},{} without blanks", Escaped::start_of(first), Escaped::start_of(second));
        return Flaw::new(0, "a blank in a list of hosts", help);
    }
    if plain.raw.iter().all(|b| b"=->:|".contains(b)) {
        let help = "write the key, a blank, the options and the location, with nothing else between them";
        return Flaw::new(0, format!("\"{shown}\" separates nothing in a map"), help);
    }
    match before.last().filter(|_| !in_part) {
        Some(path) => {
            let help = format!("write \"{} {shown}\"", Escaped::start_of(path.raw));
            Flaw::new(0, "a blank in the path", help)
        }
        None => part(plain, around),
    }
}

/// A word that has no host: a part of a multi-mount without its slash, or the rest of a key with a blank.
fn part(plain: Word<'_>, around: &Around<'_>) -> Flaw {
    let shown = Escaped::start_of(plain.raw);
    let message = format!("{shown} has no host; parts of a multi-mount begin with a slash: /{shown}");
    let may_be_key = around.before.is_empty() && !around.in_part;
    let is_second_word = around.option.is_none() && !look_like_hosts(plain.raw);
    let help = if may_be_key && (is_second_word || memchr::memmem::find(around.rest, plain.raw).is_some()) {
        format!("write /{shown}; or, if {shown} belongs to the key, quote the key: \"KEY {shown}\"")
    } else {
        format!("write /{shown}")
    };
    Flaw { code: "sun::part", ..Flaw::new(0, message, help) }
}

/// Returns whether a word is written like the name of a host in a domain.
fn look_like_hosts(word: &[u8]) -> bool {
    memchr::memchr2(b'.', b'(', word).is_some()
}

/// Options that are taken for a location: without a dash, or after a blank in their list.
pub(super) fn options(option: Option<Word<'_>>, plain: Word<'_>) -> Option<Flaw> {
    let shown = Escaped::start_of(plain.raw);
    if let Some((character, better)) = typographic(plain.raw) {
        let flaw = Flaw::new(0, format!("a typographic {character}"), format!("write {better}"));
        return Some(Flaw { code: "sun::dash", ..flaw });
    }
    let (message, help) = match option {
        Some(before) if before.raw == b"-o" => ("-o is an option of mount(8)", format!("leave it out: -{shown}")),
        Some(before) if before.raw == b"-t" => ("-t is an option of mount(8)", format!("write -fstype={shown}")),
        Some(before) if before.raw.ends_with(b"=") => {
            ("a blank after the =", format!("write {}{shown}", Escaped::start_of(before.raw)))
        }
        Some(before) if before.raw.ends_with(b",") || plain.raw.starts_with(b",") => {
            let list = Escaped::start_of(before.raw);
            let rest = Escaped::start_of(plain.raw.strip_prefix(b",").unwrap_or(plain.raw));
            let comma = if before.raw.ends_with(b",") { "" } else { "," };
            ("a blank in a list of options", format!("write {list}{comma}{rest}"))
        }
        Some(before) if before.raw == b"-" => ("a blank after the dash", format!("write -{shown}")),
        _ if look_like_options(plain.raw) => ("options without a dash", format!("options begin with a dash: -{shown}")),
        _ => return None,
    };
    Some(Flaw { code: "sun::dash", ..Flaw::new(0, message, help) })
}
