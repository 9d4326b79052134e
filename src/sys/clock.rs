//! The clock, and a timer that another process can wait for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// Returns the seconds since 1970.
pub fn since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Shortens a duration to at most a year, so that it can be added to any moment.
pub fn bounded(duration: Duration) -> Duration {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    duration.min(YEAR)
}

/// A moment in the time zone of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    /// Year, month from 1, day.
    pub date: (i32, i32, i32),
    /// Hour, minute, second.
    pub time: (i32, i32, i32),
}

/// Returns the local time of a number of seconds since 1970.
pub fn local_time(seconds: u64) -> LocalTime {
    let seconds = libc::time_t::try_from(seconds).unwrap_or(libc::time_t::MAX);
    // SAFETY: the structure consists of numbers and a pointer, for which zeros are valid.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for the call. The function is thread-safe as long as no thread changes TZ.
    unsafe { libc::localtime_r(&raw const seconds, &raw mut parts) };
    LocalTime {
        date: (parts.tm_year.saturating_add(1900), parts.tm_mon + 1, parts.tm_mday),
        time: (parts.tm_hour, parts.tm_min, parts.tm_sec),
    }
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

    /// Reads the expiration, so that the descriptor is not readable any more.
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
    fn seconds_become_a_local_time() {
        // No time zone is a day away, and a year is the same in all of them in its middle.
        let LocalTime { date: (year, month, _), time: (hour, minute, second) } = local_time(1_718_452_800);
        assert_eq!((year, month), (2024, 6));
        assert!((0..24).contains(&hour) && (0..60).contains(&minute) && second == 0);
    }

    #[test]
    fn a_timer_is_readable_when_its_time_is_over_and_not_before() {
        let timer = Timer::new().unwrap();
        let readable = |timer: &Timer, time_limit| fds::poll([timer.as_fd()], Some(time_limit)).unwrap()[0];
        assert!(!readable(&timer, Duration::ZERO));
        timer.set(Duration::from_millis(5)).unwrap();
        assert!(readable(&timer, Duration::from_secs(10)));
        timer.clear();
        assert!(!readable(&timer, Duration::ZERO));
    }
}
