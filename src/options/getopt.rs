//! Parses options like getopt_long(3) as called by automount(8), with a leading `+` in the option string: parsing ends at the
//! first word that is not an option, long options can be abbreviated to any unique prefix, and optional arguments must
//! follow without a blank.
//!
//! Existing unit files depend on these rules. Argument parsers for new programs differ in each of them (`-df`, `-d=1`,
//! `-v /map -f`, `--forc`).

use crate::text::split_once;

/// Whether an option takes an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// None: `--name=x` is an error.
    No,
    /// Attached (`-xARG`, `--name=ARG`) or the next word, even if that looks like an option.
    Required,
    /// Attached, or missing.
    Optional,
}

/// One option of a program, identified by `id`.
#[derive(Debug, Clone, Copy)]
pub struct Opt<T> {
    /// Value that the parser returns.
    pub id: T,
    /// The short option, if it has one.
    pub short: Option<u8>,
    /// The long option.
    pub long: &'static str,
    /// Whether it takes an argument.
    pub argument: Argument,
}

/// An option that is unknown or ambiguous, lacks its argument, or has an argument that it does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadOption;

/// Iterates over the options at the front of a list of words.
#[derive(Debug)]
pub struct Getopt<'a, T> {
    table: &'a [Opt<T>],
    rest: &'a [Vec<u8>],
    /// The unread letters of a word like `-abc`.
    letters: &'a [u8],
    ended: bool,
}

impl<'a, T: Copy> Getopt<'a, T> {
    /// Parses `words` (without the program's name) according to `table`.
    pub fn new(table: &'a [Opt<T>], words: &'a [Vec<u8>]) -> Self {
        Self { table, rest: words, letters: &[], ended: false }
    }

    /// Returns the words not read yet: after the last option, these are the arguments that are not options.
    pub fn rest(&self) -> &'a [Vec<u8>] {
        self.rest
    }

    fn next_word(&mut self) -> Option<&'a [u8]> {
        let (word, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(word)
    }

    fn long(&mut self, text: &'a [u8]) -> Result<(T, Option<&'a [u8]>), BadOption> {
        let (name, glued) = match split_once(text, b'=') {
            Some((name, glued)) => (name, Some(glued)),
            None => (text, None),
        };
        let exact = self.table.iter().find(|o| o.long.as_bytes() == name);
        let mut candidates = self.table.iter().filter(|o| o.long.as_bytes().starts_with(name));
        let opt = match (exact, candidates.next(), candidates.next()) {
            (Some(opt), _, _) | (None, Some(opt), None) => opt,
            _ => return Err(BadOption),
        };
        let argument = match (opt.argument, glued) {
            (Argument::No, Some(_)) => return Err(BadOption),
            (Argument::Required, None) => Some(self.next_word().ok_or(BadOption)?),
            (_, glued) => glued,
        };
        Ok((opt.id, argument))
    }

    fn short(&mut self, letter: u8) -> Result<(T, Option<&'a [u8]>), BadOption> {
        let opt = self.table.iter().find(|o| o.short == Some(letter)).ok_or(BadOption)?;
        if opt.argument == Argument::No {
            return Ok((opt.id, None));
        }
        let glued = std::mem::take(&mut self.letters);
        let argument = match opt.argument {
            _ if !glued.is_empty() => Some(glued),
            Argument::Required => Some(self.next_word().ok_or(BadOption)?),
            _ => None,
        };
        Ok((opt.id, argument))
    }
}

impl<'a, T: Copy> Iterator for Getopt<'a, T> {
    type Item = Result<(T, Option<&'a [u8]>), BadOption>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if self.letters.is_empty() {
            match self.rest.first().map(Vec::as_slice) {
                Some(b"--") => {
                    self.next_word();
                    self.ended = true;
                    return None;
                }
                Some([b'-', b'-', name @ ..]) => {
                    self.next_word();
                    return Some(self.long(name));
                }
                Some([b'-', letters @ ..]) if !letters.is_empty() => {
                    self.next_word();
                    self.letters = letters;
                }
                _ => {
                    self.ended = true;
                    return None;
                }
            }
        }
        let (&letter, letters) = self.letters.split_first()?;
        self.letters = letters;
        Some(self.short(letter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::TABLE;

    /// Formats the result for a command line: `Debug(f) Timeout(5) | rest words`. `?` is a bad option and ends the line.
    fn told(line: &str) -> String {
        let words: Vec<Vec<u8>> = line.split(' ').filter(|w| !w.is_empty()).map(|w| w.as_bytes().to_vec()).collect();
        let mut options = Getopt::new(TABLE, &words);
        let mut out = String::new();
        for option in &mut options {
            match option {
                Ok((id, None)) => out += &format!("{id:?} "),
                Ok((id, Some(arg))) => out += &format!("{id:?}({}) ", String::from_utf8_lossy(arg)),
                Err(BadOption) => return out + "?",
            }
        }
        out += "|";
        for word in options.rest() {
            out += &format!(" {}", String::from_utf8_lossy(word));
        }
        out
    }

    const LINES: &[(&str, &str)] = &[
        ("", "|"),
        ("-f -v", "Foreground Verbose |"),
        ("-fv", "Foreground Verbose |"),
        ("-d1", "Debug(1) |"),
        ("-df", "Debug(f) |"),
        ("-d=1", "Debug(=1) |"),
        ("-d 1", "Debug | 1"),
        ("-d -1", "Debug ?"),
        ("-vd-1", "Verbose Debug(-1) |"),
        ("--debug=3", "Debug(3) |"),
        ("--debug=", "Debug() |"),
        ("--debug 3", "Debug | 3"),
        ("-t5", "Timeout(5) |"),
        ("-t 5", "Timeout(5) |"),
        ("-ft 5 x", "Foreground Timeout(5) | x"),
        ("-t -f", "Timeout(-f) |"),
        ("-t", "?"),
        ("-t --", "Timeout(--) |"),
        ("--timeout=5", "Timeout(5) |"),
        ("--timeout=", "Timeout() |"),
        ("--timeout 5", "Timeout(5) |"),
        ("--timeout", "?"),
        ("--time=5", "Timeout(5) |"),
        ("-v /m -f", "Verbose | /m -f"),
        ("-v - -f", "Verbose | - -f"),
        ("-v -- -f", "Verbose | -f"),
        ("-- --", "| --"),
        ("--force", "Force |"),
        ("--force-exit", "ForceExit |"),
        ("--force-", "ForceExit |"),
        ("--forc", "?"),
        ("--ver", "?"),
        ("--vers", "Version |"),
        ("--verb", "Verbose |"),
        ("--dump", "Dumpmaps |"),
        ("--dump-map", "?"),
        ("--dumpmaps=x", "?"),
        ("--=x", "?"),
        ("--bogus -V", "?"),
        ("-Z", "?"),
        ("-:", "?"),
        ("-f:", "Foreground ?"),
        ("-DA=b -D C=d", "Define(A=b) Define(C=d) |"),
        ("-V bogus --bogus", "Version | bogus --bogus"),
        ("--define A=b=c", "Define(A=b=c) |"),
        ("--g x -r", "GlobalOptions(x) Random |"),
    ];

    #[test]
    fn options_are_read_as_getopt_long_does() {
        for (line, expected) in LINES {
            assert_eq!(told(line), *expected, "{line}");
        }
    }

    /// Compares with the C library: `tests/fakes/getopt_long.c` prints how getopt_long(3) parses its arguments.
    #[test]
    fn the_c_library_reads_the_same() {
        use std::process::Command;
        let dir = tempfile::tempdir().unwrap();
        let exe = dir.path().join("getopt_long");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fakes/getopt_long.c");
        match Command::new("cc").args(["-o".as_ref(), exe.as_os_str(), source.as_ref()]).status() {
            Ok(status) => assert!(status.success(), "cc failed"),
            Err(_) => {
                eprintln!("skipped: no C compiler");
                return;
            }
        }
        let table: Vec<String> = TABLE
            .iter()
            .map(|o| format!("{:?},{},{},{}", o.id, o.short.map_or('-', char::from), o.long, o.argument as u8))
            .collect();
        for (line, expected) in LINES {
            let words = line.split(' ').filter(|w| !w.is_empty());
            let out = Command::new(&exe).arg(table.join(" ")).args(words).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&out.stdout), *expected, "{line}");
        }
    }
}
