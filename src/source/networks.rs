//! Networks: which addresses belong to one. Pure.

use std::net::{IpAddr, Ipv4Addr};

use crate::sys::names::Interface;

/// Returns whether two addresses have the first `bits` bits in common.
fn share(a: IpAddr, b: IpAddr, bits: u32) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(bits)).unwrap_or(0);
            a.to_bits() & mask == b.to_bits() & mask
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits)).unwrap_or(0);
            a.to_bits() & mask == b.to_bits() & mask
        }
        _ => false,
    }
}

/// Returns whether an address is one of this machine, or on the subnet of one.
pub(super) fn is_on_subnet(address: IpAddr, own: &[Interface]) -> bool {
    own.iter().any(|interface| share(address, interface.address, interface.prefix))
}

/// Returns whether an address is on a subnet of this machine, or on the same network by its class, as automount counts.
pub(super) fn is_near(address: IpAddr, own: &[Interface]) -> bool {
    let class = |address: IpAddr| match address {
        IpAddr::V4(v4) => match v4.octets() {
            [0..=127, ..] => 8,
            [128..=191, ..] => 16,
            _ => 24,
        },
        IpAddr::V6(_) => 128,
    };
    let same_class = |interface: &Interface| {
        !interface.address.is_loopback() && share(address, interface.address, class(interface.address))
    };
    is_on_subnet(address, own) || own.iter().any(same_class)
}

/// Reads the address of a network: up to four numbers with dots; the missing ones at the end are 0. Or an IPv6 address.
pub(super) fn parse(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse().ok();
    }
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for (octet, part) in octets.iter_mut().zip(&mut parts) {
        *octet = part.parse().ok()?;
    }
    parts.next().is_none().then(|| IpAddr::V4(Ipv4Addr::from(octets)))
}

/// Returns the address of the network `name` of networks(5).
pub(super) fn named(text: &[u8], name: &[u8]) -> Option<IpAddr> {
    text.split(|&b| b == b'\n').find_map(|line| {
        let line = line.split(|&b| b == b'#').next()?;
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let (official, number) = (words.next()?, words.next()?);
        let is_named = official == name || words.any(|alias| alias == name);
        is_named.then(|| parse(std::str::from_utf8(number).ok()?)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Vec<Interface> {
        let v4 = |text: &str, prefix| Interface { address: text.parse().unwrap(), prefix };
        vec![v4("127.0.0.1", 8), v4("10.99.1.1", 24), v4("192.168.7.9", 26), v4("fd00::1", 64)]
    }

    #[test]
    fn subnets_and_networks() {
        for (text, subnet, near) in [
            ("10.99.1.0", true, true),
            ("10.99.1.77", true, true),
            ("10.99.2.1", false, true),
            ("192.168.7.70", false, true),
            ("192.168.8.1", false, false),
            ("192.0.2.0", false, false),
            ("127.5.5.5", true, true),
            ("fd00::abcd", true, true),
            ("fd01::1", false, false),
        ] {
            let address = text.parse().unwrap();
            assert_eq!((is_on_subnet(address, &own()), is_near(address, &own())), (subnet, near), "{text}");
        }
    }

    #[test]
    fn networks_by_number_and_by_name() {
        let address = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        for (text, want) in [
            ("10", address("10.0.0.0")),
            ("10.99.1", address("10.99.1.0")),
            ("10.99.1.0", address("10.99.1.0")),
            ("fd00::", address("fd00::")),
            ("lan", None),
            ("1.2.3.4.5", None),
            ("", None),
        ] {
            assert_eq!(parse(text), want, "{text}");
        }
        let file = b"loopback 127.0.0.0\n# lan 1.0.0.0\nlan\t10.99.1 office # here\nbad\n";
        assert_eq!(named(file, b"lan"), address("10.99.1.0"));
        assert_eq!(named(file, b"office"), address("10.99.1.0"));
        assert_eq!(named(file, b"here"), None);
    }
}
