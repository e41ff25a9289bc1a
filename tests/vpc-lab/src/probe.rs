//! Real packets, sent from one namespace and looked at in another.
//!
//! Each probe opens a listener in the receiver's namespace on a port of the kernel's choice, sends from the
//! sender's, and tells what the receiver saw. None waits longer than its deadline.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::netns::Netns;

/// How long a packet may take, there and back. Inside one kernel a tenth of it would do.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// What became of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The source address that the receiver saw; `None` when nothing arrived.
    pub source: Option<SocketAddr>,
    /// Whether the reply, of the same size, came back to the sender.
    pub reply_ok: bool,
    /// Why not, in words for people; empty when all is well.
    pub why: String,
}

impl Seen {
    /// The source address, if the request arrived and the reply came back.
    pub fn answered_from(&self) -> Option<std::net::IpAddr> {
        self.reply_ok.then(|| self.source.map(|s| s.ip())).flatten()
    }

    /// Whether nothing at all arrived.
    pub fn is_lost(&self) -> bool {
        self.source.is_none() && !self.reply_ok
    }
}

/// A TCP connection from `from` to `address`, where a listener in `to` answers.
///
/// # Errors
/// When a socket can't be opened; a lost packet is not an error but a [`Seen`].
pub fn tcp(from: &Netns, to: &Netns, address: Ipv4Addr) -> anyhow::Result<Seen> {
    Tcp::to(address).send(from, to)
}

/// A UDP datagram of `size` bytes of payload from `from` to `address` in `to`, and the same back, both with
/// don't-fragment set. A packet of 9001 bytes has a payload of 8973.
///
/// # Errors
/// As [`tcp`].
pub fn udp(from: &Netns, to: &Netns, address: Ipv4Addr, size: usize) -> anyhow::Result<Seen> {
    let _ = (from, to, address, size);
    anyhow::bail!("soon")
}

/// A TCP probe with everything that can be chosen.
#[derive(Debug, Clone)]
pub struct Tcp {
    /// Where the sender connects to.
    pub to: Ipv4Addr,
    /// The port that the sender connects to, where it differs from the listener's (a NodePort).
    pub port: Option<u16>,
    /// The port of the listener; the kernel's choice if none.
    pub listen_port: Option<u16>,
    /// The source address that the sender binds; the kernel's choice if none.
    pub bind: Option<Ipv4Addr>,
    /// How long to wait.
    pub patience: Duration,
}

impl Tcp {
    /// A connection to this address, all else being the kernel's choice.
    pub fn to(address: Ipv4Addr) -> Tcp {
        Tcp {
            to: address,
            port: None,
            listen_port: None,
            bind: None,
            patience: PATIENCE,
        }
    }

    /// Sends it from `from`; a listener in `to` answers.
    ///
    /// # Errors
    /// As [`tcp`].
    pub fn send(&self, from: &Netns, to: &Netns) -> anyhow::Result<Seen> {
        let _ = (from, to);
        anyhow::bail!("soon")
    }
}
