//! Instance types, their limits, and images.

use aws_sdk_ec2::types::InstanceType;

use crate::check::{Check, MustFail as _, Need as _, Outcome, check, holds, same};
use crate::ec2::Ec2;

/// Limits as EC2 answers them, which the VPC CNI's table has too.
macro_rules! limits {
    ($row:literal, $enis:literal, $ipv4:literal, $cards:literal) => {
        check!(
            $row,
            concat!(
                "Interfaces ",
                $enis,
                ", IPv4 addresses on each ",
                $ipv4,
                ", network cards ",
                $cards,
                "."
            ),
            "C amazon-vpc-cni-k8s vpc_ip_resource_limit.go",
            |ec2| {
                let kind = $row.trim_start_matches("DescribeInstanceTypes.");
                same(
                    "ENIs, IPv4, IPv6, cards",
                    limits_of(ec2, kind).await?,
                    ($enis, $ipv4, $ipv4, $cards),
                )?;
            }
        )
    };
}

async fn limits_of(ec2: &Ec2, kind: &str) -> Outcome<(i32, i32, i32, i32)> {
    let asked = ec2
        .sdk
        .describe_instance_types()
        .instance_types(InstanceType::from(kind));
    let found = asked.send().await?;
    same("types", found.instance_types().len(), 1)?;
    let network = found.instance_types()[0]
        .network_info()
        .need("networkInfo")?;
    let cards = network
        .maximum_network_cards()
        .need("maximumNetworkCards")?;
    // The interfaces of a type are those of its cards together.
    let on_cards = network
        .network_cards()
        .iter()
        .filter_map(|card| card.maximum_network_interfaces());
    same(
        "cards listed",
        i32::try_from(network.network_cards().len()).unwrap_or(-1),
        cards,
    )?;
    let enis = network
        .maximum_network_interfaces()
        .need("maximumNetworkInterfaces")?;
    holds(
        on_cards.sum::<i32>() >= enis,
        "the cards have room for fewer than the type",
    )?;
    Ok((
        enis,
        network
            .ipv4_addresses_per_interface()
            .need("ipv4AddressesPerInterface")?,
        network
            .ipv6_addresses_per_interface()
            .need("ipv6AddressesPerInterface")?,
        cards,
    ))
}

pub(crate) fn table() -> Vec<Check> {
    vec![
        limits!("DescribeInstanceTypes.t3.medium", 3, 6, 1),
        limits!("DescribeInstanceTypes.m5.large", 3, 10, 1),
        limits!("DescribeInstanceTypes.c5n.18xlarge", 15, 50, 1),
        limits!("DescribeInstanceTypes.p4d.24xlarge", 60, 50, 4),
        limits!("DescribeInstanceTypes.p5.48xlarge", 64, 50, 32),
        limits!("DescribeInstanceTypes.t2.micro", 2, 2, 1),
        limits!("DescribeInstanceTypes.c7i.48xlarge", 15, 50, 1),
        limits!("DescribeInstanceTypes.m8g.large", 3, 10, 1),
        limits!("DescribeInstanceTypes.i7ie.large", 3, 10, 1),
        check!(
            "DescribeInstanceTypes.invalid",
            "A type that there is not is refused by its name.",
            "S stackd instance_type_inputs.json",
            |ec2| {
                let asked = ec2
                    .sdk
                    .describe_instance_types()
                    .instance_types(InstanceType::from("zz9.huge"));
                let text = "The following supplied instance types do not exist: [zz9.huge]";
                asked
                    .send()
                    .await
                    .refused_with("InvalidInstanceType", text)?;
            }
        ),
        check!(
            "DescribeInstanceTypes.pagination",
            "MaxResults=10 answers ten types and a token, and the token the next ten.",
            "M MaxResults 5 to 100",
            |ec2| {
                let first = ec2
                    .sdk
                    .describe_instance_types()
                    .max_results(10)
                    .send()
                    .await?;
                same("types", first.instance_types().len(), 10)?;
                let token = first.next_token().need("nextToken")?;
                let asked = ec2
                    .sdk
                    .describe_instance_types()
                    .max_results(10)
                    .next_token(token);
                let second = asked.send().await?;
                same(
                    "types on the second page",
                    second.instance_types().len(),
                    10,
                )?;
                let twice = second.instance_types().iter().any(|kind| {
                    first
                        .instance_types()
                        .iter()
                        .any(|known| known.instance_type() == kind.instance_type())
                });
                holds(!twice, "a type is on two pages")?;
            }
        ),
        check!(
            "DescribeImages.seed",
            "An image that may be run is described.",
            "D API_DescribeImages",
            |ec2| {
                let asked = ec2
                    .sdk
                    .describe_images()
                    .image_ids(ec2.image)
                    .send()
                    .await?;
                same("images", asked.images().len(), 1)?;
                same("image", asked.images()[0].image_id(), Some(ec2.image))?;
            }
        ),
    ]
}
