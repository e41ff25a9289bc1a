//! ENIs that come and go.

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
        while called(&world, "DetachNetworkInterface") == 0 {
            if world.todo.is_empty() && world.replies.is_empty() {
                world.advance(1_000);
            } else if world.todo.is_empty() {
                world.deliver(0);
            } else {
                world.carry_out(0, Fate::Works);
            }
        }
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
            while !world.todo.iter().any(unassign) {
                if world.todo.is_empty() && world.replies.is_empty() {
                    world.advance(1_000);
                } else if world.todo.is_empty() {
                    world.deliver(0);
                } else {
                    world.carry_out(0, Fate::Works);
                }
            }
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
