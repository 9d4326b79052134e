//! Directory services: their lookup process may hang, crash or be killed without harm to anything else.
//!
//! A stand-in for sssd's client library, compiled when a test begins, serves maps from files and misbehaves on demand.

use std::fs;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::common::daemon::Daemon;
use super::common::suite::case;
use super::common::world::put;
use super::common::{secs, site, sss_library, table, visit, wait_for};

/// Installs the stand-in, with a map `auto.m` in which any key is a tmpfs. The lookup deadline is two seconds. False: there
/// is no C compiler.
fn install() -> bool {
    if !sss_library::install() {
        return false;
    }
    put("/etc/autofs.toml", "[deadlines]\nlookup = 2\n");
    put("/etc/fake.auto.m", "* -fstype=tmpfs,size=64k :k&\nplain -fstype=tmpfs,size=64k :plain\n");
    put("/etc/auto.file", "* -fstype=tmpfs,size=64k :f&\n");
    site::master("/mnt/sss sss:auto.m\n/mnt/file /etc/auto.file\n");
    true
}

/// The lookup processes.
fn lookup_processes(daemon: &Daemon) -> Vec<i32> {
    let is_lookup = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.windows(17).any(|word| word == b"--internal-lookup")
    };
    daemon.group().into_iter().filter(is_lookup).collect()
}

/// The lookup process, if one runs.
fn lookup_process(daemon: &Daemon) -> Option<i32> {
    lookup_processes(daemon).first().copied()
}

fn running(daemon: &Daemon) -> i32 {
    wait_for("a lookup process", secs(5), || lookup_process(daemon))
}

#[case]
fn keys_come_from_the_library() {
    if !install() {
        return;
    }
    put("/etc/fake.auto.direct", "/mnt/direct/a -fstype=tmpfs,size=64k :d\n/ x\n");
    put("/etc/fake.auto.master", "/mnt/more auto.m\n");
    put("/etc/nsswitch.conf", "automount: files sss\n");
    site::master("/mnt/sss sss:auto.m browse\n/- sss:auto.direct\n+auto.master\n");
    let mut daemon = Daemon::serving(&["/mnt/sss", "/mnt/direct/a", "/mnt/more"]);
    for path in ["/mnt/sss/plain", "/mnt/sss/other", "/mnt/direct/a", "/mnt/more/x"] {
        visit::serves(path);
    }
    wait_for("directories of keys", secs(5), || visit::list("/mnt/sss").contains(&"plain".to_owned()).then_some(()));
    // What the service said before is served while it is gone, and no mount point is lost.
    put("/etc/fake.down", "");
    daemon.signal(Signal::SIGHUP);
    daemon.says("sssd is not running");
    daemon.signal(Signal::SIGUSR1);
    wait_for("nothing mounted", secs(5), || (!table::served("/mnt/sss/plain")).then_some(()));
    visit::serves("/mnt/sss/plain");
    visit::serves("/mnt/direct/a");
    assert!(table::autofs("/mnt/more").is_some());
    visit::refuses("/mnt/more/new", Errno::ENOENT);
    fs::remove_file("/etc/fake.down").unwrap();
    visit::serves("/mnt/more/newer");
    daemon.stop();
}

/// `[UNAVAIL=return]` is about a service that runs, and `[NOTFOUND=return]` about keys, not about a missing master map.
#[case]
fn an_sssd_that_has_ended_is_passed_over() {
    if !install() {
        return;
    }
    put("/etc/nsswitch.conf", "automount: sss [NOTFOUND=return UNAVAIL=return] files\n");
    put("/etc/auto.m", "of-file -fstype=tmpfs,size=64k :of-file\n");
    put("/etc/fake.auto.m", "of-sss -fstype=tmpfs,size=64k :of-sss\n");
    site::master("/mnt/m auto.m\n");
    let daemon = Daemon::serving(&["/mnt/m"]);
    visit::serves("/mnt/m/of-sss");
    put("/etc/fake.down", "");
    visit::serves("/mnt/m/of-file");
    fs::remove_file("/etc/fake.down").unwrap();
    put("/etc/fake.offline", "");
    visit::refuses("/mnt/m/none", Errno::ENOENT);
    put("/etc/auto.m", "of-file -fstype=tmpfs,size=64k :of-file\nother -fstype=tmpfs,size=64k :other\n");
    visit::refuses("/mnt/m/other", Errno::ENOENT);
    daemon.stop();
}

#[case]
fn a_broken_library_costs_its_own_keys() {
    if !install() {
        return;
    }
    let daemon = Daemon::serving(&["/mnt/sss", "/mnt/file"]);
    visit::serves("/mnt/sss/a");
    for (number, key) in ["crash", "hang", "close"].into_iter().enumerate() {
        let visitor = std::thread::spawn(move || visit::enter(format!("/mnt/sss/{key}")));
        // Meanwhile other maps, and other keys of the same service, are served.
        visit::serves(format!("/mnt/file/{number}"));
        visit::serves(format!("/mnt/sss/{number}"));
        assert_eq!(visitor.join().unwrap().unwrap_err().raw_os_error(), Some(Errno::ENOENT as i32), "{key}");
        if key == "hang" {
            daemon.says("is replaced: it hangs");
        }
    }
    for key in ["signals", "leak", "b"] {
        visit::serves(format!("/mnt/sss/{key}"));
    }
    daemon.stop();
}

#[case]
fn a_lookup_process_may_be_killed_or_stopped_at_any_time() {
    if !install() {
        return;
    }
    let daemon = Daemon::serving(&["/mnt/sss"]);
    for (number, delay) in [0, 2, 20, 300].into_iter().enumerate() {
        visit::serves(format!("/mnt/sss/before{number}"));
        let pid = running(&daemon);
        let path = format!("/mnt/sss/slow{number}");
        let visitor = std::thread::spawn(move || visit::enter(path));
        std::thread::sleep(Duration::from_millis(delay));
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        visitor.join().unwrap().unwrap();
        assert_ne!(running(&daemon), pid);
    }
    // One that is stopped hangs: it is replaced, and what is asked later is answered.
    let pid = running(&daemon);
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    visit::refuses("/mnt/sss/stopped", Errno::ENOENT);
    wait_for("another process", secs(10), || lookup_process(&daemon).is_none_or(|other| other != pid).then_some(()));
    visit::serves("/mnt/sss/after");
    daemon.stop();
}

#[case]
fn what_a_replaced_process_has_not_answered_is_asked_again() {
    if !install() {
        return;
    }
    put("/etc/autofs.toml", "[deadlines]\nlookup = 30\n");
    let mut daemon = Daemon::serving(&["/mnt/sss"]);
    let visitor = std::thread::spawn(|| visit::enter("/mnt/sss/wait"));
    let is_asked = || fs::read_to_string(sss_library::ASKED).is_ok_and(|asked| asked.contains("wait"));
    wait_for("the question", secs(5), || is_asked().then_some(()));
    let pid = running(&daemon);
    // The reload replaces the process, which goes on with the question.
    daemon.signal(Signal::SIGHUP);
    wait_for("another process", secs(5), || lookup_processes(&daemon).into_iter().find(|other| *other != pid));
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    put("/world/go", "");
    visitor.join().unwrap().unwrap();
    daemon.stop();
}

#[case]
fn an_idle_lookup_process_ends() {
    if !install() {
        return;
    }
    let daemon = Daemon::serving(&["/mnt/sss"]);
    visit::serves("/mnt/sss/a");
    let pid = running(&daemon);
    wait_for("no lookup process", secs(15), || lookup_process(&daemon).is_none().then_some(()));
    wait_for("its end", secs(15), || (!fs::exists(format!("/proc/{pid}")).unwrap()).then_some(()));
    visit::serves("/mnt/sss/b");
    wait_for("a process without capabilities", secs(5), || {
        let status = fs::read_to_string(format!("/proc/{}/status", lookup_process(&daemon)?)).ok()?;
        status.contains("CapEff:\t0000000000000000").then_some(())
    });
    let limits = fs::read_to_string(format!("/proc/{}/limits", running(&daemon))).unwrap();
    let data = limits.lines().find(|line| line.starts_with("Max data size")).unwrap();
    assert!(data.contains("536870912"), "{data}");
    daemon.stop();
}

/// While sssd is away, offline, slow or stopped, lookups end at their deadline, other maps are not delayed, its earlier answers are
/// served, no mount point goes, and it is used again when it is back.
#[case(seconds: 180)]
fn an_sssd_in_trouble_costs_its_new_keys_only() {
    if !install() {
        return;
    }
    put("/etc/nsswitch.conf", "automount: files sss\n");
    put("/etc/autofs.conf", "[ autofs ]\ntimeout = 300\nbrowse_mode = no\nnegative_timeout = 1\n");
    put("/etc/fake.auto.direct", "/mnt/direct/d -fstype=tmpfs,size=64k :d\n");
    put("/etc/fake.auto.more", "/mnt/more auto.m\n");
    site::master("/mnt/sss sss:auto.m\n/mnt/file /etc/auto.file\n/- sss:auto.direct\n+auto.more\n");
    let points = ["/mnt/sss", "/mnt/file", "/mnt/direct/d", "/mnt/more"];
    let earlier = ["/mnt/sss/plain", "/mnt/direct/d", "/mnt/more/plain"];
    let mut daemon = Daemon::serving(&points);
    earlier.iter().for_each(visit::serves);
    // Longer than the deadline: slow, stopped (its client waits for minutes).
    for (number, (what, content)) in
        [("down", ""), ("offline", ""), ("delay", "5"), ("delay", "60"), ("delay", "1000")].into_iter().enumerate()
    {
        let trouble = format!("/etc/fake.{what}");
        put(&trouble, content);
        let visitor = std::thread::spawn(move || {
            let begun = Instant::now();
            (visit::enter(format!("/mnt/sss/during{number}")), begun.elapsed())
        });
        visit::serves(format!("/mnt/file/{number}"));
        let (answer, took) = visitor.join().unwrap();
        assert_eq!(answer.unwrap_err().raw_os_error(), Some(Errno::ENOENT as i32), "{what} {content}");
        // The deadline, and what a busy machine adds.
        assert!(took < secs(2 + 10), "{what} {content}: {took:?}");
        daemon.signal(Signal::SIGHUP);
        daemon.signal(Signal::SIGUSR1);
        wait_for("nothing mounted", secs(10), || (!table::served("/mnt/sss/plain")).then_some(()));
        earlier.iter().for_each(visit::serves);
        for point in points {
            assert!(table::autofs(point).is_some(), "{what} {content}: {point} is gone");
        }
        fs::remove_file(&trouble).unwrap();
        let mut keys = (0..).map(|n| format!("/mnt/sss/after{number}-{n}"));
        let begun = Instant::now();
        wait_for("new keys", secs(5), || visit::enter(keys.next()?).ok());
        eprintln!("{what} {content}: back after {:?}", begun.elapsed());
    }
    daemon.stop();
}
