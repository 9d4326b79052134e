//! What autofsctl changes, and what it says of it.

use std::fs;
use std::process::Command;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::common::daemon::Daemon;
use super::common::site;
use super::common::suite::case;
use super::common::world::put;
use super::common::{output, secs, table, visit, wait_for};

/// Returns the exit status of `autofsctl` with these arguments, and what it prints.
fn ctl(arguments: &[&str]) -> (i32, String) {
    let said = output(Command::new("autofsctl").args(arguments), secs(20)).expect("an answer of autofsctl");
    let text = [said.stdout, said.stderr].concat();
    (said.status.code().unwrap(), String::from_utf8_lossy(&text).into_owned())
}

/// Fails unless `autofsctl` ends with this status and prints lines that contain all of these words each.
#[track_caller]
fn says(arguments: &[&str], status: i32, lines: &[&[&str]]) -> String {
    let (code, text) = ctl(arguments);
    for words in lines {
        let has_all = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(has_all, "{arguments:?}: no line with {words:?} in\n{text}");
    }
    assert_eq!(code, status, "{arguments:?}: {text}");
    text
}

/// Returns the lines of a reload that name a difference.
fn differences(text: &str) -> Vec<String> {
    text.lines().filter(|line| line.starts_with(['+', '-', '~', '!'])).map(str::to_owned).collect()
}

#[case]
fn a_reload_tells_what_has_changed() {
    site::any_key();
    let mut daemon = Daemon::serving(&["/mnt/auto"]);
    says(&["reload"], 0, &[&["0 added, 0 removed, 0 changed, 1 as before, 0 refused"]]);
    site::master(
        "/mnt/auto /etc/auto.any --timeout=600\n/mnt/more /etc/auto.any\n/mnt/bad /etc/auto.any --timeout=5m\n",
    );
    let dry = says(&["reload", "--dry-run"], 1, &[&["1 added, 0 removed, 1 changed, 0 as before, 1 refused"]]);
    assert!(table::autofs("/mnt/more").is_none(), "a dry run changes nothing");
    let text = says(
        &["reload"],
        1,
        &[
            &["+ /mnt/more", "/etc/auto.any", "/etc/auto.master:2:1"],
            &["~ /mnt/auto", "timeout 5m -> 10m", "/etc/auto.master:1:1"],
            &["! /mnt/bad", "invalid timeout \"5m\": write --timeout=300", "/etc/auto.master:3:"],
        ],
    );
    assert!(table::autofs("/mnt/more").is_some(), "it has waited");
    assert_eq!(differences(&text), differences(&dry));
    says(&["status"], 0, &[&["NOT SERVED", "WHERE", "WHY"], &["/mnt/bad", "/etc/auto.master:3:", "invalid timeout"]]);
    // The next one says so again, though no file has changed.
    says(&["reload"], 1, &[&["2 as before, 1 refused"], &["! /mnt/bad"]]);

    fs::remove_file("/etc/auto.master").unwrap();
    let gone = &["/etc/auto.master: No such file or directory; what it said before stays in force"];
    says(&["reload", "--dry-run"], 5, &[gone]);
    says(&["reload"], 5, &[gone]);
    daemon.ready(&["/mnt/auto", "/mnt/more"]);

    visit::serves("/mnt/auto/held");
    let held = fs::File::open("/mnt/auto/held").unwrap();
    site::master("/mnt/new /etc/auto.any\n/mnt/more /etc/auto.any\n");
    says(
        &["reload"],
        0,
        &[
            &["1 added, 1 removed, 0 changed, 1 as before, 0 refused"],
            &["+ /mnt/new"],
            &["- /mnt/auto", "/mnt/auto/held is in use"],
        ],
    );
    let status = says(&["status"], 0, &[&["/mnt/new"], &["/mnt/more"]]);
    assert!(!status.contains("/mnt/auto") && table::autofs("/mnt/new").is_some(), "{status}");
    drop(held);
    daemon.stop();
}

#[case]
fn a_reload_forgets_failed_keys_and_names_the_keys_of_direct_maps() {
    site::one_map("good -fstype=tmpfs :good\n");
    site::and_direct(&["/mnt/one", "/mnt/two"]);
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/one"]);
    visit::refuses("/mnt/auto/bad", Errno::ENOENT);
    // What was written just before the start is read once more.
    std::thread::sleep(secs(1));
    put("/etc/auto.direct", "/mnt/one -fstype=tmpfs :direct\n/mnt/three -fstype=tmpfs :direct\n");
    let difference = &["~ /-", "1 added: /mnt/three, 1 removed: /mnt/two", "/etc/auto.master:2:1"][..];
    let dry = says(&["reload", "--dry-run"], 0, &[difference, &["forgets 1 negative answer"]]);
    assert!(table::autofs("/mnt/three").is_none() && table::autofs("/mnt/two").is_some());
    let text = says(&["reload"], 0, &[difference, &["forgot 1 negative answer"]]);
    assert_eq!(differences(&text), differences(&dry));
    assert!(table::autofs("/mnt/three").is_some() && table::autofs("/mnt/two").is_none());
    // A map that is not there is refused, and comes with the next reload.
    site::master("/mnt/late /etc/auto.late\n");
    let refused = &["! /mnt/late", "/etc/auto.late", "/etc/auto.master:1:1"][..];
    says(&["reload", "--dry-run"], 1, &[refused]);
    says(&["reload"], 1, &[refused]);
    says(&["status"], 0, &[&["/mnt/late", "/etc/auto.master:1:1", "/etc/auto.late"]]);
    put("/etc/auto.late", "* -fstype=tmpfs :k&\n");
    says(&["reload"], 0, &[&["+ /mnt/late", "/etc/auto.late"]]);
    daemon.stop();
}

/// A mount point on which another file system is mounted is named, and served when it is free.
#[case]
fn an_occupied_mount_point_is_named_and_comes_later() {
    site::any_key();
    fs::create_dir("/mnt/auto").unwrap();
    mount(Some("cover"), "/mnt/auto", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    site::master("/mnt/auto /etc/auto.any\n/mnt/more /etc/auto.any\n");
    let daemon = Daemon::serving(&["/mnt/more"]);
    let row = &["/mnt/auto", "/etc/auto.master:1:1", "tmpfs", "tried again in "][..];
    wait_for("the reason", secs(10), || ctl(&["status"]).1.contains("NOT SERVED").then_some(()));
    says(&["status"], 0, &[row]);
    says(&["reload"], 1, &[&["! /mnt/auto", "tmpfs"]]);
    umount2("/mnt/auto", MntFlags::empty()).unwrap();
    says(&["reload"], 0, &[&["0 refused"]]);
    assert!(table::autofs("/mnt/auto").is_some());
    assert!(!ctl(&["status"]).1.contains("NOT SERVED"));
    daemon.stop();
}

/// Maps with entries that each fail for another reason.
pub(crate) fn failing() {
    put(
        "/etc/auto.one",
        "nosource -fstype=bind :/srv/none\nnosuch -fstype=nsf h:/x\nbroken /a\ndevice :/dev/none\ngood -fstype=tmpfs,size=64k :k\nsecret -fstype=tmpfs,password=SECRET :k\n",
    );
    put("/etc/auto.direct", "/mnt/auto/hidden/mail -fstype=tmpfs :k\n/mnt/one -fstype=tmpfs :k\n");
    site::master("/mnt/auto /etc/auto.one -nosuid\n/- /etc/auto.direct\n/mnt/bad /etc/auto.one --timeout=5m\n");
}

#[case]
fn explain_says_whether_an_access_would_succeed() {
    failing();
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/one"]);
    for options in [&[][..], &["--offline"]] {
        let explain =
            |path: &str, status, lines: &[&[&str]]| says(&[&["explain", path], options].concat(), status, lines);
        explain(
            "/mnt/auto/nosource",
            1,
            &[&["/mnt/auto/nosource: /srv/none does not exist"], &["where", "/etc/auto.one:1:"]],
        );
        explain("/mnt/auto/nosuch", 1, &[&["no program /sbin/mount.nsf, and the kernel has no nsf"]]);
        explain("/mnt/auto/broken", 1, &[&["where", "/etc/auto.one:3:"]]);
        explain("/mnt/auto/device", 1, &[&["/dev/none does not exist"]]);
        explain("/mnt/auto/nokey", 1, &[&["/mnt/auto/nokey: no map has this key"]]);
        explain("/mnt/auto/hidden", 1, &[&["hidden: /mnt/auto/hidden/mail makes /mnt/auto/hidden a plain directory"]]);
        explain(
            "/mnt/bad/x",
            1,
            &[&["/mnt/bad is not served: invalid timeout \"5m\""], &["where", "/etc/auto.master:3:"]],
        );
        explain("/mnt/elsewhere", 1, &[&["not below any mount point"]]);
        explain("/mnt/auto", 0, &[&["a mount point of its own"]]);
        explain("/mnt/auto/x/../good", 0, &[&["/mnt/auto/good: an access would mount it"]]);
        explain("/mnt/auto/../auto/../elsewhere", 1, &[&["/mnt/elsewhere: not below any mount point"]]);
        let good = &[
            &["mount point", "/mnt/auto  indirect, timeout 5m", "/etc/auto.master:1:1"][..],
            &["key", "good", "/etc/auto.one:5:"],
            &["options", "nosuid", "/etc/auto.master:1:1"],
            &["size=64k", "/etc/auto.one:5:20"],
        ];
        explain("/mnt/auto/good", 0, good);
        explain("/mnt/one", 0, &[&["/mnt/one: an access would mount it"]]);
        let secret = explain("/mnt/auto/secret", 0, &[&["password=***"]]);
        assert!(!secret.contains("SECRET"), "{secret}");
        says(&[&["explain", "--secrets", "/mnt/auto/secret"], options].concat(), 0, &[&["password=SECRET"]]);
    }
    says(&["explain", "--offline", "--as", "nobody", "/mnt/auto/good"], 0, &[]);
    says(&["explain", "--as", "nosuchuser", "/mnt/auto/good"], 2, &[&["there is no user nosuchuser"]]);
    visit::refuses("/mnt/auto/nokey", Errno::ENOENT);
    says(&["explain", "/mnt/auto/nokey"], 1, &[&["failed a short while ago, fails for", "no map has this key"]]);
    visit::serves("/mnt/auto/good");
    says(&["explain", "/mnt/auto/good"], 0, &[&["/mnt/auto/good: mounted"]]);
    put("/etc/auto.one", "good -fstype=bind :/usr\n");
    says(&["explain", "/mnt/auto/good"], 0, &[&["mounted already, from an older line"]]);
    daemon.stop();
    says(&["explain", "/mnt/auto/good"], 3, &[]);
    says(&["explain", "--offline", "/mnt/auto/good"], 0, &[&["bind  /usr"]]);
}

#[case]
fn expire_says_what_it_has_done() {
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    ["a", "b", "c"].iter().for_each(|key| visit::serves(format!("/mnt/auto/{key}")));
    let held = fs::File::create("/mnt/auto/c/file").unwrap();
    says(&["expire", "--dry-run", "/mnt/auto/a"], 0, &[&["/mnt/auto/a would be unmounted if it is unused"]]);
    assert!(table::served("/mnt/auto/a"));
    says(&["expire", "/mnt/auto/a"], 0, &[&["/mnt/auto/a unmounted"]]);
    says(&["expire", "/mnt/auto/a"], 1, &[&["/mnt/auto/a is not mounted"]]);
    says(&["expire", "/mnt/auto/c"], 1, &[&["/mnt/auto/c", "is in use"]]);
    says(&["expire"], 0, &[&["1 unmounted, 1 in use: /mnt/auto/c"]]);
    assert!(!table::served("/mnt/auto/b") && table::served("/mnt/auto/c"));
    says(&["expire", "/mnt/elsewhere"], 1, &[&["not below a mount point"]]);
    drop(held);
    says(&["expire"], 0, &[&["/mnt/auto/c unmounted"]]);
    daemon.stop();
}

#[case]
fn a_failed_key_is_flushed() {
    site::one_map("good -fstype=tmpfs :k\nbad -fstype=bind :/srv/late\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::refuses("/mnt/auto/bad", Errno::ENOENT);
    visit::refuses("/mnt/auto/none", Errno::ENOENT);
    says(&["status"], 0, &[&["2 failing"]]);
    fs::create_dir("/srv/late").unwrap();
    visit::refuses("/mnt/auto/bad", Errno::ENOENT);
    says(&["flush", "/mnt/auto/bad"], 0, &[&["/mnt/auto/bad: tried again at the next access"]]);
    visit::serves("/mnt/auto/bad");
    says(&["flush", "/mnt/auto/bad"], 0, &[&["no failure is remembered"]]);
    says(&["flush", "/mnt/auto"], 0, &[&["/mnt/auto/none: tried again"]]);
    says(&["flush", "--all"], 0, &[&["no failure is remembered"]]);
    says(&["flush"], 2, &[]);
    daemon.stop();
}

#[case]
fn a_blocked_path_fails_with_eacces() {
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/idle");
    says(
        &["block", "/mnt/auto/idle", "--say", "moved to filer9"],
        0,
        &[&["/mnt/auto/idle: new accesses fail with EACCES"]],
    );
    assert!(!table::served("/mnt/auto/idle"), "it was unused");
    visit::refuses("/mnt/auto/idle", Errno::EACCES);
    visit::serves("/mnt/auto/other");
    says(&["status"], 0, &[&["BLOCKED"], &["/mnt/auto/idle", "moved to filer9"]]);
    says(&["explain", "/mnt/auto/idle"], 1, &[&["/mnt/auto/idle: blocked: moved to filer9"]]);
    says(&["unblock", "/mnt/auto/idle"], 0, &[&["accesses are served again"]]);
    visit::serves("/mnt/auto/idle");
    says(&["unblock", "/mnt/auto/idle"], 1, &[&["is not blocked"]]);
    let held = fs::File::create("/mnt/auto/other/file").unwrap();
    says(&["block", "/mnt/auto", "--for", "1s"], 0, &[&["fail with EACCES until", "in use and stay"]]);
    visit::refuses("/mnt/auto/third", Errno::EACCES);
    visit::serves("/mnt/auto/other");
    wait_for("the end of the block", secs(10), || visit::enter("/mnt/auto/third").ok());
    drop(held);
    daemon.stop();
}

#[case]
fn wait_tells_the_errno() {
    site::one_map("good -fstype=tmpfs :k\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    says(&["wait", "/mnt/auto/good", "--timeout", "10"], 0, &[&["/mnt/auto/good is there after"]]);
    assert!(table::served("/mnt/auto/good"));
    says(&["wait", "/mnt/auto/none"], 1, &[&["/mnt/auto/none: No such file or directory", "no map has this key"]]);
    daemon.stop();
}

#[case]
fn log_levels_are_shown_and_end() {
    site::any_key();
    site::and_direct(&["/mnt/one"]);
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/one"]);
    says(&["log-level", "/mnt/auto/x", "debug", "--for", "2s"], 0, &[&["/mnt/auto: verbose -> debug until"]]);
    says(&["log-level", "/-", "debug"], 0, &[&["/-: verbose -> debug"]]);
    says(&["reload"], 0, &[]);
    says(&["status"], 0, &[&["/mnt/auto", "debug"], &["/-", "direct", "0 of 1", "debug"]]);
    let is_over = || {
        let (_, text) = ctl(&["status"]);
        text.lines().any(|line| line.starts_with("/mnt/auto") && line.contains("verbose")).then_some(())
    };
    wait_for("the end of the level", secs(10), is_over);
    daemon.stop();
}

/// What was set at run time outlives the worker, and its death is counted.
#[case]
fn the_next_worker_keeps_blocks_and_log_levels() {
    site::any_key();
    site::and_direct(&["/mnt/one"]);
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/one"]);
    says(&["block", "/mnt/auto/a", "--say", "moved"], 0, &[]);
    says(&["log-level", "/mnt/auto", "debug"], 0, &[]);
    says(&["log-level", "/-", "debug"], 0, &[]);
    let worker = daemon.group().into_iter().find(|pid| *pid != daemon.pid()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker), nix::sys::signal::Signal::SIGKILL).unwrap();
    visit::refuses("/mnt/auto/a", Errno::EACCES);
    visit::serves("/mnt/auto/b");
    wait_for("the next worker", secs(10), || ctl(&["status"]).1.contains("died once").then_some(()));
    let status = says(
        &["status"],
        0,
        &[&["died once (", " ago)"], &["/mnt/auto/a", "moved"], &["/mnt/auto", "indirect", "debug"]],
    );
    assert!(status.lines().any(|line| line.starts_with("/-") && line.contains("debug")), "{status}");
    daemon.stop();
}

/// A directory that only leads to a direct mount looks unused to the kernel.
#[case]
fn an_expiry_ends_at_a_direct_mount_inside() {
    site::any_key();
    site::and_direct(&["/mnt/auto/inside/direct"]);
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/auto/inside/direct"]);
    visit::serves("/mnt/auto/a");
    says(&["expire"], 0, &[&["unmounted"]]);
    visit::serves("/mnt/auto/inside/direct");
    daemon.stop();
}

#[case]
fn status_names_what_a_dead_daemon_has_left() {
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    daemon.kill();
    says(
        &["status"],
        3,
        &[&["1 autofs mount is left by process", "which is gone: /mnt/auto"], &["systemctl start autofs"]],
    );
}

#[case]
fn doctor_tells_whether_mounts_reach_a_process() {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SHARED, None::<&str>).unwrap();
    site::any_key();
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let own = std::process::id().to_string();
    says(
        &["doctor", "--pid", &own],
        0,
        &[&["PASS", "/dev/autofs is there"], &["PASS", "the mount namespace of the daemon"]],
    );
    for (propagation, status, verdict) in [("slave", 0, "reaches process"), ("private", 1, "is private for process")] {
        let mut process = Command::new("unshare")
            .args(["-m", "--propagation", propagation, "sleep", "100"])
            .spawn()
            .expect("unshare");
        let pid = process.id().to_string();
        let is_apart = || {
            let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            (namespace(&pid) != namespace(&own) && name.trim() == "sleep").then_some(())
        };
        wait_for("another mount namespace", secs(10), is_apart);
        says(&["doctor", "--pid", &pid], status, &[&["/mnt/auto", verdict]]);
        process.kill().unwrap();
        process.wait().unwrap();
    }
    daemon.stop();
}
