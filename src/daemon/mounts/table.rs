//! A snapshot of the mount table, with queries for attaching.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::engine::Kind;
use crate::sys::autofs;
use crate::sys::mountinfo::{self, AutofsOptions};

/// A line of the mount table.
#[derive(Debug, Clone)]
pub(crate) struct Mounted {
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
}

/// All lines. Those with the same mount point are in the order in which they were mounted.
#[derive(Debug)]
pub(crate) struct MountTable {
    /// In [`order`].
    by_target: Vec<Mounted>,
    /// Whether any of them is a direct or offset mount that is not catatonic.
    triggers: bool,
}

/// Compares paths by components, so that the paths below a path directly follow it. The order is that of `Path`, whose
/// comparison takes several times as long because it supports relative paths and dots.
fn order(a: &Path, b: &Path) -> Ordering {
    fn parts(path: &Path) -> impl Iterator<Item = &[u8]> {
        path.as_os_str().as_bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty())
    }
    parts(a).cmp(parts(b))
}

impl MountTable {
    /// Reads the mount table. May take milliseconds with many mounts.
    pub(crate) fn read() -> io::Result<Self> {
        let text = mountinfo::read()?;
        Ok(Self::of(mountinfo::parse(&text).map(Mounted::from).collect()))
    }

    /// Creates a table from lines.
    pub(crate) fn of(mut mounts: Vec<Mounted>) -> Self {
        mounts.sort_by(|a, b| order(&a.target, &b.target));
        let triggers = mounts.iter().any(Mounted::is_trigger);
        Self { by_target: mounts, triggers }
    }

    /// Returns all lines, parents before children.
    pub(crate) fn mounts(&self) -> &[Mounted] {
        &self.by_target
    }

    /// Returns the mounts at exactly this path, the topmost last.
    pub(crate) fn at(&self, path: &Path) -> &[Mounted] {
        let start = self.by_target.partition_point(|m| order(&m.target, path).is_lt());
        let rest = self.by_target.get(start..).unwrap_or_default();
        let count = rest.iter().take_while(|m| order(&m.target, path).is_eq()).count();
        rest.get(..count).unwrap_or_default()
    }

    /// Returns whether anything except the autofs mount with the device number `autofs` is mounted at exactly this path.
    pub(crate) fn has_mount(&self, path: &Path, autofs: u64) -> bool {
        self.at(path).iter().any(|m| autofs::decode(m.dev) != autofs)
    }

    /// Returns whether walking to this path may block: a direct or offset mount on the way is not ours, and may have an
    /// unanswered request of a dead owner. `own` are our pipes.
    pub(crate) fn may_block(&self, path: &Path, own: &HashMap<u64, u32>) -> bool {
        let blocks = |line: &Mounted| line.is_trigger() && line.speaks_through(own).is_none();
        self.triggers && path.ancestors().any(|at| self.at(at).iter().any(blocks))
    }

    /// Returns whether this path is on a network file system, whose server may not respond.
    pub(crate) fn is_remote(&self, path: &Path) -> bool {
        let is = |fstype: &[u8]| {
            matches!(fstype, b"nfs" | b"nfs4" | b"cifs" | b"smb3" | b"ncpfs" | b"afs" | b"coda" | b"ceph" | b"9p")
        };
        path.ancestors().skip(1).find_map(|above| self.at(above).last()).is_some_and(|below| is(&below.fstype))
    }

    /// Returns the mounts below this path, without those at the path itself.
    pub(crate) fn below<'t>(&'t self, path: &'t Path) -> impl Iterator<Item = &'t Mounted> {
        let start = self.by_target.partition_point(|m| order(&m.target, path).is_le());
        self.by_target.get(start..).unwrap_or_default().iter().take_while(move |m| m.target.starts_with(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_in_the_order_of_their_components() {
        let paths = ["/", "/a", "/a/b", "/a/b/c", "/a b", "/a-b", "/a.b/c", "/ab", "/b", "/\u{1}", "//a/", "/a//b"]
            .map(Path::new);
        for a in paths {
            for b in paths {
                assert_eq!(order(a, b), a.cmp(b), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn what_lies_below_is_found_by_component() {
        let mounts = ["/a", "/a/b", "/a-b", "/a/b/c", "/a", "/b"].map(|path| Mounted {
            target: path.into(),
            fstype: b"tmpfs".to_vec(),
            source: Vec::new(),
            dev: 1,
            autofs: None,
        });
        let table = MountTable::of(mounts.to_vec());
        let below: Vec<_> = table.below(Path::new("/a")).map(|m| m.target.to_str().unwrap()).collect();
        assert_eq!(below, ["/a/b", "/a/b/c"]);
        assert_eq!(table.at(Path::new("/a")).len(), 2);
        assert!(table.at(Path::new("/c")).is_empty());
        assert!(table.has_mount(Path::new("/b"), 2) && !table.has_mount(Path::new("/b"), 1));
    }
}
