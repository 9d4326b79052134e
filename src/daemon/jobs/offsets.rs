//! Makes offset mounts: the autofs mounts inside a multi-mount on which its parts are mounted at their first access.

use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::rc::Rc;
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

/// Maximum number of offset mounts that one thread makes before they are made known. The first batches are smaller.
const BATCH_MAX: usize = 64;

/// Makes offset mounts. Returns those that were mounted, and a record for each that could not be.
pub(crate) async fn make(means: &Means, parent: MountId, plans: &[Arc<Plan>]) -> (Offsets, Vec<Record>) {
    let (mut made, mut failed) = (Vec::with_capacity(plans.len()), Vec::new());
    let (mut rest, mut size) = (plans, 1);
    while !rest.is_empty() {
        let (batch, later) = rest.split_at(size.min(rest.len()));
        let begun = Instant::now();
        for (plan, result) in batch.iter().zip(make_batch(means, parent, batch).await) {
            match result {
                Ok(Some(id)) => made.push((id, Arc::clone(plan))),
                Ok(None) => {}
                Err(e) => {
                    warn!(target: &target(&plan.at), "{}: no trigger: {e}", Escaped::path(&plan.at));
                    let record = Record::of(&e, begun.elapsed());
                    failed.push(Record { message: format!("{}: {e}", Escaped::path(&plan.at)), ..record });
                }
            }
        }
        (rest, size) = (later, (size * 2).min(BATCH_MAX));
    }
    (made, failed)
}

/// Makes some of them. Returns an outcome for each plan.
async fn make_batch(means: &Means, parent: MountId, plans: &[Arc<Plan>]) -> Vec<Result<Option<MountId>, MakeError>> {
    let Means { mounts, tools, .. } = means;
    let Some(known) = mounts.get(parent) else { return plans.iter().map(|_| Err(MakeError::Gone)).collect() };
    let (map, pipe) = (known.map, known.pipe);
    let write_end = match mounts.write_end(pipe) {
        Ok(write_end) => write_end,
        Err(e) => return plans.iter().map(|_| Err(MakeError::Pipe(e.kind().into()))).collect(),
    };
    let (options, source, timeout) = (tools.mount_options(&map), map.mount_source(), map.timeout());
    let places: Vec<PathBuf> = plans.iter().map(|plan| plan.at.clone()).collect();
    let mounted = tools.lanes.run(Lane::Mount, move || {
        // The content of the file system is not trusted, so no symbolic link in it is followed.
        let mut maker = Maker::new(Rules { links: Links::None, user_parents: true });
        let mount = |at: &PathBuf| mount_trigger(&mut maker, at, &source, write_end.as_fd(), Kind::Offset, options);
        places.iter().map(mount).collect::<Vec<_>>()
    });
    let mut outcomes = Vec::with_capacity(plans.len());
    for (plan, mounted) in plans.iter().zip(mounted.await) {
        outcomes.push(match mounted {
            Ok(Some(Trigger { dev, mount_id, created, remote })) => {
                fault::point("offset");
                map.announce(&plan.at, Kind::Offset, timeout);
                let (number, path, map) = (mounts.new_id(), plan.at.as_path().into(), Rc::clone(&map));
                let new =
                    NewMount { path, kind: Kind::Offset, dev, mount_id, pipe, map, created, remote, found: false };
                mounts.insert(number, new);
                mounts.set_plan(number, Arc::clone(plan));
                Ok(Some(number))
            }
            Ok(None) => Ok(None),
            Err(e) => Err(e.into()),
        });
    }
    outcomes
}
