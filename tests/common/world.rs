//! A world: namespaces and a root of its own, in which nothing that a test does can reach the host.
//!
//! The root is an overlay over the host's, with fresh `/tmp`, `/run`, `/mnt` and `/proc`, no automounter
//! configuration, the program under test as `/usr/sbin/automount` and the stand-ins as mount(8) and its helpers. Its
//! pid namespace ends with its first process, and with it everything in it, in whatever session or group.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::wait::{WaitStatus, wait};

use super::daemon::Variant;
use super::{PATIENCE, stand_in};

/// The path of the test program inside a world.
pub const PROGRAM: &str = "/world/program";

/// The path of the automount(8) of the autofs package inside a world, if the host has it.
pub const THEIRS: &str = "/world/theirs";

/// What a line begins with that is to be shown though the test has passed.
const FIGURE: &str = "measured: ";

/// Prints a measurement.
pub fn figure(text: &str) {
    println!("{FIGURE}{text}");
}

const CONF: &str = "[ autofs ]\ntimeout = 300\nbrowse_mode = no\nmount_wait = 10\nnegative_timeout = 60\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files\nnetworks: files\nnetgroup: files\n";
const HOSTS: &str = "127.0.0.1 localhost testhost testhost.example.org
10.99.1.1 selfhost
10.99.1.2 srv1 srv1.example.com
10.99.1.3 srv2 srv2.example.com
10.99.1.4 srv3
10.77.0.5 netsrv
203.0.113.5 farsrv
203.0.113.6 farsrv2
";

/// Why no world can be made here, if so.
pub fn lacking() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root");
    }
    if File::open("/dev/autofs").is_err() {
        return Some("needs /dev/autofs");
    }
    Variant::chosen().lacking()
}

/// Runs the test `name` in a world of its own. The error is what the test said when it failed.
pub fn run(name: &str, deadline: Duration) -> Result<(), String> {
    let me = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut command = unshare();
    let text = watch(command.arg("--").arg(me).args(["--first", name]), deadline)?;
    for line in text.lines().filter_map(|line| line.strip_prefix(FIGURE)) {
        eprintln!("{name}: {line}");
    }
    Ok(())
}

/// unshare(1) with the namespaces that every world has.
pub fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.args(["--propagation", "private"]);
    command
}

/// Runs an [`unshare`] to its end and returns what it has said. The error is the same, and why, if it has failed or has
/// been ended after `deadline` times [`PATIENCE`].
pub fn watch(command: &mut Command, deadline: Duration) -> Result<String, String> {
    let mut said = tempfile::tempfile().map_err(|e| e.to_string())?;
    let (out, err) = (said.try_clone().map_err(|e| e.to_string())?, said.try_clone().map_err(|e| e.to_string())?);
    let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
    let mut child = child.map_err(|e| format!("{command:?}: {e}"))?;
    let deadline = deadline * PATIENCE;
    let end = Instant::now() + deadline;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Ok(status),
            Ok(None) if Instant::now() > end => {
                // unshare takes its child, the first process of the pid namespace, with it.
                _ = child.kill();
                _ = child.wait();
                break Err(format!("not finished after {deadline:?}"));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(e) => break Err(e.to_string()),
        }
    };
    let mut text = Vec::new();
    _ = said.rewind();
    _ = said.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    match status {
        Ok(status) if status.success() => Ok(text),
        Ok(status) => Err(format!("{status}\n{text}")),
        Err(why) => Err(format!("{why}\n{text}")),
    }
}

/// The first process of the pid namespace: reaps, and ends with the process that runs the test.
pub fn first(name: &OsStr) -> ExitCode {
    let body = Command::new("/proc/self/exe").arg("--body").arg(name).spawn();
    let Ok(body) = body else { return ExitCode::from(2) };
    let body = i32::try_from(body.id()).unwrap_or_default();
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw() == body => {
                return ExitCode::from(u8::try_from(code).unwrap_or(1));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == body => {
                eprintln!("the test was ended by {signal}");
                return ExitCode::FAILURE;
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return ExitCode::from(2),
        }
    }
}

/// Makes the root and moves into it. The namespaces are there already.
pub fn build() {
    let program = PathBuf::from(Variant::chosen().program());
    let me = std::env::current_exe().unwrap();
    let none: Option<&str> = None;
    nix::unistd::sethostname("testhost.example.org").unwrap();

    // /mnt exists everywhere and is no place where programs are; what is below it on the host is hidden here.
    mount(Some("world"), "/mnt", Some("tmpfs"), MsFlags::empty(), Some("size=512m,mode=755")).unwrap();
    for dir in ["upper", "work", "root"] {
        fs::create_dir(Path::new("/mnt").join(dir)).unwrap();
    }
    let layers = Some("lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work");
    mount(Some("overlay"), "/mnt/root", Some("overlay"), MsFlags::empty(), layers).unwrap();
    let root = Path::new("/mnt/root");
    for (dir, mode) in [("tmp", "mode=1777"), ("run", "mode=755"), ("mnt", "mode=755")] {
        fs::create_dir_all(root.join(dir)).unwrap();
        mount(Some(dir), &root.join(dir), Some("tmpfs"), MsFlags::empty(), Some(mode)).unwrap();
    }
    fs::create_dir_all(root.join("run/lock")).unwrap();
    mount(Some("proc"), &root.join("proc"), Some("proc"), MsFlags::empty(), none).unwrap();
    mount(Some("/dev"), &root.join("dev"), none, MsFlags::MS_BIND | MsFlags::MS_REC, none).unwrap();

    fs::create_dir(root.join("world")).unwrap();
    let theirs = PathBuf::from(Variant::Theirs.program());
    let mut files = vec![(&me, &PROGRAM[1..])];
    if Variant::Theirs.lacking().is_none() {
        files.push((&theirs, &THEIRS[1..]));
    }
    files.push((&program, "usr/sbin/automount"));
    let ctl = PathBuf::from(env!("CARGO_BIN_EXE_autofsctl"));
    files.push((&ctl, "usr/bin/autofsctl"));
    for (file, at) in files {
        let at = root.join(at);
        _ = fs::remove_file(&at);
        File::create(&at).unwrap();
        mount(Some(file), &at, none, MsFlags::MS_BIND, none).unwrap();
    }
    pivot(root);

    stand_in::install();
    configure();
    network();
    // The soft limit of a login shell: a daemon that needs more has to ask for it.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(1024), hard).unwrap();
}

/// Makes this mount the root, and takes the one before away.
pub fn pivot(root: &Path) {
    nix::unistd::chdir(root).unwrap();
    nix::unistd::pivot_root(".", ".").unwrap();
    umount2(".", MntFlags::MNT_DETACH).unwrap();
    nix::unistd::chdir("/").unwrap();
}

/// Replaces the host's configuration by a known one.
fn configure() {
    for name in fs::read_dir("/etc").unwrap().flatten().map(|e| e.file_name()) {
        if name.to_string_lossy().starts_with("auto") {
            let path = Path::new("/etc").join(name);
            _ = fs::remove_file(&path);
            _ = fs::remove_dir_all(&path);
        }
    }
    // The last one says that this machine is a container, and daemons take care of that.
    for path in ["/etc/default/autofs", "/etc/sysconfig/autofs", "/etc/mtab", "/.dockerenv"] {
        _ = fs::remove_file(path);
    }
    symlink("/proc/self/mounts", "/etc/mtab").unwrap();
    put("/etc/autofs.conf", CONF);
    put("/etc/nsswitch.conf", NSSWITCH);
    put("/etc/hosts", HOSTS);
    put("/etc/resolv.conf", "");
    put("/etc/networks", "testnet 10.99.1.0\n");
}

/// 10.99.1.1/24 and a default route, without a host at the other end.
fn network() {
    for words in [
        "link set lo up",
        "link add v0 type veth peer name v1",
        "link set v1 up",
        "addr add 10.99.1.1/24 dev v0",
        "link set v0 up",
        "route add default dev v0",
    ] {
        let done = Command::new("ip").args(words.split(' ')).output().unwrap();
        assert!(done.status.success(), "ip {words}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

/// Writes a file, its directories too; what begins with `#!` becomes a program. An existing file is replaced by
/// rename(2), as careful people do it.
pub fn put(path: &str, text: impl AsRef<[u8]>) {
    let (path, text) = (Path::new(path), text.as_ref());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let new = path.with_file_name(".put");
    fs::write(&new, text).unwrap();
    let mode = if text.starts_with(b"#!") { 0o755 } else { 0o644 };
    fs::set_permissions(&new, fs::Permissions::from_mode(mode)).unwrap();
    fs::rename(&new, path).unwrap();
}
