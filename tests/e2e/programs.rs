//! Program maps: what they are called with, what becomes of their output, and that they hold up nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use autofs::sys::landlock::keep_signals_inside;
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;

use super::common::daemon::Daemon;
use super::common::site;
use super::common::suite::case;
use super::common::world::put;
use super::common::{output, secs, table, visit, wait_for};

/// Writes the program map `/etc/auto.prog`, a shell script.
fn program(text: &str) {
    put("/etc/auto.prog", format!("#!/bin/sh\n{text}\n"));
    fs::set_permissions("/etc/auto.prog", fs::Permissions::from_mode(0o755)).unwrap();
}

fn lines(path: &str) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[case]
fn the_program_is_called_with_the_key_in_the_mount_point() {
    site::master("/mnt/auto program:/etc/auto.prog -DSITE=lab\n/mnt/two /etc/auto.prog\n");
    program("echo \"$#:$1:$(pwd):$SITE:$AUTOFS_UID:$HOME\" >>/tmp/calls; echo \"-fstype=tmpfs :k\"");
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/two"]);
    for key in ["a b", "$(id)", "-x"] {
        visit::serves(format!("/mnt/auto/{key}"));
    }
    visit::serves("/mnt/two/c");
    let calls = ["1:a b:/mnt/auto:lab:0:", "1:$(id):/mnt/auto:lab:0:", "1:-x:/mnt/auto:lab:0:", "1:c:/mnt/two::0:"];
    assert_eq!(lines("/tmp/calls"), calls);
    daemon.stop();
}

#[case]
fn a_failing_key_fails_until_the_negative_timeout_or_a_reload() {
    site::master("/mnt/auto program:/etc/auto.prog --negative-timeout=600\n");
    program("echo $1 >>/tmp/calls; [ -e /tmp/ok ] || { echo 'no luck' >&2; exit 3; }; echo \"-fstype=tmpfs :k\"");
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    visit::refuses("/mnt/auto/a", Errno::ENOENT);
    daemon.says("lookup(program): lookup for a failed: /etc/auto.prog: exit status 3: no luck");
    daemon.says(">> no luck");
    put("/tmp/ok", "");
    visit::refuses("/mnt/auto/a", Errno::ENOENT);
    assert_eq!(lines("/tmp/calls"), ["a"]);
    visit::serves("/mnt/auto/b");
    daemon.signal(Signal::SIGHUP);
    wait_for("a to be served", secs(10), || visit::enter("/mnt/auto/a").ok());
    assert!(table::served("/mnt/auto/a"));
    daemon.stop();
}

#[case]
fn output_is_used_again_until_a_reload() {
    site::master("/mnt/auto program:/etc/auto.prog --negative-timeout=600\n");
    program("echo $1 >>/tmp/calls; echo \"-fstype=tmpfs :k\"");
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    for _ in 0..2 {
        visit::serves("/mnt/auto/a");
        umount2("/mnt/auto/a", MntFlags::empty()).unwrap();
    }
    assert_eq!(lines("/tmp/calls"), ["a"]);
    daemon.signal(Signal::SIGHUP);
    wait_for("the program to run again", secs(10), || {
        visit::serves("/mnt/auto/a");
        umount2("/mnt/auto/a", MntFlags::empty()).unwrap();
        (lines("/tmp/calls").len() == 2).then_some(())
    });
    daemon.stop();
}

#[case]
fn hundreds_of_slow_programs_delay_no_file_key() {
    site::master("/mnt/auto program:/etc/auto.prog\n/mnt/file /etc/auto.file\n");
    put("/etc/auto.file", "* -fstype=tmpfs :f\n");
    // On a busy machine, 300 processes are not started in a minute.
    put("/etc/autofs.toml", "[deadlines]\nrequest = 900\nlookup = 600\n");
    program("while [ ! -e /tmp/go ]; do sleep 0.1; done; echo \"-fstype=tmpfs :k\"");
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/file"]);
    let waiting: Vec<_> = (0..300).map(|n| visit::process(format!("/mnt/auto/{n}"), 0)).collect();
    for n in 0..50 {
        visit::serves(format!("/mnt/file/{n}"));
    }
    put("/tmp/go", "");
    for mut visitor in waiting {
        let status = wait_for("a key of the program", secs(20), || visitor.try_wait().unwrap());
        assert!(status.success(), "{status}");
    }
    daemon.stop();
}

#[case]
fn a_program_that_looks_at_its_own_key_does_not_wait_for_itself() {
    site::master("/mnt/auto program:/etc/auto.prog\n");
    program("[ -e \"$1\" ] && exit 1; ls /mnt/auto/$1/ && exit 2; echo \"-fstype=tmpfs :k\"");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    daemon.stop();
}

#[case]
fn the_end_does_not_wait_for_a_program_and_leaves_none_and_no_mount() {
    site::master("/mnt/auto program:/etc/auto.prog\n");
    program("echo $$ >/tmp/pid; exec sleep 1000");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let mut visitor = visit::process("/mnt/auto/a", 0);
    let pid = wait_for("the program", secs(10), || lines("/tmp/pid").first().cloned());
    daemon.stop();
    wait_for("the visitor's end", secs(10), || visitor.try_wait().unwrap());
    assert_eq!(table::at("/mnt/auto"), []);
    let path = format!("/proc/{pid}/stat");
    let runs = || fs::read_to_string(&path).is_ok_and(|stat| !stat.contains(") Z "));
    wait_for("the program's end", secs(10), || (!runs()).then_some(()));
}

#[case]
fn with_list_keys_can_be_browsed_and_direct() {
    site::master("/mnt/auto program:/etc/auto.prog browse list\n/- program:/etc/auto.prog list\n");
    program("[ $# = 0 ] && { cat /tmp/keys; exit; }; echo \"-fstype=tmpfs :k\"");
    put("/tmp/keys", "one\ntwo\n/mnt/direct/three\n");
    let mut daemon = Daemon::serving(&["/mnt/auto", "/mnt/direct/three"]);
    // The directories come just after the mount point.
    wait_for("the keys", secs(10), || (visit::list("/mnt/auto") == ["one", "two"]).then_some(()));
    visit::serves("/mnt/auto/two");
    visit::serves("/mnt/auto/unlisted");
    visit::serves("/mnt/direct/three");
    put("/tmp/keys", "one\ntwo\nfour\n/mnt/direct/three\n/mnt/direct/five\n");
    daemon.signal(Signal::SIGHUP);
    wait_for("the new keys", secs(10), || table::autofs("/mnt/direct/five"));
    wait_for("the new directory", secs(10), || visit::list("/mnt/auto").contains(&"four".into()).then_some(()));
    daemon.stop();
}

/// A program signals the process that has started it, and its process group, which is ours.
#[case]
fn a_program_that_signals_its_group_stops_nothing_else() {
    if std::thread::spawn(keep_signals_inside).join().unwrap().is_err() {
        // Needs Linux 6.12 with Landlock.
        return;
    }
    site::master("/mnt/auto program:/etc/auto.signals\n");
    put("/etc/auto.signals", "#!/bin/sh\nkill -KILL $PPID\nkill -STOP 0\necho \"-fstype=tmpfs :$1\"\n");
    fs::set_permissions("/etc/auto.signals", fs::Permissions::from_mode(0o755)).unwrap();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let worker = daemon.worker();
    let mut visitor = visit::process("/mnt/auto/a", 0);
    wait_for("the stopped program", secs(10), || {
        let lists = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        let mut lines = lists.map(|path| fs::read_to_string(path.join("stat")).unwrap_or_default());
        lines.any(|line| line.contains("(auto.signals) T ")).then_some(())
    });
    let said = output(std::process::Command::new("autofsctl").arg("ping"), secs(5));
    assert!(said.expect("an answer of the daemon").status.success());
    assert_eq!(daemon.worker(), worker);
    visitor.kill().unwrap();
    visitor.wait().unwrap();
    daemon.kill();
}
