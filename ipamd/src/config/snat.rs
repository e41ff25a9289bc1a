//! How the source of what leaves the VPC is translated, by aws-node's names.

use datapath::{Snat, SourcePorts};
use ipnet::Ipv4Net;

use super::values::{boolean, cidr};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SnatArgs {
    /// Whether something else translates what leaves the VPC, such as a NAT gateway: then the node does not, and pods
    /// send it by their own ENI
    #[arg(long, env = "AWS_VPC_K8S_CNI_EXTERNALSNAT", default_value = "false", value_name = "BOOL",
          action = clap::ArgAction::Set, value_parser = boolean("AWS_VPC_K8S_CNI_EXTERNALSNAT"),
          help_heading = "Node")]
    external_snat: bool,

    /// Source ports of translated connections: fully random (prng), by a hash (hashrandom), or a connection's own where
    /// it is free (none)
    #[arg(long, env = "AWS_VPC_K8S_CNI_RANDOMIZESNAT", default_value = "prng", value_name = "HOW",
          value_parser = source_ports, help_heading = "Node")]
    randomize_snat: SourcePorts,

    /// CIDRs outside the VPC to which pods keep their own address, joined by commas
    #[arg(long, env = "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", value_name = "CIDR,...",
          value_delimiter = ',', value_parser = cidr("AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS"),
          help_heading = "Node")]
    exclude_snat_cidrs: Vec<Ipv4Net>,

    /// CIDRs of services that pods reach by the primary ENI, whichever ENI their address is on, joined by commas
    #[arg(long, env = "AWS_EXTERNAL_SERVICE_CIDRS", value_name = "CIDR,...",
          value_delimiter = ',', value_parser = cidr("AWS_EXTERNAL_SERVICE_CIDRS"),
          help_heading = "Node")]
    external_service_cidrs: Vec<Ipv4Net>,
}

impl SnatArgs {
    pub(crate) fn snat(&self) -> Snat {
        if self.external_snat {
            Snat::External
        } else {
            Snat::Node(self.randomize_snat)
        }
    }

    /// To these everything leaves by the primary ENI.
    pub(crate) fn external_services(&self) -> &[Ipv4Net] {
        &self.external_service_cidrs
    }

    /// To these nothing is translated, nor to the VPC.
    pub(crate) fn excluded(&self) -> &[Ipv4Net] {
        &self.exclude_snat_cidrs
    }
}

fn source_ports(text: &str) -> Result<SourcePorts, String> {
    match text.trim() {
        "prng" => Ok(SourcePorts::FullyRandom),
        "hashrandom" => Ok(SourcePorts::Random),
        "none" => Ok(SourcePorts::Kept),
        _ => Err("AWS_VPC_K8S_CNI_RANDOMIZESNAT must be prng, hashrandom or none".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Only {
        #[command(flatten)]
        snat: SnatArgs,
    }

    #[test]
    fn the_node_translates_to_fully_random_ports_unless_told_otherwise() {
        let read = |arguments: &[&str]| {
            let all = [&["ipamd"], arguments].concat();
            Only::try_parse_from(all).map(|it| it.snat.snat())
        };
        assert_eq!(read(&[]).ok(), Some(Snat::Node(SourcePorts::FullyRandom)));
        for (how, ports) in [
            ("prng", SourcePorts::FullyRandom),
            ("hashrandom", SourcePorts::Random),
            ("none", SourcePorts::Kept),
        ] {
            let read = read(&["--randomize-snat", how]).ok();
            assert_eq!(read, Some(Snat::Node(ports)), "{how}");
        }
        assert!(read(&["--randomize-snat=random"]).is_err());
        let external = read(&["--external-snat=T", "--randomize-snat=none"]).ok();
        assert_eq!(external, Some(Snat::External));
    }
}
