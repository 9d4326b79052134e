//! A worker that does nothing any more is noticed, killed and replaced.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::common::daemon::Daemon;
use super::common::suite::{case, needs};
use super::common::{secs, site, visit, wait_for};
use super::processes::{worker, worker_now};

/// Waits until another worker has taken the place of this one. The bound is some 20 seconds on an idle machine.
#[track_caller]
fn is_replaced(daemon: &Daemon, old: i32) {
    wait_for("another worker", secs(100), || worker_now(daemon.pid()).filter(|new| *new != old));
}

#[case(seconds: 150)]
fn stopped_while_it_waits() {
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    let old = worker(&daemon);
    kill(Pid::from_raw(old), Signal::SIGSTOP).unwrap();
    let mut visitor = visit::process("/mnt/auto/b", 0);
    is_replaced(&daemon, old);
    let status = wait_for("an answer", secs(30), || visitor.try_wait().unwrap());
    assert!(status.success(), "{status}");
    daemon.says("the worker hangs (state T)");
    daemon.stop();
}

/// A stop that ends in time is no reason to replace the worker.
#[case(seconds: 60)]
fn stopped_for_a_moment() {
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let old = worker(&daemon);
    kill(Pid::from_raw(old), Signal::SIGSTOP).unwrap();
    std::thread::sleep(secs(7));
    kill(Pid::from_raw(old), Signal::SIGCONT).unwrap();
    visit::serves("/mnt/auto/a");
    std::thread::sleep(secs(7));
    visit::serves("/mnt/auto/b");
    assert_eq!(worker(&daemon), old);
    daemon.stop();
}

#[track_caller]
fn hangs_in_a_request(fault: &str) {
    site::any_key();
    let mut command = Daemon::command();
    command.args(["-f", "-v"]).env("AUTOFS_FAULT", fault);
    let mut daemon = Daemon::spawn(command);
    daemon.ready(&["/mnt/auto"]);
    let old = worker(&daemon);
    let mut visitor = visit::process("/mnt/auto/a", 0);
    is_replaced(&daemon, old);
    let status = wait_for("an answer", secs(30), || visitor.try_wait().unwrap());
    assert!(status.success(), "{status}");
    daemon.says("the worker hangs");
    daemon.stop();
}

#[case(seconds: 150, lacking: needs::debug_build)]
fn waits_for_ever_in_a_request() {
    hangs_in_a_request("read:wait");
}

#[case(seconds: 150, lacking: needs::debug_build)]
fn spins_in_a_request() {
    hangs_in_a_request("read:spin");
}
