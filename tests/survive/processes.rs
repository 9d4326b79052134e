//! Finds the two processes of the daemon, and their properties.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::common::daemon::{Daemon, stat};
use super::common::{secs, wait_for};

/// The worker, if there is one now.
pub fn worker_now(keeper: i32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).ok()?;
    let pids = children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
    // Orphans that the keeper has adopted lead groups of their own, or are mount programs of the group.
    pids.into_iter().find(|pid| program(*pid) == program(keeper) && stat(*pid).is_some_and(|s| s.state != 'Z'))
}

fn program(pid: i32) -> Option<std::path::PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// The worker.
#[track_caller]
pub fn worker(daemon: &Daemon) -> i32 {
    wait_for("a worker", secs(10), || worker_now(daemon.pid()))
}

/// Kills the worker, and waits until another one has taken its place.
#[track_caller]
pub fn kill_worker(daemon: &Daemon) {
    let old = worker(daemon);
    strike(old);
    wait_for("another worker", secs(10), || worker_now(daemon.pid()).filter(|new| *new != old));
}

/// KILL.
pub fn strike(pid: i32) {
    _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

/// How many descriptors a process has open.
pub fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// KiB of anonymous memory that a process has touched.
pub fn memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
}

/// Describes each task that the kernel holds in an autofs wait: where it stands, and the autofs mounts that it sees.
pub fn held_by_autofs() -> Vec<String> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let tasks = pids.flat_map(|pid| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        tasks.map(|task| task.path()).collect::<Vec<_>>()
    });
    let read = |task: &Path, name: &str| fs::read_to_string(task.join(name)).unwrap_or_default();
    let held = tasks.filter(|task| read(task, "stack").contains("autofs"));
    held.map(|task| {
        let stack = read(&task, "stack");
        let table = read(&task, "mountinfo");
        let autofs: Vec<_> = table.lines().filter(|line| line.contains(" - autofs ")).collect();
        let arguments = read(&task, "cmdline").replace('\0', " ");
        format!("{} {arguments}\n{stack}{}", task.display(), autofs.join("\n"))
    })
    .collect()
}
