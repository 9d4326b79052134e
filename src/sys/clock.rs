//! The clock, and a timer that another process can wait for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId, clock_gettime};

/// Time since an arbitrary moment, the same for all processes: CLOCK_MONOTONIC, which stands still while the machine
/// sleeps. Zero if it cannot be read.
pub fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}

/// Milliseconds of [`monotonic`], modulo 2^32: some 49 days.
pub fn milliseconds() -> u32 {
    let milliseconds = monotonic().as_millis() & u128::from(u32::MAX);
    u32::try_from(milliseconds).unwrap_or_default()
}

/// A timer that makes a descriptor readable. Forked children share it.
#[derive(Debug)]
pub struct Timer(TimerFd);

impl Timer {
    /// A timer that is not set. CLOEXEC is set, and reading does not block.
    ///
    /// # Errors
    /// Those of timerfd_create(2).
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        Ok(Self(TimerFd::new(TimerClock::CLOCK_MONOTONIC, flags)?))
    }

    /// Has the descriptor become readable once, after this time.
    ///
    /// # Errors
    /// Those of timerfd_settime(2).
    pub fn set(&self, after: Duration) -> io::Result<()> {
        Ok(self.0.set(Expiration::OneShot(TimeSpec::from_duration(after)), TimerSetTimeFlags::empty())?)
    }

    /// Takes note that the time is over, so that the descriptor is not readable any more.
    pub fn clear(&self) {
        let _ = nix::unistd::read(self.0.as_fd(), &mut [0; 8]);
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fds;

    #[test]
    fn a_timer_is_readable_when_its_time_is_over_and_not_before() {
        let timer = Timer::new().unwrap();
        let readable = |timer: &Timer, patience| fds::poll([timer.as_fd()], Some(patience)).unwrap()[0];
        assert!(!readable(&timer, Duration::ZERO));
        timer.set(Duration::from_millis(5)).unwrap();
        assert!(readable(&timer, Duration::from_secs(10)));
        timer.clear();
        assert!(!readable(&timer, Duration::ZERO));
    }
}
