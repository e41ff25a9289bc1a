//! What others may read of the pool.

use super::{Intent, Phase, State};
use crate::pool::{Claim, Claimed, Eni, Holding, Life, Pool};
use crate::{
    AddressEntry, AddressView, Call, CoolingEntry, EniEntry, EniId, EniIntent, EniState, EniView,
    IntentStage, Ledger, PendingCallView, PoolView, Refusal, SlotView, Time, Tombstone, Totals,
    WaiterView,
};

impl State {
    /// What the books must say now.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let grants = self.pool.owners().map(|(_, owner)| owner.entry.clone());
        let cooling = self.pool.claims().filter_map(|(ip, claimed)| {
            let Claim::Cooling { last, pod, until } = &claimed.claim else {
                return None;
            };
            Some(CoolingEntry {
                address: self.entry(ip, claimed)?,
                sandbox: last.clone(),
                pod: pod.clone(),
                since: claimed.since,
                until: *until,
            })
        });
        let tombstones = self.tombstones.iter().map(|(slot, it)| Tombstone {
            slot: *slot,
            eni: it.eni.clone(),
            given_back: it.given_back,
        });
        Ledger {
            version: self.version,
            enis: self.eni_entries().collect(),
            grants: grants.collect(),
            cooling: cooling.collect(),
            intents: self.intents.iter().map(Intent::entry).collect(),
            tombstones: tombstones.collect(),
            orphans: self.sweeps.seeks_own(),
            subnets: self.survey.seen.clone(),
        }
    }

    pub(super) fn eni_entries(&self) -> impl Iterator<Item = EniEntry> {
        self.pool.enis().map(|(id, eni)| EniEntry {
            id: id.clone(),
            place: eni.place,
            link: eni.link.clone().filter(|_| eni.life != Life::Absent),
            managed: eni.life != Life::Unmanaged,
            slots: eni
                .slots()
                .filter(|(_, slot)| slot.holding == Holding::Held)
                .map(|(net, _)| *net)
                .collect(),
            groups: eni.groups.clone(),
        })
    }

    fn entry(&self, ip: &std::net::IpAddr, claimed: &Claimed) -> Option<AddressEntry> {
        Some(AddressEntry {
            address: *ip,
            slot: claimed.slot,
            eni: self.pool.eni_id_of(&claimed.slot)?.clone(),
        })
    }

    /// Whether an ADD could be served now, or would only have to wait for growth that can happen.
    ///
    /// # Errors
    ///
    /// The refusal that an ADD would get. A full node gives one too: whoever makes a node's readiness of this
    /// must not let [`Reason::PoolExhausted`](crate::Reason::PoolExhausted) count against it.
    pub fn readiness(&self, now: Time) -> Result<(), Refusal> {
        if self.going {
            return Err(self.refuse_shutting_down());
        }
        if self.phase != Phase::Running {
            return Err(self.refuse_starting());
        }
        if self.disk_setback.is_some() {
            return Err(self.refuse_books());
        }
        let facts = self.facts(self.waiting().saturating_add(1));
        let cooled = self.pool.cooled_at().take_while(|(at, _)| *at <= now);
        let cooled = u32::try_from(cooled.count()).unwrap_or(u32::MAX);
        if facts.waiters <= self.hope(&facts).saturating_add(cooled) {
            Ok(())
        } else {
            Err(self.refuse_no_growth(&facts))
        }
    }

    /// How many addresses there are of each state, IPv4 and IPv6: what [`State::view`] counts, without a look at each.
    #[must_use]
    pub fn totals(&self) -> (Totals, Totals) {
        let total = self.pool.total();
        (total.v4.totals(), total.v6.totals())
    }

    /// The whole pool, as data.
    #[must_use]
    pub fn view(&self) -> PoolView {
        let enis = self.pool.enis().map(|(id, eni)| self.eni_view(id, eni));
        let unseen = self.intents.iter().filter_map(|intent| intent.unseen(self));
        let mut enis: Vec<_> = enis.chain(unseen).collect();
        enis.sort_by(|a, b| (a.place, &a.id).cmp(&(b.place, &b.id)));
        let waiters = self.adds.iter().map(|add| WaiterView {
            sandbox: add.request.sandbox.clone(),
            pod: add.request.pod.clone(),
            since: add.since,
            deadline: add.request.deadline,
        });
        let (ipv4, ipv6) = self.totals();
        PoolView {
            node: self.node.clone(),
            settings: self.settings.clone(),
            mode: self.mode(),
            ipv4,
            ipv6,
            enis,
            waiters: waiters.collect(),
            pending_calls: self.pending_calls(|_| true),
        }
    }

    /// Those of intents, and of the others these.
    pub(super) fn pending_calls(&self, these: impl Fn(&Call) -> bool) -> Vec<PendingCallView> {
        let calls = self.calls.values().filter(|pending| these(&pending.call));
        let calls = calls.map(|pending| PendingCallView {
            action: pending.call.action(),
            eni: pending.call.eni().cloned(),
            since: pending.since,
        });
        let intents = self.intents.iter().filter(|intent| intent.call.is_none());
        let intents = intents.map(|intent| PendingCallView {
            action: intent.next_call().action(),
            eni: intent.stage.eni().cloned(),
            since: intent.since,
        });
        let mut pending: Vec<_> = calls.chain(intents).collect();
        pending.sort_by_key(|call| call.since);
        pending
    }

    fn eni_view(&self, id: &EniId, eni: &Eni) -> EniView {
        let link = eni.link.as_ref();
        let absent = eni.life == Life::Absent;
        let asking = absent
            && eni
                .slots()
                .any(|(_, slot)| slot.holding == Holding::Unconfirmed);
        let state = match eni.life {
            // EC2 has not been asked yet.
            Life::Absent if asking => EniState::SettingUp,
            Life::Absent => EniState::Failed,
            Life::Attaching => EniState::Attaching,
            Life::SettingUp { .. } if eni.trouble.is_some() => EniState::Failed,
            Life::SettingUp { .. } => EniState::SettingUp,
            Life::Ready => EniState::Ready,
            Life::Draining => EniState::Draining,
            Life::Unmanaged => EniState::Unmanaged,
        };
        let trouble = match (eni.life, &eni.trouble) {
            (Life::Absent, _) if !asking => {
                Some("EC2 does not have it on this instance".to_owned())
            }
            (_, trouble) => trouble.as_ref().map(|trouble| trouble.error.clone()),
        };
        let mut slots = Vec::new();
        let mut addresses = Vec::new();
        for (net, slot) in eni.slots() {
            let claims: Vec<_> = self.pool.claims_in(net).collect();
            slots.push(SlotView {
                slot: *net,
                state: Pool::state_of(eni, slot, None),
                claimed: u64::try_from(claims.len()).unwrap_or(u64::MAX),
                since: slot.since,
            });
            if claims.is_empty() && net.prefix_len() == net.max_prefix_len() {
                addresses.push(AddressView {
                    address: net.addr(),
                    state: Pool::state_of(eni, slot, None),
                    since: slot.since,
                    until: None,
                    owner: None,
                    pod: None,
                    prefix: None,
                });
            }
            addresses.extend(claims.into_iter().map(|(ip, claimed)| {
                let (owner, pod, until) = match &claimed.claim {
                    Claim::Stray => (None, None, None),
                    Claim::Owned(sandbox) => {
                        let pod = self
                            .pool
                            .owner(sandbox)
                            .map(|owner| owner.entry.pod.clone());
                        (Some(sandbox.clone()), pod, None)
                    }
                    Claim::Cooling { last, pod, until } => {
                        (last.clone(), Some(pod.clone()), Some(*until))
                    }
                };
                AddressView {
                    address: *ip,
                    state: Pool::state_of(eni, slot, Some(&claimed.claim)),
                    since: claimed.since,
                    until,
                    owner,
                    pod,
                    prefix: Some(*net).filter(|net| net.prefix_len() < net.max_prefix_len()),
                }
            }));
        }
        EniView {
            id: Some(id.clone()),
            place: eni.place,
            mac: link.map(|link| link.mac),
            subnet_id: link.map(|link| link.subnet_id.clone()),
            subnet_cidr: link.map(|link| link.subnet_cidr),
            primary_address: link.map(|link| link.primary_address),
            state,
            since: eni.since,
            trouble,
            slots,
            addresses,
        }
    }
}

impl Intent {
    fn entry(&self) -> EniIntent {
        EniIntent {
            token: self.token.clone(),
            subnet: self.subnet.clone(),
            groups: self.groups.clone(),
            ipv4: self.ipv4,
            ipv6_prefixes: self.ipv6_prefixes,
            place: self.place,
            stage: self.stage.clone(),
            since: self.since,
        }
    }

    fn unseen(&self, state: &State) -> Option<EniView> {
        if !state.is_unseen(self) {
            return None;
        }
        Some(EniView {
            id: self.stage.eni().cloned(),
            place: self.place,
            mac: None,
            subnet_id: Some(self.subnet.clone()),
            subnet_cidr: None,
            primary_address: None,
            state: if self.stage == IntentStage::Create {
                EniState::Creating
            } else {
                EniState::Attaching
            },
            since: self.since,
            trouble: self
                .setback
                .as_ref()
                .map(|setback| setback.error.to_string()),
            slots: Vec::new(),
            addresses: Vec::new(),
        })
    }
}
