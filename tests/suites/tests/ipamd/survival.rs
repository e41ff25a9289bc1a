//! Troubles of EC2 and of IMDS that last, while pods come: each is named after the public threads of those whom it hit.
//!
//! `#N` is an issue or pull request of aws/amazon-vpc-cni-k8s; others have their repository's name. These tests wait
//! most of the time, so they run beside the others, in labs of their own.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use aws_sim::{CallRecord, Deny, Effect, Fault, ImdsEffect, ImdsFault, Window};
use libtest_mimic::Trial;
use proto::v1::StatusRequest;
use suites::harness::{eventually, eventually_within, waiting_test};
use suites::node::Node;
use vpc_lab::{Lab, LabConfig};

use crate::rig::{Plugin, error_info, lab_of};

/// How long EC2 throttles.
const THROTTLED: Duration = Duration::from_mins(1);
/// How long other troubles last.
const TROUBLE: Duration = Duration::from_secs(30);
/// An ADD that is served by what is held takes milliseconds; so much on a busy machine.
const FROM_THE_POOL: Duration = Duration::from_secs(2);
/// After a minute of throttling, the next try comes somewhere in two minutes.
const RECOVERY: Duration = Duration::from_mins(4);

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        waiting_test(
            "a_minute_of_throttling_costs_a_few_calls_and_no_pod_and_heals_by_itself",
            throttled,
        ),
        waiting_test(
            "an_ec2_that_never_answers_costs_neither_pods_nor_health_and_heals_by_itself",
            hangs,
        ),
        waiting_test(
            "a_missing_permission_is_named_by_its_action_and_pods_get_what_is_held",
            denied,
        ),
        waiting_test(
            "an_imds_that_is_gone_or_fails_or_is_slow_at_start_is_asked_until_it_answers",
            blind_at_start,
        ),
        waiting_test(
            "an_imds_that_goes_or_fails_or_slows_down_later_changes_nothing",
            blind_later,
        ),
    ]
}

/// `nodes` of one subnet.
pub(crate) fn lab(prefix: &str, nodes: &[&str]) -> anyhow::Result<Lab> {
    let mut config = LabConfig {
        prefix: format!("{prefix}-"),
        ..LabConfig::default()
    };
    let one = config.nodes[0].clone();
    config.nodes.clear();
    for name in nodes {
        let mut node = one.clone();
        (node.name, node.public_address) = ((*name).to_owned(), None);
        config.nodes.push(node);
    }
    lab_of(config)
}

fn for_now(lab: &Lab, time: Duration) -> Window {
    let now = lab.sim().now();
    Window::new(now, now.plus(time))
}

/// EC2's calls of one instance.
fn calls_of(lab: &Lab, node: &Node<'_>) -> Vec<CallRecord> {
    let mut calls = lab.sim().calls();
    let own = node.lab().instance_id();
    calls.retain(|call| call.instance.as_ref().is_some_and(|id| id.as_str() == own));
    calls
}

fn failed_with<'c>(calls: &'c [CallRecord], code: &str) -> Vec<&'c CallRecord> {
    let failed = calls.iter();
    failed
        .filter(|call| call.error.as_deref() == Some(code))
        .collect()
}

/// A pod gets an address of those that are held, without waiting; and ipamd is healthy.
async fn served(node: &Node<'_>, plugin: &mut Plugin, pod: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    let added = plugin.add_within(pod, FROM_THE_POOL).await;
    added.with_context(|| format!("{pod} was not served:\n{}", node.log_tail()))?;
    ensure!(begun.elapsed() < FROM_THE_POOL, "{pod} waited");
    ensure!(node.serves().await?, "ipamd does not call itself healthy");
    Ok(())
}

async fn started<'lab>(mut node: Node<'lab>, free: u32) -> anyhow::Result<(Node<'lab>, Plugin)> {
    node.start_ipamd().await?;
    node.wait_for_pool("the pool is full", |pool| {
        pool.totals.is_some_and(|totals| totals.free == free) && pool.pending_calls.is_empty()
    })
    .await?;
    let plugin = Plugin::connect(&node.socket()).await?;
    Ok((node, plugin))
}

/// The next pod is served, when it is asked for again and again as kubelet does.
async fn recovers(node: &Node<'_>, plugin: &mut Plugin) -> anyhow::Result<()> {
    let deadline = Instant::now() + RECOVERY;
    loop {
        match plugin.add_within("one more", Duration::from_secs(20)).await {
            Ok(_) => return Ok(()),
            Err(refused) if Instant::now() > deadline => {
                bail!("no recovery: {refused}\n{}", node.log_tail())
            }
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

/// One start, however often things went wrong.
fn assert_never_restarted(node: &Node<'_>) -> anyhow::Result<String> {
    let log = fs::read_to_string(node.log())?;
    assert_eq!(log.matches("learned the node").count(), 1, "{log}");
    assert!(!log.contains("panicked"), "{log}");
    Ok(log)
}

/// #123, #405, cilium#28273: retries without end kept throttled accounts throttled. cilium#38550, cilium#21387: two
/// limiters, of which one did not know of the other's retries.
async fn throttled() -> anyhow::Result<()> {
    let lab = lab("throttled", &["a"])?;
    let held = 18;
    let node = Node::new(&lab, "a").with("WARM_IP_TARGET", held);
    let (mut node, mut plugin) = started(node, held).await?;
    let before = calls_of(&lab, &node).len();
    let mut fault = Fault::on_all(Effect::Throttled);
    fault.during = for_now(&lab, THROTTLED);
    let over = Instant::now() + THROTTLED;
    lab.sim().inject(fault);

    for pod in 0..held {
        served(&node, &mut plugin, &format!("pod-{pod}")).await?;
        tokio::time::sleep(THROTTLED / held).await;
    }
    tokio::time::sleep_until(over.into()).await;
    let calls = calls_of(&lab, &node).split_off(before);
    let refused = failed_with(&calls, "RequestLimitExceeded");
    assert!(refused.len() >= 2, "nothing was asked for: {calls:#?}");
    assert!(refused.len() <= 10, "a tight loop: {calls:#?}");
    let pauses = refused.windows(2).map(|two| two[1].at.since(two[0].at));
    let longest = pauses.max().unwrap_or_default();
    assert!(longest >= Duration::from_secs(4), "no back-off: {calls:#?}");
    // What the pool knows of is all that EC2 got: nothing below it repeats throttled calls.
    eventually("each throttled call is told once", async || {
        let told = fs::read_to_string(node.log())?
            .matches("kind=Throttled")
            .count();
        let calls = calls_of(&lab, &node);
        Ok((told == failed_with(&calls, "RequestLimitExceeded").len()).then_some(()))
    })
    .await?;

    recovers(&node, &mut plugin).await?;
    assert_never_restarted(&node)?;
    node.stop_ipamd().await
}

/// #3644, #3649: a call without a deadline held ipamd for ever.
async fn hangs() -> anyhow::Result<()> {
    let lab = lab("hangs", &["a"])?;
    let held = 8;
    let node = Node::new(&lab, "a").with("WARM_IP_TARGET", held);
    let (mut node, mut plugin) = started(node, held).await?;
    let mut fault = Fault::on_all(Effect::HangBefore);
    fault.during = for_now(&lab, TROUBLE);
    lab.sim().inject(fault);

    for pod in 0..held {
        served(&node, &mut plugin, &format!("pod-{pod}")).await?;
        let pool = node.pool().await?;
        // What the ENIs hold, which subnets there are, and one change.
        assert!(pool.pending_calls.len() <= 3, "calls pile up: {pool:#?}");
        tokio::time::sleep(TROUBLE / held).await;
    }
    let calls = calls_of(&lab, &node);
    assert!(!failed_with(&calls, "(hung)").is_empty(), "{calls:#?}");
    let log = crate::rig::log_says(&node, "EC2 did not answer in time").await?;
    let changed = log
        .lines()
        .filter(|line| line.contains("EC2 did not answer") && !line.contains("Describe"));
    for line in changed {
        let millis: u64 = field(line, "millis=").context("no duration")?.parse()?;
        assert!(millis < 11_000, "not given up after ten seconds: {line}");
    }

    recovers(&node, &mut plugin).await?;
    assert_never_restarted(&node)?;
    node.stop_ipamd().await
}

fn field<'l>(line: &'l str, name: &str) -> Option<&'l str> {
    line.split_whitespace()
        .find_map(|word| word.strip_prefix(name))
}

/// #1338, #1482: a role without a permission showed as pods that never started.
async fn denied() -> anyhow::Result<()> {
    let lab = lab("denied", &["a"])?;
    let held = 5;
    let node = Node::new(&lab, "a").with("WARM_IP_TARGET", held);
    let (mut node, mut plugin) = started(node, held).await?;
    let begun = fs::read_to_string(node.log())?.len();
    // The second is tried where the first fails.
    let actions = ["AssignPrivateIpAddresses", "CreateNetworkInterface"];
    for action in actions {
        lab.sim().deny(Deny::action(action));
    }
    let names_one = |text: &str| actions.iter().any(|action| text.contains(action));
    for pod in 0..held {
        served(&node, &mut plugin, &format!("pod-{pod}")).await?;
        tokio::time::sleep(TROUBLE / held).await;
    }

    let refused = plugin.add("one more").await.expect_err("nothing is held");
    assert!(names_one(refused.message()), "{refused:?}");
    let info = error_info(&refused)?;
    assert_eq!(info.reason, "EC2_REFUSED", "{refused:?}");
    assert!(info.metadata["remedy"].contains("polic"), "{info:?}");
    let status = plugin.client().status(StatusRequest {}).await?.into_inner();
    assert!(!status.ready, "{status:?}");
    assert!(names_one(&status.reason), "{status:?}");
    let calls = calls_of(&lab, &node);
    let refused = failed_with(&calls, "UnauthorizedOperation").len();
    assert!((1..=6).contains(&refused), "{calls:#?}");
    let log = assert_never_restarted(&node)?;
    let told = log[begun..].lines().filter(|line| {
        let told = line.contains("WARN") || line.contains("ERROR");
        told && line.contains("UnauthorizedOperation")
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), refused, "one line for each: {told:#?}");
    assert!(told.iter().all(|line| names_one(line)), "{told:#?}");

    lab.sim().allow("*");
    recovers(&node, &mut plugin).await?;
    assert_never_restarted(&node)?;
    node.stop_ipamd().await
}

/// Gone, failing and slow, on a node each.
fn imds_troubles(lab: &Lab, slow: Duration) {
    for (node, effect) in [
        ("gone", ImdsEffect::Hang),
        ("fails", ImdsEffect::Status(500)),
        ("slow", ImdsEffect::Latency(slow)),
    ] {
        let mut fault = ImdsFault::new(effect).of_instance(node);
        fault.during = for_now(lab, TROUBLE);
        lab.sim().inject_imds(fault);
    }
}

/// #1311, #3287: ipamd crashed again and again where IMDS was not there yet.
async fn blind_at_start() -> anyhow::Result<()> {
    let lab = lab("blind", &["gone", "fails", "slow"])?;
    imds_troubles(&lab, Duration::from_millis(700));
    let mut nodes = Vec::new();
    for name in ["gone", "fails", "slow"] {
        let mut node = Node::new(&lab, name);
        node.launch_ipamd()?;
        nodes.push(node);
    }
    for node in &mut nodes {
        eventually_within(3 * TROUBLE, "ipamd serves", async || {
            Ok(node.serves().await.unwrap_or(false).then_some(()))
        })
        .await
        .with_context(|| format!("{}:\n{}", node.name(), node.log_tail()))?;
        Plugin::connect(&node.socket())
            .await?
            .address("pod")
            .await?;
        let log = assert_never_restarted(node)?;
        if node.name() != "slow" {
            let says = "the instance metadata service does not answer";
            assert!(log.contains(says), "{}: {log}", node.name());
        }
        node.stop_ipamd().await?;
    }
    Ok(())
}

/// The same where it had been there: IMDS is for hints, and pods need none.
async fn blind_later() -> anyhow::Result<()> {
    let lab = lab("blinded", &["gone", "fails", "slow"])?;
    let mut nodes = Vec::new();
    for name in ["gone", "fails", "slow"] {
        nodes.push(started(Node::new(&lab, name).with("WARM_IP_TARGET", 4), 4).await?);
    }
    imds_troubles(&lab, Duration::from_secs(10));
    // More than an ENI holds: the pool grows meanwhile, also by an ENI. IMDS is looked at every 30 s.
    for pod in 0..12 {
        for (node, plugin) in &mut nodes {
            let added = plugin.add(&format!("pod-{pod}")).await;
            added.with_context(|| format!("{}:\n{}", node.name(), node.log_tail()))?;
            ensure!(node.serves().await?, "{} is not healthy", node.name());
        }
        tokio::time::sleep(TROUBLE / 12).await;
    }
    for (node, _) in &mut nodes {
        let calls = calls_of(&lab, node);
        let describes = calls
            .iter()
            .filter(|call| call.action == "DescribeNetworkInterfaces")
            .count();
        assert_eq!(describes, 1, "{} was in doubt: {calls:#?}", node.name());
        let log = assert_never_restarted(node)?;
        assert!(!log.contains("asking EC2"), "{log}");
        node.stop_ipamd().await?;
    }
    Ok(())
}
