//! Collects the facts for `migrate-check`: the mount table, our pipes, and the open files and waits of all visible
//! processes.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::engine::Kind;
use crate::sys::mountinfo::{self, AutofsOptions};
use crate::sys::procfs;

/// Interval between two checks of a process that seems to hang.
const RECHECK_DELAY: Duration = Duration::from_millis(50);

/// A line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) id: u32,
    pub(super) parent: u32,
    pub(super) dev: u32,
    pub(super) target: PathBuf,
    pub(super) root: Vec<u8>,
    pub(super) fstype: Vec<u8>,
    pub(super) autofs: Option<AutofsOptions>,
}

impl Line {
    /// Returns the inode of the pipe of an autofs mount that is not catatonic.
    pub(super) fn pipe(&self) -> Option<u64> {
        u64::try_from(self.autofs?.pipe_ino?).ok()
    }
}

/// An autofs mount of ours as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    /// Whether it has `strictexpire` or `ignore`.
    pub(super) options: bool,
}

/// A process, and a detail about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) name: String,
    pub(super) what: String,
}

/// The facts that the worker provides.
#[derive(Debug)]
pub(super) struct Known {
    /// Whether `/dev/autofs` can be opened.
    pub(super) device: bool,
    /// Pid of the keeper.
    pub(super) keeper: i32,
    /// Our process group.
    pub(super) group: i32,
    /// Inodes of our pipes, and whether each contains packets.
    pub(super) pipes: HashMap<u64, bool>,
    pub(super) wishes: Vec<Wish>,
}

/// All facts.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) known: Known,
    pub(super) lines: Vec<Line>,
    /// Inodes of our pipes that the keeper does not hold.
    pub(super) not_held: Vec<u64>,
    /// Mount points of autofs mounts of other automounters, each with the process that serves it, if any.
    pub(super) owners: HashMap<PathBuf, Option<i32>>,
    /// Tasks in uninterruptible waits.
    pub(super) blocked: Vec<Process>,
    /// Open files on mounts that are covered by other mounts.
    pub(super) covered: Vec<Process>,
    /// Descriptors of kinds that CRIU does not support.
    pub(super) unknown: Vec<Process>,
    /// Write ends of packet-mode pipes that no autofs mount uses any more.
    pub(super) packet_ends: Vec<Process>,
    /// Size of a socket buffer in bytes (net.core.wmem_default).
    pub(super) send_buffer: u64,
}

/// Collects all facts. Reads /proc of all visible processes, which may take long.
pub(super) fn gather(known: Known) -> std::io::Result<Facts> {
    let lines = table()?;
    let holds = |inode: &u64| procfs::reads_pipe(known.keeper, *inode).unwrap_or(false);
    let not_held = known.pipes.keys().copied().filter(|inode| !holds(inode)).collect();
    let foreign = |line: &&Line| line.pipe().is_some_and(|inode| !known.pipes.contains_key(&inode));
    let owner = |line: &Line| procfs::group_reader(line.autofs.map_or(0, |a| a.pgrp), line.pipe());
    let owners = lines.iter().filter(foreign).map(|line| (line.target.clone(), owner(line))).collect();
    let pids = pids();
    let mut blocked: Vec<Process> = pids.iter().flat_map(|pid| blocked(*pid)).collect();
    if !blocked.is_empty() {
        std::thread::sleep(RECHECK_DELAY);
        let still: HashSet<i32> = pids.iter().flat_map(|pid| self::blocked(*pid)).map(|p| p.pid).collect();
        blocked.retain(|process| still.contains(&process.pid));
    }
    let by_id: HashMap<u32, &Line> = lines.iter().map(|line| (line.id, line)).collect();
    let over: HashSet<u32> = lines
        .iter()
        .filter(|line| by_id.get(&line.parent).is_some_and(|parent| parent.target == line.target))
        .map(|line| line.parent)
        .collect();
    let live: HashSet<u64> = lines.iter().filter_map(Line::pipe).collect();
    let (mut covered, mut unknown, mut packet_ends) = (Vec::new(), Vec::new(), Vec::new());
    for pid in pids {
        let process = |what: String| Process { pid, name: procfs::name(pid), what };
        for (number, link) in open_files(pid) {
            if let Some(kind) = link.strip_prefix("anon_inode:").filter(|kind| is_unknown(kind)) {
                unknown.push(process(kind.to_owned()));
            }
            let Some((flags, mount)) = file_info(pid, number) else { continue };
            if over.contains(&mount) {
                covered.push(process(link.clone()));
            }
            let inode = link.strip_prefix("pipe:[").and_then(|rest| rest.strip_suffix(']')?.parse().ok());
            let packets = flags & libc::O_DIRECT != 0;
            if inode.is_some_and(|inode: u64| packets && !live.contains(&inode)) {
                packet_ends.push(process(link));
            }
        }
    }
    let send_buffer = fs::read_to_string("/proc/sys/net/core/wmem_default").ok();
    let send_buffer = send_buffer.and_then(|text| text.trim().parse().ok()).unwrap_or(212_992);
    Ok(Facts { known, lines, not_held, owners, blocked, covered, unknown, packet_ends, send_buffer })
}

fn table() -> std::io::Result<Vec<Line>> {
    let text = mountinfo::read()?;
    let line = |entry: mountinfo::Entry<'_>| Line {
        id: entry.id,
        parent: entry.parent,
        dev: entry.dev,
        target: entry.path().to_owned(),
        root: entry.root.to_vec(),
        fstype: entry.fstype.to_vec(),
        autofs: entry.autofs(),
    };
    Ok(mountinfo::parse(&text).map(line).collect())
}

/// Returns the names of directory entries that are numbers.
fn numbers(path: &str) -> Vec<i32> {
    let entries = fs::read_dir(path).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn pids() -> Vec<i32> {
    numbers("/proc")
}

/// Returns the tasks of a process in state D, each with the kernel function it waits in.
fn blocked(pid: i32) -> Vec<Process> {
    let task = |task: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/task/{task}/stat")).ok()?;
        // The name, in parentheses, may contain anything.
        let state = stat.rsplit_once(')')?.1.split_ascii_whitespace().next()?;
        let place = fs::read_to_string(format!("/proc/{pid}/task/{task}/wchan")).unwrap_or_default();
        (state == "D").then(|| Process { pid: task, name: procfs::name(pid), what: place })
    };
    numbers(&format!("/proc/{pid}/task")).into_iter().filter_map(task).collect()
}

fn open_files(pid: i32) -> Vec<(i32, String)> {
    let link = |number: i32| {
        let link = fs::read_link(format!("/proc/{pid}/fd/{number}")).ok()?;
        Some((number, link.to_string_lossy().into_owned()))
    };
    numbers(&format!("/proc/{pid}/fd")).into_iter().filter_map(link).collect()
}

/// Returns the flags and the mount id of an open file.
fn file_info(pid: i32, number: i32) -> Option<(i32, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).ok()?;
    let field = |name: &str| text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim()));
    Some((i32::from_str_radix(field("flags:")?, 8).ok()?, field("mnt_id:")?.parse().ok()?))
}

/// Returns whether CRIU does not support a kind of anonymous file. It supports eventfd, epoll, signalfd, timerfd, inotify,
/// fanotify and pidfd.
fn is_unknown(kind: &str) -> bool {
    ["io_uring", "perf_event", "bpf", "kvm", "userfaultfd", "fscontext", "mount"]
        .iter()
        .any(|unknown| kind.trim_start_matches('[').starts_with(unknown))
}
