use super::super::tests::wait;
use super::super::{Notices, Readers};
use super::*;
use crate::config::nsswitch::Nsswitch;
use std::fs;
use std::thread;

struct Dir {
    dir: tempfile::TempDir,
    names: Names,
}

impl Dir {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let names = Names { directory: dir.path().into(), ..Names::default() };
        Self { dir, names }
    }

    /// Writes a map; `@` is the directory.
    fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        fs::create_dir(path.parent().unwrap()).ok();
        fs::write(path, text.replace('@', self.dir.path().to_str().unwrap())).unwrap();
    }

    fn read(&self, name: &str) -> Master {
        let name = name.replace('@', self.dir.path().to_str().unwrap());
        self.read_by(name.as_bytes(), true)
    }

    fn read_by(&self, name: &[u8], underscore: bool) -> Master {
        self.read_with(name, underscore, false)
    }

    fn read_with(&self, name: &[u8], underscore: bool, replaces: bool) -> Master {
        let (names, readers, notices) = (Arc::new(self.names.clone()), Readers::new(2), Arc::new(Notices::keep()));
        let files = Arc::new(MasterFiles::new(&Environment {
            names: Arc::clone(&names),
            readers,
            programs: crate::source::Programs::of_tests(),
            notices,
            lookups: Arc::default(),
            servers: Arc::new(crate::source::Servers::with_hosts(1)),
        }));
        let deadline = Instant::now() + Duration::from_secs(60);
        wait(Master::read(
            name,
            underscore,
            Reading { files, names, amd: AmdConf::default(), mount_points: Vec::new(), replaces, deadline },
        ))
    }

    fn said(&self, master: &Master) -> Vec<String> {
        let show = |d: &Diagnostic| d.to_string().replace(self.dir.path().to_str().unwrap(), "@");
        master.diagnostics.iter().map(show).collect()
    }
}

/// `mount point=map` of all indirect lines.
fn lines(master: &Master) -> Vec<String> {
    let show = |e: &MasterEntry| format!("{}={}", Escaped(&e.mount_point), Escaped(&e.source.name));
    master.table.indirect.iter().map(show).collect()
}

#[test]
fn the_map_is_found_by_path_type_and_name() {
    let dir = Dir::new();
    dir.write("auto.master", "/a x\n");
    for name in ["@/auto.master", "auto.master", "file:@/auto.master"] {
        let master = dir.read(name);
        assert_eq!((master.status, lines(&master)), (Status::Read, vec!["/a=x".to_owned()]), "{name}");
        assert_eq!(dir.said(&master), [""; 0]);
    }
    for name in ["@/none", "none", "file:@/none"] {
        assert_eq!(dir.read(name).status, Status::NotFound, "{name}");
    }
    for name in ["nisplus:auto.master", "-hosts", "@", "nis:"] {
        let master = dir.read(name);
        assert_eq!((master.status, master.diagnostics.len()), (Status::NotFound, 1), "{name}");
    }
}

#[test]
fn a_crash_of_the_machine_does_not_empty_the_master_map() {
    let dir = Dir::new();
    let reload = || dir.read_with(b"auto.master", true, true);
    dir.write("auto.master", &"\0".repeat(100));
    for master in [dir.read("auto.master"), reload()] {
        assert_eq!(master.status, Status::Unavailable);
        assert_eq!(
            dir.said(&master),
            ["@/auto.master: the file has only NUL bytes, as after a crash of the machine: \
              restore the file; to serve nothing, write a line that begins with \"#\""]
        );
    }
    dir.write("auto.master", "");
    assert_eq!((dir.read("auto.master").status, reload().status), (Status::Read, Status::Unavailable));
    dir.write("auto.master", "# nothing\n");
    assert_eq!(reload().status, Status::Read);
    dir.write("auto.master", "+part\n");
    dir.write("part", "");
    assert_eq!(reload().status, Status::Read);
    dir.write("part", "\0\0");
    assert_eq!(reload().status, Status::Partial);
}

#[test]
fn the_dot_of_a_name_may_be_an_underscore() {
    let dir = Dir::new();
    dir.write("auto_master", "/a x\n+auto.more\n");
    dir.write("auto_more", "/b x\n");
    let master = dir.read("auto.master");
    assert_eq!(lines(&master), ["/a=x"]);
    assert_eq!(
        dir.said(&master),
        ["@/auto_master:2:1: failed to read included master map auto.more: write that map, or remove the line"]
    );
    let strict = dir.read_by(b"auto.master", false);
    assert_eq!(strict.status, Status::NotFound);
}

#[test]
fn includes_are_read_in_their_place() {
    let dir = Dir::new();
    dir.write("auto.master", "/a one\n+more\n+nothere\n+file:@/typed\n+nisplus:x\n/z last\n");
    dir.write("more", "/a two\n/b two\n+@/deeper\n");
    dir.write("deeper", "/c three\n");
    dir.write("typed", "/d four\n+more\n");
    let master = dir.read("@/auto.master");
    assert_eq!(lines(&master), ["/a=one", "/b=two", "/c=three", "/d=four", "/z=last"]);
    let expected = [
        "@/auto.master:3:1: failed to read included master map nothere: write that map, or remove the line",
        "@/auto.master:5:1: NIS+ no longer exists on Linux: keep the master map in LDAP, in NIS or in a file",
        "@/more:1:1: ignoring duplicate indirect mount /a: @/auto.master:1:1 comes first",
    ];
    assert_eq!(dir.said(&master), expected);
}

#[test]
fn a_directory_is_read_in_the_order_of_versions() {
    let dir = Dir::new();
    dir.write("auto.master", "+dir:@/auto.master.d\n+dir:@/none\n");
    for (name, map) in [("10.autofs", "ten"), ("9.autofs", "nine"), (".8.autofs", "x"), ("7.conf", "x")] {
        dir.write(&format!("auto.master.d/{name}"), &format!("/{map} {map}\n"));
    }
    dir.write("auto.master.d/.autofs", "/y y\n");
    let master = dir.read("auto.master");
    assert_eq!(lines(&master), ["/nine=nine", "/ten=ten"]);
    let said = dir.said(&master);
    assert_eq!(said.len(), 1);
    assert!(said[0].starts_with("@/auto.master:2:1: cannot read directory @/none: "), "{said:?}");
}

#[test]
fn a_map_that_includes_itself_is_no_endless_one() {
    let dir = Dir::new();
    dir.write("auto.master", "/a x\n+auto.master\n+@/auto.master\n/b x\n+dir:@/d\n");
    dir.write("d/1.autofs", "+dir:@/d\n+@/auto.master\n/c x\n");
    let master = dir.read("auto.master");
    assert_eq!(lines(&master), ["/a=x", "/b=x", "/c=x"]);
    assert_eq!(
        dir.said(&master),
        [
            "@/auto.master:3:1: map @/auto.master includes itself",
            "@/d/1.autofs:1:1: map @/d/1.autofs includes itself",
            "@/d/1.autofs:2:1: map @/auto.master includes itself",
        ]
    );
    for n in 0..20 {
        dir.write(&format!("m{n}"), &format!("/{n} x\n+m{}\n", n + 1));
    }
    let master = dir.read("m0");
    assert_eq!(lines(&master).len(), DEPTH_MAX + 1);
    assert_eq!(dir.said(&master), ["@/m16:2:1: map @/m17 is included more than 16 levels deep"]);
}

#[test]
fn services_that_cannot_be_asked_decide_nothing() {
    let mut dir = Dir::new();
    dir.write("auto.master", "/a x\n");
    let conf: Arc<Path> = Path::new("/etc/nsswitch.conf").into();
    dir.names.nsswitch = Nsswitch::parse(b"automount: nisplus [UNAVAIL=return] files\n", &conf).unwrap().0;
    assert_eq!(lines(&dir.read("auto.master")), ["/a=x"]);
}

/// Reads `auto.master` until what was read is known to be current.
fn current(dir: &Dir) -> Master {
    // A loaded machine may read too slowly for the first attempts.
    let attempt = || {
        thread::sleep(Duration::from_millis(50));
        Some(dir.read("auto.master")).filter(Master::is_current)
    };
    std::iter::repeat_with(attempt).take(100).flatten().next().expect("what was read is current")
}

#[test]
fn an_unchanged_map_need_not_be_read_again() {
    let dir = Dir::new();
    dir.write("auto.master", "/a x\n+dir:@/d\n");
    dir.write("d/1.autofs", "/b x\n");
    let changes: [&dyn Fn(); 3] =
        [&|| dir.write("d/1.autofs", "/c x\n"), &|| dir.write("d/2.autofs", "/d x\n"), &|| {
            fs::remove_file(dir.dir.path().join("d/1.autofs")).unwrap()
        }];
    for change in changes {
        let master = current(&dir);
        change();
        assert!(!master.is_current());
    }
    assert_eq!(lines(&dir.read("auto.master")), ["/a=x", "/d=x"]);
    assert_eq!(dir.read("auto.master").inputs().count(), 3);
}

#[test]
fn a_missing_file_that_appears_makes_the_map_outdated() {
    let dir = Dir::new();
    dir.write("auto.master", "/a x\n+later\n");
    let later = dir.dir.path().join("later");
    fs::read(&later).unwrap_err();
    // A file system that does not keep missing names in the cache, such as tmpfs, cannot tell without waiting.
    let known_missing = !Seen::Absent.may_differ(&later);
    let master = if known_missing { current(&dir) } else { dir.read("auto.master") };
    assert_eq!(master.is_current(), known_missing);
    dir.write("later", "/e x\n");
    assert!(!master.is_current());
    assert_eq!(lines(&dir.read("auto.master")), ["/a=x", "/e=x"]);
}
