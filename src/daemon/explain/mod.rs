//! Prediction of an access to a path: by the daemon, and from the files alone. Lists of maps.

mod below;
mod feasible;
pub(crate) mod live;
pub(crate) mod maps;
pub(crate) mod mounted;
pub(crate) mod offline;
mod origins;

use crate::control::plan;
use crate::plan::{Action, Leads, MountedBy};

/// Returns the type and the source of what an action mounts.
pub(crate) fn shown(action: &Action) -> Option<(Vec<u8>, Vec<u8>)> {
    match action {
        Action::Mount(tried) => Some(tried.first().map(|m| (m.fstype.clone(), m.source.clone())).unwrap_or_default()),
        Action::Symlink(text) => Some((b"symlink".to_vec(), text.clone())),
        Action::Autofs(submount) => Some((b"autofs".to_vec(), plan::map_name(&submount.source))),
        Action::Leads(leads) => shown_lead(leads.first()?),
        Action::Nothing => None,
    }
}

/// Returns the type and the source of what the first location of an entry in am-utils format mounts.
fn shown_lead(lead: &Leads) -> Option<(Vec<u8>, Vec<u8>)> {
    match lead.external.as_ref().map(|external| &external.by) {
        Some(MountedBy::Mounts(mounts)) => mounts.first().map(|mount| (mount.fstype.clone(), mount.source.clone())),
        Some(MountedBy::Command { mount, .. }) => Some((b"program".to_vec(), mount.program.clone())),
        None => shown(lead.ways.first()?),
    }
}
