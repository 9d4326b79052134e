//! Entries that require other paths.

use std::fs;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};

use super::common::daemon::Daemon;
use super::common::suite::case;
use super::common::world::put;
use super::common::{output, secs, site, table, visit, wait_for};

fn said(program: &str, arguments: &[&str]) -> String {
    let said = output(Command::new(program).args(arguments), secs(15)).expect("an answer");
    String::from_utf8(said.stdout).unwrap() + &String::from_utf8(said.stderr).unwrap()
}

/// `/mnt/data/a` requires a key of another map, `/mnt/more` a direct mount.
fn requiring() {
    fs::create_dir_all("/mnt/plain/dir").unwrap();
    put("/mnt/plain/file", "");
    put("/etc/auto.keys", "* -fstype=tmpfs :k&\n");
    put("/etc/auto.direct", "/mnt/direct/deep -fstype=tmpfs :d\n");
    put(
        "/etc/auto.data.toml",
        "[defaults]\ntype = \"tmpfs\"\n[entries]\na = { source = \"a\", requires = [\"/mnt/keys/of-&\", \"/mnt/plain/file\"] }\n\
         free = \"free\"\nlost = { source = \"l\", requires = [\"/mnt/plain/nothing\"] }\n\
         self = { source = \"s\", requires = [\"/mnt/data/self\"] }\n",
    );
    put("/etc/auto.more", "* -fstype=tmpfs,requires=/mnt/plain/dir :m\n");
    put(
        "/etc/auto.master.toml",
        "[[mount_points]]\npath = \"/mnt/data\"\nmap = \"file,toml:/etc/auto.data.toml\"\ntimeout = 2\n\
         [[mount_points]]\npath = \"/mnt/keys\"\nmap = \"/etc/auto.keys\"\ntimeout = 2\n\
         [[mount_points]]\npath = \"/-\"\nmap = \"/etc/auto.direct\"\n\
         [[mount_points]]\npath = \"/mnt/more\"\nmap = \"/etc/auto.more\"\nrequires = [\"/mnt/direct/deep\"]\n",
    );
}

fn start() -> Daemon {
    let mut daemon = Daemon::start(["-f", "-v", "/etc/auto.master.toml"]);
    daemon.ready(&["/mnt/data", "/mnt/keys", "/mnt/direct/deep", "/mnt/more"]);
    daemon
}

#[case(seconds: 90)]
fn what_is_required_is_mounted_first_and_stays() {
    requiring();
    let mut daemon = start();
    visit::serves("/mnt/data/free");
    assert!(!table::served("/mnt/keys/of-a") && !table::served("/mnt/direct/deep"));
    visit::serves("/mnt/data/a");
    assert!(table::served("/mnt/keys/of-a"));
    visit::serves("/mnt/more/x");
    assert!(table::served("/mnt/direct/deep"), "what the mount point requires");
    let options = table::at("/mnt/data/a").pop().unwrap();
    assert_eq!(options.option("requires"), None);

    // In use, the dependent keeps what it requires, also for the next worker.
    let held = fs::File::open("/mnt/data/a").unwrap();
    visit::serves("/mnt/keys/other");
    let gone = |path: &str| wait_for(&format!("expiry of {path}"), secs(20), || (!table::served(path)).then_some(()));
    gone("/mnt/keys/other");
    let worker = daemon.worker();
    kill(nix::unistd::Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    wait_for("another worker", secs(10), || (daemon.worker() != worker).then_some(()));
    visit::serves("/mnt/keys/other");
    gone("/mnt/keys/other");
    assert!(table::served("/mnt/keys/of-a"), "it is required");
    let expired = said("autofsctl", &["--json", "expire", "/mnt/keys"]);
    assert!(expired.contains("/mnt/keys/of-a") && expired.contains("required by /mnt/data/a"), "{expired}");
    drop(held);
    gone("/mnt/data/a");
    gone("/mnt/keys/of-a");
    let explained = said("autofsctl", &["explain", "/mnt/data/a"]);
    assert!(explained.contains("after /mnt/keys/of-a, which is required"), "{explained}");
    daemon.signal(Signal::SIGTERM);
    daemon.end(secs(20));
}

#[case(seconds: 60)]
fn what_cannot_be_reached_fails_the_entry_with_a_reason() {
    requiring();
    let daemon = start();
    visit::refuses("/mnt/data/lost", Errno::ENOENT);
    let reason = "/mnt/data/lost requires /mnt/plain/nothing, which failed: No such file or directory";
    daemon.says(reason);
    let history = said("autofsctl", &["history", "/mnt/data/lost"]);
    assert!(history.contains(reason), "{history}");
    visit::refuses("/mnt/data/self", Errno::ENOENT);
    let checked = said("autofsctl", &["check", "/etc/auto.master.toml"]);
    assert!(checked.contains("/etc/auto.data.toml:7:1") && checked.contains("the entry requires itself"), "{checked}");
    daemon.stop();
}

/// Many keys that require one path, and a path that never answers.
#[case(seconds: 90)]
fn many_entries_and_a_path_that_hangs() {
    put("/etc/autofs.toml", "[deadlines]\nrequires = 2\n");
    site::master("/mnt/auto /etc/auto.any\n/mnt/slow program:/etc/auto.slow\n/mnt/wait /etc/auto.wait\n");
    put("/etc/auto.any", "key -fstype=tmpfs :key\n* -fstype=tmpfs,size=4k,requires=/mnt/auto/key :k&\n");
    put("/etc/auto.slow", "#!/bin/sh\nsleep 30\n");
    fs::set_permissions("/etc/auto.slow", std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    put("/etc/auto.wait", "a -fstype=tmpfs,requires=/mnt/slow/x :a\n");
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/slow", "/mnt/wait"]);
    let waiting = std::thread::spawn(|| fs::File::open("/mnt/wait/a").map(drop));
    let visits: Vec<_> =
        (0..200).map(|n| std::thread::spawn(move || visit::serves(format!("/mnt/auto/{n}")))).collect();
    visits.into_iter().for_each(|visit| visit.join().unwrap());
    assert!(table::served("/mnt/auto/key"));
    assert_eq!(waiting.join().unwrap().unwrap_err().raw_os_error(), Some(Errno::ENOENT as i32));
    daemon.says("/mnt/wait/a requires /mnt/slow/x, which failed: it was not there within 2 s");
    daemon.stop();
}

#[case(seconds: 60)]
fn entries_that_require_one_another() {
    site::one_map(
        "a -fstype=tmpfs,requires=/mnt/auto/b :a\nb -fstype=tmpfs,requires=/mnt/auto/c/x :b\n\
         c -fstype=tmpfs,requires=/mnt/auto/a :c\nd -fstype=tmpfs :d\n",
    );
    let checked = said("autofsctl", &["check"]);
    let circle = "/mnt/auto/a requires /mnt/auto/b requires /mnt/auto/c requires /mnt/auto/a";
    assert!(checked.contains("/etc/auto.one:1:3") && checked.contains(circle), "{checked}");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let begun = std::time::Instant::now();
    visit::refuses("/mnt/auto/b", Errno::ENOENT);
    assert!(begun.elapsed() < secs(30), "not the deadline");
    daemon.says("entries require one another in a circle: ");
    visit::serves("/mnt/auto/d");
    daemon.stop();
}
