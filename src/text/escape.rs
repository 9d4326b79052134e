//! How bytes of other people are shown: nothing in a key, path or option can forge a log line, move a cursor or turn
//! the direction of the text.

use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Shows bytes: printable text as it is; control bytes, invisible characters and invalid UTF-8 as `\xHH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Escaped<'a>(pub &'a [u8]);

impl<'a> Escaped<'a> {
    /// Shows the start of what may be long: enough to recognise it by.
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
            for c in chunk.valid().chars() {
                if c.is_control() || is_invisible(c) {
                    let mut bytes = [0; 4];
                    for b in c.encode_utf8(&mut bytes).bytes() {
                        write!(f, "\\x{b:02x}")?;
                    }
                } else {
                    f.write_char(c)?;
                }
            }
            for b in chunk.invalid() {
                write!(f, "\\x{b:02x}")?;
            }
        }
        Ok(())
    }
}

/// Characters without width: byte order marks, joiners, and what changes the direction of the text around it.
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
