use super::*;

fn reach(settings: &Settings, facts: &Facts) -> (u32, u32) {
    let limits = m5_large();
    (
        facts.reach(settings, &limits),
        facts.limit(settings, &limits),
    )
}

#[test]
fn reach_counts_enis_that_are_there_being_made_and_to_be_made() {
    let mut facts = node(vec![eni(0, 4).holding(0, 0, 5)]);
    assert_eq!(reach(&settings(nothing_warm()), &facts), (22, 22));
    assert_eq!(
        reach(&delegated(nothing_warm()), &facts),
        (22 * 16, 22 * 16)
    );
    facts.coming = vec![ComingEni {
        ipv4_room: 2,
        ipv6_room: 0,
    }];
    facts.enis_per_card.insert(0, 2);
    assert_eq!(reach(&settings(nothing_warm()), &facts), (15, 15));
}

#[test]
fn what_ec2_refuses_is_out_of_reach_but_within_the_limits_and_what_is_slow_is_not() {
    let single = settings(nothing_warm());
    let mut facts = node(vec![
        eni(0, 9).gates(Gate::Busy),
        eni(1, 5).gates(Gate::Closed),
    ]);
    facts.new_eni = Gate::Busy;
    assert_eq!(reach(&single, &facts), (18, 23));
    facts.new_eni = Gate::Closed;
    assert_eq!(reach(&single, &facts), (9, 23));
    facts.new_eni = Gate::Open;
    facts.subnets[0].addresses = Gate::Closed;
    assert_eq!(reach(&single, &facts), (9, 23));
    facts.mode = Mode::Frozen;
    assert_eq!(reach(&single, &facts), (0, 23));
    let full = node(vec![eni(0, 0), eni(1, 0), eni(2, 0)]);
    assert_eq!(reach(&single, &full), (0, 0));
}

#[test]
fn without_prefixes_reach_counts_addresses() {
    let mut facts = node(vec![eni(0, 4), eni(1, 4)]);
    facts.enis[0].prefixes = Gate::Closed;
    let delegated = delegated(nothing_warm());
    assert_eq!(reach(&delegated, &facts), (4 + 64 + 144, 128 + 144));
    facts.subnets[0].prefixes = Gate::Closed;
    assert_eq!(reach(&delegated, &facts), (4 + 64 + 9, 128 + 144));
}

#[test]
fn the_scarcer_family_decides_for_a_pod_that_wants_both() {
    let dual = Settings {
        families: Families::Dual,
        ..settings(nothing_warm())
    };
    // IPv4 to be had, and IPv6 too.
    let facts = node(vec![eni(0, 4)]);
    assert_eq!(reach(&dual, &facts), (22, 22));
    // IPv4 is there, IPv6 to be had: the reach is what both serve then.
    let ready = node(vec![eni(0, 4).holding(0, 0, 5)]);
    assert_eq!(reach(&dual, &ready), (27, 27));
    let both = node(vec![eni(0, 4).holding(0, 0, 5).with_ipv6_prefix(0)]);
    assert_eq!(reach(&dual, &both), (22, 22));
    // No IPv6 in sight.
    let mut without = ready.clone();
    without.enis[0].ipv6_prefixes = Gate::Closed;
    without.subnets[0].ipv6_prefixes = Gate::Closed;
    assert_eq!(reach(&dual, &without), (0, 27));
    // IPv6 by a new ENI alone.
    without.subnets[0].ipv6_prefixes = Gate::Open;
    assert_eq!(reach(&dual, &without), (27, 27));
    without.enis_per_card.insert(0, 3);
    assert_eq!(reach(&dual, &without), (0, 9));
    let ipv6 = Settings {
        families: Families::V6,
        ..dual
    };
    assert_eq!(reach(&ipv6, &facts), (u32::MAX, u32::MAX));
    let old = InstanceLimits {
        prefixes: false,
        ipv6_slots_per_eni: 0,
        ..m5_large()
    };
    assert_eq!(node(vec![eni(0, 0)]).limit(&ipv6, &old), 0);
}

#[test]
fn the_first_new_eni_of_a_dual_stack_node_goes_where_ipv6_is() {
    let dual = Settings {
        families: Families::Dual,
        ..delegated(nothing_warm())
    };
    let mut facts = node(vec![eni(0, 0)]);
    facts.subnets = vec![subnet("subnet-1"), subnet("subnet-2")];
    facts.subnets[0].ipv6_prefixes = Gate::Closed;
    facts.subnets[1].prefixes = Gate::Closed;
    // Addresses with IPv6 in one, and prefixes in the other.
    assert_eq!(reach(&dual, &facts), (9 + 144, 144 + 144));
    // An ENI has room for IPv6: both go where prefixes are.
    facts.enis[0].ipv6_room = 1;
    assert_eq!(reach(&dual, &facts), (144 + 144, 144 + 144));
    facts.enis[0].ipv6_room = 0;
    // So they do where IPv6 is there already, and the one that is left where an ENI that is being made has room for it.
    let there = facts.enis[0].clone().with_ipv6_prefix(0);
    let subnets = facts.subnets.clone();
    assert_eq!(
        reach(
            &dual,
            &Facts {
                subnets,
                ..node(vec![there])
            }
        ),
        (144 + 144, 144 + 144)
    );
    facts.enis_per_card.insert(0, 2);
    for (ipv6_room, ipv4) in [(0, 9), (1, 144), (2, 144)] {
        facts.coming = vec![ComingEni {
            ipv4_room: 0,
            ipv6_room,
        }];
        assert_eq!(reach(&dual, &facts), (ipv4, 144));
    }
}
