//! A map in a file, with what it includes.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use log::{debug, info};

use crate::map::SourceSpec;
use crate::text::{Diagnostic, Escaped, Position};

use super::index::IncludeLine;
use super::read::{self, Content};
use super::seen::Seen;
use super::{Answer, DEPTH_MAX, Description, Index, Keys, Mode, Names, Pass, Source, SourceError};

/// A map file. What was read of it last stays in force until something better can be read.
pub struct FileMap {
    path: Arc<Path>,
    mode: Mode,
    origin: Origin,
    names: Arc<Names>,
    state: Mutex<Arc<State>>,
    /// Held while loading.
    loading: Mutex<()>,
    /// How many times loading has begun.
    loads: AtomicU64,
}

/// How the master map names a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `file:/path`: always a map.
    Typed,
    /// `/path`: a program if its owner may execute it.
    Path,
    /// A name, found through nsswitch.conf: likewise.
    Name,
}

/// What is known of the file; replaced as a whole.
#[derive(Default)]
struct State {
    seen: Seen,
    /// What is answered from.
    index: Option<Arc<Index>>,
    /// In the order of the file.
    includes: Vec<Included>,
    /// Why `index` is not what is on disk.
    trouble: Option<Arc<SourceError>>,
}

/// A `+map` line and its map.
struct Included {
    line: IncludeLine,
    source: Arc<Source>,
    /// Why nothing comes from there, as last reported.
    problem: Option<String>,
}

impl FileMap {
    /// The map in the file `path`; nothing is read yet.
    pub fn new(path: Arc<Path>, mode: Mode, origin: Origin, names: Arc<Names>) -> Self {
        Self { path, mode, origin, names, state: Mutex::default(), loading: Mutex::default(), loads: AtomicU64::new(0) }
    }

    /// Its path.
    pub fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// Whether something was read.
    pub fn is_loaded(&self) -> bool {
        self.state().index.is_some()
    }

    /// The answer for `key`, if it is certain without waiting that nothing has changed.
    pub fn lookup_now(&self, key: &[u8]) -> Option<Answer> {
        let state = self.state();
        if state.seen.may_differ(&self.path) {
            return None;
        }
        state.answer(key, Source::lookup_now)
    }

    /// The answer for `key` from what was loaded last.
    pub fn lookup(&self, key: &[u8]) -> Answer {
        self.state().answer(key, |source, key| Some(source.lookup(key))).unwrap_or(Answer::NotFound)
    }

    /// Whether a load may find something new, told without waiting.
    pub fn is_stale_now(&self) -> bool {
        let state = self.state();
        state.seen.may_differ(&self.path) || state.includes.iter().any(|i| i.source.is_stale_now())
    }

    /// What it is, for people.
    pub fn describe(&self) -> Description {
        let found = if self.is_loaded() { vec!["file"] } else { Vec::new() };
        let (kind, instances) = if self.origin == Origin::Typed { (Some("file"), Vec::new()) } else { (None, found) };
        Description { kind, instances, map: self.path.as_os_str().as_bytes().to_vec() }
    }

    /// Adds the keys of the map, those of includes at their place.
    pub(super) fn keys(&self, keys: &mut Keys) {
        let state = self.state();
        let Some(index) = &state.index else { return };
        let mut includes = state.includes.iter().peekable();
        for offset in index.offsets() {
            while let Some(include) = includes.next_if(|i| i.line.offset < offset) {
                include.source.collect(keys);
            }
            if let Some(key) = index.key(offset) {
                keys.add(key);
            }
        }
        for include in includes {
            include.source.collect(keys);
        }
    }

    /// Whether the map or an include has `key` itself, not only by a wildcard.
    pub(super) fn has_key(&self, key: &[u8]) -> bool {
        let state = self.state();
        let own = state.index.as_ref().is_some_and(|index| index.find(key).is_some());
        own || state.includes.iter().any(|include| include.source.has_key(key))
    }

    /// Brings the map and what it includes up to date. An error says that there is nothing to answer from.
    pub(super) fn load(&self, pass: &mut Pass) -> Result<(), Arc<SourceError>> {
        let arrived = self.loads.load(Ordering::SeqCst);
        let _loading = lock(&self.loading);
        if self.loads.load(Ordering::SeqCst) != arrived {
            // Another load began after this one was asked for, and has ended: it has seen all that this one would.
            return self.state().usable();
        }
        self.loads.fetch_add(1, Ordering::SeqCst);
        if let Some(skipped) = self.skipped(pass) {
            *lock(&self.state) = Arc::new(State { seen: Seen::Skipped, ..State::default() });
            return skipped;
        }
        let old = self.state();
        let mut new = self.look(&old, pass);
        pass.enter(&self.path);
        new.includes = self.load_includes(&old, new.index.as_deref(), pass);
        pass.leave();
        let new = Arc::new(new);
        *lock(&self.state) = Arc::clone(&new);
        new.usable()
    }

    /// Whether the file must not be read in this pass: `Ok` if it was read before.
    fn skipped(&self, pass: &Pass) -> Option<Result<(), Arc<SourceError>>> {
        let path = || Arc::clone(&self.path);
        let is_namesake = || pass.parent().is_some_and(|parent| parent.file_name() == self.path.file_name());
        if self.origin == Origin::Name && is_namesake() {
            // By its own name a map includes what the next service of nsswitch.conf has.
            Some(Ok(()))
        } else if pass.is_inside(&self.path) {
            Some(Err(SourceError::Loop { path: path() }.into()))
        } else if pass.depth() > DEPTH_MAX {
            Some(Err(SourceError::TooDeep { path: path() }.into()))
        } else {
            // Whatever an earlier include of the same map knows has been answered there.
            pass.has_visited(&self.path).then_some(Ok(()))
        }
    }

    /// Reads the file if need be; the includes are left out.
    fn look(&self, old: &State, pass: &mut Pass) -> State {
        let kept = |seen, trouble| State { seen, index: old.index.clone(), includes: Vec::new(), trouble };
        let error = match self.read(old) {
            Ok(None) => return kept(old.seen, old.trouble.clone()),
            Ok(Some(content)) => {
                let seen = Seen::of(&content);
                match self.index(old, content) {
                    Ok(index) => {
                        if old.index.as_ref().is_none_or(|old| !Arc::ptr_eq(old, &index)) {
                            pass.report.changed = true;
                            pass.report.diagnostics.extend_from_slice(index.diagnostics());
                        }
                        return State { seen, index: Some(index), includes: Vec::new(), trouble: None };
                    }
                    Err(error) => (seen, error),
                }
            }
            Err((seen, error)) => (seen, error),
        };
        let (seen, error) = error;
        if old.index.is_some() && old.trouble.as_ref().is_none_or(|t| t.to_string() != error.to_string()) {
            let d = Diagnostic::error("source::stale", Position::whole(&self.path), error.to_string());
            pass.report.diagnostics.push(d.help("what was read before stays in force"));
        }
        kept(seen, Some(error.into()))
    }

    /// The content of the file, unless it is certainly what `old` has seen.
    fn read(&self, old: &State) -> Result<Option<Content>, (Seen, SourceError)> {
        let failed = |error: SourceError| match error {
            SourceError::Missing { .. } => (Seen::Absent, error),
            _ => (Seen::Unknown, error),
        };
        let opened = read::open(&self.path).map_err(failed)?;
        match old.seen {
            Seen::Version(stamp) | Seen::Remote(stamp) if stamp == opened.stamp => return Ok(None),
            _ => {}
        }
        if self.origin != Origin::Typed && opened.stamp.is_executable() {
            let name = self.path.as_os_str().as_bytes().to_vec();
            let seen = if opened.local { Seen::Version(opened.stamp) } else { Seen::Remote(opened.stamp) };
            return Err((seen, SourceError::Unsupported { name, what: "program maps" }));
        }
        drop(opened);
        read::read(&self.path, old.index.is_some()).map(Some).map_err(failed)
    }

    /// The index of `content`: that of `old` where it has the same text.
    fn index(&self, old: &State, content: Content) -> Result<Arc<Index>, SourceError> {
        if let Some(old) = old.index.as_ref().filter(|old| old.text() == content.text) {
            return Ok(Arc::clone(old));
        }
        let name = Escaped::path(&self.path);
        match self.origin {
            Origin::Typed => info!("reading file map {name}"),
            Origin::Name => info!("reading files map {name}"),
            Origin::Path => debug!("reading map file {name}"),
        }
        let new = Index::build(&self.path, content.text, self.mode)
            .ok_or_else(|| SourceError::TooLong { path: Arc::clone(&self.path) })?;
        if new.is_broken() && old.index.as_ref().is_some_and(|old| !old.is_broken()) {
            return Err(SourceError::Broken { path: Arc::clone(&self.path) });
        }
        Ok(Arc::new(new))
    }

    fn load_includes(&self, old: &State, index: Option<&Index>, pass: &mut Pass) -> Vec<Included> {
        let lines = index.map(Index::includes).unwrap_or_default();
        let mut before: Vec<&Included> = old.includes.iter().collect();
        let mut includes = Vec::with_capacity(lines.len());
        for line in lines {
            let known = before.iter().position(|i| i.line.source == line.source).map(|at| before.remove(at));
            let source = known.map_or_else(|| self.include(&line.source), |i| Arc::clone(&i.source));
            let problem = source.load_in(pass).err().map(|error| error.to_string());
            if let Some(problem) = &problem {
                if known.is_none_or(|i| i.problem.as_ref() != Some(problem)) {
                    pass.report.diagnostics.push(Diagnostic::warning(
                        "source::include",
                        line.place.clone(),
                        problem.clone(),
                    ));
                }
            }
            includes.push(Included { line: line.clone(), source, problem });
        }
        pass.report.changed |= !before.is_empty();
        includes
    }

    fn include(&self, spec: &SourceSpec) -> Arc<Source> {
        Arc::new(Source::from_spec(spec, self.mode, &self.names))
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&lock(&self.state))
    }
}

impl State {
    /// Goes through the file: includes before the line of `key`, the line, includes after it, the wildcard.
    fn answer(&self, key: &[u8], ask: impl Fn(&Source, &[u8]) -> Option<Answer>) -> Option<Answer> {
        let own = self.index.as_ref().and_then(|index| index.find(key));
        let mut doubt = self.trouble.clone().filter(|error| self.index.is_some() || error.is_transient());
        for include in self.includes.iter().take_while(|i| own.is_none_or(|own| i.line.offset < own)) {
            match ask(&include.source, key)? {
                Answer::NotFound => {}
                Answer::Unavailable(why) => doubt = Some(why),
                found @ Answer::Found(_) => return Some(found),
            }
        }
        let found = self.index.as_ref().and_then(|index| index.entry(own.or(index.wildcard())?));
        Some(match (found, doubt) {
            (Some(raw), _) => Answer::Found(raw),
            (None, Some(why)) => Answer::Unavailable(why),
            (None, None) => Answer::NotFound,
        })
    }

    fn usable(&self) -> Result<(), Arc<SourceError>> {
        match (&self.index, &self.trouble) {
            (None, Some(error)) => Err(Arc::clone(error)),
            _ => Ok(()),
        }
    }
}

impl std::fmt::Debug for FileMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileMap").field("path", &self.path).field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// A panic ends the process, so no lock is ever left poisoned.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::Report;
    use super::super::tests::{Dir, ask, ask_all, keys, said, settle};
    use super::*;
    use std::fs;
    use std::thread;
    use std::time::{Duration, Instant};

    #[test]
    fn a_settled_map_is_answered_from_memory() {
        let dir = Dir::new();
        dir.write("map", "a one\n* wild/&\n");
        let source = dir.source("file:@/map", Mode::Indirect);
        assert!(source.is_stale_now() && source.lookup_now(b"a").is_none());
        settle();
        assert!(source.load().unwrap().changed);
        assert!(!source.is_stale_now());
        assert!(matches!(source.lookup_now(b"a"), Some(Answer::Found(raw)) if raw.text == b"one"));
        assert!(matches!(source.lookup_now(b"b"), Some(Answer::Found(raw)) if raw.text == b"wild/&"));
        assert_eq!(source.load().unwrap(), Report::default());
        assert_eq!(keys(&source), ["a"]);
    }

    #[test]
    fn a_change_is_seen_however_it_is_made() {
        let dir = Dir::new();
        let source = dir.source("@/map", Mode::Indirect);
        for n in 0..20 {
            // Same length, as fast as can be: only the content tells.
            let text = format!("a {:02}\n", n);
            match n % 3 {
                0 => dir.write("map", &text),
                1 => {
                    dir.write("new", &text);
                    fs::rename(dir.path("new"), dir.path("map")).unwrap();
                }
                _ => {
                    fs::create_dir(dir.path(&text[2..4])).unwrap();
                    dir.write(&format!("{}/map", &text[2..4]), &text);
                    let _ = fs::remove_file(dir.path("data"));
                    std::os::unix::fs::symlink(&text[2..4], dir.path("data")).unwrap();
                    fs::remove_file(dir.path("map")).unwrap();
                    std::os::unix::fs::symlink("data/map", dir.path("map")).unwrap();
                }
            }
            assert_eq!(ask(&source, "a"), text[2..4]);
            if n % 3 == 2 {
                fs::remove_file(dir.path("map")).unwrap();
            }
        }
    }

    #[test]
    fn a_missing_map_is_an_error_and_one_that_vanishes_stays_in_force() {
        let dir = Dir::new();
        let source = dir.source("@/map", Mode::Indirect);
        let error = source.load().unwrap_err().to_string();
        assert!(error.starts_with("file map ") && error.ends_with("/map missing or not readable"), "{error}");
        dir.write("map", "a one\n");
        assert_eq!(ask(&source, "a"), "one");
        fs::remove_file(dir.path("map")).unwrap();
        assert!(source.is_stale_now());
        let expected = "@/map: file map @/map missing or not readable: what was read before stays in force";
        assert_eq!(said(&dir, &source), [expected]);
        assert_eq!(said(&dir, &source), [""; 0], "once");
        assert_eq!(ask(&source, "a"), "one");
        assert!(ask(&source, "b").starts_with("! file map "));
        dir.write("map", "b two\n");
        assert_eq!(ask_all(&source, &["a", "b"]), ["-", "two"]);
    }

    #[test]
    fn what_is_no_map_does_not_replace_one() {
        let dir = Dir::new();
        dir.write("map", "a one\n");
        let source = dir.source("@/map", Mode::Indirect);
        assert_eq!(ask(&source, "a"), "one");
        settle();
        dir.write("map", "junk\n\0\0\0\n");
        assert!(said(&dir, &source)[0].contains("has no good line"));
        assert_eq!(ask(&source, "a"), "one");
        fs::remove_file(dir.path("map")).unwrap();
        fs::create_dir(dir.path("map")).unwrap();
        assert!(said(&dir, &source)[0].contains("is a directory"));
        assert_eq!(ask(&source, "a"), "one");
    }

    #[test]
    fn an_execute_bit_makes_a_program_of_a_map_without_a_type() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = Dir::new();
        dir.write("map", "a one\n");
        let untyped = dir.source("@/map", Mode::Indirect);
        assert_eq!(ask(&untyped, "a"), "one");
        fs::set_permissions(dir.path("map"), fs::Permissions::from_mode(0o755)).unwrap();
        let error = dir.source("@/map", Mode::Indirect).load().unwrap_err().to_string();
        assert!(error.ends_with("program maps are not supported yet"), "{error}");
        assert!(dir.source("map", Mode::Indirect).load().is_err());
        assert_eq!(ask(&dir.source("file:@/map", Mode::Indirect), "a"), "one");
        assert!(said(&dir, &untyped)[0].contains("program maps are not supported yet"));
        assert_eq!(ask(&untyped, "a"), "one", "what was read before stays in force");
    }

    /// While a map is rewritten all the time, in place and by rename, each answer is from one whole version.
    #[test]
    fn lookups_see_whole_versions_while_a_map_is_rewritten() {
        const LINES: usize = 1000;
        let dir = Dir::new();
        let text = |n: u32| (0..LINES).map(|k| format!("k{k} v{n:08}-{n:08}-{n:08}\n")).collect::<String>();
        dir.write("map", &text(0));
        let source = Arc::new(dir.source("@/map", Mode::Indirect));
        source.load().unwrap();
        let end = Instant::now() + Duration::from_secs(2);
        let asking: Vec<_> = (0..2)
            .map(|me| {
                let source = Arc::clone(&source);
                thread::spawn(move || {
                    let (mut asked, mut newest) = (0, 0);
                    while Instant::now() < end {
                        let version = ask(&source, &format!("k{}", (asked * 7 + me) % LINES));
                        let parts: Vec<u32> = version[1..].split('-').map(|v| v.parse().unwrap()).collect();
                        assert!(parts.len() == 3 && parts.iter().all(|&v| v == parts[0]), "torn: {version}");
                        assert!(parts[0] >= newest, "{} after {newest}", parts[0]);
                        newest = parts[0];
                        assert_eq!(source.keys().len(), LINES);
                        asked += 1;
                    }
                    (asked, newest)
                })
            })
            .collect();
        let mut n = 0;
        while Instant::now() < end {
            n += 1;
            // By rename: a writer in place may be held up in the middle for any time.
            dir.write("new", &text(n));
            fs::rename(dir.path("new"), dir.path("map")).unwrap();
            thread::sleep(Duration::from_millis(u64::from(n % 5) * 15));
        }
        for asked in asking {
            let (asked, newest) = asked.join().unwrap();
            assert!(asked > 0 && newest > 0, "asked {asked} times, saw version {newest} of {n}");
        }
        assert_eq!(ask(&source, "k0"), format!("v{n:08}-{n:08}-{n:08}"));
    }

    /// To be run in a release build.
    #[test]
    #[ignore = "measures"]
    fn a_million_entries_from_disk() {
        let rss = || {
            let statm = fs::read_to_string("/proc/self/statm").unwrap();
            statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
        };
        let dir = Dir::new();
        let line = |n| format!("user{n:07} -rw,soft,intr server{:03}:/export/h\n", n % 100);
        fs::write(dir.path("map"), (0..1_000_000).map(line).collect::<String>()).unwrap();
        let source = dir.source("@/map", Mode::Indirect);
        settle();
        let (before, start) = (rss(), Instant::now());
        source.load().unwrap();
        println!("loaded in {:?}, {} MB more", start.elapsed(), (rss() - before) / 1_000_000);
        for key in ["user0000000", "user0999999", "nobody"] {
            let start = Instant::now();
            for _ in 0..1000 {
                assert!(source.lookup_now(key.as_bytes()).is_some());
            }
            println!("{key}: {:?} each", start.elapsed() / 1000);
        }
    }
}
