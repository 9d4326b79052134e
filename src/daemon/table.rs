//! The mount table at one moment, with the questions that attaching asks.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::engine::Kind;
use crate::sys::autofs;
use crate::sys::mountinfo::{self, AutofsOptions};

/// A line of it.
#[derive(Debug, Clone)]
pub(super) struct Mounted {
    /// Mount point.
    pub(super) target: PathBuf,
    /// Type of the file system.
    pub(super) fstype: Vec<u8>,
    /// Source: the map's name, for an autofs of ours.
    pub(super) source: Vec<u8>,
    /// Device, encoded as in packets.
    pub(super) dev: u32,
    /// What an autofs mount shows.
    pub(super) autofs: Option<AutofsOptions>,
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
    /// The number of the pipe, among those with these inode numbers, through which an autofs mount speaks.
    pub(super) fn speaks_through(&self, pipes: &HashMap<u64, u32>) -> Option<u32> {
        let inode = u64::try_from(self.autofs.as_ref()?.pipe_ino?).ok()?;
        pipes.get(&inode).copied()
    }
}

/// All lines: those of a mount point in the order in which they were mounted.
#[derive(Debug)]
pub(super) struct MountTable {
    by_target: Vec<Mounted>,
}

impl MountTable {
    /// Reads it. May take milliseconds with many mounts.
    pub(super) fn read() -> io::Result<Self> {
        let text = mountinfo::read()?;
        Ok(Self::of(mountinfo::parse(&text).map(Mounted::from).collect()))
    }

    /// A table of these lines.
    pub(super) fn of(mut mounts: Vec<Mounted>) -> Self {
        mounts.sort_by(|a, b| a.target.cmp(&b.target));
        Self { by_target: mounts }
    }

    /// All lines, parents before children.
    pub(super) fn mounts(&self) -> &[Mounted] {
        &self.by_target
    }

    /// The mounts at exactly this path, the one on top last.
    pub(super) fn at(&self, path: &Path) -> &[Mounted] {
        let start = self.by_target.partition_point(|m| m.target.as_path() < path);
        let rest = self.by_target.get(start..).unwrap_or_default();
        rest.get(..rest.partition_point(|m| m.target == path)).unwrap_or_default()
    }

    /// Whether something is mounted at exactly this path besides the autofs with the device number `autofs`.
    pub(super) fn has_mount(&self, path: &Path, autofs: u64) -> bool {
        self.at(path).iter().any(|m| autofs::decode(m.dev) != autofs)
    }

    /// Whether the way to this path leads over a direct or offset mount that is not ours, given our pipes, and whose
    /// owner may have left a request open.
    pub(super) fn may_block(&self, path: &Path, own: &HashMap<u64, u32>) -> bool {
        let blocks = |line: &Mounted| {
            line.autofs.is_some_and(|a| a.kind != Kind::Indirect && a.pipe_ino != Some(-1))
                && line.speaks_through(own).is_none()
        };
        path.ancestors().any(|at| self.at(at).iter().any(blocks))
    }

    /// Whether this path lies on a file system of another machine, which may not answer.
    pub(super) fn is_remote(&self, path: &Path) -> bool {
        let is = |fstype: &[u8]| {
            matches!(fstype, b"nfs" | b"nfs4" | b"cifs" | b"smb3" | b"ncpfs" | b"afs" | b"coda" | b"ceph" | b"9p")
        };
        path.ancestors().skip(1).find_map(|above| self.at(above).last()).is_some_and(|below| is(&below.fstype))
    }

    /// The mounts strictly below this path.
    pub(super) fn below<'t>(&'t self, path: &'t Path) -> impl Iterator<Item = &'t Mounted> {
        // Paths compare by component, so what lies below stands together right behind.
        let start = self.by_target.partition_point(|m| m.target.as_path() <= path);
        self.by_target.get(start..).unwrap_or_default().iter().take_while(move |m| m.target.starts_with(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
