//! Locations: shares and NFS paths taken for each other, URLs, paths of Windows, colons that become slashes, blanks.

use super::entry::Group;
use super::{Map, Part, warning};
use crate::map;
use crate::map::known::options::look_like_options;
use crate::map::words::Word;
use crate::text::{Diagnostic, Escaped, Line};

pub(super) fn examine(line: &Line<'_>, map: &Map<'_>, group: &Group<'_>, found: &mut Vec<Diagnostic>) {
    for word in &group.locations {
        if let Some((part, message, help)) = one(group, word.raw, map.is_alone) {
            let part = word.at + part.start..word.at + part.end;
            found.push(warning(line, Part::Entry(part), "location::form", message, help));
        } else if map.options.slashify_colons != Some(false) {
            colon(line, *word, found);
        }
    }
    blanks(line, group, found);
    ends(line, group, found);
}

type Found = (std::ops::Range<usize>, String, String);

/// A location that its type of file system cannot have meant.
fn one(group: &Group<'_>, raw: &[u8], alone: bool) -> Option<Found> {
    let all = 0..raw.len();
    // With quotes, or typographic ones, the meaning is not clear.
    if raw.contains(&b'"') || !raw.is_ascii() {
        return None;
    }
    let local = raw.strip_prefix(b":").unwrap_or(raw);
    let is_cifs = matches!(group.fstype(), b"cifs" | b"smb3");
    if local.starts_with(b"\\\\") {
        let path: Vec<u8> = local.iter().map(|&b| if b == b'\\' { b'/' } else { b }).collect();
        let names: Vec<&[u8]> = path.split(|&b| b == b'/').filter(|name| !name.is_empty()).collect();
        let message = "backslashes are no separators of paths".to_owned();
        return Some((all, message, format!("write ://{}", Escaped::start_of(&names.join(&b'/')))));
    }
    if let (true, [letter, b':', b'\\' | b'/', ..]) = (is_cifs, local) {
        if letter.is_ascii_alphabetic() {
            return Some((all, "a drive of Windows is no share".to_owned(), "write ://HOST/SHARE".to_owned()));
        }
    }
    if let Some(weight) = group.is_nfs().then(|| bad_weight(raw)).flatten() {
        let message = format!("{} is no weight", Escaped::start_of(raw.get(weight.clone()).unwrap_or_default()));
        return Some((weight, message, "write a number from 0 on in the parentheses: HOST(1)".to_owned()));
    }
    if let Some(found) = group.is_nfs().then(|| brackets(group, raw)).flatten() {
        return Some(found);
    }
    for scheme in [&b"nfs://"[..], b"nfs4://", b"http://", b"https://", b"ftp://", b"smb://", b"cifs://", b"file://"] {
        let same = local.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
        let Some(rest) = local.get(scheme.len()..).filter(|_| same && (group.is_nfs() || is_cifs)) else { continue };
        let (host, path) =
            rest.split_at_checked(memchr::memchr(b'/', rest).unwrap_or(rest.len())).unwrap_or((rest, b""));
        let (host, path) = (Escaped::start_of(host), Escaped::start_of(path));
        let help = match scheme {
            b"nfs://" | b"nfs4://" => format!("write {host}:{path}"),
            b"http://" | b"https://" | b"ftp://" => {
                format!("write {host}:{path} for NFS, or -fstype=davfs for WebDAV, with \":\" before the URL")
            }
            b"file://" => format!("write :{path}"),
            _ if is_cifs => format!("write ://{host}{path}"),
            _ => format!("write -fstype=cifs ://{host}{path}"),
        };
        return Some((all, "a URL is no location".to_owned(), help));
    }
    // Without the master map, its options are not known, and the type may be among them.
    let type_is_known = group.fstype.is_some() || !alone;
    if group.is_nfs() && type_is_known && raw.starts_with(b"://") && raw.get(3).is_some_and(|b| *b != b'/') {
        let share = Escaped::start_of(raw);
        let written = if group.fstype.is_some() { "in place of the NFS type" } else { "before it" };
        let message = "a share of a Windows server is not mounted by NFS".to_owned();
        return Some((all, message, format!("write -fstype=cifs {written}: -fstype=cifs {share}")));
    }
    if let Some(share) = raw.strip_prefix(b"://").filter(|_| is_cifs) {
        let host = share.strip_suffix(b"/").unwrap_or(share);
        if !host.contains(&b'/') && !host.contains(&b'$') && !host.contains(&b'\\') {
            let host = Escaped::start_of(host);
            return Some((all, "a server without a share".to_owned(), format!("write ://{host}/SHARE")));
        }
    }
    if is_disk(group.fstype()) && local.iter().all(u8::is_ascii_alphanumeric) && looks_like_disk(local) {
        let name = Escaped::start_of(local);
        return Some((all, format!("\"{name}\" is no path of a device"), format!("write :/dev/{name}")));
    }
    if let Some(found) = group.is_nfs().then(|| host(raw)).flatten() {
        return Some(found);
    }
    if is_cifs && !raw.starts_with(b":") {
        let path = memchr::memmem::find(raw, b":/")?;
        let (host, path) = (raw.get(..path)?, raw.get(path + 1..)?);
        let help = format!("write ://{}{}", Escaped::start_of(host), Escaped::start_of(path));
        return Some((all, "a location of NFS with a type for shares".to_owned(), help));
    }
    if group.is_nfs() {
        let at = memchr::memmem::find(raw, b"::/")
            .filter(|&at| at > 0 && !raw.contains(&b'[') && memchr::memchr(b':', raw) == Some(at))?;
        let text = Escaped::start_of(raw).to_string().replacen("::/", ":/", 1);
        return Some((at..at + 2, "two colons".to_owned(), format!("write {text}")));
    }
    None
}

/// Returns whether a type is mounted from a block device.
fn is_disk(fstype: &[u8]) -> bool {
    matches!(
        fstype,
        b"ext2" | b"ext3" | b"ext4" | b"xfs" | b"btrfs" | b"vfat" | b"exfat" | b"ntfs" | b"ntfs3" | b"iso9660" | b"udf"
    )
}

/// Returns whether a word is the name of a disk or of one of its partitions: sda1, nvme0n1p2, mmcblk0p1, sr0.
fn looks_like_disk(word: &[u8]) -> bool {
    let ends = word.last().is_some_and(u8::is_ascii_digit);
    [&b"sd"[..], b"hd", b"vd", b"nvme", b"mmcblk", b"sr", b"fd", b"md", b"loop", b"cdrom"]
        .iter()
        .any(|start| word.starts_with(start) && (ends || word.len() == start.len() + 1 || *word == b"cdrom"[..]))
}

/// An address in place of a host that cannot be one.
fn host(raw: &[u8]) -> Option<Found> {
    let path = memchr::memmem::find(raw, b":/")?;
    let hosts = raw.get(..path)?;
    let mut at = 0;
    for name in hosts.split(|&b| b == b',') {
        let part = at..at + name.len();
        at = part.end + 1;
        let text = std::str::from_utf8(name).ok()?;
        let numbers: Vec<&str> = text.split('.').collect();
        let is_dotted =
            numbers.len() == 4 && numbers.iter().all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        if is_dotted && text.parse::<std::net::Ipv4Addr>().is_err() {
            let message = format!("{text} is no address");
            return Some((part, message, "each of its four numbers is at most 255".to_owned()));
        }
        if name.contains(&b':') && text.parse::<std::net::Ipv6Addr>().is_ok() {
            let rest = Escaped::start_of(raw.get(path..)?);
            let message = "an address with colons without brackets".to_owned();
            return Some((part, message, format!("write [{text}]{rest}")));
        }
    }
    let scheme = [&b"nfs"[..], b"nfs3", b"nfs4", b"nfsv4"].into_iter().find(|kind| {
        raw.strip_prefix(*kind)
            .and_then(|rest| rest.strip_prefix(b":"))
            .is_some_and(|rest| rest.contains(&b':') && !rest.starts_with(b"/"))
    });
    let kind = scheme?;
    let rest = Escaped::start_of(raw.get(kind.len() + 1..)?);
    Some((0..kind.len() + 1, "a type in the location".to_owned(), format!("write -fstype={} {rest}", Escaped(kind))))
}

/// Warns of a character at the end of a location that ends lines elsewhere, and of a location that stands there twice.
fn ends(line: &Line<'_>, group: &Group<'_>, found: &mut Vec<Diagnostic>) {
    let mut seen: Vec<&[u8]> = Vec::new();
    for word in &group.locations {
        if let (Some(last @ (b';' | b',')), true) = (word.raw.last(), word.raw.contains(&b'/')) {
            let at = word.at + word.raw.len() - 1;
            let plain = Escaped::start_of(word.raw.get(..word.raw.len() - 1).unwrap_or_default());
            let message = format!("the \"{}\" at the end is part of the path", char::from(*last));
            let help = format!("write {plain}");
            found.push(warning(line, Part::Entry(at..at + 1), "location::end", message, help));
        }
        if seen.contains(&word.raw) && word.raw.contains(&b':') {
            let part = word.at..word.at + word.raw.len();
            let message = "the same location a second time";
            found.push(warning(line, Part::Entry(part), "location::twice", message, "remove one of the two"));
        }
        seen.push(word.raw);
    }
}

/// Brackets and parentheses that are not closed, and weights behind the path of a replica.
fn brackets(group: &Group<'_>, raw: &[u8]) -> Option<Found> {
    let end = memchr::memmem::find(raw, b":/")?;
    let hosts = raw.get(..end)?;
    let count = |bytes: &[u8], byte: u8| bytes.iter().filter(|b| **b == byte).count();
    for (open, close) in [(b'[', b']'), (b'(', b')')] {
        let at = memchr::memrchr(open, hosts).filter(|_| count(hosts, open) > count(hosts, close));
        if let Some(at) = at {
            let (open, close) = (char::from(open), char::from(close));
            let example = if open == '[' { "[ADDRESS]:/PATH" } else { "HOST(1):/PATH" };
            return Some((at..end, format!("\"{open}\" without \"{close}\""), format!("write {example}")));
        }
    }
    // Where the weight is in a word that ends with one behind its path.
    let weighed = |raw: &[u8]| {
        let end = memchr::memmem::find(raw, b":/")?;
        let start = memchr::memrchr(b'(', raw).filter(|&at| at > end)?;
        let weight = raw.strip_suffix(b")")?.get(start + 1..)?;
        (!weight.is_empty() && weight.iter().all(u8::is_ascii_digit)).then_some(start)
    };
    // In a single location, or in one of several, the parentheses may belong to the name.
    let start = weighed(raw)?;
    if group.locations.len() < 2 || !group.locations.iter().all(|word| weighed(word.raw).is_some()) {
        return None;
    }
    let weight = raw.get(start + 1..raw.len() - 1)?;
    let (host, path) = (Escaped::start_of(hosts), Escaped::start_of(raw.get(end..start)?));
    let message = "the number in parentheses is part of the path".to_owned();
    Some((start..raw.len(), message, format!("write the weight behind the host: {host}({}){path}", Escaped(weight))))
}

/// Returns where in a list of hosts parentheses are that hold no number.
fn bad_weight(raw: &[u8]) -> Option<std::ops::Range<usize>> {
    let hosts = raw.get(..memchr::memmem::find(raw, b":/")?)?;
    memchr::memchr_iter(b'(', hosts).find_map(|start| {
        let end = start + memchr::memchr(b')', hosts.get(start..)?)?;
        let weight = hosts.get(start + 1..end)?;
        let is_number = !weight.is_empty() && weight.iter().all(|b| b.is_ascii_digit() || b"$&{}".contains(b));
        (!is_number && !weight.contains(&b'$')).then_some(start..end + 1)
    })
}

/// Warns of a colon in a path, which becomes a slash.
fn colon(line: &Line<'_>, word: Word<'_>, found: &mut Vec<Diagnostic>) {
    if let Some(at) = map::path_colons(word.raw).next() {
        let comma = word.raw.get(..at).and_then(|before| memchr::memrchr(b',', before));
        let second = comma.and_then(|comma| word.raw.get(comma + 1..)).filter(|second| {
            let host = second.split(|&b| b == b':').next().unwrap_or_default();
            memchr::memmem::find(second, b":/").is_some_and(|colon| colon == host.len())
                && host.iter().all(|b| b.is_ascii_alphanumeric() || b".-_()".contains(b))
                && !host.is_empty()
        });
        if let (Some(comma), Some(second)) = (comma, second) {
            let help = format!(
                "write a blank: {} {}",
                Escaped::start_of(word.raw.get(..comma).unwrap_or_default()),
                Escaped::start_of(second)
            );
            let at = word.at + comma;
            let message = "a comma between two locations: both become one path";
            found.push(warning(line, Part::Entry(at..at + 1), "location::form", message, help));
            return;
        }
        let at = word.at + at;
        let help = "write \\: for the colon itself";
        found.push(warning(line, Part::Entry(at..at + 1), "location::colon", "the colon becomes a slash", help));
    }
}

/// Warns of words behind a location that have no colon: they continue its path.
fn blanks(line: &Line<'_>, group: &Group<'_>, found: &mut Vec<Diagnostic>) {
    let mut words = group.locations.iter().peekable();
    let Some(first) = words.next().filter(|word| word.raw.contains(&b':')) else { return };
    let is_plain = |word: &&&Word<'_>| !word.raw.contains(&b':') && !word.raw.starts_with(b"-");
    let rest: Vec<&Word<'_>> = words.take_while(|word| is_plain(&word)).collect();
    let Some(next) = rest.first() else { return };
    // Before another location the reader refuses the entry, and says why.
    let is_spelled = group.locations.iter().any(|word| memchr::memchr2(b'\\', b'"', word.raw).is_some());
    if group.locations.len() > rest.len() + 1 || is_spelled {
        return;
    }
    if rest.iter().all(|word| look_like_options(word.raw)) {
        let options = rest.iter().map(|word| word.raw).collect::<Vec<_>>().join(&b',');
        let help = format!("write -{} {}", Escaped::start_of(&options), Escaped::start_of(first.raw));
        let part = next.at..next.at + next.raw.len();
        found.push(warning(line, Part::Entry(part), "location::options", "options behind the location", help));
    } else if group.is_nfs() {
        let all: Vec<&[u8]> = std::iter::once(first).chain(rest.iter().copied()).map(|word| word.raw).collect();
        let blank = first.at + first.raw.len();
        let help = format!("write \"{}\"", Escaped(&all.join(&b' ')));
        found.push(warning(line, Part::Entry(blank..blank + 1), "location::blank", "a blank in the path", help));
    }
}
