//! Lines of a master map: options of the command line, misspelt ones, words that look like a type of map.

use std::ops::Range;

use super::{Part, option, text, warning};
use crate::map::known;
use crate::text::quote::word as word_length;
use crate::text::{Diagnostic, Escaped, Line};

/// The options of automount(8) that have no meaning in a master map.
const COMMAND_LINE: &str = "-O -p -P -M -S -f -m -l -C -F -U -h -V --global-options --pid-file --positive-timeout \
    --master-wait --systemd-service --foreground --dumpmaps --set-log-priority --dont-check-daemon --force --force-exit \
    --on-exit --help --version --define";

/// The options of a master map that are written with two dashes, or with a dash or none.
const OPTIONS: &str = "timeout negative-timeout ghost browse nobrowse nobind symlink strictexpire slave private shared \
    random-multimount-selection use-weight-only verbose debug mode owner group trigger-propagation slashify-colons no-slashify-colons";

/// The types of maps.
const TYPES: &str = "file program exec sss yp nis nisplus ldap ldaps hesiod userdir multi dir";

/// Examines one line.
pub(in super::super) fn line(line: &Line<'_>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    text::typographic(line, &mut found);
    found.retain(|d| !d.message.ends_with("dash") || d.place == line.key_place());
    if line.is_include() {
        if &*line.key == b"+dir" || line.key.starts_with(b"+dir=") {
            let help = "did you mean +dir:/PATH, with a colon and without a blank?";
            let message = "a master map with the name dir is included";
            found.push(warning(line, Part::Key(0..line.key.len()), "master::include", message, help));
        }
        return found;
    }
    point(line, &mut found);
    let mut words = words(&line.entry);
    let Some(map) = words.next() else { return found };
    let is_ldap = is_ldap(line.entry.get(map.clone()).unwrap_or_default());
    map_word(line, map, &mut found);
    contradiction(line, &mut found);
    let mut plain = Vec::new();
    let mut value = false;
    let mut number: Option<u64> = None;
    for part in words {
        let word = line.entry.get(part.clone()).unwrap_or_default();
        // The reader warns of a typographic dash, and names the option.
        let seconds = |word: &[u8]| {
            let digits = word.strip_prefix(b"--timeout=").or_else(|| word.strip_prefix(b"-t")).unwrap_or(word);
            std::str::from_utf8(digits).ok()?.parse::<u64>().ok()
        };
        if let (Some(factor), Some(number)) = (unit(word), number.take()) {
            let message = format!("\"{}\" is no unit of a timeout: it is taken for an option of mount", Escaped(word));
            let help = format!("write --timeout={}", number.saturating_mul(factor));
            found.push(warning(line, Part::Entry(part), "master::timeout", message, help));
            continue;
        }
        number = if value || word.starts_with(b"--timeout=") || word.starts_with(b"-t") { seconds(word) } else { None };
        if std::mem::take(&mut value) || !word.is_ascii() {
            continue;
        }
        let is_name = memchr::memchr(b'=', word)
            .and_then(|at| word.get(..at))
            .is_some_and(|name| ATTRIBUTES.split(' ').any(|known| known.as_bytes().eq_ignore_ascii_case(name)));
        if is_ldap && is_name {
            let message = "a blank in the name of an LDAP map: the rest of it is taken for options of mount";
            let help = "write ldap://HOST/DN, or ldap:DN, without blanks; one in the DN is written \"\\ \"";
            found.push(warning(line, Part::Entry(part), "master::ldap", message, help));
            continue;
        }
        if matches!(
            word,
            b"-t"
                | b"-n"
                | b"-D"
                | b"--timeout"
                | b"--negative-timeout"
                | b"--mode"
                | b"--owner"
                | b"--group"
                | b"--trigger-propagation"
                | b"="
        ) {
            value = true;
        } else if let Some((message, help)) = misplaced(word) {
            found.push(warning(line, Part::Entry(part), "master::option", message, help));
        } else if word.len() > 1 && !word.starts_with(b"--") && !word.starts_with(b"-D") && !is_own(word) {
            plain.push(part);
        }
    }
    option::master(line, &plain, &mut found);
    found
}

/// Attributes with which a distinguished name begins, or goes on behind a comma.
const ATTRIBUTES: &str = "ou cn dc nisMapName automountMapName o c l";

/// Returns whether the first word of an entry names a map in LDAP.
fn is_ldap(map: &[u8]) -> bool {
    let kind = map.split(|&b| b == b':' || b == b',').next().unwrap_or_default();
    matches!(kind, b"ldap" | b"ldaps")
}

/// Warns of a mount point that is probably meant as a pattern, and of one below which nothing can be made.
fn point(line: &Line<'_>, found: &mut Vec<Diagnostic>) {
    let key: &[u8] = &line.key;
    let all = Part::Key(0..key.len());
    let shown = Escaped::start_of(key);
    if key.starts_with(b"/") && key.ends_with(b"/*") {
        let above = Escaped::start_of(key.get(..key.len() - 2).unwrap_or_default());
        let help = format!("write {above}; the keys of the map are the names below it");
        found.push(warning(line, all, "master::pattern", "the * is the name of a directory", help));
    } else if let Some(at) = variable(key) {
        let above = key.get(..at).and_then(|before| before.rsplitn(2, |&b| b == b'/').last()).unwrap_or_default();
        let above = Escaped::start_of(if above.is_empty() { b"/mnt" } else { above });
        let help = format!("write a directory above it, as {above}; the keys of the map are the names below it");
        let part = Part::Key(at..key.len());
        found.push(warning(line, part, "master::pattern", "variables are not replaced in a mount point", help));
    } else if let Some(inner) = key.strip_prefix(b"'").and_then(|rest| rest.strip_suffix(b"'")) {
        let help = format!("write {}, with double quotes if it has a blank", Escaped::start_of(inner));
        found.push(warning(line, all, "key::quotes", "single quotes are part of the mount point", help));
    } else if matches!(key, b"/--" | b"/_" | b"/.-" | b"-/") {
        let message = format!("\"{shown}\" is a directory of that name");
        found.push(warning(line, all, "master::pattern", message, "did you mean /- for a direct map?"));
    } else if key.starts_with(b"/proc/") || key.starts_with(b"/sys/") {
        let message = format!("the directory {shown} cannot be made: the kernel has made what is there");
        found.push(warning(line, all, "master::in-the-way", message, "choose another mount point"));
    }
}

/// Returns where in a mount point the sign of a variable is.
fn variable(key: &[u8]) -> Option<usize> {
    (0..key.len()).find(|&at| {
        key.get(at) == Some(&b'$')
            && key.get(at + 1).is_some_and(|b| b.is_ascii_alphabetic() || *b == b'{')
            && at.checked_sub(1).and_then(|before| key.get(before)) != Some(&b'\\')
    })
}

/// Warns of browse beside nobrowse.
fn contradiction(line: &Line<'_>, found: &mut Vec<Diagnostic>) {
    let meaning = |word: &[u8]| match word.strip_prefix(b"--").or_else(|| word.strip_prefix(b"-")).unwrap_or(word) {
        b"browse" | b"ghost" | b"g" => Some(true),
        b"nobrowse" => Some(false),
        _ => None,
    };
    let mut first = None;
    for part in words(&line.entry).skip(1) {
        let word = line.entry.get(part.clone()).unwrap_or_default();
        let Some(browse) = meaning(word) else { continue };
        if first.is_some_and(|before| before != browse) {
            let help = format!("{} counts; remove one of the two", Escaped(word));
            let message = "browse and nobrowse contradict each other";
            found.push(warning(line, Part::Entry(part), "options::contradiction", message, help));
        }
        first = Some(browse);
    }
    let mut first: Option<&[u8]> = None;
    for part in words(&line.entry).skip(1) {
        let word = line.entry.get(part.clone()).unwrap_or_default();
        let plain = word.strip_prefix(b"--").or_else(|| word.strip_prefix(b"-")).unwrap_or(word);
        if !matches!(plain, b"shared" | b"slave" | b"private") {
            continue;
        }
        if let Some(before) = first.replace(plain).filter(|before| *before != plain) {
            let message = format!("{} and {} contradict each other", Escaped(before), Escaped(plain));
            let help = "write one of them: a mount has one kind of propagation".to_owned();
            found.push(warning(line, Part::Entry(part), "options::contradiction", message, help));
        }
    }
}

/// Returns how many seconds a word behind a number of seconds stands for.
fn unit(word: &[u8]) -> Option<u64> {
    match word.to_ascii_lowercase().as_slice() {
        b"s" | b"sec" | b"secs" | b"second" | b"seconds" => Some(1),
        b"m" | b"min" | b"mins" | b"minute" | b"minutes" => Some(60),
        b"h" | b"hour" | b"hours" => Some(3600),
        b"d" | b"day" | b"days" => Some(86400),
        _ => None,
    }
}

fn is_own(word: &[u8]) -> bool {
    let name = word.split(|&b| b == b'=').next().unwrap_or_default();
    let short = name.first() == Some(&b'-') && matches!(name.get(1..), Some([b't' | b'n', b'0'..=b'9', ..] | [_]));
    short || OPTIONS.split_ascii_whitespace().any(|own| name.strip_prefix(b"-").unwrap_or(name) == own.as_bytes())
}

/// An option that does not do here what its name says: why, and what to write.
fn misplaced(word: &[u8]) -> Option<(String, String)> {
    let name = word.split(|&b| b == b'=').next().unwrap_or_default();
    let shown = Escaped::start_of(name);
    let value = Escaped::start_of(word.get(name.len()..).unwrap_or_default());
    if COMMAND_LINE.split_ascii_whitespace().any(|option| option.as_bytes() == name) {
        return Some((format!("{shown} is an option of the command line"), "leave it out".to_owned()));
    }
    if name == b"-o" {
        return Some(("-o is an option of mount(8)".to_owned(), "leave it out, and write -ro,soft".to_owned()));
    }
    if matches!(
        name,
        b"browse"
            | b"nobrowse"
            | b"ghost"
            | b"--ghost"
            | b"nobind"
            | b"strictexpire"
            | b"symlink"
            | b"shared"
            | b"slave"
            | b"private"
    ) && name != word
    {
        return Some((format!("{shown} takes no value"), format!("write {shown} alone, or leave it out")));
    }
    let plain = name.strip_prefix(b"--").or_else(|| name.strip_prefix(b"-")).unwrap_or(name);
    let own = |name: &[u8]| OPTIONS.split_ascii_whitespace().find(|option| option.as_bytes() == name);
    let dashed = |name: &str| {
        matches!(name, "timeout" | "negative-timeout" | "ghost" | "mode" | "trigger-propagation" | "verbose" | "debug")
    };
    if let Some(option) = own(plain).filter(|option| dashed(option) && !name.starts_with(b"--") && *option != "timeout")
    {
        let message = format!("\"{shown}\" is passed on to mount");
        return Some((message, format!("write --{option}{value}")));
    }
    let near = known::nearest(plain, OPTIONS.split_ascii_whitespace()).filter(|_| own(plain).is_none())?;
    // Two dashes are for automount; with fewer it may be a word for mount(8).
    let for_mount = !name.starts_with(b"--") && known::options::is_option(plain);
    (!for_mount).then(|| {
        let dashes = if dashed(near) || name.starts_with(b"--") { "--" } else { "" };
        let has_value =
            matches!(near, "timeout" | "negative-timeout" | "mode" | "owner" | "group" | "trigger-propagation");
        let value = if has_value { value.to_string() } else { String::new() };
        (format!("unknown option \"{shown}\""), format!("did you mean {dashes}{near}{value}?"))
    })
}

/// Warns of a word before a colon that is nearly a type of map.
fn map_word(line: &Line<'_>, part: Range<usize>, found: &mut Vec<Diagnostic>) {
    let word = line.entry.get(part.clone()).unwrap_or_default();
    if matches!(word, b"hosts" | b"host" | b"null") {
        let meant = if word == b"null" { "-null" } else { "-hosts" };
        let message = format!("\"{}\" is the name of a file", Escaped(word));
        found.push(warning(line, Part::Entry(part), "master::map", message, format!("did you mean {meant}?")));
        return;
    }
    let Some(colon) = memchr::memchr(b':', word) else { return };
    let head = word.get(..colon).unwrap_or_default();
    let kind = head.split(|&b| b == b',').next().unwrap_or_default();
    let lower = kind.to_ascii_lowercase();
    let near = known::nearest(&lower, TYPES.split_ascii_whitespace());
    let same = TYPES.split_ascii_whitespace().find(|known| known.as_bytes() == lower && lower != kind);
    // With a slash behind it the reader refuses the line, and names the type, too.
    let refused = word.get(colon + 1) == Some(&b'/');
    if let Some(near) = same.or(near).filter(|_| !refused) {
        let message = format!("unknown map type \"{}\"", Escaped::start_of(kind));
        let part = part.start..part.start + kind.len();
        found.push(warning(line, Part::Entry(part), "master::map", message, format!("did you mean {near}:?")));
    }
}

/// The words of an entry up to a comment; blanks and commas part them, but for the first, the map, only blanks.
fn words(entry: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    let mut first = true;
    std::iter::from_fn(move || {
        let ends = |b: u8| b.is_ascii_whitespace() || (b == b',' && !first);
        let rest = entry.get(at..)?;
        let start = at + rest.iter().position(|&b| !ends(b))?;
        let rest = entry.get(start..).filter(|rest| !rest.starts_with(b"#"))?;
        at = start + word_length(rest, ends).max(1);
        first = false;
        Some(start..at)
    })
}
