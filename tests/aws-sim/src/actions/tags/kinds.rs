//! The kinds of things that have tags: one table, so that a new kind is one row.

use crate::actions::groups::no_such_rule;
use crate::actions::reservations::no_such_reservation;
use crate::error::{Ec2Error, Result};
use crate::ids::{EniId, GroupId, InstanceId, ReservationId, RuleId, SubnetId, VpcId};
use crate::time::SimTime;
use crate::world::{Tags, World};

/// A kind of thing that has tags.
pub(super) struct Kind {
    /// EC2's `resourceType`.
    pub(super) name: &'static str,
    is_id: fn(&str) -> bool,
    missing: fn(&str) -> Ec2Error,
    find: for<'w> fn(&'w World, &str) -> Option<Tagged<'w>>,
    /// All as they were at a time, where they have a history.
    all: for<'w> fn(&'w World, SimTime) -> Vec<Tagged<'w>>,
    change: fn(&mut World, &str, &mut Edit<'_>) -> Result<()>,
}

/// What is to be done to the tags of a thing.
type Edit<'e> = dyn FnMut(&mut Tags) + 'e;

/// A thing that has tags.
pub(super) struct Tagged<'w> {
    pub(super) id: &'w str,
    /// What it is in, and so whose it is.
    pub(super) vpc: &'w VpcId,
    pub(super) tags: &'w Tags,
}

fn tagged<'w>(id: &'w str, vpc: &'w VpcId, tags: &'w Tags) -> Tagged<'w> {
    Tagged { id, vpc, tags }
}

pub(super) static KINDS: [Kind; 7] = [
    Kind {
        name: "network-interface",
        is_id: EniId::is_well_formed,
        missing: |id| Ec2Error::no_such_eni(id),
        find: |world, id| {
            let eni = world.eni(&id.into())?;
            Some(tagged(eni.id.as_str(), &eni.vpc, &eni.tags))
        },
        all: |world, then| {
            let all = world.enis_at(then);
            all.map(|eni| tagged(eni.id.as_str(), &eni.vpc, &eni.tags))
                .collect()
        },
        change: |world, id, f| world.change_eni(&id.into(), |eni| f(&mut eni.tags)),
    },
    Kind {
        name: "instance",
        is_id: InstanceId::is_well_formed,
        missing: |id| Ec2Error::no_such_instance(id),
        find: |world, id| {
            let found = world.instance(&id.into())?;
            Some(tagged(found.id.as_str(), &found.vpc, &found.tags))
        },
        all: |world, then| {
            let all = world.instances_at(then);
            all.map(|found| tagged(found.id.as_str(), &found.vpc, &found.tags))
                .collect()
        },
        change: |world, id, f| world.change_instance(&id.into(), |found| f(&mut found.tags)),
    },
    Kind {
        name: "subnet",
        is_id: SubnetId::is_well_formed,
        missing: |id| Ec2Error::no_such_subnet(id),
        find: |world, id| {
            let found = world.subnets.get(id)?;
            Some(tagged(found.id.as_str(), &found.vpc, &found.tags))
        },
        all: |world, _| {
            let all = world.subnets.values();
            all.map(|found| tagged(found.id.as_str(), &found.vpc, &found.tags))
                .collect()
        },
        change: |world, id, f| world.change_subnet(&id.into(), |found| f(&mut found.tags)),
    },
    Kind {
        name: "vpc",
        is_id: VpcId::is_well_formed,
        missing: |id| Ec2Error::no_such_vpc(id),
        find: |world, id| {
            let found = world.vpcs.get(id)?;
            Some(tagged(found.id.as_str(), &found.id, &found.tags))
        },
        all: |world, _| {
            let all = world.vpcs.values();
            all.map(|found| tagged(found.id.as_str(), &found.id, &found.tags))
                .collect()
        },
        change: |world, id, f| world.change_vpc(&id.into(), |found| f(&mut found.tags)),
    },
    Kind {
        name: "security-group",
        is_id: GroupId::is_well_formed,
        missing: |id| Ec2Error::no_such_group(id),
        find: |world, id| {
            let found = world.groups.get(id)?;
            Some(tagged(found.id.as_str(), &found.vpc, &found.tags))
        },
        all: |world, _| {
            let all = world.groups.values();
            all.map(|found| tagged(found.id.as_str(), &found.vpc, &found.tags))
                .collect()
        },
        change: |world, id, f| world.change_group(&id.into(), |found| f(&mut found.tags)),
    },
    Kind {
        name: "security-group-rule",
        is_id: RuleId::is_well_formed,
        missing: no_such_rule,
        find: |world, id| rules(world).find(|rule| rule.id == id),
        all: |world, _| rules(world).collect(),
        change: |world, id, f| {
            let group = rule_owner(world, id).ok_or_else(|| no_such_rule(id))?;
            world.change_group(&group, |group| {
                let rules = group.ingress.iter_mut().chain(&mut group.egress);
                let tags = rules
                    .filter(|rule| rule.id.as_str() == id)
                    .map(|rule| &mut rule.tags);
                tags.for_each(f);
            })
        },
    },
    Kind {
        name: "subnet-cidr-reservation",
        is_id: ReservationId::is_well_formed,
        missing: no_such_reservation,
        find: |world, id| reservations(world).find(|found| found.id == id),
        all: |world, _| reservations(world).collect(),
        change: |world, id, f| {
            let mut subnets = world.subnets.values();
            let subnet = subnets.find(|subnet| subnet.reservations.contains_key(id));
            let subnet = subnet.ok_or_else(|| no_such_reservation(id))?.id.clone();
            world.change_subnet(&subnet, |subnet| {
                let found = subnet.reservations.get_mut(id);
                found.map(|found| &mut found.tags).into_iter().for_each(f);
            })
        },
    },
];

impl Kind {
    /// The kind that has ids like this one.
    pub(super) fn of(id: &str) -> Result<&'static Kind> {
        KINDS.iter().find(|kind| (kind.is_id)(id)).ok_or_else(|| {
            let message = format!("The ID '{id}' is not valid");
            Ec2Error::client("InvalidID", message)
        })
    }

    /// The caller's thing of this id.
    pub(super) fn find<'w>(&self, world: &'w World, account: &str, id: &str) -> Result<Tagged<'w>> {
        (self.find)(world, id)
            .filter(|found| world.owns(account, found.vpc))
            .ok_or_else(|| (self.missing)(id))
    }

    /// All of the caller's, as they were at a time.
    pub(super) fn all<'w>(
        &self,
        world: &'w World,
        then: SimTime,
        account: &str,
    ) -> impl Iterator<Item = Tagged<'w>> {
        let all = (self.all)(world, then).into_iter();
        all.filter(move |found| world.owns(account, found.vpc))
    }

    pub(super) fn change(
        &self,
        world: &mut World,
        id: &str,
        mut f: impl FnMut(&mut Tags),
    ) -> Result<()> {
        (self.change)(world, id, &mut f)
    }
}

fn rules(world: &World) -> impl Iterator<Item = Tagged<'_>> {
    world.groups.values().flat_map(|group| {
        let all = group.all_rules();
        all.map(|(_, rule)| tagged(rule.id.as_str(), &group.vpc, &rule.tags))
    })
}

fn rule_owner(world: &World, id: &str) -> Option<GroupId> {
    let mut groups = world.groups.values();
    let found = groups.find(|group| group.all_rules().any(|(_, rule)| rule.id.as_str() == id));
    found.map(|group| group.id.clone())
}

fn reservations(world: &World) -> impl Iterator<Item = Tagged<'_>> {
    world.subnets.values().flat_map(|subnet| {
        let all = subnet.reservations.values();
        all.map(|found| tagged(found.id.as_str(), &subnet.vpc, &found.tags))
    })
}
