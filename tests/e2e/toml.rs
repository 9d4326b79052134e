//! Master maps in TOML, and maps that are converted.

use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::common::daemon::Daemon;
use super::common::suite::case;
use super::common::world::put;
use super::common::{output, secs, site, table, visit, wait_for};

/// Returns what a program prints, on both streams.
fn said(program: &str, arguments: &[&str]) -> String {
    let said = output(Command::new(program).args(arguments), secs(15)).expect("an answer");
    String::from_utf8(said.stdout).unwrap() + &String::from_utf8(said.stderr).unwrap()
}

const MASTER: &str = r#"
include = ["/etc/auto.more"]

[[mount_points]]
path = "/mnt/auto"
map = "file:/etc/auto.one"
timeout = 77
options = "size=64k"
variables = { KIND = "tmpfs" }

[[mount_points]]
path = "relative"
map = "auto.x"

[[mount_points]]
path = "/-"
map = "file:/etc/auto.direct"
"#;

#[case]
fn a_master_map() {
    put("/etc/auto.master.toml", MASTER);
    put("/etc/auto.more", "/mnt/more /etc/auto.one -DKIND=tmpfs\n");
    put("/etc/auto.one", "* -fstype=$KIND :k&\n");
    put("/etc/auto.direct", "/mnt/direct -fstype=tmpfs :direct\n");
    let own = "[[mount_points]]\npath = \"/mnt/own\"\nmap = \"/etc/auto.one\"\nvariables.KIND = \"tmpfs\"\n";
    put("/etc/autofs.toml", own);
    let mut daemon = Daemon::start(["-f", "-v", "/etc/auto.master.toml"]);
    daemon.ready(&["/mnt/auto", "/mnt/more", "/mnt/direct", "/mnt/own"]);
    for path in ["/mnt/auto/a", "/mnt/more/b", "/mnt/direct", "/mnt/own/c"] {
        visit::serves(path);
        assert_eq!(table::at(path).last().unwrap().fstype, "tmpfs", "{path}");
    }
    assert_eq!(table::at("/mnt/auto/a").last().unwrap().option("size"), Some("64k"));
    assert_eq!(table::autofs("/mnt/auto").unwrap().option("timeout"), Some("77"));
    daemon.says("/etc/auto.master.toml:12:8: a mount point starts with \"/\"");
    let explained = said("autofsctl", &["explain", "/mnt/auto/z"]);
    assert!(explained.contains("tmpfs  kz  size=64k"), "{explained}");

    // It is read again at a reload, and so are the mount points of autofs.toml.
    put("/etc/auto.master.toml", MASTER.replace("relative", "/mnt/new").replace("auto.x", "/etc/auto.direct"));
    put("/etc/autofs.toml", "");
    daemon.signal(Signal::SIGHUP);
    daemon.ready(&["/mnt/new"]);
    wait_for("the end of /mnt/own", secs(10), || table::autofs("/mnt/own").is_none().then_some(()));
    daemon.stop();
}

#[case]
fn a_master_map_is_dumped_and_checked() {
    let sun = "/mnt/auto file:/etc/auto.one --timeout=77 -DKIND=tmpfs -size=64k\n/- file:/etc/auto.direct\n";
    put("/etc/auto.one", "* -fstype=$KIND :k&\n");
    put("/etc/auto.direct", "/mnt/direct -fstype=tmpfs :direct\n");
    site::master(sun);
    put("/etc/auto.toml", MASTER.replace("include = [\"/etc/auto.more\"]", "").replace("size", "-size"));
    let dump = said("automount", &["-m"]);
    put("/etc/autofs.conf", "[ autofs ]\nmaster_map_name = file,toml:/etc/auto.toml\n");
    let toml = said("automount", &["-m"]);
    let complaint = toml.lines().last().unwrap();
    assert!(complaint.starts_with("/etc/auto.toml:12:8: a mount point starts with"), "{toml}");
    assert_eq!(toml.strip_suffix(&format!("{complaint}\n")), Some(dump.as_str()));
    let checked = said("autofsctl", &["check", "/etc/auto.toml"]);
    assert!(checked.contains("auto.toml:12:8") && checked.contains("1 error"), "{checked}");
    put("/etc/auto.toml", "[[mount_points]]\npath = \"/mnt/auto\"\nmap = \"/etc/auto.one\"\ntimeuot = 5\n");
    let checked = said("autofsctl", &["check", "/etc/auto.toml"]);
    assert!(checked.contains("did you mean timeout?"), "{checked}");
    // An entry of a map that a master map in TOML names.
    put("/etc/auto.one", "a -fstype=tmpfs\n");
    put("/etc/auto.toml", "[[mount_points]]\npath = \"/mnt/auto\"\nmap = \"/etc/auto.one\"\n");
    let checked = said("autofsctl", &["check", "/etc/auto.toml"]);
    assert!(checked.contains("/etc/auto.one:1:"), "{checked}");
}

/// The sites as they are written in one format, and converted to the other.
#[case]
fn a_converted_site_is_the_same_site() {
    let master = "# All.\n/mnt/auto file:/etc/auto.one --timeout=77 nobrowse -DKIND=tmpfs -size=64k\n/- file:/etc/auto.two\n\
                  +/etc/auto.more\n";
    let one = "# Keys.\na -fstype=$KIND :ka\nb\\ c -fstype=$KIND,size=32k :kb\n\
               m -rw / -fstype=tmpfs :root /x -fstype=tmpfs :below\n* -fstype=$KIND :k&\n";
    site::master(master);
    put("/etc/auto.more", "/mnt/more file:/etc/auto.one -DKIND=tmpfs\n");
    put("/etc/auto.one", one);
    put("/etc/auto.two", "/mnt/direct -fstype=tmpfs :direct\n");
    let dump = said("automount", &["-m"]);

    put("/etc/auto.site.toml", said("autofsctl", &["convert", "/etc/auto.master"]));
    put("/etc/autofs.conf", "[ autofs ]\nmaster_map_name = /etc/auto.site.toml\n");
    assert_eq!(said("automount", &["-m"]), dump, "the master map in TOML");
    put("/etc/auto.one.toml", said("autofsctl", &["convert", "/etc/auto.one"]));
    put(
        "/etc/auto.site.toml",
        said("autofsctl", &["convert", "/etc/auto.master"])
            .replace("auto.one", "auto.one.toml")
            .replace("file:/etc/auto.one", "file,toml:/etc/auto.one"),
    );
    put("/etc/auto.more", "/mnt/more file,toml:/etc/auto.one.toml -DKIND=tmpfs\n");
    assert_eq!(said("automount", &["-m"]).replace("auto.one.toml", "auto.one"), dump, "all in TOML");

    let mut daemon = Daemon::start(["-f", "-v"]);
    daemon.ready(&["/mnt/auto", "/mnt/direct", "/mnt/more"]);
    for (path, from) in
        [("/mnt/auto/a", "ka"), ("/mnt/auto/b c", "kb"), ("/mnt/more/z", "kz"), ("/mnt/auto/m/x", "below")]
    {
        visit::serves(path);
        assert_eq!(table::at(path).last().unwrap().source, from);
    }
    daemon.stop();

    assert_eq!(said("autofsctl", &["convert", "/etc/auto.one.toml"]), one, "and back");
    let back = said("autofsctl", &["convert", "/etc/auto.site.toml"]);
    assert_eq!(back.replace("file,toml:/etc/auto.one.toml", "file:/etc/auto.one"), master, "and back");

    put("/etc/auto.one", "+auto.first\na srv:/a\n");
    let refused = output(Command::new("autofsctl").args(["convert", "/etc/auto.one"]), secs(15)).unwrap();
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(1), 0));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("an entry after an include"));
}

#[case]
fn keys_that_no_wildcard_serves() {
    put("/etc/auto.prog", "#!/bin/sh\necho \"$1\" >> /world/asked\necho -fstype=tmpfs :p\n");
    site::master("/mnt/auto file,toml:/etc/auto.one.toml\n/mnt/sun /etc/auto.sun\n/mnt/prog program:/etc/auto.prog\n");
    put(
        "/etc/auto.one.toml",
        "[defaults]\ntype = \"tmpfs\"\n[entries]\nown-b = \"own\"\n\"*\" = { source = \"k&\", except = [\"own-?\", \"*.bak\"] }\n",
    );
    put("/etc/auto.sun", ".hidden -fstype=tmpfs :own\n* -fstype=tmpfs :k&\n");
    let mut daemon = Daemon::serving(&["/mnt/auto", "/mnt/sun", "/mnt/prog"]);
    for path in ["/mnt/auto/a", "/mnt/auto/own-b", "/mnt/auto/.hidden", "/mnt/sun/.Trash-7", "/mnt/prog/.hidden"] {
        visit::serves(path);
    }
    for path in ["/mnt/auto/own-a", "/mnt/auto/x.bak"] {
        visit::refuses(path, Errno::ENOENT);
    }
    put("/etc/autofs.toml", "[wildcards]\ndesktop_probes = \"refuse\"\nexcept = [\".git\"]\n");
    daemon.signal(Signal::SIGHUP);
    // Each look is at another key: one that was mounted before the reload goes on to be served.
    let mut keys = (0..).map(|n| format!("/mnt/sun/.Trash-x{n}"));
    wait_for("the list to hold", secs(10), || visit::enter(keys.next()?).is_err().then_some(()));
    for path in
        ["/mnt/auto/.DS_Store", "/mnt/sun/.git", "/mnt/sun/autorun.inf", "/mnt/prog/.git", "/mnt/prog/desktop.ini"]
    {
        visit::refuses(path, Errno::ENOENT);
    }
    for path in ["/mnt/sun/.hidden", "/mnt/sun/b", "/mnt/prog/b"] {
        visit::serves(path);
    }
    assert_eq!(std::fs::read_to_string("/world/asked").unwrap(), ".hidden\nb\n", "what the program was asked for");
    for path in ["/mnt/sun/.Trash", "/mnt/prog/.Trash"] {
        let explained = said("autofsctl", &["explain", path]);
        assert!(
            explained.contains("no wildcard serves this key, because of [wildcards] in autofs.toml"),
            "{explained}"
        );
    }
    put("/etc/autofs.toml", "");
    daemon.signal(Signal::SIGHUP);
    wait_for("the end of the list", secs(10), || visit::enter("/mnt/sun/.Trash-9").ok());
    daemon.stop();
}
