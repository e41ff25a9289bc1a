use super::*;
use SlotKind::{Address, Ipv6Prefix, Prefix};

fn plan(settings: &Settings, facts: &Facts) -> Vec<Action> {
    grow(settings, &m5_large(), facts)
}

fn warm(families: Families) -> Settings {
    Settings {
        families,
        ..delegated(nothing_warm())
    }
}

#[test]
fn nothing_is_asked_for_when_nothing_is_wanted() {
    let quiet = node(vec![eni(0, 8).holding(0, 0, 1)]);
    assert_eq!(plan(&settings(nothing_warm()), &quiet), []);
}

#[test]
fn a_burst_is_planned_in_one_round_over_enis_and_new_enis() {
    let burst = node(vec![eni(0, 9)]).waiting(50);
    let single = [
        assign(0, Address, 9),
        create(1, Address, 9),
        create(2, Address, 9),
    ];
    assert_eq!(plan(&settings(nothing_warm()), &burst), single);
    let delegated = delegated(nothing_warm());
    assert_eq!(plan(&delegated, &burst), [assign(0, Prefix, 4)]);
    let little_room = node(vec![eni(0, 1)]).waiting(50);
    let over_two = [assign(0, Prefix, 1), create(1, Prefix, 3)];
    assert_eq!(plan(&delegated, &little_room), over_two);
}

#[test]
fn a_new_eni_brings_what_is_wanted_and_no_more() {
    let facts = node(vec![eni(0, 9)]).waiting(11);
    let expected = [assign(0, Address, 9), create(1, Address, 2)];
    assert_eq!(plan(&settings(nothing_warm()), &facts), expected);
}

#[test]
fn with_whole_enis_as_the_target_a_new_eni_comes_full() {
    let facts = node(vec![eni(0, 0).holding(1, 0, 8)]);
    assert_eq!(plan(&settings(enis(1)), &facts), [create(1, Address, 9)]);
    let half = node(vec![eni(0, 4).holding(1, 0, 4)]);
    let expected = [assign(0, Address, 4), create(1, Address, 9)];
    assert_eq!(plan(&settings(enis(1)), &half), expected);
}

#[test]
fn warm_addresses_are_wanted_beyond_the_waiters_and_minimum_counts_all_that_is_held() {
    for (waiters, warm, minimum, supply, cooling, wanted) in [
        (0, 3, 0, 3, 2, 0),
        (0, 3, 0, 1, 4, 2),
        (2, 3, 0, 1, 4, 4),
        (0, 0, 8, 0, 5, 3),
        (0, 3, 8, 1, 4, 3),
        (0, 5, 8, 1, 4, 4),
        // Cooling addresses are held, but serve nobody.
        (1, 0, 1, 0, 9, 1),
    ] {
        let facts = node(vec![eni(0, 9).holding(0, cooling, supply)]).waiting(waiters);
        let expected: Vec<_> = (wanted > 0)
            .then(|| assign(0, Address, wanted))
            .into_iter()
            .collect();
        let case = (waiters, warm, minimum, supply, cooling);
        assert_eq!(
            plan(&settings(ip(warm, minimum)), &facts),
            expected,
            "{case:?}"
        );
    }
}

/// amazon-vpc-cni-k8s#2896.
#[test]
fn when_all_that_is_free_cools_a_pod_gets_a_new_address() {
    let facts = node(vec![eni(0, 4).holding(0, 5, 0)]).waiting(1);
    for warm in ALL_WARM {
        let plan = plan(&settings(warm), &facts);
        assert!(
            matches!(plan[0], Action::Assign { count: 1.., .. }),
            "{warm:?}"
        );
    }
}

/// amazon-vpc-cni-k8s#3685.
#[test]
fn a_pod_that_waits_gets_a_third_prefix_when_two_are_full() {
    let facts = node(vec![eni(0, 7).with_prefix(16).with_prefix(16)]).waiting(1);
    let all_zero = delegated(targets(Some(0), Some(0), None, Some(1)));
    assert_eq!(plan(&all_zero, &facts), [assign(0, Prefix, 2)]);
    let full = node(vec![eni(0, 0).with_prefix(16).with_prefix(16)]).waiting(1);
    assert_eq!(plan(&all_zero, &full), [create(1, Prefix, 2)]);
}

#[test]
fn prefixes_are_asked_for_until_as_many_are_empty_as_the_target_says() {
    let two = delegated(prefixes(2));
    let one_empty = node(vec![eni(0, 7).with_prefix(8).with_prefix(0)]);
    assert_eq!(plan(&two, &one_empty), [assign(0, Prefix, 1)]);
    let none_empty = node(vec![eni(0, 7).with_prefix(4).with_prefix(4)]);
    assert_eq!(plan(&two, &none_empty), [assign(0, Prefix, 2)]);
    // As many addresses are free in others.
    let enough = node(vec![eni(0, 6).with_prefix(4).with_prefix(4).with_prefix(4)]);
    assert_eq!(plan(&two, &enough), []);
    // What an ENI in trouble holds serves nobody.
    let mut troubled = eni(1, 7).with_prefix(0).with_prefix(0).gates(Gate::Closed);
    troubled.ipv4.supply = 0;
    let beside = node(vec![eni(0, 7).with_prefix(0), troubled]);
    assert_eq!(plan(&two, &beside), [assign(0, Prefix, 1)]);
    // Five wait: they go to the one that is not empty.
    let waiting = node(vec![eni(0, 6).with_prefix(8).with_prefix(0).with_prefix(0)]);
    assert_eq!(plan(&two, &waiting.clone().waiting(5)), []);
    assert_eq!(plan(&two, &waiting.waiting(9)), [assign(0, Prefix, 1)]);
}

/// Who waits fills the empty ones, so that all three are missing: aws-node asks for them in one pass, and only then sees
/// that it is beyond max-pods.
#[test]
fn max_pods_stops_prefixes_between_two_passes_of_aws_node_and_not_within_one() {
    let capped = Settings {
        max_pods: Some(40),
        ..delegated(prefixes(3))
    };
    let facts = node(vec![eni(0, 7).with_prefix(8).with_prefix(0)]).waiting(9);
    assert_eq!(plan(&capped, &facts), [assign(0, Prefix, 3)]);
}

#[test]
fn one_eni_is_kept_warm_when_only_targets_are_set_that_do_not_apply() {
    let facts = node(vec![eni(0, 0).holding(1, 0, 8)]);
    assert_eq!(
        plan(&settings(prefixes(3)), &facts),
        [create(1, Address, 9)]
    );
}

/// amazon-vpc-cni-k8s#587.
#[test]
fn a_warm_eni_target_of_nothing_still_serves_the_first_pod() {
    let facts = node(vec![eni(0, 9)]).waiting(1);
    assert_eq!(plan(&settings(enis(0)), &facts), [assign(0, Address, 9)]);
}

/// amazon-vpc-cni-k8s#1872.
#[test]
fn targets_beyond_one_eni_bring_the_next_at_once() {
    let facts = node(vec![eni(0, 9)]);
    let expected = [
        assign(0, Address, 9),
        create(1, Address, 9),
        create(2, Address, 2),
    ];
    assert_eq!(plan(&settings(ip(12, 20)), &facts), expected);
}

#[test]
fn max_pods_ends_what_is_kept_warm_but_not_who_waits() {
    let capped = |warm| Settings {
        max_pods: Some(20),
        ..settings(warm)
    };
    let held = node(vec![
        eni(0, 0).holding(9, 0, 0),
        eni(1, 0).holding(9, 0, 0),
        eni(2, 7).holding(2, 0, 0),
    ]);
    for warm in ALL_WARM {
        assert_eq!(plan(&capped(warm), &held), [], "{warm:?}");
        let waiting = held.clone().waiting(1);
        assert_eq!(
            plan(&capped(warm), &waiting),
            [assign(2, Address, 1)],
            "{warm:?}"
        );
    }
    // As aws-node does it: the last ask before max-pods may go beyond it.
    let nearly = node(vec![
        eni(0, 0).holding(9, 0, 0),
        eni(1, 0).holding(9, 0, 0),
        eni(2, 8).holding(1, 0, 0),
    ]);
    assert_eq!(plan(&capped(ip(5, 0)), &nearly), [assign(2, Address, 5)]);
    let latency = Warm::Demand(Dial::Latency);
    assert_eq!(plan(&capped(latency), &nearly), [assign(2, Address, 1)]);
}

#[test]
fn room_on_a_busy_eni_is_waited_for_rather_than_a_new_eni_made() {
    let facts = node(vec![eni(0, 8).gates(Gate::Busy)]).waiting(10);
    assert_eq!(
        plan(&settings(nothing_warm()), &facts),
        [create(1, Address, 2)]
    );
    let enough = node(vec![eni(0, 8).gates(Gate::Busy), eni(1, 3)]).waiting(10);
    assert_eq!(
        plan(&settings(nothing_warm()), &enough),
        [assign(1, Address, 2)]
    );
}

#[test]
fn room_on_an_eni_that_is_being_made_is_waited_for_rather_than_one_more_made() {
    let coming = |ipv4_room| ComingEni {
        ipv4_room,
        ipv6_room: 0,
    };
    let mut facts = node(vec![eni(0, 0)]).waiting(10);
    facts.coming = vec![coming(8)];
    facts.enis_per_card.insert(0, 2);
    facts.taken.insert(at(1));
    assert_eq!(
        plan(&settings(nothing_warm()), &facts),
        [create(2, Address, 2)]
    );
    assert_eq!(plan(&delegated(nothing_warm()), &facts), []);
    facts.subnets[0].prefixes = Gate::Closed;
    let addresses = [create(2, Address, 2)];
    assert_eq!(plan(&delegated(nothing_warm()), &facts), addresses);
}

#[test]
fn an_eni_that_refuses_is_passed_by() {
    let refusing = eni(0, 8).gates(Gate::Closed);
    let facts = node(vec![refusing, eni(2, 1)]).waiting(2);
    let expected = [assign(2, Address, 1), create(1, Address, 1)];
    assert_eq!(plan(&settings(nothing_warm()), &facts), expected);
}

#[test]
fn no_eni_is_made_beyond_the_limits_or_while_ec2_refuses_or_is_slow() {
    let single = settings(nothing_warm());
    let facts = node(vec![eni(0, 0)]).waiting(50);
    let two = [create(1, Address, 9), create(2, Address, 9)];
    assert_eq!(plan(&single, &facts), two);
    let max_eni = Settings {
        max_enis_per_card: Some(2),
        ..single.clone()
    };
    assert_eq!(plan(&max_eni, &facts), [create(1, Address, 9)]);
    let mut others = facts.clone();
    others.enis_per_card.insert(0, 3);
    assert_eq!(plan(&single, &others), []);
    for gate in [Gate::Busy, Gate::Closed] {
        let mut refused = facts.clone();
        refused.new_eni = gate;
        assert_eq!(plan(&single, &refused), []);
    }
}

#[test]
fn new_enis_take_the_lowest_free_places_and_other_cards_only_when_they_may() {
    let p4d = InstanceLimits {
        enis_per_card: vec![3, 2, 2],
        ..m5_large()
    };
    let mut facts = node(vec![eni(0, 0), eni(2, 0)]).waiting(99);
    let second = Place {
        card: 1,
        device_index: 1,
    };
    facts.taken.insert(second);
    facts.enis_per_card.insert(1, 1);
    let places = |settings: &Settings| -> Vec<(u32, u32)> {
        let plan = grow(settings, &p4d, &facts);
        let places = plan.iter().map(|action| match action {
            Action::Create { place, .. } => (place.card, place.device_index),
            other => panic!("{other:?}"),
        });
        places.collect()
    };
    let first_card = settings(nothing_warm());
    assert_eq!(places(&first_card), [(0, 1)]);
    let all_cards = Settings {
        all_cards: true,
        ..first_card
    };
    assert_eq!(places(&all_cards), [(0, 1), (1, 2), (2, 1), (2, 2)]);
    let max_eni = Settings {
        max_enis_per_card: Some(1),
        ..all_cards
    };
    assert_eq!(places(&max_eni), [(2, 1)]);
}

#[test]
fn a_subnet_that_refuses_gives_way_to_the_next_and_one_that_is_slow_is_waited_for() {
    let mut facts = node(vec![eni(0, 0)]).waiting(3);
    facts.subnets = vec![subnet("subnet-1"), subnet("subnet-2")];
    facts.subnets[1].groups = Vec::new();
    let single = settings(nothing_warm());
    assert_eq!(plan(&single, &facts), [create(1, Address, 3)]);
    facts.subnets[0].addresses = Gate::Busy;
    assert_eq!(plan(&single, &facts), []);
    facts.subnets[0].addresses = Gate::Closed;
    let Action::Create { subnet, groups, .. } = &plan(&single, &facts)[0] else {
        panic!("no ENI")
    };
    assert_eq!((subnet, groups.len()), (&SubnetId::new("subnet-2"), 0));
    facts.subnets[1].addresses = Gate::Closed;
    assert_eq!(plan(&single, &facts), []);
}

/// amazon-vpc-cni-k8s#1634, cilium#20822.
#[test]
fn where_no_prefix_is_to_be_had_addresses_serve_and_prefixes_come_back() {
    let delegated = delegated(nothing_warm());
    let mut facts = node(vec![eni(0, 9)]).waiting(20);
    facts.enis[0].prefixes = Gate::Closed;
    facts.subnets[0].prefixes = Gate::Closed;
    let fall_back = [
        assign(0, Address, 9),
        create(1, Address, 9),
        create(2, Address, 2),
    ];
    assert_eq!(plan(&delegated, &facts), fall_back);
    // Another subnet still has prefixes.
    facts.subnets.push(subnet("subnet-2"));
    let next_subnet = [
        assign(0, Address, 9),
        create_in("subnet-2", 1, Some((Prefix, 1)), 0),
    ];
    assert_eq!(plan(&delegated, &facts), next_subnet);
    // Prefixes are to be had soon: they are waited for.
    facts.enis[0].prefixes = Gate::Busy;
    assert_eq!(plan(&delegated, &facts), []);
    facts.enis[0].prefixes = Gate::Open;
    assert_eq!(plan(&delegated, &facts), [assign(0, Prefix, 2)]);
    // An instance type that takes none.
    let old = InstanceLimits {
        prefixes: false,
        ..m5_large()
    };
    assert_eq!(grow(&delegated, &old, &facts)[0], assign(0, Address, 9));
    // Three prefixes' worth, to the last address.
    let mut facts = node(vec![eni(0, 60).holding(0, 0, 1)]);
    facts.enis[0].prefixes = Gate::Closed;
    facts.subnets[0].prefixes = Gate::Closed;
    assert_eq!(
        plan(&super::delegated(prefixes(3)), &facts),
        [assign(0, SlotKind::Address, 47)]
    );
}

#[test]
fn a_subnet_without_one_address_makes_no_eni_though_it_has_prefixes() {
    let mut facts = node(vec![eni(0, 0)]).waiting(20);
    facts.subnets[0].addresses = Gate::Closed;
    assert_eq!(plan(&delegated(nothing_warm()), &facts), []);
}

#[test]
fn one_ipv6_prefix_on_the_first_eni_with_room_serves_all() {
    let ipv6 = warm(Families::V6);
    let bare = node(vec![eni(0, 9)]);
    assert_eq!(plan(&ipv6, &bare), [assign(0, Ipv6Prefix, 1)]);
    assert_eq!(
        plan(&ipv6, &bare.clone().waiting(500)),
        [assign(0, Ipv6Prefix, 1)]
    );
    let there = node(vec![eni(0, 8).with_ipv6_prefix(300)]);
    assert_eq!(plan(&ipv6, &there.waiting(500)), []);
    let full = node(vec![eni(0, 0), eni(1, 4)]);
    assert_eq!(plan(&ipv6, &full), [assign(1, Ipv6Prefix, 1)]);
    let busy = node(vec![eni(0, 9).gates(Gate::Busy), eni(1, 4)]);
    assert_eq!(plan(&ipv6, &busy), []);
    let none = node(vec![eni(0, 9).gates(Gate::Closed)]);
    assert_eq!(plan(&ipv6, &none), [create_in("subnet-1", 1, None, 1)]);
    let mut coming = none.clone();
    coming.coming = vec![ComingEni {
        ipv4_room: 0,
        ipv6_room: 1,
    }];
    assert_eq!(plan(&ipv6, &coming), []);
    // An instance type without prefixes has no IPv6 for pods, whatever its ENIs have room for.
    let old = InstanceLimits {
        prefixes: false,
        ..m5_large()
    };
    let none_yet = Facts {
        coming: Vec::new(),
        ..none.clone()
    };
    assert_eq!(grow(&ipv6, &old, &none_yet), []);
    assert_eq!(coming.reach(&ipv6, &old), 0);
    let mut no_ipv6 = none;
    no_ipv6.subnets[0].ipv6_prefixes = Gate::Closed;
    assert_eq!(plan(&ipv6, &no_ipv6), []);
    let single_stack = settings(nothing_warm());
    assert!(
        plan(&single_stack, &bare)
            .iter()
            .all(|action| *action == assign(0, Address, 1))
    );
}

#[test]
fn a_dual_stack_node_grows_in_both_families_at_once() {
    let dual = warm(Families::Dual);
    let bare = node(vec![eni(0, 9)]).waiting(20);
    let both = [assign(0, Prefix, 2), assign(0, Ipv6Prefix, 1)];
    assert_eq!(plan(&dual, &bare), both);
    let full = node(vec![eni(0, 0)]).waiting(20);
    let one_eni = [create_in("subnet-1", 1, Some((Prefix, 2)), 1)];
    assert_eq!(plan(&dual, &full), one_eni);
    // Two ENIs for IPv4: the first brings IPv6, the second need not.
    let burst = full.clone().waiting(200);
    let two = [
        create_in("subnet-1", 1, Some((Prefix, 9)), 1),
        create_in("subnet-1", 2, Some((Prefix, 4)), 0),
    ];
    assert_eq!(plan(&dual, &burst), two);
    // Both families of one subnet are better than prefixes of another.
    let mut split = full;
    split.subnets = vec![subnet("subnet-1"), subnet("subnet-2")];
    split.subnets[0].ipv6_prefixes = Gate::Closed;
    split.subnets[1].prefixes = Gate::Closed;
    let addresses = [
        create_in("subnet-2", 1, Some((Address, 9)), 1),
        create_in("subnet-1", 2, Some((Prefix, 1)), 0),
    ];
    assert_eq!(plan(&dual, &split), addresses);
}

#[test]
fn in_trouble_or_when_the_node_drains_only_who_waits_is_asked_for() {
    for warm in ALL_WARM {
        for (settings, one) in [
            (settings(warm), assign(0, Address, 2)),
            (delegated(warm), assign(0, Prefix, 1)),
        ] {
            let bare = Facts {
                bound: 30,
                ..node(vec![eni(0, 9)])
            };
            let cautious = Facts {
                mode: Mode::AllocateOnly,
                ..bare.clone()
            };
            let draining = Facts {
                draining: true,
                ..bare.clone()
            };
            for facts in [cautious, draining] {
                assert_eq!(plan(&settings, &facts), [], "{warm:?}");
                let waiting = plan(&settings, &facts.waiting(2));
                assert_eq!(waiting, std::slice::from_ref(&one), "{warm:?}");
            }
            let frozen = Facts {
                mode: Mode::Frozen,
                ..bare.waiting(2)
            };
            assert_eq!(plan(&settings, &frozen), [], "{warm:?}");
        }
    }
    let draining = Facts {
        draining: true,
        ..node(vec![eni(0, 9)])
    };
    let ipv6 = warm(Families::V6);
    assert_eq!(plan(&ipv6, &draining), []);
    assert_eq!(
        plan(&ipv6, &draining.waiting(1)),
        [assign(0, Ipv6Prefix, 1)]
    );
}
