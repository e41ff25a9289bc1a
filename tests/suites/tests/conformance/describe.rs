//! DescribeNetworkInterfaces: filters, pages and ids.

use aws_sdk_ec2::operation::describe_network_interfaces::builders::DescribeNetworkInterfacesFluentBuilder as Describe;
use aws_sdk_ec2::types::ResourceType;

use crate::check::{Check, MustFail as _, Need as _, Outcome, check, holds, same};
use crate::ec2::{Ec2, NO_ENI, OTHER_ZONE, addresses, filter, tagged};

/// Three ENIs of a VPC: the primary of an instance, a second one with all that is filtered by, and one that is alone.
struct Crowd {
    vpc: String,
    subnet: String,
    group: String,
    instance: String,
    attachment: String,
    primary: String,
    second: String,
    alone: String,
    mac: String,
    address: String,
    secondary: String,
    owner: String,
}

impl Crowd {
    async fn gather(ec2: &Ec2) -> Outcome<Crowd> {
        let place = ec2.place().await?;
        let elsewhere = ec2.subnet_in(&place.vpc, "10.0.2.0/24", OTHER_ZONE).await?;
        let group = ec2.group(&place.vpc, "g1").await?;
        let instance = ec2.instance(&place.subnet, "m5.large").await?;
        let tags = tagged(
            ResourceType::NetworkInterface,
            "node.k8s.amazonaws.com/instance_id",
            &instance,
        );
        let made = ec2
            .sdk
            .create_network_interface()
            .subnet_id(&place.subnet)
            .groups(&group);
        let made = made
            .description("the second")
            .tag_specifications(tags)
            .secondary_private_ip_address_count(1);
        let second = made.send().await?.network_interface.need("ENI")?;
        let id = second.network_interface_id().need("id")?.to_owned();
        let alone = ec2.eni(&elsewhere).await?;
        ec2.eni_is(&id, "available").await?;
        let attachment = ec2.attach(&id, &instance, 1).await?;
        let all = addresses(&second);
        Ok(Crowd {
            primary: ec2
                .primary_of(&instance)
                .await?
                .network_interface_id
                .need("id")?,
            mac: second.mac_address.need("MAC")?,
            address: all.first().need("address")?.clone(),
            secondary: all.get(1).need("secondary address")?.clone(),
            owner: second.owner_id.need("owner")?,
            vpc: place.vpc,
            subnet: place.subnet,
            second: id,
            group,
            instance,
            attachment,
            alone,
        })
    }

    fn describe(&self, ec2: &Ec2) -> Describe {
        ec2.sdk
            .describe_network_interfaces()
            .filters(filter("vpc-id", &self.vpc))
    }

    async fn finds(&self, ec2: &Ec2, name: &str, value: &str, expected: &[&String]) -> Outcome {
        let found = self
            .describe(ec2)
            .filters(filter(name, value))
            .send()
            .await?;
        let all = found.network_interfaces().iter();
        let mut found: Vec<_> = all
            .filter_map(|eni| eni.network_interface_id().map(str::to_owned))
            .collect();
        let mut expected: Vec<_> = expected.iter().map(|id| (*id).clone()).collect();
        found.sort_unstable();
        expected.sort_unstable();
        same("found", found, expected)
    }
}

macro_rules! filters {
    ($row:literal, $name:literal, |$crowd:ident| $value:expr, [$($found:ident),*]) => {
        check!(
            $row,
            "The filter finds the ENIs that match, and no other.",
            "D API_DescribeNetworkInterfaces",
            |ec2| {
                let $crowd = Crowd::gather(ec2).await?;
                $crowd.finds(ec2, $name, $value, &[$(&$crowd.$found),*]).await?;
            }
        )
    };
}

pub(crate) fn table() -> Vec<Check> {
    let mut all = filters();
    all.extend(pages_and_ids());
    all
}

fn filters() -> Vec<Check> {
    vec![
        filters!(
            "DescribeNetworkInterfaces.filter tag:node.k8s.amazonaws.com/instance_id",
            "tag:node.k8s.amazonaws.com/instance_id",
            |crowd| &crowd.instance,
            [second]
        ),
        filters!(
            "DescribeNetworkInterfaces.filter tag-key",
            "tag-key",
            |crowd| "node.k8s.amazonaws.com/instance_id",
            [second]
        ),
        filters!(
            "DescribeNetworkInterfaces.filter attachment.instance-id",
            "attachment.instance-id",
            |crowd| &crowd.instance,
            [primary, second]
        ),
        filters!(
            "DescribeNetworkInterfaces.filter status=in-use",
            "status",
            |crowd| "in-use",
            [primary, second]
        ),
        filters!(
            "DescribeNetworkInterfaces.filter status=available",
            "status",
            |crowd| "available",
            [alone]
        ),
        filters!(
            "DescribeNetworkInterfaces.filter subnet-id",
            "subnet-id",
            |crowd| &crowd.subnet,
            [primary, second]
        ),
        filters!(
            "DescribeNetworkInterfaces.filter vpc-id",
            "vpc-id",
            |crowd| &crowd.vpc,
            [primary, second, alone]
        ),
        filters!(
            "DescribeNetworkInterfaces.filter description",
            "description",
            |crowd| "the second",
            [second]
        ),
        filters!(
            "DescribeNetworkInterfaces.filter group-id",
            "group-id",
            |crowd| &crowd.group,
            [second]
        ),
        filters!(
            "DescribeNetworkInterfaces.filter attachment.device-index",
            "attachment.device-index",
            |crowd| "1",
            [second]
        ),
        filters!(
            "DescribeNetworkInterfaces.filter attachment.status",
            "attachment.status",
            |crowd| "attached",
            [primary, second]
        ),
        filters!(
            "DescribeNetworkInterfaces.filter interface-type",
            "interface-type",
            |crowd| "interface",
            [primary, second, alone]
        ),
        filters!(
            "DescribeNetworkInterfaces.filter mac-address",
            "mac-address",
            |crowd| &crowd.mac,
            [second]
        ),
        filters!(
            "DescribeNetworkInterfaces.filter addresses.private-ip-address",
            "addresses.private-ip-address",
            |crowd| &crowd.secondary,
            [second]
        ),
        filters!(
            "DescribeNetworkInterfaces.filter private-ip-address",
            "private-ip-address",
            |crowd| &crowd.address,
            [second]
        ),
        filters!(
            "DescribeNetworkInterfaces.filter availability-zone",
            "availability-zone",
            |crowd| OTHER_ZONE,
            [alone]
        ),
        filters!(
            "DescribeNetworkInterfaces.filter owner-id",
            "owner-id",
            |crowd| &crowd.owner,
            [primary, second, alone]
        ),
        filters!(
            "DescribeNetworkInterfaces.filter requester-managed",
            "requester-managed",
            |crowd| "false",
            [primary, second, alone]
        ),
        filters!(
            "DescribeNetworkInterfaces.filter network-interface-id",
            "network-interface-id",
            |crowd| &crowd.second,
            [second]
        ),
        filters!(
            "DescribeNetworkInterfaces.filter attachment.attachment-id",
            "attachment.attachment-id",
            |crowd| &crowd.attachment,
            [second]
        ),
        filters!(
            "DescribeNetworkInterfaces.filter attachment.delete-on-termination",
            "attachment.delete-on-termination",
            |crowd| "true",
            [primary]
        ),
        filters!(
            "DescribeNetworkInterfaces.wildcard filter",
            "description",
            |crowd| "the s?co*",
            [second]
        ),
        check!(
            "DescribeNetworkInterfaces.unknown filter",
            "A filter that there is not is refused.",
            "S stackd; moto says the same",
            |ec2| {
                let asked = ec2
                    .sdk
                    .describe_network_interfaces()
                    .filters(filter("colour", "blue"));
                let text = "The filter 'colour' is invalid";
                asked
                    .send()
                    .await
                    .refused_with("InvalidParameterValue", text)?;
            }
        ),
    ]
}

fn pages_and_ids() -> Vec<Check> {
    vec![
        check!(
            "DescribeNetworkInterfaces.pagination MaxResults=5",
            "Twelve ENIs come in pages of five, each once.",
            "M MaxResults 5 to 1000",
            |ec2| {
                let place = ec2.place().await?;
                let mut made = Vec::new();
                for _ in 0..12 {
                    made.push(ec2.eni(&place.subnet).await?);
                }
                let (mut found, mut sizes, mut token) = (Vec::new(), Vec::new(), None::<String>);
                loop {
                    let asked = ec2
                        .sdk
                        .describe_network_interfaces()
                        .filters(filter("vpc-id", &place.vpc));
                    let page = asked.max_results(5).set_next_token(token).send().await?;
                    sizes.push(page.network_interfaces().len());
                    found.extend(
                        page.network_interfaces()
                            .iter()
                            .filter_map(|eni| eni.network_interface_id.clone()),
                    );
                    token = page.next_token;
                    // A token on the last page may lead to an empty one.
                    if token.is_none() || sizes.len() > 4 {
                        break;
                    }
                }
                same("sizes", sizes.get(..3), Some([5, 5, 2].as_slice()))?;
                found.sort_unstable();
                made.sort_unstable();
                same("found", found, made)?;
            }
        ),
        check!(
            "DescribeNetworkInterfaces.bad NextToken",
            "A token that EC2 did not give is refused.",
            "S mulgadc/spinifex paging tests, captured from AWS",
            |ec2| {
                let asked = ec2
                    .sdk
                    .describe_network_interfaces()
                    .next_token("garbage")
                    .send()
                    .await;
                asked.refused(&[
                    "InvalidParameterValue",
                    "InvalidNextToken",
                    "InvalidPaginationToken",
                ])?;
            }
        ),
        check!(
            "DescribeNetworkInterfaces.notfound",
            "An ENI that is not there is refused by its id.",
            "S stackd; C amazon-vpc-cni-k8s takes the id from the text",
            |ec2| {
                let asked = ec2
                    .sdk
                    .describe_network_interfaces()
                    .network_interface_ids(NO_ENI)
                    .send()
                    .await;
                let text = format!("The networkInterface ID '{NO_ENI}' does not exist");
                asked.refused_with("InvalidNetworkInterfaceID.NotFound", &text)?;
            }
        ),
        check!(
            "DescribeNetworkInterfaces.malformed",
            "What is no id is refused as malformed.",
            "S stackd; D Error codes",
            |ec2| {
                let asked = ec2
                    .sdk
                    .describe_network_interfaces()
                    .network_interface_ids("notaneni")
                    .send()
                    .await;
                let refusal = asked.refusal()?;
                let codes = [
                    "InvalidNetworkInterfaceId.Malformed",
                    "InvalidNetworkInterfaceID.Malformed",
                ];
                holds(codes.contains(&refusal.code.as_str()), &refusal)?;
                same(
                    "text",
                    refusal.text.as_str(),
                    "Invalid id: \"notaneni\" (expecting \"eni-...\")",
                )?;
            }
        ),
    ]
}

pub(crate) fn statements() -> Vec<Check> {
    vec![
        check!(
            "DescribeNetworkInterfaces.MaxResults with ids",
            "Ids and MaxResults exclude each other.",
            "S mulgadc/spinifex paging tests, captured from AWS",
            |ec2| {
                let place = ec2.place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                let asked = ec2
                    .sdk
                    .describe_network_interfaces()
                    .network_interface_ids(&eni)
                    .max_results(5);
                let text = "The parameter NetworkInterfaceIds cannot be used with the parameter MaxResults";
                asked
                    .send()
                    .await
                    .refused_with("InvalidParameterCombination", text)?;
            }
        ),
        check!(
            "DescribeNetworkInterfaces.MaxResults above 1000",
            "A page larger than 1000 is refused.",
            "M MaxResults 5 to 1000",
            |ec2| {
                let asked = ec2
                    .sdk
                    .describe_network_interfaces()
                    .max_results(1001)
                    .send()
                    .await;
                asked.refused(&["InvalidParameterValue"])?;
            }
        ),
        check!(
            "DescribeNetworkInterfaces.one missing id among good ones",
            "One id that is not there fails the whole call.",
            "S stackd",
            |ec2| {
                let place = ec2.place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                let asked = ec2
                    .sdk
                    .describe_network_interfaces()
                    .network_interface_ids(&eni);
                let asked = asked.network_interface_ids(NO_ENI).send().await;
                asked.refused(&["InvalidNetworkInterfaceID.NotFound"])?;
            }
        ),
        check!(
            "DescribeNetworkInterfaces.filters are joined by and, values by or",
            "All filters must match, each by one of its values.",
            "D Filter resources",
            |ec2| {
                let crowd = Crowd::gather(ec2).await?;
                let either = aws_sdk_ec2::types::Filter::builder().name("network-interface-id");
                let either = either.values(&crowd.second).values(&crowd.alone).build();
                let found = crowd.describe(ec2).filters(either).send().await?;
                same("either", found.network_interfaces().len(), 2)?;
                crowd.finds(ec2, "status", "pending", &[]).await?;
            }
        ),
        check!(
            "DescribeNetworkInterfaces.the SDK's paginator ends",
            "The paginator of the SDK finds each ENI once, and ends.",
            "C aws-sdk-ec2",
            |ec2| {
                let place = ec2.place().await?;
                for _ in 0..11 {
                    ec2.eni(&place.subnet).await?;
                }
                let asked = ec2
                    .sdk
                    .describe_network_interfaces()
                    .filters(filter("vpc-id", &place.vpc));
                let mut pages = asked.into_paginator().page_size(5).send();
                let (mut count, mut largest) = (0, 0);
                while let Some(page) = pages.next().await {
                    let page = page?;
                    largest = largest.max(page.network_interfaces().len());
                    count += page.network_interfaces().len();
                }
                same("ENIs and the largest page", (count, largest), (11, 5))?;
            }
        ),
    ]
}
