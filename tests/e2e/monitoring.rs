//! Watching the daemon: events as they happen, counters, health.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::common::daemon::Daemon;
use super::common::suite::case;
use super::common::world::put;
use super::common::{output, secs, site, visit, wait_for};
use super::history::{ctl, json};

/// A program that runs until it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// The lines of `autofsctl monitor --json`.
fn monitor() -> (Running, impl Iterator<Item = Value>) {
    let mut command = Command::new("autofsctl");
    let mut child = command.args(["monitor", "--json"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (Running(child), lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()))
}

/// Requests and a killed worker, each on a line when it happens.
#[case]
fn lines_as_it_happens() {
    site::one_map("good -fstype=tmpfs,size=64k :good\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/good");
    let before = wait_for("the first request", secs(10), || {
        let history = json(&["history"]);
        (history["counted"] == 1).then_some(history)
    });
    assert_eq!(before["failed"], 0);
    let (_running, mut lines) = monitor();
    // What it asks for at first is where it begins.
    std::thread::sleep(secs(1));
    visit::refuses("/mnt/auto/nokey", nix::errno::Errno::ENOENT);
    let line = lines.next().unwrap();
    assert_eq!((&line["request"]["path"], &line["request"]["errno"]), (&"/mnt/auto/nokey".into(), &"ENOENT".into()));
    let worker = daemon.worker();
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    let line = lines.next().unwrap();
    assert_eq!(line["event"]["kind"], "worker_died", "{line}");
    daemon.stop();
}

/// A reader that stops is told how many requests it has missed. The first answer may wait for it with up to a thousand.
#[case(seconds: 120)]
fn a_slow_reader_loses_events() {
    const COUNT: u64 = 2400;
    site::any_key();
    let last = format!("/mnt/auto/{}", COUNT - 1);
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/first");
    let (running, mut lines) = monitor();
    std::thread::sleep(secs(1));
    let pid = Pid::from_raw(running.0.id().try_into().unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    for n in 0..COUNT {
        visit::enter_now(format!("/mnt/auto/{n}").as_ref()).unwrap();
    }
    wait_for("the last request", secs(20), || (json(&["history", &last])["counted"] == 1).then_some(()));
    kill(pid, Signal::SIGCONT).unwrap();
    let (mut seen, mut lost) = (0, 0);
    while seen + lost < COUNT {
        let line = lines.next().unwrap();
        lost += line["lost"].as_u64().unwrap_or(0);
        seen += u64::from(line["request"].is_object());
    }
    assert!(lost > 0 && seen + lost == COUNT, "{seen} seen, {lost} lost");
    daemon.stop();
}

/// What counters a daemon has after some requests.
fn counted() -> Daemon {
    put("/sbin/mount.failfs", "#!/bin/sh\nexit 32\n");
    site::one_map("good -fstype=tmpfs,size=64k :good\nother -fstype=tmpfs,size=64k :o\nbad -fstype=failfs :bad\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    for key in ["good", "other"] {
        visit::serves(format!("/mnt/auto/{key}"));
    }
    for key in ["bad", "bad", "nokey", "nokey", "nokey"] {
        visit::refuses(format!("/mnt/auto/{key}"), nix::errno::Errno::ENOENT);
    }
    assert_eq!(ctl(&["expire", "/mnt/auto"]).0, 0);
    wait_for("nine requests", secs(10), || (json(&["history"])["counted"] == 9).then_some(()));
    daemon
}

/// Counters are those of the history, go on after a killed worker, and name no key.
#[case]
fn metrics_are_what_the_history_counts() {
    let daemon = counted();
    let check = |restarts: u32| {
        let (code, text) = ctl(&["metrics"]);
        assert_eq!(code, 0);
        let restarts = format!("autofs_worker_restarts_total {restarts}");
        for line in [
            "autofs_up 1",
            r#"autofs_requests_total{mount="/mnt/auto",result="mounted"} 2"#,
            r#"autofs_requests_total{mount="/mnt/auto",result="failed"} 5"#,
            r#"autofs_expired_total{mount="/mnt/auto"} 2"#,
            r#"autofs_request_seconds_count{mount="/mnt/auto"} 7"#,
            "autofs_last_reload_success 1",
            r#"autofs_source_up{source="file:/etc/auto.one"} 1"#,
            r#"autofs_source_errors_total{source="file:/etc/auto.one"} 0"#,
            r#"autofs_mount_point_state{mount="/mnt/auto",state="served"} 1"#,
            r#"autofs_catatonic_mounts 0"#,
            restarts.as_str(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        let hits = text
            .lines()
            .find_map(|line| line.strip_prefix(r#"autofs_source_cache_hits_total{source="file:/etc/auto.one"} "#));
        // The workers after the first one have answered nothing.
        assert!(hits.is_some_and(|hits| restarts.ends_with('1') || hits.parse::<u64>().unwrap() > 0), "{text}");
        assert!(text.ends_with("# EOF\n") && !text.contains("nokey") && !text.contains("good"), "{text}");
    };
    check(0);
    let failed = json(&["history", "--failed"]);
    assert_eq!(failed["failed"], 5, "{failed}");
    let worker = daemon.worker();
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    wait_for("another worker", secs(10), || (daemon.worker() != worker && ctl(&["ping"]).0 == 0).then_some(()));
    check(1);
    std::fs::remove_file("/etc/auto.master").unwrap();
    assert_eq!(ctl(&["reload"]).0, 5);
    let (_, text) = ctl(&["metrics"]);
    assert!(text.lines().any(|line| line == "autofs_last_reload_success 0"), "{text}");
    daemon.stop();
}

/// By HTTP, from a process without privileges.
#[case]
fn metrics_are_served_by_a_process_without_privileges() {
    let daemon = counted();
    let mut command = Command::new("autofsctl");
    command.args(["metrics", "--listen", "127.0.0.1:9810"]).uid(65534).gid(65534);
    let _running = Running(command.stdin(Stdio::null()).spawn().unwrap());
    let get = |request: &str| {
        let mut stream = wait_for("the server", secs(10), || TcpStream::connect("127.0.0.1:9810").ok());
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = get("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("# EOF\n"), "{answer}");
    assert!(answer.contains("autofs_requests_total{mount=\"/mnt/auto\",result=\"failed\"} 5\n"), "{answer}");
    assert!(get("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
    daemon.kill();
    assert!(get("GET /metrics HTTP/1.1\r\n\r\n").contains("\nautofs_up 0\n"));
}

/// Why the parser of the Prometheus client is not to be had, if so.
fn no_parser() -> Option<&'static str> {
    let found = Command::new("python3").args(["-c", "import prometheus_client.openmetrics.parser"]).output();
    (!found.is_ok_and(|found| found.status.success())).then_some("needs python3 with prometheus_client")
}

/// As the parser of the Prometheus client reads them.
#[case(lacking: no_parser)]
fn metrics_are_valid_openmetrics() {
    let daemon = counted();
    let (_, text) = ctl(&["metrics"]);
    put("/tmp/metrics", text);
    let mut command = Command::new("python3");
    command.args([
        "-c",
        "import sys\nfrom prometheus_client.openmetrics import parser\n\
         for family in parser.text_string_to_metric_families(open('/tmp/metrics').read()):\n\
         \x20   for s in family.samples: print(s.name, s.labels.get('result', ''), s.value)\n",
    ]);
    let said = output(&mut command, secs(30)).expect("an answer of the parser");
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success() && text.contains("autofs_requests_total failed 5"), "{said:?}");
    daemon.stop();
}

/// Whether all is served, as an exit status.
#[case]
fn health_is_an_exit_status() {
    assert_eq!(ctl(&["health", "--live"]).0, 3);
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    wait_for("readiness", secs(10), || (ctl(&["health"]).0 == 0).then_some(()));
    assert_eq!(ctl(&["health", "--live"]).0, 0);
    let (code, text) = ctl(&["health", "--ready"]);
    assert!(code == 0 && text.starts_with("ready: 1 of 1 mount points served"), "{text}");
    daemon.stop();
    let none: Option<&str> = None;
    std::fs::create_dir_all("/mnt/taken").unwrap();
    nix::mount::mount(none, "/mnt/taken", Some("tmpfs"), nix::mount::MsFlags::empty(), none).unwrap();
    site::master("/mnt/auto /etc/auto.any\n/mnt/taken /etc/auto.any\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let text = wait_for("the mount point that is not served", secs(10), || {
        let (code, text) = ctl(&["health"]);
        (code == 1 && text.contains("/mnt/taken")).then_some(text)
    });
    assert!(text.starts_with("not ready: 1 of 2 mount points served"), "{text}");
    daemon.stop();
}
