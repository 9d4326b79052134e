//! Accesses to mount points, each with a deadline: a broken daemon makes tests fail, not hang.
//!
//! The process that runs a test is never in the daemon's process group (whose members trigger nothing), so a thread
//! of it will do; what has to be another user, or to be killed, is a process.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::PATIENCE;
use super::world::PROGRAM;

/// How long any access may take.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Runs `access` in a thread. Panics if that takes longer than `deadline` times [`PATIENCE`]; the thread is lost then, and
/// ends with the world.
#[track_caller]
pub fn within<T: Send + 'static>(deadline: Duration, what: &str, access: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || _ = done.send(access()));
    match wait.recv_timeout(deadline * PATIENCE) {
        Ok(value) => value,
        Err(_) => panic!("no answer within {deadline:?}: {what}"),
    }
}

/// Goes into a directory: `stat -L PATH/.`, which triggers it and everything above.
#[track_caller]
pub fn enter(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    let what = format!("access to {}", path.display());
    within(DEADLINE, &what, move || enter_now(&path))
}

/// The same, without a deadline.
pub fn enter_now(path: &Path) -> io::Result<()> {
    fs::metadata(path.join(".")).map(drop)
}

/// Goes in and finds something mounted; a panic if not.
#[track_caller]
pub fn serves(path: impl AsRef<Path>) {
    let path = path.as_ref();
    if let Err(e) = enter(path) {
        panic!("{} is not served: {e}", path.display());
    }
    assert!(super::table::served(path), "{} answers, but nothing is mounted there", path.display());
}

/// Goes in and gets `errno`; a panic if not.
#[track_caller]
pub fn refuses(path: impl AsRef<Path>, errno: nix::errno::Errno) {
    match enter(&path) {
        Ok(()) => panic!("{} is served, and should not", path.as_ref().display()),
        Err(e) => assert_eq!(e.raw_os_error(), Some(errno as i32), "{}: {e}", path.as_ref().display()),
    }
}

/// The names in a directory, sorted.
#[track_caller]
pub fn list(path: impl AsRef<Path>) -> Vec<String> {
    let path = path.as_ref().to_owned();
    let what = format!("listing of {}", path.display());
    let names = within(DEADLINE, &what, move || {
        let names = fs::read_dir(path)?.map(|e| Ok(e?.file_name().to_string_lossy().into_owned()));
        names.collect::<io::Result<Vec<_>>>()
    });
    let mut names = names.unwrap_or_default();
    names.sort();
    names
}

/// What a symbolic link says, if there is one.
#[track_caller]
pub fn link(path: impl AsRef<Path>) -> Option<PathBuf> {
    let path = path.as_ref().to_owned();
    let what = format!("readlink of {}", path.display());
    within(DEADLINE, &what, move || fs::read_link(path).ok())
}

/// A process of its own, in a group of its own, that goes in; to be waited for or killed.
pub fn process(path: impl AsRef<Path>, uid: u32) -> Child {
    let mut command = Command::new(PROGRAM);
    command.arg("--visit").arg(path.as_ref()).process_group(0).stdin(Stdio::null());
    if uid != 0 {
        command.uid(uid).gid(uid);
    }
    command.spawn().unwrap()
}

/// Goes in as another user.
#[track_caller]
pub fn enter_as(path: &str, uid: u32) -> bool {
    let mut child = process(path, uid);
    let status = super::wait_for("the visitor's end", DEADLINE, || child.try_wait().unwrap());
    status.success()
}

/// The visiting process: exit status 0, or the errno.
pub fn main(path: &OsStr) -> ExitCode {
    match enter_now(Path::new(OsStr::from_bytes(path.as_bytes()))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => ExitCode::from(e.raw_os_error().and_then(|n| u8::try_from(n).ok()).unwrap_or(255)),
    }
}
