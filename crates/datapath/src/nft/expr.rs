//! The expressions that our rules are made of, as the kernel's virtual machine has them
//! (linux/netfilter/nf_tables.h). Attributes are big-endian; register contents are in the order in which
//! packets or the kernel have them.

use std::net::Ipv4Addr;

use netlink_packet_netfilter::nftables::{
    ExpressionAttribute, Expressions, ListAttribute, Verdict, VerdictAttribute,
};
use rtnetlink::packet_core::{DefaultNla, Emitable};

use crate::host::SourcePorts;

/// One expression of a rule.
pub(crate) type Expr = ListAttribute<ExpressionAttribute>;

/// The one register that our rules need. Register 0 is the verdict.
pub(super) const REGISTER: u32 = 1;
const VERDICT: u32 = 0;

/// What a rule reads.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Read {
    /// The index of the link that the packet came in by.
    Iif,
    /// That link's group.
    IifGroup,
    /// The packet's mark.
    Mark,
    /// The connection's mark.
    CtMark,
    /// The connection's state, as bits.
    CtState,
    SourceAddress,
    DestinationAddress,
    /// The kind of the source address (RTN_*).
    SourceType,
    /// The kind of the destination address.
    DestinationType,
    /// The kind of the destination address, seen from the link that the packet came in by.
    DestinationTypeOnIif,
}

/// The bit of a connection's first packet in [`Read::CtState`].
pub(crate) const CT_NEW: u32 = 8;
/// An address of this host (linux/rtnetlink.h).
pub(crate) const RTN_LOCAL: u32 = 2;

impl Read {
    fn load(self) -> Expr {
        const FIB_SADDR: u32 = 1;
        const FIB_DADDR: u32 = 2;
        const FIB_IIF: u32 = 8;
        match self {
            Self::Iif => meta(4),
            Self::IifGroup => meta(21),
            Self::Mark => meta(3),
            Self::CtState => ct(0),
            Self::CtMark => ct(3),
            Self::SourceAddress => network_header(12),
            Self::DestinationAddress => network_header(16),
            Self::SourceType => fib_type(FIB_SADDR),
            Self::DestinationType => fib_type(FIB_DADDR),
            Self::DestinationTypeOnIif => fib_type(FIB_DADDR | FIB_IIF),
        }
    }

    /// `read == value`, for what the kernel counts in its own byte order.
    pub(crate) fn is(self, value: u32) -> Vec<Expr> {
        vec![self.load(), compare(0, value)]
    }

    /// `read != value`.
    pub(crate) fn is_not(self, value: u32) -> Vec<Expr> {
        vec![self.load(), compare(1, value)]
    }

    /// `read & bits != 0`.
    pub(crate) fn has(self, bits: u32) -> Vec<Expr> {
        vec![self.load(), bitwise(bits, 0), compare(1, 0)]
    }

    /// `read in set`.
    pub(crate) fn is_in(self, set: &str) -> Vec<Expr> {
        vec![
            self.load(),
            expr("lookup", vec![text(1, set), be32(2, REGISTER)]),
        ]
    }

    /// `read not in set`.
    pub(crate) fn is_not_in(self, set: &str) -> Vec<Expr> {
        const INVERTED: u32 = 1;
        let lookup = vec![text(1, set), be32(2, REGISTER), be32(5, INVERTED)];
        vec![self.load(), expr("lookup", lookup)]
    }

    /// `read vmap map`: the verdict that the map has for it, if any.
    pub(crate) fn verdict_by(self, map: &str) -> Vec<Expr> {
        let lookup = vec![text(1, map), be32(2, REGISTER), be32(3, VERDICT)];
        vec![self.load(), expr("lookup", lookup)]
    }
}

/// What a rule writes: bits only, the others belong to other software.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Write {
    Mark,
    CtMark,
}

impl Write {
    /// `x = (x & !mask) | bits`.
    pub(crate) fn set(self, bits: u32, mask: u32) -> Vec<Expr> {
        let (read, store) = match self {
            Self::Mark => (
                Read::Mark,
                expr("meta", vec![be32(2, 3), be32(3, REGISTER)]),
            ),
            Self::CtMark => (
                Read::CtMark,
                expr("ct", vec![be32(2, 3), be32(4, REGISTER)]),
            ),
        };
        vec![read.load(), bitwise(!(mask | bits), bits), store]
    }
}

/// `return`.
pub(crate) fn return_() -> Vec<Expr> {
    const NFT_RETURN: u32 = (-5_i32).cast_unsigned();
    let verdict = nested(2, &[be32(1, NFT_RETURN)]);
    vec![expr(
        "immediate",
        vec![be32(1, VERDICT), nested(2, &[verdict])],
    )]
}

/// `jump chain`, as the data of a map's element.
pub(crate) fn jump(chain: &str) -> Vec<VerdictAttribute> {
    vec![
        VerdictAttribute::Code(Verdict::Jump),
        VerdictAttribute::Chain(chain.into()),
    ]
}

/// `snat to address`, with `fully-random`, `random` or nothing.
pub(crate) fn snat(address: Ipv4Addr, ports: SourcePorts) -> Vec<Expr> {
    const SNAT: u32 = 0;
    const NFPROTO_IPV4: u32 = 2;
    // linux/netfilter/nf_nat.h: NF_NAT_RANGE_*.
    const RANDOM: u32 = 1 << 2;
    const FULLY_RANDOM: u32 = 1 << 4;
    let flags = match ports {
        SourcePorts::FullyRandom => Some(FULLY_RANDOM),
        SourcePorts::Random => Some(RANDOM),
        SourcePorts::Kept => None,
    };
    let mut nat = vec![be32(1, SNAT), be32(2, NFPROTO_IPV4), be32(3, REGISTER)];
    nat.extend(flags.map(|flags| be32(7, flags)));
    let load = vec![be32(1, REGISTER), nested(2, &[data(&address.octets())])];
    vec![expr("immediate", load), expr("nat", nat)]
}

fn meta(key: u32) -> Expr {
    expr("meta", vec![be32(1, REGISTER), be32(2, key)])
}

fn ct(key: u32) -> Expr {
    expr("ct", vec![be32(1, REGISTER), be32(2, key)])
}

fn network_header(offset: u32) -> Expr {
    const NETWORK_HEADER: u32 = 1;
    const ADDRESS: u32 = 4;
    let load = vec![
        be32(1, REGISTER),
        be32(2, NETWORK_HEADER),
        be32(3, offset),
        be32(4, ADDRESS),
    ];
    expr("payload", load)
}

fn fib_type(flags: u32) -> Expr {
    const ADDRTYPE: u32 = 3;
    expr(
        "fib",
        vec![be32(1, REGISTER), be32(2, ADDRTYPE), be32(3, flags)],
    )
}

fn compare(operator: u32, value: u32) -> Expr {
    let value = nested(3, &[data(&value.to_ne_bytes())]);
    expr("cmp", vec![be32(1, REGISTER), be32(2, operator), value])
}

/// `register = (register & mask) ^ xor`.
fn bitwise(mask: u32, xor: u32) -> Expr {
    let change = vec![
        be32(1, REGISTER),
        be32(2, REGISTER),
        be32(3, 4),
        nested(4, &[data(&mask.to_ne_bytes())]),
        nested(5, &[data(&xor.to_ne_bytes())]),
    ];
    expr("bitwise", change)
}

pub(super) fn expr(name: &str, attributes: Vec<DefaultNla>) -> Expr {
    Expressions::Other {
        expression_type: name.to_owned(),
        attributes,
    }
    .into()
}

pub(super) fn be32(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}

fn text(kind: u16, value: &str) -> DefaultNla {
    let mut bytes = value.as_bytes().to_vec();
    bytes.push(0);
    DefaultNla::new(kind, bytes)
}

/// NFTA_DATA_VALUE.
pub(super) fn data(value: &[u8]) -> DefaultNla {
    DefaultNla::new(1, value.to_vec())
}

pub(super) fn nested(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    const NLA_F_NESTED: u16 = 0x8000;
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    DefaultNla::new(kind | NLA_F_NESTED, bytes)
}
