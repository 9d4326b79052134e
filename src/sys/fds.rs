//! File descriptors: handing them to another process, over fork and exec, and having enough of them.

use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use nix::errno::Errno as Os;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};
use nix::sys::stat::Mode;
use tokio::io::{AsyncRead, ReadBuf};

/// A message that came over a socket of [`pair`].
#[derive(Debug)]
pub struct Message {
    /// Its length in the caller's buffer.
    pub length: usize,
    /// The descriptor that came with it; CLOEXEC is set.
    pub fd: Option<OwnedFd>,
}

/// Two connected sockets that keep messages apart; CLOEXEC is set, and they block.
///
/// # Errors
/// Returns the errors of socketpair(2).
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Sends one message, which must not be empty, with a descriptor or none.
///
/// # Errors
/// Returns the errors of sendmsg(2): EPIPE when the other end is gone (no signal), `WouldBlock` when it does not block and there
/// is no room.
pub fn send(socket: BorrowedFd<'_>, message: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let fds: Vec<RawFd> = fd.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &[][..] } else { &rights[..] };
    let data = [IoSlice::new(message)];
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &data, control, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(_) => return Ok(()),
            Err(Os::EINTR) => continue,
            Err(e) => return Err(e.into()),
        }
    }
}

/// Receives one message; `None`: the other end is gone.
///
/// # Errors
/// Returns the errors of recvmsg(2): `WouldBlock` when it does not block and there is nothing. `InvalidData`: the message is longer
/// than the buffer, or had more than one descriptor (which are closed).
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<Message>> {
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let mut data = [IoSliceMut::new(buffer)];
    let received = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut data, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Ok(received) => break received,
            Err(Os::EINTR) => continue,
            Err(e) => return Err(e.into()),
        }
    };
    let mut fds = Vec::new();
    for control in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel has just created these descriptors for this process, and nothing else refers to them.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    if received.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) || fds.len() > 1 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message that does not fit"));
    }
    let (length, fd) = (received.bytes, fds.pop());
    Ok(if length == 0 && fd.is_none() { None } else { Some(Message { length, fd }) })
}

/// A pipe: read end and write end, with CLOEXEC set.
///
/// # Errors
/// Returns the errors of pipe2(2).
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(OFlag::O_CLOEXEC)?)
}

/// Waits until something can be read from one of these (or its other end is gone), or until `timeout` is over; `None`
/// waits for ever. Says which.
///
/// # Errors
/// Returns the errors of poll(2): EINTR too.
pub fn poll<const N: usize>(fds: [BorrowedFd<'_>; N], timeout: Option<Duration>) -> io::Result<[bool; N]> {
    let mut polled = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    // Rounded up: a wait that ends too early is a busy loop.
    let timeout = timeout.map_or(PollTimeout::NONE, |t| {
        PollTimeout::try_from(t.as_millis().saturating_add(1)).unwrap_or(PollTimeout::MAX)
    });
    nix::poll::poll(&mut polled, timeout)?;
    Ok(polled.map(|fd| fd.any().unwrap_or(true)))
}

/// Bytes that a writable pipe takes at once: PIPE_BUF of pipe(7).
pub const ATOMIC: usize = 4096;

/// Returns whether up to [`ATOMIC`] bytes can be written without waiting. False also for what cannot be written to at all.
pub fn is_writable(fd: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::new(fd, PollFlags::POLLOUT)];
    matches!(nix::poll::poll(&mut polled, PollTimeout::ZERO), Ok(1..))
        && polled.iter().all(|fd| fd.revents().is_some_and(|events| events.contains(PollFlags::POLLOUT)))
}

/// Reads what comes next, at most 4 KiB. Returns no bytes at the end.
///
/// The buffer is no part of the future, as thousands of them may wait.
///
/// # Errors
/// Returns the errors of read(2).
pub async fn read_piece(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    poll_fn(|context| {
        let mut buffer = [0; 4096];
        let mut piece = ReadBuf::new(&mut buffer);
        ready!(Pin::new(&mut *from).poll_read(context, &mut piece))?;
        Poll::Ready(Ok(piece.filled().to_vec()))
    })
    .await
}

/// Opens `/dev/null` as standard input, output and error.
///
/// # Errors
/// Returns the errors of open(2) and dup2(2).
pub fn null_stdio() -> io::Result<()> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    Ok(nix::unistd::dup2_stderr(&null)?)
}

/// Another descriptor of the same open file, with CLOEXEC set.
///
/// # Errors
/// Returns the errors of fcntl(2).
pub fn duplicate(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    fd.try_clone_to_owned()
}

/// Sets whether a descriptor is closed by exec.
///
/// # Errors
/// Returns the errors of fcntl(2).
pub fn set_cloexec(fd: BorrowedFd<'_>, closed: bool) -> io::Result<()> {
    let flags = if closed { FdFlag::FD_CLOEXEC } else { FdFlag::empty() };
    fcntl(fd, FcntlArg::F_SETFD(flags))?;
    Ok(())
}

/// Sets whether reads and writes block; this holds for all descriptors of the same open file.
///
/// # Errors
/// Returns the errors of fcntl(2).
pub fn set_nonblocking(fd: BorrowedFd<'_>, nonblocking: bool) -> io::Result<()> {
    let mut flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    flags.set(OFlag::O_NONBLOCK, nonblocking);
    fcntl(fd, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

/// Takes the descriptor with a number that the program before exec, or a service manager, has left open, and sets
/// CLOEXEC on it. To be called once for a number, before anything else in this program could have opened it.
///
/// # Errors
/// EBADF: no open descriptor has this number.
pub fn inherit(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(Os::EBADF.into());
    }
    // SAFETY: F_SETFD on a number of any kind does no harm.
    Os::result(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: the descriptor is open, as F_SETFD has shown, and the caller guarantees that nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The numbers of all open descriptors, in rising order.
///
/// # Errors
/// Returns the errors of reading `/proc/self/fd`.
pub fn open_numbers() -> io::Result<Vec<RawFd>> {
    let own = std::fs::read_dir("/proc/self/fd")?;
    let mut numbers = Vec::new();
    for entry in own {
        if let Some(number) = entry?.file_name().to_str().and_then(|n| n.parse().ok()) {
            numbers.push(number);
        }
    }
    // The descriptor by which the directory was read is closed now.
    // SAFETY: F_GETFD on a number of any kind does no harm.
    numbers.retain(|&n| unsafe { libc::fcntl(n, libc::F_GETFD) } >= 0);
    numbers.sort_unstable();
    Ok(numbers)
}

/// Closes all but standard input, output and error that were open before this program began and are not kept by
/// [`inherit`]: what this program opens has CLOEXEC set.
///
/// # Errors
/// Returns the errors of [`open_numbers`].
pub fn close_inherited() -> io::Result<()> {
    for number in open_numbers()?.into_iter().filter(|number| *number > 2) {
        // SAFETY: F_GETFD on a number of any kind does no harm.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } == 0 {
            // SAFETY: this program opens descriptors only with CLOEXEC, so nothing in it owns one without.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
    Ok(())
}

/// Returns how many open files the soft limit permits, and how many of these numbers are free at its end: all from the lowest
/// number on that is not in use.
///
/// # Errors
/// Returns the errors of getrlimit(2) and fcntl(2): EMFILE if none is free.
pub fn room() -> io::Result<(u64, u64)> {
    let limit: u64 = getrlimit(Resource::RLIMIT_NOFILE).map(|(soft, _)| soft as _)?;
    let some = open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let lowest = u64::try_from(some.as_raw_fd()).unwrap_or_default();
    Ok((limit, limit.saturating_sub(lowest)))
}

/// Raises the soft limit of open files to `wanted`, or as near to it as the hard limit and our rights allow; it never
/// falls. Gives the soft limit before and now.
///
/// # Errors
/// Returns the errors of getrlimit(2).
pub fn raise_limit(wanted: u64) -> io::Result<(u64, u64)> {
    // The C library's type has 32 bits on some machines.
    let (soft, hard): (u64, u64) = getrlimit(Resource::RLIMIT_NOFILE).map(|(s, h)| (s as _, h as _))?;
    for (new, hard) in [(wanted, hard.max(wanted)), (hard.min(wanted), hard)] {
        if new > soft && setrlimit(Resource::RLIMIT_NOFILE, new as _, hard as _).is_ok() {
            return Ok((soft, new));
        }
    }
    Ok((soft, soft))
}

/// Tells whether an error means that there is no number for another descriptor: all are in use, or the limit of open files was
/// lowered.
pub fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE))
}

/// Calls `work` on a thread with a table of descriptors of its own, a copy of that of this process in which number 0 (standard
/// input) is free. So `work` can open one descriptor at a time even if this process can open none, unless the limit of open files
/// is 0. It must not use standard input.
///
/// # Errors
/// Returns the errors of starting a thread, of unshare(2), and of `work`.
pub fn with_free_number<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let run = || {
            unshare(CloneFlags::CLONE_FILES)?;
            // SAFETY: the table belongs to this thread alone, and nothing in it uses standard input. Whether it was open does not
            // matter.
            unsafe { libc::close(0) };
            work()
        };
        let thread = std::thread::Builder::new().name("descriptor".to_owned()).spawn_scoped(scope, run)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn messages_with_and_without_a_descriptor() {
        let (a, b) = pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        send(a.as_fd(), b"one", None).unwrap();
        send(a.as_fd(), b"two", Some(file.as_fd())).unwrap();
        let mut buffer = [0; 16];
        let first = receive(b.as_fd(), &mut buffer).unwrap().unwrap();
        assert_eq!((&buffer[..first.length], first.fd.is_none()), (&b"one"[..], true));
        let second = receive(b.as_fd(), &mut buffer).unwrap().unwrap();
        assert_eq!(&buffer[..second.length], b"two");
        let flags = fcntl(second.fd.unwrap(), FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags, libc::FD_CLOEXEC);
        set_nonblocking(b.as_fd(), true).unwrap();
        assert_eq!(receive(b.as_fd(), &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(a);
        assert!(receive(b.as_fd(), &mut buffer).unwrap().is_none());
        assert_eq!(send(b.as_fd(), b"x", None).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_message_that_does_not_fit() {
        let (a, b) = pair().unwrap();
        send(a.as_fd(), b"too long", None).unwrap();
        assert_eq!(receive(b.as_fd(), &mut [0; 4]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn numbers_of_open_descriptors() {
        let (a, _b) = pair().unwrap();
        let numbers = open_numbers().unwrap();
        assert!(numbers.contains(&a.as_raw_fd()));
        assert!(inherit(-1).is_err());
        assert_eq!(inherit(1_000_000).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn one_descriptor_can_be_opened_in_a_table_of_ones_own() {
        // Other tests open descriptors meanwhile, but nothing in place of the first one.
        let before = std::fs::read_link("/proc/self/fd/0").ok();
        let opened = with_free_number(|| Ok(std::fs::File::open("/dev/null")?.as_raw_fd())).unwrap();
        assert_eq!(opened, 0);
        assert_eq!(std::fs::read_link("/proc/self/fd/0").ok(), before);
        assert!(is_exhausted(&io::Error::from_raw_os_error(libc::EMFILE)));
        assert!(with_free_number(|| Err::<(), _>(io::ErrorKind::NotFound.into())).is_err());
    }

    #[test]
    fn the_limit_rises_and_never_falls() {
        let (old, now) = raise_limit(0).unwrap();
        assert_eq!(old, now);
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let wanted = hard.min(old + 1);
        assert_eq!(raise_limit(wanted).unwrap(), (old, wanted));
        assert_eq!(raise_limit(1).unwrap(), (wanted, wanted));
    }
}
