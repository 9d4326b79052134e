//! A map in LDAP in a container that is dumped: the process that speaks to the server, and its connection, must not be in the way.

use std::time::Instant;

use crate::common::ldap_server::{self, Directory};
use crate::common::{secs, wait_for};
use crate::container::{Container, put};
use crate::host::measured;

const ENTRY: &str = "-fstype=tmpfs,size=64k :k";

/// Starts a server on the host, whose network the container shares, and a container that uses it.
fn begin() -> (Directory, Container) {
    put("/etc/autofs.conf", "[ autofs ]\nbrowse_mode = no\nldap_uri = \"ldap://127.0.0.2\"\nsearch_base = \"dc=ex\"\n");
    put("/etc/nsswitch.conf", "automount: files ldap\n");
    put("/etc/auto.master", "/auto ldap:auto.m --timeout=600\n/- ldap:auto.direct --timeout=600\n");
    let mut directory = ldap_server::at(ldap_server::OTHER);
    for key in ["a", "b", "c", "d"] {
        directory.set("auto.m", key, ENTRY);
    }
    directory.set("auto.direct", "/d/one", ENTRY);
    directory.start();
    let container = Container::start(&[]);
    container.serves("/auto/a");
    container.serves("/d/one");
    container.run(&["/bin/touch", "/auto/a/mark"]);
    (directory, container)
}

/// Number of processes that the worker has started.
fn helpers(container: &Container) -> usize {
    let keeper = container.status()["pid"].as_u64().unwrap();
    let script = format!("read worker rest </proc/{keeper}/task/{keeper}/children; cat /proc/$worker/task/*/children");
    let listed = container.run(&["/bin/sh", "-c", &script]).stdout;
    String::from_utf8_lossy(&listed).split_whitespace().count()
}

/// Checks that the mounts are the same, and that new keys and changes come from the server.
fn works(container: &Container, directory: &Directory, round: usize) {
    container.serves("/auto/a");
    assert!(container.run(&["/bin/ls", "/auto/a/mark"]).status.success(), "/auto/a is another one");
    container.serves("/d/one");
    let new = ["b", "c", "d"][round - 1];
    let began = Instant::now();
    container.serves(&format!("/auto/{new}"));
    measured("first key from the server after the restore", began.elapsed());
    directory.set("auto.m", &format!("new{round}"), ENTRY);
    container.serves(&format!("/auto/new{round}"));
    assert_eq!(container.visit("/auto/none"), libc::ENOENT);
    assert_eq!(container.status()["restores"], round);
}

/// With the hook while the connection is open, and without it when the daemon is idle.
pub fn comes_back() {
    let (directory, mut container) = begin();
    assert!(helpers(&container) > 0, "no lookup process while there are lookups: {}", container.shown());
    container.dump(&["--action-script", "/usr/libexec/autofs/criu-action"]);
    container.restore(&[]);
    works(&container, &directory, 1);
    for round in 2..=3 {
        // It ends when it has been idle for ten seconds.
        wait_for("the end of the lookup process", secs(20), || (helpers(&container) == 0).then_some(()));
        let report = container.ctl(&["migrate-check"]);
        assert!(report.status.success(), "{}", String::from_utf8_lossy(&report.stdout));
        container.dump(&[]);
        container.restore(&[]);
        works(&container, &directory, round);
    }
}
