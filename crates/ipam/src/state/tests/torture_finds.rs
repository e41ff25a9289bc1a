//! What the torture found, each in its smallest form.

use ipnet::IpNet;

use super::look::{one_eni_too_many, warm_enis};
use super::world::{Fate, World, settings};
use crate::{
    AddressState, Answer, Call, CallErrorKind, CallReply, Effect, Event, Families, IntentStage,
    Mode, Warm, WarmTargets,
};

#[test]
fn an_eni_that_was_too_young_to_go_goes_when_it_is_old_enough() {
    let (mut world, _) = one_eni_too_many();
    for _ in 0..60 {
        world.calm();
        world.advance(10_000);
    }
    let held = world.state.view().ipv4.held;
    assert_eq!(held, 3, "one ENI's worth is enough");
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
fn with_two_families_a_link_that_is_slow_to_come_is_waited_for() {
    // Nothing but what who waits needs.
    let warm = Warm::Targets(WarmTargets {
        ip: Some(0),
        minimum_ip: Some(0),
        ..WarmTargets::default()
    });
    let mut world = World::started(settings(Families::Dual, false, warm));
    for n in 0..6 {
        world.add(n, 90_000);
    }
    world.calm();
    // The last ENI will be full.
    world.add(6, 90_000);
    world.add(7, 90_000);
    let last = world.add(8, 90_000);
    world.go_on_until(|world| matches!(world.todo.first(), Some(Effect::SetUpEni(_))));
    world.carry_out(0, Fate::Fails(CallErrorKind::Other));
    for _ in 0..6 {
        world.calm();
        world.advance(10_000);
    }
    let answer = world.answers.get(&last);
    assert!(matches!(answer, Some(Answer::Granted(_))), "{answer:?}");
}

#[test]
fn an_eni_that_is_no_longer_ours_is_not_made_to_go_with_the_instance() {
    let mut world = World::started(settings(Families::V4, false, warm_enis(0)));
    for n in 0..4 {
        world.add(n, 90_000);
    }
    let attached = |world: &World| {
        let mut intents = world.disk.intents.iter();
        intents.any(|it| matches!(it.stage, IntentStage::DeleteOnTermination(..)))
    };
    world.go_on_until(attached);
    world.eni("eni-1").managed = false;
    world.crash(false);
    world.calm();
    world.advance(60_000);
    world.calm();
    assert!(!attached(&world));
    let kept = world.leaked();
    assert_eq!(kept.len(), 1, "it was touched: {kept:?}");
}

#[test]
fn an_address_that_comes_alone_and_was_of_a_prefix_that_was_taken_away_keeps_its_owner() {
    let warm = Warm::Targets(WarmTargets {
        ip: Some(2),
        ..WarmTargets::default()
    });
    let mut world = World::started(settings(Families::V4, true, warm));
    world.add(0, 90_000);
    world.calm();
    let grant = world
        .state
        .grant_of(&super::world::sandbox(0))
        .expect("a grant");
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
    let warm = Warm::Targets(WarmTargets {
        ip: Some(1),
        ..WarmTargets::default()
    });
    let mut world = World::started(settings(Families::V4, true, warm));
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
fn a_token_that_was_used_before_is_asked_about_again_until_ec2_shows_what_was_made_with_it() {
    let mut world = World::started(settings(Families::V4, false, warm_enis(0)));
    for n in 0..4 {
        world.add(n, 90_000);
    }
    world.go_on_until(|world| {
        matches!(
            world.todo.first(),
            Some(Effect::Call(_, Call::CreateEni { .. }))
        )
    });
    // Its answer was cut short; the next one says that the token was used, and EC2 does not show the ENI yet.
    world.carry_out(0, Fate::WorksUnknown);
    world.deliver(0);
    world.advance(10_000);
    world.go_on_until(|world| {
        matches!(
            world.todo.first(),
            Some(Effect::Call(_, Call::CreateEni { .. }))
        )
    });
    world.carry_out(0, Fate::Fails(CallErrorKind::InUse));
    world.calm();
    world.advance(60_000);
    world.calm();
    assert_eq!(world.leaked(), []);
    assert_eq!(world.state.view().ipv4.owned, 4);
}

#[test]
fn an_add_that_nobody_was_told_of_moves_when_its_eni_is_not_ours_any_more() {
    let mut world = World::started(super::world::targets(0, 0));
    for n in 0..6 {
        world.add(n, 90_000);
    }
    world.calm();
    // Two come free on the primary, one on the other, which is the fuller one now.
    for n in [0, 1, 3] {
        world.del(n);
    }
    world.calm();
    world.advance(40_000);
    world.calm();
    world.eni("eni-1").managed = false;
    world.step(Event::Doubt);
    world.carry_out(0, Fate::Works);
    let last = world.add(6, 5_000);
    world.deliver(0);
    world.calm();
    let answer = world.answers.get(&last);
    let Some(Answer::Granted(grant)) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(grant.addresses[0].eni.as_str(), "eni-0");
}

#[test]
fn an_address_that_came_with_a_new_eni_is_not_moved_by_a_describe_that_is_older() {
    let mut world = World::started(super::world::targets(0, 0));
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
fn a_subnet_that_may_lack_prefixes_or_addresses_is_asked_for_addresses() {
    let nothing = Warm::Targets(WarmTargets {
        ip: Some(0),
        minimum_ip: Some(0),
        ..WarmTargets::default()
    });
    let mut world = World::started(settings(Families::V4, true, nothing));
    for n in 0..3 {
        world.add(n, 90_000);
    }
    // The primary gets addresses, and is full.
    world.carry_out(0, Fate::Fails(CallErrorKind::Refused));
    world.calm();
    let last = world.add(3, 90_000);
    world.go_on_until(|world| {
        matches!(
            world.todo.first(),
            Some(Effect::Call(_, Call::CreateEni { .. }))
        )
    });
    world.carry_out(0, Fate::Fails(CallErrorKind::SubnetExhausted));
    world.calm();
    let answer = world.answers.get(&last);
    assert!(matches!(answer, Some(Answer::Granted(_))), "{answer:?}");
}

#[test]
fn what_a_life_before_may_have_routed_is_not_given_back_until_its_link_is_set_up() {
    let mut world = World::started(super::world::targets(1, 0));
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
    let mut world = World::started(super::world::targets(1, 0));
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
    let assigned = |reply: &mut Event| match reply {
        Event::CallDone {
            outcome: Ok(CallReply::Assigned(slots)),
            ..
        } => Some(std::mem::replace(&mut slots[0], moved)),
        _ => None,
    };
    let net = world.replies.iter_mut().find_map(assigned).expect("one");
    world.eni("eni-0").slots.retain(|it| *it != net);
    world.eni("eni-0").slots.push(moved);
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
fn an_attachment_that_was_given_up_and_came_is_taken_off_and_its_eni_deleted() {
    let mut world = World::started(super::world::targets(0, 0));
    for n in 0..4 {
        world.add(n, 40_000);
    }
    let attaches = |world: &World| {
        matches!(
            world.todo.first(),
            Some(Effect::Call(_, Call::AttachEni { .. }))
        )
    };
    world.go_on_until(attaches);
    // EC2 attaches it without a word, then refuses all that is asked.
    world.carry_out(0, Fate::WorksUnknown);
    world.deliver(0);
    let attachment = world.eni("eni-1").attachment.take();
    world.calm();
    world.eni("eni-1").attachment = attachment;
    world.advance(5_000);
    world.go_on_until(attaches);
    world.carry_out(0, Fate::Fails(CallErrorKind::Refused));
    world.deliver(0);
    for _ in 0..40 {
        world.calm();
        world.advance(10_000);
    }
    assert!(
        world.state.ledger().intents.is_empty(),
        "{:?}",
        world.state.ledger().intents
    );
    assert_eq!(world.leaked(), []);
}

#[test]
fn what_was_too_much_only_once_a_link_was_mended_is_given_back() {
    let warm = Warm::Targets(WarmTargets {
        ip: Some(1),
        minimum_ip: Some(3),
        ..WarmTargets::default()
    });
    let mut world = World::started(settings(Families::V4, false, warm));
    for n in 0..3 {
        world.add(n, 90_000);
    }
    // The link of the second ENI does not come for long, and the third is made in its place.
    for _ in 0..40 {
        let slow =
            |it: &Effect| matches!(it, Effect::SetUpEni(set_up) if set_up.eni.as_str() == "eni-1");
        let slow = world.todo.iter().position(slow);
        if let Some(nth) = slow {
            world.carry_out(nth, Fate::Fails(CallErrorKind::Other));
        } else if !world.todo.is_empty() {
            world.carry_out(0, Fate::Works);
        } else if !world.replies.is_empty() {
            world.deliver(0);
        } else {
            world.advance(10_000);
        }
    }
    assert_eq!(world.state.view().ipv4.free, 1);
    for _ in 0..30 {
        world.calm();
        world.advance(10_000);
    }
    assert_eq!(world.state.view().ipv4.free, 1);
}

#[test]
fn what_was_given_back_without_a_word_and_comes_again_does_not_leave_any_more() {
    let mut world = World::started(super::world::targets(1, 0));
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
    let assigned = |reply: &mut Event| match reply {
        Event::CallDone {
            outcome: Ok(CallReply::Assigned(slots)),
            ..
        } => Some(std::mem::replace(&mut slots[0], gone)),
        _ => None,
    };
    let net = world.replies.iter_mut().find_map(assigned).expect("one");
    world.eni("eni-0").slots.retain(|it| *it != net);
    world.eni("eni-0").slots.push(gone);
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
fn who_waits_for_addresses_of_an_eni_that_ec2_does_not_see_yet_is_not_refused() {
    // No other ENI can give any.
    let mut settings = super::world::targets(0, 0);
    settings.max_enis_per_card = Some(1);
    let mut world = World::new(settings);
    world.step(super::world::fresh());
    let first = world.add(0, 60_000);
    world.until_to_do(|effect| matches!(effect, Effect::Call(_, Call::Assign { .. })));
    let assign = |effect: &Effect| matches!(effect, Effect::Call(_, Call::Assign { .. }));
    let nth = world.todo.iter().position(assign).expect("to do");
    world.carry_out(nth, Fate::Fails(CallErrorKind::NotFound));
    for _ in 0..10 {
        world.calm();
        world.advance(1_000);
    }
    let answer = world.answers.get(&first);
    assert!(matches!(answer, Some(Answer::Granted(_))), "{answer:?}");
}

#[test]
fn a_pool_that_nobody_asks_anything_of_finds_out_that_ec2_works_again() {
    for minutes in [4, 15] {
        let mut world = World::started(super::world::targets(2, 0));
        world.add(0, 60_000);
        for _ in 0..minutes * 60 {
            while let Some(effect) = world.todo.first() {
                let fails = matches!(effect, Effect::Call(..));
                let fate = if fails {
                    Fate::Fails(CallErrorKind::Unavailable)
                } else {
                    Fate::Works
                };
                world.carry_out(0, fate);
            }
            while !world.replies.is_empty() {
                world.deliver(0);
            }
            world.advance(1_000);
        }
        assert_ne!(world.state.view().mode, Mode::Normal);
        for _ in 0..30 {
            world.calm();
            world.advance(10_000);
        }
        let view = world.state.view();
        assert_eq!((view.mode, view.ipv4.free), (Mode::Normal, 2));
    }
}

#[test]
fn an_eni_that_a_lost_address_kept_goes_when_its_pod_has_gone() {
    let mut world = World::started(settings(Families::V4, false, warm_enis(0)));
    for n in 0..4 {
        world.add(n, 90_000);
    }
    world.calm();
    let grant = world
        .state
        .grant_of(&super::world::sandbox(3))
        .expect("one");
    assert_eq!(grant.addresses[0].eni.as_str(), "eni-1");
    world.advance(60_000);
    world.calm();
    world.take_away(grant.addresses[0].address);
    world.step(Event::Doubt);
    for n in 0..2 {
        world.del(n);
    }
    for _ in 0..60 {
        world.calm();
        world.advance(10_000);
    }
    assert_eq!(world.state.view().enis.len(), 2);
    world.del(3);
    for _ in 0..60 {
        world.calm();
        world.advance(10_000);
    }
    assert_eq!(world.state.view().enis.len(), 1);
}

#[test]
fn an_eni_that_is_no_longer_ours_is_left_alone_also_when_it_was_asked_about_a_moment_before() {
    let mut world = World::started(settings(Families::V4, false, warm_enis(0)));
    for n in 0..4 {
        world.add(n, 90_000);
    }
    let modify =
        |effect: &Effect| matches!(effect, Effect::Call(_, Call::DeleteOnTermination { .. }));
    world.until_to_do(modify);
    let nth = world.todo.iter().position(modify).expect("to do");
    // Its answer is long in coming; a Describe is quicker.
    world.carry_out(nth, Fate::Fails(CallErrorKind::Unknown));
    let late = world.replies.pop().expect("a reply");
    world.eni("eni-1").managed = false;
    world.advance(40_000);
    world.step(Event::Doubt);
    world.calm();
    world.step(late);
    world.calm();
    world.advance(60_000);
    world.calm();
    let asked = |call: &&Call| matches!(call, Call::DeleteOnTermination { eni, .. } if eni.as_str() == "eni-1");
    let asked: Vec<&Call> = world.asked.iter().filter(asked).collect();
    assert_eq!(asked.len(), 1, "{asked:?}");
}

#[test]
fn an_eni_known_by_its_id_alone_is_described_when_it_is_attached_and_asked_for_nothing_before() {
    let mut world = World::started(super::world::targets(0, 0));
    for n in 0..3 {
        world.add(n, 90_000);
    }
    world.calm();
    // A pod's address is taken away, and comes again with the next ENI.
    let lost = IpNet::from(world.links[&super::world::sandbox(0)][0]);
    world.take_away(lost.addr());
    world.step(Event::Doubt);
    world.calm();
    world.add(3, 90_000);
    world.add(4, 90_000);
    let created = |reply: &mut Event| match reply {
        Event::CallDone {
            outcome: Ok(CallReply::Created(facts)),
            ..
        } => {
            facts.slots = vec![lost];
            true
        }
        _ => false,
    };
    world.go_on_until(|world| {
        let mut replies = world.replies.iter();
        replies.any(|reply| {
            matches!(
                reply,
                Event::CallDone {
                    outcome: Ok(CallReply::Created(_)),
                    ..
                }
            )
        })
    });
    assert!(world.replies.iter_mut().any(created));
    world.eni("eni-1").slots = vec![lost];
    // Not attached yet, it is not shown to the next ipamd, and its books have its id alone.
    for _ in 0..2 {
        world.until_to_do(|it| matches!(it, Effect::Call(_, Call::AttachEni { .. })));
        world.crash_after_write();
    }
    world.go_on_until(|world| {
        let mut replies = world.replies.iter();
        replies.any(|reply| {
            matches!(
                reply,
                Event::CallDone {
                    outcome: Ok(CallReply::Attached(_)),
                    ..
                }
            )
        })
    });
    let asked = world.asked.len();
    while !world.replies.is_empty() {
        world.deliver(0);
    }
    for n in 5..8 {
        world.add(n, 90_000);
    }
    world.calm();
    let next = world.asked[asked..]
        .iter()
        .find(|call| matches!(call, Call::DescribeEnis | Call::Assign { .. }));
    assert_eq!(next, Some(&Call::DescribeEnis));
}

#[test]
fn an_address_of_a_prefix_that_comes_again_in_an_older_view_is_its_owners_and_not_free() {
    let warm = Warm::Targets(WarmTargets {
        ip: Some(2),
        ..WarmTargets::default()
    });
    let mut world = World::started(settings(Families::V4, true, warm));
    for n in 0..2 {
        world.add(n, 90_000);
    }
    world.calm();
    let prefix = world.eni("eni-0").slots[0];
    let ip = world.links[&super::world::sandbox(0)][0];
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

#[test]
fn what_comes_for_an_eni_that_has_been_detached_meanwhile_is_not_kept_for_ever() {
    // A pod's address keeps the ENI in mind, or one that cools.
    for cools in [false, true] {
        let mut world = World::started(super::world::targets(0, 0));
        for n in 0..4 {
            world.add(n, 90_000);
        }
        world.calm();
        world.advance(40_000);
        if cools {
            world.del(3);
            world.calm();
        }
        world.add(4, 90_000);
        let assign = |effect: &Effect| matches!(effect, Effect::Call(_, Call::Assign { .. }));
        world.until_to_do(assign);
        let nth = world.todo.iter().position(assign).expect("to do");
        world.carry_out(nth, Fate::Works);
        // Others detach the ENI, and a Describe tells so before the reply comes.
        world.eni("eni-1").attachment = None;
        world.step(Event::Doubt);
        let describe = |effect: &Effect| matches!(effect, Effect::Call(_, Call::DescribeEnis));
        let nth = world.todo.iter().position(describe).expect("to do");
        world.carry_out(nth, Fate::Works);
        world.deliver(world.replies.len() - 1);
        world.advance(10);
        world.calm();
        for n in 0..5 {
            world.del(n);
        }
        for _ in 0..60 {
            world.advance(5_000);
            world.calm();
        }
        let view = world.state.view();
        let mut known = view.enis.iter().filter_map(|eni| eni.id.as_ref());
        assert!(known.all(|id| id.as_str() != "eni-1"), "{view:#?}");
        assert_eq!(view.ipv4.preparing, 0);
    }
}
