//! Slots of an ENI and blocks of a subnet: how addresses and prefixes share both.

use std::collections::BTreeSet;

use crate::assign::{LIMIT, answered_prefixes, assign};
use crate::check::{Check, MustFail as _, Need as _, check, holds, same};
use crate::create::NO_BLOCKS;
use crate::ec2::{ZONE, addresses, prefixes};

pub(crate) fn statements() -> Vec<Check> {
    vec![
        check!(
            "Subnet.of a second CIDR of the VPC",
            "A VPC may have a CIDR of 100.64.0.0/10 besides, with subnets like any other.",
            "D VPC CIDR blocks; D EKS custom networking",
            |ec2| {
                let vpc = ec2.vpc().await?;
                let more = ec2.sdk.associate_vpc_cidr_block().vpc_id(&vpc);
                more.cidr_block("100.64.0.0/16").send().await?;
                let subnet = ec2.subnet_in(&vpc, "100.64.1.0/24", ZONE).await?;
                let eni = ec2.eni(&subnet).await?;
                let address = ec2
                    .described(&eni)
                    .await?
                    .private_ip_address
                    .need("address")?;
                holds(
                    address.starts_with("100.64.1."),
                    format!("address {address}"),
                )?;
                same("free", ec2.free(&subnet).await?, 250)?;
            }
        ),
        check!(
            "Slots.a prefix takes one, as an address does",
            "Of a t3.medium's six slots the own address takes one, and each address or prefix one more.",
            "D Prefix delegation; I amazon-vpc-cni-k8s logs max=29 for 30 slots",
            |ec2| {
                let place = ec2.place().await?;
                let instance = ec2.instance(&place.subnet, "t3.medium").await?;
                let (eni, _) = ec2.attached(&place.subnet, &instance, 1).await?;
                assign(ec2, &eni).ipv4_prefix_count(3).send().await?;
                assign(ec2, &eni)
                    .secondary_private_ip_address_count(2)
                    .send()
                    .await?;
                let asked = assign(ec2, &eni).ipv4_prefix_count(1).send().await;
                asked.refused_with("PrivateIpAddressLimitExceeded", LIMIT)?;
                let asked = assign(ec2, &eni)
                    .secondary_private_ip_address_count(1)
                    .send()
                    .await;
                asked.refused_with("PrivateIpAddressLimitExceeded", LIMIT)?;
            }
        ),
        check!(
            "Slots.prefixes are for Nitro",
            "A t2 takes no prefix.",
            "D Prefix delegation: instances built on Nitro; R the code",
            |ec2| {
                let place = ec2.place().await?;
                let instance = ec2.instance(&place.subnet, "t2.medium").await?;
                let eni = ec2
                    .primary_of(&instance)
                    .await?
                    .network_interface_id
                    .need("ENI")?;
                assign(ec2, &eni)
                    .ipv4_prefix_count(1)
                    .send()
                    .await
                    .refusal()?;
                same("prefixes", prefixes(&ec2.described(&eni).await?).len(), 0)?;
            }
        ),
        check!(
            "Subnet.fragmented: free addresses and yet no prefix",
            "With an address in each /28 of a subnet no prefix is left, though most addresses are free.",
            "I aws/amazon-vpc-cni-k8s#1836",
            |ec2| {
                let place = ec2.place_of("10.0.1.0/26").await?;
                for address in ["10.0.1.20", "10.0.1.36"] {
                    let made = ec2.sdk.create_network_interface().subnet_id(&place.subnet);
                    made.private_ip_address(address).send().await?;
                }
                same("free", ec2.free(&place.subnet).await?, 64 - 5 - 2)?;
                let asked = ec2.sdk.create_network_interface().subnet_id(&place.subnet);
                let asked = asked
                    .private_ip_address("10.0.1.10")
                    .ipv4_prefix_count(1)
                    .send()
                    .await;
                asked.refused_with("InsufficientCidrBlocks", NO_BLOCKS)?;
            }
        ),
        check!(
            "Subnet.prefixes never overlap what is in use",
            "Prefixes are given as long as whole /28s are free, and never twice.",
            "D Prefix delegation",
            |ec2| {
                let place = ec2.place_of("10.0.1.0/25").await?;
                let made = ec2.sdk.create_network_interface().subnet_id(&place.subnet);
                let made = made.private_ip_address("10.0.1.10").send().await?;
                let eni = made
                    .network_interface
                    .and_then(|eni| eni.network_interface_id)
                    .need("ENI")?;
                // Of eight /28s the first and the last hold addresses that EC2 keeps.
                let answer = assign(ec2, &eni).ipv4_prefix_count(6).send().await?;
                let found: BTreeSet<_> = answered_prefixes(&answer).into_iter().collect();
                let expected: BTreeSet<_> = [16, 32, 48, 64, 80, 96]
                    .iter()
                    .map(|last| format!("10.0.1.{last}/28"))
                    .collect();
                same("prefixes", found, expected)?;
                let asked = assign(ec2, &eni).ipv4_prefix_count(1).send().await;
                asked.refused_with("InsufficientCidrBlocks", NO_BLOCKS)?;
                same("free", ec2.free(&place.subnet).await?, 128 - 5 - 1 - 96)?;
            }
        ),
        check!(
            "Assign.an address within a prefix is taken",
            "An address of a prefix can't be given to another ENI.",
            "D Prefix delegation; R the code",
            |ec2| {
                let place = ec2.place_of("10.0.1.0/25").await?;
                let one = ec2.sdk.create_network_interface().subnet_id(&place.subnet);
                let one = one.private_ip_address("10.0.1.10").send().await?;
                let one = one
                    .network_interface
                    .and_then(|eni| eni.network_interface_id)
                    .need("ENI")?;
                let two = ec2.sdk.create_network_interface().subnet_id(&place.subnet);
                let two = two.private_ip_address("10.0.1.11").send().await?;
                let two = two
                    .network_interface
                    .and_then(|eni| eni.network_interface_id)
                    .need("ENI")?;
                assign(ec2, &one)
                    .ipv4_prefixes("10.0.1.32/28")
                    .send()
                    .await?;
                assign(ec2, &two)
                    .private_ip_addresses("10.0.1.35")
                    .send()
                    .await
                    .refusal()?;
                assign(ec2, &two)
                    .ipv4_prefixes("10.0.1.32/28")
                    .send()
                    .await
                    .refusal()?;
                same("prefixes", prefixes(&ec2.described(&two).await?).len(), 0)?;
                same("addresses", addresses(&ec2.described(&two).await?).len(), 1)?;
            }
        ),
        check!(
            "Assign.a prefix that is not aligned",
            "A prefix begins at a multiple of 16.",
            "D Prefix delegation; R the code",
            |ec2| {
                let place = ec2.place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                assign(ec2, &eni)
                    .ipv4_prefixes("10.0.1.40/28")
                    .send()
                    .await
                    .refusal()?;
                assign(ec2, &eni)
                    .ipv4_prefixes("10.0.1.32/27")
                    .send()
                    .await
                    .refusal()?;
                same("prefixes", prefixes(&ec2.described(&eni).await?).len(), 0)?;
            }
        ),
    ]
}
