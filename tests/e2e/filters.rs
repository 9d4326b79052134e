//! Wildcards that serve some keys only: names of users, and patterns.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
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

/// Returns the source of what is mounted for a key.
fn source(path: &str) -> String {
    visit::serves(path);
    table::at(path).last().unwrap().source.clone()
}

/// The user database is a file: these users and root.
fn users(names: &[&str]) {
    put("/etc/nsswitch.conf", "passwd: files\nautomount: files\n");
    let line = |(name, uid): (&&str, u32)| format!("{name}:x:{uid}:{uid}::/home/{name}:/bin/sh\n");
    let lines: String = names.iter().zip(1000..).map(line).collect();
    put("/etc/passwd", format!("root:x:0:0::/root:/bin/sh\n{lines}"));
}

#[case]
fn homes_of_users_only() {
    users(&["alice", "bob"]);
    site::master("/mnt/auto /etc/auto.one\n/mnt/sub /etc/auto.two\n");
    put("/etc/auto.one", "own -fstype=tmpfs :own\n*[passwd] -fstype=tmpfs :home-&\n");
    // The wildcard that serves only users comes before the other, wherever it is; an include has its own.
    put("/etc/auto.two", "* -fstype=tmpfs :other-&\n*[passwd] -fstype=tmpfs :home-&\n+/etc/auto.more\n");
    put("/etc/auto.more", "root -fstype=tmpfs :the-root\n");
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/sub"]);
    assert_eq!(source("/mnt/auto/alice"), "home-alice");
    assert_eq!(source("/mnt/auto/own"), "own");
    for path in ["/mnt/auto/carol", "/mnt/auto/.hidden", "/mnt/auto/ALICE", "/mnt/auto/al ice", "/mnt/auto/1000"] {
        visit::refuses(path, Errno::ENOENT);
    }
    assert_eq!(source("/mnt/sub/bob"), "home-bob");
    assert_eq!(source("/mnt/sub/carol"), "other-carol");
    assert_eq!(source("/mnt/sub/root"), "the-root");

    let explained = said("autofsctl", &["explain", "/mnt/auto/carol"]);
    let expected = "/etc/auto.one:2:11: *[passwd] serves only names of users, and there is no user carol";
    assert!(explained.contains(expected), "{explained}");
    let explained = said("autofsctl", &["explain", "/mnt/auto/bob"]);
    assert!(explained.contains("/etc/auto.one:2:11") && explained.contains("home-bob"), "{explained}");
    let dump = said("automount", &["-m"]);
    assert!(dump.contains("  *[passwd] | -fstype=tmpfs :home-&\n"), "{dump}");
    assert!(dump.contains("  *[passwd] | -fstype=tmpfs :home-&\n  * | -fstype=tmpfs :other-&\n"), "{dump}");
    let checked = said("autofsctl", &["check"]);
    assert!(checked.contains("0 errors, 0 warnings"), "{checked}");

    // A user who is new has a home at the first access.
    users(&["alice", "bob", "dave"]);
    assert_eq!(source("/mnt/auto/dave"), "home-dave");
    daemon.stop();
}

#[case]
fn patterns_in_toml() {
    users(&["alice", "p-user"]);
    site::master("/mnt/auto file,toml:/etc/auto.one.toml\n");
    let entries = "[defaults]\ntype = \"tmpfs\"\n[entries]\n\"*\" = \"other-&\"\n\"p-*\" = { source = \"project-&\", except = [\"p-u*\"] }\n\
                   \"tmp?\" = { hidden = true }\n\"*[passwd]\" = \"home-&\"\np-own = \"own\"\n'p-\\*' = \"star\"\n";
    put("/etc/auto.one.toml", entries);
    let daemon = Daemon::serving(&["/mnt/auto"]);
    for (key, from) in [
        ("p-1", "project-p-1"),
        ("p-own", "own"),
        ("p-*", "star"),
        ("p-user", "home-p-user"),
        ("alice", "home-alice"),
        ("tmp12", "other-tmp12"),
    ] {
        assert_eq!(source(&format!("/mnt/auto/{key}")), from);
    }
    visit::refuses("/mnt/auto/tmp1", Errno::ENOENT);
    let dump = said("automount", &["-m"]);
    let expected = "  p-* | -fstype=tmpfs :project-&\n  tmp? | -null\n  *[passwd] | -fstype=tmpfs :home-&\n  * | -fstype=tmpfs :other-&\n";
    assert!(dump.contains(expected), "{dump}");
    let checked = said("autofsctl", &["check"]);
    assert!(checked.contains("0 errors, 0 warnings"), "{checked}");
    put("/etc/auto.one.toml", entries.replace("tmp?", "a/?"));
    let checked = said("autofsctl", &["check"]);
    assert!(checked.contains("auto.one.toml:6:1") && checked.contains("a pattern that no key has"), "{checked}");
    daemon.stop();
}

/// The name service daemon accepts connections and says nothing: keys that do not depend on it are served, others fail by
/// the deadline without being taken for unknown users.
#[case(seconds: 120)]
fn a_user_database_that_hangs() {
    users(&["alice", "bob"]);
    _ = fs::remove_dir_all("/run/nscd");
    fs::create_dir_all("/run/nscd").unwrap();
    let listener = UnixListener::bind("/run/nscd/socket").unwrap();
    fs::set_permissions("/run/nscd/socket", fs::Permissions::from_mode(0o666)).unwrap();
    let hung = std::thread::spawn(move || listener.incoming().flatten().collect::<Vec<_>>().len());
    put("/etc/autofs.toml", "[deadlines]\nlookup = 2\nrequest = 8\n");
    site::one_map("own -fstype=tmpfs :own\n*[passwd] -fstype=tmpfs :home-&\n");
    // Keys that are missing would fail for longer than this test lasts.
    site::master("/mnt/auto /etc/auto.one --negative-timeout=3600\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let asking: Vec<_> = (0..20)
        .map(|n| std::thread::spawn(move || visit::enter_now(Path::new(&format!("/mnt/auto/none{n}")))))
        .collect();
    visit::refuses("/mnt/auto/alice", Errno::ENOENT);
    daemon.says("whether there is a user alice is not known");
    assert_eq!(source("/mnt/auto/own"), "own");
    let explained = said("autofsctl", &["explain", "/mnt/auto/bob"]);
    assert!(explained.contains("whether there is a user bob is not known"), "{explained}");
    asking.into_iter().for_each(|asked| assert!(asked.join().unwrap().is_err()));
    // glibc gives such a daemon up after some seconds and reads the file.
    wait_for("alice's home", secs(60), || {
        visit::enter("/mnt/auto/alice").ok().filter(|()| table::served("/mnt/auto/alice"))
    });
    assert!(!hung.is_finished());
    daemon.stop();
}
