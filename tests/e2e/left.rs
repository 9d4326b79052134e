//! What a dead daemon or worker has left and no map names any more.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::common::daemon::Daemon;
use super::common::site;
use super::common::suite::case;
use super::common::world::put;
use super::common::{output, secs, table, visit, wait_for};

/// Returns the exit status of `autofsctl` with these arguments, and all that it prints.
fn ctl(arguments: &[&str]) -> (i32, String) {
    let said = output(Command::new("autofsctl").args(arguments), secs(15)).expect("an answer of autofsctl");
    let text = [said.stdout, said.stderr].concat();
    (said.status.code().unwrap(), String::from_utf8_lossy(&text).into_owned())
}

fn is_there(path: &str) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Three mount points whose directories are made, below `/mnt/made`.
fn three() {
    put("/etc/auto.any", "* -fstype=tmpfs,size=64k :k&\n");
    site::master("/mnt/made/auto /etc/auto.any\n");
    site::and_direct(&["/mnt/made/old/dir", "/mnt/made/new/dir"]);
}

/// Only one of the three is left in the maps.
fn one() {
    site::master("");
    site::and_direct(&["/mnt/made/new/dir"]);
}

/// Autofs mounts on which nothing is mounted, and directories.
#[case]
fn idle_mounts_and_directories_of_a_dead_daemon() {
    three();
    let daemon = Daemon::serving(&["/mnt/made/auto", "/mnt/made/old/dir", "/mnt/made/new/dir"]);
    for path in ["/mnt/made/auto/x", "/mnt/made/old/dir"] {
        visit::serves(path);
    }
    daemon.kill();
    for path in ["/mnt/made/auto/x", "/mnt/made/old/dir"] {
        umount2(path, MntFlags::empty()).unwrap();
    }
    one();
    let daemon = Daemon::serving(&["/mnt/made/new/dir"]);
    wait_for("the end of what is left", secs(10), || {
        (!is_there("/mnt/made/auto") && !is_there("/mnt/made/old")).then_some(())
    });
    assert_eq!(table::below("/mnt/made").len(), 1, "{:?}", table::below("/mnt/made"));
    visit::serves("/mnt/made/new/dir");
    daemon.stop();
    assert!(!is_there("/mnt/made"));
}

/// What is mounted there stays until `clean` is called.
#[case]
fn mounts_of_a_dead_daemon_on_request() {
    three();
    let daemon = Daemon::serving(&["/mnt/made/auto", "/mnt/made/old/dir", "/mnt/made/new/dir"]);
    for path in ["/mnt/made/auto/x", "/mnt/made/old/dir"] {
        visit::serves(path);
    }
    daemon.kill();
    let busy = fs::File::open("/mnt/made/auto/x").unwrap();
    one();
    let daemon = Daemon::serving(&["/mnt/made/new/dir"]);
    for path in ["/mnt/made/auto", "/mnt/made/old/dir"] {
        assert!(table::autofs(path).is_some());
        // A daemon that has just begun does not wait for the look at what is left.
        wait_for(&format!("{path} in the status"), secs(10), || {
            let (_, status) = ctl(&["status"]);
            let is_left = |line: &str| line.starts_with(path) && line.contains("left by a daemon that has ended");
            status.lines().any(is_left).then_some(())
        });
    }
    let (code, said) = ctl(&["clean"]);
    assert!(code == 5 && said.contains("/mnt/made/auto/x"), "{code}: {said}");
    assert!(table::served("/mnt/made/auto/x") && !is_there("/mnt/made/old"));
    drop(busy);
    assert_eq!(ctl(&["clean"]).0, 0);
    assert!(!is_there("/mnt/made/auto") && !ctl(&["status"]).1.contains("NOT SERVED"));
    visit::serves("/mnt/made/new/dir");
    daemon.stop();
    assert!(!is_there("/mnt/made"));
}

/// The next worker removes what the one before has made.
#[case]
fn directories_of_a_dead_worker() {
    three();
    let daemon = Daemon::serving(&["/mnt/made/auto", "/mnt/made/old/dir", "/mnt/made/new/dir"]);
    // What is served is on record.
    for path in ["/mnt/made/auto/a", "/mnt/made/old/dir", "/mnt/made/new/dir"] {
        visit::serves(path);
    }
    let worker = daemon.worker();
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    wait_for("another worker", secs(10), || (daemon.worker() != worker).then_some(()));
    visit::serves("/mnt/made/auto/x");
    daemon.stop();
    assert!(!is_there("/mnt/made") && Path::new("/mnt").is_dir());
}

/// Directories that were there before, or in which something is, stay.
#[case]
fn directories_of_others() {
    fs::create_dir_all("/mnt/made/old").unwrap();
    three();
    let daemon = Daemon::serving(&["/mnt/made/auto", "/mnt/made/old/dir", "/mnt/made/new/dir"]);
    // What is served is on record.
    for path in ["/mnt/made/auto/x", "/mnt/made/old/dir", "/mnt/made/new/dir"] {
        visit::serves(path);
    }
    daemon.kill();
    for path in ["/mnt/made/auto/x", "/mnt/made/old/dir"] {
        umount2(path, MntFlags::empty()).unwrap();
    }
    put("/mnt/made/new/file", "");
    one();
    let daemon = Daemon::serving(&["/mnt/made/new/dir"]);
    wait_for("the end of what is left", secs(10), || (!is_there("/mnt/made/auto")).then_some(()));
    wait_for("the end of the other one", secs(10), || (!is_there("/mnt/made/old/dir")).then_some(()));
    daemon.stop();
    assert!(is_there("/mnt/made/old") && is_there("/mnt/made/new/file") && !is_there("/mnt/made/new/dir"));
}
