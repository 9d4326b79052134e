//! A snapshot of the mount table, with queries for attaching.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::engine::Kind;
use crate::sys::mountinfo::{self, AutofsOptions};
use crate::sys::{autofs, fstypes, path};
use crate::text::path_order;

/// A line of the mount table.
#[derive(Debug, Clone)]
pub(crate) struct Mounted {
    /// The mount id.
    pub(crate) id: u32,
    /// The id of the mount that it is mounted on.
    parent: u32,
    /// The mount point.
    pub(crate) target: PathBuf,
    /// The file system type.
    pub(crate) fstype: Vec<u8>,
    /// The source; for our autofs mounts, the name of the map.
    pub(crate) source: Vec<u8>,
    /// The device number, encoded as in packets.
    pub(crate) dev: u32,
    /// The options of an autofs mount.
    pub(crate) autofs: Option<AutofsOptions>,
}

impl From<mountinfo::Entry<'_>> for Mounted {
    fn from(entry: mountinfo::Entry<'_>) -> Self {
        Self {
            id: entry.id,
            parent: entry.parent,
            target: entry.path().to_owned(),
            fstype: entry.fstype.to_vec(),
            source: entry.source.to_vec(),
            dev: entry.dev,
            autofs: entry.autofs(),
        }
    }
}

impl Mounted {
    /// Returns whether this is a direct or offset mount that is not catatonic.
    fn is_trigger(&self) -> bool {
        self.autofs.is_some_and(|shown| shown.kind != Kind::Indirect && shown.pipe_ino != Some(-1))
    }

    /// Returns the number of the pipe of an autofs mount, if it is one of `pipes` (numbers by inode).
    pub(crate) fn speaks_through(&self, pipes: &HashMap<u64, u32>) -> Option<u32> {
        let inode = u64::try_from(self.autofs.as_ref()?.pipe_ino?).ok()?;
        pipes.get(&inode).copied()
    }

    /// Opens the root of the mount. Triggers nothing. May wait.
    ///
    /// # Errors
    /// `NotFound`: another mount, or none, is at its mount point by now. Else the errors of opening it.
    pub(crate) fn open_root(&self) -> io::Result<OwnedFd> {
        let root = path::open_exact(&self.target)?;
        let is_it = path::fstat(root.as_fd())?.mnt_id.is_none_or(|id| id == u64::from(self.id));
        is_it.then_some(root).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// All mounts that a path leads to. Those with the same mount point are in the order in which they lie on each other.
#[derive(Debug)]
pub(crate) struct MountTable {
    /// In [`path_order()`].
    by_target: Vec<Mounted>,
    /// The mounts that no path leads to, because something was mounted over a directory above them later.
    hidden: Vec<Mounted>,
    /// Whether any of them is served by another machine or process.
    servers: bool,
    /// Whether any of them is a direct or offset mount that is not catatonic.
    triggers: bool,
}

/// Walks to each mount point as the kernel does, from one mount to the one on it. Returns the mounts in the order in which
/// they lie on each other, and those that the walk does not come by. `sorted` is in [`path_order()`].
fn walk(sorted: Vec<Mounted>) -> (Vec<Mounted>, Vec<Mounted>) {
    let ids: HashSet<u32> = sorted.iter().map(|line| line.id).collect();
    let (mut seen, mut hidden) = (Vec::with_capacity(sorted.len()), Vec::new());
    // The way to the mount point: each directory with a mount, and the topmost mount there.
    let mut way: Vec<(PathBuf, u32)> = Vec::new();
    let mut rest = sorted.into_iter().peekable();
    while let Some(first) = rest.next() {
        let target = first.target.clone();
        let mut here = vec![first];
        while let Some(next) = rest.next_if(|line| line.target == target) {
            here.push(next);
        }
        while way.last().is_some_and(|(above, _)| !target.starts_with(above)) {
            way.pop();
        }
        // What the root directory is on is not in the table of a process in a chroot.
        let mut top = way.last().map(|(_, id)| *id);
        let is_on = |line: &Mounted, top: Option<u32>| match top {
            Some(id) => line.parent == id && line.id != id,
            None => line.parent == line.id || !ids.contains(&line.parent),
        };
        let mut found = false;
        while let Some(index) = here.iter().position(|line| is_on(line, top)) {
            let line = here.remove(index);
            top = Some(line.id);
            seen.push(line);
            found = true;
        }
        if let Some(top) = top.filter(|_| found) {
            way.push((target, top));
        }
        hidden.append(&mut here);
    }
    (seen, hidden)
}

impl MountTable {
    /// Reads the mount table. May take milliseconds with many mounts.
    pub(crate) fn read() -> io::Result<Self> {
        let text = mountinfo::read()?;
        Ok(Self::of(mountinfo::parse(&text).map(Mounted::from).collect()))
    }

    /// Creates a table from lines.
    pub(crate) fn of(mut mounts: Vec<Mounted>) -> Self {
        mounts.sort_by(|a, b| path_order(&a.target, &b.target));
        let (by_target, hidden) = walk(mounts);
        let triggers = by_target.iter().any(Mounted::is_trigger);
        let servers = by_target.iter().any(|line| fstypes::has_server(&line.fstype));
        Self { by_target, hidden, servers, triggers }
    }

    /// Returns the mounts that no path leads to.
    pub(crate) fn hidden(&self) -> &[Mounted] {
        &self.hidden
    }

    /// Returns what covers a hidden mount: the topmost mount at the deepest directory above it.
    pub(crate) fn cover(&self, hidden: &Mounted) -> Option<&Mounted> {
        hidden.target.ancestors().find_map(|at| self.at(at).last())
    }

    /// Returns whether something is mounted on this mount.
    pub(crate) fn carries(&self, line: &Mounted) -> bool {
        self.by_target.iter().chain(&self.hidden).any(|other| other.parent == line.id && other.id != line.id)
    }

    /// Returns the mount that this one is mounted on, if a path leads to it.
    pub(crate) fn below_it(&self, line: &Mounted) -> Option<&Mounted> {
        self.by_target.iter().find(|other| other.id == line.parent)
    }

    /// Returns all lines, parents before children.
    pub(crate) fn mounts(&self) -> &[Mounted] {
        &self.by_target
    }

    /// Returns the mounts at exactly this path, the topmost last.
    pub(crate) fn at(&self, path: &Path) -> &[Mounted] {
        let start = self.by_target.partition_point(|m| path_order(&m.target, path).is_lt());
        let rest = self.by_target.get(start..).unwrap_or_default();
        let count = rest.iter().take_while(|m| path_order(&m.target, path).is_eq()).count();
        rest.get(..count).unwrap_or_default()
    }

    /// Returns whether anything except the autofs mount with the device number `autofs` is mounted at exactly this path.
    pub(crate) fn has_mount(&self, path: &Path, autofs: u64) -> bool {
        self.at(path).iter().any(|m| autofs::decode(m.dev) != autofs)
    }

    /// Returns whether walking to this path may block: a direct or offset mount on the way is not ours, and may have an
    /// unanswered request of a dead owner; or a server is on the way. `own` are our pipes.
    pub(crate) fn may_block(&self, path: &Path, own: &HashMap<u64, u32>) -> bool {
        let blocks = |line: &Mounted| line.is_trigger() && line.speaks_through(own).is_none();
        self.triggers && path.ancestors().any(|at| self.at(at).iter().any(blocks)) || self.server_above(path).is_some()
    }

    /// Returns the file system on the way to this path whose server may not answer, the first if there are several. The root
    /// directory does not count: without its server nothing works.
    pub(crate) fn server_above(&self, path: &Path) -> Option<&Mounted> {
        let has_server = |at: &Path| self.at(at).iter().find(|line| fstypes::has_server(&line.fstype));
        let above = || path.ancestors().skip(1).filter(|at| at.parent().is_some()).filter_map(has_server);
        if self.servers { above().last() } else { None }
    }

    /// Returns whether this path is on a network file system, whose server may not respond.
    pub(crate) fn is_remote(&self, path: &Path) -> bool {
        let below = path.ancestors().skip(1).find_map(|above| self.at(above).last());
        below.is_some_and(|below| fstypes::is_of_network(&below.fstype))
    }

    /// Returns the mounts below this path, without those at the path itself.
    pub(crate) fn below<'t>(&'t self, path: &'t Path) -> impl Iterator<Item = &'t Mounted> {
        let start = self.by_target.partition_point(|m| path_order(&m.target, path).is_le());
        self.by_target.get(start..).unwrap_or_default().iter().take_while(move |m| m.target.starts_with(path))
    }
}

/// Returns where a process sees the autofs mounts that `wanted` selects: a path by which this process can reach each, and its line
/// in the mount table of the other process.
pub(crate) fn seen_by(pid: i32, wanted: impl Fn(&Mounted) -> bool) -> Vec<(PathBuf, Mounted)> {
    let Ok(table) = mountinfo::read_of(pid) else { return Vec::new() };
    let autofs = mountinfo::parse(&table).filter(|line| line.fstype == b"autofs");
    let lines = autofs.map(Mounted::from).filter(wanted);
    let root = format!("/proc/{pid}/root");
    let reached = |line: &Mounted| [root.as_bytes(), line.target.as_os_str().as_bytes()].concat();
    let place = |line: Mounted| (Path::new(OsStr::from_bytes(&reached(&line))).to_owned(), line);
    lines.filter(|line| line.autofs.is_some()).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a table of mounts with their ids, what they are on, and their mount points.
    fn table(mounts: &[(u32, u32, &str)]) -> MountTable {
        let line = |(id, parent, target): &(u32, u32, &str)| Mounted {
            id: *id,
            parent: *parent,
            target: target.into(),
            fstype: b"tmpfs".to_vec(),
            source: Vec::new(),
            dev: *id,
            autofs: None,
        };
        MountTable::of(mounts.iter().map(line).collect())
    }

    #[test]
    fn what_lies_below_is_found_by_component() {
        let mounts = [(1, 0, "/"), (2, 1, "/a"), (3, 5, "/a/b"), (4, 1, "/a-b"), (6, 3, "/a/b/c"), (5, 2, "/a")];
        let table = table(&[&mounts[..], &[(7, 1, "/b")]].concat());
        let below: Vec<_> = table.below(Path::new("/a")).map(|m| m.target.to_str().unwrap()).collect();
        assert_eq!(below, ["/a/b", "/a/b/c"]);
        assert_eq!(table.at(Path::new("/a")).iter().map(|line| line.id).collect::<Vec<_>>(), [2, 5]);
        assert!(table.at(Path::new("/c")).is_empty() && table.hidden().is_empty());
        assert!(table.has_mount(Path::new("/b"), 2) && !table.has_mount(Path::new("/b"), 7));
    }

    #[test]
    fn what_is_covered_from_above_is_hidden() {
        // 4 is mounted over the directory of 3, which has 5 on it; 6 is on 4, at the place of 3.
        let table =
            table(&[(1, 0, "/"), (2, 1, "/x"), (3, 2, "/x/d/k"), (5, 3, "/x/d/k/s"), (4, 2, "/x/d"), (6, 4, "/x/d/k")]);
        let seen: Vec<u32> = table.mounts().iter().map(|line| line.id).collect();
        assert_eq!(seen, [1, 2, 4, 6]);
        let hidden: Vec<u32> = table.hidden().iter().map(|line| line.id).collect();
        assert_eq!(hidden, [3, 5]);
        assert_eq!(table.cover(&table.hidden()[1]).map(|line| line.id), Some(6));
    }

    #[test]
    fn in_a_chroot_the_first_mounts_are_on_one_that_is_not_shown() {
        let table = table(&[(2, 1, "/a"), (3, 2, "/a/b"), (4, 1, "/c")]);
        assert_eq!(table.mounts().len(), 3);
        // The root of the initial mount namespace is on itself.
        assert_eq!(self::table(&[(1, 1, "/"), (2, 1, "/a")]).mounts().len(), 2);
    }
}
