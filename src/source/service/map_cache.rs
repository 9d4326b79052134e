//! The map cache: maps of directory services on disk, for a start while their service does not answer.
//!
//! It is off unless autofs.toml names a directory. What services say is collected for a moment, then written by a thread of its own:
//! one file for each map, replaced as a whole. Nothing waits for it but the end of the daemon, and no error of it changes an answer.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use log::{debug, warn};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::blocking;
use crate::directory::Stored;
use crate::directory::stored::file_name;
use crate::mutex::lock;
use crate::sys::clock;
use crate::sys::private_dir::PrivateDir;
use crate::text::Escaped;

/// Changes of a map within this time are written together.
const WRITE_DELAY: Duration = Duration::from_secs(2);

/// How long reading a file, or the last writing, may take.
const IO_TIMEOUT: Duration = Duration::from_secs(2);

/// Entries that were asked for by key, at most, in one file.
const KEYS_MAX: usize = 10_000;

/// Reads under way, at most: a disk that hangs takes no more threads than these.
const READS: usize = 8;

/// A map that has not changed is written again after so many seconds, so that the file tells how old it is at most.
const HOUR: u64 = 3600;

/// Storage of the maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The directory.
    pub directory: Arc<Path>,
    /// Bytes of all files together, at most.
    pub most: u64,
}

/// A map: its service, and what tells it from others there.
pub(super) type Name = (&'static str, Vec<u8>);

/// Answers of a service about a map since its file was written.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    /// There is no such map any more.
    Gone,
    /// All entries, if they were read, and then some by key. `None`: there is no such key.
    Said { whole: Option<Vec<u8>>, keys: BTreeMap<Vec<u8>, Option<Vec<u8>>> },
}

impl Default for Change {
    fn default() -> Self {
        Self::Said { whole: None, keys: BTreeMap::new() }
    }
}

/// The map cache.
#[derive(Debug)]
pub(super) struct MapCache {
    shared: Arc<Shared>,
    reads: Arc<Semaphore>,
}

impl Default for MapCache {
    fn default() -> Self {
        Self { shared: Arc::default(), reads: Arc::new(Semaphore::new(READS)) }
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Is held while files are written.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    place: Option<Place>,
    changes: HashMap<Name, Change>,
    /// A task is going to write the changes.
    scheduled: bool,
    /// Whether it was reported that the file cannot be written.
    said: bool,
}

impl MapCache {
    /// Sets where the maps are. `None`: nothing is read and written.
    pub(super) fn set(&self, place: Option<Place>) {
        let mut state = lock(&self.shared.state);
        if state.place != place {
            (state.place, state.said) = (place, false);
            state.changes.clear();
        }
    }

    /// Returns whether there is a cache.
    pub(super) fn is_on(&self) -> bool {
        lock(&self.shared.state).place.is_some()
    }

    /// Reads a map. Returns `None` if it is not stored, or the directory does not answer in time.
    pub(super) async fn load(&self, name: Name) -> Option<Stored> {
        let place = lock(&self.shared.state).place.clone()?;
        let reading = async {
            let read_permit = Arc::clone(&self.reads).acquire_owned().await.ok()?;
            blocking::run(move || {
                // As long as the thread is in use, also when its result is not awaited any more.
                let _read_permit = read_permit;
                read(&place, &name)
            })
            .await
        };
        timeout(IO_TIMEOUT, reading).await.ok().flatten()
    }

    /// Notes all entries of a map.
    pub(super) fn note_all(&self, name: Name, text: Vec<u8>) {
        self.note(name, |change| *change = Change::Said { whole: Some(text), keys: BTreeMap::new() });
    }

    /// Notes the entry of a key, or that there is none.
    pub(super) fn note_key(&self, name: Name, key: &[u8], entry: Option<&[u8]>) {
        self.note(name, |change| {
            if *change == Change::Gone {
                *change = Change::default();
            }
            let Change::Said { keys, .. } = change else { return };
            if keys.len() < KEYS_MAX || keys.contains_key(key) {
                keys.insert(key.to_vec(), entry.map(<[u8]>::to_vec));
            }
        });
    }

    /// Notes that there is no such map any more.
    pub(super) fn note_gone(&self, name: Name) {
        self.note(name, |change| *change = Change::Gone);
    }

    fn note(&self, name: Name, change: impl FnOnce(&mut Change)) {
        let mut state = lock(&self.shared.state);
        if state.place.is_none() {
            return;
        }
        change(state.changes.entry(name).or_default());
        if !std::mem::replace(&mut state.scheduled, true) {
            let shared = Arc::clone(&self.shared);
            tokio::spawn(async move {
                sleep(WRITE_DELAY).await;
                shared.write().await;
            });
        }
    }

    /// Writes the pending answers. Returns after a limited time.
    pub(super) async fn flush(&self) {
        let _ = timeout(IO_TIMEOUT, self.shared.write()).await;
    }
}

impl Shared {
    /// Writes all changes.
    async fn write(&self) {
        let _turn = self.writing.lock().await;
        let (place, changes) = {
            let mut state = lock(&self.state);
            state.scheduled = false;
            let Some(place) = state.place.clone() else { return };
            (place, std::mem::take(&mut state.changes))
        };
        if changes.is_empty() {
            return;
        }
        let directory = Arc::clone(&place.directory);
        let written = blocking::run(move || write(&place, changes, clock::since_1970())).await;
        let mut state = lock(&self.state);
        match written {
            Ok(()) => state.said = false,
            Err(error) if !std::mem::replace(&mut state.said, true) => {
                warn!("the map cache {} cannot be written: {error}", Escaped::path(&directory));
            }
            Err(_) => {}
        }
    }
}

/// Reads a map. A file that is not what was written says so in the log, and counts as missing.
fn read(place: &Place, (service, of): &Name) -> Option<Stored> {
    let file = file_name(service, of);
    let ignored = |why: &dyn std::fmt::Display| {
        warn!("{}/{file} is ignored: {why}", Escaped::path(&place.directory));
        None
    };
    let dir = match PrivateDir::open(&place.directory) {
        Ok(dir) => dir,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return ignored(&error),
    };
    match dir.read(Path::new(&file), place.most) {
        Ok(bytes) => match Stored::decode(&bytes) {
            // Another map may have a file of this name.
            Ok(stored) => Some(stored).filter(|stored| stored.of == *of),
            Err(error) => ignored(&error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => ignored(&error),
    }
}

/// Writes what has changed. One map that cannot be written does not prevent others.
fn write(place: &Place, changes: HashMap<Name, Change>, now: u64) -> io::Result<()> {
    let dir = PrivateDir::open_or_make(&place.directory)?;
    let mut result = Ok(());
    for (name, change) in changes {
        let file = file_name(name.0, &name.1);
        let written = match change {
            Change::Gone => dir.remove(Path::new(&file)),
            Change::Said { whole, keys } => {
                let old = read(place, &name);
                let new = merged(old.as_ref(), whole, keys, Stored { of: name.1, at: now, ..Stored::default() });
                let is_news = |old: &Stored| !old.has_same_entries(&new) || now.saturating_sub(old.at) >= HOUR;
                if old.as_ref().is_none_or(is_news) { store(&dir, place, &file, &new.encode()) } else { Ok(()) }
            }
        };
        if result.is_ok() {
            result = written;
        }
    }
    result
}

/// Returns `new` with what was stored before and what was said since then.
fn merged(
    old: Option<&Stored>,
    whole: Option<Vec<u8>>,
    said: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    mut new: Stored,
) -> Stored {
    match (whole, old) {
        (Some(whole), _) => new.whole = Some(whole),
        (None, Some(old)) => (new.whole, new.keys) = (old.whole.clone(), old.keys.clone()),
        (None, None) => {}
    }
    for key in said.keys() {
        new.keys.remove(key);
    }
    let room = KEYS_MAX.saturating_sub(said.len());
    while new.keys.len() > room {
        new.keys.pop_first();
    }
    // A key that is in no list needs no mark that it is gone.
    let has_list = new.whole.is_some();
    new.keys.extend(said.into_iter().filter(|(_, entry)| entry.is_some() || has_list));
    new
}

/// Writes a file, and removes the files that were not written for longest where there would be too much.
fn store(dir: &PrivateDir, place: &Place, file: &str, bytes: &[u8]) -> io::Result<()> {
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if size > place.most {
        dir.remove(Path::new(file))?;
        let why = format!("a map of {size} bytes is more than the {} bytes that autofs.toml allows", place.most);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    let mut others = dir.files()?;
    others.retain(|other| other.name.ends_with(b".map") && other.name != file.as_bytes());
    others.sort_by_key(|other| other.written);
    let mut sum = others.iter().fold(size, |sum, other| sum.saturating_add(other.size));
    for other in others {
        if sum <= place.most {
            break;
        }
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt as _;
        debug!("{} is removed from the map cache to make room", Escaped(&other.name));
        dir.remove(Path::new(OsStr::from_bytes(&other.name)))?;
        sum = sum.saturating_sub(other.size);
    }
    dir.replace(Path::new(file), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(dir: &tempfile::TempDir) -> Place {
        Place { directory: dir.path().join("cache").into(), most: 500 }
    }

    fn name(map: &str) -> Name {
        ("nis", map.as_bytes().to_vec())
    }

    fn on(dir: &tempfile::TempDir) -> MapCache {
        let cache = MapCache::default();
        cache.set(Some(place(dir)));
        cache
    }

    #[tokio::test(start_paused = true)]
    async fn reads_that_hang_take_no_further_thread() {
        let dir = tempfile::tempdir().unwrap();
        let cache = on(&dir);
        cache.note_all(name("m"), b"a :/a\n".to_vec());
        cache.flush().await;
        let hanging = Arc::clone(&cache.reads).acquire_many_owned(u32::try_from(READS).unwrap()).await.unwrap();
        assert_eq!(cache.load(name("m")).await, None);
        drop(hanging);
        assert!(cache.load(name("m")).await.is_some());
    }

    #[tokio::test]
    async fn what_was_said_is_there_for_the_next_process() {
        let dir = tempfile::tempdir().unwrap();
        let cache = on(&dir);
        cache.note_all(name("m"), b"a :/a\nb :/b\n".to_vec());
        cache.note_key(name("m"), b"c", Some(b":/c"));
        cache.note_key(name("m"), b"a", None);
        cache.note_key(name("k"), b"x", Some(b":/x"));
        cache.note_key(name("k"), b"gone", None);
        cache.flush().await;
        let next = on(&dir);
        let whole = next.load(name("m")).await.unwrap();
        assert_eq!(whole.whole.as_deref(), Some(&b"a :/a\nb :/b\n"[..]));
        let keys = BTreeMap::from([(b"a".to_vec(), None), (b"c".to_vec(), Some(b":/c".to_vec()))]);
        assert_eq!(whole.keys, keys);
        // Answers of another process about other keys are kept.
        next.note_key(name("k"), b"y", Some(b":/y"));
        next.flush().await;
        let keys: Vec<Vec<u8>> = next.load(name("k")).await.unwrap().keys.into_keys().collect();
        assert_eq!(keys, [b"x", b"y"]);
        next.note_gone(name("k"));
        next.flush().await;
        assert_eq!(next.load(name("k")).await, None);
        assert_eq!(next.load(name("other")).await, None);
    }

    #[tokio::test]
    async fn a_file_that_is_damaged_or_foreign_is_ignored_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let cache = on(&dir);
        cache.note_key(name("m"), b"a", Some(b":/a"));
        cache.flush().await;
        let file = dir.path().join("cache").join(file_name("nis", b"m"));
        let good = std::fs::read(&file).unwrap();
        for bad in [&good[..good.len() / 2], b"a :/forged\n", b""] {
            std::fs::write(&file, bad).unwrap();
            assert_eq!(cache.load(name("m")).await, None);
        }
        // The file of another map.
        std::fs::write(&file, Stored { of: b"n".to_vec(), ..Stored::default() }.encode()).unwrap();
        assert_eq!(cache.load(name("m")).await, None);
        cache.note_key(name("m"), b"b", Some(b":/b"));
        cache.flush().await;
        assert_eq!(cache.load(name("m")).await.unwrap().keys.len(), 1);
    }

    #[tokio::test]
    async fn there_is_a_limit_of_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let cache = on(&dir);
        for map in ["a", "b", "c"] {
            cache.note_all(name(map), vec![b'x'; 150]);
            cache.flush().await;
            // Time stamps of files are no finer.
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(cache.load(name("a")).await, None, "the oldest is removed");
        assert!(cache.load(name("b")).await.is_some());
        cache.note_all(name("c"), vec![b'x'; 600]);
        cache.flush().await;
        assert_eq!(cache.load(name("c")).await, None, "what is too long leaves no old version");
    }

    #[tokio::test]
    async fn without_a_directory_nothing_is_kept() {
        let cache = MapCache::default();
        cache.note_key(name("m"), b"a", Some(b":/a"));
        cache.flush().await;
        assert!(!cache.is_on() && lock(&cache.shared.state).changes.is_empty());
        assert_eq!(cache.load(name("m")).await, None);
    }
}
