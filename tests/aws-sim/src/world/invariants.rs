//! What must be true of every world at every moment.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Display;
use std::net::IpAddr;

use ipnet::{Ipv4Net, Ipv6Net};

use super::{Eni, EniKind, Instance, InstanceState, Subnet, World};
use crate::ids::{SubnetId, VpcId};
use crate::subnet::PREFIX_ADDRESSES;
use crate::subnet6::{Ipv6Pool, PREFIX_LENGTH};

/// What is broken, in words.
type Checked = Result<(), String>;

/// Broken, if it is not `right`.
fn check(right: bool, of: impl Display, what: impl Display) -> Checked {
    if right {
        Ok(())
    } else {
        Err(format!("{of}: {what}"))
    }
}

/// What all ENIs of a subnet hold together.
#[derive(Default)]
struct Used {
    ipv4: usize,
    ipv6: usize,
    ipv6_prefixes: usize,
}

impl World {
    /// Checks that no address is on two ENIs, that every prefix is aligned and inside its subnet, that subnets count
    /// right, that limits hold, that places on instances are unique, and that all indexes agree.
    ///
    /// # Errors
    /// What is broken, in words. It is a bug of the simulator.
    pub fn check_invariants(&self) -> Checked {
        self.check_addresses()?;
        self.check_networks()?;
        self.enis().try_for_each(|eni| self.check_eni(eni))?;
        self.instances()
            .try_for_each(|instance| self.check_instance(instance))?;
        self.check_indexes()?;
        self.check_trunks()
    }

    /// In debug builds, panics when an invariant is broken. Looks only when something has changed: reads need not pay.
    pub(crate) fn assert_invariants(&mut self, after: &str) {
        if !cfg!(debug_assertions) || self.checked == Some(self.revision) {
            return;
        }
        self.checked = Some(self.revision);
        if let Err(broken) = self.check_invariants() {
            tracing::error!(%after, %broken, "the simulator is wrong");
            debug_assert!(false, "after {after}: {broken}");
        }
    }

    fn check_addresses(&self) -> Checked {
        let mut held: HashMap<(&VpcId, IpAddr), &Eni> = HashMap::new();
        let mut blocks: HashMap<(&VpcId, Ipv6Net), &Eni> = HashMap::new();
        let mut used: BTreeMap<&SubnetId, Used> = BTreeMap::new();
        for eni in self.enis() {
            let subnet = self.subnet(&eni.subnet);
            let subnet = subnet.ok_or(format!("{}: no subnet", eni.id))?;
            for address in all_addresses(eni) {
                if let Some(other) = held.insert((&eni.vpc, address), eni) {
                    return Err(format!("{address} is on {} and on {}", other.id, eni.id));
                }
                let taken = format_args!("{address} was not taken from its subnet").to_string();
                check(is_taken(subnet, address), &eni.id, taken)?;
            }
            for prefix in &eni.ipv6_prefixes {
                if let Some(other) = blocks.insert((&eni.vpc, *prefix), eni) {
                    return Err(format!("{prefix} is on {} and on {}", other.id, eni.id));
                }
            }
            let used = used.entry(&eni.subnet).or_default();
            used.ipv4 += eni.addresses().count() + PREFIX_ADDRESSES * eni.prefixes.len();
            used.ipv6 += eni.ipv6.len();
            used.ipv6_prefixes += eni.ipv6_prefixes.len();
        }
        let inside_a_prefix = held.iter().find_map(|((vpc, address), eni)| {
            let IpAddr::V6(address) = address else {
                return None;
            };
            let block = Ipv6Net::new(*address, PREFIX_LENGTH).ok()?.trunc();
            Some((address, eni, blocks.get(&(*vpc, block))?))
        });
        if let Some((address, eni, other)) = inside_a_prefix {
            return Err(format!(
                "{address} of {} is in a prefix of {}",
                eni.id, other.id
            ));
        }
        let none = Used::default();
        self.subnets
            .values()
            .try_for_each(|subnet| check_counts(subnet, used.get(&subnet.id).unwrap_or(&none)))
    }

    fn check_eni(&self, eni: &Eni) -> Checked {
        let subnet = self.subnet(&eni.subnet);
        let subnet = subnet.ok_or(format!("{}: no subnet", eni.id))?;
        let place = (&subnet.vpc, &subnet.az) == (&eni.vpc, &eni.az);
        check(place, &eni.id, "is not where its subnet is")?;
        for prefix in &eni.prefixes {
            let aligned = prefix.prefix_len() == 28 && prefix.trunc() == *prefix;
            let inside = subnet.pool.cidr().contains(prefix);
            check(
                aligned && inside,
                &eni.id,
                format!("{prefix} is no /28 of its subnet"),
            )?;
        }
        let ipv6 = subnet.ipv6.as_ref().map(Ipv6Pool::cidr);
        for prefix in &eni.ipv6_prefixes {
            let aligned = prefix.prefix_len() == PREFIX_LENGTH && prefix.trunc() == *prefix;
            let inside = ipv6.is_some_and(|cidr| cidr.contains(prefix));
            check(
                aligned && inside,
                &eni.id,
                format!("{prefix} is no /80 of its subnet"),
            )?;
        }
        check(!eni.groups.is_empty(), &eni.id, "no security group")?;
        for id in &eni.groups {
            let there = self.group(id).is_some_and(|group| group.vpc == eni.vpc);
            check(
                there,
                &eni.id,
                format!("{id} is no security group of its VPC"),
            )?;
        }
        let Some(attachment) = &eni.attachment else {
            return Ok(());
        };
        let known = self
            .instance(&attachment.instance)
            .is_some_and(|instance| instance.enis.contains(&eni.id));
        check(known, &eni.id, "its instance does not know it")
    }

    fn check_instance(&self, instance: &Instance) -> Checked {
        let id = &instance.id;
        let kind = instance.kind;
        let mut places = BTreeSet::new();
        let mut by_card: BTreeMap<u32, u32> = BTreeMap::new();
        for eni in &instance.enis {
            let eni = self.eni(eni).ok_or(format!("{id}: {eni} is gone"))?;
            let attachment = eni.attachment.as_ref();
            let attachment = attachment
                .filter(|attachment| attachment.instance == *id)
                .ok_or(format!("{id}: {} is attached to another", eni.id))?;
            let first_here = places.insert((attachment.card, attachment.device_index));
            check(first_here, id, "two ENIs in one place")?;
            *by_card.entry(attachment.card).or_default() += 1;
            let fits = |slots, limit| u32::try_from(slots).is_ok_and(|slots| slots <= limit);
            check(
                fits(eni.slots(), kind.ipv4_per_eni),
                &eni.id,
                format!("{} slots are too many", eni.slots()),
            )?;
            check(
                fits(eni.ipv6_slots(), kind.ipv6_per_eni),
                &eni.id,
                format!("{} IPv6 slots are too many", eni.ipv6_slots()),
            )?;
            check(
                eni.az == instance.az,
                &eni.id,
                format!("in another zone than {id}"),
            )?;
        }
        for (card, count) in by_card {
            let card = usize::try_from(card).unwrap_or(usize::MAX);
            let limit = kind.enis_per_card.get(card);
            let fits = limit.is_some_and(|limit| count <= *limit);
            check(fits, id, format!("{count} ENIs on card {card}"))?;
        }
        check(
            instance.state != InstanceState::Terminated || places.is_empty(),
            id,
            "terminated, but it has ENIs",
        )?;
        check(
            instance
                .kind
                .architecture
                .starts_with(instance.image.architecture),
            id,
            "its image is for another architecture",
        )?;
        check(
            self.keys.get(&instance.access_key) == Some(id),
            id,
            "its key is another's",
        )?;
        check(
            !instance.is_alive() || places.contains(&(0, 0)),
            id,
            "it has no primary ENI",
        )
    }

    fn check_indexes(&self) -> Checked {
        let mut macs = HashSet::new();
        let mut holders: BTreeMap<&SubnetId, usize> = BTreeMap::new();
        let mut attachments = 0;
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for eni in self.enis() {
            check(
                macs.insert(eni.mac),
                &eni.id,
                "its MAC address is another's too",
            )?;
            let firsts = eni.addresses();
            let firsts = firsts.chain(eni.prefixes.iter().map(Ipv4Net::network));
            for first in firsts {
                *holders.entry(&eni.subnet).or_default() += 1;
                let holder = self.subnet(&eni.subnet).and_then(|s| s.holders.get(&first));
                check(
                    holder == Some(&eni.id),
                    &eni.id,
                    format!("its subnet does not know that it holds {first}"),
                )?;
            }
            if let Some(attachment) = &eni.attachment {
                attachments += 1;
                let known = self.attachments.get(&attachment.id) == Some(&eni.id);
                check(known, &eni.id, "nothing leads from its attachment to it")?;
            }
            *counts.entry(self.owner(&eni.vpc)).or_default() += 1;
        }
        for subnet in self.subnets.values() {
            let expected = holders.get(&subnet.id).copied().unwrap_or(0);
            let count = subnet.holders.len();
            check(
                count == expected,
                &subnet.id,
                format!("{count} addresses and prefixes have holders, but {expected} are held"),
            )?;
        }
        check(
            self.attachments.len() == attachments,
            "attachments",
            "there are more in the index than on ENIs",
        )?;
        for (account, count) in &self.eni_counts {
            let expected = counts.get(account.as_str()).copied().unwrap_or(0);
            check(
                *count == expected,
                account,
                format!("{count} ENIs counted, but {expected} are there"),
            )?;
        }
        Ok(())
    }
}

impl World {
    fn check_trunks(&self) -> Checked {
        let mut keys = HashSet::new();
        for association in self.trunk_associations.values() {
            let id = &association.id;
            let branch = self.eni(&association.branch);
            let hangs =
                branch.is_some_and(|branch| branch.trunk.as_ref() == Some(&association.trunk));
            check(hangs, id, "its branch does not know it")?;
            let trunk = self.eni(&association.trunk);
            let carries = trunk.is_some_and(|trunk| trunk.kind == EniKind::Trunk);
            check(carries, id, "its trunk is none")?;
            let alone = keys.insert((&association.trunk, association.key));
            check(alone, id, "another branch has its key")?;
        }
        let branches = self.enis().filter(|eni| eni.trunk.is_some()).count();
        check(
            branches == self.trunk_associations.len(),
            "branches",
            "there are more than associations",
        )?;
        for eni in self.enis() {
            let primary = eni.primary_ipv6.as_ref();
            let held = primary.is_none_or(|primary| eni.ipv6.contains(primary));
            check(held, &eni.id, "its primary IPv6 address is not its own")?;
            let ipv4 = eni.primary.is_some() != (eni.kind == EniKind::EfaOnly);
            check(
                ipv4,
                &eni.id,
                "all but an EFA without a network device have an address",
            )?;
        }
        Ok(())
    }
}

/// Single addresses of both families, and all addresses of /28s.
fn all_addresses(eni: &Eni) -> impl Iterator<Item = IpAddr> + '_ {
    let in_prefixes = eni.prefixes.iter().flat_map(|prefix| {
        (u32::from(prefix.network())..=u32::from(prefix.broadcast())).map(std::net::Ipv4Addr::from)
    });
    let ipv4 = eni.addresses().chain(in_prefixes).map(IpAddr::V4);
    ipv4.chain(eni.ipv6.iter().copied().map(IpAddr::V6))
}

fn is_taken(subnet: &Subnet, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => subnet.pool.cidr().contains(&address) && subnet.pool.holds(address),
        IpAddr::V6(address) => subnet
            .ipv6
            .as_ref()
            .is_some_and(|pool| pool.cidr().contains(&address) && pool.holds(address)),
    }
}

fn check_counts(subnet: &Subnet, used: &Used) -> Checked {
    let free = subnet.pool.free();
    let expected = (subnet.pool.size() - 5).checked_sub(used.ipv4);
    check(
        Some(free) == expected,
        &subnet.id,
        format!("{free} free, but should be {expected:?}"),
    )?;
    let taken = subnet.ipv6.as_ref().map_or((0, 0), Ipv6Pool::taken);
    let expected = (used.ipv6, used.ipv6_prefixes);
    check(
        taken == expected,
        &subnet.id,
        format!("{taken:?} IPv6 addresses and prefixes are taken, but should be {expected:?}"),
    )
}
