//! The directories of keys: shown before they are mounted where browsing is on, gone with the mount elsewhere.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use log::debug;

use crate::daemon::worker::Worker;
use crate::engine::{EntryPhase, Kind, MountId};
use crate::exec::lanes::Lane;
use crate::logging::target;
use crate::map::sun;
use crate::source::{Answer, Source};
use crate::sys::path;
use crate::text::Escaped;

/// Makes the directories of all keys below a mount with browsing, and removes those whose keys are gone. Directories
/// that are mount points stay: they cannot be removed.
pub(crate) async fn fill(worker: &Rc<Worker>, id: MountId) {
    let (root, source, lanes, path) = {
        let state = worker.state.borrow();
        let Some(trigger) = state.triggers.get(&id) else { return };
        if trigger.kind != Kind::Indirect || !trigger.line.browse() {
            return;
        }
        let root = state.control.open_mount(&trigger.path, trigger.dev);
        (root, Arc::clone(&trigger.line.source), Arc::clone(&state.context.lanes), trigger.path.clone())
    };
    let filled = lanes.run(Lane::Mount, move || make(root?, &shown_keys(&source))).await;
    match filled {
        Ok((root, gone)) => {
            let state = worker.state.borrow();
            let Some(mount) = state.engine.mount(id) else { return };
            // Whose mount is on its way needs its directory. On this thread nothing can begin meanwhile.
            // What is mounted keeps its own, as the kernel removes no mount point.
            let moves = |phase| !matches!(phase, EntryPhase::Mounted | EntryPhase::Failed(..));
            let busy = mount.entries().filter(|entry| moves(entry.phase)).map(|entry| entry.key.0.to_vec());
            let busy: HashSet<Vec<u8>> = busy.collect();
            for name in gone.iter().filter(|name| !busy.contains(*name)) {
                // A link to something, or in use: it stays until it expires.
                let _ = path::rmdir_at(root.as_fd(), Path::new(OsStr::from_bytes(name)));
            }
        }
        Err(e) => {
            debug!(target: &target(&path), "{}: cannot make the directories of all keys: {e}", Escaped::path(&path));
        }
    }
}

/// The keys that get a directory: those with `-null` as their entry have none, as with automount(8) 5.1.9.
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
