//! What pods rely on: an address of their own, the same when they ask again, and none that another had a moment ago.

use super::*;

/// #711: two pods with one address.
#[test]
fn of_two_adds_that_race_for_the_last_address_one_gets_it_and_one_is_told_why_not() {
    let mut world = full();
    world.del(0);
    world.advance(COOLDOWN);
    world.calm();
    assert_eq!(world.state.view().ipv4.free, 1);
    let first = world.add(20, 10_000);
    let second = world.add(21, 10_000);
    world.calm();
    granted(&world, first);
    assert_eq!(refused(&world, second).reason, Reason::PoolExhausted);
}

/// #59: an ADD that is tried again takes a second address.
#[test]
fn an_add_that_is_tried_again_has_the_same_address() {
    let mut world = World::started(targets(0, 0));
    let first = world.add(1, 60_000);
    world.calm();
    for _ in 0..3 {
        let again = world.add(1, 60_000);
        world.calm();
        assert_eq!(granted(&world, again), granted(&world, first));
    }
    assert_eq!(world.held_by_ec2(), 1);
}

/// #711, #1009, cilium#26668: a pod is served before it is known which addresses others have.
#[test]
fn an_add_before_the_state_is_loaded_waits_and_gets_nobody_elses_address() {
    let mut world = World::new(targets(1, 0));
    let early = world.add(1, 60_000);
    assert!(world.answers.is_empty());
    world.step(fresh());
    world.calm();
    let ip = address(&world, early);
    world.crash(false);
    let other = world.add(2, 60_000);
    assert!(!world.answers.contains_key(&other));
    world.calm();
    assert_ne!(address(&world, other), ip);
}

/// #1140, #1123, #2283: the state file is gone, and addresses of running pods are given out again.
#[test]
fn with_lost_books_no_address_of_a_running_pod_is_given_to_another() {
    let mut world = full();
    let running: BTreeSet<IpAddr> = world.links.values().flatten().copied().collect();
    world.crash_without_books();
    world.calm();
    assert_eq!(world.state.view().ipv4.quarantined, 9);
    let request = world.add(20, 10_000);
    world.calm();
    assert_eq!(refused(&world, request).reason, Reason::PoolExhausted);
    assert_eq!(running.len(), 9);
}

/// The same where pods have an IPv6 address, alone or besides.
#[test]
fn with_lost_books_no_ipv6_address_of_a_running_pod_is_given_to_another() {
    for families in [Families::V6, Families::Dual] {
        let mut world = World::started(settings(families, false, Warm::Demand(Dial::Economy)));
        for n in 0..2 {
            world.add(n, 60_000);
        }
        world.calm();
        world.crash_without_books();
        world.calm();
        assert_eq!(world.state.view().ipv6.quarantined, 2);
        world.step(Event::Doubt);
        world.calm();
        // That it is nobody else's is asserted at each grant.
        let other = world.add(2, 60_000);
        world.calm();
        granted(&world, other);
        world.links.clear();
        minutes(&mut world, 2);
        assert_eq!(world.state.view().ipv6.quarantined, 0);
    }
}

/// #2384: after a reboot addresses are stuck with pods that are gone.
#[test]
fn after_a_reboot_nothing_is_stuck_with_pods_that_are_gone() {
    let mut world = full();
    // Another boot: its books are not this one's, and the kernel has no links.
    world.links.clear();
    world.crash_without_books();
    world.calm();
    let totals = world.state.view().ipv4;
    assert_eq!((totals.owned, totals.quarantined, totals.free), (0, 0, 9));
}

/// #1123: state that cannot be written is kept in memory alone, and is lost.
#[test]
fn a_grant_that_cannot_be_written_is_refused_and_not_kept_in_memory() {
    let mut world = World::started(targets(1, 0));
    let request = world.add(1, 60_000);
    let writes = |effect: &Effect| *effect == Effect::WriteBooks;
    carry_out(&mut world, writes, Fate::Fails(CallErrorKind::Other));
    assert_eq!(refused(&world, request).reason, Reason::BooksFailed);
    assert_eq!(world.state.grant_of(&sandbox(1)), None);
    world.crash(false);
    world.calm();
    assert_eq!(world.state.view().ipv4.owned, 0);
}

/// #1127, #1188: cooling is forgotten by a restart. #62, #627: an address is used again too soon.
#[test]
fn an_address_cools_to_its_end_also_across_a_restart() {
    let mut world = full();
    let ip = world.owned[&sandbox(4)].0[0];
    world.del(4);
    world.calm();
    world.advance(COOLDOWN / 2);
    world.imds = true;
    world.crash(false);
    let request = world.add(20, COOLDOWN);
    world.advance(COOLDOWN / 2 - 1);
    world.calm();
    assert!(!world.answers.contains_key(&request));
    world.advance(1);
    world.calm();
    assert_eq!(address(&world, request), ip);
}

/// #3634: a connection of the last holder outlives the cooling, so what is free for the longest time is used first.
#[test]
fn the_address_that_is_free_for_the_longest_time_is_used_first() {
    let mut world = World::started(targets(3, 3));
    let first = world.add(1, 60_000);
    world.calm();
    let ip = address(&world, first);
    world.del(1);
    world.calm();
    world.advance(COOLDOWN);
    world.calm();
    for n in 2..4 {
        let request = world.add(n, 60_000);
        world.calm();
        assert_ne!(address(&world, request), ip);
    }
}

/// The same within a prefix, once all of it was used.
#[test]
fn of_a_prefix_too_the_address_that_is_free_for_the_longest_time_is_used_first() {
    let one = WarmTargets {
        ip: Some(1),
        ..WarmTargets::default()
    };
    let mut world = World::started(settings(Families::V4, true, Warm::Targets(one)));
    let first: Vec<IpAddr> = (0..16)
        .map(|n| {
            let request = world.add(n, 60_000);
            world.calm();
            address(&world, request)
        })
        .collect();
    assert!(first.is_sorted(), "the lowest that nobody had");
    for n in [9, 4, 6] {
        world.del(n);
        world.calm();
        world.advance(1_000);
    }
    world.advance(COOLDOWN);
    for (n, before) in [(20, 9), (21, 4), (22, 6)] {
        let request = world.add(n, 60_000);
        world.calm();
        assert_eq!(address(&world, request), first[before]);
    }
}

/// There are so many in a /80 that none has to come twice.
#[test]
fn of_an_ipv6_prefix_no_address_comes_again() {
    let mut world = World::started(settings(Families::V6, false, Warm::Demand(Dial::Economy)));
    let mut had = BTreeSet::new();
    for n in 0..5 {
        let request = world.add(n, 60_000);
        world.calm();
        assert!(had.insert(address(&world, request)));
        world.del(n);
        minutes(&mut world, 2);
    }
}
