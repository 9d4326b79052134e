//! Carries out plans: the mount itself, and the offset mounts and submounts that belong to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;

use super::{Means, alternatives, offsets, own_timeout, placeholder, servers, submount, unmount_nested};
use crate::daemon::mounts::Mounts;
use crate::daemon::tools::Tools;
use crate::engine::{Done, EntryId, Reason, Requester};
use crate::exec::Performed;
use crate::plan::{Action, Plan};
use crate::record::Record;

/// How long asking for the number of a new mount may take.
const LOOK_WITHIN: Duration = Duration::from_secs(1);

/// Carries out a plan if that cannot block. Returns `None` if it could block or has failed; then call [`later`], which returns the
/// error.
pub(crate) fn now(
    mounts: &Mounts,
    tools: &Tools,
    at: &EntryId,
    plan: &Plan,
    who: Requester,
) -> Option<Result<Done, Reason>> {
    let known =
        mounts.get(at.mount).filter(|known| !known.remote && plan.offsets.is_empty() && plan.requires.is_empty())?;
    let place = known.place(&at.key, who);
    let performed = mounts.with_root(at.mount, |root| {
        let performed = tools.mounter.try_now(plan, &place, root);
        let is_mount = performed == Some(Performed::Now) && matches!(plan.action, Action::Mount(_));
        Ok(performed.map(|_| if is_mount { place.unique_mount_id_now(root) } else { None }))
    });
    let mount_id = performed.ok().flatten()?;
    Some(Ok(Done { untimed: own_timeout::tell(mounts, tools, at, plan), mount_id, ..Done::default() }))
}

/// Carries out a plan.
///
/// # Errors
/// Returns why nothing was mounted.
pub(crate) async fn later(means: &Means, at: &EntryId, plan: Arc<Plan>, who: Requester) -> Result<Done, Reason> {
    means.tools.requirements.meet(&plan, means.tools.requires).await?;
    let done = make(means, at, Arc::clone(&plan), who).await?;
    Ok(Done { untimed: own_timeout::tell(&means.mounts, &means.tools, at, &plan), ..done })
}

async fn make(means: &Means, at: &EntryId, plan: Arc<Plan>, who: Requester) -> Result<Done, Reason> {
    let tools = &means.tools;
    let place = Arc::new(means.mounts.place(at, who).ok_or_else(|| Record::new("the autofs mount is gone"))?);
    let begun = Instant::now();
    if let Action::Autofs(submount) = &plan.action {
        let made = submount::make(means, at.mount, &plan.at, submount).await;
        return made
            .map(|submount| Done { submount: Some(submount), ..Done::default() })
            .map_err(|e| Record::of(&e, begun.elapsed()).into());
    }
    if let Action::Leads(leads) = &plan.action {
        let made = alternatives::make(means, at.mount, (&plan.at, &place), leads).await;
        return made.map_err(Into::into);
    }
    let mut mount_id = None;
    if !matches!(plan.action, Action::Nothing) {
        match servers::mount(means, &plan, &place, false).await {
            Ok(Performed::Now) if matches!(plan.action, Action::Mount(_)) => {
                let (server, place, path) = (offsets::server(&plan), Arc::clone(&place), place.path());
                let look = move || place.unique_mount_id();
                mount_id = tools.lanes.run_inside(&server, &path, LOOK_WITHIN, look).await.ok().flatten();
            }
            Ok(_) => {}
            Err(e) => {
                debug!(target: &place.label, "{e}");
                // Without its root mount, the offsets are still mounted, unless the entry is strict.
                if plan.strict || plan.offsets.is_empty() {
                    return Err(e.record(begun.elapsed()).into());
                }
            }
        }
    }
    if !plan.offsets.is_empty() && (who.uid, who.gid) != (0, 0) {
        tools.requesters.remember(&plan.at, who.uid, who.gid);
    }
    let placeholder = matches!(plan.action, Action::Nothing) && placeholder::make(tools, &plan, &place).await;
    let unsealed = !placeholder && matches!(plan.action, Action::Nothing) && placeholder::unseal(tools, &plan).await;
    let (made, failed) = offsets::make(means, at.mount, &plan, &plan.offsets, Duration::MAX).await;
    if placeholder || unsealed {
        placeholder::seal(tools, &plan).await;
    }
    let useless = matches!(plan.action, Action::Nothing) && made.is_empty();
    if (!failed.is_empty() && plan.strict) || useless {
        for (id, _) in made.iter().rev() {
            let _ = unmount_nested::remove(&means.mounts, tools, *id, false).await;
        }
        // If this job has mounted nothing there, an existing mount is not ours.
        let ours = placeholder || !matches!(plan.action, Action::Nothing);
        let _ = match ours {
            true => tools.unmounter.remove(&place, false, false).await.map(drop),
            false => tools.unmounter.clear(&place, false).await,
        };
        let reason =
            failed.into_iter().next().unwrap_or_else(|| Record::new("nothing of the multi-mount could be mounted"));
        return Err(reason.lasting(begun.elapsed()).into());
    }
    Ok(Done { offsets: made, mount_id, ..Done::default() })
}
