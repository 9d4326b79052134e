//! Output of autofsctl: JSON documents for programs, text for people.

use std::io::{self, ErrorKind, Write as _};

use serde::Serialize;
use serde_json::json;
use unicode_width::UnicodeWidthStr;

use super::client::ClientError;
use super::exit::Exit;

/// The version of the JSON documents. It changes when a field changes its meaning or disappears, not when one is added.
const SCHEMA: u32 = 1;

/// Terminals with fewer columns than this are not fitted to.
const NARROWEST: usize = 20;

/// A value, or an error, with the version of the schema.
#[derive(Debug, Serialize)]
struct Document<'a, T> {
    schema: u32,
    #[serde(flatten)]
    content: &'a T,
}

/// Formats an object as a JSON document of several lines.
///
/// # Errors
/// Returns an error if the value is not an object.
pub(super) fn document(object: &impl Serialize) -> Result<String, ClientError> {
    let text = serde_json::to_string_pretty(&Document { schema: SCHEMA, content: object }).map_err(io::Error::from)?;
    Ok(text + "\n")
}

/// Formats an error as a JSON document.
pub(super) fn error_document(error: &ClientError) -> String {
    let exit = Exit::from(error);
    let error = json!({ "error": { "kind": exit.name(), "exit": exit as u8, "message": error.to_string() } });
    document(&error).unwrap_or_default()
}

/// Breaks the lines that are wider than a terminal of `width` columns, at blanks if there are some. What follows is indented.
pub(super) fn fitted(text: String, width: Option<usize>) -> String {
    let Some(width) = width.filter(|width| *width >= NARROWEST) else { return text };
    let mut fitted = String::with_capacity(text.len());
    for line in text.lines() {
        let own = line.len() - line.trim_start().len();
        let indent = " ".repeat((own + 4).min(width / 2));
        let mut rest = line;
        let mut room = width;
        while shown_width(rest) > room {
            let end = fits(rest, room);
            // The blanks at the beginning are no place to break at.
            let start = rest.len() - rest.trim_start().len();
            let ends_here = rest.as_bytes().get(end) == Some(&b' ');
            let blank = if ends_here { Some(end) } else { rest.get(..end).and_then(|piece| piece.rfind(' ')) };
            let blank = blank.filter(|at| *at > start);
            let (piece, next) = rest.split_at(blank.unwrap_or(end));
            fitted += piece.trim_end();
            fitted += "\n";
            fitted += &indent;
            rest = next.trim_start();
            room = width - indent.len();
        }
        fitted += rest;
        fitted += "\n";
    }
    fitted
}

/// Removes the numbers that the standard library adds to the texts of errors: ` (os error 2)`. They say nothing to people.
pub(super) fn plain(text: String) -> String {
    const NUMBER: &str = " (os error ";
    if !text.contains(NUMBER) {
        return text;
    }
    let mut parts = text.split(NUMBER);
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if number.bytes().all(|b| b.is_ascii_digit()) => plain += rest,
            _ => plain += &[NUMBER, part].concat(),
        }
    }
    plain
}

/// Returns the words of a paragraph in lines of at most `width` columns, as far as blanks allow it.
pub(super) fn wrapped(paragraph: &str, width: usize) -> String {
    let (mut lines, mut room) = (String::new(), width);
    for word in paragraph.split_whitespace() {
        let needed = word.width();
        if lines.is_empty() {
            room = width.saturating_sub(needed);
        } else if needed < room {
            lines += " ";
            room -= needed + 1;
        } else {
            lines += "\n";
            room = width.saturating_sub(needed);
        }
        lines += word;
    }
    lines + "\n"
}

/// Returns the beginning of a line that fits into `room` columns.
pub(super) fn cut(line: &str, room: usize) -> &str {
    if shown_width(line) <= room { line } else { line.get(..fits(line, room)).unwrap_or_default() }
}

/// Returns the columns of a text on a terminal. Escape sequences have none.
fn shown_width(text: &str) -> usize {
    let mut plain = text.split("\x1b[");
    let first = plain.next().map_or(0, UnicodeWidthStr::width);
    first + plain.map(|part| part.split_once('m').map_or(0, |(_, rest)| rest.width())).sum::<usize>()
}

/// Returns the length of the longest beginning of `text` that fits into `room` columns.
fn fits(text: &str, room: usize) -> usize {
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    ends.take_while(|end| text.get(..*end).is_some_and(|piece| shown_width(piece) <= room)).last().unwrap_or(1)
}

/// Writes `text` to stdout. A reader that has closed its end has read enough.
///
/// # Errors
/// Returns an error if not all of it could be written.
pub(super) fn print(text: &str) -> Result<(), ClientError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(ClientError::Output(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_blanks() {
        let fitted = |text: &str| fitted(text.to_owned(), Some(20));
        assert_eq!(fitted("short\n"), "short\n");
        assert_eq!(fitted("  a word and another one\n"), "  a word and another\n      one\n");
        assert_eq!(fitted("/a/path/without/any/blank/in/it\n"), "/a/path/without/any/\n    blank/in/it\n");
        assert_eq!(fitted("\x1b[1mMOUNT  TYPE  SOURCE\x1b[0m\n"), "\x1b[1mMOUNT  TYPE  SOURCE\x1b[0m\n");
        assert_eq!(super::fitted("x".repeat(30), None), "x".repeat(30));
    }

    #[test]
    fn numbers_of_errors_are_left_out() {
        let text = "cannot open /a: No such file or directory (os error 2); /b: gone (os error 5)\n";
        assert_eq!(plain(text.to_owned()), "cannot open /a: No such file or directory; /b: gone\n");
        for text in ["", "a (os error x) b", "a (os error 2"] {
            assert_eq!(plain(text.to_owned()), text);
        }
    }

    #[test]
    fn documents_name_their_schema_first() {
        #[derive(Serialize)]
        struct Pair {
            z: u32,
            a: &'static str,
        }
        assert_eq!(document(&Pair { z: 1, a: "x" }).unwrap(), "{\n  \"schema\": 1,\n  \"z\": 1,\n  \"a\": \"x\"\n}\n");
        let error: serde_json::Value = serde_json::from_str(&error_document(&ClientError::Gone)).unwrap();
        assert_eq!(
            (&error["schema"], &error["error"]["exit"], &error["error"]["kind"]),
            (&1.into(), &5.into(), &"failed".into())
        );
    }
}
