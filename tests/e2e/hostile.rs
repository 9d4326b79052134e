//! What a user tries who owns directories above mount points, runs programs of any name, and chooses keys.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;

use super::common::daemon::Daemon;
use super::common::suite::case;
use super::common::world::put;
use super::common::{output, secs, site, stand_in, table, visit, wait_for};

/// The user.
const USER: u32 = 1000;

/// Makes directories of the user.
fn of_user(paths: &[&str]) {
    for path in paths {
        fs::create_dir_all(path).unwrap();
        chown(path, Some(USER), Some(USER)).unwrap();
    }
}

/// Mounts a file system of others.
fn genuine(at: &str) {
    fs::create_dir_all(at).unwrap();
    mount(Some("genuine"), at, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
}

fn is_genuine(at: &str) -> bool {
    table::at(at).iter().any(|mounted| mounted.source == "genuine")
}

/// Runs a program as the user.
fn as_user(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).uid(USER).gid(USER).process_group(0).stdin(Stdio::null());
    command
}

/// The directory of `fs:=` is exchanged for a link, before it is mounted on and after.
#[case]
fn a_directory_outside_is_not_found_by_way_of_a_link_of_a_user() {
    fs::create_dir_all("/srv/data").unwrap();
    fs::create_dir_all("/victim/x").unwrap();
    of_user(&["/home/u", "/home/u/mnt", "/home/u/mnt/x"]);
    site::master("/mnt/auto file,amd:/etc/auto.one --timeout=0 --negative-timeout=1\n");
    put(
        "/etc/auto.one",
        "k type:=lofs;rfs:=/srv/data;fs:=/home/u/mnt/x\np type:=program;fs:=/home/u/mnt/p;mount:=\"/bin/mount mount -t tmpfs x ${fs}\";unmount:=\"/bin/umount umount ${fs}\"\n",
    );
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    fs::rename("/home/u/mnt", "/home/u/away").unwrap();
    symlink("/victim", "/home/u/mnt").unwrap();
    std::os::unix::fs::lchown("/home/u/mnt", Some(USER), Some(USER)).unwrap();
    visit::refuses("/mnt/auto/k", Errno::ENOENT);
    daemon.says("/home/u/mnt is a symbolic link of user 1000, which is not followed");
    assert_eq!(table::below("/victim"), []);

    fs::remove_file("/home/u/mnt").unwrap();
    fs::rename("/home/u/away", "/home/u/mnt").unwrap();
    wait_for("the mount", secs(10), || visit::enter("/mnt/auto/k").ok());
    // No command of a map is run on a way that a user can change.
    visit::refuses("/mnt/auto/p", Errno::ENOENT);
    daemon.says("others than root can write to the directories on the way, where no command of a map is run");
    genuine("/victim/x");
    fs::rename("/home/u/mnt", "/home/u/away").unwrap();
    symlink("/victim", "/home/u/mnt").unwrap();
    daemon.signal(Signal::SIGUSR1);
    wait_for("the unmount where it is now", secs(20), || table::at("/home/u/away/x").is_empty().then_some(()));
    assert!(is_genuine("/victim/x"));

    // Without a link: a mount of others in a directory of the user.
    fs::remove_file("/home/u/mnt").unwrap();
    fs::rename("/home/u/away", "/home/u/mnt").unwrap();
    wait_for("the mount", secs(10), || visit::enter("/mnt/auto/k").ok());
    genuine("/home/u/other/x");
    fs::rename("/home/u/mnt", "/home/u/away").unwrap();
    fs::rename("/home/u/other", "/home/u/mnt").unwrap();
    daemon.signal(Signal::SIGUSR1);
    wait_for("the unmount where it is now", secs(20), || table::at("/home/u/away/x").is_empty().then_some(()));
    assert!(is_genuine("/home/u/mnt/x"));
    daemon.stop();
}

/// The pid in a flag file of a daemon that was killed is by now that of a user's process.
#[case]
fn a_process_of_a_user_is_no_daemon() {
    site::any_key();
    fs::copy("/bin/sleep", "/srv/automount").unwrap();
    let mut process = as_user("/srv/automount", &["100"]).spawn().unwrap();
    let comm = format!("/proc/{}/comm", process.id());
    wait_for("its name", secs(5), || (fs::read_to_string(&comm).ok()? == "automount\n").then_some(()));
    put("/run/autofs-running", format!("{}\n", process.id()));
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    process.kill().unwrap();
    process.wait().unwrap();
    daemon.stop();
}

/// What triggers a bind source on an automount point runs as the requester, who may not take it over.
#[case]
fn a_process_that_triggers_for_a_user_is_not_his() {
    site::master("/mnt/auto /etc/auto.one\n/mnt/two /etc/auto.two\n");
    put("/etc/auto.one", "x -fstype=bind :/mnt/two/slow\n");
    put("/etc/auto.two", "* -fstype=slow :&\n");
    stand_in::Rules { delay: vec![("slow".into(), 3000)], ..Default::default() }.set();
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/two"]);
    let mut visitor = visit::process("/mnt/auto/x", USER);
    let walker = wait_for("the process", secs(10), || {
        let mut processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        processes.find(|process| {
            let line = fs::read(process.join("cmdline")).unwrap_or_default();
            let status = fs::read_to_string(process.join("status")).unwrap_or_default();
            line.windows(9).any(|word| word == b"--walk-to") && status.contains("Uid:\t1000\t1000\t1000\t1000\n")
        })
    });
    for file in ["environ", "fd/0", "mem"] {
        let path = walker.join(file);
        let read = as_user("head", &["-c1", path.to_str().unwrap()]).stderr(Stdio::null()).status().unwrap();
        assert!(!read.success(), "{} can be read by the user", path.display());
    }
    let groups = fs::read_to_string(walker.join("status")).unwrap();
    assert!(groups.contains("Groups:\t \n") && groups.contains("CapEff:\t0000000000000000\n"), "{groups}");
    assert!(wait_for("the visitor", secs(15), || visitor.try_wait().unwrap()).success());
    daemon.stop();
}

/// `--force` finds a mount of others at the path of a key, where a user has put it.
#[case]
fn force_spares_the_mounts_of_others() {
    of_user(&["/home/u", "/home/u/mnt", "/home/u/other"]);
    genuine("/home/u/other/x");
    site::master("/- /etc/auto.direct\n/mnt/auto /etc/auto.one\n");
    put("/etc/auto.direct", "/home/u/mnt/x -fstype=tmpfs :t\n");
    put("/etc/auto.one", "* -fstype=tmpfs :t\n");
    let daemon = Daemon::serving(&["/home/u/mnt/x", "/mnt/auto"]);
    visit::serves("/home/u/mnt/x");
    daemon.kill();
    fs::rename("/home/u/mnt", "/home/u/away").unwrap();
    fs::rename("/home/u/other", "/home/u/mnt").unwrap();
    let mut daemon = Daemon::start(["-f", "-v", "-F"]);
    daemon.ready(&["/mnt/auto", "/home/u/mnt/x"]);
    assert!(is_genuine("/home/u/mnt/x"), "it stays, below the autofs mount");
    daemon.kill();
}

/// A file system in user space over a directory of the user, whose server never answers. It ends when the descriptor is closed.
fn silent(at: &str) -> fs::File {
    let device = fs::File::options().read(true).write(true).open("/dev/fuse").unwrap();
    let data = format!("fd={},rootmode=40000,user_id={USER},group_id={USER},allow_other", device.as_raw_fd());
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("silent"), at, Some("fuse"), flags, Some(data.as_str())).unwrap();
    device
}

/// A server on the way to some mount points does not answer: at the start, at a reload, after the death of the worker and at the end,
/// the others are served, and status says what is not.
#[case]
fn a_server_on_the_way_that_does_not_answer_delays_no_others() {
    of_user(&["/home/u", "/home/u/f", "/home/u/f/mnt"]);
    let master = "/- /etc/auto.direct\n/mnt/auto /etc/auto.one\n/home/u/f/ind /etc/auto.one\n";
    site::master(master);
    put("/etc/auto.direct", "/home/u/f/mnt/x -fstype=tmpfs :t\n/mnt/d -fstype=tmpfs :t\n");
    put("/etc/auto.one", "* -fstype=tmpfs :t\n");
    let server = silent("/home/u/f");
    let mut daemon = Daemon::serving(&["/mnt/auto", "/mnt/d"]);
    visit::serves("/mnt/auto/a");
    daemon
        .says("/home/u/f/mnt/x: the file system on /home/u/f does not answer; the mount point is served when it does");
    wait_for("the status", secs(10), || {
        let said = output(Command::new("autofsctl").arg("status"), secs(5))?;
        String::from_utf8_lossy(&said.stdout).contains("the file system on /home/u/f does not answer").then_some(())
    });
    site::master(&format!("{master}/mnt/new /etc/auto.one\n"));
    daemon.signal(Signal::SIGHUP);
    daemon.ready(&["/mnt/new"]);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon.worker()), Signal::SIGKILL).unwrap();
    daemon.says("re-connected to /mnt/new, 0 mounted below");
    visit::serves("/mnt/auto/b");
    visit::serves("/mnt/new/a");
    // The server ends, and the way is free.
    drop(server);
    nix::mount::umount2("/home/u/f", nix::mount::MntFlags::MNT_DETACH).unwrap();
    daemon.ready(&["/home/u/f/mnt/x", "/home/u/f/ind"]);
    visit::serves("/home/u/f/ind/a");

    // It covers mounts that are in use, and the daemon ends.
    let _server = silent("/home/u/f");
    visit::serves("/mnt/auto/c");
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.end(secs(15)).success());
    assert_eq!(table::at("/mnt/auto"), []);
}

/// A write beyond the limit of the file size, to the log, ends no worker.
#[case]
fn a_limit_of_the_file_size_ends_no_worker() {
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let worker = daemon.worker();
    for pid in [daemon.pid(), worker] {
        let arguments = [format!("--pid={pid}"), "--fsize=0:".to_owned()];
        assert!(Command::new("prlimit").args(arguments).status().unwrap().success());
    }
    for key in ["a", "b", "c"] {
        visit::serves(format!("/mnt/auto/{key}"));
    }
    assert_eq!(daemon.worker(), worker);
    daemon.stop();
}

/// A key with a comma would be several options.
#[case]
fn a_user_adds_no_options_by_a_key() {
    site::master("/mnt/auto /etc/auto.one --negative-timeout=1\n");
    put("/etc/auto.one", "* -fstype=cifs,credentials=/etc/cred.&,uid=& ://srv/data\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/joe");
    visit::refuses("/mnt/auto/joe,uid=1000", Errno::ENOENT);
    daemon.says("the key, which users choose, has a comma and would add options");
    assert!(!Path::new("/mnt/auto/joe,uid=1000").exists());
    daemon.stop();
}

/// Sets the soft limit of open files of a process.
fn limit_files(pid: i32, soft: u64) {
    let arguments = [format!("--pid={pid}"), format!("--nofile={soft}:")];
    assert!(Command::new("prlimit").args(arguments).status().unwrap().success());
}

/// The limit of open files is lowered below what the worker has open, while a mount is being made and before others: each lookup is
/// answered, and all is served again when the limit is raised.
#[case]
fn without_a_free_descriptor_every_lookup_is_answered() {
    site::master("/mnt/auto /etc/auto.one\n/- /etc/auto.direct\n");
    put("/etc/auto.one", "slow -fstype=slow :slow\n* -fstype=tmpfs :t\n");
    put("/etc/auto.direct", "/mnt/direct -fstype=tmpfs :t\n");
    stand_in::Rules { delay: vec![("slow".into(), 2000)], ..Default::default() }.set();
    let mut daemon = Daemon::serving(&["/mnt/auto", "/mnt/direct"]);
    visit::serves("/mnt/auto/a");
    let worker = daemon.worker();
    for limit in [3, 1] {
        limit_files(worker, 1024);
        let mut visitor = visit::process("/mnt/auto/slow", 0);
        daemon.says("attempting to mount entry /mnt/auto/slow");
        limit_files(worker, limit);
        visit::serves("/mnt/auto/a");
        // Whether they are mounted depends on how many descriptors that takes.
        for path in [format!("/mnt/auto/new{limit}").as_str(), "/mnt/direct"] {
            let _ = visit::enter(path);
        }
        wait_for("the answer for the mount that was under way", secs(10), || visitor.try_wait().unwrap());
        let refused = output(Command::new("autofsctl").arg("status"), secs(8)).expect("an answer of autofsctl");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("the daemon can open no more files"), "{said}");
        limit_files(worker, 1024);
        wait_for("a new key", secs(10), || visit::enter(format!("/mnt/auto/new{limit}")).ok());
        wait_for("a direct key", secs(10), || visit::enter("/mnt/direct").ok());
        nix::mount::umount2("/mnt/direct", nix::mount::MntFlags::MNT_DETACH).unwrap();
        daemon.signal(Signal::SIGUSR1);
        wait_for("the expiry", secs(20), || table::at("/mnt/auto/slow").is_empty().then_some(()));
        visit::serves("/mnt/auto/a");
    }
    assert_eq!(daemon.worker(), worker);
    daemon.stop();
}

/// A file system that never answers covers a key at which triggers are missing when the worker dies: other keys of the map are
/// served, `status` counts the threads that wait, and no command of `autofsctl` waits.
#[case]
fn a_mounted_file_system_that_does_not_answer_delays_no_others() {
    site::any_key();
    site::and_direct(&["/mnt/direct"]);
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/direct"]);
    visit::serves("/mnt/auto/k");
    visit::serves("/mnt/direct");
    let server = silent("/mnt/auto/k");
    put("/etc/auto.any", "k / -fstype=tmpfs :t /sub -fstype=tmpfs :t\n* -fstype=tmpfs :t\n");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon.worker()), Signal::SIGKILL).unwrap();
    visit::serves("/mnt/auto/other");
    daemon.says("the file system on /mnt/auto/k does not answer");
    let ctl = |arguments: &[&str]| {
        let said = output(Command::new("autofsctl").args(arguments), secs(8));
        let said = said.unwrap_or_else(|| panic!("autofsctl {arguments:?} does not end"));
        String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned()
    };
    wait_for("the threads that wait", secs(10), || {
        ctl(&["status"]).contains("the file system does not answer: 1 thread waits for it").then_some(())
    });
    for command in ["status", "expire", "history", "explain", "wait"] {
        let said = ctl(&[command, "/mnt/auto/k"]);
        let tells = matches!(command, "status" | "wait");
        assert!(!tells || said.contains("file system does not answer"), "{command}: {said}");
    }
    visit::serves("/mnt/auto/third");
    // The way to a path on it is not walked.
    let direct = silent("/mnt/direct");
    let mut walker = visit::process("/mnt/direct/a", 0);
    assert!(ctl(&["status", "/mnt/direct/deep/er"]).contains("/mnt/direct"));
    drop(direct);
    wait_for("the end of the walker", secs(10), || walker.try_wait().unwrap());
    drop(server);
    nix::mount::umount2("/mnt/auto/k", nix::mount::MntFlags::MNT_DETACH).unwrap();
    wait_for("the end of the threads", secs(10), || (!ctl(&["status"]).contains("does not answer")).then_some(()));
    daemon.stop();
}
