//! File maps, edited while they are in use.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use autofs::cli::ctl::client::ask;
use autofs::control::{Answer, Bytes, Call, Explain, SOCKET};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;

use super::common::daemon::Daemon;
use super::common::site;
use super::common::suite::case;
use super::common::world::put;
use super::common::{output, secs, table, visit, wait_for};

fn source(path: &str) -> String {
    table::at(path).into_iter().find(|m| m.fstype != "autofs").map(|m| m.source).unwrap_or_default()
}

fn remount(path: &str) -> String {
    if table::served(path) {
        umount2(path, MntFlags::empty()).unwrap();
    }
    visit::serves(path);
    source(path)
}

#[case]
fn maps_in_toml() {
    site::master("/mnt/auto file,toml:/etc/auto.one.toml\n/- file,toml:/etc/auto.direct.toml\n");
    put(
        "/etc/auto.one.toml",
        "[defaults]\ntype = \"tmpfs\"\noptions = \"size=64k\"\n[entries]\nbad = 5\n\"a b\" = \"one\"\n\"*\" = \"k&\"\n\
         multi.mounts = [{ path = \"/\", source = \"root\" }, { path = \"/x\", source = \"below\" }]\n",
    );
    put("/etc/auto.direct.toml", "[entries.\"/mnt/direct\"]\ntype = \"tmpfs\"\nsource = \"direct\"\n");
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/direct"]);
    for (path, from) in [
        ("/mnt/auto/a b", "one"),
        ("/mnt/auto/other", "kother"),
        ("/mnt/auto/multi", "root"),
        ("/mnt/auto/multi/x", "below"),
        ("/mnt/direct", "direct"),
    ] {
        visit::serves(path);
        assert_eq!(source(path), from, "{path}");
    }
    daemon.says("/etc/auto.one.toml:5:7: an entry is a string or a table");
    put("/etc/auto.one.toml", "[entries]\nnew = { type = \"tmpfs\", source = \"new\" }\n");
    visit::serves("/mnt/auto/new");
    daemon.stop();
}

#[case]
fn a_new_key_is_seen_at_once() {
    site::one_map("a -fstype=tmpfs :a\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    for n in 0..20 {
        let key = format!("k{n}");
        put("/etc/auto.one", format!("a -fstype=tmpfs :a\n{key} -fstype=tmpfs :{key}\n"));
        visit::serves(format!("/mnt/auto/{key}"));
    }
    daemon.stop();
}

#[case]
fn a_changed_entry_is_seen_at_the_next_mount() {
    site::one_map("a -fstype=tmpfs :0\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    for n in 0..20 {
        put("/etc/auto.one", format!("a -fstype=tmpfs :{n}\n"));
        assert_eq!(remount("/mnt/auto/a"), n.to_string(), "edits within the same second count");
    }
    daemon.stop();
}

#[case]
fn explain_says_what_is_mounted_from_before_an_edit() {
    site::one_map("a -fstype=tmpfs :0\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let notes = || match ask(
        Path::new(SOCKET),
        Call::Explain(Explain { path: Bytes(b"/mnt/auto/a".to_vec()), ..Explain::default() }),
        secs(20),
    ) {
        Ok(Answer::Explanation(explanation)) => explanation.notes,
        other => panic!("{other:?}"),
    };
    visit::serves("/mnt/auto/a");
    assert_eq!(notes(), [""; 0]);
    put("/etc/auto.one", "a -fstype=tmpfs :1\n");
    assert_eq!(notes(), ["mounted now: tmpfs 0, from before the map was changed"]);
    assert_eq!(remount("/mnt/auto/a"), "1");
    assert_eq!(notes(), [""; 0]);
    daemon.stop();
}

#[case]
fn a_removed_key_is_gone_when_unmounted() {
    site::one_map("a -fstype=tmpfs :a\nb -fstype=tmpfs :b\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    put("/etc/auto.one", "b -fstype=tmpfs :b\n");
    visit::serves("/mnt/auto/a");
    umount2("/mnt/auto/a", MntFlags::empty()).unwrap();
    visit::refuses("/mnt/auto/a", Errno::ENOENT);
    visit::serves("/mnt/auto/b");
    daemon.stop();
}

#[case]
fn written_in_place() {
    site::one_map("a -fstype=tmpfs :one\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    // Same size, same inode.
    for text in ["two", "six", "ten"] {
        fs::write("/etc/auto.one", format!("a -fstype=tmpfs :{text}\n")).unwrap();
        assert_eq!(remount("/mnt/auto/a"), text);
    }
    daemon.stop();
}

/// Each replacement holds every key with the same number; no reader may see two of them mixed, or none.
#[case]
fn replaced_by_rename() {
    let text = |n: u32| (0..200).map(|k| format!("k{k} -fstype=tmpfs :v{n}\n")).collect::<String>();
    site::one_map(&text(0));
    let daemon = Daemon::serving(&["/mnt/auto"]);
    for n in 1..=50 {
        put("/etc/auto.one", text(n));
        let path = format!("/mnt/auto/k{n}");
        visit::serves(&path);
        assert_eq!(source(&path), format!("v{n}"));
    }
    // And while it is being replaced all the time.
    let writer = std::thread::spawn(move || (51..251).for_each(|n| put("/etc/auto.one", text(n))));
    for k in 51..200 {
        let path = format!("/mnt/auto/k{k}");
        visit::serves(&path);
        assert!(source(&path).starts_with('v'));
    }
    writer.join().unwrap();
    daemon.stop();
}

#[case]
fn replaced_behind_a_symlink() {
    for n in 0..10 {
        put(&format!("/etc/release-{n}/auto.one"), format!("a -fstype=tmpfs :{n}\n"));
    }
    symlink("release-0", "/etc/current").unwrap();
    site::master("/mnt/auto file:/etc/current/auto.one\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    for n in 1..10 {
        symlink(format!("release-{n}"), "/etc/next").unwrap();
        fs::rename("/etc/next", "/etc/current").unwrap();
        assert_eq!(remount("/mnt/auto/a"), n.to_string());
    }
    daemon.stop();
}

#[case]
fn an_included_map_is_watched() {
    site::one_map("a -fstype=tmpfs :a\n+/etc/auto.inc\n");
    put("/etc/auto.inc", "b -fstype=tmpfs :b\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/b");
    put("/etc/auto.inc", "b -fstype=tmpfs :b2\nc -fstype=tmpfs :c\n");
    visit::serves("/mnt/auto/c");
    assert_eq!(remount("/mnt/auto/b"), "b2");
    daemon.stop();
}

#[case]
fn a_key_that_was_missing_is_found_once_it_is_there() {
    site::master("/mnt/auto /etc/auto.one --negative-timeout=600\n");
    put("/etc/auto.one", "a -fstype=tmpfs :a\n");
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    visit::refuses("/mnt/auto/new", Errno::ENOENT);
    put("/etc/auto.one", "a -fstype=tmpfs :a\nnew -fstype=tmpfs :new\n");
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    wait_for("the new key", secs(10), || visit::enter("/mnt/auto/new").ok());
    daemon.stop();
}

#[case]
fn a_map_that_vanishes_keeps_its_last_state() {
    site::one_map("a -fstype=tmpfs :a\nb -fstype=tmpfs :b\n");
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    fs::remove_file("/etc/auto.one").unwrap();
    visit::serves("/mnt/auto/b");
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    std::thread::sleep(secs(1));
    umount2("/mnt/auto/a", MntFlags::empty()).unwrap();
    visit::serves("/mnt/auto/a");
    put("/etc/auto.one", "c -fstype=tmpfs :c\n");
    visit::serves("/mnt/auto/c");
    daemon.stop();
}

#[case]
fn a_directory_as_map() {
    fs::create_dir("/etc/auto.dir").unwrap();
    site::any_key();
    site::master("/mnt/bad /etc/auto.dir\n/mnt/auto /etc/auto.any\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    daemon.says("/etc/auto.dir");
    daemon.stop();
}

/// A map that cannot be held in memory is an error, not the end of the daemon.
#[case(seconds: 120)]
fn a_map_without_end() {
    site::any_key();
    site::master("/mnt/bad file:/dev/zero\n/mnt/auto /etc/auto.any\n/mnt/fifo file:/etc/auto.fifo\n");
    nix::unistd::mkfifo("/etc/auto.fifo", nix::sys::stat::Mode::S_IRWXU).unwrap();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    daemon.says("/dev/zero");
    daemon.says("/etc/auto.fifo");
    daemon.stop();
}

/// Returns the exit status of `autofsctl maps` with these arguments, and the words of each line that it prints.
fn listed(arguments: &str) -> (Option<i32>, Vec<String>) {
    let mut command = Command::new("autofsctl");
    let said = output(command.arg("maps").args(arguments.split_whitespace()), secs(20)).expect("an answer");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    (said.status.code(), String::from_utf8(said.stdout).unwrap().lines().map(words).collect())
}

/// No daemon runs: files are read by the caller.
#[case]
fn maps_are_listed_and_expanded() {
    site::master(
        "/mnt/auto /etc/auto.one -soft\n/mnt/prog program:/etc/prog\n/mnt/none /etc/auto.none\n/- /etc/auto.direct\n",
    );
    put(
        "/etc/auto.one",
        "k -fstype=nfs4 192.0.2.9:/x/&\nm / -fstype=tmpfs :r /b -fstype=tmpfs,password=SECRET :b\n* :/all/&\nbad -ro\n",
    );
    put("/etc/auto.direct", "/mnt/d -fstype=tmpfs :d\n");
    put("/etc/prog", "#!/bin/sh\ntouch /tmp/ran\necho :/src\n");
    fs::set_permissions("/etc/prog", fs::Permissions::from_mode(0o755)).unwrap();
    let (status, rows) = listed("");
    assert_eq!(status, Some(0));
    assert_eq!(
        rows,
        [
            "MAP MOUNT POINT KEYS LINE",
            "/etc/auto.one /mnt/auto 4 /etc/auto.master:1:1",
            "program:/etc/prog /mnt/prog - /etc/auto.master:2:1 it is asked for each key",
            "/etc/auto.none /mnt/none - /etc/auto.master:3:1 file map /etc/auto.none missing or not readable",
            "/etc/auto.direct /- 1 /etc/auto.master:4:1",
        ]
    );
    assert!(!fs::exists("/tmp/ran").unwrap(), "no program was named");
    for name in ["/mnt/auto", "/etc/auto.one", "auto.one"] {
        let (status, rows) = listed(name);
        assert_eq!(status, Some(0), "{name}");
        assert_eq!(rows[2], "k /etc/auto.one:1:3 -fstype=nfs4 192.0.2.9:/x/&");
        assert!(rows[3].contains("password=***") && rows[5].starts_with("* /etc/auto.one:3:3"), "{rows:?}");
    }
    let (_, rows) = listed("auto.one --expand");
    assert_eq!(
        rows[1..],
        [
            "PATH TYPE SOURCE OPTIONS",
            "/mnt/auto/k nfs4 192.0.2.9:/x/k soft",
            "/mnt/auto/m tmpfs r soft",
            "/mnt/auto/m/b tmpfs b soft,password=***",
            "bad - -ro",
            "* - :/all/&",
            "bad: /etc/auto.one:4:5: no location in the entry: write host:/path, or :/path for a local one",
        ]
    );
    assert!(listed("auto.one --expand --secrets").1[4].ends_with("password=SECRET"));
    assert_eq!(listed("/-").1[2], "/mnt/d /etc/auto.direct:1:8 -fstype=tmpfs :d");
    assert_eq!(listed("none"), (Some(1), vec!["no line of the master map names none".to_owned()]));
    assert_eq!(listed("/mnt/none").0, Some(1));
}

/// The kernel shows such a path without them.
#[case]
fn mount_points_and_direct_keys_with_dots() {
    site::master("/mnt/./auto//x /etc/auto.one\n/- /etc/auto.direct\n");
    put("/etc/auto.one", "k -fstype=tmpfs :k\n");
    put("/etc/auto.direct", "/mnt/./d//x -fstype=tmpfs :d\n/mnt/e/../f -fstype=tmpfs :f\n");
    let mut daemon = Daemon::serving(&["/mnt/auto/x", "/mnt/d/x", "/mnt/f"]);
    for path in ["/mnt/auto/x/k", "/mnt/d/x", "/mnt/f"] {
        visit::serves(path);
        assert_eq!(table::at(path).len(), if path.ends_with('k') { 1 } else { 2 }, "{path}");
    }
    daemon.signal(Signal::SIGHUP);
    wait_for("all to be served", secs(10), || {
        let said = output(Command::new("autofsctl").arg("health"), secs(10));
        said.is_some_and(|said| said.status.success()).then_some(())
    });
    assert_eq!(table::at("/mnt/d/x").len(), 2);
    daemon.stop();
    assert!(["/mnt/auto/x", "/mnt/d/x", "/mnt/f"].iter().all(|path| table::at(path).is_empty()));
}
