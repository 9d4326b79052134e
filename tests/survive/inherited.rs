//! The daemon is started with ignored signals, resource limits or an unusual umask.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::common::daemon::Daemon;
use super::common::site;
use super::common::stand_in::Rules;
use super::common::suite::case;
use super::common::visit;
use super::common::world::put;
use super::processes::kill_worker;

/// Starts the daemon from a shell that has run `before`.
fn start_after(before: &str) -> Daemon {
    let mut command = Command::new("/bin/sh");
    command.arg0("sh").env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.args(["-c", &format!("{before}; exec /usr/sbin/automount -f -v")]);
    let mut daemon = Daemon::spawn(command);
    daemon.ready(&["/mnt/auto"]);
    daemon
}

/// Mounts by system call and by a program, before and after the death of a worker, then ends.
#[track_caller]
fn works_after(before: &str) {
    site::one_map("slow -fstype=slow :slow\nother -fstype=slow :other\n* -fstype=tmpfs,size=64k :&\n");
    Rules { delay: vec![("slow".into(), 10)], ..Rules::default() }.set();
    let daemon = start_after(before);
    visit::serves("/mnt/auto/a");
    visit::serves("/mnt/auto/slow");
    kill_worker(&daemon);
    visit::serves("/mnt/auto/b");
    visit::serves("/mnt/auto/other");
    daemon.stop();
}

/// A mount helper has no signal blocked, in whatever thread it was started.
#[case]
fn helpers_have_no_signal_blocked() {
    site::one_map("* -fstype=mask :&\n");
    put(
        "/sbin/mount.mask",
        // A shell gives its own children a mask without signals.
        "#!/bin/sh\nwhile read -r line; do case $line in SigBlk*) echo \"$line\";; esac; done </proc/self/status \
         >>/world/masks\nexec mount -i -t tmpfs \"$1\" \"$2\"\n",
    );
    fs::set_permissions("/sbin/mount.mask", fs::Permissions::from_mode(0o755)).unwrap();
    let daemon = start_after("true");
    for round in 0..4 {
        for key in 0..4 {
            visit::serves(format!("/mnt/auto/{round}.{key}"));
        }
        kill_worker(&daemon);
    }
    let masks = fs::read_to_string("/world/masks").unwrap();
    assert_eq!(masks.lines().count(), 16, "{masks}");
    let blocked: Vec<_> = masks.lines().filter(|line| *line != "SigBlk:\t0000000000000000").collect();
    assert_eq!(blocked, [""; 0]);
    daemon.stop();
}

/// With SIGCHLD ignored the kernel reaps children without telling their parent: the keeper would not notice the death of
/// a worker, and the worker not the end of a mount program.
#[case]
fn ignored_signals() {
    works_after("trap '' CHLD HUP TERM USR1 USR2 ALRM PIPE");
}

#[case]
fn a_limit_of_file_size() {
    // The soft limit alone: to lift the hard one takes CAP_SYS_RESOURCE.
    works_after("ulimit -S -f 0");
}

#[case]
fn a_small_stack() {
    works_after("ulimit -S -s 128");
}

#[case]
fn a_umask_that_hides_everything() {
    works_after("umask 0777");
}
