//! How EC2 and IMDS are asked, and whether at all.

use std::time::Duration;

use super::values::{boolean, cluster_size, patience};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Ec2Args {
    /// The cluster's name: ENIs made here are tagged with it, and those of its nodes that nobody will delete any more are
    /// found by it
    #[arg(long, env = "CLUSTER_NAME", value_name = "NAME", help_heading = "EC2")]
    cluster_name: Option<String>,

    /// Nodes that share what the account may ask of EC2 in its Region; 0 for no bound on this node. A node keeps to
    /// its share, so that many that start at once do not throttle each other, and in a large cluster a new node waits for
    /// its turn. Say how many may come at once, divided by the factor by which AWS has raised the account's rates
    #[arg(long, env = "WEIR_CLUSTER_SIZE", default_value_t = 20, value_name = "NODES",
          value_parser = cluster_size, help_heading = "EC2")]
    cluster_size: u32,

    /// Seconds for which the instance metadata service is asked at start before ipamd gives up
    #[arg(long, env = "WEIR_IMDS_PATIENCE", default_value_t = 60, value_name = "SECONDS",
          value_parser = patience, help_heading = "EC2")]
    imds_patience: u32,

    /// Ask EC2 for no change: pods get the addresses that the instance has, as with mode frozen. EC2 is still asked what
    /// these are
    #[arg(long, env = "DISABLE_NETWORK_RESOURCE_PROVISIONING", default_value = "false", value_name = "BOOL",
          action = clap::ArgAction::Set, value_parser = boolean("DISABLE_NETWORK_RESOURCE_PROVISIONING"),
          help_heading = "EC2")]
    disable_network_resource_provisioning: bool,

    /// The same here. aws-node asks EC2 nothing at all then; ipamd believes no address that it has from IMDS alone, so it
    /// asks EC2 once after each boot what the instance has
    #[arg(long, env = "ENABLE_IMDS_ONLY_MODE", default_value = "false", value_name = "BOOL",
          action = clap::ArgAction::Set, value_parser = boolean("ENABLE_IMDS_ONLY_MODE"), help_heading = "EC2")]
    enable_imds_only_mode: bool,
}

impl Ec2Args {
    pub(super) fn cluster_name(&self) -> Option<String> {
        self.cluster_name.clone().filter(|name| !name.is_empty())
    }

    pub(super) fn cluster_size(&self) -> u32 {
        self.cluster_size
    }

    pub(super) fn imds_patience(&self) -> Duration {
        Duration::from_secs(self.imds_patience.into())
    }

    /// The setting that lets EC2 be asked for no change, if one is on.
    pub(super) fn frozen_by(&self) -> Option<&'static str> {
        let settings = [
            (
                self.disable_network_resource_provisioning,
                "DISABLE_NETWORK_RESOURCE_PROVISIONING",
            ),
            (self.enable_imds_only_mode, "ENABLE_IMDS_ONLY_MODE"),
        ];
        settings
            .into_iter()
            .find_map(|(on, name)| on.then_some(name))
    }
}
