//! The names of things between engine and shell.

use std::ffi::OsStr;
use std::fmt;
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::record::Record;

/// Identifies an autofs mount of ours during its life. Device and inode numbers do not, because a restore changes them.
///
/// [`MountIds`] allocates them: those of top-level mounts in the engine, which brings them in
/// [`Effect::Attach`](super::Effect::Attach), those of offset mounts and submounts in the shell, which returns them in
/// [`Done`](super::Done). No packet of an autofs mount may reach the engine before the event or effect with its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MountId(pub u32);

impl MountId {
    /// The bit that only the numbers of top-level mounts have.
    pub const TOP: u32 = 0x8000_0000;

    /// Returns whether this is the number of a top-level mount.
    pub const fn is_top(self) -> bool {
        self.0 & Self::TOP != 0
    }
}

/// Allocates ids of autofs mounts.
#[derive(Debug)]
pub struct MountIds {
    last: u32,
    /// The high bit of all ids.
    kind: u32,
}

impl MountIds {
    /// Creates the allocator of ids for top-level mounts.
    pub const fn top() -> Self {
        Self { last: 0, kind: MountId::TOP }
    }

    /// Creates the allocator of ids for offset mounts and submounts.
    pub const fn nested() -> Self {
        Self { last: 0, kind: 0 }
    }

    /// Returns an id that no mount has. After 2^31 ids the numbers begin again, so `is_used` is asked for each.
    pub fn allocate(&mut self, is_used: impl Fn(MountId) -> bool) -> MountId {
        loop {
            self.last = self.last.wrapping_add(1) & !MountId::TOP;
            let id = MountId(self.kind | self.last);
            if !is_used(id) {
                return id;
            }
        }
    }
}

/// The kernel's wait queue token: one counter for the machine, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub NonZeroU32);

/// Identifies a job of the shell. The event with the outcome names it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub u64);

/// Milliseconds since some moment of the shell's choice; only differences count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Tick(pub u64);

impl Tick {
    /// The moment so many milliseconds later.
    pub const fn after(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds that have passed since an earlier moment.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The name of an entry below an autofs mount, as the kernel gives it. Empty for direct and offset mounts, which have
/// just one entry.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Key(pub Box<[u8]>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", crate::text::Escaped(&self.0))
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

/// An entry: what the kernel asks for below an autofs mount, and what is mounted there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId {
    /// The autofs mount.
    pub mount: MountId,
    /// The name below it; empty for direct and offset mounts.
    pub key: Key,
}

/// Why something failed, for `explain`, the history and the log. The engine hands it on and never looks inside.
pub type Reason = Arc<Record>;

/// Kind of an autofs mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Keys appear below it.
    Indirect,
    /// It is itself what is mounted over.
    Direct,
    /// Like direct, inside a multi-mount.
    Offset,
}

impl Kind {
    /// The path at which an entry of an autofs mount of this kind is mounted.
    pub fn entry_path(self, mount_point: &Path, key: &Key) -> PathBuf {
        match self {
            Self::Indirect => mount_point.join(OsStr::from_bytes(&key.0)),
            Self::Direct | Self::Offset => mount_point.to_path_buf(),
        }
    }
}

/// The process that has asked, from the packet: real ids in the user namespace of the pipe's opener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Requester {
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Thread, in our pid namespace.
    pub pid: u32,
    /// Process, in our pid namespace.
    pub tgid: u32,
}

/// The errno values that may be answered. The kernel passes the errno of FAIL to the waiting process
/// unchecked: values below -4095 crash it, and values from 0 on froze kernels before 4.12. So only these constants can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Errno {
    /// There is no such key, or it could not be mounted. automount gives no other errno.
    ENOENT,
    /// An expire packet whose file system is in use.
    EBUSY,
    /// The request's deadline has passed.
    ETIMEDOUT,
    /// The entry is mounted, but not in the mount namespace of the requester, which would ask forever.
    ELOOP,
    /// The worker cannot do it now.
    EAGAIN,
    /// A failure that is not due to the map.
    EIO,
    /// The administrator has blocked the path.
    EACCES,
    /// The kernel starts the lookup again, once, with a new request.
    ESTALE,
}

impl Errno {
    /// Returns the name in errno(3).
    pub const fn name(self) -> &'static str {
        match self {
            Self::ENOENT => "ENOENT",
            Self::EBUSY => "EBUSY",
            Self::ETIMEDOUT => "ETIMEDOUT",
            Self::ELOOP => "ELOOP",
            Self::EAGAIN => "EAGAIN",
            Self::EIO => "EIO",
            Self::EACCES => "EACCES",
            Self::ESTALE => "ESTALE",
        }
    }

    /// The positive number of errno(3) on Linux.
    pub const fn number(self) -> i32 {
        match self {
            Self::ENOENT => libc::ENOENT,
            Self::EBUSY => libc::EBUSY,
            Self::ETIMEDOUT => libc::ETIMEDOUT,
            Self::ELOOP => libc::ELOOP,
            Self::EAGAIN => libc::EAGAIN,
            Self::EIO => libc::EIO,
            Self::EACCES => libc::EACCES,
            Self::ESTALE => libc::ESTALE,
        }
    }
}

/// A top-level autofs mount as the configuration wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The mount point. Shared, to save memory with thousands of mounts.
    pub path: Arc<Path>,
    /// Indirect or direct.
    pub kind: Kind,
    /// Which maps serve it: the shell's number for the line of the master map (equal lines keep their number over a
    /// reload).
    pub map: u32,
    /// Seconds after which an unused mount is unmounted; 0 for never.
    pub timeout: u64,
    /// Seconds for which a failed key fails at once.
    pub negative_timeout: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_both_kinds_are_distinct_and_no_used_one_is_allocated() {
        let (mut top, mut nested) = (MountIds::top(), MountIds::nested());
        assert_eq!((top.allocate(|_| false), nested.allocate(|_| false)), (MountId(MountId::TOP | 1), MountId(1)));
        top.last = !MountId::TOP - 1;
        nested.last = !MountId::TOP - 1;
        let next =
            |ids: &mut MountIds| [(); 3].map(|()| ids.allocate(|id| id.0 & !MountId::TOP == 1).0 & !MountId::TOP);
        assert_eq!(next(&mut top), [!MountId::TOP, 0, 2], "they begin again");
        assert!(nested.allocate(|_| false).0 == !MountId::TOP && !nested.allocate(|_| false).is_top());
    }
}
