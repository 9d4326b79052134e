//! Deaths of the whole daemon, or only of the worker.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::common::daemon::{Daemon, group};
use super::common::site;
use super::common::stand_in::{Rules, calls};
use super::common::suite::case;
use super::common::world::put;
use super::common::{secs, table, visit, wait_for};

fn strike(pid: i32) {
    _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

#[case(seconds: 120)]
fn all_of_it_with_50_active_mounts() {
    site::any_key_for(2);
    let daemon = Daemon::serving(&["/mnt/auto"]);
    for n in 0..50 {
        visit::serves(format!("/mnt/auto/{n}"));
        fs::write(format!("/mnt/auto/{n}/data"), n.to_string()).unwrap();
    }
    let held: Vec<_> = (0..50).map(|n| fs::File::open(format!("/mnt/auto/{n}/data")).unwrap()).collect();
    daemon.kill();
    for n in 0..50 {
        let read =
            visit::within(secs(5), "a file in a mount", move || fs::read_to_string(format!("/mnt/auto/{n}/data")));
        assert_eq!(read.unwrap(), n.to_string(), "mounts stay usable without a daemon");
    }
    let before: Vec<_> = table::below("/mnt/auto").into_iter().filter(|m| m.fstype == "tmpfs").collect();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/new");
    for mount in before {
        assert!(table::at(&mount.target).contains(&mount), "adopted, not mounted again: {mount:?}");
    }
    drop(held);
    wait_for("expiry of all", secs(30), || (table::below("/mnt/auto").len() == 1).then_some(()));
    visit::serves("/mnt/auto/7");
    daemon.stop();
    assert_eq!(table::below("/mnt/auto"), []);
}

/// Visitors that never stop; those of the moment of the crash may fail, later ones may not.
#[case(seconds: 180)]
fn all_of_it_at_random_moments() {
    site::any_key_for(600);
    site::master("/mnt/auto /etc/auto.any --timeout=600\n/- /etc/auto.direct\n");
    put("/etc/auto.direct", (0..8).map(|n| format!("/mnt/d{n} -fstype=tmpfs :d{n}\n")).collect::<String>());
    let points = ["/mnt/auto", "/mnt/d0", "/mnt/d7"];
    let mut daemon = Daemon::serving(&points);
    for n in 0..50 {
        visit::serves(format!("/mnt/auto/{n}"));
    }
    // A direct mount with a request that is open at the crash serves when that process has ended; the visitors do not
    // end. That is tested in survive::pending.
    for n in 0..8 {
        visit::serves(format!("/mnt/d{n}"));
    }
    let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(100)));
    for _ in 0..4 {
        let (stop, next) = (Arc::clone(&stop), Arc::clone(&next));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let n = next.fetch_add(1, Ordering::Relaxed);
                _ = visit::enter_now(Path::new(&format!("/mnt/auto/{n}")));
                _ = visit::enter_now(Path::new(&format!("/mnt/d{}", n % 8)));
                std::thread::sleep(Duration::from_millis(3));
            }
        });
    }
    for round in 0..10_u64 {
        // Spread over the time that a start and some requests take.
        std::thread::sleep(Duration::from_millis(7 + round * 37 % 190));
        daemon.kill();
        for n in 0..50 {
            assert!(table::served(format!("/mnt/auto/{n}")));
        }
        daemon = Daemon::serving(&points);
        for n in 0..3 {
            visit::serves(format!("/mnt/auto/round{round}-{n}"));
        }
        for n in 0..8 {
            visit::serves(format!("/mnt/d{n}"));
        }
    }
    stop.store(true, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(100));
    daemon.stop();
    assert_eq!(table::below("/mnt"), [table::at("/mnt").remove(0)]);
}

#[case]
fn all_of_it_with_a_tree() {
    site::one_map("m / -fstype=tmpfs :r /s -fstype=tmpfs :s /s/t -fstype=tmpfs :t /u -fstype=tmpfs :u\n");
    site::master("/mnt/auto /etc/auto.one --timeout=2\n/- /etc/auto.direct --timeout=2\n");
    put("/etc/auto.direct", "/mnt/d1 / -fstype=tmpfs :one /sub -fstype=tmpfs :sub\n");
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/d1"]);
    visit::serves("/mnt/auto/m/s/t");
    visit::serves("/mnt/d1/sub");
    daemon.kill();
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/d1"]);
    visit::serves("/mnt/auto/m/u");
    visit::serves("/mnt/auto/m/s/t");
    visit::serves("/mnt/d1/sub");
    wait_for("expiry of the trees", secs(30), || {
        (table::below("/mnt/auto").len() == 1 && table::below("/mnt/d1").len() == 1).then_some(())
    });
    visit::serves("/mnt/auto/m/s/t");
    daemon.stop();
    assert_eq!(table::below("/mnt/auto"), []);
}

#[case]
fn the_worker_with_requests_in_flight() {
    site::one_map("* -fstype=slow :slow\n");
    Rules { delay: vec![("slow".into(), 1000)], ..Rules::default() }.set();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let worker = daemon.worker();
    let mut visitors: Vec<_> = (0..8).map(|n| visit::process(format!("/mnt/auto/{n}"), 0)).collect();
    wait_for("mounts on their way", secs(10), || (calls().len() == 8).then_some(()));
    strike(worker);
    for (n, visitor) in visitors.iter_mut().enumerate() {
        let status = wait_for("an answer", secs(20), || visitor.try_wait().unwrap());
        assert!(status.success(), "no process may notice: {n} got {status}");
        assert_eq!(table::at(format!("/mnt/auto/{n}")).len(), 1, "mounted once");
    }
    assert_ne!(daemon.worker(), worker);
    daemon.stop();
    assert_eq!(table::below("/mnt/auto"), []);
}

#[case(seconds: 120)]
fn the_worker_again_and_again_under_load() {
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let failures = Arc::new(Mutex::new(Vec::new()));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (stop, next, failures) = (Arc::clone(&stop), Arc::clone(&next), Arc::clone(&failures));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let path = format!("/mnt/auto/{n}");
                    let answer = visit::enter_now(Path::new(&path));
                    if answer.is_err() || !table::served(&path) {
                        failures.lock().unwrap().push((path, answer));
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
            })
        })
        .collect();
    for round in 0..20_u64 {
        // A request that several workers in a row do not survive is taken for what kills them.
        visit::serves(format!("/mnt/auto/round{round}"));
        std::thread::sleep(Duration::from_millis(round * 53 % 150));
        strike(daemon.worker());
    }
    std::thread::sleep(secs(1));
    stop.store(true, Ordering::Relaxed);
    visit::within(secs(20), "all visitors", move || threads.into_iter().for_each(|t| t.join().unwrap()));
    let tried = next.load(Ordering::Relaxed);
    let failures = failures.lock().unwrap();
    assert!(failures.is_empty(), "of {tried} failed: {failures:?}");
    assert!(tried > 100, "only {tried} accesses in all that time");
    visit::serves("/mnt/auto/after");
    daemon.stop();
    assert_eq!(table::below("/mnt/auto"), []);
}

#[case]
fn the_worker_between_mount_and_answer() {
    site::one_map("* -fstype=slow :slow\n");
    Rules { delay: vec![("slow".into(), 300)], ..Rules::default() }.set();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    for n in 0..10 {
        let path = format!("/mnt/auto/{n}");
        let mut visitor = visit::process(&path, 0);
        let end = Instant::now() + secs(10);
        while !table::served(&path) && Instant::now() < end {}
        strike(daemon.worker());
        let status = wait_for("an answer", secs(20), || visitor.try_wait().unwrap());
        assert!(status.success(), "{status}");
        assert_eq!(table::at(&path).len(), 1, "mounted once");
    }
    daemon.stop();
}

#[case(seconds: 120)]
fn the_worker_while_it_expires() {
    site::any_key();
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    for round in 0..5_u64 {
        for n in 0..100 {
            visit::enter(format!("/mnt/auto/{n}")).unwrap();
        }
        daemon.signal(Signal::SIGUSR1);
        std::thread::sleep(Duration::from_millis(30 + round * 40));
        strike(daemon.worker());
        for n in (0..100).step_by(7) {
            visit::serves(format!("/mnt/auto/{n}"));
        }
    }
    wait_for("everything to go after all", secs(30), || {
        daemon.signal(Signal::SIGUSR1);
        std::thread::sleep(Duration::from_millis(300));
        (table::below("/mnt/auto").len() == 1).then_some(())
    });
    daemon.stop();
}

#[case]
fn the_worker_is_worth_nothing_without_the_keeper() {
    site::any_key();
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    let keeper = daemon.pid();
    daemon.worker();
    daemon.signal(Signal::SIGKILL);
    daemon.end(secs(5));
    wait_for("the worker's end", secs(5), || group(keeper).is_empty().then_some(()));
}

/// Killed as fast as it can be started: the keeper neither gives up nor spins.
#[case]
fn a_worker_that_dies_at_once() {
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    for _ in 0..10 {
        strike(daemon.worker());
    }
    wait_for("service again", secs(30), || visit::enter("/mnt/auto/a").ok());
    daemon.stop();
}

/// What is in use stays over an orderly restart, and all of its triggers work again after.
#[case]
fn a_busy_tree_over_a_restart() {
    site::one_map(
        "m / -fstype=tmpfs :r /s -fstype=tmpfs :s /s/t -fstype=tmpfs :t /u -fstype=tmpfs :u\nb -fstype=tmpfs :b\n",
    );
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/m/s");
    let held = fs::File::create("/mnt/auto/m/file").unwrap();
    daemon.stop();
    assert!(table::served("/mnt/auto/m"));
    let daemon = Daemon::serving(&["/mnt/auto"]);
    assert!(Path::new("/mnt/auto/m/file").exists());
    visit::serves("/mnt/auto/b");
    visit::serves("/mnt/auto/m/u");
    visit::serves("/mnt/auto/m/s/t");
    drop(held);
    daemon.stop();
    assert_eq!(table::below("/mnt/auto"), []);
}

#[case]
fn adopted_trees_expire() {
    site::one_map("sub -fstype=autofs file:/etc/auto.sub\nb -fstype=tmpfs :b\n");
    site::master("/mnt/auto /etc/auto.one browse --timeout=1\n");
    put("/etc/auto.sub", "k -fstype=tmpfs :k\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/sub/k");
    visit::serves("/mnt/auto/b");
    daemon.kill();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    wait_for("expiry", secs(20), || (table::below("/mnt/auto").len() == 1).then_some(()));
    visit::serves("/mnt/auto/sub/k");
    daemon.stop();
    assert_eq!(table::below("/mnt/auto"), []);
}

#[case]
fn a_key_that_is_gone_stays_until_it_is_unused() {
    site::one_map("a -fstype=tmpfs :a\nb -fstype=tmpfs :b\n");
    site::master("/mnt/auto /etc/auto.one --timeout=1\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    let held = fs::File::create("/mnt/auto/a/file").unwrap();
    daemon.kill();
    put("/etc/auto.one", "b -fstype=tmpfs :b\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/b");
    assert!(table::served("/mnt/auto/a"));
    drop(held);
    wait_for("expiry", secs(15), || (table::below("/mnt/auto").len() == 1).then_some(()));
    daemon.stop();
}

/// If the maps cannot be read, the previous ones stay in use, also for the next worker.
#[case]
fn the_worker_while_a_map_is_away() {
    site::any_key();
    site::master("/mnt/auto /etc/auto.any\n/mnt/away /etc/auto.away\n");
    put("/etc/auto.away", "* -fstype=tmpfs :k&\n");
    let mut daemon = Daemon::serving(&["/mnt/auto", "/mnt/away"]);
    visit::serves("/mnt/away/a");
    fs::rename("/etc/auto.away", "/etc/auto.hidden").unwrap();
    strike(daemon.worker());
    visit::serves("/mnt/auto/a");
    _ = visit::enter("/mnt/away/b");
    assert!(table::served("/mnt/away/a"));
    fs::rename("/etc/auto.hidden", "/etc/auto.away").unwrap();
    daemon.signal(Signal::SIGHUP);
    wait_for("service from the map that is back", secs(15), || visit::enter("/mnt/away/c").ok());
    daemon.stop();
    assert_eq!(table::below("/mnt/away"), []);
}

/// mount(8) starts mount.TYPE: killing the one does not end the other.
#[case]
fn the_worker_with_a_helper_that_has_children() {
    put("/sbin/mount.family", "#!/bin/sh\necho >>/world/family\n(sleep 2; exec mount -t tmpfs \"$1\" \"$2\")\n");
    site::one_map("* -fstype=family :slow\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let mut visitor = visit::process("/mnt/auto/a", 0);
    wait_for("the mount on its way", secs(5), || fs::read("/world/family").ok());
    std::thread::sleep(Duration::from_millis(300));
    strike(daemon.worker());
    let status = wait_for("an answer", secs(20), || visitor.try_wait().unwrap());
    assert!(status.success(), "{status}");
    std::thread::sleep(secs(3));
    assert_eq!(table::at("/mnt/auto/a").len(), 1, "mounted once");
    daemon.stop();
    assert_eq!(table::below("/mnt/auto"), []);
}

/// The keeper holds a descriptor for each pipe: the soft limit of a login shell is not enough.
#[case(seconds: 120)]
fn the_worker_with_more_mounts_than_descriptors() {
    put("/etc/auto.any", "* -fstype=tmpfs,size=64k :k&\n");
    site::master(&(0..300).map(|n| format!("/mnt/p/{n} /etc/auto.any\n")).collect::<String>());
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -Sn 256; exec automount -f"]);
    let mut daemon = Daemon::spawn(command);
    daemon.ready(&["/mnt/p/0", "/mnt/p/299"]);
    wait_for("all mount points", secs(20), || (table::below("/mnt/p").len() == 300).then_some(()));
    strike(daemon.worker());
    for n in [0, 1, 150, 254, 255, 256, 270, 299] {
        visit::serves(format!("/mnt/p/{n}/a"));
    }
    daemon.stop();
    assert_eq!(table::below("/mnt/p"), []);
}
