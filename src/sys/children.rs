//! Processes: making one by fork, being a leader or a child, and learning how children end.

use std::ffi::CStr;
use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno as Os;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal as Number;
use nix::unistd::{ForkResult, Pid, getpgid, getpgrp};

/// The two sides of [`fork`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fork {
    /// The process that called, with the pid of the new one.
    Parent(i32),
    /// The new process.
    Child,
}

/// A signal to send. The keeper's words to a worker are real-time signals, which no program sends to its process group by
/// mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// End a process.
    Kill,
    /// To a worker: end the daemon.
    Stop,
    /// To a worker: end the daemon, whatever is in use.
    Force,
    /// To a worker: unmount what is unused.
    Prune,
    /// To a worker: read the configuration again.
    Reload,
    /// To a worker: make room for the next one.
    Retire,
}

impl Signal {
    /// Returns the number of the signal.
    pub fn number(self) -> i32 {
        match self {
            Self::Kill => libc::SIGKILL,
            Self::Stop => libc::SIGRTMIN(),
            Self::Force => libc::SIGRTMIN() + 1,
            Self::Prune => libc::SIGRTMIN() + 2,
            Self::Reload => libc::SIGRTMIN() + 3,
            Self::Retire => libc::SIGRTMIN() + 4,
        }
    }
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// By itself, with this status.
    Status(i32),
    /// By the signal with this number.
    Signal(i32),
}

impl Exit {
    /// By SIGKILL, which no process has from itself.
    pub fn is_kill(self) -> bool {
        self == Self::Signal(nix::libc::SIGKILL)
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Sets the nice value of the calling thread.
///
/// # Errors
/// Returns the errors of setpriority(2).
pub fn set_nice(nice: i32) -> std::io::Result<()> {
    // Linux changes the calling thread only, unlike POSIX.
    Ok(rustix::process::setpriority_process(None, nice)?)
}

/// Result of [`reap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reaped {
    /// A child with this pid has ended.
    Child(i32, Exit),
    /// There are children, and all of them run.
    Running,
    /// There are no children.
    None,
}

/// Makes a copy of this process. To be called only while there is one thread: in the child of a process with several,
/// any lock may be held for ever.
///
/// # Errors
/// Returns the errors of fork(2).
pub fn fork() -> io::Result<Fork> {
    // SAFETY: the caller has been told that there must be one thread; then the child may do everything.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Fork::Parent(child.as_raw())),
        ForkResult::Child => Ok(Fork::Child),
    }
}

/// Ends this process at once: no destructor and no exit handler runs. What a forked child calls that must not touch
/// what its parent left.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit ends the process and touches nothing of it.
    unsafe { libc::_exit(status) }
}

/// Pid of this process.
pub fn pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// Pid of the parent process.
pub fn parent() -> i32 {
    nix::unistd::getppid().as_raw()
}

/// Process group of this process: the owner of the autofs mounts that it makes.
pub fn process_group() -> i32 {
    nix::unistd::getpgrp().as_raw()
}

/// Returns the process group of a process, be it a zombie. `None`: there is no such process.
pub fn group_of(pid: i32) -> Option<i32> {
    let pid = (pid > 0).then(|| Pid::from_raw(pid))?;
    getpgid(Some(pid)).ok().map(Pid::as_raw)
}

/// Makes this process the leader of a process group of its own, if it is not.
///
/// # Errors
/// Returns the errors of setpgid(2).
pub fn lead_group() -> io::Result<()> {
    if process_group() == pid() {
        return Ok(());
    }
    // A session leader is a group leader already, so EPERM cannot mean that.
    Ok(nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?)
}

/// Starts a session of its own, without a terminal. Not an error for who leads one already.
///
/// # Errors
/// EPERM: this process leads a group in another session.
pub fn lead_session() -> io::Result<()> {
    match nix::unistd::setsid() {
        Ok(_) => Ok(()),
        Err(Os::EPERM) if nix::unistd::getsid(None)? == nix::unistd::getpid() => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Limits the memory for data of this process to so many bytes, for good. What asks for more is refused; stacks that are
/// reserved and not used do not count.
///
/// # Errors
/// Returns the errors of setrlimit(2).
pub fn limit_memory(bytes: u32) -> io::Result<()> {
    let bytes = libc::rlim_t::from(bytes);
    Ok(setrlimit(Resource::RLIMIT_DATA, bytes, bytes)?)
}

/// Has the kernel kill this process when the thread that made it ends. Look at [`parent`] afterwards: it may have
/// ended before.
///
/// # Errors
/// Returns the errors of prctl(2).
pub fn die_with_parent() -> io::Result<()> {
    Ok(prctl::set_pdeathsig(Number::SIGKILL)?)
}

/// Makes this process the parent of all descendants whose own parent ends.
///
/// # Errors
/// Returns the errors of prctl(2).
pub fn adopt_orphans() -> io::Result<()> {
    Ok(prctl::set_child_subreaper(true)?)
}

/// Becomes the user and the group "nobody" (65534) without other groups; with `keep` the capabilities that the process has stay
/// permitted. To be called while there is one thread, and before [`drop_capabilities`].
///
/// # Errors
/// Returns the errors of setgroups(2), setresgid(2) and setresuid(2): a user namespace may not have this user. Then the process stays
/// what it was, possibly without groups.
pub fn become_nobody(keep: bool) -> io::Result<()> {
    const NOBODY: u32 = 65_534;
    let (user, group) = (nix::unistd::Uid::from_raw(NOBODY), nix::unistd::Gid::from_raw(NOBODY));
    prctl::set_keepcaps(keep)?;
    nix::unistd::setgroups(&[])?;
    nix::unistd::setresgid(group, group, group)?;
    Ok(nix::unistd::setresuid(user, user, user)?)
}

/// Becomes this user and group for good, without other groups and capabilities. The user can send signals to the process, but cannot
/// trace it. To be called while there is one thread.
///
/// # Errors
/// Returns the errors of setgroups(2), setresgid(2), setresuid(2) and prctl(2).
pub fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    let (user, group) = (nix::unistd::Uid::from_raw(uid), nix::unistd::Gid::from_raw(gid));
    nix::unistd::setgroups(&[])?;
    nix::unistd::setresgid(group, group, group)?;
    nix::unistd::setresuid(user, user, user)?;
    Ok(prctl::set_dumpable(false)?)
}

/// Gives all capabilities up, and those of programs that this process may start. With `ports`, the one for ports below 1024 is
/// kept, if the process has it. Files and processes of its user stay accessible.
///
/// # Errors
/// Returns the errors of capset(2) and prctl(2).
pub fn drop_capabilities(ports: bool) -> io::Result<()> {
    /// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h: two words for each set.
    const VERSION: u32 = 0x2008_0522;
    let header = [VERSION, 0];
    /// `CAP_NET_BIND_SERVICE`.
    const PORTS: u32 = 1 << 10;
    prctl::set_no_new_privs()?;
    // Effective, permitted, inheritable; then the higher capabilities.
    let set = |kept: u32| {
        let words = [kept, kept, 0, 0, 0, 0];
        // SAFETY: both structures of linux/capability.h consist of 32-bit words, as many as these.
        Os::result(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), words.as_ptr()) }).map(drop)
    };
    if ports && set(PORTS).is_ok() {
        return Ok(());
    }
    Ok(set(0)?)
}

/// Sets the name that `ps` shows for this thread: at most 15 bytes of it.
///
/// # Errors
/// Returns the errors of prctl(2).
pub fn set_name(name: &CStr) -> io::Result<()> {
    Ok(prctl::set_name(name)?)
}

/// Sends a signal to a process.
///
/// # Errors
/// ESRCH: there is no such process. EPERM. EINVAL: a pid below 1, which would mean a group or everybody.
pub fn kill(pid: i32, signal: Signal) -> io::Result<()> {
    if pid < 1 {
        return Err(Os::EINVAL.into());
    }
    // SAFETY: kill takes numbers only.
    Ok(Os::result(unsafe { libc::kill(pid, signal.number()) }).map(drop)?)
}

/// Returns whether a process with this pid exists, be it a zombie.
pub fn exists(pid: i32) -> bool {
    pid > 0 && !matches!(nix::sys::signal::kill(Pid::from_raw(pid), None), Err(Os::ESRCH))
}

/// Returns whether a process group with this number has a member, be it a zombie.
pub fn group_exists(pgrp: i32) -> bool {
    pgrp > 0 && !matches!(nix::sys::signal::killpg(Pid::from_raw(pgrp), None), Err(Os::ESRCH))
}

/// Kills and reaps the children of this process that are in its process group, then what they leave to us of their own
/// children, until there are none: what a dead worker of ours has left under way. Gives up after `time_limit`, as a
/// process that waits for a dead server cannot be killed.
pub fn kill_own_group(time_limit: Duration) {
    let begun = Instant::now();
    let list = format!("/proc/self/task/{0}/children", pid());
    loop {
        let children = std::fs::read_to_string(&list).unwrap_or_default();
        let ours = |child: &i32| getpgid(Some(Pid::from_raw(*child))).is_ok_and(|group| group == getpgrp());
        let found: Vec<i32> =
            children.split_ascii_whitespace().filter_map(|child| child.parse().ok()).filter(ours).collect();
        if found.is_empty() || begun.elapsed() > time_limit {
            return;
        }
        for child in found {
            let _ = kill(child, Signal::Kill);
        }
        std::thread::sleep(Duration::from_millis(1));
        while matches!(reap(), Ok(Reaped::Child(..))) {}
    }
}

/// Collects one child that has ended, if there is one; does not block.
///
/// # Errors
/// Returns the errors of waitpid(2).
pub fn reap() -> io::Result<Reaped> {
    wait(-1, libc::WNOHANG)
}

/// Waits for the end of a child.
///
/// # Errors
/// ECHILD: it is none of ours, or was reaped.
pub fn wait_for(pid: i32) -> io::Result<Exit> {
    loop {
        match wait(pid, 0)? {
            Reaped::Child(_, exit) => return Ok(exit),
            Reaped::Running => continue,
            Reaped::None => return Err(Os::ECHILD.into()),
        }
    }
}

/// waitpid(2). Not nix's, which has no name for a child that ended by a real-time signal and so loses it.
fn wait(pid: i32, flags: libc::c_int) -> io::Result<Reaped> {
    let mut status = 0;
    loop {
        // SAFETY: waitpid writes one int through the pointer, which is valid for the call.
        return match Os::result(unsafe { libc::waitpid(pid, &raw mut status, flags) }) {
            Ok(0) => Ok(Reaped::Running),
            Ok(pid) if libc::WIFEXITED(status) => Ok(Reaped::Child(pid, Exit::Status(libc::WEXITSTATUS(status)))),
            Ok(pid) => Ok(Reaped::Child(pid, Exit::Signal(libc::WTERMSIG(status)))),
            Err(Os::ECHILD) => Ok(Reaped::None),
            Err(Os::EINTR) => continue,
            Err(e) => Err(e.into()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_go_to_single_processes_only() {
        for pid in [0, -1, i32::MIN] {
            assert_eq!(kill(pid, Signal::Reload).unwrap_err().raw_os_error(), Some(libc::EINVAL));
            assert!(!exists(pid) && !group_exists(pid));
        }
        assert!(group_exists(process_group()));
        assert!(exists(pid()));
        assert!(exists(parent()) || parent() == 0);
    }

    #[test]
    fn nobody_elses_children_are_waited_for() {
        assert_eq!(wait_for(pid()).unwrap_err().raw_os_error(), Some(libc::ECHILD));
    }
}
