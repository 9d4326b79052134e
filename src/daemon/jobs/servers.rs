//! Mounts from the servers of a plan: the nearest that serve are tried first.

use std::rc::Rc;
use std::sync::Arc;

use log::info;

use super::Means;
use crate::exec::{Failure, Performed, Place};
use crate::plan::{Action, Plan};

/// Carries out the action of a plan. If servers must be chosen, the nearest are asked and tried first, and farther
/// ones only if none of those can be mounted from. With `ask`, a server is asked whether it serves even if there is no other.
pub(super) async fn mount(
    means: &Means,
    plan: &Arc<Plan>,
    place: &Arc<Place>,
    ask: bool,
) -> Result<Performed, Failure> {
    let mounter = &means.tools.mounter;
    let Action::Mount(mounts) = &plan.action else { return mounter.perform(plan, place).await };
    if mounts.iter().all(|mount| mount.server.is_none()) {
        return mounter.perform(plan, place).await;
    }
    let context = Rc::clone(&means.state.borrow().context);
    let mut choosing = context.choosing;
    choosing.ask_single |= ask;
    let mut choice = context.sources.servers.choose(mounts, choosing).await;
    let (mut told, mut failed) = (Vec::new(), None);
    while let Some(mut round) = choice.next().await {
        told.append(&mut round.told);
        if round.mounts.is_empty() {
            continue;
        }
        let (at, action) = (plan.at.clone(), Action::Mount(round.mounts));
        let plan = Arc::new(Plan {
            at,
            action,
            offsets: Vec::new(),
            strict: plan.strict,
            timeout: None,
            requires: Vec::new(),
        });
        match mounter.perform(&plan, place).await {
            Err(e) => failed = Some(e),
            performed => return performed,
        }
    }
    Err(failed.unwrap_or_else(|| {
        info!(target: &place.label, "mount(nfs): no hosts available");
        Failure::NoServer(told.join("; "))
    }))
}
