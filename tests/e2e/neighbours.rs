//! Autofs mounts of other programs, and other namespaces.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use super::common::daemon::Daemon;
use super::common::site;
use super::common::suite::case;
use super::common::world::put;
use super::common::{secs, table, visit, wait_for};

/// `pgrp=0` says nothing about whether it lives.
#[case]
fn a_master_outside_of_the_pid_namespace() {
    site::any_key();
    let first = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    put("/etc/second.master", "/mnt/auto /etc/auto.any\n/mnt/other /etc/auto.any\n");
    let out = fs::File::create("/world/second").unwrap();
    let mut second = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child", "automount", "-f", "-v", "-C", "/etc/second.master"])
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(out.try_clone().unwrap())
        .stderr(out)
        .spawn()
        .unwrap();
    let said = || fs::read_to_string("/world/second").unwrap();
    let there =
        || table::autofs("/mnt/other").or_else(|| second.try_wait().unwrap().map(|s| panic!("{s}: {}", said())));
    wait_for("the second master", secs(10), there);
    // Its own mount cannot be used here: the kernel returns ENOENT to processes without a pid in the namespace of the owner.
    assert!(visit::enter("/mnt/other/a").is_err());
    // Untouched, and the reason is given.
    visit::serves("/mnt/auto/b");
    assert_eq!(table::autofs("/mnt/auto").unwrap().option("pgrp"), Some(first.pid().to_string().as_str()));
    wait_for("the reason in the second log", secs(10), || said().contains("/mnt/auto").then_some(()));
    _ = second.kill();
    _ = second.wait();
    first.stop();
}

#[case]
fn an_autofs_mount_nobody_owns() {
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    daemon.kill();
    // Catatonic by the first access.
    _ = visit::enter("/mnt/auto/b");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    assert!(table::served("/mnt/auto/a"));
    visit::serves("/mnt/auto/b");
    daemon.stop();
    assert_eq!(table::below("/mnt/auto"), []);
}

#[case]
fn an_orphan_that_is_not_configured() {
    site::any_key();
    site::master("/mnt/auto /etc/auto.any\n/mnt/old /etc/auto.any\n");
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/old"]);
    visit::serves("/mnt/old/a");
    daemon.kill();
    site::master("/mnt/auto /etc/auto.any\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    assert!(table::served("/mnt/old/a"), "not ours to take");
    daemon.stop();
}

#[case]
fn a_visitor_in_another_pid_namespace() {
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let mut visitor = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child", "stat", "-L", "/mnt/auto/a/."])
        .process_group(0)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let status = wait_for("an answer", secs(10), || visitor.try_wait().unwrap());
    assert!(status.success(), "{status}");
    daemon.stop();
}

#[case]
fn two_masters_side_by_side() {
    site::any_key();
    put("/etc/second.master", "/mnt/other /etc/auto.any --timeout=1\n");
    let first = Daemon::serving(&["/mnt/auto"]);
    let mut second = Daemon::start(["-f", "-v", "-C", "/etc/second.master"]);
    second.ready(&["/mnt/other"]);
    for n in 0..20 {
        visit::serves(format!("/mnt/auto/{n}"));
        visit::serves(format!("/mnt/other/{n}"));
    }
    second.signal(Signal::SIGUSR1);
    wait_for("the second's mounts gone", secs(10), || (table::below("/mnt/other").len() == 1).then_some(()));
    assert_eq!(table::below("/mnt/auto").len(), 21);
    second.stop();
    first.stop();
}
