//! One rule each.

use std::time::Instant;

use super::world::{COOLDOWN, Fate, World, error, node, sandbox, targets};
use crate::*;

fn granted(world: &World, request: RequestId) -> Grant {
    match world.answers.get(&request) {
        Some(Answer::Granted(grant)) => grant.clone(),
        other => panic!("not granted: {other:?}"),
    }
}

fn refused(world: &World, request: RequestId) -> Refusal {
    match world.answers.get(&request) {
        Some(Answer::Refused(refusal)) => refusal.clone(),
        other => panic!("not refused: {other:?}"),
    }
}

/// All nine addresses owned.
fn full() -> World {
    let mut world = World::started(targets(0, 0));
    for n in 0..9 {
        world.add(n, 60_000);
    }
    world.calm();
    world
}

/// Carries out the first thing to do that this is true of.
fn carry_out(world: &mut World, what: impl Fn(&Effect) -> bool, fate: Fate) {
    let at = world.todo.iter().position(what).expect("to be done");
    world.carry_out(at, fate);
    world.deliver(world.replies.len().wrapping_sub(1));
}

fn is_call(effect: &Effect, action: &str) -> bool {
    matches!(effect, Effect::Call(_, call) if call.action() == action)
}

#[test]
fn the_first_pod_gets_an_address_that_was_asked_for_because_it_waited() {
    let mut world = World::started(targets(0, 0));
    let request = world.add(1, 10_000);
    assert_eq!(world.state.view().waiters.len(), 1);
    world.calm();
    let grant = granted(&world, request);
    assert_eq!((grant.eni.as_str(), grant.device_index), ("eni-0", 0));
    assert_eq!(
        world.asked,
        [
            Call::DescribeEnis,
            Call::AssignAddresses {
                eni: EniId::new("eni-0"),
                count: 1
            }
        ]
    );
}

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
fn a_grant_is_not_answered_before_it_is_on_disk() {
    let mut world = World::started(targets(1, 0));
    let request = world.add(1, 10_000);
    assert!(world.state.grant_of(&sandbox(1)).is_some());
    assert!(!world.answers.contains_key(&request));
    // An older write does not count.
    let before = world.disk.version;
    world.step(Event::BooksWritten(before));
    assert!(!world.answers.contains_key(&request));
    carry_out(
        &mut world,
        |effect| *effect == Effect::WriteBooks,
        Fate::Works,
    );
    granted(&world, request);
}

#[test]
fn books_that_cannot_be_written_refuse_the_add_with_the_cause_and_lose_nothing() {
    let mut world = World::started(targets(1, 0));
    let request = world.add(1, 10_000);
    carry_out(
        &mut world,
        |effect| *effect == Effect::WriteBooks,
        Fate::Fails(CallErrorKind::Other),
    );
    let refusal = refused(&world, request);
    assert_eq!(refusal.reason, Reason::BooksFailed);
    assert!(refusal.message.contains("no luck"), "{refusal}");
    assert_eq!(world.state.grant_of(&sandbox(1)), None);
    assert_eq!(world.state.view().totals.free, 1);
    assert_eq!(
        world.state.readiness(Time(world.now)).unwrap_err().reason,
        Reason::BooksFailed
    );
    // The next one tries the disk at once.
    let again = world.add(1, 10_000);
    world.calm();
    granted(&world, again);
    assert_eq!(world.state.readiness(Time(world.now)), Ok(()));
}

#[test]
fn the_same_sandbox_gets_the_same_answer_also_while_the_first_waits() {
    let mut world = World::started(targets(0, 0));
    let first = world.add(1, 10_000);
    let second = world.add(1, 20_000);
    world.calm();
    let third = world.add(1, 10_000);
    let grant = granted(&world, first);
    assert_eq!(granted(&world, second), grant);
    assert_eq!(granted(&world, third), grant);
    assert_eq!(world.state.view().totals.held, 1);
}

#[test]
fn waiters_are_served_in_order_of_arrival() {
    let mut world = full();
    let first = world.add(20, 60_000);
    assert_eq!(refused(&world, first).reason, Reason::PoolExhausted);
    world.del(3);
    world.calm();
    let early = world.add(21, 60_000);
    let late = world.add(22, 60_000);
    assert_eq!(refused(&world, late).reason, Reason::PoolExhausted);
    world.advance(COOLDOWN);
    world.calm();
    granted(&world, early);
}

#[test]
fn a_full_pool_refuses_at_once_with_the_figures() {
    let mut world = full();
    let request = world.add(20, 60_000);
    let refusal = refused(&world, request);
    assert_eq!(refusal.reason, Reason::PoolExhausted);
    assert_eq!(
        refusal.message,
        "all 9 addresses that an m5.test may hold are owned: 3 ENIs of 3"
    );
    assert!(
        refusal.next.contains("30 s after a pod"),
        "{}",
        refusal.next
    );
    assert_eq!(
        world.state.readiness(Time(world.now)).unwrap_err().reason,
        Reason::PoolExhausted
    );
}

#[test]
fn an_address_cools_before_another_pod_gets_it_and_cooling_survives_a_restart() {
    let mut world = full();
    let freed = world.owned[&sandbox(4)].0;
    world.del(4);
    world.calm();
    // It waits no longer than it can: its deadline is before the end of the cooling.
    let hopeless = world.add(20, COOLDOWN - 1);
    let refusal = refused(&world, hopeless);
    assert!(
        refusal.message.contains("8 are owned, 1 cooling"),
        "{refusal}"
    );
    assert!(refusal.next.contains("cooled in 31 s"), "{}", refusal.next);
    world.advance(10_000);
    world.crash(false);
    world.calm();
    let request = world.add(20, 60_000);
    world.advance(19_999);
    world.calm();
    assert!(!world.answers.contains_key(&request));
    world.advance(1);
    world.calm();
    assert_eq!(granted(&world, request).address, freed);
}

#[test]
fn del_answers_what_was_given_back_and_an_unknown_sandbox_is_success() {
    let mut world = World::started(targets(0, 0));
    let add = world.add(1, 10_000);
    world.calm();
    let del = world.del(1);
    world.calm();
    assert_eq!(
        world.answers[&del],
        Answer::Released(Some(granted(&world, add)))
    );
    let again = world.del(1);
    assert_eq!(world.answers[&again], Answer::Released(None));
}

#[test]
fn del_of_a_sandbox_that_waits_ends_its_wait() {
    let mut world = World::started(targets(0, 0));
    let add = world.add(1, 10_000);
    let del = world.del(1);
    assert_eq!(refused(&world, add).reason, Reason::SandboxDeleted);
    assert_eq!(world.answers[&del], Answer::Released(None));
    world.calm();
    assert_eq!(world.state.view().totals.owned, 0);
}

#[test]
fn a_cancelled_add_gets_no_answer_and_keeps_nothing() {
    let mut world = World::started(targets(1, 0));
    world.add(1, 10_000);
    world.cancel(0);
    world.calm();
    assert_eq!(world.state.view().totals.owned, 0);
    assert_eq!(world.state.view().totals.cooling, 0);
    assert!(world.answers.is_empty());
}

#[test]
fn gc_takes_what_is_not_valid_but_for_the_young() {
    let mut world = World::started(targets(0, 0));
    world.add(1, 10_000);
    world.add(2, 10_000);
    world.calm();
    world.advance(60_000);
    world.add(3, 10_000);
    world.calm();
    let gc = world.gc(vec![sandbox(1)]);
    world.calm();
    assert_eq!(world.answers[&gc], Answer::Collected(vec![sandbox(2)]));
    assert!(world.state.grant_of(&sandbox(3)).is_some());
}

#[test]
fn allocation_packs_the_eni_with_the_most_owners_and_takes_the_longest_free() {
    let mut world = full();
    for n in [0, 1, 3, 8] {
        world.del(n);
        world.calm();
        world.advance(10);
    }
    world.advance(COOLDOWN);
    world.calm();
    let owners = |world: &World, eni: usize| {
        let eni = &world.state.view().enis[eni];
        let owned = eni
            .addresses
            .iter()
            .filter(|address| address.state == AddressState::Owned);
        owned.count()
    };
    assert_eq!([0, 1, 2].map(|eni| owners(&world, eni)), [1, 2, 2]);
    let taken: Vec<_> = (30..34)
        .map(|n| {
            let request = world.add(n, 10_000);
            world.calm();
            granted(&world, request)
        })
        .collect();
    let indexes: Vec<_> = taken.iter().map(|grant| grant.device_index).collect();
    assert_eq!(
        indexes,
        [1, 2, 0, 0],
        "fullest first, lowest index of equals"
    );
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
        // And forgotten after a while.
        world.advance(31_000);
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
fn an_eni_that_cannot_be_attached_is_deleted_and_the_waiter_told_why() {
    let mut world = World::started(targets(0, 0));
    for n in 0..4 {
        world.add(n, 60_000);
    }
    let attach = |effect: &Effect| is_call(effect, "AttachNetworkInterface");
    while !world.todo.iter().any(attach) {
        if world.todo.is_empty() {
            world.deliver(0);
        } else {
            world.carry_out(0, Fate::Works);
        }
    }
    carry_out(&mut world, attach, Fate::Fails(CallErrorKind::EniLimit));
    let refusals: Vec<_> = world
        .answers
        .values()
        .filter(|answer| matches!(answer, Answer::Refused(refusal) if refusal.message.contains("EniLimit")))
        .collect();
    assert_eq!(refusals.len(), 1);
    world.calm();
    assert_eq!(world.leaked(), []);
    assert_eq!(world.state.view().enis.len(), 1);
    assert_eq!(world.state.ledger().intents, []);
}

#[test]
fn an_add_before_ec2_has_answered_waits_and_a_restart_keeps_every_pod_its_address() {
    let mut world = full();
    let owned = world.owned.clone();
    world.crash(false);
    let same = world.add(3, 5_000);
    assert!(!world.answers.contains_key(&same));
    assert_eq!(
        world.state.readiness(Time(world.now)).unwrap_err().reason,
        Reason::Starting
    );
    assert_eq!(world.state.view().totals.owned, 9, "by the books");
    assert!(
        world
            .state
            .view()
            .enis
            .iter()
            .all(|eni| eni.state == EniState::SettingUp)
    );
    world.calm();
    assert_eq!(granted(&world, same).address, owned[&sandbox(3)].0);
    assert_eq!(world.state.view().totals.owned, 9);
    let calls = world
        .asked
        .iter()
        .filter(|call| **call == Call::DescribeEnis);
    assert_eq!(calls.count(), 2, "one at each start");
}

#[test]
fn while_ec2_cannot_be_asked_adds_are_refused_at_their_deadline_with_its_words() {
    let mut world = World::new(targets(0, 0));
    world.step(Event::Start(None));
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
fn an_owned_address_that_ec2_does_not_hold_is_quarantined_told_and_given_to_nobody() {
    let mut world = full();
    let ip = world.owned[&sandbox(5)].0;
    world.take_away(ip);
    world.crash(false);
    world.calm();
    assert!(
        world.told.iter().any(|what| what.contains(&ip.to_string())),
        "{:?}",
        world.told
    );
    assert_eq!(world.state.view().totals.quarantined, 1);
    let again = world.add(5, 10_000);
    assert_eq!(refused(&world, again).reason, Reason::AddressLost);
    // One more Describe in case EC2 was behind, and then quiet.
    for _ in 0..10 {
        world.advance(60_000);
        world.calm();
    }
    let describes = world
        .asked
        .iter()
        .filter(|call| **call == Call::DescribeEnis)
        .count();
    assert_eq!(describes, 3);
    let del = world.del(5);
    world.calm();
    assert!(matches!(world.answers[&del], Answer::Released(Some(_))));
    world.advance(COOLDOWN);
    world.calm();
    assert_eq!(world.state.view().totals.quarantined, 0);
    assert_eq!(world.state.ledger().cooling, []);
}

#[test]
fn an_eni_that_is_not_ours_is_left_alone_and_counts_against_the_limit() {
    let mut world = World::new(targets(0, 0));
    let theirs = world.make_eni(None, 2);
    let facts = world.eni(theirs.id.as_str());
    facts.managed = false;
    facts.attachment = Some(Attachment {
        id: AttachmentId::new("attach-theirs"),
        device_index: 1,
        complete: true,
        delete_on_termination: false,
    });
    world.step(Event::Start(None));
    world.calm();
    let requests: Vec<_> = (0..7).map(|n| world.add(n, 60_000)).collect();
    world.calm();
    for request in &requests[..6] {
        assert_ne!(granted(&world, *request).device_index, 1);
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
    world.step(Event::Start(None));
    carry_out(
        &mut world,
        |effect| is_call(effect, "DescribeNetworkInterfaces"),
        Fate::Works,
    );
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
fn minimum_and_warm_are_kept_and_cooling_addresses_are_no_supply() {
    let mut world = World::started(targets(2, 4));
    assert_eq!(world.state.view().totals.free, 4);
    for n in 0..4 {
        world.add(n, 60_000);
        world.calm();
    }
    assert_eq!(world.state.view().totals.free, 2);
    for n in 0..4 {
        world.del(n);
    }
    for n in 4..6 {
        world.add(n, 60_000);
        world.calm();
    }
    let totals = world.state.view().totals;
    assert_eq!((totals.owned, totals.cooling, totals.free), (2, 4, 2));
}

#[test]
fn shutting_down_refuses_waiters_and_begins_nothing() {
    let mut world = World::started(targets(0, 0));
    let request = world.add(1, 60_000);
    world.step(Event::ShutDown);
    assert_eq!(refused(&world, request).reason, Reason::ShuttingDown);
    let asked = world.asked.len();
    let late = world.add(2, 60_000);
    assert_eq!(refused(&world, late).reason, Reason::ShuttingDown);
    world.calm();
    world.advance(100_000);
    assert_eq!(world.asked.len(), asked);
}

#[test]
fn the_ledger_survives_json() {
    let mut world = full();
    world.del(2);
    let ledger = world.state.ledger();
    let json = serde_json::to_string(&ledger).unwrap();
    assert_eq!(serde_json::from_str::<Ledger>(&json).unwrap(), ledger);
}

#[test]
fn tokens_fit_ec2s_limit_of_64_characters() {
    let boot = "6f3c9f0e-6a53-4a3e-9b5e-0d3c1a2b4c5d";
    let mut state = State::new(node(), targets(0, 4), boot);
    let start = state.step(Time(1 << 40), Event::Start(None));
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
    state.step(Time(1), Event::Start(None));
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

/// For the eye alone (`--nocapture`): machines differ.
#[test]
#[expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "it measures, and shows what it measured"
)]
fn how_long_a_step_takes_at_737_addresses() {
    let mut node = node();
    node.limits = InstanceLimits {
        max_enis: 15,
        ipv4_slots_per_eni: 50,
    };
    let mut state = State::new(node, targets(0, 0), "boot");
    state.step(Time(0), Event::Start(None));
    let eni = |n: u8| EniFacts {
        id: EniId::new(format!("eni-{n}")),
        mac: Mac([2, 0, 0, 0, 0, n]),
        subnet_id: SubnetId::new("subnet-1"),
        subnet_cidr: "10.0.0.0/16".parse().unwrap(),
        primary_address: [10, 0, n, 200].into(),
        secondary_addresses: (0..49).map(|at| [10, 0, n, at].into()).collect(),
        security_groups: Vec::new(),
        managed: true,
        attachment: Some(Attachment {
            id: AttachmentId::new(format!("attach-{n}")),
            device_index: u32::from(n),
            complete: true,
            delete_on_termination: true,
        }),
    };
    let outcome = Ok(CallReply::Enis((0..15).map(eni).collect()));
    let mut todo = state.step(
        Time(0),
        Event::CallDone {
            call: CallId(1),
            outcome,
        },
    );
    while let Some(effect) = todo.pop() {
        let outcome = Ok(());
        let event = match effect {
            Effect::SetUpEni(set_up) => Event::EniSetUp {
                eni: set_up.eni,
                outcome,
            },
            Effect::RouteAddresses { eni, addresses, .. } => Event::AddressesRouted {
                eni,
                addresses,
                outcome,
            },
            _ => continue,
        };
        todo.extend(state.step(Time(0), event));
    }
    let (mut took, mut steps) = (std::time::Duration::ZERO, 0);
    for n in 0..735_u32 {
        let request = AddRequest {
            request: RequestId(n.into()),
            sandbox: sandbox(n),
            pod: Pod::default(),
            network: String::new(),
            netns: String::new(),
            deadline: Time(1_000),
        };
        let version = BooksVersion(u64::from(n) + 1);
        let began = Instant::now();
        state.step(Time(1), Event::Add(request));
        state.step(Time(1), Event::BooksWritten(version));
        took += began.elapsed();
        steps += 2;
    }
    assert_eq!(state.view().totals.owned, 735);
    println!("{:?} a step", took / steps);
}
