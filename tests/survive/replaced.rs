//! Upgrades that fail, or under unfavourable conditions.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use autofs::cli::ctl::client::ClientError;
use autofs::control::Call;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;

use super::common::daemon::Daemon;
use super::common::site;
use super::common::suite::case;
use super::common::world::put;
use super::common::{table, visit};
use super::processes::{descriptors, worker};
use super::restart::ids;
use super::upgrade::{PROGRAM, call, ends, install, install_anew, is_new, start, upgrade};

/// The daemon goes on as it was.
#[track_caller]
fn goes_on(daemon: &Daemon, old: i32, key: &str) {
    visit::serves(format!("/mnt/auto/{key}"));
    assert_eq!(worker(daemon), old, "{key}");
}

#[case]
fn by_what_cannot_be_executed() {
    site::any_key();
    let daemon = start(&["/mnt/auto"]);
    let old = worker(&daemon);
    let refused = |what: &str| {
        assert!(matches!(call(Call::Upgrade), Err(ClientError::Refused(_))), "{what}");
        goes_on(&daemon, old, what);
    };
    let mut foreign = fs::read("/usr/sbin/automount").unwrap();
    // e_machine: of no machine that there is.
    foreign[18..20].copy_from_slice(&[0xfe, 0xfe]);
    install(&foreign);
    refused("architecture");
    install(b"#!/no/such/interpreter\n");
    refused("interpreter");
    fs::remove_file(PROGRAM).unwrap();
    fs::create_dir(PROGRAM).unwrap();
    refused("directory");
    fs::remove_dir(PROGRAM).unwrap();
    install_anew();
    let writer = File::options().append(true).open(PROGRAM).unwrap();
    refused("busy");
    drop(writer);
    let none: Option<&str> = None;
    mount(Some("/opt"), "/opt", none, MsFlags::MS_BIND, none).unwrap();
    let noexec = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOEXEC;
    mount(none, "/opt", none, noexec, none).unwrap();
    refused("noexec");
    mount(none, "/opt", none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND, none).unwrap();
    upgrade();
    assert!(is_new(&daemon));
    ends(daemon);
}

/// The keeper does not do what the worker has found to be right, and who has asked for it hears of it.
#[track_caller]
fn is_not_executed() {
    let answer = call(Call::Upgrade).unwrap_err();
    assert!(answer.to_string().contains("cannot take over: the keeper has not executed it"), "{answer}");
}

/// It has said that it would take over, and is gone when the keeper comes to it.
#[case]
fn by_what_cannot_be_executed_any_more() {
    site::any_key();
    let daemon = start(&["/mnt/auto"]);
    let old = worker(&daemon);
    install(format!("#!/bin/sh\nchmod 644 {PROGRAM}\nexec /usr/sbin/automount \"$@\"\n").as_bytes());
    is_not_executed();
    daemon.says("cannot take over: Permission denied");
    goes_on(&daemon, old, "a");
    fs::set_permissions(PROGRAM, fs::Permissions::from_mode(0o644)).unwrap();
    ends(daemon);
}

/// Without room for a new worker the one that is there goes on.
#[case]
fn with_a_full_table_of_descriptors() {
    site::any_key();
    let daemon = start(&["/mnt/auto"]);
    let (pid, old) = (daemon.pid().to_string(), worker(&daemon));
    let limit = |number: usize| {
        let limit = format!("--nofile={number}:");
        assert!(Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success());
    };
    limit(descriptors(daemon.pid()) + 2);
    install_anew();
    is_not_executed();
    daemon.says("cannot take over: Too many open files");
    goes_on(&daemon, old, "a");
    limit(1024);
    upgrade();
    assert_ne!(worker(&daemon), old);
    assert!(is_new(&daemon));
    visit::serves("/mnt/auto/b");
    ends(daemon);
}

#[case]
fn with_many_direct_mounts() {
    site::any_key();
    let paths: Vec<String> = (0..2000).map(|number| format!("/mnt/direct/{number}")).collect();
    site::and_direct(&paths.iter().map(String::as_str).collect::<Vec<_>>());
    let daemon = start(&["/mnt/auto", "/mnt/direct/1999"]);
    visit::serves("/mnt/direct/7");
    let (mounts, all) = (ids("tmpfs"), ids("autofs"));
    assert_eq!(all.len(), 2001);
    upgrade();
    visit::serves("/mnt/direct/8");
    assert_eq!(ids("autofs"), all, "none of them was mounted anew");
    assert!(mounts.iter().all(|(path, id)| ids("tmpfs").get(path) == Some(id)));
    ends(daemon);
}

#[case]
fn with_an_expiry_under_way() {
    site::one_map(
        "sub -fstype=autofs file:/etc/auto.sub\n\
         m / -fstype=tmpfs :r /s -fstype=tmpfs :s /s/deep -fstype=tmpfs :deep /t -fstype=tmpfs :t\n* -fstype=tmpfs :&\n",
    );
    put("/etc/auto.sub", "* -fstype=tmpfs :&\n");
    let paths = ["/mnt/auto/sub/k", "/mnt/auto/sub/l", "/mnt/auto/m/s/deep", "/mnt/auto/m/t", "/mnt/auto/a"];
    let mut daemon = start(&["/mnt/auto"]);
    for delay in [0, 1, 3, 6, 10, 15] {
        paths.iter().for_each(visit::serves);
        let held = File::create("/mnt/auto/sub/k/file").unwrap();
        daemon.signal(Signal::SIGUSR1);
        std::thread::sleep(std::time::Duration::from_millis(delay));
        install_anew();
        upgrade();
        paths.iter().for_each(visit::serves);
        drop(held);
        let mut targets: Vec<_> = table::below("/mnt").into_iter().map(|m| (m.target, m.fstype)).collect();
        let all = targets.len();
        targets.sort();
        targets.dedup();
        assert_eq!(targets.len(), all, "mounted twice: {:#?}", table::below("/mnt"));
    }
    ends(daemon);
}

#[case]
fn and_mount_programs_get_nothing_of_it() {
    site::one_map("* -fstype=slow :&\n");
    for directory in ["/sbin", "/usr/sbin"] {
        let path = format!("{directory}/mount.slow");
        _ = fs::remove_file(&path);
        put(&path, "#!/bin/sh\n(ls /proc/self/fd; env | sort) >/world/has\nexec /bin/mount -t tmpfs \"$1\" \"$2\"\n");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let daemon = start(&["/mnt/auto"]);
    let has = |key: &str| {
        visit::serves(format!("/mnt/auto/{key}"));
        fs::read_to_string("/world/has").unwrap()
    };
    // Three standard descriptors, the one of ls, and those that the test itself has inherited.
    let before = has("a");
    install_anew();
    upgrade();
    assert_eq!(has("b"), before);
    ends(daemon);
}
