//! What a pod is told when it can't have an address, and that nothing is left half done.

use std::time::Duration;

use anyhow::Context;
use aws_sim::error::Ec2Error;
use aws_sim::faults::{Effect, Fault, When};
use libtest_mimic::Trial;
use suites::harness::async_test;
use suites::node::{Node, Outcome};
use vpc_lab::{Endpoint, Lab};

use crate::world::{lab, pod};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test("without_ipamd_an_add_is_told_to_try_again_later", no_ipamd),
        async_test("ec2s_refusal_reaches_the_pod_in_full", refused),
        async_test("a_full_node_says_so_with_its_figures", full),
        async_test("the_pool_serves_while_ec2_is_cut_off", ec2_cut),
        async_test("a_throttled_growth_is_waited_for", throttled),
        async_test("a_reply_that_was_lost_leaks_nothing", lost_replies),
        async_test("a_namespace_that_is_none_is_named", bad_netns),
    ]
}

/// After a failed ADD: nothing of it in the kernel, nothing owned.
async fn assert_nothing_done(a: &Node<'_>, owned: u32) -> anyhow::Result<()> {
    assert_eq!(a.pod_links()?, owned as usize, "links of pods");
    assert_eq!(
        a.pool().await?.totals.context("totals")?.owned,
        owned,
        "owned addresses"
    );
    Ok(())
}

fn add_on(lab: &Lab, a: &Node<'_>, name: &str) -> anyhow::Result<Outcome> {
    let netns = lab.pod_netns(&format!("pod-{name}"))?;
    a.sandbox(&format!("sandbox-{name}"), name, netns.path())
        .add()
}

async fn no_ipamd() -> anyhow::Result<()> {
    let lab = lab()?;
    let a = Node::new(&lab, "a");
    let error = add_on(&lab, &a, "one")?.error()?;
    assert_eq!(error["code"], 11, "{error:#}");
    let told = error.to_string();
    assert!(told.contains(&a.socket().display().to_string()), "{told}");
    assert_eq!(a.pod_links()?, 0);
    let netns = lab.pod_netns("other")?;
    assert_eq!(
        a.sandbox("other", "other", netns.path()).del()?.code,
        Some(0)
    );
    Ok(())
}

async fn refused() -> anyhow::Result<()> {
    let lab = lab()?;
    let message = "You are not authorized to perform this operation. Encoded authorization \
                   failure message: weir-test";
    let fault = Effect::Error(Ec2Error::client("UnauthorizedOperation", message));
    lab.sim()
        .inject(Fault::on("AssignPrivateIpAddresses", fault.clone()));
    lab.sim().inject(Fault::on("CreateNetworkInterface", fault));
    let mut a = Node::new(&lab, "a");
    a.start_ipamd().await?;
    let error = add_on(&lab, &a, "one")?.error()?;
    let told = error.to_string();
    for part in ["UnauthorizedOperation", message, "request id"] {
        assert!(told.contains(part), "{part:?} is not in {error:#}");
    }
    assert_nothing_done(&a, 0).await
}

async fn full() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a");
    a.start_ipamd().await?;
    let mut pods = Vec::new();
    for n in 0..27 {
        pods.push(pod(&lab, &a, &format!("{n}"))?);
    }
    let mut addresses: Vec<_> = pods.iter().map(|pod| pod.address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 27, "an address was given out twice");
    let outcome = add_on(&lab, &a, "one-too-many")?;
    assert!(
        outcome.took < Duration::from_secs(5),
        "a pool that can't grow is no reason to wait"
    );
    let told = outcome.error()?.to_string();
    assert!(told.contains("27") && told.contains("m5.large"), "{told}");
    assert_nothing_done(&a, 27).await
}

async fn ec2_cut() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a").with("WARM_IP_TARGET", 5);
    a.start_ipamd().await?;
    a.wait_for_pool("five free", |pool| pool.totals.is_some_and(|t| t.free >= 5))
        .await?;
    lab.cut("a", Endpoint::Ec2)?;
    lab.cut("a", Endpoint::Imds)?;
    let warm: Result<Vec<_>, _> = (0..5).map(|n| pod(&lab, &a, &format!("{n}"))).collect();
    assert_eq!(warm?.len(), 5);
    Ok(())
}

async fn throttled() -> anyhow::Result<()> {
    let lab = lab()?;
    let throttle = Effect::Error(Ec2Error::request_limit_exceeded());
    lab.sim()
        .inject(Fault::on("AssignPrivateIpAddresses", throttle).when(When::First(2)));
    let mut a = Node::new(&lab, "a");
    a.start_ipamd().await?;
    let pod = pod(&lab, &a, "one")?;
    assert_eq!(
        crate::world::device_index_in_ec2(&lab, pod.address),
        Some(0)
    );
    Ok(())
}

/// The call took effect, and its reply never came: what EC2 holds must be found, not asked for again.
async fn lost_replies() -> anyhow::Result<()> {
    let lab = lab()?;
    for action in [
        "AssignPrivateIpAddresses",
        "CreateNetworkInterface",
        "AttachNetworkInterface",
    ] {
        lab.sim()
            .inject(Fault::on(action, Effect::ResetAfter).when(When::Nth(1)));
    }
    let mut a = Node::new(&lab, "a").with("WARM_IP_TARGET", 1);
    a.start_ipamd().await?;
    let pods: Result<Vec<_>, _> = (0..11).map(|n| pod(&lab, &a, &format!("{n}"))).collect();
    let pods = pods?;
    a.wait_for_pool("a quiet pool", |pool| pool.pending_calls.is_empty())
        .await?;
    let fabric = lab.sim().fabric();
    let enis: Vec<_> = fabric
        .enis
        .iter()
        .filter(|eni| {
            eni.instance_id.is_none() || eni.instance_id.as_deref() == Some(a.lab().instance_id())
        })
        .collect();
    assert_eq!(enis.len(), 2, "an ENI was leaked: {enis:#?}");
    let held: usize = enis.iter().map(|eni| eni.addresses.len() - 1).sum();
    let known = a.pool().await?.totals.context("totals")?.held as usize;
    assert_eq!(
        held, known,
        "EC2 holds {held} addresses for the node, ipamd knows {known}"
    );
    assert_eq!(pods.len(), 11);
    Ok(())
}

async fn bad_netns() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a");
    a.start_ipamd().await?;
    for path in ["/run/netns/absent", "/etc/hostname", "/proc/self/ns/mnt"] {
        let sandbox = a.sandbox("bad", "bad", std::path::Path::new(path));
        let error = sandbox.add()?.error()?;
        assert!(error.to_string().contains(path), "{error:#}");
        assert_nothing_done(&a, 0).await?;
        assert_eq!(
            sandbox.del()?.code,
            Some(0),
            "DEL with the namespace {path}"
        );
    }
    Ok(())
}
