//! Asks a directory service for a map, to see whether it works.

use tokio::time::{Instant, timeout_at};

use super::map::all;
use super::{DirectoryService, Lookups};
use crate::directory::protocol::Trouble;
use crate::directory::{Map, Question, Reply, Scope};
use crate::map::SourceKind;

/// A map that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// Place of the map.
    pub detail: String,
    /// The number of its keys. `None`: they cannot be listed.
    pub keys: Option<usize>,
}

/// Finds a map of a directory service, and counts its keys. Returns by the deadline.
///
/// # Errors
/// The map cannot be read, and why.
pub async fn probe(
    lookups: &Lookups,
    kind: SourceKind,
    name: &[u8],
    scope: Scope,
    deadline: Instant,
) -> Result<Probed, (Trouble, String)> {
    let Some(service) = DirectoryService::of(kind) else {
        return Err((Trouble::Unusable, "it is not a directory service".to_owned()));
    };
    let map = Map { secure: kind == SourceKind::Ldaps, scope, name: name.to_vec() };
    let work = async {
        let lost = || (Trouble::Unavailable, "its lookup process has ended".to_owned());
        let detail = match lookups.ask(service, map.clone(), Question::Probe, deadline).recv().await {
            Some(Reply::Found { entry, .. }) => String::from_utf8_lossy(&entry).into_owned(),
            Some(Reply::Failed(trouble, why)) => return Err((trouble, why)),
            _ => return Err(lost()),
        };
        if service == DirectoryService::Hesiod {
            return Ok(Probed { detail, keys: None });
        }
        let (pairs, truncated) = all(lookups, service, &map, deadline).await?;
        if truncated {
            let why = format!("the server gives {} entries and has more: raise its size limit", pairs.len());
            return Err((Trouble::Unavailable, why));
        }
        Ok(Probed { detail, keys: Some(pairs.len()) })
    };
    let silent = || (Trouble::Unavailable, "it does not answer in time".to_owned());
    timeout_at(deadline, work).await.unwrap_or_else(|_| Err(silent()))
}
