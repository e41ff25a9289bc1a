//! Connections that the kernel tracks, of addresses whose pod has gone: an entry with a translation in it would send
//! the old pod's datagrams to the next pod that has the address.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink_packet_netfilter::conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, Tuple};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use rtnetlink::packet_core::{DefaultNla, Emitable, Nla};
use rtnetlink::proto::sys::protocols::NETLINK_NETFILTER;
use rustix::io::Errno;

use crate::netlink::{KernelError, Netlink};

type Step = crate::netlink::Step<NetfilterMessage>;

/// Of an entry's attributes (linux/netfilter/nfnetlink_conntrack.h): which entry it is, and in which zone.
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;

/// Connection tracking in the current network namespace.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    netlink: Netlink<NetfilterMessage>,
}

/// One side of an entry: who began, or who answers. A pod is the source of one of them, whatever is translated.
#[derive(Clone, Copy)]
enum Side {
    Origin,
    Reply,
}

impl Connections {
    pub(crate) fn open() -> Result<Self, KernelError> {
        Ok(Self {
            netlink: Netlink::open(NETLINK_NETFILTER)?,
        })
    }

    /// Forgets all connections that hosts of these addresses began or answer, and says how many there were.
    pub(crate) async fn forget(&self, addresses: &[IpAddr]) -> Result<usize, KernelError> {
        let (v4, v6): (BTreeSet<_>, BTreeSet<_>) =
            addresses.iter().copied().partition(IpAddr::is_ipv4);
        let mut count = 0;
        for (family, addresses) in [
            (NetfilterProtoFamily::IPv4, v4),
            (NetfilterProtoFamily::IPv6, v6),
        ] {
            let requests = if addresses.len() <= FEW {
                let both =
                    |address: &IpAddr| [Side::Origin, Side::Reply].map(|side| list(*address, side));
                addresses.iter().flat_map(both).collect()
            } else {
                vec![list_all()]
            };
            for request in requests {
                let request = message(family, request);
                let listed = self.netlink.dump("list connections", request).await?;
                let steps: Vec<Step> = listed
                    .into_iter()
                    .filter_map(|entry| delete(entry, family, &addresses))
                    .collect();
                count += steps.len();
                self.netlink.run(steps).await?;
            }
        }
        Ok(count)
    }
}

/// For so many addresses the kernel is asked one by one: twice each it walks through its table, and tells only of theirs. For
/// more it is asked once for all that it has.
const FEW: usize = 2;

const GET: u8 = 1;

fn message(family: NetfilterProtoFamily, inner: ConntrackMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), inner)
}

fn list_all() -> ConntrackMessage {
    ConntrackMessage::Other {
        message_type: GET,
        attributes: Vec::new(),
    }
}

/// Asks for those that this side began or answers. A kernel before 5.8 lists all.
fn list(address: IpAddr, side: Side) -> ConntrackMessage {
    const CTA_FILTER: u16 = 25;
    const SOURCE: u32 = 1;
    let (tuple, origin, reply) = match side {
        Side::Origin => (1, SOURCE, 0),
        Side::Reply => (2, 0, SOURCE),
    };
    let flags = [
        DefaultNla::new(1, origin.to_ne_bytes().to_vec()),
        DefaultNla::new(2, reply.to_ne_bytes().to_vec()),
    ];
    let source = [Tuple::Ip(vec![IPTuple::SourceAddress(address)])];
    // Not as the crate's own attribute: it takes the flag of nesting off what it does not know, which the kernel wants.
    ConntrackMessage::Other {
        message_type: GET,
        attributes: vec![nested(tuple, &source), nested(CTA_FILTER, &flags)],
    }
}

fn nested<T: Nla>(kind: u16, content: &[T]) -> DefaultNla {
    const NLA_F_NESTED: u16 = 0x8000;
    let mut bytes = vec![0; content.buffer_len()];
    content.emit(&mut bytes);
    DefaultNla::new(kind | NLA_F_NESTED, bytes)
}

/// Deletes the entry, if it is of one of the addresses. Another that has come in its place is left.
fn delete(
    entry: NetfilterMessage,
    family: NetfilterProtoFamily,
    addresses: &BTreeSet<IpAddr>,
) -> Option<Step> {
    let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = entry.inner else {
        return None;
    };
    let address = attributes.iter().find_map(|attribute| match attribute {
        ConntrackAttribute::CtaTupleOrig(tuple) | ConntrackAttribute::CtaTupleReply(tuple) => {
            source(tuple).filter(|source| addresses.contains(source))
        }
        _ => None,
    })?;
    let name: Vec<_> = attributes
        .into_iter()
        .filter(|attribute| match attribute {
            ConntrackAttribute::CtaTupleOrig(_) => true,
            ConntrackAttribute::Other(other) => [CTA_ID, CTA_ZONE].contains(&other.kind()),
            _ => false,
        })
        .collect();
    let what = format!("forget a connection of {address}");
    let message = message(family, ConntrackMessage::Delete(name));
    Some(Step::new(what, message, 0).tolerating(Errno::NOENT))
}

fn source(tuple: &[Tuple]) -> Option<IpAddr> {
    let ends = tuple.iter().find_map(|part| match part {
        Tuple::Ip(ends) => Some(ends),
        _ => None,
    })?;
    ends.iter().find_map(|end| match end {
        IPTuple::SourceAddress(address) => Some(*address),
        _ => None,
    })
}
