//! The identity of mounts: which mount a descriptor is on, and what it is mounted on.
//!
//! A path names a place, and any user who can write to a directory on the way decides which place that is. A mount id names a
//! mount. statmount(2), Linux 6.8, answers by id; on older kernels the mount table is searched for it. Nothing here waits
//! for a file system: both ask the kernel's list of mounts only.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags, statx};

use super::mountinfo;

/// Mounts that may lie one over the other at one place before the search is given up.
const DEEPEST: usize = 256;

/// linux/stat.h, Linux 6.8: fill in the mount id that is never used again.
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;

/// linux/mount.h: the parts of an answer of statmount(2).
const STATMOUNT_SB_BASIC: u64 = 0x1;
const STATMOUNT_MNT_BASIC: u64 = 0x2;
const STATMOUNT_MNT_POINT: u64 = 0x10;
const STATMOUNT_FS_TYPE: u64 = 0x20;

/// The number of statmount(2). System calls since 5.1 have their numbers in one order on all machines; libc does not
/// have 457 yet.
const SYS_STATMOUNT: libc::c_long = libc::SYS_mount_setattr + (457 - 442);

/// `struct mnt_id_req` of linux/mount.h, version 0.
#[repr(C)]
struct Request {
    size: u32,
    spare: u32,
    mnt_id: u64,
    mask: u64,
}

/// `struct statmount` of linux/mount.h; its strings begin at byte 512.
#[repr(C)]
#[derive(Clone, Copy)]
struct Answer {
    size: u32,
    mnt_opts: u32,
    mask: u64,
    sb_dev: [u32; 2],
    sb_magic: u64,
    sb_flags: u32,
    fs_type: u32,
    mnt_id: u64,
    mnt_parent_id: u64,
    before: [u8; 52],
    mnt_point: u32,
    other: [u8; 400],
    strings: [u8; 128],
}

/// Returns the mount id that no other mount ever gets, or `None` before Linux 6.8.
pub fn unique_id(fd: BorrowedFd<'_>) -> Option<u64> {
    let wanted = StatxFlags::from_bits_retain(STATX_MNT_ID_UNIQUE);
    let found = statx(fd, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, wanted).ok()?;
    (found.stx_mask & STATX_MNT_ID_UNIQUE != 0).then_some(found.stx_mnt_id)
}

/// Returns the mount id of the topmost mount at `name` in `dir`, or of `dir` itself if `name` is empty. No other mount ever gets this
/// id. Triggers no automount, and asks no server for attributes; to reach the root of a network file system may wait for its server.
/// Returns `None` before Linux 6.8.
pub fn unique_id_at(dir: BorrowedFd<'_>, name: &Path) -> Option<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC;
    let found = statx(dir, name, flags, StatxFlags::from_bits_retain(STATX_MNT_ID_UNIQUE)).ok()?;
    (found.stx_mask & STATX_MNT_ID_UNIQUE != 0).then_some(found.stx_mnt_id)
}

/// Asks statmount(2) for the parts `mask` of the mount `mnt_id`. Returns `None` if the kernel cannot tell them.
fn statmount(mnt_id: u64, mask: u64) -> Option<Answer> {
    let request = Request { size: 24, spare: 0, mnt_id, mask };
    let mut answer = Answer {
        size: 0,
        mnt_opts: 0,
        mask: 0,
        sb_dev: [0; 2],
        sb_magic: 0,
        sb_flags: 0,
        fs_type: 0,
        mnt_id: 0,
        mnt_parent_id: 0,
        before: [0; 52],
        mnt_point: 0,
        other: [0; 400],
        strings: [0; 128],
    };
    // SAFETY: both pointers live during the call; the kernel reads `size` bytes of the first and writes at most the
    // given size to the second, all of whose bits are free to take any value.
    let result = unsafe {
        libc::syscall(
            SYS_STATMOUNT,
            std::ptr::from_ref(&request),
            std::ptr::from_mut(&mut answer),
            size_of::<Answer>(),
            0,
        )
    };
    (result == 0 && answer.mask & mask == mask).then_some(answer)
}

/// Returns the type of the file system that `fd` is open on, as the mount table has it. Never waits, as it asks the list
/// of mounts and not the file system. `None` before Linux 6.8.
pub fn fs_type(fd: BorrowedFd<'_>) -> Option<Vec<u8>> {
    let answer = statmount(unique_id(fd)?, STATMOUNT_FS_TYPE)?;
    let text = answer.strings.get(usize::try_from(answer.fs_type).ok()?..)?;
    Some(CStr::from_bytes_until_nul(text).ok()?.to_bytes().to_vec())
}

/// Returns the magic number (linux/magic.h) of the file system that `fd` is open on. Never waits. `None` before Linux 6.8.
pub fn magic(fd: BorrowedFd<'_>) -> Option<u32> {
    u32::try_from(statmount(unique_id(fd)?, STATMOUNT_SB_BASIC)?.sb_magic).ok()
}

/// Parent and mount point of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// At this mount point.
    At {
        /// The mount point.
        path: PathBuf,
        /// Whether it is an autofs mount.
        autofs: bool,
    },
    /// It is not in this mount namespace any more.
    Gone,
    /// The kernel cannot tell (before Linux 6.8), or the path has more than a hundred bytes.
    Unknown,
}

/// Returns where the mount with this id is that no other mount ever gets. Never waits.
pub fn place(id: u64) -> Place {
    let Some(answer) = statmount(id, STATMOUNT_MNT_POINT | STATMOUNT_FS_TYPE) else {
        return match io::Error::last_os_error().raw_os_error() {
            Some(libc::ENOENT) => Place::Gone,
            _ => Place::Unknown,
        };
    };
    let string = |offset: u32| {
        let text = answer.strings.get(usize::try_from(offset).ok()?..)?;
        Some(CStr::from_bytes_until_nul(text).ok()?.to_bytes())
    };
    match (string(answer.mnt_point), string(answer.fs_type)) {
        (Some(path), Some(fstype)) => Place::At { path: OsStr::from_bytes(path).into(), autofs: fstype == b"autofs" },
        _ => Place::Unknown,
    }
}

/// As [`fs_type`], but reads the mount table on kernels before 6.8, which takes milliseconds with many mounts.
pub fn fs_type_or_table(fd: BorrowedFd<'_>) -> Option<Vec<u8>> {
    if let Some(known) = fs_type(fd) {
        return Some(known);
    }
    let (id, table) = (table_id(fd).ok()?, mountinfo::read().ok()?);
    let line = mountinfo::parse(&table).find(|line| u64::from(line.id) == id)?;
    Some(line.fstype.to_vec())
}

/// Returns whether `fd` is open on an autofs mount itself, which is so if nothing is mounted there. Never waits. `None`
/// before Linux 6.8, and then only for file systems that have the block size of autofs.
pub fn is_autofs(fd: BorrowedFd<'_>) -> Option<bool> {
    /// autofs has no device, and blocks of 1 KiB since Linux 2.6; few others have both.
    const BLOCK: u32 = 1024;
    let found = statx(fd, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::empty()).ok()?;
    if found.stx_dev_major != 0 || found.stx_blksize != BLOCK {
        return Some(false);
    }
    Some(fs_type(fd)? == b"autofs")
}

/// A line of the list of mounts: its id, the id of the mount below it, and the device number (`st_dev`) of its file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link {
    id: u64,
    parent: u64,
    dev: u64,
}

/// Returns whether the mount that `top` is open on lies, at the same place, over the mount of the file system with device
/// number (`st_dev`) `dev`: directly, or with others between them. `dir` is open on the directory that holds the mount
/// point, so that nothing above the mount point counts.
///
/// # Errors
/// Those of reading the mount table, on kernels before 6.8.
pub fn is_over(top: BorrowedFd<'_>, dir: BorrowedFd<'_>, dev: u64) -> io::Result<bool> {
    if let (Some(top), Some(dir)) = (unique_id(top), unique_id(dir)) {
        let by_id = |id| {
            let answer = statmount(id, STATMOUNT_SB_BASIC | STATMOUNT_MNT_BASIC)?;
            let dev = rustix::fs::makedev(answer.sb_dev[0], answer.sb_dev[1]);
            Some(Link { id, parent: answer.mnt_parent_id, dev })
        };
        // A filter of system calls may forbid the one and not the other.
        if by_id(top).is_some() {
            return Ok(leads_to(top, dir, dev, by_id));
        }
    }
    let table = mountinfo::read()?;
    let by_id = |id| {
        let line = mountinfo::parse(&table).find(|line| u64::from(line.id) == id)?;
        Some(Link { id, parent: line.parent.into(), dev: super::autofs::decode(line.dev) })
    };
    Ok(leads_to(table_id(top)?, table_id(dir)?, dev, by_id))
}

/// Walks from the mount `top` down to the mount `dir`, and returns whether the file system `dev` is mounted between them.
fn leads_to(top: u64, dir: u64, dev: u64, link: impl Fn(u64) -> Option<Link>) -> bool {
    let mut id = top;
    for _ in 0..DEEPEST {
        if id == dir {
            return false;
        }
        let Some(found) = link(id) else { return false };
        if found.dev == dev {
            return true;
        }
        id = found.parent;
    }
    false
}

/// Returns the mount id as the mount table shows it: by statx(2) since Linux 5.8, by /proc/self/fdinfo before.
///
/// # Errors
/// Those of reading /proc/self/fdinfo.
pub fn table_id(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    if let Ok(found) = statx(fd, "", flags, StatxFlags::MNT_ID) {
        if found.stx_mask & StatxFlags::MNT_ID.bits() != 0 {
            return Ok(found.stx_mnt_id);
        }
    }
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    line.and_then(|id| id.trim().parse().ok()).ok_or_else(|| io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::path::Path;

    use super::*;
    use crate::sys::path;

    #[test]
    fn the_list_of_mounts_tells_the_type() {
        let proc = path::open(Path::new("/proc")).unwrap();
        if let Some(name) = fs_type(proc.as_fd()) {
            assert_eq!(name, b"proc");
        }
    }

    #[test]
    fn a_mount_is_over_itself_and_not_over_what_holds_it() {
        let (root, proc) = (path::open(Path::new("/")).unwrap(), path::open(Path::new("/proc")).unwrap());
        let dev = |fd: &std::os::fd::OwnedFd| path::fstat(fd.as_fd()).unwrap().dev;
        assert!(is_over(proc.as_fd(), root.as_fd(), dev(&proc)).unwrap());
        assert!(!is_over(proc.as_fd(), root.as_fd(), dev(&root)).unwrap());
        assert!(!is_over(root.as_fd(), root.as_fd(), dev(&root)).unwrap());
    }

    #[test]
    fn both_ways_find_the_same_line() {
        let proc = path::open(Path::new("/proc")).unwrap();
        let table = mountinfo::read().unwrap();
        let id = table_id(proc.as_fd()).unwrap();
        let line = mountinfo::parse(&table).find(|line| u64::from(line.id) == id).unwrap();
        assert_eq!(line.fstype, b"proc");
    }

    #[test]
    fn a_stack_is_walked_down_to_the_directory() {
        let link = |id: u64| Some(Link { id, parent: id - 1, dev: id * 10 });
        assert!(leads_to(9, 5, 70, link));
        assert!(!leads_to(9, 5, 50, link), "the mount of the directory itself does not count");
        assert!(!leads_to(9, 5, 40, link));
        assert!(!leads_to(9, 5, 70, |_| None));
    }
}
