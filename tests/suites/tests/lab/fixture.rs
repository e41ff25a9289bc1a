//! What the tests have in common: labs that do not make them wait, and senders that expect no answer.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use aws_sim::{Latencies, WorldConfig};
use vpc_lab::probe::{Seen, Tcp};
use vpc_lab::{Lab, LabConfig, Netns};

/// The default: nodes `a` and `b`, each in a subnet of its own, both with a public address. EC2 does not dawdle.
pub(crate) fn quick() -> LabConfig {
    LabConfig {
        link_lag: Duration::ZERO,
        world: WorldConfig {
            latencies: Latencies::NONE,
            imds_lag: Duration::ZERO,
            ..WorldConfig::default()
        },
        ..LabConfig::default()
    }
}

/// Both nodes in one subnet, so that an address may move between them.
pub(crate) fn neighbours() -> anyhow::Result<Lab> {
    let mut config = quick();
    for node in &mut config.nodes {
        node.subnet = "subnet-a".to_owned();
    }
    Lab::start(config)
}

/// A connection that is to get nowhere. Fails also when the sender is told so: a VPC drops, it does not refuse.
pub(crate) fn lost(probe: &Tcp, from: &Netns, to: &Netns) -> anyhow::Result<()> {
    let patience = Duration::from_millis(400);
    let seen = Tcp {
        patience,
        ..probe.clone()
    }
    .send(from, to)?;
    if !seen.is_lost() {
        bail!("it arrived: {seen:?}");
    }
    if !seen.why.contains("timed out") {
        bail!("it was refused, not dropped: {seen:?}");
    }
    Ok(())
}

/// The source that the receiver saw.
pub(crate) fn source(seen: &Seen) -> anyhow::Result<Ipv4Addr> {
    match seen.answered_from() {
        Some(std::net::IpAddr::V4(source)) => Ok(source),
        _ => bail!("no answer: {}", seen.why),
    }
}

/// The output of `ip` in a namespace.
pub(crate) fn ip(netns: &Netns, arguments: &str) -> anyhow::Result<String> {
    let output = netns.command("ip").args(arguments.split(' ')).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("ip {arguments}: {said}");
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Polls until it holds.
pub(crate) fn until(what: &str, holds: impl Fn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        if holds()? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None.with_context(|| format!("not within 5 s: {what}"))
}
