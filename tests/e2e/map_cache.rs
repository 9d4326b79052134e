//! The map cache: maps of directory services that serve at a start while their service does not answer.
//!
//! The service is NIS, with a [stand-in](ypserv) for its servers.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Command;

use nix::errno::Errno;

use super::common::daemon::Daemon;
use super::common::suite::case;
use super::common::world::put;
use super::common::ypserv::{self, Nis};
use super::common::{output, secs, site, table, visit, wait_for};

const ENTRY: &str = "-fstype=tmpfs,size=64k :k";
const CACHE: &str = "/var/cache/maps";

/// Sets up four maps in NIS: one that is browsed, a direct one, one that is asked by key, one that only the master map in NIS names.
fn install(toml: &str) -> Option<Nis> {
    let nis = ypserv::install()?;
    put("/etc/nsswitch.conf", "automount: files nis\n");
    put("/etc/autofs.toml", format!("[deadlines]\nlookup = 4\n[cache]\ndirectory = \"{CACHE}\"\n{toml}"));
    fs::create_dir_all("/var/cache").unwrap();
    site::master("/mnt/browse yp:auto.m browse\n/- nis:auto.direct\n/mnt/keys nis:auto.k\n+auto.more\n");
    for (map, key) in
        [("auto.m", "a"), ("auto.m", "b"), ("auto.direct", "/mnt/direct/d"), ("auto.k", "k"), ("auto.k", "l")]
    {
        nis.set(map, key, ENTRY);
    }
    nis.set("auto.more", "/mnt/more", "auto.k");
    Some(nis)
}

const POINTS: &[&str] = &["/mnt/browse", "/mnt/direct/d", "/mnt/keys", "/mnt/more"];

fn status() -> String {
    let said = output(Command::new("autofsctl").arg("status"), secs(10)).expect("an answer of autofsctl");
    String::from_utf8_lossy(&said.stdout).into_owned()
}

/// The files of the cache.
fn files() -> Vec<PathBuf> {
    fs::read_dir(CACHE).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Serves all maps once with the server, and ends.
fn yesterday(nis: &mut Nis) {
    nis.start();
    let daemon = Daemon::serving(POINTS);
    for path in ["/mnt/browse/a", "/mnt/direct/d", "/mnt/keys/k", "/mnt/more/k"] {
        visit::serves(path);
    }
    assert!(!status().contains("STALE"), "{}", status());
    daemon.stop();
    nis.stop();
}

#[case]
fn yesterdays_maps_serve_until_the_service_is_back() {
    let Some(mut nis) = install("") else { return };
    yesterday(&mut nis);
    assert_eq!(fs::metadata(CACHE).unwrap().mode() & 0o777, 0o700);
    assert!(files().len() >= 4, "{:?}", files());
    for file in files() {
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600, "{}", file.display());
    }
    let daemon = Daemon::serving(POINTS);
    wait_for("the keys", secs(5), || (visit::list("/mnt/browse") == ["a", "b"]).then_some(()));
    for path in ["/mnt/browse/b", "/mnt/direct/d", "/mnt/keys/k", "/mnt/more/k"] {
        visit::serves(path);
    }
    // This key was not asked for yesterday.
    visit::refuses("/mnt/keys/l", Errno::ENOENT);
    let said = status();
    for words in ["STALE", "/mnt/browse", "/mnt/keys", "map cache"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let explained = output(Command::new("autofsctl").args(["explain", "/mnt/browse/a"]), secs(10)).unwrap();
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(explained.contains("this is what it said before"), "{explained}");
    // The new content of the server is served without a reload.
    nis.set("auto.m", "new", ENTRY);
    nis.set("auto.direct", "/mnt/direct/new", ENTRY);
    nis.set("auto.more", "/mnt/later", "auto.k");
    nis.start();
    wait_for("a new direct mount", secs(10), || table::autofs("/mnt/direct/new"));
    wait_for("a new line of the master map", secs(10), || table::autofs("/mnt/later"));
    wait_for("a new key", secs(10), || visit::list("/mnt/browse").contains(&"new".to_owned()).then_some(()));
    visit::serves("/mnt/later/l");
    visit::serves("/mnt/keys/k");
    wait_for("nothing stale", secs(10), || {
        // A map that is asked by key is current after the next key.
        for point in ["/mnt/keys", "/mnt/more"] {
            _ = visit::enter(format!("{point}/none"));
        }
        (!status().contains("STALE")).then_some(())
    });
    daemon.stop();
}

#[case]
fn another_domain_does_not_get_yesterdays_maps() {
    let Some(mut nis) = install("") else { return };
    yesterday(&mut nis);
    fs::write("/proc/sys/kernel/domainname", "other").unwrap();
    let daemon = Daemon::serving(&["/mnt/keys"]);
    visit::refuses("/mnt/keys/k", Errno::ENOENT);
    assert!(table::autofs("/mnt/direct/d").is_none());
    assert!(table::autofs("/mnt/more").is_none());
    daemon.stop();
    // Back in its domain, the machine has them still.
    fs::write("/proc/sys/kernel/domainname", "lab").unwrap();
    let daemon = Daemon::serving(POINTS);
    visit::serves("/mnt/keys/k");
    daemon.stop();
}

#[case]
fn a_server_that_swallows_questions_delays_yesterdays_maps_by_seconds_only() {
    let Some(mut nis) = install("") else { return };
    yesterday(&mut nis);
    nis.swallow();
    let mut daemon = Daemon::start(["-f", "-v"]);
    daemon.ready(POINTS);
    for path in ["/mnt/browse/a", "/mnt/direct/d", "/mnt/keys/k", "/mnt/more/k"] {
        visit::serves(path);
    }
    daemon.stop();
}

#[case]
fn a_file_that_is_damaged_or_of_another_user_serves_nothing() {
    let Some(mut nis) = install("") else { return };
    yesterday(&mut nis);
    for (number, file) in files().into_iter().enumerate() {
        let good = fs::read(&file).unwrap();
        match number {
            0 => std::os::unix::fs::chown(&file, Some(1000), None).unwrap(),
            1 => fs::write(&file, &good[..good.len() / 2]).unwrap(),
            _ => fs::write(&file, "a -fstype=tmpfs :forged\n").unwrap(),
        }
    }
    let mut daemon = Daemon::serving(&["/mnt/keys"]);
    visit::refuses("/mnt/keys/k", Errno::ENOENT);
    for words in ["it belongs to another user", "it is damaged", "it is not a map that automount has stored"] {
        daemon.says(words);
    }
    assert!(table::autofs("/mnt/more").is_none());
    nis.start();
    daemon.ready(POINTS);
    visit::serves("/mnt/browse/a");
    daemon.stop();
    nis.stop();
    // All files were replaced.
    let daemon = Daemon::serving(POINTS);
    visit::serves("/mnt/browse/a");
    daemon.stop();
}

#[case]
fn without_a_directory_in_the_configuration_nothing_is_stored() {
    let Some(mut nis) = install("") else { return };
    put("/etc/autofs.toml", "[deadlines]\nlookup = 2\n");
    yesterday(&mut nis);
    assert!(fs::read_dir(CACHE).is_err());
    let daemon = Daemon::serving(&["/mnt/keys"]);
    visit::refuses("/mnt/keys/k", Errno::ENOENT);
    daemon.stop();
}
