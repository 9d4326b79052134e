//! Mounts made, changed and taken away by system call.
//!
//! A target is given as a descriptor of the directory that holds it and a name, so that nobody who can write to a
//! directory on the way can lead a mount elsewhere. Everything here may wait, but for a bind mount of a source that is
//! open already and a mount of a file system that lives in memory.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use libc::c_ulong;
use rustix::fs::{AtFlags, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_bind, mount_change,
    move_mount, open_tree,
};

use crate::map::Propagation;

/// Flags of mount(2), by their names there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(c_ulong);

impl Flags {
    /// The word `ro`.
    pub const RDONLY: Self = Self(libc::MS_RDONLY);

    /// What belongs to a mount and not to its file system, and what a bind mount can therefore have for itself.
    const OF_MOUNT: c_ulong = libc::MS_RDONLY
        | libc::MS_NOSUID
        | libc::MS_NODEV
        | libc::MS_NOEXEC
        | libc::MS_NOATIME
        | libc::MS_NODIRATIME
        | libc::MS_RELATIME
        | libc::MS_STRICTATIME
        | MS_NOSYMFOLLOW;

    /// Takes one word of an option list. False if it is no generic flag, but a matter of the file system or of
    /// mount(8). The last word on a matter wins.
    pub fn apply(&mut self, word: &[u8]) -> bool {
        let Some((_, set, clear)) = WORDS.iter().find(|(name, ..)| name.as_bytes() == word) else {
            return false;
        };
        self.0 = self.0 & !clear | set;
        true
    }

    /// Are all of them flags that a bind mount can have for itself?
    pub fn fit_bind(self) -> bool {
        self.0 & !Self::OF_MOUNT == 0
    }

    /// Is nothing said?
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// As `mount_setattr(2)` wants them: bits to set and bits to clear. The atime modes are a field there.
    fn attributes(self) -> (u64, u64) {
        const RDONLY: u64 = 0x1;
        const NOSUID: u64 = 0x2;
        const NODEV: u64 = 0x4;
        const NOEXEC: u64 = 0x8;
        const ATIME_MASK: u64 = 0x70;
        const RELATIME: u64 = 0x00;
        const NOATIME: u64 = 0x10;
        const STRICTATIME: u64 = 0x20;
        const NODIRATIME: u64 = 0x80;
        const NOSYMFOLLOW: u64 = 0x20_0000;
        const PLAIN: [(c_ulong, u64); 6] = [
            (libc::MS_RDONLY, RDONLY),
            (libc::MS_NOSUID, NOSUID),
            (libc::MS_NODEV, NODEV),
            (libc::MS_NOEXEC, NOEXEC),
            (libc::MS_NODIRATIME, NODIRATIME),
            (MS_NOSYMFOLLOW, NOSYMFOLLOW),
        ];
        const ATIME: [(c_ulong, u64); 3] =
            [(libc::MS_NOATIME, NOATIME), (libc::MS_STRICTATIME, STRICTATIME), (libc::MS_RELATIME, RELATIME)];
        let set = PLAIN.iter().filter(|(flag, _)| self.0 & flag != 0).fold(0, |all, (_, attr)| all | attr);
        match ATIME.iter().find(|(flag, _)| self.0 & flag != 0) {
            Some((_, attr)) => (set | attr, ATIME_MASK),
            None => (set, 0),
        }
    }
}

/// linux/mount.h, since 5.10; libc does not have it.
const MS_NOSYMFOLLOW: c_ulong = 256;

/// The generic words of mount(8), with the flags that they set and clear.
const WORDS: &[(&str, c_ulong, c_ulong)] = &[
    ("defaults", 0, 0),
    ("ro", libc::MS_RDONLY, 0),
    ("rw", 0, libc::MS_RDONLY),
    ("nosuid", libc::MS_NOSUID, 0),
    ("suid", 0, libc::MS_NOSUID),
    ("nodev", libc::MS_NODEV, 0),
    ("dev", 0, libc::MS_NODEV),
    ("noexec", libc::MS_NOEXEC, 0),
    ("exec", 0, libc::MS_NOEXEC),
    ("sync", libc::MS_SYNCHRONOUS, 0),
    ("async", 0, libc::MS_SYNCHRONOUS),
    ("dirsync", libc::MS_DIRSYNC, 0),
    ("noatime", libc::MS_NOATIME, libc::MS_STRICTATIME | libc::MS_RELATIME),
    ("atime", 0, libc::MS_NOATIME),
    ("nodiratime", libc::MS_NODIRATIME, 0),
    ("diratime", 0, libc::MS_NODIRATIME),
    ("relatime", libc::MS_RELATIME, libc::MS_NOATIME | libc::MS_STRICTATIME),
    ("norelatime", 0, libc::MS_RELATIME),
    ("strictatime", libc::MS_STRICTATIME, libc::MS_NOATIME | libc::MS_RELATIME),
    ("nostrictatime", 0, libc::MS_STRICTATIME),
    ("lazytime", libc::MS_LAZYTIME, 0),
    ("nolazytime", 0, libc::MS_LAZYTIME),
    ("iversion", libc::MS_I_VERSION, 0),
    ("noiversion", 0, libc::MS_I_VERSION),
    ("silent", libc::MS_SILENT, 0),
    ("loud", 0, libc::MS_SILENT),
    ("nosymfollow", MS_NOSYMFOLLOW, 0),
    ("symfollow", 0, MS_NOSYMFOLLOW),
];

/// Where something is mounted: `name` in the directory `dir`, or, if the name is empty, `dir` itself.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Opened at least with `O_PATH`.
    pub dir: BorrowedFd<'a>,
    /// One component, or nothing.
    pub name: &'a Path,
    /// The same as an absolute path, for kernels that cannot do it by descriptor.
    pub path: &'a Path,
}

impl Target<'_> {
    /// The target for calls that know paths only: through the descriptor, not through the directories above it.
    fn by_proc(&self) -> PathBuf {
        let mut path = fd_path(self.dir);
        if !self.name.as_os_str().is_empty() {
            path.push(self.name);
        }
        path
    }
}

fn fd_path(fd: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

/// Mounts a file system that the kernel knows by itself: `data` is what remains of the options when the flags are taken
/// out of them.
pub fn mount(source: &[u8], target: Target<'_>, fstype: &[u8], flags: Flags, data: &[u8]) -> io::Result<()> {
    let data = CString::new(data)?;
    let data: Option<&CStr> = (!data.is_empty()).then_some(&data);
    let flags = MountFlags::from_bits_retain(u32::try_from(flags.0).map_err(|_| io::ErrorKind::InvalidInput)?);
    Ok(rustix::mount::mount(source, target.by_proc(), fstype, flags, data)?)
}

/// Mounts what `source` is open at a second time at `target`, as a bind mount that has the given flags besides those of
/// its source from the first moment on. Does not wait.
pub fn bind(source: BorrowedFd<'_>, target: Target<'_>, flags: Flags, propagation: Propagation) -> io::Result<()> {
    let empty = OpenTreeFlags::AT_EMPTY_PATH;
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = match open_tree(source, "", empty | clone) {
        Ok(tree) => tree,
        Err(Errno::NOSYS) => return bind_by_path(source, target, flags, propagation),
        Err(e) => return Err(e.into()),
    };
    if !flags.is_empty() {
        let (set, clear) = flags.attributes();
        match set_attributes(&tree, &MountAttr { set, clear, propagation: 0, userns: 0 }) {
            // Linux 5.2 to 5.11 have the one call without the other.
            Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => {
                return bind_by_path(source, target, flags, propagation);
            }
            done => done?,
        }
    }
    let mut how = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    if target.name.as_os_str().is_empty() {
        how |= MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    }
    move_mount(&tree, "", target.dir, target.name, how)?;
    // Only now: what is attached to a shared mount becomes shared.
    let attr = MountAttr { set: 0, clear: 0, propagation: propagation_flag(propagation).bits().into(), userns: 0 };
    match set_attributes(&tree, &attr) {
        Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => set_propagation(target.path, propagation),
        done => done,
    }
}

/// The same for kernels before 5.12. The flags come a moment later there.
fn bind_by_path(source: BorrowedFd<'_>, target: Target<'_>, flags: Flags, how: Propagation) -> io::Result<()> {
    mount_bind(fd_path(source), target.by_proc())?;
    let change = || {
        if !flags.is_empty() {
            let flags = u32::try_from(flags.0 | libc::MS_BIND).map_err(|_| io::ErrorKind::InvalidInput)?;
            rustix::mount::mount_remount(target.path, MountFlags::from_bits_retain(flags), "")?;
        }
        set_propagation(target.path, how)
    };
    change().inspect_err(|_| drop(unmount(target.path, true)))
}

/// Sets where the mount on top at `path` passes mounts on to.
pub fn set_propagation(path: &Path, propagation: Propagation) -> io::Result<()> {
    Ok(mount_change(path, propagation_flag(propagation))?)
}

fn propagation_flag(propagation: Propagation) -> MountPropagationFlags {
    match propagation {
        Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::Shared => MountPropagationFlags::SHARED,
    }
}

/// `struct mount_attr` of linux/mount.h, version 0.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// `mount_setattr(2)` on the mount whose root `tree` is, Linux 5.12.
fn set_attributes(tree: &OwnedFd, attr: &MountAttr) -> io::Result<()> {
    // SAFETY: the descriptor and both pointers live during the call; the size is that of what the third points to, which
    // the kernel only reads.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the mount on top at `path` read-only; its file system stays as it is.
pub fn make_read_only(path: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount_remount(path, MountFlags::BIND | MountFlags::RDONLY, "")?)
}

/// Unmounts what is on top at `path`, which is not followed if it is a symbolic link; `lazy`: out of sight now, gone
/// when it is no longer in use. `EINVAL`: nothing is mounted there.
pub fn unmount(path: &Path, lazy: bool) -> io::Result<()> {
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    Ok(rustix::mount::unmount(path, flags | UnmountFlags::NOFOLLOW)?)
}

/// Has mount(2) refused something for which mount(8) may know a way: a loop device, another type, read-only?
pub fn is_refusal(e: &io::Error) -> bool {
    const REFUSALS: [i32; 6] = [libc::EPERM, libc::EACCES, libc::ENODEV, libc::ENOTBLK, libc::EINVAL, libc::EROFS];
    e.raw_os_error().is_some_and(|number| REFUSALS.contains(&number))
}

/// Does the error of [`unmount`] say that nothing is mounted there?
pub fn is_not_mounted(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOENT))
}

/// Is `fd` open on an autofs mount, that is, on one where nothing is mounted? Never waits. `None` where the kernel
/// cannot tell: before 6.8, and only for file systems that look like autofs.
pub fn is_autofs(fd: BorrowedFd<'_>) -> Option<bool> {
    /// Those of autofs, and of few others: it has no device, and blocks of 1 KiB since Linux 2.6.
    const BLOCK: u32 = 1024;
    let found = statx(fd, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::empty()).ok()?;
    if found.stx_dev_major != 0 || found.stx_blksize != BLOCK {
        return Some(false);
    }
    Some(fs_type(fd)? == b"autofs")
}

/// The type of the file system on which `fd` is open, as the mount table has it. Never waits, as it asks the table and
/// not the file system. `None` where the kernel cannot tell (before 6.8).
pub fn fs_type(fd: BorrowedFd<'_>) -> Option<Vec<u8>> {
    /// linux/stat.h, Linux 6.8: the id that is never used again.
    const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
    /// linux/mount.h: fill in `fs_type`.
    const STATMOUNT_FS_TYPE: u64 = 0x20;
    /// System calls since 5.1 have their numbers in one order on all machines; libc does not have 457 yet.
    const SYS_STATMOUNT: libc::c_long = libc::SYS_mount_setattr + (457 - 442);

    /// `struct mnt_id_req` of linux/mount.h, version 0.
    #[repr(C)]
    struct Request {
        size: u32,
        spare: u32,
        mnt_id: u64,
        mask: u64,
    }

    /// `struct statmount` of linux/mount.h: its strings begin at byte 512.
    #[repr(C)]
    struct Answer {
        size: u32,
        mnt_opts: u32,
        mask: u64,
        sb_dev: [u32; 2],
        sb_magic: u64,
        sb_flags: u32,
        fs_type: u32,
        other: [u8; 472],
        strings: [u8; 128],
    }

    let wanted = StatxFlags::from_bits_retain(STATX_MNT_ID_UNIQUE);
    let found = statx(fd, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, wanted).ok()?;
    if found.stx_mask & STATX_MNT_ID_UNIQUE == 0 {
        return None;
    }
    let request = Request { size: 24, spare: 0, mnt_id: found.stx_mnt_id, mask: STATMOUNT_FS_TYPE };
    let mut answer = Answer {
        size: 0,
        mnt_opts: 0,
        mask: 0,
        sb_dev: [0; 2],
        sb_magic: 0,
        sb_flags: 0,
        fs_type: 0,
        other: [0; 472],
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
    if result != 0 || answer.mask & STATMOUNT_FS_TYPE == 0 {
        return None;
    }
    let text = answer.strings.get(usize::try_from(answer.fs_type).ok()?..)?;
    Some(CStr::from_bytes_until_nul(text).ok()?.to_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    fn flags(words: &str) -> Flags {
        let mut flags = Flags::default();
        for word in words.split(',') {
            assert!(flags.apply(word.as_bytes()), "{word}");
        }
        flags
    }

    #[test]
    fn the_last_word_wins() {
        assert_eq!(flags("ro,nosuid,rw").0, libc::MS_NOSUID);
        assert_eq!(flags("noatime,relatime").0, libc::MS_RELATIME);
        assert_eq!(flags("defaults"), Flags::default());
        assert!(!Flags::default().apply(b"size=1m"));
        assert!(!Flags::default().apply(b""));
    }

    #[test]
    fn flags_of_the_file_system_do_not_fit_a_bind_mount() {
        assert!(flags("ro,nodev,noatime,nosymfollow").fit_bind());
        assert!(!flags("ro,sync").fit_bind());
    }

    #[test]
    fn the_atime_mode_is_replaced_as_a_whole() {
        assert_eq!(flags("ro,noatime").attributes(), (0x11, 0x70));
        assert_eq!(flags("relatime").attributes(), (0, 0x70));
        assert_eq!(flags("nosuid,nodev,noexec").attributes(), (0xe, 0));
    }

    #[test]
    fn the_mount_table_tells_the_type() {
        let proc = crate::sys::path::open(Path::new("/proc")).unwrap();
        if let Some(name) = fs_type(proc.as_fd()) {
            assert_eq!(name, b"proc");
        }
    }
}
