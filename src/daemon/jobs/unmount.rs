//! Unmounts entries with all that is mounted on them.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use log::{info, warn};

use super::busy::Retry;
use super::{alternatives, own_timeout, unmount_nested};
use crate::daemon::mounts::Mounts;
use crate::daemon::tools::Tools;
use crate::engine::{EntryId, Kind, Layer, MountId, Reason, Requester};
use crate::fault;
use crate::logging::target;
use crate::text::Escaped;

/// Maximum number of nested mounts that one thread unmounts. The first batches are smaller.
const BATCH_MAX: usize = 64;

/// Unmounts the layers in their order until one fails. Returns the number unmounted and the error of the first failure.
///
/// `layers` is empty for a mount that was not made by us, for example before a restart; it is unmounted by its path. At the end of the
/// daemon (`at_exit`), what is in use for a moment is tried again.
pub(crate) async fn unmount(
    mounts: &Mounts,
    tools: &Tools,
    at: &EntryId,
    layers: &[Layer],
    lazy: bool,
    at_exit: bool,
) -> (usize, Option<Reason>) {
    if layers.is_empty() {
        return match mounts.get(at.mount) {
            Some(mount) => (0, unmount_entry(mounts, tools, at, &mount.entry(&at.key), lazy, at_exit).await.err()),
            None => (0, None),
        };
    }
    let (mut gone, mut size) = (0, 1);
    while let Some(layer) = layers.get(gone) {
        let reason = match layer {
            Layer::FileSystem { at, path } => match unmount_entry(mounts, tools, at, path, lazy, at_exit).await {
                Ok(()) => {
                    gone += 1;
                    None
                }
                Err(reason) => Some(reason),
            },
            Layer::Trigger(..) => {
                let id = |layer: &Layer| match layer {
                    Layer::Trigger(id, _) => Some(*id),
                    Layer::FileSystem { .. } => None,
                };
                let batch: Vec<MountId> = layers.iter().skip(gone).map_while(id).take(size).collect();
                let (went, reason) = unmount_nested::remove_batch(mounts, tools, &batch, lazy, at_exit).await;
                gone += went;
                size = (size * 2).min(BATCH_MAX);
                reason.map(Reason::from)
            }
        };
        if reason.is_some() {
            return (gone, reason);
        }
    }
    (gone, None)
}

/// Unmounts the file system of an entry at `path`.
///
/// # Errors
/// Why it is still mounted.
async fn unmount_entry(
    mounts: &Mounts,
    tools: &Tools,
    at: &EntryId,
    path: &Path,
    lazy: bool,
    at_exit: bool,
) -> Result<(), Reason> {
    let Some(mount) = mounts.get(at.mount) else { return Ok(()) };
    let place = Arc::new(mount.place(&at.key, Requester::default()));
    let keep = mount.map.browse() && mount.map.source.known_entries().is_some_and(|e| e.has_key(&at.key.0));
    let (label, shown) = (target(path), Escaped::path(path));
    info!(target: &label, "expiring path {shown}");
    fault::point("expiring");
    let begun = Instant::now();
    mounts.watch.expect_unmount();
    let mut retry = Retry::begin(at_exit);
    let unmounted = loop {
        match tools.unmounter.remove(&place, lazy, keep).await {
            Err(e) if e.is_busy() && !e.is_late() => match retry.next() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => break Err(e),
            },
            unmounted => break unmounted,
        }
    };
    let late = unmounted.map_err(|e| {
        mounts.watch.unmount_failed();
        warn!(target: &label, "couldn't complete expire of {shown}: {e}");
        e.record(begun.elapsed())
    })?;
    if keep || mount.kind == Kind::Direct {
        own_timeout::take_back(mounts, tools, at);
    }
    tools.requesters.forget(path);
    alternatives::release(tools, path, lazy).await;
    fault::point("unmounted");
    info!(target: &label, "umounting {shown} succeeded");
    if let Some(e) = late {
        warn!(target: &label, "{shown} was unmounted by system call: {e}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::jobs::{check, detach};
    use crate::daemon::testing::Parts;
    use crate::engine::{JobId, Key};

    fn entry(mount: u32, key: &str) -> EntryId {
        EntryId { mount: MountId(mount), key: Key::from(key.as_bytes()) }
    }

    #[tokio::test]
    async fn what_is_unknown_is_gone() {
        let parts = Parts::new();
        let layers = [
            Layer::FileSystem { at: entry(1, "k"), path: "/a/k".into() },
            Layer::Trigger(MountId(2), Path::new("/a/k/s").into()),
        ];
        let (gone, error) = unmount(&parts.mounts, &parts.tools, &entry(1, "k"), &layers, false, false).await;
        assert_eq!((gone, error), (2, None));
    }

    #[tokio::test]
    async fn the_first_layer_that_stays_ends_it_and_says_why() {
        let parts = Parts::new();
        // Its mount point is a directory of another device.
        parts.indirect(1, "/", 70);
        let layers = [
            Layer::Trigger(MountId(2), Path::new("/a").into()),
            Layer::Trigger(MountId(1), Path::new("/").into()),
            Layer::Trigger(MountId(3), Path::new("/b").into()),
        ];
        let (gone, error) = unmount(&parts.mounts, &parts.tools, &entry(9, ""), &layers, false, false).await;
        assert_eq!((gone, error.unwrap().message.as_str()), (1, "/ is not our autofs mount any more"));
        assert!(parts.mounts.get(MountId(1)).is_some() && !parts.mounts.is_leaving(MountId(1)));
    }

    #[tokio::test]
    async fn a_mount_that_was_unmounted_meanwhile_is_gone() {
        tokio::task::LocalSet::new()
            .run_until(async {
                let parts = Parts::new();
                parts.indirect(1, "/nonexistent/a", 70);
                parts.indirect(2, "/", 71);
                parts.mounts.begin_leaving(MountId(2));
                let leaving = vec![(MountId(1), false), (MountId(2), false), (MountId(3), false)];
                let outcomes = detach::detach(&parts.mounts, &parts.tools, leaving, false).await;
                let gone = |(id, outcome): (MountId, Result<(), Reason>)| (id.0, outcome.is_ok());
                let mut gone: Vec<_> = outcomes.into_iter().map(gone).collect();
                gone.sort_unstable();
                assert_eq!(gone, [(1, true), (2, false), (3, true)]);
                assert_eq!(parts.mounts.watch.expected(), 1, "the first one, whose end is reported");
                assert!(!parts.mounts.is_leaving(MountId(2)), "it stays");
            })
            .await;
    }

    #[tokio::test]
    async fn nothing_is_mounted_at_what_is_unknown() {
        let parts = Parts::new();
        parts.indirect(1, "/nonexistent/a", 70);
        for count in [1, 100] {
            let jobs = (0..count).map(|n| (JobId(n), entry(1 + u32::try_from(n % 2).unwrap(), "k"))).collect();
            let outcomes = check::check(&parts.mounts, &parts.tools, jobs).await;
            assert!(outcomes.len() == usize::try_from(count).unwrap() && outcomes.iter().all(|(_, mounted)| !mounted));
        }
    }
}
