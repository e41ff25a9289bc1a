//! What the tests stand on: two nodes with dual-stack pods, on the first one on both of its ENIs.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use ipnet::IpNet;
use suites::node::Node;
use vpc_lab::{Lab, LabConfig, Netns};

use crate::services::{Backend, Family};

/// Nine single IPv4 addresses fit on the primary ENI of an m5.large beside its own.
const FILL_PRIMARY: usize = 9;

pub(crate) fn lab() -> anyhow::Result<Lab> {
    Lab::start(LabConfig {
        link_lag: Duration::from_millis(50),
        ipv6_addresses: 1,
        ..LabConfig::default()
    })
}

/// A node of the lab, dual-stack.
pub(crate) fn node<'lab>(lab: &'lab Lab, name: &str) -> Node<'lab> {
    Node::new(lab, name)
        .with("ENABLE_IPv4", true)
        .with("ENABLE_IPv6", true)
}

#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) netns: Netns,
    v4: IpAddr,
    v6: IpAddr,
}

impl Pod {
    pub(crate) fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}

/// The pods that the Services lead to, and some that are in the way.
#[derive(Debug)]
pub(crate) struct Pods {
    primary: Pod,
    secondary: Pod,
    remote: Pod,
    _others: Vec<Pod>,
}

impl Pods {
    /// ADDs pods on the nodes `a` and `b`, which serve.
    pub(crate) fn add(lab: &Lab, a: &Node<'_>, b: &Node<'_>) -> anyhow::Result<Self> {
        let mut others = (0..FILL_PRIMARY)
            .map(|number| add(lab, a, &format!("a-{number}")))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let primary = others.pop().context("no pods")?;
        let secondary = add(lab, a, "a-second")?;
        let remote = add(lab, b, "b-0")?;
        lab.settle()?;
        for (pod, eni) in [(&primary, 0), (&secondary, 1)] {
            let enis = lab.sim().fabric().enis;
            let IpAddr::V4(v4) = pod.v4 else {
                anyhow::bail!("{pod:?} has no IPv4")
            };
            let holder = enis.iter().find(|held| held.addresses.contains(&v4));
            let index = holder.map(|held| held.device_index);
            ensure!(index == Some(eni), "{v4} is on {index:?}");
        }
        Ok(Self {
            primary,
            secondary,
            remote,
            _others: others,
        })
    }

    pub(crate) fn of(&self, backend: Backend) -> &Pod {
        match backend {
            Backend::Primary => &self.primary,
            Backend::Secondary => &self.secondary,
            Backend::Remote => &self.remote,
        }
    }
}

fn add(lab: &Lab, node: &Node<'_>, name: &str) -> anyhow::Result<Pod> {
    let netns = lab.pod_netns(&format!("pod-{name}"))?;
    let sandbox = node.sandbox(&format!("sandbox-{name}"), name, netns.path());
    let result = sandbox.add()?.result()?;
    let address = |number: usize| -> anyhow::Result<IpAddr> {
        let text = result["ips"][number]["address"].as_str();
        let net: IpNet = text.context("a family is missing")?.parse()?;
        Ok(net.addr())
    };
    let (v4, v6) = (address(0)?, address(1)?);
    Ok(Pod { netns, v4, v6 })
}
