//! Addresses and prefixes that had two masters, or none.

use super::*;

/// A node that holds prefixes, and keeps so many addresses warm.
fn with_prefixes(warm_ip: u32) -> World {
    let warm = Warm::Targets(WarmTargets {
        ip: Some(warm_ip),
        ..WarmTargets::default()
    });
    World::started(settings(Families::V4, true, warm))
}

/// What EC2 has assigned to the primary ENI, in a reply under way, is this and not what it was.
fn gives_instead(world: &mut World, slot: IpNet) {
    let assigned = |reply: &mut Event| match reply {
        Event::CallDone {
            outcome: Ok(CallReply::Assigned(slots)),
            ..
        } => Some(std::mem::replace(&mut slots[0], slot)),
        _ => None,
    };
    let net = world.replies.iter_mut().find_map(assigned).expect("one");
    world.eni("eni-0").slots.retain(|it| *it != net);
    world.eni("eni-0").slots.push(slot);
}

#[test]
fn what_cooled_on_an_eni_that_is_not_ours_any_more_is_forgotten_when_it_has_cooled() {
    let mut world = World::started(settings(Families::V4, false, warm_enis(1)));
    for n in 0..6 {
        world.add(n, 90_000);
    }
    world.calm();
    world.advance(20_000);
    world.calm();
    for n in 0..6 {
        world.del(n);
    }
    world.calm();
    // Somebody tags it `no_manage` while its addresses cool.
    world.eni("eni-1").managed = false;
    world.advance(1_000);
    world.step(crate::Event::Doubt);
    world.calm();
    for _ in 0..60 {
        world.advance(10_000);
        world.calm();
    }
    let view = world.state.view();
    let theirs = view
        .enis
        .iter()
        .find(|eni| eni.state == crate::EniState::Unmanaged);
    assert_eq!(
        theirs.map(|eni| eni.slots.len()),
        Some(0),
        "{:?}",
        view.ipv4
    );
}

#[test]
fn an_address_that_comes_alone_and_was_of_a_prefix_that_was_taken_away_keeps_its_owner() {
    let mut world = with_prefixes(2);
    world.add(0, 90_000);
    world.calm();
    let grant = world.state.grant_of(&sandbox(0)).expect("a grant");
    let ip = grant.addresses[0].address;
    world.take_away(ip);
    world.step(Event::Doubt);
    world.calm();
    world.eni("eni-0").slots.push(ip.into());
    world.advance(40_000);
    world.step(Event::Doubt);
    world.calm();
    world.advance(40_000);
    world.calm();
    let other = world.add(1, 90_000);
    world.calm();
    let answer = world.answers.get(&other);
    assert!(matches!(answer, Some(Answer::Granted(_))), "{answer:?}");
    let view = world.state.view();
    let times = view.enis.iter().flat_map(|eni| &eni.addresses);
    assert_eq!(times.filter(|it| it.address == ip).count(), 1);
}

#[test]
fn a_prefix_that_was_taken_away_unseen_ends_when_ec2_gives_an_address_of_it() {
    let mut world = with_prefixes(1);
    let prefix = world.eni("eni-0").slots[0];
    world.fragmented = true;
    for n in 0..16 {
        world.add(n, 90_000);
    }
    world.calm();
    // The last address of the prefix cools; others take the prefix, and no other is to be had.
    world.del(15);
    world.calm();
    let last = prefix.broadcast();
    world.take_away(last);
    world.add(16, 90_000);
    world.add(17, 90_000);
    let mut given = None;
    for _ in 0..200 {
        if world.todo.is_empty() && world.replies.is_empty() {
            break;
        }
        if world.todo.is_empty() {
            world.deliver(0);
            continue;
        }
        world.carry_out(0, Fate::Works);
        for reply in &mut world.replies {
            if let Event::CallDone {
                outcome: Ok(CallReply::Assigned(slots)),
                ..
            } = reply
                && given.is_none()
            {
                given = Some(slots[0]);
                slots[0] = last.into();
            }
        }
        if let Some(net) = given.take_if(|net| *net != IpNet::from(last)) {
            let held = &mut world.eni("eni-0").slots;
            held.retain(|it| *it != net);
            held.push(last.into());
            given = Some(last.into());
        }
    }
    assert_eq!(given, Some(last.into()));
    let view = world.state.view();
    let slots = view.enis.iter().flat_map(|eni| &eni.slots);
    let free = slots.filter(|it| it.slot == prefix && it.state == AddressState::Free);
    assert_eq!(free.count(), 0, "{view:?}");
}

#[test]
fn a_pod_whose_books_are_lost_keeps_its_address_also_when_ec2_shows_it_late() {
    let mut world = World::started(settings(Families::V4, false, warm_enis(0)));
    let first = world.add(0, 90_000);
    world.calm();
    let Some(Answer::Granted(grant)) = world.answers.get(&first) else {
        panic!("{:?}", world.answers);
    };
    let ip = grant.addresses[0].address;
    // The first Describe after the crash is of a time before the address was assigned.
    let held = std::mem::take(&mut world.eni("eni-0").slots);
    world.crash_without_books();
    world.go_on_until(|world| matches!(world.todo.first(), Some(Effect::SetUpEni(_))));
    world.eni("eni-0").slots = held;
    world.step(Event::Doubt);
    world.calm();
    for n in 1..3 {
        world.add(n, 90_000);
    }
    world.calm();
    let view = world.state.view();
    let mut addresses = view.enis.iter().flat_map(|eni| &eni.addresses);
    let state = addresses.find(|it| it.address == ip).map(|it| it.state);
    assert_eq!(state, Some(AddressState::Quarantined), "{view:?}");
}

#[test]
fn an_address_that_came_with_a_new_eni_is_not_moved_by_a_describe_that_is_older() {
    let mut world = World::started(targets(0, 0));
    for n in 0..3 {
        world.add(n, 90_000);
    }
    world.calm();
    let last = world.add(3, 90_000);
    world.go_on_until(|world| {
        matches!(
            world.todo.first(),
            Some(Effect::Call(_, Call::AttachEni { .. }))
        )
    });
    let came = world.eni("eni-1").slots[0];
    // EC2 shows it still where it was until a moment ago.
    world.step(Event::Doubt);
    world.eni("eni-0").slots.push(came);
    world.carry_out(1, Fate::Works);
    world.eni("eni-0").slots.pop();
    world.deliver(0);
    world.calm();
    let answer = world.answers.get(&last);
    let Some(Answer::Granted(grant)) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(grant.addresses[0].eni.as_str(), "eni-1");
}

#[test]
fn what_a_life_before_may_have_routed_is_not_given_back_until_its_link_is_set_up() {
    let mut world = World::started(targets(1, 0));
    for n in 0..3 {
        world.add(n, 90_000);
    }
    world.calm();
    for n in 0..3 {
        world.del(n);
    }
    world.calm();
    world.crash(false);
    world.go_on_until(|world| matches!(world.todo.first(), Some(Effect::SetUpEni(_))));
    // Its link is slow to come.
    world.advance(200_000);
    assert_eq!(world.state.view().ipv4.leaving, 0);
}

#[test]
fn an_address_that_went_from_one_eni_to_another_stays_there_over_a_restart_with_an_older_view() {
    let mut world = World::started(targets(1, 0));
    for n in 0..5 {
        world.add(n, 90_000);
    }
    world.calm();
    let before = world.eni("eni-1").slots.clone();
    for n in [0, 1, 2, 4] {
        world.del(n);
    }
    while world.eni("eni-1").slots.len() > 1 {
        world.advance(1_000);
        world.calm();
    }
    let left = world.eni("eni-1").slots.clone();
    let moved = before.into_iter().find(|net| !left.contains(net));
    let moved = moved.expect("one was given back");
    // EC2 gives it to the primary, for the last of these.
    for n in 10..12 {
        world.add(n, 90_000);
    }
    world.go_on_until(|world| !world.replies.is_empty());
    gives_instead(&mut world, moved);
    world.calm();
    // ipamd dies, and what it sees first is older.
    world.crash(false);
    world.eni("eni-0").slots.retain(|it| *it != moved);
    world.eni("eni-1").slots.push(moved);
    world.carry_out(0, Fate::Works);
    world.eni("eni-1").slots.pop();
    world.eni("eni-0").slots.push(moved);
    world.calm();
    let view = world.state.view();
    let mut on = view.enis.iter().filter(|eni| {
        let mut slots = eni.slots.iter();
        slots.any(|it| it.slot == moved && it.state == AddressState::Free)
    });
    assert!(on.next().is_none(), "{view:?}");
}

#[test]
fn what_was_given_back_without_a_word_and_comes_again_does_not_leave_any_more() {
    let mut world = World::started(targets(1, 0));
    world.add(0, 90_000);
    world.calm();
    world.del(0);
    let gives_back = |world: &World| {
        let call = |effect: &Effect| matches!(effect, Effect::Call(_, Call::Unassign { .. }));
        world.todo.iter().any(call)
    };
    while !gives_back(&world) {
        if world.todo.is_empty() && world.replies.is_empty() {
            world.advance(1_000);
        } else if world.todo.is_empty() {
            world.deliver(0);
        } else {
            world.carry_out(0, Fate::Works);
        }
    }
    let before = world.eni("eni-0").slots.clone();
    world.carry_out(0, Fate::WorksUnknown);
    world.deliver(0);
    // The Describe that settles it is older.
    let held = std::mem::replace(&mut world.eni("eni-0").slots, before.clone());
    let gone = before.into_iter().find(|net| !held.contains(net));
    let gone = gone.expect("it was given back");
    world.calm();
    world.eni("eni-0").slots = held;
    for n in 2..4 {
        world.add(n, 90_000);
    }
    let comes = |reply: &Event| {
        let outcome = match reply {
            Event::CallDone { outcome, .. } => outcome.as_ref().ok(),
            _ => None,
        };
        matches!(outcome, Some(CallReply::Assigned(_)))
    };
    world.go_on_until(|world| world.replies.iter().any(comes));
    gives_instead(&mut world, gone);
    for _ in 0..20 {
        world.calm();
        world.advance(10_000);
    }
    assert_eq!(world.state.view().ipv4.leaving, 0);
    let held = &world.eni("eni-0").slots;
    assert!(
        held.contains(&gone),
        "{gone} was given back again: {held:?}"
    );
}

#[test]
fn an_address_of_a_prefix_that_comes_again_in_an_older_view_is_its_owners_and_not_free() {
    let mut world = with_prefixes(2);
    for n in 0..2 {
        world.add(n, 90_000);
    }
    world.calm();
    let prefix = world.eni("eni-0").slots[0];
    let ip = world.links[&sandbox(0)][0];
    // Others take the prefix, and EC2 gives the pod's address alone.
    world.take_away(ip);
    world.step(Event::Doubt);
    world.calm();
    world.eni("eni-0").slots.push(ip.into());
    world.advance(40_000);
    world.step(Event::Doubt);
    world.calm();
    // What the next ipamd sees first is older.
    let slots = std::mem::replace(&mut world.eni("eni-0").slots, vec![prefix]);
    world.crash_after_write();
    world.carry_out(0, Fate::Works);
    world.deliver(0);
    let view = world.state.view();
    let mut held = view.enis.iter().flat_map(|eni| &eni.slots);
    let claimed = held.find(|it| it.slot == prefix).map(|it| it.claimed);
    assert_eq!(claimed, Some(2), "{view:?}");
    world.eni("eni-0").slots = slots;
}
