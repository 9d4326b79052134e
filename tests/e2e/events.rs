//! Events of the daemon in the history, and the line that systemctl shows.

use std::fs;
use std::os::unix::net::UnixDatagram;

use nix::mount::{MsFlags, mount, umount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::common::daemon::Daemon;
use super::common::servers::{self, Server};
use super::common::suite::case;
use super::common::world::put;
use super::common::{secs, site, visit, wait_for};
use super::history::{ctl, json};

/// Returns the kind and the message of each event, the newest first.
fn events() -> Vec<(String, String)> {
    let history = json(&["history", "--daemon"]);
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    history["events"].as_array().unwrap().iter().map(|event| (text(&event["kind"]), text(&event["message"]))).collect()
}

/// Waits for an event of a kind whose message contains all of these words.
#[track_caller]
fn happens(kind: &str, words: &[&str]) {
    wait_for(&format!("{kind} with {words:?}"), secs(10), || {
        let is_it = |(of, message): &(String, String)| of == kind && words.iter().all(|word| message.contains(word));
        events().iter().any(is_it).then_some(())
    });
}

fn tmpfs(at: &str) {
    fs::create_dir_all(at).unwrap();
    mount(None::<&str>, at, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
}

/// Refused lines, mount points that are in the way or covered, and their return; once each, also over a killed worker.
#[case(seconds: 90)]
fn of_what_is_not_served_and_is_again() {
    site::any_key();
    let refused = "/mnt/auto /etc/auto.any\n/mnt/taken /etc/auto.any\n/mnt/bad /etc/auto.any --timeout=5m\n";
    site::master(refused);
    tmpfs("/mnt/taken");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    happens("refused", &["/mnt/bad is not served: /etc/auto.master:3: invalid timeout"]);
    happens("trouble", &["/mnt/taken is not served: ", "already mounted as other than autofs (tmpfs)"]);
    let (code, said) = ctl(&["status", "/mnt/bad/key"]);
    assert!(code == 1 && said.starts_with("/mnt/bad/key: /mnt/bad is not served: invalid timeout"), "{said}");
    assert!(said.contains("where  /etc/auto.master:3:"), "{said}");
    let worker = daemon.worker();
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    wait_for("another worker", secs(10), || (daemon.worker() != worker).then_some(()));
    happens("worker_died", &["the worker has died (signal 9)"]);
    // It counts the mount points that are not served.
    wait_for("the next worker", secs(10), || {
        let status = json(&["status"]);
        let problems = status["problems"].as_array()?;
        problems.iter().any(|problem| problem["path"] == "/mnt/taken").then_some(())
    });
    std::thread::sleep(secs(1));
    umount("/mnt/taken").unwrap();
    happens("trouble", &["/mnt/taken is served again; it was not served: "]);
    site::master(&refused.replace("=5m", "=5"));
    assert_eq!(ctl(&["reload"]).0, 0);
    happens("refused", &["/mnt/bad is served again; "]);
    tmpfs("/mnt/auto");
    happens("trouble", &["/mnt/auto is not served: ", "covered: a file system of type tmpfs was mounted on it"]);
    umount("/mnt/auto").unwrap();
    happens("trouble", &["/mnt/auto is served again; "]);
    let all = events();
    let of_bad = all.iter().filter(|(_, message)| message.starts_with("/mnt/bad is not served")).count();
    assert_eq!(of_bad, 1, "the next worker does not tell it again: {all:?}");
    fs::remove_file("/etc/auto.master").unwrap();
    assert_eq!(ctl(&["reload"]).0, 5);
    happens("reload", &["the master map could not be read, and stays in force as it was: "]);
    daemon.stop();
}

/// A source of maps that cannot be asked, and answers again.
#[case(seconds: 90)]
fn of_a_source() {
    site::master("/mnt/auto /etc/auto.any\n/mnt/broken file:/etc/auto.broken\n");
    put("/etc/auto.any", "* -fstype=tmpfs,size=64k :k&\n");
    fs::create_dir("/etc/auto.broken").unwrap();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    happens("source", &["file map /etc/auto.broken cannot be asked: /etc/auto.broken is a directory, not a file"]);
    let up = |text: &str| text.lines().any(|line| line == "autofs_source_up{source=\"file:/etc/auto.broken\"} 1");
    assert!(!up(&ctl(&["metrics"]).1));
    fs::remove_dir("/etc/auto.broken").unwrap();
    put("/etc/auto.broken", "* -fstype=tmpfs,size=64k :k&\n");
    assert_eq!(ctl(&["reload"]).0, 0);
    happens("source", &["file map /etc/auto.broken answers again"]);
    assert!(up(&ctl(&["metrics"]).1));
    visit::serves("/mnt/broken/a");
    daemon.stop();
}

/// A file server that is silent. The one beside it is mounted from.
#[case(seconds: 90)]
fn of_a_file_server() {
    servers::start(vec![Server::new("10.99.1.2")]);
    put("/etc/hosts", fs::read_to_string("/etc/hosts").unwrap() + "10.99.1.66 dead\n");
    put("/etc/autofs.conf", "[ autofs ]\ntimeout = 300\n");
    site::one_map("* dead,srv1:/x/&\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    happens("server", &["server 10.99.1.66 does not answer: "]);
    let all = events();
    assert!(!all.iter().any(|(_, message)| message.contains("10.99.1.2 ")), "{all:?}");
    daemon.stop();
}

/// A checkpoint is prepared, and the daemon resumes.
#[case]
fn of_a_checkpoint() {
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let state = |state: &str| {
        let line = format!("autofs_mount_point_state{{mount=\"/mnt/auto\",state=\"{state}\"}} 1");
        assert!(ctl(&["metrics"]).1.lines().any(|found| found == line), "{line}");
    };
    state("served");
    assert_eq!(ctl(&["quiesce"]).0, 0);
    state("catatonic");
    assert_eq!(ctl(&["resume"]).0, 0);
    happens("checkpoint", &["quiesced for a checkpoint, for at most 60 s"]);
    happens("checkpoint", &["resumed: 1 autofs mounts are served again, 0 are lost"]);
    state("served");
    visit::serves("/mnt/auto/a");
    daemon.stop();
}

/// A service manager is told what the daemon does, in one line.
#[case(seconds: 90)]
fn are_told_to_the_service_manager() {
    let manager = UnixDatagram::bind("/world/notify").unwrap();
    manager.set_read_timeout(Some(secs(60))).unwrap();
    let next = || {
        let mut message = [0; 4096];
        let length = manager.recv(&mut message).expect("a notification");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    // Other messages may come in between, and the same one may come again.
    let told = |line: &str| while !next().lines().any(|found| found == line) {};
    site::any_key();
    let mut command = Daemon::command();
    command.arg("--systemd-service").env("NOTIFY_SOCKET", "/world/notify");
    let mut daemon = Daemon::spawn(command);
    told("STATUS=Starting: reading configuration and maps");
    told("READY=1");
    told("STATUS=Serving 1 mount point");
    site::master("/mnt/auto /etc/auto.any\n/mnt/more /etc/auto.any\n/mnt/bad /etc/auto.any --timeout=5m\n");
    daemon.signal(Signal::SIGHUP);
    told("STATUS=Reading maps again, serving 1 mount point");
    told("STATUS=Serving 2 mount points, 1 problem: see autofsctl status");
    assert_eq!(ctl(&["quiesce"]).0, 0);
    told("STATUS=Quiesced for a checkpoint: lookups wait or fail");
    assert_eq!(ctl(&["resume"]).0, 0);
    told("STATUS=Serving 2 mount points, 1 problem: see autofsctl status");
    let worker = daemon.worker();
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    told("STATUS=Serving 2 mount points, 1 problem: see autofsctl status");
    daemon.signal(Signal::SIGTERM);
    told("STATUS=Stopping: unmounting what is unused");
    assert!(daemon.end(secs(20)).success());
}
