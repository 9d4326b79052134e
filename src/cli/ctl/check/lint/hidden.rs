//! Mount points that hide others, or have something else in their place.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::{Part, warning};
use crate::map::key;
use crate::sys::path;
use crate::text::{Diagnostic, Escaped, Line, Position};

/// Examines a key of a direct map.
pub(super) fn direct(line: &Line<'_>, mount_points: &[(Vec<u8>, Position)], found: &mut Vec<Diagnostic>) {
    let Ok(path) = key::unescape(&line.key) else { return };
    let all = 0..line.key.len();
    if let Some(straight) = straightened(&path) {
        let message = format!("the path {} has a . or .. in it", Escaped::start_of(&path));
        let help = format!("write {}", Escaped::start_of(&straight));
        found.push(warning(line, Part::Key(all), "map::key", message, help));
        return;
    }
    if let Some((point, place)) = mount_points.iter().find(|(point, _)| *point == *path) {
        let message = format!("{} is an indirect mount point, too", Escaped(point));
        let help = format!("{place} names it; remove one of the two");
        found.push(warning(line, Part::Key(all), "map::hides", message, help));
        return;
    }
    if let Some((name, (point, place))) =
        mount_points.iter().find_map(|point| Some((first_name(&path, &point.0)?, point)))
    {
        let (shown, name, point) = (Escaped::start_of(&path), Escaped(name), Escaped(point));
        let message = format!("{shown} hides the key \"{name}\" of {point}");
        let help = format!("{point} ({place}) shows only a directory there; make it a part of the entry of {name}");
        found.push(warning(line, Part::Key(all), "map::hides", message, help));
        return;
    }
    let at = Path::new(OsStr::from_bytes(&path));
    if path::stat_untriggered(at).is_ok_and(|stat| stat.is_some_and(|stat| !stat.is_dir())) {
        let message = format!("{} is there and is no directory", Escaped::start_of(&path));
        found.push(warning(line, Part::Key(all), "direct::in-the-way", message, "nothing can be mounted on it"));
    }
}

/// Returns a path without the names `.` and `..`, if it has one of them.
fn straightened(path: &[u8]) -> Option<Vec<u8>> {
    let names = || path.split(|&b| b == b'/').filter(|name| !name.is_empty());
    if !path.starts_with(b"/") || !names().any(|name| matches!(name, b"." | b"..")) {
        return None;
    }
    let mut straight: Vec<&[u8]> = Vec::new();
    for name in names() {
        match name {
            b"." => {}
            b".." => _ = straight.pop(),
            name => straight.push(name),
        }
    }
    Some([b"/", &*straight.join(&b'/')].concat())
}

/// Warns of keys of a direct map below others: each needs a directory in what is mounted at the other one.
pub(super) fn below(keys: &[(Vec<u8>, Position)], found: &mut Vec<Diagnostic>) {
    let places: std::collections::HashMap<&[u8], &Position> = keys.iter().map(|(key, place)| (&**key, place)).collect();
    for (key, place) in keys {
        let above = Path::new(OsStr::from_bytes(key)).ancestors().skip(1).map(|above| above.as_os_str().as_bytes());
        if let Some((above, at)) = above.filter_map(|above| Some((above, *places.get(above)?))).next() {
            let rest = key.strip_prefix(above).unwrap_or(key);
            let (above, rest) = (Escaped::start_of(above), Escaped::start_of(rest));
            let message =
                format!("the key is below the key {above}: it needs the directory {rest} in what is mounted there");
            let help = format!("make it a part {rest} of the entry of {above} ({at})");
            found.push(Diagnostic::warning("map::below", place.clone(), message).help(help));
        }
    }
}

/// Warns of mount points of the master map below others.
pub(in super::super) fn nested(mount_points: &[(Vec<u8>, Position)]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (path, place) in mount_points {
        let above = mount_points.iter().find_map(|point| Some((first_name(path, &point.0)?, point)));
        if let Some((name, (point, named))) = above {
            let (path, name, point) = (Escaped(path), Escaped(name), Escaped(point));
            let message = format!("{path} hides the key \"{name}\" of {point}");
            let help =
                format!("{point} ({named}) shows only a directory there; write -fstype=autofs in its map instead");
            found.push(Diagnostic::warning("map::hides", place.clone(), message).help(help));
        }
    }
    found
}

/// Directories without which a system does not work.
const SYSTEM: [&[u8]; 14] = [
    b"/bin", b"/boot", b"/dev", b"/etc", b"/lib", b"/lib64", b"/proc", b"/root", b"/run", b"/sbin", b"/sys", b"/tmp",
    b"/usr", b"/var",
];

/// Warns of mount points of the master map that cover a directory of the system.
pub(in super::super) fn unusual(mount_points: &[(Vec<u8>, Position)]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (point, place) in mount_points {
        let shown = Escaped::start_of(point);
        if SYSTEM.contains(&&**point) {
            let message = format!("{shown} is a directory of the system, and is covered");
            let d = Diagnostic::warning("master::covers", place.clone(), message);
            found.push(d.help(format!("name a directory below it, as {shown}/auto")));
        }
    }
    found
}

/// Warns of mount points of the master map that exist and are no directories. Those below others are left out, because a look would
/// mount what is there.
pub(in super::super) fn in_the_way(mount_points: &[(Vec<u8>, Position)]) -> Vec<Diagnostic> {
    let is_other = |path: &[u8]| {
        path::stat_untriggered(Path::new(OsStr::from_bytes(path))).is_ok_and(|stat| stat.is_some_and(|s| !s.is_dir()))
    };
    let is_below = |path: &[u8]| mount_points.iter().any(|(point, _)| first_name(path, point).is_some());
    let others = mount_points.iter().filter(|(point, _)| !is_below(point) && is_other(point));
    let warn = |(point, place): &(Vec<u8>, Position)| {
        let message = format!("{} is there and is no directory", Escaped::start_of(point));
        let help = "a line begins with the mount point, and the map follows";
        Diagnostic::warning("master::in-the-way", place.clone(), message).help(help)
    };
    others.map(warn).collect()
}

/// The first name of `path` below the directory `above`.
fn first_name<'a>(path: &'a [u8], above: &[u8]) -> Option<&'a [u8]> {
    path.strip_prefix(above)?.strip_prefix(b"/")?.split(|&b| b == b'/').next().filter(|name| !name.is_empty())
}
