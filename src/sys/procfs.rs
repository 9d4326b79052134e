//! Information about other processes from `/proc` (proc(5)). It may be outdated at once.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use nix::sys::stat::{FileStat, stat};

/// Returns whether two processes run the same program file. `false` also where one cannot be seen.
pub fn same_program(pid: i32, other: i32) -> bool {
    // These links lead to the file itself, so nothing is looked up by name and no automount is triggered.
    match (stat(format!("/proc/{pid}/exe").as_str()), stat(format!("/proc/{other}/exe").as_str())) {
        (Ok(one), Ok(two)) => same_file(&one, &two),
        _ => false,
    }
}

/// Returns whether two processes have the same user and run the same program, or programs of one name: one of them may be of another
/// version. Any user can give a process any name, and run the programs that are installed.
pub fn same_kind(pid: i32, other: i32) -> bool {
    same_user(pid, other) && (same_program(pid, other) || (!name(pid).is_empty() && name(pid) == name(other)))
}

/// Returns whether two processes have the same real and effective user. `false` also where one cannot be seen.
fn same_user(pid: i32, other: i32) -> bool {
    identity(pid).is_some_and(|one| identity(other).is_some_and(|other| one.uid == other.uid))
}

/// Inode number of the mount namespace in which a process lives.
///
/// # Errors
/// ENOENT: no such process. EACCES: not ours to know.
pub fn mount_namespace(pid: i32) -> io::Result<u64> {
    Ok(stat(format!("/proc/{pid}/ns/mnt").as_str())?.st_ino as _)
}

/// Returns whether this process is in none of the first pid, ipc and control group namespaces, as in a container. One of them
/// alone is none: unshare(1) makes them, to keep processes together.
pub fn is_apart() -> bool {
    /// `PROC_PID_INIT_INO` and so on of linux/proc_ns.h: the inode numbers of the first namespaces.
    const FIRST: [(&str, u32); 3] = [("pid", 0xEFFF_FFFC), ("ipc", 0xEFFF_FFFF), ("cgroup", 0xEFFF_FFFB)];
    let is_other = |name: &str, first: u32| {
        // The type of an inode number depends on the machine.
        stat(format!("/proc/self/ns/{name}").as_str()).is_ok_and(|found| u32::try_from(found.st_ino) != Ok(first))
    };
    FIRST.iter().all(|(name, first)| is_other(name, *first))
}

/// Returns one process of each visible mount namespace, except the own one.
pub fn one_process_of_each_mount_namespace() -> Vec<i32> {
    let mut seen: HashSet<u64> = mount_namespace(super::children::pid()).into_iter().collect();
    let processes = std::fs::read_dir("/proc").into_iter().flatten();
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| mount_namespace(*pid).is_ok_and(|namespace| seen.insert(namespace))).collect()
}

/// Returns whether a process holds the read end of the pipe with this inode number open: whether it is the one that serves
/// the mounts that speak through this pipe.
///
/// # Errors
/// EACCES: not ours to know. A process that does not exist holds nothing, which is no error.
pub fn reads_pipe(pid: i32, inode: u64) -> io::Result<bool> {
    let directory = format!("/proc/{pid}/fd");
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    let wanted = format!("pipe:[{inode}]");
    for entry in entries {
        // It may end while we look.
        let Ok(entry) = entry else { return Ok(false) };
        let Ok(link) = std::fs::read_link(entry.path()) else { continue };
        if link.as_os_str() != wanted.as_str() {
            continue;
        }
        if access_mode(pid, &entry.file_name()).is_some_and(|mode| mode != libc::O_WRONLY) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A process of this user and this process group that holds the read end of the pipe with this inode number open; without a
/// number (a kernel that shows none), any process of the user in the group. The numbers of a process group and a pipe that are
/// gone may be another user's by now.
pub fn group_reader(pgrp: i32, inode: Option<u64>) -> Option<i32> {
    let own = super::children::pid();
    let serves = |pid: i32| {
        let reads = match inode {
            Some(inode) => reads_pipe(pid, inode).unwrap_or(true),
            None => true,
        };
        reads && same_user(pid, own)
    };
    let in_group = |pid: i32| {
        let group = nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid)));
        group.is_ok_and(|group| group.as_raw() == pgrp)
    };
    // Most often it is the leader; only then it is worth a walk over all processes.
    if in_group(pgrp) && serves(pgrp) {
        return Some(pgrp);
    }
    let processes = std::fs::read_dir("/proc").ok()?;
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.into_iter().find(|pid| in_group(*pid) && serves(*pid))
}

/// Returns whether the owner of an autofs mount is gone: no process of its group reads its pipe. For a user who may not look at the
/// processes of the group, they count as the owner.
pub fn is_left(pgrp: i32, pipe: Option<u64>) -> bool {
    if nix::unistd::geteuid().is_root() {
        return group_reader(pgrp, pipe).is_none();
    }
    nix::sys::signal::killpg(nix::unistd::Pid::from_raw(pgrp), None) == Err(nix::errno::Errno::ESRCH)
}

/// The name of a process's program, as `ps` shows it; empty if there is no such process.
pub fn name(pid: i32) -> String {
    // At most 16 bytes: one read(2), without asking for the size before.
    let mut text = [0; 64];
    let length = File::open(format!("/proc/{pid}/comm")).and_then(|mut file| file.read(&mut text)).unwrap_or(0);
    String::from_utf8_lossy(text.get(..length).unwrap_or_default()).trim_end().to_owned()
}

/// Returns the parent of a process. It is 0 for a process whose parent is in a pid namespace that is not visible here.
pub fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name may contain anything. After it come the state and the parent.
    let after = memchr::memrchr(b')', &stat)?;
    let rest = std::str::from_utf8(stat.get(after + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The ids of a process, as automount logs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub name: String,
    /// Its process, if it is a thread.
    pub tgid: i32,
    /// Its parent.
    pub parent: i32,
    /// Real and effective user id.
    pub uid: (u32, u32),
    /// Real and effective group id.
    pub gid: (u32, u32),
}

/// Returns the ids of a process or thread.
pub fn identity(pid: i32) -> Option<Identity> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let two = |name: &str| {
        let mut words = value(name)?.split_ascii_whitespace().map(str::parse);
        Some((words.next()?.ok()?, words.next()?.ok()?))
    };
    Some(Identity {
        name: value("Name:")?.to_owned(),
        tgid: value("Tgid:")?.parse().ok()?,
        parent: value("PPid:")?.parse().ok()?,
        uid: two("Uid:")?,
        gid: two("Gid:")?,
    })
}

/// Returns the supplementary groups of a process; none if there is no such process.
pub fn groups(pid: i32) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    groups.split_ascii_whitespace().filter_map(|group| group.parse().ok()).collect()
}

/// Returns the effective user id of a process.
pub fn uid(pid: i32) -> Option<u32> {
    identity(pid).map(|identity| identity.uid.1)
}

/// Returns the control group of a process in the unified hierarchy, or in systemd's hierarchy.
pub fn cgroup(pid: i32) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let group = |prefix: &str| text.lines().find_map(|line| line.strip_prefix(prefix)).map(str::to_owned);
    group("0::")
        .filter(|group| group != "/")
        .or_else(|| text.lines().find_map(|line| line.split_once(":name=systemd:")).map(|(_, group)| group.to_owned()))
        .or_else(|| group("0::"))
}

/// State of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// `R` running, `S` and `D` waiting, `T` stopped by a signal, `t` by a debugger, `Z` dead.
    pub letter: u8,
    /// CPU time that it has used.
    pub cpu: Duration,
    /// The process that traces it.
    pub tracer: Option<i32>,
}

/// Returns the state of a process; `None` if it does not exist.
pub fn state(pid: i32) -> Option<State> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may contain anything. After it come the state and 49 numbers; the 12th and 13th are ticks of 10 ms.
    let mut rest = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || rest.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    let cpu = Duration::from_millis(ticks().saturating_add(ticks()).saturating_mul(10));
    let tracer = value("TracerPid:").and_then(|pid| pid.parse().ok()).filter(|pid| *pid != 0);
    Some(State { letter: value("State:")?.bytes().next()?, cpu, tracer })
}

fn same_file(one: &FileStat, two: &FileStat) -> bool {
    (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino)
}

/// `flags:` of fdinfo are octal, and their lowest bits say how the file was opened.
fn access_mode(pid: i32, number: &OsStr) -> Option<i32> {
    let path = [b"/proc/", pid.to_string().as_bytes(), b"/fdinfo/", number.as_bytes()].concat();
    let text = std::fs::read_to_string(OsStr::from_bytes(&path)).ok()?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
    Some(i32::from_str_radix(flags.trim(), 8).ok()? & libc::O_ACCMODE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::pipe::ReadEnd;

    #[test]
    fn this_process() {
        let me = crate::sys::children::pid();
        assert!(same_program(me, me));
        assert!(!same_program(me, -1));
        assert!(same_kind(me, me) && !same_kind(me, -1) && !same_kind(-1, -1));
        assert!(mount_namespace(me).unwrap() > 0);
        assert!(mount_namespace(-1).is_err());
        assert!(matches!(state(me), Some(State { letter: b'R' | b'S', tracer: None, .. })), "{:?}", state(me));
        assert_eq!(state(-1), None);
        assert_eq!(parent(me), i32::try_from(std::os::unix::process::parent_id()).ok());
        assert!(identity(me).is_some_and(|own| own.tgid == me && !own.name.is_empty()));
        assert!(cgroup(me).is_none_or(|group| group.starts_with('/')) && parent(-1).is_none());
    }

    #[test]
    fn only_the_reader_of_a_pipe_counts() {
        let me = crate::sys::children::pid();
        let (read, write) = ReadEnd::create().unwrap();
        let inode = read.inode().unwrap();
        assert!(reads_pipe(me, inode).unwrap());
        drop(read);
        assert!(!reads_pipe(me, inode).unwrap(), "the write end is still open");
        drop(write);
        assert!(!reads_pipe(-1, inode).unwrap());
    }
}
