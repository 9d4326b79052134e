//! Escapes untrusted bytes for output, so that keys, paths and options cannot forge log lines, move the cursor or change the
//! direction of the text.

use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Shows bytes: printable text as it is; control bytes, invisible characters and invalid UTF-8 as `\xHH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Escaped<'a>(pub &'a [u8]);

impl<'a> Escaped<'a> {
    /// Shows only the start of a text that may be long.
    pub fn start_of(bytes: &'a [u8]) -> Self {
        Self(bytes.get(..64).unwrap_or(bytes))
    }

    /// Shows a path.
    pub fn path(path: &'a Path) -> Self {
        Self(path.as_os_str().as_bytes())
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            let mut rest = chunk.valid();
            while let Some((at, c)) = rest.char_indices().find(|(_, c)| c.is_control() || is_invisible(*c)) {
                let (shown, from) = rest.split_at(at);
                let (escaped, after) = from.split_at(c.len_utf8());
                f.write_str(shown)?;
                hexadecimal(f, escaped.as_bytes())?;
                rest = after;
            }
            f.write_str(rest)?;
            hexadecimal(f, chunk.invalid())?;
        }
        Ok(())
    }
}

fn hexadecimal(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "\\x{b:02x}"))
}

/// Returns whether a character is invisible: byte order marks, joiners, and characters that change the text direction.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_bytes_and_broken_utf8_are_escaped() {
        assert_eq!(Escaped(b"plain key").to_string(), "plain key");
        assert_eq!(Escaped(b"a\nmounted /x\x1b[2J\xff").to_string(), "a\\x0amounted /x\\x1b[2J\\xff");
        assert_eq!(Escaped("größe".as_bytes()).to_string(), "größe");
        assert_eq!(Escaped("a\u{202e}b".as_bytes()).to_string(), "a\\xe2\\x80\\xaeb");
    }
}
