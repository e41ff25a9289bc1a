//! Room: what can still be asked for, and where.

use std::iter;

use super::{EniStock, Facts, Gate, Stock, SubnetGates};
use crate::{Families, Family, InstanceLimits, Mode, Place, Settings, SlotKind};

/// Addresses in a /28.
pub(super) const PREFIX: u32 = 16;

/// All that a plan is made of.
#[derive(Clone, Copy)]
pub(super) struct Basis<'a> {
    pub(super) settings: &'a Settings,
    pub(super) limits: &'a InstanceLimits,
    pub(super) facts: &'a Facts,
}

/// Where the next new ENI would be made, and with what.
pub(super) struct Site<'a> {
    pub(super) subnet: &'a SubnetGates,
    pub(super) ipv4: Option<SlotKind>,
    pub(super) ipv6: bool,
    /// Never [`Gate::Closed`].
    pub(super) gate: Gate,
}

impl Facts {
    /// Sandboxes that could be served beyond the supply, now or soon, if EC2 gives what it is not known to refuse.
    ///
    /// Where a sandbox wants an address of each family, the supply is the scarcer one's, and so is the reach.
    #[must_use]
    pub fn reach(&self, settings: &Settings, limits: &InstanceLimits) -> u32 {
        if self.mode == Mode::Frozen {
            return 0;
        }
        let basis = Basis {
            settings,
            limits,
            facts: self,
        };
        let scarcer = |of: &dyn Fn(Family) -> u32| {
            let families = settings.families.all().iter();
            families.map(|family| of(*family)).min().unwrap_or_default()
        };
        let supply = |family| self.stock(family).supply;
        let all = |family| supply(family).saturating_add(basis.room(family));
        scarcer(&all).saturating_sub(scarcer(&supply))
    }

    /// Like [`reach`](Self::reach), if no gate were closed and the mode were normal: what the limits alone allow.
    #[must_use]
    pub fn limit(&self, settings: &Settings, limits: &InstanceLimits) -> u32 {
        let mut open = self.clone();
        open.mode = Mode::Normal;
        open.new_eni = Gate::Open;
        for eni in &mut open.enis {
            (eni.addresses, eni.prefixes, eni.ipv6_prefixes) = <_>::default();
        }
        for subnet in &mut open.subnets {
            (subnet.addresses, subnet.prefixes, subnet.ipv6_prefixes) = <_>::default();
        }
        open.reach(settings, limits)
    }

    fn stock(&self, family: Family) -> &Stock {
        match family {
            Family::V4 => &self.ipv4,
            Family::V6 => &self.ipv6,
        }
    }
}

impl<'a> Basis<'a> {
    pub(super) fn wants_ipv4(self) -> bool {
        self.settings.families != Families::V6
    }

    pub(super) fn wants_ipv6(self) -> bool {
        self.settings.families != Families::V4
    }

    /// Whether IPv4 comes in prefixes.
    pub(super) fn delegation(self) -> bool {
        self.settings.delegation && self.limits.prefixes
    }

    /// What of IPv4 this ENI would be asked for: prefixes, or else addresses. None when both are refused.
    pub(super) fn ipv4_offer(self, eni: &EniStock) -> Option<(SlotKind, Gate)> {
        let prefixes = match self.delegation() {
            true => eni.prefixes,
            false => Gate::Closed,
        };
        [
            (SlotKind::Prefix, prefixes),
            (SlotKind::Address, eni.addresses),
        ]
        .into_iter()
        .find(|(_, gate)| *gate != Gate::Closed)
    }

    /// What of IPv4 an ENI that is being made will be asked for, when it is there.
    pub(super) fn ipv4_coming(self) -> SlotKind {
        let mut subnets = self.facts.subnets.iter();
        if self.delegation() && subnets.any(|subnet| subnet.prefixes != Gate::Closed) {
            SlotKind::Prefix
        } else {
            SlotKind::Address
        }
    }

    /// The first subnet that gives all that is wanted; if none does, one that gives less: addresses for prefixes, or no
    /// IPv6. So prefixes of a later subnet are preferred to addresses of an earlier one: they are sixteen times the
    /// pods.
    pub(super) fn site(self, ipv4: bool, ipv6: bool) -> Option<Site<'a>> {
        if self.facts.new_eni == Gate::Closed {
            return None;
        }
        let kinds: &[Option<SlotKind>] = match (ipv4, self.delegation()) {
            (false, _) => &[None],
            (true, false) => &[Some(SlotKind::Address)],
            (true, true) => &[Some(SlotKind::Prefix), Some(SlotKind::Address)],
        };
        let ipv6: &[bool] = if ipv6 { &[true, false] } else { &[false] };
        let loads = ipv6
            .iter()
            .flat_map(|ipv6| kinds.iter().map(move |ipv4| (*ipv4, *ipv6)))
            .filter(|(ipv4, ipv6)| ipv4.is_some() || *ipv6);
        let mut sites = loads.flat_map(|(ipv4, ipv6)| {
            self.facts.subnets.iter().map(move |subnet| Site {
                subnet,
                ipv4,
                ipv6,
                gate: subnet.gate(ipv4, ipv6),
            })
        });
        let site = sites.find(|site| site.gate != Gate::Closed)?;
        Some(Site {
            gate: site.gate.and(self.facts.new_eni),
            ..site
        })
    }

    /// Where new ENIs can be attached, the best first: card by card, the lowest device indexes. 0 is the primary's on
    /// its card, and on the others nobody's, as aws-node has it.
    pub(super) fn places(self) -> impl Iterator<Item = Place> + use<'a> {
        let cards = match self.settings.all_cards {
            true => usize::MAX,
            false => 1,
        };
        let cards = (0..).zip(self.limits.enis_per_card.iter()).take(cards);
        cards.flat_map(move |(card, limit)| {
            let most = self.settings.max_enis_per_card.unwrap_or(u32::MAX);
            let there = self.facts.enis_per_card.get(&card).copied();
            let new = most.min(*limit).saturating_sub(there.unwrap_or_default());
            (1..)
                .map(move |device_index| Place { card, device_index })
                .filter(|place| !self.facts.taken.contains(place))
                .take(usize::try_from(new).unwrap_or_default())
        })
    }

    /// Addresses that EC2 may still give.
    fn room(self, family: Family) -> u32 {
        match family {
            Family::V4 => self.ipv4_room(),
            Family::V6 if self.limits.slots_for_pods(family) == 0 => 0,
            Family::V6 if self.ipv6_room_there() || self.ipv6_room_new() => u32::MAX,
            Family::V6 => 0,
        }
    }

    fn ipv4_room(self) -> u32 {
        let enis = self.facts.enis.iter().filter_map(|eni| {
            let (kind, _) = self.ipv4_offer(eni)?;
            Some((kind, eni.ipv4_room))
        });
        let kind = self.ipv4_coming();
        let coming = self.facts.coming.iter().map(|eni| (kind, eni.ipv4_room));
        // The first new ENI brings IPv6 where nothing else does.
        let ipv6_short = self.wants_ipv6() && self.facts.ipv6.supply == 0;
        let ipv6 = iter::once(ipv6_short && !self.ipv6_room_there()).chain(iter::repeat(false));
        let new = self.places().zip(ipv6).map_while(|(_, ipv6)| {
            let kind = self.site(true, ipv6)?.ipv4?;
            Some((kind, self.limits.slots_for_pods(Family::V4)))
        });
        enis.chain(coming)
            .chain(new)
            .map(|(kind, slots)| slots.saturating_mul(kind.addresses()))
            .fold(0, u32::saturating_add)
    }

    /// Whether an ENI that is there or being made takes a /80.
    fn ipv6_room_there(self) -> bool {
        let mut enis = self.facts.enis.iter();
        let mut coming = self.facts.coming.iter();
        enis.any(|eni| eni.ipv6_room > 0 && eni.ipv6_prefixes != Gate::Closed)
            || coming.any(|eni| eni.ipv6_room > 0)
    }

    /// Whether an ENI with a /80 can be made.
    fn ipv6_room_new(self) -> bool {
        self.places().next().is_some() && self.site(false, true).is_some()
    }
}

impl SubnetGates {
    /// For a new ENI with these: it needs an address of its own in any case.
    fn gate(&self, ipv4: Option<SlotKind>, ipv6: bool) -> Gate {
        let ipv4 = match ipv4 {
            Some(SlotKind::Prefix) => self.addresses.and(self.prefixes),
            _ => self.addresses,
        };
        match ipv6 {
            true => ipv4.and(self.ipv6_prefixes),
            false => ipv4,
        }
    }
}

impl Stock {
    /// With so many slots more, on the way.
    pub(super) fn with(self, kind: SlotKind, count: u32) -> Self {
        let addresses = count.saturating_mul(kind.addresses());
        let prefixes = if kind == SlotKind::Address { 0 } else { count };
        Self {
            supply: self.supply.saturating_add(addresses),
            addresses: self.addresses.saturating_add(addresses),
            prefixes: self.prefixes.saturating_add(prefixes),
            empty_prefixes: self.empty_prefixes.saturating_add(prefixes),
            ..self
        }
    }

    /// Without so many empty slots.
    pub(super) fn without(self, kind: SlotKind, count: u32) -> Self {
        self.minus(&Self::default().with(kind, count))
    }

    /// Without what an ENI has.
    pub(super) fn minus(self, eni: &Self) -> Self {
        Self {
            supply: self.supply.saturating_sub(eni.supply),
            addresses: self.addresses.saturating_sub(eni.addresses),
            owned: self.owned.saturating_sub(eni.owned),
            cooling: self.cooling.saturating_sub(eni.cooling),
            prefixes: self.prefixes.saturating_sub(eni.prefixes),
            empty_prefixes: self.empty_prefixes.saturating_sub(eni.empty_prefixes),
        }
    }

    /// Addresses that somebody has, or had of late.
    pub(super) fn claims(&self) -> u32 {
        self.owned.saturating_add(self.cooling)
    }
}

impl EniStock {
    /// Slots of a kind of IPv4 that can be given back. What is no supply, on an ENI in trouble, is not too much of it.
    pub(super) fn empty(&self, kind: SlotKind) -> u32 {
        match kind {
            _ if self.ipv4.supply == 0 => 0,
            SlotKind::Prefix => self.ipv4.empty_prefixes,
            _ => self.empty_slots.saturating_sub(self.ipv4.empty_prefixes),
        }
    }

    /// Addresses of both families that somebody has, or had of late: until these have gone, it can't.
    pub(super) fn claims(&self) -> u32 {
        self.ipv4.claims().saturating_add(self.ipv6.claims())
    }

    /// Whether all that it has can be given back.
    pub(super) fn is_idle(&self) -> bool {
        let in_prefixes = self.ipv4.prefixes.saturating_mul(PREFIX);
        let single = self.ipv4.addresses.saturating_sub(in_prefixes);
        self.claims() == 0 && self.empty_slots >= self.ipv4.prefixes.saturating_add(single)
    }

    /// Whether a change of it is under way, or waited out.
    pub(crate) fn is_busy(&self) -> bool {
        [self.addresses, self.prefixes, self.ipv6_prefixes].contains(&Gate::Busy)
    }
}
