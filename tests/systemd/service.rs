//! The service in the machine: systemctl, its log, its maps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;

use crate::common::daemon::{group, stat};
use crate::common::world::put;
use crate::common::{output, secs, table, visit, wait_for};

/// The unit.
pub const UNIT: &str = "autofs.service";

/// How long a job of systemd may take.
const JOB: Duration = secs(30);

/// Runs a program, which must succeed; what it has printed.
#[track_caller]
pub fn run(program: &str, words: &[&str]) -> String {
    let output = output(Command::new(program).args(words), JOB);
    let output = output.unwrap_or_else(|| panic!("not finished after {JOB:?}: {program} {words:?}"));
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program} {words:?}: {}\n{said}", output.status);
    said
}

/// Runs systemctl.
#[track_caller]
pub fn ctl(words: &[&str]) -> String {
    run("systemctl", &[&["--no-pager"], words].concat())
}

/// A property of the unit.
#[track_caller]
pub fn property(name: &str) -> String {
    ctl(&["show", "--property", name, "--value", UNIT]).trim().to_owned()
}

/// All that the unit has logged, and systemd about it.
#[track_caller]
pub fn journal() -> String {
    run("journalctl", &["--no-pager", "--output=cat", "--unit", UNIT])
}

/// Waits until the log says this.
#[track_caller]
pub fn says(text: &str) {
    wait_for(&format!("{text:?} in the log"), secs(10), || journal().contains(text).then_some(()));
}

/// State, log and mount table, for messages.
pub fn shown() -> String {
    let said = |program: &str, words: &[&str]| {
        let output = output(Command::new(program).args(words), secs(10));
        output.map_or_else(String::new, |o| String::from_utf8_lossy(&o.stdout).into_owned())
    };
    let ours = |m: &table::Mounted| ["/auto", "/few", "/d", "/more"].iter().any(|at| m.target.starts_with(at));
    let table = table::read().into_iter().filter(ours);
    let table = table.map(|m| format!("{} {} {}\n", m.target.display(), m.fstype, m.options));
    [
        said("systemctl", &["--no-pager", "--lines=0", "status", UNIT]),
        said("journalctl", &["--no-pager", "--output=short-precise", "--unit", UNIT]),
        table.collect(),
    ]
    .concat()
}

/// The main process, as systemd knows it.
#[track_caller]
pub fn main_pid() -> i32 {
    property("MainPID").parse().unwrap()
}

/// The process that does the work: the main process' child in its group.
#[track_caller]
pub fn worker(keeper: i32) -> i32 {
    wait_for("a worker", secs(10), || group(keeper).into_iter().find(|p| stat(*p).is_some_and(|s| s.parent == keeper)))
}

/// Active, with this main process, which leads its group and is the owner of the autofs mounts.
#[track_caller]
pub fn is_active(pid: i32) {
    let states = ["ActiveState", "SubState", "MainPID"].map(property);
    assert_eq!(states, ["active".to_owned(), "running".to_owned(), pid.to_string()]);
    assert_eq!(stat(pid).map(|s| (s.parent, s.pgrp)), Some((1, pid)));
    for path in ["/auto", "/few"] {
        let mount = table::autofs(path).unwrap_or_else(|| panic!("no autofs at {path}"));
        assert_eq!(mount.option("pgrp"), Some(pid.to_string().as_str()), "{path}");
    }
}

/// Writes maps with a wildcard, multi-mounts, an exact key alone, and direct keys.
pub fn maps() {
    master("");
    put(
        "/etc/auto.auto",
        "tree / -fstype=tmpfs :tmpfs /a -fstype=tmpfs :tmpfs /a/b -fstype=tmpfs :tmpfs\n\
         split /x/y -fstype=tmpfs :tmpfs /z -fstype=tmpfs :tmpfs\n* -fstype=tmpfs :tmpfs\n",
    );
    put("/etc/auto.few", "one -fstype=tmpfs :tmpfs\n");
    put("/etc/auto.direct", "/d/one -fstype=tmpfs :tmpfs\n/d/two -fstype=tmpfs :tmpfs\n");
}

/// The master map, with more lines.
pub fn master(more: &str) {
    let lines = "/auto /etc/auto.auto --timeout=600\n/few /etc/auto.few --timeout=600\n/- /etc/auto.direct\n";
    put("/etc/auto.master", format!("{lines}{more}"));
}

/// Starts the service on [`maps`]; its main process.
#[track_caller]
pub fn start() -> i32 {
    maps();
    ctl(&["start", UNIT]);
    let pid = main_pid();
    is_active(pid);
    pid
}

/// One of each kind that is mounted.
const USED: [&str; 7] =
    ["/auto/held", "/auto/tree", "/auto/tree/a", "/auto/tree/a/b", "/auto/split/x/y", "/few/one", "/d/one"];

/// What uses the mounts of [`USED`].
pub struct Users(Vec<Child>);

impl Users {
    /// Mounts one of each kind and has a process in each.
    #[track_caller]
    pub fn begin() -> Self {
        let mut users = Vec::new();
        for path in USED {
            visit::serves(path);
            let mut command = Command::new("sleep");
            users.push(command.arg("600").current_dir(path).stdin(Stdio::null()).spawn().unwrap());
        }
        Self(users)
    }

    /// All live.
    #[track_caller]
    pub fn live(&mut self) {
        for user in &mut self.0 {
            assert!(user.try_wait().unwrap().is_none(), "a user of a mount has been ended");
        }
    }

    /// Checks a restart: the main process serves, the mounts in use are the ones in `ids` still, and new lookups are
    /// answered. `round` makes the keys of the lookups new ones.
    #[track_caller]
    pub fn are_served_as_before(&mut self, main_pid: i32, ids: &BTreeMap<PathBuf, u32>, round: u32) {
        is_active(main_pid);
        assert_eq!(self::ids(), *ids);
        self.live();
        visit::serves(format!("/auto/new{round}"));
        visit::serves("/auto/split/z");
        visit::serves("/d/two");
        visit::refuses(format!("/few/none{round}"), Errno::ENOENT);
    }

    /// They end.
    pub fn end(mut self) {
        for user in &mut self.0 {
            _ = user.kill();
            _ = user.wait();
        }
    }
}

/// Mount ids of [`USED`].
#[track_caller]
pub fn ids() -> BTreeMap<PathBuf, u32> {
    let used = |m: &table::Mounted| m.fstype == "tmpfs" && USED.iter().any(|path| m.target == Path::new(path));
    let ids: BTreeMap<_, _> = table::read().into_iter().filter(used).map(|m| (m.target, m.id)).collect();
    assert_eq!(ids.len(), USED.len(), "{ids:?}");
    ids
}
