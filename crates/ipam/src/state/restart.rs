//! The start: what the books say, and whether it can be believed before EC2 has been asked.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::subnets::Survey;
use super::{Intent, Phase, State, Tombstone, TornDown};
use crate::pool::{Claim, Eni, Holding, Life};
use crate::{
    AddressEntry, CallId, EniEntry, EniId, EniIntent, IntentStage, Ledger, SeenEni, Subnets, Time,
};

impl State {
    pub(super) fn start(&mut self, books: Option<Ledger>, seen: Option<&[SeenEni]>) {
        if self.phase != Phase::New {
            return;
        }
        self.phase = Phase::Loading;
        let Some(ledger) = books else {
            return;
        };
        let agreed = seen.is_some_and(|seen| {
            let leaving = ledger.tombstones.iter().map(|it| it.slot);
            agree(&ledger.enis, &leaving.collect(), seen)
        });
        self.version = ledger.version;
        self.requested = ledger.version;
        self.written = ledger.version;
        let held: Vec<(EniId, IpNet)> = ledger
            .enis
            .iter()
            .filter(|eni| eni.link.is_some())
            .flat_map(|eni| eni.slots.iter().map(|net| (eni.id.clone(), *net)))
            .collect();
        self.restore(ledger);
        self.freed
            .extend(self.pool.cooled_at().map(|(_, address)| *address));
        if !agreed {
            return;
        }
        // The books were right when they were written, and IMDS shows the same still: pods need not wait for EC2.
        // What was under way is asked about meanwhile.
        self.phase = Phase::Running;
        self.preparation.due = Some(self.now);
        for (id, net) in held {
            self.pool.hold(&id, net, self.now);
        }
        // What pods have and the books do not say is held, EC2 had taken away before.
        let lost: Vec<IpNet> = self
            .pool
            .enis()
            .flat_map(|(_, eni)| eni.slots())
            .filter(|(_, slot)| slot.holding == Holding::Unconfirmed)
            .map(|(net, _)| *net)
            .collect();
        for net in &lost {
            self.pool.lose(net);
        }
        let settled_by = Some(CallId(1));
        for intent in &mut self.intents {
            intent.unsettled = settled_by;
        }
        if self.tombstones.values().any(|it| it.given_back.is_none()) {
            self.doubt();
        }
    }

    /// Whether IMDS shows what the pool holds. Where it does not for longer than it lags, [`Event::Doubt`](crate::Event::Doubt) is due.
    #[must_use]
    pub fn agrees_with(&self, seen: &[SeenEni]) -> bool {
        let enis: Vec<EniEntry> = self.eni_entries().collect();
        agree(&enis, &self.tombstones.keys().copied().collect(), seen)
    }

    fn restore(&mut self, ledger: Ledger) {
        let now = self.now;
        let confirmed = Life::SettingUp { asked: false };
        for entry in &ledger.enis {
            let life = match (&entry.link, entry.managed) {
                (None, _) => Life::Absent,
                (Some(_), false) => Life::Unmanaged,
                (Some(_), true) => confirmed,
            };
            let mut eni = Eni::new(entry.place, entry.link.clone(), life, now);
            eni.groups.clone_from(&entry.groups);
            self.pool.insert_eni(entry.id.clone(), eni);
            for net in &entry.slots {
                self.pool.restore(&entry.id, *net, now);
            }
        }
        for entry in ledger.grants {
            for address in &entry.addresses {
                self.restore_slot(address, now);
            }
            self.pool.restore_owner(entry, ledger.version, now);
        }
        for entry in ledger.cooling {
            self.restore_slot(&entry.address, now);
            let claim = Claim::Cooling {
                last: entry.sandbox,
                pod: entry.pod,
                until: entry.until,
            };
            let AddressEntry { address, slot, .. } = entry.address;
            self.pool.set_claim(address, slot, claim, entry.since);
        }
        for entry in ledger.tombstones {
            if entry.given_back.is_none() {
                self.pool.set_leaving(&entry.slot, true);
            }
            let tombstone = Tombstone {
                eni: entry.eni,
                version: ledger.version,
                given_back: entry.given_back,
            };
            self.tombstones.insert(entry.slot, tombstone);
        }
        self.intents = ledger
            .intents
            .into_iter()
            .map(|entry| Intent::restored(entry, ledger.version))
            .collect();
        // Also one that is only to be deleted: it may have been attached by a call of which nobody knew what came of it.
        let going = self
            .pool
            .enis()
            .filter(|(id, eni)| eni.life != Life::Absent && self.goes(id));
        let going: Vec<EniId> = going.map(|(id, _)| id.clone()).collect();
        for eni in &going {
            self.pool
                .change_eni(eni, |eni| eni.enter(Life::Draining, now));
        }
        if let Subnets::Tagged { .. } = self.settings.subnets {
            self.survey = Survey::restored(ledger.subnets);
        }
        self.see_who_gives();
    }

    /// A claim's slot is there, whatever else the books say.
    fn restore_slot(&mut self, entry: &AddressEntry, now: Time) {
        if self.pool.eni(&entry.eni).is_none() {
            let eni = Eni::new(crate::Place::default(), None, Life::Absent, now);
            self.pool.insert_eni(entry.eni.clone(), eni);
        }
        self.pool.restore(&entry.eni, entry.slot, now);
    }
}

/// Whether IMDS shows just the ENIs of the books, and on each just the slots: those that are on their way out may be
/// there or not.
fn agree(enis: &[EniEntry], leaving: &BTreeSet<IpNet>, seen: &[SeenEni]) -> bool {
    let known: Vec<&EniEntry> = enis.iter().filter(|eni| eni.link.is_some()).collect();
    known.len() == seen.len()
        && known.iter().all(|entry| {
            let Some(link) = &entry.link else {
                return false;
            };
            seen.iter().any(|eni| {
                let ours: BTreeSet<&IpNet> = entry.slots.iter().collect();
                eni.mac == link.mac
                    && eni.place == entry.place
                    && (!entry.managed
                        || eni
                            .slots
                            .iter()
                            .collect::<BTreeSet<_>>()
                            .symmetric_difference(&ours)
                            .all(|net| leaving.contains(net)))
            })
        })
}

impl Intent {
    fn restored(entry: EniIntent, version: crate::BooksVersion) -> Self {
        Self {
            maybe_created: entry.stage == IntentStage::Create,
            token: entry.token,
            subnet: entry.subnet,
            groups: entry.groups,
            ipv4: entry.ipv4,
            ipv6_prefixes: entry.ipv6_prefixes,
            place: entry.place,
            stage: entry.stage,
            since: entry.since,
            version,
            call: None,
            torn_down: TornDown::No,
            // The Describe of a start without agreement settles it.
            unsettled: None,
            setback: None,
        }
    }
}
