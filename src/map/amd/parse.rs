//! Parses the text of an am-utils entry: locations with their selectors and options.
//!
//! ```text
//! entry    := location {blanks ["||" blanks] location}
//! location := ["-"] item {";" item} | "-"
//! item     := ["!"] function "(" [arguments] ")" | name "==" value | name "!=" value | option ":=" value
//! ```

use super::value::{Unclosed, Value};
use super::{Compared, Entry, Function, Item, Location, Opt, Selector, Test};
use crate::map::known;
use crate::text::{Diagnostic, Escaped, Position};

/// Locations and cuts of an entry at most.
const ITEMS_MAX: usize = 4096;

/// Reads the entry `text`, which begins at `place`.
///
/// # Errors
/// The text is no entry: a syntax error anywhere in it makes all of it useless, as nobody can say what was meant.
pub fn parse(text: &[u8], place: &Position) -> Result<Entry, Diagnostic> {
    let mut parser = Parser { text, at: 0, place };
    if let Some(at) = memchr::memchr(0, text) {
        return Err(parser.error("amd::nul", at..at + 1, "a NUL byte in the entry"));
    }
    let mut items = Vec::new();
    while let Some(b) = parser.next_word() {
        if items.len() >= ITEMS_MAX {
            return Err(parser.error("amd::many", parser.at..parser.at, "more than 4096 locations"));
        }
        let item = match (b, parser.rest()) {
            (_, [b'|', b'|', rest @ ..]) if starts_new(rest) => parser.cut(2),
            (_, [b'/', rest @ ..]) if starts_new(rest) => parser.cut(1),
            (b'|', _) => {
                let error = parser.error("amd::cut", parser.at..parser.at + 1, "a single \"|\"");
                return Err(error.help("write || between locations, with blanks around it"));
            }
            (b'-', [b'-', rest @ ..]) if starts_new(rest) => {
                parser.at += 1;
                Item::Reset
            }
            (b'-', _) => {
                parser.at += 1;
                Item::Defaults(parser.location()?)
            }
            _ => Item::Location(parser.location()?),
        };
        items.push(item);
    }
    if !items.iter().any(|item| !matches!(item, Item::Cut)) {
        let error = Diagnostic::error("amd::empty", place.clone(), "the entry is empty");
        return Err(error.help("write options as type:=link;fs:=/path"));
    }
    Ok(Entry { items, place: place.clone() })
}

fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Returns whether a new word, or nothing, begins behind the current one.
fn starts_new(rest: &[u8]) -> bool {
    rest.first().is_none_or(|&b| is_blank(b))
}

/// The place of byte `at` of an entry that begins at `place`.
pub(super) fn place_of(place: &Position, at: usize) -> Position {
    match place.line {
        0 => place.clone(),
        line => {
            let column = place.column.saturating_add(u32::try_from(at).unwrap_or(u32::MAX));
            Position { file: place.file.clone(), line, column }
        }
    }
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    place: &'a Position,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Goes to the next word. Returns its first byte, or `None` at the end and at a comment.
    fn next_word(&mut self) -> Option<u8> {
        self.at += self.rest().iter().take_while(|&&b| is_blank(b)).count();
        self.peek().filter(|&b| b != b'#')
    }

    fn cut(&mut self, length: usize) -> Item {
        self.at += length;
        Item::Cut
    }

    /// Reads the items of a location, up to a blank.
    fn location(&mut self) -> Result<Location, Diagnostic> {
        let mut location = Location { at: self.at, selectors: Vec::new(), options: Vec::new() };
        loop {
            match self.peek() {
                None => break,
                Some(b) if is_blank(b) => break,
                // Two in a row, or one at the end.
                Some(b';') => self.at += 1,
                Some(_) => {
                    self.item(&mut location)?;
                    if !matches!(self.peek(), None | Some(b';')) && !self.peek().is_some_and(is_blank) {
                        let error = self.error("amd::syntax", self.at..self.at + 1, "text behind a selector");
                        return Err(error.help("separate selectors and options by \";\""));
                    }
                }
            }
        }
        Ok(location)
    }

    fn item(&mut self, location: &mut Location) -> Result<(), Diagnostic> {
        let start = self.at;
        let negated = self.peek() == Some(b'!');
        self.at += usize::from(negated);
        let name_at = self.at;
        self.at += self.rest().iter().take_while(|&&b| b.is_ascii_alphanumeric() || b == b'_').count();
        let name = self.text.get(name_at..self.at).unwrap_or_default();
        match self.rest() {
            [b'(', ..] if !name.is_empty() => {
                let selector = self.function(start, name, negated)?;
                location.selectors.push(selector);
            }
            [b'=', b'=', ..] | [b'!', b'=', ..] if !name.is_empty() && !negated => {
                let equal = self.peek() == Some(b'=');
                self.at += 2;
                let value = self.value(|b| b == b';' || is_blank(b))?;
                let Some(compared) = Compared::of(name) else {
                    return Err(self.unknown("amd::selector", "selector", start, name, Compared::NAMES));
                };
                location.selectors.push(Selector { at: start, test: Test::Compare { compared, value, equal } });
            }
            [b':', b'=', ..] if !name.is_empty() && !negated => {
                self.at += 2;
                let value = self.value(|b| b == b';' || is_blank(b))?;
                match Opt::of(name) {
                    Some(option) => location.options.push((option, value)),
                    None if matches!(name, b"delay" | b"cachedir") => {}
                    None => return Err(self.unknown("amd::option", "option", start, name, Opt::NAMES)),
                }
            }
            _ => return Err(self.no_item(start)),
        }
        Ok(())
    }

    fn function(&mut self, start: usize, name: &[u8], negated: bool) -> Result<Selector, Diagnostic> {
        self.at += 1;
        let mut arguments = Vec::new();
        loop {
            let argument = self.value(|b| matches!(b, b',' | b')'))?;
            let end = self.peek();
            let is_alone = end == Some(b')') && arguments.is_empty();
            if !(is_alone && argument.is_empty()) {
                arguments.push(argument);
            }
            match end {
                Some(b',') if arguments.len() < 2 => self.at += 1,
                Some(b',') => {
                    return Err(self.error("amd::function", start..self.at, "a function with more than two arguments"));
                }
                Some(_) => {
                    self.at += 1;
                    break;
                }
                None => {
                    let error = self.error("amd::function", start..self.at, "\"(\" without \")\"");
                    return Err(error.help("write the name of the function and its arguments as exists(/path)"));
                }
            }
        }
        let Some(function) = Function::of(name) else {
            return Err(self.unknown("amd::function", "function", start, name, Function::NAMES));
        };
        if !function.takes(arguments.len()) {
            let message = format!("{}() with {} arguments", Escaped::start_of(name), arguments.len());
            return Err(self.error("amd::function", start..self.at, message).help(function.usage()));
        }
        Ok(Selector { at: start, test: Test::Call { function, arguments, negated } })
    }

    fn value(&mut self, ends: impl Fn(u8) -> bool) -> Result<Value, Diagnostic> {
        let value = Value::read(self.text, self.at, ends).map_err(|Unclosed(at)| {
            let error = self.error("amd::quote", at..at + 1, "a quote is never closed");
            error.help("close it, or write a backslash before it for the character itself")
        })?;
        self.at = value.end;
        Ok(value)
    }

    fn unknown(
        &self,
        code: &'static str,
        what: &str,
        start: usize,
        name: &[u8],
        names: &'static [&'static str],
    ) -> Diagnostic {
        let message = format!("unknown {what} \"{}\"", Escaped::start_of(name));
        let help = match known::nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean {near}? the {what}s are {}", names.join(", ")),
            None => format!("the {what}s are {}", names.join(", ")),
        };
        self.error(code, start..start + name.len(), message).help(help)
    }

    /// The error about a word that is neither selector nor option.
    fn no_item(&self, start: usize) -> Diagnostic {
        let word = self.text.get(start..).unwrap_or_default();
        let word = word.split(|&b| b == b';' || is_blank(b)).next().unwrap_or_default();
        let message = format!("\"{}\" is neither an option nor a selector", Escaped::start_of(word));
        let name = word.split(|&b| b == b'=').next().unwrap_or_default();
        let help = match (word.contains(&b'='), Opt::of(name).is_some()) {
            (true, true) => format!("write {}:=VALUE", Escaped::start_of(name)),
            (true, false) => "write NAME:=VALUE for an option, NAME==VALUE for a selector".to_owned(),
            _ if word.starts_with(b"/") || memchr::memmem::find(word, b":/").is_some() => {
                "this looks like an entry in Sun format: write rhost:=HOST;rfs:=/PATH, or name the map without amd"
                    .to_owned()
            }
            _ => "write options as type:=link;fs:=/path, selectors as host==NAME".to_owned(),
        };
        self.error("amd::syntax", start..start + word.len().max(1), message).help(help)
    }

    fn error(&self, code: &'static str, part: std::ops::Range<usize>, message: impl Into<String>) -> Diagnostic {
        let length = part.len();
        Diagnostic::error(code, place_of(self.place, part.start), message).length(length)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Entry, Diagnostic> {
        parse(text.as_bytes(), &Position::new(&Path::new("/etc/amd.x").into(), 3, 6))
    }

    /// The entry in short: `-` before defaults, selectors and options counted.
    fn shape(text: &str) -> String {
        let counts = |l: &Location| format!("{}s{}o", l.selectors.len(), l.options.len());
        let show = |item: &Item| match item {
            Item::Cut => "||".to_owned(),
            Item::Reset => "-".to_owned(),
            Item::Defaults(location) => format!("-{}", counts(location)),
            Item::Location(location) => counts(location),
        };
        read(text).unwrap().items.iter().map(show).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn locations_selectors_options() {
        for (text, want) in [
            ("type:=link;fs:=/opt", "0s2o"),
            ("host==a;type:=link;fs:=/bad host!=a;type:=link", "1s2o 1s1o"),
            ("!exists(/opt);type:=link || true();fs:=/srv", "1s1o || 1s1o"),
            ("netgrp(ng,host);fs:=/x / -type:=nfs - rhost:=a", "1s1o || -0s1o - 0s1o"),
            ("type:=link;;fs:=\"/a b\"; # comment", "0s2o"),
            ("opts:=rw,ping=5;delay:=3;unmount:=\"/bin/umount umount ${fs}\"", "0s2o"),
            ("in_network(10.0.0.0);rhost:=a\trhost:=b\r", "1s1o 0s1o"),
        ] {
            assert_eq!(shape(text), want, "{text}");
        }
    }

    #[test]
    fn errors_say_where_and_what_to_write() {
        for (text, want) in [
            ("", "/etc/amd.x:3:6: the entry is empty: write options as type:=link;fs:=/path"),
            ("|| /", "/etc/amd.x:3:6: the entry is empty: write options as type:=link;fs:=/path"),
            ("fs=/x", "/etc/amd.x:3:6: \"fs=/x\" is neither an option nor a selector: write fs:=VALUE"),
            (
                "type:=nfs;srv:/x",
                "/etc/amd.x:3:16: \"srv:/x\" is neither an option nor a selector: this looks like an entry in Sun \
                 format: write rhost:=HOST;rfs:=/PATH, or name the map without amd",
            ),
            (
                "fs:=\"/x",
                "/etc/amd.x:3:10: a quote is never closed: close it, or write a backslash before it for the \
                           character itself",
            ),
            (
                "exists(/x",
                "/etc/amd.x:3:6: \"(\" without \")\": write the name of the function and its arguments as \
                           exists(/path)",
            ),
            ("exists()", "/etc/amd.x:3:6: exists() with 0 arguments: write exists(PATH)"),
            (
                "a | b",
                "/etc/amd.x:3:6: \"a\" is neither an option nor a selector: write options as type:=link;fs:=/path, \
                       selectors as host==NAME",
            ),
            (
                "type:=link | type:=link",
                "/etc/amd.x:3:17: a single \"|\": write || between locations, with blanks around \
                                         it",
            ),
            ("true(1)fs:=/x", "/etc/amd.x:3:13: text behind a selector: separate selectors and options by \";\""),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), want, "{text}");
        }
        let near = |text| read(text).unwrap_err().help.unwrap();
        assert!(near("rhos:=a").starts_with("did you mean rhost?"));
        assert!(near("hots==a").starts_with("did you mean host?"));
        assert!(near("exist(a)").starts_with("did you mean exists?"));
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "([-a-z:=!;|/ \"'\\\\$(){}#,.]|fs:=|exists\\(|host==|\\$\\{key\\}){0,40}") {
            if let Err(error) = read(&text) {
                prop_assert!(error.place.column as usize >= 6);
                prop_assert!(error.place.column as usize <= text.len() + 6);
            }
        }
    }
}
