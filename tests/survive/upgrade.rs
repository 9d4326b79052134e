//! Another program in place of the one that runs; and ends that leave everything for the next start.
//!
//! `AUTOFS_SURVIVE_UPGRADES` says how many upgrades are made under load (default 10).

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use autofs::cli::ctl::client::{ClientError, ask, wait_for_answer};
use autofs::control::{Call, Quiesce, Reload, SOCKET};
use nix::sys::signal::Signal;

use super::common::daemon::Daemon;
use super::common::site;
use super::common::stand_in::{Rules, calls};
use super::common::suite::{case, needs};
use super::common::world::{figure, put};
use super::common::{secs, table, visit, wait_for};
use super::processes::{descriptors, memory, worker, worker_now};
use super::restart::ids;
use super::storm::Storm;

/// Where the program is installed that can be replaced.
pub(super) const PROGRAM: &str = "/opt/automount";

/// Installs a program as a package manager does: another file under the same name.
pub(super) fn install(content: &[u8]) {
    put(PROGRAM, content);
    fs::set_permissions(PROGRAM, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

pub(super) fn install_anew() {
    install(&fs::read("/usr/sbin/automount").unwrap());
}

fn command() -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg0("automount").args(["-f", "-v", "-p", "/run/automount.pid"]).env_clear().env("PATH", "/usr/bin:/bin");
    command
}

pub(super) fn start(points: &[&str]) -> Daemon {
    install_anew();
    let mut daemon = Daemon::spawn(command());
    daemon.ready(points);
    wait_for_answer(Path::new(SOCKET), secs(5)).unwrap();
    daemon
}

pub(super) fn call(call: Call) -> Result<(), ClientError> {
    ask(Path::new(SOCKET), call, secs(15)).map(drop)
}

/// Asks for an upgrade, again while the worker of the one before still starts, and waits until the new worker answers.
#[track_caller]
pub(super) fn upgrade() {
    let starts = |answer: &str| answer.contains("about to start") || answer.contains("is starting");
    wait_for("an upgrade", secs(30), || match call(Call::Upgrade) {
        Err(e) if starts(&e.to_string()) => None,
        answer => Some(answer),
    })
    .unwrap();
    wait_for_answer(Path::new(SOCKET), secs(10)).unwrap();
}

/// Does it run the program that is installed now?
pub(super) fn is_new(daemon: &Daemon) -> bool {
    let inode = |path: &str| fs::metadata(path).ok().map(|file| file.ino());
    inode(&format!("/proc/{}/exe", daemon.pid())) == inode(PROGRAM)
}

fn pid_file() -> Option<String> {
    fs::read_to_string("/run/automount.pid").ok().map(|text| text.trim().to_owned())
}

/// Its files are there while it runs and not after, and nothing is left.
#[track_caller]
pub(super) fn ends(daemon: Daemon) {
    assert_eq!(pid_file(), Some(daemon.pid().to_string()));
    let flag = fs::read_dir("/run").unwrap().flatten().any(|e| e.file_name() == "autofs-running");
    daemon.stop();
    assert_eq!(pid_file(), None);
    let after = fs::read_dir("/run").unwrap().flatten().any(|e| e.file_name() == "autofs-running");
    assert!(flag && !after, "the flag file was there: {flag}, and is: {after}");
    assert_eq!(table::below("/mnt"), [table::at("/mnt").remove(0)]);
}

#[case]
fn on_demand() {
    site::any_key();
    site::and_direct(&["/mnt/d"]);
    let daemon = start(&["/mnt/auto", "/mnt/d"]);
    visit::serves("/mnt/auto/a");
    visit::serves("/mnt/d");
    let (mounts, autofs, old) = (ids("tmpfs"), table::autofs("/mnt/auto"), worker(&daemon));
    install_anew();
    assert!(!is_new(&daemon));
    upgrade();
    assert!(is_new(&daemon));
    assert_ne!(worker(&daemon), old);
    assert_eq!((ids("tmpfs"), table::autofs("/mnt/auto")), (mounts, autofs), "not even the pipe is another");
    visit::serves("/mnt/auto/b");
    // Again, to the same program.
    upgrade();
    visit::serves("/mnt/auto/c");
    ends(daemon);
}

#[case]
fn by_a_reload() {
    reloads(|daemon| daemon.signal(Signal::SIGHUP));
}

#[case]
fn by_a_reload_on_demand() {
    reloads(|_| call(Call::Reload(Reload::default())).unwrap());
}

fn reloads(reload: impl Fn(&mut Daemon)) {
    site::any_key();
    let mut daemon = start(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    let old = worker(&daemon);
    let more = |path| {
        let text = fs::read_to_string("/etc/auto.master").unwrap();
        site::master(&format!("{text}{path} /etc/auto.any\n"));
    };
    more("/mnt/one");
    reload(&mut daemon);
    daemon.ready(&["/mnt/one"]);
    assert_eq!(worker(&daemon), old, "the program is the same");
    more("/mnt/two");
    install_anew();
    reload(&mut daemon);
    daemon.ready(&["/mnt/two"]);
    assert!(is_new(&daemon));
    for path in ["/mnt/auto/b", "/mnt/one/b", "/mnt/two/b"] {
        visit::serves(path);
    }
    // What is not there any more is no reason for anything.
    fs::remove_file(PROGRAM).unwrap();
    more("/mnt/three");
    reload(&mut daemon);
    daemon.ready(&["/mnt/three"]);
    ends(daemon);
}

#[case(seconds: 300)]
fn under_load() {
    let upgrades = std::env::var("AUTOFS_SURVIVE_UPGRADES").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    Storm::configure();
    let daemon = start(Storm::POINTS);
    Storm::before();
    upgrade();
    let before = (descriptors(daemon.pid()), memory(daemon.pid()));
    let storm = Storm::begin();
    let mut took = Vec::new();
    for _ in 0..upgrades {
        std::thread::sleep(Duration::from_millis(300));
        install_anew();
        let begun = Instant::now();
        upgrade();
        took.push(begun.elapsed());
        assert!(is_new(&daemon));
    }
    std::thread::sleep(Duration::from_millis(300));
    storm.end(&format!("{upgrades} upgrades"));
    took.sort_unstable();
    figure(&format!("an upgrade takes {:?} at the median, {:?} at most", took[took.len() / 2], took[took.len() - 1]));
    let after = (descriptors(daemon.pid()), memory(daemon.pid()));
    figure(&format!("descriptors and KiB of the keeper: before {before:?}, after {after:?}"));
    assert!(after.0 <= before.0, "descriptors of the keeper: {before:?}, {after:?}");
    ends(daemon);
}

/// The old worker waits a second for a mount under way. After that the mount goes on under the new worker.
#[case]
fn with_a_mount_on_its_way() {
    // The second mount is slower than any upgrade.
    for delay in [500, 15_000] {
        site::one_map("slow -fstype=slow :slow\n* -fstype=tmpfs :&\n");
        site::mount_wait(60);
        Rules { delay: vec![("slow".into(), delay)], ..Rules::default() }.set();
        let daemon = start(&["/mnt/auto"]);
        let (mut visitor, before) = (visit::process("/mnt/auto/slow", 0), calls().len());
        wait_for("the mount on its way", secs(5), || (calls().len() > before).then_some(()));
        upgrade();
        if delay > 500 {
            assert_eq!(visitor.try_wait().unwrap(), None, "the upgrade has waited for a slow mount");
        }
        visit::serves("/mnt/auto/a");
        let status = wait_for("an answer", secs(10), || visitor.try_wait().unwrap());
        assert!(status.success(), "{status}");
        assert_eq!(table::at("/mnt/auto/slow").len(), 1);
        ends(daemon);
    }
}

#[case]
fn to_what_is_no_program() {
    site::any_key();
    let mut daemon = start(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    let (pid, old) = (daemon.pid(), worker(&daemon));
    let whole = fs::read("/usr/sbin/automount").unwrap();
    let broken: [&[u8]; 6] = [
        b"",
        b"no program",
        &whole[..64 << 10],
        &whole[..4096],
        &fs::read("/bin/true").unwrap(),
        b"#!/bin/sh\nexec sleep 60\n",
    ];
    for (number, content) in broken.into_iter().enumerate() {
        install(content);
        assert!(matches!(call(Call::Upgrade), Err(ClientError::Refused(_))), "{number}");
        visit::serves(format!("/mnt/auto/{number}"));
    }
    // By a reload, too; the maps are read all the same.
    site::master("/mnt/auto /etc/auto.any\n/mnt/more /etc/auto.any\n");
    install(b"no program");
    daemon.signal(Signal::SIGHUP);
    daemon.ready(&["/mnt/more"]);
    fs::set_permissions(PROGRAM, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    assert!(call(Call::Upgrade).is_err());
    fs::remove_file(PROGRAM).unwrap();
    assert!(call(Call::Upgrade).is_err());
    assert_eq!((daemon.pid(), worker(&daemon)), (pid, old));
    // And then to a good one.
    install_anew();
    upgrade();
    assert!(is_new(&daemon));
    ends(daemon);
}

/// Starts a daemon that serves. The first three workers of the program that replaces it die at their start.
fn whose_successor_dies_at_once() -> Daemon {
    site::any_key();
    install_anew();
    let mut command = command();
    command.env("AUTOFS_FAULT", "start:1:3:2");
    let mut daemon = Daemon::spawn(command);
    daemon.ready(&["/mnt/auto"]);
    wait_for_answer(Path::new(SOCKET), secs(10)).unwrap();
    visit::serves("/mnt/auto/a");
    daemon
}

#[case(lacking: needs::debug_build)]
fn to_a_program_that_does_not_serve() {
    let daemon = whose_successor_dies_at_once();
    let inode = fs::metadata(PROGRAM).unwrap().ino();
    install_anew();
    upgrade();
    assert!(!is_new(&daemon));
    assert_eq!(fs::metadata(format!("/proc/{}/exe", daemon.pid())).unwrap().ino(), inode, "the program before");
    daemon.says("the program before takes over again");
    assert_eq!(fs::read_to_string(format!("/proc/{}/comm", daemon.pid())).unwrap(), "automount\n");
    visit::serves("/mnt/auto/b");
    // The next one is as good as any.
    upgrade();
    assert!(is_new(&daemon));
    visit::serves("/mnt/auto/c");
    ends(daemon);
}

/// The new program dies each time it starts, and the daemon is told to end then: the program before does that.
#[case(lacking: needs::debug_build)]
fn and_the_end_before_it_serves() {
    let mut daemon = whose_successor_dies_at_once();
    install_anew();
    call(Call::Upgrade).unwrap();
    daemon.says("the worker has died");
    daemon.signal(Signal::SIGTERM);
    let status = daemon.end(secs(10));
    assert!(status.success(), "{status}\n{}", daemon.log());
    assert!(daemon.log().contains("the program before takes over again"), "{}", daemon.log());
    assert_eq!(table::below("/mnt/auto"), []);
}

/// While the new program thinks about it, the daemon comes to rest for a checkpoint: then it must not be replaced.
#[case]
fn and_a_checkpoint_at_once() {
    site::any_key();
    let daemon = start(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    let old = worker(&daemon);
    install(b"#!/bin/sh\nsleep 1\nexec /usr/sbin/automount \"$@\"\n");
    let asked = std::thread::spawn(|| call(Call::Upgrade));
    wait_for("the question", secs(5), || thinks().then_some(()));
    call(Call::Quiesce(Quiesce::default())).unwrap();
    let answer = asked.join().unwrap();
    assert!(matches!(&answer, Err(ClientError::Refused(_))), "{answer:?}");
    assert_eq!(worker(&daemon), old);
    call(Call::Resume).unwrap();
    visit::serves("/mnt/auto/b");
    ends(daemon);
}

/// Whether a program is being asked whether it would take over.
fn thinks() -> bool {
    let command = |entry: fs::DirEntry| fs::read(entry.path().join("cmdline")).unwrap_or_default();
    fs::read_dir("/proc").unwrap().flatten().map(command).any(|line| line.starts_with(b"/bin/sh\0/opt/automount\0"))
}

/// What is asked of a worker that is being replaced is refused, or done: never promised and forgotten.
#[case]
fn and_other_wishes_at_once() {
    let (mut refused, mut done) = (0, 0);
    for delay in 0..20 {
        site::any_key();
        let mut daemon = start(&["/mnt/auto"]);
        visit::serves("/mnt/auto/a");
        let asked = std::thread::spawn(|| call(Call::Upgrade));
        std::thread::sleep(Duration::from_millis(delay));
        match call(Call::Detach) {
            Ok(()) => {
                done += 1;
                assert!(daemon.end(secs(10)).success(), "{delay} ms after: promised and forgotten\n{}", daemon.log());
                _ = asked.join();
            }
            Err(_) => {
                refused += 1;
                asked.join().unwrap().unwrap();
                wait_for_answer(Path::new(SOCKET), secs(5)).unwrap();
                visit::serves("/mnt/auto/b");
                ends(daemon);
            }
        }
    }
    println!("detach during an upgrade: {done} times done, {refused} times refused");
}

#[case]
fn and_the_end_at_once() {
    for delay in [0, 5, 10, 20, 50, 100] {
        site::any_key();
        let mut daemon = start(&["/mnt/auto"]);
        visit::serves("/mnt/auto/a");
        let asked = std::thread::spawn(|| call(Call::Upgrade));
        std::thread::sleep(Duration::from_millis(delay));
        daemon.signal(Signal::SIGTERM);
        let status = daemon.end(secs(10));
        assert!(status.success(), "{delay} ms after: {status}\n{}", daemon.log());
        assert_eq!(table::below("/mnt/auto"), [], "{delay} ms after");
        _ = asked.join();
    }
}

/// The new program is executed and cannot read what was handed to it: it goes on as after a crash, in the same process.
#[case]
fn of_which_nothing_arrives() {
    site::any_key();
    site::and_direct(&["/mnt/d"]);
    for text in ["autofs-handover 0\\npid $$\\n", "autofs-handover 2\\npid $$\\njournal 999\\n"] {
        let mut daemon = start(&["/mnt/auto", "/mnt/d"]);
        visit::serves("/mnt/auto/a");
        visit::serves("/mnt/d");
        let (mounts, old) = (ids("tmpfs"), worker(&daemon));
        install(
            format!(
                "#!/bin/sh\n[ \"$1\" = --internal-takes-over ] || printf \"{text}\" >/proc/$$/fd/$AUTOFS_HANDOVER\n\
                 exec /usr/sbin/automount \"$@\"\n"
            )
            .as_bytes(),
        );
        let answer = call(Call::Upgrade);
        let has_retired = matches!(answer, Err(ClientError::Gone | ClientError::Died(_)));
        assert!(has_retired, "the worker before has not retired: {answer:?}");
        daemon.says("what was handed over cannot be");
        daemon.says("re-connected to /mnt/auto,");
        daemon.ready(&["/mnt/auto", "/mnt/d"]);
        wait_for_answer(Path::new(SOCKET), secs(5)).unwrap();
        assert_ne!(worker(&daemon), old);
        assert_eq!(ids("tmpfs"), mounts);
        visit::serves("/mnt/auto/b");
        ends(daemon);
        fs::remove_file("/world/log").unwrap();
    }
}

/// What is mounted stays, and lookups fail at once, until the next daemon comes.
#[track_caller]
fn is_left() {
    let held = ids("tmpfs");
    assert!(held.contains_key(Path::new("/mnt/auto/a")));
    assert_eq!(table::autofs("/mnt/auto").unwrap().option("pipe_ino"), Some("-1"), "catatonic");
    assert!(visit::enter("/mnt/auto/new").is_err());
    let daemon = start(&["/mnt/auto"]);
    daemon.says("re-connected to /mnt/auto,");
    assert_eq!(ids("tmpfs"), held);
    visit::serves("/mnt/auto/new");
    ends(daemon);
}

#[case]
fn detach() {
    site::any_key();
    let mut daemon = start(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    call(Call::Detach).unwrap();
    assert!(daemon.end(secs(10)).success());
    assert!(worker_now(daemon.pid()).is_none());
    is_left();
}

#[case]
fn detach_at_the_end() {
    site::any_key();
    install_anew();
    let mut command = command();
    command.arg("--on-exit=detach");
    let mut daemon = Daemon::spawn(command);
    daemon.ready(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.end(secs(10)).success());
    is_left();
}
