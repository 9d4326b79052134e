//! Unused mounts expire.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use autofs::cli::ctl::client::ask;
use autofs::control::{Answer, Bytes, Call, Expire, Expired, SOCKET};
use nix::sys::signal::Signal;

use super::common::daemon::Daemon;
use super::common::site;
use super::common::stand_in::calls;
use super::common::suite::case;
use super::common::world::put;
use super::common::{secs, table, visit, wait_for};

fn gone(path: &str, deadline: u64) {
    wait_for(&format!("expiry of {path}"), secs(deadline), || (!table::served(path)).then_some(()));
}

#[case]
fn after_the_timeout() {
    site::any_key_for(1);
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let start = Instant::now();
    visit::serves("/mnt/auto/a");
    gone("/mnt/auto/a", 10);
    assert!(start.elapsed() >= Duration::from_millis(900), "too early: {:?}", start.elapsed());
    wait_for("the directory's end", secs(2), || visit::list("/mnt/auto").is_empty().then_some(()));
    visit::serves("/mnt/auto/a");
    daemon.stop();
}

#[case]
fn not_while_in_use() {
    site::any_key_for(1);
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    let held = fs::File::create("/mnt/auto/a/file").unwrap();
    std::thread::sleep(secs(5));
    assert!(table::served("/mnt/auto/a"));
    drop(held);
    gone("/mnt/auto/a", 10);
    daemon.stop();
}

#[case]
fn not_when_disabled() {
    site::any_key_for(0);
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    std::thread::sleep(secs(4));
    assert!(table::served("/mnt/auto/a"));
    daemon.signal(Signal::SIGUSR1);
    gone("/mnt/auto/a", 5);
    daemon.stop();
}

#[case]
fn use_puts_it_off() {
    // More than a busy machine may keep this process from running.
    site::any_key_for(5);
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    fs::write("/mnt/auto/a/here", "").unwrap();
    for _ in 0..30 {
        std::thread::sleep(Duration::from_millis(300));
        assert!(Path::new("/mnt/auto/a/here").exists(), "it went although it was used");
    }
    gone("/mnt/auto/a", 10);
    daemon.stop();
}

#[case]
fn direct() {
    site::master("/- /etc/auto.direct --timeout=1\n");
    put("/etc/auto.direct", "/mnt/d1 -fstype=tmpfs :one\n/mnt/d2 -fstype=tmpfs :two\n");
    let daemon = Daemon::serving(&["/mnt/d1", "/mnt/d2"]);
    for _ in 0..2 {
        visit::serves("/mnt/d1");
        visit::serves("/mnt/d2");
        gone("/mnt/d1", 10);
        gone("/mnt/d2", 10);
        assert!(table::autofs("/mnt/d1").is_some(), "the trigger stays");
    }
    daemon.stop();
}

const TREE: &str = "m / -fstype=nfs srv1:/r /s -fstype=nfs srv1:/s /s/t -fstype=nfs srv1:/t\n";

#[case]
fn a_tree_from_its_leaves() {
    site::master("/mnt/auto /etc/auto.one --timeout=1\n");
    put("/etc/auto.one", TREE);
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/m/s/t");
    assert_eq!(calls().len(), 3);
    gone("/mnt/auto/m/s/t", 15);
    gone("/mnt/auto/m/s", 15);
    gone("/mnt/auto/m", 15);
    wait_for("all triggers gone", secs(5), || (table::below("/mnt/auto").len() == 1).then_some(()));
    visit::serves("/mnt/auto/m/s");
    daemon.stop();
    assert_eq!(table::below("/mnt/auto"), []);
}

#[case]
fn a_tree_with_a_busy_leaf() {
    site::master("/mnt/auto /etc/auto.one --timeout=1\n");
    put("/etc/auto.one", TREE);
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/m/s/t");
    let held = fs::File::open("/mnt/auto/m/s").unwrap();
    gone("/mnt/auto/m/s/t", 15);
    std::thread::sleep(secs(4));
    assert!(table::served("/mnt/auto/m/s") && table::served("/mnt/auto/m"));
    visit::serves("/mnt/auto/m/s/t");
    drop(held);
    wait_for("the tree's end", secs(20), || (table::below("/mnt/auto").len() == 1).then_some(()));
    daemon.stop();
}

#[case]
fn a_submount() {
    site::master("/mnt/auto /etc/auto.one --timeout=1\n");
    put("/etc/auto.one", "sub -fstype=autofs file:/etc/auto.sub\n");
    put("/etc/auto.sub", "k -fstype=tmpfs :k\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    for _ in 0..2 {
        visit::serves("/mnt/auto/sub/k");
        wait_for("the submount's end", secs(20), || (table::below("/mnt/auto").len() == 1).then_some(()));
    }
    daemon.stop();
}

#[case]
fn a_symlink() {
    site::master("/mnt/auto /etc/auto.one symlink --timeout=1\n");
    put("/etc/auto.one", "a :/opt\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::enter("/mnt/auto/a").unwrap();
    wait_for("the link's end", secs(15), || visit::list("/mnt/auto").is_empty().then_some(()));
    visit::enter("/mnt/auto/a").unwrap();
    daemon.stop();
}

/// `autofsctl expire PATH` unmounts only this entry, if it is unused; for a mount point, all unused entries.
#[case]
fn one_entry_on_demand() {
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let expire = |path: &[u8]| {
        let path = Some(Bytes(path.to_vec()));
        match ask(Path::new(SOCKET), Call::Expire(Expire { path, dry_run: false }), secs(20)) {
            Ok(Answer::Expired(expired)) => expired,
            other => panic!("{other:?}"),
        }
    };
    let unmounted = |path: &[u8]| Expired { unmounted: vec![Bytes(path.to_vec())], in_use: Vec::new() };
    ["a", "b", "c"].iter().for_each(|key| visit::serves(format!("/mnt/auto/{key}")));
    let held = fs::File::create("/mnt/auto/c/file").unwrap();
    let busy = expire(b"/mnt/auto/c/sub").in_use;
    assert!(busy.len() == 1 && busy[0].path.0 == b"/mnt/auto/c", "{busy:?}");
    assert!(busy[0].reason.as_ref().is_some_and(|why| why.contains("busy")), "{busy:?}");
    assert_eq!(expire(b"/mnt/auto/none"), Expired::default());
    assert_eq!(expire(b"/mnt/auto/a/sub"), unmounted(b"/mnt/auto/a"));
    assert!(!table::served("/mnt/auto/a"), "the answer comes after the unmount");
    assert!(table::served("/mnt/auto/b") && table::served("/mnt/auto/c"));
    assert_eq!(expire(b"/mnt/auto").unmounted, unmounted(b"/mnt/auto/b").unmounted);
    gone("/mnt/auto/b", 5);
    assert!(table::served("/mnt/auto/c"));
    drop(held);
    assert_eq!(expire(b"/mnt/auto/c"), unmounted(b"/mnt/auto/c"));
    assert!(!table::served("/mnt/auto/c"));
    visit::serves("/mnt/auto/a");
    daemon.stop();
}

#[case]
fn many_at_once() {
    site::any_key_for(1);
    let daemon = Daemon::serving(&["/mnt/auto"]);
    for n in 0..300 {
        visit::enter(format!("/mnt/auto/{n}")).unwrap();
    }
    wait_for("expiry of all", secs(30), || (table::below("/mnt/auto").len() == 1).then_some(()));
    wait_for("the end of all directories", secs(2), || visit::list("/mnt/auto").is_empty().then_some(()));
    daemon.stop();
}

#[case]
fn served_while_expiring() {
    site::any_key();
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    for n in 0..200 {
        visit::enter(format!("/mnt/auto/{n}")).unwrap();
    }
    daemon.signal(Signal::SIGUSR1);
    for n in 0..50 {
        // New ones, which may go again at once, and those that may be going at this very moment.
        visit::enter(format!("/mnt/auto/new{n}")).unwrap();
        visit::enter(format!("/mnt/auto/{}", n * 4)).unwrap();
    }
    daemon.stop();
    assert_eq!(table::below("/mnt/auto"), []);
}

/// A mount made by another program inside an entry keeps the entry mounted, and is not unmounted.
#[case]
fn a_helper_unmounts_nothing_but_its_own() {
    site::any_key_for(1);
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    fs::create_dir("/mnt/auto/a/mine").unwrap();
    let none: Option<&str> = None;
    nix::mount::mount(Some("mine"), "/mnt/auto/a/mine", Some("tmpfs"), nix::mount::MsFlags::empty(), none).unwrap();
    let held = fs::File::create("/mnt/auto/a/mine/file").unwrap();
    std::thread::sleep(secs(5));
    assert!(table::served("/mnt/auto/a/mine"));
    drop(held);
    daemon.stop();
}
