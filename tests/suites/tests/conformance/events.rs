//! What others do behind the callers' backs, as a client sees it. On aws-sim alone.

use std::time::Duration;

use aws_sim::Event;
use aws_sim::events::{Fragments, Step};

use crate::check::{Difference, MustFail as _, Outcome, check, holds, same};
use crate::ec2::{Ec2, addresses, filter, tag};
use crate::faults::count;
use crate::world::{Inside, as_is};

fn happen(ec2: &Ec2, event: &Event) -> Outcome {
    ec2.sim()
        .happen(event)
        .map(drop)
        .map_err(|error| Difference(error.to_string()))
}

pub(crate) fn checks() -> Vec<Inside> {
    vec![
        as_is(check!(
            "Events.an address is stolen",
            "An address that another took is on that one, and no longer on ours.",
            "D AllowReassignment",
            |ec2| {
                let place = ec2.place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                let assign = ec2
                    .sdk
                    .assign_private_ip_addresses()
                    .network_interface_id(&eni);
                assign.secondary_private_ip_address_count(1).send().await?;
                let before = addresses(&ec2.described(&eni).await?);
                happen(
                    ec2,
                    &Event::StealAddress {
                        eni: eni.clone(),
                        address: None,
                        to: None,
                    },
                )?;
                same(
                    "addresses",
                    addresses(&ec2.described(&eni).await?),
                    &before[..1],
                )?;
                same("ENIs", count(ec2, &place.vpc).await?, 2)?;
            }
        )),
        as_is(check!(
            "Events.an ENI is detached, and deleted, from outside",
            "It is available, and then gone, without anyone having asked.",
            "C the API of aws-sim",
            |ec2| {
                let place = ec2.place().await?;
                let instance = ec2.instance(&place.subnet, "m5.large").await?;
                let (eni, _) = ec2.attached(&place.subnet, &instance, 1).await?;
                happen(ec2, &Event::DetachEni { eni: eni.clone() })?;
                ec2.eni_is(&eni, "available").await?;
                happen(ec2, &Event::DeleteEni { eni: eni.clone() })?;
                let asked = ec2
                    .sdk
                    .describe_network_interfaces()
                    .network_interface_ids(&eni)
                    .send()
                    .await;
                asked.refused(&["InvalidNetworkInterfaceID.NotFound"])?;
            }
        )),
        as_is(check!(
            "Events.tags are stripped, groups drift",
            "Tags are gone and groups are others.",
            "C the API of aws-sim",
            |ec2| {
                let place = ec2.place().await?;
                let group = ec2.group(&place.vpc, "other").await?;
                let eni = ec2.eni(&place.subnet).await?;
                ec2.sdk
                    .create_tags()
                    .resources(&eni)
                    .tags(tag("a", "1"))
                    .tags(tag("b", "2"))
                    .send()
                    .await?;
                happen(
                    ec2,
                    &Event::StripTags {
                        of: eni.clone(),
                        keys: vec!["a".to_owned()],
                    },
                )?;
                same(
                    "tags",
                    ec2.described(&eni).await?.tag_set(),
                    [tag("b", "2")],
                )?;
                happen(
                    ec2,
                    &Event::SetGroups {
                        eni: eni.clone(),
                        groups: vec![group.clone()],
                    },
                )?;
                let found = ec2.described(&eni).await?;
                same(
                    "group",
                    found.groups().first().and_then(|group| group.group_id()),
                    Some(group.as_str()),
                )?;
            }
        )),
        as_is(check!(
            "Events.a subnet is filled, and emptied",
            "Others take all addresses but so many; then they are free again.",
            "I aws/amazon-vpc-cni-k8s#1773",
            |ec2| {
                let place = ec2.place().await?;
                happen(
                    ec2,
                    &Event::FillSubnet {
                        subnet: place.subnet.clone(),
                        leaving: 2,
                    },
                )?;
                same("free", ec2.free(&place.subnet).await?, 2)?;
                let asked = ec2.sdk.create_network_interface().subnet_id(&place.subnet);
                let asked = asked.secondary_private_ip_address_count(2).send().await;
                asked.refused(&["InsufficientFreeAddressesInSubnet"])?;
                happen(
                    ec2,
                    &Event::EmptySubnet {
                        subnet: place.subnet.clone(),
                    },
                )?;
                same("free", ec2.free(&place.subnet).await?, 251)?;
            }
        )),
        as_is(check!(
            "Events.a subnet is fragmented",
            "Most addresses are free, and no prefix is.",
            "I aws/amazon-vpc-cni-k8s#1836",
            |ec2| {
                let place = ec2.place().await?;
                let pattern = Fragments::OneInEachPrefix;
                happen(
                    ec2,
                    &Event::FragmentSubnet {
                        subnet: place.subnet.clone(),
                        pattern,
                    },
                )?;
                holds(ec2.free(&place.subnet).await? > 200, "few are free")?;
                let asked = ec2
                    .sdk
                    .create_network_interface()
                    .subnet_id(&place.subnet)
                    .ipv4_prefix_count(1);
                asked.send().await.refused(&["InsufficientCidrBlocks"])?;
                ec2.sdk
                    .create_network_interface()
                    .subnet_id(&place.subnet)
                    .send()
                    .await?;
            }
        )),
        as_is(check!(
            "Events.an orphan appears",
            "An ENI that nobody made is available, with its tags.",
            "C amazon-vpc-cni-k8s reaps what is leaked",
            |ec2| {
                let place = ec2.place().await?;
                let tags = [(
                    "node.k8s.amazonaws.com/instance_id".to_owned(),
                    "i-1".to_owned(),
                )]
                .into();
                let description = "aws-K8S-i-1".to_owned();
                happen(
                    ec2,
                    &Event::CreateOrphan {
                        subnet: place.subnet.clone(),
                        tags,
                        description,
                    },
                )?;
                let asked = ec2
                    .sdk
                    .describe_network_interfaces()
                    .filters(filter("description", "aws-K8S-*"));
                let found = asked.filters(filter("status", "available")).send().await?;
                same("found", found.network_interfaces().len(), 1)?;
            }
        )),
        as_is(check!(
            "Events.an attachment is stuck",
            "It stays attaching until it is let go.",
            "I aws/amazon-ecs-agent#1520, ansible amazon.aws#501",
            |ec2| {
                let place = ec2.place().await?;
                let instance = ec2.instance(&place.subnet, "m5.large").await?;
                let eni = ec2.eni(&place.subnet).await?;
                happen(
                    ec2,
                    &Event::Stick {
                        step: Step::Attach,
                        eni: None,
                    },
                )?;
                let attach = ec2
                    .sdk
                    .attach_network_interface()
                    .network_interface_id(&eni);
                attach.instance_id(&instance).device_index(1).send().await?;
                ec2.sim().skip(Duration::from_secs(3600));
                let status = async || -> Outcome<Option<String>> {
                    let attachment = ec2.described(&eni).await?.attachment;
                    Ok(attachment
                        .and_then(|attachment| attachment.status)
                        .map(|status| status.to_string()))
                };
                same(
                    "an hour later",
                    status().await?.as_deref(),
                    Some("attaching"),
                )?;
                happen(
                    ec2,
                    &Event::Unstick {
                        step: Step::Attach,
                        eni: None,
                    },
                )?;
                same("let go", status().await?.as_deref(), Some("attached"))?;
            }
        )),
    ]
}
