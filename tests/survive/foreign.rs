//! Autofs mounts of other masters that live: nothing may happen to them.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use autofs::engine::Kind;
use autofs::exec::dirs::Maker;
use autofs::exec::mount_trigger;
use autofs::sys::autofs::{Control, Options};
use autofs::sys::children;
use autofs::sys::packet::Packet;
use autofs::sys::pipe::{Read, ReadEnd};
use nix::mount::{MsFlags, mount};

use super::common::daemon::Daemon;
use super::common::site;
use super::common::suite::case;
use super::common::{secs, table, visit};
use super::processes::kill_worker;

/// A master in the process of the test, which serves every request with a tmpfs.
struct Master {
    over: Arc<AtomicBool>,
    served: Arc<AtomicU32>,
}

impl Master {
    fn begin(source: &str, path: &str, kind: Kind) -> Self {
        fs::create_dir_all(path).unwrap();
        let (pipe, write_end) = ReadEnd::create().unwrap();
        let options = Options { timeout: 600, ..Options::default() };
        let mut maker = Maker::default();
        let made = mount_trigger(&mut maker, path.as_ref(), source.as_bytes(), write_end.as_fd(), kind, options);
        let dev = made.unwrap().unwrap().dev;
        let (over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let master = Self { over: Arc::clone(&over), served: Arc::clone(&served) };
        let (path, control) = (PathBuf::from(path), Control::open().unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while !over.load(Ordering::Relaxed) {
                let Read::Packet(length) = pipe.read(&mut buffer).unwrap() else {
                    std::thread::sleep(Duration::from_millis(2));
                    continue;
                };
                let packet = Packet::decode(&buffer[..length]).unwrap();
                let at = path.join(std::ffi::OsStr::new(std::str::from_utf8(packet.request().name).unwrap()));
                _ = fs::create_dir(&at);
                mount(Some("foreign"), &at, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
                let root = control.open_mount(&path, dev).unwrap();
                control.ready(root.as_fd(), packet.request().token).unwrap();
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
        master
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// The daemon serves the rest, says whose it is, and everything is as before; also after its worker has died, and when
/// it ends.
fn left_alone(path: &str, lookup: &str, master: &Master) {
    let before = table::at(path);
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    daemon.says(&format!("{path} is served by another automounter, process {}", children::pid()));
    assert_eq!(table::at(path), before);
    kill_worker(&daemon);
    visit::serves("/mnt/auto/b");
    assert_eq!(table::at(path), before);
    let lookup = lookup.to_owned();
    let looked = visit::within(secs(5), "a mount of the foreign master", move || {
        // Members of its group trigger nothing.
        let mut visitor = visit::process(&lookup, 0);
        visitor.wait().unwrap()
    });
    assert!(looked.success());
    assert_eq!(master.served.load(Ordering::Relaxed), 1);
    daemon.stop();
    assert_eq!(table::at(path)[0], before[0]);
}

#[case]
fn another_master() {
    site::any_key();
    site::master("/mnt/auto /etc/auto.any\n/mnt/theirs /etc/auto.any\n");
    let master = Master::begin("/etc/auto.any", "/mnt/theirs", Kind::Indirect);
    left_alone("/mnt/theirs", "/mnt/theirs/k", &master);
}

#[case]
fn one_like_systemd() {
    site::any_key();
    site::and_direct(&["/mnt/unit"]);
    let master = Master::begin("systemd-1", "/mnt/unit", Kind::Direct);
    left_alone("/mnt/unit", "/mnt/unit", &master);
}

/// A mount of a process group that cannot be seen has an owner: SETPIPEFD would be refused after CATATONIC had
/// ended the service.
#[case]
fn of_another_pid_namespace() {
    site::any_key();
    site::master("/mnt/auto /etc/auto.any\n/mnt/theirs /etc/auto.any\n");
    let master = Master::begin("/etc/auto.any", "/mnt/theirs", Kind::Indirect);
    let before = table::at("/mnt/theirs");
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--propagation", "shared", "--"])
        .args(["/usr/sbin/automount", "-f", "-v"])
        .arg0("unshare");
    let daemon = Daemon::spawn(command);
    daemon.says("another pid namespace (pgrp=0)");
    daemon.says("mounted indirect on /mnt/auto");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(table::at("/mnt/theirs"), before);
    let visitor = visit::process("/mnt/theirs/k", 0).wait().unwrap();
    assert!(visitor.success());
    assert_eq!(master.served.load(Ordering::Relaxed), 1);
    assert!(table::served(Path::new("/mnt/theirs/k")));
    daemon.kill();
}
