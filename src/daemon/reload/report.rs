//! Compares the lines of the master map, and the keys of direct maps, before and after a reload, for the report. What a reload does
//! is decided by `InForce::put` for the lines of the master map, by `delta` for direct keys, and by `Engine::configure` for mounts.

use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;

use crate::control::{Bytes, Change, Place, Reloaded, plan};
use crate::daemon::maps::InForce;
use crate::daemon::maps::configured_map::ConfiguredMap;
use crate::map::{MasterOptions, SourceSpec};
use crate::source::Entries;
use crate::text::{Escaped, Position};

/// Maximum number of paths that are named in one line.
const NAMED: usize = 3;

/// A line of the master map as it is compared.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) path: Vec<u8>,
    pub(crate) spec: SourceSpec,
    pub(crate) options: MasterOptions,
    pub(crate) place: Position,
    /// The entries of a direct map.
    pub(crate) entries: Option<Arc<Entries>>,
    /// Why the map could not be read.
    pub(crate) unread: Option<String>,
    /// Whether its mount points are wanted.
    pub(crate) usable: bool,
}

/// Returns the lines in force.
pub(crate) fn lines(maps: &InForce) -> Vec<Line> {
    let line = |map: &Rc<ConfiguredMap>, place: &Position| Line {
        path: map.mount_point.clone(),
        spec: map.spec.clone(),
        options: map.options.clone(),
        place: place.clone(),
        entries: if map.direct() { map.entries.borrow().clone() } else { None },
        unread: map.unread.borrow().clone().or_else(|| map.source.trouble()),
        usable: map.usable.get(),
    };
    maps.configured().map(|(map, place)| line(map, place)).collect()
}

/// Lists names, at most [`NAMED`].
pub(super) fn named<T: Display>(names: impl ExactSizeIterator<Item = T>) -> String {
    let more = names.len().saturating_sub(NAMED);
    let list = names.take(NAMED).map(|name| name.to_string()).collect::<Vec<_>>().join(" ");
    if more == 0 { list } else { format!("{list} and {more} more") }
}

/// Compares the lines before and after a reload.
pub(super) fn compare(before: Vec<Line>, after: Vec<Line>, reloaded: &mut Reloaded) {
    let mut before: Vec<Option<Line>> = before.into_iter().map(Some).collect();
    let mut take = |matches: &dyn Fn(&Line) -> bool| {
        before.iter_mut().find(|line| line.as_ref().is_some_and(matches)).and_then(Option::take)
    };
    // First the lines that are the same, then those whose mount point has another map.
    let mut pairs: Vec<(Option<Line>, Line)> = Vec::new();
    for line in after {
        let same = take(&|old| old.path == line.path && old.spec == line.spec);
        pairs.push((same, line));
    }
    for (old, line) in pairs.iter_mut().filter(|(old, line)| old.is_none() && line.path != b"/-") {
        *old = take(&|old| old.path == line.path);
    }
    for (old, line) in pairs {
        let change = |what| Change {
            path: Bytes(line.path.clone()),
            map: Bytes(plan::map_name(&line.spec)),
            what,
            place: Some(Place::from(&line.place)),
        };
        match old.filter(|old| old.usable) {
            _ if !line.usable => {}
            None => reloaded.added.push(change(None)),
            Some(old) => match differences(&old, &line) {
                None => reloaded.unchanged += 1,
                what => reloaded.changed.push(change(what)),
            },
        }
    }
    for line in before.into_iter().flatten().filter(|line| line.usable) {
        let map = Bytes(plan::map_name(&line.spec));
        reloaded.removed.push(Change { path: Bytes(line.path), map, what: None, place: None });
    }
}

/// Says how a line differs from what it was. Returns `None` if it is the same.
fn differences(old: &Line, new: &Line) -> Option<String> {
    let mut parts = Vec::new();
    if old.spec != new.spec {
        let name = |spec| Escaped(&plan::map_name(spec)).to_string();
        parts.push(format!("map {} -> {}", name(&old.spec), name(&new.spec)));
    }
    let (a, b) = (&old.options, &new.options);
    let seconds = |value: Option<u64>| match value.unwrap_or_default() {
        0 => "off".to_owned(),
        n if n % 3600 == 0 => format!("{}h", n / 3600),
        n if n % 60 == 0 => format!("{}m", n / 60),
        n => format!("{n}s"),
    };
    let mut differ = |what: &str, a: String, b: String| {
        if a != b {
            parts.push(format!("{what} {a} -> {b}"));
        }
    };
    differ("timeout", seconds(a.timeout), seconds(b.timeout));
    differ("negative timeout", seconds(a.negative_timeout), seconds(b.negative_timeout));
    let browse = |options: &MasterOptions| if options.browse == Some(true) { "browse" } else { "nobrowse" }.to_owned();
    differ("keys", browse(a), browse(b));
    let arguments = |options: &MasterOptions| format!("\"{}\"", Escaped(&options.arguments));
    differ("options", arguments(a), arguments(b));
    let neutral = |options: &MasterOptions| MasterOptions {
        timeout: None,
        negative_timeout: None,
        browse: None,
        arguments: Vec::new(),
        ..options.clone()
    };
    if parts.is_empty() && neutral(a) != neutral(b) {
        parts.push("other options".to_owned());
    }
    if let (Some(old), Some(new)) = (&old.entries, &new.entries) {
        let (added, removed) = keys(old, new);
        for (sign, keys) in [("added", added), ("removed", removed)] {
            if !keys.is_empty() {
                let names = named(keys.iter().map(|key| Escaped(key)));
                parts.push(format!("{} {sign}: {names}", keys.len()));
            }
        }
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Returns the keys that `new` has and `old` has not, and the reverse.
fn keys(old: &Entries, new: &Entries) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    if new.is_same(old) {
        return (Vec::new(), Vec::new());
    }
    if let (Some(new), Some(old)) = (new.single(), old.single()) {
        let changes = new.key_changes(old);
        return (changes.added, changes.removed);
    }
    let only = |a: &Entries, b: &Entries| a.keys().into_iter().filter(|key| !b.has_key(key)).collect();
    (only(new, old), only(old, new))
}
