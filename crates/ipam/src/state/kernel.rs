//! What the node itself has to do: links and routes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::State;
use crate::pool::{Claim, Holding, Life, Routing};
use crate::{Effect, EniId, EniSetUp, Held, retry};

/// How often the kernel is asked whether a pod is still there whose books were lost.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

impl State {
    /// Has the node prepared, links set up and addresses routed, where that is not done, under way or failed
    /// just now.
    pub(super) fn work_on_node(&mut self) {
        let now = self.now;
        if !self.preparation.under_way && self.preparation.due.is_some_and(|due| due <= now) {
            self.preparation.due = None;
            self.preparation.under_way = true;
            self.effects.push(Effect::PrepareNode(self.held()));
        }
        if !self.preparation.done {
            return;
        }
        for (id, eni) in &mut self.enis {
            if eni
                .trouble
                .as_ref()
                .is_some_and(|trouble| trouble.until > now)
            {
                continue;
            }
            match (eni.life, &eni.link) {
                (Life::SettingUp { asked: false }, Some(link)) => {
                    eni.life = Life::SettingUp { asked: true };
                    self.effects.push(Effect::SetUpEni(EniSetUp {
                        eni: id.clone(),
                        mac: link.mac,
                        device_index: eni.device_index,
                        primary_address: link.primary_address,
                        subnet_cidr: link.subnet_cidr,
                    }));
                }
                (Life::Ready, _) => {
                    let mut addresses = Vec::new();
                    for (ip, address) in &mut eni.addresses {
                        if address.holding == Holding::Held && address.routing == Routing::None {
                            address.routing = Routing::Asked;
                            addresses.push(*ip);
                        }
                    }
                    if !addresses.is_empty() {
                        self.effects.push(Effect::RouteAddresses {
                            eni: id.clone(),
                            device_index: eni.device_index,
                            addresses,
                        });
                    }
                }
                _ => {}
            }
        }
    }

    /// What EC2 says that our ENIs hold, by device index.
    fn held(&self) -> Vec<Held> {
        let mut held = BTreeMap::<u32, Vec<Ipv4Addr>>::new();
        for eni in self.enis.values() {
            let addresses = eni.addresses.iter();
            let addresses = addresses.filter(|(_, address)| address.holding == Holding::Held);
            held.entry(eni.device_index)
                .or_default()
                .extend(addresses.map(|(ip, _)| *ip));
        }
        held.retain(|_, addresses| !addresses.is_empty());
        held.into_iter()
            .map(|(device_index, addresses)| Held {
                device_index,
                addresses,
            })
            .collect()
    }

    pub(super) fn node_prepared(&mut self, outcome: Result<Vec<Ipv4Addr>, String>) {
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
    fn find_strays(&mut self, in_use: &[Ipv4Addr]) {
        let now = self.now;
        let cooled = now.after(self.targets.cooldown);
        let mut found = Vec::new();
        let mut left = false;
        for (ip, address) in self.enis.values_mut().flat_map(|eni| &mut eni.addresses) {
            let linked = in_use.contains(ip);
            match &mut address.claim {
                Claim::None if linked => {
                    address.claim = Claim::Stray { until: None };
                    address.since = now;
                    found.push(ip.to_string());
                }
                Claim::Stray { until } if linked => *until = None,
                Claim::Stray { until } => {
                    until.get_or_insert(cooled);
                }
                Claim::None | Claim::Owned(_) | Claim::Cooling { .. } => {}
            }
            left |= matches!(address.claim, Claim::Stray { until: None });
        }
        if left {
            self.preparation.due = Some(now.after(LOOK_AGAIN));
        }
        if !found.is_empty() {
            self.tell(format!(
                "pods have {}, and the books do not know which pods: they keep their addresses, and nobody else \
                 gets them until their links have gone",
                found.join(", ")
            ));
        }
    }

    /// Asks the kernel soon whether pods are gone whose books were lost, if there are any.
    pub(super) fn look_for_strays(&mut self) {
        let mut addresses = self.enis.values().flat_map(|eni| eni.addresses.values());
        if addresses.any(|address| matches!(address.claim, Claim::Stray { until: None })) {
            self.preparation.due = Some(self.now);
        }
    }

    pub(super) fn eni_set_up(&mut self, id: &EniId, outcome: Result<(), String>) {
        let now = self.now;
        let Some(eni) = self.enis.get_mut(id) else {
            return;
        };
        if eni.life != (Life::SettingUp { asked: true }) {
            return;
        }
        match outcome {
            Ok(()) => {
                eni.trouble = None;
                eni.enter(Life::Ready, now);
            }
            Err(why) => {
                eni.life = Life::SettingUp { asked: false };
                self.note_trouble(id, format!("its link could not be set up: {why}"));
            }
        }
    }

    pub(super) fn addresses_routed(
        &mut self,
        id: &EniId,
        addresses: &[Ipv4Addr],
        outcome: Result<(), String>,
    ) {
        let now = self.now;
        let Some(eni) = self.enis.get_mut(id) else {
            return;
        };
        let done = outcome.is_ok();
        for ip in addresses {
            let Some(address) = eni.addresses.get_mut(ip) else {
                continue;
            };
            if address.routing != Routing::Asked {
                continue;
            }
            address.routing = if done { Routing::Done } else { Routing::None };
            if done && matches!(address.claim, Claim::None) {
                address.since = now;
            }
        }
        match outcome {
            Ok(()) => eni.trouble = None,
            Err(why) => self.note_trouble(id, format!("its addresses could not be routed: {why}")),
        }
    }

    fn note_trouble(&mut self, id: &EniId, why: String) {
        self.tell(format!("ENI {id}: {why}; it is tried again"));
        if let Some(eni) = self.enis.get_mut(id) {
            let before = eni.trouble.as_ref();
            eni.trouble = Some(retry::after_local(before, why, self.now, &mut self.jitter));
        }
    }
}
