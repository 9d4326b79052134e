//! Lines of fstab, served by this daemon.

use std::fs;
use std::process::Command;

use nix::errno::Errno;

use super::common::daemon::Daemon;
use super::common::stand_in::Rules;
use super::common::suite::case;
use super::common::world::put;
use super::common::{output, secs, site, table, visit, wait_for};

fn said(program: &str, arguments: &[&str]) -> String {
    let said = output(Command::new(program).args(arguments), secs(15)).expect("an answer");
    String::from_utf8(said.stdout).unwrap() + &String::from_utf8(said.stderr).unwrap()
}

const FSTAB: &str = "\
# What is mounted at boot is none of ours.
none /mnt/boot tmpfs defaults 0 0
a\\040source /mnt/with\\040blank tmpfs noauto,nofail,size=64k,x-systemd.automount,x-gvfs-show,comment=mine 0 0
short /mnt/short tmpfs x-autofs.automount,x-systemd.idle-timeout=1s,x-systemd.mount-timeout=30 0 0
/srv/it /mnt/bound none bind,x-systemd.automount,x-systemd.requires-mounts-for=/mnt/with\\040blank 0 0
bad relative tmpfs x-systemd.automount
";

#[case(seconds: 60)]
fn lines_for_systemd_are_served() {
    site::master("/- fstab:\n");
    fs::create_dir_all("/srv/it/inside").unwrap();
    put("/etc/fstab", FSTAB);
    let daemon = Daemon::serving(&["/mnt/with blank", "/mnt/short", "/mnt/bound"]);
    assert!(table::autofs("/mnt/boot").is_none());
    daemon.says("/etc/fstab:6:5: \"relative\" is no mount point");
    visit::serves("/mnt/bound");
    assert!(fs::metadata("/mnt/bound/inside").unwrap().is_dir());
    assert!(table::served("/mnt/with blank"), "it is required");
    let mount = table::at("/mnt/with blank").pop().unwrap();
    assert_eq!((mount.fstype.as_str(), mount.option("size")), ("tmpfs", Some("64k")));
    visit::serves("/mnt/short");
    wait_for("expiry", secs(20), || (!table::served("/mnt/short")).then_some(()));
    assert!(table::served("/mnt/with blank"));
    let explained = said("autofsctl", &["explain", "/mnt/short"]);
    assert!(explained.contains("/etc/fstab:4:7"), "{explained}");
    daemon.stop();
}

#[case]
fn lines_that_systemd_serves_too_are_told() {
    site::master("/- -fstab\n/mnt/wrong fstab:/etc/fstab.other\n");
    put("/etc/fstab", FSTAB);
    let checked = said("autofsctl", &["check"]);
    assert!(!checked.contains("systemd automounts"), "it does not run: {checked}");
    assert!(checked.contains("/etc/auto.master:2:1") && checked.contains("fstab is a direct map"), "{checked}");
    fs::create_dir_all("/run/systemd/system").unwrap();
    let checked = said("autofsctl", &["check"]);
    assert!(
        checked.contains("/etc/fstab:3:") && checked.contains("systemd automounts /mnt/with blank, too"),
        "{checked}"
    );
    assert!(!checked.contains("systemd automounts /mnt/short"), "{checked}");
    let checked = said("autofsctl", &["check", "/etc/fstab"]);
    assert!(checked.contains("/etc/fstab:6:5"), "{checked}");
    let dump = said("automount", &["-m"]);
    assert!(dump.contains("/mnt/short | -fstype=tmpfs,timeout=1,mount-timeout=30 :short"), "{dump}");
}

#[case(seconds: 60)]
fn a_mount_may_take_so_long() {
    site::master("/- fstab:\n/mnt/auto /etc/auto.one\n");
    put("/etc/fstab", "late /mnt/late slow x-systemd.automount,x-systemd.mount-timeout=1\n");
    put("/etc/auto.one", "a -fstype=slow,mount-timeout=1 :later\nb -fstype=slow,mount-timeout=soon :b\n");
    Rules { delay: vec![("late".into(), 30_000)], ..Rules::default() }.set();
    site::mount_wait(60);
    let daemon = Daemon::serving(&["/mnt/late", "/mnt/auto"]);
    let begun = std::time::Instant::now();
    visit::refuses("/mnt/late", Errno::ENOENT);
    visit::refuses("/mnt/auto/a", Errno::ENOENT);
    assert!(begun.elapsed() < secs(25), "{:?}", begun.elapsed());
    visit::refuses("/mnt/auto/b", Errno::ENOENT);
    daemon.says("invalid mount-timeout \"soon\"");
    daemon.stop();
}
