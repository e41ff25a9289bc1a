//! The messages to the kernel's routing side that Weir sends, and no others.

mod read;

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope,
};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkExtentMask, LinkFlags,
    LinkMessage, Prop,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::proto::sys::protocols::NETLINK_ROUTE;
use rustix::io::Errno;

pub(crate) use self::read::{permanent_neighbour as read_neighbour, protocol as protocol_of};
use crate::layout::{Mac, ROUTE_PROTOCOL};
use crate::netlink::{KernelError, Netlink};

pub(crate) type Rtnl = Netlink<RouteNetlinkMessage>;
pub(crate) type Step = crate::netlink::Step<RouteNetlinkMessage>;

/// Opens a socket to the routing side, in the network namespace of this thread.
pub(crate) fn open() -> Result<Rtnl, KernelError> {
    Netlink::open(NETLINK_ROUTE)
}

/// A link by name.
pub(crate) fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link
}

/// A link by index.
pub(crate) fn indexed(index: u32) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link
}

/// Marks the link to be brought up.
pub(crate) fn up(mut link: LinkMessage) -> LinkMessage {
    link.header.flags |= LinkFlags::Up;
    link.header.change_mask |= LinkFlags::Up;
    link
}

/// No IPv6 link-local address, which duplicate address detection would delay and nothing here uses. The
/// kernel takes this for links that exist, not in the message that makes one (EAFNOSUPPORT).
pub(crate) fn no_link_local() -> LinkAttribute {
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
        In6AddrGenMode::None,
    )])])
}

pub(crate) fn set_link(what: impl Into<String>, link: LinkMessage) -> Step {
    Step::new(what, RouteNetlinkMessage::SetLink(link), 0)
}

/// Gives a link a name by which it is found as well as by its own.
pub(crate) fn add_alternative_name(name: &str, also: String) -> Step {
    let what = format!("give link {name} the name {also} too");
    let mut link = named(name);
    let also = Prop::AltIfName(also);
    link.attributes.push(LinkAttribute::PropList(vec![also]));
    let flags = NLM_F_CREATE | NLM_F_EXCL | NLM_F_APPEND;
    Step::new(what, RouteNetlinkMessage::NewLinkProp(link), flags)
}

pub(crate) fn get_link(what: impl Into<String>, link: LinkMessage) -> Step {
    Step::new(what, links(link), 0)
}

/// Asks for a link, or for all. Without their counters, which take most of the kernel's time for it.
pub(crate) fn links(mut asked: LinkMessage) -> RouteNetlinkMessage {
    let without = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
    asked.attributes.push(without);
    RouteNetlinkMessage::GetLink(asked)
}

pub(crate) fn delete_link(what: impl Into<String>, link: LinkMessage) -> Step {
    Step::new(what, RouteNetlinkMessage::DelLink(link), 0)
}

/// The only link in `replies`.
pub(crate) fn link_of(replies: Vec<RouteNetlinkMessage>) -> Option<LinkMessage> {
    replies.into_iter().find_map(|reply| match reply {
        RouteNetlinkMessage::NewLink(link) => Some(link),
        _ => None,
    })
}

/// Gives the link an address. One of IPv6 is usable at once: nobody else has what EC2 gave this ENI, and duplicate
/// address detection would hold its packets back for up to two seconds.
pub(crate) fn add_address(index: u32, address: impl Into<IpNet>, flags: AddressFlags) -> Step {
    let address = address.into();
    let what = format!("add address {address}");
    let mut message = self::address(index, address);
    let flags = match address {
        IpNet::V4(_) => flags,
        IpNet::V6(_) => flags | AddressFlags::Nodad,
    };
    message.attributes.push(AddressAttribute::Flags(flags));
    Step::new(
        what,
        RouteNetlinkMessage::NewAddress(message),
        NLM_F_CREATE | NLM_F_EXCL,
    )
}

/// Takes an address from the link, if it has it.
pub(crate) fn delete_address(index: u32, address: IpNet) -> Step {
    let what = format!("delete address {address}");
    Step::new(
        what,
        RouteNetlinkMessage::DelAddress(self::address(index, address)),
        0,
    )
    .tolerating(Errno::ADDRNOTAVAIL)
}

fn address(index: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(&address);
    message.header.prefix_len = address.prefix_len();
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    let ip = address.addr();
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    message
}

/// The filter of a dump of one link's addresses of a family, or of both (`Unspec`).
pub(crate) fn addresses_of(index: u32, family: AddressFamily) -> RouteNetlinkMessage {
    let mut filter = AddressMessage::default();
    filter.header.family = family;
    filter.header.index = index;
    RouteNetlinkMessage::GetAddress(filter)
}

/// The address of this link that `reply` tells of, if it is a global one.
pub(crate) fn global_address(reply: RouteNetlinkMessage, index: u32) -> Option<IpNet> {
    let RouteNetlinkMessage::NewAddress(message) = reply else {
        return None;
    };
    if message.header.scope != AddressScope::Universe || message.header.index != index {
        return None;
    }
    let ip = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| {
        message.attributes.iter().find_map(wanted)
    };
    // IPv6 has the first only where there is a peer.
    let ip = ip(|attribute| match attribute {
        AddressAttribute::Local(local) => Some(*local),
        _ => None,
    })
    .or_else(|| {
        ip(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })?;
    IpNet::new(ip, message.header.prefix_len).ok()
}

fn family(net: &IpNet) -> AddressFamily {
    match net {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    }
}

/// Makes the host at `ip` known on the link for good, so that nobody needs to ask who has it.
pub(crate) fn permanent_neighbour(index: u32, ip: IpAddr, mac: Mac) -> Step {
    let mut message = NeighbourMessage::default();
    message.header.family = family(&ip.into());
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(match ip {
            IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
            IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
        }),
        NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
    ];
    let what = format!("add permanent neighbour {ip} at {mac}");
    Step::new(
        what,
        RouteNetlinkMessage::NewNeighbour(message),
        NLM_F_CREATE | NLM_F_REPLACE,
    )
}

/// A route of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    pub(crate) destination: IpNet,
    pub(crate) table: u32,
    pub(crate) way: Way,
}

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// Right behind the link.
    Link { index: u32 },
    /// By a router on the link, which need not be in a connected subnet.
    Via { gateway: IpAddr, index: u32 },
    /// Nowhere, at this metric.
    Unreachable { metric: u32 },
}

impl Route {
    /// Adds the route or replaces the one to the same destination at the same metric. The kernel does
    /// nothing at all if the very same is there (fib_table_insert).
    pub(crate) fn put(self) -> Step {
        let what = format!("put {}", self.describe());
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        Step::new(what, RouteNetlinkMessage::NewRoute(self.message()), flags)
    }

    /// Adds the route, unless there is one to the same destination at the same metric: for IPv6, where the kernel
    /// replaces a route by the very same, and tells everybody.
    pub(crate) fn ensure(self) -> Step {
        self.add().tolerating(Errno::EXIST)
    }

    /// Adds the route, and leaves it alone where it is there.
    pub(crate) fn settle(self) -> Step {
        match self.destination {
            IpNet::V4(_) => self.put(),
            IpNet::V6(_) => self.ensure(),
        }
    }

    /// Adds the route; refused if there is one to the same destination at the same metric.
    pub(crate) fn add(self) -> Step {
        let what = format!("add {}", self.describe());
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        Step::new(what, RouteNetlinkMessage::NewRoute(self.message()), flags)
    }

    /// Deletes the route, if it is there.
    pub(crate) fn delete(self) -> Step {
        let what = format!("delete {}", self.describe());
        Step::new(what, RouteNetlinkMessage::DelRoute(self.message()), 0).tolerating(Errno::SRCH)
    }

    pub(crate) fn describe(self) -> String {
        let Self {
            destination,
            table,
            way,
        } = self;
        match way {
            Way::Link { .. } => format!("link route {destination} in table {table}"),
            Way::Via { gateway, .. } => {
                format!("route {destination} via {gateway} in table {table}")
            }
            Way::Unreachable { .. } => format!("unreachable {destination} in table {table}"),
        }
    }

    fn message(self) -> RouteMessage {
        let mut route = empty_route(family(&self.destination), self.table);
        route.header.protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
        route.header.kind = RouteType::Unicast;
        route.header.destination_prefix_length = self.destination.prefix_len();
        if self.destination.prefix_len() > 0 {
            route.attributes.push(RouteAttribute::Destination(
                self.destination.network().into(),
            ));
        }
        match self.way {
            Way::Link { index } => {
                route.header.scope = RouteScope::Link;
                route.attributes.push(RouteAttribute::Oif(index));
            }
            Way::Via { gateway, index } => {
                route.header.flags = RouteFlags::Onlink;
                route
                    .attributes
                    .push(RouteAttribute::Gateway(gateway.into()));
                route.attributes.push(RouteAttribute::Oif(index));
            }
            Way::Unreachable { metric } => {
                route.header.kind = RouteType::Unreachable;
                route.attributes.push(RouteAttribute::Priority(metric));
            }
        }
        route
    }
}

/// The filter of a dump of one table's routes, or those of one link in it.
pub(crate) fn routes_in(
    family: AddressFamily,
    table: u32,
    link: Option<u32>,
) -> RouteNetlinkMessage {
    let mut filter = empty_route(family, table);
    filter.attributes.extend(link.map(RouteAttribute::Oif));
    RouteNetlinkMessage::GetRoute(filter)
}

fn empty_route(family: AddressFamily, table: u32) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header.address_family = family;
    // Tables over 255 have room only in the attribute.
    route.header.table = u8::try_from(table).unwrap_or(0);
    route.attributes.push(RouteAttribute::Table(table));
    route
}

/// Deletes the route that the kernel made in the main table with an address on the link, if it is there.
pub(crate) fn delete_connected_route(index: u32, subnet: Ipv4Net) -> Step {
    let mut route = empty_route(AddressFamily::Inet, crate::layout::MAIN_TABLE);
    route.header.destination_prefix_length = subnet.prefix_len();
    route.header.protocol = RouteProtocol::Kernel;
    route.header.scope = RouteScope::Link;
    route.header.kind = RouteType::Unicast;
    let destination = RouteAddress::Inet(subnet.network());
    route
        .attributes
        .push(RouteAttribute::Destination(destination));
    route.attributes.push(RouteAttribute::Oif(index));
    let what = format!("delete the connected route {subnet} from the main table");
    Step::new(what, RouteNetlinkMessage::DelRoute(route), 0).tolerating(Errno::SRCH)
}

/// Deletes the route for multicast that the kernel makes for each link with IPv6 as it comes up, if it is there. The kernel walks
/// through those of all links to add one more (fib6_add_rt2node in net/ipv6/ip6_fib.c).
pub(crate) fn delete_multicast_route(index: u32) -> Step {
    const LOCAL_TABLE: u32 = 255;
    let mut route = empty_route(AddressFamily::Inet6, LOCAL_TABLE);
    route.header.destination_prefix_length = 8;
    route.header.kind = RouteType::Multicast;
    let all = RouteAddress::Inet6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0));
    let destination = [RouteAttribute::Destination(all), RouteAttribute::Oif(index)];
    route.attributes.extend(destination);
    let what = format!("delete the multicast route of link {index}");
    Step::new(what, RouteNetlinkMessage::DelRoute(route), 0)
        .tolerating(Errno::SRCH)
        // A node without IPv6.
        .tolerating(Errno::OPNOTSUPP)
}

/// A rule of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    pub(crate) priority: u32,
    pub(crate) selector: Selector,
    pub(crate) table: u32,
}

/// What a rule applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Selector {
    /// All packets of IPv4.
    All4,
    /// All packets of IPv6.
    All6,
    /// Packets of IPv4 with this mark.
    Mark { mark: u32, mask: u32 },
    /// Packets of IPv6 with this mark.
    Mark6 { mark: u32, mask: u32 },
    /// Packets of this source's family.
    From(IpNet),
    /// Packets of this destination's family.
    To(IpNet),
}

impl Rule {
    /// Adds the rule, unless it is there. Another's of the same meaning does not count: the kernel compares
    /// the protocol too (rule_exists), and its maker may take it away.
    pub(crate) fn ensure(self) -> Step {
        let (what, rule) = self.message();
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let what = format!("add {what}");
        Step::new(what, RouteNetlinkMessage::NewRule(rule), flags).tolerating(Errno::EXIST)
    }

    pub(crate) fn describe(self) -> String {
        self.message().0
    }

    /// Deletes the rule, if it is there.
    pub(crate) fn delete(self) -> Step {
        let (what, rule) = self.message();
        let what = format!("delete {what}");
        Step::new(what, RouteNetlinkMessage::DelRule(rule), 0).tolerating(Errno::NOENT)
    }

    fn message(self) -> (String, RuleMessage) {
        let mut rule = RuleMessage::default();
        rule.header.family = match self.selector {
            Selector::All4 | Selector::Mark { .. } => AddressFamily::Inet,
            Selector::All6 | Selector::Mark6 { .. } => AddressFamily::Inet6,
            Selector::From(net) | Selector::To(net) => family(&net),
        };
        rule.header.action = RuleAction::ToTable;
        rule.header.table = u8::try_from(self.table).unwrap_or(0);
        rule.attributes = vec![
            RuleAttribute::Priority(self.priority),
            RuleAttribute::Table(self.table),
            RuleAttribute::Protocol(RouteProtocol::Other(ROUTE_PROTOCOL)),
        ];
        let selector = match self.selector {
            Selector::All4 => "from all".to_owned(),
            Selector::All6 => "from all of IPv6".to_owned(),
            Selector::Mark { mark, mask } => {
                rule.attributes.push(RuleAttribute::FwMark(mark));
                rule.attributes.push(RuleAttribute::FwMask(mask));
                format!("fwmark {mark:#x}/{mask:#x}")
            }
            Selector::Mark6 { mark, mask } => {
                rule.attributes.push(RuleAttribute::FwMark(mark));
                rule.attributes.push(RuleAttribute::FwMask(mask));
                format!("fwmark {mark:#x}/{mask:#x} of IPv6")
            }
            Selector::From(source) => {
                rule.header.src_len = source.prefix_len();
                rule.attributes
                    .push(RuleAttribute::Source(source.network()));
                format!("from {source}")
            }
            Selector::To(destination) => {
                rule.header.dst_len = destination.prefix_len();
                rule.attributes
                    .push(RuleAttribute::Destination(destination.network()));
                format!("to {destination}")
            }
        };
        let what = format!("rule {}: {selector} lookup {}", self.priority, self.table);
        (what, rule)
    }
}

/// The filter of a dump of a family's rules: the kernel has none for less.
pub(crate) fn rules(family: AddressFamily) -> RouteNetlinkMessage {
    let mut filter = RuleMessage::default();
    filter.header.family = family;
    RouteNetlinkMessage::GetRule(filter)
}
