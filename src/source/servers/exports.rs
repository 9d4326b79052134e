//! Exports of a server: MOUNT EXPORT, by the first address and transport that answers.

use std::net::{IpAddr, SocketAddr};

use super::client::{self, CallError, Line};
use crate::rpc::rpcbind::{Service, Transport};
use crate::rpc::{Refusal, Unix, mountd};
use crate::sys::user;

/// Asks the server at `address` which directories it exports: over UDP, and over TCP a little later or if that fails. A list
/// that is longer than a packet can only arrive by TCP.
///
/// # Errors
/// The server does not answer, refuses or sends an invalid reply. See [`client::by`] for a deadline.
pub(super) async fn of(address: IpAddr) -> Result<Vec<Vec<u8>>, CallError> {
    let caller = Unix {
        machine: user::machine().map(|machine| machine.host.into_encoded_bytes()).unwrap_or_default(),
        uid: 0,
        gid: 0,
        groups: Vec::new(),
    };
    client::first_of(by(address, Transport::Udp, &caller), by(address, Transport::Tcp, &caller)).await
}

async fn by(address: IpAddr, transport: Transport, caller: &Unix) -> Result<Vec<Vec<u8>>, CallError> {
    let mut last = CallError::NotRegistered("the MOUNT protocol");
    for version in mountd::VERSIONS {
        let service = Service { program: mountd::PROGRAM, version, transport };
        let Some(port) = client::port(address, service).await? else { continue };
        let server = SocketAddr::new(address, port);
        let line = Line { server, transport, reserved: true, limit: mountd::REPLY_MAX };
        match line.call(&mountd::export(version, caller.clone())).await {
            Ok(results) => {
                let exports = mountd::exports(&results).map_err(|_| CallError::Nonsense("no list of exports"))?;
                return Ok(exports.into_iter().map(<[u8]>::to_vec).collect());
            }
            Err(e @ CallError::Refused(Refusal::Version { .. })) => last = e,
            Err(e) => return Err(e),
        }
    }
    Err(last)
}
