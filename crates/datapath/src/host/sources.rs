//! The rules by which pods' packets leave by the secondary ENI that holds their prefix: one for each prefix. What is
//! held as a single address on card 0 has a mark instead, so that rules do not grow with pods.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::{EniSlots, Host, HostError, ipv6, rule, single};
use crate::layout::{Place, RULE_ENI};
use crate::rtnl::{self, Rule, Selector, Step};

/// The rules for what an ENI holds; for the primary none, whose packets go by the main table.
pub(super) fn rules(place: Place, slots: &[IpNet]) -> impl Iterator<Item = Rule> {
    let held = if place.is_primary() { &[] } else { slots };
    let unmarked = held
        .iter()
        .filter(move |slot| place.mark().is_none() || single(slot).is_none());
    unmarked.map(move |net| rule(RULE_ENI, Selector::From(*net), place.table()))
}

/// What leads from the rules that were found to exactly those for what is held.
pub(super) fn exactly(held: &[EniSlots], found: &BTreeSet<Rule>) -> Vec<Step> {
    let wanted: BTreeSet<Rule> = held
        .iter()
        .flat_map(|eni| rules(eni.place, &eni.slots))
        .collect();
    let stale = found.difference(&wanted).map(|rule| rule.delete());
    let missing = wanted.difference(found).map(|rule| rule.ensure());
    // First the new ones: a prefix that moved has a way out throughout.
    missing.chain(stale).collect()
}

/// The same for slots that have come to an ENI, maybe from another; others' are left alone.
pub(super) fn moved(place: Place, slots: &[IpNet], found: &BTreeSet<Rule>) -> Vec<Step> {
    let about = |rule: &&Rule| matches!(rule.selector, Selector::From(net) if slots.contains(&net));
    let found = found.iter().filter(about).copied().collect();
    let held = EniSlots {
        place,
        slots: slots.to_vec(),
    };
    exactly(&[held], &found)
}

impl Host {
    /// Our rules by source that are there.
    pub(super) async fn source_rules(&self) -> Result<BTreeSet<Rule>, HostError> {
        let mut found = self.rules(RULE_ENI).await?;
        found.retain(|rule| matches!(rule.selector, Selector::From(_)));
        Ok(found)
    }

    /// Our rules of this priority.
    pub(super) async fn rules(&self, priority: u32) -> Result<BTreeSet<Rule>, HostError> {
        let mut found = BTreeSet::new();
        for family in ipv6::families() {
            let rules = self
                .rtnl
                .dump("list the rules", rtnl::rules(family))
                .await?;
            let ours = rules.into_iter().filter_map(Rule::read);
            found.extend(ours.filter(|rule| rule.priority == priority));
        }
        Ok(found)
    }
}
