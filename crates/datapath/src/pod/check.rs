//! Looking whether a pod's link is still as it was made. Nothing is changed.

use std::net::IpAddr;

use ipnet::IpNet;

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};
use rtnetlink::packet_route::rule::RuleAttribute;

use super::PodError;
use super::present::{addresses_of, get, inside};
use crate::layout::{self, Mac, POD_GATEWAY, POD_GATEWAY_V6, PODS_TABLE, RULE_PODS};
use crate::netlink::KernelError;
use crate::netns::NetNs;
use crate::rtnl::{self, Rtnl};

/// What should be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The sandbox's id (`CNI_CONTAINERID`).
    pub container_id: String,
    /// The interface's name in the pod (`CNI_IFNAME`).
    pub ifname: String,
    /// The MAC of the pod's end: others may have changed it since it was made, and said so.
    pub pod_mac: Mac,
    /// The pod's addresses; it may have more by now.
    pub addresses: Vec<IpAddr>,
}

/// What is not as it was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A link is gone.
    #[error("link {name} {place} is gone")]
    NoLink {
        /// Its name.
        name: String,
        /// `in the pod`, `on the host`.
        place: &'static str,
    },
    /// A link is down.
    #[error("link {name} {place} is down")]
    Down {
        /// Its name.
        name: String,
        /// `in the pod`, `on the host`.
        place: &'static str,
    },
    /// A link has another MAC.
    #[error("link {name} {place} has not the MAC {expected}")]
    Mac {
        /// Its name.
        name: String,
        /// `in the pod`, `on the host`.
        place: &'static str,
        /// What its neighbours send to.
        expected: Mac,
    },
    /// The pod has lost an address.
    #[error("the pod's link has not the address {0}")]
    Address(IpAddr),
    /// The pod has no address by which its node translates what it sends to the other family.
    #[error(
        "the pod's link has no address of {0}, by which it reaches what it has no VPC address for"
    )]
    NoEgress(IpNet),
    /// The pod has no way out.
    #[error("the pod has no default route by {0}")]
    DefaultRoute(IpAddr),
    /// The pod does not know its gateway.
    #[error("the pod does not know its gateway {0} by the MAC {1}")]
    Gateway(IpAddr, Mac),
    /// The host does not send the pod its packets.
    #[error("the host has no route to {0} in table {1}")]
    HostRoute(IpAddr, u32),
    /// The host does not know the pod.
    #[error("the host does not know {0} by the MAC {1}")]
    HostNeighbour(IpAddr, Mac),
    /// The host does not look at its routes to pods.
    #[error("the host has no rule {RULE_PODS}: from all lookup {PODS_TABLE} ({0})")]
    PodsRule(&'static str),
}

const POD: &str = "in the pod";
const HOST: &str = "on the host";

/// Whatever is not as [`connect`](super::connect) makes it. What others have added does not count, nor an MTU that
/// they have changed.
///
/// # Errors
/// When the namespace can't be entered, or the kernel does not answer.
pub async fn check(netns: &NetNs, expected: &Expected) -> Result<Vec<Fault>, PodError> {
    let Expected {
        container_id,
        ifname,
        ..
    } = expected;
    let (host_mac, _) = layout::link_macs(container_id, ifname);
    let host_veth = layout::host_veth_name(container_id, ifname);
    let (host, pod) = (rtnl::open()?, inside(netns)?);
    let mut faults = Vec::new();

    let pod_end = get(&pod, ifname).await?;
    let pod_link = has_link(&mut faults, pod_end, ifname, POD, expected.pod_mac);
    let host_end = get(&host, &host_veth).await?;
    let host_link = has_link(&mut faults, host_end, &host_veth, HOST, host_mac);
    if let Some(link) = pod_link {
        let has = addresses_of(&pod, link).await?;
        let lost = expected.addresses.iter();
        let lost = lost.filter(|address| !has.contains(&IpNet::from(**address)));
        faults.extend(lost.map(|address| Fault::Address(*address)));
    }
    for (family, name, gateway, is_of) in FAMILIES {
        let addresses: Vec<_> = expected.addresses.iter().filter(|ip| is_of(ip)).collect();
        if addresses.is_empty() {
            continue;
        }
        if let Some(link) = pod_link {
            let main = layout::MAIN_TABLE;
            let out = routes(&pod, family, main, link).await?;
            if !leads(&out, None, Some(gateway)) {
                faults.push(Fault::DefaultRoute(gateway));
            }
            if !knows(&neighbours(&pod, family, link).await?, gateway, host_mac) {
                faults.push(Fault::Gateway(gateway, host_mac));
            }
        }
        if let Some(link) = host_link {
            let routes = routes(&host, family, PODS_TABLE, link).await?;
            let neighbours = neighbours(&host, family, link).await?;
            for address in addresses {
                if !leads(&routes, Some(*address), None) {
                    faults.push(Fault::HostRoute(*address, PODS_TABLE));
                }
                if !knows(&neighbours, *address, expected.pod_mac) {
                    faults.push(Fault::HostNeighbour(*address, expected.pod_mac));
                }
            }
        }
        if !has_pods_rule(&host, family).await? {
            faults.push(Fault::PodsRule(name));
        }
    }
    Ok(faults)
}

pub(super) type IsOf = fn(&IpAddr) -> bool;

pub(super) const FAMILIES: [(AddressFamily, &str, IpAddr, IsOf); 2] = [
    (
        AddressFamily::Inet,
        "IPv4",
        IpAddr::V4(POD_GATEWAY),
        IpAddr::is_ipv4,
    ),
    (
        AddressFamily::Inet6,
        "IPv6",
        IpAddr::V6(POD_GATEWAY_V6),
        IpAddr::is_ipv6,
    ),
];

/// The link's index, if it is there.
fn has_link(
    faults: &mut Vec<Fault>,
    link: Option<LinkMessage>,
    name: &str,
    place: &'static str,
    expected: Mac,
) -> Option<u32> {
    let name = name.to_owned();
    let Some(link) = link else {
        faults.push(Fault::NoLink { name, place });
        return None;
    };
    let mac = LinkAttribute::Address(expected.0.to_vec());
    if !link.attributes.contains(&mac) {
        faults.push(Fault::Mac {
            name: name.clone(),
            place,
            expected,
        });
    }
    if !link.header.flags.contains(LinkFlags::Up) {
        faults.push(Fault::Down { name, place });
    }
    Some(link.header.index)
}

/// The routes of a table that lead to a link.
pub(super) async fn routes(
    side: &Rtnl,
    family: AddressFamily,
    table: u32,
    link: u32,
) -> Result<Vec<RouteMessage>, KernelError> {
    let what = format!("list the routes of table {table}");
    let filter = rtnl::routes_in(family, table, Some(link));
    let routes = side.dump(&what, filter).await?.into_iter();
    let oif = RouteAttribute::Oif(link);
    Ok(routes
        .filter_map(|reply| match reply {
            RouteNetlinkMessage::NewRoute(route) => Some(route),
            _ => None,
        })
        .filter(|route| route.attributes.contains(&oif))
        .collect())
}

/// Whether one of them leads to this host (or anywhere), by this gateway (or directly).
pub(super) fn leads(routes: &[RouteMessage], to: Option<IpAddr>, gateway: Option<IpAddr>) -> bool {
    let destination = to.map(|to| RouteAttribute::Destination(to.into()));
    let length = to.map_or(0, |to| IpNet::from(to).prefix_len());
    let gateway = gateway.map(|gateway| RouteAttribute::Gateway(gateway.into()));
    routes.iter().any(|route| {
        let mut wanted = destination.iter().chain(&gateway);
        route.header.destination_prefix_length == length
            && wanted.all(|it| route.attributes.contains(it))
    })
}

pub(super) async fn neighbours(
    side: &Rtnl,
    family: AddressFamily,
    link: u32,
) -> Result<Vec<NeighbourMessage>, KernelError> {
    let mut filter = NeighbourMessage::default();
    filter.header.family = family;
    let request = RouteNetlinkMessage::GetNeighbour(filter);
    let listed = side.dump("list the neighbours", request).await?;
    let neighbours = listed.into_iter().filter_map(|reply| match reply {
        RouteNetlinkMessage::NewNeighbour(neighbour) => Some(neighbour),
        _ => None,
    });
    Ok(neighbours
        .filter(|neighbour| neighbour.header.ifindex == link)
        .collect())
}

pub(super) fn knows(neighbours: &[NeighbourMessage], host: IpAddr, mac: Mac) -> bool {
    let at = NeighbourAttribute::Destination(match host {
        IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
        IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
    });
    let by = NeighbourAttribute::LinkLayerAddress(mac.0.to_vec());
    neighbours.iter().any(|neighbour| {
        neighbour.header.state == NeighbourState::Permanent
            && neighbour.attributes.contains(&at)
            && neighbour.attributes.contains(&by)
    })
}

async fn has_pods_rule(host: &Rtnl, family: AddressFamily) -> Result<bool, KernelError> {
    let listed = host.dump("list the rules", rtnl::rules(family)).await?;
    let wanted = [
        RuleAttribute::Priority(RULE_PODS),
        RuleAttribute::Table(PODS_TABLE),
    ];
    Ok(listed.iter().any(|reply| match reply {
        RouteNetlinkMessage::NewRule(rule) => wanted.iter().all(|it| rule.attributes.contains(it)),
        _ => false,
    }))
}
