//! Growth: the facts that the planner wants, its plan carried out, and who has no hope.

use std::collections::BTreeSet;

use super::{Intent, Phase, Spot, State};
use crate::planner::{self, Action, Facts, Gate, Room};
use crate::pool::{Address, Eni, Holding, Life, count};
use crate::retry::passes;
use crate::{AddressState, Call, ClientToken, EniId, IntentStage};

impl State {
    pub(super) fn facts(&self) -> Facts {
        let addresses_per_eni = self.node.limits.ipv4_slots_per_eni.saturating_sub(1);
        let mut facts = Facts {
            waiters: count(self.waiters()),
            warm_ip: self.targets.warm_ip,
            minimum_ip: self.targets.minimum_ip,
            supply: 0,
            held: 0,
            max_enis: self.max_enis(),
            enis: 0,
            addresses_per_eni,
            device_indexes: BTreeSet::new(),
            rooms: Vec::new(),
            coming: 0,
            subnet: self.node.subnet_id.clone(),
            new_eni: self
                .gate(&Spot::Create)
                .and(self.gate(&Spot::Subnet(self.node.subnet_id.clone()))),
        };
        let mut rooms = Vec::new();
        for (id, eni) in &self.enis {
            if eni.life != Life::Absent {
                facts.enis += 1;
                facts.device_indexes.insert(eni.device_index);
            }
            let (asked, busy) = self.asked_of(id);
            let held = eni.held() + asked;
            facts.held += held;
            if eni.is_sound() {
                facts.supply += asked + count(eni.addresses.values().filter(|a| is_supply(a)));
            }
            if eni.is_ours() {
                rooms.push((
                    eni.device_index,
                    Room {
                        eni: id.clone(),
                        addresses: addresses_per_eni.saturating_sub(held),
                        gate: self.room_gate(id, eni, busy),
                    },
                ));
            }
        }
        for intent in &self.intents {
            let unseen = match &intent.stage {
                IntentStage::Create => true,
                IntentStage::Attach(eni) => !self.enis.contains_key(eni),
                IntentStage::DeleteOnTermination(..) | IntentStage::Delete(_) => false,
            };
            if unseen {
                facts.enis += 1;
                facts.device_indexes.insert(intent.device_index);
                let setback = intent.setback.as_ref();
                if setback.is_none_or(|setback| passes(setback.error.kind)) {
                    facts.supply += intent.addresses;
                    facts.held += intent.addresses;
                    facts.coming += addresses_per_eni.saturating_sub(intent.addresses);
                }
            }
        }
        rooms.sort_by_key(|(index, _)| *index);
        facts.rooms = rooms.into_iter().map(|(_, room)| room).collect();
        facts
    }

    pub(super) fn max_enis(&self) -> u32 {
        let limit = self.node.limits.max_enis;
        self.targets.max_enis.map_or(limit, |most| most.min(limit))
    }

    /// Addresses that the ENI was asked to take, and whether any change of it is under way.
    pub(super) fn asked_of(&self, id: &EniId) -> (u32, bool) {
        let calls = self
            .calls
            .values()
            .filter(|call| call.call.eni() == Some(id));
        calls.fold((0, false), |(asked, _), call| match call.call {
            Call::AssignAddresses { count, .. } => (asked + count, true),
            _ => (asked, true),
        })
    }

    fn room_gate(&self, id: &EniId, eni: &Eni, busy: bool) -> Gate {
        if eni.trouble.is_some() {
            return Gate::Closed;
        }
        let subnet = eni.link.as_ref().map(|link| link.subnet_id.clone());
        let gate = self.gate(&Spot::Assign(id.clone()));
        let gate = subnet.map_or(gate, |subnet| gate.and(self.gate(&Spot::Subnet(subnet))));
        if busy || eni.unsettled.is_some() || eni.life == Life::Attaching {
            gate.and(Gate::Busy)
        } else {
            gate
        }
    }

    fn gate(&self, spot: &Spot) -> Gate {
        match self.setbacks.get(spot) {
            Some(setback) if setback.until > self.now => {
                if passes(setback.error.kind) {
                    Gate::Busy
                } else {
                    Gate::Closed
                }
            }
            _ => Gate::Open,
        }
    }

    /// Carries the plan out: calls that need no intent at once, the others once their intent is on disk.
    pub(super) fn grow(&mut self) {
        if self.phase != Phase::Running {
            return;
        }
        for action in planner::plan(&self.facts()) {
            match action {
                Action::Assign { eni, addresses } => {
                    let count = addresses;
                    self.call(Call::AssignAddresses { eni, count });
                }
                Action::Create {
                    subnet,
                    device_index,
                    addresses,
                } => {
                    let token = self.token();
                    let version = self.changed();
                    self.intents.push(Intent {
                        token,
                        subnet,
                        groups: self.node.security_groups.clone(),
                        addresses,
                        device_index,
                        stage: IntentStage::Create,
                        since: self.now,
                        version,
                        call: None,
                        maybe_created: false,
                        unsettled: None,
                        setback: None,
                    });
                }
            }
        }
    }

    /// Unique: no boot has the id of another; a token is used only when the books are on disk, whose version does
    /// not come again; and where the books are lost, time has gone on. At most 64 characters, as EC2 wants it,
    /// with a boot id of 36.
    pub(super) fn token(&mut self) -> ClientToken {
        let version = self.changed();
        ClientToken::new(format!(
            "weir-{}-{:x}-{:x}",
            self.boot_id, self.now.0, version.0
        ))
    }

    /// Refuses waiters that nothing in sight can serve by their deadline.
    pub(super) fn refuse_hopeless(&mut self) {
        if self.phase != Phase::Running || self.adds.is_empty() {
            return;
        }
        let facts = self.facts();
        // What a troubled ENI holds, was asked to take and has room for may still come: its set-up is tried again.
        let mending = self
            .enis
            .iter()
            .filter(|(_, eni)| eni.is_ours() && eni.trouble.is_some())
            .map(|(id, eni)| {
                let (asked, _) = self.asked_of(id);
                let room = match self.gate(&Spot::Assign(id.clone())) {
                    Gate::Closed => 0,
                    Gate::Open | Gate::Busy => {
                        facts.addresses_per_eni.saturating_sub(eni.held() + asked)
                    }
                };
                asked + room + count(eni.addresses.values().filter(|a| is_supply(a)))
            })
            .sum::<u32>();
        let mut hope = facts.supply + facts.reach() + mending;
        let mut cooling: Vec<_> = self
            .enis
            .values()
            .filter(|eni| eni.is_ours())
            .flat_map(|eni| eni.addresses.values())
            .filter(|address| address.holding == Holding::Held)
            .filter_map(Address::free_at)
            .collect();
        cooling.sort_unstable();
        let mut cooling = cooling.into_iter().peekable();
        let mut hopeless = BTreeSet::new();
        for add in self.waiters() {
            if hope > 0 {
                hope -= 1;
            } else if cooling.next_if(|at| *at < add.request.deadline).is_none() {
                hopeless.insert(add.request.sandbox.clone());
            }
        }
        let refused: Vec<_> = self
            .adds
            .iter()
            .filter(|add| hopeless.contains(&add.request.sandbox))
            .map(|add| add.request.request)
            .collect();
        if refused.is_empty() {
            return;
        }
        let refusal = self.refuse_no_growth(&facts);
        for request in refused {
            self.refuse_add(request, refusal.clone());
        }
    }
}

impl Gate {
    /// Both must let through.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Closed, _) | (_, Self::Closed) => Self::Closed,
            (Self::Busy, _) | (_, Self::Busy) => Self::Busy,
            (Self::Open, Self::Open) => Self::Open,
        }
    }
}

fn is_supply(address: &Address) -> bool {
    matches!(
        address.state(),
        AddressState::Free | AddressState::Preparing
    ) && address.holding == Holding::Held
}
