//! Makes offset mounts: the autofs mounts inside a multi-mount on which its parts are mounted at their first access.

use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, warn};

use super::{MakeError, Means};
use crate::daemon::mounts::NewMount;
use crate::engine::{Kind, MountId};
use crate::exec::dirs::{Links, Maker, Rules};
use crate::exec::{Trigger, TriggerError, mount_trigger, server_of, unmount_autofs};
use crate::fault;
use crate::logging::target;
use crate::plan::{Action, Plan};
use crate::record::Record;
use crate::sys::autofs;
use crate::text::Escaped;

/// Offset mounts with the plans that they trigger.
pub(crate) type Offsets = Vec<(MountId, Arc<Plan>)>;

/// Maximum number of offset mounts that one thread makes before they are made known. The first batches are smaller.
const BATCH_MAX: usize = 64;

/// Makes the offset mounts `plans` of the entry with the plan `above`. Returns those that were mounted, and a record for each that
/// could not be, also because the server of the file system above does not answer within `time_limit` or the time that a mount may take.
pub(crate) async fn make(
    means: &Means,
    parent: MountId,
    above: &Plan,
    plans: &[Arc<Plan>],
    time_limit: Duration,
) -> (Offsets, Vec<Record>) {
    let server = server(above);
    let (mut made, mut failed) = (Vec::with_capacity(plans.len()), Vec::new());
    let (mut rest, mut size) = (plans, 1);
    while !rest.is_empty() {
        let (batch, later) = rest.split_at(size.min(rest.len()));
        let begun = Instant::now();
        for (plan, result) in batch.iter().zip(make_batch(means, parent, (above, &server, time_limit), batch).await) {
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
async fn make_batch(
    means: &Means,
    parent: MountId,
    (above, server, time_limit): (&Plan, &[u8], Duration),
    plans: &[Arc<Plan>],
) -> Vec<Result<Option<MountId>, MakeError>> {
    let Means { mounts, tools, .. } = means;
    let Some(known) = mounts.get(parent) else { return plans.iter().map(|_| Err(MakeError::Gone)).collect() };
    let (map, pipe) = (known.map, known.pipe);
    let write_end = match mounts.write_end(pipe) {
        Ok(write_end) => write_end,
        Err(e) => return plans.iter().map(|_| Err(MakeError::Pipe(e.kind().into()))).collect(),
    };
    let (options, source, timeout) = (tools.mount_options(&map), map.mount_source(), map.timeout());
    let places: Vec<PathBuf> = plans.iter().map(|plan| plan.at.clone()).collect();
    let deadline = means.state.borrow().configuration.native.deadlines.mount.min(time_limit);
    let mounted = tools.lanes.run_inside(server, &above.at, deadline, move || {
        // The content of the file system is not trusted, so no symbolic link in it is followed.
        let mut maker = Maker::new(Rules { links: Links::None, user_parents: true });
        let mount = |at: PathBuf| {
            let mounted = mount_trigger(&mut maker, &at, &source, write_end.as_fd(), Kind::Offset, options);
            (at, mounted)
        };
        Unclaimed(places.into_iter().map(mount).collect())
    });
    let mut outcomes = Vec::with_capacity(plans.len());
    let mounted = match mounted.await {
        Ok(mounted) => mounted.claim(),
        Err(_) => return plans.iter().map(|_| Err(MakeError::Silent(above.at.clone()))).collect(),
    };
    for (plan, mounted) in plans.iter().zip(mounted) {
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

/// Triggers that were mounted. Those that nobody waits for any more, as the server has answered too late, are unmounted.
struct Unclaimed(Vec<(PathBuf, Result<Option<Trigger>, TriggerError>)>);

impl Unclaimed {
    fn claim(mut self) -> Vec<Result<Option<Trigger>, TriggerError>> {
        std::mem::take(&mut self.0).into_iter().map(|(_, mounted)| mounted).collect()
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        let late: Vec<(PathBuf, u32)> = std::mem::take(&mut self.0)
            .into_iter()
            .filter_map(|(at, mounted)| Some((at, mounted.ok().flatten()?.dev)))
            .collect();
        if late.is_empty() {
            return;
        }
        // Not here: this may be the reactor.
        let unmount = move || {
            for (at, dev) in late.iter().rev() {
                if let Err(e) = unmount_autofs(at, None, Kind::Offset, autofs::decode(*dev), false) {
                    debug!(target: &target(at), "the late trigger {} stays: {e}", Escaped::path(at));
                }
            }
        };
        let _ = std::thread::Builder::new().name("late".to_owned()).spawn(unmount);
    }
}

/// Returns what the file system of a plan depends on: its server or its source. Without a mount, that is its path.
pub(crate) fn server(plan: &Plan) -> Vec<u8> {
    let source = match &plan.action {
        Action::Mount(mounts) => mounts.first().map(|mount| mount.source.as_slice()),
        _ => None,
    };
    match source {
        Some(source) => server_of(source).unwrap_or(source).to_vec(),
        None => plan.at.as_os_str().as_bytes().to_vec(),
    }
}
