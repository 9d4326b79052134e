//! Notifications of changes of the network: addresses and routes, rtnetlink(7).

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket};

use super::directory_events::drain;

/// Addresses and routes of IPv4 and IPv6: RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR and RTMGRP_IPV6_ROUTE of
/// linux/rtnetlink.h.
const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;

/// The source of notifications: wait until it is readable, then call [`NetworkEvents::drain`].
#[derive(Debug)]
pub struct NetworkEvents(OwnedFd);

impl NetworkEvents {
    /// Opens a source.
    ///
    /// # Errors
    /// Returns the errors of socket(2) and bind(2).
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        Ok(Self(socket))
    }

    /// Takes all notifications that have come. What has changed does not matter.
    ///
    /// # Errors
    /// Returns the errors of read(2).
    pub fn drain(&self) -> io::Result<()> {
        drain(self.as_fd())
    }
}

impl AsFd for NetworkEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_notifications_nothing_waits() {
        let events = NetworkEvents::open().unwrap();
        events.drain().unwrap();
        events.drain().unwrap();
    }
}
