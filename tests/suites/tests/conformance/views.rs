//! What is written, what Describe shows and what IMDS shows: three views, each with its lag. On aws-sim alone.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_ec2::client::Waiters as _;
use aws_sdk_ec2::config::{AsyncSleep, SharedAsyncSleep, Sleep};
use aws_sdk_ec2::types::AttributeValue;

use aws_sim::Event;
use aws_sim::subnet::Order;

use crate::check::{MustFail as _, Need as _, Outcome, check, holds, same};
use crate::ec2::{Ec2, filter, prefixes, tag};
use crate::metadata::Imds;
use crate::world::{Inside, as_is, with};

const MACS: &str = "/latest/meta-data/network/interfaces/macs/";

/// A new ENI, without a look at it.
async fn create(ec2: &Ec2, subnet: &str) -> Outcome<String> {
    let made = ec2
        .sdk
        .create_network_interface()
        .subnet_id(subnet)
        .send()
        .await?;
    made.network_interface
        .and_then(|eni| eni.network_interface_id)
        .need("ENI")
}

pub(crate) fn checks() -> Vec<Inside> {
    vec![
        with(
            check!(
                "Views.Describe lags behind what was written",
                "A new ENI is not described yet, though calls that change it find it.",
                "D Eventual consistency; I aws/aws-sdk#301",
                |ec2| {
                    let place = ec2.place().await?;
                    let eni = create(ec2, &place.subnet).await?;
                    let asked = ec2
                        .sdk
                        .describe_network_interfaces()
                        .network_interface_ids(&eni)
                        .send()
                        .await;
                    asked.refused(&["InvalidNetworkInterfaceID.NotFound"])?;
                    let all = ec2
                        .sdk
                        .describe_network_interfaces()
                        .filters(filter("vpc-id", &place.vpc));
                    same("described", all.send().await?.network_interfaces().len(), 0)?;
                    ec2.sdk
                        .create_tags()
                        .resources(&eni)
                        .tags(tag("a", "1"))
                        .send()
                        .await?;
                    ec2.sim().skip(Duration::from_secs(60));
                    same(
                        "tags",
                        ec2.described(&eni).await?.tag_set(),
                        [tag("a", "1")],
                    )?;
                }
            ),
            |config| config.describe_lag = Duration::from_secs(60),
        ),
        with(
            check!(
                "Views.Describe shows a deleted ENI for a while",
                "An ENI that was deleted is still described until the view has caught up; deleting it again fails.",
                "D Eventual consistency",
                |ec2| {
                    let place = ec2.place().await?;
                    let eni = create(ec2, &place.subnet).await?;
                    ec2.sim().skip(Duration::from_secs(61));
                    ec2.sdk
                        .delete_network_interface()
                        .network_interface_id(&eni)
                        .send()
                        .await?;
                    same(
                        "still described",
                        ec2.described(&eni).await?.network_interface_id(),
                        Some(eni.as_str()),
                    )?;
                    let again = ec2
                        .sdk
                        .delete_network_interface()
                        .network_interface_id(&eni)
                        .send()
                        .await;
                    again.refused(&["InvalidNetworkInterfaceID.NotFound"])?;
                    ec2.sim().skip(Duration::from_secs(60));
                    let asked = ec2
                        .sdk
                        .describe_network_interfaces()
                        .network_interface_ids(&eni)
                        .send()
                        .await;
                    asked.refused(&["InvalidNetworkInterfaceID.NotFound"])?;
                }
            ),
            |config| config.describe_lag = Duration::from_secs(60),
        ),
        with(
            check!(
                "Views.IMDS lags behind EC2",
                "EC2 says attached; the MAC appears in IMDS later, and goes later.",
                "C amazon-vpc-cni-k8s waits after attach",
                |ec2| {
                    let place = ec2.place().await?;
                    let instance = ec2.instance(&place.subnet, "m5.large").await?;
                    let imds = Imds::of(ec2, instance).await?;
                    let (eni, attachment) = ec2.attached(&place.subnet, &imds.instance, 1).await?;
                    let mac = ec2.described(&eni).await?.mac_address.need("MAC")?;
                    same(
                        "MACs at first",
                        imds.text(MACS).await?,
                        format!("{}/", imds.mac),
                    )?;
                    ec2.sim().skip(Duration::from_secs(30));
                    holds(
                        imds.text(MACS).await?.contains(&mac),
                        "the MAC never appears",
                    )?;
                    ec2.sdk
                        .detach_network_interface()
                        .attachment_id(&attachment)
                        .send()
                        .await?;
                    ec2.eni_is(&eni, "available").await?;
                    holds(
                        imds.text(MACS).await?.contains(&mac),
                        "the MAC is gone at once",
                    )?;
                    ec2.sim().skip(Duration::from_secs(30));
                    same(
                        "MACs at last",
                        imds.text(MACS).await?,
                        format!("{}/", imds.mac),
                    )?;
                }
            ),
            |config| config.imds_lag = Duration::from_secs(30),
        ),
        with(
            check!(
                "Views.reads may go backwards",
                "Of two reads the later may show the older state.",
                "D Eventual consistency",
                |ec2| {
                    let place = ec2.place().await?;
                    let eni = create(ec2, &place.subnet).await?;
                    ec2.sim().skip(Duration::from_secs(100));
                    let new = AttributeValue::builder().value("new").build();
                    let change = ec2
                        .sdk
                        .modify_network_interface_attribute()
                        .network_interface_id(&eni);
                    change.description(new).send().await?;
                    ec2.sim().skip(Duration::from_secs(30));
                    let mut seen = Vec::new();
                    for _ in 0..40 {
                        seen.push(ec2.described(&eni).await?.description() == Some("new"));
                    }
                    let back = seen.windows(2).any(|pair| pair == [true, false]);
                    holds(
                        back,
                        format!("no read showed an older state than the one before it: {seen:?}"),
                    )?;
                }
            ),
            |config| {
                config.describe_lag = Duration::from_secs(60);
                config.reads_go_backwards = true;
            },
        ),
        with(
            check!(
                "Views.a new ENI is not known everywhere",
                "Calls that change a new ENI may find it missing, and the next may not.",
                "I aws/aws-sdk#301",
                |ec2| {
                    let place = ec2.place().await?;
                    let eni = create(ec2, &place.subnet).await?;
                    let mut seen = BTreeSet::new();
                    for _ in 0..30 {
                        let asked = ec2
                            .sdk
                            .create_tags()
                            .resources(&eni)
                            .tags(tag("a", "1"))
                            .send()
                            .await;
                        seen.insert(asked.is_ok());
                        if asked.is_err() {
                            asked.refused(&["InvalidNetworkInterfaceID.NotFound"])?;
                        }
                    }
                    same("found and not found", seen, BTreeSet::from([false, true]))?;
                    ec2.sim().skip(Duration::from_secs(60));
                    for _ in 0..10 {
                        ec2.sdk
                            .create_tags()
                            .resources(&eni)
                            .tags(tag("a", "1"))
                            .send()
                            .await?;
                    }
                }
            ),
            |config| config.write_lag = Duration::from_secs(60),
        ),
        with(
            check!(
                "Views.a MAC appears before its leaves",
                "A MAC is listed in IMDS while some of what is below it is still 404.",
                "R",
                |ec2| {
                    let place = ec2.place().await?;
                    let instance = ec2.instance(&place.subnet, "m5.large").await?;
                    let imds = Imds::of(ec2, instance).await?;
                    let (eni, _) = ec2.attached(&place.subnet, &imds.instance, 1).await?;
                    let mac = ec2.described(&eni).await?.mac_address.need("MAC")?;
                    holds(
                        imds.text(MACS).await?.contains(&mac),
                        "the MAC is not listed",
                    )?;
                    let leaves = [
                        "interface-id",
                        "device-number",
                        "subnet-id",
                        "vpc-id",
                        "local-ipv4s",
                        "security-group-ids",
                    ];
                    let mut missing = 0;
                    for leaf in leaves {
                        missing += usize::from(
                            imds.get(&format!("{MACS}{mac}/{leaf}")).await?.status == 404,
                        );
                    }
                    holds(missing > 0, "all leaves are there at once")?;
                    ec2.sim().skip(Duration::from_secs(60));
                    for leaf in leaves {
                        imds.text(&format!("{MACS}{mac}/{leaf}")).await?;
                    }
                }
            ),
            |config| config.imds_partial = Duration::from_secs(60),
        ),
        with(
            check!(
                "Time.states take as long as they are told to",
                "An ENI is pending for its latency, then available; an attachment and a detachment likewise.",
                "I ansible amazon.aws#501",
                |ec2| {
                    let place = ec2.place().await?;
                    ec2.takes(Duration::from_secs(300));
                    let eni = create(ec2, &place.subnet).await?;
                    let status = async || -> Outcome<(String, String)> {
                        let eni = ec2.described(&eni).await?;
                        let attachment =
                            eni.attachment().and_then(|attachment| attachment.status());
                        let text = |status: Option<&str>| status.unwrap_or("none").to_owned();
                        Ok((
                            text(eni.status().map(|status| status.as_str())),
                            text(attachment.map(|status| status.as_str())),
                        ))
                    };
                    let is =
                        |status: &str, attachment: &str| (status.to_owned(), attachment.to_owned());
                    same("new", status().await?, is("pending", "none"))?;
                    ec2.sim().skip(Duration::from_secs(301));
                    same(
                        "after its latency",
                        status().await?,
                        is("available", "none"),
                    )?;
                    ec2.takes(Duration::ZERO);
                    let instance = ec2.instance(&place.subnet, "m5.large").await?;
                    ec2.takes(Duration::from_secs(300));
                    let attach = ec2
                        .sdk
                        .attach_network_interface()
                        .network_interface_id(&eni);
                    let attachment = attach.instance_id(&instance).device_index(1).send().await?;
                    same("attached to", status().await?, is("in-use", "attaching"))?;
                    ec2.sim().skip(Duration::from_secs(301));
                    same(
                        "after its latency",
                        status().await?,
                        is("in-use", "attached"),
                    )?;
                    let detach = ec2.sdk.detach_network_interface();
                    detach
                        .attachment_id(attachment.attachment_id().need("id")?)
                        .send()
                        .await?;
                    same("detached", status().await?, is("in-use", "detaching"))?;
                    ec2.sim().skip(Duration::from_secs(301));
                    same(
                        "after its latency",
                        status().await?,
                        is("available", "none"),
                    )?;
                }
            ),
            |_| {},
        ),
        as_is(check!(
            "Time.the SDK's waiters finish",
            "The waiters for an ENI, an instance that runs and one that is terminated come to their end.",
            "C aws-sdk-ec2",
            |ec2| {
                // They would sleep for 15 s: here a second of theirs is a millisecond of ours.
                #[derive(Debug)]
                struct Hurry;
                impl AsyncSleep for Hurry {
                    fn sleep(&self, duration: Duration) -> Sleep {
                        Sleep::new(tokio::time::sleep(duration / 100))
                    }
                }
                let place = ec2.place().await?;
                let config = ec2
                    .sdk
                    .config()
                    .to_builder()
                    .sleep_impl(SharedAsyncSleep::new(Hurry))
                    .build();
                let sdk = aws_sdk_ec2::Client::from_conf(config);
                let most = Duration::from_secs(600);
                ec2.takes(Duration::from_millis(300));
                let eni = create(ec2, &place.subnet).await?;
                let wait = sdk
                    .wait_until_network_interface_available()
                    .network_interface_ids(&eni);
                wait.wait(most).await.map_err(anyhow::Error::from)?;
                let instance = ec2
                    .launch(&place.subnet, "m5.large")
                    .await?
                    .instance_id
                    .need("instance")?;
                let wait = sdk.wait_until_instance_running().instance_ids(&instance);
                wait.wait(most).await.map_err(anyhow::Error::from)?;
                sdk.terminate_instances()
                    .instance_ids(&instance)
                    .send()
                    .await?;
                let wait = sdk.wait_until_instance_terminated().instance_ids(&instance);
                wait.wait(most).await.map_err(anyhow::Error::from)?;
                same(
                    "terminated",
                    ec2.instance_is(&instance, "terminated").await.is_ok(),
                    true,
                )?;
            }
        )),
        with(
            check!(
                "Pages.may be short",
                "Pages may hold fewer than asked for, even none, with a token; the paginator of the SDK walks on.",
                "D API_DescribeNetworkInterfaces MaxResults",
                |ec2| {
                    let place = ec2.place().await?;
                    for _ in 0..12 {
                        create(ec2, &place.subnet).await?;
                    }
                    let asked = ec2
                        .sdk
                        .describe_network_interfaces()
                        .filters(filter("vpc-id", &place.vpc));
                    let mut pages = asked.into_paginator().page_size(5).send();
                    let (mut sizes, mut found) = (Vec::new(), BTreeSet::new());
                    while let Some(page) = pages.next().await {
                        let page = page?;
                        sizes.push(page.network_interfaces().len());
                        found.extend(
                            page.network_interfaces()
                                .iter()
                                .filter_map(|eni| eni.network_interface_id.clone()),
                        );
                    }
                    same("found", found.len(), 12)?;
                    holds(
                        sizes.len() > 3,
                        format!("pages of {sizes:?} are as long as asked for"),
                    )?;
                }
            ),
            |config| config.short_pages = true,
        ),
        with(
            check!(
                "Subnet.the lowest address first",
                "With that order, ENIs get the first addresses of the subnet, and prefixes the first free blocks.",
                "C the API of aws-sim",
                |ec2| {
                    let place = ec2.place().await?;
                    for last in 4..8 {
                        let made = ec2
                            .sdk
                            .create_network_interface()
                            .subnet_id(&place.subnet)
                            .send()
                            .await?;
                        let address = made
                            .network_interface
                            .and_then(|eni| eni.private_ip_address);
                        same("address", address, Some(format!("10.0.1.{last}")))?;
                    }
                    let made = ec2
                        .sdk
                        .create_network_interface()
                        .subnet_id(&place.subnet)
                        .ipv4_prefix_count(1);
                    let eni = made.send().await?.network_interface.need("ENI")?;
                    same("prefix", prefixes(&eni), ["10.0.1.16/28"])?;
                }
            ),
            |config| config.order = Order::Lowest,
        ),
        with(
            check!(
                "Subnet.the worst address first",
                "With that order, fourteen ENIs are enough to leave a /24 without a whole /28.",
                "I aws/amazon-vpc-cni-k8s#1836",
                |ec2| {
                    let place = ec2.place().await?;
                    for _ in 0..14 {
                        create(ec2, &place.subnet).await?;
                    }
                    let asked = ec2
                        .sdk
                        .create_network_interface()
                        .subnet_id(&place.subnet)
                        .ipv4_prefix_count(1);
                    asked.send().await.refused(&["InsufficientCidrBlocks"])?;
                    same("free", ec2.free(&place.subnet).await?, 251 - 14)?;
                }
            ),
            |config| config.order = Order::Fragmenting,
        ),
        as_is(check!(
            "Time.the clock of EC2 steps",
            "The time of day that EC2 shows jumps back, while states take as long as before.",
            "C the API of aws-sim",
            |ec2| {
                let place = ec2.place().await?;
                let launched = async || -> Outcome<i64> {
                    let instance = ec2.launch(&place.subnet, "m5.large").await?;
                    Ok(instance.launch_time.need("launchTime")?.secs())
                };
                let before = launched().await?;
                let back = Event::StepClock {
                    by: Duration::from_secs(3600),
                    back: true,
                };
                ec2.sim().happen(&back).map_err(anyhow::Error::from)?;
                let after = launched().await?;
                holds(
                    (before - after - 3600).abs() < 60,
                    format!("{before} and then {after}"),
                )?;
            }
        )),
        with(
            check!(
                "Subnet.the other code of a full one",
                "EC2 has a second code and text for a subnet without room.",
                "I cilium/cilium#31016, quoting AWS support",
                |ec2| {
                    let place = ec2.place_of("10.0.1.0/28").await?;
                    let asked = ec2.sdk.create_network_interface().subnet_id(&place.subnet);
                    let asked = asked.secondary_private_ip_address_count(11).send().await;
                    let text = "There aren't sufficient free Ipv4 addresses or prefixes";
                    asked.refused_with("InvalidParameterValue", text)?;
                }
            ),
            |config| config.vague_subnet_errors = true,
        ),
    ]
}
