//! The name service: canonical names, addresses of this machine, netgroups. Everything here may wait for servers.

use std::ffi::{CStr, CString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _};

/// An address of this machine with the length of its network prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface {
    /// The address.
    pub address: IpAddr,
    /// Bits of the network.
    pub prefix: u32,
}

/// Returns the addresses of this machine.
///
/// # Errors
/// The kernel does not tell.
pub fn interfaces() -> std::io::Result<Vec<Interface>> {
    let all = nix::ifaddrs::getifaddrs()?;
    let address = |storage: &nix::sys::socket::SockaddrStorage| -> Option<IpAddr> {
        let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    let bits = |mask: IpAddr| match mask {
        IpAddr::V4(mask) => Ipv4Addr::to_bits(mask).count_ones(),
        IpAddr::V6(mask) => Ipv6Addr::to_bits(mask).count_ones(),
    };
    let of = |interface: nix::ifaddrs::InterfaceAddress| {
        let own = address(interface.address.as_ref()?)?;
        Some(Interface { address: own, prefix: bits(address(interface.netmask.as_ref()?)?) })
    };
    Ok(all.filter_map(of).collect())
}

/// Returns the addresses of a host; none if no name service knows it.
pub fn addresses(host: &[u8]) -> Vec<IpAddr> {
    let found = std::str::from_utf8(host).ok().and_then(|host| (host, 0).to_socket_addrs().ok());
    found.map(|found| found.map(|address| address.ip()).collect()).unwrap_or_default()
}

/// Returns the canonical name of a host.
pub fn canonical(host: &[u8]) -> Option<Vec<u8>> {
    let host = CString::new(host).ok()?;
    // SAFETY: all zeros is a valid addrinfo: no flags, no pointers.
    let mut hints: libc::addrinfo = unsafe { std::mem::zeroed() };
    hints.ai_flags = libc::AI_CANONNAME;
    hints.ai_socktype = libc::SOCK_STREAM;
    let mut list: *mut libc::addrinfo = std::ptr::null_mut();
    // SAFETY: `host` is NUL-terminated, `hints` and `list` are valid for the call.
    if unsafe { libc::getaddrinfo(host.as_ptr(), std::ptr::null(), &raw const hints, &raw mut list) } != 0
        || list.is_null()
    {
        return None;
    }
    // SAFETY: after success, `list` points to an addrinfo that lives until `freeaddrinfo`; its name is NULL or
    // NUL-terminated.
    let name = unsafe {
        let name = (*list).ai_canonname;
        (!name.is_null()).then(|| CStr::from_ptr(name).to_bytes().to_vec())
    };
    // SAFETY: `list` comes from getaddrinfo and is not used any more.
    unsafe { libc::freeaddrinfo(list) };
    name
}

/// Returns whether a host is in a netgroup, innetgr(3).
pub fn in_netgroup(group: &[u8], host: &[u8]) -> bool {
    let (Ok(group), Ok(host)) = (CString::new(group), CString::new(host)) else { return false };
    innetgr(&group, &host)
}

#[cfg(target_env = "gnu")]
fn innetgr(group: &CStr, host: &CStr) -> bool {
    use std::ffi::{c_char, c_int};

    unsafe extern "C" {
        fn innetgr(netgroup: *const c_char, host: *const c_char, user: *const c_char, domain: *const c_char) -> c_int;
    }
    let any = std::ptr::null();
    // SAFETY: the texts are NUL-terminated; NULL means any. The function locks its own state.
    unsafe { innetgr(group.as_ptr(), host.as_ptr(), any, any) != 0 }
}

/// Only glibc has netgroups.
#[cfg(not(target_env = "gnu"))]
fn innetgr(_: &CStr, _: &CStr) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_loopback_address() {
        let local = |i: &Interface| i.address == IpAddr::V4(Ipv4Addr::LOCALHOST) && i.prefix == 8;
        let all = interfaces().unwrap();
        assert!(all.is_empty() || all.iter().any(local), "{all:?}");
    }

    #[test]
    fn an_address_is_its_own_name() {
        assert_eq!(addresses(b"192.0.2.7"), [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))]);
        assert_eq!(canonical(b"192.0.2.7").as_deref(), Some(&b"192.0.2.7"[..]));
        assert_eq!(canonical(b"a\0b"), None);
    }

    #[test]
    fn nobody_is_in_a_netgroup_that_does_not_exist() {
        assert!(!in_netgroup(b"no-such-netgroup", b"localhost"));
        assert!(!in_netgroup(b"a\0b", b"localhost"));
    }
}
