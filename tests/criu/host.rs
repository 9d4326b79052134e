//! A private host: mount and pid namespaces of its own, a root of Debian with criu in it, and below `/ct` the root of
//! the container. Nothing that happens there reaches the machine.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MsFlags, mount};

use crate::common::{lab, world};

/// The path of the test program, on the host and in the container.
pub const PROGRAM: &str = "/test/program";

/// What outlives a host: the writable layer of the container's root, and the images.
pub const SHARED: &str = "/shared";

/// A test: its name, and what is played one after the other, each act on a host of its own.
pub struct Case {
    pub name: &'static str,
    pub acts: &'static [&'static str],
    pub deadline: Duration,
}

fn layer() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("criu-layer")
}

/// Why nothing can be tested here, if so.
fn lacking() -> Option<&'static str> {
    world::lacking().or((!lab::has("usr/sbin/criu")).then_some("needs criu: run .ci/labs"))
}

impl Case {
    /// Why this case cannot be tested here, if so.
    pub fn lacking(&self) -> Option<&'static str> {
        let lacks_ldap = self.acts.contains(&"ldap") && !lab::has_library("libldap.so.2");
        lacking().or(lacks_ldap.then_some("needs libldap: run .ci/labs"))
    }
}

/// Puts the programs under test into a directory that lies over the root file system.
pub fn make_layer() {
    let layer = layer();
    _ = fs::remove_dir_all(&layer);
    let me = std::env::current_exe().unwrap();
    let kit = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/criu");
    for (from, to) in [
        (Path::new(env!("CARGO_BIN_EXE_automount")), "usr/sbin/automount"),
        (Path::new(env!("CARGO_BIN_EXE_autofsctl")), "usr/bin/autofsctl"),
        (&me, &PROGRAM[1..]),
        (&kit.join("criu-action"), "usr/libexec/autofs/criu-action"),
    ] {
        let to = layer.join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
}

/// Plays all acts of a case. The error is what it said when it failed.
pub fn run(case: &Case) -> Result<(), String> {
    let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("criu").join(case.name);
    _ = fs::remove_dir_all(&shared);
    for dir in ["upper", "work", "images"] {
        fs::create_dir_all(shared.join(dir)).map_err(|e| e.to_string())?;
    }
    for act in case.acts {
        world::run(&format!("{}:{act}", case.name), case.deadline)?;
    }
    let figures = fs::read_to_string(shared.join("figures")).unwrap_or_default();
    figures.lines().for_each(|line| println!("{}: {line}", case.name));
    // The files of a failed test are kept for analysis.
    fs::remove_dir_all(&shared).map_err(|e| e.to_string())
}

/// Notes something, to be shown at the end (with `--nocapture`).
pub fn noted(line: &str) {
    let file = fs::File::options().append(true).create(true).open(Path::new(SHARED).join("figures"));
    writeln!(file.unwrap(), "{line}").unwrap();
}

/// Notes something measured.
pub fn measured(what: &str, took: Duration) {
    noted(&format!("{what} {} ms", took.as_millis()));
}

/// Makes the host's root and moves into it. The namespaces are there already.
pub fn build() {
    let act = std::env::args().nth(2).unwrap();
    let (case, act) = act.split_once(':').unwrap();
    let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("criu").join(case);
    let (none, layer): (Option<&str>, _) = (None, layer());
    let base = Path::new("/mnt");
    mount(Some("host"), base, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
    if act.ends_with("elsewhere") {
        // Another machine has given away other device and inode numbers before.
        for n in 0..30 {
            let dir = base.join(format!("other{n}"));
            fs::create_dir(&dir).unwrap();
            mount(Some("other"), &dir, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        }
    }
    let root = base.join("root");
    fs::create_dir(&root).unwrap();
    lab::overlay(&root, &layer, base);
    for dir in ["ct", "shared", "proc", "sys", "dev", "run", "tmp"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    lab::overlay(&root.join("ct"), &layer, &shared);
    mount(Some(&shared), &root.join(&SHARED[1..]), none, MsFlags::MS_BIND, none).unwrap();
    for (kind, dir) in [("proc", "proc"), ("sysfs", "sys"), ("devtmpfs", "dev"), ("tmpfs", "run"), ("tmpfs", "tmp")] {
        mount(Some(kind), &root.join(dir), Some(kind), MsFlags::empty(), none).unwrap();
    }
    world::pivot(&root);
    // criu asks the kernel over loopback what it can do.
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    // A process group that the pid namespace does not know of owns no autofs mount; criu would test with one.
    _ = nix::unistd::setsid();
}
