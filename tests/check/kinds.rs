//! Mistakes that look like what other programs or other parts of the configuration take, each beside files that are right.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::{check, found_in, one};

/// Checks one file by its name below a directory: there is one finding, it is at `place`, and contains `words`.
#[track_caller]
fn one_in(name: &str, text: &str, place: &str, words: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let found = found_in(&file);
    let [line] = found.as_slice() else { panic!("{text}: {found:#?}") };
    assert!(line.starts_with(&format!("{}:{place} ", file.display())), "{text}: {line}");
    for word in words {
        assert!(line.contains(word), "{text}: {word} is missing in {line}");
    }
}

#[test]
fn replicas_are_written_apart_and_weighed_behind_their_host() {
    one("a [fe80::1:/x", 3, &["\"[\" without \"]\"", "[ADDRESS]:/PATH"]);
    one("a srv1(5:/x srv2:/x", 7, &["\"(\" without \")\"", "HOST(1):/PATH"]);
    one("a srv1:/x,srv2:/x", 10, &["a comma between two locations", "write a blank: srv1:/x srv2:/x"]);
    one("a http://srv1/x", 3, &["a URL", "srv1:/x", "davfs"]);
    one("* srv1:/home/%u", 14, &["%u stands for nothing", "write $USER"]);
    let master = "/mnt/vl file:/etc/vl.map\n";
    let found = check(&[("/etc/auto.master", master), ("/etc/vl.map", "a srv1:/x(1) srv2:/x(2)\n")]);
    assert!(found.len() == 2 && found[0].contains("write the weight behind the host: srv1(1):/x"), "{found:?}");
    // Parentheses, commas and percent signs that may be meant.
    for entry in ["a srv1:/x(1)", "a srv1(1),srv2(2):/x srv3:/y(3)", "a srv1:/x,y srv2:/x,y", "a srv1:/100%/u"] {
        let found = check(&[("/etc/auto.master", master), ("/etc/vl.map", &format!("{entry}\n"))]);
        assert_eq!(found, [""; 0], "{entry}");
    }
}

#[test]
fn values_and_words_of_other_places_are_recognized() {
    one("a -fstype=nfs4,minorversion=3 srv1:/x", 16, &["write one of 0, 1, 2"]);
    one("a -fstype=tmpfs,nr_inodes=many :tmpfs", 17, &["nr_inodes=100k"]);
    let master = "/mnt/vl file:/etc/vl.map\n";
    for (entry, place) in [
        ("a -rw,soft,srv1:/x", "1:12 options::unknown: a location in the list"),
        ("include /etc/other.map", "1:1 key::include:"),
        ("-include auto.other", "1:1 key::include:"),
    ] {
        let found = check(&[("/etc/auto.master", master), ("/etc/vl.map", &format!("{entry}\n"))]);
        assert!(found.iter().any(|line| line.contains(&format!("/etc/vl.map:{place}"))), "{entry}: {found:?}");
    }
    for entry in [
        "a -fstype=tmpfs,nr_inodes=10k,nr_blocks=1m :tmpfs",
        "a -fstype=xfs,pquota,nouuid :/dev/sdb1",
        "include srv1:/include",
    ] {
        let found = check(&[("/etc/auto.master", master), ("/etc/vl.map", &format!("{entry}\n"))]);
        assert_eq!(found, [""; 0], "{entry}");
    }
    let found = check(&[("/etc/auto.master", "/- file:/etc/d.map\n"), ("/etc/d.map", "/proc/x srv1:/x\n")]);
    assert!(found.len() == 1 && found[0].starts_with("/etc/d.map:1:1 direct::in-the-way"), "{found:?}");
}

#[test]
fn lines_of_the_master_map_say_what_they_mean() {
    for (line, found) in [
        ("/a file:/etc/a.map --timeout 5 min", "1:32 master::timeout"),
        ("/a file:/etc/a.map --timeout=2 h", "1:32 master::timeout"),
        ("/a/$USER file:/etc/a.map", "1:4 master::pattern"),
        ("/a file:/etc/a.map shared,slave", "1:27 options::contradiction"),
        ("/a file:/etc/a.map symlink=yes", "1:20 master::option"),
        ("/a file:/etc/a.map nfs", "1:20 options::unknown"),
    ] {
        let files = [("/etc/auto.master", &*format!("{line}\n")), ("/etc/a.map", "a srv1:/x\n")];
        let said = check(&files);
        // The directory has a longer name than the one written here, so that columns behind the map differ.
        let code = found.split_once(' ').unwrap().1;
        assert!(said.len() == 1 && said[0].contains(code), "{line}: {said:?}");
        if line.starts_with("/a/") {
            assert!(said[0].starts_with(&format!("/etc/auto.master:{found}:")), "{line}: {said:?}");
        }
    }
    for line in [
        "/a file:/etc/a.map --timeout 60 soft",
        "/a file:/etc/a.map shared",
        "/a file:/etc/a.map -fstype=nfs",
        "/a multi file:/etc/a.map -- file:/etc/a.map",
    ] {
        let said = check(&[("/etc/auto.master", &format!("{line}\n")), ("/etc/a.map", "a srv1:/x\n")]);
        assert_eq!(said, [""; 0], "{line}");
    }
}

#[test]
fn the_file_of_the_init_system_is_no_map() {
    for text in
        ["OPTIONS=\"\"\n", "# x\nOPTIONS=\"--timeout=300 -v\"\nLANG=C\n", "USE_MISC_DEVICE=\"yes\"\nTIMEOUT=300\n"]
    {
        for name in ["default/autofs", "sysconfig/autofs"] {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join(name.split('/').next().unwrap())).unwrap();
            let file = dir.path().join(name);
            fs::write(&file, text).unwrap();
            assert_eq!(found_in(&file), [""; 0], "{text}");
        }
    }
    one_in("default/autofs", "OPTIONS=\"--timout=3\"\n", "1:10", &["service::options", "--timout=3"]);
    one_in("default/autofs", "export OPTIONS=\"-v\"\n", "1:1", &["service::line", "write OPTIONS=\"-v\""]);
    one_in("default/autofs", "OPTION=\"-v\"\n", "1:1", &["service::line", "write OPTIONS="]);
    one_in("default/autofs", "TIMEOUT=5m\n", "1:9", &["conf::value"]);
    one_in("autofs.conf", "[autofs]\nmaster_map_name = /nonexistent/x\n", "2:19", &["conf::no-file"]);
    one_in("autofs.conf", "[autofs]\nldap_uri = ldap:srv1\n", "2:12", &["write ldap://srv1"]);
    one_in("fstab", "srv:/x /m nfs rw,x-systemd.automuont 0 0\n", "1:18", &["did you mean x-systemd.automount?"]);
    let secret = "<autofs_ldap_sasl_conf authrequired=\"no\" password=\"y\"/>\n";
    one_in("autofs_ldap_auth.conf", secret, "1:42", &["login::attribute", "did you mean secret?"]);
    one_in("autofs.conf", "[autofs]\ntimeout = 5m\n", "2:11", &["conf::value", "write timeout=300"]);
    one_in("autofs.conf", "[autofs]\nbrowse_mode = true\n", "2:15", &["conf::value", "write browse_mode=yes"]);
    one_in("nsswitch.conf", "automount: files nisplus\n", "1:18", &["nsswitch::unsupported", "remove it"]);
}

#[test]
fn paths_that_lead_back_or_nowhere() {
    let direct = |text: &str| check(&[("/etc/auto.master", "/- file:/etc/vl.map\n"), ("/etc/vl.map", text)]);
    assert_eq!(
        direct("/mnt/a/../b srv1:/x\n"),
        ["/etc/vl.map:1:1 map::key: the path /mnt/a/../b has a . or .. in it: write /mnt/b"]
    );
    let below = direct("/mnt/a srv1:/x\n/mnt/ab srv1:/x\n/mnt/a/b srv1:/y\n");
    assert!(
        below.len() == 1 && below[0].starts_with("/etc/vl.map:3:1 map::below: the key is below the key /mnt/a"),
        "{below:?}"
    );
    assert_eq!(direct("/mnt/a srv1:/x\n/mnt/..b srv1:/x\n/mnt/b..c/.d srv1:/y\n"), [""; 0]);
    let layers = |options: &str| {
        let map = format!("a -fstype=overlay,{options} :overlay\n");
        check(&[("/etc/auto.master", "/mnt/vl file:/etc/vl.map\n"), ("/etc/vl.map", &map)])
    };
    for options in
        ["lowerdir=/nonexistent", "lowerdir=/usr:/nonexistent", "lowerdir=/usr,upperdir=/nonexistent,workdir=/tmp"]
    {
        let found = layers(options);
        assert!(
            found.len() == 1 && found[0].contains("plan::no-source: there is no directory /nonexistent"),
            "{found:?}"
        );
    }
    assert_eq!(layers("lowerdir=/usr:/etc,upperdir=/tmp,workdir=/tmp"), [""; 0]);
}

#[test]
fn servers_and_cuts_of_am_utils() {
    let amd = |entry: &str| {
        let map = format!("{entry}\n");
        check(&[("/etc/auto.master", "/mnt/vl file,amd:/etc/vl.map\n"), ("/etc/vl.map", &map)])
    };
    let found = amd("a type:=nfs;rhost:=srv:/x;rfs:=/y");
    assert!(
        found.len() == 1 && found[0].contains("amd::host") && found[0].ends_with("write rhost:=srv;rfs:=/x"),
        "{found:?}"
    );
    let nfs = "type:=nfs;rhost:=srv;rfs:=/x";
    for (entry, column) in
        [(format!("a || {nfs}"), 3), (format!("a {nfs} ||"), 32), (format!("a {nfs} || || {nfs}"), 32)]
    {
        let found = amd(&entry);
        assert!(
            found.iter().any(|line| line.starts_with(&format!("/etc/vl.map:1:{column} amd::cut"))),
            "{entry}: {found:?}"
        );
    }
    assert_eq!(amd(&format!("a {nfs} || {nfs}")), [""; 0]);
}
