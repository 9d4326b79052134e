//! `[security]` in autofs.toml: what is refused, and what is imposed on maps of others.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::Command;

use nix::errno::Errno;

use super::common::daemon::Daemon;
use super::common::suite::case;
use super::common::world::put;
use super::common::{output, secs, site, table, visit, wait_for};

/// Returns what a program prints, on both streams.
fn said(program: &str, arguments: &[&str]) -> String {
    let said = output(Command::new(program).args(arguments), secs(15)).expect("an answer");
    String::from_utf8(said.stdout).unwrap() + &String::from_utf8(said.stderr).unwrap()
}

/// Writes `[security]` of autofs.toml.
fn security(text: &str) {
    put("/etc/autofs.toml", format!("[security]\n{text}\n"));
}

fn mode(path: &str, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A map, its directory and a program, each of which others can write to for a while.
#[case]
fn what_others_can_change_is_not_used() {
    security("writable_maps = \"refuse\"");
    site::master("/mnt/auto /etc/maps/auto.one\n/mnt/two program:/etc/auto.prog --negative-timeout=1\n");
    put("/etc/maps/auto.one", "a -fstype=tmpfs :a\n");
    put("/etc/auto.prog", "#!/bin/sh\necho \"-fstype=tmpfs :$1\"\n");
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/two"]);
    visit::serves("/mnt/auto/a");
    visit::serves("/mnt/two/a");

    mode("/etc/maps", 0o777);
    put("/etc/maps/auto.one", "b -fstype=tmpfs :b\nc -fstype=tmpfs :c\n");
    visit::refuses("/mnt/auto/b", Errno::ENOENT);
    let why = "/etc/maps/auto.one is not used, as others than root can change it: /etc/maps: others can write to it: \
               chmod go-w /etc/maps";
    daemon.says(why);
    let checked = said("autofsctl", &["check"]);
    assert!(checked.contains(why), "{checked}");
    // What was read before stays in force.
    nix::mount::umount("/mnt/auto/a").unwrap();
    visit::serves("/mnt/auto/a");
    mode("/etc/maps", 0o755);
    visit::serves("/mnt/auto/c");

    chown("/etc/auto.prog", Some(1000), None).unwrap();
    visit::refuses("/mnt/two/b", Errno::ENOENT);
    daemon
        .says("/etc/auto.prog is not used, as others than root can change it: /etc/auto.prog: it belongs to user 1000");
    chown("/etc/auto.prog", Some(0), None).unwrap();
    wait_for("the program to be run", secs(10), || visit::enter("/mnt/two/b").ok());
    daemon.stop();
}

/// The profile is about entries that are not from a local file of root.
#[case]
fn a_provider_has_mandatory_options_and_allowed_types() {
    security("profile = \"strict\"");
    site::master("/mnt/auto /etc/auto.one suid\n/mnt/two program:/etc/auto.prog --negative-timeout=1\n");
    put("/etc/auto.one", "a -fstype=tmpfs,dev :a\n");
    put("/etc/auto.prog", "#!/bin/sh\necho \"-fstype=tmpfs,suid,size=64k :$1\"\n");
    let mut daemon = Daemon::serving(&["/mnt/auto", "/mnt/two"]);
    visit::serves("/mnt/auto/a");
    let flags = |path: &str| table::at(path).last().unwrap().flags.clone();
    assert!(!flags("/mnt/auto/a").contains("nosuid"), "{}", flags("/mnt/auto/a"));
    visit::refuses("/mnt/two/a", Errno::ENOENT);
    let refused =
        "the entry is refused: it needs the type tmpfs, which allowed_types in autofs.toml does not have for program";
    daemon.says(refused);
    let explained = said("autofsctl", &["explain", "/mnt/two/a"]);
    assert!(explained.contains(refused), "{explained}");

    security("profile = \"strict\"\nallowed_types = { program = [\"tmpfs\", \"nfs*\"] }");
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    wait_for("the type to be allowed", secs(10), || visit::enter("/mnt/two/a").ok());
    let flags = flags("/mnt/two/a");
    assert!(flags.contains("nosuid") && flags.contains("nodev"), "{flags}");
    let explained = said("autofsctl", &["explain", "/mnt/two/a"]);
    assert!(explained.contains("nosuid,nodev because of mandatory_options for program in autofs.toml"), "{explained}");

    // A file of another owner is not one of root.
    chown("/etc/auto.one", Some(1000), None).unwrap();
    security("allowed_types = { foreign_file = [\"nfs\"] }");
    let checked = said("autofsctl", &["check"]);
    for expected in
        ["the entry is refused: it needs the type tmpfs", "/etc/auto.one:1:3", "add \"tmpfs\" to foreign_file"]
    {
        assert!(checked.contains(expected), "{checked}");
    }
    daemon.stop();
}
