//! The mount table at one moment, with the questions that attaching asks.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::engine::Kind;
use crate::sys::autofs;
use crate::sys::mountinfo::{self, AutofsOptions};

/// A line of it.
#[derive(Debug, Clone)]
pub(crate) struct Mounted {
    /// Mount point.
    pub(crate) target: PathBuf,
    /// Type of the file system.
    pub(crate) fstype: Vec<u8>,
    /// Source: the map's name, for an autofs of ours.
    pub(crate) source: Vec<u8>,
    /// Device, encoded as in packets.
    pub(crate) dev: u32,
    /// What an autofs mount shows.
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
    /// Whether it is a direct or offset mount that is not catatonic.
    fn is_trigger(&self) -> bool {
        self.autofs.is_some_and(|shown| shown.kind != Kind::Indirect && shown.pipe_ino != Some(-1))
    }

    /// The number of the pipe, among those with these inode numbers, through which an autofs mount speaks.
    pub(crate) fn speaks_through(&self, pipes: &HashMap<u64, u32>) -> Option<u32> {
        let inode = u64::try_from(self.autofs.as_ref()?.pipe_ino?).ok()?;
        pipes.get(&inode).copied()
    }
}

/// All lines: those of a mount point in the order in which they were mounted.
#[derive(Debug)]
pub(crate) struct MountTable {
    /// In [`order`].
    by_target: Vec<Mounted>,
    /// Some of them are direct or offset mounts that somebody serves, or has served.
    triggers: bool,
}

/// Paths by their components, so that what lies below one stands together right behind it. As `Path` compares them, but
/// that minds relative paths and dots, of which there are none, and takes several times as long.
fn order(a: &Path, b: &Path) -> Ordering {
    fn parts(path: &Path) -> impl Iterator<Item = &[u8]> {
        path.as_os_str().as_bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty())
    }
    parts(a).cmp(parts(b))
}

impl MountTable {
    /// Reads it. May take milliseconds with many mounts.
    pub(crate) fn read() -> io::Result<Self> {
        let text = mountinfo::read()?;
        Ok(Self::of(mountinfo::parse(&text).map(Mounted::from).collect()))
    }

    /// A table of these lines.
    pub(crate) fn of(mut mounts: Vec<Mounted>) -> Self {
        mounts.sort_by(|a, b| order(&a.target, &b.target));
        let triggers = mounts.iter().any(Mounted::is_trigger);
        Self { by_target: mounts, triggers }
    }

    /// All lines, parents before children.
    pub(crate) fn mounts(&self) -> &[Mounted] {
        &self.by_target
    }

    /// The mounts at exactly this path, the one on top last.
    pub(crate) fn at(&self, path: &Path) -> &[Mounted] {
        let start = self.by_target.partition_point(|m| order(&m.target, path).is_lt());
        let rest = self.by_target.get(start..).unwrap_or_default();
        let count = rest.iter().take_while(|m| order(&m.target, path).is_eq()).count();
        rest.get(..count).unwrap_or_default()
    }

    /// Whether something is mounted at exactly this path besides the autofs with the device number `autofs`.
    pub(crate) fn has_mount(&self, path: &Path, autofs: u64) -> bool {
        self.at(path).iter().any(|m| autofs::decode(m.dev) != autofs)
    }

    /// Whether the way to this path leads over a direct or offset mount that is not ours, given our pipes, and whose
    /// owner may have left a request open.
    pub(crate) fn may_block(&self, path: &Path, own: &HashMap<u64, u32>) -> bool {
        let blocks = |line: &Mounted| line.is_trigger() && line.speaks_through(own).is_none();
        self.triggers && path.ancestors().any(|at| self.at(at).iter().any(blocks))
    }

    /// Whether this path lies on a file system of another machine, which may not answer.
    pub(crate) fn is_remote(&self, path: &Path) -> bool {
        let is = |fstype: &[u8]| {
            matches!(fstype, b"nfs" | b"nfs4" | b"cifs" | b"smb3" | b"ncpfs" | b"afs" | b"coda" | b"ceph" | b"9p")
        };
        path.ancestors().skip(1).find_map(|above| self.at(above).last()).is_some_and(|below| is(&below.fstype))
    }

    /// The mounts strictly below this path.
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
