//! The options of a master map line: those for the mount point, and those that are passed on to every mount.

use std::ops::Range;

use super::spec::{MasterOptions, Propagation, Verbosity};
use crate::text::quote::{unquote, word};
use crate::text::{Diagnostic, Escaped, Line};

/// Mistake at some bytes of the entry.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) code: &'static str,
    pub(super) part: Range<usize>,
    pub(super) message: String,
    pub(super) help: String,
}

impl Flaw {
    pub(super) fn new(
        code: &'static str,
        part: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { code, part, message: message.into(), help: help.into() }
    }
}

/// Reads the words of an entry, one after the other.
#[derive(Debug)]
pub(super) struct Words<'a> {
    pub(super) text: &'a [u8],
    pub(super) at: usize,
}

/// Tells whether a byte separates words. A carriage return does, too: the file may come from another system.
fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | 0x0b | 0x0c)
}

impl<'a> Words<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn get(&self, part: &Range<usize>) -> &'a [u8] {
        self.text.get(part.clone()).unwrap_or_default()
    }

    pub(super) fn skip_blanks(&mut self) {
        self.at += self.rest().iter().take_while(|&&b| is_blank(b)).count();
    }

    /// The next word, up to a blank; `None` at the end and at a comment.
    pub(super) fn word(&mut self) -> Option<Range<usize>> {
        self.next(is_blank)
    }

    /// The next option, up to a blank or a comma.
    fn option(&mut self) -> Option<Range<usize>> {
        self.next(|b| is_blank(b) || b == b',')
    }

    fn next(&mut self, ends: impl Fn(u8) -> bool) -> Option<Range<usize>> {
        self.skip_blanks();
        if matches!(self.rest().first(), None | Some(b'#')) {
            self.at = self.text.len();
            return None;
        }
        let start = self.at;
        self.at += word(self.rest(), ends);
        Some(start..self.at)
    }
}

/// Reads options up to the end, or in a `multi` map up to and including a `--`; says whether there was one.
///
/// The words add to `options`; what works but is probably not meant becomes a warning.
pub(super) fn parse(
    words: &mut Words<'_>,
    multi: bool,
    options: &mut MasterOptions,
    line: &Line<'_>,
    warnings: &mut Vec<Diagnostic>,
) -> Result<bool, Flaw> {
    let mut warn = |Flaw { code, part, message, help }: Flaw| {
        warnings.push(line.entry_error(code, part, message).help(help).into_warning());
    };
    let mut comma = false;
    while let Some(part) = words.option() {
        let raw = words.get(&part);
        if raw.is_empty() {
            // Stopped at a comma.
            if comma {
                return Err(Flaw::new("master::comma", part.start..part.end + 1, "two commas in a row", "remove one"));
            }
            comma = true;
            words.at += 1;
            continue;
        }
        comma = false;
        match raw {
            b"--" if multi => return Ok(true),
            b"-" => {}
            b"--" if words.rest().iter().all(|b| is_blank(*b)) => {
                warn(Flaw::new("master::option", part, "\"--\" is no option and is ignored", "leave it out"));
            }
            b"--" => {
                let help = "several maps are written multi MAP -- MAP";
                return Err(Flaw::new("master::option", part, "\"--\" is no option", help));
            }
            _ => {
                if let Some(flaw) = option(words, part, options)? {
                    warn(flaw);
                }
            }
        }
    }
    Ok(false)
}

/// Takes one option into `options`; the word at `part` has just been read. Gives a warning if it looks wrong.
fn option(words: &mut Words<'_>, part: Range<usize>, options: &mut MasterOptions) -> Result<Option<Flaw>, Flaw> {
    match words.get(&part) {
        b"-g" | b"--ghost" | b"browse" | b"-browse" | b"--browse" => options.browse = Some(true),
        b"nobrowse" | b"-nobrowse" | b"--nobrowse" => options.browse = Some(false),
        b"list" | b"-list" | b"--list" => options.list = true,
        b"nobind" | b"-nobind" | b"--nobind" => options.nobind = true,
        b"symlink" | b"-symlink" | b"--symlink" => options.symlink = true,
        b"strictexpire" | b"-strictexpire" | b"--strictexpire" => options.strictexpire = true,
        b"slave" | b"-slave" | b"--slave" => options.propagation = Some(Propagation::Slave),
        b"private" | b"-private" | b"--private" => options.propagation = Some(Propagation::Private),
        b"shared" | b"-shared" | b"--shared" => options.propagation = Some(Propagation::Shared),
        b"-r" | b"--random-multimount-selection" => options.random = true,
        b"-w" | b"--use-weight-only" => options.use_weight_only = true,
        b"-v" | b"--verbose" => options.verbosity = options.verbosity.max(Some(Verbosity::Verbose)),
        b"-d" | b"--debug" => options.verbosity = Some(Verbosity::Debug),
        b"--slashify-colons" => options.slashify_colons = Some(true),
        b"--no-slashify-colons" => options.slashify_colons = Some(false),
        raw => {
            if let Some((name, skip)) = named(raw) {
                let found = value(words, part.clone(), skip, name);
                let value = match found {
                    // As for automount, a definition of nothing is left out.
                    Err(flaw) if name == "define" => return Ok(Some(flaw)),
                    found => found?,
                };
                match name {
                    "timeout" => options.timeout = Some(seconds(words, value, name)?),
                    // 0 means the default, as on the command line.
                    "negative-timeout" => {
                        options.negative_timeout = Some(seconds(words, value, name)?).filter(|&n| n > 0);
                    }
                    "mode" => options.mode = Some(mode(words, value)?),
                    "owner" => options.owner.get_or_insert_default().user = Some(account(words, value, name)?),
                    "group" => options.owner.get_or_insert_default().group = Some(account(words, value, name)?),
                    "trigger-propagation" => options.trigger_propagation = Some(propagation(words, value)?),
                    _ => match define(words, value.clone()) {
                        Ok(defined) => {
                            push_argument(&[b"-D", words.get(&value)].concat(), &mut options.arguments);
                            options.defines.push(defined);
                        }
                        Err(flaw) => {
                            // The next option is none of its value.
                            words.at = if words.get(&value).starts_with(b"-") { value.start } else { words.at };
                            return Ok(Some(flaw));
                        }
                    },
                }
                return Ok(None);
            }
            if let Some(pieces) = pieces(raw) {
                for piece in pieces {
                    // What is wrong with a piece is said of the word.
                    let _ = option(&mut Words { text: piece, at: piece.len() }, 0..piece.len(), options);
                }
                let message = format!("\"{}\" has characters that no option has", Escaped::start_of(raw));
                let help = "write options without quotes and brackets, with commas between them: ro,soft; \
                            a blank in the map is written \"\\ \"";
                return Ok(Some(Flaw::new("master::option", part, message, help)));
            }
            let before = options.mount_options.len();
            let warning = mount_option(raw, part, &mut options.mount_options)?;
            if options.mount_options.len() > before {
                push_argument(raw, &mut options.arguments);
            }
            return Ok(warning);
        }
    }
    Ok(None)
}

/// Returns the options in a word that has other characters in the place of commas, or around the options: `"-ro"`, `(ro)`,
/// `ro;soft`. As for automount, these characters separate options. Returns `None` for any other word.
fn pieces(word: &[u8]) -> Option<Vec<&[u8]>> {
    let is_of_options = |b: &u8| b.is_ascii_alphanumeric() || b"_-.:+=/@%".contains(b);
    // What is no ASCII is left out as a whole, and a path is no option.
    if option_name(word).iter().all(is_of_options) || !word.is_ascii() || word.starts_with(b"/") {
        return None;
    }
    let pieces: Vec<&[u8]> = word.split(|b| !is_of_options(b)).filter(|piece| !piece.is_empty()).collect();
    let is_known = |piece: &&[u8]| {
        is_option(piece.iter().position(|b| *b != b'-').and_then(|at| piece.get(at..)).unwrap_or_default())
    };
    (!pieces.is_empty() && pieces.iter().all(is_known)).then_some(pieces)
}

/// The options with a value that have a long name only, or beside a letter.
const LONG: [&str; 6] = ["timeout", "negative-timeout", "mode", "owner", "group", "trigger-propagation"];

/// The option with a value that `word` starts with, and how many bytes of the word stand before `=` or the value.
fn named(word: &[u8]) -> Option<(&'static str, usize)> {
    let (name, long) = match word {
        [b'-', b't', ..] => ("timeout", 2),
        [b'-', b'n', ..] => ("negative-timeout", 2),
        [b'-', b'D', ..] => return Some(("define", 2)),
        _ => {
            let name = LONG.into_iter().find(|name| {
                word.strip_prefix(b"--")
                    .and_then(|w| w.strip_prefix(name.as_bytes()))
                    .is_some_and(|rest| matches!(rest.first(), None | Some(b'=')))
            })?;
            return Some((name, 2 + name.len()));
        }
    };
    // `-nfsvers=4` and `-timeo=5` are mount options.
    matches!(word.get(2), None | Some(b'=' | b'0'..=b'9')).then_some((name, long))
}

/// Returns the position of the value of an option: after `=`, with or without blanks around it, or the next word.
fn value(words: &mut Words<'_>, part: Range<usize>, skip: usize, name: &str) -> Result<Range<usize>, Flaw> {
    let mut start = part.start + skip;
    if start == part.end {
        words.skip_blanks();
        start = words.at;
        if words.rest().first() == Some(&b'=') {
            start += 1;
            words.option();
        }
    } else if name != "define" && words.text.get(start) == Some(&b'=') {
        start += 1;
    }
    let found = if start < words.at { Some(start..words.at) } else { words.option() };
    found.filter(|v| !v.is_empty()).ok_or_else(|| {
        Flaw::new("master::value", part, format!("{name} without a value"), "write the value behind the option")
    })
}

fn seconds(words: &Words<'_>, value: Range<usize>, name: &str) -> Result<u64, Flaw> {
    let text = unquote(words.get(&value));
    let text = text.as_ref();
    if let Some(n) = number(text, 10) {
        return Ok(n);
    }
    let help = match text.split_last().and_then(|(unit, n)| number(n, 10)?.checked_mul(unit_seconds(*unit)?)) {
        Some(n) => format!("write --{name}={n}"),
        None => "expected a whole number of seconds".to_owned(),
    };
    let code = if name == "timeout" { "master::timeout" } else { "master::negative-timeout" };
    Err(Flaw::new(code, value, format!("invalid {name} \"{}\"", Escaped::start_of(text)), help))
}

fn unit_seconds(unit: u8) -> Option<u64> {
    Some(match unit {
        b's' => 1,
        b'm' => 60,
        b'h' => 3600,
        b'd' => 86400,
        _ => return None,
    })
}

fn mode(words: &Words<'_>, value: Range<usize>) -> Result<u32, Flaw> {
    let text = unquote(words.get(&value));
    let bits = number(text.as_ref(), 8).and_then(|n| u32::try_from(n).ok()).filter(|n| *n <= 0o7777);
    bits.ok_or_else(|| {
        Flaw::new(
            "master::mode",
            value,
            format!("invalid mode \"{}\"", Escaped::start_of(&text)),
            "expected octal permission bits, as in --mode=0755",
        )
    })
}

/// The name or number of a user or group.
fn account(words: &Words<'_>, value: Range<usize>, name: &str) -> Result<Vec<u8>, Flaw> {
    let text = unquote(words.get(&value)).into_owned();
    if is_account(&text) {
        return Ok(text);
    }
    let message = format!("invalid {name} \"{}\"", Escaped::start_of(&text));
    Err(Flaw::new("master::owner", value, message, format!("write a name or a number, as in --{name}=1000")))
}

/// Returns whether `text` can be the name or the number of a user or group.
pub(super) fn is_account(text: &[u8]) -> bool {
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"_.@$\\-".contains(b) || !b.is_ascii();
    let is_too_large = text.iter().all(u8::is_ascii_digit) && number(text, 10).is_none_or(|n| n >= u32::MAX.into());
    !text.is_empty() && !text.starts_with(b"-") && text.iter().all(is_plain) && !is_too_large
}

fn propagation(words: &Words<'_>, value: Range<usize>) -> Result<Propagation, Flaw> {
    let text = unquote(words.get(&value));
    let known = [Propagation::Slave, Propagation::Private, Propagation::Shared];
    known.into_iter().find(|kind| kind.name().as_bytes() == text.as_ref()).ok_or_else(|| {
        let message = format!("invalid propagation \"{}\"", Escaped::start_of(&text));
        Flaw::new("master::propagation", value, message, "write slave, private or shared")
    })
}

/// An unsigned number without sign or blanks.
fn number(text: &[u8], radix: u32) -> Option<u64> {
    let digits = std::str::from_utf8(text).ok().filter(|t| !t.starts_with('+'))?;
    u64::from_str_radix(digits, radix).ok()
}

fn define(words: &Words<'_>, value: Range<usize>) -> Result<(Vec<u8>, Vec<u8>), Flaw> {
    let text = words.get(&value);
    match memchr::memchr(b'=', text).map(|n| text.split_at(n)) {
        Some((name, value)) if !name.is_empty() => {
            Ok((unquote(name).into_owned(), unquote(value.get(1..).unwrap_or_default()).into_owned()))
        }
        _ => Err(Flaw::new(
            "master::define",
            value,
            format!("\"{}\" defines no variable", Escaped::start_of(text)),
            "write -DNAME=VALUE",
        )),
    }
}

/// Adds a word that is meant for mount(8): `name` or `name=value`, one or two dashes before it removed, quotes kept.
///
/// As automount(8) does, it ignores a typographic dash before the word (`–ro` is `ro`). A word with other bytes that no
/// option has is left out. Both give a warning; the line stays in force.
fn mount_option(raw: &[u8], part: Range<usize>, options: &mut Vec<u8>) -> Result<Option<Flaw>, Flaw> {
    let shown = Escaped::start_of(raw);
    if let Some(plain) = after_typographic_dash(raw).filter(|plain| is_option(plain)) {
        push_option(plain, options);
        let dashes = if is_for_the_mount_point(option_name(plain)) { "--" } else { "-" };
        let help = format!("write {dashes}{}", Escaped::start_of(plain));
        return Ok(Some(Flaw::new("master::dash", part, format!("\"{shown}\" begins with a typographic dash"), help)));
    }
    let (dashes, plain) = match raw {
        [b'-', b'-', plain @ ..] => (2, plain),
        [b'-', plain @ ..] => (1, plain),
        plain => (0, plain),
    };
    let name = option_name(plain);
    if !is_option(plain) {
        let message = format!("\"{shown}\" is no option and is ignored");
        if raw.starts_with(b"/") {
            let message = format!("\"{shown}\" is no option");
            let help =
                "several maps are written multi MAP -- MAP; a blank in the mount point or the map is written \"\\ \"";
            return Err(Flaw::new("master::option", part, message, help));
        }
        let help = if name.is_ascii() {
            "options are words as ro, soft or timeo=5; a blank in the mount point or the map is written \"\\ \""
        } else {
            "write options with plain letters, as ro, soft or timeo=5"
        };
        return Ok(Some(Flaw::new("master::option", part, message, help)));
    }
    push_option(plain, options);
    let warning = match (dashes, name) {
        (0 | 1, b"timeout") => {
            format!("\"{shown}\" is not the expire timeout: write --{}", Escaped::start_of(plain))
        }
        (2, _) => format!("unknown option \"{shown}\" is passed on to mount as \"{}\"", Escaped::start_of(plain)),
        _ => return Ok(None),
    };
    let help = "options for automount start with two dashes, options for mount with one or none";
    Ok(Some(Flaw::new("master::unknown-option", part, warning, help)))
}

/// Returns the word after leading dashes, if the first is a typographic dash as inserted by word processors and web pages.
fn after_typographic_dash(word: &[u8]) -> Option<&[u8]> {
    const DASHES: [&str; 6] = ["\u{2010}", "\u{2011}", "\u{2012}", "\u{2013}", "\u{2014}", "\u{2212}"];
    let strip = |word| DASHES.iter().find_map(|dash| <[u8]>::strip_prefix(word, dash.as_bytes()));
    let mut rest = strip(word)?;
    while let Some(more) = strip(rest).or_else(|| rest.strip_prefix(b"-")) {
        rest = more;
    }
    Some(rest)
}

/// Returns whether `word` has the form `name` or `name=value`.
fn is_option(word: &[u8]) -> bool {
    let name = option_name(word);
    let starts = name.first().is_some_and(|&b| b.is_ascii_alphabetic() || b == b'_');
    starts && name.iter().all(|&b| b.is_ascii_alphanumeric() || b"_-.:+".contains(&b))
}

fn option_name(word: &[u8]) -> &[u8] {
    word.split(|&b| b == b'=').next().unwrap_or_default()
}

fn push_option(word: &[u8], options: &mut Vec<u8>) {
    if !options.is_empty() {
        options.push(b',');
    }
    options.extend_from_slice(word);
}

fn push_argument(word: &[u8], arguments: &mut Vec<u8>) {
    if !arguments.is_empty() {
        arguments.push(b' ');
    }
    arguments.extend_from_slice(word);
}

/// Returns whether an option of this name, written with two dashes, is one for the mount point.
fn is_for_the_mount_point(name: &[u8]) -> bool {
    let names: [&[u8]; 13] = [
        b"timeout",
        b"negative-timeout",
        b"mode",
        b"owner",
        b"group",
        b"trigger-propagation",
        b"ghost",
        b"verbose",
        b"debug",
        b"random-multimount-selection",
        b"use-weight-only",
        b"slashify-colons",
        b"no-slashify-colons",
    ];
    names.contains(&name)
}
