//! Passwords of maps are shown to nobody but root, and only with `--secrets`.

use std::process::{Command, Stdio};

use nix::errno::Errno;

use super::common::daemon::Daemon;
use super::common::suite::case;
use super::common::world::put;
use super::common::{output, secs, site, visit, wait_for};
use super::history::json;

const SECRET: &str = "Geheim77";

/// Returns all that `autofsctl` prints.
fn said(arguments: &str) -> String {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let said = output(Command::new("autofsctl").args(&words), secs(20)).expect("an answer");
    String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned()
}

/// A helper that repeats its arguments and its environment, at the level of details.
#[case(seconds: 90)]
fn are_said_nowhere() {
    put("/sbin/mount.echofs", "#!/bin/sh\necho \"echofs: $*\" >&2\nenv >&2\nexit 32\n");
    put("/sbin/mount.goodfs", "#!/bin/sh\nexec /bin/mount -t tmpfs -o size=64k \"$1\" \"$2\"\n");
    site::master("/mnt/auto /etc/auto.one\n");
    let lines = [
        "echo -fstype=echofs,username=u,password=Geheim77 ://filer/x",
        "pass -fstype=echofs,pass=Geheim77,ro ://filer/x",
        "passwd -fstype=echofs,passwd=Geheim77 ://filer/x",
        "good -fstype=goodfs,password=Geheim77 :good",
        "inline -fstype=tmpfs,password=Geheim77 :inline",
    ];
    put("/etc/auto.one", lines.join("\n") + "\n");
    let mut daemon = Daemon::start(["-f", "-d"]);
    daemon.ready(&["/mnt/auto"]);
    let streams = ["/world/plain", "/world/json"];
    let mut monitors = Vec::new();
    for (stream, options) in streams.iter().zip([&["monitor"][..], &["--json", "monitor"]]) {
        let stream = std::fs::File::create(stream).unwrap();
        monitors.push(Command::new("autofsctl").args(options).stdin(Stdio::null()).stdout(stream).spawn().unwrap());
    }
    // Their first request tells the position at which they begin.
    std::thread::sleep(secs(1));
    for key in ["echo", "pass", "passwd"] {
        visit::refuses(format!("/mnt/auto/{key}"), Errno::ENOENT);
    }
    visit::serves("/mnt/auto/inline");
    visit::serves("/mnt/auto/good");
    wait_for("five requests", secs(10), || (json(&["history"])["counted"] == 5).then_some(()));
    for stream in streams {
        wait_for("the last request in the stream", secs(20), || {
            std::fs::read_to_string(stream).unwrap().contains("/mnt/auto/good").then_some(())
        });
    }
    for monitor in &mut monitors {
        monitor.kill().unwrap();
        monitor.wait().unwrap();
    }
    let mut all = vec![("the log".to_owned(), daemon.log())];
    all.extend(streams.map(|stream| (stream.to_owned(), std::fs::read_to_string(stream).unwrap())));
    let whole = ["history", "history --daemon", "history --failed", "status", "mounts", "metrics", "reload", "doctor"];
    let of_keys = ["echo", "pass", "passwd", "good", "inline"].into_iter().flat_map(|key| {
        ["status", "explain", "explain --offline", "history", "wait"].map(|verb| format!("{verb} /mnt/auto/{key}"))
    });
    let of_requests = (1..=5).map(|id| format!("history {id}"));
    for arguments in whole.map(str::to_owned).into_iter().chain(of_keys).chain(of_requests) {
        for options in ["", "--json "] {
            let arguments = format!("{options}{arguments}");
            let text = said(&arguments);
            all.push((arguments, text));
        }
    }
    for (what, text) in &all {
        assert!(!text.contains(SECRET), "{what}: {text}");
    }
    assert!(all[0].1.contains("password=***") && all[1].1.contains("/mnt/auto/echo"), "{all:?}");
    assert!(said("explain --secrets /mnt/auto/echo").contains(SECRET));
    daemon.stop();
}
