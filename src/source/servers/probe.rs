//! Asks servers whether and how they serve NFS: the procedure NULL, in each way that is wanted, all at the same time.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::client::{self, CallError, Line};
use crate::plan::{Wanted, Way};
use crate::rpc::rpcbind::{Service, Transport};
use crate::rpc::{Call, NFS, NFS_PORT};

/// How long after the first answer others are waited for: ten times as long as it took, between these.
const GRACE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));

/// Returns how long others are waited for after the first answer, which took `first`.
pub(super) fn grace(first: Duration) -> Duration {
    (first * 10).clamp(GRACE.0, GRACE.1)
}

/// In which ways a server serves, and in how many microseconds on the average it answers a call.
#[derive(Debug)]
pub(super) struct Serves {
    pub(super) ways: Vec<Way>,
    pub(super) micros: u64,
}

/// Asks the server at `address` for the ways that are wanted. Ways without an answer some time after the first one are left
/// out, so that a firewall that swallows UDP does not make a server slow.
///
/// # Errors
/// It serves in none of them, or shows no sign of life by the deadline.
pub(super) async fn server(address: IpAddr, wanted: Wanted, deadline: Instant) -> Result<Serves, CallError> {
    let mut asking = JoinSet::new();
    for way in Way::ALL {
        let version = usize::try_from(way.version()).unwrap_or(0);
        let version_wanted = wanted.versions.get(version.wrapping_sub(2)).copied().unwrap_or(false);
        let transport_wanted = if way.is_tcp() { wanted.tcp } else { wanted.udp };
        if version_wanted && transport_wanted {
            asking.spawn(async move { (way, client::by(deadline, null(address, way, wanted)).await) });
        }
    }
    let begun = Instant::now();
    let (mut deadline, mut ways, mut sum) = (deadline + Duration::from_millis(50), Vec::new(), Duration::ZERO);
    let mut error: Option<CallError> = None;
    while let Ok(Some(Ok((way, answer)))) = timeout_at(deadline, asking.join_next()).await {
        match answer {
            Ok(time) => {
                if ways.is_empty() {
                    deadline = deadline.min(Instant::now() + grace(begun.elapsed()));
                }
                ways.push(way);
                sum += time;
            }
            // A sign of life says more than silence.
            Err(e) if error.as_ref().is_none_or(CallError::is_silence) => error = Some(e),
            Err(_) => {}
        }
    }
    let number = u32::try_from(ways.len()).unwrap_or(1);
    match sum.checked_div(number) {
        Some(average) => Ok(Serves { ways, micros: u64::try_from(average.as_micros()).unwrap_or(u64::MAX) }),
        None => Err(error.unwrap_or(CallError::TimedOut)),
    }
}

/// Calls NULL. Returns the time that the call took.
async fn null(address: IpAddr, way: Way, wanted: Wanted) -> Result<Duration, CallError> {
    let transport = if way.is_tcp() { Transport::Tcp } else { Transport::Udp };
    let service = Service { program: NFS, version: way.version(), transport };
    let port = match wanted.port {
        Some(port) => port,
        None if wanted.only_version_4() => NFS_PORT,
        None => client::port(address, service).await?.ok_or(CallError::NotRegistered("NFS"))?,
    };
    let begun = Instant::now();
    Line::new(SocketAddr::new(address, port), transport).call(&Call::null(NFS, way.version())).await?;
    Ok(begun.elapsed())
}
