//! What to give back.

use std::cmp::Reverse;

use super::facts::Basis;
use super::targets::{Leaver, Target};
use super::{Action, EniStock, Facts};
use crate::{InstanceLimits, Mode, Place, Settings, SlotKind};

/// What to give back, because more is held than the settings say. Nothing that is owned or cooling, nothing while
/// anybody waits, nothing from a node that drains.
///
/// Whole ENIs first. Then slots, of the kind first that would not be asked for again, from the ENI that can go soonest:
/// the one with the fewest addresses owned and cooling. The primary never goes, so it comes last. There is no hurry: as
/// long as any ENI is busy, nothing is given back, so that what goes is always what is best given back.
#[must_use]
pub fn shrink(settings: &Settings, limits: &InstanceLimits, facts: &Facts) -> Vec<Action> {
    let busy = facts.enis.iter().any(EniStock::is_busy);
    if facts.mode != Mode::Normal || facts.draining || facts.waiters > 0 || busy {
        return Vec::new();
    }
    let basis = Basis {
        settings,
        limits,
        facts,
    };
    let target = Target::of(basis);
    let now = &facts.ipv4;
    let mut left = facts.ipv4;
    let mut actions = Vec::new();

    let mut enis: Vec<_> = facts.enis.iter().collect();
    enis.sort_by_key(|eni| {
        (
            eni.place == Place::PRIMARY,
            eni.claims(),
            Reverse(eni.place),
        )
    });
    let has_ipv6 = |eni: &&EniStock| eni.ipv6.supply > 0;
    let mut with_ipv6 = facts.enis.iter().filter(has_ipv6).count();
    enis.retain(|eni| {
        let without = left.minus(&eni.ipv4);
        let ipv6_left = with_ipv6 - usize::from(has_ipv6(eni));
        let goes = eni.may_go
            && eni.is_idle()
            && (!basis.wants_ipv6() || ipv6_left > 0)
            && (!basis.wants_ipv4() || target.spares(Leaver::Eni, now, &without));
        if goes {
            (left, with_ipv6) = (without, ipv6_left);
            let eni = eni.eni.clone();
            actions.push(Action::Drain { eni });
        }
        !goes
    });
    if !basis.wants_ipv4() {
        return actions;
    }

    let kinds = match basis.delegation() {
        true => [SlotKind::Address, SlotKind::Prefix],
        false => [SlotKind::Prefix, SlotKind::Address],
    };
    for kind in kinds {
        for eni in &enis {
            let spared =
                |count: &u32| target.spares(Leaver::Slots(kind), now, &left.without(kind, *count));
            let Some(count) = (1..=eni.empty(kind)).take_while(spared).last() else {
                continue;
            };
            left = left.without(kind, count);
            let eni = eni.eni.clone();
            actions.push(Action::Unassign { eni, kind, count });
        }
    }
    actions
}
