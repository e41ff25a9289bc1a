//! The rules, as text that is easy to check:
//!
//! ```text
//! table ip weir {
//!   set vpc { type ipv4_addr; flags interval; }       # not translated, not marked
//!   map eni { type ipv4_addr : verdict; }             # address on a secondary ENI : jump eni-N
//!   chain eni-N { meta mark set meta mark & ~0x7f | N }
//!   chain mark { type filter hook prerouting priority -150;
//!     iif PRIMARY fib daddr . iif type local  ct mark set ct mark | 0x80
//!     iifgroup != PODS return
//!     ct mark & 0x80 != 0  meta mark set meta mark | 0x80
//!     ip saddr vmap @eni
//!   }
//!   chain outbound { type filter hook prerouting priority -95;
//!     iifgroup != PODS return
//!     ct state new  ip daddr != @vpc  fib daddr type != local
//!       ct mark set ct mark | 0x80  meta mark set meta mark | 0x80
//!   }
//!   chain source { type nat hook postrouting priority 100;
//!     ip daddr @vpc return
//!     fib daddr type local return
//!     fib saddr type local return
//!     snat to PRIMARY fully-random                      # or random, or neither
//!   }
//! }
//! ```
//!
//! - `mark` stands before destination NAT (-100): there a NodePort connection still names the node. What
//!   belongs to it, and what was marked when it went out, is marked again on every packet: NAT chains see
//!   only the first packet of a connection.
//! - `outbound` stands after it: a service's address leads to a pod in the VPC, or out of it.
//! - Where something else translates, `outbound` is not there, and `source` is empty.
//! - `source` leaves alone what the node itself sends: it has the right address already.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::Bound;

use ipnet::Ipv4Net;
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, Hook, HookNumber, InetHookNumber, ListAttribute,
    NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute, SetElementAttribute,
    SetElementFlags, SetElementList, SetElementMessage, SetFlags, SetMessage, TableAttribute,
    TableMessage,
};
use rtnetlink::packet_core::{Emitable, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use sha2::{Digest, Sha256};

use super::expr::{self, CT_NEW, Expr, RTN_LOCAL, Read, Write};
use super::{Step, message, message_of};
use crate::host::{Snat, SourcePorts};
use crate::layout::{CONNMARK, ENI_MARK_MASK, LINK_GROUP};

pub(super) const TABLE: &str = "weir";
pub(super) const MARKS: &str = "eni";
pub(super) const VPC: &str = "vpc";
const ENI_CHAIN: &str = "eni-";

/// What the rules depend on.
#[derive(Debug)]
pub(crate) struct Node {
    /// The index of the primary ENI's link.
    pub(crate) primary_link: u32,
    pub(crate) primary_address: Ipv4Addr,
    pub(crate) vpc_cidrs: Vec<Ipv4Net>,
    pub(crate) snat: Snat,
}

/// The messages that make the table, and how to know it again.
pub(super) struct Rules {
    pub(super) steps: Vec<Step>,
    /// The table's user data: a comment with a digest of all that `steps` say.
    pub(super) comment: Vec<u8>,
    /// How many rules each chain has.
    pub(super) counts: BTreeMap<String, usize>,
}

/// Removes the table, whether or not it is there: it is made if need be.
pub(super) fn removal(family: NetfilterProtoFamily) -> Vec<Step> {
    let table = || TableMessage {
        attributes: vec![TableAttribute::Name(TABLE.into())],
    };
    let what = format!("replace nftables table {TABLE}");
    vec![
        Step::new(
            what.clone(),
            message_of(family, NfTablesMessage::NewTable(table())),
            NLM_F_CREATE,
        ),
        Step::new(
            what,
            message_of(family, NfTablesMessage::DeleteTable(table())),
            0,
        ),
    ]
}

/// Makes the table, without the elements of its set and map.
pub(super) fn steps(node: &Node) -> Rules {
    let mut body = Body::default();

    body.set(VPC, SetFlags::Interval, &[]);
    // NFT_DATA_VERDICT: the map's values are verdicts.
    body.set(MARKS, SetFlags::Map, &[SetAttribute::DataType(0xffff_ff00)]);

    body.chain("mark", "filter", InetHookNumber::PreRouting, -150);
    mark_node_ports(&mut body, node.primary_link);
    body.rule("mark", &[Read::SourceAddress.verdict_by(MARKS)]);

    // Also where nothing is translated: without any NAT chain the kernel translates no packet of connections that were
    // translated when they began.
    body.chain("source", "nat", InetHookNumber::PostRouting, 100);
    if let Snat::Node(ports) = node.snat {
        translate(&mut body, node.primary_address, ports);
    }

    body.into_rules(NetfilterProtoFamily::IPv4)
}

/// The table of IPv6: marks for NodePort. Its pods' addresses are in prefixes, which rules lead to their ENIs; nothing is
/// translated.
pub(super) fn steps_v6(primary_link: u32) -> Rules {
    let mut body = Body::default();
    body.chain("mark", "filter", InetHookNumber::PreRouting, -150);
    mark_node_ports(&mut body, primary_link);
    body.into_rules(NetfilterProtoFamily::IPv6)
}

/// What came in by the primary ENI for the node itself goes out by it, with all that belongs to it.
fn mark_node_ports(body: &mut Body, primary_link: u32) {
    body.rule(
        "mark",
        &[
            Read::Iif.is(primary_link),
            Read::DestinationTypeOnIif.is(RTN_LOCAL),
            Write::CtMark.set(CONNMARK, 0),
        ],
    );
    body.rule(
        "mark",
        &[Read::IifGroup.is_not(LINK_GROUP), expr::return_()],
    );
    body.rule(
        "mark",
        &[Read::CtMark.has(CONNMARK), Write::Mark.set(CONNMARK, 0)],
    );
}

/// What leaves the VPC leaves by the primary ENI, with its address.
fn translate(body: &mut Body, primary: Ipv4Addr, ports: SourcePorts) {
    body.chain("outbound", "filter", InetHookNumber::PreRouting, -95);
    body.rule(
        "outbound",
        &[Read::IifGroup.is_not(LINK_GROUP), expr::return_()],
    );
    body.rule(
        "outbound",
        &[
            Read::CtState.has(CT_NEW),
            Read::DestinationAddress.is_not_in(VPC),
            Read::DestinationType.is_not(RTN_LOCAL),
            Write::CtMark.set(CONNMARK, 0),
            Write::Mark.set(CONNMARK, 0),
        ],
    );

    body.rule(
        "source",
        &[Read::DestinationAddress.is_in(VPC), expr::return_()],
    );
    body.rule(
        "source",
        &[Read::DestinationType.is(RTN_LOCAL), expr::return_()],
    );
    body.rule("source", &[Read::SourceType.is(RTN_LOCAL), expr::return_()]);
    body.rule("source", &[expr::snat(primary, ports)]);
}

/// The chain that gives packets the mark of one ENI. Refused if it is there: it would get a second rule.
pub(super) fn eni_chain(mark: u32) -> Vec<Step> {
    let name = eni_chain_name(mark);
    let mut body = Body::default();
    body.add_chain(&name, Vec::new(), NLM_F_EXCL);
    body.rule(&name, &[Write::Mark.set(mark, ENI_MARK_MASK)]);
    let steps = body.messages.into_iter();
    steps
        .map(|(what, inner, flags)| Step::new(what, message(inner), NLM_F_CREATE | flags))
        .collect()
}

pub(super) fn eni_chain_name(mark: u32) -> String {
    format!("{ENI_CHAIN}{mark}")
}

pub(super) fn eni_chain_index(name: &str) -> Option<u32> {
    name.strip_prefix(ENI_CHAIN)?.parse().ok()
}

pub(super) fn is_eni_chain(name: &str) -> bool {
    name.starts_with(ENI_CHAIN)
}

/// Addresses that are not translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Range {
    first: Ipv4Addr,
    /// The one after the last; none where that is the last address of all.
    after: Option<Ipv4Addr>,
}

/// The CIDRs as ranges that do not overlap: a CIDR in another goes. Neighbours stay two, so that each comes and goes alone.
pub(super) fn ranges(cidrs: &[Ipv4Net]) -> BTreeSet<Range> {
    let mut distinct: Vec<Ipv4Net> = cidrs.iter().map(Ipv4Net::trunc).collect();
    distinct.sort_unstable();
    distinct.dedup();
    let within_other = |cidr: &&Ipv4Net| {
        let mut others = distinct.iter().filter(|other| other != cidr);
        !others.any(|other| other.contains(*cidr))
    };
    let outermost = distinct.iter().filter(within_other);
    outermost
        .map(|cidr| Range {
            first: cidr.network(),
            after: u32::from(cidr.broadcast())
                .checked_add(1)
                .map(Ipv4Addr::from),
        })
        .collect()
}

/// The elements of the interval set: each range's first address, and the one after its last.
pub(super) fn range_elements(ranges: &BTreeSet<Range>) -> Vec<ListAttribute<SetElementAttribute>> {
    let key = |address: Ipv4Addr| {
        SetElementAttribute::Key(DataAttribute::Value(address.octets().to_vec()))
    };
    let mut elements = Vec::new();
    for range in ranges {
        elements.push(ListAttribute::Element(vec![key(range.first)]));
        if let Some(after) = range.after {
            let end = SetElementAttribute::Flags(SetElementFlags::IntervalEnd);
            elements.push(ListAttribute::Element(vec![key(after), end]));
        }
    }
    elements
}

/// The ranges that listed elements stand for.
pub(super) fn read_ranges(elements: &[ListAttribute<SetElementAttribute>]) -> BTreeSet<Range> {
    let (mut firsts, mut ends) = (BTreeSet::new(), BTreeSet::new());
    for element in elements {
        let ListAttribute::Element(attributes) = element else {
            continue;
        };
        let address = attributes.iter().find_map(|attribute| match attribute {
            SetElementAttribute::Key(DataAttribute::Value(key)) => {
                <[u8; 4]>::try_from(key.as_slice()).ok().map(Ipv4Addr::from)
            }
            _ => None,
        });
        let is_end = attributes.iter().any(|attribute| {
            matches!(attribute, SetElementAttribute::Flags(flags) if flags.contains(SetElementFlags::IntervalEnd))
        });
        let list = if is_end { &mut ends } else { &mut firsts };
        list.extend(address);
    }
    let after = |first| {
        ends.range((Bound::Excluded(first), Bound::Unbounded))
            .next()
    };
    firsts
        .iter()
        .map(|first| Range {
            first: *first,
            after: after(*first).copied(),
        })
        .collect()
}

/// A message with elements of a set or map.
pub(super) fn set_elements(
    what: String,
    set: &str,
    elements: Vec<ListAttribute<SetElementAttribute>>,
    wrap: impl Fn(SetElementMessage) -> NfTablesMessage,
) -> Step {
    Step::new(
        what,
        message(wrap(elements_of(set, elements))),
        NLM_F_CREATE,
    )
}

fn elements_of(set: &str, elements: Vec<ListAttribute<SetElementAttribute>>) -> SetElementMessage {
    SetElementMessage {
        attributes: vec![
            SetElementList::Table(TABLE.into()),
            SetElementList::Set(set.into()),
            SetElementList::Elements(elements),
        ],
    }
}

/// The table's contents, in the making.
#[derive(Default)]
struct Body {
    /// What each is to do, the message, and its flags beside CREATE.
    messages: Vec<(String, NfTablesMessage, u16)>,
    counts: BTreeMap<String, usize>,
    sets: u32,
}

impl Body {
    /// The whole table.
    fn into_rules(self, family: NetfilterProtoFamily) -> Rules {
        let comment = comment(&self.messages);
        let table = TableMessage {
            attributes: vec![
                TableAttribute::Name(TABLE.into()),
                TableAttribute::UserData(comment.clone()),
            ],
        };
        let what = format!("make nftables table {TABLE}");
        let table = message_of(family, NfTablesMessage::NewTable(table));
        let table = Step::new(what, table, NLM_F_CREATE);
        let rest = self.messages.into_iter().map(|(what, inner, flags)| {
            Step::new(what, message_of(family, inner), NLM_F_CREATE | flags)
        });
        Rules {
            steps: std::iter::once(table).chain(rest).collect(),
            comment,
            counts: self.counts,
        }
    }

    /// A set of IPv4 addresses, or a map from them.
    fn set(&mut self, name: &str, flags: SetFlags, more: &[SetAttribute]) {
        /// The number of ipv4_addr among the types of `nft`: only for listing.
        const IPV4_ADDR: u32 = 7;
        self.sets += 1;
        let mut attributes = vec![
            SetAttribute::Table(TABLE.into()),
            SetAttribute::Name(name.into()),
            SetAttribute::Flags(flags),
            SetAttribute::KeyType(IPV4_ADDR),
            SetAttribute::KeyLen(4),
            SetAttribute::Id(self.sets),
        ];
        attributes.extend_from_slice(more);
        let set = NfTablesMessage::NewSet(SetMessage { attributes });
        self.messages
            .push((format!("make nftables set {name}"), set, NLM_F_EXCL));
    }

    fn chain(&mut self, name: &str, kind: &str, hook: InetHookNumber, priority: i32) {
        let hook = vec![
            Hook::Number(HookNumber::Inet(hook)),
            Hook::Priority(priority.cast_unsigned()),
        ];
        self.add_chain(
            name,
            vec![
                ChainAttribute::Type(kind.into()),
                ChainAttribute::Hook(hook),
            ],
            0,
        );
    }

    fn add_chain(&mut self, name: &str, hook: Vec<ChainAttribute>, flags: u16) {
        let mut attributes = vec![
            ChainAttribute::Table(TABLE.into()),
            ChainAttribute::Name(name.into()),
        ];
        attributes.extend(hook);
        let chain = NfTablesMessage::NewChain(ChainMessage { attributes });
        self.messages
            .push((format!("make nftables chain {name}"), chain, flags));
    }

    fn rule(&mut self, chain: &str, parts: &[Vec<Expr>]) {
        let count = self.counts.entry(chain.into()).or_insert(0);
        *count += 1;
        let what = format!("add rule {count} of nftables chain {chain}");
        let attributes = vec![
            RuleAttribute::Table(TABLE.into()),
            RuleAttribute::Chain(chain.into()),
            RuleAttribute::Expressions(parts.concat()),
        ];
        let rule = NfTablesMessage::NewRule(RuleMessage { attributes });
        self.messages.push((what, rule, NLM_F_APPEND));
    }
}

/// User data that `nft` shows as the table's comment: type 0, length, text and a zero.
fn comment(messages: &[(String, NfTablesMessage, u16)]) -> Vec<u8> {
    let mut digest = Sha256::new();
    for (_, message, flags) in messages {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        digest.update(flags.to_ne_bytes());
        digest.update(bytes);
    }
    let mut text = String::from("made by weir ");
    for byte in digest.finalize().iter().take(8) {
        text.push_str(&format!("{byte:02x}"));
    }
    text.push('\0');
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    [&[0, length], text.as_bytes()].concat()
}
