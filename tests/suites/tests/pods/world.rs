//! What the tests stand on: a lab with two nodes, and pods on them.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context;
use aws_sim::WorldConfig;
use aws_sim::fabric::FabricEni;
use serde_json::Value;
use suites::harness::eventually;
use suites::node::{Node, Sandbox};
use vpc_lab::{Lab, LabConfig, Netns};

/// A pod that runs.
pub(crate) struct Pod<'a> {
    pub(crate) netns: Netns,
    pub(crate) sandbox: Sandbox<'a>,
    pub(crate) address: Ipv4Addr,
}

/// Two m5.large nodes, `a` and `b`, whose ENIs' links come soon after they are attached.
pub(crate) fn lab() -> anyhow::Result<Lab> {
    Lab::start(LabConfig {
        link_lag: Duration::from_millis(50),
        ..LabConfig::default()
    })
}

/// Lets the simulated time pass that IMDS lags behind EC2.
pub(crate) fn imds_shows_all(lab: &Lab) {
    lab.sim().skip(WorldConfig::default().imds_lag);
}

/// ADDs a pod.
pub(crate) fn pod<'a>(lab: &Lab, node: &'a Node<'a>, name: &str) -> anyhow::Result<Pod<'a>> {
    let netns = lab.pod_netns(&format!("pod-{name}"))?;
    let sandbox = node.sandbox(&format!("sandbox-{name}"), name, netns.path());
    let address = sandbox
        .add()?
        .address()
        .with_context(|| format!("adding pod {name}"))?;
    // EC2 has answered, so the address is the ENI's; the lab's kernel is a moment behind.
    lab.settle()?;
    Ok(Pod {
        netns,
        sandbox,
        address,
    })
}

/// The node with an ipamd that writes the conflist, for [`sandbox_by_conflist`].
pub(crate) fn writing_conflist(node: Node<'_>) -> Node<'_> {
    let folder = node.lab().run_dir().display().to_string();
    node.with("WEIR_CONFLIST_DIR", folder)
}

/// A sandbox whose plugin is called as a runtime does it: with what ipamd has written.
pub(crate) async fn sandbox_by_conflist<'a>(
    node: &'a Node<'a>,
    name: &str,
    netns: &Netns,
) -> anyhow::Result<Sandbox<'a>> {
    let conflist = node.lab().run_dir().join("10-aws.conflist");
    eventually("the conflist", async || {
        Ok(conflist.is_file().then_some(()))
    })
    .await?;
    let mut sandbox = node.sandbox(&format!("sandbox-{name}"), name, netns.path());
    let conflist: Value = serde_json::from_slice(&fs::read(conflist)?)?;
    let ours = conflist["plugins"][0].as_object().context("no plugin")?;
    for (key, value) in ours {
        sandbox.conf[key] = value.clone();
    }
    Ok(sandbox)
}

/// ADDs pods until one has its address on a secondary ENI; answers that one last.
pub(crate) async fn pods_until_second_eni<'a>(
    lab: &Lab,
    node: &'a Node<'a>,
) -> anyhow::Result<Vec<Pod<'a>>> {
    let mut pods = Vec::new();
    for n in 0..12 {
        let pod = pod(lab, node, &format!("{}-{n}", node.name()))?;
        let device = device_index(node, pod.address).await?;
        pods.push(pod);
        if device > 0 {
            return Ok(pods);
        }
    }
    anyhow::bail!(
        "12 pods, and all addresses are on the primary ENI: {:#?}",
        node.pool().await?
    )
}

/// The device index of the ENI that holds an address, by ipamd's word.
pub(crate) async fn device_index(node: &Node<'_>, address: Ipv4Addr) -> anyhow::Result<u32> {
    let text = address.to_string();
    node.pool()
        .await?
        .enis
        .iter()
        .find(|eni| eni.addresses.iter().any(|held| held.address == text))
        .map(|eni| eni.device_index)
        .with_context(|| format!("{address} is on no ENI of node {}", node.name()))
}

/// The device index of the ENI that holds an address, alone or in a prefix, by EC2's word.
pub(crate) fn device_index_in_ec2(lab: &Lab, address: Ipv4Addr) -> Option<u32> {
    let holds = |eni: &&FabricEni| {
        eni.addresses.contains(&address) || eni.prefixes.iter().any(|net| net.contains(&address))
    };
    let enis = lab.sim().fabric().enis;
    enis.iter().find(holds).map(|eni| eni.device_index)
}
