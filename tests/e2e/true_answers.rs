//! What `autofsctl` says is what an access finds: mounts of other processes, paths that do not exist, workers that die meanwhile.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::common::daemon::Daemon;
use super::common::suite::case;
use super::common::world::put;
use super::common::{output, secs, site, table, visit, wait_for};
use super::history::{ctl, json};

/// Checks that `status`, `mounts` and `explain` say that another process has mounted the tmpfs `hand` at a path.
#[track_caller]
fn is_foreign(path: &str, foreign: &str) {
    let status = json(&["status", path, "--no-users"]);
    assert_eq!(
        (&status["foreign"], &status["what"][0], &status["what"][1]),
        (&foreign.into(), &"tmpfs".into(), &"hand".into()),
        "{status}"
    );
    let (code, text) = ctl(&["status", path, "--no-users"]);
    assert!(
        code == 1 && text.contains("what     tmpfs hand\n") && text.contains("mounted by another process"),
        "{text}"
    );
    let (code, text) = ctl(&["explain", path]);
    assert!(code == 0 && text.contains("an access reaches tmpfs hand, mounted by another process"), "{code} {text}");
}

/// Checks that the mount of the daemon is shown again.
#[track_caller]
fn is_ours(path: &str, source: &str) {
    let status = json(&["status", path, "--no-users"]);
    assert!(status["foreign"].is_null() && status["what"][1] == source, "{status}");
    assert_eq!(ctl(&["status", path, "--no-users"]).0, 0);
    assert_eq!(json(&["explain", path])["answer"], "mounted");
}

/// A second line for a mount point is shown with its place; nothing is wrong, because sites override included lines so.
#[case]
fn a_line_that_has_no_effect_is_shown() {
    site::any_key();
    site::master("/mnt/auto /etc/auto.any\n+/etc/more\n");
    put("/etc/more", "/mnt/other /etc/auto.any\n/mnt/auto /etc/auto.other\n");
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/other"]);
    let (code, said) = ctl(&["status"]);
    let (_, shown) = said.split_once("NO EFFECT").unwrap_or_else(|| panic!("{code} {said}"));
    for part in ["/mnt/auto", "/etc/more:2:1", "/etc/auto.master:1:1 comes first"] {
        assert!(shown.contains(part), "{said}");
    }
    assert!(code == 0 && !said.contains("NOT SERVED") && !said.contains("degraded"), "{said}");
    assert_eq!(json(&["status"])["without_effect"][0]["place"]["line"], 2);
    assert_eq!(ctl(&["health"]).0, 0);
    site::master("/mnt/auto /etc/auto.any\n/mnt/other /etc/auto.any\n");
    assert_eq!(ctl(&["reload"]).0, 0);
    assert!(!ctl(&["status"]).1.contains("NO EFFECT"));
    daemon.stop();
}

/// A file system that was mounted by hand over a mounted entry, of an indirect and of a direct map.
#[case]
fn a_mount_over_an_entry_is_not_taken_for_the_entry() {
    site::one_map("a -fstype=tmpfs,size=64k :own\n");
    site::and_direct(&["/mnt/one"]);
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/one"]);
    for path in ["/mnt/auto/a", "/mnt/one"] {
        visit::serves(path);
        let own = json(&["status", path, "--no-users"])["what"][1].as_str().unwrap().to_owned();
        is_ours(path, &own);
        mount(Some("hand"), path, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).unwrap();
        is_foreign(path, "over");
        let mounts = json(&["mounts"]);
        let row = mounts["mounts"].as_array().unwrap().iter().find(|row| row["path"] == path).unwrap();
        assert_eq!((&row["source"], &row["foreign"]), (&"hand".into(), &"over".into()), "{row}");
        assert!(ctl(&["mounts"]).1.contains("hand (mounted by another process)"));
        umount2(path, MntFlags::empty()).unwrap();
        is_ours(path, &own);
    }
    daemon.stop();
}

/// A file system that was mounted in place of an entry: one that is idle, and one that was mounted. The helper of another entry
/// mounts them, because it triggers nothing.
#[case]
fn a_mount_in_place_of_an_entry_is_not_taken_for_the_entry() {
    site::one_map("a -fstype=tmpfs,size=64k :own\nswap -fstype=swapfs :swap\n");
    site::and_direct(&["/mnt/one"]);
    put(
        "/sbin/mount.swapfs",
        "#!/bin/sh\nmount -i -t tmpfs -o size=64k hand /mnt/one\n\
         umount -i /mnt/auto/a && mount -i -t tmpfs -o size=64k hand /mnt/auto/a\nexit 1\n",
    );
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/one"]);
    visit::serves("/mnt/auto/a");
    visit::refuses("/mnt/auto/swap", Errno::ENOENT);
    for path in ["/mnt/one", "/mnt/auto/a"] {
        assert_eq!(table::at(path).last().unwrap().source, "hand");
        is_foreign(path, "instead");
        umount2(path, MntFlags::empty()).unwrap();
        visit::serves(path);
        assert!(json(&["status", path, "--no-users"])["foreign"].is_null());
    }
    daemon.stop();
}

/// A path in a mounted entry that does not exist.
#[case]
fn a_path_that_does_not_exist_in_a_mount_is_explained_as_missing() {
    fs::create_dir_all("/srv/a/dir").unwrap();
    put("/srv/a/file", "");
    std::os::unix::fs::symlink("/nowhere", "/srv/a/link").unwrap();
    site::one_map("a :/srv/a\nmulti /sub :/srv/a\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    visit::serves("/mnt/auto/multi/sub");
    for (path, errno) in [
        ("/mnt/auto/a/none", Errno::ENOENT),
        ("/mnt/auto/a/dir/none/deep", Errno::ENOENT),
        ("/mnt/auto/a/file/x", Errno::ENOTDIR),
        ("/mnt/auto/multi/none", Errno::ENOENT),
        ("/mnt/auto/multi/sub/none", Errno::ENOENT),
    ] {
        visit::refuses(path, errno);
        let (code, text) = ctl(&["explain", path]);
        assert!(code == 1 && text.contains(&format!("({errno:?})")), "{code} {text}");
    }
    for path in ["/mnt/auto/a", "/mnt/auto/a/file", "/mnt/auto/a/dir", "/mnt/auto/a/link", "/mnt/auto/multi/sub/dir"] {
        let (code, text) = ctl(&["explain", path]);
        assert!(code == 0 && text.contains(": mounted"), "{code} {text}");
    }
    daemon.stop();
}

/// Kills the worker while `autofsctl` waits for its reply. Returns the exit status and what was printed.
fn killed_meanwhile(daemon: &Daemon, arguments: &[&str], begun: &str) -> (i32, String) {
    let mut command = Command::new("autofsctl");
    command.args(arguments).stdin(Stdio::null());
    let asked = thread::spawn(move || output(&mut command, secs(30)).expect("an answer"));
    wait_for("the work for the call", secs(10), || fs::exists(begun).unwrap().then_some(()));
    kill(Pid::from_raw(daemon.worker()), Signal::SIGKILL).unwrap();
    let said = asked.join().unwrap();
    let text = [said.stdout, said.stderr].concat();
    (said.status.code().unwrap(), String::from_utf8_lossy(&text).into_owned())
}

/// A worker that dies while it answers: the question is asked again.
#[case]
fn a_question_whose_worker_dies_is_asked_again() {
    put("/etc/auto.program", "#!/bin/sh\necho >>/tmp/asked\nsleep 1\necho '-fstype=tmpfs,size=64k :own'\n");
    site::master("/mnt/auto program:/etc/auto.program\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let (code, text) = killed_meanwhile(&daemon, &["explain", "/mnt/auto/a"], "/tmp/asked");
    assert!(code == 0 && text.contains("an access would mount it"), "{code} {text}");
    assert_eq!(fs::read("/tmp/asked").unwrap().len(), 2, "asked again once");
    visit::serves("/mnt/auto/a");
    daemon.stop();
}
