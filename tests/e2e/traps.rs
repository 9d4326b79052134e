//! Traps in the kernel's autofs interface, one test for each.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use autofs::sys::landlock::keep_signals_inside;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::common::daemon::{Daemon, group};
use super::common::site;
use super::common::stand_in::{Rules, calls};
use super::common::suite::case;
use super::common::world::put;
use super::common::{secs, table, visit, wait_for};

fn slow(milliseconds: u64) {
    Rules { delay: vec![("slow".into(), milliseconds)], ..Rules::default() }.set();
}

#[track_caller]
fn succeeds(mut visitor: Child) {
    let status = wait_for("an answer", secs(20), || visitor.try_wait().unwrap());
    assert!(status.success(), "a visitor got {status}");
}

/// Children of the master see raw directories: a source on a mount of ours has to be triggered from outside.
#[case]
fn own_group_does_not_trigger() {
    fs::create_dir("/srv/data").unwrap();
    site::one_map("b :/srv/data\na :/mnt/auto/b\nc -fstype=tmpfs :c\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    assert_eq!(table::at("/mnt/auto/a")[0].root, std::path::Path::new("/srv/data"));
    // And a map that would need itself is no deadlock.
    put("/etc/auto.one", "self :/mnt/auto/self\nc -fstype=tmpfs :c\n");
    visit::refuses("/mnt/auto/self", Errno::ENOENT);
    visit::serves("/mnt/auto/c");
    daemon.stop();
}

/// The owner has died, and its process group number was given to another group.
#[case]
fn group_number_used_again() {
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    let number = daemon.pid();
    daemon.kill();
    let mut other = None;
    for _ in 0..20 {
        fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string()).unwrap();
        let mut child = Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        if i32::try_from(child.id()).unwrap() == number {
            other = Some(child);
            break;
        }
        _ = child.kill();
        _ = child.wait();
    }
    let mut other = other.expect("the number could not be had again");
    assert_eq!(table::autofs("/mnt/auto").unwrap().option("pgrp"), Some(number.to_string().as_str()));
    let daemon = Daemon::serving(&["/mnt/auto"]);
    assert!(table::served("/mnt/auto/a"));
    visit::serves("/mnt/auto/b");
    daemon.stop();
    assert!(other.try_wait().unwrap().is_none(), "it was none of our business");
    _ = other.kill();
}

/// After a crash, every path operation on a direct mount with an unanswered request blocks, including those of the next
/// daemon, until the waiting process ends. The next daemon must serve all other mounts meanwhile.
#[case]
fn direct_pending_at_a_crash() {
    site::master("/- /etc/auto.direct\n/mnt/auto /etc/auto.any\n");
    put("/etc/auto.direct", "/mnt/d1 -fstype=slow :slow\n/mnt/d2 -fstype=tmpfs :two\n");
    put("/etc/auto.any", "* -fstype=tmpfs :k&\n");
    slow(30_000);
    let daemon = Daemon::serving(&["/mnt/d1", "/mnt/d2", "/mnt/auto"]);
    let mut visitor = visit::process("/mnt/d1", 0);
    wait_for("the mount on its way", secs(5), || (!calls().is_empty()).then_some(()));
    daemon.kill();
    slow(0);
    let mut daemon = Daemon::serving(&["/mnt/auto", "/mnt/d2"]);
    visit::serves("/mnt/auto/a");
    visit::serves("/mnt/d2");
    visitor.kill().unwrap();
    visitor.wait().unwrap();
    daemon.ready(&["/mnt/d1"]);
    visit::serves("/mnt/d1");
    daemon.stop();
    assert_eq!(table::below("/mnt/d1"), []);
}

/// A mount program that outlives its master keeps the group alive, but serves nothing.
#[case]
fn group_kept_alive_by_a_helper() {
    site::master("/- /etc/auto.direct\n/mnt/auto /etc/auto.one\n");
    put("/etc/auto.direct", "/mnt/d1 -fstype=tmpfs :one\n");
    put("/etc/auto.one", "slow -fstype=slow :slow\n* -fstype=tmpfs :k&\n");
    slow(40_000);
    let mut daemon = Daemon::serving(&["/mnt/d1", "/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    let mut visitor = visit::process("/mnt/auto/slow", 0);
    wait_for("the mount on its way", secs(5), || (!calls().is_empty()).then_some(()));
    daemon.signal(Signal::SIGKILL);
    daemon.end(secs(5));
    assert!(!group(daemon.pid()).is_empty(), "the helper is to live on in this test");
    slow(0);
    let daemon = Daemon::serving(&["/mnt/d1", "/mnt/auto"]);
    assert!(table::served("/mnt/auto/a"));
    visit::serves("/mnt/auto/b");
    visit::serves("/mnt/d1");
    wait_for("an answer for the one that waited", secs(20), || visitor.try_wait().unwrap());
    daemon.stop();
}

/// Scripts end with `kill 0` to end what they have started.
#[case]
fn a_helper_that_signals_its_process_group() {
    let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM];
    // A key for each, as the failure of a key is remembered.
    let keys: String = signals.iter().map(|signal| format!("{signal} -fstype=slow :x\n")).collect();
    let keys = keys + "SIGKILL -fstype=slow :x\n";
    site::one_map(&format!("{keys}* -fstype=tmpfs :k&\n"));
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    let worker = daemon.worker();
    for signal in signals {
        Rules { group_signal: Some(signal as i32), ..Rules::default() }.set();
        visit::refuses(format!("/mnt/auto/{signal}"), Errno::ENOENT);
    }
    assert_eq!(calls().len(), signals.len());
    if std::thread::spawn(keep_signals_inside).join().unwrap().is_ok() {
        Rules { group_signal: Some(Signal::SIGKILL as i32), ..Rules::default() }.set();
        visit::refuses("/mnt/auto/SIGKILL", Errno::ENOENT);
    }
    Rules::default().set();
    visit::serves("/mnt/auto/b");
    assert!(table::served("/mnt/auto/a"), "unmounted by SIGUSR1 or SIGUSR2");
    assert_eq!(daemon.worker(), worker);
    daemon.stop();
}

/// A token that was read and not answered makes its key hang for ever.
#[case]
fn lost_token() {
    site::master("/- /etc/auto.direct\n/mnt/auto /etc/auto.one browse\n");
    put("/etc/auto.direct", "/mnt/d1 -fstype=slow :slow1\n");
    put("/etc/auto.one", "ghost -fstype=slow :slow2\n* -fstype=slow :slow3\n");
    slow(1500);
    let daemon = Daemon::serving(&["/mnt/d1", "/mnt/auto"]);
    let visitors = ["/mnt/d1", "/mnt/auto/ghost", "/mnt/auto/new"].map(|p| visit::process(p, 0));
    wait_for("mounts on their way", secs(5), || (calls().len() == 3).then_some(()));
    kill(Pid::from_raw(daemon.worker()), Signal::SIGKILL).unwrap();
    visitors.into_iter().for_each(succeeds);
    daemon.stop();
}

/// A killed waiter leaves its token; the next one on a name that does not exist yet gets another.
#[case]
fn two_requests_for_one_key() {
    site::one_map("* -fstype=slow :slow\n");
    slow(1500);
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let mut first = visit::process("/mnt/auto/a", 0);
    wait_for("the mount on its way", secs(5), || (!calls().is_empty()).then_some(()));
    first.kill().unwrap();
    first.wait().unwrap();
    let second = [(); 4].map(|()| visit::process("/mnt/auto/a", 0));
    second.into_iter().for_each(succeeds);
    assert_eq!(calls().len(), 1, "one key, one mount");
    assert_eq!(table::at("/mnt/auto/a").len(), 1);
    daemon.stop();
}

/// From a private copy of the mount namespace nothing that the master mounts can be seen: the kernel asks 40 times.
#[case]
fn ready_without_a_mount_asks_again() {
    site::any_key();
    site::master("/mnt/auto /etc/auto.any\n/- /etc/auto.direct\n/mnt/ghost /etc/auto.ghost browse\n");
    put("/etc/auto.direct", "/mnt/d1 -fstype=tmpfs :one\n");
    put("/etc/auto.ghost", "g -fstype=tmpfs :g\n");
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/d1", "/mnt/ghost"]);
    for path in ["/mnt/auto/a", "/mnt/d1", "/mnt/ghost/g"] {
        let mut child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "stat", "-L"])
            .arg(format!("{path}/."))
            .env("LC_ALL", "C")
            .process_group(0)
            .stderr(fs::File::create("/world/said").unwrap())
            .spawn()
            .unwrap();
        let status = wait_for("an answer", secs(10), || child.try_wait().unwrap());
        let said = fs::read_to_string("/world/said").unwrap();
        assert!(!status.success() && said.contains("Too many levels of symbolic links"), "{path}: {status} {said}");
        // Where the mount can be seen it is there.
        visit::serves(path);
    }
    visit::serves("/mnt/auto/b");
    daemon.stop();
}

/// The expire ioctl returns when its packet is answered: never from the thread that reads packets.
#[case]
fn expire_blocks_its_caller() {
    site::any_key();
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    for n in 0..100 {
        visit::enter(format!("/mnt/auto/{n}")).unwrap();
    }
    daemon.signal(Signal::SIGUSR1);
    visit::serves("/mnt/auto/new");
    daemon.stop();
}

/// Who joins the wait of an expire whose master died is stuck until the old token is answered.
#[case]
fn killed_expirer_leaves_a_wait() {
    site::any_key();
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    for round in 0..4_u64 {
        for n in 0..60 {
            visit::enter(format!("/mnt/auto/{n}")).unwrap();
        }
        daemon.signal(Signal::SIGUSR1);
        std::thread::sleep(Duration::from_millis(10 + 25 * round));
        kill(Pid::from_raw(daemon.worker()), Signal::SIGKILL).unwrap();
        for n in 0..60 {
            visit::serves(format!("/mnt/auto/{n}"));
        }
    }
    daemon.signal(Signal::SIGUSR1);
    wait_for("a complete expire", secs(20), || (table::below("/mnt/auto").len() == 1).then_some(()));
    daemon.stop();
}

/// An open file on the root of a direct mount keeps it from expiring, and the autofs mount from being unmounted.
#[case]
fn held_root_never_expires() {
    site::master("/- /etc/auto.direct --timeout=1\n/mnt/auto /etc/auto.any\n");
    put("/etc/auto.direct", "/mnt/d1 -fstype=tmpfs :one\n");
    put("/etc/auto.any", "* -fstype=tmpfs :k&\n");
    let daemon = Daemon::serving(&["/mnt/d1", "/mnt/auto"]);
    visit::serves("/mnt/d1");
    visit::serves("/mnt/auto/a");
    wait_for("expiry", secs(10), || (!table::served("/mnt/d1")).then_some(()));
    // A descriptor that was needed for the unmount may be open for a moment.
    let holds_one = || {
        let mut fds = group(daemon.pid()).into_iter().flat_map(|process| {
            let fds = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
            fds.map(|fd| fs::read_link(fd.path()).unwrap_or_default())
        });
        fds.any(|held| held.starts_with("/mnt"))
    };
    wait_for("descriptors below /mnt to be closed", secs(10), || (!holds_one()).then_some(()));
    daemon.stop();
}

/// The 17th packet blocks its sender inside of the pipe: the reader must never wait for anything.
#[case]
fn pipe_of_sixteen_packets() {
    site::one_map("slow -fstype=slow :slow\n* -fstype=tmpfs :k&\n");
    site::mount_wait(60);
    slow(15_000);
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let mut first = visit::process("/mnt/auto/slow", 0);
    wait_for("the slow one on its way", secs(5), || (!calls().is_empty()).then_some(()));
    let threads: Vec<_> =
        (0..100).map(|n| std::thread::spawn(move || visit::serves(format!("/mnt/auto/{n}")))).collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(first.try_wait().unwrap(), None, "100 keys have waited for a slow one");
    succeeds(first);
    daemon.stop();
}

/// Setting O_NONBLOCK on a write end would make the mount catatonic, so no process may have one.
#[case]
fn write_end_is_closed() {
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    let inode = table::autofs("/mnt/auto").unwrap().option("pipe_ino").unwrap().parse::<u64>().unwrap();
    let mut readers = 0;
    for process in group(daemon.pid()) {
        for fd in fs::read_dir(format!("/proc/{process}/fd")).unwrap().flatten() {
            let number = fd.file_name().into_string().unwrap();
            if fs::metadata(fd.path()).is_ok_and(|m| {
                m.ino() == inode && fs::read_link(fd.path()).unwrap().starts_with(format!("pipe:[{inode}]"))
            }) {
                let info = fs::read_to_string(format!("/proc/{process}/fdinfo/{number}")).unwrap();
                let flags = info.lines().find_map(|l| l.strip_prefix("flags:")).unwrap().trim();
                assert_eq!(u32::from_str_radix(flags, 8).unwrap() & 3, 0, "fd {number} of {process} can write");
                readers += 1;
            }
        }
    }
    assert!(readers >= 1, "no process reads the pipe");
    daemon.stop();
}

/// While a file on its root is open, a mount that is gone makes no hang-up.
#[case]
fn no_hangup_while_somebody_looks() {
    site::any_key();
    site::master("/mnt/auto /etc/auto.any\n/mnt/other /etc/auto.any\n");
    let mut daemon = Daemon::serving(&["/mnt/auto", "/mnt/other"]);
    let held = fs::File::open("/mnt/auto").unwrap();
    umount2("/mnt/auto", MntFlags::MNT_DETACH).unwrap();
    visit::serves("/mnt/other/a");
    drop(held);
    visit::serves("/mnt/other/b");
    // A reload puts back what is configured.
    daemon.signal(Signal::SIGHUP);
    daemon.ready(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    daemon.stop();
    assert_eq!(table::below("/mnt/auto"), []);
}

/// The kernel answers these itself; and a name of 253 bytes below a long mount point still is one.
#[case]
fn name_of_254_bytes() {
    let point = format!("/mnt/{}", "p".repeat(200));
    site::any_key();
    site::master(&format!("{point} /etc/auto.one\n"));
    put("/etc/auto.one", "* -fstype=tmpfs :k\n");
    let daemon = Daemon::serving(&[&point]);
    visit::serves(format!("{point}/{}", "n".repeat(253)));
    visit::refuses(format!("{point}/{}", "n".repeat(254)), Errno::ENOENT);
    daemon.stop();
}

/// `fd=` and `pgrp=` in the table are only what they were at the mount.
#[case]
fn stale_numbers_in_the_table() {
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    let before = table::autofs("/mnt/auto").unwrap();
    daemon.kill();
    let after = table::autofs("/mnt/auto").unwrap();
    assert_eq!(after, before, "the mount table does not show that the owner is dead");
    // The next new key finds out.
    visit::refuses("/mnt/auto/b", Errno::ENOENT);
    assert_eq!(table::autofs("/mnt/auto").unwrap().option("pipe_ino"), Some("-1"));
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/b");
    assert_eq!(table::autofs("/mnt/auto").unwrap().id, before.id, "taken over, not mounted again");
    daemon.stop();
}

/// The kernel lets every process with the privilege take a mount from its living master.
#[case]
fn living_master_is_left_alone() {
    site::any_key();
    let first = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    let before = table::autofs("/mnt/auto").unwrap();
    put("/etc/second.master", "/mnt/auto /etc/auto.any\n/mnt/other /etc/auto.any\n");
    let mut second = Daemon::start(["-f", "-v", "-C", "/etc/second.master"]);
    second.ready(&["/mnt/other"]);
    visit::serves("/mnt/other/a");
    assert_eq!(table::autofs("/mnt/auto"), Some(before));
    second.says(&first.pid().to_string());
    visit::serves("/mnt/auto/b");
    second.stop();
    visit::serves("/mnt/auto/c");
    assert!(table::served("/mnt/auto/a"));
    first.stop();
    assert_eq!(table::below("/mnt"), [table::at("/mnt").remove(0)]);
}

/// Looking at a path below an own mount from a process that is not (yet) its master waits for the master.
#[case]
fn metadata_triggers() {
    put("/etc/auto.any", "* -fstype=tmpfs :k&\n");
    put("/etc/auto.direct", "/mnt/auto/d/e -fstype=tmpfs :e\n/mnt/d1 -fstype=tmpfs :one\n");
    site::master(
        "/mnt/auto /etc/auto.any\n/mnt/late file:/mnt/auto/maps/late.map\n/- /etc/auto.direct\n/mnt/last /etc/auto.any\n",
    );
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/last", "/mnt/d1"]);
    visit::serves("/mnt/auto/a");
    visit::serves("/mnt/last/a");
    visit::serves("/mnt/d1");
    daemon.kill();
    // Now all of these stand there without a master.
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/last", "/mnt/d1"]);
    visit::serves("/mnt/auto/b");
    visit::serves("/mnt/last/b");
    daemon.stop();
}

/// Every access to a missing key is a request.
#[case]
fn no_negative_cache_in_the_kernel() {
    site::one_map("a -fstype=tmpfs :a\n");
    // On a busy machine a thousand lookups take more than the usual minute.
    site::master("/mnt/auto /etc/auto.one --negative-timeout=3600\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    for _ in 0..1000 {
        visit::refuses("/mnt/auto/missing", Errno::ENOENT);
    }
    let said = daemon.log().lines().filter(|l| l.contains("\"missing\"")).count();
    assert_eq!(said, 1, "once per negative period is enough");
    daemon.stop();
}

/// Who asked for a key is in its packet and nowhere else.
#[case]
fn requester_is_not_kept() {
    site::one_map("m /x -fstype=tmpfs :x$UID /y -fstype=tmpfs :y$UID\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    assert!(visit::enter_as("/mnt/auto/m/x", 65534));
    kill(Pid::from_raw(daemon.worker()), Signal::SIGKILL).unwrap();
    visit::serves("/mnt/auto/m/y");
    assert_eq!(table::at("/mnt/auto/m/y").pop().unwrap().source, "y65534", "the tree was made for this user");
    daemon.stop();
}

/// Other processes may look between the mount and the setting of its timeout.
#[case]
fn timeout_before_anybody_looks() {
    site::any_key_for(123);
    for _ in 0..5 {
        let daemon = Daemon::start(["-f"]);
        let end = Instant::now() + secs(10);
        let first = loop {
            if let Some(autofs) = table::autofs("/mnt/auto") {
                break autofs;
            }
            assert!(Instant::now() < end, "no autofs");
        };
        assert_eq!(first.option("timeout"), Some("123"));
        daemon.stop();
    }
}

/// What is mounted below a shared parent shows up in namespaces that follow.
#[case]
fn shared_parent() {
    let none: Option<&str> = None;
    mount(none, "/mnt", none, MsFlags::MS_SHARED, none).unwrap();
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let mut inner = Command::new("unshare")
        .args(["--mount", "--propagation", "slave", "sh", "-c"])
        .arg("for n in 1 2 3; do stat -L /mnt/auto/$n/. >/dev/null || exit 1; done; grep -q /mnt/auto/3 /proc/self/mountinfo")
        .process_group(0)
        .spawn()
        .unwrap();
    let status = wait_for("an answer", secs(10), || inner.try_wait().unwrap());
    assert!(status.success(), "{status}");
    visit::serves("/mnt/auto/1");
    daemon.stop();
}

/// Who waits in a mount that is lazily unmounted keeps it alive, and waits for an answer all the same.
#[case]
fn request_outlives_its_mount() {
    site::one_map("* -fstype=slow :slow\n");
    slow(1500);
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let mut visitor = visit::process("/mnt/auto/a", 0);
    wait_for("the mount on its way", secs(5), || (!calls().is_empty()).then_some(()));
    umount2("/mnt/auto", MntFlags::MNT_DETACH).unwrap();
    wait_for("an answer, be it good or bad", secs(15), || visitor.try_wait().unwrap());
    daemon.stop();
}

/// An answer needs a file on the mount, and the way there may be blocked for a while.
#[case]
fn request_below_a_covered_path() {
    site::master("/mnt/p/auto /etc/auto.one\n");
    put("/etc/auto.one", "* -fstype=slow :slow\n");
    Rules { delay: vec![("slow".into(), 1500)], fail: vec!["slow".into()], ..Rules::default() }.set();
    let daemon = Daemon::serving(&["/mnt/p/auto"]);
    let mut visitor = visit::process("/mnt/p/auto/a", 0);
    wait_for("the mount on its way", secs(5), || (!calls().is_empty()).then_some(()));
    let none: Option<&str> = None;
    mount(Some("cover"), "/mnt/p", Some("tmpfs"), MsFlags::empty(), none).unwrap();
    std::thread::sleep(secs(3));
    umount2("/mnt/p", MntFlags::empty()).unwrap();
    wait_for("an answer", secs(15), || visitor.try_wait().unwrap());
    daemon.stop();
}
