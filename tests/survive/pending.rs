//! A whole daemon dies with an unanswered request on a direct or offset mount. Every process that walks there then waits in
//! the kernel for an answer that never comes. The next daemon must not be one of them.

use std::process::Child;
use std::time::{Duration, Instant};

use super::common::daemon::Daemon;
use super::common::site;
use super::common::stand_in::{Rules, calls};
use super::common::suite::case;
use super::common::world::{figure, put};
use super::common::{secs, table, visit, wait_for};

/// `/mnt/auto`, and direct mounts that are slow.
fn configure() {
    site::any_key();
    site::and_direct(&["/mnt/q"]);
    let slow: String = (0..20).map(|n| format!("/mnt/p{n} -fstype=slow :slow{n}\n")).collect();
    put("/etc/auto.direct", format!("{slow}/mnt/q -fstype=tmpfs :q\n"));
    slowly();
}

fn slowly() {
    Rules { delay: vec![("slow".into(), 60_000)], ..Rules::default() }.set();
}

/// Starts a lookup at each of these paths, kills the daemon, and returns the waiting processes.
fn left_waiting(daemon: Daemon, paths: &[String]) -> Vec<Child> {
    let waiting = paths.iter().map(|path| visit::process(path, 0)).collect();
    wait_for("mounts on their way", secs(10), || (calls().len() == paths.len()).then_some(()));
    daemon.kill();
    Rules::default().set();
    waiting
}

fn is_served(daemon: &Daemon, path: &str) -> bool {
    table::autofs(path).is_some_and(|m| m.option("pgrp") == Some(&daemon.pid().to_string()))
}

/// Starts a daemon and checks that it serves everything that can be served.
fn start() -> Daemon {
    let begun = Instant::now();
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/q"]);
    visit::serves("/mnt/auto/a");
    visit::serves("/mnt/q");
    let took = begun.elapsed();
    figure(&format!("everything else is served after {:.0} ms", took.as_secs_f64() * 1000.0));
    daemon
}

fn end(waiting: Vec<Child>) {
    for mut visitor in waiting {
        assert!(visitor.try_wait().unwrap().is_none(), "still waiting");
        visitor.kill().unwrap();
        visitor.wait().unwrap();
    }
}

#[case]
fn a_direct_key() {
    configure();
    let waiting = left_waiting(Daemon::serving(&["/mnt/auto", "/mnt/p0", "/mnt/p1"]), &["/mnt/p0".to_owned()]);
    let daemon = start();
    wait_for("the other direct mounts", secs(5), || is_served(&daemon, "/mnt/p1").then_some(()));
    visit::serves("/mnt/p1");
    daemon.says("/mnt/p0: a process waits there for an automounter that has died");
    assert!(!is_served(&daemon, "/mnt/p0"));
    end(waiting);
    // A new lookup would wait like the killed one.
    wait_for("service", secs(6), || is_served(&daemon, "/mnt/p0").then_some(()));
    visit::serves("/mnt/p0");
    daemon.stop();
    assert_eq!(table::below("/mnt"), [table::at("/mnt").remove(0)]);
}

#[case]
fn many_direct_keys() {
    configure();
    let paths: Vec<_> = (0..19).map(|n| format!("/mnt/p{n}")).collect();
    let waiting = left_waiting(Daemon::serving(&["/mnt/auto", "/mnt/p0", "/mnt/p18"]), &paths);
    let daemon = start();
    wait_for("the last direct mount", secs(6), || is_served(&daemon, "/mnt/p19").then_some(()));
    visit::serves("/mnt/p19");
    end(waiting);
    wait_for("service", secs(12), || paths.iter().all(|path| is_served(&daemon, path)).then_some(()));
    paths.iter().for_each(visit::serves);
    daemon.stop();
    assert_eq!(table::below("/mnt"), [table::at("/mnt").remove(0)]);
}

#[case]
fn an_offset() {
    configure();
    put("/etc/auto.any", "m / -fstype=tmpfs :r /s -fstype=slow :slow /t -fstype=tmpfs :t\n* -fstype=tmpfs :&\n");
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/p0"]);
    visit::serves("/mnt/auto/m/t");
    let root = table::at("/mnt/auto/m");
    let waiting = left_waiting(daemon, &["/mnt/auto/m/s".to_owned()]);
    let daemon = start();
    daemon.says("/mnt/auto/m/s: a process waits there");
    assert!(table::served("/mnt/auto/m/t"));
    end(waiting);
    wait_for("service", secs(8), || is_served(&daemon, "/mnt/auto/m/s").then_some(()));
    std::thread::sleep(Duration::from_millis(100));
    visit::serves("/mnt/auto/m/s");
    assert_eq!(table::at("/mnt/auto/m"), root);
    daemon.stop();
    assert_eq!(table::below("/mnt"), [table::at("/mnt").remove(0)]);
}

#[case]
fn the_end_comes_before() {
    configure();
    let waiting = left_waiting(Daemon::serving(&["/mnt/auto", "/mnt/p0"]), &["/mnt/p0".to_owned()]);
    let daemon = start();
    daemon.says("/mnt/p0: a process waits there");
    daemon.stop();
    let left: Vec<_> = table::below("/mnt").into_iter().skip(1).map(|m| m.target).collect();
    assert!(left.iter().all(|path| path.starts_with("/mnt/p0")), "{left:?}");
    end(waiting);
}
