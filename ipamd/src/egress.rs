//! How pods of one family reach the other: as their node, by its own address.

use cloud::{Metadata, MetadataError, NodeFacts};
use datapath::EgressPlan;
use datapath::pod::egress::Egress;
use ipam::Node;

use crate::config::Config;

/// What the settings ask for, as far as the node has the address for it.
///
/// # Errors
/// When the node's IPv6 can't be learned.
pub(crate) async fn plan(
    config: &Config,
    facts: &NodeFacts,
    node: &Node,
    metadata: &Metadata,
) -> Result<Option<EgressPlan>, MetadataError> {
    let Some(egress) = config.egress() else {
        return Ok(None);
    };
    let plan = match egress {
        Egress::V4 => EgressPlan::V4(facts.primary_address),
        Egress::V6 => {
            let patience = config.imds_patience();
            let ipv6 = metadata.ipv6(node.primary_mac, patience).await?;
            let Some(address) = ipv6.address else {
                tracing::warn!(
                    "ENABLE_V6_EGRESS is true, and the primary ENI {} has no IPv6 address: pods do not reach IPv6. Assign \
                     it one (AssignIpv6Addresses) and restart ipamd, or turn ENABLE_V6_EGRESS off",
                    node.primary_eni
                );
                return Ok(None);
            };
            EgressPlan::V6 {
                address,
                primary_mac: datapath::Mac(facts.primary_mac.0),
            }
        }
    };
    tracing::info!(?plan, range = %egress.range(), "pods reach the other family by their node");
    Ok(Some(plan))
}
