//! Rules as DescribeSecurityGroups shows them: those that differ only in the other end, together.

use crate::filters::Field;
use crate::security::Peer;
use crate::world::{Direction, Group, GroupRule, World};
use crate::xml::Xml;

pub(super) fn show(xml: &mut Xml, name: &str, account: &str, rules: &[GroupRule]) {
    let mut permissions: Vec<(&GroupRule, Vec<&GroupRule>)> = Vec::new();
    for rule in rules {
        let alike = |(first, _): &&mut (&GroupRule, _)| {
            first.rule.protocol == rule.rule.protocol && first.rule.from_to() == rule.rule.from_to()
        };
        match permissions.iter_mut().find(alike) {
            Some((_, alike)) => alike.push(rule),
            None => permissions.push((rule, vec![rule])),
        }
    }
    xml.set(name, permissions, |xml, (first, alike)| {
        xml.text("ipProtocol", first.rule.protocol);
        if let Some((from, to)) = first.rule.from_to() {
            xml.text("fromPort", from).text("toPort", to);
        }
        let groups = alike
            .iter()
            .filter(|r| matches!(r.rule.peer, Peer::Group(_)));
        xml.set("groups", groups, |xml, rule| {
            xml.text("userId", account);
            peer(xml, "groupId", rule);
        });
        let ipv4 = alike
            .iter()
            .filter(|r| matches!(r.rule.peer, Peer::Cidr(_)));
        xml.set("ipRanges", ipv4, |xml, rule| peer(xml, "cidrIp", rule));
        let ipv6 = alike
            .iter()
            .filter(|r| matches!(r.rule.peer, Peer::Cidr6(_)));
        xml.set("ipv6Ranges", ipv6, |xml, rule| peer(xml, "cidrIpv6", rule));
        xml.set("prefixListIds", std::iter::empty::<()>(), |_, ()| {});
    });
}

fn peer(xml: &mut Xml, name: &str, rule: &GroupRule) {
    xml.text(name, &rule.rule.peer)
        .maybe("description", rule.description.as_ref());
}

/// `ip-permission.NAME`, of the rules of one direction.
pub(super) fn field<'w>(
    world: &'w World,
    direction: Direction,
    name: &str,
) -> Option<Field<'w, Group>> {
    type Value = fn(&World, &Group, &GroupRule) -> Option<String>;
    let value: Value = match name {
        "cidr" => |_, _, rule| match &rule.rule.peer {
            Peer::Cidr(cidr) => Some(cidr.to_string()),
            Peer::Cidr6(_) | Peer::Group(_) => None,
        },
        "ipv6-cidr" => |_, _, rule| match &rule.rule.peer {
            Peer::Cidr6(cidr) => Some(cidr.to_string()),
            Peer::Cidr(_) | Peer::Group(_) => None,
        },
        "group-id" => |_, _, rule| match &rule.rule.peer {
            Peer::Group(group) => Some(group.to_string()),
            Peer::Cidr(_) | Peer::Cidr6(_) => None,
        },
        "group-name" => |world, _, rule| match &rule.rule.peer {
            Peer::Group(group) => Some(world.group(group)?.name.clone()),
            Peer::Cidr(_) | Peer::Cidr6(_) => None,
        },
        "user-id" => |world, group, rule| match &rule.rule.peer {
            Peer::Group(_) => Some(world.owner(&group.vpc).to_owned()),
            Peer::Cidr(_) | Peer::Cidr6(_) => None,
        },
        "from-port" => |_, _, rule| Some(rule.rule.from_to()?.0.to_string()),
        "to-port" => |_, _, rule| Some(rule.rule.from_to()?.1.to_string()),
        "protocol" => |_, _, rule| Some(rule.rule.protocol.to_string()),
        "prefix-list-id" => |_, _, _| None,
        _ => return None,
    };
    Some(Box::new(move |group| {
        let rules = group.rules(direction).iter();
        rules.filter_map(|rule| value(world, group, rule)).collect()
    }))
}
