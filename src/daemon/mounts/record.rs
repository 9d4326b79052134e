//! The directories that were made for mount points, kept in a file for the next worker and the next daemon: what a dead
//! worker has made is removed with the mount points, or at the next start if no map names them any more.
//!
//! The file is a log. Each record is a mount point, a number, and as many directories with their inode numbers, all ended by
//! NUL bytes; the last record of a mount point counts, and none of its directories are left if the number is 0. It lies on
//! the file system for runtime data, as its content is of no use after a restart of the machine.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::exec::dirs::Made;
use crate::instance;
use crate::text::Ordered;

/// Returns the file.
pub(crate) fn file() -> PathBuf {
    instance::directory().join("directories")
}

/// The largest file that is read.
const LARGEST: u64 = 64 << 20;

/// The record of directories.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// `None`: nothing is kept, as in tests.
    file: Option<File>,
    path: PathBuf,
    /// Mounts of earlier workers that this one has not taken over.
    earlier: BTreeMap<Ordered, Made>,
    /// Bytes that are not written yet.
    unwritten: Vec<u8>,
}

impl Record {
    /// Reads the record of earlier workers, and continues it.
    ///
    /// # Errors
    /// Returns the errors of reading and writing the file. Without it the daemon works, but forgets what it has made.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut bytes = Vec::new();
        match File::open(path) {
            Ok(file) => drop(file.take(LARGEST).read_to_end(&mut bytes)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let earlier = parse(&bytes);
        if let Some(directory) = path.parent() {
            match DirBuilder::new().mode(0o755).create(directory) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
        }
        // Without what has been removed. Another name first, as the worker may die here, too.
        let new = path.with_extension("new");
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&new)?;
        let mut text = Vec::new();
        earlier.iter().for_each(|(path, made)| write(&mut text, &path.0, made));
        file.write_all(&text)?;
        fs::rename(&new, path)?;
        Ok(Self { file: Some(file), path: path.to_owned(), earlier, unwritten: Vec::new() })
    }

    /// Notes the directories that were made for a mount point, or that none are left. To be written by
    /// [`flush`](Self::flush).
    pub(crate) fn note(&mut self, path: &Path, made: &Made) {
        if self.file.is_some() {
            write(&mut self.unwritten, path, made);
        }
    }

    /// Writes what was noted. Does not wait, as the file is in memory.
    ///
    /// # Errors
    /// Returns the errors of write(2).
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let text = std::mem::take(&mut self.unwritten);
        match &mut self.file {
            Some(file) if !text.is_empty() => file.write_all(&text),
            _ => Ok(()),
        }
    }

    /// Takes what earlier workers have made for a mount point, and adds `made`.
    pub(crate) fn take(&mut self, path: &Path, made: Made) -> Made {
        match self.earlier.remove(&Ordered(path.into())) {
            Some(earlier) => earlier.with(&made),
            None => made,
        }
    }

    /// Returns whether earlier workers have made something that nobody has taken.
    pub(crate) fn has_rest(&self) -> bool {
        !self.earlier.is_empty()
    }

    /// Takes all that earlier workers have made and nobody has taken, except what `keep` selects.
    pub(crate) fn take_rest(&mut self, keep: impl Fn(&Path) -> bool) -> Vec<(Arc<Path>, Made)> {
        let all = std::mem::take(&mut self.earlier);
        let (kept, rest): (BTreeMap<_, _>, BTreeMap<_, _>) = all.into_iter().partition(|(path, _)| keep(&path.0));
        self.earlier = kept;
        rest.into_iter().map(|(path, made)| (path.0, made)).collect()
    }

    /// Gives back what cannot be removed yet.
    pub(crate) fn give_back(&mut self, rest: impl IntoIterator<Item = (Arc<Path>, Made)>) {
        self.earlier.extend(rest.into_iter().map(|(path, made)| (Ordered(path), made)));
    }

    /// Removes the file at the end of the daemon, if nothing is left to be removed.
    pub(crate) fn end(&mut self) {
        let _ = self.flush();
        let Some(file) = self.file.take() else { return };
        drop(file);
        let left = fs::read(&self.path).map(|bytes| parse(&bytes).len());
        if left.is_ok_and(|left| left == 0) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn write(text: &mut Vec<u8>, path: &Path, made: &Made) {
    let dirs: Vec<(&Path, u64)> = made.dirs().collect();
    let mut field = |bytes: &[u8]| {
        text.extend_from_slice(bytes);
        text.push(0);
    };
    field(path.as_os_str().as_bytes());
    field(dirs.len().to_string().as_bytes());
    for (dir, ino) in dirs {
        field(ino.to_string().as_bytes());
        field(dir.as_os_str().as_bytes());
    }
}

/// Reads records, up to the first one that makes no sense: a dying worker may have written half of it.
fn parse(bytes: &[u8]) -> BTreeMap<Ordered, Made> {
    let mut records = BTreeMap::new();
    let mut fields = bytes.split(|byte| *byte == 0);
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse::<u64>().ok();
    let absolute = |field: &[u8]| {
        let path = Path::new(OsStr::from_bytes(field));
        path.is_absolute().then(|| Arc::<Path>::from(path))
    };
    let mut next = || -> Option<(Arc<Path>, Made)> {
        let path = absolute(fields.next()?)?;
        let count = number(fields.next()?)?;
        let mut dirs = Vec::new();
        for _ in 0..count {
            let ino = number(fields.next()?)?;
            dirs.push((absolute(fields.next()?)?, ino));
        }
        Some((path, dirs.into()))
    };
    while let Some((path, made)) = next() {
        let path = Ordered(path);
        if made.is_empty() {
            records.remove(&path);
        } else {
            records.insert(path, made);
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(dirs: &[(&str, u64)]) -> Made {
        dirs.iter().map(|(dir, ino)| (Arc::from(Path::new(dir)), *ino)).collect::<Vec<_>>().into()
    }

    #[test]
    fn the_next_worker_knows_what_was_made() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("autofs/directories");
        let mut record = Record::open(&file).unwrap();
        let (one, two) = (made(&[("/x", 3), ("/x/a\n b", 4)]), made(&[("/y", 5)]));
        record.note(Path::new("/x/a\n b"), &one);
        record.note(Path::new("/y"), &two);
        record.note(Path::new("/z"), &two);
        record.note(Path::new("/z"), &Made::default());
        record.flush().unwrap();
        let mut next = Record::open(&file).unwrap();
        assert_eq!(next.take(Path::new("/x/a\n b"), Made::default()), one);
        assert_eq!(next.take(Path::new("/x/a\n b"), Made::default()), Made::default(), "once");
        assert!(next.take_rest(|path| path == Path::new("/y")).is_empty());
        assert_eq!(next.take_rest(|_| false), [(Path::new("/y").into(), two)]);
    }

    #[test]
    fn half_a_record_costs_only_itself() {
        let mut text = Vec::new();
        write(&mut text, Path::new("/a"), &made(&[("/a", 1)]));
        let whole = text.len();
        write(&mut text, Path::new("/b"), &made(&[("/b", 2)]));
        for end in whole..text.len() - 1 {
            let records = parse(&text[..end]);
            assert!(records.contains_key(&Ordered(Path::new("/a").into())), "{end}");
        }
        assert!(parse(b"relative\x001\x001\x00/x\x00").is_empty());
    }

    #[test]
    fn the_file_goes_when_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("directories");
        let mut record = Record::open(&file).unwrap();
        record.note(Path::new("/a"), &made(&[("/a", 1)]));
        record.flush().unwrap();
        Record::open(&file).unwrap().end();
        assert!(File::open(&file).is_ok());
        let mut record = Record::open(&file).unwrap();
        record.note(Path::new("/a"), &Made::default());
        record.end();
        assert!(File::open(&file).is_err());
    }

    #[test]
    fn directories_made_again_replace_those_before() {
        let both = made(&[("/x", 3), ("/x/a", 4)]).with(&made(&[("/x/a", 9)]));
        assert_eq!(both, made(&[("/x", 3), ("/x/a", 9)]));
    }
}
