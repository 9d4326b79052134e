//! Unmounts entries with all that is mounted on them.

use std::path::Path;
use std::sync::Arc;

use log::{info, warn};

use super::trigger;
use crate::daemon::mounts::Mounts;
use crate::daemon::tools::Tools;
use crate::engine::{EntryId, Layer, Reason, Requester};
use crate::fault;
use crate::logging::target;
use crate::record::Record;
use crate::text::Escaped;

/// Unmounts the layers in their order, up to the first that does not go. Returns how many went, and why the next one did not.
///
/// `layers` is empty for a mount that was not made by us, for example before a restart; it is unmounted by its path.
pub(crate) async fn unmount(
    mounts: &Mounts,
    tools: &Tools,
    at: &EntryId,
    layers: &[Layer],
    lazy: bool,
) -> (usize, Option<Reason>) {
    if layers.is_empty() {
        return match mounts.get(at.mount) {
            Some(mount) => (0, unmount_entry(mounts, tools, at, &mount.entry(&at.key), lazy).await.err()),
            None => (0, None),
        };
    }
    for (gone, layer) in layers.iter().enumerate() {
        let went = match layer {
            Layer::FileSystem { at, path } => unmount_entry(mounts, tools, at, path, lazy).await,
            Layer::Trigger(id, _) if trigger::remove(mounts, tools, *id, lazy).await => Ok(()),
            Layer::Trigger(_, path) => Err(Record::new(format!("{} is in use", Escaped::path(path))).into()),
        };
        if let Err(reason) = went {
            return (gone, Some(reason));
        }
    }
    (layers.len(), None)
}

/// Unmounts the file system of an entry at `path`.
///
/// # Errors
/// Why it is still mounted.
async fn unmount_entry(mounts: &Mounts, tools: &Tools, at: &EntryId, path: &Path, lazy: bool) -> Result<(), Reason> {
    let Some(mount) = mounts.get(at.mount) else { return Ok(()) };
    let place = Arc::new(mount.place(&at.key, Requester::default()));
    let keep = mount.line.browse() && mount.line.source.has_key(&at.key.0);
    let (label, shown) = (target(path), Escaped::path(path));
    info!(target: &label, "expiring path {shown}");
    fault::point("expiring");
    if let Err(e) = tools.unmounter.remove(&place, lazy, keep).await {
        warn!(target: &label, "couldn't complete expire of {shown}: {e}");
        return Err(Record::new(e.to_string()).into());
    }
    mounts.count_unmounted();
    tools.requesters.forget(path);
    fault::point("unmounted");
    info!(target: &label, "umounting {shown} succeeded");
    Ok(())
}
