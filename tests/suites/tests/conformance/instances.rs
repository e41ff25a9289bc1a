//! RunInstances and DescribeInstances.

use std::time::Duration;

use aws_sdk_ec2::types::{InstanceNetworkInterfaceSpecification, InstanceType, ResourceType};

use crate::check::{Check, MustFail as _, Need as _, Outcome, check, holds, same};
use crate::ec2::{Ec2, NO_INSTANCE, ZONE, addresses, filter, prefixes, tag, tagged};

/// Two instances of one VPC that differ in all else that is filtered by.
struct Pair {
    vpc: String,
    subnet: String,
    one: String,
    other: String,
    address: String,
    eni: String,
}

impl Pair {
    async fn run(ec2: &Ec2) -> Outcome<Pair> {
        let place = ec2.place().await?;
        let other_subnet = ec2.subnet_in(&place.vpc, "10.0.2.0/24", ZONE).await?;
        let one = ec2.instance(&place.subnet, "m5.large").await?;
        let other = ec2.instance(&other_subnet, "t3.medium").await?;
        ec2.sdk
            .create_tags()
            .resources(&one)
            .tags(tag("Name", "one"))
            .send()
            .await?;
        ec2.sdk
            .create_tags()
            .resources(&other)
            .tags(tag("Name", "other"))
            .send()
            .await?;
        let eni = ec2.primary_of(&one).await?;
        Ok(Pair {
            vpc: place.vpc,
            subnet: place.subnet,
            one,
            other,
            address: eni.private_ip_address.need("privateIpAddress")?,
            eni: eni.network_interface_id.need("networkInterfaceId")?,
        })
    }

    /// A filter finds the first instance and not the other.
    async fn finds_one(&self, ec2: &Ec2, name: &str, value: &str) -> Outcome {
        let asked = ec2.sdk.describe_instances().filters(filter(name, value));
        // Targets that are not ours have instances of other checks too.
        let found = asked.filters(filter("vpc-id", &self.vpc)).send().await?;
        let found = found
            .reservations()
            .iter()
            .flat_map(|reservation| reservation.instances());
        let ids: Vec<_> = found
            .filter_map(|instance| instance.instance_id())
            .collect();
        same("found", ids, [self.one.as_str()])
    }
}

macro_rules! filters {
    ($row:literal, $name:literal, |$pair:ident| $value:expr) => {
        check!(
            $row,
            "The filter finds the instances that match, and no other.",
            "D API_DescribeInstances",
            |ec2| {
                let $pair = Pair::run(ec2).await?;
                $pair.finds_one(ec2, $name, $value).await?;
            }
        )
    };
}

pub(crate) fn table() -> Vec<Check> {
    let mut all = running();
    all.extend(describing());
    all
}

fn running() -> Vec<Check> {
    vec![
        check!(
            "RunInstances",
            "RunInstances answers an instance that is pending, with its subnet, type and image.",
            "D API_RunInstances",
            |ec2| {
                let place = ec2.place().await?;
                let made = ec2.launch(&place.subnet, "m5.large").await?;
                holds(
                    made.instance_id().is_some_and(|id| id.starts_with("i-")),
                    "no instance id",
                )?;
                same("subnet", made.subnet_id(), Some(place.subnet.as_str()))?;
                same("VPC", made.vpc_id(), Some(place.vpc.as_str()))?;
                same(
                    "type",
                    made.instance_type().map(|kind| kind.as_str()),
                    Some("m5.large"),
                )?;
                same("image", made.image_id(), Some(ec2.image))?;
            }
        ),
        check!(
            "RunInstances.state is pending first",
            "An instance is pending when RunInstances answers.",
            "D Instance lifecycle",
            |ec2| {
                let place = ec2.place().await?;
                let made = ec2.launch(&place.subnet, "m5.large").await?;
                let state = made.state().need("instanceState")?;
                same(
                    "state",
                    (state.code(), state.name().map(|name| name.as_str())),
                    (Some(0), Some("pending")),
                )?;
            }
        ),
        check!(
            "DescribeInstances.async pending->running",
            "An instance is still pending right after its launch, and runs later.",
            "D Instance lifecycle",
            |ec2| {
                let place = ec2.place().await?;
                ec2.takes(Duration::from_secs(2));
                let id = ec2
                    .launch(&place.subnet, "m5.large")
                    .await?
                    .instance_id
                    .need("instance id")?;
                let state = ec2
                    .described_instance(&id)
                    .await?
                    .state
                    .and_then(|state| state.name);
                same(
                    "state",
                    state.as_ref().map(|state| state.as_str()),
                    Some("pending"),
                )?;
                ec2.runs(&id).await?;
            }
        ),
        check!(
            "DescribeInstances.NetworkInterfaces",
            "The primary ENI is at device 0 of card 0, and goes with the instance.",
            "D API_InstanceNetworkInterfaceSpecification DeleteOnTermination",
            |ec2| {
                let place = ec2.place().await?;
                let id = ec2.instance(&place.subnet, "m5.large").await?;
                let found = ec2.described_instance(&id).await?;
                same("ENIs", found.network_interfaces().len(), 1)?;
                let attachment = found.network_interfaces()[0]
                    .attachment()
                    .need("attachment")?;
                same("device index", attachment.device_index(), Some(0))?;
                same("network card", attachment.network_card_index(), Some(0))?;
                same(
                    "deleteOnTermination",
                    attachment.delete_on_termination(),
                    Some(true),
                )?;
            }
        ),
        check!(
            "RunInstances.subnet free -1",
            "An instance takes one address of its subnet.",
            "D API_Subnet AvailableIpAddressCount",
            |ec2| {
                let place = ec2.place().await?;
                ec2.instance(&place.subnet, "m5.large").await?;
                same("free", ec2.free(&place.subnet).await?, 250)?;
            }
        ),
        check!(
            "RunInstances.primary ENI in DescribeNetworkInterfaces",
            "The primary ENI of an instance that runs is in-use and attached.",
            "D Elastic network interfaces",
            |ec2| {
                let place = ec2.place().await?;
                let id = ec2.instance(&place.subnet, "m5.large").await?;
                let eni = ec2.primary_of(&id).await?;
                same(
                    "status",
                    eni.status().map(|status| status.as_str()),
                    Some("in-use"),
                )?;
                let status = eni.attachment().and_then(|attachment| attachment.status());
                same(
                    "attachment",
                    status.map(|status| status.as_str()),
                    Some("attached"),
                )?;
            }
        ),
        check!(
            "RunInstances.unknown AMI",
            "An image that is not there is refused by its id.",
            "I quoted in logs of terraform",
            |ec2| {
                let place = ec2.place().await?;
                let image = "ami-0fedcba9876543210";
                let asked = ec2
                    .sdk
                    .run_instances()
                    .image_id(image)
                    .subnet_id(&place.subnet);
                let asked = asked
                    .instance_type(InstanceType::M5Large)
                    .min_count(1)
                    .max_count(1);
                let text = format!("The image id '[{image}]' does not exist");
                asked
                    .send()
                    .await
                    .refused_with("InvalidAMIID.NotFound", &text)?;
            }
        ),
        check!(
            "RunInstances.invalid type",
            "A type that there is not is refused.",
            "D Error codes InvalidParameterValue",
            |ec2| {
                let place = ec2.place().await?;
                let asked = ec2
                    .sdk
                    .run_instances()
                    .image_id(ec2.image)
                    .subnet_id(&place.subnet);
                let asked = asked
                    .instance_type(InstanceType::from("zz9.huge"))
                    .min_count(1)
                    .max_count(1);
                asked.send().await.refused(&["InvalidParameterValue"])?;
                same("free after a refusal", ec2.free(&place.subnet).await?, 251)?;
            }
        ),
        check!(
            "RunInstances.Ipv4PrefixCount",
            "An interface in RunInstances may ask for prefixes.",
            "M InstanceNetworkInterfaceSpecification Ipv4PrefixCount; D Prefix delegation",
            |ec2| {
                let place = ec2.place().await?;
                let eni = interface(ec2, &place.subnet, |eni| eni.ipv4_prefix_count(1)).await?;
                let prefixes = prefixes(&eni);
                same("prefixes", prefixes.len(), 1)?;
                holds(
                    prefixes[0].ends_with("/28"),
                    format!("prefix {}", prefixes[0]),
                )?;
                same("free", ec2.free(&place.subnet).await?, 251 - 16 - 1)?;
            }
        ),
        check!(
            "RunInstances.SecondaryPrivateIpAddressCount",
            "An interface in RunInstances may ask for secondary addresses.",
            "M InstanceNetworkInterfaceSpecification SecondaryPrivateIpAddressCount",
            |ec2| {
                let place = ec2.place().await?;
                let ask = interface(ec2, &place.subnet, |eni| {
                    eni.secondary_private_ip_address_count(3)
                });
                same("addresses", addresses(&ask.await?).len(), 4)?;
            }
        ),
    ]
}

/// The primary ENI of an instance that was launched with this interface.
async fn interface(
    ec2: &Ec2,
    subnet: &str,
    ask: fn(
        aws_sdk_ec2::types::builders::InstanceNetworkInterfaceSpecificationBuilder,
    ) -> aws_sdk_ec2::types::builders::InstanceNetworkInterfaceSpecificationBuilder,
) -> Outcome<aws_sdk_ec2::types::NetworkInterface> {
    let eni = InstanceNetworkInterfaceSpecification::builder()
        .device_index(0)
        .subnet_id(subnet);
    let asked = ec2
        .sdk
        .run_instances()
        .image_id(ec2.image)
        .instance_type(InstanceType::M5Large);
    let asked = asked
        .min_count(1)
        .max_count(1)
        .network_interfaces(ask(eni).build());
    let made = asked.send().await?;
    let id = made
        .instances()
        .first()
        .and_then(|instance| instance.instance_id())
        .need("instance")?;
    ec2.runs(id).await?;
    ec2.primary_of(id).await
}

fn describing() -> Vec<Check> {
    vec![
        check!(
            "DescribeInstances.notfound",
            "An instance that is not there is refused by its id.",
            "S stackd",
            |ec2| {
                let asked = ec2
                    .sdk
                    .describe_instances()
                    .instance_ids(NO_INSTANCE)
                    .send()
                    .await;
                let text = format!("The instance ID '{NO_INSTANCE}' does not exist");
                asked.refused_with("InvalidInstanceID.NotFound", &text)?;
            }
        ),
        filters!(
            "DescribeInstances.filter tag:Name",
            "tag:Name",
            |pair| "one"
        ),
        check!(
            "DescribeInstances.filter instance-state-name",
            "The filter finds the instances that match, and no other.",
            "D API_DescribeInstances",
            |ec2| {
                let pair = Pair::run(ec2).await?;
                ec2.sdk
                    .terminate_instances()
                    .instance_ids(&pair.other)
                    .send()
                    .await?;
                pair.finds_one(ec2, "instance-state-name", "running")
                    .await?;
            }
        ),
        check!(
            "DescribeInstances.filter vpc-id",
            "The filter finds the instances that match, and no other.",
            "D API_DescribeInstances",
            |ec2| {
                let (here, there) = (ec2.place().await?, ec2.place().await?);
                let one = ec2.instance(&here.subnet, "m5.large").await?;
                ec2.instance(&there.subnet, "m5.large").await?;
                let asked = ec2
                    .sdk
                    .describe_instances()
                    .filters(filter("vpc-id", &here.vpc));
                let found = asked.send().await?;
                let found = found
                    .reservations()
                    .iter()
                    .flat_map(|reservation| reservation.instances());
                let ids: Vec<_> = found
                    .filter_map(|instance| instance.instance_id())
                    .collect();
                same("found", ids, [one.as_str()])?;
            }
        ),
        filters!(
            "DescribeInstances.filter network-interface.network-interface-id",
            "network-interface.network-interface-id",
            |pair| &pair.eni
        ),
        filters!(
            "DescribeInstances.filter private-ip-address",
            "private-ip-address",
            |pair| &pair.address
        ),
        filters!(
            "DescribeInstances.filter instance-id",
            "instance-id",
            |pair| &pair.one
        ),
        filters!("DescribeInstances.filter subnet-id", "subnet-id", |pair| {
            &pair.subnet
        }),
        filters!(
            "DescribeInstances.filter instance-type",
            "instance-type",
            |pair| "m5.large"
        ),
        check!(
            "DescribeInstances.pagination",
            "With MaxResults=5 six instances come as five and a token, and one without.",
            "M MaxResults 5 to 1000",
            |ec2| {
                let place = ec2.place().await?;
                for _ in 0..6 {
                    ec2.launch(&place.subnet, "m5.large").await?;
                }
                let asked = || {
                    ec2.sdk
                        .describe_instances()
                        .filters(filter("vpc-id", &place.vpc))
                        .max_results(5)
                };
                let first = asked().send().await?;
                let count = |reservations: &[aws_sdk_ec2::types::Reservation]| {
                    reservations
                        .iter()
                        .map(|reservation| reservation.instances().len())
                        .sum::<usize>()
                };
                same(
                    "instances on the first page",
                    count(first.reservations()),
                    5,
                )?;
                let token = first.next_token().need("nextToken")?;
                let second = asked().next_token(token).send().await?;
                same(
                    "instances on the second page",
                    count(second.reservations()),
                    1,
                )?;
                same("token of the last page", second.next_token(), None)?;
            }
        ),
    ]
}

pub(crate) fn statements() -> Vec<Check> {
    vec![
        check!(
            "RunInstances.TagSpecifications",
            "Tags for the instance and for its interface are on each from the start.",
            "D API_RunInstances TagSpecification",
            |ec2| {
                let place = ec2.place().await?;
                let asked = ec2
                    .sdk
                    .run_instances()
                    .image_id(ec2.image)
                    .subnet_id(&place.subnet);
                let asked = asked
                    .instance_type(InstanceType::M5Large)
                    .min_count(1)
                    .max_count(1);
                let asked =
                    asked.tag_specifications(tagged(ResourceType::Instance, "of", "instance"));
                let asked =
                    asked.tag_specifications(tagged(ResourceType::NetworkInterface, "of", "eni"));
                let made = asked.send().await?;
                let instance = made.instances().first().need("instance")?;
                let id = instance.instance_id().need("instance id")?;
                same(
                    "tags",
                    ec2.described_instance(id).await?.tags(),
                    [tag("of", "instance")],
                )?;
                same(
                    "tags of the ENI",
                    ec2.primary_of(id).await?.tag_set(),
                    [tag("of", "eni")],
                )?;
            }
        ),
        check!(
            "RunInstances.all or nothing",
            "Instances for which the subnet has no room are not launched, and nothing is taken.",
            "I aws/amazon-vpc-cni-k8s#1773 for the text",
            |ec2| {
                let place = ec2.place_of("10.0.1.0/28").await?;
                let asked = ec2
                    .sdk
                    .run_instances()
                    .image_id(ec2.image)
                    .subnet_id(&place.subnet);
                let asked = asked
                    .instance_type(InstanceType::M5Large)
                    .min_count(12)
                    .max_count(12);
                asked
                    .send()
                    .await
                    .refused(&["InsufficientFreeAddressesInSubnet"])?;
                same("free", ec2.free(&place.subnet).await?, 11)?;
            }
        ),
        check!(
            "RunInstances.ClientToken idempotent",
            "The same token again answers the same instance.",
            "D Ensuring idempotency",
            |ec2| {
                let place = ec2.place().await?;
                let mut made = Vec::new();
                for _ in 0..2 {
                    let asked = ec2
                        .sdk
                        .run_instances()
                        .image_id(ec2.image)
                        .subnet_id(&place.subnet);
                    let asked = asked
                        .instance_type(InstanceType::M5Large)
                        .min_count(1)
                        .max_count(1);
                    let answer = asked.client_token("once").send().await?;
                    made.push(
                        answer
                            .instances()
                            .first()
                            .and_then(|i| i.instance_id())
                            .need("instance")?
                            .to_owned(),
                    );
                }
                holds(made[1] == made[0], "makes a second one")?;
            }
        ),
    ]
}
