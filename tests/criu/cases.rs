//! Checkpoints and restores of a container with the daemon.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::common::table::Mounted;
use crate::common::{secs, wait_for};
use crate::container::{Container, ROOT, put};
use crate::directory;
use crate::host::{Case, PROGRAM, measured};
use crate::limits;

const fn case(name: &'static str, acts: &'static [&'static str], seconds: u64) -> Case {
    Case { name, acts, deadline: secs(seconds) }
}

/// All of them.
pub const ALL: &[Case] = &[
    case("an_idle_daemon_comes_back_twice", &["idle"], 60),
    case("what_is_mounted_comes_back_twice", &["active"], 60),
    case("it_comes_back_on_another_machine", &["leave", "elsewhere"], 60),
    case("an_idle_one_comes_back_on_another_machine", &["leave_idle", "idle_elsewhere"], 60),
    case("the_original_and_the_copy_both_serve", &["both"], 60),
    case("the_original_goes_on", &["leave_running"], 60),
    case("three_hundred_mounts_come_back_parked", &["many"], 90),
    case("every_dump_under_load_succeeds", &["load"], 120),
    case("a_rest_without_a_dump_ends_by_itself", &["lease"], 60),
    case("what_criu_does_not_know_is_unmounted", &["unsupported"], 60),
    case("the_hooks_leave_no_gap_behind_them", &["hooks"], 90),
    case("each_limit_is_said", &["limits"], 90),
    case("a_multi_mount_without_a_floor_is_reported", &["floor"], 60),
    case("maps_in_ldap_come_back", &["ldap"], 120),
    case("crun_takes_it_along", &["crun"], 60),
];

/// What the action script is called with.
const HOOK: [&str; 2] = ["--action-script", "/usr/libexec/autofs/criu-action"];

/// Plays an act of a test.
pub fn body(act: &str) {
    match act.split_once(':').unwrap().1 {
        "idle" => rounds(false),
        "active" => rounds(true),
        "leave" => leave(true),
        "leave_idle" => leave(false),
        "elsewhere" => elsewhere(true),
        "idle_elsewhere" => elsewhere(false),
        "both" => both(),
        "hooks" => hooks(),
        "limits" => limits::each_is_said(),
        "leave_running" => leave_running(),
        "many" => many(),
        "load" => load(),
        "lease" => lease(),
        "unsupported" => unsupported(),
        "floor" => floor(),
        "ldap" => directory::comes_back(),
        "crun" => crun(),
        other => panic!("no act {other}"),
    }
}

/// Where something is mounted in the maps of [`maps`], one of each kind.
const USED: [&str; 10] = [
    "/auto/t0",
    "/auto/b0",
    "/auto/mm0",
    "/auto/mm0/a",
    "/auto/mm0/a/b",
    "/auto/rl0/x/y",
    "/auto/rl0/z",
    "/br/one",
    "/d/one",
    "/d/rl/x",
];

/// Maps with everything in them: tmpfs, bind mounts, multi-mounts with and without a root, browsing, direct mounts.
fn maps() {
    put("/srv/bound/f", "bound");
    let master = "/auto /etc/auto.auto --timeout=600 nobrowse\n/ex /etc/auto.auto --timeout=600 nobrowse\n\
                  /br /etc/auto.br --timeout=600 browse\n/se /etc/auto.br --timeout=600 strictexpire,nobrowse\n\
                  /- /etc/auto.direct --timeout=600\n";
    put("/etc/auto.master", master);
    let mut keys = String::new();
    for n in 0..10 {
        keys += &format!("t{n} -fstype=tmpfs :tmpfs\nb{n} :/srv/bound\n");
        keys += &format!("mm{n} / -fstype=tmpfs :tmpfs /a -fstype=tmpfs :tmpfs /a/b -fstype=tmpfs :tmpfs\n");
        keys += &format!("rl{n} /x/y -fstype=tmpfs :tmpfs /z -fstype=tmpfs :tmpfs\n");
    }
    put("/etc/auto.auto", &keys);
    put("/etc/auto.br", "one -fstype=tmpfs :tmpfs\ntwo -fstype=tmpfs :tmpfs\n");
    put(
        "/etc/auto.direct",
        "/d/one -fstype=tmpfs :tmpfs\n/d/two -fstype=tmpfs :tmpfs\n/d/rl /x -fstype=tmpfs :tmpfs\n",
    );
}

/// Mounts one of each kind and leaves a mark there.
fn use_all(container: &Container) {
    for path in USED {
        container.serves(path);
        container.run(&["/bin/touch", &format!("{path}/mark")]);
    }
}

/// Checks that everything works: existing mounts, new keys, expiry, a reload; and that the status of the daemon is right.
fn works(container: &Container, active: bool, round: usize) {
    for path in USED {
        container.serves(path);
        let mark = container.run(&["/bin/ls", &format!("{path}/mark")]).status.success();
        assert!(!active || mark, "{path} is another one");
    }
    for path in ["t", "b", "mm"].map(|kind| format!("/auto/{kind}{round}")) {
        container.serves(&path);
    }
    container.serves(&format!("/auto/mm{round}/a/b"));
    container.serves(&format!("/auto/rl{round}/z"));
    assert_eq!(container.visit("/auto/none"), libc::ENOENT);
    let names = container.run(&["/bin/ls", "/br"]).stdout;
    assert_eq!(String::from_utf8_lossy(&names), "one\ntwo\n", "browse directories");

    // Every autofs mount has a living pipe of this daemon's, and each of its pipes is one that it reads.
    let pid = container.status()["pid"].as_u64().unwrap().to_string();
    let open = container.run(&["/bin/sh", "-c", &format!("ls -l /proc/{pid}/fd")]).stdout;
    let open = String::from_utf8_lossy(&open);
    for line in container.table().iter().filter(|m| m.fstype == "autofs") {
        let inode = line.option("pipe_ino").unwrap();
        assert!(open.contains(&format!("pipe:[{inode}]")), "{line:?}\n{open}");
        assert_eq!(line.option("timeout"), Some("600"), "{line:?}");
    }

    // As many as the mount table has.
    let status = container.status();
    let told: u64 = status["mount_points"].as_array().unwrap().iter().map(|p| p["mounted"].as_u64().unwrap()).sum();
    for path in ["/auto/rl0", &format!("/auto/rl{round}"), "/d/rl"] {
        assert!(container.mounted(path), "no placeholder at {path}");
    }
    let listed: Value = serde_json::from_str(&container.order(&["mounts", "--json"])).unwrap();
    for mount in listed["mounts"].as_array().unwrap() {
        let path = mount["path"].as_str().unwrap();
        assert!(container.mounted(path), "{path} is listed and not mounted");
    }
    // The parts of a direct entry are no keys of their own.
    let ours = |m: &Mounted| {
        let is_below = |at: &&str| m.target.starts_with(at);
        m.fstype != "autofs" && ["/auto", "/br", "/d", "/ex", "/se"].iter().any(is_below) && !is_below(&"/d/rl/x")
    };
    assert_eq!(told, container.table().iter().filter(|m| ours(m)).count() as u64, "{status}\n{}", container.shown());

    // What is unused goes, and comes again.
    for path in ["/ex/t0", "/ex/mm0", "/ex/rl0/z", "/d/two"] {
        wait_for(path, secs(10), || (container.visit(path) == 0 && container.mounted(path)).then_some(()));
        container.order(&["expire", path]);
        wait_for(&format!("the expiry of {path}"), secs(10), || (!container.mounted(path)).then_some(()));
        // The run goes on until nothing is left, and takes what comes meanwhile along.
        wait_for(&format!("{path} again"), secs(10), || {
            (container.visit(path) == 0 && container.mounted(path)).then_some(())
        });
    }

    // A new key.
    let (key, line) = (format!("new{round}"), format!("new{round} -fstype=tmpfs :tmpfs\n"));
    let map = Path::new(ROOT).join("etc/auto.auto");
    fs::write(&map, fs::read_to_string(&map).unwrap() + &line).unwrap();
    container.order(&["reload"]);
    wait_for("a new key", secs(10), || (container.visit(&format!("/auto/{key}")) == 0).then_some(()));
    container.serves(&format!("/auto/{key}"));
}

/// Checks that all conditions of a checkpoint are met.
fn can_be_dumped(container: &Container) {
    let report = container.ctl(&["migrate-check"]);
    assert!(report.status.success(), "{}", String::from_utf8_lossy(&report.stdout));
}

/// Nothing wakes the daemon up while nothing happens.
fn sleeps(container: &Container) {
    let keeper = container.status()["pid"].as_u64().unwrap().to_string();
    let script =
        format!("cat /proc/{keeper}/status /proc/$(cat /proc/{keeper}/task/{keeper}/children | tr -d ' ')/status");
    let woken = || {
        let text = container.run(&["/bin/sh", "-c", &script]).stdout;
        let text = String::from_utf8(text).unwrap();
        let times = text.lines().filter_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse().ok());
        times.collect::<Vec<u64>>()
    };
    // The mount table is looked at a second after it has changed.
    std::thread::sleep(secs(3));
    let before = woken();
    std::thread::sleep(secs(1));
    assert_eq!((before.len(), woken()), (2, before), "keeper, worker");
}

/// Two rounds of dump and restore without any help, with nothing mounted or with one of each kind.
fn rounds(active: bool) {
    maps();
    let mut container = Container::start(&[]);
    if active {
        use_all(&container);
    }
    for round in 1..=2 {
        can_be_dumped(&container);
        container.dump(&[]);
        container.restore(&[]);
        let began = Instant::now();
        container.serves(&format!("/auto/t{}", 5 + round));
        measured("first access after the restore", began.elapsed());
        works(&container, active || round > 1, round);
        if !active && round == 1 {
            use_all(&container);
        }
        let strict = |m: &Mounted| m.target == Path::new("/se") && m.options.contains("strictexpire");
        let end = Instant::now() + secs(10);
        while !container.table().iter().any(strict) {
            assert!(Instant::now() < end, "/se is not mounted anew\n{}\n{}", container.log(), container.shown());
            std::thread::sleep(secs(1) / 50);
        }
        assert_eq!(container.status()["restores"], round);
    }
    sleeps(&container);
    // The keeper has all that a new worker needs.
    let keeper = container.status()["pid"].as_u64().unwrap().to_string();
    let worker = container.run(&["/bin/sh", "-c", &format!("kill -9 $(cat /proc/{keeper}/task/{keeper}/children)")]);
    assert!(worker.status.success());
    container.serves("/auto/t9");
    container.ready();
    works(&container, true, 3);
}

/// Parked when something is mounted, as it is when not.
fn leave(active: bool) {
    maps();
    let mut container = Container::start(&[]);
    if active {
        use_all(&container);
    }
    container.dump(if active { &HOOK } else { &[] });
}

/// With the images of [`leave`], where the mount table is another one.
fn elsewhere(active: bool) {
    let mut container = Container::dumped("1");
    container.restore(&[]);
    works(&container, active, 1);
    assert_eq!(container.status()["restores"], 1);
    can_be_dumped(&container);
}

/// When criu has ended, everything is served, whether the hook says so first or the daemon notices first.
fn hooks() {
    maps();
    let mut container = Container::start(&[]);
    for round in 0..10 {
        container.dump(&HOOK);
        container.restore(&HOOK);
        container.serves(&format!("/auto/t{round}"));
        let log = container.log();
        let times = |text: &str| log.matches(text).count();
        let (noticed, served) = (times("restored from a checkpoint"), times("autofs mounts are served again"));
        assert_eq!((noticed, served), (round + 1, round + 1), "{log}");
    }
    works(&container, false, 1);
}

/// A copy is restored while the original runs: neither takes notice of the other.
fn both() {
    maps();
    let mut original = Container::start(&[]);
    use_all(&original);
    let copy = original.copy(&[]);
    for (container, restores) in [(&original, 0), (&copy, 1)] {
        works(container, true, 1 + restores);
        assert_eq!(container.status()["restores"], restores);
        assert_eq!(container.status()["rest"], Value::Null);
    }
    // What one has expired is there in the other.
    copy.order(&["expire", "/auto/t0"]);
    wait_for("the expiry", secs(10), || (!copy.mounted("/auto/t0")).then_some(()));
    assert!(original.mounted("/auto/t0"));
    copy.serves("/auto/t0");
    let mark = |container: &Container| container.run(&["/bin/ls", "/auto/t0/mark"]).status.success();
    assert_eq!((mark(&original), mark(&copy)), (true, false));
}

/// The original of a dump serves on: untouched if it was live, at once if it was parked.
fn leave_running() {
    maps();
    let mut container = Container::start(&[]);
    use_all(&container);
    container.dump(&["--leave-running"]);
    works(&container, true, 1);
    let more = [&["--leave-running"], &HOOK[..]].concat();
    container.dump(&more);
    let began = Instant::now();
    wait_for("the end of the rest", secs(5), || (container.visit("/auto/t7") == 0).then_some(()));
    measured("rest after a dump that leaves the original running", began.elapsed());
    works(&container, true, 2);
    assert_eq!(container.status()["restores"], 0);
    // And the copy of that parked original.
    container.dump(&[]);
    container.restore(&[]);
    works(&container, true, 3);
}

fn many() {
    put("/etc/auto.master", "/- /etc/auto.direct --timeout=600\n/auto /etc/auto.auto\n");
    put("/etc/auto.auto", "* -fstype=tmpfs :tmpfs\n");
    let keys = (0..300).map(|n| format!("/d/{} -fstype=tmpfs :tmpfs\n", n));
    put("/etc/auto.direct", &keys.collect::<String>());
    let mut container = Container::start(&[]);
    let autofs = |container: &Container| container.table().iter().filter(|m| m.fstype == "autofs").count();
    wait_for("all mounts", secs(20), || (autofs(&container) == 301).then_some(()));
    container.serves("/d/7");
    let report = container.order(&["migrate-check"]);
    assert!(report.contains("B1      QUIESCE"), "{report}");
    let began = Instant::now();
    container.order(&["quiesce", "--mode", "park"]);
    measured("quiesce of 301 mounts", began.elapsed());
    container.dump(&[]);
    container.restore(&[]);
    let began = Instant::now();
    wait_for("the end of the rest", secs(20), || {
        container.table().iter().all(|m| m.option("pipe_ino") != Some("-1")).then_some(())
    });
    measured("301 mounts live again", began.elapsed());
    for path in ["/d/0", "/d/7", "/d/299", "/auto/x"] {
        container.serves(path);
    }
    assert_eq!(autofs(&container), 301);
    let status = container.status();
    assert_eq!((&status["restores"], &status["rest"]), (&json!(1), &Value::Null));
    container.order(&["expire", "/d/299"]);
    wait_for("an expiry", secs(10), || (!container.mounted("/d/299")).then_some(()));
    container.serves("/d/299");
    let more = (0..301).map(|n| format!("/d/{} -fstype=tmpfs :tmpfs\n", n));
    put("/etc/auto.direct", &more.collect::<String>());
    container.order(&["reload"]);
    wait_for("a new key", secs(10), || (autofs(&container) == 302).then_some(()));
    container.serves("/d/300");
}

fn load() {
    put("/etc/auto.master", "/auto /etc/auto.auto --timeout=1\n");
    let keys = (0..20).step_by(4).map(|n| format!("k{n} -fstype=tmpfs :tmpfs\n"));
    put("/etc/auto.auto", &(keys.collect::<String>() + "late -fstype=tmpfs :tmpfs\n"));
    let mut container =
        Container::start(&[PROGRAM, "--look-up", "/auto", "20", "--", PROGRAM, "--look-up", "/auto", "7"]);
    let more = [&["--leave-running"], &HOOK[..]].concat();
    for n in 0..20 {
        let dumped = container.try_dump(&more);
        assert!(dumped.is_ok(), "dump {n}: {dumped:?}\n{}", container.log());
        wait_for("the end of the rest", secs(5), || (container.visit("/auto/late") == 0).then_some(()));
    }
    for _ in 0..2 {
        container.dump(&HOOK);
        container.restore(&HOOK);
        container.serves("/auto/late");
    }
    let looking = container.run(&["/bin/sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]).stdout;
    // Twice in the command line of the first process.
    assert_eq!(String::from_utf8_lossy(&looking).matches("--look-up").count(), 2 + 2, "those who look things up live");
    let wrong = fs::read_to_string(Path::new(ROOT).join("var/log/look-up")).unwrap_or_default();
    assert_eq!(wrong, "", "other errors than ENOENT");
}

/// A rest ends when its time is over, and when it cannot be had everything goes on at once.
fn lease() {
    maps();
    let container = Container::start(&[]);
    container.serves("/auto/t0");
    let said: Value = serde_json::from_str(&container.order(&["--json", "quiesce", "--lease", "2s"])).unwrap();
    assert_eq!((&said["mode"], &said["lease"]), (&json!("park"), &json!(2)));
    assert_eq!(container.visit("/auto/t1"), libc::ENOENT, "{}\n{}", container.log(), container.shown());
    assert_eq!(container.visit("/auto/t0"), 0, "what is mounted stays in use");
    let rest = &container.status()["rest"];
    assert_eq!((&rest["mode"], &rest["ready"]), (&json!("park"), &json!(true)));
    wait_for("the end of the lease", secs(5), || (container.visit("/auto/t2") == 0).then_some(()));
    assert_eq!(container.status()["rest"], Value::Null);
    works(&container, false, 1);

    container.order(&["quiesce", "--mode", "live", "--lease", "20s"]);
    container.serves("/auto/t5");
    // What is asked for meanwhile is done afterwards.
    put("/etc/auto.br", "three -fstype=tmpfs :tmpfs\n");
    container.order(&["reload", "--no-wait"]);
    container.order(&["resume"]);
    wait_for("the reload", secs(5), || (container.visit("/br/three") == 0).then_some(()));
    container.order(&["resume"]);
}

/// `ramfs` is used in place of NFS, because CRIU does not support it either.
fn unsupported() {
    put("/etc/auto.master", "/auto /etc/auto.auto --timeout=600\n");
    put("/etc/auto.auto", "ram -fstype=ramfs :ramfs\nt -fstype=tmpfs :tmpfs\n");
    let mut container = Container::start(&[]);
    container.serves("/auto/ram");
    container.serves("/auto/t");
    let report = container.order(&["migrate-check"]);
    assert!(report.contains("D13     QUIESCE") && report.contains("--enable-fs ramfs"), "{report}");

    // In use: it is said, and everything goes on.
    let mut user = Command::new("nsenter")
        .args(["-t", &container.pid.to_string(), "-m", "-p", "--", "/bin/sh", "-c", "cd /auto/ram; exec sleep 30"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("somebody in there", secs(5), || {
        let report = container.run(&["/bin/sh", "-c", "readlink /proc/[0-9]*/cwd"]).stdout;
        String::from_utf8_lossy(&report).contains("/auto/ram").then_some(())
    });
    let refused = container.ctl(&["quiesce", "--timeout", "2s"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(5) && said.contains("/auto/ram (ramfs)"), "{said}");
    assert_eq!(container.visit("/auto/none"), libc::ENOENT);
    // nsenter waits for the process that it has started inside.
    container.run(&[
        "/bin/sh",
        "-c",
        "for p in /proc/[0-9]*; do read n < $p/comm; [ $n != sleep ] || kill ${p#/proc/}; done",
    ]);
    _ = user.wait();

    let said: Value = serde_json::from_str(&container.order(&["--json", "quiesce"])).unwrap();
    assert_eq!(said["unmounted"], json!(["/auto/ram"]));
    container.dump(&[]);
    container.restore(&[]);
    wait_for("the end of the rest", secs(5), || (container.visit("/auto/ram") == 0).then_some(()));
    container.serves("/auto/ram");
}

/// Without placeholders the daemon says what CRIU will not restore.
fn floor() {
    maps();
    put("/etc/autofs.toml", "[mount]\nplaceholder = \"never\"\n");
    let mut container = Container::start(&[]);
    container.serves("/auto/rl0/x/y");
    assert!(!container.mounted("/auto/rl0"));
    let report = container.ctl(&["migrate-check"]);
    let text = String::from_utf8_lossy(&report.stdout).into_owned();
    assert_eq!(report.status.code(), Some(1), "{text}");
    assert!(text.contains("B2      FAIL"), "{text}");
    put("/etc/autofs.toml", "[mount]\nplaceholder = \"always\"\n");
    container.order(&["reload"]);
    let below = |m: &Mounted| m.target.starts_with("/auto/rl0");
    wait_for("the expiry", secs(10), || {
        container.order(&["expire"]);
        (!container.table().iter().any(below)).then_some(())
    });
    container.serves("/auto/rl0/x/y");
    assert!(container.mounted("/auto/rl0"));
    can_be_dumped(&container);
    container.dump(&[]);
    container.restore(&[]);
    container.serves("/auto/rl0/z");
}

/// A container that an OCI runtime checkpoints and restores, with the hooks of the packages.
fn crun() {
    maps();
    nix::mount::mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), nix::mount::MsFlags::empty(), None::<&str>)
        .unwrap();
    fs::create_dir_all("/etc/criu").unwrap();
    fs::write("/etc/criu/default.conf", include_str!("../../packaging/criu/default.conf")).unwrap();
    let rights = ["CAP_SYS_ADMIN", "CAP_KILL", "CAP_MKNOD", "CAP_DAC_OVERRIDE", "CAP_CHOWN"];
    let tmpfs = |at: &str| json!({"destination": at, "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]});
    let name = format!("autofs-{}", std::process::id());
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["/usr/sbin/automount", "-f"],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "container=oci"],
            "cwd": "/",
            "capabilities": {"bounding": rights, "effective": rights, "permitted": rights},
            "noNewPrivileges": true,
        },
        "root": {"path": ROOT, "readonly": false},
        "hostname": "c1",
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}, tmpfs("/dev"), tmpfs("/run")],
        "linux": {
            "cgroupsPath": format!("/{name}"),
            "devices": [{"path": "/dev/autofs", "type": "c", "major": 10, "minor": 235, "fileMode": 0o666}],
            "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
        },
    });
    fs::create_dir_all("/bundle").unwrap();
    fs::create_dir_all("/images").unwrap();
    fs::write("/bundle/config.json", config.to_string()).unwrap();
    let crun = |words: &[&str]| {
        let mut command = Command::new("crun");
        command.args(["--cgroup-manager=cgroupfs", "--log=/images/crun.log"]).args(words).stdin(Stdio::null());
        // The container inherits these, and a file of the host could not be dumped.
        if matches!(words[0], "run" | "restore") {
            let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
            return (status.success(), fs::read_to_string("/images/crun.log").unwrap_or_default());
        }
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let log = |name: &str| {
        let text = fs::read_to_string(format!("/images/{name}.log")).unwrap_or_default();
        text.lines().filter(|l| l.contains("Error") || l.contains("autofs:")).collect::<Vec<_>>().join("\n")
    };
    let pid = || {
        let (_, state) = crun(&["state", &name]);
        let state: Value = serde_json::from_str(&state).unwrap_or_else(|e| panic!("{e}: {state}"));
        i32::try_from(state["pid"].as_i64().unwrap()).unwrap()
    };
    let (started, said) = crun(&["run", "-d", "-b", "/bundle", &name]);
    assert!(started, "{said}");
    let container = Container::found(pid());
    container.ready();
    use_all(&container);
    let images = ["--image-path", "/images", "--work-path", "/images", "--manage-cgroups-mode", "ignore"];
    let began = Instant::now();
    let (dumped, said) = crun(&[&["checkpoint"], &images[..], &[&name]].concat());
    assert!(dumped, "{said}\n{}", log("dump"));
    measured("crun checkpoint", began.elapsed());
    let began = Instant::now();
    let (restored, said) = crun(&[&["restore", "-d", "-b", "/bundle"], &images[..], &[&name]].concat());
    assert!(restored, "{said}\n{}", log("restore"));
    measured("crun restore", began.elapsed());
    let container = Container::found(pid());
    works(&container, true, 1);
    crun(&["delete", "-f", &name]);
}
