//! Deaths of workers, stops, upgrades and reloads in random order, under load, with walkers from other mount namespaces:
//! nothing hangs, nothing is lost, nothing is left open.
//!
//! `AUTOFS_SOAK_ROUNDS` says how many of them, `AUTOFS_SOAK_SEED` in which order. It only runs on request, because it takes minutes.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use autofs::cli::ctl::client::wait_for_answer;
use autofs::control::{Call, SOCKET};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::common::daemon::Daemon;
use super::common::suite::case;
use super::common::world::{PROGRAM, figure, put};
use super::common::{PATIENCE, secs, site, table, visit, wait_for};
use super::processes::{descriptors, held_by_autofs, memory, strike, worker, worker_now};
use super::storm::{Random, Storm};
use super::upgrade::{call, install_anew, start};

/// Within this time, times [`PATIENCE`], a walker has ended: it walks for some seconds.
const WALKERS_END: Duration = secs(20);

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn rounds() -> u64 {
    number("AUTOFS_SOAK_ROUNDS", 40)
}

/// How much more time than usual is wanted.
pub(super) fn longer() -> Duration {
    secs(rounds().saturating_sub(40) * 2)
}

/// A process in a mount namespace of its own, made now, that walks for some seconds into mounts that come and go here.
fn walker() -> Child {
    let script = format!(
        "i=0; while [ $i -lt 12 ]; do for p in /mnt/gone/a /mnt/come /mnt/gone/t/x; do {PROGRAM} --visit $p; done; \
         sleep 0.2; i=$((i+1)); done; exit 0"
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "/bin/sh", "-c", &script]);
    command.process_group(0).stdin(Stdio::null()).spawn().unwrap()
}

/// The master map of the storm, with or without an indirect mount and a direct map.
struct Masters {
    without: String,
}

impl Masters {
    const MORE: &str = "/mnt/gone /etc/auto.gone --timeout=2\n/- /etc/auto.come --timeout=2\n";

    fn new() -> Self {
        put("/etc/auto.gone", "t / -fstype=tmpfs :t /x -fstype=tmpfs :x\n* -fstype=tmpfs,size=64k :&\n");
        put("/etc/auto.come", "/mnt/come -fstype=tmpfs,size=64k :come\n");
        Self { without: std::fs::read_to_string("/etc/auto.master").unwrap() }
    }

    fn with_more(&self, more: bool) {
        let text = if more { format!("{}{}", self.without, Self::MORE) } else { self.without.clone() };
        site::master(&text);
    }
}

/// Descriptors and KiB of keeper and worker.
fn resources(daemon: &Daemon) -> ([usize; 2], [u64; 2]) {
    let pids = [daemon.pid(), worker(daemon)];
    (pids.map(descriptors), pids.map(memory))
}

/// Another worker serves, so that those before and after can be compared.
fn afresh(daemon: &Daemon) {
    let old = worker(daemon);
    strike(old);
    wait_for("another worker", secs(20), || worker_now(daemon.pid()).filter(|new| *new != old));
    wait_for_answer(Path::new(SOCKET), secs(20)).unwrap();
    visit::serves("/mnt/auto/0");
    std::thread::sleep(secs(1));
}

fn requested() -> Option<&'static str> {
    std::env::var_os("AUTOFS_SOAK_ROUNDS").is_none().then_some("needs AUTOFS_SOAK_ROUNDS")
}

#[case(seconds: 240, lacking: requested)]
fn all_at_random() {
    Storm::configure();
    let masters = Masters::new();
    let mut daemon = start(Storm::POINTS);
    Storm::before();
    afresh(&daemon);
    let before = resources(&daemon);
    let storm = Storm::begin();
    let mut random = Random(number("AUTOFS_SOAK_SEED", 4711).max(1));
    let (mut walkers, mut done, mut more) = (Vec::new(), [0; 5], false);
    for round in 0..rounds() {
        std::thread::sleep(Duration::from_millis(50 + random.below(400)));
        let what = random.below(5);
        done[usize::try_from(what).unwrap()] += 1;
        match (what, worker_now(daemon.pid())) {
            (0, Some(worker)) => strike(worker),
            (1, Some(worker)) => {
                _ = kill(Pid::from_raw(worker), Signal::SIGSTOP);
                std::thread::sleep(Duration::from_millis(200));
                _ = kill(Pid::from_raw(worker), Signal::SIGCONT);
            }
            (2, _) => {
                install_anew();
                // Refused while another one is under way, or while a worker starts: then there is one the less.
                _ = call(Call::Upgrade);
            }
            (3, _) => {
                more = !more;
                masters.with_more(more);
                daemon.signal(Signal::SIGHUP);
            }
            _ => _ = umount2("/mnt/come", MntFlags::empty()),
        }
        if round % 4 == 0 {
            walkers.push(walker());
        }
        walkers.retain_mut(|walker| walker.try_wait().unwrap().is_none());
        assert!(daemon.end_now().is_none(), "the daemon has ended in round {round}");
    }
    figure(&format!("deaths, stops, upgrades, reloads, unmounts by hand: {done:?}"));
    storm.end("soak");
    let ended = Instant::now() + WALKERS_END * PATIENCE;
    while walkers.iter_mut().any(|walker| walker.try_wait().unwrap().is_none()) {
        assert!(Instant::now() < ended, "a walker in another namespace hangs: {}", held_by_autofs().join("\n"));
        std::thread::sleep(Duration::from_millis(50));
    }
    masters.with_more(false);
    wait_for("the end of what the maps do not name", secs(60), || {
        daemon.signal(Signal::SIGHUP);
        daemon.signal(Signal::SIGUSR1);
        std::thread::sleep(Duration::from_millis(500));
        let below = table::below("/mnt");
        let left = below.iter().any(|mount| mount.fstype == "tmpfs" && mount.target != Path::new("/mnt"));
        let gone = ["/mnt/gone", "/mnt/come"].iter().all(|path| table::at(path).is_empty());
        (!left && gone).then_some(())
    });
    Storm::before();
    afresh(&daemon);
    let after = resources(&daemon);
    figure(&format!("descriptors and KiB of keeper and worker: before {before:?}, after {after:?}"));
    assert!(after.0[0] <= before.0[0] && after.0[1] <= before.0[1], "descriptors: before {before:?}, after {after:?}");
    assert!(after.1[0] <= before.1[0] + 256, "memory of the keeper: before {before:?}, after {after:?}");
    assert!(after.1[1] <= before.1[1] + 2048, "memory of the worker: before {before:?}, after {after:?}");
    daemon.stop();
    assert_eq!(table::below("/mnt"), [table::at("/mnt").remove(0)]);
    // A worker does not know which directories earlier ones have made for mount points; below those nothing is left.
    for path in ["/mnt/auto", "/mnt/fix", "/mnt/multi", "/mnt/gone", "/mnt/come"] {
        assert_eq!(visit::list(path), [] as [&str; 0], "{path}");
    }
}
