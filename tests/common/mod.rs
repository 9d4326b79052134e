//! Shared by the privileged suites: worlds to run a daemon in, the daemon, accesses to its mounts, the mount table.
//!
//! A test runs in a process of its own inside a [`world`]: private mount, network, UTS and pid namespaces over a
//! throw-away root. The test program plays all parts itself: it is the first process of the namespaces, the process
//! that runs the test, and the programs in place of mount(8) and its helpers ([`stand_in`]).

#![allow(dead_code, reason = "each suite uses a part of it")]

pub mod console;
pub mod daemon;
pub mod dns_server;
pub mod flood;
pub mod fuse;
pub mod lab;
pub mod ldap_server;
pub mod servers;
pub mod site;
pub mod sss_library;
pub mod stand_in;
pub mod suite;
pub mod table;
pub mod trial;
pub mod visit;
pub mod world;
pub mod ypserv;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Plays the part that the command line asks for; `None`: it is the suite itself that was started.
///
/// `body` runs one test inside a world, by name; it panics when the test fails.
pub fn part(body: fn(&str)) -> Option<ExitCode> {
    let mut args = std::env::args_os();
    let called = args.next().unwrap_or_default();
    let called = Path::new(&called).file_name().unwrap_or_default().to_owned();
    if stand_in::is_one(&called) {
        return Some(stand_in::main(&called, &args.collect::<Vec<_>>()));
    }
    match args.next().as_deref().map(OsStr::as_bytes) {
        Some(b"--first") => Some(world::first(&args.next().unwrap_or_default())),
        Some(b"--body") => {
            let name = args.next().unwrap_or_default();
            // The group that was inherited has no number in here.
            nix::unistd::setsid().unwrap();
            world::build();
            body(&name.to_string_lossy());
            Some(ExitCode::SUCCESS)
        }
        Some(b"--fuse") => {
            let word = |word: Option<OsString>| word.unwrap_or_default().to_string_lossy().into_owned();
            Some(fuse::main(&word(args.next()), &word(args.next())))
        }
        Some(b"--visit") => Some(visit::main(&args.next().unwrap_or_default())),
        Some(b"--flood") => Some(flood::main(&args.next().unwrap_or_default())),
        _ => None,
    }
}

/// How many times longer than its deadline a test waits before it fails. The deadlines in the tests are what an idle
/// machine keeps with ease; on a busy one a process may not run for seconds. Only a test that fails takes longer by it.
pub const PATIENCE: u32 = 6;

/// Looks every few milliseconds until `look` gives something. Panics with `what` after `deadline` times [`PATIENCE`].
#[track_caller]
pub fn wait_for<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = deadline * PATIENCE;
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {deadline:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a program and returns what it prints, or `None` if it had to be killed after `deadline` times [`PATIENCE`].
pub fn output(command: &mut Command, deadline: Duration) -> Option<Output> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || _ = done.send(child.wait_with_output()));
    let output = wait.recv_timeout(deadline * PATIENCE).ok().map(Result::unwrap);
    if output.is_none() {
        _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
    output
}

/// Seconds, for deadlines.
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
