//! A demonstration: the automounter serves the maps of `maps/demo` for half a minute and is looked at while it does.
//!
//! `cargo run --release --example demo`, as root. It needs cargo, `ls`, `cat`, and a kernel with autofs. Everything
//! happens in a mount namespace of its own, which ends with this program, and so does the daemon: nothing is left, even
//! if the program is killed. Exit status 0: everything was as it should be.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use autofs::sys::children;
use autofs::sys::mountinfo;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

type Result<T = ()> = std::result::Result<T, String>;

/// Autofs mounts of the master map: two indirect ones, and one for the only key of the direct map.
const MOUNT_POINTS: usize = 3;

/// Every step is through within this time, or has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let done = match (arguments.next(), arguments.next()) {
        (Some(word), Some(program)) if word == "--become" => Err(become_daemon(&program, arguments)),
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

/// Becomes the daemon, which is to end with whoever started it. Returns only why it cannot.
fn become_daemon(program: &OsStr, arguments: impl Iterator<Item = std::ffi::OsString>) -> String {
    if let Err(e) = children::die_with_parent() {
        return format!("cannot be bound to its parent: {e}");
    }
    format!("cannot run {}: {}", Path::new(program).display(), Command::new(program).args(arguments).exec())
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
    let programs = build()?;
    isolate()?;
    say("The master map, maps/demo/auto.master:");
    for line in read("/mnt/maps/auto.master")?.lines().filter(|l| l.starts_with('/')) {
        println!("    {line}");
    }
    let mut demo = Demo::start(&programs)?;

    say("The keys of a map with \"browse\" are shown. Nothing is mounted yet:");
    demo.run("ls /mnt/home", "alice\nbob\n", &[])?;
    say("To look into one of them mounts it:");
    demo.run("cat /mnt/home/alice/letter", "Dear Alice\n", &["/mnt/home/alice"])?;
    say("carol stands in no line of the map; the wildcard serves her. dave does not exist:");
    demo.run("cat /mnt/home/carol/letter", "Dear Carol\n", &["/mnt/home/carol"])?;
    demo.fails("ls /mnt/home/dave")?;
    say("What would an access do, and why? Nothing is mounted by asking:");
    demo.show("autofsctl explain /mnt/home/bob")?;
    say("A direct mount: the whole path is the key.");
    demo.run("cat /mnt/manuals/intro", "Read me first\n", &["/mnt/manuals"])?;
    say("A multi-mount: its root comes with the first access, a part of it with an access to that part.");
    demo.run("ls /mnt/work/src", "linux\ntools\n", &["/mnt/work/src", "/mnt/work/src/linux", "/mnt/work/src/tools"])?;
    demo.run("cat /mnt/work/src/linux/README", "Linux\n", &["/mnt/work/src/linux"])?;
    say("A map in a map: first a mount point of its own, then what is mounted there.");
    demo.run("cat /mnt/work/projects/apollo/plan", "Moon\n", &["/mnt/work/projects", "/mnt/work/projects/apollo"])?;
    say("Memory:");
    demo.run("ls /mnt/work/scratch", "", &["/mnt/work/scratch"])?;
    say("What is mounted now?");
    demo.show("autofsctl mounts")?;
    demo.show("autofsctl status")?;
    demo.expire()?;
    demo.stop()
}

/// Where the two programs are.
struct Programs {
    automount: PathBuf,
    autofsctl: PathBuf,
}

/// Has cargo build the programs as it has built this one: a binary crate is not built for an example.
fn build() -> Result<Programs> {
    let this = std::env::current_exe().map_err(|e| format!("where is this program? {e}"))?;
    let directory = this.parent().and_then(Path::parent).ok_or("this program stands in no target directory")?;
    let (Some(target), Some(profile)) = (directory.parent(), directory.file_name()) else {
        return Err(format!("{} is no target directory of cargo", directory.display()));
    };
    let profile = if profile == "debug" { OsStr::new("dev") } else { profile };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args([
            "build",
            "--bins",
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
            "--target-dir",
        ])
        .arg(target)
        .arg("--profile")
        .arg(profile)
        .status();
    match built {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(format!("cargo build: {status}")),
        Err(e) => return Err(format!("cannot run cargo build: {e}")),
    }
    Ok(Programs { automount: directory.join("automount"), autofsctl: directory.join("autofsctl") })
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
    for path in ["/mnt/server/src/linux", "/mnt/server/src/tools", "/mnt/maps"] {
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
    println!("\n{text}");
}

/// The running daemon, and what has been shown of it.
struct Demo {
    autofsctl: PathBuf,
    daemon: Child,
    log: File,
    /// The mount table before the daemon was there, and when it was last looked at.
    bare: Vec<Mounted>,
    before: Vec<Mounted>,
}

impl Demo {
    fn start(programs: &Programs) -> Result<Self> {
        say(
            "The daemon, in the foreground, verbose, and in a process group of its own:\n    # automount -f -v /mnt/maps/auto.master",
        );
        println!("    (\"automount:\" is its log, \"=>\" what is new in the mount table of the kernel)");
        let problem = |e| format!("cannot start the daemon: {e}");
        let bare = table()?;
        let written = File::create("/run/log").map_err(problem)?;
        let log = File::open("/run/log").map_err(problem)?;
        let this = std::env::current_exe().map_err(problem)?;
        let daemon = Command::new(this)
            .arg("--become")
            .arg(&programs.automount)
            .args(["-f", "-v", "/mnt/maps/auto.master"])
            .stdin(Stdio::null())
            .stderr(written)
            .spawn()
            .map_err(problem)?;
        let autofsctl = programs.autofsctl.clone();
        let mut demo = Self { autofsctl, daemon, log, before: bare.clone(), bare };
        demo.until("the daemon to serve", |demo| {
            Ok(demo.call("autofsctl ping").is_ok_and(|done| done.status.success()))
        })?;
        demo.until("its mount points", |demo| Ok(table()?.len() == demo.bare.len() + MOUNT_POINTS))?;
        demo.report()?;
        Ok(demo)
    }

    /// Runs a command that must succeed and print this, and cause mounts in these places.
    fn run(&mut self, line: &str, output: &str, places: &[&str]) -> Result {
        println!("    $ {line}");
        let done = self.call(line)?;
        print!("{}", indented(&done.output));
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
        println!("    $ {line}");
        let done = self.call(line)?;
        print!("{}", indented(&done.output));
        if done.status.success() || !self.report()?.is_empty() {
            return Err(format!("{line} was to fail"));
        }
        Ok(())
    }

    /// Shows what a command prints.
    fn show(&mut self, line: &str) -> Result {
        println!("    $ {line}");
        let done = self.call(line)?;
        print!("{}", indented(&done.output));
        if done.status.success() { Ok(()) } else { Err(format!("{line}: {}", done.status)) }
    }

    /// Runs a command line without quotes, within [`PATIENCE`].
    fn call(&mut self, line: &str) -> Result<Done> {
        let mut words = line.split(' ');
        let program = match words.next() {
            Some("autofsctl") => self.autofsctl.as_os_str(),
            other => OsStr::new(other.unwrap_or_default()),
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
        let mut said = String::new();
        self.log.read_to_string(&mut said).map_err(|e| format!("the log: {e}"))?;
        for line in said.lines() {
            println!("    automount: {line}");
        }
        let now = table()?;
        let new: Vec<_> = now.iter().filter(|mount| !self.before.contains(mount)).cloned().collect();
        for (target, fstype, source) in &new {
            println!("    => {target}  {fstype}  {source}");
        }
        self.before = now;
        Ok(new.into_iter().map(|(target, ..)| target).collect())
    }

    /// Waits until all that is unused is gone.
    fn expire(&mut self) -> Result {
        say("The timeout is two seconds, and nobody uses anything any more:");
        self.until("everything unused to go", |demo| Ok(table()?.len() == demo.bare.len() + MOUNT_POINTS))?;
        self.report()?;
        self.show("autofsctl mounts")
    }

    /// Ends the daemon as a service manager does.
    fn stop(&mut self) -> Result {
        say("The end, by SIGTERM:");
        let pid = i32::try_from(self.daemon.id()).map_err(|e| e.to_string())?;
        kill(Pid::from_raw(pid), Signal::SIGTERM).map_err(|e| format!("cannot end the daemon: {e}"))?;
        let status = within(&mut self.daemon, "automount")?;
        self.report()?;
        if !status.success() {
            return Err(format!("the daemon has ended badly: {status}"));
        }
        if table()? != self.bare {
            return Err(format!("mounts are left:\n{}", read("/proc/self/mountinfo")?));
        }
        for left in ["/run/autofs", "/run/autofs-running", "/mnt/home", "/mnt/work", "/mnt/manuals"] {
            if File::open(left).is_ok() {
                return Err(format!("{left} is left"));
            }
        }
        say("All was as it should be, and nothing is left.");
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

fn indented(text: &str) -> String {
    text.lines().fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "    {line}");
        all
    })
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
