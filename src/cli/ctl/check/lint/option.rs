//! Mount options: misspelt names and types, missing and wrong values, words that contradict each other.

use std::ops::Range;

use super::entry::Group;
use super::{Part, warning};
use crate::map::known::options::{self, Value};
use crate::map::known::{self, types};
use crate::map::words::Word;
use crate::sys::fstypes;
use crate::text::{Diagnostic, Escaped, Line, Position};

/// One option of a list.
struct Item<'a> {
    /// Its bytes in the entry.
    part: Range<usize>,
    name: &'a [u8],
    value: Option<&'a [u8]>,
}

/// A code, a message and a help about an option.
type Finding = (&'static str, String, String);

pub(super) fn examine(line: &Line<'_>, group: &Group<'_>, found: &mut Vec<Diagnostic>) {
    let mut all = Vec::new();
    for word in &group.options {
        if let Some((code, message, help)) = whole(*word) {
            let part = word.at..word.at + word.raw.len();
            found.push(warning(line, Part::Entry(part), code, message, help));
            continue;
        }
        // The reader refuses the entry, and says why.
        let is_refused = matches!(word.raw, b"-o" | b"-t") || word.raw.ends_with(b"=");
        if is_refused && group.locations.first().is_some_and(|word| !word.raw.contains(&b':')) {
            continue;
        }
        all.extend(items(word.raw, word.at));
    }
    list(&all, group, |part, (code, message, help)| found.push(warning(line, Part::Entry(part), code, message, help)));
}

/// Examines the mount options among the words of a line of the master map.
pub(in super::super) fn master(line: &Line<'_>, words: &[Range<usize>], found: &mut Vec<Diagnostic>) {
    let items: Vec<Item<'_>> =
        words.iter().flat_map(|word| items(line.entry.get(word.clone()).unwrap_or_default(), word.start)).collect();
    let group = Group { fstype: Some(b"".to_vec()), ..Group::default() };
    list(&items, &group, |part, (code, message, help)| {
        found.push(warning(line, Part::Entry(part), code, message, help))
    });
}

/// Examines the type and the options of a mount, where only those are warned of that look like others.
pub(in super::super) fn planned(fstype: &[u8], options: &[u8], place: &Position) -> Vec<Diagnostic> {
    let kind = Item { part: 0..0, name: b"fstype", value: Some(fstype) };
    let items = items(options, 0);
    let found = file_system(&kind).into_iter().chain(items.iter().filter_map(|item| one(item, fstype)));
    let plain = |help: String| help.replace("-fstype=", "the type ");
    let is_sure = |(code, _, help): &Finding| help.starts_with("did you mean") || *code == "options::value";
    let misspelt = found.filter(is_sure).filter(|(_, message, _)| message != "fstype without a type");
    misspelt.map(|(code, message, help)| Diagnostic::warning(code, place.clone(), message).help(plain(help))).collect()
}

/// A word of options that is wrong as a whole.
fn whole(word: Word<'_>) -> Option<Finding> {
    let shown = Escaped::start_of(word.raw);
    if word.raw.len() > 1 && word.raw != b"--" && !word.raw.iter().any(u8::is_ascii_alphanumeric) {
        let help = "write the key, a blank, the options and the location".to_owned();
        return Some(("options::separator", format!("\"{shown}\" separates nothing in a map"), help));
    }
    if let Some(rest) = word.raw.strip_prefix(b"--").filter(|rest| !rest.is_empty()) {
        let help = match typed(option_name(rest), true) {
            Some(name) => format!("did you mean -{name}{}?", value_of(rest)),
            None => format!("write -{}", Escaped::start_of(rest)),
        };
        return Some(("options::dashes", format!("\"{shown}\" begins with two dashes"), help));
    }
    None
}

fn option_name(option: &[u8]) -> &[u8] {
    option.split(|&b| b == b'=').next().unwrap_or_default()
}

/// The part of an option from its `=` to the end of the list.
fn value_of(option: &[u8]) -> String {
    let name = option_name(option).len();
    Escaped::start_of(option.get(name..).unwrap_or_default()).to_string()
}

/// The options of a word with one dash or none, with their bytes. What is quoted or escaped is left out.
fn items(raw: &[u8], at: usize) -> Vec<Item<'_>> {
    let (list, mut start) = match raw.strip_prefix(b"-") {
        Some(list) => (list, at + 1),
        None => (raw, at),
    };
    if memchr::memchr2(b'"', b'\\', list).is_some() {
        return Vec::new();
    }
    let mut items = Vec::new();
    for option in list.split(|&b| b == b',') {
        let part = start..start + option.len();
        start = part.end + 1;
        if !option.is_empty() {
            let name = option_name(option);
            items.push(Item { part, name, value: option.get(name.len() + 1..).filter(|_| name.len() < option.len()) });
        }
    }
    items
}

fn list(items: &[Item<'_>], group: &Group<'_>, mut found: impl FnMut(Range<usize>, Finding)) {
    let mut seen: Vec<&[u8]> = Vec::new();
    for item in items {
        if let Some(finding) = one(item, group.fstype()) {
            found(item.part.clone(), finding);
        } else if let Some(other) =
            item.value.is_none().then(|| seen.iter().find(|o| contradict(o, item.name))).flatten()
        {
            let (first, last) = (Escaped(other), Escaped(item.name));
            let help = format!("{last} counts; remove {first}");
            found(
                item.part.clone(),
                ("options::contradiction", format!("{first} and {last} contradict each other"), help),
            );
        }
        if item.name == b"fstype" && seen.contains(&item.name) {
            let message = "fstype stands here twice".to_owned();
            found(item.part.clone(), ("options::contradiction", message, "remove one of the two".to_owned()));
        }
        seen.push(item.name);
    }
    let is_4 = |i: &Item<'_>| {
        matches!(i.name, b"vers" | b"nfsvers") && i.value.is_some_and(|v| v.starts_with(b"4"))
            || matches!(i.name, b"v4" | b"v4.0" | b"v4.1" | b"v4.2")
    };
    let over_udp = items.iter().find(|i| i.name == b"udp" || i.name == b"proto" && i.value == Some(b"udp"));
    if let Some(udp) = over_udp.filter(|_| group.is_nfs() && (group.fstype() == b"nfs4" || items.iter().any(is_4))) {
        let message = "version 4 of NFS is not spoken over UDP".to_owned();
        found(udp.part.clone(), ("options::contradiction", message, "remove it, or write vers=3".to_owned()));
    }
    let version =
        items.iter().find(|i| matches!(i.name, b"vers" | b"nfsvers") && matches!(i.value, Some(b"2" | b"3" | b"3.0")));
    if let (b"nfs4", Some(version)) = (group.fstype(), version) {
        let value = Escaped(version.value.unwrap_or_default());
        let message = format!("nfs4 and version {value} contradict each other");
        found(version.part.clone(), ("options::contradiction", message, format!("write -fstype=nfs,vers={value}")));
    }
}

fn contradict(a: &[u8], b: &[u8]) -> bool {
    const PAIRS: [(&[u8], &[u8]); 8] = [
        (b"ro", b"rw"),
        (b"hard", b"soft"),
        (b"hard", b"softerr"),
        (b"fg", b"bg"),
        (b"sync", b"async"),
        (b"tcp", b"udp"),
        (b"strict", b"nonstrict"),
        (b"auto", b"noauto"),
    ];
    let negated = |a: &[u8], b: &[u8]| a.strip_prefix(b"no") == Some(b) && options::is_option(a);
    PAIRS.iter().any(|(x, y)| (a, b) == (*x, *y) || (b, a) == (*x, *y)) || negated(a, b) || negated(b, a)
}

fn one(item: &Item<'_>, fstype: &[u8]) -> Option<Finding> {
    let name = item.name;
    let shown = Escaped::start_of(name);
    // The value of a variable or of the key is not known.
    if name.contains(&b'$') || name.contains(&b'&') {
        return None;
    }
    let value = item.value.map(|value| format!("={}", Escaped::start_of(value))).unwrap_or_default();
    if name.starts_with(b"-") && fstype == b"autofs" {
        // A submount takes words of the master map: -DNAME=VALUE, --timeout=5.
        return None;
    }
    if name.starts_with(b"-") {
        let plain = Escaped::start_of(name.get(1..).unwrap_or_default());
        let message = format!("\"{shown}\" has a dash inside of the list");
        return Some(("options::dashes", message, format!("write {plain}{value}")));
    }
    let strange = (0..name.len()).find_map(|at| known::typographic(name.get(at..)?));
    if let Some((character, better)) = strange {
        return Some(("text::typographic", format!("a typographic {character}"), format!("write {better}")));
    }
    if name == b"o" && item.value.is_none() {
        return Some((
            "options::unknown",
            "-o is an option of mount(8)".to_owned(),
            "leave it out: -ro,soft".to_owned(),
        ));
    }
    if let Some(at) = name.iter().position(|b| b";|".contains(b)) {
        let text = shown.to_string().replace([';', '|'], ",");
        let message = format!("\"{}\" separates no options", name.get(at).map_or(' ', |b| char::from(*b)));
        return Some(("options::separator", message, format!("write {text}{value}")));
    }
    if name == b"fstype" {
        return file_system(item);
    }
    if memchr::memmem::find(name, b":/").is_some() && item.value.is_none() && !fstype.is_empty() {
        let message = "a location in the list of options".to_owned();
        return Some(("options::unknown", message, format!("write a blank in place of the comma before {shown}")));
    }
    if item.value.is_none() && fstype.is_empty() && types::is_type(name) && !options::is_option(name) {
        let message = format!("\"{shown}\" is a type of file system and no option");
        return Some(("options::unknown", message, format!("write fstype={shown}")));
    }
    if let Some(kind) = name.strip_prefix(b"fstype:") {
        let message = format!("unknown option \"{shown}\"");
        return Some(("options::unknown", message, format!("write fstype={}", Escaped::start_of(kind))));
    }
    if matches!(name, b"credentials" | b"cred") && item.value.is_some_and(|value| value.starts_with(b"~")) {
        let message = "no shell reads an option: ~ is not replaced by a home directory".to_owned();
        return Some(("options::value", message, format!("write the whole path: {shown}=/PATH")));
    }
    let relative = |value: &[u8]| !value.starts_with(b"/") && memchr::memchr3(b'$', b'&', b'~', value).is_none();
    if matches!(name, b"credentials" | b"cred") && item.value.is_some_and(|value| !value.is_empty() && relative(value))
    {
        let message = "the file is looked for in the root directory".to_owned();
        return Some(("options::value", message, format!("write the whole path: {shown}=/PATH")));
    }
    if let Some(meant) = typed(name, item.value.is_some()) {
        let message = format!("unknown option \"{shown}\"");
        return Some(("options::unknown", message, format!("did you mean -{meant}{value}?")));
    }
    if let Some(expected) = options::value(name, fstype) {
        return wrong_value(item, expected).or_else(|| wrong_word(item, fstype));
    }
    if options::is_option(name) {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    if lower != name && options::value(&lower, fstype).is_some() {
        let message = format!("unknown option \"{shown}\"");
        return Some(("options::unknown", message, format!("options are in lower case: {}{value}", Escaped(&lower))));
    }
    let near = if options::are_known(fstype) || fstype.is_empty() { options::nearest(name, fstype) } else { None };
    let near = near.or_else(|| fstype.is_empty().then(|| options::nearest(name, b"nfs")).flatten());
    match near {
        Some(near) => {
            let message = format!("unknown option \"{shown}\"");
            let none = options::value(near.as_bytes(), fstype) == Some(Value::None);
            let value = if none { "" } else { &*value };
            Some(("options::unknown", message, format!("did you mean {near}{value}?")))
        }
        None if options::is_complete(fstype) => {
            let message = format!("NFS has no option \"{shown}\"");
            Some(("options::unknown", message, "see nfs(5); with it the mount fails".to_owned()))
        }
        None => None,
    }
}

/// Returns `fstype` if `name` was probably meant for it.
fn typed(name: &[u8], has_value: bool) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    let other =
        matches!(&*lower, b"type" | b"fs" | b"fs_type" | b"fs-type" | b"filesystem" | b"vfstype" | b"fstyp" | b"t");
    let near = || known::nearest(&lower, std::iter::once("fstype")).is_some() || lower == b"fstype";
    (has_value && name != b"fstype" && !options::is_option(name) && (other || near())).then_some("fstype")
}

/// Examines the value of `fstype=`.
fn file_system(item: &Item<'_>) -> Option<Finding> {
    let value = item.value.unwrap_or_default();
    let shown = Escaped::start_of(value);
    if value.is_empty() {
        return Some((
            "options::value",
            "fstype without a type".to_owned(),
            "write -fstype=nfs4, without blanks".to_owned(),
        ));
    }
    if value.contains(&b'$') || value.contains(&b'&') || value == b"auto" {
        return None;
    }
    if let Some(meant) = types::meant(value) {
        return Some((
            "options::type",
            format!("{shown} is not the name of the type"),
            format!("write -fstype={meant}"),
        ));
    }
    let lower = value.to_ascii_lowercase();
    if lower != value {
        let message = format!("unknown type of file system \"{shown}\"");
        return Some(("options::type", message, format!("types are in lower case: -fstype={}", Escaped(&lower))));
    }
    if types::is_type(value) || value.starts_with(b"fuse.") || fstypes::is_known(value) {
        return None;
    }
    let help = match types::nearest(value) {
        Some(near) => format!("did you mean -fstype={near}?"),
        None => format!("install the package that has mount.{shown}, or write another type"),
    };
    Some(("options::type", format!("neither the kernel nor /sbin/mount.{shown} knows the type {shown}"), help))
}

fn wrong_value(item: &Item<'_>, expected: Value) -> Option<Finding> {
    let name = Escaped::start_of(item.name);
    let value = match (expected, item.value) {
        (Value::None, Some(value)) => {
            let message = format!("{name} takes no value");
            return Some(("options::value", message, format!("write {name} without ={}", Escaped::start_of(value))));
        }
        (Value::Number | Value::Text, None | Some(b"")) => {
            let example = if expected == Value::Number { "NUMBER" } else { "VALUE" };
            return Some(("options::value", format!("{name} without a value"), format!("write {name}={example}")));
        }
        (Value::Number, Some(value)) => value,
        _ => return None,
    };
    let text = std::str::from_utf8(value).unwrap_or_default();
    let computed = text.contains(['$', '&']);
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if computed || text.parse::<i64>().is_ok() || (digits != text && i64::from_str_radix(digits, 16).is_ok()) {
        return None;
    }
    let number = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text.get(number.len()..).unwrap_or_default().to_ascii_lowercase();
    let factor = match (&*unit, item.name) {
        ("k", _) => Some(1024),
        ("m", b"rsize" | b"wsize" | b"bsize") => Some(1024 * 1024),
        ("s", b"timeo") => Some(10),
        ("m", b"timeout") => Some(60),
        ("h", b"timeout") => Some(3600),
        ("s", _) => Some(1),
        _ => None,
    };
    let help = match number.parse::<u64>().ok().zip(factor).and_then(|(n, factor)| n.checked_mul(factor)) {
        Some(n) => format!("write {name}={n}"),
        None => format!("write a number: {name}=NUMBER"),
    };
    Some(("options::value", format!("{name}={} is no number", Escaped::start_of(value)), help))
}

/// Examines options with a fixed set of values in NFS, SMB and tmpfs, with permission bits, and with ports.
fn wrong_word(item: &Item<'_>, fstype: &[u8]) -> Option<Finding> {
    let value = std::str::from_utf8(item.value?).ok().filter(|value| !value.contains(['$', '&']))?;
    let nfs = matches!(fstype, b"nfs" | b"nfs4");
    let cifs = matches!(fstype, b"cifs" | b"smb3");
    let known: &[&str] = match item.name {
        b"file_mode" | b"dir_mode" | b"umask" | b"dmask" | b"fmask" | b"mode" => {
            let is_octal = value.len() <= 5 && value.bytes().all(|b| (b'0'..=b'7').contains(&b));
            if is_octal || !value.bytes().all(|b| b.is_ascii_digit()) && item.name == b"mode" {
                return None;
            }
            let name = Escaped(item.name);
            let message = format!("{name}={} is no octal number", Escaped(value.as_bytes()));
            return Some((
                "options::value",
                message,
                format!("write permission bits as chmod(1) takes them: {name}=0755"),
            ));
        }
        b"port" | b"mountport" if nfs || cifs => {
            if value.parse::<u16>().is_ok() {
                return None;
            }
            let name = Escaped(item.name);
            let message = format!("{name}={} is no port", Escaped(value.as_bytes()));
            return Some(("options::value", message, "ports are numbers up to 65535".to_owned()));
        }
        b"timeo" | b"retrans" | b"retry" | b"rsize" | b"wsize" | b"acregmin" | b"acregmax" | b"acdirmin"
        | b"acdirmax" | b"actimeo" | b"nconnect" | b"max_connect" | b"namlen"
            if (nfs || cifs || fstype.is_empty()) && value.starts_with('-') =>
        {
            let (name, value) = (Escaped(item.name), Escaped(value.as_bytes()));
            return Some(("options::value", format!("{name}={value} is negative"), format!("write {name}=NUMBER")));
        }
        b"vers" if cifs => &["1.0", "2.0", "2.1", "3", "3.0", "3.02", "3.0.2", "3.1.1", "3.11", "default"],
        b"sec" if cifs => {
            &["none", "krb5", "krb5i", "ntlm", "ntlmi", "ntlmv2", "ntlmv2i", "ntlmssp", "ntlmsspi", "nontlm"]
        }
        b"cache" if cifs => &["none", "strict", "loose", "ro", "singleclient"],
        b"minorversion" if nfs => &["0", "1", "2"],
        b"vers" | b"nfsvers" if nfs => &["2", "3", "3.0", "4", "4.0", "4.1", "4.2"],
        b"proto" | b"mountproto" if nfs => &["tcp", "udp", "tcp6", "udp6", "rdma", "rdma6", "auto"],
        b"sec" if nfs => {
            &["sys", "krb5", "krb5i", "krb5p", "none", "null", "lkey", "lkeyi", "lkeyp", "spkm", "spkmi", "spkmp"]
        }
        b"lookupcache" if nfs => &["all", "none", "pos", "positive"],
        b"local_lock" if nfs => &["all", "flock", "posix", "none"],
        b"size" | b"nr_blocks" | b"nr_inodes" if fstype == b"tmpfs" => {
            let number = value.trim_end_matches(['k', 'm', 'g', 't', 'p', 'e', 'K', 'M', 'G', 'T', 'P', 'E', '%']);
            if number.parse::<u64>().is_ok() && value.len() - number.len() <= 1 {
                return None;
            }
            let (name, value) = (Escaped(item.name), Escaped(value.as_bytes()));
            if item.name != b"size" {
                return Some(("options::value", format!("{name}={value} is no number"), format!("write {name}=100k")));
            }
            return Some((
                "options::value",
                format!("size={value} is no size"),
                "write bytes, or as 10m, 2g or 50%".to_owned(),
            ));
        }
        _ => return None,
    };
    // Several security flavours of NFS may be joined by colons.
    let wrong = value.split(':').find(|word| !known.contains(word))?;
    let name = Escaped(item.name);
    let help = match known::nearest(wrong.as_bytes(), known.iter().copied()) {
        Some(near) => format!("did you mean {name}={near}?"),
        None => format!("write one of {}", known.join(", ")),
    };
    Some(("options::value", format!("{name}={} is not known", Escaped(value.as_bytes())), help))
}
