//! What the kernel must look like for the network that EC2 describes, and how to get there.
//!
//! Pure: a [`Fabric`] and the time go in, [`Desired`] comes out; two of them give the lines for `ip -batch` and
//! the ruleset for `nft -f` that lead from one to the other. The lab speaks to the kernel by these two programs and
//! not by Weir's own code, so that what it proves is not proven by itself.

mod filter;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use aws_sim::{Fabric, FabricEni, FabricSubnet, SimTime};
use ipnet::{IpNet, Ipv4Net};

use crate::places::{self, ENI_V6, NOWHERE, ROUTER_V6};
use crate::{Drops, Endpoint};

pub(crate) use filter::{COUNTERS, read_drops};

/// What the kernel must look like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Desired {
    /// The ENIs that have a link by now, by id.
    links: BTreeMap<String, Link>,
    /// Who holds what: the link and next hop of each address and prefix.
    routes: BTreeMap<IpNet, Hop>,
    /// The ranges of the VPCs: what nobody holds in them goes nowhere.
    ranges: BTreeSet<IpNet>,
    /// The first address of each subnet: the VPC's own router.
    gateways: BTreeSet<Ipv4Addr>,
    /// The ruleset, for `nft -f`.
    pub(crate) ruleset: String,
    /// When a link is due that is not there yet.
    pub(crate) wake_at: Option<SimTime>,
}

/// The link of an ENI: a veth with one end in the node and one in the VPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// The end in the VPC.
    pub(crate) vpc_end: String,
    /// The namespace of the node.
    pub(crate) node: String,
    /// The end in the node.
    device: String,
    mac: [u8; 6],
    eni_id: String,
    primary_address: Ipv4Addr,
    /// Set on the primary ENI, which the operating system configures; the others are left to ipamd.
    dhcp: Option<Ipv4Net>,
    /// Whether the VPC has IPv6.
    ipv6: bool,
    /// The primary ENI's own IPv6 addresses.
    dhcp_v6: Vec<Ipv6Addr>,
}

/// Where the VPC sends a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hop {
    /// What has a permanent neighbour entry with the ENI's MAC: the ENI's primary address, or for IPv6 [`ENI_V6`].
    via: IpAddr,
    vpc_end: String,
    /// Whom the VPC's ICMP errors to there come from; of IPv6, [`ROUTER_V6`] in any case.
    gateway: Option<Ipv4Addr>,
}

/// What the fabric does not say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surroundings {
    /// The namespace of each instance, by instance id.
    pub(crate) nodes: BTreeMap<String, String>,
    /// How long after EC2 began attaching an ENI its link appears, but not before EC2 has attached it.
    pub(crate) link_lag: Duration,
    /// Who is cut off from what, by namespace.
    pub(crate) cuts: BTreeSet<(String, Endpoint)>,
}

/// The state that the kernel must have at `now`.
pub(crate) fn plan(fabric: &Fabric, now: SimTime, around: &Surroundings) -> Desired {
    let mut desired = Desired {
        ranges: fabric
            .vpcs
            .iter()
            .flat_map(|vpc| {
                let ipv4 = vpc.cidrs.iter().copied().map(IpNet::V4);
                ipv4.chain(vpc.ipv6_cidrs.iter().copied().map(IpNet::V6))
            })
            .collect(),
        gateways: fabric
            .subnets
            .iter()
            .map(|subnet| gateway(subnet.cidr))
            .collect(),
        ..Desired::default()
    };
    for eni in &fabric.enis {
        let Some(node) = eni.instance_id.as_ref().and_then(|id| around.nodes.get(id)) else {
            continue;
        };
        let Some(subnet) = fabric
            .subnets
            .iter()
            .find(|subnet| subnet.id == eni.subnet_id)
        else {
            continue;
        };
        let due = eni.attached_at.unwrap_or(now).plus(around.link_lag);
        // The primary ENI is there when the machine boots. The others' links come when EC2 has attached them, or
        // later; that EC2 is done is a change, so nobody needs to be woken for it.
        if !is_primary(eni) && (due > now || !eni.attached) {
            if due > now {
                desired.wake_at = Some(desired.wake_at.map_or(due, |earlier| earlier.min(due)));
            }
            continue;
        }
        let ipv6 = fabric
            .vpcs
            .iter()
            .any(|vpc| vpc.id == eni.vpc_id && !vpc.ipv6_cidrs.is_empty());
        let link = link(eni, node, subnet, ipv6);
        let hop = Hop {
            via: eni.primary_address.into(),
            vpc_end: link.vpc_end.clone(),
            gateway: Some(gateway(subnet.cidr)),
        };
        let hop_v6 = Hop {
            via: ENI_V6.into(),
            gateway: None,
            ..hop.clone()
        };
        desired
            .routes
            .extend(held(eni).map(|net| (net.into(), hop.clone())));
        desired
            .routes
            .extend(held_v6(eni).map(|net| (net, hop_v6.clone())));
        desired.links.insert(eni.id.clone(), link);
    }
    desired.ruleset = filter::ruleset(fabric, &desired.links, &around.cuts);
    desired
}

/// All that an ENI holds: its addresses and its prefixes.
fn held(eni: &FabricEni) -> impl Iterator<Item = Ipv4Net> {
    let addresses = eni.addresses.iter().map(|address| Ipv4Net::from(*address));
    addresses.chain(eni.prefixes.iter().copied())
}

/// The same of IPv6.
fn held_v6(eni: &FabricEni) -> impl Iterator<Item = IpNet> {
    let addresses = eni
        .ipv6
        .iter()
        .map(|address| IpNet::from(IpAddr::V6(*address)));
    addresses.chain(eni.ipv6_prefixes.iter().copied().map(IpNet::V6))
}

fn is_primary(eni: &FabricEni) -> bool {
    (eni.card, eni.device_index) == (0, 0)
}

fn link(eni: &FabricEni, node: &str, subnet: &FabricSubnet, ipv6: bool) -> Link {
    let primary = is_primary(eni);
    Link {
        vpc_end: vpc_end(&eni.id),
        node: node.to_owned(),
        // As Linux names them on EC2's Nitro instances.
        device: format!("ens{}", 5 + eni.device_index + 100 * eni.card),
        mac: eni.mac,
        eni_id: eni.id.clone(),
        primary_address: eni.primary_address,
        dhcp: primary.then_some(subnet.cidr),
        ipv6,
        dhcp_v6: eni.ipv6.iter().copied().filter(|_| primary).collect(),
    }
}

/// The name of the VPC's end of an ENI's link: `eni-` and the last digits of its id, 15 characters in all.
fn vpc_end(eni_id: &str) -> String {
    let digits: Vec<char> = eni_id.chars().filter(char::is_ascii_hexdigit).collect();
    let last = digits.iter().skip(digits.len().saturating_sub(11));
    format!("eni-{}", last.collect::<String>())
}

/// A subnet's router is its first address after the network's own.
fn gateway(subnet: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()) + 1)
}

/// The steps from one state to another, in the order in which they are to be taken.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Steps {
    /// For `ip -batch` in the namespace of the VPC.
    pub(crate) vpc: String,
    /// VPC ends that are new.
    pub(crate) new_ends: Vec<String>,
    /// For `ip -batch` in the namespace of a node, by its name.
    pub(crate) nodes: BTreeMap<String, String>,
}

/// What to do to the links, addresses and routes of `from` to have those of `to`.
pub(crate) fn steps(from: &Desired, to: &Desired) -> Steps {
    let mut steps = Steps::default();
    let vpc = &mut steps.vpc;
    let stays = |link: &Link| to.links.get(&link.eni_id) == Some(link);
    let gone: Vec<&Link> = from.links.values().filter(|link| !stays(link)).collect();
    let new: Vec<&Link> = to
        .links
        .values()
        .filter(|link| from.links.get(&link.eni_id) != Some(link))
        .collect();
    let died_with_its_link = |hop: &Hop| gone.iter().any(|link| link.vpc_end == hop.vpc_end);

    for net in from
        .routes
        .keys()
        .filter(|net| !to.routes.contains_key(*net))
    {
        line(vpc, format_args!("route del {net}"));
    }
    for net in from.ranges.difference(&to.ranges) {
        line(vpc, format_args!("route del {net} dev {NOWHERE}"));
    }
    for gateway in from.gateways.difference(&to.gateways) {
        line(vpc, format_args!("addr del {gateway}/32 dev lo"));
    }
    for link in &gone {
        line(vpc, format_args!("link del {}", link.vpc_end));
    }
    for gateway in to.gateways.difference(&from.gateways) {
        line(vpc, format_args!("addr add {gateway}/32 dev lo"));
    }
    for net in to.ranges.difference(&from.ranges) {
        line(vpc, format_args!("route add {net} dev {NOWHERE}"));
    }
    for link in &new {
        birth(vpc, link);
        if let Some(subnet) = link.dhcp {
            dhcp(
                steps.nodes.entry(link.node.clone()).or_default(),
                link,
                subnet,
            );
        }
        steps.new_ends.push(link.vpc_end.clone());
    }
    for (net, hop) in &to.routes {
        if from.routes.get(net) != Some(hop) || died_with_its_link(hop) {
            let Hop {
                via,
                vpc_end,
                gateway,
            } = hop;
            let source = gateway.map_or(String::new(), |gateway| format!(" src {gateway}"));
            line(
                vpc,
                format_args!("route replace {net} via {via} dev {vpc_end} onlink{source}"),
            );
        }
    }
    steps
}

/// The veth, from the VPC's side.
fn birth(vpc: &mut String, link: &Link) {
    let Link {
        vpc_end,
        node,
        device,
        eni_id,
        primary_address,
        ipv6,
        ..
    } = link;
    let (mac, mtu) = (mac(link.mac), places::MTU);
    line(
        vpc,
        format_args!(
            "link add {vpc_end} mtu {mtu} type veth \
             peer name {device} netns {node} address {mac} mtu {mtu}"
        ),
    );
    line(
        vpc,
        format_args!("link set {vpc_end} alias {node}/{device}/{eni_id} up"),
    );
    line(
        vpc,
        format_args!("neigh replace {primary_address} lladdr {mac} dev {vpc_end} nud permanent"),
    );
    if *ipv6 {
        line(
            vpc,
            format_args!("addr add {ROUTER_V6}/64 dev {vpc_end} nodad"),
        );
        line(
            vpc,
            format_args!("neigh replace {ENI_V6} lladdr {mac} dev {vpc_end} nud permanent"),
        );
    }
}

/// What DHCP and router advertisements give the primary interface.
fn dhcp(node: &mut String, link: &Link, subnet: Ipv4Net) {
    let Link {
        device,
        primary_address: address,
        ..
    } = link;
    let (gateway, length, imds) = (gateway(subnet), subnet.prefix_len(), places::IMDS);
    line(
        node,
        format_args!("addr add {address}/{length} broadcast + dev {device}"),
    );
    if link.ipv6 {
        // Its own link-local address would be of no use for a second or two.
        line(node, format_args!("link set {device} addrgenmode none"));
        line(
            node,
            format_args!("addr add {ENI_V6}/64 dev {device} nodad"),
        );
        for address in &link.dhcp_v6 {
            line(
                node,
                format_args!("addr add {address}/128 dev {device} nodad"),
            );
        }
    }
    line(node, format_args!("link set {device} up"));
    if link.ipv6 {
        line(
            node,
            format_args!("route add default via {ROUTER_V6} dev {device} proto ra"),
        );
    }
    line(
        node,
        format_args!("route add default via {gateway} dev {device} proto dhcp src {address}"),
    );
    line(
        node,
        format_args!("route add {imds} dev {device} proto dhcp scope link src {address}"),
    );
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.push_str(&what.to_string());
    text.push('\n');
}

#[cfg(test)]
mod tests;
