//! Maps in TOML: typed entries. Each becomes a line of a Sun map.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::text::{Several, Source, spans};
use crate::map::sun::ELSE;
use crate::map::{Pattern, Serves, expand, known, sun};
use crate::text::lines::USERS_ONLY;
use crate::text::{Diagnostic, Escaped, Position};

/// A map in TOML as lines of a Sun map.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lines {
    /// One line for each entry that can be used, in the order of the text, then one for each included map.
    pub text: Vec<u8>,
    /// Position of line `n + 1` in the TOML file.
    pub places: Vec<Position>,
    /// The keys that wildcards serve, each with the number of its line.
    pub wildcards: BTreeMap<u32, Serves>,
    /// Mistakes in the other lines.
    pub diagnostics: Vec<Diagnostic>,
}

/// Tables and keys at the top of a map.
const TOP: &str = "defaults entries include";

/// Reads `text`, the content of `file`. An entry that is wrong costs only itself.
pub fn lines(text: &[u8], file: &Arc<Path>) -> Lines {
    let mut out = Lines::default();
    let source = Source { text, file };
    let table = match source.tables() {
        Ok((table, errors)) => {
            out.diagnostics.extend(errors);
            table
        }
        Err(error) => {
            out.diagnostics.push(error);
            return out;
        }
    };
    let mut defaults = Defaults::default();
    let (mut entries, mut included): (Vec<Found<'_>>, Vec<(String, Range<usize>)>) = Default::default();
    for (key, value) in table {
        let read = match key.get_ref().as_ref() {
            "defaults" => source.read(value).map(|read| defaults = read),
            "include" => {
                let places = spans(&value);
                source.read::<Vec<String>>(value).map(|maps| included = maps.into_iter().zip(places).collect())
            }
            "entries" => match value.get_ref() {
                DeValue::Table(_) => {
                    entries = table_of(value);
                    Ok(())
                }
                _ => Err(source
                    .error("toml::entries", value.span(), "\"entries\" is a table of entries by their keys")
                    .help("write [entries], and below it lines as alice = \"filer:/export/alice\"")),
            },
            other => {
                let error =
                    source.error("toml::unknown", key.span(), format!("unknown key \"{}\"", Escaped(other.as_bytes())));
                let is_entry = matches!(value.get_ref(), DeValue::String(text) if text.contains(":/"));
                let near = match other.to_ascii_lowercase().as_str() {
                    "entry" | "keys" | "map" => Some("entries"),
                    "default" => Some("defaults"),
                    lower if lower != other && TOP.split(' ').any(|word| word == lower) => {
                        TOP.split(' ').find(|word| *word == lower)
                    }
                    _ => known::nearest(other.as_bytes(), TOP.split(' ')),
                };
                Err(error.help(match near {
                    Some(near) => format!("did you mean {near}?"),
                    None if is_entry => "write [entries] in the line before the first entry".to_owned(),
                    None => "a map has the tables [defaults] and [entries], and the list include".to_owned(),
                }))
            }
        };
        out.diagnostics.extend(read.err());
    }
    entries.sort_by_key(|(_, at, _)| at.start);
    for (key, at, value) in entries {
        let read = entry(value, &source).and_then(|mut entry| {
            let except = std::mem::take(&mut entry.except);
            let serves = serves(&key, except, &source, at.clone())?;
            line(&key, serves.as_ref(), &entry, &defaults, &source, at.clone()).map(|line| (line, serves))
        });
        match read {
            Ok((line, serves)) => {
                out.text.extend_from_slice(&line);
                out.text.push(b'\n');
                out.places.push(source.place(at.start));
                let number = u32::try_from(out.places.len()).unwrap_or(u32::MAX);
                out.wildcards.extend(serves.map(|serves| (number, serves)));
            }
            Err(error) => out.diagnostics.push(error),
        }
    }
    for (map, at) in included {
        if map.is_empty() || map.contains(|c: char| c.is_control() || c.is_whitespace() || matches!(c, '\\' | '"')) {
            let error = source.error("toml::include", at, "no map has such a name");
            out.diagnostics.push(error.help("write a path or name as in a master map: include = [\"auto.other\"]"));
            continue;
        }
        out.text.extend_from_slice(&[b"+", map.as_bytes(), b"\n"].concat());
        out.places.push(source.place(at.start));
    }
    out.diagnostics.sort_by_key(|d| (d.place.line, d.place.column));
    out
}

/// Returns whether `text` looks like a map in TOML, and not like another file in TOML.
pub fn is_map(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let (table, _) = DeTable::parse_recoverable(&text);
    table.get_ref().keys().any(|key| TOP.split(' ').any(|word| word == key.get_ref().as_ref()))
}

/// Defaults of the entries of a map.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Defaults {
    r#type: Option<String>,
    options: Option<Several>,
}

/// An entry: its location alone, or a table.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Entry {
    /// The type of the file system, `nfs` unless it is said.
    r#type: Option<String>,
    /// Mount options.
    options: Option<Several>,
    /// Locations; of several, the first that can be mounted.
    source: Option<Several>,
    /// Seconds without use after which it is unmounted; 0: never.
    timeout: Option<u64>,
    /// Paths that are mounted before it.
    requires: Vec<String>,
    /// Locations of which the first that exists is mounted.
    first: Vec<String>,
    /// The map of a submount.
    map: Option<String>,
    /// Whether there is no such key, whatever included maps say.
    hidden: bool,
    /// The mounts of a multi-mount.
    mounts: Vec<Mount>,
    /// For a wildcard: keys that it does not serve.
    except: Vec<Pattern>,
}

/// One mount of a multi-mount.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mount {
    path: String,
    r#type: Option<String>,
    options: Option<Several>,
    source: Several,
}

/// A key, where it is, and its entry.
type Found<'a> = (String, Range<usize>, Spanned<DeValue<'a>>);

fn table_of(value: Spanned<DeValue<'_>>) -> Vec<Found<'_>> {
    let DeValue::Table(table) = value.into_inner() else { return Vec::new() };
    table.into_iter().map(|(key, value)| (key.get_ref().to_string(), key.span(), value)).collect()
}

/// Reads an entry; one that is a string is its location.
fn entry(value: Spanned<DeValue<'_>>, source: &Source<'_>) -> Result<Entry, Diagnostic> {
    match value.get_ref() {
        DeValue::String(location) => Ok(Entry { source: Some(Several::One(location.to_string())), ..Entry::default() }),
        DeValue::Table(_) => source.read(value),
        _ => Err(source.error("toml::entry", value.span(), "an entry is a string or a table").help(HELP)),
    }
}

/// Help for an entry that mounts nothing.
const HELP: &str =
    "write source = \"server:/path\", first = [...], map = \"auto.name\", mounts = [...] or hidden = true";

/// Returns which keys an entry stands for; `None` if its key is an ordinary one.
fn serves(
    key: &str,
    except: Vec<Pattern>,
    source: &Source<'_>,
    at: Range<usize>,
) -> Result<Option<Serves>, Diagnostic> {
    match Serves::of_toml(key) {
        Ok(Some(serves)) => Ok(Some(Serves { except, ..serves })),
        Ok(None) if except.is_empty() => Ok(None),
        Ok(None) => {
            let error = source.error("toml::except", at, "only a wildcard has exceptions");
            Err(error.help("write except into the entry \"*\", or into one whose key has a star"))
        }
        Err(wrong) => {
            let (what, expected) = wrong.split_once(", ").unwrap_or((wrong, "expected a pattern"));
            Err(source.error("toml::pattern", at, what).help(expected))
        }
    }
}

/// The line of an entry in a Sun map.
fn line(
    key: &str,
    serves: Option<&Serves>,
    entry: &Entry,
    defaults: &Defaults,
    source: &Source<'_>,
    at: Range<usize>,
) -> Result<Vec<u8>, Diagnostic> {
    let wrong = |message: String, help: &str| {
        let shown = Escaped(key.as_bytes()).to_string();
        Err(source.error("toml::entry", at.clone(), format!("entry {shown}: {message}")).help(help))
    };
    let mut words: Vec<Vec<u8>> = Vec::new();
    let given =
        [entry.source.is_some(), !entry.first.is_empty(), entry.map.is_some(), entry.hidden, !entry.mounts.is_empty()];
    if given.iter().filter(|given| **given).count() != 1 {
        let message = if given.contains(&true) {
            "more than one of source, first, map, mounts, hidden"
        } else {
            "nothing to mount"
        };
        return wrong(message.to_owned(), HELP);
    }
    if let Some(path) = entry.requires.iter().find(|path| !path.starts_with('/') || path.contains(',')) {
        let message = format!("it cannot require \"{}\"", Escaped(path.as_bytes()));
        return wrong(message, "write absolute paths without commas: requires = [\"/path\", \"/other\"]");
    }
    let fstype = entry.r#type.as_ref().or(defaults.r#type.as_ref()).map(String::as_str);
    let options = entry.options.as_ref().or(defaults.options.as_ref());
    if entry.hidden {
        words.push(b"-null".to_vec());
    } else if let Some(map) = &entry.map {
        if entry.r#type.is_some() {
            return wrong("a submount has no type".to_owned(), "leave type out: the map says what is mounted");
        }
        words.push(option_word(Some("autofs"), options, entry.timeout, &entry.requires));
        words.push(word(map));
    } else {
        words.push(option_word(fstype, options, entry.timeout, &entry.requires));
        for location in entry.source.iter().flat_map(Several::iter) {
            words.push(location_word(location, fstype));
        }
        for (n, location) in entry.first.iter().enumerate() {
            words.extend((n > 0).then(|| ELSE.to_vec()));
            words.push(location_word(location, fstype));
        }
        for mount in &entry.mounts {
            if !mount.path.starts_with('/') {
                return wrong(
                    format!("the path \"{}\" is not absolute", Escaped(mount.path.as_bytes())),
                    "write path = \"/\" for the key itself, or path = \"/below\"",
                );
            }
            words.push(word(&mount.path));
            let own = mount.r#type.as_deref();
            words.push(option_word(own, mount.options.as_ref(), None, &[]));
            words.extend(mount.source.iter().map(|location| location_word(location, own.or(fstype))));
        }
    }
    words.retain(|word| !word.is_empty());
    if key.is_empty() {
        return wrong("the key is empty".to_owned(), "a key is the name of a directory, or * for all others");
    }
    if words.iter().any(|word| is_open(word)) {
        return wrong(
            "a backslash at the end of a word".to_owned(),
            "leave it out: it would protect the blank behind it",
        );
    }
    let text = words.join(&b' ');
    let locations = entry.source.iter().flat_map(Several::iter).chain(entry.first.iter().map(String::as_str));
    if locations.chain(entry.map.as_deref()).any(|location| location.trim().is_empty()) || text.is_empty() {
        return wrong("nothing to mount".to_owned(), HELP);
    }
    if text.iter().any(u8::is_ascii_control) || key.chars().any(char::is_control) {
        return wrong("a control character".to_owned(), "keys, options and locations are plain text");
    }
    // What the entry says is checked as for some key and unknown variables.
    let some_key = if serves.is_some() { "key" } else { key };
    let expanded = expand(&text, some_key.as_bytes(), &|_| Some(b"x".as_slice().into()), true);
    if let Err(error) = sun::parse(&expanded, &source.place(at.start), &mut Vec::new()) {
        return wrong(error.message, error.help.as_deref().unwrap_or(HELP));
    }
    let mut line = match serves {
        Some(serves) if serves.users => USERS_ONLY.to_vec(),
        Some(_) => b"*".to_vec(),
        None => key_word(key),
    };
    line.push(b' ');
    line.extend(text);
    Ok(line)
}

/// A word with the type and the options, or nothing.
fn option_word(fstype: Option<&str>, options: Option<&Several>, timeout: Option<u64>, requires: &[String]) -> Vec<u8> {
    let fstype = fstype.map(|fstype| format!("fstype={fstype}"));
    let options = options.map(Several::joined).filter(|options| !options.is_empty());
    let timeout = timeout.map(|seconds| format!("timeout={seconds}"));
    let requires = requires.iter().map(|path| format!("requires={path}"));
    let all: Vec<String> = fstype.into_iter().chain(options).chain(timeout).chain(requires).collect();
    if all.is_empty() { Vec::new() } else { word(&format!("-{}", all.join(","))) }
}

/// A location. What is no place on a server begins with a colon in a Sun map, and needs none here.
fn location_word(location: &str, fstype: Option<&str>) -> Vec<u8> {
    let is_nfs = matches!(fstype, None | Some("nfs" | "nfs4"));
    if is_nfs || location.starts_with(':') { word(location) } else { word(&format!(":{location}")) }
}

/// A word: blanks and quotes are protected; `&`, `$` and a backslash mean what they mean in a Sun map.
pub(super) fn word(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let path = memchr::memmem::find(text.as_bytes(), b":/");
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        // Colons behind the one before the path would become slashes.
        let is_late_colon = byte == b':' && path.is_some_and(|path| at > path);
        if !escaped && (matches!(byte, b' ' | b'\t' | b'"' | b'#') || is_late_colon) {
            out.push(b'\\');
        }
        escaped = !escaped && byte == b'\\';
        out.push(byte);
    }
    out
}

/// Returns whether a word ends with a backslash that would protect what follows the word.
fn is_open(word: &[u8]) -> bool {
    word.iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 1
}

/// A key. A star or question mark with a backslash before it is that character.
pub(super) fn key_word(key: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len());
    let key = key.replace("\\*", "*").replace("\\?", "?");
    for (at, byte) in key.bytes().enumerate() {
        if matches!(byte, b' ' | b'\t' | b'"' | b'\\') || at == 0 && matches!(byte, b'#' | b'+' | b'*') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Arc<Path> {
        Path::new("/m.toml").into()
    }

    fn read(text: &str) -> (String, Vec<String>) {
        let lines = lines(text.as_bytes(), &file());
        assert_eq!(lines.text.iter().filter(|&&b| b == b'\n').count(), lines.places.len());
        (String::from_utf8(lines.text).unwrap(), lines.diagnostics.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn entries_become_lines() {
        let text = r#"
            include = ["auto.more"]
            [defaults]
            options = ["rw", "soft"]
            [entries]
            alice = "filer:/export/alice"
            "*" = { source = "filer1,filer2(2):/export/&", options = "ro" }
            "a b" = { type = "cifs", source = "//srv/a b" }
            cd = { type = "iso9660", options = "ro,nosuid", source = "/dev/sr0" }
            two = { source = ["a:/x", "b:/y:z"] }
            sub = { map = "file:/etc/auto.sub", options = "browse" }
            gone = { hidden = true }
            "proj-*" = "filer:/proj/&"
            "*[passwd]" = { source = "filer:/home/&", except = ["root"] }
            one-of = { first = ["a:/x", "b:/y z"], options = "ro", timeout = 0, requires = ["/k/&", "/z"] }
            'lit\*' = "filer:/lit"
            [entries.src]
            mounts = [
                { path = "/", source = "filer:/src" },
                { path = "/tools", type = "bind", options = "ro", source = "/srv/tools" },
            ]
        "#;
        let (lines, wrong) = read(text);
        assert_eq!(wrong, [""; 0]);
        let expected = [
            "alice -rw,soft filer:/export/alice",
            "* -ro filer1,filer2(2):/export/&",
            "a\\ b -fstype=cifs,rw,soft ://srv/a\\ b",
            "cd -fstype=iso9660,ro,nosuid :/dev/sr0",
            "two -rw,soft a:/x b:/y\\:z",
            "sub -fstype=autofs,browse file:/etc/auto.sub",
            "gone -null",
            "* -rw,soft filer:/proj/&",
            "*[passwd] -rw,soft filer:/home/&",
            "one-of -ro,timeout=0,requires=/k/&,requires=/z a:/x || b:/y\\ z",
            "lit* -rw,soft filer:/lit",
            "src -rw,soft / filer:/src /tools -fstype=bind,ro :/srv/tools",
            "+auto.more",
        ];
        assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
        let wildcards = super::lines(text.as_bytes(), &file()).wildcards;
        let shown: Vec<_> = wildcards.iter().map(|(line, serves)| format!("{line} {serves}")).collect();
        assert_eq!(shown, ["2 *", "8 proj-*", "9 *[passwd]"]);
        assert_eq!(wildcards[&9].except.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_told_where_and_costs_itself_only() {
        let good = "[entries]\ngood = \"srv:/x\"\n";
        for (bad, told) in [
            ("bad = 5\n", "/m.toml:3:7: an entry is a string or a table: write source = "),
            ("bad = { sorce = \"x\" }\n", "/m.toml:3:9: unknown field `sorce`: did you mean source? expected one of "),
            ("bad = { source = 7 }\n", "/m.toml:3:"),
            ("bad = { options = \"ro\" }\n", "/m.toml:3:1: entry bad: nothing to mount: write source = "),
            ("bad = { source = \"a:/b\", hidden = true }\n", "/m.toml:3:1: entry bad: more than one of "),
            (
                "bad = { mounts = [{ path = \"x\", source = \"a:/b\" }] }\n",
                "/m.toml:3:1: entry bad: the path \"x\" is not absolute: ",
            ),
            ("bad = { map = \"auto.x\", type = \"nfs\" }\n", "/m.toml:3:1: entry bad: a submount has no type: "),
            ("bad = 'a:/b\\'\n", "/m.toml:3:1: entry bad: a backslash at the end of a word: "),
            ("\"\" = \"a:/b\"\n", "/m.toml:3:1: entry : the key is empty: "),
            ("bad = \"a:/b\\nc\"\n", "/m.toml:3:1: entry bad: a control character: "),
            ("bad = \n", "/m.toml:3:"),
            ("bad = { source = \"a:/b\", except = [\"x\"] }\n", "/m.toml:3:1: only a wildcard has exceptions: "),
            (
                "\"*\" = { source = \"a:/b\", except = [\"a/b\"] }\n",
                "/m.toml:3:35: a pattern that no key has: expected ",
            ),
            ("\"a/*\" = \"a:/b\"\n", "/m.toml:3:1: a pattern that no key has: expected the name of a directory"),
            ("'a\\**' = \"a:/b\"\n", "/m.toml:3:1: a pattern with \\* or \\?: expected ? for any one character"),
            ("[entres]\n", "/m.toml:3:2: unknown key \"entres\": did you mean entries?"),
        ] {
            let (lines, wrong) = read(&format!("{good}{bad}"));
            assert_eq!(lines, "good srv:/x\n", "{bad}");
            assert!(wrong.iter().any(|wrong| wrong.starts_with(told)), "{bad}: {wrong:?}");
        }
        let (lines, wrong) = read("entries = 5\ninclude = [\"a b\", \"c\"]\n");
        assert_eq!((lines.as_str(), wrong.len()), ("+c\n", 2), "{wrong:?}");
        assert!(lines_of_bytes(b"[entries]\n\xff = 1\n")[0].starts_with("/m.toml:2:1: not UTF-8: TOML is UTF-8"));
    }

    fn lines_of_bytes(text: &[u8]) -> Vec<String> {
        lines(text, &file()).diagnostics.iter().map(ToString::to_string).collect()
    }
}
