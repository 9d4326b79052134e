//! The settings for the init system: options with which `automount` would not start.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use crate::options;
use crate::source::configuration;
use crate::text::{Diagnostic, Escaped, Position};

/// Examines the options for the command line, `OPTIONS="..."`.
pub(super) fn options(file: &Path) -> Option<Diagnostic> {
    let text = configuration::read(file).ok()?;
    // The last line counts.
    let (line, number) =
        text.split(|&b| b == b'\n').zip(1..).filter(|(line, _)| line.starts_with(b"OPTIONS=")).last()?;
    let value = line.get(8..)?;
    if memchr::memchr3(b'$', b'\\', b'`', value).is_some() {
        return None;
    }
    let is_end = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'"' | b'\'');
    let (mut words, mut at) = (Vec::new(), 8);
    for word in value.split(is_end) {
        if !word.is_empty() {
            words.push((at, word));
        }
        at += word.len() + 1;
    }
    let error = error(&words)?;
    let is_wrong = |count: &usize| {
        let fails = |count: usize| words.get(..count).is_none_or(|words| self::error(words).is_some());
        fails(*count) && fails(count + 1)
    };
    let (at, word) = words.get((1..=words.len()).find(is_wrong)? - 1)?;
    let place = Position::new(&file.into(), number, u32::try_from(at + 1).ok()?);
    let message = format!("automount does not start with {}: {error}", Escaped(word));
    let help = "the options are listed in automount(8)";
    let found = Diagnostic::error("service::options", place, message).help(help).excerpt(line);
    Some(found.length(word.len()))
}

/// Returns what `automount` says about these options.
fn error(words: &[(usize, &[u8])]) -> Option<String> {
    let program = std::iter::once(OsString::from("automount"));
    let words = program.chain(words.iter().map(|(_, word)| OsString::from_vec(word.to_vec())));
    let error = options::parse(words, &mut std::io::sink()).err()?;
    // The second line says how to get help.
    error.to_string().lines().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_does_not_exist_is_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, found) in [
            ("OPTIONS=\"\"\n", None),
            ("OPTIONS=\"--timeout=5 -v -D A=b\"\n", None),
            ("OPTIONS='-t 5 $MORE --x'\n", None),
            ("A=1\nOPTIONS=\"-v --time-out=5\"\n", Some((2, 13, "--time-out=5"))),
            ("OPTIONS=-t five\n", Some((1, 9, "got five"))),
            ("OPTIONS=\"-v -t\"\n", Some((1, 13, "-t"))),
        ] {
            std::fs::write(file.path(), text).unwrap();
            let told = options(file.path());
            let told = told.as_ref().map(|d| (d.place.line, d.place.column, &*d.message));
            let same = match (told, found) {
                (None, None) => true,
                (Some((line, column, message)), Some((l, c, word))) => {
                    (line, column) == (l, c) && message.contains(word)
                }
                _ => false,
            };
            assert!(same, "{text}: {told:?}");
        }
    }
}
