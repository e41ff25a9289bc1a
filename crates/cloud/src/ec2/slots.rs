//! What ENIs hold for pods: addresses and prefixes that come and go.

use std::net::{IpAddr, Ipv4Addr};

use ipam::{CallError, EniId, SlotKind};
use ipnet::IpNet;

use super::{Ec2, mutation, once};

impl Ec2 {
    /// EC2 answers with the new ones alone, LocalStack and moto with all of the ENI, its own address included.
    /// That one must not get to pods; the pool passes over the others that it knows.
    pub(super) async fn assign(
        &self,
        action: &'static str,
        eni: &EniId,
        kind: SlotKind,
        count: i32,
    ) -> Result<Vec<IpNet>, CallError> {
        if kind == SlotKind::Ipv6Prefix {
            let answer = self
                .mutations
                .assign_ipv6_addresses()
                .network_interface_id(eni.as_str())
                .ipv6_prefix_count(count)
                .customize()
                .config_override(once())
                .send()
                .await
                .map_err(mutation(action))?;
            let prefixes = answer.assigned_ipv6_prefixes().iter();
            return Ok(prefixes.filter_map(|prefix| prefix.parse().ok()).collect());
        }
        let request = self
            .mutations
            .assign_private_ip_addresses()
            .network_interface_id(eni.as_str());
        let request = match kind {
            SlotKind::Prefix => request.ipv4_prefix_count(count),
            _ => request.secondary_private_ip_address_count(count),
        };
        let answer = request
            .customize()
            .config_override(once())
            .send()
            .await
            .map_err(mutation(action))?;
        let own = self.known().own_addresses.get(eni).copied();
        let addresses = answer
            .assigned_private_ip_addresses()
            .iter()
            .filter_map(|assigned| assigned.private_ip_address()?.parse::<Ipv4Addr>().ok())
            .filter(|address| Some(*address) != own)
            .map(|address| IpNet::from(IpAddr::V4(address)));
        let prefixes = answer
            .assigned_ipv4_prefixes()
            .iter()
            .filter_map(|assigned| assigned.ipv4_prefix()?.parse().ok());
        Ok(addresses.chain(prefixes).collect())
    }

    pub(super) async fn unassign(
        &self,
        action: &'static str,
        eni: &EniId,
        slots: &[IpNet],
    ) -> Result<(), CallError> {
        let of = |kind: SlotKind| {
            let slots = slots.iter().filter(|net| SlotKind::of(net) == kind);
            let texts: Vec<String> = slots
                .map(|net| match kind {
                    SlotKind::Address => net.addr().to_string(),
                    SlotKind::Prefix | SlotKind::Ipv6Prefix => net.to_string(),
                })
                .collect();
            (!texts.is_empty()).then_some(texts)
        };
        if let Some(prefixes) = of(SlotKind::Ipv6Prefix) {
            self.mutations
                .unassign_ipv6_addresses()
                .network_interface_id(eni.as_str())
                .set_ipv6_prefixes(Some(prefixes))
                .customize()
                .config_override(once())
                .send()
                .await
                .map_err(mutation(action))?;
            return Ok(());
        }
        self.mutations
            .unassign_private_ip_addresses()
            .network_interface_id(eni.as_str())
            .set_private_ip_addresses(of(SlotKind::Address))
            .set_ipv4_prefixes(of(SlotKind::Prefix))
            .customize()
            .config_override(once())
            .send()
            .await
            .map_err(mutation(action))?;
        Ok(())
    }
}
