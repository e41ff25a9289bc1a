//! The pool grows: what EC2 is asked, what the kernel gets, and what a pod hears when EC2 says no.

use std::time::Duration;

use anyhow::Context;
use aws_sim::{Ec2Error, Effect, Fault, When};
use libtest_mimic::Trial;
use suites::harness::{async_test, eventually};
use suites::node::{Node, text_of};
use tonic::Code;

use crate::rig::{Plugin, actions, calls, error_info, growth_hangs, lab};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test(
            "a_new_eni_is_created_tagged_attached_and_set_up_with_three_calls",
            new_eni,
        ),
        async_test(
            "an_eni_waits_until_ec2_calls_the_instance_running_and_is_not_made_anew",
            pending,
        ),
        async_test(
            "an_add_on_an_empty_pool_waits_for_the_growth_that_it_asks_for",
            waits,
        ),
        async_test("ec2s_refusal_reaches_the_plugin_in_full", refused),
        async_test("an_add_gives_up_in_time_when_ec2_hangs", hangs),
        async_test(
            "assign_with_a_lost_reply_is_not_repeated_blindly",
            lost_reply,
        ),
        async_test(
            "a_throttled_call_is_repeated_and_nothing_is_done_twice",
            throttled,
        ),
        async_test(
            "an_eni_whose_making_was_cut_short_by_a_crash_is_found_again",
            crash_while_creating,
        ),
        async_test("a_frozen_pool_asks_ec2_for_nothing_and_says_so", frozen),
        async_test("an_add_whose_caller_has_gone_waits_no_longer", caller_gone),
    ]
}

async fn new_eni() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut node = Node::new(&lab, "a")
        .with("MINIMUM_IP_TARGET", 12)
        .with("CLUSTER_NAME", "demo");
    node.start_ipamd().await?;
    let pool = node
        .wait_for_pool("twelve free addresses on two ENIs", |pool| {
            pool.totals.is_some_and(|totals| totals.free >= 12) && pool.enis.len() == 2
        })
        .await?;
    let eni = &pool.enis[1];
    assert_eq!((eni.device_index, eni.route_table), (1, 2));

    let made: Vec<_> = actions(&lab)
        .into_iter()
        .filter(|action| action.contains("NetworkInterface") && !action.starts_with("Describe"))
        .collect();
    assert_eq!(
        made,
        [
            "CreateNetworkInterface",
            "AttachNetworkInterface",
            "ModifyNetworkInterfaceAttribute"
        ]
    );
    let create = &calls(&lab, "CreateNetworkInterface")[0].params;
    assert!(create.contains_key("ClientToken"), "{create:?}");
    assert!(create.contains_key("SecurityGroupId.1"), "{create:?}");
    assert_eq!(
        create.get("Description").unwrap(),
        &format!("aws-K8S-{}", lab.node("a").instance_id())
    );
    let tags = lab.sim().with_world(|world, _| {
        let ours = world
            .enis()
            .find(|found| found.id.to_string() == eni.eni_id);
        ours.map(|eni| eni.tags.clone())
    });
    let tags = tags.context("EC2 does not know the ENI")?;
    let tag = |key: &str| tags.get(key).map(String::as_str).unwrap_or_default();
    assert_eq!(
        tag("node.k8s.amazonaws.com/instance_id"),
        lab.node("a").instance_id()
    );
    assert_eq!(tag("cluster.k8s.amazonaws.com/name"), "demo");
    assert_eq!(tag("eks:eni:owner"), "amazon-vpc-cni");
    assert!(
        tag("node.k8s.amazonaws.com/createdAt").ends_with('Z'),
        "{tags:?}"
    );

    let links = text_of(lab.node("a").netns(), "ip", &["-br", "addr"])?;
    assert!(links.contains(&eni.primary_address), "not set up:\n{links}");
    let rules = text_of(lab.node("a").netns(), "ip", &["rule"])?;
    assert!(
        rules.contains(&format!("from {} lookup 2", eni.primary_address)),
        "{rules}"
    );
    node.stop_ipamd().await
}

/// A node may be up, and its kubelet may have pods, before EC2 calls the instance running.
async fn pending() -> anyhow::Result<()> {
    let lab = lab()?;
    let instance = lab.node("a").instance_id();
    let not_yet = Ec2Error::client(
        "IncorrectState",
        format!("Instance '{instance}' is not 'running' or 'stopped'."),
    );
    let fault = Fault::on("AttachNetworkInterface", Effect::Error(not_yet));
    lab.sim().inject(fault.when(When::First(3)));
    let mut node = Node::new(&lab, "a").with("MINIMUM_IP_TARGET", 12);
    node.start_ipamd().await?;
    node.wait_for_pool("twelve free addresses on two ENIs", |pool| {
        pool.totals.is_some_and(|totals| totals.free >= 12) && pool.enis.len() == 2
    })
    .await?;
    assert_eq!(calls(&lab, "AttachNetworkInterface").len(), 4);
    assert_eq!(calls(&lab, "CreateNetworkInterface").len(), 1);
    assert!(calls(&lab, "DeleteNetworkInterface").is_empty());
    node.stop_ipamd().await
}

async fn waits() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut node = Node::new(&lab, "a").with("WEIR_MODE", "allocate-only");
    node.start_ipamd().await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    let given = plugin.add("first").await?;
    assert_eq!(given.addresses.len(), 1);
    assert_eq!((given.mtu, given.pods_table), (9001, 5120));
    assert_eq!(
        actions(&lab),
        ["DescribeNetworkInterfaces", "AssignPrivateIpAddresses"]
    );
    node.stop_ipamd().await
}

async fn refused() -> anyhow::Result<()> {
    let lab = lab()?;
    let words = "You are not authorized to perform this operation. Encoded authorization failure \
                 message: made-up-text-of-a-test";
    for action in ["AssignPrivateIpAddresses", "CreateNetworkInterface"] {
        let error = Ec2Error {
            code: "UnauthorizedOperation".to_owned(),
            message: words.to_owned(),
            status: 403,
        };
        lab.sim().inject(Fault::on(action, Effect::Error(error)));
    }
    let mut node = Node::new(&lab, "a").with("WEIR_MODE", "allocate-only");
    node.start_ipamd().await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    let refused = plugin.add("pod").await.expect_err("EC2 gave nothing");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    let asked = lab.sim().calls();
    let request = asked
        .iter()
        .filter(|call| call.error.as_deref() == Some("UnauthorizedOperation"))
        .find(|call| refused.message().contains(&call.request_id));
    let request = request.with_context(|| format!("no request id in {}", refused.message()))?;
    for part in [request.action.as_str(), "UnauthorizedOperation", words] {
        assert!(
            refused.message().contains(part),
            "{part:?} is missing: {}",
            refused.message()
        );
    }
    let info = error_info(&refused)?;
    assert_eq!(info.reason, "EC2_REFUSED");
    assert_eq!(info.metadata["retryable"], "false");
    node.stop_ipamd().await
}

async fn hangs() -> anyhow::Result<()> {
    let lab = lab()?;
    growth_hangs(&lab);
    let mut node = Node::new(&lab, "a").with("WEIR_MODE", "allocate-only");
    node.start_ipamd().await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    let patience = Duration::from_secs(2);
    let refused = plugin
        .add_within("pod", patience)
        .await
        .expect_err("EC2 hangs");
    assert_eq!(refused.code(), Code::DeadlineExceeded, "{refused:?}");
    // Our own words, not the caller's time-out: ipamd answers a little earlier.
    assert_eq!(error_info(&refused)?.reason, "DEADLINE_EXCEEDED");
    let pool = node.pool().await?;
    assert!(pool.waiters.is_empty(), "still waiting: {pool:?}");
    assert!(
        !pool.pending_calls.is_empty(),
        "the call is still under way: {pool:?}"
    );
    node.stop_ipamd().await
}

async fn lost_reply() -> anyhow::Result<()> {
    let lab = lab()?;
    lab.sim()
        .inject(Fault::on("AssignPrivateIpAddresses", Effect::ResetAfter).when(When::First(1)));
    let mut node = Node::new(&lab, "a").with("WARM_IP_TARGET", 5);
    node.start_ipamd().await?;
    let pool = node
        .wait_for_pool("five free addresses", |pool| {
            pool.totals.is_some_and(|totals| totals.free >= 5)
        })
        .await?;
    assert_eq!(
        pool.totals.unwrap_or_default().held,
        5,
        "assigned twice: {pool:?}"
    );
    assert_eq!(
        actions(&lab),
        [
            "DescribeNetworkInterfaces",
            "AssignPrivateIpAddresses",
            "DescribeNetworkInterfaces"
        ]
    );
    node.stop_ipamd().await
}

async fn throttled() -> anyhow::Result<()> {
    let lab = lab()?;
    let error = Ec2Error::request_limit_exceeded();
    lab.sim()
        .inject(Fault::on("AssignPrivateIpAddresses", Effect::Error(error)).when(When::First(2)));
    let mut node = Node::new(&lab, "a").with("WARM_IP_TARGET", 5);
    node.start_ipamd().await?;
    let pool = node
        .wait_for_pool("five free addresses", |pool| {
            pool.totals.is_some_and(|totals| totals.free >= 5)
        })
        .await?;
    assert_eq!(pool.totals.unwrap_or_default().held, 5, "{pool:?}");
    assert_eq!(calls(&lab, "AssignPrivateIpAddresses").len(), 3);
    assert_eq!(
        calls(&lab, "DescribeNetworkInterfaces").len(),
        1,
        "EC2 said that nothing happened, so there was nothing to look up"
    );
    node.stop_ipamd().await
}

async fn crash_while_creating() -> anyhow::Result<()> {
    let lab = lab()?;
    lab.sim()
        .inject(Fault::on("CreateNetworkInterface", Effect::HangAfter).when(When::First(1)));
    let mut node = Node::new(&lab, "a").with("MINIMUM_IP_TARGET", 12);
    node.start_ipamd().await?;
    let enis = || lab.sim().with_world(|world, _| world.enis().count());
    let before = 1;
    eventually(
        "EC2 has made an ENI that ipamd does not know of",
        async || Ok((enis() > before).then_some(())),
    )
    .await?;
    node.kill_ipamd();
    // `createdAt` is told in seconds: let the repeated call differ from the first in it.
    tokio::time::sleep(Duration::from_millis(1100)).await;

    node.start_ipamd().await?;
    node.wait_for_pool("twelve free addresses on two ENIs", |pool| {
        pool.totals.is_some_and(|totals| totals.free >= 12) && pool.enis.len() == 2
    })
    .await?;
    let made = calls(&lab, "CreateNetworkInterface");
    let tokens: Vec<_> = made
        .iter()
        .map(|call| &call.params["ClientToken"])
        .collect();
    assert!(tokens.len() >= 2, "not asked again: {made:?}");
    assert!(tokens.iter().all(|token| *token == tokens[0]), "{tokens:?}");
    assert_eq!(enis(), 2, "an ENI was left behind");
    node.stop_ipamd().await
}

async fn frozen() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut node = Node::new(&lab, "a").with("WEIR_MODE", "frozen");
    node.start_ipamd().await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    let refused = plugin.add("pod").await.expect_err("nothing is held");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let info = error_info(&refused)?;
    assert_eq!(info.reason, "POOL_FROZEN", "{refused:?}");
    assert!(info.metadata["remedy"].contains("WEIR_MODE"), "{info:?}");
    let learned = node.pool().await?.node.unwrap_or_default();
    assert_eq!(learned.mode, "frozen");
    assert_eq!(actions(&lab), ["DescribeNetworkInterfaces"]);
    node.stop_ipamd().await
}

async fn caller_gone() -> anyhow::Result<()> {
    let lab = lab()?;
    growth_hangs(&lab);
    let mut node = Node::new(&lab, "a").with("WEIR_MODE", "allocate-only");
    node.start_ipamd().await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    let asking = tokio::spawn(async move { plugin.add("impatient").await });
    node.wait_for_pool("a waiter", |pool| pool.waiters.len() == 1)
        .await?;
    asking.abort();
    node.wait_for_pool("no waiter", |pool| pool.waiters.is_empty())
        .await?;
    node.stop_ipamd().await
}
