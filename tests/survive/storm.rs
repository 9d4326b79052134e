//! The worker is killed again and again while many threads look up new, mounted and missing keys.
//!
//! `AUTOFS_SURVIVE_SECONDS` says for how long (default 20).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use super::common::daemon::Daemon;
use super::common::site;
use super::common::stand_in::{Rules, calls};
use super::common::suite::{case, needs};
use super::common::world::{figure, put};
use super::common::{output, secs, table, visit, wait_for};
use super::processes::{descriptors, kill_worker, memory, strike, worker, worker_now};

/// How many threads ask.
const THREADS: u64 = 64;

/// Keys that are not mounted before the storm begins: of the indirect map, and of multi-mounts.
const NEW: (u32, u32) = (2000, 300);

fn duration() -> Duration {
    let seconds = std::env::var("AUTOFS_SURVIVE_SECONDS").ok().and_then(|text| text.parse().ok());
    secs(seconds.unwrap_or(20))
}

/// How much more time than usual is wanted.
pub(super) fn longer() -> Duration {
    duration().saturating_sub(secs(20))
}

/// What a lookup is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// A key that nobody has asked for.
    New,
    /// The same, of a multi-mount.
    Multi,
    /// A key that is mounted.
    Mounted,
    /// A key that no map has.
    Missing,
}

/// Lookups of all kinds, until they are told to stop.
#[derive(Debug, Clone, Default)]
pub(super) struct Storm {
    over: Arc<AtomicBool>,
    /// How many of the new keys have been asked for.
    keys: Arc<AtomicU32>,
    trees: Arc<AtomicU32>,
    /// Microseconds of each answer.
    took: Arc<Mutex<BTreeMap<Class, Vec<u32>>>>,
    wrong: Arc<Mutex<Vec<String>>>,
    running: Arc<AtomicU32>,
}

impl Storm {
    /// The maps that it asks.
    pub(super) fn configure() {
        site::master(
            "/mnt/auto /etc/auto.any --timeout=600\n/mnt/fix /etc/auto.fix --timeout=600\n\
             /mnt/multi /etc/auto.multi --timeout=600\n",
        );
        put("/etc/auto.any", "* -fstype=tmpfs,size=64k :&\n");
        put("/etc/auto.fix", (0..20).map(|n| format!("k{n} -fstype=tmpfs,size=64k :fix\n")).collect::<String>());
        put(
            "/etc/auto.multi",
            "* / -fstype=tmpfs,size=64k :r /a -fstype=tmpfs,size=64k :a /b -fstype=tmpfs,size=64k :b\n",
        );
        let direct: Vec<String> = (0..20).map(|n| format!("/mnt/direct/d{n}")).collect();
        site::and_direct(&direct.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// The mount points.
    pub(super) const POINTS: &[&str] = &["/mnt/auto", "/mnt/fix", "/mnt/multi", "/mnt/direct/d0", "/mnt/direct/d19"];

    /// Mounts what the storm takes for mounted.
    pub(super) fn before() {
        for n in 0..20 {
            visit::serves(format!("/mnt/fix/k{n}"));
            visit::serves(format!("/mnt/direct/d{n}"));
        }
        visit::serves("/mnt/auto/0");
        visit::serves("/mnt/multi/0/a");
    }

    /// Begins.
    pub(super) fn begin() -> Self {
        let storm = Self { keys: Arc::new(1.into()), trees: Arc::new(1.into()), ..Self::default() };
        for thread in 0..THREADS {
            let storm = storm.clone();
            storm.running.fetch_add(1, Ordering::Relaxed);
            std::thread::spawn(move || storm.ask(thread));
        }
        storm
    }

    fn ask(&self, thread: u64) {
        let mut random = Random(thread * 7919 + 1);
        let mut took: BTreeMap<Class, Vec<u32>> = BTreeMap::new();
        while !self.over.load(Ordering::Relaxed) {
            let (class, path) = self.choose(&mut random);
            let asked = Instant::now();
            let answer = statfs(Path::new(&path));
            let waited = asked.elapsed();
            let right = match (&answer, class) {
                (Err(Errno::ENOENT), Class::Missing) => true,
                (Ok(stat), class) => class != Class::Missing && stat.filesystem_type() == TMPFS_MAGIC,
                _ => false,
            };
            if !right {
                let said = format!("{path}: {:?} after {waited:?}", answer.map(|stat| stat.filesystem_type()));
                self.wrong.lock().unwrap().push(said);
            }
            took.entry(class).or_default().push(u32::try_from(waited.as_micros()).unwrap_or(u32::MAX));
            std::thread::sleep(Duration::from_millis(2));
        }
        for (class, mut times) in took {
            self.took.lock().unwrap().entry(class).or_default().append(&mut times);
        }
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    fn choose(&self, random: &mut Random) -> (Class, String) {
        let known = |counter: &AtomicU32, most: u32| u64::from(counter.load(Ordering::Relaxed).min(most));
        match random.below(100) {
            0..4 => {
                let n = self.keys.fetch_add(1, Ordering::Relaxed);
                let class = if n < NEW.0 { Class::New } else { Class::Mounted };
                (class, format!("/mnt/auto/{}", n % NEW.0))
            }
            4 => {
                let n = self.trees.fetch_add(1, Ordering::Relaxed);
                let class = if n < NEW.1 { Class::Multi } else { Class::Mounted };
                (class, format!("/mnt/multi/{}/a", n % NEW.1))
            }
            5..15 => (Class::Missing, format!("/mnt/fix/no{}", random.below(1000))),
            15..40 => (Class::Mounted, format!("/mnt/auto/{}", random.below(known(&self.keys, NEW.0)))),
            40..50 => (Class::Mounted, format!("/mnt/multi/{}/b", random.below(known(&self.trees, NEW.1)))),
            50..75 => (Class::Mounted, format!("/mnt/fix/k{}", random.below(20))),
            _ => (Class::Mounted, format!("/mnt/direct/d{}", random.below(20))),
        }
    }

    /// Ends, and says how it was; a panic if a lookup hangs or failed.
    #[track_caller]
    pub(super) fn end(self, what: &str) {
        self.over.store(true, Ordering::Relaxed);
        wait_for("the end of all lookups", secs(20), || (self.running.load(Ordering::Relaxed) == 0).then_some(()));
        let wrong = self.wrong.lock().unwrap();
        for (class, times) in self.took.lock().unwrap().iter_mut() {
            times.sort_unstable();
            let at = |share: usize| f64::from(times[(times.len() - 1) * share / 1000]) / 1000.0;
            figure(&format!(
                "{what}: {} lookups {class:?}, p50 {:.2} ms, p99 {:.1} ms, longest {:.0} ms",
                times.len(),
                at(500),
                at(990),
                at(1000)
            ));
        }
        assert!(
            wrong.is_empty(),
            "{} lookups went wrong, first {:#?}",
            wrong.len(),
            wrong.iter().take(10).collect::<Vec<_>>()
        );
    }
}

/// A sequence of numbers (xorshift64).
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    /// The next one, below a bound.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound.max(1)
    }
}

/// Ids of all mounts that are no autofs.
fn mounted() -> Vec<(u32, std::path::PathBuf)> {
    table::below("/mnt").into_iter().filter(|m| m.fstype == "tmpfs").map(|m| (m.id, m.target)).collect()
}

#[case(seconds: 100)]
fn the_worker_is_killed_at_random() {
    Storm::configure();
    let mut daemon = Daemon::serving(Storm::POINTS);
    Storm::before();
    // A worker that has taken over, not the first one: only those can be compared.
    kill_worker(&daemon);
    visit::serves("/mnt/auto/0");
    let fixed = mounted();
    let resources = |daemon: &Daemon| {
        let pids = [daemon.pid(), worker(daemon)];
        (pids.map(descriptors), pids.map(memory))
    };
    std::thread::sleep(Duration::from_millis(500));
    let before = resources(&daemon);

    let storm = Storm::begin();
    let (end, mut random, mut killed) = (Instant::now() + duration(), Random(4711), 0);
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50 + random.below(450)));
        if let Some(worker) = worker_now(daemon.pid()) {
            strike(worker);
            killed += 1;
        }
    }
    storm.end(&format!("the worker was killed {killed} times"));

    let now = mounted();
    for mount in &fixed {
        assert!(now.contains(mount), "{mount:?} was lost");
    }
    let mut targets: Vec<_> = now.iter().map(|(_, target)| target).collect();
    targets.sort_unstable();
    let doubles: Vec<_> = targets.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    assert!(doubles.is_empty(), "mounted twice: {doubles:?}");
    // All of it goes again.
    wait_for("expiry of everything", secs(60), || {
        daemon.signal(Signal::SIGUSR1);
        std::thread::sleep(Duration::from_millis(300));
        mounted().iter().all(|(_, target)| target == Path::new("/mnt")).then_some(())
    });
    Storm::before();
    kill_worker(&daemon);
    visit::serves("/mnt/auto/0");
    std::thread::sleep(Duration::from_millis(500));
    let mut after = resources(&daemon);
    // The roots of mounts that were used are closed a little later.
    let end = std::time::Instant::now() + secs(10);
    while after.0 != before.0 && std::time::Instant::now() < end {
        std::thread::sleep(Duration::from_millis(100));
        after = resources(&daemon);
    }
    figure(&format!("descriptors and KiB of keeper and worker: before {before:?}, after {after:?}"));
    assert_eq!(after.0, before.0, "descriptors");
    assert!(after.1[0] <= before.1[0] + 64, "memory of the keeper: {} KiB, before {}", after.1[0], before.1[0]);
    assert!(after.1[1] <= before.1[1] + 2048, "memory of the worker: {} KiB, before {}", after.1[1], before.1[1]);
    daemon.stop();
    assert_eq!(table::below("/mnt"), [table::at("/mnt").remove(0)]);
}

/// A mount that takes long sees many workers come and go, and ends none of them.
#[case]
fn a_slow_mount_is_not_to_blame() {
    site::one_map("slow -fstype=slow :slow\n");
    Rules { delay: vec![("slow".into(), 1500)], ..Rules::default() }.set();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let mut visitor = visit::process("/mnt/auto/slow", 0);
    for killed in 0..5 {
        wait_for("a mount on its way", secs(10), || (calls().len() > killed).then_some(()));
        kill_worker(&daemon);
    }
    let status = wait_for("an answer", secs(10), || visitor.try_wait().unwrap());
    assert!(status.success(), "{status}");
    assert_eq!(table::at("/mnt/auto/slow").len(), 1);
    daemon.stop();
}

/// The deadline of a lookup counts from the moment at which its packet was read, also when each worker lives for a second
/// only.
#[case(seconds: 90)]
fn a_deadline_holds_over_the_deaths_of_workers() {
    site::one_map("slow -fstype=slow :slow\n");
    put("/etc/autofs.toml", "[deadlines]\nrequest = 6\n");
    Rules { delay: vec![("slow".into(), 60_000)], ..Rules::default() }.set();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let mut visitor = visit::process("/mnt/auto/slow", 0);
    let asked = Instant::now();
    let status = wait_for("an answer", secs(40), || {
        std::thread::sleep(Duration::from_millis(900));
        strike(worker(&daemon));
        visitor.try_wait().unwrap()
    });
    figure(&format!("a deadline of 6 s held after {:.1} s", asked.elapsed().as_secs_f64()));
    assert_eq!(status.code(), Some(Errno::ETIMEDOUT as i32));
    daemon.kill();
}

/// Neither a lookup that a worker had begun with nor one that still waits in the pipe waits for ever for a worker that serves.
#[case(seconds: 90, lacking: needs::debug_build)]
fn a_deadline_holds_while_no_worker_serves() {
    site::one_map("slow -fstype=slow :slow\n* -fstype=tmpfs :&\n");
    put("/etc/autofs.toml", "[deadlines]\nrequest = 3\n");
    Rules { delay: vec![("slow".into(), 60_000)], ..Rules::default() }.set();
    let mut command = Daemon::command();
    // The workers after the first one die before they have read a map, for longer than the deadline.
    command.args(["-f", "-v"]).env("AUTOFS_FAULT", "start:1:7:2");
    let mut daemon = Daemon::spawn(command);
    daemon.ready(&["/mnt/auto"]);
    let mut begun = visit::process("/mnt/auto/slow", 0);
    wait_for("the mount program", secs(10), || daemon.log().contains("attempting to mount entry").then_some(()));
    strike(worker(&daemon));
    let mut unread = visit::process("/mnt/auto/k", 0);
    for visitor in [&mut begun, &mut unread] {
        let status = wait_for("an answer", secs(30), || visitor.try_wait().unwrap());
        assert_eq!(status.code(), Some(Errno::ETIMEDOUT as i32));
    }
    daemon.says("a lookup in /mnt/auto has waited for");
    // A later worker serves, and shows what the earlier ones have refused.
    let failed = wait_for("the history", secs(30), || {
        let said = output(Command::new("autofsctl").args(["--json", "history", "--failed"]), secs(5))?;
        serde_json::from_slice::<serde_json::Value>(&said.stdout)
            .ok()
            .filter(|document| document.get("error").is_none())
    });
    let refused = failed["requests"].as_array().unwrap().iter().filter(|request| request["errno"] == "ETIMEDOUT");
    let mut refused: Vec<_> = refused.map(|request| (request["path"].as_str().unwrap(), &request["reason"])).collect();
    refused.sort_unstable_by_key(|(path, _)| *path);
    let reason = "no worker of the daemon served it in time";
    assert_eq!(refused, [("/mnt/auto/k", &reason.into()), ("/mnt/auto/slow", &reason.into())], "{failed}");
    daemon.kill();
}
