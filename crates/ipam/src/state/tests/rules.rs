//! One rule each: pods, books, restarts.

use std::time::Instant;

use ipnet::IpNet;

use super::look::{carry_out, full, granted, only, refused};
use super::world::{COOLDOWN, Fate, World, fresh, node, sandbox, targets};
use crate::*;

#[test]
fn the_first_pod_gets_an_address_that_was_asked_for_because_it_waited() {
    let mut world = World::started(targets(0, 0));
    let request = world.add(1, 10_000);
    assert_eq!(world.state.view().waiters.len(), 1);
    world.calm();
    let grant = granted(&world, request);
    assert_eq!(
        (only(&grant).eni.as_str(), only(&grant).place),
        ("eni-0", Place::PRIMARY)
    );
    assert_eq!(
        world.asked,
        [
            Call::DescribeEnis,
            Call::Assign {
                eni: EniId::new("eni-0"),
                kind: SlotKind::Address,
                count: 1
            }
        ]
    );
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
    assert_eq!(world.state.view().ipv4.free, 1);
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
fn books_that_cannot_be_written_are_tried_again_with_restraint_and_at_once_for_a_plugin() {
    let mut world = full();
    let writes = |effect: &Effect| *effect == Effect::WriteBooks;
    world.del(1);
    carry_out(&mut world, writes, Fate::Fails(CallErrorKind::Other));
    for seconds in [1, 2, 4] {
        assert_eq!(world.todo, []);
        world.advance(seconds * 750 - 1);
        assert_eq!(world.todo, []);
        world.advance(seconds * 250 + 1);
        assert_eq!(world.todo, [Effect::WriteBooks]);
        carry_out(&mut world, writes, Fate::Fails(CallErrorKind::Other));
    }
    world.del(2);
    assert_eq!(world.todo, [Effect::WriteBooks]);
    world.calm();
    assert_eq!(world.disk, world.state.ledger());
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
    assert_eq!(world.state.view().ipv4.held, 1);
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
    let freed = world.owned[&sandbox(4)].0[0];
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
    assert_eq!(only(&granted(&world, request)).address, freed);
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
    assert_eq!(world.state.view().ipv4.owned, 0);
}

#[test]
fn a_cancelled_add_gets_no_answer_and_keeps_nothing() {
    let mut world = World::started(targets(1, 0));
    world.add(1, 10_000);
    world.cancel(0);
    world.calm();
    assert_eq!(world.state.view().ipv4.owned, 0);
    assert_eq!(world.state.view().ipv4.cooling, 0);
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
fn a_sandbox_that_adds_again_is_young_again() {
    let mut world = World::started(targets(1, 0));
    world.add(1, 10_000);
    world.calm();
    // Its DEL is lost in a crash, and the runtime uses the sandbox once more.
    world.del(1);
    world.crash(false);
    world.calm();
    world.advance(60_000);
    let again = world.add(1, 10_000);
    world.calm();
    granted(&world, again);
    let gc = world.gc(Vec::new());
    world.calm();
    assert_eq!(world.answers[&gc], Answer::Collected(Vec::new()));
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
    let indexes: Vec<_> = taken
        .iter()
        .map(|grant| only(grant).place.device_index)
        .collect();
    assert_eq!(
        indexes,
        [1, 2, 0, 0],
        "fullest first, lowest index of equals"
    );
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
    assert_eq!(world.state.view().ipv4.owned, 9, "by the books");
    assert!(
        world
            .state
            .view()
            .enis
            .iter()
            .all(|eni| eni.state == EniState::SettingUp)
    );
    world.calm();
    assert_eq!(
        only(&granted(&world, same)).address,
        owned[&sandbox(3)].0[0]
    );
    assert_eq!(world.state.view().ipv4.owned, 9);
    let calls = world
        .asked
        .iter()
        .filter(|call| **call == Call::DescribeEnis);
    assert_eq!(calls.count(), 2, "one at each start");
}

#[test]
fn an_owned_address_that_ec2_does_not_hold_is_quarantined_told_and_given_to_nobody() {
    let mut world = full();
    let ip = world.owned[&sandbox(5)].0[0];
    world.take_away(ip);
    world.crash(false);
    world.calm();
    assert!(
        world.told.iter().any(|what| what.contains(&ip.to_string())),
        "{:?}",
        world.told
    );
    assert_eq!(world.state.view().ipv4.quarantined, 1);
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
    assert_eq!(world.state.view().ipv4.quarantined, 0);
    assert_eq!(world.state.ledger().cooling, []);
}

#[test]
fn nothing_is_routed_before_the_node_is_prepared_and_that_is_tried_again() {
    let mut world = World::new(targets(2, 0));
    world.step(fresh());
    let is_prepare = |effect: &Effect| matches!(effect, Effect::PrepareNode(_));
    world.until_to_do(is_prepare);
    carry_out(&mut world, is_prepare, Fate::Fails(CallErrorKind::Other));
    assert!(
        world.told.iter().any(|what| what.contains("no luck")),
        "{:?}",
        world.told
    );
    world.calm();
    assert_eq!(world.state.view().ipv4.free, 0);
    world.advance(60_000);
    world.calm();
    assert_eq!(world.state.view().ipv4.free, 2);
}

#[test]
fn a_slot_is_there_since_it_can_serve_and_leaves_without_a_new_date() {
    let mut world = World::started(targets(1, 0));
    world.add(1, 60_000);
    let assign = |effect: &Effect| matches!(effect, Effect::Call(..));
    world.advance(2_500);
    world.until_to_do(assign);
    carry_out(&mut world, assign, Fate::Works);
    let since = |world: &World, state: AddressState| -> Vec<u64> {
        let slots = world.state.view().enis[0].slots.clone();
        let slots = slots.into_iter().filter(|slot| slot.state == state);
        slots.map(|slot| slot.since.0).collect()
    };
    assert_eq!(since(&world, AddressState::Preparing), [world.now]);
    world.advance(400);
    world.calm();
    let routed = world.now;
    assert!(since(&world, AddressState::Free).contains(&routed));
    world.del(1);
    world.until_to_do(|effect| matches!(effect, Effect::Unroute { .. }));
    let before = since(&world, AddressState::Leaving);
    assert!(before[0] < world.now);
    let unroute = |effect: &Effect| matches!(effect, Effect::Unroute { .. });
    carry_out(&mut world, unroute, Fate::Works);
    assert_eq!(since(&world, AddressState::Leaving), before);
}

#[test]
fn a_restart_prepares_the_node_with_all_that_ec2_holds_for_it() {
    let mut world = full();
    let held: Vec<_> = world
        .state
        .view()
        .enis
        .iter()
        .map(|eni| eni.addresses.len())
        .collect();
    world.crash(false);
    world.until_to_do(|effect| matches!(effect, Effect::PrepareNode(_)));
    let Some(Effect::PrepareNode(plan)) = world.todo.first() else {
        panic!("{:?} came before the node was prepared", world.todo);
    };
    assert_eq!(
        plan.iter().map(|eni| eni.slots.len()).collect::<Vec<_>>(),
        held
    );
}

#[test]
fn a_pod_whose_books_are_lost_keeps_its_address_until_its_link_has_gone() {
    let mut world = World::started(targets(2, 0));
    let request = world.add(1, 10_000);
    world.calm();
    let ip = only(&granted(&world, request)).address;
    world.crash_without_books();
    world.calm();
    assert_eq!(world.state.view().ipv4.quarantined, 1);
    assert!(
        world.told.iter().any(|what| what.contains(&ip.to_string())),
        "{:?}",
        world.told
    );
    // The other addresses serve; that no other pod gets this one is asserted at each grant.
    for n in 2..8 {
        let request = world.add(n, 10_000);
        world.calm();
        granted(&world, request);
    }
    // Its DEL names a sandbox that nobody knows, and the link goes: it cools, and is free.
    world.del(1);
    world.calm();
    assert_eq!(world.state.view().ipv4.quarantined, 0);
    // Its cooling is in the books: a restart does not shorten it.
    world.crash(true);
    world.calm();
    world.advance(COOLDOWN - 1);
    world.calm();
    assert_eq!(world.state.view().ipv4.cooling, 1);
    world.advance(1);
    world.calm();
    assert_eq!(world.state.view().ipv4.cooling, 0);
}

#[test]
fn a_link_that_goes_without_a_del_is_noticed() {
    let mut world = World::started(targets(1, 0));
    world.add(1, 10_000);
    world.calm();
    world.crash_without_books();
    world.calm();
    world.links.clear();
    for _ in 0..4 {
        world.advance(60_000);
        world.calm();
    }
    assert_eq!(world.state.view().ipv4.quarantined, 0);
    assert!(
        !world
            .todo
            .iter()
            .any(|effect| matches!(effect, Effect::PrepareNode(_)))
    );
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
fn what_is_missing_when_ipamd_shuts_down_is_not_asked_for() {
    let mut world = World::started(targets(2, 0));
    let taken = world.eni("eni-0").slots.pop();
    world.add(1, 60_000);
    world.calm();
    let asked = world.asked.len();
    world.step(Event::ShutDown);
    world.step(Event::Doubt);
    world.advance(100_000);
    assert!(taken.is_some());
    assert_eq!((&world.asked[asked..], &world.todo[..]), (&[][..], &[][..]));
}

#[test]
fn the_ledger_survives_json() {
    let mut world = full();
    world.del(2);
    let ledger = world.state.ledger();
    let json = serde_json::to_string(&ledger).unwrap();
    assert_eq!(serde_json::from_str::<Ledger>(&json).unwrap(), ledger);
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
        enis_per_card: vec![15],
        ipv4_slots_per_eni: 50,
        ipv6_slots_per_eni: 50,
        prefixes: true,
    };
    let mut state = State::new(node, targets(0, 0), "boot");
    state.step(Time(0), fresh());
    let eni = |n: u8| EniFacts {
        id: EniId::new(format!("eni-{n}")),
        mac: Mac([2, 0, 0, 0, 0, n]),
        subnet_id: SubnetId::new("subnet-1"),
        subnet_cidr: "10.0.0.0/16".parse().unwrap(),
        primary_address: [10, 0, n, 200].into(),
        slots: (0..49)
            .map(|at| IpNet::from(std::net::IpAddr::from([10, 0, n, at])))
            .collect(),
        security_groups: Vec::new(),
        managed: true,
        borrowed: false,
        attachment: Some(Attachment {
            id: AttachmentId::new(format!("attach-{n}")),
            place: Place {
                card: 0,
                device_index: u32::from(n),
            },
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
            Effect::PrepareNode(_) => Event::NodePrepared(Ok(Vec::new())),
            Effect::SetUpEni(set_up) => Event::EniSetUp {
                eni: set_up.eni,
                outcome,
            },
            Effect::Route { eni, slots, .. } => Event::Routed {
                eni,
                slots,
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
    assert_eq!(state.view().ipv4.owned, 735);
    println!("{:?} a step", took / steps);
}

#[test]
fn a_cancelled_del_is_not_answered_and_the_others_are() {
    let mut world = full();
    let first = world.del(1);
    let second = world.del(2);
    world.step(Event::Cancel(first));
    world.calm();
    assert!(!world.answers.contains_key(&first));
    assert!(matches!(world.answers[&second], Answer::Released(Some(_))));
    assert_eq!(world.state.view().ipv4.cooling, 2);
}

#[test]
fn a_cancelled_add_leaves_what_another_add_of_its_sandbox_or_its_pod_has() {
    let mut world = World::started(targets(2, 0));
    world.add(1, 10_000);
    let other = world.add(1, 10_000);
    let before = world.state.grant_of(&sandbox(1));
    assert!(before.is_some());
    world.cancel(0);
    assert_eq!(world.state.grant_of(&sandbox(1)), before);
    world.calm();
    assert_eq!(Some(granted(&world, other)), before);
    // That somebody else waits too is no reason to keep it.
    world.add(2, 10_000);
    world.add(3, 10_000);
    world.cancel(0);
    assert_eq!(world.state.grant_of(&sandbox(2)), None);
    assert_eq!(world.state.grant_of(&sandbox(1)), before);
    // The plugin of a pod that runs asks again after a restart, and goes away.
    world.calm();
    world.crash(false);
    world.add(1, 10_000);
    world.cancel(0);
    assert_eq!(world.state.grant_of(&sandbox(1)), before);
}

#[test]
fn who_was_told_nothing_yet_of_an_address_that_ec2_took_gets_another() {
    let mut world = World::started(targets(1, 0));
    world.advance(60_000);
    let ip = world.eni("eni-0").slots[0].addr();
    let request = world.add(1, 60_000);
    world.take_away(ip);
    world.step(Event::Doubt);
    let describe = |effect: &Effect| super::look::is_call(effect, "DescribeNetworkInterfaces");
    carry_out(&mut world, describe, Fate::Works);
    world.calm();
    assert_ne!(only(&granted(&world, request)).address, ip);
}

#[test]
fn a_full_node_that_may_have_fewer_enis_than_its_type_says_so() {
    let mut world = World::started(Settings {
        max_enis_per_card: Some(2),
        ..targets(0, 0)
    });
    for n in 0..6 {
        world.add(n, 60_000);
    }
    world.calm();
    let request = world.add(6, 60_000);
    let refusal = refused(&world, request);
    assert!(
        refusal
            .message
            .ends_with("2 ENIs of 3 (MAX_ENI is 2, the type allows 3)"),
        "{refusal}"
    );
    assert!(refusal.remedy.starts_with("raise MAX_ENI, "), "{refusal:?}");
    let mut all = full();
    let request = all.add(20, 60_000);
    let refusal = refused(&all, request);
    assert!(refusal.remedy.starts_with("let fewer pods"), "{refusal:?}");
}
