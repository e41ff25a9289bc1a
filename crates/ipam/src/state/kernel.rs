//! What the node itself has to do: links and routes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::State;
use crate::pool::{Claim, Eni, Holding, Life, Routing, Slot};
use crate::{Effect, EniId, EniSetUp, Held, InKernel, Place, Pod, retry};

/// How often the kernel is asked whether a pod is still there whose books were lost.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

impl State {
    /// Has the node prepared, links set up and slots routed, where that is not done, under way or failed
    /// just now.
    pub(super) fn work_on_node(&mut self) {
        let now = self.now;
        if !self.preparation.under_way && self.preparation.due.is_some_and(|due| due <= now) {
            self.preparation.due = None;
            self.preparation.under_way = true;
            self.effects.push(Effect::PrepareNode(self.held()));
        }
        // What is made or undone meanwhile, a preparation that was planned before would undo or make again.
        if !self.preparation.done || self.preparation.under_way {
            return;
        }
        self.tear_down();
        let total = self.pool.total();
        if self.pool.is_even() && total.v4.unrouted + total.v6.unrouted == 0 {
            return;
        }
        let todo: Vec<EniId> = self
            .pool
            .enis()
            .filter(|(_, eni)| eni.trouble.as_ref().is_none_or(|it| it.until <= now))
            .filter(|(_, eni)| match eni.life {
                Life::SettingUp { asked } => !asked,
                Life::Ready => eni.tally().v4.unrouted + eni.tally().v6.unrouted > 0,
                _ => false,
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in todo {
            self.work_on_eni(id);
        }
    }

    /// What could not be routed, or not any more, may be gone meanwhile: then nothing is wrong with its ENI.
    pub(super) fn end_troubles(&mut self) {
        let over: Vec<EniId> = self
            .pool
            .enis()
            .filter(|(_, eni)| eni.trouble.is_some() && eni.life == Life::Ready)
            .filter(|(_, eni)| {
                eni.slots()
                    .filter(|(_, slot)| slot.holding == Holding::Held)
                    .all(|(_, slot)| match slot.routing {
                        Routing::Asked | Routing::Undoing => false,
                        Routing::None => slot.leaving,
                        Routing::Done => !slot.leaving,
                    })
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in &over {
            self.pool.change_eni(id, |eni| eni.trouble = None);
        }
    }

    fn work_on_eni(&mut self, id: EniId) {
        let Some(eni) = self.pool.eni(&id) else {
            return;
        };
        let place = eni.place;
        if eni.life == Life::Ready {
            let slots: Vec<IpNet> = eni
                .slots()
                .filter(|(_, slot)| slot.holding == Holding::Held && !slot.leaving)
                .filter(|(_, slot)| slot.routing == Routing::None)
                .map(|(net, _)| *net)
                .collect();
            for net in &slots {
                self.pool.set_routing(net, Routing::Asked, self.now);
            }
            self.effects.push(Effect::Route {
                eni: id,
                place,
                slots,
            });
        } else if let Some(set_up) = set_up_of(&id, eni) {
            self.effects.push(Effect::SetUpEni(set_up));
            self.pool
                .change_eni(&id, |eni| eni.life = Life::SettingUp { asked: true });
        }
    }

    /// What was made in the kernel for the pool, and is not being undone; none while the node is being prepared, when
    /// anything may be half-way.
    #[must_use]
    pub fn in_kernel(&self) -> Option<InKernel> {
        if !self.preparation.done || self.preparation.under_way {
            return None;
        }
        let enis = self.pool.enis();
        let enis = enis.filter(|(_, eni)| eni.life == Life::Ready && eni.place != Place::PRIMARY);
        let pods = self.pool.owners();
        Some(InKernel {
            held: self.held_where(|slot| slot.routing == Routing::Done),
            enis: enis.filter_map(|(id, eni)| set_up_of(id, eni)).collect(),
            pods: pods
                .map(|(sandbox, owner)| (sandbox.clone(), owner.addresses().copied().collect()))
                .collect(),
        })
    }

    /// What EC2 says that our ENIs hold, by place; without what leaves.
    fn held(&self) -> Vec<Held> {
        self.held_where(|_| true)
    }

    fn held_where(&self, these: impl Fn(&Slot) -> bool) -> Vec<Held> {
        let mut held = BTreeMap::<Place, Vec<IpNet>>::new();
        for (_, eni) in self
            .pool
            .enis()
            .filter(|(_, eni)| eni.life != Life::Draining)
        {
            let slots = eni
                .slots()
                .filter(|(_, slot)| slot.holding == Holding::Held && !slot.leaving)
                .filter(|(_, slot)| these(slot));
            held.entry(eni.place)
                .or_default()
                .extend(slots.map(|(net, _)| *net));
        }
        held.retain(|_, slots| !slots.is_empty());
        held.into_iter()
            .map(|(place, slots)| Held { place, slots })
            .collect()
    }

    pub(super) fn node_prepared(&mut self, outcome: Result<Vec<IpAddr>, String>) {
        self.preparation.under_way = false;
        match outcome {
            Ok(in_use) => {
                self.preparation.done = true;
                self.preparation.setback = None;
                self.find_strays(&in_use);
            }
            Err(why) => {
                self.tell(format!(
                    "the node's network could not be prepared: {why}; it is tried again"
                ));
                let before = self.preparation.setback.as_ref();
                let setback = retry::after_local(before, why, self.now, &mut self.jitter);
                self.preparation.due = Some(setback.until);
                self.preparation.setback = Some(setback);
            }
        }
    }

    /// Keeps from others what a pod's link has and the books do not know, until the link has gone.
    fn find_strays(&mut self, in_use: &[IpAddr]) {
        let now = self.now;
        let cooled = now.after(self.settings.cooldown);
        let unknown = in_use.iter().filter(|ip| self.pool.claim(ip).is_none());
        self.preparation.strangers = unknown.copied().collect();
        if !self.preparation.strangers.is_empty() {
            self.seek_orphans_without_books();
        }
        self.claim_for_strays();
        let gone: Vec<(IpAddr, IpNet)> = self
            .pool
            .strays()
            .filter(|(ip, _)| !in_use.contains(ip))
            .collect();
        for (ip, slot) in gone {
            let claim = Claim::Cooling {
                last: None,
                pod: Pod::default(),
                until: cooled,
            };
            self.pool.set_claim(ip, slot, claim, now);
            self.freed.push(ip);
            self.changed();
        }
        if self.pool.strays().next().is_some() {
            self.preparation.due = Some(now.after(LOOK_AGAIN));
        }
    }

    /// Slots may come later than the links that have their addresses: a Describe need not show all at once.
    pub(super) fn claim_for_strays(&mut self) {
        let now = self.now;
        let strangers = self.preparation.strangers.iter();
        let found: Vec<(IpAddr, IpNet)> = strangers
            .filter_map(|ip| Some((*ip, self.pool.slot_of(ip)?)))
            .collect();
        if found.is_empty() {
            return;
        }
        for (ip, slot) in &found {
            self.preparation.strangers.remove(ip);
            if self.pool.claim(ip).is_none() {
                self.pool.set_claim(*ip, *slot, Claim::Stray, now);
            }
        }
        self.preparation.due.get_or_insert(now.after(LOOK_AGAIN));
        let found: Vec<String> = found.iter().map(|(ip, _)| ip.to_string()).collect();
        self.tell(format!(
            "pods have {}, and the books do not know which pods: they keep their addresses, and nobody else gets \
             them until their links have gone",
            found.join(", ")
        ));
    }

    /// Asks the kernel soon whether pods are gone whose books were lost, if there are any.
    pub(super) fn look_for_strays(&mut self) {
        if self.pool.strays().next().is_some() {
            self.preparation.due = Some(self.now);
        }
    }

    pub(super) fn eni_set_up(&mut self, id: &EniId, outcome: Result<(), String>) {
        let now = self.now;
        let asked = Life::SettingUp { asked: true };
        if self.pool.eni(id).is_none_or(|eni| eni.life != asked) {
            return;
        }
        match outcome {
            Ok(()) => {
                self.pool.change_eni(id, |eni| {
                    eni.trouble = None;
                    eni.enter(Life::Ready, now);
                });
            }
            Err(why) => {
                self.pool
                    .change_eni(id, |eni| eni.life = Life::SettingUp { asked: false });
                self.note_trouble(id, format!("its link could not be set up: {why}"));
            }
        }
    }

    pub(super) fn routed(&mut self, id: &EniId, slots: &[IpNet], outcome: Result<(), String>) {
        let now = self.now;
        let routing = if outcome.is_ok() {
            Routing::Done
        } else {
            Routing::None
        };
        for net in slots {
            let on = self.pool.eni_of(net).filter(|(on, _)| *on == id);
            let asked = on
                .and_then(|(_, eni)| eni.slot(net))
                .is_some_and(|slot| slot.routing == Routing::Asked);
            if asked {
                self.pool.set_routing(net, routing, now);
            }
        }
        match outcome {
            Ok(()) => drop(self.pool.change_eni(id, |eni| eni.trouble = None)),
            Err(why) => self.note_trouble(id, format!("its slots could not be routed: {why}")),
        }
    }

    pub(super) fn note_trouble(&mut self, id: &EniId, why: String) {
        self.tell(format!("ENI {id}: {why}; it is tried again"));
        let (now, jitter) = (self.now, &mut self.jitter);
        self.pool.change_eni(id, |eni| {
            let before = eni.trouble.as_ref();
            eni.trouble = Some(retry::after_local(before, why, now, jitter));
        });
    }
}

fn set_up_of(id: &EniId, eni: &Eni) -> Option<EniSetUp> {
    let link = eni.link.as_ref()?;
    Some(EniSetUp {
        eni: id.clone(),
        mac: link.mac,
        place: eni.place,
        primary_address: link.primary_address,
        subnet_cidr: link.subnet_cidr,
    })
}
