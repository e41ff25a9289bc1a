//! `ENABLE_PREFIX_DELEGATION`: pods get addresses of /28s, as long as the subnet has any.

use std::collections::BTreeSet;

use anyhow::Context;
use aws_sim::events::Fragments;
use aws_sim::{Event, fabric::FabricEni};
use ipnet::Ipv4Net;
use libtest_mimic::Trial;
use suites::harness::async_test;
use suites::node::Node;
use vpc_lab::{Lab, LabConfig};

use crate::paths::{assert_no_wrong_way, assert_seen};
use crate::world::{device_index_in_ec2, pod};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test("pods_get_addresses_of_prefixes_on_each_eni", prefixes),
        async_test(
            "in_a_subnet_without_a_whole_prefix_pods_get_single_addresses",
            fragmented,
        ),
    ]
}

async fn prefixes() -> anyhow::Result<()> {
    // Two ENIs of one slot beside their own address: a /28 each.
    let mut config = LabConfig::default();
    for node in &mut config.nodes {
        node.instance_type = "t3.nano".to_owned();
    }
    let lab = Lab::start(config)?;
    let delegating = |name| Node::new(&lab, name).with("ENABLE_PREFIX_DELEGATION", true);
    let (mut a, mut b) = (delegating("a"), delegating("b"));
    a.start_ipamd().await?;
    b.start_ipamd().await?;
    let pods: Result<Vec<_>, _> = (0..17).map(|n| pod(&lab, &a, &format!("{n}"))).collect();
    let pods = pods?;
    let different: BTreeSet<_> = pods.iter().map(|pod| pod.address).collect();
    assert_eq!(different.len(), 17, "an address was given out twice");

    let enis = enis_of(&lab, &a);
    assert_eq!(enis.len(), 2, "{enis:#?}");
    for eni in &enis {
        assert_eq!(eni.addresses, [eni.primary_address], "{eni:#?}");
        assert_eq!(eni.prefixes.len(), 1, "{eni:#?}");
    }
    let (first, last) = (&pods[0], &pods[16]);
    assert_eq!(device_index_in_ec2(&lab, first.address), Some(0));
    assert_eq!(device_index_in_ec2(&lab, last.address), Some(1));
    let shown = a.pool().await?;
    let shown: Vec<_> = shown
        .enis
        .iter()
        .flat_map(|eni| &eni.prefixes)
        .map(|prefix| (prefix.cidr.parse(), prefix.claimed))
        .map(|(cidr, claimed)| Ok((cidr?, claimed)))
        .collect::<anyhow::Result<_>>()?;
    assert_eq!(
        shown,
        [(enis[0].prefixes[0], 16), (enis[1].prefixes[0], 1)],
        "the pool does not tell what EC2 holds"
    );

    let far = pod(&lab, &b, "far")?;
    for near in [first, last] {
        assert_seen(&near.netns, &far.netns, far.address, near.address)?;
        assert_seen(&far.netns, &near.netns, near.address, far.address)?;
        let public = a.lab().public_address().context("no public address")?;
        let internet = lab.internet();
        assert_seen(&near.netns, internet.netns(), internet.address(), public)?;
    }
    assert_seen(&first.netns, &last.netns, last.address, first.address)?;
    assert_no_wrong_way(&lab)
}

async fn fragmented() -> anyhow::Result<()> {
    // EC2 has two ways to say that there is no /28: one names it, the other speaks of addresses or prefixes.
    for vague in [false, true] {
        without_whole_prefixes(vague)
            .await
            .with_context(|| format!("vague errors: {vague}"))?;
    }
    Ok(())
}

async fn without_whole_prefixes(vague: bool) -> anyhow::Result<()> {
    let mut config = LabConfig::default();
    config.world.vague_subnet_errors = vague;
    let lab = Lab::start(config)?;
    let subnets = lab.sim().fabric().subnets;
    let of_a: Ipv4Net = "10.0.1.0/24".parse()?;
    let subnet = subnets.iter().find(|subnet| subnet.cidr == of_a);
    lab.sim().happen(&Event::FragmentSubnet {
        subnet: subnet.context("no subnet of node a")?.id.clone(),
        pattern: Fragments::OneInEachPrefix,
    })?;
    let mut a = Node::new(&lab, "a").with("ENABLE_PREFIX_DELEGATION", true);
    a.start_ipamd().await?;
    let (one, two) = (pod(&lab, &a, "one")?, pod(&lab, &a, "two")?);
    let enis = enis_of(&lab, &a);
    assert!(enis[0].prefixes.is_empty(), "{enis:#?}");
    for pod in [&one, &two] {
        assert!(enis[0].addresses.contains(&pod.address), "{enis:#?}");
    }
    assert_seen(&one.netns, &two.netns, two.address, one.address)?;
    assert_seen(
        lab.node("b").netns(),
        &one.netns,
        one.address,
        lab.node("b").primary_address(),
    )?;
    assert_no_wrong_way(&lab)
}

/// The node's ENIs by EC2's word, the primary first.
fn enis_of(lab: &Lab, node: &Node<'_>) -> Vec<FabricEni> {
    let mut enis = lab.sim().fabric().enis;
    enis.retain(|eni| eni.instance_id.as_deref() == Some(node.lab().instance_id()));
    enis.sort_by_key(|eni| eni.device_index);
    enis
}
