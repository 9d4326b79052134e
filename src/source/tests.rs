use super::*;
use crate::map::SourceSpec;
use crate::text::Diagnostic;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// Longer than anything takes that does not hang.
const LONG: Duration = Duration::from_secs(60);

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
    pub(super) fn source(&self, word: &str, mode: Mode) -> Map {
        self.opened(&SourceSpec::parse(word.replace('@', self.0.path().to_str().unwrap()).as_bytes()).unwrap(), mode)
    }

    pub(super) fn opened(&self, spec: &SourceSpec, mode: Mode) -> Map {
        let names = Names { directory: self.0.path().into(), ..Names::default() };
        let (names, readers, notices) = (Arc::new(names), Readers::new(4), Arc::new(Notices::keep()));
        let (programs, lookups) = (crate::source::Programs::of_tests(), Arc::default());
        let environment = Arc::new(Environment {
            names,
            readers,
            programs,
            notices,
            lookups,
            servers: Arc::new(crate::source::Servers::with_hosts(1)),
        });
        let source = open(spec, mode, &environment);
        Map { source, environment }
    }
}

/// A map to be asked by a test.
#[derive(Clone)]
pub(super) struct Map {
    pub(super) source: Arc<dyn MapSource>,
    environment: Arc<Environment>,
}

/// Waits for something on a runtime that all tests share.
pub(super) fn wait<T>(work: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let new = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    RUNTIME.get_or_init(new).block_on(work)
}

impl Map {
    pub(super) fn load(&self) -> Result<Arc<Entries>, Arc<SourceError>> {
        wait(self.source.entries(&Pass::new(Instant::now() + LONG)))
    }

    pub(super) fn cached(&self, key: &str) -> Option<Answer> {
        self.source.cached(key.as_bytes())
    }

    pub(super) fn programs(&self) -> &crate::source::Programs {
        &self.environment.programs
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.source.freshness() == Freshness::Unchanged
    }

    pub(super) fn has_key(&self, key: &str) -> bool {
        self.source.known_entries().unwrap().has_key(key.as_bytes())
    }
}

pub(super) fn show(answer: Answer) -> String {
    match answer {
        Answer::Found(found) => {
            let stale = if found.stale { " (stale)" } else { "" };
            format!("{}{stale}", String::from_utf8(found.entry.text().into_owned()).unwrap())
        }
        Answer::NotFound => "-".to_owned(),
        Answer::Unavailable(why) => format!("! {why}"),
    }
}

/// Returns the current answer of the source, from memory or by asking, without a mark for stale ones.
pub(super) fn ask(map: &Map, key: &str) -> String {
    let asked = || wait(map.source.lookup(&Ask::new(key.as_bytes(), Instant::now() + LONG)));
    show(map.cached(key).unwrap_or_else(asked)).trim_end_matches(" (stale)").to_owned()
}

pub(super) fn ask_all(map: &Map, keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| ask(map, key)).collect()
}

pub(super) fn keys(map: &Map) -> Vec<String> {
    let entries = map.source.known_entries().unwrap_or_default();
    entries.keys().into_iter().map(|key| String::from_utf8(key).unwrap()).collect()
}

/// Messages of a load, and of what was asked before; `@` for the directory.
pub(super) fn said(dir: &Dir, map: &Map) -> Vec<String> {
    map.load().unwrap();
    let show = |d: &Diagnostic| d.to_string().replace(dir.0.path().to_str().unwrap(), "@");
    map.environment.notices.take().iter().map(show).collect()
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
    assert!(source.has_key("c") && !source.has_key("e") && !source.has_key("*"));
    dir.write("two.map", "* two/&\n");
    assert_eq!(ask_all(&source, &["a", "b", "d", "e"]), ["first", "two/&", "two/&", "two/&"]);
    assert_eq!(keys(&source), ["a", "b", "d"]);
    settle();
    source.load().unwrap();
    assert!(source.is_fresh() && source.cached("d").is_some());
    fs::remove_file(dir.path("two.map")).unwrap();
    assert!(!source.is_fresh());
    assert_eq!(ask(&source, "e"), "two/&", "stays in force");
}

#[test]
fn an_include_that_cannot_be_read_takes_nothing_else_away() {
    let dir = Dir::new();
    dir.write("map", "a one\n+none\n+nisplus:x\n+file:@/map\n+file,amd:@/x\nb two\n");
    let source = dir.source("@/map", Mode::Indirect);
    let expected = [
        "@/map:2:1: file map @/none missing or not readable",
        "@/map:3:1: map x: NIS+ no longer exists on Linux: keep the map in LDAP, in NIS or in a file",
        "@/map:4:1: map @/map includes itself",
        "@/map:5:1: file map @/x missing or not readable",
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
    assert_eq!(source.source.describe().instances, ["files"]);
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
    assert!(source.has_key("/a") && source.has_key("/b") && !source.has_key("rel"));
    assert_eq!(ask_all(&source, &["/a", "/b", "rel", "/c"]), ["x", "y", "-", "-"]);
}

#[test]
fn a_multi_map_has_the_keys_of_all_its_parts() {
    let dir = Dir::new();
    dir.write("a", "x one\ny one\n");
    dir.write("b", "y two\nz two\n* any\n");
    let part = |name: &str, options: &str| {
        let spec = SourceSpec::parse(dir.path(name).to_str().unwrap().as_bytes()).unwrap();
        (spec, MasterOptions { mount_options: options.into(), ..MasterOptions::default() })
    };
    let parts = vec![part("a", "ro"), part("none", ""), part("b", "soft")];
    let spec =
        SourceSpec { kind: Some(crate::map::SourceKind::Multi), format: None, name: Vec::new(), parts, lists: false };
    let map = dir.opened(&spec, Mode::Indirect);
    assert_eq!(ask_all(&map, &["x", "y", "z", "w"]), ["one", "one", "two", "any"]);
    map.load().unwrap();
    assert_eq!(keys(&map), ["x", "y", "z"]);
    let line = MasterOptions { timeout: Some(5), ..MasterOptions::default() };
    let Some(Answer::Found(found)) = map.source.known(b"z") else { panic!("z is there") };
    let options = found.options(&line);
    assert_eq!((options.timeout, options.mount_options.as_slice()), (Some(5), &b"soft"[..]));
    // A path is a file here, also when it may be executed.
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(dir.path("a"), fs::Permissions::from_mode(0o755)).unwrap();
    dir.write("a", "x three\n");
    assert_eq!(ask(&map, "x"), "three");
}

#[test]
fn a_directory_is_a_map_of_its_files() {
    let dir = Dir::new();
    fs::create_dir(dir.path("d")).unwrap();
    for (name, text) in
        [("10.autofs", "a ten\nb ten\n"), ("9.autofs", "a nine\n"), (".8.autofs", "a x\n"), ("7.map", "a x\n")]
    {
        dir.write(&format!("d/{name}"), text);
    }
    let map = dir.source("dir:@/d", Mode::Indirect);
    assert_eq!(ask_all(&map, &["a", "b", "c"]), ["nine", "ten", "-"]);
    assert_eq!(said(&dir, &map), [""; 0]);
    assert_eq!(keys(&map), ["a", "b"]);
    dir.write("d/8.autofs", "c eight\n");
    assert_eq!(ask_all(&map, &["a", "b", "c"]), ["nine", "ten", "eight"]);
    settle();
    map.load().unwrap();
    assert!(map.is_fresh() && map.cached("c").is_some());
    fs::remove_dir_all(dir.path("d")).unwrap();
    assert_eq!(ask(&map, "a"), "nine", "what was read before stays in force");
    let error = dir.source("dir:@/none", Mode::Indirect).load().unwrap_err().to_string();
    assert!(error.ends_with("/none: there is none"), "{error}");
}

#[test]
fn a_map_in_toml_is_a_map_of_entries() {
    let dir = Dir::new();
    dir.write("more", "z srv:/z\na srv:/hidden\n");
    dir.write(
        "map.toml",
        "include = [\"@/more\"]\n[defaults]\noptions = \"rw\"\n[entries]\na = \"srv:/a\"\nbad = 5\n\"*\" = \"srv:/w/&\"\n",
    );
    let map = dir.source("file,toml:@/map.toml", Mode::Indirect);
    let wrong = said(&dir, &map);
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert!(wrong[0].starts_with("@/map.toml:6:7: an entry is a string or a table: "), "{wrong:?}");
    assert_eq!(ask_all(&map, &["a", "z", "other"]), ["-rw srv:/a", "srv:/z", "-rw srv:/w/&"]);
    assert_eq!(keys(&map), ["a", "z"]);
    let Some(Answer::Found(found)) = map.source.known(b"a") else { panic!() };
    assert_eq!((found.place.line, found.place.column), (5, 1));
    // A file that is no TOML at all takes nothing away.
    dir.write("map.toml", "a srv:/a\n");
    assert!(said(&dir, &map).iter().any(|wrong| wrong.contains("has no good line")));
    assert_eq!(ask(&map, "a"), "-rw srv:/a");
    dir.write("map.toml", "[entries]\nb = \"srv:/b\"\n");
    assert_eq!(ask_all(&map, &["a", "b"]), ["-", "srv:/b"]);
    assert!(dir.source("program,toml:@/map.toml", Mode::Indirect).load().is_err());
}

#[test]
fn a_null_map_has_no_keys() {
    let map = Dir::new().source("-null", Mode::Indirect);
    assert!(matches!(map.cached("a"), Some(Answer::NotFound)));
    assert!(map.load().unwrap().keys().is_empty());
}
