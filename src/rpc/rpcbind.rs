//! rpcbind, RFC 1833: on which port a program is served. Version 2 (the portmapper) knows IPv4 alone; versions 3 and 4 give
//! a universal address; its port is used.

use super::message::{Call, Credentials};
use super::xdr::{Reader, Writer, XdrError};

/// The program number.
pub const PROGRAM: u32 = 100_000;

/// Its port.
pub const PORT: u16 = 111;

/// GETPORT of version 2, GETADDR of versions 3 and 4.
const GET: u32 = 3;

/// The longest universal address: an IPv6 address with a scope, and a port.
const ADDRESS_MAX: usize = 128;

/// How a program is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The program that is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Service {
    /// The program number.
    pub program: u32,
    /// The version of the program.
    pub version: u32,
    /// How it is to be reached.
    pub transport: Transport,
}

/// Makes the call GETPORT of version 2. Its results are read by [`port`].
pub fn get_port(service: Service) -> Call {
    let protocol = match service.transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
    };
    let mut arguments = Writer::default();
    let arguments = arguments.number(service.program).number(service.version).number(protocol).number(0).finish();
    Call { program: PROGRAM, version: 2, procedure: GET, credentials: Credentials::None, arguments }
}

/// Makes the call GETADDR of version 3 or 4. Its results are read by [`address_port`].
pub fn get_address(version: u32, service: Service, ipv6: bool) -> Call {
    let network: &[u8] = match (service.transport, ipv6) {
        (Transport::Tcp, false) => b"tcp",
        (Transport::Udp, false) => b"udp",
        (Transport::Tcp, true) => b"tcp6",
        (Transport::Udp, true) => b"udp6",
    };
    let mut arguments = Writer::default();
    arguments.number(service.program).number(service.version).bytes(network);
    // The address and the owner are for other procedures.
    let arguments = arguments.bytes(b"").bytes(b"").finish();
    Call { program: PROGRAM, version, procedure: GET, credentials: Credentials::None, arguments }
}

/// Reads the results of GETPORT. Returns `None` if the program is not registered.
///
/// # Errors
/// The results are malformed, or no port number.
pub fn port(results: &[u8]) -> Result<Option<u16>, XdrError> {
    match Reader::new(results).number()? {
        0 => Ok(None),
        port => u16::try_from(port).map(Some).map_err(|_| XdrError::BadValue),
    }
}

/// Reads the port from the results of GETADDR. Returns `None` if the program is not registered.
///
/// # Errors
/// The results are malformed, or no address.
pub fn address_port(results: &[u8]) -> Result<Option<u16>, XdrError> {
    let address = Reader::new(results).bytes(ADDRESS_MAX)?;
    if address.is_empty() {
        return Ok(None);
    }
    // The last two numbers are the bytes of the port.
    let mut parts = address.rsplit(|&byte| byte == b'.');
    let mut byte = || {
        let part = std::str::from_utf8(parts.next()?).ok()?;
        part.parse::<u8>().ok()
    };
    match (byte(), byte()) {
        (Some(low), Some(high)) => Ok(Some(u16::from_be_bytes([high, low])).filter(|port| *port != 0)),
        _ => Err(XdrError::BadValue),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_results() {
        let number = |n: u32| n.to_be_bytes();
        assert_eq!(port(&number(0)), Ok(None));
        assert_eq!(port(&number(2049)), Ok(Some(2049)));
        assert_eq!(port(&number(70_000)), Err(XdrError::BadValue));
        assert_eq!(port(b"ab"), Err(XdrError::Truncated));
        let address = |text: &str| address_port(&Writer::default().bytes(text.as_bytes()).finish());
        assert_eq!(address(""), Ok(None));
        assert_eq!(address("10.99.1.2.8.1"), Ok(Some(2049)));
        assert_eq!(address("::1.78.80"), Ok(Some(20048)));
        assert_eq!(address("10.99.1.2.0.0"), Ok(None));
        for wrong in ["x", "8.256", "1.2.3.4.a.1", ".."] {
            assert_eq!(address(wrong), Err(XdrError::BadValue), "{wrong}");
        }
        assert_eq!(address(&"1".repeat(200)), Err(XdrError::TooLong));
    }

    #[test]
    fn calls() {
        let service = Service { program: super::super::NFS, version: 3, transport: Transport::Udp };
        let four = [100_003_u32, 3, 17, 0];
        assert_eq!(get_port(service).arguments, four.map(u32::to_be_bytes).concat());
        let call = get_address(4, service, true);
        let mut reader = Reader::new(&call.arguments);
        assert_eq!((reader.number(), reader.number()), (Ok(100_003), Ok(3)));
        assert_eq!(reader.bytes(9), Ok(&b"udp6"[..]));
        assert_eq!((call.version, reader.rest().len()), (4, 8));
    }
}
