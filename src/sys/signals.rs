//! Signals: blocked everywhere and read from a descriptor, as nothing of use may be done in a handler.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Signals by which a program dies of its own faults: blocked, they would kill without a word or repeat for ever.
pub(super) const FAULTS: [Signal; 7] =
    [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGTRAP, Signal::SIGABRT, Signal::SIGSYS];

/// The signals that have a meaning for a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    /// TERM or INT: end.
    Stop,
    /// USR2: end, whatever is in use.
    Force,
    /// USR1: unmount what is unused.
    Prune,
    /// HUP: read the configuration again.
    Reload,
    /// CHLD: a child has ended.
    Child,
    /// Any other, by number.
    Other(i32),
}

/// A signal and its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Request of the signal.
    pub request: Request,
    /// Pid of the sender; 0: the kernel, or outside of our pid namespace.
    pub pid: u32,
    /// Real uid of the sender.
    pub uid: u32,
}

/// All signals but those that report a fault, blocked in this thread and in those that it starts later, and readable
/// from a descriptor that does not block.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals and makes the descriptor, with CLOEXEC set. To be called before other threads are started.
    ///
    /// # Errors
    /// Returns the errors of signalfd(2).
    pub fn block() -> io::Result<Self> {
        let mut set = SigSet::all();
        for fault in FAULTS {
            set.remove(fault);
        }
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&set), None)?;
        Ok(Self(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// The next signal; `None`: there is none now. Several of the same kind may come as one.
    ///
    /// # Errors
    /// Returns the errors of read(2).
    pub fn read(&self) -> io::Result<Option<Received>> {
        let Some(info) = self.0.read_signal()? else { return Ok(None) };
        let number = i32::try_from(info.ssi_signo).unwrap_or(0);
        let request = match number {
            libc::SIGTERM | libc::SIGINT => Request::Stop,
            libc::SIGUSR2 => Request::Force,
            libc::SIGUSR1 => Request::Prune,
            libc::SIGHUP => Request::Reload,
            libc::SIGCHLD => Request::Child,
            other => Request::Other(other),
        };
        Ok(Some(Received { request, pid: info.ssi_pid, uid: info.ssi_uid }))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Gives every signal its default action again and blocks none: what a new program expects. For forked children only:
/// the Rust runtime of this one relies on SIGPIPE being ignored.
///
/// Async-signal-safe.
///
/// # Errors
/// Returns the errors of sigprocmask(2).
pub fn reset() -> io::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator().filter(|s| !matches!(s, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: no handler is installed, only removed.
        let _ = unsafe { sigaction(signal, &default) };
    }
    unblock()
}

/// Blocks no signal in this thread.
///
/// # Errors
/// Returns the errors of sigprocmask(2).
pub fn unblock() -> io::Result<()> {
    Ok(pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}

/// Blocks every signal in this thread.
///
/// # Errors
/// Returns the errors of sigprocmask(2).
pub fn block() -> io::Result<()> {
    Ok(pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_is_read() {
        // A thread of its own: the mask is the thread's.
        std::thread::spawn(|| {
            let signals = Signals::block().unwrap();
            assert_eq!(signals.read().unwrap(), None);
            // SAFETY: the signal is blocked in this thread, which is the only one to get it.
            unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR1) };
            let received = signals.read().unwrap().unwrap();
            assert_eq!(received.request, Request::Prune);
            assert_eq!(received.pid, std::process::id());
            unblock().unwrap();
        })
        .join()
        .unwrap();
    }
}
