//! The same rules for IPv6, of which there is less: no services of the VPC, no public addresses, no peer, and no way to
//! the internet.

use aws_sim::{Fabric, FabricEni, Peer, Protocol, Rule};

use super::super::{Link, held_v6, line};
use super::{GROUP, PRIVATE, SPOOFED, UNHELD, drop_as, matches, members, rule, set, vpc_end};
use crate::places::{INTERNET, NOWHERE};

pub(super) fn add(text: &mut String, fabric: &Fabric, enis: &[(&FabricEni, &Link)]) {
    if fabric.vpcs.iter().all(|vpc| vpc.ipv6_cidrs.is_empty()) {
        return;
    }
    text.push_str("table ip6 vpc\nflush table ip6 vpc\ntable ip6 vpc {\n");
    for name in [SPOOFED, UNHELD, GROUP, PRIVATE] {
        line(text, format_args!("  counter {name} {{}}"));
    }
    source_check(text, enis);
    router(text);
    security_groups(text, fabric, enis);
    text.push_str("}\n");
}

/// What is said on the link itself (neighbour discovery, multicast reports) goes no further anyway.
fn source_check(text: &mut String, enis: &[(&FabricEni, &Link)]) {
    text.push_str("  chain from {\n    type filter hook prerouting priority raw; policy accept;\n");
    text.push_str("    ip6 saddr { ::, fe80::/10 } accept\n");
    let unchecked = set(enis
        .iter()
        .filter(|(eni, _)| !eni.source_dest_check)
        .map(|(_, link)| &link.vpc_end));
    rule(text, &[matches("iifname", unchecked)], "accept");
    let own = set(enis
        .iter()
        .flat_map(|(eni, link)| held_v6(eni).map(move |net| format!("{} . {net}", link.vpc_end))));
    let foreign = own.map_or(String::new(), |own| {
        format!(" iifname . ip6 saddr != {own}")
    });
    line(
        text,
        format_args!("    iifname \"eni-*\"{foreign} {}\n  }}", drop_as(SPOOFED)),
    );
}

/// Its own messages on the links, and whether a packet that may have been sent has somewhere to go.
fn router(text: &mut String) {
    line(
        text,
        format_args!(
            "  chain to_the_vpc_itself {{
    type filter hook input priority filter; policy drop;
    iifname lo accept
    meta l4proto icmpv6 accept
    {}
  }}
  chain delivery {{
    type filter hook forward priority filter; policy drop;
    oifname {NOWHERE} {}
    oifname {INTERNET} {}
    ct state established,related accept
    iifname \"eni-*\" goto egress
    goto ingress
  }}",
            drop_as(UNHELD),
            drop_as(UNHELD),
            drop_as(PRIVATE),
        ),
    );
}

fn security_groups(text: &mut String, fabric: &Fabric, enis: &[(&FabricEni, &Link)]) {
    text.push_str("  chain ingress {\n");
    for group in &fabric.security_groups {
        for allowed in &group.ingress {
            let to = matches("oifname", set(members(enis, &group.id).map(vpc_end)));
            let from = peer("ip6 saddr", &allowed.peer, enis);
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
            let to = peer("ip6 daddr", &allowed.peer, enis);
            rule(text, &[from, to, traffic(allowed)], "goto ingress");
        }
    }
    line(text, format_args!("    {}\n  }}", drop_as(GROUP)));
}

fn peer(side: &str, peer: &Peer, enis: &[(&FabricEni, &Link)]) -> Option<String> {
    match peer {
        Peer::Cidr(_) => None,
        Peer::Cidr6(net) => Some(format!("{side} {net}")),
        Peer::Group(id) => {
            let holds = members(enis, id.as_str()).flat_map(|(eni, _)| held_v6(eni));
            matches(side, set(holds))
        }
    }
}

fn traffic(allowed: &Rule) -> Option<String> {
    match allowed.protocol {
        Protocol::Icmp(_) => None,
        // Of all types: nothing in the lab asks for less.
        Protocol::Icmpv6(_) => Some("meta l4proto icmpv6".to_owned()),
        _ => super::traffic(allowed),
    }
}
