//! Opening roots of autofs mounts, where that may block for ever.
//!
//! The kernel lets nobody but its owner pass a direct or offset mount that has a request open, and holds whoever walks
//! there until that is answered. When the owner is dead, nobody answers, and only SIGKILL ends the wait. So where an
//! owner may have died, a helper process walks: this program, executed again. It opens one root after the other and
//! passes them on; one that does not come back in time is killed.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::sys::autofs::Control;
use crate::sys::{children, fds, path};

/// First argument that makes the program the helper; its end of the socket is standard input.
pub(crate) const ARGUMENT: &str = "--internal-opener";

/// How long an open may take where nothing else waits for it. It takes microseconds, or for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// How long it may take where much else waits for it.
pub(crate) const LITTLE_PATIENCE: Duration = Duration::from_millis(100);

/// Each open that does not come back halves the patience with the next, down to this.
const LEAST_PATIENCE: Duration = Duration::from_millis(20);

/// For so long an open that did not come back is not tried again by who has little patience.
const MEMORY: Duration = Duration::from_millis(1500);

/// In a request, in place of a device: the path is to be walked, nothing more.
const NO_DEVICE: u32 = u32::MAX;

/// For an error of the helper itself: the errno of an input/output error, the same on all machines.
const EIO: i32 = 5;

/// Bytes of a request: the device and a path.
const REQUEST: usize = size_of::<u32>() + 4096;

/// The paths that did not come back, and when that was. Shared by all openers.
pub(crate) type Memory = Arc<Mutex<HashMap<PathBuf, Instant>>>;

/// Opens roots by way of a helper, which is started when it is needed.
#[derive(Debug)]
pub(crate) struct Opener {
    helper: Option<(Child, OwnedFd)>,
    /// How often an open has not come back.
    blocked: u32,
    memory: Memory,
}

impl Opener {
    /// One without a helper.
    pub(crate) fn new(memory: Memory) -> Self {
        Self { helper: None, blocked: 0, memory }
    }

    /// As [`Control::open_mount`].
    ///
    /// # Errors
    /// Those of that; `TimedOut`: it does not come back.
    pub(crate) fn open(&mut self, path: &Path, dev: u32, patience: Duration) -> io::Result<OwnedFd> {
        self.ask(path, dev, patience)?.ok_or_else(|| io::Error::other("the helper has sent no root"))
    }

    /// Walks to a path, to find out whether that can be done.
    ///
    /// # Errors
    /// `TimedOut`: it cannot. What else is wrong shows when it is done.
    pub(crate) fn walk(&mut self, path: &Path, patience: Duration) -> io::Result<()> {
        match self.ask(path, NO_DEVICE, patience) {
            Err(e) if e.kind() == io::ErrorKind::TimedOut => Err(e),
            _ => Ok(()),
        }
    }

    fn dismiss(&mut self) {
        if let Some((mut helper, _)) = self.helper.take() {
            end(&mut helper);
        }
    }

    fn ask(&mut self, path: &Path, dev: u32, patience: Duration) -> io::Result<Option<OwnedFd>> {
        if self.remember(|memory| memory.contains_key(path)) && patience < PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let socket = self.helper()?;
        let request = [&dev.to_ne_bytes(), path.as_os_str().as_bytes()].concat();
        fds::send(socket.as_fd(), &request, None)?;
        let patience = (patience / 2u32.saturating_pow(self.blocked)).max(LEAST_PATIENCE);
        let socket = self.helper()?;
        if !answers(socket, patience)? {
            self.remember(|memory| memory.insert(path.to_owned(), Instant::now()));
            self.blocked = self.blocked.saturating_add(1);
            self.dismiss();
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

    fn remember<T>(&self, look: impl FnOnce(&mut HashMap<PathBuf, Instant>) -> T) -> T {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.retain(|_, when| when.elapsed() < MEMORY);
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

fn answers(socket: &OwnedFd, patience: Duration) -> io::Result<bool> {
    let end = Instant::now() + patience;
    loop {
        match fds::poll([socket.as_fd()], Some(end.saturating_duration_since(Instant::now()))) {
            Ok([ready]) if ready || Instant::now() >= end => return Ok(ready),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Kills it, and takes note of its end if that comes soon: nothing may hang here.
fn end(helper: &mut Child) {
    let _ = helper.kill();
    let end = Instant::now() + PATIENCE;
    while matches!(helper.try_wait(), Ok(None)) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The helper.
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
