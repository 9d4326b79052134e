//! Opens roots of autofs mounts in a helper process, because opening may block forever.
//!
//! While a direct or offset mount has an unanswered request, every process that walks there, except members of its owner,
//! blocks in the kernel until the request is answered. If the owner is dead, this never happens, and only SIGKILL ends the wait.
//! So where an owner may have died, a helper process (this program, executed again) opens the roots one after the other and
//! sends back the descriptors. It is killed if an open does not return in time.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::daemon::mounts::table::MountTable;
use crate::mutex::lock;
use crate::sys::autofs::Control;
use crate::sys::{children, fds, path};

/// The first argument with which the program runs as the helper. Its end of the socket is standard input.
pub(crate) const ARGUMENT: &str = "--internal-opener";

/// Deadline of an open if no other mounts are delayed by it. An open takes microseconds or forever.
pub(crate) const OPEN_TIMEOUT: Duration = Duration::from_secs(1);

/// Deadline of an open if other mounts are delayed by it.
pub(crate) const SHORT_OPEN_TIMEOUT: Duration = Duration::from_millis(100);

/// Lower limit of the deadline. Each open that has blocked halves the deadline of the next ones.
const MIN_OPEN_TIMEOUT: Duration = Duration::from_millis(20);

/// For how long a path that has blocked is not tried again with a short deadline.
const MEMORY: Duration = Duration::from_millis(1500);

/// In a request, in place of a device number: only walk the path.
const NO_DEVICE: u32 = u32::MAX;

/// Sent for errors without an errno. EIO is 5 on all architectures.
const EIO: i32 = 5;

/// Maximum size of a request in bytes: the device number and a path.
const REQUEST: usize = size_of::<u32>() + 4096;

/// The paths that have blocked, and when, with the helpers that were killed there. A helper that waits for a lock in the kernel does not
/// end before the lock is free, and no other one is sent after it. Shared by all openers.
pub(crate) type Memory = Arc<Mutex<HashMap<PathBuf, (Instant, Child)>>>;

/// Opens roots through a helper process, which is started when needed.
#[derive(Debug)]
pub(crate) struct Opener {
    helper: Option<(Child, OwnedFd)>,
    /// How many opens have blocked.
    blocked: u32,
    memory: Memory,
    /// The mount table, if it was needed and could be read.
    table: Option<Option<MountTable>>,
    directory: Option<Directory>,
}

/// The directory that [`Opener::directory`] has opened last.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    fd: OwnedFd,
    /// Whether it is on a file system that asks no server, if that was needed.
    is_local: Option<bool>,
}

impl Opener {
    /// Creates an opener without a running helper.
    pub(crate) fn new(memory: Memory) -> Self {
        Self { helper: None, blocked: 0, memory, table: None, directory: None }
    }

    /// Opens the root of an autofs mount, like [`Control::open_mount`].
    ///
    /// # Errors
    /// Returns the errors of `open_mount`, and `TimedOut` if the open blocks.
    pub(crate) fn open(&mut self, path: &Path, dev: u32, time_limit: Duration) -> io::Result<OwnedFd> {
        self.ask(path, dev, time_limit)?.ok_or_else(|| io::Error::other("the helper has sent no root"))
    }

    /// Walks to a path, to find out whether this blocks.
    ///
    /// # Errors
    /// Returns `TimedOut` if it blocks. Other errors are ignored; they occur again in the operation that follows.
    pub(crate) fn walk(&mut self, path: &Path, time_limit: Duration) -> io::Result<()> {
        match self.ask(path, NO_DEVICE, time_limit) {
            Err(e) if e.kind() == io::ErrorKind::TimedOut => Err(e),
            _ => Ok(()),
        }
    }

    /// Returns whether walking to the directory of a path does not block. Asks a helper only if a server is on the way, and the dentry
    /// cache does not have it: until a new helper is executed, it keeps busy what other threads have open. The path itself is not
    /// opened, for the same reason.
    pub(crate) fn reaches(&mut self, path: &Path) -> bool {
        let directory = path.parent().unwrap_or(path);
        if path::open_cached_exact(directory).is_ok() {
            return true;
        }
        let table = self.table.get_or_insert_with(|| MountTable::read().ok());
        let is_local = table.as_ref().is_some_and(|table| table.server_above(path).is_none());
        is_local || self.walk(directory, SHORT_OPEN_TIMEOUT).is_ok()
    }

    /// Opens the directory that holds `path`, which contains no symbolic link. The directory stays open for the next call: if that asks
    /// for a path in the same directory, and it is on a local file system (Linux 6.8), nothing is opened.
    ///
    /// # Errors
    /// `TimedOut`: walking there blocks. Else those of openat2(2).
    pub(crate) fn directory(&mut self, path: &Path) -> io::Result<BorrowedFd<'_>> {
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let is_local = |fd: &OwnedFd| path::Magic::told(fd).is_some_and(path::Magic::is_local);
        let usable = self.directory.as_mut().is_some_and(|last| {
            last.path.as_os_str() == parent.as_os_str() && *last.is_local.get_or_insert_with(|| is_local(&last.fd))
        });
        if !usable {
            self.directory = None;
            let fd = match path::open_cached_exact(parent) {
                Ok(fd) => fd,
                Err(_) if self.reaches(path) => path::open_exact(parent)?,
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            };
            self.directory = Some(Directory { path: parent.to_owned(), fd, is_local: None });
        }
        self.directory.as_ref().map(|directory| directory.fd.as_fd()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn dismiss(&mut self) {
        if let Some((mut helper, _)) = self.helper.take() {
            end(&mut helper, OPEN_TIMEOUT);
        }
    }

    fn ask(&mut self, path: &Path, dev: u32, time_limit: Duration) -> io::Result<Option<OwnedFd>> {
        let (has_blocked, hangs) = self.remember(|memory| match memory.get_mut(path) {
            Some((_, helper)) => (true, hangs(helper)),
            None => (false, false),
        });
        if has_blocked && (hangs || time_limit < OPEN_TIMEOUT) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let socket = self.helper()?;
        let request = [&dev.to_ne_bytes(), path.as_os_str().as_bytes()].concat();
        fds::send(socket.as_fd(), &request, None)?;
        let time_limit = (time_limit / 2u32.saturating_pow(self.blocked)).max(MIN_OPEN_TIMEOUT);
        let socket = self.helper()?;
        if !answers(socket, time_limit)? {
            self.blocked = self.blocked.saturating_add(1);
            if let Some((mut helper, _)) = self.helper.take() {
                end(&mut helper, MIN_OPEN_TIMEOUT);
                self.remember(|memory| memory.insert(path.to_owned(), (Instant::now(), helper)));
            }
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut answer = [0; size_of::<i32>()];
        let received = fds::receive(socket.as_fd(), &mut answer)?;
        match (received, i32::from_ne_bytes(answer)) {
            (None, _) => {
                self.dismiss();
                Err(io::ErrorKind::BrokenPipe.into())
            }
            (Some(message), 0) => Ok(message.fd),
            (Some(_), errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn remember<T>(&self, look: impl FnOnce(&mut HashMap<PathBuf, (Instant, Child)>) -> T) -> T {
        let mut memory = lock(&self.memory);
        memory.retain(|_, (when, helper)| hangs(helper) || when.elapsed() < MEMORY);
        look(&mut memory)
    }

    fn helper(&mut self) -> io::Result<&OwnedFd> {
        if self.helper.is_none() {
            let (ours, theirs) = fds::pair()?;
            let mut command = Command::new("/proc/self/exe");
            command.arg0("automount").arg(ARGUMENT).env_clear();
            let helper = command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
            self.helper = Some((helper, ours));
        }
        self.helper.as_ref().map(|(_, socket)| socket).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        self.dismiss();
    }
}

fn answers(socket: &OwnedFd, time_limit: Duration) -> io::Result<bool> {
    let end = Instant::now() + time_limit;
    loop {
        match fds::poll([socket.as_fd()], Some(end.saturating_duration_since(Instant::now()))) {
            Ok([ready]) if ready || Instant::now() >= end => return Ok(ready),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Kills the helper and reaps it if it ends in this time. Does not wait longer, because it may be in an uninterruptible wait.
fn end(helper: &mut Child, within: Duration) {
    let _ = helper.kill();
    let end = Instant::now() + within;
    while hangs(helper) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Returns whether a helper that was killed has not ended.
fn hangs(helper: &mut Child) -> bool {
    matches!(helper.try_wait(), Ok(None))
}

/// Runs the helper.
pub(crate) fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve() -> io::Result<()> {
    children::die_with_parent()?;
    let stdin = io::stdin();
    let control = Control::open()?;
    let mut request = [0; REQUEST];
    while let Some(message) = fds::receive(stdin.as_fd(), &mut request)? {
        let asked = request.get(..message.length).unwrap_or_default();
        let Some((dev, path)) = asked.split_first_chunk() else { return Ok(()) };
        let (dev, path) = (u32::from_ne_bytes(*dev), Path::new(OsStr::from_bytes(path)));
        let opened = match dev {
            NO_DEVICE => path::open(path),
            dev => control.open_mount(path, dev),
        };
        let (errno, root) = match opened {
            Ok(root) => (0, Some(root)),
            Err(e) => (e.raw_os_error().unwrap_or(EIO), None),
        };
        fds::send(stdin.as_fd(), &errno.to_ne_bytes(), root.as_ref().map(|root| root.as_fd()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_stays_open_for_the_next_path_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for name in ["a", "b"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        std::os::unix::fs::symlink("a", at("link")).unwrap();
        let mut opener = Opener::new(Memory::default());
        let mut inode = |path: &str| opener.directory(&at(path)).and_then(path::fstat).map(|found| found.ino);
        let first = inode("a/x").unwrap();
        assert_eq!(first, path::lstat(&at("a")).unwrap().ino);
        assert_eq!(inode("b/x").unwrap(), path::lstat(&at("b")).unwrap().ino);
        assert_eq!(inode("link/x").unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert_eq!(inode("a/x").unwrap(), first);
        std::fs::rename(at("a"), at("c")).unwrap();
        std::fs::create_dir(at("a")).unwrap();
        let is_local = path::Magic::told(path::open(dir.path()).unwrap()).is_some_and(path::Magic::is_local);
        assert_eq!(inode("a/y").unwrap() == first, is_local, "it is opened again where a server may be asked");
        assert_eq!(inode("c/x").unwrap(), first);
    }
}
