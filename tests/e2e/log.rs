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
    put(
        "/etc/auto.one",
        "refused\nfails -fstype=slow :bad\ngood -fstype=tmpfs :good\nnowhere nosuchhost:/x\nbroken /a\n",
    );
    Rules { fail: vec!["bad".into()], ..Rules::default() }.set();
    let mut daemon = Daemon::start(["-f"]);
    daemon.ready(&["/mnt/auto"]);
    // The second lookup is answered from memory.
    visit::refuses("/mnt/auto/fails", Errno::ENOENT);
    visit::refuses("/mnt/auto/fails", Errno::ENOENT);
    for key in ["unknown", "broken", "broken", "nowhere"] {
        visit::refuses(format!("/mnt/auto/{key}"), Errno::ENOENT);
    }
    // After this lookup the turn of those before it is over, so the next worker repeats none of them.
    visit::serves("/mnt/auto/good");
    let before = daemon.log();
    let expected = [
        "/etc/auto.one:1:1: key \"refused\" without an entry",
        "failed to mount /mnt/auto/fails: /sbin/mount.slow: exit status 32: mount.slow: bad: refused by the test (for process ",
        "key \"unknown\" not found in map source(s).",
        "failed to mount /mnt/auto/broken: /etc/auto.one:5:",
        "hostname lookup for nosuchhost failed: ",
        "failed to mount /mnt/auto/nowhere: /etc/auto.one:4:9: no hosts available: no address is known for nosuchhost (for process ",
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

/// The requester and its parent, as automount logs them, and no password.
#[case]
fn the_requester_and_no_password_at_the_level_of_details() {
    site::master("/mnt/auto /etc/auto.one\n");
    put("/etc/auto.one", "good -fstype=slow,password=Geheim77 :good\nbad -fstype=slow,password=Geheim77 :bad\n");
    Rules { fail: vec!["bad".into()], ..Rules::default() }.set();
    let mut daemon = Daemon::start(["-f", "-d"]);
    daemon.ready(&["/mnt/auto"]);
    visit::serves("/mnt/auto/good");
    visit::refuses("/mnt/auto/bad", Errno::ENOENT);
    let log = daemon.log();
    for text in [
        "handle_packet_missing_indirect: token ",
        ", name good, request pid ",
        "pidinfo requestor: pid:",
        &format!(" comm:{} tgid:", own_name()),
    ] {
        assert!(log.contains(text), "{text}: {log}");
    }
    assert!(log.contains("pidinfo parent: pid:") && log.contains("password=***"), "{log}");
    assert!(!log.contains("Geheim77"), "{log}");
    daemon.stop();
}

/// The command name of this process, which asks.
fn own_name() -> String {
    std::fs::read_to_string("/proc/self/comm").unwrap().trim().to_owned()
}

/// Fields beside the message, for journald.
#[case]
fn fields_for_journald() {
    std::fs::create_dir_all("/run/systemd/journal").unwrap();
    let journal = std::os::unix::net::UnixDatagram::bind("/run/systemd/journal/socket").unwrap();
    journal.set_read_timeout(Some(secs(30))).unwrap();
    site::master("/mnt/auto /etc/auto.one\n");
    put("/etc/auto.one", "bad -fstype=slow :bad\n");
    Rules { fail: vec!["bad".into()], ..Rules::default() }.set();
    let mut daemon = Daemon::start(["--systemd-service"]);
    daemon.ready(&["/mnt/auto"]);
    visit::refuses("/mnt/auto/bad", Errno::ENOENT);
    let mut entry = vec![0; 65536];
    let text = loop {
        let length = journal.recv(&mut entry).expect("an entry about the failure");
        let text = String::from_utf8_lossy(&entry[..length]).into_owned();
        if text.contains("failed to mount") {
            break text;
        }
    };
    for field in [
        "PRIORITY=3",
        "SYSLOG_IDENTIFIER=automount",
        "AUTOFS_PATH=/mnt/auto/bad",
        "AUTOFS_LINE=/etc/auto.one:1:5",
        &format!("AUTOFS_COMM={}", own_name()),
        "AUTOFS_PROGRAM=/sbin/mount.slow",
        "AUTOFS_EXIT=exit status 32",
    ] {
        assert!(text.lines().any(|line| line == field), "{field}: {text}");
    }
    assert!(text.starts_with("MESSAGE=failed to mount /mnt/auto/bad: ") && text.contains("\nMESSAGE_ID="), "{text}");
    daemon.stop();
}
