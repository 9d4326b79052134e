//! Hesiod, with a [stand-in](dns_server) for the DNS.

use nix::errno::Errno;

use super::common::daemon::Daemon;
use super::common::dns_server::{self, Class};
use super::common::suite::case;
use super::common::world::put;
use super::common::{secs, site, visit, wait_for};

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
