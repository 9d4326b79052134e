//! Directory services that take questions and do not answer: like a map that [hangs](super::hangs), they take nothing from anything
//! else, at any time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::common::daemon::Daemon;
use super::common::suite::case;
use super::common::world::put;
use super::common::{dns_server, ldap_server, secs, sss_library, visit, wait_for, ypserv};
use super::hangs::{everything_else_works, site};

/// Lookups at a time in the map of the service.
const VISITORS: usize = 4;

/// Starts the daemon, keeps lookups waiting in `/mnt/bad`, and tries everything; then has the daemon end while a lookup waits.
#[track_caller]
fn takes_nothing_from_others() {
    let daemon = Daemon::serving(&["/mnt/good"]);
    let stop = Arc::<AtomicBool>::default();
    let visitors: Vec<_> = (0..VISITORS)
        .map(|visitor| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    visit::enter(format!("/mnt/bad/{visitor}-{number}")).unwrap_err();
                    thread::sleep(Duration::from_millis(20));
                }
            })
        })
        .collect();
    everything_else_works(daemon, "/etc/auto.master");
    stop.store(true, Ordering::Relaxed);
    visitors.into_iter().for_each(|visitor| visitor.join().unwrap());
    let daemon = Daemon::serving(&["/mnt/good", "/mnt/bad"]);
    let mut visitor = visit::process("/mnt/bad/none", 0);
    daemon.says("attempting to mount entry /mnt/bad/none");
    daemon.stop();
    wait_for("the visitor's end", secs(10), || visitor.try_wait().unwrap());
}

/// A site with maps of a service, also at the start: a direct map and a part of the master map.
fn site_with(service: &str) {
    put("/etc/nsswitch.conf", format!("automount: files {service}\n"));
    site(&format!("/mnt/bad {service}:auto.bad\n/- {service}:auto.direct\n+auto.more\n"));
}

#[case(seconds: 180)]
fn ldap() {
    if let Some(why) = ldap_server::lacking() {
        return eprintln!("ignored: {why}");
    }
    let mut ldap = ldap_server::install();
    ldap.set_mode(ldap_server::Mode::Silent);
    ldap.start();
    site_with("ldap");
    takes_nothing_from_others();
}

#[case(seconds: 180)]
fn sssd() {
    if !sss_library::install() {
        return;
    }
    put("/etc/fake.delay", "1000");
    site_with("sss");
    takes_nothing_from_others();
}

#[case(seconds: 180)]
fn nis() {
    let Some(mut nis) = ypserv::install() else { return };
    nis.set_mode(ypserv::Mode::Silent);
    nis.start();
    site_with("nis");
    takes_nothing_from_others();
}

#[case(seconds: 180)]
fn hesiod() {
    let mut dns = dns_server::install();
    // As long as the default.
    put("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:5 attempts:2\n");
    dns.set_mode(dns_server::Mode::Silent);
    dns.start();
    site("/mnt/bad hesiod:x\n");
    takes_nothing_from_others();
}
