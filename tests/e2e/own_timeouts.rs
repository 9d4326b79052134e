//! Entries with a timeout of their own.

use std::process::Command;

use nix::sys::signal::{Signal, kill};

use super::common::daemon::Daemon;
use super::common::suite::case;
use super::common::world::put;
use super::common::{output, secs, site, table, visit, wait_for};

/// Returns what a program prints, on both streams.
fn said(program: &str, arguments: &[&str]) -> String {
    let said = output(Command::new(program).args(arguments), secs(15)).expect("an answer");
    String::from_utf8(said.stdout).unwrap() + &String::from_utf8(said.stderr).unwrap()
}

fn gone(path: &str) {
    wait_for(&format!("expiry of {path}"), secs(20), || (!table::served(path)).then_some(()));
}

#[case(seconds: 60)]
fn shorter_than_that_of_the_mount() {
    site::master("/mnt/auto /etc/auto.one --timeout=300\n/mnt/never /etc/auto.one --timeout=0\n");
    put("/etc/auto.one", "short -fstype=tmpfs,size=64k,timeout=1 :s\nusual -fstype=tmpfs :u\n");
    let mut daemon = Daemon::serving(&["/mnt/auto", "/mnt/never"]);
    visit::serves("/mnt/auto/usual");
    visit::serves("/mnt/never/usual");
    for path in ["/mnt/auto/short", "/mnt/never/short"] {
        visit::serves(path);
        let mount = table::at(path).pop().unwrap();
        assert_eq!((mount.option("timeout"), mount.option("size")), (None, Some("64k")));
    }
    gone("/mnt/auto/short");
    gone("/mnt/never/short");
    // The next worker finds it mounted, and the kernel keeps the timeout.
    visit::serves("/mnt/auto/short");
    let worker = daemon.worker();
    kill(nix::unistd::Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    wait_for("another worker", secs(10), || (daemon.worker() != worker).then_some(()));
    gone("/mnt/auto/short");
    assert!(table::served("/mnt/auto/usual") && table::served("/mnt/never/usual"));
    assert_eq!(table::autofs("/mnt/auto").unwrap().option("timeout"), Some("300"));
    daemon.signal(Signal::SIGTERM);
}

#[case(seconds: 60)]
fn longer_than_that_of_the_mount() {
    site::master(
        "/mnt/auto file,toml:/etc/auto.one.toml --timeout=1\n/- /etc/auto.direct --timeout=1\n/mnt/amd file,amd:/etc/auto.amd --timeout=1\n",
    );
    put(
        "/etc/auto.one.toml",
        "[defaults]\ntype = \"tmpfs\"\n[entries]\nlong = { source = \"l\", timeout = 3600 }\nnever = { source = \"n\", timeout = 0 }\n\
         usual = \"u\"\n",
    );
    put("/etc/auto.direct", "/mnt/direct/stays -fstype=tmpfs,timeout=0 :d\n/mnt/direct/usual -fstype=tmpfs :d\n");
    put("/etc/auto.amd", "stays type:=link;fs:=/srv;opts:=nounmount\nusual type:=link;fs:=/srv\n");
    let mut daemon = Daemon::serving(&["/mnt/auto", "/mnt/direct/stays", "/mnt/amd"]);
    let stay = ["/mnt/auto/long", "/mnt/auto/never", "/mnt/direct/stays", "/mnt/amd/stays"];
    let go = ["/mnt/auto/usual", "/mnt/direct/usual", "/mnt/amd/usual"];
    stay.iter().chain(&go).for_each(visit::serves);
    go.iter().for_each(|path| gone(path));
    // Some more turns of the timer.
    std::thread::sleep(secs(4));
    for path in stay {
        assert!(table::served(path), "{path}");
    }
    let explained = said("autofsctl", &["explain", "/mnt/auto/long"]);
    assert!(explained.contains("unmounted after 3600 s without use"), "{explained}");
    let explained = said("autofsctl", &["explain", "/mnt/auto/never"]);
    assert!(explained.contains("it stays mounted, as its entry says"), "{explained}");
    daemon.signal(Signal::SIGUSR1);
    stay.iter().for_each(|path| gone(path));
    daemon.stop();
}

/// The directory of an entry stays in a browsable map, and a timeout that its line has no more must not.
#[case(seconds: 60)]
fn a_timeout_that_is_taken_out_of_the_map() {
    site::master("/mnt/auto /etc/auto.one browse --timeout=300\n");
    put("/etc/auto.one", "a -fstype=tmpfs,timeout=1 :a\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    gone("/mnt/auto/a");
    put("/etc/auto.one", "a -fstype=tmpfs :a\nb -fstype=tmpfs,timeout=1 :b\n");
    visit::serves("/mnt/auto/a");
    visit::serves("/mnt/auto/b");
    gone("/mnt/auto/b");
    assert!(table::served("/mnt/auto/a"));
    // What is no number is told, and the entry is mounted as if it were not there.
    for word in ["timeout=x", "timeout=-1", "timeout=99999999999999999999", "timeout="] {
        put("/etc/auto.one", format!("c -fstype=tmpfs,{word} :c\n"));
        let checked = said("autofsctl", &["check"]);
        assert!(checked.contains("auto.one:1"), "{word}: {checked}");
    }
    visit::serves("/mnt/auto/c");
    daemon.stop();
}

/// A direct mount is an autofs mount of its own.
#[case(seconds: 60)]
fn of_a_direct_mount() {
    site::master("/- /etc/auto.direct --timeout=300\n");
    put("/etc/auto.direct", "/mnt/direct/short -fstype=tmpfs,timeout=1 :s\n/mnt/direct/usual -fstype=tmpfs :u\n");
    let mut daemon = Daemon::serving(&["/mnt/direct/short", "/mnt/direct/usual"]);
    visit::serves("/mnt/direct/short");
    visit::serves("/mnt/direct/usual");
    let timeout = |path: &str| table::autofs(path).unwrap().option("timeout").map(str::to_owned);
    assert_eq!(timeout("/mnt/direct/short").as_deref(), Some("1"));
    let worker = daemon.worker();
    kill(nix::unistd::Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    wait_for("another worker", secs(10), || (daemon.worker() != worker).then_some(()));
    gone("/mnt/direct/short");
    wait_for("the timeout of the map", secs(10), || {
        (timeout("/mnt/direct/short").as_deref() == Some("300")).then_some(())
    });
    assert!(table::served("/mnt/direct/usual"));
    put("/etc/auto.direct", "/mnt/direct/short -fstype=tmpfs :s\n/mnt/direct/usual -fstype=tmpfs :u\n");
    daemon.signal(Signal::SIGHUP);
    visit::serves("/mnt/direct/short");
    std::thread::sleep(secs(4));
    assert!(table::served("/mnt/direct/short"));
    daemon.stop();
}
