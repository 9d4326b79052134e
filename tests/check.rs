//! `autofsctl check`: what it points out in maps, and that it says nothing about maps that work.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]
#![allow(clippy::disallowed_methods, reason = "no automounts where the test writes its files")]

#[path = "check/kinds.rs"]
mod kinds;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Writes `files`, paths below `/etc` in a directory of their own, and checks the master map in it. Returns a line for
/// each finding: `FILE:LINE:COLUMN code: message: help`, without the directory.
fn check(files: &[(&str, &str)]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name.strip_prefix("/etc/").unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text.replace("/etc/", &format!("{root}/"))).unwrap();
        let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    found_in(&dir.path().join("auto.master"))
        .into_iter()
        .map(|line| line.replace(&format!("{root}/"), "/etc/"))
        .collect()
}

fn found_in(file: &Path) -> Vec<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_autofsctl")).args(["--json", "check"]).arg(file).output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let show = |d: &Value| {
        let text = |name: &str| d[name].as_str().unwrap_or_default().to_owned();
        let place = match d["line"].as_u64() {
            Some(line) => format!("{}:{line}:{}", text("file"), d["column"]),
            None => text("file"),
        };
        format!("{place} {}: {}: {}", text("code"), text("message"), text("help"))
    };
    answer["diagnostics"].as_array().unwrap().iter().map(show).collect()
}

/// Checks a map of one line at `/mnt/vl`: there is one finding, it is at `column`, and contains `words`.
#[track_caller]
fn one(entry: &str, column: u32, words: &[&str]) {
    let master = "/mnt/vl file:/etc/vl.map\n";
    let found = check(&[("/etc/auto.master", master), ("/etc/vl.map", &format!("{entry}\n"))]);
    let [line] = found.as_slice() else { panic!("{entry}: {found:#?}") };
    assert!(line.starts_with(&format!("/etc/vl.map:1:{column} ")), "{entry}: {line}");
    for word in words {
        assert!(line.contains(word), "{entry}: {word} is missing in {line}");
    }
}

#[test]
fn options_are_known_and_have_their_values() {
    one("a -fstpye=nfs4,ro srv1:/x", 4, &["fstpye", "did you mean -fstype=nfs4"]);
    one("a --fstype=nfs4 srv1:/x", 3, &["two dashes", "-fstype=nfs4"]);
    one("a -type=nfs4 srv1:/x", 4, &["did you mean -fstype=nfs4"]);
    one("a -fstype=NFS4 srv1:/x", 4, &["lower case: -fstype=nfs4"]);
    one("a -fstype=nsf srv1:/x", 4, &["/sbin/mount.nsf", "did you mean -fstype=nfs?"]);
    one("a -fstype=curl :ftp\\://h", 4, &["neither the kernel nor /sbin/mount.curl"]);
    one("a -fstype=smbfs ://srv1/d", 4, &["write -fstype=cifs"]);
    one("a -rw,sfot srv1:/x", 7, &["did you mean soft?"]);
    one("a -rw,RO srv1:/x", 7, &["lower case: ro"]);
    one("a -rw,timeo srv1:/x", 7, &["timeo without a value", "timeo=NUMBER"]);
    one("a -rw,timeo=-1 srv1:/x", 7, &["timeo=-1 is negative", "timeo=NUMBER"]);
    one("a -fstype=nfs4,retrans=-2 srv1:/x", 16, &["retrans=-2 is negative", "retrans=NUMBER"]);
    one("a -ro=1 srv1:/x", 4, &["ro takes no value"]);
    one("a -rsize=8k srv1:/x", 4, &["write rsize=8192"]);
    one("a -vers=5 srv1:/x", 4, &["write one of 2, 3"]);
    one("a -proto=tpc srv1:/x", 4, &["did you mean proto=tcp?"]);
    one("a -fstype=tmpfs,size=10x :tmpfs", 17, &["is no size"]);
    one("a -fstype=nfs4,vers=3 srv1:/x", 16, &["contradict", "-fstype=nfs,vers=3"]);
    one("a -fstype=nfs,fstype=nfs4 srv1:/x", 15, &["fstype stands here twice"]);
    one("a -udp,vers=4 srv1:/x", 4, &["not spoken over UDP", "vers=3"]);
    one("a -fstype=nfs4,proto=udp srv1:/x", 16, &["not spoken over UDP"]);
    one("a -fstype=iso9660,loop :/nonexistent.iso", 3, &["there is no file /nonexistent.iso"]);
    one("a -ro,rw srv1:/x", 7, &["contradict", "remove ro"]);
    one("a -ro;soft srv1:/x", 4, &["write ro,soft"]);
    one("a -fstype:nfs srv1:/x", 4, &["write fstype=nfs"]);
    one("a -fstype=cifs,credentials=~/.cred ://srv1/x", 16, &["no shell", "credentials=/PATH"]);
    one("a -fstype=cifs,credentials=/nonexistent/cred ://srv1/x", 3, &["there is no file /nonexistent/cred"]);
    one("a -ro,-soft srv1:/x", 7, &["a dash inside of the list", "write soft"]);
}

/// The output of `check` ends up in logs of CI systems.
#[test]
fn passwords_are_masked() {
    let dir = tempfile::tempdir().unwrap();
    let map = dir.path().join("auto.x");
    let text = "a -fstpe=cifs,password=GEHEIM ://h/s\nb password=GEHEIM h:/x\nc -fstype=sshfs joe:GEHEIM@host /x\n";
    fs::write(&map, text).unwrap();
    for form in [&["check"][..], &["--json", "check"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_autofsctl")).args(form).arg(&map).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("password=***") && said.contains("options::unknown"), "{said}");
        assert!(!said.contains("GEHEIM"), "{said}");
    }
}

#[test]
fn words_in_the_place_of_a_location_each_have_their_message() {
    one("a rw,soft srv1:/x", 3, &["options begin with a dash: -rw,soft"]);
    one("a -rw, soft srv1:/x", 8, &["a blank in a list of options", "-rw,soft"]);
    one("a fstype=tmpfs tmpfs", 3, &["options begin with a dash: -fstype=tmpfs"]);
    one("a srv1, srv2:/x", 3, &["a blank in a list of hosts", "srv1,srv2:/x"]);
    one("a p1 srv1:/e1 p2 srv1:/e2", 3, &["p1 has no host", "begin with a slash: /p1"]);
    one("my project :/srv/my project", 4, &["quote the key: \"KEY project\""]);
    one("my project :/srv/my", 4, &["write /project; or,", "quote the key: \"KEY project\""]);
    one("a / :/srv/g src :/srv/g-src", 13, &["src has no host", "/src"]);
    one("a srv1:/my docs srv2:/x", 12, &["a blank in the path", "\"srv1:/my docs\""]);
    one("a = srv1:/x", 3, &["separates nothing"]);
    one("a –ro srv1:/x", 3, &["a typographic dash", "write -"]);
    one("a srv1 /x", 8, &["in place of the colon", "srv1:/x"]);
    one("a srv1/x", 3, &["write srv1:/x"]);
    one("a -fstype=ext4 /dev/sdb1", 16, &["write :/dev/sdb1"]);
    one("a -fstype=cifs,guest //srv1/video", 22, &["write ://srv1/video"]);
    one("a -o rw,soft srv1:/x", 6, &["-o is an option of mount(8)", "-rw,soft"]);
    one("a -t nfs srv1:/x", 6, &["-t is an option of mount(8)", "-fstype=nfs"]);
    one("a -fstype= nfs srv1:/x", 12, &["a blank after the =", "-fstype=nfs"]);
    one("a -rw \\ \n srv1:/x", 1, &["a blank follows the backslash"]);
    one("a srv1:/x ro,soft", 11, &["options behind the location", "-ro,soft srv1:/x"]);
}

#[test]
fn locations_have_the_form_of_their_type() {
    one("a -fstype=nfs ://srv1/s", 15, &["-fstype=cifs ://srv1/s"]);
    one("a -fstype=cifs srv1:/s", 16, &["write ://srv1/s"]);
    one("a -fstype=cifs :\\\\srv1\\share", 16, &["write ://srv1/share"]);
    one("a nfs://srv1/x", 3, &["a URL", "write srv1:/x"]);
    one("a -fstype=cifs :C:/share", 16, &["a drive of Windows", "://HOST/SHARE"]);
    one("a srv1(x):/x srv2(2):/x", 7, &["(x) is no weight"]);
    one("a srv1::/x", 7, &["two colons", "srv1:/x"]);
    one("a -fstype=davfs,ro :https://srv1:3333/Folder", 33, &["becomes a slash", "write \\:"]);
    one("a -fstype=cifs ://[fd00::99]/s", 24, &["write \\:"]);
    one("a srv1:/my docs", 11, &["a blank in the path", "write \"srv1:/my docs\""]);
    one("a -fstype=cifs “://srv1/share”", 16, &["a typographic quotation mark", "write \""]);
}

#[test]
fn keys_variables_and_quotes() {
    one("-fstype=nfs4,rw srv1:/&", 1, &["looks like options", "begins with its key, or with *"]);
    one("$USER srv1:/home/$USER", 1, &["variables are not replaced in keys"]);
    one("foo* srv1:/x", 4, &["no pattern"]);
    one("* srv1:/home/*", 14, &["the *", "write & for the key"]);
    one("srv1:/x /mnt/a nfs rw 0 0", 1, &["fstab(5)", "write a -fstype=nfs,rw srv1:/x"]);
    one("//srv1/x /mnt/a cifs defaults 0 0", 1, &["fstab(5)", "write a -fstype=cifs ://srv1/x"]);
    one("home: srv1:/x", 5, &["write home and a blank"]);
    one("a srv1:/$USRE", 9, &["did you mean $USER?"]);
    one("* -fstype=cifs \"://srv1/& home\"", 25, &["nothing is replaced between quotes", "write ://srv1/&\\ home"]);
    one("a -fstype=cifs,username=u,password=x&y ://srv1/s", 37, &["write \\&"]);
    one("a srv1:/`hostname`", 9, &["no shell"]);
}

#[test]
fn characters_that_mean_nothing_in_maps() {
    one("a srv1:/x;", 10, &["part of the path", "write srv1:/x"]);
    one("a srv1:/x srv1:/x", 11, &["a second time"]);
    one("a|b srv1:/x", 1, &["no pattern"]);
    one("[ab] srv1:/x", 1, &["no pattern"]);
    one("a? srv1:/x", 1, &["no pattern"]);
    one("'a' srv1:/x", 1, &["write \"a\""]);
    one("a=srv1:/x", 1, &["write a srv1:/x"]);
    one("a 10.0.0.256:/x", 3, &["is no address"]);
    one("a fe80::1:/x", 3, &["write [fe80::1]:/x"]);
    one("a nfs4:srv1:/x", 3, &["write -fstype=nfs4 srv1:/x"]);
    one("a NFS://srv1/x", 3, &["a URL", "write srv1:/x"]);
    one("a -fstype=cifs ://srv1", 16, &["write ://srv1/SHARE"]);
    one("a -fstype=cifs,vers=3.5 ://srv1/s", 16, &["vers=3.5 is not known"]);
    one("a -fstype=cifs,file_mode=0999 ://srv1/s", 16, &["no octal number"]);
    one("a -fstype=cifs,credentials=cred.txt ://srv1/s", 16, &["write the whole path"]);
    one("a -port=99999 srv1:/x", 4, &["no port"]);
    one("a -fstype=ext4 :sda1", 16, &["write :/dev/sda1"]);
    one("#include /etc/auto.other\na srv1:/x", 1, &["write +/etc/auto.other"]);
}

#[test]
fn several_lines_and_files() {
    let master = "/mnt/vl file:/etc/vl.map\n/- file:/etc/d.map\n+dir:/etc/auto.master.d\n";
    let found = check(&[
        ("/etc/auto.master", master),
        (
            "/etc/vl.map",
            "* srv1:/a/&\n* srv1:/b/&\npath srv1:/1\npath srv1:/2\nk -ro \\\n    p1 srv1:/e1 \\\n    p2 srv1:/e2\nz srv1:/z \\\n",
        ),
        ("/etc/d.map", "/mnt/vl/a srv1:/x\r\n/tools srv1:/t\n/tools/ srv1:/u\n"),
        ("/etc/auto.master.d/extra.conf", "/x /etc/x\n"),
        ("/etc/auto.master.d/old.autofs~", "/x /etc/x\n"),
    ]);
    let expected = [
        "/etc/auto.master.d/extra.conf master::ignored-file",
        "/etc/vl.map:2:1 map::shadowed",
        "/etc/vl.map:4:1 map::shadowed",
        "/etc/vl.map:6:5 sun::part",
        "/etc/vl.map:8:11 text::backslash",
        "/etc/d.map:1:1 map::hides",
        "/etc/d.map:1:18 text::crlf",
        "/etc/d.map:3:1 map::shadowed",
    ];
    let short: Vec<String> = found.iter().map(|line| line.split(": ").next().unwrap().to_owned()).collect();
    assert_eq!(short, expected, "{found:#?}");
}

#[test]
fn lines_of_a_master_map() {
    let lines = [
        ("/a file:/etc/a.map -O noatime", "master::option: -O is an option of the command line"),
        ("/a -ro file:/etc/a.map", "options stand after the map: file:/etc/a.map -ro"),
        ("/a flie:/etc/a.map", "did you mean file:?"),
        ("/a file:/etc/a.map --timout=60", "did you mean --timeout=60?"),
        ("/a file:/etc/a.map ghost", "write --ghost"),
        ("/a file:/etc/a.map browse=yes", "browse takes no value"),
        ("/my stuff /etc/a.map", "a blank in the mount point or the map is written"),
        ("/net hosts", "did you mean -hosts?"),
        ("/a file:/etc/a.map browse --ghost nobrowse", "browse and nobrowse contradict each other"),
        ("/a/* file:/etc/a.map", "write /a;"),
        ("/-- file:/etc/a.map", "did you mean /-"),
        ("/proc/a file:/etc/a.map", "cannot be made"),
        ("dir:/etc/auto.master.d", "write +dir:/etc/auto.master.d"),
        ("include /etc/auto.other", "write + and the name of the map"),
        ("+dir=/etc/auto.master.d", "did you mean +dir:/PATH"),
        ("/a:/etc/a.map", "write /a /etc/a.map"),
        ("* srv1:/x", "this looks like a line of a map"),
        ("/net null", "did you mean -null?"),
        ("+dir /etc/auto.master.d", "did you mean +dir:/PATH, with a colon and without a blank?"),
        ("/etc/a.map file:/etc/a.map", "/etc/a.map is there and is no directory"),
        ("/a program:/etc/bad.sh", "there is no program /nonexistent/sh to run the map"),
        ("/etc/a.map /etc/missing", "map::unusable: file map /etc/missing missing or not readable: a line begins with"),
        ("/a srv1:/export", "a location stands in a map, behind its key"),
        ("srv1:/export /mnt/a nfs rw 0 0", "the location stands in that map, behind its key"),
        ("/a prog:/etc/run.sh", "did you mean program:?"),
        ("/a multi /etc/a.map /etc/b.map", "several maps are written multi MAP -- MAP"),
        ("/usr file:/etc/a.map", "master::covers: /usr is a directory of the system"),
        ("/a file:/etc/a.map nobrwose", "did you mean nobrowse?"),
        ("/a file:/etc/a.map -sfot,ro", "options::unknown: unknown option \"sfot\": did you mean soft?"),
        ("/a file:/etc/a.map –timeout=60", "write --timeout=60"),
        ("\u{feff}/a file:/etc/a.map", "a byte order mark"),
        ("/a file:/etc/a.map\n/a/b file:/etc/a.map", "2:1 map::hides: /a/b hides the key \"b\" of /a"),
        ("/a program:/etc/a.map\n/b file:/etc/run.sh", "write program:/etc/run.sh"),
    ];
    for (line, expected) in lines {
        let found = check(&[
            ("/etc/auto.master", &format!("{line}\n")),
            ("/etc/a.map", "a srv1:/x\n"),
            ("/etc/run.sh", "#!/bin/sh\necho srv1:/x\n"),
            ("/etc/bad.sh", "#!/nonexistent/sh\necho srv1:/x\n"),
        ]);
        assert!(found.iter().any(|found| found.contains(expected)), "{line}: {found:#?}");
    }
    let files = [("/etc/auto.master", "/mnt/vl file:/etc/vl.map\n"), ("/etc/vl.map", "\\* srv1:/x\n* srv1:/y\n")];
    assert_eq!(check(&files), [""; 0], "the first key is no wildcard");
    let found = check(&[("/etc/auto.master", "/a ldap:auto.a\n")]);
    assert!(!found.iter().any(|line| line.contains("unknown map type")), "{found:#?}");
}

/// Checks one file of configuration. Returns `LINE:COLUMN code: message: help` for each finding.
fn configuration(name: &str, text: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let found = found_in(&file).into_iter();
    let found = found.filter(|line| !line.contains("login::permissions"));
    found.map(|line| line.split_once(&format!("{name}:")).unwrap().1.to_owned()).collect()
}

#[test]
fn lines_of_nsswitch_conf() {
    for (text, expected) in [
        ("automount: file ldap", "1:12 nsswitch::service"),
        ("automount: files ladp", "did you mean ldap?"),
        ("automount: file ldap", "did you mean files?"),
        ("automount: files sssd", "did you mean sss?"),
        ("automount: LDAP files", "did you mean ldap?"),
        ("automount: files,sss", "write blanks between the services: files sss"),
        ("passwd: files\nautomout: files", "2:1 nsswitch::keyword"),
        ("automount files sss", "1:1 nsswitch::keyword"),
        (" automount: sss", "1:2 nsswitch::keyword"),
        ("autofs: files", "write automount: and the services"),
    ] {
        let found = configuration("nsswitch.conf", &format!("{text}\n"));
        assert!(found.iter().any(|line| line.contains(expected)), "{text}: {found:#?}");
    }
    let text = "# automount files\npasswd: files\nnetgroup: nis\nautomount: sss files\n";
    assert_eq!(configuration("nsswitch.conf", text), [""; 0]);
}

#[test]
fn logins_of_ldap_servers() {
    for (attributes, expected) in [
        ("usetls=\"yess\"", "1:24 login::syntax: invalid usetls \"yess\": expected yes or no"),
        ("usetls=\"no\"\n authrequired=\"yes\" authtype=\"PLAINX\" user=\"u\" secret=\"GEHEIM\"", "2:21 login::syntax"),
        ("authrequired=\"yes\" authtype=\"PLAINX\" user=\"u\" secret=\"GEHEIM\"", "did you mean PLAIN?"),
        ("authrequired=\"yes\" authtype=\"PLAIN\" user=\"u\"", "PLAIN needs the attributes user and secret"),
        ("usetls=no", "a value is not in quotes"),
        ("secret=\"GEHEIM&x\"", "write & as &amp;"),
        ("use_tls=\"no\"", "1:24 login::attribute: unknown attribute \"use_tls\" is ignored: did you mean usetls?"),
        ("authtype=\"EXTERNAL\"", "login::unused: authtype is ignored without authrequired"),
    ] {
        let found = configuration("autofs_ldap_auth.conf", &format!("<autofs_ldap_sasl_conf {attributes} />\n"));
        assert!(found.iter().any(|line| line.contains(expected)), "{attributes}: {found:#?}");
        assert!(!found.concat().contains("GEHEIM"), "{attributes}: {found:#?}");
    }
    let works = "<?xml version=\"1.0\" ?>\n<!-- a comment -->\n<autofs_ldap_sasl_conf\n\tusetls=\"no\"\n\t\
                 tlsrequired=\"no\"\n\tauthrequired=\"no\"\n/>\n";
    assert_eq!(configuration("autofs_ldap_auth.conf", works), [""; 0]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("autofs_ldap_auth.conf");
    fs::write(&file, works).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let found = found_in(&file);
    assert!(found.concat().contains("login::permissions: the file is not used"), "{found:#?}");
}

#[test]
fn types_and_options_of_other_formats() {
    let toml = "[entries]\na = { source = \"srv1:/x\", type = \"nsf\" }\n\
                b = { source = \"srv1:/x\", options = [\"rw\", \"sfot\"] }\nc = { source = \"srv1:/x\", options = [\"soft\"] }\n";
    let amd = "a type:=nfs;rhost:=h;rfs:=/x;opts:=rw,sfot\nb type:=nfs;rhost:=h;rfs:=/x;opts:=rw,soft\n";
    for (format, text, expected) in [
        ("toml", toml, &["did you mean the type nfs?", "did you mean soft?"][..]),
        ("amd", amd, &["did you mean soft?"]),
    ] {
        let master = format!("/mnt/vl file,{format}:/etc/vl.map\n");
        let found = check(&[("/etc/auto.master", &master), ("/etc/vl.map", text)]);
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (line, expected) in found.iter().zip(expected) {
            assert!(line.contains(expected), "{line}");
        }
    }
}

/// What the vectors and the example maps have on purpose that a check warns of.
fn on_purpose(id: &str) -> &'static [&'static str] {
    match id {
        "f01-typographic-dash" => &["master::dash"],
        "f02-nfs-paths" => &["location::colon", "location::blank"],
        "f05-two-backslashes" | "s31-slashify" => &["location::colon"],
        "f07-blank-in-nfs-path" => &["location::blank"],
        "m21-null-after" | "m22-duplicate-indirect" => &["master::no-effect"],
        "m27-include-dir" => &["master::ignored-file"],
        "m29-include-missing" => &["master::include"],
        "m44-direct-in-indirect-map" => &["map::key"],
        "m56-double-dash-unknown" => &["master::unknown-option"],
        "s06-var-undefined" => &["sun::unknown-variable"],
        "s10-var-in-quotes" | "cifs" => &["sun::quoted"],
        "s39-prefix-quirk" => &["options::unknown"],
        "s40-dup-key-first" => &["map::shadowed"],
        "s62-opt-order-conflict" => &["options::contradiction"],
        "t01-crlf" => &["text::crlf"],
        "u02-unterminated-brace" => &["sun::variable"],
        "macros" => &["sun::unknown-variable", "sun::quoted", "sun::variable", "location::colon"],
        "mistakes" => &["options::value"],
        "multi-mounts" => &["sun::duplicate"],
        "w02-quoted-options" => &["master::option"],
        "w03-option-separators" => &["master::option", "options::separator"],
        "w04-define-nothing" => &["master::define", "master::value", "sun::unknown-variable"],
        _ => &[],
    }
}

/// Checks a master map that works, and shows every warning that is not on purpose.
fn unexpected(id: &str, files: &BTreeMap<String, String>, wrong: &mut Vec<String>) {
    let files: Vec<(&str, &str)> =
        files.iter().filter(|(name, _)| name.starts_with("/etc/")).map(|(n, t)| (n.as_str(), t.as_str())).collect();
    let found = check(&files);
    for line in found {
        // Errors are told by the readers, and have tests of their own; a machine need not have the directories, and where
        // files are moved to, maps are not found by their names.
        let code = line.split_whitespace().nth(1).unwrap_or_default().trim_end_matches(':');
        let elsewhere = ["plan::no-source", "source::include"].contains(&code) || line.contains("inc.master");
        let lint = ["options::", "location::", "key::", "text::", "file::", "map::", "sun::", "master::", "direct::"];
        let is_error =
            ["map::unusable", "sun::location", "sun::options", "sun::offset", "sun::empty", "master::mount-point"];
        let is_warning = lint.iter().any(|area| code.starts_with(area)) && !is_error.contains(&code);
        if is_warning && !elsewhere && !on_purpose(id).contains(&code) {
            wrong.push(format!("{id}: {line}"));
        }
    }
}

#[test]
fn maps_that_work_give_no_warning() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    let mut count = 0;
    let text = |value: &toml::Value| -> BTreeMap<String, String> {
        let files = value.get("files").and_then(toml::Value::as_table).into_iter().flatten();
        files.map(|(name, text)| (name.clone(), text.as_str().unwrap().to_owned())).collect()
    };
    for file in fs::read_dir(root.join("tests/compliance/vectors")).unwrap() {
        let all: toml::Table = toml::from_str(&fs::read_to_string(file.unwrap().path()).unwrap()).unwrap();
        let shared = text(&toml::Value::Table(all.clone()));
        for vector in all["vector"].as_array().unwrap() {
            let Some(master) = vector.get("master").and_then(toml::Value::as_array) else { continue };
            let lines: Vec<&str> = master.iter().map(|line| line.as_str().unwrap()).collect();
            let mut files = shared.clone();
            files.extend(text(vector));
            files.insert("/etc/auto.master".to_owned(), lines.join("\n") + "\n");
            unexpected(vector["id"].as_str().unwrap(), &files, &mut wrong);
            count += 1;
        }
    }
    for directory in fs::read_dir(root.join("maps/corpus")).unwrap().map(|entry| entry.unwrap().path()) {
        if !directory.is_dir() {
            continue;
        }
        let files = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).map(|path| {
            (format!("/etc/{}", path.file_name().unwrap().to_str().unwrap()), fs::read_to_string(&path).unwrap())
        });
        unexpected(directory.file_name().unwrap().to_str().unwrap(), &files.collect(), &mut wrong);
        count += 1;
    }
    assert!(count > 150, "only {count} master maps were found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn all_locations_of_am_utils_entries_are_looked_at() {
    let map = "/defaults type:=nfs;opts:=rw\nok rhost:=srv1;rfs:=/x || host==no;type:=link;fs:=/proc\n\
               one host==no;rhots:=a\ntwo host==no;type:=lnik || fs:=/y\nsub/* type:=ext4\n* rhost:=srv1;rfs:=/h/${key}\n";
    let found = check(&[("/etc/auto.master", "/mnt/vl file,amd:/etc/vl.map\n"), ("/etc/vl.map", map)]);
    let starts = [
        "/etc/vl.map:3:14 amd::option: unknown option \"rhots\": did you mean rhost?",
        "/etc/vl.map:4:5 amd::type: unknown type \"lnik\": did you mean link?",
        "/etc/vl.map:5:7 amd::device: a file system without a device: write dev:=/dev/NAME",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (line, start) in found.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
    let shipped = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("maps/amd.home")).unwrap();
    let found = check(&[("/etc/auto.master", "/home file,amd:/etc/amd.home\n"), ("/etc/amd.home", &shipped)]);
    assert_eq!(found, [""; 0]);
}

/// Checks one file with this name. Returns a line for each finding: `LINE:COLUMN code: message: help`.
fn alone(name: &str, text: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let shown = format!("{}:", file.display());
    found_in(&file).into_iter().map(|line| line.replacen(&shown, "", 1)).collect()
}

/// There is one finding in a file, it is at `place`, and contains `words`; without the mistake there is none.
#[track_caller]
fn one_in(name: &str, text: &str, place: &str, words: &[&str], right: &str) {
    let found = alone(name, text);
    let [line] = found.as_slice() else { panic!("{text}: {found:#?}") };
    assert!(line.starts_with(&format!("{place} ")), "{text}: {line}");
    for word in words {
        assert!(line.contains(word), "{text}: {word} is missing in {line}");
    }
    assert_eq!(alone(name, right), [""; 0], "{right}");
}

#[test]
fn settings_that_are_valid_and_have_another_effect() {
    let conf = |text: &str, place: &str, words: &[&str], right: &str| one_in("autofs.conf", text, place, words, right);
    conf("timeout = 300\nTIMEOUT=600\n", "2:1", &["a second time", "line 1"], "timeout = 300\n[ amd ]\narch = x\n");
    conf(
        "ldap_uri = ldap.example.org\n",
        "1:12",
        &["write ldap://ldap.example.org"],
        "ldap_uri = ldap://a\nldap_uri = ldap://b\n",
    );
    conf("ldap_uri = ldpa://a\n", "1:12", &["did you mean ldap://a?"], "ldap_uri = ldaps://a:636 ldapi:///\n");
    conf("ldap_uri = ldap://a,ldap://b\n", "1:12", &["a comma separates no servers"], "ldap_uri = ldap:///dc=a,dc=b\n");
    conf("ldap_uri = ldap://a:port\n", "1:12", &["\"port\" is no port"], "ldap_uri = ldap://[fd00::1]:389\n");
    conf("search_base = example.org\n", "1:15", &["write dc=example,dc=org"], "search_base = dc=example,dc=org\n");
    conf("map_attribute = ou\n", "1:1", &["belong together", "value_attribute"], "#map_attribute = ou\n");
    conf("auth_conf_file = auth.conf\n", "1:18", &["write the whole path"], "auth_conf_file = /etc/passwd\n");
    conf("\u{feff}timeout = 300\n", "1:1", &["byte order mark"], "timeout = 300\n");
    conf("[ amd ]\nsearch_path = /etc,/usr\n", "2:15", &["write /etc:/usr"], "[ amd ]\nsearch_path = /etc:/usr\n");
    conf("[ amd ]\nlog_options = warnn\n", "2:15", &["did you mean warn?"], "[ amd ]\nlog_options = all,nouser\n");
    conf("[ amd ]\ntimeout = 5\n", "2:1", &["belongs in the section [ autofs ]"], "timeout = 5\n");
    conf("auto_dir = /x\n", "1:1", &["belongs in the section [ amd ]"], "[ amd ]\nauto_dir = /x\n");
    let toml = |text: &str, place: &str, words: &[&str], right: &str| one_in("autofs.toml", text, place, words, right);
    toml("[deadlines]\nmount = 500\n", "2:9", &["ends after 180 seconds"], "[deadlines]\nmount = 500\nrequest = 600\n");
    toml(
        "[security]\nmandatory_options = { nis = \"nosiud\" }\n",
        "2:29",
        &["did you mean nosuid?"],
        "[security]\nmandatory_options = { nis = \"nosuid\" }\n",
    );
    toml(
        "[security]\nallowed_types = { ldap = [\"nsf\"] }\n",
        "2:27",
        &["did you mean \"nfs\"?"],
        "[security]\nallowed_types = { ldap = [\"nfs*\", \"fuse.x\"] }\n",
    );
    toml("[helpers]\nenvironment = [\"A=b\"]\n", "2:16", &["write \"A\""], "[helpers]\nenvironment = [\"A\"]\n");
    toml("[log]\nformat = json\n", "2:10", &["write \"json\""], "[log]\nformat = \"json\"\n");
    let auth = |text: &str, place: &str, words: &[&str]| {
        let right = "<autofs_ldap_sasl_conf authrequired=\"simple\" user=\"u\" secret=\"a&lt;b\" />\n";
        one_in("autofs_ldap_auth.conf", text, place, words, right);
    };
    let start = "<autofs_ldap_sasl_conf usetls=\"no\"";
    auth(&format!("{start}>\n"), "1:35", &["is not closed"]);
    auth(&format!("{start} usetls=\"no\"/>\n"), "1:24", &["stands here twice"]);
    auth(&format!("{start}/>\n{start}/>\n"), "2:1", &["a second element"]);
    auth(&format!("{start} secret=\"a<b\"/>\n"), "1:45", &["write &lt;"]);
    auth(&format!("{start} tlsrequired=\"yes\"/>\n"), "1:36", &["tlsrequired without usetls"]);
    auth(&format!("{start} external_cert=\"/nonexistent/c\"/>\n"), "1:36", &["there is no file /nonexistent/c"]);
    one_in("nsswitch.conf", "automount: files sss sss\n", "1:22", &["twice"], "automount: files sss\n");
}

#[test]
fn maps_in_toml_and_lines_of_fstab() {
    let toml = |text: &str, place: &str, words: &[&str], right: &str| one_in("home.toml", text, place, words, right);
    toml("[entries]\n* = \"srv1:/x\"\n", "2:1", &["write \"*\" with quotes"], "[entries]\n\"*\" = \"srv1:/&\"\n");
    toml("[entries]\n/a = \"srv1:/x\"\n", "2:1", &["write \"/a\" with quotes"], "[entries]\n\"/a\" = \"srv1:/x\"\n");
    toml("[entries]\na = srv1:/x\n", "2:5", &["write \"srv1:/x\""], "[entries]\na = \"srv1:/x\"\n");
    toml("[entry]\na = \"srv1:/x\"\n", "1:2", &["did you mean entries?"], "[entries]\na = \"srv1:/x\"\n");
    toml("a = \"srv1:/x\"\n", "1:1", &["write [entries]"], "[entries]\na = \"srv1:/x\"\n");
    toml(
        "[entries]\na = { location = \"srv1:/x\" }\n",
        "2:7",
        &["did you mean source?"],
        "[entries]\na = { source = \"srv1:/x\" }\n",
    );
    toml("[entries]\na = \"srv1:/$USRE\"\n", "2:1", &["did you mean $USER?"], "[entries]\na = \"srv1:/$USER\"\n");
    toml("[entries]\n\"*\" = \"srv1:/*\"\n", "2:1", &["write & for the key"], "[entries]\n\"x*\" = \"srv1:/&\"\n");
    let fstab = |text: &str, place: &str, words: &[&str]| {
        let right = "srv1:/x /mnt/a nfs noauto,x-autofs.automount,x-systemd.idle-timeout=60 0 0\n\
                     srv1:/y /mnt/b nfs noauto,x-systemd.requires=/x 0 0 # automount\n";
        one_in("fstab", text, place, words, right);
    };
    fstab("srv1:/x /mnt/a nfs x-systemd.auto-mount 0 0\n", "1:20", &["did you mean x-systemd.automount?"]);
    fstab("srv1:/x /mnt/a nfs ro,X-autofs.autmount 0 0\n", "1:23", &["did you mean x-autofs.automount?"]);
    fstab("srv1:/x /mnt/a nfs comment=systemd.automount\n", "1:20", &["did you mean x-systemd.automount?"]);
    fstab("srv1:/x /mnt/a nfs rw, x-autofs.automount 0 0\n", "1:24", &["a blank in a list of options"]);
    fstab("srv1:/x /mnt/a b nfs x-autofs.automount 0 0\n", "1:22", &["written \\040"]);
    fstab("a:/x /m nfs x-autofs.automount\na:/y /m nfs x-autofs.automount\n", "2:13", &["line 1 comes first"]);
    fstab("tmpfs /mnt/a tmpfs size=10x,x-autofs.automount\n", "1:7", &["size=10x is no size"]);
    let found = check(&[("/etc/auto.master", "/- file,fstab:/etc/fstab\n"), ("/etc/fstab", "a:/x /m nfs rw 0 0\n")]);
    assert!(matches!(&*found, [line] if line.contains("fstab::none")), "{found:?}");
}

/// Checks a map of one line in the format of am-utils: there is one finding, at `column`, and it contains `words`.
#[track_caller]
fn one_of_amd(entry: &str, column: u32, words: &[&str]) {
    let master = "/mnt/vl file,amd:/etc/vl.map\n";
    let found = check(&[("/etc/auto.master", master), ("/etc/vl.map", &format!("{entry}\n"))]);
    let [line] = found.as_slice() else { panic!("{entry}: {found:#?}") };
    let number = entry.split('\n').count();
    assert!(line.starts_with(&format!("/etc/vl.map:{number}:{column} ")), "{entry}: {line}");
    for word in words {
        assert!(line.contains(word), "{entry}: {word} is missing in {line}");
    }
}

#[test]
fn entries_of_am_utils() {
    one_of_amd("a rhost:=h;rfs:=/x\na rhost:=h;rfs:=/y", 1, &["never used", "line 1 comes first"]);
    one_of_amd("a os!==linux;rhost:=h;rfs:=/x", 7, &["write os!=linux"]);
    one_of_amd("a os==linx;rhost:=h;rfs:=/x", 7, &["did you mean os==linux?"]);
    one_of_amd("* rhost:=h;rfs:=/${KEY}", 20, &["did you mean ${key}?"]);
    one_of_amd("* rhost:=h;rfs:=/$key", 18, &["write ${key}"]);
    one_of_amd("* rhost:=h;rfs:=/${key", 18, &["write ${NAME}"]);
    one_of_amd("* rhost:=h;rfs:=/&", 17, &["write ${key} for the key"]);
    one_of_amd("a rhost:=h;rfs:=/x\ndefaults rhost:=h;rfs:=/y", 1, &["did you mean /defaults?"]);
    one_of_amd("a* rhost:=h;rfs:=/x", 1, &["no pattern"]);
    one_of_amd("a rhost:=h;rhost:=i;rfs:=/x", 19, &["a second time"]);
    one_of_amd("a type:=nfs rhost:=h rfs:=/x", 12, &["write ; between"]);
    one_of_amd("a rhost:=h;rfs:=/x;opts:=\"ro, soft\"", 26, &["write ro,soft"]);
    one_of_amd("a type:=ext4;dev:=sda1", 19, &["write dev:=/dev/sda1"]);
    one_of_amd("a type:=program;mount:=\"/bin/mount mount /x\"", 24, &["none that unmounts"]);
}

#[test]
fn a_large_map_is_read() {
    let text: String = (0..40_000).map(|n| format!("k{n} srv1:/export/home/k{n}\n")).collect();
    assert!(text.len() > 1 << 20);
    let found = alone("auto.home", &(text + "last\n"));
    assert!(matches!(&*found, [line] if line.starts_with("40001:1 line::no-entry")), "{found:?}");
}
