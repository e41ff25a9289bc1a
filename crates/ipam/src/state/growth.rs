//! Growth: the planner's plan carried out, and who has no hope.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Intent, Phase, Spot, State, TornDown};
use crate::planner::{self, Action, Facts, Gate};
use crate::state::facts::count_of;
use crate::{
    Call, ClientToken, Family, Haste, IntentStage, Place, SecurityGroupId, SlotKind, SubnetId,
};

/// How long what nobody waits for may gather before it is asked for, so that pods that come one by one do not cost
/// a call each. aws-node looks as often.
const GATHER: Duration = Duration::from_millis(2500);

impl State {
    /// Carries the plan out: calls that need no intent at once, the others once their intent is on disk.
    pub(super) fn grow(&mut self, waiters: u32) {
        if self.phase != Phase::Running {
            return;
        }
        let limits = &self.node.limits;
        if planner::is_content(&self.settings, limits, &self.summary(waiters)) {
            self.warm_at = None;
            return;
        }
        let facts = self.facts(waiters);
        let mut plan = planner::grow(&self.settings, limits, &facts);
        // What a nearly empty subnet has left, an ENI that is there takes with one call, and a new one with three.
        plan.retain(|action| match action {
            Action::Create { subnet, ipv4, .. } => !self.tries(subnet, *ipv4, &facts),
            _ => true,
        });
        let looks = self.wants_to_know_subnets(&facts);
        if plan.is_empty() && !looks {
            self.warm_at = None;
            return;
        }
        let bare = facts.ipv4.supply == 0 && facts.ipv6.supply == 0;
        if facts.waiters == 0 && !bare {
            let at = *self.warm_at.get_or_insert(self.now.after(GATHER));
            if at > self.now {
                return;
            }
        }
        let haste = if facts.waiters > 0 || !self.turned_away.is_empty() {
            Haste::Gathering
        } else {
            Haste::Later
        };
        // What it tells is planned with at once.
        let mut held = looks;
        if looks {
            self.look_at_subnets(haste);
        }
        for action in plan {
            match action {
                // One change of an ENI at a time: the rest is planned again when its reply is there.
                Action::Assign { eni, .. } if self.asked_of(&eni).busy => {}
                Action::Assign { eni, kind, count } => {
                    let subnet = self.subnet_of(&eni);
                    let count = self.at_once(&subnet, kind, count);
                    let call = Call::Assign { eni, kind, count };
                    if self.may_ask(&call, haste) {
                        self.call(call);
                    } else {
                        held = true;
                    }
                }
                // Planned again then, with what is wanted by then.
                Action::Create { .. } if !self.may_begin_eni(haste) => held = true,
                Action::Create {
                    subnet,
                    groups,
                    place,
                    ipv4,
                    ipv6_prefixes,
                } => {
                    let ipv4 = ipv4.map(|(kind, count)| (kind, self.at_once(&subnet, kind, count)));
                    let brings = (ipv4, ipv6_prefixes);
                    self.intend(subnet, groups, place, brings, IntentStage::Create);
                }
                // What is given back is not growth.
                Action::Unassign { .. } | Action::Drain { .. } => {}
            }
        }
        if !held {
            self.warm_at = None;
        }
    }

    /// Whether a subnet that had not all that was asked for is tried on an ENI that is there first.
    fn tries(&self, subnet: &SubnetId, ipv4: Option<(SlotKind, u32)>, facts: &Facts) -> bool {
        let Some((kind, _)) = ipv4 else {
            return false;
        };
        let lacked = [SlotKind::Address, SlotKind::Prefix].map(|kind| {
            let asked = self.at_once.contains_key(&(subnet.clone(), kind));
            let spot = Spot::Subnet(subnet.clone(), kind);
            asked || self.setbacks.contains_key(&spot)
        });
        lacked.contains(&true)
            && facts.enis.iter().any(|eni| {
                let gate = match kind {
                    SlotKind::Prefix => eni.prefixes,
                    _ => eni.addresses,
                };
                let asked = self.asked_of(&eni.eni);
                let tries = asked.addresses + asked.prefixes > 0;
                let may_try = eni.ipv4_room > 0 && gate != Gate::Closed;
                (tries || may_try) && self.subnet_of(&eni.eni) == *subnet
            })
    }

    fn at_once(&self, subnet: &SubnetId, kind: SlotKind, count: u32) -> u32 {
        let most = self.at_once.get(&(subnet.clone(), kind));
        most.map_or(count, |most| count.min(*most))
    }

    pub(super) fn intend(
        &mut self,
        subnet: SubnetId,
        groups: Vec<SecurityGroupId>,
        place: Place,
        (ipv4, ipv6_prefixes): (Option<(SlotKind, u32)>, u32),
        stage: IntentStage,
    ) {
        let token = self.token();
        let version = self.changed();
        self.intents.push(Intent {
            token,
            subnet,
            groups,
            ipv4,
            ipv6_prefixes,
            place,
            stage,
            since: self.now,
            version,
            call: None,
            torn_down: TornDown::No,
            maybe_created: false,
            unsettled: None,
            setback: None,
        });
    }

    /// Unique: no boot has the id of another; a token is used only when the books are on disk, whose version does
    /// not come again; and where the books are lost, time has gone on. At most 64 characters, as EC2 wants it,
    /// with a boot id of 36.
    pub(super) fn token(&mut self) -> ClientToken {
        let version = self.changed();
        ClientToken::new(format!(
            "weir-{}-{:x}-{:x}",
            self.boot_id, self.now.0, version.0
        ))
    }

    /// Refuses waiters that nothing in sight can serve by their deadline.
    pub(super) fn refuse_hopeless(&mut self, waiters: u32) {
        if waiters == 0 || self.phase != Phase::Running {
            return;
        }
        let facts = self.facts(waiters);
        let mut hope = self.hope(&facts);
        if waiters <= hope {
            return;
        }
        let mut hopeless = BTreeSet::new();
        {
            let mut cooling = self.pool.cooled_at().peekable();
            for add in self.waiters() {
                if hope > 0 {
                    hope -= 1;
                } else if cooling
                    .next_if(|(at, _)| *at < add.request.deadline)
                    .is_none()
                {
                    hopeless.insert(add.request.sandbox.clone());
                }
            }
        }
        let refused: Vec<_> = self
            .adds
            .iter()
            .filter(|add| hopeless.contains(&add.request.sandbox))
            .map(|add| add.request.request)
            .collect();
        if refused.is_empty() {
            return;
        }
        let refusal = self.refuse_no_growth(&facts);
        for request in refused {
            self.refuse_add(request, refusal.clone());
        }
    }

    /// How many waiters may still be served by what is there, on its way, or can be asked for.
    pub(super) fn hope(&self, facts: &Facts) -> u32 {
        let families = self.settings.families.all();
        let there = families.iter().map(|family| {
            let supply = match family {
                Family::V4 => facts.ipv4.supply,
                Family::V6 => facts.ipv6.supply,
            };
            supply.saturating_add(self.mending(*family))
        });
        let reach = facts.reach(&self.settings, &self.node.limits);
        there.min().unwrap_or(0).saturating_add(reach)
    }

    /// What troubled ENIs hold, were asked to take and have room for may still come: their set-up is tried again.
    fn mending(&self, family: Family) -> u32 {
        let limits = &self.node.limits;
        let kind = match family {
            Family::V4 if self.settings.delegation && limits.prefixes => SlotKind::Prefix,
            Family::V4 => SlotKind::Address,
            Family::V6 => SlotKind::Ipv6Prefix,
        };
        self.pool
            .enis()
            .filter(|(_, eni)| eni.is_ours() && eni.trouble.is_some() && !eni.kept_from_pods)
            .map(|(id, eni)| {
                let (asked, held) = (self.asked_of(id), eni.tally().family(family));
                let taken = count_of(held.slots).saturating_add(asked.slots(family));
                let room = match self.gate(|| Spot::Assign(id.clone(), kind)) {
                    Gate::Closed => 0,
                    Gate::Open | Gate::Busy => limits.slots_for_pods(family).saturating_sub(taken),
                };
                room.saturating_mul(kind.addresses())
                    .saturating_add(asked.size(family))
                    .saturating_add(count_of(held.supply()))
            })
            .fold(0, u32::saturating_add)
    }
}
