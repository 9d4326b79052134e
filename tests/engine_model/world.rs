//! The model of the shell, and the steps of a history.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use autofs::engine::{
    Done, Effect, Engine, EntryId, EntryPhase, Event, JobId, Key, Kind, Layer, Limits, MountId, MountState, Reason,
    Requester, Resolution, Shutdown, Tick, Token, Wanted,
};
use autofs::plan::{Action, Plan};
use autofs::record::Record;

use crate::Op;
use crate::kernel::{Kernel, Place};
use crate::maps::{KEYS, configuration, plan_of};

/// A process waits.
#[derive(Debug)]
struct Owed {
    missing: bool,
    at: Place,
    who: Requester,
    since: Tick,
}

/// The shell asks the kernel for what is unused.
#[derive(Debug)]
struct Run {
    mount: MountId,
    /// The kernel waits for the answer to what it has found.
    token: Option<Token>,
    tried: BTreeSet<Key>,
}

pub(crate) struct World {
    engine: Engine,
    limits: Limits,
    now: Tick,
    kernel: Kernel,
    wanted: Vec<Wanted>,
    owed: BTreeMap<Token, Owed>,
    /// What the engine calls the top-level mounts.
    tops: BTreeMap<MountId, u32>,
    /// What the shell was asked for and has not done.
    work: Vec<Effect>,
    runs: Vec<Run>,
    /// Mounts that were unmounted by hand and that the shell has not noticed yet.
    unnoticed: Vec<MountId>,
    last_job: Option<JobId>,
    last_token: u32,
    stopping: bool,
    exited: bool,
}

impl World {
    pub(crate) fn new() -> Self {
        let limits = Limits { request: 10_000, unmount: 12_000, loop_limit: 3, negative_cache: 8, ..Limits::default() };
        let mut world = Self {
            engine: Engine::new(limits),
            limits,
            now: Tick(1),
            kernel: Kernel::default(),
            wanted: configuration(0b1100),
            owed: BTreeMap::new(),
            tops: BTreeMap::new(),
            work: Vec::new(),
            runs: Vec::new(),
            unnoticed: Vec::new(),
            last_job: None,
            last_token: 0,
            stopping: false,
            exited: false,
        };
        world.start();
        world
    }

    /// Starts a worker, which takes over existing mounts and unanswered requests.
    fn start(&mut self) {
        self.engine = Engine::new(self.limits);
        (self.stopping, self.exited, self.last_job) = (false, false, None);
        self.work.clear();
        self.runs.clear();
        self.unnoticed.clear();
        // Trees that the dead worker had unmounted partially stay like that.
        self.kernel.mounted.values_mut().for_each(|fs| fs.whole = false);
        self.tops.clear();
        self.take_over();
        for (number, key) in self.places() {
            let Some(mount) = self.id(number) else { continue };
            let place = (number, key.clone());
            let (plan, done) = (self.kernel.mounted[&place].plan.clone(), self.kernel.done(&place));
            self.event(Event::Adopted { at: EntryId { mount, key }, plan: Some(plan), done });
        }
        // No process waits for a token of a mount that is gone.
        self.owed.retain(|_, owed| self.kernel.autofs.contains_key(&owed.at.0));
        for token in self.owed.keys().copied().collect::<Vec<_>>() {
            // Only a lookup keeps its deadline: the new worker begins an unmount anew.
            if let Some(owed) = self.owed.get_mut(&token).filter(|owed| !owed.missing) {
                owed.since = self.now;
            }
            self.packet(token);
        }
        self.event(Event::Configure(self.wanted.clone()));
    }

    fn take_over(&mut self) {
        let tops = self.kernel.autofs.iter().filter(|(_, autofs)| autofs.owner.is_none());
        let tops: Vec<_> = tops.map(|(number, autofs)| (*number, autofs.wanted.clone())).collect();
        self.event(Event::Configure(tops.iter().map(|(_, wanted)| wanted.clone()).collect()));
        while let Some(Effect::Attach { mount, wanted }) = self.work.pop() {
            let (number, _) = tops.iter().find(|(_, top)| top.path == wanted.path).unwrap();
            self.tops.insert(mount, *number);
            self.event(Event::Attached { mount, outcome: Ok(()) });
        }
    }

    /// All mounted entries, parents first.
    fn places(&self) -> Vec<Place> {
        let mut places: Vec<_> = self.kernel.mounted.keys().cloned().collect();
        places.sort_by_key(|at| self.kernel.depth(at.0));
        places
    }

    /// What the engine calls an autofs mount.
    fn id(&self, number: u32) -> Option<MountId> {
        match self.kernel.autofs.get(&number)?.owner {
            Some(_) => Some(MountId(number)),
            None => self.tops.iter().find(|(_, top)| **top == number).map(|(id, _)| *id),
        }
    }

    fn number(&self, id: MountId) -> Option<u32> {
        let number = if id.is_top() { *self.tops.get(&id)? } else { id.0 };
        self.kernel.autofs.contains_key(&number).then_some(number)
    }

    fn event(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.engine.handle(self.now, event, &mut effects);
        for effect in effects {
            self.effect(effect);
        }
    }

    fn effect(&mut self, effect: Effect) {
        assert!(!self.exited || matches!(effect, Effect::Reply { .. }), "after Exit: {effect:?}");
        match &effect {
            Effect::Reply { mount, token, error, .. } => {
                let owed = self.owed.remove(token).unwrap_or_else(|| panic!("nobody waits: {effect:?}"));
                let (number, key) = &owed.at;
                if self.kernel.autofs.contains_key(number) {
                    assert_eq!(self.number(*mount), Some(*number), "answered on another mount: {key:?}");
                    let mounted = self.kernel.mounted.contains_key(&owed.at);
                    assert!(error.is_some() || owed.missing == mounted, "READY is not true: {owed:?}");
                }
                for run in self.runs.iter_mut().filter(|run| run.token == Some(*token)) {
                    run.token = None;
                }
            }
            Effect::Resolve { job, at, .. }
            | Effect::Perform { job, at, .. }
            | Effect::Check { job, at }
            | Effect::Unmount { job, at, .. } => {
                assert!(self.last_job < Some(*job), "a job's number is used again");
                self.last_job = Some(*job);
                // A lookup mounts nothing, so the end does not wait for its result.
                let given_up = |other: &Effect| self.stopping && matches!(other, Effect::Resolve { .. });
                for other in self.work.iter().filter(|other| !given_up(other)) {
                    assert!(!overlap(&effect, other), "at once: {effect:?} and {other:?}");
                }
                if let (Effect::Resolve { .. }, Some(number)) = (&effect, self.number(at.mount)) {
                    assert!(self.kernel.autofs[&number].plan.is_none(), "an offset's plan is known: {at:?}");
                }
                self.work.push(effect);
            }
            Effect::ExpireRun { mount, .. } => {
                assert!(!self.runs.iter().any(|run| run.mount == *mount), "two runs at once");
                self.runs.push(Run { mount: *mount, token: None, tried: BTreeSet::new() });
            }
            Effect::Attach { .. } | Effect::Detach { .. } => self.work.push(effect),
            Effect::Update { mount, wanted } => {
                if let Some(number) = self.number(*mount) {
                    self.kernel.autofs.get_mut(&number).unwrap().wanted = wanted.clone();
                }
            }
            Effect::Exit { how, left } => {
                assert!(self.owed.is_empty(), "left waiting: {:?}", self.owed);
                for (id, number) in &self.tops {
                    let forgotten = self.kernel.autofs.contains_key(number) && !left.contains(id);
                    assert!(!forgotten, "{how:?} forgot {number}");
                }
                self.exited = true;
            }
        }
    }

    pub(crate) fn step(&mut self, op: Op) {
        match op {
            Op::Access { mount, key, tgid } => {
                if let Some(at) = self.pick(mount, key) {
                    self.ask(at, true, tgid);
                }
            }
            Op::Insist { mount, key } => self.insist(mount, key),
            Op::Expire { mount, key } => {
                // The kernel expires an entry only once at a time, and not while a process waits for it.
                if let Some(at) = self.pick(mount, key).filter(|at| !self.owed.values().any(|owed| owed.at == *at)) {
                    self.ask(at, false, 0);
                }
            }
            Op::Work { which, fails } => self.work(which, fails),
            Op::Pass { ms } => self.pass(u64::from(ms)),
            Op::Use { which } => {
                let count = self.kernel.mounted.len().max(1);
                if let Some(fs) = self.kernel.mounted.values_mut().nth(usize::from(which) % count) {
                    fs.used = !fs.used;
                }
            }
            Op::ByHand { which, lazy } => self.by_hand(which, lazy),
            Op::Reload { mask } => {
                self.wanted = configuration(mask);
                self.event(Event::Configure(self.wanted.clone()));
            }
            Op::Forget => self.event(Event::Forget),
            Op::Prune => self.event(Event::Prune),
            Op::Crash => self.start(),
            Op::Restore => {
                self.owed.clear();
                self.runs.iter_mut().for_each(|run| run.token = None);
                // A token that was answered before may come again, and does.
                self.last_token = 0;
                self.event(Event::Restored);
            }
            Op::Pause(paused) => self.event(Event::Pause(paused)),
            Op::Unmount { mount, key } => {
                let at = self.pick(mount, key).and_then(|(number, key)| Some((self.id(number)?, key)));
                if let Some((mount, key)) = at {
                    self.event(Event::Unmount { at: EntryId { mount, key } });
                }
            }
            Op::RemountTriggers { mount, key } => {
                let at = self.pick(mount, key).and_then(|at| Some((self.id(at.0)?, at)));
                if let Some((mount, at)) = at {
                    let whole = (*self.kernel.whole(&at)).clone();
                    let plan = Arc::new(Plan { action: Action::Nothing, ..whole });
                    self.event(Event::RemountTriggers { at: EntryId { mount, key: at.1 }, plan });
                }
            }
            Op::Stop(how) => {
                self.stopping = true;
                self.event(Event::Stop(how));
            }
        }
        if self.exited {
            self.start();
        }
        self.in_time();
        self.sleeps_when_idle();
        self.trees_are_whole();
    }

    fn in_time(&self) {
        for (token, owed) in &self.owed {
            let limit = if owed.missing { self.limits.request } else { self.limits.unmount };
            assert!(self.now < owed.since.after(limit), "{token:?} waits too long: {owed:?}");
        }
    }

    fn sleeps_when_idle(&self) {
        let idle = |mount: autofs::engine::MountView<'_>| {
            let failed = |entry: autofs::engine::EntryView<'_>| matches!(entry.phase, EntryPhase::Failed(..));
            mount.state() == MountState::Serving && mount.entries().all(failed)
        };
        let is = |state| move |mount: autofs::engine::MountView<'_>| mount.state() == state;
        assert_eq!(self.engine.all_serve(), self.engine.mounts().all(is(MountState::Serving)));
        assert_eq!(self.engine.has_pending(), self.engine.mounts().any(is(MountState::Pending)));
        let all = self.tops.values().filter(|number| self.kernel.autofs.contains_key(*number)).count();
        let quiet = self.work.is_empty() && self.runs.is_empty() && self.engine.mounts().all(idle);
        if quiet && all == self.wanted.len() && self.engine.absent().next().is_none() && !self.stopping {
            assert_eq!(self.engine.deadline(), None, "something wakes an idle daemon");
        }
    }

    fn pick(&self, mount: u8, key: u8) -> Option<Place> {
        let (number, autofs) = self.kernel.autofs.iter().nth(usize::from(mount) % self.kernel.autofs.len().max(1))?;
        let key = match autofs.wanted.kind {
            Kind::Indirect => KEYS[usize::from(key) % KEYS.len()].as_bytes().into(),
            _ => Key::default(),
        };
        Some((*number, key))
    }

    /// The kernel sends a packet.
    fn ask(&mut self, at: Place, missing: bool, tgid: u8) {
        self.last_token += 1;
        let Some(token) = NonZeroU32::new(self.last_token).map(Token) else { return };
        let who = Requester { tgid: u32::from(tgid), ..Requester::default() };
        if self.id(at.0).is_some() {
            self.owed.insert(token, Owed { missing, at, who, since: self.now });
            self.packet(token);
        }
    }

    fn packet(&mut self, token: Token) {
        let Some(Owed { missing, at: (number, key), who, since }) = self.owed.get(&token) else { return };
        let Some(mount) = self.id(*number) else { return };
        let (at, who, waited) = (EntryId { mount, key: key.clone() }, *who, self.now.since(*since));
        self.event(match missing {
            true => Event::Missing { at, token, who, waited },
            false => Event::Expire { at, token },
        });
    }

    /// One process asks again and again for the same, as the kernel does when READY brought it nothing.
    fn insist(&mut self, mount: u8, key: u8) {
        let Some(at) = self.pick(mount, key) else { return };
        for _ in 0..self.limits.loop_limit + 3 {
            if !self.kernel.autofs.contains_key(&at.0) {
                return;
            }
            self.ask(at.clone(), true, 9);
            for _ in 0..3 {
                self.work(u8::MAX, false);
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        self.notice();
        let end = self.now.after(ms);
        for turn in 0.. {
            let Some(tick) = self.engine.deadline().filter(|tick| *tick <= end) else { break };
            self.now = self.now.max(tick);
            self.event(Event::Timer);
            assert!(turn < 10_000, "it ticks and ticks");
            if self.exited {
                break;
            }
        }
        self.now = end;
    }

    /// Does something of what is to be done (255: what came last). What waits for the kernel waits.
    fn work(&mut self, which: u8, fails: bool) {
        if self.exited {
            return;
        }
        let idle: Vec<_> = (0..self.runs.len()).filter(|run| self.runs[*run].token.is_none()).collect();
        let count = self.work.len() + idle.len();
        if count == 0 {
            return;
        }
        let which = if which == u8::MAX { self.work.len().max(1) - 1 } else { usize::from(which) % count };
        if which >= self.work.len() {
            return self.expire_one(idle[which - self.work.len()]);
        }
        let event = match self.work.remove(which) {
            Effect::Resolve { job, at, .. } => Event::Resolved { job, outcome: self.resolve(at, fails) },
            Effect::Perform { job, at, plan, .. } => Event::Performed { job, outcome: self.perform(at, &plan, fails) },
            Effect::Check { job, at } => {
                let at = self.number(at.mount).map(|number| (number, at.key));
                Event::Checked { job, mounted: at.is_some_and(|at| self.kernel.mounted.contains_key(&at)) }
            }
            Effect::Unmount { job, layers, lazy, .. } => {
                // A failure comes halfway.
                let most = if fails && !lazy { layers.len() / 2 } else { layers.len() };
                let gone = layers.iter().take(most).take_while(|layer| self.unmount(layer, lazy)).count();
                Event::Unmounted { job, gone, error: (gone < layers.len()).then(reason) }
            }
            Effect::Attach { mount, wanted } => {
                let taken = self.kernel.autofs.values().any(|autofs| autofs.wanted.path == wanted.path);
                assert!(!taken, "attached twice: {wanted:?}");
                if !fails {
                    self.tops.insert(mount, self.kernel.add(wanted, None, None));
                }
                Event::Attached { mount, outcome: if fails { Err(reason()) } else { Ok(()) } }
            }
            Effect::Detach { mount, lazy } => {
                let number = self.number(mount);
                let gone = number.is_none_or(|number| (lazy || !fails) && self.unmount_autofs(number, lazy));
                Event::Detached { mount, outcome: if gone { Ok(()) } else { Err(reason()) } }
            }
            other => unreachable!("{other:?}"),
        };
        self.event(event);
    }

    fn resolve(&self, at: EntryId, fails: bool) -> Resolution {
        match (fails, self.number(at.mount)) {
            (false, Some(number)) => {
                let path = self.kernel.path(&(number, at.key.clone()));
                Resolution::Found(plan_of(&path, &at.key))
            }
            _ => match self.last_token % 4 {
                0 => Resolution::NotFound,
                1 => Resolution::Invalid(reason()),
                2 => Resolution::Unavailable(reason()),
                _ => Resolution::Limited(reason()),
            },
        }
    }

    fn perform(&mut self, at: EntryId, plan: &Arc<Plan>, fails: bool) -> Result<Done, Reason> {
        let at = (self.number(at.mount).ok_or_else(reason)?, at.key);
        // After a failure, nothing of the attempt is left, and earlier mounts remain.
        match self.kernel.mounted.get_mut(&at) {
            None if fails => return Err(reason()),
            Some(fs) if fails => fs.whole = false,
            _ => self.kernel.mount(&at, plan),
        }
        // The kernel keeps the timeouts of some entries only.
        let untimed = plan.timeout.is_some() && *at.1.0 != *b"b";
        Ok(Done { untimed, ..self.kernel.done(&at) })
    }

    fn unmount(&mut self, layer: &Layer, lazy: bool) -> bool {
        match layer {
            Layer::Trigger(id, _) => self.number(*id).is_none_or(|number| self.unmount_autofs(number, lazy)),
            Layer::FileSystem { at, path } => self.number(at.mount).is_none_or(|number| {
                let at = (number, at.key.clone());
                assert_eq!(self.kernel.path(&at), *path);
                self.kernel.unmount(&at, lazy)
            }),
        }
    }

    /// An autofs mount is held by who waits there and by who is looking for what is unused there.
    fn unmount_autofs(&mut self, number: u32, lazy: bool) -> bool {
        let expiring = self.runs.iter().any(|run| self.number(run.mount) == Some(number));
        let held = expiring || self.owed.values().any(|owed| owed.at.0 == number);
        self.kernel.unmount_autofs(number, lazy, held)
    }

    /// The kernel finds something unused, or nothing more.
    fn expire_one(&mut self, run: usize) {
        let Run { mount, tried, .. } = &self.runs[run];
        let mount = *mount;
        let unused = |at: &&Place| {
            let children = self.kernel.children(at);
            let submount = children.iter().any(|child| self.kernel.autofs[child].wanted.kind == Kind::Indirect);
            let waits = |at: &Place| {
                let children = self.kernel.children(at);
                self.owed.values().any(|owed| owed.at == *at || children.contains(&owed.at.0))
            };
            let used = |at: &Place| self.kernel.mounted[at].used || waits(at);
            !submount && !tried.contains(&at.1) && !self.kernel.tree(at).iter().any(used)
        };
        let number = self.number(mount);
        match number.and_then(|number| self.kernel.entries(number).filter(unused).last().cloned()) {
            Some(at) => {
                self.runs[run].tried.insert(at.1.clone());
                self.runs[run].token = NonZeroU32::new(self.last_token + 1).map(Token);
                self.ask(at, false, 0);
            }
            None => {
                self.runs.remove(run);
                self.event(Event::ExpireRan { mount });
            }
        }
    }

    /// Unmounts one mount, or a tree lazily, by hand. The engine is not told about file systems.
    fn by_hand(&mut self, which: u8, lazy: bool) {
        let entries = self.kernel.mounted.len();
        let which = usize::from(which) % (entries + self.kernel.autofs.len()).max(1);
        let before: Vec<_> = self.kernel.autofs.keys().map(|number| (*number, self.id(*number))).collect();
        if let Some(at) = self.kernel.mounted.keys().nth(which).cloned() {
            self.kernel.unmount(&at, lazy);
        } else if let Some(number) = self.kernel.autofs.keys().nth(which - entries).copied() {
            let owner = self.kernel.autofs[&number].owner.clone();
            self.unmount_autofs(number, lazy);
            if let Some(fs) = owner.and_then(|owner| self.kernel.mounted.get_mut(&owner)) {
                fs.whole = false;
            }
        }
        let gone = before.into_iter().filter(|(number, _)| !self.kernel.autofs.contains_key(number));
        self.unnoticed.extend(gone.filter_map(|(_, id)| id));
        if which % 2 == 0 {
            self.notice();
        }
    }

    fn notice(&mut self) {
        for mount in std::mem::take(&mut self.unnoticed) {
            self.event(Event::Vanished { mount });
        }
    }

    /// Checks that trees are mounted completely while no job runs.
    fn trees_are_whole(&self) {
        if !self.work.is_empty() || self.stopping {
            return;
        }
        for (at, fs) in self.kernel.mounted.iter().filter(|(_, fs)| fs.whole) {
            assert_eq!(self.kernel.children(at).len(), fs.triggers(), "holes in {at:?} {fs:?}");
        }
    }

    /// Does all that is to be done, without a failure.
    fn drain(&mut self) {
        self.notice();
        for turn in 0.. {
            assert!(turn < 10_000, "it never ends: {:?} {:?}", self.work, self.runs);
            if self.exited || self.work.is_empty() && self.runs.iter().all(|run| run.token.is_some()) {
                break;
            }
            self.work(0, false);
        }
    }

    /// Everything comes to rest; nothing is in use, and no mount is wanted below one that is to go.
    pub(crate) fn rest(&mut self, mask: u8) {
        self.kernel.mounted.values_mut().for_each(|fs| fs.used = false);
        let mask = mask & [0b1011, 0b1110][usize::from(mask >> 7)];
        if self.stopping {
            self.exit();
            self.start();
        }
        self.event(Event::Pause(false));
        for mask in [mask & 0b11, mask].into_iter().skip(usize::from(mask & 0b1100 == 0)) {
            self.drain();
            self.wanted = configuration(mask);
            self.event(Event::Configure(self.wanted.clone()));
            for _ in 0..6 {
                self.drain();
                self.pass(61_000);
                self.event(Event::Prune);
            }
        }
        self.drain();
        assert!(self.owed.is_empty(), "not answered: {:?}", self.owed);
        assert!(self.kernel.mounted.is_empty(), "not unmounted: {:?}", self.kernel.mounted);
        let there: BTreeSet<_> = self.kernel.autofs.values().map(|autofs| format!("{:?}", autofs.wanted)).collect();
        let wanted: BTreeSet<_> = self.wanted.iter().map(|wanted| format!("{wanted:?}")).collect();
        assert_eq!(there, wanted, "the configuration is in force");
        assert_eq!(self.engine.mounts().count(), wanted.len());
        for entry in self.engine.mounts().flat_map(|mount| mount.entries().collect::<Vec<_>>()) {
            assert!(matches!(entry.phase, EntryPhase::Failed(..)), "remembered: {entry:?}");
        }
        self.sleeps_when_idle();
    }

    /// The end: nothing is left, if nothing is in use or all is forced.
    pub(crate) fn end(&mut self, how: Shutdown, used: bool) {
        if self.stopping {
            self.exit();
            self.start();
        }
        self.kernel.mounted.values_mut().for_each(|fs| fs.used = used);
        self.event(Event::Stop(how));
        self.exit();
        if how == Shutdown::Forced || how == Shutdown::Clean && !used {
            assert!(self.kernel.mounted.is_empty(), "left: {:?}", self.kernel.mounted);
            assert!(self.kernel.autofs.is_empty(), "left: {:?}", self.kernel.autofs);
        }
    }

    fn exit(&mut self) {
        for _ in 0..4 {
            self.drain();
            self.pass(20_000);
        }
        assert!(self.exited, "it does not end: {:?}", self.work);
    }
}

fn reason() -> Reason {
    Record::new("the shell has failed").into()
}

/// Whether two pieces of work touch the same entry.
fn overlap(a: &Effect, b: &Effect) -> bool {
    let (Some(at), Some(bt)) = (entry(a), entry(b)) else { return false };
    at == bt || takes(a, bt.mount) || takes(b, at.mount)
}

fn entry(effect: &Effect) -> Option<&EntryId> {
    match effect {
        Effect::Resolve { at, .. }
        | Effect::Perform { at, .. }
        | Effect::Check { at, .. }
        | Effect::Unmount { at, .. } => Some(at),
        _ => None,
    }
}

/// Whether an unmount takes a trigger down.
fn takes(effect: &Effect, mount: MountId) -> bool {
    let is = |layer: &Layer| matches!(layer, Layer::Trigger(id, _) if *id == mount);
    matches!(effect, Effect::Unmount { layers, .. } if layers.iter().any(is))
}
