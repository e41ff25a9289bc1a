//! What must be true after every step, for the whole fleet.

use std::collections::BTreeSet;
use std::net::IpAddr;

use aws_sim::world::AttachmentStatus;
use ipam::{
    AddressState, Call, EniId, EniState, Family, Grant, GrantedAddress, Mode, PoolView, Reason,
    Refusal, SlotKind, Sweep, Time,
};
use ipnet::IpNet;

use super::Fleet;
use crate::cover::Met;
use crate::ec2::{CLUSTER, TAG_CLUSTER, TAG_INSTANCE, TAG_NO_MANAGE};

/// So many calls in a minute, also when every ENI is stuck on its way in or out, and two for each pod that the node
/// takes.
const BUDGET: usize = 120;
/// So many calls in an hour to look for what is left over and to delete it, also where others leave ENI after ENI.
const SWEEPS: usize = 100;
/// An ENI is left over when it has been attached to nothing for so long: what is between two sightings of it, but for the
/// time that EC2 may lag.
const LEFT: u64 = 5 * 60_000 - 10_000;

impl Fleet {
    /// What EC2 holds for running nodes, by slot.
    pub(super) fn refresh_truth(&mut self) {
        self.aws.advance(self.sim_now());
        if self.truth.revision == Some(self.aws.revision()) {
            return;
        }
        self.truth.revision = Some(self.aws.revision());
        self.truth.slots.clear();
        for node in &self.nodes {
            for eni in self.aws.enis_of(&node.instance) {
                let Some(at) = &eni.attachment else {
                    continue;
                };
                if at.status == AttachmentStatus::Detaching {
                    continue;
                }
                let id = EniId::new(eni.id.as_str());
                let place = ipam::Place {
                    card: at.card,
                    device_index: at.device_index,
                };
                let single = eni.secondary.iter().map(|ip| IpNet::from(IpAddr::V4(*ip)));
                let prefixes = eni.prefixes.iter().map(|net| IpNet::V4(*net));
                let ipv6 = eni.ipv6_prefixes.iter().map(|net| IpNet::V6(*net));
                for net in single.chain(prefixes).chain(ipv6) {
                    self.truth
                        .slots
                        .insert(net, (id.clone(), node.number, place));
                }
            }
        }
    }

    /// Rules 1 to 4 at a grant. Between grants, ownership only ends, so they hold after every step.
    ///
    /// Says whether an address of it was taken away without the node's knowing.
    pub(super) fn check_grant(&mut self, n: usize, serial: u32, grant: &Grant) -> bool {
        self.refresh_truth();
        let families = self.nodes[n].settings.families.all();
        let given = grant.addresses.iter().map(|it| match it.address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        });
        if !given.eq(families.iter().copied()) {
            self.fail(2, format!("node {n} grants {grant:?} for {families:?}"));
        }
        let mut taken = false;
        for it in &grant.addresses {
            taken |= self.check_granted_address(n, serial, it);
        }
        let sandbox = self.nodes[n].sandbox(serial);
        let on_disk = self.nodes[n].disk.ledger().is_some_and(|ledger| {
            let mut grants = ledger.grants.iter();
            grants.any(|entry| {
                entry.sandbox == sandbox
                    && entry.addresses.len() == grant.addresses.len()
                    && entry
                        .addresses
                        .iter()
                        .zip(&grant.addresses)
                        .all(|(disk, granted)| disk.address == granted.address)
            })
        });
        if !on_disk {
            let what = format!("node {n} grants {serial} what is not in the books on disk");
            self.fail(3, what);
        }
        taken
    }

    fn check_granted_address(&mut self, n: usize, serial: u32, it: &GrantedAddress) -> bool {
        let ip = it.address;
        let (slot, found) =
            match slots_of(ip).find_map(|net| Some((net, self.truth.slots.get(&net)?))) {
                Some((net, found)) => (Some(net), Some(found)),
                None => (None, None),
            };
        let untold = slots_of(ip).any(|net| {
            let taken = self.taken.get(&(it.eni.clone(), net));
            let lost = taken.into_iter().chain(self.taken_enis.get(&it.eni)).max();
            lost.is_some_and(|at| !self.was_told_of(n, &it.eni, &net, *at))
        });
        let right = found
            .is_some_and(|(eni, node, place)| *node == n && *eni == it.eni && *place == it.place);
        if !right {
            if untold {
                self.cover.met(Met::ExDisturbed);
                return true;
            }
            let what = format!(
                "node {n} grants {ip} of {} at {}, and EC2 holds it at {found:?}",
                it.eni, it.place
            );
            self.fail(2, what);
            return false;
        }
        if let Some((other, theirs)) = self.owners.get(&ip)
            && (*other, *theirs) != (n, serial)
        {
            let what =
                format!("node {n} grants {ip} to {serial}, and {theirs} of node {other} owns it");
            self.fail(1, what);
            return false;
        }
        if let Some(cooling) = self.cooling.get(&ip).copied()
            && cooling.until > self.now
            && (cooling.node, cooling.serial) != (n, serial)
        {
            let left = cooling.until - self.now;
            let what = format!(
                "node {n} grants {ip} to {serial}, and it cools for {left} ms after {} of node {}",
                cooling.serial, cooling.node
            );
            self.fail(4, what);
            return false;
        }
        let kernel = &self.nodes[n].kernel;
        let set_up = kernel.links.get(&it.place) == Some(&it.eni);
        let routed = slot.is_some_and(|net| kernel.routes.get(&net) == Some(&it.place));
        if (!set_up || !routed) && untold {
            // Given again meanwhile, as part of another slot.
            self.cover.met(Met::ExDisturbed);
            return true;
        }
        if !set_up || !routed {
            let what = format!(
                "node {n} grants {ip} of {}: its link is set up: {set_up}, its route is there: {routed}",
                it.eni
            );
            self.fail(2, what);
        }
        false
    }

    /// Whether the node has been told of what happened to a slot of an ENI then.
    fn was_told_of(&self, n: usize, eni: &EniId, net: &IpNet, then: u64) -> bool {
        let knows = &self.nodes[n].knows;
        // A view tells of a slot only if it is newer than the last that came before the slot's own reply.
        let brought_after = knows.brought.get(net).copied().unwrap_or(0);
        self.was_told(n, eni, then.max(brought_after))
    }

    /// Whether the node has been told of what happened to an ENI then.
    fn was_told(&self, n: usize, eni: &EniId, then: u64) -> bool {
        let knows = &self.nodes[n].knows;
        let until = match knows.changed.contains_key(eni) {
            true => knows.until.get(eni).copied().unwrap_or(0),
            false => knows.all,
        };
        // What happened within the same millisecond may have come after the view.
        until > then
    }

    /// Rules 5, 9 and 10 at a call: what is begun is in the books, there are not too many, and they touch nothing of
    /// others.
    pub(super) fn check_call(&mut self, n: usize, call: &Call) {
        let now = self.now;
        let node = &mut self.nodes[n];
        node.calls_at.retain(|at| at + 60_000 > now);
        node.calls_at.push(now);
        if call.sweeps() {
            node.sweeps_at.retain(|at| at + 3_600_000 > now);
            node.sweeps_at.push(now);
        } else {
            node.calls_made += 1;
        }
        let sweeps = node.sweeps_at.len();
        let (calls, pods) = (node.calls_at.len(), node.pods.len());
        self.most_calls = self.most_calls.max(calls);
        if calls > BUDGET + 2 * pods {
            self.fail(9, format!("node {n} makes {calls} calls within a minute"));
            return;
        }
        if sweeps > SWEEPS {
            self.fail(
                9,
                format!("node {n} makes {sweeps} calls of a sweep within an hour"),
            );
            return;
        }
        let node = &self.nodes[n];
        let busy = node.calls.values().any(|flight| match call.eni() {
            None => !call.changes() && flight.call == *call,
            Some(eni) => flight.call.eni() == Some(eni),
        });
        if busy {
            self.fail(9, format!("node {n} asks twice at once: {call:?}"));
            return;
        }
        self.check_in_books(n, call);
        if let Call::DeleteOrphan { eni } = call {
            self.check_is_left(n, eni);
        } else if let Some(eni) = call.eni() {
            self.check_is_ours(n, eni, call);
        }
    }

    fn check_in_books(&mut self, n: usize, call: &Call) {
        let ledger = self.nodes[n].disk.ledger();
        let intents = ledger.map_or(&[][..], |ledger| &ledger.intents);
        let known = match call {
            Call::DescribeEnis
            | Call::DescribeOrphans(_)
            | Call::DescribeSubnets
            | Call::DeleteOrphan { .. }
            | Call::SetGroups { .. }
            | Call::Assign { .. } => true,
            Call::CreateEni { token, .. } => intents.iter().any(|it| it.token == *token),
            Call::AttachEni { eni, .. }
            | Call::DeleteOnTermination { eni, .. }
            | Call::DetachEni { eni, .. }
            | Call::DeleteEni { eni } => intents.iter().any(|it| it.stage.eni() == Some(eni)),
            Call::Unassign { slots, .. } => {
                let tombstones = ledger.map_or(&[][..], |ledger| &ledger.tombstones);
                let in_books =
                    |net: &IpNet| tombstones.iter().any(|tombstone| tombstone.slot == *net);
                slots.iter().all(in_books)
            }
        };
        if !known {
            let what = format!("node {n} calls what its books on disk do not know: {call:?}");
            self.fail(5, what);
        }
        let slots: Vec<IpNet> = match call {
            Call::Unassign { slots, .. } => {
                self.refresh_truth();
                slots.clone()
            }
            Call::DetachEni { eni, .. } => {
                self.refresh_truth();
                let held = self.truth.slots.iter();
                let held = held.filter(|(_, (id, ..))| id == eni);
                let mut slots: Vec<IpNet> = held.map(|(net, _)| *net).collect();
                slots.sort_unstable();
                slots
            }
            _ => return,
        };
        for (serial, owned) in &self.nodes[n].owned {
            let under = |ip: &&IpAddr| slots.iter().any(|net| net.contains(*ip));
            if let Some(ip) = owned.addresses.iter().find(under)
                && !owned.lost
            {
                let what = format!("node {n} gives {ip} back, which {serial} owns: {call:?}");
                self.fail(3, what);
                return;
            }
        }
        for net in &slots {
            if let Some(ip) = (net.prefix_len() == 32).then(|| net.addr())
                && self
                    .cooling
                    .get(&ip)
                    .is_some_and(|it| it.until > self.now && it.node == n)
            {
                self.fail(4, format!("node {n} gives {ip} back, which cools"));
                return;
            }
            if let Some(place) = self.nodes[n].kernel.routes.get(net) {
                // What it routes to another ENI that held it before is not of this one, which got it unseen.
                let held = self.truth.slots.get(net);
                if held.is_some_and(|(_, node, at)| *node == n && at != place) {
                    self.cover.met(Met::ExDisturbed);
                    continue;
                }
                self.fail(2, format!("node {n} gives {net} back, which it routes"));
                return;
            }
        }
    }

    /// Rule 10 for what is swept: it is our cluster's, nobody keeps it, and nobody has come for it for long.
    fn check_is_left(&mut self, n: usize, eni: &EniId) {
        self.aws.advance(self.sim_now());
        let Some(it) = self.aws.eni(&aws_sim::EniId::from(eni.as_str())) else {
            return;
        };
        let node = &self.nodes[n];
        let tag = |key: &str| it.tags.get(key).map(String::as_str);
        let own = tag(TAG_INSTANCE) == Some(node.instance.as_str());
        let may = match node.settings.sweep {
            Sweep::Off => false,
            Sweep::Own => own,
            Sweep::Cluster(_) => tag(TAG_INSTANCE).is_some(),
        };
        let ours = may && tag(TAG_CLUSTER) == Some(CLUSTER) && tag(TAG_NO_MANAGE).is_none();
        // EC2 refuses what is attached; and what was tagged after the last look was not seen.
        let excused = it.attachment.is_some()
            || self
                .foreign
                .get(eni)
                .is_some_and(|since| *since >= node.knows.loose);
        let idle = self.now.saturating_sub(it.idle_since.as_millis());
        if excused || (ours && idle >= LEFT) {
            return;
        }
        let what = format!(
            "node {n} deletes {eni} as left over; ours: {ours}, for {idle} ms: {:?}",
            it.tags
        );
        self.fail(10, what);
    }

    fn check_is_ours(&mut self, n: usize, eni: &EniId, call: &Call) {
        if *eni == self.nodes[n].facts.primary_eni {
            return;
        }
        self.aws.advance(self.sim_now());
        let Some(it) = self.aws.eni(&aws_sim::EniId::from(eni.as_str())) else {
            return;
        };
        let attached = it
            .attachment
            .as_ref()
            .is_some_and(|at| at.status != AttachmentStatus::Detaching);
        let ours = it
            .tags
            .get(TAG_INSTANCE)
            .is_some_and(|it| it == self.nodes[n].instance.as_str())
            && it.tags.get(TAG_NO_MANAGE).is_none_or(|it| it != "true");
        let excused = match self.foreign.get(eni) {
            // A Describe shows what is attached alone.
            Some(since) => !attached || !self.was_told(n, eni, *since),
            None => false,
        };
        if ours {
            return;
        }
        if excused {
            self.cover.met(Met::ExTagged);
        } else {
            let what = format!("node {n} touches {eni}, which is not its own: {call:?}");
            self.fail(10, what);
        }
    }

    /// Rule 7: nobody is refused what the pool has.
    pub(super) fn check_refusal(&mut self, n: usize, serial: u32, refusal: &Refusal) {
        let full = matches!(
            refusal.reason,
            Reason::PoolExhausted
                | Reason::SubnetExhausted
                | Reason::Ec2Refused
                | Reason::Ec2Throttled
                | Reason::Ec2Unavailable
                | Reason::DeadlineExceeded
                | Reason::EniFailed
        );
        if refusal.reason == Reason::DeadlineExceeded {
            self.cover.met(Met::PodDeadline);
        }
        let node = &self.nodes[n];
        if !full {
            return;
        }
        let Some(state) = &node.state else {
            return;
        };
        if state
            .readiness(node.time(self.now))
            .is_err_and(|it| it.reason == Reason::Starting)
        {
            return;
        }
        // It has one already, and waits for its link.
        if state.grant_of(&node.sandbox(serial)).is_some() {
            return;
        }
        // What was free was its own a moment ago, and on its way to the disk.
        let writes = node.disk.writing.is_some() || node.disk.due;
        if refusal.reason == Reason::DeadlineExceeded && writes {
            return;
        }
        let (ipv4, ipv6) = state.totals();
        let has_free = |family: &Family| match family {
            Family::V4 => ipv4.free > 0,
            Family::V6 => ipv6.free > 0,
        };
        if !node.settings.families.all().iter().all(has_free) {
            return;
        }
        let view = state.view();
        let before = Time(node.time(self.now).0.saturating_sub(1_000));
        let free = |family: &Family| {
            let slots = view.enis.iter().flat_map(|eni| &eni.slots);
            let slots = slots.filter(|it| SlotKind::of(&it.slot).family() == *family);
            let free = slots.filter(|it| it.state == AddressState::Free && it.since <= before);
            free.filter(|it| it.claimed < u64::from(SlotKind::of(&it.slot).addresses()))
                .map(|it| it.slot)
                .collect::<Vec<_>>()
        };
        let families = node.settings.families.all().iter();
        let free: Vec<Vec<IpNet>> = families.map(free).collect();
        if free.iter().all(|free| !free.is_empty()) {
            let what = format!(
                "node {n} refuses {serial} ({}), and {free:?} has a free address since a second",
                refusal.message
            );
            self.fail(7, what);
        }
    }

    /// Rule 3, when ipamd has read its books.
    pub(super) fn check_restored(&mut self, n: usize) {
        let node = &self.nodes[n];
        let Some(state) = &node.state else {
            return;
        };
        let mut broken = None;
        for (serial, owned) in node.owned.iter().filter(|(_, owned)| !owned.stray) {
            let grant = state.grant_of(&node.sandbox(*serial));
            let has = grant.as_ref().map(|grant| {
                let addresses = grant.addresses.iter();
                addresses.map(|it| it.address).collect::<Vec<_>>()
            });
            if has.as_ref() != Some(&owned.addresses) {
                broken = Some(format!(
                    "node {n}: {serial} was granted {:?}, and has {has:?}",
                    owned.addresses
                ));
                break;
            }
        }
        if let Some(what) = broken {
            self.fail(3, what);
        }
    }

    /// The whole pool of a node, now and then: what each address is, and what becomes of it.
    pub(super) fn audit(&mut self, n: usize, before: Option<PoolView>) {
        let Some(state) = &self.nodes[n].state else {
            return;
        };
        let view = state.view();
        self.meet_view(&view);
        self.meet_mode(n, view.mode);
        let mut seen = BTreeSet::new();
        for eni in &view.enis {
            for address in &eni.addresses {
                if !seen.insert(address.address) {
                    let what = format!("node {n} has {} twice", address.address);
                    self.fail(1, what);
                }
            }
        }
        self.check_restored(n);
        if let Some(before) = before {
            self.meet_changes(&before, &view);
        }
    }

    fn meet_mode(&mut self, n: usize, mode: Mode) {
        self.cover.met(match mode {
            Mode::Normal => Met::ModeNormal,
            Mode::AllocateOnly => Met::ModeAllocate,
            Mode::Frozen => Met::ModeFrozen,
        });
        let node = &mut self.nodes[n];
        if node.mode.is_none() && node.last_mode != mode {
            self.cover.met(match mode {
                Mode::Normal => Met::ModeLeft,
                Mode::AllocateOnly => Met::ModeEnteredAllocate,
                Mode::Frozen => Met::ModeEnteredFrozen,
            });
        }
        node.last_mode = mode;
    }

    fn meet_view(&mut self, view: &PoolView) {
        for eni in &view.enis {
            self.cover.met(match eni.state {
                EniState::Creating => Met::EniCreating,
                EniState::Attaching => Met::EniAttaching,
                EniState::SettingUp => Met::EniSettingUp,
                EniState::Ready => Met::EniReady,
                EniState::Draining => Met::EniDraining,
                EniState::Unmanaged => Met::EniUnmanaged,
                EniState::Failed => Met::EniFailed,
            });
            for address in &eni.addresses {
                self.cover.met(match address.state {
                    AddressState::Preparing => Met::AdPreparing,
                    AddressState::Free => Met::AdFree,
                    AddressState::Owned => Met::AdOwned,
                    AddressState::Cooling => Met::AdCooling,
                    AddressState::Quarantined => Met::AdQuarantined,
                    AddressState::Leaving => Met::AdLeaving,
                });
            }
        }
    }

    fn meet_changes(&mut self, before: &PoolView, after: &PoolView) {
        use AddressState::{Cooling, Free, Leaving, Owned, Preparing, Quarantined};
        let states = |view: &PoolView| -> Vec<(IpAddr, AddressState)> {
            let enis = view.enis.iter();
            let mut states: Vec<_> = enis
                .flat_map(|eni| eni.addresses.iter().map(|it| (it.address, it.state)))
                .collect();
            states.sort_unstable();
            states
        };
        let (before, after) = (states(before), states(after));
        let find = |list: &[(IpAddr, AddressState)], ip: IpAddr| {
            let at = list.binary_search_by_key(&ip, |(ip, _)| *ip).ok()?;
            list.get(at).map(|(_, state)| *state)
        };
        let gone = before
            .iter()
            .map(|(ip, state)| (Some(*state), find(&after, *ip)));
        let new = after.iter().filter(|(ip, _)| find(&before, *ip).is_none());
        let new = new.map(|(_, state)| (None, Some(*state)));
        for change in gone.chain(new) {
            let met = match change {
                (Some(Preparing), Some(Free)) => Met::ToPreparingFree,
                (Some(Free), Some(Owned)) => Met::ToFreeOwned,
                (Some(Owned), Some(Cooling)) => Met::ToOwnedCooling,
                (Some(Owned), Some(Free)) => Met::ToOwnedFree,
                (Some(Cooling), Some(Free)) => Met::ToCoolingFree,
                (Some(Free), Some(Leaving)) => Met::ToFreeLeaving,
                (Some(Leaving), None) => Met::ToLeavingGone,
                (None, Some(Preparing)) => Met::ToNewPreparing,
                (Some(Owned), Some(Quarantined)) => Met::ToOwnedQuarantined,
                (Some(Quarantined), None) => Met::ToQuarantinedGone,
                (Some(Quarantined), Some(Cooling)) => Met::ToQuarantinedCooling,
                (Some(Quarantined), Some(Owned)) => Met::ToQuarantinedOwned,
                (Some(Free), None) => Met::ToFreeGone,
                (Some(Free), Some(Preparing)) => Met::ToFreePreparing,
                (Some(Preparing), None) => Met::ToPreparingGone,
                _ => continue,
            };
            self.cover.met(met);
        }
    }
}

/// The slots that an address may be in.
pub(super) fn slots_of(ip: IpAddr) -> impl Iterator<Item = IpNet> {
    let lengths = match ip {
        IpAddr::V4(_) => [32, 28],
        IpAddr::V6(_) => [128, 80],
    };
    lengths
        .into_iter()
        .filter_map(move |length| Some(IpNet::new(ip, length).ok()?.trunc()))
}
