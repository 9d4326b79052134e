//! A request without the kernel: the lookup of its key, the plan of its entry, the engine.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use autofs::engine::{
    Done, Effect, Engine, EntryId, Event, JobId, Key, Kind, Limits, MountId, Requester, Resolution, Tick, Token, Wanted,
};
use autofs::map::{Macros, MasterOptions, OptionList, Scope, System, expand, sun};
use autofs::plan::{self, Plan};
use autofs::source::{Index, Mode};
use autofs::text::Position;
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

fn file() -> Arc<Path> {
    Path::new("/etc/auto.home").into()
}

/// Keys of an index spread over it, so that not all of them are in the processor's cache.
#[divan::bench(args = [1_000, 1_000_000])]
fn index_lookup(bencher: Bencher<'_, '_>, entries: usize) {
    let mut text = String::new();
    for n in 0..entries {
        let _ = writeln!(text, "user{n:07} -rw,soft filer:/export/home/&");
    }
    let Some(index) = Index::build(&file(), text.into_bytes(), Mode::Indirect) else { return };
    let keys: Vec<String> = (0..1024).map(|n| format!("user{:07}", n * 7919 % entries)).collect();
    let mut next = 0;
    bencher.bench_local(|| {
        next = (next + 1) % keys.len();
        index.entry(index.find(black_box(keys[next].as_bytes()))?)
    });
}

#[divan::bench]
fn missing_key(bencher: Bencher<'_, '_>) {
    let text: String = (0..100_000).map(|n| format!("user{n} filer:/home/&\n")).collect();
    let Some(index) = Index::build(&file(), text.into_bytes(), Mode::Indirect) else { return };
    bencher.bench(|| index.find(black_box(b"nobody")));
}

/// From the text of an entry to what is to be done.
fn make_plan(text: &[u8], macros: &Macros, options: &MasterOptions) -> Option<Arc<Plan>> {
    let place = Position::whole(&file());
    let scope = Scope { globals: macros, defines: &options.defines, user: None };
    let expanded = expand(text, b"anna", &|name| scope.lookup(name), true);
    let entry = sun::parse(&expanded, &place, &mut Vec::new()).ok()?;
    let context = plan::Context {
        at: Path::new("/home/anna"),
        direct: false,
        master: options,
        global: &OptionList::default(),
        append_options: true,
        hosts_map: false,
        bind_links: true,
        dice: plan::Dice::default(),
        place: &place,
    };
    plan::build(&entry, &context, &|_| plan::Host::Remote, &mut Vec::new()).ok()
}

#[divan::bench(args = ["-fstype=bind :/export/home/&", "-rw,soft filer:/export/$ARCH/home/&",
    "-ro,soft / srv1:/root /src srv2:/export/src /src/old srv3:/old /bin srv4:/export/bin"])]
fn plan_of_entry(bencher: Bencher<'_, '_>, text: &str) {
    let macros = Macros::predefined(&System { machine: b"x86_64".to_vec(), ..System::default() });
    let options = MasterOptions { mount_options: b"nosuid,nodev".to_vec(), ..MasterOptions::default() };
    assert!(make_plan(text.as_bytes(), &macros, &options).is_some());
    bencher.bench(|| make_plan(black_box(text.as_bytes()), &macros, &options));
}

/// An engine that serves one mount point, with the shell's half of the conversation.
struct Served {
    engine: Engine,
    effects: Vec<Effect>,
    mount: MountId,
    plan: Arc<Plan>,
    token: NonZeroU32,
}

impl Served {
    fn new() -> Option<Self> {
        let mut engine = Engine::new(Limits::default());
        let mut effects = Vec::new();
        let path = Path::new("/home").into();
        let wanted = Wanted { path, kind: Kind::Indirect, map: 1, timeout: 600, negative_timeout: 60 };
        engine.handle(Tick(0), Event::Configure(vec![wanted]), &mut effects);
        let [Effect::Attach { mount, .. }] = *effects else { return None };
        engine.handle(Tick(0), Event::Attached { mount, outcome: Ok(()) }, &mut effects);
        let plan = make_plan(b"-fstype=bind :/export/home/&", &Macros::default(), &MasterOptions::default())?;
        Some(Self { engine, effects: Vec::new(), mount, plan, token: NonZeroU32::MIN })
    }

    /// Tells the engine something; the job that it begins, if it begins one.
    fn tell(&mut self, event: Event) -> Option<JobId> {
        self.effects.clear();
        self.engine.handle(Tick(1), event, &mut self.effects);
        self.effects.iter().find_map(|effect| match effect {
            Effect::Resolve { job, .. } | Effect::Perform { job, .. } | Effect::Unmount { job, .. } => Some(*job),
            _ => None,
        })
    }

    fn entry(&self, key: &Key) -> EntryId {
        EntryId { mount: self.mount, key: key.clone() }
    }

    fn token(&mut self) -> Token {
        self.token = self.token.checked_add(1).unwrap_or(NonZeroU32::MIN);
        Token(self.token)
    }

    /// From the lookup to its answer.
    fn mount(&mut self, key: &Key) -> Option<()> {
        let (at, token, plan) = (self.entry(key), self.token(), Arc::clone(&self.plan));
        let job = self.tell(Event::Missing { at, token, who: Requester::default(), waited: 0 })?;
        let job = self.tell(Event::Resolved { job, outcome: Resolution::Found(plan) })?;
        self.tell(Event::Performed { job, outcome: Ok(Done::default()) });
        matches!(self.effects[..], [Effect::Reply { error: None, .. }]).then_some(())
    }

    /// From the kernel's word that it is unused to the answer.
    fn expire(&mut self, key: &Key) -> Option<()> {
        let (at, token) = (self.entry(key), self.token());
        let job = self.tell(Event::Expire { at, token })?;
        self.tell(Event::Unmounted { job, gone: 1, error: None });
        matches!(self.effects[..], [Effect::Reply { error: None, .. }]).then_some(())
    }
}

/// Mounts a key and expires it, while so many others are mounted.
#[divan::bench(args = [0, 10_000])]
fn engine_mount_and_expire(bencher: Bencher<'_, '_>, others: usize) {
    let Some(mut served) = Served::new() else { return };
    for n in 0..others {
        assert!(served.mount(&Key::from(format!("other{n}").as_bytes())).is_some());
    }
    let key = Key::from(&b"anna"[..]);
    bencher.bench_local(|| {
        assert!(served.mount(&key).is_some());
        assert!(served.expire(&key).is_some());
    });
}

/// A reload of a direct map that has not changed.
#[divan::bench(args = [10_000])]
fn engine_want_the_same(bencher: Bencher<'_, '_>, mounts: usize) {
    let mut engine = Engine::new(Limits::default());
    let wanted = |n| Wanted {
        path: Path::new(&format!("/data/vol{n:05}")).into(),
        kind: Kind::Direct,
        map: 1,
        timeout: 600,
        negative_timeout: 60,
    };
    let all: Vec<Wanted> = (0..mounts).map(wanted).collect();
    let mut effects = Vec::new();
    engine.handle(Tick(0), Event::Configure(all.clone()), &mut effects);
    for effect in std::mem::take(&mut effects) {
        if let Effect::Attach { mount, .. } = effect {
            engine.handle(Tick(0), Event::Attached { mount, outcome: Ok(()) }, &mut effects);
        }
    }
    bencher.with_inputs(|| all.clone()).bench_local_values(|all| {
        let mut effects = Vec::new();
        engine.handle(Tick(1), Event::Configure(all), &mut effects);
        assert!(effects.is_empty());
    });
}
