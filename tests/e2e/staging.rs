//! Mount programs that would wait for themselves, and FUSE servers that die.

use std::fs::{self, File};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::common::daemon::Daemon;
use super::common::stand_in::Rules;
use super::common::suite::case;
use super::common::world::put;
use super::common::{fuse, secs, site, table, visit, wait_for};

/// Without a stage, the process outside of the daemon's group would wait for the mount that it delays.
#[case]
fn a_helper_that_looks_at_its_mount_point_does_not_wait_for_itself() {
    put("/etc/autofs.toml", "[mount]\nstaging = [\"/mnt/auto\"]\n");
    put(
        "/sbin/mount.aside",
        "#!/bin/sh\necho \"$2\" >>/tmp/targets\nsetsid -w ls \"$2\" || exit 1\nmount -t tmpfs aside \"$2\"\n",
    );
    site::master("/mnt/auto /etc/auto.one\n/- /etc/auto.direct\n");
    put("/etc/auto.one", "k -fstype=aside :k\nmulti / -fstype=aside :m /below -fstype=tmpfs :b\n");
    put("/etc/auto.direct", "/mnt/auto2/d -fstype=tmpfs :d\n");
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/auto2/d"]);
    visit::serves("/mnt/auto/k");
    visit::serves("/mnt/auto/multi");
    visit::serves("/mnt/auto2/d");
    assert_eq!(table::at("/mnt/auto/k").last().unwrap().source, "aside");
    let targets = fs::read_to_string("/tmp/targets").unwrap();
    assert!(targets.lines().count() == 2, "{targets}");
    assert!(targets.lines().all(|target| target.starts_with("/run/autofs/stage.")), "{targets}");
    let left: Vec<_> = visit::list("/run/autofs").into_iter().filter(|name| name.starts_with("stage.")).collect();
    assert!(left.is_empty(), "{left:?}");
    daemon.stop();
}

fn killed(server: i32) {
    kill(Pid::from_raw(server), Signal::SIGKILL).unwrap();
}

#[case]
fn a_dead_fuse_server_is_noticed() {
    put("/etc/autofs.toml", "[mount]\nfuse_check = 1\n");
    site::master("/mnt/auto /etc/auto.one\n/mnt/short /etc/auto.one --timeout=2\n");
    put("/etc/auto.one", format!("k -fstype={} :k\n", fuse::TYPE));
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/short"]);
    visit::serves("/mnt/auto/k");
    assert_eq!(fuse::servers().len(), 1);
    // It is in use: only a lazy unmount makes place for a new one.
    let held = File::open("/mnt/auto/k").unwrap();
    killed(fuse::servers()[0]);
    wait_for("the unmount", secs(20), || (!table::served("/mnt/auto/k")).then_some(()));
    daemon.says("the server of /mnt/auto/k has died: it is unmounted, and mounted again when it is accessed");
    visit::serves("/mnt/auto/k");
    assert_eq!(fuse::servers().len(), 2);
    drop(held);

    // A new worker looks after the mounts of the one before.
    kill(Pid::from_raw(daemon.worker()), Signal::SIGKILL).unwrap();
    killed(fuse::servers()[1]);
    wait_for("the unmount after a restart", secs(20), || (!table::served("/mnt/auto/k")).then_some(()));
    visit::serves("/mnt/auto/k");

    // Looking is no use.
    visit::serves("/mnt/short/k");
    wait_for("the mount to expire", secs(30), || (!table::served("/mnt/short/k")).then_some(()));
    daemon.stop();
}

/// umount2(2) waits for the server when the mount has left the mount table. Without more, its open directory would keep the mount
/// above busy.
#[case(lacking: fuse::lacking_held)]
fn an_unmount_that_waits_for_a_server_keeps_no_other_mount() {
    put("/etc/autofs.toml", "[deadlines]\numount = 20\n");
    site::master("/mnt/auto /etc/auto.one\n/- /etc/auto.direct\n");
    put("/etc/auto.one", format!("k / -fstype=slow :top /b -fstype={} :{}\n", fuse::TYPE, fuse::HELD));
    put("/etc/auto.direct", format!("/mnt/direct -fstype={} :{}\n", fuse::TYPE, fuse::HELD));
    Rules { content: vec![("top".into(), "b".into())], ..Rules::default() }.set();
    let mut daemon = Daemon::serving(&["/mnt/auto", "/mnt/direct"]);
    // The second time, the threads of the first time still wait.
    for round in 1..=2 {
        visit::serves("/mnt/auto/k/b");
        visit::serves("/mnt/direct");
        assert_eq!(fuse::servers().len(), 2 * round);
        if round == 1 {
            daemon.signal(Signal::SIGUSR1);
            wait_for("the unmount", secs(10), || (!table::served("/mnt/auto/k")).then_some(()));
            wait_for("the unmount", secs(10), || (!table::served("/mnt/direct")).then_some(()));
        }
    }
    eprintln!(
        "{} LOG {}",
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(),
        daemon.log()
    );
    daemon.stop();
    for server in fuse::servers() {
        killed(server);
    }
}
