//! The engine: the state machine that owns the state of all requests, entries and triggers.
//!
//! Its main function is `handle(now, event, &mut effects)`. It uses no clock, system calls or locks. Every token is answered
//! exactly once, by READY or by FAIL with an errno of the whitelist, within the deadline of the request. Effects are idempotent:
//! the operations of a dead worker are begun again by its successor.
//!
//! An entry goes through these phases; at most one job runs on it.
//!
//! ```text
//!            lookup                plan                 done
//!   idle ────────────▶ resolving ────────▶ mounting ────────▶ mounted ◀──────────┐
//!    ▲ ▲                   │                  │               │  │ ▲             │
//!    │ └───────────────────┴──────────────────┘        lookup │  │ │ is mounted  │ all triggers
//!    │        no such key, or failed                          ▼  │ │             │ are mounted
//!    ├──────────────────────────────────────────────────── checking            │
//!    │                 is not mounted any more                   │               │
//!    │                                               expire, end │               │
//!    │                  all layers gone                          ▼   in use      │
//!    └───────────────────────────────────────────────────── unmounting ────▶ remounting
//! ```
//!
//! Offset triggers begin with mounting, as their plan is known. A job that takes too long is disowned: its lookups fail
//! with ETIMEDOUT and the entry stays in its phase, so that nothing else begins there, until the result comes.
//!
//! A new worker begins with a `Configure` of all top-level mounts that it has found attached, whether they are configured or not.
//! Then follow `Attached` and `Adopted` events from the mount table (parents before children), the unanswered requests as
//! `Missing` and `Expire`, and finally a `Configure` of the configured mounts, which removes all others.

mod absent;
mod block;
mod checkpoint;
mod effect;
mod event;
mod expire;
mod expire_run;
mod id;
mod leave;
mod limits;
mod negative;
mod own_timeout;
mod reload;
mod request;
mod requires;
mod stop;
#[cfg(test)]
mod testing;
mod timer;
mod transition;
mod tree;
mod trigger;
mod view;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use absent::Absent;
pub use absent::AbsentView;
pub use block::BlockView;
use block::Blocked;
pub use effect::{Effect, Layer};
pub use event::{Done, Event, Resolution, Shutdown};
use hashbrown::HashMap;
pub use id::{EntryId, Errno, JobId, Key, Kind, MountId, MountIds, Reason, Requester, Tick, Token, Wanted};
pub use limits::Limits;
pub use negative::Failure;
use negative::NegativeCache;
use stop::Stop;
use timer::{Alarm, Timers};
pub use transition::Transition;
use tree::{Askers, Entry, LeaveStage, Mount, Phase, Piece, Remount, State, Top, Tree, Waiter};
pub use view::{EntryPhase, EntryView, MountState, MountView};

use crate::plan::Plan;

/// The state machine. The same events bring the same effects in the same order, so a history can be played again:
/// what is iterated over is ordered.
#[derive(Debug)]
pub struct Engine {
    limits: Limits,
    now: Tick,
    /// Effects of the current event so far.
    effects: Vec<Effect>,
    tree: Tree,
    /// New mounts that wait until another one is attached or gone.
    behind: HashMap<MountId, Vec<Wanted>>,
    /// Top-level mounts that are wanted and not there.
    absent: BTreeMap<Arc<Path>, Absent>,
    jobs: BTreeMap<JobId, EntryId>,
    timers: Timers,
    negative_cache: NegativeCache,
    /// Paths for which new lookups fail.
    blocked: BTreeMap<Arc<Path>, Blocked>,
    /// When the log has last named a process that keeps asking for what is mounted.
    asker_logged: Option<Tick>,
    stop: Option<Stop>,
    /// Mounted entries that require paths, with their plans.
    dependents: BTreeMap<EntryId, Arc<Plan>>,
    /// No look for what is unused begins by itself.
    paused: bool,
    ids: MountIds,
    last_job: u64,
    /// Counts the `Configure`s.
    generation: u32,
}

impl Engine {
    /// Creates an engine without mounts.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            now: Tick(0),
            effects: Vec::new(),
            tree: Tree::default(),
            behind: HashMap::new(),
            absent: BTreeMap::new(),
            jobs: BTreeMap::new(),
            timers: Timers::default(),
            negative_cache: NegativeCache::new(limits.negative_cache),
            blocked: BTreeMap::new(),
            asker_logged: None,
            stop: None,
            dependents: BTreeMap::new(),
            paused: false,
            ids: MountIds::top(),
            last_job: 0,
            generation: 0,
        }
    }

    /// Takes an event in and appends what is to be done, in order.
    pub fn handle(&mut self, now: Tick, event: Event, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        std::mem::swap(&mut self.effects, effects);
        if matches!(event, Event::Restored) {
            // Before an alarm can answer one of them.
            self.forget_tokens();
        }
        while let Some(alarm) = self.timers.pop(self.now) {
            self.ring(alarm);
        }
        match event {
            Event::Missing { at, token, .. } if self.exited() => self.reply(at.mount, token, Some(Errno::ENOENT)),
            Event::Expire { at, token } if self.exited() => self.reply(at.mount, token, Some(Errno::EBUSY)),
            _ if self.exited() => {}
            Event::Missing { at, token, who, waited } => self.missing(at, token, who, waited),
            Event::Expire { at, token } => self.expire(at, token),
            Event::Resolved { job, outcome } => self.resolved(job, outcome),
            Event::Performed { job, outcome } => self.performed(job, outcome),
            Event::Checked { job, mounted } => self.checked(job, mounted),
            Event::Unmounted { job, gone, error } => self.unmounted(job, gone, error),
            Event::ExpireRan { mount } => self.expire_ran(mount),
            Event::Attached { mount, outcome } => self.attached(mount, outcome),
            Event::Adopted { at, plan, done } => self.adopted(at, plan, done),
            Event::Detached { mount, outcome } => self.detached(mount, outcome),
            Event::Vanished { mount } => self.vanish(mount),
            Event::Retry => self.retry_absent(),
            Event::Configure(wanted) => self.configure(wanted),
            Event::Change { wanted, unwanted } => self.change(wanted, &unwanted),
            Event::Forget | Event::ForgetMount { .. } | Event::ForgetEntry { .. } => self.forget(&event),
            Event::Block { path, until, reason } => self.block(path, until, reason),
            Event::Unblock { path } => self.unblock(&path),
            Event::Prune => self.prune(),
            Event::Unmount { at } => self.unmount_quiet(&at),
            Event::RemountTriggers { at, plan } => self.remount_triggers(at, plan),
            Event::Pause(paused) => self.pause(paused),
            Event::Stop(how) => self.shut_down(how),
            Event::Restored | Event::Timer => {}
        }
        self.exit_if_done();
        std::mem::swap(&mut self.effects, effects);
    }

    /// The earliest moment at which [`Event::Timer`] is wanted. `None`: no timer is needed.
    pub fn deadline(&self) -> Option<Tick> {
        self.timers.first()
    }

    /// Notes transitions of entries from one phase to another from now on, or ceases to. They are noted for the debug log;
    /// while they are not, they cost nothing.
    pub fn trace(&mut self, on: bool) {
        self.tree.set_trace(on);
    }

    /// Takes the transitions since the last call.
    pub fn take_transitions(&mut self) -> Vec<Transition> {
        self.tree.take_transitions()
    }

    fn ring(&mut self, alarm: Alarm) {
        match alarm {
            Alarm::Entry(at) => self.late(&at),
            Alarm::Tick(top) => self.tick(top),
            Alarm::Reattach(path) => self.reattach(&path),
            Alarm::Grace => self.grace_is_over(),
        }
    }

    fn reply(&mut self, mount: MountId, token: Token, error: Option<Errno>) {
        self.effects.push(Effect::Reply { mount, token, error, reason: None });
    }

    /// Answers FAIL; `reason` goes to the history.
    fn refuse(&mut self, mount: MountId, token: Token, error: Errno, reason: Option<Reason>) {
        self.effects.push(Effect::Reply { mount, token, error: Some(error), reason });
    }

    /// Changes an entry. Returns what `change` returns, `None` without such an entry. When a transition is complete,
    /// [`settle`](Self::settle) is to follow.
    fn update<T>(&mut self, at: &EntryId, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.tree.update(&mut self.timers, at, change)
    }

    /// Concludes a transition of an entry: forgets an entry that is idle, and continues operations of its top-level mount that
    /// have waited for it.
    fn settle(&mut self, at: &EntryId) {
        let Some(mount) = self.tree.mount(at.mount).filter(|mount| mount.entry(&at.key).is_some()) else { return };
        let (id, occupied) = (mount.top, mount.is_occupied());
        let Some(top) = self.tree.top(id) else { return };
        let ticks = matches!(top.state(), State::Attaching { .. } | State::Serving);
        let resets_tick = id == at.mount && ticks && top.alarm.is_some() != occupied;
        let leaves = top.state() == State::Leaving(LeaveStage::Emptying);
        self.tree.forget_if_idle(at);
        if resets_tick {
            self.reset_tick(id);
        }
        if leaves {
            self.continue_leaving(id, Some(at));
        }
    }

    /// Notes that the file system of an entry is gone.
    fn clear(&mut self, at: &EntryId) {
        self.update(at, |entry| {
            entry.phase = Phase::Idle;
            entry.plan = None;
        });
        self.settle(at);
    }

    /// Removes a top-level mount with all below it.
    fn remove_top(&mut self, id: MountId) -> Option<Top> {
        let (top, dropped) = self.tree.remove_top(&mut self.timers, id)?;
        self.abort(dropped);
        Some(top)
    }

    /// Returns the id for a new top-level mount.
    fn new_mount(&mut self) -> MountId {
        let tree = &self.tree;
        self.ids.allocate(|id| tree.mount(id).is_some())
    }

    /// A number for a job that begins at an entry.
    fn new_job(&mut self, at: &EntryId) -> JobId {
        self.last_job += 1;
        let job = JobId(self.last_job);
        self.jobs.insert(job, at.clone());
        job
    }
}
