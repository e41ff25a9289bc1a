//! What people, other controllers and EC2 itself do behind the nodes' backs.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sim::events::{Fragments, Step};
use aws_sim::{Event as Happens, Request};
use ipam::EniId;
use ipnet::IpNet;

use super::Fleet;
use crate::act::Outside;
use crate::cover::Met;
use crate::ec2::{TAG_INSTANCE, TAG_NO_MANAGE};

impl Fleet {
    pub(super) fn outside(&mut self, what: Outside, n: usize, which: usize) {
        if matches!(what, Outside::Stop | Outside::Reboot | Outside::Replace) {
            self.machine(what, n);
            return;
        }
        self.refresh_truth();
        let held = |fleet: &Self| -> BTreeMap<IpNet, (EniId, usize)> {
            let slots = fleet.truth.slots.iter();
            slots
                .map(|(net, (eni, node, _))| (*net, (eni.clone(), *node)))
                .collect()
        };
        let before = held(self);
        let Some((met, event)) = self.event(what, n, which) else {
            return;
        };
        if self.aws.happen(self.sim_now(), &event).is_err() {
            return;
        }
        if let Happens::DetachEni { eni } | Happens::DeleteEni { eni } = &event {
            self.taken_enis.insert(EniId::new(eni.as_str()), self.now);
        }
        self.cover.met(met);
        self.trace
            .note(self.now, 8, || format!("from outside: {event:?}"));
        self.refresh_truth();
        let after = held(self);
        for (net, (eni, node)) in before {
            let still = after.get(&net).is_some_and(|(it, _)| *it == eni);
            if !still {
                self.taken.insert((eni, net), self.now);
                self.is_taken(node, net);
            }
        }
    }

    /// Somebody took a slot away: who had an address of it keeps no more than the bookkeeping.
    fn is_taken(&mut self, n: usize, net: IpNet) {
        let now_owners = &mut self.owners;
        for (serial, owned) in &mut self.nodes[n].owned {
            for ip in owned.addresses.iter().filter(|ip| net.contains(*ip)) {
                owned.lost = true;
                if now_owners.get(ip) == Some(&(n, *serial)) {
                    now_owners.remove(ip);
                }
            }
        }
        self.cooling.retain(|ip, _| !net.contains(ip));
    }

    fn event(&mut self, what: Outside, n: usize, which: usize) -> Option<(Met, Happens)> {
        let subnet = self.subnets[which % self.subnets.len()].as_str().to_owned();
        let enis: Vec<_> = self.aws.enis_of(&self.nodes[n].instance).cloned().collect();
        let eni = enis.get(which % enis.len().max(1));
        let others: Vec<_> = enis
            .iter()
            .filter(|eni| eni.id.as_str() != self.nodes[n].facts.primary_eni.as_str())
            .collect();
        let other = others.get(which % others.len().max(1));
        let id = |eni: &aws_sim::world::Eni| eni.id.as_str().to_owned();
        Some(match what {
            Outside::Steal => {
                let eni = eni?;
                let address = eni.secondary.get(which / 7 % eni.secondary.len().max(1))?;
                let event = Happens::StealAddress {
                    eni: id(eni),
                    address: Some((*address).into()),
                    to: None,
                };
                (Met::OutSteal, event)
            }
            Outside::Unassign => {
                let eni = eni?;
                let single = eni.secondary.iter();
                let single = single.map(|ip| IpNet::from(std::net::IpAddr::V4(*ip)));
                let prefixes = eni.prefixes.iter().map(|net| IpNet::V4(*net));
                let ipv6 = eni.ipv6_prefixes.iter().map(|net| IpNet::V6(*net));
                let all: Vec<IpNet> = single.chain(prefixes).chain(ipv6).collect();
                let event = Happens::Unassign {
                    eni: id(eni),
                    addresses: vec![*all.get(which / 7 % all.len().max(1))?],
                };
                (Met::OutUnassign, event)
            }
            Outside::UnassignAll => {
                let event = Happens::Unassign {
                    eni: id(eni?),
                    addresses: Vec::new(),
                };
                (Met::OutUnassignAll, event)
            }
            Outside::Detach => {
                let other = other?;
                self.left_over
                    .insert(EniId::new(other.id.as_str()), Met::ExOutsideLeak);
                (Met::OutDetach, Happens::DetachEni { eni: id(other) })
            }
            Outside::Delete => (Met::OutDelete, Happens::DeleteEni { eni: id(other?) }),
            Outside::Strip => {
                let other = other?;
                self.foreign
                    .entry(EniId::new(other.id.as_str()))
                    .or_insert(self.now);
                let event = Happens::StripTags {
                    of: id(other),
                    keys: Vec::new(),
                };
                (Met::OutStrip, event)
            }
            Outside::NoManage => {
                let other = other?;
                self.foreign
                    .entry(EniId::new(other.id.as_str()))
                    .or_insert(self.now);
                let event = Happens::AddTags {
                    to: id(other),
                    tags: BTreeMap::from([(TAG_NO_MANAGE.to_owned(), "true".to_owned())]),
                };
                (Met::OutNoManage, event)
            }
            Outside::Fill => {
                let leaving = which % 20;
                (Met::OutFill, Happens::FillSubnet { subnet, leaving })
            }
            Outside::Fragment => {
                let pattern = Fragments::OneInEachPrefix;
                (
                    Met::OutFragment,
                    Happens::FragmentSubnet { subnet, pattern },
                )
            }
            Outside::Empty => (Met::OutEmpty, Happens::EmptySubnet { subnet }),
            Outside::Orphan => {
                let tags = match which % 3 {
                    0 => BTreeMap::new(),
                    1 => BTreeMap::from([(TAG_INSTANCE.to_owned(), "i-0other".to_owned())]),
                    _ => BTreeMap::from([(TAG_NO_MANAGE.to_owned(), "true".to_owned())]),
                };
                let description = "somebody else's".to_owned();
                let event = Happens::CreateOrphan {
                    subnet,
                    tags,
                    description,
                };
                (Met::OutOrphan, event)
            }
            Outside::Attach => {
                self.attach_foreign(n, which);
                return None;
            }
            Outside::Stick => {
                let step = [Step::Attach, Step::Detach][which % 2];
                (Met::OutStick, Happens::Stick { step, eni: None })
            }
            Outside::Unstick => {
                let step = [Step::Attach, Step::Detach][which % 2];
                (Met::OutUnstick, Happens::Unstick { step, eni: None })
            }
            Outside::Regroup => {
                let eni = self.nodes[n].facts.primary_eni.as_str().to_owned();
                let first = which % self.groups.len();
                let many = 1 + which / 7 % 2;
                let groups = self.groups.iter().cycle().skip(first).take(many);
                let groups = groups.cloned().collect();
                (Met::OutGroups, Happens::SetGroups { eni, groups })
            }
            Outside::Clock => {
                let by = Duration::from_secs(u64::try_from(which).unwrap_or(0) * 3);
                let back = which.is_multiple_of(2);
                (Met::OutClock, Happens::StepClock { by, back })
            }
            Outside::Stop | Outside::Reboot | Outside::Replace => return None,
        })
    }

    /// Another controller puts an ENI of its own on the instance.
    fn attach_foreign(&mut self, n: usize, which: usize) {
        let now = self.sim_now();
        let node = &self.nodes[n];
        let subnet = node.facts.subnet_id.as_str().to_owned();
        let instance = node.instance.as_str().to_owned();
        let index = node
            .facts
            .limits
            .enis_per_card
            .first()
            .map_or(1, |most| most - 1)
            .to_string();
        let mut params = vec![("SubnetId", subnet.as_str())];
        let other = [
            ("TagSpecification.1.ResourceType", "network-interface"),
            ("TagSpecification.1.Tag.1.Key", TAG_INSTANCE),
            ("TagSpecification.1.Tag.1.Value", "i-0other"),
        ];
        if which.is_multiple_of(2) {
            params.extend(other);
        }
        let made = aws_sim::call(
            &mut self.aws,
            now,
            &Request::new("CreateNetworkInterface", params),
        );
        let Some(id) = made
            .body
            .split_once("<networkInterfaceId>")
            .and_then(|(_, rest)| rest.split_once('<'))
            .map(|(id, _)| id.to_owned())
        else {
            return;
        };
        let attached = aws_sim::call(
            &mut self.aws,
            now,
            &Request::new(
                "AttachNetworkInterface",
                [
                    ("NetworkInterfaceId", id.as_str()),
                    ("InstanceId", instance.as_str()),
                    ("DeviceIndex", index.as_str()),
                ],
            ),
        );
        if attached.error.is_none() {
            self.cover.met(Met::OutAttach);
            self.trace.note(self.now, 9, || {
                format!("from outside: {id} is attached to node {n} at device index {index}")
            });
        }
    }
}
