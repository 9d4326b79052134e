//! The worker dies at a given step of an operation: `AUTOFS_FAULT`, in debug builds.
//!
//! Whatever the step, all lookups are served, nothing is mounted twice, and the daemon continues as before.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::common::daemon::Daemon;
use super::common::site;
use super::common::stand_in::Rules;
use super::common::suite::{case, needs};
use super::common::world::put;
use super::common::{secs, table, visit, wait_for};
use super::processes::{worker, worker_now};
use super::restart::ids;

const POINTS: &[&str] = &["/mnt/auto", "/mnt/d"];

/// A daemon whose first worker dies at a point.
fn with_fault(fault: &str) -> Daemon {
    // What one before has said means nothing any more.
    _ = fs::remove_file("/world/log");
    let mut command = Daemon::command();
    command.args(["-f", "-v"]).env("AUTOFS_FAULT", fault);
    Daemon::spawn(command)
}

fn configure(timeout: u64) {
    site::master(&format!("/mnt/auto /etc/auto.one --timeout={timeout}\n/- /etc/auto.direct --timeout={timeout}\n"));
    put(
        "/etc/auto.one",
        "slow -fstype=slow :slow\nbind :/etc\n\
         m / -fstype=tmpfs :r /s -fstype=tmpfs :s /s/deep -fstype=tmpfs :deep /t -fstype=tmpfs :t\n\
         n /x -fstype=tmpfs :x /y/z -fstype=tmpfs :z\n\
         sub -fstype=autofs file:/etc/auto.sub\n* -fstype=tmpfs :&\n",
    );
    put("/etc/auto.sub", "* -fstype=tmpfs :&\n");
    put(
        "/etc/auto.direct",
        "/mnt/d -fstype=tmpfs :d\n/mnt/e -fstype=slow :e\n/mnt/f / -fstype=tmpfs :f /g -fstype=tmpfs :g\n",
    );
    Rules { delay: vec![("slow".into(), 100)], ..Rules::default() }.set();
}

/// Several processes at once go there, and all get in.
#[track_caller]
fn all_get_in(paths: &[&str]) {
    let visitors: Vec<_> =
        paths.iter().flat_map(|path| (0..4).map(move |_| (*path, visit::process(path, 0)))).collect();
    for (path, mut visitor) in visitors {
        let status = wait_for(&format!("an answer at {path}"), secs(15), || visitor.try_wait().unwrap());
        assert!(status.success(), "{path}: {status}");
    }
    paths.iter().for_each(visit::serves);
    once();
}

/// Nothing is mounted twice.
#[track_caller]
fn once() {
    let mut targets: Vec<_> = table::below("/mnt").into_iter().map(|m| (m.target, m.fstype == "autofs")).collect();
    let all = targets.len();
    targets.sort();
    targets.dedup();
    assert_eq!(targets.len(), all, "{:#?}", table::below("/mnt"));
}

/// The worker has died, and the daemon ends as it should.
#[track_caller]
fn ends(daemon: Daemon, died: i32) {
    // It may have answered before, and dies at its next step.
    wait_for("another worker", secs(10), || worker_now(daemon.pid()).filter(|now| *now != died));
    visit::serves("/mnt/auto/after");
    once();
    daemon.stop();
    assert_eq!(table::below("/mnt"), [table::at("/mnt").remove(0)]);
}

/// The first worker dies when one of these paths is looked up. Each path is tried with its own daemon.
fn asked_for(fault: &str, paths: &[&str]) {
    for path in paths {
        configure(600);
        let mut daemon = with_fault(fault);
        daemon.ready(POINTS);
        let first = worker(&daemon);
        all_get_in(&[path]);
        ends(daemon, first);
    }
}

const KINDS: &[&str] = &["/mnt/auto/k", "/mnt/auto/slow", "/mnt/auto/bind", "/mnt/d", "/mnt/e", "/mnt/auto/m/s/deep"];

#[case(seconds: 120, lacking: needs::debug_build)]
fn after_the_packet_is_read() {
    asked_for("read", KINDS);
}

#[case(seconds: 120, lacking: needs::debug_build)]
fn after_the_maps_are_asked() {
    asked_for("resolved", KINDS);
}

#[case(seconds: 120, lacking: needs::debug_build)]
fn after_the_directory_is_made() {
    asked_for("made", &["/mnt/auto/k", "/mnt/auto/slow", "/mnt/auto/bind", "/mnt/auto/m/s"]);
}

#[case(seconds: 120, lacking: needs::debug_build)]
fn after_the_mount() {
    asked_for("mounted", KINDS);
    asked_for("mounted:2", &["/mnt/auto/m/s"]);
}

#[case(seconds: 120, lacking: needs::debug_build)]
fn after_the_answer() {
    asked_for("answered", KINDS);
    asked_for("answered:2", &["/mnt/auto/m/s"]);
}

#[case(seconds: 120, lacking: needs::debug_build)]
fn between_the_offsets() {
    for (fault, path, others) in [
        ("offset", "/mnt/auto/m/t", ["/mnt/auto/m/s", "/mnt/auto/m/s/deep"]),
        ("offset:3", "/mnt/auto/m/s/deep", ["/mnt/auto/m/t", "/mnt/auto/m"]),
        ("offset", "/mnt/auto/n/y/z", ["/mnt/auto/n/x", "/mnt/auto/n/y/z"]),
        ("offset", "/mnt/f/g", ["/mnt/f", "/mnt/f/g"]),
    ] {
        configure(600);
        let mut daemon = with_fault(fault);
        daemon.ready(POINTS);
        let first = worker(&daemon);
        all_get_in(&[path]);
        all_get_in(&others);
        ends(daemon, first);
    }
}

#[case(seconds: 120, lacking: needs::debug_build)]
fn after_the_last_offset() {
    asked_for("offset:2", &["/mnt/auto/m/s", "/mnt/auto/n/x"]);
}

#[case(seconds: 120, lacking: needs::debug_build)]
fn after_a_submount() {
    asked_for("submount", &["/mnt/auto/sub/k"]);
}

/// The first worker dies while it expires what is mounted at these paths.
fn expiring(fault: &str, paths: &[&str]) {
    configure(600);
    let mut daemon = with_fault(fault);
    daemon.ready(POINTS);
    paths.iter().for_each(visit::serves);
    let first = worker(&daemon);
    daemon.signal(Signal::SIGUSR1);
    wait_for("the worker's death", secs(10), || worker_now(daemon.pid()).filter(|now| *now != first));
    if paths.iter().any(|path| path.matches('/').count() > 3) {
        // With its caller the expiry has lost its hold on those who come, and half a tree may be gone: until the next
        // worker has put it together again, what they look for may not be there.
        daemon.says("re-connected to /mnt/auto,");
    }
    all_get_in(paths);
    wait_for("expiry after all", secs(30), || {
        daemon.signal(Signal::SIGUSR1);
        std::thread::sleep(Duration::from_millis(200));
        ids("tmpfs").keys().all(|path| path == Path::new("/mnt")).then_some(())
    });
    all_get_in(paths);
    ends(daemon, first);
}

#[case(seconds: 120, lacking: needs::debug_build)]
fn before_an_unmount() {
    expiring("expiring", &["/mnt/auto/k"]);
    expiring("expiring", &["/mnt/d"]);
    expiring("expiring:2", &["/mnt/auto/m/s/deep"]);
}

#[case(seconds: 120, lacking: needs::debug_build)]
fn after_an_unmount() {
    expiring("unmounted", &["/mnt/auto/k"]);
    expiring("unmounted", &["/mnt/d"]);
    expiring("unmounted", &["/mnt/auto/m/s/deep", "/mnt/auto/m/t"]);
}

#[case(seconds: 120, lacking: needs::debug_build)]
fn in_the_middle_of_a_tree_that_goes() {
    expiring("trigger gone", &["/mnt/auto/m/s/deep", "/mnt/auto/m/t"]);
    expiring("trigger gone:2", &["/mnt/auto/m/s/deep", "/mnt/auto/m/t"]);
    expiring("trigger gone", &["/mnt/auto/n/x", "/mnt/auto/n/y/z"]);
    expiring("trigger gone", &["/mnt/auto/sub/k"]);
}

/// The packet of the expiry is the second that is answered.
#[case(seconds: 120, lacking: needs::debug_build)]
fn before_an_answer_to_an_expiry() {
    expiring("answered:2", &["/mnt/auto/k"]);
    expiring("answered:2", &["/mnt/d"]);
}

/// The first worker dies at the start.
fn starting(fault: &str) {
    configure(600);
    let mut daemon = with_fault(fault);
    daemon.ready(POINTS);
    all_get_in(&["/mnt/auto/k", "/mnt/d", "/mnt/auto/m/s"]);
    daemon.says("worker");
    ends(daemon, 0);
}

#[case(seconds: 120, lacking: needs::debug_build)]
fn after_a_pipe_is_held() {
    starting("hold");
    starting("hold:2");
}

#[case(seconds: 120, lacking: needs::debug_build)]
fn before_autofs_is_mounted() {
    starting("attach");
    starting("attach:2");
}

#[case(seconds: 120, lacking: needs::debug_build)]
fn after_autofs_is_mounted() {
    starting("attached");
    starting("attached:2");
}

/// The first worker dies while it takes over what a daemon before has left.
fn taking_over(fault: &str) {
    configure(600);
    let mut daemon = Daemon::serving(POINTS);
    let paths = ["/mnt/auto/k", "/mnt/d", "/mnt/auto/m/s", "/mnt/auto/sub/k"];
    paths.iter().for_each(visit::serves);
    let before = ids("tmpfs");
    daemon.kill();
    daemon = with_fault(fault);
    wait_for("another worker", secs(10), || daemon.log().contains("goes on").then_some(()));
    daemon.ready(POINTS);
    daemon.says("re-connected to /mnt/auto,");
    daemon.says("re-connected to /mnt/d,");
    assert_eq!(ids("tmpfs"), before);
    all_get_in(&paths);
    all_get_in(&["/mnt/auto/m/t", "/mnt/auto/sub/l"]);
    let now = ids("tmpfs");
    assert!(before.iter().all(|(path, id)| now.get(path) == Some(id)));
    ends(daemon, 0);
}

#[case(seconds: 120, lacking: needs::debug_build)]
fn between_catatonic_and_the_new_pipe() {
    taking_over("catatonic");
    taking_over("catatonic:2");
}

#[case(seconds: 120, lacking: needs::debug_build)]
fn after_the_take_over() {
    taking_over("taken over");
    taking_over("taken over:2");
}

#[case(seconds: 120, lacking: needs::debug_build)]
fn while_it_adopts() {
    taking_over("adopted");
    taking_over("adopted:2");
}

/// The first worker dies in a reload that takes a line away and brings another.
fn reloading(fault: &str) {
    configure(600);
    put("/etc/auto.two", "* -fstype=tmpfs :&\n");
    site::master("/mnt/auto /etc/auto.one\n/mnt/old /etc/auto.two\n/mnt/busy /etc/auto.two\n/- /etc/auto.direct\n");
    let mut daemon = with_fault(fault);
    daemon.ready(&["/mnt/auto", "/mnt/old", "/mnt/busy", "/mnt/d"]);
    for path in ["/mnt/auto/k", "/mnt/old/k", "/mnt/busy/k", "/mnt/d"] {
        visit::serves(path);
    }
    let held = File::create("/mnt/busy/k/file").unwrap();
    let before = ids("tmpfs");
    site::master("/mnt/auto /etc/auto.one\n/mnt/new /etc/auto.two\n/- /etc/auto.direct\n");
    put("/etc/auto.direct", "/mnt/d -fstype=tmpfs :d\n/mnt/h -fstype=tmpfs :h\n");
    let first = worker(&daemon);
    daemon.signal(Signal::SIGHUP);
    wait_for("the worker's death", secs(10), || worker_now(daemon.pid()).filter(|now| *now != first));
    daemon.ready(&["/mnt/new", "/mnt/h"]);
    wait_for("the end of what is not wanted", secs(10), || table::below("/mnt/old").is_empty().then_some(()));
    for path in ["/mnt/auto/k", "/mnt/busy/k", "/mnt/d"] {
        assert_eq!(ids("tmpfs").get(Path::new(path)), before.get(Path::new(path)), "{path}");
    }
    all_get_in(&["/mnt/auto/l", "/mnt/new/k", "/mnt/d", "/mnt/h"]);
    drop(held);
    ends(daemon, first);
}

#[case(seconds: 120, lacking: needs::debug_build)]
fn in_a_reload() {
    reloading("reload");
}

#[case(seconds: 120, lacking: needs::debug_build)]
fn in_a_reload_while_it_attaches() {
    reloading("attach:7");
    reloading("attached:7");
}

#[case(seconds: 120, lacking: needs::debug_build)]
fn in_a_reload_while_it_detaches() {
    reloading("expiring");
    reloading("unmounted");
}

/// What three workers do not survive is refused, and nothing else.
#[case(seconds: 120, lacking: needs::debug_build)]
fn of_a_request_again_and_again() {
    configure(600);
    let mut daemon = with_fault("resolved:1:3");
    daemon.ready(POINTS);
    let visitor = std::thread::spawn(|| visit::enter_now(Path::new("/mnt/auto/poison")));
    wait_for("an answer", secs(20), || visitor.is_finished().then_some(()));
    assert_eq!(visitor.join().unwrap().unwrap_err().raw_os_error(), Some(Errno::EIO as i32));
    daemon.says("3 workers died while serving request");
    all_get_in(&["/mnt/auto/k", "/mnt/d"]);
    // It was not its fault.
    all_get_in(&["/mnt/auto/poison"]);
    ends(daemon, 0);
}
