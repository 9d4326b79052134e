//! The main process or the worker is killed.

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::common::suite::case;
use crate::common::{secs, wait_for};
use crate::lookups::Lookups;
use crate::service::{self, Users, ctl, is_active, main_pid, property, worker};

/// Kills a process.
#[track_caller]
pub fn kill(pid: i32) {
    nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

/// Waits until systemd has started the service anew for the `n`th time; its main process.
#[track_caller]
pub fn comes_back(n: u32) -> i32 {
    wait_for("the restart by systemd", secs(20), || {
        (property("NRestarts") == n.to_string() && property("ActiveState") == "active").then_some(())
    });
    main_pid()
}

#[case]
fn of_the_main_process() {
    let mut pid = service::start();
    let mut users = Users::begin();
    let ids = service::ids();
    for n in 1..=3 {
        kill(pid);
        let new = comes_back(n);
        assert_ne!(new, pid);
        pid = new;
        users.are_served_as_before(pid, &ids, n);
    }
    users.end();
    ctl(&["stop", service::UNIT]);
    assert_eq!(property("Result"), "success");
}

#[case]
fn of_the_worker() {
    let pid = service::start();
    let lookups = Lookups::begin();
    for _ in 0..5 {
        let old = worker(pid);
        kill(old);
        wait_for("another worker", secs(10), || (worker(pid) != old).then_some(()));
        lookups.go_on();
    }
    lookups.end("deaths of workers");
    is_active(pid);
    assert_eq!(property("NRestarts"), "0");
}
