//! `autofsctl maps`: lists the maps, and the entries of one.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStringExt as _;

use super::Session;
use super::client::ClientError;
use super::exit::Exit;
use super::table::{Align, Table};
use crate::control::PlanTree;
use crate::control::maps::{ListedMap, MapList};
use crate::daemon::explain::maps;
use crate::engine::Requester;
use crate::sys::user;
use crate::text::Escaped;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A map or a mount point, whose entries are listed
    map: Option<OsString>,
    /// Show what each entry mounts: with variables, defaults, and the options of the master map
    #[arg(long, requires = "map")]
    expand: bool,
    /// Show passwords
    #[arg(long, requires = "map")]
    secrets: bool,
}

/// Lists the maps, or the entries of one. The exit status is 1 if a map cannot be read, or none has this name.
pub(super) fn list(session: &Session, arguments: Arguments) -> Result<Exit, ClientError> {
    let map = arguments.map.map(OsString::into_vec);
    let own = user::effective_uid();
    let who = Requester { uid: own, gid: own, ..Requester::default() };
    let wish = maps::Wish { map, expand: arguments.expand, secrets: arguments.secrets, who };
    let list = maps::list(&wish)?;
    session.show(&list, || match &wish.map {
        None => overview(&list, session.bold),
        Some(name) if list.maps.is_empty() => format!("no line of the master map names {}\n", Escaped(name)),
        Some(_) => list.maps.iter().map(|map| entries(map, wish.expand, session.bold)).collect::<Vec<_>>().join("\n"),
    })?;
    let is_good = wish.map.is_none() || !list.maps.is_empty() && list.maps.iter().all(|map| map.reason.is_none());
    Ok(if is_good { Exit::Yes } else { Exit::No })
}

/// Said of maps whose keys cannot be listed.
const ON_DEMAND: &str = "it is asked for each key";

fn overview(list: &MapList, bold: bool) -> String {
    let mut table = Table::new([
        ("MAP", Align::Left),
        ("MOUNT POINT", Align::Left),
        ("KEYS", Align::Right),
        ("LINE", Align::Left),
        ("", Align::Left),
    ]);
    for map in &list.maps {
        let keys = map.keys.map_or_else(|| "-".to_owned(), |keys| keys.to_string());
        let reason = if map.on_demand { ON_DEMAND } else { map.reason.as_deref().unwrap_or_default() };
        table.push([
            map.map.to_string(),
            map.mount_point.to_string(),
            keys,
            map.line.to_string(),
            Escaped(reason.as_bytes()).to_string(),
        ]);
    }
    table.render(bold)
}

fn entries(map: &ListedMap, expand: bool, bold: bool) -> String {
    let mut text = format!("{} on {}\n", map.map, map.mount_point);
    let reason = map.reason.as_deref().or(map.on_demand.then_some(ON_DEMAND));
    if let Some(reason) = reason {
        let _ = writeln!(text, "  {}", Escaped(reason.as_bytes()));
    }
    let Some(entries) = &map.entries else { return text };
    if !expand {
        let mut table = Table::new([("KEY", Align::Left), ("PLACE", Align::Left), ("ENTRY", Align::Left)]);
        for entry in entries {
            let place = entry.place.as_ref().map(ToString::to_string).unwrap_or_default();
            table.push([entry.key.to_string(), place, entry.entry.to_string()]);
        }
        return text + &table.render(bold);
    }
    let mut table =
        Table::new([("PATH", Align::Left), ("TYPE", Align::Left), ("SOURCE", Align::Left), ("OPTIONS", Align::Left)]);
    let mut notes = Vec::new();
    for entry in entries {
        match &entry.plan {
            Some(plan) => branch(&mut table, plan),
            None => table.push([entry.key.to_string(), "-".to_owned(), entry.entry.to_string(), String::new()]),
        }
        notes.extend(entry.notes.iter().map(|note| format!("{}: {}\n", entry.key, Escaped(note.as_bytes()))));
    }
    text + &table.render(bold) + &notes.concat()
}

/// Adds a row for each mount of a plan, alternatives included.
fn branch(table: &mut Table<4>, plan: &PlanTree) {
    for (number, attempt) in plan.attempts.iter().enumerate() {
        let path = if number == 0 { plan.at.to_string() } else { "  else".to_owned() };
        table.push([path, attempt.fstype.to_string(), attempt.source.to_string(), attempt.options.to_string()]);
    }
    if plan.attempts.is_empty() && plan.offsets.is_empty() {
        table.push([plan.at.to_string(), "-".to_owned(), String::new(), String::new()]);
    }
    plan.offsets.iter().for_each(|offset| branch(table, offset));
}
