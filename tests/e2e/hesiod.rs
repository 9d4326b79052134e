//! Hesiod, with a [stand-in](dns_server) for the DNS.

use std::time::Instant;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::common::daemon::Daemon;
use super::common::dns_server::{self, Class, Mode};
use super::common::suite::case;
use super::common::world::put;
use super::common::{secs, site, table, visit, wait_for};

#[case]
fn keys_come_from_records_of_both_classes() {
    let mut dns = dns_server::install();
    put("/etc/autofs.toml", "[deadlines]\nlookup = 4\n");
    put("/etc/auto.file", "* -fstype=tmpfs,size=64k :f&\n");
    site::master("/mnt/hes hesiod:x\n/mnt/file /etc/auto.file\n");
    dns.add("alice", Class::Internet, "TMPFS alice /mnt/x");
    dns.add("bob", Class::Hesiod, "TMPFS bob /mnt/x");
    dns.add("carol", Class::Internet, "ERR this locker is gone");
    dns.start();
    let daemon = Daemon::serving(&["/mnt/hes", "/mnt/file"]);
    for key in ["alice", "bob"] {
        visit::serves(format!("/mnt/hes/{key}"));
    }
    for key in ["carol", "nobody", "not.a.label"] {
        visit::refuses(format!("/mnt/hes/{key}"), Errno::ENOENT);
    }
    daemon.says("this locker is gone");
    // Without a server, its own keys fail, and others are served.
    dns.stop();
    dns.add("dave", Class::Internet, "TMPFS dave /mnt/x");
    let visitor = std::thread::spawn(|| visit::enter("/mnt/hes/erin"));
    visit::serves("/mnt/file/a");
    assert_eq!(visitor.join().unwrap().unwrap_err().raw_os_error(), Some(Errno::ENOENT as i32));
    dns.start();
    wait_for("a key after its return", secs(5), || visit::enter("/mnt/hes/dave").ok());
    visit::serves("/mnt/hes/dave");
    daemon.stop();
}

/// With each fault of the server, lookups end at their deadline, other maps are not delayed, earlier answers are served, and the server is
/// used again when it is back.
#[case]
fn a_server_in_trouble_costs_its_new_keys_only() {
    let mut dns = dns_server::install();
    put("/etc/autofs.toml", "[deadlines]\nlookup = 2\n");
    put("/etc/auto.file", "* -fstype=tmpfs,size=64k :f&\n");
    site::master("/mnt/hes hesiod:x -n 1\n/mnt/file /etc/auto.file\n");
    for key in ["named", "silent", "garbage"] {
        dns.add(key, Class::Internet, "TMPFS k /mnt/x");
    }
    dns.start();
    let mut daemon = Daemon::serving(&["/mnt/hes", "/mnt/file"]);
    visit::serves("/mnt/hes/named");
    for (key, trouble) in [("silent", Mode::Silent), ("garbage", Mode::Garbage)] {
        dns.set_mode(trouble);
        let visitor = std::thread::spawn(move || {
            let begun = Instant::now();
            (visit::enter(format!("/mnt/hes/{key}")), begun.elapsed())
        });
        visit::serves(format!("/mnt/file/{key}"));
        let (answer, took) = visitor.join().unwrap();
        assert_eq!(answer.unwrap_err().raw_os_error(), Some(Errno::ENOENT as i32), "{trouble:?}");
        // The deadline, and what a busy machine adds.
        assert!(took < secs(2 + 10), "{trouble:?}: {took:?}");
        daemon.signal(Signal::SIGUSR1);
        wait_for("nothing mounted", secs(10), || (!table::served("/mnt/hes/named")).then_some(()));
        visit::serves("/mnt/hes/named");
        dns.set_mode(Mode::Answer);
        wait_for("the key", secs(5), || visit::enter(format!("/mnt/hes/{key}")).ok());
    }
    daemon.stop();
}
