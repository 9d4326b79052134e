//! `[security]` in autofs.toml: what is refused, and what is imposed on maps of others.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::Command;

use nix::errno::Errno;

use super::common::daemon::Daemon;
use super::common::suite::case;
use super::common::world::put;
use super::common::{output, secs, site, stand_in, table, visit, wait_for};

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

/// A map, its directory and a program are writable by others in turn.
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
    // The earlier content stays in force.
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

/// The errno of an access by another user; `None`: it succeeds.
fn errno_as(path: &str, uid: u32) -> Option<i32> {
    let mut child = visit::process(path, uid);
    wait_for("the visitor's end", secs(20), || child.try_wait().unwrap()).code().filter(|code| *code != 0)
}

#[case]
fn only_some_users_may_trigger_mounts() {
    security("requesters = [{ path = \"/mnt/auto\", uids = [7], gids = [\"2000-2999\"] }]");
    site::master("/mnt/auto /etc/auto.one\n/mnt/two /etc/auto.one\n");
    put("/etc/auto.one", "* -fstype=tmpfs :&\n");
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/two"]);
    assert_eq!(errno_as("/mnt/auto/a", 1000), Some(Errno::EACCES as i32));
    assert!(!table::served("/mnt/auto/a"));
    assert_eq!(errno_as("/mnt/two/a", 1000), None);
    // By its user, its group, as root; and then it is mounted for all.
    assert_eq!(errno_as("/mnt/auto/b", 7), None);
    assert_eq!(errno_as("/mnt/auto/c", 2000), None);
    visit::serves("/mnt/auto/a");
    assert_eq!(errno_as("/mnt/auto/a", 1000), None);
    let refused = "user 1000 may not trigger /mnt/auto/a: requesters of /mnt/auto in [security] of autofs.toml";
    let history = said("autofsctl", &["history", "--json"]);
    assert!(history.contains(refused) && history.contains("EACCES"), "{history}");
    daemon.stop();
}

#[case]
fn a_user_who_walks_through_names_is_slowed_down() {
    security("attempts_per_second = 1");
    site::master("/mnt/auto /etc/auto.one --negative-timeout=600\n");
    put("/etc/auto.one", "own -fstype=tmpfs :own\n* -fstype=bind :/nowhere/&\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let keys: Vec<String> = (0..40).map(|n| format!("/mnt/auto/1000-{n}")).collect();
    let mut visitors: Vec<_> = keys.iter().map(|key| visit::process(key, 1000)).collect();
    let codes: Vec<i32> = visitors
        .iter_mut()
        .map(|visitor| wait_for("a visitor's end", secs(20), || visitor.try_wait().unwrap()).code().unwrap())
        .collect();
    let times = |errno: Errno| codes.iter().filter(|code| **code == errno as i32).count();
    assert!(times(Errno::ENOENT) >= 5 && times(Errno::EAGAIN) > 0, "{codes:?}");
    assert_eq!(times(Errno::ENOENT) + times(Errno::EAGAIN), 40, "{codes:?}");
    daemon.says("user 1000 tries more than 1 keys per second without an entry of their own");
    // A refusal is not remembered, and other users are not affected.
    let refused = codes.iter().position(|code| *code == Errno::EAGAIN as i32).unwrap();
    visit::refuses(&keys[refused], Errno::ENOENT);
    assert_eq!(errno_as("/mnt/auto/own", 1000), None);
    assert_eq!(errno_as("/mnt/auto/x", 1001), Some(Errno::ENOENT as i32));
    for n in 0..20 {
        visit::refuses(format!("/mnt/auto/root-{n}"), Errno::ENOENT);
    }
    daemon.stop();
}

#[case]
fn smb_is_mounted_with_the_tickets_of_the_requester() {
    put("/etc/autofs.toml", "[helpers]\nrequester_credentials = [\"cifs\"]\n");
    site::one_map("* -fstype=cifs,sec=krb5 ://srv/&\nown -fstype=cifs,cruid=7 ://srv/own\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    for key in ["a", "own"] {
        assert_eq!(errno_as(&format!("/mnt/auto/{key}"), 1000), None);
    }
    visit::serves("/mnt/auto/root");
    let options: Vec<_> = stand_in::calls()
        .iter()
        .map(|call| stand_in::MountWords::parse(&call.program, &call.arguments).options.unwrap_or_default())
        .collect();
    let has = |word: &str| options.iter().any(|options| options.split(',').any(|own| own == word));
    assert!(has("cruid=1000") && has("cruid=7") && !has("cruid=0"), "{options:?}");
    assert_eq!(options.iter().filter(|options| options.contains("cruid")).count(), 2, "{options:?}");
    daemon.stop();
}
