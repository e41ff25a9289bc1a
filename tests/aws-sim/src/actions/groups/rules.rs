//! Authorize, revoke, modify and describe the rules of security groups.

use super::asked::{self, Asked, AskedPeer};
use super::one_group;
use crate::actions::select::Selection;
use crate::actions::{ids, render, tags};
use crate::error::{Ec2Error, Result};
use crate::filters::Field;
use crate::ids::RuleId;
use crate::params::Input;
use crate::security::{Peer, Rule};
use crate::time::SimTime;
use crate::world::{Direction, Group, GroupRule, NewRule, World};
use crate::xml::Xml;

pub(super) fn authorize_ingress(w: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    authorize(w, input, Direction::Ingress)
}

pub(super) fn authorize_egress(w: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    authorize(w, input, Direction::Egress)
}

pub(super) fn revoke_ingress(w: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    revoke(w, input, Direction::Ingress)
}

pub(super) fn revoke_egress(w: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    revoke(w, input, Direction::Egress)
}

fn authorize(world: &mut World, input: &Input<'_>, direction: Direction) -> Result<Xml> {
    let group = one_group(input)?;
    let asked = asked::read(input)?;
    let tags = tags::specified(input, "security-group-rule")?;
    input.finish()?;

    let group = ids::owned_group(world, input, &ids::group_id(group?)?)?;
    if asked.is_empty() {
        return Err(Ec2Error::missing("ipPermissions"));
    }
    let new = asked.into_iter().map(|asked| {
        let tags = tags.clone();
        let new = asked.check(world, input, &group.vpc)?;
        Ok(NewRule { tags, ..new })
    });
    let new = new.collect::<Result<Vec<_>>>()?;
    let id = group.id.clone();
    let made = world.authorize(&id, direction, new)?;
    let group = ids::owned_group(world, input, &id)?;
    let mut xml = render::done();
    xml.set("securityGroupRuleSet", &made, |xml, rule| {
        show(xml, world, group, direction, rule);
    });
    Ok(xml)
}

fn revoke(world: &mut World, input: &Input<'_>, direction: Direction) -> Result<Xml> {
    let group = one_group(input)?;
    let named = input.list("SecurityGroupRuleId");
    let asked = asked::read(input)?;
    input.finish()?;

    let group = ids::owned_group(world, input, &ids::group_id(group?)?)?;
    let rules = group.rules(direction);
    let mut found: Vec<&GroupRule> = Vec::new();
    match (named.is_empty(), asked.is_empty()) {
        (true, true) => return Err(Ec2Error::missing("ipPermissions")),
        (false, false) => {
            return Err(Ec2Error::combination(
                "The parameter securityGroupRuleIds cannot be used with the parameter ipPermissions",
            ));
        }
        (false, true) => {
            for id in named {
                let id = ids::rule_id(id)?;
                let rule = rules.iter().find(|rule| rule.id == id);
                found.push(rule.ok_or_else(|| no_such_rule(id.as_str()))?);
            }
        }
        (true, false) => {
            for asked in asked {
                let wanted = asked.check(world, input, &group.vpc)?.rule;
                let rule = rules.iter().find(|rule| rule.rule.is_same(&wanted));
                found.push(rule.ok_or_else(|| {
                    let message = "The specified rule does not exist in this security group.";
                    Ec2Error::client("InvalidPermission.NotFound", message)
                })?);
            }
        }
    }
    let mut xml = render::done();
    xml.set("revokedSecurityGroupRuleSet", &found, |xml, rule| {
        show_revoked(xml, group, direction, rule);
    });
    let gone: Vec<RuleId> = found.into_iter().map(|rule| rule.id.clone()).collect();
    let id = group.id.clone();
    world.change_group(&id, |group| {
        group
            .rules_mut(direction)
            .retain(|rule| !gone.contains(&rule.id));
    })?;
    Ok(xml)
}

/// A rule keeps its id, its tags and its kind of peer.
pub(super) fn modify(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let group = input.required("GroupId")?;
    let mut asked = Vec::new();
    for element in input.elements("SecurityGroupRule") {
        let id = input.required(&format!("{element}.SecurityGroupRuleId"))?;
        asked.push((
            id,
            read_change(input, &format!("{element}.SecurityGroupRule"))?,
        ));
    }
    input.finish()?;

    let group = ids::owned_group(world, input, &ids::group_id(group)?)?;
    if asked.is_empty() {
        return Err(Ec2Error::missing("securityGroupRules"));
    }
    let mut changed = group.clone();
    let mut seen: Vec<&str> = Vec::new();
    for (id, asked) in asked {
        if seen.contains(&id) {
            return Err(Ec2Error::invalid(format!(
                "Duplicated security group rule ID '{id}'. The same security group rule ID must not appear multiple \
                 times."
            )));
        }
        seen.push(id);
        let id = ids::rule_id(id)?;
        let new = asked.check(world, input, &group.vpc)?;
        let rules = changed.ingress.iter_mut().chain(&mut changed.egress);
        let rule = rules.into_iter().find(|rule| rule.id == id);
        let rule = rule.ok_or_else(|| no_such_rule(id.as_str()))?;
        let (want, have) = (kind(&new.rule.peer), kind(&rule.rule.peer));
        if want != have {
            return Err(Ec2Error::invalid(format!(
                "Invalid rule type for security group rule '{id}'. You may not specify {want} for an existing {have} \
                 rule."
            )));
        }
        rule.rule = new.rule;
        rule.description = new.description;
    }
    for direction in Direction::ALL {
        check_duplicates(changed.rules(direction))?;
    }
    let id = group.id.clone();
    world.change_group(&id, |group| *group = changed)?;
    Ok(render::done())
}

fn read_change<'a>(input: &Input<'a>, name: &str) -> Result<Asked<'a>> {
    let member = |member: &str| input.text(&format!("{name}.{member}"));
    let group = member("ReferencedGroupId").map(|id| AskedPeer::Group {
        id: Some(id),
        name: None,
        account: None,
    });
    let peers = [
        member("CidrIpv4").map(AskedPeer::Cidr),
        member("CidrIpv6").map(AskedPeer::Cidr6),
        member("PrefixListId").map(AskedPeer::PrefixList),
        group,
    ];
    let mut peers = peers.into_iter().flatten();
    let peer = peers.next();
    if peers.next().is_some() {
        return Err(Ec2Error::combination(
            "Only one of cidrIp, cidrIpv6, prefixListId, or referencedGroupId can be specified",
        ));
    }
    Ok(Asked {
        protocol: member("IpProtocol"),
        from: member("FromPort"),
        to: member("ToPort"),
        peer,
        description: member("Description"),
    })
}

fn kind(peer: &Peer) -> &'static str {
    match peer {
        Peer::Cidr(_) => "CidrIpv4",
        Peer::Cidr6(_) => "CidrIpv6",
        Peer::Group(_) => "ReferencedGroupId",
    }
}

fn check_duplicates(rules: &[GroupRule]) -> Result<()> {
    let mut seen: Vec<&Rule> = Vec::new();
    for rule in rules.iter().map(|rule| &rule.rule) {
        if seen.iter().any(|seen| seen.is_same(rule)) {
            return Err(rule.duplicate());
        }
        seen.push(rule);
    }
    Ok(())
}

/// A rule and where it is.
struct Found<'w> {
    group: &'w Group,
    direction: Direction,
    rule: &'w GroupRule,
}

pub(super) fn describe(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let world = &*world;
    let asked = Selection::read(input, "SecurityGroupRuleId", ids::rule_id, field)?;
    let own = world
        .groups
        .values()
        .filter(|group| world.owns(input.account(), &group.vpc));
    let mut all: Vec<Found<'_>> = own
        .flat_map(|group| {
            group.all_rules().map(move |(direction, rule)| Found {
                group,
                direction,
                rule,
            })
        })
        .collect();
    all.sort_by(|one, other| one.rule.id.cmp(&other.rule.id));
    let (shown, next) = asked.choose(
        &all,
        |id: &RuleId| all.iter().find(|found| found.rule.id == *id),
        no_such_rule,
        |found| found.rule.id.as_str(),
    )?;

    let mut xml = Xml::new();
    xml.set("securityGroupRuleSet", shown, |xml, found| {
        show(xml, world, found.group, found.direction, found.rule);
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

fn field<'a>(name: &str) -> Option<Field<'a, Found<'a>>> {
    if let Some(key) = name.strip_prefix("tag:") {
        let key = key.to_owned();
        return Some(Box::new(move |found| {
            found.rule.tags.get(&key).cloned().into_iter().collect()
        }));
    }
    Some(match name {
        "group-id" => Box::new(|found| vec![found.group.id.to_string()]),
        "security-group-rule-id" => Box::new(|found| vec![found.rule.id.to_string()]),
        "tag-key" => Box::new(|found| found.rule.tags.keys().cloned().collect()),
        _ => return None,
    })
}

pub(in crate::actions) fn no_such_rule(id: &str) -> Ec2Error {
    let message = format!("The security group rule ID '{id}' does not exist");
    Ec2Error::client("InvalidSecurityGroupRuleId.NotFound", message)
}

fn show(xml: &mut Xml, world: &World, group: &Group, direction: Direction, rule: &GroupRule) {
    let owner = world.owner(&group.vpc);
    xml.text("securityGroupRuleId", &rule.id)
        .text("groupId", &group.id)
        .text("groupOwnerId", owner);
    traffic(xml, direction, &rule.rule);
    if let Peer::Group(other) = &rule.rule.peer {
        xml.node("referencedGroupInfo", |xml| {
            xml.text("groupId", other).text("userId", owner);
        });
    }
    xml.maybe("description", rule.description.as_ref());
    render::tags(xml, &rule.tags);
    let arn = world.arn(owner, "security-group-rule", rule.id.as_str());
    xml.text("securityGroupRuleArn", arn);
}

fn show_revoked(xml: &mut Xml, group: &Group, direction: Direction, rule: &GroupRule) {
    xml.text("securityGroupRuleId", &rule.id)
        .text("groupId", &group.id);
    traffic(xml, direction, &rule.rule);
    if let Peer::Group(other) = &rule.rule.peer {
        xml.text("referencedGroupId", other);
    }
    xml.maybe("description", rule.description.as_ref());
}

/// Where ports mean nothing, rules on their own show them as -1.
fn traffic(xml: &mut Xml, direction: Direction, rule: &Rule) {
    let (from, to) = rule.from_to().unwrap_or((-1, -1));
    xml.text("isEgress", direction == Direction::Egress)
        .text("ipProtocol", rule.protocol)
        .text("fromPort", from)
        .text("toPort", to);
    match &rule.peer {
        Peer::Cidr(cidr) => xml.text("cidrIpv4", cidr),
        Peer::Cidr6(cidr) => xml.text("cidrIpv6", cidr),
        Peer::Group(_) => xml,
    };
}
