//! How much is asked for and given back.

use std::time::Duration;

use super::*;

/// #2056, #420: the pool grows by one step each time around a loop.
#[test]
fn a_burst_of_fifty_is_served_in_one_go() {
    let mut node = node();
    node.limits.enis_per_card = vec![8];
    node.limits.ipv4_slots_per_eni = 10;
    let mut world = World::on(node, targets(0, 0));
    world.step(fresh());
    world.calm();
    let requests: Vec<_> = (0..50).map(|n| world.add(n, 1)).collect();
    // No time passes, so nothing waited for a turn.
    world.calm();
    for request in requests {
        granted(&world, request);
    }
    assert_eq!(called(&world, "CreateNetworkInterface"), 5);
    assert!(called(&world, "AssignPrivateIpAddresses") <= 7);
}

/// #1872: a warm target beyond one ENI was reached in minutes. #1724: ready was said before the minimum was there.
#[test]
fn targets_beyond_one_eni_are_reached_at_once() {
    for settings in [targets(5, 0), targets(0, 5)] {
        let world = World::started(settings);
        assert_eq!(world.state.view().ipv4.free, 5);
    }
}

/// #587: a node with WARM_ENI_TARGET=0 served no pod.
#[test]
fn a_warm_eni_target_of_nothing_serves_the_first_pod() {
    let mut world = World::started(warm(WarmTargets {
        eni: Some(0),
        ..WarmTargets::default()
    }));
    let request = world.add(1, 60_000);
    world.calm();
    granted(&world, request);
}

/// #3685: with two full prefixes a third was never asked for, and 35 pods were stuck.
#[test]
fn a_pod_that_waits_beside_two_full_prefixes_brings_a_third() {
    let targets = WarmTargets {
        eni: Some(0),
        ip: Some(0),
        minimum_ip: None,
        prefix: Some(1),
    };
    let mut world = World::started(settings(Families::V4, true, Warm::Targets(targets)));
    let requests: Vec<_> = (0..35).map(|n| world.add(n, 60_000)).collect();
    world.calm();
    for request in requests {
        granted(&world, request);
    }
    assert!(world.held_by_ec2() >= 48);
}

/// A prefix that a pod has anything of is not warm.
#[test]
fn a_warm_prefix_is_an_empty_one() {
    let one = WarmTargets {
        prefix: Some(1),
        ..WarmTargets::default()
    };
    let mut world = World::started(settings(Families::V4, true, Warm::Targets(one)));
    assert_eq!(world.held_by_ec2(), 16);
    world.add(1, 60_000);
    minutes(&mut world, 1);
    assert_eq!(world.held_by_ec2(), 32);
    for n in 2..17 {
        world.add(n, 60_000);
    }
    minutes(&mut world, 10);
    assert_eq!(world.held_by_ec2(), 32);
    let asked = world.asked.len();
    minutes(&mut world, 10);
    assert_eq!(world.asked[asked..], []);
    for n in 1..17 {
        world.del(n);
    }
    minutes(&mut world, 10);
    assert_eq!(world.held_by_ec2(), 16);
}

/// #2896: cooling addresses were counted as supply.
#[test]
fn while_all_that_is_there_cools_a_pod_gets_a_new_address() {
    let mut world = World::started(targets(0, 0));
    for n in 0..2 {
        world.add(n, 60_000);
        world.calm();
        world.del(n);
        world.calm();
    }
    assert_eq!(world.state.view().ipv4.cooling, 2);
    let request = world.add(2, 1_000);
    world.calm();
    granted(&world, request);
}

/// #2042, #3727: counters drifted with every pod that came and went.
#[test]
fn after_a_thousand_pods_the_pool_is_what_it_was() {
    let mut world = World::started(targets(2, 0));
    let before = world.state.view().ipv4;
    for n in 0..1_000 {
        world.add(n, 60_000);
        world.calm();
        if n >= 5 {
            world.del(n - 5);
        }
        world.advance(10_000);
    }
    for n in 995..1_000 {
        world.del(n);
    }
    minutes(&mut world, 20);
    assert_eq!(world.state.view().ipv4, before);
    assert_eq!(world.held_by_ec2(), 2);
}

/// #2793: nodes for 20 pods held 80 to 100 addresses.
#[test]
fn what_is_warm_does_not_go_beyond_what_the_nodes_pods_can_use() {
    let all = [
        targets(3, 0),
        warm(WarmTargets::default()),
        settings(Families::V4, false, Warm::Demand(Dial::Latency)),
    ];
    for settings in all {
        let mut world = World::started(Settings {
            max_pods: Some(4),
            ..settings
        });
        for n in 0..4 {
            world.add(n, 60_000);
            minutes(&mut world, 1);
            assert!(world.held_by_ec2() <= 6, "{}", world.held_by_ec2());
        }
    }
}

/// #2810: the pool grew and shrank for ever.
#[test]
fn a_pool_at_its_target_asks_for_nothing() {
    let all = [
        targets(2, 4),
        warm(WarmTargets::default()),
        warm(WarmTargets {
            eni: Some(0),
            ..WarmTargets::default()
        }),
        settings(Families::V4, false, Warm::Demand(Dial::Balanced)),
    ];
    for settings in all {
        let mut world = World::started(settings);
        world.add(1, 60_000);
        minutes(&mut world, 10);
        let asked = world.asked.len();
        minutes(&mut world, 60);
        assert_eq!(world.asked[asked..], []);
    }
}

/// #2203, #2368: addresses could not be given back because pods were spread over all ENIs.
#[test]
fn what_is_too_much_goes_from_the_eni_that_can_go_soonest() {
    let mut world = World::started(targets(1, 0));
    for n in 0..9 {
        world.add(n, 60_000);
    }
    world.calm();
    let on = |world: &World, eni: &str| -> Vec<u32> {
        (0..9)
            .filter(|n| {
                let grant = world.state.grant_of(&sandbox(*n));
                grant.is_some_and(|grant| only(&grant).eni.as_str() == eni)
            })
            .collect()
    };
    // Two of the primary's go, and all but one of the others'.
    let (zero, one, two) = (
        on(&world, "eni-0"),
        on(&world, "eni-1"),
        on(&world, "eni-2"),
    );
    for n in zero[..2].iter().chain(&one[..2]).chain(&two) {
        world.del(*n);
    }
    minutes(&mut world, 10);
    let view = world.state.view();
    let enis: Vec<_> = view.enis.iter().map(|eni| eni.place.device_index).collect();
    assert_eq!(enis, [0, 1]);
    assert_eq!((view.ipv4.owned, view.ipv4.free), (2, 1));
}

/// #38, cilium#8830: an ENI is asked for that the instance may not have.
#[test]
fn no_eni_is_asked_for_beyond_the_limit() {
    let mut world = full();
    for n in 9..20 {
        let request = world.add(n, 10_000);
        assert_eq!(refused(&world, request).reason, Reason::PoolExhausted);
    }
    minutes(&mut world, 10);
    assert_eq!(called(&world, "CreateNetworkInterface"), 2);
}

/// cilium#9730: an ENI was made with as many addresses as it may have, besides its own.
#[test]
fn an_eni_is_made_with_one_address_less_than_its_limit() {
    let world = World::started(warm(WarmTargets {
        eni: Some(2),
        ..WarmTargets::default()
    }));
    let counts: Vec<_> = world
        .asked
        .iter()
        .filter_map(|call| match call {
            Call::CreateEni { ipv4, .. } => *ipv4,
            _ => None,
        })
        .collect();
    assert_eq!(counts, [(SlotKind::Address, 3)]);
    assert_eq!(world.state.view().ipv4.free, 6);
}

/// cilium#20822, #1634: where there is no /28, the node got nothing. #1585: it is asked for again with restraint.
#[test]
fn without_a_free_prefix_addresses_serve_and_prefixes_are_asked_for_again_later() {
    let mut world = World::new(settings(Families::V4, true, Warm::Demand(Dial::Economy)));
    world.fragmented = true;
    world.step(fresh());
    world.calm();
    let request = world.add(1, 60_000);
    world.calm();
    granted(&world, request);
    let refused = called(&world, "AssignPrivateIpAddresses");
    minutes(&mut world, 60);
    assert!(called(&world, "AssignPrivateIpAddresses") - refused <= 20);
    world.fragmented = false;
    for n in 2..20 {
        world.add(n, 600_000);
    }
    minutes(&mut world, 10);
    assert_eq!(world.state.view().ipv4.owned, 19);
}

/// #1585, #1773: one subnet without prefixes stopped the growth in all.
#[test]
fn a_subnet_that_is_full_leaves_the_others_alone() {
    let other = SubnetChoice {
        id: SubnetId::new("subnet-2"),
        groups: Vec::new(),
    };
    let mut world = World::started(Settings {
        subnets: Subnets::Listed(vec![other]),
        ..targets(1, 0)
    });
    for n in 0..3 {
        world.add(n, 60_000);
    }
    let create = |effect: &Effect| is_call(effect, "CreateNetworkInterface");
    world.until_to_do(create);
    carry_out(
        &mut world,
        create,
        Fate::Fails(CallErrorKind::SubnetExhausted),
    );
    world.calm();
    let subnets: Vec<_> = world
        .asked
        .iter()
        .filter_map(|call| match call {
            Call::CreateEni { subnet, .. } => Some(subnet.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(subnets, ["subnet-1", "subnet-2"]);
    assert_eq!(world.state.view().ipv4.owned, 3);
}

/// #2801, #1210, #1237, #2784: trunk and EFA ENIs got addresses, or were not counted.
#[test]
fn enis_that_are_not_for_pods_get_nothing_and_are_counted() {
    let mut world = World::new(targets(0, 0));
    let theirs = attach(&mut world, false, 1);
    world.step(fresh());
    world.calm();
    let requests: Vec<_> = (0..7).map(|n| world.add(n, 60_000)).collect();
    world.calm();
    for request in &requests[..6] {
        assert_ne!(only(&granted(&world, *request)).eni, theirs);
    }
    assert_eq!(refused(&world, requests[6]).reason, Reason::PoolExhausted);
    assert_eq!(called(&world, "CreateNetworkInterface"), 1);
}

/// Terway's idle reclaim, #114, #2017: what a past peak needed was held for ever.
#[test]
fn an_idle_node_gives_back_all_but_its_minimum() {
    let mut world = World::started(Settings {
        cooldown: Duration::from_millis(COOLDOWN),
        ..targets(1, 2)
    });
    for n in 0..9 {
        world.add(n, 60_000);
    }
    world.calm();
    for n in 0..9 {
        world.del(n);
    }
    minutes(&mut world, 30);
    let view = world.state.view();
    assert_eq!(
        (view.enis.len(), view.ipv4.free, world.held_by_ec2()),
        (1, 2, 2)
    );
}

/// #2810: what pods that were bound and did not come had made grow goes again.
#[test]
fn what_was_made_ready_for_pods_that_did_not_come_is_given_back() {
    let mut world = World::started(settings(Families::V4, false, Warm::Demand(Dial::Economy)));
    let before = world.held_by_ec2();
    world.step(Event::PodsBound(5));
    minutes(&mut world, 2);
    assert!(world.held_by_ec2() >= before + 4);
    world.step(Event::PodsBound(0));
    minutes(&mut world, 10);
    assert!(world.held_by_ec2() <= before + 2);
}

/// What goes at one time goes in one call.
#[test]
fn the_addresses_of_an_eni_that_are_too_many_go_in_one_call() {
    let mut world = World::started(targets(0, 1));
    for n in 0..3 {
        world.add(n, 60_000);
    }
    world.calm();
    minutes(&mut world, 2);
    for n in 0..3 {
        world.del(n);
    }
    minutes(&mut world, 10);
    assert_eq!(world.held_by_ec2(), 1);
    assert_eq!(called(&world, "UnassignPrivateIpAddresses"), 1);
}

/// An instance type that takes no prefixes.
#[test]
fn a_node_without_prefixes_is_served_with_addresses() {
    let mut node = node();
    node.limits.prefixes = false;
    let mut world = World::on(
        node,
        settings(Families::V4, true, Warm::Demand(Dial::Economy)),
    );
    world.step(fresh());
    world.calm();
    let requests = [1, 2, 3, 4].map(|n| world.add(n, 60_000));
    world.calm();
    for request in requests {
        granted(&world, request);
    }
}
