//! The demo's pods: a namespace each, wired by the real plugin.

use std::net::Ipv4Addr;

use anyhow::Context;
use serde::Serialize;
use suites::node::{Node, Sandbox};
use vpc_lab::{Lab, Netns};

/// A pod that runs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) node: String,
    pub(crate) address: Ipv4Addr,
    /// The ENI that holds its address.
    pub(crate) eni: String,
    /// From the plugin's start to its end, in milliseconds.
    pub(crate) add_ms: f64,
    /// That ENI's device index: 0 is the primary.
    #[serde(skip)]
    pub(crate) device_index: u32,
}

/// All of them, in the order of their ADDs.
#[derive(Debug)]
pub(crate) struct Pods<'a> {
    lab: &'a Lab,
    running: Vec<(Pod, Netns, Sandbox<'a>)>,
}

impl<'a> Pods<'a> {
    pub(crate) fn new(lab: &'a Lab) -> Self {
        Self {
            lab,
            running: Vec::new(),
        }
    }

    /// Makes a pod's namespace and has the plugin wire it.
    pub(crate) fn add(&mut self, node: &Node<'a>, name: &str) -> anyhow::Result<Pod> {
        let netns = self.lab.pod_netns(&format!("pod-{name}"))?;
        let sandbox = node.sandbox(&format!("sandbox-{name}"), name, netns.path());
        let outcome = sandbox.add()?;
        let pod = Pod {
            name: name.to_owned(),
            node: node.name().to_owned(),
            address: outcome
                .address()
                .with_context(|| format!("adding pod {name}"))?,
            eni: String::new(),
            add_ms: (outcome.took.as_secs_f64() * 1e5).round() / 1e2,
            device_index: 0,
        };
        self.running.push((pod.clone(), netns, sandbox));
        Ok(pod)
    }

    /// Asks each node's ipamd which ENI holds which pod's address.
    pub(crate) async fn find_enis(&mut self, nodes: &[&Node<'_>]) -> anyhow::Result<()> {
        for node in nodes {
            for eni in node.pool().await?.enis {
                for (pod, _, _) in &mut self.running {
                    let text = pod.address.to_string();
                    if eni.addresses.iter().any(|address| address.address == text) {
                        pod.eni.clone_from(&eni.eni_id);
                        pod.device_index = eni.device_index;
                    }
                }
            }
        }
        Ok(())
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Pod> {
        self.running.iter().map(|(pod, _, _)| pod)
    }

    /// The n-th pod of a node whose address is on the primary ENI, or on a secondary one.
    pub(crate) fn on(&self, node: &str, primary: bool, n: usize) -> anyhow::Result<(&Pod, &Netns)> {
        self.running
            .iter()
            .filter(|(pod, _, _)| pod.node == node && (pod.device_index == 0) == primary)
            .map(|(pod, netns, _)| (pod, netns))
            .nth(n)
            .with_context(|| {
                let eni = if primary {
                    "its primary ENI"
                } else {
                    "a secondary ENI"
                };
                format!("node {node} has no {}. pod on {eni}", n + 1)
            })
    }

    /// DEL of all.
    pub(crate) fn delete(&mut self) -> anyhow::Result<()> {
        for (pod, _netns, sandbox) in self.running.drain(..) {
            let outcome = sandbox.del()?;
            anyhow::ensure!(
                outcome.code == Some(0),
                "DEL of pod {}: {}{}",
                pod.name,
                outcome.stdout,
                outcome.stderr
            );
        }
        Ok(())
    }
}
