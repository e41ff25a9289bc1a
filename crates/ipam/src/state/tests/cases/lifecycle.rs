//! ENIs that come and go.

use std::time::Duration;

use super::*;

/// #66, #3833: attached ENIs that no state knew blocked the instance's limit. #1447, #69, #608: ENIs leaked.
#[test]
fn wherever_a_crash_cuts_the_making_of_an_eni_it_is_in_the_pool_or_gone() {
    for arrives in [false, true] {
        for imds in [false, true] {
            for cut in 0..24 {
                let mut world = World::started(targets(1, 0));
                world.imds = imds;
                for n in 0..4 {
                    world.add(n, 60_000);
                }
                for _ in 0..cut {
                    if world.todo.is_empty() {
                        world.deliver(0);
                    } else {
                        world.carry_out(0, Fate::Works);
                    }
                }
                world.crash(arrives);
                minutes(&mut world, 10);
                let name = format!("after {cut}, arrives: {arrives}, IMDS: {imds}");
                assert_eq!(world.leaked(), [], "{name}");
                assert_eq!(world.state.ledger().intents, [], "{name}");
                let held = world.state.view().ipv4.held;
                assert_eq!(held, world.held_by_ec2(), "{name}");
            }
        }
    }
}

/// #1447, #1223: the same where an ENI goes: detached, not yet deleted, and forgotten.
#[test]
fn wherever_a_crash_cuts_the_end_of_an_eni_it_is_in_the_pool_or_gone() {
    for cut in 0..40 {
        let mut world = World::started(targets(1, 0));
        for n in 0..4 {
            world.add(n, 60_000);
        }
        world.calm();
        for n in 0..4 {
            world.del(n);
        }
        world.calm();
        world.go_on_until(|world| called(world, "DetachNetworkInterface") > 0);
        for _ in 0..cut % 10 {
            if world.todo.is_empty() {
                world.deliver(0);
            } else {
                world.carry_out(0, Fate::Works);
            }
        }
        world.imds = cut >= 20;
        world.crash(cut % 20 >= 10);
        minutes(&mut world, 10);
        assert_eq!(world.leaked(), [], "after {cut}");
        assert_eq!(world.state.view().enis.len(), 1, "after {cut}");
    }
}

/// #3833, #66: an ENI that was attached and never registered made the node useless.
#[test]
fn an_attached_eni_of_ours_that_the_books_do_not_know_serves() {
    let mut world = World::new(targets(0, 0));
    let found = attach(&mut world, true, 1);
    world.step(fresh());
    let requests: Vec<_> = (0..9).map(|n| world.add(n, 60_000)).collect();
    world.calm();
    let mut on_it = 0;
    for request in requests {
        on_it += u32::from(only(&granted(&world, request)).eni == found);
    }
    assert_eq!(on_it, 3);
}

/// #1223, #1927: a node that goes began to detach ENIs, and died in the middle.
#[test]
fn a_node_that_drains_or_ends_begins_to_give_nothing_back() {
    for ends in [false, true] {
        let mut world = full();
        if ends {
            world.step(Event::ShutDown);
        } else {
            world.step(Event::Draining(true));
        }
        for n in 0..9 {
            world.del(n);
        }
        minutes(&mut world, 30);
        let end = ["DetachNetworkInterface", "UnassignPrivateIpAddresses"];
        assert_eq!(end.map(|action| called(&world, action)), [0, 0]);
    }
}

/// #726, #1607, #3660: an ENI with `no_manage` was used, or miscounted; here it gets the tag while pods are on it.
#[test]
fn an_eni_that_becomes_somebody_elses_is_not_touched_any_more_and_its_pods_stay() {
    let mut world = full();
    let mut one = world.eni("eni-1").clone();
    world.eni("eni-1").managed = false;
    one.managed = false;
    let asked = world.asked.len();
    world.step(Event::Doubt);
    world.calm();
    assert_eq!(world.state.view().enis[1].state, EniState::Unmanaged);
    assert_eq!(world.owned.len(), 9);
    for n in 0..9 {
        world.del(n);
    }
    world.calm();
    for n in 10..17 {
        world.add(n, COOLDOWN * 2);
    }
    minutes(&mut world, 10);
    let eni = EniId::new("eni-1");
    assert!(
        world.asked[asked..]
            .iter()
            .all(|call| call.eni() != Some(&eni))
    );
    assert_eq!(*world.eni("eni-1"), one);
    assert_eq!(world.state.view().ipv4.owned, 6, "on the other two");
}

/// #3122, #3489, #3681: an ENI of the other family made ipamd crash at its start.
#[test]
fn an_eni_of_another_family_does_no_harm() {
    for (families, slot) in [(Families::V4, "fd00:1::/80"), (Families::V6, "10.9.9.9/32")] {
        for managed in [false, true] {
            let mut world = World::new(settings(families, false, Warm::Demand(Dial::Economy)));
            let other = attach(&mut world, managed, 1);
            world.eni(other.as_str()).slots = vec![slot.parse().unwrap()];
            world.step(fresh());
            world.calm();
            let request = world.add(1, 60_000);
            world.calm();
            granted(&world, request);
        }
    }
}

/// #458, #538: an ENI was deleted, or force-detached, while it was attached.
#[test]
fn an_eni_is_taken_down_then_detached_then_deleted() {
    let mut world = World::started(targets(1, 0));
    for n in 0..3 {
        world.add(n, 60_000);
    }
    world.calm();
    let asked = world.asked.len();
    for n in 0..3 {
        world.del(n);
    }
    minutes(&mut world, 10);
    let eni = EniId::new("eni-1");
    let of_it = world.asked[asked..].iter();
    let of_it = of_it.filter(|call| call.eni() == Some(&eni));
    let actions: Vec<_> = of_it.map(Call::action).collect();
    assert_eq!(
        actions,
        ["DetachNetworkInterface", "DeleteNetworkInterface"]
    );
}

/// lyft#41, #1447: an UnassignPrivateIpAddresses with an unknown outcome.
#[test]
fn an_address_whose_giving_back_has_an_unknown_outcome_is_given_to_nobody() {
    let fates = [
        Fate::WorksUnknown,
        Fate::Fails(CallErrorKind::Unknown),
        Fate::Fails(CallErrorKind::Throttled),
    ];
    for fate in fates {
        for crash in [false, true] {
            let mut world = World::started(targets(1, 0));
            for n in 0..2 {
                world.add(n, 60_000);
            }
            world.calm();
            for n in 0..2 {
                world.del(n);
            }
            let unassign = |effect: &Effect| is_call(effect, "UnassignPrivateIpAddresses");
            world.until_to_do(unassign);
            let going = world.state.ledger().tombstones;
            carry_out(&mut world, unassign, fate);
            if crash {
                world.crash(false);
            }
            let requests: Vec<_> = (10..13).map(|n| world.add(n, 60_000)).collect();
            minutes(&mut world, 1);
            for request in requests {
                let net = IpNet::from(address(&world, request));
                assert!(going.iter().all(|it| it.slot != net), "{net} goes");
            }
            minutes(&mut world, 5);
            assert_eq!(world.state.view().ipv4.held, world.held_by_ec2());
            assert_eq!(world.state.view().ipv4.leaving, 0);
        }
    }
}

/// #1447: an ENI outlives its instance, because the books of its making were lost.
#[test]
fn an_eni_of_ours_that_would_outlive_the_instance_is_told_to_go_with_it_and_no_other_is() {
    let mut world = World::new(targets(0, 0));
    let enis = [
        "eni-0",
        attach(&mut world, true, 1).as_str(),
        attach(&mut world, false, 2).as_str(),
    ]
    .map(str::to_owned);
    for eni in &enis {
        let attachment = world.eni(eni).attachment.as_mut().unwrap();
        attachment.delete_on_termination = false;
    }
    world.step(fresh());
    minutes(&mut world, 2);
    let goes = enis.map(|eni| {
        world
            .eni(&eni)
            .attachment
            .as_ref()
            .unwrap()
            .delete_on_termination
    });
    assert_eq!(goes, [false, true, false]);
    assert_eq!(called(&world, "ModifyNetworkInterfaceAttribute"), 1);
    assert_eq!(world.state.ledger().intents, []);
}

/// Others attach an ENI where ours was to be.
#[test]
fn enis_whose_place_is_taken_go_to_the_next_that_is_not_promised() {
    let mut node = node();
    node.limits.enis_per_card = vec![6];
    let mut world = World::on(node, targets(9, 0));
    world.step(fresh());
    let create = |effect: &Effect| is_call(effect, "CreateNetworkInterface");
    world.until_to_do(create);
    attach(&mut world, false, 1);
    world.step(Event::Doubt);
    let describe = |effect: &Effect| is_call(effect, "DescribeNetworkInterfaces");
    carry_out(&mut world, describe, Fate::Works);
    minutes(&mut world, 2);
    let places = world.asked.iter().filter_map(|call| match call {
        Call::AttachEni { place, .. } => Some(place.device_index),
        _ => None,
    });
    let mut places: Vec<_> = places.collect();
    places.sort_unstable();
    // One was under way already: it is refused once.
    assert_eq!(places, [1, 2, 3]);
    let view = world.state.view();
    let at: Vec<_> = view.enis.iter().map(|eni| eni.place.device_index).collect();
    assert_eq!(at, [0, 1, 2, 3]);
    assert_eq!(view.ipv4.free, 9);
}

#[test]
fn an_eni_that_goes_is_still_going_when_a_describe_shows_it() {
    let mut world = World::started(targets(1, 0));
    for n in 0..4 {
        world.add(n, 60_000);
    }
    world.calm();
    for n in 0..4 {
        world.del(n);
    }
    world.until_to_do(|effect| matches!(effect, Effect::TearDownEni { .. }));
    world.advance(1_000);
    world.step(Event::Doubt);
    let describe = |effect: &Effect| is_call(effect, "DescribeNetworkInterfaces");
    carry_out(&mut world, describe, Fate::Works);
    assert_eq!(world.state.view().enis[1].state, EniState::Draining);
    assert!(
        !world
            .todo
            .iter()
            .any(|effect| matches!(effect, Effect::SetUpEni(_)))
    );
    minutes(&mut world, 1);
    assert_eq!(world.state.view().enis.len(), 1);
    assert_eq!(called(&world, "DetachNetworkInterface"), 1);
}

#[test]
fn an_eni_that_cannot_be_taken_down_is_tried_again_in_its_time_and_is_not_detached_before() {
    let mut world = World::started(targets(1, 0));
    for n in 0..4 {
        world.add(n, 60_000);
    }
    world.calm();
    for n in 0..4 {
        world.del(n);
    }
    let tear_down = |effect: &Effect| matches!(effect, Effect::TearDownEni { .. });
    world.until_to_do(tear_down);
    carry_out(&mut world, tear_down, Fate::Fails(CallErrorKind::Other));
    world.calm();
    world.advance(749);
    world.step(Event::PodsBound(0));
    assert!(!world.todo.iter().any(tear_down));
    world.advance(251);
    assert!(world.todo.iter().any(tear_down));
    assert_eq!(called(&world, "DetachNetworkInterface"), 0);
    minutes(&mut world, 1);
    assert_eq!(world.state.view().enis.len(), 1);
}

/// A Describe shows that an ENI has gone before it was told to go with the instance.
#[test]
fn an_eni_that_is_gone_is_not_told_to_go_with_the_instance() {
    let mut world = World::started(targets(0, 0));
    for n in 0..4 {
        world.add(n, 300_000);
    }
    let modify = |effect: &Effect| is_call(effect, "ModifyNetworkInterfaceAttribute");
    world.until_to_do(modify);
    carry_out(&mut world, modify, Fate::Fails(CallErrorKind::Other));
    let attachment = world.eni("eni-1").attachment.take();
    let describe = |effect: &Effect| is_call(effect, "DescribeNetworkInterfaces");
    // EC2 may not see its own change yet.
    world.step(Event::Doubt);
    carry_out(&mut world, describe, Fate::Works);
    assert_eq!(world.state.ledger().intents.len(), 1);
    world.step(Event::Cancel(RequestId(99)));
    world.eni("eni-1").attachment = attachment;
    world.advance(20_000);
    world.eni("eni-1").attachment = None;
    world.advance(11_000);
    world.step(Event::Doubt);
    while let Some(at) = world.todo.iter().position(describe) {
        world.carry_out(at, Fate::Works);
        world.deliver(0);
    }
    let stages: Vec<_> = world
        .state
        .ledger()
        .intents
        .into_iter()
        .map(|it| it.stage)
        .collect();
    let told = |stage: &IntentStage| matches!(stage, IntentStage::DeleteOnTermination(..));
    assert!(!stages.iter().any(told), "{stages:?}");
}

/// What made an ENI needed may come again: it is kept for a minute, as aws-node has it.
#[test]
fn an_eni_goes_a_minute_after_it_came_at_the_earliest_and_later_too() {
    for pods_stay in [0, 5] {
        let mut world = World::started(Settings {
            cooldown: Duration::ZERO,
            ..targets(1, 0)
        });
        for n in 0..4 {
            world.add(n, 60_000);
        }
        world.calm();
        minutes(&mut world, pods_stay);
        for n in 0..4 {
            world.del(n);
        }
        world.calm();
        for _ in 0..58 {
            world.advance(1_000);
            world.calm();
            assert!(pods_stay > 0 || world.state.view().enis[1].state == EniState::Ready);
        }
        minutes(&mut world, 10);
        assert_eq!(world.state.view().enis.len(), 1);
    }
}

/// A pod runs on it, and the books do not know which.
#[test]
fn an_eni_with_an_address_that_a_link_has_does_not_go() {
    let mut world = World::started(targets(1, 0));
    for n in 0..4 {
        world.add(n, 60_000);
    }
    world.calm();
    let on_it = |world: &World, n: u32| {
        let grant = world.state.grant_of(&sandbox(n)).unwrap();
        only(&grant).eni.as_str() == "eni-1"
    };
    let others: Vec<u32> = (0..4).filter(|n| !on_it(&world, *n)).collect();
    assert_eq!(others.len(), 3);
    for n in others {
        world.links.remove(&sandbox(n));
    }
    world.crash_without_books();
    minutes(&mut world, 10);
    assert_eq!(called(&world, "DetachNetworkInterface"), 0);
    world.links.clear();
    minutes(&mut world, 10);
    assert_eq!(called(&world, "DetachNetworkInterface"), 1);
}

#[test]
fn an_eni_that_ec2_does_not_have_any_more_says_so_until_ec2_is_to_be_asked_again() {
    let mut world = full();
    world.eni("eni-1").attachment = None;
    world.advance(60_000);
    world.step(Event::Doubt);
    world.calm();
    let lost = |world: &World| {
        let eni = world.state.view().enis[1].clone();
        (eni.state, eni.trouble)
    };
    let why = "EC2 does not have it on this instance".to_owned();
    assert_eq!(lost(&world), (EniState::Failed, Some(why.clone())));
    world.crash(false);
    assert_eq!(lost(&world), (EniState::SettingUp, None));
    world.calm();
    assert_eq!(lost(&world), (EniState::Failed, Some(why)));
}
