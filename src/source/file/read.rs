//! Reading a whole map file, one version of it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::sys::path::{self, Magic, Stat};

use super::super::{SourceError, guard};
use super::Stamp;

/// The longest map file in bytes: some five million entries. What it takes in memory stays below six times as much
/// even with the shortest lines.
pub(in crate::source) const FILE_MAX: u64 = 256 << 20;

/// A file that was changed less than this ago may be in the middle of a rewrite. It covers a tick of the kernel's clock.
const YOUNG: Duration = Duration::from_millis(20);

/// A young file is looked at this often until it has not changed for some time.
const SETTLE_INTERVAL: Duration = Duration::from_millis(5);

/// The same for an empty file: most often another process has opened it and is about to write it.
const QUIET_EMPTY: Duration = Duration::from_millis(300);

/// For how long a file is waited for that changes all the time.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);

/// A file and what it is known by.
pub(in crate::source) struct Opened {
    file: File,
    /// Type, identity and times when it was opened.
    pub(in crate::source) stamp: Stamp,
    /// Its attributes can be asked without waiting.
    pub(in crate::source) local: bool,
    /// It is not a local file of root alone.
    foreign: bool,
}

/// One version of a file.
#[derive(Debug)]
pub(in crate::source) struct Content {
    /// All of it.
    pub(in crate::source) text: Vec<u8>,
    /// Identity of this version of the file.
    pub(in crate::source) stamp: Stamp,
    /// Whether the stamp is unique. It is not if the file was written just now: the next change may get the same one.
    pub(in crate::source) settled: bool,
    /// The attributes of the file can be asked without waiting.
    pub(in crate::source) local: bool,
    /// It is not a local file of root alone.
    pub(in crate::source) foreign: bool,
}

/// Opens a regular file.
pub(in crate::source) fn open(path: &Arc<Path>) -> Result<Opened, SourceError> {
    let failed = |error| failed(path, error);
    let file = match path::open_to_read(path) {
        // The way that was taken led nowhere, and may have taken long. By now there may be another one.
        Err(e) if e.kind() == io::ErrorKind::NotFound && path::open_cached(path).is_ok() => path::open_to_read(path),
        opened => opened,
    };
    let file = file.map_err(failed)?;
    let stat = path::fstat(file.as_fd()).map_err(failed)?;
    if !stat.is_file() {
        return Err(SourceError::NotAFile { path: Arc::clone(path), what: kind(&stat) });
    }
    let local = Magic::of(&file).map_err(failed)?.is_local();
    let foreign = !local || !guard::is_of_root(&stat);
    Ok(Opened { file, stamp: Stamp::of(&stat), local, foreign })
}

/// Reads `path` as a whole. Blocks. `quiet` is for a file whose earlier version is in force: one that may be in the
/// middle of a rewrite is read when it has not changed for so long.
pub(in crate::source) fn read(path: &Arc<Path>, quiet: Option<Duration>) -> Result<Content, SourceError> {
    let end = Instant::now() + SETTLE_TIMEOUT;
    let mut watched: Option<(Stamp, Instant)> = None;
    while Instant::now() < end {
        let opened = open(path)?;
        let now = SystemTime::now();
        let empty = opened.stamp.size() == 0;
        let is_younger = |than: Duration| opened.stamp.age(now).is_some_and(|age| age < than);
        let since = watched.filter(|(stamp, _)| *stamp == opened.stamp).map_or_else(Instant::now, |(_, since)| since);
        let waits = |quiet: Duration| match empty {
            true => is_younger(QUIET_EMPTY),
            false => is_younger(YOUNG.max(quiet)) && since.elapsed() < quiet,
        };
        if quiet.is_some_and(waits) {
            watched = Some((opened.stamp, since));
            thread::sleep(SETTLE_INTERVAL);
            continue;
        }
        let text = text(path, &opened)?;
        let after = path::fstat(opened.file.as_fd()).map_err(|error| failed(path, error))?;
        if Stamp::of(&after) == opened.stamp {
            let settled = !opened.stamp.may_hide_a_change(now);
            let Opened { stamp, local, foreign, .. } = opened;
            return Ok(Content { text, stamp, settled, local, foreign });
        }
        thread::sleep(SETTLE_INTERVAL);
    }
    Err(SourceError::Changing { path: Arc::clone(path) })
}

fn text(path: &Arc<Path>, opened: &Opened) -> Result<Vec<u8>, SourceError> {
    let too_long = || SourceError::TooLong { path: Arc::clone(path) };
    let size = opened.stamp.size();
    if size > FILE_MAX {
        return Err(too_long());
    }
    let mut text = Vec::new();
    let reserved = usize::try_from(size).ok().map(|size| text.try_reserve_exact(size));
    if !matches!(reserved, Some(Ok(()))) {
        return Err(failed(path, io::ErrorKind::OutOfMemory.into()));
    }
    (&opened.file).take(FILE_MAX + 1).read_to_end(&mut text).map_err(|error| failed(path, error))?;
    if text.len() as u64 > FILE_MAX { Err(too_long()) } else { Ok(text) }
}

fn failed(path: &Arc<Path>, error: io::Error) -> SourceError {
    let path = Arc::clone(path);
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => SourceError::Missing { path },
        _ => SourceError::Read { path, error },
    }
}

/// Returns the kind of a path that is not a regular file.
fn kind(stat: &Stat) -> &'static str {
    if stat.is_dir() { "a directory" } else { "a FIFO or a device" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::FileExt as _;

    fn path(dir: &tempfile::TempDir, name: &str) -> Arc<Path> {
        dir.path().join(name).into()
    }

    #[test]
    fn only_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let error = |path: &Arc<Path>| read(path, None).err().unwrap().to_string();
        assert!(error(&dir.path().into()).ends_with("is a directory, not a file"));
        assert_eq!(error(&Path::new("/dev/zero").into()), "/dev/zero is a FIFO or a device, not a file");
        assert!(matches!(read(&path(&dir, "none"), None), Err(SourceError::Missing { .. })));
        let long = path(&dir, "long");
        File::create(&long).unwrap().set_len(FILE_MAX + 1).unwrap();
        assert!(matches!(read(&long, None), Err(SourceError::TooLong { .. })));
    }

    #[test]
    fn a_rewrite_is_waited_for_when_there_is_something_to_lose() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(&dir, "map");
        fs::write(&path, "").unwrap();
        let first = read(&path, None).unwrap();
        assert!(first.text.is_empty() && !first.settled);
        let writer = {
            let path = Arc::clone(&path);
            thread::spawn(move || {
                let file = File::create(&path).unwrap();
                for n in 0..10 {
                    file.write_all_at(b"line\n", n * 5).unwrap();
                    thread::sleep(Duration::from_millis(2));
                }
            })
        };
        thread::sleep(Duration::from_millis(5));
        let second = read(&path, Some(Duration::from_millis(250))).unwrap();
        writer.join().unwrap();
        assert_eq!(second.text.len(), 50);
    }
}
