//! `systemctl reload`.

use std::fs;

use nix::errno::Errno;

use crate::common::suite::case;
use crate::common::world::put;
use crate::common::{secs, table, visit, wait_for};
use crate::lookups::Lookups;
use crate::service::{self, UNIT, Users, ctl, is_active, property};

#[case]
fn under_lookups() {
    let pid = service::start();
    let worker = service::worker(pid);
    let lookups = Lookups::begin();
    for n in 0..5 {
        lookups.go_on();
        let (new, old) = (format!("/more{n}"), format!("/more{}", n - 1));
        service::master(&format!("{new} /etc/auto.few --timeout=600\n"));
        put("/etc/auto.few", format!("one -fstype=tmpfs :tmpfs\nkey{n} -fstype=tmpfs :tmpfs\n"));
        put(
            "/etc/auto.direct",
            format!("/d/one -fstype=tmpfs :tmpfs\n/d/two -fstype=tmpfs :tmpfs\n/d/new{n} -fstype=tmpfs :tmpfs\n"),
        );
        ctl(&["reload", UNIT]);
        wait_for(&new, secs(10), || table::autofs(&new).map(drop));
        wait_for(&format!("the end of {old}"), secs(10), || table::autofs(&old).is_none().then_some(()));
        visit::serves(format!("/few/key{n}"));
        visit::serves(format!("{new}/one"));
        visit::serves(format!("/d/new{n}"));
        visit::refuses(format!("/few/gone{n}"), Errno::ENOENT);
    }
    lookups.end("reloads");
    is_active(pid);
    assert_eq!(service::worker(pid), worker);
    assert_eq!(property("NRestarts"), "0");
}

#[case]
fn a_broken_master_changes_nothing() {
    let pid = service::start();
    let mut users = Users::begin();
    let ids = service::ids();
    let lookups = Lookups::begin();
    fs::remove_file("/etc/auto.master").unwrap();
    fs::create_dir("/etc/auto.master").unwrap();
    ctl(&["reload", UNIT]);
    service::says("the master map cannot be read; what it said before stays in force");
    lookups.go_on();
    lookups.end("a reload of a broken master map");
    is_active(pid);
    assert_eq!(service::ids(), ids);
    users.live();
    fs::remove_dir("/etc/auto.master").unwrap();
    service::master("/more /etc/auto.few\n");
    ctl(&["reload", UNIT]);
    wait_for("/more", secs(10), || table::autofs("/more").map(drop));
    users.end();
}

#[case]
fn a_broken_line_costs_only_itself() {
    let pid = service::start();
    service::master("nonsense\n/more /etc/auto.few\n");
    let lookups = Lookups::begin();
    ctl(&["reload", UNIT]);
    wait_for("/more", secs(10), || table::autofs("/more").map(drop));
    service::says("/etc/auto.master:4:");
    lookups.end("a reload of a master map with a broken line");
    is_active(pid);
}
