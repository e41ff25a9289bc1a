//! Real packets, sent from one namespace and looked at in another.
//!
//! Each probe opens a listener in the receiver's namespace, sends from the sender's, and tells what the receiver
//! saw. None waits longer than its deadline.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::io::Errno;
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};

use crate::netns::Netns;

/// How long a packet may take, there and back. Inside one kernel a hundredth of it would do.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Where no answer is expected: long enough for a packet, and for its first retransmission.
pub const IMPATIENCE: Duration = Duration::from_millis(400);

/// IPv4 and UDP headers: a datagram of 8973 bytes fills a packet of 9001.
pub const UDP_OVERHEAD: usize = 28;

/// What became of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The source address that the receiver saw; `None` when nothing arrived.
    pub source: Option<SocketAddr>,
    /// Whether the reply came back to the sender.
    pub reply_ok: bool,
    /// Why not, in words for people; empty when all is well.
    pub why: String,
}

impl Seen {
    /// The source address that the receiver saw, if its reply came back too.
    pub fn answered_from(&self) -> Option<IpAddr> {
        self.source
            .filter(|_| self.reply_ok)
            .map(|source| source.ip())
    }

    /// Whether nothing at all arrived.
    pub fn is_lost(&self) -> bool {
        self.source.is_none() && !self.reply_ok
    }
}

/// A TCP connection from `from` to `address`, which a listener in `to` answers.
///
/// # Errors
/// When a socket can't be opened; a lost packet is not an error but a [`Seen`].
pub fn tcp(from: &Netns, to: &Netns, address: impl Into<IpAddr>) -> anyhow::Result<Seen> {
    Tcp::to(address).send(from, to)
}

/// A UDP datagram of `size` bytes from `from` to `address` in `to`, and the same back, both with don't-fragment set.
/// More than the path carries is lost.
///
/// # Errors
/// As [`tcp`].
pub fn udp(
    from: &Netns,
    to: &Netns,
    address: impl Into<IpAddr>,
    size: usize,
) -> anyhow::Result<Seen> {
    let address = address.into();
    let open = |netns: &Netns| -> anyhow::Result<UdpSocket> {
        let socket = netns
            .run(|| UdpSocket::bind((any(address), 0)))
            .with_context(|| format!("opening a socket in {}", netns.name()))?;
        match address {
            IpAddr::V4(_) => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DO)?,
            IpAddr::V6(_) => set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DO)?,
        }
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    };
    let (sender, receiver) = (open(from)?, open(to)?);
    let target = SocketAddr::from((address, receiver.local_addr()?.port()));
    let payload: Vec<u8> = (0..=u8::MAX).cycle().take(size).collect();
    if let Err(error) = sender.send_to(&payload, target) {
        return Ok(seen(None, &Err(error)));
    }
    let mut arrived = vec![0; size + 1];
    let (length, source) = match receiver.recv_from(&mut arrived) {
        Ok(arrived) => arrived,
        Err(_) => return Ok(seen(None, &Err(io::ErrorKind::TimedOut.into()))),
    };
    arrived.truncate(length);
    let replied = receiver.send_to(&arrived, source).and_then(|_| {
        let mut back = vec![0; size + 1];
        let length = sender.recv(&mut back)?;
        back.truncate(length);
        if back == payload {
            Ok(())
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    });
    Ok(seen(Some(source), &replied))
}

/// A TCP connection with everything that can be chosen.
#[derive(Debug, Clone)]
pub struct Tcp {
    /// Where the sender connects to.
    pub to: IpAddr,
    /// The port that the sender connects to, where it differs from the listener's (a NodePort).
    pub port: Option<u16>,
    /// The port of the listener; the kernel's choice if none.
    pub listen_port: Option<u16>,
    /// The source address that the sender binds, one of its own; the kernel's choice if none.
    pub bind: Option<Ipv4Addr>,
    /// How long to wait.
    pub patience: Duration,
}

impl Tcp {
    /// A connection to this address, all else being the kernel's choice.
    pub fn to(address: impl Into<IpAddr>) -> Tcp {
        Tcp {
            to: address.into(),
            port: None,
            listen_port: None,
            bind: None,
            patience: PATIENCE,
        }
    }

    /// Connects from `from` and sends a few bytes each way; a listener in `to` answers.
    ///
    /// # Errors
    /// As [`tcp`].
    pub fn send(&self, from: &Netns, to: &Netns) -> anyhow::Result<Seen> {
        let listener = to
            .run(|| TcpListener::bind((any(self.to), self.listen_port.unwrap_or(0))))
            .with_context(|| format!("listening in {}", to.name()))?;
        listener.set_nonblocking(true)?;
        let port = self.port.unwrap_or(listener.local_addr()?.port());
        let target = SocketAddr::from((self.to, port));
        let deadline = Instant::now() + self.patience;
        let (source, sent) = thread::scope(|scope| {
            let server = scope.spawn(|| answer(&listener, deadline));
            let sent = from.run(|| exchange(target, self.bind, deadline));
            (server.join().unwrap_or(None), sent)
        });
        Ok(seen(source, &sent))
    }
}

fn any(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn seen(source: Option<SocketAddr>, sent: &io::Result<()>) -> Seen {
    let why = match (sent, source) {
        (Ok(()), _) => String::new(),
        (Err(error), Some(source)) => {
            format!("the request arrived from {source}, but the reply did not come back: {error}")
        }
        (Err(error), None) => format!("the request did not arrive: {error}"),
    };
    Seen {
        source,
        reply_ok: sent.is_ok(),
        why,
    }
}

/// Echoes the first connection that brings something.
fn answer(listener: &TcpListener, deadline: Instant) -> Option<SocketAddr> {
    const POLL: Duration = Duration::from_millis(1);
    loop {
        match listener.accept() {
            Ok((mut stream, source)) => {
                // What goes wrong from here on is seen by the sender.
                drop(echo(&mut stream, deadline));
                return Some(source);
            }
            Err(_) if Instant::now() < deadline => thread::sleep(POLL),
            Err(_) => return None,
        }
    }
}

fn echo(stream: &mut TcpStream, deadline: Instant) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(left(deadline)?))?;
    let mut word = [0; WORD.len()];
    stream.read_exact(&mut word)?;
    stream.write_all(&word)
}

const WORD: &[u8; 4] = b"weir";

fn exchange(target: SocketAddr, bind: Option<Ipv4Addr>, deadline: Instant) -> io::Result<()> {
    let mut stream = connect(target, bind, left(deadline)?)?;
    stream.set_read_timeout(Some(left(deadline)?))?;
    stream.write_all(WORD)?;
    let mut back = [0; WORD.len()];
    stream.read_exact(&mut back)?;
    if &back == WORD {
        Ok(())
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

fn connect(target: SocketAddr, bind: Option<Ipv4Addr>, wait: Duration) -> io::Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, bind as bind_to, connect, socket};
    let Some(source) = bind else {
        return TcpStream::connect_timeout(&target, wait);
    };
    // The standard library can't bind before it connects.
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind_to(&socket, &SocketAddr::from((source, 0)))?;
    rustix::net::sockopt::set_socket_timeout(
        &socket,
        rustix::net::sockopt::Timeout::Send,
        Some(wait),
    )?;
    connect(&socket, &target).map_err(|error| match error {
        // What the kernel says when the send timeout ends a connect (socket(7)).
        Errno::INPROGRESS => io::ErrorKind::TimedOut.into(),
        other => io::Error::from(other),
    })?;
    Ok(TcpStream::from(socket))
}

/// The time left, never zero: a zero timeout would be none.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(io::ErrorKind::TimedOut.into())
    } else {
        Ok(left)
    }
}
