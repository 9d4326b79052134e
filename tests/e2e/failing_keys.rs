//! Twelve keys that fail, each for a reason of its own: `explain`, `status PATH` and `history --failed` say why, at the default log
//! level.

use std::process::{Command, Stdio};

use nix::errno::Errno;
use serde_json::Value;

use super::common::daemon::Daemon;
use super::common::suite::case;
use super::common::world::{PROGRAM, put};
use super::common::{output, secs, site, visit, wait_for};
use super::history::{ctl, json};

/// A key, and what is said of it.
struct Failing {
    key: &'static str,
    /// The place of its entry.
    place: &'static str,
    /// What the reason contains.
    reason: &'static str,
    /// The program that was run, and each line that it has written.
    ran: Option<(&'static str, &'static [&'static str])>,
    /// Whether `explain` can tell before the first access.
    is_foreseen: bool,
}

const KEYS: &[Failing] = &[
    Failing {
        key: "denied",
        place: "/etc/auto.one:1:8",
        reason: "exit status 32: failfs: access denied",
        ran: Some(("/sbin/mount.failfs", &["failfs: access denied", "failfs: check your keytab"])),
        is_foreseen: false,
    },
    Failing {
        key: "slow",
        place: "/etc/auto.one:2:6",
        reason: "ended at its deadline: slowfs: contacting server",
        ran: Some(("/sbin/mount.slowfs", &["slowfs: contacting server"])),
        is_foreseen: false,
    },
    Failing {
        key: "share",
        place: "/etc/auto.one:3:7",
        reason: "cifs",
        ran: Some((
            "/sbin/mount.cifs",
            &["mount error: cifs filesystem not supported by the system", "mount error(19): No such device"],
        )),
        is_foreseen: false,
    },
    Failing {
        key: "nohelper",
        place: "/etc/auto.one:4:10",
        reason: "unknown filesystem type nsf",
        ran: Some(("/bin/mount", &["mount: /mnt/auto/nohelper: unknown filesystem type nsf."])),
        is_foreseen: true,
    },
    Failing {
        key: "nosource",
        place: "/etc/auto.one:5:10",
        reason: "cannot open /srv/none: No such file or directory",
        ran: None,
        is_foreseen: true,
    },
    Failing {
        key: "nodevice",
        place: "/etc/auto.one:6:10",
        reason: "cannot open /dev/sdz1: No such file or directory",
        ran: None,
        is_foreseen: true,
    },
    Failing {
        key: "nohost",
        place: "/etc/auto.one:7:8",
        reason: "no address is known for nosuchhost",
        ran: None,
        is_foreseen: true,
    },
    Failing { key: "syntax", place: "/etc/auto.one:8:8", reason: "slash", ran: None, is_foreseen: true },
];

/// Waits until no address of IPv6 is tentative: the daemon forgets failed keys when the addresses change.
fn settled() {
    wait_for("the addresses", secs(10), || {
        let addresses = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
        let flags = |line: &str| line.split_whitespace().nth(4).and_then(|flags| u32::from_str_radix(flags, 16).ok());
        addresses.lines().all(|line| flags(line).is_some_and(|flags| flags & 0x40 == 0)).then_some(())
    });
}

fn site() {
    settled();
    site::mount_wait(1);
    site::master("/mnt/auto /etc/auto.one\n/- /etc/auto.direct\n/mnt/bad /etc/auto.one --timeout=tomorrow\n");
    put("/etc/auto.direct", "/mnt/auto/hidden/below -fstype=tmpfs,size=64k :below\n");
    put(
        "/etc/auto.one",
        "denied -fstype=failfs :/filer9/denied\n\
         slow -fstype=slowfs :/filer9/slow\n\
         share -fstype=cifs ://srv1/share\n\
         nohelper -fstype=nsf srv1:/x\n\
         nosource :/srv/none\n\
         nodevice -fstype=ext4 :/dev/sdz1\n\
         nohost nosuchhost:/x\n\
         syntax srv1 x :/y\n\
         hidden :/srv\n\
         good -fstype=tmpfs,size=64k :good\n",
    );
    let script = |lines: &[&str], end: &str| {
        let said: String = lines.iter().map(|line| format!("echo '{line}' >&2\n")).collect();
        format!("#!/bin/sh\n{said}{end}\n")
    };
    for failing in KEYS {
        let Some((program, lines)) = failing.ran.filter(|(program, _)| program.starts_with("/sbin/mount.")) else {
            continue;
        };
        put(program, script(lines, if failing.key == "slow" { "exec sleep 60" } else { "exit 32" }));
    }
    put("/bin/mount", script(&["mount: /mnt/auto/nohelper: unknown filesystem type nsf."], "exit 32"));
}

/// Returns the failed requests for a path, and fails if there is none.
#[track_caller]
fn failed(path: &str) -> Value {
    wait_for(&format!("a failed request for {path}"), secs(10), || {
        let history = json(&["history", "--failed", path]);
        history["requests"].as_array().unwrap().first().cloned()
    })
}

/// Returns the exit status of `explain`, and its first line.
fn explained(path: &str) -> (i32, String) {
    let (status, text) = ctl(&["explain", path]);
    (status, text.lines().next().unwrap_or_default().to_owned())
}

#[track_caller]
fn contains(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
}

/// Keys that are asked for and fail.
#[case(seconds: 120)]
fn say_why_after_an_access() {
    site();
    let mut daemon = Daemon::start(["-f"]);
    daemon.ready(&["/mnt/auto", "/mnt/auto/hidden/below"]);
    for Failing { key, place, reason, ran, is_foreseen } in KEYS {
        let path = format!("/mnt/auto/{key}");
        let (status, line) = explained(&path);
        assert_eq!(status == 1, *is_foreseen, "{line}");
        visit::refuses(&path, Errno::ENOENT);
        let request = failed(&path);
        let line = explained(&path);
        assert_eq!(line.0, 1, "{line:?}");
        contains(&line.1, &[reason, "failed a short while ago"]);
        assert_eq!((&request["place"], &request["errno"]), (&(*place).into(), &"ENOENT".into()), "{request}");
        contains(request["reason"].as_str().unwrap(), &[reason]);
        assert!(request["for"]["pid"].as_u64().unwrap() > 0 && request["for"]["comm"].is_string(), "{request}");
        let (status, text) = ctl(&["status", &path]);
        assert_eq!(status, 1, "{text}");
        contains(&text, &["  failed ", "  answers  ENOENT for ", "  asked by ", &format!("  line     {place}  ")]);
        match ran {
            Some((program, lines)) => {
                let run = &request["runs"][0];
                assert_eq!(run["command"][0], *program, "{request}");
                contains(&text, &[&format!("ran {program} ")]);
                for line in *lines {
                    contains(run["stderr"].as_str().unwrap(), &[&format!("{line}\n")]);
                    contains(&text, &[&format!("| {line}\n")]);
                }
            }
            None => contains(&text, &["  why      ", reason]),
        }
    }
    daemon.stop();
}

/// A key that no map has, asked for again while it is in the negative cache.
#[case]
fn say_why_of_a_missing_key() {
    site();
    let mut daemon = Daemon::start(["-f"]);
    daemon.ready(&["/mnt/auto"]);
    let path = "/mnt/auto/nobody";
    assert_eq!(explained(path), (1, format!("{path}: no map has this key")));
    visit::refuses(path, Errno::ENOENT);
    // The map has it by now, and an access fails still.
    put("/etc/auto.one", "nobody -fstype=tmpfs :x\n");
    visit::refuses(path, Errno::ENOENT);
    let request = failed(path);
    assert_eq!(request["reason"], "no map has this key", "{request}");
    let (status, line) = explained(path);
    assert_eq!(status, 1, "{line}");
    contains(&line, &["failed a short while ago, fails for ", "s more: no map has this key"]);
    let (status, text) = ctl(&["status", path]);
    assert_eq!(status, 1);
    contains(
        &text,
        &["  answers  ENOENT for ", "  asked by ", "  map      /etc/auto.one, of /mnt/auto\n", "no map has this key"],
    );
    daemon.stop();
}

/// Keys that the daemon is never asked for: a direct mount below the key, and a refused line of the master map.
#[case]
fn say_why_the_daemon_is_not_asked() {
    site();
    let mut daemon = Daemon::start(["-f"]);
    daemon.ready(&["/mnt/auto", "/mnt/auto/hidden/below"]);
    let path = "/mnt/auto/hidden";
    assert_eq!(visit::list(path), ["below"]);
    let why = "hidden: /mnt/auto/hidden/below makes /mnt/auto/hidden a plain directory";
    assert_eq!(explained(path), (1, format!("{path}: {why}")));
    assert_eq!(json(&["explain", path])["answer_place"]["line"], 1);
    let (status, text) = ctl(&["status", path]);
    assert_eq!(status, 1, "{text}");
    contains(&text, &["an access does not ask the map", &format!("{why} (/etc/auto.direct:1:1)")]);
    let status = json(&["status", path]);
    assert_eq!(status["state"], "hidden", "{status}");

    let path = "/mnt/bad/x";
    let why = "/mnt/bad/x: /mnt/bad is not served: invalid timeout \"tomorrow\"";
    for verb in ["explain", "status"] {
        let (status, text) = ctl(&[verb, path]);
        assert!(status == 1 && text.starts_with(why), "{verb}: {text}");
        contains(&text, &["/etc/auto.master:3:"]);
    }
    let refused = json(&["history", "--failed", path]);
    contains(&refused.to_string(), &["/etc/auto.master:3:", "invalid timeout", "\"refused\""]);
    daemon.stop();
}

/// A blocked key, before it is mounted and while it is in use.
#[case]
fn say_that_a_key_is_blocked() {
    site();
    let mut daemon = Daemon::start(["-f"]);
    daemon.ready(&["/mnt/auto"]);
    let path = "/mnt/auto/good";
    assert_eq!(ctl(&["block", path, "--say", "moved"]).0, 0);
    visit::refuses(path, Errno::EACCES);
    assert_eq!(explained(path), (1, format!("{path}: blocked: moved")));
    let (status, text) = ctl(&["status", path]);
    assert_eq!(status, 1, "{text}");
    contains(&text, &[&format!("{path}  not mounted; an access fails\n"), "  why      blocked: moved\n"]);
    assert_eq!(json(&["status", path])["state"], "blocked");
    assert_eq!(ctl(&["unblock", path]).0, 0);
    visit::serves(path);
    let held = std::fs::File::open(path).unwrap();
    assert_eq!(ctl(&["block", path, "--say", "moved"]).0, 0);
    visit::serves(path);
    assert_eq!(explained(path), (0, format!("{path}: mounted")));
    assert_eq!(json(&["status", path])["state"], "mounted");
    drop(held);
    daemon.stop();
}

/// While the daemon is parked for a checkpoint, nothing is mounted.
#[case]
fn say_that_the_daemon_is_parked() {
    site::one_map("good -fstype=tmpfs,size=64k :good\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let path = "/mnt/auto/good";
    assert_eq!(ctl(&["quiesce"]).0, 0);
    let said = visit::enter(path);
    assert!(said.is_err(), "{:?}", ctl(&["status"]));
    let (status, line) = explained(path);
    assert_eq!(status, 1, "{line}");
    contains(&line, &["the daemon is parked for a checkpoint"]);
    assert_eq!(json(&["status", path])["state"], "blocked");
    assert_eq!(ctl(&["resume"]).0, 0);
    visit::serves(path);
    assert_eq!(explained(path), (0, format!("{path}: mounted")));
    daemon.stop();
}

/// A map file that is gone, while what it said before is served.
#[case]
fn say_that_a_map_is_gone() {
    site::master("/mnt/auto /etc/auto.one\n");
    put("/etc/auto.one", "good -fstype=tmpfs,size=64k :good\n");
    let mut daemon = Daemon::start(["-f"]);
    daemon.ready(&["/mnt/auto"]);
    std::fs::remove_file("/etc/auto.one").unwrap();
    let why = "file map /etc/auto.one missing or not readable; what it said before stays in force";
    let (status, text) = ctl(&["reload"]);
    assert_eq!(status, 1, "{text}");
    contains(&text, &["! /mnt/auto", why]);
    contains(&ctl(&["status"]).1, &["NOT SERVED", why]);
    visit::serves("/mnt/auto/good");
    put("/etc/auto.one", "good -fstype=tmpfs,size=64k :good\n");
    assert_eq!(ctl(&["reload"]).0, 0);
    assert!(!ctl(&["status"]).1.contains("NOT SERVED"));
    daemon.stop();
}

/// The moment in which a worker is replaced is no end of the daemon.
#[case]
fn say_nothing_wrong_while_a_worker_is_replaced() {
    site();
    let mut daemon = Daemon::start(["-f"]);
    daemon.ready(&["/mnt/auto"]);
    for _ in 0..5 {
        let worker = daemon.worker();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker), nix::sys::signal::Signal::SIGKILL).unwrap();
        wait_for("the end of the worker", secs(10), || (daemon.worker() != worker).then_some(()));
        let (status, text) = ctl(&["ping"]);
        assert_eq!(status, 0, "{text}");
    }
    daemon.stop();
}

/// A process whose mount namespace gets no mounts of the daemon.
#[case]
fn say_why_in_a_private_mount_namespace() {
    site();
    let mut daemon = Daemon::start(["-f"]);
    daemon.ready(&["/mnt/auto"]);
    let path = "/mnt/auto/good";
    let inside = |command: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation", "private"]).args(command).stdin(Stdio::null());
        let said = output(&mut unshare, secs(15)).expect("an answer");
        (said.status.code().unwrap(), String::from_utf8_lossy(&said.stdout).into_owned())
    };
    assert_eq!(explained(path).0, 0);
    let (status, text) = inside(&["autofsctl", "explain", path]);
    let why = "/mnt/auto is private in the mount namespace of this process: what is mounted there does not reach it";
    assert!(status == 1 && text.starts_with(&format!("{path}: {why}")), "{text}");
    // Another copy of the mount namespace would have what is mounted by then, so all of it is done in one.
    let script = format!(
        "{PROGRAM} --visit {path}; echo visit $?; autofsctl explain {path}; echo explain $?; autofsctl status {path}; echo status $?"
    );
    let (_, text) = inside(&["sh", "-c", &script]);
    contains(&text, &[&format!("visit {}\n", Errno::ELOOP as i32), "explain 1\n", "status 1\n"]);
    assert_eq!(text.matches(why).count(), 2, "{text}");
    let request = failed(path);
    assert_eq!(request["errno"], "ELOOP");
    assert_eq!(request["reason"], "it is mounted, but not in the mount namespace of the requester");
    // For other processes it is mounted.
    assert_eq!(explained(path), (0, format!("{path}: mounted")));
    let (status, text) = ctl(&["status", path]);
    assert_eq!(status, 0);
    contains(&text, &["  failed   with ELOOP", "not in the mount namespace of the requester", "  asked by "]);
    daemon.stop();
}
