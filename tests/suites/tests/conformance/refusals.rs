//! What CreateNetworkInterface refuses, and client tokens.

use aws_sdk_ec2::types::{NetworkInterfaceCreationType, PrivateIpAddressSpecification};

use crate::check::{Check, MustFail as _, Need as _, check, same};
use crate::create::{NO_BLOCKS, create, made};
use crate::ec2::{NO_ENI, NO_GROUP, NO_SUBNET, addresses, filter};

pub(crate) fn table() -> Vec<Check> {
    vec![
        check!(
            "CreateNetworkInterface.reserved .1",
            "An address that EC2 keeps for itself is refused.",
            "S stackd network_interfaces.json",
            |ec2| {
                let place = ec2.place().await?;
                let asked = create(ec2, &place.subnet).private_ip_address("10.0.1.1");
                let text = "Address is in subnet's reserved address range";
                asked
                    .send()
                    .await
                    .refused_with("InvalidParameterValue", text)?;
                same("free", ec2.free(&place.subnet).await?, 251)?;
            }
        ),
        check!(
            "CreateNetworkInterface.outside subnet",
            "An address that is not of the subnet is refused.",
            "S stackd network_interfaces.json",
            |ec2| {
                let place = ec2.place().await?;
                let asked = create(ec2, &place.subnet).private_ip_address("10.0.9.9");
                let text = "Address does not fall within the subnet's address range";
                asked
                    .send()
                    .await
                    .refused_with("InvalidParameterValue", text)?;
                same("free", ec2.free(&place.subnet).await?, 251)?;
            }
        ),
        check!(
            "CreateNetworkInterface.duplicate address",
            "An address that another ENI has is refused.",
            "D Error codes InvalidIPAddress.InUse; S stackd network_interfaces.json",
            |ec2| {
                let place = ec2.place().await?;
                made(create(ec2, &place.subnet).private_ip_address("10.0.1.50")).await?;
                let asked = create(ec2, &place.subnet).private_ip_address("10.0.1.50");
                let text = "The specified address is already in use.";
                asked
                    .send()
                    .await
                    .refused_with("InvalidIPAddress.InUse", text)?;
                same("free", ec2.free(&place.subnet).await?, 250)?;
            }
        ),
        check!(
            "CreateNetworkInterface.bad subnet",
            "A subnet that is not there is refused by its id.",
            "D Error codes",
            |ec2| {
                let text = format!("The subnet ID '{NO_SUBNET}' does not exist");
                create(ec2, NO_SUBNET)
                    .send()
                    .await
                    .refused_with("InvalidSubnetID.NotFound", &text)?;
            }
        ),
        check!(
            "CreateNetworkInterface.bad group",
            "A group that is not there is refused.",
            "D Error codes InvalidGroup.NotFound",
            |ec2| {
                let place = ec2.place().await?;
                let asked = create(ec2, &place.subnet).groups(NO_GROUP);
                asked
                    .send()
                    .await
                    .refused(&["InvalidGroup.NotFound", "InvalidSecurityGroupID.NotFound"])?;
                same("free", ec2.free(&place.subnet).await?, 251)?;
            }
        ),
        check!(
            "CreateNetworkInterface.prefix+count",
            "A count of prefixes and a count of addresses exclude each other.",
            "D API_CreateNetworkInterface",
            |ec2| {
                let place = ec2.place().await?;
                let asked = create(ec2, &place.subnet)
                    .ipv4_prefix_count(1)
                    .secondary_private_ip_address_count(1);
                asked
                    .send()
                    .await
                    .refused(&["InvalidParameterCombination"])?;
            }
        ),
        check!(
            "CreateNetworkInterface.DryRun",
            "A dry run says that it would have succeeded, and does nothing.",
            "S stackd",
            |ec2| {
                let place = ec2.place().await?;
                let text = "Request would have succeeded, but DryRun flag is set.";
                let asked = create(ec2, &place.subnet).dry_run(true).send().await;
                asked.refused_with("DryRunOperation", text)?;
                same("free", ec2.free(&place.subnet).await?, 251)?;
            }
        ),
    ]
}

pub(crate) fn statements() -> Vec<Check> {
    vec![
        check!(
            "CreateNetworkInterface.ClientToken with other parameters",
            "A token that was used with other parameters is refused.",
            "D Error codes IdempotentParameterMismatch",
            |ec2| {
                let place = ec2.place().await?;
                made(create(ec2, &place.subnet).client_token("once")).await?;
                let asked = create(ec2, &place.subnet)
                    .client_token("once")
                    .description("another");
                asked
                    .send()
                    .await
                    .refused(&["IdempotentParameterMismatch"])?;
            }
        ),
        check!(
            "CreateNetworkInterface.PrivateIpAddresses",
            "Addresses that are asked for one by one are given, with the primary that is marked.",
            "M PrivateIpAddresses.N.PrivateIpAddress",
            |ec2| {
                let place = ec2.place().await?;
                let address = |text: &str, primary| {
                    PrivateIpAddressSpecification::builder()
                        .private_ip_address(text)
                        .primary(primary)
                        .build()
                };
                let asked =
                    create(ec2, &place.subnet).private_ip_addresses(address("10.0.1.20", true));
                let eni = made(asked.private_ip_addresses(address("10.0.1.21", false))).await?;
                same("addresses", addresses(&eni), ["10.0.1.20", "10.0.1.21"])?;
                same("primary", eni.private_ip_address(), Some("10.0.1.20"))?;
            }
        ),
        check!(
            "CreateNetworkInterface.two primaries",
            "Two primary addresses are refused.",
            "S stackd network_interfaces.json",
            |ec2| {
                let place = ec2.place().await?;
                let address = |text: &str| {
                    PrivateIpAddressSpecification::builder()
                        .private_ip_address(text)
                        .primary(true)
                        .build()
                };
                let asked = create(ec2, &place.subnet).private_ip_addresses(address("10.0.1.20"));
                let asked = asked
                    .private_ip_addresses(address("10.0.1.21"))
                    .send()
                    .await;
                let text = "Only one primary private IP address can be specified.";
                asked.refused_with("InvalidParameterValue", text)?;
            }
        ),
        check!(
            "CreateNetworkInterface.a /28 subnet holds no prefix",
            "A prefix in a /28 subnet is refused: EC2 keeps five of its sixteen addresses.",
            "I aws/amazon-vpc-cni-k8s#1836",
            |ec2| {
                let place = ec2.place_of("10.0.1.0/28").await?;
                let asked = create(ec2, &place.subnet).ipv4_prefix_count(1).send().await;
                asked.refused_with("InsufficientCidrBlocks", NO_BLOCKS)?;
                same("free", ec2.free(&place.subnet).await?, 11)?;
            }
        ),
        check!(
            "CreateNetworkInterface.group of another VPC",
            "A group of another VPC is refused.",
            "S stackd network_interfaces.json",
            |ec2| {
                let (place, elsewhere) = (ec2.place().await?, ec2.vpc().await?);
                let group = ec2.group(&elsewhere, "g1").await?;
                let asked = create(ec2, &place.subnet).groups(&group).send().await;
                let text = format!(
                    "Security group {group} and subnet {} belong to different networks.",
                    place.subnet
                );
                asked.refused_with("InvalidParameterValue", &text)?;
            }
        ),
        check!(
            "CreateNetworkInterface.unknown type",
            "An interface type that there is not is refused.",
            "S stackd network_interface_types.json",
            |ec2| {
                let place = ec2.place().await?;
                let asked = create(ec2, &place.subnet)
                    .interface_type(NetworkInterfaceCreationType::from("bogus"));
                let text = "invalid value for parameter interface-type: bogus";
                asked
                    .send()
                    .await
                    .refused_with("InvalidParameterValue", text)?;
            }
        ),
        check!(
            "DryRun comes before existence",
            "A dry run is answered before EC2 looks whether the things that it names exist.",
            "S stackd captures of DescribeNetworkInterfaces, ResetNetworkInterfaceAttribute",
            |ec2| {
                let asked = ec2
                    .sdk
                    .delete_network_interface()
                    .network_interface_id(NO_ENI)
                    .dry_run(true);
                asked.send().await.refused(&["DryRunOperation"])?;
            }
        ),
        check!(
            "CreateNetworkInterface.deleted ENIs give all back",
            "Addresses and prefixes of a deleted ENI are free again.",
            "D Delete a network interface",
            |ec2| {
                let place = ec2.place().await?;
                let eni = made(create(ec2, &place.subnet).ipv4_prefix_count(2)).await?;
                let id = eni.network_interface_id().need("id")?;
                ec2.eni_is(id, "available").await?;
                ec2.sdk
                    .delete_network_interface()
                    .network_interface_id(id)
                    .send()
                    .await?;
                same("free", ec2.free(&place.subnet).await?, 251)?;
                let asked = ec2
                    .sdk
                    .describe_network_interfaces()
                    .filters(filter("subnet-id", &place.subnet));
                same("left", asked.send().await?.network_interfaces().len(), 0)?;
            }
        ),
    ]
}
