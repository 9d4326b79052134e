//! The autofs mounts of this worker: their paths, device numbers and pipes, and which of them are being made or unmounted.
//!
//! [`Mounts`] owns them and their control pipes. Its methods hold no borrow when they return and call nothing outside, so they
//! can be used anywhere on the reactor thread.

pub(crate) mod foreign;
pub(crate) mod locate;
pub(crate) mod pipes;
pub(crate) mod record;
pub(crate) mod roots;
pub(crate) mod table;
pub(crate) mod watch;
mod ways;

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use log::warn;
use tokio::sync::{Notify, mpsc};

use crate::daemon::maps::configured_map::ConfiguredMap;
use crate::engine::{EntryId, Key, Kind, MountId, MountIds, Requester};
use crate::exec::Place;
use crate::exec::dirs::Made;
use crate::plan::Plan;
use crate::sys::autofs::{self, Control};
use crate::sys::packet::Request;

use pipes::{Pipe, Pipes};
use record::Record;
use table::{MountTable, Mounted};
use watch::Watch;
use ways::Ways;

/// An autofs mount of ours.
#[derive(Debug, Clone)]
pub(crate) struct AutofsMount {
    /// The mount point.
    pub(crate) path: Arc<Path>,
    /// Indirect, direct or offset.
    pub(crate) kind: Kind,
    /// The device number, encoded as in packets. A restore changes it.
    pub(crate) dev: u32,
    /// The number of the pipe that it writes to.
    pub(crate) pipe: u32,
    /// The map that serves it: of a line of the master map, or of a submount.
    pub(crate) map: Rc<ConfiguredMap>,
    /// Whether it is mounted on a network file system, so that opening its root may block.
    pub(crate) remote: bool,
    /// Whether a restore has dropped `strictexpire` or `ignore`. If so, it is remounted when nothing is mounted on it.
    pub(crate) lacks_options: bool,
    /// The mount id in the mount table, once it was seen there. A restore changes it.
    pub(crate) mount_id: Option<u32>,
    /// Why it cannot be reached at its mount point, if so.
    pub(crate) trouble: Option<Arc<str>>,
}

impl AutofsMount {
    /// Returns the path of an entry.
    pub(crate) fn entry(&self, key: &Key) -> PathBuf {
        self.kind.entry_path(&self.path, key)
    }

    /// Returns the key of the entry at or above `path`, which must not be the mount point of an indirect mount.
    pub(crate) fn key_of(&self, path: &Path) -> Option<Key> {
        let rest = path.strip_prefix(&self.path).ok()?;
        match self.kind {
            Kind::Indirect => rest.iter().next().map(|name| Key::from(name.as_bytes())),
            Kind::Direct | Kind::Offset => Some(Key::default()),
        }
    }

    /// Returns an entry as a [`Place`] for the executor.
    pub(crate) fn place(&self, key: &Key, who: Requester) -> Place {
        Place {
            kind: self.kind,
            root: self.path.to_path_buf(),
            dev: autofs::decode(self.dev),
            key: key.clone(),
            who,
            label: self.map.label(&self.path),
        }
    }
}

/// A new autofs mount, to be [inserted](Mounts::insert).
#[derive(Debug)]
pub(crate) struct NewMount {
    /// The mount point.
    pub(crate) path: Arc<Path>,
    /// Indirect, direct or offset.
    pub(crate) kind: Kind,
    /// The device number, encoded as in packets.
    pub(crate) dev: u32,
    /// The mount id in the mount table, if it is known.
    pub(crate) mount_id: Option<u32>,
    /// The number of the pipe that it writes to.
    pub(crate) pipe: u32,
    /// The map that serves it: of a line of the master map, or of a submount.
    pub(crate) map: Rc<ConfiguredMap>,
    /// The directories that were created for it.
    pub(crate) created: Made,
    /// Whether it is mounted on a network file system.
    pub(crate) remote: bool,
    /// Whether it existed before this worker, so that something may be mounted below it.
    pub(crate) found: bool,
}

/// An autofs mount with the state of its requests.
#[derive(Debug)]
struct Row {
    mount: AutofsMount,
    /// The directories that were created for it and are removed with it.
    created: Made,
    /// Its root directory, open while requests are unanswered; see [`roots`].
    root: Option<OwnedFd>,
    /// The number of unanswered requests.
    unanswered: u32,
}

/// All autofs mounts of this worker.
#[derive(Debug)]
pub(crate) struct Mounts {
    control: Arc<Control>,
    pipes: RefCell<Pipes>,
    rows: RefCell<HashMap<MountId, Box<Row>>>,
    by_device: RefCell<HashMap<u32, MountId>>,
    ways: RefCell<Ways>,
    /// The plans of offset mounts.
    plans: RefCell<HashMap<MountId, Arc<Plan>>>,
    /// Mounts that are being unmounted.
    leaving: RefCell<HashSet<MountId>>,
    /// Mounts that existed before this worker and whose entries are not known yet.
    adopting: RefCell<HashSet<MountId>>,
    /// Directories that were created for removed mounts and that other mounts still need.
    left_over: RefCell<Vec<(Arc<Path>, Made)>>,
    /// The directories that were made for top-level mounts, for the next worker.
    record: RefCell<Record>,
    /// Why top-level mounts could not be attached, as it was logged, so that it is logged once.
    failures: RefCell<HashMap<Arc<Path>, String>>,
    /// Mounts whose roots are open.
    opened: RefCell<Vec<MountId>>,
    /// Whether roots without requests are open, which are to be closed when no lookup has come for some time.
    resting: Cell<bool>,
    /// Notified when the first of them is left open.
    rests: Notify,
    /// Whether a lookup has come since this was last looked at.
    lookups: Cell<bool>,
    /// Number of times that a mount may have left copies elsewhere that are not catatonic, and how many were dealt with.
    copies: Cell<(u64, u64)>,
    /// Notifications of mounts and unmounts.
    pub(crate) watch: Watch,
    /// Notified when a top-level mount has come or gone.
    changed: Notify,
    /// Number of running jobs that make autofs mounts, and of those that attach top-level mounts.
    making: Rc<Cell<usize>>,
    attaching: Rc<Cell<usize>>,
    /// Notified when an attach has ended.
    attached: Rc<Notify>,
    ids: RefCell<MountIds>,
    /// Receives the pipes that have a writer but no reading task yet.
    unread: mpsc::UnboundedSender<Rc<Pipe>>,
}

impl Mounts {
    /// Creates the value without mounts. Also returns the channel with the pipes that must be read.
    pub(crate) fn new(control: Arc<Control>, pipes: Pipes) -> (Rc<Self>, mpsc::UnboundedReceiver<Rc<Pipe>>) {
        let (unread, read) = mpsc::unbounded_channel();
        let mounts = Self {
            control,
            pipes: RefCell::new(pipes),
            rows: RefCell::default(),
            by_device: RefCell::default(),
            ways: RefCell::default(),
            plans: RefCell::default(),
            leaving: RefCell::default(),
            adopting: RefCell::default(),
            left_over: RefCell::default(),
            record: RefCell::default(),
            failures: RefCell::default(),
            opened: RefCell::default(),
            resting: Cell::default(),
            rests: Notify::new(),
            lookups: Cell::default(),
            copies: Cell::default(),
            watch: Watch::default(),
            changed: Notify::new(),
            making: Rc::default(),
            attaching: Rc::default(),
            attached: Rc::default(),
            ids: RefCell::new(MountIds::nested()),
            unread,
        };
        (Rc::new(mounts), read)
    }

    /// Returns a new id for an offset mount or a submount.
    pub(crate) fn new_id(&self) -> MountId {
        let rows = self.rows.borrow();
        self.ids.borrow_mut().allocate(|id| rows.contains_key(&id))
    }

    /// Adds an autofs mount. Its packets are read from now on, and served when the engine knows the mount and its entries. Must
    /// be called before the engine is told about the mount.
    pub(crate) fn insert(&self, id: MountId, new: NewMount) {
        let NewMount { path, kind, dev, mount_id, pipe, map, created, remote, found } = new;
        if found {
            self.adopting.borrow_mut().insert(id);
        }
        let created = if id.is_top() { self.claim(&path, created) } else { created };
        self.failures.borrow_mut().remove(&path);
        self.by_device.borrow_mut().insert(dev, id);
        if let Some(pipe) = self.pipes.borrow().get(pipe) {
            pipe.mounts.set(pipe.mounts.get() + 1);
            pipe.awaited.set(false);
            if !pipe.read.replace(true) {
                // The receiver lives as long as the worker.
                let _ = self.unread.send(Rc::clone(pipe));
            }
        }
        let mount = AutofsMount { path, kind, dev, pipe, map, remote, lacks_options: false, mount_id, trouble: None };
        let mut ways = self.ways.borrow_mut();
        ways.insert(id, kind);
        if id.is_top() {
            self.changed.notify_one();
        }
        let row = Box::new(Row { mount, created, root: None, unanswered: 0 });
        if let Some(replaced) = self.rows.borrow_mut().insert(id, row) {
            ways.change_trouble(replaced.mount.trouble.is_some(), false);
        }
    }

    /// Removes a mount that is gone. Returns it with the directories created for it and its open root.
    pub(crate) fn remove(&self, id: MountId) -> Option<(AutofsMount, Made, Option<OwnedFd>)> {
        let row = self.rows.borrow_mut().remove(&id)?;
        let Row { mount, created, root, .. } = *row;
        self.ways.borrow_mut().remove(id, mount.trouble.is_some());
        if id.is_top() {
            self.changed.notify_one();
        }
        let mut by_device = self.by_device.borrow_mut();
        if by_device.get(&mount.dev) == Some(&id) {
            by_device.remove(&mount.dev);
        }
        if let Some(pipe) = self.pipe(mount.pipe) {
            pipe.mounts.set(pipe.mounts.get().saturating_sub(1));
            // The pipe of a direct map is kept for keys that a reload adds.
            if pipe.mounts.get() == 0 && mount.kind == Kind::Indirect {
                self.retire_pipe(mount.pipe);
            }
        }
        self.leaving.borrow_mut().remove(&id);
        self.adopting.borrow_mut().remove(&id);
        self.plans.borrow_mut().remove(&id);
        Some((mount, created, root))
    }

    /// Returns a mount.
    pub(crate) fn get(&self, id: MountId) -> Option<AutofsMount> {
        self.rows.borrow().get(&id).map(|row| row.mount.clone())
    }

    /// Returns how many mounts there are.
    pub(crate) fn count(&self) -> usize {
        self.rows.borrow().len()
    }

    /// Returns the results of `look` for all mounts, without `None`.
    pub(crate) fn filter_map<T>(&self, mut look: impl FnMut(MountId, &AutofsMount) -> Option<T>) -> Vec<T> {
        self.rows.borrow().iter().filter_map(|(id, row)| look(*id, &row.mount)).collect()
    }

    /// Returns the results of `look` for the indirect mounts, without `None`.
    pub(crate) fn filter_map_indirect<T>(&self, mut look: impl FnMut(MountId, &AutofsMount) -> Option<T>) -> Vec<T> {
        let (ways, rows) = (self.ways.borrow(), self.rows.borrow());
        ways.indirect().filter_map(|id| look(id, &rows.get(&id)?.mount)).collect()
    }

    /// Returns whether a mount is known not to be reached at its mount point.
    pub(crate) fn has_trouble(&self) -> bool {
        self.ways.borrow().has_trouble()
    }

    /// Returns mount points with their device numbers, at least one in each directory that has top-level mounts.
    pub(crate) fn one_in_each_directory(&self) -> Vec<(Arc<Path>, u64)> {
        let (mut ways, rows) = (self.ways.borrow_mut(), self.rows.borrow());
        let all = || rows.iter().map(|(id, row)| (*id, &*row.mount.path));
        let looked_at = |id: &MountId| rows.get(id).map(|row| &row.mount);
        let mounts = ways.one_in_each_directory(all).iter().filter_map(looked_at);
        mounts.map(|mount| (Arc::clone(&mount.path), autofs::decode(mount.dev))).collect()
    }

    /// Waits until a top-level mount has come or gone.
    pub(crate) async fn ways_changed(&self) {
        self.changed.notified().await;
    }

    /// Changes a mount. Its path and kind stay, and its device number must only be changed by [`move_device`](Self::move_device).
    pub(crate) fn change(&self, id: MountId, change: impl FnOnce(&mut AutofsMount)) {
        if let Some(row) = self.rows.borrow_mut().get_mut(&id) {
            let was = row.mount.trouble.is_some();
            change(&mut row.mount);
            self.ways.borrow_mut().change_trouble(was, row.mount.trouble.is_some());
        }
    }

    /// Returns the mount that serves `path`: the deepest one at or above it.
    pub(crate) fn serving(&self, path: &Path) -> Option<(MountId, AutofsMount)> {
        let rows = self.rows.borrow();
        let above = rows.iter().filter(|(_, row)| path.starts_with(&row.mount.path));
        let deepest = above.max_by_key(|(_, row)| row.mount.path.as_os_str().len());
        deepest.map(|(id, row)| (*id, row.mount.clone()))
    }

    /// Returns an entry as a [`Place`] for the executor.
    pub(crate) fn place(&self, at: &EntryId, who: Requester) -> Option<Place> {
        self.rows.borrow().get(&at.mount).map(|row| row.mount.place(&at.key, who))
    }

    /// Returns the mount of a packet. Mounts that share a pipe are distinguished by device number. An indirect mount has its own
    /// pipe and is found by it, even if its device number has changed.
    pub(crate) fn route(&self, pipe: u32, request: &Request<'_>) -> Option<MountId> {
        let Request { dev, kind, .. } = *request;
        let known = self.by_device.borrow().get(&dev).copied();
        if known.is_some_and(|id| self.rows.borrow().get(&id).is_some_and(|row| row.mount.pipe == pipe)) {
            return known;
        }
        if kind != Kind::Indirect {
            return None;
        }
        let its_own = |mount: &AutofsMount| mount.pipe == pipe && mount.kind == Kind::Indirect;
        let id = self.rows.borrow().iter().find(|(_, row)| its_own(&row.mount)).map(|(id, _)| *id)?;
        self.move_device(id, dev);
        Some(id)
    }

    /// Changes the device number of a mount that was restored or mounted again.
    pub(crate) fn move_device(&self, id: MountId, dev: u32) {
        let mut by_device = self.by_device.borrow_mut();
        if let Some(row) = self.rows.borrow_mut().get_mut(&id) {
            let old = std::mem::replace(&mut row.mount.dev, dev);
            row.mount.mount_id = None;
            if row.unanswered == 0 {
                // It belongs to another mount.
                row.root = None;
            }
            if by_device.get(&old) == Some(&id) {
                by_device.remove(&old);
            }
            by_device.insert(dev, id);
        }
    }

    /// Forgets all device numbers after a restore, until [`move_device`](Self::move_device) sets new ones.
    pub(crate) fn forget_devices(&self) {
        self.by_device.borrow_mut().clear();
    }

    /// Sets the device numbers of mounts that have another one in the mount table, as after a restore.
    pub(crate) fn find_devices(&self, table: &MountTable) {
        let own = self.inodes();
        let ours: HashMap<Arc<Path>, (MountId, u32)> =
            self.filter_map(|id, mount| Some((Arc::clone(&mount.path), (id, mount.dev)))).into_iter().collect();
        for line in table.mounts().iter().filter(|line| line.speaks_through(&own).is_some()) {
            if let Some((id, _)) = ours.get(line.target.as_path()).filter(|(_, dev)| *dev != line.dev) {
                self.move_device(*id, line.dev);
            }
        }
    }

    /// Returns whether a line of the mount table is one of these mounts.
    pub(crate) fn serves(&self, line: &Mounted) -> bool {
        let known = self.by_device.borrow().get(&line.dev).copied();
        known.is_some_and(|id| self.rows.borrow().get(&id).is_some_and(|row| *row.mount.path == *line.target))
    }

    /// Stores the plan of an offset mount.
    pub(crate) fn set_plan(&self, id: MountId, plan: Arc<Plan>) {
        self.plans.borrow_mut().insert(id, plan);
    }

    /// Returns the plan of an offset mount.
    pub(crate) fn plan(&self, id: MountId) -> Option<Arc<Plan>> {
        self.plans.borrow().get(&id).map(Arc::clone)
    }

    /// Records that the entries of an adopted mount are known.
    pub(crate) fn adopted(&self, id: MountId) {
        self.adopting.borrow_mut().remove(&id);
    }

    /// Returns whether the entries of an existing mount are still being adopted.
    pub(crate) fn is_adopting(&self, id: MountId) -> bool {
        self.adopting.borrow().contains(&id)
    }

    /// Records that a mount is being unmounted, which its open root would prevent.
    pub(crate) fn begin_leaving(&self, id: MountId) {
        self.leaving.borrow_mut().insert(id);
        self.close_root(id);
    }

    /// Records that a mount could not be unmounted.
    pub(crate) fn end_leaving(&self, id: MountId) {
        self.leaving.borrow_mut().remove(&id);
    }

    /// Returns whether a mount is being unmounted.
    pub(crate) fn is_leaving(&self, id: MountId) -> bool {
        self.leaving.borrow().contains(&id)
    }

    /// Returns whether autofs mounts are being made or unmounted.
    pub(crate) fn is_busy(&self) -> bool {
        self.is_making() || !self.leaving.borrow().is_empty()
    }

    /// Removes and returns the directories that could not be removed with their mounts, by the paths of these.
    pub(crate) fn take_left_over(&self) -> Vec<(Arc<Path>, Made)> {
        self.left_over.take()
    }

    /// Continues the record of directories that earlier workers have kept.
    pub(crate) fn set_record(&self, record: Record) {
        self.record.replace(record);
    }

    /// Adds what earlier workers have made for the top-level mount at `path`, and keeps it on record.
    fn claim(&self, path: &Arc<Path>, created: Made) -> Made {
        let mut record = self.record.borrow_mut();
        let new = !created.is_empty();
        let created = record.take(path, created);
        if new {
            record.note(path, &created);
        }
        created.sharing(path)
    }

    /// Writes the record of directories. Called after several mounts were made.
    pub(crate) fn write_record(&self) {
        if let Err(e) = self.record.borrow_mut().flush() {
            warn!(
                "cannot write {}: {e}; after a crash directories of mount points may be left",
                record::file().display()
            );
        }
    }

    /// Ends the record of directories with the daemon.
    pub(crate) fn end_record(&self) {
        self.record.borrow_mut().end();
    }

    /// Keeps on record what was made for mounts that are not there now.
    pub(crate) fn give_back(&self, made: impl IntoIterator<Item = (Arc<Path>, Made)>) {
        self.record.borrow_mut().give_back(made);
    }

    /// Returns whether the record has something that no mount has claimed.
    pub(crate) fn has_unclaimed(&self) -> bool {
        self.record.borrow().has_rest()
    }

    /// Takes from the record all paths that `keep` does not select.
    pub(crate) fn take_unclaimed(&self, keep: impl Fn(&Path) -> bool) -> Vec<(Arc<Path>, Made)> {
        self.record.borrow_mut().take_rest(keep)
    }

    /// Records that the directories made for the mounts at `paths` were removed, except `kept`, which cannot be removed
    /// yet.
    pub(crate) fn record_removed(&self, paths: &[Arc<Path>], kept: Vec<(Arc<Path>, Made)>) {
        {
            let mut record = self.record.borrow_mut();
            paths.iter().for_each(|path| record.note(path, &Made::default()));
            kept.iter().for_each(|(path, made)| record.note(path, made));
        }
        self.left_over.borrow_mut().extend(kept);
        self.write_record();
    }

    /// Records why a top-level mount cannot be attached. Returns whether the reason differs from the one recorded last.
    pub(crate) fn note_failure(&self, path: &Arc<Path>, reason: &str) -> bool {
        let said = self.failures.borrow_mut().insert(Arc::clone(path), reason.to_owned());
        said.as_deref() != Some(reason)
    }

    /// Returns why a mount could not be attached at the last attempt.
    pub(crate) fn failure(&self, path: &Path) -> Option<String> {
        self.failures.borrow().get(path).cloned()
    }

    /// Forgets why mounts could not be attached: it is to be logged again.
    pub(crate) fn forget_failures(&self) {
        self.failures.borrow_mut().clear();
    }

    /// Records a job that makes autofs mounts, until the guard is dropped.
    pub(crate) fn begin_making(&self) -> Making {
        Making { _making: Counted::begin(&self.making), attaching: None }
    }

    /// Records a job that attaches top-level mounts, until the guard is dropped.
    pub(crate) fn begin_attaching(&self) -> Making {
        let attaching = Some((Counted::begin(&self.attaching), Rc::clone(&self.attached)));
        Making { _making: Counted::begin(&self.making), attaching }
    }

    /// Returns whether a job that makes autofs mounts is running.
    pub(crate) fn is_making(&self) -> bool {
        self.making.get() > 0
    }

    /// Waits until no top-level mount is being attached.
    pub(crate) async fn settled(&self) {
        while self.attaching.get() > 0 {
            self.attached.notified().await;
        }
    }
}

/// Guard of a running job that makes autofs mounts. Packets for unknown mounts stay parked while there is one.
#[derive(Debug)]
pub(crate) struct Making {
    _making: Counted,
    attaching: Option<(Counted, Rc<Notify>)>,
}

impl Drop for Making {
    fn drop(&mut self) {
        if let Some((counted, attached)) = self.attaching.take() {
            drop(counted);
            attached.notify_waiters();
        }
    }
}

/// Increments a counter, and decrements it when dropped.
#[derive(Debug)]
struct Counted(Rc<Cell<usize>>);

impl Counted {
    fn begin(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::testing::{Parts, map};
    use crate::sys::mountinfo;

    fn mount(kind: Kind, path: &str) -> AutofsMount {
        let (path, map) = (Path::new(path).into(), map("/m"));
        AutofsMount {
            path,
            kind,
            dev: 1,
            pipe: 1,
            map,
            remote: false,
            lacks_options: false,
            mount_id: None,
            trouble: None,
        }
    }

    #[test]
    fn paths_and_keys_are_each_others_reverse() {
        let indirect = mount(Kind::Indirect, "/home");
        let key = Key::from(&b"anna"[..]);
        assert_eq!(indirect.entry(&key), Path::new("/home/anna"));
        for path in ["/home/anna", "/home/anna/deep/er"] {
            assert_eq!(indirect.key_of(Path::new(path)), Some(key.clone()));
        }
        assert_eq!(indirect.key_of(Path::new("/home")), None);
        assert_eq!(indirect.key_of(Path::new("/homes/anna")), None);
        let direct = mount(Kind::Direct, "/data");
        assert_eq!(direct.entry(&Key::default()), Path::new("/data"));
        assert_eq!(direct.key_of(Path::new("/data/deep")), Some(Key::default()));
        assert_eq!(direct.key_of(Path::new("/dat")), None);
    }

    #[tokio::test]
    async fn the_deepest_mount_serves_a_path() {
        let parts = Parts::new();
        parts.indirect(1, "/a", 70);
        parts.indirect(2, "/a/b/c", 71);
        let serving = |path: &str| parts.mounts.serving(Path::new(path)).map(|(MountId(id), _)| id);
        assert_eq!(serving("/a/b"), Some(1));
        assert_eq!(serving("/a/b/c/d"), Some(2));
        assert_eq!(serving("/ab"), None);
    }

    #[tokio::test]
    async fn a_pipe_is_read_once_and_closed_with_its_last_mount() {
        let mut parts = Parts::new();
        let pipe = parts.mounts.create_pipe().unwrap();
        parts.insert(1, "/a", Kind::Indirect, 70, pipe);
        parts.insert(2, "/a/k/s", Kind::Offset, 71, pipe);
        assert_eq!(parts.unread.try_recv().unwrap().number, pipe);
        assert!(parts.unread.try_recv().is_err(), "one task reads it");
        parts.mounts.remove(MountId(2)).unwrap();
        assert!(parts.mounts.pipe(pipe).is_some());
        parts.mounts.remove(MountId(1)).unwrap();
        assert!(parts.mounts.pipe(pipe).is_none());
        assert!(parts.mounts.remove(MountId(1)).is_none() && parts.mounts.count() == 0);
    }

    #[tokio::test]
    async fn pipes_that_no_mount_writes_to_are_closed_except_for_shared_and_awaited_ones() {
        let parts = Parts::new();
        let [unused, shared, awaited] = [(); 3].map(|()| parts.mounts.create_pipe().unwrap());
        for pipe in [unused, shared] {
            parts.mounts.pipe(pipe).unwrap().awaited.set(false);
        }
        parts.mounts.release_unused_pipes(&[shared]);
        assert_eq!([unused, shared, awaited].map(|pipe| parts.mounts.pipe(pipe).is_some()), [false, true, true]);
    }

    #[tokio::test]
    async fn a_new_device_is_that_of_one_mount() {
        let parts = Parts::new();
        parts.indirect(1, "/a", 70);
        parts.indirect(2, "/b", 71);
        // A restore may give one mount the number that another one had.
        parts.mounts.move_device(MountId(1), 71);
        parts.mounts.move_device(MountId(2), 70);
        let devices = [1, 2].map(|id| parts.mounts.get(MountId(id)).unwrap().dev);
        assert_eq!(devices, [71, 70]);
        let shown = |target: &str, dev: u32| {
            let text = format!("30 20 0:{dev} / {target} rw - autofs m rw,fd=5,pgrp=9,timeout=3,indirect,pipe_ino=7\n");
            let line = mountinfo::parse(text.as_bytes()).next().map(Mounted::from).unwrap();
            parts.mounts.serves(&line)
        };
        assert!(shown("/a", 71) && shown("/b", 70) && !shown("/a", 70));
    }

    #[tokio::test]
    async fn jobs_count_until_their_guards_are_dropped() {
        let parts = Parts::new();
        let mounts = &parts.mounts;
        let (one, attaching) = (mounts.begin_making(), mounts.begin_attaching());
        let settled = async {
            mounts.settled().await;
            assert!(mounts.is_making(), "the other one is still under way");
        };
        let end = async {
            tokio::task::yield_now().await;
            drop(attaching);
        };
        tokio::join!(settled, end);
        drop(one);
        assert!(!mounts.is_making() && !mounts.is_busy());
        mounts.begin_leaving(MountId(1));
        assert!(mounts.is_busy() && mounts.is_leaving(MountId(1)));
        mounts.end_leaving(MountId(1));
        assert!(!mounts.is_busy());
    }

    #[tokio::test]
    async fn a_mount_that_cannot_be_reached_has_no_root_and_counts_its_requests() {
        let parts = Parts::new();
        parts.indirect(1, "/nonexistent/a", 70);
        parts.mounts.begin_request(MountId(1));
        let root = parts.mounts.with_root(MountId(1), |_| Ok(()));
        assert_eq!(root.unwrap_err().kind(), std::io::ErrorKind::NotFound);
        let unanswered = || parts.mounts.rows.borrow()[&MountId(1)].unanswered;
        assert_eq!(unanswered(), 1);
        parts.mounts.end_request(MountId(1));
        parts.mounts.end_request(MountId(1));
        assert_eq!(unanswered(), 0);
    }
}
