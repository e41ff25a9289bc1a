//! What must be true of every world at every moment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::{Eni, World};
use crate::ids::{SubnetId, VpcId};

impl World {
    /// Checks that no address is on two ENIs, that subnets count right, and that limits hold.
    ///
    /// # Errors
    /// What is broken, in words. It is a bug of the simulator.
    pub fn check_invariants(&self) -> Result<(), String> {
        let mut held: BTreeMap<(&VpcId, Ipv4Addr), &Eni> = BTreeMap::new();
        let mut used: BTreeMap<&SubnetId, usize> = BTreeMap::new();
        for eni in self.enis() {
            let subnet = self
                .subnet(&eni.subnet)
                .ok_or(format!("{}: no subnet", eni.id))?;
            let in_prefixes = eni.prefixes.iter().flat_map(|prefix| {
                (u32::from(prefix.network())..=u32::from(prefix.broadcast())).map(Ipv4Addr::from)
            });
            for address in eni.addresses().chain(in_prefixes) {
                if let Some(other) = held.insert((&eni.vpc, address), eni) {
                    return Err(format!("{address} is on {} and on {}", other.id, eni.id));
                }
                if !subnet.pool.cidr().contains(&address) || !subnet.pool.holds(address) {
                    return Err(format!(
                        "{}: {address} was not taken from its subnet",
                        eni.id
                    ));
                }
                *used.entry(&eni.subnet).or_default() += 1;
            }
            if let Some(bad) = eni
                .prefixes
                .iter()
                .find(|prefix| prefix.prefix_len() != 28 || prefix.trunc() != **prefix)
            {
                return Err(format!("{}: {bad} is not an aligned /28", eni.id));
            }
            if eni.groups.is_empty() {
                return Err(format!("{}: no security group", eni.id));
            }
        }
        for subnet in self.subnets.values() {
            let expected = subnet.pool.size() - 5 - used.get(&subnet.id).copied().unwrap_or(0);
            if subnet.pool.free() != expected {
                let free = subnet.pool.free();
                return Err(format!(
                    "{}: {free} free, but should be {expected}",
                    subnet.id
                ));
            }
        }
        self.check_instances()
    }

    fn check_instances(&self) -> Result<(), String> {
        for instance in self.instances() {
            let mut places = BTreeSet::new();
            let mut by_card: BTreeMap<u32, u32> = BTreeMap::new();
            for id in &instance.enis {
                let eni = self
                    .eni(id)
                    .ok_or(format!("{}: {id} is gone", instance.id))?;
                let attachment = eni
                    .attachment
                    .as_ref()
                    .filter(|attachment| attachment.instance == instance.id)
                    .ok_or(format!("{}: {id} is attached to another", instance.id))?;
                if !places.insert((attachment.card, attachment.device_index)) {
                    return Err(format!("{}: two ENIs in one place", instance.id));
                }
                *by_card.entry(attachment.card).or_default() += 1;
                if eni.slots() > usize::try_from(instance.kind.ipv4_per_eni).unwrap_or(0) {
                    return Err(format!("{id}: {} slots are too many", eni.slots()));
                }
                if eni.az != instance.az {
                    return Err(format!("{id}: in another zone than {}", instance.id));
                }
            }
            for (card, count) in by_card {
                let limit = usize::try_from(card)
                    .ok()
                    .and_then(|c| instance.kind.enis_per_card.get(c));
                if limit.is_none_or(|limit| count > *limit) {
                    return Err(format!("{}: {count} ENIs on card {card}", instance.id));
                }
            }
        }
        for eni in self.enis() {
            if let Some(attachment) = &eni.attachment
                && !self
                    .instance(&attachment.instance)
                    .is_some_and(|i| i.enis.contains(&eni.id))
            {
                return Err(format!("{}: its instance does not know it", eni.id));
            }
        }
        Ok(())
    }
}
