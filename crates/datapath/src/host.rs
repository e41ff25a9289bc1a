//! What the pods of a node share: forwarding, rules, ENIs, held addresses and the nftables table.

mod eni;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteProtocol, RouteType};

use crate::layout::{
    self, CONNMARK, Mac, PODS_TABLE, ROUTE_PROTOCOL, RULE_CONNMARK, RULE_PODS, UNREACHABLE_METRIC,
};
use crate::netlink::KernelError;
use crate::nft;
use crate::rtnl::{self, Route, Rtnl, Rule, Selector, Way};
use crate::sysctl::{self, IfAbsent, SysctlError};

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
    /// All addresses that the node holds for pods, per ENI. Complete: a hold that it does not name goes.
    pub held: Vec<EniAddresses>,
}

/// The addresses that one ENI holds for pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EniAddresses {
    /// The ENI's device index on the instance; 0 is the primary ENI.
    pub device_index: u32,
    /// Its secondary addresses.
    pub addresses: Vec<Ipv4Addr>,
}

/// A secondary ENI as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EniPlan {
    /// Its MAC: the only thing that EC2 and the kernel both know it by.
    pub mac: Mac,
    /// Its device index on the instance, from 1 to 127.
    pub device_index: u32,
    /// Its primary address.
    pub primary_address: Ipv4Addr,
    /// The CIDR of its subnet; the VPC's router is the subnet's base address + 1.
    pub subnet: Ipv4Net,
    /// Its MTU in bytes.
    pub mtu: u32,
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
    /// The device index can't be that of a secondary ENI.
    #[error("device index {0} is not that of a secondary ENI: their marks have room for 1 to 127")]
    DeviceIndex(u32),
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
        })
    }

    /// Brings the node into shape: forwarding, MTU and `rp_filter` of the primary ENI, rules 512 and 1024, the holds
    /// in `node.held`, and our nftables table in one transaction. What is right already is left alone.
    ///
    /// # Errors
    /// When the primary ENI is not there, or the kernel refuses a step.
    pub async fn prepare(&self, node: &NodePlan) -> Result<(), HostError> {
        let primary = self.find_link(node.primary_mac, Duration::ZERO).await?;
        sysctl::set("ipv4/ip_forward", "1", IfAbsent::Fail)?;
        eni::loosen_reverse_path_filter(&primary.name)?;

        // Routes before the rule that leads to them, rules before the marks that lead to those.
        let held: BTreeSet<_> = node
            .held
            .iter()
            .flat_map(|eni| eni.addresses.clone())
            .collect();
        let stale = self
            .in_pods_table(RouteType::Unreachable)
            .await?
            .into_iter()
            .filter(|address| !held.contains(address));
        let mut steps: Vec<_> = primary.bring_up(node.primary_mtu).into_iter().collect();
        steps.extend(stale.map(|address| unreachable(address).delete()));
        steps.extend(held.iter().map(|address| unreachable(*address).put()));
        let main = layout::eni_table(0);
        let connmark = Selector::Mark {
            mark: CONNMARK,
            mask: CONNMARK,
        };
        steps.push(rule(RULE_CONNMARK, connmark, main).ensure());
        steps.push(rule(RULE_PODS, Selector::All, PODS_TABLE).ensure());
        for eni in node.held.iter().filter(|eni| eni.device_index > 0) {
            steps.push(eni::mark_rule(eni.device_index)?.ensure());
        }
        self.rtnl.run(steps).await?;

        let marks = node
            .held
            .iter()
            .flat_map(|eni| marks(eni.device_index, &eni.addresses));
        let rules = nft::Node {
            primary_link: primary.index,
            primary_address: node.primary_address,
            vpc_cidrs: node.vpc_cidrs.clone(),
        };
        Ok(self.nft.ensure(&rules, &marks.collect()).await?)
    }

    /// Takes addresses into service: `unreachable` until a pod has them, and on a secondary ENI the mark that
    /// sends what they send out by it. Repeats are harmless. After [`Host::prepare`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn hold(&self, device_index: u32, addresses: &[Ipv4Addr]) -> Result<(), HostError> {
        let mut steps: Vec<_> = addresses
            .iter()
            .map(|address| unreachable(*address).put())
            .collect();
        if device_index > 0 {
            steps.push(eni::mark_rule(device_index)?.ensure());
        }
        self.rtnl.run(steps).await?;
        if device_index == 0 {
            // An address that was on a secondary ENI before must lose its mark.
            return Ok(self.nft.remove(addresses).await?);
        }
        Ok(self
            .nft
            .add(&marks(device_index, addresses).collect())
            .await?)
    }

    /// The opposite of [`Host::hold`]. Repeats are harmless.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn release(
        &self,
        device_index: u32,
        addresses: &[Ipv4Addr],
    ) -> Result<(), HostError> {
        if device_index > 0 {
            self.nft.remove(addresses).await?;
        }
        let steps = addresses
            .iter()
            .map(|address| unreachable(*address).delete());
        self.rtnl.run(steps.collect()).await?;
        Ok(())
    }

    /// The addresses that have a pod's link: it has come, and it has not gone.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub async fn pods(&self) -> Result<Vec<Ipv4Addr>, HostError> {
        self.in_pods_table(RouteType::Unicast).await
    }

    /// The addresses of our routes of this kind in the table of pods.
    async fn in_pods_table(&self, kind: RouteType) -> Result<Vec<Ipv4Addr>, HostError> {
        let what = format!("list the routes of table {PODS_TABLE}");
        let routes = self
            .rtnl
            .dump(&what, rtnl::routes_in(PODS_TABLE, None))
            .await?;
        Ok(routes
            .into_iter()
            .filter_map(|route| destination(route, kind))
            .collect())
    }
}

fn rule(priority: u32, selector: Selector, table: u32) -> Rule {
    Rule {
        priority,
        selector,
        table,
    }
}

fn unreachable(address: Ipv4Addr) -> Route {
    let way = Way::Unreachable {
        metric: UNREACHABLE_METRIC,
    };
    Route {
        destination: address.into(),
        table: PODS_TABLE,
        way,
    }
}

fn marks(device_index: u32, addresses: &[Ipv4Addr]) -> impl Iterator<Item = (Ipv4Addr, u32)> {
    let held = if device_index == 0 { &[] } else { addresses };
    held.iter().map(move |address| (*address, device_index))
}

/// Where one of our routes of this kind leads to.
fn destination(route: RouteNetlinkMessage, kind: RouteType) -> Option<Ipv4Addr> {
    let RouteNetlinkMessage::NewRoute(route) = route else {
        return None;
    };
    if route.header.kind != kind || route.header.protocol != RouteProtocol::Other(ROUTE_PROTOCOL) {
        return None;
    }
    route
        .attributes
        .into_iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(address),
            _ => None,
        })
}
