use super::*;
use SlotKind::{Address, Prefix};

fn plan(settings: &Settings, facts: &Facts) -> Vec<Action> {
    shrink(settings, &m5_large(), facts)
}

#[test]
fn what_is_over_the_targets_goes_and_what_is_owned_or_cools_stays() {
    let facts = node(vec![eni(0, 0).holding(2, 3, 4)]);
    assert_eq!(plan(&settings(ip(1, 0)), &facts), [unassign(0, Address, 3)]);
    assert_eq!(plan(&settings(ip(1, 8)), &facts), [unassign(0, Address, 1)]);
    assert_eq!(plan(&settings(ip(4, 0)), &facts), []);
    // All that is empty is little.
    let in_prefixes = node(vec![eni(0, 0).with_prefix(1).with_prefix(0).with_prefix(1)]);
    assert_eq!(
        plan(&delegated(ip(1, 0)), &in_prefixes),
        [unassign(0, Prefix, 1)]
    );
}

#[test]
fn nothing_goes_while_anybody_waits_the_node_drains_or_ec2_is_in_trouble() {
    let facts = node(vec![
        eni(0, 0).holding(0, 0, 40),
        eni(1, 0).holding(0, 0, 9),
    ]);
    for warm in [ip(1, 1), Warm::Demand(Dial::Balanced)] {
        let settings = settings(warm);
        assert!(!plan(&settings, &facts).is_empty());
        assert_eq!(plan(&settings, &facts.clone().waiting(1)), []);
        for (mode, draining) in [
            (Mode::Normal, true),
            (Mode::AllocateOnly, false),
            (Mode::Frozen, false),
        ] {
            let facts = Facts {
                mode,
                draining,
                ..facts.clone()
            };
            assert_eq!(plan(&settings, &facts), [], "{mode} {draining}");
        }
    }
    // Nor does an ENI of a node whose pods have IPv6 alone.
    let ipv6 = Settings {
        families: Families::V6,
        ..settings(ip(1, 1))
    };
    let two = || vec![eni(0, 0).with_ipv6_prefix(1), eni(1, 0).with_ipv6_prefix(0)];
    assert_eq!(plan(&ipv6, &node(two())), [drain(1)]);
    for (mode, draining) in [(Mode::Normal, true), (Mode::AllocateOnly, false)] {
        let facts = Facts {
            mode,
            draining,
            ..node(two())
        };
        assert_eq!(plan(&ipv6, &facts), [], "{mode} {draining}");
    }
}

/// amazon-vpc-cni-k8s#2203, #2368.
#[test]
fn the_eni_that_can_go_soonest_is_emptied_first() {
    let facts = node(vec![
        eni(0, 0).holding(0, 0, 3),
        eni(1, 0).holding(5, 1, 3),
        eni(2, 0).holding(3, 2, 3),
        eni(3, 0).holding(4, 2, 3),
    ]);
    let expected = [
        unassign(2, Address, 3),
        unassign(3, Address, 3),
        unassign(1, Address, 3),
        unassign(0, Address, 1),
    ];
    assert_eq!(plan(&settings(ip(2, 0)), &facts), expected);
}

#[test]
fn a_whole_eni_goes_before_any_slot_if_it_may() {
    let facts = node(vec![
        eni(0, 0).holding(4, 0, 3),
        eni(1, 0).holding(0, 0, 2),
        eni(2, 0).holding(1, 0, 4),
    ]);
    let single = settings(ip(6, 0));
    assert_eq!(plan(&single, &facts), [drain(1), unassign(2, Address, 1)]);
    // It is too young, or something on it cools: its slots go.
    let mut young = facts.clone();
    young.enis[1].may_go = false;
    let slots = [unassign(1, Address, 2), unassign(2, Address, 1)];
    assert_eq!(plan(&single, &young), slots);
    let cooling = node(vec![eni(0, 0).holding(4, 0, 7), eni(1, 0).holding(0, 1, 2)]);
    assert_eq!(
        plan(&single, &cooling),
        [unassign(1, Address, 2), unassign(0, Address, 1)]
    );
    // Some of its slots may not go yet.
    let mut kept = facts.clone();
    kept.enis[1].empty_slots = 1;
    assert_eq!(
        plan(&single, &kept),
        [unassign(1, Address, 1), unassign(2, Address, 2)]
    );
    // A pod has only an IPv6 address there.
    let mut ipv6 = facts;
    ipv6.enis[1].ipv6.owned = 1;
    assert_eq!(plan(&single, &ipv6), [unassign(2, Address, 3)]);
}

#[test]
fn an_eni_that_is_busy_is_waited_for_and_one_that_refuses_is_not() {
    let single = settings(ip(1, 0));
    let third = |gate| {
        node(vec![
            eni(0, 0).holding(9, 0, 0),
            eni(1, 0).holding(3, 0, 2),
            eni(2, 0).holding(0, 0, 2).gates(gate),
        ])
    };
    assert_eq!(plan(&single, &third(Gate::Busy)), []);
    let expected = [drain(2), unassign(1, Address, 1)];
    assert_eq!(plan(&single, &third(Gate::Closed)), expected);
}

#[test]
fn with_whole_enis_as_the_target_only_whole_enis_go_and_the_last_free_one_stays() {
    let two_free = node(vec![
        eni(0, 0).holding(9, 0, 0),
        eni(1, 0).holding(0, 0, 9),
        eni(2, 0).holding(0, 0, 9),
    ]);
    assert_eq!(plan(&settings(enis(2)), &two_free), []);
    assert_eq!(plan(&settings(enis(1)), &two_free), [drain(2)]);
    assert_eq!(plan(&settings(enis(0)), &two_free), [drain(2)]);
    // Nearly two ENIs' worth is free, or exactly.
    let part = |third| {
        node(vec![
            eni(0, 0).holding(9, 0, 0),
            eni(1, 0).holding(0, 0, 9),
            eni(2, 9 - third).holding(0, 0, third),
        ])
    };
    assert_eq!(plan(&settings(enis(1)), &part(8)), []);
    assert_eq!(plan(&settings(enis(1)), &part(9)), [drain(2)]);
    let nearly = node(vec![eni(0, 0).holding(1, 0, 8), eni(1, 0).holding(0, 0, 9)]);
    assert_eq!(plan(&settings(enis(1)), &nearly), []);
}

#[test]
fn with_prefixes_as_the_target_empty_ones_beyond_it_go() {
    let facts = node(vec![
        eni(0, 0)
            .with_prefix(3)
            .with_prefix(0)
            .with_prefix(0)
            .with_prefix(0),
    ]);
    assert_eq!(
        plan(&delegated(prefixes(1)), &facts),
        [unassign(0, Prefix, 2)]
    );
    assert_eq!(plan(&delegated(prefixes(3)), &facts), []);
    let over_two = node(vec![
        eni(0, 0).with_prefix(3).with_prefix(0),
        eni(1, 0).with_prefix(0),
    ]);
    assert_eq!(plan(&delegated(prefixes(1)), &over_two), [drain(1)]);
    assert_eq!(plan(&delegated(prefixes(2)), &over_two), []);
    // What is free in others does not count.
    let others = [4, 4, 0, 0].into_iter();
    let spread = node(vec![others.fold(eni(0, 0), EniStock::with_prefix)]);
    assert_eq!(plan(&delegated(prefixes(2)), &spread), []);
    // aws-node would give the last back, and ask for it again.
    let last = node(vec![eni(0, 0).with_prefix(16), eni(1, 0).with_prefix(0)]);
    assert_eq!(plan(&delegated(prefixes(0)), &last), []);
}

#[test]
fn an_eni_goes_only_if_the_others_keep_whole_prefixes_for_the_targets() {
    let facts = node(vec![
        eni(0, 0).with_prefix(10),
        eni(1, 0).with_prefix(12),
        eni(2, 0).with_prefix(0),
    ]);
    // The others have ten free: five are wanted, which aws-node rounds up to sixteen for an ENI, not for a prefix.
    assert_eq!(plan(&delegated(ip(5, 0)), &facts), [unassign(2, Prefix, 1)]);
    let more = node(vec![eni(0, 0).with_prefix(0), eni(2, 0).with_prefix(0)]);
    assert_eq!(plan(&delegated(ip(5, 0)), &more), [drain(2)]);
    assert_eq!(plan(&delegated(ip(0, 20)), &more), []);
}

#[test]
fn addresses_left_over_from_a_fall_back_go_first_when_prefixes_are_there_again() {
    let held = || eni(0, 0).holding(2, 0, 7);
    for warm in [
        ip(5, 0),
        prefixes(1),
        Warm::Demand(Dial::Economy),
        Warm::Demand(Dial::Balanced),
    ] {
        let mut facts = node(vec![held(), eni(1, 7).with_prefix(0).with_prefix(3)]);
        assert_eq!(
            plan(&delegated(warm), &facts)[0],
            unassign(0, Address, 7),
            "{warm:?}"
        );
        // They are all there is.
        facts = node(vec![held()]);
        let given: u32 = plan(&delegated(warm), &facts).iter().map(count).sum();
        assert!(given < 7, "{warm:?}");
    }
    // Prefixes are refused still: as much stays free as one more would bring.
    let mut refused = node(vec![eni(0, 0).holding(2, 0, 40)]);
    refused.enis[0].prefixes = Gate::Closed;
    assert_eq!(
        plan(&delegated(prefixes(1)), &refused),
        [unassign(0, Address, 8)]
    );
    // What is free stays within the marks.
    let mut closed = node(vec![held(), eni(1, 7).with_prefix(7)]);
    for eni in &mut closed.enis {
        eni.prefixes = Gate::Closed;
    }
    closed.subnets[0].prefixes = Gate::Closed;
    assert_eq!(plan(&delegated(Warm::Demand(Dial::Balanced)), &closed), []);
    closed.subnets[0].prefixes = Gate::Open;
    let open = plan(&delegated(Warm::Demand(Dial::Balanced)), &closed);
    assert_eq!(open, [unassign(0, Address, 7)]);
}

fn count(action: &Action) -> u32 {
    match action {
        Action::Unassign { count, .. } => *count,
        _ => 0,
    }
}

#[test]
fn prefixes_go_first_when_delegation_was_turned_off() {
    let facts = node(vec![
        eni(0, 0).holding(1, 0, 3).with_prefix(0).with_prefix(2),
    ]);
    assert_eq!(
        plan(&settings(ip(15, 0)), &facts),
        [unassign(0, Prefix, 1), unassign(0, Address, 2)]
    );
    assert_eq!(plan(&settings(enis(1)), &facts), [unassign(0, Prefix, 1)]);
}

#[test]
fn the_only_eni_with_ipv6_stays() {
    let dual = Settings {
        families: Families::Dual,
        ..settings(ip(1, 0))
    };
    let one = node(vec![
        eni(0, 0).holding(0, 0, 1),
        eni(1, 0).with_ipv6_prefix(0),
    ]);
    assert_eq!(plan(&dual, &one), []);
    let two = node(vec![
        eni(0, 0).holding(0, 0, 1).with_ipv6_prefix(0),
        eni(1, 0).with_ipv6_prefix(0),
        eni(2, 0).with_ipv6_prefix(4),
    ]);
    assert_eq!(plan(&dual, &two), [drain(1)]);
    let ipv6 = Settings {
        families: Families::V6,
        ..dual
    };
    assert_eq!(plan(&ipv6, &two), [drain(1)]);
    let three = node(vec![
        eni(0, 0),
        eni(1, 0).with_ipv6_prefix(0),
        eni(2, 0).with_ipv6_prefix(0),
    ]);
    assert_eq!(plan(&ipv6, &three), [drain(2)]);
}

#[test]
fn what_an_eni_in_trouble_holds_is_not_too_much() {
    let mut troubled = eni(1, 0).holding(0, 0, 4).gates(Gate::Closed);
    troubled.ipv4.supply = 0;
    troubled.may_go = false;
    let facts = node(vec![eni(0, 0).holding(1, 0, 5), troubled]);
    assert_eq!(plan(&settings(ip(2, 0)), &facts), [unassign(0, Address, 3)]);
    let mut prefix = eni(1, 0).with_prefix(0).gates(Gate::Closed);
    prefix.ipv4.supply = 0;
    prefix.may_go = false;
    let facts = node(vec![eni(0, 0).with_prefix(0), prefix]);
    assert_eq!(plan(&delegated(prefixes(1)), &facts), []);
    assert_eq!(plan(&delegated(ip(1, 0)), &facts), []);
}

#[test]
fn what_an_ipv6_node_holds_of_ipv4_is_left_alone() {
    let ipv6 = Settings {
        families: Families::V6,
        ..settings(ip(1, 0))
    };
    let facts = node(vec![eni(0, 0).holding(0, 0, 5).with_ipv6_prefix(0)]);
    assert_eq!(plan(&ipv6, &facts), []);
}
