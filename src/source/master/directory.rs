//! Listing a directory of maps.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::super::SourceError;
use super::super::file::{Seen, Stamp};
use super::version;
use crate::sys::path::{self, Magic};

/// The end of the names of files that count.
const SUFFIX: &[u8] = b".autofs";

/// The maps in a directory.
#[derive(Debug, Clone)]
pub(in crate::source) struct Listing {
    /// In the order of versions.
    pub(in crate::source) files: Vec<Arc<Path>>,
    /// By what a change of the directory is recognized.
    pub(in crate::source) seen: Seen,
}

/// Lists the files `*.autofs` of a directory, without those that begin with a dot. Blocks.
///
/// # Errors
/// It is not a directory that can be read.
pub(in crate::source) fn list(directory: &Arc<Path>) -> Result<Listing, SourceError> {
    let failed = |error: io::Error| {
        let path = Arc::clone(directory);
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => SourceError::NoDirectory { path },
            _ => SourceError::Directory { path, error },
        }
    };
    let opened = path::open_to_read(directory).map_err(failed)?;
    let stat = path::fstat(opened.as_fd()).map_err(failed)?;
    if !stat.is_dir() {
        return Err(SourceError::NoDirectory { path: Arc::clone(directory) });
    }
    let (stamp, now) = (Stamp::of(&stat), SystemTime::now());
    let local = Magic::of(&opened).map_err(failed)?.is_local();
    let mut names = path::names(opened.as_fd()).map_err(failed)?;
    names.retain(|name| !name.starts_with(b".") && name.len() > SUFFIX.len() && name.ends_with(SUFFIX));
    names.sort_by(|a, b| version::compare(a, b));
    let files = names.into_iter().map(|name| directory.join(OsString::from_vec(name)).into()).collect();
    Ok(Listing { files, seen: Seen::version(stamp, !stamp.may_hide_a_change(now), local) })
}
