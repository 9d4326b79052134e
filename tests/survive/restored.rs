//! What CRIU leaves behind, without CRIU: the same processes with the same descriptor numbers, but every pipe and every
//! autofs mount is another one. The processes are stopped and made to exchange their descriptors, as CRIU does it.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

use autofs::sys::pipe::ReadEnd;
use autofs::sys::{children, mount as mounting, path as paths, procfs};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;

use super::common::daemon::Daemon;
use super::common::site;
use super::common::suite::{case, needs};
use super::common::{secs, table, visit, wait_for};
use super::processes::{kill_worker, worker};
use super::tracee::Tracee;

/// Path and kind.
const POINTS: [(&str, &str); 2] = [("/mnt/auto", "indirect"), ("/mnt/d", "direct")];

/// Numbers of the descriptors of a process that are this end of this pipe.
fn ends(pid: i32, inode: u64, writing: bool) -> Vec<i32> {
    let is_end = |number: &i32| {
        let is_pipe = fs::read_link(format!("/proc/{pid}/fd/{number}"))
            .is_ok_and(|link| link == Path::new(&format!("pipe:[{inode}]")));
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| i32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
        is_pipe && flags.is_some_and(|flags| (flags & libc::O_ACCMODE == libc::O_WRONLY) == writing)
    };
    numbers(&format!("/proc/{pid}/fd")).into_iter().filter(is_end).collect()
}

fn numbers(directory: &str) -> Vec<i32> {
    let entries = fs::read_dir(directory).unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Inodes of the pipes whose two ends a process has: the pipe of its sentinel is among them.
fn own_pipes(pid: i32) -> Vec<u64> {
    let link = |number: i32| fs::read_link(format!("/proc/{pid}/fd/{number}")).ok();
    let inode = |number| link(number)?.to_str()?.strip_prefix("pipe:[")?.strip_suffix(']')?.parse().ok();
    let mut inodes: Vec<u64> = numbers(&format!("/proc/{pid}/fd")).into_iter().filter_map(inode).collect();
    inodes.sort_unstable();
    inodes.dedup();
    inodes.retain(|inode| !ends(pid, *inode, false).is_empty() && !ends(pid, *inode, true).is_empty());
    inodes
}

fn inode_at(path: &str) -> u64 {
    table::autofs(path).unwrap().option("pipe_ino").unwrap().parse().unwrap()
}

/// Unmounts an idle autofs mount and mounts one with another device and another pipe in its place.
fn replace_mount(path: &str, kind: &str, group: i32) -> (ReadEnd, OwnedFd) {
    let before = table::autofs(path).unwrap();
    let (read_end, write_end) = ReadEnd::create().unwrap();
    let options = format!("fd={},pgrp={group},minproto=5,maxproto=5,{kind}", write_end.as_raw_fd());
    // While both are there, they cannot have the same device number.
    let beside = format!("/srv/beside{}", before.id);
    fs::create_dir_all(&beside).unwrap();
    mount(Some(before.source.as_str()), beside.as_str(), Some("autofs"), MsFlags::empty(), Some(options.as_str()))
        .unwrap();
    let at = Path::new(path);
    let (parent, name) = (at.parent().unwrap(), at.file_name().unwrap());
    mounting::unmount(paths::open_exact(parent).unwrap().as_fd(), name.as_ref(), false).unwrap();
    mount(Some(beside.as_str()), path, None::<&str>, MsFlags::MS_MOVE, None::<&str>).unwrap();
    let now = table::autofs(path).unwrap();
    assert_ne!(now.dev, before.dev);
    (read_end, write_end)
}

/// `waking`: the sentinel's pipe is another one, too, and its wait has ended, as after a checkpoint. Else only a packet
/// can tell.
fn restore(daemon: &Daemon, waking: bool) {
    let (keeper, worker) = (daemon.pid(), worker(daemon));
    let old: Vec<u64> = POINTS.iter().map(|(path, _)| inode_at(path)).collect();
    // The keeper takes a pipe when it comes to the message.
    for inode in &old {
        wait_for("the keeper to hold the pipe", secs(10), || (!ends(keeper, *inode, false).is_empty()).then_some(()));
    }
    let threads = numbers(&format!("/proc/{worker}/task"));
    let is_sentinel = |tid: &i32| {
        fs::read_to_string(format!("/proc/{worker}/task/{tid}/comm")).is_ok_and(|name| name.trim() == "sentinel")
    };
    let sentinel: i32 = threads.into_iter().find(is_sentinel).unwrap();
    let mut stopped = [Tracee::stop(keeper), Tracee::stop(worker)];
    let mut waits = Tracee::stop(sentinel);
    for ((path, kind), inode) in POINTS.iter().zip(old) {
        let numbers = [ends(keeper, inode, false), ends(worker, inode, false)];
        let (read_end, _write_end) = replace_mount(path, kind, keeper);
        for (tracee, numbers) in stopped.iter_mut().zip(numbers) {
            assert!(!numbers.is_empty(), "nobody reads at {path}");
            numbers.into_iter().for_each(|number| tracee.replace(number, read_end.as_fd().as_raw_fd()));
        }
    }
    if waking {
        for inode in own_pipes(worker) {
            let (read_end, write_end) = ReadEnd::create().unwrap();
            let (reading, writing) = (ends(worker, inode, false), ends(worker, inode, true));
            reading.into_iter().for_each(|number| stopped[1].replace(number, read_end.as_fd().as_raw_fd()));
            writing.into_iter().for_each(|number| stopped[1].replace(number, write_end.as_raw_fd()));
        }
        waits.interrupt();
    }
    waits.go_on();
    stopped.into_iter().for_each(Tracee::go_on);
}

const NOTICED: &str = "restored from a checkpoint";

fn times_noticed(daemon: &Daemon) -> usize {
    daemon.log().matches(NOTICED).count()
}

/// Everything works, twice: old keys and new ones, expiry, a reload, and the worker that comes after.
fn comes_back(waking: bool) {
    site::any_key();
    site::and_direct(&["/mnt/d"]);
    let mut daemon = Daemon::serving(&["/mnt/auto", "/mnt/d"]);
    for round in 1..=2 {
        let before = times_noticed(&daemon);
        restore(&daemon, waking);
        if waking {
            wait_for("the daemon's notice", secs(5), || (times_noticed(&daemon) == before + 1).then_some(()));
        }
        for path in ["/mnt/auto/a", "/mnt/auto/b", "/mnt/d"] {
            visit::serves(path);
        }
        assert_eq!(times_noticed(&daemon), before + 1, "{}", daemon.log());
        for (path, _) in POINTS {
            assert!(
                procfs::reads_pipe(daemon.pid(), inode_at(path)).unwrap(),
                "the keeper does not hold the pipe of {path}"
            );
        }
        kill_worker(&daemon);
        visit::serves(format!("/mnt/auto/after{round}"));
        assert_eq!(times_noticed(&daemon), before + 1, "the next worker is on the same machine");
        let all_gone = || ["/mnt/auto", "/mnt/d"].iter().all(|path| table::below(path).len() == 1);
        wait_for("the expiry of all of it", secs(10), || {
            daemon.signal(Signal::SIGUSR1);
            std::thread::sleep(std::time::Duration::from_millis(100));
            all_gone().then_some(())
        });
    }
    let pgrp = daemon.pid().to_string();
    assert!(POINTS.iter().all(|(path, _)| table::autofs(path).unwrap().option("pgrp") == Some(&pgrp)));
    assert_ne!(children::pid(), daemon.pid());
    daemon.stop();
    assert_eq!(table::below("/mnt"), [table::at("/mnt").remove(0)]);
}

#[case(lacking: needs::x86_64)]
fn noticed_at_once() {
    comes_back(true);
}

#[case(lacking: needs::x86_64)]
fn noticed_at_the_first_request() {
    comes_back(false);
}
