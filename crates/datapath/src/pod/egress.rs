//! A way out for pods to the family that they have no address of the VPC in: an address that is good on this node alone,
//! and that the node translates to its own ([`Host::prepare_egress`](crate::Host::prepare_egress)).
//!
//! Nobody keeps books on these addresses. A pod has the one that the host has a route for to its link: the kernel lets
//! one link have it, and takes the route away with the link.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressFlags;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rustix::io::Errno;

use super::check::{Expected, Fault, knows, leads, neighbours, routes};
use super::present::{absent, addresses_of, get, inside};
use super::{MAIN_TABLE, PodError, PodWiring, Sides, allow_ipv6, to, way_out};
use crate::layout::{self, LEAST_MTU_V6, POD_GATEWAY, POD_GATEWAY_V6};
use crate::netlink::KernelError;
use crate::netns::NetNs;
use crate::rtnl::{self, Rtnl, Way};

/// The family that pods without it reach by their node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Egress {
    /// IPv4, for pods with IPv6 alone.
    V4,
    /// IPv6, for pods with IPv4 alone.
    V6,
}

/// How many addresses a range has for pods. All but its first and its last.
const ADDRESSES: u16 = 1022;

impl Egress {
    /// The addresses, aws-node's: good on one node, so every node has the same.
    #[must_use]
    pub const fn range(self) -> IpNet {
        match self {
            Self::V4 => IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 172, 0), 22)),
            Self::V6 => IpNet::V6(Ipv6Net::new_assert(
                Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0xac, 0),
                118,
            )),
        }
    }

    /// Whether a pod with these addresses lacks the family.
    #[must_use]
    pub fn is_for(self, addresses: &[IpAddr]) -> bool {
        let ipv4 = self == Self::V4;
        addresses.iter().all(|address| address.is_ipv4() != ipv4)
    }

    /// The range's addresses, each once, from one on that the link's name gives: two pods seldom want the same.
    fn candidates(self, wiring: &PodWiring) -> impl Iterator<Item = IpAddr> {
        let [.., high, low] = wiring.host_mac.0;
        // The last bit tells the ends of a link apart, and says nothing.
        let first = u16::from_be_bytes([high, low]) >> 1;
        (0..ADDRESSES).map(move |step| {
            let number = 1 + (first % ADDRESSES + step) % ADDRESSES;
            match self.range() {
                IpNet::V4(net) => {
                    Ipv4Addr::from(u32::from(net.network()) + u32::from(number)).into()
                }
                IpNet::V6(net) => {
                    Ipv6Addr::from(u128::from(net.network()) + u128::from(number)).into()
                }
            }
        })
    }

    pub(crate) const fn family(self) -> AddressFamily {
        match self {
            Self::V4 => AddressFamily::Inet,
            Self::V6 => AddressFamily::Inet6,
        }
    }

    const fn gateway(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(POD_GATEWAY),
            Self::V6 => IpAddr::V6(POD_GATEWAY_V6),
        }
    }
}

/// Whether the address is one of those, of either family.
pub(super) fn is_local(net: &IpNet) -> bool {
    [Egress::V4, Egress::V6]
        .iter()
        .any(|egress| egress.range().contains(&net.addr()))
}

/// Gives a pod that [`Sides::wire`] has wired an address of the range, the first that no other pod has,
/// and answers it. On failure the link may have some of it: delete it.
///
/// # Errors
/// When all addresses are taken, the link has no IPv6 for its MTU, or the kernel refuses a step.
pub async fn connect(
    sides: &Sides<'_>,
    ifname: &str,
    wiring: &PodWiring,
    egress: Egress,
) -> Result<IpAddr, PodError> {
    let Sides { netns, host, pod } = sides;
    let host_index = link(host, &wiring.host_veth).await?.header.index;
    let pod_link = link(pod, ifname).await?;
    let pod_index = pod_link.header.index;
    if egress == Egress::V6 {
        // Both ends were made for IPv4 alone.
        if let Some(mtu) = mtu_of(&pod_link).filter(|mtu| *mtu < LEAST_MTU_V6) {
            return Err(PodError::MtuTooSmall(mtu));
        }
        allow_ipv6(netns, ifname, &wiring.host_veth)?;
    }

    let address = claim(host, host_index, wiring, egress).await?;
    let gateway = egress.gateway();
    let mut steps = vec![rtnl::add_address(
        pod_index,
        IpNet::from(address),
        match egress {
            Egress::V4 => AddressFlags::empty(),
            Egress::V6 => AddressFlags::Noprefixroute,
        },
    )];
    let all: IpNet = match egress {
        Egress::V4 => {
            let way = Way::Link { index: pod_index };
            steps.push(to(IpNet::from(gateway), MAIN_TABLE, way).add());
            Ipv4Net::default().into()
        }
        Egress::V6 => Ipv6Net::default().into(),
    };
    steps.extend(way_out(all, gateway, pod_index, wiring));
    pod.run(steps).await?;
    let known = rtnl::permanent_neighbour(host_index, address, wiring.pod_mac);
    host.run(vec![known]).await?;
    Ok(address)
}

/// Takes the first address that is free: its route is in the main table, as the VPC's are in the pods' own, and the kernel
/// refuses a second one.
async fn claim(
    host: &Rtnl,
    index: u32,
    wiring: &PodWiring,
    egress: Egress,
) -> Result<IpAddr, PodError> {
    for address in egress.candidates(wiring) {
        let way = Way::Link { index };
        let route = to(IpNet::from(address), MAIN_TABLE, way).add();
        match host.run(vec![route]).await {
            Ok(_) => return Ok(address),
            Err(error) if error.errno() == Some(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(PodError::NoEgress(egress.range()))
}

/// The address that the pod has of the range, if any.
///
/// # Errors
/// When the namespace can't be entered, or the kernel does not answer.
pub async fn find(netns: &NetNs, ifname: &str, egress: Egress) -> Result<Option<IpAddr>, PodError> {
    let pod = inside(netns)?;
    let Some(link) = get(&pod, ifname).await? else {
        return Ok(None);
    };
    let addresses = addresses_of(&pod, link.header.index).await?;
    let mut addresses = addresses.iter().map(IpNet::addr);
    Ok(addresses.find(|address| egress.range().contains(address)))
}

/// Whatever is not as [`connect`] makes it. Nothing is changed; a link that is gone is for [`check`](super::check) to tell.
///
/// # Errors
/// When the namespace can't be entered, or the kernel does not answer.
pub async fn check(
    netns: &NetNs,
    expected: &Expected,
    egress: Egress,
) -> Result<Vec<Fault>, PodError> {
    let Expected {
        container_id,
        ifname,
        pod_mac,
        ..
    } = expected;
    let Some(address) = find(netns, ifname, egress).await? else {
        return Ok(vec![Fault::NoEgress(egress.range())]);
    };
    let (host_mac, _) = layout::link_macs(container_id, ifname);
    let host_veth = layout::host_veth_name(container_id, ifname);
    let (host, pod) = (rtnl::open()?, inside(netns)?);
    let (family, gateway) = (egress.family(), egress.gateway());
    let mut faults = Vec::new();
    if let Some(link) = get(&pod, ifname).await? {
        let link = link.header.index;
        if !leads(
            &routes(&pod, family, MAIN_TABLE, link).await?,
            None,
            Some(gateway),
        ) {
            faults.push(Fault::DefaultRoute(gateway));
        }
        if !knows(&neighbours(&pod, family, link).await?, gateway, host_mac) {
            faults.push(Fault::Gateway(gateway, host_mac));
        }
    }
    if let Some(link) = get(&host, &host_veth).await? {
        let link = link.header.index;
        let routes = routes(&host, family, MAIN_TABLE, link).await?;
        if !leads(&routes, Some(address), None) {
            faults.push(Fault::HostRoute(address, MAIN_TABLE));
        }
        if !knows(&neighbours(&host, family, link).await?, address, *pod_mac) {
            faults.push(Fault::HostNeighbour(address, *pod_mac));
        }
    }
    Ok(faults)
}

async fn link(side: &Rtnl, name: &str) -> Result<LinkMessage, KernelError> {
    get(side, name).await?.ok_or_else(|| absent(name))
}

fn mtu_of(link: &LinkMessage) -> Option<u32> {
    let mut attributes = link.attributes.iter();
    attributes.find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn wiring(container_id: &str) -> PodWiring {
        let (host_mac, pod_mac) = layout::link_macs(container_id, "eth0");
        PodWiring {
            host_veth: layout::host_veth_name(container_id, "eth0"),
            host_mac,
            pod_mac,
        }
    }

    #[test]
    fn each_address_of_the_range_is_tried_once_from_one_on_that_the_link_gives() {
        for egress in [Egress::V4, Egress::V6] {
            let of = |id: &str| egress.candidates(&wiring(id)).collect::<Vec<_>>();
            let tried = of("c1");
            assert_eq!(tried, of("c1"));
            assert_ne!(tried[0], of("c2")[0]);
            assert!(tried.iter().all(|address| egress.range().contains(address)));
            let distinct: BTreeSet<_> = tried.iter().collect();
            assert_eq!(distinct.len(), usize::from(ADDRESSES));
        }
    }

    #[test]
    fn only_a_pod_without_the_family_needs_it() {
        let (v4, v6) = ("10.0.1.7".parse().unwrap(), "2001:db8::7".parse().unwrap());
        assert!(Egress::V4.is_for(&[v6]) && Egress::V6.is_for(&[v4]));
        assert!(!Egress::V4.is_for(&[v4]) && !Egress::V6.is_for(&[v6]));
        assert!(!Egress::V4.is_for(&[v4, v6]) && !Egress::V6.is_for(&[v4, v6]));
    }
}
