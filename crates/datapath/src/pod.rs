//! One pod's link: made in one go, gone with one link.

mod check;
pub mod egress;
mod make;
mod present;
mod wait;

use std::io;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rtnetlink::packet_route::address::AddressFlags;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rustix::io::Errno;

use crate::layout::{
    self, LEAST_MTU_V6, MAIN_TABLE, Mac, POD_GATEWAY, POD_GATEWAY_V6, PODS_TABLE, VethPrefix,
};
use crate::netlink::KernelError;
use crate::netns::NetNs;
use crate::rtnl::{self, Route, Rtnl, Step, Way};
use crate::sysctl::{self, IfAbsent, SysctlError};

pub use check::{Expected, Fault, check};
pub use make::{Ends, NewLink};
pub use present::find;

/// The link to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodLink {
    /// The sandbox's id (`CNI_CONTAINERID`).
    pub container_id: String,
    /// The interface's name in the pod (`CNI_IFNAME`).
    pub ifname: String,
    /// What the name of the host's end begins with.
    pub veth_prefix: VethPrefix,
    /// The alias of the host's end, for people: `namespace/name` of the pod. Cut at the kernel's 255 bytes.
    pub alias: String,
    /// The pod's addresses, at least one, each a /32 or /128. The first of a family is the source of what the pod sends.
    pub addresses: Vec<IpAddr>,
    /// The MTU of both ends, in bytes. IPv6 needs [`LEAST_MTU_V6`].
    pub mtu: u32,
}

/// The link that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodWiring {
    /// The name of the host's end.
    pub host_veth: String,
    /// The MAC of the host's end.
    pub host_mac: Mac,
    /// The MAC of the pod's end.
    pub pod_mac: Mac,
}

/// Why a pod could not be wired or unwired. After an error of [`connect`] nothing of it is left, unless the
/// error is [`PodError::RollBack`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PodError {
    /// The pod has an interface of this name already. Nothing was changed.
    #[error(
        "interface {0} exists already in the pod's network namespace: delete the sandbox first"
    )]
    InterfaceExists(String),
    /// No address was given.
    #[error("the pod has no address: at least one is needed")]
    NoAddress,
    /// A pod can't have this address.
    #[error(
        "{0} can't be a pod's address: it must be one host's, and neither loopback nor link-local"
    )]
    BadAddress(IpAddr),
    /// The link would have no IPv6.
    #[error("a link with an MTU of {0} bytes has no IPv6: it needs {LEAST_MTU_V6}")]
    MtuTooSmall(u32),
    /// All addresses for pods without the family are taken.
    #[error(
        "all addresses of {0} are taken by this node's pods: run fewer of them here, or give pods both families"
    )]
    NoEgress(IpNet),
    /// The kernel refused a step.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A setting could not be written.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// The pod's network namespace could not be entered.
    #[error("the pod's network namespace could not be entered: it needs CAP_SYS_ADMIN")]
    Enter(#[source] io::Error),
    /// A step failed, and then the deletion of the link: it is left behind.
    #[error(
        "{failure}; and host link {host_veth} is left behind ({roll_back}): delete the sandbox"
    )]
    RollBack {
        /// The host's end of the link that is left.
        host_veth: String,
        /// Why wiring failed.
        failure: Box<PodError>,
        /// Why the link could not be deleted.
        #[source]
        roll_back: KernelError,
    },
}

/// The two sides of a pod's link: the pod's network namespace and the node's own, with a netlink socket in each.
#[derive(Debug)]
pub struct Sides<'a> {
    netns: &'a NetNs,
    host: Rtnl,
    pod: Rtnl,
}

/// Wires a pod: makes its link and wires it, in one go.
///
/// # Errors
/// As [`Sides::make`] and [`Sides::wire`].
pub async fn connect(netns: &NetNs, link: &PodLink) -> Result<PodWiring, PodError> {
    validate(link)?;
    let sides = Sides::open(netns)?;
    let ends = sides.make(&link.to_make()).await?;
    sides.wire(ends, link).await
}

impl<'a> Sides<'a> {
    /// Opens a socket in each.
    ///
    /// # Errors
    /// When the pod's namespace can't be entered, or the kernel refuses.
    pub fn open(netns: &'a NetNs) -> Result<Self, PodError> {
        Ok(Self {
            netns,
            host: rtnl::open()?,
            pod: present::inside(netns)?,
        })
    }

    /// Whether the pod has a link of this name, whoever made it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn has(&self, ifname: &str) -> Result<bool, PodError> {
        Ok(present::get(&self.pod, ifname).await?.is_some())
    }

    /// Wires the link: the pod's addresses, routes and neighbour, and a route and a neighbour for each address on the host. On
    /// failure nothing is left, the link neither. Dropped half-way it leaves its link, which [`disconnect`] deletes.
    ///
    /// # Errors
    /// When a pod can't have these addresses, or the kernel refuses a step: the error says which.
    pub async fn wire(&self, ends: Ends, link: &PodLink) -> Result<PodWiring, PodError> {
        let wired = match validate(link) {
            Ok(()) => self.wire_valid(&ends, link).await,
            invalid => invalid,
        };
        let wiring = ends.wiring;
        match wired {
            Ok(()) => Ok(wiring),
            Err(failure) => Err(self.undo(&wiring, failure).await),
        }
    }

    /// Deletes a link that was not wired.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn unmake(&self, ends: Ends) -> Result<(), PodError> {
        delete(&self.host, &ends.wiring.host_veth).await?;
        Ok(())
    }

    /// Deletes a link because of a failure, which it answers; as [`PodError::RollBack`] if the link can't be deleted.
    pub async fn undo(&self, wiring: &PodWiring, failure: PodError) -> PodError {
        match delete(&self.host, &wiring.host_veth).await {
            Ok(_) => failure,
            Err(roll_back) => PodError::RollBack {
                host_veth: wiring.host_veth.clone(),
                failure: Box::new(failure),
                roll_back,
            },
        }
    }

    /// Tells each side how to reach the other.
    async fn wire_valid(&self, ends: &Ends, link: &PodLink) -> Result<(), PodError> {
        let Self { netns, host, pod } = self;
        let Ends { wiring, .. } = ends;
        let ipv6 = link.has(IpAddr::is_ipv6);
        if ipv6 {
            allow_ipv6(netns, &link.ifname, &wiring.host_veth)?;
        }
        let (pod_index, host_index) = (ends.pod.header.index, ends.host.header.index);

        // In this order: the kernel takes a gateway only behind an interface that is up and has an address.
        let mut steps: Vec<_> = give_mtu(&ends.pod, link.mtu).into_iter().collect();
        for address in &link.addresses {
            // The kernel adds a route to an IPv6 address itself, which nothing needs.
            let flags = match address {
                IpAddr::V4(_) => AddressFlags::empty(),
                IpAddr::V6(_) => AddressFlags::Noprefixroute,
            };
            steps.push(rtnl::add_address(pod_index, IpNet::from(*address), flags));
        }
        if link.has(IpAddr::is_ipv4) {
            let gateway = POD_GATEWAY.into();
            let link = Way::Link { index: pod_index };
            steps.push(to(IpNet::from(gateway), MAIN_TABLE, link).add());
            let all = Ipv4Net::default().into();
            steps.extend(way_out(all, gateway, pod_index, wiring));
        }
        if ipv6 {
            // A link-local gateway is behind its link without a route that says so.
            let all = Ipv6Net::default().into();
            steps.extend(way_out(all, POD_GATEWAY_V6.into(), pod_index, wiring));
        }
        pod.run(steps).await?;

        // Last: from here on the node sends the pod its packets.
        let mut steps: Vec<_> = give_mtu(&ends.host, link.mtu).into_iter().collect();
        for address in &link.addresses {
            let way = Way::Link { index: host_index };
            let known = rtnl::permanent_neighbour(host_index, *address, wiring.pod_mac);
            steps.extend([known, to(IpNet::from(*address), PODS_TABLE, way).put()]);
        }
        host.run(steps).await?;
        wait::until_it_sends(host, &ends.host).await?;
        // The kernel makes it when it notes the carrier. Nobody sends a pod multicast.
        host.run(vec![rtnl::delete_multicast_route(host_index)])
            .await?;
        for address in link.addresses.iter().filter(|address| address.is_ipv6()) {
            wait::until_it_receives(pod, *address).await?;
        }
        Ok(())
    }
}

/// What the kernel would take, and then send nothing to the pod, or everything.
fn validate(link: &PodLink) -> Result<(), PodError> {
    let mut addresses = link.addresses.iter();
    if link.addresses.is_empty() {
        return Err(PodError::NoAddress);
    }
    if let Some(bad) = addresses.find(|address| !is_host_address(**address)) {
        return Err(PodError::BadAddress(*bad));
    }
    if link.has(IpAddr::is_ipv6) && link.mtu < LEAST_MTU_V6 {
        return Err(PodError::MtuTooSmall(link.mtu));
    }
    Ok(())
}

/// Unwires a pod by deleting the host's end of its link; routes and neighbours go with it. Needs no network
/// namespace. Finds it also if it was made with another prefix. Returns whether there was such a link.
///
/// # Errors
/// When the kernel refuses.
pub async fn disconnect(
    veth_prefix: &VethPrefix,
    container_id: &str,
    ifname: &str,
) -> Result<bool, PodError> {
    let host = rtnl::open()?;
    Ok(delete_any(&host, veth_prefix, container_id, ifname).await?)
}

impl PodLink {
    fn to_make(&self) -> NewLink<'_> {
        NewLink {
            container_id: &self.container_id,
            ifname: &self.ifname,
            veth_prefix: &self.veth_prefix,
            alias: &self.alias,
            mtu: self.mtu,
        }
    }

    fn has(&self, family: fn(&IpAddr) -> bool) -> bool {
        self.addresses.iter().any(family)
    }
}

fn is_host_address(address: IpAddr) -> bool {
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        return false;
    }
    match address {
        IpAddr::V4(address) => !(address.is_link_local() || address.is_broadcast()),
        IpAddr::V6(address) => {
            !(address.is_unicast_link_local() || address.to_ipv4_mapped().is_some())
        }
    }
}

/// All that the pod sends goes to the gateway, which is the host's end of its link.
fn way_out(all: IpNet, gateway: IpAddr, index: u32, wiring: &PodWiring) -> [Step; 2] {
    [
        to(all, MAIN_TABLE, Way::Via { gateway, index }).add(),
        rtnl::permanent_neighbour(index, gateway, wiring.host_mac),
    ]
}

fn to(destination: IpNet, table: u32, way: Way) -> Route {
    Route {
        destination,
        table,
        way,
    }
}

/// Lets both ends of a link have IPv6, before either has an address: a pod must not be able to configure its node by router
/// advertisements or redirects, nor the node the pod.
fn allow_ipv6(netns: &NetNs, ifname: &str, host_veth: &str) -> Result<(), PodError> {
    quieten(host_veth)?;
    let inside = netns.inside(|| {
        quieten(ifname)?;
        // `::1`, which some runtimes take away with all of IPv6.
        sysctl::set("ipv6/conf/lo/disable_ipv6", "0", IfAbsent::Fail)
    });
    Ok(inside.map_err(PodError::Enter)??)
}

fn quieten(link: &str) -> Result<(), SysctlError> {
    let settings = ["disable_ipv6", "accept_redirects", "accept_ra"];
    sysctl::set_all(&format!("ipv6/conf/{link}"), &settings, "0", IfAbsent::Fail)
}

/// What gives an end that is up the pod's MTU, if it was made with another.
fn give_mtu(end: &LinkMessage, mtu: u32) -> Option<Step> {
    if end.attributes.contains(&LinkAttribute::Mtu(mtu)) {
        return None;
    }
    let index = end.header.index;
    let mut change = rtnl::indexed(index);
    change.attributes.push(LinkAttribute::Mtu(mtu));
    let what = format!("give link {index} an MTU of {mtu}");
    Some(rtnl::set_link(what, change))
}

/// Deletes a pod's link; false if there is none. It may have been made with another prefix, or by a plugin that was killed
/// before it gave the link its other name.
async fn delete_any(
    host: &Rtnl,
    veth_prefix: &VethPrefix,
    container_id: &str,
    ifname: &str,
) -> Result<bool, KernelError> {
    let deleted = delete(host, &layout::host_veth_name(container_id, ifname)).await?;
    if deleted || *veth_prefix == VethPrefix::default() {
        return Ok(deleted);
    }
    delete(host, &veth_prefix.host_veth_name(container_id, ifname)).await
}

/// Deletes a link by name; false if there is none.
async fn delete(host: &Rtnl, name: &str) -> Result<bool, KernelError> {
    let link: LinkMessage = rtnl::named(name);
    match host
        .run(vec![rtnl::delete_link(format!("delete link {name}"), link)])
        .await
    {
        Ok(_) => Ok(true),
        Err(error) if error.errno() == Some(Errno::NODEV) => Ok(false),
        Err(error) => Err(error),
    }
}
