//! Daemons with names, `autofs@NAME.service`, beside the one without.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::daemon::stat;
use crate::common::suite::case;
use crate::common::world::put;
use crate::common::{output, secs, table, visit, wait_for};
use crate::package::{self, BUILT};
use crate::service::{self, ctl, run};
use crate::upgrade::{self, is_installed};

/// Units, with a mount point of each.
const UNITS: [(&str, &str); 3] =
    [("autofs.service", "/auto"), ("autofs@one.service", "/site/one"), ("autofs@two-b.service", "/site/two-b")];

/// Writes the maps. The master map of each unit has another line if `more`.
fn maps(more: bool) {
    service::maps();
    put("/etc/auto.any", "* -fstype=tmpfs :tmpfs\n");
    put("/etc/default/autofs@one", "OPTIONS=--verbose\n");
    for (unit, path) in UNITS {
        let more = if more { format!("/more{path} /etc/auto.any\n") } else { String::new() };
        match unit.strip_prefix("autofs@").and_then(|unit| unit.strip_suffix(".service")) {
            Some(name) => put(&format!("/etc/auto.master@{name}"), format!("{path} /etc/auto.any -t 600\n{more}")),
            None => service::master(&more),
        }
    }
}

#[track_caller]
fn property(unit: &str, name: &str) -> String {
    ctl(&["show", "--property", name, "--value", unit]).trim().to_owned()
}

#[track_caller]
fn pid(unit: &str) -> i32 {
    property(unit, "MainPID").parse().unwrap()
}

/// A unit that serves, with a mount in use.
struct Served {
    unit: &'static str,
    path: &'static str,
    pid: i32,
    worker: i32,
    mount: u32,
    user: Child,
}

impl Served {
    /// Uses a mount of a unit that runs.
    #[track_caller]
    fn begin((unit, path): (&'static str, &'static str)) -> Self {
        let held = format!("{path}/held");
        visit::serves(&held);
        let user = Command::new("sleep").arg("600").current_dir(&held).stdin(Stdio::null()).spawn().unwrap();
        let pid = pid(unit);
        Self { unit, path, pid, worker: service::worker(pid), mount: mount(&held), user }
    }

    /// Checks that it serves as it did, by the same processes and with the same mount in use.
    #[track_caller]
    fn is_untouched(&mut self, after: &str) {
        assert_eq!((pid(self.unit), service::worker(self.pid)), (self.pid, self.worker), "{}: {after}", self.unit);
        self.serves(after);
    }

    /// Checks that it serves, with the same mount in use.
    #[track_caller]
    fn serves(&mut self, after: &str) {
        let &mut Self { unit, path, .. } = self;
        assert_eq!(property(unit, "ActiveState"), "active", "{unit}: {after}");
        let owner = table::autofs(path).map(|m| m.option("pgrp").unwrap().to_owned());
        assert_eq!(owner, Some(pid(unit).to_string()), "{unit}: {after}");
        visit::serves(format!("{path}/{}", after.replace(' ', "-")));
        self.is_held(after);
    }

    /// Checks that the mount in use is there.
    #[track_caller]
    fn is_held(&mut self, after: &str) {
        assert_eq!(mount(&format!("{}/held", self.path)), self.mount, "{}: {after}", self.unit);
        assert!(self.user.try_wait().unwrap().is_none(), "{}: {after}: the user of a mount has ended", self.unit);
    }

    /// Takes the processes of now as the ones that are to serve.
    #[track_caller]
    fn is_replaced(&mut self, after: &str) {
        let new = pid(self.unit);
        assert_ne!(new, self.pid, "{}: {after}", self.unit);
        (self.pid, self.worker) = (new, service::worker(new));
        self.serves(after);
    }

    /// The mount is not used any more.
    fn release(&mut self) {
        self.user.kill().unwrap();
        self.user.wait().unwrap();
    }
}

/// Returns the id of what is mounted at the path.
#[track_caller]
fn mount(path: &str) -> u32 {
    table::read().into_iter().rfind(|m| m.target == Path::new(path)).unwrap().id
}

/// Whatever happens to one of three daemons, the others' processes and mounts stay, and it takes its own over again.
#[case(seconds: 120)]
fn what_happens_to_one_leaves_the_others_alone() {
    maps(false);
    for (unit, _) in UNITS {
        ctl(&["start", unit]);
    }
    let mut all = UNITS.map(Served::begin);
    let command = fs::read(format!("/proc/{}/cmdline", all[1].pid)).unwrap();
    assert!(String::from_utf8(command).unwrap().contains("\0--verbose\0"), "its own file with options");
    maps(true);
    for n in 0..all.len() {
        let (unit, path) = UNITS[n];
        let more = format!("/more{path}");
        let others = |all: &mut [Served; 3], after: &str| {
            for (_, other) in all.iter_mut().enumerate().filter(|(other, _)| *other != n) {
                other.is_untouched(after);
            }
        };
        ctl(&["reload", unit]);
        wait_for(&more, secs(10), || table::autofs(&more).map(drop));
        assert_eq!(UNITS[n + 1..].iter().find(|(_, path)| table::autofs(format!("/more{path}")).is_some()), None);
        all[n].is_untouched(&format!("reload {n}"));
        others(&mut all, &format!("reload {n}"));

        ctl(&["restart", unit]);
        all[n].is_replaced(&format!("restart {n}"));
        others(&mut all, &format!("restart {n}"));

        ctl(&["stop", unit]);
        assert_eq!(["ActiveState", "Result"].map(|name| property(unit, name)), ["inactive", "success"]);
        assert!(stat(all[n].pid).is_none() && table::autofs(&more).is_none());
        all[n].is_held("stop");
        others(&mut all, &format!("stop {n}"));
        ctl(&["start", unit]);
        all[n].is_replaced(&format!("start {n}"));
        others(&mut all, &format!("start {n}"));

        crate::crash::kill(all[n].pid);
        wait_for("the restart by systemd", secs(20), || {
            (property(unit, "NRestarts") == "1" && property(unit, "ActiveState") == "active").then_some(())
        });
        all[n].is_replaced(&format!("crash {n}"));
        others(&mut all, &format!("crash {n}"));
    }
    for served in &mut all {
        served.release();
    }
    for (unit, path) in UNITS {
        ctl(&["stop", unit]);
        assert_eq!(table::below(path), [], "{unit}");
    }
}

/// A pattern reaches those that run, as docs/PACKAGING.md has it for packages without scripts of their own.
#[case]
fn a_reload_of_all_takes_a_new_program() {
    maps(false);
    ctl(&["start", UNITS[0].0, UNITS[1].0]);
    let mut all = [UNITS[0], UNITS[1]].map(Served::begin);
    upgrade::replace(&fs::read(upgrade::PROGRAM).unwrap());
    ctl(&["reload", "autofs@*.service"]);
    all[0].is_untouched("reload");
    assert!(!is_installed(all[0].pid));
    is_upgraded(&mut all[1], "reload");
    assert_eq!(property(UNITS[2].0, "ActiveState"), "inactive");
    for served in &mut all {
        served.release();
    }
}

/// Waits until both processes are of the program that is installed, under the main process' old pid.
#[track_caller]
fn is_upgraded(served: &mut Served, after: &str) {
    assert_eq!(pid(served.unit), served.pid, "{}: {after}", served.unit);
    wait_for("the new program", secs(10), || is_installed(served.pid).then_some(()));
    let old = served.worker;
    served.worker = wait_for("its worker", secs(10), || Some(service::worker(served.pid)).filter(|new| *new != old));
    assert!(is_installed(served.worker), "{}: {after}", served.unit);
    served.serves(after);
}

#[case(lacking: package::lacking, seconds: 180)]
fn the_package_upgrades_and_stops_them_too() {
    package::bare();
    maps(false);
    package::install(BUILT);
    ctl(&["start", UNITS[1].0]);
    let mut all = [UNITS[0], UNITS[1]].map(Served::begin);
    for (after, file) in [("upgrade", package::package("2.0", |_| ()).as_str()), ("downgrade", BUILT)] {
        package::install(file);
        for served in &mut all {
            is_upgraded(served, after);
        }
        assert_eq!(property(UNITS[2].0, "ActiveState"), "inactive", "one that was stopped stays so");
    }
    let broken = package::package("3.0", |dir| {
        fs::write(dir.join(&upgrade::PROGRAM[1..]), "#!/bin/sh\nexit 1\n").unwrap();
    });
    let said = package::install(&broken);
    assert!(said.contains("autofs@one.service: the new program did not take over"), "{said}");
    for served in &mut all {
        served.is_untouched("broken");
    }
    // policy-rc.d is asked for each unit.
    put("/usr/sbin/policy-rc.d", "#!/bin/sh\n[ \"$1\" != autofs@one.service ] || exit 101\n");
    fs::set_permissions("/usr/sbin/policy-rc.d", fs::Permissions::from_mode(0o755)).unwrap();
    package::install(&package::package("4.0", |_| ()));
    is_upgraded(&mut all[0], "policy");
    all[1].is_untouched("policy");
    fs::remove_file("/usr/sbin/policy-rc.d").unwrap();
    let failing = package::package("5.0", |dir| {
        let path = dir.join("DEBIAN/prerm");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text + "exit 1\n").unwrap();
    });
    package::install(&failing);
    for served in &mut all {
        is_upgraded(served, "repair");
    }
    // A removal that fails starts again what it has stopped, and nothing else.
    let removal = output(Command::new("dpkg").args(["--remove", "autofs-rs"]), secs(60)).unwrap();
    assert!(!removal.status.success());
    for served in &mut all {
        served.is_replaced("removal");
        served.release();
    }
    assert_eq!(property(UNITS[2].0, "ActiveState"), "inactive");
    package::install(BUILT);
    package::dpkg(&["--remove", "autofs-rs"]);
    for served in &all {
        assert_ne!(property(served.unit, "ActiveState"), "active", "{}", served.unit);
        assert!(stat(served.pid).is_none(), "{}", served.unit);
        assert_eq!(table::below(served.path), [], "{}", served.unit);
    }
    assert_eq!(run("dpkg", &["--audit"]), "");
}
