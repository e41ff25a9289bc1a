//! One pod's link: made in one go, gone with one link.

mod check;
pub mod egress;
mod present;

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::address::AddressFlags;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage, State,
};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use crate::layout::{
    self, LEAST_MTU_V6, LINK_GROUP, MAIN_TABLE, Mac, POD_GATEWAY, POD_GATEWAY_V6, PODS_TABLE,
    VethPrefix,
};
use crate::netlink::KernelError;
use crate::netns::NetNs;
use crate::rtnl::{self, Route, Rtnl, Step, Way};
use crate::sysctl::{self, IfAbsent, SysctlError};

pub use check::{Expected, Fault, check};
pub use present::{exists, find};

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

/// Wires a pod: a veth whose pod end is born in `netns`, the pod's addresses, routes and neighbour in it,
/// and a route and a neighbour for each address on the host. On failure nothing is left. Dropped half-way it
/// leaves its link, which [`disconnect`] deletes.
///
/// # Errors
/// When the interface exists already, or the kernel refuses a step: the error says which.
pub async fn connect(netns: &NetNs, link: &PodLink) -> Result<PodWiring, PodError> {
    if link.addresses.is_empty() {
        return Err(PodError::NoAddress);
    }
    // The kernel takes some of these and then sends nothing to the pod, or everything.
    if let Some(bad) = link
        .addresses
        .iter()
        .find(|address| !is_host_address(**address))
    {
        return Err(PodError::BadAddress(*bad));
    }
    if link.has(IpAddr::is_ipv6) && link.mtu < LEAST_MTU_V6 {
        return Err(PodError::MtuTooSmall(link.mtu));
    }
    let host = rtnl::open()?;
    let (host_mac, pod_mac) = layout::link_macs(&link.container_id, &link.ifname);
    let wiring = PodWiring {
        host_veth: link.host_veth(),
        host_mac,
        pod_mac,
    };

    let created = match create(&host, netns, link, &wiring).await {
        Err(error) if error.errno() == Some(Errno::EXIST) => {
            // Either end's name is taken. The host's is ours, so an end that is not in this namespace is
            // what a sandbox of the same id left, and goes.
            if exists(netns, &link.ifname).await? {
                return Err(PodError::InterfaceExists(link.ifname.clone()));
            }
            delete_any(&host, &link.veth_prefix, &link.container_id, &link.ifname).await?;
            create(&host, netns, link, &wiring).await
        }
        created => created,
    };
    let wired = match created {
        Ok(()) => wire(&host, netns, link, &wiring).await,
        // It refused, so there is nothing.
        Err(error) if error.errno().is_some() => return Err(error.into()),
        Err(unanswered) => Err(unanswered.into()),
    };
    match wired {
        Ok(()) => Ok(wiring),
        Err(failure) => Err(roll_back(&host, wiring.host_veth, failure).await),
    }
}

/// Deletes the link that [`connect`] made, because of a failure after it, which it answers; as
/// [`PodError::RollBack`] if the link can't be deleted.
pub async fn undo(link: &PodLink, failure: PodError) -> PodError {
    let host_veth = link.host_veth();
    match rtnl::open() {
        Ok(host) => roll_back(&host, host_veth, failure).await,
        Err(roll_back) => PodError::RollBack {
            host_veth,
            failure: Box::new(failure),
            roll_back,
        },
    }
}

async fn roll_back(host: &Rtnl, host_veth: String, failure: PodError) -> PodError {
    match delete(host, &host_veth).await {
        Ok(_) => failure,
        Err(roll_back) => PodError::RollBack {
            host_veth,
            failure: Box::new(failure),
            roll_back,
        },
    }
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
    fn host_veth(&self) -> String {
        self.veth_prefix
            .host_veth_name(&self.container_id, &self.ifname)
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

/// As many as a veth uses unless it is told to use more. Where nobody says so, the kernel first makes one for each CPU, and
/// then waits for all CPUs, with the lock that all wiring needs, to use one alone (veth_init_queues in drivers/net/veth.c).
const ONE_QUEUE: [LinkAttribute; 2] =
    [LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)];

/// Makes the veth in one message, both ends in their places and down. A veth that is moved or renamed
/// afterwards costs two orders of magnitude more.
async fn create(
    host: &Rtnl,
    netns: &NetNs,
    link: &PodLink,
    wiring: &PodWiring,
) -> Result<(), KernelError> {
    let mut peer = rtnl::named(&link.ifname);
    peer.attributes.extend([
        LinkAttribute::Address(wiring.pod_mac.0.to_vec()),
        LinkAttribute::Mtu(link.mtu),
        LinkAttribute::NetNsFd(netns.fd().as_raw_fd()),
    ]);
    peer.attributes.extend(ONE_QUEUE);
    let mut veth = rtnl::named(&wiring.host_veth);
    veth.attributes.extend([
        LinkAttribute::Address(wiring.host_mac.0.to_vec()),
        LinkAttribute::Mtu(link.mtu),
        LinkAttribute::Group(LINK_GROUP),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ]);
    veth.attributes.extend(ONE_QUEUE);
    let what = format!(
        "make the link {} with its other end {} (MTU {}) in {}",
        wiring.host_veth,
        link.ifname,
        link.mtu,
        netns.path().display()
    );
    let message = RouteNetlinkMessage::NewLink(veth);
    host.run(vec![Step::new(what, message, NLM_F_CREATE | NLM_F_EXCL)])
        .await?;
    Ok(())
}

/// Brings both ends up and tells each side how to reach the other.
async fn wire(
    host: &Rtnl,
    netns: &NetNs,
    link: &PodLink,
    wiring: &PodWiring,
) -> Result<(), PodError> {
    let ipv6 = link.has(IpAddr::is_ipv6);
    if link.veth_prefix != VethPrefix::default() {
        let also = layout::host_veth_name(&link.container_id, &link.ifname);
        let named = rtnl::add_alternative_name(&wiring.host_veth, also);
        host.run(vec![named]).await?;
    }
    if ipv6 {
        quieten(&wiring.host_veth)?;
    } else {
        quieten_without_ipv6(&wiring.host_veth)?;
    }
    let pod = netns
        .inside(|| {
            if ipv6 {
                quieten(&link.ifname)?;
                // `::1`, which some runtimes take away with all of IPv6.
                sysctl::set("ipv6/conf/lo/disable_ipv6", "0", IfAbsent::Fail)?;
            }
            Ok::<_, PodError>(rtnl::open()?)
        })
        .map_err(PodError::Enter)??;
    // One right after the other: an end that is up while the other is not has no carrier, and if the kernel's worker notes
    // that, it waits for all CPUs with the lock that all wiring needs (dev_deactivate in net/sched/sch_generic.c).
    let pod_index = raise(&pod, &link.ifname, None).await?;
    let host_index = raise(host, &wiring.host_veth, Some(&link.alias)).await?;

    // In this order: the kernel takes a gateway only behind an interface that is up and has an address.
    let mut steps = Vec::new();
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
        steps.extend(way_out(
            Ipv4Net::default().into(),
            gateway,
            pod_index,
            wiring,
        ));
    }
    if ipv6 {
        // A link-local gateway is behind its link without a route that says so.
        let all = Ipv6Net::default().into();
        steps.extend(way_out(all, POD_GATEWAY_V6.into(), pod_index, wiring));
    }
    pod.run(steps).await?;

    // Last: from here on the node sends the pod its packets.
    let mut steps = Vec::new();
    for address in &link.addresses {
        let way = Way::Link { index: host_index };
        steps.push(rtnl::permanent_neighbour(
            host_index,
            *address,
            wiring.pod_mac,
        ));
        steps.push(to(IpNet::from(*address), PODS_TABLE, way).put());
    }
    host.run(steps).await?;
    until_it_sends(host, host_index).await?;
    for address in link.addresses.iter().filter(|address| address.is_ipv6()) {
        until_it_receives(&pod, *address).await?;
    }
    Ok(())
}

/// Waits until the pod takes what is sent to an IPv6 address of it. The kernel adds the local route to one by a worker of
/// its own, also without duplicate address detection (`addrconf_dad_work`), and until then drops what comes.
async fn until_it_receives(pod: &Rtnl, address: IpAddr) -> Result<(), KernelError> {
    for _ in 0..PATIENCE_MS {
        let mut route = RouteMessage::default();
        route.header.address_family = AddressFamily::Inet6;
        route.header.destination_prefix_length = IpNet::from(address).prefix_len();
        let to = RouteAttribute::Destination(address.into());
        route.attributes.push(to);
        let what = format!("find the way to {address}");
        let asked = Step::new(what, RouteNetlinkMessage::GetRoute(route), 0);
        let found = pod.run(vec![asked]).await?;
        let is_local = |reply: &RouteNetlinkMessage| match reply {
            RouteNetlinkMessage::NewRoute(route) => route.header.kind == RouteType::Local,
            _ => false,
        };
        if found.iter().any(is_local) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// Waits until the host's end sends what it is given. It had no carrier until the pod's end came up, and the kernel drops all
/// that is to leave by it until a worker of its own has noted the carrier (net/core/link_watch.c): soon as a rule, but later
/// than the answer to a pod's first packet where the CPUs are busy. Since Linux 6.8 the question itself has it noted.
async fn until_it_sends(host: &Rtnl, index: u32) -> Result<(), KernelError> {
    let up = LinkAttribute::OperState(State::Up);
    for _ in 0..PATIENCE_MS {
        let asked = rtnl::get_link("find the host's end", rtnl::indexed(index));
        let found = host.run(vec![asked]).await?;
        let is_up = |reply: &RouteNetlinkMessage| match reply {
            RouteNetlinkMessage::NewLink(link) => link.attributes.contains(&up),
            _ => false,
        };
        if found.iter().any(is_up) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Still not: it will, and no pod is refused for it.
    Ok(())
}

/// How long the kernel's workers are waited for, in milliseconds.
const PATIENCE_MS: u32 = 200;

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

/// For either end of a link with IPv6, before it is up: a pod must not be able to configure its node by router
/// advertisements or redirects, nor the node the pod.
fn quieten(link: &str) -> Result<(), SysctlError> {
    let settings = ["disable_ipv6", "accept_redirects", "accept_ra"];
    sysctl::set_all(&format!("ipv6/conf/{link}"), &settings, "0", IfAbsent::Fail)
}

/// For the node's end of a link without IPv6, which the kernel has all the same: it must not take router advertisements.
/// Nobody but the node could send the pod any, and a look at the settings in a pod's namespace makes the same
/// look of all others slower ([`sysctl::set_all`]): so that end is left as it is.
fn quieten_without_ipv6(link: &str) -> Result<(), SysctlError> {
    let folder = format!("ipv6/conf/{link}");
    sysctl::set_all(&folder, &["accept_ra"], "0", IfAbsent::Skip)
}

/// Brings a new link up, and returns its index.
async fn raise(side: &Rtnl, name: &str, alias: Option<&str>) -> Result<u32, KernelError> {
    let mut prepared = rtnl::named(name);
    prepared.attributes.push(rtnl::no_link_local());
    if let Some(alias) = alias {
        prepared
            .attributes
            .push(LinkAttribute::IfAlias(cut(alias).to_owned()));
    }
    let found = side
        .run(vec![
            rtnl::set_link(format!("prepare link {name}"), prepared),
            rtnl::set_link(format!("bring up link {name}"), rtnl::up(rtnl::named(name))),
            rtnl::get_link(format!("find link {name}"), rtnl::named(name)),
        ])
        .await?;
    rtnl::index_of(&found).ok_or_else(|| KernelError::Refused {
        what: format!("find link {name}"),
        errno: Errno::NODEV,
        text: String::new(),
    })
}

/// At most the 255 bytes that the kernel takes for an alias (IFALIASZ), and whole characters.
fn cut(alias: &str) -> &str {
    alias.get(..alias.floor_char_boundary(255)).unwrap_or(alias)
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
