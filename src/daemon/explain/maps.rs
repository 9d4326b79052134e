//! Lists maps and their entries, as a daemon that starts now would read them.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use super::offline::{Prepared, deadline, path_of};
use super::origins::Masked;
use crate::control::maps::{ListedEntry, ListedMap, MapList};
use crate::control::{Bytes, MountKind, Place, plan};
use crate::daemon::jobs::question::{Line, Question};
use crate::daemon::jobs::resolve;
use crate::daemon::maps::configured_map::ConfiguredMap;
use crate::daemon::maps::effective;
use crate::engine::{Key, Kind, Requester};
use crate::map::{MasterEntry, SourceKind};
use crate::source::{Answer, Entries, Mode, Pass, open};
use crate::text::Escaped;

/// The arguments of a list.
#[derive(Debug)]
pub(crate) struct Wish {
    /// A map or a mount point, whose entries are listed. `None`: the maps alone.
    pub(crate) map: Option<Vec<u8>>,
    /// Whether the mounts of the entries are shown.
    pub(crate) expand: bool,
    /// Whether passwords are shown.
    pub(crate) secrets: bool,
    /// The user for whom variables are expanded.
    pub(crate) who: Requester,
}

/// Lists the maps of the master map, or the entries of those that the wish names. Programs run only if they are named.
///
/// # Errors
/// Returns an error if the kernel provides no event loop, or the master map cannot be read.
pub(crate) fn list(wish: &Wish) -> io::Result<MapList> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let list = runtime.block_on(async {
        let prepared = Prepared::read().await;
        if !prepared.has_master() {
            let message = format!("the master map {} cannot be read", Escaped(&prepared.name));
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        let table = &prepared.master.table;
        let mut maps = Vec::new();
        for entry in table.indirect.iter().chain(&table.direct) {
            if wish.map.as_ref().is_none_or(|name| is_called(entry, name)) {
                maps.push(one(&prepared, entry, wish).await);
            }
        }
        Ok(MapList { maps })
    });
    // A thread that hangs in a system call ends with the process.
    runtime.shutdown_background();
    list
}

/// Returns whether a name means the map of a line: its mount point, the map as it is written, or its name without type or
/// directory.
fn is_called(entry: &MasterEntry, name: &[u8]) -> bool {
    let spec = &entry.source;
    let last = spec.name.rsplit(|&b| b == b'/').next().unwrap_or_default();
    [&entry.mount_point, &plan::map_name(spec), &spec.name].iter().any(|known| *known == name) || last == name
}

async fn one(prepared: &Prepared, entry: &MasterEntry, wish: &Wish) -> ListedMap {
    let mode = if entry.direct { Mode::Direct } else { Mode::Indirect };
    let kind = if entry.direct { MountKind::Direct } else { MountKind::Indirect };
    let mut listed = ListedMap {
        map: Bytes(plan::map_name(&entry.source)),
        mount_point: Bytes(entry.mount_point.clone()),
        kind,
        line: Place::from(&entry.place),
        keys: None,
        on_demand: false,
        reason: None,
        entries: None,
    };
    let on_demand = matches!(entry.source.kind, Some(SourceKind::Program | SourceKind::Hosts));
    if wish.map.is_none() && on_demand {
        listed.on_demand = true;
        return listed;
    }
    let source = open(&entry.source, mode, &prepared.context.environment);
    let entries = match source.entries(&Pass::new(deadline())).await {
        Ok(entries) => entries,
        Err(error) => {
            listed.reason = Some(error.to_string());
            return listed;
        }
    };
    let options = effective(&entry.options, &prepared.configuration.conf.autofs, &prepared.options);
    let names = Arc::clone(&prepared.configuration.names);
    let map = ConfiguredMap::new(1, entry.mount_point.clone(), entry.source.clone(), options, (source, names));
    let raw = raw_entries(&map, &entries, entry.direct);
    if on_demand && raw.is_empty() {
        listed.on_demand = true;
        return listed;
    }
    listed.keys = Some(raw.len() as u64);
    if wish.map.is_some() {
        let (map, masked) = (Rc::new(map), Masked { secrets: wish.secrets });
        let mut shown = Vec::with_capacity(raw.len());
        for (key, place, text) in raw {
            let mut row =
                ListedEntry { place, entry: masked.bytes(&text), plan: None, notes: Vec::new(), key: Bytes(key) };
            if wish.expand && !row.key.0.contains(&b'*') {
                expand(prepared, &map, entry.direct, wish.who, masked, &mut row).await;
            }
            shown.push(row);
        }
        listed.entries = Some(shown);
    }
    listed
}

/// Returns the entries that were read: keys in the order of the map, then wildcards.
fn raw_entries(map: &ConfiguredMap, entries: &Entries, direct: bool) -> Vec<(Vec<u8>, Option<Place>, Vec<u8>)> {
    let mut keys = entries.keys();
    if !direct {
        keys.push(b"*".to_vec());
    }
    let mut rows = Vec::with_capacity(keys.len());
    for key in keys {
        if let Some(Answer::Found(found)) = map.source.known(&key) {
            rows.push((key, Some(Place::from(&found.place)), found.entry.text().into_owned()));
        }
    }
    if !direct {
        entries.for_each_filter(&mut |index, wildcard| {
            if let Some(raw) = index.entry(wildcard.offset) {
                rows.push((wildcard.serves.to_string().into_bytes(), Some(Place::from(&raw.place)), raw.text));
            }
        });
    }
    rows
}

/// Adds the mounts that an access to an entry would make.
async fn expand(
    prepared: &Prepared,
    map: &Rc<ConfiguredMap>,
    direct: bool,
    who: Requester,
    masked: Masked,
    row: &mut ListedEntry,
) {
    let key = &row.key.0;
    let (at, kind, name) = if direct {
        (path_of(key), Kind::Direct, &b""[..])
    } else {
        (Path::new(OsStr::from_bytes(&map.mount_point)).join(OsStr::from_bytes(key)), Kind::Indirect, &key[..])
    };
    let question = Question {
        map: Rc::clone(map),
        context: Rc::clone(&prepared.context),
        at,
        written: None,
        kind,
        key: Key::from(name),
        who,
        below: Vec::new(),
        line: Line::default(),
    };
    let explained = resolve::explain(question, None).await;
    row.plan = explained.plan.as_deref().map(|plan| masked.plan(plan));
    row.notes = explained.notes.iter().map(|note| masked.text(note)).collect();
}
