//! A mount namespace with private propagation keeps its copies of autofs mounts that are unmounted here. Lookups there get
//! an answer.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;

use super::common::daemon::Daemon;
use super::common::suite::{case, needs};
use super::common::world::{PROGRAM, put};
use super::common::{secs, site, table, visit, wait_for};
use super::processes::{descriptors, worker, worker_now};

/// A process in a mount namespace of its own, made now, that looks up a path when it is told to.
struct Copy(Child);

impl Copy {
    fn of(path: &str) -> Self {
        for file in ["/world/go", "/world/copied"] {
            _ = fs::remove_file(file);
        }
        let script = format!(
            "echo > /world/copied; while [ ! -e /world/go ]; do sleep 0.05; done; exec {PROGRAM} --visit '{path}'"
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "/bin/sh", "-c", &script]);
        let child = command.process_group(0).stdin(Stdio::null()).spawn().unwrap();
        wait_for("the namespace", secs(10), || fs::exists("/world/copied").unwrap().then_some(()));
        Self(child)
    }

    /// The lookup fails with this error.
    #[track_caller]
    fn gets(mut self, errno: Errno) {
        put("/world/go", "");
        let status = wait_for("an answer in the other namespace", secs(20), || self.0.try_wait().unwrap());
        assert_eq!(status.code(), Some(errno as i32));
    }

    /// Whether its copy of the autofs mount at this path has become catatonic.
    fn is_catatonic(&self, path: &str) -> bool {
        let table = fs::read_to_string(format!("/proc/{}/mountinfo", self.0.id())).unwrap();
        let line = table.lines().find(|line| line.contains(&format!(" {path} ")) && line.contains(" - autofs "));
        line.unwrap_or_else(|| panic!("{path} is not in {table}")).ends_with("pipe_ino=-1")
    }
}

fn start() -> Daemon {
    configure();
    Daemon::serving(&["/mnt/auto", "/mnt/gone", "/mnt/d", "/mnt/e"])
}

fn configure() {
    site::master("/mnt/auto /etc/auto.one --timeout=600\n/mnt/gone /etc/auto.one --timeout=600\n/- /etc/auto.direct\n");
    put("/etc/auto.one", "t / -fstype=tmpfs :t /x -fstype=tmpfs :x /y -fstype=tmpfs :y\n* -fstype=tmpfs :&\n");
    put("/etc/auto.direct", "/mnt/d -fstype=tmpfs :d\n/mnt/e -fstype=tmpfs :e\n");
}

#[track_caller]
fn gone(path: &str) {
    wait_for(path, secs(20), || table::at(path).is_empty().then_some(()));
}

/// All go on being served here.
#[track_caller]
fn goes_on(daemon: Daemon) {
    visit::serves("/mnt/auto/a");
    visit::serves("/mnt/d");
    daemon.stop();
}

#[case]
fn of_a_direct_mount_that_a_reload_takes_away() {
    let mut daemon = start();
    let copy = Copy::of("/mnt/e");
    put("/etc/auto.direct", "/mnt/d -fstype=tmpfs :d\n");
    daemon.signal(Signal::SIGHUP);
    gone("/mnt/e");
    copy.gets(Errno::ENOENT);
    goes_on(daemon);
}

#[case]
fn of_an_indirect_mount_that_a_reload_takes_away() {
    let mut daemon = start();
    let copy = Copy::of("/mnt/gone/a");
    site::master("/mnt/auto /etc/auto.one --timeout=600\n/- /etc/auto.direct\n");
    daemon.signal(Signal::SIGHUP);
    gone("/mnt/gone");
    copy.gets(Errno::ENOENT);
    goes_on(daemon);
}

/// Copies become catatonic before a lookup in them sends a request: when the directory below a mount is removed, the kernel
/// takes the copies out of all mount tables, and a request from there could not be answered.
#[case]
fn copies_are_catatonic_before_anything_is_asked_for_in_them() {
    for path in ["/mnt/e", "/mnt/gone"] {
        // The daemon does not remove directories that it has not made.
        _ = fs::create_dir(path);
    }
    let mut daemon = start();
    let copy = Copy::of("/mnt/gone/a");
    site::master("/mnt/auto /etc/auto.one --timeout=600\n/- /etc/auto.direct\n");
    put("/etc/auto.direct", "/mnt/d -fstype=tmpfs :d\n");
    daemon.signal(Signal::SIGHUP);
    for path in ["/mnt/e", "/mnt/gone"] {
        gone(path);
        wait_for("a catatonic copy", secs(10), || copy.is_catatonic(path).then_some(()));
    }
    assert!(!copy.is_catatonic("/mnt/auto"), "what stays is served");
    copy.gets(Errno::ENOENT);
    goes_on(daemon);
}

/// Copies of a mount that others have unmounted are catatonic before a directory is removed.
#[case]
fn copies_of_what_was_unmounted_by_hand_are_catatonic() {
    _ = fs::create_dir("/mnt/gone");
    let daemon = start();
    let copy = Copy::of("/mnt/gone/a");
    umount2("/mnt/gone", MntFlags::empty()).unwrap();
    wait_for("a catatonic copy", secs(10), || copy.is_catatonic("/mnt/gone").then_some(()));
    assert!(!copy.is_catatonic("/mnt/auto"), "what stays is served");
    wait_for("the mount by itself", secs(10), || table::autofs("/mnt/gone"));
    copy.gets(Errno::ENOENT);
    goes_on(daemon);
}

/// The same if a worker has died between the unmount and the next step.
#[case(lacking: needs::debug_build)]
fn copies_of_what_a_dead_worker_has_unmounted_are_catatonic() {
    configure();
    _ = fs::create_dir("/mnt/gone");
    let mut command = Daemon::command();
    command.args(["-f", "-v"]).env("AUTOFS_FAULT", "unmounted");
    let mut daemon = Daemon::spawn(command);
    daemon.ready(&["/mnt/auto", "/mnt/gone", "/mnt/d", "/mnt/e"]);
    let (copy, first) = (Copy::of("/mnt/gone/a"), worker(&daemon));
    site::master("/mnt/auto /etc/auto.one --timeout=600\n/- /etc/auto.direct\n");
    daemon.signal(Signal::SIGHUP);
    wait_for("another worker", secs(10), || worker_now(daemon.pid()).filter(|now| *now != first));
    wait_for("a catatonic copy", secs(10), || copy.is_catatonic("/mnt/gone").then_some(()));
    assert!(!copy.is_catatonic("/mnt/auto"), "what stays is served");
    copy.gets(Errno::ENOENT);
    goes_on(daemon);
}

#[case]
fn of_a_direct_mount_that_is_unmounted_by_hand() {
    let daemon = start();
    let copy = Copy::of("/mnt/e");
    umount2("/mnt/e", MntFlags::empty()).unwrap();
    copy.gets(Errno::ENOENT);
    goes_on(daemon);
}

#[case]
fn of_an_offset_that_is_unmounted_by_hand() {
    let daemon = start();
    visit::serves("/mnt/auto/t");
    let copy = Copy::of("/mnt/auto/t/y");
    umount2("/mnt/auto/t/y", MntFlags::empty()).unwrap();
    copy.gets(Errno::ENOENT);
    goes_on(daemon);
}

/// The tree is in no mount table any more; it can only be reached through a process whose working directory is in it.
#[case]
fn of_a_tree_that_is_unmounted_lazily() {
    let daemon = start();
    visit::serves("/mnt/auto/t");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("cd /mnt/auto/t; echo > /world/in; while [ ! -e /world/go ]; do sleep 0.05; done; exec {PROGRAM} --visit ../other")]);
    let child = command.process_group(0).stdin(Stdio::null()).spawn().unwrap();
    wait_for("the process in the tree", secs(10), || fs::exists("/world/in").unwrap().then_some(()));
    umount2("/mnt/auto", MntFlags::MNT_DETACH).unwrap();
    Copy(child).gets(Errno::ENOENT);
    daemon.stop();
}

/// Pipes of direct maps that go and come back are closed in both processes.
#[case]
fn pipes_of_direct_maps_that_come_and_go() {
    let mut daemon = start();
    let both = |daemon: &Daemon| [daemon.pid(), worker(daemon)].map(descriptors);
    visit::serves("/mnt/d");
    let before = both(&daemon);
    for round in 0..6 {
        site::master("/mnt/auto /etc/auto.one --timeout=600\n/mnt/gone /etc/auto.one --timeout=600\n");
        daemon.signal(Signal::SIGHUP);
        gone("/mnt/e");
        site::master(
            "/mnt/auto /etc/auto.one --timeout=600\n/mnt/gone /etc/auto.one --timeout=600\n/- /etc/auto.direct\n",
        );
        daemon.signal(Signal::SIGHUP);
        wait_for("/mnt/e", secs(20), || table::autofs("/mnt/e"));
        visit::serves("/mnt/e");
        umount2("/mnt/e", MntFlags::empty()).unwrap_or_else(|e| panic!("round {round}: {e}"));
    }
    wait_for("as many descriptors as before", secs(20), || {
        let now = both(&daemon);
        (now[0] <= before[0] && now[1] <= before[1]).then_some(())
    });
    goes_on(daemon);
}
