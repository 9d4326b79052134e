//! `/etc/fstab` as a direct map: its lines with `x-systemd.automount` or `x-autofs.automount`. Each becomes a line of a Sun map.
//!
//! The options `x-systemd.*` that concern automounting are kept (systemd.mount(5)).

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::toml::Lines;
use crate::text::{Diagnostic, Escaped, Position};

/// The table of file systems that mount(8) reads.
pub const FILE: &[u8] = b"/etc/fstab";

/// The option that has systemd automount a line.
pub const SYSTEMD: &[u8] = b"x-systemd.automount";

/// The option that has only this automounter do so.
pub const OWN: &[u8] = b"x-autofs.automount";

/// Options without a meaning for a mount on demand, or for mount(8) itself only.
const DROPPED: [&[u8]; 10] =
    [b"auto", b"noauto", b"nofail", b"user", b"nouser", b"users", b"owner", b"group", b"defaults", b"_netdev"];

/// Reads `text`, the content of `file`. A line that is wrong costs only itself; lines without one of the options are none of ours.
pub fn lines(text: &[u8], file: &Arc<Path>) -> Lines {
    let mut out = Lines::default();
    for (line, number) in text.split(|&b| b == b'\n').zip(1u32..) {
        let line = Fields { text: line, number, file };
        let fields = line.fields();
        let Some(options) = fields.get(3).and_then(|at| line.text.get(at.clone())) else { continue };
        if !options.split(|&b| b == b',').any(|option| option == SYSTEMD || option == OWN) {
            continue;
        }
        match line.entry(&fields, &mut out.diagnostics) {
            Ok(Some(entry)) => {
                out.text.extend_from_slice(&entry);
                out.text.push(b'\n');
                let column = fields.get(1).map_or(0, |at| at.start);
                out.places.push(line.place(column));
            }
            Ok(None) => {}
            Err(error) => out.diagnostics.push(*error),
        }
    }
    out
}

/// Returns where systemd automounts a line, too: the place of the option, and the mount point.
pub fn of_systemd(text: &[u8], file: &Arc<Path>) -> Vec<(Position, Vec<u8>)> {
    let mut found = Vec::new();
    for (line, number) in text.split(|&b| b == b'\n').zip(1u32..) {
        let line = Fields { text: line, number, file };
        let fields = line.fields();
        let (Some(point), Some(options)) = (fields.get(1), fields.get(3)) else { continue };
        if let Some(option) = line.options(options).find(|at| line.get(at) == SYSTEMD) {
            found.push((line.place(option.start), decoded(line.get(point))));
        }
    }
    found
}

/// A line.
struct Fields<'a> {
    text: &'a [u8],
    number: u32,
    file: &'a Arc<Path>,
}

impl Fields<'_> {
    /// Returns where its fields are; none of a comment.
    fn fields(&self) -> Vec<Range<usize>> {
        let (mut fields, mut at) = (Vec::new(), 0);
        let is_blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\r');
        for word in self.text.split(is_blank) {
            if !word.is_empty() {
                if fields.is_empty() && word.starts_with(b"#") {
                    break;
                }
                fields.push(at..at + word.len());
            }
            at += word.len() + 1;
        }
        fields
    }

    /// Returns where the options of a field are.
    fn options(&self, field: &Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let mut at = field.start;
        self.get(field).split(|&b| b == b',').map(move |option| {
            let here = at..at + option.len();
            at = here.end + 1;
            here
        })
    }

    fn get(&self, at: &Range<usize>) -> &[u8] {
        self.text.get(at.clone()).unwrap_or_default()
    }

    fn place(&self, at: usize) -> Position {
        Position::new(self.file, self.number, u32::try_from(at + 1).unwrap_or(u32::MAX))
    }

    fn error(&self, at: &Range<usize>, message: String, help: &str) -> Diagnostic {
        Diagnostic::error("fstab::line", self.place(at.start), message).help(help).length(at.len()).excerpt(self.text)
    }

    /// Returns the line of a Sun map. `None`: there is nothing to be mounted.
    fn entry(
        &self,
        fields: &[Range<usize>],
        warnings: &mut Vec<Diagnostic>,
    ) -> Result<Option<Vec<u8>>, Box<Diagnostic>> {
        let [source_at, point_at, type_at, options_at, ..] = fields else { return Ok(None) };
        let wrong = |at: &Range<usize>, message: String, help: &str| Err(Box::new(self.error(at, message, help)));
        let (source, point) = (decoded(self.get(source_at)), decoded(self.get(point_at)));
        let mut fstype = decoded(self.get(type_at));
        if matches!(&*fstype, b"swap" | b"ignore") || &*point == b"none" {
            return Ok(None);
        }
        if !point.starts_with(b"/") || point.iter().all(|&b| b == b'/') {
            let message = format!("\"{}\" is no mount point", Escaped(&point));
            return wrong(point_at, message, "write an absolute path below the root directory");
        }
        let parts = [&point, &source, &fstype, &decoded(self.get(options_at))];
        if parts.iter().any(|part| part.iter().any(u8::is_ascii_control)) {
            return wrong(point_at, "a control character in the line".to_owned(), "fields are plain text");
        }
        let mut options: Vec<Vec<u8>> = Vec::new();
        for at in self.options(options_at) {
            let option = decoded(self.get(&at));
            match &*option {
                b"" => {}
                b"bind" => fstype = b"bind".to_vec(),
                b"rbind" => {
                    let help = "write bind, and lines of their own for what is mounted below";
                    return wrong(&at, "rbind cannot be automounted".to_owned(), help);
                }
                plain if DROPPED.contains(&plain) || plain.starts_with(b"comment=") => {}
                own if own.starts_with(b"x-systemd.") || own.starts_with(b"x-autofs.") => match meaning(own) {
                    Ok(Some(word)) => options.push(word),
                    Ok(None) => {}
                    Err((message, help)) => {
                        warnings.push(self.error(&at, message, help).into_warning());
                    }
                },
                other if other.starts_with(b"x-") || other.starts_with(b"X-") => {}
                other => options.push(other.to_vec()),
            }
        }
        options.insert(0, [b"fstype=", &*fstype].concat());
        let is_nfs = matches!(&*fstype, b"nfs" | b"nfs4");
        let source = if is_nfs { source } else { [b":", &*source].concat() };
        let word = [b"-", &*options.join(&b',')].concat();
        Ok(Some([key(&point), protected(&word), protected(&source)].join(&b' ')))
    }
}

/// Returns the option of an entry that says the same as an option of systemd. The error has a message, and what to write.
fn meaning(option: &[u8]) -> Result<Option<Vec<u8>>, (String, &'static str)> {
    let name_at = option.iter().position(|&b| b == b'.').map_or(0, |dot| dot + 1);
    let rest = option.get(name_at..).unwrap_or_default();
    let (name, value) = match memchr::memchr(b'=', rest) {
        Some(at) => (rest.get(..at).unwrap_or_default(), rest.get(at + 1..).unwrap_or_default()),
        None => (rest, &b""[..]),
    };
    let time = |word: &str| match seconds(value) {
        Some(seconds) => Ok(Some(format!("{word}={seconds}").into_bytes())),
        None => Err((
            format!("\"{}\" is no time", Escaped(value)),
            "write seconds, or a time with units as 5min 20s (without a blank: 5min20s)",
        )),
    };
    match name {
        b"idle-timeout" => time("timeout"),
        b"mount-timeout" if value != b"0" && value != b"infinity" => time("mount-timeout"),
        b"requires" | b"requires-mounts-for" | b"wants-mounts-for" => match path_of_unit(value) {
            Some(path) => Ok(Some([b"requires=", &*path].concat())),
            None => Err((
                format!("\"{}\" is neither a path nor a mount unit, and is ignored", Escaped(value)),
                "write an absolute path; the automounter waits for no services",
            )),
        },
        _ => Ok(None),
    }
}

/// Returns the path of a unit: a path itself, or the one from which the name of a mount or automount unit is made
/// (systemd.unit(5)).
fn path_of_unit(unit: &[u8]) -> Option<Vec<u8>> {
    if unit.starts_with(b"/") {
        return Some(unit.to_vec());
    }
    let name = unit.strip_suffix(b".mount").or_else(|| unit.strip_suffix(b".automount"))?;
    let mut path = b"/".to_vec();
    let mut rest = name;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after.first_chunk::<3>()) {
            (b'-', _) => path.push(b'/'),
            (b'\\', Some([b'x', hex @ ..])) => {
                let digits = std::str::from_utf8(hex).ok()?;
                path.push(u8::from_str_radix(digits, 16).ok()?);
                rest = after.get(3..)?;
            }
            _ => path.push(byte),
        }
    }
    (path.len() > 1).then_some(path)
}

/// Returns a span of time of systemd (systemd.time(7)) in whole seconds, rounded up; `infinity` is 0.
fn seconds(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.trim();
    if text == "infinity" {
        return Some(0);
    }
    let (mut rest, mut milliseconds) = (text, 0u64);
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at_checked(digits)?;
        let after = after.trim_start();
        let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, after) = after.split_at_checked(letters)?;
        let unit = match unit {
            "" | "s" | "sec" | "second" | "seconds" => 1000,
            "ms" | "msec" => 1,
            "m" | "min" | "minute" | "minutes" => 60_000,
            "h" | "hr" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => 86_400_000,
            "w" | "week" | "weeks" => 604_800_000,
            _ => return None,
        };
        milliseconds = milliseconds.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        rest = after.trim_start();
    }
    (!text.is_empty()).then(|| milliseconds.div_ceil(1000))
}

/// Returns a field without the octal escapes of fstab(5): `\040` is a blank.
fn decoded(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.first_chunk::<3>().filter(|_| byte == b'\\').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
            u8::from_str_radix(digits, 8).ok()
        });
        match octal {
            Some(decoded) => {
                out.push(decoded);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

/// Writes a mount point as the key of a direct map.
fn key(point: &[u8]) -> Vec<u8> {
    let end = point.iter().rposition(|&b| b != b'/').map_or(0, |last| last + 1);
    let mut out = Vec::with_capacity(end);
    for &byte in point.get(..end).unwrap_or_default() {
        if matches!(byte, b' ' | b'\t' | b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out
}

/// Writes a word in which nothing is replaced.
fn protected(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let path = memchr::memmem::find(word, b":/");
    for (at, &byte) in word.iter().enumerate() {
        // Colons behind the one before the path would become slashes.
        let is_late_colon = byte == b':' && path.is_some_and(|path| at > path);
        let times = match byte {
            // Two become one before words are told apart.
            b'\\' => 3,
            b' ' | b'\t' | b'"' | b'#' | b'&' | b'$' => 1,
            _ => usize::from(is_late_colon),
        };
        out.extend(std::iter::repeat_n(b'\\', times));
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file() -> Arc<Path> {
        Path::new("/etc/fstab").into()
    }

    fn read(text: &str) -> (String, Vec<String>) {
        let lines = lines(text.as_bytes(), &file());
        assert_eq!(lines.text.iter().filter(|&&b| b == b'\n').count(), lines.places.len());
        (String::from_utf8(lines.text).unwrap(), lines.diagnostics.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn lines_for_an_automounter_become_entries() {
        let text = "\
# /etc/fstab
UUID=ab-12 / ext4 defaults 0 1
UUID=cd-34 /backup ext4 noauto,nofail,x-systemd.automount,x-systemd.idle-timeout=1min30s,ro 0 2
filer:/export/my\\040docs  /srv/my\\040docs\tnfs4  _netdev,x-systemd.automount,vers=4.2,x-gvfs-show,comment=x
//srv/share$ /srv/share cifs credentials=/etc/c\\043d,x-autofs.automount,x-systemd.mount-timeout=10,x-systemd.requires=srv-keys.mount
/srv/a&b /srv/b none bind,x-systemd.automount,x-systemd.requires-mounts-for=/srv/my\\040docs
/dev/sdx none swap x-systemd.automount
";
        let expected = "\
/backup -fstype=ext4,timeout=90,ro :UUID=cd-34
/srv/my\\ docs -fstype=nfs4,vers=4.2 filer:/export/my\\ docs
/srv/share -fstype=cifs,credentials=/etc/c\\#d,mount-timeout=10,requires=/srv/keys ://srv/share\\$
/srv/b -fstype=bind,requires=/srv/my\\ docs :/srv/a\\&b
";
        let (lines, wrong) = read(text);
        assert_eq!(wrong, [""; 0]);
        assert_eq!(lines, expected);
        let places: Vec<_> = super::lines(text.as_bytes(), &file()).places.iter().map(|p| (p.line, p.column)).collect();
        assert_eq!(places, [(3, 12), (4, 27), (5, 14), (6, 10)]);
        let systemd = of_systemd(text.as_bytes(), &file());
        let points: Vec<_> = systemd.iter().map(|(place, at)| (place.line, String::from_utf8_lossy(at))).collect();
        assert_eq!(
            points,
            [(3, "/backup".into()), (4, "/srv/my docs".into()), (6, "/srv/b".into()), (7, "none".into())]
        );
    }

    #[test]
    fn what_is_wrong_is_told_where() {
        for (line, told) in [
            ("/dev/x data ext4 x-autofs.automount", "1:8: \"data\" is no mount point: write an absolute path "),
            (
                "/dev/x /b ext4 ro\\012,x-autofs.automount",
                "1:8: a control character in the line: fields are plain text",
            ),
            ("/a /b none rbind,x-autofs.automount", "1:12: rbind cannot be automounted: write bind, "),
            (
                "/dev/x /b ext4 x-autofs.automount,x-systemd.idle-timeout=soon",
                "1:35: \"soon\" is no time: write seconds",
            ),
            (
                "/dev/x /b ext4 x-autofs.automount,x-systemd.requires=my.service",
                "1:35: \"my.service\" is neither a path nor a mount unit, and is ignored: write an absolute path; ",
            ),
        ] {
            let (_, wrong) = read(line);
            assert!(wrong.len() == 1 && wrong[0].starts_with(&format!("/etc/fstab:{told}")), "{line}: {wrong:?}");
        }
    }

    #[test]
    fn units_and_times() {
        for (unit, path) in [
            ("/a b", Some("/a b")),
            ("srv-my\\x2ddata.mount", Some("/srv/my-data")),
            ("srv.automount", Some("/srv")),
            ("my.service", None),
            (".mount", None),
            ("a\\x2.mount", Some("/a\\x2")),
        ] {
            assert_eq!(path_of_unit(unit.as_bytes()).as_deref(), path.map(str::as_bytes), "{unit}");
        }
        for (text, expected) in [
            ("0", Some(0)),
            ("90", Some(90)),
            ("1min 30s", Some(90)),
            ("2h5m", Some(7500)),
            ("1500ms", Some(2)),
            ("infinity", Some(0)),
            ("", None),
            ("5 parsecs", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(seconds(text.as_bytes()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_it_says_the_lines_are_those_of_a_map(
            text in "(/[a-z&$\\\\\"#: ]{0,4}[ \t]/?[a-z\\\\0-4\"#&$]{0,6} (ext4|nfs|none) [a-z,=:\\\\\"$&]{0,6},x-autofs.automount\\PC{0,9}\n){0,3}"
        ) {
            let file = file();
            let read = lines(text.as_bytes(), &file);
            let all: Vec<_> = crate::text::lines(&read.text, &file).collect();
            prop_assert_eq!(all.len(), read.places.len());
        }
    }
}
