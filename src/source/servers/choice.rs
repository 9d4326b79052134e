//! The choice of one entry: its servers in groups, the nearest first, and each group in the order in which it is tried.

use std::net::IpAddr;
use std::time::Duration;

use log::debug;
use tokio::time::Instant;

use super::{Servers, near};
use crate::map::OptionList;
use crate::plan::{FsMount, Proximity, Rule, Server, Tested, Wanted, rank};
use crate::sys::interfaces::interfaces;
use crate::text::Escaped;

/// How long the attempt at one server may take while others remain.
const WHILE_OTHERS_REMAIN: Duration = Duration::from_secs(10);

/// Settings that a choice depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choosing {
    /// `mount_nfs_default_protocol`.
    pub default_version: u8,
    /// A single server is asked, too, before it is mounted from: without `mount_wait`, a mount of a dead one would take minutes.
    pub ask_single: bool,
    /// `use_hostname_for_mounts`: names are not replaced by the address that has answered.
    pub use_names: bool,
    /// How long the name service may take.
    pub time_limit: Duration,
}

/// An address of a server.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    /// The mount from it.
    mount: FsMount,
    server: Server,
    pub(super) address: IpAddr,
    near: Proximity,
}

/// The rounds in which an entry is mounted.
#[derive(Debug)]
pub struct Choice<'a> {
    servers: &'a Servers,
    /// Mounts for which there is nothing to choose.
    first: Option<Vec<FsMount>>,
    /// The nearest last.
    groups: Vec<Vec<Candidate>>,
    /// `None`: they are not asked.
    wanted: Option<Wanted>,
}

/// A round: what is tried before farther servers are asked.
#[derive(Debug, Default)]
pub struct Round {
    /// The mounts, in order.
    pub mounts: Vec<FsMount>,
    /// State of each server, in sentences.
    pub told: Vec<String>,
}

impl Servers {
    /// Returns in which rounds `mounts`, the replicas of an entry, are tried. Asks the name service alone.
    pub async fn choose(&self, mounts: &[FsMount], choosing: Choosing) -> Choice<'_> {
        let mut choice = Choice { servers: self, first: None, groups: Vec::new(), wanted: None };
        let (mut first, mut far): (Vec<FsMount>, Vec<Candidate>) = (Vec::new(), Vec::new());
        let Some(some) = mounts.iter().find(|mount| mount.server.is_some()) else {
            return Choice { first: Some(mounts.to_vec()), ..choice };
        };
        let wanted = Wanted::of(&some.fstype, &OptionList::parse(&some.options), choosing.default_version);
        let interfaces = interfaces().unwrap_or_default();
        let deadline = Instant::now() + choosing.time_limit;
        for mount in mounts {
            let Some(server) = &mount.server else {
                first.push(mount.clone());
                continue;
            };
            let usable = |address: &IpAddr| address.is_ipv6() || !wanted.ipv6_only;
            let addresses: Vec<IpAddr> =
                self.hosts.addresses(&server.host, deadline).await.iter().copied().filter(usable).collect();
            for address in &addresses {
                let Some(near) = near::proximity(*address, &interfaces) else { continue };
                let near = if server.rule == Rule::Time { near } else { Proximity::Subnet };
                let several =
                    addresses.iter().filter(|a| a.is_ipv4() == address.is_ipv4() && !a.is_loopback()).count() > 1;
                let mut mount = mount.clone();
                if several && !choosing.use_names {
                    mount.source = with_address(&mount.source, *address);
                }
                far.push(Candidate { mount, server: server.clone(), address: *address, near });
            }
        }
        if far.is_empty() {
            // No name server knows them, or no interface has their family: mounting tells more than we could.
            return Choice { first: Some(mounts.to_vec()), ..choice };
        }
        let asked = !wanted.rdma && (far.len() > 1 || (choosing.ask_single && first.is_empty()));
        choice.wanted = asked.then_some(wanted);
        // Stable: those that are equally near stay in the order in which they are written.
        far.sort_by_key(|candidate| candidate.near);
        for candidate in far {
            match choice.groups.last_mut() {
                Some(group) if group.first().is_some_and(|first| first.near == candidate.near) => group.push(candidate),
                _ => choice.groups.push(vec![candidate]),
            }
        }
        choice.groups.reverse();
        choice.first = (!first.is_empty()).then_some(first);
        choice
    }
}

impl Choice<'_> {
    /// Returns the next round: asks the nearest servers that were in no round yet. A round may be without mounts.
    pub async fn next(&mut self) -> Option<Round> {
        if let Some(mounts) = self.first.take() {
            return Some(Round { mounts, told: Vec::new() });
        }
        let group = self.groups.pop()?;
        let mut round = Round::default();
        let tested: Vec<Tested> = match self.wanted {
            None => group.iter().map(|_| Tested::Untested).collect(),
            Some(wanted) => {
                let results = self.servers.test(&group, wanted).await;
                for (candidate, (_, said)) in group.iter().zip(&results) {
                    let (host, near) = (Escaped(&candidate.server.host), candidate.near);
                    let told = format!("{host} ({}, {near}): {said}", candidate.address);
                    debug!("{told}");
                    round.told.push(told);
                }
                results.into_iter().map(|(tested, _)| tested).collect()
            }
        };
        let servers: Vec<(&Server, Tested)> = group.iter().map(|c| &c.server).zip(tested).collect();
        for candidate in rank(&servers).into_iter().filter_map(|number| group.get(number)) {
            if round.mounts.iter().all(|mount| mount.source != candidate.mount.source) {
                round.mounts.push(candidate.mount.clone());
            }
        }
        let last = if self.groups.is_empty() { round.mounts.len().saturating_sub(1) } else { round.mounts.len() };
        round.mounts.iter_mut().take(last).for_each(|mount| {
            mount.limit = Some(mount.limit.map_or(WHILE_OTHERS_REMAIN, |limit| limit.min(WHILE_OTHERS_REMAIN)));
        });
        Some(round)
    }
}

/// Returns the source `host:/path` with an address in place of the host.
fn with_address(source: &[u8], address: IpAddr) -> Vec<u8> {
    let path = memchr::memmem::find(source, b":/").and_then(|at| source.get(at..)).unwrap_or_default();
    let host = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
    [host.as_bytes(), path].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_replaces_the_name() {
        let address = |text: &str| text.parse().unwrap();
        assert_eq!(with_address(b"multi:/x", address("10.99.1.3")), b"10.99.1.3:/x");
        assert_eq!(with_address(b"[fd00::9]:/x:/y", address("fd00::8")), b"[fd00::8]:/x:/y");
    }
}
