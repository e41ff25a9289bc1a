//! What holds in any world, as far as facts can be had that do not contradict each other.

use proptest::prelude::*;

use super::*;
use crate::Family;

const SUBNETS: [&str; 2] = ["subnet-1", "subnet-2"];

fn gate() -> impl Strategy<Value = Gate> {
    prop_oneof![4 => Just(Gate::Open), 1 => Just(Gate::Busy), 1 => Just(Gate::Closed)]
}

prop_compose! {
    /// Single addresses, owned, cooling and free; /28s, by how many of each are owned; and room.
    fn any_eni()(
        owned in 0..5u32, cooling in 0..3u32, free in 0..8u32,
        prefixes in prop::collection::vec(prop_oneof![Just(0), Just(16), 1..16u32], 0..4),
        ipv6 in prop::option::of(0..3u32),
        gates in (gate(), gate(), gate()),
        may_go in any::<bool>(), idle in any::<bool>(), room in 0..7u32,
    ) -> EniStock {
        let kept = |owned: u32| if idle { 0 } else { owned };
        let mut eni = eni(0, room).holding(kept(owned), kept(cooling), free);
        for owned in prefixes {
            eni = eni.with_prefix(kept(owned));
        }
        if let Some(owned) = ipv6 {
            eni = eni.with_ipv6_prefix(kept(owned));
        }
        (eni.addresses, eni.prefixes, eni.ipv6_prefixes) = gates;
        eni.may_go = may_go;
        eni
    }
}

prop_compose! {
    fn any_facts()(
        enis in prop::collection::vec((any_eni(), any::<bool>()), 1..5),
        coming in prop::collection::vec((0..9u32, 0..3u32), 0..2),
        waiters in prop_oneof![Just(0), 1..60u32], bound in 0..40u32,
        unmanaged in 0..2u32,
        subnets in prop::collection::vec((gate(), gate(), gate()), 0..3),
        new_eni in gate(),
        draining in prop::bool::weighted(0.1),
        mode in prop_oneof![
            8 => Just(Mode::Normal),
            1 => Just(Mode::AllocateOnly),
            1 => Just(Mode::Frozen),
        ],
    ) -> Facts {
        let mut index = 0;
        let enis = enis.into_iter().map(|(mut eni, gap)| {
            eni.place = at(index);
            eni.eni = id(eni.place);
            eni.may_go &= index > 0;
            index += if gap { 2 } else { 1 };
            eni
        });
        let mut facts = node(enis.collect());
        for _ in 0..u32::try_from(coming.len()).unwrap() + unmanaged {
            facts.taken.insert(at(index));
            index += 1;
        }
        facts.enis_per_card = BTreeMap::from([(0, u32::try_from(facts.taken.len()).unwrap())]);
        let coming = coming.into_iter();
        facts.coming = coming
            .map(|(ipv4_room, ipv6_room)| ComingEni { ipv4_room, ipv6_room })
            .collect();
        facts.waiters = waiters;
        facts.bound = bound.max(waiters);
        facts.subnets = SUBNETS.into_iter().zip(subnets).map(|(name, gates)| {
            let mut subnet = subnet(name);
            (subnet.addresses, subnet.prefixes, subnet.ipv6_prefixes) = gates;
            subnet
        }).collect();
        facts.new_eni = new_eni;
        facts.draining = draining;
        facts.mode = mode;
        facts
    }
}

prop_compose! {
    fn any_settings()(
        warm in prop::sample::select(&ALL_WARM[..]),
        delegation in any::<bool>(),
        families in prop_oneof![
            2 => Just(Families::V4),
            1 => Just(Families::V6),
            1 => Just(Families::Dual),
        ],
        max_enis_per_card in prop::option::weighted(0.2, 1..6u32),
        max_pods in prop::option::weighted(0.5, 1..80u32),
        all_cards in any::<bool>(),
    ) -> Settings {
        Settings { delegation, families, max_enis_per_card, max_pods, all_cards, ..settings(warm) }
    }
}

prop_compose! {
    fn any_limits()(
        enis_per_card in prop::collection::vec(1..8u32, 1..3),
        slots in 1..16u32,
        prefixes in prop::bool::weighted(0.9),
    ) -> InstanceLimits {
        InstanceLimits {
            enis_per_card,
            ipv4_slots_per_eni: slots,
            ipv6_slots_per_eni: slots,
            prefixes,
        }
    }
}

/// A world: what a plan is made of, with room on ENIs that fits the limits.
fn any_world() -> impl Strategy<Value = (Settings, InstanceLimits, Facts)> {
    (any_settings(), any_limits(), any_facts()).prop_map(|(settings, limits, mut facts)| {
        let most = limits.ipv4_slots_per_eni - 1;
        let ipv6 = if limits.prefixes {
            limits.ipv6_slots_per_eni
        } else {
            0
        };
        for eni in &mut facts.enis {
            eni.ipv4_room = eni.ipv4_room.min(most);
            eni.ipv6_room = eni.ipv6_room.min(ipv6);
        }
        for eni in &mut facts.coming {
            eni.ipv4_room = eni.ipv4_room.min(most);
            eni.ipv6_room = eni.ipv6_room.min(ipv6);
        }
        (settings, limits, facts)
    })
}

/// Counts what was planned as on its way, as the state does; and checks that it keeps to the limits.
fn under_way(
    settings: &Settings,
    limits: &InstanceLimits,
    facts: &Facts,
    plan: &[Action],
) -> Facts {
    let mut facts = facts.clone();
    for (nth, action) in plan.iter().enumerate() {
        match action {
            Action::Assign { eni, kind, count } => {
                assert!(*count > 0);
                assert_once(plan, nth, eni, *kind);
                let there = facts.enis.iter_mut().find(|it| it.eni == *eni).unwrap();
                let (room, gate, stock) = match kind {
                    SlotKind::Address => (&mut there.ipv4_room, there.addresses, &mut facts.ipv4),
                    SlotKind::Prefix => (&mut there.ipv4_room, there.prefixes, &mut facts.ipv4),
                    SlotKind::Ipv6Prefix => {
                        (&mut there.ipv6_room, there.ipv6_prefixes, &mut facts.ipv6)
                    }
                };
                assert_eq!(gate, Gate::Open);
                assert!(*count <= *room, "beyond the room: {plan:?}");
                *room -= count;
                *stock = stock.with(*kind, *count);
            }
            Action::Create {
                subnet,
                place,
                ipv4,
                ipv6_prefixes,
                ..
            } => {
                assert_eq!(facts.new_eni, Gate::Open);
                let subnet = facts
                    .subnets
                    .iter()
                    .find(|it| it.subnet == *subnet)
                    .unwrap();
                let mut gate = subnet.addresses;
                let mut most = limits.ipv4_slots_per_eni - 1;
                if let Some((kind, count)) = ipv4 {
                    assert!(*count > 0);
                    gate = if *kind == SlotKind::Prefix {
                        gate.and(subnet.prefixes)
                    } else {
                        gate
                    };
                    assert!(
                        settings.families != Families::V6 && *count <= most,
                        "{plan:?}"
                    );
                    assert!(*kind == SlotKind::Address || limits.prefixes, "{plan:?}");
                    most -= count;
                    facts.ipv4 = facts.ipv4.with(*kind, *count);
                }
                if *ipv6_prefixes > 0 {
                    gate = gate.and(subnet.ipv6_prefixes);
                    assert!(
                        settings.families != Families::V4 && limits.prefixes,
                        "{plan:?}"
                    );
                    facts.ipv6 = facts.ipv6.with(SlotKind::Ipv6Prefix, *ipv6_prefixes);
                }
                assert_eq!(gate, Gate::Open);
                assert!(
                    ipv4.is_some() || *ipv6_prefixes > 0,
                    "an ENI for nothing: {plan:?}"
                );
                assert!(place.card == 0 || settings.all_cards);
                let lower = (1..place.device_index).map(|device_index| Place {
                    device_index,
                    ..*place
                });
                assert!(
                    lower.into_iter().all(|it| facts.taken.contains(&it)),
                    "not the lowest: {plan:?}"
                );
                assert!(
                    place.device_index > 0 && facts.taken.insert(*place),
                    "taken: {plan:?}"
                );
                let there = facts.enis_per_card.entry(place.card).or_default();
                *there += 1;
                let card = usize::try_from(place.card).unwrap();
                let limit = limits.enis_per_card[card];
                assert!(
                    *there <= settings.max_enis_per_card.unwrap_or(limit).min(limit),
                    "{plan:?}"
                );
                facts.coming.push(ComingEni {
                    ipv4_room: most,
                    ipv6_room: limits.ipv6_slots_per_eni - ipv6_prefixes,
                });
            }
            other => panic!("{other:?}"),
        }
    }
    // Calls are under way there now.
    for action in plan {
        if let Action::Assign { eni, .. } = action {
            let there = facts.enis.iter_mut().find(|it| it.eni == *eni).unwrap();
            for gate in [
                &mut there.addresses,
                &mut there.prefixes,
                &mut there.ipv6_prefixes,
            ] {
                *gate = gate.and(Gate::Busy);
            }
        }
    }
    facts
}

/// One call for an ENI and a kind.
fn assert_once(plan: &[Action], nth: usize, eni: &EniId, kind: SlotKind) {
    let twice = plan[..nth].iter().any(|action| match action {
        Action::Assign {
            eni: it, kind: of, ..
        }
        | Action::Unassign {
            eni: it, kind: of, ..
        } => it == eni && *of == kind,
        _ => false,
    });
    assert!(!twice, "two calls for one: {plan:?}");
}

/// The same, when all has come: nothing is busy.
fn arrived(facts: &Facts, mut after: Facts, plan: &[Action]) -> Facts {
    for (eni, before) in after.enis.iter_mut().zip(&facts.enis) {
        (eni.addresses, eni.prefixes, eni.ipv6_prefixes) =
            (before.addresses, before.prefixes, before.ipv6_prefixes);
    }
    for action in plan {
        if let Action::Assign { eni, kind, count } = action {
            let there = after.enis.iter_mut().find(|it| it.eni == *eni).unwrap();
            let stock = match kind.family() {
                Family::V4 => &mut there.ipv4,
                Family::V6 => &mut there.ipv6,
            };
            *stock = stock.with(*kind, *count);
            there.empty_slots += if kind.family() == Family::V4 {
                *count
            } else {
                0
            };
        }
    }
    after
}

/// What is left when all was given back.
fn given_back(facts: &Facts, plan: &[Action]) -> Facts {
    let mut facts = facts.clone();
    for (nth, action) in plan.iter().enumerate() {
        match action {
            Action::Unassign { eni, kind, count } => {
                assert!(*count > 0);
                assert_once(plan, nth, eni, *kind);
                let there = facts.enis.iter_mut().find(|it| it.eni == *eni).unwrap();
                let empty = match kind {
                    SlotKind::Prefix => there.ipv4.empty_prefixes,
                    _ => there.empty_slots - there.ipv4.empty_prefixes,
                };
                assert!(*count <= empty, "more than is empty: {plan:?}");
                there.empty_slots -= count;
                there.ipv4_room += count;
                there.ipv4 = there.ipv4.without(*kind, *count);
                facts.ipv4 = facts.ipv4.without(*kind, *count);
            }
            Action::Drain { eni } => {
                let at = facts.enis.iter().position(|it| it.eni == *eni).unwrap();
                let gone = facts.enis.remove(at);
                assert!(gone.may_go, "{plan:?}");
                let claims = [
                    gone.ipv4.owned,
                    gone.ipv4.cooling,
                    gone.ipv6.owned,
                    gone.ipv6.cooling,
                ];
                assert_eq!(claims, [0; 4], "{plan:?}");
                facts.ipv4 = facts.ipv4.minus(&gone.ipv4);
                facts.ipv6 = facts
                    .enis
                    .iter()
                    .fold(Stock::default(), |all, eni| all.plus(&eni.ipv6));
            }
            other => panic!("{other:?}"),
        }
    }
    facts
}

fn asked(plan: &[Action]) -> u32 {
    let counts = plan.iter().map(|action| match action {
        Action::Assign { kind, count, .. } if kind.family() == Family::V4 => {
            count * kind.addresses()
        }
        Action::Create {
            ipv4: Some((kind, count)),
            ..
        } => count * kind.addresses(),
        _ => 0,
    });
    counts.sum()
}

/// Nothing is refused and nothing slow.
fn all_open(facts: &mut Facts) {
    facts.coming.clear();
    facts.new_eni = Gate::Open;
    for eni in &mut facts.enis {
        (eni.addresses, eni.prefixes, eni.ipv6_prefixes) = <_>::default();
    }
    for subnet in &mut facts.subnets {
        (subnet.addresses, subnet.prefixes, subnet.ipv6_prefixes) = <_>::default();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn growth_keeps_to_the_limits_and_is_a_fixpoint(world in any_world()) {
        let (settings, limits, facts) = world;
        let plan = grow(&settings, &limits, &facts);
        let after = under_way(&settings, &limits, &facts, &plan);
        prop_assert_eq!(grow(&settings, &limits, &after), []);
        let after = arrived(&facts, after, &plan);
        prop_assert_eq!(grow(&settings, &limits, &after), []);
    }

    #[test]
    fn what_was_given_back_is_not_asked_for_again(world in any_world()) {
        let (settings, limits, facts) = world;
        let quiet = grow(&settings, &limits, &facts).is_empty();
        let plan = shrink(&settings, &limits, &facts);
        let after = given_back(&facts, &plan);
        prop_assert_eq!(shrink(&settings, &limits, &after), []);
        if quiet && !plan.is_empty() {
            prop_assert_eq!(grow(&settings, &limits, &after), []);
        }
    }

    #[test]
    fn what_was_asked_for_is_not_given_back_and_asked_for_again(world in any_world()) {
        let (settings, limits, facts) = world;
        let growth = grow(&settings, &limits, &facts);
        let grown = arrived(&facts, under_way(&settings, &limits, &facts, &growth), &growth);
        let back = shrink(&settings, &limits, &grown);
        let shrunk = given_back(&grown, &back);
        prop_assert_eq!(grow(&settings, &limits, &shrunk), []);
        prop_assert_eq!(shrink(&settings, &limits, &shrunk), []);
    }

    #[test]
    fn who_waits_is_served_as_far_as_the_world_has_room(world in any_world()) {
        let (settings, limits, mut facts) = world;
        all_open(&mut facts);
        let reach = facts.reach(&settings, &limits);
        let after = under_way(&settings, &limits, &facts, &grow(&settings, &limits, &facts));
        for (wanted, before, after) in [
            (settings.families != Families::V6, facts.ipv4, after.ipv4),
            (settings.families != Families::V4, facts.ipv6, after.ipv6),
        ] {
            let served = before.supply.min(facts.waiters).saturating_add(reach).min(facts.waiters);
            if wanted && settings.families != Families::Dual {
                prop_assert!(after.supply >= served, "{} of {}", after.supply, facts.waiters);
            }
        }
        if settings.families == Families::Dual {
            let before = facts.ipv4.supply.min(facts.ipv6.supply);
            let served = before.saturating_add(reach).min(facts.waiters);
            prop_assert!(after.ipv4.supply.min(after.ipv6.supply) >= served);
        }
    }

    #[test]
    fn where_an_eni_has_room_stock_alone_says_whether_anything_is_asked_for(world in any_world()) {
        let (settings, mut limits, mut facts) = world;
        all_open(&mut facts);
        (limits.prefixes, limits.ipv6_slots_per_eni) = (true, 1_000);
        facts.enis[0].ipv4_room = 100_000;
        facts.enis[0].ipv6_room = 1_000;
        let content = is_content(&settings, &limits, &facts);
        prop_assert_eq!(content, grow(&settings, &limits, &facts).is_empty());
    }

    #[test]
    fn what_is_out_of_reach_is_not_asked_for_and_reach_is_within_the_limit(world in any_world()) {
        let (settings, limits, facts) = world;
        let plan = grow(&settings, &limits, &facts);
        let after = under_way(&settings, &limits, &facts, &plan);
        let (reach, limit) = (facts.reach(&settings, &limits), facts.limit(&settings, &limits));
        if facts.mode != Mode::Frozen {
            let asked = after.ipv4.supply - facts.ipv4.supply;
            prop_assert!(settings.families != Families::V4 || asked <= reach);
        }
        prop_assert!(reach <= limit);
    }

    #[test]
    fn the_more_wait_the_more_is_asked_for(world in any_world(), more in 1..20u32) {
        let (settings, limits, facts) = world;
        let busier = Facts {
            waiters: facts.waiters + more,
            bound: facts.bound + more,
            ..facts.clone()
        };
        let [few, many] = [facts, busier].map(|facts| asked(&grow(&settings, &limits, &facts)));
        prop_assert!(few <= many, "{few} > {many}");
    }

    #[test]
    fn a_frozen_node_and_cards_that_are_not_used_ask_for_nothing(world in any_world()) {
        let (settings, limits, facts) = world;
        let nobody = Facts { mode: Mode::Frozen, ..facts.clone() };
        prop_assert_eq!(grow(&settings, &limits, &nobody), []);
        let one_card = InstanceLimits {
            enis_per_card: limits.enis_per_card[..1].to_vec(),
            ..limits.clone()
        };
        let first = Settings { all_cards: false, ..settings };
        prop_assert_eq!(grow(&first, &limits, &facts), grow(&first, &one_card, &facts));
    }
}
