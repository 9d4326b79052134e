//! File servers that are dead in all kinds of ways, beside living ones; and trees of what servers export.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::common::daemon::Daemon;
use super::common::servers::{self, Exports, Lie, Server, ip};
use super::common::stand_in::Rules;
use super::common::suite::case;
use super::common::world::{figure, put};
use super::common::{PATIENCE, output, secs, site, table, visit, wait_for};

const LIVE: &str = "10.99.1.2";
const DEAD: &str = "10.99.1.66";

/// The source of what is mounted at a path.
#[track_caller]
fn source(path: &str) -> String {
    table::at(path).into_iter().find(|m| m.fstype != "autofs").map(|m| m.source).unwrap_or_default()
}

/// Without `mount_wait`, so that single servers are asked, too.
fn configure() {
    put("/etc/autofs.conf", "[ autofs ]\ntimeout = 300\nnegative_timeout = 60\n");
}

fn add_hosts(lines: &str) {
    put("/etc/hosts", fs::read_to_string("/etc/hosts").unwrap() + lines);
}

/// How long an access takes, and how it ends.
fn timed(path: &str) -> (Duration, std::io::Result<()>) {
    let begun = Instant::now();
    let done = visit::enter(path);
    (begun.elapsed(), done)
}

/// Packets to this address are swallowed.
fn swallow(address: &str) {
    ip(&format!("neigh replace {address} lladdr 02:00:00:00:00:66 dev v0 nud permanent"));
}

/// Accesses two keys of `host,srv1:/x`: the first within 5 seconds, the second within one, and both from the living server.
/// `live` is the source that is expected. Mounting from another one would take a minute.
#[track_caller]
fn replica(what: &str, entry: &str, live: &str) {
    configure();
    put("/etc/autofs.conf", "[ autofs ]\ntimeout = 300\n");
    site::one_map(&format!("* {entry}\n"));
    Rules { delay: vec![("dead".into(), 60_000), (DEAD.into(), 60_000)], ..Rules::default() }.set();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    for (key, limit) in [("a", secs(5)), ("b", secs(1)), ("c", secs(1))] {
        let path = format!("/mnt/auto/{key}");
        let (time, done) = timed(&path);
        assert!(done.is_ok(), "{what}: {done:?}");
        assert_eq!(source(&path), format!("{live}:/x/{key}"), "{what}");
        figure(&format!("{what}, access to {key}: {time:.2?}"));
        assert!(time < limit * PATIENCE / 2, "{what}: access to {key} took {time:?}");
    }
    daemon.stop();
}

#[case]
fn a_replica_without_an_answer_to_arp() {
    servers::start(vec![Server::new(LIVE)]);
    add_hosts(&format!("{DEAD} dead\n"));
    replica("no ARP answer", "dead,srv1:/x/&", "srv1");
}

#[case]
fn a_replica_that_swallows_packets() {
    servers::start(vec![Server::new(LIVE)]);
    add_hosts(&format!("{DEAD} dead\n"));
    swallow(DEAD);
    replica("swallowed packets", "dead,srv1:/x/&", "srv1");
}

#[case]
fn a_replica_that_refuses() {
    servers::start(vec![Server::new(LIVE), Server::idle(DEAD)]);
    add_hosts(&format!("{DEAD} dead\n"));
    replica("RST", "dead,srv1:/x/&", "srv1");
}

#[case]
fn a_replica_with_rpcbind_but_no_nfsd() {
    servers::start(vec![Server::new(LIVE), Server::new(DEAD).without_nfsd()]);
    add_hosts(&format!("{DEAD} dead\n"));
    replica("rpcbind without nfsd", "dead,srv1:/x/&", "srv1");
}

#[case]
fn a_replica_with_nfsd_but_no_rpcbind() {
    servers::start(vec![Server::new(LIVE), Server::new(DEAD).without_rpcbind()]);
    add_hosts(&format!("{DEAD} dead\n"));
    replica("nfsd without rpcbind", "dead,srv1:/x/&", "srv1");
}

#[case]
fn a_replica_whose_ipv6_is_broken() {
    if fs::read_dir("/proc/sys/net/ipv6").is_err() {
        return;
    }
    ip("addr add fd00::1/64 dev v0 nodad");
    servers::start(vec![Server::new(LIVE), Server::new("10.99.1.3")]);
    add_hosts("fd00::66 both\n10.99.1.3 both\n");
    replica("IPv6 broken", "both:/x/&", "both");
}

#[case]
fn a_name_whose_first_address_is_dead() {
    servers::start(vec![Server::new(LIVE)]);
    add_hosts(&format!("{DEAD} several\n{LIVE} several\n"));
    replica("a dead address first", "several:/x/&", LIVE);
}

/// Fifty dead and fifty living servers at once.
#[case(seconds: 120)]
fn dead_servers_do_not_delay_living_ones() {
    configure();
    let number = 10..60;
    servers::start(number.clone().map(|n| Server::new(&format!("10.99.1.{n}"))).collect());
    for n in number.clone() {
        // Half of the dead ones swallow packets, the others are not there.
        add_hosts(&format!("10.99.1.{n} live{n}\n10.99.1.{} dead{n}\n", n + 100));
        if n % 2 == 0 {
            swallow(&format!("10.99.1.{}", n + 100));
        }
    }
    site::one_map("* &:/x\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    for (round, limits) in [("first", (secs(1), secs(5))), ("second", (secs(1), Duration::from_millis(50)))] {
        let begin = |name: String| thread::spawn(move || timed(&format!("/mnt/auto/{name}")));
        let dead: Vec<_> = number.clone().map(|n| begin(format!("dead{n}"))).collect();
        let live: Vec<_> = number.clone().map(|n| begin(format!("live{n}"))).collect();
        let ends = |threads: Vec<thread::JoinHandle<(Duration, std::io::Result<()>)>>, well: bool| {
            let ended = threads.into_iter().map(|thread| thread.join().unwrap());
            ended
                .map(|(time, done)| {
                    assert_eq!(done.is_ok(), well, "{done:?} after {time:?}");
                    time
                })
                .max()
                .unwrap()
        };
        let (live, dead) = (ends(live, true), ends(dead, false));
        figure(&format!("{round} access: the slowest living server {live:.2?}, the slowest dead one {dead:.2?}"));
        assert!(live < limits.0 * PATIENCE && dead < limits.1 * PATIENCE, "{round}: live {live:?}, dead {dead:?}");
    }
    daemon.stop();
}

/// `autofsctl explain` asks servers as a mount would, and tells what they say.
#[case]
fn explain_tells_the_ranking_of_servers() {
    configure();
    servers::start(vec![Server::new(LIVE), Server::parse("10.99.1.3:34:tu:0.05"), Server::idle(DEAD)]);
    add_hosts(&format!("{DEAD} dead\n"));
    site::one_map("a srv2,dead,srv1:/x\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let said = output(Command::new("autofsctl").args(["explain", "/mnt/auto/a"]), secs(10)).expect("an answer");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    for part in [
        "srv1 (10.99.1.2, in a subnet of ours): answers in ",
        " ms: NFS 3 over TCP, NFS 3 over UDP",
        "dead (10.99.1.66, in a subnet of ours): Connection refused",
        "tried in this order: srv1:/x, srv2:/x",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    assert!(!table::served("/mnt/auto/a"), "nothing is mounted by it");
    daemon.stop();
}

/// So it does for the offsets of a multi-mount, and for the locations of an entry in am-utils format.
#[case(seconds: 60)]
fn explain_tells_the_ranking_for_offsets_and_locations() {
    configure();
    servers::start(vec![Server::new(LIVE), Server::idle(DEAD)]);
    add_hosts(&format!("{DEAD} dead\n"));
    site::master("/mnt/auto /etc/auto.one\n/mnt/amd file,amd:/etc/auto.amd\n");
    put("/etc/auto.one", "m / srv1:/x /deep dead,srv1:/y /gone dead:/z\n");
    put("/etc/auto.amd", "k -type:=nfs;rfs:=/x rhost:=dead rhost:=srv1\n");
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/amd"]);
    let explained = |path: &str| {
        let said = output(Command::new("autofsctl").args(["explain", path]), secs(10)).expect("an answer");
        String::from_utf8_lossy(&said.stdout).into_owned()
    };
    let refused = "dead (10.99.1.66, in a subnet of ours): Connection refused";
    let said = explained("/mnt/auto/m/deep");
    for part in [
        "note         srv1 (10.99.1.2, in a subnet of ours): answers in ",
        &format!("/mnt/auto/m/deep: {refused}"),
        "/mnt/auto/m/deep: tried in this order: srv1:/y",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    assert!(!said.contains("/mnt/auto/m/gone: "), "{said}");
    let said = explained("/mnt/auto/m/gone/x");
    assert!(said.starts_with("/mnt/auto/m/gone/x: no server of the entry serves"), "{said}");
    let said = explained("/mnt/auto/m");
    assert!(said.contains("/mnt/auto/m/deep: ") && said.contains("/mnt/auto/m/gone: no server serves"), "{said}");
    let said = explained("/mnt/amd/k");
    for part in [refused, "srv1 (10.99.1.2, in a subnet of ours): answers in ", "tried in this order: dead:/x, srv1:/x"]
    {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    daemon.stop();
}

fn net(exports: &[&str]) -> (Exports, Daemon) {
    configure();
    let exported = servers::start(vec![Server::new(LIVE)]);
    exported.set(exports.iter().copied());
    site::master("/mnt/net -hosts\n");
    let daemon = Daemon::serving(&["/mnt/net"]);
    (exported, daemon)
}

/// After a reload, a mounted tree has the triggers of what is exported now.
#[case]
fn a_reload_asks_servers_again() {
    let (exported, mut daemon) = net(&["/x", "/old", "/used", "/deep/er"]);
    visit::serves("/mnt/net/srv1/x");
    visit::serves("/mnt/net/srv1/used");
    assert_eq!(visit::list("/mnt/net/srv1"), ["deep", "old", "used", "x"]);
    exported.set(["/x", "/new", "/x/below", "/deep/er"]);
    daemon.signal(Signal::SIGHUP);
    // What is in use stays until it is unmounted.
    wait_for("the new exports", secs(10), || {
        (visit::list("/mnt/net/srv1") == ["deep", "new", "used", "x"]).then_some(())
    });
    visit::serves("/mnt/net/srv1/new");
    assert_eq!(source("/mnt/net/srv1/new"), "srv1:/new");
    visit::serves("/mnt/net/srv1/x");
    daemon.signal(Signal::SIGUSR1);
    wait_for("an unused tree to go", secs(10), || (!table::served("/mnt/net/srv1/x")).then_some(()));
    visit::serves("/mnt/net/srv1/x/below");
    daemon.stop();
}

/// A server that is unknown, dead or exports nothing fails its key alone.
#[case]
fn servers_without_exports() {
    let (exported, daemon) = net(&["/x"]);
    add_hosts(&format!("{DEAD} dead\n"));
    swallow(DEAD);
    visit::refuses("/mnt/net/nosuchhost", Errno::ENOENT);
    let dead = thread::spawn(|| timed("/mnt/net/dead"));
    visit::serves("/mnt/net/srv1/x");
    let (time, done) = dead.join().unwrap();
    assert!(done.is_err());
    figure(&format!("a dead server's exports fail after {time:.2?}"));
    assert!(time < secs(5) * PATIENCE);
    exported.set([""; 0]);
    add_hosts(&format!("{LIVE} again\n"));
    visit::refuses("/mnt/net/again", Errno::ENOENT);
    daemon.stop();
}

/// No server is waited for longer than the kernel looks for its host: three seconds.
#[case]
fn a_host_that_is_not_there_is_given_up_when_the_kernel_gives_up() {
    let (_exported, daemon) = net(&["/x"]);
    add_hosts(&format!("{DEAD} dead\n"));
    visit::refuses("/mnt/net/dead", Errno::ENOENT);
    daemon.says("exports lookup failed for dead: No route to host");
    daemon.stop();
}

/// What could not be reached before is tried again after a change of the network.
#[case]
fn a_change_of_the_network_ends_the_memory_of_failures() {
    configure();
    servers::start(vec![Server::new(LIVE)]);
    swallow(LIVE);
    site::one_map("* srv1:/x/&\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::refuses("/mnt/auto/a", Errno::ENOENT);
    let (time, done) = timed("/mnt/auto/a");
    assert!(done.is_err() && time < secs(1) * PATIENCE, "the failure is remembered: {done:?} after {time:?}");
    ip(&format!("neigh del {LIVE} dev v0"));
    ip("addr add 10.98.0.1/24 dev v0");
    wait_for("the server", secs(10), || visit::enter("/mnt/auto/a").ok());
    assert_eq!(source("/mnt/auto/a"), "srv1:/x/a");
    daemon.stop();
}

/// Servers that send something else than replies cost those who ask them, and nobody else.
#[case(seconds: 120)]
fn liars_cost_their_own_requests() {
    configure();
    let liars = Lie::ALL.iter().zip(11..).map(|(lie, n)| Server::liar(&format!("10.99.1.{n}"), *lie));
    servers::start(liars.chain([Server::new(LIVE)]).collect()).set(["/x"]);
    (0..Lie::ALL.len()).for_each(|n| add_hosts(&format!("10.99.1.{} liar{n}\n", n + 11)));
    site::master("/mnt/auto /etc/auto.one\n/mnt/net -hosts\n");
    put("/etc/auto.one", "live srv1:/x\n* &:/x\n");
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/net"]);
    let begin = |path: String| thread::spawn(move || (timed(&path), path));
    let paths = (0..Lie::ALL.len()).flat_map(|n| [format!("/mnt/auto/liar{n}"), format!("/mnt/net/liar{n}")]);
    let asking: Vec<_> = paths.map(begin).collect();
    for path in ["/mnt/auto/live", "/mnt/net/srv1/x"] {
        let (time, done) = timed(path);
        assert!(done.is_ok() && time < secs(1) * PATIENCE, "{path}: {done:?} after {time:?}");
        figure(&format!("beside liars, {path} takes {time:.2?}"));
    }
    for asked in asking {
        let ((time, done), path) = asked.join().unwrap();
        assert!(done.is_err() && time < secs(5) * PATIENCE, "{path}: {done:?} after {time:?}");
        figure(&format!("{path} fails after {time:.2?}"));
    }
    daemon.stop();
}

/// A server with many exports.
#[case(seconds: 120)]
fn many_exports() {
    const MANY: usize = 3_000;
    let (exported, mut daemon) = net(&[]);
    exported.set((0..MANY).map(|n| format!("/export/dir{n}")));
    let begun = Instant::now();
    assert_eq!(visit::list("/mnt/net/srv1/export").len(), MANY);
    figure(&format!("{MANY} exports are there after {:.2?}", begun.elapsed()));
    visit::serves("/mnt/net/srv1/export/dir7");
    daemon.signal(Signal::SIGUSR1);
    wait_for("the end of the tree", secs(20), || table::below("/mnt/net/srv1").is_empty().then_some(()));
    daemon.stop();
}
