//! Whether what is indexed and counted is what it would be if it were made anew.

use std::collections::BTreeMap;

use super::eni::Claims;
use super::{Claim, Eni, Pool, Tally, index};

impl Pool {
    /// Panics where it is not.
    pub(crate) fn check(&self) {
        let mut anew = Self::default();
        for (id, eni) in &self.enis {
            let bare = Eni {
                slots: BTreeMap::new(),
                tally: Tally::default(),
                free: index::FreeSlots::default(),
                ..eni.clone()
            };
            anew.enis.insert(id.clone(), bare);
            for (net, slot) in &eni.slots {
                anew.slots.insert(*net, id.clone());
                let mut slot = slot.clone();
                slot.claims = Claims::default();
                for (_, claimed) in self.claims_in(net) {
                    *slot.claims.of(&claimed.claim) += 1;
                }
                slot.tally = Tally::default();
                slot.free_key = None;
                if let Some(eni) = anew.enis.get_mut(id) {
                    eni.slots.insert(*net, slot);
                }
            }
        }
        anew.claims.clone_from(&self.claims);
        anew.cooling = self
            .claims
            .iter()
            .filter_map(|(ip, claimed)| match claimed.claim {
                Claim::Cooling { until, .. } => Some((until, *ip)),
                Claim::Owned(_) | Claim::Stray => None,
            })
            .collect();
        for (net, id) in anew.slots.clone() {
            anew.reindex(&id, &net);
        }
        assert_eq!(anew.slots, self.slots);
        assert_eq!(anew.cooling, self.cooling);
        assert_eq!(anew.total, self.total);
        assert_eq!(anew.free, self.free);
        let odd = self.enis.values().filter(|eni| eni.is_odd()).count();
        assert_eq!((self.odd, self.is_even()), (odd, odd == 0));
        for (id, eni) in &self.enis {
            assert_eq!(Some(&eni.tally), anew.eni(id).map(|eni| &eni.tally), "{id}");
            assert_eq!(Some(&eni.free), anew.eni(id).map(|eni| &eni.free), "{id}");
        }
        for (ip, claimed) in &self.claims {
            assert!(self.slots.contains_key(&claimed.slot), "{ip} is in no slot");
            if let Claim::Owned(sandbox) = &claimed.claim {
                let owner = self.owners.get(sandbox).expect("an owner");
                assert!(
                    owner.addresses().any(|it| it == ip),
                    "{ip} is not {sandbox}'s"
                );
            }
        }
        for (sandbox, owner) in &self.owners {
            assert_eq!(owner.entry.sandbox, *sandbox);
            for it in &owner.entry.addresses {
                let ip = it.address;
                let claimed = self.claims.get(&ip).expect("a claim");
                assert_eq!(claimed.claim, Claim::Owned(sandbox.clone()), "{ip}");
                let at = (claimed.slot, self.eni_id_of(&claimed.slot));
                assert_eq!((it.slot, Some(&it.eni)), at, "{ip} in the books");
            }
        }
    }
}
