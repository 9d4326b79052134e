//! Mounts left by a dead daemon are taken over: by and from autofs-rs and automount.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;

use super::common::daemon::Daemon;
use super::common::site;
use super::common::suite::{case, needs};
use super::common::world::{THEIRS, put};
use super::common::{secs, table, visit, wait_for};
use super::restart::ids;

fn theirs() -> Daemon {
    let mut command = Command::new(THEIRS);
    command.arg0("automount").args(["-f", "-v"]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let mut daemon = Daemon::spawn(command);
    daemon.ready(&["/mnt/auto", "/mnt/d"]);
    daemon
}

fn ours() -> Daemon {
    Daemon::serving(&["/mnt/auto", "/mnt/d"])
}

/// Ours, when it has taken over all that it has found.
fn ours_again() -> Daemon {
    let daemon = ours();
    for path in ["/mnt/auto", "/mnt/d"] {
        daemon.says(&format!("re-connected to {path},"));
    }
    daemon
}

/// An indirect map with a multi-mount, and a direct one.
fn configure(timeout: u64) {
    site::master(&format!("/mnt/auto /etc/auto.one --timeout={timeout}\n/- /etc/auto.direct --timeout={timeout}\n"));
    put(
        "/etc/auto.one",
        "a -fstype=tmpfs :a\nb -fstype=tmpfs :b\nm / -fstype=tmpfs :r /s -fstype=tmpfs :s /t -fstype=tmpfs :t\n",
    );
    put("/etc/auto.direct", "/mnt/d -fstype=tmpfs :d\n/mnt/e -fstype=tmpfs :e\n");
}

/// Visits some of it; the rest is visited by the successor.
fn visit_some() {
    for path in ["/mnt/auto/a", "/mnt/auto/m/s", "/mnt/d"] {
        visit::serves(path);
    }
}

/// Checks that the successor has kept the existing mounts and mounts others.
fn visit_all(before: &std::collections::BTreeMap<std::path::PathBuf, u32>) {
    for path in ["/mnt/auto/a", "/mnt/auto/b", "/mnt/auto/m/s", "/mnt/auto/m/t", "/mnt/d", "/mnt/e"] {
        visit::serves(path);
    }
    let now = ids("tmpfs");
    for (path, id) in before {
        assert_eq!(now.get(path), Some(id), "{}", path.display());
    }
    for path in now.keys() {
        assert_eq!(table::at(path).iter().filter(|m| m.fstype == "tmpfs").count(), 1, "{}", path.display());
    }
}

#[case(lacking: needs::theirs)]
fn theirs_after_a_crash() {
    configure(600);
    let daemon = theirs();
    visit_some();
    let before = ids("tmpfs");
    daemon.kill();
    let daemon = ours_again();
    visit_all(&before);
    daemon.stop();
    assert_eq!(table::below("/mnt"), [table::at("/mnt").remove(0)]);
}

#[case(lacking: needs::theirs)]
fn theirs_left_busy() {
    configure(600);
    let mut daemon = theirs();
    visit_some();
    let held = ["/mnt/auto/a/f", "/mnt/auto/m/s/f", "/mnt/d/f"].map(|path| File::create(path).unwrap());
    let before = ids("tmpfs");
    daemon.signal(Signal::SIGTERM);
    daemon.end(secs(20));
    let daemon = ours_again();
    visit_all(&before);
    drop(held);
    daemon.stop();
    assert_eq!(table::below("/mnt"), [table::at("/mnt").remove(0)]);
}

#[case(lacking: needs::theirs)]
fn ours_by_theirs() {
    configure(600);
    let daemon = ours();
    visit_some();
    let before = ids("tmpfs");
    daemon.kill();
    let mut daemon = theirs();
    visit_all(&before);
    daemon.signal(Signal::SIGTERM);
    daemon.end(secs(20));
}

#[case(lacking: needs::theirs)]
fn ours_left_busy_by_theirs() {
    configure(600);
    let daemon = ours();
    visit_some();
    let held = ["/mnt/auto/a/f", "/mnt/auto/m/s/f", "/mnt/d/f"].map(|path| File::create(path).unwrap());
    let before = ids("tmpfs");
    daemon.stop();
    let mut daemon = theirs();
    visit_all(&before);
    drop(held);
    daemon.signal(Signal::SIGTERM);
    daemon.end(secs(20));
}

#[case(seconds: 90)]
fn trees_and_submounts_expire_afterwards() {
    site::master("/mnt/auto /etc/auto.one --timeout=2\n/- /etc/auto.direct --timeout=2\n");
    put(
        "/etc/auto.one",
        "sub -fstype=autofs file:/etc/auto.sub\n\
         m / -fstype=tmpfs :r /s -fstype=tmpfs :s /s/deep -fstype=tmpfs :deep /t -fstype=tmpfs :t\n\
         n /x -fstype=tmpfs :x /y/z -fstype=tmpfs :z\n",
    );
    put("/etc/auto.sub", "k -fstype=tmpfs :k\nl -fstype=tmpfs :l\n");
    put("/etc/auto.direct", "/mnt/d / -fstype=tmpfs :one /sub -fstype=tmpfs :sub\n");
    let daemon = ours();
    let all = ["/mnt/auto/sub/k", "/mnt/auto/m/s/deep", "/mnt/auto/n/y/z", "/mnt/d/sub"];
    all.iter().for_each(visit::serves);
    let before = ids("tmpfs");
    daemon.kill();
    let daemon = ours_again();
    let now = ids("tmpfs");
    assert!(before.iter().all(|(path, id)| now.get(path) == Some(id)));
    for path in ["/mnt/auto/sub/l", "/mnt/auto/m/t", "/mnt/auto/n/x"] {
        visit::serves(path);
    }
    let bare = || ["/mnt/auto", "/mnt/d"].iter().all(|path| table::below(path).len() == 1);
    wait_for("expiry of all of it", secs(40), || bare().then_some(()));
    all.iter().for_each(visit::serves);
    daemon.stop();
    assert_eq!(table::below("/mnt"), [table::at("/mnt").remove(0)]);
}

/// A trigger has gone meanwhile, and where it stood there is a file, for a while.
#[case]
fn a_tree_that_cannot_be_mended_at_once() {
    configure(600);
    let daemon = ours();
    visit_some();
    let before = ids("tmpfs");
    daemon.kill();
    umount2("/mnt/auto/m/t", MntFlags::MNT_DETACH).unwrap();
    fs::remove_dir("/mnt/auto/m/t").unwrap();
    File::create("/mnt/auto/m/t").unwrap();
    let daemon = ours_again();
    daemon.says("/mnt/auto/m/t: no trigger");
    visit::serves("/mnt/auto/m/s");
    fs::remove_file("/mnt/auto/m/t").unwrap();
    wait_for("the trigger", secs(15), || (!table::at("/mnt/auto/m/t").is_empty()).then_some(()));
    visit_all(&before);
    daemon.stop();
    assert_eq!(table::below("/mnt"), [table::at("/mnt").remove(0)]);
}

/// Mounts that the kernel has set catatonic because their pipe had no reader are taken over.
#[case]
fn what_is_catatonic() {
    configure(600);
    let daemon = ours();
    visit_some();
    let before = ids("tmpfs");
    daemon.kill();
    // The first lookup that finds no reader makes the mount catatonic, at the price of a SIGPIPE.
    let mut visitor = visit::process("/mnt/auto/b", 0);
    wait_for("the end of the visitor", secs(5), || visitor.try_wait().unwrap());
    assert_eq!(table::autofs("/mnt/auto").unwrap().option("pipe_ino"), Some("-1"));
    let daemon = ours_again();
    visit_all(&before);
    std::thread::sleep(Duration::from_millis(50));
    daemon.stop();
    assert_eq!(table::below("/mnt"), [table::at("/mnt").remove(0)]);
}
