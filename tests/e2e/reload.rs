//! Reloads: a new configuration takes effect completely; a broken one changes nothing.

use std::fs;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::common::daemon::Daemon;
use super::common::site;
use super::common::suite::case;
use super::common::world::put;
use super::common::{secs, table, visit, wait_for};

fn hup(daemon: &mut Daemon) {
    daemon.signal(Signal::SIGHUP);
}

#[case]
fn an_unreadable_master_changes_nothing() {
    site::any_key();
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    fs::remove_file("/etc/auto.master").unwrap();
    fs::create_dir("/etc/auto.master").unwrap();
    hup(&mut daemon);
    std::thread::sleep(secs(1));
    visit::serves("/mnt/auto/b");
    assert!(table::served("/mnt/auto/a"));
    fs::remove_dir("/etc/auto.master").unwrap();
    site::master("/mnt/auto /etc/auto.any\n/mnt/more /etc/auto.any\n");
    hup(&mut daemon);
    daemon.ready(&["/mnt/more"]);
    daemon.stop();
}

#[case]
fn a_master_map_lost_in_a_crash_changes_nothing() {
    site::any_key();
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    for (lost, says) in [("\0\0\0\0", "has only NUL bytes"), ("", "the master map is empty")] {
        site::master(lost);
        hup(&mut daemon);
        daemon.says(says);
        daemon.says("stays in force");
        visit::serves("/mnt/auto/b");
    }
    site::master("/mnt/auto /etc/auto.any\n/mnt/more /etc/auto.any\n");
    hup(&mut daemon);
    daemon.ready(&["/mnt/more"]);
    daemon.stop();
}

#[case]
fn a_broken_line_costs_only_itself() {
    site::any_key();
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    site::master("/mnt/auto /etc/auto.any\nnonsense\n/mnt/more /etc/auto.any\n");
    hup(&mut daemon);
    daemon.ready(&["/mnt/more"]);
    daemon.says("/etc/auto.master:2:");
    visit::serves("/mnt/auto/b");
    assert!(table::served("/mnt/auto/a"));
    daemon.stop();
}

#[case]
fn a_busy_tree_goes_when_it_is_free() {
    site::any_key();
    site::master("/mnt/auto /etc/auto.any\n/mnt/old /etc/auto.any --timeout=1\n");
    let mut daemon = Daemon::serving(&["/mnt/auto", "/mnt/old"]);
    visit::serves("/mnt/old/a");
    let held = fs::File::create("/mnt/old/a/file").unwrap();
    site::master("/mnt/auto /etc/auto.any\n");
    hup(&mut daemon);
    std::thread::sleep(secs(3));
    assert!(table::served("/mnt/old/a"), "it is in use");
    drop(held);
    wait_for("the end of /mnt/old", secs(30), || table::below("/mnt/old").is_empty().then_some(()));
    visit::serves("/mnt/auto/a");
    daemon.stop();
}

#[case]
fn a_busy_tree_that_comes_back() {
    site::any_key();
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    let held = fs::File::create("/mnt/auto/a/file").unwrap();
    site::master("");
    hup(&mut daemon);
    std::thread::sleep(secs(1));
    assert!(table::served("/mnt/auto/a"));
    site::master("/mnt/auto /etc/auto.any\n");
    hup(&mut daemon);
    wait_for("service", secs(10), || visit::enter("/mnt/auto/b").ok());
    visit::serves("/mnt/auto/c");
    assert!(table::served("/mnt/auto/a"));
    drop(held);
    daemon.stop();
    assert_eq!(table::below("/mnt/auto"), []);
}

#[case]
fn a_path_becomes_its_own_parent() {
    site::any_key();
    site::master("/mnt/A/b /etc/auto.any\n");
    let mut daemon = Daemon::serving(&["/mnt/A/b"]);
    visit::serves("/mnt/A/b/x");
    site::master("/mnt/A /etc/auto.any\n");
    hup(&mut daemon);
    daemon.ready(&["/mnt/A"]);
    visit::serves("/mnt/A/x");
    visit::serves("/mnt/A/b");
    daemon.stop();
    assert_eq!(table::below("/mnt/A"), []);
}

#[case]
fn a_parent_becomes_its_own_child() {
    site::any_key();
    site::master("/mnt/A /etc/auto.any\n");
    let mut daemon = Daemon::serving(&["/mnt/A"]);
    visit::serves("/mnt/A/b");
    site::master("/mnt/A/b /etc/auto.any\n");
    hup(&mut daemon);
    daemon.ready(&["/mnt/A/b"]);
    visit::serves("/mnt/A/b/x");
    assert!(table::autofs("/mnt/A").is_none());
    daemon.stop();
    assert_eq!(table::below("/mnt/A"), []);
}

#[case]
fn direct_keys_come_and_go() {
    site::master("/- /etc/auto.direct\n");
    put("/etc/auto.direct", "/mnt/d1 -fstype=tmpfs :1\n/mnt/d2 -fstype=tmpfs :2\n/mnt/d3 -fstype=tmpfs :3\n");
    let mut daemon = Daemon::serving(&["/mnt/d1", "/mnt/d2", "/mnt/d3"]);
    visit::serves("/mnt/d1");
    let held = fs::File::create("/mnt/d1/file").unwrap();
    put("/etc/auto.direct", "/mnt/d2 -fstype=tmpfs :2b\n/mnt/d4 -fstype=tmpfs :4\n");
    hup(&mut daemon);
    daemon.ready(&["/mnt/d4"]);
    wait_for("the end of /mnt/d3", secs(10), || table::at("/mnt/d3").is_empty().then_some(()));
    assert!(table::served("/mnt/d1"), "it is in use");
    visit::serves("/mnt/d2");
    assert_eq!(table::at("/mnt/d2").pop().unwrap().source, "2b");
    visit::serves("/mnt/d4");
    drop(held);
    hup(&mut daemon);
    wait_for("the end of /mnt/d1", secs(30), || table::at("/mnt/d1").is_empty().then_some(()));
    daemon.stop();
}

#[case]
fn a_map_is_exchanged() {
    site::one_map("a -fstype=tmpfs :one\n");
    put("/etc/auto.two", "b -fstype=tmpfs :two\n");
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    site::master("/mnt/auto /etc/auto.two\n");
    hup(&mut daemon);
    wait_for("the new map", secs(10), || visit::enter("/mnt/auto/b").ok());
    assert!(table::served("/mnt/auto/a"), "what is mounted stays");
    nix::mount::umount2("/mnt/auto/a", nix::mount::MntFlags::empty()).unwrap();
    visit::refuses("/mnt/auto/a", Errno::ENOENT);
    daemon.stop();
}

#[case]
fn indirect_becomes_direct() {
    site::one_map("a -fstype=tmpfs :one\n");
    put("/etc/auto.direct", "/mnt/auto -fstype=tmpfs :direct\n");
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    site::master("/- /etc/auto.direct\n");
    hup(&mut daemon);
    wait_for("a direct mount", secs(15), || table::autofs("/mnt/auto").filter(|m| m.options.contains(",direct,")));
    visit::serves("/mnt/auto");
    daemon.stop();
    assert_eq!(table::below("/mnt/auto"), []);
}

#[case]
fn the_configuration_file_is_read_again() {
    site::any_key();
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    put("/etc/autofs.conf", "[ autofs ]\ntimeout = 123\n");
    hup(&mut daemon);
    wait_for("the new timeout", secs(10), || {
        (table::autofs("/mnt/auto")?.option("timeout") == Some("123")).then_some(())
    });
    daemon.stop();
}

#[case]
fn without_change_nothing_is_touched() {
    site::any_key();
    site::master("/mnt/auto /etc/auto.any\n/- /etc/auto.direct\n");
    put("/etc/auto.direct", "/mnt/d1 -fstype=tmpfs :1\n");
    let mut daemon = Daemon::serving(&["/mnt/auto", "/mnt/d1"]);
    visit::serves("/mnt/auto/a");
    visit::serves("/mnt/d1");
    let before = table::below("/mnt");
    for _ in 0..5 {
        hup(&mut daemon);
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert_eq!(table::below("/mnt"), before);
    visit::serves("/mnt/auto/b");
    daemon.stop();
}

#[case]
fn many_in_a_row() {
    site::any_key();
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    for n in 0..100 {
        site::master(&format!("/mnt/auto /etc/auto.any\n/mnt/n{n} /etc/auto.any\n"));
        hup(&mut daemon);
        if n % 10 == 0 {
            visit::serves(format!("/mnt/auto/{n}"));
        }
    }
    wait_for("the last one", secs(15), || {
        let autofs: Vec<_> = table::below("/mnt").into_iter().filter(|m| m.fstype == "autofs").collect();
        (autofs.len() == 2 && table::autofs("/mnt/n99").is_some()).then_some(())
    });
    daemon.stop();
}

/// The last direct mount takes the pipe's last writer with it.
#[case]
fn an_emptied_direct_map_comes_back() {
    site::any_key();
    site::master("/mnt/auto /etc/auto.any\n/- /etc/auto.direct\n");
    put("/etc/auto.direct", "/mnt/d1 -fstype=tmpfs :1\n");
    let mut daemon = Daemon::serving(&["/mnt/auto", "/mnt/d1"]);
    for _ in 0..3 {
        put("/etc/auto.direct", "");
        hup(&mut daemon);
        wait_for("the end of /mnt/d1", secs(10), || table::at("/mnt/d1").is_empty().then_some(()));
        put("/etc/auto.direct", "/mnt/d1 -fstype=tmpfs :1\n");
        hup(&mut daemon);
        daemon.ready(&["/mnt/d1"]);
        visit::serves("/mnt/d1");
        nix::mount::umount2("/mnt/d1", nix::mount::MntFlags::empty()).unwrap();
        visit::serves("/mnt/auto/a");
    }
    daemon.stop();
}

/// The administrator mends the map and reloads; the master map is as it was.
#[case]
fn a_map_that_was_missing_at_the_start() {
    site::any_key();
    site::master("/mnt/auto /etc/auto.any\n/mnt/late /etc/auto.late\n");
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    assert!(table::autofs("/mnt/late").is_none());
    put("/etc/auto.late", "* -fstype=tmpfs :k&\n");
    hup(&mut daemon);
    daemon.ready(&["/mnt/late"]);
    visit::serves("/mnt/late/a");
    daemon.stop();
}

/// A direct key behind a symbolic link comes and goes by itself, and is served at its real path.
#[case]
fn a_key_behind_a_link() {
    fs::create_dir_all("/mnt/real").unwrap();
    std::os::unix::fs::symlink("real", "/mnt/link").unwrap();
    let map = |keys: &[&str]| {
        let line = |key: &&str| format!("/mnt/link/{key} -fstype=tmpfs :t\n");
        put("/etc/auto.direct", keys.iter().map(line).collect::<String>());
    };
    map(&["one"]);
    site::master("/- /etc/auto.direct\n");
    let mut daemon = Daemon::serving(&["/mnt/real/one"]);
    visit::enter("/mnt/link/one").unwrap();
    let one = table::served("/mnt/real/one");
    for _ in 0..2 {
        map(&["one", "two"]);
        hup(&mut daemon);
        daemon.ready(&["/mnt/real/two"]);
        visit::enter("/mnt/link/two").unwrap();
        assert!(table::served("/mnt/real/two"));
        map(&["one"]);
        hup(&mut daemon);
        wait_for("the removed key to go", secs(20), || table::at("/mnt/real/two").is_empty().then_some(()));
    }
    assert!(one && table::served("/mnt/real/one"), "the other key is as it was");
    daemon.stop();
}
