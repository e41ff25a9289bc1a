//! Connection tracking's time-outs, over HTTP.

use aws_sim::Request as Ec2Request;
use libtest_mimic::Trial;
use suites::harness::async_test;
use suites::node::Node;
use vpc_lab::Lab;

use crate::rig::{calls, imds_shows_all, lab};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test(
            "a_new_eni_has_the_connection_tracking_of_the_primary_from_its_creation",
            copied,
        ),
        async_test(
            "after_a_restart_that_asked_ec2_nothing_too",
            copied_after_a_restart,
        ),
    ]
}

/// Somebody sets one on the primary ENI.
fn set(lab: &Lab, seconds: &str) {
    let instance = lab.node("a").instance_id().to_owned();
    let eni = lab.sim().look(|world, _| {
        let eni = world.primary_eni(&instance.as_str().into());
        eni.map(|eni| eni.id.as_str().to_owned())
    });
    let answer = lab.sim().call(&Ec2Request::new(
        "ModifyNetworkInterfaceAttribute",
        [
            ("NetworkInterfaceId", eni.as_deref().unwrap_or_default()),
            (
                "ConnectionTrackingSpecification.TcpEstablishedTimeout",
                seconds,
            ),
        ],
    ));
    assert_eq!(answer.error, None, "{}", answer.body);
}

async fn has_two_enis_alike(lab: &Lab, node: &Node<'_>) -> anyhow::Result<()> {
    node.wait_for_pool("a second ENI", |pool| {
        pool.enis.len() == 2 && pool.pending_calls.is_empty()
    })
    .await?;
    let set = lab.sim().look(|world, _| {
        let enis = world.enis();
        enis.map(|eni| eni.connection_tracking.tcp_established)
            .collect::<Vec<_>>()
    });
    assert_eq!(set, [Some(600), Some(600)]);
    Ok(())
}

/// amazon-vpc-cni-k8s#3666: ENIs that the CNI made had EC2's defaults.
async fn copied() -> anyhow::Result<()> {
    let lab = lab()?;
    set(&lab, "600");
    let mut node = Node::new(&lab, "a").with("MINIMUM_IP_TARGET", 12);
    node.start_ipamd().await?;
    has_two_enis_alike(&lab, &node).await?;
    assert_eq!(calls(&lab, "DescribeNetworkInterfaces").len(), 1);
    node.stop_ipamd().await
}

async fn copied_after_a_restart() -> anyhow::Result<()> {
    let lab = lab()?;
    set(&lab, "600");
    let mut node = Node::new(&lab, "a").with("MINIMUM_IP_TARGET", 3);
    node.start_ipamd().await?;
    node.wait_for_pool("three addresses", |pool| {
        pool.totals.is_some_and(|totals| totals.free >= 3) && pool.pending_calls.is_empty()
    })
    .await?;
    node.stop_ipamd().await?;
    imds_shows_all(&lab);
    let mut node = node.with("MINIMUM_IP_TARGET", 12);
    node.start_ipamd().await?;
    has_two_enis_alike(&lab, &node).await?;
    assert_eq!(calls(&lab, "DescribeNetworkInterfaces").len(), 2);
    node.stop_ipamd().await
}
