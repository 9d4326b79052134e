//! Mounts offsets: the autofs mounts inside a multi-mount on which its parts are mounted when they are looked up.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use log::warn;

use super::Means;
use crate::daemon::mounts::NewMount;
use crate::engine::{Kind, MountId};
use crate::exec::dirs;
use crate::exec::lanes::Lane;
use crate::fault;
use crate::logging::target;
use crate::plan::Plan;
use crate::sys::path::Magic;
use crate::sys::{autofs, path};
use crate::text::Escaped;

/// Mounts offsets. Returns those that were mounted, and whether one could not be.
pub(crate) async fn make(means: &Means, parent: MountId, plans: &[Arc<Plan>]) -> (Vec<(MountId, Arc<Plan>)>, bool) {
    let (mut made, mut failed) = (Vec::new(), false);
    for plan in plans {
        match make_one(means, parent, plan).await {
            Ok(Some(id)) => made.push((id, Arc::clone(plan))),
            Ok(None) => {}
            Err(e) => {
                warn!(target: &target(&plan.at), "{}: no trigger: {e}", Escaped::path(&plan.at));
                failed = true;
            }
        }
    }
    (made, failed)
}

async fn make_one(means: &Means, parent: MountId, plan: &Arc<Plan>) -> io::Result<Option<MountId>> {
    let Means { mounts, tools, .. } = means;
    let known = mounts.get(parent).ok_or(io::ErrorKind::NotFound)?;
    let (line, pipe, number) = (known.line, known.pipe, mounts.number());
    let (write_end, options, source) = (mounts.write_end(pipe)?, tools.mount_options(&line), line.mount_source());
    let (at, timeout) = (plan.at.clone(), line.timeout());
    let mounted = tools.lanes.run(Lane::Mount, move || -> io::Result<_> {
        let created = dirs::make(&at).map_err(io::Error::other)?;
        // A file server may have brought a mount of its own along.
        let parent = at.parent().unwrap_or(Path::new("/"));
        if path::lstat(&at)?.dev != path::lstat(parent)?.dev {
            return Ok(None);
        }
        let remote = Magic::of(path::open(parent)?)?.is_remote();
        match autofs::mount_autofs(OsStr::from_bytes(&source), &at, write_end.as_fd(), Kind::Offset, options) {
            Ok(dev) => Ok(Some((dev, created, remote))),
            Err(e) => {
                created.remove();
                Err(e)
            }
        }
    });
    let Some((dev, created, remote)) = mounted.await? else { return Ok(None) };
    fault::point("offset");
    line.announce(&plan.at, Kind::Offset, timeout);
    let path = plan.at.as_path().into();
    let new = NewMount { path, kind: Kind::Offset, dev, pipe, line, created, remote, found: false };
    mounts.insert(number, new);
    mounts.set_plan(number, Arc::clone(plan));
    Ok(Some(number))
}
