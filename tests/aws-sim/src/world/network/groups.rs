//! Security groups.

use ipnet::Ipv4Net;

use crate::error::{Ec2Error, Result};
use crate::ids::{GroupId, RuleId, VpcId};
use crate::security::{Peer, Rule};
use crate::world::{Tags, World};

/// EC2's default quota: for each direction, and for IPv4 and IPv6 each.
const MOST_RULES: usize = 60;

/// A security group.
#[derive(Clone, Debug)]
pub struct Group {
    /// `sg-...`
    pub id: GroupId,
    /// Its name, unique in the VPC.
    pub name: String,
    /// What its maker wrote.
    pub description: String,
    /// The VPC it belongs to.
    pub vpc: VpcId,
    /// What may come in.
    pub ingress: Vec<GroupRule>,
    /// What may go out.
    pub egress: Vec<GroupRule>,
    /// Tags.
    pub tags: Tags,
}

impl Group {
    /// Its rules of one direction.
    #[must_use]
    pub fn rules(&self, direction: Direction) -> &[GroupRule] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    pub(crate) fn rules_mut(&mut self, direction: Direction) -> &mut Vec<GroupRule> {
        match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        }
    }

    /// All its rules, each with its direction.
    pub fn all_rules(&self) -> impl Iterator<Item = (Direction, &GroupRule)> {
        Direction::ALL.into_iter().flat_map(|direction| {
            let rules = self.rules(direction).iter();
            rules.map(move |rule| (direction, rule))
        })
    }

    fn names(&self, group: &GroupId) -> bool {
        self.all_rules()
            .any(|(_, rule)| rule.rule.peer == Peer::Group(group.clone()))
    }
}

/// Which way the first packet of a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the members of the group.
    Ingress,
    /// From the members of the group.
    Egress,
}

impl Direction {
    /// Both.
    pub const ALL: [Direction; 2] = [Direction::Ingress, Direction::Egress];
}

/// A rule of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRule {
    /// `sgr-...`
    pub id: RuleId,
    /// What it allows.
    pub rule: Rule,
    /// What its maker wrote.
    pub description: Option<String>,
    /// Tags.
    pub tags: Tags,
}

/// A rule that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewRule {
    pub(crate) rule: Rule,
    pub(crate) description: Option<String>,
    pub(crate) tags: Tags,
}

impl From<Rule> for NewRule {
    fn from(rule: Rule) -> NewRule {
        NewRule {
            rule,
            description: None,
            tags: Tags::new(),
        }
    }
}

impl World {
    /// Makes a security group.
    ///
    /// # Errors
    /// `InvalidVpcID.NotFound`; `InvalidGroup.Duplicate`; `InvalidGroup.NotFound` when a rule names no group.
    pub fn add_security_group(
        &mut self,
        vpc: &VpcId,
        name: &str,
        ingress: Vec<Rule>,
        egress: Vec<Rule>,
    ) -> Result<GroupId> {
        if !self.vpcs.contains_key(vpc) {
            return Err(Ec2Error::no_such_vpc(vpc));
        }
        if self
            .groups
            .values()
            .any(|group| group.vpc == *vpc && group.name == name)
        {
            let message = format!("The security group '{name}' already exists for VPC '{vpc}'");
            return Err(Ec2Error::client("InvalidGroup.Duplicate", message));
        }
        for rule in ingress.iter().chain(&egress) {
            if let Peer::Group(peer) = &rule.peer
                && !self.groups.contains_key(peer)
            {
                return Err(Ec2Error::no_such_group(peer));
            }
        }
        let id = GroupId::new(&mut self.dice);
        self.insert_group(id.clone(), vpc, name, ingress, egress);
        Ok(id)
    }

    /// The group that a new VPC has: everything in from the group itself, everything out.
    pub(super) fn add_default_group(&mut self, vpc: &VpcId) -> GroupId {
        let id = GroupId::new(&mut self.dice);
        let ingress = vec![Rule::all(Peer::Group(id.clone()))];
        let egress = vec![Rule::all(Peer::Cidr(Ipv4Net::default()))];
        self.insert_group(id.clone(), vpc, "default", ingress, egress);
        drop(self.change_group(&id, |group| {
            "default VPC security group".clone_into(&mut group.description);
        }));
        id
    }

    fn insert_group(
        &mut self,
        id: GroupId,
        vpc: &VpcId,
        name: &str,
        ingress: Vec<Rule>,
        egress: Vec<Rule>,
    ) {
        let ingress = ingress.into_iter().map(|rule| self.new_rule(rule.into()));
        let ingress = ingress.collect();
        let egress = egress.into_iter().map(|rule| self.new_rule(rule.into()));
        let egress = egress.collect();
        let group = Group {
            id: id.clone(),
            name: name.to_owned(),
            description: name.to_owned(),
            vpc: vpc.clone(),
            ingress,
            egress,
            tags: Tags::new(),
        };
        self.groups.insert(id, group);
        self.touch();
    }

    fn new_rule(&mut self, new: NewRule) -> GroupRule {
        GroupRule {
            id: RuleId::new(&mut self.dice),
            rule: new.rule,
            description: new.description,
            tags: new.tags,
        }
    }

    pub(crate) fn change_group(&mut self, id: &GroupId, f: impl FnOnce(&mut Group)) -> Result<()> {
        let group = self.groups.get_mut(id);
        f(group.ok_or_else(|| Ec2Error::no_such_group(id))?);
        self.touch();
        Ok(())
    }

    pub(crate) fn delete_group(&mut self, id: &GroupId) {
        self.groups.remove(id);
        self.touch();
    }

    /// Whether an ENI is in the group, or a rule of another group names it.
    pub(crate) fn is_group_used(&self, id: &GroupId) -> bool {
        let mut others = self.groups.values().filter(|other| other.id != *id);
        others.any(|other| other.names(id)) || self.enis().any(|eni| eni.groups.contains(id))
    }

    /// Lets more into a group.
    ///
    /// # Errors
    /// `InvalidGroup.NotFound`; as AuthorizeSecurityGroupIngress.
    pub fn authorize_ingress(&mut self, group: &GroupId, rule: Rule) -> Result<()> {
        self.authorize(group, Direction::Ingress, vec![rule.into()])
            .map(drop)
    }

    /// The same, of what may go out.
    ///
    /// # Errors
    /// As [`World::authorize_ingress`].
    pub fn authorize_egress(&mut self, group: &GroupId, rule: Rule) -> Result<()> {
        self.authorize(group, Direction::Egress, vec![rule.into()])
            .map(drop)
    }

    /// Gives a group more rules: all or none.
    pub(crate) fn authorize(
        &mut self,
        id: &GroupId,
        direction: Direction,
        new: Vec<NewRule>,
    ) -> Result<Vec<GroupRule>> {
        let group = self.group(id).ok_or_else(|| Ec2Error::no_such_group(id))?;
        let known = group.rules(direction).iter().map(|known| &known.rule);
        let mut all: Vec<&Rule> = known.collect();
        for NewRule { rule, .. } in &new {
            if all.iter().any(|known| known.is_same(rule)) {
                return Err(rule.duplicate());
            }
            all.push(rule);
        }
        check_count(&all)?;
        let made: Vec<GroupRule> = new.into_iter().map(|new| self.new_rule(new)).collect();
        let rules = made.clone();
        self.change_group(id, |group| group.rules_mut(direction).extend(rules))?;
        Ok(made)
    }

    /// The groups of a new ENI: those asked for, or the VPC's default.
    pub(crate) fn groups_for(&self, vpc: &VpcId, asked: Vec<GroupId>) -> Result<Vec<GroupId>> {
        if asked.is_empty() {
            let vpc = self
                .vpcs
                .get(vpc)
                .ok_or_else(|| Ec2Error::no_such_vpc(vpc))?;
            return Ok(vec![vpc.default_group.clone()]);
        }
        // EC2's default quota.
        if asked.len() > 5 {
            return Err(Ec2Error::client(
                "SecurityGroupsPerInterfaceLimitExceeded",
                "The maximum number of security groups per interface has been reached.",
            ));
        }
        for id in &asked {
            let group = self.groups.get(id);
            let group = group
                .filter(|group| self.owner(&group.vpc) == self.owner(vpc))
                .ok_or_else(|| Ec2Error::no_such_group(id))?;
            if group.vpc != *vpc {
                let message = "You have specified two resources that belong to different networks.";
                return Err(Ec2Error::client("InvalidGroup.NotFound", message));
            }
        }
        Ok(asked)
    }
}

/// A rule that names a group counts for both families.
fn check_count(rules: &[&Rule]) -> Result<()> {
    let without = |family: fn(&Peer) -> bool| rules.iter().filter(|r| !family(&r.peer)).count();
    let ipv4 = without(|peer| matches!(peer, Peer::Cidr6(_)));
    let ipv6 = without(|peer| matches!(peer, Peer::Cidr(_)));
    if ipv4.max(ipv6) <= MOST_RULES {
        return Ok(());
    }
    let message = "The maximum number of rules per security group has been reached.";
    Err(Ec2Error::client(
        "RulesPerSecurityGroupLimitExceeded",
        message,
    ))
}
