//! Who uses a mount: found by mount ids, so that a bind mount of the root file system has its own users only.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use super::common::daemon::Daemon;
use super::common::suite::case;
use super::common::{secs, site, visit, wait_for};
use super::history::{ctl, json};

/// A process that runs until it is dropped.
struct Process(Child);

impl Process {
    /// Starts a program, and waits until it has said something.
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = child.stdout.as_mut().unwrap().read(&mut [0; 1]).unwrap();
        assert_eq!(said, 1, "{command:?}");
        Self(child)
    }

    fn shell(text: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", text]);
        command
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Returns the path of a library that this program uses.
fn library() -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let library =
        maps.lines().filter_map(|line| Some(&line[line.find('/')?..])).find(|path| path.contains("/libgcc_s"));
    library.expect("a library").to_owned()
}

fn users(path: &str) -> Vec<(u64, String)> {
    let status = json(&["status", path]);
    let users = status["users"].as_array().unwrap_or_else(|| panic!("{status}"));
    users.iter().map(|user| (user["pid"].as_u64().unwrap(), user["by"].as_str().unwrap().to_owned())).collect()
}

/// A directory, a descriptor, a mapping, and a copy in another mount namespace.
#[case]
fn of_a_bind_mount_of_the_root() {
    site::one_map("all -fstype=bind :/\nother -fstype=tmpfs,size=64k :other\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/all");
    visit::serves("/mnt/auto/other");
    // These use the root file system and another entry, and not this one.
    let _elsewhere = File::open("/etc/passwd").unwrap();
    let _beside = Process::start(Process::shell("echo x; read x").current_dir("/mnt/auto/other"));
    assert_eq!(users("/mnt/auto/all"), []);
    let cwd = Process::start(Process::shell("echo x; read x").current_dir("/mnt/auto/all/etc"));
    let open = Process::start(&mut Process::shell("exec 7</mnt/auto/all/etc/passwd; echo x; read x"));
    // A library is mapped, and not open any more.
    let library = format!("/mnt/auto/all{}", library());
    let mapping = Process::start(Process::shell("echo x; read x").env("LD_PRELOAD", library));
    let mut elsewhere = Command::new("unshare");
    elsewhere.args(["--mount", "--propagation", "private", "/bin/sh", "-c", "echo x; read x"]);
    let namespace = Process::start(&mut elsewhere);
    let pid = |process: &Process| u64::from(process.0.id());
    let found = users("/mnt/auto/all");
    let pids: BTreeSet<u64> = found.iter().map(|(pid, _)| *pid).collect();
    assert_eq!(pids, [&cwd, &open, &mapping, &namespace].map(pid).into(), "{found:?}");
    let by = |process: &Process| found.iter().find(|(found, _)| *found == pid(process)).unwrap().1.clone();
    assert_eq!((&*by(&cwd), &*by(&open), &*by(&mapping)), ("cwd", "fd 7", "mmap"));
    assert!(by(&namespace).starts_with("mount namespace "), "{found:?}");
    assert!(json(&["status", "/mnt/auto/all", "--no-users"])["users"].is_null());
    let (code, said) = ctl(&["expire", "/mnt/auto/all"]);
    assert!(code == 1 && said.contains("/mnt/auto/all is in use by ") && said.contains("and 1 more"), "{code}: {said}");
    let busy = json(&["expire", "/mnt/auto/all"]);
    let named: BTreeSet<u64> =
        busy["users"].as_array().unwrap().iter().map(|user| user["pid"].as_u64().unwrap()).collect();
    assert_eq!(named, pids, "{busy}");
    // Without a path, each entry is named with its users.
    let (code, said) = ctl(&["expire"]);
    assert!(
        code == 0 && said.contains("2 in use: /mnt/auto/all /mnt/auto/other\n/mnt/auto/all is in use by "),
        "{code}: {said}"
    );
    let busy = json(&["expire"]);
    let named: BTreeSet<u64> =
        busy["in_use"][0]["users"].as_array().unwrap().iter().map(|user| user["pid"].as_u64().unwrap()).collect();
    assert_eq!(named, pids, "{busy}");
    drop((cwd, open, mapping, namespace));
    wait_for("nobody there", secs(10), || users("/mnt/auto/all").is_empty().then_some(()));
    assert_eq!(ctl(&["expire", "/mnt/auto/all"]).0, 0);
    daemon.stop();
}

/// What is said of paths where nothing is mounted.
#[case]
fn of_nothing() {
    super::common::world::put("/sbin/mount.failfs", "#!/bin/sh\necho 'failfs: no such export' >&2\nexit 32\n");
    site::one_map("bad -fstype=failfs :x\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::refuses("/mnt/auto/bad", nix::errno::Errno::ENOENT);
    let status = wait_for("the failed request", secs(10), || {
        let status = json(&["status", "/mnt/auto/bad/deep"]);
        status["request"].is_object().then_some(status)
    });
    assert_eq!((&status["state"], &status["path"]), (&"failed".into(), &"/mnt/auto/bad".into()));
    assert!(status["negative_for"].as_u64().is_some_and(|seconds| (1..=60).contains(&seconds)), "{status}");
    let (code, shown) = ctl(&["status", "/mnt/auto/bad"]);
    assert!(code == 1 && shown.contains("| failfs: no such export") && shown.contains("/etc/auto.one:1:5"), "{shown}");
    let (code, shown) = ctl(&["status", "/mnt/auto/never"]);
    assert!(code == 1 && shown.contains("not mounted; an access asks the map"), "{shown}");
    let (code, shown) = ctl(&["status", "/etc"]);
    assert!(code == 1 && shown.contains("/etc is not below a mount point"), "{shown}");
    daemon.stop();
}
