//! An entry: its words put together to what is mounted, each looked at with the type of the file system in mind.

use std::borrow::Cow;

use super::{Map, Part, location, option, warning};
use crate::map::words::{Word, dequote, words};
use crate::map::{self, Serves, sun};
use crate::text::{Diagnostic, Escaped, Line};

/// The words of one mount: an entry, or one part of a multi-mount.
#[derive(Default)]
pub(super) struct Group<'a> {
    /// Words with a dash.
    pub(super) options: Vec<Word<'a>>,
    pub(super) locations: Vec<Word<'a>>,
    /// The value of the last `fstype=`.
    pub(super) fstype: Option<Vec<u8>>,
}

impl Group<'_> {
    /// The type of the file system: `nfs` where none is written.
    pub(super) fn fstype(&self) -> &[u8] {
        self.fstype.as_deref().unwrap_or(b"nfs")
    }

    /// Returns whether it is mounted by NFS.
    pub(super) fn is_nfs(&self) -> bool {
        matches!(self.fstype(), b"nfs" | b"nfs4")
    }
}

pub(super) fn examine(line: &Line<'_>, map: &Map<'_>, found: &mut Vec<Diagnostic>) {
    let entry: &[u8] = &line.entry;
    if sun::is_hidden(entry) {
        return;
    }
    replacements(line, map, found);
    for group in groups(entry, &map.options.mount_options) {
        option::examine(line, &group, found);
        location::examine(line, map, &group, found);
    }
}

/// Takes an entry apart. Its own options are repeated in no part, only the type that they name.
fn groups<'a>(entry: &'a [u8], general: &[u8]) -> Vec<Group<'a>> {
    let mut all = vec![Group { fstype: fstype(general), ..Group::default() }];
    for word in words(entry) {
        let is_path = matches!(word.raw, [b'/', ..] | [b'"', b'/', ..]);
        if is_path {
            let fstype = all.first().and_then(|group| group.fstype.clone());
            all.push(Group { fstype, ..Group::default() });
            continue;
        }
        let Some(group) = all.last_mut() else { break };
        if let [b'-', options @ ..] = word.raw {
            group.fstype = fstype(options).or_else(|| group.fstype.take());
            group.options.push(word);
        } else if word.raw == sun::ELSE {
            let (options, fstype) = (group.options.clone(), group.fstype.clone());
            all.push(Group { options, fstype, locations: Vec::new() });
        } else {
            group.locations.push(word);
        }
    }
    all
}

fn fstype(options: &[u8]) -> Option<Vec<u8>> {
    let last = options.split(|&b| b == b',').filter_map(|option| option.strip_prefix(b"fstype=")).next_back();
    last.filter(|fstype| !fstype.is_empty()).map(<[u8]>::to_vec)
}

/// Warns of variables that are not known, of `$` and `&` where they are not replaced, and of words of a shell.
fn replacements(line: &Line<'_>, map: &Map<'_>, found: &mut Vec<Diagnostic>) {
    let entry: &[u8] = &line.entry;
    for (part, name) in map::variables_at(entry) {
        let near = near(name);
        if (map.is_variable)(name) {
            continue;
        }
        let message = format!("unknown variable ${} stands for nothing", Escaped(name));
        let help = match near {
            Some(near) => format!("did you mean ${near}?"),
            None => "define it with -DNAME=VALUE in the master map, or with --define for automount".to_owned(),
        };
        found.push(warning(line, Part::Entry(part), "sun::unknown-variable", message, help));
    }
    for sign in [&b"$("[..], b"`"] {
        if let Some(at) = memchr::memmem::find(entry, sign) {
            let help = "a program map can compute an entry";
            let message = "no shell reads an entry: a command is not replaced by its output";
            found.push(warning(line, Part::Entry(at..at + sign.len()), "sun::shell", message, help));
        }
    }
    for word in words(entry) {
        quoted(line, map, word, found);
        star(line, word, found);
        specifier(line, word, found);
        ampersand(line, word, found);
    }
}

fn near(name: &[u8]) -> Option<&'static str> {
    const NAMES: [&str; 12] =
        ["ARCH", "CPU", "HOST", "OSNAME", "OSREL", "OSVERS", "UID", "GID", "USER", "GROUP", "HOME", "SHOST"];
    let upper = name.to_ascii_uppercase();
    let other = match upper.as_slice() {
        b"USERNAME" | b"LOGNAME" | b"LOGIN" => Some("USER"),
        b"HOSTNAME" => Some("HOST"),
        _ => None,
    };
    let same = NAMES.into_iter().find(|known| known.as_bytes() == upper);
    same.or(other).or_else(|| map::known::nearest(&upper, NAMES.into_iter()))
}

/// Warns of `&` in the quotes of a wildcard's entry, and of known variables in quotes: nothing is replaced there.
fn quoted(line: &Line<'_>, map: &Map<'_>, word: Word<'_>, found: &mut Vec<Diagnostic>) {
    let (mut open, mut escaped) = (false, false);
    for (at, &byte) in word.raw.iter().enumerate() {
        let rest = word.raw.get(at..).unwrap_or_default();
        let replaced = match byte {
            _ if escaped => {
                escaped = false;
                false
            }
            b'"' => {
                open = !open;
                false
            }
            b'\\' => {
                escaped = !open;
                false
            }
            b'&' => open && Serves::of_sun(&line.key).is_some(),
            b'$' => {
                open && map::variables_at(rest)
                    .next()
                    .is_some_and(|(part, name)| part.start == 0 && (map.is_variable)(name))
            }
            _ => false,
        };
        if replaced {
            let plain = dequote(word.raw).map_or(Cow::Borrowed(word.raw), |plain| plain);
            let plain = String::from_utf8_lossy(&plain).replace(' ', "\\ ");
            let at = word.at + at;
            let message = "nothing is replaced between quotes";
            found.push(warning(line, Part::Entry(at..at + 1), "sun::quoted", message, format!("write {plain}")));
            return;
        }
    }
}

/// Warns of a `*` at the end of a location of a wildcard: it is no place of the key.
fn star(line: &Line<'_>, word: Word<'_>, found: &mut Vec<Diagnostic>) {
    if line.key.ends_with(b"*") && word.raw.contains(&b':') && word.raw.ends_with(b"/*") {
        let at = word.at + word.raw.len() - 1;
        let message = "the key does not stand in place of the *";
        found.push(warning(line, Part::Entry(at..at + 1), "sun::star", message, "write & for the key"));
    }
}

/// Warns of the name of the user or of the key as other programs write it: `%u` of pam_mount and systemd, `%(USER)`.
fn specifier(line: &Line<'_>, word: Word<'_>, found: &mut Vec<Diagnostic>) {
    const WRITTEN: [(&[u8], &str); 6] =
        [(b"%u", "$USER"), (b"%(USER)", "$USER"), (b"%U", "$UID"), (b"%(USERUID)", "$UID"), (b"%k", "&"), (b"%s", "&")];
    if !word.raw.contains(&b':') || word.raw.starts_with(b"-") {
        return;
    }
    let mut at = word.at;
    for part in word.raw.split(|&b| b == b'/') {
        if let Some((_, written)) = WRITTEN.iter().find(|(name, _)| *name == part) {
            let message = format!("{} stands for nothing in a map", Escaped(part));
            let part = at..at + part.len();
            found.push(warning(line, Part::Entry(part), "sun::unknown-variable", message, format!("write {written}")));
        }
        at += part.len() + 1;
    }
}

/// Warns of an `&` that is probably a character of a password or a name.
fn ampersand(line: &Line<'_>, word: Word<'_>, found: &mut Vec<Diagnostic>) {
    if word.raw.contains(&b'"') {
        return;
    }
    let bytes = word.raw;
    for at in memchr::memchr_iter(b'&', bytes) {
        let before = bytes.get(..at).unwrap_or_default();
        if before.ends_with(b"\\") {
            continue;
        }
        let option = before.rsplit(|&b| b == b',' || b == b'-').next().unwrap_or_default();
        let secret = bytes.starts_with(b"-")
            && [&b"password="[..], b"pass=", b"password2="].iter().any(|p| option.starts_with(p));
        let letter = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let inside = Serves::of_sun(&line.key).is_none() && letter(before.last()) && letter(bytes.get(at + 1));
        if secret || inside {
            let at = word.at + at;
            let message = "the key stands in place of the &";
            found.push(warning(
                line,
                Part::Entry(at..at + 1),
                "sun::ampersand",
                message,
                "write \\& for the character",
            ));
        }
    }
}
