//! How long an ADD takes on a warm pool, beside what the kernel alone needs.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::Context;
use datapath::NetNs;
use datapath::layout::VethPrefix;
use datapath::pod::{self, PodLink};
use serde::Serialize;
use suites::node::{Node, Outcome};
use suites::programs;
use vpc_lab::{Lab, Netns};

/// The node that the ADDs are timed on: large enough for two hundred pods.
pub(crate) const NODE: &str = "timing";

/// The figures.
#[derive(Debug, Serialize)]
pub(crate) struct Latency {
    /// How many ADDs, one after another.
    pub(crate) adds: u32,
    /// Whether the programs were built for speed (`--release`).
    pub(crate) optimised: bool,
    /// The plugin from its start to its end.
    pub(crate) add: Percentiles,
    /// The same for DEL.
    pub(crate) del: Percentiles,
    /// The same links, addresses, routes and neighbours, made in turn with the ADDs by one process that is
    /// running already and asks nobody: what the kernel alone needs.
    pub(crate) floor: Percentiles,
    /// The median ADD over the median floor.
    pub(crate) ratio_p50: f64,
}

/// In milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
}

impl Percentiles {
    fn of(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        // Nearest rank.
        let at = |percent: usize| {
            let rank = (samples.len() * percent).div_ceil(100).max(1);
            let sample = samples.get(rank - 1).copied().unwrap_or_default();
            (sample.as_secs_f64() * 1e6).round() / 1e3
        };
        Self {
            p50_ms: at(50),
            p90_ms: at(90),
            p99_ms: at(99),
        }
    }
}

pub(crate) async fn measure(lab: &Lab, adds: u32) -> anyhow::Result<Latency> {
    let mut node = Node::new(lab, NODE)
        .with("MINIMUM_IP_TARGET", adds + 1)
        .with("WARM_IP_TARGET", 1);
    node.start_ipamd().await?;
    node.wait_for_pool("a warm pool", |pool| {
        pool.totals.is_some_and(|totals| totals.free > adds) && pool.pending_calls.is_empty()
    })
    .await?;

    let mut pods = Vec::new();
    let (mut add, mut floor) = (Vec::new(), Vec::new());
    for n in 0..adds {
        let netns = lab.pod_netns(&format!("timed-{n}"))?;
        let sandbox = node.sandbox(&format!("timed-{n}"), &format!("timed-{n}"), netns.path());
        add.push(succeeded(&sandbox.add()?)?);
        pods.push((netns, sandbox));

        let netns = lab.pod_netns(&format!("floor-{n}"))?;
        floor.push(wire(node.lab().netns(), &netns, n)?);
        unwire(node.lab().netns(), n)?;
    }
    let mut del = Vec::new();
    for (_netns, sandbox) in &pods {
        del.push(succeeded(&sandbox.del()?)?);
    }
    node.stop_ipamd().await?;

    let (add, del, floor) = (
        Percentiles::of(add),
        Percentiles::of(del),
        Percentiles::of(floor),
    );
    Ok(Latency {
        adds,
        optimised: programs::optimised(),
        ratio_p50: (add.p50_ms / floor.p50_ms * 100.0).round() / 100.0,
        add,
        del,
        floor,
    })
}

fn succeeded(outcome: &Outcome) -> anyhow::Result<Duration> {
    anyhow::ensure!(
        outcome.code == Some(0),
        "{}{}",
        outcome.stdout,
        outcome.stderr
    );
    Ok(outcome.took)
}

/// Wires a pod as the plugin would, in this process.
fn wire(node: &Netns, pod: &Netns, n: u32) -> anyhow::Result<Duration> {
    let link = PodLink {
        container_id: floor_id(n),
        ifname: "eth0".to_owned(),
        veth_prefix: VethPrefix::default(),
        alias: format!("demo/floor-{n}"),
        // Not the node's: no packet is sent to it.
        addresses: vec![Ipv4Addr::from_bits(Ipv4Addr::new(192, 0, 2, 0).to_bits() + n).into()],
        mtu: 9001,
    };
    in_node(node, async || {
        let start = Instant::now();
        let netns = NetNs::open(pod.path())?;
        pod::connect(&netns, &link).await?;
        Ok(start.elapsed())
    })
}

fn unwire(node: &Netns, n: u32) -> anyhow::Result<()> {
    in_node(node, async || {
        pod::disconnect(&VethPrefix::default(), &floor_id(n), "eth0").await?;
        Ok(())
    })
}

fn floor_id(n: u32) -> String {
    format!("floor-{n}")
}

/// Runs netlink work on a thread of its own inside the node's namespace.
fn in_node<R: Send>(
    node: &Netns,
    work: impl AsyncFnOnce() -> anyhow::Result<R> + Send,
) -> anyhow::Result<R> {
    node.run(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("a runtime")?
            .block_on(work())
    })
}
