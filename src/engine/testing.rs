//! For the tests: an engine, its time, and its effects in short words.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::plan::{Action, Plan};

/// Each test plays the shell on it. Entries are named by their path.
pub(super) struct TestEngine {
    pub(super) engine: Engine,
    pub(super) now: Tick,
    said: Vec<String>,
    reasons: Vec<String>,
    /// The autofs mounts and the last job at each entry, by path.
    ids: HashMap<String, MountId>,
    jobs: HashMap<String, JobId>,
    /// Kinds and paths of all autofs mounts that have ever been.
    known: HashMap<MountId, (Kind, String)>,
}

pub(super) fn wanted(path: &str, kind: Kind) -> Wanted {
    Wanted { path: Path::new(path).into(), kind, map: 0, timeout: 40, negative_timeout: 60 }
}

pub(super) fn plan(at: &str, offsets: &[Arc<Plan>]) -> Arc<Plan> {
    Arc::new(Plan {
        at: at.into(),
        action: Action::Mount(Vec::new()),
        offsets: offsets.to_vec(),
        strict: false,
        timeout: None,
        requires: Vec::new(),
    })
}

/// Offsets without anything below them.
pub(super) fn offsets(paths: &[(u32, &str)]) -> Done {
    let offset = |(id, path): &(u32, &str)| (MountId(*id), plan(path, &[]));
    Done { offsets: paths.iter().map(offset).collect(), ..Done::default() }
}

pub(super) fn submount(id: u32, path: &str) -> Done {
    Done { submount: Some((MountId(id), wanted(path, Kind::Indirect))), ..Done::default() }
}

pub(super) fn reason(message: &str) -> Reason {
    Arc::new(crate::record::Record::new(message))
}

pub(super) fn token(number: u32) -> Token {
    Token(NonZeroU32::new(number).unwrap())
}

impl TestEngine {
    /// With these indirect mounts attached.
    pub(super) fn new(paths: &[&str]) -> Self {
        let limits = Limits { request: 10_000, unmount: 20_000, loop_limit: 3, ..Limits::default() };
        let engine = Engine::new(limits);
        let (said, reasons, ids, jobs, known) = Default::default();
        let mut stage = Self { engine, now: Tick(1), said, reasons, ids, jobs, known };
        stage.want(paths);
        for path in paths {
            stage.attached(path, true);
        }
        stage.said();
        stage
    }

    pub(super) fn event(&mut self, event: Event) {
        self.learn();
        let mut effects = Vec::new();
        self.engine.handle(self.now, event, &mut effects);
        self.learn();
        for effect in &effects {
            match effect {
                Effect::Attach { mount, wanted } => {
                    self.ids.insert(wanted.path.display().to_string(), *mount);
                    self.known.insert(*mount, (wanted.kind, wanted.path.display().to_string()));
                }
                Effect::Resolve { job, at, .. }
                | Effect::Perform { job, at, .. }
                | Effect::Check { job, at }
                | Effect::Unmount { job, at, .. } => {
                    self.jobs.insert(self.path(at), *job);
                }
                Effect::Reply { reason: Some(reason), .. } => {
                    self.reasons.push(reason.message.clone());
                }
                _ => {}
            }
            self.said.push(self.words(effect));
        }
    }

    fn learn(&mut self) {
        let mounts = self.engine.tree.mounts();
        self.known.extend(mounts.map(|(id, mount)| (id, (mount.kind, mount.path.display().to_string()))));
    }

    fn path(&self, at: &EntryId) -> String {
        match &self.known[&at.mount] {
            (Kind::Indirect, path) => format!("{path}/{}", String::from_utf8_lossy(&at.key.0)),
            (_, path) => path.clone(),
        }
    }

    /// Lets time pass, ringing every alarm at its moment.
    pub(super) fn pass(&mut self, ms: u64) {
        let end = self.now.after(ms);
        while let Some(tick) = self.engine.deadline().filter(|tick| *tick <= end) {
            self.now = self.now.max(tick);
            self.event(Event::Timer);
        }
        self.now = end;
    }

    pub(super) fn want(&mut self, paths: &[&str]) {
        self.event(Event::Configure(paths.iter().map(|path| wanted(path, Kind::Indirect)).collect()));
    }

    pub(super) fn attached(&mut self, path: &str, ok: bool) {
        let outcome = if ok { Ok(()) } else { Err(reason("not mounted")) };
        self.event(Event::Attached { mount: self.ids[path], outcome });
    }

    pub(super) fn detached(&mut self, path: &str, gone: bool) {
        let outcome = if gone { Ok(()) } else { Err(reason("busy")) };
        self.event(Event::Detached { mount: self.ids[path], outcome });
    }

    pub(super) fn id(&self, path: &str) -> MountId {
        self.ids[path]
    }

    /// The place of an entry of the mount at a path (or with a number), by the entry's name.
    fn place(&self, path: &str) -> EntryId {
        if let Some(id) = path.strip_prefix('#') {
            let (id, key) = id.split_once('/').unwrap_or((id, ""));
            return EntryId { mount: MountId(id.parse().unwrap()), key: key.as_bytes().into() };
        }
        let path = Path::new(path);
        let mount = self.ids[path.parent().unwrap().to_str().unwrap()];
        EntryId { mount, key: path.file_name().unwrap().as_encoded_bytes().into() }
    }

    /// A lookup; the process has the number of the token, or is 1 if that is above 100.
    pub(super) fn missing(&mut self, path: &str, number: u32) {
        let at = self.place(path);
        let who = Requester { tgid: if number > 100 { 1 } else { number }, ..Requester::default() };
        self.event(Event::Missing { at, token: token(number), who, waited: 0 });
    }

    pub(super) fn expire(&mut self, path: &str, number: u32) {
        let at = self.place(path);
        self.event(Event::Expire { at, token: token(number) });
    }

    pub(super) fn resolved(&mut self, path: &str, outcome: Resolution) {
        let job = self.jobs[path];
        self.event(Event::Resolved { job, outcome });
    }

    pub(super) fn found(&mut self, path: &str) {
        self.resolved(path, Resolution::Found(plan(path, &[])));
    }

    pub(super) fn performed(&mut self, path: &str, outcome: Result<Done, Reason>) {
        let job = self.jobs[path];
        self.event(Event::Performed { job, outcome });
    }

    pub(super) fn checked(&mut self, path: &str, mounted: bool) {
        let job = self.jobs[path];
        self.event(Event::Checked { job, mounted });
    }

    pub(super) fn unmounted(&mut self, path: &str, gone: usize) {
        let job = self.jobs[path];
        self.event(Event::Unmounted { job, gone, error: None });
    }

    pub(super) fn expire_ran(&mut self, path: &str) {
        let mount = self.ids.get(path).copied().unwrap_or_else(|| self.place(path).mount);
        self.event(Event::ExpireRan { mount });
    }

    /// Mounts an entry with what stands below it, and forgets what was said.
    pub(super) fn mount(&mut self, path: &str, done: Done) {
        self.missing(path, 99);
        let at = self.engine.jobs.last_key_value().map(|(_, at)| at.clone()).unwrap();
        let path = self.engine.tree.mount(at.mount).unwrap().path_of(&at.key).display().to_string();
        if self.engine.tree.mount(at.mount).unwrap().plan().is_none() {
            self.found(&path);
        }
        self.performed(&path, Ok(done));
        assert_eq!(self.said().last().unwrap(), "ready 99");
    }

    /// How many entries the engine keeps.
    pub(super) fn entries(&self) -> usize {
        self.engine.tree.entries().len()
    }

    /// Returns the messages since the last call.
    pub(super) fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }

    /// Why requests have failed since the last time.
    pub(super) fn reasons(&mut self) -> Vec<String> {
        std::mem::take(&mut self.reasons)
    }

    fn words(&self, effect: &Effect) -> String {
        let path = |mount: &MountId| self.known[mount].1.as_str();
        let lazily = |lazy: &bool| if *lazy { " lazily" } else { "" };
        match effect {
            Effect::Reply { token, error: None, .. } => format!("ready {}", token.0),
            Effect::Reply { token, error: Some(error), .. } => format!("fail {} {error:?}", token.0),
            Effect::Resolve { at, .. } => format!("resolve {}", self.path(at)),
            Effect::Perform { at, plan, .. } => {
                let offsets: String = plan.offsets.iter().map(|plan| format!(" +{}", plan.at.display())).collect();
                format!("perform {}{offsets}", self.path(at))
            }
            Effect::Check { at, .. } => format!("check {}", self.path(at)),
            Effect::Unmount { layers, lazy, .. } => {
                let layer = |layer: &Layer| match layer {
                    Layer::FileSystem { path, .. } => format!(" {}", path.display()),
                    Layer::Trigger(_, path) => format!(" ^{}", path.display()),
                };
                format!("unmount{}{}", layers.iter().map(layer).collect::<String>(), lazily(lazy))
            }
            Effect::ExpireRun { mount, immediate: false } => format!("expire {}", path(mount)),
            Effect::ExpireRun { mount, immediate: true } => format!("expire {} now", path(mount)),
            Effect::Attach { wanted, .. } => format!("attach {}", wanted.path.display()),
            Effect::Update { wanted, .. } => format!("update {} {}", wanted.path.display(), wanted.timeout),
            Effect::Detach { mount, lazy } => format!("detach {}{}", path(mount), lazily(lazy)),
            Effect::Exit { left, .. } => {
                format!("exit{}", left.iter().map(|id| format!(" {}", path(id))).collect::<String>())
            }
        }
    }
}
