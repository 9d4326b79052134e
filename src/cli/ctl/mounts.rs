//! `autofsctl mounts`: lists the mounted entries.

use super::Session;
use super::client::ClientError;
use super::exit::Exit;
use super::table::{Align, Table};
use crate::control::{Answer, Call, Mounted, Mounts};

/// Lists all mounted entries.
pub(super) fn list(session: &Session) -> Result<Exit, ClientError> {
    let mounted = ask(session)?;
    session.show(&mounted, || rows(&mounted.mounts, session.bold))?;
    Ok(Exit::Yes)
}

pub(super) fn ask(session: &Session) -> Result<Mounts, ClientError> {
    match session.ask(Call::Mounts)? {
        Answer::Mounts(mounts) => Ok(mounts),
        _ => Err(ClientError::unexpected()),
    }
}

pub(super) fn rows(mounts: &[Mounted], bold: bool) -> String {
    let mut table =
        Table::new([("PATH", Align::Left), ("TYPE", Align::Left), ("SOURCE", Align::Left), ("MOUNT", Align::Left)]);
    for mount in mounts {
        table.push([&mount.path, &mount.fstype, &mount.source, &mount.mount_point].map(ToString::to_string));
    }
    table.render(bold)
}
