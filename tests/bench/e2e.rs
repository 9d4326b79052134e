//! The daemon as its users meet it: the first access to a key, and many first accesses at once. Beside ours it measures
//! automount(8), where it is installed, and a floor: a master that does nothing but take the packet off the pipe, bind
//! and answer, so what the kernel itself takes.
//!
//! Needs root and /dev/autofs. Everything happens in mount and pid namespaces of its own, which end with it.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use autofs::engine::{Errno, Kind};
use autofs::exec::dirs::Maker;
use autofs::exec::mount_trigger;
use autofs::sys::autofs::{Control, Options};
use autofs::sys::mountinfo;
use autofs::sys::packet::{self, Packet};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, killpg};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::Pid;

/// Keys that are accessed one after the other.
const SINGLE: usize = 300;

/// Keys that are accessed at once.
const STORM: usize = 500;

/// Threads that access them.
const THREADS: usize = 64;

/// Runs of the fast ones; automount(8) has one, as its storm takes many seconds.
const RUNS: usize = 3;

/// After this time all of it is killed.
const DEADLINE: Duration = Duration::from_secs(300);

/// The directories that are bound: `/mnt/src/KEY`, with a file `name` that says which one it is.
const SOURCES: &str = "/mnt/src";

const THEIRS: &str = "/usr/sbin/automount";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let part = args.get(1).map(String::as_str);
    let result = match (part, args.get(2)) {
        (Some("--inside"), _) => inside(),
        (Some("--floor"), Some(at)) => floor(Path::new(at)),
        _ if !args.iter().any(|arg| arg == "--bench") => {
            println!("run it by `cargo bench`");
            Ok(())
        }
        _ if !nix::unistd::geteuid().is_root() || File::open("/dev/autofs").is_err() => {
            println!("nothing is measured: it needs root and /dev/autofs");
            Ok(())
        }
        _ => outside(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

/// Starts the measurement in its namespaces, and ends them when it takes too long.
fn outside() -> io::Result<()> {
    let mut child = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private", "--"])
        .arg(std::env::current_exe()?)
        .arg("--inside")
        .stdin(Stdio::null())
        .spawn()?;
    let end = Instant::now() + DEADLINE;
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(io::Error::other(status.to_string())),
            None if Instant::now() > end => {
                // unshare takes the pid namespace with it.
                child.kill()?;
                child.wait()?;
                return Err(io::Error::other(format!("not finished after {DEADLINE:?}")));
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Floor,
    Ours,
    Theirs,
}

impl Who {
    fn command(self, at: &Path, master: &Path) -> io::Result<Command> {
        let daemon = |program: &str| {
            let mut command = Command::new(program);
            command.args(["-C", "-f", "-t", "600"]).arg(master);
            command
        };
        Ok(match self {
            Self::Floor => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("--floor").arg(at);
                command
            }
            Self::Ours => daemon(env!("CARGO_BIN_EXE_automount")),
            Self::Theirs => daemon(THEIRS),
        })
    }
}

/// The figures of one program.
#[derive(Debug, Clone, Copy)]
struct Figures {
    /// Median of a first access.
    first: Duration,
    /// From the first to the last of many at once.
    storm: Duration,
}

fn inside() -> io::Result<()> {
    for at in ["/mnt", "/run"] {
        mount(Some("bench"), at, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
    }
    fs::create_dir("/run/lock")?;
    fs::create_dir(SOURCES)?;
    for key in keys() {
        let source = Path::new(SOURCES).join(&key);
        fs::create_dir(&source)?;
        fs::write(source.join("name"), key)?;
    }
    let floor = best(Who::Floor, RUNS)?;
    let ours = best(Who::Ours, RUNS)?;
    let theirs = if File::open(THEIRS).is_ok() { Some(best(Who::Theirs, 1)?) } else { None };
    println!("{:32}{:>12}{:>12}{:>12}{:>12}{:>16}", "", "floor", "ours", "automount", "ours/floor", "ours/automount");
    let storm = format!("{STORM} keys by {THREADS} threads, wall");
    show("first access, median", |figures| figures.first, floor, ours, theirs);
    show(&storm, |figures| figures.storm, floor, ours, theirs);
    Ok(())
}

fn show(what: &str, of: fn(&Figures) -> Duration, floor: Figures, ours: Figures, theirs: Option<Figures>) {
    let time = |time: Duration| {
        let us = time.as_secs_f64() * 1e6;
        if us < 1e4 { format!("{us:.1} us") } else { format!("{:.1} ms", us / 1e3) }
    };
    let ratio = |other: &Figures| of(&ours).as_secs_f64() / of(other).as_secs_f64();
    let (peer, beside) = match &theirs {
        Some(theirs) => (time(of(theirs)), format!("{:.4}", ratio(theirs))),
        None => ("-".to_owned(), "-".to_owned()),
    };
    let (floor_time, ours_time) = (time(of(&floor)), time(of(&ours)));
    println!("{what:32}{floor_time:>12}{ours_time:>12}{peer:>12}{:>12.2}{beside:>16}", ratio(&floor));
}

/// The best of several runs, each with a daemon of its own: what others do with the machine only makes it slower.
fn best(who: Who, runs: usize) -> io::Result<Figures> {
    let all = (0..runs).map(|run| measure(who, run)).collect::<io::Result<Vec<_>>>()?;
    let least = |of: fn(&Figures) -> Duration| all.iter().map(of).min().unwrap_or_default();
    Ok(Figures { first: least(|f| f.first), storm: least(|f| f.storm) })
}

fn keys() -> impl Iterator<Item = String> {
    (0..SINGLE + STORM).map(|n| format!("key{n:04}"))
}

fn measure(who: Who, run: usize) -> io::Result<Figures> {
    let at = PathBuf::from(format!("/mnt/{who:?}{run}"));
    let (map, master) = (Path::new("/run/map"), Path::new("/run/master"));
    fs::create_dir(&at)?;
    let entries: String = keys().map(|key| format!("{key} -fstype=bind :{SOURCES}/{key}\n")).collect();
    fs::write(map, entries)?;
    fs::write(master, format!("{} {}\n", at.display(), map.display()))?;
    // Until a daemon can be sure that what it reads is what is there.
    std::thread::sleep(Duration::from_millis(50));
    let mut daemon = Daemon::start(who.command(&at, master)?)?;
    daemon.wait_for(&at)?;
    let keys: Vec<String> = keys().collect();
    let (single, storm) = keys.split_at(SINGLE);

    let mut times = Vec::with_capacity(single.len());
    for key in single {
        times.push(access(&at, key)?);
    }
    times.sort_unstable();
    let first = times.get(times.len() / 2).copied().unwrap_or_default();

    let begin = Instant::now();
    std::thread::scope(|scope| {
        let accesses = storm.chunks(storm.len().div_ceil(THREADS)).map(|keys| {
            let at = &at;
            scope.spawn(move || keys.iter().try_for_each(|key| access(at, key).map(drop)))
        });
        let accesses: Vec<_> = accesses.collect();
        accesses.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into())))
    })?;
    let storm = begin.elapsed();

    daemon.kill()?;
    umount2(&at, MntFlags::MNT_DETACH)?;
    Ok(Figures { first, storm })
}

/// Accesses a key for the first time. What is there has to be what the map says.
fn access(at: &Path, key: &str) -> io::Result<Duration> {
    let path = at.join(key).join("name");
    let begin = Instant::now();
    let mut file = File::open(&path)?;
    let time = begin.elapsed();
    let mut name = String::new();
    file.read_to_string(&mut name)?;
    if name != key {
        return Err(io::Error::other(format!("{} has {name:?}", path.display())));
    }
    Ok(time)
}

/// A daemon in a process group of its own: what it does below its mounts triggers nothing, what we do does.
struct Daemon(Child);

impl Daemon {
    fn start(mut command: Command) -> io::Result<Self> {
        Ok(Self(command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
    }

    /// Waits until its autofs mount is there.
    fn wait_for(&mut self, at: &Path) -> io::Result<()> {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let table = mountinfo::read()?;
            if mountinfo::parse(&table).any(|mount| mount.path() == at && mount.autofs().is_some()) {
                return Ok(());
            }
            if let Some(status) = self.0.try_wait()? {
                return Err(io::Error::other(format!("no mount on {}: the daemon has ended, {status}", at.display())));
            }
            if Instant::now() > end {
                return Err(io::Error::other(format!("no mount on {}", at.display())));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends its whole group. Nobody waits in its mounts any more.
    fn kill(mut self) -> io::Result<()> {
        if let Ok(group) = i32::try_from(self.0.id()) {
            killpg(Pid::from_raw(group), Signal::SIGKILL)?;
        }
        self.0.wait().map(drop)
    }
}

/// The least master there can be: threads that wait for a packet, bind and answer.
fn floor(at: &Path) -> io::Result<()> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let _ = fcntl(&read, FcntlArg::F_SETPIPE_SZ(1 << 20));
    let control = Control::open()?;
    let mut maker = Maker::default();
    let mounted = mount_trigger(&mut maker, at, b"floor", write.as_fd(), Kind::Indirect, Options::default());
    let dev = mounted.map_err(io::Error::other)?.ok_or(io::ErrorKind::NotFound)?.dev;
    drop(write);
    let root = control.open_mount(at, dev)?;
    let serve = || -> io::Result<()> {
        let mut bytes = [0; packet::SIZE];
        loop {
            let count = nix::unistd::read(&read, &mut bytes)?;
            let Some(Ok(Packet::Missing(request))) = bytes.get(..count).map(Packet::decode) else {
                return Ok(());
            };
            let key = Path::new(std::ffi::OsStr::from_bytes(request.name));
            let bind = || -> nix::Result<()> {
                mkdirat(&root, key, Mode::from_bits_truncate(0o755))?;
                mount(Some(&Path::new(SOURCES).join(key)), &at.join(key), None::<&str>, MsFlags::MS_BIND, None::<&str>)
            };
            match bind() {
                Ok(()) => control.ready(root.as_fd(), request.token)?,
                Err(_) => control.fail(root.as_fd(), request.token, Errno::ENOENT)?,
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(serve);
        }
    });
    Ok(())
}
