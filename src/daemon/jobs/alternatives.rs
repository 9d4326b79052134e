//! Carries out entries with several locations: those of Sun maps with `||`, and those in am-utils format. The latter are mounted
//! outside the autofs mount, and the key is connected to them by a bind mount or a symbolic link.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use log::debug;

use super::{Means, servers, submount};
use crate::daemon::tools::Tools;
use crate::engine::{Done, MountId, Requester};
use crate::exec::external::User;
use crate::exec::lanes::Lane;
use crate::exec::{Failure, Place};
use crate::logging::target;
use crate::plan::{Action, Leads, Plan};
use crate::record::Record;
use crate::sys::path;
use crate::text::Escaped;

/// Tries the locations of an entry until one succeeds.
///
/// # Errors
/// Returns why the last one failed.
pub(super) async fn make(
    means: &Means,
    parent: MountId,
    (at, place): (&Path, &Arc<Place>),
    leads: &[Leads],
) -> Result<Done, Record> {
    let mut failed = Record::new("the entry has no location");
    for lead in leads {
        match one(means, parent, (at, place), lead).await {
            Ok(done) => return Ok(done),
            Err((record, is_late)) => {
                debug!(target: &place.label, "{}: a location fails: {}", Escaped::path(at), record.message);
                failed = record;
                if is_late && lead.decides {
                    // What is there may be what is wanted.
                    break;
                }
            }
        }
    }
    Err(failed)
}

/// Tries one location. An error says whether it is only late: it may exist.
async fn one(
    means: &Means,
    parent: MountId,
    (at, place): (&Path, &Arc<Place>),
    lead: &Leads,
) -> Result<Done, (Record, bool)> {
    let tools = &means.tools;
    let user = User { entry: at.to_owned(), who: place.who, label: Arc::clone(&place.label) };
    if let Some(external) = &lead.external {
        let begun = Instant::now();
        let mounted = tools.externals.mount(external, &user, &tools.mounter, tools.rules).await;
        mounted.map_err(|failure| (failure.record(begun.elapsed()), failure.is_late()))?;
    }
    if let Some(target) = &lead.exists {
        let target: PathBuf = OsStr::from_bytes(target).into();
        let shown = Escaped::path(&target).to_string();
        let there = tools.lanes.run(Lane::Mount, move || path::lstat(&target).is_ok()).await;
        if !there {
            return Err((Record::new(format!("{shown} does not exist")), false));
        }
    }
    let mut failed = (Record::new("there is nothing to mount"), false);
    for way in &lead.ways {
        let begun = Instant::now();
        match way {
            Action::Autofs(submount) => match submount::make(means, parent, at, submount).await {
                Ok(made) => return Ok(Done { submount: Some(made), ..Done::default() }),
                Err(e) => failed = (Record::new(e.to_string()), false),
            },
            action => {
                let (at, action) = (at.to_owned(), action.clone());
                let plan = Arc::new(Plan {
                    at,
                    action,
                    offsets: Vec::new(),
                    strict: false,
                    timeout: None,
                    requires: Vec::new(),
                });
                match servers::mount(means, &plan, place, lead.decides).await {
                    Ok(_) => return Ok(Done::default()),
                    Err(failure) => {
                        let is_late = failure.is_late() || matches!(failure, Failure::NoServer(_));
                        failed = (failure.record(begun.elapsed()), is_late);
                    }
                }
            }
        }
    }
    if lead.external.is_some() {
        release(tools, at, false).await;
    }
    Err(failed)
}

/// Records that an entry is unmounted. Unmounts the file system that it led to if no other entry leads there.
pub(super) async fn release(tools: &Tools, entry: &Path, lazy: bool) {
    let label = target(entry).into_owned().into();
    let user = User { entry: entry.to_owned(), who: Requester::default(), label };
    tools.externals.release(&user, (&tools.mounter, &tools.unmounter), lazy).await;
}

/// Records what an entry of an earlier worker leads to: the first of its locations that is mounted.
pub(crate) async fn adopt(tools: &Tools, plan: &Plan, is_mounted: impl Fn(&Path) -> bool) {
    let Action::Leads(leads) = &plan.action else { return };
    let mut externals = leads.iter().filter_map(|lead| lead.external.as_ref());
    if let Some(external) = externals.find(|external| is_mounted(&external.at)) {
        let label = target(&plan.at).into_owned().into();
        let user = User { entry: plan.at.clone(), who: Requester::default(), label };
        tools.externals.adopt(external, &user, &tools.mounter).await;
    }
}
