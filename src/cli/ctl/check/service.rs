//! The settings for the init system: options with which `automount` would not start, and lines that set nothing.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::map::known;
use crate::options;
use crate::text::{Diagnostic, Escaped, Position};

/// Examines the file.
pub(super) fn file(text: &[u8], file: &Arc<Path>) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = options(text, file).into_iter().collect();
    let mut first = None;
    let mut continues = false;
    for (line, number) in text.split(|&b| b == b'\n').zip(1..) {
        let is_rest = std::mem::replace(&mut continues, line.ends_with(b"\\"));
        let start = line.trim_ascii_start();
        if is_rest || start.is_empty() || start.starts_with(b"#") || start.starts_with(b";") {
            continue;
        }
        let Some((at, length, message, help)) = wrong(line) else {
            if name(line) == b"OPTIONS" {
                if let Some(earlier) = first.replace(number) {
                    let help = format!("this line counts, and line {earlier} has no effect: remove one of the two");
                    let place = Position::new(file, number, 1);
                    let d = Diagnostic::warning("service::line", place, "OPTIONS is set a second time").help(help);
                    found.push(d.length(7).excerpt(line));
                }
            }
            continue;
        };
        let place = Position::new(file, number, u32::try_from(at + 1).unwrap_or(u32::MAX));
        found.push(Diagnostic::warning("service::line", place, message).help(help).length(length).excerpt(line));
    }
    found
}

/// Returns the name that a line sets.
fn name(line: &[u8]) -> &[u8] {
    line.split(|&b| b == b'=').next().unwrap_or_default().trim_ascii()
}

/// Returns what is wrong with a line: where and for how many bytes, a message and a help.
fn wrong(line: &[u8]) -> Option<(usize, usize, String, String)> {
    let indent = line.len() - line.trim_ascii_start().len();
    let all = line.trim_ascii().len();
    let Some(equals) = memchr::memchr(b'=', line) else {
        let message =
            if line.trim_ascii().starts_with(b"[") { "there are no sections here" } else { "the line sets nothing" };
        let help = "write OPTIONS=\"...\"; other settings belong in autofs.conf";
        return Some((indent, all, message.to_owned(), help.to_owned()));
    };
    let name = name(line);
    let value = line.get(equals + 1..).unwrap_or_default();
    let shown = Escaped::start_of(name);
    if let Some(name) = name.strip_prefix(b"export").filter(|rest| rest.first().is_some_and(u8::is_ascii_whitespace)) {
        let name = Escaped::start_of(name.trim_ascii());
        let message = "export is a word of the shell: systemd ignores the line".to_owned();
        return Some((indent, 6, message, format!("write {name}={}", Escaped::start_of(value))));
    }
    if let Some(plain) = name.strip_suffix(b"+") {
        let message = "nothing is added to a value: systemd ignores the line".to_owned();
        return Some((indent, name.len(), message, format!("write all options in one line: {}=", Escaped(plain))));
    }
    let other = matches!(name, b"OPTION" | b"OPTS" | b"DAEMON_OPTS" | b"AUTOMOUNT_OPTIONS" | b"options" | b"ARGS");
    if other || known::nearest(name, std::iter::once("OPTIONS")).is_some() {
        let message = format!("nothing reads {shown}");
        return Some((indent, name.len(), message, "write OPTIONS=".to_owned()));
    }
    if let Some((at, what, plain)) = (0..value.len())
        .find_map(|at| known::typographic(value.get(at..)?).map(|(what, plain)| (equals + 1 + at, what, plain)))
    {
        return Some((at, 1, format!("a typographic {what}"), format!("write {plain}")));
    }
    if name != b"OPTIONS" {
        return None;
    }
    let quote = value.trim_ascii_start().first().copied().filter(|b| matches!(b, b'"' | b'\''));
    let at = line.len() - value.trim_ascii_start().len();
    let open = quote.filter(|quote| line.iter().filter(|b| *b == quote).count() % 2 == 1 && !line.contains(&b'\\'));
    if let Some(quote) = open {
        let quote = char::from(quote);
        return Some((
            at,
            all.saturating_sub(at - indent),
            format!("unmatched {quote}"),
            "close the quote on the same line".to_owned(),
        ));
    }
    let command = memchr::memmem::find(line, b"$(").or_else(|| memchr::memchr(b'`', line));
    command.filter(|_| quote != Some(b'\'')).map(|at| {
        let message = "no shell reads the file: a command is not replaced by its output".to_owned();
        (at, 1, message, "write the words themselves".to_owned())
    })
}

/// Examines the options for the command line, `OPTIONS="..."`.
fn options(text: &[u8], file: &Arc<Path>) -> Option<Diagnostic> {
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
    let place = Position::new(file, number, u32::try_from(at + 1).ok()?);
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
        let file: Arc<Path> = Path::new("/etc/default/autofs").into();
        for (text, found) in [
            ("OPTIONS=\"\"\n", None),
            ("OPTIONS=\"--timeout=5 -v -D A=b\"\n", None),
            ("OPTIONS='-t 5 $MORE --x'\n", None),
            ("A=1\nOPTIONS=\"-v --time-out=5\"\n", Some((2, 13, "--time-out=5"))),
            ("OPTIONS=-t five\n", Some((1, 9, "got five"))),
            ("OPTIONS=\"-v -t\"\n", Some((1, 13, "-t"))),
        ] {
            let told = options(text.as_bytes(), &file);
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

    #[test]
    fn a_line_that_sets_nothing_is_found() {
        let file: Arc<Path> = Path::new("/etc/default/autofs").into();
        for (text, found) in [
            ("OPTIONS=\"-v\"\nLANG=C\n# x\n; y\nUSE_MISC_DEVICE=\"yes\"\n", ""),
            ("OPTIONS='-D A=b'\n", ""),
            ("OPTIONS=\"-v \\\n -t 5\"\n", ""),
            ("OPTIONS = \"-v\"\n", ""),
            ("OPTION=-v\n", "1:1 nothing reads OPTION => write OPTIONS="),
            (
                "\nexport OPTIONS=-v\n",
                "2:1 export is a word of the shell: systemd ignores the line => write OPTIONS=-v",
            ),
            (
                "OPTIONS+=-v\n",
                "1:1 nothing is added to a value: systemd ignores the line => write all options in one line: OPTIONS=",
            ),
            ("OPTIONS=\"-v\n", "1:9 unmatched \" => close the quote on the same line"),
            (
                "OPTIONS=-v\nOPTIONS=-d\n",
                "2:1 OPTIONS is set a second time => this line counts, and line 1 has no effect: remove one of the two",
            ),
            (
                "OPTIONS=\"-D H=$(hostname)\"\n",
                "1:15 no shell reads the file: a command is not replaced by its output => write the words themselves",
            ),
            (
                "[autofs]\n",
                "1:1 there are no sections here => write OPTIONS=\"...\"; other settings belong in autofs.conf",
            ),
            (
                "timeout 300\n",
                "1:1 the line sets nothing => write OPTIONS=\"...\"; other settings belong in autofs.conf",
            ),
            ("X=\u{201c}-v\u{201d}\n", "1:3 a typographic quotation mark => write \""),
        ] {
            let told = super::file(text.as_bytes(), &file);
            let shown = |d: &Diagnostic| {
                format!(
                    "{}:{} {} => {}",
                    d.place.line,
                    d.place.column,
                    d.message,
                    d.help.as_deref().unwrap_or_default()
                )
            };
            assert_eq!(told.iter().map(shown).collect::<Vec<_>>().join("\n"), found, "{text}");
        }
    }
}
