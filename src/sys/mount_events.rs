//! Notice of mounts that come and go in our mount namespace.
//!
//! fanotify(7) tells which (kernel 6.15, FAN_REPORT_MNT); before that, the mount table can only be polled for "it has
//! changed" (proc_pid_mountinfo(5)). Either way there is one descriptor to wait for until it is readable, and then
//! [`MountEvents::drain`] is to be called.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use nix::errno::Errno as Os;
use nix::fcntl::{OFlag, open};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::stat::Mode;

// <linux/fanotify.h> of 6.15; libc has none of them yet.
const FAN_REPORT_MNT: libc::c_uint = 0x4000;
const FAN_MARK_MNTNS: libc::c_uint = 0x110;
const FAN_MNT_ATTACH: u64 = 0x0100_0000;
const FAN_MNT_DETACH: u64 = 0x0200_0000;
const FAN_EVENT_INFO_TYPE_MNT: u8 = 7;

/// What has happened to one mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// It has appeared at a place.
    Attached(u64),
    /// It has gone from its place: unmounted, or moved.
    Detached(u64),
}

/// What [`MountEvents::drain`] knows. Mount ids are the long ones of statx(2) and statmount(2), never used again; the
/// mount table shows others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// These, in their order; none if the list is empty.
    Known(Vec<Change>),
    /// Look at the mount table.
    Unknown,
}

/// The descriptor to wait for.
#[derive(Debug)]
pub struct MountEvents(Way);

#[derive(Debug)]
enum Way {
    Fanotify(OwnedFd),
    /// An epoll that waits for the exceptional condition of the mount table: so it is a readable descriptor too.
    Table {
        epoll: Epoll,
        _table: OwnedFd,
    },
}

impl MountEvents {
    /// Begins to take notice.
    ///
    /// # Errors
    /// When neither way is open.
    pub fn open() -> io::Result<Self> {
        Self::fanotify().or_else(|_| Self::table())
    }

    /// By fanotify.
    ///
    /// # Errors
    /// EINVAL: the kernel is too old. EPERM: not in our power.
    pub fn fanotify() -> io::Result<Self> {
        let flags = FAN_REPORT_MNT | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK;
        // SAFETY: fanotify_init takes numbers only.
        let raw = Os::result(unsafe { libc::fanotify_init(flags, libc::O_RDONLY as libc::c_uint) })?;
        // SAFETY: a new descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        let namespace = open("/proc/self/ns/mnt", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let (flags, mask) = (libc::FAN_MARK_ADD | FAN_MARK_MNTNS, FAN_MNT_ATTACH | FAN_MNT_DETACH);
        // SAFETY: both descriptors are open, and without a path the namespace itself is marked.
        Os::result(unsafe {
            libc::fanotify_mark(fd.as_raw_fd(), flags, mask, namespace.as_raw_fd(), std::ptr::null())
        })?;
        Ok(Self(Way::Fanotify(fd)))
    }

    /// By polling the mount table.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn table() -> io::Result<Self> {
        let table = open("/proc/self/mountinfo", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&table, EpollEvent::new(EpollFlags::EPOLLPRI, 0))?;
        Ok(Self(Way::Table { epoll, _table: table }))
    }

    /// Takes what has happened since the last call. Does not block.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn drain(&self) -> io::Result<Changes> {
        match &self.0 {
            Way::Fanotify(fd) => drain_fanotify(fd.as_fd()),
            Way::Table { .. } => {
                // The one who waited has taken the event by waiting; whether there is another says nothing.
                Ok(Changes::Unknown)
            }
        }
    }
}

impl AsFd for MountEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Way::Fanotify(fd) => fd.as_fd(),
            Way::Table { epoll, .. } => epoll.0.as_fd(),
        }
    }
}

fn drain_fanotify(fd: BorrowedFd<'_>) -> io::Result<Changes> {
    let mut changes = Vec::new();
    let mut complete = true;
    let mut buffer = [0; 4096];
    loop {
        match nix::unistd::read(fd, &mut buffer) {
            Ok(0) | Err(Os::EAGAIN) => break,
            Ok(count) => complete &= events(&buffer[..count], &mut changes),
            Err(Os::EINTR) => continue,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(if complete { Changes::Known(changes) } else { Changes::Unknown })
}

const METADATA: usize = size_of::<libc::fanotify_event_metadata>();

/// Reads events: a `fanotify_event_metadata` each, and after it records that begin with type (u8), padding (u8) and
/// length (u16); that of a mount has its id at offset 8. False: something was lost or is not understood.
fn events(mut bytes: &[u8], changes: &mut Vec<Change>) -> bool {
    let mut complete = true;
    while let Some(length) = field::<4>(bytes, 0).map(|b| u32::from_ne_bytes(b) as usize) {
        if length < METADATA || length > bytes.len() {
            return false;
        }
        let (event, rest) = bytes.split_at(length);
        bytes = rest;
        let mask = field(event, 8).map_or(0, u64::from_ne_bytes);
        let mut info = &event[METADATA..];
        let mut id = None;
        while let Some(size) = field::<2>(info, 2).map(|b| u16::from_ne_bytes(b) as usize) {
            if size < 4 || size > info.len() {
                break;
            }
            if info[0] == FAN_EVENT_INFO_TYPE_MNT {
                id = field(&info[..size], 8).map(u64::from_ne_bytes);
            }
            info = &info[size..];
        }
        match id {
            // A queue overflow has no id either.
            None => complete = false,
            Some(id) => {
                if mask & FAN_MNT_DETACH != 0 {
                    changes.push(Change::Detached(id));
                }
                if mask & FAN_MNT_ATTACH != 0 {
                    changes.push(Change::Attached(id));
                }
            }
        }
    }
    complete && bytes.is_empty()
}

fn field<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(mask: u64, info: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; METADATA];
        bytes[..4].copy_from_slice(&((METADATA + info.len()) as u32).to_ne_bytes());
        bytes[8..16].copy_from_slice(&mask.to_ne_bytes());
        bytes.extend_from_slice(info);
        bytes
    }

    fn mount(id: u64) -> Vec<u8> {
        let mut info = vec![FAN_EVENT_INFO_TYPE_MNT, 0, 0, 0, 0, 0, 0, 0];
        info[2..4].copy_from_slice(&16_u16.to_ne_bytes());
        info.extend_from_slice(&id.to_ne_bytes());
        info
    }

    #[test]
    fn events_of_mounts() {
        let mut changes = Vec::new();
        let both = FAN_MNT_ATTACH | FAN_MNT_DETACH;
        let bytes = [event(FAN_MNT_ATTACH, &mount(1 << 33)), event(both, &mount(7))].concat();
        assert_eq!(METADATA + mount(1).len(), 40);
        assert!(events(&bytes, &mut changes));
        assert_eq!(changes, [Change::Attached(1 << 33), Change::Detached(7), Change::Attached(7)]);
    }

    #[test]
    fn an_overflow_is_told() {
        let mut changes = Vec::new();
        let bytes = [event(libc::FAN_Q_OVERFLOW, &[]), event(FAN_MNT_ATTACH, &mount(7))].concat();
        assert!(!events(&bytes, &mut changes));
        assert_eq!(changes, [Change::Attached(7)]);
    }

    proptest! {
        #[test]
        fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..100), size in 0..60u32) {
            let mut changes = Vec::new();
            events(&bytes, &mut changes);
            let mut bytes = bytes;
            if let Some(head) = bytes.first_chunk_mut() {
                *head = size.to_ne_bytes();
            }
            events(&bytes, &mut changes);
        }
    }
}
