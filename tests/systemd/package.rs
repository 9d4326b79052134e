//! The Debian package, in place of Debian's autofs and of other versions of itself, by dpkg on a running system.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::suite::case;
use crate::common::world::put;
use crate::common::{lab, output, secs, table, visit, wait_for};
use crate::lookups::Lookups;
use crate::service::{self, UNIT, Users, ctl, is_active, property, run};
use crate::upgrade::{PROGRAM, is_installed, is_replaced};

/// Where the package lies in the machine.
pub const BUILT: &str = "/package/autofs-rs.deb";

/// Where packages of Debian's autofs lie in the root file system of the labs.
const DEBIAN: &str = "/debs";

/// The files that Debian's autofs and ours both register with ucf.
pub const CONFIGURATION: [&str; 6] =
    ["/etc/auto.master", "/etc/auto.misc", "/etc/auto.net", "/etc/auto.smb", "/etc/autofs.conf", "/etc/default/autofs"];

/// Returns what is missing for these tests.
pub fn lacking() -> Option<&'static str> {
    (Command::new("dh").arg("--version").output().is_err())
        .then_some("needs debhelper")
        .or((!lab::has("usr/bin/ucf")).then_some("needs ucf: run .ci/labs"))
        .or(fs::read_dir(lab::root().join(&DEBIAN[1..])).is_err().then_some("needs Debian's autofs: run .ci/labs"))
}

/// Builds the package of the programs under test into `layer`, unless that is not possible here.
pub fn build(layer: &Path, programs: &Path) {
    if lacking().is_some() {
        return;
    }
    let mut build = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/build-deb"));
    build.arg("--programs").arg(programs).env("DEB_BUILD_OPTIONS", "noautodbgsym nostrip");
    // Those of a make that runs the tests are for that one.
    let built = build.env_remove("MAKEFLAGS").output().unwrap();
    assert!(built.status.success(), "build-deb: {}", String::from_utf8_lossy(&built.stderr));
    let path = String::from_utf8(built.stdout).unwrap();
    fs::rename(path.trim_end().lines().last().unwrap(), layer.join("autofs-rs.deb")).unwrap();
}

/// Makes the package of another version, with `change` made to its files below the path that is handed over.
pub fn package(version: &str, change: impl FnOnce(&Path)) -> String {
    let dir = Path::new("/tmp/package");
    run("dpkg-deb", &["--raw-extract", BUILT, "/tmp/package"]);
    let control = fs::read_to_string(dir.join("DEBIAN/control")).unwrap();
    let other =
        |line: &str| if line.starts_with("Version: ") { format!("Version: {version}\n") } else { format!("{line}\n") };
    fs::write(dir.join("DEBIAN/control"), control.lines().map(other).collect::<String>()).unwrap();
    change(dir);
    let file = format!("/tmp/{version}.deb");
    run("dpkg-deb", &["--root-owner-group", "-Znone", "--build", "/tmp/package", &file]);
    fs::remove_dir_all(dir).unwrap();
    file
}

/// Makes a package whose daemon is this text.
fn broken(version: &str, daemon: &[u8]) -> String {
    package(version, |dir| fs::write(dir.join(&PROGRAM[1..]), daemon).unwrap())
}

/// Installs a package; nobody answers questions. Returns what dpkg has said.
pub fn install(file: &str) -> String {
    dpkg(&["--install", file])
}

pub fn dpkg(words: &[&str]) -> String {
    let mut command = Command::new("dpkg");
    command.args(words).env("DEBIAN_FRONTEND", "noninteractive");
    let output = output(&mut command, secs(180)).unwrap_or_else(|| panic!("not finished: dpkg {words:?}"));
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "dpkg {words:?}: {}\n{said}", output.status);
    said
}

/// Removes what the machine has in place of a package, and returns the file of Debian's autofs.
pub fn bare() -> String {
    for file in CONFIGURATION.iter().chain(&["/etc/autofs.toml", PROGRAM, "/usr/bin/autofsctl"]) {
        _ = fs::remove_file(file);
    }
    fs::remove_file("/usr/lib/systemd/system/autofs.service").unwrap();
    let debs = fs::read_dir(DEBIAN).unwrap().map(|entry| entry.unwrap().path());
    let autofs: Vec<PathBuf> =
        debs.filter(|path| path.file_name().unwrap().as_encoded_bytes().starts_with(b"autofs_")).collect();
    autofs[0].to_str().unwrap().to_owned()
}

/// Installs and configures Debian's autofs, and starts it.
pub fn debian() -> String {
    let autofs = bare();
    install(&autofs);
    service::maps();
    for file in &CONFIGURATION[4..] {
        let text = fs::read_to_string(file).unwrap();
        fs::write(file, text + "# edited\n").unwrap();
    }
    put("/etc/auto.master.d/x.autofs", "/more /etc/auto.few\n");
    ctl(&["restart", UNIT]);
    wait_for("autofs at /few", secs(10), || table::autofs("/few").map(drop));
    autofs
}

/// Reads all that is configured.
pub fn configuration() -> Vec<Vec<u8>> {
    let own = ["/etc/auto.auto", "/etc/auto.few", "/etc/auto.direct", "/etc/auto.master.d/x.autofs"];
    CONFIGURATION.iter().chain(&own).map(|path| fs::read(path).unwrap()).collect()
}

/// Returns whether the service is enabled, and whether it is active.
fn state() -> (String, String) {
    let enabled = output(Command::new("systemctl").args(["is-enabled", UNIT]), secs(30)).unwrap();
    (String::from_utf8_lossy(&enabled.stdout).trim().to_owned(), property("ActiveState"))
}

#[track_caller]
pub fn is_state(enabled: &str, active: &str) {
    assert_eq!(state(), (enabled.to_owned(), active.to_owned()));
}

#[track_caller]
pub fn serves(key: &str) {
    visit::serves(format!("/auto/{key}"));
    visit::serves("/d/two");
    visit::serves("/few/one");
}

/// needrestart runs a script of the package after an upgrade of libraries, and no lookup fails.
#[case(lacking: lacking, seconds: 120)]
fn libraries_are_upgraded() {
    const SCRIPT: &str = "/etc/needrestart/restart.d/autofs.service";
    bare();
    service::maps();
    install(BUILT);
    let pid = service::main_pid();
    let lookups = Lookups::begin();
    for _ in 0..3 {
        lookups.go_on();
        let old = service::worker(pid);
        run(SCRIPT, &[]);
        is_replaced(pid, old);
    }
    lookups.end("upgrades of libraries");
    dpkg(&["--remove", "autofs-rs"]);
    assert!(!fs::exists("/etc/needrestart").unwrap());
}

#[case(lacking: lacking, seconds: 120)]
fn over_debians_autofs_and_back() {
    let autofs = debian();
    let mut users = Users::begin();
    let (ids, files) = (service::ids(), configuration());
    is_state("enabled", "active");

    install(BUILT);
    is_state("enabled", "active");
    assert!(is_installed(service::main_pid()));
    assert_eq!((service::ids(), configuration()), (ids.clone(), files.clone()));
    serves("ours");

    // What is left of the old package takes nothing along.
    dpkg(&["--purge", "autofs"]);
    is_state("enabled", "active");
    assert_eq!((service::ids(), configuration()), (ids.clone(), files.clone()));
    serves("purged");

    dpkg(&["--remove", "autofs-rs"]);
    assert_eq!(configuration(), files);
    install(&autofs);
    is_state("enabled", "active");
    dpkg(&["--purge", "autofs-rs"]);
    is_state("enabled", "active");
    assert_eq!((service::ids(), configuration()), (ids.clone(), files.clone()));
    serves("theirs");

    install(BUILT);
    is_state("enabled", "active");
    assert_eq!((service::ids(), configuration()), (ids, files));
    serves("again");
    users.live();
    users.end();
}

#[case(lacking: lacking)]
fn a_service_that_was_stopped_stays_so() {
    debian();
    ctl(&["stop", UNIT]);
    install(BUILT);
    is_state("enabled", "inactive");
    install(&package("2.0", |_| ()));
    is_state("enabled", "inactive");
    ctl(&["mask", UNIT]);
    install(BUILT);
    is_state("masked", "inactive");
    ctl(&["unmask", UNIT]);
    ctl(&["disable", UNIT]);
    install(&package("2.0", |_| ()));
    is_state("disabled", "inactive");
    dpkg(&["--purge", "autofs"]);
    is_state("disabled", "inactive");
}

#[case(lacking: lacking)]
fn policy_forbids_to_start_and_to_replace() {
    bare();
    fs::write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n").unwrap();
    fs::set_permissions("/usr/sbin/policy-rc.d", fs::Permissions::from_mode(0o755)).unwrap();
    install(BUILT);
    is_state("enabled", "inactive");
    service::maps();
    ctl(&["start", UNIT]);
    let pid = service::main_pid();
    install(&package("2.0", |_| ()));
    is_active(pid);
    assert!(!is_installed(pid));
    dpkg(&["--remove", "autofs-rs"]);
    assert_eq!(property("ActiveState"), "active");
    serves("still");
}

#[case(lacking: lacking)]
fn alone_it_brings_its_configuration_and_takes_it_along() {
    bare();
    // With LDAP and such for the automounter only, the files that are installed serve.
    put("/etc/nsswitch.conf", "automount: sss\n");
    // What an interrupted installation has left.
    put("/run/autofs-rs.install", "ran\n");
    install(BUILT);
    is_state("enabled", "active");
    assert!(table::autofs("/misc").is_some());
    let master = fs::read_to_string("/etc/auto.master").unwrap();
    put("/etc/auto.master", format!("{master}# edited\n"));
    install(&package("2.0", |_| ()));
    assert_eq!(fs::read_to_string("/etc/auto.master").unwrap(), format!("{master}# edited\n"));

    dpkg(&["--remove", "autofs-rs"]);
    assert!(CONFIGURATION.iter().all(|file| fs::exists(file).unwrap()));
    install(BUILT);
    is_state("enabled", "active");
    // On an upgrade what is left says nothing.
    ctl(&["stop", UNIT]);
    put("/run/autofs-rs.install", "ran\n");
    install(&package("2.0", |_| ()));
    is_state("enabled", "inactive");

    dpkg(&["--purge", "autofs-rs"]);
    let left: Vec<_> = CONFIGURATION.iter().filter(|file| fs::exists(file).unwrap()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!fs::exists("/var/lib/autofs-rs").unwrap());
    assert!(!fs::exists("/etc/systemd/system/multi-user.target.wants/autofs.service").unwrap());
}

#[case(lacking: lacking, seconds: 120)]
fn upgrades_interrupt_nothing() {
    bare();
    let other = package("2.0", |_| ());
    service::maps();
    install(BUILT);
    let pid = service::main_pid();
    is_active(pid);
    let mut users = Users::begin();
    let ids = service::ids();
    let lookups = Lookups::begin();
    // An upgrade, a reinstallation, a downgrade; and unpacking apart from configuring.
    let steps: [&[&[&str]]; 4] = [
        &[&["--install", &other]],
        &[&["--install", &other]],
        &[&["--install", BUILT]],
        &[&["--unpack", &other], &["--configure", "autofs-rs"]],
    ];
    for (n, step) in steps.into_iter().enumerate() {
        lookups.go_on();
        let old = service::worker(pid);
        for words in step {
            dpkg(words);
            visit::serves(format!("/auto/during{n}"));
        }
        is_replaced(pid, old);
        visit::serves(format!("/auto/after{n}"));
    }
    lookups.go_on();
    lookups.end("upgrades by dpkg");
    assert_eq!(service::ids(), ids);
    users.live();
    users.end();
    dpkg(&["--remove", "autofs-rs"]);
    assert_eq!((table::below("/auto"), table::below("/d")), (vec![], vec![]));
    assert!(!fs::exists(PROGRAM).unwrap());
}

#[case(lacking: lacking, seconds: 180)]
fn a_broken_version_leaves_the_old_one_serving() {
    bare();
    service::maps();
    install(BUILT);
    let pid = service::main_pid();
    let good = package("2.0", |_| ());
    let daemons: [&[u8]; 3] = [b"#!/bin/sh\nexit 1\n", b"no program", b"#!/bin/sh\nexec sleep 1000\n"];
    for (n, daemon) in daemons.into_iter().enumerate() {
        let old = service::worker(pid);
        let said = install(&broken(&format!("1.{n}"), daemon));
        assert!(said.contains("the old one goes on serving"), "{said}");
        is_active(pid);
        assert_eq!(service::worker(pid), old);
        serves(&format!("broken{n}"));
        install(&good);
        is_replaced(pid, old);
        serves(&format!("repaired{n}"));
    }

    // One that has ended meanwhile is started again by the repair.
    install(&broken("1.9", daemons[0]));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    wait_for("the failure to start again", secs(20), || (property("ActiveState") != "active").then_some(()));
    install(&good);
    is_state("enabled", "active");
    assert!(is_installed(service::main_pid()));
    serves("started");
}

#[case(lacking: lacking)]
fn without_its_unit_or_a_running_system() {
    bare();
    service::maps();
    install(BUILT);
    fs::remove_file("/usr/lib/systemd/system/autofs.service").unwrap();
    ctl(&["daemon-reload"]);
    dpkg(&["--remove", "autofs-rs"]);

    // In a chroot, as image builders have it, nothing is started.
    fs::create_dir("/tmp/root").unwrap();
    run("mount", &["--bind", "/", "/tmp/root"]);
    run("mount", &["-t", "tmpfs", "run", "/tmp/root/run"]);
    fs::copy(BUILT, "/usr/share/autofs-rs.deb").unwrap();
    run("chroot", &["/tmp/root", "dpkg", "--install", "/usr/share/autofs-rs.deb"]);
    is_state("enabled", "inactive");
    run("chroot", &["/tmp/root", "dpkg", "--purge", "autofs-rs"]);
}

#[case(lacking: lacking)]
fn what_depends_on_autofs_is_content() {
    let autofs = debian();
    fs::create_dir_all("/tmp/needs/DEBIAN").unwrap();
    // The last one is that of a package built for the revision of Debian that is replaced.
    let needs = ["autofs", "autofs (>= 5.1.8)", "autofs (>= 5.1.9-1)", "autofs (<< 5.1.10)", "autofs (>= 5.1.9-1.2~)"];
    let needs: Vec<String> = needs
        .iter()
        .enumerate()
        .map(|(n, needs)| {
            let control = format!(
                "Package: needs{n}\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@localhost>\n\
                 Depends: {needs}\nDescription: depends on the automounter\n"
            );
            fs::write("/tmp/needs/DEBIAN/control", control).unwrap();
            let file = format!("/tmp/needs{n}.deb");
            run("dpkg-deb", &["--build", "/tmp/needs", &file]);
            file
        })
        .collect();
    let words: Vec<&str> = std::iter::once("--install").chain(needs.iter().map(String::as_str)).collect();
    dpkg(&words);
    dpkg(&["--auto-deconfigure", "--install", BUILT]);
    assert_eq!(dpkg(&["--audit"]), "");
    is_state("enabled", "active");
    assert!(autofs.contains("autofs_"));
    // They are configured anew with ours.
    dpkg(&words);
    assert_eq!(dpkg(&["--audit"]), "");
}
