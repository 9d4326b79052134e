//! The container's first process: makes the container's root, starts what is to run in it, keeps its system log, and
//! reaps. And what runs there besides the daemon.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod, umask};
use nix::sys::wait::{WaitPidFlag, waitpid};

use crate::common::{visit, world};
use crate::host::PROGRAM;

/// Where the container's system log is.
pub const LOG: &str = "/var/log/messages";

/// Moves into `root` and becomes [`main`] there, which starts `commands`.
pub fn enter(root: &OsStr, commands: &[OsString]) -> ExitCode {
    let none: Option<&str> = None;
    let root = Path::new(root);
    mount(Some(root), root, none, MsFlags::MS_BIND, none).unwrap();
    for (kind, dir, options) in [
        ("proc", "proc", ""),
        ("tmpfs", "dev", "mode=755,size=64k"),
        ("tmpfs", "run", "mode=755,size=16m"),
        ("tmpfs", "mnt", "mode=755,size=16m"),
    ] {
        mount(Some(kind), &root.join(dir), Some(kind), MsFlags::empty(), Some(options)).unwrap();
    }
    umask(Mode::empty());
    for (name, major, minor) in [("null", 1, 3), ("zero", 1, 5), ("urandom", 1, 9), ("autofs", 10, 235)] {
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&root.join("dev").join(name), SFlag::S_IFCHR, mode, makedev(major, minor)).unwrap();
    }
    umask(Mode::from_bits_truncate(0o022));
    world::pivot(root);
    nix::unistd::setsid().unwrap();
    // Nothing of the host stays open: criu could not find it again.
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    nix::unistd::dup2_stdin(&null).unwrap();
    nix::unistd::dup2_stdout(&null).unwrap();
    nix::unistd::dup2_stderr(&null).unwrap();
    let open = fs::read_dir("/proc/self/fd").unwrap();
    let numbers: Vec<i32> = open.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|n| *n > 2 && *n != null.as_raw_fd()) {
        _ = nix::unistd::close(number);
    }
    drop(null);
    let error = Command::new(PROGRAM).arg("--inside").args(commands).env_clear().exec();
    panic!("{PROGRAM}: {error}");
}

/// Inside: starts each of `commands` (words, with `--` between two commands).
pub fn main(commands: &[OsString]) -> ExitCode {
    let log = UnixDatagram::bind("/dev/log").unwrap();
    log.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    // All children are reaped below, also adopted ones.
    #[allow(clippy::zombie_processes, reason = "waited for below")]
    for command in commands.split(|word| word == "--").filter(|words| !words.is_empty()) {
        let mut child = Command::new(&command[0]);
        child.args(&command[1..]).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("container", "test");
        child.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    }
    let mut buffer = [0; 8192];
    loop {
        if let Ok(length) = log.recv(&mut buffer) {
            // Opened anew for each line: criu minds a log file that has grown since the dump.
            let file = File::options().append(true).create(true).open(LOG);
            _ = file.and_then(|mut file| file.write_all(&[&buffer[..length], b"\n"].concat()));
        }
        while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status.pid().is_some()) {}
    }
}

/// Looks up one key after the other, for ever. That there is nothing is fine, anything else is not.
pub fn look_up(below: &OsStr, keys: u32) -> ExitCode {
    for n in (0..keys).cycle() {
        let path = Path::new(below).join(format!("k{n}"));
        match visit::enter_now(&path) {
            Err(e) if e.raw_os_error() != Some(libc::ENOENT) => {
                let file = File::options().append(true).create(true).open("/var/log/look-up");
                let line = format!("{}: {e}\n", path.display());
                _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
            }
            _ => {}
        }
    }
    ExitCode::FAILURE
}

/// The bytes of a path, for messages.
pub fn shown(path: &Path) -> String {
    String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned()
}
