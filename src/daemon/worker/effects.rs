//! Carries out the effects of the engine: each begins a job, whose outcome becomes an event.

use std::collections::HashSet;
use std::path::Path;
use std::rc::Rc;

use log::info;

use super::{Next, Together, Worker};
use crate::daemon::attach::{appearance, top};
use crate::daemon::jobs::{browse, check, detach, expire, fuse, mount, resolve, unmount};
use crate::daemon::mailbox::Report;
use crate::engine::{Effect, EntryPhase, EntryView, Event, Kind, MountId, Requester, Resolution};
use crate::fault;
use crate::task::spawn_local;
use crate::text::Escaped;

impl Worker {
    /// Begins the jobs of one kind that are carried out together.
    pub(super) fn begin_together(self: &Rc<Self>, Together { attach, detach, check }: Together) {
        if !attach.is_empty() {
            let (worker, making) = (Rc::clone(self), self.mounts.begin_attaching());
            spawn_local(async move {
                let with = worker.attach();
                let blocked = top::attach(&with, attach).await;
                worker.made(making);
                top::retry_until_attached(with, blocked).await;
            });
        }
        if !detach.is_empty() {
            detach.iter().for_each(|(id, _)| self.mounts.begin_leaving(*id));
            let worker = Rc::clone(self);
            spawn_local(async move {
                let outcomes = detach::detach(&worker.mounts, &worker.tools(), detach, worker.is_stopping()).await;
                top::release_unused(&worker.means());
                outcomes.into_iter().for_each(|(mount, outcome)| worker.event(Event::Detached { mount, outcome }));
            });
        }
        if !check.is_empty() {
            let worker = Rc::clone(self);
            spawn_local(async move {
                let outcomes = check::check(&worker.mounts, &worker.tools(), check).await;
                outcomes.into_iter().for_each(|(job, mounted)| worker.event(Event::Checked { job, mounted }));
            });
        }
    }

    /// Carries out one effect, or begins the job that does; returns the event if the outcome is known at once.
    pub(super) fn carry_out(self: &Rc<Self>, together: &mut Together, effect: Effect) -> Option<Event> {
        let worker = Rc::clone(self);
        match effect {
            Effect::Reply { mount, token, error, reason } => {
                self.requests.answer(&self.mounts, &self.tools.borrow(), mount, token, error);
                self.history.answered(&self.mounts, token, (error, reason), |pid| self.requests.name_of(pid));
            }
            Effect::Resolve { job, at, who } => {
                self.history.resolving(&at);
                let entry = at.clone();
                let question = self.mounts.get(at.mount).map(|mount| self.state.borrow().question(&mount, at.key, who));
                let Some(question) = question else {
                    self.history.resolved(&entry, None, &Resolution::NotFound);
                    return Some(Event::Resolved { job, outcome: Resolution::NotFound });
                };
                info!(target: &question.target(), "attempting to mount entry {}", Escaped::path(&question.at));
                if let Some(outcome) = self.limit(&question).or_else(|| resolve::now(&question)) {
                    self.log_failed(&question.at, &outcome, who);
                    self.history.resolved(&entry, question.line.take(), &outcome);
                    return Some(Event::Resolved { job, outcome });
                }
                spawn_local(async move {
                    let (at, line) = (question.at.clone(), question.line.clone());
                    let outcome = resolve::later(question).await;
                    worker.log_failed(&at, &outcome, who);
                    worker.history.resolved(&entry, line.take(), &outcome);
                    worker.event(Event::Resolved { job, outcome });
                });
            }
            Effect::Perform { job, at, plan, who } => {
                fault::point("resolved");
                self.history.performing(&at, &plan);
                if let Some(outcome) = mount::now(&self.mounts, &self.tools.borrow(), &at, &plan, who) {
                    self.history.performed(&at, outcome.is_ok());
                    self.mounts.watch.mounted();
                    return Some(Event::Performed { job, outcome });
                }
                let making = self.mounts.begin_making();
                spawn_local(async move {
                    let path = plan.at.clone();
                    let may_be_served_here = fuse::may_be_served_here(&plan);
                    let outcome = mount::later(&worker.means(), &at, plan, who).await;
                    if let Err(reason) = &outcome {
                        let name = worker.requests.name_of(who.tgid);
                        let line = worker.history.line(&at);
                        worker.failures.log(&path, reason, who, &name, line.as_ref());
                    }
                    worker.history.performed(&at, outcome.is_ok());
                    worker.mounts.watch.mounted();
                    if outcome.is_ok() && may_be_served_here {
                        worker.served_in_user_space.notify_one();
                    }
                    worker.event(Event::Performed { job, outcome });
                    worker.made(making);
                });
            }
            Effect::Check { job, at } => together.check.push((job, at)),
            Effect::Unmount { job, at, layers, lazy } => drop(spawn_local(async move {
                let at_exit = worker.life.is_stopping();
                let (gone, error) =
                    unmount::unmount(&worker.mounts, &worker.tools(), &at, &layers, lazy, at_exit).await;
                worker.event(Event::Unmounted { job, gone, error });
                if gone > 0 || layers.is_empty() {
                    worker.emptied(at.mount);
                }
            })),
            Effect::ExpireRun { mount, immediate } => drop(spawn_local(async move {
                worker.expire(mount, immediate).await;
                worker.event(Event::ExpireRan { mount });
            })),
            Effect::Attach { mount, wanted } => together.attach.push((mount, wanted)),
            Effect::Update { mount, wanted } => {
                let map = self.state.borrow().maps.by_number.get(&wanted.map).map(Rc::clone);
                let shows_keys = || self.mounts.get(mount).is_some_and(|mount| mount.map.browse());
                let showed_keys = shows_keys();
                let changed = map.map(|map| top::update(&self.mounts, &self.tools.borrow(), mount, map, &wanted));
                if changed == Some(true) {
                    spawn_local(appearance::set(self.means(), mount, true));
                }
                if showed_keys && !shows_keys() {
                    spawn_local(async move { worker.hide_keys(mount).await });
                }
            }
            Effect::Detach { mount, lazy } => together.detach.push((mount, lazy)),
            Effect::Exit { how, left } => self.life.end(how, left),
        }
        None
    }

    /// Runs an expire run on a mount.
    pub(crate) async fn expire(&self, mount: MountId, immediate: bool) {
        if let Some(mount) = self.mounts.get(mount) {
            expire::run(&mount, &self.tools(), immediate).await;
        }
    }

    /// Looks after a mount below which something was unmounted: if a restore has lost options of it, it is renewed.
    fn emptied(&self, mount: MountId) {
        if self.mounts.get(mount).is_some_and(|mount| mount.lacks_options) {
            self.then(Next::Renew(mount));
        }
    }

    /// Has something done by the modules above.
    pub(super) fn then(&self, next: Next) {
        // The receiver lives as long as the worker.
        let _ = self.next.send(next);
    }

    /// Brings the directories of keys below a mount up to date, where they are shown.
    pub(crate) async fn browse(&self, mount: MountId) {
        if let Some(known) = self.mounts.get(mount) {
            if let Some(extra) = browse::fill(&known, &self.tools()).await {
                self.remove_extra(mount, extra);
            }
        }
    }

    /// Logs why the lookup of an entry has failed, with the process that has asked.
    fn log_failed(&self, at: &Path, outcome: &Resolution, who: Requester) {
        if let Some(reason) = resolve::log_unless_found(at, outcome) {
            // The message names the line of the map.
            self.failures.log(at, reason, who, &self.requests.name_of(who.tgid), None);
        }
    }

    /// Removes the directories of keys below a mount after browsing was turned off.
    async fn hide_keys(&self, mount: MountId) {
        let Some(known) = self.mounts.get(mount).filter(|known| known.kind == Kind::Indirect) else { return };
        if let Some(shown) = browse::shown(&known, &self.tools()).await {
            self.remove_extra(mount, shown);
        }
    }

    /// Removes the directories of a mount that are no keys, unless a mount is on its way there. On this thread none can
    /// begin meanwhile, and the kernel removes no mount point.
    pub(super) fn remove_extra(&self, mount: MountId, extra: browse::Extra) {
        let engine = self.engine.borrow();
        let Some(view) = engine.mount(mount) else { return };
        let moves = |e: &EntryView<'_>| !matches!(e.phase, EntryPhase::Mounted | EntryPhase::Failed(..));
        let busy: HashSet<&[u8]> = view.entries().filter(moves).map(|entry| &*entry.key.0).collect();
        extra.remove(|name| busy.contains(name));
    }

    /// Does what a job reports before it ends.
    pub(super) fn report(self: &Rc<Self>, report: Report) {
        match report {
            Report::Event(event) => self.event(event),
            Report::Adopted(mount) => {
                self.mounts.adopted(mount);
                self.serve_parked();
            }
            Report::Made(making) => self.made(making),
            Report::Extra(mount, extra) => self.remove_extra(mount, extra),
        }
    }
}
