//! A container with the daemon in it, and its checkpoint and restore with criu.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::table::{self, Mounted};
use crate::common::{output, secs, wait_for};
use crate::host::{PROGRAM, SHARED, measured};
use crate::init;

/// Root of the container, seen from the host.
pub const ROOT: &str = "/ct";

/// How long criu may take.
const CRIU: Duration = Duration::from_secs(40);

/// How long anything may take that is run inside.
const INSIDE: Duration = Duration::from_secs(10);

/// A running container.
pub struct Container {
    /// Its first process.
    pub pid: i32,
    starter: Option<Child>,
    /// Where the last dump is.
    images: PathBuf,
    dumps: u32,
    restores: u32,
}

/// Writes a file of the container's root, before or while it runs.
pub fn put(path: &str, text: &str) {
    let path = Path::new(ROOT).join(&path[1..]);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

impl Container {
    /// Starts one with the daemon and these other commands (words, `--` in between).
    #[track_caller]
    pub fn start(others: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--fork", "--propagation", "private", "--pid", "--mount", "--ipc", "--uts", "--"]);
        command.args([PROGRAM, "--init", ROOT, "--", "/usr/sbin/automount", "-v", "--"]).args(others);
        let starter = command.stdin(Stdio::null()).spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", starter.id());
        let pid = wait_for("the container's first process", secs(10), || {
            fs::read_to_string(&children).ok()?.split_whitespace().next()?.parse().ok()
        });
        let mut container = Self::found(pid);
        container.starter = Some(starter);
        container.ready();
        container
    }

    /// A container that another process has started.
    pub fn found(pid: i32) -> Self {
        Self { pid, starter: None, images: PathBuf::new(), dumps: 0, restores: 0 }
    }

    /// A container that another process has dumped, to be restored.
    pub fn dumped(images: &str) -> Self {
        Self { images: Path::new(SHARED).join("images").join(images), ..Self::found(0) }
    }

    /// Waits until the daemon has begun to serve.
    #[track_caller]
    pub fn ready(&self) {
        let socket = format!("/proc/{}/root/run/autofs/control", self.pid);
        let end = Instant::now() + secs(20);
        while !fs::exists(&socket).unwrap_or(false) || !self.ctl(&["ping"]).status.success() {
            assert!(Instant::now() < end, "the daemon does not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        // The socket is there before the maps have been read.
        wait_for("autofs mounts", secs(20), || self.table().iter().any(|m| m.fstype == "autofs").then_some(()));
    }

    /// Runs a program inside; a panic when it hangs.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid.to_string(), "-m", "-p", "-i", "-u", "--"]).args(words);
        self.finished(&mut command, INSIDE)
    }

    #[track_caller]
    fn finished(&self, command: &mut Command, deadline: Duration) -> Output {
        let output = output(command, deadline);
        output.unwrap_or_else(|| panic!("not finished after {deadline:?}: {command:?}\n{}", self.log()))
    }

    /// Goes into a directory: 0, or the errno.
    #[track_caller]
    pub fn visit(&self, path: &str) -> i32 {
        self.run(&[PROGRAM, "--visit", path]).status.code().unwrap_or(255)
    }

    /// Goes in and finds something mounted.
    #[track_caller]
    pub fn serves(&self, path: &str) {
        let errno = self.visit(path);
        assert_eq!(errno, 0, "{path} is not served\n{}\n{}", self.log(), self.shown());
        assert!(self.mounted(path), "{path} answers, but nothing is mounted there\n{}\n{}", self.log(), self.shown());
    }

    /// The mount table inside.
    pub fn table(&self) -> Vec<Mounted> {
        table::of(&self.pid.to_string())
    }

    /// Whether something other than autofs is mounted there.
    pub fn mounted(&self, path: &str) -> bool {
        self.table().iter().any(|m| m.target == Path::new(path) && m.fstype != "autofs")
    }

    /// The mount table and the log, for messages.
    pub fn shown(&self) -> String {
        let lines = self.table().into_iter().filter(|m| m.fstype == "autofs" || m.target.iter().count() > 2);
        lines.map(|m| format!("{} {} {} {}\n", init::shown(&m.target), m.fstype, m.dev, m.options)).collect()
    }

    /// Runs autofsctl.
    #[track_caller]
    pub fn ctl(&self, words: &[&str]) -> Output {
        self.run(&[&["/usr/bin/autofsctl"], words].concat())
    }

    /// Runs autofsctl, which must succeed; what it has printed.
    #[track_caller]
    pub fn order(&self, words: &[&str]) -> String {
        let output = self.ctl(words);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{words:?}: {}\n{out}{err}\n{}\n{}", output.status, self.log(), self.shown());
        out
    }

    /// `autofsctl status`.
    #[track_caller]
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.order(&["status", "--json"])).unwrap()
    }

    /// The container's system log.
    pub fn log(&self) -> String {
        let path = Path::new(ROOT).join(&init::LOG[1..]);
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }

    /// Dumps it. The error is what criu says.
    #[track_caller]
    pub fn try_dump(&mut self, more: &[&str]) -> Result<Duration, String> {
        self.dumps += 1;
        self.images = Path::new(SHARED).join("images").join(self.dumps.to_string());
        _ = fs::remove_dir_all(&self.images);
        fs::create_dir_all(&self.images).unwrap();
        let mut command = Command::new("criu");
        command.args(["dump", "-v4", "-o", "dump.log", "--manage-cgroups=ignore", "-t", &self.pid.to_string(), "-D"]);
        command.arg(&self.images).args(more);
        let began = Instant::now();
        let output = self.finished(&mut command, CRIU);
        let took = began.elapsed();
        if !output.status.success() {
            return Err(format!("{}\n{}", output.status, self.said("dump.log")));
        }
        measured("dump", took);
        if !more.contains(&"--leave-running") {
            if let Some(mut starter) = self.starter.take() {
                wait_for("the end of what was dumped", secs(10), || starter.try_wait().unwrap());
            }
            self.pid = 0;
        }
        Ok(took)
    }

    /// Dumps it, successfully.
    #[track_caller]
    pub fn dump(&mut self, more: &[&str]) -> Duration {
        let log = self.log();
        self.try_dump(more).unwrap_or_else(|e| panic!("criu dump: {e}\n{log}"))
    }

    /// Dumps it, leaves it running, and restores the dump beside it.
    #[track_caller]
    pub fn copy(&mut self, more: &[&str]) -> Self {
        self.dump(&[&["--leave-running"], more].concat());
        let mut copy = Self { images: self.images.clone(), restores: self.restores, ..Self::found(0) };
        copy.restore(&[]);
        copy
    }

    /// Restores it. The error is what criu says.
    #[track_caller]
    pub fn try_restore(&mut self, more: &[&str]) -> Result<Duration, String> {
        self.restores += 1;
        let pid_file = format!("/run/restored.{}", self.restores);
        let mut command = Command::new("criu");
        command.args(["restore", "-v4", "-o", "restore.log", "--manage-cgroups=ignore", "-d", "--root", ROOT]);
        command.args(["--pidfile", &pid_file, "-D"]).arg(&self.images).args(more);
        let began = Instant::now();
        let output = self.finished(&mut command, CRIU);
        if !output.status.success() {
            return Err(format!("{}\n{}", output.status, self.said("restore.log")));
        }
        self.pid = fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
        measured("restore", began.elapsed());
        Ok(began.elapsed())
    }

    /// Restores it, successfully.
    #[track_caller]
    pub fn restore(&mut self, more: &[&str]) -> Duration {
        let log = self.log();
        self.try_restore(more).unwrap_or_else(|e| panic!("criu restore: {e}\n{log}"))
    }

    /// The lines of criu's log that tell what is wrong.
    fn said(&self, log: &str) -> String {
        let text = fs::read(self.images.join(log)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().filter(|l| l.contains("Error") || l.contains("Warn")).collect();
        lines.join("\n")
    }
}
