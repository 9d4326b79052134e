//! The control socket under users who do not behave, and what its JSON documents look like.

use std::fs;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;

use super::common::daemon::Daemon;
use super::common::flood::Flood;
use super::common::suite::case;
use super::common::world::put;
use super::common::{output, secs, site, table, visit, wait_for};
use super::steer::failing;

const SOCKET: &str = "/run/autofs/control";

/// Returns the exit status of `autofsctl health`, run by a user, and what it prints.
fn health_of(uid: u32) -> (Option<i32>, String) {
    let mut command = Command::new("autofsctl");
    command.arg("health").uid(uid).gid(uid);
    let said = output(&mut command, secs(1)).expect("an answer at once");
    let text = [said.stdout, said.stderr].concat();
    (said.status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// Lookups go on, other users and root get answers, and only the user who floods is refused.
#[case]
fn a_thousand_connections_of_one_user() {
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let flood = Flood::start(SOCKET, 1000);
    for n in 0..100 {
        visit::serves(format!("/mnt/auto/{n}"));
        if n % 20 == 0 {
            for uid in [0, 1001] {
                let (code, said) = health_of(uid);
                assert_eq!(code, Some(0), "uid {uid}: {said}");
            }
        }
    }
    let refused = wait_for("a refusal", secs(10), || {
        let (code, said) = health_of(1000);
        (code == Some(5)).then_some(said)
    });
    assert!(refused.contains("too many connections are open"), "{refused}");
    drop(flood);
    wait_for("room for the user again", secs(10), || (health_of(1000).0 == Some(0)).then_some(()));
    assert_eq!(table::below("/mnt/auto").len(), 101);
    daemon.stop();
}

/// Returns whether the daemon answers autofsctl.
fn answers() -> Option<()> {
    let said = output(Command::new("autofsctl").arg("ping"), secs(5))?;
    said.status.success().then_some(())
}

/// Where the control socket cannot be created at the start, keys are served, and it is created when that is possible. A socket
/// that was removed is created again by a reload.
#[case]
fn the_control_socket_comes_back() {
    site::any_key();
    fs::create_dir_all("/run/autofs").unwrap();
    mount(Some("none"), "/run/autofs", Some("tmpfs"), MsFlags::MS_RDONLY, None::<&str>).unwrap();
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/one");
    daemon.says("no control socket /run/autofs/control: Read-only file system");
    assert_eq!(answers(), None);
    mount(None::<&str>, "/run/autofs", None::<&str>, MsFlags::MS_REMOUNT, None::<&str>).unwrap();
    wait_for("an answer", secs(20), answers);

    fs::remove_file(SOCKET).unwrap();
    assert_eq!(answers(), None);
    daemon.signal(Signal::SIGHUP);
    wait_for("an answer after the reload", secs(10), answers);
    assert_eq!(daemon.log().matches("no control socket").count(), 1);
    daemon.stop();
    assert!(!fs::exists(SOCKET).unwrap());
}

/// Checks documents, one per line of standard input, against the schema in the file of the first argument.
const VALIDATE: &str = "
import json, sys, jsonschema
validator = jsonschema.Draft202012Validator(json.load(open(sys.argv[1])))
for line in sys.stdin:
    command, text = json.loads(line)
    for error in validator.iter_errors(json.loads(text)):
        sys.exit('%s: %s\\n%s' % (command, error.message, text))
";

fn lacks_jsonschema() -> Option<&'static str> {
    let found = Command::new("python3").args(["-c", "import jsonschema"]).output();
    (!found.is_ok_and(|found| found.status.success())).then_some("needs jsonschema of PyPI")
}

/// Documents, each with the arguments of autofsctl that have printed it.
#[derive(Default)]
struct Documents(Vec<(String, String)>);

impl Documents {
    /// Runs `autofsctl --json` as root and keeps what it prints.
    fn run(&mut self, arguments: &str) {
        self.run_as(0, arguments);
    }

    fn run_as(&mut self, uid: u32, arguments: &str) {
        let words: Vec<&str> = std::iter::once("--json").chain(arguments.split_whitespace()).collect();
        let mut command = Command::new("autofsctl");
        if uid != 0 {
            command.uid(uid).gid(uid);
        }
        let said = output(command.args(&words), secs(20)).expect("an answer of autofsctl");
        self.0.push((arguments.to_owned(), String::from_utf8(said.stdout).unwrap()));
    }

    /// Keeps each line of a stream.
    fn lines(&mut self, arguments: &str, text: &str) {
        self.0.extend(text.lines().map(|line| (arguments.to_owned(), line.to_owned())));
    }

    fn check(&self) {
        put("/world/schema.json", include_str!("../../docs/autofsctl.schema.json"));
        let line = |(arguments, text): &(String, String)| format!("{}\n", serde_json::json!([arguments, text]));
        put("/world/documents", self.0.iter().map(line).collect::<String>());
        let input = fs::File::open("/world/documents").unwrap();
        let mut command = Command::new("python3");
        let checked = command.args(["-c", VALIDATE, "/world/schema.json"]).stdin(input).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}

/// Calls that change nothing, or nothing that the calls after them need.
const LOOKING: &[&str] = &[
    "ping",
    "health",
    "health --live",
    "metrics",
    "doctor",
    "doctor --pid 1",
    "status",
    "mounts",
    "mounts --wide",
    "maps",
    "maps /mnt/auto",
    "maps auto.one --expand",
    "maps none",
    "history",
    "history --daemon",
    "history --failed",
    "history --since 1h",
    "history 1",
    "history ffff",
    "check /etc/auto.one",
    "check /etc/auto.master",
    "check /nonexistent",
    "convert /etc/auto.one",
    "convert /nonexistent",
    "migrate-check",
    "expire --dry-run",
    "reload --dry-run",
    "clean --dry-run",
    "nosuch",
    "status --nosuch",
];

const CHANGING: &[&str] = &[
    "reload",
    "reload --no-wait",
    "flush --all",
    "clean",
    "expire /mnt/auto/good",
    "expire /mnt/auto/none",
    "expire",
    "quiesce",
    "quiesce --mode live",
    "status",
    "health",
    "resume",
    "upgrade",
    "detach",
];

/// Every document of `--json` follows docs/autofsctl.schema.json, errors too.
#[case(seconds: 120, lacking: lacks_jsonschema)]
fn documents_follow_the_schema() {
    failing();
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/one"]);
    let mut documents = Documents::default();
    let mut monitor = Command::new("autofsctl");
    let monitored = fs::File::create("/world/monitored").unwrap();
    let mut monitor = monitor.args(["--json", "monitor"]).stdin(Stdio::null()).stdout(monitored).spawn().unwrap();
    visit::serves("/mnt/auto/good");
    visit::refuses("/mnt/auto/none", Errno::ENOENT);
    let paths = ["/mnt/auto", "/mnt/auto/good", "/mnt/auto/none", "/mnt/auto/device", "/mnt/bad", "/mnt/one", "/nope"];
    for path in paths {
        for verb in
            ["status", "explain", "explain --offline", "wait", "flush", "history", "log-level", "block", "unblock"]
        {
            let level = if verb == "log-level" { " debug --for 1m" } else { "" };
            documents.run(&format!("{verb} {path}{level}"));
        }
        documents.run(&format!("unblock {path}"));
    }
    LOOKING.iter().for_each(|arguments| documents.run(arguments));
    for arguments in LOOKING.iter().chain(CHANGING).chain(&["explain /mnt/auto/good", "status /mnt/auto/good"]) {
        documents.run_as(1000, arguments);
    }
    // A killed worker is an event.
    let worker = daemon.worker();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker), nix::sys::signal::Signal::SIGKILL).unwrap();
    let lines = wait_for("an event in the stream", secs(20), || {
        let text = fs::read_to_string("/world/monitored").unwrap();
        text.contains("worker_died").then_some(text)
    });
    assert!(lines.contains("\"request\""), "{lines}");
    monitor.kill().unwrap();
    monitor.wait().unwrap();
    documents.lines("monitor", &lines);
    CHANGING.iter().for_each(|arguments| documents.run(arguments));
    let mut daemon = daemon;
    daemon.end(secs(20));
    documents.check();
}

/// Without a daemon, and with a socket that is none.
#[case(seconds: 120, lacking: lacks_jsonschema)]
fn documents_without_a_daemon_follow_the_schema() {
    failing();
    put("/world/file", "");
    let _datagrams = UnixDatagram::bind("/world/datagrams").unwrap();
    let _listener = UnixListener::bind("/world/silent").unwrap();
    let mut documents = Documents::default();
    let more =
        ["explain /mnt/auto/good", "explain /mnt/auto/none", "status /mnt/auto/good", "wait /mnt/auto/good", "monitor"];
    for arguments in LOOKING.iter().chain(CHANGING).chain(&more) {
        documents.run(arguments);
    }
    for socket in ["/nonexistent", "/world/file", "/world", "/world/datagrams", "/world/silent --timeout 1s"] {
        for verb in ["status", "reload", "monitor", "metrics", "explain /mnt/auto/good"] {
            documents.run(&format!("--socket {socket} {verb}"));
        }
    }
    documents.check();
}

/// Keys below other direct keys count, and the parts of an entry do not. A check looks at the keys and mounts nothing.
#[case]
fn status_counts_the_keys_of_direct_maps() {
    site::master("/- /etc/auto.direct\n/- /etc/auto.more\n");
    put("/etc/auto.direct", "/mnt/d1 :/opt\n/mnt/d1/below :/srv\n/mnt/d2 / :/opt /in :/srv\n/mnt/d3 :/srv\n");
    put("/etc/auto.more", "/mnt/d1/more :/srv\n");
    for directory in ["/opt/below", "/opt/more", "/opt/in"] {
        fs::create_dir_all(directory).unwrap();
    }
    let daemon = Daemon::serving(&["/mnt/d1", "/mnt/d2", "/mnt/d3"]);
    let counted = || {
        let said = output(Command::new("autofsctl").args(["--json", "status"]), secs(10)).expect("an answer");
        let status: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
        let count = |point: &serde_json::Value| (point["mounted"].as_u64().unwrap(), point["total"].as_u64().unwrap());
        status["mount_points"].as_array().unwrap().iter().map(count).collect::<Vec<_>>()
    };
    let checked = output(Command::new("autofsctl").arg("check"), secs(10)).expect("an answer");
    assert!(checked.status.success(), "{checked:?}");
    assert_eq!(counted(), [(0, 4), (0, 1)]);
    for path in ["/mnt/d1/below", "/mnt/d1/more", "/mnt/d2/in"] {
        visit::serves(path);
    }
    assert_eq!(counted(), [(3, 4), (1, 1)]);
    daemon.stop();
}

/// Who mounted what and when, and what a command line that cannot be read says to programs.
#[case]
fn mounts_are_listed_with_their_requesters() {
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/k");
    let ctl = |arguments: &[&str]| {
        let said = output(Command::new("autofsctl").args(arguments), secs(10)).expect("an answer");
        (said.status.code().unwrap(), String::from_utf8(said.stdout).unwrap())
    };
    let words = |text: &str| text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
    let rows: Vec<Vec<String>> = words(&ctl(&["mounts"]).1);
    assert_eq!(rows[0].join(" "), "PATH SINCE BY TYPE SOURCE");
    assert!(rows[1][0] == "/mnt/auto/k" && rows[1][1].ends_with('s') && rows[1][2].contains('['), "{rows:?}");
    let wide: Vec<Vec<String>> = words(&ctl(&["mounts", "--wide"]).1);
    assert_eq!(wide[1].last().unwrap(), "/mnt/auto");
    let document: serde_json::Value = serde_json::from_str(&ctl(&["--json", "mounts"]).1).unwrap();
    assert!(document["mounts"][0]["for"]["pid"].as_u64().unwrap() > 0, "{document}");
    let (code, text) = ctl(&["--json", "nosuch"]);
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &document["error"]["kind"], &document["error"]["exit"]), (2, &"usage".into(), &2.into()));
    for words in [&["--help"][..], &["help", "status"], &["--version"]] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let status = Command::new("autofsctl").args(words).stdout(full).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(5), "{words:?}");
    }
    daemon.stop();
}

/// A mount point in whose place another file system is mounted is not served, and is not listed among those that are.
#[case]
fn status_lists_no_mount_point_that_is_not_there() {
    put("/etc/auto.any", "* -fstype=tmpfs,size=64k :k&\n");
    site::master("/mnt/one /etc/auto.any\n/mnt/two /etc/auto.any\n");
    fs::create_dir_all("/mnt/two").unwrap();
    mount(Some("cover"), "/mnt/two", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    let daemon = Daemon::serving(&["/mnt/one"]);
    let status = || {
        let said = output(Command::new("autofsctl").arg("status"), secs(10)).expect("an answer");
        let text = String::from_utf8(said.stdout).unwrap();
        let (served, others) = text.split_once("NOT SERVED").unwrap_or((&text, ""));
        (served.contains("/mnt/one"), served.contains("/mnt/two"), others.contains("/mnt/two"))
    };
    assert_eq!(status(), (true, false, true));
    umount2("/mnt/two", MntFlags::empty()).unwrap();
    wait_for("the second mount point", secs(40), || (status() == (true, true, false)).then_some(()));
    daemon.stop();
}
