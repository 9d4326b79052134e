//! The whole daemon dies or is ended at a bad moment.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::common::daemon::{Daemon, stat};
use super::common::stand_in::{Rules, calls};
use super::common::suite::case;
use super::common::world::figure;
use super::common::{ldap_server, site};
use super::common::{secs, table, visit, wait_for};
use super::processes::{strike, worker};

/// Mount ids by mount point.
pub(super) fn ids(fstype: &str) -> BTreeMap<PathBuf, u32> {
    table::below("/mnt").into_iter().filter(|m| m.fstype == fstype).map(|m| (m.target, m.id)).collect()
}

#[case(seconds: 120)]
fn with_1000_active_mounts() {
    site::any_key();
    site::and_direct(&["/mnt/d"]);
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/d"]);
    visit::serves("/mnt/d");
    for n in 0..1000 {
        visit::enter_now(format!("/mnt/auto/{n}").as_ref()).unwrap();
    }
    let before = (ids("tmpfs"), ids("autofs"));
    assert_eq!(before.0.len(), 1002);
    daemon.kill();
    let start = Instant::now();
    // Until the next daemon serves, lookups fail at once: the mount is catatonic, or the first lookup makes it so.
    let daemon = Daemon::start(["-f"]);
    let served = wait_for("service", secs(20), || {
        match table::autofs("/mnt/auto").is_some_and(|m| m.option("pgrp") == Some(&daemon.pid().to_string())) {
            true => visit::enter("/mnt/auto/new").ok().map(|()| start.elapsed()),
            false => None,
        }
    });
    figure(&format!("a start over 1000 active mounts serves after {:.0} ms", served.as_secs_f64() * 1000.0));
    visit::serves("/mnt/d");
    let mut after = ids("tmpfs");
    after.remove(&PathBuf::from("/mnt/auto/new")).unwrap();
    assert_eq!(after, before.0, "all are kept, none is mounted again");
    assert_eq!(ids("autofs"), before.1);
    let start = Instant::now();
    strike(worker(&daemon));
    visit::enter_now("/mnt/auto/newer".as_ref()).unwrap();
    let again = start.elapsed();
    figure(&format!("another worker over 1000 active mounts serves after {:.0} ms", again.as_secs_f64() * 1000.0));
    daemon.stop();
    assert_eq!(ids("tmpfs").len(), 1);
}

/// A symbolic link of root's on the way to a mount point, or as the mount point itself: the mount table shows the real path.
#[case(seconds: 120)]
fn behind_links() {
    fs::create_dir_all("/mnt/real/home").unwrap();
    std::os::unix::fs::symlink("real", "/mnt/link").unwrap();
    std::os::unix::fs::symlink("real/home", "/mnt/home").unwrap();
    fs::write("/etc/auto.any", "* -fstype=tmpfs :t\n").unwrap();
    fs::write("/etc/auto.direct", "/mnt/link/d -fstype=tmpfs :t\n").unwrap();
    let master = "/mnt/link/auto /etc/auto.any\n/mnt/home /etc/auto.any\n/- /etc/auto.direct\n";
    fs::write("/etc/auto.master", master).unwrap();
    let mut daemon = Daemon::serving(&["/mnt/real/auto", "/mnt/real/home", "/mnt/real/d"]);
    for path in ["/mnt/link/auto/k", "/mnt/home/k", "/mnt/link/d"] {
        visit::enter(path).unwrap();
    }
    let before = (ids("tmpfs"), ids("autofs"));
    assert_eq!(before.1.len(), 3, "{:?}", before.1);
    daemon.signal(Signal::SIGHUP);
    strike(worker(&daemon));
    visit::enter("/mnt/link/auto/after").unwrap();
    assert_eq!(ids("autofs"), before.1, "no other autofs mount covers one");
    daemon.kill();
    let daemon = Daemon::serving(&["/mnt/real/auto", "/mnt/real/home", "/mnt/real/d"]);
    visit::enter("/mnt/real/auto/new").unwrap();
    let after = ids("tmpfs");
    assert!(before.0.iter().all(|(path, id)| after.get(path) == Some(id)), "{before:?} {after:?}");
    assert_eq!(ids("autofs"), before.1);
    daemon.stop();
    assert!(ids("autofs").is_empty());
}

#[case(seconds: 120)]
fn with_300_trees() {
    site::one_map("* / -fstype=tmpfs :r /a -fstype=tmpfs :a /b -fstype=tmpfs :b\n");
    site::and_direct(&["/mnt/d", "/mnt/e"]);
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/d"]);
    for n in 0..300 {
        visit::enter_now(format!("/mnt/auto/{n}/a").as_ref()).unwrap();
    }
    let before = ids("tmpfs");
    let ms = |from: Instant| from.elapsed().as_secs_f64() * 1000.0;
    let start = Instant::now();
    strike(worker(&daemon));
    visit::enter_now("/mnt/auto/0/b".as_ref()).unwrap();
    let offset = ms(start);
    visit::enter_now("/mnt/d".as_ref()).unwrap();
    figure(&format!(
        "another worker over 300 trees serves an offset after {offset:.0} ms, all after {:.0} ms",
        ms(start)
    ));
    let after = ids("tmpfs");
    assert!(before.iter().all(|(path, id)| after.get(path) == Some(id)));
    daemon.stop();
}

/// Their daemon is gone: no lookup may hang, and what is not lost by that is served again.
#[case]
fn pending_lookups_get_an_error() {
    site::one_map("* -fstype=slow :&\n");
    Rules { delay: vec![("a".into(), 30_000)], ..Rules::default() }.set();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let mut visitor = visit::process("/mnt/auto/a", 0);
    wait_for("a mount on its way", secs(10), || (calls().len() == 1).then_some(()));
    daemon.kill();
    assert!(visitor.try_wait().unwrap().is_none());
    Rules::default().set();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let status = wait_for("an answer", secs(5), || visitor.try_wait().unwrap());
    assert_eq!(status.code(), Some(Errno::ENOENT as i32));
    visit::serves("/mnt/auto/a");
    daemon.stop();
    assert_eq!(table::below("/mnt/auto"), []);
}

#[case]
fn the_end_comes_while_the_worker_is_restarted() {
    for delay in [0, 2, 10, 30, 80, 150] {
        site::any_key();
        let mut daemon = Daemon::serving(&["/mnt/auto"]);
        visit::serves("/mnt/auto/a");
        strike(worker(&daemon));
        std::thread::sleep(Duration::from_millis(delay));
        daemon.signal(Signal::SIGTERM);
        let status = daemon.end(secs(10));
        assert!(status.success(), "{delay} ms after the worker's death: {status}\n{}", daemon.log());
        assert_eq!(table::below("/mnt/auto"), [], "{delay} ms after the worker's death");
        assert!(stat(daemon.pid()).is_none());
    }
}

/// Starts the daemon as the first process of a pid namespace. Returns the process that waits for it, and its keeper.
#[track_caller]
fn start_as_first_process() -> (Daemon, i32) {
    let mut command = std::process::Command::new("unshare");
    command.args(["--pid", "--fork", "--mount", "--mount-proc", "--propagation", "shared", "--"]);
    command.args(["/usr/sbin/automount", "-f", "-v"]);
    let unshare = Daemon::spawn(command);
    unshare.says("mounted indirect on /mnt/auto");
    let keeper = wait_for("the keeper", secs(5), || children_of(unshare.pid()).into_iter().next());
    let innermost = fs::read_to_string(format!("/proc/{keeper}/status")).unwrap();
    let pids = innermost.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
    assert_eq!(pids.split_ascii_whitespace().next_back(), Some("1"));
    (unshare, keeper)
}

/// Runs a script in the namespaces of the keeper: who looks from outside of the pid namespace of its master gets nothing.
#[track_caller]
fn inside(keeper: i32, script: &str) -> std::process::ExitStatus {
    let mut command = std::process::Command::new("nsenter");
    command.args(["-t", &keeper.to_string(), "--pid", "--mount", "sh", "-c", script]);
    let mut child = command.stdin(std::process::Stdio::null()).spawn().unwrap();
    wait_for("the end of a script inside", secs(10), || child.try_wait().unwrap())
}

/// Its lookup process is found, reaped and replaced there, too.
#[case]
fn as_the_first_process_with_a_map_in_ldap() {
    if let Some(why) = ldap_server::lacking() {
        return eprintln!("ignored: {why}");
    }
    let mut ldap = ldap_server::install();
    ldap.set("auto.m", "/", "-fstype=tmpfs,size=64k :k");
    ldap.start();
    site::master("/mnt/auto ldap:auto.m\n");
    let (mut unshare, keeper) = start_as_first_process();
    assert!(inside(keeper, "cd /mnt/auto/a").success());
    let worker = children_of(keeper)[0];
    let lookup = wait_for("a lookup process", secs(5), || children_of(worker).into_iter().next());
    strike(lookup);
    assert!(inside(keeper, "cd /mnt/auto/b").success());
    wait_for("the end of all lookup processes, zombies too", secs(20), || children_of(worker).is_empty().then_some(()));
    assert_eq!(children_of(keeper), [worker]);
    assert!(inside(keeper, "cd /mnt/auto/c").success());
    _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(keeper), Signal::SIGTERM);
    let status = unshare.end(secs(10));
    assert!(status.success(), "{status}\n{}", unshare.log());
    assert_eq!(table::below("/mnt/auto"), []);
}

/// In a container the keeper may be what others call init: it gets signals that have no handler elsewhere, and all
/// orphans.
#[case]
fn as_the_first_process() {
    site::any_key();
    let (mut unshare, keeper) = start_as_first_process();
    let inside = |script| inside(keeper, script);
    assert!(inside("cd /mnt/auto/a").success());
    for _ in 0..20 {
        assert!(inside("(setsid sleep 0.05 &) &").success());
    }
    wait_for("the end of all orphans, zombies too", secs(5), || (children_of(keeper).len() == 1).then_some(()));
    let worker = children_of(keeper)[0];
    strike(worker);
    wait_for("another worker", secs(5), || children_of(keeper).first().filter(|pid| **pid != worker).map(drop));
    assert!(inside("cd /mnt/auto/b").success());
    for signal in [Signal::SIGUSR1, Signal::SIGHUP, Signal::SIGALRM, Signal::SIGQUIT, Signal::SIGPIPE, Signal::SIGTSTP]
    {
        _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(keeper), signal);
    }
    wait_for("expiry", secs(10), || ids("tmpfs").keys().all(|path| path == Path::new("/mnt")).then_some(()));
    assert!(inside("cd /mnt/auto/c").success());
    _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(keeper), Signal::SIGTERM);
    let status = unshare.end(secs(10));
    assert!(status.success(), "{status}\n{}", unshare.log());
    assert_eq!(table::below("/mnt/auto"), []);
}

fn children_of(pid: i32) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|child| stat(*child).is_some_and(|found| found.parent == pid)).collect()
}
