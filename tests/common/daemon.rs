//! The program under test (autofs-rs or automount) and a running daemon.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::{secs, table, wait_for};

/// Whose automount(8) is tested: environment variable `AUTOMOUNT_UNDER_TEST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// `ours`, the default: the one built here.
    Ours,
    /// `theirs`: the one of the autofs package.
    Theirs,
}

impl Variant {
    /// The one that is tested now.
    pub fn chosen() -> Self {
        match std::env::var("AUTOMOUNT_UNDER_TEST").as_deref() {
            Err(_) | Ok("" | "ours") => Self::Ours,
            Ok("theirs") => Self::Theirs,
            Ok(other) => panic!("AUTOMOUNT_UNDER_TEST is {other:?}, neither \"ours\" nor \"theirs\""),
        }
    }

    /// Where it is, outside of a world.
    pub fn program(self) -> &'static str {
        match self {
            Self::Ours => env!("CARGO_BIN_EXE_automount"),
            Self::Theirs => "/usr/sbin/automount",
        }
    }

    /// Why it cannot be tested, if so.
    pub fn lacking(self) -> Option<&'static str> {
        (self == Self::Theirs && File::open(self.program()).is_err()).then_some("needs automount(8)")
    }

    /// `5.1.9` and so on; ours has none.
    pub fn version(self) -> Option<String> {
        if self == Self::Ours {
            return None;
        }
        let said = Command::new(self.program()).arg("-V").stdin(Stdio::null()).output().ok()?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let version =
            said.split_once("automount version ")?.1.split(|c: char| c != '.' && !c.is_ascii_digit()).next()?;
        Some(version.to_owned())
    }
}

/// A daemon in the foreground, in a process group of its own, with its log in a file.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: String,
    ended: Option<ExitStatus>,
}

impl Daemon {
    /// Starts it with the log in `/world/log`.
    pub fn start<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        let mut command = Self::command();
        command.args(args);
        Self::spawn(command)
    }

    /// The program with an environment as a service manager gives it.
    pub fn command() -> Command {
        let mut command = Command::new("/usr/sbin/automount");
        command.arg0("automount").env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
        command
    }

    /// The program, executed by another one with its words.
    pub fn under(by: &[&str], args: &[&str]) -> Command {
        let mut command = Command::new(by[0]);
        command.args(&by[1..]).arg("/usr/sbin/automount").args(args);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
        command
    }

    /// Starts `command` as a daemon.
    pub fn spawn(mut command: Command) -> Self {
        let log = "/world/log".to_owned();
        let out = File::options().append(true).create(true).open(&log).unwrap();
        let err = out.try_clone().unwrap();
        let child = command.process_group(0).stdin(Stdio::null()).stdout(out).stderr(err).spawn().unwrap();
        Self { child, log, ended: None }
    }

    /// Starts it on `/etc/auto.master`, verbose, and waits until these mount points are there.
    #[track_caller]
    pub fn serving(points: &[&str]) -> Self {
        let mut daemon = Self::start(["-f", "-v"]);
        daemon.ready(points);
        daemon
    }

    /// Waits until these autofs mounts are there.
    #[track_caller]
    pub fn ready(&mut self, points: &[&str]) {
        let pid = self.child.id().to_string();
        for point in points {
            wait_for(&format!("autofs on {point}"), secs(10), || {
                if let Some(status) = self.end_now() {
                    panic!("the daemon has ended ({status}) before {point} was there");
                }
                table::autofs(point).filter(|m| m.option("pgrp") == Some(&pid))
            });
        }
    }

    /// Its pid: for ours the keeper's.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// All living processes of its group.
    pub fn group(&self) -> Vec<i32> {
        group(self.pid())
    }

    /// The process that does the work: the keeper's child.
    #[track_caller]
    pub fn worker(&self) -> i32 {
        let keeper = self.pid();
        wait_for("a worker", secs(10), || {
            group(keeper).into_iter().find(|p| stat(*p).is_some_and(|s| s.parent == keeper))
        })
    }

    /// Sends a signal to it, and it alone.
    pub fn signal(&mut self, signal: Signal) {
        if self.end_now().is_none() {
            _ = kill(Pid::from_raw(self.pid()), signal);
        }
    }

    /// How it ended, if it has.
    pub fn end_now(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
        }
        self.ended
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(&mut self, deadline: Duration) -> ExitStatus {
        wait_for("the daemon's end", deadline, || self.end_now())
    }

    /// Ends it with TERM, as a service manager does; a panic unless it ends well.
    #[track_caller]
    pub fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.end(secs(20));
        assert!(status.success(), "end of the daemon: {status}");
    }

    /// Ends all of it with KILL, mount programs too, and waits until nothing is left, not even the number of its group.
    #[track_caller]
    pub fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        self.end(secs(10));
        let group = Pid::from_raw(self.pid());
        wait_for("the end of the daemon's group", secs(10), || killpg(group, Signal::SIGKILL).err());
    }

    /// What it has said until now.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until it has said this.
    #[track_caller]
    pub fn says(&self, text: &str) {
        wait_for(&format!("{text:?} in the log"), secs(10), || self.log().contains(text).then_some(()));
    }
}

/// The living processes of a process group.
pub fn group(pgrp: i32) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|s| s.pgrp == pgrp && !matches!(s.state, 'Z' | 'X'))).collect()
}

/// Of a process, from `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// R, S, D, Z, ...
    pub state: char,
    /// Parent.
    pub parent: i32,
    /// Process group.
    pub pgrp: i32,
}

/// `/proc/PID/stat`, if it still lives.
pub fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    let mut words = text.rsplit_once(')')?.1.split_ascii_whitespace();
    Some(Stat {
        state: words.next()?.chars().next()?,
        parent: words.next()?.parse().ok()?,
        pgrp: words.next()?.parse().ok()?,
    })
}
