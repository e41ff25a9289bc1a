//! ipamd goes and comes while a full node of pods talks: nothing changes in the kernel, and no packet is lost.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use libtest_mimic::Trial;
use suites::harness::{async_test, eventually};
use suites::node::Node;
use suites::traffic::{End, Flow, Traffic};
use suites::watch::Watch;
use vpc_lab::{Lab, LabConfig, NodeConfig};

use crate::world::{imds_shows_all, pod};

pub(crate) fn tests() -> Vec<Trial> {
    vec![async_test(
        "an_ipamd_that_is_restarted_and_killed_under_traffic_of_110_pods_loses_no_packet_and_changes_nothing",
        restarts,
    )]
}

/// As many as kubelet runs by itself.
const PODS: usize = 110;

/// Traffic for so long before, between and after.
const MEANWHILE: Duration = Duration::from_millis(700);

async fn restarts() -> anyhow::Result<()> {
    let defaults = LabConfig::default();
    let mut nodes = defaults.nodes.clone();
    nodes[0] = NodeConfig {
        // 49 addresses on each of 15 ENIs.
        instance_type: "m5.24xlarge".to_owned(),
        ..nodes[0].clone()
    };
    let lab = Lab::start(LabConfig {
        nodes,
        link_lag: Duration::from_millis(50),
        ..defaults
    })?;
    let mut a = Node::new(&lab, "a")
        .with("MINIMUM_IP_TARGET", PODS + 2)
        .with("WARM_IP_TARGET", 1);
    a.start_ipamd().await?;
    a.wait_for_pool("addresses for all", |pool| {
        let enough = |totals: proto::v1::Totals| totals.free as usize >= PODS;
        pool.pending_calls.is_empty() && pool.totals.is_some_and(enough)
    })
    .await?;
    let mut pods = Vec::new();
    for n in 0..PODS {
        let pod = pod(&lab, &a, &format!("{n}"))?;
        pods.push((pod.netns, pod.address));
    }
    a.wait_for_pool("a quiet pool", |pool| {
        let warm = |totals: proto::v1::Totals| totals.preparing == 0 && totals.free >= 1;
        pool.pending_calls.is_empty() && pool.totals.is_some_and(warm)
    })
    .await?;
    imds_shows_all(&lab);

    // Each pod sends one datagram each millisecond: by turns to the next pod and to another node, which answers in kind.
    let mut ends = Vec::new();
    for (netns, address) in &pods {
        ends.push(End::open(netns, *address)?);
    }
    let b = lab.node("b");
    ends.push(End::open(b.netns(), IpAddr::V4(b.primary_address()))?);
    let flow = |from, to, every| Flow { from, to, every };
    let flows = (0..PODS).flat_map(|n| {
        [
            flow(n, (n + 1) % PODS, 2),
            flow(n, PODS, 4),
            flow(PODS, n, 4),
        ]
    });
    let traffic = Traffic::start(ends, flows.collect())?;
    let before = traffic.received();
    eventually("packets", async || {
        Ok((traffic.received() > before + 1000).then_some(()))
    })
    .await?;
    let watch = Watch::begin(a.lab().netns()).await?;
    tokio::time::sleep(MEANWHILE).await;

    let mut away = Vec::new();
    for kill in [false, true] {
        let begun = Instant::now();
        if kill {
            a.kill_ipamd();
        } else {
            a.stop_ipamd().await?;
        }
        a.start_ipamd().await?;
        away.push(begun.elapsed());
        a.wait_for_pool("a quiet pool", |pool| pool.pending_calls.is_empty())
            .await?;
        tokio::time::sleep(MEANWHILE).await;
    }
    let told = watch.end().await?;
    let tally = traffic.stop()?;
    println!("{tally}; ipamd was away for {away:.1?}");
    ensure!(told.is_empty(), "the kernel was changed: {told:#?}");
    ensure!(tally.lost.is_empty() && tally.twice == 0, "{tally}");
    // What is asked for is 1000 for each pod; a machine that is busy with other work has its say.
    ensure!(
        tally.rate() > 50.0 * PODS as f64,
        "hardly any traffic: {tally}"
    );
    Ok(())
}
