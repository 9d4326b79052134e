//! A new version of the package.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use crate::common::suite::case;
use crate::common::world::put;
use crate::common::{secs, table, visit, wait_for};
use crate::lookups::Lookups;
use crate::service::{self, UNIT, Users, ctl, is_active, property, run};

/// The installed program.
const PROGRAM: &str = "/usr/sbin/automount";

/// Another file under the same name, as dpkg(1) and rpm(8) do it.
fn replace(content: &[u8]) {
    let new = format!("{PROGRAM}.new");
    fs::write(&new, content).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(new, PROGRAM).unwrap();
}

/// Does the process run the program that is installed?
fn is_installed(pid: i32) -> bool {
    let file = |path: &str| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    file(&format!("/proc/{pid}/exe")) == file(PROGRAM)
}

/// Waits until keeper and worker are of the new program, in the same process for systemd.
#[track_caller]
fn is_replaced(pid: i32, old: i32) {
    wait_for("the new program", secs(10), || is_installed(pid).then_some(()));
    let worker = wait_for("its worker", secs(10), || Some(service::worker(pid)).filter(|worker| *worker != old));
    assert!(is_installed(worker));
    wait_for("the end of the old worker", secs(10), || (!fs::exists(format!("/proc/{old}")).unwrap()).then_some(()));
    is_active(pid);
    assert_eq!(property("NRestarts"), "0");
}

#[case]
fn a_reload_after_the_file_is_replaced() {
    let pid = service::start();
    let mut users = Users::begin();
    let ids = service::ids();
    let content = fs::read(PROGRAM).unwrap();
    let lookups = Lookups::begin();
    for n in 0..5 {
        lookups.go_on();
        let old = service::worker(pid);
        replace(&content);
        assert!(!is_installed(pid));
        ctl(&["daemon-reload"]);
        ctl(&["reload", UNIT]);
        is_replaced(pid, old);
        visit::serves(format!("/auto/after{n}"));
    }
    lookups.go_on();
    lookups.end("upgrades by systemctl reload");
    assert_eq!(service::ids(), ids);
    users.live();
    users.end();
    // What follows is as ever: a reload, an end.
    service::master("/more /etc/auto.few\n");
    ctl(&["reload", UNIT]);
    wait_for("/more", secs(10), || table::autofs("/more").map(drop));
    ctl(&["stop", UNIT]);
    assert_eq!(property("Result"), "success");
    assert_eq!((table::below("/auto"), table::below("/d")), (vec![], vec![]));
}

#[case]
fn a_program_that_cannot_take_over() {
    let pid = service::start();
    let worker = service::worker(pid);
    let content = fs::read(PROGRAM).unwrap();
    let lookups = Lookups::begin();
    replace(b"#!/bin/sh\nexit 1\n");
    service::master("/more /etc/auto.few\n");
    ctl(&["reload", UNIT]);
    service::says("cannot take over");
    // The maps are read all the same.
    wait_for("/more", secs(10), || table::autofs("/more").map(drop));
    is_active(pid);
    assert_eq!(service::worker(pid), worker);
    replace(&content);
    ctl(&["reload", UNIT]);
    is_replaced(pid, worker);
    lookups.end("a program that cannot take over, and one that can");
}

/// Where packages are built.
const BUILD: &str = "/tmp/deb";

/// Builds a package of what `make install` has installed and of `change`, with the scripts that are shipped for packagers.
fn package(version: &str, change: fn()) -> String {
    run("cp", &["-a", "/package", BUILD]);
    // The test program is no part of it, and what is configuration in /etc is not needed twice.
    for part in ["world", "etc"] {
        fs::remove_dir_all(format!("{BUILD}/{part}")).unwrap();
    }
    change();
    let control = format!("{BUILD}/DEBIAN");
    fs::create_dir(&control).unwrap();
    let text = format!(
        "Package: autofs-rs\nVersion: {version}\nArchitecture: all\nMaintainer: Nobody <nobody@localhost>\n\
         Description: the automounter under test\n"
    );
    fs::write(format!("{control}/control"), text).unwrap();
    // With configuration that a removal leaves.
    put(&format!("{BUILD}/etc/autofs-rs.conf"), "");
    fs::write(format!("{control}/conffiles"), "/etc/autofs-rs.conf\n").unwrap();
    let scripts = [
        ("preinst", include_str!("../../packaging/debian/preinst")),
        ("postinst", include_str!("../../packaging/debian/postinst")),
        ("prerm", include_str!("../../packaging/debian/prerm")),
    ];
    for (name, text) in scripts {
        let path = format!("{control}/{name}");
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let file = format!("/tmp/{version}.deb");
    run("dpkg-deb", &["--root-owner-group", "-Znone", "--build", BUILD, &file]);
    fs::remove_dir_all(BUILD).unwrap();
    file
}

#[case]
fn by_dpkg() {
    let versions = ["1.0", "2.0", "3.0"].map(|version| package(version, || ()));
    service::maps();
    run("dpkg", &["--install", &versions[0]]);
    let pid = service::main_pid();
    is_active(pid);
    assert!(is_installed(pid));
    let mut users = Users::begin();
    let ids = service::ids();
    let lookups = Lookups::begin();
    for (n, version) in versions[1..].iter().enumerate() {
        lookups.go_on();
        let old = service::worker(pid);
        run("dpkg", &["--install", version]);
        is_replaced(pid, old);
        visit::serves(format!("/auto/after{n}"));
    }
    lookups.go_on();
    lookups.end("upgrades by dpkg");
    assert_eq!(service::ids(), ids);
    users.live();

    // Who has stopped it does not want it started by an upgrade.
    users.end();
    ctl(&["stop", UNIT]);
    run("dpkg", &["--install", &versions[0]]);
    assert_eq!(property("ActiveState"), "inactive");
    ctl(&["start", UNIT]);
    visit::serves("/auto/last");
    run("dpkg", &["--remove", "autofs-rs"]);
    assert_eq!((table::below("/auto"), table::below("/d")), (vec![], vec![]));
    assert!(!fs::exists(PROGRAM).unwrap());

    // Installing it again starts it.
    run("dpkg", &["--install", &versions[1]]);
    assert_eq!(property("ActiveState"), "active");
    visit::serves("/auto/again");
}

/// The scripts restart it then, and what is in use stays.
#[case]
fn by_dpkg_to_one_that_cannot_take_over() {
    let other = || {
        fs::rename(format!("{BUILD}{PROGRAM}"), format!("{BUILD}{PROGRAM}.bin")).unwrap();
        let refuses = format!("#!/bin/sh\ncase $1 in --internal-*) exit 1 ;; esac\nexec {PROGRAM}.bin \"$@\"\n");
        put(&format!("{BUILD}{PROGRAM}"), refuses);
    };
    let (old, new) = (package("1.0", || ()), package("2.0", other));
    service::maps();
    run("dpkg", &["--install", &old]);
    let pid = service::main_pid();
    let mut users = Users::begin();
    let ids = service::ids();
    let said = run("dpkg", &["--install", &new]);
    assert!(said.contains("cannot take over"), "{said}");
    let new = service::main_pid();
    assert_ne!(new, pid);
    is_active(new);
    assert_eq!(fs::read_link(format!("/proc/{new}/exe")).unwrap(), Path::new(&format!("{PROGRAM}.bin")));
    assert_eq!(service::ids(), ids);
    users.live();
    visit::serves("/auto/new");
    users.end();
}
