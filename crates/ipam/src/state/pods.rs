//! ADD, DEL and GC: claims on addresses, and the answers.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::{Add, Farewell, Phase, State};
use crate::pool::{Holding, Pool, Routing};
use crate::{
    AddRequest, AddressState, Answer, BooksVersion, Grant, GrantEntry, GrantedAddress, RequestId,
    Sandbox,
};

/// A GC takes nothing from sandboxes younger than this: a runtime lists its sandboxes before it calls, so
/// one that was added meanwhile is not in its list. After a restart of ipamd all are young.
const YOUNG: Duration = Duration::from_mins(1);

impl State {
    pub(super) fn add(&mut self, request: AddRequest) {
        if self.going {
            let refusal = self.refuse_shutting_down();
            self.answer(request.request, Answer::Refused(refusal));
            return;
        }
        let since = self.now;
        self.turned_away.pop_front();
        self.adds.push(Add { request, since });
    }

    pub(super) fn cancel(&mut self, request: RequestId) {
        self.farewells
            .retain(|farewell| farewell.request != request);
        self.drop_add(request);
    }

    pub(super) fn del(&mut self, request: RequestId, sandbox: &Sandbox) {
        if self.phase == Phase::New {
            let refusal = self.refuse_starting();
            self.answer(request, Answer::Refused(refusal));
            return;
        }
        let waiting: Vec<_> = self
            .adds
            .iter()
            .filter(|add| add.request.sandbox == *sandbox)
            .map(|add| add.request.request)
            .collect();
        for add in waiting {
            let refusal = self.refuse_deleted(sandbox);
            self.refuse_add(add, refusal);
        }
        let released = self.release(sandbox);
        if released.is_none() {
            // It may have been one whose books were lost.
            self.look_for_strays();
        }
        self.farewells.push(Farewell {
            request,
            // A repeated DEL must not overtake the first one on its way to the disk.
            version: self.version,
            answer: Answer::Released(released),
        });
    }

    pub(super) fn gc(&mut self, request: RequestId, network: &str, valid: &[Sandbox]) {
        if self.phase == Phase::New {
            let refusal = self.refuse_starting();
            self.answer(request, Answer::Refused(refusal));
            return;
        }
        let valid: BTreeSet<_> = valid.iter().collect();
        let gone: Vec<_> = self
            .pool
            .owners()
            .filter(|(_, owner)| owner.entry.network == network)
            .filter(|(_, owner)| owner.told.is_some_and(|told| self.now.since(told) >= YOUNG))
            .filter(|(sandbox, _)| !valid.contains(sandbox))
            .map(|(sandbox, _)| sandbox.clone())
            .collect();
        for sandbox in &gone {
            self.release(sandbox);
        }
        self.farewells.push(Farewell {
            request,
            version: self.version,
            answer: Answer::Collected(gone),
        });
    }

    /// Whether the sandbox owns an address and was told so.
    pub(super) fn is_told(&self, sandbox: &Sandbox) -> bool {
        self.pool
            .owner(sandbox)
            .is_some_and(|owner| owner.told.is_some())
    }

    /// Drops an ADD without an answer. What was claimed for it and told to nobody is free again at once.
    pub(super) fn drop_add(&mut self, request: RequestId) {
        let Some(at) = self
            .adds
            .iter()
            .position(|add| add.request.request == request)
        else {
            return;
        };
        let sandbox = self.adds.remove(at).request.sandbox;
        let shared = self.adds.iter().any(|add| add.request.sandbox == sandbox);
        if !shared && !self.is_told(&sandbox) {
            self.release(&sandbox);
        }
    }

    /// Addresses whose pods went in the last step, or before ipamd started: what still knows them as those pods' must
    /// forget it before another pod has them.
    #[must_use]
    pub fn freed(&self) -> &[IpAddr] {
        &self.freed
    }

    /// Ends the sandbox's claims: what it was told of cools, the rest is free at once.
    fn release(&mut self, sandbox: &Sandbox) -> Option<Grant> {
        let told = self.is_told(sandbox);
        let grant = self.grant_of(sandbox);
        let until = told.then(|| self.now.after(self.settings.cooldown));
        self.pool.release(sandbox, until, self.now)?;
        self.changed();
        let grant = grant.filter(|_| told);
        let freed = grant.iter().flat_map(|grant| &grant.addresses);
        self.freed.extend(freed.map(|granted| granted.address));
        grant
    }

    /// Answers the ADDs whose addresses are theirs, routed, and in the books on disk.
    pub(super) fn answer_adds(&mut self) {
        if self
            .adds
            .iter()
            .all(|add| self.pool.owner(&add.request.sandbox).is_none())
        {
            return;
        }
        for add in std::mem::take(&mut self.adds) {
            let sandbox = &add.request.sandbox;
            let told = self.is_told(sandbox);
            match self.standing(sandbox) {
                Standing::Nothing | Standing::Unwritten => self.adds.push(add),
                Standing::Unusable if told => self.adds.push(add),
                Standing::Lost if told => {
                    let refusal = self.refuse_lost(sandbox);
                    self.answer(add.request.request, Answer::Refused(refusal));
                }
                Standing::Lost | Standing::Unusable => {
                    // Nobody was told of it: another address will do.
                    self.release(sandbox);
                    self.adds.push(add);
                }
                Standing::Ready => {
                    let now = self.now;
                    if let Some(owner) = self.pool.owner_mut(sandbox) {
                        // Each time anew: a GC whose list is older than this answer must not take it.
                        owner.told = Some(now);
                    }
                    if let Some(grant) = self.grant_of(sandbox) {
                        self.answer(add.request.request, Answer::Granted(grant));
                    }
                }
            }
        }
    }

    fn standing(&self, sandbox: &Sandbox) -> Standing {
        let Some(owner) = self.pool.owner(sandbox) else {
            return Standing::Nothing;
        };
        let mut usable = true;
        for ip in owner.addresses() {
            let Some(claimed) = self.pool.claim(ip) else {
                return Standing::Lost;
            };
            let Some((_, eni)) = self.pool.eni_of(&claimed.slot) else {
                return Standing::Lost;
            };
            let Some(slot) = eni.slot(&claimed.slot) else {
                return Standing::Lost;
            };
            if Pool::state_of(eni, slot, Some(&claimed.claim)) == AddressState::Quarantined {
                return Standing::Lost;
            }
            usable &= eni.is_up() && slot.holding == Holding::Held && slot.routing == Routing::Done;
        }
        match (usable, owner.version <= self.written) {
            (false, _) => Standing::Unusable,
            (true, false) => Standing::Unwritten,
            (true, true) => Standing::Ready,
        }
    }

    pub(super) fn answer_farewells(&mut self) {
        for farewell in std::mem::take(&mut self.farewells) {
            if farewell.version <= self.written {
                self.answer(farewell.request, farewell.answer);
            } else {
                self.farewells.push(farewell);
            }
        }
    }

    /// Refuses the ADDs whose deadline has come.
    pub(super) fn end_waits(&mut self) {
        let late: Vec<_> = self
            .adds
            .iter()
            .filter(|add| add.request.deadline <= self.now)
            .cloned()
            .collect();
        for add in late {
            self.expect_again();
            let refusal = self.refuse_late(&add);
            self.refuse_add(add.request.request, refusal);
        }
    }

    /// Gives what is free to those that wait, in order of arrival.
    pub(super) fn claim_for_waiters(&mut self) {
        let families = self.settings.families.all();
        for at in 0..self.adds.len() {
            let Some(Add { request, .. }) = self.adds.get(at) else {
                return;
            };
            if self.pool.owner(&request.sandbox).is_some() {
                continue;
            }
            if !self.pool.has_free(families) {
                return;
            }
            let entry = GrantEntry {
                sandbox: request.sandbox.clone(),
                pod: request.pod.clone(),
                network: request.network.clone(),
                netns: request.netns.clone(),
                since: self.now,
                addresses: Vec::new(),
            };
            let version = BooksVersion(self.version.0 + 1);
            if !self.pool.grant(families, entry, version) {
                return;
            }
            self.changed();
        }
    }

    /// Sandboxes that wait for an address and have none yet, in order of arrival.
    pub(super) fn waiters(&self) -> Vec<&Add> {
        if self.adds.is_empty() {
            return Vec::new();
        }
        let mut seen = BTreeSet::new();
        self.adds
            .iter()
            .filter(|add| self.pool.owner(&add.request.sandbox).is_none())
            .filter(|add| seen.insert(&add.request.sandbox))
            .collect()
    }

    /// How many those are.
    pub(super) fn waiting(&self) -> u32 {
        u32::try_from(self.waiters().len()).unwrap_or(u32::MAX)
    }

    /// What the sandbox holds, also while its ADD is not answered yet because the books are being written.
    #[must_use]
    pub fn grant_of(&self, sandbox: &Sandbox) -> Option<Grant> {
        let owner = self.pool.owner(sandbox)?;
        let addresses = owner.addresses().map(|ip| {
            let (eni_id, eni) = self.pool.eni_of(&self.pool.claim(ip)?.slot)?;
            Some(GrantedAddress {
                address: *ip,
                eni: eni_id.clone(),
                place: eni.place,
            })
        });
        Some(Grant {
            addresses: addresses.collect::<Option<_>>()?,
        })
    }
}

/// How it stands with a sandbox's addresses.
enum Standing {
    /// It has none.
    Nothing,
    /// They are not in the books on disk.
    Unwritten,
    /// One is not routed, or its ENI gives none (any more).
    Unusable,
    /// It can be told.
    Ready,
    /// EC2 does not hold one of them.
    Lost,
}
