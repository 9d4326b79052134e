//! Mount points that cannot be reached or mounted for a while: covered, occupied, moved, renamed.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use nix::sys::statfs::{AUTOFS_SUPER_MAGIC, statfs};

use super::common::daemon::Daemon;
use super::common::site;
use super::common::suite::case;
use super::common::world::put;
use super::common::{output, secs, table, visit, wait_for};

fn tmpfs(at: &str) {
    mount(Some("cover"), at, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
}

fn unmount(at: &str) {
    umount2(at, MntFlags::empty()).unwrap();
}

/// Waits until a file system other than autofs is reached at a path.
#[track_caller]
fn comes(path: &str) {
    let reached = || {
        visit::enter(path).ok()?;
        let above = fs::metadata(Path::new(path).parent()?).ok()?.dev();
        let is_autofs = statfs(path).ok()?.filesystem_type() == AUTOFS_SUPER_MAGIC;
        (fs::metadata(path).ok()?.dev() != above && !is_autofs).then_some(())
    };
    wait_for(&format!("a file system at {path}"), secs(10), reached);
}

/// Returns what `autofsctl` prints with these arguments.
fn ask(arguments: &[&str]) -> String {
    let said = output(Command::new("autofsctl").args(arguments), secs(10)).expect("an answer of autofsctl");
    String::from_utf8_lossy(&said.stdout).into_owned()
}

/// Waits until `autofsctl status` names a problem of this path that contains `reason`.
#[track_caller]
fn is_shown(path: &str, reason: &str) {
    let shown = |status: &str| status.lines().any(|line| line.starts_with(path) && line.contains(reason));
    wait_for(&format!("{path}: {reason}"), secs(10), || shown(&ask(&["status"])).then_some(()));
}

/// Waits until `autofsctl status` shows no problem.
#[track_caller]
fn all_is_well() {
    wait_for("no problem in the status", secs(10), || (!ask(&["status"]).contains("NOT SERVED")).then_some(()));
}

/// `/mnt/disk/auto` and the direct mount `/mnt/disk/one`.
fn below_a_disk() {
    put("/etc/auto.any", "* -fstype=tmpfs,size=64k :k&\n");
    site::master("/mnt/disk/auto /etc/auto.any\n");
    site::and_direct(&["/mnt/disk/one"]);
    fs::create_dir_all("/mnt/disk").unwrap();
}

/// What is mounted over a parent is shown, and goes again.
#[case]
fn a_parent_for_a_while() {
    below_a_disk();
    let daemon = Daemon::serving(&["/mnt/disk/auto", "/mnt/disk/one"]);
    visit::serves("/mnt/disk/auto/a");
    tmpfs("/mnt/disk");
    is_shown("/mnt/disk/auto", "covered");
    is_shown("/mnt/disk/one", "a file system of type tmpfs was mounted over /mnt/disk");
    assert!(ask(&["explain", "/mnt/disk/one"]).contains("covered"));
    daemon.says("/mnt/disk/one is covered");
    assert!(visit::enter("/mnt/disk/auto/a").is_err());
    // It is mounted, but an access fails.
    for path in ["/mnt/disk/auto/a", "/mnt/disk/one"] {
        let said = output(Command::new("autofsctl").args(["status", path]), secs(10)).unwrap();
        let text = String::from_utf8(said.stdout).unwrap();
        assert!(said.status.code() == Some(1) && text.contains("covered: a file system of type tmpfs"), "{text}");
    }
    unmount("/mnt/disk");
    all_is_well();
    assert!(ask(&["status", "/mnt/disk/auto/a"]).contains("mounted for"));
    visit::serves("/mnt/disk/auto/a");
    visit::serves("/mnt/disk/one");
    daemon.stop();
    assert_eq!(table::below("/mnt/disk"), []);
}

/// A reload mounts in what covers the parent now.
#[case]
fn a_parent_until_a_reload() {
    below_a_disk();
    let mut daemon = Daemon::serving(&["/mnt/disk/auto", "/mnt/disk/one"]);
    tmpfs("/mnt/disk");
    is_shown("/mnt/disk/one", "covered");
    daemon.signal(Signal::SIGHUP);
    comes("/mnt/disk/one");
    comes("/mnt/disk/auto/a");
    all_is_well();
    daemon.stop();
}

/// The same over a restart, of the whole daemon and of the worker.
#[case]
fn a_parent_over_a_restart() {
    below_a_disk();
    let daemon = Daemon::serving(&["/mnt/disk/auto", "/mnt/disk/one"]);
    daemon.kill();
    tmpfs("/mnt/disk");
    let daemon = Daemon::start(["-f", "-v"]);
    comes("/mnt/disk/one");
    visit::serves("/mnt/disk/one");
    visit::serves("/mnt/disk/auto/a");
    daemon.stop();
}

/// Checks that no autofs mount is left below the file systems that were mounted over its parent.
#[track_caller]
fn nothing_is_left_below(covers: usize) {
    for _ in 0..covers {
        unmount("/mnt/disk");
    }
    let left = table::below("/mnt/disk").into_iter().filter(|mount| mount.fstype == "autofs");
    assert_eq!(left.map(|mount| mount.target).collect::<Vec<_>>(), [] as [std::path::PathBuf; 0]);
}

/// Covered mounts are unmounted by a reload, and by the end.
#[case]
fn covered_mounts_are_unmounted() {
    below_a_disk();
    let mut daemon = Daemon::serving(&["/mnt/disk/auto", "/mnt/disk/one"]);
    tmpfs("/mnt/disk");
    is_shown("/mnt/disk/one", "covered");
    daemon.signal(Signal::SIGHUP);
    comes("/mnt/disk/one");
    let at = |path: &str| table::at(path).iter().filter(|mount| mount.fstype == "autofs").count();
    wait_for("the end of those below", secs(10), || {
        (at("/mnt/disk/one") == 1 && at("/mnt/disk/auto") == 1).then_some(())
    });
    // One that something is mounted on would stay. Covered at once, it would pass for mounted.
    assert!(ask(&["status"]).contains("1 mounted"));
    unmount("/mnt/disk/one");
    wait_for("nothing that is mounted", secs(10), || (!ask(&["status"]).contains("1 mounted")).then_some(()));
    tmpfs("/mnt/disk");
    daemon.stop();
    nothing_is_left_below(2);
}

/// The same on a shared mount, where their directories need not be removed.
#[case]
fn covered_mounts_on_a_shared_mount_are_unmounted() {
    below_a_disk();
    mount(None::<&str>, "/mnt", None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
    for path in ["/mnt/disk/auto/file", "/mnt/disk/one/file"] {
        put(path, "");
    }
    let daemon = Daemon::serving(&["/mnt/disk/auto", "/mnt/disk/one"]);
    tmpfs("/mnt/disk");
    is_shown("/mnt/disk/one", "covered");
    daemon.stop();
    nothing_is_left_below(1);
    assert!(fs::exists("/mnt/disk/one/file").unwrap());
}

/// Two file systems cover them, on the root of the mount that they are on; one is a bind mount.
#[case]
fn mounts_below_several_covers_are_unmounted() {
    below_a_disk();
    tmpfs("/mnt/disk");
    let daemon = Daemon::serving(&["/mnt/disk/auto", "/mnt/disk/one"]);
    tmpfs("/mnt/disk");
    fs::create_dir("/world/other").unwrap();
    mount(Some("/world/other"), "/mnt/disk", None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    is_shown("/mnt/disk/one", "covered");
    daemon.stop();
    nothing_is_left_below(2);
}

/// The next daemon unmounts the mounts of a killed one, except those that something is mounted on.
#[case]
fn covered_mounts_of_a_killed_daemon_are_unmounted() {
    below_a_disk();
    let daemon = Daemon::serving(&["/mnt/disk/auto", "/mnt/disk/one"]);
    visit::serves("/mnt/disk/auto/a");
    daemon.kill();
    tmpfs("/mnt/disk");
    let daemon = Daemon::start(["-f", "-v"]);
    comes("/mnt/disk/one");
    daemon.says("unmounted /mnt/disk/one, which was covered");
    daemon.stop();
    unmount("/mnt/disk");
    assert!(table::served("/mnt/disk/auto/a"), "what is mounted stays");
}

/// A parent that is unmounted and mounted again has the directories of the mount points: they are mounted there without
/// being asked.
#[case]
fn a_parent_that_is_mounted_again() {
    below_a_disk();
    put("/world/disk/auto/.keep", "");
    fs::create_dir("/world/disk/one").unwrap();
    let bind = || mount(Some("/world/disk"), "/mnt/disk", None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    bind();
    let daemon = Daemon::serving(&["/mnt/disk/auto", "/mnt/disk/one"]);
    umount2("/mnt/disk", MntFlags::MNT_DETACH).unwrap();
    wait_for("the mounts below", secs(10), || (table::below("/mnt/disk").len() == 2).then_some(()));
    bind();
    comes("/mnt/disk/one");
    visit::serves("/mnt/disk/one");
    comes("/mnt/disk/auto/a");
    all_is_well();
    daemon.stop();
}

/// Another file system on an indirect mount.
#[case]
fn an_indirect_mount_itself() {
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    tmpfs("/mnt/auto");
    is_shown("/mnt/auto", "mounted on it");
    unmount("/mnt/auto");
    all_is_well();
    visit::serves("/mnt/auto/a");
    daemon.stop();
}

/// What is in the way at the start goes later: a mount is noticed, a file is tried again.
#[case]
fn occupied_at_the_start() {
    site::any_key();
    site::master("/mnt/auto /etc/auto.any\n/mnt/taken /etc/auto.any\n/mnt/file /etc/auto.any\n");
    fs::create_dir_all("/mnt/taken").unwrap();
    tmpfs("/mnt/taken");
    put("/mnt/file", "");
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    is_shown("/mnt/taken", "already mounted as other than autofs");
    is_shown("/mnt/file", "cannot make directory");
    unmount("/mnt/taken");
    wait_for("the mount by itself", secs(10), || table::autofs("/mnt/taken"));
    visit::serves("/mnt/taken/a");
    fs::remove_file("/mnt/file").unwrap();
    daemon.signal(Signal::SIGHUP);
    wait_for("the mount by a reload", secs(10), || table::autofs("/mnt/file"));
    visit::serves("/mnt/file/a");
    all_is_well();
    assert_eq!(daemon.log().matches("already mounted as other than autofs").count(), 1, "said once");
    daemon.stop();
}

/// A reload mounts where a foreign file system is hidden under what covers its parent; that one stays as it is.
#[case]
fn a_foreign_mount_under_the_cover() {
    site::any_key();
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    fs::create_dir_all("/mnt/disk/own").unwrap();
    tmpfs("/mnt/disk/own");
    put("/mnt/disk/own/file", "");
    tmpfs("/mnt/disk");
    site::master("/mnt/auto /etc/auto.any\n/mnt/disk/own /etc/auto.any\n");
    daemon.signal(Signal::SIGHUP);
    comes("/mnt/disk/own/a");
    visit::serves("/mnt/disk/own/a");
    umount2("/mnt/disk", MntFlags::MNT_DETACH).unwrap();
    is_shown("/mnt/disk/own", "already mounted as other than autofs");
    assert!(fs::exists("/mnt/disk/own/file").unwrap());
    unmount("/mnt/disk/own");
    comes("/mnt/disk/own/a");
    daemon.stop();
}

/// A directory above a mount point is renamed: the idle mount is made again at its path.
#[case]
fn a_renamed_parent() {
    below_a_disk();
    let mut daemon = Daemon::serving(&["/mnt/disk/auto", "/mnt/disk/one"]);
    visit::serves("/mnt/disk/auto/a");
    let busy = fs::File::open("/mnt/disk/auto/a").unwrap();
    fs::rename("/mnt/disk", "/mnt/old").unwrap();
    is_shown("/mnt/disk/auto", "moved to /mnt/old/auto");
    comes("/mnt/disk/one");
    visit::serves("/mnt/old/auto/a");
    drop(busy);
    daemon.signal(Signal::SIGHUP);
    comes("/mnt/disk/auto/a");
    all_is_well();
    daemon.stop();
    assert_eq!(table::below("/mnt/old"), []);
    assert_eq!(table::below("/mnt/disk"), []);
}

/// A directory above mount points is renamed and made anew, again and again: they come back to their paths without being asked.
#[case]
fn a_parent_that_is_renamed_and_made_anew() {
    below_a_disk();
    let daemon = Daemon::serving(&["/mnt/disk/auto", "/mnt/disk/one"]);
    for round in 0..3 {
        fs::rename("/mnt/disk", format!("/mnt/old{round}")).unwrap();
        fs::create_dir("/mnt/disk").unwrap();
        for path in ["/mnt/disk/auto", "/mnt/disk/one"] {
            wait_for(path, secs(10), || table::autofs(path));
        }
    }
    visit::serves("/mnt/disk/auto/a");
    // One that is in use stays, and is served where it is; it comes back with its directory.
    let busy = fs::File::open("/mnt/disk/auto/a").unwrap();
    fs::rename("/mnt/disk", "/mnt/old").unwrap();
    wait_for("a mount at its place", secs(10), || table::autofs("/mnt/disk/one"));
    visit::serves("/mnt/old/auto/b");
    drop(busy);
    daemon.stop();
    assert_eq!(table::below("/mnt"), [table::at("/mnt").remove(0)]);
}

/// A hard limit of 256 open files, and 300 mount points: as many as fit are served, one line tells of the others, and they
/// come when there is room.
#[case(seconds: 120)]
fn more_mount_points_than_open_files() {
    put("/etc/auto.any", "* -fstype=tmpfs,size=64k :k&\n");
    let lines = |most: u32| (0..most).map(|n| format!("/mnt/many/{n} /etc/auto.any\n")).collect::<String>();
    site::master(&lines(300));
    let mut command = Command::new("setpriv");
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.args(["--bounding-set=-sys_resource", "--inh-caps=-sys_resource", "sh", "-c"]);
    command.arg("ulimit -n 256 && exec automount -f -v");
    let mut daemon = Daemon::spawn(command);
    daemon.says("cannot be mounted: the limit of 256 open files leaves no room for a control pipe");
    let served = || table::below("/mnt/many").len();
    wait_for("as many as fit", secs(10), || (served() >= 120).then_some(()));
    let status = ask(&["status"]);
    assert!(status.lines().filter(|line| line.contains("leaves no room for a control pipe")).count() > 50, "{status}");
    for n in [0, 60, 119] {
        visit::serves(format!("/mnt/many/{n}/a"));
    }
    assert_eq!(daemon.log().matches("leaves no room").count(), 1, "{}", daemon.log());
    // Fewer lines make room for the others.
    let lines: String = lines(300).lines().skip(200).map(|line| format!("{line}\n")).collect();
    site::master(&lines);
    daemon.signal(Signal::SIGHUP);
    wait_for("the others", secs(20), || visit::enter("/mnt/many/299/a").ok());
    comes("/mnt/many/299/a");
    comes("/mnt/many/250/a");
    all_is_well();
    daemon.stop();
}

/// An entry that was unmounted by hand is not counted as mounted.
#[case]
fn an_entry_unmounted_by_hand() {
    site::any_key();
    site::and_direct(&["/mnt/one"]);
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/one"]);
    for path in ["/mnt/auto/a", "/mnt/auto/b", "/mnt/one"] {
        visit::serves(path);
    }
    assert!(ask(&["status"]).contains("3 mounted"));
    unmount("/mnt/auto/a");
    unmount("/mnt/one");
    wait_for("one that is mounted", secs(10), || ask(&["status"]).contains("1 mounted").then_some(()));
    visit::serves("/mnt/auto/a");
    visit::serves("/mnt/one");
    daemon.stop();
}
