//! ADD, DEL and GC: claims on addresses, and the answers.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Add, Farewell, Phase, State};
use crate::pool::{self, Claim, Holding, Life, Owner, Routing};
use crate::{AddRequest, AddressState, Answer, Grant, RequestId, Sandbox};

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
        // A repeated DEL must not overtake the first one on its way to the disk.
        let version = if released.is_some() || self.is_cooling_for(sandbox) {
            self.version
        } else {
            self.written
        };
        self.farewells.push(Farewell {
            request,
            version,
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
            .enis
            .values()
            .flat_map(|eni| eni.addresses.values())
            .filter_map(|address| address.owner())
            .filter(|owner| owner.network == network)
            .filter(|owner| owner.told.is_some_and(|told| self.now.since(told) >= YOUNG))
            .filter(|owner| !valid.contains(&owner.sandbox))
            .map(|owner| owner.sandbox.clone())
            .collect();
        for sandbox in &gone {
            self.release(sandbox);
        }
        let version = if gone.is_empty() {
            self.written
        } else {
            self.version
        };
        self.farewells.push(Farewell {
            request,
            version,
            answer: Answer::Collected(gone),
        });
    }

    /// Whether the sandbox owns an address and was told so.
    pub(super) fn is_told(&self, sandbox: &Sandbox) -> bool {
        self.owner_of(sandbox)
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

    /// Ends the sandbox's claim: what it was told of cools, the rest is free at once.
    fn release(&mut self, sandbox: &Sandbox) -> Option<Grant> {
        let grant = self.grant_of(sandbox);
        let (eni_id, ip) = self.owners.remove(sandbox)?;
        let until = self.now.after(self.targets.cooldown);
        let eni = self.enis.get_mut(&eni_id)?;
        let address = eni.addresses.get_mut(&ip)?;
        let claim = std::mem::replace(&mut address.claim, Claim::None);
        address.since = self.now;
        let told = match claim {
            Claim::Owned(owner) if owner.told.is_some() => {
                address.claim = Claim::Cooling {
                    last: owner.sandbox,
                    pod: owner.pod,
                    until,
                };
                true
            }
            Claim::Owned(_) | Claim::Cooling { .. } | Claim::Stray { .. } | Claim::None => {
                if address.holding != Holding::Held {
                    eni.addresses.remove(&ip);
                }
                false
            }
        };
        self.changed();
        grant.filter(|_| told)
    }

    fn is_cooling_for(&self, sandbox: &Sandbox) -> bool {
        self.version > self.written
            && self.enis.values().any(|eni| {
                eni.addresses.values().any(
                |address| matches!(&address.claim, Claim::Cooling { last, .. } if last == sandbox),
            )
            })
    }

    pub(super) fn end_cooling(&mut self) {
        let now = self.now;
        let mut ended = false;
        for eni in self.enis.values_mut() {
            for address in eni.addresses.values_mut() {
                if address.free_at().is_some_and(|at| at <= now) {
                    address.claim = Claim::None;
                    address.since = now;
                    ended = true;
                }
            }
        }
        if ended {
            self.sweep();
            self.changed();
        }
    }

    /// Forgets what nobody speaks for any more: neither EC2 nor the books.
    pub(super) fn sweep(&mut self) {
        for eni in self.enis.values_mut() {
            eni.addresses.retain(|_, address| {
                address.holding == Holding::Held || !matches!(address.claim, Claim::None)
            });
        }
        self.enis
            .retain(|_, eni| eni.life != Life::Absent || !eni.addresses.is_empty());
    }

    /// Answers the ADDs whose address is theirs, routed, and in the books on disk.
    pub(super) fn answer_adds(&mut self) {
        for add in std::mem::take(&mut self.adds) {
            let sandbox = &add.request.sandbox;
            let (now, written) = (self.now, self.written);
            let Some((eni, address)) = self.claim_mut(sandbox) else {
                self.adds.push(add);
                continue;
            };
            let routed = eni == Life::Ready && address.routing == Routing::Done;
            let lost = address.state() == AddressState::Quarantined;
            let Claim::Owned(owner) = &mut address.claim else {
                self.adds.push(add);
                continue;
            };
            if lost && owner.told.is_some() {
                let refusal = self.refuse_lost(sandbox);
                self.answer(add.request.request, Answer::Refused(refusal));
            } else if lost {
                // Nobody was told of it: another address will do.
                self.release(sandbox);
                self.adds.push(add);
            } else if routed && owner.version <= written && address.holding == Holding::Held {
                // Each time anew: a GC whose list is older than this answer must not take it.
                owner.told = Some(now);
                if let Some(grant) = self.grant_of(sandbox) {
                    self.answer(add.request.request, Answer::Granted(grant));
                }
            } else {
                self.adds.push(add);
            }
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
            let refusal = self.refuse_late(&add);
            self.refuse_add(add.request.request, refusal);
        }
    }

    /// Gives what is free to those that wait, in order of arrival.
    pub(super) fn claim_for_waiters(&mut self) {
        if self.going {
            return;
        }
        let waiting: Vec<_> = self
            .adds
            .iter()
            .filter(|add| !self.owners.contains_key(&add.request.sandbox))
            .map(|add| add.request.clone())
            .collect();
        for request in waiting {
            // The same sandbox may wait twice.
            if self.owners.contains_key(&request.sandbox) {
                continue;
            }
            let Some((eni_id, ip)) = pool::next_free(&self.enis) else {
                return;
            };
            let version = self.changed();
            let now = self.now;
            let address = self
                .enis
                .get_mut(&eni_id)
                .and_then(|eni| eni.addresses.get_mut(&ip));
            if let Some(address) = address {
                address.since = now;
                address.claim = Claim::Owned(Box::new(Owner {
                    sandbox: request.sandbox.clone(),
                    pod: request.pod,
                    network: request.network,
                    netns: request.netns,
                    version,
                    told: None,
                }));
                self.owners.insert(request.sandbox, (eni_id, ip));
            }
        }
    }

    /// Sandboxes that wait for an address and have none yet, in order of arrival, each with the last of its
    /// requests' deadlines.
    pub(super) fn waiters(&self) -> Vec<&Add> {
        let mut seen = BTreeSet::new();
        self.adds
            .iter()
            .filter(|add| !self.owners.contains_key(&add.request.sandbox))
            .filter(|add| seen.insert(&add.request.sandbox))
            .collect()
    }

    fn claim_mut(&mut self, sandbox: &Sandbox) -> Option<(Life, &mut crate::pool::Address)> {
        let (eni, ip) = self.owners.get(sandbox)?;
        let eni = self.enis.get_mut(eni)?;
        Some((eni.life, eni.addresses.get_mut(ip)?))
    }
}
