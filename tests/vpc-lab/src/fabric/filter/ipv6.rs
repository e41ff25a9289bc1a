//! The same rules for IPv6, of which there is less: no services of the VPC, no public addresses, no peer, and no way to
//! the internet.

use aws_sim::{Fabric, FabricEni, Peer, Protocol, Rule};

use super::super::{Link, held_v6, line};
use super::groups::Family;
use super::{GROUP, PRIVATE, SPOOFED, UNHELD, accept_held, drop_as};
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
    GROUPS.add(text, fabric, enis);
    text.push_str("}\n");
}

/// What is said on the link itself (neighbour discovery, multicast reports) goes no further anyway.
fn source_check(text: &mut String, enis: &[(&FabricEni, &Link)]) {
    text.push_str("  chain from {\n    type filter hook prerouting priority raw; policy accept;\n");
    text.push_str("    ip6 saddr :: accept\n    ip6 saddr fe80::/10 accept\n");
    for (eni, link) in enis {
        let held = held_v6(eni).map(|net| format!("ip6 saddr {net}"));
        accept_held(text, eni, link, held);
    }
    line(
        text,
        format_args!("    iifname \"eni-*\" {}\n  }}", drop_as(SPOOFED)),
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

const GROUPS: Family = Family {
    header: "ip6",
    held: |eni| held_v6(eni).map(|net| net.to_string()).collect(),
    range: |peer| match peer {
        Peer::Cidr6(net) => Some(net.to_string()),
        _ => None,
    },
    traffic,
};

fn traffic(allowed: &Rule) -> Option<String> {
    match allowed.protocol {
        Protocol::Icmp(_) => None,
        // Of all types: nothing in the lab asks for less.
        Protocol::Icmpv6(_) => Some("meta l4proto icmpv6".to_owned()),
        _ => super::traffic(allowed),
    }
}
