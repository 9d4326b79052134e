//! Maps in am-utils format on the real kernel.

use std::fs;

use nix::sys::signal::Signal;

use super::common::daemon::Daemon;
use super::common::site;
use super::common::suite::case;
use super::common::world::put;
use super::common::{secs, table, visit, wait_for};

fn gone(path: &str) {
    wait_for(&format!("the end of {path}"), secs(20), || (!table::served(path)).then_some(()));
}

/// The first key mounts what two keys lead to, and the last one that expires unmounts it, with the directories that were
/// made for it.
#[case]
fn a_file_system_outside_is_shared() {
    fs::create_dir_all("/srv/data/one").unwrap();
    fs::create_dir_all("/srv/data/two").unwrap();
    site::master("/mnt/auto file,amd:/etc/auto.one --timeout=0\n");
    put(
        "/etc/auto.one",
        "/defaults type:=lofs;rfs:=/srv/data;fs:=/a/shared\none sublink:=one\ntwo sublink:=two\n\
         other rfs:=/srv\n",
    );
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/one");
    visit::serves("/mnt/auto/two");
    assert_eq!(table::at("/a/shared").len(), 1, "mounted once");
    // Another directory is mounted there.
    assert!(visit::enter("/mnt/auto/other").is_err());
    let held = fs::File::create("/mnt/auto/two/file").unwrap();
    daemon.signal(Signal::SIGUSR1);
    gone("/mnt/auto/one");
    assert!(table::served("/mnt/auto/two") && table::served("/a/shared"));
    drop(held);
    daemon.signal(Signal::SIGUSR1);
    gone("/mnt/auto/two");
    gone("/a/shared");
    visit::serves("/mnt/auto/one");
    daemon.stop();
    assert!(!table::served("/a/shared"));
}

/// The next worker knows what the mounts of the one before lead to.
#[case]
fn a_new_worker_unmounts_what_keys_lead_to() {
    fs::create_dir_all("/srv/data").unwrap();
    site::master("/mnt/auto file,amd:/etc/auto.one --timeout=0\n");
    put("/etc/auto.one", "k type:=lofs;rfs:=/srv/data;fs:=/a/shared\n");
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/k");
    let worker = daemon.worker();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    daemon.says("re-connected to /mnt/auto, 1 mounted below");
    daemon.signal(Signal::SIGUSR1);
    gone("/mnt/auto/k");
    gone("/a/shared");
    daemon.stop();
}

/// A command of the map mounts, and another one unmounts.
#[case]
fn a_program_mounts_and_unmounts() {
    site::master("/mnt/auto file,amd:/etc/auto.one --timeout=0\n");
    let script = |text: &str| format!("#!/bin/sh\n{text}\n");
    put("/srv/mount", script("mkdir -p \"$1\" && exec /bin/mount -t tmpfs from-map \"$1\""));
    put("/srv/umount", script("echo \"$1\" >> /srv/unmounted; exec /bin/umount \"$1\""));
    for program in ["/srv/mount", "/srv/umount"] {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    put(
        "/etc/auto.one",
        "p type:=program;fs:=/a/p;mount:=\"/srv/mount mount ${fs}\";unmount:=\"/srv/umount umount ${fs}\"\n\
         q type:=program;fs:=/a/q;mount:=\"/bin/false false\"\n",
    );
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    assert!(visit::enter("/mnt/auto/q").is_err());
    visit::serves("/mnt/auto/p");
    assert!(table::served("/a/p"));
    daemon.signal(Signal::SIGUSR1);
    gone("/mnt/auto/p");
    gone("/a/p");
    assert_eq!(fs::read_to_string("/srv/unmounted").unwrap(), "/a/p\n");
    daemon.stop();
}

/// A section of autofs.conf makes a mount point, and a bad entry costs only itself.
#[case]
fn a_section_makes_a_mount_point() {
    fs::create_dir_all("/srv/data").unwrap();
    site::master("# nothing here\n");
    put("/etc/autofs.conf", "[ amd ]\nbrowsable_dirs = yes\n[ /mnt/amd ]\nmap_name = /etc/amd.one\n");
    put(
        "/etc/amd.one",
        "bad type:=lnik\ngood type:=link;fs:=/srv/${key}\ndata type:=link;fs:=/srv/${key}\ns/k fs:=/x\n",
    );
    let daemon = Daemon::serving(&["/mnt/amd"]);
    // The directories are made a moment after the mount point.
    wait_for("the keys", secs(5), || (visit::list("/mnt/amd") == ["bad", "data", "good"]).then_some(()));
    visit::serves("/mnt/amd/data");
    assert!(visit::enter("/mnt/amd/bad").is_err());
    daemon.says("/etc/amd.one:1:5: unknown type \"lnik\": did you mean link?");
    daemon.stop();
}
