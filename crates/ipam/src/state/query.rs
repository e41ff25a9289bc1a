//! What others may read of the pool.

use super::{Intent, Phase, State};
use crate::pool::{Address, Claim, Eni, Holding, Life, count};
use crate::{
    AddressState, AddressView, CoolingEntry, EniId, EniIntent, EniState, EniView, Grant,
    GrantEntry, IntentStage, Ledger, PendingCallView, PoolView, Refusal, Sandbox, Time, Totals,
    WaiterView,
};

impl State {
    /// What the books must say now.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let mut ledger = Ledger {
            version: self.version,
            ..Ledger::default()
        };
        for (eni_id, eni) in &self.enis {
            for (ip, address) in &eni.addresses {
                match &address.claim {
                    Claim::None | Claim::Stray { .. } => {}
                    Claim::Owned(owner) => ledger.grants.push(GrantEntry {
                        address: *ip,
                        eni: eni_id.clone(),
                        device_index: eni.device_index,
                        sandbox: owner.sandbox.clone(),
                        pod: owner.pod.clone(),
                        network: owner.network.clone(),
                        netns: owner.netns.clone(),
                        since: address.since,
                    }),
                    Claim::Cooling { last, pod, until } => ledger.cooling.push(CoolingEntry {
                        address: *ip,
                        eni: eni_id.clone(),
                        sandbox: last.clone(),
                        pod: pod.clone(),
                        since: address.since,
                        until: *until,
                    }),
                }
            }
        }
        ledger.intents = self.intents.iter().map(Intent::entry).collect();
        ledger
    }

    /// What the sandbox holds, also while its ADD is not answered yet because the books are being written.
    #[must_use]
    pub fn grant_of(&self, sandbox: &Sandbox) -> Option<Grant> {
        let (eni_id, address) = self.owners.get(sandbox)?;
        let eni = self.enis.get(eni_id)?;
        Some(Grant {
            address: *address,
            eni: eni_id.clone(),
            device_index: eni.device_index,
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
        let mut facts = self.facts();
        facts.waiters = facts.waiters.saturating_add(1);
        let cools = self.enis.values().flat_map(|eni| eni.addresses.values());
        let cools = cools.filter(|address| address.free_at().is_some_and(|at| at <= now));
        let available = facts.supply + facts.reach() + count(cools);
        if facts.waiters <= available {
            Ok(())
        } else {
            Err(self.refuse_no_growth(&facts))
        }
    }

    /// The whole pool, as data.
    #[must_use]
    pub fn view(&self) -> PoolView {
        let mut enis: Vec<_> = self.enis.iter().map(|(id, eni)| eni.view(id)).collect();
        enis.extend(self.intents.iter().filter_map(|intent| intent.unseen(self)));
        enis.sort_by(|a, b| (a.device_index, &a.id).cmp(&(b.device_index, &b.id)));
        let waiters = self.adds.iter().map(|add| WaiterView {
            sandbox: add.request.sandbox.clone(),
            pod: add.request.pod.clone(),
            since: add.since,
            deadline: add.request.deadline,
        });
        let calls = self.calls.values().map(|pending| PendingCallView {
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
        let mut pending_calls: Vec<_> = calls.chain(intents).collect();
        pending_calls.sort_by_key(|call| call.since);
        PoolView {
            node: self.node.clone(),
            targets: self.targets,
            totals: self.totals(),
            enis,
            waiters: waiters.collect(),
            pending_calls,
        }
    }

    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for address in self.enis.values().flat_map(|eni| eni.addresses.values()) {
            totals.held += 1;
            match address.state() {
                AddressState::Preparing => totals.preparing += 1,
                AddressState::Free => totals.free += 1,
                AddressState::Owned => totals.owned += 1,
                AddressState::Cooling => totals.cooling += 1,
                AddressState::Quarantined => totals.quarantined += 1,
            }
        }
        totals
    }
}

impl Eni {
    fn view(&self, id: &EniId) -> EniView {
        let link = self.link.as_ref();
        let absent = self.life == Life::Absent;
        let unconfirmed = |address: &Address| address.holding == Holding::Unconfirmed;
        let asking = absent && self.addresses.values().any(unconfirmed);
        let state = match self.life {
            // EC2 has not been asked yet.
            Life::Absent if asking => EniState::SettingUp,
            Life::Absent => EniState::Failed,
            Life::Attaching => EniState::Attaching,
            Life::SettingUp { .. } if self.trouble.is_some() => EniState::Failed,
            Life::SettingUp { .. } => EniState::SettingUp,
            Life::Ready => EniState::Ready,
            Life::Unmanaged => EniState::Unmanaged,
        };
        let trouble = match (self.life, &self.trouble) {
            (Life::Absent, _) if !asking => {
                Some("EC2 does not have it on this instance".to_owned())
            }
            (_, trouble) => trouble.as_ref().map(|trouble| trouble.error.clone()),
        };
        let addresses = self.addresses.iter().map(|(ip, address)| {
            let (owner, pod, until) = match &address.claim {
                Claim::None => (None, None, None),
                Claim::Stray { until } => (None, None, *until),
                Claim::Owned(owner) => (Some(&owner.sandbox), Some(&owner.pod), None),
                Claim::Cooling { last, pod, until } => (Some(last), Some(pod), Some(*until)),
            };
            AddressView {
                address: *ip,
                state: address.state(),
                since: address.since,
                until,
                owner: owner.cloned(),
                pod: pod.cloned(),
            }
        });
        EniView {
            id: Some(id.clone()),
            device_index: self.device_index,
            mac: link.map(|link| link.mac),
            subnet_id: link.map(|link| link.subnet_id.clone()),
            subnet_cidr: link.map(|link| link.subnet_cidr),
            primary_address: link.map(|link| link.primary_address),
            state,
            since: self.since,
            trouble,
            addresses: addresses.collect(),
        }
    }
}

impl Intent {
    fn entry(&self) -> EniIntent {
        EniIntent {
            token: self.token.clone(),
            subnet: self.subnet.clone(),
            groups: self.groups.clone(),
            addresses: self.addresses,
            device_index: self.device_index,
            stage: self.stage.clone(),
            since: self.since,
        }
    }

    /// An ENI of which nothing is known yet but the intent.
    fn unseen(&self, state: &State) -> Option<EniView> {
        let (id, eni_state) = match &self.stage {
            IntentStage::Create => (None, EniState::Creating),
            IntentStage::Attach(eni) if !state.enis.contains_key(eni) => {
                (Some(eni.clone()), EniState::Attaching)
            }
            _ => return None,
        };
        Some(EniView {
            id,
            device_index: self.device_index,
            mac: None,
            subnet_id: Some(self.subnet.clone()),
            subnet_cidr: None,
            primary_address: None,
            state: eni_state,
            since: self.since,
            trouble: self
                .setback
                .as_ref()
                .map(|setback| setback.error.to_string()),
            addresses: Vec::new(),
        })
    }
}
