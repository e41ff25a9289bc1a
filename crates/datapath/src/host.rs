//! What the pods of a node share: forwarding, rules, ENIs, held addresses and the nftables table.

mod egress;
mod eni;
mod ipv6;
mod repair;
mod seen;
mod sources;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteProtocol, RouteType};
use tokio::sync::RwLock;

pub use self::egress::EgressPlan;
pub use self::repair::{Fault, Part, PodPlan, Turn, Wanted};
use crate::conntrack::Connections;
use crate::layout::{
    CONNMARK, MAIN_TABLE, Mac, PODS_TABLE, Place, ROUTE_PROTOCOL, RULE_CONNMARK,
    RULE_EXTERNAL_SERVICE, RULE_PODS, UNREACHABLE_METRIC,
};
use crate::netlink::KernelError;
use crate::nft;
use crate::rtnl::{self, Route, Rtnl, Rule, Selector, Way};
use crate::sysctl::{IfAbsent, Setting, SysctlError};

/// The node as it is to be before the first pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePlan {
    /// The MAC of the primary ENI.
    pub primary_mac: Mac,
    /// The primary address of the primary ENI: what leaves the VPC is translated to it.
    pub primary_address: Ipv4Addr,
    /// The MTU of the primary ENI's link, in bytes.
    pub primary_mtu: u32,
    /// The VPC's CIDRs, and others not to translate for. May overlap.
    pub vpc_cidrs: Vec<Ipv4Net>,
    /// Who translates what pods send out of the VPC.
    pub snat: Snat,
    /// To these everything leaves by the primary ENI.
    pub external_services: Vec<Ipv4Net>,
    /// Whether TCP looks for a socket before it looks for a route (`tcp_early_demux`); none leaves it as it is.
    pub tcp_early_demux: Option<bool>,
    /// Whether pods get IPv6 addresses. IPv4 is prepared for in any case: the node itself has it.
    pub ipv6: bool,
    /// All that the node holds for pods, per ENI. Complete: a hold that it does not name goes.
    pub held: Vec<EniSlots>,
}

/// Who translates the source of what pods send out of the VPC over IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snat {
    /// The node does, to the primary ENI's address; it leaves by that ENI.
    Node(SourcePorts),
    /// Something else on the way out, such as a NAT gateway: it leaves by the pod's own ENI, from the pod's address.
    External,
}

/// Which source port a translated connection gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourcePorts {
    /// A fully random one (`fully-random` of nft, `--random-fully` of iptables).
    FullyRandom,
    /// One by a hash with a secret, so that the next ones are near (`random`, `--random`).
    Random,
    /// Its own, where that is free.
    Kept,
}

/// What one ENI holds for pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EniSlots {
    /// Where the ENI is.
    pub place: Place,
    /// Its secondary addresses, each as /32, and its prefixes.
    pub slots: Vec<IpNet>,
}

/// A secondary ENI as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EniPlan {
    /// Its MAC: the only thing that EC2 and the kernel both know it by.
    pub mac: Mac,
    /// Where it is: on card 0 at a device index from 1 to 127, on others from 0 to 99.
    pub place: Place,
    /// Its primary address.
    pub primary_address: Ipv4Addr,
    /// The CIDR of its subnet; the VPC's router is the subnet's base address + 1.
    pub subnet: Ipv4Net,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether pods get IPv6 addresses: then its table routes IPv6 too. An IPv6 address of its own it needs not.
    pub ipv6: bool,
}

/// Why the node could not be brought into shape.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// No link with this MAC came up in time.
    #[error(
        "no link has the MAC {mac} after {waited:?}: the ENI is not attached, or its driver has not shown it"
    )]
    LinkMissing {
        /// The ENI's MAC.
        mac: Mac,
        /// How long it was waited for.
        waited: Duration,
    },
    /// No secondary ENI can be there.
    #[error(
        "no secondary ENI is at {0}: marks have room for device indexes from 1 to 127 on card 0, and tables for 0 to 99 on \
         others"
    )]
    Place(Place),
    /// The kernel refused a step.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A setting could not be written.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}

/// The current network namespace, as ipamd changes it. Its methods may be called at the same time.
///
/// Settings under `/proc/sys` are those of the thread that polls, so all of a process's threads must be in
/// one network namespace, as they are unless a program goes out of its way.
#[derive(Clone, Debug)]
pub struct Host {
    rtnl: Rtnl,
    nft: nft::Table,
    connections: Connections,
    /// Shared by those that make and undo what others do not; alone is who compares all.
    order: Arc<RwLock<()>>,
}

impl Host {
    /// Opens netlink sockets in the current network namespace. Inside a tokio runtime.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open() -> Result<Self, HostError> {
        Ok(Self {
            rtnl: rtnl::open()?,
            nft: nft::Table::open()?,
            connections: Connections::open()?,
            order: Arc::default(),
        })
    }

    /// Brings the node into shape: forwarding, MTU and `rp_filter` of the primary ENI, rules 512 and 1024, the holds
    /// in `node.held`, and our nftables table in one transaction. What is right already is left alone.
    ///
    /// # Errors
    /// When the primary ENI is not there, or the kernel refuses a step.
    pub async fn prepare(&self, node: &NodePlan) -> Result<(), HostError> {
        let primary = self.find_link(node.primary_mac, Duration::ZERO).await?;
        let _alone = self.order.write().await;
        for setting in node.settings(&primary.name) {
            setting.apply()?;
        }

        // Routes before the rule that leads to them, rules before the marks that lead to those.
        let held: BTreeSet<IpNet> = node.held.iter().flat_map(|eni| eni.slots.clone()).collect();
        let stale = self
            .in_pods_table(RouteType::Unreachable)
            .await?
            .into_iter()
            .filter(|net| !held.contains(net));
        let mut steps: Vec<_> = primary.bring_up(node.primary_mtu).into_iter().collect();
        steps.extend(stale.map(|net| unreachable(net).delete()));
        steps.extend(held.iter().map(|net| unreachable(*net).ensure()));
        steps.extend(node.rules()?.into_iter().map(Rule::ensure));
        steps.extend(sources::exactly(&node.held, &self.source_rules().await?));
        let services = node.external_services();
        let stale = self.rules(RULE_EXTERNAL_SERVICE).await?;
        steps.extend(stale.difference(&services).map(|rule| rule.delete()));
        self.rtnl.run(steps).await?;

        let rules = node.ruleset(primary.index);
        self.nft.ensure(&rules, &node.marks()).await?;
        if node.ipv6
            && let Some(change) = self.nft.compare_v6(primary.index).await?
        {
            self.nft.carry_out(change).await?;
        }
        Ok(())
    }

    /// Takes addresses and prefixes into service: `unreachable` until a pod has them, and on a secondary ENI the mark
    /// or the rule that sends what they send out by it. Repeats are harmless. After [`Host::prepare`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn hold(&self, place: Place, slots: &[IpNet]) -> Result<(), HostError> {
        let _shared = self.order.read().await;
        let mut steps: Vec<_> = slots.iter().map(|net| unreachable(*net).ensure()).collect();
        if !place.is_primary() {
            steps.extend(eni::mark_rule(place)?.map(Rule::ensure));
        }
        let found = self.source_rules().await?;
        steps.extend(sources::moved(place, slots, &found));
        self.rtnl.run(steps).await?;
        let addresses: Vec<Ipv4Addr> = slots.iter().filter_map(single).collect();
        if place.mark().is_none() && !addresses.is_empty() {
            // An address that was on another ENI before must lose its mark.
            return Ok(self.nft.remove(&addresses).await?);
        }
        Ok(self.nft.add(&marks(place, slots).collect()).await?)
    }

    /// The opposite of [`Host::hold`]. Repeats are harmless.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn release(&self, place: Place, slots: &[IpNet]) -> Result<(), HostError> {
        let _shared = self.order.read().await;
        let addresses: Vec<Ipv4Addr> = slots.iter().filter_map(single).collect();
        if place.mark().is_some() && !addresses.is_empty() {
            self.nft.remove(&addresses).await?;
        }
        let mut steps = Vec::new();
        for rule in sources::rules(place, slots) {
            steps.push(rule.delete());
        }
        steps.extend(slots.iter().map(|net| unreachable(*net).delete()));
        self.rtnl.run(steps).await?;
        Ok(())
    }

    /// The addresses that have a pod's link: it has come, and it has not gone.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub async fn pods(&self) -> Result<Vec<IpAddr>, HostError> {
        let routes = self.in_pods_table(RouteType::Unicast).await?;
        Ok(routes.iter().map(IpNet::addr).collect())
    }

    /// Has the kernel forget the connections of addresses whose pods have gone, and says how many there were. Once the
    /// pod's link is gone none can come again: what is sent to it is refused.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn forget_connections(&self, addresses: &[IpAddr]) -> Result<usize, HostError> {
        Ok(self.connections.forget(addresses).await?)
    }

    /// The destinations of our routes of this kind in the table of pods.
    async fn in_pods_table(&self, kind: RouteType) -> Result<Vec<IpNet>, HostError> {
        let what = format!("list the routes of table {PODS_TABLE}");
        let mut found = Vec::new();
        for family in ipv6::families() {
            let filter = rtnl::routes_in(family, PODS_TABLE, None);
            let routes = self.rtnl.dump(&what, filter).await?;
            found.extend(
                routes
                    .into_iter()
                    .filter_map(|route| destination(route, kind)),
            );
        }
        Ok(found)
    }
}

impl NodePlan {
    /// The settings of the node and of the primary ENI's link.
    fn settings(&self, primary: &str) -> Vec<Setting> {
        let ipv6 = self.ipv6.then(|| ipv6::forwarding(primary));
        let early_demux = self.tcp_early_demux.map(|on| {
            let value = if on { "1" } else { "0" };
            Setting::new("ipv4/tcp_early_demux", value, IfAbsent::Skip)
        });
        [
            Setting::new("ipv4/ip_forward", "1", IfAbsent::Fail),
            eni::loose_reverse_path_filter(primary),
        ]
        .into_iter()
        .chain(early_demux)
        .chain(ipv6.into_iter().flatten())
        .collect()
    }

    /// Those that do not depend on prefixes.
    fn rules(&self) -> Result<Vec<Rule>, HostError> {
        let connmark = Selector::Mark {
            mark: CONNMARK,
            mask: CONNMARK,
        };
        let mut rules = vec![
            rule(RULE_CONNMARK, connmark, MAIN_TABLE),
            rule(RULE_PODS, Selector::All4, PODS_TABLE),
        ];
        if self.ipv6 {
            rules.push(rule(RULE_PODS, Selector::All6, PODS_TABLE));
            let connmark = Selector::Mark6 {
                mark: CONNMARK,
                mask: CONNMARK,
            };
            rules.push(rule(RULE_CONNMARK, connmark, MAIN_TABLE));
        }
        for eni in self.held.iter().filter(|eni| !eni.place.is_primary()) {
            rules.extend(eni::mark_rule(eni.place)?);
        }
        rules.extend(self.external_services());
        Ok(rules)
    }

    fn external_services(&self) -> BTreeSet<Rule> {
        let services = self.external_services.iter();
        let to = services.map(|net| Selector::To(IpNet::V4(net.trunc())));
        to.map(|to| rule(RULE_EXTERNAL_SERVICE, to, MAIN_TABLE))
            .collect()
    }

    fn marks(&self) -> nft::Marks {
        let held = self.held.iter();
        held.flat_map(|eni| marks(eni.place, &eni.slots)).collect()
    }

    fn ruleset(&self, primary_link: u32) -> nft::Node {
        nft::Node {
            primary_link,
            primary_address: self.primary_address,
            vpc_cidrs: self.vpc_cidrs.clone(),
            snat: self.snat,
        }
    }
}

fn rule(priority: u32, selector: Selector, table: u32) -> Rule {
    Rule {
        priority,
        selector,
        table,
    }
}

fn unreachable(destination: IpNet) -> Route {
    let way = Way::Unreachable {
        metric: UNREACHABLE_METRIC,
    };
    Route {
        destination,
        table: PODS_TABLE,
        way,
    }
}

/// The IPv4 address, where the slot holds only one.
fn single(slot: &IpNet) -> Option<Ipv4Addr> {
    match slot {
        IpNet::V4(net) if net.prefix_len() == 32 => Some(net.addr()),
        _ => None,
    }
}

fn marks(place: Place, slots: &[IpNet]) -> impl Iterator<Item = (Ipv4Addr, u32)> {
    let addresses = slots.iter().filter_map(single);
    addresses.filter_map(move |address| Some((address, place.mark()?)))
}

/// Where one of our routes of this kind leads to.
fn destination(route: RouteNetlinkMessage, kind: RouteType) -> Option<IpNet> {
    let RouteNetlinkMessage::NewRoute(route) = route else {
        return None;
    };
    if route.header.kind != kind || route.header.protocol != RouteProtocol::Other(ROUTE_PROTOCOL) {
        return None;
    }
    let to = route
        .attributes
        .into_iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(address.into()),
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(address.into()),
            _ => None,
        });
    IpNet::new(to?, route.header.destination_prefix_length).ok()
}
