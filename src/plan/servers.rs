//! Order of replicated servers: the pure part. Servers are asked elsewhere.

use crate::map::OptionList;

/// The server of an NFS mount, as far as the choice among several depends on the entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name or address, without brackets.
    pub host: Vec<u8>,
    /// Higher is worse.
    pub weight: u32,
    /// Rule for the comparison of servers.
    pub rule: Rule,
}

/// Comparisons of servers that are equally near.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The time that a server takes to answer, times its weight plus one.
    Time,
    /// Weights alone, however near: `use-weight-only`.
    Weight,
    /// This number, times the weight plus one, however near: `-r`.
    Chance(u32),
}

impl Server {
    /// Returns the number by which servers are compared, the lowest first, of one that answers in so many microseconds.
    fn cost(&self, micros: u64) -> u64 {
        let cost = match self.rule {
            Rule::Time => micros.max(1),
            Rule::Weight => 1,
            Rule::Chance(number) => u64::from(number),
        };
        cost.saturating_mul(u64::from(self.weight) + 1)
    }

    /// Returns the number by which servers are compared that were not asked.
    pub(super) fn untested_cost(&self) -> u64 {
        self.cost(1)
    }
}

/// How near a server is. Nearer is less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proximity {
    /// This machine.
    Local,
    /// In a subnet of ours.
    Subnet,
    /// In the same network of class A, B or C.
    Network,
    /// Elsewhere.
    Other,
}

impl std::fmt::Display for Proximity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Local => "this machine",
            Self::Subnet => "in a subnet of ours",
            Self::Network => "in a network of ours",
            Self::Other => "elsewhere",
        })
    }
}

/// Versions and transports of NFS that the options of a mount permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// Versions, of 2, 3 and 4.
    pub versions: [bool; 3],
    /// Over TCP.
    pub tcp: bool,
    /// Over UDP.
    pub udp: bool,
    /// IPv6 alone: `proto=tcp6`, `proto=udp6`.
    pub ipv6_only: bool,
    /// `proto=rdma`: servers cannot be asked.
    pub rdma: bool,
    /// `port=`, if not 0.
    pub port: Option<u16>,
}

impl Wanted {
    /// Returns what is wanted with this type and these options. `default` is `mount_nfs_default_protocol`.
    pub fn of(fstype: &[u8], options: &OptionList, default: u8) -> Self {
        let mut wanted = Self {
            versions: [false, true, default == 4],
            tcp: true,
            udp: true,
            ipv6_only: false,
            rdma: false,
            port: None,
        };
        let only = |version: usize| [2, 3, 4].map(|v| v == version);
        if fstype == b"nfs4" {
            wanted.versions = only(4);
        }
        for word in options.words() {
            let (name, value) = match memchr::memchr(b'=', word).and_then(|at| word.split_at_checked(at)) {
                Some((name, value)) => (name, value.get(1..).unwrap_or_default()),
                None => (word, &b""[..]),
            };
            match (name, value) {
                (b"vers" | b"nfsvers", [b'2', ..]) | (b"v2", b"") => wanted.versions = only(2),
                (b"vers" | b"nfsvers", [b'3', ..]) | (b"v3", b"") => wanted.versions = only(3),
                (b"vers" | b"nfsvers", [b'4', ..]) | (b"v4" | b"v4.0" | b"v4.1" | b"v4.2", b"") => {
                    wanted.versions = only(4);
                }
                (b"proto", b"tcp" | b"tcp6") | (b"tcp", b"") => (wanted.tcp, wanted.udp) = (true, false),
                (b"proto", b"udp" | b"udp6") | (b"udp", b"") => (wanted.tcp, wanted.udp) = (false, true),
                (b"proto", b"rdma" | b"rdma6") | (b"rdma", b"") => wanted.rdma = true,
                (b"port", number) => {
                    let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
                    wanted.port = number.filter(|port| *port != 0);
                }
                _ => {}
            }
            if name == b"proto" {
                wanted.ipv6_only = matches!(value, b"tcp6" | b"udp6");
            }
        }
        if wanted.only_version_4() {
            (wanted.tcp, wanted.udp) = (true, false);
        }
        wanted
    }

    /// Version 4 alone: it has a port of its own, and rpcbind is not asked.
    pub fn only_version_4(&self) -> bool {
        self.versions == [false, false, true]
    }
}

/// A way in which a server serves NFS, the better ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// Version 4 over TCP.
    Tcp4,
    /// Version 3 over TCP.
    Tcp3,
    /// Version 2 over TCP.
    Tcp2,
    /// Version 4 over UDP.
    Udp4,
    /// Version 3 over UDP.
    Udp3,
    /// Version 2 over UDP.
    Udp2,
}

impl Way {
    /// All ways, the better ones first.
    pub const ALL: [Self; 6] = [Self::Tcp4, Self::Tcp3, Self::Tcp2, Self::Udp4, Self::Udp3, Self::Udp2];

    /// Returns the version of NFS.
    pub fn version(self) -> u32 {
        match self {
            Self::Tcp4 | Self::Udp4 => 4,
            Self::Tcp3 | Self::Udp3 => 3,
            Self::Tcp2 | Self::Udp2 => 2,
        }
    }

    /// Returns a list of ways for people: `NFS 4 and 3 over TCP, NFS 3 over UDP`.
    pub fn list(ways: &[Self]) -> String {
        let over = |tcp: bool| {
            let mut versions: Vec<u32> =
                ways.iter().filter(|way| way.is_tcp() == tcp).map(|way| way.version()).collect();
            versions.sort_unstable_by(|a, b| b.cmp(a));
            let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
            let transport = if tcp { "TCP" } else { "UDP" };
            (!versions.is_empty()).then(|| format!("NFS {} over {transport}", versions.join(" and ")))
        };
        [over(true), over(false)].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// Returns whether it is TCP.
    pub fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp4 | Self::Tcp3 | Self::Tcp2)
    }
}

/// State of a server after it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tested {
    /// It serves in these ways, and answers in so many microseconds on the average.
    Serves(Vec<Way>, u64),
    /// It was not asked, or has not answered yet while others have.
    Untested,
    /// It does not serve.
    Dead,
}

/// Returns the numbers of the servers that are tried, in this order: those that serve in the way that most have, by cost; then
/// those without a measurement, by weight. Equal ones stay in the order in which they are written.
pub fn rank(servers: &[(&Server, Tested)]) -> Vec<usize> {
    let count =
        |way: Way| servers.iter().filter(|(_, t)| matches!(t, Tested::Serves(ways, _) if ways.contains(&way))).count();
    // The first of those with the greatest count.
    let most = Way::ALL.into_iter().rev().max_by_key(|way| count(*way));
    let mut ranked: Vec<(bool, u64, usize)> = Vec::with_capacity(servers.len());
    for (number, (server, tested)) in servers.iter().enumerate() {
        match tested {
            Tested::Serves(ways, micros) if most.is_some_and(|way| ways.contains(&way)) => {
                ranked.push((false, server.cost(*micros), number));
            }
            Tested::Serves(..) | Tested::Dead => {}
            Tested::Untested => ranked.push((true, server.untested_cost(), number)),
        }
    }
    ranked.sort();
    ranked.into_iter().map(|(_, _, number)| number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(weight: u32, rule: Rule) -> Server {
        Server { host: b"srv".to_vec(), weight, rule }
    }

    #[test]
    fn time_and_weight_make_the_cost() {
        let (light, heavy) = (server(1, Rule::Time), server(50, Rule::Time));
        let v3 = |micros| Tested::Serves(vec![Way::Tcp3, Way::Udp3], micros);
        assert_eq!(rank(&[(&heavy, v3(500)), (&light, v3(500))]), [1, 0]);
        assert_eq!(rank(&[(&light, v3(250_000)), (&light, v3(300))]), [1, 0]);
        assert_eq!(rank(&[(&light, v3(300)), (&light, v3(300)), (&light, Tested::Dead)]), [0, 1]);
        assert_eq!(rank(&[(&light, Tested::Untested), (&heavy, v3(900_000))]), [1, 0]);
        let by_weight = server(0, Rule::Weight);
        assert_eq!(rank(&[(&by_weight, v3(900)), (&by_weight, v3(1))]), [0, 1]);
        let (late, early) = (server(0, Rule::Chance(9)), server(3, Rule::Chance(2)));
        assert_eq!(rank(&[(&late, v3(1)), (&early, v3(900))]), [1, 0]);
    }

    #[test]
    fn the_way_of_most_servers_is_chosen() {
        let one = server(0, Rule::Time);
        let serves = |ways: &[Way]| Tested::Serves(ways.to_vec(), 5);
        assert_eq!(
            rank(&[(&one, serves(&[Way::Tcp4])), (&one, serves(&[Way::Udp3])), (&one, serves(&[Way::Udp3]))]),
            [1, 2]
        );
        assert_eq!(rank(&[(&one, serves(&[Way::Udp3])), (&one, serves(&[Way::Tcp4]))]), [1], "the better one of a tie");
        assert!(rank(&[(&one, Tested::Dead)]).is_empty());
    }

    #[test]
    fn ways_for_people() {
        assert_eq!(Way::list(&[Way::Udp3, Way::Tcp3, Way::Tcp4]), "NFS 4 and 3 over TCP, NFS 3 over UDP");
        assert_eq!(Way::list(&[Way::Tcp4]), "NFS 4 over TCP");
    }

    #[test]
    fn what_options_want() {
        let of = |fstype: &str, options: &str| Wanted::of(fstype.as_bytes(), &OptionList::parse(options.as_bytes()), 3);
        assert_eq!(of("nfs", "").versions, [false, true, false]);
        assert_eq!(Wanted::of(b"nfs", &OptionList::default(), 4).versions, [false, true, true]);
        for four in [of("nfs4", "ro"), of("nfs", "vers=4.2"), of("nfs", "nfsvers=4")] {
            assert!(four.only_version_4() && four.tcp && !four.udp, "{four:?}");
        }
        let udp6 = of("nfs", "proto=udp6,port=2050,vers=3");
        assert!(udp6.udp && !udp6.tcp && udp6.ipv6_only && udp6.port == Some(2050));
        assert!(of("nfs", "proto=rdma").rdma && of("nfs", "port=0").port.is_none());
        assert_eq!(of("nfs", "vers=2").versions, [true, false, false]);
    }
}
