//! Who has a claim on each address: its owner, or nobody for a while.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::Pool;
use crate::{AddressEntry, BooksVersion, Family, GrantEntry, Pod, Sandbox, Time};

/// An address that somebody has a claim on.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    pub(crate) slot: IpNet,
    pub(crate) claim: Claim,
    /// Since when.
    pub(crate) since: Time,
}

/// The books' word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    Owned(Sandbox),
    Cooling {
        /// None when the books of the last one were lost.
        last: Option<Sandbox>,
        pod: Pod,
        until: Time,
    },
    /// A pod's link has it, and the books do not know whose: they were lost. It cools once the link has gone.
    Stray,
}

/// Who owns addresses.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    /// What the books say of it: made once, not for each write.
    pub(crate) entry: Arc<GrantEntry>,
    /// The books have it from this version on.
    pub(crate) version: BooksVersion,
    /// When a plugin was told, or may have been told at the latest. What nobody was told can be undone.
    pub(crate) told: Option<Time>,
}

impl Owner {
    /// One for each family of the node, IPv4 first.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &IpAddr> {
        self.entry.addresses.iter().map(|it| &it.address)
    }
}

impl Pool {
    pub(crate) fn owners(&self) -> impl Iterator<Item = (&Sandbox, &Owner)> {
        self.owners.iter()
    }

    pub(crate) fn owner(&self, sandbox: &Sandbox) -> Option<&Owner> {
        self.owners.get(sandbox)
    }

    /// What a plugin was told and when, and from which version on the books have it: nothing that is indexed.
    pub(crate) fn owner_mut(&mut self, sandbox: &Sandbox) -> Option<&mut Owner> {
        self.owners.get_mut(sandbox)
    }

    pub(crate) fn claims(&self) -> impl Iterator<Item = (&IpAddr, &Claimed)> {
        self.claims.iter()
    }

    pub(crate) fn claim(&self, ip: &IpAddr) -> Option<&Claimed> {
        self.claims.get(ip)
    }

    /// Addresses that pods' links have and the books do not know, with their slots.
    pub(crate) fn strays(&self) -> impl Iterator<Item = (IpAddr, IpNet)> + '_ {
        let strays = self.total.v4.quarantined + self.total.v6.quarantined;
        self.claims
            .iter()
            .take(if strays == 0 { 0 } else { usize::MAX })
            .filter(|(_, claimed)| claimed.claim == Claim::Stray)
            .map(|(ip, claimed)| (*ip, claimed.slot))
    }

    /// When the next address has cooled.
    pub(crate) fn next_cooled(&self) -> Option<Time> {
        self.cooling.first().map(|(until, _)| *until)
    }

    /// When each cooling address has cooled, the first first.
    pub(crate) fn cooled_at(&self) -> impl Iterator<Item = (Time, &IpAddr)> {
        self.cooling.iter().map(|(until, ip)| (*until, ip))
    }

    /// Claims within a slot.
    pub(crate) fn claims_in(&self, slot: &IpNet) -> impl Iterator<Item = (&IpAddr, &Claimed)> {
        let slot = *slot;
        self.claims
            .range(slot.network()..=slot.broadcast())
            .filter(move |(_, claimed)| claimed.slot == slot)
    }

    /// Gives the entry's sandbox a free address of each family: all or none. The books have it from `version` on.
    ///
    /// Packs: the ENI with the most claims first, and on it the fullest slot, so that the others can drain; of equals
    /// the one that is free for the longest time, so that late packets, caches and connections of its last holder
    /// have gone.
    pub(crate) fn grant(
        &mut self,
        families: &[Family],
        mut entry: GrantEntry,
        version: BooksVersion,
    ) -> bool {
        let picked: Option<Vec<AddressEntry>> =
            families.iter().map(|family| self.pick(*family)).collect();
        let Some(picked) = picked else {
            return false;
        };
        entry.addresses = picked;
        self.own(Arc::new(entry), version, None);
        true
    }

    /// Whether each family has a free address.
    pub(crate) fn has_free(&self, families: &[Family]) -> bool {
        let mut families = families.iter();
        families.all(|family| self.free.fullest_eni(*family).is_some())
    }

    fn pick(&self, family: Family) -> Option<AddressEntry> {
        let id = self.free.fullest_eni(family)?;
        let eni = self.enis.get(id)?;
        let slot = *eni.free.first(family)?;
        let held = eni.slots.get(&slot)?;
        Some(AddressEntry {
            address: held.next_free(&slot, |ip| self.claims.contains_key(ip))?,
            slot,
            eni: id.clone(),
        })
    }

    /// What the books say of a sandbox, at the start.
    pub(crate) fn restore_owner(
        &mut self,
        entry: Arc<GrantEntry>,
        version: BooksVersion,
        told: Time,
    ) {
        let slots: Vec<IpNet> = entry.addresses.iter().map(|it| it.slot).collect();
        self.own(entry, version, Some(told));
        slots.iter().for_each(|slot| self.note_owned(slot));
    }

    fn own(&mut self, entry: Arc<GrantEntry>, version: BooksVersion, told: Option<Time>) {
        let sandbox = entry.sandbox.clone();
        for it in &entry.addresses {
            let claim = Claim::Owned(sandbox.clone());
            self.set_claim(it.address, it.slot, claim, entry.since);
        }
        let owner = Owner {
            entry,
            version,
            told,
        };
        self.owners.insert(sandbox, owner);
    }

    /// Ends a sandbox's claims. They cool until `until`; with none they are free at once.
    pub(crate) fn release(
        &mut self,
        sandbox: &Sandbox,
        until: Option<Time>,
        now: Time,
    ) -> Option<Owner> {
        let owner = self.owners.remove(sandbox)?;
        for ip in owner.addresses() {
            let Some(slot) = self.claims.get(ip).map(|claimed| claimed.slot) else {
                continue;
            };
            match until {
                Some(until) => {
                    let claim = Claim::Cooling {
                        last: Some(sandbox.clone()),
                        pod: owner.entry.pod.clone(),
                        until,
                    };
                    self.set_claim(*ip, slot, claim, now);
                }
                None => self.end_claim(ip, now),
            }
        }
        Some(owner)
    }

    /// Claims an address, whoever had a claim on it.
    pub(crate) fn set_claim(&mut self, ip: IpAddr, slot: IpNet, claim: Claim, since: Time) {
        self.drop_claim(&ip);
        if let Claim::Cooling { until, .. } = &claim {
            self.cooling.insert((*until, ip));
        }
        self.change_slot(&slot, |held| {
            *held.claims.of(&claim) += 1;
            held.note_given(&slot, &ip);
        });
        self.claims.insert(ip, Claimed { slot, claim, since });
    }

    /// Nobody has a claim on the address any more.
    pub(crate) fn end_claim(&mut self, ip: &IpAddr, now: Time) {
        if let Some(slot) = self.drop_claim(ip) {
            self.change_slot(&slot, |held| held.note_freed(&slot, *ip, now));
            self.sweep(&slot);
        }
    }

    fn drop_claim(&mut self, ip: &IpAddr) -> Option<IpNet> {
        let Claimed { slot, claim, .. } = self.claims.remove(ip)?;
        if let Claim::Cooling { until, .. } = &claim {
            self.cooling.remove(&(*until, *ip));
        }
        self.change_slot(&slot, |held| *held.claims.of(&claim) -= 1);
        Some(slot)
    }

    /// Ends the claims of what has cooled by now; whether there were any.
    pub(crate) fn end_cooling(&mut self, now: Time) -> bool {
        let mut ended = false;
        while let Some((until, ip)) = self.cooling.first().copied()
            && until <= now
        {
            self.end_claim(&ip, now);
            ended = true;
        }
        ended
    }

    /// Claims on addresses of a slot that has come stay with the addresses: they were of a prefix, or of single
    /// addresses, that EC2 took away.
    pub(super) fn move_claims(&mut self, net: &IpNet) {
        let moved: Vec<(IpAddr, Claimed)> = self
            .claims
            .range(net.network()..=net.broadcast())
            .filter(|(_, claimed)| claimed.slot != *net)
            .map(|(ip, claimed)| (*ip, claimed.clone()))
            .collect();
        for (ip, claimed) in moved {
            self.set_claim(ip, *net, claimed.claim, claimed.since);
            self.sweep(&claimed.slot);
        }
        self.note_owned(net);
    }

    /// The books say of each owned address where it is: what is in this slot may have been elsewhere.
    fn note_owned(&mut self, net: &IpNet) {
        let Some(eni) = self.slots.get(net) else {
            return;
        };
        let claims = self.claims.range(net.network()..=net.broadcast());
        for (ip, claimed) in claims.filter(|(_, claimed)| claimed.slot == *net) {
            let Claim::Owned(sandbox) = &claimed.claim else {
                continue;
            };
            let Some(owner) = self.owners.get_mut(sandbox) else {
                continue;
            };
            let is_there = |it: &AddressEntry| it.slot == *net && it.eni == *eni;
            let mut known = owner.entry.addresses.iter();
            if known.any(|it| it.address == *ip && is_there(it)) {
                continue;
            }
            let entry = Arc::make_mut(&mut owner.entry);
            for it in entry.addresses.iter_mut().filter(|it| it.address == *ip) {
                it.slot = *net;
                it.eni = eni.clone();
            }
        }
    }
}
