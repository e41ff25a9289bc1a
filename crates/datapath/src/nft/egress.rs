//! The table for pods that lack a family: `ip` for those with IPv6 alone, `ip6` for those with IPv4 alone. It is apart
//! from `table ip weir`, which has no twin for IPv6 and translates by other rules: this knows no exclusions.
//!
//! ```text
//! table ip weir-egress {
//!   chain source { type nat hook postrouting priority 99;
//!     ip saddr RANGE snat to NODE fully-random
//!   }
//!   chain refuse { type filter hook forward priority 0;
//!     ip daddr RANGE ct state new reject            # not even other pods: they have better addresses
//!   }
//! }
//! ```

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Hook, HookNumber, InetHookNumber, NfTablesMessage, RuleAttribute,
    RuleMessage, TableAttribute, TableMessage,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use rtnetlink::packet_core::{DefaultNla, NLM_F_APPEND, NLM_F_CREATE};
use rustix::io::Errno;

use super::expr::{CT_NEW, Expr, REGISTER, Read, be32, data, expr, nested};
use super::{Change, Step};
use crate::netlink::{KernelError, Netlink};

pub(super) const TABLE: &str = "weir-egress";
/// Before kube-proxy's and our own: nobody else has a say about these addresses.
const SOURCE_PRIORITY: i32 = 99;
const RULES: usize = 2;

/// What makes the table of the range's family what it should be, in one transaction: with the address to translate to,
/// or not there. None if it is so already.
pub(crate) async fn compare(
    netlink: &Netlink<NetfilterMessage>,
    range: IpNet,
    source: Option<IpAddr>,
) -> Result<Option<Change>, KernelError> {
    let family = match range {
        IpNet::V4(_) => NetfilterProtoFamily::IPv4,
        IpNet::V6(_) => NetfilterProtoFamily::IPv6,
    };
    let comment = source.map(|source| comment(range, source));
    if found(netlink, family).await? == comment {
        return Ok(None);
    }
    let table = |attributes| {
        let name = TableAttribute::Name(TABLE.into());
        let attributes = [vec![name], attributes].concat();
        TableMessage { attributes }
    };
    let what = format!("replace nftables table {TABLE}");
    // It is made if need be, so that it can be deleted.
    let mut steps = vec![
        Step::new(
            what.clone(),
            message(family, NfTablesMessage::NewTable(table(Vec::new()))),
            NLM_F_CREATE,
        ),
        Step::new(
            what.clone(),
            message(family, NfTablesMessage::DeleteTable(table(Vec::new()))),
            0,
        ),
    ];
    if let (Some(source), Some(comment)) = (source, comment) {
        let made = table(vec![TableAttribute::UserData(comment)]);
        let mut make = |inner, flags| {
            let step = Step::new(what.clone(), message(family, inner), NLM_F_CREATE | flags);
            steps.push(step);
        };
        make(NfTablesMessage::NewTable(made), 0);
        for chain in [
            chain(
                "source",
                "nat",
                InetHookNumber::PostRouting,
                SOURCE_PRIORITY,
            ),
            chain("refuse", "filter", InetHookNumber::Forward, 0),
        ] {
            make(chain, 0);
        }
        let translated = [source_in(range), translate_to(source)].concat();
        let refused = [
            destination_in(range),
            Read::CtState.has(CT_NEW),
            reject(range),
        ];
        make(rule("source", translated), NLM_F_APPEND);
        make(rule("refuse", refused.concat()), NLM_F_APPEND);
    }
    Ok(Some(Change {
        what: format!("nftables table {TABLE}"),
        steps,
    }))
}

/// The comment of the table that is there, if it has all its rules; an empty one if it lacks some.
async fn found(
    netlink: &Netlink<NetfilterMessage>,
    family: NetfilterProtoFamily,
) -> Result<Option<Vec<u8>>, KernelError> {
    let table = NfTablesMessage::GetTable(TableMessage {
        attributes: vec![TableAttribute::Name(TABLE.into())],
    });
    let what = format!("read nftables table {TABLE}");
    let read = Step::new(what, message(family, table), 0);
    let replies = match netlink.run(vec![read]).await {
        Ok(replies) => replies,
        Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    let comment = replies.into_iter().find_map(|reply| match reply.inner {
        NetfilterMessageInner::NfTables(NfTablesMessage::NewTable(table)) => {
            let mut attributes = table.attributes.into_iter();
            attributes.find_map(|attribute| match attribute {
                TableAttribute::UserData(data) => Some(data),
                _ => None,
            })
        }
        _ => None,
    });
    let filter = NfTablesMessage::GetRule(RuleMessage {
        attributes: vec![RuleAttribute::Table(TABLE.into())],
    });
    let what = format!("list the rules of nftables table {TABLE}");
    let listed = netlink.dump(&what, message(family, filter)).await?;
    let is_rule = |reply: &&NetfilterMessage| {
        matches!(
            reply.inner,
            NetfilterMessageInner::NfTables(NfTablesMessage::NewRule(_))
        )
    };
    let whole = listed.iter().filter(is_rule).count() == RULES;
    Ok(Some(comment.filter(|_| whole).unwrap_or_default()))
}

/// User data that `nft` shows as the table's comment: type 0, length, text and a zero. All that the rules depend on.
fn comment(range: IpNet, source: IpAddr) -> Vec<u8> {
    let text = format!("made by weir: {range} as {source}\0");
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    [&[0, length], text.as_bytes()].concat()
}

fn message(family: NetfilterProtoFamily, inner: NfTablesMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), inner)
}

fn chain(name: &str, kind: &str, hook: InetHookNumber, priority: i32) -> NfTablesMessage {
    let hook = vec![
        Hook::Number(HookNumber::Inet(hook)),
        Hook::Priority(priority.cast_unsigned()),
    ];
    NfTablesMessage::NewChain(ChainMessage {
        attributes: vec![
            ChainAttribute::Table(TABLE.into()),
            ChainAttribute::Name(name.into()),
            ChainAttribute::Type(kind.into()),
            ChainAttribute::Hook(hook),
        ],
    })
}

fn rule(chain: &str, expressions: Vec<Expr>) -> NfTablesMessage {
    NfTablesMessage::NewRule(RuleMessage {
        attributes: vec![
            RuleAttribute::Table(TABLE.into()),
            RuleAttribute::Chain(chain.into()),
            RuleAttribute::Expressions(expressions),
        ],
    })
}

/// `saddr net`, in the net's family.
fn source_in(net: IpNet) -> Vec<Expr> {
    match net {
        IpNet::V4(_) => address_in(12, net),
        IpNet::V6(_) => address_in(8, net),
    }
}

/// `daddr net`, in the net's family.
fn destination_in(net: IpNet) -> Vec<Expr> {
    match net {
        IpNet::V4(_) => address_in(16, net),
        IpNet::V6(_) => address_in(24, net),
    }
}

fn address_in(offset: u32, net: IpNet) -> Vec<Expr> {
    const NETWORK_HEADER: u32 = 1;
    let (mask, network) = (octets(net.netmask()), octets(net.network()));
    let zero = vec![0; mask.len()];
    let length = if net.addr().is_ipv4() { 4 } else { 16 };
    let masked = vec![
        be32(1, REGISTER),
        be32(2, REGISTER),
        be32(3, length),
        nested(4, &[data(&mask)]),
        nested(5, &[data(&zero)]),
    ];
    let is = vec![be32(1, REGISTER), be32(2, 0), nested(3, &[data(&network)])];
    let load = vec![
        be32(1, REGISTER),
        be32(2, NETWORK_HEADER),
        be32(3, offset),
        be32(4, length),
    ];
    vec![
        expr("payload", load),
        expr("bitwise", masked),
        expr("cmp", is),
    ]
}

/// `reject`, in the net's family: nothing listens there.
fn reject(net: IpNet) -> Vec<Expr> {
    const ICMP_UNREACH: u32 = 0;
    let port_unreachable = match net {
        IpNet::V4(_) => 3,
        IpNet::V6(_) => 4,
    };
    let code = DefaultNla::new(2, vec![port_unreachable]);
    vec![expr("reject", vec![be32(1, ICMP_UNREACH), code])]
}

/// `snat to address fully-random`.
fn translate_to(address: IpAddr) -> Vec<Expr> {
    const SNAT: u32 = 0;
    const NFPROTO_IPV4: u32 = 2;
    const NFPROTO_IPV6: u32 = 10;
    const FULLY_RANDOM: u32 = 1 << 4;
    let family = if address.is_ipv4() {
        NFPROTO_IPV4
    } else {
        NFPROTO_IPV6
    };
    let nat = vec![
        be32(1, SNAT),
        be32(2, family),
        be32(3, REGISTER),
        be32(7, FULLY_RANDOM),
    ];
    let load = vec![be32(1, REGISTER), nested(2, &[data(&octets(address))])];
    vec![expr("immediate", load), expr("nat", nat)]
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
