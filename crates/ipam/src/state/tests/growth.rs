//! One rule each: what is asked of EC2, and what its answers mean.

use super::look::{carry_out, granted, is_call, only, refused};
use super::world::{Fate, World, error, fresh, node, targets};
use crate::*;

#[test]
fn a_burst_grows_the_pool_in_one_round() {
    let mut world = World::started(targets(0, 0));
    let requests: Vec<_> = (0..9).map(|n| world.add(n, 60_000)).collect();
    world.calm();
    for request in requests {
        granted(&world, request);
    }
    let created = world
        .asked
        .iter()
        .filter(|call| matches!(call, Call::CreateEni { .. }));
    assert_eq!(created.count(), 2);
    assert_eq!(world.leaked(), []);
}

#[test]
fn what_ec2_refuses_reaches_the_waiter_in_full_and_is_not_asked_again_at_once() {
    for (kind, reason) in [
        (CallErrorKind::SubnetExhausted, Reason::SubnetExhausted),
        (CallErrorKind::Refused, Reason::Ec2Refused),
        (CallErrorKind::Other, Reason::Ec2Refused),
    ] {
        let mut world = World::started(targets(0, 0));
        for n in 0..3 {
            world.add(n, 60_000);
        }
        world.calm();
        let request = world.add(3, 60_000);
        carry_out(
            &mut world,
            |effect| *effect == Effect::WriteBooks,
            Fate::Works,
        );
        carry_out(
            &mut world,
            |effect| is_call(effect, "CreateNetworkInterface"),
            Fate::Fails(kind),
        );
        let refusal = refused(&world, request);
        assert_eq!(refusal.reason, reason);
        let words = format!("CreateNetworkInterface: {kind:?}: EC2's own words (request id req-1)");
        assert!(refusal.message.contains(&words), "{refusal}");
        // Remembered: the next one is told the same without a call.
        let asked = world.asked.len();
        world.calm();
        let next = world.add(4, 60_000);
        assert_eq!(refused(&world, next).reason, reason);
        assert_eq!(world.asked.len(), asked);
        // And forgotten when it said so.
        let (_, again) = refusal.next.split_once("again in ").unwrap();
        let (seconds, _) = again.split_once(' ').unwrap();
        world.advance(seconds.parse::<u64>().unwrap() * 1_000);
        let later = world.add(5, 60_000);
        world.calm();
        granted(&world, later);
    }
}

#[test]
fn throttling_is_waited_out_and_told_at_the_deadline() {
    let mut world = World::started(targets(0, 0));
    let short = world.add(1, 5_000);
    let long = world.add(2, 60_000);
    let mut calls = 0;
    while !world.answers.contains_key(&short) {
        if let Some(at) = world
            .todo
            .iter()
            .position(|effect| matches!(effect, Effect::Call(..)))
        {
            calls += 1;
            world.carry_out(at, Fate::Fails(CallErrorKind::Throttled));
            world.deliver(0);
        }
        world.advance(100);
    }
    assert!((2..=5).contains(&calls), "{calls} calls in 5 s");
    let refusal = refused(&world, short);
    assert_eq!(refusal.reason, Reason::Ec2Throttled);
    assert!(
        refusal
            .message
            .contains("EC2's own words (request id req-1)"),
        "{refusal}"
    );
    for _ in 0..40 {
        world.calm();
        world.advance(1_000);
    }
    granted(&world, long);
}

#[test]
fn an_assign_of_unknown_outcome_is_settled_by_a_describe_before_the_eni_is_asked_again() {
    let mut world = World::started(targets(0, 0));
    let request = world.add(1, 60_000);
    carry_out(
        &mut world,
        |effect| is_call(effect, "AssignPrivateIpAddresses"),
        Fate::WorksUnknown,
    );
    assert_eq!(world.asked.last(), Some(&Call::DescribeEnis));
    world.calm();
    granted(&world, request);
    assert_eq!(world.held_by_ec2(), 1, "it was not asked for twice");
}

#[test]
fn an_eni_is_made_once_however_its_calls_end() {
    for action in [
        "CreateNetworkInterface",
        "AttachNetworkInterface",
        "ModifyNetworkInterfaceAttribute",
    ] {
        for crash in [false, true] {
            let mut world = World::started(targets(0, 0));
            let requests = [0, 1, 2, 3].map(|n| world.add(n, 300_000));
            let mut met = false;
            for _ in 0..200 {
                let at = world.todo.iter().position(|effect| is_call(effect, action));
                match at.filter(|_| !met) {
                    Some(_) if crash => {
                        world.crash(true);
                        met = true;
                    }
                    Some(at) => {
                        world.carry_out(at, Fate::WorksUnknown);
                        met = true;
                    }
                    None if !world.todo.is_empty() => world.carry_out(0, Fate::Works),
                    None if !world.replies.is_empty() => world.deliver(0),
                    None => world.advance(1_000),
                }
            }
            assert!(met, "{action} was called");
            assert_eq!(world.leaked(), [], "{action}, crash: {crash}");
            assert_eq!(world.state.view().enis.len(), 2, "{action}, crash: {crash}");
            assert!(
                crash
                    || requests
                        .iter()
                        .all(|request| world.answers.contains_key(request))
            );
        }
    }
}

#[test]
fn a_call_on_the_way_of_an_eni_that_was_throttled_is_made_again_in_its_time_and_not_before() {
    for action in [
        "CreateNetworkInterface",
        "AttachNetworkInterface",
        "ModifyNetworkInterfaceAttribute",
        "DetachNetworkInterface",
        "DeleteNetworkInterface",
    ] {
        let mut world = World::started(targets(1, 0));
        for n in 0..4 {
            world.add(n, 60_000);
        }
        let call = |effect: &Effect| is_call(effect, action);
        if matches!(action, "DetachNetworkInterface" | "DeleteNetworkInterface") {
            world.calm();
            for n in 0..4 {
                world.del(n);
            }
        }
        world.until_to_do(call);
        carry_out(&mut world, call, Fate::Fails(CallErrorKind::Throttled));
        let made = |world: &World| {
            let calls = world.asked.iter().filter(|call| call.action() == action);
            calls.count()
        };
        world.calm();
        world.advance(749);
        world.step(Event::PodsBound(0));
        assert_eq!(made(&world), 1, "{action}");
        world.advance(251);
        assert_eq!(made(&world), 2, "{action}");
    }
}

#[test]
fn an_eni_that_cannot_be_attached_is_deleted_and_the_waiter_told_why() {
    let mut world = World::started(targets(0, 0));
    for n in 0..4 {
        world.add(n, 60_000);
    }
    let attach = |effect: &Effect| is_call(effect, "AttachNetworkInterface");
    world.until_to_do(attach);
    carry_out(&mut world, attach, Fate::Fails(CallErrorKind::EniLimit));
    let refusals: Vec<_> = world
        .answers
        .values()
        .filter(|answer| matches!(answer, Answer::Refused(refusal) if refusal.message.contains("EniLimit")))
        .collect();
    assert_eq!(refusals.len(), 1);
    // EC2 may not see yet that the ENI is there at all: that is no reason to forget it.
    carry_out(
        &mut world,
        |effect| *effect == Effect::WriteBooks,
        Fate::Works,
    );
    let delete = |effect: &Effect| is_call(effect, "DeleteNetworkInterface");
    carry_out(&mut world, delete, Fate::Fails(CallErrorKind::NotFound));
    world.calm();
    world.advance(2_000);
    world.calm();
    assert_eq!(world.leaked(), []);
    assert_eq!(world.state.view().enis.len(), 1);
    assert_eq!(world.state.ledger().intents, []);
}

#[test]
fn while_ec2_cannot_be_asked_adds_are_refused_at_their_deadline_with_its_words() {
    let mut world = World::new(targets(0, 0));
    world.step(fresh());
    let request = world.add(1, 10_000);
    let mut calls = 0;
    while !world.answers.contains_key(&request) {
        if !world.todo.is_empty() {
            calls += 1;
            world.carry_out(0, Fate::Fails(CallErrorKind::Refused));
            world.deliver(0);
        }
        world.advance(100);
    }
    assert!((3..=6).contains(&calls), "{calls} calls in 10 s");
    let refusal = refused(&world, request);
    assert_eq!(refusal.reason, Reason::Ec2Refused);
    assert!(refusal.message.contains("EC2's own words"), "{refusal}");
    let readiness = world.state.readiness(Time(world.now)).unwrap_err();
    assert!(
        readiness.message.contains("DescribeNetworkInterfaces"),
        "{readiness}"
    );
}

#[test]
fn an_eni_that_is_not_ours_is_left_alone_and_counts_against_the_limit() {
    let mut world = World::new(targets(0, 0));
    let theirs = world.make_eni(None, Some((SlotKind::Address, 2)), 0);
    let facts = world.eni(theirs.id.as_str());
    facts.managed = false;
    facts.attachment = Some(Attachment {
        id: AttachmentId::new("attach-theirs"),
        place: Place {
            card: 0,
            device_index: 1,
        },
        complete: true,
        delete_on_termination: false,
    });
    world.step(fresh());
    world.calm();
    let requests: Vec<_> = (0..7).map(|n| world.add(n, 60_000)).collect();
    world.calm();
    for request in &requests[..6] {
        assert_ne!(only(&granted(&world, *request)).place.device_index, 1);
    }
    let refusal = refused(&world, requests[6]);
    assert!(refusal.message.contains("all 6 addresses"), "{refusal}");
    assert!(
        refusal.message.contains("1 more ENIs are not ours"),
        "{refusal}"
    );
    assert!(
        world
            .asked
            .iter()
            .all(|call| call.eni() != Some(&theirs.id))
    );
    assert_eq!(world.state.view().enis[1].state, EniState::Unmanaged);
}

#[test]
fn an_eni_whose_set_up_fails_is_tried_again_and_the_pool_grows_elsewhere_meanwhile() {
    let mut world = World::new(targets(2, 0));
    world.step(fresh());
    carry_out(
        &mut world,
        |effect| is_call(effect, "DescribeNetworkInterfaces"),
        Fate::Works,
    );
    let prepare = |effect: &Effect| matches!(effect, Effect::PrepareNode(_));
    carry_out(&mut world, prepare, Fate::Works);
    let set_up = |effect: &Effect| matches!(effect, Effect::SetUpEni(_));
    carry_out(&mut world, set_up, Fate::Fails(CallErrorKind::Other));
    assert_eq!(world.state.view().enis[0].state, EniState::Failed);
    assert_eq!(
        world.state.view().enis[0].trouble.as_deref(),
        Some("its link could not be set up: no luck")
    );
    assert!(world.told[0].contains("eni-0"), "{:?}", world.told);
    assert!(world.state.view().enis.len() > 1, "it grows by a new ENI");
    for _ in 0..5 {
        world.advance(1_000);
        world.calm();
    }
    assert_eq!(world.state.view().enis[0].state, EniState::Ready);
}

#[test]
fn waiters_wait_for_an_eni_whose_set_up_is_tried_again() {
    for failing in 0..3 {
        let mut world = World::started(targets(1, 0));
        let requests: Vec<_> = (0..9).map(|n| world.add(n, 60_000)).collect();
        let mut set_ups = 0;
        while let Some(effect) = world.todo.first() {
            let fails = matches!(effect, Effect::SetUpEni(_)) && {
                set_ups += 1;
                set_ups == failing + 1 || failing == 2
            };
            let fate = if fails {
                Fate::Fails(CallErrorKind::Other)
            } else {
                Fate::Works
            };
            world.carry_out(0, fate);
            world.deliver(0);
        }
        for _ in 0..5 {
            world.advance(1_000);
            world.calm();
        }
        for request in requests {
            granted(&world, request);
        }
    }
}

#[test]
fn what_an_eni_was_asked_to_take_is_waited_for_while_its_set_up_is_tried_again() {
    let mut world = World::started(targets(0, 0));
    let mut requests: Vec<_> = (0..7).map(|n| world.add(n, 60_000)).collect();
    // Up to the set-up of the third ENI, the last that the node may have.
    let last =
        |effect: &Effect| matches!(effect, Effect::SetUpEni(eni) if eni.place.device_index == 2);
    while !world.todo.iter().any(last) {
        let next = world.todo.iter().position(|effect| !last(effect)).unwrap();
        world.carry_out(next, Fate::Works);
        world.deliver(0);
    }
    requests.push(world.add(7, 60_000));
    assert!(
        world
            .todo
            .iter()
            .any(|effect| is_call(effect, "AssignPrivateIpAddresses")),
        "{:?}",
        world.todo
    );
    carry_out(&mut world, last, Fate::Fails(CallErrorKind::Other));
    for _ in 0..5 {
        world.calm();
        world.advance(1_000);
    }
    for request in requests {
        granted(&world, request);
    }
}

#[test]
fn a_token_does_not_come_again_after_a_crash_in_the_same_moment() {
    // The primary is full, so each of these needs an ENI more than the one before.
    let mut world = World::started(targets(3, 0));
    for n in 0..3 {
        world.add(n, 60_000);
    }
    let create = |effect: &Effect| is_call(effect, "CreateNetworkInterface");
    world.until_to_do(create);
    world.crash(false);
    world.until_to_do(|effect| matches!(effect, Effect::PrepareNode(_)));
    for n in 3..7 {
        world.add(n, 60_000);
    }
    let intents = world.state.ledger().intents;
    let tokens: std::collections::BTreeSet<_> = intents.iter().map(|i| &i.token).collect();
    assert_eq!((tokens.len(), intents.len()), (2, 2), "{intents:#?}");
}

#[test]
fn minimum_and_warm_are_kept_and_cooling_addresses_are_no_supply() {
    let mut world = World::started(targets(2, 4));
    assert_eq!(world.state.view().ipv4.free, 4);
    for n in 0..4 {
        world.add(n, 60_000);
        world.calm();
    }
    assert_eq!(world.state.view().ipv4.free, 2);
    for n in 0..4 {
        world.del(n);
    }
    for n in 4..6 {
        world.add(n, 60_000);
        world.calm();
    }
    let totals = world.state.view().ipv4;
    assert_eq!((totals.owned, totals.cooling, totals.free), (2, 4, 2));
}

#[test]
fn tokens_fit_ec2s_limit_of_64_characters() {
    let boot = "6f3c9f0e-6a53-4a3e-9b5e-0d3c1a2b4c5d";
    let mut state = State::new(node(), targets(0, 4), boot);
    let start = state.step(Time(1 << 40), fresh());
    let Some(Effect::Call(call, Call::DescribeEnis)) = start.first() else {
        panic!("{start:?}");
    };
    let outcome = Ok(CallReply::Enis(Vec::new()));
    state.step(
        Time(1 << 40),
        Event::CallDone {
            call: *call,
            outcome,
        },
    );
    let token = state.ledger().intents[0].token.clone();
    assert!(
        token.as_str().contains(boot) && token.as_str().len() <= 64,
        "{token}"
    );
}

#[test]
fn a_reply_of_the_wrong_kind_is_an_unknown_outcome() {
    let mut state = State::new(node(), targets(0, 0), "boot");
    state.step(Time(1), fresh());
    let outcome = Ok(CallReply::Done);
    state.step(
        Time(2),
        Event::CallDone {
            call: CallId(1),
            outcome,
        },
    );
    assert_eq!(
        state.readiness(Time(2)).unwrap_err().reason,
        Reason::Ec2Unavailable
    );
    let nobody = error(CallErrorKind::Other, "Nobody");
    assert_eq!(
        state.step(
            Time(3),
            Event::CallDone {
                call: CallId(99),
                outcome: Err(nobody)
            }
        ),
        []
    );
}

#[test]
fn a_reply_that_was_cut_short_is_settled_by_a_describe() {
    let mut world = World::new(targets(3, 0));
    world.step(fresh());
    let assign = |effect: &Effect| is_call(effect, "AssignPrivateIpAddresses");
    world.until_to_do(assign);
    let at = world.todo.iter().position(assign).unwrap();
    world.carry_out(at, Fate::Works);
    // EC2 has assigned three; the XML ends after the first, and the SDK takes it for all.
    let Some(Event::CallDone {
        outcome: Ok(CallReply::Assigned(slots)),
        ..
    }) = world.replies.last_mut()
    else {
        panic!("{:?}", world.replies);
    };
    assert_eq!(slots.len(), 3);
    slots.truncate(1);
    world.calm();
    assert_eq!(world.state.view().ipv4.held, 3);
    assert_eq!(world.held_by_ec2(), 3, "nothing was asked for twice");
}

#[test]
fn the_slots_of_a_new_eni_that_a_reply_leaves_out_are_found_once_it_is_attached() {
    let mut world = World::new(targets(6, 0));
    world.step(fresh());
    let create = |effect: &Effect| is_call(effect, "CreateNetworkInterface");
    world.until_to_do(create);
    let at = world.todo.iter().position(create).unwrap();
    world.carry_out(at, Fate::Works);
    let Some(Event::CallDone {
        outcome: Ok(CallReply::Created(facts)),
        ..
    }) = world.replies.last_mut()
    else {
        panic!("{:?}", world.replies);
    };
    assert_eq!(facts.slots.len(), 3);
    facts.slots.truncate(1);
    // Nothing is asked for that would show it besides.
    world.step(Event::SetMode(Some(Mode::AllocateOnly)));
    for _ in 0..10 {
        world.calm();
        world.advance(5_000);
    }
    assert_eq!(world.held_by_ec2(), 6, "nothing was asked for twice");
    assert_eq!(world.state.view().ipv4.free, 6);
}

#[test]
fn a_subnet_that_has_not_all_that_is_asked_for_is_asked_for_fewer() {
    let mut world = World::new(targets(0, 0));
    world.subnet_left = 5;
    world.step(fresh());
    world.calm();
    // Nine are wanted: three on the primary, three on each of two more; there are five, and each ENI takes one.
    let requests: Vec<_> = (0..9).map(|n| world.add(n, 120_000)).collect();
    for _ in 0..20 {
        world.calm();
        world.advance(5_000);
    }
    let granted = requests
        .iter()
        .filter(|request| matches!(world.answers.get(request), Some(Answer::Granted(_))));
    assert!(granted.count() >= 3, "{:?}", world.asked);
    assert_eq!(world.subnet_left, 0, "{:?}", world.asked);
}

#[test]
fn what_a_subnet_has_left_is_asked_for_at_once_and_its_end_is_told() {
    let mut world = World::started(targets(0, 0));
    world.subnet_left = 2;
    let requests = [1, 2, 3].map(|n| world.add(n, 60_000));
    // No time passes.
    world.calm();
    let counts: Vec<u32> = world
        .asked
        .iter()
        .filter_map(|call| match call {
            Call::Assign { count, .. } => Some(*count),
            _ => None,
        })
        .collect();
    assert_eq!(counts, [1, 2, 1, 1]);
    granted(&world, requests[0]);
    granted(&world, requests[1]);
    let refusal = refused(&world, requests[2]);
    assert_eq!(refusal.reason, Reason::SubnetExhausted);
    // With room again, as many as are wanted are asked for at once.
    world.subnet_left = 100;
    world.advance(31_000);
    let later = [4, 5, 6].map(|n| world.add(n, 60_000));
    world.calm();
    for request in later {
        granted(&world, request);
    }
}
