//! Start, signals, shutdown.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::common::daemon::{Daemon, group, stat};
use super::common::site;
use super::common::stand_in::Rules;
use super::common::suite::case;
use super::common::world::put;
use super::common::{secs, table, visit, wait_for};

#[case]
fn foreground() {
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let autofs = table::autofs("/mnt/auto").unwrap();
    assert_eq!(autofs.source, "/etc/auto.any");
    assert_eq!(autofs.option("timeout"), Some("300"));
    assert!(autofs.options.contains(",indirect,"), "{autofs:?}");
    visit::serves("/mnt/auto/a");
    assert_eq!(table::at("/mnt/auto/a")[0].source, "ka");
    daemon.stop();
    assert_eq!(table::below("/mnt/auto"), []);
}

#[case]
fn foreground_leads_its_own_group() {
    site::any_key();
    // Not in a group of its own, as in a script without job control: our accesses must trigger all the same.
    let mut child = Command::new("automount").args(["-f"]).spawn().unwrap();
    wait_for("the mount", secs(10), || table::autofs("/mnt/auto"));
    visit::serves("/mnt/auto/a");
    let pid = i32::try_from(child.id()).unwrap();
    assert_eq!(stat(pid).unwrap().pgrp, pid);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    let status = wait_for("the end", secs(10), || child.try_wait().unwrap());
    assert!(status.success(), "{status}");
}

#[case]
fn interrupt_is_term() {
    site::any_key();
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    daemon.signal(Signal::SIGINT);
    assert!(daemon.end(secs(10)).success());
    assert_eq!(table::below("/mnt/auto"), []);
}

#[case]
fn term_leaves_what_is_in_use() {
    site::any_key();
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/busy");
    visit::serves("/mnt/auto/idle");
    let held = fs::File::create("/mnt/auto/busy/file").unwrap();
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.end(secs(10)).success());
    assert!(table::served("/mnt/auto/busy"));
    assert!(!table::served("/mnt/auto/idle"));
    // Catatonic: lookups do not wait for the daemon that has ended.
    assert_eq!(table::autofs("/mnt/auto").unwrap().option("pipe_ino"), Some("-1"));
    visit::refuses("/mnt/auto/other", Errno::ENOENT);
    drop(held);
    visit::serves("/mnt/auto/busy");
}

#[case]
fn usr1_prunes() {
    site::any_key();
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    let held = ["a", "b", "c"].map(|key| {
        visit::serves(format!("/mnt/auto/{key}"));
        fs::File::open(format!("/mnt/auto/{key}")).unwrap()
    });
    let [a, b, c] = held;
    drop((a, c));
    daemon.signal(Signal::SIGUSR1);
    wait_for("idle mounts gone", secs(10), || {
        (!table::served("/mnt/auto/a") && !table::served("/mnt/auto/c")).then_some(())
    });
    assert!(table::served("/mnt/auto/b"));
    visit::serves("/mnt/auto/a");
    drop(b);
    daemon.stop();
}

#[case]
fn usr2_takes_everything() {
    site::any_key();
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    let _held = fs::File::open("/mnt/auto/a").unwrap();
    daemon.signal(Signal::SIGUSR2);
    assert!(daemon.end(secs(10)).success());
    assert_eq!(table::below("/mnt/auto"), []);
}

/// Lookups that meet the lazy unmount get an answer, whether they came before it or come after it.
#[case(seconds: 120)]
fn usr2_leaves_no_lookup_waiting() {
    site::master("/mnt/auto /etc/auto.one --timeout=600\n/- /etc/auto.direct --timeout=600\n");
    put("/etc/auto.one", "slow -fstype=slow :slow\n* -fstype=tmpfs,size=64k :&\n");
    put("/etc/auto.direct", "/mnt/d -fstype=tmpfs,size=64k :d\n/mnt/s -fstype=slow :s\n");
    Rules { delay: vec![("slow".into(), 300), ("s".into(), 300)], ..Rules::default() }.set();
    for _ in 0..4 {
        let mut daemon = Daemon::serving(&["/mnt/auto", "/mnt/d", "/mnt/s"]);
        let (over, running) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        for first in 0..24 {
            let (over, running) = (Arc::clone(&over), Arc::clone(&running));
            running.fetch_add(1, Ordering::Relaxed);
            std::thread::spawn(move || {
                let paths = ["/mnt/auto/a", "/mnt/auto/slow", "/mnt/d", "/mnt/s", "/mnt/auto/b"];
                let mut next = first;
                while !over.load(Ordering::Relaxed) {
                    _ = visit::enter_now(Path::new(paths[next % paths.len()]));
                    next += 1;
                }
                running.fetch_sub(1, Ordering::Relaxed);
            });
        }
        std::thread::sleep(Duration::from_millis(250));
        daemon.signal(Signal::SIGUSR2);
        assert!(daemon.end(secs(20)).success());
        over.store(true, Ordering::Relaxed);
        wait_for("the end of all lookups", secs(20), || (running.load(Ordering::Relaxed) == 0).then_some(()));
    }
    assert_eq!(table::below("/mnt/auto"), []);
}

#[case]
fn hup_adds_and_removes() {
    site::any_key();
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    let before = table::autofs("/mnt/auto").unwrap();
    site::master("/mnt/auto /etc/auto.any\n/mnt/more /etc/auto.any --timeout=77\n");
    daemon.signal(Signal::SIGHUP);
    daemon.ready(&["/mnt/more"]);
    visit::serves("/mnt/more/a");
    assert_eq!(table::autofs("/mnt/more").unwrap().option("timeout"), Some("77"));
    assert_eq!(table::autofs("/mnt/auto"), Some(before), "what has not changed is not touched");
    site::master("/mnt/auto /etc/auto.any --timeout=55\n");
    daemon.signal(Signal::SIGHUP);
    wait_for("the end of /mnt/more", secs(10), || table::below("/mnt/more").is_empty().then_some(()));
    wait_for("the new timeout", secs(5), || {
        (table::autofs("/mnt/auto").unwrap().option("timeout") == Some("55")).then_some(())
    });
    assert!(table::served("/mnt/auto/a"));
    daemon.stop();
}

/// Starts it as an init script does: the parent's exit status, when it is through.
fn start_detached(args: &[&str]) -> i32 {
    let mut child = Daemon::command().args(args).spawn().unwrap();
    wait_for("the parent's end", secs(15), || child.try_wait().unwrap()).code().unwrap()
}

fn pid_in(file: &str) -> i32 {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.ends_with('\n'), "{file}: {text:?}");
    text.trim_end().parse().unwrap()
}

fn end(pid: i32, signal: Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
    wait_for("the daemon's end", secs(10), || group(pid).is_empty().then_some(()));
}

#[case]
fn daemon_mode() {
    site::any_key();
    assert_eq!(start_detached(&["-p", "/run/autofs.pid"]), 0);
    // The parent ends when everything is up, not before.
    let autofs = table::autofs("/mnt/auto").expect("no autofs although the parent has ended");
    let pid = pid_in("/run/autofs.pid");
    assert_eq!(autofs.option("pgrp"), Some(pid.to_string().as_str()));
    assert_eq!(pid_in("/run/autofs-running"), pid);
    assert_eq!(stat(pid).unwrap().pgrp, pid);
    for process in group(pid) {
        let link = |name: &str| fs::read_link(format!("/proc/{process}/{name}")).unwrap();
        assert_eq!(link("cwd"), Path::new("/"));
        for fd in ["fd/0", "fd/1", "fd/2"] {
            assert_eq!(link(fd), Path::new("/dev/null"));
        }
    }
    visit::serves("/mnt/auto/a");
    end(pid, Signal::SIGTERM);
    for file in ["/run/autofs.pid", "/run/autofs-running"] {
        assert!(!Path::new(file).exists(), "{file} is left");
    }
    assert_eq!(table::below("/mnt/auto"), []);
}

#[case]
fn second_instance() {
    site::any_key();
    assert_eq!(start_detached(&["-p", "/run/autofs.pid"]), 0);
    let pid = pid_in("/run/autofs.pid");
    visit::serves("/mnt/auto/a");
    assert_eq!(start_detached(&["-p", "/run/second.pid"]), 0, "in daemon mode that is no failure");
    let said = Daemon::command().arg("-f").output().unwrap();
    assert_eq!(said.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&said.stderr).contains("program is already running."), "{said:?}");
    assert_eq!(pid_in("/run/autofs-running"), pid);
    visit::serves("/mnt/auto/b");
    end(pid, Signal::SIGTERM);
}

#[case]
fn stale_flag_file() {
    site::any_key();
    // A living process, but no automounter.
    put("/run/autofs-running", format!("{}\n", std::process::id()));
    assert_eq!(start_detached(&["-p", "/run/autofs.pid"]), 0);
    let pid = pid_in("/run/autofs.pid");
    assert_eq!(pid_in("/run/autofs-running"), pid);
    end(pid, Signal::SIGKILL);
    // Left behind by a crash.
    assert_eq!(start_detached(&["-p", "/run/autofs.pid"]), 0);
    let pid = pid_in("/run/autofs.pid");
    assert_eq!(pid_in("/run/autofs-running"), pid);
    visit::serves("/mnt/auto/a");
    end(pid, Signal::SIGTERM);
}

#[case]
fn pid_file_cannot_be_written() {
    site::any_key();
    let mut daemon = Daemon::start(["-f", "-p", "/run/no/such/directory/pid"]);
    daemon.ready(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    assert!(daemon.log().contains("/run/no/such/directory/pid"));
    daemon.stop();
}

#[case]
fn service_mode() {
    site::any_key();
    let mut daemon = Daemon::start(["--systemd-service", "--dont-check-daemon"]);
    daemon.ready(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    daemon.stop();
    assert!(!Path::new("/run/autofs-running").exists());
}

#[case]
fn no_master_map() {
    let mut daemon = Daemon::start(["-f", "-v", "/etc/auto.none"]);
    std::thread::sleep(secs(1));
    assert!(daemon.end_now().is_none(), "it has to wait for a reload");
    put("/etc/auto.none", "/mnt/auto /etc/auto.any\n");
    put("/etc/auto.any", "* -fstype=tmpfs :k&\n");
    daemon.signal(Signal::SIGHUP);
    daemon.ready(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    daemon.stop();
}

#[case]
fn force_cleans_first() {
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    let _held = fs::File::open("/mnt/auto/a").unwrap();
    daemon.kill();
    let mut daemon = Daemon::start(["-f", "-F"]);
    daemon.ready(&["/mnt/auto"]);
    assert!(!table::served("/mnt/auto/a"), "existing mounts are unmounted, busy or not");
    visit::serves("/mnt/auto/a");
    daemon.kill();
    let mut clean = Daemon::start(["-U"]);
    assert!(clean.end(secs(10)).success(), "{}", clean.log());
    assert_eq!(table::below("/mnt/auto"), []);
}

#[case]
fn exit_status_of_bad_usage() {
    for args in [&["--bogus"][..], &["-t"], &["-t", "5m"], &["-l", "debug"]] {
        let status = Daemon::command().args(args).output().unwrap().status;
        assert_eq!(status.code(), Some(1), "{args:?}");
    }
    for args in ["-h", "-V"] {
        assert!(Daemon::command().arg(args).output().unwrap().status.success());
    }
}

#[case]
fn term_during_a_slow_mount() {
    site::one_map("slow -fstype=slow :slow\n");
    super::common::stand_in::Rules { delay: vec![("slow".into(), 3000)], ..Default::default() }.set();
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    let mut visitor = visit::process("/mnt/auto/slow", 0);
    std::thread::sleep(Duration::from_millis(500));
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.end(secs(15)).success());
    wait_for("an answer for the one that waits", secs(5), || visitor.try_wait().unwrap());
}

#[case]
fn directories_are_removed_at_the_end() {
    site::master("/mnt/new/deep /etc/auto.any\n/mnt/old /etc/auto.any\n");
    put("/etc/auto.any", "* -fstype=tmpfs :k&\n");
    fs::create_dir("/mnt/old").unwrap();
    let daemon = Daemon::serving(&["/mnt/new/deep", "/mnt/old"]);
    visit::serves("/mnt/new/deep/a");
    daemon.stop();
    assert!(Path::new("/mnt/old").exists(), "it was there before");
    assert!(!Path::new("/mnt/new/deep").exists(), "it was made by the daemon");
}

/// A stalled reader of standard error stalls nothing else.
#[case]
fn a_log_that_nobody_reads() {
    site::one_map("last -fstype=tmpfs :last\n");
    let mut child = Daemon::command().args(["-f", "-d"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    wait_for("the mount", secs(10), || table::autofs("/mnt/auto"));
    // Each says at least its name; a pipe holds 64 KiB.
    for n in 0..1000 {
        visit::refuses(format!("/mnt/auto/{}{n}", "n".repeat(100)), Errno::ENOENT);
    }
    visit::serves("/mnt/auto/last");
    let pid = i32::try_from(child.id()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    let status = wait_for("the end", secs(20), || child.try_wait().unwrap());
    assert!(status.success(), "{status}");
}

/// Another instance neither takes it over nor removes it.
#[case]
fn the_control_socket_is_the_first_ones() {
    site::any_key();
    put("/etc/second.master", "/mnt/other /etc/auto.any\n");
    let first = Daemon::serving(&["/mnt/auto"]);
    let set_level = || Daemon::command().args(["-l", "debug", "/mnt/auto"]).status().unwrap().success();
    assert!(set_level());
    let mut second = Daemon::start(["-f", "-C", "/etc/second.master"]);
    second.ready(&["/mnt/other"]);
    assert!(set_level());
    second.stop();
    assert!(set_level());
    first.stop();
}

/// As when a lookup has just failed.
#[case]
fn a_mount_point_that_is_in_use_for_a_moment_goes_at_the_end() {
    site::any_key();
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    let mut inside = Command::new("sleep").arg("60").current_dir("/mnt/auto").spawn().unwrap();
    daemon.signal(Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(50));
    inside.kill().unwrap();
    inside.wait().unwrap();
    assert!(daemon.end(secs(20)).success());
    assert!(table::autofs("/mnt/auto").is_none());
}

/// As when the daemon starts a program for another unmount at that moment.
#[case]
fn what_is_in_use_for_a_moment_is_unmounted_at_the_end() {
    fs::create_dir_all("/srv/tree/below").unwrap();
    site::one_map("one -fstype=tmpfs :one\ntree / :/srv/tree /below -fstype=tmpfs :two\n");
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    for path in ["/mnt/auto/one", "/mnt/auto/tree/below"] {
        visit::serves(path);
    }
    let held = ["/mnt/auto/one/file", "/mnt/auto/tree/below/file"].map(|path| fs::File::create(path).unwrap());
    daemon.signal(Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(200));
    drop(held);
    assert!(daemon.end(secs(20)).success());
    assert_eq!(table::below("/mnt/auto"), []);
}
