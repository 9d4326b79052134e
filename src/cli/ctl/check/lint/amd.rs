//! Entries of maps in the format of am-utils.

use std::path::Path;

use super::{Map, Part, repeated, warning};
use crate::map::amd::{self, Compared, Item, Location, Opt, Test, Value};
use crate::map::known;
use crate::sys::path;
use crate::text::{Diagnostic, Escaped, Line, lines};

/// Systems that selectors may name; this one is linux.
const SYSTEMS: &str =
    "linux freebsd netbsd openbsd sunos sunos4 sunos5 sos4 sos5 solaris aix hpux irix osf1 darwin macosx";

/// Options whose values are paths.
const PATHS: [Opt; 3] = [Opt::Rfs, Opt::Fs, Opt::Sublink];

/// Examines a map, line by line.
pub(in super::super) fn map(map: &Map<'_>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut first = std::collections::HashMap::new();
    for line in lines(map.text, map.file).flatten().filter(|line| !line.is_include()) {
        key(&line, &mut found);
        repeated(&line, &mut first, &mut found);
        if let Ok(entry) = amd::parse(&line.entry, &line.entry_place()) {
            for item in &entry.items {
                if let Item::Location(location) | Item::Defaults(location) = item {
                    self::location(&line, location, map, &mut found);
                }
            }
            blanks(&line, &entry.items, &mut found);
            cuts(&line, &entry.items, &mut found);
        }
    }
    found
}

fn key(line: &Line<'_>, found: &mut Vec<Diagnostic>) {
    let key: &[u8] = &line.key;
    let mut warn = |code, message: String, help: &str| {
        found.push(warning(line, Part::Key(0..key.len()), code, message, help));
    };
    let shown = Escaped::start_of(key);
    if matches!(key, b"defaults" | b"default" | b"/default") {
        warn("amd::key", format!("\"{shown}\" is an ordinary key"), "did you mean /defaults?");
    } else if key.ends_with(b"*") && key != b"*" && !key.ends_with(b"/*") && !key.ends_with(b"\\*") {
        let help = "write * alone for all keys, or DIRECTORY/* for those that begin with it";
        warn("key::pattern", format!("\"{shown}\" is one key and no pattern"), help);
    } else if memchr::memmem::find(key, b"${").is_some() {
        let help = "write * for all keys, and ${key} for the key in the entry";
        warn("key::variable", "variables are not replaced in keys".to_owned(), help);
    }
}

fn location(line: &Line<'_>, location: &Location, map: &Map<'_>, found: &mut Vec<Diagnostic>) {
    for selector in &location.selectors {
        if let Test::Compare { compared, value: of, equal } = &selector.test {
            self::compared(line, *compared, of, *equal, found);
            value(line, of, map, found);
        }
    }
    for (n, (option, of)) in location.options.iter().enumerate() {
        let part = Part::Entry(of.at..of.end);
        value(line, of, map, found);
        if location.options.iter().take(n).any(|(earlier, _)| earlier == option) {
            let message = format!("{} is set a second time in this location", option.name());
            found.push(warning(line, part, "amd::twice", message, "the last one counts: remove one of the two"));
            continue;
        }
        let text = written(line, of);
        if PATHS.contains(option) {
            star(line, of, text, found);
        }
        match option {
            Opt::Dev if is_name(text) => {
                let help = format!("write dev:=/dev/{}", Escaped::start_of(text));
                let message = format!("\"{}\" is no path of a device", Escaped::start_of(text));
                found.push(warning(line, part, "amd::device", message, help));
            }
            Opt::Rhost if memchr::memchr(b'/', text).is_some() => host(line, of, text, found),
            Opt::Mount | Opt::Umount => program(line, of, text, map, found),
            Opt::Opts | Opt::Addopts | Opt::Remopts => blank_in_options(line, of, text, found),
            _ => {}
        }
    }
    let has = |option| location.options.iter().any(|(set, _)| *set == option);
    if let Some((_, of)) = location.options.iter().find(|(set, _)| *set == Opt::Mount).filter(|_| !has(Opt::Umount)) {
        let help = "write unmount:=\"/path/of/program argv0 arguments\", too";
        let message = "a command that mounts, and none that unmounts: the mount stays for ever";
        found.push(warning(line, Part::Entry(of.at..of.end), "amd::program", message, help));
    }
}

/// The value as it is written, without quotes around it.
fn written<'a>(line: &'a Line<'_>, value: &Value) -> &'a [u8] {
    let text = line.entry.get(value.at..value.end).unwrap_or_default();
    text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text)
}

fn is_name(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_alphanumeric)
}

/// Warns of a comparison with a value that probably has a slip in it.
fn compared(line: &Line<'_>, compared: Compared, value: &Value, equal: bool, found: &mut Vec<Diagnostic>) {
    let text = written(line, value);
    let sign = if equal { "==" } else { "!=" };
    if let Some(rest) = text.strip_prefix(b"=").filter(|rest| !rest.is_empty()) {
        let message = format!("\"{}\" is compared, with the = before it", Escaped::start_of(text));
        let help = format!("write {}{sign}{}", compared.name(), Escaped::start_of(rest));
        found.push(warning(line, Part::Entry(value.at..value.end), "amd::compared", message, help));
        return;
    }
    if compared != Compared::Os {
        return;
    }
    let lower = text.to_ascii_lowercase();
    let same = (lower == b"linux" && lower != text).then_some("linux");
    if let Some(near) = same.or_else(|| known::nearest(text, SYSTEMS.split_ascii_whitespace())) {
        let message = format!("no system is called \"{}\"", Escaped::start_of(text));
        let help = format!("did you mean os{sign}{near}?");
        found.push(warning(line, Part::Entry(value.at..value.end), "amd::compared", message, help));
    }
}

/// Warns of variables that are not known, and of text that looks like a variable and is none.
fn value(line: &Line<'_>, value: &Value, map: &Map<'_>, found: &mut Vec<Diagnostic>) {
    let text = line.entry.get(value.at..value.end).unwrap_or_default();
    let is_known = |name: &[u8]| {
        Opt::of(name).is_some() || Compared::of(name).is_some() || (map.is_variable)(name) || name == b"wire"
    };
    let names = || Opt::NAMES.iter().chain(Compared::NAMES).copied();
    for name in value.variables().filter(|name| !is_known(name)) {
        let at = memchr::memmem::find(text, name).unwrap_or_default();
        let lower = name.to_ascii_lowercase();
        let same = names().find(|known| known.as_bytes() == lower);
        let help = match same.or_else(|| known::nearest(&lower, names())) {
            Some(near) => format!("did you mean ${{{near}}}?"),
            None => "it stays as it is written; the variables are listed in auto.amd(5)".to_owned(),
        };
        let message = format!("unknown variable ${{{}}}", Escaped(name));
        let part = value.at + at..value.at + at + name.len();
        found.push(warning(line, Part::Entry(part), "amd::variable", message, help));
    }
    for at in memchr::memchr_iter(b'$', text) {
        let rest = text.get(at + 1..).unwrap_or_default();
        let part = Part::Entry(value.at + at..value.at + at + 1);
        if at > 0 && text.get(at - 1) == Some(&b'\\') {
            continue;
        }
        if rest.starts_with(b"{") {
            if !rest.contains(&b'}') {
                let message = "\"${\" without \"}\" is no variable";
                found.push(warning(line, part, "amd::variable", message, "write ${NAME}"));
            }
            continue;
        }
        let length = rest.iter().take_while(|&&b| b.is_ascii_alphanumeric() || b == b'_').count();
        let name = rest.get(..length).unwrap_or_default();
        if is_known(&name.to_ascii_lowercase()) {
            let name = Escaped(name).to_string();
            let help = format!("write ${{{}}}", name.to_ascii_lowercase());
            let message = format!("${name} is no variable without braces");
            found.push(warning(line, part, "amd::variable", message, help));
        }
    }
}

/// Warns of signs for the key that others have: `&` of Sun maps, and `*`.
fn star(line: &Line<'_>, value: &Value, text: &[u8], found: &mut Vec<Diagnostic>) {
    let sign = if text.ends_with(b"/&") || text == b"&" {
        "&"
    } else if text.ends_with(b"/*") && line.key.ends_with(b"*") {
        "*"
    } else {
        return;
    };
    let message = format!("the key does not stand in place of the {sign}");
    found.push(warning(line, Part::Entry(value.at..value.end), "amd::variable", message, "write ${key} for the key"));
}

/// Warns of a server with a directory, as locations of Sun maps have it.
fn host(line: &Line<'_>, value: &Value, text: &[u8], found: &mut Vec<Diagnostic>) {
    let (host, directory) = text.split_at(memchr::memchr(b'/', text).unwrap_or(text.len()));
    let host = Escaped::start_of(host.strip_suffix(b":").unwrap_or(host));
    let message = format!("\"{}\" is no name of a server", Escaped::start_of(text));
    let help = format!("write rhost:={host};rfs:={}", Escaped::start_of(directory));
    found.push(warning(line, Part::Entry(value.at..value.end), "amd::host", message, help));
}

/// Warns of `||` without a location before or behind it.
fn cuts(line: &Line<'_>, items: &[Item], found: &mut Vec<Diagnostic>) {
    let places: Vec<usize> = memchr::memmem::find_iter(&line.entry, b"||").collect();
    let cuts = items.iter().enumerate().filter(|(_, item)| matches!(item, Item::Cut));
    for ((n, _), at) in cuts.zip(places) {
        let is_location =
            |n: Option<usize>| n.and_then(|n| items.get(n)).is_some_and(|item| !matches!(item, Item::Cut));
        if !is_location(n.checked_sub(1)) || !is_location(n.checked_add(1)) {
            let message = "|| separates nothing: there is no location on one side of it";
            found.push(warning(line, Part::Entry(at..at + 2), "amd::cut", message, "remove it, or write the location"));
        }
    }
}

/// Warns of a command that does not exist.
fn program(line: &Line<'_>, value: &Value, text: &[u8], map: &Map<'_>, found: &mut Vec<Diagnostic>) {
    use std::os::unix::ffi::OsStrExt as _;
    let command = text.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    let part = Part::Entry(value.at..value.end);
    if memchr::memchr(b'$', command).is_some() || command.is_empty() {
        return;
    }
    let file = Path::new(std::ffi::OsStr::from_bytes(command));
    if !file.is_absolute() {
        let message = format!("{} is no whole path of a program", Escaped::start_of(command));
        found.push(warning(line, part, "amd::program", message, "write \"/path/of/program argv0 arguments\""));
    } else if !map.is_alone && path::stat_untriggered(file).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        let message = format!("there is no program {}", Escaped::start_of(command));
        found.push(warning(line, part, "amd::program", message, "until it is there, an access fails"));
    }
}

/// Warns of a blank behind a comma: what follows is an option that begins with a blank.
fn blank_in_options(line: &Line<'_>, value: &Value, text: &[u8], found: &mut Vec<Diagnostic>) {
    if memchr::memmem::find(text, b", ").is_some() || memchr::memmem::find(text, b" ,").is_some() {
        let all: Vec<&[u8]> = text.split(|&b| b == b',').map(<[u8]>::trim_ascii).collect();
        let help = format!("write {}", Escaped::start_of(&all.join(&b',')));
        let part = Part::Entry(value.at..value.end);
        found.push(warning(line, part, "amd::blank", "a blank in a list of options", help));
    }
}

/// Warns of blanks in place of semicolons: locations that each set another option.
fn blanks(line: &Line<'_>, items: &[Item], found: &mut Vec<Diagnostic>) {
    let mut set = Vec::new();
    let mut second = None;
    for item in items {
        let Item::Location(location) = item else { return };
        let ([], [(option, _)]) = (&*location.selectors, &*location.options) else { return };
        if set.contains(option) {
            return;
        }
        set.push(*option);
        if set.len() == 2 {
            second = Some(location.at);
        }
    }
    // A type and what belongs to it, or a server and its directory.
    let belongs = |option| set.contains(&option);
    if let Some(at) = second.filter(|_| belongs(Opt::Type) || belongs(Opt::Rhost) && belongs(Opt::Rfs)) {
        let message = "a blank separates locations: each is tried alone";
        found.push(warning(line, Part::Entry(at - 1..at), "amd::blank", message, "write ; between the options of one"));
    }
}
