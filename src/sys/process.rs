//! Programs that are run to an end: mount helpers, mount(8), fsck, program maps.
//!
//! They are spawned without any code of ours between fork and exec (posix_spawn(3)), with an environment made from
//! nothing, `/dev/null` as input and a pipe each for what they say, and they stay in our process group, which the kernel
//! exempts from triggering our own autofs mounts. Whatever they do, they are answered for in time: at the deadline they
//! get SIGTERM, after a grace SIGKILL, and soon after that nobody waits for them any more.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::AsyncRead;
use tokio::process::{Child, ChildStderr, ChildStdout};
use tokio::time::{Instant, sleep_until, timeout};

use super::{children, landlock};
use crate::record::Exit;

/// Search path of the programs that the daemon runs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes kept of what a program says on either of its pipes. More is read, so that it does not stop there, and dropped.
const OUTPUT_LIMIT: usize = 64 << 10;

/// After SIGKILL: a process that waits for a dead server inside the kernel does not end by it.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// For how long a program is waited for that is being written.
const WRITTEN_TIMEOUT: Duration = Duration::from_millis(500);

/// A program, ready to run.
#[derive(Debug)]
pub struct Program {
    command: tokio::process::Command,
    deadline: Duration,
    grace: Duration,
    output_limit: usize,
    /// It is ended when nobody waits for it any more.
    bound: bool,
    /// It may only signal itself and what it has started.
    confined: bool,
}

/// How a program ended, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How it ended.
    pub exit: Exit,
    /// Its standard output, at most as much as [`Program::output_limit`] says.
    pub stdout: Vec<u8>,
    /// Its standard error, at most 64 KiB.
    pub stderr: Vec<u8>,
}

impl Ended {
    /// The lines of both pipes, without their newlines and without empty ones.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let lines = |text| <[u8]>::split(text, |b| *b == b'\n').filter(|line| !line.is_empty());
        lines(&self.stdout).chain(lines(&self.stderr))
    }
}

impl Program {
    /// The program at the absolute path `path`, which has `deadline` to end, and then `grace` to end when asked to. Its
    /// environment is `PATH` and `LANG=C`.
    pub fn new(path: &Path, deadline: Duration, grace: Duration) -> Self {
        // A path with a slash keeps std from searching, and with that from fork(2).
        let mut command = tokio::process::Command::new(path);
        command.env_clear().env("PATH", PATH).env("LANG", "C");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, deadline, grace, output_limit: OUTPUT_LIMIT, bound: false, confined: false }
    }

    /// With one more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// With these environment variables.
    #[must_use]
    pub fn pass(mut self, variables: &[(OsString, OsString)]) -> Self {
        self.command.envs(variables.iter().map(|(name, value)| (name, value)));
        self
    }

    /// In a process group of its own, so that its paths trigger automounts as the paths of other processes do.
    #[must_use]
    pub fn outside(mut self) -> Self {
        self.command.process_group(0);
        self
    }

    /// In this working directory.
    #[must_use]
    pub fn directory(mut self, path: &Path) -> Self {
        self.command.current_dir(path);
        self
    }

    /// Keeps so many bytes of its standard output, instead of 64 KiB.
    #[must_use]
    pub fn output_limit(mut self, bytes: usize) -> Self {
        self.output_limit = bytes;
        self
    }

    /// Kills it, with the processes that it has started, if the future that runs it is dropped.
    #[must_use]
    pub fn bound(mut self) -> Self {
        self.bound = true;
        self
    }

    /// Lets it send signals only to itself and to the processes that it starts, if the kernel can (Linux 6.12 with Landlock). It
    /// is in our process group, so a signal to its group would reach us.
    #[must_use]
    pub fn confined(mut self) -> Self {
        self.confined = true;
        self
    }

    /// The path and the arguments, in order.
    pub fn words(&self) -> Vec<OsString> {
        let command = self.command.as_std();
        std::iter::once(command.get_program()).chain(command.get_args()).map(OsStr::to_owned).collect()
    }

    /// Runs it to its end. An error: it could not be started. If the future is dropped, the program goes on, unless it is
    /// [bound](Self::bound) to it.
    pub async fn run(self) -> io::Result<Ended> {
        let Self { mut command, deadline, grace, output_limit, bound, confined } = self;
        let end = Instant::now() + deadline;
        // The caller of posix_spawn(3) waits until the program is loaded, so it is another thread. If this future is dropped
        // meanwhile, the result of that thread ends a bound program.
        let start = move || Started::new(&mut command, output_limit, bound);
        let started = in_thread(confined, start).await?;
        let Started { mut child, mut stdout, mut stderr, family, unattended } = started?;
        let how = loop {
            tokio::select! {
                status = child.wait() => break exit_of(status?),
                () = stdout.read() => {}
                () = stderr.read() => {}
                () = sleep_until(end) => {
                    stop(&mut child, family, grace).await;
                    break Exit::Deadline;
                }
            }
        };
        unattended.disarm();
        // A server that the program has left behind may hold the pipes open: what is not there by now is not waited for.
        Ok(Ended { exit: how, stdout: stdout.rest(), stderr: stderr.rest() })
    }
}

/// Starts a program. One whose file is open for writing cannot be started, so it is tried for some time: whoever copies a new
/// version over the old one is soon done.
fn spawn(command: &mut tokio::process::Command) -> io::Result<Child> {
    let end = std::time::Instant::now() + WRITTEN_TIMEOUT;
    loop {
        match command.spawn() {
            Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy && std::time::Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(5));
            }
            spawned => return spawned,
        }
    }
}

/// Calls `start` in a thread of its own. If that is `confined`, a program that it starts can signal only processes that it starts
/// itself.
async fn in_thread<T: Send + 'static>(confined: bool, start: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let runtime = tokio::runtime::Handle::current();
    let (sender, started) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("spawn".to_owned()).spawn(move || {
        let _context = runtime.enter();
        if confined {
            // If this is not possible, the program runs like any other.
            let _ = landlock::keep_signals_inside();
        }
        let _ = sender.send(start());
    })?;
    started.await.map_err(io::Error::other)
}

/// A program that was started.
struct Started {
    /// Dropped first: the number of a child that was reaped may be another's.
    unattended: Unattended,
    child: Child,
    stdout: Pipe<ChildStdout>,
    stderr: Pipe<ChildStderr>,
    /// `None` if it has ended.
    family: Option<Family>,
}

impl Started {
    /// Starts a program. Blocks until it is loaded.
    fn new(command: &mut tokio::process::Command, output_limit: usize, bound: bool) -> io::Result<Self> {
        let mut child = spawn(command)?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let stdout = Pipe::new(child.stdout.take(), output_limit);
        let stderr = Pipe::new(child.stderr.take(), OUTPUT_LIMIT);
        let family = pid.map(|pid| Family { pid, pipes: [stdout.inode, stderr.inode] });
        Ok(Self { unattended: Unattended(family.filter(|_| bound)), child, stdout, stderr, family })
    }
}

/// A program that is to be killed when nobody waits for its end any more, as when this process ends.
struct Unattended(Option<Family>);

impl Unattended {
    /// The program has ended: its number may be another's.
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Unattended {
    fn drop(&mut self) {
        // Not reaped yet, so the number is still its own.
        for process in self.0.map(Family::members).unwrap_or_default().into_iter().filter_map(open_pid) {
            send(&process, Signal::KILL);
        }
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt as _;
    match status.code() {
        Some(code) => Exit::Status(code),
        None => Exit::Signal(status.signal().unwrap_or_default()),
    }
}

/// One pipe of a program; `None` after its end.
struct Pipe<P> {
    pipe: Option<P>,
    /// The inode number, by which both ends are known. `None` if it cannot be told.
    inode: Option<u64>,
    text: Vec<u8>,
    /// Bytes that are kept.
    limit: usize,
}

impl<P: AsyncRead + AsFd + Unpin> Pipe<P> {
    fn new(pipe: Option<P>, limit: usize) -> Self {
        let inode = pipe.as_ref().and_then(|pipe| Some(rustix::fs::fstat(pipe).ok()?.st_ino));
        Self { pipe, inode, text: Vec::new(), limit }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.limit.saturating_sub(self.text.len());
        self.text.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    /// Reads what comes next; never returns after the end.
    async fn read(&mut self) {
        let Some(pipe) = &mut self.pipe else {
            return std::future::pending().await;
        };
        match super::fds::read_piece(pipe).await {
            Ok(piece) if !piece.is_empty() => self.keep(&piece),
            _ => self.pipe = None,
        }
    }

    /// Returns the output so far, with the bytes in the pipe at this moment.
    fn rest(mut self) -> Vec<u8> {
        while let Some(pipe) = &self.pipe {
            let mut buffer = [0; 4096];
            // tokio's ends of pipes do not block.
            match nix::unistd::read(pipe.as_fd(), &mut buffer) {
                Ok(0) | Err(_) => self.pipe = None,
                Ok(n) if self.text.len() < self.limit => self.keep(buffer.get(..n).unwrap_or_default()),
                Ok(_) => break,
            }
        }
        self.text
    }
}

/// Ends a program and the processes that it has started, first politely.
async fn stop(child: &mut Child, family: Option<Family>, grace: Duration) {
    let Some(family) = family else { return };
    let open = || -> Vec<OwnedFd> { family.members().into_iter().filter_map(open_pid).collect() };
    // Held by descriptors: by the time of SIGKILL a number may belong to another process.
    let tree = open();
    for process in &tree {
        send(process, Signal::TERM);
    }
    let politely = timeout(grace, child.wait()).await.is_ok();
    // Some may have been started since.
    for process in tree.iter().chain(&orphans(family.pipes).into_iter().filter_map(open_pid).collect::<Vec<_>>()) {
        send(process, Signal::KILL);
    }
    if !politely {
        // What pidfd_open(2), Linux 5.3, could not open.
        let _ = child.start_kill();
        let _ = timeout(LAST_WAIT, child.wait()).await;
    }
}

/// A program with the processes that it has started.
#[derive(Debug, Clone, Copy)]
struct Family {
    pid: i32,
    /// The inode numbers of the pipes that it writes to.
    pipes: [Option<u64>; 2],
}

impl Family {
    /// Returns the program, all that descends from it as long as its parents live, and those without a parent that still
    /// write to its pipes.
    fn members(self) -> Vec<i32> {
        let mut found = descendants(self.pid);
        for orphan in orphans(self.pipes) {
            if !found.contains(&orphan) {
                found.extend(descendants(orphan));
            }
        }
        found
    }
}

/// Returns the processes of our process group whose standard output or error is one of these pipes. One that has left the group
/// is a server that is to stay.
fn orphans(pipes: [Option<u64>; 2]) -> Vec<i32> {
    let names: Vec<String> = pipes.iter().flatten().map(|inode| format!("pipe:[{inode}]")).collect();
    let writes = |pid: i32| {
        let target = |fd: u32| std::fs::read_link(format!("/proc/{pid}/fd/{fd}"));
        [1, 2].into_iter().filter_map(|fd| target(fd).ok()).any(|to| names.iter().any(|name| to.as_os_str() == &**name))
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten();
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let ours = |pid: &i32| *pid != children::pid() && children::group_of(*pid) == Some(children::process_group());
    pids.filter(ours).filter(|pid| writes(*pid)).collect()
}

/// A process and all that descends from it as long as its parents live, parents first.
fn descendants(pid: i32) -> Vec<i32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        found.extend(children.split_ascii_whitespace().filter_map(|word| word.parse::<i32>().ok()));
        next += 1;
    }
    found
}

/// Opens a process (pidfd_open(2), Linux 5.3). Returns `None` if it has ended.
fn open_pid(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

fn send(process: &OwnedFd, signal: Signal) {
    // That it has ended meanwhile is no error.
    let _ = pidfd_send_signal(process, signal);
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(2);

    fn run(deadline: Duration, script: &str) -> Ended {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let program = Program::new(Path::new("/bin/sh"), deadline, GRACE).arg("-c").arg(script).env("X", "y z");
        runtime.block_on(program.run()).unwrap()
    }

    const LONG: Duration = Duration::from_secs(8);

    #[test]
    fn status_output_and_environment_come_back() {
        let ended = run(LONG, "echo $X; echo oops >&2; echo $LANG $HOME >&2; exit 3");
        assert_eq!(ended.exit, Exit::Status(3));
        assert_eq!(ended.stdout, b"y z\n");
        assert_eq!(ended.lines().collect::<Vec<_>>(), [&b"y z"[..], b"oops", b"C"]);
        assert_eq!(run(LONG, "kill -9 $$").exit, Exit::Signal(9));
    }

    #[test]
    fn it_stays_in_our_group_and_gets_no_descriptor() {
        let ours = tempfile::NamedTempFile::new().unwrap();
        let ended = run(LONG, "cut -d' ' -f5 /proc/$$/stat; ls -l /proc/$$/fd");
        let text = String::from_utf8(ended.stdout).unwrap();
        assert_eq!(text.lines().next(), Some(nix::unistd::getpgrp().to_string().as_str()));
        assert!(text.contains("/dev/null") && !text.contains(ours.path().to_str().unwrap()));
    }

    #[test]
    fn a_confined_program_signals_itself_and_not_its_group() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        if std::thread::spawn(landlock::keep_signals_inside).join().unwrap().is_err() {
            return;
        }
        let run = |deadline, script: &str| {
            let program = Program::new(Path::new("/bin/sh"), deadline, GRACE / 8).arg("-c").arg(script);
            runtime.block_on(program.confined().run()).unwrap().exit
        };
        // It ends what it has started, and we are still here.
        assert_eq!(run(LONG, "sleep 1000 & trap '' TERM; kill 0; wait"), Exit::Status(0));
        assert_eq!(run(LONG, "kill -KILL 0; sleep 1000"), Exit::Signal(9));
        assert_eq!(run(Duration::from_millis(200), "kill -STOP 0"), Exit::Deadline);
    }

    #[test]
    fn more_output_than_is_kept_does_not_stop_it() {
        let ended = run(LONG, "head -c 300000 /dev/zero");
        assert_eq!((ended.exit, ended.stdout.len()), (Exit::Status(0), OUTPUT_LIMIT));
    }

    #[test]
    fn whoever_keeps_the_pipe_is_not_waited_for() {
        let begin = std::time::Instant::now();
        let ended = run(LONG, "sleep 5 & echo done");
        assert_eq!((ended.exit, &ended.stdout[..]), (Exit::Status(0), &b"done\n"[..]));
        assert!(begin.elapsed() < Duration::from_secs(3));
    }

    #[test]
    fn the_deadline_ends_it_with_its_children() {
        let begin = std::time::Instant::now();
        let ended = run(Duration::from_millis(200), "trap '' TERM; echo $$; sleep 30");
        assert_eq!(ended.exit, Exit::Deadline);
        assert!(begin.elapsed() < GRACE + Duration::from_secs(2));
        let pid = String::from_utf8(ended.stdout).unwrap();
        assert!(std::fs::read_dir(format!("/proc/{}", pid.trim())).is_err());
    }

    #[test]
    fn the_deadline_ends_what_has_lost_its_parent() {
        let ended = run(Duration::from_millis(500), "(sleep 1000 & echo $!); sleep 1000");
        assert_eq!(ended.exit, Exit::Deadline);
        let pid = String::from_utf8(ended.stdout).unwrap().trim().to_owned();
        ends(&pid);
    }

    #[test]
    fn a_bound_program_ends_with_the_future_and_so_do_its_children() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let script = format!("sleep 1000 & echo $$ $! >{}; wait", file.path().display());
        let program = Program::new(Path::new("/bin/sh"), LONG * 10, GRACE).arg("-c").arg(script).bound();
        let pids = || std::fs::read_to_string(file.path()).unwrap();
        runtime.block_on(async {
            let running = tokio::spawn(program.run());
            while !pids().ends_with('\n') {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            running.abort();
            assert!(running.await.is_err());
        });
        pids().split_whitespace().for_each(ends);
    }

    #[test]
    fn a_bound_program_ends_if_the_future_is_dropped_while_it_starts() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let script = format!("echo $$ >{}; exec sleep 1000", file.path().display());
        let program = Program::new(Path::new("/bin/sh"), LONG * 10, GRACE).arg("-c").arg(script).bound();
        let pid = || std::fs::read_to_string(file.path()).unwrap();
        runtime.block_on(async {
            let mut run = Box::pin(program.run());
            // One poll hands it to a thread. The result of that thread is not looked at any more.
            assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(run.as_mut().poll(cx))).await.is_pending());
            let end = std::time::Instant::now() + LONG * 4;
            while !pid().ends_with('\n') {
                assert!(std::time::Instant::now() < end, "the program has not started");
                std::thread::sleep(Duration::from_millis(5));
            }
            drop(run);
        });
        ends(pid().trim());
    }

    /// Waits until a process has ended.
    fn ends(pid: &str) {
        let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let end = std::time::Instant::now() + LONG * 4;
        while !stat().is_empty() && !stat().contains(") Z ") {
            assert!(std::time::Instant::now() < end, "process {pid} runs on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let run = |path: &str| runtime.block_on(Program::new(Path::new(path), LONG, GRACE).run());
        assert_eq!(run("/nonexistent/mount.x").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(run("/etc/passwd").is_err());
        assert_eq!(run("/bin/a\0b").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
