//! Translation of what leaves the VPC, by aws-node's settings, and a VPC whose CIDRs change.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use suites::harness::{async_test, eventually_within};
use suites::node::{Node, text_of};

use crate::paths::{assert_no_wrong_way, assert_seen};
use crate::world::{imds_shows_all, lab, pods_until_second_eni};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test(
            "with_external_snat_pods_keep_their_address_by_their_own_eni",
            external,
        ),
        async_test(
            "to_an_excluded_cidr_pods_keep_their_address_and_elsewhere_not",
            excluded,
        ),
        async_test(
            "a_cidr_that_the_vpc_gains_is_not_translated_any_more_within_a_minute",
            gained,
        ),
        async_test(
            "a_word_that_is_none_of_aws_nodes_is_refused_with_those_that_are",
            refused,
        ),
    ]
}

async fn external() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a").with("AWS_VPC_K8S_CNI_EXTERNALSNAT", true);
    a.start_ipamd().await?;
    let pods = pods_until_second_eni(&lab, &a).await?;
    let peer = lab.peer();
    for pod in [&pods[0], &pods[pods.len() - 1]] {
        assert_seen(&pod.netns, peer.netns(), peer.address(), pod.address)?;
    }
    assert_no_wrong_way(&lab)
}

async fn excluded() -> anyhow::Result<()> {
    let lab = lab()?;
    // With a blank, as manifests have it.
    let mut a = Node::new(&lab, "a").with(
        "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS",
        "192.0.2.0/24, 10.9.0.0/16",
    );
    a.start_ipamd().await?;
    let pods = pods_until_second_eni(&lab, &a).await?;
    let public = a.lab().public_address().context("no public address")?;
    let (peer, internet) = (lab.peer(), lab.internet());
    for pod in [&pods[0], &pods[pods.len() - 1]] {
        assert_seen(&pod.netns, peer.netns(), peer.address(), pod.address)?;
        assert_seen(&pod.netns, internet.netns(), internet.address(), public)?;
    }
    assert_no_wrong_way(&lab)
}

async fn gained() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a");
    a.start_ipamd().await?;
    let pods = pods_until_second_eni(&lab, &a).await?;
    let (peer, last) = (lab.peer(), &pods[pods.len() - 1]);
    let node = a.lab().primary_address();
    assert_seen(&last.netns, peer.netns(), peer.address(), node)?;

    let table = || {
        text_of(
            a.lab().netns(),
            "nft",
            &["-a", "list", "table", "ip", "weir"],
        )
    };
    let before = table()?;
    let vpcs = lab.sim().fabric().vpcs;
    let vpc = aws_sim::VpcId::from(vpcs.first().context("no VPC")?.id.as_str());
    let cidr = "10.9.0.0/16".parse()?;
    let added = lab
        .sim()
        .with_world(|world, _| world.add_vpc_cidr(&vpc, cidr));
    added.map_err(|error| anyhow::anyhow!("{error:?}"))?;
    imds_shows_all(&lab);
    let gained = Instant::now();
    let known = eventually_within(Duration::from_mins(1), "the CIDR is known", async || {
        Ok(table()?.contains("10.9.0.0/16").then_some(()))
    });
    known.await?;
    assert_seen(&last.netns, peer.netns(), peer.address(), last.address)?;
    // With handles: nothing else was made anew.
    let now = table()?;
    ensure!(
        now.replace(", 10.9.0.0/16", "")
            .replace("10.9.0.0/16, ", "")
            == before,
        "after {:?}:\n{before}\n{now}",
        gained.elapsed()
    );
    Ok(())
}

async fn refused() -> anyhow::Result<()> {
    let lab = lab()?;
    for (name, value, rule) in [
        (
            "AWS_VPC_K8S_CNI_RANDOMIZESNAT",
            "fully",
            "must be prng, hashrandom or none",
        ),
        (
            "AWS_VPC_K8S_CNI_EXTERNALSNAT",
            "maybe",
            "must be true (or 1, t, T, TRUE, True) or false",
        ),
        (
            "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS",
            "10.0.0.0",
            "must be IPv4 CIDRs joined by commas",
        ),
    ] {
        let mut a = Node::new(&lab, "a").with(name, value);
        let error = a.start_ipamd().await.err().context(name)?.to_string();
        ensure!(
            error.contains(name) && error.contains(value) && error.contains(rule),
            "{error}"
        );
    }
    Ok(())
}
