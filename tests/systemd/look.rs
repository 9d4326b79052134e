//! Views of the daemon by varlinkctl, journalctl and systemctl.

use nix::errno::Errno;

use crate::common::suite::case;
use crate::common::world::put;
use crate::common::{lab, output, secs, table, visit, wait_for};
use crate::service::{self, run};

const SOCKET: &str = "/run/autofs/control";

fn lacks_varlinkctl() -> Option<&'static str> {
    (!lab::has("usr/bin/varlinkctl")).then_some("needs varlinkctl")
}

/// Every interface that is listed is described, and a misspelt parameter is an error, not a wish for everything.
#[case(lacking: lacks_varlinkctl)]
fn varlinkctl_reads_the_interfaces() {
    service::start();
    visit::serves("/auto/key");
    let varlink = |words: &[&str]| run("varlinkctl", words);
    assert!(varlink(&["info", SOCKET]).contains("autofs-rs"));
    let interfaces = varlink(&["list-interfaces", SOCKET]);
    assert_eq!(interfaces.split_whitespace().collect::<Vec<_>>(), ["org.autofs-rs.Control", "org.varlink.service"]);
    let all = varlink(&["introspect", SOCKET]);
    for interface in interfaces.split_whitespace() {
        assert!(all.contains(&format!("interface {interface}")), "{interface}: {all}");
        assert!(varlink(&["introspect", SOCKET, interface]).contains("method "));
    }
    let methods = varlink(&["list-methods", SOCKET]);
    for method in ["org.autofs-rs.Control.Status", "org.autofs-rs.Control.Expire", "org.varlink.service.GetInfo"] {
        assert!(methods.lines().any(|line| line == method), "{methods}");
    }
    let status = varlink(&["call", SOCKET, "org.autofs-rs.Control.Status", "{}"]);
    assert!(status.contains("\"mount_points\"") && status.contains("/auto"), "{status}");
    let words = ["call", SOCKET, "org.autofs-rs.Control.Expire", "{\"pth\":\"/auto/key\"}"];
    let misspelt = output(std::process::Command::new("varlinkctl").args(words), secs(30)).unwrap();
    let said = String::from_utf8_lossy(&[misspelt.stdout, misspelt.stderr].concat()).into_owned();
    assert!(!misspelt.status.success() && said.contains("InvalidParameter") && said.contains("pth"), "{said}");
    assert!(table::served("/auto/key"), "nothing was unmounted");
    varlink(&["call", SOCKET, "org.autofs-rs.Control.Expire", "{\"path\":\"/auto/key\"}"]);
    assert!(!table::served("/auto/key"));
}

/// At the default level, journald has a failed mount with fields to search by; the first line of the program is in the message,
/// all lines are in the history.
#[case]
fn the_journal_is_searched_by_path() {
    put("/sbin/mount.failfs", "#!/bin/sh\necho 'failfs: first' >&2\necho 'failfs: last' >&2\nexit 32\n");
    service::start();
    put("/etc/auto.few", "denied -fstype=failfs :/filer9/denied\n");
    visit::refuses("/few/denied", Errno::ENOENT);
    let words = ["--no-pager", "--unit", service::UNIT, "AUTOFS_PATH=/few/denied", "--output=cat"];
    let found = wait_for("the failed mount in the journal", secs(10), || {
        let found = run("journalctl", &words);
        found.contains("failfs: first").then_some(found)
    });
    assert_eq!(found.lines().count(), 1, "{found}");
    assert!(
        found.starts_with("failed to mount /few/denied: /sbin/mount.failfs: exit status 32: failfs: first"),
        "{found}"
    );
    assert_eq!(run("journalctl", &["--no-pager", "AUTOFS_PATH=/few/other", "--output=cat"]).trim(), "");
    let history = wait_for("the request in the history", secs(10), || {
        let said = output(std::process::Command::new("autofsctl").args(["history", "1"]), secs(10)).unwrap();
        said.status.success().then(|| String::from_utf8_lossy(&said.stdout).into_owned())
    });
    assert!(history.contains("| failfs: first\n") && history.contains("| failfs: last\n"), "{history}");
}

/// `systemctl status` says what is served, and how many problems there are.
#[case]
fn systemctl_shows_what_is_served() {
    service::start();
    let shows = |text: &str| {
        wait_for(text, secs(10), || (service::property("StatusText") == text).then_some(()));
    };
    shows("Serving 3 mount points");
    assert!(service::ctl(&["status", service::UNIT]).contains("Status: \"Serving 3 mount points\""));
    service::master("/bad /etc/auto.few --timeout=5m\n");
    service::ctl(&["reload", service::UNIT]);
    shows("Serving 3 mount points, 1 problem: see autofsctl status");
}
