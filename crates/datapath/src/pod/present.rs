//! Looking whether a pod's link is there already. Nothing is changed.

use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::RouteAttribute;
use rustix::io::Errno;

use super::check::{FAMILIES, routes};
use super::{PodError, PodLink, PodWiring, egress};
use crate::layout::{self, Mac, PODS_TABLE};
use crate::netlink::KernelError;
use crate::netns::NetNs;
use crate::rtnl::{self, Rtnl, Step};

/// The wiring, if the pod's link stands as [`connect`](super::connect) makes it: both ends are up, with the
/// MACs that the container's id gives and this MTU, the pod's end has these addresses and no others, and the
/// host has a route to each, which is the last thing that `connect` makes.
///
/// # Errors
/// When the namespace can't be entered, or the kernel refuses.
pub async fn find(netns: &NetNs, link: &PodLink) -> Result<Option<PodWiring>, PodError> {
    let (host_mac, pod_mac) = layout::link_macs(&link.container_id, &link.ifname);
    let host_veth = layout::host_veth_name(&link.container_id, &link.ifname);
    let (host, pod) = (rtnl::open()?, inside(netns)?);
    let (Some(host_end), Some(pod_end)) = (
        get(&host, &host_veth).await?,
        get(&pod, &link.ifname).await?,
    ) else {
        return Ok(None);
    };
    let host_veth = name_of(&host_end).unwrap_or(host_veth);
    let intact = is_end(&host_end, host_mac, link.mtu)
        && is_end(&pod_end, pod_mac, link.mtu)
        && has_addresses(&pod, pod_end.header.index, link).await?
        && has_routes(&host, host_end.header.index, link).await?;
    Ok(intact.then_some(PodWiring {
        host_veth,
        host_mac,
        pod_mac,
    }))
}

/// A link's own name: it may have been found by another.
fn name_of(link: &LinkMessage) -> Option<String> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        })
}

pub(super) fn inside(netns: &NetNs) -> Result<Rtnl, PodError> {
    Ok(netns.inside(rtnl::open).map_err(PodError::Enter)??)
}

pub(super) async fn get(side: &Rtnl, name: &str) -> Result<Option<LinkMessage>, KernelError> {
    match side.run(vec![ask(name)]).await {
        Ok(found) => Ok(rtnl::link_of(found)),
        Err(error) if error.errno() == Some(Errno::NODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn ask(name: &str) -> Step {
    rtnl::get_link(finding(name), rtnl::named(name))
}

/// What the kernel says of a link that there is not.
pub(super) fn absent(name: &str) -> KernelError {
    KernelError::Refused {
        what: finding(name),
        errno: Errno::NODEV,
        text: String::new(),
    }
}

fn finding(name: &str) -> String {
    format!("find link {name}")
}

/// The MAC tells that it is the link of this container, and not another's of the same name.
fn is_end(link: &LinkMessage, mac: Mac, mtu: u32) -> bool {
    let has = |wanted: &LinkAttribute| link.attributes.contains(wanted);
    link.header.flags.contains(LinkFlags::Up)
        && has(&LinkAttribute::Address(mac.0.to_vec()))
        && has(&LinkAttribute::Mtu(mtu))
}

async fn has_addresses(pod: &Rtnl, index: u32, link: &PodLink) -> Result<bool, KernelError> {
    let mut found = addresses_of(pod, index).await?;
    let mut wanted: Vec<_> = link.addresses.iter().map(|ip| IpNet::from(*ip)).collect();
    wanted.sort_unstable();
    found.retain(|net| !egress::is_local(net));
    found.sort_unstable();
    Ok(found == wanted)
}

/// A link's addresses, each with its prefix length; not those that are good on the link alone.
pub(super) async fn addresses_of(pod: &Rtnl, index: u32) -> Result<Vec<IpNet>, KernelError> {
    let filter = rtnl::addresses_of(index, AddressFamily::Unspec);
    let listed = pod.dump("list the pod's addresses", filter).await?;
    Ok(listed
        .into_iter()
        .filter_map(|reply| rtnl::global_address(reply, index))
        .collect())
}

async fn has_routes(host: &Rtnl, index: u32, link: &PodLink) -> Result<bool, KernelError> {
    let mut found = Vec::new();
    for (family, _, _, is_of) in FAMILIES {
        if link.has(is_of) {
            found.extend(routes(host, family, PODS_TABLE, index).await?);
        }
    }
    Ok(link.addresses.iter().all(|address| {
        let to = RouteAttribute::Destination((*address).into());
        found.iter().any(|route| route.attributes.contains(&to))
    }))
}
