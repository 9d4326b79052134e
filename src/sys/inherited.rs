//! Undoes inherited settings of the starting process: ignored signals, and resource limits that would end the daemon.

use std::io;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction};

use super::signals::FAULTS;

/// Limits that end the process by a signal when exceeded, or that make writing a pid file fail.
const LIMITS: [Resource; 2] = [Resource::RLIMIT_CPU, Resource::RLIMIT_FSIZE];

/// Bytes of stack that the first thread may take at least: the usual limit.
const STACK: rlim_t = 8 << 20;

/// Blocks SIGXFSZ, so that a write beyond a file size limit that cannot be raised fails with EFBIG instead of killing the
/// daemon.
///
/// # Errors
/// Returns the errors of sigprocmask(2).
pub fn block_file_size_signal() -> io::Result<()> {
    Ok(pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::from(Signal::SIGXFSZ)), None)?)
}

/// Sets every signal to its default action, except fault signals and SIGPIPE, which the Rust runtime has configured. An ignored
/// SIGCHLD is harmful: it stays ignored over exec(2), and the kernel then reaps children without notifying their parent
/// (sigaction(2)).
pub fn reset_signal_actions() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    let kept = |signal: &Signal| {
        FAULTS.contains(signal) || matches!(signal, Signal::SIGKILL | Signal::SIGSTOP | Signal::SIGPIPE)
    };
    for signal in Signal::iterator().filter(|signal| !kept(signal)) {
        // SAFETY: the default action runs no code of this process.
        let _ = unsafe { sigaction(signal, &default) };
    }
}

/// Removes the limits of CPU time and file size, and raises a limit of the stack below the usual one, including the hard limits if
/// permitted.
///
/// # Errors
/// Returns the errors of getrlimit(2) and setrlimit(2).
pub fn lift_limits() -> io::Result<()> {
    for limit in LIMITS {
        let (soft, hard) = getrlimit(limit)?;
        if soft == RLIM_INFINITY || setrlimit(limit, RLIM_INFINITY, RLIM_INFINITY).is_ok() {
            continue;
        }
        setrlimit(limit, hard, hard)?;
    }
    let (soft, hard) = getrlimit(Resource::RLIMIT_STACK)?;
    if soft < STACK && setrlimit(Resource::RLIMIT_STACK, STACK, hard.max(STACK)).is_err() {
        setrlimit(Resource::RLIMIT_STACK, hard, hard)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_lifted_as_far_as_they_may_be() {
        let hard = getrlimit(Resource::RLIMIT_STACK).unwrap().1;
        setrlimit(Resource::RLIMIT_STACK, STACK / 8, hard).unwrap();
        lift_limits().unwrap();
        let (soft, hard) = getrlimit(Resource::RLIMIT_STACK).unwrap();
        assert!(soft == STACK || soft == hard, "{soft} of {hard}");
        for limit in LIMITS {
            let (soft, hard) = getrlimit(limit).unwrap();
            assert_eq!(soft, hard);
        }
    }
}
