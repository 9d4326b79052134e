//! Makes offset mounts: the autofs mounts inside a multi-mount on which its parts are mounted at their first access.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Instant;

use log::warn;

use super::{MakeError, Means};
use crate::daemon::mounts::NewMount;
use crate::engine::{Kind, MountId};
use crate::exec::dirs::{Links, Maker, Rules};
use crate::exec::lanes::Lane;
use crate::exec::{Trigger, mount_trigger};
use crate::fault;
use crate::logging::target;
use crate::plan::Plan;
use crate::record::Record;
use crate::text::Escaped;

/// Offset mounts with the plans that they trigger.
pub(crate) type Offsets = Vec<(MountId, Arc<Plan>)>;

/// Makes offset mounts. Returns those that were mounted, and a record for each that could not be.
pub(crate) async fn make(means: &Means, parent: MountId, plans: &[Arc<Plan>]) -> (Offsets, Vec<Record>) {
    let (mut made, mut failed) = (Vec::new(), Vec::new());
    for plan in plans {
        let begun = Instant::now();
        match make_one(means, parent, plan).await {
            Ok(Some(id)) => made.push((id, Arc::clone(plan))),
            Ok(None) => {}
            Err(e) => {
                warn!(target: &target(&plan.at), "{}: no trigger: {e}", Escaped::path(&plan.at));
                let record = Record::of(&e, begun.elapsed());
                failed.push(Record { message: format!("{}: {e}", Escaped::path(&plan.at)), ..record });
            }
        }
    }
    (made, failed)
}

async fn make_one(means: &Means, parent: MountId, plan: &Arc<Plan>) -> Result<Option<MountId>, MakeError> {
    let Means { mounts, tools, .. } = means;
    let known = mounts.get(parent).ok_or(MakeError::Gone)?;
    let (map, pipe, number) = (known.map, known.pipe, mounts.new_id());
    let write_end = mounts.write_end(pipe).map_err(MakeError::Pipe)?;
    let (options, source) = (tools.mount_options(&map), map.mount_source());
    let (at, timeout) = (plan.at.clone(), map.timeout());
    let mounted = tools.lanes.run(Lane::Mount, move || {
        // The content of the file system is not trusted, so no symbolic link in it is followed.
        let mut maker = Maker::new(Rules { links: Links::None, user_parents: true });
        mount_trigger(&mut maker, &at, &source, write_end.as_fd(), Kind::Offset, options)
    });
    let Some(Trigger { dev, mount_id, created, remote }) = mounted.await? else { return Ok(None) };
    fault::point("offset");
    map.announce(&plan.at, Kind::Offset, timeout);
    let path = plan.at.as_path().into();
    let new = NewMount { path, kind: Kind::Offset, dev, mount_id, pipe, map, created, remote, found: false };
    mounts.insert(number, new);
    mounts.set_plan(number, Arc::clone(plan));
    Ok(Some(number))
}
