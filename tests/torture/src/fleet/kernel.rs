//! The kernel of a node, as sets: what ipamd's effects leave in it.

use std::net::IpAddr;

use aws_sim::world::AttachmentStatus;
use ipam::{EniId, EniSetUp, Event, Held, Place};
use ipnet::IpNet;

use super::{Fleet, Job};
use crate::cover::Met;

/// How long ipamd waits for the link of an ENI.
const LINK_PATIENCE: u64 = 30_000;

/// A change of the kernel that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Host {
    Prepare(Vec<Held>),
    /// With when it was asked for.
    SetUp(EniSetUp, u64),
    TearDown(EniId, Place, Vec<IpNet>),
    Route(EniId, Place, Vec<IpNet>),
    Unroute(EniId, Place, Vec<IpNet>),
}

impl Fleet {
    pub(super) fn begin_host(&mut self, n: usize, host: Host) {
        let node = &mut self.nodes[n];
        let life = node.life;
        // One after the other, but for the wait for a link.
        let at = if matches!(host, Host::SetUp(..)) {
            self.now + node.delay(1, 200)
        } else {
            node.host_free_at = self.now.max(node.host_free_at) + node.delay(1, 20);
            node.host_free_at
        };
        node.next_host += 1;
        let id = node.next_host;
        node.hosting.insert(id, host);
        self.push(at, Job::Host(n, life, id));
    }

    pub(super) fn host_done(&mut self, n: usize, id: u64) {
        let Some(host) = self.nodes[n].hosting.remove(&id) else {
            return;
        };
        let outcome = self.change_kernel(n, &host);
        if let (Host::SetUp(_, asked), Err(_)) = (&host, &outcome)
            && self.now < asked + LINK_PATIENCE
            && self.now >= self.nodes[n].kernel.refuses_until
        {
            let node = &mut self.nodes[n];
            let life = node.life;
            node.hosting.insert(id, host);
            self.push(self.now + 500, Job::Host(n, life, id));
            return;
        }
        let event = match host {
            Host::Prepare(_) => Event::NodePrepared(outcome.map(|()| self.links_of_pods(n))),
            Host::SetUp(EniSetUp { eni, .. }, _) => Event::EniSetUp { eni, outcome },
            Host::TearDown(eni, ..) => Event::EniTornDown { eni, outcome },
            Host::Route(eni, _, slots) => Event::Routed {
                eni,
                slots,
                outcome,
            },
            Host::Unroute(eni, _, slots) => Event::Unrouted {
                eni,
                slots,
                outcome,
            },
        };
        self.step(n, event);
    }

    pub(super) fn change_kernel(&mut self, n: usize, host: &Host) -> Result<(), String> {
        self.aws.advance(self.sim_now());
        let now = self.now;
        let node = &mut self.nodes[n];
        if now < node.kernel.refuses_until {
            self.cover.met(Met::FaultHost);
            return Err("the kernel refuses".to_owned());
        }
        let kernel = &mut node.kernel;
        match host {
            Host::Prepare(held) => {
                kernel.routes = held
                    .iter()
                    .flat_map(|held| held.slots.iter().map(|net| (*net, held.place)))
                    .collect();
            }
            Host::SetUp(EniSetUp { eni, place, .. }, _) => {
                let there = self.aws.enis_of(&node.instance).any(|it| {
                    let at = it.attachment.as_ref();
                    it.id.as_str() == eni.as_str()
                        && at.is_some_and(|at| {
                            at.status == AttachmentStatus::Attached
                                && at.device_index == place.device_index
                                && at.card == place.card
                        })
                });
                if !there {
                    self.cover.met(Met::FaultNoLink);
                    return Err("the link did not come".to_owned());
                }
                let before = kernel.links.insert(*place, eni.clone());
                if before.is_some_and(|before| before != *eni) {
                    // Another ENI's link was there. It is gone, and with it the routes by it.
                    kernel.routes.retain(|_, at| at != place);
                }
            }
            Host::TearDown(eni, place, slots) => {
                for net in slots {
                    kernel.routes.remove(net);
                }
                if kernel.links.get(place) == Some(eni) {
                    kernel.links.remove(place);
                }
            }
            Host::Route(_, place, slots) => {
                kernel.routes.extend(slots.iter().map(|net| (*net, *place)));
            }
            Host::Unroute(_, _, slots) => {
                for net in slots {
                    kernel.routes.remove(net);
                }
            }
        }
        Ok(())
    }

    fn links_of_pods(&self, n: usize) -> Vec<IpAddr> {
        let pods = self.nodes[n].pods.iter();
        pods.flat_map(|slot| slot.link.iter().copied()).collect()
    }
}
