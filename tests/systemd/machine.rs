//! A machine with systemd as its first process: namespaces, a control group and a root of its own.
//!
//! The runner moves into a new control group and unshares; the first process makes the root and becomes systemd, which
//! reaches [`TARGET`] and with it the unit that plays the test. When that ends, so does systemd, with the same status.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::mount::{MsFlags, mount};

use crate::common::world::put;
use crate::common::{lab, secs, suite, wait_for, world};
use crate::{package, service};

/// How long a test may take, with the boot.
const DEADLINE: Duration = secs(120);

/// What a test has said.
const SAID: &str = "/shared/said";

/// Where systemd looks for units first.
const UNITS: &str = "run/systemd/system";

/// What is booted. It refers to the service, so that systemd remembers it while it is stopped, as it does where
/// multi-user.target wants it.
const TARGET: &str =
    "[Unit]\nRequires=basic.target\nAfter=basic.target autofs.service\nWants=test.service\nAllowIsolate=yes\n";

/// Units that need a real machine, or are of no use here.
const MASKED: &[&str] = &[
    "apt-daily.timer",
    "dev-hugepages.mount",
    "kmod-static-nodes.service",
    "ldconfig.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-firstboot.service",
    "systemd-journal-catalog-update.service",
    "systemd-modules-load.service",
    "systemd-networkd.service",
    "systemd-remount-fs.service",
    "systemd-update-done.service",
];

fn layer() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("systemd-layer")
}

fn shared(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("systemd").join(name)
}

/// Where the second version of control groups is mounted; it need not have controllers.
fn cgroups() -> Option<PathBuf> {
    let table = crate::common::table::read();
    table.into_iter().find(|m| m.fstype == "cgroup2" && m.flags.contains(",rw,")).map(|m| m.target)
}

/// Why nothing can be tested here, if so.
pub fn lacking() -> Option<&'static str> {
    let make = Command::new("make").arg("--version").output().is_ok();
    world::lacking()
        .or((!lab::has("usr/lib/systemd/systemd")).then_some("needs systemd: run .ci/labs"))
        .or(cgroups().is_none().then_some("needs cgroup2"))
        .or((!make).then_some("needs make"))
}

/// Installs the programs under test, as a package does, into a directory that lies over the root file system.
pub fn make_layer() {
    let layer = layer();
    _ = fs::remove_dir_all(&layer);
    let built = Path::new(env!("CARGO_BIN_EXE_automount")).parent().unwrap();
    let made = Command::new("make")
        .args(["--silent", "-C", env!("CARGO_MANIFEST_DIR"), "install", "PREFIX=/usr"])
        .arg(format!("DESTDIR={}", layer.display()))
        .arg(format!("TARGET={}", built.display()))
        // Those of a make that runs the tests are for that one.
        .env_remove("MAKEFLAGS")
        .output()
        .unwrap();
    assert!(made.status.success(), "make install: {}", String::from_utf8_lossy(&made.stderr));
    package::build(&layer, built);
    let program = layer.join(&world::PROGRAM[1..]);
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::copy(std::env::current_exe().unwrap(), program).unwrap();
    // For the commands of README.md.
    let path = std::env::var_os("PATH").unwrap();
    let make = std::env::split_paths(&path).map(|dir| dir.join("make")).find(|file| file.is_file()).unwrap();
    fs::copy(make, layer.join("usr/bin/make")).unwrap();
}

/// A control group, removed when dropped with all that is in it.
struct Cgroup(PathBuf);

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Whatever has been started in it ends.
        _ = fs::write(self.0.join("cgroup.kill"), "1");
        wait_for("the end of a control group", secs(10), || {
            remove_groups(&self.0);
            (!fs::exists(&self.0).unwrap_or(false)).then_some(())
        });
    }
}

fn remove_groups(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    _ = fs::remove_dir(group);
}

/// Boots a machine that plays a test. The error is what it said when it failed.
pub fn run(name: &str) -> Result<(), String> {
    let text = |e: std::io::Error| e.to_string();
    let shared = shared(name);
    _ = fs::remove_dir_all(&shared);
    fs::create_dir_all(&shared).map_err(text)?;
    let group = format!("autofs-test-{}-{}", std::process::id(), name.replace(':', "-"));
    let cgroup = Cgroup(cgroups().ok_or("no cgroup2")?.join(group));
    fs::create_dir(&cgroup.0).map_err(text)?;
    let mut command = Command::new(std::env::current_exe().map_err(text)?);
    let console = world::watch(command.arg("--enter").arg(&cgroup.0).arg(name), DEADLINE);
    drop(cgroup);
    let said = fs::read(shared.join(&SAID["/shared/".len()..])).unwrap_or_default();
    console.map_err(|e| format!("{e}\n{}", String::from_utf8_lossy(&said)))?;
    fs::remove_dir_all(&shared).map_err(text)
}

/// Moves into the control group, which becomes the root of its namespace, and unshares.
pub fn enter(cgroup: &OsStr, name: &OsStr) -> ExitCode {
    fs::write(Path::new(cgroup).join("cgroup.procs"), std::process::id().to_string()).unwrap();
    let me = std::env::current_exe().unwrap();
    let mut command = world::unshare();
    let error = command.args(["--ipc", "--cgroup", "--"]).arg(me).arg("--boot").arg(name).exec();
    panic!("unshare: {error}");
}

/// Makes the machine's root, moves into it and becomes systemd. The namespaces are there already.
pub fn boot(name: &str) -> ExitCode {
    let (none, base): (Option<&str>, _) = (None, Path::new("/mnt"));
    let (layer, shared) = (layer(), shared(name));
    mount(Some("machine"), base, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
    let root = base.join("root");
    fs::create_dir(&root).unwrap();
    lab::overlay(&root, &layer, base);
    for (kind, dir) in [
        ("proc", "proc"),
        ("sysfs", "sys"),
        ("cgroup2", "sys/fs/cgroup"),
        ("tmpfs", "dev"),
        ("tmpfs", "run"),
        ("tmpfs", "tmp"),
    ] {
        mount(Some(kind), &root.join(dir), Some(kind), MsFlags::empty(), none).unwrap();
    }
    for device in ["null", "zero", "full", "random", "urandom", "tty", "autofs"] {
        let (from, at) = (Path::new("/dev").join(device), root.join("dev").join(device));
        fs::write(&at, "").unwrap();
        mount(Some(&from), &at, none, MsFlags::MS_BIND, none).unwrap();
    }
    std::os::unix::fs::symlink("/proc/self/fd", root.join("dev/fd")).unwrap();
    fs::create_dir(root.join("dev/shm")).unwrap();
    for (from, dir) in
        [(&shared, "shared"), (&layer, "package"), (&PathBuf::from(env!("CARGO_MANIFEST_DIR")), "source")]
    {
        fs::create_dir(root.join(dir)).unwrap();
        mount(Some(from), &root.join(dir), none, MsFlags::MS_BIND, none).unwrap();
    }
    let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(none, &root.join("source"), none, read_only, none).unwrap();
    world::pivot(&root);
    let units = Path::new("/").join(UNITS);
    fs::create_dir_all(&units).unwrap();
    for unit in MASKED {
        std::os::unix::fs::symlink("/dev/null", units.join(unit)).unwrap();
    }
    put("/etc/machine-id", "");
    put("/etc/hostname", "testhost\n");
    put(&format!("/{UNITS}/test.target"), TARGET);
    let unit = format!(
        "[Unit]\nAfter=basic.target\nDefaultDependencies=no\nIgnoreOnIsolate=yes\nSuccessAction=exit-force\nFailureAction=exit-force\n\
         [Service]\nType=exec\nExecStart={} --body {name}\nStandardOutput=append:{SAID}\nStandardError=inherit\n\
         Environment=RUST_BACKTRACE=1 PATH=/usr/sbin:/usr/bin\n",
        world::PROGRAM
    );
    put(&format!("/{UNITS}/test.service"), unit);
    let options = ["--unit=test.target", "--show-status=0", "--log-target=console", "--log-level=warning"];
    let error = Command::new("/usr/lib/systemd/systemd").args(options).env_clear().env("container", "test").exec();
    panic!("systemd: {error}");
}

/// Runs the test with this name inside. A failure is reported with the service's log.
pub fn play(name: &str) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |why| {
        before(why);
        if std::thread::current().name() == Some("main") {
            eprintln!("{}", service::shown());
        }
    }));
    suite::body(name);
    // systemd takes messages of the main process alone, and says so when another one sends some.
    let log = service::journal();
    assert!(!log.contains("Got notification message from PID"), "{log}");
}
