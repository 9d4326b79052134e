//! A stand-in for rpcbind, ypbind and ypserv on the loopback device of a world.
//!
//! Some keys get replies that no honest server sends.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use autofs::rpc::{Reader, Records, Writer, mark};

/// The NIS domain.
const DOMAIN: &[u8] = b"lab";

const TCP: u32 = 6;
const UDP: u32 = 17;
const RPCBIND: u32 = 100_000;
const YPSERV: u32 = 100_004;
const YPBIND: u32 = 100_007;

/// Numbers of procedures of ypserv.
const ALL: u32 = 8;

type Maps = BTreeMap<String, BTreeMap<String, String>>;

/// Reaction of ypserv to calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// A reply.
    #[default]
    Answer,
    /// A reply after a pause, which ends early when the mode changes.
    Slow(Duration),
    /// Nothing.
    Silent,
    /// Bytes that are no reply.
    Garbage,
}

/// What all servers know.
#[derive(Debug, Default)]
struct Shared {
    maps: Mutex<Maps>,
    /// Ports of programs by number and protocol, as rpcbind knows them.
    ports: Mutex<BTreeMap<(u32, u32), u16>>,
    /// Where ypbind believes the server to be.
    bound: Mutex<u16>,
    /// When maps were made.
    order: Mutex<u32>,
    /// How many maps were sent as a whole.
    sent: AtomicUsize,
    /// Maps are for callers from ports below 1024 only, as `makedbm -s` and securenets have it.
    secure: AtomicBool,
    mode: Mutex<Mode>,
}

/// The machine's NIS, with a server that can be stopped.
#[derive(Debug)]
pub struct Nis {
    shared: Arc<Shared>,
    server: Option<(Arc<AtomicBool>, Vec<JoinHandle<()>>)>,
    /// Sockets that are not read.
    holes: Vec<(UdpSocket, TcpListener)>,
}

/// Sets the domain, and starts rpcbind and ypbind. `None`: ip(8), which is needed for the loopback device, is missing.
pub fn install() -> Option<Nis> {
    if !Command::new("ip").args(["link", "set", "lo", "up"]).status().ok()?.success() {
        return None;
    }
    fs::write("/proc/sys/kernel/domainname", DOMAIN).unwrap();
    let shared = Arc::<Shared>::default();
    let never = Arc::<AtomicBool>::default();
    let rpcbind = UdpSocket::bind("127.0.0.1:111").unwrap();
    drop(serve(rpcbind, &shared, &never));
    let ypbind = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = ypbind.local_addr().unwrap().port();
    shared.ports.lock().unwrap().insert((YPBIND, UDP), port);
    drop(serve(ypbind, &shared, &never));
    Some(Nis { shared, server: None, holes: Vec::new() })
}

impl Nis {
    /// Sets an entry. The map counts as made anew.
    pub fn set(&self, map: &str, key: &str, value: &str) {
        let mut maps = self.shared.maps.lock().unwrap();
        maps.entry(map.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
        *self.shared.order.lock().unwrap() += 1;
    }

    /// How many maps were sent as a whole.
    pub fn sent(&self) -> usize {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Gives maps only to callers from ports below 1024 from now on.
    pub fn secure(&self) {
        self.shared.secure.store(true, Ordering::Relaxed);
    }

    /// Sets what comes of calls from now on.
    pub fn set_mode(&self, mode: Mode) {
        *self.shared.mode.lock().unwrap() = mode;
    }

    /// Starts the server, on other ports than before. ypbind does not learn of it unless this is the first start.
    pub fn start(&mut self) {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let (udp_port, tcp_port) = (udp.local_addr().unwrap().port(), tcp.local_addr().unwrap().port());
        let mut ports = self.shared.ports.lock().unwrap();
        ports.extend([((YPSERV, UDP), udp_port), ((YPSERV, TCP), tcp_port)]);
        let mut bound = self.shared.bound.lock().unwrap();
        if *bound == 0 {
            *bound = udp_port;
        }
        let stop = Arc::<AtomicBool>::default();
        let threads = vec![serve(udp, &self.shared, &stop), serve_tcp(tcp, &self.shared, &stop)];
        self.server = Some((stop, threads));
    }

    /// Lets something stand in the place of the stopped server that takes calls and does not answer.
    pub fn swallow(&mut self) {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let (udp_port, tcp_port) = (udp.local_addr().unwrap().port(), tcp.local_addr().unwrap().port());
        self.shared.ports.lock().unwrap().extend([((YPSERV, UDP), udp_port), ((YPSERV, TCP), tcp_port)]);
        *self.shared.bound.lock().unwrap() = udp_port;
        self.holes.push((udp, tcp));
    }

    /// Ends the server.
    pub fn stop(&mut self) {
        self.shared.ports.lock().unwrap().retain(|(program, _), _| *program != YPSERV);
        let (stop, threads) = self.server.take().unwrap();
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

fn serve(socket: UdpSocket, shared: &Arc<Shared>, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let (shared, stop) = (Arc::clone(shared), Arc::clone(stop));
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while !stop.load(Ordering::Relaxed) {
            let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
            for reply in shared.replies(&buffer[..length], from) {
                let _: std::io::Result<usize> = socket.send_to(&reply, from);
            }
        }
    })
}

fn serve_tcp(listener: TcpListener, shared: &Arc<Shared>, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let (shared, stop) = (Arc::clone(shared), Arc::clone(stop));
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(5));
            let Ok((mut stream, from)): std::io::Result<(_, SocketAddr)> = listener.accept() else { continue };
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            let (mut records, mut piece) = (Records::new(4096), [0; 4096]);
            while let Ok(length @ 1..) = stream.read(&mut piece) {
                records.push(&piece[..length]);
                let Some(message) = records.message().unwrap() else { continue };
                for reply in shared.replies(&message, from) {
                    let _: std::io::Result<()> = stream.write_all(&mark(&reply));
                }
                break;
            }
        }
    })
}

impl Shared {
    /// The packets that answer a call.
    fn replies(&self, call: &[u8], from: SocketAddr) -> Vec<Vec<u8>> {
        let mut call = Reader::new(call);
        let [xid, _call, _rpc, program, _version, procedure] = std::array::from_fn(|_| call.number().unwrap());
        for _ in 0..2 {
            call.number().unwrap();
            call.bytes(400).unwrap();
        }
        let mut results = Writer::default();
        let mode = *self.mode.lock().unwrap();
        match mode {
            Mode::Silent if program == YPSERV => return Vec::new(),
            Mode::Garbage if program == YPSERV => return vec![b"no reply".to_vec()],
            Mode::Slow(pause) if program == YPSERV => {
                let end = Instant::now() + pause;
                while Instant::now() < end && *self.mode.lock().unwrap() == mode {
                    thread::sleep(Duration::from_millis(10));
                }
            }
            _ => {}
        }
        match program {
            RPCBIND => {
                let [program, _version, protocol] = std::array::from_fn(|_| call.number().unwrap());
                let port = self.ports.lock().unwrap().get(&(program, protocol)).copied().unwrap_or(0);
                results.number(port.into());
            }
            YPBIND => match *self.bound.lock().unwrap() {
                0 => _ = results.number(2).number(2),
                port => _ = results.number(1).number(0x7f00_0001).number(u32::from(port) << 16),
            },
            // YP_YPERR.
            _ if self.secure.load(Ordering::Relaxed) && from.port() >= 1024 => {
                results.number(u32::from_be_bytes((-6_i32).to_be_bytes()));
            }
            _ => {
                let key = self.ypserv(procedure, call, &mut results);
                match key.as_deref() {
                    Some("silent") => return Vec::new(),
                    Some("strays") => return (0..50).map(|n| vec![n; 40]).collect(),
                    _ => {}
                }
            }
        }
        let reply = Writer::default().number(xid).number(1).number(0).number(0).bytes(b"").number(0).finish();
        vec![[reply, results.finish()].concat()]
    }

    /// Writes the results of a call of ypserv. Returns the key that it is about.
    fn ypserv(&self, procedure: u32, mut call: Reader<'_>, results: &mut Writer) -> Option<String> {
        let mut word = || call.bytes(1024).ok().map(|word| String::from_utf8(word.to_vec()).unwrap());
        let (domain, map, key) = (word().unwrap(), word().unwrap(), word());
        let error = |results: &mut Writer, status: i32| _ = results.number(u32::from_be_bytes(status.to_be_bytes()));
        let maps = self.maps.lock().unwrap();
        let Some(map) = maps.get(&map).filter(|_| domain.as_bytes() == DOMAIN) else {
            error(results, -1);
            return key;
        };
        let after =
            |key: &str| map.range::<str, _>((std::ops::Bound::Excluded(key), std::ops::Bound::Unbounded)).next();
        let pair = |results: &mut Writer, pair: Option<(&String, &String)>| match pair {
            Some((key, value)) => _ = results.number(1).bytes(value.as_bytes()).bytes(key.as_bytes()),
            None => _ = results.number(2).bytes(b"").bytes(b""),
        };
        match (procedure, key.as_deref()) {
            (3, Some("garbage")) => _ = results.number(1).number(u32::MAX),
            (3, Some("cut")) => _ = results.number(1).number(100).raw(b"xyz"),
            (3, Some("status")) => _ = results.number(77),
            (3, Some(key)) => match map.get(key) {
                Some(value) => _ = results.number(1).bytes(value.as_bytes()),
                None => error(results, -3),
            },
            (4, _) => pair(results, map.first_key_value()),
            (5, Some(key)) => pair(results, after(key)),
            (ALL, _) => {
                self.sent.fetch_add(1, Ordering::Relaxed);
                for entry in map {
                    pair(results.number(1), Some(entry));
                }
                pair(results.number(1), None);
                results.number(0);
            }
            (10, _) => _ = results.number(1).number(*self.order.lock().unwrap()),
            _ => error(results, -4),
        }
        key
    }
}
