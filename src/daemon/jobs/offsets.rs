//! Makes offset mounts: the autofs mounts inside a multi-mount on which its parts are mounted at their first access.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use log::warn;

use super::Means;
use crate::daemon::mounts::NewMount;
use crate::engine::{Kind, MountId};
use crate::exec::dirs::{Links, Maker, Rules};
use crate::exec::lanes::Lane;
use crate::exec::{Trigger, mount_trigger};
use crate::fault;
use crate::logging::target;
use crate::plan::Plan;
use crate::text::Escaped;

/// Makes offset mounts. Returns those that were mounted, and whether any has failed.
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
    let mounted = tools.lanes.run(Lane::Mount, move || {
        // The content of the file system is not trusted, so no symbolic link in it is followed.
        let mut maker = Maker::new(Rules { links: Links::None, user_parents: true });
        mount_trigger(&mut maker, &at, &source, write_end.as_fd(), Kind::Offset, options)
    });
    let Some(Trigger { dev, created, remote }) = mounted.await.map_err(io::Error::other)? else { return Ok(None) };
    fault::point("offset");
    line.announce(&plan.at, Kind::Offset, timeout);
    let path = plan.at.as_path().into();
    let new = NewMount { path, kind: Kind::Offset, dev, pipe, line, created, remote, found: false };
    mounts.insert(number, new);
    mounts.set_plan(number, Arc::clone(plan));
    Ok(Some(number))
}
