//! Netlink messages by hand (rtnetlink(7)): no more of them than the floor needs.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{OwnedFd, RawFd};

use anyhow::{Context, bail};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType};

const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const NEW_NEIGHBOUR: u16 = 28;
const REQUEST_ACK: u16 = 0x1 | 0x4;
const CREATE_EXCL: u16 = 0x400 | 0x200;
const INET: u8 = 2;
const UP: u32 = 1;

/// Messages that go together.
#[derive(Default)]
pub(crate) struct Datagram {
    bytes: Vec<u8>,
    messages: u32,
}

impl Datagram {
    fn message(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Vec<u8>)) {
        let at = self.bytes.len();
        self.messages += 1;
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((REQUEST_ACK | flags).to_ne_bytes());
        self.bytes.extend(self.messages.to_ne_bytes());
        self.bytes.extend([0; 4]);
        body(&mut self.bytes);
        let length = u32::try_from(self.bytes.len() - at).unwrap_or(0);
        self.bytes[at..at + 4].copy_from_slice(&length.to_ne_bytes());
        pad(&mut self.bytes);
    }

    /// A veth whose other end is born in the namespace of this descriptor; each end by name, number and MAC.
    pub(crate) fn new_veth(
        &mut self,
        host: (&str, u32, [u8; 6]),
        pod: (&str, u32, [u8; 6]),
        mtu: u32,
        netns: RawFd,
    ) {
        let end = |bytes: &mut Vec<u8>, (name, index, mac): (&str, u32, [u8; 6])| {
            link(bytes, index, 0);
            attribute(bytes, 3, &[name.as_bytes(), &[0]].concat());
            attribute(bytes, 1, &mac);
            attribute(bytes, 4, &mtu.to_ne_bytes());
            // One queue each way; told afterwards, the kernel waits for all CPUs (veth_init_queues).
            attribute(bytes, 31, &1_u32.to_ne_bytes());
            attribute(bytes, 32, &1_u32.to_ne_bytes());
        };
        self.message(NEW_LINK, CREATE_EXCL, |bytes| {
            end(bytes, host);
            nested(bytes, 18, |bytes| {
                attribute(bytes, 1, b"veth");
                nested(bytes, 2, |bytes| {
                    nested(bytes, 1, |bytes| {
                        end(bytes, pod);
                        attribute(bytes, 28, &netns.to_ne_bytes());
                    });
                });
            });
        });
    }

    pub(crate) fn up(&mut self, index: u32) {
        self.message(NEW_LINK, 0, |bytes| link(bytes, index, UP));
    }

    pub(crate) fn delete(&mut self, index: u32) {
        self.message(DEL_LINK, 0, |bytes| link(bytes, index, 0));
    }

    pub(crate) fn address(&mut self, index: u32, address: Ipv4Addr) {
        self.message(NEW_ADDRESS, CREATE_EXCL, |bytes| {
            bytes.extend([INET, 32, 0, 0]);
            bytes.extend(index.to_ne_bytes());
            attribute(bytes, 1, &address.octets());
            attribute(bytes, 2, &address.octets());
        });
    }

    /// To one host or to all, by this gateway or directly.
    pub(crate) fn route(
        &mut self,
        table: u32,
        to: Option<Ipv4Addr>,
        gateway: Option<Ipv4Addr>,
        index: u32,
    ) {
        self.message(NEW_ROUTE, CREATE_EXCL, |bytes| {
            let length = if to.is_some() { 32 } else { 0 };
            let scope = if gateway.is_some() { 0 } else { 253 };
            let table_8 = u8::try_from(table).unwrap_or(0);
            bytes.extend([INET, length, 0, 0, table_8, 3, scope, 1]);
            bytes.extend([0; 4]);
            attribute(bytes, 15, &table.to_ne_bytes());
            if let Some(to) = to {
                attribute(bytes, 1, &to.octets());
            }
            if let Some(gateway) = gateway {
                attribute(bytes, 5, &gateway.octets());
            }
            attribute(bytes, 4, &index.to_ne_bytes());
        });
    }

    pub(crate) fn neighbour(&mut self, index: u32, address: Ipv4Addr, mac: [u8; 6]) {
        self.message(NEW_NEIGHBOUR, CREATE_EXCL, |bytes| {
            bytes.extend([INET, 0, 0, 0]);
            bytes.extend(index.to_ne_bytes());
            // Permanent.
            bytes.extend(0x80_u16.to_ne_bytes());
            bytes.extend([0, 0]);
            attribute(bytes, 1, &address.octets());
            attribute(bytes, 2, &mac);
        });
    }
}

fn link(bytes: &mut Vec<u8>, index: u32, flags: u32) {
    bytes.extend([0; 4]);
    bytes.extend(index.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
}

fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    nested(bytes, kind, |bytes| bytes.extend(value));
}

fn nested(bytes: &mut Vec<u8>, kind: u16, body: impl FnOnce(&mut Vec<u8>)) {
    let at = bytes.len();
    bytes.extend([0; 2]);
    bytes.extend(kind.to_ne_bytes());
    body(bytes);
    let length = u16::try_from(bytes.len() - at).unwrap_or(0);
    bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes());
    pad(bytes);
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// A socket in the namespace of the thread that opened it.
pub(crate) struct Socket(OwnedFd);

impl Socket {
    pub(crate) fn open() -> anyhow::Result<Self> {
        let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self(socket))
    }

    /// Sends them and waits until all are acknowledged.
    pub(crate) fn ask(&self, datagram: &Datagram) -> anyhow::Result<()> {
        rustix::net::send(&self.0, &datagram.bytes, SendFlags::empty())?;
        let mut buffer = [0_u8; 8192];
        let mut answered = 0;
        while answered < datagram.messages {
            let (_, length) = rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::empty())?;
            let mut rest = &buffer[..length];
            while rest.len() >= 20 {
                let number = |at: usize| {
                    let bytes = rest[at..at + 4].try_into().unwrap_or_default();
                    i32::from_ne_bytes(bytes)
                };
                // An acknowledgement: NLMSG_ERROR, and the error number or 0.
                if number(16) != 0 {
                    let error = io::Error::from_raw_os_error(-number(16));
                    bail!("message {} of the floor: {error}", number(8));
                }
                answered += 1;
                let length = usize::try_from(number(0)).context("a length")?;
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
        Ok(())
    }
}
