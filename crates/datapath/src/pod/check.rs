//! Looking whether a pod's link is still as it was made. Nothing is changed.

use std::net::Ipv4Addr;

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::packet_route::rule::{RuleAttribute, RuleMessage};

use super::PodError;
use super::present::{addresses_of, get, inside};
use crate::layout::{self, Mac, POD_GATEWAY, PODS_TABLE, RULE_PODS};
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
    pub addresses: Vec<Ipv4Addr>,
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
    Address(Ipv4Addr),
    /// The pod has no way out.
    #[error("the pod has no default route by {POD_GATEWAY}")]
    DefaultRoute,
    /// The pod does not know its gateway.
    #[error("the pod does not know its gateway {POD_GATEWAY} by the MAC {0}")]
    Gateway(Mac),
    /// The host does not send the pod its packets.
    #[error("the host has no route to {0} in table {PODS_TABLE}")]
    HostRoute(Ipv4Addr),
    /// The host does not know the pod.
    #[error("the host does not know {0} by the MAC {1}")]
    HostNeighbour(Ipv4Addr, Mac),
    /// The host does not look at its routes to pods.
    #[error("the host has no rule {RULE_PODS}: from all lookup {PODS_TABLE}")]
    PodsRule,
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
    if let Some(link) = has_link(&mut faults, pod_end, ifname, POD, expected.pod_mac) {
        let has = addresses_of(&pod, link).await?;
        let lost = expected.addresses.iter();
        let lost = lost.filter(|address| !has.contains(&(Some(**address), 32)));
        faults.extend(lost.map(|address| Fault::Address(*address)));
        let main = layout::eni_table(0);
        if !leads(&routes(&pod, main, link).await?, None, Some(POD_GATEWAY)) {
            faults.push(Fault::DefaultRoute);
        }
        if !knows(&neighbours(&pod, link).await?, POD_GATEWAY, host_mac) {
            faults.push(Fault::Gateway(host_mac));
        }
    }

    let host_end = get(&host, &host_veth).await?;
    if let Some(link) = has_link(&mut faults, host_end, &host_veth, HOST, host_mac) {
        let routes = routes(&host, PODS_TABLE, link).await?;
        let neighbours = neighbours(&host, link).await?;
        for address in &expected.addresses {
            if !leads(&routes, Some(*address), None) {
                faults.push(Fault::HostRoute(*address));
            }
            if !knows(&neighbours, *address, expected.pod_mac) {
                faults.push(Fault::HostNeighbour(*address, expected.pod_mac));
            }
        }
    }
    if !has_pods_rule(&host).await? {
        faults.push(Fault::PodsRule);
    }
    Ok(faults)
}

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

async fn routes(side: &Rtnl, table: u32, link: u32) -> Result<Vec<RouteMessage>, KernelError> {
    let what = format!("list the routes of table {table}");
    let listed = side.dump(&what, rtnl::routes_in(table, Some(link))).await?;
    let routes = listed.into_iter().filter_map(|reply| match reply {
        RouteNetlinkMessage::NewRoute(route) => Some(route),
        _ => None,
    });
    let oif = RouteAttribute::Oif(link);
    Ok(routes
        .filter(|route| route.attributes.contains(&oif))
        .collect())
}

/// Whether one of them leads to this host (or anywhere), by this gateway (or directly).
fn leads(routes: &[RouteMessage], to: Option<Ipv4Addr>, gateway: Option<Ipv4Addr>) -> bool {
    routes.iter().any(|route| {
        let address = |ip: Ipv4Addr| RouteAddress::Inet(ip);
        let length = if to.is_some() { 32 } else { 0 };
        let is_there = to.is_none_or(|to| {
            let destination = RouteAttribute::Destination(address(to));
            route.attributes.contains(&destination)
        });
        let by = gateway.is_none_or(|gateway| {
            let gateway = RouteAttribute::Gateway(address(gateway));
            route.attributes.contains(&gateway)
        });
        route.header.destination_prefix_length == length && is_there && by
    })
}

async fn neighbours(side: &Rtnl, link: u32) -> Result<Vec<NeighbourMessage>, KernelError> {
    let mut filter = NeighbourMessage::default();
    filter.header.family = AddressFamily::Inet;
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

fn knows(neighbours: &[NeighbourMessage], host: Ipv4Addr, mac: Mac) -> bool {
    let at = NeighbourAttribute::Destination(NeighbourAddress::Inet(host));
    let by = NeighbourAttribute::LinkLayerAddress(mac.0.to_vec());
    neighbours.iter().any(|neighbour| {
        neighbour.header.state == NeighbourState::Permanent
            && neighbour.attributes.contains(&at)
            && neighbour.attributes.contains(&by)
    })
}

async fn has_pods_rule(host: &Rtnl) -> Result<bool, KernelError> {
    let mut filter = RuleMessage::default();
    filter.header.family = AddressFamily::Inet;
    let request = RouteNetlinkMessage::GetRule(filter);
    let listed = host.dump("list the rules", request).await?;
    let priority = RuleAttribute::Priority(RULE_PODS);
    let table = RuleAttribute::Table(PODS_TABLE);
    Ok(listed.iter().any(|reply| match reply {
        RouteNetlinkMessage::NewRule(rule) => {
            rule.attributes.contains(&priority) && rule.attributes.contains(&table)
        }
        _ => false,
    }))
}
