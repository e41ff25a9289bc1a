//! What the kernel tells of changes: only that there may be something to mend, never what. Whoever hears it looks.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, Waker};

use rtnetlink::proto::sys::AsyncSocket;
use rtnetlink::proto::sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use rtnetlink::sys::TokioSocket;
use rustix::io::Errno;

use crate::netlink::KernelError;
use crate::nft;

/// linux/rtnetlink.h: links, neighbours, addresses, routes and rules of both families, and settings such as `rp_filter`.
const ROUTE_GROUPS: [u32; 10] = [1, 3, 5, 7, 8, 9, 11, 19, 24, 25];
/// linux/netfilter/nfnetlink.h: NFNLGRP_NFTABLES.
const NFTABLES_GROUPS: [u32; 1] = [7];

/// Notifications wait here while ipamd is busy, in bytes: kube-proxy may change thousands of rules in one transaction.
/// What does not fit is lost, and the kernel says so.
const BUFFER: i32 = 1024 * 1024;

/// What was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Something changed that may be Weir's.
    Change,
    /// So much changed that some of it was lost: anything may have changed.
    Lost,
}

/// The kernel's notifications, in the network namespace where it was opened.
pub struct Events {
    routing: TokioSocket,
    nftables: TokioSocket,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// Listens from now on. Inside a tokio runtime.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self {
            routing: listen(NETLINK_ROUTE, &ROUTE_GROUPS)?,
            nftables: listen(NETLINK_NETFILTER, &NFTABLES_GROUPS)?,
        })
    }

    /// The next change that may concern Weir. Loses nothing when it is dropped half-way.
    ///
    /// # Errors
    /// When a socket breaks.
    pub async fn next(&mut self) -> Result<Heard, KernelError> {
        loop {
            let (source, datagram) = poll_fn(|context| self.poll_datagram(context)).await;
            let datagram = match datagram {
                Ok(datagram) => datagram,
                Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                    return Ok(Heard::Lost);
                }
                Err(error) => return Err(KernelError::Socket(error)),
            };
            let concerns = match source {
                Source::Routing => is_of_routing,
                Source::Nftables => is_of_our_table,
            };
            if messages(&datagram).any(concerns) {
                return Ok(Heard::Change);
            }
        }
    }

    /// Forgets what was heard until now.
    ///
    /// # Errors
    /// When a socket breaks.
    pub fn drain(&mut self) -> Result<(), KernelError> {
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready((_, received)) = self.poll_datagram(&mut context) {
            match received {
                Err(error) if error.raw_os_error() != Some(Errno::NOBUFS.raw_os_error()) => {
                    return Err(KernelError::Socket(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn poll_datagram(&self, context: &mut Context<'_>) -> Poll<(Source, io::Result<Vec<u8>>)> {
        for (source, socket) in [
            (Source::Routing, &self.routing),
            (Source::Nftables, &self.nftables),
        ] {
            if let Poll::Ready(received) = socket.poll_recv_from_full(context) {
                return Poll::Ready((source, received.map(|(datagram, _from)| datagram)));
            }
        }
        Poll::Pending
    }
}

#[derive(Clone, Copy)]
enum Source {
    Routing,
    Nftables,
}

fn listen(protocol: isize, groups: &[u32]) -> Result<TokioSocket, KernelError> {
    let open = || {
        let mut listener = TokioSocket::new(protocol)?;
        let socket = listener.socket_mut();
        socket.set_rx_buf_sz(BUFFER)?;
        socket.bind_auto()?;
        for group in groups {
            socket.add_membership(*group)?;
        }
        Ok(listener)
    };
    open().map_err(KernelError::Socket)
}

/// One message of a datagram.
#[derive(Debug, Clone, Copy)]
struct Message<'a> {
    kind: u16,
    flags: u16,
    body: &'a [u8],
}

/// The messages of a datagram: a header of 16 bytes with length, kind and flags, then the body (linux/netlink.h).
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let header: &[u8; 16] = datagram.first_chunk()?;
        let [l0, l1, l2, l3, k0, k1, f0, f1, ..] = *header;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
        let message = Message {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            body: datagram.get(16..length)?,
        };
        datagram = datagram
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
        Some(message)
    })
}

/// Whether something of Weir's may have gone or changed. What came new can't be it: each pod brings routes and
/// neighbours of its own.
fn is_of_routing(message: Message<'_>) -> bool {
    const NLM_F_REPLACE: u16 = 0x100;
    const NEW_LINK: u16 = 16;
    const NEW_ADDRESS: u16 = 20;
    const DELETED_ADDRESS: u16 = 21;
    const NEW_ROUTE: u16 = 24;
    const DELETED_ROUTE: u16 = 25;
    const DELETED_NEIGHBOUR: u16 = 29;
    const DELETED_RULE: u16 = 33;
    const NEW_SETTINGS: u16 = 80;
    match message.kind {
        // The kernel tells of no route that goes because its link is down.
        NEW_LINK | NEW_ADDRESS | DELETED_ADDRESS | DELETED_ROUTE | DELETED_NEIGHBOUR
        | DELETED_RULE | NEW_SETTINGS => true,
        NEW_ROUTE => message.flags & NLM_F_REPLACE != 0,
        _ => false,
    }
}

/// Every message of nf_tables about something in a table has the table's name as attribute 1, after four bytes with the
/// family.
fn is_of_our_table(message: Message<'_>) -> bool {
    const NAME: u16 = 1;
    let attributes = message.body.get(4..).unwrap_or_default();
    rtnetlink::packet_core::NlasIterator::new(attributes)
        .map_while(Result::ok)
        .find(|attribute| attribute.kind() == NAME)
        .is_some_and(|name| nft::is_our_table(name.value()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message as the kernel sends it.
    fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(16 + body.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn what_goes_or_is_replaced_may_be_ours_and_what_only_comes_new_is_not() {
        let concerns = |kind, flags| messages(&message(kind, flags, &[0; 12])).any(is_of_routing);
        // RTM_DELRULE, RTM_DELROUTE, RTM_DELNEIGH, RTM_NEWLINK, RTM_NEWNETCONF
        for kind in [33, 25, 29, 16, 80] {
            assert!(concerns(kind, 0), "{kind}");
        }
        // RTM_NEWRULE, RTM_NEWROUTE, RTM_NEWNEIGH, RTM_DELLINK
        for kind in [32, 24, 28, 17] {
            assert!(!concerns(kind, 0x600), "{kind}");
        }
        assert!(concerns(24, 0x100), "a route in place of another");
    }

    #[test]
    fn one_of_several_messages_is_heard_and_a_torn_one_ends_the_datagram() {
        let mut datagram = message(28, 0, &[1, 2, 3]);
        datagram.extend(message(33, 0, &[]));
        assert!(messages(&datagram).any(is_of_routing));
        datagram.truncate(datagram.len() - 1);
        assert_eq!(messages(&datagram).count(), 1);
        let empty = [0; 16];
        assert_eq!(messages(&empty).count(), 0, "a length of 0");
    }

    #[test]
    fn of_nftables_only_what_is_in_our_table_is_heard() {
        let about = |table: &str| {
            let length = u16::try_from(4 + table.len() + 1).unwrap();
            let mut body = vec![2, 0, 0, 0];
            body.extend(length.to_ne_bytes());
            body.extend(1_u16.to_ne_bytes());
            body.extend(table.as_bytes());
            body.push(0);
            messages(&message(0x0a02, 0, &body)).any(is_of_our_table)
        };
        assert!(about("weir"));
        assert!(!about("weird"));
        assert!(!about("kube-proxy"));
        assert!(!messages(&message(0x0a0f, 0, &[0, 0, 0, 1])).any(is_of_our_table));
    }
}
