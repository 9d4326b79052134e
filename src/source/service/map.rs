//! A map of a directory service.
//!
//! The service is asked for every key, so that a change there counts at once. What it has said is remembered, and serves
//! while it does not answer; after a start, this is what the [map cache](super::map_cache) has.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use log::warn;
use tokio::sync::{OnceCell, mpsc};
use tokio::time::{Instant, timeout};

use super::{DirectoryService, Lookups};
use crate::directory::protocol::Trouble;
use crate::directory::{Map, Pair, Question, Reply, Scope};
use crate::map::{Format, Provider, RawEntry, SourceKind, SourceSpec, key};
use crate::mutex::lock;
use crate::source::{
    Answer, Ask, Description, Entries, Environment, Found, Freshness, Index, MapSource, Mode, Notices, Pass,
    SourceError, SourceId, Stale, Waiting,
};
use crate::sys::clock;
use crate::text::Position;

/// Keys remembered at most. When there are more, all are forgotten.
const KEPT_MAX: usize = 10_000;

/// How long a service that has not answered since the start, or not when it was asked last, is waited for before the map
/// cache serves in its place.
const CACHE_AFTER: Duration = Duration::from_secs(2);

/// How often a map that has not changed is given to the map cache.
const HOUR: Duration = Duration::from_secs(3600);

/// Returns how long a service is waited for where the map cache may serve in its place.
fn time_limit(deadline: Instant) -> Duration {
    CACHE_AFTER.min(deadline.saturating_duration_since(Instant::now()) / 2)
}

/// A map of a directory service.
#[derive(Debug, Clone)]
pub struct ServiceMap(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    id: SourceId,
    service: DirectoryService,
    map: Map,
    mode: Mode,
    /// The language of entries: Sun's, or Hesiod's.
    format: Format,
    lookups: Arc<Lookups>,
    notices: Arc<Notices>,
    /// Stands for the map in diagnostics: `type:name`.
    place: Position,
    state: Mutex<State>,
    /// Some key or map was asked for, and the service has answered.
    answered: AtomicBool,
    /// The map cache was looked at.
    recalled: OnceCell<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Entries that were asked for by their keys. `None`: the service has no such key, while `index` has.
    entries: HashMap<Arc<[u8]>, Option<Vec<u8>>>,
    /// All entries, if they were read.
    index: Option<Arc<Index>>,
    /// `index` is from the map cache.
    is_recalled: bool,
    /// The service was not able to answer when it was asked last.
    stale: Option<Stale>,
    /// When the service has answered last, in seconds since 1970.
    answered_at: u64,
    /// When `index` was given to the map cache.
    stored: Option<Instant>,
    /// The version of the map, asked before `index` was read.
    version: Option<Vec<u8>>,
    /// Keys of a direct map that the service writes with slashes too many, by the paths that they mean.
    respelt: HashMap<Vec<u8>, Vec<u8>>,
}

impl ServiceMap {
    /// The map of a service that `spec` names, written with the type `kind`. Nothing is asked yet.
    pub(in crate::source) fn new(
        service: DirectoryService,
        kind: SourceKind,
        spec: &SourceSpec,
        mode: Mode,
        environment: &Arc<Environment>,
    ) -> Self {
        let name = spec.name.as_slice();
        let format = match (service, spec.format) {
            // The lookup process for Hesiod has read the records.
            (DirectoryService::Hesiod, _) => Format::Sun,
            (_, Some(Format::Hesiod)) => Format::Hesiod,
            _ => Format::Sun,
        };
        let scope = match mode {
            Mode::Indirect | Mode::Amd => Scope::Indirect,
            Mode::Direct => Scope::Direct,
        };
        Self(Arc::new(Shared {
            id: SourceId { kind: kind.name(), name: name.into() },
            service,
            map: Map { secure: kind == SourceKind::Ldaps, scope, name: name.to_vec() },
            mode,
            format,
            lookups: Arc::clone(&environment.lookups),
            notices: Arc::clone(&environment.notices),
            place: place(kind, name),
            state: Mutex::default(),
            answered: AtomicBool::new(false),
            recalled: OnceCell::new(),
        }))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn found(&self, text: Vec<u8>, holds: Option<u32>) -> Found {
        let fresh_for = holds.map(|seconds| Duration::from_secs(seconds.into()));
        let entry = RawEntry::Text { format: self.format, text };
        Found { fresh_for, provider: self.provider(), ..Found::new(entry, self.place.clone()) }
    }

    fn provider(&self) -> Provider {
        match self.service {
            DirectoryService::Ldap => Provider::Ldap,
            DirectoryService::Nis => Provider::Nis,
            DirectoryService::Sss => Provider::Sss,
            DirectoryService::Hesiod => Provider::Hesiod,
        }
    }

    fn error(&self, trouble: Trouble, reason: &str) -> Arc<SourceError> {
        let text = || format!("{} cannot be read: {reason}", self.id).into();
        Arc::new(match trouble {
            Trouble::Unavailable => SourceError::Unavailable(text()),
            Trouble::Unusable => SourceError::Unusable(text()),
            Trouble::NotRunning => SourceError::NotRunning(text()),
            Trouble::NoMap => SourceError::NotFound { name: self.id.name.to_vec() },
        })
    }

    fn lost(&self) -> Arc<SourceError> {
        self.error(Trouble::Unavailable, "its lookup process has ended")
    }

    fn silent(&self) -> Arc<SourceError> {
        self.error(Trouble::Unavailable, "the service does not answer")
    }

    fn ask(&self, question: Question, deadline: Instant) -> mpsc::UnboundedReceiver<Reply> {
        self.lookups.ask(self.service, self.map.clone(), question, deadline)
    }

    /// The entry of a key, as the service said before.
    fn remembered(&self, key: &[u8]) -> Option<Found> {
        let state = self.lock();
        if let Some(known) = state.entries.get(key) {
            return known.clone().map(|text| self.found(text, None));
        }
        let index = state.index.as_ref()?;
        // The service is asked for * only, never for the names of users.
        let found = index.entry_or_wildcard(index.find(key), key, &|| Some(false)).unwrap_or_default();
        found.map(|found| Found { provider: self.provider(), ..found })
    }

    /// Notes that the service has answered.
    fn note_answer(&self, state: &mut State) {
        self.answered.store(true, Ordering::Relaxed);
        state.answered_at = clock::since_1970();
        if !state.is_recalled {
            state.stale = None;
        }
    }

    /// Notes what the service has said of a key.
    fn note(&self, key: &Arc<[u8]>, text: Option<&[u8]>) {
        let mut state = self.lock();
        self.note_answer(&mut state);
        let known = state.entries.get(key).map(|known| known.as_deref() == text);
        let is_listed = |index: &Arc<Index>| index.find(key).is_some() || !index.wildcards().is_empty();
        let in_list = state.index.as_ref().is_some_and(is_listed);
        // Without a list, an earlier process may have stored the key.
        let is_news = known.map_or_else(|| text.is_some() || in_list || state.index.is_none(), |same| !same);
        if text.is_none() && !in_list {
            state.entries.remove(key);
        } else {
            if state.entries.len() >= KEPT_MAX && known.is_none() {
                state.entries.clear();
            }
            state.entries.insert(Arc::clone(key), text.map(<[u8]>::to_vec));
        }
        drop(state);
        if is_news {
            self.lookups.store_key(self.service, &self.map, key, text);
        }
    }

    /// Notes that the service was not able to answer, and something older serves.
    fn note_failure(&self, why: &SourceError) {
        let mut state = self.lock();
        let since = state.answered_at;
        state.stale = Some(Stale { since, reason: why.to_string().into() });
    }

    /// Returns whether the service is likely not to answer.
    fn is_doubtful(&self) -> bool {
        self.lookups.has_cache() && (!self.exists() || self.lock().stale.is_some())
    }

    fn exists(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Learns what the map cache has, once. What the service has said itself counts more.
    async fn recall(&self, why: &SourceError) {
        let recall = || async {
            let Some(stored) = self.lookups.stored(self.service, &self.map).await else { return };
            let index = stored.whole.and_then(|text| Index::build(&self.place.file, text, self.mode));
            let mut state = self.lock();
            if let Some(index) = index.filter(|_| state.index.is_none()) {
                (state.index, state.is_recalled) = (Some(Arc::new(index)), true);
            }
            for (key, entry) in stored.keys {
                state.entries.entry(key.into()).or_insert(entry);
            }
            if state.answered_at == 0 {
                state.answered_at = stored.at;
            }
            self.answered.store(true, Ordering::Relaxed);
            warn!("{why}: until then, what it said before serves from the map cache");
        };
        if why.may_pass() && self.lookups.has_cache() {
            self.recalled.get_or_init(recall).await;
        }
    }

    async fn read_all(&self, deadline: Instant) -> Result<Arc<Entries>, Arc<SourceError>> {
        let version = match version(&self.lookups, self.service, &self.map, deadline).await {
            Ok(version) => version,
            Err((trouble, reason)) => return Err(self.failed(trouble, &reason)),
        };
        if let Some(entries) = self.unchanged(version.as_deref()) {
            return Ok(entries);
        }
        let read = all(&self.lookups, self.service, &self.map, deadline).await;
        let (pairs, truncated) = read.map_err(|(trouble, reason)| self.failed(trouble, &reason))?;
        if truncated && self.mode == Mode::Direct {
            let reason = "the server does not give all of its entries: raise its size limit for automount";
            self.answered.store(true, Ordering::Relaxed);
            return Err(self.error(Trouble::Unavailable, reason));
        }
        let text = text(&pairs, true);
        let mut state = self.lock();
        let is_new = state.index.as_ref().is_none_or(|old| old.text() != text);
        if is_new {
            let index = Index::build(&self.place.file, text, self.mode);
            let too_long = || self.error(Trouble::Unavailable, "it has too many entries");
            state.index = Some(Arc::new(index.ok_or_else(too_long)?));
        }
        (state.version, state.respelt) =
            (version, if self.mode == Mode::Direct { respelt(&pairs) } else { HashMap::new() });
        let was_recalled = std::mem::take(&mut state.is_recalled);
        self.note_answer(&mut state);
        // What was asked by key may be older than this.
        state.entries.clear();
        let index = Arc::clone(state.index.as_ref().ok_or_else(|| self.lost())?);
        let is_due = is_new || was_recalled || state.stored.is_none_or(|at| at.elapsed() >= HOUR);
        if is_due && self.lookups.has_cache() {
            state.stored = Some(Instant::now());
            drop(state);
            self.lookups.store_all(self.service, &self.map, index.text());
        }
        Ok(Arc::new(Entries::of_file(&index)))
    }

    fn failed(&self, trouble: Trouble, reason: &str) -> Arc<SourceError> {
        if trouble == Trouble::NoMap {
            self.lookups.store_gone(self.service, &self.map);
        }
        self.error(trouble, reason)
    }

    /// Returns the entries that were read last, if the map still has the version that it had then.
    fn unchanged(&self, version: Option<&[u8]>) -> Option<Arc<Entries>> {
        let mut state = self.lock();
        let is_same = version.is_some() && state.version.as_deref() == version && !state.is_recalled;
        let index = state.index.clone().filter(|_| is_same)?;
        self.note_answer(&mut state);
        Some(Arc::new(Entries::of_file(&index)))
    }

    /// Returns the entries of the map cache, if it has them.
    async fn recalled_entries(&self, why: &SourceError) -> Option<Arc<Entries>> {
        self.recall(why).await;
        let index = Some(self.lock()).filter(|state| state.is_recalled).and_then(|state| state.index.clone())?;
        self.note_failure(why);
        Some(Arc::new(Entries::of_file(&index)))
    }
}

impl ServiceMap {
    /// Asks for one key. Where the service is likely not to answer, its answer is waited for only for a moment if an older one
    /// is known; it still counts when it comes.
    async fn look_up(&self, key: &Arc<[u8]>, deadline: Instant) -> Answer {
        let shared = &self.0;
        let asked = shared.lock().respelt.get(&**key).cloned().unwrap_or_else(|| key.to_vec());
        let mut replies = shared.ask(Question::Lookup(asked), deadline);
        let in_time =
            if shared.is_doubtful() { timeout(time_limit(deadline), replies.recv()).await.ok() } else { None };
        let reply = match in_time {
            Some(reply) => reply,
            None if shared.is_doubtful() => {
                let silent = shared.silent();
                shared.recall(&silent).await;
                if let Some(found) = shared.remembered(key) {
                    shared.note_failure(&silent);
                    let (shared, key) = (Arc::clone(shared), Arc::clone(key));
                    tokio::spawn(async move {
                        match replies.recv().await {
                            Some(Reply::Found { entry, .. }) => shared.note(&key, Some(&entry)),
                            Some(Reply::NotFound) => shared.note(&key, None),
                            _ => {}
                        }
                    });
                    return Answer::Found(found).stale();
                }
                replies.recv().await
            }
            None => replies.recv().await,
        };
        let failed = match reply {
            Some(Reply::Found { entry, holds }) => {
                shared.note(key, Some(&entry));
                return Answer::Found(shared.found(entry, holds));
            }
            Some(Reply::NotFound) => {
                shared.note(key, None);
                return Answer::NotFound;
            }
            Some(Reply::Failed(trouble, reason)) => shared.error(trouble, &reason),
            _ => shared.lost(),
        };
        // It is better served as it was than not at all.
        shared.recall(&failed).await;
        match shared.remembered(key) {
            Some(found) => {
                shared.note_failure(&failed);
                Answer::Found(found).stale()
            }
            None => Answer::Unavailable(failed),
        }
    }

    /// Reads all entries, or takes those of the map cache if nothing was read since the start and the service does not answer
    /// soon. What it says later is used at the next reload, which is then begun.
    async fn read(&self, deadline: Instant) -> Result<Arc<Entries>, Arc<SourceError>> {
        let shared = &self.0;
        let is_first = {
            let state = shared.lock();
            state.index.is_none() || state.is_recalled
        };
        if !is_first || !shared.lookups.has_cache() {
            return shared.read_all(deadline).await;
        }
        let is_late = Arc::new(AtomicBool::new(false));
        let mut reading = {
            let (shared, is_late) = (Arc::clone(shared), Arc::clone(&is_late));
            tokio::spawn(async move {
                let read = shared.read_all(deadline).await;
                if read.is_ok() && is_late.load(Ordering::Relaxed) {
                    shared.notices.late_work_ended();
                }
                read
            })
        };
        let read = match timeout(time_limit(deadline), &mut reading).await {
            Ok(read) => read,
            Err(_) => {
                is_late.store(true, Ordering::Relaxed);
                if let Some(entries) = shared.recalled_entries(&shared.silent()).await {
                    return Ok(entries);
                }
                reading.await
            }
        };
        match read {
            Ok(Ok(entries)) => Ok(entries),
            Ok(Err(error)) => shared.recalled_entries(&error).await.ok_or(error),
            Err(_) => Err(shared.lost()),
        }
    }
}

/// The place of the entries of a map.
pub(super) fn place(kind: SourceKind, name: &[u8]) -> Position {
    let name = [kind.name().as_bytes(), b":", name].concat();
    Position::whole(Path::new(OsStr::from_bytes(&name)))
}

/// Asks for all entries of a map. Returns whether the service has more than it gives.
pub(super) async fn all(
    lookups: &Lookups,
    service: DirectoryService,
    map: &Map,
    deadline: tokio::time::Instant,
) -> Result<(Vec<Pair>, bool), (Trouble, String)> {
    let mut replies = lookups.ask(service, map.clone(), Question::Entries, deadline);
    let mut pairs = Vec::new();
    loop {
        match replies.recv().await {
            Some(Reply::Entries(some)) => pairs.extend(some),
            Some(Reply::End { truncated }) => return Ok((pairs, truncated)),
            Some(Reply::Failed(trouble, reason)) => return Err((trouble, reason)),
            Some(Reply::Ready | Reply::Found { .. } | Reply::NotFound) | None => {
                return Err((Trouble::Unavailable, "its lookup process has ended".to_owned()));
            }
        }
    }
}

/// Asks for the version of a map. Returns `None` if the service has no versions.
pub(super) async fn version(
    lookups: &Lookups,
    service: DirectoryService,
    map: &Map,
    deadline: Instant,
) -> Result<Option<Vec<u8>>, (Trouble, String)> {
    match lookups.ask(service, map.clone(), Question::Version, deadline).recv().await {
        Some(Reply::Found { entry, .. }) => Ok(Some(entry)),
        Some(Reply::NotFound) => Ok(None),
        Some(Reply::Failed(trouble, reason)) => Err((trouble, reason)),
        _ => Err((Trouble::Unavailable, "its lookup process has ended".to_owned())),
    }
}

/// The entries as the text of a map file. With `escaped`, keys are written so that they are read as they are.
pub(super) fn text(pairs: &[Pair], escaped: bool) -> Vec<u8> {
    let mut text = Vec::new();
    for (key, entry) in pairs {
        if key.is_empty() || key.iter().any(u8::is_ascii_control) || entry.contains(&0) {
            continue;
        }
        for (at, &b) in key.iter().enumerate() {
            let is_first = at == 0 && (matches!(b, b'#' | b'+') || b == b'*' && key.len() > 1);
            if escaped && (is_first || matches!(b, b' ' | b'"' | b'\\')) {
                text.push(b'\\');
            }
            text.push(b);
        }
        text.push(b' ');
        text.extend(entry.iter().map(|&b| if matches!(b, b'\n' | b'\r') { b' ' } else { b }));
        // A backslash at the end would join the next line.
        text.extend_from_slice(if entry.ends_with(b"\\") { b" \n" } else { b"\n" });
    }
    text
}

/// Returns the keys with slashes too many, by the paths that they mean.
fn respelt(pairs: &[Pair]) -> HashMap<Vec<u8>, Vec<u8>> {
    let has_more = |text: &[u8]| text.len() > 1 && text.ends_with(b"/") || text.windows(2).any(|pair| pair == b"//");
    let path = |text: &[u8]| key::unescape(text).ok().map(|path| (path.into_owned(), text.to_vec()));
    pairs.iter().filter(|(key, _)| has_more(key)).filter_map(|(key, _)| path(key)).collect()
}

impl MapSource for ServiceMap {
    fn id(&self) -> &SourceId {
        &self.0.id
    }

    fn cached(&self, _: &[u8]) -> Option<Answer> {
        None
    }

    fn known(&self, key: &[u8]) -> Option<Answer> {
        if !self.exists() {
            return None;
        }
        Some(self.0.remembered(key).map_or(Answer::NotFound, Answer::Found))
    }

    fn prepare<'a>(&'a self, pass: &'a Pass) -> Waiting<'a, Result<(), Arc<SourceError>>> {
        Box::pin(async move {
            let failed = match self.0.ask(Question::Ready, pass.deadline).recv().await {
                Some(Reply::Ready) => return Ok(()),
                Some(Reply::Failed(trouble, reason)) => self.0.error(trouble, &reason),
                _ => self.0.lost(),
            };
            self.0.recall(&failed).await;
            if failed.may_pass() && self.0.recalled.initialized() && self.exists() {
                self.0.note_failure(&failed);
                return Ok(());
            }
            Err(failed)
        })
    }

    fn lookup<'a>(&'a self, ask: &'a Ask) -> Waiting<'a, Answer> {
        Box::pin(self.look_up(&ask.key, ask.pass.deadline))
    }

    fn entries<'a>(&'a self, pass: &'a Pass) -> Waiting<'a, Result<Arc<Entries>, Arc<SourceError>>> {
        Box::pin(self.read(pass.deadline))
    }

    fn known_entries(&self) -> Option<Arc<Entries>> {
        self.0.lock().index.as_ref().map(|index| Arc::new(Entries::of_file(index)))
    }

    fn freshness(&self) -> Freshness {
        Freshness::MayHaveChanged
    }

    fn exists(&self) -> bool {
        self.0.exists()
    }

    fn is_partial(&self) -> bool {
        self.0.lock().is_recalled
    }

    fn stale(&self) -> Option<Stale> {
        self.0.lock().stale.clone()
    }

    fn describe(&self) -> Description {
        Description { kind: Some(self.0.id.kind), instances: Vec::new(), map: self.0.id.name.to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_with_slashes_too_many_are_asked_for_as_they_are_written() {
        let pairs = ["/d/a", "/d/b/", "/d//c", "/"].map(|key| (key.as_bytes().to_vec(), Vec::new()));
        let mut respelt: Vec<_> = respelt(&pairs).into_iter().collect();
        respelt.sort();
        assert_eq!(respelt, [(b"/d/b".to_vec(), b"/d/b/".to_vec()), (b"/d/c".to_vec(), b"/d//c".to_vec())]);
    }

    #[test]
    fn entries_read_as_a_file_are_what_the_service_has() {
        let pairs: Vec<Pair> = [
            ("a b", "-ro :/x"),
            ("b\\c", ":/srv/b"),
            ("#x", "srv:/x"),
            ("*", ":/srv/&"),
            ("*y", "a\nb"),
            ("q\"", "c\\"),
            ("z", "last"),
            ("bad\n", "x"),
        ]
        .map(|(key, entry)| (key.as_bytes().to_vec(), entry.as_bytes().to_vec()))
        .into();
        let index = Index::build(&Path::new("ldap:m").into(), text(&pairs, true), Mode::Indirect).unwrap();
        assert_eq!(index.diagnostics(), []);
        let entry = |key: &str| index.entry(index.find(key.as_bytes()).unwrap()).unwrap().text;
        for (key, text) in
            [("a b", "-ro :/x"), ("b\\c", ":/srv/b"), ("#x", "srv:/x"), ("*y", "a b"), ("q\"", "c\\ "), ("z", "last")]
        {
            assert_eq!(entry(key), text.as_bytes(), "{key}");
        }
        assert_eq!(index.entry(index.wildcards()[0].offset).unwrap().text, b":/srv/&");
        assert_eq!(index.len(), 6);
    }
}
