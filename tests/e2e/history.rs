//! The history: what was asked, by whom, what was done, and why it failed.

use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::common::daemon::Daemon;
use super::common::suite::case;
use super::common::world::put;
use super::common::{output, secs, site, visit, wait_for};

/// Returns the exit status of `autofsctl` with these arguments, and what it prints to standard output.
pub(crate) fn ctl(arguments: &[&str]) -> (i32, String) {
    let said = output(Command::new("autofsctl").args(arguments), secs(15)).expect("an answer of autofsctl");
    (said.status.code().unwrap(), String::from_utf8_lossy(&said.stdout).into_owned())
}

/// Returns what `autofsctl --json` prints.
pub(crate) fn json(arguments: &[&str]) -> Value {
    let arguments = [&["--json"], arguments].concat();
    let said = output(Command::new("autofsctl").args(&arguments), secs(15)).expect("an answer of autofsctl");
    serde_json::from_slice(&said.stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {said:?}"))
}

/// Waits until the history has this many requests for a path, and returns the newest one.
fn request(path: &str, count: u64) -> Value {
    wait_for(&format!("{count} requests for {path}"), secs(10), || {
        let history = json(&["history", path]);
        (history["counted"] == count).then(|| history["requests"][0].clone())
    })
}

fn failing() {
    put(
        "/sbin/mount.failfs",
        "#!/bin/sh\necho 'failfs: access denied by server' >&2\necho \"failfs: Geheim77 is wrong: $4\" >&2\nexit 32\n",
    );
    site::one_map("denied -fstype=failfs,password=Geheim77 :/filer9/denied\ngood -fstype=tmpfs,size=64k :good\n");
}

/// A program of a map that fails: everything it has said, its command, the line, the requester.
#[case]
fn of_a_failed_mount() {
    failing();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    assert!(!visit::enter_as("/mnt/auto/denied", 1000));
    let request = request("/mnt/auto/denied", 1);
    assert_eq!((&request["errno"], &request["for"]["uid"]), (&"ENOENT".into(), &1000.into()), "{request}");
    assert_eq!(request["place"], "/etc/auto.one:1:8");
    assert_eq!(request["for"]["comm"], "program", "{request}");
    assert!(request["for"]["parent"]["pid"].as_u64().is_some() && request["negative_until"].as_u64().is_some());
    let run = &request["runs"][0];
    assert_eq!(run["stderr"], "failfs: access denied by server\nfailfs: *** is wrong: rw,password=***\n", "{run}");
    assert_eq!((&run["command"][0], &run["exit"]), (&"/sbin/mount.failfs".into(), &"exit status 32".into()));
    // What is answered from the negative cache is the same entry.
    visit::refuses("/mnt/auto/denied", nix::errno::Errno::ENOENT);
    assert!(!visit::enter_as("/mnt/auto/denied", 1000));
    let again = wait_for("the repetition", secs(10), || {
        let history = json(&["history", "--failed"]);
        (history["failed"] == 3).then_some(history)
    });
    assert_eq!(again["requests"].as_array().unwrap().len(), 2, "root has an entry of its own: {again}");
    let (code, shown) = ctl(&["history", &format!("{:x}", request["id"].as_u64().unwrap())]);
    assert!(code == 0 && shown.contains("| failfs: access denied by server"), "{shown}");
    let (_, shown) = ctl(&["history"]);
    assert!(shown.contains("ENOENT x2: failfs: access denied by server"), "{shown}");
    for arguments in [&["history"][..], &["--json", "history"], &["history", "1"], &["history", "2"]] {
        let (_, shown) = ctl(arguments);
        assert!(!shown.contains("Geheim77"), "{shown}");
    }
    daemon.stop();
}

/// Users see what they have asked for.
#[case]
fn is_for_root_and_for_those_who_asked() {
    failing();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    assert!(!visit::enter_as("/mnt/auto/denied", 1000));
    visit::serves("/mnt/auto/good");
    request("/mnt/auto/denied", 1);
    let of_user = |uid: u32| {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new("autofsctl");
        command.args(["--json", "history"]).uid(uid).gid(uid);
        let said = output(&mut command, secs(15)).expect("an answer");
        let history: Value = serde_json::from_slice(&said.stdout).unwrap();
        history["requests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["path"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(of_user(1000), ["/mnt/auto/denied"]);
    assert_eq!(of_user(1001), [""; 0]);
    daemon.stop();
}

/// Success, a key that no map has, an expired entry, and their order.
#[case]
fn of_what_is_mounted_missing_and_expired() {
    site::one_map("good -fstype=tmpfs,size=64k :good\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/good");
    visit::refuses("/mnt/auto/nokey", nix::errno::Errno::ENOENT);
    assert_eq!(ctl(&["expire", "/mnt/auto"]).0, 0);
    let history = wait_for("three requests", secs(10), || {
        let history = json(&["history"]);
        (history["counted"] == 3).then_some(history)
    });
    let row = |n: usize| {
        let request = &history["requests"][n];
        (request["asked"].as_str().unwrap(), request["path"].as_str().unwrap(), request["errno"].as_str())
    };
    assert_eq!(row(0), ("expire", "/mnt/auto/good", None));
    assert_eq!(row(1), ("mount", "/mnt/auto/nokey", Some("ENOENT")));
    assert_eq!(row(2), ("mount", "/mnt/auto/good", None));
    assert_eq!((&history["failed"], &history["kept"]), (&1.into(), &3.into()));
    assert_eq!(history["requests"][1]["reason"], "no map has this key");
    assert_eq!((ctl(&["history", "/mnt/other"]).0, ctl(&["history", "ffff"]).0), (1, 1));
    daemon.stop();
}

/// A killed worker, and a replaced program.
#[case]
fn is_kept_over_a_killed_worker_and_an_upgrade() {
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    request("/mnt/auto/a", 1);
    let worker = daemon.worker();
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    wait_for("another worker", secs(10), || (daemon.worker() != worker).then_some(()));
    visit::serves("/mnt/auto/b");
    request("/mnt/auto/b", 1);
    let kinds = || {
        let events = json(&["history", "--daemon"]);
        let events = events["events"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap().to_owned());
        events.collect::<Vec<_>>()
    };
    assert_eq!(kinds(), ["worker_died", "start"]);
    assert!(ctl(&["history", "--daemon"]).1.contains("the worker has died (signal 9)"));
    assert_eq!(ctl(&["upgrade"]).0, 0);
    visit::serves("/mnt/auto/c");
    request("/mnt/auto/c", 1);
    request("/mnt/auto/a", 1);
    assert_eq!(kinds(), ["upgrade", "worker_died", "start"]);
    let all = json(&["history"]);
    let ids: Vec<_> = all["requests"].as_array().unwrap().iter().map(|r| r["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [3, 2, 1]);
    daemon.stop();
}

/// A thousand requests, and no more than that.
#[case(seconds: 120)]
fn holds_a_thousand_requests_in_a_megabyte() {
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    for n in 0..1100 {
        visit::enter_now(format!("/mnt/auto/{n}").as_ref()).unwrap();
    }
    let last = wait_for("the last request", secs(20), || {
        let history = json(&["history"]);
        (history["requests"][0]["path"] == "/mnt/auto/1099").then_some(history)
    });
    assert_eq!((&last["kept"], last["requests"].as_array().unwrap().len()), (&1000.into(), 1000));
    assert_eq!(last["requests"][999]["path"], "/mnt/auto/100");
    let fds = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().flatten();
    let memory = fds
        .map(|fd| fd.path())
        .find(|fd| std::fs::read_link(fd).is_ok_and(|link| link.to_string_lossy().contains("autofs-history")));
    let size = nix::sys::stat::stat(&memory.expect("the memory of the history")).unwrap();
    assert!(size.st_blocks * 512 <= 1 << 20, "{} blocks", size.st_blocks);
    daemon.stop();
}

/// An administrator may want no record of who looks at what. A reload changes it.
#[case]
fn no_requests_are_kept_on_request() {
    site::any_key();
    put("/etc/autofs.toml", "[history]\nrequests = false\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let ctl = |arguments: &[&str]| {
        let said = output(Command::new("autofsctl").args(arguments), secs(10)).expect("an answer");
        String::from_utf8(said.stdout).unwrap()
    };
    visit::serves("/mnt/auto/secret");
    assert_eq!(ctl(&["history"]), "no requests\n");
    assert!(ctl(&["status", "/mnt/auto/secret"]).starts_with("/mnt/auto/secret  mounted"));
    assert!(!ctl(&["metrics"]).contains("autofs_requests_total{"));
    assert!(ctl(&["history", "--daemon"]).contains("has started"));
    put("/etc/autofs.toml", "");
    ctl(&["reload"]);
    visit::serves("/mnt/auto/known");
    let history = ctl(&["history"]);
    assert!(history.contains("/mnt/auto/known") && !history.contains("secret"), "{history}");
    daemon.stop();
}

/// A process that ends right after its answer is looked at before: the history has its parent.
#[case]
fn of_the_parent_of_a_short_process() {
    site::one_map("a -fstype=tmpfs,size=64k :a\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let mut keys = 0..;
    // On a busy machine the process often runs first.
    wait_for("requests with a parent", secs(60), || {
        for n in keys.by_ref().take(10) {
            let mut command = Command::new("stat");
            command
                .arg(format!("/mnt/auto/none{n}"))
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null());
            assert!(!command.status().unwrap().success());
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
        let said = output(Command::new("autofsctl").args(["--json", "history"]), secs(10)).expect("an answer");
        let history: Value = serde_json::from_slice(&said.stdout).unwrap();
        let requests = history["requests"].as_array().unwrap();
        let with_parent = requests.iter().filter(|request| request["for"]["parent"]["pid"].as_u64().is_some()).count();
        (requests.len() >= 10 && with_parent >= 3).then_some(())
    });
    daemon.stop();
}
