//! The daemon is started with ignored signals, resource limits or an unusual umask.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::common::daemon::Daemon;
use super::common::site;
use super::common::stand_in::Rules;
use super::common::suite::case;
use super::common::visit;
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
fn a_umask_that_hides_everything() {
    works_after("umask 0777");
}
