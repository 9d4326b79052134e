//! The log at the default level: one line for each failure.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::common::daemon::Daemon;
use super::common::site;
use super::common::stand_in::Rules;
use super::common::suite::case;
use super::common::world::put;
use super::common::{secs, visit, wait_for};

#[case]
fn one_line_for_each_failure() {
    site::master("/mnt/auto /etc/auto.one\n");
    put("/etc/auto.one", "refused\nfails -fstype=slow :bad\ngood -fstype=tmpfs :good\n");
    Rules { fail: vec!["bad".into()], ..Rules::default() }.set();
    let mut daemon = Daemon::start(["-f"]);
    daemon.ready(&["/mnt/auto"]);
    // The second lookup is answered from memory.
    visit::refuses("/mnt/auto/fails", Errno::ENOENT);
    visit::refuses("/mnt/auto/fails", Errno::ENOENT);
    visit::refuses("/mnt/auto/unknown", Errno::ENOENT);
    // After this lookup the turn of those before it is over, so the next worker repeats none of them.
    visit::serves("/mnt/auto/good");
    let before = daemon.log();
    let expected = [
        "/etc/auto.one:1:1: key \"refused\" without an entry",
        "failed to mount /mnt/auto/fails: /sbin/mount.slow: exit status 32: mount.slow: bad: refused by the test (for process ",
        "key \"unknown\" not found in map source(s).",
    ];
    let lines: Vec<&str> = before.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{before}");
    assert!(lines.iter().zip(expected).all(|(line, start)| line.starts_with(start)), "{before}");

    let worker = daemon.worker();
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    wait_for("another worker", secs(10), || (daemon.worker() != worker).then_some(()));
    daemon.says("the worker has died");
    visit::serves("/mnt/auto/good");
    let after = daemon.log().split_off(before.len());
    let of_the_death: Vec<&str> = after.lines().filter(|line| !line.starts_with(expected[0])).collect();
    assert_eq!(of_the_death, ["the worker has died (signal 9); another one goes on"], "{after}");
    daemon.stop();
}
