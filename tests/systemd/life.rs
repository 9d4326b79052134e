//! Start and stop, and systemd's own restarts.

use std::fs;

use nix::errno::Errno;

use crate::common::daemon::stat;
use crate::common::suite::case;
use crate::common::world::put;
use crate::common::{secs, table, visit, wait_for};
use crate::lookups::Lookups;
use crate::service::{self, UNIT, Users, ctl, is_active, main_pid, property};

/// Direct keys that take a while to be mounted.
const MANY: usize = 500;

/// Units ordered after the service find all mounts, and so does the process that has started it.
#[case]
fn active_when_all_mounts_are_there() {
    service::maps();
    let keys: String = (0..MANY).map(|n| format!("/d/{n} -fstype=tmpfs :tmpfs\n")).collect();
    put("/etc/auto.direct", keys);
    let after = "[Unit]\nWants=autofs.service\nAfter=autofs.service\n\
                 [Service]\nType=oneshot\nExecStart=/bin/cp /proc/self/mountinfo /run/seen\nExecStart=/bin/ls /auto/key/.\n";
    put("/run/systemd/system/later.service", after);
    ctl(&["daemon-reload"]);
    ctl(&["start", "later.service"]);
    let seen = fs::read_to_string("/run/seen").unwrap();
    assert_eq!(seen.lines().filter(|line| line.contains(" - autofs ")).count(), MANY + 2, "{seen}");
    assert!(table::served("/auto/key"));
    let pid = main_pid();
    is_active(pid);
    let said = ctl(&["status", UNIT]);
    assert!(said.contains(&format!("Main PID: {pid} (automount)")), "{said}");
    visit::serves("/auto/key2");
    visit::serves("/d/7");
    visit::refuses("/few/none", Errno::ENOENT);

    // Without a unit in between.
    ctl(&["stop", UNIT]);
    assert!(table::autofs("/d/7").is_none());
    ctl(&["start", UNIT]);
    let all = table::read().into_iter().filter(|m| m.fstype == "autofs").count();
    assert_eq!(all, MANY + 2);
    visit::serves("/d/7");
}

#[case]
fn enabled_like_any_unit() {
    ctl(&["enable", UNIT]);
    assert_eq!(ctl(&["is-enabled", UNIT]).trim(), "enabled");
    let wanted = ctl(&["show", "--property=Wants", "--value", "multi-user.target"]);
    assert!(wanted.split_whitespace().any(|unit| unit == UNIT), "{wanted}");
    // What is shipped is a good configuration to start with.
    ctl(&["start", UNIT]);
    assert_eq!(property("ActiveState"), "active");
    let complaints = service::run("systemd-analyze", &["verify", "--man=no", UNIT]);
    assert!(!complaints.contains("autofs.service"), "{complaints}");
}

/// A daemon that cannot start is told at once, not after a timeout.
#[case]
fn a_start_that_fails() {
    service::maps();
    put("/etc/default/autofs", "OPTIONS=--no-such-option\n");
    let started = crate::common::output(std::process::Command::new("systemctl").args(["start", UNIT]), secs(30));
    assert!(!started.unwrap().status.success());
    // However often it fails, it is tried again, so that it starts when the cause is gone.
    wait_for("more restarts than the default limit", secs(30), || {
        property("NRestarts").parse::<u32>().is_ok_and(|restarts| restarts > 5).then_some(())
    });
    put("/etc/default/autofs", "OPTIONS=\n");
    wait_for("that it starts", secs(30), || (property("ActiveState") == "active").then_some(()));
    is_active(main_pid());
}

#[case]
fn stop_leaves_what_is_in_use() {
    let pid = service::start();
    let mut users = Users::begin();
    let ids = service::ids();
    for path in ["/auto/idle", "/d/two"] {
        visit::serves(path);
    }
    ctl(&["stop", UNIT]);
    assert_eq!(property("ActiveState"), "inactive");
    assert_eq!(property("Result"), "success");
    assert!(stat(pid).is_none());
    users.live();
    assert_eq!(service::ids(), ids);
    assert!(!table::served("/auto/idle"));
    assert_eq!(table::at("/d/two"), [], "it is unused");
    // No daemon serves, and lookups do not wait.
    assert!(visit::enter("/auto/new").is_err());

    ctl(&["start", UNIT]);
    is_active(main_pid());
    assert_eq!(service::ids(), ids);
    users.end();
    ctl(&["stop", UNIT]);
    for path in ["/auto", "/few", "/d"] {
        assert_eq!(table::below(path), [], "{path}");
    }
}

/// A mount helper that leaves a process behind, as FUSE does: it must not be ended with the daemon.
#[case]
fn servers_outlive_the_daemon() {
    let helper = "#!/bin/sh\nenv >/run/helper.env\nmount -t tmpfs tmpfs \"$2\" || exit\nsetsid sleep 4711 </dev/null >/dev/null 2>&1 &\n\
                  echo $! >/run/server.pid\n";
    put("/sbin/mount.served", helper);
    let pid = service::start();
    put("/etc/auto.few", "one -fstype=tmpfs :tmpfs\nserved -fstype=served :x\n");
    visit::serves("/few/served");
    let server = wait_for("the server", secs(5), || {
        fs::read_to_string("/run/server.pid").ok().and_then(|text| text.trim().parse::<i32>().ok())
    });
    let lives = || {
        let command = fs::read_to_string(format!("/proc/{server}/cmdline")).unwrap_or_default();
        command.starts_with("sleep")
    };
    wait_for("the server", secs(5), || lives().then_some(()));
    let group = fs::read_to_string(format!("/proc/{server}/cgroup")).unwrap();
    assert!(group.contains(UNIT), "{group}");
    // What it says to systemd would be taken for the daemon's word, were it not for `NotifyAccess=main`.
    let environment = fs::read_to_string("/run/helper.env").unwrap();
    assert!(environment.contains("PATH=") && !environment.contains("NOTIFY_SOCKET"), "{environment}");
    let mut user = Users::begin();
    let keep = fs::File::open("/few/served").unwrap();

    ctl(&["restart", UNIT]);
    assert!(lives(), "a restart");
    assert_ne!(main_pid(), pid);
    crate::crash::kill(main_pid());
    crate::crash::comes_back(1);
    assert!(lives(), "a crash");
    visit::serves("/few/served");
    ctl(&["stop", UNIT]);
    assert!(lives(), "a stop");
    assert!(table::served("/few/served"));
    user.live();
    drop(keep);
    user.end();
}

#[case]
fn restart_keeps_what_is_in_use() {
    let mut pid = service::start();
    let mut users = Users::begin();
    let ids = service::ids();
    for n in 0..3 {
        ctl(&["restart", UNIT]);
        let new = main_pid();
        assert_ne!(new, pid);
        pid = new;
        users.are_served_as_before(pid, &ids, n);
    }
    users.end();
    // They have been adopted with their keys, and go like any other.
    for path in ["/auto/tree", "/d/one"] {
        wait_for(&format!("the expiry of {path}"), secs(10), || {
            service::run("autofsctl", &["expire", path]);
            (!table::served(path)).then_some(())
        });
    }
}

/// What systemd knows of the service it takes along, and the daemon notices nothing.
#[case]
fn the_manager_is_executed_anew() {
    let pid = service::start();
    let lookups = Lookups::begin();
    let executed_anew = || fs::read_to_string("/proc/1/cmdline").unwrap().contains("--deserialize");
    assert!(!executed_anew());
    for _ in 0..3 {
        ctl(&["daemon-reload"]);
        lookups.go_on();
        is_active(pid);
        ctl(&["daemon-reexec"]);
        wait_for("the new systemd", secs(10), || executed_anew().then_some(()));
        lookups.go_on();
        is_active(pid);
    }
    // It still listens to systemd, and systemd to it.
    service::master("/more /etc/auto.few\n");
    ctl(&["reload", UNIT]);
    wait_for("/more", secs(10), || table::autofs("/more").map(drop));
    lookups.end("daemon-reload and daemon-reexec");
    ctl(&["restart", UNIT]);
    is_active(main_pid());
}

/// At the end of the system systemd unmounts what it sees, while the daemon ends: neither may wait for the other.
#[case]
fn the_machine_goes_down() {
    let pid = service::start();
    let mut users = Users::begin();
    for path in ["/auto/idle", "/d/two"] {
        visit::serves(path);
    }
    let target = "[Unit]\nDefaultDependencies=no\nAllowIsolate=yes\nRequires=shutdown.target umount.target\n\
                  After=shutdown.target umount.target\n";
    put("/run/systemd/system/down.target", target);
    ctl(&["daemon-reload"]);
    ctl(&["isolate", "down.target"]);
    assert_eq!(["ActiveState", "Result"].map(property), ["inactive", "success"]);
    assert!(stat(pid).is_none());
    users.live();
    for path in ["/auto/idle", "/d/two"] {
        assert!(!table::served(path), "{path}");
    }
    users.end();
}
