//! Which address is whose: EC2's word, IMDS's, the books'.

use super::*;

/// #3887, #1479: IMDS still lists an address that was unassigned, ipamd restarts, and a pod gets it.
#[test]
fn imds_that_still_lists_what_was_given_back_supplies_no_address() {
    // While the tombstone is kept, and after.
    for later in [0, 60_000] {
        let GaveBack {
            mut world,
            gone,
            seen,
            ..
        } = gave_back();
        world.advance(later);
        world.calm();
        world.restart(Some(seen));
        let requests = [10, 11, 12].map(|n| world.add(n, 60_000));
        world.calm();
        for request in requests {
            let ip = address(&world, request);
            assert!(!gone.contains(&IpNet::from(ip)), "{ip} is dead");
        }
    }
}

/// #3887: an address was unassigned, EC2 gave it to another node, and an older view still shows it here.
#[test]
fn a_describe_that_still_lists_what_was_given_back_supplies_no_address() {
    let GaveBack {
        mut world, facts, ..
    } = gave_back();
    // The last one: EC2 does not take longer than half a minute to see its own changes.
    let tombstones = world.state.ledger().tombstones;
    let gone = tombstones.last().unwrap().slot;
    for restarts in [false, true] {
        if restarts {
            world.restart(None);
        } else {
            world.step(Event::Doubt);
        }
        describe(&mut world, std::slice::from_ref(&facts));
        let view = world.state.view();
        assert!(view.enis[0].slots.iter().all(|it| it.slot != gone));
    }
}

/// #1177, #1148: a view of EC2 that is behind lacks an address that was just assigned, and a pod loses it.
#[test]
fn an_older_view_takes_nothing_away_that_a_reply_gave() {
    let mut world = World::started(targets(1, 0));
    let before = world.eni("eni-0").clone();
    let request = world.add(1, 60_000);
    world.calm();
    let ip = address(&world, request);
    world.step(Event::Doubt);
    describe(&mut world, &[before]);
    world.calm();
    let totals = world.state.view().ipv4;
    assert_eq!((totals.owned, totals.free, totals.quarantined), (1, 1, 0));
    let again = world.add(1, 60_000);
    world.calm();
    assert_eq!(address(&world, again), ip);
}

/// #3019: two sets of addresses were compared by their lengths.
#[test]
fn imds_and_books_of_the_same_length_but_not_the_same_content_are_no_agreement() {
    let mut world = World::started(targets(2, 0));
    let right = world.seen();
    let mut wrong = right.clone();
    let one = wrong[0].slots.pop_first().unwrap();
    wrong[0].slots.insert("10.9.9.9/32".parse().unwrap());
    assert_ne!(one, "10.9.9.9/32".parse().unwrap());
    world.restart(Some(right));
    assert_eq!(described(&world), 1, "the first start's");
    world.restart(Some(wrong));
    assert_eq!(described(&world), 2);
    world.calm();
    assert_eq!(world.state.view().ipv4.held, 2);
}

/// #1479, #1339, #1340: IMDS lists an ENI for more than 80 s after it was deleted.
#[test]
fn an_eni_that_imds_still_lists_after_its_end_does_not_come_back() {
    let mut world = World::started(targets(1, 0));
    for n in 0..3 {
        world.add(n, 60_000);
    }
    world.calm();
    let seen = world.seen();
    assert_eq!(seen.len(), 2);
    for n in 0..3 {
        world.del(n);
    }
    minutes(&mut world, 5);
    assert_eq!(called(&world, "DeleteNetworkInterface"), 1);
    world.restart(Some(seen));
    minutes(&mut world, 1);
    assert_eq!(world.state.view().enis.len(), 1);
    assert_eq!(called(&world, "DeleteNetworkInterface"), 1);
}

/// #1967: IMDS left out a live ENI after a restart, and it was freed under its pods.
#[test]
fn an_eni_with_pods_that_imds_omits_is_kept() {
    let mut world = full();
    let mut seen = world.seen();
    seen.truncate(2);
    world.restart(Some(seen));
    minutes(&mut world, 10);
    assert_eq!(called(&world, "DetachNetworkInterface"), 0);
    let view = world.state.view();
    assert_eq!((view.enis.len(), view.ipv4.owned), (3, 9));
}

/// #732, #754: an ENI is detached by somebody else; its pods keep a dead address, and new ones get another.
#[test]
fn an_eni_that_is_detached_by_others_serves_nobody_and_its_pods_are_named() {
    let mut world = full();
    let lost: Vec<Sandbox> = world
        .owned
        .iter()
        .filter(|(sandbox, _)| {
            let grant = world.state.grant_of(sandbox).unwrap();
            only(&grant).eni.as_str() == "eni-1"
        })
        .map(|(sandbox, _)| sandbox.clone())
        .collect();
    assert_eq!(lost.len(), 3);
    world.eni("eni-1").attachment = None;
    // Its own attachment is older than what EC2 may not have seen yet.
    world.advance(60_000);
    world.step(Event::Doubt);
    world.calm();
    assert_eq!(world.state.view().ipv4.quarantined, 3);
    for sandbox in lost {
        let name = sandbox.to_string();
        assert!(world.told.iter().any(|what| what.contains(&name)), "{name}");
    }
    let request = world.add(20, 60_000);
    world.calm();
    assert_ne!(only(&granted(&world, request)).eni.as_str(), "eni-1");
}

/// #754: an owned address was dropped by force, and only a counter said so.
#[test]
fn an_owned_address_that_ec2_took_is_told_with_its_pod_and_given_to_nobody() {
    let mut world = World::started(targets(0, 0));
    let request = world.add(1, 60_000);
    world.calm();
    let ip = address(&world, request);
    world.take_away(ip);
    world.advance(60_000);
    world.step(Event::Doubt);
    world.calm();
    let told = world.told.iter();
    let mut told = told.filter(|what| what.contains(&ip.to_string()));
    assert!(told.any(|what| what.contains(&sandbox(1).to_string())));
    let other = world.add(2, 60_000);
    world.calm();
    assert_ne!(address(&world, other), ip);
    let again = world.add(1, 60_000);
    assert_eq!(refused(&world, again).reason, Reason::AddressLost);
}

/// #1148: a crash after the reply to AssignPrivateIpAddresses, before it was written down.
#[test]
fn an_address_that_was_assigned_just_before_a_crash_is_found_by_a_describe() {
    let mut world = World::started(targets(0, 0));
    world.add(1, 60_000);
    let assign = |effect: &Effect| is_call(effect, "AssignPrivateIpAddresses");
    let at = world.todo.iter().position(assign).unwrap();
    world.carry_out(at, Fate::Works);
    world.crash(false);
    let request = world.add(1, 60_000);
    world.calm();
    granted(&world, request);
    assert_eq!(world.held_by_ec2(), 1);
    assert_eq!(called(&world, "AssignPrivateIpAddresses"), 1);
}

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
