//! A demonstration: the automounter serves the maps of `maps/demo` for half a minute. Its worker is killed while a lookup
//! waits, and its program is replaced while programs look names up.
//!
//! `cargo run --release --example demo`, as root. It needs cargo, `ls`, `cat`, and a kernel with autofs. Everything
//! happens in a mount namespace of its own, which ends with this program, and so does the daemon: nothing is left, even
//! if the program is killed. The exit status is 0 if every step had the expected result.
//!
//! This program is the daemon and autofsctl, too: copies of it with their names are started in their place. So cargo has
//! one program to build.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use autofs::sys::children;
use autofs::sys::mountinfo;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

type Result<T = ()> = std::result::Result<T, String>;

/// Autofs mounts of the master map: three indirect ones, and one for the only key of the direct map.
const MOUNT_POINTS: usize = 4;

/// A step that takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many threads look names up while the program is replaced.
const THREADS: usize = 4;

/// Where the programs are installed.
const PROGRAMS: &str = "/run/demo";
const AUTOMOUNT: &str = "/run/demo/automount";
const AUTOFSCTL: &str = "/run/demo/autofsctl";

/// Prints a line. If stdout is closed, as by `| head`, ends the demo and the daemon.
macro_rules! print_line {
    ($($text:tt)*) => {
        if writeln!(std::io::stdout(), $($text)*).is_err() {
            std::process::exit(1);
        }
    };
}

fn main() -> ExitCode {
    let this = std::env::current_exe().unwrap_or_default();
    if this == Path::new(AUTOMOUNT) {
        return autofs::cli::automount::main();
    }
    if this == Path::new(AUTOFSCTL) {
        return autofs::cli::ctl::main();
    }
    let mut arguments = std::env::args_os().skip(1);
    let done = match arguments.next() {
        Some(word) if word == "--become" => Err(become_daemon(arguments)),
        _ => demonstrate(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("demo: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Becomes the daemon, which ends with the process that has started it. Returns only if that fails, with the reason.
fn become_daemon(arguments: impl Iterator<Item = std::ffi::OsString>) -> String {
    if let Err(e) = children::die_with_parent() {
        return format!("cannot be bound to its parent: {e}");
    }
    format!("cannot run {AUTOMOUNT}: {}", Command::new(AUTOMOUNT).args(arguments).exec())
}

fn demonstrate() -> Result {
    if !geteuid().is_root() {
        return Err("only root may mount: run it as root".to_owned());
    }
    if let Err(e) = File::open("/dev/autofs") {
        return Err(format!(
            "no autofs here: /dev/autofs: {e} (modprobe autofs4? in a container, is the device passed in?)"
        ));
    }
    isolate()?;
    install("automount")?;
    install("autofsctl")?;
    say("The master map, maps/demo/auto.master:");
    for line in read("/mnt/maps/auto.master")?.lines().filter(|l| l.starts_with('/')) {
        print_line!("    {line}");
    }
    let mut demo = Demo::start()?;

    say("The keys of a map with \"browse\" are shown. Nothing is mounted yet:");
    demo.run("ls /mnt/home", "alice\nbob\n", &[])?;
    say("An access to one of them mounts it:");
    demo.run("cat /mnt/home/alice/letter", "Dear Alice\n", &["/mnt/home/alice"])?;
    say("carol is not in the map, but the wildcard matches. dave has no directory to be mounted:");
    demo.run("cat /mnt/home/carol/letter", "Dear Carol\n", &["/mnt/home/carol"])?;
    demo.fails("ls /mnt/home/dave")?;
    say("What would an access do, and why? This command mounts nothing:");
    demo.show("autofsctl explain /mnt/home/bob")?;
    say("A direct mount: the whole path is the key.");
    demo.run("cat /mnt/manuals/intro", "Read me first\n", &["/mnt/manuals"])?;
    say("A multi-mount: the first access mounts its root, an access to an offset mounts that offset.");
    demo.run("ls /mnt/work/src", "linux\ntools\n", &["/mnt/work/src", "/mnt/work/src/linux", "/mnt/work/src/tools"])?;
    demo.run("cat /mnt/work/src/linux/README", "Linux\n", &["/mnt/work/src/linux"])?;
    say("A map in a map: first its mount point is mounted, then the key.");
    demo.run("cat /mnt/work/projects/apollo/plan", "Moon\n", &["/mnt/work/projects", "/mnt/work/projects/apollo"])?;
    say("A file system in memory:");
    demo.run("ls /mnt/work/scratch", "", &["/mnt/work/scratch"])?;
    say("What is mounted now?");
    demo.show("autofsctl mounts")?;
    demo.show("autofsctl status")?;
    demo.kill_the_worker()?;
    demo.upgrade()?;
    demo.expire()?;
    demo.stop()
}

/// Installs this program under a name in [`PROGRAMS`], as a package manager does: an older file is replaced by rename(2).
fn install(name: &str) -> Result {
    let problem = |e| format!("cannot install {name}: {e}");
    let (place, new) = (Path::new(PROGRAMS).join(name), Path::new(PROGRAMS).join("new"));
    let this = std::env::current_exe().map_err(problem)?;
    fs::copy(this, &new).and_then(|_| fs::rename(&new, &place)).map_err(problem)
}

/// Goes into a mount namespace of its own, and puts the maps and something to be mounted there.
fn isolate() -> Result {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| format!("no mount namespace of its own (CAP_SYS_ADMIN?): {e}"))?;
    mounted(None, "/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    // Two places that every system has. The daemon keeps its control socket and its pid in /run.
    for place in ["/run", "/mnt"] {
        mounted(Some("demo"), place, Some("tmpfs"), MsFlags::empty())?;
    }
    for (path, text) in [
        ("people/alice/letter", "Dear Alice\n"),
        ("people/bob/letter", "Dear Bob\n"),
        ("people/carol/letter", "Dear Carol\n"),
        ("manuals/intro", "Read me first\n"),
        ("linux/README", "Linux\n"),
        ("tools/README", "Tools\n"),
        ("apollo/plan", "Moon\n"),
    ] {
        let path = Path::new("/mnt/server").join(path);
        make_directory(path.parent().unwrap_or(&path))?;
        fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    for path in ["/mnt/server/src/linux", "/mnt/server/src/tools", "/mnt/maps", PROGRAMS] {
        make_directory(Path::new(path))?;
    }
    mounted(Some(concat!(env!("CARGO_MANIFEST_DIR"), "/maps/demo")), "/mnt/maps", None, MsFlags::MS_BIND)
}

fn mounted(source: Option<&str>, target: &str, fstype: Option<&str>, flags: MsFlags) -> Result {
    mount(source, target, fstype, flags, None::<&str>).map_err(|e| format!("cannot mount on {target}: {e}"))
}

#[allow(clippy::disallowed_methods, reason = "there are no automounts yet")]
fn make_directory(path: &Path) -> Result {
    fs::create_dir_all(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))
}

fn say(text: &str) {
    print_line!("\n{text}");
}

/// The running daemon, and what has been shown of it.
struct Demo {
    daemon: Child,
    log: File,
    /// The mount table before the daemon was there, and when it was last looked at.
    bare: Vec<Mounted>,
    before: Vec<Mounted>,
}

impl Demo {
    fn start() -> Result<Self> {
        say(
            "The daemon, in the foreground, verbose, and in a process group of its own:\n    # automount -f -v /mnt/maps/auto.master",
        );
        print_line!("    (\"automount:\" is its log, \"=>\" what is new in the mount table of the kernel)");
        let problem = |e| format!("cannot start the daemon: {e}");
        let bare = table()?;
        let written = File::create("/run/log").map_err(problem)?;
        let log = File::open("/run/log").map_err(problem)?;
        let this = std::env::current_exe().map_err(problem)?;
        let daemon = Command::new(this)
            .arg("--become")
            .args(["-f", "-v", "/mnt/maps/auto.master"])
            .stdin(Stdio::null())
            .stderr(written)
            .spawn()
            .map_err(problem)?;
        let mut demo = Self { daemon, log, before: bare.clone(), bare };
        demo.until("the daemon to serve", |demo| {
            Ok(demo.call("autofsctl ping").is_ok_and(|done| done.status.success()))
        })?;
        demo.until("its mount points", |demo| Ok(table()?.len() == demo.bare.len() + MOUNT_POINTS))?;
        demo.report()?;
        Ok(demo)
    }

    /// Runs a command that must succeed and print this, and cause mounts in these places.
    fn run(&mut self, line: &str, output: &str, places: &[&str]) -> Result {
        print_line!("    $ {line}");
        let done = self.call(line)?;
        print_text(&done.output);
        let new = self.report()?;
        if !done.status.success() || done.output != output {
            return Err(format!("{line} was to print {output:?} ({}; the log:\n{})", done.status, read("/run/log")?));
        }
        if new != places {
            return Err(format!("{line} was to cause mounts on {places:?}, and not on {new:?}"));
        }
        Ok(())
    }

    /// Runs a command that must fail and mount nothing.
    fn fails(&mut self, line: &str) -> Result {
        print_line!("    $ {line}");
        let done = self.call(line)?;
        print_text(&done.output);
        if done.status.success() || !self.report()?.is_empty() {
            return Err(format!("{line} was to fail"));
        }
        Ok(())
    }

    /// Shows what a command prints.
    fn show(&mut self, line: &str) -> Result {
        print_line!("    $ {line}");
        let done = self.call(line)?;
        print_text(&done.output);
        if done.status.success() { Ok(()) } else { Err(format!("{line}: {}", done.status)) }
    }

    /// Runs a command line without quotes, within [`PATIENCE`].
    fn call(&mut self, line: &str) -> Result<Done> {
        let mut words = line.split(' ');
        let program = match words.next() {
            Some("autofsctl") => AUTOFSCTL,
            other => other.unwrap_or_default(),
        };
        let problem = |e| format!("{line}: {e}");
        let mut output =
            File::options().create(true).truncate(true).read(true).write(true).open("/run/output").map_err(problem)?;
        let (out, err) = (output.try_clone().map_err(problem)?, output.try_clone().map_err(problem)?);
        let mut command = Command::new(program);
        command.args(words).env("LC_ALL", "C").stdin(Stdio::null()).stdout(out).stderr(err);
        let status = within(&mut command.spawn().map_err(problem)?, line)?;
        let mut text = String::new();
        output.seek(SeekFrom::Start(0)).and_then(|_| output.read_to_string(&mut text)).map_err(problem)?;
        Ok(Done { status, output: text })
    }

    /// Shows what the daemon has said and what has been mounted since the last time; returns where.
    fn report(&mut self) -> Result<Vec<String>> {
        self.print_log()?;
        let now = table()?;
        let new: Vec<_> = now.iter().filter(|mount| !self.before.contains(mount)).cloned().collect();
        for (target, fstype, source) in &new {
            print_line!("    => {target}  {fstype}  {source}");
        }
        self.before = now;
        Ok(new.into_iter().map(|(target, ..)| target).collect())
    }

    /// Shows what the daemon has logged since the last time. The hundreds of lines about names below `/mnt/load` are counted.
    fn print_log(&mut self) -> Result {
        let mut text = String::new();
        self.log.read_to_string(&mut text).map_err(|e| format!("the log: {e}"))?;
        let (load, other): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.contains("/mnt/load/"));
        for line in other {
            print_line!("    automount: {line}");
        }
        if !load.is_empty() {
            print_line!("    automount: ({} lines about /mnt/load)", load.len());
        }
        Ok(())
    }

    /// Kills the worker while a lookup waits for it.
    fn kill_the_worker(&mut self) -> Result {
        say("The worker is killed while a lookup waits for it. The lookup waits a little longer, and succeeds:");
        let worker = self.worker()?;
        signal(worker, Signal::SIGSTOP)?;
        print_line!("    # kill -STOP {worker}");
        print_line!("    $ ls /mnt/work/crash &");
        let mut lookup = Command::new("ls")
            .arg("/mnt/work/crash")
            .stdin(Stdio::null())
            .spawn()
            .map_err(|e| format!("cannot start a lookup: {e}"))?;
        self.until("the lookup to wait", |_| {
            let stat = read(&format!("/proc/{}/stat", lookup.id()))?;
            let asleep = stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['S', 'D']));
            Ok(asleep && read(&format!("/proc/{}/comm", lookup.id()))? == "ls\n")
        })?;
        signal(worker, Signal::SIGKILL)?;
        print_line!("    # kill -KILL {worker}");
        let status = within(&mut lookup, "the lookup")?;
        let new = self.report()?;
        if !status.success() || new != ["/mnt/work/crash"] {
            return Err(format!("the lookup was to be served ({status}; the log:\n{})", read("/run/log")?));
        }
        let now = self.worker()?;
        print_line!("    (the lookup has succeeded, the worker is process {now})");
        Ok(())
    }

    /// Replaces the program while names are looked up all the time.
    fn upgrade(&mut self) -> Result {
        say("The program is replaced by a new file while four threads look names up. No lookup fails:");
        let (over, before) = (Arc::new(AtomicBool::new(false)), self.program()?);
        let threads: Vec<_> = (0..THREADS).map(|n| look_up(n, Arc::clone(&over))).collect();
        std::thread::sleep(Duration::from_millis(500));
        install("automount")?;
        print_line!("    # install automount {AUTOMOUNT}");
        print_line!("    # autofsctl upgrade");
        let done = self.call("autofsctl upgrade")?;
        print_text(&done.output);
        std::thread::sleep(Duration::from_millis(500));
        over.store(true, Ordering::Relaxed);
        let (mut all, mut failed) = (0, Vec::new());
        for thread in threads {
            let (count, error) = thread.join().map_err(|_| "a thread that looks names up has failed")?;
            all += count;
            failed.extend(error);
        }
        self.print_log()?;
        if !done.status.success() || self.program()? == before {
            return Err(format!("the program was to be replaced ({}; the log:\n{})", done.status, read("/run/log")?));
        }
        if let Some(error) = failed.first() {
            return Err(format!("{} lookups have failed; {error}", failed.len()));
        }
        self.before = table()?;
        print_line!("    ({all} names were looked up, each was mounted, none failed)");
        Ok(())
    }

    /// The pid of the process that does the work: the child of the daemon's first process.
    fn worker(&mut self) -> Result<i32> {
        let mut found = None;
        self.until("a worker", |demo| {
            let pid = demo.daemon.id();
            let children = read(&format!("/proc/{pid}/task/{pid}/children"))?;
            found = children.split_whitespace().find_map(|pid| pid.parse().ok());
            Ok(found.is_some())
        })?;
        found.ok_or_else(|| "no worker".to_owned())
    }

    /// Inode of the program that the daemon runs.
    fn program(&self) -> Result<u64> {
        let path = format!("/proc/{}/exe", self.daemon.id());
        File::open(&path).and_then(|file| file.metadata()).map(|data| data.ino()).map_err(|e| format!("{path}: {e}"))
    }

    /// Waits until all that is unused is gone.
    fn expire(&mut self) -> Result {
        say("The timeout is two seconds, and no mount is in use:");
        self.until("everything unused to go", |demo| Ok(table()?.len() == demo.bare.len() + MOUNT_POINTS))?;
        self.report()?;
        self.show("autofsctl mounts")
    }

    /// Ends the daemon as a service manager does.
    fn stop(&mut self) -> Result {
        say("The end, by SIGTERM:");
        signal(i32::try_from(self.daemon.id()).map_err(|e| e.to_string())?, Signal::SIGTERM)?;
        let status = within(&mut self.daemon, "automount")?;
        self.report()?;
        if !status.success() {
            return Err(format!("the daemon has ended badly: {status}"));
        }
        if table()? != self.bare {
            return Err(format!("mounts are left:\n{}", read("/proc/self/mountinfo")?));
        }
        for left in ["/run/autofs", "/run/autofs-running"] {
            if File::open(left).is_ok() {
                return Err(format!("{left} is left"));
            }
        }
        say("Every step had the expected result, and no mount is left.");
        Ok(())
    }

    fn until(&mut self, what: &str, mut there: impl FnMut(&mut Self) -> Result<bool>) -> Result {
        let end = Instant::now() + PATIENCE;
        while !there(self)? {
            if let Ok(Some(status)) = self.daemon.try_wait() {
                return Err(format!("the daemon has ended ({status}):\n{}", read("/run/log")?));
            }
            if Instant::now() > end {
                return Err(format!("waited {PATIENCE:?} in vain for {what}; the log:\n{}", read("/run/log")?));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// Sends a signal to a process.
fn signal(pid: i32, signal: Signal) -> Result {
    kill(Pid::from_raw(pid), signal).map_err(|e| format!("cannot send {signal} to process {pid}: {e}"))
}

/// Looks up one name after another until it is `over`. Returns how many there were, and the first failure.
fn look_up(thread: usize, over: Arc<AtomicBool>) -> JoinHandle<(usize, Option<String>)> {
    std::thread::spawn(move || {
        for count in 0.. {
            if over.load(Ordering::Relaxed) {
                return (count, None);
            }
            let path = format!("/mnt/load/{thread}-{count}");
            if let Err(e) = fs::read_dir(&path) {
                return (count, Some(format!("{path}: {e}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        (0, None)
    })
}

/// A command that has ended.
struct Done {
    status: ExitStatus,
    output: String,
}

/// Waits for the end of a process, and ends it when it takes too long.
fn within(child: &mut Child, name: &str) -> Result<ExitStatus> {
    let end = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() > end => {
                let _ = child.kill();
                return Err(format!("{name} was not through after {PATIENCE:?}"));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(e) => return Err(format!("{name}: {e}")),
        }
    }
}

/// Prints what a program has printed, indented.
fn print_text(text: &str) {
    for line in text.lines() {
        print_line!("    {line}");
    }
}

/// Where, type, source.
type Mounted = (String, String, String);

/// What is mounted at or below `/mnt`.
fn table() -> Result<Vec<Mounted>> {
    let table = mountinfo::read().map_err(|e| format!("the mount table: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let entries = mountinfo::parse(&table).filter(|m| m.path().starts_with("/mnt"));
    // Of a bind mount the directory that is bound says more than the file system that it is in.
    let row = |m: mountinfo::Entry<'_>| {
        let source = if m.root.as_ref() == b"/" { m.source } else { m.root };
        (text(&m.target), text(m.fstype), text(&source))
    };
    Ok(entries.map(row).collect())
}
