//! `[[vpc]]`, `[[subnet]]` and `[[security-group]]`.

use ipnet::Ipv4Net;
use serde::Deserialize;

use super::builder::{Asked, Builder, refused};
use super::document::{Entry, FileError};
use super::elements;
use super::names::Kind;
use crate::error::Ec2Error;
use crate::ids::{SubnetId, VpcId};
use crate::world::Tags;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct VpcEntry {
    name: String,
    /// The first is the primary.
    cidrs: Vec<Ipv4Net>,
    /// Whether it gets a /56 of IPv6.
    #[serde(default)]
    ipv6: bool,
    /// Without one, the world's own.
    account: Option<String>,
    #[serde(default)]
    tags: Tags,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct SubnetEntry {
    name: String,
    vpc: Option<String>,
    /// Such as `a`, or the whole name of the zone.
    zone: String,
    cidr: Ipv4Net,
    /// Whether it gets a /64 of the VPC's IPv6.
    #[serde(default)]
    ipv6: bool,
    #[serde(default)]
    reservations: Vec<Reservation>,
    #[serde(default)]
    tags: Tags,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Reservation {
    cidr: String,
    /// `prefix` or `explicit`.
    r#type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct GroupEntry {
    name: String,
    vpc: Option<String>,
    description: Option<String>,
    /// Nothing comes in without one.
    #[serde(default)]
    ingress: Vec<RuleEntry>,
    /// Without this list, everything goes out.
    egress: Option<Vec<RuleEntry>>,
    #[serde(default)]
    tags: Tags,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RuleEntry {
    /// A CIDR, or the name of a security group.
    peer: String,
    /// `tcp`, `udp`, `icmp` or a number; without one, all.
    protocol: Option<String>,
    /// `80` or `8000-8999`; without one, all.
    ports: Option<String>,
}

impl RuleEntry {
    /// Its parameters but for the peer.
    fn asked(&self, group: &str) -> Asked {
        let protocol = self.protocol.as_deref().unwrap_or("-1");
        let asked = Asked::new()
            .with("GroupId", group)
            .with("IpPermissions.1.IpProtocol", protocol);
        let (from, to) = match (self.ports.as_deref(), protocol) {
            (Some(ports), _) => ports.split_once('-').unwrap_or((ports, ports)),
            (None, "tcp" | "udp") => ("0", "65535"),
            (None, "icmp") => ("-1", "-1"),
            (None, _) => return asked,
        };
        asked
            .with("IpPermissions.1.FromPort", from)
            .with("IpPermissions.1.ToPort", to)
    }
}

impl Builder<'_> {
    pub(super) fn vpc(&mut self, entry: &Entry<'_>) -> Result<(), FileError> {
        let vpc: VpcEntry = entry.read()?;
        let entry = &entry.called("VPC", &vpc.name);
        let account = vpc
            .account
            .unwrap_or_else(|| self.world.config.account.clone());
        let [primary, others @ ..] = vpc.cidrs.as_slice() else {
            let what = "`cidrs` is empty: a VPC has at least one, such as \"10.0.0.0/16\"";
            return Err(entry.error("cidrs", what));
        };
        let made = self.world.add_vpc_in(&account, *primary);
        let id = made.map_err(|error| refused(entry, "cidrs", &error))?;
        for cidr in others {
            let added = self.world.add_vpc_cidr(&id, *cidr);
            added.map_err(|error| refused(entry, "cidrs", &error))?;
        }
        if vpc.ipv6 {
            let added = self.world.add_vpc_ipv6(&id);
            added.map_err(|error| refused(entry, "ipv6", &error))?;
        }
        self.name(
            (entry, Kind::Vpc),
            &account,
            &vpc.name,
            id.as_str(),
            &vpc.tags,
        )
    }

    /// The VPC that an entry is in, and its account.
    fn vpc_of(&self, entry: &Entry<'_>, name: Option<&str>) -> Result<(VpcId, String), FileError> {
        let id = VpcId::from(self.id_or_only(entry, "vpc", Kind::Vpc, name)?.as_str());
        let account = self.world.owner(&id).to_owned();
        Ok((id, account))
    }

    pub(super) fn subnet(&mut self, entry: &Entry<'_>) -> Result<(), FileError> {
        let subnet: SubnetEntry = entry.read()?;
        let entry = &entry.called("subnet", &subnet.name);
        let (vpc, account) = self.vpc_of(entry, subnet.vpc.as_deref())?;
        let zone = match subnet.zone.len() {
            1 => format!("{}{}", self.world.config.region, subnet.zone),
            _ => subnet.zone,
        };
        let made = self.world.add_subnet(&vpc, subnet.cidr, &zone);
        let id = made.map_err(|error| {
            let field = if error.code.starts_with("InvalidSubnet") {
                "cidr"
            } else {
                "zone"
            };
            refused(entry, field, &error)
        })?;
        if subnet.ipv6 {
            self.subnet_ipv6(entry, &vpc, &id)?;
        }
        for reservation in &subnet.reservations {
            let asked = Asked::new()
                .with("SubnetId", &id)
                .with("Cidr", &reservation.cidr)
                .with("ReservationType", &reservation.r#type);
            let made = self.ec2(&account, "CreateSubnetCidrReservation", asked);
            made.map_err(|error| refused(entry, "reservations", &error))?;
        }
        self.name(
            (entry, Kind::Subnet),
            &account,
            &subnet.name,
            id.as_str(),
            &subnet.tags,
        )
    }

    /// Gives a subnet the first /64 of its VPC's block that no other has.
    fn subnet_ipv6(
        &mut self,
        entry: &Entry<'_>,
        vpc: &VpcId,
        subnet: &SubnetId,
    ) -> Result<(), FileError> {
        let block = self
            .world
            .vpc(vpc)
            .and_then(|vpc| vpc.ipv6_cidrs().first().copied());
        let Some(block) = block else {
            let what = "its VPC has no IPv6 block: say `ipv6 = true` there too";
            return Err(entry.error("ipv6", what));
        };
        let parts = block.subnets(64).into_iter().flatten();
        let mut added = parts.map(|part| self.world.add_subnet_ipv6(subnet, part));
        let first = added.find(|added| !added.as_ref().is_err_and(is_taken));
        match first {
            None => Err(entry.error("ipv6", "all 256 blocks of its VPC's /56 are taken")),
            Some(added) => added
                .map(drop)
                .map_err(|error| refused(entry, "ipv6", &error)),
        }
    }

    pub(super) fn group(&mut self, entry: &Entry<'_>) -> Result<(), FileError> {
        let group: GroupEntry = entry.read()?;
        let entry = &entry.called("security group", &group.name);
        let (vpc, account) = self.vpc_of(entry, group.vpc.as_deref())?;
        let description = group.description.as_deref().unwrap_or(&group.name);
        let asked = Asked::new()
            .with("GroupName", &group.name)
            .with("GroupDescription", description)
            .with("VpcId", &vpc);
        let made = self.ec2(&account, "CreateSecurityGroup", asked);
        let made = made.map_err(|error| refused(entry, "name", &error))?;
        let id = elements::first(&made, "groupId").unwrap_or_default();
        self.name(
            (entry, Kind::Group),
            &account,
            &group.name,
            &id,
            &group.tags,
        )?;
        let ingress = ("ingress", "AuthorizeSecurityGroupIngress");
        self.rules(entry, ingress, &account, &id, &group.ingress)?;
        let Some(egress) = &group.egress else {
            return Ok(());
        };
        let all = Asked::new()
            .with("GroupId", &id)
            .with("IpPermissions.1.IpProtocol", "-1")
            .with("IpPermissions.1.IpRanges.1.CidrIp", "0.0.0.0/0");
        let revoked = self.ec2(&account, "RevokeSecurityGroupEgress", all);
        revoked.map_err(|error| refused(entry, "egress", &error))?;
        self.rules(
            entry,
            ("egress", "AuthorizeSecurityGroupEgress"),
            &account,
            &id,
            egress,
        )
    }

    fn rules(
        &mut self,
        entry: &Entry<'_>,
        (field, action): (&str, &str),
        account: &str,
        group: &str,
        rules: &[RuleEntry],
    ) -> Result<(), FileError> {
        for rule in rules {
            let asked = rule.asked(group);
            let asked = match rule.peer.parse::<ipnet::IpNet>() {
                Ok(ipnet::IpNet::V4(cidr)) => asked.with("IpPermissions.1.IpRanges.1.CidrIp", cidr),
                Ok(ipnet::IpNet::V6(cidr)) => {
                    asked.with("IpPermissions.1.Ipv6Ranges.1.CidrIpv6", cidr)
                }
                Err(_) => {
                    let peer = self.id(entry, field, Kind::Group, &rule.peer)?;
                    asked.with("IpPermissions.1.Groups.1.GroupId", peer)
                }
            };
            let added = self.ec2(account, action, asked);
            added.map_err(|error| refused(entry, field, &error))?;
        }
        Ok(())
    }
}

fn is_taken(error: &Ec2Error) -> bool {
    error.code == "InvalidSubnet.Conflict"
}
