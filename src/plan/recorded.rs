//! Mounts of automount 5.1.9 for entries of all kinds, recorded, compared with our plans.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Context, Dice, Host, build, hosts};
use crate::map::{Macros, MasterOptions, OptionList, Propagation, Scope, System, User, expand, sun};
use crate::text::{Diagnostic, Position};

/// Path and options with which a map is mounted.
struct World {
    master: MasterOptions,
    global: &'static str,
    append_options: bool,
    direct: bool,
    hosts_map: bool,
    dice: Dice,
}

fn world(mount_options: &str) -> World {
    let master = MasterOptions { mount_options: mount_options.into(), ..MasterOptions::default() };
    World { master, global: "", append_options: true, direct: false, hosts_map: false, dice: Dice::default() }
}

fn facts(name: &[u8]) -> Host {
    match name {
        b"selfhost" => Host::Local { serves: false },
        b"server" => Host::Local { serves: true },
        b"nosuchhost" => Host::Unknown,
        _ => Host::Remote,
    }
}

impl World {
    /// The plan for the entry `text` of `key`, and what was said about it.
    fn plan(&self, key: &str, text: &str) -> (Result<String, Diagnostic>, Vec<Diagnostic>) {
        let globals = Macros::predefined(&System {
            sysname: b"Linux".to_vec(),
            nodename: b"testhost.example.org".to_vec(),
            machine: b"x86_64".to_vec(),
            ..System::default()
        });
        let nobody = User {
            uid: 65534,
            gid: 65534,
            name: Some(b"nobody".to_vec()),
            group: Some(b"nogroup".to_vec()),
            home: Some(b"/nonexistent".to_vec()),
        };
        let scope = Scope { globals: &globals, defines: &self.master.defines, user: Some(&nobody) };
        let slashify = self.master.slashify_colons.unwrap_or(true);
        let text = expand(text.as_bytes(), key.as_bytes(), &|name| scope.lookup(name), slashify);
        let place = Position::new(&Path::new("/etc/vl.map").into(), 1, 3);
        let at = if self.direct { Path::new(key).to_path_buf() } else { Path::new("/mnt/vl").join(key) };
        let ctx = Context {
            at: &at,
            direct: self.direct,
            master: &self.master,
            global: &OptionList::parse(self.global.as_bytes()),
            append_options: self.append_options,
            hosts_map: self.hosts_map,
            dice: self.dice,
            bind_links: true,
            place: &place,
        };
        let mut warnings = Vec::new();
        let plan = sun::parse(&text, &place, &mut warnings).and_then(|entry| {
            let named: BTreeSet<Vec<u8>> = hosts(&entry, &ctx).into_iter().map(<[u8]>::to_vec).collect();
            let facts = |name: &[u8]| {
                assert!(named.contains(name), "a fact about a host that was not named");
                facts(name)
            };
            build(&entry, &ctx, &facts, &mut warnings)
        });
        (plan.map(|p| p.to_string()), warnings)
    }

    /// The plan of `key`, without its first line, which names the place.
    fn mounts(&self, key: &str, text: &str) -> String {
        let plan = self.plan(key, text).0.unwrap_or_else(|e| panic!("{text}: {e}"));
        let (_, rest) = plan.split_once('\n').unwrap();
        rest.trim().to_owned()
    }

    fn refusal(&self, key: &str, text: &str) -> Diagnostic {
        self.plan(key, text).0.expect_err(text)
    }
}

#[test]
fn single_mounts() {
    for (id, master, key, text, want) in [
        ("m07", "ro,soft", "a", "-intr srv1:/x", "nfs srv1:/x -o ro,soft,intr"),
        ("m07", "ro,soft", "b", "srv1:/y", "nfs srv1:/y -o ro,soft"),
        ("m09", "ro,soft,timeo=5", "a", "-intr srv1:/x", "nfs srv1:/x -o ro,soft,timeo=5,intr"),
        ("s01", "", "a", "srv1:/x", "nfs srv1:/x"),
        ("s02", "", "a", "-ro,soft,timeo=5 srv1:/x", "nfs srv1:/x -o ro,soft,timeo=5"),
        ("s03", "", "joe", "-ro srv1:/home/&", "nfs srv1:/home/joe -o ro"),
        (
            "s04",
            "",
            "a",
            "srv1:/$USER/$UID/$GID/$GROUP/${HOME}end",
            "nfs srv1:/nobody/65534/65534/nogroup//nonexistentend",
        ),
        (
            "s05",
            "",
            "a",
            "srv1:/$ARCH/${CPU}/$HOST/$OSNAME/$SHOST",
            "nfs srv1:/x86_64/x86_64/testhost.example.org/Linux/testhost",
        ),
        ("s06", "", "a", "srv1:/x$NOPE/y${NOPE2}z", "nfs srv1:/x/yz"),
        ("s07", "", "a", "srv1:/x$", "nfs srv1:/x$"),
        ("s08", "", "a", "srv1:/with\\ space/x", "nfs srv1:/with space/x"),
        ("s09", "", "a", "srv1:\"/with space/x\"", "nfs srv1:/with space/x"),
        ("s09", "", "b", "\"srv1:/with space/y\"", "nfs srv1:/with space/y"),
        ("s10", "", "a", "srv1:\"/$HOST/&\"", "nfs srv1:/$HOST/&"),
        ("s11", "", "a", ":/opt", "bind /opt (slave)"),
        ("s12", "", "a", "-fstype=bind :/opt", "bind /opt (slave)"),
        ("s12", "", "b", "-fstype=bind,ro :/srv", "bind /srv -o ro (slave)"),
        ("s13", "", "a", "-fstype=ext4 :/dev/null", "ext4 /dev/null (fsck -p)"),
        ("s14", "", "a", "-fstype=ext4,noatime :/dev/null", "ext4 /dev/null -o noatime (fsck -p)"),
        ("s15", "", "a", "-fstype=ext4,ro,noatime :/dev/null", "ext4 /dev/null -o ro,noatime (fsck -n)"),
        ("s17", "", "cd", "-fstype=iso9660,ro :/dev/null", "iso9660 /dev/null -o ro"),
        ("s17", "", "fl", "-fstype=auto :/dev/zero", "auto /dev/zero"),
        ("s18", "", "a", "-fstype=cifs ://srv1/my\\ share", "cifs //srv1/my share"),
        ("s19", "", "a", "-fstype=nfs4,rw srv1:/x", "nfs4 srv1:/x -o rw"),
        ("s20", "", "a", "-vers=4.2,proto=tcp srv1:/x", "nfs srv1:/x -o vers=4.2,proto=tcp"),
        ("s21", "", "a", "-fstype=fuse,rw :sshfs\\#joe@srv1\\:/home", "fuse sshfs#joe@srv1:/home -o rw"),
        ("s22", "", "a", "-fstype=tmpfs,size=1m :tmpfs", "tmpfs tmpfs -o size=1m"),
        ("s22", "", "b", "-fstype=tmpfs tmpfs", "tmpfs tmpfs"),
        ("s23", "", "a", "-fstype=lustre 10.0.0.1@tcp0:/fs", "lustre 10.0.0.1@tcp0:/fs"),
        ("s31", "", "a", "srv1:/x:y:z", "nfs srv1:/x/y/z"),
        ("s32", "", "a", "srv1:/x # trailing", "nfs srv1:/x"),
        ("s35", "", "a", "-ro -soft srv1:/x", "nfs srv1:/x -o ro,soft"),
        ("s36", "", "a", "-use-weight-only,ro srv1:/x", "nfs srv1:/x -o ro"),
        ("s36", "", "b", "-no-use-weight-only srv1:/y", "nfs srv1:/y"),
        ("s37", "", "a", "-fstype=nfs srv1:/x", "nfs srv1:/x"),
        ("s38", "ro", "b", "-soft srv1:/y", "nfs srv1:/y -o ro,soft"),
        ("s48", "", "a", "[fd00::99]:/x", "nfs [fd00::99]:/x"),
        ("s49", "", "a", "-symlink :/opt", "symlink /opt"),
        ("s49", "", "b", "-fstype=bind,symlink :/srv", "symlink /srv"),
        ("s52", "", "a", "nosuchhost,srv1:/x", "nfs srv1:/x"),
        ("s53", "", "a", "-port=2050 srv1:/x", "nfs srv1:/x -o port=2050"),
        ("s54", "", "a", "- srv1:/x", "nfs srv1:/x"),
        ("s55", "", "a", "-ro,,soft, srv1:/x", "nfs srv1:/x -o ro,soft"),
        ("s62", "ro,rw,ro", "a", "-rw srv1:/x", "nfs srv1:/x -o ro,rw,ro,rw"),
        ("s64", "", "a", "-proto=rdma srv1:/x", "nfs srv1:/x -o proto=rdma"),
        ("t01", "", "b", "-ro srv1:/y\r", "nfs srv1:/y -o ro"),
        ("t04", "", "a", "-fstype=fuse.sshfs joe@srv1:/home", "fuse.sshfs joe@srv1:/home"),
        ("t05", "", "a", "srv1:/x :/opt", "bind /opt (slave)\n  or nfs srv1:/x"),
        ("t07", "", "a&b", "srv1:/x/&", "nfs srv1:/x/a&b"),
        ("t08", "", "a", "-uid=$UID,gid=${GID} srv1:/x", "nfs srv1:/x -o uid=65534,gid=65534"),
        ("t10", "", "a", "-port=0 srv1:/x", "nfs srv1:/x -o port=0"),
        ("u02", "", "a", "srv1:/x/${FOO", "nfs srv1:/x/"),
        ("r03", "", "a", "srv1(50),srv2(1):/x", "nfs srv2:/x\n  or nfs srv1:/x"),
        ("r06", "", "a", "srv1:/pa srv2:/pb", "nfs srv1:/pa\n  or nfs srv2:/pb"),
        ("r07", "", "a", "srv1:/x selfhost:/opt", "bind /opt (slave)\n  or nfs srv1:/x"),
    ] {
        assert_eq!(world(master).mounts(key, text), want, "{id}");
    }
}

#[test]
fn better_than_recorded() {
    // The ro was lost, as its letters occur in "proto" (s38).
    assert_eq!(world("ro").mounts("a", "-proto=tcp srv1:/x"), "nfs srv1:/x -o ro,proto=tcp");
    // Options vanished that begin like pseudo options (s39).
    assert_eq!(world("").mounts("a", "-bgx,ro srv1:/x"), "nfs srv1:/x -o bgx,ro");
    assert_eq!(world("").mounts("b", "-browser=1,ro srv1:/x"), "nfs srv1:/x -o browser=1,ro");
    // Options behind a location became part of it (t09).
    assert_eq!(world("").refusal("a", "srv1:/x -ro").code, "sun::options");
}

#[test]
fn refused() {
    for (id, text, code) in [
        ("s30", "/x", "sun::location"),
        ("s30", "-ro /opt", "sun::location"),
        ("s50", "srv1", "plan::location"),
        ("s50", "srv1:x", "sun::location"),
        ("s51", "nosuchhost:/x", "plan::hosts"),
        ("t03", "srv1:\"/x", "sun::quote"),
        ("u01", "srv1, srv2:/x", "sun::location"),
        ("r13", "srv1,,srv2:/x", "sun::location"),
        ("r14", "-nobind selfhost:/opt", "plan::hosts"),
        ("5.9", "-null", "plan::hidden"),
        ("5.4", ":/mnt/vl/a", "plan::bind"),
        ("5.4", "-fstype=bind opt", "plan::bind"),
        ("5.8", "-fstype=autofs", "sun::location"),
        ("5.8", "-fstype=autofs,timeout=5m file:/x", "plan::timeout"),
        ("5.8", "-fstype=autofs srv1:/x", "plan::submount"),
        ("", "-fstype=../sh :/dev/null", "plan::fstype"),
    ] {
        assert_eq!(world("").refusal("a", text).code, code, "{id} {text}");
    }
    let nobind = World { master: MasterOptions { nobind: true, ..MasterOptions::default() }, ..world("") };
    assert_eq!(nobind.refusal("a", ":/opt").code, "plan::hosts", "m49");
}

#[test]
fn hosts_of_this_machine() {
    let w = world("");
    assert_eq!(w.mounts("a", "-ro,intr server:/opt"), "bind /opt -o ro (slave)\n  or nfs server:/opt -o ro,intr");
    assert_eq!(w.mounts("a", "-nobind server:/opt"), "nfs server:/opt");
    assert_eq!(w.mounts("a", "server:/mnt/vl/a"), "nfs server:/mnt/vl/a", "not on itself");
    assert_eq!(w.mounts("a", "-symlink srv1:/x"), "nfs srv1:/x");
    assert_eq!(w.mounts("a", "-symlink srv1:/x selfhost:/opt"), "symlink /opt");
}

#[test]
fn random_servers() {
    let master = MasterOptions { random: true, ..MasterOptions::default() };
    let first = |dice| {
        let w = World { master: master.clone(), dice: Dice(dice), ..world("") };
        w.mounts("a", "srv1,srv2(3):/x").starts_with("nfs srv1:/x\n  or nfs srv2:/x")
    };
    // Weighed as 1 to 4, the first one comes first seven times out of eight.
    let often = (0..4000).filter(|dice| first(*dice)).count();
    assert!((3300..3700).contains(&often), "{often}");
}

#[test]
fn options_of_the_master_map() {
    let w = World { global: "soft,timeo=7", ..world("ro") };
    assert_eq!(w.mounts("a", "-intr srv1:/x"), "nfs srv1:/x -o soft,timeo=7,ro,intr", "m34");
    let w = World { append_options: false, ..world("ro") };
    assert_eq!(w.mounts("a", "-intr srv1:/x"), "nfs srv1:/x -o intr", "m35");
    assert_eq!(w.mounts("b", "srv1:/y"), "nfs srv1:/y -o ro", "m35");
    let mut w = world("");
    w.master.defines = vec![(b"FOO".to_vec(), b"bar".to_vec())];
    assert_eq!(w.mounts("a", "srv1:/x/$FOO/${FOO}y"), "nfs srv1:/x/bar/bary", "m17");
    w.master.propagation = Some(Propagation::Private);
    assert_eq!(w.mounts("a", ":/opt"), "bind /opt (private)", "m52");
    w.master.symlink = true;
    assert_eq!(w.mounts("a", ":/opt"), "symlink /opt", "m50");
    w.master.slashify_colons = Some(false);
    assert_eq!(w.mounts("a", "srv1:/x:y"), "nfs srv1:/x:y");
}

#[test]
fn direct_maps() {
    let w = World { direct: true, ..world("") };
    assert_eq!(w.plan("/mnt/d1", "-ro srv1:/x&").0.unwrap(), "/mnt/d1\n  nfs srv1:/x/mnt/d1 -o ro\n", "s42, s43");
    assert_eq!(w.mounts("/mnt/d1", "-symlink :/opt"), "bind /opt (slave)");
    let want = "/mnt/d1\n  nfs srv1:/r\n  /mnt/d1/sub\n    nfs srv1:/s\n";
    assert_eq!(w.plan("/mnt/d1", "/ srv1:/r /sub srv1:/s").0.unwrap(), want, "s44");
}

#[test]
fn multi_mounts() {
    for (id, text, want) in [
        (
            "s24",
            "-ro / srv1:/r /usr srv1:/u /home -rw srv2:/h",
            "/mnt/vl/a\n  nfs srv1:/r -o ro\n  /mnt/vl/a/home\n    nfs srv2:/h -o ro,rw\n  /mnt/vl/a/usr\n    nfs srv1:/u -o ro\n",
        ),
        (
            "s25",
            "/x srv1:/x /y/z -ro srv1:/yz",
            "/mnt/vl/a\n  /mnt/vl/a/x\n    nfs srv1:/x\n  /mnt/vl/a/y/z\n    nfs srv1:/yz -o ro\n",
        ),
        (
            "s26",
            "/ srv1:/r /b srv1:/b /b/c srv1:/c",
            "/mnt/vl/a\n  nfs srv1:/r\n  /mnt/vl/a/b\n    nfs srv1:/b\n    /mnt/vl/a/b/c\n      nfs srv1:/c\n",
        ),
        ("s29", "/ srv1:/r //b/ srv1:/b", "/mnt/vl/a\n  nfs srv1:/r\n  /mnt/vl/a/b\n    nfs srv1:/b\n"),
        (
            "s65",
            "/x :/opt /y -ro :/srv",
            "/mnt/vl/a\n  /mnt/vl/a/x\n    bind /opt (slave)\n  /mnt/vl/a/y\n    bind /srv -o ro (slave)\n",
        ),
        (
            "s68",
            "-ro\t \t/\tsrv1:/r \t/b\tsrv1:/b",
            "/mnt/vl/a\n  nfs srv1:/r -o ro\n  /mnt/vl/a/b\n    nfs srv1:/b -o ro\n",
        ),
        (
            "s69",
            "/ srv1:/r /s -fstype=autofs file:/etc/sub.map",
            "/mnt/vl/a\n  nfs srv1:/r\n  /mnt/vl/a/s\n    autofs file:/etc/sub.map\n",
        ),
        (
            "what comes between an offset and what is below it by bytes alone",
            "/b srv:/b /b.c srv:/bc /b/c srv:/c",
            "/mnt/vl/a\n  /mnt/vl/a/b\n    nfs srv:/b\n    /mnt/vl/a/b/c\n      nfs srv:/c\n  /mnt/vl/a/b.c\n    nfs srv:/bc\n",
        ),
        (
            "an offset is mounted later",
            "/x nosuchhost,srv1:/x",
            "/mnt/vl/a\n  /mnt/vl/a/x\n    nfs srv1:/x\n    or nfs nosuchhost:/x\n",
        ),
    ] {
        let (plan, warnings) = world("").plan("a", text);
        assert_eq!(plan.unwrap(), want, "{id}");
        assert_eq!(warnings, [], "{id}");
    }
}

#[test]
fn parts_that_fail() {
    let text = "nosuchhost:/r /b srv1:/b /c -fstype=bind c";
    let (plan, warnings) = world("").plan("a", text);
    assert_eq!(plan.unwrap(), "/mnt/vl/a\n  /mnt/vl/a/b\n    nfs srv1:/b\n");
    let said: Vec<_> = warnings.iter().map(|w| w.message.as_str()).collect();
    assert_eq!(
        said,
        ["/: no hosts available: no address is known for nosuchhost", "/c: c is no directory of this machine"]
    );
    assert_eq!(world("").refusal("a", &format!("-strict {text}")).code, "plan::hosts");
    assert_eq!(world("").refusal("a", "/c -fstype=bind c").code, "plan::empty");
    let strict = world("").plan("a", "-strict,ro / srv1:/r /b srv1:/b").0.unwrap();
    assert_eq!(strict, "/mnt/vl/a strict\n  nfs srv1:/r -o ro\n  /mnt/vl/a/b strict\n    nfs srv1:/b -o ro\n");
}

#[test]
fn submounts() {
    let mut w = world("ro");
    w.master.defines = vec![(b"FOO".to_vec(), b"f".to_vec())];
    w.master.timeout = Some(60);
    w.master.mode = Some(0o700);
    assert_eq!(
        w.mounts("sub", "-fstype=autofs file:/etc/sub.map"),
        "autofs file:/etc/sub.map timeout=60 -DFOO=f -o ro",
        "s45"
    );
    assert_eq!(
        w.mounts("sub", "-fstype=autofs,timeout=99,browse,nobind,strictexpire,soft,bg file:/etc/sub.map"),
        "autofs file:/etc/sub.map timeout=99 browse nobind strictexpire -DFOO=f -o ro,soft",
        "s46"
    );
    let w = world("");
    assert_eq!(w.mounts("net", "-fstype=autofs,hosts -hosts"), "autofs -hosts", "s47");
    assert_eq!(w.mounts("s", "-fstype=autofs auto.sub"), "autofs auto.sub");
    assert_eq!(w.mounts("s", "-fstype=autofs :/etc/sub.map"), "autofs /etc/sub.map");
    assert_eq!(w.mounts("s", "-fstype=autofs yp,sun:auto.&"), "autofs yp,sun:auto.s");
}

#[test]
fn exports_of_a_host() {
    let w = World { hosts_map: true, ..world("") };
    let want = "/mnt/vl/srv1\n  /mnt/vl/srv1/export/a\n    nfs srv1:/export/a -o nosuid,nodev\n";
    assert_eq!(w.plan("srv1", "\"/export/a\" \"srv1:/export/a\"").0.unwrap(), want, "m41");
    let w = World { hosts_map: true, ..world("suid") };
    assert_eq!(w.mounts("srv1", "srv1:/a"), "nfs srv1:/a -o suid,nodev");
}

mod properties {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    use crate::map::{Body, Entry, Location, Part};
    use crate::plan::Plan;

    fn check_level(plan: &Plan, key: &Path, count: &mut usize) {
        for pair in plan.offsets.windows(2) {
            assert!(pair[0].at < pair[1].at && !pair[1].at.starts_with(&pair[0].at));
        }
        for offset in &plan.offsets {
            assert!(offset.at.starts_with(&plan.at) && offset.at != plan.at && offset.at.starts_with(key));
            *count += 1;
            check_level(offset, key, count);
        }
    }

    proptest! {
        #[test]
        fn offsets_never_overlap_at_one_level(paths in proptest::collection::btree_set("(/[ab.]{1,2}){1,4}", 1..12)) {
            let paths: BTreeSet<_> = paths.into_iter().filter(|p| p.split('/').all(|n| n != "." && n != "..")).collect();
            prop_assume!(!paths.is_empty());
            let part = |path: &String| Part {
                path: path.clone().into_bytes(),
                options: OptionList::default(),
                locations: vec![Location(b":/x".to_vec())],
            };
            let entry = Entry { options: OptionList::default(), body: Body::Multi(paths.iter().map(part).collect()) };
            let key = Path::new("/mnt/k");
            let ctx = Context {
                at: key,
                direct: false,
                master: &MasterOptions::default(),
                global: &OptionList::default(),
                append_options: true,
                hosts_map: false,
                dice: Dice::default(),
                bind_links: true,
                place: &Position::whole(key),
            };
            let plan: Arc<Plan> = build(&entry, &ctx, &facts, &mut Vec::new()).unwrap();
            let mut count = 0;
            check_level(&plan, key, &mut count);
            prop_assert_eq!(count, paths.len());
        }

        #[test]
        fn never_panics(text in "([-/:,a \"\\\\#&$({})\\[\\]=.]|fstype=(bind|autofs|ext4)|srv:/|hosts|-strict){0,20}") {
            for direct in [false, true] {
                let _ = World { direct, ..world("ro") }.plan("/key", &text);
            }
        }
    }
}
