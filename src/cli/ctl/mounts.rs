//! `autofsctl mounts`: lists the mounted entries.

use std::collections::HashMap;

use serde::Serialize;

use super::Session;
use super::client::ClientError;
use super::exit::Exit;
use super::history;
use super::table::{Align, Table, duration};
use crate::control::history::{Asked, Requester};
use crate::control::{Answer, Bytes, Call, HistoryQuery, Mounted, Mounts};

/// A mounted entry, and the process for which it was mounted, if the history has it.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    mounted: Mounted,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    who: Option<Requester>,
}

#[derive(Debug, Serialize)]
struct Rows {
    mounts: Vec<Row>,
}

/// Lists all mounted entries; with `wide` also the mount points they belong to.
pub(super) fn list(session: &Session, wide: bool) -> Result<Exit, ClientError> {
    let mounts = ask(session)?.mounts;
    let mut requesters = if mounts.is_empty() { HashMap::new() } else { requesters(session) };
    let with_requester = |mounted: Mounted| {
        let who = requesters.remove(&mounted.path).filter(|_| mounted.foreign.is_none());
        Row { who, mounted }
    };
    let rows = Rows { mounts: mounts.into_iter().map(with_requester).collect() };
    session.show(&rows, || text(&rows.mounts, wide, session.bold))?;
    Ok(Exit::Yes)
}

pub(super) fn ask(session: &Session) -> Result<Mounts, ClientError> {
    match session.ask(Call::Mounts)? {
        Answer::Mounts(mounts) => Ok(mounts),
        _ => Err(ClientError::unexpected()),
    }
}

/// Returns for whom each path was mounted last, as far as the history may be read and goes back.
fn requesters(session: &Session) -> HashMap<Bytes, Requester> {
    let Ok(history) = history::ask(session, HistoryQuery::default()) else { return HashMap::new() };
    let mounted = history.requests.into_iter().filter(|r| r.asked == Asked::Mount && r.errno.is_none());
    // The newest come first.
    mounted.rev().map(|request| (request.path, request.who)).collect()
}

fn text(rows: &[Row], wide: bool, bold: bool) -> String {
    let since = |row: &Row| row.mounted.mounted_for.map(duration).unwrap_or_default();
    let by = |row: &Row| row.who.as_ref().map(history::process).unwrap_or_default();
    let (path, fstype) = (|row: &Row| row.mounted.path.to_string(), |row: &Row| row.mounted.fstype.to_string());
    let source = |row: &Row| match row.mounted.foreign {
        Some(_) => format!("{} (mounted by another process)", row.mounted.source),
        None => row.mounted.source.to_string(),
    };
    const COLUMNS: [(&str, Align); 6] = [
        ("PATH", Align::Left),
        ("SINCE", Align::Right),
        ("BY", Align::Left),
        ("TYPE", Align::Left),
        ("SOURCE", Align::Left),
        ("MOUNT", Align::Left),
    ];
    if wide {
        let mut table = Table::new(COLUMNS);
        for row in rows {
            let mount_point = row.mounted.mount_point.to_string();
            table.push([path(row), since(row), by(row), fstype(row), source(row), mount_point]);
        }
        return table.render(bold);
    }
    let [first, second, third, fourth, fifth, _] = COLUMNS;
    let mut table = Table::new([first, second, third, fourth, fifth]);
    for row in rows {
        table.push([path(row), since(row), by(row), fstype(row), source(row)]);
    }
    table.render(bold)
}
