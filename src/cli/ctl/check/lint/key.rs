//! Keys that are probably something else: options, locations, words with a variable or a pattern.

use super::{Part, warning};
use crate::map::Serves;
use crate::map::known::options::look_like_options;
use crate::source::Mode;
use crate::text::{Diagnostic, Escaped, Line};

pub(super) fn examine(line: &Line<'_>, mode: Mode, found: &mut Vec<Diagnostic>) {
    let key: &[u8] = &line.key;
    let shown = Escaped::start_of(key);
    // The byte `b` without a backslash before it.
    let plain =
        |b: u8| (0..key.len()).find(|&at| key.get(at) == Some(&b) && (at == 0 || key.get(at - 1) != Some(&b'\\')));
    let mut warn = |part, code, message: String, help: String| {
        found.push(warning(line, Part::Key(part), code, message, help));
    };
    let named = line.entry.trim_ascii();
    let is_include = matches!(key, b"include" | b"-include" | b"!include" | b".include" | b"@include" | b"source");
    if is_include && !named.is_empty() && memchr::memmem::find(named, b":/").is_none() && !named.starts_with(b"-") {
        let help = format!("write +{}", Escaped::start_of(named));
        return warn(0..key.len(), "key::include", format!("\"{shown}\" is a key and includes no map"), help);
    }
    if mode == Mode::Direct && (key.starts_with(b"/proc/") || key.starts_with(b"/sys/")) {
        let message = format!("the directory {shown} cannot be made: the kernel has made what is there");
        return warn(0..key.len(), "direct::in-the-way", message, "choose another mount point".to_owned());
    }
    if key.starts_with(b"-") && key.len() > 1 {
        let help = "a line begins with its key, or with * for all keys".to_owned();
        return warn(0..key.len(), "key::options", format!("the key \"{shown}\" looks like options"), help);
    }
    if key.contains(&b'=') && look_like_options(key) {
        let help = "a line begins with its key, or with * for all keys".to_owned();
        return warn(0..key.len(), "key::options", format!("the key \"{shown}\" looks like options"), help);
    }
    if let Some((name, entry)) = of_fstab(key, &line.entry) {
        let name = if mode == Mode::Direct { name } else { name.rsplit('/').next().unwrap_or_default().to_owned() };
        return warn(
            0..key.len(),
            "key::fstab",
            "the line is one of fstab(5)".to_owned(),
            format!("write {name} {entry}"),
        );
    }
    if memchr::memmem::find(key, b":/").is_some() {
        let help = "a line begins with its key, or with * for all keys".to_owned();
        return warn(0..key.len(), "key::location", format!("the key \"{shown}\" looks like a location"), help);
    }
    if key.starts_with(b"UUID=") || key.starts_with(b"LABEL=") || (key.starts_with(b"/dev/") && fstab(&line.entry)) {
        let help = "write KEY -fstype=TYPE,OPTIONS :DEVICE".to_owned();
        return warn(0..key.len(), "key::fstab", "the line is one of fstab(5)".to_owned(), help);
    }
    if let Some(at) = plain(b'$').filter(|&at| key.get(at + 1).is_some_and(|b| b.is_ascii_alphabetic() || *b == b'{')) {
        let help = "write * for all keys, and & for the key in the entry".to_owned();
        warn(at..key.len(), "key::variable", "variables are not replaced in keys".to_owned(), help);
    }
    if let Some(at) = plain(b'&').filter(|_| key == b"&") {
        let help = "write * for all keys; & stands for the key in the entry".to_owned();
        warn(at..at + 1, "key::ampersand", "& is not replaced in keys".to_owned(), help);
    }
    if let Some(at) = plain(b'*').filter(|_| Serves::of_sun(key).is_none()) {
        let one = shown.to_string().replace('*', "\\*");
        let help = match mode {
            Mode::Direct => format!("write a line for each path, or {one} for this one key"),
            Mode::Indirect | Mode::Amd => format!("write * alone for all keys, or {one} for this one key"),
        };
        warn(at..at + 1, "key::pattern", format!("\"{shown}\" is one key and no pattern"), help);
    }
    let is_list = key.contains(&b'[') && key.contains(&b']') || plain(b'|').is_some();
    if (plain(b'?').is_some() || is_list) && !key.starts_with(b"\"") && Serves::of_sun(key).is_none() {
        let help = "write a line for each key, or * for all keys".to_owned();
        warn(0..key.len(), "key::pattern", format!("\"{shown}\" is one key and no pattern"), help);
    }
    if let [b'\'', inner @ .., b'\''] = key {
        let help = format!("write \"{}\"", Escaped::start_of(inner));
        warn(0..key.len(), "key::quotes", "single quotes are part of the key".to_owned(), help);
    }
    let separator = key.len() > 1 && key.last().is_some_and(|b| b":=,;".contains(b)) && !key.ends_with(b"\\:");
    if separator {
        let at = key.len() - 1;
        let help = format!("write {} and a blank", Escaped::start_of(key.get(..at).unwrap_or_default()));
        let message = format!("the last character of \"{shown}\" is part of the key");
        warn(at..key.len(), "key::separator", message, help);
    }
}

/// Returns the mount point and the entry in the form of a map if a line is one of fstab(5) for a remote file system.
fn of_fstab(device: &[u8], entry: &[u8]) -> Option<(String, String)> {
    let words: Vec<&[u8]> = entry.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    let [at, kind, options, ..] = words.as_slice() else { return None };
    let is_remote = memchr::memmem::find(device, b":/").is_some() || device.starts_with(b"//");
    let is_kind = kind.iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b));
    if !is_remote || !at.starts_with(b"/") || !is_kind {
        return None;
    }
    let colon = if device.starts_with(b"//") { ":" } else { "" };
    let options = match *options {
        b"defaults" => String::new(),
        options => format!(",{}", Escaped::start_of(options)),
    };
    let entry = format!("-fstype={}{options} {colon}{}", Escaped::start_of(kind), Escaped::start_of(device));
    Some((Escaped::start_of(at).to_string(), entry))
}

/// Returns whether an entry ends as lines of fstab(5) do.
fn fstab(entry: &[u8]) -> bool {
    let words: Vec<&[u8]> = entry.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    words.len() >= 3 && words.first().is_some_and(|word| word.starts_with(b"/"))
}
