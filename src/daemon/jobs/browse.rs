//! The directories of keys: shown before they are mounted where browsing is on, gone with the mount elsewhere.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use log::debug;

use crate::daemon::mounts::AutofsMount;
use crate::daemon::tools::Tools;
use crate::engine::Kind;
use crate::exec::lanes::Lane;
use crate::logging::target;
use crate::map::sun;
use crate::source::{Answer, Source};
use crate::sys::path;
use crate::text::Escaped;

/// Makes the directories of all keys below a mount with browsing. Returns those that are no keys.
pub(crate) async fn fill(mount: &AutofsMount, tools: &Tools) -> Option<Extra> {
    if mount.kind != Kind::Indirect || !mount.line.browse() {
        return None;
    }
    let path = &mount.path;
    let root = tools.control.open_mount(path, mount.dev);
    let source = Arc::clone(&mount.line.source);
    let filled = tools.lanes.run(Lane::Mount, move || make(root?, &shown_keys(&source))).await;
    match filled {
        Ok((root, names)) => Some(Extra { root, names }),
        Err(e) => {
            debug!(target: &target(path), "{}: cannot make the directories of all keys: {e}", Escaped::path(path));
            None
        }
    }
}

/// Directories of a mount that are no keys.
#[derive(Debug)]
pub(crate) struct Extra {
    root: OwnedFd,
    names: Vec<Vec<u8>>,
}

impl Extra {
    /// Removes those of them that are not `busy`. Mount points, links and what is in use stay until they expire.
    pub(crate) fn remove(self, busy: impl Fn(&[u8]) -> bool) {
        for name in self.names.iter().filter(|name| !busy(name)) {
            let _ = path::rmdir_at(self.root.as_fd(), Path::new(OsStr::from_bytes(name)));
        }
    }
}

/// Returns the keys that get a directory: those with `-null` as their entry have none, as with automount(8) 5.1.9.
fn shown_keys(source: &Source) -> HashSet<Vec<u8>> {
    let is_hidden = |key: &Vec<u8>| matches!(source.lookup(key), Answer::Found(raw) if sun::is_hidden(&raw.text));
    source.keys().into_iter().filter(|key| !is_hidden(key)).collect()
}

/// Makes the directories of the keys. Returns the names that are no keys.
fn make(root: OwnedFd, keys: &HashSet<Vec<u8>>) -> io::Result<(OwnedFd, Vec<Vec<u8>>)> {
    let mut others = path::names(root.as_fd())?;
    others.retain(|name| !keys.contains(name));
    for key in keys {
        match path::mkdir_at(root.as_fd(), Path::new(OsStr::from_bytes(key))) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    Ok((root, others))
}
