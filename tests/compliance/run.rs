//! Runs one vector inside a world and compares.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr as _;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::call::{self, Call};
use super::common::daemon::{Daemon, Variant};
use super::common::servers::{self, Server};
use super::common::stand_in::{self, Rules};
use super::common::table::{self, Mounted};
use super::common::{PATIENCE, ldap_server, secs, sss_library, visit, world, ypserv};
use super::vector::{self, Step, Vector};

/// Returns whether the ignored vectors are tried.
pub fn tries_ignored() -> bool {
    std::env::var_os("AUTOFS_TRY_IGNORED").is_some()
}

/// How the program mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Theirs, and where ours has no choice.
    Only,
    /// Ours, told to leave every mount to mount(8).
    Command,
    /// Ours as it comes.
    Direct,
}

impl Way {
    /// The ways in which `vector` is run.
    pub fn of(variant: Variant, vector: &Vector) -> Vec<Self> {
        let Some(mounts) = &vector.mounts else { return vec![Self::Only] };
        if variant == Variant::Theirs || mounts.is_empty() || vector.ignored.is_some() {
            return vec![Self::Only];
        }
        // Without mount(8), a stand-in can only be had for what has a helper.
        let visible = |m: &Call| match m {
            Call::Mount { fstype, .. } => {
                !matches!(fstype.as_str(), "auto" | "iso9660" | "ext2" | "ext3" | "ext4" | "lustre" | "ceph")
            }
            Call::Run { .. } => false,
        };
        if mounts.iter().all(visible) { vec![Self::Command, Self::Direct] } else { vec![Self::Command] }
    }

    /// The name of the test.
    pub fn name(self, id: &str) -> String {
        match self {
            Self::Only => id.to_owned(),
            Self::Command => format!("{id}::command"),
            Self::Direct => format!("{id}::direct"),
        }
    }

    fn from_name(name: &str) -> (Self, &str) {
        match name.split_once("::") {
            Some((id, "command")) => (Self::Command, id),
            Some((id, _)) => (Self::Direct, id),
            None => (Self::Only, name),
        }
    }
}

/// One vector in its world. Panics with all differences.
pub fn body(name: &str) {
    let (way, id) = Way::from_name(name);
    let variant = Variant::chosen();
    let vector = vector::all(variant, variant.version().as_deref()).into_iter().find(|v| v.id == id).unwrap();
    set_up(&vector, way);
    let mut run = Run {
        before: table::read().iter().map(|m| m.id).collect(),
        seen: Vec::new(),
        daemon: None,
        differences: Vec::new(),
    };
    run.vector(&vector);
    if !run.differences.is_empty() {
        let log = run.daemon.as_ref().map(Daemon::log).unwrap_or_default();
        eprintln!("{}\ncalls: {:#?}\nlog:\n{log}", run.differences.join("\n"), stand_in::calls());
        std::process::exit(1);
    }
}

fn set_up(vector: &Vector, way: Way) {
    let method = if way == Way::Command { "command" } else { "auto" };
    // What automount does is recorded on a machine. This test may run in a container.
    world::put("/etc/autofs.toml", format!("[mount]\nmethod = \"{method}\"\nplaceholder = \"never\"\n"));
    for (path, text) in [("/etc/autofs.conf", &vector.conf), ("/etc/nsswitch.conf", &vector.nsswitch)] {
        if let Some(text) = text {
            world::put(path, text);
        }
    }
    if vector.ipv6 {
        let done = Command::new("ip").args(["addr", "add", "fd00::1/64", "dev", "v0", "nodad"]).status();
        assert!(done.is_ok_and(|s| s.success()), "no IPv6 address");
    }
    let hosts = fs::read_to_string("/etc/hosts").unwrap();
    world::put("/etc/hosts", hosts + &vector.hosts);
    if vector.argument.is_none() {
        world::put("/etc/vl.master", vector.master.join("\n") + "\n");
    }
    for (path, text) in &vector.files {
        world::put(path, text);
    }
    for dir in &vector.mkdir {
        fs::create_dir_all(dir).unwrap();
    }
    if !vector.servers.is_empty() {
        let servers = vector.servers.iter().map(|text| Server::parse(text)).collect();
        servers::start(servers).set(vector.exports.iter().cloned());
    }
    services(vector);
    let (fail, fsck_fail, content) = (vector.fail.clone(), vector.fsck_fail.clone(), vector.content.clone());
    Rules { fail, fsck_fail, content, ..Rules::default() }.set();
}

/// Starts stand-ins for the directory services that a vector needs. They end with the world.
fn services(vector: &Vector) {
    if !vector.ldap.is_empty() {
        let mut directory = ldap_server::install();
        each(&vector.ldap, |map, key, value| directory.set(map, key, value));
        directory.start();
        std::mem::forget(directory);
    }
    if !vector.nis.is_empty() {
        let mut nis = ypserv::install().expect("the loopback device");
        each(&vector.nis, |map, key, value| nis.set(map, key, value));
        nis.start();
        std::mem::forget(nis);
    }
    if !vector.sss.is_empty() {
        assert!(sss_library::install(), "no stand-in for sssd");
        for (map, entries) in &vector.sss {
            let lines: String = entries.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
            world::put(&format!("/etc/fake.{map}"), lines);
        }
    }
}

fn each(maps: &BTreeMap<String, BTreeMap<String, String>>, mut set: impl FnMut(&str, &str, &str)) {
    for (map, entries) in maps {
        entries.iter().for_each(|(key, value)| set(map, key, value));
    }
}

struct Run {
    /// Mounts of the world itself.
    before: BTreeSet<u32>,
    /// Every mount that was ever seen.
    seen: Vec<Mounted>,
    daemon: Option<Daemon>,
    differences: Vec<String>,
}

impl Run {
    fn vector(&mut self, vector: &Vector) {
        if vector.daemon {
            self.start(vector);
        }
        for (n, step) in vector.steps.iter().enumerate() {
            if let Err(difference) = self.step(step) {
                self.differences.push(format!("step {}: {difference}", n + 1));
            }
            self.look();
        }
        if let Some(expected) = &vector.mounts {
            self.mounts(expected, vector.any_order);
        }
        if self.daemon.is_some() {
            self.stop(vector);
        }
    }

    /// The mount table without the world's own.
    fn look(&mut self) -> Vec<Mounted> {
        let now: Vec<_> = table::read().into_iter().filter(|m| !self.before.contains(&m.id)).collect();
        for m in &now {
            if !self.seen.contains(m) {
                self.seen.push(m.clone());
            }
        }
        now
    }

    fn start(&mut self, vector: &Vector) {
        let word = vector.argument.clone().unwrap_or_else(|| "/etc/vl.master".into());
        let mut command = Daemon::command();
        command.args(["-f", "-C"]).args(&vector.args).args(Some(word).filter(|w| !w.is_empty()));
        command.envs(&vector.env);
        self.daemon = Some(Daemon::spawn(command));
        let end = match (vector.ready.is_empty(), vector.absent.is_empty()) {
            (false, _) if tries_ignored() => secs(6),
            (false, _) => secs(6) * PATIENCE,
            (true, true) => secs(6),
            (true, false) => Duration::from_millis(1500),
        };
        let end = Instant::now() + end;
        loop {
            let now = self.look();
            let have = |p: &String| now.iter().any(|m| m.fstype == "autofs" && m.target == Path::new(p));
            if !vector.ready.is_empty() && vector.ready.iter().all(have) {
                break;
            }
            if let Some(there) = vector.absent.iter().find(|p| have(p)) {
                return self.differences.push(format!("{there} appeared and should not"));
            }
            let ended = self.daemon.as_mut().and_then(Daemon::end_now);
            if Instant::now() > end || ended.is_some() {
                if let Some(missing) = vector.ready.iter().find(|p| !have(p)) {
                    self.differences.push(format!("no autofs on {missing}"));
                }
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // What is not wanted may come a little later.
        std::thread::sleep(Duration::from_millis(100));
        let now = self.look();
        let autofs: BTreeSet<_> =
            now.iter().filter(|m| m.fstype == "autofs").map(|m| m.target.to_string_lossy().into_owned()).collect();
        let expected: BTreeSet<_> = vector.autofs.as_ref().unwrap_or(&vector.ready).iter().cloned().collect();
        if autofs != expected {
            self.differences.push(format!("autofs mounts: expected {expected:?}, seen {autofs:?}"));
        }
        for (path, options) in &vector.autofs_options {
            let shown =
                now.iter().find(|m| m.target == Path::new(path)).map(|m| m.options.as_str()).unwrap_or_default();
            for option in options.iter().filter(|o| !shown.contains(&format!(",{o},"))) {
                self.differences.push(format!("{path}: option {option} is not among {shown}"));
            }
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Visit { visit, uid, ok } => {
                let done = if *uid == 0 { visit::enter(visit).is_ok() } else { visit::enter_as(visit, *uid) };
                equal(&format!("access to {visit}"), ok, &done)
            }
            Step::List { ls, names } => equal(&format!("names in {ls}"), names, &visit::list(ls)),
            Step::Link { readlink, is } => {
                let text = visit::link(readlink).map(|t| t.to_string_lossy().into_owned());
                equal(&format!("link {readlink}"), is, &text)
            }
            Step::Shell { sh, status, out, lines, like, seconds } => {
                let (code, said) = shell(sh, secs(seconds.unwrap_or(20)))?;
                if let Some(out) = out {
                    equal("output", out, &said)?;
                }
                if let Some(lines) = lines {
                    equal("output", &sorted(lines), &sorted(&said))?;
                }
                if let Some(like) = like {
                    if !alike(like, &said) {
                        return Err(format!("output: expected {like:?}, seen {said:?}"));
                    }
                }
                equal("exit status", status, &code)
            }
            Step::Write { write, text } => {
                world::put(write, text);
                Ok(())
            }
            Step::Signal { signal, seconds } => {
                let signal = Signal::from_str(&format!("SIG{signal}")).map_err(|e| e.to_string())?;
                if let Some(daemon) = &mut self.daemon {
                    daemon.signal(signal);
                }
                std::thread::sleep(Duration::from_secs_f64(seconds.unwrap_or(0.8)));
                Ok(())
            }
            Step::Sleep { sleep } => {
                std::thread::sleep(Duration::from_secs_f64(*sleep));
                Ok(())
            }
        }
    }

    /// Compares the mounts made with the expected ones, in order unless the vector says that the order does not matter.
    fn mounts(&mut self, expected: &[Call], any_order: bool) {
        let seen = call::of(&stand_in::calls());
        let mut left = seen.clone();
        let mut missing = false;
        for call in expected {
            match left.iter().position(|c| call::same(call, c)) {
                Some(0) => _ = left.remove(0),
                Some(n) if any_order => _ = left.remove(n),
                Some(_) => missing = true,
                None => missing |= !call::shown(call, &self.seen),
            }
        }
        if missing || !left.is_empty() {
            let table: Vec<_> = self.seen.iter().filter(|m| m.fstype != "autofs").collect();
            self.differences.push(format!("mounts: expected {expected:#?}, called {seen:#?}, mounted {table:#?}"));
        }
    }

    fn stop(&mut self, vector: &Vector) {
        let Some(daemon) = &mut self.daemon else { return };
        daemon.signal(Signal::SIGTERM);
        // Theirs does not always end.
        let deadline = if Variant::chosen() == Variant::Ours { secs(5) * PATIENCE } else { secs(5) };
        let end = Instant::now() + deadline;
        while daemon.end_now().is_none() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        let said = match daemon.end_now() {
            Some(status) => status.code().map_or_else(|| status.to_string(), |code| format!("exit {code}")),
            None => "none after TERM".to_owned(),
        };
        let usual = (Variant::chosen() == Variant::Ours).then_some("exit 0");
        if let Some(expected) = vector.end.as_deref().or(usual).filter(|e| *e != said) {
            self.differences.push(format!("end of the daemon: expected {expected}, seen {said}"));
        }
        let log = daemon.log();
        let missing = vector.log.iter().filter(|text| !log.contains(text.as_str()));
        self.differences.extend(missing.map(|text| format!("not in the log: {text:?}")));
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, expected: &T, seen: &T) -> Result<(), String> {
    if expected == seen { Ok(()) } else { Err(format!("{what}: expected {expected:?}, seen {seen:?}")) }
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.split('\n').collect();
    lines.sort_unstable();
    lines
}

/// Returns whether `text` matches `pattern`, in which `*` matches any characters within a line.
fn alike(pattern: &str, text: &str) -> bool {
    let lines = |s: &str| s.split('\n').map(str::to_owned).collect::<Vec<_>>();
    let (patterns, lines) = (lines(pattern), lines(text));
    patterns.len() == lines.len()
        && patterns.iter().zip(&lines).all(|(p, l)| match p.split_once('*') {
            Some((head, tail)) => l.strip_prefix(head).is_some_and(|rest| rest.ends_with(tail)),
            None => p == l,
        })
}

/// Printed or not: the host's hard limit decides.
const LIMIT: &str = "automount: can't increase open file limit - continuing";

/// Runs a script in a process group of its own: exit status and standard output.
fn shell(script: &str, deadline: Duration) -> Result<(i32, String), String> {
    let mut child = Command::new("sh")
        .args(["-c", script])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(fs::File::create("/world/out").map_err(|e| e.to_string())?)
        .spawn()
        .map_err(|e| e.to_string())?;
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default());
    let end = Instant::now() + deadline;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() > end => {
                _ = kill(pid, Signal::SIGKILL);
                let said = fs::read_to_string("/world/out").unwrap_or_default();
                return Err(format!("the script was not through after {deadline:?}; it said {said:?}"));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(e) => return Err(e.to_string()),
        }
    };
    let said = fs::read("/world/out").map_err(|e| e.to_string())?;
    Ok((status.code().unwrap_or(-1), String::from_utf8_lossy(&said).replace(LIMIT, "")))
}
