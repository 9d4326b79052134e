//! What is really mounted at an entry, and whether a path exists in it.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::blocking;
use crate::control::SILENT;
use crate::daemon::explain::feasible::Verdict;
use crate::daemon::jobs::offsets;
use crate::daemon::mounts::foreign::{self, Expected, Found};
use crate::daemon::mounts::table::MountTable;
use crate::daemon::worker::Worker;
use crate::engine::{EntryId, EntryPhase, EntryView, Requester};
use crate::plan::Action;
use crate::sys::path;
use crate::text::Escaped;

/// How long a file system may take to answer.
const ANSWERS: Duration = Duration::from_secs(1);

/// The reason for a file system in user space whose process has ended.
const DIED: &str = "the server of the file system has died";

/// Returns what the mount table shows at an entry if everything is as the engine says. Returns `None` for entries without a mount of
/// their own and for those that are being changed.
pub(crate) fn expected(worker: &Worker, at: &EntryId, entry: Option<&EntryView<'_>>) -> Option<Expected> {
    let mount = worker.mounts.get(at.mount)?;
    let mounted = match entry.map(|entry| entry.phase) {
        None | Some(EntryPhase::Waiting | EntryPhase::Failed(..)) => false,
        Some(EntryPhase::Mounted | EntryPhase::Checking) => match &entry?.plan?.action {
            Action::Mount(_) | Action::Autofs(_) => true,
            Action::Symlink(_) | Action::Leads(_) | Action::Nothing => return None,
        },
        Some(_) => return None,
    };
    let mount_id = entry.and_then(|entry| entry.mount_id);
    Some(Expected { path: mount.entry(&at.key), dev: mount.dev, mounted, mount_id })
}

/// Returns what another process has mounted at an entry.
pub(crate) async fn foreign_at(worker: &Rc<Worker>, at: &EntryId) -> Option<Found> {
    let expected = worker.view(|engine| {
        let entry = engine.mount(at.mount)?.entries().find(|entry| *entry.key == at.key);
        expected(worker, at, entry.as_ref())
    });
    foreign(vec![expected]).await.pop().flatten()
}

/// Returns what other processes have mounted, for each entry in turn.
pub(crate) async fn foreign(expected: Vec<Option<Expected>>) -> Vec<Option<Found>> {
    if expected.iter().all(Option::is_none) {
        return vec![None; expected.len()];
    }
    let find = move || {
        let table = MountTable::read().ok();
        let find = |expected: Option<Expected>| foreign::find(table.as_ref()?, &expected?);
        expected.into_iter().map(find).collect()
    };
    blocking::run(find).await
}

/// Asks the file system of a mounted entry whether it answers, on a thread of its server. Returns why it is of no use.
pub(crate) async fn silent(worker: &Rc<Worker>, at: &EntryId) -> Option<&'static str> {
    let server = server(worker, at)?;
    let place = Arc::new(worker.mounts.place(at, Requester::default())?);
    let path = place.path();
    let asked = worker.tools().lanes.run_inside(&server, &path, ANSWERS, move || place.has_dead_server()).await;
    match asked {
        Ok(false) => None,
        Ok(true) => Some(DIED),
        Err(_) => Some(SILENT),
    }
}

fn server(worker: &Worker, at: &EntryId) -> Option<Vec<u8>> {
    let is_at = |entry: &EntryView<'_>| *entry.key == at.key;
    worker.view(|engine| {
        let entry = engine.mount(at.mount).and_then(|view| view.entries().find(is_at))?;
        entry.plan.filter(|plan| !matches!(plan.action, Action::Symlink(_))).map(|plan| offsets::server(plan))
    })
}

/// Returns why an access to `real`, a path at or below a mounted entry, does not succeed as the mount of the entry does. Triggers no
/// automount, and follows no symbolic link. It looks on a thread of the server of the file system, for a limited time.
pub(super) async fn inside(worker: &Rc<Worker>, at: &EntryId, real: &Path) -> Option<Verdict> {
    let server = server(worker, at)?;
    let place = Arc::new(worker.mounts.place(at, Requester::default())?);
    let (top, real) = (place.path(), real.to_owned());
    let look = {
        let top = top.clone();
        move || {
            if place.has_dead_server() { Some(Verdict::no(format!("mounted, but {DIED}"))) } else { walk(&top, &real) }
        }
    };
    let looked = worker.tools().lanes.run_inside(&server, &top, ANSWERS, look).await;
    looked.unwrap_or_else(|_| Some(Verdict::no(format!("mounted, but {SILENT}"))))
}

/// Walks from `top` to `path`. Returns why an access does not come to its end, if so. May wait.
fn walk(top: &Path, path: &Path) -> Option<Verdict> {
    let failed = |at: &Path, error: &io::Error| {
        let shown = Escaped::path(at);
        match (error.kind(), error.raw_os_error()) {
            (ErrorKind::NotFound, _) => {
                Some(Verdict::no(format!("mounted, but {shown} does not exist there (ENOENT)")))
            }
            (ErrorKind::NotADirectory, _) => Some(Verdict::no(format!("mounted, but {shown} is in a file (ENOTDIR)"))),
            // The requester may be permitted what root is not.
            (ErrorKind::PermissionDenied, _) => None,
            _ => Some(Verdict::no(format!("mounted, but {shown} cannot be looked at: {error}"))),
        }
    };
    let rest = path.strip_prefix(top).ok()?;
    let (mut dir, mut at) = match path::open_exact(top) {
        Ok(dir) => (dir, top.to_owned()),
        Err(error) => return failed(top, &error),
    };
    for name in rest {
        at.push(name);
        dir = match path::open_at_nofollow(dir.as_fd(), Path::new(name)) {
            Ok(next) => next,
            Err(error) => return failed(&at, &error),
        };
        if path::fstat(dir.as_fd()).is_ok_and(|found| found.is_symlink()) {
            let shown = Escaped::path(&at);
            return Some(Verdict::yes(format!("mounted; {shown} is a symbolic link, which is not followed here")));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_says_what_an_access_would_find() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        std::fs::write(top.join("file"), "").unwrap();
        std::fs::create_dir(top.join("dir")).unwrap();
        std::os::unix::fs::symlink("/nowhere", top.join("link")).unwrap();
        let said = |path: &str| walk(&top, &top.join(path)).map(|verdict| (verdict.succeeds, verdict.answer));
        assert_eq!((said(""), said("file"), said("dir")), (None, None, None));
        let (succeeds, answer) = said("dir/none/deep").unwrap();
        assert!(!succeeds && answer.ends_with("/dir/none does not exist there (ENOENT)"), "{answer}");
        let (succeeds, answer) = said("file/x").unwrap();
        assert!(!succeeds && answer.ends_with("/file/x is in a file (ENOTDIR)"), "{answer}");
        assert!(said("link/x").unwrap().0);
    }
}
