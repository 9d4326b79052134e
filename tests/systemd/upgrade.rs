//! A new version of the program.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use crate::common::suite::case;
use crate::common::{secs, table, visit, wait_for};
use crate::lookups::Lookups;
use crate::service::{self, UNIT, Users, ctl, is_active, property};

/// The installed program.
pub const PROGRAM: &str = "/usr/sbin/automount";

/// Another file under the same name, as dpkg(1) and rpm(8) do it.
pub fn replace(content: &[u8]) {
    let new = format!("{PROGRAM}.new");
    fs::write(&new, content).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(new, PROGRAM).unwrap();
}

/// Does the process run the program that is installed?
pub fn is_installed(pid: i32) -> bool {
    let file = |path: &str| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    file(&format!("/proc/{pid}/exe")) == file(PROGRAM)
}

/// Waits until keeper and worker are of the new program, in the same process for systemd.
#[track_caller]
pub fn is_replaced(pid: i32, old: i32) {
    wait_for("the new program", secs(10), || is_installed(pid).then_some(()));
    let worker = wait_for("its worker", secs(10), || Some(service::worker(pid)).filter(|worker| *worker != old));
    assert!(is_installed(worker));
    wait_for("the end of the old worker", secs(10), || (!fs::exists(format!("/proc/{old}")).unwrap()).then_some(()));
    is_active(pid);
    assert_eq!(property("NRestarts"), "0");
}

#[case]
fn a_reload_after_the_file_is_replaced() {
    let pid = service::start();
    let mut users = Users::begin();
    let ids = service::ids();
    let content = fs::read(PROGRAM).unwrap();
    let lookups = Lookups::begin();
    for n in 0..5 {
        lookups.go_on();
        let old = service::worker(pid);
        replace(&content);
        assert!(!is_installed(pid));
        ctl(&["daemon-reload"]);
        ctl(&["reload", UNIT]);
        is_replaced(pid, old);
        visit::serves(format!("/auto/after{n}"));
    }
    lookups.go_on();
    lookups.end("upgrades by systemctl reload");
    assert_eq!(service::ids(), ids);
    users.live();
    users.end();
    // What follows is as ever: a reload, an end.
    service::master("/more /etc/auto.few\n");
    ctl(&["reload", UNIT]);
    wait_for("/more", secs(10), || table::autofs("/more").map(drop));
    ctl(&["stop", UNIT]);
    assert_eq!(property("Result"), "success");
    assert_eq!((table::below("/auto"), table::below("/d")), (vec![], vec![]));
}

#[case]
fn a_program_that_cannot_take_over() {
    let pid = service::start();
    let worker = service::worker(pid);
    let content = fs::read(PROGRAM).unwrap();
    let lookups = Lookups::begin();
    replace(b"#!/bin/sh\nexit 1\n");
    service::master("/more /etc/auto.few\n");
    ctl(&["reload", UNIT]);
    service::says("cannot take over");
    // The maps are read all the same.
    wait_for("/more", secs(10), || table::autofs("/more").map(drop));
    is_active(pid);
    assert_eq!(service::worker(pid), worker);
    replace(&content);
    ctl(&["reload", UNIT]);
    is_replaced(pid, worker);
    lookups.end("a program that cannot take over, and one that can");
}
