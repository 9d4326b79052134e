//! Many at once, for a long time, or nothing at all.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::common::daemon::{Daemon, group};
use super::common::site;
use super::common::stand_in::{Rules, calls};
use super::common::suite::case;
use super::common::world::put;
use super::common::{secs, table, visit, wait_for};

/// Runs `visit` for `0..count` in so many threads.
fn in_threads(threads: u32, count: u32, visit: impl Fn(u32) + Send + Sync + 'static) {
    let (next, visit) = (Arc::new(AtomicU32::new(0)), Arc::new(visit));
    let threads: Vec<_> = (0..threads)
        .map(|_| {
            let (next, visit) = (Arc::clone(&next), Arc::clone(&visit));
            std::thread::spawn(move || {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        break;
                    }
                    visit(n);
                }
            })
        })
        .collect();
    visit::within(secs(60), "all of them", move || threads.into_iter().for_each(|t| t.join().unwrap()));
}

#[case(seconds: 120)]
fn a_thousand_keys_by_64_threads() {
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    in_threads(64, 1000, |n| visit::enter_now(Path::new(&format!("/mnt/auto/{n}"))).unwrap());
    let mounts = table::below("/mnt/auto");
    assert_eq!(mounts.len(), 1001);
    daemon.stop();
    assert_eq!(table::below("/mnt/auto"), []);
}

#[case]
fn one_key_by_64_threads() {
    site::one_map("a -fstype=slow :slow\n");
    Rules { delay: vec![("slow".into(), 300)], ..Rules::default() }.set();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    in_threads(64, 64, |_| visit::enter_now(Path::new("/mnt/auto/a")).unwrap());
    assert_eq!(calls().len(), 1);
    daemon.stop();
}

#[case(seconds: 120)]
fn storm_of_missing_keys() {
    site::one_map("a -fstype=tmpfs :a\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    in_threads(64, 20_000, |n| {
        let error = visit::enter_now(Path::new(&format!("/mnt/auto/no{n}"))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::ENOENT as i32));
    });
    visit::serves("/mnt/auto/a");
    assert_eq!(visit::list("/mnt/auto"), ["a"]);
    daemon.stop();
}

#[case]
fn killed_waiters() {
    site::one_map("* -fstype=slow :slow\nquick -fstype=tmpfs :q\n");
    Rules { delay: vec![("slow".into(), 1500)], ..Rules::default() }.set();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let mut visitors: Vec<_> = (0..30).map(|n| visit::process(format!("/mnt/auto/{}", n % 10), 0)).collect();
    std::thread::sleep(Duration::from_millis(500));
    for visitor in &mut visitors {
        visitor.kill().unwrap();
        wait_for("its death", secs(5), || visitor.try_wait().unwrap());
    }
    visit::serves("/mnt/auto/quick");
    for n in 0..10 {
        visit::serves(format!("/mnt/auto/{n}"));
    }
    daemon.stop();
    assert_eq!(table::below("/mnt/auto"), []);
}

/// Open files and resident kilobytes of all processes of the daemon.
fn held(daemon: &Daemon) -> (usize, u64) {
    let (mut fds, mut memory) = (0, 0);
    for process in group(daemon.pid()) {
        fds += fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).unwrap();
        memory += line.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
    }
    (fds, memory)
}

#[case(seconds: 300)]
fn two_thousand_mounts_leave_nothing_behind() {
    site::any_key();
    // Not verbose: the log file is not what is measured.
    let mut daemon = Daemon::start(["-f"]);
    daemon.ready(&["/mnt/auto"]);
    let round = |daemon: &mut Daemon, keys: std::ops::Range<u32>| {
        for n in keys {
            visit::enter(format!("/mnt/auto/{n}")).unwrap();
        }
        daemon.signal(Signal::SIGUSR1);
        wait_for("expiry", secs(60), || (table::below("/mnt/auto").len() == 1).then_some(()));
    };
    for n in 0..4 {
        round(&mut daemon, n * 250..(n + 1) * 250);
    }
    std::thread::sleep(secs(1));
    let before = held(&daemon);
    // Keys that were never seen before.
    for n in 4..12 {
        round(&mut daemon, n * 250..(n + 1) * 250);
    }
    std::thread::sleep(secs(1));
    let after = held(&daemon);
    assert!(after.0 <= before.0, "open files: from {} to {}", before.0, after.0);
    assert!(after.1 < before.1 + 1024, "memory grew from {} to {} kB", before.1, after.1);
    daemon.stop();
}

/// Context switches of each thread of the daemon, by process and name.
fn switches(daemon: &Daemon) -> BTreeMap<(i32, String), u64> {
    let mut all = BTreeMap::new();
    for process in group(daemon.pid()) {
        for task in fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten() {
            let status = fs::read_to_string(task.path().join("status")).unwrap();
            let counts = status.lines().filter(|l| l.contains("ctxt_switches"));
            let name = fs::read_to_string(task.path().join("comm")).unwrap().trim().to_owned();
            *all.entry((process, name)).or_default() +=
                counts.map(|l| l.split_whitespace().last().unwrap().parse::<u64>().unwrap()).sum::<u64>();
        }
    }
    all
}

#[case]
fn idle_means_idle() {
    site::any_key_for(4);
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    // The start is over: the keeper has looked at the worker once, the interface has its addresses, and the threads that the
    // start needed have ended.
    std::thread::sleep(secs(13));
    let before = switches(&daemon);
    std::thread::sleep(secs(5));
    assert_eq!(switches(&daemon), before, "nothing was ever mounted");
    // And again after something was.
    visit::serves("/mnt/auto/a");
    daemon.signal(Signal::SIGUSR1);
    wait_for("expiry", secs(10), || (table::below("/mnt/auto").len() == 1).then_some(()));
    // Threads that were needed for it may take their time to end.
    std::thread::sleep(secs(12));
    let before = switches(&daemon);
    std::thread::sleep(secs(5));
    assert_eq!(switches(&daemon), before, "nothing is mounted");
    daemon.stop();
}

/// Directories with a hundred direct mounts each come and go while other threads walk to those beside them.
#[case(seconds: 120)]
fn ten_thousand_direct_mounts() {
    let path = |n: u32| format!("/mnt/d/{}/{n}", n / 100);
    site::master("/- /etc/auto.direct\n");
    put(
        "/etc/auto.direct",
        (0..10_000).map(|n| format!("{} -fstype=tmpfs,size=64k :d{n}\n", path(n))).collect::<String>(),
    );
    for _ in 0..2 {
        let mut daemon = Daemon::start(["-f"]);
        wait_for("all of them", secs(30), || (table::below("/mnt/d").len() == 10_000).then_some(()));
        daemon.ready(&["/mnt/d/99/9999"]);
        in_threads(16, 200, move |n| visit::enter_now(Path::new(&path(n * 5))).unwrap());
        assert_eq!(table::below("/mnt/d").len(), 10_200);
        daemon.stop();
        assert_eq!(table::below("/mnt/d"), []);
    }
}

#[case(seconds: 120)]
fn a_map_of_100000_keys() {
    put("/etc/auto.big", (0..100_000).map(|n| format!("k{n} -fstype=tmpfs,size=64k :v{n}\n")).collect::<String>());
    site::master("/mnt/auto /etc/auto.big\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    for n in [0, 1, 50_000, 99_999] {
        let path = format!("/mnt/auto/k{n}");
        visit::serves(&path);
        assert_eq!(table::at(&path)[0].source, format!("v{n}"));
    }
    in_threads(16, 300, |n| visit::enter_now(Path::new(&format!("/mnt/auto/k{}", n * 333))).unwrap());
    daemon.stop();
}

/// Thousands of lookups of one user on a dead server, far more than a pipe or a lane holds, delay no other mount point, no
/// other user of the same mount point, and not even the same user elsewhere.
#[case(seconds: 120)]
fn one_user_with_thousands_of_lookups_delays_nobody() {
    site::master("/mnt/dead /etc/auto.dead\n/mnt/auto /etc/auto.one\n/- /etc/auto.direct\n");
    put("/etc/auto.dead", "good -fstype=tmpfs,size=64k :good\n* -fstype=slow :dead\n");
    put("/etc/auto.one", "* -fstype=tmpfs,size=64k :&\n");
    put("/etc/auto.direct", "/mnt/d -fstype=tmpfs,size=64k :d\n");
    put("/etc/autofs.toml", "[deadlines]\nrequest = 30\nmount = 30\n");
    Rules { delay: vec![("dead".into(), 60_000)], ..Rules::default() }.set();
    let daemon = Daemon::serving(&["/mnt/dead", "/mnt/auto", "/mnt/d"]);
    for n in 0..4000 {
        let thread = std::thread::Builder::new().stack_size(64 << 10);
        thread.spawn(move || _ = visit::enter_now(Path::new(&format!("/mnt/dead/{n}")))).unwrap();
    }
    // By then nearly all of them wait.
    std::thread::sleep(secs(4));
    for (path, uid) in [("/mnt/auto/a", 1000), ("/mnt/d", 1000), ("/mnt/dead/good", 1000), ("/mnt/auto/b", 0)] {
        let asked = Instant::now();
        assert!(visit::enter_as(path, uid), "{path}");
        assert!(asked.elapsed() < secs(10), "{path} took {:?}, and nothing is to delay it", asked.elapsed());
    }
    daemon.kill();
}
