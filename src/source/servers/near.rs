//! How near a server is, by the addresses of this machine's interfaces.

use std::net::{IpAddr, Ipv4Addr};

use crate::plan::Proximity;
use crate::sys::interfaces::Interface;

/// Returns how near `address` is. Returns `None` if no interface that is up has an address of its family, or if it is a
/// link-local address, with which nothing can be mounted.
pub(super) fn proximity(address: IpAddr, interfaces: &[Interface]) -> Option<Proximity> {
    if matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()) {
        return None;
    }
    let family = || interfaces.iter().filter(|own| own.address.is_ipv4() == address.is_ipv4());
    if family().any(|own| own.address == address) || address.is_loopback() {
        return Some(Proximity::Local);
    }
    // The family is usable if an interface besides the loopback has it.
    family().find(|own| !own.address.is_loopback())?;
    if family().any(|own| own.mask.is_some_and(|mask| same(own.address, address, mask))) {
        return Some(Proximity::Subnet);
    }
    let class = |own: &Interface| match (own.address, address) {
        (IpAddr::V4(own), IpAddr::V4(address)) => {
            classful(address).is_some_and(|mask| same(own.into(), address.into(), mask))
        }
        _ => false,
    };
    Some(if family().any(class) { Proximity::Network } else { Proximity::Other })
}

/// Returns whether two addresses are the same in the bits of `mask`.
fn same(one: IpAddr, other: IpAddr, mask: IpAddr) -> bool {
    match (one, other, mask) {
        (IpAddr::V4(one), IpAddr::V4(other), IpAddr::V4(mask)) => one & mask == other & mask,
        (IpAddr::V6(one), IpAddr::V6(other), IpAddr::V6(mask)) => one & mask == other & mask,
        _ => false,
    }
}

/// The mask of the network of class A, B or C in which an address is.
fn classful(address: Ipv4Addr) -> Option<IpAddr> {
    let mask = match address.octets() {
        [0..128, ..] => [255, 0, 0, 0],
        [128..192, ..] => [255, 255, 0, 0],
        [192..224, ..] => [255, 255, 255, 0],
        _ => return None,
    };
    Some(Ipv4Addr::from(mask).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_subnet_and_class() {
        let interface = |address: &str, mask: &str| Interface {
            address: address.parse().unwrap(),
            mask: Some(mask.parse().unwrap()),
        };
        let own =
            [interface("127.0.0.1", "255.0.0.0"), interface("10.99.1.1", "255.255.255.0"), interface("::1", "ffff::")];
        for (address, near) in [
            ("10.99.1.1", Some(Proximity::Local)),
            ("127.0.0.1", Some(Proximity::Local)),
            ("10.99.1.2", Some(Proximity::Subnet)),
            ("10.77.0.5", Some(Proximity::Network)),
            ("203.0.113.5", Some(Proximity::Other)),
            ("fd00::9", None),
            ("fe80::1", None),
        ] {
            assert_eq!(proximity(address.parse().unwrap(), &own), near, "{address}");
        }
        let own = [interface("fd00::1", "ffff:ffff:ffff:ffff::")];
        assert_eq!(proximity("fd00::9".parse().unwrap(), &own), Some(Proximity::Subnet));
        assert_eq!(proximity("fd01::9".parse().unwrap(), &own), Some(Proximity::Other));
    }
}
