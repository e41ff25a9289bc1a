//! What the kernel lists, as what Weir would ask for.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType,
};
use rtnetlink::packet_route::rule::RuleAttribute;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Route, Rule, Selector, Way};
use crate::layout::ROUTE_PROTOCOL;

impl Rule {
    /// The rule that `reply` tells of, if it is one of ours.
    pub(crate) fn read(reply: RouteNetlinkMessage) -> Option<Self> {
        let RouteNetlinkMessage::NewRule(message) = reply else {
            return None;
        };
        let (mut priority, mut table, mut source, mut ours) = (None, None, None, false);
        let (mut mark, mut mask, mut destination) = (None, None, None);
        for attribute in message.attributes {
            match attribute {
                RuleAttribute::Priority(number) => priority = Some(number),
                RuleAttribute::Table(number) => table = Some(number),
                RuleAttribute::Source(ip) => source = Some(ip),
                RuleAttribute::Destination(ip) => destination = Some(ip),
                RuleAttribute::FwMark(bits) => mark = Some(bits),
                RuleAttribute::FwMask(bits) => mask = Some(bits),
                RuleAttribute::Protocol(protocol) => {
                    ours = protocol == RouteProtocol::Other(ROUTE_PROTOCOL);
                }
                _ => {}
            }
        }
        let is_v6 = message.header.family == AddressFamily::Inet6;
        let header = &message.header;
        let selector = match (source, destination, mark) {
            (Some(ip), None, None) => Selector::From(IpNet::new(ip, header.src_len).ok()?),
            (None, Some(ip), None) => Selector::To(IpNet::new(ip, header.dst_len).ok()?),
            (None, None, Some(mark)) if is_v6 => Selector::Mark6 { mark, mask: mask? },
            (None, None, Some(mark)) => Selector::Mark { mark, mask: mask? },
            (None, None, None) if is_v6 => Selector::All6,
            (None, None, None) => Selector::All4,
            // We make none with more than one.
            _ => return None,
        };
        ours.then_some(Self {
            priority: priority?,
            selector,
            table: table?,
        })
    }
}

impl Route {
    /// The route that `reply` tells of, whoever made it, if it is of a kind that we make.
    pub(crate) fn read(reply: &RouteNetlinkMessage) -> Option<Self> {
        let RouteNetlinkMessage::NewRoute(message) = reply else {
            return None;
        };
        let (mut to, mut gateway, mut index, mut metric) = (None, None, None, 0);
        let mut table = u32::from(message.header.table);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Table(number) => table = *number,
                RouteAttribute::Destination(address) => to = ip(address),
                RouteAttribute::Gateway(address) => gateway = ip(address),
                RouteAttribute::Oif(number) => index = Some(*number),
                RouteAttribute::Priority(number) => metric = *number,
                _ => {}
            }
        }
        let way = match (message.header.kind, gateway) {
            (RouteType::Unreachable, _) => Way::Unreachable { metric },
            (RouteType::Unicast, Some(gateway)) => Way::Via {
                gateway,
                index: index?,
            },
            (RouteType::Unicast, None) => Way::Link { index: index? },
            _ => return None,
        };
        Some(Self {
            destination: destination(message, to)?,
            table,
            way,
        })
    }
}

fn destination(message: &RouteMessage, to: Option<IpAddr>) -> Option<IpNet> {
    let length = message.header.destination_prefix_length;
    match (to, message.header.address_family) {
        (Some(to), _) => IpNet::new(to, length).ok(),
        (None, _) if length > 0 => None,
        (None, AddressFamily::Inet) => Some(Ipv4Net::default().into()),
        (None, AddressFamily::Inet6) => Some(Ipv6Net::default().into()),
        (None, _) => None,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

/// Who made the route.
pub(crate) fn protocol(reply: &RouteNetlinkMessage) -> Option<RouteProtocol> {
    match reply {
        RouteNetlinkMessage::NewRoute(route) => Some(route.header.protocol),
        _ => None,
    }
}

/// The link and the address of a permanent neighbour.
pub(crate) fn permanent_neighbour(reply: &RouteNetlinkMessage) -> Option<(u32, IpAddr)> {
    let RouteNetlinkMessage::NewNeighbour(message) = reply else {
        return None;
    };
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let address = message.attributes.iter().find_map(|it| match it {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::from(*ip)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::from(*ip)),
        _ => None,
    });
    Some((message.header.ifindex, address?))
}
