//! Parses autofs.conf(5), and the file of the init system, which has the same format: sections with lines `name = value`.
//!
//! Parsing never fails. Other lines are ignored, as in automount, with a warning if they look like mistakes. The names are
//! interpreted by [`settings`](super::settings).

use std::path::Path;
use std::sync::Arc;

use crate::text::{Diagnostic, Escaped, Position};

/// The section of a setting.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// `[ autofs ]`, and everything before the first header.
    Autofs,
    /// `[ amd ]`.
    Amd,
    /// `[ /mount/point ]` of an amd map.
    Mount(Vec<u8>),
    /// Any other section, which has no effect.
    Other(String),
}

/// One `name = value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<'a> {
    /// The section.
    pub section: Section,
    /// The name in lower case, without the old prefix `DEFAULT_`.
    pub name: String,
    /// The value without quotes and blanks around it; may be empty.
    pub value: &'a [u8],
    /// The whole line.
    line: &'a [u8],
    number: u32,
    value_at: usize,
    file: &'a Arc<Path>,
}

impl Setting<'_> {
    /// Makes an error about the value.
    pub fn value_error(&self, code: &'static str, message: impl Into<String>) -> Diagnostic {
        self.diagnostic(code, self.value_at, self.value.len(), message.into())
    }

    /// Returns where the value is.
    pub fn place(&self) -> Position {
        place(self.file, self.number, self.value_at)
    }

    /// Makes an error about the name.
    pub fn name_error(&self, code: &'static str, message: impl Into<String>) -> Diagnostic {
        let length = self.line.iter().take_while(|b| is_name(**b)).count();
        self.diagnostic(code, 0, length, message.into())
    }

    fn diagnostic(&self, code: &'static str, at: usize, length: usize, message: String) -> Diagnostic {
        Diagnostic::error(code, place(self.file, self.number, at), message).length(length).excerpt(self.line)
    }
}

/// Parses `text`, the content of `file`. Returns its settings in order, and warnings about other lines.
pub fn parse<'a>(text: &'a [u8], file: &'a Arc<Path>) -> (Vec<Setting<'a>>, Vec<Diagnostic>) {
    let mut section = Section::Autofs;
    let (mut settings, mut diagnostics) = (Vec::new(), Vec::new());
    for (line, number) in text.split(|&b| b == b'\n').zip(1..) {
        let warn = |at, message: &str, help: &str| {
            let d = Diagnostic::warning("conf::syntax", place(file, number, at), message).help(help);
            d.length(line.trim_ascii_end().len().saturating_sub(at)).excerpt(line)
        };
        match line.first() {
            Some(b'[') => {
                let header = line.get(1..).unwrap_or_default();
                let name = header.split(|&b| b == b']').next().unwrap_or_default().trim_ascii();
                section = named(name);
                if !header.contains(&b']') {
                    diagnostics.push(warn(0, "section header without a closing bracket", "write [ name ]"));
                }
            }
            Some(b) if b.is_ascii_alphabetic() => match assignment(line) {
                Some((name, value_at, value)) => {
                    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
                    let name = name.strip_prefix("default_").map(str::to_owned).unwrap_or(name);
                    settings.push(Setting { section: section.clone(), name, value, line, number, value_at, file });
                }
                None => diagnostics.push(warn(0, "line that sets nothing is ignored", "write name = value")),
            },
            Some(b' ' | b'\t') => {
                let at = line.iter().take_while(|b| b.is_ascii_whitespace()).count();
                let text = line.get(at..).unwrap_or_default();
                if text.first().is_some_and(u8::is_ascii_alphabetic) && assignment(text).is_some() {
                    let message = "setting that starts with a blank is ignored";
                    diagnostics.push(warn(at, message, "start it in the first column"));
                }
            }
            _ => {}
        }
    }
    (settings, diagnostics)
}

fn place(file: &Arc<Path>, number: u32, at: usize) -> Position {
    Position::new(file, number, u32::try_from(at + 1).unwrap_or(u32::MAX))
}

fn named(name: &[u8]) -> Section {
    match name.to_ascii_lowercase().as_slice() {
        b"autofs" => Section::Autofs,
        b"amd" => Section::Amd,
        [b'/', ..] => Section::Mount(name.to_vec()),
        other => Section::Other(Escaped::start_of(other).to_string()),
    }
}

fn is_name(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b'-'
}

/// Splits `name = value # comment` into name, start of the value, and value.
fn assignment(line: &[u8]) -> Option<(&[u8], usize, &[u8])> {
    let name_len = line.iter().take_while(|b| is_name(**b)).count();
    let (name, rest) = line.split_at_checked(name_len)?;
    let blanks = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_whitespace()).count();
    let equals = blanks(rest);
    let raw = rest.get(equals..)?.strip_prefix(b"=")?;
    let raw_at = name_len + equals + 1;
    let raw = raw.split(|&b| b == b'#').next().unwrap_or_default();
    let around = |b: &u8| b.is_ascii_whitespace() || *b == b'"';
    let lead = raw.iter().take_while(|b| around(b)).count();
    let kept = raw.len() - raw.iter().rev().take_while(|b| around(b)).count();
    Some((name, raw_at + lead, raw.get(lead..kept).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Each setting as `section name=value`, then each diagnostic.
    fn read(text: &str) -> Vec<String> {
        let file = Path::new("/etc/autofs.conf").into();
        let (settings, diagnostics) = parse(text.as_bytes(), &file);
        let show = |s: &Setting<'_>| {
            let section = match &s.section {
                Section::Autofs => "",
                Section::Amd => "amd:",
                Section::Mount(path) => &format!("{}:", Escaped(path)),
                Section::Other(name) => &format!("?{name}:"),
            };
            format!("{section}{}={}", s.name, Escaped(s.value))
        };
        settings.iter().map(show).chain(diagnostics.iter().map(|d| format!("! {d}"))).collect()
    }

    #[test]
    fn lines_set_what_they_say() {
        let cases: &[(&str, &[&str])] = &[
            ("timeout = 44", &["timeout=44"]),
            ("timeout=44 # seconds\r\n", &["timeout=44"]),
            (
                "TIMEOUT=66\nDEFAULT_TIMEOUT=\"55\"\ndefault_browse_mode = \" no \"",
                &["timeout=66", "timeout=55", "browse_mode=no"],
            ),
            ("search_base = \"dc=a b,dc=c\"", &["search_base=dc=a b,dc=c"]),
            ("OPTIONS=\"\"", &["options="]),
            ("# c\n\n;x = y\n1=2\n", &[]),
            (
                "a=1\n[ amd ]\na=2\n[AutoFS]\na=3\n[ /mnt/x ]\nmap_name = m\n[y]\na=4\n",
                &["a=1", "amd:a=2", "a=3", "/mnt/x:map_name=m", "?y:a=4"],
            ),
            (
                "[ autofs ]\n  timeout = 44\n\t# c\n  \n  some text\n",
                &["! /etc/autofs.conf:2:3: setting that starts with a blank is ignored: start it in the first column"],
            ),
            (
                "timeout 44\n[amd\na=1",
                &[
                    "amd:a=1",
                    "! /etc/autofs.conf:1:1: line that sets nothing is ignored: write name = value",
                    "! /etc/autofs.conf:2:1: section header without a closing bracket: write [ name ]",
                ],
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), *expected, "{text:?}");
        }
    }

    #[test]
    fn errors_point_at_name_or_value() {
        let file = Path::new("/etc/autofs.conf").into();
        let (settings, _) = parse(b"\nTimeout = \"x y\" # z\n", &file);
        let d = settings[0].value_error("a::b", "bad");
        assert_eq!((d.to_string().as_str(), d.length), ("/etc/autofs.conf:2:12: bad", 3));
        let d = settings[0].name_error("a::b", "bad");
        assert_eq!((d.to_string().as_str(), d.length), ("/etc/autofs.conf:2:1: bad", 7));
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "([a-c =\"#\t\n/]|\\[|\\]|\\PC){0,60}") {
            let file = Path::new("/etc/autofs.conf").into();
            let (settings, diagnostics) = parse(text.as_bytes(), &file);
            let all = settings.iter().map(|s| s.value_error("a::b", "")).chain(diagnostics);
            for d in all {
                let line = text.split('\n').nth(d.place.line as usize - 1).unwrap();
                prop_assert!((d.place.column + d.length) as usize <= line.len() + 1);
            }
        }

        #[test]
        fn what_is_printed_is_read_back(values in proptest::collection::vec(("[a-c][a-z_]{0,9}", "[a-z0-9/:=,.-]{0,9}"), 0..9)) {
            let text: String = values.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
            let expected: Vec<String> = values.iter().map(|(name, value)| format!("{name}={value}")).collect();
            prop_assert_eq!(read(&text), expected);
        }
    }
}
