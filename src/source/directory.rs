//! A directory of maps: the files `*.autofs` in it, in the order of versions, each a map file. The first that has a key
//! answers for it.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use super::file::{Seen, Trail};
use super::master::directory;
use super::{
    Answer, Ask, Bounded, Bounds, Description, Entries, Environment, FileMap, Flight, Freshness, MapSource, Mode,
    Origin, Pass, SourceError, SourceId, Waiting,
};
use crate::mutex::lock;

/// A directory whose files make up one map.
#[derive(Debug)]
pub struct DirectoryMap {
    directory: Arc<Directory>,
}

#[derive(Debug)]
struct Directory {
    id: SourceId,
    path: Arc<Path>,
    mode: Mode,
    trail: Trail,
    environment: Arc<Environment>,
    state: Mutex<Arc<State>>,
    listing: Flight,
}

/// State of the directory; replaced as a whole.
#[derive(Debug, Default)]
struct State {
    /// By what a change of the directory is recognized.
    seen: Seen,
    files: Vec<(Arc<Path>, Arc<dyn MapSource>)>,
    exists: bool,
    trouble: Option<Arc<SourceError>>,
}

impl DirectoryMap {
    /// The maps in the directory `path`. Nothing is read yet.
    pub(super) fn new(path: Arc<Path>, mode: Mode, trail: Trail, environment: &Arc<Environment>) -> Self {
        let id = SourceId { kind: "dir", name: path.as_os_str().as_bytes().into() };
        let environment = Arc::clone(environment);
        let (state, listing) = (Mutex::default(), Flight::default());
        Self { directory: Arc::new(Directory { id, path, mode, trail, environment, state, listing }) }
    }
}

impl Directory {
    fn lock(&self) -> MutexGuard<'_, Arc<State>> {
        lock(&self.state)
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.lock())
    }

    /// Brings the list of files up to date. May wait.
    async fn refresh(self: &Arc<Self>) {
        if self.state().is_current(&self.path) {
            return;
        }
        let this = Arc::clone(self);
        let list = |number| async move {
            let (readers, path) = (this.environment.readers.clone(), Arc::clone(&this.path));
            let listed = readers.run(move || directory::list(&path)).await;
            let listed = listed.unwrap_or_else(|_| Err(SourceError::TooManyHang { path: Arc::clone(&this.path) }));
            let mut state = this.lock();
            if this.listing.is_latest(number) {
                *state = Arc::new(this.after(&state, listed));
            }
        };
        self.listing.join(list).await;
    }

    /// The state after a listing.
    fn after(&self, old: &State, listed: Result<directory::Listing, SourceError>) -> State {
        let files = |names: Vec<Arc<Path>>| {
            let open = |path: Arc<Path>| -> Arc<dyn MapSource> {
                let (trail, notices) = (Arc::clone(&self.trail), &self.environment.notices);
                let map = FileMap::new(path, self.mode, Origin::Typed, trail, &self.environment);
                Arc::new(Bounded::new(Arc::new(map), Bounds::default(), notices))
            };
            let known = |path: &Path| old.files.iter().find(|(p, _)| **p == *path).map(|(_, map)| Arc::clone(map));
            names.into_iter().map(|path| (Arc::clone(&path), known(&path).unwrap_or_else(|| open(path)))).collect()
        };
        match listed {
            Ok(listing) => State { seen: listing.seen, files: files(listing.files), exists: true, trouble: None },
            // The files that were there stay in force.
            Err(error) => State {
                seen: Seen::Unknown,
                files: old.files.clone(),
                exists: old.exists,
                trouble: Some(Arc::new(error)),
            },
        }
    }
}

impl State {
    fn is_current(&self, path: &Path) -> bool {
        !self.seen.may_differ(path)
    }

    fn search(&self, ask: impl Fn(&dyn MapSource) -> Option<Answer>) -> Option<Answer> {
        let mut last = Answer::NotFound;
        for (_, file) in &self.files {
            match ask(&**file)? {
                Answer::NotFound => {}
                Answer::Unavailable(why) => last = Answer::Unavailable(why),
                found @ Answer::Found(_) => return Some(found),
            }
        }
        Some(last)
    }

    fn known_entries(&self) -> Entries {
        let mut all = Entries::default();
        self.files.iter().filter_map(|(_, file)| file.known_entries()).for_each(|entries| all.add(entries));
        all
    }
}

impl MapSource for DirectoryMap {
    fn id(&self) -> &SourceId {
        &self.directory.id
    }

    fn cached(&self, key: &[u8]) -> Option<Answer> {
        let state = self.directory.state();
        if !state.is_current(&self.directory.path) {
            return None;
        }
        state.search(|source| source.cached(key))
    }

    fn known(&self, key: &[u8]) -> Option<Answer> {
        let state = self.directory.state();
        if !state.exists {
            return None;
        }
        state.search(|source| Some(source.known(key).unwrap_or(Answer::NotFound)))
    }

    fn lookup<'a>(&'a self, ask: &'a Ask) -> Waiting<'a, Answer> {
        Box::pin(async move {
            self.directory.refresh().await;
            let state = self.directory.state();
            let mut last = match &state.trouble {
                Some(error) if state.exists || error.is_transient() => Answer::Unavailable(Arc::clone(error)),
                _ => Answer::NotFound,
            };
            for (_, file) in &state.files {
                match file.lookup(&ask.part()).await {
                    Answer::NotFound => {}
                    Answer::Unavailable(why) => last = Answer::Unavailable(why),
                    found @ Answer::Found(_) => return found,
                }
            }
            last
        })
    }

    /// Puts the entries of all files together; files that cannot be read are left out.
    fn entries<'a>(&'a self, pass: &'a Pass) -> Waiting<'a, Result<Arc<Entries>, Arc<SourceError>>> {
        Box::pin(async move {
            self.directory.refresh().await;
            let state = self.directory.state();
            if let (false, Some(error)) = (state.exists, &state.trouble) {
                return Err(Arc::clone(error));
            }
            for (path, file) in &state.files {
                if let Err(error) = file.entries(&pass.part()).await {
                    let place = crate::text::Position::whole(path);
                    let said = crate::text::Diagnostic::warning("source::directory", place, error.to_string());
                    self.directory.environment.notices.add([said]);
                }
            }
            Ok(Arc::new(state.known_entries()))
        })
    }

    fn known_entries(&self) -> Option<Arc<Entries>> {
        let state = self.directory.state();
        state.exists.then(|| Arc::new(state.known_entries()))
    }

    fn freshness(&self) -> Freshness {
        let state = self.directory.state();
        if !state.is_current(&self.directory.path) {
            return Freshness::MayHaveChanged;
        }
        state.files.iter().fold(Freshness::Unchanged, |all, (_, file)| all.and(file.freshness()))
    }

    fn exists(&self) -> bool {
        self.directory.state().exists
    }

    fn describe(&self) -> Description {
        Description { kind: Some("dir"), instances: Vec::new(), map: self.directory.id.name.to_vec() }
    }
}
