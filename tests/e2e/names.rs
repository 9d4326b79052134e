//! Keys with arbitrary bytes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::common::daemon::Daemon;
use super::common::site;
use super::common::suite::case;
use super::common::world::put;
use super::common::{table, visit};

fn below(name: &[u8]) -> PathBuf {
    Path::new("/mnt/auto").join(OsStr::from_bytes(name))
}

#[case]
fn any_bytes() {
    site::one_map("* -fstype=tmpfs :any\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    let names: &[&[u8]] = &[
        b"with blank",
        b"tab\there",
        b"new\nline",
        b"\xff\xfe",
        b"*",
        b"&",
        b"$HOME",
        b"\"quote\"",
        b"back\\slash",
        b"#hash",
        b"+plus",
        b"-dash",
        b"a,b",
        b"a:b",
        "größe".as_bytes(),
        b"\x01\x02",
        b"%s%n",
        b"...",
        b" ",
        b"\\040",
        b"'",
    ];
    for name in names {
        visit::serves(below(name));
    }
    assert_eq!(table::below("/mnt/auto").len(), names.len() + 1);
    daemon.stop();
    assert_eq!(table::below("/mnt/auto"), []);
}

#[case]
fn longest_name() {
    site::one_map("* -fstype=tmpfs :any\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::serves(below(&[b'n'; 253]));
    // The kernel does not pass these on.
    visit::refuses(below(&[b'n'; 254]), Errno::ENOENT);
    visit::refuses(below(&[b'n'; 256]), Errno::ENAMETOOLONG);
    daemon.stop();
}

#[case]
fn keys_with_blanks_and_quotes() {
    site::one_map("with\\ blank -fstype=tmpfs :a\n\"in quotes\" -fstype=tmpfs :b\n\\#hash -fstype=tmpfs :c\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    for (name, source) in [("with blank", "a"), ("in quotes", "b"), ("#hash", "c")] {
        let path = below(name.as_bytes());
        visit::serves(&path);
        assert_eq!(table::at(&path)[0].source, source);
    }
    visit::refuses("/mnt/auto/with", Errno::ENOENT);
    daemon.stop();
}

#[case]
fn nothing_forges_a_log_line() {
    site::one_map("a -fstype=tmpfs :a\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    visit::refuses(below(b"x\nmounted forged\x1b[2J\xff"), Errno::ENOENT);
    daemon.says("mounted forged");
    let log = daemon.log();
    assert!(!log.lines().any(|l| l.starts_with("mounted forged")), "{log}");
    assert!(!log.contains('\x1b'), "{log}");
    daemon.stop();
}

#[case]
fn mount_point_with_blanks() {
    site::master("/mnt/with\\ blank file:/etc/auto\\ one\n/- /etc/auto.direct\n");
    put("/etc/auto one", "* -fstype=tmpfs :k&\n");
    put("/etc/auto.direct", "\"/mnt/my direct\" -fstype=tmpfs :one\n");
    let daemon = Daemon::serving(&["/mnt/with blank", "/mnt/my direct"]);
    visit::serves("/mnt/with blank/a b");
    visit::serves("/mnt/my direct");
    daemon.kill();
    // A new daemon finds escaped names in the mount table.
    let daemon = Daemon::serving(&["/mnt/with blank", "/mnt/my direct"]);
    visit::serves("/mnt/with blank/a b");
    visit::serves("/mnt/with blank/c d");
    daemon.stop();
    assert_eq!(table::below("/mnt/with blank"), []);
    assert_eq!(table::below("/mnt/my direct"), []);
}

#[case]
fn nothing_escapes_the_mount_point() {
    site::one_map("m / -fstype=tmpfs :root /../../../tmp/out -fstype=tmpfs :out\nn -fstype=tmpfs :n\n");
    let daemon = Daemon::serving(&["/mnt/auto"]);
    _ = visit::enter("/mnt/auto/m");
    assert_eq!(table::at("/tmp/out"), []);
    visit::serves("/mnt/auto/n");
    daemon.stop();
    assert_eq!(table::at("/tmp/out"), []);
}
