//! ENIs keep up with the primary ENI's security groups. These tests wait for ipamd's next look at IMDS most of the time, so
//! they run beside the others, in labs of their own.
//!
//! `#N` is an issue or pull request of aws/amazon-vpc-cni-k8s.

use std::time::Duration;

use anyhow::Context;
use aws_sim::{CallRecord, Deny, Event};
use libtest_mimic::Trial;
use suites::harness::{eventually_within, waiting_test};
use suites::node::Node;
use vpc_lab::Lab;

use crate::rig::{Plugin, calls, imds_shows_all};
use crate::survival::lab;

/// ipamd looks at IMDS every 30 s.
const A_LOOK: Duration = Duration::from_secs(50);
/// After a refusal, the next try comes within 30 s.
const ANOTHER_TRY: Duration = Duration::from_secs(50);

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        waiting_test(
            "when_the_primary_enis_security_groups_change_the_others_follow_and_new_ones_are_made_with_them",
            followed,
        ),
        waiting_test(
            "security_groups_that_can_not_be_set_keep_no_pod_waiting_and_are_tried_again",
            refused,
        ),
    ]
}

/// A security group, made by a person.
fn group(lab: &Lab, name: &str) -> anyhow::Result<String> {
    let instance = lab.node("a").instance_id().into();
    lab.sim().with_world(|world, _| {
        let instance = world.instance(&instance).context("the node is there")?;
        let vpc = instance.vpc.clone();
        let id = world.add_security_group(&vpc, name, Vec::new(), Vec::new())?;
        Ok(id.as_str().to_owned())
    })
}

/// A person gives the primary ENI this group and no other.
fn regroup(lab: &Lab, group: &str) -> anyhow::Result<()> {
    let instance = lab.node("a").instance_id().into();
    let primary = lab.sim().look(|world, _| {
        let eni = world.primary_eni(&instance);
        eni.map(|eni| eni.id.as_str().to_owned())
    });
    let eni = primary.context("the node has a primary ENI")?;
    let groups = vec![group.to_owned()];
    lab.sim().happen(&Event::SetGroups { eni, groups })?;
    imds_shows_all(lab);
    Ok(())
}

/// The groups of the node's ENIs, the primary's first.
fn groups(lab: &Lab) -> Vec<Vec<String>> {
    let instance = lab.node("a").instance_id().into();
    lab.sim().look(|world, _| {
        let mut enis: Vec<_> = world.enis_of(&instance).collect();
        enis.sort_by_key(|eni| eni.attachment.as_ref().map(|at| at.device_index));
        let groups = enis.iter().map(|eni| eni.groups.iter());
        groups
            .map(|groups| groups.map(|id| id.as_str().to_owned()).collect())
            .collect()
    })
}

/// The calls that set groups.
fn sets(lab: &Lab) -> Vec<CallRecord> {
    let mut calls = calls(lab, "ModifyNetworkInterfaceAttribute");
    calls.retain(|call| call.params.contains_key("SecurityGroupId.1"));
    calls
}

/// Two ENIs: nine addresses are on the first.
async fn two_enis(node: &mut Node<'_>) -> anyhow::Result<()> {
    node.start_ipamd().await?;
    node.wait_for_pool("two ENIs", |pool| {
        pool.totals.is_some_and(|totals| totals.free == 12) && pool.pending_calls.is_empty()
    })
    .await?;
    Ok(())
}

async fn followed() -> anyhow::Result<()> {
    let lab = lab("regrouped", &["a"])?;
    let mut node = Node::new(&lab, "a").with("WARM_IP_TARGET", 12);
    two_enis(&mut node).await?;
    let new = group(&lab, "new")?;
    let same = |enis| vec![vec![new.clone()]; enis];
    regroup(&lab, &new)?;
    eventually_within(A_LOOK, "both ENIs have the new group", async || {
        Ok((groups(&lab) == same(2)).then_some(()))
    })
    .await
    .with_context(|| node.log_tail())?;
    // A third ENI.
    let mut plugin = Plugin::connect(&node.socket()).await?;
    for pod in 0..12 {
        plugin.add(&format!("pod-{pod}")).await?;
    }
    eventually_within(A_LOOK, "all three have it", async || {
        Ok((groups(&lab) == same(3)).then_some(()))
    })
    .await
    .with_context(|| node.log_tail())?;
    let made = calls(&lab, "CreateNetworkInterface");
    let with = made
        .last()
        .and_then(|call| call.params.get("SecurityGroupId.1"));
    assert_eq!(with, Some(&new), "{made:#?}");
    assert_eq!(
        sets(&lab).len(),
        1,
        "one call for the one ENI: {:#?}",
        sets(&lab)
    );
    node.stop_ipamd().await
}

/// #1341: a refused change of groups stopped aws-node from making its pool grow.
async fn refused() -> anyhow::Result<()> {
    let lab = lab("groups-refused", &["a"])?;
    let mut node = Node::new(&lab, "a").with("WARM_IP_TARGET", 12);
    two_enis(&mut node).await?;
    let new = group(&lab, "new")?;
    lab.sim()
        .deny(Deny::action("ModifyNetworkInterfaceAttribute"));
    regroup(&lab, &new)?;
    let told = eventually_within(A_LOOK, "it is told", async || {
        let log = std::fs::read_to_string(node.log())?;
        let lines: Vec<_> = log.lines().map(str::to_owned).collect();
        Ok(lines.into_iter().find(|it| it.contains("can't get them")))
    })
    .await
    .with_context(|| node.log_tail())?;
    assert!(told.contains("UnauthorizedOperation"), "{told}");
    assert!(
        told.contains("ec2:ModifyNetworkInterfaceAttribute"),
        "{told}"
    );
    // Pods come, and the pool grows.
    let mut plugin = Plugin::connect(&node.socket()).await?;
    for pod in 0..5 {
        plugin
            .add_within(&format!("pod-{pod}"), Duration::from_secs(2))
            .await?;
    }
    node.wait_for_pool("it grows", |pool| {
        pool.totals.is_some_and(|totals| totals.free == 12)
    })
    .await?;
    lab.sim().allow("ModifyNetworkInterfaceAttribute");
    eventually_within(ANOTHER_TRY, "it is tried again", async || {
        Ok((groups(&lab) == [[new.as_str()], [new.as_str()]]).then_some(()))
    })
    .await
    .with_context(|| node.log_tail())?;
    let log = std::fs::read_to_string(node.log())?;
    assert_eq!(log.matches("can't get them").count(), 1, "told once: {log}");
    node.stop_ipamd().await
}
