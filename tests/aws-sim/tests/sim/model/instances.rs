//! Steps that launch instances, and that put ENIs on them and take them off.

use super::IMAGE;
use super::histories::Model;
use super::ledger::{ENIS, Held, Place, SLOTS};
use super::steps::{Nic, Step};
use crate::{all, first};

impl Model {
    pub(super) fn run(&mut self, nics: usize, ask: Nic, stay: bool) {
        let (subnet, goes) = (self.setup.subnet.to_string(), (!stay).to_string());
        let (what, count) = match ask {
            Nic::Addresses(count) => ("SecondaryPrivateIpAddressCount", count),
            Nic::Prefixes(count) => ("Ipv4PrefixCount", count),
            Nic::Ipv6(count) => ("Ipv6AddressCount", count),
            Nic::Ipv6Prefixes(count) => ("Ipv6PrefixCount", count),
        };
        let mut params: Vec<(String, String)> = [
            ("ImageId", IMAGE),
            ("InstanceType", "m5.large"),
            ("MinCount", "1"),
            ("MaxCount", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        for index in 0..nics {
            let nic = [
                ("DeviceIndex", index.to_string()),
                ("SubnetId", subnet.clone()),
                ("DeleteOnTermination", goes.clone()),
                (what, count.to_string()),
            ];
            params.extend(
                nic.map(|(name, value)| (format!("NetworkInterface.{}.{name}", index + 1), value)),
            );
        }
        let params: Vec<(&str, &str)> = params
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let (reserved, others) = self.ledger.free_blocks();
        let (open, blocks) = (self.ledger.open().len(), reserved.len() + others.len());
        let body = self.ask("RunInstances", &params);
        let (sure, may) = match ask {
            Nic::Addresses(count) => {
                let fits = count < SLOTS && nics * (count + 1) <= open;
                (fits, fits)
            }
            // Which blocks the primary addresses spoil is EC2's choice.
            Nic::Prefixes(count) => (
                blocks >= nics * (count + 1) && open >= nics * (16 * count + 1),
                blocks >= nics * count && open >= nics,
            ),
            Nic::Ipv6(count) | Nic::Ipv6Prefixes(count) => {
                let fits = count <= SLOTS && nics <= open;
                (fits, fits)
            }
        };
        let done = body.is_ok();
        assert!(!done || may && nics <= ENIS, "{params:?}: {body:?}");
        assert!(done || !sure || nics > ENIS, "{params:?}: {body:?}");
        let Ok(body) = body else { return };
        let instance = first(&body, "instanceId");
        let mut ids = all(&body, "networkInterfaceId");
        ids.dedup();
        assert_eq!(ids.len(), nics, "{body}");
        for id in ids {
            let shown = self.setup.eni(&id);
            let place = Place {
                attachment: first(&shown, "attachmentId"),
                instance: instance.clone(),
                index: first(&shown, "deviceIndex").parse().unwrap(),
                goes: !stay,
                until: None,
            };
            assert_eq!(first(&shown, "deleteOnTermination"), goes);
            let held = Held {
                place: Some(place),
                ..Held::read(&shown)
            };
            let got = [
                held.secondary.len(),
                held.prefixes.len(),
                held.ipv6.len(),
                held.ipv6_prefixes.len(),
            ];
            let expected = match ask {
                Nic::Addresses(count) => [count, 0, 0, 0],
                Nic::Prefixes(count) => [0, count, 0, 0],
                Nic::Ipv6(count) => [0, 0, count, 0],
                Nic::Ipv6Prefixes(count) => [0, 0, 0, count],
            };
            assert_eq!(got, expected);
            self.learn(&id, held);
        }
        self.launched(&instance);
    }

    pub(super) fn place(&mut self, id: &str, step: &Step) {
        match *step {
            Step::Attach {
                instance, index, ..
            } => {
                let Some(instance) = self.instances.keys().nth(instance).cloned() else {
                    return;
                };
                let on = self.ledger.on(&instance);
                let room = on.len() < ENIS && on.iter().all(|place| place.index != index);
                let held = &self.ledger.enis[id];
                let small = held.slots() <= SLOTS && held.ipv6_slots() <= SLOTS;
                let fits = held.place.is_none() && room && small && self.runs(&instance);
                let text = index.to_string();
                let params = [
                    ("NetworkInterfaceId", id),
                    ("InstanceId", &instance),
                    ("DeviceIndex", &text),
                ];
                let body = self.expect("AttachNetworkInterface", &params, fits);
                if let Some(body) = body {
                    let attachment = first(&body, "attachmentId");
                    self.held(id).place = Some(Place {
                        attachment,
                        instance,
                        index,
                        goes: false,
                        until: None,
                    });
                }
            }
            Step::Detach { .. } => {
                let Some(place) = &self.ledger.enis[id].place else {
                    return;
                };
                let fits = place.index != 0 && place.until.is_none() && !self.ends(&place.instance);
                let attachment = place.attachment.clone();
                self.expect(
                    "DetachNetworkInterface",
                    &[("AttachmentId", &attachment)],
                    fits,
                );
                if fits {
                    let until = self.detached_at();
                    self.held(id).place.as_mut().unwrap().until = Some(until);
                }
            }
            Step::Delete { .. } => {
                let fits = self.ledger.enis[id].place.is_none();
                self.expect(
                    "DeleteNetworkInterface",
                    &[("NetworkInterfaceId", id)],
                    fits,
                );
                if fits {
                    self.ledger.enis.remove(id);
                }
            }
            _ => {}
        }
    }
}
