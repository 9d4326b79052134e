//! Notifications of mounts and unmounts in this mount namespace.
//!
//! fanotify(7) reports each of them since Linux 6.15 (FAN_REPORT_MNT). Before that, the mount table can only be polled for
//! changes (proc_pid_mountinfo(5)). In both cases there is one descriptor: wait until it is readable, then call
//! [`MountEvents::drain`].

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

/// The result of [`MountEvents::drain`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// The mounts that have come and gone.
    Known(Known),
    /// Unknown changes: the mount table must be read.
    Unknown,
}

/// The mounts that have come and gone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// How many mounts were unmounted or moved away.
    pub gone: usize,
    /// The mounts that were mounted, or moved to another place, by the ids that no other mount ever gets.
    pub come: Vec<u64>,
}

impl Known {
    /// Adds what has changed later.
    #[must_use]
    pub fn with(mut self, later: Self) -> Self {
        self.gone += later.gone;
        self.come.extend(later.come);
        self
    }
}

/// The source of notifications.
#[derive(Debug)]
pub struct MountEvents(Way);

#[derive(Debug)]
enum Way {
    Fanotify(OwnedFd),
    /// An epoll descriptor that becomes readable when the mount table has an exceptional condition.
    Table {
        epoll: Epoll,
        _table: OwnedFd,
    },
}

impl MountEvents {
    /// Opens a source: fanotify, or else the mount table.
    ///
    /// # Errors
    /// Returns an error if neither is possible.
    pub fn open() -> io::Result<Self> {
        Self::fanotify().or_else(|_| Self::table())
    }

    /// Opens a fanotify source.
    ///
    /// # Errors
    /// Returns EINVAL if the kernel is too old, EPERM without the privileges.
    pub fn fanotify() -> io::Result<Self> {
        let flags = FAN_REPORT_MNT | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK;
        // SAFETY: fanotify_init takes numbers only.
        let raw = Os::result(unsafe { libc::fanotify_init(flags, libc::O_RDONLY as libc::c_uint) })?;
        // SAFETY: a new descriptor that nothing else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        let namespace = open("/proc/self/ns/mnt", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let (flags, mask) = (libc::FAN_MARK_ADD | FAN_MARK_MNTNS, FAN_MNT_ATTACH | FAN_MNT_DETACH);
        // SAFETY: both descriptors are open, and without a path the namespace itself is marked.
        Os::result(unsafe {
            libc::fanotify_mark(fd.as_raw_fd(), flags, mask, namespace.as_raw_fd(), std::ptr::null())
        })?;
        Ok(Self(Way::Fanotify(fd)))
    }

    /// Opens a source that polls the mount table.
    ///
    /// # Errors
    /// Returns the errors of opening it.
    pub fn table() -> io::Result<Self> {
        let table = open("/proc/self/mountinfo", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&table, EpollEvent::new(EpollFlags::EPOLLPRI, 0))?;
        Ok(Self(Way::Table { epoll, _table: table }))
    }

    /// Returns the changes since the last call. Does not block.
    ///
    /// # Errors
    /// Returns the errors of read(2).
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
    let mut known = Some(Known::default());
    let mut buffer = [0; 4096];
    loop {
        match nix::unistd::read(fd, &mut buffer) {
            Ok(0) | Err(Os::EAGAIN) => break,
            Ok(count) => {
                let new = events(buffer.get(..count).unwrap_or_default());
                known = known.zip(new).map(|(before, new)| before.with(new));
            }
            Err(Os::EINTR) => continue,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(known.map_or(Changes::Unknown, Changes::Known))
}

const METADATA: usize = size_of::<libc::fanotify_event_metadata>();

/// Reads events: a `fanotify_event_metadata` each, and a record with the id of the mount. `None`: some were lost (the queue
/// was full), or are not understood.
fn events(mut bytes: &[u8]) -> Option<Known> {
    let mut known = Known::default();
    while !bytes.is_empty() {
        let length = u32::from_ne_bytes(field(bytes, 0)?) as usize;
        if length < METADATA || length > bytes.len() {
            return None;
        }
        let (event, rest) = bytes.split_at(length);
        bytes = rest;
        let mask = u64::from_ne_bytes(field(event, 8)?);
        if mask & (FAN_MNT_ATTACH | FAN_MNT_DETACH) == 0 {
            return None;
        }
        known.gone += usize::from(mask & FAN_MNT_DETACH != 0);
        if mask & FAN_MNT_ATTACH != 0 {
            if event.get(METADATA) != Some(&FAN_EVENT_INFO_TYPE_MNT) {
                return None;
            }
            known.come.push(u64::from_ne_bytes(field(event, METADATA + 8)?));
        }
    }
    Some(known)
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

    /// Type, padding, length, and the number of the mount.
    const MOUNT: [u8; 16] = [7, 0, 16, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0];

    #[test]
    fn events_of_mounts() {
        assert_eq!(events(&[]), Some(Known::default()));
        let (gone, come) = (event(FAN_MNT_DETACH, &MOUNT), event(FAN_MNT_ATTACH, &MOUNT));
        let moved = event(FAN_MNT_ATTACH | FAN_MNT_DETACH, &MOUNT);
        assert_eq!(gone.len(), 40);
        let id = 0x0403_0201;
        assert_eq!(events(&[gone.clone(), come, moved].concat()), Some(Known { gone: 2, come: vec![id, id] }));
        assert_eq!(events(&gone[..30]), None);
        assert_eq!(events(&event(FAN_MNT_ATTACH, &[])), None);
    }

    #[test]
    fn an_overflow_is_told() {
        let bytes = [event(libc::FAN_Q_OVERFLOW, &[]), event(FAN_MNT_DETACH, &MOUNT)].concat();
        assert_eq!(events(&bytes), None);
    }

    proptest! {
        #[test]
        fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..100), size in 0..60u32) {
            let _ = events(&bytes);
            let mut bytes = bytes;
            if let Some(head) = bytes.first_chunk_mut() {
                *head = size.to_ne_bytes();
            }
            let _ = events(&bytes);
        }
    }
}
