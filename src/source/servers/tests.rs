//! Calls and probes of servers that run in the test, on loopback addresses: honest ones, and all kinds of liars.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::{Instant, sleep};

use super::client::{self, CallError, Line};
use super::probe;
use crate::plan::{Wanted, Way};
use crate::rpc::rpcbind::Transport;
use crate::rpc::{Call, NFS, Refusal, Writer, mark};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Function that answers a call in pieces; each piece is sent by itself, a little later than the one before.
type Answer = fn(&[u8]) -> Vec<Vec<u8>>;

fn honest(call: &[u8]) -> Vec<Vec<u8>> {
    let version = &call[16..20];
    let mut reply = Writer::default();
    reply.raw(&call[..4]).number(1).number(0).number(0).number(0);
    match version {
        [0, 0, 0, 3] => reply.number(0),
        _ => reply.number(2).number(3).number(3),
    };
    vec![reply.finish()]
}

fn another_call(call: &[u8]) -> Vec<Vec<u8>> {
    let mut reply = honest(call).concat();
    reply[0] ^= 1;
    vec![reply]
}

fn cut_off(call: &[u8]) -> Vec<Vec<u8>> {
    vec![honest(call).concat()[..10].to_vec()]
}

fn silent(_: &[u8]) -> Vec<Vec<u8>> {
    Vec::new()
}

async fn udp(answer: Answer) -> u16 {
    let socket = UdpSocket::bind((HERE, 0)).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            for packet in answer(&buffer[..length]) {
                _ = socket.send_to(&packet, from).await;
            }
        }
    });
    port
}

/// The bytes of `answer` are sent as they are: an honest one has to [`mark`] them.
async fn tcp(answer: Answer) -> u16 {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = vec![0; 4096];
                let length = stream.read(&mut buffer).await.unwrap();
                for piece in answer(buffer.get(4..length).unwrap_or_default()) {
                    if stream.write_all(&piece).await.is_err() {
                        return;
                    }
                    sleep(Duration::from_millis(1)).await;
                }
                _ = stream.read(&mut buffer).await;
            });
        }
    });
    port
}

async fn null(port: u16, transport: Transport, time_limit: Duration) -> Result<Vec<u8>, CallError> {
    let line = Line::new(SocketAddr::new(HERE, port), transport);
    client::by(Instant::now() + time_limit, line.call(&Call::null(NFS, 3))).await
}

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn honest_servers_are_heard_over_both_transports() {
    let port = udp(honest).await;
    assert!(null(port, Transport::Udp, LONG).await.unwrap().is_empty());
    let port = tcp(|call| vec![mark(&honest(call).concat())]).await;
    assert!(null(port, Transport::Tcp, LONG).await.unwrap().is_empty());
    let line = Line { reserved: true, ..Line::new(SocketAddr::new(HERE, port), Transport::Tcp) };
    assert!(line.call(&Call::null(NFS, 3)).await.unwrap().is_empty());
    let refused = line.call(&Call::null(NFS, 4)).await;
    assert!(matches!(refused, Err(CallError::Refused(Refusal::Version { low: 3, high: 3 }))), "{refused:?}");
}

#[tokio::test]
async fn what_liars_send_over_udp_is_ignored_up_to_the_deadline() {
    for liar in [another_call as Answer, cut_off, silent] {
        let port = udp(liar).await;
        let answer = null(port, Transport::Udp, SHORT).await;
        assert!(matches!(answer, Err(CallError::TimedOut)), "{answer:?}");
    }
    // A true reply behind strays is found.
    let port = udp(|call| [another_call(call), cut_off(call), honest(call)].concat()).await;
    assert!(null(port, Transport::Udp, LONG).await.is_ok());
    let port = udp(|call| vec![another_call(call).concat(); 3000]).await;
    assert!(null(port, Transport::Udp, Duration::from_secs(5)).await.is_err());
}

#[tokio::test]
async fn liars_over_tcp_cost_one_call() {
    let huge: Answer = |_| vec![(0x8000_0000_u32 | 0x7fff_ffff).to_be_bytes().to_vec()];
    let endless: Answer = |_| vec![vec![0; 4 << 20]];
    let strays: Answer = |call| vec![mark(&another_call(call).concat()).repeat(3000)];
    for liar in [huge, endless, strays] {
        let answer = null(tcp(liar).await, Transport::Tcp, LONG).await;
        assert!(matches!(answer, Err(CallError::Nonsense(_))), "{answer:?}");
    }
    let drip: Answer =
        |call| mark(&honest(call).concat()).chunks(1).cycle().take(100_000).map(<[u8]>::to_vec).collect();
    let one_byte_and_no_more: Answer = |_| vec![vec![0x80]];
    for slow in [one_byte_and_no_more, silent as Answer] {
        let answer = null(tcp(slow).await, Transport::Tcp, SHORT).await;
        assert!(matches!(answer, Err(CallError::TimedOut)), "{answer:?}");
    }
    // What arrives byte by byte is a reply like any other.
    assert!(null(tcp(drip).await, Transport::Tcp, LONG).await.is_ok());
}

#[tokio::test]
async fn a_closed_port_is_no_silence() {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    for transport in [Transport::Tcp, Transport::Udp] {
        let answer = null(port, transport, LONG).await.unwrap_err();
        assert!(!answer.is_silence() && !answer.is_no_route(), "{answer:?}");
    }
}

#[tokio::test]
async fn a_probe_finds_the_ways_that_are_served() {
    let wanted = |port| Wanted {
        versions: [false, true, true],
        tcp: true,
        udp: false,
        ipv6_only: false,
        rdma: false,
        port: Some(port),
    };
    let port = tcp(|call| vec![mark(&honest(call).concat())]).await;
    let serves = probe::server(HERE, wanted(port), Instant::now() + LONG).await.unwrap();
    assert_eq!(serves.ways, [Way::Tcp3]);
    let port = tcp(silent).await;
    assert!(probe::server(HERE, wanted(port), Instant::now() + SHORT).await.unwrap_err().is_silence());
}

#[tokio::test]
async fn the_second_starts_when_the_first_fails_or_takes_long() {
    let fails = async { Err::<u8, &str>("first") };
    assert_eq!(client::first_of(fails, async { Ok(2) }).await, Ok(2));
    let hangs = std::future::pending::<Result<u8, &str>>();
    assert_eq!(client::first_of(hangs, async { Ok(2) }).await, Ok(2));
    assert_eq!(client::first_of(async { Ok::<_, &str>(1) }, std::future::pending()).await, Ok(1));
    assert_eq!(client::first_of(async { Err("first") }, async { Err::<u8, _>("second") }).await, Err("second"));
}
