//! Registers descriptors in the reactor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A value whose descriptor does not change as long as it exists.
#[derive(Debug)]
pub(crate) struct Steady<T>(pub(crate) T);

impl<T: AsFd> AsRawFd for Steady<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl<T: AsFd> AsFd for Steady<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A raw descriptor, so that it can be registered again after the old registration was dropped.
#[derive(Debug)]
pub(crate) struct Number(RawFd);

impl AsRawFd for Number {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

/// Registers a descriptor for reading by its number. It must stay open as long as the registration exists.
#[allow(deprecated, reason = "as below")]
pub(crate) fn register_number(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<Number>> {
    AsyncFd::with_interest(Number(fd.as_raw_fd()), Interest::READABLE)
}

/// Registers a descriptor for reading.
#[allow(
    deprecated,
    reason = "what replaces it in tokio 1.54 is unsafe, and missing in the versions that distributions have"
)]
pub(crate) fn register<T: AsFd>(inner: T) -> io::Result<AsyncFd<Steady<T>>> {
    AsyncFd::with_interest(Steady(inner), Interest::READABLE)
}
