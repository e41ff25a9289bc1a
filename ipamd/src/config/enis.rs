//! Where new ENIs are made, and which ENIs of others are used.

use std::path::PathBuf;

use ipam::{Families, Subnets};

use super::ConfigError;
use super::eni_config::EniConfig;
use super::values::boolean;
use crate::eni_tags::{self, EniTags};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct EniArgs {
    /// Whether new ENIs are made where the tags of the zone's subnets say: in the node's own subnet unless it is tagged
    /// kubernetes.io/role/cni=0, and in those that are tagged kubernetes.io/role/cni=1, the one with the most free
    /// addresses first. Else in the node's own subnet
    #[arg(long, env = "ENABLE_SUBNET_DISCOVERY", default_value = "true", value_name = "BOOL",
          action = clap::ArgAction::Set, value_parser = boolean("ENABLE_SUBNET_DISCOVERY"), help_heading = "ENIs")]
    subnet_discovery: bool,

    /// Whether new ENIs are made with the subnet and the security groups that WEIR_ENI_CONFIG names, and pods get no
    /// addresses of the primary ENI
    #[arg(long, env = "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", default_value = "false", value_name = "BOOL",
          action = clap::ArgAction::Set, value_parser = boolean("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG"),
          help_heading = "ENIs")]
    custom_networking: bool,

    /// The file with this node's ENIConfig: the `spec` of aws-node's resource (subnet, securityGroups), or all of it, as
    /// YAML or JSON
    #[arg(
        long,
        env = "WEIR_ENI_CONFIG",
        value_name = "FILE",
        help_heading = "ENIs"
    )]
    eni_config: Option<PathBuf>,

    /// Whether pods get addresses of ENIs without tags too, which somebody else has attached to the instance. They are
    /// never detached. Unlike in aws-node, it is off unless set
    #[arg(long, env = "MANAGE_UNTAGGED_ENI", default_value = "false", value_name = "BOOL",
          action = clap::ArgAction::Set, value_parser = boolean("MANAGE_UNTAGGED_ENI"), help_heading = "ENIs")]
    manage_untagged_eni: bool,

    /// Whether pods get addresses of ENIs on network cards beyond the first too. There is no such thing yet, so true is
    /// refused; those ENIs are left alone
    #[arg(long, env = "ENABLE_MULTI_NIC", default_value = "false", value_name = "BOOL",
          action = clap::ArgAction::Set, value_parser = boolean("ENABLE_MULTI_NIC"), help_heading = "ENIs")]
    multi_nic: bool,

    /// Tags for the ENIs made here beside the CNI's own, as a JSON object of strings: {"team":"network"}. Keys that are the
    /// CNI's or AWS's own are left out
    #[arg(long, env = "ADDITIONAL_ENI_TAGS", value_name = "JSON", value_parser = eni_tags::read,
          help_heading = "ENIs")]
    additional_eni_tags: Option<EniTags>,

    /// Whether ENIs stay that nodes of this cluster have left behind, attached to nothing. Else about two of its nodes look
    /// for them in an hour, and delete what is older than ten minutes and was seen twice
    #[arg(long, env = "DISABLE_LEAKED_ENI_CLEANUP", default_value = "false", value_name = "BOOL",
          action = clap::ArgAction::Set, value_parser = boolean("DISABLE_LEAKED_ENI_CLEANUP"), help_heading = "ENIs")]
    disable_leaked_eni_cleanup: bool,
}

impl EniArgs {
    /// What there is no such thing as, alone or together with pods' families.
    pub(super) fn check(&self, families: Families) -> Result<(), ConfigError> {
        if self.multi_nic {
            return Err(ConfigError::MultiNic);
        }
        if self.custom_networking && families != Families::V4 {
            return Err(ConfigError::CustomIpv6);
        }
        Ok(())
    }

    /// What users put on new ENIs.
    pub(super) fn additional_tags(&self) -> Option<&EniTags> {
        self.additional_eni_tags.as_ref()
    }

    /// Whether ENIs stay that others of the cluster have left behind.
    pub(super) fn leaves_leaked(&self) -> bool {
        self.disable_leaked_eni_cleanup
    }

    pub(super) fn manage_untagged(&self) -> bool {
        self.manage_untagged_eni
    }

    /// Where new ENIs are made. Custom networking goes before tags, as in aws-node.
    pub(super) fn subnets(&self, cluster: Option<String>) -> Result<Subnets, ConfigError> {
        if !self.custom_networking {
            if let Some(file) = &self.eni_config {
                tracing::warn!(
                    "WEIR_ENI_CONFIG={} has no effect without AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG=true",
                    file.display()
                );
            }
            return Ok(match self.subnet_discovery {
                true => Subnets::Tagged { cluster },
                false => Subnets::default(),
            });
        }
        let file = self.eni_config.as_ref().ok_or(ConfigError::NoEniConfig)?;
        let EniConfig(choice) = EniConfig::read(file)?;
        if choice.groups.is_empty() {
            tracing::warn!(
                "{} names no security groups: new ENIs get those of the primary ENI",
                file.display()
            );
        }
        Ok(Subnets::Custom(choice))
    }
}
