//! Remounts autofs mounts whose options were lost in a restore.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, error};

use crate::daemon::attach::appearance;
use crate::daemon::attach::attacher::{Attacher, Job};
use crate::daemon::attach::opener::{Opener, SHORT_OPEN_TIMEOUT};
use crate::daemon::jobs::unmount_nested;
use crate::daemon::mounts::roots::find_root;
use crate::daemon::mounts::table::MountTable;
use crate::daemon::worker::Worker;
use crate::engine::{EntryPhase, EntryView, Kind, MountId, MountView};
use crate::exec::lanes::Lane;
use crate::logging::target;
use crate::text::Escaped;

/// Interval between attempts to remount an unused autofs mount, and their number. A process that has just unmounted something
/// there keeps it busy for a moment, and so does CRIU after a restore.
const RENEW: Duration = Duration::from_secs(1);
const ATTEMPTS: u32 = 5;

/// Remounts an autofs mount with all its options as soon as it is unused. Gives up if it stays in use.
pub(crate) async fn renew(worker: Rc<Worker>, id: MountId) {
    for _ in 0..ATTEMPTS {
        let free = {
            let mounted = |entry: EntryView<'_>| !matches!(entry.phase, EntryPhase::Failed(..));
            let empty = |view: MountView<'_>| !view.entries().any(mounted);
            worker.mounts.get(id).is_some_and(|mount| mount.lacks_options)
                && worker.view(|engine| engine.mount(id).is_some_and(empty))
        };
        if free && !matches!(renew_now(&worker, id).await, Some(false)) {
            return;
        }
        tokio::time::sleep(RENEW).await;
    }
}

/// Remounts it now. Returns `Some(false)` if it is in use, and `None` if there is nothing to do. The engine is not told. Lookups
/// between unmount and mount get ENOENT from the directory below.
async fn renew_now(worker: &Rc<Worker>, id: MountId) -> Option<bool> {
    let tools = worker.tools();
    let (attacher, job, old) = {
        let mount = worker.mounts.get(id).filter(|mount| mount.lacks_options)?;
        let write_end = worker.mounts.write_end(mount.pipe).ok()?;
        let job = Job {
            id,
            path: Arc::clone(&mount.path),
            kind: mount.kind,
            source: mount.map.mount_source(),
            options: tools.mount_options(&mount.map),
            mode: mount.map.options.mode.filter(|_| mount.kind == Kind::Indirect),
            pipe: mount.pipe,
            time_limit: SHORT_OPEN_TIMEOUT,
        };
        let attacher = Attacher {
            control: Arc::clone(&tools.control),
            opener: Opener::new(Arc::clone(&tools.blocked)),
            table: Arc::new(MountTable::of(Vec::new())),
            own: HashMap::new(),
            rules: tools.rules,
            write_ends: [(mount.pipe, write_end)].into(),
            silent: HashSet::new(),
        };
        (attacher, job, mount.dev)
    };
    worker.mounts.close_root(id);
    worker.mounts.watch.expect_unmount();
    let path = job.path.clone();
    let renewed = tools.lanes.run(Lane::Umount, move || {
        // A checkpoint since the last attempt has changed the device number. The mount is then still there under another one, and
        // a new mount would only cover it.
        let found = matches!(find_root(&attacher.control, &job.path, old, Some(job.kind)), Ok(Some(_)));
        // `attacher` keeps a write end open, so that the pipe does not report its end between unmount and mount.
        let gone = found
            && unmount_nested::umount_trigger(&attacher.control, (&job.path, None), (job.kind, old), false, false)
                .is_ok();
        gone.then(|| attacher.run(vec![job]))
    });
    let Some(results) = renewed.await else {
        worker.mounts.watch.unmount_failed();
        return Some(false);
    };
    let renewed = results.into_iter().next()?.1;
    match renewed {
        Ok(attached) => {
            worker.mounts.move_device(id, attached.dev);
            worker.mounts.change(id, |mount| {
                mount.mount_id = attached.mount_id;
                mount.lacks_options = false;
            });
            debug!(target: &target(&path), "{} has all its options again", Escaped::path(&path));
            appearance::apply(&worker.means(), [id]).await;
            worker.browse(id).await;
        }
        Err(e) => {
            error!(target: &target(&path), "{e}");
            worker.vanished(id);
        }
    }
    Some(true)
}
