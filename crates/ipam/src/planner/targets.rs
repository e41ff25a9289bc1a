//! How much there should be: of aws-node's targets, or of demand.
//!
//! # aws-node's targets
//!
//! `W`, `M`, `P` and `E` are `WARM_IP_TARGET`, `MINIMUM_IP_TARGET`, `WARM_PREFIX_TARGET` and `WARM_ENI_TARGET`; `T` is
//! all addresses, `F` the free ones without those that wait for one, `N` the addresses of a full ENI. A target of 0 is as
//! good as none. Once `T` reaches max-pods, only who waits is asked for.
//!
//! | set | short when | asked for | given back |
//! |---|---|---|---|
//! | `W` or `M` | `F < W` or `T < M` | what is missing, in whole prefixes | what is over both |
//! | else, with delegation, `P` | `F < 16·P`, or `F = 0` | prefixes, until `P` are empty | empty prefixes beyond `P` |
//! | else `E` (1 if not set) | `F < N·E`, or `F = 0` | all of an ENI | an ENI, once `F ≥ N·(E + 1)` |
//!
//! Two things differ from aws-node, both on the way and not at its end: cooling addresses are not free, and nothing is
//! given back that would be asked for again (with `E` or `P` of 0, aws-node gives its last free ENI back and asks for it
//! again, for ever).
//!
//! # Demand
//!
//! `D` is what pods own, and what the pods want that wait or are bound to the node. Fewer free addresses than `low` are
//! filled up to `high`; more than twice `high` are given back down to `high`. In between nothing is done, so that pods
//! that come and go one by one cost a call only now and then. A new ENI is made only where `low` would be missed without
//! it: three calls and seconds are much for an address that nobody waits for.
//!
//! | dial | low | high |
//! |---|---|---|
//! | economy | 1 | 2 + D/16 |
//! | balanced | 2 + D/16 | 6 + D/8 |
//! | latency | 8 + D/4 | 16 + D/2 |
//!
//! With delegation all is rounded up to whole prefixes, and one prefix more may be free before any is given back. What
//! is kept free never takes the pool beyond max-pods.

use super::facts::{Basis, PREFIX};
use super::{Gate, Stock};
use crate::{Dial, Family, Mode, SlotKind, Warm};

/// How much there should be.
pub(super) struct Target {
    rule: Rule,
    /// Addresses that are promised already: to those that wait, and where the rule counts them to pods that are bound.
    pending: u32,
    /// Sandboxes that wait.
    waiters: u32,
    max_pods: u32,
    /// Addresses of an ENI that is full of single ones.
    per_eni: u32,
    delegation: bool,
    /// Prefixes can be had.
    prefixes: bool,
    ipv6: bool,
}

enum Rule {
    /// What who waits needs, and no more.
    Waiters,
    Ip {
        warm: u32,
        minimum: u32,
    },
    /// Empty prefixes.
    Prefixes(u32),
    /// Free addresses, in whole ENIs.
    Enis(u32),
    Demand(Marks),
}

/// Free addresses.
struct Marks {
    /// Fewer are too few.
    low: u32,
    /// The low mark, or the high one once that is passed.
    floor: u32,
    /// So many are right.
    high: u32,
    /// More are too many.
    ceiling: u32,
}

/// What would be given back.
#[derive(Clone, Copy)]
pub(super) enum Leaver {
    Eni,
    Slots(SlotKind),
}

impl Target {
    pub(super) fn of(basis: Basis<'_>) -> Self {
        let facts = basis.facts;
        let bound = facts.bound.max(facts.waiters);
        let delegation = basis.delegation();
        let rule = match basis.settings.warm {
            _ if facts.mode != Mode::Normal || facts.draining => Rule::Waiters,
            Warm::Demand(dial) => {
                let demand = facts.ipv4.owned.saturating_add(bound);
                let free = facts.ipv4.supply.saturating_sub(bound);
                Rule::Demand(Marks::of(dial, demand, free, delegation))
            }
            Warm::Targets(targets) => {
                let warm = targets.ip.unwrap_or(0);
                let minimum = targets.minimum_ip.unwrap_or(0);
                if warm > 0 || minimum > 0 {
                    Rule::Ip { warm, minimum }
                } else if delegation {
                    Rule::Prefixes(targets.prefix.unwrap_or(0))
                } else {
                    Rule::Enis(targets.eni.unwrap_or(1))
                }
            }
        };
        let gates = facts.enis.iter().map(|eni| eni.prefixes);
        let mut gates = gates.chain(facts.subnets.iter().map(|subnet| subnet.prefixes));
        Self {
            pending: match rule {
                Rule::Demand(_) => bound,
                _ => facts.waiters,
            },
            rule,
            waiters: facts.waiters,
            max_pods: basis.settings.max_pods.unwrap_or(u32::MAX),
            per_eni: basis.limits.slots_for_pods(Family::V4),
            delegation,
            prefixes: delegation && gates.any(|gate| gate == Gate::Open),
            ipv6: basis.wants_ipv6(),
        }
    }

    /// Whether a /80 is missing.
    pub(super) fn short_of_ipv6(&self, stock: &Stock) -> bool {
        let warm = match self.rule {
            Rule::Waiters => 0,
            _ => 1,
        };
        self.ipv6 && stock.supply < self.waiters.max(warm)
    }

    /// How many slots of this kind are missing. Where whole ENIs are the unit, those of one at the least.
    pub(super) fn short(&self, stock: &Stock, kind: SlotKind) -> u32 {
        let mut then = *stock;
        let mut count: u32 = 0;
        while then.addresses < self.max_pods {
            let more = self.pass(&then, kind);
            if more == 0 {
                break;
            }
            count = count.saturating_add(more);
            then = then.with(kind, more);
        }
        let promised = self.pending.saturating_sub(stock.supply);
        count.max(promised.div_ceil(kind.addresses()))
    }

    /// What aws-node asks for in one pass of its loop, which knows nothing of who waits but that nothing is free. It is
    /// asked again and again, so that max-pods stops it where it stops aws-node.
    fn pass(&self, stock: &Stock, kind: SlotKind) -> u32 {
        let free = self.free(stock);
        let slots = |addresses: u32| addresses.div_ceil(kind.addresses());
        match &self.rule {
            Rule::Waiters => 0,
            Rule::Ip { warm, minimum } => {
                let warm = warm.saturating_sub(free);
                slots(warm.max(minimum.saturating_sub(stock.addresses)))
            }
            Rule::Prefixes(_) | Rule::Enis(_) if free >= self.floor() => 0,
            Rule::Prefixes(warm) if kind == SlotKind::Prefix => {
                warm.saturating_sub(self.empty_prefixes(stock)).max(1)
            }
            Rule::Prefixes(_) => slots(self.floor().saturating_sub(free)),
            Rule::Enis(_) => slots(self.per_eni),
            Rule::Demand(marks) if free >= marks.floor => 0,
            Rule::Demand(marks) => {
                let wanted = self.pending.saturating_add(marks.high);
                let may = self.max_pods.saturating_sub(stock.addresses);
                slots(wanted.saturating_sub(stock.supply).min(may))
            }
        }
    }

    /// Whether this may be given back: `now` is there, and `left` would be.
    pub(super) fn spares(&self, leaver: Leaver, now: &Stock, left: &Stock) -> bool {
        let allowed = match (&self.rule, leaver) {
            (Rule::Waiters, _) | (Rule::Enis(_), Leaver::Slots(SlotKind::Address)) => false,
            (Rule::Ip { warm, minimum }, leaver) => {
                // aws-node keeps whole prefixes on the ENIs that stay.
                let unit = match leaver {
                    Leaver::Eni if self.delegation => PREFIX,
                    _ => 1,
                };
                left.supply >= warm.next_multiple_of(unit)
                    && left.addresses >= minimum.next_multiple_of(unit)
            }
            (Rule::Prefixes(warm), leaver) => {
                let in_addresses = warm.saturating_add(1).saturating_mul(PREFIX);
                let single = matches!(leaver, Leaver::Slots(SlotKind::Address));
                self.empty_prefixes(left) >= *warm || (single && left.supply >= in_addresses)
            }
            (Rule::Enis(warm), Leaver::Eni) => {
                now.supply >= warm.saturating_add(1).saturating_mul(self.per_eni)
            }
            (Rule::Enis(_), Leaver::Slots(_)) => true,
            (Rule::Demand(marks), leaver) => {
                let much = self.free(now) > marks.ceiling;
                (much || self.misfits(leaver)) && self.free(left) >= marks.high
            }
        };
        allowed && self.short(left, SlotKind::Address) == 0
    }

    /// Slots of a kind that would not be asked for now: they go before the others do.
    fn misfits(&self, leaver: Leaver) -> bool {
        match leaver {
            Leaver::Slots(SlotKind::Address) => self.prefixes,
            Leaver::Slots(_) => !self.delegation,
            Leaver::Eni => false,
        }
    }

    /// Whether what is still short is worth one more ENI.
    pub(super) fn needs_eni(&self, stock: &Stock) -> bool {
        match &self.rule {
            Rule::Demand(marks) => self.free(stock) < marks.low,
            _ => true,
        }
    }

    fn free(&self, stock: &Stock) -> u32 {
        stock.supply.saturating_sub(self.pending)
    }

    /// Fewer free addresses are too few.
    fn floor(&self) -> u32 {
        let floor = match self.rule {
            Rule::Prefixes(warm) => warm.saturating_mul(PREFIX),
            Rule::Enis(warm) => warm.saturating_mul(self.per_eni),
            _ => 0,
        };
        floor.max(1)
    }

    /// Prefixes that are still empty when who waits is served, from those that are not.
    fn empty_prefixes(&self, stock: &Stock) -> u32 {
        let empty = stock.empty_prefixes;
        let others = stock.supply.saturating_sub(empty.saturating_mul(PREFIX));
        let filled = self.pending.saturating_sub(others).div_ceil(PREFIX);
        empty.saturating_sub(filled)
    }
}

impl Marks {
    fn of(dial: Dial, demand: u32, free: u32, delegation: bool) -> Self {
        let (low, high) = match dial {
            Dial::Economy => (1, 2 + demand / 16),
            Dial::Balanced => (2 + demand / 16, 6 + demand / 8),
            Dial::Latency => (8 + demand / 4, 16 + demand / 2),
        };
        let one_more = if delegation { PREFIX } else { 0 };
        Self {
            low,
            floor: if free < low { high } else { low },
            high,
            ceiling: high.saturating_mul(2).saturating_add(one_more),
        }
    }
}
