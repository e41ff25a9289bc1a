//! Several accounts in one Region, and what a policy forbids. On aws-sim alone.

use aws_sim::Deny;

use crate::check::{MustFail as _, Need as _, Refusal, check, holds, same};
use crate::ec2::{self, tag};
use crate::world::{Inside, as_is};

const OTHER: &str = "444455556666";

pub(crate) fn checks() -> Vec<Inside> {
    vec![
        as_is(check!(
            "Accounts.do not see each other's things",
            "What an account has, another does not find, by id or in a list.",
            "D Error codes: NotFound for resources of others",
            |ec2| {
                let place = ec2.place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                let other = ec2::client(ec2.address, OTHER);
                same("VPCs", other.describe_vpcs().send().await?.vpcs().len(), 0)?;
                same(
                    "ENIs",
                    other
                        .describe_network_interfaces()
                        .send()
                        .await?
                        .network_interfaces()
                        .len(),
                    0,
                )?;
                let asked = other
                    .describe_network_interfaces()
                    .network_interface_ids(&eni)
                    .send()
                    .await;
                asked.refused(&["InvalidNetworkInterfaceID.NotFound"])?;
                let asked = other
                    .delete_network_interface()
                    .network_interface_id(&eni)
                    .send()
                    .await;
                asked.refused(&["InvalidNetworkInterfaceID.NotFound"])?;
                let asked = other
                    .create_network_interface()
                    .subnet_id(&place.subnet)
                    .send()
                    .await;
                asked.refused(&["InvalidSubnetID.NotFound"])?;
                let asked = other
                    .create_tags()
                    .resources(&eni)
                    .tags(tag("a", "1"))
                    .send()
                    .await;
                asked.refused(&["InvalidNetworkInterfaceID.NotFound", "InvalidID"])?;
                same(
                    "ENI",
                    ec2.described(&eni).await?.network_interface_id(),
                    Some(eni.as_str()),
                )?;
            }
        )),
        as_is(check!(
            "Accounts.own what they make",
            "The owner of a VPC and of an ENI is the account that made them.",
            "M ownerId",
            |ec2| {
                let other = ec2::client(ec2.address, OTHER);
                let vpc = other
                    .create_vpc()
                    .cidr_block("10.0.0.0/16")
                    .send()
                    .await?
                    .vpc
                    .need("VPC")?;
                same("owner of the VPC", vpc.owner_id(), Some(OTHER))?;
                let subnet = other
                    .create_subnet()
                    .vpc_id(vpc.vpc_id().need("id")?)
                    .cidr_block("10.0.1.0/24");
                let subnet = subnet.send().await?.subnet.need("subnet")?;
                let eni = other
                    .create_network_interface()
                    .subnet_id(subnet.subnet_id().need("id")?);
                let eni = eni.send().await?.network_interface.need("ENI")?;
                same("owner of the ENI", eni.owner_id(), Some(OTHER))?;
                // The same CIDR is free in each account.
                ec2.vpc().await?;
            }
        )),
        as_is(check!(
            "IAM.a denied action is refused, before anything is looked at",
            "UnauthorizedOperation, HTTP 403, for what is denied and nothing else; also as a dry run.",
            "I quoted in logs with HTTP 403",
            |ec2| {
                let place = ec2.place().await?;
                ec2.sim().deny(Deny::action("ec2:AssignPrivateIpAddresses"));
                let eni = ec2.eni(&place.subnet).await?;
                let asked = ec2
                    .sdk
                    .assign_private_ip_addresses()
                    .network_interface_id(&eni);
                let refusal = asked
                    .secondary_private_ip_address_count(1)
                    .send()
                    .await
                    .refusal()?;
                let Refusal { status, code, text } = &refusal;
                same(
                    "refusal",
                    (*status, code.as_str()),
                    (403, "UnauthorizedOperation"),
                )?;
                let begins = "You are not authorized to perform this operation.";
                holds(text.starts_with(begins), format!("text {text}"))?;
                ec2.sim().allow("*");
                let asked = ec2
                    .sdk
                    .assign_private_ip_addresses()
                    .network_interface_id(&eni);
                asked.secondary_private_ip_address_count(1).send().await?;
            }
        )),
        as_is(check!(
            "IAM.a denied dry run",
            "A dry run of what is denied is refused as unauthorized: that is what dry runs are for.",
            "D API_CreateNetworkInterface DryRun",
            |ec2| {
                let place = ec2.place().await?;
                ec2.sim().deny(Deny::action("CreateNetworkInterface"));
                let asked = ec2
                    .sdk
                    .create_network_interface()
                    .subnet_id(&place.subnet)
                    .dry_run(true);
                asked.send().await.refused(&["UnauthorizedOperation"])?;
            }
        )),
    ]
}
