//! Whether pods of one family reach the other by their node.

use clap::{ArgAction, Args};
use datapath::pod::egress::Egress;
use ipam::Families;

use super::values::boolean;

#[derive(Clone, Debug, Args)]
pub(super) struct EgressArgs {
    /// Whether pods that have IPv6 alone reach IPv4 by their node, translated to its primary address
    #[arg(long, env = "ENABLE_V4_EGRESS", default_value = "true", value_name = "BOOL",
          action = ArgAction::Set, value_parser = boolean("ENABLE_V4_EGRESS"), help_heading = "Node")]
    enable_v4_egress: bool,

    /// Whether pods that have IPv4 alone reach IPv6 by their node, translated to its IPv6 address; not where the node has
    /// none
    #[arg(long, env = "ENABLE_V6_EGRESS", default_value = "false", value_name = "BOOL",
          action = ArgAction::Set, value_parser = boolean("ENABLE_V6_EGRESS"), help_heading = "Node")]
    enable_v6_egress: bool,
}

impl EgressArgs {
    /// The family that pods with addresses of these reach by their node.
    pub(super) fn of(&self, families: Families) -> Option<Egress> {
        match families {
            Families::V6 => self.enable_v4_egress.then_some(Egress::V4),
            Families::V4 => self.enable_v6_egress.then_some(Egress::V6),
            Families::Dual => None,
        }
    }
}
