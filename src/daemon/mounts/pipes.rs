//! The control pipes: one for each indirect mount, one for all direct mounts of a line of the master map.
//!
//! A pipe outlives the worker, because the keeper holds its read end, too. So the number of a pipe is unique among all workers
//! of this daemon.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;

use tokio::io::unix::AsyncFd;

use crate::daemon::readable::{self, Number};
use crate::fault;
use crate::link::{Link, Message};
use crate::sys::fds;
use crate::sys::pipe::ReadEnd;

/// A control pipe.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// The number of the pipe.
    pub(crate) number: u32,
    /// The registration of the read end with the reactor. It is removed before the read end is closed.
    registration: RefCell<Option<Rc<AsyncFd<Number>>>>,
    read_end: ReadEnd,
    /// The inode number, shown in the mount table as `pipe_ino=`. A restore changes it.
    pub(crate) inode: Cell<u64>,
    /// Number of autofs mounts that write to it.
    pub(crate) mounts: Cell<usize>,
    /// Whether a mount that will write to it is being made.
    pub(crate) awaited: Cell<bool>,
    /// Whether a task reads it.
    pub(crate) read: Cell<bool>,
}

impl Pipe {
    fn new(number: u32, read_end: ReadEnd) -> io::Result<Rc<Self>> {
        let inode = Cell::new(read_end.inode()?);
        let registration = RefCell::new(Some(Rc::new(readable::register_number(read_end.as_fd())?)));
        let (mounts, awaited, read) = (Cell::new(0), Cell::new(false), Cell::new(false));
        Ok(Rc::new(Self { number, registration, read_end, inode, mounts, awaited, read }))
    }

    /// Returns the registration of the read end with the reactor.
    pub(crate) fn registration(&self) -> Option<Rc<AsyncFd<Number>>> {
        self.registration.borrow().clone()
    }

    /// Registers the read end again. After a moment without a writer, the reactor would report the pipe as readable forever.
    /// `old` must be the last reference to the previous registration.
    pub(crate) fn register_again(&self, old: Rc<AsyncFd<Number>>) -> io::Result<()> {
        *self.registration.borrow_mut() = None;
        drop(old);
        *self.registration.borrow_mut() = Some(Rc::new(readable::register_number(self.fd())?));
        Ok(())
    }

    /// Returns the read end.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.read_end.as_fd()
    }

    /// Reads the inode number again. Returns whether it has changed, which means that the pipe was restored.
    pub(crate) fn was_restored(&self) -> bool {
        let Ok(now) = self.read_end.inode() else { return false };
        self.inode.replace(now) != now
    }

    /// Returns whether the pipe contains no packet.
    pub(crate) fn is_empty(&self) -> bool {
        self.read_end.readable().is_ok_and(|bytes| bytes == 0)
    }

    /// Returns whether an autofs mount can still write to the pipe, for example one that exists only in another mount namespace.
    pub(crate) fn has_writer(&self) -> bool {
        self.read_end.has_writer().unwrap_or(false)
    }

    /// Opens another write end, for another mount on the same pipe.
    pub(crate) fn write_end(&self) -> io::Result<OwnedFd> {
        self.read_end.write_end()
    }
}

/// Returns how many of `limit` open files are kept for everything but control pipes: requests, helpers, maps.
fn reserve(limit: u64) -> u64 {
    const RESERVE: u64 = 64;
    RESERVE.min(limit / 4)
}

/// Returns for how many control pipes there is room, with both ends open at the same time.
///
/// # Errors
/// Those of [`fds::room`].
pub(crate) fn room_for_pipes() -> io::Result<usize> {
    let (limit, room) = fds::room()?;
    // A pipe has two ends for a moment.
    let at_once = room.saturating_sub(reserve(limit)) / 2;
    Ok(usize::try_from(at_once).unwrap_or(usize::MAX))
}

/// All pipes.
#[derive(Debug)]
pub(crate) struct Pipes {
    link: Link,
    pipes: HashMap<u32, Rc<Pipe>>,
    next: u32,
}

impl Pipes {
    /// Creates the list, with the pipes of earlier workers.
    pub(crate) fn new(link: Link, inherited: Vec<(u32, OwnedFd)>) -> Self {
        let mut pipes = Self { link, pipes: HashMap::new(), next: 0 };
        for (number, fd) in inherited {
            pipes.next = pipes.next.max(number.wrapping_add(1));
            if let Ok(pipe) = ReadEnd::from_fd(fd).and_then(|read_end| Pipe::new(number, read_end)) {
                pipes.pipes.insert(number, pipe);
            }
        }
        pipes
    }

    /// Creates a pipe for a mount, and sends its read end to the keeper before anything can write to it.
    pub(crate) fn create(&mut self) -> io::Result<Rc<Pipe>> {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let (limit, room) = fds::room()?;
        if room < reserve(limit) {
            return Err(io::Error::other(format!("the limit of {limit} open files leaves no room for a control pipe")));
        }
        let (read_end, _write_end) = ReadEnd::create()?;
        self.link.hold(number, read_end.as_fd())?;
        fault::point("hold");
        let pipe = Pipe::new(number, read_end)?;
        pipe.awaited.set(true);
        self.pipes.insert(number, Rc::clone(&pipe));
        Ok(pipe)
    }

    /// Returns the pipe with this number.
    pub(crate) fn get(&self, number: u32) -> Option<&Rc<Pipe>> {
        self.pipes.get(&number)
    }

    /// Returns all pipes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Rc<Pipe>> {
        self.pipes.values()
    }

    /// Returns the numbers of all pipes by inode number.
    pub(crate) fn inodes(&self) -> HashMap<u64, u32> {
        self.pipes.values().map(|pipe| (pipe.inode.get(), pipe.number)).collect()
    }

    /// Closes a pipe that no mount writes to any more.
    pub(crate) fn release(&mut self, number: u32) {
        if self.pipes.remove(&number).is_some() {
            let _ = self.link.send(Message::Drop(number));
        }
    }

    /// Sends another message to the keeper.
    pub(crate) fn tell(&self, message: Message) {
        // Fails only if the keeper is dead, and then this worker is killed, too.
        let _ = self.link.send(message);
    }
}
