//! The engine: one value that owns all that is known of requests, entries and triggers.
//!
//! `handle(now, event, &mut effects)` is all there is: no clock, no system call, no lock. Every token that comes in
//! leaves exactly once, as READY or FAIL with an errno of the whitelist, within the deadline of the request. Effects
//! are idempotent: what a dead worker had begun is begun again by its successor.
//!
//! A successor starts with a `Want` of all top-level mounts that it has found attached, wanted or not; then come
//! `Attached` and `Adopted` from what the mount table says (parents before children), then the tokens that are still
//! owed, as `Missing` and `Expire`, then a `Want` of what the configuration names, so that the rest is taken down.

mod checkpoint;
mod effect;
mod entry;
mod event;
mod expire;
mod id;
mod leave;
mod limits;
mod mount;
mod negative;
mod paths;
mod reload;
mod request;
mod round;
#[cfg(test)]
mod stage;
mod stop;
mod timer;
mod tree;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

pub use effect::{Effect, Layer};
use entry::{Entry, Phase, Piece, Repair, Waiter};
pub use event::{Done, Event, Resolution, Shutdown};
pub use id::{EntryId, Errno, JobId, Key, Kind, MountId, Reason, Requester, Tick, Token, Wanted};
pub use limits::Limits;
use mount::{Mount, Site, Stage, State, Top};
pub use negative::Failure;
use negative::Negatives;
use paths::Paths;
use stop::Stop;
use timer::{Alarm, Timers};
pub use view::{EntryPhase, EntryView, MountState, MountView};

/// The state machine. The same events bring the same effects in the same order, so a history can be played again:
/// what is iterated over is ordered.
#[derive(Debug)]
pub struct Engine {
    limits: Limits,
    now: Tick,
    /// What the event under way has brought so far.
    effects: Vec<Effect>,
    mounts: BTreeMap<MountId, Box<Mount>>,
    /// What the top-level ones of `mounts` have besides.
    tops: BTreeMap<MountId, Box<Top>>,
    paths: Paths,
    /// The paths of those that are leaving, so that one that lies below another is found.
    leaving: BTreeSet<Arc<Path>>,
    /// New mounts that wait until another one is attached or gone.
    behind: HashMap<MountId, Vec<Wanted>>,
    /// Mounts that somebody unmounted, and when they are attached again.
    vanished: HashMap<Arc<Path>, (Option<Tick>, Wanted)>,
    jobs: BTreeMap<JobId, EntryId>,
    timers: Timers,
    negatives: Negatives,
    stop: Option<Stop>,
    /// No look for what is unused begins by itself.
    paused: bool,
    last_mount: u32,
    last_job: u64,
    /// Counts the `Want`s.
    generation: u32,
    /// The sum over all top-level mounts.
    in_flight: u32,
    /// How many top-level mounts the end of the daemon has to wait for.
    moving: u32,
}

impl Engine {
    /// One that knows of nothing.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            now: Tick(0),
            effects: Vec::new(),
            mounts: BTreeMap::new(),
            tops: BTreeMap::new(),
            paths: Paths::default(),
            leaving: BTreeSet::new(),
            behind: HashMap::new(),
            vanished: HashMap::new(),
            jobs: BTreeMap::new(),
            timers: Timers::default(),
            negatives: Negatives::new(limits.negatives),
            stop: None,
            paused: false,
            last_mount: 0,
            last_job: 0,
            generation: 0,
            in_flight: 0,
            moving: 0,
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
            Event::Want(wanted) => self.want(wanted),
            Event::Forget => self.negatives.clear(),
            Event::Prune => self.prune(),
            Event::Unmount { at } => self.unmount_quiet(&at),
            Event::Mend { at, plan } => self.mend_quiet(at, plan),
            Event::Pause(paused) => self.pause(paused),
            Event::Stop(how) => self.shut_down(how),
            Event::Restored | Event::Timer => {}
        }
        self.exit_if_done();
        std::mem::swap(&mut self.effects, effects);
    }

    /// The earliest moment at which [`Event::Timer`] is wanted; none: nothing is due, ever.
    pub fn deadline(&self) -> Option<Tick> {
        self.timers.first()
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

    /// FAIL, with the reason for the history.
    fn refuse(&mut self, mount: MountId, token: Token, error: Errno, reason: Option<Reason>) {
        self.effects.push(Effect::Reply { mount, token, error: Some(error), reason });
    }

    fn entry(&self, at: &EntryId) -> Option<&Entry> {
        self.mounts.get(&at.mount)?.entries.get(&at.key)
    }

    fn entry_mut(&mut self, at: &EntryId) -> Option<&mut Entry> {
        self.mounts.get_mut(&at.mount)?.entries.get_mut(&at.key)
    }

    /// The entry, made if there is none; none if there is no such mount.
    fn entry_or_new(&mut self, at: &EntryId) -> Option<&mut Entry> {
        let entries = &mut self.mounts.get_mut(&at.mount)?.entries;
        if !entries.contains_key(&at.key) {
            entries.insert(at.key.clone(), Entry::default());
        }
        entries.get_mut(&at.key)
    }

    /// A number for a job that begins at an entry.
    fn new_job(&mut self, at: &EntryId) -> JobId {
        self.last_job += 1;
        let job = JobId(self.last_job);
        self.jobs.insert(job, at.clone());
        job
    }
}
