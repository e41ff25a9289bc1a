//! Nothing goes wrong any more, and time passes: then all must be well.

use aws_sim::Event as Happens;
use aws_sim::events::Step;
use ipam::{AddressState, EniId, EniState, Event, Families, Warm};
use ipnet::IpNet;

use super::Fleet;
use crate::cover::Met;
use crate::ec2::{TAG_INSTANCE, TAG_TOKEN};
use crate::node::Phase;

/// After so long, all is as the settings want it.
const SETTLED: u64 = 45 * 60_000;
/// And for so long, nothing is asked for any more.
const STILL: u64 = 15 * 60_000;

impl Fleet {
    pub(super) fn quiet(&mut self) {
        self.end_troubles();
        for n in 0..self.nodes.len() {
            self.end_half_things(n);
        }
        self.pass(SETTLED / 3);
        self.serve(1);
        for n in 0..self.nodes.len() {
            self.gc(n);
        }
        self.pass(SETTLED);
        if self.broken.is_some() {
            return;
        }
        let before: Vec<u64> = (0..self.nodes.len()).map(|n| self.calls_of(n)).collect();
        self.pass(STILL);
        for (n, before) in before.into_iter().enumerate() {
            let full = self.left_in_subnet(n) < 60;
            if self.broken.is_none() && self.calls_of(n) > before && !full {
                let what = format!("node {n} still calls EC2 after an hour of quiet");
                self.fail(6, what);
            }
        }
        self.check_leaks();
        for n in 0..self.nodes.len() {
            self.check_size(n);
            self.check_groups(n);
            self.audit(n, None);
        }
        self.cover.met(Met::QuietReached);
        self.serve(2);
    }

    fn end_troubles(&mut self) {
        self.aws.faults.clear();
        self.outage_until = 0;
        let now = self.sim_now();
        for step in [Step::Create, Step::Attach, Step::Detach] {
            let event = Happens::Unstick { step, eni: None };
            self.aws.happen(now, &event).ok();
        }
        for subnet in self.subnets.clone() {
            let subnet = subnet.as_str().to_owned();
            self.aws.happen(now, &Happens::EmptySubnet { subnet }).ok();
        }
        for node in &mut self.nodes {
            node.crash = None;
            node.disk.trouble = None;
            node.kernel.refuses_until = 0;
            node.imds_gone_until = 0;
            node.mode = None;
        }
        self.clear_away();
        // Until all machines are up.
        for _ in 0..40 {
            if self.nodes.iter().any(|node| node.state.is_none()) {
                self.pass(10_000);
            }
        }
        for n in 0..self.nodes.len() {
            self.step(n, Event::SetMode(None));
            self.step(n, Event::Draining(false));
            self.step(n, Event::PodsBound(0));
        }
    }

    /// Somebody deletes what is left over for good, or it fills the subnets: then no machine could be replaced.
    fn clear_away(&mut self) {
        let now = self.sim_now();
        self.aws.advance(now);
        let left = self.aws.enis().filter(|eni| {
            eni.attachment.is_none()
                && (!eni.tags.contains_key(TAG_INSTANCE)
                    || self.left_over.contains_key(&EniId::new(eni.id.as_str())))
        });
        let left: Vec<String> = left.map(|eni| eni.id.as_str().to_owned()).collect();
        for eni in left {
            self.aws.happen(now, &Happens::DeleteEni { eni }).ok();
        }
    }

    /// Runtimes clear away what did not come up, and what lost its address.
    fn end_half_things(&mut self, n: usize) {
        self.pass(60_000);
        let node = &self.nodes[n];
        let over = node.pods.iter().enumerate().filter(|(_, slot)| {
            let owned = node.owned.get(&slot.serial);
            slot.phase == Phase::Refused
                || (slot.phase == Phase::Running && owned.is_none_or(|it| it.stray || it.lost))
        });
        let over: Vec<usize> = over.map(|(at, _)| at).collect();
        for at in over {
            self.pods_go(n, at, 1);
        }
        self.replay_spool(n);
        self.gc(n);
    }

    /// A pod comes to each node that has room for one, and is served.
    fn serve(&mut self, pods: usize) {
        let mut served = Vec::new();
        for n in 0..self.nodes.len() {
            let room = self.room(n);
            if room < pods + 1 {
                self.cover.met(Met::QuietFull);
                continue;
            }
            let first = self.nodes[n].next_serial;
            self.pods_come(n, pods, 60_000);
            served.push((n, first));
        }
        self.pass(61_000);
        for (n, first) in served {
            let node = &self.nodes[n];
            let refused = node
                .pods
                .iter()
                .find(|slot| slot.serial > first && slot.phase == Phase::Refused);
            let refused = refused.map(|slot| slot.serial);
            if let Some(serial) = refused.filter(|_| self.broken.is_none()) {
                let what = format!("node {n} refuses {serial} in quiet, with room for it");
                self.fail(7, what);
            }
            self.cover.met(Met::QuietGrants);
        }
    }

    /// How many more pods the instance could hold, whatever is held now; a careful guess.
    fn room(&self, n: usize) -> usize {
        let node = &self.nodes[n];
        let limits = &node.facts.limits;
        // Others need addresses too, and what is asked for at once is given at once or not at all.
        if self.left_in_subnet(n) < 60 {
            return 0;
        }
        let most = node.settings.max_enis_per_card.unwrap_or(u32::MAX);
        let enis = limits.enis_per_card.first().map_or(1, |it| *it.min(&most));
        let foreign = self.aws.enis_of(&node.instance).filter(|eni| {
            let id = EniId::new(eni.id.as_str());
            let ours = eni
                .tags
                .get(TAG_INSTANCE)
                .is_some_and(|it| it == node.instance.as_str());
            id != node.facts.primary_eni && (!ours || self.foreign.contains_key(&id))
        });
        let foreign = u32::try_from(foreign.count()).unwrap_or(u32::MAX);
        let slots = limits.ipv4_slots_per_eni.saturating_sub(1);
        let all = enis.saturating_sub(foreign).max(1).saturating_mul(slots);
        let all = match node.settings.families {
            Families::V6 => 1_000,
            Families::V4 | Families::Dual => usize::try_from(all).unwrap_or(usize::MAX),
        };
        let pods = node.pods.iter().filter(|slot| slot.phase != Phase::None);
        let free = node.pods.len() - pods.clone().count();
        all.saturating_sub(pods.count()).min(free)
    }

    fn left_in_subnet(&self, n: usize) -> usize {
        let subnet = self.nodes[n].facts.subnet_id.as_str();
        let subnet = self.aws.subnet(&aws_sim::SubnetId::from(subnet));
        subnet.map_or(0, |it| it.pool.open())
    }

    fn calls_of(&self, n: usize) -> u64 {
        self.nodes[n].calls_made
    }

    /// Rule 5.
    fn check_leaks(&mut self) {
        self.aws.advance(self.sim_now());
        let mut broken = None;
        let mut excused = Vec::new();
        for eni in self.aws.enis() {
            let Some(tag) = eni.tags.get(TAG_INSTANCE) else {
                continue;
            };
            let mut nodes = self.nodes.iter();
            let Some(node) = nodes.find(|node| node.instance.as_str() == tag) else {
                continue;
            };
            let id = EniId::new(eni.id.as_str());
            let Some(state) = &node.state else {
                continue;
            };
            let ledger = state.ledger();
            let known = ledger
                .enis
                .iter()
                .any(|it| it.id == id && it.link.is_some())
                && eni.attachment.is_some();
            if known {
                let goes = eni
                    .attachment
                    .as_ref()
                    .is_some_and(|at| at.delete_on_termination);
                if !goes && !self.foreign.contains_key(&id) {
                    broken = Some(format!("{id} of node {} would outlive it", node.number));
                }
                continue;
            }
            let token = eni.tags.get(TAG_TOKEN);
            if self.foreign.contains_key(&id) {
                excused.push(Met::ExTagged);
            } else if let Some(met) = self.left_over.get(&id) {
                excused.push(*met);
            } else if token.is_some_and(|token| self.given_up.contains(token)) {
                excused.push(Met::ExGivenUpLeak);
            } else {
                broken = Some(format!(
                    "{id}, made for node {}, is {} and the node does not know it",
                    node.number,
                    eni.status()
                ));
            }
        }
        for met in excused {
            self.cover.met(met);
        }
        if let Some(what) = broken {
            self.fail(5, what);
        }
    }

    /// Rule 11.
    fn check_groups(&mut self, n: usize) {
        let node = &self.nodes[n];
        let Some(state) = &node.state else {
            return;
        };
        let view = state.view();
        let ready = view.enis.iter().filter(|eni| eni.state == EniState::Ready);
        let ready: Vec<&EniId> = ready.filter_map(|eni| eni.id.as_ref()).collect();
        let groups_of = |eni: &aws_sim::world::Eni| {
            let mut groups = eni.groups.clone();
            groups.sort_unstable();
            groups
        };
        let Some(primary) = self.aws.primary_eni(&node.instance) else {
            return;
        };
        let wanted = groups_of(primary);
        let (mut broken, mut others) = (None, false);
        for eni in self.aws.enis_of(&node.instance) {
            let id = EniId::new(eni.id.as_str());
            if id == node.facts.primary_eni || !ready.contains(&&id) {
                continue;
            }
            // Retagged by others after the last Describe.
            if self.foreign.contains_key(&id) {
                continue;
            }
            let groups = groups_of(eni);
            others |= groups
                .iter()
                .any(|it| self.groups.iter().any(|id| id == it.as_str()));
            if groups != wanted {
                broken = Some(format!(
                    "{id} of node {n} has the groups {groups:?}, and the primary ENI {wanted:?}"
                ));
            }
        }
        if others {
            self.cover.met(Met::QuietGroups);
        }
        if let Some(what) = broken {
            self.fail(11, what);
        }
    }

    /// Rule 8, in coarse bounds: the planner's tests know the tables.
    fn check_size(&mut self, n: usize) {
        if self.broken.is_some() {
            return;
        }
        let node = &self.nodes[n];
        let Some(state) = &node.state else {
            return;
        };
        let view = state.view();
        let limits = &node.facts.limits;
        if node.settings.families == Families::V6 {
            if view.ipv6.free == 0 {
                self.fail(8, format!("node {n} has no free IPv6 address: {view:?}"));
            }
            return;
        }
        let delegation = node.settings.delegation && limits.prefixes;
        let per_eni = u64::from(limits.ipv4_slots_per_eni.saturating_sub(1));
        let unit = if delegation { 16 } else { 1 };
        let free = view.ipv4.free;
        let all = view.ipv4.held;
        // What is left of a prefix on an ENI that is not ours is nobody's.
        let ours = view
            .enis
            .iter()
            .filter(|eni| eni.state != EniState::Unmanaged);
        let addresses = ours.flat_map(|eni| &eni.addresses);
        let unsettled = addresses
            .filter(|it| {
                use AddressState::{Cooling, Leaving, Preparing};
                matches!(it.state, Preparing | Cooling | Leaving)
            })
            .count();
        let owned = view.ipv4.owned;
        // What could go: slots, and ENIs, that nobody has anything of.
        let empty_slots = view
            .enis
            .iter()
            .filter(|eni| eni.state == EniState::Ready)
            .flat_map(|eni| &eni.slots)
            .filter(|it| it.claimed == 0 && matches!(it.slot, IpNet::V4(_)));
        let empty = unit * u64::try_from(empty_slots.count()).unwrap_or(u64::MAX);
        let empty_eni = view.enis.iter().any(|eni| {
            eni.place != ipam::Place::PRIMARY
                && eni.state == EniState::Ready
                && eni
                    .slots
                    .iter()
                    .all(|it| it.claimed == 0 && matches!(it.slot, IpNet::V4(_)))
        });
        let most = match node.settings.warm {
            Warm::Demand(_) => 2 * (16 + owned / 2) + 2 * unit,
            Warm::Targets(targets) => {
                let warm = u64::from(targets.ip.unwrap_or(0));
                let minimum = u64::from(targets.minimum_ip.unwrap_or(0));
                if warm > 0 || minimum > 0 {
                    warm.max(minimum) + 2 * unit
                } else if delegation {
                    unit * (u64::from(targets.prefix.unwrap_or(0)) + 2)
                } else if empty_eni {
                    per_eni * (u64::from(targets.eni.unwrap_or(1)) + 1)
                } else {
                    u64::MAX
                }
            }
        };
        let spare = free.min(empty);
        let wants_one = match node.settings.warm {
            Warm::Demand(_) => true,
            Warm::Targets(targets) => {
                targets.ip.unwrap_or(0) > 0 || targets.minimum_ip.unwrap_or(0) == 0
            }
        };
        let room = self.room(n);
        let max_pods = node.settings.max_pods.map_or(u64::MAX, u64::from);
        if unsettled > 0 {
            let what = format!(
                "node {n} is not at rest after an hour of quiet: {:?}",
                view.ipv4
            );
            self.fail(8, what);
        } else if spare > most {
            let what = format!(
                "node {n} has {spare} to spare, and {most} are enough: {:?} {:?}",
                view.ipv4, node.settings.warm
            );
            self.fail(8, what);
        } else if free == 0 && wants_one && room > 1 && all < max_pods {
            let what = format!("node {n} has none free, and could: {:?}", view.ipv4);
            self.fail(8, what);
        }
    }
}
