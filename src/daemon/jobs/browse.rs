//! The directories of keys: with browsing they exist before anything is mounted there, otherwise as long as the mount.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use log::debug;

use crate::daemon::mounts::AutofsMount;
use crate::daemon::tools::Tools;
use crate::engine::Kind;
use crate::exec::lanes::Lane;
use crate::logging::target;
use crate::source::Entries;
use crate::sys::path;
use crate::text::Escaped;

/// Makes the directories of all keys below a mount with browsing. Returns those that are no keys.
pub(crate) async fn fill(mount: &AutofsMount, tools: &Tools) -> Option<Extra> {
    if mount.kind != Kind::Indirect || !mount.map.browse() {
        return None;
    }
    let path = &mount.path;
    let root = tools.control.open_mount(path, mount.dev);
    let entries = mount.map.source.known_entries()?;
    let filled = tools.lanes.run(Lane::Mount, move || make(root?, &entries)).await;
    match filled {
        Ok((root, names)) => Some(Extra { root, names }),
        Err(e) => {
            debug!(target: &target(path), "{}: cannot make the directories of all keys: {e}", Escaped::path(path));
            None
        }
    }
}

/// Returns all directories of a mount, after browsing was turned off.
pub(crate) async fn shown(mount: &AutofsMount, tools: &Tools) -> Option<Extra> {
    let (path, root) = (&mount.path, tools.control.open_mount(&mount.path, mount.dev));
    let look = move || {
        let root = root?;
        path::names(root.as_fd()).map(|names| Extra { root, names })
    };
    let found = tools.lanes.run(Lane::Mount, look).await;
    found.inspect_err(|e| debug!(target: &target(path), "{}: cannot list: {e}", Escaped::path(path))).ok()
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

/// Makes the directories of the keys, as far as they are shown: as with automount(8) 5.1.9, keys with `-null` as their
/// entry have none. Returns the other names that are there.
fn make(root: OwnedFd, entries: &Entries) -> io::Result<(OwnedFd, Vec<Vec<u8>>)> {
    let mut others: HashSet<Vec<u8>> = path::names(root.as_fd())?.into_iter().collect();
    let mut made = Ok(());
    entries.for_each_shown_key(&mut |key| {
        if others.remove(&*key) || made.is_err() {
            return;
        }
        match path::mkdir_at(root.as_fd(), Path::new(OsStr::from_bytes(&key))) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => made = Err(e),
            _ => {}
        }
    });
    made.map(|()| (root, others.into_iter().collect()))
}
