//! NIS, with a [stand-in](ypserv) for its servers.

use std::process::Command;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::common::daemon::Daemon;
use super::common::suite::case;
use super::common::world::put;
use super::common::ypserv::{self, Mode};
use super::common::{output, secs, site, table, visit, wait_for};

const ENTRY: &str = "-fstype=tmpfs,size=64k :k";

#[case]
fn keys_come_from_the_server_also_after_its_return() {
    let Some(mut nis) = ypserv::install() else { return };
    put("/etc/nsswitch.conf", "automount: files nis\n");
    put("/etc/autofs.toml", "[deadlines]\nlookup = 2\n");
    site::master("/mnt/typed yp:auto_m browse\n/- nis:auto.direct\n+auto.more\n");
    for (map, key, value) in [
        ("auto.m", "a", ENTRY),
        ("auto.m", "*", "-fstype=tmpfs,size=64k :w&"),
        ("auto.m", "YP_MASTER_NAME", "server"),
        ("auto.direct", "/mnt/direct/d", ENTRY),
        ("auto.direct", "/mnt/direct/slash/", ENTRY),
        ("auto.more", "/mnt/more", "auto.m"),
    ] {
        nis.set(map, key, value);
    }
    nis.start();
    let mut daemon = Daemon::serving(&["/mnt/typed", "/mnt/direct/d", "/mnt/more"]);
    for path in ["/mnt/typed/a", "/mnt/typed/x", "/mnt/direct/d", "/mnt/direct/slash", "/mnt/more/y"] {
        visit::serves(path);
    }
    wait_for("the keys", secs(5), || (visit::list("/mnt/typed") == ["a", "x"]).then_some(()));
    // What it said before is served while it is away, and no mount point is lost.
    nis.stop();
    daemon.signal(Signal::SIGHUP);
    daemon.signal(Signal::SIGUSR1);
    wait_for("nothing mounted", secs(5), || (!table::served("/mnt/typed/a")).then_some(()));
    visit::serves("/mnt/typed/a");
    visit::serves("/mnt/direct/d");
    visit::refuses("/mnt/more/new", Errno::ENOENT);
    // It comes back on another port, with other keys; the daemon is not told.
    nis.set("auto.more", "/mnt/later", "auto.m");
    nis.start();
    let mut keys = (0..).map(|n| format!("/mnt/more/newer{n}"));
    wait_for("keys of the new server", secs(5), || visit::enter(keys.next()?).ok());
    wait_for("what the master map has now", secs(5), || table::autofs("/mnt/later"));
    daemon.stop();
}

#[case]
fn a_server_that_is_missing_at_the_start_brings_its_maps() {
    let Some(mut nis) = ypserv::install() else { return };
    put("/etc/nsswitch.conf", "automount: files nis\n");
    put("/etc/autofs.toml", "[deadlines]\nlookup = 2\n");
    put("/etc/auto.file", "* -fstype=tmpfs,size=64k :f&\n");
    site::master("/mnt/file /etc/auto.file\n/- nis:auto.direct\n/mnt/browse nis:auto.m browse\n+auto.more\n");
    nis.set("auto.m", "a", ENTRY);
    nis.set("auto.direct", "/mnt/direct/d", ENTRY);
    nis.set("auto.more", "/mnt/more", "auto.m");
    let daemon = Daemon::serving(&["/mnt/file"]);
    visit::serves("/mnt/file/a");
    // The pauses between attempts have no time to grow.
    std::thread::sleep(secs(7));
    nis.start();
    wait_for("all mount points", secs(5), || {
        table::autofs("/mnt/direct/d").and(table::autofs("/mnt/more")).and(table::autofs("/mnt/browse"))
    });
    wait_for("the keys", secs(5), || (visit::list("/mnt/browse") == ["a"]).then_some(()));
    visit::serves("/mnt/direct/d");
    daemon.stop();
}

#[case]
fn a_reload_without_a_change_reads_no_map_again() {
    let Some(mut nis) = ypserv::install() else { return };
    put("/etc/nsswitch.conf", "automount: files nis\n");
    site::master("/mnt/m nis:auto.m browse\n+auto.more\n");
    nis.set("auto.m", "a", ENTRY);
    nis.set("auto.more", "/mnt/more", "auto.m");
    nis.start();
    let daemon = Daemon::serving(&["/mnt/m", "/mnt/more"]);
    wait_for("the keys", secs(5), || (visit::list("/mnt/m") == ["a"]).then_some(()));
    let reload = || {
        let said = output(Command::new("autofsctl").arg("reload"), secs(20)).expect("an answer of autofsctl");
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
    };
    reload();
    let before = nis.sent();
    assert!(before > 0);
    reload();
    reload();
    assert_eq!(nis.sent(), before);
    nis.set("auto.m", "b", ENTRY);
    reload();
    wait_for("a new key", secs(5), || (visit::list("/mnt/m") == ["a", "b"]).then_some(()));
    daemon.stop();
}

#[case]
fn sources_are_probed() {
    let Some(mut nis) = ypserv::install() else { return };
    put("/etc/nsswitch.conf", "automount: files nis\n");
    site::master("/mnt/m auto_m\n+auto.more\n");
    nis.set("auto.m", "a", ENTRY);
    nis.set("auto.more", "/mnt/more", "auto.m");
    nis.start();
    let probe = || {
        let said =
            output(Command::new("autofsctl").args(["check", "--probe"]), secs(20)).expect("an answer of autofsctl");
        (said.status.code().unwrap(), String::from_utf8_lossy(&said.stdout).into_owned())
    };
    let (status, said) = probe();
    for words in ["nis:auto_m", "nis:auto.more", "domain lab, server 127.0.0.1", "master"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(status, 0, "{said}");
    nis.stop();
    let (status, said) = probe();
    assert!(said.contains("failed"), "{said}");
    assert_eq!(status, 1);
}

#[case]
fn calls_come_from_reserved_ports() {
    let Some(mut nis) = ypserv::install() else { return };
    site::master("/mnt/keys yp:auto.m\n/mnt/browse yp:auto.m browse\n");
    nis.set("auto.m", "a", ENTRY);
    nis.set("auto.m", "b", ENTRY);
    nis.secure();
    nis.start();
    let daemon = Daemon::serving(&["/mnt/keys", "/mnt/browse"]);
    visit::serves("/mnt/keys/a");
    // All entries come over TCP.
    wait_for("the keys", secs(5), || (visit::list("/mnt/browse") == ["a", "b"]).then_some(()));
    assert!(nis.sent() > 0);
    daemon.stop();
}

#[case]
fn entries_may_be_hesiod_records() {
    let Some(mut nis) = ypserv::install() else { return };
    site::master("/mnt/m yp,hesiod:auto.m\n");
    nis.set("auto.m", "a", "TMPFS a$b r /mnt/x 1");
    nis.set("auto.m", "gone", "ERR this locker is gone");
    nis.start();
    let daemon = Daemon::serving(&["/mnt/m"]);
    visit::serves("/mnt/m/a");
    visit::refuses("/mnt/m/gone", Errno::ENOENT);
    daemon.says("this locker is gone");
    daemon.stop();
}

/// With each fault of the server, lookups end at their deadline, other maps are not delayed, its earlier answers are served, no mount
/// point goes, and it is used again when it is back.
#[case]
fn a_server_in_trouble_costs_its_new_keys_only() {
    let Some(mut nis) = ypserv::install() else { return };
    put("/etc/nsswitch.conf", "automount: files nis\n");
    put("/etc/autofs.toml", "[deadlines]\nlookup = 2\n");
    put("/etc/auto.file", "* -fstype=tmpfs,size=64k :f&\n");
    site::master("/mnt/any nis:auto.any\n/mnt/file /etc/auto.file\n/- nis:auto.direct\n+auto.more\n");
    for (map, key) in
        [("auto.any", "named"), ("auto.any", "*"), ("auto.direct", "/mnt/direct/d"), ("auto.more", "/mnt/more")]
    {
        nis.set(map, key, if map == "auto.more" { "auto.any" } else { ENTRY });
    }
    nis.start();
    let points = ["/mnt/any", "/mnt/file", "/mnt/direct/d", "/mnt/more"];
    let mut daemon = Daemon::serving(&points);
    for path in ["/mnt/any/named", "/mnt/direct/d", "/mnt/more/named"] {
        visit::serves(path);
    }
    for (number, trouble) in
        [None, Some(Mode::Silent), Some(Mode::Slow(secs(5))), Some(Mode::Slow(secs(60))), Some(Mode::Garbage)]
            .into_iter()
            .enumerate()
    {
        match trouble {
            None => nis.stop(),
            Some(mode) => nis.set_mode(mode),
        }
        let visitor = std::thread::spawn(move || {
            let begun = Instant::now();
            (visit::enter(format!("/mnt/any/during{number}")), begun.elapsed())
        });
        visit::serves(format!("/mnt/file/{number}"));
        let (answer, took) = visitor.join().unwrap();
        assert_eq!(answer.unwrap_err().raw_os_error(), Some(Errno::ENOENT as i32), "{trouble:?}");
        // The deadline, and what a busy machine adds.
        assert!(took < secs(2 + 10), "{trouble:?}: {took:?}");
        daemon.signal(Signal::SIGHUP);
        daemon.signal(Signal::SIGUSR1);
        wait_for("nothing mounted", secs(10), || (!table::served("/mnt/any/named")).then_some(()));
        for path in ["/mnt/any/named", "/mnt/direct/d", "/mnt/more/named"] {
            visit::serves(path);
        }
        for point in points {
            assert!(table::autofs(point).is_some(), "{trouble:?}: {point} is gone");
        }
        match trouble {
            None => nis.start(),
            Some(_) => nis.set_mode(Mode::Answer),
        }
        let mut keys = (0..).map(|n| format!("/mnt/any/after{number}-{n}"));
        wait_for("new keys", secs(5), || visit::enter(keys.next()?).ok());
    }
    daemon.stop();
}

#[case]
fn a_lying_server_costs_its_own_keys() {
    let Some(mut nis) = ypserv::install() else { return };
    put("/etc/autofs.toml", "[deadlines]\nlookup = 2\n");
    put("/etc/auto.file", "* -fstype=tmpfs,size=64k :f&\n");
    site::master("/mnt/nis yp:auto.m\n/mnt/file /etc/auto.file\n");
    nis.set("auto.m", "a", ENTRY);
    nis.start();
    let daemon = Daemon::serving(&["/mnt/nis", "/mnt/file"]);
    visit::serves("/mnt/nis/a");
    for key in ["garbage", "cut", "status", "strays", "silent"] {
        let visitor = std::thread::spawn(move || visit::enter(format!("/mnt/nis/{key}")));
        visit::serves(format!("/mnt/file/{key}"));
        assert_eq!(visitor.join().unwrap().unwrap_err().raw_os_error(), Some(Errno::ENOENT as i32), "{key}");
    }
    nis.set("auto.m", "*", ENTRY);
    // Keys that have failed are remembered.
    let mut number = 0;
    wait_for("another key", secs(5), || {
        number += 1;
        visit::enter(format!("/mnt/nis/after{number}")).ok()
    });
    daemon.stop();
}
