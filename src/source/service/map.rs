//! A map of a directory service.
//!
//! The service is asked for every key, so that a change there counts at once. What it has said is remembered, and serves
//! while it does not answer.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::{DirectoryService, Lookups};
use crate::directory::protocol::Trouble;
use crate::directory::{Map, Pair, Question, Reply, Scope};
use crate::map::{Format, Provider, RawEntry, SourceKind};
use crate::source::{
    Answer, Ask, Description, Entries, Environment, Found, Freshness, Index, MapSource, Mode, Pass, SourceError,
    SourceId, Waiting,
};
use crate::text::Position;

/// Keys remembered at most. When there are more, all are forgotten.
const KEPT_MAX: usize = 10_000;

/// A map of a directory service.
#[derive(Debug)]
pub struct ServiceMap {
    id: SourceId,
    service: DirectoryService,
    map: Map,
    mode: Mode,
    lookups: Arc<Lookups>,
    /// Stands for the map in diagnostics: `type:name`.
    place: Position,
    state: Mutex<State>,
    /// Some key or map was asked for, and the service has answered.
    answered: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Entries that were asked for by their keys.
    entries: HashMap<Arc<[u8]>, Vec<u8>>,
    /// All entries, if they were read.
    index: Option<Arc<Index>>,
}

impl ServiceMap {
    /// The map `name` of a service, written with the type `kind`. Nothing is asked yet.
    pub(in crate::source) fn new(
        service: DirectoryService,
        kind: SourceKind,
        name: &[u8],
        mode: Mode,
        environment: &Arc<Environment>,
    ) -> Self {
        let scope = match mode {
            Mode::Indirect | Mode::Amd => Scope::Indirect,
            Mode::Direct => Scope::Direct,
        };
        let id = SourceId { kind: kind.name(), name: name.into() };
        let map = Map { secure: kind == SourceKind::Ldaps, scope, name: name.to_vec() };
        let (lookups, place) = (Arc::clone(&environment.lookups), place(kind, name));
        Self { id, service, map, mode, lookups, place, state: Mutex::default(), answered: AtomicBool::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(&self, text: Vec<u8>, holds: Option<u32>) -> Found {
        let fresh_for = holds.map(|seconds| Duration::from_secs(seconds.into()));
        let entry = RawEntry::Text { format: Format::Sun, text };
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

    /// The entry of a key, as the service said before.
    fn remembered(&self, key: &[u8]) -> Option<Found> {
        let state = self.lock();
        if let Some(text) = state.entries.get(key) {
            return Some(self.found(text.clone(), None));
        }
        let index = state.index.as_ref()?;
        // The service is asked for * only, never for the names of users.
        let found = index.entry_or_wildcard(index.find(key), key, &|| Some(false)).unwrap_or_default();
        found.map(|found| Found { provider: self.provider(), ..found })
    }

    fn note(&self, key: &Arc<[u8]>, text: Option<&[u8]>) {
        self.answered.store(true, Ordering::Relaxed);
        let mut state = self.lock();
        match text {
            None => drop(state.entries.remove(key)),
            Some(text) => {
                if state.entries.len() >= KEPT_MAX && !state.entries.contains_key(key) {
                    state.entries.clear();
                }
                state.entries.insert(Arc::clone(key), text.to_vec());
            }
        }
    }

    async fn read_all(&self, deadline: tokio::time::Instant) -> Result<Arc<Entries>, Arc<SourceError>> {
        let (pairs, truncated) = all(&self.lookups, self.service, &self.map, deadline)
            .await
            .map_err(|(trouble, reason)| self.error(trouble, &reason))?;
        self.answered.store(true, Ordering::Relaxed);
        if truncated && self.mode == Mode::Direct {
            let reason = "the server does not give all of its entries: raise its size limit for automount";
            return Err(self.error(Trouble::Unavailable, reason));
        }
        let text = text(&pairs, true);
        let mut state = self.lock();
        if state.index.as_ref().is_none_or(|old| old.text() != text) {
            let index = Index::build(&self.place.file, text, self.mode);
            let too_long = || self.error(Trouble::Unavailable, "it has too many entries");
            state.index = Some(Arc::new(index.ok_or_else(too_long)?));
        }
        // What was asked by key may be older than this.
        state.entries.clear();
        state.index.as_ref().map(|index| Arc::new(Entries::of_file(index))).ok_or_else(|| self.lost())
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

impl MapSource for ServiceMap {
    fn id(&self) -> &SourceId {
        &self.id
    }

    fn cached(&self, _: &[u8]) -> Option<Answer> {
        None
    }

    fn known(&self, key: &[u8]) -> Option<Answer> {
        if !self.exists() {
            return None;
        }
        Some(self.remembered(key).map_or(Answer::NotFound, Answer::Found))
    }

    fn prepare<'a>(&'a self, pass: &'a Pass) -> Waiting<'a, Result<(), Arc<SourceError>>> {
        Box::pin(async move {
            let mut replies = self.lookups.ask(self.service, self.map.clone(), Question::Ready, pass.deadline);
            match replies.recv().await {
                Some(Reply::Ready) => Ok(()),
                Some(Reply::Failed(trouble, reason)) => Err(self.error(trouble, &reason)),
                _ => Err(self.lost()),
            }
        })
    }

    fn lookup<'a>(&'a self, ask: &'a Ask) -> Waiting<'a, Answer> {
        Box::pin(async move {
            let question = Question::Lookup(ask.key.to_vec());
            let mut replies = self.lookups.ask(self.service, self.map.clone(), question, ask.pass.deadline);
            let failed = match replies.recv().await {
                Some(Reply::Found { entry, holds }) => {
                    self.note(&ask.key, Some(&entry));
                    return Answer::Found(self.found(entry, holds));
                }
                Some(Reply::NotFound) => {
                    self.note(&ask.key, None);
                    return Answer::NotFound;
                }
                Some(Reply::Failed(trouble, reason)) => self.error(trouble, &reason),
                _ => self.lost(),
            };
            // It is better served as it was than not at all.
            match self.remembered(&ask.key) {
                Some(found) => Answer::Found(found).stale(),
                None => Answer::Unavailable(failed),
            }
        })
    }

    fn entries<'a>(&'a self, pass: &'a Pass) -> Waiting<'a, Result<Arc<Entries>, Arc<SourceError>>> {
        Box::pin(self.read_all(pass.deadline))
    }

    fn known_entries(&self) -> Option<Arc<Entries>> {
        self.lock().index.as_ref().map(|index| Arc::new(Entries::of_file(index)))
    }

    fn freshness(&self) -> Freshness {
        Freshness::MayHaveChanged
    }

    fn exists(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    fn describe(&self) -> Description {
        Description { kind: Some(self.id.kind), instances: Vec::new(), map: self.id.name.to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
