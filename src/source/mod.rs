//! Where maps come from: files on disk, alone or through nsswitch, and the master map that names them.
//!
//! A source has two halves. [`Source::lookup_now`] never blocks and may run on the reactor: it answers from memory when
//! calls that cannot wait prove that memory is what is on disk. Else somebody calls [`Source::load`], which may block
//! for as long as a disk or a server does, in a lane of its own, and then [`Source::lookup`].

mod chain;
pub mod configuration;
mod error;
mod file;
pub mod index;
pub mod master;
pub mod names;
mod pass;
mod read;
mod seen;
pub mod stamp;
mod version;

use std::sync::Arc;

pub use chain::Chain;
pub use error::SourceError;
pub use file::{FileMap, Origin};
pub use index::Index;
pub use master::Master;
pub use names::{NSSWITCH_CONF, Names};
pub use pass::Report;
pub use stamp::Stamp;

use crate::map::{Format, SourceKind, SourceSpec};
use crate::text::Position;

use pass::{Keys, Pass};

/// How many maps may include each other in a row.
pub const DEPTH_MAX: usize = 16;

/// What the keys of a map are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Names below one mount point.
    Indirect,
    /// Mount points.
    Direct,
}

/// The entry of a key, as it stands in a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    /// All after the blanks behind the key; continued lines are joined.
    pub text: Vec<u8>,
    /// Where it starts.
    pub place: Position,
}

/// What a source says of a key.
#[derive(Debug, Clone)]
pub enum Answer {
    /// It has this entry. It may be one of before: a source that cannot be read now answers what it knew.
    Found(Raw),
    /// It has none, certainly: this may be remembered.
    NotFound,
    /// It could not be asked, and what it knew before does not tell.
    Unavailable(Arc<SourceError>),
}

/// One map of a master map line.
#[derive(Debug)]
pub enum Source {
    /// A file.
    File(FileMap),
    /// A name that goes through nsswitch.conf.
    Chain(Chain),
    /// A kind of map that this version cannot read.
    Unsupported(Unsupported),
}

/// A map that this version cannot read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// The type as the master map would write it.
    pub kind: &'static str,
    /// The map.
    pub name: Vec<u8>,
    /// What it is, in the plural.
    pub what: &'static str,
}

/// A source as dumps and status show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The type, where the master map says one.
    pub kind: Option<&'static str>,
    /// Else the types of what was found.
    pub instances: Vec<&'static str>,
    /// The name of the map; empty for a built-in one.
    pub map: Vec<u8>,
}

impl Source {
    /// The map that `spec` names. Nothing is read yet.
    pub fn from_spec(spec: &SourceSpec, mode: Mode, names: &Arc<Names>) -> Self {
        let unsupported = |what| {
            let kind = spec.kind.map_or("file", SourceKind::name);
            Self::Unsupported(Unsupported { kind, name: spec.name.clone(), what })
        };
        let file = |origin| Self::File(FileMap::new(names.path(&spec.name), mode, origin, Arc::clone(names)));
        match (spec.format, spec.kind) {
            (Some(Format::Amd), _) => unsupported("am-utils maps"),
            (Some(Format::Hesiod), _) | (_, Some(SourceKind::Hesiod)) => unsupported("Hesiod maps"),
            (_, Some(SourceKind::File)) => file(Origin::Typed),
            (_, None) if spec.name.starts_with(b"/") => file(Origin::Path),
            (_, None) => Self::Chain(Chain::new(&spec.name, mode, names)),
            (_, Some(SourceKind::Program)) => unsupported("program maps"),
            (_, Some(SourceKind::Sss)) => unsupported("sss maps"),
            (_, Some(SourceKind::Yp | SourceKind::Nis)) => unsupported("NIS maps"),
            (_, Some(SourceKind::NisPlus)) => unsupported("NIS+ maps"),
            (_, Some(SourceKind::Ldap | SourceKind::Ldaps)) => unsupported("LDAP maps"),
            (_, Some(SourceKind::Userdir)) => unsupported("userdir maps"),
            (_, Some(SourceKind::Multi)) => unsupported("multi maps"),
            (_, Some(SourceKind::Dir)) => unsupported("directories as maps"),
            (_, Some(SourceKind::Hosts)) => unsupported("hosts maps"),
            (_, Some(SourceKind::Null)) => unsupported("null maps"),
        }
    }

    /// The answer for `key` without waiting. `None`: it is not certain that memory is what is on disk; [`load`] where
    /// waiting is allowed, then [`lookup`].
    ///
    /// [`load`]: Self::load
    /// [`lookup`]: Self::lookup
    pub fn lookup_now(&self, key: &[u8]) -> Option<Answer> {
        match self {
            Self::File(file) => file.lookup_now(key),
            Self::Chain(chain) => chain.lookup_now(key),
            Self::Unsupported(_) => Some(Answer::NotFound),
        }
    }

    /// The answer for `key` from what was loaded last. Does not wait.
    pub fn lookup(&self, key: &[u8]) -> Answer {
        match self {
            Self::File(file) => file.lookup(key),
            Self::Chain(chain) => chain.lookup(key),
            Self::Unsupported(_) => Answer::NotFound,
        }
    }

    /// Brings the map and what it includes up to date; reads only what has changed. May wait for disks and servers.
    ///
    /// An error says that there is nothing to answer from. A map that was read once stays in force; if it cannot be read
    /// again, that is a diagnostic.
    pub fn load(&self) -> Result<Report, Arc<SourceError>> {
        let mut pass = Pass::default();
        self.load_in(&mut pass)?;
        Ok(pass.report)
    }

    /// Loads as part of a larger map.
    fn load_in(&self, pass: &mut Pass) -> Result<(), Arc<SourceError>> {
        match self {
            Self::File(file) => file.load(pass),
            Self::Chain(chain) => chain.load(pass),
            Self::Unsupported(Unsupported { name, what, .. }) => {
                Err(Arc::new(SourceError::Unsupported { name: name.clone(), what }))
            }
        }
    }

    /// The keys of what was loaded last, in order, each once; wildcards left out.
    pub fn keys(&self) -> Vec<Vec<u8>> {
        let mut keys = Keys::default();
        self.collect(&mut keys);
        keys.into_vec()
    }

    fn collect(&self, keys: &mut Keys) {
        match self {
            Self::File(file) => file.keys(keys),
            Self::Chain(chain) => chain.keys(keys),
            Self::Unsupported(_) => {}
        }
    }

    /// Whether `key` is among them.
    pub fn has_key(&self, key: &[u8]) -> bool {
        match self {
            Self::File(file) => file.has_key(key),
            Self::Chain(chain) => chain.has_key(key),
            Self::Unsupported(_) => false,
        }
    }

    /// Whether a load may find something new. Does not wait, so that thousands of maps may be asked at each reload.
    pub fn is_stale_now(&self) -> bool {
        match self {
            Self::File(file) => file.is_stale_now(),
            Self::Chain(chain) => chain.is_stale_now(),
            Self::Unsupported(_) => false,
        }
    }

    /// What it is, for people.
    pub fn describe(&self) -> Description {
        match self {
            Self::File(file) => file.describe(),
            Self::Chain(chain) => chain.describe(),
            Self::Unsupported(Unsupported { kind, name, .. }) => {
                Description { kind: Some(kind), instances: Vec::new(), map: name.clone() }
            }
        }
    }

    /// Whether something was read.
    fn is_loaded(&self) -> bool {
        match self {
            Self::File(file) => file.is_loaded(),
            Self::Chain(chain) => chain.is_loaded(),
            Self::Unsupported(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Diagnostic;
    use std::fs;
    use std::path::PathBuf;
    use std::thread;
    use std::time::{Duration, Instant};

    /// A directory of maps.
    pub(super) struct Dir(pub(super) tempfile::TempDir);

    impl Dir {
        pub(super) fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        pub(super) fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        /// Writes a map; `@` is the directory.
        pub(super) fn write(&self, name: &str, text: &str) {
            fs::write(self.path(name), text.replace('@', self.0.path().to_str().unwrap())).unwrap();
        }

        /// The map `word`; a name is one in this directory.
        pub(super) fn source(&self, word: &str, mode: Mode) -> Source {
            let spec = SourceSpec::parse(word.replace('@', self.0.path().to_str().unwrap()).as_bytes()).unwrap();
            let names = Names { directory: self.0.path().into(), ..Names::default() };
            Source::from_spec(&spec, mode, &Arc::new(names))
        }
    }

    /// What the source answers now, after loading if need be.
    pub(super) fn ask(source: &Source, key: &str) -> String {
        let answer = source.lookup_now(key.as_bytes()).unwrap_or_else(|| {
            source.load().unwrap();
            source.lookup(key.as_bytes())
        });
        match answer {
            Answer::Found(raw) => String::from_utf8(raw.text).unwrap(),
            Answer::NotFound => "-".to_owned(),
            Answer::Unavailable(why) => format!("! {why}"),
        }
    }

    pub(super) fn ask_all(source: &Source, keys: &[&str]) -> Vec<String> {
        keys.iter().map(|key| ask(source, key)).collect()
    }

    pub(super) fn keys(source: &Source) -> Vec<String> {
        source.keys().into_iter().map(|key| String::from_utf8(key).unwrap()).collect()
    }

    /// Messages of a load, `@` for the directory.
    pub(super) fn said(dir: &Dir, source: &Source) -> Vec<String> {
        let show = |d: &Diagnostic| d.to_string().replace(dir.0.path().to_str().unwrap(), "@");
        source.load().unwrap().diagnostics.iter().map(show).collect()
    }

    /// Until what was written can be recognized without reading it.
    pub(super) fn settle() {
        thread::sleep(Duration::from_millis(50));
    }

    #[test]
    fn the_place_of_an_include_gives_its_precedence() {
        let dir = Dir::new();
        dir.write("two.map", "a inc\nb inc\nc inc\n");
        dir.write("map", "a first\n+two.map\nb late\nd late\n* wild\n");
        let source = dir.source("@/map", Mode::Indirect);
        assert_eq!(ask_all(&source, &["a", "b", "c", "d", "e"]), ["first", "inc", "inc", "late", "wild"]);
        assert_eq!(keys(&source), ["a", "b", "c", "d"]);
        assert!(source.has_key(b"c") && !source.has_key(b"e") && !source.has_key(b"*"));
        dir.write("two.map", "* two/&\n");
        assert_eq!(ask_all(&source, &["a", "b", "d", "e"]), ["first", "two/&", "two/&", "two/&"]);
        assert_eq!(keys(&source), ["a", "b", "d"]);
        settle();
        source.load().unwrap();
        assert!(!source.is_stale_now() && source.lookup_now(b"d").is_some());
        fs::remove_file(dir.path("two.map")).unwrap();
        assert!(source.is_stale_now());
        assert_eq!(ask(&source, "e"), "two/&", "stays in force");
    }

    #[test]
    fn an_include_that_cannot_be_read_takes_nothing_else_away() {
        let dir = Dir::new();
        dir.write("map", "a one\n+none\n+ldap:ou=x\n+file:@/map\n+file,amd:@/x\nb two\n");
        let source = dir.source("@/map", Mode::Indirect);
        let expected = [
            "@/map:2:1: file map @/none missing or not readable",
            "@/map:3:1: map ou=x: LDAP maps are not supported yet",
            "@/map:4:1: map @/map includes itself",
            "@/map:5:1: map @/x: am-utils maps are not supported yet",
        ];
        assert_eq!(said(&dir, &source), expected);
        assert_eq!(said(&dir, &source), [""; 0], "once");
        assert_eq!(ask_all(&source, &["a", "b", "c"]), ["one", "two", "-"]);
        dir.write("none", "c three\n");
        assert_eq!(ask(&source, "c"), "three");
    }

    #[test]
    fn a_map_that_includes_its_own_name_is_read_once() {
        let dir = Dir::new();
        dir.write("auto.home", "a one\n+auto.home\nb two\n");
        let source = dir.source("auto.home", Mode::Indirect);
        assert_eq!(said(&dir, &source), [""; 0]);
        assert_eq!(ask_all(&source, &["a", "b"]), ["one", "two"]);
        assert_eq!(source.describe().instances, ["files"]);
    }

    #[test]
    fn maps_that_include_each_other_end() {
        let dir = Dir::new();
        let all: String = (0..30).map(|n| format!("+@/m{n}\n")).collect();
        for n in 0..30 {
            dir.write(&format!("m{n}"), &format!("{all}k{n} v{n}\n"));
        }
        let source = dir.source("@/m0", Mode::Indirect);
        let start = Instant::now();
        assert!(said(&dir, &source).iter().all(|m| m.contains("includes itself") || m.contains("levels deep")));
        assert!(start.elapsed() < Duration::from_secs(5));
        assert_eq!(ask_all(&source, &["k0", "k15", "k30"]), ["v0", "v15", "-"]);
    }

    #[test]
    fn direct_maps_have_paths_for_keys() {
        let dir = Dir::new();
        dir.write("inc", "/b y\nrel x\n");
        dir.write("map", "/a/ x\n+inc\nrel x\n* x\n");
        let source = dir.source("map", Mode::Direct);
        assert_eq!(said(&dir, &source).len(), 3);
        assert_eq!(keys(&source), ["/a", "/b"]);
        assert!(source.has_key(b"/a") && source.has_key(b"/b") && !source.has_key(b"rel"));
        assert_eq!(ask_all(&source, &["/a", "/b", "rel", "/c"]), ["x", "y", "-", "-"]);
    }
}
