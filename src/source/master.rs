//! Reading the master map: from where it is, with all that it includes.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::sync::Arc;

use log::{debug, info};

use crate::config::Settings;
use crate::config::nsswitch::{Outcome, Search};
use crate::map::{Include, Item, MasterEntry, SourceKind, SourceSpec, Table, master};
use crate::sys::path;
use crate::text::{Diagnostic, Escaped, Position};

use super::{DEPTH_MAX, Names, SourceError, Stamp, read, version};

/// The files of a `+dir:` include.
const SUFFIX: &[u8] = b".autofs";

/// A master map and its includes, as one table.
#[derive(Debug)]
pub struct Master {
    /// The mount points.
    pub table: Table,
    /// What is wrong with the lines, and with what they include.
    pub diagnostics: Vec<Diagnostic>,
    /// Whether the map was found.
    pub status: Status,
    inputs: Vec<Input>,
}

/// The name of the master map, from the command line or else from autofs.conf, and whether its dot may be an underscore:
/// where autofs.conf names none.
pub fn name(given: Option<&[u8]>, settings: &Settings) -> (Vec<u8>, bool) {
    let configured = settings.master_map_name.as_deref();
    (given.or(configured).unwrap_or(b"auto.master").to_vec(), configured.is_none())
}

/// How reading a master map ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// All that is there was read.
    Read,
    /// There is no such map.
    NotFound,
    /// The map, or one that it includes, may be there but cannot be read now: worth another try.
    Unavailable,
}

/// A file or directory that was looked at.
#[derive(Debug)]
struct Input {
    path: Arc<Path>,
    /// `None`: nothing was there, or nothing by which it could be recognized.
    stamp: Option<Stamp>,
    /// False: what was read may be followed by a change that leaves the same stamp.
    settled: bool,
}

impl Master {
    /// Reads the master map `name`: a path, `type:name`, or a name that the services of nsswitch.conf are asked for.
    ///
    /// With `underscore`, a name that is not found is tried again with its first dot as an underscore, as the default
    /// `auto.master` may be. With `reload`, a file that somebody is about to rewrite is waited for. May wait for disks.
    pub fn read(name: &[u8], underscore: bool, names: &Names, reload: bool) -> Self {
        let mut reader = Reader {
            names,
            reload,
            trail: Vec::new(),
            visited: HashSet::new(),
            inputs: Vec::new(),
            entries: Vec::new(),
            diagnostics: Vec::new(),
            unavailable: false,
        };
        let place = Position::whole(Path::new(OsStr::from_bytes(name)));
        let outcome = match SourceSpec::parse(name) {
            Ok(spec) => reader.source(&spec, &place, underscore),
            Err(error) => {
                let d = Diagnostic::error("master::name", place, error.to_string());
                reader.diagnostics.push(d.help(error.help()));
                Outcome::Unknown
            }
        };
        let Reader { entries, mut diagnostics, inputs, unavailable, .. } = reader;
        let (table, more) = Table::build(entries);
        diagnostics.extend(more);
        let status = match outcome {
            Outcome::Unavail | Outcome::TryAgain => Status::Unavailable,
            Outcome::Success if unavailable => Status::Unavailable,
            Outcome::Success => Status::Read,
            Outcome::NotFound | Outcome::Unknown => Status::NotFound,
        };
        Self { table, diagnostics, status, inputs }
    }

    /// Whether reading it again would give the same, told without reading: no file that it was read from has changed,
    /// and none that was missing has appeared. May wait for disks.
    pub fn is_current(&self) -> bool {
        self.status == Status::Read
            && self.inputs.iter().all(|input| {
                let stamp = path::stat(&input.path).ok().map(|stat| Stamp::of(&stat));
                input.settled && stamp == input.stamp
            })
    }

    /// The files and directories that it was read from, or that were looked for.
    pub fn inputs(&self) -> impl Iterator<Item = &Path> {
        self.inputs.iter().map(|input| input.path.as_ref())
    }
}

struct Reader<'a> {
    names: &'a Names,
    reload: bool,
    /// The files that include each other, outermost first.
    trail: Vec<Arc<Path>>,
    visited: HashSet<Arc<Path>>,
    inputs: Vec<Input>,
    entries: Vec<MasterEntry>,
    diagnostics: Vec<Diagnostic>,
    /// An include could not be read for a passing reason.
    unavailable: bool,
}

impl Reader<'_> {
    /// Reads the map that `place` names. `Unknown`: there was nothing to do, or it has been said why not.
    fn source(&mut self, spec: &SourceSpec, place: &Position, underscore: bool) -> Outcome {
        let unsupported = match spec.kind {
            Some(SourceKind::File) => {
                return self.file(&self.names.path(&spec.name), place);
            }
            Some(SourceKind::Dir) => return self.directory(&self.names.path(&spec.name), place),
            None if spec.name.starts_with(b"//") => SourceKind::Ldap,
            None if spec.name.starts_with(b"/") => return self.file(&self.names.path(&spec.name), place),
            None => return self.named(&spec.name, place, underscore),
            Some(kind) => kind,
        };
        let message = format!("{} master maps are not supported yet", unsupported.name());
        let d = Diagnostic::error("master::unsupported", place.clone(), message);
        self.diagnostics.push(d.help("use a file"));
        Outcome::Unknown
    }

    /// Asks the services of nsswitch.conf for `name`.
    fn named(&mut self, name: &[u8], place: &Position, underscore: bool) -> Outcome {
        let mut last = Outcome::Unknown;
        for service in &self.names.nsswitch.services {
            if service.kind != SourceKind::File || name.contains(&b'/') {
                continue;
            }
            info!("reading files master {}", Escaped(name));
            let mut outcome = self.file_named(name, place);
            if outcome == Outcome::NotFound && underscore {
                if let Some(dot) = memchr::memchr(b'.', name) {
                    let other: Vec<u8> =
                        name.iter().enumerate().map(|(n, &b)| if n == dot { b'_' } else { b }).collect();
                    outcome = self.file_named(&other, place);
                }
            }
            if outcome != Outcome::Unknown {
                last = outcome;
            }
            if service.ends(outcome, Search::First) {
                break;
            }
        }
        last
    }

    /// The file `name` of the map directory. By its own name a map includes what the next service has.
    fn file_named(&mut self, name: &[u8], place: &Position) -> Outcome {
        let path = self.names.path(name);
        let includes_itself = self.trail.last().is_some_and(|parent| parent.file_name() == path.file_name());
        if includes_itself { Outcome::Unknown } else { self.file(&path, place) }
    }

    fn file(&mut self, file: &Arc<Path>, place: &Position) -> Outcome {
        if self.trail.contains(file) {
            return self.refuse(&SourceError::Loop { path: Arc::clone(file) }, place);
        }
        if self.trail.len() > DEPTH_MAX {
            return self.refuse(&SourceError::TooDeep { path: Arc::clone(file) }, place);
        }
        if !self.visited.insert(Arc::clone(file)) {
            // Each of its lines would come second.
            return Outcome::Success;
        }
        debug!("reading master file {}", Escaped::path(file));
        let content = match read::read(file, self.reload) {
            Ok(content) => content,
            Err(SourceError::Missing { .. }) => {
                self.inputs.push(Input { path: Arc::clone(file), stamp: None, settled: true });
                return Outcome::NotFound;
            }
            Err(error) => {
                self.inputs.push(Input { path: Arc::clone(file), stamp: None, settled: false });
                self.refuse(&error, place);
                return if error.is_transient() { Outcome::Unavail } else { Outcome::Unknown };
            }
        };
        self.inputs.push(Input { path: Arc::clone(file), stamp: Some(content.stamp), settled: content.settled });
        if let Some(what) = self.lost_content(&content.text) {
            let d = Diagnostic::error("master::lost", Position::whole(file), what);
            self.diagnostics.push(d.help("restore the file; to serve nothing, write a line that begins with \"#\""));
            return Outcome::Unavail;
        }
        let (items, diagnostics) = master::read(&content.text, file);
        self.diagnostics.extend(diagnostics);
        self.trail.push(Arc::clone(file));
        for item in items {
            match item {
                Item::Entry(entry) => self.entries.push(entry),
                Item::Include(include) => self.include(&include),
            }
        }
        self.trail.pop();
        Outcome::Success
    }

    /// Returns why `text` cannot be what was written into a master map: a crash of the machine leaves files of NUL bytes,
    /// or empty ones. At the start an empty master map is taken as it is, as there is no older one to keep.
    fn lost_content(&self, text: &[u8]) -> Option<&'static str> {
        match text {
            [] if self.reload && self.trail.is_empty() => {
                Some("the master map is empty, as after a crash of the machine")
            }
            [_, ..] if text.iter().all(|&b| b == 0) => {
                Some("the file has only NUL bytes, as after a crash of the machine")
            }
            _ => None,
        }
    }

    fn include(&mut self, include: &Include) {
        let outcome = self.source(&include.source, &include.place, false);
        self.unavailable |= matches!(outcome, Outcome::Unavail | Outcome::TryAgain);
        if !matches!(outcome, Outcome::Success | Outcome::Unknown) {
            let message = format!("failed to read included master map {}", Escaped(&include.source.name));
            let d = Diagnostic::warning("master::include", include.place.clone(), message);
            self.diagnostics.push(d.help("write that map, or remove the line"));
        }
    }

    /// Reads the files `*.autofs` of a directory, those with a dot in front left out.
    fn directory(&mut self, directory: &Arc<Path>, place: &Position) -> Outcome {
        let stamp = path::stat(directory).ok().map(|stat| Stamp::of(&stat));
        let settled = stamp.is_none_or(|stamp| !stamp.may_hide_a_change(std::time::SystemTime::now()));
        self.inputs.push(Input { path: Arc::clone(directory), stamp, settled });
        let names = fs::read_dir(directory)
            .and_then(|entries| entries.map(|entry| Ok(entry?.file_name().into_vec())).collect::<Result<Vec<_>, _>>());
        let mut names = match names {
            Ok(names) => names,
            Err(error) => {
                let message = format!("cannot read directory {}: {error}", Escaped::path(directory));
                self.diagnostics.push(Diagnostic::warning("master::include", place.clone(), message));
                return Outcome::Unknown;
            }
        };
        names.retain(|name| !name.starts_with(b".") && name.len() > SUFFIX.len() && name.ends_with(SUFFIX));
        names.sort_by(|a, b| version::compare(a, b));
        for name in names {
            self.file(&directory.join(OsString::from_vec(name)).into(), place);
        }
        Outcome::Success
    }

    /// Says why a map is left out.
    fn refuse(&mut self, error: &SourceError, place: &Position) -> Outcome {
        self.diagnostics.push(Diagnostic::error("master::include", place.clone(), error.to_string()));
        Outcome::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::nsswitch::Nsswitch;
    use std::thread;
    use std::time::Duration;

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
            Master::read(name.as_bytes(), true, &self.names, false)
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
        for name in ["//server/ou=auto.master", "ldap:auto.master", "sss:auto.master", "-hosts", "@", "nis:"] {
            let master = dir.read(name);
            assert_eq!((master.status, master.diagnostics.len()), (Status::NotFound, 1), "{name}");
        }
    }

    #[test]
    fn a_crash_of_the_machine_does_not_empty_the_master_map() {
        let dir = Dir::new();
        let reload = || Master::read(b"auto.master", true, &dir.names, true);
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
        assert_eq!(reload().status, Status::Unavailable);
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
        let strict = Master::read(b"auto.master", false, &dir.names, false);
        assert_eq!(strict.status, Status::NotFound);
    }

    #[test]
    fn includes_are_read_in_their_place() {
        let dir = Dir::new();
        dir.write("auto.master", "/a one\n+more\n+nothere\n+file:@/typed\n+nis:x\n/z last\n");
        dir.write("more", "/a two\n/b two\n+@/deeper\n");
        dir.write("deeper", "/c three\n");
        dir.write("typed", "/d four\n+more\n");
        let master = dir.read("@/auto.master");
        assert_eq!(lines(&master), ["/a=one", "/b=two", "/c=three", "/d=four", "/z=last"]);
        let expected = [
            "@/auto.master:3:1: failed to read included master map nothere: write that map, or remove the line",
            "@/auto.master:5:1: nis master maps are not supported yet: use a file",
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
        dir.names.nsswitch = Nsswitch::parse(b"automount: nis [UNAVAIL=return] files\n", &conf).unwrap().0;
        assert_eq!(lines(&dir.read("auto.master")), ["/a=x"]);
    }

    #[test]
    fn an_unchanged_map_need_not_be_read_again() {
        let dir = Dir::new();
        dir.write("auto.master", "/a x\n+dir:@/d\n+later\n");
        dir.write("d/1.autofs", "/b x\n");
        thread::sleep(Duration::from_millis(50));
        let changes: [&dyn Fn(); 4] = [
            &|| dir.write("d/1.autofs", "/c x\n"),
            &|| dir.write("d/2.autofs", "/d x\n"),
            &|| dir.write("later", "/e x\n"),
            &|| fs::remove_file(dir.dir.path().join("d/1.autofs")).unwrap(),
        ];
        for change in changes {
            let master = dir.read("auto.master");
            assert!(master.is_current());
            change();
            assert!(!master.is_current());
            thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(lines(&dir.read("auto.master")), ["/a=x", "/d=x", "/e=x"]);
        assert_eq!(dir.read("auto.master").inputs().count(), 4);
    }
}
