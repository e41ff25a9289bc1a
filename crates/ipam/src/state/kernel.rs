//! What the node itself has to do: links and routes.

use std::net::Ipv4Addr;

use super::State;
use crate::pool::{Claim, Holding, Life, Routing};
use crate::{Effect, EniId, EniSetUp, retry};

impl State {
    /// Has links set up and addresses routed, where that is not done, under way or failed just now.
    pub(super) fn work_on_node(&mut self) {
        let now = self.now;
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
