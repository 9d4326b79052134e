//! Several daemons side by side.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use super::common::daemon::Daemon;
use super::common::suite::case;
use super::common::world::put;
use super::common::{output, secs, table, visit, wait_for};

/// Runs autofsctl. Returns whether it succeeds, and what it prints.
fn ctl(arguments: &[&str]) -> (bool, String) {
    let said = output(Command::new("autofsctl").args(arguments), secs(15)).expect("an answer");
    (said.status.success(), String::from_utf8(said.stdout).unwrap() + &String::from_utf8(said.stderr).unwrap())
}

fn site() {
    put("/etc/auto.any", "* -fstype=tmpfs,size=64k :k&\n");
    put("/etc/auto.master", "/mnt/auto /etc/auto.any\n");
    put("/etc/auto.master@one", "/mnt/one /etc/auto.any\n");
    put("/etc/autofs.toml", "[[mount_points]]\npath = \"/mnt/own\"\nmap = \"/etc/auto.any\"\n");
}

fn start(arguments: &[&str], points: &[&str]) -> Daemon {
    let mut daemon = Daemon::start(["-f", "-v"].iter().chain(arguments));
    daemon.ready(points);
    daemon
}

#[case(seconds: 90)]
fn each_serves_is_upgraded_and_ends_by_itself() {
    site();
    put("/etc/auto.other", "/mnt/other /etc/auto.any\n");
    let nameless = start(&[], &["/mnt/auto", "/mnt/own"]);
    let one = start(&["--instance", "one"], &["/mnt/one"]);
    let two = start(&["--instance=two", "-p", "/run/two.pid", "/etc/auto.other"], &["/mnt/other"]);
    for path in ["/mnt/auto/a", "/mnt/own/a", "/mnt/one/a", "/mnt/other/a"] {
        visit::serves(path);
    }
    let pid = |arguments: &[&str]| {
        let (success, said) = ctl(&[arguments, &["ping"]].concat());
        assert!(success, "{said}");
        said.trim().rsplit(' ').next().unwrap().parse::<i32>().unwrap()
    };
    assert_eq!(pid(&[]), nameless.pid());
    assert_eq!(pid(&["--instance", "one"]), one.pid());
    assert_eq!(pid(&["--instance", "two"]), two.pid());
    assert_eq!(fs::read_to_string("/run/two.pid").unwrap().trim(), two.pid().to_string());
    let (_, mounts) = ctl(&["--instance", "one", "mounts"]);
    assert!(
        mounts.contains("/mnt/one/a") && !mounts.contains("/mnt/auto") && !mounts.contains("/mnt/other"),
        "{mounts}"
    );
    let again = output(Daemon::command().args(["-f", "--instance", "one"]), secs(10)).unwrap();
    assert!(String::from_utf8(again.stderr).unwrap().contains("already running") && !again.status.success());
    let (_, dump) = {
        let said = output(Daemon::command().args(["-m", "--instance", "one"]), secs(15)).unwrap();
        (said.status, String::from_utf8(said.stdout).unwrap())
    };
    assert!(dump.contains("/mnt/one") && !dump.contains("/mnt/auto") && !dump.contains("/mnt/own"), "{dump}");

    // An upgrade is that of one of them.
    let workers = (nameless.worker(), one.worker(), two.worker());
    let (success, said) = ctl(&["--instance", "one", "upgrade"]);
    assert!(success, "{said}");
    wait_for("another worker", secs(10), || (one.worker() != workers.1).then_some(()));
    assert_eq!((nameless.worker(), two.worker()), (workers.0, workers.2));
    visit::serves("/mnt/one/b");
    assert_eq!(pid(&["--instance", "one"]), one.pid());

    // And so is an end.
    two.stop();
    assert!(table::autofs("/mnt/other").is_none() && Path::new("/run/autofs@one/control").exists());
    assert!(!Path::new("/run/autofs@two/control").exists() && !Path::new("/run/two.pid").exists());
    nameless.stop();
    assert!(table::autofs("/mnt/auto").is_none() && !Path::new("/run/autofs-running").exists());
    visit::serves("/mnt/one/c");
    assert!(table::served("/mnt/one/a"), "it was mounted all the time");
    assert!(!ctl(&["ping"]).0);
    one.stop();
    let left: Vec<_> = fs::read_dir("/run").unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("autofs")), "{left:?}");
}

#[case(seconds: 90)]
fn a_start_or_take_over_takes_no_mounts_of_another() {
    site();
    put("/etc/auto.other", "/mnt/other /etc/auto.any\n/mnt/one /etc/auto.any\n");
    let one = start(&["--instance", "one"], &["/mnt/one"]);
    visit::serves("/mnt/one/a");
    let held = fs::File::open("/mnt/one/a").unwrap();
    let owner = one.pid().to_string();

    // A map that names the mount point of a living one.
    let two = start(&["--instance", "two", "/etc/auto.other"], &["/mnt/other"]);
    two.says("/mnt/one is served by another automounter");
    assert_eq!(table::autofs("/mnt/one").unwrap().option("pgrp"), Some(&*owner));
    two.stop();
    visit::serves("/mnt/one/b");

    // One that is dead: others start, are killed, take over what is theirs, reload and end.
    one.kill();
    let nameless = start(&[], &["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    nameless.kill();
    let mut nameless = start(&[], &["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    nameless.signal(Signal::SIGHUP);
    let (_, said) = ctl(&["reload"]);
    assert!(!said.contains("/mnt/one"), "{said}");
    nameless.stop();
    assert_eq!(table::autofs("/mnt/one").unwrap().option("pgrp"), Some(&*owner), "as its daemon has left it");
    assert!(table::served("/mnt/one/a"));

    let one = start(&["--instance", "one"], &["/mnt/one"]);
    assert!(table::served("/mnt/one/a"));
    visit::serves("/mnt/one/c");
    drop(held);
    one.stop();
}

/// A user may not look at the descriptors of the processes of root. Mounts of a daemon that runs are not left.
#[case]
fn mounts_of_a_running_instance_are_not_called_left() {
    site();
    let one = start(&["--instance", "one"], &["/mnt/one"]);
    for uid in [0, 65534] {
        let mut command = Command::new("autofsctl");
        command.arg("status").uid(uid).gid(uid);
        let said = output(&mut command, secs(15)).expect("an answer");
        let said = String::from_utf8(said.stdout).unwrap() + &String::from_utf8(said.stderr).unwrap();
        assert!(!said.contains("left by process"), "{uid}: {said}");
    }
    one.kill();
    let mut command = Command::new("autofsctl");
    command.arg("status").uid(65534).gid(65534);
    let said = output(&mut command, secs(15)).expect("an answer");
    assert!(String::from_utf8(said.stderr).unwrap().contains("1 autofs mount is left by process"));
}
