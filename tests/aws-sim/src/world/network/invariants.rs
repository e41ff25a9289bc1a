//! What must be true of VPCs, subnets and groups at every moment.

use std::collections::BTreeSet;

use super::ranges::overlap;
use super::{Direction, Subnet, Vpc};
use crate::security::Peer;
use crate::world::{Group, World};

impl World {
    /// Checks that everything is inside what it is part of, apart from its siblings, and counted right.
    pub(in crate::world) fn check_networks(&self) -> Result<(), String> {
        self.subnets
            .values()
            .try_for_each(|subnet| self.check_subnet(subnet))?;
        self.vpcs.values().try_for_each(|vpc| self.check_vpc(vpc))?;
        let mut ids = BTreeSet::new();
        for group in self.groups.values() {
            self.check_group(group)?;
            let twice = group.all_rules().find(|(_, rule)| !ids.insert(&rule.id));
            if let Some((_, rule)) = twice {
                return Err(format!("{}: {} is there twice", group.id, rule.id));
            }
        }
        Ok(())
    }

    fn check_vpc(&self, vpc: &Vpc) -> Result<(), String> {
        let cidrs = vpc.cidrs();
        if cidrs.is_empty() || self.group(&vpc.default_group).is_none() {
            return Err(format!("{}: no CIDR or no default group", vpc.id));
        }
        let subnets: Vec<&Subnet> = self.subnets_of(&vpc.id).collect();
        let ranges = subnets.iter().map(|subnet| subnet.pool.cidr());
        let ranges: Vec<_> = ranges.collect();
        for (nth, range) in ranges.iter().enumerate() {
            if let Some(other) = ranges
                .iter()
                .skip(nth + 1)
                .find(|other| overlap(**other, *range))
            {
                return Err(format!("{}: {range} and {other} overlap", vpc.id));
            }
            if !cidrs.iter().any(|cidr| cidr.contains(range)) {
                return Err(format!("{}: {range} is in none of its CIDRs", vpc.id));
            }
        }
        let blocks = vpc.ipv6_cidrs();
        let mut parts = subnets
            .iter()
            .filter_map(|subnet| Some(subnet.ipv6.as_ref()?.cidr()));
        match parts.find(|part| !blocks.iter().any(|block| block.contains(part))) {
            Some(part) => Err(format!("{}: {part} is in none of its IPv6 CIDRs", vpc.id)),
            None => Ok(()),
        }
    }

    fn check_subnet(&self, subnet: &Subnet) -> Result<(), String> {
        let id = &subnet.id;
        if self.vpc(&subnet.vpc).is_none() {
            return Err(format!("{id}: no VPC"));
        }
        if subnet.ipv6.is_some() != subnet.ipv6_association.is_some() {
            return Err(format!(
                "{id}: IPv6 without an association, or the other way round"
            ));
        }
        if !subnet.pool.counts_right() {
            return Err(format!("{id}: free addresses are counted wrong"));
        }
        let parts: Vec<_> = subnet
            .reservations
            .values()
            .map(|found| found.cidr)
            .collect();
        for (nth, part) in parts.iter().enumerate() {
            let others = parts.iter().skip(nth + 1);
            if !subnet.pool.cidr().contains(part) || others.clone().any(|o| overlap(*o, *part)) {
                return Err(format!(
                    "{id}: its reservation {part} is outside or overlaps"
                ));
            }
        }
        Ok(())
    }

    fn check_group(&self, group: &Group) -> Result<(), String> {
        let id = &group.id;
        if self.vpc(&group.vpc).is_none() {
            return Err(format!("{id}: no VPC"));
        }
        for direction in Direction::ALL {
            let rules = group.rules(direction);
            for (nth, rule) in rules.iter().enumerate() {
                let mut others = rules.iter().skip(nth + 1);
                if others.any(|other| other.rule.is_same(&rule.rule)) {
                    return Err(format!("{id}: \"{}\" is there twice", rule.rule));
                }
                if let Peer::Group(peer) = &rule.rule.peer
                    && self.group(peer).is_none_or(|peer| peer.vpc != group.vpc)
                {
                    return Err(format!("{id}: it names {peer}, which is not in its VPC"));
                }
            }
        }
        Ok(())
    }
}
