//! `migrate-check` reports unmet conditions of a checkpoint. Tests each condition that can be produced here.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::Value;

use crate::common::{secs, wait_for};
use crate::container::{Container, put};
use crate::host::noted;

/// A shell that has made something happen, and undoes it when its input ends.
struct Maker {
    child: Child,
    input: Option<ChildStdin>,
}

impl Maker {
    /// Runs `script` inside until it says that it is ready. `outside`: in the host's pid namespace.
    fn start(container: &Container, outside: bool, script: &str) -> Self {
        let namespaces: &[&str] = if outside { &["-m"] } else { &["-m", "-p"] };
        let mut child = Command::new("nsenter")
            .args(["-t", &container.pid.to_string()])
            .args(namespaces)
            .args(["--", "/usr/bin/setsid", "-w", "/bin/sh", "-c", &format!("exec 3>&1; {script}")])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n", "{script}");
        Self { input: child.stdin.take(), child }
    }

    fn end(mut self) {
        drop(self.input.take());
        wait_for("the end of a shell", secs(10), || self.child.try_wait().unwrap());
    }
}

/// An autofs mount of this kind at `/mnt/x`, its pipe's write end this shell's output, its owner this shell's group;
/// then `and`.
fn autofs(kind: &str, and: &str) -> String {
    format!(
        "mkdir -p /mnt/x; ( mount -i -t autofs x /mnt/x -o fd=1,pgrp=$$,minproto=5,maxproto=5,{kind} && {and} ) | cat >/dev/null"
    )
}

/// Checks which of the limits that could be in the way are.
#[track_caller]
fn only(container: &Container, id: &str, verdict: &str, what: &str) {
    let output = container.ctl(&["migrate-check"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong: Vec<&str> = text.lines().filter(|l| l.contains(" FAIL ") || l.contains(" QUIESCE ")).collect();
    let line = format!("{id:7} {verdict:7} ");
    assert!(wrong.len() == 1 && wrong[0].starts_with(&line) && wrong[0].contains(what), "{id} {what}\n{text}");
    assert_eq!(output.status.code(), Some(i32::from(verdict == "FAIL")), "{text}");
    let from = text.find(&line).unwrap();
    text[from..].lines().take(2).for_each(noted);
    // And for programs.
    let answer = String::from_utf8(container.ctl(&["--json", "migrate-check"]).stdout).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let all = answer["checks"].as_array().unwrap();
    assert!(all.iter().any(|check| check["id"] == id && check["verdict"] != "pass"), "{answer}");
}

#[track_caller]
fn none(container: &Container) {
    let report = container.order(&["migrate-check"]);
    assert!(!report.contains(" FAIL ") && !report.contains(" QUIESCE "), "{report}");
}

/// One after the other.
pub fn each_is_said() {
    put("/etc/auto.master", "/auto /etc/auto.auto --timeout=600\n/se /etc/auto.auto --timeout=600 strictexpire\n");
    put("/etc/auto.auto", "t -fstype=tmpfs :tmpfs\nslow -fstype=slow :slow\n");
    put("/sbin/mount.slow", "#!/bin/sh\nsleep 2\nexit 1\n");
    let mut container = Container::start(&[]);
    container.run(&["/bin/chmod", "755", "/sbin/mount.slow"]);
    container.serves("/auto/t");
    none(&container);
    let report = container.order(&["migrate-check"]);
    assert!(report.contains("B7      PASS    CRIU loses options of 1 autofs mounts"), "{report}");
    report.lines().for_each(noted);

    let waiting = "ls /auto/slow 2>/dev/null & echo ready; read x; wait";
    let maker = Maker::start(&container, false, waiting);
    wait_for("a waiting process", secs(2), || container.order(&["migrate-check"]).contains("D11     Q").then_some(()));
    only(&container, "D11", "QUIESCE", "ls (autofs_wait)");
    maker.end();

    let covered = "mkdir -p /srv/c; mount -t tmpfs a /srv/c; exec 9</srv/c; mount -t tmpfs b /srv/c; \
                   echo ready; read x; umount /srv/c; exec 9<&-; umount /srv/c";
    let maker = Maker::start(&container, false, covered);
    only(&container, "D12", "FAIL", "files are open below other mounts");
    maker.end();
    let left = autofs("indirect", "umount /mnt/x && echo ready >&3 && read x");
    let maker = Maker::start(&container, false, &left);
    only(&container, "D10", "FAIL", "write ends are left");
    maker.end();
    let delegated = autofs("indirect", "echo ready >&3 && read x; umount /mnt/x");
    let maker = Maker::start(&container, false, &delegated);
    only(&container, "D6", "FAIL", "another process than the group's leader serves /mnt/x");
    maker.end();
    let maker = Maker::start(&container, true, &delegated);
    only(&container, "D14", "FAIL", "served from outside: /mnt/x");
    maker.end();
    // The kernel keeps the write end, so the end of the pipe would not be seen.
    let dead = autofs("indirect", "true").replace("cat >/dev/null", ":");
    let dead = format!("setsid -w /bin/sh -c '{dead}'; echo ready; read x; umount /mnt/x");
    let maker = Maker::start(&container, false, &dead);
    only(&container, "B6", "FAIL", "nobody serves /mnt/x");
    maker.end();
    let bound = "mkdir -p /srv/copy; mount --bind /auto /srv/copy; echo ready; read x; umount /srv/copy";
    let maker = Maker::start(&container, false, bound);
    only(&container, "B3", "FAIL", "bound elsewhere: /srv/copy");
    maker.end();

    // All of it is undone, and nothing else was harmed.
    none(&container);
    container.serves("/se/t");
    container.dump(&[]);
    container.restore(&[]);
    container.serves("/auto/t");
    none(&container);

    let maker = Maker::start(&container, false, &autofs("direct", "echo ready >&3 && read x; umount -nc /mnt/x"));
    only(&container, "B4", "FAIL", "CRIU would hang at /mnt/x");
    maker.end();
    none(&container);

    // Without the device a worker can serve all the same, but nothing can be parked or restored.
    container.run(&["/bin/rm", "/dev/autofs"]);
    let keeper = container.status()["pid"].as_u64().unwrap().to_string();
    container.run(&["/bin/sh", "-c", &format!("kill -9 $(cat /proc/{keeper}/task/{keeper}/children)")]);
    container.ready();
    only(&container, "device", "FAIL", "/dev/autofs cannot be opened");
    let parked = container.ctl(&["quiesce", "--mode", "park"]);
    assert!(!parked.status.success(), "parked without the device");
    String::from_utf8_lossy(&parked.stderr).lines().for_each(noted);
    container.dump(&[]);
    assert!(container.try_restore(&[]).is_err(), "restored without the device");
}
