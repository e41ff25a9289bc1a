//! The lab in words, for who raised it.

use std::fmt::Write as _;

use super::Lab;
use crate::places::{EC2, IMDS, PEER_NETWORK};

impl Lab {
    /// A few lines: the namespaces with their addresses. For a terminal.
    pub fn describe(&self) -> String {
        let fabric = self.sim.fabric();
        let mut text = String::new();
        let mut row = |name: &str, what: &str| {
            // Writing to a string can't fail.
            writeln!(text, "  {name:<10} {what}").ok();
        };
        let ranges: Vec<String> = fabric
            .vpcs
            .iter()
            .flat_map(|vpc| &vpc.cidrs)
            .map(ToString::to_string)
            .collect();
        row(
            self.vpc.name(),
            &format!(
                "the VPC {}; EC2 at http://{EC2}, metadata at http://{IMDS}",
                ranges.join(", ")
            ),
        );
        for node in &self.nodes {
            let kind = self.sim.with_world(|world, _| {
                world
                    .instance(&node.instance_id.as_str().into())
                    .map(|instance| format!("{} in {}", instance.kind.name, instance.az))
            });
            let public = node
                .public_address
                .map(|p| format!(", public {p}"))
                .unwrap_or_default();
            row(
                node.netns.name(),
                &format!(
                    "node {}, {}: ens5 {}{public}",
                    node.instance_id,
                    kind.unwrap_or_default(),
                    node.primary_address
                ),
            );
        }
        row(
            self.internet.netns.name(),
            &format!("the internet: {}", self.internet.address),
        );
        row(
            self.peer.netns.name(),
            &format!(
                "a host in the peered network {PEER_NETWORK}: {}",
                self.peer.address
            ),
        );
        text
    }
}
