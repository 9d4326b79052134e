//! A floor for multi-mounts that have none.
//!
//! An entry like `key /a srv:/a /b srv:/b` mounts nothing at the key itself: its offsets stand on bare directories of
//! the autofs mount. CRIU restores no directories of autofs but those on which something is mounted, so it cannot
//! restore such a tree. With a tiny tmpfs at the key, whose directories it does restore, it can. On a machine of its own
//! the mount table stays as people know it.

use std::sync::Arc;

use log::debug;

use crate::config::native::When;
use crate::daemon::maps::context::Context;
use crate::exec::Place;
use crate::exec::lanes::Lane;
use crate::logging::target;
use crate::map::Propagation;
use crate::plan::{Action, Mount, Plan};
use crate::sys::{mount, path};
use crate::text::Escaped;

/// Files that say that this is a container: of podman, docker and systemd.
const MARKS: [&str; 3] = ["/run/.containerenv", "/.dockerenv", "/run/systemd/container"];

/// Whether placeholders are to be mounted here.
pub(crate) fn wanted(when: When) -> bool {
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto => {
            let marked = MARKS.iter().any(|mark| path::lstat(mark.as_ref()).is_ok());
            marked || std::env::var_os("container").is_some_and(|value| !value.is_empty())
        }
    }
}

/// Mounts a placeholder at an entry, if one is wanted and nothing stands there. True: one is there now, to be sealed when
/// the directories are made.
pub(crate) async fn make(context: &Context, plan: &Plan, place: &Arc<Place>) -> bool {
    if !context.placeholder || plan.offsets.is_empty() {
        return false;
    }
    let there = Arc::clone(place);
    if context.lanes.run(Lane::Mount, move || there.is_mounted()).await {
        return false;
    }
    let tmpfs = Mount {
        fstype: b"tmpfs".to_vec(),
        source: b"autofs".to_vec(),
        options: b"size=4k,mode=755".to_vec(),
        propagation: Propagation::Private,
        fsck: None,
    };
    let floor = Plan { at: plan.at.clone(), action: Action::Mount(vec![tmpfs]), offsets: Vec::new(), strict: false };
    let made = context.mounter.perform(&Arc::new(floor), place).await;
    made.inspect_err(|e| debug!(target: &target(&plan.at), "no placeholder: {e}")).is_ok()
}

/// Makes a placeholder read-only.
pub(crate) async fn seal(context: &Context, plan: &Plan) {
    let at = plan.at.clone();
    let sealed = context.lanes.run(Lane::Mount, move || mount::make_read_only(&at)).await;
    if let Err(e) = sealed {
        debug!(target: &target(&plan.at), "{}: the placeholder stays writable: {e}", Escaped::path(&plan.at));
    }
}
