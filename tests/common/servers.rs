//! Stand-ins for file servers, at the other end of the world's cable: rpcbind (versions 2 to 4), NFS (its procedure NULL)
//! and mountd (EXPORT). They run in threads with a network namespace of their own.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

const RPCBIND: u32 = 100_000;
const NFS: u32 = 100_003;
const MOUNTD: u32 = 100_005;
const RPCBIND_PORT: u16 = 111;
const NFS_PORT: u16 = 2049;
const MOUNTD_PORT: u16 = 20048;
const UDP: u32 = 17;

/// What a server sends in place of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// The reply to another call.
    OtherCall,
    /// The beginning of the reply, and then nothing.
    CutOff,
    /// The beginning of a reply that is said to be two gigabytes long.
    Huge,
    /// Zeros without end.
    Endless,
    /// The reply with one byte in a while, again and again.
    Drip,
}

impl Lie {
    /// All lies.
    pub const ALL: [Self; 5] = [Self::OtherCall, Self::CutOff, Self::Huge, Self::Endless, Self::Drip];
}

/// A server: an address, and what is served there.
#[derive(Debug, Clone)]
pub struct Server {
    address: IpAddr,
    /// Versions of NFS.
    versions: Vec<u32>,
    /// Is there an nfsd over TCP?
    tcp: bool,
    /// Is there one over UDP?
    udp: bool,
    /// Does rpcbind know mountd?
    mountd: bool,
    /// Is there rpcbind?
    rpcbind: bool,
    /// How long nfsd thinks.
    delay: Duration,
    lie: Option<Lie>,
}

impl Server {
    /// A host that has the address, and refuses all connections.
    pub fn idle(address: &str) -> Self {
        let (versions, delay) = (Vec::new(), Duration::ZERO);
        let address = address.parse().unwrap();
        Self { address, versions, tcp: false, udp: false, mountd: false, rpcbind: false, delay, lie: None }
    }

    /// A server of NFS version 3 and 4, over TCP and UDP.
    pub fn new(address: &str) -> Self {
        Self { versions: vec![3, 4], tcp: true, udp: true, mountd: true, rpcbind: true, ..Self::idle(address) }
    }

    /// rpcbind and mountd without nfsd, which rpcbind nevertheless knows.
    pub fn without_nfsd(self) -> Self {
        Self { tcp: false, udp: false, ..self }
    }

    /// nfsd without rpcbind.
    pub fn without_rpcbind(self) -> Self {
        Self { rpcbind: false, ..self }
    }

    /// A server that sends this in place of every reply.
    pub fn liar(address: &str, lie: Lie) -> Self {
        Self { lie: Some(lie), ..Self::new(address) }
    }

    /// Reads `ADDRESS[:VERSIONS[:FLAGS[:SECONDS]]]`, as vectors have it: versions of NFS without anything between them; flags
    /// `t` (nfsd over TCP), `u` (over UDP), `m` (mountd); the time that nfsd thinks.
    pub fn parse(text: &str) -> Self {
        let mut words = text.split(':');
        let mut word = |default| words.next().unwrap_or(default);
        let (address, versions, flags, delay) = (word(""), word("34"), word("tum"), word("0"));
        Self {
            versions: versions.chars().filter_map(|digit| digit.to_digit(10)).collect(),
            tcp: flags.contains('t'),
            udp: flags.contains('u'),
            mountd: flags.contains('m'),
            rpcbind: true,
            delay: Duration::from_secs_f64(delay.parse().unwrap()),
            ..Self::idle(address)
        }
    }

    fn is_registered(&self, program: u32, version: u32, over_udp: bool) -> bool {
        match program {
            NFS => self.versions.contains(&version) && (self.tcp == self.udp || self.udp == over_udp),
            MOUNTD => self.mountd,
            _ => false,
        }
    }
}

/// The directories that all servers export. Clones are the same list.
#[derive(Debug, Clone, Default)]
pub struct Exports(Arc<Mutex<Vec<String>>>);

impl Exports {
    /// These directories are exported from now on.
    pub fn set(&self, paths: impl IntoIterator<Item = impl Into<String>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = paths.into_iter().map(Into::into).collect();
    }

    fn get(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Runs servers until the process ends. Returns when they answer, with what they export: nothing.
pub fn start(servers: Vec<Server>) -> Exports {
    let exports = Exports::default();
    let (tell, hear) = mpsc::channel();
    let (go, wait) = mpsc::channel();
    let shared = exports.clone();
    thread::spawn(move || {
        // Of this thread alone, and of those that it starts.
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        tell.send(nix::unistd::gettid()).unwrap();
        wait.recv().unwrap();
        for words in ["link set lo up", "link set v1 up"] {
            ip(words);
        }
        for server in &servers {
            ip(&format!(
                "addr add {}/{} dev v1",
                server.address,
                if server.address.is_ipv6() { "128 nodad" } else { "32" }
            ));
        }
        ip("route add 10.99.1.1/32 dev v1");
        if servers.iter().any(|server| server.address.is_ipv6()) {
            ip("route add fd00::/64 dev v1");
        }
        servers.into_iter().for_each(|server| serve(Arc::new(server), &shared));
        tell.send(nix::unistd::gettid()).unwrap();
        loop {
            thread::park();
        }
    });
    let thread = hear.recv().unwrap();
    ip(&format!("link set v1 netns {thread}"));
    go.send(()).unwrap();
    hear.recv().unwrap();
    exports
}

/// Runs ip(8) in the namespace of this thread.
pub fn ip(words: &str) {
    let done = Command::new("ip").args(words.split(' ')).output().unwrap();
    assert!(done.status.success(), "ip {words}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Starts the threads of a server. Its sockets are there when this returns.
fn serve(server: Arc<Server>, exports: &Exports) {
    let ports = [
        (RPCBIND_PORT, server.rpcbind, server.rpcbind),
        (NFS_PORT, server.tcp, server.udp),
        (MOUNTD_PORT, server.mountd, server.mountd),
    ];
    for (port, tcp, udp) in ports {
        let at = SocketAddr::new(server.address, port);
        if tcp {
            let (listener, server, exports) = (TcpListener::bind(at).unwrap(), Arc::clone(&server), exports.clone());
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (server, exports) = (Arc::clone(&server), exports.clone());
                    thread::spawn(move || connection(stream, &server, port, &exports));
                }
            });
        }
        if udp {
            let (socket, server, exports) = (UdpSocket::bind(at).unwrap(), Arc::clone(&server), exports.clone());
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    if let Some(reply) = answer(buffer.get(..length).unwrap_or_default(), &server, port, &exports) {
                        for packet in packets(server.lie, reply) {
                            // A reply that is too long for a packet is lost.
                            _ = socket.send_to(&packet, from);
                        }
                    }
                }
            });
        }
    }
}

fn connection(mut stream: TcpStream, server: &Server, port: u16, exports: &Exports) {
    let mut head = [0; 4];
    while stream.read_exact(&mut head).is_ok() {
        let length = usize::try_from(u32::from_be_bytes(head) & 0x7fff_ffff).unwrap();
        let mut call = vec![0; length.min(4096)];
        if stream.read_exact(&mut call).is_err() {
            return;
        }
        let Some(reply) = answer(&call, server, port, exports) else { continue };
        if let Some(lie) = server.lie {
            _ = tell(&mut stream, lie, &reply);
            return;
        }
        let mark = 0x8000_0000 | u32::try_from(reply.len()).unwrap();
        if stream.write_all(&[&mark.to_be_bytes(), &*reply].concat()).is_err() {
            return;
        }
    }
}

/// The packets that are sent over UDP.
fn packets(lie: Option<Lie>, mut reply: Vec<u8>) -> Vec<Vec<u8>> {
    match lie {
        None => vec![reply],
        Some(Lie::OtherCall) => {
            reply[0] ^= 1;
            vec![reply]
        }
        Some(Lie::CutOff) => vec![reply[..10].to_vec()],
        Some(Lie::Huge) => vec![vec![0; 60_000]],
        Some(Lie::Endless) => vec![vec![0; 100]; 2000],
        Some(Lie::Drip) => Vec::new(),
    }
}

/// Lies over TCP, as long as the other end listens.
fn tell(stream: &mut TcpStream, lie: Lie, reply: &[u8]) -> std::io::Result<()> {
    let mark = 0x8000_0000 | u32::try_from(reply.len()).unwrap();
    let mut whole = [&mark.to_be_bytes(), reply].concat();
    match lie {
        Lie::OtherCall => {
            whole[4] ^= 1;
            stream.write_all(&whole)?;
        }
        Lie::CutOff => stream.write_all(&whole[..whole.len() / 2])?,
        Lie::Huge => stream.write_all(&[&u32::MAX.to_be_bytes(), reply].concat())?,
        Lie::Endless => loop {
            stream.write_all(&[0; 4096])?;
        },
        Lie::Drip => {
            whole[4] ^= 1;
            for byte in whole.iter().cycle() {
                stream.write_all(&[*byte])?;
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
    // Until the other end has enough.
    _ = stream.read(&mut [0; 1])?;
    Ok(())
}

/// The numbers of a call, and its opaque strings.
struct Call<'a>(&'a [u8]);

impl Call<'_> {
    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    fn string(&mut self) -> Option<Vec<u8>> {
        let length = usize::try_from(self.number()?).ok()?;
        let string = self.0.get(..length)?.to_vec();
        self.0 = self.0.get(length.next_multiple_of(4)..)?;
        Some(string)
    }
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = numbers(&[u32::try_from(text.len()).unwrap()]);
    bytes.extend_from_slice(text.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Returns the reply to a call that came to `port`; `None` if it is no call, or one that the program does not have.
fn answer(call: &[u8], server: &Server, port: u16, exports: &Exports) -> Option<Vec<u8>> {
    let mut call = Call(call);
    let (xid, kind, _, program, version, procedure) =
        (call.number()?, call.number()?, call.number()?, call.number()?, call.number()?, call.number()?);
    if kind != 0 {
        return None;
    }
    for _ in ["credentials", "verifier"] {
        call.number()?;
        call.string()?;
    }
    let accepted = |results: Vec<u8>| Some([numbers(&[xid, 1, 0, 0, 0, 0]), results].concat());
    let mismatch = |low, high| Some(numbers(&[xid, 1, 0, 0, 0, 2, low, high]));
    match (program, version, procedure) {
        (RPCBIND, 2, 3) => {
            let (program, version, protocol) = (call.number()?, call.number()?, call.number()?);
            let known = server.is_registered(program, version, protocol == UDP);
            accepted(numbers(&[if known { u32::from(port_of(program)) } else { 0 }]))
        }
        (RPCBIND, 3 | 4, 3) => {
            let (program, version, network) = (call.number()?, call.number()?, call.string()?);
            let known = server.is_registered(program, version, network.starts_with(b"udp"));
            let [high, low] = port_of(program).to_be_bytes();
            let address = format!("{}.{high}.{low}", server.address);
            accepted(string(if known { &address } else { "" }))
        }
        (RPCBIND, _, 0) => accepted(Vec::new()),
        (RPCBIND, ..) => mismatch(2, 4),
        (NFS, version, 0) if port == NFS_PORT => {
            thread::sleep(server.delay);
            match (server.versions.iter().min(), server.versions.iter().max()) {
                _ if server.versions.contains(&version) => accepted(Vec::new()),
                (Some(low), Some(high)) => mismatch(*low, *high),
                _ => mismatch(3, 3),
            }
        }
        (MOUNTD, _, 0) => accepted(Vec::new()),
        (MOUNTD, _, 5) => {
            let one = |path: String| [numbers(&[1]), string(&path), numbers(&[0])].concat();
            accepted([exports.get().into_iter().flat_map(one).collect(), numbers(&[0])].concat())
        }
        _ => None,
    }
}

fn port_of(program: u32) -> u16 {
    if program == NFS { NFS_PORT } else { MOUNTD_PORT }
}
