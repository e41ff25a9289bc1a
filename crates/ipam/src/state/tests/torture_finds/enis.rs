//! ENIs that came, stayed or went when they should not.

use super::*;

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
fn with_two_families_a_link_that_is_slow_to_come_is_waited_for() {
    // Nothing but what who waits needs.
    let mut world = World::started(settings(Families::Dual, false, warm_ips(0, 0)));
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
fn an_attachment_that_was_given_up_and_came_is_taken_off_and_its_eni_deleted() {
    let mut world = World::started(targets(0, 0));
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
    let mut world = World::started(targets(1, 3));
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
fn an_eni_that_a_lost_address_kept_goes_when_its_pod_has_gone() {
    let mut world = World::started(settings(Families::V4, false, warm_enis(0)));
    for n in 0..4 {
        world.add(n, 90_000);
    }
    world.calm();
    let grant = world.state.grant_of(&sandbox(3)).expect("one");
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
    let mut world = World::started(targets(0, 0));
    for n in 0..3 {
        world.add(n, 90_000);
    }
    world.calm();
    // A pod's address is taken away, and comes again with the next ENI.
    let lost = IpNet::from(world.links[&sandbox(0)][0]);
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
fn what_comes_for_an_eni_that_has_been_detached_meanwhile_is_not_kept_for_ever() {
    // A pod's address keeps the ENI in mind, or one that cools.
    for cools in [false, true] {
        let mut world = World::started(targets(0, 0));
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
