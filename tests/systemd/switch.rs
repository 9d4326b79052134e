//! The package takes over from Debian's autofs, in other states than enabled and running.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use crate::common::suite::case;
use crate::common::world::put;
use crate::common::{output, secs};
use crate::package::{
    BUILT, CONFIGURATION, bare, configuration, debian, dpkg, install, is_state, lacking, package, serves,
};
use crate::service::{self, UNIT, Users, ctl, property, run};
use crate::upgrade::PROGRAM;

/// A package that is to fail: what dpkg has said.
fn refused(words: &[&str]) -> String {
    let output = output(Command::new("dpkg").args(words), secs(60)).unwrap();
    assert!(!output.status.success(), "dpkg {words:?} succeeds");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// The machine forgets the service when it stops, as where nothing refers to it; the journal knows nothing either.
fn forget() {
    let target = "/run/systemd/system/test.target";
    let text = fs::read_to_string(target).unwrap();
    fs::write(target, text.replace(" autofs.service", "")).unwrap();
    ctl(&["daemon-reload"]);
    for dir in ["/run/log/journal", "/var/log/journal"] {
        _ = fs::remove_dir_all(dir);
    }
}

#[case(lacking: lacking)]
fn a_disabled_service_that_runs_goes_on() {
    debian();
    ctl(&["disable", UNIT]);
    is_state("disabled", "active");
    install(BUILT);
    is_state("disabled", "active");
    serves("disabled");
}

#[case(lacking: lacking)]
fn what_ran_is_known_without_systemd_and_the_journal() {
    let autofs = debian();
    ctl(&["disable", UNIT]);
    forget();
    install(BUILT);
    is_state("disabled", "active");

    dpkg(&["--purge", "autofs-rs"]);
    install(&autofs);
    ctl(&["enable", UNIT]);
    ctl(&["stop", UNIT]);
    forget();
    install(BUILT);
    is_state("enabled", "inactive");
}

#[case(lacking: lacking)]
fn what_failed_is_started_and_what_was_only_unpacked_too() {
    let autofs = debian();
    put("/etc/default/autofs", "OPTIONS=--nonsense\n");
    ctl(&["stop", UNIT]);
    _ = output(Command::new("systemctl").args(["start", UNIT]), secs(30));
    is_state("enabled", "failed");
    put("/etc/default/autofs", "OPTIONS=\n");
    install(BUILT);
    is_state("enabled", "active");

    dpkg(&["--purge", "autofs-rs"]);
    dpkg(&["--purge", "autofs"]);
    dpkg(&["--unpack", &autofs]);
    install(BUILT);
    is_state("enabled", "active");
    dpkg(&["--purge", "autofs"]);
    is_state("enabled", "active");
}

#[case(lacking: lacking, seconds: 120)]
fn each_file_stays_as_the_administrator_has_it() {
    let autofs = debian();
    fs::remove_file("/etc/auto.misc").unwrap();
    fs::rename("/etc/auto.master", "/etc/master").unwrap();
    symlink("/etc/master", "/etc/auto.master").unwrap();
    fs::remove_file("/etc/auto.smb").unwrap();
    symlink("/nowhere/auto.smb", "/etc/auto.smb").unwrap();
    fs::set_permissions("/etc/auto.net", fs::Permissions::from_mode(0o600)).unwrap();
    put("/etc/autofs.conf", "");
    let stands = || {
        assert!(fs::symlink_metadata("/etc/auto.misc").is_err());
        assert_eq!(fs::read_link("/etc/auto.master").unwrap().to_str(), Some("/etc/master"));
        assert_eq!(fs::read_link("/etc/auto.smb").unwrap().to_str(), Some("/nowhere/auto.smb"));
        assert_eq!(fs::metadata("/etc/auto.net").unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read("/etc/autofs.conf").unwrap(), b"");
        let left = fs::read_dir("/etc").unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let left: Vec<_> = left.filter(|name| name.contains(".ucf-") || name.contains(".dpkg-")).collect();
        assert!(left.is_empty(), "{left:?}");
    };
    let changed = package("2.0", |dir| {
        for name in ["auto.master", "auto.misc", "auto.net", "auto.smb", "autofs.conf"] {
            fs::write(dir.join("usr/share/autofs-rs/conffiles").join(name), "# another\n").unwrap();
        }
    });
    for step in [&["--install", BUILT], &["--purge", "autofs"], &["--install", &changed], &["--remove", "autofs-rs"]] {
        dpkg(step);
        stands();
    }
    install(&autofs);
    dpkg(&["--purge", "autofs-rs"]);
    assert!(fs::symlink_metadata("/etc/auto.misc").is_err());
}

#[case(lacking: lacking)]
fn after_both_were_purged_it_brings_its_files() {
    debian();
    install(BUILT);
    dpkg(&["--purge", "autofs"]);
    dpkg(&["--purge", "autofs-rs"]);
    for file in CONFIGURATION {
        fs::remove_file(file).unwrap();
    }
    install(BUILT);
    is_state("enabled", "active");
    assert!(CONFIGURATION.iter().all(|file| fs::exists(file).unwrap()));
}

#[case(lacking: lacking)]
fn the_authentication_of_ldap_outlives_the_purge_of_its_package() {
    debian();
    let dir = "/tmp/ldap";
    fs::create_dir_all(format!("{dir}/DEBIAN")).unwrap();
    fs::create_dir_all(format!("{dir}/etc")).unwrap();
    let version = run("dpkg-query", &["--show", "--showformat", "${Version}", "autofs"]);
    // Debian's depends on that very version, so that it has to be removed first.
    let control = format!(
        "Package: autofs-ldap\nVersion: 5.1.9\nArchitecture: all\nMaintainer: Nobody <nobody@localhost>\n\
         Depends: autofs (= {version})\nDescription: what Debian's package of this name has\n"
    );
    fs::write(format!("{dir}/DEBIAN/control"), control).unwrap();
    fs::write(format!("{dir}/DEBIAN/conffiles"), "/etc/autofs_ldap_auth.conf\n").unwrap();
    fs::write(format!("{dir}/etc/autofs_ldap_auth.conf"), "as shipped\n").unwrap();
    run("dpkg-deb", &["--build", dir, "/tmp/ldap.deb"]);
    install("/tmp/ldap.deb");
    let secret = || fs::read_to_string("/etc/autofs_ldap_auth.conf").unwrap();
    fs::write("/etc/autofs_ldap_auth.conf", "secret\n").unwrap();
    fs::set_permissions("/etc/autofs_ldap_auth.conf", fs::Permissions::from_mode(0o600)).unwrap();
    install(BUILT);
    assert_eq!(secret(), "secret\n");
    fs::write("/etc/autofs_ldap_auth.conf", "another secret\n").unwrap();
    dpkg(&["--purge", "autofs-ldap"]);
    assert_eq!(secret(), "another secret\n");
    assert_eq!(fs::metadata("/etc/autofs_ldap_auth.conf").unwrap().permissions().mode() & 0o777, 0o600);
}

#[case(lacking: lacking)]
fn what_was_only_unpacked_is_removed_with_its_daemon() {
    bare();
    service::maps();
    dpkg(&["--unpack", BUILT]);
    dpkg(&["--remove", "autofs-rs"]);
    assert!(!fs::exists("/run/autofs-rs.install").unwrap());
    install(BUILT);
    is_state("enabled", "active");
    dpkg(&["--unpack", &package("2.0", |_| ())]);
    dpkg(&["--remove", "autofs-rs"]);
    assert_eq!(property("ActiveState"), "inactive");
}

#[case(lacking: lacking)]
fn a_daemon_that_never_gets_ready_does_not_block_dpkg() {
    debian();
    let mut users = Users::begin();
    let ids = service::ids();
    let never_ready = package("1.0", |dir| {
        fs::write(dir.join(&PROGRAM[1..]), "#!/bin/sh\nexec sleep 1000\n").unwrap();
        // As it is shipped, but for the time.
        let path = dir.join("DEBIAN/postinst");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("timeout 60 \"$@\""));
        fs::write(path, text.replace("timeout 60 \"$@\"", "timeout 3 \"$@\"")).unwrap();
    });
    let good = package("2.0", |_| ());
    // In place of Debian's, and again while systemd waits for it.
    for _ in 0..2 {
        let said = install(&never_ready);
        assert!(said.contains("the service is not ready after a minute"), "{said}");
        is_state("enabled", "activating");
        assert_eq!(service::ids(), ids);
    }
    install(&good);
    is_state("enabled", "active");
    assert_eq!(service::ids(), ids);
    serves("repaired");
    users.live();
    users.end();
}

#[case(lacking: lacking)]
fn a_local_unit_of_debians_kind_is_served_and_upgraded() {
    debian();
    // It starts the daemon in the background and reads its pid file.
    fs::copy("/usr/lib/systemd/system/autofs.service", "/etc/systemd/system/autofs.service").unwrap();
    ctl(&["daemon-reload"]);
    let mut users = Users::begin();
    let ids = service::ids();
    for file in [BUILT, &package("2.0", |_| ())] {
        install(file);
        is_state("enabled", "active");
        assert_eq!(service::ids(), ids);
        serves(file.rsplit('/').next().unwrap());
    }
    users.live();
    users.end();
}

#[case(lacking: lacking, seconds: 120)]
fn a_failed_step_of_dpkg_leaves_the_service_as_it_was() {
    debian();
    let files = configuration();
    let failing = |version: &str, script: &str| {
        package(version, |dir| {
            let path = dir.join("DEBIAN").join(script);
            let text = fs::read_to_string(&path).unwrap();
            // At the end, and so that what the script does is done.
            fs::write(&path, text + "exit 1\n").unwrap();
        })
    };
    // The switch fails: Debian's goes on.
    refused(&["--install", &failing("1.0", "preinst")]);
    is_state("enabled", "active");
    assert!(!fs::exists("/run/autofs-rs.install").unwrap());
    serves("switch");
    // It fails when Debian's has been stopped; the next version knows that it ran.
    let half = package("1.0", |dir| fs::write(dir.join("DEBIAN/postinst"), "#!/bin/sh\nexit 1\n").unwrap());
    refused(&["--install", &half]);
    is_state("enabled", "inactive");

    install(BUILT);
    refused(&["--install", &failing("1.1", "preinst")]);
    is_state("enabled", "active");
    serves("upgrade");
    refused(&["--install", &failing("1.2", "postinst")]);
    is_state("enabled", "active");
    install(&failing("1.3", "prerm"));
    // The removal fails when the service has been stopped: it is started if it had run.
    refused(&["--remove", "autofs-rs"]);
    is_state("enabled", "active");
    serves("removal");
    ctl(&["stop", UNIT]);
    refused(&["--remove", "autofs-rs"]);
    is_state("enabled", "inactive");
    ctl(&["start", UNIT]);
    ctl(&["disable", UNIT]);
    refused(&["--remove", "autofs-rs"]);
    is_state("disabled", "active");
    assert_eq!(configuration(), files);
    // What a removal that was broken off has left says nothing later.
    put("/run/autofs-rs.removal", "");
    ctl(&["stop", UNIT]);
    install(BUILT);
    is_state("disabled", "inactive");
    assert!(!fs::exists("/run/autofs-rs.removal").unwrap());
}

/// The commands of README.md are run as they stand there, but for `cargo build`.
#[case(lacking: lacking)]
fn from_source_beside_debians_autofs_and_back() {
    debian();
    fs::create_dir("/tmp/built").unwrap();
    for program in ["sbin/automount", "bin/autofsctl"] {
        let name = program.split_once('/').unwrap().1;
        fs::copy(format!("/package/usr/{program}"), format!("/tmp/built/{name}")).unwrap();
    }
    let readme = fs::read_to_string("/source/README.md").unwrap();
    let (_, text) = readme.split_once("**From source**").unwrap();
    let blocks = text.split("```console\n").skip(1).take(2).map(|block| block.split("```").next().unwrap());
    let mut users = Users::begin();
    let (ids, files) = (service::ids(), configuration());
    for (block, unit) in blocks.zip(["/usr/local/lib/systemd/system", "/usr/lib/systemd/system"]) {
        let commands: Vec<_> = block.lines().filter_map(|line| line.strip_prefix("# ")).collect();
        assert_eq!(commands.len(), 3, "{block}");
        for command in commands {
            let mut shell = Command::new("sh");
            // Another place than target/release.
            shell.args(["-ec", command]).current_dir("/source").env("MAKEFLAGS", "TARGET=/tmp/built");
            let output = output(&mut shell, secs(60)).unwrap();
            assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        }
        assert_eq!(property("FragmentPath"), format!("{unit}/autofs.service"));
        assert_eq!(property("ActiveState"), "active");
        assert_eq!((service::ids(), configuration()), (ids.clone(), files.clone()));
        serves(unit.split('/').nth(2).unwrap());
    }
    assert!(!fs::exists("/usr/local/sbin/automount").unwrap());
    users.live();
    users.end();
}

/// Changes by systemctl edit, dpkg-divert and dpkg-statoverride, and a missing file of options, outlive the switch, an upgrade
/// and a downgrade. A frontend that would ask has no terminal, and dpkg is told to ask.
#[case(lacking: lacking, seconds: 120)]
fn local_changes_and_missing_answers_are_no_obstacle() {
    debian();
    fs::remove_file("/etc/default/autofs").unwrap();
    put("/etc/systemd/system/autofs.service.d/override.conf", "[Service]\nEnvironment=SITE=here\n");
    ctl(&["daemon-reload"]);
    run("dpkg-statoverride", &["--update", "--add", "root", "adm", "0750", PROGRAM]);
    let page = "/usr/share/man/man8/automount.8.gz";
    run("dpkg-divert", &["--local", "--add", "--no-rename", "--divert", "/usr/share/man/man8/theirs.8.gz", page]);
    put(page, "of the site\n");
    let mut users = Users::begin();
    let ids = service::ids();
    for file in [BUILT, &package("2.0", |_| ()), BUILT] {
        let mut command = Command::new("dpkg");
        command.args(["--force-confask", "--install", file]).env("DEBIAN_FRONTEND", "readline");
        let said = output(command.stdin(std::process::Stdio::null()), secs(60)).expect("an end of dpkg");
        assert!(said.status.success(), "{file}: {}", String::from_utf8_lossy(&[said.stdout, said.stderr].concat()));
        is_state("enabled", "active");
        assert!(!fs::exists("/etc/default/autofs").unwrap(), "{file}");
        assert!(property("Environment").contains("SITE=here"), "{file}");
        assert_eq!(fs::metadata(PROGRAM).unwrap().permissions().mode() & 0o7777, 0o750, "{file}");
        assert_eq!(fs::read_to_string(page).unwrap(), "of the site\n", "{file}");
        assert_eq!(service::ids(), ids, "{file}");
        serves(file.rsplit('/').next().unwrap());
    }
    users.live();
    users.end();
}
