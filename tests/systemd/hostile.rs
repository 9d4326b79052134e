//! The package where steps are broken off, and where the administrator has changed what it expects.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::suite::case;
use crate::common::world::put;
use crate::common::{output, secs, table, visit, wait_for};
use crate::package::{
    BUILT, CONFIGURATION, bare, configuration, debian, dpkg, install, is_state, lacking, package, serves,
};
use crate::service::{self, UNIT, Users, ctl, is_active, main_pid, property, run};
use crate::upgrade::{is_installed, is_replaced};

/// Where enabled units are.
const WANTS: &str = "/etc/systemd/system/multi-user.target.wants";

/// Lines that end dpkg and its maintainer script, as a loss of power does.
const KILL: &str = "kill -KILL $PPID\nkill -KILL $$\n";

/// Makes a package whose `script` is killed before its line that begins with `at`, or at its end.
fn deadly(version: &str, script: &str, at: &str) -> String {
    package(version, |dir| {
        let path = dir.join("DEBIAN").join(script);
        let text = fs::read_to_string(&path).unwrap();
        let text = if at.is_empty() {
            text + KILL
        } else {
            assert_eq!(text.matches(at).count(), 1, "{at}");
            text.replace(at, &format!("{KILL}{at}"))
        };
        fs::write(path, text).unwrap();
    })
}

/// Runs dpkg, which is killed.
#[track_caller]
fn is_killed(words: &[&str]) {
    let output = output(Command::new("dpkg").args(words), secs(60)).unwrap();
    assert_eq!(output.status.code(), None, "{words:?}: {}", String::from_utf8_lossy(&output.stdout));
}

/// Takes what kills dpkg out of the script, so that another attempt reaches its end.
fn mend(script: &str) {
    let path = format!("/var/lib/dpkg/info/autofs-rs.{script}");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(KILL));
    fs::write(&path, text.replace(KILL, "")).unwrap();
}

/// Wherever dpkg is killed during the switch, another attempt starts what ran, and leaves disabled what was disabled.
#[case(lacking: lacking, seconds: 180)]
fn a_switch_that_was_killed_is_completed() {
    let autofs = debian();
    ctl(&["disable", UNIT]);
    let files = configuration();
    let points = [
        ("preinst", ""),
        ("postinst", "# Prints which package ucf"),
        ("postinst", "if [ \"$1\" = configure ] && systemd_runs; then"),
        ("postinst", "        if [ \"$before\" = ran ]"),
        ("postinst", "    # Last, so that another attempt"),
        ("postinst", ""),
    ];
    for (n, (script, at)) in points.into_iter().enumerate() {
        is_killed(&["--install", &deadly(&format!("1.{n}"), script, at)]);
        if script == "preinst" {
            install(BUILT);
        } else {
            mend(script);
            dpkg(&["--configure", "--pending"]);
        }
        is_state("disabled", "active");
        serves(&format!("killed{n}"));
        assert_eq!(dpkg(&["--audit"]), "", "{script}: {at}");
        assert_eq!(configuration(), files, "{script}: {at}");
        // What was noted for the start is not taken for an order to start it later.
        ctl(&["stop", UNIT]);
        install(&package("2.0", |_| ()));
        is_state("disabled", "inactive");
        dpkg(&["--remove", "autofs-rs"]);
        install(&autofs);
        ctl(&["start", UNIT]);
    }
}

/// An upgrade that was killed while unpacking or configuring is completed by the next attempt, and interrupts nothing.
#[case(lacking: lacking, seconds: 120)]
fn an_upgrade_that_was_killed_is_completed() {
    bare();
    service::maps();
    install(BUILT);
    let pid = main_pid();
    let lookups = crate::lookups::Lookups::begin();
    for (n, (script, at)) in [("preinst", ""), ("postinst", "# Prints which package ucf")].into_iter().enumerate() {
        let old = service::worker(pid);
        is_killed(&["--install", &deadly(&format!("1.{n}"), script, at)]);
        is_active(pid);
        let complete = package(&format!("2.{n}"), |_| ());
        install(&complete);
        is_replaced(pid, old);
        serves(&format!("killed{n}"));
    }
    lookups.end("upgrades that were killed");
    is_state("enabled", "active");
}

/// A removal that was killed when it had stopped the services is undone by configuring the package.
#[case(lacking: lacking)]
fn a_removal_that_was_killed_is_undone() {
    bare();
    service::maps();
    put("/etc/auto.master@one", "/site/one /etc/auto.few\n");
    install(BUILT);
    install(&deadly("1.0", "prerm", ""));
    ctl(&["start", "autofs@one.service"]);
    is_killed(&["--remove", "autofs-rs"]);
    is_state("enabled", "inactive");
    run("dpkg", &["--configure", "autofs-rs"]);
    is_state("enabled", "active");
    visit::serves("/site/one/one");
    serves("undone");
    assert!(!fs::exists("/run/autofs-rs.removal").unwrap());
}

/// The command line of Debian's unit, whose daemon detaches, or one for the foreground, in a drop-in of the administrator: the
/// service comes up, is reloaded, upgraded and restarted.
#[case(lacking: lacking, seconds: 120)]
fn a_command_line_of_the_administrator_serves() {
    debian();
    let mut users = Users::begin();
    let ids = service::ids();
    let lines = ["$OPTIONS --pid-file /run/autofs.pid", "--foreground $OPTIONS"];
    for (n, line) in lines.into_iter().enumerate() {
        let text = format!("[Service]\nExecStart=\nExecStart=/usr/sbin/automount --verbose {line}\n");
        put("/etc/systemd/system/autofs.service.d/override.conf", text);
        ctl(&["daemon-reload"]);
        if n == 0 {
            ctl(&["restart", UNIT]);
            install(BUILT);
        } else {
            ctl(&["restart", UNIT]);
        }
        let pid = main_pid();
        is_state("enabled", "active");
        is_active(pid);
        let command = String::from_utf8(fs::read(format!("/proc/{pid}/cmdline")).unwrap()).unwrap();
        assert!(command.contains("\0--verbose\0"), "{command}");
        if n == 0 {
            assert_eq!(fs::read_to_string("/run/autofs.pid").unwrap(), format!("{pid}\n"));
        }
        serves(&format!("started{n}"));
        let more = format!("/more{n}");
        service::master(&format!("{more} /etc/auto.few\n"));
        ctl(&["reload", UNIT]);
        wait_for(&more, secs(10), || table::autofs(&more).map(drop));
        let worker = service::worker(pid);
        install(&package(&format!("2.{n}"), |_| ()));
        is_replaced(pid, worker);
        assert_eq!(service::ids(), ids);
    }
    users.live();
    users.end();
    ctl(&["stop", UNIT]);
    assert_eq!(["ActiveState", "Result"].map(property), ["inactive", "success"]);
}

/// Links in place of directories and files of /etc outlive all steps, and dpkg deletes none of them.
#[case(lacking: lacking, seconds: 120)]
fn links_of_the_administrator_stay() {
    bare();
    put("/srv/snippets/y.autofs", "/linked /etc/auto.few\n");
    _ = fs::remove_dir_all("/etc/auto.master.d");
    symlink("/srv/snippets", "/etc/auto.master.d").unwrap();
    service::maps();
    service::master("+dir:/etc/auto.master.d\n");
    fs::rename("/etc/auto.master", "/srv/master").unwrap();
    symlink("/srv/master", "/etc/auto.master").unwrap();
    put("/srv/conf", "[ autofs ]\ntimeout = 77\n");
    symlink("/srv/conf", "/etc/autofs.conf").unwrap();
    let other = package("2.0", |_| ());
    let steps: [&[&str]; 5] = [
        &["--install", BUILT],
        &["--install", &other],
        &["--remove", "autofs-rs"],
        &["--install", BUILT],
        &["--purge", "autofs-rs"],
    ];
    for step in steps {
        dpkg(step);
        for (link, to) in [
            ("/etc/auto.master.d", "/srv/snippets"),
            ("/etc/auto.master", "/srv/master"),
            ("/etc/autofs.conf", "/srv/conf"),
        ] {
            assert_eq!(fs::read_link(link).ok().as_deref(), Some(Path::new(to)), "{step:?}");
        }
        assert_eq!(table::autofs("/linked").is_some(), step[0] == "--install", "{step:?}");
    }
    assert_eq!(fs::read_to_string("/srv/snippets/y.autofs").unwrap(), "/linked /etc/auto.few\n");
}

/// Enabled daemons with names are started by an installation as the one without is, and purge takes their links along, but not
/// those to a unit of the administrator.
#[case(lacking: lacking, seconds: 120)]
fn enabled_instances_come_and_go_with_the_package() {
    let autofs = debian();
    install(BUILT);
    put("/etc/auto.master@one", "/site/one /etc/auto.few\n");
    put("/etc/auto.master@two", "/site/two /etc/auto.few\n");
    ctl(&["enable", "--now", "autofs@one.service"]);
    ctl(&["start", "autofs@two.service"]);
    let active = |unit: &str| ctl(&["show", "--property=ActiveState", "--value", unit]).trim() == "active";
    dpkg(&["--remove", "autofs-rs"]);
    assert!(fs::symlink_metadata(format!("{WANTS}/autofs@one.service")).is_ok());
    install(BUILT);
    assert!(active("autofs@one.service") && !active("autofs@two.service"));
    visit::serves("/site/one/one");
    // One that is stopped on purpose stays so.
    ctl(&["stop", "autofs@one.service"]);
    install(&package("2.0", |_| ()));
    assert!(!active("autofs@one.service"));
    ctl(&["start", "autofs@one.service"]);

    // Back to Debian's: its service runs alone.
    dpkg(&["--remove", "autofs-rs"]);
    install(&autofs);
    is_state("enabled", "active");
    assert!(!active("autofs@one.service") && table::autofs("/site/one").is_none());
    put(
        "/etc/systemd/system/autofs@.service",
        "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n",
    );
    ctl(&["enable", "autofs@own.service"]);
    fs::rename("/etc/systemd/system/autofs@.service", "/etc/own.service").unwrap();
    fs::remove_file(format!("{WANTS}/autofs@own.service")).unwrap();
    symlink("/etc/own.service", format!("{WANTS}/autofs@own.service")).unwrap();
    dpkg(&["--purge", "autofs-rs"]);
    is_state("enabled", "active");
    let left: Vec<_> = fs::read_dir(WANTS).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(left.contains(&"autofs@own.service".to_owned()), "{left:?}");
    assert!(!left.contains(&"autofs@one.service".to_owned()), "{left:?}");
}

/// dpkg prepares a root without entering it: its files and links are made as by ucf and systemctl, and this system notices nothing.
#[case(lacking: lacking)]
fn a_root_is_prepared_from_outside() {
    bare();
    _ = fs::remove_dir("/etc/auto.master.d");
    another_root();
    let outside = |words: &[&str]| dpkg(&[&["--root=/tmp/root", "--force-script-chrootless"], words].concat());
    let there = |root: &str, file: &str| fs::symlink_metadata(format!("{root}{file}")).is_ok();
    outside(&["--install", BUILT]);
    for file in CONFIGURATION {
        assert_eq!([there("/tmp/root", file), there("", file)], [true, false], "{file}");
    }
    assert!(there("/tmp/root", &format!("{WANTS}/autofs.service")));
    for file in ["/run/autofs-rs.install", "/var/lib/autofs-rs", WANTS] {
        let enabled = format!("{file}/autofs.service");
        let file = if file == WANTS { enabled.as_str() } else { file };
        assert!(!there("", file), "{file}");
    }
    // Inside, what nobody has edited is replaced by the next version, and what was edited stays.
    let other = package("2.0", |dir| {
        for name in ["auto.misc", "autofs.conf"] {
            fs::write(dir.join("usr/share/autofs-rs/conffiles").join(name), "# another\n").unwrap();
        }
    });
    fs::copy(other, "/tmp/root/other.deb").unwrap();
    fs::write("/tmp/root/etc/autofs.conf", "# edited\n").unwrap();
    run("chroot", &["/tmp/root", "env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--install", "/other.deb"]);
    assert_eq!(fs::read_to_string("/tmp/root/etc/auto.misc").unwrap(), "# another\n");
    assert_eq!(fs::read_to_string("/tmp/root/etc/autofs.conf").unwrap(), "# edited\n");
    outside(&["--purge", "autofs-rs"]);
    let left: Vec<_> = CONFIGURATION.iter().filter(|file| there("/tmp/root", file)).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Makes another root in /tmp/root, with what is here.
fn another_root() {
    for dir in ["/tmp/upper", "/tmp/work", "/tmp/root"] {
        fs::create_dir(dir).unwrap();
    }
    run("mount", &["-t", "overlay", "-o", "lowerdir=/,upperdir=/tmp/upper,workdir=/tmp/work", "root", "/tmp/root"]);
}

/// In a chroot that has this system's /run, as rescue and image builders make it, the package leaves this system's service alone.
#[case(lacking: lacking)]
fn a_chroot_with_the_same_run_leaves_the_service_alone() {
    bare();
    service::maps();
    put("/etc/auto.master.d/x.autofs", "/more /etc/auto.few\n");
    install(BUILT);
    let (pid, files) = (main_pid(), configuration());
    let worker = service::worker(pid);
    another_root();
    for dir in ["proc", "sys", "dev", "run"] {
        run("mount", &["--rbind", &format!("/{dir}"), &format!("/tmp/root/{dir}")]);
    }
    fs::copy(package("2.0", |_| ()), "/tmp/root/other.deb").unwrap();
    let inside = ["/tmp/root", "env", "DEBIAN_FRONTEND=noninteractive", "dpkg"];
    for step in [["--install", "/other.deb"], ["--purge", "autofs-rs"], ["--install", "/other.deb"]] {
        run("chroot", &[&inside[..], &step].concat());
        is_active(pid);
        assert_eq!(service::worker(pid), worker, "{step:?}");
        assert!(fs::exists("/run/autofs/control").unwrap() && !fs::exists("/run/autofs-rs.install").unwrap());
        serves(&step.concat().replace('/', "-"));
    }
    assert_eq!(configuration(), files);
    is_state("enabled", "active");
}

/// Makes a directory a full file system of its own, with what is in it.
fn fill(dir: &str) {
    run("cp", &["-a", dir, "/tmp/full"]);
    run("mount", &["-t", "tmpfs", "-o", "size=16m", "full", dir]);
    run("cp", &["-a", "/tmp/full/.", dir]);
    let filled = output(Command::new("dd").args(["if=/dev/zero", "bs=4k", &format!("of={dir}/.fill")]), secs(20));
    assert!(!filled.unwrap().status.success());
}

/// Where /etc is full, the package is not configured, and no file is cut off or changed; with room again it is completed.
#[case(lacking: lacking, seconds: 120)]
fn a_full_disk_leaves_no_file_cut_off() {
    bare();
    let large = |name: &str| format!("{}# {name}\n", "# long\n".repeat(9000));
    let next = package("2.0", |dir| {
        for name in ["auto.master", "autofs.conf"] {
            fs::write(dir.join("usr/share/autofs-rs/conffiles").join(name), large(name)).unwrap();
        }
    });
    let fails = |file: &str| {
        let output = output(Command::new("dpkg").args(["--install", file]), secs(60)).unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!output.status.success() && said.contains("No space left on device"), "{said}");
    };
    let texts = || CONFIGURATION.map(|file| fs::read_to_string(file).ok());
    fill("/etc");
    fails(BUILT);
    assert!(texts().iter().all(Option::is_none), "{:?}", texts());
    fs::remove_file("/etc/.fill").unwrap();
    dpkg(&["--configure", "--pending"]);
    is_state("enabled", "active");
    for (file, text) in CONFIGURATION.iter().zip(texts()) {
        let shipped = fs::read_to_string(file.replace("/etc/", "/usr/share/autofs-rs/conffiles/")).unwrap();
        assert_eq!(text, Some(shipped), "{file}");
    }

    let (pid, before) = (main_pid(), texts());
    run("sh", &["-c", "! dd if=/dev/zero bs=4k of=/etc/.fill"]);
    fails(&next);
    assert_eq!(texts(), before);
    assert_eq!((main_pid(), property("ActiveState")), (pid, "active".to_owned()));
    fs::remove_file("/etc/.fill").unwrap();
    dpkg(&["--configure", "--pending"]);
    assert_eq!(fs::read_to_string("/etc/auto.master").unwrap(), large("auto.master"));
    assert_eq!(fs::read_to_string("/etc/autofs.conf").unwrap(), large("autofs.conf"));
    is_replaced_in_place(pid);
    let left: Vec<_> = fs::read_dir("/etc").unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!left.iter().any(|name| name.contains(".autofs-rs-") || name.contains(".ucf-")), "{left:?}");
}

/// Checks that the daemon is of the installed program, in its old process.
fn is_replaced_in_place(pid: i32) {
    assert_eq!(main_pid(), pid);
    wait_for("the new program", secs(10), || is_installed(pid).then_some(()));
}

/// The unit wants, and follows, all that Debian's does, so that a site that relies on that finds it; and starts no server that may have
/// been disabled on purpose.
#[case(lacking: lacking)]
fn the_unit_keeps_to_the_order_of_debians() {
    debian();
    let words = |name: &str| property(name).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let theirs = ["After", "Wants", "WantedBy", "Before", "Conflicts", "Names"].map(|name| (name, words(name)));
    install(BUILT);
    for (name, theirs) in theirs {
        let ours = words(name);
        // The file systems of what a unit refers to are its own matter.
        let lost: Vec<_> = theirs.iter().filter(|unit| !unit.ends_with(".mount") && !ours.contains(unit)).collect();
        assert!(lost.is_empty(), "{name}: {lost:?}");
        if name == "Wants" {
            assert_eq!(ours.len(), theirs.len(), "{ours:?}");
        }
    }
}

/// Without the tools of init-system-helpers, systemctl is called: nothing runs on without its package.
#[case(lacking: lacking)]
fn without_debians_helpers_the_service_follows_the_package() {
    bare();
    service::maps();
    install(BUILT);
    for tool in ["/usr/bin/deb-systemd-invoke", "/usr/bin/deb-systemd-helper"] {
        fs::remove_file(tool).unwrap();
    }
    let said = dpkg(&["--remove", "autofs-rs"]);
    assert!(!said.contains("not found"), "{said}");
    assert_eq!((property("ActiveState"), table::autofs("/few").is_some()), ("inactive".to_owned(), false));
    let said = install(BUILT);
    assert!(!said.contains("not found"), "{said}");
    is_state("enabled", "active");
    serves("again");
}

/// Packages with debug symbols depend on just one version of Debian's packages; dpkg removes them with those.
#[case(lacking: lacking)]
fn debug_symbols_of_debians_are_no_obstacle() {
    debian();
    let version = run("dpkg-query", &["--show", "--showformat", "${Version}", "autofs"]);
    let needs = |name: &str, of: &str| {
        let dir = format!("/tmp/{name}");
        put(
            &format!("{dir}/DEBIAN/control"),
            format!(
                "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Nobody <nobody@localhost>\n\
                 Depends: {of} (= {version})\nDescription: depends on one version\n"
            ),
        );
        let file = format!("{dir}.deb");
        run("dpkg-deb", &["--build", &dir, &file]);
        install(&file);
    };
    for (name, of) in [
        ("autofs-ldap", "autofs"),
        ("autofs-hesiod", "autofs"),
        ("autofs-dbgsym", "autofs"),
        ("autofs-ldap-dbgsym", "autofs-ldap"),
        ("autofs-hesiod-dbgsym", "autofs-hesiod"),
    ] {
        needs(name, of);
    }
    install(BUILT);
    is_state("enabled", "active");
    assert_eq!(dpkg(&["--audit"]), "");
    serves("symbols");
}

/// What docs/MIGRATING-FROM-AUTOFS.md says about the time before the switch: the program is not installed, autofs runs.
#[case(lacking: lacking)]
fn what_is_asked_before_the_switch() {
    debian();
    run("dpkg-deb", &["--extract", BUILT, "/tmp/extracted"]);
    let program = "/tmp/extracted/usr/bin/autofsctl";
    assert!(run(program, &["check"]).contains("0 errors"));
    let said = run(program, &["explain", "--offline", "/auto/key"]);
    assert!(said.contains("/auto/key: an access would mount it"), "{said}");
    assert!(!table::served("/auto/key"));
}

/// Writes /etc/default/autofs and restarts the service; the options that the daemon has got.
fn options_of(text: &str) -> Vec<String> {
    put("/etc/default/autofs", text);
    // Debian's unit may be started five times in ten seconds.
    ctl(&["reset-failed", UNIT]);
    ctl(&["restart", UNIT]);
    let command = String::from_utf8(fs::read(format!("/proc/{}/cmdline", main_pid())).unwrap()).unwrap();
    let own = ["--systemd-service", "--dont-check-daemon", "--pid-file", "/var/run/autofs.pid"];
    command.split('\0').skip(1).filter(|word| !word.is_empty() && !own.contains(word)).map(str::to_owned).collect()
}

/// However /etc/default/autofs is written, the options are those that Debian's unit passes on.
#[case(lacking: lacking, seconds: 120)]
fn options_are_those_of_debians_unit() {
    debian();
    let texts = [
        "OPTIONS=--verbose\n",
        "export OPTIONS=\"--verbose\"\n",
        "OPTIONS='--verbose --timeout=77'\n",
        "OPTIONS=\"--timeout=77\"\r\n",
        "OPTIONS=\"--verbose \\\n --timeout=66\"\nOTHER=1\n",
        "# OPTIONS=--verbose\n",
        "OPTIONS=\"\"\nUSE_MISC_DEVICE=\"yes\"\n",
        "OPTIONS=--verbose\nOPTIONS=--timeout=55\n",
        "",
    ];
    let theirs = texts.map(options_of);
    assert_eq!(theirs[2], ["--verbose", "--timeout=77"]);
    install(BUILT);
    assert_eq!(texts.map(options_of), theirs);
    fs::remove_file("/etc/default/autofs").unwrap();
    ctl(&["restart", UNIT]);
    serves("without");
}

/// Mounts in use outlive the purge of the package, and the next installation takes them over; nothing else is left by either.
#[case(lacking: lacking, seconds: 120)]
fn mounts_in_use_outlive_the_package() {
    bare();
    service::maps();
    install(BUILT);
    let mut users = Users::begin();
    let ids = service::ids();
    visit::serves("/auto/idle");
    for _ in 0..2 {
        dpkg(&["--purge", "autofs-rs"]);
        assert_eq!(service::ids(), ids);
        assert!(!table::served("/auto/idle"));
        users.live();
        for path in ["/run/autofs", "/run/autofs-rs.install", "/run/autofs-rs.removal", "/var/lib/autofs-rs"] {
            assert!(!fs::exists(path).unwrap(), "{path}");
        }
        assert_eq!(property("LoadState"), "not-found");
        service::maps();
        install(BUILT);
        assert_eq!(service::ids(), ids);
        serves("again");
    }
    users.end();
    // They are unmounted like any others.
    ctl(&["stop", UNIT]);
    assert_eq!((table::below("/auto"), table::below("/d")), (vec![], vec![]));
}

/// No number of restarts in a row ends the service for good.
#[case]
fn twenty_restarts_in_a_row() {
    service::start();
    let mut users = Users::begin();
    let ids = service::ids();
    for _ in 0..20 {
        ctl(&["restart", UNIT]);
    }
    users.are_served_as_before(main_pid(), &ids, 20);
    users.end();
}

/// The options of the script that builds the package.
#[case(lacking: lacking)]
fn the_script_that_builds_it_explains_itself() {
    let build = "/source/packaging/build-deb";
    assert!(run(build, &["--help"]).starts_with("build-deb [--programs DIR] [VERSION]: "));
    for words in [&["--nonsense"][..], &["--programs"], &["--programs", "/nowhere"], &["1", "2"], &["version"]] {
        let output = output(Command::new(build).args(words), secs(10)).unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
        assert!(said.starts_with("build-deb: ") && said.lines().count() == 1, "{words:?}: {said}");
    }
}

/// Has systemd executed anew up to six times, a second apart, while something is done.
fn while_systemd_is_executed_anew(act: impl FnOnce()) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..6 {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                _ = output(Command::new("systemctl").arg("daemon-reexec"), secs(20));
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
        });
        act();
        over.store(true, Ordering::Relaxed);
    });
}

/// systemd does not answer for a moment, and a removal still stops the service, and an installation starts it.
#[case(lacking: lacking, seconds: 240)]
fn systemd_is_executed_anew_during_a_removal() {
    bare();
    service::maps();
    install(BUILT);
    serves("before");
    while_systemd_is_executed_anew(|| drop(dpkg(&["--remove", "autofs-rs"])));
    assert_eq!(property("ActiveState"), "inactive");
    assert_eq!((table::below("/auto"), table::below("/d")), (vec![], vec![]));
    while_systemd_is_executed_anew(|| drop(install(BUILT)));
    is_state("enabled", "active");
    serves("again");
}

/// systemd does not answer for a moment, and a switch still knows that the service ran, and starts it.
#[case(lacking: lacking, seconds: 240)]
fn systemd_is_executed_anew_during_the_switch() {
    debian();
    let mut users = Users::begin();
    let ids = service::ids();
    while_systemd_is_executed_anew(|| drop(install(BUILT)));
    is_state("enabled", "active");
    assert!(is_installed(main_pid()));
    assert_eq!(service::ids(), ids);
    serves("anew");
    users.live();
    users.end();
}

/// Options of dpkg and ucf that overwrite or restore configuration, and a directory of programs that cannot be written.
#[case(lacking: lacking, seconds: 120)]
fn files_that_were_deleted_stay_so_and_a_read_only_system_goes_on() {
    debian();
    fs::remove_file("/etc/auto.misc").unwrap();
    let master = fs::read("/etc/auto.master").unwrap();
    for option in ["--force-confnew", "--force-confmiss", "--force-confold", "--force-confdef"] {
        dpkg(&[option, "--install", BUILT]);
        is_state("enabled", "active");
        assert_eq!(fs::read("/etc/auto.master").unwrap(), master, "{option}");
        assert!(!fs::exists("/etc/auto.misc").unwrap(), "{option}");
        serves(option.trim_start_matches('-'));
    }
    let pid = main_pid();
    run("mount", &["--bind", "/usr", "/usr"]);
    run("mount", &["-o", "remount,bind,ro", "/usr"]);
    let other = package("2.0", |_| ());
    let mut command = Command::new("dpkg");
    let refused = output(command.args(["--install", &other]), secs(60)).unwrap();
    assert!(!refused.status.success());
    is_active(pid);
    serves("readonly");
    run("umount", &["--lazy", "/usr"]);
    install(&other);
    is_replaced_in_place(pid);
    assert_eq!(dpkg(&["--audit"]), "");
}
