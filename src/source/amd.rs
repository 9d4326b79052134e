//! Maps in am-utils format: any map whose keys are searched as am-utils does, and whose entries come with the defaults of
//! the map.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{
    Answer, Ask, Description, Entries, Found, Freshness, MapSource, Pass, SourceError, SourceId, Stale, Waiting,
};
use crate::map::amd::{self, DEFAULTS_KEY};
use crate::map::{RawEntry, SourceKind};

/// Wraps a source whose keys are searched, and whose defaults are applied, as in am-utils.
#[derive(Debug)]
pub struct AmdMap {
    source: Arc<dyn MapSource>,
    /// Prefix of the keys, for a submount.
    prefix: Arc<[u8]>,
    name: Arc<[u8]>,
    kind: Option<SourceKind>,
    /// The entries of `source`, and what of them concerns this map.
    selected: Mutex<Option<(Arc<Entries>, Arc<Entries>)>>,
}

impl AmdMap {
    /// The entries of `source`, a map of this kind called `name`, whose keys begin with `prefix`.
    pub fn new(source: Arc<dyn MapSource>, kind: Option<SourceKind>, name: &[u8], prefix: &[u8]) -> Self {
        Self { source, prefix: prefix.into(), name: name.into(), kind, selected: Mutex::new(None) }
    }

    /// Returns the keys under which an entry for `key` may be found, in the order in which they are tried: the key itself,
    /// `*` in place of its last component, then of the last two, and so on.
    fn candidates(&self, key: &[u8]) -> Vec<Vec<u8>> {
        if key == DEFAULTS_KEY {
            return vec![key.to_vec()];
        }
        let key = [&*self.prefix, key].concat();
        let patterns = memchr::memrchr_iter(b'/', &key).map(|at| [key.get(..at).unwrap_or_default(), b"/*"].concat());
        let patterns: Vec<Vec<u8>> = patterns.collect();
        [vec![key], patterns, vec![b"*".to_vec()]].concat()
    }

    fn is_program(&self) -> bool {
        self.source.id().kind == SourceKind::Program.name()
    }

    /// Searches from memory. `ask` returns `None` if that does not tell.
    fn search(&self, key: &[u8], ask: impl Fn(&[u8]) -> Option<Answer>) -> Option<Answer> {
        for candidate in self.candidates(key) {
            match ask(&candidate)? {
                Answer::NotFound => {}
                Answer::Found(found) => return Some(Answer::Found(self.with_defaults(found, ask(DEFAULTS_KEY)?))),
                unavailable @ Answer::Unavailable(_) => return Some(unavailable),
            }
        }
        Some(Answer::NotFound)
    }

    /// Adds the defaults of the map to an entry.
    fn with_defaults(&self, found: Found, defaults: Answer) -> Found {
        let RawEntry::Text { text, .. } = found.entry else { return found };
        let defaults = match defaults {
            Answer::Found(Found { entry: RawEntry::Text { text, .. }, place, .. }) => Some((text, place)),
            _ => None,
        };
        let (prefix, map) = (Arc::clone(&self.prefix), Arc::clone(&self.name));
        let entry = RawEntry::Amd(Arc::new(amd::Raw { text, defaults, prefix, map, kind: self.kind }));
        Found { entry, ..found }
    }

    /// Returns the keys below the prefix, without it.
    fn select(&self, all: Arc<Entries>) -> Arc<Entries> {
        let mut selected = self.lock();
        if let Some((_, known)) = selected.as_ref().filter(|(of, _)| of.is_same(&all)) {
            return Arc::clone(known);
        }
        let mut keys = Vec::new();
        all.for_each_key(&mut |key| match key.strip_prefix(&*self.prefix) {
            Some(b"" | b"*") | None => {}
            Some(_) if *key == *DEFAULTS_KEY && !self.prefix.is_empty() => {}
            Some(rest) => keys.push(rest.to_vec()),
        });
        let keys = Arc::new(Entries::of_keys(keys));
        *selected = Some((all, Arc::clone(&keys)));
        keys
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Arc<Entries>, Arc<Entries>)>> {
        self.selected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MapSource for AmdMap {
    fn id(&self) -> &SourceId {
        self.source.id()
    }

    fn cached(&self, key: &[u8]) -> Option<Answer> {
        self.search(key, |key| self.source.cached(key))
    }

    fn known(&self, key: &[u8]) -> Option<Answer> {
        self.search(key, |key| self.source.known(key))
    }

    fn lookup<'a>(&'a self, ask: &'a Ask) -> Waiting<'a, Answer> {
        Box::pin(async move {
            for key in self.candidates(&ask.key) {
                // Each key is a walk of its own through the files of the map.
                let candidate = Ask { key: key.into(), pass: Pass::new(ask.pass.deadline), ..ask.clone() };
                match self.source.lookup(&candidate).await {
                    // A program is called for the key only.
                    Answer::NotFound if self.is_program() => break,
                    Answer::NotFound => {}
                    Answer::Found(found) => {
                        let defaults = match self.source.known(DEFAULTS_KEY) {
                            Some(known) => known,
                            None if self.is_program() => Answer::NotFound,
                            None => {
                                let pass = Pass::new(ask.pass.deadline);
                                self.source.lookup(&Ask { key: DEFAULTS_KEY.into(), pass, ..ask.clone() }).await
                            }
                        };
                        return match defaults {
                            // Without them, the entry may mean something else.
                            unavailable @ Answer::Unavailable(_) => unavailable,
                            defaults => Answer::Found(self.with_defaults(found, defaults)),
                        };
                    }
                    unavailable @ Answer::Unavailable(_) => return unavailable,
                }
            }
            Answer::NotFound
        })
    }

    fn entries<'a>(&'a self, pass: &'a Pass) -> Waiting<'a, Result<Arc<Entries>, Arc<SourceError>>> {
        Box::pin(async move { Ok(self.select(self.source.entries(pass).await?)) })
    }

    fn known_entries(&self) -> Option<Arc<Entries>> {
        Some(self.select(self.source.known_entries()?))
    }

    fn freshness(&self) -> Freshness {
        self.source.freshness()
    }

    fn exists(&self) -> bool {
        self.source.exists()
    }

    fn trouble(&self) -> Option<String> {
        self.source.trouble()
    }

    fn is_partial(&self) -> bool {
        self.source.is_partial()
    }

    fn stale(&self) -> Option<Stale> {
        self.source.stale()
    }

    fn describe(&self) -> Description {
        self.source.describe()
    }

    fn forget(&self) {
        self.source.forget();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::map::{Format, SourceSpec};
    use crate::source::{Environment, Mode, Names, Notices, Readers, open_below};

    /// Opens a map with this text, for a mount point or for a submount.
    fn opened(text: &str, prefix: &[u8]) -> (tempfile::TempDir, Arc<dyn MapSource>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("amd.map");
        std::fs::write(&path, text).unwrap();
        let environment = Environment {
            names: Arc::new(Names::default()),
            readers: Readers::new(2),
            programs: crate::source::Programs::of_tests(),
            notices: Arc::new(Notices::keep()),
            lookups: Arc::default(),
            servers: Arc::new(crate::source::Servers::with_hosts(1)),
        };
        let mut spec = SourceSpec::parse(&[b"file,amd:", path.as_os_str().as_encoded_bytes()].concat()).unwrap();
        spec.format = Some(Format::Amd);
        let source = open_below(&spec, Mode::Indirect, prefix, &Arc::new(environment));
        (dir, source)
    }

    fn shown(answer: Answer) -> String {
        let Answer::Found(Found { entry: RawEntry::Amd(raw), place, .. }) = answer else { return "-".to_owned() };
        let defaults = raw.defaults.as_ref().map(|(text, _)| String::from_utf8_lossy(text).into_owned());
        let text = String::from_utf8_lossy(&raw.text).into_owned();
        format!("{}:{} {text} / {}", place.line, place.column, defaults.unwrap_or_default())
    }

    async fn look_up(source: &Arc<dyn MapSource>, key: &str) -> String {
        let looked_up = shown(source.lookup(&Ask::new(key.as_bytes(), Instant::now() + Duration::from_secs(20))).await);
        let known = source.known(key.as_bytes()).map(shown);
        assert_eq!(known.as_deref(), Some(&*looked_up), "memory says the same");
        looked_up
    }

    const MAP: &str =
        "/defaults type:=link\na fs:=/a\ns type:=auto\ns/k fs:=/k\ns/t/* fs:=/t\ns/* fs:=/s\n* fs:=/w\n/x fs:=/x\n";

    #[tokio::test]
    async fn keys_are_searched_from_the_longest_to_the_shortest_pattern() {
        let (_dir, source) = opened(MAP, b"");
        for (key, want) in [
            ("a", "2:3 fs:=/a / type:=link"),
            ("b", "7:3 fs:=/w / type:=link"),
            ("s/k", "4:5 fs:=/k / type:=link"),
            ("s/q", "6:5 fs:=/s / type:=link"),
            ("s/t/q", "5:7 fs:=/t / type:=link"),
            ("s/u/q", "6:5 fs:=/s / type:=link"),
        ] {
            assert_eq!(look_up(&source, key).await, want, "{key}");
        }
        let (_dir, source) = opened("/defaults type:=link\na fs:=/a\n", b"");
        assert_eq!(look_up(&source, "b").await, "-");
    }

    #[tokio::test]
    async fn a_submount_has_the_keys_with_its_prefix() {
        let (_dir, source) = opened(MAP, b"s/");
        assert_eq!(look_up(&source, "k").await, "4:5 fs:=/k / type:=link");
        assert_eq!(look_up(&source, "t/x").await, "5:7 fs:=/t / type:=link");
        assert_eq!(look_up(&source, "a").await, "6:5 fs:=/s / type:=link");
        let entries = source.known_entries().unwrap();
        assert_eq!(entries.keys(), [&b"k"[..], b"t/*"]);
        assert!(Arc::ptr_eq(&entries, &source.known_entries().unwrap()), "nothing is copied again");
    }

    #[tokio::test]
    async fn what_can_be_browsed_has_no_slash() {
        let (_dir, source) = opened(MAP, b"");
        let entries = source.entries(&Pass::new(Instant::now() + Duration::from_secs(20))).await.unwrap();
        let mut shown = Vec::new();
        entries.for_each_shown_key(&mut |key| shown.push(key.into_owned()));
        assert_eq!(shown, [&b"a"[..], b"s"]);
        assert_eq!(entries.keys(), [&b"/defaults"[..], b"a", b"s", b"s/k", b"s/t/*", b"s/*"]);
    }
}
