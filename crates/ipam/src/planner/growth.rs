//! What to ask for.

use super::facts::{Basis, Site};
use super::targets::Target;
use super::{Action, Facts, Gate, Stock};
use crate::{EniId, Family, InstanceLimits, Mode, Settings, SlotKind};

/// Whether [`grow`] would ask for nothing, whatever ENIs there are: their stock, who waits and the mode say so alone.
#[must_use]
pub(crate) fn is_content(settings: &Settings, limits: &InstanceLimits, facts: &Facts) -> bool {
    let basis = Basis {
        settings,
        limits,
        facts,
    };
    let target = Target::of(basis);
    // When no address is missing, no prefix is.
    let ipv4 = !basis.wants_ipv4() || target.short(&facts.ipv4, SlotKind::Address) == 0;
    facts.mode == Mode::Frozen || (ipv4 && !target.short_of_ipv6(&facts.ipv6))
}

/// What to ask for, so that who waits is served and as much is warm as the settings say.
///
/// First on the ENIs that are there, in the order of their places, so that the primary fills first; then on as many new
/// ENIs as the rest needs. Room on an ENI that is busy or being made is left to be asked for when it can be: an address
/// there comes sooner than one more ENI does. Where /28s are refused, an ENI is asked for addresses. One call per ENI
/// and kind; a new ENI brings both families.
#[must_use]
pub fn grow(settings: &Settings, limits: &InstanceLimits, facts: &Facts) -> Vec<Action> {
    if facts.mode == Mode::Frozen {
        return Vec::new();
    }
    let basis = Basis {
        settings,
        limits,
        facts,
    };
    let target = Target::of(basis);
    let takes_ipv6 = basis.limits.slots_for_pods(Family::V6) > 0;
    let mut growth = Growth {
        basis,
        ipv6_short: takes_ipv6 && target.short_of_ipv6(&facts.ipv6),
        target,
        ipv4: facts.ipv4,
        actions: Vec::new(),
    };
    growth.on_enis();
    growth.on_coming_enis();
    growth.on_new_enis();
    growth.actions
}

struct Growth<'a> {
    basis: Basis<'a>,
    target: Target,
    /// What there will be, with what is planned so far and with the room that is waited for.
    ipv4: Stock,
    ipv6_short: bool,
    actions: Vec<Action>,
}

impl Growth<'_> {
    fn on_enis(&mut self) {
        for eni in &self.basis.facts.enis {
            if let Some((kind, gate)) = self.basis.ipv4_offer(eni) {
                let count = self.take_ipv4(kind, eni.ipv4_room);
                self.assign(&eni.eni, kind, count, gate);
            }
            if eni.ipv6_prefixes != Gate::Closed {
                let count = self.take_ipv6(eni.ipv6_room);
                self.assign(&eni.eni, SlotKind::Ipv6Prefix, count, eni.ipv6_prefixes);
            }
        }
    }

    fn on_coming_enis(&mut self) {
        let kind = self.basis.ipv4_coming();
        for eni in &self.basis.facts.coming {
            self.take_ipv4(kind, eni.ipv4_room);
            self.take_ipv6(eni.ipv6_room);
        }
    }

    fn on_new_enis(&mut self) {
        let ipv4_slots = self.basis.limits.slots_for_pods(Family::V4);
        let ipv6_slots = self.basis.limits.slots_for_pods(Family::V6);
        for place in self.basis.places() {
            let ipv4_short = self.ipv4_wanted(SlotKind::Address).min(ipv4_slots) > 0
                && self.target.needs_eni(&self.ipv4);
            let Some(Site {
                subnet,
                ipv4,
                ipv6,
                gate: Gate::Open,
            }) = self.basis.site(ipv4_short, self.ipv6_short)
            else {
                break;
            };
            let ipv4 = ipv4.map(|kind| (kind, self.take_ipv4(kind, ipv4_slots)));
            let ipv6_prefixes = match ipv6 {
                true => self.take_ipv6(ipv6_slots),
                false => 0,
            };
            self.actions.push(Action::Create {
                subnet: subnet.subnet.clone(),
                groups: subnet.groups.clone(),
                place,
                ipv4,
                ipv6_prefixes,
            });
        }
    }

    fn ipv4_wanted(&self, kind: SlotKind) -> u32 {
        match self.basis.wants_ipv4() {
            true => self.target.short(&self.ipv4, kind),
            false => 0,
        }
    }

    fn take_ipv4(&mut self, kind: SlotKind, room: u32) -> u32 {
        let count = self.ipv4_wanted(kind).min(room);
        self.ipv4 = self.ipv4.with(kind, count);
        count
    }

    /// One /80 is as good as endless.
    fn take_ipv6(&mut self, room: u32) -> u32 {
        let taken = self.ipv6_short && room > 0;
        self.ipv6_short &= !taken;
        taken.into()
    }

    fn assign(&mut self, eni: &EniId, kind: SlotKind, count: u32, gate: Gate) {
        if count > 0 && gate == Gate::Open {
            self.actions.push(Action::Assign {
                eni: eni.clone(),
                kind,
                count,
            });
        }
    }
}
