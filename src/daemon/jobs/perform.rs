//! Carries out plans: the mount itself, and the offset mounts and submounts that belong to it.

use std::sync::Arc;
use std::time::Instant;

use log::{debug, error, info};

use super::{Means, offsets, placeholder, submount, trigger};
use crate::daemon::mounts::Mounts;
use crate::daemon::tools::Tools;
use crate::engine::{Done, EntryId, Reason, Requester};
use crate::plan::{Action, Plan};
use crate::record::Record;
use crate::text::Escaped;

/// Carries out a plan if that cannot block. Returns `None` if it could block or has failed; then call [`later`], which returns the
/// error.
pub(crate) fn now(
    mounts: &Mounts,
    tools: &Tools,
    at: &EntryId,
    plan: &Plan,
    who: Requester,
) -> Option<Result<Done, Reason>> {
    let known = mounts.get(at.mount).filter(|known| !known.remote && plan.offsets.is_empty())?;
    let place = known.place(&at.key, who);
    let performed = mounts.with_root(at.mount, |root| Ok(tools.mounter.try_now(plan, &place, root)));
    performed.ok().flatten().map(|_| Ok(Done::default()))
}

/// Carries out a plan.
///
/// # Errors
/// Returns why nothing was mounted.
pub(crate) async fn later(means: &Means, at: &EntryId, plan: Arc<Plan>, who: Requester) -> Result<Done, Reason> {
    let tools = &means.tools;
    let place = Arc::new(means.mounts.place(at, who).ok_or_else(|| Record::new("the autofs mount is gone"))?);
    let shown = Escaped::path(&plan.at);
    if let Action::Autofs(submount) = &plan.action {
        let made = submount::make(means, at.mount, &plan.at, submount).await;
        return made.map(|submount| Done { submount: Some(submount), ..Done::default() }).map_err(|e| {
            error!(target: &place.label, "failed to mount {shown}: {e}");
            Record::new(e.to_string()).into()
        });
    }
    if !matches!(plan.action, Action::Nothing) {
        let begun = Instant::now();
        if let Err(e) = tools.mounter.perform(&plan, &place).await {
            debug!(target: &place.label, "{e}");
            // Without its root mount, the offsets are still mounted, unless the entry is strict.
            if plan.strict || plan.offsets.is_empty() {
                info!(target: &place.label, "failed to mount {shown}");
                return Err(e.record(begun.elapsed()).into());
            }
        }
    }
    if !plan.offsets.is_empty() && (who.uid, who.gid) != (0, 0) {
        tools.requesters.remember(&plan.at, who.uid, who.gid);
    }
    let placeholder = matches!(plan.action, Action::Nothing) && placeholder::make(tools, &plan, &place).await;
    let (made, failed) = offsets::make(means, at.mount, &plan.offsets).await;
    if placeholder {
        placeholder::seal(tools, &plan).await;
    }
    let useless = matches!(plan.action, Action::Nothing) && made.is_empty();
    if (failed && plan.strict) || useless {
        for (id, _) in made.iter().rev() {
            trigger::remove(&means.mounts, tools, *id, false).await;
        }
        // If this job has mounted nothing there, an existing mount is not ours.
        let ours = placeholder || !matches!(plan.action, Action::Nothing);
        let _ = match ours {
            true => tools.unmounter.remove(&place, false, false).await,
            false => tools.unmounter.clear(&place, false).await,
        };
        info!(target: &place.label, "failed to mount {shown}");
        return Err(Record::new(format!("{shown}: an offset of the multi-mount could not be mounted")).into());
    }
    Ok(Done { offsets: made, submount: None })
}
