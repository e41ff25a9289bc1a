//! The VPC's rules for packets, as one nftables ruleset.

mod ipv6;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::Ipv4Addr;

use aws_sim::{Fabric, FabricEni, Messages, Peer, Protocol, Rule};
use ipnet::Ipv4Net;

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
    security_groups(&mut text, fabric, &enis);
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
        let ends = set(links
            .values()
            .filter(|link| link.node == *node)
            .map(|link| &link.vpc_end));
        rule(
            text,
            &[
                matches("iifname", ends),
                Some(format!("ip daddr {address}")),
            ],
            &drop_as(CUT),
        );
    }
    let unchecked = set(enis
        .iter()
        .filter(|(eni, _)| !eni.source_dest_check)
        .map(|(_, link)| &link.vpc_end));
    rule(text, &[matches("iifname", unchecked)], "accept");
    let own = set(enis.iter().flat_map(|(eni, link)| {
        held(eni).map(move |net| format!("{} . {}", link.vpc_end, plain(net)))
    }));
    let foreign = own.map_or(String::new(), |own| format!(" iifname . ip saddr != {own}"));
    line(
        text,
        format_args!("    iifname \"eni-*\"{foreign} {}", drop_as(SPOOFED)),
    );
    let peer = format!("iifname {PEER} ip saddr != {PEER_NETWORK}");
    line(text, format_args!("    {peer} {}", drop_as(SPOOFED)));
    let ranges = set(fabric.vpcs.iter().flat_map(|vpc| &vpc.cidrs));
    let internet = Some(format!("iifname {INTERNET}"));
    rule(
        text,
        &[internet, matches("ip saddr", ranges)],
        &drop_as(SPOOFED),
    );
    text.push_str("  }\n");
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
    iifname \"eni-*\" ip daddr {{ {IMDS}, {EC2} }} tcp dport 80 accept
    {}
  }}",
            drop_as(UNHELD)
        ),
    );
}

/// Whether a packet that may have been sent has somewhere to go.
fn delivery(text: &mut String, enis: &[(&FabricEni, &Link)]) {
    let mapped = set(mappings(enis).map(|(_, private)| private));
    let unmapped = mapped.map_or(String::new(), |mapped| format!(" ip saddr != {mapped}"));
    line(
        text,
        format_args!(
            "  chain delivery {{
    type filter hook forward priority filter; policy drop;
    oifname {NOWHERE} {}
    oifname {INTERNET}{unmapped} {}
    ct state established,related accept
    iifname {INTERNET} ct status & dnat == 0 {}
    iifname \"eni-*\" goto egress
    goto ingress
  }}",
            drop_as(UNHELD),
            drop_as(PRIVATE),
            drop_as(UNHELD),
        ),
    );
}

/// Stateful by `ct state established` in [`delivery`], so only first packets come here: from an ENI through
/// `egress`, then all through `ingress`.
fn security_groups(text: &mut String, fabric: &Fabric, enis: &[(&FabricEni, &Link)]) {
    text.push_str("  chain ingress {\n    oifname != \"eni-*\" accept\n");
    for group in &fabric.security_groups {
        for allowed in &group.ingress {
            let to = matches("oifname", set(members(enis, &group.id).map(vpc_end)));
            let from = peer("ip saddr", &allowed.peer, enis);
            rule(text, &[to, from, traffic(allowed)], "accept");
        }
    }
    line(
        text,
        format_args!("    {}\n  }}\n  chain egress {{", drop_as(GROUP)),
    );
    for group in &fabric.security_groups {
        for allowed in &group.egress {
            let from = matches("iifname", set(members(enis, &group.id).map(vpc_end)));
            let to = peer("ip daddr", &allowed.peer, enis);
            rule(text, &[from, to, traffic(allowed)], "goto ingress");
        }
    }
    line(text, format_args!("    {}\n  }}", drop_as(GROUP)));
}

/// The ENIs that are in a group.
fn members<'a>(
    enis: &'a [(&FabricEni, &Link)],
    group: &str,
) -> impl Iterator<Item = &'a (&'a FabricEni, &'a Link)> {
    enis.iter()
        .filter(move |(eni, _)| eni.groups.iter().any(|id| id == group))
}

fn vpc_end<'a>((_, link): &'a (&FabricEni, &Link)) -> &'a str {
    &link.vpc_end
}

/// The other end of a security group's rule: a range, or all that the members of a group hold.
fn peer(side: &str, peer: &Peer, enis: &[(&FabricEni, &Link)]) -> Option<String> {
    match peer {
        Peer::Cidr(net) => Some(format!("{side} {net}")),
        Peer::Cidr6(_) => None,
        Peer::Group(id) => {
            let holds = members(enis, id.as_str())
                .flat_map(|(eni, _)| held(eni))
                .map(plain);
            matches(side, set(holds))
        }
    }
}

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
    let inward = set(mappings(enis).map(|(public, private)| format!("{public} : {private}")));
    if let Some(map) = inward {
        line(
            text,
            format_args!("    iifname {INTERNET} dnat to ip daddr map {map}"),
        );
    }
    text.push_str("  }\n  chain to_public {\n    type nat hook postrouting priority srcnat;\n");
    let outward = set(mappings(enis).map(|(public, private)| format!("{private} : {public}")));
    if let Some(map) = outward {
        line(
            text,
            format_args!("    oifname {INTERNET} snat to ip saddr map {map}"),
        );
    }
    text.push_str("  }\n");
}

/// Public and private address of each ENI that has both.
fn mappings(enis: &[(&FabricEni, &Link)]) -> impl Iterator<Item = (Ipv4Addr, Ipv4Addr)> {
    enis.iter()
        .filter_map(|(eni, _)| Some((eni.public_address?, eni.primary_address)))
}

/// A rule with these matches; none at all if one of them matches nothing.
fn rule(text: &mut String, matches: &[Option<String>], verdict: &str) {
    if let Some(matches) = matches.iter().cloned().collect::<Option<Vec<String>>>() {
        line(text, format_args!("    {} {verdict}", matches.join(" ")));
    }
}

/// An anonymous set; `None` if it would be empty, which nftables does not take.
fn set(elements: impl Iterator<Item = impl Display>) -> Option<String> {
    let elements: Vec<String> = elements.map(|element| element.to_string()).collect();
    (!elements.is_empty()).then(|| format!("{{ {} }}", elements.join(", ")))
}

fn matches(key: &str, set: Option<String>) -> Option<String> {
    set.map(|set| format!("{key} {set}"))
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
