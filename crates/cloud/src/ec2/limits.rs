//! What instance types allow, of those that [`limits_of`](crate::limits_of) does not know.

use aws_sdk_ec2::types::{InstanceType, InstanceTypeHypervisor, NetworkCardInfo};
use ipam::{CallError, InstanceLimits};

use super::{Ec2, strange};
use crate::classify::{Effect, call_error};

impl Ec2 {
    /// Asks EC2 what an instance type allows; for types that [`limits_of`](crate::limits_of) does not know.
    ///
    /// # Errors
    /// When EC2 does not answer, or does not know the type either.
    pub async fn instance_limits(&self, instance_type: &str) -> Result<InstanceLimits, CallError> {
        const ACTION: &str = "DescribeInstanceTypes";
        let answer = self
            .reads
            .describe_instance_types()
            .instance_types(InstanceType::from(instance_type))
            .send()
            .await
            .map_err(|error| call_error(ACTION, Effect::Reads, &error))?;
        answer
            .instance_types()
            .first()
            .and_then(|kind| Some((kind, kind.network_info()?)))
            .and_then(|(kind, network)| {
                let number = |value: Option<i32>| u32::try_from(value?).ok();
                let mut cards: Vec<_> = network.network_cards().iter().collect();
                cards.sort_by_key(|card| card.network_card_index());
                let cards = cards
                    .into_iter()
                    .map(NetworkCardInfo::maximum_network_interfaces);
                let mut enis_per_card = cards.map(number).collect::<Option<Vec<_>>>()?;
                if enis_per_card.is_empty() {
                    enis_per_card.push(number(network.maximum_network_interfaces())?);
                }
                Some(InstanceLimits {
                    enis_per_card,
                    ipv4_slots_per_eni: number(network.ipv4_addresses_per_interface())?,
                    ipv6_slots_per_eni: number(network.ipv6_addresses_per_interface())?,
                    prefixes: kind.hypervisor() == Some(&InstanceTypeHypervisor::Nitro)
                        || kind.bare_metal() == Some(true),
                })
            })
            .ok_or_else(|| {
                strange(
                    ACTION,
                    &format!("no network limits for {instance_type}"),
                    Effect::Reads,
                )
            })
    }
}
