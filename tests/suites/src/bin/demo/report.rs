//! What the demo found, as `--output json` prints it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::Serialize;
use vpc_lab::Lab;

use crate::latency::Latency;
use crate::pods::{Pod, Pods};

/// All of it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The pods, in the order of their ADDs.
    pub(crate) pods: Vec<Pod>,
    /// What was tried, in order.
    pub(crate) checks: Vec<Check>,
    /// Calls to EC2 by the two nodes, by action.
    pub(crate) ec2_calls: BTreeMap<String, u32>,
    /// The timed ADDs, unless `--adds 0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency: Option<Latency>,
}

/// One thing that was tried.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Check {
    /// What should work.
    pub(crate) name: String,
    /// Who sent.
    pub(crate) from: String,
    /// To whom.
    pub(crate) to: String,
    /// The source address that the receiver saw; none when nothing came, or nothing was sent.
    pub(crate) source_seen: Option<Ipv4Addr>,
    /// Whether it was as it should be.
    pub(crate) ok: bool,
    /// Why not, or what there is to learn.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) note: String,
}

impl Report {
    pub(crate) fn new(pods: &Pods<'_>) -> Self {
        Self {
            pods: pods.all().cloned().collect(),
            checks: Vec::new(),
            ec2_calls: BTreeMap::new(),
            latency: None,
        }
    }

    pub(crate) fn count_calls(&mut self, lab: &Lab) {
        for call in lab.sim().calls() {
            *self.ec2_calls.entry(call.action.clone()).or_default() += 1;
        }
    }

    pub(crate) fn ok(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }
}
