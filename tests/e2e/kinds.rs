//! The kinds of entries and mounts.

use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::common::daemon::Daemon;
use super::common::site;
use super::common::stand_in::{Rules, calls};
use super::common::suite::case;
use super::common::world::put;
use super::common::{secs, table, visit, wait_for};

fn sources(path: &str) -> Vec<String> {
    table::at(path).into_iter().filter(|m| m.fstype != "autofs").map(|m| m.source).collect()
}

/// The server with the least weight, and the next one if that fails.
#[case]
fn replicated_servers() {
    // Over RDMA, servers are not asked before.
    site::one_map("* -proto=rdma 192.0.2.1(2),192.0.2.2,192.0.2.3(1):/x/&\n");
    Rules { fail: vec!["192.0.2.2:/x/b".into()], ..Rules::default() }.set();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    for (key, server) in [("a", "192.0.2.2"), ("b", "192.0.2.3")] {
        visit::serves(format!("/mnt/auto/{key}"));
        assert_eq!(sources(&format!("/mnt/auto/{key}")), [format!("{server}:/x/{key}")]);
    }
    daemon.stop();
}

/// With the option in the line of the master map, and with the option on the command line.
#[case]
fn replicated_servers_by_chance() {
    site::master("/mnt/one /etc/auto.one -r\n/mnt/other /etc/auto.one\n");
    put("/etc/auto.one", "* -proto=rdma 192.0.2.1,192.0.2.2(1):/x/&\n");
    for (point, arguments) in [("/mnt/one", &[][..]), ("/mnt/other", &["-r"])] {
        let mut daemon = Daemon::start(["-f", "-v"].iter().chain(arguments));
        daemon.ready(&["/mnt/one", "/mnt/other"]);
        // Three of four by the first one.
        let mut number = 0;
        let mut until = |server: &str| loop {
            number += 1;
            assert!(number < 100, "never {server}");
            let path = format!("{point}/{number}");
            visit::serves(&path);
            if sources(&path)[0].starts_with(server) {
                break;
            }
        };
        until("192.0.2.1:");
        until("192.0.2.2:");
        daemon.stop();
    }
}

#[case]
fn binds() {
    fs::create_dir_all("/srv/data/sub").unwrap();
    site::one_map("rw :/srv/data\nro -ro :/srv/data\nnone :/srv/nothing\ntype -fstype=bind :/srv/data/sub\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    for (key, root, read_only) in
        [("rw", "/srv/data", false), ("ro", "/srv/data", true), ("type", "/srv/data/sub", false)]
    {
        let path = format!("/mnt/auto/{key}");
        visit::serves(&path);
        let mount = table::at(&path).pop().unwrap();
        assert_eq!(mount.root, Path::new(root));
        assert_eq!(mount.flags.contains(",ro,"), read_only, "{mount:?}");
        // A slave: what is mounted in the source shows up here.
        assert!(!mount.propagation.iter().any(|p| p.starts_with("shared:")), "{mount:?}");
    }
    visit::refuses("/mnt/auto/none", Errno::ENOENT);
    daemon.stop();
}

#[case]
fn tmpfs_with_options() {
    site::one_map("a -fstype=tmpfs,size=1m,mode=0700,nosuid,nodev,ro :scratch\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    let mount = table::at("/mnt/auto/a").pop().unwrap();
    assert_eq!((mount.fstype.as_str(), mount.source.as_str()), ("tmpfs", "scratch"));
    for word in ["nosuid", "nodev", "ro"] {
        assert!(mount.flags.contains(&format!(",{word},")), "{word}: {mount:?}");
    }
    assert!(mount.options.contains(",size=1024k,") && mount.options.contains(",mode=700,"), "{mount:?}");
    daemon.stop();
}

#[case]
fn a_helper_gets_source_target_and_options() {
    site::one_map("a -fstype=cifs,ro,credentials=/etc/cred ://srv1/my\\ share\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    let called = calls();
    assert_eq!(called.len(), 1, "{called:?}");
    assert_eq!(called[0].program, "mount.cifs");
    assert_eq!(called[0].arguments[..2], ["//srv1/my share", "/mnt/auto/a"]);
    assert!(called[0].arguments.iter().any(|a| a == "ro,credentials=/etc/cred"), "{called:?}");
    daemon.stop();
}

#[case]
fn symlinks() {
    site::master("/mnt/auto /etc/auto.one symlink\n");
    put("/etc/auto.one", "a :/opt\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::enter("/mnt/auto/a").unwrap();
    assert_eq!(visit::link("/mnt/auto/a").as_deref(), Some(Path::new("/opt")));
    assert!(!table::served("/mnt/auto/a"));
    daemon.stop();
    assert_eq!(table::below("/mnt/auto"), []);
}

#[case]
fn direct() {
    site::master("/- /etc/auto.direct --timeout=44\n");
    put("/etc/auto.direct", "/mnt/d1 -fstype=tmpfs :one\n/mnt/deep/down/d2 -fstype=tmpfs :two\n/mnt/d3 :/opt\n");
    let daemon = Daemon::serving(&["/mnt/d1", "/mnt/deep/down/d2", "/mnt/d3"]);
    let autofs = table::autofs("/mnt/d1").unwrap();
    assert!(autofs.options.contains(",direct,") && autofs.option("timeout") == Some("44"), "{autofs:?}");
    assert_eq!(visit::list("/mnt/d1"), [""; 0]);
    assert_eq!(sources("/mnt/d1"), ["one"]);
    visit::serves("/mnt/deep/down/d2");
    assert_eq!(sources("/mnt/deep/down/d2"), ["two"]);
    visit::serves("/mnt/d3");
    daemon.stop();
    for path in ["/mnt/d1", "/mnt/deep/down/d2", "/mnt/d3"] {
        assert_eq!(table::below(path), []);
        assert!(!Path::new(path).exists(), "{path} is left");
    }
}

#[case]
fn direct_below_directories_that_are_not_there() {
    site::master("/- /etc/auto.direct\n");
    put("/etc/file", "");
    put(
        "/etc/auto.direct",
        "/etc/file/d1 -fstype=tmpfs :one\n/mnt/d2 -fstype=tmpfs :two\n/proc/no/d3 -fstype=tmpfs :three\n",
    );
    let daemon = Daemon::serving(&["/mnt/d2"]);
    visit::serves("/mnt/d2");
    daemon.says("/etc/file/d1");
    daemon.says("/proc/no/d3");
    daemon.stop();
}

#[case]
fn a_direct_key_below_another() {
    site::master("/- /etc/auto.direct\n");
    put(
        "/etc/auto.direct",
        "/mnt/d1 -fstype=tmpfs :one\n/mnt/d1/below -fstype=tmpfs :below\n/mnt/d2 -fstype=tmpfs :two\n",
    );
    let daemon = Daemon::serving(&["/mnt/d2"]);
    visit::serves("/mnt/d2");
    visit::serves("/mnt/d1");
    daemon.stop();
    assert_eq!(table::below("/mnt/d1"), []);
}

#[case]
fn browse() {
    site::master("/mnt/auto /etc/auto.one browse --timeout=1\n");
    put("/etc/auto.one", "a -fstype=tmpfs :a\nb -fstype=tmpfs :b\nwith\\ blank -fstype=tmpfs :c\n* -fstype=tmpfs :&\n");
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    let all = || (visit::list("/mnt/auto") == ["a", "b", "with blank"]).then_some(());
    wait_for("the directories of all keys", secs(5), all);
    assert_eq!(table::below("/mnt/auto").len(), 1, "looking mounts nothing");
    visit::serves("/mnt/auto/a");
    visit::serves("/mnt/auto/with blank");
    visit::serves("/mnt/auto/other");
    wait_for("expiry", secs(15), || (table::below("/mnt/auto").len() == 1).then_some(()));
    wait_for("only directories of keys", secs(5), || {
        (visit::list("/mnt/auto") == ["a", "b", "with blank"]).then_some(())
    });
    put("/etc/auto.one", "b -fstype=tmpfs :b\nn -fstype=tmpfs :n\n");
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    wait_for("new keys appear, old ones go", secs(10), || (visit::list("/mnt/auto") == ["b", "n"]).then_some(()));
    visit::serves("/mnt/auto/n");
    // Browsing is turned off and on again: what is mounted stays.
    site::master("/mnt/auto /etc/auto.one nobrowse --timeout=300\n");
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    wait_for("keys are hidden", secs(10), || (visit::list("/mnt/auto") == ["n"]).then_some(()));
    site::master("/mnt/auto /etc/auto.one browse --timeout=300\n");
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    wait_for("keys are shown", secs(10), || (visit::list("/mnt/auto") == ["b", "n"]).then_some(()));
    daemon.stop();
}

const TREE: &str = "m / -fstype=tmpfs :root /b -fstype=tmpfs :b /b/c -fstype=tmpfs :c /d -fstype=tmpfs :d\n";

#[case]
fn multi_mount_is_mounted_lazily() {
    site::one_map(TREE);
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/m");
    assert_eq!(sources("/mnt/auto/m"), ["root"]);
    assert!(table::autofs("/mnt/auto/m/b").is_some_and(|m| m.options.contains(",offset,")));
    assert!(table::autofs("/mnt/auto/m/d").is_some());
    assert!(table::at("/mnt/auto/m/b/c").is_empty() && !table::served("/mnt/auto/m/b"), "nothing before it is needed");
    visit::serves("/mnt/auto/m/b/c");
    assert_eq!(sources("/mnt/auto/m/b"), ["b"]);
    assert_eq!(sources("/mnt/auto/m/b/c"), ["c"]);
    assert!(!table::served("/mnt/auto/m/d"));
    daemon.stop();
    assert_eq!(table::below("/mnt/auto"), []);
}

/// Outside of containers. This test may run in one itself.
#[case]
fn multi_mount_without_a_root() {
    put("/etc/autofs.toml", "[mount]\nplaceholder = \"never\"\n");
    site::one_map("m /x/y -fstype=tmpfs :y /z -fstype=tmpfs :z\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::enter("/mnt/auto/m").unwrap();
    assert_eq!(visit::list("/mnt/auto/m"), ["x", "z"]);
    assert!(!table::served("/mnt/auto/m"));
    visit::serves("/mnt/auto/m/x/y");
    visit::serves("/mnt/auto/m/z");
    daemon.stop();
    assert_eq!(table::below("/mnt/auto"), []);
}

/// A container is known by its pid, ipc and control group namespaces, without any file that marks it.
#[case]
fn multi_mount_without_a_root_in_a_container() {
    site::one_map("m /x/y -fstype=tmpfs :y /z -fstype=tmpfs :z\n");
    let mut daemon = Daemon::spawn(Daemon::under(&["unshare", "--ipc", "--cgroup"], &["-f", "-v"]));
    daemon.ready(&["/mnt/auto"]);
    visit::enter("/mnt/auto/m").unwrap();
    assert!(table::served("/mnt/auto/m"), "no placeholder");
    visit::serves("/mnt/auto/m/x/y");
    visit::serves("/mnt/auto/m/z");
    daemon.stop();
    assert_eq!(table::below("/mnt/auto"), []);
}

#[case]
fn multi_mount_with_a_failing_root() {
    site::one_map("m / -fstype=slow :bad /b -fstype=tmpfs :b\n");
    Rules { fail: vec!["bad".into()], ..Rules::default() }.set();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/m/b");
    daemon.stop();
}

#[case]
fn multi_mount_strict() {
    site::one_map("m -strict / -fstype=slow :bad /b -fstype=tmpfs :b\n");
    Rules { fail: vec!["bad".into()], ..Rules::default() }.set();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::refuses("/mnt/auto/m/b", Errno::ENOENT);
    assert_eq!(table::below("/mnt/auto").len(), 1, "nothing is left of it");
    daemon.stop();
}

#[case]
fn submount() {
    site::master("/mnt/auto /etc/auto.one -DWHO=joe\n");
    put("/etc/auto.one", "sub -fstype=autofs,timeout=99 file:/etc/auto.sub\n");
    put("/etc/auto.sub", "k -fstype=tmpfs :$WHO\n* -fstype=tmpfs :any\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::enter("/mnt/auto/sub").unwrap();
    let autofs = table::autofs("/mnt/auto/sub").unwrap();
    assert!(autofs.options.contains(",indirect,"), "{autofs:?}");
    visit::serves("/mnt/auto/sub/k");
    assert_eq!(sources("/mnt/auto/sub/k"), ["joe"]);
    visit::serves("/mnt/auto/sub/x");
    daemon.stop();
    assert_eq!(table::below("/mnt/auto"), []);
}

#[case]
fn submount_in_a_multi_mount() {
    site::one_map("m / -fstype=tmpfs :root /s -fstype=autofs file:/etc/auto.sub\n");
    put("/etc/auto.sub", "k -fstype=tmpfs :k\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/m/s/k");
    daemon.stop();
    assert_eq!(table::below("/mnt/auto"), []);
}

#[case]
fn user_variables() {
    site::one_map("a -fstype=tmpfs :$USER-$UID-$GID-$GROUP\nb -fstype=tmpfs,uid=$UID :$USER\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    assert!(visit::enter_as("/mnt/auto/a", 65534));
    assert_eq!(sources("/mnt/auto/a"), ["nobody-65534-65534-nogroup"]);
    visit::serves("/mnt/auto/b");
    assert_eq!(sources("/mnt/auto/b"), ["root"]);
    daemon.stop();
}

#[case]
fn unmounted_by_hand() {
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    for _ in 0..3 {
        visit::serves("/mnt/auto/a");
        umount2("/mnt/auto/a", MntFlags::empty()).unwrap();
    }
    visit::serves("/mnt/auto/a");
    daemon.stop();
}

#[case]
fn unmounted_by_hand_direct() {
    site::master("/- /etc/auto.direct\n");
    put("/etc/auto.direct", "/mnt/d1 -fstype=tmpfs :one\n");
    let daemon = Daemon::serving(&["/mnt/d1"]);
    for _ in 0..3 {
        visit::serves("/mnt/d1");
        umount2("/mnt/d1", MntFlags::empty()).unwrap();
        assert!(table::autofs("/mnt/d1").is_some());
    }
    visit::serves("/mnt/d1");
    daemon.stop();
}

/// umount(8) of a key that is not mounted has it mounted first, and unmounts it the moment the request is answered. A
/// descriptor of the daemon on the new mount would make it busy.
#[case]
fn unmounted_as_soon_as_it_is_mounted() {
    const KINDS: [(&str, &str, usize); 4] = [
        ("/mnt/bind", "* -fstype=bind :/srv/any\n", 200),
        ("/mnt/tmpfs", "* -fstype=tmpfs :t\n", 200),
        ("/mnt/helper", "* 192.0.2.1:/x\n", 10),
        ("/mnt/slow", "* -fstype=slow :x\n", 10),
    ];
    let direct = ["/mnt/d1", "/mnt/d2"];
    site::master(
        "/mnt/bind /etc/auto.1\n/mnt/tmpfs /etc/auto.2\n/mnt/helper /etc/auto.3\n/mnt/slow /etc/auto.4\n/- /etc/auto.5\n",
    );
    for (number, (_, entry, _)) in KINDS.iter().enumerate() {
        put(&format!("/etc/auto.{}", number + 1), entry);
    }
    put("/etc/auto.5", "/mnt/d1 -fstype=tmpfs :one\n/mnt/d2 -fstype=bind :/srv/any\n");
    fs::create_dir_all("/srv/any").unwrap();
    let points = KINDS.map(|(point, ..)| point);
    let daemon = Daemon::serving(&[&points[..], &direct].concat());
    for (point, _, rounds) in KINDS {
        for round in 0..rounds {
            assert_eq!(umount2(format!("{point}/{round}").as_str(), MntFlags::empty()), Ok(()), "{point}/{round}");
        }
    }
    for path in direct {
        for round in 0..100 {
            drop(fs::File::open(path).unwrap());
            assert_eq!(umount2(path, MntFlags::empty()), Ok(()), "{path}, round {round}");
            assert!(table::autofs(path).is_some(), "{path}, round {round}");
        }
    }
    daemon.stop();
}

#[case]
fn failed_mount() {
    site::master("/mnt/auto /etc/auto.one --negative-timeout=1\n");
    put("/etc/auto.one", "a -fstype=slow :bad\n");
    Rules { fail: vec!["bad".into()], ..Rules::default() }.set();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    for _ in 0..5 {
        visit::refuses("/mnt/auto/a", Errno::ENOENT);
    }
    assert_eq!(calls().len(), 1, "a failure is remembered");
    assert_eq!(visit::list("/mnt/auto"), [""; 0], "no directory is left");
    Rules::default().set();
    std::thread::sleep(secs(2));
    visit::serves("/mnt/auto/a");
    daemon.stop();
}

#[case]
fn failed_mount_is_logged_without_verbose() {
    site::master("/mnt/auto /etc/auto.one\n");
    put("/etc/auto.one", "a -fstype=slow :bad\n");
    Rules { fail: vec!["bad".into()], ..Rules::default() }.set();
    let mut daemon = Daemon::start(["-f"]);
    daemon.ready(&["/mnt/auto"]);
    visit::refuses("/mnt/auto/a", Errno::ENOENT);
    daemon.says("failed to mount /mnt/auto/a: ");
    let log = daemon.log();
    let lines: Vec<&str> = log.lines().collect();
    assert!(lines.len() == 1 && lines[0].contains(" of uid 0)"), "{log}");
    daemon.stop();
}

#[case]
fn foreign_file_system_in_the_way() {
    fs::create_dir_all("/mnt/taken").unwrap();
    let none: Option<&str> = None;
    nix::mount::mount(Some("mine"), "/mnt/taken", Some("tmpfs"), nix::mount::MsFlags::empty(), none).unwrap();
    site::any_key();
    site::master("/mnt/taken /etc/auto.any\n/mnt/auto /etc/auto.any\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    assert_eq!(sources("/mnt/taken"), ["mine"], "it belongs to another program");
    daemon.says("/mnt/taken");
    daemon.stop();
    assert_eq!(sources("/mnt/taken"), ["mine"]);
}

/// "No limit", as some write it.
#[case]
fn mount_wait_as_long_as_can_be() {
    site::one_map("* -fstype=slow :slow\n");
    put("/etc/autofs.conf", "[ autofs ]\nmount_wait = 18446744073709551615\numount_wait = 4294967295\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    daemon.stop();
    assert_eq!(table::below("/mnt/auto"), []);
}
