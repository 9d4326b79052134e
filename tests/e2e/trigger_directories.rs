//! Owner, group, permissions and propagation of the directories that are mount points.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};

use super::common::daemon::Daemon;
use super::common::suite::case;
use super::common::world::put;
use super::common::{output, secs, table, visit, wait_for};

/// The owner, the group and the permissions of a directory.
type Look = (u32, u32, u32);

fn look(path: &str) -> Look {
    // As stat(2) of the standard library would mount it.
    let found = autofs::sys::path::lstat(Path::new(path)).unwrap();
    (found.uid, found.gid, found.mode & 0o7777)
}

fn looks(path: &str, expected: Look) {
    wait_for(&format!("{path} as {expected:?}, which is {:?}", look(path)), secs(10), || {
        (look(path) == expected).then_some(())
    });
}

const MASTER: &str = r#"
[[mount_points]]
path = "/mnt/auto"
map = "/etc/auto.one"
browse = true
owner = "trigger"
group = 4321
mode = "0750"

[[mount_points]]
path = "/-"
map = "/etc/auto.direct"
owner = 1234
"#;

fn accounts() {
    let add = |file: &str, line: &str| put(file, fs::read_to_string(file).unwrap() + line);
    add("/etc/passwd", "trigger:x:1234:1234::/:/bin/sh\n");
    add("/etc/group", "triggers:x:4321:\n");
    put("/etc/auto.one", "a -fstype=tmpfs :a\nb -fstype=tmpfs :b\n");
    put("/etc/auto.direct", "/mnt/direct -fstype=tmpfs :d\n");
}

#[case(seconds: 60)]
fn owner_group_and_mode_last() {
    accounts();
    put("/etc/auto.master.toml", MASTER);
    let start = || {
        let mut daemon = Daemon::start(["-f", "-v", "/etc/auto.master.toml"]);
        daemon.ready(&["/mnt/auto", "/mnt/direct"]);
        daemon
    };
    let everything = || {
        looks("/mnt/auto", (1234, 4321, 0o750));
        looks("/mnt/direct", (1234, 0, 0o755));
        // The kernel passes owner and group on.
        let (uid, gid, _) = look("/mnt/auto/b");
        assert_eq!((uid, gid), (1234, 4321));
    };
    let mut daemon = start();
    everything();
    visit::serves("/mnt/auto/a");
    visit::serves("/mnt/direct");
    assert_eq!(look("/mnt/direct").0, 0, "the owner of what is mounted there is another matter");

    // A worker that dies, a reload without a change.
    let worker = daemon.worker();
    kill(nix::unistd::Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    wait_for("another worker", secs(10), || (daemon.worker() != worker).then_some(()));
    daemon.signal(Signal::SIGHUP);
    looks("/mnt/auto", (1234, 4321, 0o750));

    // A daemon that is killed, and the next one, with another owner in the map.
    daemon.kill();
    put("/etc/auto.master.toml", MASTER.replace("\"trigger\"", "77"));
    let mut daemon = start();
    looks("/mnt/auto", (77, 4321, 0o750));

    // A reload changes them, and takes them back.
    put("/etc/auto.master.toml", MASTER.replace("owner = \"trigger\"\ngroup = 4321", "group = \"triggers\""));
    daemon.signal(Signal::SIGHUP);
    looks("/mnt/auto", (0, 4321, 0o750));
    let plain = MASTER.replace("owner = \"trigger\"\ngroup = 4321\nmode = \"0750\"", "");
    put("/etc/auto.master.toml", plain);
    daemon.signal(Signal::SIGHUP);
    looks("/mnt/auto", (0, 0, 0o755));
    assert!(table::served("/mnt/auto/a"), "nothing was unmounted");
    daemon.stop();
}

#[case]
fn an_owner_that_nobody_is() {
    accounts();
    put("/etc/auto.master", "/mnt/auto /etc/auto.one --owner=nobodyhere --mode=0711\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    daemon.says("/mnt/auto: cannot set its owner: there is no user nobodyhere");
    looks("/mnt/auto", (0, 0, 0o711));
    visit::serves("/mnt/auto/a");
    daemon.stop();
    let said = output(Command::new("autofsctl").arg("check"), secs(15)).unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("/etc/auto.master:1:1") && said.contains("there is no user nobodyhere"), "{said}");
}

/// Whether a mount is shared, and whether it has a master.
fn propagation(path: &str) -> (bool, bool) {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = text.lines().rfind(|line| line.split(' ').nth(4) == Some(path)).unwrap();
    let tags = line.split(" - ").next().unwrap();
    (tags.contains(" shared:"), tags.contains(" master:"))
}

#[case]
fn propagation_of_the_autofs_mounts() {
    let none: Option<&str> = None;
    mount(none, "/mnt", none, MsFlags::MS_SHARED, none).unwrap();
    let multi = "m / -fstype=tmpfs :root /x -fstype=tmpfs :below\n";
    put("/etc/auto.one", multi);
    put("/etc/auto.direct", "/mnt/direct -fstype=tmpfs :d\n");
    let master = "/mnt/plain /etc/auto.one\n/mnt/private /etc/auto.one --trigger-propagation=private\n\
                  /mnt/slave /etc/auto.one --trigger-propagation=slave\n/- /etc/auto.direct --trigger-propagation=private\n";
    put("/etc/auto.master", master);
    let points = ["/mnt/plain", "/mnt/private", "/mnt/slave", "/mnt/direct"];
    let mut daemon = Daemon::serving(&points);
    assert_eq!(points.map(propagation), [(true, false), (false, false), (false, false), (false, false)]);
    // Mounts on a private mount are private, and so is the offset.
    visit::serves("/mnt/private/m/x");
    visit::serves("/mnt/plain/m/x");
    assert_eq!(propagation("/mnt/private/m"), (false, false));
    assert_eq!(propagation("/mnt/private/m/x"), (false, false));
    assert_eq!(propagation("/mnt/plain/m"), (true, false));
    // A reload changes the autofs mount that is there.
    put("/etc/auto.master", master.replace("=private", "=shared"));
    daemon.signal(Signal::SIGHUP);
    wait_for("a shared mount", secs(10), || (propagation("/mnt/private") == (true, false)).then_some(()));
    daemon.stop();
}
