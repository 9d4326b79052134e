//! Mistakes of a file as a text: byte order marks, line ends, characters of word processors, a file of another kind.

use std::path::Path;
use std::sync::Arc;

use super::{Part, warning};
use crate::map::known::typographic as typographic_character;
use crate::text::{Diagnostic, Escaped, Line, Position};

/// Examines a text before it is taken apart into lines.
pub(in super::super) fn whole(text: &[u8], file: &Arc<Path>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut warn = |line: usize, column: usize, length: usize, code, message: &str, help: &str| {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let place = Position::new(file, number(line), number(column));
        let excerpt = text.split(|&b| b == b'\n').nth(line.saturating_sub(1)).unwrap_or_default();
        found.push(Diagnostic::warning(code, place, message).help(help).length(length).excerpt(excerpt));
    };
    if text.starts_with(b"\xef\xbb\xbf") {
        let help = "save the file as UTF-8 without a byte order mark";
        warn(1, 1, 3, "text::byte-order-mark", "a byte order mark belongs to the first key", help);
    }
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        warn(1, 1, 2, "text::utf-16", "the file is UTF-16", "save it as UTF-8");
        return found;
    }
    let lines = || text.split(|&b| b == b'\n').zip(1..);
    let returns = |line: &[u8]| line.ends_with(b"\r") && !line.trim_ascii_start().starts_with(b"#");
    if let Some((line, number)) = lines().find(|(line, _)| returns(line)) {
        let help = "save the file with the line ends of Unix: sed -i 's/\\r$//' FILE";
        warn(number, line.len(), 1, "text::crlf", "lines end in CR LF", help);
    }
    if let Some((line, number)) = lines().filter(|(line, _)| !line.trim_ascii().is_empty()).last() {
        if line.ends_with(b"\\") && !line.ends_with(b"\\\\") && !line.trim_ascii_start().starts_with(b"#") {
            let help = "remove the backslash, or write the line that follows";
            warn(number, line.len(), 1, "text::backslash", "a backslash at the end of the file joins nothing", help);
        }
    }
    for (line, number) in lines() {
        let merge = [&b"<<<<<<< "[..], b"=======", b">>>>>>> "].iter().any(|mark| line.starts_with(mark));
        if merge {
            let help = "choose one of the two versions";
            warn(number, 1, line.len(), "text::merge", "a mark of an unfinished merge", help);
        }
        let start = line.trim_ascii_start();
        if let Some(at) = memchr::memmem::find(line, "\u{a0}".as_bytes()).filter(|_| !start.starts_with(b"#")) {
            let message = "a no-break blank separates no words";
            warn(number, at + 1, 2, "text::no-break-blank", message, "write a plain blank");
        }
        let named = start.strip_prefix(b"#include").filter(|rest| rest.first().is_some_and(u8::is_ascii_whitespace));
        if let Some(path) = named.map(<[u8]>::trim_ascii).filter(|path| matches!(path, [b'/' | b'<' | b'"', ..])) {
            let path: Vec<u8> = path.iter().copied().filter(|b| !b"<>\"".contains(b)).collect();
            if !path.contains(&b' ') {
                let help = format!("write +{}", Escaped::start_of(&path));
                warn(number, line.len() - start.len() + 1, 8, "text::comment", "#include is a comment", &help);
            }
        }
        let before = line.len() - start.len();
        if let Some(mark) = [&b";"[..], b"//", b"/*", b"<!--"].into_iter().find(|mark| start.starts_with(mark)) {
            // A direct key may begin with two slashes.
            if mark != b"//" || start.get(2).is_none_or(u8::is_ascii_whitespace) {
                let message = format!("\"{}\" begins no comment", Escaped(mark));
                warn(number, before + 1, mark.len(), "text::comment", &message, "comments begin with #");
            }
        }
    }
    found
}

/// Warns of quotation marks, dashes and blanks that word processors and web pages put in place of plain ones.
pub(super) fn typographic(line: &Line<'_>, found: &mut Vec<Diagnostic>) {
    let mut examine = |text: &[u8], part: fn(std::ops::Range<usize>) -> Part| {
        let first = text.iter().enumerate().filter(|(_, b)| !b.is_ascii()).find_map(|(at, _)| {
            let (what, plain) = typographic_character(text.get(at..)?)?;
            let starts_word =
                at == 0 || text.get(at - 1).is_some_and(|b| b.is_ascii_whitespace() || b",=:".contains(b));
            // Inside of a name it may be meant.
            (starts_word || what.contains("blank") || what.contains("width")).then_some((at, what, plain))
        });
        if let Some((at, what, plain)) = first {
            let length =
                text.get(at..).and_then(|t| t.utf8_chunks().next()?.valid().chars().next()).map_or(1, char::len_utf8);
            let message = format!("a typographic {what}");
            found.push(warning(line, part(at..at + length), "text::typographic", message, format!("write {plain}")));
        }
    };
    examine(&line.key, Part::Key);
    examine(&line.entry, Part::Entry);
}
