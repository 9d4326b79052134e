//! Mounts a small tmpfs at the root of a multi-mount that has no root mount.
//!
//! An entry like `key /a srv:/a /b srv:/b` mounts nothing at the key itself: its offsets are mounted on bare directories
//! of the autofs mount. CRIU restores no directories of an autofs file system except those on which something is mounted,
//! so it cannot restore such a tree. With a tiny tmpfs at the key, whose directories it does restore, it can. This is done
//! in containers only, unless the configuration says otherwise, so that the mount table of a machine stays as people know
//! it.

use std::os::fd::AsFd as _;
use std::sync::Arc;

use log::debug;

use crate::daemon::tools::Tools;
use crate::exec::Place;
use crate::exec::lanes::Lane;
use crate::logging::target;
use crate::map::Propagation;
use crate::plan::{Action, FsMount, Plan};
use crate::sys::path::Magic;
use crate::sys::{mount, path};
use crate::text::Escaped;

/// Mounts a placeholder at an entry, if one is wanted and nothing is mounted there. Returns whether it was mounted; it is
/// to be sealed when the directories are made.
pub(crate) async fn make(tools: &Tools, plan: &Plan, place: &Arc<Place>) -> bool {
    if !tools.placeholder || plan.offsets.is_empty() {
        return false;
    }
    let there = Arc::clone(place);
    if tools.lanes.run(Lane::Mount, move || there.is_mounted()).await {
        return false;
    }
    let tmpfs = FsMount {
        fstype: b"tmpfs".to_vec(),
        source: b"autofs".to_vec(),
        options: b"size=4k,mode=755".to_vec(),
        propagation: Propagation::Private,
        fsck: None,
        server: None,
        limit: None,
    };
    let floor = Plan {
        at: plan.at.clone(),
        action: Action::Mount(vec![tmpfs]),
        offsets: Vec::new(),
        strict: false,
        timeout: None,
        requires: Vec::new(),
    };
    let made = tools.mounter.perform(&Arc::new(floor), place).await;
    made.inspect_err(|e| debug!(target: &target(&plan.at), "no placeholder: {e}")).is_ok()
}

/// Makes the placeholder of an entry writable, if there is one, for directories that are added; it is to be sealed again.
pub(crate) async fn unseal(tools: &Tools, plan: &Plan) -> bool {
    if !tools.placeholder {
        return false;
    }
    let at = plan.at.clone();
    let unseal = move || {
        let top = path::open_exact(&at)?;
        if !Magic::of(&top)?.is_tmpfs() {
            return Ok(false);
        }
        mount::make_writable(top.as_fd()).map(|()| true)
    };
    tools.lanes.run(Lane::Mount, unseal).await.unwrap_or_else(|e: std::io::Error| {
        debug!(target: &target(&plan.at), "{}: the placeholder stays read-only: {e}", Escaped::path(&plan.at));
        false
    })
}

/// Makes a placeholder read-only.
pub(crate) async fn seal(tools: &Tools, plan: &Plan) {
    let at = plan.at.clone();
    let seal = move || path::open_exact(&at).and_then(|top| mount::make_read_only(top.as_fd()));
    let sealed = tools.lanes.run(Lane::Mount, seal).await;
    if let Err(e) = sealed {
        debug!(target: &target(&plan.at), "{}: the placeholder stays writable: {e}", Escaped::path(&plan.at));
    }
}
