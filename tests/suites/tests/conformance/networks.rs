//! Zones, VPCs, subnets and security groups.

use crate::check::{Check, MustFail as _, Need as _, check, holds, same};
use crate::ec2::{NO_GROUP, NO_SUBNET, ZONE, filter, first_64, tag};

pub(crate) fn table() -> Vec<Check> {
    vec![
        check!(
            "DescribeAvailabilityZones",
            "A zone has name, id, state, type, group and network border group.",
            "M AvailabilityZone; D API_AvailabilityZone",
            |ec2| {
                let found = ec2.sdk.describe_availability_zones().send().await?;
                let zones = found.availability_zones();
                let zone = zones
                    .iter()
                    .find(|zone| zone.zone_name() == Some(ZONE))
                    .need(ZONE)?;
                same(
                    "state",
                    zone.state().map(|state| state.as_str()),
                    Some("available"),
                )?;
                same("type", zone.zone_type(), Some("availability-zone"))?;
                same(
                    "border group",
                    zone.network_border_group(),
                    Some("us-east-1"),
                )?;
                let group = zone.group_name().need("groupName")?;
                holds(group.starts_with("us-east-1"), format!("group {group}"))?;
                let id = zone.zone_id().need("zoneId")?;
                holds(id.starts_with("use1-az"), format!("zone id {id}"))?;
            }
        ),
        check!(
            "DescribeVpcs.CidrBlockAssociationSet",
            "A VPC shows each of its CIDRs as an association with a state.",
            "M VpcCidrBlockAssociation; D API_AssociateVpcCidrBlock",
            |ec2| {
                let vpc = ec2.vpc().await?;
                let more = ec2.sdk.associate_vpc_cidr_block().vpc_id(&vpc);
                more.cidr_block("100.64.0.0/16").send().await?;
                let cidrs = ec2
                    .until("two associated CIDRs", async || {
                        let found = ec2.sdk.describe_vpcs().vpc_ids(&vpc).send().await?;
                        let found = found.vpcs().first().need("VPC")?.clone();
                        let set = found.cidr_block_association_set().iter();
                        let mut cidrs = Vec::new();
                        for association in set {
                            let state = association
                                .cidr_block_state()
                                .and_then(|state| state.state());
                            let state = state.need("cidrBlockState")?.as_str();
                            holds(association.association_id().is_some(), "no associationId")?;
                            if state == "associated" {
                                cidrs.push(association.cidr_block().need("cidrBlock")?.to_owned());
                            }
                        }
                        Ok((cidrs.len() == 2).then_some(cidrs))
                    })
                    .await?;
                same("CIDRs", cidrs, ["10.0.0.0/16", "100.64.0.0/16"])?;
            }
        ),
        check!(
            "DescribeVpcs.Ipv6CidrBlockAssociationSet",
            "A VPC with an IPv6 CIDR of Amazon's shows one /56, associated after a while.",
            "D API_CreateVpc AmazonProvidedIpv6CidrBlock",
            |ec2| {
                let (_, cidr) = ec2.dual_vpc().await?;
                holds(cidr.ends_with("/56"), format!("an IPv6 CIDR {cidr}"))?;
            }
        ),
        check!(
            "CreateSubnet.dual-stack",
            "A subnet made with an IPv6 CIDR answers it, associated or associating.",
            "M SubnetIpv6CidrBlockAssociation; D API_CreateSubnet",
            |ec2| {
                let (vpc, cidr) = ec2.dual_vpc().await?;
                let cidr = first_64(&cidr)?;
                let made = ec2
                    .sdk
                    .create_subnet()
                    .vpc_id(&vpc)
                    .cidr_block("10.0.1.0/24");
                let made = made
                    .ipv6_cidr_block(&cidr)
                    .send()
                    .await?
                    .subnet
                    .need("subnet")?;
                let set = made.ipv6_cidr_block_association_set();
                same("associations", set.len(), 1)?;
                same("CIDR", set[0].ipv6_cidr_block(), Some(cidr.as_str()))?;
                let state = set[0]
                    .ipv6_cidr_block_state()
                    .and_then(|state| state.state());
                let state = state.need("ipv6CidrBlockState")?.as_str();
                holds(
                    ["associated", "associating"].contains(&state),
                    format!("state {state}"),
                )?;
            }
        ),
        check!(
            "DescribeSubnets.initial free /24",
            "A new /24 has 251 free addresses: EC2 keeps five.",
            "D Subnet CIDR blocks",
            |ec2| {
                let place = ec2.place_of("10.0.1.0/24").await?;
                same("free", ec2.free(&place.subnet).await?, 251)?;
            }
        ),
        check!(
            "DescribeSubnets.initial free /28",
            "A new /28 has 11 free addresses.",
            "D Subnet CIDR blocks",
            |ec2| {
                let place = ec2.place_of("10.0.1.0/28").await?;
                same("free", ec2.free(&place.subnet).await?, 11)?;
            }
        ),
        check!(
            "DescribeSubnets.notfound",
            "A subnet that is not there is refused by its id.",
            "S stackd",
            |ec2| {
                let asked = ec2
                    .sdk
                    .describe_subnets()
                    .subnet_ids(NO_SUBNET)
                    .send()
                    .await;
                let text = format!("The subnet ID '{NO_SUBNET}' does not exist");
                asked.refused_with("InvalidSubnetID.NotFound", &text)?;
            }
        ),
        check!(
            "DescribeSubnets.filter tag:",
            "A filter by tag finds the subnets that have it, and no other.",
            "D API_DescribeSubnets",
            |ec2| {
                let place = ec2.place().await?;
                let other = ec2.subnet_in(&place.vpc, "10.0.2.0/24", ZONE).await?;
                ec2.sdk
                    .create_tags()
                    .resources(&other)
                    .tags(tag("role", "pods"))
                    .send()
                    .await?;
                for (value, expected) in [("pods", vec![other.as_str()]), ("nodes", vec![])] {
                    let asked = ec2
                        .sdk
                        .describe_subnets()
                        .filters(filter("vpc-id", &place.vpc));
                    let found = asked.filters(filter("tag:role", value)).send().await?;
                    let ids: Vec<_> = found
                        .subnets()
                        .iter()
                        .filter_map(|s| s.subnet_id())
                        .collect();
                    same("found", ids, expected)?;
                }
            }
        ),
        check!(
            "DescribeSecurityGroups.filter vpc-id",
            "A VPC has its default group and those that were made.",
            "D Default security groups",
            |ec2| {
                let vpc = ec2.vpc().await?;
                ec2.group(&vpc, "g1").await?;
                ec2.group(&vpc, "g2").await?;
                let asked = ec2
                    .sdk
                    .describe_security_groups()
                    .filters(filter("vpc-id", &vpc));
                let found = asked.send().await?;
                let mut names: Vec<_> = found
                    .security_groups()
                    .iter()
                    .filter_map(|g| g.group_name())
                    .collect();
                names.sort_unstable();
                same("groups", names, ["default", "g1", "g2"])?;
            }
        ),
        check!(
            "DescribeSecurityGroups.notfound",
            "A group that is not there is refused by its id.",
            "S stackd",
            |ec2| {
                let asked = ec2
                    .sdk
                    .describe_security_groups()
                    .group_ids(NO_GROUP)
                    .send()
                    .await;
                let text = format!("The security group '{NO_GROUP}' does not exist");
                asked.refused_with("InvalidGroup.NotFound", &text)?;
            }
        ),
    ]
}
