//! The VPC's rules for packets, as one nftables ruleset.
//!
//! What every packet meets is matched one by one, not by a set: while a ruleset is replaced, the kernel takes sets with
//! ranges of the old one for empty, and the rules that it still follows drop what is right (seen with Linux 6.18: a packet in
//! some thousands).

mod groups;
mod ipv6;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use aws_sim::{Fabric, FabricEni, Messages, Peer, Protocol, Rule};
use ipnet::Ipv4Net;

use self::groups::Family;
use super::{Drops, Endpoint, Link, held, line};
use crate::places::{EC2, IMDS, INTERNET, NOWHERE, PEER, PEER_NETWORK};

const SPOOFED: &str = "spoofed_source";
const UNHELD: &str = "nobody_holds_it";
const GROUP: &str = "security_group";
const PRIVATE: &str = "no_public_address";
const CUT: &str = "cut";

/// The whole ruleset. Loading it replaces all rules at once and keeps the counters; connections go on.
pub(super) fn ruleset(
    fabric: &Fabric,
    links: &BTreeMap<String, Link>,
    cuts: &BTreeSet<(String, Endpoint)>,
) -> String {
    let enis: Vec<(&FabricEni, &Link)> = fabric
        .enis
        .iter()
        .filter(|eni| eni.attached)
        .filter_map(|eni| Some((eni, links.get(&eni.id)?)))
        .collect();
    let mut text = String::from("table ip vpc\nflush table ip vpc\ntable ip vpc {\n");
    for name in [SPOOFED, UNHELD, GROUP, PRIVATE, CUT] {
        line(&mut text, format_args!("  counter {name} {{}}"));
    }
    source_check(&mut text, fabric, &enis, links, cuts);
    to_the_vpc_itself(&mut text);
    GROUPS.add(&mut text, fabric, &enis);
    delivery(&mut text, &enis);
    public_addresses(&mut text, &enis);
    text.push_str("}\n");
    ipv6::add(&mut text, fabric, &enis);
    text
}

/// Before anything else: nobody sends from an address that is not theirs, and a cut is a cut.
fn source_check(
    text: &mut String,
    fabric: &Fabric,
    enis: &[(&FabricEni, &Link)],
    links: &BTreeMap<String, Link>,
    cuts: &BTreeSet<(String, Endpoint)>,
) {
    text.push_str("  chain from {\n    type filter hook prerouting priority raw; policy accept;\n");
    for (node, endpoint) in cuts {
        let address = match endpoint {
            Endpoint::Imds => IMDS,
            Endpoint::Ec2 => EC2,
        };
        for link in links.values().filter(|link| link.node == *node) {
            let from = format!("iifname {} ip daddr {address}", link.vpc_end);
            line(text, format_args!("    {from} {}", drop_as(CUT)));
        }
    }
    for (eni, link) in enis {
        let held = held(eni).map(|net| format!("ip saddr {}", plain(net)));
        accept_held(text, eni, link, held);
    }
    line(
        text,
        format_args!("    iifname \"eni-*\" {}", drop_as(SPOOFED)),
    );
    let peer = format!("iifname {PEER} ip saddr != {PEER_NETWORK}");
    line(text, format_args!("    {peer} {}", drop_as(SPOOFED)));
    for range in fabric.vpcs.iter().flat_map(|vpc| &vpc.cidrs) {
        let internet = format!("iifname {INTERNET} ip saddr {range}");
        line(text, format_args!("    {internet} {}", drop_as(SPOOFED)));
    }
    text.push_str("  }\n");
}

/// An ENI sends from what it holds; from anything where EC2 does not check.
fn accept_held(
    text: &mut String,
    eni: &FabricEni,
    link: &Link,
    held: impl Iterator<Item = String>,
) {
    let accepted: String = if eni.source_dest_check {
        held.map(|source| format!("{source} accept; ")).collect()
    } else {
        "accept; ".to_owned()
    };
    if !accepted.is_empty() {
        line(
            text,
            format_args!("    iifname {} jump {{ {accepted}}}", link.vpc_end),
        );
    }
}

/// The VPC's router answers nothing but the two services.
fn to_the_vpc_itself(text: &mut String) {
    line(
        text,
        format_args!(
            "  chain to_the_vpc_itself {{
    type filter hook input priority filter; policy drop;
    iifname lo accept
    ct state established,related accept
    iifname \"eni-*\" ip daddr {IMDS} tcp dport 80 accept
    iifname \"eni-*\" ip daddr {EC2} tcp dport 80 accept
    {}
  }}",
            drop_as(UNHELD)
        ),
    );
}

/// Whether a packet that may have been sent has somewhere to go.
fn delivery(text: &mut String, enis: &[(&FabricEni, &Link)]) {
    let mapped: Vec<String> = mappings(enis)
        .map(|(_, private)| format!("ip saddr {private} return; "))
        .collect();
    line(
        text,
        format_args!(
            "  chain delivery {{
    type filter hook forward priority filter; policy drop;
    oifname {NOWHERE} {}
    oifname {INTERNET} jump {{ {}{}; }}
    ct state established,related accept
    iifname {INTERNET} ct status & dnat == 0 {}
    iifname \"eni-*\" goto egress
    goto ingress
  }}",
            drop_as(UNHELD),
            mapped.concat(),
            drop_as(PRIVATE),
            drop_as(UNHELD),
        ),
    );
}

const GROUPS: Family = Family {
    header: "ip",
    held: |eni| held(eni).map(plain).collect(),
    range: |peer| match peer {
        Peer::Cidr(net) => Some(net.to_string()),
        _ => None,
    },
    traffic,
};

/// Protocol and ports of a security group's rule; `None` if no packet of IPv4 matches.
fn traffic(rule: &Rule) -> Option<String> {
    let protocol = match rule.protocol {
        Protocol::All => return Some(String::new()),
        Protocol::Icmpv6(_) => return None,
        Protocol::Icmp(messages) => return Some(icmp(messages)),
        other => other.to_string(),
    };
    Some(match &rule.ports {
        Some(ports) => format!("{protocol} dport {}-{}", ports.start(), ports.end()),
        None => format!("meta l4proto {protocol}"),
    })
}

fn icmp(messages: Messages) -> String {
    match messages {
        Messages::All => "meta l4proto icmp".to_owned(),
        Messages::Type(kind) => format!("icmp type {kind}"),
        Messages::Code(kind, code) => format!("icmp type {kind} icmp code {code}"),
    }
}

/// One to one, both ways; the rest is the kernel's connection tracking.
fn public_addresses(text: &mut String, enis: &[(&FabricEni, &Link)]) {
    text.push_str("  chain to_private {\n    type nat hook prerouting priority dstnat;\n");
    for (public, private) in mappings(enis) {
        let to = format!("iifname {INTERNET} ip daddr {public}");
        line(text, format_args!("    {to} dnat to {private}"));
    }
    text.push_str("  }\n  chain to_public {\n    type nat hook postrouting priority srcnat;\n");
    for (public, private) in mappings(enis) {
        let from = format!("oifname {INTERNET} ip saddr {private}");
        line(text, format_args!("    {from} snat to {public}"));
    }
    text.push_str("  }\n");
}

/// Public and private address of each ENI that has both.
fn mappings(enis: &[(&FabricEni, &Link)]) -> impl Iterator<Item = (Ipv4Addr, Ipv4Addr)> {
    enis.iter()
        .filter_map(|(eni, _)| Some((eni.public_address?, eni.primary_address)))
}

/// A single address without its length.
fn plain(net: Ipv4Net) -> String {
    match net.prefix_len() {
        32 => net.addr().to_string(),
        _ => net.to_string(),
    }
}

fn drop_as(reason: &str) -> String {
    format!("counter name {reason} drop")
}

/// The arguments with which `nft` lists the counters.
pub(crate) const COUNTERS: [&str; 3] = ["--json", "list", "counters"];

/// What `nft` said with [`COUNTERS`].
pub(crate) fn read_drops(json: &[u8]) -> serde_json::Result<Drops> {
    let listing: serde_json::Value = serde_json::from_slice(json)?;
    let counters: Vec<&serde_json::Value> = listing
        .get("nftables")
        .and_then(|objects| objects.as_array())
        .into_iter()
        .flatten()
        .filter_map(|object| object.get("counter"))
        .collect();
    // Of both families.
    let packets = |name: &str| {
        let named = counters
            .iter()
            .filter(|c| c.get("name").is_some_and(|n| n == name));
        named
            .filter_map(|c| c.get("packets")?.as_u64())
            .sum::<u64>()
    };
    Ok(Drops {
        spoofed_source: packets(SPOOFED),
        nobody_holds_it: packets(UNHELD),
        security_group: packets(GROUP),
        no_public_address: packets(PRIVATE),
        cut: packets(CUT),
    })
}
