//! Addresses of network interfaces.

use std::io;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

/// An address of an interface that is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface {
    /// The address.
    pub address: IpAddr,
    /// The mask of its subnet.
    pub mask: Option<IpAddr>,
}

/// Returns the addresses of all interfaces that are up and no point-to-point links.
///
/// # Errors
/// Returns the errors of getifaddrs(3).
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let wanted = |flags: InterfaceFlags| {
        flags.contains(InterfaceFlags::IFF_UP) && !flags.contains(InterfaceFlags::IFF_POINTOPOINT)
    };
    let found = getifaddrs()?.filter(|found| wanted(found.flags));
    let interface = |found: nix::ifaddrs::InterfaceAddress| {
        let address = ip(found.address.as_ref()?)?;
        Some(Interface { address, mask: found.netmask.as_ref().and_then(ip) })
    };
    Ok(found.filter_map(interface).collect())
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Some(v4.ip().into()),
        (_, Some(v6)) => Some(v6.ip().into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_up_has_an_address_once() {
        let found = interfaces().unwrap();
        assert!(found.iter().all(|one| found.iter().filter(|other| one == *other).count() == 1));
        assert!(found.iter().all(|one| one.mask.is_none_or(|mask| mask.is_ipv4() == one.address.is_ipv4())));
    }
}
