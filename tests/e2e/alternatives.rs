//! Entries with several places, of which the first that exists is mounted.

use std::fs;
use std::process::Command;

use nix::errno::Errno;

use super::common::daemon::Daemon;
use super::common::suite::case;
use super::common::world::put;
use super::common::{output, secs, site, table, visit};

/// Returns what a program prints, on both streams.
fn said(program: &str, arguments: &[&str]) -> String {
    let said = output(Command::new(program).args(arguments), secs(15)).expect("an answer");
    String::from_utf8(said.stdout).unwrap() + &String::from_utf8(said.stderr).unwrap()
}

/// Returns what the file `name` in the directory of a key says.
fn read(path: &str) -> String {
    visit::serves(path);
    fs::read_to_string(format!("{path}/name")).unwrap()
}

#[case]
fn the_first_directory_that_exists() {
    for (path, name) in [("new/a", "new a"), ("old/a", "old a"), ("old/b", "old b")] {
        put(&format!("/world/{path}/name"), name);
    }
    site::master("/mnt/auto /etc/auto.one\n/mnt/toml file,toml:/etc/auto.one.toml\n/mnt/link /etc/auto.link\n");
    put("/etc/auto.one", "* -fstype=bind :/world/new/& || :/world/old/&\n");
    put("/etc/auto.one.toml", "[entries]\n\"*\" = { type = \"bind\", first = [\"/world/new/&\", \"/world/old/&\"] }\n");
    put("/etc/auto.link", "* -fstype=bind,symlink :/world/new/& || :/world/old/&\n");
    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/toml", "/mnt/link"]);
    for point in ["/mnt/auto", "/mnt/toml"] {
        assert_eq!(read(&format!("{point}/a")), "new a");
        assert_eq!(read(&format!("{point}/b")), "old b");
        visit::refuses(format!("{point}/c"), Errno::ENOENT);
    }
    for (key, target) in [("a", "/world/new/a"), ("b", "/world/old/b")] {
        visit::enter(format!("/mnt/link/{key}")).unwrap();
        assert_eq!(fs::read_link(format!("/mnt/link/{key}")).unwrap().to_str(), Some(target));
    }
    visit::refuses("/mnt/link/c", Errno::ENOENT);

    let explained = said("autofsctl", &["explain", "/mnt/auto/d"]);
    assert!(explained.contains("/world/new/d does not exist"), "{explained}");
    put("/world/old/d/name", "old d");
    let explained = said("autofsctl", &["explain", "/mnt/auto/d"]);
    assert!(
        explained.contains("the first of 2 places that exists") && explained.contains("/world/old/d"),
        "{explained}"
    );
    assert_eq!(read("/mnt/auto/d"), "old d");
    let dump = said("automount", &["-m"]);
    let line = "  * | -fstype=bind :/world/new/& || :/world/old/&\n";
    assert_eq!(dump.matches(line).count(), 2, "{dump}");
    let checked = said("autofsctl", &["check"]);
    assert!(checked.contains("0 errors, 0 warnings"), "{checked}");
    put("/etc/auto.one", "a -fstype=bind || :/x\nb -fstype=bind :/x || -ro :/y\nc :/x || /d srv:/y\nd :/x ||\n");
    let checked = said("autofsctl", &["check"]);
    for told in [
        "auto.one:1:16: no location before ||",
        "auto.one:2:23: options after",
        "auto.one:3:10: a multi-mount after ||",
    ] {
        let (place, message) = told.split_once(": ").unwrap();
        assert!(checked.contains(place) && checked.contains(message), "{told}: {checked}");
    }
    assert!(checked.contains("auto.one:4:3"), "{checked}");
    daemon.stop();
}

/// A place that fails is passed over; one that may exist, but does not answer, is not.
#[case(seconds: 60)]
fn a_server_that_does_not_answer_ends_the_search() {
    let helper = "#!/bin/sh\necho \"$1\" >> /world/asked\ncase $1 in\nmissing*) echo 'no such export' >&2; exit 32;;\n\
                  slow*) sleep 3600;;\nesac\nexec mount -t tmpfs \"$1\" \"$2\"\n";
    put("/sbin/mount.pick", helper);
    site::mount_wait(2);
    put(
        "/etc/auto.one",
        "a -fstype=pick :missing-1 || :missing-2 || :good || :never\nb -fstype=pick :missing-3 || :slow || :never\n\
         c -ro 10.99.1.99:/x || :/world\n",
    );
    site::master("/mnt/auto /etc/auto.one\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves("/mnt/auto/a");
    assert_eq!(table::at("/mnt/auto/a").last().unwrap().source, "good");
    for key in ["b", "c"] {
        visit::refuses(format!("/mnt/auto/{key}"), Errno::ENOENT);
    }
    assert_eq!(fs::read_to_string("/world/asked").unwrap(), "missing-1\nmissing-2\ngood\nmissing-3\nslow\n");
    daemon.stop();
}
